//! The hard state: what the records of one partition add up to, however they are cut into pieces.

use std::collections::BTreeMap;

use super::consumer::group::ConsumerGroup;
use super::offsets::Offsets;
use super::records::{GroupMetadata, Name, Record};

/// Where a record stands in the log, and who wrote it.
#[derive(Clone, Copy, Debug)]
pub struct Position {
    pub offset: i64,
    /// Of a transaction that commits offsets.
    pub producer_id: Option<i64>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Hard {
    pub groups: BTreeMap<Name, Group>,
    pub offsets: Offsets,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Group {
    Classic(GroupMetadata),
    Consumer(Box<ConsumerGroup>),
}

impl Hard {
    pub fn consumer(&self, group: &str) -> Option<&ConsumerGroup> {
        match self.groups.get(group)? {
            Group::Consumer(group) => Some(group),
            Group::Classic(_) => None,
        }
    }

    pub(super) fn apply(&mut self, record: Record, position: Position) {
        match record {
            Record::Offset { group, topic, partition, value } => {
                if value.is_some() && !self.groups.contains_key(&group) {
                    self.groups.insert(group.clone(), Group::Classic(GroupMetadata::default()));
                }
                self.offsets.apply(group, topic, partition, value, position);
            }
            Record::Group { group, value: Some(value) } => {
                self.groups.insert(group, Group::Classic(value));
            }
            Record::Group { group, value: None } | Record::Epoch { group, value: None } => {
                self.groups.remove(&group);
            }
            Record::Epoch { ref group, .. }
            | Record::Partitions { ref group, .. }
            | Record::Member { ref group, .. }
            | Record::TargetEpoch { ref group, .. }
            | Record::Target { ref group, .. }
            | Record::Current { ref group, .. }
            | Record::Regex { ref group, .. } => self.apply_to_consumer_group(group, &record),
            Record::Other { .. } => {}
        }
    }

    /// The first record of a group with something in it makes the group; a tombstone does not.
    fn apply_to_consumer_group(&mut self, group: &Name, record: &Record) {
        let group = match self.groups.get_mut(group) {
            Some(Group::Consumer(group)) => group,
            _ if record.is_tombstone() => return,
            _ => {
                self.groups.insert(group.clone(), Group::Consumer(Box::default()));
                match self.groups.get_mut(group) {
                    Some(Group::Consumer(group)) => group,
                    _ => unreachable!("just inserted"),
                }
            }
        };
        group.apply(record);
    }
}

impl Record {
    fn is_tombstone(&self) -> bool {
        match self {
            Record::Offset { value, .. } => value.is_none(),
            Record::Group { value, .. } => value.is_none(),
            Record::Epoch { value, .. } => value.is_none(),
            Record::Partitions { present, .. } => !present,
            Record::Member { value, .. } => value.is_none(),
            Record::TargetEpoch { value, .. } => value.is_none(),
            Record::Target { value, .. } => value.is_none(),
            Record::Current { value, .. } => value.is_none(),
            Record::Regex { value, .. } => value.is_none(),
            Record::Other { .. } => false,
        }
    }
}
