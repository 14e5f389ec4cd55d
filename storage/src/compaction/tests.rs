//! What a consumer of a compacted log sees: the last record of each key, as it was appended, at its offset.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use tempfile::TempDir;

use super::{CleanError, Cleaned, OffsetMap, clean, clean_dirtiest, swap};
use crate::batch::{self, BatchBuilder, BatchHeader, Compression};
use crate::io::Io;
use crate::log::{Log, LogConfig, LogManager, LogManagerOptions, LogSlice};
use crate::test_support::{OwnedRecord, any_codec, any_record, log_options, read_owned};
use crate::txn_index::{self, AbortedTransaction};
use crate::validate::ValidBatch;

mod crash;
mod model;
mod producers;

const NOW_MS: i64 = 1_700_000_000_000;
const DAY_MS: i64 = 86_400_000;

fn compacted(segment_bytes: u32) -> LogConfig {
    LogConfig {
        segment_bytes,
        compact: true,
        delete: false,
        index_interval_bytes: 200,
        min_cleanable_dirty_ratio: 0.0,
        file_delete_delay_ms: 0,
        ..LogConfig::default()
    }
}

fn open(dir: &Path, config: &LogConfig) -> Arc<LogManager> {
    let options = LogManagerOptions {
        tail_bytes: 16 << 20,
        producer_id_expiration_ms: DAY_MS,
        now_ms: NOW_MS,
        ..log_options(dir, config)
    };
    LogManager::open(options).unwrap()
}

/// The log "t-0" on a directory of its own.
struct Fixture {
    dir: TempDir,
    logs: Arc<LogManager>,
    log: Arc<Log>,
}

impl Fixture {
    fn new(config: &LogConfig) -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        let logs = open(dir.path(), config);
        let log = logs.create("t", 0, None, config.clone(), NOW_MS).unwrap();
        Fixture { dir, logs, log }
    }

    /// Segments as another broker left them, each a list of batches; the last one is active. Batches get the offsets that
    /// follow each other.
    fn of_segments(
        config: &LogConfig,
        segments: &[Vec<BatchBuilder>],
        aborted: &[(usize, AbortedTransaction)],
    ) -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        let partition = dir.path().join("t-0");
        std::fs::create_dir(&partition).unwrap();
        let mut offset = 0;
        for (i, batches) in segments.iter().enumerate() {
            let name = partition.join(format!("{offset:020}"));
            let entries: Vec<_> = aborted.iter().filter(|(at, _)| *at == i).map(|(_, entry)| *entry).collect();
            let index = txn_index::to_bytes(&entries);
            if !index.is_empty() {
                std::fs::write(name.with_extension("txnindex"), index).unwrap();
            }
            let mut bytes = Vec::new();
            for batch in batches {
                let records = batch.len() as i64;
                bytes.extend_from_slice(&batch.clone().build(offset, 0));
                offset += records;
            }
            std::fs::write(name.with_extension("log"), bytes).unwrap();
        }
        Fixture::at(dir, config)
    }

    fn at(dir: TempDir, config: &LogConfig) -> Fixture {
        let logs = open(dir.path(), config);
        let log = logs.get("t", 0).unwrap();
        Fixture { dir, logs, log }
    }

    /// As after a crash: there is no marker of a clean stop.
    fn reopened(self) -> Fixture {
        let Fixture { dir, logs, log } = self;
        let config = log.config();
        drop((logs, log));
        Fixture::at(dir, &config)
    }

    fn partition_dir(&self) -> PathBuf {
        self.dir.path().join("t-0")
    }

    fn names(&self) -> Vec<String> {
        Io::plain().list(&self.partition_dir()).unwrap()
    }

    async fn append(&self, builder: BatchBuilder) -> i64 {
        let bytes = builder.build(0, -1);
        let header = BatchHeader::read(&bytes).unwrap();
        let batch = ValidBatch { header, bytes, log_append_time: -1 };
        let base_offset = self.log.append(&batch, 0, NOW_MS).unwrap().base_offset;
        self.log.written(self.log.log_end_offset()).await.unwrap();
        // Rolled segments are completed in tasks of their own.
        for _ in 0..1000 {
            if self.log.cleanable(NOW_MS).unwrap().is_none_or(|c| c.until == self.log.active_base_offset()) {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        base_offset
    }

    fn clean(&self, now_ms: i64) -> Cleaned {
        self.clean_with(&mut OffsetMap::new(1 << 20, 0.9), now_ms)
    }

    fn clean_with(&self, map: &mut OffsetMap, now_ms: i64) -> Cleaned {
        clean(&self.log, map, now_ms, &mut |_| ControlFlow::Continue(())).unwrap().expect("something to clean")
    }

    /// Every batch, as a consumer reads them from `offset` on.
    fn batches_from(&self, mut offset: i64) -> Vec<Bytes> {
        let mut all = Vec::new();
        let end = self.log.high_watermark();
        while offset < end {
            let read = block_on(self.log.read(offset, i64::MAX, 1 << 20, true)).unwrap().unwrap();
            let bytes = block_on(read.into_bytes()).unwrap();
            if bytes.is_empty() {
                break;
            }
            for whole in batch::batches(&bytes) {
                let Ok((_, header, whole)) = whole else { break };
                batch::verify_crc(whole).unwrap();
                all.push(Bytes::copy_from_slice(whole));
                assert!(header.next_offset() > offset, "batches that were read before");
                offset = header.next_offset();
            }
        }
        all
    }

    fn headers(&self) -> Vec<BatchHeader> {
        self.batches_from(self.log.log_start_offset()).iter().map(|b| BatchHeader::read(b).unwrap()).collect()
    }

    /// Every record with its offset.
    fn records_from(&self, offset: i64) -> Vec<(i64, OwnedRecord)> {
        let records = self.batches_from(offset).into_iter().flat_map(|batch| read_owned(&batch));
        records.filter(|(at, _)| *at >= offset).collect()
    }

    fn records(&self) -> Vec<(i64, OwnedRecord)> {
        self.records_from(self.log.log_start_offset())
    }

    fn keys_and_offsets(&self) -> Vec<(String, i64)> {
        let key = |record: OwnedRecord| String::from_utf8(record.key.unwrap_or_default()).unwrap();
        self.records().into_iter().map(|(offset, record)| (key(record), offset)).collect()
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// One record a key, values of `value_bytes`, from `NOW_MS` on.
fn batch_of(keys: &[&str], value_bytes: usize) -> BatchBuilder {
    batch_with(Compression::None, keys, Some(value_bytes))
}

fn tombstones(keys: &[&str]) -> BatchBuilder {
    batch_with(Compression::None, keys, None)
}

fn batch_with(codec: Compression, keys: &[&str], value_bytes: Option<usize>) -> BatchBuilder {
    let mut builder = BatchBuilder::new(codec);
    let value = value_bytes.map(|len| vec![b'v'; len]);
    for (i, key) in (0..).zip(keys) {
        builder.record(NOW_MS + i, Some(key.as_bytes()), value.as_deref(), &[]);
    }
    builder
}

fn at(pairs: &[(&str, i64)]) -> Vec<(String, i64)> {
    pairs.iter().map(|(key, offset)| (key.to_string(), *offset)).collect()
}

#[test]
fn the_last_record_of_each_key_stays_at_its_offset() {
    let segments = [
        vec![batch_of(&["a", "b", "c"], 10), batch_of(&["a", "d"], 10)],
        vec![batch_of(&["b", "a"], 10)],
        vec![batch_of(&["a"], 10)],
    ];
    let fixture = Fixture::of_segments(&compacted(1 << 20), &segments, &[]);
    let cleaned = fixture.clean(NOW_MS);
    assert_eq!((cleaned.from_offset, cleaned.to_offset, cleaned.keys), (0, 7, 4));
    // The active segment is left alone.
    let expected = at(&[("c", 2), ("d", 4), ("b", 5), ("a", 6), ("a", 7)]);
    assert_eq!(fixture.keys_and_offsets(), expected);
    let logs: Vec<_> = fixture.names().into_iter().filter(|name| name.ends_with(".log")).collect();
    assert_eq!(logs, ["00000000000000000000.log", "00000000000000000007.log"], "two segments became one");
    let fixture = fixture.reopened();
    assert_eq!(fixture.keys_and_offsets(), expected);
    assert_eq!(fixture.log.log_end_offset(), 8);
}

#[test]
fn records_without_a_key_go() {
    let mut keyless = BatchBuilder::new(Compression::None);
    keyless.record(NOW_MS, None, Some(b"x"), &[]).record(NOW_MS, Some(b"k"), Some(b"x"), &[]);
    let fixture = Fixture::of_segments(&compacted(1 << 20), &[vec![keyless], vec![batch_of(&["z"], 1)]], &[]);
    fixture.clean(NOW_MS);
    assert_eq!(fixture.keys_and_offsets(), at(&[("k", 1), ("z", 2)]));
}

#[test]
fn a_batch_that_loses_nothing_is_copied_as_it_is() {
    let segments =
        [vec![batch_of(&["a", "b"], 10), batch_with(Compression::Gzip, &["c"], Some(500))], vec![batch_of(&["z"], 1)]];
    let fixture = Fixture::of_segments(&compacted(1 << 20), &segments, &[]);
    let before = fixture.batches_from(0);
    fixture.clean(NOW_MS);
    assert_eq!(fixture.batches_from(0), before);
}

#[test]
fn a_batch_that_loses_records_keeps_its_offsets_and_its_codec() {
    for codec in [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
        let segments = [
            vec![batch_with(codec, &["a", "b", "a", "c", "c"], Some(3)), batch_of(&["c"], 10)],
            vec![batch_of(&["z"], 1)],
        ];
        let fixture = Fixture::of_segments(&compacted(1 << 20), &segments, &[]);
        fixture.clean(NOW_MS);
        let header = fixture.headers()[0];
        assert_eq!((header.base_offset, header.last_offset_delta, header.record_count), (0, 4, 2));
        assert_eq!(header.compression(), Some(codec));
        assert_eq!((header.base_timestamp, header.max_timestamp), (NOW_MS, NOW_MS + 2));
        assert_eq!(fixture.keys_and_offsets(), at(&[("b", 1), ("a", 2), ("c", 5), ("z", 6)]));
    }
}

#[test]
fn tombstones_stay_until_their_delete_horizon() {
    let config = LogConfig { delete_retention_ms: 1000, ..compacted(1 << 20) };
    let segments = [
        vec![batch_of(&["a", "b"], 10), tombstones(&["a"]), batch_of(&["c"], 1)],
        vec![batch_of(&["z"], 1)],
        vec![batch_of(&["z"], 1)],
    ];
    let fixture = Fixture::of_segments(&config, &segments, &[]);
    fixture.clean(NOW_MS);
    let with_tombstone = at(&[("b", 1), ("a", 2), ("c", 3), ("z", 4), ("z", 5)]);
    assert_eq!(fixture.keys_and_offsets(), with_tombstone);
    let header = fixture.headers()[1];
    assert_eq!(header.delete_horizon_ms(), Some(NOW_MS + 1000));
    assert_eq!(fixture.records()[1].1.timestamp, NOW_MS, "the record's own time is what it was");

    // Cleaned again before and after the horizon, as if nothing were clean.
    fixture.log.set_cleaned_offset(None);
    fixture.clean(NOW_MS + 999);
    assert_eq!(fixture.keys_and_offsets(), with_tombstone);
    assert_eq!(fixture.headers()[1], header, "the horizon is set once");
    fixture.log.set_cleaned_offset(None);
    fixture.clean(NOW_MS + 1000);
    assert_eq!(fixture.keys_and_offsets(), at(&[("b", 1), ("c", 3), ("z", 4), ("z", 5)]));
}

#[test]
fn a_full_map_cleans_as_far_as_it_has_come_and_goes_on_from_there() {
    let keys: Vec<String> = (0..40).map(|i| format!("key-{}", i % 20)).collect();
    let segment = |keys: &[String]| keys.iter().map(|key| batch_of(&[key], 10)).collect::<Vec<_>>();
    let fixture = Fixture::of_segments(&compacted(1 << 20), &[segment(&keys), vec![batch_of(&["z"], 1)]], &[]);
    let mut map = OffsetMap::new(24 * 10, 0.9);
    let (mut from, mut rounds) = (0, 0);
    while from < 40 {
        let cleaned = fixture.clean_with(&mut map, NOW_MS);
        assert_eq!(cleaned.from_offset, from);
        assert!(cleaned.to_offset > from && cleaned.keys <= 8);
        from = cleaned.to_offset;
        rounds += 1;
    }
    assert!(rounds > 3);
    let last: Vec<_> =
        (20..40).map(|offset| (keys[offset as usize].clone(), offset)).chain([("z".into(), 40)]).collect();
    assert_eq!(fixture.keys_and_offsets(), last);
}

#[test]
fn segments_are_grouped_up_to_their_limits() {
    let segment = |key: &str| vec![batch_of(&[key], 300)];
    let segments = [segment("a"), segment("b"), segment("c"), segment("d"), segment("z")];
    let bases = |fixture: &Fixture| -> Vec<i64> {
        fixture.names().iter().filter_map(|name| crate::segment::parse_file_name(name, ".log")).collect()
    };
    let fixture = Fixture::of_segments(&compacted(800), &segments, &[]);
    fixture.clean(NOW_MS);
    assert_eq!(bases(&fixture), [0, 2, 4], "by size");
    let narrow = LogConfig { segment_index_bytes: 15, ..compacted(1 << 20) };
    let fixture = Fixture::of_segments(&narrow, &segments, &[]);
    fixture.clean(NOW_MS);
    assert_eq!(bases(&fixture), [0, 1, 2, 3, 4], "by the time index: an entry each");
}

#[test]
fn reads_and_times_go_over_the_gaps() {
    let keys: Vec<String> = (0..300).map(|i| format!("{}", i % 7)).collect();
    let batches: Vec<_> = (0..)
        .zip(&keys)
        .map(|(i, key)| {
            let mut builder = BatchBuilder::new(Compression::None);
            builder.record(NOW_MS + i * 10, Some(key.as_bytes()), Some(&[1; 50]), &[]);
            builder
        })
        .collect();
    let segments: Vec<_> = batches.chunks(50).map(<[_]>::to_vec).collect();
    let fixture = Fixture::of_segments(&compacted(4000), &segments, &[]);
    fixture.clean(NOW_MS);
    for fixture in [fixture.reopened()] {
        let records = fixture.records();
        assert!(records.len() < 70);
        for offset in 0..300 {
            let expected: Vec<_> = records.iter().filter(|(at, _)| *at >= offset).cloned().collect();
            assert_eq!(fixture.records_from(offset), expected, "from {offset}");
            let wanted = NOW_MS + offset * 10;
            let (at, record) = &expected[0];
            let found = block_on(fixture.log.offset_for_timestamp(wanted)).unwrap();
            assert_eq!(found, Some((record.timestamp, *at, 0)), "at {wanted}");
        }
        let newest = block_on(fixture.log.offset_of_max_timestamp()).unwrap();
        assert_eq!(newest, Some((NOW_MS + 2990, 299, 0)));
    }
}

#[test]
fn a_reader_of_an_old_segment_goes_on() {
    let segments = [vec![batch_of(&["a"], 100), batch_of(&["a"], 100)], vec![batch_of(&["z"], 1)]];
    let fixture = Fixture::of_segments(&compacted(1 << 20), &segments, &[]);
    let before = fixture.batches_from(0);
    let read = block_on(fixture.log.read(0, i64::MAX, 1 << 20, true)).unwrap().unwrap();
    fixture.clean(NOW_MS);
    block_on(fixture.logs.tick(NOW_MS + 1));
    assert!(!fixture.names().iter().any(|name| name.ends_with(".deleted")), "{:?}", fixture.names());
    let [LogSlice::File(slice)] = &read.slices[..] else { panic!("{read:?}") };
    let bytes = slice.file.read_blocking(slice.pos, slice.len).unwrap();
    assert_eq!(bytes, before[..2].concat());
    assert_eq!(fixture.keys_and_offsets(), at(&[("a", 1), ("z", 2)]));
}

#[test]
fn batches_larger_than_a_piece_are_cleaned_too() {
    let segments = [
        vec![batch_of(&["a"], 3 << 20), batch_of(&["b", "a", "c"], 1 << 20), batch_of(&["b"], 5)],
        vec![batch_of(&["z"], 1)],
    ];
    let fixture = Fixture::of_segments(&compacted(1 << 30), &segments, &[]);
    fixture.clean(NOW_MS);
    assert_eq!(fixture.keys_and_offsets(), at(&[("a", 2), ("c", 3), ("b", 4), ("z", 5)]));
}

#[test]
fn what_is_cleanable_follows_the_settings() {
    let hours = |n: i64| {
        let mut builder = BatchBuilder::new(Compression::None);
        builder.record(NOW_MS + n * 3_600_000, Some(b"k"), Some(&[0; 100]), &[]);
        vec![builder]
    };
    let segments = [hours(0), hours(1), hours(2), hours(3)];
    let now_ms = NOW_MS + 3 * 3_600_000;
    let cleanable = |config: &LogConfig, cleaned: Option<i64>| {
        let fixture = Fixture::of_segments(config, &segments, &[]);
        fixture.log.set_cleaned_offset(cleaned);
        let cleanable = fixture.log.cleanable(now_ms).unwrap().unwrap();
        (cleanable.from, cleanable.until, cleanable.is_due(config))
    };
    let config = LogConfig { min_cleanable_dirty_ratio: 0.5, ..compacted(1 << 20) };
    assert_eq!(cleanable(&config, None), (0, 3, true));
    assert_eq!(cleanable(&config, Some(2)), (2, 3, false), "a third is dirty");
    assert_eq!(cleanable(&config, Some(99)), (0, 3, true), "beyond the end: all is dirty");
    let lag = LogConfig { min_compaction_lag_ms: 90 * 60_000, ..config.clone() };
    assert_eq!(cleanable(&lag, None), (0, 2, true));
    let max_lag = LogConfig { max_compaction_lag_ms: 30 * 60_000, ..config };
    assert_eq!(cleanable(&max_lag, Some(2)), (2, 3, true), "its first record is an hour old");
}

#[test]
fn the_dirtiest_log_comes_first_and_a_damaged_one_is_left_alone() {
    let config = compacted(1 << 20);
    let fixture = Fixture::of_segments(
        &config,
        &[vec![batch_of(&["a"], 10), batch_of(&["a"], 10)], vec![batch_of(&["z"], 1)]],
        &[],
    );
    let config = LogConfig { min_cleanable_dirty_ratio: 0.5, ..config };
    fixture.log.update_config(config.clone());
    // A second log whose file is damaged after it was opened.
    let second = fixture.dir.path().join("damaged-0");
    std::fs::create_dir(&second).unwrap();
    for entry in ["00000000000000000000.log", "00000000000000000002.log"] {
        std::fs::copy(fixture.partition_dir().join(entry), second.join(entry)).unwrap();
    }
    let fixture = fixture.reopened();
    let mut bytes = std::fs::read(second.join("00000000000000000000.log")).unwrap();
    let end = bytes.len();
    bytes[end - 1] ^= 1;
    std::fs::write(second.join("00000000000000000000.log"), &bytes).unwrap();
    let mut map = OffsetMap::new(1 << 20, 0.9);
    let mut pace = |_| ControlFlow::Continue(());
    let rounds = (0..5).take_while(|_| clean_dirtiest(&fixture.logs, &mut map, NOW_MS, &mut pace).unwrap()).count();
    assert_eq!(rounds, 2);
    assert_eq!(fixture.keys_and_offsets(), at(&[("a", 1), ("z", 2)]));
    assert_eq!(std::fs::read(second.join("00000000000000000000.log")).unwrap(), bytes, "the damaged one is as it was");
    assert!(!Io::plain().list(&second).unwrap().iter().any(|name| name.ends_with(".cleaned")));
    let checkpoint = std::fs::read_to_string(fixture.dir.path().join("cleaner-offset-checkpoint")).unwrap();
    assert_eq!(checkpoint, "0\n1\nt 0 2\n");
    let fixture = fixture.reopened();
    assert_eq!(fixture.log.cleaned_offset(), Some(2));
}

#[test]
fn a_log_that_is_deleted_meanwhile_is_let_go_and_its_successor_not_touched() {
    let segments = [vec![batch_of(&["a"], 10), batch_of(&["a"], 10)], vec![batch_of(&["z"], 1)]];
    let fixture = Fixture::of_segments(&compacted(1 << 20), &segments, &[]);
    let mut deleted = false;
    let stopped = clean(&fixture.log, &mut OffsetMap::new(1 << 20, 0.9), NOW_MS, &mut |_| {
        if !std::mem::replace(&mut deleted, true) {
            fixture.logs.delete("t", 0, NOW_MS).unwrap();
            fixture.logs.create("t", 0, None, compacted(1 << 20), NOW_MS).unwrap();
        }
        ControlFlow::Continue(())
    });
    assert!(matches!(stopped, Err(CleanError::Stopped)), "{stopped:?}");
    assert_eq!(fixture.names(), Vec::<String>::new());
}

#[test]
fn the_pace_is_told_of_every_byte_and_may_stop() {
    let segments = [vec![batch_of(&["a"], 10_000), batch_of(&["b"], 10_000)], vec![batch_of(&["z"], 1)]];
    let fixture = Fixture::of_segments(&compacted(1 << 20), &segments, &[]);
    let mut map = OffsetMap::new(1 << 20, 0.9);
    let stopped = clean(&fixture.log, &mut map, NOW_MS, &mut |_| ControlFlow::Break(()));
    assert!(matches!(stopped, Err(CleanError::Stopped)));
    let before = fixture.names();
    let mut bytes = 0;
    clean(&fixture.log, &mut map, NOW_MS, &mut |more| {
        bytes += more;
        ControlFlow::Continue(())
    })
    .unwrap()
    .unwrap();
    assert!(bytes > 40_000, "both passes read all: {bytes}");
    assert!(!before.iter().any(|name| name.ends_with(".cleaned")), "{before:?}");
}

#[test]
fn a_log_of_few_keys_stays_small_if_asked_to_roll_early() {
    let config = LogConfig { min_cleanable_dirty_ratio: 0.5, ..compacted(1 << 30) };
    let fixture = Fixture::new(&config);
    let log = &fixture.log;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let is_closed = |until| log.cleanable(NOW_MS).unwrap().is_some_and(|cleanable| cleanable.until == until);
        for round in 0..50 {
            fixture.append(batch_of(&["a", "b", "c", "d"], 16 << 10)).await;
            let before = log.active_base_offset();
            log.roll_if_mostly_dirty(NOW_MS);
            while log.active_base_offset() > before && !is_closed(log.active_base_offset()) {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
            let mut pace = |_| ControlFlow::Continue(());
            clean_dirtiest(&fixture.logs, &mut OffsetMap::new(1 << 20, 0.9), NOW_MS, &mut pace).unwrap();
            let bytes = log.size_bytes();
            assert!(bytes < 700 << 10, "64 KiB that count, but {bytes} after round {round}");
        }
        assert!(log.replacements() > 3);
        let active = log.active_base_offset();
        log.roll_if_mostly_dirty(NOW_MS);
        assert_eq!(log.active_base_offset(), active, "too little to gain");
    });
}
