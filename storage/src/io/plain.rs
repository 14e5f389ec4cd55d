//! The system calls that need neither a ring nor `unsafe`: the namespace, opening, space, sync and blocking
//! transfers. What they mean for the log is decided above.

use std::fs::{self, File, OpenOptions as Options};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{Advice, FallocateFlags, SeekFrom};
use rustix::io::{Errno, ReadWriteFlags};

use super::handle::Handle;
use crate::{Error, Result};

/// What most of the small files fit into.
const SMALL_BYTES: usize = 4096;

/// Names `op` and `path` in the error.
pub(super) fn named<T>(op: &'static str, path: &Path, result: io::Result<T>) -> Result<T> {
    result.map_err(|source| Error::io(op, path, source))
}

/// What was to be removed may be gone already.
fn gone_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

pub(super) fn create_dir_all(dir: &Path) -> Result<()> {
    named("create directory", dir, fs::create_dir_all(dir))
}

pub(super) fn list(dir: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(dir)
        .and_then(|entries| entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect());
    let mut names: Vec<String> = named("list", dir, entries)?;
    names.sort_unstable();
    Ok(names)
}

pub(super) fn rename(from: &Path, to: &Path) -> Result<()> {
    named("rename", from, fs::rename(from, to))
}

pub(super) fn remove_file(path: &Path) -> Result<()> {
    named("remove", path, gone_is_fine(fs::remove_file(path)))
}

pub(super) fn remove_dir_all(path: &Path) -> Result<()> {
    named("remove directory", path, gone_is_fine(fs::remove_dir_all(path)))
}

pub(super) fn sync_dir(dir: &Path) -> Result<()> {
    named("sync directory", dir, File::open(dir).and_then(|dir| dir.sync_all()))
}

pub(super) fn sync_file_system(dir: &Path) -> Result<()> {
    named("sync file system of", dir, File::open(dir).and_then(|dir| Ok(rustix::fs::syncfs(dir)?)))
}

/// Of most files in three system calls: a start reads tens of thousands.
pub(super) fn read_small(path: &Path) -> Result<Option<Vec<u8>>> {
    let read = || {
        let mut file = File::open(path)?;
        let mut content = vec![0; SMALL_BYTES];
        let read = file.read(&mut content)?;
        content.truncate(read);
        // A read that comes short has met the file's end.
        if read == SMALL_BYTES {
            file.read_to_end(&mut content)?;
        }
        io::Result::Ok(content)
    };
    match read() {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        content => named("read", path, content).map(Some),
    }
}

/// Whether the byte at `pos` can be read without waiting for the disk. An error or the end of the file is found by
/// whoever reads.
pub(super) fn is_cached(file: &File, pos: u64) -> bool {
    let mut byte = [0];
    let read = rustix::io::preadv2(file, &mut [io::IoSliceMut::new(&mut byte)], pos, ReadWriteFlags::NOWAIT);
    read != Err(rustix::io::Errno::AGAIN)
}

/// This advice begins to write back what is dirty; that it drops what is not is the price where there is no ring.
pub(super) fn write_back(file: &File, pos: u64, len: u64) -> io::Result<()> {
    Ok(rustix::fs::fadvise(file, pos, std::num::NonZeroU64::new(len), Advice::DontNeed)?)
}

/// The handle, and whether it is O_DIRECT: a file system may refuse that, and then the page cache does.
pub(super) fn open(path: &Path, create: bool, read_only: bool, direct: bool) -> Result<(File, bool)> {
    let mut options = Options::new();
    options.read(true).write(!read_only).create(create && !read_only);
    if direct {
        match options.clone().custom_flags(libc::O_DIRECT).open(path) {
            Err(e) if e.raw_os_error() == Some(libc::EINVAL) => {}
            opened => return named("open", path, opened).map(|handle| (handle, true)),
        }
    }
    named("open", path, options.open(path)).map(|handle| (handle, false))
}

pub(super) fn exists(path: &Path) -> bool {
    path.exists()
}

pub(super) fn is_dir(path: &Path) -> bool {
    path.is_dir()
}

/// Writes all of `buf`.
pub(super) fn write_full(handle: &Handle, buf: &[u8], pos: u64) -> io::Result<()> {
    let mut done = 0;
    while done < buf.len() {
        match handle.write_at(&buf[done..], pos + done as u64) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => done += written,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Reads until `buf` is full or the file ends.
pub(super) fn read_full(handle: &Handle, buf: &mut [u8], pos: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < buf.len() {
        match handle.read_at(&mut buf[done..], pos + done as u64) {
            Ok(0) => break,
            Ok(read) => done += read,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(done)
}

pub(super) fn allocate(file: &File, len: u64) -> io::Result<()> {
    loop {
        match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, len) {
            Err(Errno::INTR) => {}
            result => return Ok(result?),
        }
    }
}

/// A file system that knows of no holes takes the whole file for data.
pub(super) fn next_hole(file: &File, pos: u64) -> io::Result<u64> {
    match rustix::fs::seek(file, SeekFrom::Hole(pos)) {
        Err(Errno::INVAL) => file.metadata().map(|metadata| metadata.len()),
        Err(Errno::NXIO) => Ok(pos),
        result => Ok(result?),
    }
}

pub(super) fn next_data(file: &File, pos: u64) -> io::Result<Option<u64>> {
    match rustix::fs::seek(file, SeekFrom::Data(pos)) {
        Err(Errno::INVAL) => file.metadata().map(|metadata| Some(pos).filter(|pos| *pos < metadata.len())),
        Err(Errno::NXIO) => Ok(None),
        result => Ok(Some(result?)),
    }
}
