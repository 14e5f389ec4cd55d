//! Members that leave a consumer group, by themselves or because their time is over.

use std::borrow::Cow;
use std::collections::BTreeSet;

use kafka_protocol::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};

use super::group::{ConsumerGroup, LEFT_STATIC};
use super::heartbeat::dynamic_member;
use crate::error::{ApiError, ErrorCode};
use crate::group::Result;
use crate::group::embedded::text;
use crate::group::machine::{Turn, group_not_found};
use crate::group::records::{CurrentAssignment, MemberState, Name, Owned, Record};

impl Turn<'_> {
    pub(super) fn leave_consumer_group(
        &mut self,
        request: &ConsumerGroupHeartbeatRequest,
    ) -> Result<ConsumerGroupHeartbeatResponse> {
        let id = Name::from(request.group_id.as_str());
        let Some(group) = self.hard.consumer(&id) else {
            return match self.view(&id) {
                Some(_) => {
                    let message = format!("Group {id} is not a consumer group.");
                    Err(ApiError::new(ErrorCode::GroupIdNotFound, message))
                }
                None => group_not_found(&id),
            };
        };
        let member_id = Name::from(request.member_id.as_str());
        let member = match request.instance_id.as_deref() {
            None => dynamic_member(group, &member_id, false)?,
            Some(instance) => self.static_member(&id, &mut Cow::Borrowed(group), &member_id, instance, None)?,
        };
        if request.instance_id.is_some() && request.member_epoch == LEFT_STATIC {
            // It will be back within its session timeout, and find what it had.
            let mut assigned = member.current.assigned.clone();
            assigned.values_mut().flat_map(|partitions| partitions.values_mut()).for_each(|epoch| *epoch = 0);
            let left =
                CurrentAssignment { epoch: LEFT_STATIC, assigned, revoking: Owned::new(), ..member.current.clone() };
            self.out.records.push(Record::Current { group: id, member: member.id.clone(), value: Some(left) });
        } else {
            self.fence_members(&id, group, BTreeSet::from([member.id.clone()]));
        }
        Ok(ConsumerGroupHeartbeatResponse::default()
            .with_member_id(Some(text(&member_id)))
            .with_member_epoch(request.member_epoch))
    }

    /// Members are gone. If all that are left use the classic protocol, the group does so again.
    pub(super) fn fence_members(&mut self, id: &Name, group: &ConsumerGroup, gone: BTreeSet<Name>) {
        if gone.is_empty() {
            return;
        }
        gone.iter().for_each(|member| self.cancel_member_timers(id, member));
        if self.can_downgrade(group, &gone) && self.downgrade(id, group, &gone, true) {
            return;
        }
        for member in &gone {
            let (group, member) = (|| id.clone(), || member.clone());
            self.out.records.extend([
                Record::Current { group: group(), member: member(), value: None },
                Record::Target { group: group(), member: member(), value: None },
                Record::Member { group: group(), member: member(), value: None },
            ]);
        }
        self.note_departure(id, group, &gone);
    }

    pub(in crate::group) fn fence_expired(&mut self, id: &Name, member: &Name, timeout: &str) {
        let Some(group) = self.hard.consumer(id).filter(|group| group.members.contains_key(member)) else { return };
        tracing::info!(group = &**id, member = &**member, timeout, "a member did not come back in time");
        self.fence_members(id, group, BTreeSet::from([member.clone()]));
    }

    pub(in crate::group) fn revocation_expired(&mut self, id: &Name, member: &Name) {
        let current = self.hard.consumer(id).and_then(|group| Some(&group.members.get(member)?.current));
        if current.is_some_and(|current| current.state == MemberState::UnrevokedPartitions && current.epoch >= 0) {
            self.fence_expired(id, member, "rebalance");
        }
    }
}
