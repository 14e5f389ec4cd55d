//! A consumer group (KIP-848) as records make it: members, what they subscribe to, who owns what and who shall.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use crate::group::records::{
    Assignment, CurrentAssignment, MemberMetadata, MemberState, Name, Owned, Record, ResolvedRegex, TargetEpoch,
};

/// A new group is in epoch 1 and so is its empty assignment: the first member brings it to 2.
const FIRST_EPOCH: i32 = 1;
/// The epoch of a member that left and is only known by its metadata.
pub const LEFT: i32 = -1;
/// The epoch of a static member that will be back.
pub const LEFT_STATIC: i32 = -2;

#[derive(Clone, Debug, PartialEq)]
pub struct ConsumerGroup {
    pub epoch: i32,
    pub metadata_hash: i64,
    pub target_epoch: TargetEpoch,
    pub members: BTreeMap<Name, Member>,
    pub target: BTreeMap<Name, Assignment>,
    pub regexes: BTreeMap<Name, ResolvedRegex>,
    /// There is a record of type 4, to be removed.
    pub has_partitions_record: bool,
    /// instance id -> member id
    static_members: BTreeMap<Name, Name>,
    /// How many members subscribe by a regular expression.
    subscribers: BTreeMap<Name, usize>,
    /// The epoch of the member that owns a partition, or has not given it up yet.
    owners: BTreeMap<(Uuid, i32), i32>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    pub id: Name,
    pub metadata: MemberMetadata,
    pub current: CurrentAssignment,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupState {
    Empty,
    Assigning,
    Reconciling,
    Stable,
}

impl GroupState {
    pub fn name(self) -> &'static str {
        match self {
            GroupState::Empty => "Empty",
            GroupState::Assigning => "Assigning",
            GroupState::Reconciling => "Reconciling",
            GroupState::Stable => "Stable",
        }
    }
}

impl Member {
    pub fn new(id: Name) -> Member {
        let metadata = MemberMetadata { rebalance_timeout_ms: -1, ..MemberMetadata::default() };
        let current = CurrentAssignment { previous_epoch: -1, ..CurrentAssignment::default() };
        Member { id, metadata, current }
    }

    pub fn is_classic(&self) -> bool {
        self.metadata.classic.is_some()
    }

    pub fn is_reconciled_to(&self, epoch: i32) -> bool {
        self.current.state == MemberState::Stable && self.current.epoch == epoch
    }

    /// The epoch in which a partition that it has was given to it.
    pub fn assignment_epoch(&self, topic_id: Uuid, partition: i32) -> Option<i32> {
        let of = |owned: &Owned| owned.get(&topic_id)?.get(&partition).copied();
        of(&self.current.assigned).or_else(|| of(&self.current.revoking))
    }
}

impl Default for ConsumerGroup {
    fn default() -> ConsumerGroup {
        ConsumerGroup {
            epoch: FIRST_EPOCH,
            metadata_hash: 0,
            target_epoch: TargetEpoch { epoch: FIRST_EPOCH, timestamp_ms: 0 },
            members: BTreeMap::new(),
            target: BTreeMap::new(),
            regexes: BTreeMap::new(),
            has_partitions_record: false,
            static_members: BTreeMap::new(),
            subscribers: BTreeMap::new(),
            owners: BTreeMap::new(),
        }
    }
}

impl ConsumerGroup {
    /// Records of other kinds, and those that end the group, are not for it.
    pub fn apply(&mut self, record: &Record) {
        match record {
            Record::Epoch { value: Some(value), .. } => {
                self.epoch = value.epoch;
                self.metadata_hash = value.metadata_hash;
            }
            Record::Partitions { present, .. } => self.has_partitions_record = *present,
            Record::Member { member, value: Some(metadata), .. } => {
                self.change_member(member, |member| member.metadata = metadata.clone());
            }
            Record::Member { member, value: None, .. } => self.remove_member(member),
            Record::TargetEpoch { value: Some(value), .. } => self.target_epoch = *value,
            Record::TargetEpoch { value: None, .. } => self.target_epoch = TargetEpoch { epoch: -1, timestamp_ms: 0 },
            Record::Target { member, value: Some(target), .. } => {
                self.target.insert(member.clone(), target.clone());
            }
            Record::Target { member, value: None, .. } => {
                self.target.remove(member);
            }
            Record::Current { member, value: Some(current), .. } => {
                self.change_member(member, |member| member.current = current.clone());
            }
            Record::Current { member, value: None, .. } if self.members.contains_key(member) => {
                let gone = CurrentAssignment { epoch: LEFT, previous_epoch: LEFT, ..CurrentAssignment::default() };
                self.change_member(member, |member| member.current = gone);
            }
            Record::Regex { regex, value: Some(resolved), .. } => {
                self.regexes.insert(regex.clone(), resolved.clone());
            }
            Record::Regex { regex, value: None, .. } => {
                self.regexes.remove(regex);
            }
            _ => {}
        }
    }

    fn change_member(&mut self, id: &Name, change: impl FnOnce(&mut Member)) {
        let mut member = self.members.remove(id).unwrap_or_else(|| Member::new(id.clone()));
        self.release(&member);
        change(&mut member);
        for (topic_id, partitions) in member.current.assigned.iter().chain(&member.current.revoking) {
            for partition in partitions.keys() {
                let owner = self.owners.entry((*topic_id, *partition)).or_insert(member.current.epoch);
                *owner = member.current.epoch.max(*owner);
            }
        }
        if let Some(instance) = &member.metadata.instance_id {
            self.static_members.insert(instance.clone(), id.clone());
        }
        if !member.metadata.regex.is_empty() {
            *self.subscribers.entry(member.metadata.regex.clone()).or_default() += 1;
        }
        self.members.insert(id.clone(), member);
    }

    fn remove_member(&mut self, id: &Name) {
        let Some(member) = self.members.remove(id) else { return };
        self.release(&member);
        if let Some(instance) = &member.metadata.instance_id
            && self.static_members.get(instance) == Some(id)
        {
            self.static_members.remove(instance);
        }
    }

    /// A member that is not among the others now. What another has taken over in the meantime stays with that one.
    fn release(&mut self, member: &Member) {
        if let Some(subscribers) = self.subscribers.get_mut(&member.metadata.regex) {
            *subscribers -= 1;
            if *subscribers == 0 {
                self.subscribers.remove(&member.metadata.regex);
            }
        }
        for (topic_id, partitions) in member.current.assigned.iter().chain(&member.current.revoking) {
            for partition in partitions.keys() {
                let key = (*topic_id, *partition);
                if self.owners.get(&key) == Some(&member.current.epoch) {
                    self.owners.remove(&key);
                }
            }
        }
    }

    pub fn is_owned(&self, topic_id: Uuid, partition: i32) -> bool {
        self.owners.contains_key(&(topic_id, partition))
    }

    pub fn static_member(&self, instance: &str) -> Option<&Member> {
        self.members.get(self.static_members.get(instance)?)
    }

    pub fn target_of(&self, member: &str) -> Assignment {
        self.target.get(member).cloned().unwrap_or_default()
    }

    pub fn state(&self) -> GroupState {
        if self.members.is_empty() {
            GroupState::Empty
        } else if self.epoch > self.target_epoch.epoch {
            GroupState::Assigning
        } else if self.members.values().all(|member| member.is_reconciled_to(self.target_epoch.epoch)) {
            GroupState::Stable
        } else {
            GroupState::Reconciling
        }
    }

    pub fn is_subscribed_to(&self, topic: &str) -> bool {
        let by_regex = self.regexes.values().any(|regex| regex.topics.contains(topic));
        by_regex || self.members.values().any(|member| member.metadata.topics.contains(topic))
    }

    /// How many members subscribe by this regular expression.
    pub fn subscribers(&self, regex: &str) -> usize {
        self.subscribers.get(regex).copied().unwrap_or(0)
    }

    /// The regular expressions by which members subscribe.
    pub fn subscribed_regexes(&self) -> impl Iterator<Item = &Name> {
        self.subscribers.keys()
    }

    pub fn classic_members(&self) -> usize {
        self.members.values().filter(|member| member.is_classic()).count()
    }

    /// All that a member subscribes to, as far as its regular expression is resolved.
    pub fn topics_of<'a>(&'a self, metadata: &'a MemberMetadata) -> BTreeSet<&'a Name> {
        self.topics_with_duplicates_of(metadata).collect()
    }

    /// The same for who does not mind to see a topic twice, unsorted.
    pub fn topics_with_duplicates_of<'a>(&'a self, metadata: &'a MemberMetadata) -> impl Iterator<Item = &'a Name> {
        let by_regex = self.regexes.get(&metadata.regex).into_iter().flat_map(|regex| &regex.topics);
        metadata.topics.iter().chain(by_regex)
    }

    /// What removes the group from the log.
    pub fn tombstones(&self, group: &Name) -> Vec<Record> {
        let group = || group.clone();
        let members = || self.members.keys().cloned();
        let current = members().map(|member| Record::Current { group: group(), member, value: None });
        let target = members().map(|member| Record::Target { group: group(), member, value: None });
        let member = members().map(|member| Record::Member { group: group(), member, value: None });
        let regex = self.regexes.keys().map(|r| Record::Regex { group: group(), regex: r.clone(), value: None });
        let mut records: Vec<Record> = current.chain(target).collect();
        records.push(Record::TargetEpoch { group: group(), value: None });
        records.extend(member.chain(regex));
        records.push(Record::Partitions { group: group(), present: false });
        records.push(Record::Epoch { group: group(), value: None });
        records
    }
}
