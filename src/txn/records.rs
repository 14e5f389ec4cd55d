//! The records of `__transaction_state`, typed: a transactional id and all there is to know of it. Bytes are in
//! `codec.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{EPOCH_BUMP_VERSION, Producer};

/// A transactional id or a topic as state keeps it.
pub type Name = Arc<str>;

/// Topic -> partitions.
pub type Partitions = BTreeMap<Name, BTreeSet<i32>>;

/// Without a value it is a tombstone: the transactional id is forgotten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub transactional_id: Name,
    pub value: Option<Transaction>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    pub producer: Producer,
    /// The id before this record, which the producer may still be using; -1 where it is not known.
    pub previous_producer_id: i64,
    /// The id that takes over with epoch 0 when this transaction is complete, since the epochs are used up; else -1.
    pub next_producer_id: i64,
    pub timeout_ms: i32,
    pub state: State,
    pub partitions: Partitions,
    pub last_update_ms: i64,
    /// -1 before the first transaction.
    pub start_ms: i64,
    /// The `transaction.version` that the client followed.
    pub client_version: i16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Empty,
    Ongoing,
    PrepareCommit,
    PrepareAbort,
    CompleteCommit,
    CompleteAbort,
    /// Kafka's name for an id that is being forgotten. Never stored, but asked for.
    Dead,
    /// Kafka's name for a producer that is being fenced. Never stored, but asked for.
    PrepareEpochFence,
}

impl State {
    pub const ALL: [State; 8] = [
        State::Empty,
        State::Ongoing,
        State::PrepareCommit,
        State::PrepareAbort,
        State::CompleteCommit,
        State::CompleteAbort,
        State::Dead,
        State::PrepareEpochFence,
    ];

    /// As DescribeTransactions and ListTransactions call it.
    pub fn name(self) -> &'static str {
        match self {
            State::Empty => "Empty",
            State::Ongoing => "Ongoing",
            State::PrepareCommit => "PrepareCommit",
            State::PrepareAbort => "PrepareAbort",
            State::CompleteCommit => "CompleteCommit",
            State::CompleteAbort => "CompleteAbort",
            State::Dead => "Dead",
            State::PrepareEpochFence => "PrepareEpochFence",
        }
    }

    /// Decided, but not yet known to every partition.
    pub fn is_prepared(self) -> bool {
        matches!(self, State::PrepareCommit | State::PrepareAbort)
    }

    /// No transaction is open.
    pub fn is_idle(self) -> bool {
        matches!(self, State::Empty | State::CompleteCommit | State::CompleteAbort)
    }
}

impl Transaction {
    /// The client raises its epoch with every transaction.
    pub fn bumps_epoch(&self) -> bool {
        self.client_version >= EPOCH_BUMP_VERSION
    }

    /// The producer that goes on when the transaction is complete.
    pub fn successor(&self) -> Producer {
        match self.next_producer_id {
            next if next >= 0 && self.bumps_epoch() => Producer { id: next, epoch: 0 },
            _ => self.producer,
        }
    }
}
