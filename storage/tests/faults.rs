//! Single faults on the simulated disk, damaged files, and small real disks that are full: what the engine does about
//! each, and what it leaves alone.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use ottla_storage::batch::{self, BatchBuilder, BatchHeader, Compression};
use ottla_storage::io::sim::{Crash, Faults, SimDisk};
use ottla_storage::io::{Backend, Io, OpenOptions, install_ring};
use ottla_storage::log::{AppendError, Log, LogConfig, LogManager, LogManagerOptions};
use ottla_storage::validate::ValidBatch;
use ottla_storage::{Error, Result};

const NOW_MS: i64 = 1_700_000_000_000;
const FIRST: &str = "00000000000000000000";

fn config() -> LogConfig {
    LogConfig { segment_bytes: 10_000, index_interval_bytes: 500, ..LogConfig::default() }
}

fn open(disk: &SimDisk, dirs: &[&str]) -> Arc<LogManager> {
    open_on(&Io::simulated(disk, Backend::Plain), dirs.iter().map(PathBuf::from).collect())
}

fn open_on(io: &Io, dirs: Vec<PathBuf>) -> Arc<LogManager> {
    LogManager::open(LogManagerOptions {
        dirs,
        node_id: 1,
        cluster_id: None,
        defaults: config(),
        tail_bytes: 1 << 20,
        producer_id_expiration_ms: 86_400_000,
        recovery_threads: 2,
        retention_check_interval_ms: 1_000,
        now_ms: NOW_MS,
        io: Some(io.clone()),
    })
    .unwrap()
}

fn on_disk<F: Future<Output = ()>>(disk: &SimDisk, test: impl FnOnce() -> F) {
    on_runtime(&Io::simulated(disk, Backend::Plain), async { test().await });
}

fn on_runtime(io: &Io, work: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let _ring = install_ring(io).unwrap();
        work.await;
    });
}

fn create(logs: &LogManager, partition: i32) -> Arc<Log> {
    create_with(logs, partition, config())
}

fn create_with(logs: &LogManager, partition: i32, config: LogConfig) -> Arc<Log> {
    logs.create("t", partition, None, config, NOW_MS).unwrap()
}

fn append(log: &Arc<Log>, value: u8) -> Result<i64, AppendError> {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.record(NOW_MS, None, Some(&[value; 900]), &[]);
    let bytes = builder.build(0, -1);
    let header = BatchHeader::read(&bytes).unwrap();
    let batch = ValidBatch { header, bytes, log_append_time: -1 };
    log.append(&batch, 0, NOW_MS).map(|appended| appended.base_offset)
}

async fn append_written(log: &Arc<Log>, value: u8) -> Result<()> {
    match append(log, value) {
        Ok(base) => log.written(base + 1).await,
        Err(AppendError::Storage(error)) => Err(error),
        Err(other) => panic!("{other}"),
    }
}

/// The offsets that a consumer sees from `offset` on.
async fn consume(log: &Log, mut offset: i64) -> Result<Vec<i64>> {
    let mut offsets = Vec::new();
    while offset < log.high_watermark() {
        let bytes = log.read(offset, i64::MAX, 1 << 20, true).await?.unwrap().into_bytes().await?;
        for (_, header, _) in batch::batches(&bytes).map_while(std::result::Result::ok) {
            offsets.push(header.base_offset);
            offset = header.next_offset();
        }
    }
    Ok(offsets)
}

fn change_byte(io: &Io, path: &Path, position: u64) {
    let file = io.open(path, OpenOptions::default()).unwrap();
    let mut byte = [0];
    file.pread(&mut byte, position).unwrap();
    file.pwrite(&[byte[0] ^ 0xff], position).unwrap();
}

#[test]
fn a_full_disk_refuses_writes_serves_reads_and_is_written_again_when_there_is_room() {
    let disk = SimDisk::new(1);
    on_disk(&disk, || async {
        let logs = open(&disk, &["/a"]);
        let log = create(&logs, 0);
        append_written(&log, 1).await.unwrap();
        disk.set_full(true);
        assert!(append_written(&log, 2).await.is_err());
        assert!(append(&log, 3).is_err(), "until it is tried again");
        assert_eq!(consume(&log, 0).await.unwrap(), [0]);
        logs.tick(NOW_MS + 1_000).await;
        assert!(append_written(&log, 3).await.is_err(), "still full");
        disk.set_full(false);
        logs.tick(NOW_MS + 2_000).await;
        append_written(&log, 4).await.unwrap();
        // What was refused stays in memory and is written too: an idempotent producer's retry is its duplicate.
        assert_eq!(consume(&log, 0).await.unwrap(), [0, 1, 2, 3]);
        disk.set_full(true);
        assert!(append_written(&log, 5).await.is_err());
        disk.set_full(false);
        logs.close(1).await.expect("a stop tries once more");
    });
}

#[test]
fn a_failed_sync_takes_its_directory_offline_for_good_and_no_other() {
    let disk = SimDisk::new(1);
    on_disk(&disk, || async {
        let logs = open(&disk, &["/a", "/b"]);
        let all: Vec<_> = (0..4).map(|partition| create(&logs, partition)).collect();
        for log in &all {
            append_written(log, 1).await.unwrap();
        }
        disk.set_faults(Faults { failed_syncs_one_in: 1, ..Faults::default() });
        assert!(all[0].flush().await.is_err());
        disk.set_faults(Faults::default());
        assert!(all[0].flush().await.is_err(), "the next sync would work, and lie");
        let failed = all[0].dir().parent().unwrap();
        for log in &all {
            let works = append_written(log, 2).await;
            match log.dir().parent() == Some(failed) {
                true => assert!(matches!(works, Err(Error::Offline { .. }))),
                false => works.unwrap(),
            }
            assert_eq!(consume(log, 0).await.unwrap().first(), Some(&0), "reads go on");
        }
        assert_eq!((logs.dirs().len(), logs.has_offline_dirs()), (1, true));
        for partition in 4..7 {
            assert_ne!(create(&logs, partition).dir().parent(), Some(failed));
        }
        assert!(logs.close(1).await.is_err());
        let io = logs.io();
        assert!(!io.exists(&failed.join(".kafka_cleanshutdown")));
    });
}

#[test]
fn a_directory_that_cannot_be_read_at_start_leaves_the_others_serving() {
    let disk = SimDisk::new(1);
    let io = Io::simulated(&disk, Backend::Plain);
    // A file where the directory should be.
    io.create_dir_all(Path::new("/")).unwrap();
    io.open(Path::new("/a"), OpenOptions { create: true, ..OpenOptions::default() }).unwrap();
    on_disk(&disk, || async {
        let logs = open(&disk, &["/a", "/b"]);
        assert!(logs.has_offline_dirs());
        append_written(&create(&logs, 0), 1).await.unwrap();
    });
}

/// Ten batches of a little less than 1000 bytes, not synced and not closed.
fn crashed_with_ten_batches(flush: bool) -> SimDisk {
    let disk = SimDisk::new(1);
    on_disk(&disk, || async {
        let logs = open(&disk, &["/a"]);
        let log = create(&logs, 0);
        for value in 0..10 {
            append_written(&log, value).await.unwrap();
        }
        if flush {
            log.flush().await.unwrap();
            logs.tick(NOW_MS + 10_000).await;
        }
    });
    disk.restart(Crash::Kill)
}

#[test]
fn a_corrupt_batch_past_the_recovery_point_ends_the_log_and_what_follows_is_kept_aside() {
    let disk = crashed_with_ten_batches(false);
    let (io, dir) = (Io::simulated(&disk, Backend::Plain), Path::new("/a/t-0"));
    let path = dir.join(format!("{FIRST}.log"));
    let before = io.read_small(&path).unwrap().unwrap();
    let batch_bytes = before.len() / 10;
    change_byte(&io, &path, (4 * batch_bytes + 200) as u64);
    on_disk(&disk, || async {
        let log = open(&disk, &["/a"]).get("t", 0).unwrap();
        assert_eq!(log.log_end_offset(), 4);
        assert_eq!(consume(&log, 0).await.unwrap(), [0, 1, 2, 3]);
        let kept = io.read_small(&dir.join(format!("{FIRST}.log.corrupt-{}", 4 * batch_bytes))).unwrap().unwrap();
        assert_eq!(kept[batch_bytes..], before[5 * batch_bytes..], "the batches behind the bad one");
    });
}

#[test]
fn a_torn_last_batch_is_cut_without_a_trace() {
    let disk = crashed_with_ten_batches(false);
    let (io, dir) = (Io::simulated(&disk, Backend::Plain), Path::new("/a/t-0"));
    let path = dir.join(format!("{FIRST}.log"));
    let len = io.read_small(&path).unwrap().unwrap().len() as u64;
    change_byte(&io, &path, len - 1);
    on_disk(&disk, || async {
        assert_eq!(open(&disk, &["/a"]).get("t", 0).unwrap().log_end_offset(), 9);
        assert!(!io.list(dir).unwrap().iter().any(|name| name.contains("corrupt")));
    });
}

#[test]
fn batches_below_the_recovery_point_are_not_judged_at_start_and_a_bad_one_is_an_error_to_its_readers_alone() {
    let disk = crashed_with_ten_batches(true);
    let (io, path) = (Io::simulated(&disk, Backend::Plain), PathBuf::from(format!("/a/t-0/{FIRST}.log")));
    let batch_bytes = io.read_small(&path).unwrap().unwrap().len() / 10;
    change_byte(&io, &path, (4 * batch_bytes + 200) as u64);
    on_disk(&disk, || async {
        let logs = open(&disk, &["/a"]);
        let log = logs.get("t", 0).unwrap();
        assert_eq!(log.log_end_offset(), 10, "nothing is cut: consumers check what they get");
        let other = create(&logs, 1);
        append_written(&other, 1).await.unwrap();
        // A header that makes no sense cannot be passed on.
        change_byte(&io, &path, (6 * batch_bytes + 16) as u64);
        assert!(matches!(log.read(6, i64::MAX, 100, true).await, Err(Error::Corrupt { .. })));
        assert!(log.read(2, i64::MAX, 100, true).await.unwrap().is_ok());
        assert_eq!(consume(&other, 0).await.unwrap(), [0]);
    });
}

#[test]
fn only_the_indexes_that_are_missing_are_built_again_and_after_a_clean_stop_nothing_is_scanned() {
    let disk = SimDisk::new(1);
    on_disk(&disk, || async {
        let logs = open(&disk, &["/a"]);
        let log = create(&logs, 0);
        for value in 0..40 {
            append_written(&log, value).await.unwrap();
        }
        logs.close(1).await.unwrap();
    });
    let io = Io::simulated(&disk, Backend::Plain);
    let index = PathBuf::from(format!("/a/t-0/{FIRST}.index"));
    let whole = io.read_small(&index).unwrap().unwrap();
    io.remove_file(&index).unwrap();
    let before = disk.bytes_read();
    on_disk(&disk, || async {
        assert_eq!(open(&disk, &["/a"]).get("t", 0).unwrap().log_end_offset(), 40);
    });
    assert_eq!(io.read_small(&index).unwrap().unwrap(), whole);
    let segment_bytes = io.read_small(Path::new("/a/t-0/00000000000000000000.log")).unwrap().unwrap().len() as u64;
    let read = disk.bytes_read() - before;
    assert!(read < 2 * segment_bytes + 8_000, "{read} bytes were read for a segment of {segment_bytes}");
}

/// A file system of a few MiB, mounted until it is dropped.
struct SmallDisk {
    dir: tempfile::TempDir,
}

impl SmallDisk {
    /// None, and a line that says so, where it cannot be mounted.
    fn mount(kind: &str) -> Option<SmallDisk> {
        let disk = SmallDisk { dir: tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap() };
        let (at, image) = (disk.path(), disk.dir.path().join("image"));
        std::fs::create_dir(&at).unwrap();
        std::fs::File::create(&image).unwrap().set_len(16 << 20).unwrap();
        let works = |command: &mut Command| command.output().is_ok_and(|output| output.status.success());
        let mounted = match kind {
            "tmpfs" => works(Command::new("mount").args(["-t", "tmpfs", "-o", "size=8m", "tmpfs"]).arg(&at)),
            _ => {
                works(Command::new("mkfs.ext4").args(["-q", "-m", "0"]).arg(&image))
                    && works(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&at))
            }
        };
        if !mounted {
            eprintln!("skipped: {kind} cannot be mounted here");
        }
        mounted.then_some(disk)
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("mnt")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.path()).output(); // there is none if it could not be mounted
    }
}

async fn fill(log: &Arc<Log>) {
    for value in 0.. {
        if append_written(log, value as u8).await.is_err() {
            return;
        }
        assert!(value < 50_000, "it is never full");
    }
}

#[test]
fn real_file_systems_that_are_full_take_writes_again_when_there_is_room() {
    for kind in ["tmpfs", "ext4"] {
        let Some(disk) = SmallDisk::mount(kind) else { continue };
        let ballast = disk.path().join("ballast");
        for (dir, io) in [("uring", Io::probe(&disk.path())), ("plain", Io::plain())] {
            std::fs::write(&ballast, vec![1; 2 << 20]).unwrap();
            let dir = disk.path().join(dir);
            on_runtime(&io, async {
                let logs = open_on(&io, vec![dir.clone()]);
                let large = LogConfig { segment_bytes: 1 << 20, ..LogConfig::default() };
                let (log, other) = (create_with(&logs, 0, large.clone()), create_with(&logs, 1, large));
                append_written(&other, 1).await.unwrap();
                fill(&log).await;
                let acknowledged = log.high_watermark();
                assert!(acknowledged > 1_000, "{acknowledged} on {kind}");
                assert_eq!(consume(&log, 0).await.unwrap().len() as i64, acknowledged, "reads go on");
                logs.tick(NOW_MS + 1_000).await;
                fill(&log).await;
                assert!(!logs.has_offline_dirs());
                std::fs::remove_file(&ballast).unwrap();
                logs.tick(NOW_MS + 2_000).await;
                for log in [&log, &other] {
                    append_written(log, 7).await.unwrap();
                }
                let end = log.log_end_offset();
                assert!(end > acknowledged);
                assert_eq!(consume(&log, 0).await.unwrap(), (0..end).collect::<Vec<_>>());
                logs.close(1).await.unwrap();
                let logs = {
                    drop((log, other, logs));
                    open_on(&io, vec![dir.clone()])
                };
                assert_eq!(consume(&logs.get("t", 0).unwrap(), 0).await.unwrap().len() as i64, end);
            });
            std::fs::remove_dir_all(&dir).unwrap();
        }
    }
}
