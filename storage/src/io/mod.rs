//! The seam between the storage engine and the disk: open, read, write, sync, truncate, rename, list.
//! Policy (which file, when, in what order) lives above; system calls live below.

mod chunk;
mod op;
mod plain;
mod uring;

pub use chunk::{Chunk, ChunkPool, ChunkWriter, DirectSlice, HUGE_PAGE_BYTES, Part};
pub use uring::{RingGuard, install_ring};

use std::fs::File as Handle;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::{Error, Result};
use op::Op;
use plain::named;

/// O_DIRECT granularity that the write path uses: file offsets, lengths and chunk memory are multiples of it.
pub const BLOCK: usize = 4096;

/// Memory of finished reads that is kept for the next ones, for all threads together.
const KEEP_READ_BYTES: usize = 8 << 20;

/// What is sent of a file is read in pieces of this size, or, while reads hold more than so much memory, smaller ones.
const PIECE_BYTES: usize = 1 << 20;
const SMALL_PIECE_BYTES: usize = 64 << 10;
const PIECES_BYTES: usize = 32 << 20;

/// How a cold file is brought into the page cache.
const WARM_BYTES: usize = 128 << 10;

/// A direct file is read at odd positions through memory of at most so much at a time.
const BOUNCE_BYTES: usize = 256 << 10;

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
pub struct Io {
    backend: Backend,
    /// Memory for reads.
    buffers: ChunkPool,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct OpenOptions {
    /// Create the file if it is not there (the directory is *not* synced; see [`Io::sync_dir`]).
    pub create: bool,
    /// Open for reading only.
    pub read_only: bool,
    /// For log segments on the write path: O_DIRECT where the backend is `Uring` and the file system allows it (see
    /// [`File::is_direct`]). Ignored by `Plain`.
    pub direct: bool,
}

impl Io {
    /// Probes `dir`: io_uring and O_DIRECT there, or `Plain`, said once in the log with the reason.
    pub fn probe(dir: &Path) -> Io {
        let uring = Io::new(Backend::Uring);
        match uring::probe(&uring, dir) {
            Ok(()) => uring,
            Err(e) => {
                tracing::warn!("io_uring with O_DIRECT is refused, files go through the page cache: {e}");
                Io::plain()
            }
        }
    }

    pub fn plain() -> Io {
        Io::new(Backend::Plain)
    }

    fn new(backend: Backend) -> Io {
        Io { backend, buffers: ChunkPool::new(KEEP_READ_BYTES) }
    }

    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// Gives memory that is kept for reads back to the system; for when the broker is idle.
    pub fn trim(&self) {
        self.buffers.trim();
    }

    // Namespace operations: rare, synchronous.
    pub fn create_dir_all(&self, dir: &Path) -> Result<()> {
        plain::create_dir_all(dir)
    }

    /// Names (not paths) of the entries of `dir`, sorted.
    pub fn list(&self, dir: &Path) -> Result<Vec<String>> {
        plain::list(dir)
    }

    pub fn exists(&self, path: &Path) -> bool {
        path.exists()
    }

    pub fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        plain::rename(from, to)
    }

    /// Ok if the file is already gone.
    pub fn remove_file(&self, path: &Path) -> Result<()> {
        plain::remove_file(path)
    }

    /// Ok if the directory is already gone.
    pub fn remove_dir_all(&self, path: &Path) -> Result<()> {
        plain::remove_dir_all(path)
    }

    pub fn sync_dir(&self, dir: &Path) -> Result<()> {
        plain::sync_dir(dir)
    }

    /// The whole of a small file (checkpoints, meta.properties); None if it is not there.
    pub fn read_small(&self, path: &Path) -> Result<Option<Vec<u8>>> {
        plain::read_small(path)
    }

    /// Replaces `path` with `content`: temporary file (`path` + ".tmp"), fsync, rename, directory sync.
    pub fn write_atomic(&self, path: &Path, content: &[u8]) -> Result<()> {
        plain::write_atomic(path, content)
    }

    pub fn open(&self, path: &Path, options: OpenOptions) -> Result<File> {
        let direct = options.direct && self.backend == Backend::Uring;
        let (handle, direct) = plain::open(path, options.create, options.read_only, direct)?;
        Ok(File { inner: Arc::new(Inner { handle, path: path.to_owned(), direct, io: self.clone() }) })
    }
}

/// An open file. Cheap to clone (an Arc); closed when the last clone and the last operation in flight are gone.
#[derive(Clone, Debug)]
pub struct File {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    handle: Handle,
    path: PathBuf,
    direct: bool,
    io: Io,
}

impl File {
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// True if this descriptor is O_DIRECT: writes must be BLOCK aligned.
    pub fn is_direct(&self) -> bool {
        self.inner.direct
    }

    fn handle(&self) -> &Handle {
        &self.inner.handle
    }

    fn buffers(&self) -> &ChunkPool {
        &self.inner.io.buffers
    }

    fn named<T>(&self, op: &'static str, result: std::io::Result<T>) -> Result<T> {
        named(op, self.path(), result)
    }

    // Synchronous, for start, recovery, index files and tests.
    pub fn len(&self) -> Result<u64> {
        self.named("stat", self.handle().metadata()).map(|metadata| metadata.len())
    }

    pub fn is_empty(&self) -> Result<bool> {
        self.len().map(|len| len == 0)
    }

    /// Reads until `buf` is full or the file ends; returns the bytes read. On an O_DIRECT file any alignment works.
    pub fn pread(&self, buf: &mut [u8], pos: u64) -> Result<usize> {
        if !self.is_direct() {
            return self.named("read", plain::read_full(self.handle(), buf, pos));
        }
        let mut done = 0;
        while done < buf.len() {
            let wanted = (buf.len() - done).min(BOUNCE_BYTES);
            let piece = self.read_blocking(pos + done as u64, wanted)?;
            buf[done..][..piece.len()].copy_from_slice(&piece);
            done += piece.len();
            if piece.len() < wanted {
                break;
            }
        }
        Ok(done)
    }

    /// Writes all of `buf` (not for O_DIRECT files).
    pub fn pwrite(&self, buf: &[u8], pos: u64) -> Result<()> {
        debug_assert!(!self.is_direct(), "{} is O_DIRECT", self.path().display());
        self.named("write", self.handle().write_all_at(buf, pos))
    }

    /// Reserves space up to `len` (fallocate mode 0: the length grows, the new space reads as zeros).
    pub fn allocate(&self, len: u64) -> Result<()> {
        self.named("allocate", plain::allocate(self.handle(), len))
    }

    /// Begins to write back what is dirty in the page cache, and drops what is not.
    pub fn drop_cached(&self, pos: u64, len: u64) -> Result<()> {
        self.named("advise", plain::drop_cached(self.handle(), pos, len))
    }

    pub fn truncate(&self, len: u64) -> Result<()> {
        self.named("truncate", self.handle().set_len(len))
    }

    pub fn sync_data_blocking(&self) -> Result<()> {
        self.named("sync", self.handle().sync_data())
    }

    // On the runtime: through this thread's ring where there is one, else the plain system call.
    /// Writes all the bytes of `parts`, which are adjacent in the file from `pos` on. Handles short writes, EINTR,
    /// EAGAIN. The parts are held until the kernel is done with them even if the future is dropped.
    /// On a direct file `pos` and each part must be whole blocks, into allocated space (the kernel hands a write that
    /// extends the file to a worker thread).
    pub async fn write_at(&self, parts: Vec<Part>, pos: u64) -> Result<()> {
        let op = Op::write(self, parts, pos);
        // A buffered write on the ring would be handed to a kernel worker, at many times the cost.
        let (op, result) = if self.is_direct() { uring::run(op).await } else { op.run() };
        self.named(op.name(), result)
    }

    /// Reads up to `len` bytes at `pos`; short only at the end of the file.
    pub async fn read_at(&self, pos: u64, len: usize) -> Result<Bytes> {
        if len == 0 {
            return Ok(Bytes::new());
        }
        let op = Op::read(self, pos, len);
        let (op, result) = if self.inner.io.backend == Backend::Uring { uring::run(op).await } else { op.run() };
        self.named(op.name(), result).map(|()| op.into_bytes())
    }

    /// A piece from `pos` on that is at most `len` bytes: as much as [`File::read_at`] should be asked for at a time.
    pub fn piece(&self, pos: u64, len: usize) -> usize {
        let piece = if self.buffers().live_bytes() < PIECES_BYTES { PIECE_BYTES } else { SMALL_PIECE_BYTES };
        // Ends at a block, so that direct reads but the first need no more blocks than they have bytes for.
        len.min(piece - pos as usize % BLOCK)
    }

    /// Whether `len` bytes at `pos` seem to be in the page cache, so that sending them does not wait for the disk.
    pub fn is_cached(&self, pos: u64, len: usize) -> bool {
        let last = pos + len.saturating_sub(1) as u64;
        plain::is_cached(self.handle(), pos) && plain::is_cached(self.handle(), last)
    }

    /// Brings `len` bytes at `pos` into the page cache, and has the kernel read ahead; waits on another thread.
    pub async fn warm(&self, pos: u64, len: usize) -> Result<()> {
        let file = self.clone();
        self.on_another_thread("read", move || {
            let mut scratch = vec![0; WARM_BYTES.min(len)];
            for at in (pos..pos + len as u64).step_by(WARM_BYTES) {
                file.pread(&mut scratch, at)?;
            }
            Ok(())
        })
        .await
    }

    /// `sendfile`: sends up to `len` bytes at `pos` without a copy, as many as the socket takes; returns how many, 0 at
    /// the end of the file. Waits for the disk unless [`File::is_cached`].
    pub fn send_to(&self, socket: impl AsFd, mut pos: u64, len: usize) -> std::io::Result<usize> {
        Ok(rustix::fs::sendfile(socket, self.handle(), Some(&mut pos), len)?)
    }

    /// Waits, on another thread, until all that was written is on the disk.
    pub async fn sync_data(&self) -> Result<()> {
        let file = self.clone();
        self.on_another_thread("sync", move || file.sync_data_blocking()).await
    }

    async fn on_another_thread(
        &self,
        name: &'static str,
        work: impl FnOnce() -> Result<()> + Send + 'static,
    ) -> Result<()> {
        match tokio::task::spawn_blocking(work).await {
            Ok(result) => result,
            Err(stopped) => Err(Error::io(name, self.path(), std::io::Error::other(stopped))),
        }
    }

    /// Reads up to `len` bytes at `pos` on this thread; short only at the end of the file.
    pub fn read_blocking(&self, pos: u64, len: usize) -> Result<Bytes> {
        let (op, result) = Op::read(self, pos, len).run();
        self.named(op.name(), result).map(|()| op.into_bytes())
    }

    /// The same file, treated as O_DIRECT by the rules of alignment.
    #[cfg(test)]
    fn pretend_direct(self) -> File {
        let inner = Arc::into_inner(self.inner).expect("the only clone");
        File { inner: Arc::new(Inner { direct: true, ..inner }) }
    }
}

/// A range of a file to be sent to a client: straight from the page cache, or, if the file [is
/// direct](File::is_direct), read in pieces as the socket takes them.
#[derive(Clone, Debug)]
pub struct FileSlice {
    pub file: File,
    pub pos: u64,
    pub len: usize,
}
