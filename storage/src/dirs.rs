//! One log directory: its lock, its clean-shutdown marker, partition directories' names, deletion in two steps.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use rustix::fs::{FlockOperation, Mode, OFlags, fcntl_lock, open};
use rustix::io::Errno;

use crate::io::Io;
use crate::{Error, Result};

pub const CLEAN_SHUTDOWN_FILE: &str = ".kafka_cleanshutdown";
const LOCK_FILE: &str = ".lock";
/// The longest file name most file systems take.
const MAX_NAME_BYTES: usize = 255;

/// POSIX locks do not exclude within one process: these directories are ours.
static LOCKED_HERE: Mutex<Option<HashSet<PathBuf>>> = Mutex::new(None);

/// Holds `.lock` until dropped: the POSIX lock that Java's FileChannel takes, so that Kafka and Ottla exclude each other.
#[derive(Debug)]
pub struct DirLock {
    path: PathBuf,
    _file: rustix::fd::OwnedFd,
}

impl Drop for DirLock {
    fn drop(&mut self) {
        if let Some(locked) = &mut *LOCKED_HERE.lock() {
            locked.remove(&self.path);
        }
    }
}

/// Creates the directory if need be; `Error::Locked` if another process (or this one) has it.
pub fn lock(io: &Io, dir: &Path) -> Result<DirLock> {
    io.create_dir_all(dir)?;
    let path = std::path::absolute(dir).map_err(|e| Error::io("resolve", dir, e))?;
    let lock_path = path.join(LOCK_FILE);
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
    let mut locked = LOCKED_HERE.lock();
    let locked = locked.get_or_insert_default();
    if locked.contains(&path) {
        return Err(Error::Locked { path });
    }
    let file = open(&lock_path, flags, Mode::from_raw_mode(0o644)).map_err(|e| Error::io("open", &lock_path, e.into()))?;
    match fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {
            locked.insert(path.clone());
            Ok(DirLock { path, _file: file })
        }
        Err(Errno::AGAIN | Errno::ACCESS) => Err(Error::Locked { path }),
        Err(e) => Err(Error::io("lock", lock_path, e.into())),
    }
}

/// Reads and removes the marker: true if the last stop was clean.
pub fn take_clean_shutdown(io: &Io, dir: &Path) -> Result<bool> {
    let path = dir.join(CLEAN_SHUTDOWN_FILE);
    let clean = io.exists(&path);
    if clean {
        io.remove_file(&path)?;
        io.sync_dir(dir)?;
    }
    Ok(clean)
}

/// Kafka's content: the format's version and the broker's epoch as JSON.
pub fn write_clean_shutdown(io: &Io, dir: &Path, broker_epoch: i64) -> Result<()> {
    let json = format!("{{\"version\":0,\"brokerEpoch\":{broker_epoch}}}");
    io.write_atomic(&dir.join(CLEAN_SHUTDOWN_FILE), json.as_bytes())
}

/// "topic-3" -> ("topic", 3); None for other names (also for -delete, -future, -stray).
pub fn parse_partition_dir(name: &str) -> Option<(&str, i32)> {
    let (topic, partition) = name.rsplit_once('-')?;
    let canonical = partition == "0" || (!partition.starts_with('0') && partition.bytes().all(|b| b.is_ascii_digit()));
    if topic.is_empty() || partition.is_empty() || !canonical {
        return None;
    }
    Some((topic, partition.parse().ok()?))
}

pub fn partition_dir(dir: &Path, topic: &str, partition: i32) -> PathBuf {
    dir.join(format!("{topic}-{partition}"))
}

/// Renames to `<topic>-<partition>.<unique id>-delete` as Kafka names it (the topic shortened where that would be too
/// long), syncs the parent; returns the new path.
pub fn rename_for_delete(io: &Io, partition_dir: &Path) -> Result<PathBuf> {
    let name = partition_dir.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    let parent = partition_dir.parent().unwrap_or(Path::new("."));
    let unique = uuid::Uuid::new_v4().simple().to_string();
    let renamed = parent.join(deletion_name(name, &unique));
    io.rename(partition_dir, &renamed)?;
    io.sync_dir(parent)?;
    Ok(renamed)
}

fn deletion_name(name: &str, unique: &str) -> String {
    let (topic, partition) = name.rsplit_once('-').unwrap_or((name, "0"));
    let suffix = format!("-{partition}.{unique}-delete");
    let kept: String = topic.chars().take(MAX_NAME_BYTES - suffix.len()).collect();
    kept + &suffix
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_locked_directory_is_refused_until_it_is_let_go() {
        let dir = tempfile::tempdir().unwrap();
        let io = Io::plain();
        let held = lock(&io, &dir.path().join("new")).unwrap();
        assert!(matches!(lock(&io, &dir.path().join("new")), Err(Error::Locked { .. })));
        drop(held);
        lock(&io, &dir.path().join("new")).unwrap();
    }

    #[test]
    fn the_clean_shutdown_marker_counts_once() {
        let dir = tempfile::tempdir().unwrap();
        let io = Io::plain();
        assert!(!take_clean_shutdown(&io, dir.path()).unwrap());
        write_clean_shutdown(&io, dir.path(), 7).unwrap();
        let text = std::fs::read_to_string(dir.path().join(CLEAN_SHUTDOWN_FILE)).unwrap();
        assert_eq!(text, r#"{"version":0,"brokerEpoch":7}"#);
        assert!(take_clean_shutdown(&io, dir.path()).unwrap());
        assert!(!take_clean_shutdown(&io, dir.path()).unwrap());
    }

    #[test]
    fn partition_directories_are_told_from_others() {
        assert_eq!(parse_partition_dir("a-0"), Some(("a", 0)));
        assert_eq!(parse_partition_dir("my.topic-x-17"), Some(("my.topic-x", 17)));
        assert_eq!(parse_partition_dir("__cluster_metadata-0"), Some(("__cluster_metadata", 0)));
        for other in ["a", "-0", "a-", "a-01", "a-x", "a-0.0123abcd-delete", "a-99999999999"] {
            assert_eq!(parse_partition_dir(other), None, "{other}");
        }
    }

    #[test]
    fn a_deleted_directory_keeps_to_the_longest_name() {
        let unique = "0123456789abcdef0123456789abcdef";
        assert_eq!(deletion_name("t-5", unique), format!("t-5.{unique}-delete"));
        let long = deletion_name(&format!("{}-12", "x".repeat(249)), unique);
        assert!(long.len() == MAX_NAME_BYTES && long.ends_with(&format!("-12.{unique}-delete")));
    }
}
