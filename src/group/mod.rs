//! The group coordinator: one deterministic machine per partition of `__consumer_offsets`. Requests and timers become
//! records and replies; records, once they are in the log, become state. Nothing here waits, reads a clock or a file.
//!
//! [`Hard`] is what records add up to and changes only by [`Machine::apply`]. [`Soft`] is what a restart may forget:
//! members between two generations, parked replies, timers.

mod classic;
mod codec;
mod consumer;
mod embedded;
mod hard;
mod listing;
mod machine;
mod offsets;
pub mod records;
mod settings;
#[cfg(test)]
mod tests;
mod timers;

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_protocol::messages::{JoinGroupResponse, SyncGroupResponse};
use uuid::Uuid;

use crate::error::{ApiError, ErrorCode};
use records::{Name, Record};

pub use consumer::Heard;
pub use hard::{Hard, Position};
pub use machine::{Environment, Machine, Soft, Turn};
pub use settings::{Bounded, ConsumerSettings, MigrationPolicy, Settings};

/// Names of groups, members and instances go into keys of records, where a length has 16 bits.
const MAX_NAME_BYTES: usize = 16 << 10;

/// A reply that is parked until others have joined or synced; the caller's number for it.
pub type Token = u64;

/// What a turn gives out. The replies leave when the records (and all before them) are written.
#[derive(Debug, Default)]
pub struct Effects {
    pub records: Vec<Record>,
    pub joins: Vec<(Token, JoinGroupResponse)>,
    pub syncs: Vec<(Token, SyncGroupResponse)>,
    /// Groups whose target is made, for those who were told `Heard::Gathering`.
    pub gathered: Vec<Name>,
}

/// What the machine may know of the cluster.
pub trait Cluster {
    /// Offset of the last metadata record that this shows.
    fn version(&self) -> i64;
    fn topic(&self, name: &str) -> Option<Topic>;
    fn topic_by_id(&self, id: Uuid) -> Option<Topic>;
    fn topic_names(&self) -> Vec<Arc<str>>;
    /// Racks of the brokers that hold a partition, sorted.
    fn racks(&self, topic: &str, partition: i32) -> Vec<String>;
    /// What was set for a group (resource type GROUP).
    fn group_overrides(&self, group: &str) -> Option<&BTreeMap<String, String>>;
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    pub name: Arc<str>,
    pub id: Uuid,
    pub partitions: i32,
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub struct Client<'a> {
    pub id: &'a str,
    /// As Kafka writes it: a slash and the address.
    pub host: &'a str,
    pub api_version: i16,
}

type Result<T, E = ApiError> = std::result::Result<T, E>;

/// An error without a text.
fn fail<T>(code: ErrorCode) -> Result<T> {
    Err(ApiError::new(code, ""))
}

/// The partition of `__consumer_offsets` that holds a group: Java's hash of the name, positive, modulo the number.
pub fn partition_of(group: &str, partitions: i32) -> i32 {
    let hash = group.encode_utf16().fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    hash.checked_abs().unwrap_or(0) % partitions
}
