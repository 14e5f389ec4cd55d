//! What a producer may send (Kafka's LogValidator and ProduceRequest.validateRecords), and the rewrite of a batch where
//! the topic asks for it (LogAppendTime, another compression type). Runs without the log's lock.

use std::borrow::Cow;

use crate::batch::{BatchHeader, Compression, TimestampType};

/// A topic's rules for what is appended.
#[derive(Clone, Debug, PartialEq)]
pub struct AppendRules {
    pub timestamp_type: TimestampType,
    pub timestamp_before_max_ms: i64,
    pub timestamp_after_max_ms: i64,
    /// `max.message.bytes`: the largest batch, after compression, with its overhead.
    pub max_message_bytes: usize,
    /// None: keep the producer's (`compression.type=producer`).
    pub compression: Option<(Compression, Option<i32>)>,
    /// cleanup.policy contains compact: every record needs a key.
    pub compacted: bool,
}

/// One batch, ready to be appended: only offset and leader epoch are still to be assigned.
#[derive(Clone, Debug)]
pub struct ValidBatch<'a> {
    pub header: BatchHeader,
    pub bytes: Cow<'a, [u8]>,
    /// The time written where the timestamp type is LogAppendTime, else -1.
    pub log_append_time: i64,
}

/// Each variant maps to one Kafka error code in the broker; `record_errors` are (batch index, message) for Produce 8+.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    pub kind: InvalidKind,
    pub message: String,
    pub record_errors: Vec<(i32, Option<String>)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidKind {
    CorruptMessage,
    InvalidRecord,
    InvalidTimestamp,
    MessageTooLarge,
    UnsupportedForMessageFormat,
    UnsupportedCompressionType,
    InvalidTxnState,
}

/// `records`: the records field of one partition of a Produce request: exactly one v2 batch. `api_version` matters for
/// zstd (needs 7). `now_ms`: the broker's time.
pub fn validate<'a>(
    records: &'a [u8],
    rules: &AppendRules,
    api_version: i16,
    now_ms: i64,
) -> Result<ValidBatch<'a>, Invalid> {
    todo!()
}
