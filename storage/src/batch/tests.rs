//! Batches made by the builder, by Apache Kafka, and by chance.

use proptest::prelude::*;

use super::*;
use crate::test_support::{OwnedRecord, any_codec, any_record, build, read_back};

/// Made by Apache Kafka's own code; see the README beside them.
const FIXTURES: [(Compression, &[u8]); 5] = [
    (Compression::None, include_bytes!("../../tests/fixtures/batch-none.bin")),
    (Compression::Gzip, include_bytes!("../../tests/fixtures/batch-gzip.bin")),
    (Compression::Snappy, include_bytes!("../../tests/fixtures/batch-snappy.bin")),
    (Compression::Lz4, include_bytes!("../../tests/fixtures/batch-lz4.bin")),
    (Compression::Zstd, include_bytes!("../../tests/fixtures/batch-zstd.bin")),
];

fn fixture_records() -> Vec<OwnedRecord> {
    let header = |name: &str, value: Option<&[u8]>| (name.to_owned(), value.map(<[u8]>::to_vec));
    let record = |i: i64| OwnedRecord {
        timestamp: 1_700_000_000_000 + i * 7,
        key: (i % 3 != 0).then(|| format!("key-{i}").into_bytes()),
        value: (i % 5 != 0).then(|| format!("value-{i}-").repeat(i as usize).into_bytes()),
        headers: match i % 4 {
            0 => vec![],
            1 => vec![header("h", Some(b"one")), header("h", Some(b"two"))],
            _ => vec![header("null", None), header("empty", Some(b""))],
        },
    };
    (0..100).map(record).collect()
}

#[test]
fn batches_made_by_kafka_are_read() {
    for (codec, batch) in FIXTURES {
        verify_crc(batch).unwrap();
        let header = BatchHeader::read(batch).unwrap();
        assert_eq!(header.compression(), Some(codec));
        assert_eq!((header.base_offset, header.last_offset(), header.record_count), (1_000, 1_099, 100), "{codec:?}");
        assert_eq!((header.producer_id, header.producer_epoch, header.base_sequence), (4_000, 3, 17));
        assert_eq!(header.partition_leader_epoch, 9);
        assert_eq!(header.max_timestamp, 1_700_000_000_000 + 99 * 7);
        assert_eq!(read_back(batch), fixture_records(), "{codec:?}");
    }
}

#[test]
fn without_compression_the_builder_makes_kafkas_bytes() {
    let mut builder = BatchBuilder::new(Compression::None).producer(4_000, 3, 17);
    for record in fixture_records() {
        record.add_to(&mut builder);
    }
    assert_eq!(builder.build(1_000, 9), FIXTURES[0].1);
}

#[test]
fn a_header_has_its_fields_where_kafka_has_them() {
    let mut builder = BatchBuilder::new(Compression::Zstd)
        .producer(0x0102_0304_0506_0708, 9, i32::MAX)
        .transactional(true)
        .control(true);
    builder.record(1_000, None, None, &[]).record(900, None, None, &[]);
    let batch = builder.build(5, 6);
    let header = BatchHeader::read(&batch).unwrap();
    assert_eq!(header.total_bytes(), batch.len());
    assert_eq!((header.base_offset, header.last_offset(), header.next_offset()), (5, 6, 7));
    assert_eq!((header.base_timestamp, header.max_timestamp), (1_000, 1_000));
    assert!(header.is_transactional() && header.is_control() && header.has_producer_id());
    assert_eq!(header.attributes, 0x34);
    assert_eq!(header.last_sequence(), 0, "wraps");
    assert_eq!(batch[43..51], [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(header.encode(), batch[..HEADER_BYTES]);
}

#[test]
fn assigning_offset_and_epoch_leaves_the_crc_alone() {
    let mut batch = build(Compression::None, &fixture_records()).to_vec();
    let prefix = BatchHeader::read(&batch).unwrap().assigned_prefix(77, 8);
    batch[..16].copy_from_slice(&prefix);
    verify_crc(&batch).unwrap();
    let header = BatchHeader::read(&batch).unwrap();
    assert_eq!((header.base_offset, header.partition_leader_epoch), (77, 8));
}

#[test]
fn a_damaged_header_has_an_error_of_its_own() {
    let good = build(Compression::None, &fixture_records());
    assert_eq!(BatchHeader::read(&good[..60]), Err(BatchError::Truncated { have: 60, need: 61 }));
    let with = |pos: usize, byte: u8| {
        let mut batch = good.to_vec();
        batch[pos] = byte;
        batch
    };
    assert_eq!(BatchHeader::read(&with(field::MAGIC, 1)), Err(BatchError::Magic(1)));
    assert!(matches!(BatchHeader::read(&with(field::BATCH_LENGTH, 0x80)), Err(BatchError::TooSmall(_))));
    assert!(matches!(verify_crc(&with(good.len() - 1, 0xff)), Err(BatchError::Crc { .. })));
    assert!(matches!(verify_crc(&good[..good.len() - 1]), Err(BatchError::Truncated { .. })));
}

#[test]
fn batches_are_walked_up_to_the_first_that_is_not_whole() {
    let one = build(Compression::None, &fixture_records()[..3]);
    let buf = [&one[..], &one[..], &one[..40]].concat();
    let walked: Vec<_> = batches(&buf).collect();
    assert_eq!(walked.len(), 3);
    assert_eq!(walked[1].as_ref().map(|(pos, _, bytes)| (*pos, bytes.len())), Ok((one.len(), one.len())));
    assert_eq!(walked[2], Err(BatchError::Truncated { have: 40, need: 61 }));
    assert_eq!(batches(&[]).count(), 0);
}

#[test]
fn a_count_that_does_not_fit_the_records_ends_the_walk_with_one_error() {
    let batch = build(Compression::None, &fixture_records()[..3]);
    for count in [-1, 0, 2, 4] {
        let header = BatchHeader { record_count: count, ..BatchHeader::read(&batch).unwrap() };
        let walked: Vec<_> = records(&header, &batch[HEADER_BYTES..]).collect();
        assert_eq!(walked.iter().filter(|record| record.is_err()).count(), 1, "{count}");
        assert!(walked.last().unwrap().is_err());
    }
}

#[test]
fn append_time_is_the_time_of_every_record() {
    let batch = build(Compression::None, &fixture_records());
    let mut header = BatchHeader::read(&batch).unwrap();
    header.set_attributes(Compression::None, TimestampType::LogAppendTime);
    header.max_timestamp = 5;
    assert!(records(&header, &batch[HEADER_BYTES..]).all(|record| record.unwrap().timestamp == 5));
}

/// Lengths take different ways through the processor's instructions; the other crate has ways of its own.
#[test]
fn checksums_of_every_length_are_right() {
    let bytes: Vec<u8> = (0..70_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for len in (0..1_100).chain((1_100..=bytes.len() - 3).step_by(997)) {
        for start in 0..3 {
            let piece = &bytes[start..start + len];
            assert_eq!(crc32c(piece), ::crc32c::crc32c(piece), "{len} bytes from {start}");
        }
    }
}

/// Walks all there is to walk; only a panic can fail it.
fn walk_everything(bytes: &[u8]) {
    let _ = verify_crc(bytes);
    for (_, header, batch) in batches(bytes).flatten() {
        if let Ok(plain) = records_bytes(batch, 1 << 20) {
            let in_memory = records(&header, &plain).all(|record| record.is_ok());
            let mut stream = StreamRecords::new(&header, &plain[..]);
            let streamed = loop {
                match stream.next() {
                    Ok(Some(_)) => {}
                    end => break end.is_ok(),
                }
            };
            assert_eq!(in_memory, streamed, "both walks agree on what is valid");
        }
    }
}

proptest! {
    #[test]
    fn every_record_survives_every_codec(codec in any_codec(), records in prop::collection::vec(any_record(), 0..30)) {
        let batch = build(codec, &records);
        verify_crc(&batch).unwrap();
        prop_assert_eq!(read_back(&batch), records);
    }

    #[test]
    fn random_bytes_are_walked_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        walk_everything(&bytes);
    }

    #[test]
    fn damaged_batches_are_walked_without_a_panic(
        codec in 0..5usize,
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut batch = FIXTURES[codec].1.to_vec();
        for (at, byte) in flips {
            let at = at.index(batch.len());
            batch[at] = byte;
        }
        walk_everything(&batch);
    }

    #[test]
    fn varints_survive(value: i64) {
        let mut bytes = Vec::new();
        records::put_varlong(&mut bytes, value);
        let mut rest = bytes.iter().copied();
        prop_assert_eq!(records::read_varlong(|| rest.next().ok_or(records::TRUNCATED)), Ok(value));
        prop_assert_eq!(rest.next(), None);
    }
}
