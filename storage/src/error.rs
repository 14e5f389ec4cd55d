//! The one error type of the storage crate: what went wrong with which file.

use std::io;
use std::path::PathBuf;

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused an operation on a file or directory.
    #[error("{op} {}: {source}", path.display())]
    Io { op: &'static str, path: PathBuf, source: io::Error },
    /// A file's content is not what its format allows.
    #[error("{}: {what}", path.display())]
    Corrupt { path: PathBuf, what: String },
    /// The log directory is in use by another process.
    #[error("{} is in use by another process: stop it, or set log.dirs to another directory", path.display())]
    Locked { path: PathBuf },
    /// The log takes no writes: one failed, or a sync did, or the disk is full and is not tried again yet.
    #[error("the log in {} takes no writes since one failed", path.display())]
    Offline { path: PathBuf },
}

impl Error {
    pub fn io(op: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Error {
        Error::Io { op, path: path.into(), source }
    }

    pub fn corrupt(path: impl Into<PathBuf>, what: impl Into<String>) -> Error {
        Error::Corrupt { path: path.into(), what: what.into() }
    }

    /// True when the cause is a full disk (ENOSPC or EDQUOT).
    pub fn is_no_space(&self) -> bool {
        matches!(self, Error::Io { source, .. }
            if matches!(source.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT)))
    }
}
