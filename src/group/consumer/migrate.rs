//! From the classic protocol to KIP-848 and back, while members are there: the group's records are replaced, its members
//! and what they own stay.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::group::{ConsumerGroup, Member};
use super::subscription::metadata_hash;
use crate::error::{ApiError, ErrorCode};
use crate::group::Result;
use crate::group::classic::{ClassicGroup, ClassicMemberState, State};
use crate::group::embedded::{EmbeddedAssignment, PROTOCOL_TYPE, Subscription};
use crate::group::machine::Turn;
use crate::group::records::{
    Assignment, ClassicMember, CurrentAssignment, GroupEpoch, MemberMetadata, Name, Owned, Record, TargetEpoch,
};
use crate::group::timers::Timer;

impl Turn<'_> {
    /// A member of the new protocol joins a classic group of consumers.
    pub(super) fn upgrade(&mut self, mut classic: Box<ClassicGroup>) -> Result<ConsumerGroup> {
        let id = classic.id.clone();
        let members = match self.check_upgrade(&classic).and_then(|()| self.converted_members(&classic)) {
            Ok(members) => members,
            Err(reason) => {
                tracing::info!(group = &*id, reason, "cannot upgrade a classic group to a consumer group");
                self.put_classic(classic);
                let message = format!("Cannot upgrade classic group {id} to consumer group because {reason}.");
                return Err(ApiError::new(ErrorCode::GroupIdNotFound, message));
            }
        };
        classic.answer_all(ErrorCode::RebalanceInProgress, &mut self.out);
        self.cancel_classic_timers(&mut classic);
        let mut group = ConsumerGroup::default();
        let hash =
            metadata_hash(self.cluster, &mut self.soft.topic_hashes, &group, members.iter().map(|(member, _)| member));
        let records = upgrade_records(&id, &members, GroupEpoch { epoch: classic.generation, metadata_hash: hash });
        records.iter().for_each(|record| group.apply(record));
        self.out.records.push(Record::Group { group: id.clone(), value: None });
        self.out.records.extend(records);
        members.iter().for_each(|(member, _)| self.expect_member(&id, member));
        Ok(group)
    }

    fn check_upgrade(&self, classic: &ClassicGroup) -> Result<(), &'static str> {
        if !self.settings.consumer.migration.upgrade {
            return Err("online upgrade is disabled");
        }
        if !classic.uses_consumer_protocol() {
            return Err("the group does not use the consumer embedded protocol");
        }
        if classic.members.len() > self.settings.consumer.max_size {
            return Err("the group size exceeds the consumer group maximum size");
        }
        Ok(())
    }

    fn converted_members(&self, classic: &ClassicGroup) -> Result<Vec<(Member, Assignment)>, &'static str> {
        const MALFORMED: &str = "the embedded consumer protocol is malformed";
        let protocol = classic.protocol.clone().or_else(|| classic.select_protocol()).ok_or(MALFORMED)?;
        let convert = |member: &ClassicMemberState| {
            let metadata = member.metadata(&protocol).ok_or(MALFORMED)?;
            let subscription = Subscription::parse(metadata).map_err(|_| MALFORMED)?;
            let mut target = Assignment::new();
            if !member.assignment.is_empty() {
                let assignment = EmbeddedAssignment::parse(&member.assignment).map_err(|_| MALFORMED)?;
                if assignment.has_user_data {
                    return Err("an unsupported custom assignor is in use");
                }
                for (name, partitions) in assignment.partitions {
                    if let Some(topic) = self.cluster.topic(&name) {
                        target.insert(topic.id, partitions.into_iter().collect());
                    }
                }
            }
            Ok((convert_member(member, subscription, &target, classic.generation), target))
        };
        classic.members.values().map(|member| convert(member)).collect()
    }

    fn cancel_classic_timers(&mut self, classic: &mut ClassicGroup) {
        let group = || classic.id.clone();
        self.soft.timers.cancel(&Timer::Join { group: group() });
        self.soft.timers.cancel(&Timer::Sync { group: group() });
        for member in classic.members.keys() {
            self.soft.timers.cancel(&Timer::Heartbeat { group: group(), member: member.clone() });
        }
        self.forget_pending(classic);
    }

    pub(super) fn can_downgrade(&self, group: &ConsumerGroup, gone: &BTreeSet<Name>) -> bool {
        let mut left = group.members.values().filter(|member| !gone.contains(&member.id));
        let count = left.clone().count();
        let allowed = self.settings.consumer.migration.downgrade && count <= self.settings.max_size;
        count > 0 && allowed && left.all(Member::is_classic)
    }

    /// Only classic members are left. `group` is as it is in the log, or as records of this turn make it. False if a
    /// member's subscription cannot be read.
    pub(super) fn downgrade(
        &mut self,
        id: &Name,
        group: &ConsumerGroup,
        gone: &BTreeSet<Name>,
        rebalances: bool,
    ) -> bool {
        let Some(mut classic) = self.converted_group(id, group, gone) else { return false };
        self.out.records.extend(group.tombstones(id));
        self.out.records.push(classic.to_record());
        group.members.keys().for_each(|member| self.cancel_member_timers(id, member));
        self.soft.consumer.remove(id);
        for member in classic.members.keys().cloned().collect::<Vec<_>>() {
            self.expect_heartbeat(&mut classic, &member);
        }
        if rebalances {
            self.prepare_rebalance(&mut classic);
        }
        self.put_classic(Box::new(classic));
        true
    }

    fn converted_group(&self, id: &Name, group: &ConsumerGroup, gone: &BTreeSet<Name>) -> Option<ClassicGroup> {
        let mut classic = ClassicGroup::new(id.clone(), self.now_ms);
        classic.state = State::Stable;
        classic.generation = group.epoch;
        classic.protocol_type = Some(PROTOCOL_TYPE.into());
        for member in group.members.values().filter(|member| !gone.contains(&member.id)) {
            let ClassicMember { session_timeout_ms, protocols } = member.metadata.classic.clone()?;
            let subscription = protocols.first()?.1.clone();
            classic.insert(ClassicMemberState {
                id: member.id.clone(),
                instance_id: member.metadata.instance_id.clone(),
                client_id: member.metadata.client_id.clone(),
                client_host: member.metadata.client_host.clone(),
                rebalance_timeout_ms: member.metadata.rebalance_timeout_ms,
                session_timeout_ms,
                protocols,
                assignment: self.embedded_assignment(&group.target_of(&member.id), &subscription),
                awaiting_join: None,
                awaiting_sync: None,
                is_new: false,
                session_ends_ms: None,
            });
        }
        classic.adopt_protocol().then_some(classic)
    }

    fn embedded_assignment(&self, target: &Assignment, subscription: &[u8]) -> Bytes {
        let topics = target.iter().filter_map(|(topic, partitions)| {
            let topic = self.cluster.topic_by_id(*topic)?;
            Some((topic.name, partitions.iter().copied().collect()))
        });
        EmbeddedAssignment::encode(&topics.collect::<Vec<_>>(), subscription)
    }
}

fn convert_member(
    member: &ClassicMemberState,
    subscription: Subscription,
    target: &Assignment,
    generation: i32,
) -> Member {
    let owned = target
        .iter()
        .map(|(topic, partitions)| (*topic, partitions.iter().map(|partition| (*partition, generation)).collect()));
    let (assigned, epoch) = (owned.collect::<Owned>(), generation);
    let current = CurrentAssignment { epoch, previous_epoch: epoch, assigned, ..CurrentAssignment::default() };
    let metadata = MemberMetadata {
        instance_id: member.instance_id.clone(),
        rack_id: subscription.rack_id,
        client_id: member.client_id.clone(),
        client_host: member.client_host.clone(),
        topics: subscription.topics.into_iter().collect(),
        regex: Name::default(),
        rebalance_timeout_ms: member.rebalance_timeout_ms,
        assignor: None,
        classic: Some(ClassicMember {
            session_timeout_ms: member.session_timeout_ms,
            protocols: member.protocols.clone(),
        }),
    };
    Member { id: member.id.clone(), metadata, current }
}

/// In the order in which Kafka writes them.
fn upgrade_records(id: &Name, members: &[(Member, Assignment)], epoch: GroupEpoch) -> Vec<Record> {
    let name = |member: &Member| (id.clone(), member.id.clone());
    let metadata = members.iter().map(|(m, _)| {
        let (group, member) = name(m);
        Record::Member { group, member, value: Some(m.metadata.clone()) }
    });
    let targets = members.iter().map(|(m, target)| {
        let (group, member) = name(m);
        Record::Target { group, member, value: Some(target.clone()) }
    });
    let current = members.iter().map(|(m, _)| {
        let (group, member) = name(m);
        Record::Current { group, member, value: Some(m.current.clone()) }
    });
    let target_epoch = TargetEpoch { epoch: epoch.epoch, timestamp_ms: 0 };
    let mut records: Vec<Record> = metadata.collect();
    records.push(Record::Epoch { group: id.clone(), value: Some(epoch) });
    records.extend(targets);
    records.push(Record::TargetEpoch { group: id.clone(), value: Some(target_epoch) });
    records.extend(current);
    records
}
