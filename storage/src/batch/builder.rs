//! Building one batch record by record.

use bytes::Bytes;

use super::records::put_varlong;
use super::{
    BatchHeader, CONTROL_FLAG, Compression, HEADER_BYTES, MAGIC_V2, NO_PRODUCER_ID, NO_SEQUENCE, NO_TIMESTAMP,
    TRANSACTIONAL_FLAG,
};
use crate::compression;

/// Builds one batch (for internal records, tests and rewrites). `records`: (timestamp, key, value, headers as
/// (name, value) pairs). All headers' names may repeat.
#[derive(Clone, Debug)]
pub struct BatchBuilder {
    header: BatchHeader,
    codec: Compression,
    records: Vec<u8>,
    body: Vec<u8>,
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
        BatchBuilder { header, codec: compression, records: Vec::new(), body: Vec::new() }
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
        let body = &mut self.body;
        body.clear();
        body.push(0); // attributes, unused
        put_varlong(body, timestamp.wrapping_sub(self.header.base_timestamp));
        put_varlong(body, i64::from(self.header.record_count));
        put_nullable(body, key);
        put_nullable(body, value);
        put_varlong(body, headers.len() as i64);
        for (name, value) in headers {
            put_nullable(body, Some(name.as_bytes()));
            put_nullable(body, *value);
        }
        put_varlong(&mut self.records, body.len() as i64);
        self.records.extend_from_slice(body);
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

    /// The whole batch with base offset `base_offset` and leader epoch `leader_epoch`, CRC computed.
    pub fn build(mut self, base_offset: i64, leader_epoch: i32) -> Bytes {
        let mut batch = Vec::with_capacity(HEADER_BYTES + self.records.len());
        batch.resize(HEADER_BYTES, 0);
        match self.codec {
            Compression::None => batch.extend_from_slice(&self.records),
            codec => compression::compress(codec, None, &self.records, &mut batch),
        }
        self.header.base_offset = base_offset;
        self.header.partition_leader_epoch = leader_epoch;
        self.header.seal(&mut batch);
        Bytes::from(batch)
    }
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
