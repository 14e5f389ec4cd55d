//! Clients that do random things, as clients do them; what must hold whatever they do.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;
use kafka_protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::StrBytes;
use proptest::collection::vec;
use proptest::prelude::*;
use uuid::Uuid;

use super::harness::Harness;
use crate::error::{ApiError, ErrorCode};
use crate::group::{Client, Effects, Heard, Token};

const GROUP: &str = "g";
const TOPICS: [&str; 3] = ["a", "b", "c"];

fn text(text: impl Into<String>) -> StrBytes {
    StrBytes::from_string(text.into())
}

fn client() -> Client<'static> {
    Client { id: "c", host: "/h", api_version: 9 }
}

/// A member of KIP-848 as clients behave: it gives up what it is not assigned, and says so with its next heartbeat.
#[derive(Clone, Debug, Default)]
struct Consumer {
    epoch: i32,
    owned: BTreeMap<Uuid, BTreeSet<i32>>,
    topics: usize,
    /// An answer did not reach it: its next heartbeat says everything, to be told everything.
    missed: bool,
}

struct Consumers {
    harness: Harness,
    /// Somebody waits for others to join.
    gathering: bool,
    members: Vec<Consumer>,
}

impl Consumers {
    fn new() -> Consumers {
        let mut harness = Harness::new();
        TOPICS.iter().zip([3, 4, 1]).for_each(|(topic, partitions)| harness.topics.set(topic, partitions));
        Consumers { harness, gathering: false, members: vec![Consumer { topics: 1, ..Consumer::default() }; 4] }
    }

    fn fire(&mut self) {
        let effects = self.harness.fire();
        self.take(&effects);
    }

    fn take(&mut self, effects: &Effects) {
        self.gathering &= effects.gathered.is_empty();
    }

    /// `loses`: the answer does not reach it.
    fn beat(&mut self, index: usize, loses: bool) {
        let request = self.request(index);
        let (result, effects) = self.harness.turn(|turn| turn.consumer_heartbeat(client(), &request));
        self.take(&effects);
        self.fire();
        self.hear(index, result, loses);
    }

    /// A heartbeat that waits for others if its member joins, and then is not repeated.
    fn gather(&mut self, index: usize) {
        let request = self.request(index);
        let (result, effects) = self.harness.turn(|turn| turn.gathering_heartbeat(client(), &request));
        self.take(&effects);
        self.fire();
        match result {
            Ok(Heard::Gathering(_)) => self.gathering = true,
            Ok(Heard::Answer(answer)) => self.hear(index, Ok(answer), false),
            Err(error) => self.hear(index, Err(error), false),
        }
    }

    fn request(&self, index: usize) -> ConsumerGroupHeartbeatRequest {
        let member = &self.members[index];
        let joins = member.epoch == 0;
        let names = TOPICS.iter().enumerate().filter(|(bit, _)| member.topics >> bit & 1 == 1);
        let owned = member.owned.iter().map(|(topic, partitions)| {
            let partitions = partitions.iter().copied().collect();
            TopicPartitions::default().with_topic_id(*topic).with_partitions(partitions)
        });
        ConsumerGroupHeartbeatRequest::default()
            .with_group_id(text(GROUP).into())
            .with_member_id(text(format!("m{index}")))
            .with_member_epoch(member.epoch)
            .with_rebalance_timeout_ms(if joins || member.missed { 30_000 } else { -1 })
            .with_subscribed_topic_names(Some(names.map(|(_, name)| text(*name).into()).collect()))
            .with_topic_partitions(Some(owned.collect()))
    }

    fn hear(&mut self, index: usize, result: Result<ConsumerGroupHeartbeatResponse, ApiError>, loses: bool) {
        let member = &mut self.members[index];
        member.missed = loses;
        match result {
            _ if loses => {}
            Ok(response) => {
                member.epoch = response.member_epoch;
                if let Some(assignment) = response.assignment {
                    let topics = assignment.topic_partitions.into_iter();
                    member.owned = topics.map(|t| (t.topic_id, t.partitions.into_iter().collect())).collect();
                }
            }
            Err(error) => {
                let fenced = [ErrorCode::FencedMemberEpoch, ErrorCode::UnknownMemberId, ErrorCode::GroupIdNotFound];
                assert!(fenced.contains(&error.code), "{error:?}");
                *member = Consumer { topics: member.topics, ..Consumer::default() };
            }
        }
    }

    fn leave(&mut self, index: usize) {
        let request = ConsumerGroupHeartbeatRequest::default()
            .with_group_id(text(GROUP).into())
            .with_member_id(text(format!("m{index}")))
            .with_member_epoch(-1);
        let (_, effects) = self.harness.turn(|turn| turn.consumer_heartbeat(client(), &request));
        self.take(&effects);
        self.members[index] = Consumer { topics: self.members[index].topics, ..Consumer::default() };
    }

    /// Time passes: who has not been heard of for a session is out, and knows it.
    fn pass(&mut self, ms: i64) {
        self.harness.now_ms += ms;
        self.fire();
        assert!(ms < 500 || !self.gathering, "nobody waits longer than half a second");
        let known = self.harness.machine.hard().consumer(GROUP).cloned().unwrap_or_default();
        for (index, member) in self.members.iter_mut().enumerate() {
            if !known.members.contains_key(&*format!("m{index}")) {
                *member = Consumer { topics: member.topics, ..Consumer::default() };
            }
        }
    }

    fn check(&self) {
        self.harness.assert_replay_is_the_same();
        let mut owners = HashMap::new();
        for (index, member) in self.members.iter().enumerate() {
            for (topic, partitions) in &member.owned {
                for partition in partitions {
                    let other = owners.insert((*topic, *partition), index);
                    assert_eq!(other, None, "{topic}-{partition} is owned twice, also by {index}");
                }
            }
        }
    }

    /// Everybody goes on with heartbeats, nobody changes anything: all that somebody subscribes to is owned.
    fn settle(&mut self) {
        for _ in 0..8 {
            (0..self.members.len()).for_each(|index| self.beat(index, false));
            self.check();
        }
        for (bit, name) in TOPICS.iter().enumerate() {
            use crate::group::Cluster;
            let topic = self.harness.topics.topic(name).unwrap();
            let subscribers = self.members.iter().filter(|member| member.topics >> bit & 1 == 1);
            let owned: usize = self.members.iter().filter_map(|m| m.owned.get(&topic.id)).map(BTreeSet::len).sum();
            let expected = if subscribers.count() > 0 { topic.partitions as usize } else { 0 };
            assert_eq!(owned, expected, "{name} is owned as a whole");
        }
    }

    fn step(&mut self, (kind, index, value): (u8, usize, usize)) {
        match kind {
            0..=3 => self.beat(index, false),
            4 => self.gather(index),
            5 => self.pass(9),
            6 => self.beat(index, true),
            7 => self.leave(index),
            8 => {
                self.members[index].topics = value + 1;
                self.beat(index, false);
            }
            9 => self.pass(10_000 * value as i64),
            10 => {
                let name = TOPICS[index % 3];
                let partitions = self.harness.topics.partitions(name) + 1;
                self.harness.topics.set(name, partitions);
            }
            _ => {
                // The broker's waiters are gone with it.
                self.gathering = false;
                drop(self.harness.restart());
            }
        }
        self.check();
    }
}

/// Members of the classic protocol, which join, sync and go on, or do not.
struct Classics {
    harness: Harness,
    ids: Vec<String>,
    generations: Vec<i32>,
    /// What is not answered: (member, it is a join).
    waiting: BTreeMap<Token, (usize, bool)>,
    tokens: Token,
    /// (generation, member id) -> what the leader assigned.
    assigned: HashMap<(i32, String), Bytes>,
    leaders: HashMap<i32, String>,
}

impl Classics {
    fn new() -> Classics {
        Classics {
            harness: Harness::new(),
            ids: vec![String::new(); 4],
            generations: vec![-1; 4],
            waiting: BTreeMap::new(),
            tokens: 0,
            assigned: HashMap::new(),
            leaders: HashMap::new(),
        }
    }

    fn token(&mut self, member: usize, join: bool) -> Token {
        self.tokens += 1;
        self.waiting.insert(self.tokens, (member, join));
        self.tokens
    }

    fn join(&mut self, index: usize, protocols: &[&str]) {
        let token = self.token(index, true);
        let protocols = protocols.iter().map(|name| {
            JoinGroupRequestProtocol::default()
                .with_name(text(*name))
                .with_metadata(Bytes::from_static(b"\0\0\0\0\0\0"))
        });
        let request = JoinGroupRequest::default()
            .with_group_id(text(GROUP).into())
            .with_member_id(text(&*self.ids[index]))
            .with_session_timeout_ms(10_000)
            .with_rebalance_timeout_ms(20_000)
            .with_protocol_type(text("consumer"))
            .with_protocols(protocols.collect());
        let ((), effects) = self.harness.turn(|turn| turn.join_group(client(), &request, token));
        self.take(effects);
    }

    fn sync(&mut self, index: usize) {
        let token = self.token(index, false);
        let (id, generation) = (self.ids[index].clone(), self.generations[index]);
        let mut assignments = Vec::new();
        if self.leaders.get(&generation) == Some(&id) {
            for member in self.ids.clone() {
                let assignment = Bytes::from(format!("{token}"));
                let key = (generation, member.clone());
                let assignment = self.assigned.entry(key).or_insert(assignment).clone();
                let assigned = SyncGroupRequestAssignment::default().with_member_id(text(member));
                assignments.push(assigned.with_assignment(assignment));
            }
        }
        let request = SyncGroupRequest::default()
            .with_group_id(text(GROUP).into())
            .with_member_id(text(id))
            .with_generation_id(generation)
            .with_assignments(assignments);
        let ((), effects) = self.harness.turn(|turn| turn.sync_group(&request, token));
        self.take(effects);
    }

    fn take(&mut self, effects: Effects) {
        let fired = self.harness.fire();
        for (token, response) in effects.joins.into_iter().chain(fired.joins) {
            let (index, join) = self.waiting.remove(&token).expect("one answer for each request");
            assert!(join);
            match ErrorCode::try_from_code(response.error_code) {
                None => {
                    self.ids[index] = response.member_id.to_string();
                    self.generations[index] = response.generation_id;
                    let leader = response.leader.to_string();
                    let other = self.leaders.insert(response.generation_id, leader.clone());
                    assert!(other.is_none_or(|other| other == leader), "a generation has one leader");
                    assert_eq!(response.members.is_empty(), leader != self.ids[index], "only the leader sees members");
                }
                Some(ErrorCode::MemberIdRequired) => self.ids[index] = response.member_id.to_string(),
                Some(ErrorCode::UnknownMemberId) => self.ids[index].clear(),
                Some(ErrorCode::RebalanceInProgress) => {}
                Some(code) => panic!("{code:?}"),
            }
        }
        for (token, response) in effects.syncs.into_iter().chain(fired.syncs) {
            let (index, join) = self.waiting.remove(&token).expect("one answer for each request");
            assert!(!join);
            if response.error_code == 0 {
                let key = (self.generations[index], self.ids[index].clone());
                assert_eq!(Some(&response.assignment), self.assigned.get(&key), "what the leader assigned");
            }
        }
        self.harness.assert_replay_is_the_same();
    }

    fn pass(&mut self, ms: i64) {
        self.harness.now_ms += ms;
        let fired = self.harness.fire();
        self.take(fired);
    }

    fn step(&mut self, (kind, index, value): (u8, usize, usize)) {
        match kind {
            0..=3 => self.join(index, &["range"]),
            4 => self.join(index, &["sticky", "range"]),
            5..=7 => self.sync(index),
            8 => self.pass(3_000 * value as i64),
            9 => {
                let request = HeartbeatRequest::default()
                    .with_group_id(text(GROUP).into())
                    .with_member_id(text(&*self.ids[index]))
                    .with_generation_id(self.generations[index]);
                let (_, effects) = self.harness.turn(|turn| turn.heartbeat(&request));
                self.take(effects);
            }
            _ => {
                let member = MemberIdentity::default().with_member_id(text(&*self.ids[index]));
                let request = LeaveGroupRequest::default().with_group_id(text(GROUP).into()).with_members(vec![member]);
                let (_, effects) = self.harness.turn(|turn| turn.leave_group(&request));
                self.take(effects);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn consumers_never_share_a_partition_and_end_up_with_all(steps in vec((0u8..12, 0usize..4, 0usize..6), 0..60)) {
        let mut consumers = Consumers::new();
        steps.into_iter().for_each(|step| consumers.step(step));
        consumers.settle();
    }

    #[test]
    fn classic_members_are_all_answered_once(steps in vec((0u8..11, 0usize..4, 0usize..6), 0..60)) {
        let mut classics = Classics::new();
        steps.into_iter().for_each(|step| classics.step(step));
        // Nobody does anything any more: timeouts end what is open.
        (0..100).for_each(|_| classics.pass(10_000));
        prop_assert!(classics.waiting.is_empty(), "{:?}", classics.waiting);
        let (is_left, _) = classics.harness.turn(|turn| turn.view(GROUP).is_none_or(|group| group.is_empty()));
        prop_assert!(is_left, "sessions end");
    }
}
