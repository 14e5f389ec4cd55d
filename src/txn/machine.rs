//! The machine: hard and soft state, and one turn at a time in which a request or a timer gives out records and markers.

use std::collections::HashMap;

use super::hard::Hard;
use super::records::{Name, Record, State, Transaction};
use super::timers::Timers;
use super::{Effects, Markers, Producer, Result, Settings, fail};
use crate::error::ErrorCode;

/// The highest epoch that a client is given; the one above it is left to fence with.
const LAST_EPOCH: i16 = i16::MAX - 1;

/// What a restart forgets.
#[derive(Debug, Default)]
pub struct Soft {
    /// The epoch before the current one, where the producer may not know yet that it has gone up.
    pub(super) last_epochs: HashMap<Name, i16>,
    pub(super) timers: Timers,
}

#[derive(Debug, Default)]
pub struct Machine {
    hard: Hard,
    soft: Soft,
}

/// What one turn may look at besides the machine.
pub struct Environment<'a> {
    pub now_ms: i64,
    pub settings: &'a Settings,
    /// The cluster's level of `transaction.version`.
    pub transaction_version: i16,
    /// A producer id that nobody had before; None if there is none at hand.
    pub new_producer_id: &'a dyn Fn() -> Option<i64>,
}

/// One request or timer being handled. The hard state can only be read.
pub struct Turn<'a> {
    pub(super) now_ms: i64,
    pub(super) settings: &'a Settings,
    pub(super) transaction_version: i16,
    new_producer_id: &'a dyn Fn() -> Option<i64>,
    pub(super) hard: &'a Hard,
    pub(super) soft: &'a mut Soft,
    pub(super) out: Effects,
}

/// Kafka gives the last epochs to nobody, so that a producer can always be fenced.
pub(super) fn is_exhausted(epoch: i16) -> bool {
    epoch >= LAST_EPOCH
}

impl Machine {
    pub fn hard(&self) -> &Hard {
        &self.hard
    }

    /// What `handle` gives out is to be appended, and then to be applied.
    pub fn turn<T>(&mut self, env: Environment<'_>, handle: impl FnOnce(&mut Turn<'_>) -> T) -> (T, Effects) {
        let Environment { now_ms, settings, transaction_version, new_producer_id } = env;
        let (hard, soft, out) = (&self.hard, &mut self.soft, Effects::default());
        let mut turn = Turn { now_ms, settings, transaction_version, new_producer_id, hard, soft, out };
        let answer = handle(&mut turn);
        (answer, turn.out)
    }

    /// A record that is in the log.
    pub fn apply(&mut self, record: &Record) {
        self.hard.apply(record);
    }

    pub fn next_deadline_ms(&self) -> Option<i64> {
        self.soft.timers.next_deadline_ms()
    }
}

impl<'a> Turn<'a> {
    /// The transaction of a client that names itself.
    pub(super) fn known(&self, id: &str) -> Result<(&'a Name, &'a Transaction)> {
        if id.is_empty() {
            return fail(ErrorCode::InvalidRequest);
        }
        let hard = self.hard;
        hard.entry(id).map_or_else(|| fail(ErrorCode::InvalidProducerIdMapping), Ok)
    }

    /// A client that finds none comes again.
    pub(super) fn new_producer_id(&self) -> Result<i64> {
        (self.new_producer_id)().map_or_else(|| fail(ErrorCode::CoordinatorLoadInProgress), Ok)
    }

    /// Makes the transaction what it is next, at this time. `last_epoch` is the one that a retry of this very request
    /// comes with; None if there can be no such retry.
    pub(super) fn advance(&mut self, id: &Name, last_epoch: Option<i16>, next: Transaction) {
        match last_epoch {
            Some(epoch) => self.soft.last_epochs.insert(id.clone(), epoch),
            None => self.soft.last_epochs.remove(id),
        };
        self.out.records.push(Record { transactional_id: id.clone(), value: Some(next) });
    }

    pub(super) fn last_epoch(&self, id: &str) -> Option<i16> {
        self.soft.last_epochs.get(id).copied()
    }

    pub(super) fn tell_partitions(&mut self, id: &Name, prepared: &Transaction) {
        self.out.markers.push(Markers {
            transactional_id: id.clone(),
            producer: prepared.producer,
            commit: prepared.state == State::PrepareCommit,
            transaction_version: prepared.client_version,
            partitions: prepared.partitions.clone(),
        });
    }
}

impl Transaction {
    /// Refuses who comes before the last transaction is quite over. Clients wait and come again, so this is said before
    /// anything else where a client may know already of the epoch or the id that it goes on with.
    pub(super) fn check_complete(&self) -> Result<()> {
        match self.state.is_prepared() {
            true => fail(ErrorCode::ConcurrentTransactions),
            false => Ok(()),
        }
    }

    pub(super) fn check_producer(&self, producer: Producer) -> Result<()> {
        match producer {
            Producer { id, .. } if id != self.producer.id => fail(ErrorCode::InvalidProducerIdMapping),
            Producer { epoch, .. } if epoch != self.producer.epoch => fail(ErrorCode::ProducerFenced),
            _ => Ok(()),
        }
    }
}
