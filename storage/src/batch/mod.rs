//! The v2 record batch as bytes: header fields, walking batches and records. No validation policy, no files.
//! Layout: `docs/format/record-batch.md`.

mod builder;
mod heads;
mod marker;
mod plain;
mod records;
mod stream;
#[cfg(test)]
mod tests;

pub use builder::BatchBuilder;
pub(crate) use heads::{RecordHead, record_heads};
pub(crate) use marker::MAX_MARKER_BATCH_BYTES;
pub use marker::TransactionMarker;
pub(crate) use plain::{PlainRecords, plain_records};
pub(crate) use records::put_varlong;
pub use records::{Record, Records, records, records_bytes};
pub(crate) use stream::StreamRecords;

/// CRC-32C, which the crate's catalogue has by the name of iSCSI.
pub(crate) use crc_fast::crc32_iscsi as crc32c;

/// Bytes before the records: baseOffset 8, batchLength 4, partitionLeaderEpoch 4, magic 1, crc 4, attributes 2,
/// lastOffsetDelta 4, baseTimestamp 8, maxTimestamp 8, producerId 8, producerEpoch 2, baseSequence 4, count 4.
pub const HEADER_BYTES: usize = 61;
/// baseOffset and batchLength: what `batchLength` does not count.
pub const LOG_OVERHEAD_BYTES: usize = 12;
pub const MAGIC_V2: u8 = 2;
pub const NO_PRODUCER_ID: i64 = -1;
pub const NO_SEQUENCE: i32 = -1;
pub const NO_TIMESTAMP: i64 = -1;

/// Where the header's later fields stand.
pub(crate) mod field {
    pub const BATCH_LENGTH: usize = 8;
    pub const MAGIC: usize = 16;
    pub const CRC: usize = 17;
    /// The first byte that the CRC covers.
    pub const ATTRIBUTES: usize = 21;
    pub const MAX_TIMESTAMP: usize = 35;
}

const CODEC_MASK: i16 = 0x07;
const LOG_APPEND_TIME_FLAG: i16 = 0x08;
const TRANSACTIONAL_FLAG: i16 = 0x10;
const CONTROL_FLAG: i16 = 0x20;
const DELETE_HORIZON_FLAG: i16 = 0x40;

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

impl Compression {
    fn from_id(id: i16) -> Option<Compression> {
        [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd]
            .get(id as usize)
            .copied()
    }
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
    #[inline]
    pub fn read(buf: &[u8]) -> Result<BatchHeader, BatchError> {
        let Some(h) = buf.first_chunk::<HEADER_BYTES>() else {
            return Err(BatchError::Truncated { have: buf.len(), need: HEADER_BYTES });
        };
        if h[field::MAGIC] != MAGIC_V2 {
            return Err(BatchError::Magic(h[field::MAGIC]));
        }
        let header = BatchHeader::decode(h);
        if header.batch_length < (HEADER_BYTES - LOG_OVERHEAD_BYTES) as i32 {
            return Err(BatchError::TooSmall(header.batch_length));
        }
        Ok(header)
    }

    #[inline]
    fn decode(h: &[u8; HEADER_BYTES]) -> BatchHeader {
        fn at<const N: usize>(h: &[u8; HEADER_BYTES], pos: usize) -> [u8; N] {
            let mut bytes = [0; N];
            bytes.copy_from_slice(&h[pos..pos + N]);
            bytes
        }
        BatchHeader {
            base_offset: i64::from_be_bytes(at(h, 0)),
            batch_length: i32::from_be_bytes(at(h, field::BATCH_LENGTH)),
            partition_leader_epoch: i32::from_be_bytes(at(h, 12)),
            magic: h[field::MAGIC],
            crc: u32::from_be_bytes(at(h, field::CRC)),
            attributes: i16::from_be_bytes(at(h, field::ATTRIBUTES)),
            last_offset_delta: i32::from_be_bytes(at(h, 23)),
            base_timestamp: i64::from_be_bytes(at(h, 27)),
            max_timestamp: i64::from_be_bytes(at(h, field::MAX_TIMESTAMP)),
            producer_id: i64::from_be_bytes(at(h, 43)),
            producer_epoch: i16::from_be_bytes(at(h, 51)),
            base_sequence: i32::from_be_bytes(at(h, 53)),
            record_count: i32::from_be_bytes(at(h, 57)),
        }
    }

    /// The inverse of [`BatchHeader::read`].
    pub(crate) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut h = [0; HEADER_BYTES];
        let mut put = |pos: usize, bytes: &[u8]| h[pos..pos + bytes.len()].copy_from_slice(bytes);
        put(0, &self.base_offset.to_be_bytes());
        put(field::BATCH_LENGTH, &self.batch_length.to_be_bytes());
        put(12, &self.partition_leader_epoch.to_be_bytes());
        put(field::MAGIC, &[self.magic]);
        put(field::CRC, &self.crc.to_be_bytes());
        put(field::ATTRIBUTES, &self.attributes.to_be_bytes());
        put(23, &self.last_offset_delta.to_be_bytes());
        put(27, &self.base_timestamp.to_be_bytes());
        put(field::MAX_TIMESTAMP, &self.max_timestamp.to_be_bytes());
        put(43, &self.producer_id.to_be_bytes());
        put(51, &self.producer_epoch.to_be_bytes());
        put(53, &self.base_sequence.to_be_bytes());
        put(57, &self.record_count.to_be_bytes());
        h
    }

    /// Writes this header over the first bytes of the whole batch `batch`, with a batch length and a CRC that fit.
    pub(crate) fn seal(&mut self, batch: &mut [u8]) {
        self.batch_length = (batch.len() - LOG_OVERHEAD_BYTES) as i32;
        batch[..HEADER_BYTES].copy_from_slice(&self.encode());
        self.crc = crc32c(&batch[field::ATTRIBUTES..]);
        batch[field::CRC..field::ATTRIBUTES].copy_from_slice(&self.crc.to_be_bytes());
    }

    pub fn total_bytes(&self) -> usize {
        LOG_OVERHEAD_BYTES + self.batch_length as usize
    }

    pub fn last_offset(&self) -> i64 {
        self.base_offset.wrapping_add(i64::from(self.last_offset_delta))
    }

    pub fn next_offset(&self) -> i64 {
        self.last_offset().wrapping_add(1)
    }

    /// Wraps at i32::MAX to 0.
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence == NO_SEQUENCE {
            return NO_SEQUENCE;
        }
        self.base_sequence.wrapping_add(self.last_offset_delta) & i32::MAX
    }

    /// None: the codec's id is unknown.
    pub fn compression(&self) -> Option<Compression> {
        Compression::from_id(self.attributes & CODEC_MASK)
    }

    pub fn timestamp_type(&self) -> TimestampType {
        if self.attributes & LOG_APPEND_TIME_FLAG == 0 {
            TimestampType::CreateTime
        } else {
            TimestampType::LogAppendTime
        }
    }

    /// Replaces codec and timestamp type; clears the bits that have no meaning, as Kafka does when it rewrites a header.
    pub(crate) fn set_attributes(&mut self, codec: Compression, timestamp_type: TimestampType) {
        let kept = self.attributes & (TRANSACTIONAL_FLAG | CONTROL_FLAG | DELETE_HORIZON_FLAG);
        let time = if timestamp_type == TimestampType::LogAppendTime { LOG_APPEND_TIME_FLAG } else { 0 };
        self.attributes = kept | time | codec as i16;
    }

    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL_FLAG != 0
    }

    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL_FLAG != 0
    }

    /// Until when the tombstones or markers in a compacted batch must be kept (KIP-534); None while that is not decided.
    pub fn delete_horizon_ms(&self) -> Option<i64> {
        (self.attributes & DELETE_HORIZON_FLAG != 0).then_some(self.base_timestamp)
    }

    /// Sets the time until which tombstones or markers are kept. Timestamp deltas count from it from now on.
    pub(crate) fn set_delete_horizon_ms(&mut self, horizon_ms: i64) {
        self.attributes |= DELETE_HORIZON_FLAG;
        self.base_timestamp = horizon_ms;
    }

    /// Makes this the header of a batch without records, that keeps what its offsets and its producer are.
    pub(crate) fn set_empty(&mut self) {
        self.set_attributes(Compression::None, self.timestamp_type());
        self.attributes &= !DELETE_HORIZON_FLAG;
        self.base_timestamp = NO_TIMESTAMP;
        self.record_count = 0;
    }

    pub fn has_producer_id(&self) -> bool {
        self.producer_id > NO_PRODUCER_ID
    }

    /// The first 16 bytes with offset and epoch assigned: the only bytes that change when a batch is appended,
    /// and outside the CRC.
    pub fn assigned_prefix(&self, base_offset: i64, leader_epoch: i32) -> [u8; 16] {
        let mut prefix = [0; 16];
        prefix[..8].copy_from_slice(&base_offset.to_be_bytes());
        prefix[8..12].copy_from_slice(&self.batch_length.to_be_bytes());
        prefix[12..].copy_from_slice(&leader_epoch.to_be_bytes());
        prefix
    }
}

/// Whole batch: CRC over attributes to the end against the header's.
pub fn verify_crc(batch: &[u8]) -> Result<(), BatchError> {
    let header = BatchHeader::read(batch)?;
    let need = header.total_bytes();
    let Some(covered) = batch.get(field::ATTRIBUTES..need) else {
        return Err(BatchError::Truncated { have: batch.len(), need });
    };
    let computed = crc32c(covered);
    if computed == header.crc { Ok(()) } else { Err(BatchError::Crc { stored: header.crc, computed }) }
}

/// Walks the batches in `buf`: (position, header, the batch's bytes). Stops with an error at the first that is not whole.
pub fn batches(buf: &[u8]) -> Batches<'_> {
    Batches { buf, pos: 0 }
}

/// Visits the records from offset `from` on in `content`: batches with the right CRC, the last of which may be cut short.
/// `limit_bytes`: what one may decompress to. Returns the offset after the last whole batch; `from` if there is none.
pub fn visit_records<E: From<BatchError>>(
    content: &[u8],
    from: i64,
    limit_bytes: usize,
    mut visit: impl FnMut(&BatchHeader, &Record<'_>) -> Result<(), E>,
) -> Result<i64, E> {
    let mut next = from;
    for item in batches(content) {
        let (_, header, bytes) = match item {
            Err(BatchError::Truncated { .. }) => break,
            item => item?,
        };
        verify_crc(bytes)?;
        let plain = records_bytes(bytes, limit_bytes)?;
        for record in records(&header, &plain) {
            let record = record?;
            if record.offset >= from {
                visit(&header, &record)?;
            }
        }
        next = header.next_offset();
    }
    Ok(next)
}

#[derive(Clone, Debug)]
pub struct Batches<'a> {
    buf: &'a [u8],
    pos: usize,
}

impl<'a> Iterator for Batches<'a> {
    type Item = Result<(usize, BatchHeader, &'a [u8]), BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        let pos = self.pos;
        let rest = &self.buf[pos..];
        if rest.is_empty() {
            return None;
        }
        // Until the batch proves to be whole, the walk ends here.
        self.pos = self.buf.len();
        let header = match BatchHeader::read(rest) {
            Ok(header) => header,
            Err(error) => return Some(Err(error)),
        };
        let need = header.total_bytes();
        let Some(batch) = rest.get(..need) else {
            return Some(Err(BatchError::Truncated { have: rest.len(), need }));
        };
        self.pos = pos + need;
        Some(Ok((pos, header, batch)))
    }
}
