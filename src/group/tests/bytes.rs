//! Records against bytes that Apache Kafka 4.3.1 wrote (`kafka-records.txt`: name, key, value or `-`).

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use uuid::Uuid;

use super::harness::Topics;
use crate::group::Topic;
use crate::group::consumer::topic_hash;
use crate::group::embedded::{EmbeddedAssignment, Subscription};
use crate::group::records::*;

type Written = BTreeMap<&'static str, (Vec<u8>, Option<Vec<u8>>)>;

fn written() -> Written {
    let unhex = |text: &str| -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    };
    let line = |line: &'static str| {
        let [name, key, value] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        (name, (unhex(key), (value != "-").then(|| unhex(value))))
    };
    include_str!("kafka-records.txt").lines().map(line).collect()
}

fn g() -> Name {
    "g".into()
}

fn topic(n: u64) -> Uuid {
    Uuid::from_u64_pair(n, n + 1)
}

fn offset(leader_epoch: i32, expire_timestamp_ms: Option<i64>, topic_id: Uuid) -> Record {
    let value = CommittedOffset {
        offset: 10,
        leader_epoch,
        metadata: "m".into(),
        commit_timestamp_ms: 100,
        expire_timestamp_ms,
        topic_id,
    };
    Record::Offset { group: g(), topic: "t".into(), partition: 3, value: Some(value) }
}

fn group(state_timestamp_ms: Option<i64>, instance: Option<&str>, rebalance_timeout_ms: i32) -> Record {
    let member = |id: &str, instance: Option<&str>, subscription: &[u8], assignment: &[u8]| GroupMember {
        member_id: id.into(),
        instance_id: instance.map(Name::from),
        client_id: "c".into(),
        client_host: "/127.0.0.1".into(),
        rebalance_timeout_ms,
        session_timeout_ms: 45_000,
        subscription: Bytes::copy_from_slice(subscription),
        assignment: Bytes::copy_from_slice(assignment),
    };
    let value = GroupMetadata {
        protocol_type: "consumer".into(),
        generation: 5,
        protocol: Some("range".into()),
        leader: Some("m1".into()),
        state_timestamp_ms,
        members: vec![member("m1", instance, &[1, 2], &[3]), member("m2", None, &[], &[])],
    };
    Record::Group { group: g(), value: Some(value) }
}

fn member(metadata: MemberMetadata) -> Record {
    let topics = BTreeSet::from(["a".into(), "b".into()]);
    let value = MemberMetadata {
        client_id: "c".into(),
        client_host: "/127.0.0.1".into(),
        topics,
        rebalance_timeout_ms: 300_000,
        ..metadata
    };
    Record::Member { group: g(), member: "m".into(), value: Some(value) }
}

fn current(state: MemberState, assigned: Owned, revoking: Owned) -> Record {
    let value = CurrentAssignment { epoch: 4, previous_epoch: 3, state, assigned, revoking };
    Record::Current { group: g(), member: "m".into(), value: Some(value) }
}

/// Name in the file -> the record. Those in `read_only` are of versions that nobody writes any more.
fn expected() -> Vec<(&'static str, Record)> {
    let owned = |id, partitions: &[(i32, i32)]| Owned::from([(topic(id), partitions.iter().copied().collect())]);
    let (m, epoch) = (|| Name::from("m"), |metadata_hash| Some(GroupEpoch { epoch: 4, metadata_hash }));
    let target_epoch = |timestamp_ms| Some(TargetEpoch { epoch: 4, timestamp_ms });
    let target = Assignment::from([(topic(1), BTreeSet::from([0, 1])), (topic(3), BTreeSet::from([5]))]);
    let regex = ResolvedRegex { topics: BTreeSet::from(["xa".into(), "xb".into()]), version: 7, timestamp_ms: 1000 };
    let full = MemberMetadata {
        instance_id: Some("i".into()),
        rack_id: Some("r".into()),
        assignor: Some("uniform".into()),
        ..MemberMetadata::default()
    };
    let classic =
        ClassicMember { session_timeout_ms: 45_000, protocols: vec![("range".into(), Bytes::from_static(&[7, 8]))] };
    let classic = MemberMetadata { regex: "x.*".into(), classic: Some(classic), ..MemberMetadata::default() };
    vec![
        ("offset-v1", offset(-1, Some(200), Uuid::nil())),
        ("offset-v4", offset(2, None, Uuid::nil())),
        ("offset-id", offset(2, None, topic(1))),
        ("offset-gone", Record::Offset { group: g(), topic: "t".into(), partition: 3, value: None }),
        ("group-v3", group(Some(1000), Some("i1"), 300_000)),
        (
            "group-empty",
            Record::Group {
                group: g(),
                value: Some(GroupMetadata { state_timestamp_ms: Some(1000), ..GroupMetadata::default() }),
            },
        ),
        ("group-gone", Record::Group { group: g(), value: None }),
        ("member", member(full)),
        ("member-classic", member(classic)),
        ("member-gone", Record::Member { group: g(), member: m(), value: None }),
        ("epoch", Record::Epoch { group: g(), value: epoch(123_456_789_012) }),
        ("epoch-no-hash", Record::Epoch { group: g(), value: epoch(0) }),
        ("epoch-gone", Record::Epoch { group: g(), value: None }),
        ("partitions-gone", Record::Partitions { group: g(), present: false }),
        ("target-epoch", Record::TargetEpoch { group: g(), value: target_epoch(1000) }),
        ("target-epoch-untimed", Record::TargetEpoch { group: g(), value: target_epoch(0) }),
        ("target-epoch-gone", Record::TargetEpoch { group: g(), value: None }),
        ("target", Record::Target { group: g(), member: m(), value: Some(target) }),
        ("target-gone", Record::Target { group: g(), member: m(), value: None }),
        ("current", current(MemberState::UnrevokedPartitions, owned(1, &[(0, 2), (1, 4)]), owned(3, &[(5, 3)]))),
        ("current-gone", Record::Current { group: g(), member: m(), value: None }),
        ("regex", Record::Regex { group: g(), regex: "x.*".into(), value: Some(regex) }),
        ("regex-gone", Record::Regex { group: g(), regex: "x.*".into(), value: None }),
    ]
}

/// Written by older versions, or by Kafka for others.
fn read_only() -> Vec<(&'static str, Record)> {
    let owned = Owned::from([(topic(1), BTreeMap::from([(0, 4), (1, 4)]))]);
    vec![
        ("offset-legacy", offset(-1, None, Uuid::nil())),
        ("offset-v0", offset(-1, None, Uuid::nil())),
        ("offset-v2", offset(-1, None, Uuid::nil())),
        ("offset-v3", offset(2, None, Uuid::nil())),
        ("group-v0", group(None, None, 45_000)),
        ("group-v1", group(None, None, 300_000)),
        ("group-v2", group(Some(1000), None, 300_000)),
        ("group-v4", group(Some(1000), Some("i1"), 300_000)),
        ("partitions", Record::Partitions { group: g(), present: true }),
        ("current-no-epochs", current(MemberState::Stable, owned, Owned::new())),
        ("share", Record::Other { kind: 11 }),
    ]
}

#[test]
fn records_are_kafkas_byte_for_byte() {
    let written = written();
    for (name, record) in expected() {
        let mut buf = b"what was there before".to_vec();
        let (key, value) = record.encode(&mut buf);
        assert_eq!((key.to_vec(), value.map(<[u8]>::to_vec)), written[name], "{name}");
    }
}

#[test]
fn every_version_that_kafka_ever_wrote_is_read() {
    let written = written();
    let all: Vec<_> = expected().into_iter().chain(read_only()).collect();
    for (name, record) in &all {
        let (key, value) = &written[name];
        assert_eq!(Record::decode(key, value.as_deref()), Ok(record.clone()), "{name}");
    }
    assert_eq!(all.len(), written.len(), "every line of the file is expected");
}

#[test]
fn what_is_cut_short_or_newer_is_an_error_and_not_a_panic() {
    for (key, value) in written().values() {
        for end in 2..key.len() {
            assert!(Record::decode(&key[..end], value.as_deref()).is_err() || key[1] == 11);
        }
        let Some(value) = value.as_ref().filter(|_| !matches!(key[1], 4 | 11)) else { continue };
        for end in 0..value.len() {
            let _ = Record::decode(key, Some(&value[..end]));
        }
        let newer = [&[0, 9], &value[2..]].concat();
        assert!(Record::decode(key, Some(&newer)).is_err());
    }
}

#[test]
fn topics_hash_as_in_kafka() {
    let mut topics = Topics::default();
    topics.set("a", 2);
    let topic = Topic { name: "a".into(), id: topic(1), partitions: 2 };
    assert_eq!(topic_hash(&topics, &topic), -2_042_447_274_042_250_391);
}

#[test]
fn the_consumers_own_protocol_is_read_and_written() {
    // Version 3: topics a; user data; owned a: 0, 1; generation; rack r.
    let v3 = b"\0\x03\0\0\0\x01\0\x01a\xff\xff\xff\xff\0\0\0\x01\0\x01a\0\0\0\x02\0\0\0\0\0\0\0\x01\0\0\0\x05\0\x01r";
    let subscription = Subscription::parse(v3).unwrap();
    assert_eq!(subscription.topics, ["a".into()]);
    assert_eq!(subscription.owned, [("a".into(), vec![0, 1])]);
    assert_eq!(subscription.rack_id.as_deref(), Some("r"));
    // What follows in a version that is not known yet is left alone.
    assert_eq!(Subscription::parse(&[&[0, 9], &v3[2..], &[1, 2, 3]].concat()).unwrap(), subscription);
    let v0 = b"\0\0\0\0\0\x01\0\x01a\xff\xff\xff\xff";
    assert_eq!(Subscription::parse(v0).unwrap().topics, ["a".into()]);
    for bad in [&b""[..], b"\0", b"\xff\xff\0\0\0\0", b"\0\0\x7f\xff\xff\xff", &v3[..20]] {
        assert!(Subscription::parse(bad).is_err(), "{bad:?}");
    }
    let assigned = vec![("a".into(), vec![0, 2])];
    let encoded = EmbeddedAssignment::encode(&assigned, v3);
    assert_eq!(encoded[..2], [0, 3]);
    let parsed = EmbeddedAssignment::parse(&encoded).unwrap();
    assert_eq!((parsed.partitions, parsed.has_user_data), (assigned, false));
}
