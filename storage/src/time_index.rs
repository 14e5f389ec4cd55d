//! `.timeindex`: entries of (int64 timestamp, int32 offset relative to the segment's base), big-endian, sorted: the
//! largest timestamp up to that offset. Kafka's TimeIndex.

use crate::Result;
use crate::batch::NO_TIMESTAMP;
use crate::io::File;

pub const ENTRY_BYTES: usize = 12;

#[derive(Debug, Default)]
pub struct TimeIndex {
    base_offset: i64,
    /// (timestamp, relative offset), timestamps strictly growing.
    entries: Vec<(i64, u32)>,
}

impl TimeIndex {
    pub fn new(base_offset: i64) -> TimeIndex {
        TimeIndex { base_offset, entries: Vec::new() }
    }

    /// Appends if `timestamp` is larger than the last entry's (Kafka's maybeAppend).
    pub fn append(&mut self, timestamp: i64, offset: i64) {
        let Some(relative) = u32::try_from(offset - self.base_offset).ok().filter(|r| i32::try_from(*r).is_ok()) else {
            return;
        };
        if timestamp > self.entries.last().map_or(NO_TIMESTAMP, |(last, _)| *last) {
            self.entries.push((timestamp, relative));
        }
    }

    /// The largest entry with timestamp <= `timestamp`; (-1, base) if there is none.
    pub fn lookup(&self, timestamp: i64) -> (i64, i64) {
        let after = self.entries.partition_point(|(at, _)| *at <= timestamp);
        after.checked_sub(1).map_or((-1, self.base_offset), |i| self.absolute(self.entries[i]))
    }

    pub fn last(&self) -> Option<(i64, i64)> {
        self.entries.last().map(|entry| self.absolute(*entry))
    }

    fn absolute(&self, (timestamp, relative): (i64, u32)) -> (i64, i64) {
        (timestamp, self.base_offset + i64::from(relative))
    }

    /// (timestamp, offset)
    pub fn iter(&self) -> impl Iterator<Item = (i64, i64)> {
        self.entries.iter().map(|entry| self.absolute(*entry))
    }

    pub fn entries(&self) -> usize {
        self.entries.len()
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.entries.len() * ENTRY_BYTES);
        for (timestamp, relative) in &self.entries {
            bytes.extend_from_slice(&timestamp.to_be_bytes());
            bytes.extend_from_slice(&relative.to_be_bytes());
        }
        bytes
    }

    /// Entries of a file; what is wrong with it if it fails Kafka's sanity check (length, order).
    pub fn from_bytes(base_offset: i64, bytes: &[u8]) -> std::result::Result<TimeIndex, String> {
        if !bytes.len().is_multiple_of(ENTRY_BYTES) {
            return Err(format!("{} bytes are not a multiple of {ENTRY_BYTES}", bytes.len()));
        }
        let entries: Vec<(i64, u32)> = bytes.chunks_exact(ENTRY_BYTES).map(entry).collect();
        match entries.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1) {
            true => Ok(TimeIndex { base_offset, entries }),
            false => Err("entries are out of order".to_string()),
        }
    }
}

/// What an entry of the file says; its offset is relative to the segment's base.
pub(crate) fn entry(bytes: &[u8]) -> (i64, u32) {
    let mut timestamp = [0; 8];
    timestamp.copy_from_slice(&bytes[..8]);
    (i64::from_be_bytes(timestamp), u32::from_be_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]))
}

fn entry_at(file: &File, base_offset: i64, i: u64) -> Result<(i64, i64)> {
    let mut bytes = [0; ENTRY_BYTES];
    file.pread(&mut bytes, i * ENTRY_BYTES as u64)?;
    let (timestamp, relative) = entry(&bytes);
    Ok((timestamp, base_offset + i64::from(relative)))
}

/// The same lookup in a closed segment's file by binary search.
pub fn lookup_in_file(file: &File, base_offset: i64, timestamp: i64) -> Result<(i64, i64)> {
    let (mut low, mut high) = (0, file.len()? / ENTRY_BYTES as u64);
    let mut found = (-1, base_offset);
    while low < high {
        let middle = low + (high - low) / 2;
        let entry = entry_at(file, base_offset, middle)?;
        if entry.0 <= timestamp {
            found = entry;
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(found)
}

/// The last entry of a closed segment's file.
pub fn last_in_file(file: &File, base_offset: i64) -> Result<Option<(i64, i64)>> {
    let count = file.len()? / ENTRY_BYTES as u64;
    count.checked_sub(1).map(|last| entry_at(file, base_offset, last)).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::{Io, OpenOptions};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn lookups_agree_with_a_linear_search(steps in proptest::collection::vec((-20..50i64, 1..50u32), 0..40), probe in 0..1000i64) {
            let mut index = TimeIndex::new(7);
            let (mut timestamp, mut offset, mut largest) = (100, 7, i64::MIN);
            let mut expected = (-1, 7);
            for (later, by) in steps {
                timestamp += later;
                offset += i64::from(by);
                index.append(timestamp, offset);
                if timestamp > largest {
                    largest = timestamp;
                    if timestamp <= probe {
                        expected = (timestamp, offset);
                    }
                }
            }
            prop_assert_eq!(index.lookup(probe), expected);
            let bytes = index.to_bytes();
            prop_assert_eq!(TimeIndex::from_bytes(7, &bytes).unwrap().lookup(probe), expected);
            let dir = tempfile::tempdir().unwrap();
            let file = Io::plain().open(&dir.path().join("i"), OpenOptions { create: true, ..Default::default() }).unwrap();
            file.pwrite(&bytes, 0).unwrap();
            prop_assert_eq!(lookup_in_file(&file, 7, probe).unwrap(), expected);
            prop_assert_eq!(last_in_file(&file, 7).unwrap(), index.last());
        }
    }

    #[test]
    fn an_entry_is_timestamp_and_relative_offset_big_endian() {
        let mut index = TimeIndex::new(10);
        index.append(258, 13);
        index.append(258, 14);
        assert_eq!(index.to_bytes(), [0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 3]);
    }
}
