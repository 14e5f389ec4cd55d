//! One log directory: its lock, its clean-shutdown marker, partition directories' names, deletion in two steps.

use std::path::{Path, PathBuf};

use crate::Result;
use crate::io::Io;

pub const CLEAN_SHUTDOWN_FILE: &str = ".kafka_cleanshutdown";

/// Holds `.lock` (flock-compatible with Kafka's FileChannel lock, i.e. fcntl) until dropped.
#[derive(Debug)]
pub struct DirLock {/* private */}
/// Creates the directory if need be; `Error::Locked` if another process has it.
pub fn lock(io: &Io, dir: &Path) -> Result<DirLock> {
    todo!()
}

/// Reads and removes the marker: true if the last stop was clean.
pub fn take_clean_shutdown(io: &Io, dir: &Path) -> Result<bool> {
    todo!()
}
/// Kafka's content: {"version":0,"brokerEpoch":N}.
pub fn write_clean_shutdown(io: &Io, dir: &Path, broker_epoch: i64) -> Result<()> {
    todo!()
}

/// "topic-3" -> ("topic", 3); None for other names (also for -delete, -future, -stray).
pub fn parse_partition_dir(name: &str) -> Option<(&str, i32)> {
    todo!()
}
pub fn partition_dir(dir: &Path, topic: &str, partition: i32) -> PathBuf {
    todo!()
}
/// Renames to `<topic>-<partition>.<uniqueId>-delete` as Kafka names it, syncs the parent; returns the new path.
pub fn rename_for_delete(io: &Io, partition_dir: &Path) -> Result<PathBuf> {
    todo!()
}
