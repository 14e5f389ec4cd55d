//! `.timeindex`: entries of (int64 timestamp, int32 offset relative to the segment's base), big-endian, sorted.
//! Kafka's TimeIndex.

use crate::Result;
use crate::io::File;

pub const ENTRY_BYTES: usize = 12;

#[derive(Debug, Default)]
pub struct TimeIndex {/* private */}

impl TimeIndex {
    pub fn new(base_offset: i64) -> TimeIndex {
        todo!()
    }
    /// Appends if `timestamp` is larger than the last entry's (Kafka's maybeAppend).
    pub fn append(&mut self, timestamp: i64, offset: i64) {
        todo!()
    }
    /// The largest entry with timestamp <= `timestamp`; (-1, base) if there is none.
    pub fn lookup(&self, timestamp: i64) -> (i64, i64) {
        todo!()
    }
    pub fn last(&self) -> Option<(i64, i64)> {
        todo!()
    }
    pub fn entries(&self) -> usize {
        todo!()
    }
    pub fn truncate_to(&mut self, offset: i64) {
        todo!()
    }
    pub fn to_bytes(&self) -> Vec<u8> {
        todo!()
    }
    pub fn from_bytes(base_offset: i64, bytes: &[u8]) -> std::result::Result<TimeIndex, String> {
        todo!()
    }
}

pub fn lookup_in_file(file: &File, base_offset: i64, timestamp: i64) -> Result<(i64, i64)> {
    todo!()
}
/// The last entry of a closed segment's file.
pub fn last_in_file(file: &File, base_offset: i64) -> Result<Option<(i64, i64)>> {
    todo!()
}
