//! Frames out of a stream of bytes: a size in four bytes, then so many bytes. Owns the read buffer and its policy:
//! memory follows what arrives, never what is announced. No sockets.

use bytes::{Buf, Bytes, BytesMut};

/// The least room that a read gets.
const MIN_READ_BYTES: usize = 4 << 10;
/// Room for a frame that is announced before the client has shown that it sends such frames.
const UNPROVEN_BYTES: usize = 128 << 10;
/// The most room kept ready for a frame whose size is not known yet.
const MAX_READ_AHEAD_BYTES: usize = 256 << 10;
/// A buffer up to this size stays with a connection between requests; larger ones are too much for thousands of them.
const KEEP_BYTES: usize = 16 << 10;
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
    buf: BytesMut,
    max_bytes: usize,
    /// The size of the largest of the latest frames: the next one probably needs as much.
    expected: usize,
    /// The size of the allocation behind `buf`, of which it may hold a part only.
    allocated: usize,
}

impl FrameBuffer {
    pub fn new(max_bytes: usize) -> FrameBuffer {
        FrameBuffer { buf: BytesMut::new(), max_bytes, expected: 0, allocated: 0 }
    }

    /// The size of the frame that the buffer begins with, once its first four bytes are there.
    pub fn announced(&self) -> Result<Option<usize>, FrameError> {
        let Some(size) = self.buf.first_chunk::<SIZE_BYTES>() else { return Ok(None) };
        let size = i32::from_be_bytes(*size);
        match usize::try_from(size) {
            Err(_) => Err(FrameError::Negative(size)),
            Ok(size) if size > self.max_bytes => Err(FrameError::TooLarge { size, max: self.max_bytes }),
            Ok(size) => Ok(Some(size)),
        }
    }

    /// True if a whole frame is there.
    pub fn is_whole(&self) -> bool {
        matches!(self.announced(), Ok(Some(size)) if self.buf.len() - SIZE_BYTES >= size)
    }

    /// The next frame, without its size, if it is whole.
    pub fn next(&mut self) -> Result<Option<Bytes>, FrameError> {
        match self.announced()? {
            Some(size) if self.buf.len() - SIZE_BYTES >= size => {
                self.buf.advance(SIZE_BYTES);
                self.expected = size.max(self.expected - self.expected / 8);
                Ok(Some(self.buf.split_to(size).freeze()))
            }
            _ => Ok(None),
        }
    }

    /// The buffer with room for a read: enough for the frame if it is small or like those before, else twice of what
    /// has arrived, so that announcing 100 MB costs nothing until it is sent.
    pub fn for_reading(&mut self) -> Result<&mut BytesMut, FrameError> {
        let have = self.buf.len();
        let want = match self.announced()? {
            Some(size) => (SIZE_BYTES + size).min((2 * have).max(UNPROVEN_BYTES).max(self.expected + SIZE_BYTES)),
            None => (self.expected + SIZE_BYTES).clamp(MIN_READ_BYTES, MAX_READ_AHEAD_BYTES),
        };
        self.buf.reserve(want.saturating_sub(have).max(1));
        self.allocated = self.allocated.max(self.buf.capacity());
        Ok(&mut self.buf)
    }

    pub fn is_empty(&self) -> bool {
        self.buf.is_empty()
    }

    /// Between requests: gives a large buffer back if nothing is in it.
    pub fn release_large(&mut self) {
        if self.buf.is_empty() && self.allocated > KEEP_BYTES {
            self.buf = BytesMut::new();
            self.allocated = 0;
        }
    }

    /// When the connection is idle: gives any buffer back if nothing is in it.
    pub fn release(&mut self) {
        if self.buf.is_empty() {
            self.buf = BytesMut::new();
            self.allocated = 0;
            self.expected = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buffer(bytes: &[u8]) -> FrameBuffer {
        let mut frames = FrameBuffer::new(1 << 30);
        frames.for_reading().unwrap().extend_from_slice(bytes);
        frames
    }

    #[test]
    fn frames_leave_whole_and_in_order() {
        let mut frames = buffer(b"\0\0\0\x03abc\0\0\0\0\0\0\0\x02d");
        assert_eq!(frames.next().unwrap().as_deref(), Some(&b"abc"[..]));
        assert_eq!(frames.next().unwrap().as_deref(), Some(&b""[..]));
        assert!(!frames.is_whole());
        assert_eq!(frames.next(), Ok(None));
        frames.for_reading().unwrap().extend_from_slice(b"e");
        assert!(frames.is_whole());
        assert_eq!(frames.next().unwrap().as_deref(), Some(&b"de"[..]));
        assert!(frames.is_empty());
    }

    #[test]
    fn a_size_out_of_bounds_is_refused() {
        assert_eq!(buffer(b"\xff\xff\xff\xff").next(), Err(FrameError::Negative(-1)));
        let mut frames = FrameBuffer::new(10);
        frames.for_reading().unwrap().extend_from_slice(&11i32.to_be_bytes());
        assert_eq!(frames.next(), Err(FrameError::TooLarge { size: 11, max: 10 }));
    }

    #[test]
    fn an_announced_size_is_not_allocated() {
        let mut frames = buffer(&(1i32 << 29).to_be_bytes());
        assert!(frames.for_reading().unwrap().capacity() <= UNPROVEN_BYTES + MIN_READ_BYTES);
        let mut arrived = SIZE_BYTES;
        while arrived < 1 << 20 {
            let buf = frames.for_reading().unwrap();
            let room = buf.capacity() - buf.len();
            buf.resize(buf.len() + room, 0);
            arrived += room;
            assert!(frames.buf.capacity() <= 2 * arrived.max(UNPROVEN_BYTES));
        }
    }

    #[test]
    fn memory_goes_back_when_idle() {
        let mut frames = buffer(b"\0\0\0\x01a\0");
        frames.next().unwrap();
        frames.release();
        assert!(frames.buf.capacity() > 0, "half a frame must not be lost");
        frames.buf.advance(1);
        frames.release();
        assert_eq!(frames.buf.capacity(), 0);
    }

    #[test]
    fn large_buffers_go_back_at_once() {
        let mut frames = buffer(&[&50_000i32.to_be_bytes()[..], &[0; 50_000]].concat());
        frames.for_reading().unwrap();
        frames.next().unwrap();
        frames.release_large();
        assert_eq!(frames.buf.capacity(), 0);
        let mut frames = buffer(b"\0\0\0\x01a");
        frames.next().unwrap();
        frames.release_large();
        assert!(frames.buf.capacity() > 0);
    }
}
