//! The protocol of KIP-848: members say what they subscribe to, the coordinator assigns and brings each member there
//! step by step. `group.rs` is the state, `heartbeat.rs` the request, and the others its stages.

mod assign;
mod assignors;
mod classic_members;
pub mod group;
mod heartbeat;
mod leave;
mod migrate;
mod reconcile;
mod subscription;

pub use heartbeat::Heard;
pub use subscription::TopicHashes;
#[cfg(test)]
pub(super) use subscription::topic_hash;

use std::collections::BTreeMap;
use std::ops::Bound;

use super::machine::Turn;
use super::records::{MemberState, Name};
use super::timers::Timer;
use group::{ConsumerGroup, Member};

/// What the coordinator remembers of a group between heartbeats, besides its records.
#[derive(Debug, Default)]
pub struct Watch {
    /// The metadata version, and the group's epoch, with which its topics were looked at last.
    checked: Option<(i64, i32)>,
    /// When its regular expressions were resolved last, and with which metadata.
    resolved: Option<(i64, i64)>,
    /// Since when its next target waits for members who join at the same moment.
    gathering_since_ms: Option<i64>,
}

/// The assignor that most members ask for.
pub(super) fn preferred_assignor<'a>(members: impl Iterator<Item = &'a Member>) -> Option<&'a Name> {
    let mut votes: BTreeMap<&Name, usize> = BTreeMap::new();
    members
        .filter_map(|member| member.metadata.assignor.as_ref())
        .for_each(|name| *votes.entry(name).or_default() += 1);
    let most = votes.values().max().copied()?;
    votes.into_iter().find(|(_, count)| *count == most).map(|(name, _)| name)
}

/// The group's members, `updated` as it is going to be.
fn with_updated<'a>(group: &'a ConsumerGroup, updated: &'a Member) -> impl Iterator<Item = &'a Member> + Clone {
    let id = &*updated.id;
    let before = group.members.range::<str, _>((Bound::Unbounded, Bound::Excluded(id)));
    let after = group.members.range::<str, _>((Bound::Excluded(id), Bound::Unbounded));
    before.chain(after).map(|(_, member)| member).chain(std::iter::once(updated))
}

impl Turn<'_> {
    pub(super) fn load_consumer_group(&mut self, id: &Name, group: &ConsumerGroup) {
        for member in group.members.values() {
            self.expect_member(id, member);
            if member.current.state == MemberState::UnrevokedPartitions {
                self.expect_revocation(id, member);
            }
        }
    }

    /// The member has its session timeout from now on.
    fn expect_member(&mut self, group: &Name, member: &Member) {
        let timeout_ms = match &member.metadata.classic {
            Some(classic) => classic.session_timeout_ms,
            None => self.consumer_session_timeout_ms(group),
        };
        let timer = Timer::Session { group: group.clone(), member: member.id.clone() };
        self.soft.timers.set(timer, self.now_ms + i64::from(timeout_ms));
    }

    fn expect_revocation(&mut self, group: &Name, member: &Member) {
        let timer = Timer::Revocation { group: group.clone(), member: member.id.clone() };
        self.soft.timers.set(timer, self.now_ms + i64::from(member.metadata.rebalance_timeout_ms));
    }

    fn cancel_member_timers(&mut self, group: &Name, member: &Name) {
        let (group, member) = (|| group.clone(), || member.clone());
        self.soft.timers.cancel(&Timer::Session { group: group(), member: member() });
        self.soft.timers.cancel(&Timer::Revocation { group: group(), member: member() });
        self.soft.timers.cancel(&Timer::Rejoin { group: group(), member: member() });
        self.soft.timers.cancel(&Timer::Resync { group: group(), member: member() });
    }

    fn consumer_session_timeout_ms(&self, group: &str) -> i32 {
        let overrides = self.cluster.group_overrides(group);
        self.settings.consumer.session_timeout_ms.of(overrides, "consumer.session.timeout.ms")
    }

    fn consumer_heartbeat_interval_ms(&self, group: &str) -> i32 {
        let overrides = self.cluster.group_overrides(group);
        self.settings.consumer.heartbeat_interval_ms.of(overrides, "consumer.heartbeat.interval.ms")
    }

    fn consumer_assignment_interval_ms(&self, group: &str) -> i32 {
        let overrides = self.cluster.group_overrides(group);
        self.settings.consumer.assignment_interval_ms.of(overrides, "consumer.assignment.interval.ms")
    }
}
