//! What Apache Kafka 4.3.1's assignors answered, step by step, as groups, topics and subscriptions changed at random.
//!
//! A line is `assignor | topic=partitions... | member[/instance] subscription before after | ...`, an assignment
//! `topic:partition+partition,...` or `-`. Members and topics were given to Kafka in the order of their ids.

use super::*;

fn id(topic: &str) -> Uuid {
    Uuid::from_u128(topic.parse().unwrap())
}

fn assignment(text: &str) -> Assignment {
    let topics = text.split(',').filter_map(|topic| topic.split_once(':'));
    topics.map(|(topic, partitions)| (id(topic), partitions.split('+').map(|p| p.parse().unwrap()).collect())).collect()
}

struct Outcome {
    before: Plan,
    ours: Plan,
    kafkas: Plan,
    /// All subscribe to the same topics, or ranges are assigned: nothing is left to chance.
    determined: bool,
}

fn assign(line: &str) -> Outcome {
    let mut parts = line.split(" | ");
    let assignor = parts.next().unwrap();
    let topics = parts.next().unwrap().split(' ').map(|topic| topic.split_once('=').unwrap());
    let topics: BTreeMap<Uuid, i32> = topics.map(|(topic, count)| (id(topic), count.parse().unwrap())).collect();
    let members: Vec<Vec<&str>> = parts.map(|member| member.split(' ').collect()).collect();
    let name = |member: &str| Name::from(member.split('/').next().unwrap());
    let ids: Vec<Name> = members.iter().map(|member| name(member[0])).collect();
    let instances: Vec<Option<Name>> =
        members.iter().map(|member| member[0].split_once('/').map(|(_, instance)| instance.into())).collect();
    let before: Vec<Assignment> = members.iter().map(|member| assignment(member[2])).collect();
    let spec = |index: usize| MemberSpec {
        id: &ids[index],
        instance: instances[index].as_ref(),
        topics: Rc::new(members[index][1].split(',').map(id).collect()),
        assigned: &before[index],
    };
    let specs: Vec<MemberSpec<'_>> = (0..members.len()).map(spec).collect();
    let same = specs.iter().all(|spec| spec.topics == specs[0].topics);
    let partitions = |topic: Uuid| topics[&topic];
    let ours = match (assignor, same) {
        ("range", _) => range::assign(&specs, &partitions),
        (_, true) => uniform::assign_same(&specs, &partitions),
        (_, false) => uniform_mixed::assign(&specs, &partitions),
    };
    let kafkas = members.iter().map(|member| (name(member[0]), assignment(member[3]))).collect();
    let determined = assignor == "range" || same;
    Outcome { ours, kafkas, determined, before: ids.iter().cloned().zip(before.iter().cloned()).collect() }
}

/// How much each member has, sorted.
fn loads(plan: &Plan) -> Vec<usize> {
    let mut loads: Vec<usize> = plan.values().map(|own| own.values().map(BTreeSet::len).sum()).collect();
    loads.sort();
    loads
}

/// How many partitions stay where they were.
fn kept(before: &Plan, after: &Plan) -> usize {
    let of_member = |(member, own): (&Name, &Assignment)| {
        let stays = |(topic, own): (&Uuid, &BTreeSet<i32>)| {
            after[member].get(topic).map_or(0, |now| own.intersection(now).count())
        };
        own.iter().map(stays).sum::<usize>()
    };
    before.iter().map(of_member).sum()
}

#[test]
fn partitions_are_assigned_as_kafka_assigns_them() {
    let lines: Vec<&str> = include_str!("kafka-outcomes.txt").lines().collect();
    assert!(!lines.is_empty());
    for line in lines {
        let Outcome { before, ours, kafkas, determined } = assign(line);
        if determined {
            assert_eq!(ours, kafkas, "{line}");
        } else {
            // Among members with the same load Kafka's choice is that of a heap.
            assert_eq!(loads(&ours), loads(&kafkas), "{line}");
            assert!(kept(&before, &ours) >= kept(&before, &kafkas), "{line}");
        }
    }
}
