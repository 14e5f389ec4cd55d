//! Kafka's codecs: gzip, snappy (xerial framing and raw), lz4 frames, zstd; bounded output on the way in.

mod encoder;
mod lz4;
mod snappy;
#[cfg(test)]
mod tests;
mod zstd;

use std::cell::Cell;
use std::io::{self, Read, Write};

pub(crate) use encoder::Encoder;

use crate::batch::{BatchError, Compression};

/// There is more to a batch than the caller's limit.
pub(crate) const TOO_LARGE: BatchError = BatchError::Records("the records are too large when decompressed");

/// Appends the decompressed `src` to `dst`, at most `limit_bytes` more.
pub fn decompress(codec: Compression, src: &[u8], dst: &mut Vec<u8>, limit_bytes: usize) -> Result<(), BatchError> {
    let limit = u64::try_from(limit_bytes).unwrap_or(u64::MAX);
    let produced = reader(codec, src)
        .take(limit.saturating_add(1))
        .read_to_end(dst)
        .map_err(|_| BatchError::Records("the records cannot be decompressed"))?;
    if produced > limit_bytes {
        return Err(TOO_LARGE);
    }
    Ok(())
}

/// Appends `src` compressed at `level` (None: the codec's default as in Kafka: gzip -1, lz4 9, zstd 3).
pub fn compress(codec: Compression, level: Option<i32>, src: &[u8], dst: &mut Vec<u8>) {
    let mut encoder = Encoder::new(codec, level, std::mem::take(dst), usize::MAX);
    *dst = encoder.write_all(src).and_then(|()| encoder.finish()).expect("memory takes all that is written");
}

/// The decompressed `src` as a stream. What it holds in memory is bounded by the codec's window or block and by a small
/// multiple of `src`, not by what `src` decompresses to.
pub(crate) fn reader<'a>(codec: Compression, src: &'a [u8]) -> Box<dyn Read + 'a> {
    match codec {
        Compression::None => Box::new(src),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(src)),
        Compression::Snappy => Box::new(snappy::Reader::new(src)),
        Compression::Lz4 => Box::new(lz4::Reader::new(src)),
        Compression::Zstd => Box::new(zstd::Reader::new(src)),
    }
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// One decompressed block, in memory that this thread uses again for the next batch.
#[derive(Debug)]
struct Block {
    bytes: Vec<u8>,
    read: usize,
}

/// Larger buffers than the usual blocks need are given back.
const KEEP_BYTES: usize = 256 << 10;

thread_local! {
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

impl Block {
    fn new() -> Block {
        let mut bytes = SPARE.take();
        bytes.clear();
        Block { bytes, read: 0 }
    }

    fn is_read(&self) -> bool {
        self.read == self.bytes.len()
    }

    /// Replaces the content: `decode` gets `capacity` bytes and says how many it filled.
    fn refill(&mut self, capacity: usize, decode: impl FnOnce(&mut [u8]) -> io::Result<usize>) -> io::Result<()> {
        self.read = 0;
        self.bytes.resize(capacity, 0);
        let filled = decode(&mut self.bytes);
        self.bytes.truncate(*filled.as_ref().unwrap_or(&0));
        filled.map(|_| ())
    }

    fn copy_to(&mut self, buf: &mut [u8]) -> usize {
        let unread = &self.bytes[self.read..];
        let n = unread.len().min(buf.len());
        buf[..n].copy_from_slice(&unread[..n]);
        self.read += n;
        n
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if self.bytes.capacity() <= KEEP_BYTES {
            SPARE.set(std::mem::take(&mut self.bytes));
        }
    }
}

/// The next `n` bytes of `src`.
fn take<'a>(src: &mut &'a [u8], n: usize) -> io::Result<&'a [u8]> {
    let (taken, rest) = src.split_at_checked(n).ok_or(io::ErrorKind::UnexpectedEof)?;
    *src = rest;
    Ok(taken)
}
