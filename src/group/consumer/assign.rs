//! The target assignment: who shall own what in a new epoch of the group.

use std::collections::BTreeSet;
use std::rc::Rc;

use uuid::Uuid;

use super::assignors::{self, MemberSpec, Plan};
use super::group::{ConsumerGroup, Member};
use super::{preferred_assignor, with_updated};
use crate::group::machine::Turn;
use crate::group::records::{Assignment, MemberMetadata, Name, Record, TargetEpoch};
use crate::group::timers::Timer;

/// The next target is made when nobody has joined for so long.
const GATHER_MS: i64 = 10;
/// And for no longer than this.
const GATHER_LIMIT_MS: i64 = 500;

impl Turn<'_> {
    fn target_is_due(&self, id: &Name, group: &ConsumerGroup, epoch: i32) -> bool {
        let last = group.target_epoch;
        let pause_ms = i64::from(self.consumer_assignment_interval_ms(id));
        let too_soon = last.timestamp_ms != 0 && pause_ms != 0 && self.now_ms < last.timestamp_ms + pause_ms;
        last.epoch < epoch && !too_soon
    }

    /// Whether the target for `epoch` waits for more members. Those who join together are then assigned together, where
    /// the first alone would have got everything and the others what is left after the assignment interval.
    pub(super) fn gathers(&mut self, id: &Name, group: &ConsumerGroup, epoch: i32) -> bool {
        if !self.target_is_due(id, group, epoch) {
            return false;
        }
        let watch = self.soft.consumer.entry(id.clone()).or_default();
        let since_ms = *watch.gathering_since_ms.get_or_insert(self.now_ms);
        let limit_ms = since_ms + GATHER_LIMIT_MS;
        self.soft.timers.set(Timer::Gathered { group: id.clone() }, limit_ms.min(self.now_ms + GATHER_MS));
        self.now_ms < limit_ms
    }

    /// For members who have joined together.
    pub(in crate::group) fn make_target(&mut self, id: &Name) {
        // Nobody is to wait for a group that is gone.
        self.end_gathering(id);
        let group = self.hard.consumer(id);
        if let Some((group, member)) = group.and_then(|group| Some((group, group.members.values().next()?))) {
            self.note_target(id, group, group.epoch, member);
        }
    }

    fn end_gathering(&mut self, id: &Name) {
        if let Some(watch) = self.soft.consumer.get_mut(id) {
            watch.gathering_since_ms = None;
        }
        self.soft.timers.cancel(&Timer::Gathered { group: id.clone() });
        self.out.gathered.push(id.clone());
    }

    /// The epoch and the updated member's part of the newest target assignment, which is made here if it is time.
    pub(super) fn note_target(
        &mut self,
        id: &Name,
        group: &ConsumerGroup,
        epoch: i32,
        updated: &Member,
    ) -> (i32, Assignment) {
        if !self.target_is_due(id, group, epoch) {
            return (group.target_epoch.epoch, group.target_of(&updated.id));
        }
        if self.soft.consumer.get(id).is_some_and(|watch| watch.gathering_since_ms.is_some()) {
            self.end_gathering(id);
        }
        let mut plan = self.compute(group, updated);
        let own = plan.get(&updated.id).cloned().unwrap_or_default();
        for member in with_updated(group, updated) {
            let target = plan.remove(&member.id).unwrap_or_default();
            if group.target.get(&member.id) != Some(&target) {
                let (group, member) = (id.clone(), member.id.clone());
                self.out.records.push(Record::Target { group, member, value: Some(target) });
            }
        }
        let value = Some(TargetEpoch { epoch, timestamp_ms: self.now_ms });
        self.out.records.push(Record::TargetEpoch { group: id.clone(), value });
        (epoch, own)
    }

    fn compute(&self, group: &ConsumerGroup, updated: &Member) -> Plan {
        let members = || with_updated(group, updated);
        let none = Assignment::new();
        let topics_of = |member: &Member| -> Rc<BTreeSet<Uuid>> {
            let topics = group.topics_with_duplicates_of(&member.metadata).filter_map(|name| self.cluster.topic(name));
            Rc::new(topics.map(|topic| topic.id).collect())
        };
        let same = |own: &MemberMetadata, of: &MemberMetadata| own.topics == of.topics && own.regex == of.regex;
        let own_topics = topics_of(updated);
        let specs = members().map(|member| MemberSpec {
            id: &member.id,
            instance: member.metadata.instance_id.as_ref(),
            topics: match same(&updated.metadata, &member.metadata) {
                true => own_topics.clone(),
                false => topics_of(member),
            },
            assigned: group.target.get(&member.id).unwrap_or(&none),
        });
        let mut specs: Vec<MemberSpec<'_>> = specs.collect();
        specs.sort_by_key(|spec| spec.id);
        // Kafka takes a subscription by name and by regular expression at once for one of its own.
        let only_one_way = updated.metadata.regex.is_empty() || updated.metadata.topics.is_empty();
        let homogeneous = only_one_way && members().all(|member| same(&updated.metadata, &member.metadata));
        let partitions = |topic| self.cluster.topic_by_id(topic).map_or(0, |topic| topic.partitions);
        match preferred_assignor(members()).unwrap_or(&self.settings.consumer.assignors[0]).as_ref() {
            "range" => assignors::range::assign(&specs, &partitions),
            _ if homogeneous => assignors::uniform::assign_same(&specs, &partitions),
            _ => assignors::uniform_mixed::assign(&specs, &partitions),
        }
    }
}
