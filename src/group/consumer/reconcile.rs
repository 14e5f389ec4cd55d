//! Bringing a member from what it owns to what it shall own: it gives up first, then it gets what others have given up.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::group::{ConsumerGroup, Member};
use super::heartbeat::Reported;
use crate::error::{ApiError, ErrorCode};
use crate::group::Result;
use crate::group::machine::Turn;
use crate::group::records::{Assignment, CurrentAssignment, MemberState, Name, Owned, Record};
use crate::group::timers::Timer;

/// Where a member is to be brought.
pub(super) struct Goal {
    pub epoch: i32,
    pub target: Assignment,
    pub subscription_changed: bool,
}

impl Turn<'_> {
    /// The member's next assignment, with its record and its timer if it is another than the one before.
    pub(super) fn reconcile(
        &mut self,
        id: &Name,
        group: &ConsumerGroup,
        member: &Member,
        goal: &Goal,
        reported: &Reported,
    ) -> Result<CurrentAssignment> {
        if !goal.subscription_changed && member.is_reconciled_to(goal.epoch) {
            return Ok(member.current.clone());
        }
        let topics = group.topics_of(&member.metadata);
        let subscribed = topics.into_iter().filter_map(|name| self.cluster.topic(name)).map(|topic| topic.id).collect();
        let next = Step { member, goal, group, reported, subscribed }.next()?;
        if next != member.current {
            let (group, name, value) = (id.clone(), member.id.clone(), Some(next.clone()));
            self.out.records.push(Record::Current { group, member: name, value });
            if member.is_classic() {
                // Its rebalance timeout is watched by Timer::Rejoin.
            } else if next.state == MemberState::UnrevokedPartitions {
                self.expect_revocation(id, member);
            } else {
                self.soft.timers.cancel(&Timer::Revocation { group: id.clone(), member: member.id.clone() });
            }
        }
        Ok(next)
    }
}

struct Step<'a> {
    member: &'a Member,
    goal: &'a Goal,
    group: &'a ConsumerGroup,
    reported: &'a Reported,
    subscribed: BTreeSet<Uuid>,
}

impl Step<'_> {
    fn next(&self) -> Result<CurrentAssignment> {
        let current = &self.member.current;
        Ok(match current.state {
            MemberState::Stable if current.epoch != self.goal.epoch => self.towards_target(current.epoch),
            MemberState::Stable => self.drop_unsubscribed(),
            MemberState::UnrevokedPartitions if self.still_owns(&current.revoking) => self.drop_unsubscribed(),
            MemberState::UnrevokedPartitions | MemberState::UnreleasedPartitions => self.towards_target(current.epoch),
            MemberState::Unknown if self.reported.as_ref().is_none_or(|owned| !owned.is_empty()) => {
                let message = "The consumer group member is in a unknown state. The member must abandon all its \
                               partitions and rejoin.";
                return Err(ApiError::new(ErrorCode::FencedMemberEpoch, message));
            }
            MemberState::Unknown => self.towards_target(self.goal.epoch),
        })
    }

    /// A member that does not say what it owns may own it still.
    fn still_owns(&self, revoking: &Owned) -> bool {
        let Some(reported) = self.reported else { return true };
        reported.iter().any(|(topic, partitions)| {
            let revoking = revoking.get(topic);
            revoking.is_some_and(|revoking| partitions.iter().any(|partition| revoking.contains_key(partition)))
        })
    }

    /// Topics that the member does not subscribe to any more are given up at once, whatever the target.
    fn drop_unsubscribed(&self) -> CurrentAssignment {
        let current = &self.member.current;
        if !self.goal.subscription_changed {
            return current.clone();
        }
        let (assigned, dropped): (Owned, Owned) =
            current.assigned.clone().into_iter().partition(|(topic, _)| self.subscribed.contains(topic));
        if dropped.is_empty() {
            return current.clone();
        }
        let mut revoking = current.revoking.clone();
        for (topic, partitions) in dropped {
            revoking.entry(topic).or_default().extend(partitions);
        }
        let next = CurrentAssignment { previous_epoch: current.epoch, assigned, ..current.clone() };
        if self.still_owns(&revoking) {
            CurrentAssignment { state: MemberState::UnrevokedPartitions, revoking, ..next }
        } else {
            next
        }
    }

    /// `epoch`: the member's until it has given up what it must.
    fn towards_target(&self, epoch: i32) -> CurrentAssignment {
        let current = &self.member.current;
        let mut assigned = Owned::new();
        let mut revoking = Owned::new();
        let mut unreleased = false;
        let mut gained: Vec<(Uuid, i32)> = Vec::new();
        let none = BTreeSet::new();
        let nothing = BTreeMap::new();
        let topics: BTreeSet<&Uuid> = self.goal.target.keys().chain(current.assigned.keys()).collect();
        for topic in topics {
            let wanted = self.goal.target.get(topic).filter(|_| self.subscribed.contains(topic)).unwrap_or(&none);
            let has = current.assigned.get(topic).unwrap_or(&nothing);
            for (partition, since) in has {
                let to = if wanted.contains(partition) { &mut assigned } else { &mut revoking };
                to.entry(*topic).or_default().insert(*partition, *since);
            }
            for partition in wanted.iter().filter(|partition| !has.contains_key(partition)) {
                let own = current.revoking.get(topic).is_some_and(|revoking| revoking.contains_key(partition));
                if self.group.is_owned(*topic, *partition) && !own {
                    unreleased = true;
                } else {
                    gained.push((*topic, *partition));
                }
            }
        }
        if !revoking.is_empty() && self.still_owns(&revoking) {
            let state = MemberState::UnrevokedPartitions;
            return CurrentAssignment { epoch, previous_epoch: current.epoch, state, assigned, revoking };
        }
        for (topic, partition) in gained {
            assigned.entry(topic).or_default().insert(partition, self.goal.epoch);
        }
        let state = if unreleased { MemberState::UnreleasedPartitions } else { MemberState::Stable };
        let (epoch, previous_epoch) = (self.goal.epoch, current.epoch);
        CurrentAssignment { epoch, previous_epoch, state, assigned, revoking: Owned::new() }
    }
}
