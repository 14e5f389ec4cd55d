//! The transaction coordinator: one deterministic machine per partition of `__transaction_state`. Requests and timers
//! become records, replies and markers to be written; records, once they are in the log, become state. Nothing here
//! waits, reads a clock or a file.
//!
//! [`Hard`] is what records add up to and changes only by [`Machine::apply`]. [`Soft`] is what a restart may forget: the
//! epoch before the last one, and when to look for what has expired.

mod codec;
mod end;
mod hard;
mod init;
mod listing;
mod machine;
mod partitions;
pub mod records;
mod settings;
#[cfg(test)]
mod tests;
mod timers;

use crate::error::{ApiError, ErrorCode};
use records::{Name, Partitions, Record};

pub use hard::Hard;
pub use listing::{Filter, Listed};
pub use machine::{Environment, Machine, Soft, Turn};
pub use settings::Settings;

/// Level of the feature `transaction.version` (KIP-890) from which on the epoch rises with every transaction.
pub const EPOCH_BUMP_VERSION: i16 = 2;

/// What tells one life of a producer from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Producer {
    pub id: i64,
    pub epoch: i16,
}

/// A decided transaction: what each of its partitions is to be told, again and again until all have it. Then
/// [`Turn::markers_written`] closes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Markers {
    pub transactional_id: Name,
    pub producer: Producer,
    pub commit: bool,
    /// Of the client, or of the cluster where the coordinator has decided: from 2 on the epoch is higher than that of
    /// all records of the transaction.
    pub transaction_version: i16,
    /// None, where a transaction was ended that never wrote.
    pub partitions: Partitions,
}

/// What a turn gives out. Neither the reply nor the markers leave before the records (and all before them) are written.
#[derive(Debug, Default)]
pub struct Effects {
    pub records: Vec<Record>,
    pub markers: Vec<Markers>,
}

type Result<T, E = ApiError> = std::result::Result<T, E>;

/// An error without a text.
fn fail<T>(code: ErrorCode) -> Result<T> {
    Err(ApiError::new(code, ""))
}
