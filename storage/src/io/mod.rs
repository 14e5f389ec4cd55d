//! The seam between the storage engine and the disk: open, read, write, sync, truncate, rename, list.
//! Policy (which file, when, in what order) lives above; system calls live below.

mod chunk;
pub use chunk::{Chunk, ChunkPool, ChunkWriter};

use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::Result;

/// O_DIRECT granularity that the write path uses: file offsets, lengths and chunk memory are multiples of it.
pub const BLOCK: usize = 4096;

/// How files are written and read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// io_uring with O_DIRECT into preallocated space.
    Uring,
    /// pwrite/pread through the page cache; no preallocation.
    Plain,
}

/// The disk, as the engine sees it. Cheap to clone; shared by all threads.
#[derive(Clone, Debug)]
pub struct Io {/* private */}

#[derive(Clone, Copy, Debug, Default)]
pub struct OpenOptions {
    /// Create the file if it is not there (the directory is *not* synced; see [`Io::sync_dir`]).
    pub create: bool,
    /// Open for reading only.
    pub read_only: bool,
    /// For log segments on the write path: O_DIRECT where the backend is `Uring`. Ignored by `Plain`.
    pub direct: bool,
}

impl Io {
    /// Probes `dir`: io_uring and O_DIRECT there, or `Plain`, said once in the log with the reason.
    pub fn probe(dir: &Path) -> Io {
        todo!()
    }
    pub fn plain() -> Io {
        todo!()
    }
    pub fn backend(&self) -> Backend {
        todo!()
    }

    // Namespace operations: rare, synchronous.
    pub fn create_dir_all(&self, dir: &Path) -> Result<()> {
        todo!()
    }
    /// Names (not paths) of the entries of `dir`, sorted.
    pub fn list(&self, dir: &Path) -> Result<Vec<String>> {
        todo!()
    }
    pub fn exists(&self, path: &Path) -> bool {
        todo!()
    }
    pub fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        todo!()
    }
    /// Ok if the file is already gone.
    pub fn remove_file(&self, path: &Path) -> Result<()> {
        todo!()
    }
    pub fn remove_dir_all(&self, path: &Path) -> Result<()> {
        todo!()
    }
    pub fn sync_dir(&self, dir: &Path) -> Result<()> {
        todo!()
    }
    /// The whole of a small file (checkpoints, meta.properties); None if it is not there.
    pub fn read_small(&self, path: &Path) -> Result<Option<Vec<u8>>> {
        todo!()
    }
    /// Replaces `path` with `content`: temporary file, fsync, rename, directory sync (Kafka's Utils.atomicMoveWithFallback).
    pub fn write_atomic(&self, path: &Path, content: &[u8]) -> Result<()> {
        todo!()
    }

    pub fn open(&self, path: &Path, options: OpenOptions) -> Result<File> {
        todo!()
    }
}

/// An open file. Cheap to clone (an Arc); closed when the last clone and the last operation in flight are gone.
#[derive(Clone, Debug)]
pub struct File {/* private */}

impl File {
    pub fn path(&self) -> &Path {
        todo!()
    }
    /// True if this descriptor is O_DIRECT: writes must be BLOCK aligned.
    pub fn is_direct(&self) -> bool {
        todo!()
    }

    // Synchronous, for start, recovery, index files and tests.
    pub fn len(&self) -> Result<u64> {
        todo!()
    }
    /// Reads until `buf` is full or the file ends; returns the bytes read. On an O_DIRECT file any alignment works.
    pub fn pread(&self, buf: &mut [u8], pos: u64) -> Result<usize> {
        todo!()
    }
    /// Writes all of `buf` (not for O_DIRECT files).
    pub fn pwrite(&self, buf: &[u8], pos: u64) -> Result<()> {
        todo!()
    }
    /// Reserves space up to `len` (fallocate mode 0: the length grows, the new space reads as zeros).
    pub fn allocate(&self, len: u64) -> Result<()> {
        todo!()
    }
    pub fn truncate(&self, len: u64) -> Result<()> {
        todo!()
    }
    pub fn sync_data_blocking(&self) -> Result<()> {
        todo!()
    }

    // On the runtime: through this thread's ring where there is one, else the plain system call.
    /// Writes all the bytes of `parts`, which are adjacent in the file from `pos` on. Handles short writes, EINTR,
    /// EAGAIN. The parts are held until the kernel is done with them even if the future is dropped.
    pub async fn write_at(&self, parts: Vec<Bytes>, pos: u64) -> Result<()> {
        todo!()
    }
    /// Reads up to `len` bytes at `pos`; short only at the end of the file.
    pub async fn read_at(&self, pos: u64, len: usize) -> Result<Bytes> {
        todo!()
    }
    pub async fn sync_data(&self) -> Result<()> {
        todo!()
    }
}

/// A range of a file to be sent to a client, read in pieces as the socket takes them.
#[derive(Clone, Debug)]
pub struct FileSlice {
    pub file: File,
    pub pos: u64,
    pub len: usize,
}

/// Gives this thread (a current_thread tokio runtime inside a LocalSet) its own ring, until the guard is dropped.
/// Without it `File`'s async operations fall back to plain system calls. Call inside the runtime's context.
pub fn install_ring(io: &Io) -> Result<RingGuard> {
    todo!()
}
pub struct RingGuard {/* private, !Send */}
