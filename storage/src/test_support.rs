//! For tests: records that own their bytes, made by chance, put into batches, read back; and what opens logs.

use std::path::Path;

use bytes::Bytes;
use proptest::prelude::*;

use crate::batch::{self, BatchBuilder, BatchHeader, Compression};
use crate::io::Io;
use crate::log::{LogConfig, LogManagerOptions};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OwnedRecord {
    pub timestamp: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl OwnedRecord {
    pub fn new(timestamp: i64, key: Option<&str>, value: &str) -> OwnedRecord {
        let bytes = |text: &str| text.as_bytes().to_vec();
        OwnedRecord { timestamp, key: key.map(bytes), value: Some(bytes(value)), headers: vec![] }
    }

    pub fn add_to(&self, builder: &mut BatchBuilder) {
        let headers: Vec<_> = self.headers.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect();
        builder.record(self.timestamp, self.key.as_deref(), self.value.as_deref(), &headers);
    }
}

/// Logs in `dir` without a ring, at time 0; producers stay for ever.
pub(crate) fn log_options(dir: &Path, defaults: &LogConfig) -> LogManagerOptions {
    LogManagerOptions {
        dirs: vec![dir.to_path_buf()],
        node_id: 1,
        cluster_id: None,
        defaults: defaults.clone(),
        tail_bytes: 1 << 20,
        producer_id_expiration_ms: i64::MAX,
        recovery_threads: 2,
        retention_check_interval_ms: 1_000,
        now_ms: 0,
        io: Some(Io::plain()),
    }
}

pub(crate) fn build(codec: Compression, records: &[OwnedRecord]) -> Bytes {
    let mut builder = BatchBuilder::new(codec);
    records.iter().for_each(|record| record.add_to(&mut builder));
    builder.build(0, -1)
}

/// Panics if the batch is not valid or its offsets are not dense.
pub(crate) fn read_back(batch: &[u8]) -> Vec<OwnedRecord> {
    let base_offset = BatchHeader::read(batch).unwrap().base_offset;
    let dense = read_owned(batch).into_iter().zip(base_offset..);
    dense
        .map(|((offset, record), expected)| {
            assert_eq!(offset, expected);
            record
        })
        .collect()
}

/// The records with their offsets. Panics if the batch is not valid.
pub(crate) fn read_owned(batch: &[u8]) -> Vec<(i64, OwnedRecord)> {
    let header = BatchHeader::read(batch).unwrap();
    let plain = batch::records_bytes(batch, usize::MAX).unwrap();
    let records = batch::records(&header, &plain).map(Result::unwrap);
    records
        .map(|record| {
            let owned = OwnedRecord {
                timestamp: record.timestamp,
                key: record.key.map(<[u8]>::to_vec),
                value: record.value.map(<[u8]>::to_vec),
                headers: headers(record.headers),
            };
            (record.offset, owned)
        })
        .collect()
}

fn headers(wire: &[u8]) -> Vec<(String, Option<Vec<u8>>)> {
    let mut wire = wire;
    let count = number(&mut wire);
    let header = |_| {
        let name = bytes(&mut wire).map(|name| String::from_utf8_lossy(&name).into_owned());
        (name.unwrap(), bytes(&mut wire))
    };
    (0..count).map(header).collect()
}

fn bytes(wire: &mut &[u8]) -> Option<Vec<u8>> {
    let len = usize::try_from(number(wire)).ok()?;
    let (bytes, rest) = wire.split_at(len);
    *wire = rest;
    Some(bytes.to_vec())
}

fn number(wire: &mut &[u8]) -> i64 {
    let (mut value, mut shift) = (0u64, 0);
    loop {
        let (byte, rest) = wire.split_first().unwrap();
        *wire = rest;
        value |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if *byte < 0x80 {
            return (value >> 1) as i64 ^ -((value & 1) as i64);
        }
    }
}

pub(crate) fn any_codec() -> impl Strategy<Value = Compression> {
    use Compression::*;
    prop::sample::select(vec![None, Gzip, Snappy, Lz4, Zstd])
}

pub(crate) fn any_record() -> impl Strategy<Value = OwnedRecord> {
    let bytes = || prop::option::of(prop::collection::vec(any::<u8>(), 0..200));
    let header = ("[a-z]{0,3}", prop::option::of(prop::collection::vec(any::<u8>(), 0..10)));
    (0..i64::MAX / 2, bytes(), bytes(), prop::collection::vec(header, 0..4))
        .prop_map(|(timestamp, key, value, headers)| OwnedRecord { timestamp, key, value, headers })
}
