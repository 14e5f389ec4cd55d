//! SyncGroup to a classic group: the leader's assignment, and who waits for it.

use std::collections::HashMap;

use bytes::Bytes;
use kafka_protocol::messages::SyncGroupRequest;

use super::group::{ClassicGroup, State};
use super::sync_error;
use crate::error::ErrorCode;
use crate::group::machine::Turn;
use crate::group::records::Name;
use crate::group::timers::Timer;
use crate::group::{Result, Token, fail};

impl Turn<'_> {
    /// The reply comes with this turn's or a later one's effects.
    pub fn sync_group(&mut self, request: &SyncGroupRequest, token: Token) {
        let id = request.group_id.as_str();
        let result = if id.is_empty() {
            fail(ErrorCode::InvalidGroupId)
        } else if let Some(group) = self.hard.consumer(id) {
            let response = self.sync_consumer_group(group, request);
            response.map(|response| self.out.syncs.push((token, response)))
        } else if let Some(mut group) = self.take_classic(id) {
            let result = self.sync_classic(&mut group, request, token);
            self.put_classic(group);
            result
        } else {
            fail(ErrorCode::UnknownMemberId)
        };
        if let Err(error) = result {
            self.out.syncs.push((token, sync_error(error.code)));
        }
    }

    fn sync_classic(&mut self, group: &mut ClassicGroup, request: &SyncGroupRequest, token: Token) -> Result<()> {
        let id = Name::from(request.member_id.as_str());
        check_sync(group, request)?;
        match group.state {
            State::Empty => return fail(ErrorCode::UnknownMemberId),
            State::PreparingRebalance => return fail(ErrorCode::RebalanceInProgress),
            State::CompletingRebalance => {
                let member = group.members.get_mut(&id);
                let old = member.and_then(|member| member.awaiting_sync.replace(token));
                self.out.syncs.extend(old.map(|old| (old, sync_error(ErrorCode::RebalanceInProgress))));
                self.note_sync(group, &id);
                if group.is_leader(&id) {
                    self.assign(group, request);
                }
            }
            State::Stable => {
                self.note_sync(group, &id);
                let response = group.sync_response(group.members[&id].assignment.clone());
                self.out.syncs.push((token, response));
            }
        }
        Ok(())
    }

    fn note_sync(&mut self, group: &mut ClassicGroup, id: &Name) {
        group.pending_sync.remove(id);
        if group.pending_sync.is_empty() {
            self.soft.timers.cancel(&Timer::Sync { group: group.id.clone() });
        }
    }

    /// The leader's assignment makes the generation stable, and is stored before anybody gets it.
    fn assign(&mut self, group: &mut ClassicGroup, request: &SyncGroupRequest) {
        let mut assignments: HashMap<&str, Bytes> = HashMap::new();
        for assigned in &request.assignments {
            assignments.insert(&assigned.member_id, Bytes::copy_from_slice(&assigned.assignment));
        }
        for member in group.members.values_mut() {
            member.assignment = assignments.remove(&*member.id).unwrap_or_default();
        }
        self.out.records.push(group.to_record());
        group.transition_to(State::Stable, self.now_ms);
        for id in group.members.keys().cloned().collect::<Vec<_>>() {
            let response = group.sync_response(group.members[&id].assignment.clone());
            if group.answer_sync(&id, response, &mut self.out) {
                self.expect_heartbeat(group, &id);
            }
        }
    }

    /// Members that joined and never asked for their assignment are gone.
    pub(in crate::group) fn sync_expired(&mut self, id: &Name) {
        let Some(mut group) = self.take_classic(id) else { return };
        let in_generation = matches!(group.state, State::CompletingRebalance | State::Stable);
        if in_generation && !group.pending_sync.is_empty() {
            for member in std::mem::take(&mut group.pending_sync) {
                self.remove_member(&mut group, &member);
            }
            self.prepare_rebalance(&mut group);
        }
        self.put_classic(group);
    }
}

fn check_sync(group: &ClassicGroup, request: &SyncGroupRequest) -> Result<()> {
    group.check_member(&request.member_id, request.group_instance_id.as_deref())?;
    if request.generation_id != group.generation {
        return fail(ErrorCode::IllegalGeneration);
    }
    let differs = |asked: Option<&str>, known: &Option<Name>| match (asked, known) {
        (Some(asked), Some(known)) => *asked != **known,
        _ => false,
    };
    let (protocol_type, protocol) = (request.protocol_type.as_deref(), request.protocol_name.as_deref());
    if differs(protocol_type, &group.protocol_type) || differs(protocol, &group.protocol) {
        return fail(ErrorCode::InconsistentGroupProtocol);
    }
    Ok(())
}
