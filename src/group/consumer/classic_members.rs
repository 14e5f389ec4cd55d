//! Members of a consumer group that speak the classic protocol: while a group is upgraded (or downgraded) member by
//! member, JoinGroup, SyncGroup, Heartbeat and LeaveGroup go on for those that are not there yet.

use std::borrow::Cow;
use std::collections::BTreeSet;

use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::{HeartbeatRequest, JoinGroupResponse, SyncGroupRequest, SyncGroupResponse};
use uuid::Uuid;

use super::group::{ConsumerGroup, Member};
use super::heartbeat::dynamic_member;
use super::reconcile::Goal;
use super::with_updated;
use crate::error::ErrorCode;
use crate::group::classic::{Joining, join_error, leave_response};
use crate::group::embedded::{EmbeddedAssignment, PROTOCOL_TYPE, Subscription, text};
use crate::group::machine::Turn;
use crate::group::records::{ClassicMember, MemberState, Name};
use crate::group::timers::Timer;
use crate::group::{Result, fail};

impl Turn<'_> {
    pub(in crate::group) fn join_consumer_group(&mut self, group: &ConsumerGroup, joining: Joining<'_>) {
        match self.join_as_classic(group, &joining) {
            Ok(response) => self.out.joins.push((joining.token, response)),
            Err(error) => self.refuse_join(&joining, error.code),
        }
    }

    fn join_as_classic(&mut self, group: &ConsumerGroup, joining: &Joining<'_>) -> Result<JoinGroupResponse> {
        let id = Name::from(joining.request.group_id.as_str());
        let migration = self.settings.consumer.migration;
        if !migration.upgrade && !migration.downgrade {
            return fail(ErrorCode::InconsistentGroupProtocol);
        }
        let unknown = joining.member().is_empty();
        let member_id: Name = if unknown { (self.new_id)().to_string().into() } else { joining.member().into() };
        self.check_room(group, &member_id)?;
        check_protocols(group, joining)?;
        if joining.must_come_back() {
            return Ok(join_error(&member_id, ErrorCode::MemberIdRequired));
        }
        let Ok(subscription) = Subscription::parse(&joining.protocols[0].1) else {
            return fail(ErrorCode::InconsistentGroupProtocol);
        };
        let mut group = Cow::Borrowed(group);
        let former = joining.instance().and_then(|instance| group.static_member(instance)).cloned();
        let member = match joining.instance() {
            None => dynamic_member(&group, &member_id, true)?,
            Some(instance) => self.static_member(&id, &mut group, &member_id, instance, unknown.then_some(true))?,
        };
        // The last member of the new protocol makes way for a classic one.
        let downgrades = former.is_some_and(|former| !former.is_classic())
            && with_updated(&group, &member).filter(|other| other.id != member.id).all(Member::is_classic)
            && migration.downgrade
            && group.members.len() <= self.settings.max_size;
        let mut updated = update(&member, joining, &subscription);
        let owned = subscription
            .owned
            .iter()
            .filter_map(|(name, partitions)| self.cluster.topic(name).map(|topic| (topic.id, partitions.clone())));
        let reported = Some(owned.collect::<Vec<(Uuid, Vec<i32>)>>());
        if downgrades {
            let change = self.note_subscription(&id, &group, &member, &updated)?;
            let epoch = self.note_topics(&id, &group, &updated, change.changed);
            let rebalances = group.target_epoch.epoch < epoch;
            if !rebalances {
                let target = group.target_of(&updated.id);
                let goal = Goal { epoch: group.target_epoch.epoch, target, subscription_changed: change.changed };
                updated.current = self.reconcile(&id, &group, &updated, &goal, &reported)?;
            }
            let group = group.to_mut();
            group.members.insert(updated.id.clone(), updated.clone());
            group.epoch = epoch;
            self.downgrade(&id, group, &BTreeSet::new(), rebalances);
        } else {
            let (epoch, subscription_changed) = self.advance_epoch(&id, &group, &member, &updated, true)?;
            let (epoch, target) = self.note_target(&id, &group, epoch, &updated);
            let goal = Goal { epoch, target, subscription_changed };
            updated.current = self.reconcile(&id, &group, &updated, &goal, &reported)?;
            let timer = |timer: fn(Name, Name) -> Timer| timer(id.clone(), updated.id.clone());
            self.soft.timers.cancel(&timer(|group, member| Timer::Rejoin { group, member }));
            self.expect_member(&id, &updated);
            let deadline_ms = self.now_ms + i64::from(joining.request.rebalance_timeout_ms);
            self.soft.timers.set(timer(|group, member| Timer::Resync { group, member }), deadline_ms);
        }
        Ok(JoinGroupResponse::default()
            .with_member_id(text(&updated.id))
            .with_generation_id(updated.current.epoch)
            .with_protocol_type(Some(text(PROTOCOL_TYPE)))
            .with_protocol_name(Some(text(&joining.protocols[0].0))))
    }

    pub(in crate::group) fn sync_consumer_group(
        &mut self,
        group: &ConsumerGroup,
        request: &SyncGroupRequest,
    ) -> Result<SyncGroupResponse> {
        let id = Name::from(request.group_id.as_str());
        let member = classic_member(group, &request.member_id, request.group_instance_id.as_deref())?;
        let Some(classic) = &member.metadata.classic else { return fail(ErrorCode::UnknownMemberId) };
        if member.current.epoch != request.generation_id {
            return fail(ErrorCode::IllegalGeneration);
        }
        let (protocol, subscription) = classic.protocols.first().cloned().unwrap_or_default();
        let differs = |asked: Option<&str>, known: &str| asked.is_some_and(|asked| asked != known);
        if differs(request.protocol_type.as_deref(), PROTOCOL_TYPE)
            || differs(request.protocol_name.as_deref(), &protocol)
        {
            return fail(ErrorCode::InconsistentGroupProtocol);
        }
        let must_revoke = member.current.state == MemberState::UnrevokedPartitions;
        if group.target_epoch.epoch > member.current.epoch && !must_revoke {
            self.expect_rejoin(&id, member);
            return fail(ErrorCode::RebalanceInProgress);
        }
        self.soft.timers.cancel(&Timer::Resync { group: id.clone(), member: member.id.clone() });
        self.expect_member(&id, member);
        let topics = member.current.assigned.iter().filter_map(|(topic, partitions)| {
            let topic = self.cluster.topic_by_id(*topic)?;
            Some((topic.name, partitions.keys().copied().collect()))
        });
        let assignment = EmbeddedAssignment::encode(&topics.collect::<Vec<_>>(), &subscription);
        Ok(SyncGroupResponse::default()
            .with_protocol_type(request.protocol_type.clone())
            .with_protocol_name(request.protocol_name.clone())
            .with_assignment(assignment))
    }

    pub(in crate::group) fn heartbeat_in_consumer_group(
        &mut self,
        group: &ConsumerGroup,
        request: &HeartbeatRequest,
    ) -> Result<()> {
        let id = Name::from(request.group_id.as_str());
        let member = classic_member(group, &request.member_id, request.group_instance_id.as_deref())?;
        if !member.is_classic() {
            return fail(ErrorCode::UnknownMemberId);
        }
        if member.current.epoch != request.generation_id {
            return fail(ErrorCode::IllegalGeneration);
        }
        self.expect_member(&id, member);
        let must_rejoin = member.current.epoch < group.target_epoch.epoch
            || match member.current.state {
                MemberState::UnrevokedPartitions => true,
                // Only then is there something to get.
                MemberState::UnreleasedPartitions => !waits_for_others(group, member),
                MemberState::Stable | MemberState::Unknown => false,
            };
        if must_rejoin {
            self.expect_rejoin(&id, member);
            return fail(ErrorCode::RebalanceInProgress);
        }
        Ok(())
    }

    fn expect_rejoin(&mut self, group: &Name, member: &Member) {
        let timer = Timer::Rejoin { group: group.clone(), member: member.id.clone() };
        let deadline_ms = self.now_ms + i64::from(member.metadata.rebalance_timeout_ms);
        self.soft.timers.set_if_absent(timer, deadline_ms);
    }

    /// LeaveGroup, for members of either protocol.
    pub(in crate::group) fn leave_consumer_group_by(
        &mut self,
        id: &str,
        group: &ConsumerGroup,
        members: &[MemberIdentity],
    ) -> Vec<MemberResponse> {
        let mut gone = BTreeSet::new();
        let mut responses = Vec::with_capacity(members.len());
        for identity in members {
            let instance = identity.group_instance_id.as_deref();
            let member = match (instance, identity.member_id.as_str()) {
                (Some(instance), "") => group.static_member(instance).map_or(fail(ErrorCode::UnknownMemberId), Ok),
                (instance, member) => classic_member(group, member, instance),
            };
            let result = member.map(|member| {
                gone.insert(member.id.clone());
            });
            responses.push(leave_response(identity, result));
        }
        self.fence_members(&id.into(), group, gone);
        responses
    }
}

fn check_protocols(group: &ConsumerGroup, joining: &Joining<'_>) -> Result<()> {
    let classic: Vec<&ClassicMember> =
        group.members.values().filter_map(|member| member.metadata.classic.as_ref()).collect();
    let has = |member: &&ClassicMember, name: &Name| member.protocols.iter().any(|(known, _)| known == name);
    let by_all = |name: &Name| classic.iter().all(|member| has(member, name));
    if *joining.request.protocol_type != *PROTOCOL_TYPE || !joining.protocols.iter().any(|(name, _)| by_all(name)) {
        return fail(ErrorCode::InconsistentGroupProtocol);
    }
    Ok(())
}

fn classic_member<'a>(group: &'a ConsumerGroup, member: &str, instance: Option<&str>) -> Result<&'a Member> {
    let Some(instance) = instance else {
        return group.members.get(member).map_or(fail(ErrorCode::UnknownMemberId), Ok);
    };
    match group.static_member(instance) {
        None => fail(ErrorCode::UnknownMemberId),
        Some(known) if *known.id != *member => fail(ErrorCode::FencedInstanceId),
        Some(known) => Ok(known),
    }
}

fn waits_for_others(group: &ConsumerGroup, member: &Member) -> bool {
    let has = |topic: &Uuid, partition: &i32| {
        member.current.assigned.get(topic).is_some_and(|partitions| partitions.contains_key(partition))
    };
    group.target_of(&member.id).iter().any(|(topic, partitions)| {
        partitions.iter().any(|partition| !has(topic, partition) && group.is_owned(*topic, *partition))
    })
}

fn update(member: &Member, joining: &Joining<'_>, subscription: &Subscription) -> Member {
    let mut updated = member.clone();
    let metadata = &mut updated.metadata;
    metadata.instance_id = joining.instance().map(Name::from).or(metadata.instance_id.take());
    metadata.rack_id = subscription.rack_id.clone().or(metadata.rack_id.take());
    if joining.request.rebalance_timeout_ms != -1 {
        metadata.rebalance_timeout_ms = joining.request.rebalance_timeout_ms;
    }
    metadata.topics = subscription.topics.iter().cloned().collect();
    metadata.regex = Name::default();
    metadata.client_id = joining.client.id.into();
    metadata.client_host = joining.client.host.into();
    let session_timeout_ms = joining.request.session_timeout_ms;
    metadata.classic = Some(ClassicMember { session_timeout_ms, protocols: joining.protocols.clone() });
    updated
}
