//! The scenario language. A line that begins in column 0 is a command; what it brings about follows, indented. `#n` is
//! the n-th id that the machine made up, and topics stand for their ids.
//!
//! ```text
//! topic a 3                                   a topic, or more partitions of one
//! untopic a
//! at 5000                                     the time; timers fire
//! restart                                     all but the log is forgotten
//! set max_size=2
//! join T g v=9 member= instance= protocols=range[a,b] session= rebalance=
//! sync T g member generation [m1=x m2=y]
//! heartbeat g member generation [instance=]
//! leave g member[/instance]...
//! beat g member epoch [topics=a,b regex= owned=a:0+1 assignor= instance= rebalance= v=]
//! gather g member 0 [as with beat]            a beat that waits for others who join
//! commit g member epoch [instance= v= retention=] a-0=10...     fetch g [member epoch] a-0... | *     (or fetch! : stable)
//! txncommit PID g member epoch a-0=10...      endtxn PID commit|abort
//! uncommit g a-0...                           delete g             list [states=] [types=]
//! describe g                                  describe2 g          (classic, consumer)
//! ```

mod show;

use std::collections::BTreeMap;

use bytes::Bytes;
use kafka_protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use self::show::show_blob;
use super::harness::{Harness, merge};
use crate::error::ErrorCode;
use crate::group::embedded::{EmbeddedAssignment, Subscription};
use crate::group::records::{Assignment, MemberState, Name, Owned, Record};
use crate::group::{Client, Effects, Heard, MigrationPolicy, Result};
use crate::scenario_tests;

/// The text with the outcome of each command as it came.
pub fn run(text: &str) -> String {
    let mut harness = Harness::new();
    scenario_tests::outcome(text, |words| {
        let outcomes = Scene { harness: &mut harness }.command(words);
        harness.assert_replay_is_the_same();
        outcomes
    })
}

struct Scene<'a> {
    harness: &'a mut Harness,
}

fn string(text: &str) -> StrBytes {
    StrBytes::from_string(expand(text))
}

/// `#3` -> the third id.
fn expand(text: &str) -> String {
    match text.split_once('#') {
        Some((before, number)) => format!("{before}{}", Uuid::from_u128(number.parse().expect("a number"))),
        None => text.to_owned(),
    }
}

fn shorten(text: &str) -> String {
    let at = text.len().saturating_sub(36);
    match text.get(at..).and_then(|end| Uuid::parse_str(end).ok()) {
        Some(id) => format!("{}#{}", &text[..at], id.as_u128()),
        None => text.to_owned(),
    }
}

fn error(code: i16) -> String {
    ErrorCode::try_from_code(code).map_or("ok".to_owned(), |code| format!("{code:?}"))
}

/// The words `key=value` among the arguments, and those without a key.
struct Words<'a> {
    keyed: BTreeMap<&'a str, &'a str>,
    plain: Vec<&'a str>,
}

impl<'a> Words<'a> {
    const KEYS: &'static [&'static str] = &[
        "v",
        "member",
        "instance",
        "protocols",
        "type",
        "session",
        "rebalance",
        "topics",
        "regex",
        "owned",
        "assignor",
        "retention",
        "client",
        "states",
        "types",
        "rack",
    ];

    fn new(words: &[&'a str]) -> Words<'a> {
        let keyed = |word: &&'a str| word.split_once('=').filter(|(key, _)| Words::KEYS.contains(key));
        Words {
            keyed: words.iter().filter_map(keyed).collect(),
            plain: words.iter().filter(|word| keyed(word).is_none()).copied().collect(),
        }
    }

    fn get(&self, key: &str) -> Option<&'a str> {
        self.keyed.get(key).copied()
    }

    fn number<T: std::str::FromStr>(&self, key: &str, default: T) -> T {
        self.get(key).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{key}={text}")))
    }

    fn text(&self, key: &str) -> Option<StrBytes> {
        self.get(key).map(string)
    }
}

/// `a-0=10` -> (a, 0, "10")
fn partition(word: &str) -> (&str, i32, &str) {
    let (place, value) = word.split_once('=').unwrap_or((word, ""));
    let (topic, index) = place.rsplit_once('-').expect("topic-partition");
    (topic, index.parse().expect("a partition"), value)
}

fn list(text: &str, separator: char) -> impl Iterator<Item = &str> {
    text.split(separator).filter(|item| !item.is_empty())
}

impl Scene<'_> {
    fn command(&mut self, words: &[&str]) -> Vec<String> {
        let rest = Words::new(&words[1..]);
        match words[0] {
            "topic" => self.harness.topics.set(rest.plain[0], rest.plain[1].parse().unwrap()),
            "untopic" => return self.untopic(rest.plain[0]),
            "set" => self.set(words[1]),
            "at" => {
                self.harness.now_ms = rest.plain[0].parse().unwrap();
                let effects = self.harness.fire();
                return self.show(&effects);
            }
            "restart" => {
                let effects = self.harness.restart();
                return self.show(&effects);
            }
            "join" => return self.join(&rest),
            "sync" => return self.sync(&rest),
            "heartbeat" => return self.heartbeat(&rest),
            "leave" => return self.leave(&rest),
            "beat" => return self.beat(&rest, false),
            "gather" => return self.beat(&rest, true),
            "commit" => return self.commit(&rest),
            "txncommit" => return self.txn_commit(&rest),
            "endtxn" => self.harness.end_transaction(rest.plain[0].parse().unwrap(), rest.plain[1] == "commit"),
            "fetch" => return self.fetch(&rest, false),
            "fetch!" => return self.fetch(&rest, true),
            "uncommit" => return self.uncommit(&rest),
            "delete" => return self.delete(rest.plain[0]),
            "list" => return self.list(&rest),
            "describe" => return self.describe(rest.plain[0]),
            "describe2" => return self.describe_consumer(rest.plain[0]),
            other => panic!("unknown command {other}"),
        }
        Vec::new()
    }

    fn set(&mut self, word: &str) {
        let (key, value) = word.split_once('=').expect("key=value");
        let number = || value.parse::<i32>().unwrap();
        let settings = &mut self.harness.settings;
        match key {
            "max_size" => settings.max_size = number() as usize,
            "consumer_max_size" => settings.consumer.max_size = number() as usize,
            "delay" => settings.initial_rebalance_delay_ms = number(),
            "assignment_interval" => settings.consumer.assignment_interval_ms.default = number(),
            "retention" => settings.offsets_retention_ms = i64::from(number()),
            "metadata_max" => settings.offset_metadata_max_bytes = number() as usize,
            "migration" => {
                let (upgrade, downgrade) = (value.contains("up"), value.contains("down"));
                settings.consumer.migration = MigrationPolicy { upgrade, downgrade };
            }
            _ => {
                let (group, key) = key.split_once('/').expect("group/setting");
                let overrides = self.harness.topics.overrides.entry(group.to_owned()).or_default();
                overrides.insert(key.to_owned(), value.to_owned());
            }
        }
    }

    fn untopic(&mut self, name: &str) -> Vec<String> {
        let id = self.harness.topics.remove(name);
        let ((), effects) = self.harness.turn(|turn| turn.topics_deleted(&[(id, name.into())]));
        self.show(&effects)
    }

    fn join(&mut self, words: &Words<'_>) -> Vec<String> {
        let token = words.plain[0].trim_start_matches('t').parse().unwrap();
        let rebalance = words.number("rebalance", 60_000);
        let protocols = words.get("protocols").unwrap_or("range[a]").split("],").map(|protocol| {
            let (name, topics) = protocol.trim_end_matches(']').split_once('[').expect("name[topics]");
            let (topics, owned) = topics.split_once('/').unwrap_or((topics, ""));
            JoinGroupRequestProtocol::default().with_name(string(name)).with_metadata(subscription(topics, owned))
        });
        let request = JoinGroupRequest::default()
            .with_group_id(string(words.plain[1]).into())
            .with_member_id(words.text("member").unwrap_or_default())
            .with_group_instance_id(words.text("instance"))
            .with_session_timeout_ms(words.number("session", 10_000))
            .with_rebalance_timeout_ms(rebalance)
            .with_protocol_type(string(words.get("type").unwrap_or("consumer")))
            .with_protocols(protocols.collect());
        let client = Client { id: words.get("client").unwrap_or("c"), host: "/h", api_version: words.number("v", 9) };
        let ((), mut effects) = self.harness.turn(|turn| turn.join_group(client, &request, token));
        merge(&mut effects, self.harness.fire());
        self.show(&effects)
    }

    fn sync(&mut self, words: &Words<'_>) -> Vec<String> {
        let token = words.plain[0].trim_start_matches('t').parse().unwrap();
        let assignments = words.plain[4..].iter().map(|word| {
            let (member, assigned) = word.split_once('=').expect("member=assignment");
            SyncGroupRequestAssignment::default().with_member_id(string(member)).with_assignment(assignment(assigned))
        });
        let request = SyncGroupRequest::default()
            .with_group_id(string(words.plain[1]).into())
            .with_member_id(string(words.plain[2]))
            .with_generation_id(words.plain[3].parse().unwrap())
            .with_group_instance_id(words.text("instance"))
            .with_protocol_type(words.text("type"))
            .with_protocol_name(words.text("protocols"))
            .with_assignments(assignments.collect());
        let ((), effects) = self.harness.turn(|turn| turn.sync_group(&request, token));
        self.show(&effects)
    }

    fn heartbeat(&mut self, words: &Words<'_>) -> Vec<String> {
        let request = HeartbeatRequest::default()
            .with_group_id(string(words.plain[0]).into())
            .with_member_id(string(words.plain[1]))
            .with_generation_id(words.plain[2].parse().unwrap())
            .with_group_instance_id(words.text("instance"));
        let (result, effects) = self.harness.turn(|turn| turn.heartbeat(&request));
        self.outcome(result.map(|()| "ok".to_owned()), effects)
    }

    fn leave(&mut self, words: &Words<'_>) -> Vec<String> {
        let identity = |word: &&str| {
            let (member, instance) = match word.split_once('/') {
                Some((member, instance)) => (member, Some(string(instance))),
                None => (*word, None),
            };
            MemberIdentity::default().with_member_id(string(member)).with_group_instance_id(instance)
        };
        let request = LeaveGroupRequest::default()
            .with_group_id(string(words.plain[0]).into())
            .with_members(words.plain[1..].iter().map(identity).collect());
        let (result, mut effects) = self.harness.turn(|turn| turn.leave_group(&request));
        merge(&mut effects, self.harness.fire());
        let codes = result.map(|responses| {
            let codes: Vec<String> = responses.iter().map(|response| error(response.error_code)).collect();
            codes.join(" ")
        });
        self.outcome(codes, effects)
    }

    fn beat(&mut self, words: &Words<'_>, gather: bool) -> Vec<String> {
        let epoch: i32 = words.plain[2].parse().unwrap();
        let names = words.get("topics").map(|topics| list(topics, ',').map(|name| string(name).into()).collect());
        let owned = words.get("owned").map(|owned| {
            let topic = |topic| {
                let (name, partitions): (&str, &str) = str::split_once(topic, ':').expect("topic:partitions");
                let partitions = list(partitions, '+').map(|partition| partition.parse().unwrap());
                let id = self.harness.topics.id(name);
                TopicPartitions::default().with_topic_id(id).with_partitions(partitions.collect())
            };
            list(owned, ',').map(topic).collect()
        });
        let request = ConsumerGroupHeartbeatRequest::default()
            .with_group_id(string(words.plain[0]).into())
            .with_member_id(string(words.plain[1]))
            .with_member_epoch(epoch)
            .with_instance_id(words.text("instance"))
            .with_rack_id(words.text("rack"))
            .with_rebalance_timeout_ms(words.number("rebalance", if epoch == 0 { 60_000 } else { -1 }))
            .with_subscribed_topic_names(names)
            .with_subscribed_topic_regex(words.text("regex"))
            .with_server_assignor(words.text("assignor"))
            .with_topic_partitions(owned.or((epoch == 0).then(Vec::new)));
        let client = Client { id: words.get("client").unwrap_or("c"), host: "/h", api_version: words.number("v", 1) };
        let (result, mut effects) = self.harness.turn(|turn| match gather {
            true => turn.gathering_heartbeat(client, &request),
            false => turn.consumer_heartbeat(client, &request).map(Heard::Answer),
        });
        merge(&mut effects, self.harness.fire());
        let answer = result.map(|heard| {
            let response = match heard {
                Heard::Answer(response) => response,
                Heard::Gathering(member) => return format!("{} gathers", shorten(&member)),
            };
            let assigned = response.assignment.map(|assignment| {
                let topics = assignment.topic_partitions.into_iter();
                self.assignment(&topics.map(|t| (t.topic_id, t.partitions.into_iter().collect())).collect())
            });
            let member = shorten(&response.member_id.unwrap_or_default());
            format!("{member} epoch={} assigned={}", response.member_epoch, assigned.unwrap_or("as before".to_owned()))
        });
        self.outcome(answer, effects)
    }

    fn commit(&mut self, words: &Words<'_>) -> Vec<String> {
        let topics = words.plain[3..].iter().map(|word| {
            let (topic, index, value) = partition(word);
            let (offset, metadata) = value.split_once('/').unwrap_or((value, ""));
            let committed = OffsetCommitRequestPartition::default()
                .with_partition_index(index)
                .with_committed_offset(offset.parse().unwrap())
                .with_committed_metadata(Some(string(metadata)));
            OffsetCommitRequestTopic::default()
                .with_name(string(topic).into())
                .with_topic_id(self.harness.topics.id(topic))
                .with_partitions(vec![committed])
        });
        let request = OffsetCommitRequest::default()
            .with_group_id(string(words.plain[0]).into())
            .with_member_id(string(words.plain[1].trim_matches('-')))
            .with_generation_id_or_member_epoch(words.plain[2].parse().unwrap())
            .with_group_instance_id(words.text("instance"))
            .with_retention_time_ms(words.number("retention", -1))
            .with_topics(topics.collect());
        let api_version = words.number("v", 9);
        let (result, effects) = self.harness.turn(|turn| turn.commit_offsets(api_version, &request));
        let codes = result.map(|topics| {
            let codes = topics.iter().flat_map(|topic| &topic.partitions).map(|partition| error(partition.error_code));
            codes.collect::<Vec<_>>().join(" ")
        });
        self.outcome(codes, effects)
    }

    fn txn_commit(&mut self, words: &Words<'_>) -> Vec<String> {
        let topics = words.plain[4..].iter().map(|word| {
            let (topic, index, offset) = partition(word);
            let committed = TxnOffsetCommitRequestPartition::default()
                .with_partition_index(index)
                .with_committed_offset(offset.parse().unwrap());
            TxnOffsetCommitRequestTopic::default().with_name(string(topic).into()).with_partitions(vec![committed])
        });
        let request = TxnOffsetCommitRequest::default()
            .with_group_id(string(words.plain[1]).into())
            .with_member_id(string(words.plain[2].trim_matches('-')))
            .with_generation_id(words.plain[3].parse().unwrap())
            .with_topics(topics.collect());
        let producer = words.plain[0].parse().unwrap();
        let (result, effects) =
            self.harness.turn_of(Some(producer), |turn| turn.commit_transactional_offsets(5, &request));
        let codes = result.map(|topics| {
            let codes = topics.iter().flat_map(|topic| &topic.partitions).map(|partition| error(partition.error_code));
            codes.collect::<Vec<_>>().join(" ")
        });
        self.outcome(codes, effects)
    }

    fn fetch(&mut self, words: &Words<'_>, stable: bool) -> Vec<String> {
        let (member, asked) = match words.plain[1..] {
            [member, epoch, ref asked @ ..] if epoch.parse::<i32>().is_ok() => (Some((member, epoch)), asked),
            ref asked => (None, asked),
        };
        let topic = |word: &&str| {
            let (topic, index, _) = partition(word);
            let topic = OffsetFetchRequestTopics::default().with_name(string(topic).into());
            topic.with_partition_indexes(vec![index])
        };
        let topics = (asked != ["*"]).then(|| asked.iter().map(topic).collect());
        let request = OffsetFetchRequestGroup::default()
            .with_group_id(string(words.plain[0]).into())
            .with_member_id(member.map(|(member, _)| string(member)))
            .with_member_epoch(member.map_or(-1, |(_, epoch)| epoch.parse().unwrap()))
            .with_topics(topics);
        let (result, effects) = self.harness.turn(|turn| turn.fetch_offsets(&request, stable));
        let answer = result.map(|group| {
            let found = group.topics.iter().flat_map(|topic| {
                topic.partitions.iter().map(move |partition| {
                    let metadata = partition.metadata.as_deref().unwrap_or_default();
                    let place = format!("{}-{}", topic.name.as_str(), partition.partition_index);
                    match error(partition.error_code).as_str() {
                        "ok" if metadata.is_empty() => format!("{place}={}", partition.committed_offset),
                        "ok" => format!("{place}={}/{metadata}", partition.committed_offset),
                        code => format!("{place}: {code}"),
                    }
                })
            });
            found.collect::<Vec<_>>().join(" ")
        });
        self.outcome(answer, effects)
    }

    fn uncommit(&mut self, words: &Words<'_>) -> Vec<String> {
        let topics = words.plain[1..].iter().map(|word| {
            let (topic, index, _) = partition(word);
            let partition = OffsetDeleteRequestPartition::default().with_partition_index(index);
            OffsetDeleteRequestTopic::default().with_name(string(topic).into()).with_partitions(vec![partition])
        });
        let request =
            OffsetDeleteRequest::default().with_group_id(string(words.plain[0]).into()).with_topics(topics.collect());
        let (result, effects) = self.harness.turn(|turn| turn.delete_offsets(&request));
        let codes = result.map(|topics| {
            let codes = topics.iter().flat_map(|topic| &topic.partitions).map(|partition| error(partition.error_code));
            codes.collect::<Vec<_>>().join(" ")
        });
        self.outcome(codes, effects)
    }

    fn delete(&mut self, group: &str) -> Vec<String> {
        let (result, effects) = self.harness.turn(|turn| turn.delete_group(group));
        self.outcome(result.map(|()| "ok".to_owned()), effects)
    }

    fn list(&mut self, words: &Words<'_>) -> Vec<String> {
        let filter = |key| words.get(key).map_or(Vec::new(), |text| list(text, ',').map(str::to_owned).collect());
        let (states, types): (Vec<String>, Vec<String>) = (filter("states"), filter("types"));
        let (groups, _) = self.harness.turn(|turn| turn.list_groups(&states, &types));
        let show = |group: &kafka_protocol::messages::list_groups_response::ListedGroup| {
            let (id, kind, state) = (group.group_id.as_str(), &group.group_type, &group.group_state);
            format!("{id} {kind} {state} {:?}", group.protocol_type.as_str())
        };
        groups.iter().map(show).collect()
    }

    fn describe(&mut self, group: &str) -> Vec<String> {
        let (result, effects) = self.harness.turn(|turn| turn.describe_group(group));
        let shown = result.map(|group| {
            let members = group.members.iter().map(|member| {
                let topics = Subscription::parse(&member.member_metadata).unwrap_or_default().topics;
                format!("{}[{}]={}", shorten(&member.member_id), topics.join(","), show_blob(&member.member_assignment))
            });
            let members: Vec<String> = members.collect();
            format!("{} {:?} {}", group.group_state, group.protocol_data.as_str(), members.join(" "))
        });
        self.outcome(shown, effects)
    }

    fn describe_consumer(&mut self, group: &str) -> Vec<String> {
        let (result, _) = self.harness.turn(|turn| turn.describe_consumer_group(group));
        let group = match result {
            Ok(group) => group,
            Err(error) => return vec![format!("{:?}", error.code)],
        };
        let head = format!(
            "{} epoch={} assignment={} {}",
            group.group_state, group.group_epoch, group.assignment_epoch, group.assignor_name
        );
        let part = |assignment: &consumer_group_describe_response::Assignment| {
            let topics = assignment.topic_partitions.iter();
            self.assignment(&topics.map(|t| (t.topic_id, t.partitions.iter().copied().collect())).collect())
        };
        let member = |member: &consumer_group_describe_response::Member| {
            let (has, shall) = (part(&member.assignment), part(&member.target_assignment));
            let kind = if member.member_type == 0 { "classic" } else { "consumer" };
            format!("{} {kind} epoch={} has {has} shall {shall}", shorten(&member.member_id), member.member_epoch)
        };
        std::iter::once(head).chain(group.members.iter().map(member)).collect()
    }
}

/// A consumer's subscription, version 1. `owned`: `a:0+1`.
fn subscription(topics: &str, owned: &str) -> Bytes {
    let mut out = crate::protocol::wire::Writer::new(32, false);
    use bytes::BufMut;
    out.buf.put_i16(1);
    let topics: Vec<&str> = list(topics, ',').collect();
    out.length(topics.len());
    topics.iter().for_each(|topic| out.string(topic));
    out.null_array();
    let owned: Vec<(&str, &str)> = list(owned, ',').map(|topic| topic.split_once(':').unwrap()).collect();
    out.length(owned.len());
    for (topic, partitions) in owned {
        out.string(topic);
        let partitions: Vec<i32> = list(partitions, '+').map(|p| p.parse().unwrap()).collect();
        out.length(partitions.len());
        partitions.iter().for_each(|p| out.buf.put_i32(*p));
    }
    out.buf.freeze()
}

/// `a:0+1,b:2` as a consumer's assignment, any other text as itself.
fn assignment(text: &str) -> Bytes {
    if !text.contains(':') {
        return Bytes::copy_from_slice(text.as_bytes());
    }
    let topics = list(text, ',').map(|topic| {
        let (name, partitions) = topic.split_once(':').expect("topic:partitions");
        (Name::from(name), list(partitions, '+').map(|p| p.parse().unwrap()).collect())
    });
    EmbeddedAssignment::encode(&topics.collect::<Vec<_>>(), &[0, 1])
}
