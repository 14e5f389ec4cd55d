//! Idempotent and transactional producers: what they must find again after compaction, and what aborts leave.

use super::*;

const ABORT: &[u8] = &[0, 0, 0, 0];
const COMMIT: &[u8] = &[0, 0, 0, 1];

fn of_producer(id: i64, sequence: i32, keys: &[&str]) -> BatchBuilder {
    batch_of(keys, 10).producer(id, 0, sequence)
}

fn in_transaction(id: i64, sequence: i32, keys: &[&str]) -> BatchBuilder {
    of_producer(id, sequence, keys).transactional(true)
}

fn marker(id: i64, kind: &[u8]) -> BatchBuilder {
    let mut builder = BatchBuilder::new(Compression::None).producer(id, 0, -1).transactional(true).control(true);
    builder.record(NOW_MS, Some(kind), Some(&[0; 6]), &[]);
    builder
}

fn aborted(producer_id: i64, first_offset: i64, last_offset: i64) -> AbortedTransaction {
    AbortedTransaction { producer_id, first_offset, last_offset, last_stable_offset: last_offset + 1 }
}

/// (base offset, records) of each batch.
fn batches(fixture: &Fixture) -> Vec<(i64, i32)> {
    fixture.headers().iter().map(|header| (header.base_offset, header.record_count)).collect()
}

#[test]
fn the_last_batch_of_a_producer_stays_without_its_records() {
    let segments = [
        vec![of_producer(7, 0, &["a"]), of_producer(7, 1, &["a", "b"]), batch_of(&["a", "b"], 1), batch_of(&["c"], 1)],
        vec![batch_of(&["z"], 1)],
    ];
    let fixture = Fixture::of_segments(&compacted(1 << 20), &segments, &[]);
    fixture.clean(NOW_MS);
    assert_eq!(batches(&fixture), [(1, 0), (3, 2), (5, 1), (6, 1)]);
    let header = fixture.headers()[0];
    assert_eq!((header.last_offset(), header.producer_id, header.base_sequence, header.last_sequence()), (2, 7, 1, 2));
    assert_eq!((header.base_timestamp, header.max_timestamp), (-1, NOW_MS + 1));
    // The state is found again from the log alone.
    for name in fixture.names().iter().filter(|name| name.ends_with(".snapshot")) {
        std::fs::remove_file(fixture.partition_dir().join(name)).unwrap();
    }
    let fixture = fixture.reopened();
    assert_eq!(fixture.log.last_batches()[&7].offset, Some(2));
}

#[test]
fn the_last_batch_of_a_round_stays_without_its_records() {
    let segments = [vec![batch_of(&["a"], 1), tombstones(&["a"])], vec![batch_of(&["z"], 1)]];
    let config = LogConfig { delete_retention_ms: 0, ..compacted(1 << 20) };
    let fixture = Fixture::of_segments(&config, &segments, &[]);
    fixture.clean(NOW_MS);
    fixture.log.set_cleaned_offset(None);
    fixture.clean(NOW_MS);
    assert_eq!(batches(&fixture), [(1, 0), (2, 1)]);
}

#[test]
fn aborted_records_go_and_do_not_hide_others() {
    let segments = [
        vec![
            batch_of(&["a"], 1),          // 0
            in_transaction(1, 0, &["a"]), // 1, aborted
            in_transaction(2, 0, &["b"]), // 2, committed
            marker(1, ABORT),             // 3
        ],
        vec![
            marker(2, COMMIT),            // 4
            in_transaction(1, 1, &["c"]), // 5, aborted by a marker in the active segment
            of_producer(2, 1, &["d"]),    // 6
        ],
        vec![marker(1, ABORT), batch_of(&["z"], 1)],
    ];
    let index = [(0, aborted(1, 1, 3)), (2, aborted(1, 5, 7))];
    let fixture = Fixture::of_segments(&compacted(1 << 20), &segments, &index);
    fixture.clean(NOW_MS);
    let records: Vec<_> =
        fixture.keys_and_offsets().into_iter().filter(|(key, _)| key.is_ascii() && !key.starts_with('\0')).collect();
    assert_eq!(records, at(&[("a", 0), ("b", 2), ("d", 6), ("z", 8)]));
    // 5 is its producer's last batch. Both markers have had batches in this round, so they stay as they are.
    assert_eq!(batches(&fixture), [(0, 1), (2, 1), (3, 1), (4, 1), (5, 0), (6, 1), (7, 1), (8, 1)]);
    assert_eq!(fixture.headers()[2].delete_horizon_ms(), None);
    assert!(fixture.names().contains(&"00000000000000000000.txnindex".to_string()));
}

#[test]
fn a_marker_without_batches_goes_at_its_delete_horizon() {
    let config = LogConfig { delete_retention_ms: 1000, ..compacted(1 << 20) };
    let segments = [
        vec![
            in_transaction(1, 0, &["a"]),
            marker(1, ABORT),
            in_transaction(1, 1, &["a"]),
            marker(1, COMMIT),
            batch_of(&["a"], 1),
        ],
        vec![in_transaction(1, 2, &["q"]), marker(1, COMMIT)],
    ];
    let fixture = Fixture::of_segments(&config, &segments, &[(0, aborted(1, 0, 1))]);
    let round = |now_ms| {
        fixture.log.set_cleaned_offset(None);
        fixture.clean(now_ms);
    };
    round(NOW_MS);
    assert_eq!(batches(&fixture), [(1, 1), (3, 1), (4, 1), (5, 1), (6, 1)], "the batches go first");
    round(NOW_MS);
    let horizons: Vec<_> = fixture.headers().iter().map(BatchHeader::delete_horizon_ms).collect();
    assert_eq!(horizons, [Some(NOW_MS + 1000), Some(NOW_MS + 1000), None, None, None]);
    assert!(!fixture.names().contains(&"00000000000000000000.txnindex".to_string()), "nothing to hide any more");
    round(NOW_MS + 999);
    assert_eq!(batches(&fixture).len(), 5);
    round(NOW_MS + 1000);
    assert_eq!(batches(&fixture), [(4, 1), (5, 1), (6, 1)]);
}
