//! The log as its callers see it, over every io backend: what was appended is read back, at any offset and time, after
//! rolls, evictions, clean stops and crashes.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use ottla_storage::batch::{self, BatchBuilder, BatchHeader, Compression};
use ottla_storage::io::{Io, install_ring};
use ottla_storage::log::{Log, LogConfig, LogManager, LogManagerOptions, LogSlice};
use ottla_storage::validate::ValidBatch;
use proptest::prelude::*;

const NOW_MS: i64 = 1_700_000_000_000;

fn options(dir: &Path, io: &Io, config: LogConfig) -> LogManagerOptions {
    LogManagerOptions {
        dirs: vec![dir.to_path_buf()],
        node_id: 1,
        cluster_id: None,
        defaults: config,
        tail_bytes: 64 << 20,
        producer_id_expiration_ms: 86_400_000,
        recovery_threads: 2,
        retention_check_interval_ms: 300_000,
        now_ms: NOW_MS,
        io: Some(io.clone()),
    }
}

/// Each backend, with a directory of its own.
fn backends() -> [(Io, tempfile::TempDir); 2] {
    let base = Path::new(env!("CARGO_TARGET_TMPDIR"));
    [Io::probe(base), Io::plain()].map(|io| (io, tempfile::tempdir_in(base).unwrap()))
}

/// Runs `work` on a runtime with a ring. What other threads do for it has ended too when this returns.
fn on_runtime(io: &Io, work: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let local = tokio::task::LocalSet::new();
    runtime.block_on(local.run_until(async {
        let _ring = install_ring(io).unwrap();
        work.await;
    }));
}

fn on_every_backend<F: Future<Output = ()>>(test: impl Fn(std::path::PathBuf, Io) -> F) {
    for (io, dir) in backends() {
        on_runtime(&io, test(dir.path().to_path_buf(), io.clone()));
    }
}

fn small_segments(segment_bytes: u32) -> LogConfig {
    LogConfig { segment_bytes, ..LogConfig::default() }
}

/// A batch of `count` records with `value_bytes` each, timestamps from `timestamp` on.
fn batch_of(count: usize, value_bytes: usize, timestamp: i64, seed: u8) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Compression::None);
    for i in 0..count {
        builder.record(timestamp + i as i64, Some(&[seed, i as u8]), Some(&vec![seed; value_bytes]), &[]);
    }
    builder.build(0, -1).to_vec()
}

fn append(log: &Arc<Log>, bytes: &[u8]) -> i64 {
    let header = BatchHeader::read(bytes).unwrap();
    let batch = ValidBatch { header, bytes: Bytes::copy_from_slice(bytes), log_append_time: -1 };
    log.append(&batch, 0, NOW_MS).unwrap().base_offset
}

async fn append_written(log: &Arc<Log>, bytes: &[u8]) -> i64 {
    let base = append(log, bytes);
    log.written(log.log_end_offset()).await.unwrap();
    base
}

/// Everything from `offset` on, as a consumer reads it: (offset, value's first byte, value length) of each record.
async fn consume(log: &Log, mut offset: i64) -> Vec<(i64, u8, usize)> {
    let mut records = Vec::new();
    while offset < log.high_watermark() {
        let bytes = log.read(offset, i64::MAX, 64 << 10, true).await.unwrap().unwrap().into_bytes().await.unwrap();
        let before = offset;
        for whole in batch::batches(&bytes) {
            let Ok((_, header, bytes)) = whole else { break };
            batch::verify_crc(bytes).unwrap();
            let decoded = batch::records_bytes(bytes, 1 << 20).unwrap();
            for record in batch::records(&header, &decoded) {
                let record = record.unwrap();
                if record.offset >= offset {
                    let value = record.value.unwrap();
                    records.push((record.offset, value.first().copied().unwrap_or(0), value.len()));
                }
            }
            offset = header.next_offset();
        }
        assert!(offset > before, "no progress at {before}");
    }
    records
}

fn log_files(dir: &Path) -> Vec<(String, u64)> {
    let mut files: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap())
        .map(|e| (e.file_name().into_string().unwrap(), e.metadata().unwrap().len()))
        .collect();
    files.sort();
    files
}

#[test]
fn what_was_appended_is_read_from_any_offset() {
    on_every_backend(|dir, io| async move {
        let logs = LogManager::open(options(&dir, &io, LogConfig::default())).unwrap();
        let log = logs.create("t", 0, None, LogConfig::default(), NOW_MS).unwrap();
        for i in 0..50u8 {
            assert_eq!(append(&log, &batch_of(3, 700, NOW_MS, i)), i64::from(i) * 3);
        }
        log.written(150).await.unwrap();
        for from in 0..150 {
            let read = consume(&log, from).await;
            let expected: Vec<_> = (from..150).map(|o| (o, (o / 3) as u8, 700)).collect();
            assert_eq!(read, expected, "from {from}");
        }
    });
}

#[test]
fn a_read_ends_at_a_batch_and_the_first_batch_comes_whole() {
    on_every_backend(|dir, io| async move {
        let logs = LogManager::open(options(&dir, &io, LogConfig::default())).unwrap();
        let log = logs.create("t", 0, None, LogConfig::default(), NOW_MS).unwrap();
        for i in 0..8u8 {
            append_written(&log, &batch_of(1, 6000, NOW_MS, i)).await;
        }
        let one = log.read(3, i64::MAX, 10, true).await.unwrap().unwrap().into_bytes().await.unwrap();
        assert_eq!(one.len(), batch_of(1, 6000, NOW_MS, 0).len());
        assert_eq!(BatchHeader::read(&one).unwrap().base_offset, 3);
        assert_eq!(log.read(3, i64::MAX, 10, false).await.unwrap().unwrap().bytes, 0);
        assert_eq!(log.read(8, i64::MAX, 10, true).await.unwrap().unwrap().bytes, 0);
        assert!(log.read(9, i64::MAX, 10, true).await.unwrap().is_err());
        let three = log.read(0, 3, 1 << 20, true).await.unwrap().unwrap().into_bytes().await.unwrap();
        assert_eq!(batch::batches(&three).map(|b| b.unwrap().1.base_offset).collect::<Vec<_>>(), [0, 1, 2]);
    });
}

#[test]
fn segments_roll_by_size_and_are_cut_indexed_and_read_across() {
    on_every_backend(|dir, io| async move {
        let config = small_segments(40_000);
        let logs = LogManager::open(options(&dir, &io, config.clone())).unwrap();
        let log = logs.create("t", 0, None, config, NOW_MS).unwrap();
        for i in 0..100u8 {
            append(&log, &batch_of(2, 1500, NOW_MS + i64::from(i), i));
        }
        log.written(200).await.unwrap();
        logs.close(1).await.unwrap();
        let files = log_files(log.dir());
        let batch_bytes = batch_of(2, 1500, NOW_MS, 0).len() as u64;
        let sizes: Vec<u64> = files.iter().filter(|(n, _)| n.ends_with(".log")).map(|f| f.1).collect();
        assert!(sizes.len() > 6 && sizes.iter().all(|s| *s <= 40_000 && s % batch_bytes == 0), "{sizes:?}");
        assert_eq!(sizes.iter().sum::<u64>(), 100 * batch_bytes);
        for suffix in [".index", ".timeindex"] {
            assert!(files.iter().filter(|(n, _)| n.ends_with(suffix)).all(|f| f.1 > 0), "{files:?}");
        }
        assert_eq!(consume(&log, 0).await.len(), 200);
        assert_eq!(consume(&log, 77).await.len(), 123);
    });
}

#[test]
fn after_a_clean_stop_the_log_goes_on_where_it_ended() {
    on_every_backend(|dir, io| async move {
        for round in 0..4i64 {
            let logs = LogManager::open(options(&dir, &io, LogConfig::default())).unwrap();
            let log = logs.create("t", 0, None, LogConfig::default(), NOW_MS).unwrap();
            assert_eq!(log.log_end_offset(), round * 15);
            assert_eq!(consume(&log, 0).await.len() as i64, round * 15);
            for i in 0..5 {
                append_written(&log, &batch_of(3, 900, NOW_MS, i)).await;
            }
            logs.close(1).await.unwrap();
            assert!(dir.join(".kafka_cleanshutdown").exists());
        }
    });
}

#[test]
fn after_a_crash_all_that_was_written_is_there() {
    for (io, dir) in backends() {
        let dir = dir.path().to_path_buf();
        for round in 0..4i64 {
            on_runtime(&io, async {
                let config = small_segments(20_000);
                let logs = LogManager::open(options(&dir, &io, config.clone())).unwrap();
                let log = logs.create("t", 0, None, config, NOW_MS).unwrap();
                assert_eq!(log.log_end_offset(), round * 21);
                assert_eq!(consume(&log, 0).await.len() as i64, round * 21);
                for i in 0..7 {
                    append_written(&log, &batch_of(3, 900, NOW_MS, i)).await;
                }
                assert!(!dir.join(".kafka_cleanshutdown").exists());
            });
        }
    }
}

/// Kafka reserves it as zeros, which its tools take for entries that lead nowhere.
#[test]
fn space_that_a_killed_kafka_reserved_in_the_indexes_of_an_empty_log_is_given_back() {
    on_every_backend(async |dir, io| {
        let partition = dir.join("t-0");
        let logs = LogManager::open(options(&dir, &io, small_segments(1 << 20))).unwrap();
        logs.create("t", 0, None, small_segments(1 << 20), NOW_MS).unwrap();
        logs.close(1).await.unwrap();
        drop(logs);
        std::fs::remove_file(dir.join(".kafka_cleanshutdown")).unwrap();
        let name = partition.join("00000000000000000000");
        std::fs::write(name.with_extension("log"), []).unwrap();
        let indexes = ["index", "timeindex"].map(|kind| name.with_extension(kind));
        indexes.iter().for_each(|path| std::fs::write(path, [0; 12 << 10]).unwrap());
        let logs = LogManager::open(options(&dir, &io, small_segments(1 << 20))).unwrap();
        logs.close(1).await.unwrap();
        assert_eq!(indexes.map(|path| path.metadata().unwrap().len()), [0, 0]);
    });
}

#[test]
fn space_that_was_reserved_before_a_crash_is_written_to_after_it_and_cut_by_the_clean_stop() {
    on_every_backend(|dir, io| async move {
        let open = || {
            let logs = LogManager::open(options(&dir, &io, LogConfig::default())).unwrap();
            let log = logs.create("t", 0, None, LogConfig::default(), NOW_MS).unwrap();
            (logs, log)
        };
        let (logs, log) = open();
        append_written(&log, &batch_of(2, 300, NOW_MS, 1)).await;
        let path = log.dir().join("00000000000000000000.log");
        drop((logs, log));
        let batch_bytes = batch_of(2, 300, NOW_MS, 1).len() as u64;
        std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(1 << 20).unwrap();
        let (logs, log) = open();
        assert_eq!((log.log_end_offset(), path.metadata().unwrap().len()), (2, 1 << 20));
        append_written(&log, &batch_of(2, 300, NOW_MS, 2)).await;
        assert_eq!(consume(&log, 1).await, [(1, 1, 300), (2, 2, 300), (3, 2, 300)]);
        assert_eq!(path.metadata().unwrap().len(), 1 << 20);
        logs.close(1).await.unwrap();
        assert_eq!(path.metadata().unwrap().len(), 2 * batch_bytes);
    });
}

#[test]
fn a_torn_last_batch_is_cut() {
    on_every_backend(|dir, io| async move {
        let logs = LogManager::open(options(&dir, &io, LogConfig::default())).unwrap();
        let log = logs.create("t", 0, None, LogConfig::default(), NOW_MS).unwrap();
        for i in 0..5 {
            append_written(&log, &batch_of(2, 3000, NOW_MS, i)).await;
        }
        let path = log.dir().join("00000000000000000000.log");
        drop((log, logs));
        let batch_bytes = batch_of(2, 3000, NOW_MS, 0).len() as u64;
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(batch_bytes * 5 - 1).unwrap();
        let logs = LogManager::open(options(&dir, &io, LogConfig::default())).unwrap();
        let log = logs.get("t", 0).unwrap();
        assert_eq!(log.log_end_offset(), 8);
        assert_eq!(std::fs::metadata(&path).unwrap().len(), batch_bytes * 4);
        append_written(&log, &batch_of(1, 10, NOW_MS, 9)).await;
        assert_eq!(consume(&log, 7).await, [(7, 3, 3000), (8, 9, 10)]);
    });
}

/// Whoever opens the directory would take them for whole, if the recovery point were past the rolled segment.
#[test]
fn indexes_of_an_earlier_stop_are_gone_before_a_rolled_segment_has_a_successor() {
    on_every_backend(|dir, io| async move {
        let config = small_segments(64 << 10);
        let open = || {
            let logs = LogManager::open(options(&dir, &io, config.clone())).unwrap();
            let log = logs.create("t", 0, None, config.clone(), NOW_MS).unwrap();
            (logs, log)
        };
        let (logs, log) = open();
        append_written(&log, &batch_of(1, 100, NOW_MS, 1)).await;
        logs.close(1).await.unwrap();
        drop((logs, log));
        let index = dir.join("t-0/00000000000000000000.timeindex");
        let earlier = std::fs::read(&index).unwrap();
        let (_logs, log) = open();
        append_written(&log, &batch_of(1, 60_000, NOW_MS + 1, 2)).await;
        append_written(&log, &batch_of(1, 60_000, NOW_MS + 2, 3)).await;
        assert!(dir.join("t-0/00000000000000000002.log").exists());
        assert_ne!(std::fs::read(&index).ok(), Some(earlier));
    });
}

#[test]
fn records_are_found_by_time() {
    on_every_backend(|dir, io| async move {
        let config = LogConfig { index_interval_bytes: 500, ..small_segments(8_000) };
        let logs = LogManager::open(options(&dir, &io, config.clone())).unwrap();
        let log = logs.create("t", 0, None, config, NOW_MS).unwrap();
        for i in 0..40 {
            append_written(&log, &batch_of(5, 100, NOW_MS + 100 * i, 1)).await;
        }
        for i in 0..40 {
            for (delay, record) in [(0, 0), (3, 3), (5, 5)] {
                let found = log.offset_for_timestamp(NOW_MS + 100 * i + delay).await.unwrap();
                let offset = 5 * i + record;
                let timestamp = if record == 5 { NOW_MS + 100 * (i + 1) } else { NOW_MS + 100 * i + delay };
                assert_eq!(found, (offset < 200).then_some((timestamp, offset, 0)));
            }
        }
        assert_eq!(log.offset_for_timestamp(0).await.unwrap(), Some((NOW_MS, 0, 0)));
        assert_eq!(log.offset_of_max_timestamp().await.unwrap(), Some((NOW_MS + 3904, 199, 0)));
    });
}

#[test]
fn memory_of_all_tails_keeps_to_its_bound_and_reads_go_on_from_files() {
    on_every_backend(|dir, io| async move {
        let bounded = LogManagerOptions { tail_bytes: 256 << 10, ..options(&dir, &io, LogConfig::default()) };
        let logs = LogManager::open(bounded).unwrap();
        let all: Vec<_> = (0..4).map(|p| logs.create("t", p, None, LogConfig::default(), NOW_MS).unwrap()).collect();
        for i in 0..100u8 {
            for log in &all {
                append_written(log, &batch_of(1, 5_000, NOW_MS, i)).await;
            }
        }
        for log in &all {
            assert_eq!(consume(log, 0).await, (0..100).map(|o| (o, o as u8, 5_000)).collect::<Vec<_>>());
        }
    });
}

#[test]
fn an_idle_log_gives_its_memory_back_and_wakes_in_the_middle_of_a_block() {
    on_every_backend(|dir, io| async move {
        let logs = LogManager::open(options(&dir, &io, LogConfig::default())).unwrap();
        for (partition, flush_messages) in [(0, i64::MAX), (1, 1)] {
            let config = LogConfig { flush_messages, ..LogConfig::default() };
            let log = logs.create("t", partition, None, config, NOW_MS).unwrap();
            for i in 0..6 {
                append_written(&log, &batch_of(1, 1234, NOW_MS, i)).await;
                logs.tick(NOW_MS + i64::from(i) * 60_000).await;
                logs.tick(NOW_MS + i64::from(i) * 60_000 + 30_000).await;
            }
            assert_eq!(consume(&log, 0).await, (0..6).map(|o| (o, o as u8, 1234)).collect::<Vec<_>>());
        }
    });
}

#[test]
fn large_batches_are_not_copied_and_given_back_once_they_are_written() {
    on_every_backend(|dir, io| async move {
        let logs = LogManager::open(options(&dir, &io, LogConfig::default())).unwrap();
        let log = logs.create("t", 0, None, LogConfig::default(), NOW_MS).unwrap();
        let sent = Bytes::from(batch_of(1, 60_000, NOW_MS, 1));
        let batch = ValidBatch { header: BatchHeader::read(&sent).unwrap(), bytes: sent, log_append_time: -1 };
        let end = log.append(&batch, 0, NOW_MS).unwrap().last_offset + 1;
        assert!(!batch.bytes.is_unique(), "the log refers to it");
        log.written(end).await.unwrap();
        // The task that wrote it has still to end.
        tokio::task::yield_now().await;
        assert!(batch.bytes.is_unique());
        assert_eq!(consume(&log, 0).await, [(0, 1, 60_000)]);
        // Whoever has read up to the end will want the next batches at once, from memory.
        assert!(log.read(1, i64::MAX, 1 << 20, true).await.unwrap().unwrap().slices.is_empty());
        append_written(&log, &batch_of(1, 60_000, NOW_MS, 2)).await;
        let read = log.read(1, i64::MAX, 1 << 20, true).await.unwrap().unwrap();
        assert!(read.slices.iter().all(|slice| matches!(slice, LogSlice::Memory(_))));
        assert_eq!(consume(&log, 0).await, [(0, 1, 60_000), (1, 2, 60_000)]);
    });
}

#[test]
fn deleted_records_are_gone_and_whole_segments_with_them() {
    on_every_backend(|dir, io| async move {
        let config = small_segments(10_000);
        let logs = LogManager::open(options(&dir, &io, config.clone())).unwrap();
        let log = logs.create("t", 0, None, config.clone(), NOW_MS).unwrap();
        for i in 0..20 {
            append_written(&log, &batch_of(1, 2000, NOW_MS, i)).await;
        }
        assert_eq!(log.delete_records(11), 11);
        assert_eq!(log.delete_records(5), 11);
        assert!(log.read(10, i64::MAX, 100, true).await.unwrap().is_err());
        // A segment goes once it has been completed, which waits for the disk.
        let first = log.dir().join("00000000000000000000.log");
        for i in 1..1000 {
            logs.tick(NOW_MS + i * 400_000).await;
            if !first.exists() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        assert_eq!(consume(&log, 11).await.len(), 9);
        assert!(!first.exists());
        logs.close(1).await.unwrap();
        drop((log, logs));
        let logs = LogManager::open(options(&dir, &io, config)).unwrap();
        assert_eq!(logs.get("t", 0).unwrap().log_start_offset(), 11);
    });
}

#[test]
fn retention_by_size_and_time_deletes_from_the_front() {
    on_every_backend(|dir, io| async move {
        let by_size = LogConfig { retention_bytes: 25_000, ..small_segments(10_000) };
        let by_time = LogConfig { retention_ms: 1000, ..small_segments(10_000) };
        let logs = LogManager::open(options(&dir, &io, by_size.clone())).unwrap();
        let sized = logs.create("sized", 0, None, by_size, NOW_MS).unwrap();
        let timed = logs.create("timed", 0, None, by_time, NOW_MS).unwrap();
        for i in 0..20 {
            append_written(&sized, &batch_of(1, 2000, NOW_MS, i)).await;
            append_written(&timed, &batch_of(1, 2000, NOW_MS, i)).await;
        }
        for run in 1..=100 {
            logs.tick(NOW_MS + run * 300_000).await;
            if timed.log_start_offset() == 20 && sized.size_bytes() < 36_000 {
                break;
            }
            // Rolled segments are completed beside this.
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        assert!(sized.log_start_offset() > 0 && sized.size_bytes() >= 25_000 && sized.size_bytes() < 36_000);
        assert_eq!(timed.log_start_offset(), 20, "all of it expired, the active segment too");
        assert_eq!(append_written(&timed, &batch_of(1, 10, NOW_MS, 1)).await, 20);
    });
}

#[test]
fn a_log_that_was_deleted_is_renamed_and_later_removed() {
    on_every_backend(|dir, io| async move {
        let config = LogConfig { file_delete_delay_ms: 1000, ..LogConfig::default() };
        let logs = LogManager::open(options(&dir, &io, config.clone())).unwrap();
        let log = logs.create("t", 0, None, config.clone(), NOW_MS).unwrap();
        append_written(&log, &batch_of(1, 10, NOW_MS, 1)).await;
        logs.delete("t", 0, NOW_MS).unwrap();
        assert!(log.written(5).await.is_err());
        assert!(log_files(&dir).iter().any(|(name, _)| name.starts_with("t-0.") && name.ends_with("-delete")));
        let again = logs.create("t", 0, None, config, NOW_MS).unwrap();
        assert_eq!(again.log_end_offset(), 0);
        logs.tick(NOW_MS + 2000).await;
        assert!(!log_files(&dir).iter().any(|(name, _)| name.ends_with("-delete")));
    });
}

#[derive(Clone, Debug)]
enum Op {
    Append {
        count: usize,
        value_bytes: usize,
    },
    Read {
        back: i64,
    },
    Idle,
    /// flush.messages changes.
    Flush {
        each: bool,
    },
    Reopen {
        clean: bool,
    },
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (1..20usize, 0..9000usize).prop_map(|(count, value_bytes)| Op::Append { count, value_bytes }),
        3 => (0..100i64).prop_map(|back| Op::Read { back }),
        1 => Just(Op::Idle),
        1 => any::<bool>().prop_map(|each| Op::Flush { each }),
        1 => any::<bool>().prop_map(|clean| Op::Reopen { clean }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn a_log_equals_its_model(ops in proptest::collection::vec(op(), 1..60)) {
        on_every_backend(|dir, io| {
            let ops = ops.clone();
            async move {
                let config = LogConfig { index_interval_bytes: 1000, ..small_segments(200_000) };
                let bounded = || LogManagerOptions { tail_bytes: 128 << 10, ..options(&dir, &io, config.clone()) };
                let mut logs = LogManager::open(bounded()).unwrap();
                let mut log = logs.create("t", 0, None, config.clone(), NOW_MS).unwrap();
                let mut model = Vec::new();
                let mut now_ms = NOW_MS;
                for (step, op) in ops.into_iter().enumerate() {
                    let end = model.len() as i64;
                    match op {
                        Op::Append { count, value_bytes } => {
                            let seed = step as u8;
                            assert_eq!(append(&log, &batch_of(count, value_bytes, NOW_MS, seed)), end);
                            let byte = if value_bytes == 0 { 0 } else { seed };
                            model.extend((end..end + count as i64).map(|o| (o, byte, value_bytes)));
                        }
                        Op::Read { back } => {
                            log.written(end).await.unwrap();
                            let from = (end - back).max(0);
                            assert_eq!(consume(&log, from).await, model[from as usize..]);
                        }
                        Op::Idle => {
                            log.written(end).await.unwrap();
                            now_ms += 60_000;
                            logs.tick(now_ms).await;
                            now_ms += 60_000;
                            logs.tick(now_ms).await;
                        }
                        Op::Flush { each } => {
                            let flush_messages = if each { 1 } else { i64::MAX };
                            log.update_config(LogConfig { flush_messages, ..config.clone() });
                        }
                        Op::Reopen { clean } => {
                            log.written(end).await.unwrap();
                            if clean {
                                logs.close(1).await.unwrap();
                            }
                            // A process that is gone does not go on completing segments.
                            let gone = Arc::downgrade(&log);
                            drop((log, logs));
                            while gone.strong_count() > 0 {
                                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
                            }
                            logs = LogManager::open(bounded()).unwrap();
                            log = logs.get("t", 0).unwrap();
                            assert_eq!(log.log_end_offset(), end);
                        }
                    }
                }
                log.written(model.len() as i64).await.unwrap();
                assert_eq!(consume(&log, 0).await, model);
            }
        });
    }
}
