//! A process that appends is killed with `kill -9`, on the real disk and backend, again and again: what it had said was
//! written is there when the directory is opened the next time.
//!
//! The process is this test binary itself, told so by an environment variable.

use std::future::Future;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use ottla_storage::batch::{self, BatchBuilder, BatchHeader, Compression};
use ottla_storage::io::{Io, install_ring};
use ottla_storage::log::{Log, LogConfig, LogManager, LogManagerOptions, LogSlice};
use ottla_storage::validate::ValidBatch;
use tokio::task::{LocalSet, spawn_local};

const NOW_MS: i64 = 1_700_000_000_000;
const KILLS: u64 = 200;
/// A directory is used for so many kills in a row, so that what one leaves is what the next begins with.
const KILLS_IN_A_ROW: u64 = 8;
const LOGS: i32 = 3;
const CHILD: &str = "OTTLA_KILL_TEST_DIR";

fn config(dir: &Path) -> LogConfig {
    // Some directories sync every batch, some never.
    let flush_messages = if dir.ends_with("synced") { 1 } else { i64::MAX };
    LogConfig { segment_bytes: 400_000, index_interval_bytes: 1000, flush_messages, ..LogConfig::default() }
}

fn open(dir: &Path, io: &Io) -> Arc<LogManager> {
    LogManager::open(LogManagerOptions {
        dirs: vec![dir.to_path_buf()],
        node_id: 1,
        cluster_id: None,
        defaults: config(dir),
        tail_bytes: 1 << 20,
        producer_id_expiration_ms: 86_400_000,
        recovery_threads: 2,
        retention_check_interval_ms: 300_000,
        now_ms: NOW_MS,
        io: Some(io.clone()),
    })
    .unwrap()
}

/// What stands at `offset` of log `partition`, so that whoever reads it knows what to expect. Small and large batches
/// take turns, as they are written in two ways.
fn batch_at(partition: i32, offset: i64) -> Vec<u8> {
    let mixed = (offset as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(partition as u32);
    let size = if offset / 40 % 2 == 0 { mixed % 3_000 } else { mixed % 70_000 };
    let mut builder = BatchBuilder::new(Compression::None).producer(7, 0, offset as i32);
    builder.record(NOW_MS + offset, None, Some(&vec![mixed as u8; size as usize]), &[]);
    builder.build(0, -1).to_vec()
}

fn on_runtime(io: &Io, work: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        let _ring = install_ring(io).unwrap();
        work.await;
    });
}

/// The process that is killed: appends to all logs for ever, and says what is written.
async fn append_for_ever(dir: PathBuf, io: Io) {
    let logs = open(&dir, &io);
    let appending: Vec<_> = (0..LOGS)
        .map(|partition| {
            let log = logs.create("t", partition, None, config(&dir), NOW_MS).unwrap();
            spawn_local(append_to(log, partition))
        })
        .collect();
    for one in appending {
        one.await.unwrap();
    }
}

async fn append_to(log: Arc<Log>, partition: i32) {
    loop {
        let offset = log.log_end_offset();
        let bytes = batch_at(partition, offset);
        let header = BatchHeader::read(&bytes).unwrap();
        let batch = ValidBatch { header, bytes: bytes.into(), log_append_time: -1 };
        log.append(&batch, 0, NOW_MS).unwrap();
        // Several batches are under way at any time.
        let writing = log.clone();
        let waiter = spawn_local(async move {
            writing.written(offset + 1).await.unwrap();
            // One write a line: what arrives was said whole.
            std::io::stdout().lock().write_all(format!("{partition} {}\n", offset + 1).as_bytes()).unwrap();
        });
        if offset % 4 == 3 {
            waiter.await.unwrap();
        }
        tokio::task::yield_now().await;
    }
}

/// Kills a process some time after it began; returns how far each log was acknowledged.
fn run_and_kill(dir: &Path, seed: u64) -> Vec<i64> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "what_was_acknowledged_survives_kill_9", "--nocapture"])
        .env(CHILD, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let kill_after = 1 + seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) % 100;
    let mut acknowledged = vec![0; LOGS as usize];
    let mut count = 0;
    for line in lines.map_while(Result::ok) {
        let Some((partition, offset)) = line.split_once(' ') else { continue };
        if let (Ok(partition), Ok(offset)) = (partition.parse::<usize>(), offset.parse::<i64>()) {
            acknowledged[partition] = offset.max(acknowledged[partition]);
            count += 1;
            if count == kill_after {
                child.kill().unwrap();
            }
        }
    }
    assert!(count >= kill_after, "the process ended by itself");
    child.wait().unwrap();
    acknowledged
}

async fn check(dir: PathBuf, io: Io, acknowledged: Vec<i64>) {
    let logs = open(&dir, &io);
    for (partition, acknowledged) in acknowledged.into_iter().enumerate() {
        let Some(log) = logs.get("t", partition as i32) else {
            assert_eq!(acknowledged, 0);
            continue;
        };
        let end = log.log_end_offset();
        assert!(end >= acknowledged, "log {partition} ends at {end}, but {acknowledged} was acknowledged");
        let mut offset = 0;
        while offset < end {
            let read = log.read(offset, i64::MAX, 1 << 20, true).await.unwrap().unwrap();
            for slice in read.slices {
                let LogSlice::File(slice) = slice else { panic!("nothing is in memory yet") };
                let bytes = slice.file.read_at(slice.pos, slice.len).await.unwrap();
                for found in batch::batches(&bytes).map_while(Result::ok) {
                    let expected = batch_at(partition as i32, offset);
                    assert!(
                        found.1.base_offset == offset && found.2[16..] == expected[16..],
                        "{partition} at {offset}"
                    );
                    offset += 1;
                }
            }
        }
    }
}

#[test]
fn what_was_acknowledged_survives_kill_9() {
    let base = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let io = Io::probe(base);
    if let Some(dir) = std::env::var_os(CHILD) {
        on_runtime(&io, append_for_ever(dir.into(), io.clone()));
        return;
    }
    for row in 0..KILLS / KILLS_IN_A_ROW {
        let temporary = tempfile::tempdir_in(base).unwrap();
        let dir = temporary.path().join(if row % 2 == 0 { "synced" } else { "written" });
        for i in 0..KILLS_IN_A_ROW {
            let acknowledged = run_and_kill(&dir, row * KILLS_IN_A_ROW + i);
            on_runtime(&io, check(dir.clone(), io.clone(), acknowledged));
        }
    }
}
