//! Transactions on real files: what is stable and what was aborted, across segments, clean stops and crashes.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;

use super::{AppendError, Log, LogConfig, LogManager};
use crate::batch::{BatchBuilder, BatchHeader, Compression, TransactionMarker};
use crate::producers::SequenceError;
use crate::test_support::log_options;
use crate::txn_index::AbortedTransaction;
use crate::validate::ValidBatch;

const COMMIT: TransactionMarker = TransactionMarker { commit: true, coordinator_epoch: 0 };
const ABORT: TransactionMarker = TransactionMarker { commit: false, coordinator_epoch: 0 };

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, test);
}

fn open(dir: &Path) -> (Arc<LogManager>, Arc<Log>) {
    let config = LogConfig { segment_bytes: 2_000, index_interval_bytes: 200, ..LogConfig::default() };
    let options = log_options(dir, &config);
    let logs = LogManager::open(options).unwrap();
    let log = logs.create("t", 0, None, config, 0).unwrap();
    (logs, log)
}

/// One record of the producer's transaction.
fn batch(id: i64, sequence: i32) -> ValidBatch {
    let mut batch = BatchBuilder::new(Compression::None).producer(id, 0, sequence).transactional(true);
    batch.record(1, None, Some(&[0; 100]), &[]);
    let bytes = batch.build(0, -1);
    let header = BatchHeader::read(&bytes).unwrap();
    ValidBatch { header, bytes, log_append_time: -1 }
}

fn send(log: &Arc<Log>, id: i64, sequence: i32) -> i64 {
    log.append(&batch(id, sequence), 0, 0).unwrap().base_offset
}

async fn end(log: &Arc<Log>, id: i64, marker: TransactionMarker) -> i64 {
    let at = log.append_marker((id, 0), marker, 0, 0).unwrap().base_offset;
    log.written(at + 1).await.unwrap();
    at
}

#[test]
fn what_is_stable_waits_for_the_marker_to_be_written() {
    let dir = tempfile::tempdir().unwrap();
    run(async {
        let (_logs, log) = open(dir.path());
        send(&log, 1, 0);
        log.written(1).await.unwrap();
        assert_eq!((log.high_watermark(), log.last_stable_offset(), log.first_unstable_offset()), (1, 0, Some(0)));
        log.append_marker((1, 0), COMMIT, 0, 0).unwrap();
        assert_eq!(log.last_stable_offset(), 0, "appended, not written");
        log.written(2).await.unwrap();
        assert_eq!((log.last_stable_offset(), log.first_unstable_offset()), (2, None));
        send(&log, 1, 1);
        log.written(3).await.unwrap();
        log.delete_records(3);
        assert_eq!(log.last_stable_offset(), 3, "what is deleted is not waited for");
    });
}

#[test]
fn a_batch_that_was_admitted_to_a_transaction_comes_too_late_behind_its_marker() {
    let dir = tempfile::tempdir().unwrap();
    run(async {
        let (_logs, log) = open(dir.path());
        send(&log, 1, 0);
        let admitted = (log.markers(1), log.markers(2));
        end(&log, 2, COMMIT).await;
        assert!(log.append_admitted(&batch(1, 1), 0, 0, admitted.0).is_ok(), "another producer's marker");
        end(&log, 1, COMMIT).await;
        for (late, markers) in [(batch(1, 2), admitted.0), (batch(2, 0), admitted.1)] {
            let refused = log.append_admitted(&late, 0, 0, markers);
            assert!(
                matches!(refused, Err(AppendError::Sequence(SequenceError::TransactionEnded { .. }))),
                "{refused:?}"
            );
        }
        let again = log.append_admitted(&batch(1, 1), 0, 0, admitted.0).unwrap();
        assert!(again.duplicate, "what is there already is answered again");
        assert_eq!(log.last_stable_offset(), log.log_end_offset(), "nothing is left open");
        assert!(log.append_admitted(&batch(2, 0), 0, 0, log.markers(2)).is_ok());
    });
}

#[test]
fn a_read_from_files_ends_where_what_is_stable_ends() {
    // One segment without an index, and several with one; the open transaction begins in the last one or before.
    for (before, after) in [(1, 1), (3, 30), (30, 3), (30, 30)] {
        let dir = tempfile::tempdir().unwrap();
        run(async {
            let (logs, log) = open(dir.path());
            for i in 0..before {
                send(&log, 1, i);
            }
            let stable = send(&log, 2, 0);
            for i in before..before + after {
                send(&log, 3, i - before);
            }
            end(&log, 3, COMMIT).await;
            end(&log, 1, COMMIT).await;
            logs.close(0).await.unwrap();
            drop((logs, log));
            // Nothing is in memory now.
            let (_logs, log) = open(dir.path());
            assert_eq!(log.last_stable_offset(), stable);
            let mut next = 0;
            while next < stable {
                let read = log.read(next, stable, 1 << 20, true).await.unwrap().unwrap();
                let bytes = read.into_bytes().await.unwrap();
                next = crate::batch::batches(&bytes).last().expect("more").unwrap().1.next_offset();
            }
            assert_eq!(next, stable);
        });
    }
}

#[test]
fn a_reader_is_told_the_aborted_transactions_that_overlap_and_not_many_more() {
    let dir = tempfile::tempdir().unwrap();
    run(async {
        let (_logs, log) = open(dir.path());
        for i in 0..200 {
            send(&log, i, 0);
            end(&log, i, ABORT).await;
        }
        let all = log.aborted_transactions(0, log.last_stable_offset()).unwrap();
        assert_eq!(all.len(), 200);
        assert_eq!(log.aborted_transactions(101, 104).unwrap(), all[50..52]);
        for from in [0, 100, 250, 399] {
            let read = log.read(from, i64::MAX, 500, true).await.unwrap().unwrap();
            let told = log.aborted_in_read(&read, from, i64::MAX).unwrap();
            assert_eq!(told[0].first_offset, from - from % 2);
            assert!((1..10).contains(&told.len()), "{} for 500 bytes at {from}", told.len());
        }
    });
}

#[test]
fn damage_to_the_index_of_aborted_transactions_is_mended_at_start() {
    let dir = tempfile::tempdir().unwrap();
    run(async {
        let (logs, log) = open(dir.path());
        for i in 0..40 {
            send(&log, 5, i);
            end(&log, 5, ABORT).await;
        }
        let before = log.aborted_transactions(0, i64::MAX).unwrap();
        logs.close(0).await.unwrap();
        drop((logs, log));
        let path = dir.path().join("t-0/00000000000000000000.txnindex");
        let content = std::fs::read(&path).unwrap();
        std::fs::write(&path, &content[..content.len() - 1]).unwrap();
        let (_logs, log) = open(dir.path());
        assert_eq!(log.aborted_transactions(0, i64::MAX).unwrap(), before);
    });
}

#[derive(Clone, Debug)]
enum Op {
    Send(i64),
    End(i64, bool),
    Stop,
    Crash,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0..4i64).prop_map(Op::Send),
        4 => (0..4i64, any::<bool>()).prop_map(|(id, commit)| Op::End(id, commit)),
        1 => Just(Op::Stop),
        1 => Just(Op::Crash),
    ]
}

/// What a log must say of transactions, by the simplest means.
#[derive(Default)]
struct Model {
    end: i64,
    sequences: [i32; 4],
    open: [Option<i64>; 4],
    aborted: Vec<AbortedTransaction>,
}

impl Model {
    fn first_unstable_offset(&self) -> Option<i64> {
        self.open.iter().flatten().copied().min()
    }

    async fn apply(&mut self, log: &Arc<Log>, op: &Op) {
        match *op {
            Op::Send(id) => {
                assert_eq!(send(log, id, self.sequences[id as usize]), self.end);
                self.sequences[id as usize] += 1;
                self.open[id as usize].get_or_insert(self.end);
            }
            Op::End(id, commit) => {
                assert_eq!(end(log, id, if commit { COMMIT } else { ABORT }).await, self.end);
                let first = self.open[id as usize].take();
                if let Some(first_offset) = first.filter(|_| !commit) {
                    let last_stable_offset = self.first_unstable_offset().unwrap_or(self.end + 1);
                    let (producer_id, last_offset) = (id, self.end);
                    self.aborted.push(AbortedTransaction {
                        producer_id,
                        first_offset,
                        last_offset,
                        last_stable_offset,
                    });
                }
            }
            Op::Stop | Op::Crash => return,
        }
        self.end += 1;
        log.written(self.end).await.unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]
    #[test]
    fn stops_and_crashes_change_nothing(ops in prop::collection::vec(op(), 0..80)) {
        let dir = tempfile::tempdir().unwrap();
        run(async {
            let (mut logs, mut log) = open(dir.path());
            let mut model = Model::default();
            for op in &ops {
                model.apply(&log, op).await;
                if let Op::Stop = op {
                    logs.close(0).await.unwrap();
                }
                if let Op::Stop | Op::Crash = op {
                    log.settled().await;
                    drop((logs, log));
                    (logs, log) = open(dir.path());
                }
                assert_eq!(log.log_end_offset(), model.end);
                assert_eq!(log.first_unstable_offset(), model.first_unstable_offset());
                assert_eq!(log.last_stable_offset(), model.first_unstable_offset().unwrap_or(model.end));
                assert_eq!(log.aborted_transactions(0, i64::MAX).unwrap(), model.aborted);
            }
        });
    }
}
