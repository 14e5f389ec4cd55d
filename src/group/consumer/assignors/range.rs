//! The range assignor: each topic is cut into ranges, one a member, in the same order for every topic. Topics with as
//! many partitions are so assigned alike.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::{MemberSpec, Partitions, Plan};
use crate::group::records::Assignment;

/// What is left of a topic.
struct Cut {
    next: i32,
    quota: i32,
    /// So many members get one more.
    extra: i32,
}

pub fn assign(members: &[MemberSpec<'_>], partitions: &Partitions<'_>) -> Plan {
    let mut subscribers: BTreeMap<Uuid, i32> = BTreeMap::new();
    members
        .iter()
        .flat_map(|member| member.topics.iter())
        .for_each(|topic| *subscribers.entry(*topic).or_default() += 1);
    let cut = |(topic, count): (Uuid, i32)| {
        let partitions = partitions(topic);
        (topic, Cut { next: 0, quota: partitions / count, extra: partitions % count })
    };
    let mut cuts: BTreeMap<Uuid, Cut> = subscribers.into_iter().map(cut).collect();
    let mut sorted: Vec<&MemberSpec<'_>> = members.iter().collect();
    // Static members first, by instance: their ids change with every start, their share should not.
    sorted.sort_by_key(|member| (member.instance.is_none(), member.instance, member.id));
    let mut plan = Plan::new();
    for member in sorted {
        let mut assignment = Assignment::new();
        for topic in member.topics.iter() {
            let cut = cuts.get_mut(topic).expect("the topics of all members");
            let count = cut.quota + i32::from(cut.extra > 0);
            cut.extra -= i32::from(cut.extra > 0);
            if count > 0 {
                assignment.insert(*topic, (cut.next..cut.next + count).collect());
            }
            cut.next += count;
        }
        plan.insert(member.id.clone(), assignment);
    }
    plan
}
