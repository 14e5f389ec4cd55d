//! What the coordinator looks for from time to time: transactions that take too long, and ids that nobody uses. As long
//! as there is nothing to look at, no time is set.

use super::machine::Turn;
use super::records::{Name, Record, Transaction};

/// A client that follows the two-phase commit of another system (KIP-939) is waited for without end.
const NO_TIMEOUT_MS: i32 = i32::MAX;

#[derive(Debug, Default)]
pub struct Timers {
    abort_ms: Option<i64>,
    expiry_ms: Option<i64>,
}

impl Timers {
    pub fn next_deadline_ms(&self) -> Option<i64> {
        self.abort_ms.into_iter().chain(self.expiry_ms).min()
    }
}

fn take_due(timer: &mut Option<i64>, now_ms: i64) -> bool {
    timer.take_if(|deadline_ms| *deadline_ms <= now_ms).is_some()
}

impl Turn<'_> {
    /// Once, when the log has been replayed: what was decided is carried out.
    pub fn loaded(&mut self) {
        let hard = self.hard;
        let prepared = hard.transactions().filter(|(_, transaction)| transaction.state.is_prepared());
        for (id, transaction) in prepared {
            self.tell_partitions(id, transaction);
        }
        if hard.ongoing().next().is_some() {
            self.watch_timeouts();
        }
        if !hard.is_empty() {
            self.watch_expiry();
        }
    }

    /// One timer whose time has come; false if there is none. Its records must be applied before the next.
    pub fn fire_timer(&mut self) -> bool {
        let (now_ms, timers) = (self.now_ms, &mut self.soft.timers);
        if take_due(&mut timers.abort_ms, now_ms) {
            self.abort_timed_out();
        } else if take_due(&mut timers.expiry_ms, now_ms) {
            self.forget_expired();
        } else {
            return false;
        }
        true
    }

    pub(super) fn watch_timeouts(&mut self) {
        self.soft.timers.abort_ms.get_or_insert(self.now_ms + self.settings.abort_interval_ms);
    }

    pub(super) fn watch_expiry(&mut self) {
        self.soft.timers.expiry_ms.get_or_insert(self.now_ms + self.settings.expiration_interval_ms);
    }

    fn abort_timed_out(&mut self) {
        let (hard, now_ms) = (self.hard, self.now_ms);
        let mut others = false;
        for (id, transaction) in hard.ongoing() {
            let deadline_ms = transaction.start_ms.saturating_add(transaction.timeout_ms.into());
            let timed_out = transaction.timeout_ms != NO_TIMEOUT_MS && deadline_ms < now_ms;
            // Without a producer id it is tried again.
            others |= !timed_out || self.fence(id, transaction).is_err();
        }
        if others {
            self.watch_timeouts();
        }
    }

    fn forget_expired(&mut self) {
        let (hard, limit_ms) = (self.hard, self.now_ms - self.settings.id_expiration_ms);
        let is_expired =
            |transaction: &Transaction| transaction.state.is_idle() && transaction.last_update_ms <= limit_ms;
        let expired = hard.transactions().filter(|(_, transaction)| is_expired(transaction));
        let mut expired: Vec<Name> = expired.map(|(id, _)| id.clone()).collect();
        expired.sort();
        if expired.len() < hard.len() {
            self.watch_expiry();
        }
        for transactional_id in expired {
            self.soft.last_epochs.remove(&transactional_id);
            self.out.records.push(Record { transactional_id, value: None });
        }
    }
}
