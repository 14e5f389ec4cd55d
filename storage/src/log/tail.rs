//! The end of a log in memory: chunks that hold what is not written yet, and, as far as the memory of all tails together
//! allows, what consumers are about to read. Large batches stay where they were received until they are written.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::io::{BLOCK, ChunkPool, ChunkWriter, HUGE_PAGE_BYTES, Part};

const SMALLEST_CHUNK_BYTES: usize = 16 << 10;
const LARGEST_CHUNK_BYTES: usize = HUGE_PAGE_BYTES;

/// A batch of this size is not copied unless somebody reads at the log's end, whom it reaches with fewer calls from here than
/// from the page cache.
pub(super) const LARGE_BATCH_BYTES: usize = 8 << 10;

/// A chunk and where its bytes belong.
#[derive(Debug)]
struct TailChunk {
    /// Base offset of the segment.
    segment: i64,
    /// File position of the chunk's first byte.
    start: u64,
    /// (offset, file position) of the first batch that begins in this chunk.
    first_batch: Option<(i64, u64)>,
    memory: Memory,
}

#[derive(Debug)]
enum Memory {
    /// Batches one behind the other, in aligned memory.
    Copied(ChunkWriter),
    /// A piece of a batch, in the memory of whoever appended it.
    Lent(Bytes),
}

impl TailChunk {
    fn filled(&self) -> &[u8] {
        match &self.memory {
            Memory::Copied(writer) => writer.chunk().filled(),
            Memory::Lent(bytes) => bytes,
        }
    }

    fn slice(&self, start: usize, end: usize) -> Bytes {
        match &self.memory {
            Memory::Copied(writer) => writer.chunk().slice(start, end),
            Memory::Lent(bytes) => bytes.slice(start..end),
        }
    }

    fn is_lent(&self) -> bool {
        matches!(self.memory, Memory::Lent(_))
    }

    fn end(&self) -> u64 {
        self.start + self.filled().len() as u64
    }

    fn is_full(&self) -> bool {
        match &self.memory {
            Memory::Copied(writer) => writer.remaining() == 0,
            Memory::Lent(_) => true,
        }
    }

    /// Returns how many of the bytes found room.
    fn append(&mut self, bytes: &[u8]) -> usize {
        match &mut self.memory {
            Memory::Copied(writer) => writer.append(bytes),
            Memory::Lent(_) => 0,
        }
    }

    /// All of it lies below a place.
    fn is_below(&self, segment: i64, position: u64) -> bool {
        self.segment < segment || (self.segment == segment && self.end() <= position)
    }
}

#[derive(Debug)]
pub(super) struct Tail {
    pool: ChunkPool,
    /// Oldest first; adjacent within a segment.
    chunks: VecDeque<TailChunk>,
    /// The last chunk takes the next batch.
    open: bool,
    /// Every chunk is a copy that begins at a multiple of BLOCK in the file, as direct writes need it.
    aligned: bool,
    next_capacity: usize,
}

impl Tail {
    pub fn new(pool: ChunkPool) -> Tail {
        Tail { pool, chunks: VecDeque::new(), open: false, aligned: true, next_capacity: SMALLEST_CHUNK_BYTES }
    }

    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// True if the next append to `segment` at `position` continues what is here.
    pub fn continues(&self, segment: i64, position: u64) -> bool {
        self.open && self.chunks.back().is_some_and(|c| c.segment == segment && c.end() == position)
    }

    /// What is here can be written directly.
    pub fn is_aligned(&self) -> bool {
        self.aligned
    }

    /// Begins at `position` of `segment`. `block_head`: the bytes between the last multiple of BLOCK and `position`,
    /// which direct writes need to write that block again (empty for the page cache).
    pub fn begin(&mut self, segment: i64, position: u64, block_head: &[u8]) {
        debug_assert!(block_head.len() < BLOCK);
        let start = position - block_head.len() as u64;
        self.push_chunk(segment, start);
        self.last().append(block_head);
        self.open = true;
        self.aligned &= start.is_multiple_of(BLOCK as u64);
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
                if self.last().is_full() {
                    let (segment, end) = (self.last().segment, self.last().end());
                    self.push_chunk(segment, end);
                }
                let last = self.last();
                if new_batch {
                    last.first_batch = last.first_batch.or(Some((offset, last.end())));
                    new_batch = false;
                }
                part = &part[last.append(part)..];
            }
        }
    }

    /// Takes a large batch at `position` of `segment` without a copy.
    pub fn lend(&mut self, (segment, position): (i64, u64), offset: i64, prefix: &[u8], rest: Bytes) {
        let (head, next) = (Bytes::copy_from_slice(prefix), position + prefix.len() as u64);
        let first_batch = Some((offset, position));
        self.chunks.push_back(TailChunk { segment, start: position, first_batch, memory: Memory::Lent(head) });
        self.chunks.push_back(TailChunk { segment, start: next, first_batch: None, memory: Memory::Lent(rest) });
        (self.open, self.aligned, self.next_capacity) = (false, false, SMALLEST_CHUNK_BYTES);
    }

    fn last(&mut self) -> &mut TailChunk {
        self.chunks.back_mut().expect("begin() comes first")
    }

    fn push_chunk(&mut self, segment: i64, start: u64) {
        let memory = Memory::Copied(self.pool.take(self.next_capacity));
        self.next_capacity = (self.next_capacity * 2).min(LARGEST_CHUNK_BYTES);
        self.chunks.push_back(TailChunk { segment, start, first_batch: None, memory });
    }

    /// The bytes `from..to` of `segment`, which must be here.
    pub fn slices(&self, segment: i64, from: u64, to: u64) -> Vec<Bytes> {
        let overlapping = self.chunks.iter().filter(|c| c.segment == segment && c.start < to && c.end() > from);
        overlapping
            .map(|c| {
                let start = from.max(c.start) - c.start;
                let end = to.min(c.end()) - c.start;
                c.slice(start as usize, end as usize)
            })
            .collect()
    }

    /// For a direct write of `from..to`: whole blocks, the last one padded with zeros. `to` is the end of what the tail
    /// has of that segment, or a multiple of BLOCK. The tail is aligned.
    pub fn direct_slices(&mut self, segment: i64, from: u64, to: u64) -> Vec<Part> {
        let from = from - from % BLOCK as u64;
        let overlapping = self.chunks.iter_mut().filter(|c| c.segment == segment && c.start < to && c.end() > from);
        overlapping
            .map(|c| {
                let start = (from.max(c.start) - c.start) as usize;
                match &mut c.memory {
                    Memory::Copied(writer) if c.start + writer.chunk().len() as u64 <= to => {
                        writer.direct_slice(start).into()
                    }
                    _ => c.slice(start, (to - c.start) as usize).into(),
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
                let available = &c.filled()[(at - c.start) as usize..];
                let n = available.len().min(buf.len() - filled);
                buf[filled..filled + n].copy_from_slice(&available[..n]);
                filled += n;
            }
        }
        filled == buf.len()
    }

    /// Drops the oldest chunk if all of it lies below (`segment`, `written`).
    pub fn evict_oldest(&mut self, segment: i64, written: u64) -> bool {
        if !self.chunks.front().is_some_and(|c| c.is_below(segment, written)) {
            return false;
        }
        self.chunks.pop_front();
        self.clear_if_empty();
        true
    }

    /// Gives lent memory back if all of it lies below (`segment`, `written`), and lets go of what lies before it.
    pub fn give_back(&mut self, segment: i64, written: u64) {
        if let Some(last) = self.chunks.iter().rposition(|c| c.is_lent() && c.is_below(segment, written)) {
            self.chunks.drain(..=last);
            self.clear_if_empty();
        }
    }

    fn clear_if_empty(&mut self) {
        if self.chunks.is_empty() {
            self.clear();
        }
    }

    pub fn clear(&mut self) {
        self.chunks.clear();
        (self.open, self.aligned, self.next_capacity) = (false, true, SMALLEST_CHUNK_BYTES);
    }
}
