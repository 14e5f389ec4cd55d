//! An open descriptor: the system's, or in tests a file of the simulated disk. Its methods are single system calls: they
//! may transfer less than was asked for, which `op.rs` and `mod.rs` handle for both.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::fs::FileExt;

use super::chunk::{self, Part};
use super::plain;
#[cfg(any(test, feature = "sim"))]
use super::sim::SimFile;

#[derive(Debug)]
pub(super) enum Handle {
    System(File),
    #[cfg(any(test, feature = "sim"))]
    Simulated(SimFile),
}

/// The same call on either kind.
macro_rules! call {
    ($handle:expr, $file:ident => $system:expr, $simulated:expr) => {
        match $handle {
            Handle::System($file) => $system,
            #[cfg(any(test, feature = "sim"))]
            Handle::Simulated($file) => $simulated,
        }
    };
}

impl Handle {
    pub fn len(&self) -> io::Result<u64> {
        call!(self, file => file.metadata().map(|metadata| metadata.len()), file.len())
    }

    /// Where the data that begins at `pos` ends: the file's end, or space that nothing was written to.
    pub fn next_hole(&self, pos: u64) -> io::Result<u64> {
        call!(self, file => plain::next_hole(file, pos), file.len())
    }

    /// Where data begins, at `pos` or after it; None if there is nothing but unwritten space.
    pub fn next_data(&self, pos: u64) -> io::Result<Option<u64>> {
        call!(self, file => plain::next_data(file, pos), file.len().map(|len| Some(pos).filter(|pos| *pos < len)))
    }

    pub fn read_at(&self, buf: &mut [u8], pos: u64) -> io::Result<usize> {
        call!(self, file => file.read_at(buf, pos), file.read_at(buf, pos))
    }

    pub fn write_at(&self, buf: &[u8], pos: u64) -> io::Result<usize> {
        call!(self, file => file.write_at(buf, pos), file.write_at(buf, pos))
    }

    /// Writes `parts` without their first `skip` bytes.
    pub fn write_parts_at(&self, parts: &[Part], skip: usize, pos: u64) -> io::Result<usize> {
        call!(
            self,
            file => chunk::pwritev(file.as_fd(), parts, skip, pos),
            file.write_at(&chunk::copied(parts, skip), pos)
        )
    }

    pub fn allocate(&self, len: u64) -> io::Result<()> {
        call!(self, file => plain::allocate(file, len), file.allocate(len))
    }

    pub fn set_len(&self, len: u64) -> io::Result<()> {
        call!(self, file => file.set_len(len), file.set_len(len))
    }

    pub fn sync_data(&self) -> io::Result<()> {
        call!(self, file => file.sync_data(), file.sync_data())
    }

    /// What a write with O_DSYNC promises: these bytes are on the disk, and whatever it takes to find them.
    pub fn sync_range(&self, pos: u64, len: u64) -> io::Result<()> {
        // The system call for a range promises less.
        let (_pos, _len) = (pos, len);
        call!(self, file => file.sync_data(), file.sync_range(_pos, _len))
    }

    pub fn is_cached(&self, pos: u64) -> bool {
        match self {
            Handle::System(file) => plain::is_cached(file, pos),
            #[cfg(any(test, feature = "sim"))]
            Handle::Simulated(_) => true,
        }
    }

    pub fn write_back(&self, pos: u64, len: u64) -> io::Result<()> {
        match self {
            Handle::System(file) => plain::write_back(file, pos, len),
            #[cfg(any(test, feature = "sim"))]
            Handle::Simulated(_) => Ok(()),
        }
    }

    /// For a ring, which only real files get to.
    pub fn as_raw_fd(&self) -> RawFd {
        call!(self, file => file.as_raw_fd(), unreachable!("{file:?} has no descriptor"))
    }
}

/// For a socket to be sent from, which only real files are.
impl AsFd for Handle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        call!(self, file => file.as_fd(), unreachable!("{file:?} has no descriptor"))
    }
}
