//! `.index`: entries of (int32 offset relative to the segment's base, int32 position), big-endian, sorted.
//! In memory for the active segment, read from the file for the others. Kafka's OffsetIndex.

use crate::Result;
use crate::io::File;

pub const ENTRY_BYTES: usize = 8;

/// The growing index of an active segment.
#[derive(Debug, Default)]
pub struct OffsetIndex {
    base_offset: i64,
    /// (relative offset, position), both strictly growing.
    entries: Vec<(u32, u32)>,
}

impl OffsetIndex {
    pub fn new(base_offset: i64) -> OffsetIndex {
        OffsetIndex { base_offset, entries: Vec::new() }
    }

    /// The batch at `position` ends with `offset`, which must be larger than the last entry's; ignored otherwise, and
    /// where it is too far from the base for an entry.
    pub fn append(&mut self, offset: i64, position: u32) {
        let Some(relative) = u32::try_from(offset - self.base_offset).ok().filter(|r| i32::try_from(*r).is_ok()) else {
            return;
        };
        if self.entries.last().is_none_or(|(last, _)| *last < relative) {
            self.entries.push((relative, position));
        }
    }

    /// The largest entry with offset <= `offset`; (base, 0) if there is none.
    pub fn lookup(&self, offset: i64) -> (i64, u32) {
        let after = self.entries.partition_point(|(relative, _)| self.base_offset + i64::from(*relative) <= offset);
        match after.checked_sub(1).map(|i| self.entries[i]) {
            Some((relative, position)) => (self.base_offset + i64::from(relative), position),
            None => (self.base_offset, 0),
        }
    }

    /// The largest entry's position <= `position`, which is where a batch begins; 0 if there is none.
    pub fn position_floor(&self, position: u32) -> u32 {
        let after = self.entries.partition_point(|(_, at)| *at <= position);
        after.checked_sub(1).map_or(0, |i| self.entries[i].1)
    }

    /// The last offset of the first batch with an entry that begins at or after `position`.
    pub fn offset_above(&self, position: u64) -> Option<i64> {
        let before = self.entries.partition_point(|(_, at)| u64::from(*at) < position);
        self.entries.get(before).map(|(relative, _)| self.base_offset + i64::from(*relative))
    }

    /// (offset, position)
    pub fn iter(&self) -> impl Iterator<Item = (i64, u32)> {
        self.entries.iter().map(|(relative, position)| (self.base_offset + i64::from(*relative), *position))
    }

    pub fn entries(&self) -> usize {
        self.entries.len()
    }

    /// The file's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.entries
            .iter()
            .flat_map(|(offset, position)| [offset.to_be_bytes(), position.to_be_bytes()])
            .flatten()
            .collect()
    }

    /// Entries of a file; what is wrong with it if it fails Kafka's sanity check (length, order).
    pub fn from_bytes(base_offset: i64, bytes: &[u8]) -> std::result::Result<OffsetIndex, String> {
        if !bytes.len().is_multiple_of(ENTRY_BYTES) {
            return Err(format!("{} bytes are not a multiple of {ENTRY_BYTES}", bytes.len()));
        }
        let entries: Vec<(u32, u32)> = bytes.chunks_exact(ENTRY_BYTES).map(entry).collect();
        match entries.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 < pair[1].1) {
            true => Ok(OffsetIndex { base_offset, entries }),
            false => Err("entries are out of order".to_string()),
        }
    }
}

/// What an entry of the file says; its offset is relative to the segment's base.
pub(crate) fn entry(bytes: &[u8]) -> (u32, u32) {
    let number = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    (number(0), number(4))
}

/// The same lookup in a closed segment's file by binary search.
pub fn lookup_in_file(file: &File, base_offset: i64, offset: i64) -> Result<(i64, u32)> {
    let (mut low, mut high) = (0, file.len()? / ENTRY_BYTES as u64);
    let mut found = (base_offset, 0);
    let mut bytes = [0; ENTRY_BYTES];
    while low < high {
        let middle = low + (high - low) / 2;
        file.pread(&mut bytes, middle * ENTRY_BYTES as u64)?;
        let (relative, position) = entry(&bytes);
        let at = base_offset + i64::from(relative);
        if at <= offset {
            found = (at, position);
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(found)
}

/// The same as [`OffsetIndex::offset_above`] in a closed segment's file.
pub fn offset_above_in_file(file: &File, base_offset: i64, position: u64) -> Result<Option<i64>> {
    let (mut low, mut high) = (0, file.len()? / ENTRY_BYTES as u64);
    let mut found = None;
    let mut bytes = [0; ENTRY_BYTES];
    while low < high {
        let middle = low + (high - low) / 2;
        file.pread(&mut bytes, middle * ENTRY_BYTES as u64)?;
        let (relative, at) = entry(&bytes);
        if u64::from(at) < position {
            low = middle + 1;
        } else {
            found = Some(base_offset + i64::from(relative));
            high = middle;
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::{Io, OpenOptions};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn lookups_agree_with_a_linear_search(steps in proptest::collection::vec((1..50u32, 1..9000u32), 0..40), probe in 0..2500i64) {
            let mut index = OffsetIndex::new(100);
            let (mut offset, mut position) = (100, 0);
            let mut expected = (100, 0);
            for (by, bytes) in steps {
                offset += i64::from(by);
                position += bytes;
                index.append(offset, position);
                if offset <= probe {
                    expected = (offset, position);
                }
            }
            prop_assert_eq!(index.lookup(probe), expected);
            prop_assert_eq!(index.position_floor(expected.1), expected.1);
            let bytes = index.to_bytes();
            prop_assert_eq!(OffsetIndex::from_bytes(100, &bytes).unwrap().lookup(probe), expected);
            let dir = tempfile::tempdir().unwrap();
            let file = Io::plain().open(&dir.path().join("i"), OpenOptions { create: true, ..Default::default() }).unwrap();
            file.pwrite(&bytes, 0).unwrap();
            prop_assert_eq!(lookup_in_file(&file, 100, probe).unwrap(), expected);
        }
    }

    #[test]
    fn an_entry_is_relative_offset_and_position_big_endian() {
        let mut index = OffsetIndex::new(1000);
        index.append(1002, 300);
        index.append(1002, 400);
        index.append(1000 + (1 << 31), 500);
        assert_eq!(index.to_bytes(), [0, 0, 0, 2, 0, 0, 1, 44]);
    }

    #[test]
    fn a_file_of_odd_length_or_out_of_order_is_refused() {
        assert!(OffsetIndex::from_bytes(0, &[0; 9]).is_err());
        assert!(OffsetIndex::from_bytes(0, &[0; 16]).is_err());
    }
}
