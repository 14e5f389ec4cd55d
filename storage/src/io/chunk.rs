//! Memory that the kernel reads and writes directly: the chunks of a log's tail (one appender, many readers of what
//! has been appended), buffers for reads, and the parts of a write. With `uring.rs` the only file with `unsafe`.
#![allow(unsafe_code)]

use std::alloc::Layout;
use std::collections::VecDeque;
use std::io;
use std::ops::{Deref, Range};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;

use super::BLOCK;

/// Memory of this size comes in one piece from the processor's and the device's point of view: a direct write looks up
/// and names one page instead of hundreds.
pub const HUGE_PAGE_BYTES: usize = 2 << 20;

/// Allocates chunks and keeps freed ones for reuse (last freed first, so that memory stays warm in the cache).
/// Cheap to clone.
#[derive(Clone, Debug)]
pub struct ChunkPool {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    keep_bytes: usize,
    live_bytes: AtomicUsize,
    kept: Mutex<Kept>,
}

/// Freed memory of all capacities, the last freed at the back.
#[derive(Debug, Default)]
struct Kept {
    memory: VecDeque<Memory>,
    bytes: usize,
}

impl ChunkPool {
    /// `keep_bytes`: at most so much freed memory is kept for reuse; the rest goes back to the system at once.
    pub fn new(keep_bytes: usize) -> ChunkPool {
        ChunkPool { shared: Arc::new(Shared { keep_bytes, live_bytes: AtomicUsize::new(0), kept: Mutex::default() }) }
    }

    /// A writer over a fresh chunk of `capacity` bytes (a multiple of BLOCK), memory aligned to BLOCK.
    /// Content beyond what was appended is unspecified (never uninitialised). Fresh memory becomes resident only as
    /// it is appended to.
    pub fn take(&self, capacity: usize) -> ChunkWriter {
        ChunkWriter { chunk: Arc::new(Chunk { memory: self.memory(capacity), len: AtomicUsize::new(0) }) }
    }

    /// Memory for a read of `len` bytes.
    pub(super) fn buffer(&self, len: usize) -> Buffer {
        // Few capacities, so that what one read leaves behind fits the next.
        Buffer { memory: self.memory(len.max(BLOCK).next_power_of_two()) }
    }

    fn memory(&self, capacity: usize) -> Pooled {
        assert!(capacity > 0 && capacity.is_multiple_of(BLOCK), "a chunk is whole blocks, not {capacity} bytes");
        let memory = self.shared.reuse(capacity).unwrap_or_else(|| Memory::map(capacity));
        self.shared.live_bytes.fetch_add(capacity, Ordering::Relaxed);
        Pooled { memory: Some(memory), pool: self.shared.clone() }
    }

    /// Bytes in chunks that are alive (not those kept for reuse).
    pub fn live_bytes(&self) -> usize {
        self.shared.live_bytes.load(Ordering::Relaxed)
    }

    /// Gives kept memory back to the system.
    pub fn trim(&self) {
        let kept = std::mem::take(&mut *self.shared.kept.lock());
        drop(kept);
    }
}

impl Shared {
    fn reuse(&self, capacity: usize) -> Option<Memory> {
        let mut kept = self.kept.lock();
        let last = kept.memory.iter().rposition(|memory| memory.capacity == capacity)?;
        kept.bytes -= capacity;
        kept.memory.remove(last)
    }

    /// Keeps `memory` if it fits, at the expense of what has not been used for longest: a capacity that is no longer
    /// asked for must not occupy the pool.
    fn give_back(&self, memory: Memory) {
        self.live_bytes.fetch_sub(memory.capacity, Ordering::Relaxed);
        if memory.capacity > self.keep_bytes {
            return;
        }
        let mut evicted = Vec::new(); // unmapped after the lock is released
        let mut kept = self.kept.lock();
        while kept.bytes + memory.capacity > self.keep_bytes {
            let Some(oldest) = kept.memory.pop_front() else { break };
            kept.bytes -= oldest.capacity;
            evicted.push(oldest);
        }
        kept.bytes += memory.capacity;
        kept.memory.push_back(memory);
        drop(kept);
    }
}

/// An anonymous mapping of its own: aligned, zeroed by the kernel page by page when first touched, and back with the
/// system the moment it is dropped (an allocator would zero it all at once and might hold on to it).
#[derive(Debug)]
struct Memory {
    start: NonNull<u8>,
    capacity: usize,
}

// SAFETY: `Memory` owns its mapping, which is bound to no thread; whoever shares it takes care of races (see `Chunk`).
unsafe impl Send for Memory {}
// SAFETY: as above; nothing can be reached through `&Memory` but the address.
unsafe impl Sync for Memory {}

impl Memory {
    fn map(capacity: usize) -> Memory {
        let huge = capacity.is_multiple_of(HUGE_PAGE_BYTES);
        // Room to begin at a huge page wherever the kernel puts it.
        let mapped = if huge { capacity + HUGE_PAGE_BYTES } else { capacity };
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new anonymous mapping, where the kernel likes, touches no memory that exists.
        let start = unsafe { libc::mmap(ptr::null_mut(), mapped, protection, flags, -1, 0) };
        let Some(start) = NonNull::new(start.cast::<u8>()).filter(|start| start.as_ptr().cast() != libc::MAP_FAILED)
        else {
            let layout = Layout::from_size_align(capacity, BLOCK).expect("a capacity is at most isize::MAX");
            std::alloc::handle_alloc_error(layout)
        };
        if !huge {
            return Memory { start, capacity };
        }
        let before = start.align_offset(HUGE_PAGE_BYTES);
        let memory = Memory { start: start.map_addr(|start| start.saturating_add(before)), capacity };
        let end = memory.start.as_ptr().wrapping_add(capacity);
        // SAFETY: what is unmapped lies in the new mapping, before and after what is kept of it, and is unused; the
        // advice changes no content. Should the kernel refuse any of it, nothing but memory is lost.
        unsafe {
            libc::munmap(start.as_ptr().cast(), before);
            libc::munmap(end.cast(), HUGE_PAGE_BYTES - before);
            libc::madvise(memory.start.as_ptr().cast(), capacity, libc::MADV_HUGEPAGE);
        }
        memory
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, whole, and nobody else refers to it any more.
        let unmapped = unsafe { libc::munmap(self.start.as_ptr().cast(), self.capacity) };
        debug_assert_eq!(unmapped, 0, "munmap: {}", io::Error::last_os_error());
    }
}

/// Memory on loan from a pool, given back when dropped.
#[derive(Debug)]
struct Pooled {
    memory: Option<Memory>,
    pool: Arc<Shared>,
}

impl Deref for Pooled {
    type Target = Memory;
    fn deref(&self) -> &Memory {
        self.memory.as_ref().expect("memory is there until the drop")
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        if let Some(memory) = self.memory.take() {
            self.pool.give_back(memory);
        }
    }
}

/// The readable side; memory returns to the pool when the last reference is dropped.
#[derive(Debug)]
pub struct Chunk {
    memory: Pooled,
    /// Bytes below `len` are published and never change again; those above belong to the one `ChunkWriter`.
    len: AtomicUsize,
}

impl Chunk {
    pub fn capacity(&self) -> usize {
        self.memory.capacity
    }

    /// How many bytes were appended so far.
    pub fn len(&self) -> usize {
        self.len.load(Ordering::Acquire)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What was appended so far.
    pub fn filled(&self) -> &[u8] {
        // SAFETY: bytes below `len`, read with Acquire, are initialised and never change while the chunk lives.
        unsafe { slice::from_raw_parts(self.at(0), self.len()) }
    }

    /// A reference to `start..end` (panics beyond `len()`), which keeps the chunk alive; no copy.
    pub fn slice(self: &Arc<Chunk>, start: usize, end: usize) -> Bytes {
        let len = self.len();
        assert!(start <= end && end <= len, "{start}..{end} of a chunk with {len} bytes");
        Bytes::from_owner(Published { chunk: self.clone(), range: start..end })
    }

    fn at(&self, pos: usize) -> *mut u8 {
        debug_assert!(pos <= self.capacity());
        self.memory.start.as_ptr().wrapping_add(pos)
    }
}

/// A range of a chunk below its `len`.
struct Published {
    chunk: Arc<Chunk>,
    range: Range<usize>,
}

impl AsRef<[u8]> for Published {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: `slice` checked that the range is below `len`, which was read with Acquire: these bytes are
        // initialised, and nobody writes to them while the chunk lives.
        unsafe { slice::from_raw_parts(self.chunk.at(self.range.start), self.range.len()) }
    }
}

/// The one appender of a chunk.
#[derive(Debug)]
pub struct ChunkWriter {
    chunk: Arc<Chunk>,
}

impl ChunkWriter {
    pub fn chunk(&self) -> &Arc<Chunk> {
        &self.chunk
    }

    pub fn remaining(&self) -> usize {
        self.chunk.capacity() - self.chunk.len()
    }

    /// Copies as much of `src` as fits; returns how much.
    pub fn append(&mut self, src: &[u8]) -> usize {
        let len = self.chunk.len();
        let count = src.len().min(self.remaining());
        // SAFETY: `len + count` is within the memory. Bytes from `len` on are not published, so no `&[u8]` covers
        // them, and this `&mut` of the only writer is the only one to touch them. `src` cannot overlap them either.
        unsafe { ptr::copy_nonoverlapping(src.as_ptr(), self.chunk.at(len), count) };
        self.chunk.len.store(len + count, Ordering::Release);
        count
    }

    /// For a direct write: zeroes from `len()` to the next multiple of BLOCK and returns a reference to
    /// `start..that multiple` (start must be a multiple of BLOCK). `len()` does not change, and later appends go into
    /// the same place: the kernel may then see old or new bytes beyond the old `len()`, which is harmless, since the
    /// next write covers that block again.
    pub fn direct_slice(&mut self, start: usize) -> DirectSlice {
        let len = self.chunk.len();
        let end = len.next_multiple_of(BLOCK);
        assert!(start.is_multiple_of(BLOCK) && start <= end, "{start}..{end} is not a range of whole blocks");
        // SAFETY: as in `append`: within the memory (the capacity is whole blocks), unpublished, ours alone.
        unsafe { ptr::write_bytes(self.chunk.at(len), 0, end - len) };
        DirectSlice { chunk: self.chunk.clone(), range: start..end }
    }
}

/// Whole blocks of a chunk, for the kernel only: the last one may be appended to while it is written, so there is no
/// `&[u8]` of it.
#[derive(Clone, Debug)]
pub struct DirectSlice {
    chunk: Arc<Chunk>,
    range: Range<usize>,
}

/// A piece of what [`super::File::write_at`] writes. It holds its memory until the kernel is done with it.
#[derive(Clone, Debug)]
pub enum Part {
    Bytes(Bytes),
    Direct(DirectSlice),
}

impl Part {
    pub fn len(&self) -> usize {
        match self {
            Part::Bytes(bytes) => bytes.len(),
            Part::Direct(slice) => slice.range.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn as_ptr(&self) -> *const u8 {
        match self {
            Part::Bytes(bytes) => bytes.as_ptr(),
            Part::Direct(slice) => slice.chunk.at(slice.range.start),
        }
    }
}

impl From<Bytes> for Part {
    fn from(bytes: Bytes) -> Part {
        Part::Bytes(bytes)
    }
}

impl From<DirectSlice> for Part {
    fn from(slice: DirectSlice) -> Part {
        Part::Direct(slice)
    }
}

/// The most pieces that one system call takes (the kernel's UIO_MAXIOV).
const IOVECS_MAX: usize = 1024;

/// `parts` without their first `skip` bytes, as the kernel wants them; the first IOVECS_MAX if there are more.
pub(super) fn iovecs(parts: &[Part], mut skip: usize) -> Vec<libc::iovec> {
    let mut iovecs = Vec::with_capacity(parts.len().min(IOVECS_MAX));
    for part in parts {
        let skipped = skip.min(part.len());
        skip -= skipped;
        if skipped < part.len() {
            let iov_base = part.as_ptr().wrapping_add(skipped).cast_mut().cast();
            iovecs.push(libc::iovec { iov_base, iov_len: part.len() - skipped });
        }
        if iovecs.len() == IOVECS_MAX {
            break;
        }
    }
    iovecs
}

/// One `pwritev` of `parts` without their first `skip` bytes, at `pos`; returns the bytes written.
pub(super) fn pwritev(fd: BorrowedFd<'_>, parts: &[Part], skip: usize, pos: u64) -> io::Result<usize> {
    let iovecs = iovecs(parts, skip);
    // SAFETY: every iovec lies within a part, and the parts are borrowed until the kernel returns. It only reads.
    let written = unsafe { libc::pwritev(fd.as_raw_fd(), iovecs.as_ptr(), iovecs.len() as i32, pos as libc::off_t) };
    usize::try_from(written).map_err(|_| io::Error::last_os_error())
}

/// The bytes of `parts` without their first `skip`, as a disk would take them at this moment.
#[cfg(any(test, feature = "sim"))]
pub(super) fn copied(parts: &[Part], skip: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in parts {
        // SAFETY: a part keeps its memory alive, and mapped memory is initialised. Whoever simulates a disk does so on
        // one thread: nobody appends to a chunk, nor does the slice live, while this copies.
        bytes.extend_from_slice(unsafe { slice::from_raw_parts(part.as_ptr(), part.len()) });
    }
    bytes.split_off(skip)
}

/// Memory of its own for one read: first the kernel's, then, frozen, the reader's.
#[derive(Debug)]
pub(super) struct Buffer {
    memory: Pooled,
}

impl Buffer {
    pub fn as_mut_ptr(&mut self) -> *mut u8 {
        self.memory.start.as_ptr()
    }

    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: mapped memory is initialised, and it is reachable through this `&mut` only.
        unsafe { slice::from_raw_parts_mut(self.memory.start.as_ptr(), self.memory.capacity) }
    }

    fn as_slice(&self) -> &[u8] {
        // SAFETY: as above, shared.
        unsafe { slice::from_raw_parts(self.memory.start.as_ptr(), self.memory.capacity) }
    }

    pub fn freeze(self, range: Range<usize>) -> Bytes {
        struct Frozen(Buffer);
        impl AsRef<[u8]> for Frozen {
            fn as_ref(&self) -> &[u8] {
                self.0.as_slice()
            }
        }
        let mut bytes = Bytes::from_owner(Frozen(self));
        bytes.truncate(range.end);
        bytes.split_off(range.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel would see.
    fn written(slice: &DirectSlice) -> Vec<u8> {
        let file = tempfile::tempfile().unwrap();
        let part = Part::from(slice.clone());
        assert_eq!(pwritev(std::os::fd::AsFd::as_fd(&file), &[part], 0, 0).unwrap(), slice.range.len());
        let mut content = vec![0; slice.range.len()];
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut content, 0).unwrap();
        content
    }

    #[test]
    fn a_reader_sees_what_was_appended_and_keeps_it() {
        let pool = ChunkPool::new(0);
        let mut writer = pool.take(BLOCK);
        assert_eq!((writer.append(b"abc"), writer.append(b"def")), (3, 3));
        let chunk = writer.chunk().clone();
        assert_eq!((chunk.len(), writer.remaining()), (6, BLOCK - 6));
        let slice = chunk.slice(1, 5);
        drop((chunk, writer));
        assert_eq!(slice, "bcde");
        assert_eq!(pool.live_bytes(), BLOCK);
        drop(slice);
        assert_eq!(pool.live_bytes(), 0);
    }

    #[test]
    fn append_takes_what_fits() {
        let mut writer = ChunkPool::new(0).take(BLOCK);
        assert_eq!(writer.append(&vec![1; BLOCK - 1]), BLOCK - 1);
        assert_eq!(writer.append(&[2, 3]), 1);
        assert_eq!(writer.append(&[4]), 0);
        assert_eq!(&writer.chunk().slice(BLOCK - 2, BLOCK)[..], &[1, 2]);
    }

    #[test]
    #[should_panic(expected = "0..2 of a chunk with 1 bytes")]
    fn nothing_beyond_the_published_length_can_be_referenced() {
        let mut writer = ChunkPool::new(0).take(BLOCK);
        writer.append(b"a");
        writer.chunk().slice(0, 2);
    }

    #[test]
    fn a_direct_slice_is_padded_with_zeros_also_in_reused_memory() {
        let pool = ChunkPool::new(2 * BLOCK);
        pool.take(2 * BLOCK).append(&[0xff; 2 * BLOCK]);
        let mut writer = pool.take(2 * BLOCK);
        writer.append(&[1; BLOCK + 1]);
        let content = written(&writer.direct_slice(BLOCK));
        assert_eq!((content.len(), content[0]), (BLOCK, 1));
        assert!(content[1..].iter().all(|byte| *byte == 0));

        writer.append(&[2]);
        assert_eq!(written(&writer.direct_slice(0))[BLOCK..BLOCK + 3], [1, 2, 0]);
        assert_eq!(writer.chunk().len(), BLOCK + 2);
    }

    #[test]
    fn freed_memory_is_reused_last_first_up_to_the_bound() {
        let pool = ChunkPool::new(3 * BLOCK);
        let [one, two] = [pool.take(BLOCK), pool.take(2 * BLOCK)];
        let address = |writer: &ChunkWriter| writer.chunk().at(0) as usize;
        let (first, second) = (address(&one), address(&two));
        assert!(first.is_multiple_of(BLOCK) && second.is_multiple_of(BLOCK));
        drop(one);
        drop(two);
        assert_eq!(pool.shared.kept.lock().bytes, 3 * BLOCK);
        let (two, one) = (pool.take(2 * BLOCK), pool.take(BLOCK));
        assert_eq!((address(&one), address(&two)), (first, second));

        drop((one, two, pool.take(3 * BLOCK)));
        assert_eq!(pool.shared.kept.lock().memory.iter().map(|m| m.capacity).collect::<Vec<_>>(), [3 * BLOCK]);
        drop(pool.take(4 * BLOCK));
        assert_eq!(pool.shared.kept.lock().bytes, 3 * BLOCK, "what exceeds the bound evicts nothing");
        pool.trim();
        assert_eq!((pool.shared.kept.lock().bytes, pool.live_bytes()), (0, 0));
    }

    #[test]
    fn readers_on_other_threads_see_whole_appends_only() {
        const RECORD: usize = 64;
        let mut writer = ChunkPool::new(0).take(4 * BLOCK);
        let chunk = writer.chunk().clone();
        let reader = std::thread::spawn(move || {
            let mut seen = 0;
            while seen < chunk.capacity() {
                let len = chunk.len();
                assert!(len.is_multiple_of(RECORD));
                for record in chunk.slice(seen, len).chunks(RECORD) {
                    assert!(record.iter().all(|byte| *byte == (seen / RECORD) as u8));
                    seen += RECORD;
                }
            }
        });
        while writer.remaining() > 0 {
            let record = [(writer.chunk().len() / RECORD) as u8; RECORD];
            writer.append(&record);
        }
        reader.join().unwrap();
    }

    #[test]
    fn a_buffer_is_frozen_to_a_range() {
        let pool = ChunkPool::new(0);
        let mut buffer = pool.buffer(10);
        assert_eq!(buffer.as_mut_slice().len(), BLOCK);
        buffer.as_mut_slice()[..5].copy_from_slice(b"hello");
        assert_eq!(buffer.freeze(1..4), "ell");
        assert_eq!(pool.buffer(BLOCK + 1).as_mut_slice().len(), 2 * BLOCK);
        assert_eq!(pool.live_bytes(), 0);
    }

    #[test]
    fn iovecs_skip_what_is_done_and_stop_at_the_kernels_limit() {
        let parts: Vec<Part> = ["ab", "", "cd"].map(|text| Bytes::from_static(text.as_bytes()).into()).into();
        let lengths = |skip| iovecs(&parts, skip).iter().map(|iovec| iovec.iov_len).collect::<Vec<_>>();
        assert_eq!(lengths(0), [2, 2]);
        assert_eq!(lengths(1), [1, 2]);
        assert_eq!(lengths(2), [2]);
        assert_eq!(lengths(4), [0; 0]);
        assert_eq!(iovecs(&vec![parts[0].clone(); 2000], 0).len(), IOVECS_MAX);
    }
}
