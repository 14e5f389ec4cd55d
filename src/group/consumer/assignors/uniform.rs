//! The uniform assignor where all members subscribe to the same topics: everybody gets as much as anybody, give or take
//! one, and keeps what it had as far as that allows.

use std::collections::BTreeSet;

use uuid::Uuid;

use super::{MemberSpec, Partitions, Plan};
use crate::group::records::Assignment;

pub fn assign_same(members: &[MemberSpec<'_>], partitions: &Partitions<'_>) -> Plan {
    let Some(topics) = members.first().map(|member| &member.topics).filter(|topics| !topics.is_empty()) else {
        return Plan::new();
    };
    let taken: BTreeSet<(Uuid, i32)> =
        members.iter().flat_map(|member| member.assigned).flat_map(|(t, ps)| ps.iter().map(|p| (*t, *p))).collect();
    let all = topics.iter().flat_map(|topic| (0..partitions(*topic)).map(|partition| (*topic, partition)));
    let total = all.clone().count();
    let mut free: Vec<(Uuid, i32)> = all.filter(|partition| !taken.contains(partition)).collect();
    let quota = total / members.len();
    let mut extras = total % members.len();

    let mut plan = Plan::new();
    let mut unfilled = Vec::new();
    for (index, member) in members.iter().enumerate() {
        let mut room = quota + usize::from(extras > 0);
        let mut has_extra = extras > 0;
        let kept = keep(member, topics, &mut room, &mut free);
        // A member that is not full leaves its extra to others, as long as enough of them follow.
        if room > 0 && has_extra && members.len() - index > extras {
            room -= 1;
            has_extra = false;
        }
        if room > 0 {
            unfilled.push((member.id, room));
        }
        extras -= usize::from(has_extra);
        plan.insert(member.id.clone(), kept);
    }
    let mut free = free.into_iter();
    for (member, room) in unfilled {
        let assignment = plan.get_mut(member).expect("planned above");
        for (topic, partition) in free.by_ref().take(room) {
            assignment.entry(topic).or_default().insert(partition);
        }
    }
    debug_assert!(free.next().is_none(), "the quotas add up to all partitions");
    plan
}

/// What a member keeps within `room`; the rest is free.
fn keep(member: &MemberSpec<'_>, topics: &BTreeSet<Uuid>, room: &mut usize, free: &mut Vec<(Uuid, i32)>) -> Assignment {
    let mut kept = Assignment::new();
    for (topic, partitions) in member.assigned.iter().filter(|(topic, _)| topics.contains(topic)) {
        for partition in partitions {
            if *room > 0 {
                *room -= 1;
                kept.entry(*topic).or_default().insert(*partition);
            } else {
                free.push((*topic, *partition));
            }
        }
    }
    kept
}
