//! On files that the log wrote: nothing is wrong with them, and every change to them is noticed.

use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::batch::{self, BatchBuilder, BatchHeader, Compression, TransactionMarker};
use crate::log::{Log, LogConfig, LogManager};
use crate::test_support::log_options;
use crate::validate::ValidBatch;

fn complaints(dir: &Path) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    verify(dir, &mut |complaint| complaints.push(complaint)).unwrap();
    complaints
}

fn append(log: &Arc<Log>, n: i32, sequence: i32, records: i32) {
    let mut batch = BatchBuilder::new(Compression::Lz4).producer(7, 0, sequence).transactional(true);
    for i in 0..records {
        batch.record(i64::from(n * 1000 + i), None, Some(&[n as u8; 100]), &[]);
    }
    let bytes = batch.build(0, -1);
    let valid = ValidBatch { header: BatchHeader::read(&bytes).unwrap(), bytes, log_append_time: -1 };
    log.append(&valid, 0, 0).unwrap();
}

/// A log of several segments with all kinds of files, stopped cleanly or not at all.
fn write(dir: &Path, clean: bool) {
    let config = LogConfig { segment_bytes: 2_000, index_interval_bytes: 300, ..LogConfig::default() };
    let options = log_options(dir, &config);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let logs = LogManager::open(options).unwrap();
        let log = logs.create("t", 0, None, config, 0).unwrap();
        let mut sequence = 0;
        for n in 0..40 {
            let records = 1 + n % 5;
            append(&log, n, sequence, records);
            sequence += records;
            let abort = TransactionMarker { commit: n % 4 != 0, coordinator_epoch: 0 };
            log.append_marker((7, 0), abort, 0, i64::from(n) * 1000 + 900).unwrap();
            log.written(log.log_end_offset()).await.unwrap();
        }
        if clean {
            logs.close(1).await.unwrap();
        }
    });
}

#[test]
fn what_a_broker_leaves_is_in_order() {
    for clean in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), clean);
        assert_eq!(complaints(dir.path()), []);
        let checked = verify(dir.path(), &mut |_| ()).unwrap();
        assert!(checked.logs == 1 && checked.segments > 3 && checked.batches == 80, "{checked:?}");
    }
}

/// False where nothing can tell: no sum covers a batch's offset and its leader's epoch, and a transaction may have begun
/// anywhere.
fn is_checked(name: &str, content: &[u8], at: usize) -> bool {
    if name.ends_with(".log") {
        let batch =
            batch::batches(content).map(|item| item.unwrap().0).take_while(|start| *start <= at).last().unwrap();
        return !(0..8).contains(&(at - batch)) && !(12..16).contains(&(at - batch));
    }
    !name.ends_with(".txnindex") || (0..10).contains(&(at % 34)) || (18..26).contains(&(at % 34))
}

#[test]
fn one_other_byte_anywhere_is_noticed_in_its_file() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), true);
    let partition = dir.path().join("t-0");
    for suffix in [".log", ".index", ".timeindex", ".txnindex", ".snapshot", EPOCHS_FILE] {
        let paths = std::fs::read_dir(&partition).unwrap().map(|entry| entry.unwrap().path());
        let paths: Vec<_> = paths.filter(|path| path.to_string_lossy().ends_with(suffix)).collect();
        assert!(paths.iter().any(|path| path.metadata().unwrap().len() > 0), "there is a {suffix}");
        for path in paths {
            let content = std::fs::read(&path).unwrap();
            for at in (0..content.len()).step_by(7).filter(|at| is_checked(suffix, &content, *at)) {
                let mut damaged = content.clone();
                damaged[at] ^= 0x40;
                std::fs::write(&path, damaged).unwrap();
                let found = complaints(dir.path());
                assert!(found.iter().any(|complaint| complaint.path == path), "{} at {at}: {found:?}", path.display());
            }
            std::fs::write(&path, content).unwrap();
        }
    }
}

#[test]
fn a_log_cut_short_is_noticed_after_a_clean_stop_and_mended_after_a_crash() {
    for clean in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), clean);
        let names = Io::plain().list(&dir.path().join("t-0")).unwrap();
        let last = names.iter().filter(|name| name.ends_with(".log")).max().unwrap();
        let path = dir.path().join("t-0").join(last);
        let content = std::fs::read(&path).unwrap();
        std::fs::write(&path, &content[..content.len() - 5]).unwrap();
        let found = complaints(dir.path());
        assert_eq!(found.iter().any(|complaint| complaint.path == path), clean, "{found:?}");
    }
}
