//! What a log must tell of transactions: which are open, which were aborted, and up to where all is decided.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use ottla_storage::batch::TransactionMarker;
use ottla_storage::log::Log;
use ottla_storage::producers::Producers;
use ottla_storage::txn_index::AbortedTransaction;

use super::model::LogModel;
use super::{Life, Run, ensure, topic};

/// What a replay of all batches makes.
pub struct Transactions {
    pub producers: Producers,
    /// First offset and producer.
    pub open: Vec<(i64, i64)>,
    /// In the order of their markers.
    pub aborted: Vec<AbortedTransaction>,
}

impl LogModel {
    pub fn transactions(&self) -> Transactions {
        let mut replayed = Transactions { producers: Producers::new(i64::MAX), open: Vec::new(), aborted: Vec::new() };
        let Transactions { producers, open, aborted } = &mut replayed;
        for b in &self.batches {
            let (header, id) = (&b.header, b.header.producer_id);
            if header.is_control() {
                let marker = TransactionMarker::read(header, &b.bytes).expect("as it was built");
                open.retain(|(_, of)| *of != id);
                aborted.extend(producers.end_transaction(header, b.base(), marker, 0));
            } else {
                producers.update(header, b.base(), 0);
                if header.is_transactional() && !open.iter().any(|(_, of)| *of == id) {
                    open.push((b.base(), id));
                }
            }
        }
        replayed
    }

    pub fn check_last_stable_offset(&self, log: &Log) -> Result<(), String> {
        let (found, first_open) = (log.last_stable_offset(), self.transactions().open.first().map(|(first, _)| *first));
        let expected = first_open.map_or(self.end(), |first| first.max(log.log_start_offset()));
        ensure!(found == expected, "the last stable offset is {found}, expected {expected}");
        Ok(())
    }

    /// Those that matter from `from` on, in a log that was never compacted.
    pub fn check_aborted(&self, log: &Log, from: i64) -> Result<(), String> {
        let end = log.high_watermark();
        let mut expected = self.transactions().aborted;
        expected.retain(|a| a.last_offset >= from && a.last_offset < end);
        let mut found = log.aborted_transactions(from, end).map_err(|e| e.to_string())?;
        // A marker that is appended and not written yet is nobody's business.
        found.retain(|a| a.last_offset < end);
        ensure!(found == expected, "aborted from {from} on: {found:?}, expected {expected:?}");
        Ok(())
    }
}

impl Run {
    /// Commits or aborts one of the open transactions.
    pub fn end_transaction(
        &mut self,
        life: &mut Life,
        i: usize,
        log: &Arc<Log>,
        model: &Rc<RefCell<LogModel>>,
    ) -> Result<(), String> {
        let open = model.borrow().transactions().open;
        if open.is_empty() {
            return Ok(());
        }
        let id = open[self.rng.below(open.len() as u64) as usize].1;
        let marker = TransactionMarker { commit: self.rng.coin(), coordinator_epoch: 0 };
        let end = model.borrow().end();
        match log.append_marker((id, 0), marker, self.epoch, self.now_ms) {
            Ok(appended) => ensure!(appended.base_offset == end, "{}: {appended:?}, expected {end}", topic(i)),
            Err(error) => {
                ensure!(self.may_fail(life), "{}: no marker for {id}: {error}", topic(i));
                return Ok(());
            }
        }
        self.say(|| format!("{} {marker:?} of {id} at {end}", topic(i)));
        self.note_appended(life, log, model, &marker.to_batch(id, 0, self.now_ms));
        Ok(())
    }
}
