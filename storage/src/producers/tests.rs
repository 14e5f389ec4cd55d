//! What a producer may append after what, and what survives in a snapshot.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::batch::{BatchBuilder, Compression};

const ID: i64 = 7;

fn batch(epoch: i16, first: i32, records: i32) -> BatchHeader {
    let mut builder = BatchBuilder::new(Compression::None).producer(ID, epoch, first);
    builder.record(1_000, None, None, &[]);
    let mut header = BatchHeader::read(&builder.build(0, 0)).unwrap();
    header.record_count = records;
    header.last_offset_delta = records - 1;
    header
}

/// Producers that have appended these batches, one after another from offset 0.
fn after(batches: &[BatchHeader]) -> Producers {
    let mut producers = Producers::new(1_000);
    let mut offset = 0;
    for header in batches {
        producers.update(header, offset, 0);
        offset += i64::from(header.record_count);
    }
    producers
}

fn out_of_order(got: i32, expected: i32) -> Result<SequenceCheck, SequenceError> {
    Err(SequenceError::OutOfOrder { producer_id: ID, offset: 99, got, expected })
}

const NEW: Result<SequenceCheck, SequenceError> = Ok(SequenceCheck::New);

#[test]
fn batches_without_a_producer_are_not_kept() {
    let mut header = batch(0, 0, 1);
    header.producer_id = -1;
    let producers = after(&[header]);
    assert_eq!(producers.check(&header, 99), NEW);
    assert!(producers.is_empty());
}

#[test]
fn an_unknown_producer_may_start_anywhere() {
    assert_eq!(Producers::new(1).check(&batch(3, 42, 1), 99), NEW);
}

#[test]
fn sequences_follow_without_a_gap() {
    let producers = after(&[batch(0, 0, 10)]);
    assert_eq!(producers.check(&batch(0, 10, 5), 99), NEW);
    assert_eq!(producers.check(&batch(0, 11, 5), 99), out_of_order(11, 9));
    assert_eq!(producers.check(&batch(0, 5, 10), 99), out_of_order(5, 9), "overlaps");
}

#[test]
fn sequences_wrap_to_zero() {
    let producers = after(&[batch(0, i32::MAX - 1, 2)]);
    assert_eq!(producers.check(&batch(0, 0, 1), 99), NEW);
    let producers = after(&[batch(0, i32::MAX - 1, 4)]);
    assert_eq!(producers.check(&batch(0, 2, 1), 99), NEW);
    assert!(matches!(producers.check(&batch(0, i32::MAX - 1, 4), 99), Ok(SequenceCheck::Duplicate { .. })));
}

#[test]
fn one_of_the_last_five_batches_is_a_duplicate_and_an_older_one_is_told_apart() {
    let batches: Vec<_> = (0..6).map(|i| batch(0, i * 10, 10)).collect();
    let producers = after(&batches);
    for (i, header) in batches.iter().enumerate().skip(1) {
        let base_offset = i as i64 * 10;
        let expected = SequenceCheck::Duplicate { base_offset, last_offset: base_offset + 9, timestamp: 1_000 };
        assert_eq!(producers.check(header, 99), Ok(expected));
    }
    assert_eq!(producers.check(&batches[0], 99), Err(SequenceError::DuplicateSequence));
    assert_eq!(producers.check(&batch(0, 10, 9), 99), out_of_order(10, 59), "not the same batch");
}

#[test]
fn a_higher_epoch_starts_at_zero_and_a_lower_one_is_fenced() {
    let producers = after(&[batch(1, 0, 10)]);
    assert_eq!(producers.check(&batch(2, 0, 1), 99), NEW);
    assert_eq!(producers.check(&batch(2, 10, 1), 99), out_of_order(10, NO_SEQUENCE));
    let fenced = SequenceError::InvalidEpoch { producer_id: ID, got: 0, last: 1 };
    assert_eq!(producers.check(&batch(0, 0, 10), 99), Err(fenced), "even a duplicate");
}

#[test]
fn a_new_epoch_forgets_the_old_ones_batches() {
    let producers = after(&[batch(0, 0, 10), batch(1, 0, 5)]);
    assert_eq!(producers.check(&batch(1, 5, 1), 99), NEW);
    assert!(matches!(producers.check(&batch(1, 0, 5), 99), Ok(SequenceCheck::Duplicate { base_offset: 10, .. })));
    assert_eq!(producers.check(&batch(1, 0, 10), 99), out_of_order(0, 4));
}

#[test]
fn idle_producers_expire_by_the_brokers_clock_but_not_within_a_transaction() {
    let mut producers = Producers::new(1_000);
    let mut header = batch(0, 0, 1);
    header.max_timestamp = 5; // long ago, by the client's clock
    producers.update(&header, 0, 1_000_000);
    producers.expire(1_000_999);
    assert_eq!(producers.len(), 1);
    producers.expire(1_001_000);
    assert_eq!(producers.len(), 0);

    let mut transactional = BatchBuilder::new(Compression::None).producer(ID, 0, 0).transactional(true);
    transactional.record(1, None, None, &[]);
    producers.update(&BatchHeader::read(&transactional.build(0, 0)).unwrap(), 0, 0);
    producers.expire(i64::MAX);
    assert_eq!(producers.len(), 1);
    end(&mut producers, ID, 0, 1, COMMIT);
    producers.expire(i64::MAX);
    assert_eq!(producers.len(), 0);
}

const COMMIT: TransactionMarker = TransactionMarker { commit: true, coordinator_epoch: 2 };
const ABORT: TransactionMarker = TransactionMarker { commit: false, coordinator_epoch: 2 };

fn transactional(id: i64, epoch: i16, first: i32) -> BatchHeader {
    let mut builder = BatchBuilder::new(Compression::None).producer(id, epoch, first).transactional(true);
    builder.record(1_000, None, None, &[]);
    BatchHeader::read(&builder.build(0, 0)).unwrap()
}

fn marker(id: i64, epoch: i16, marker: TransactionMarker) -> BatchHeader {
    BatchHeader::read(&marker.to_batch(id, epoch, 1_000)).unwrap()
}

fn end(producers: &mut Producers, id: i64, epoch: i16, at: i64, how: TransactionMarker) -> Option<AbortedTransaction> {
    producers.end_transaction(&marker(id, epoch, how), at, how, 0)
}

#[test]
fn what_is_stable_ends_where_the_oldest_open_transaction_begins() {
    let mut producers = Producers::new(1_000);
    producers.update(&transactional(1, 0, 0), 10, 0);
    producers.update(&transactional(2, 0, 0), 11, 0);
    producers.update(&transactional(1, 0, 1), 12, 0);
    assert_eq!(producers.first_unstable_offset(13), Some(10));
    let aborted = AbortedTransaction { producer_id: 1, first_offset: 10, last_offset: 13, last_stable_offset: 11 };
    assert_eq!(end(&mut producers, 1, 0, 13, ABORT), Some(aborted));
    assert_eq!(producers.first_unstable_offset(13), Some(10), "nobody may have read the marker");
    assert_eq!(producers.first_unstable_offset(14), Some(11));
    assert_eq!(end(&mut producers, 2, 0, 14, COMMIT), None);
    assert_eq!(producers.first_unstable_offset(15), None);
    assert_eq!(end(&mut producers, 2, 0, 15, ABORT), None, "it wrote nothing since");
    assert_eq!(producers.first_unstable_offset(15), None);
}

#[test]
fn markers_and_batches_of_replaced_producers_and_coordinators_are_refused() {
    let mut producers = Producers::new(1_000);
    producers.update(&transactional(ID, 1, 0), 0, 0);
    let plain = batch(1, 1, 1);
    assert_eq!(producers.check(&plain, 9), Err(SequenceError::TransactionOpen { producer_id: ID }));
    let old_epoch = SequenceError::InvalidEpoch { producer_id: ID, got: 0, last: 1 };
    assert_eq!(producers.check_marker(&marker(ID, 0, ABORT), ABORT), Err(old_epoch));
    assert_eq!(producers.check_marker(&marker(ID, 2, ABORT), ABORT), Ok(()));
    end(&mut producers, ID, 2, 1, ABORT);
    let old = TransactionMarker { coordinator_epoch: 1, ..ABORT };
    let fenced = SequenceError::CoordinatorFenced { producer_id: ID, got: 1, last: 2 };
    assert_eq!(producers.check_marker(&marker(ID, 2, old), old), Err(fenced));
    assert_eq!(producers.check(&transactional(ID, 2, 0), 9), NEW, "the marker's epoch starts anew");
    assert!(producers.check(&transactional(ID, 2, 1), 9).is_err());
}

#[test]
fn batches_of_coordinators_have_an_epoch_but_no_sequence() {
    let mut producers = Producers::new(1_000);
    producers.update(&transactional(ID, 1, -1), 0, 0);
    assert_eq!(producers.check(&transactional(ID, 1, -1), 9), NEW);
    assert!(producers.check(&transactional(ID, 0, -1), 9).is_err());
}

#[test]
fn open_transactions_and_coordinators_survive_in_a_snapshot() {
    let mut producers = Producers::new(i64::MAX);
    producers.update(&transactional(1, 0, 0), 10, 0);
    end(&mut producers, 1, 0, 11, COMMIT);
    producers.update(&transactional(1, 0, 1), 12, 0);
    let mut loaded = Producers::new(i64::MAX);
    loaded.load_snapshot(&producers.to_snapshot(), 0).unwrap();
    assert_eq!(loaded.first_unstable_offset(99), Some(12));
    assert_eq!(loaded.to_snapshot(), producers.to_snapshot());
    let old = TransactionMarker { coordinator_epoch: 1, ..ABORT };
    assert!(loaded.check_marker(&marker(1, 0, old), old).is_err());
}

#[test]
fn a_snapshot_is_kafkas_bytes() {
    let bytes = after(&[batch(3, 4, 2)]).to_snapshot();
    let mut expected = vec![0, 1];
    expected.extend_from_slice(&crc32c::crc32c(&bytes[6..]).to_be_bytes());
    expected.extend_from_slice(&1i32.to_be_bytes());
    expected.extend_from_slice(&ID.to_be_bytes());
    expected.extend_from_slice(&3i16.to_be_bytes());
    expected.extend_from_slice(&5i32.to_be_bytes()); // last sequence
    expected.extend_from_slice(&1i64.to_be_bytes()); // last offset
    expected.extend_from_slice(&1i32.to_be_bytes()); // offset delta
    expected.extend_from_slice(&1_000i64.to_be_bytes());
    expected.extend_from_slice(&(-1i32).to_be_bytes()); // coordinator epoch
    expected.extend_from_slice(&(-1i64).to_be_bytes()); // no transaction
    assert_eq!(bytes, expected);
}

#[test]
fn a_snapshot_brings_back_the_last_batch_of_each_producer() {
    let snapshot = after(&[batch(0, 0, 10), batch(0, 10, 5)]).to_snapshot();
    let mut producers = Producers::new(1_000);
    producers.load_snapshot(&snapshot, 1_500).unwrap();
    assert_eq!(producers.to_snapshot(), snapshot);
    assert!(matches!(producers.check(&batch(0, 10, 5), 99), Ok(SequenceCheck::Duplicate { base_offset: 10, .. })));
    assert_eq!(producers.check(&batch(0, 15, 1), 99), NEW);
    producers.load_snapshot(&snapshot, 2_000).unwrap();
    assert!(producers.is_empty(), "expired meanwhile");
}

#[test]
fn a_damaged_snapshot_changes_nothing() {
    let mut producers = after(&[batch(0, 0, 10)]);
    let snapshot = producers.to_snapshot();
    for i in 0..snapshot.len() {
        let mut damaged = snapshot.clone();
        damaged[i] ^= 0x10;
        assert!(producers.load_snapshot(&damaged, 0).is_err(), "byte {i}");
        assert!(producers.load_snapshot(&snapshot[..i], 0).is_err(), "cut at {i}");
    }
    assert_eq!(producers.len(), 1);
}

/// The model keeps every batch ever appended, by plain counting without wraps.
#[derive(Default)]
struct Model {
    epoch: i16,
    appended: Vec<(i64, i64, i64)>, // first and last sequence, base offset
}

proptest! {
    #[test]
    fn checks_agree_with_a_model_that_forgets_nothing(
        start in prop_oneof![Just(0i64), Just(i64::from(i32::MAX) - 30)],
        attempts in prop::collection::vec((0..3i64, -40..40i64, 1..10i64, 0..10u8), 1..80),
    ) {
        let mut producers = Producers::new(i64::MAX);
        let mut models: BTreeMap<i64, Model> = BTreeMap::new();
        let mut offset = 0;
        for (id, step, records, choice) in attempts {
            let model = models.entry(id).or_default();
            let next = model.appended.last().map_or(start, |batch| batch.1 + 1);
            // Mostly the right sequence, sometimes a retry, sometimes anything; now and then a new epoch.
            let (first, records) = match (choice, model.appended.iter().rev().nth(step.unsigned_abs() as usize % 8)) {
                (0..=5, _) => (next, records),
                (6..=8, Some(old)) => (old.0, old.1 - old.0 + 1),
                _ => ((next + step).max(0), records),
            };
            let mut header = batch(model.epoch, (first & i64::from(i32::MAX)) as i32, records as i32);
            header.producer_id = id;
            let last = first + records - 1;
            let recent = &model.appended[model.appended.len().saturating_sub(KEPT)..];
            let duplicate = recent.iter().find(|batch| (batch.0, batch.1) == (first, last));
            let expected = match (duplicate, recent.first()) {
                (Some(&(_, _, base_offset)), _) => {
                    Ok(SequenceCheck::Duplicate { base_offset, last_offset: base_offset + records - 1, timestamp: 1_000 })
                }
                (None, None) => NEW,
                _ if first == next => NEW,
                (None, Some(oldest)) if last < oldest.0 => Err(SequenceError::DuplicateSequence),
                _ => Err(SequenceError::OutOfOrder {
                    producer_id: id,
                    offset,
                    got: header.base_sequence,
                    expected: ((next - 1) & i64::from(i32::MAX)) as i32,
                }),
            };
            let found = producers.check(&header, offset);
            prop_assert_eq!(&found, &expected);
            if found == NEW {
                producers.update(&header, offset, 0);
                model.appended.push((first, last, offset));
                offset += records;
            }
        }
    }

    #[test]
    fn any_bytes_are_loaded_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Producers::new(1).load_snapshot(&bytes, 0);
    }
}
