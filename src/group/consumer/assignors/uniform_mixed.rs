//! The uniform assignor where members subscribe to different topics: as balanced as the subscriptions let it be, with as
//! few changes as that takes. Topics are balanced one after the other, round after round, until nothing moves.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::{MemberSpec, Partitions, Plan};

/// Balancing ends by itself; this is for the case that it would go in circles.
const MAX_ROUNDS: usize = 16;

struct Builder {
    /// Topic -> the indexes of its subscribers.
    subscribers: BTreeMap<Uuid, Vec<usize>>,
    /// Topic -> the index of each partition's owner.
    owners: BTreeMap<Uuid, Vec<Option<usize>>>,
    /// Partitions that each member has.
    loads: Vec<usize>,
}

pub fn assign(members: &[MemberSpec<'_>], partitions: &Partitions<'_>) -> Plan {
    let mut builder = Builder { subscribers: BTreeMap::new(), owners: BTreeMap::new(), loads: vec![0; members.len()] };
    for (index, member) in members.iter().enumerate() {
        for topic in member.topics.iter() {
            builder.subscribers.entry(*topic).or_default().push(index);
            builder.owners.entry(*topic).or_insert_with(|| vec![None; partitions(*topic).max(0) as usize]);
        }
    }
    for (index, member) in members.iter().enumerate() {
        for (topic, kept) in member.assigned.iter().filter(|(topic, _)| member.topics.contains(topic)) {
            for partition in kept {
                let owners = builder.owners.get_mut(topic).expect("the topics of all members");
                if let Some(owner @ None) = owners.get_mut(*partition as usize) {
                    *owner = Some(index);
                    builder.loads[index] += 1;
                }
            }
        }
    }
    builder.assign_free();
    builder.balance();
    let mut plan: Plan = members.iter().map(|member| (member.id.clone(), Default::default())).collect();
    for (topic, owners) in &builder.owners {
        for (partition, owner) in (0..).zip(owners) {
            if let Some(owner) = owner {
                let assignment = plan.get_mut(members[*owner].id).expect("all members");
                assignment.entry(*topic).or_default().insert(partition);
            }
        }
    }
    plan
}

impl Builder {
    /// The topics with the most partitions a subscriber first, since they decide most.
    fn sorted_topics(&self) -> Vec<Uuid> {
        let mut topics: Vec<Uuid> = self.subscribers.keys().copied().collect();
        topics.sort_by(|a, b| {
            let (subscribers_a, subscribers_b) = (self.subscribers[a].len(), self.subscribers[b].len());
            // Of two fractions the cross products: a has more if it is greater.
            let by_share = (self.owners[b].len() * subscribers_a).cmp(&(self.owners[a].len() * subscribers_b));
            by_share.then(subscribers_a.cmp(&subscribers_b)).then(a.cmp(b))
        });
        topics
    }

    /// The topic's subscribers, the least loaded first.
    fn by_load(&self, topic: Uuid) -> BTreeSet<(usize, usize)> {
        self.subscribers[&topic].iter().map(|member| (self.loads[*member], *member)).collect()
    }

    fn assign_free(&mut self) {
        for topic in self.sorted_topics() {
            let mut by_load = self.by_load(topic);
            for partition in 0..self.owners[&topic].len() {
                if self.owners[&topic][partition].is_none() {
                    let (load, member) = by_load.pop_first().expect("a topic has a subscriber");
                    self.give(topic, partition, member);
                    by_load.insert((load + 1, member));
                }
            }
        }
    }

    fn give(&mut self, topic: Uuid, partition: usize, member: usize) {
        let owner = &mut self.owners.get_mut(&topic).expect("a known topic")[partition];
        if let Some(old) = owner.replace(member) {
            self.loads[old] -= 1;
        }
        self.loads[member] += 1;
    }

    /// Round after round, until a whole one passes in which nothing moves.
    fn balance(&mut self) {
        let topics = self.sorted_topics();
        let topics: Vec<Uuid> = topics.into_iter().filter(|topic| self.subscribers[topic].len() > 1).collect();
        let mut unmoved = 0;
        for topic in std::iter::repeat_n(&topics, MAX_ROUNDS).flatten() {
            unmoved = if self.balance_topic(*topic) { 0 } else { unmoved + 1 };
            if unmoved == topics.len() {
                return;
            }
        }
    }

    /// Moves partitions from the most to the least loaded of the topic's subscribers; true if any was moved.
    fn balance_topic(&mut self, topic: Uuid) -> bool {
        let mut by_load = self.by_load(topic);
        let mut owned: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (partition, owner) in self.owners[&topic].iter().enumerate() {
            owned.entry(owner.expect("all are assigned")).or_default().push(partition);
        }
        let mut moved = false;
        loop {
            // The most loaded member may owe its load to other topics.
            let most = by_load.iter().rev().find(|(_, member)| owned.get(member).is_some_and(|own| !own.is_empty()));
            let (most, least) = (most.copied(), by_load.first().copied());
            let (Some((high, from)), Some((low, to))) = (most, least) else { return moved };
            if high <= low + 1 {
                return moved;
            }
            let partition = owned.get_mut(&from).and_then(Vec::pop).expect("just seen");
            self.give(topic, partition, to);
            owned.entry(to).or_default().push(partition);
            by_load.remove(&(high, from));
            by_load.remove(&(low, to));
            by_load.extend([(high - 1, from), (low + 1, to)]);
            moved = true;
        }
    }
}
