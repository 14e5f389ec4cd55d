//! Files and directories of the simulated disk: what programs see, what is durable, and the changes in between, of which
//! a power loss keeps some.

use std::collections::BTreeMap;
use std::ops::Range;

use super::rng::{Rng, mixed};

/// A disk writes so much whole or not at all.
const SECTOR: usize = 512;

pub(super) type Id = usize;

#[derive(Clone, Debug)]
pub(super) enum Node {
    File(FileNode),
    Dir(DirNode),
}

#[derive(Clone, Debug, Default)]
pub(super) struct FileNode {
    /// What programs see.
    pub content: Vec<u8>,
    durable: Vec<u8>,
    /// From `durable` to `content`.
    changes: Vec<Change>,
}

#[derive(Clone, Debug)]
struct Change {
    /// Of the operation that made it.
    number: u64,
    durable: bool,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    Write { pos: usize, bytes: Vec<u8> },
    Len(usize),
}

impl FileNode {
    pub fn write(&mut self, number: u64, pos: usize, bytes: &[u8]) {
        grow(&mut self.content, pos + bytes.len());
        self.content[pos..pos + bytes.len()].copy_from_slice(bytes);
        self.changes.push(Change { number, durable: false, what: What::Write { pos, bytes: bytes.to_vec() } });
    }

    pub fn set_len(&mut self, number: u64, len: usize) {
        if len != self.content.len() {
            self.content.resize(len, 0);
            self.changes.push(Change { number, durable: false, what: What::Len(len) });
        }
    }

    /// All that operations up to `number` did is durable.
    pub fn sync(&mut self, number: u64) {
        self.make_durable(|change| change.number <= number);
    }

    /// What was written there is durable, and the file's length; nothing else.
    pub fn sync_range(&mut self, range: Range<usize>) {
        self.make_durable(|change| match &change.what {
            What::Write { pos, bytes } => range.start <= *pos && pos + bytes.len() <= range.end,
            What::Len(_) => true,
        });
    }

    fn make_durable(&mut self, which: impl Fn(&Change) -> bool) {
        self.changes.iter_mut().filter(|change| which(change)).for_each(|change| change.durable = true);
        let done = self.changes.iter().take_while(|change| change.durable).count();
        for change in self.changes.drain(..done) {
            change.apply(&mut self.durable, |_| true);
        }
    }

    /// As Linux does it: what could not be written counts as clean from now on, so that no later sync will write it.
    pub fn fail_sync(&mut self, rng: &mut Rng) {
        self.changes.retain(|change| change.durable || rng.coin());
    }

    /// Of what was not synced nothing, all, or some sectors survive; in each sector a prefix of its changes.
    pub fn lose_power(&mut self, rng: &mut Rng) {
        let (mode, salt, count) = (rng.below(4), rng.number(), self.changes.len() as u64);
        let kept = |sector: u64| match mode {
            0 => 0,
            1 => count,
            _ => mixed(salt ^ sector) % (count + 1),
        };
        for (i, change) in std::mem::take(&mut self.changes).into_iter().enumerate() {
            change.apply(&mut self.durable, |sector| change.durable || (i as u64) < kept(sector));
        }
        self.content = self.durable.clone();
    }
}

/// Stands for the length in the file's inode, which survives by itself.
const LENGTH: u64 = u64::MAX;

impl Change {
    fn apply(&self, content: &mut Vec<u8>, survives: impl Fn(u64) -> bool) {
        match &self.what {
            What::Len(len) if survives(LENGTH) => content.resize(*len, 0),
            What::Len(_) => {}
            What::Write { pos, bytes } => {
                if survives(LENGTH) {
                    grow(content, pos + bytes.len());
                }
                let mut at = *pos;
                let end = (pos + bytes.len()).min(content.len());
                while at < end {
                    let next = ((at / SECTOR + 1) * SECTOR).min(end);
                    if survives((at / SECTOR) as u64) {
                        content[at..next].copy_from_slice(&bytes[at - pos..next - pos]);
                    }
                    at = next;
                }
            }
        }
    }
}

fn grow(content: &mut Vec<u8>, len: usize) {
    if content.len() < len {
        content.resize(len, 0);
    }
}

/// The part of a write in flight that arrives all the same: nothing, all, or some of its first sectors.
pub(super) fn torn(bytes: &[u8], rng: &mut Rng) -> usize {
    match rng.below(3) {
        0 => 0,
        1 => bytes.len(),
        _ => (rng.below((bytes.len() / SECTOR) as u64 + 1) as usize * SECTOR).min(bytes.len()),
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct DirNode {
    pub entries: BTreeMap<String, Id>,
    durable: BTreeMap<String, Id>,
    /// Each survives whole or not at all: a rename never loses both names.
    changes: Vec<Vec<(String, Option<Id>)>>,
}

impl DirNode {
    pub fn change(&mut self, names: Vec<(String, Option<Id>)>) {
        apply_names(&mut self.entries, &names);
        self.changes.push(names);
    }

    pub fn sync(&mut self) {
        self.changes.clear();
        self.durable = self.entries.clone();
    }

    /// Of what was not synced nothing, all, a prefix, or any part survives.
    pub fn lose_power(&mut self, rng: &mut Rng) {
        let mode = rng.below(4);
        let prefix = rng.below(self.changes.len() as u64 + 1) as usize;
        for (i, names) in std::mem::take(&mut self.changes).iter().enumerate() {
            let survives = match mode {
                0 => false,
                1 => true,
                2 => i < prefix,
                _ => rng.coin(),
            };
            if survives {
                apply_names(&mut self.durable, names);
            }
        }
        self.entries = self.durable.clone();
    }
}

fn apply_names(entries: &mut BTreeMap<String, Id>, names: &[(String, Option<Id>)]) {
    for (name, id) in names {
        match id {
            Some(id) => entries.insert(name.clone(), *id),
            None => entries.remove(name),
        };
    }
}
