//! The end of transactions: EndTxn in its two protocols, fencing, and what follows when all partitions know.

use super::machine::{Turn, is_exhausted};
use super::records::{Name, Partitions, State, Transaction};
use super::{EPOCH_BUMP_VERSION, Producer, Result, fail};
use crate::error::ErrorCode;

/// The last epoch of an id that a client can have had.
const LAST_CLIENT_EPOCH: i16 = i16::MAX - 1;

/// How a transaction is to end, and who says so.
struct Verdict {
    commit: bool,
    transaction_version: i16,
    by_client: bool,
}

impl Turn<'_> {
    /// EndTxn. The producer of the answer is the one to go on with: from `transaction.version` 2 on it has a new epoch.
    pub fn end(&mut self, id: &str, producer: Producer, commit: bool, client_version: i16) -> Result<Producer> {
        let (id, current) = self.known(id)?;
        let begins_anew = client_version >= EPOCH_BUMP_VERSION;
        let done = if begins_anew { current.end_bumping(producer, commit) } else { current.end(producer, commit) };
        match done? {
            Done::Before => Ok(current.producer),
            Done::Not => {
                let verdict = Verdict { commit, transaction_version: client_version, by_client: true };
                self.decide(id, current, verdict)
            }
        }
    }

    /// Aborts an open transaction, so that whoever has it open can do nothing more. Kafka decides for itself as a client
    /// of its own version would.
    pub(super) fn fence(&mut self, id: &Name, current: &Transaction) -> Result<()> {
        let transaction_version = if self.transaction_version >= EPOCH_BUMP_VERSION { EPOCH_BUMP_VERSION } else { 0 };
        self.decide(id, current, Verdict { commit: false, transaction_version, by_client: false }).map(drop)
    }

    fn decide(&mut self, id: &Name, current: &Transaction, verdict: Verdict) -> Result<Producer> {
        let Verdict { commit, transaction_version, by_client } = verdict;
        let (mut producer, mut next_producer_id) = (current.producer, current.next_producer_id);
        let mut last_epoch = self.last_epoch(id);
        if transaction_version >= EPOCH_BUMP_VERSION {
            if is_exhausted(producer.epoch) {
                next_producer_id = self.new_producer_id()?;
            }
            last_epoch = Some(producer.epoch);
            producer.epoch = producer.epoch.saturating_add(1);
        } else if !by_client {
            last_epoch = None;
            producer.epoch = producer.epoch.saturating_add(1);
        }
        let prepared = Transaction {
            producer,
            previous_producer_id: current.producer.id,
            next_producer_id,
            state: if commit { State::PrepareCommit } else { State::PrepareAbort },
            last_update_ms: self.now_ms,
            // One that never began does so now.
            start_ms: if current.state == State::Ongoing { current.start_ms } else { self.now_ms },
            client_version: transaction_version,
            ..current.clone()
        };
        let successor = prepared.successor();
        self.tell_partitions(id, &prepared);
        self.advance(id, last_epoch, prepared);
        Ok(successor)
    }

    /// Every partition of the transaction has its marker. Nothing comes of it if the transaction is not (or no longer)
    /// the one that they were written for.
    pub fn markers_written(&mut self, id: &str, producer: Producer) {
        let hard = self.hard;
        let Some((id, current)) = hard.entry(id) else { return };
        if !current.state.is_prepared() || current.producer != producer {
            return;
        }
        let complete = Transaction {
            producer: current.successor(),
            previous_producer_id: current.producer.id,
            next_producer_id: -1,
            state: if current.state == State::PrepareCommit { State::CompleteCommit } else { State::CompleteAbort },
            partitions: Partitions::new(),
            last_update_ms: self.now_ms,
            ..current.clone()
        };
        self.advance(id, self.last_epoch(id), complete);
    }
}

/// Whether a client's wish has been fulfilled.
enum Done {
    Before,
    Not,
}

impl Transaction {
    /// Of a client whose epoch stays the same: it may ask again as long as nothing else has happened.
    fn end(&self, producer: Producer, commit: bool) -> Result<Done> {
        self.check_producer(producer)?;
        self.check_complete()?;
        match (self.state, commit) {
            (State::Ongoing, _) => Ok(Done::Not),
            (State::CompleteCommit, true) | (State::CompleteAbort, false) => Ok(Done::Before),
            _ => fail(ErrorCode::InvalidTxnState),
        }
    }

    /// Of a client whose epoch rises with every transaction: the epoch tells a retry from a new wish, and one may be
    /// aborted that wrote nothing.
    fn end_bumping(&self, producer: Producer, commit: bool) -> Result<Done> {
        self.check_complete()?;
        let is_current = producer.epoch == self.producer.epoch;
        // Kafka does not ask who ended the last transaction, and takes a client that one of the other protocol has fenced
        // for this one coming again.
        let has_risen = self.bumps_epoch() && i32::from(producer.epoch) + 1 == i32::from(self.producer.epoch);
        let has_rotated =
            producer.id == self.previous_producer_id && producer.epoch == LAST_CLIENT_EPOCH && self.producer.epoch == 0;
        let is_retry = has_risen || has_rotated;
        if producer.id != self.producer.id && !has_rotated {
            return fail(ErrorCode::InvalidProducerIdMapping);
        }
        let is_valid = match self.state {
            State::CompleteCommit | State::CompleteAbort => is_retry || is_current,
            _ => is_current,
        };
        if !is_valid {
            return fail(ErrorCode::ProducerFenced);
        }
        match (self.state, commit) {
            (State::Ongoing, _) | (State::Empty, false) => Ok(Done::Not),
            (State::CompleteCommit, true) | (State::CompleteAbort, false) if is_retry => Ok(Done::Before),
            (State::CompleteCommit | State::CompleteAbort, false) if !is_retry => Ok(Done::Not),
            _ => fail(ErrorCode::InvalidTxnState),
        }
    }
}
