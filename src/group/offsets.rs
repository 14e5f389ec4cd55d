//! Committed offsets: their state, and the requests that commit, fetch, delete and expire them.

use std::collections::{BTreeMap, BTreeSet};

use kafka_protocol::messages::offset_commit_request::OffsetCommitRequestPartition;
use kafka_protocol::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use kafka_protocol::messages::offset_delete_response::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic};
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartitions, OffsetFetchResponseTopics,
};
use kafka_protocol::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use kafka_protocol::messages::{OffsetCommitRequest, OffsetDeleteRequest, TxnOffsetCommitRequest};
use uuid::Uuid;

use super::classic::{RetentionFrom, State};
use super::consumer::group::ConsumerGroup;
use super::embedded::text;
use super::hard::Position;
use super::machine::{Turn, View, classic, group_not_found};
use super::records::{CommittedOffset, Name, Record};
use super::timers::Timer;
use super::{Result, fail};
use crate::error::{ApiError, ErrorCode};

/// From this version on members of KIP-848 may commit, and errors may say so.
const FIRST_VERSION_WITH_EPOCHS: i16 = 9;

#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    pub value: CommittedOffset,
    /// Where the record stands in the log.
    pub position: i64,
}

type ByPartition = BTreeMap<Name, BTreeMap<i32, Stored>>;

/// group -> topic -> partition
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Offsets {
    committed: BTreeMap<Name, ByPartition>,
    /// By producer id: what counts if its transaction commits.
    pending: BTreeMap<i64, BTreeMap<Name, ByPartition>>,
    /// Producers with a pending offset, by group and then topic and partition.
    open: BTreeMap<Name, BTreeMap<(Name, i32), BTreeSet<i64>>>,
}

impl Offsets {
    pub(super) fn apply(
        &mut self,
        group: Name,
        topic: Name,
        partition: i32,
        value: Option<CommittedOffset>,
        position: Position,
    ) {
        let Some(value) = value else { return self.remove(&group, topic, partition) };
        let stored = Stored { value, position: position.offset };
        let offsets = match position.producer_id {
            None => &mut self.committed,
            Some(producer) => {
                let open = self.open.entry(group.clone()).or_default();
                open.entry((topic.clone(), partition)).or_default().insert(producer);
                self.pending.entry(producer).or_default()
            }
        };
        match offsets.get_mut(&group).and_then(|topics| topics.get_mut(&topic)) {
            Some(partitions) => partitions.insert(partition, stored),
            None => offsets.entry(group).or_default().entry(topic).or_default().insert(partition, stored),
        };
    }

    /// What is committed and what is pending.
    fn remove(&mut self, group: &Name, topic: Name, partition: i32) {
        remove(&mut self.committed, group, &topic, partition);
        let Some(open) = self.open.get_mut(group) else { return };
        let key = (topic, partition);
        for producer in open.remove(&key).unwrap_or_default() {
            if let Some(pending) = self.pending.get_mut(&producer) {
                remove(pending, group, &key.0, partition);
            }
        }
        self.open.retain(|_, partitions| !partitions.is_empty());
    }

    /// A producer's transaction has ended. An offset that was committed after its own stays.
    pub(super) fn end_transaction(&mut self, producer_id: i64, committed: bool) {
        for (group, topics) in self.pending.remove(&producer_id).unwrap_or_default() {
            for (topic, partitions) in topics {
                for (partition, stored) in partitions {
                    if let Some(open) = self.open.get_mut(&group)
                        && let Some(producers) = open.get_mut(&(topic.clone(), partition))
                    {
                        producers.remove(&producer_id);
                    }
                    let current = self.get(&group, &topic, partition);
                    if committed && current.is_none_or(|current| current.position < stored.position) {
                        let topics = self.committed.entry(group.clone()).or_default();
                        topics.entry(topic.clone()).or_default().insert(partition, stored);
                    }
                }
            }
        }
        for partitions in self.open.values_mut() {
            partitions.retain(|_, producers| !producers.is_empty());
        }
        self.open.retain(|_, partitions| !partitions.is_empty());
    }

    fn get(&self, group: &str, topic: &str, partition: i32) -> Option<&Stored> {
        self.committed.get(group)?.get(topic)?.get(&partition)
    }

    fn is_pending(&self, group: &str, topic: &Name, partition: i32) -> bool {
        self.open.get(group).is_some_and(|open| open.contains_key(&(topic.clone(), partition)))
    }

    /// Everything that is committed or pending for a group.
    fn partitions_of(&self, group: &str) -> BTreeSet<(Name, i32)> {
        let committed = self.committed.get(group).into_iter().flatten();
        let committed = committed.flat_map(|(topic, partitions)| partitions.keys().map(|p| (topic.clone(), *p)));
        committed.chain(self.open.get(group).into_iter().flat_map(|open| open.keys().cloned())).collect()
    }

    /// (group, topic, partition, topic id) of all that is committed or pending.
    fn all(&self) -> impl Iterator<Item = (&Name, &Name, i32, Uuid)> {
        std::iter::once(&self.committed).chain(self.pending.values()).flatten().flat_map(|(group, topics)| {
            topics.iter().flat_map(move |(topic, partitions)| {
                partitions.iter().map(move |(partition, stored)| (group, topic, *partition, stored.value.topic_id))
            })
        })
    }
}

fn remove(offsets: &mut BTreeMap<Name, ByPartition>, group: &Name, topic: &Name, partition: i32) {
    let Some(topics) = offsets.get_mut(group) else { return };
    if let Some(partitions) = topics.get_mut(topic) {
        partitions.remove(&partition);
        if partitions.is_empty() {
            topics.remove(topic);
        }
    }
    if topics.is_empty() {
        offsets.remove(group);
    }
}

fn tombstone(group: &Name, topic: &Name, partition: i32) -> Record {
    Record::Offset { group: group.clone(), topic: topic.clone(), partition, value: None }
}

/// Which of a commit's partitions a group lets pass.
enum Permit {
    All,
    /// The member commits in an older epoch: only what it has had since then.
    Since {
        member: Name,
        epoch: i32,
    },
}

/// Who commits, or asks.
struct Committer<'a> {
    group: &'a str,
    member: &'a str,
    instance: Option<&'a str>,
    epoch: i32,
    transactional: bool,
}

impl Turn<'_> {
    /// The topics come with names and ids, and exist.
    pub fn commit_offsets(
        &mut self,
        api_version: i16,
        request: &OffsetCommitRequest,
    ) -> Result<Vec<OffsetCommitResponseTopic>> {
        let committer = Committer {
            group: &request.group_id,
            member: &request.member_id,
            instance: request.group_instance_id.as_deref(),
            epoch: request.generation_id_or_member_epoch,
            transactional: false,
        };
        let permit = self.permit_commit(&committer, api_version)?;
        let group = Name::from(committer.group);
        let expire_timestamp_ms = (request.retention_time_ms != -1).then(|| self.now_ms + request.retention_time_ms);
        let before = self.out.records.len();
        let mut topics = Vec::with_capacity(request.topics.len());
        self.out.records.reserve_exact(request.topics.iter().map(|topic| topic.partitions.len()).sum());
        for topic in &request.topics {
            let name = Name::from(topic.name.as_str());
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for partition in &topic.partitions {
                let index = partition.partition_index;
                let response = OffsetCommitResponsePartition::default().with_partition_index(index);
                if self.is_too_large(partition.committed_metadata.as_deref()) {
                    partitions.push(response.with_error_code(ErrorCode::OffsetMetadataTooLarge.code()));
                    continue;
                }
                if let Err(error) = self.check_permit(&permit, committer.group, topic.topic_id, index) {
                    // All of it, or nothing.
                    self.out.records.truncate(before);
                    return Err(error);
                }
                let mut value = CommittedOffset { expire_timestamp_ms, ..self.committed_offset(partition) };
                // The record's only version with an expiry is older than ids.
                if expire_timestamp_ms.is_none() {
                    value.topic_id = topic.topic_id;
                }
                let (group, topic, value) = (group.clone(), name.clone(), Some(value));
                self.out.records.push(Record::Offset { group, topic, partition: index, value });
                partitions.push(response);
            }
            let response = OffsetCommitResponseTopic::default().with_name(topic.name.clone());
            topics.push(response.with_topic_id(topic.topic_id).with_partitions(partitions));
        }
        Ok(topics)
    }

    /// Offsets that count when the producer's transaction commits. The records are to be written in its name.
    pub fn commit_transactional_offsets(
        &mut self,
        api_version: i16,
        request: &TxnOffsetCommitRequest,
    ) -> Result<Vec<TxnOffsetCommitResponseTopic>> {
        let stale = |error: ApiError| match error.code {
            ErrorCode::StaleMemberEpoch => ApiError::new(ErrorCode::IllegalGeneration, ""),
            _ => error,
        };
        let committer = Committer {
            group: &request.group_id,
            member: &request.member_id,
            instance: request.group_instance_id.as_deref(),
            epoch: request.generation_id,
            transactional: true,
        };
        let permit = self.permit_commit(&committer, api_version).map_err(stale)?;
        let mut topics = Vec::with_capacity(request.topics.len());
        let mut records = Vec::new();
        for topic in &request.topics {
            let topic_id = self.cluster.topic(&topic.name).map_or(Uuid::nil(), |topic| topic.id);
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for partition in &topic.partitions {
                let index = partition.partition_index;
                let response = TxnOffsetCommitResponsePartition::default().with_partition_index(index);
                if self.is_too_large(partition.committed_metadata.as_deref()) {
                    partitions.push(response.with_error_code(ErrorCode::OffsetMetadataTooLarge.code()));
                    continue;
                }
                self.check_permit(&permit, committer.group, topic_id, index).map_err(stale)?;
                let same = OffsetCommitRequestPartition::default()
                    .with_committed_offset(partition.committed_offset)
                    .with_committed_leader_epoch(partition.committed_leader_epoch)
                    .with_committed_metadata(partition.committed_metadata.clone());
                let (group, value) = (Name::from(committer.group), Some(self.committed_offset(&same)));
                records.push(Record::Offset { group, topic: topic.name.as_str().into(), partition: index, value });
                partitions.push(response);
            }
            let response = TxnOffsetCommitResponseTopic::default().with_name(topic.name.clone());
            topics.push(response.with_partitions(partitions));
        }
        self.out.records.extend(records);
        Ok(topics)
    }

    fn committed_offset(&self, partition: &OffsetCommitRequestPartition) -> CommittedOffset {
        CommittedOffset {
            offset: partition.committed_offset,
            leader_epoch: partition.committed_leader_epoch,
            // The empty one needs no memory.
            metadata: match partition.committed_metadata.as_deref() {
                None | Some("") => Name::default(),
                Some(metadata) => metadata.into(),
            },
            commit_timestamp_ms: self.now_ms,
            expire_timestamp_ms: None,
            topic_id: Uuid::nil(),
        }
    }

    /// Kafka counts UTF-16 units, though the setting speaks of bytes.
    fn is_too_large(&self, metadata: Option<&str>) -> bool {
        metadata.is_some_and(|metadata| metadata.encode_utf16().count() > self.settings.offset_metadata_max_bytes)
    }

    fn permit_commit(&mut self, committer: &Committer<'_>, api_version: i16) -> Result<Permit> {
        if let Some(group) = self.hard.consumer(committer.group) {
            return permit_in_consumer_group(group, committer, api_version);
        }
        let Some(group) = classic(self.hard, &self.soft.classic, committer.group) else {
            // Anybody may keep offsets in a group that nobody is a member of.
            return match committer.epoch {
                ..0 => Ok(Permit::All),
                _ if !committer.transactional && api_version >= FIRST_VERSION_WITH_EPOCHS => {
                    let message = format!("Group {} not found.", committer.group);
                    Err(ApiError::new(ErrorCode::GroupIdNotFound, message))
                }
                _ => fail(ErrorCode::IllegalGeneration),
            };
        };
        group.permit_commit(committer.member, committer.instance, committer.epoch, committer.transactional)?;
        // A commit is as good as a heartbeat.
        if !committer.transactional
            && matches!(group.state, State::Stable | State::PreparingRebalance)
            && let Some(group) = self.soft.classic.get_mut(committer.group)
            && let Some(member) = group.members.get_mut(committer.member)
        {
            member.expect_heartbeat(&group.id, &mut self.soft.timers, self.now_ms);
        }
        Ok(Permit::All)
    }

    fn check_permit(&self, permit: &Permit, group: &str, topic_id: Uuid, partition: i32) -> Result<()> {
        let Permit::Since { member, epoch } = permit else { return Ok(()) };
        let member = self.hard.consumer(group).and_then(|group| group.members.get(member));
        let Some(member) = member else { return fail(ErrorCode::UnknownMemberId) };
        let code = if member.is_classic() { ErrorCode::IllegalGeneration } else { ErrorCode::StaleMemberEpoch };
        match member.assignment_epoch(topic_id, partition) {
            Some(assigned) if *epoch >= assigned => Ok(()),
            _ => fail(code),
        }
    }

    /// A group with an error has no topics. `require_stable`: offsets of open transactions are not told.
    pub fn fetch_offsets(
        &mut self,
        request: &OffsetFetchRequestGroup,
        require_stable: bool,
    ) -> Result<OffsetFetchResponseGroup> {
        let group = request.group_id.as_str();
        let response = OffsetFetchResponseGroup::default().with_group_id(request.group_id.clone());
        if let Some(group) = self.hard.consumer(group) {
            check_fetch(group, request)?;
        }
        let known = self.hard.groups.contains_key(group);
        let offsets = &self.hard.offsets;
        let answer = |topic: &Name, topic_id: Uuid, partition: i32| {
            let answer = OffsetFetchResponsePartitions::default()
                .with_partition_index(partition)
                .with_committed_offset(-1)
                .with_committed_leader_epoch(-1)
                .with_metadata(Some(Default::default()));
            if require_stable && offsets.is_pending(group, topic, partition) {
                return answer.with_error_code(ErrorCode::UnstableOffsetCommit.code());
            }
            match offsets.get(group, topic, partition) {
                Some(Stored { value, .. }) if known && is_same_topic(value.topic_id, topic_id) => answer
                    .with_committed_offset(value.offset)
                    .with_committed_leader_epoch(value.leader_epoch)
                    .with_metadata(Some(text(&value.metadata))),
                _ => answer,
            }
        };
        let topics: Vec<OffsetFetchResponseTopics> = match &request.topics {
            Some(topics) => {
                let topic = |topic: &OffsetFetchRequestTopics| {
                    let name = Name::from(topic.name.as_str());
                    let partitions = topic.partition_indexes.iter().map(|p| answer(&name, topic.topic_id, *p));
                    OffsetFetchResponseTopics::default()
                        .with_name(topic.name.clone())
                        .with_topic_id(topic.topic_id)
                        .with_partitions(partitions.collect())
                };
                topics.iter().map(topic).collect()
            }
            None => {
                let topics = offsets.committed.get(group).into_iter().flatten().filter(|_| known);
                let topic = |(name, partitions): (&Name, &BTreeMap<i32, Stored>)| {
                    let partitions = partitions.keys().map(|partition| answer(name, Uuid::nil(), *partition));
                    let topic = OffsetFetchResponseTopics::default().with_name(text(name).into());
                    topic.with_partitions(partitions.collect())
                };
                topics.map(topic).collect()
            }
        };
        Ok(response.with_topics(topics))
    }

    pub fn delete_offsets(&mut self, request: &OffsetDeleteRequest) -> Result<Vec<OffsetDeleteResponseTopic>> {
        let group = Name::from(request.group_id.as_str());
        let Some(view) = self.view(&group) else { return group_not_found(&group) };
        if let View::Classic(classic) = &view
            && classic.state != State::Empty
            && !classic.uses_consumer_protocol()
        {
            return fail(ErrorCode::NonEmptyGroup);
        }
        let offsets = &self.hard.offsets;
        let mut topics = Vec::with_capacity(request.topics.len());
        let mut records = Vec::new();
        for topic in &request.topics {
            let name = Name::from(topic.name.as_str());
            let subscribed = view.is_subscribed_to(&name);
            let code = if subscribed { ErrorCode::GroupSubscribedToTopic.code() } else { 0 };
            let indexes = topic.partitions.iter().map(|partition| partition.partition_index);
            let gone = indexes.clone().filter(|index| {
                let stored = offsets.get(&group, &name, *index).is_some();
                !subscribed && (stored || offsets.is_pending(&group, &name, *index))
            });
            records.extend(gone.map(|index| tombstone(&group, &name, index)));
            let answer =
                |index| OffsetDeleteResponsePartition::default().with_partition_index(index).with_error_code(code);
            let response = OffsetDeleteResponseTopic::default().with_name(topic.name.clone());
            topics.push(response.with_partitions(indexes.map(answer).collect()));
        }
        self.out.records.extend(records);
        Ok(topics)
    }

    /// For the deletion of a group.
    pub(super) fn delete_all_offsets(&mut self, group: &Name) {
        let partitions = self.hard.offsets.partitions_of(group);
        self.out.records.extend(partitions.iter().map(|(topic, partition)| tombstone(group, topic, *partition)));
    }

    /// Topics are gone: nobody can want their offsets. An offset with the id of another topic of that name stays.
    pub fn topics_deleted(&mut self, deleted: &[(Uuid, Name)]) {
        let is_gone =
            |topic: &Name, id: Uuid| deleted.iter().any(|(gone, name)| name == topic && (id.is_nil() || id == *gone));
        let all = self.hard.offsets.all().filter(|(_, topic, _, id)| is_gone(topic, *id));
        let records: Vec<Record> = all.map(|(group, topic, partition, _)| tombstone(group, topic, partition)).collect();
        self.out.records.extend(records);
    }

    /// After a start: offsets of topics that were deleted while the broker could not write it down.
    pub(super) fn sweep_deleted_topics(&mut self) {
        let is_gone = |id: Uuid| !id.is_nil() && self.cluster.topic_by_id(id).is_none();
        let all = self.hard.offsets.all().filter(|(_, _, _, id)| is_gone(*id));
        let records: Vec<Record> = all.map(|(group, topic, partition, _)| tombstone(group, topic, partition)).collect();
        self.out.records.extend(records);
    }

    /// Removes offsets that nobody came back for (KIP-211), and groups without members and offsets.
    pub(super) fn expire_offsets(&mut self) {
        let groups: Vec<Name> = self.hard.groups.keys().cloned().collect();
        for group in groups {
            let expired = self.expired_offsets(&group);
            let left = self.hard.offsets.partitions_of(&group).len() - expired.len();
            self.out.records.extend(expired.into_iter().map(|(topic, partition)| tombstone(&group, &topic, partition)));
            if left == 0 {
                self.delete_if_empty(&group);
            }
        }
        self.soft.timers.set(Timer::Expiry, self.now_ms + self.settings.offsets_retention_check_interval_ms);
    }

    fn expired_offsets(&self, group: &Name) -> Vec<(Name, i32)> {
        let Some(view) = self.view(group) else { return Vec::new() };
        let base = match &view {
            View::Consumer(_) => Some(RetentionFrom::Commit),
            View::Classic(classic) => classic.retention_from(),
        };
        // As long as the group is in this state nothing expires.
        let Some(base) = base else { return Vec::new() };
        let is_expired = |topic: &Name, partition: i32, stored: &Stored| {
            let CommittedOffset { expire_timestamp_ms, commit_timestamp_ms, .. } = stored.value;
            let from = match base {
                RetentionFrom::Commit => commit_timestamp_ms,
                RetentionFrom::Time(time) => time,
            };
            let due = expire_timestamp_ms.unwrap_or(from.saturating_add(self.settings.offsets_retention_ms));
            self.now_ms >= due && !self.hard.offsets.is_pending(group, topic, partition)
        };
        let topics = self.hard.offsets.committed.get(group).into_iter().flatten();
        let mut expired = Vec::new();
        for (topic, partitions) in topics.filter(|(topic, _)| !view.is_subscribed_to(topic)) {
            let due = partitions.iter().filter(|(partition, stored)| is_expired(topic, **partition, stored));
            expired.extend(due.map(|(partition, _)| (topic.clone(), *partition)));
        }
        expired
    }
}

/// An id that either side does not know matches any.
fn is_same_topic(stored: Uuid, asked: Uuid) -> bool {
    stored.is_nil() || asked.is_nil() || stored == asked
}

fn permit_in_consumer_group(group: &ConsumerGroup, committer: &Committer<'_>, api_version: i16) -> Result<Permit> {
    let Committer { member, instance, epoch, transactional, .. } = *committer;
    if epoch < 0 && group.members.is_empty() {
        return Ok(Permit::All);
    }
    // A producer that does not say which member it works for.
    if transactional && epoch == -1 && member.is_empty() && instance.is_none() {
        return Ok(Permit::All);
    }
    let Some(member) = group.members.get(member) else { return fail(ErrorCode::UnknownMemberId) };
    if !transactional && !member.is_classic() && api_version < FIRST_VERSION_WITH_EPOCHS {
        return fail(ErrorCode::UnsupportedVersion);
    }
    match epoch.cmp(&member.current.epoch) {
        std::cmp::Ordering::Equal => Ok(Permit::All),
        std::cmp::Ordering::Less => Ok(Permit::Since { member: member.id.clone(), epoch }),
        std::cmp::Ordering::Greater if member.is_classic() => fail(ErrorCode::IllegalGeneration),
        std::cmp::Ordering::Greater => fail(ErrorCode::StaleMemberEpoch),
    }
}

fn check_fetch(group: &ConsumerGroup, request: &OffsetFetchRequestGroup) -> Result<()> {
    let (member, epoch) = (request.member_id.as_deref(), request.member_epoch);
    if member.is_none() && epoch < 0 {
        return Ok(());
    }
    match member.and_then(|member| group.members.get(member)) {
        None => fail(ErrorCode::UnknownMemberId),
        Some(member) if member.current.epoch == epoch => Ok(()),
        Some(member) if member.is_classic() => fail(ErrorCode::IllegalGeneration),
        Some(_) => fail(ErrorCode::StaleMemberEpoch),
    }
}
