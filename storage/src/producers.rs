//! Idempotent producers of one partition: the last five batches of each, sequence rules, `.snapshot` files
//! (Kafka's ProducerStateManager). Pure state; files are read and written by the caller as bytes.

use crate::batch::BatchHeader;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SequenceCheck {
    /// Append it.
    New,
    /// Exactly one of the five kept batches: answer its offsets, append nothing.
    Duplicate { base_offset: i64, last_offset: i64, timestamp: i64 },
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SequenceError {
    #[error(
        "Out of order sequence number for producer {producer_id} at offset {offset}: {got} (incoming seq. number), {expected} (current end sequence number)"
    )]
    OutOfOrder { producer_id: i64, offset: i64, got: i32, expected: i32 },
    #[error("Epoch of producer {producer_id} is {got}, which is smaller than the last seen epoch {last}")]
    InvalidEpoch { producer_id: i64, got: i16, last: i16 },
    #[error("duplicate of a batch older than the five kept")]
    DuplicateSequence,
}

#[derive(Debug, Default)]
pub struct Producers {/* private */}

impl Producers {
    pub fn new(expiration_ms: i64) -> Producers {
        todo!()
    }
    /// Before an append by a client; `next_offset` only for messages. Batches without a producer id are always New.
    pub fn check(&self, header: &BatchHeader, next_offset: i64) -> Result<SequenceCheck, SequenceError> {
        todo!()
    }
    /// After an append (or at recovery): the batch stands at `base_offset`. `timestamp` = the batch's max timestamp.
    pub fn update(&mut self, header: &BatchHeader, base_offset: i64, now_ms: i64) {
        todo!()
    }
    pub fn expire(&mut self, now_ms: i64) {
        todo!()
    }
    pub fn clear(&mut self) {
        todo!()
    }
    pub fn len(&self) -> usize {
        todo!()
    }
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Kafka's snapshot file (version 1, CRC) as bytes, and back. A snapshot that fails its CRC is an error text.
    pub fn to_snapshot(&self) -> Vec<u8> {
        todo!()
    }
    pub fn load_snapshot(&mut self, bytes: &[u8], now_ms: i64) -> Result<(), String> {
        todo!()
    }
}
