//! InitProducerId for a transactional id: every answer fences whoever used the id before.

use super::machine::{Turn, is_exhausted};
use super::records::{Name, Partitions, State, Transaction};
use super::{Producer, Result, fail};
use crate::error::ErrorCode;

/// The length of a string in a key has 16 bits.
const MAX_ID_BYTES: usize = i16::MAX as usize;

impl Turn<'_> {
    /// `expected` is who the client believes it is (KIP-360): it goes on as itself, unless somebody else has come since.
    pub fn init_producer(&mut self, id: &str, timeout_ms: i32, expected: Option<Producer>) -> Result<Producer> {
        if id.is_empty() || id.len() > MAX_ID_BYTES {
            return fail(ErrorCode::InvalidRequest);
        }
        if !(1..=self.settings.max_timeout_ms).contains(&timeout_ms) {
            return fail(ErrorCode::InvalidTransactionTimeout);
        }
        let hard = self.hard;
        let Some((id, current)) = hard.entry(id) else { return self.first_producer(&Name::from(id), timeout_ms) };
        current.check_complete()?;
        // After its epochs were used up it may not have heard of the id that it was given instead.
        let is_known = |expected: Producer| {
            expected.id == current.producer.id
                || (expected.id == current.previous_producer_id && is_exhausted(expected.epoch))
        };
        if !expected.is_none_or(is_known) {
            return fail(ErrorCode::ProducerFenced);
        }
        match current.state {
            State::Ongoing => {
                // The client comes again, and is then given an epoch that nobody has ever seen.
                self.fence(id, current)?;
                fail(ErrorCode::ConcurrentTransactions)
            }
            _ => self.next_producer(id, current, timeout_ms, expected.map(|known| known.epoch)),
        }
    }

    fn first_producer(&mut self, id: &Name, timeout_ms: i32) -> Result<Producer> {
        let producer = Producer { id: self.new_producer_id()?, epoch: 0 };
        let transaction = Transaction {
            producer,
            previous_producer_id: producer.id,
            next_producer_id: -1,
            timeout_ms,
            state: State::Empty,
            partitions: Partitions::new(),
            last_update_ms: self.now_ms,
            start_ms: -1,
            client_version: 0,
        };
        self.advance(id, None, transaction);
        self.watch_expiry();
        Ok(producer)
    }

    /// Without a transaction in the way: a new epoch, or a new id if there are no more epochs.
    fn next_producer(
        &mut self,
        id: &Name,
        current: &Transaction,
        timeout_ms: i32,
        expected_epoch: Option<i16>,
    ) -> Result<Producer> {
        let Producer { id: producer_id, epoch } = current.producer;
        let last_epoch = self.last_epoch(id);
        let (producer, last_epoch) = match expected_epoch {
            Some(expected) if expected != epoch && Some(expected) == last_epoch => (current.producer, last_epoch),
            Some(expected) if expected != epoch => return fail(ErrorCode::ProducerFenced),
            // A client that did not say who it is does not retry either: it wants to fence.
            _ => {
                let producer = match is_exhausted(epoch) {
                    true => Producer { id: self.new_producer_id()?, epoch: 0 },
                    false => Producer { id: producer_id, epoch: epoch + 1 },
                };
                (producer, expected_epoch)
            }
        };
        let next = Transaction {
            producer,
            previous_producer_id: producer_id,
            timeout_ms,
            state: State::Empty,
            partitions: Partitions::new(),
            last_update_ms: self.now_ms,
            start_ms: -1,
            ..current.clone()
        };
        self.advance(id, last_epoch, next);
        Ok(producer)
    }
}
