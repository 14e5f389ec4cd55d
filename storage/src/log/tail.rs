//! The end of a log in memory: aligned chunks that hold what is not written yet, and, as far as the memory of all
//! tails together allows, what consumers are about to read.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use crate::io::{BLOCK, Chunk, ChunkPool, ChunkWriter, HUGE_PAGE_BYTES, Part};

const SMALLEST_CHUNK_BYTES: usize = 16 << 10;
const LARGEST_CHUNK_BYTES: usize = HUGE_PAGE_BYTES;

/// A chunk and where its bytes belong.
#[derive(Debug)]
struct TailChunk {
    /// Base offset of the segment.
    segment: i64,
    /// File position of the chunk's first byte.
    start: u64,
    /// (offset, file position) of the first batch that begins in this chunk.
    first_batch: Option<(i64, u64)>,
    writer: ChunkWriter,
}

impl TailChunk {
    fn chunk(&self) -> &Arc<Chunk> {
        self.writer.chunk()
    }

    fn end(&self) -> u64 {
        self.start + self.chunk().len() as u64
    }
}

#[derive(Debug)]
pub(super) struct Tail {
    pool: ChunkPool,
    /// Oldest first; adjacent within a segment.
    chunks: VecDeque<TailChunk>,
    /// The last chunk takes the next batch.
    open: bool,
    next_capacity: usize,
}

impl Tail {
    pub fn new(pool: ChunkPool) -> Tail {
        Tail { pool, chunks: VecDeque::new(), open: false, next_capacity: SMALLEST_CHUNK_BYTES }
    }

    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// True if the next append to `segment` at `position` continues what is here.
    pub fn continues(&self, segment: i64, position: u64) -> bool {
        self.open && self.chunks.back().is_some_and(|c| c.segment == segment && c.end() == position)
    }

    /// Begins at `position` of `segment`. `block_head`: the bytes between the last multiple of BLOCK and `position`,
    /// which direct writes need to write that block again (empty for the page cache).
    pub fn begin(&mut self, segment: i64, position: u64, block_head: &[u8]) {
        debug_assert!(block_head.len() < BLOCK);
        self.push_chunk(segment, position - block_head.len() as u64);
        self.last().writer.append(block_head);
        self.open = true;
    }

    /// Ends the segment: the next append begins anew.
    pub fn end_segment(&mut self) {
        self.open = false;
    }

    /// Appends a batch that begins with `prefix` instead of its own first bytes. `offset`: its base offset.
    pub fn append_batch(&mut self, offset: i64, prefix: &[u8], rest: &[u8]) {
        let mut new_batch = true;
        for mut part in [prefix, rest] {
            while !part.is_empty() {
                if self.last().writer.remaining() == 0 {
                    let (segment, end) = (self.last().segment, self.last().end());
                    self.push_chunk(segment, end);
                }
                let last = self.last();
                if new_batch {
                    last.first_batch = last.first_batch.or(Some((offset, last.end())));
                    new_batch = false;
                }
                part = &part[last.writer.append(part)..];
            }
        }
    }

    fn last(&mut self) -> &mut TailChunk {
        self.chunks.back_mut().expect("begin() comes first")
    }

    fn push_chunk(&mut self, segment: i64, start: u64) {
        let writer = self.pool.take(self.next_capacity);
        self.next_capacity = (self.next_capacity * 2).min(LARGEST_CHUNK_BYTES);
        self.chunks.push_back(TailChunk { segment, start, first_batch: None, writer });
    }

    /// The bytes `from..to` of `segment`, which must be here.
    pub fn slices(&self, segment: i64, from: u64, to: u64) -> Vec<Bytes> {
        let overlapping = self.chunks.iter().filter(|c| c.segment == segment && c.start < to && c.end() > from);
        overlapping
            .map(|c| {
                let start = from.max(c.start) - c.start;
                let end = to.min(c.end()) - c.start;
                c.chunk().slice(start as usize, end as usize)
            })
            .collect()
    }

    /// For a direct write of `from..to`: whole blocks, the last one padded with zeros. `to` is the end of what the tail
    /// has of that segment, or a multiple of BLOCK.
    pub fn direct_slices(&mut self, segment: i64, from: u64, to: u64) -> Vec<Part> {
        let from = from - from % BLOCK as u64;
        let overlapping = self.chunks.iter_mut().filter(|c| c.segment == segment && c.start < to && c.end() > from);
        overlapping
            .map(|c| {
                let start = (from.max(c.start) - c.start) as usize;
                if c.end() <= to {
                    c.writer.direct_slice(start).into()
                } else {
                    c.chunk().slice(start, (to - c.start) as usize).into()
                }
            })
            .collect()
    }

    /// Where to begin walking batches towards `offset` in `segment`, if the batch that contains it begins here.
    pub fn walk_start(&self, segment: i64, offset: i64) -> Option<u64> {
        let starts = self.chunks.iter().rev().filter(|c| c.segment == segment).filter_map(|c| c.first_batch);
        starts.into_iter().find(|&(first, _)| first <= offset).map(|(_, position)| position)
    }

    /// Copies the bytes at `position` of `segment` into `buf`; false if they are not all here.
    pub fn copy(&self, segment: i64, position: u64, buf: &mut [u8]) -> bool {
        let mut filled = 0;
        for c in self.chunks.iter().filter(|c| c.segment == segment) {
            let at = position + filled as u64;
            if filled < buf.len() && c.start <= at && at < c.end() {
                let available = &c.chunk().filled()[(at - c.start) as usize..];
                let n = available.len().min(buf.len() - filled);
                buf[filled..filled + n].copy_from_slice(&available[..n]);
                filled += n;
            }
        }
        filled == buf.len()
    }

    /// Drops the oldest chunk if all of it lies below (`segment`, `written`).
    pub fn evict_oldest(&mut self, segment: i64, written: u64) -> bool {
        let evictable = |c: &TailChunk| c.segment < segment || (c.segment == segment && c.end() <= written);
        if !self.chunks.front().is_some_and(evictable) {
            return false;
        }
        self.chunks.pop_front();
        if self.chunks.is_empty() {
            self.clear();
        }
        true
    }

    pub fn clear(&mut self) {
        self.chunks.clear();
        self.open = false;
        self.next_capacity = SMALLEST_CHUNK_BYTES;
    }
}
