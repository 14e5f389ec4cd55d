//! The seam between the storage engine and the disk: open, read, write, sync, truncate, rename, list.
//! Policy (which file, when, in what order) lives above; system calls live below.

mod chunk;
mod handle;
mod op;
mod plain;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
mod uring;

pub use chunk::{Chunk, ChunkPool, ChunkWriter, DirectSlice, HUGE_PAGE_BYTES, Part};
pub use uring::{RingGuard, install_ring};

use std::ffi::OsString;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use uuid::Uuid;

use crate::Result;
use handle::Handle;
use op::Op;
use plain::named;
#[cfg(any(test, feature = "sim"))]
use sim::SimDisk;

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

/// Where files are.
#[derive(Clone, Debug)]
enum Disk {
    System,
    #[cfg(any(test, feature = "sim"))]
    Simulated(SimDisk),
}

/// The same call on either disk.
macro_rules! on_disk {
    ($io:expr, $call:ident($($argument:expr),*)) => {
        match &$io.disk {
            Disk::System => plain::$call($($argument),*),
            #[cfg(any(test, feature = "sim"))]
            Disk::Simulated(disk) => disk.$call($($argument),*),
        }
    };
}

/// The disk, as the engine sees it. Cheap to clone; shared by all threads.
#[derive(Clone, Debug)]
pub struct Io {
    backend: Backend,
    disk: Disk,
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
        Io { backend, disk: Disk::System, buffers: ChunkPool::new(KEEP_READ_BYTES) }
    }

    /// Files of the simulated disk, written in the way of `backend`.
    #[cfg(any(test, feature = "sim"))]
    pub fn simulated(disk: &SimDisk, backend: Backend) -> Io {
        Io { disk: Disk::Simulated(disk.clone()), ..Io::new(backend) }
    }

    /// One thread does everything, so that a run can be repeated.
    pub(crate) fn is_simulated(&self) -> bool {
        !matches!(self.disk, Disk::System)
    }

    /// Does `work` where it may block: on another thread.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        match &self.disk {
            Disk::System => match tokio::task::spawn_blocking(work).await {
                Ok(result) => result,
                Err(stopped) => match stopped.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    // The runtime is going, and this task with it.
                    Err(_) => std::future::pending().await,
                },
            },
            #[cfg(any(test, feature = "sim"))]
            Disk::Simulated(_) => sim::in_turn(work).await,
        }
    }

    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// Gives memory that is kept for reads back to the system; for when the broker is idle.
    pub fn trim(&self) {
        self.buffers.trim();
    }

    /// For a name that no other file has.
    pub fn unique_id(&self) -> Uuid {
        match &self.disk {
            Disk::System => Uuid::new_v4(),
            #[cfg(any(test, feature = "sim"))]
            Disk::Simulated(disk) => disk.unique_id(),
        }
    }

    // Namespace operations: rare, synchronous.
    pub fn create_dir_all(&self, dir: &Path) -> Result<()> {
        on_disk!(self, create_dir_all(dir))
    }

    /// Names (not paths) of the entries of `dir`, sorted.
    pub fn list(&self, dir: &Path) -> Result<Vec<String>> {
        on_disk!(self, list(dir))
    }

    pub fn exists(&self, path: &Path) -> bool {
        on_disk!(self, exists(path))
    }

    pub fn is_dir(&self, path: &Path) -> bool {
        on_disk!(self, is_dir(path))
    }

    pub fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        on_disk!(self, rename(from, to))
    }

    /// Ok if the file is already gone.
    pub fn remove_file(&self, path: &Path) -> Result<()> {
        on_disk!(self, remove_file(path))
    }

    /// Ok if the directory is already gone.
    pub fn remove_dir_all(&self, path: &Path) -> Result<()> {
        on_disk!(self, remove_dir_all(path))
    }

    pub fn sync_dir(&self, dir: &Path) -> Result<()> {
        on_disk!(self, sync_dir(dir))
    }

    /// All that was written to the file system of `dir` so far survives power loss, names included.
    pub fn sync_file_system(&self, dir: &Path) -> Result<()> {
        on_disk!(self, sync_file_system(dir))
    }

    /// The whole of a small file (checkpoints, meta.properties); None if it is not there.
    pub fn read_small(&self, path: &Path) -> Result<Option<Vec<u8>>> {
        on_disk!(self, read_small(path))
    }

    /// Replaces `path` with `content`: temporary file (`path` + ".tmp"), fsync, rename, directory sync.
    pub fn write_atomic(&self, path: &Path, content: &[u8]) -> Result<()> {
        self.replace(path, content)?;
        match path.parent() {
            Some(dir) if dir.as_os_str().is_empty() => self.sync_dir(Path::new(".")),
            Some(dir) => self.sync_dir(dir),
            None => Ok(()),
        }
    }

    /// The same without the directory sync: after a power loss it is the old content or the new, and both whole.
    pub fn replace(&self, path: &Path, content: &[u8]) -> Result<()> {
        let mut temporary: OsString = path.into();
        temporary.push(".tmp");
        let temporary = PathBuf::from(temporary);
        let replaced = self.write_synced(&temporary, content).and_then(|()| self.rename(&temporary, path));
        if replaced.is_err() {
            let _ = self.remove_file(&temporary); // the error that matters is the first
        }
        replaced
    }

    fn write_synced(&self, path: &Path, content: &[u8]) -> Result<()> {
        let file = self.open(path, OpenOptions { create: true, ..OpenOptions::default() })?;
        file.truncate(0)?;
        file.pwrite(content, 0)?;
        // It is thrown away if this fails, and made anew: a full disk may be waited out.
        file.named("sync", file.handle().sync_data())
    }

    pub fn open(&self, path: &Path, options: OpenOptions) -> Result<File> {
        let OpenOptions { create, read_only, direct } = options;
        let direct = direct && self.backend == Backend::Uring;
        let (handle, direct) = match &self.disk {
            Disk::System => {
                plain::open(path, create, read_only, direct).map(|(file, direct)| (Handle::System(file), direct))?
            }
            #[cfg(any(test, feature = "sim"))]
            Disk::Simulated(disk) => (Handle::Simulated(disk.open(path, create, read_only)?), direct),
        };
        let sync_failed = AtomicBool::new(false);
        Ok(File { inner: Arc::new(Inner { handle, path: path.to_owned(), direct, sync_failed, io: self.clone() }) })
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
    sync_failed: AtomicBool,
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
        self.named("stat", self.handle().len())
    }

    /// Where the data that begins at `pos` ends: the file's end, or space that nothing was written to (which may also
    /// count as data).
    pub fn next_hole(&self, pos: u64) -> Result<u64> {
        self.named("lseek", self.handle().next_hole(pos))
    }

    /// Where data begins, at `pos` or after it; None if there is nothing but unwritten space up to the file's end.
    pub fn next_data(&self, pos: u64) -> Result<Option<u64>> {
        self.named("lseek", self.handle().next_data(pos))
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
        self.named("write", plain::write_full(self.handle(), buf, pos))
    }

    /// Reserves space up to `len` (fallocate mode 0: the length grows, the new space reads as zeros).
    pub fn allocate(&self, len: u64) -> Result<()> {
        self.named("allocate", self.handle().allocate(len))
    }

    pub fn truncate(&self, len: u64) -> Result<()> {
        self.named("truncate", self.handle().set_len(len))
    }

    pub fn sync_data_blocking(&self) -> Result<()> {
        self.synced(self.handle().sync_data())
    }

    /// A sync that failed has lost what it should have written, and the kernel says so only once: from then on all fail.
    /// For lack of space too, which must not be taken for one that can be waited out.
    fn synced(&self, result: std::io::Result<()>) -> Result<()> {
        let failed = &self.inner.sync_failed;
        let result = match result {
            Err(error) => {
                failed.store(true, Ordering::Release);
                Err(std::io::Error::other(format!("what was written may be lost: {error}")))
            }
            Ok(()) if failed.load(Ordering::Acquire) => {
                Err(std::io::Error::other("an earlier sync of this file failed"))
            }
            Ok(()) => Ok(()),
        };
        self.named("sync", result)
    }

    // On the runtime: through this thread's ring where there is one, else the plain system call.
    /// Writes all the bytes of `parts`, which are adjacent in the file from `pos` on. Handles short writes, EINTR,
    /// EAGAIN. The parts are held until the kernel is done with them even if the future is dropped.
    /// On a direct file `pos` and each part must be whole blocks, into allocated space (the kernel hands a write that
    /// extends the file to a worker thread).
    pub async fn write_at(&self, parts: Vec<Part>, pos: u64) -> Result<()> {
        let op = Op::write(self, parts, pos, false);
        // A buffered write on the ring would be handed to a kernel worker, at many times the cost.
        let (op, result) = if self.is_direct() { self.run(op).await } else { op.run() };
        self.named(op.name(), result)
    }

    /// The same, and when it is done these bytes, though not others that were written before, survive power loss. On a
    /// ring that costs no other thread, and the disk flushes for several at once.
    pub async fn write_durably_at(&self, parts: Vec<Part>, pos: u64) -> Result<()> {
        if !self.is_direct() {
            self.write_at(parts, pos).await?;
            return self.sync_data().await;
        }
        let (op, result) = self.run(Op::write(self, parts, pos, true)).await;
        self.named(op.name(), result)
    }

    /// Waits, off this thread, for what the kernel is writing back of this range, and has it begin with the rest. An
    /// error is that of an earlier write, and is reported only once, as with a sync.
    pub async fn write_back(&self, pos: u64, len: u64) -> Result<()> {
        let op = Op::write_back(self, pos, len as usize);
        let (_, result) = self.run(op).await;
        if result.is_err() { self.synced(result) } else { Ok(()) }
    }

    /// Reads up to `len` bytes at `pos`; short only at the end of the file.
    pub async fn read_at(&self, pos: u64, len: usize) -> Result<Bytes> {
        if len == 0 {
            return Ok(Bytes::new());
        }
        let op = Op::read(self, pos, len);
        let (op, result) = self.run(op).await;
        self.named(op.name(), result).map(|()| op.into_bytes())
    }

    async fn run(&self, op: Op) -> (Op, std::io::Result<()>) {
        if self.inner.io.backend == Backend::Plain {
            return op.run();
        }
        match &self.inner.io.disk {
            Disk::System => uring::run(op).await,
            #[cfg(any(test, feature = "sim"))]
            Disk::Simulated(_) => sim::run(op).await,
        }
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
        self.handle().is_cached(pos) && self.handle().is_cached(last)
    }

    /// Brings `len` bytes at `pos` into the page cache, and has the kernel read ahead; waits on another thread.
    pub async fn warm(&self, pos: u64, len: usize) -> Result<()> {
        let file = self.clone();
        let read = move || {
            let mut scratch = vec![0; WARM_BYTES.min(len)];
            for at in (pos..pos + len as u64).step_by(WARM_BYTES) {
                file.pread(&mut scratch, at)?;
            }
            Ok(())
        };
        self.inner.io.blocking(read).await
    }

    /// `sendfile`: sends up to `len` bytes at `pos` without a copy, as many as the socket takes; returns how many, 0 at
    /// the end of the file. Waits for the disk unless [`File::is_cached`].
    pub fn send_to(&self, socket: impl AsFd, mut pos: u64, len: usize) -> std::io::Result<usize> {
        Ok(rustix::fs::sendfile(socket, self.handle(), Some(&mut pos), len)?)
    }

    /// Waits, on another thread, until all that was written is on the disk.
    pub async fn sync_data(&self) -> Result<()> {
        let file = self.clone();
        #[cfg(any(test, feature = "sim"))]
        if let Handle::Simulated(simulated) = self.handle() {
            let sync = simulated.begin_sync();
            return self.inner.io.blocking(move || file.synced(sync())).await;
        }
        self.inner.io.blocking(move || file.sync_data_blocking()).await
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
