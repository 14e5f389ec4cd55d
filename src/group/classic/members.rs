//! Heartbeat and LeaveGroup to a classic group, and members that are not heard of any more.

use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::{HeartbeatRequest, LeaveGroupRequest};

use super::group::{ClassicGroup, State};
use super::join_error;
use crate::error::ErrorCode;
use crate::group::machine::Turn;
use crate::group::records::Name;
use crate::group::timers::Timer;
use crate::group::{Result, fail};

impl Turn<'_> {
    pub fn heartbeat(&mut self, request: &HeartbeatRequest) -> Result<()> {
        let id = request.group_id.as_str();
        if id.is_empty() {
            return fail(ErrorCode::InvalidGroupId);
        }
        // A classic group that is only in its record has no members.
        let Some(group) = self.soft.classic.get_mut(id) else {
            return match self.hard.consumer(id) {
                Some(group) => self.heartbeat_in_consumer_group(group, request),
                None => fail(ErrorCode::UnknownMemberId),
            };
        };
        group.check_instance(&request.member_id, request.group_instance_id.as_deref())?;
        let member = group.members.get_mut(request.member_id.as_str());
        let Some(member) = member else { return fail(ErrorCode::UnknownMemberId) };
        if request.generation_id != group.generation {
            return fail(ErrorCode::IllegalGeneration);
        }
        member.expect_heartbeat(&group.id, &mut self.soft.timers, self.now_ms);
        match group.state {
            State::Empty => fail(ErrorCode::UnknownMemberId),
            State::PreparingRebalance => fail(ErrorCode::RebalanceInProgress),
            State::CompletingRebalance | State::Stable => Ok(()),
        }
    }

    /// The member has its session timeout from now on.
    pub(in crate::group) fn expect_heartbeat(&mut self, group: &mut ClassicGroup, member: &str) {
        if let Some(member) = group.members.get_mut(member) {
            member.expect_heartbeat(&group.id, &mut self.soft.timers, self.now_ms);
        }
    }

    pub(in crate::group) fn heartbeat_expired(&mut self, id: &Name, member: &Name) {
        let Some(mut group) = self.take_classic(id) else { return };
        if group.pending_members.contains(member) {
            group.remove(member);
            self.complete_join_if_waiting(&mut group);
        } else if let Some(known) = group.members.get_mut(member) {
            known.session_ends_ms = None;
            if !known.is_waiting() {
                self.remove_member(&mut group, member);
                match group.state {
                    State::Stable | State::CompletingRebalance => self.rebalance_or_complete_join(&mut group),
                    _ => self.complete_join_if_waiting(&mut group),
                }
            }
        }
        self.put_classic(group);
    }

    /// Unlike [`Turn::complete_join_if_all_did`] this ends the delay of a first rebalance, too.
    fn complete_join_if_waiting(&mut self, group: &mut ClassicGroup) {
        if group.state == State::PreparingRebalance && group.all_joined() {
            self.complete_join(group);
        }
    }

    /// What it waited for tells the member that it is out.
    pub(super) fn remove_member(&mut self, group: &mut ClassicGroup, member: &str) {
        group.answer_join(member, join_error("", ErrorCode::UnknownMemberId), &mut self.out);
        group.answer_sync(member, super::sync_error(ErrorCode::UnknownMemberId), &mut self.out);
        group.remove(member);
        self.soft.timers.cancel(&Timer::Heartbeat { group: group.id.clone(), member: member.into() });
    }

    /// One answer for each member that is to leave.
    pub fn leave_group(&mut self, request: &LeaveGroupRequest) -> Result<Vec<MemberResponse>> {
        let id = request.group_id.as_str();
        if id.is_empty() {
            return fail(ErrorCode::InvalidGroupId);
        }
        if let Some(group) = self.hard.consumer(id) {
            return Ok(self.leave_consumer_group_by(id, group, &request.members));
        }
        let Some(mut group) = self.take_classic(id) else {
            let unknown = |member| leave_response(member, fail(ErrorCode::UnknownMemberId));
            return Ok(request.members.iter().map(unknown).collect());
        };
        let mut responses = Vec::with_capacity(request.members.len());
        for member in &request.members {
            let result = self.leave_classic(&mut group, member);
            responses.push(leave_response(member, result));
        }
        if responses.iter().any(|response| response.error_code == 0) {
            match group.state {
                State::CompletingRebalance | State::Stable => self.rebalance_or_complete_join(&mut group),
                State::PreparingRebalance => self.complete_join_if_all_did(&mut group),
                State::Empty => {}
            }
        }
        self.put_classic(group);
        Ok(responses)
    }

    fn leave_classic(&mut self, group: &mut ClassicGroup, member: &MemberIdentity) -> Result<()> {
        let instance = member.group_instance_id.as_deref();
        // An administrator removes static members by their instance id alone.
        let id = match instance.and_then(|instance| group.static_members.get(instance)) {
            Some(known) if member.member_id.is_empty() => known.clone(),
            _ => Name::from(member.member_id.as_str()),
        };
        if !group.pending_members.contains(&id) {
            group.check_member(&id, instance)?;
        }
        self.remove_member(group, &id);
        Ok(())
    }

    /// After a start every member has its session timeout to come back.
    pub(in crate::group) fn load_classic(&mut self, id: &Name) {
        let Some(mut group) = self.take_classic(id) else { return };
        for member in group.members.keys().cloned().collect::<Vec<_>>() {
            self.expect_heartbeat(&mut group, &member);
        }
        if group.members.len() > self.settings.max_size {
            self.prepare_rebalance(&mut group);
        }
        self.put_classic(group);
    }

    /// The group is deleted while ids that it gave out have not come back.
    pub(in crate::group) fn forget_pending(&mut self, group: &mut ClassicGroup) {
        for member in std::mem::take(&mut group.pending_members) {
            self.soft.timers.cancel(&Timer::Heartbeat { group: group.id.clone(), member });
        }
    }
}

pub(in crate::group) fn leave_response(member: &MemberIdentity, result: Result<()>) -> MemberResponse {
    MemberResponse::default()
        .with_member_id(member.member_id.clone())
        .with_group_instance_id(member.group_instance_id.clone())
        .with_error_code(result.map_or_else(|error| error.code.code(), |()| 0))
}
