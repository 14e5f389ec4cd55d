//! The v2 record batch as bytes: header fields, walking batches and records. No validation policy, no files.

use bytes::Bytes;

/// Bytes before the records: baseOffset 8, batchLength 4, partitionLeaderEpoch 4, magic 1, crc 4, attributes 2,
/// lastOffsetDelta 4, baseTimestamp 8, maxTimestamp 8, producerId 8, producerEpoch 2, baseSequence 4, count 4.
pub const HEADER_BYTES: usize = 61;
/// baseOffset and batchLength: what `batchLength` does not count.
pub const LOG_OVERHEAD_BYTES: usize = 12;
pub const MAGIC_V2: u8 = 2;
pub const NO_PRODUCER_ID: i64 = -1;
pub const NO_SEQUENCE: i32 = -1;
pub const NO_TIMESTAMP: i64 = -1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampType {
    CreateTime,
    LogAppendTime,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

/// The decoded 61-byte header. `Copy`, so that it outlives the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    pub base_offset: i64,
    /// The field on disk; the batch occupies `LOG_OVERHEAD_BYTES + batch_length` bytes.
    pub batch_length: i32,
    pub partition_leader_epoch: i32,
    pub magic: u8,
    pub crc: u32,
    pub attributes: i16,
    pub last_offset_delta: i32,
    pub base_timestamp: i64,
    pub max_timestamp: i64,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub record_count: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    #[error("truncated: {have} bytes of {need}")]
    Truncated { have: usize, need: usize },
    #[error("record batch size {0} is smaller than the header")]
    TooSmall(i32),
    #[error("unsupported magic {0}")]
    Magic(u8),
    #[error("crc: stored {stored:#010x}, computed {computed:#010x}")]
    Crc { stored: u32, computed: u32 },
    #[error("invalid records: {0}")]
    Records(&'static str),
}

impl BatchHeader {
    /// Reads the header at the start of `buf`, which must hold HEADER_BYTES; checks magic and that batch_length is
    /// at least HEADER_BYTES - LOG_OVERHEAD_BYTES; does not need the records and does not check the CRC.
    pub fn read(buf: &[u8]) -> Result<BatchHeader, BatchError> {
        todo!()
    }
    pub fn total_bytes(&self) -> usize {
        todo!()
    }
    pub fn last_offset(&self) -> i64 {
        todo!()
    }
    pub fn next_offset(&self) -> i64 {
        todo!()
    }
    pub fn last_sequence(&self) -> i32 {
        todo!()
    } // wraps at i32::MAX to 0
    pub fn compression(&self) -> Option<Compression> {
        todo!()
    } // None: codec id unknown
    pub fn timestamp_type(&self) -> TimestampType {
        todo!()
    }
    pub fn is_transactional(&self) -> bool {
        todo!()
    }
    pub fn is_control(&self) -> bool {
        todo!()
    }
    pub fn has_producer_id(&self) -> bool {
        todo!()
    }
    /// The first 16 bytes with offset and epoch assigned: the only bytes that change when a batch is appended,
    /// and outside the CRC.
    pub fn assigned_prefix(&self, base_offset: i64, leader_epoch: i32) -> [u8; 16] {
        todo!()
    }
}

/// Whole batch: CRC over attributes to the end against the header's.
pub fn verify_crc(batch: &[u8]) -> Result<(), BatchError> {
    todo!()
}

/// Walks the batches in `buf`: (position, header, the batch's bytes). Stops with an error at the first that is not whole.
pub fn batches(buf: &[u8]) -> Batches<'_> {
    todo!()
}
pub struct Batches<'a> {
    buf: &'a [u8],
}
impl<'a> Iterator for Batches<'a> {
    type Item = Result<(usize, BatchHeader, &'a [u8]), BatchError>;
    fn next(&mut self) -> Option<Self::Item> {
        todo!()
    }
}

/// One record, borrowed from (decompressed) records bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    pub offset: i64,
    pub timestamp: i64,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    /// The headers as they stand on the wire (count varint and all), so that duplicates survive.
    pub headers: &'a [u8],
}

/// The batch's records section, decompressed if need be. `limit_bytes` bounds what decompression may produce.
pub fn records_bytes<'a>(batch: &'a [u8], limit_bytes: usize) -> Result<std::borrow::Cow<'a, [u8]>, BatchError> {
    todo!()
}
/// Walks the records of `records` (decompressed).
pub fn records<'a>(header: &BatchHeader, records: &'a [u8]) -> Records<'a> {
    todo!()
}
pub struct Records<'a> {
    records: &'a [u8],
}
impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, BatchError>;
    fn next(&mut self) -> Option<Self::Item> {
        todo!()
    }
}

/// Builds one batch (for internal records, tests and rewrites). `records`: (timestamp, key, value, headers as
/// (name, value) pairs). All headers' names may repeat.
pub struct BatchBuilder {/* private */}
impl BatchBuilder {
    pub fn new(compression: Compression) -> BatchBuilder {
        todo!()
    }
    pub fn producer(self, id: i64, epoch: i16, base_sequence: i32) -> Self {
        todo!()
    }
    pub fn transactional(self, on: bool) -> Self {
        todo!()
    }
    pub fn control(self, on: bool) -> Self {
        todo!()
    }
    pub fn record(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&str, Option<&[u8]>)],
    ) -> &mut Self {
        todo!()
    }
    pub fn len(&self) -> usize {
        todo!()
    }
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// The whole batch with base offset `base_offset` and leader epoch `leader_epoch`, CRC computed.
    pub fn build(self, base_offset: i64, leader_epoch: i32) -> Bytes {
        todo!()
    }
}
