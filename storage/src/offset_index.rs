//! `.index`: entries of (int32 offset relative to the segment's base, int32 position), big-endian, sorted.
//! In memory for the active segment, read from the file for the others. Kafka's OffsetIndex.

use crate::Result;
use crate::io::File;

pub const ENTRY_BYTES: usize = 8;

/// The growing index of an active segment.
#[derive(Debug, Default)]
pub struct OffsetIndex {/* private */}

impl OffsetIndex {
    pub fn new(base_offset: i64) -> OffsetIndex {
        todo!()
    }
    /// `offset` must be larger than the last; ignored otherwise.
    pub fn append(&mut self, offset: i64, position: u32) {
        todo!()
    }
    /// The largest entry with offset <= `offset`; (base, 0) if there is none.
    pub fn lookup(&self, offset: i64) -> (i64, u32) {
        todo!()
    }
    /// The largest entry's position <= `position`, which is where a batch begins; 0 if there is none.
    pub fn position_floor(&self, position: u32) -> u32 {
        todo!()
    }
    pub fn entries(&self) -> usize {
        todo!()
    }
    pub fn truncate_to(&mut self, offset: i64) {
        todo!()
    }
    /// The file's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        todo!()
    }
    /// Entries of a file; error text if it fails Kafka's sanity check (length, order, first entry).
    pub fn from_bytes(base_offset: i64, bytes: &[u8]) -> std::result::Result<OffsetIndex, String> {
        todo!()
    }
}

/// The same lookup in a closed segment's file by binary search.
pub fn lookup_in_file(file: &File, base_offset: i64, offset: i64) -> Result<(i64, u32)> {
    todo!()
}
