//! What a topic takes from a producer, what it refuses and with which error, what it changes.

use proptest::prelude::*;

use super::*;
use crate::test_support::{OwnedRecord, any_codec, any_record, build, read_back};

const NOW: i64 = 1_000_000;

fn rules() -> AppendRules {
    AppendRules {
        timestamp_type: TimestampType::CreateTime,
        timestamp_before_max_ms: i64::MAX,
        timestamp_after_max_ms: 3_600_000,
        max_message_bytes: 1 << 20,
        compression: None,
        compacted: false,
    }
}

fn check(records: &[u8], rules: &AppendRules) -> Result<ValidBatch, Invalid> {
    validate(Bytes::copy_from_slice(records), rules, 12, NOW)
}

fn kind(records: &[u8], rules: &AppendRules) -> InvalidKind {
    check(records, rules).expect_err("invalid").kind
}

fn some_records() -> Vec<OwnedRecord> {
    let mut records: Vec<_> =
        (0..20).map(|i| OwnedRecord::new(NOW - 20 + i, Some("key"), &"some value ".repeat(i as usize))).collect();
    records[3].headers = vec![("h".to_owned(), Some(b"1".to_vec())), ("h".to_owned(), None)];
    records
}

/// A batch with its header changed by `change` and a CRC that fits.
fn with_header(codec: Compression, change: impl FnOnce(&mut BatchHeader)) -> Vec<u8> {
    let mut batch = build(codec, &some_records()).to_vec();
    let mut header = BatchHeader::read(&batch).unwrap();
    change(&mut header);
    header.seal(&mut batch);
    batch
}

const CODECS: [Compression; 5] =
    [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

#[test]
fn a_good_batch_is_taken_as_it_is() {
    for codec in CODECS {
        let batch = build(codec, &some_records());
        let valid = validate(batch.clone(), &rules(), 12, NOW).unwrap();
        assert_eq!(valid.bytes.as_ptr_range(), batch.as_ptr_range(), "{codec:?}");
        assert_eq!(valid.header, BatchHeader::read(&batch).unwrap());
        assert_eq!(valid.log_append_time, -1);
    }
}

#[test]
fn there_must_be_exactly_one_batch() {
    let batch = build(Compression::None, &some_records());
    assert_eq!(kind(&[], &rules()), InvalidKind::InvalidRecord);
    assert_eq!(kind(&batch[..batch.len() - 1], &rules()), InvalidKind::InvalidRecord);
    assert_eq!(kind(&[&batch[..], &batch[..]].concat(), &rules()), InvalidKind::InvalidRecord);
    let with_a_piece = [&batch[..], &batch[..40]].concat();
    assert_eq!(check(&with_a_piece, &rules()).unwrap().bytes.len(), batch.len(), "the piece is cut off");
}

#[test]
fn old_and_unknown_magics_have_kafkas_errors() {
    let mut batch = build(Compression::None, &some_records()).to_vec();
    for (magic, error) in [
        (0, InvalidKind::InvalidRecord),
        (1, InvalidKind::InvalidRecord),
        (3, InvalidKind::CorruptMessage),
        (0xff, InvalidKind::CorruptMessage),
    ] {
        batch[field::MAGIC] = magic;
        assert_eq!(kind(&batch, &rules()), error, "{magic}");
    }
}

#[test]
fn impossible_sizes_and_wrong_checksums_are_corrupt() {
    let batch = build(Compression::None, &some_records());
    let mut small = batch.to_vec();
    small[8..12].copy_from_slice(&13i32.to_be_bytes());
    assert_eq!(kind(&small, &rules()), InvalidKind::CorruptMessage);
    small[8..12].copy_from_slice(&40i32.to_be_bytes());
    assert_eq!(kind(&small[..52], &rules()), InvalidKind::CorruptMessage, "smaller than a header");
    let mut flipped = batch.to_vec();
    flipped[70] ^= 1;
    assert_eq!(kind(&flipped, &rules()), InvalidKind::CorruptMessage);
}

#[test]
fn a_batch_too_large_is_refused_by_its_whole_size() {
    let batch = build(Compression::None, &some_records());
    let exactly = AppendRules { max_message_bytes: batch.len(), ..rules() };
    assert!(check(&batch, &exactly).is_ok());
    let less = AppendRules { max_message_bytes: batch.len() - 1, ..rules() };
    assert_eq!(kind(&batch, &less), InvalidKind::MessageTooLarge);
}

#[test]
fn zstd_needs_produce_7_and_unknown_codecs_are_refused() {
    let batch = build(Compression::Zstd, &some_records());
    assert_eq!(validate(batch.clone(), &rules(), 6, NOW).unwrap_err().kind, InvalidKind::UnsupportedCompressionType);
    assert!(validate(batch.clone(), &rules(), 7, NOW).is_ok());
    for id in 5..8 {
        assert_eq!(kind(&with_header(Compression::None, |h| h.attributes = id), &rules()), InvalidKind::InvalidRecord);
    }
}

#[test]
fn header_fields_that_do_not_fit_are_invalid() {
    type Change = fn(&mut BatchHeader);
    let cases: [(&str, Change); 9] = [
        ("base offset", |h| h.base_offset = 1),
        ("negative last offset", |h| h.last_offset_delta = -1),
        ("last offset", |h| h.last_offset_delta = 30),
        ("no records", |h| (h.record_count, h.last_offset_delta) = (0, -1)),
        ("negative count", |h| h.record_count = -1),
        ("count and offset beyond the records", |h| (h.record_count, h.last_offset_delta) = (21, 20)),
        ("count and offset short of the records", |h| (h.record_count, h.last_offset_delta) = (19, 18)),
        ("control batch", |h| h.attributes |= 0x20),
        ("producer without a sequence", |h| h.producer_id = 5),
    ];
    for (what, change) in cases {
        for codec in CODECS {
            assert_eq!(kind(&with_header(codec, change), &rules()), InvalidKind::InvalidRecord, "{what} {codec:?}");
        }
    }
}

#[test]
fn records_that_cannot_be_decompressed_are_invalid() {
    for codec in &CODECS[1..] {
        let mut batch = build(*codec, &some_records()).to_vec();
        batch.truncate(batch.len() - 10);
        let mut header = BatchHeader::read(&batch).unwrap();
        header.seal(&mut batch);
        assert_eq!(kind(&batch, &rules()), InvalidKind::InvalidRecord, "{codec:?}");
    }
}

#[test]
fn offsets_within_the_batch_must_be_dense() {
    for codec in CODECS {
        // A base offset of 1 in the records: the deltas of a batch's tail.
        let mut plain = Vec::new();
        for record in [[12, 0, 0, 2, 1, 1, 0], [12, 0, 0, 4, 1, 1, 0]] {
            plain.extend_from_slice(&record);
        }
        let mut batch = vec![0; HEADER_BYTES];
        compression::compress(codec, None, &plain, &mut batch);
        let mut header = BatchHeader::read(&build(codec, &some_records()[..2])).unwrap();
        header.seal(&mut batch);
        let error = check(&batch, &rules()).unwrap_err();
        assert_eq!((error.kind, error.record_errors), (InvalidKind::InvalidRecord, vec![]), "{}", error.message);
    }
}

#[test]
fn timestamps_out_of_bounds_are_named_record_by_record() {
    let bounds = AppendRules { timestamp_before_max_ms: 100, timestamp_after_max_ms: 10, ..rules() };
    let at = |timestamp| OwnedRecord::new(timestamp, None, "v");
    let good = [at(NOW - 100), at(NOW + 10), at(NO_TIMESTAMP)];
    for codec in CODECS {
        assert!(check(&build(codec, &good), &bounds).is_ok());
        let bad = build(codec, &[at(NOW), at(NOW - 101), at(NOW), at(NOW + 11)]);
        let error = check(&bad, &bounds).unwrap_err();
        assert_eq!(error.kind, InvalidKind::InvalidTimestamp);
        assert_eq!(error.message, "One or more records have been rejected due to invalid timestamp");
        assert_eq!(error.record_errors.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [1, 3]);
        assert_eq!(
            error.record_errors[0].1.as_deref(),
            Some(
                "Timestamp 999899 of message with offset 1 is out of range. The timestamp should be within [999900, 1000010]"
            )
        );
    }
}

#[test]
fn a_compacted_topic_wants_keys() {
    let compacted = AppendRules { compacted: true, ..rules() };
    let keyed = |key| OwnedRecord::new(NOW, key, "v");
    for codec in CODECS {
        assert!(check(&build(codec, &[keyed(Some("k")), keyed(Some(""))]), &compacted).is_ok());
        let error = check(&build(codec, &[keyed(None), keyed(Some("k")), keyed(None)]), &compacted).unwrap_err();
        assert_eq!(error.kind, InvalidKind::InvalidRecord);
        assert_eq!(error.record_errors.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [0, 2]);
        assert!(error.message.starts_with("One or more records have been rejected due to 2 record errors in total"));
    }
}

#[test]
fn the_list_of_record_errors_is_bounded() {
    let records = vec![OwnedRecord::new(NOW, None, ""); 20_000];
    let error = check(&build(Compression::None, &records), &AppendRules { compacted: true, ..rules() }).unwrap_err();
    assert_eq!(error.record_errors.len(), 10_000);
    assert!(error.message.contains("20000 record errors"));
}

#[test]
fn append_time_is_stamped_into_the_header_and_nothing_else() {
    for codec in CODECS {
        let batch = build(codec, &some_records());
        let valid = check(&batch, &AppendRules { timestamp_type: TimestampType::LogAppendTime, ..rules() }).unwrap();
        assert_eq!(valid.log_append_time, NOW);
        batch::verify_crc(&valid.bytes).unwrap();
        assert_eq!(BatchHeader::read(&valid.bytes).unwrap(), valid.header);
        assert_eq!((valid.header.timestamp_type(), valid.header.max_timestamp), (TimestampType::LogAppendTime, NOW));
        assert_eq!(valid.header.compression(), Some(codec));
        assert_eq!(valid.bytes[HEADER_BYTES..], batch[HEADER_BYTES..]);
    }
}

#[test]
fn a_producer_must_not_claim_append_time() {
    let batch = with_header(Compression::None, |h| h.attributes |= 8);
    let error = check(&batch, &AppendRules { timestamp_type: TimestampType::LogAppendTime, ..rules() }).unwrap_err();
    assert_eq!((error.kind, error.record_errors.len()), (InvalidKind::InvalidTimestamp, 20));
    // As in Kafka, on a topic with CreateTime the claim is only wiped out.
    let valid = check(&batch, &rules()).unwrap();
    assert_eq!(valid.header.timestamp_type(), TimestampType::CreateTime);
}

#[test]
fn a_wrong_largest_timestamp_is_put_right() {
    for codec in CODECS {
        let batch = with_header(codec, |h| h.max_timestamp = 5);
        let valid = check(&batch, &rules()).unwrap();
        assert_eq!(valid.header.max_timestamp, NOW - 1);
        batch::verify_crc(&valid.bytes).unwrap();
        assert_eq!(BatchHeader::read(&valid.bytes).unwrap(), valid.header);
    }
}

#[test]
fn a_recompressed_batch_must_not_be_too_large() {
    let batch = build(Compression::Zstd, &vec![OwnedRecord::new(NOW, None, &"v".repeat(10_000)); 100]);
    let plain = AppendRules { compression: Some((Compression::None, None)), max_message_bytes: 100_000, ..rules() };
    assert_eq!(kind(&batch, &plain), InvalidKind::MessageTooLarge);
    assert!(check(&batch, &AppendRules { max_message_bytes: 2 << 20, ..plain }).is_ok());
}

#[test]
fn the_topics_own_codec_is_left_alone_whatever_the_level() {
    let batch = build(Compression::Gzip, &some_records());
    let gzip = AppendRules { compression: Some((Compression::Gzip, Some(1))), ..rules() };
    assert_eq!(validate(batch.clone(), &gzip, 12, NOW).unwrap().bytes.as_ptr_range(), batch.as_ptr_range());
}

/// Records as most are: no headers, times close to each other. Of bytes that could as well be lengths.
fn plain_record() -> impl Strategy<Value = OwnedRecord> {
    let some = |len| prop::collection::vec(0..4_u8, len);
    let bytes = move || prop::option::weighted(0.9, prop_oneof![9 => some(0..20), 1 => some(0..200)]);
    let jitter = prop_oneof![4 => 0..3_i64, 1 => -4_000..4_000_i64];
    (jitter, bytes(), bytes()).prop_map(|(jitter, key, value)| OwnedRecord {
        timestamp: NOW + jitter,
        key,
        value,
        headers: vec![],
    })
}

#[test]
fn plain_records_are_recognized() {
    let records: Vec<_> =
        (0..200).map(|i| OwnedRecord::new(NOW + i % 7, (i < 100).then_some("key"), &"v".repeat(8_000))).collect();
    for (count, all_have_keys) in [(1, true), (100, true), (101, false), (200, false)] {
        let batch = build(Compression::None, &records[..count]);
        let plain = batch::plain_records(&batch[HEADER_BYTES..], count as u32).expect("plain");
        assert_eq!((plain.timestamp_deltas, plain.all_have_keys), (0..=(count as i64 - 1).min(6), all_have_keys));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5_000))]

    #[test]
    fn records_walked_together_are_judged_as_each_by_itself(
        records in (1..100_usize).prop_flat_map(|most| prop::collection::vec(plain_record(), 1..=most)),
        flips in prop::collection::vec((any::<prop::sample::Index>(), prop_oneof![0..60_u8, any::<u8>()]), 0..3),
        base_timestamp in prop_oneof![8 => Just(NOW), 1 => Just(NOW - 9_000), 1 => Just(i64::MAX - 1), 1 => Just(i64::MIN + 1)],
        [append_time, topic_append_time, compacted] in prop::array::uniform3(prop::bool::weighted(0.3)),
        [before_max, after_max] in prop::array::uniform2(prop_oneof![0..4_000_i64, Just(i64::MAX)]),
        one_off in prop_oneof![8 => Just(0), 1 => Just(-1), 1 => Just(1)],
    ) {
        let batch = build(Compression::None, &records);
        let mut section = batch[HEADER_BYTES..].to_vec();
        for (at, byte) in flips {
            let at = at.index(section.len());
            section[at] = byte;
        }
        let mut header = BatchHeader::read(&batch).unwrap();
        header.record_count = (header.record_count + one_off).max(1);
        header.base_timestamp = base_timestamp;
        let kind = |append_time| if append_time { TimestampType::LogAppendTime } else { TimestampType::CreateTime };
        header.set_attributes(Compression::None, kind(append_time));
        let rules = AppendRules {
            timestamp_type: kind(topic_append_time),
            timestamp_before_max_ms: before_max,
            timestamp_after_max_ms: after_max,
            compacted,
            ..rules()
        };
        let judged = |walk: fn(&BatchHeader, &[u8], &mut RecordChecks<'_>) -> Result<(), Invalid>| {
            let mut checks = RecordChecks::new(&header, &rules, NOW);
            walk(&header, &section, &mut checks).and_then(|()| checks.finish())
        };
        let together = judged(|header, section, checks| walk(header, Compression::None, section, checks));
        prop_assert_eq!(together, judged(walk_each));
    }
}

proptest! {
    #[test]
    fn recompression_keeps_every_record(
        from in any_codec(),
        to in any_codec(),
        records in prop::collection::vec(any_record(), 1..20),
    ) {
        let batch = build(from, &records);
        let recompress = AppendRules { compression: Some((to, None)), timestamp_after_max_ms: i64::MAX, ..rules() };
        let valid = check(&batch, &recompress).unwrap();
        batch::verify_crc(&valid.bytes).unwrap();
        prop_assert_eq!(BatchHeader::read(&valid.bytes).unwrap(), valid.header);
        prop_assert_eq!(valid.header.compression(), Some(to));
        prop_assert_eq!(read_back(&valid.bytes), records);
    }

    /// Whatever is accepted can be read; whatever the bytes, nothing panics.
    #[test]
    fn damaged_batches_are_refused_or_still_readable(
        codec in any_codec(),
        to in prop::option::of(any_codec()),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
    ) {
        let mut batch = build(codec, &some_records()).to_vec();
        for (at, byte) in flips {
            let at = at.index(batch.len() - field::ATTRIBUTES) + field::ATTRIBUTES;
            batch[at] = byte;
        }
        let mut header = BatchHeader::read(&batch).unwrap();
        header.seal(&mut batch);
        let rules = AppendRules { compression: to.map(|codec| (codec, None)), ..rules() };
        if let Ok(valid) = check(&batch, &rules) {
            prop_assert_eq!(read_back(&valid.bytes).len(), 20);
        }
    }

    #[test]
    fn random_bytes_are_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(check(&bytes, &rules()).is_err());
    }
}
