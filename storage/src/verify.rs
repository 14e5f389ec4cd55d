//! Looks through a log directory that no broker uses, and says what is wrong with its files; it changes nothing. One
//! segment with its indexes is in `verify/segment.rs`; what records mean is nobody's business here.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::checkpoint;
use crate::epochs::{EPOCHS_FILE, Epochs};
use crate::io::Io;
use crate::producers::Producers;
use crate::segment::parse_file_name;
use crate::{Result, dirs};

mod segment;
#[cfg(test)]
mod tests;

pub(crate) use segment::{Found, read_batch};

/// What is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    pub path: PathBuf,
    /// The byte of the file, if it is one.
    pub position: Option<u64>,
    pub what: String,
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if let Some(position) = self.position {
            write!(f, " at {position}")?;
        }
        write!(f, ": {}", self.what)
    }
}

/// How much was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    pub logs: u64,
    pub segments: u64,
    pub batches: u64,
    pub bytes: u64,
}

/// Tells every complaint as it is found. After a clean stop everything is checked. After a crash the last segments may end
/// in what was not written whole, and their indexes may be old: the next start mends both, and they pass.
pub fn verify(dir: &Path, complain: &mut dyn FnMut(Complaint)) -> Result<Checked> {
    let mut verifier = Verifier { io: Io::plain(), complain, checked: Checked::default() };
    verifier.directory(dir)?;
    Ok(verifier.checked)
}

struct Verifier<'a> {
    io: Io,
    complain: &'a mut dyn FnMut(Complaint),
    checked: Checked,
}

impl Verifier<'_> {
    fn complain(&mut self, path: &Path, position: Option<u64>, what: impl Into<String>) {
        (self.complain)(Complaint { path: path.to_path_buf(), position, what: what.into() });
    }

    /// A file that cannot be read, or whose content is not valid, is a complaint about that file.
    fn accept<T>(&mut self, path: &Path, result: Result<T>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(crate::Error::Corrupt { path, what }) => {
                self.complain(&path, None, what);
                None
            }
            Err(error) => {
                self.complain(path, None, error.to_string());
                None
            }
        }
    }

    fn directory(&mut self, dir: &Path) -> Result<()> {
        let names = self.io.list(dir)?;
        let clean = self.io.exists(&dir.join(dirs::CLEAN_SHUTDOWN_FILE));
        let meta = checkpoint::read_meta_properties(&self.io, dir);
        let meta_path = dir.join("meta.properties");
        if let Some(None) = self.accept(&meta_path, meta) {
            self.complain(&meta_path, None, "is missing");
        }
        let mut offsets = BTreeMap::new();
        for name in [
            checkpoint::RECOVERY_POINT_FILE,
            checkpoint::REPLICATION_OFFSET_FILE,
            checkpoint::LOG_START_OFFSET_FILE,
            checkpoint::CLEANER_OFFSET_FILE,
        ] {
            let read = checkpoint::read_offsets(&self.io, &dir.join(name));
            offsets.insert(name, self.accept(&dir.join(name), read).unwrap_or_default());
        }
        for name in names {
            let Some((topic, partition)) = dirs::parse_partition_dir(&name) else { continue };
            let path = dir.join(&name);
            if !path.is_dir() {
                continue;
            }
            let key = (topic.to_owned(), partition);
            let recovery_point = offsets[checkpoint::RECOVERY_POINT_FILE].get(&key).copied().unwrap_or(0);
            let end = self.partition(&path, clean, recovery_point);
            let Some(end) = self.accept(&path, end) else { continue };
            for (name, offsets) in &offsets {
                if let Some(offset) = offsets.get(&key).filter(|offset| **offset > end) {
                    let what = format!("{topic} {partition} has {offset}, but the log ends at {end}");
                    self.complain(&dir.join(name), None, what);
                }
            }
        }
        Ok(())
    }

    /// Returns where the log ends.
    fn partition(&mut self, dir: &Path, clean: bool, recovery_point: i64) -> Result<i64> {
        self.checked.logs += 1;
        let names = self.io.list(dir)?;
        let mut bases: Vec<i64> = names.iter().filter_map(|name| parse_file_name(name, ".log")).collect();
        bases.sort_unstable();
        let mut end = bases.first().copied().unwrap_or(0);
        for (i, &base) in bases.iter().enumerate() {
            let next_base = bases.get(i + 1).copied();
            let finished = clean || next_base.is_some_and(|next| next <= recovery_point);
            let checked = self.segment(dir, base, next_base, finished);
            end = self.accept(dir, checked).unwrap_or(base).max(end);
        }
        let metadata = checkpoint::read_partition_metadata(&self.io, dir);
        self.accept(&dir.join("partition.metadata"), metadata);
        self.epochs(&dir.join(EPOCHS_FILE), end)?;
        for name in names.iter().filter(|name| parse_file_name(name, ".snapshot").is_some()) {
            let path = dir.join(name);
            let content = self.io.read_small(&path)?.unwrap_or_default();
            if let Err(what) = Producers::new(i64::MAX).load_snapshot(&content, 0) {
                self.complain(&path, None, what);
            }
        }
        for name in names.iter().filter(|name| name.ends_with(".checkpoint")) {
            self.batches(&dir.join(name))?;
        }
        Ok(end)
    }

    fn epochs(&mut self, path: &Path, end: i64) -> Result<()> {
        let Some(content) = self.io.read_small(path)? else { return Ok(()) };
        match Epochs::from_text(&String::from_utf8_lossy(&content)) {
            Err(what) => self.complain(path, None, what),
            Ok(epochs) => {
                if let Some(last) = epochs.latest().filter(|last| last.start_offset > end) {
                    let what =
                        format!("epoch {} begins at {}, but the log ends at {end}", last.epoch, last.start_offset);
                    self.complain(path, None, what);
                }
            }
        }
        Ok(())
    }
}
