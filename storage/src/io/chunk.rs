//! Aligned memory for the tail of a log: one appender, many readers of what has been appended.
//! With `uring.rs` the only file with `unsafe`.

use std::sync::Arc;

use bytes::Bytes;

/// Allocates chunks and keeps freed ones for reuse (last freed first, so that memory stays warm in the cache).
/// Cheap to clone.
#[derive(Clone, Debug)]
pub struct ChunkPool {/* private */}

impl ChunkPool {
    /// `keep_bytes`: at most so much freed memory is kept for reuse; the rest goes back to the system at once.
    pub fn new(keep_bytes: usize) -> ChunkPool {
        todo!()
    }
    /// A writer over a fresh chunk of `capacity` bytes (a multiple of BLOCK), memory aligned to BLOCK.
    /// Content beyond what was appended is unspecified (never uninitialised).
    pub fn take(&self, capacity: usize) -> ChunkWriter {
        todo!()
    }
    /// Bytes in chunks that are alive (not those kept for reuse).
    pub fn live_bytes(&self) -> usize {
        todo!()
    }
    /// Gives kept memory back to the system.
    pub fn trim(&self) {
        todo!()
    }
}

/// The readable side; memory returns to the pool when the last reference is dropped.
#[derive(Debug)]
pub struct Chunk {/* private */}

impl Chunk {
    pub fn capacity(&self) -> usize {
        todo!()
    }
    /// How many bytes were appended so far.
    pub fn len(&self) -> usize {
        todo!()
    }
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// What was appended so far.
    pub fn filled(&self) -> &[u8] {
        todo!()
    }
    /// A reference to `start..end` (panics beyond `len()`), which keeps the chunk alive; no copy.
    pub fn slice(self: &Arc<Chunk>, start: usize, end: usize) -> Bytes {
        todo!()
    }
}

/// The one appender of a chunk.
#[derive(Debug)]
pub struct ChunkWriter {/* private */}

impl ChunkWriter {
    pub fn chunk(&self) -> &Arc<Chunk> {
        todo!()
    }
    pub fn remaining(&self) -> usize {
        todo!()
    }
    /// Copies as much of `src` as fits; returns how much.
    pub fn append(&mut self, src: &[u8]) -> usize {
        todo!()
    }
    /// For a direct write: zeroes from `len()` to the next multiple of BLOCK and returns a reference to
    /// `start..that multiple` (start must be a multiple of BLOCK). `len()` does not change, and later appends go into
    /// the same place: the kernel may then see old or new bytes beyond the old `len()`, which is harmless, since the
    /// next write covers that block again.
    pub fn direct_slice(&mut self, start: usize) -> Bytes {
        todo!()
    }
}
