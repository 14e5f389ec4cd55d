//! One log directory: its lock, its clean-shutdown marker, partition directories' names, deletion in two steps.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use rustix::fs::FlockOperation;
use uuid::Uuid;

use crate::io::Io;
use crate::{Error, Result};

pub const CLEAN_SHUTDOWN_FILE: &str = ".kafka_cleanshutdown";
const LOCK_FILE: &str = ".lock";
/// The longest name of a file that file systems take.
const MAX_NAME_BYTES: usize = 255;

/// Lock files (device, inode) that this process holds. The system's lock excludes other processes only; worse, closing
/// any descriptor of a locked file drops the lock, so a file in here must not even be opened.
static HELD: Mutex<BTreeSet<(u64, u64)>> = Mutex::new(BTreeSet::new());

/// Holds `.lock` (flock-compatible with Kafka's FileChannel lock, i.e. fcntl) until dropped.
#[derive(Debug)]
pub struct DirLock {
    /// Some until dropped.
    file: Option<File>,
    id: (u64, u64),
}

impl Drop for DirLock {
    fn drop(&mut self) {
        let mut held = HELD.lock();
        // Closed, and so unlocked, before another thread may try.
        self.file = None;
        held.remove(&self.id);
    }
}

/// Creates the directory if need be; `Error::Locked` if another process has it.
pub fn lock(io: &Io, dir: &Path) -> Result<DirLock> {
    io.create_dir_all(dir)?;
    if io.is_simulated() {
        return Ok(DirLock { file: None, id: (0, 0) });
    }
    let path = dir.join(LOCK_FILE);
    let id = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
    let mut held = HELD.lock();
    if std::fs::metadata(&path).is_ok_and(|metadata| held.contains(&id(metadata))) {
        return Err(Error::Locked { path: dir.to_owned() });
    }
    let file = File::options().read(true).write(true).create(true).truncate(false).open(&path);
    let file = file.map_err(|source| Error::io("open", &path, source))?;
    rustix::fs::fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|errno| {
        match std::io::Error::from(errno) {
            // POSIX lets a system answer either.
            source if matches!(source.kind(), ErrorKind::WouldBlock | ErrorKind::PermissionDenied) => {
                Error::Locked { path: dir.to_owned() }
            }
            source => Error::io("lock", &path, source),
        }
    })?;
    let id = id(file.metadata().map_err(|source| Error::io("stat", &path, source))?);
    held.insert(id);
    Ok(DirLock { file: Some(file), id })
}

/// Reads and removes the marker: true if the last stop was clean.
pub fn take_clean_shutdown(io: &Io, dir: &Path) -> Result<bool> {
    let marker = dir.join(CLEAN_SHUTDOWN_FILE);
    let clean = io.exists(&marker);
    if clean {
        io.remove_file(&marker)?;
        // A marker that came back after a power loss would hide what was lost.
        io.sync_dir(dir)?;
    }
    Ok(clean)
}

/// Kafka's content: {"version":0,"brokerEpoch":N}.
pub fn write_clean_shutdown(io: &Io, dir: &Path, broker_epoch: i64) -> Result<()> {
    let content = format!(r#"{{"version":0,"brokerEpoch":{broker_epoch}}}"#);
    io.write_atomic(&dir.join(CLEAN_SHUTDOWN_FILE), content.as_bytes())
}

/// "topic-3" -> ("topic", 3); None for other names (also for -delete, -future, -stray).
pub fn parse_partition_dir(name: &str) -> Option<(&str, i32)> {
    let (topic, number) = name.rsplit_once('-')?;
    let partition: i32 = number.parse().ok()?;
    // "+3" and "03" are numbers too, but not names that a partition gets.
    (!topic.is_empty() && number == partition.to_string()).then_some((topic, partition))
}

pub fn partition_dir(dir: &Path, topic: &str, partition: i32) -> PathBuf {
    dir.join(format!("{topic}-{partition}"))
}

/// Of directories that are deleted soon.
pub const DELETE: &str = "-delete";
/// Of logs without a topic, which nobody but the operator deletes.
pub const STRAY: &str = "-stray";
/// Of replicas that Kafka was moving here from another log directory.
pub const FUTURE: &str = "-future";

/// Renames to `<topic>-<partition>.<uniqueId><suffix>` as Kafka names it, syncs the parent; returns the new path.
pub fn rename_away(io: &Io, partition_dir: &Path, suffix: &str) -> Result<PathBuf> {
    let name = partition_dir.file_name().and_then(|name| name.to_str()).and_then(parse_partition_dir);
    let (Some((topic, partition)), Some(parent)) = (name, partition_dir.parent()) else {
        return Err(Error::corrupt(partition_dir, "not a partition's directory"));
    };
    let renamed = parent.join(name_away(topic, partition, io.unique_id(), suffix));
    io.rename(partition_dir, &renamed)?;
    io.sync_dir(parent)?;
    Ok(renamed)
}

/// A long topic is cut, so that the name stays one.
fn name_away(topic: &str, partition: i32, unique: Uuid, suffix: &str) -> String {
    let suffix = format!("-{partition}.{}{suffix}", unique.simple());
    let cut = topic.floor_char_boundary(MAX_NAME_BYTES - suffix.len());
    format!("{}{suffix}", &topic[..cut])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partition_directories_are_told_from_others() {
        assert_eq!(parse_partition_dir("a-0"), Some(("a", 0)));
        assert_eq!(parse_partition_dir("a.b-c-17"), Some(("a.b-c", 17)));
        assert_eq!(parse_partition_dir("a--3"), Some(("a-", 3)));
        for other in ["", "-", "a", "a-", "-1", "a-x", "a-03", "a-+3", "a-99999999999", "meta.properties"] {
            assert_eq!(parse_partition_dir(other), None, "{other:?}");
        }
        for kind in ["delete", "future", "stray"] {
            assert_eq!(parse_partition_dir(&format!("a-0.0123456789abcdef0123456789abcdef-{kind}")), None);
        }
        let dir = partition_dir(Path::new("/data"), "a-b", 2);
        assert_eq!(dir, Path::new("/data/a-b-2"));
    }

    #[test]
    fn a_deleted_partitions_name_is_unique_and_never_too_long() {
        let name = name_away("a-b", 12, Uuid::new_v4(), DELETE);
        let unique = name.strip_prefix("a-b-12.").and_then(|rest| rest.strip_suffix("-delete")).unwrap();
        assert!(unique.len() == 32 && unique.bytes().all(|b| b.is_ascii_hexdigit()));
        assert_ne!(name, name_away("a-b", 12, Uuid::new_v4(), DELETE));
        assert_eq!(name_away(&"t".repeat(249), 12, Uuid::new_v4(), STRAY).len(), MAX_NAME_BYTES);
    }

    #[test]
    fn deletion_begins_with_a_rename() {
        let (dir, io) = (tempfile::tempdir().unwrap(), Io::plain());
        let partition = partition_dir(dir.path(), "t", 0);
        io.create_dir_all(&partition).unwrap();
        let renamed = rename_away(&io, &partition, DELETE).unwrap();
        assert!(renamed.is_dir() && !partition.exists());
        assert!(rename_away(&io, &renamed, DELETE).is_err());
    }

    #[test]
    fn a_directory_has_one_owner_in_this_process_too() {
        let (dir, io) = (tempfile::tempdir().unwrap(), Io::plain());
        let data = dir.path().join("not/there/yet");
        let owner = lock(&io, &data).unwrap();
        assert!(matches!(lock(&io, &data), Err(Error::Locked { .. })));
        let elsewhere = lock(&io, &dir.path().join("other")).unwrap();
        drop(owner);
        let owner = lock(&io, &data).unwrap();
        drop((owner, elsewhere));
    }

    #[test]
    fn the_lock_is_one_that_other_processes_see() {
        let (dir, io) = (tempfile::tempdir().unwrap(), Io::plain());
        let inode = |lock: &DirLock| lock.id.1.to_string();
        let owner = lock(&io, dir.path()).unwrap();
        let inode = inode(&owner);
        // The kernel's list: "1: POSIX ADVISORY WRITE pid major:minor:inode 0 EOF".
        let is_listed = || {
            let locks = std::fs::read_to_string("/proc/locks").unwrap();
            locks.lines().any(|line| {
                line.contains("POSIX") && line.contains("WRITE") && line.contains(&format!(":{inode} 0 EOF"))
            })
        };
        assert!(is_listed());
        drop(owner);
        assert!(!is_listed());
    }

    #[test]
    fn the_clean_shutdown_marker_counts_once() {
        let (dir, io) = (tempfile::tempdir().unwrap(), Io::plain());
        assert!(!take_clean_shutdown(&io, dir.path()).unwrap());
        write_clean_shutdown(&io, dir.path(), 7).unwrap();
        let content = std::fs::read_to_string(dir.path().join(CLEAN_SHUTDOWN_FILE)).unwrap();
        assert_eq!(content, r#"{"version":0,"brokerEpoch":7}"#);
        assert!(take_clean_shutdown(&io, dir.path()).unwrap());
        assert!(!take_clean_shutdown(&io, dir.path()).unwrap());
    }
}
