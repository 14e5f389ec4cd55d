//! ConsumerGroupHeartbeat: a member joins, says what has changed, reports what it owns, and is told what to own.

use std::borrow::Cow;
use std::collections::BTreeSet;

use kafka_protocol::messages::consumer_group_heartbeat_response::{Assignment as AnsweredAssignment, TopicPartitions};
use kafka_protocol::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};
use uuid::Uuid;

use super::group::{ConsumerGroup, LEFT, LEFT_STATIC, Member};
use super::reconcile::Goal;
use crate::error::{ApiError, ErrorCode};
use crate::group::embedded::text;
use crate::group::hard::Group;
use crate::group::machine::Turn;
use crate::group::records::{Name, Owned, Record};
use crate::group::{Client, MAX_NAME_BYTES, Result};

/// What a member says it owns; None if it does not say.
pub(super) type Reported = Option<Vec<(Uuid, Vec<i32>)>>;

/// What a heartbeat comes to.
#[derive(Debug)]
pub enum Heard {
    Answer(ConsumerGroupHeartbeatResponse),
    /// A member has joined, under this id, and others may be joining at the same moment: it is to be heard once more, by
    /// [`Turn::consumer_heartbeat`], when the group is named in [`crate::group::Effects::gathered`].
    Gathering(Name),
}

impl Heard {
    /// Of who does not wait.
    pub fn answer(self) -> ConsumerGroupHeartbeatResponse {
        match self {
            Heard::Answer(answer) => answer,
            Heard::Gathering(_) => unreachable!("nobody waits"),
        }
    }
}

fn refuse<T>(code: ErrorCode, message: impl Into<String>) -> Result<T> {
    Err(ApiError::new(code, message))
}

impl<'a> Turn<'a> {
    pub fn consumer_heartbeat(
        &mut self,
        client: Client<'_>,
        request: &ConsumerGroupHeartbeatRequest,
    ) -> Result<ConsumerGroupHeartbeatResponse> {
        self.hear(client, request, false).map(Heard::answer)
    }

    /// The same for who can wait until others have joined, too.
    pub fn gathering_heartbeat(
        &mut self,
        client: Client<'_>,
        request: &ConsumerGroupHeartbeatRequest,
    ) -> Result<Heard> {
        // A static member that joins twice would find its instance taken.
        self.hear(client, request, request.member_epoch == 0 && request.instance_id.is_none())
    }

    fn hear(&mut self, client: Client<'_>, request: &ConsumerGroupHeartbeatRequest, gather: bool) -> Result<Heard> {
        self.check_heartbeat(client, request)?;
        match request.member_epoch {
            LEFT | LEFT_STATIC => self.leave_consumer_group(request).map(Heard::Answer),
            _ => self.heartbeat_of_consumer(client, request, gather),
        }
    }

    fn check_heartbeat(&self, client: Client<'_>, request: &ConsumerGroupHeartbeatRequest) -> Result<()> {
        let not_blank = |value: Option<&str>, name: &str| match value {
            Some(value) if value.trim().is_empty() => {
                refuse(ErrorCode::InvalidRequest, format!("{name} can't be empty."))
            }
            Some(value) if value.len() > MAX_NAME_BYTES => {
                refuse(ErrorCode::InvalidRequest, format!("{name} is too long."))
            }
            _ => Ok(()),
        };
        let epoch = request.member_epoch;
        if client.api_version >= 1 || epoch > 0 || epoch == LEFT {
            not_blank(Some(&request.member_id), "MemberId")?;
        }
        not_blank(Some(&request.group_id), "GroupId")?;
        not_blank(request.instance_id.as_deref(), "InstanceId")?;
        not_blank(request.rack_id.as_deref(), "RackId")?;
        if request.subscribed_topic_regex.as_ref().is_some_and(|regex| regex.len() > MAX_NAME_BYTES) {
            return refuse(ErrorCode::InvalidRegularExpression, "SubscribedTopicRegex is too long.");
        }
        if epoch == 0 {
            check_join(request)?;
        } else if epoch == LEFT_STATIC && request.instance_id.is_none() {
            return refuse(ErrorCode::InvalidRequest, "InstanceId can't be null.");
        } else if epoch < LEFT_STATIC {
            return refuse(ErrorCode::InvalidRequest, "MemberEpoch is invalid.");
        }
        let assignors = &self.settings.consumer.assignors;
        match request.server_assignor.as_deref() {
            Some(asked) if !assignors.iter().any(|known| **known == *asked) => {
                let message =
                    format!("ServerAssignor {asked} is not supported. Supported assignors: {}.", assignors.join(", "));
                refuse(ErrorCode::UnsupportedAssignor, message)
            }
            _ => Ok(()),
        }
    }

    fn heartbeat_of_consumer(
        &mut self,
        client: Client<'_>,
        request: &ConsumerGroupHeartbeatRequest,
        gather: bool,
    ) -> Result<Heard> {
        let id = Name::from(request.group_id.as_str());
        let joins = request.member_epoch == 0;
        let mut group = self.open_group(&id, joins)?;
        self.check_room(&group, &request.member_id)?;
        let member_id: Name = match request.member_id.as_str() {
            "" => (self.new_id)().to_string().into(),
            given => given.into(),
        };
        let reported = reported(request);
        let instance = request.instance_id.as_deref();
        let member = match instance {
            Some(instance) => {
                let takes = joins.then_some(false);
                self.static_member(&id, &mut group, &member_id, instance, takes)?
            }
            None => dynamic_member(&group, &member_id, joins)?,
        };
        check_epoch(&member, request.member_epoch, &reported)?;
        let mut updated = update(&member, client, request);
        let (epoch, subscription_changed) = self.advance_epoch(&id, &group, &member, &updated, false)?;
        if gather && self.gathers(&id, &group, epoch) {
            self.expect_member(&id, &updated);
            return Ok(Heard::Gathering(updated.id));
        }
        let (epoch, target) = self.note_target(&id, &group, epoch, &updated);
        let goal = Goal { epoch, target, subscription_changed };
        updated.current = self.reconcile(&id, &group, &updated, &goal, &reported)?;
        self.expect_member(&id, &updated);

        let full = request.rebalance_timeout_ms != -1
            && (request.subscribed_topic_names.is_some() || request.subscribed_topic_regex.is_some())
            && request.topic_partitions.is_some();
        let changed = updated.current.assigned != member.current.assigned;
        let assignment = (joins || full || changed).then(|| answered(&updated.current.assigned));
        let answer = ConsumerGroupHeartbeatResponse::default()
            .with_member_id(Some(text(&updated.id)))
            .with_member_epoch(updated.current.epoch)
            .with_heartbeat_interval_ms(self.consumer_heartbeat_interval_ms(&id))
            .with_assignment(assignment);
        Ok(Heard::Answer(answer))
    }

    /// The group as it is, or as it is going to be: a new one, or one converted from the classic protocol.
    fn open_group(&mut self, id: &Name, create: bool) -> Result<Cow<'a, ConsumerGroup>> {
        let hard = self.hard;
        let not_found = |what: &str| refuse(ErrorCode::GroupIdNotFound, format!("{what} not found."));
        let soft = self.soft.classic.contains_key(id);
        match hard.groups.get(id) {
            Some(Group::Consumer(group)) => return Ok(Cow::Borrowed(group)),
            None if !soft && create => return Ok(Cow::Owned(ConsumerGroup::default())),
            None if !soft => return not_found(&format!("Consumer group {id}")),
            _ if !create => {
                return refuse(ErrorCode::GroupIdNotFound, format!("Group {id} is not a consumer group."));
            }
            _ => {}
        }
        let Some(classic) = self.take_classic(id) else { return not_found(&format!("Consumer group {id}")) };
        if classic.is_empty() {
            self.soft.classic.insert(id.clone(), classic);
            self.bury(id);
            return Ok(Cow::Owned(ConsumerGroup::default()));
        }
        self.upgrade(classic).map(Cow::Owned)
    }

    pub(super) fn check_room(&self, group: &ConsumerGroup, member: &str) -> Result<()> {
        let max_size = self.settings.consumer.max_size;
        if group.members.len() >= max_size && !group.members.contains_key(member) {
            let message = format!("The consumer group has reached its maximum capacity of {max_size} members.");
            return refuse(ErrorCode::GroupMaxSizeReached, message);
        }
        Ok(())
    }

    /// The member behind an instance id. `takes`: it joins, and may take the place of another (with the classic protocol,
    /// or where that one uses it, even while that one is there).
    pub(super) fn static_member(
        &mut self,
        id: &Name,
        group: &mut Cow<'_, ConsumerGroup>,
        member: &Name,
        instance: &str,
        takes: Option<bool>,
    ) -> Result<Member> {
        let known = group.static_member(instance).cloned();
        let Some(by_classic) = takes else {
            return match known {
                None => refuse(ErrorCode::UnknownMemberId, format!("Instance id {instance} is unknown.")),
                Some(known) if known.id != *member => {
                    let message = format!(
                        "Static member {member} with instance id {instance} was fenced by member {}.",
                        known.id
                    );
                    refuse(ErrorCode::FencedInstanceId, message)
                }
                Some(known) => Ok(known),
            };
        };
        let Some(known) = known else {
            return Ok(group.members.get(member).cloned().unwrap_or_else(|| Member::new(member.clone())));
        };
        if !by_classic && !known.is_classic() && known.current.epoch != LEFT_STATIC {
            let message = format!(
                "Static member {member} with instance id {instance} cannot join the group because the instance id is \
                 owned by {} member.",
                known.id
            );
            return refuse(ErrorCode::UnreleasedInstanceId, message);
        }
        let mut successor = Member { id: member.clone(), ..known.clone() };
        (successor.current.epoch, successor.current.previous_epoch) = (0, 0);
        let (id, member) = (|| id.clone(), || member.clone());
        let records = [
            Record::Current { group: id(), member: known.id.clone(), value: None },
            Record::Target { group: id(), member: known.id.clone(), value: None },
            Record::Member { group: id(), member: known.id.clone(), value: None },
            Record::Member { group: id(), member: member(), value: Some(successor.metadata.clone()) },
            Record::Target { group: id(), member: member(), value: Some(group.target_of(&known.id)) },
            Record::Current { group: id(), member: member(), value: Some(successor.current.clone()) },
        ];
        self.cancel_member_timers(&id(), &known.id);
        records.iter().for_each(|record| group.to_mut().apply(record));
        self.out.records.extend(records);
        Ok(successor)
    }
}

fn check_join(request: &ConsumerGroupHeartbeatRequest) -> Result<()> {
    let invalid = |message: &str| refuse(ErrorCode::InvalidRequest, message);
    if request.rebalance_timeout_ms == -1 {
        return invalid("RebalanceTimeoutMs must be provided in first request.");
    }
    if request.topic_partitions.as_ref().is_none_or(|owned| !owned.is_empty()) {
        return invalid("TopicPartitions must be empty when (re-)joining.");
    }
    if request.subscribed_topic_names.is_none() && request.subscribed_topic_regex.is_none() {
        return invalid("Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.");
    }
    Ok(())
}

pub(super) fn dynamic_member(group: &ConsumerGroup, member: &Name, joins: bool) -> Result<Member> {
    match group.members.get(member) {
        Some(member) => Ok(member.clone()),
        None if joins => Ok(Member::new(member.clone())),
        None => refuse(ErrorCode::UnknownMemberId, format!("Member {member} is not a member of the group.")),
    }
}

/// A member may be one step behind, if the answer that took it there was lost: it then owns no more than it should.
fn check_epoch(member: &Member, epoch: i32, reported: &Reported) -> Result<()> {
    let current = &member.current;
    let owns_no_more = || {
        let owned = |(topic, partitions): &(Uuid, Vec<i32>)| {
            let assigned = current.assigned.get(topic);
            assigned.is_some_and(|assigned| partitions.iter().all(|partition| assigned.contains_key(partition)))
        };
        reported.as_ref().is_some_and(|reported| reported.iter().all(owned))
    };
    let than = match epoch {
        0 => return Ok(()),
        _ if epoch == current.epoch => return Ok(()),
        _ if epoch < current.epoch && epoch == current.previous_epoch && owns_no_more() => return Ok(()),
        _ if epoch > current.epoch => "greater",
        _ => "smaller",
    };
    let message = format!(
        "The consumer group member has a {than} member epoch ({epoch}) than the one known by the group coordinator \
         ({}). The member must abandon all its partitions and rejoin.",
        current.epoch
    );
    refuse(ErrorCode::FencedMemberEpoch, message)
}

fn reported(request: &ConsumerGroupHeartbeatRequest) -> Reported {
    let owned = request.topic_partitions.as_ref()?;
    Some(owned.iter().map(|topic| (topic.topic_id, topic.partitions.clone())).collect())
}

/// What is null in the request is as it was.
fn update(member: &Member, client: Client<'_>, request: &ConsumerGroupHeartbeatRequest) -> Member {
    let mut updated = member.clone();
    let metadata = &mut updated.metadata;
    let name = |text: &kafka_protocol::protocol::StrBytes| Name::from(text.as_str());
    metadata.instance_id = request.instance_id.as_ref().map(name).or(metadata.instance_id.take());
    metadata.rack_id = request.rack_id.as_ref().map(name).or(metadata.rack_id.take());
    if request.rebalance_timeout_ms != -1 {
        metadata.rebalance_timeout_ms = request.rebalance_timeout_ms;
    }
    metadata.assignor = request.server_assignor.as_ref().map(name).or(metadata.assignor.take());
    if let Some(topics) = &request.subscribed_topic_names {
        metadata.topics = topics.iter().map(|topic| Name::from(topic.as_str())).collect::<BTreeSet<_>>();
    }
    if let Some(regex) = &request.subscribed_topic_regex {
        metadata.regex = name(regex);
    }
    metadata.client_id = client.id.into();
    metadata.client_host = client.host.into();
    metadata.classic = None;
    updated
}

fn answered(owned: &Owned) -> AnsweredAssignment {
    let topics = owned.iter().map(|(id, partitions)| {
        TopicPartitions::default().with_topic_id(*id).with_partitions(partitions.keys().copied().collect())
    });
    AnsweredAssignment::default().with_topic_partitions(topics.collect())
}

impl Turn<'_> {
    /// What a change of a member's subscription does to the group: records of the member and the epoch, which is returned
    /// beside whether there was a change. `at_once`: an unresolved regular expression does not keep the epoch.
    pub(super) fn advance_epoch(
        &mut self,
        id: &Name,
        group: &ConsumerGroup,
        member: &Member,
        updated: &Member,
        at_once: bool,
    ) -> Result<(i32, bool)> {
        let subscription = self.note_subscription(id, group, member, updated)?;
        let bump = subscription.topics_changed || if at_once { subscription.changed } else { subscription.is_resolved };
        Ok((self.note_topics(id, group, updated, bump), subscription.changed))
    }
}
