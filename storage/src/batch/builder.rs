//! Building one batch record by record.

use bytes::Bytes;

use super::records::{put_varlong, varlong_bytes};
use super::{
    BatchHeader, CONTROL_FLAG, Compression, HEADER_BYTES, MAGIC_V2, NO_PRODUCER_ID, NO_SEQUENCE, NO_TIMESTAMP,
    TRANSACTIONAL_FLAG,
};
use crate::compression;

/// What most fit into.
const SMALL_BATCH_BYTES: usize = 1024;

/// Builds one batch (for internal records, tests and rewrites). `records`: (timestamp, key, value, headers as
/// (name, value) pairs). All headers' names may repeat.
#[derive(Clone, Debug)]
pub struct BatchBuilder {
    header: BatchHeader,
    codec: Compression,
    /// Room for the header, and the records as they are without compression.
    plain: Vec<u8>,
}

impl BatchBuilder {
    pub fn new(compression: Compression) -> BatchBuilder {
        let header = BatchHeader {
            base_offset: 0,
            batch_length: 0,
            partition_leader_epoch: -1,
            magic: MAGIC_V2,
            crc: 0,
            attributes: compression as i16,
            last_offset_delta: -1,
            base_timestamp: NO_TIMESTAMP,
            max_timestamp: NO_TIMESTAMP,
            producer_id: NO_PRODUCER_ID,
            producer_epoch: -1,
            base_sequence: NO_SEQUENCE,
            record_count: 0,
        };
        let mut plain = Vec::with_capacity(SMALL_BATCH_BYTES);
        plain.resize(HEADER_BYTES, 0);
        BatchBuilder { header, codec: compression, plain }
    }

    pub fn producer(mut self, id: i64, epoch: i16, base_sequence: i32) -> Self {
        self.header.producer_id = id;
        self.header.producer_epoch = epoch;
        self.header.base_sequence = base_sequence;
        self
    }

    pub fn transactional(self, on: bool) -> Self {
        self.flag(TRANSACTIONAL_FLAG, on)
    }

    pub fn control(self, on: bool) -> Self {
        self.flag(CONTROL_FLAG, on)
    }

    fn flag(mut self, flag: i16, on: bool) -> Self {
        self.header.attributes = if on { self.header.attributes | flag } else { self.header.attributes & !flag };
        self
    }

    pub fn record(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&str, Option<&[u8]>)],
    ) -> &mut Self {
        if self.is_empty() {
            self.header.base_timestamp = timestamp;
        }
        let timestamp_delta = timestamp.wrapping_sub(self.header.base_timestamp);
        let offset_delta = i64::from(self.header.record_count);
        let header_bytes =
            |(name, value): &(&str, Option<&[u8]>)| nullable_bytes(Some(name.as_bytes())) + nullable_bytes(*value);
        let record_bytes = 1
            + varlong_bytes(timestamp_delta)
            + varlong_bytes(offset_delta)
            + nullable_bytes(key)
            + nullable_bytes(value)
            + varlong_bytes(headers.len() as i64)
            + headers.iter().map(header_bytes).sum::<usize>();
        let plain = &mut self.plain;
        put_varlong(plain, record_bytes as i64);
        plain.push(0); // attributes, unused
        put_varlong(plain, timestamp_delta);
        put_varlong(plain, offset_delta);
        put_nullable(plain, key);
        put_nullable(plain, value);
        put_varlong(plain, headers.len() as i64);
        for (name, value) in headers {
            put_nullable(plain, Some(name.as_bytes()));
            put_nullable(plain, *value);
        }
        self.header.record_count += 1;
        self.header.last_offset_delta += 1;
        self.header.max_timestamp = self.header.max_timestamp.max(timestamp);
        self
    }

    /// Records so far.
    pub fn len(&self) -> usize {
        self.header.record_count as usize
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The size of the batch without compression.
    pub fn plain_bytes(&self) -> usize {
        self.plain.len()
    }

    /// The whole batch with base offset `base_offset` and leader epoch `leader_epoch`, CRC computed.
    pub fn build(mut self, base_offset: i64, leader_epoch: i32) -> Bytes {
        let mut batch = match self.codec {
            Compression::None => self.plain,
            codec => {
                let mut batch = vec![0; HEADER_BYTES];
                compression::compress(codec, None, &self.plain[HEADER_BYTES..], &mut batch);
                batch
            }
        };
        self.header.base_offset = base_offset;
        self.header.partition_leader_epoch = leader_epoch;
        self.header.seal(&mut batch);
        Bytes::from(batch)
    }
}

fn nullable_bytes(bytes: Option<&[u8]>) -> usize {
    bytes.map_or(varlong_bytes(-1), |bytes| varlong_bytes(bytes.len() as i64) + bytes.len())
}

fn put_nullable(dst: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => put_varlong(dst, -1),
        Some(bytes) => {
            put_varlong(dst, bytes.len() as i64);
            dst.extend_from_slice(bytes);
        }
    }
}
