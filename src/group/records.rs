//! The records of `__consumer_offsets`, typed: what the coordinator's hard state is made of. Bytes are in `codec.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

/// A group's, member's or topic's name as state keeps it: many places hold the same one.
pub type Name = Arc<str>;

/// Topic id -> partitions.
pub type Assignment = BTreeMap<Uuid, BTreeSet<i32>>;

/// Topic id -> partition -> the member epoch in which it was assigned.
pub type Owned = BTreeMap<Uuid, BTreeMap<i32, i32>>;

/// One record. Without a value it is a tombstone: the state behind the key is gone.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// Types 0 and 1.
    Offset { group: Name, topic: Name, partition: i32, value: Option<CommittedOffset> },
    /// Type 2: a classic group.
    Group { group: Name, value: Option<GroupMetadata> },
    /// Type 3.
    Epoch { group: Name, value: Option<GroupEpoch> },
    /// Type 4: what a group knew of its topics, written by Kafka before 4.1 and not needed any more.
    Partitions { group: Name, present: bool },
    /// Type 5.
    Member { group: Name, member: Name, value: Option<MemberMetadata> },
    /// Type 6.
    TargetEpoch { group: Name, value: Option<TargetEpoch> },
    /// Type 7.
    Target { group: Name, member: Name, value: Option<Assignment> },
    /// Type 8.
    Current { group: Name, member: Name, value: Option<CurrentAssignment> },
    /// Type 16.
    Regex { group: Name, regex: Name, value: Option<ResolvedRegex> },
    /// Share and streams groups, and what comes after them: left alone.
    Other { kind: i16 },
}

#[derive(Clone, Debug, PartialEq)]
pub struct CommittedOffset {
    pub offset: i64,
    /// -1: the client did not say.
    pub leader_epoch: i32,
    pub metadata: Name,
    pub commit_timestamp_ms: i64,
    /// Only clients before Kafka 2.1 ask for their own retention.
    pub expire_timestamp_ms: Option<i64>,
    /// The nil id where it is not known.
    pub topic_id: Uuid,
}

/// A classic group as it was when its leader's assignment was stored, or when it became empty.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GroupMetadata {
    /// Empty: the group only stores offsets.
    pub protocol_type: Name,
    pub generation: i32,
    pub protocol: Option<Name>,
    pub leader: Option<Name>,
    /// Since when the group is in its state; older records do not tell.
    pub state_timestamp_ms: Option<i64>,
    pub members: Vec<GroupMember>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct GroupMember {
    pub member_id: Name,
    pub instance_id: Option<Name>,
    pub client_id: Name,
    pub client_host: Name,
    pub rebalance_timeout_ms: i32,
    pub session_timeout_ms: i32,
    pub subscription: Bytes,
    pub assignment: Bytes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupEpoch {
    pub epoch: i32,
    /// Of the topics that the group subscribes to; 0 for none.
    pub metadata_hash: i64,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct MemberMetadata {
    pub instance_id: Option<Name>,
    pub rack_id: Option<Name>,
    pub client_id: Name,
    pub client_host: Name,
    pub topics: BTreeSet<Name>,
    /// Empty for none.
    pub regex: Name,
    pub rebalance_timeout_ms: i32,
    pub assignor: Option<Name>,
    /// Set where the member speaks the classic protocol.
    pub classic: Option<ClassicMember>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ClassicMember {
    pub session_timeout_ms: i32,
    /// (name, subscription)
    pub protocols: Vec<(Name, Bytes)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TargetEpoch {
    pub epoch: i32,
    /// When the assignment was computed; 0 where it is not known.
    pub timestamp_ms: i64,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct CurrentAssignment {
    pub epoch: i32,
    pub previous_epoch: i32,
    pub state: MemberState,
    pub assigned: Owned,
    pub revoking: Owned,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MemberState {
    #[default]
    Stable,
    /// It must give partitions up before it gets to the next epoch.
    UnrevokedPartitions,
    /// It waits for partitions that others have not given up.
    UnreleasedPartitions,
    /// Written by a later version.
    Unknown,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ResolvedRegex {
    pub topics: BTreeSet<Name>,
    /// Offset of the metadata that it was resolved with.
    pub version: i64,
    pub timestamp_ms: i64,
}
