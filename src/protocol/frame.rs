//! Frames out of a stream of bytes: a size in four bytes, then so many bytes. Owns the read buffer and its policy:
//! memory follows what arrives, never what is announced. No sockets.

use bytes::buf::Limit;
use bytes::{Buf, BufMut, Bytes};

use super::buffers;

/// The least room that a read gets. What thousands of connections need at the same moment stays with the process, so
/// this is what most requests of idle clients take, and no more.
const MIN_READ_BYTES: usize = 512;
/// Room for a frame that is announced before the client has shown that it sends such frames.
const UNPROVEN_BYTES: usize = 128 << 10;
/// The most room kept ready for a frame whose size is not known yet.
const MAX_READ_AHEAD_BYTES: usize = 256 << 10;
/// Requests up to this size are read several at a time, if several are there.
const SMALL_BYTES: usize = 8 << 10;
const SIZE_BYTES: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("a frame of negative size ({0})")]
    Negative(i32),
    #[error("a frame of {size} bytes, where socket.request.max.bytes is {max}")]
    TooLarge { size: usize, max: usize },
}

#[derive(Debug)]
pub struct FrameBuffer {
    /// Received, with at least one whole frame when it was; frames are cut off its front.
    received: Bytes,
    /// A frame that is not whole yet. While there is something here `received` is empty.
    partial: Vec<u8>,
    max_bytes: usize,
    /// The size of the largest of the latest frames, or twice that of small ones that came together: the next read
    /// probably needs as much.
    expected: usize,
}

impl FrameBuffer {
    pub fn new(max_bytes: usize) -> FrameBuffer {
        FrameBuffer { received: Bytes::new(), partial: Vec::new(), max_bytes, expected: 0 }
    }

    fn bytes(&self) -> &[u8] {
        if self.partial.is_empty() { &self.received } else { &self.partial }
    }

    /// The size of the frame that the buffer begins with, once its first four bytes are there.
    pub fn announced(&self) -> Result<Option<usize>, FrameError> {
        let Some(size) = self.bytes().first_chunk::<SIZE_BYTES>() else { return Ok(None) };
        let size = i32::from_be_bytes(*size);
        match usize::try_from(size) {
            Err(_) => Err(FrameError::Negative(size)),
            Ok(size) if size > self.max_bytes => Err(FrameError::TooLarge { size, max: self.max_bytes }),
            Ok(size) => Ok(Some(size)),
        }
    }

    /// True if a whole frame is there.
    pub fn is_whole(&self) -> bool {
        matches!(self.announced(), Ok(Some(size)) if self.bytes().len() - SIZE_BYTES >= size)
    }

    /// The next frame, without its size, if it is whole.
    pub fn take_frame(&mut self) -> Result<Option<Bytes>, FrameError> {
        let Some(size) = self.announced()?.filter(|size| self.bytes().len() - SIZE_BYTES >= *size) else {
            return Ok(None);
        };
        if !self.partial.is_empty() {
            self.received = buffers::freeze(std::mem::take(&mut self.partial));
        }
        self.received.advance(SIZE_BYTES);
        let several = self.received.len() > size && self.received.len() <= SMALL_BYTES;
        let latest = if several { 2 * self.received.len() } else { size };
        self.expected = latest.max(self.expected - self.expected / 8);
        Ok(Some(self.received.split_to(size)))
    }

    /// Room for a read: enough for the frame if it is small or like those before, else twice of what has arrived, so that
    /// announcing 100 MB costs nothing until it is sent. Not more, lest the beginning of another frame has to be moved.
    pub fn for_reading(&mut self) -> Result<Limit<&mut Vec<u8>>, FrameError> {
        let have = self.bytes().len();
        let want = match self.announced()? {
            Some(size) => {
                let frame = (SIZE_BYTES + size).min((2 * have).max(UNPROVEN_BYTES).max(self.expected + SIZE_BYTES));
                frame.max(self.expected.min(2 * SMALL_BYTES))
            }
            None => (self.expected + SIZE_BYTES).clamp(MIN_READ_BYTES, MAX_READ_AHEAD_BYTES),
        };
        let want = want.max(have + 1);
        if self.partial.is_empty() {
            let received = std::mem::take(&mut self.received);
            if self.partial.capacity() < want {
                self.partial = buffers::take(want);
            }
            self.partial.extend_from_slice(&received);
        } else {
            self.partial.reserve_exact(want - have);
        }
        Ok((&mut self.partial).limit(want - have))
    }

    pub fn is_empty(&self) -> bool {
        self.bytes().is_empty()
    }

    /// Gives the memory back if nothing is in it.
    pub fn release(&mut self) {
        if self.is_empty() {
            self.received = Bytes::new();
            buffers::give_back(std::mem::take(&mut self.partial));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buffer(bytes: &[u8]) -> FrameBuffer {
        let mut frames = FrameBuffer::new(1 << 30);
        frames.for_reading().unwrap();
        frames.partial.extend_from_slice(bytes);
        frames
    }

    #[test]
    fn frames_leave_whole_and_in_order() {
        let mut frames = buffer(b"\0\0\0\x03abc\0\0\0\0\0\0\0\x02d");
        assert_eq!(frames.take_frame().unwrap().as_deref(), Some(&b"abc"[..]));
        assert_eq!(frames.take_frame().unwrap().as_deref(), Some(&b""[..]));
        assert!(!frames.is_whole());
        assert_eq!(frames.take_frame(), Ok(None));
        frames.for_reading().unwrap().put_slice(b"e");
        assert!(frames.is_whole());
        assert_eq!(frames.take_frame().unwrap().as_deref(), Some(&b"de"[..]));
        assert!(frames.is_empty());
    }

    #[test]
    fn a_size_out_of_bounds_is_refused() {
        assert_eq!(buffer(b"\xff\xff\xff\xff").take_frame(), Err(FrameError::Negative(-1)));
        let mut frames = FrameBuffer::new(10);
        frames.for_reading().unwrap().put_slice(&11i32.to_be_bytes());
        assert_eq!(frames.take_frame(), Err(FrameError::TooLarge { size: 11, max: 10 }));
    }

    #[test]
    fn an_announced_size_is_not_allocated() {
        let mut frames = buffer(&(1i32 << 29).to_be_bytes());
        assert!(frames.for_reading().unwrap().get_ref().capacity() <= UNPROVEN_BYTES + MIN_READ_BYTES);
        let mut arrived = SIZE_BYTES;
        while arrived < 1 << 20 {
            let mut room = frames.for_reading().unwrap();
            let count = room.remaining_mut();
            room.put_bytes(0, count);
            arrived += count;
            assert!(frames.partial.capacity() <= 2 * arrived.max(UNPROVEN_BYTES));
        }
    }

    #[test]
    fn small_frames_that_come_together_are_read_together() {
        let four = [&240i32.to_be_bytes()[..], &[7; 240]].concat().repeat(4);
        let mut frames = FrameBuffer::new(1 << 20);
        let mut reads = || {
            let mut stream = &four[..];
            for reads in 1.. {
                let mut room = frames.for_reading().unwrap();
                let (now, rest) = stream.split_at(stream.len().min(room.remaining_mut()));
                room.put_slice(now);
                stream = rest;
                while frames.take_frame().unwrap().is_some() {}
                if stream.is_empty() {
                    assert!(frames.is_empty());
                    frames.release();
                    return reads;
                }
            }
            unreachable!("the loop ends with the stream")
        };
        assert!(reads() > 1, "nobody can know");
        assert_eq!((reads(), reads(), reads()), (2, 1, 1));
    }

    #[test]
    fn memory_goes_back_when_idle() {
        let mut frames = buffer(b"\0\0\0\x01a\0");
        frames.take_frame().unwrap();
        frames.release();
        assert_eq!(frames.bytes(), b"\0", "half a frame must not be lost");
        frames.received.advance(1);
        frames.release();
        assert!(frames.is_empty() && frames.partial.capacity() == 0);
    }
}
