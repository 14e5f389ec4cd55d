//! The Fetch fast path against kafka-protocol: what it encodes we read, what we write it decodes, at every version.

use kafka_protocol::messages::fetch_request::{
    FetchPartition as CratePartition, FetchTopic, ForgottenTopic, ReplicaState,
};
use kafka_protocol::messages::{FetchRequest as CrateRequest, FetchResponse as CrateResponse, TopicName};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use proptest::prelude::*;

use super::*;

const VERSIONS: std::ops::RangeInclusive<i16> = 4..=18;

fn key(version: i16, id: u128) -> TopicKey {
    if version >= 13 { TopicKey::Id(Uuid::from_u128(id)) } else { TopicKey::Name(format!("t{id}").into()) }
}

fn name(id: u128) -> TopicName {
    TopicName(StrBytes::from_string(format!("t{id}")))
}

fn encoded(version: i16) -> Bytes {
    let partition = |index: i32| {
        let partition =
            CratePartition::default().with_partition(index).with_fetch_offset(100).with_partition_max_bytes(4096);
        let partition = if version >= 9 { partition.with_current_leader_epoch(3) } else { partition };
        if version >= 12 { partition.with_last_fetched_epoch(2) } else { partition }
    };
    let topic = |id: u128, partitions: Vec<i32>| {
        let topic = FetchTopic::default().with_partitions(partitions.into_iter().map(partition).collect());
        if version >= 13 { topic.with_topic_id(Uuid::from_u128(id)) } else { topic.with_topic(name(id)) }
    };
    let mut request = CrateRequest::default()
        .with_max_wait_ms(500)
        .with_min_bytes(1)
        .with_max_bytes(1 << 20)
        .with_isolation_level(1)
        .with_topics(vec![topic(1, vec![0, 1]), topic(2, vec![]), topic(3, vec![7])]);
    if version >= 7 {
        let forgotten = ForgottenTopic::default().with_partitions(vec![5, 6]);
        let forgotten =
            if version >= 13 { forgotten.with_topic_id(Uuid::from_u128(4)) } else { forgotten.with_topic(name(4)) };
        request = request.with_session_id(77).with_session_epoch(8).with_forgotten_topics_data(vec![forgotten]);
    }
    if version >= 11 {
        request = request.with_rack_id(StrBytes::from_static_str("rack"));
    }
    if version >= 15 {
        request = request.with_replica_state(ReplicaState::default().with_replica_id(6.into()));
    } else {
        request = request.with_replica_id(6.into());
    }
    let mut buf = BytesMut::new();
    request.encode(&mut buf, version).unwrap();
    buf.freeze()
}

#[test]
fn requests_of_every_version_are_read() {
    for version in VERSIONS {
        let wanted = |id, index| FetchPartition {
            topic: key(version, id),
            index,
            current_leader_epoch: if version >= 9 { 3 } else { -1 },
            fetch_offset: 100,
            last_fetched_epoch: if version >= 12 { 2 } else { -1 },
            max_bytes: 4096,
        };
        let sessions = version >= 7;
        let expected = FetchRequest {
            replica_id: 6,
            max_wait_ms: 500,
            min_bytes: 1,
            max_bytes: 1 << 20,
            isolation_level: 1,
            session_id: if sessions { 77 } else { 0 },
            session_epoch: if sessions { 8 } else { -1 },
            partitions: vec![wanted(1, 0), wanted(1, 1), wanted(3, 7)],
            forgotten: if sessions { vec![(key(version, 4), 5), (key(version, 4), 6)] } else { Vec::new() },
        };
        assert_eq!(FetchRequest::parse(&encoded(version), version), Ok(expected), "version {version}");
    }
}

fn joined(body: Body) -> Bytes {
    let mut all = BytesMut::new();
    for part in body.parts {
        match part {
            Part::Bytes(bytes) => all.extend_from_slice(&bytes),
            Part::File(_) => unreachable!("no file was put in"),
        }
    }
    all.freeze()
}

#[test]
fn answers_of_every_version_are_what_the_crate_decodes() {
    for version in VERSIONS {
        let wanted = |id, index| FetchPartition {
            topic: key(version, id),
            index,
            current_leader_epoch: -1,
            fetch_offset: 0,
            last_fetched_epoch: -1,
            max_bytes: 1,
        };
        let slices = vec![LogSlice::Memory(Bytes::from_static(b"abc")), LogSlice::Memory(Bytes::from_static(b"de"))];
        let full = PartitionData {
            high_watermark: 10,
            last_stable_offset: 9,
            log_start_offset: 1,
            aborted: Some(vec![AbortedTransaction {
                producer_id: 7,
                first_offset: 3,
                last_offset: 5,
                last_stable_offset: 6,
            }]),
            records: LogRead { slices, bytes: 5, ..LogRead::default() },
            ..PartitionData::failed(0)
        };
        let leader = Some(LeaderHint { leader_id: 1, leader_epoch: 5 });
        let fenced = PartitionData { current_leader: leader, ..PartitionData::failed(74) };
        let diverged = PartitionData { diverging_epoch: Some((2, 50)), ..PartitionData::failed(0) };
        let answers = [
            (wanted(1, 0), full),
            (wanted(1, 1), if version >= 12 { fenced } else { PartitionData::failed(74) }),
            (wanted(2, 0), if version >= 12 { diverged } else { PartitionData::failed(0) }),
            (wanted(1, 2), PartitionData::failed(3)),
        ];
        let endpoints = [NodeEndpoint { node_id: 1, host: "here".into(), port: 1234, rack: None }];
        let mut bytes = joined(encode_response(version, 71, 99, &answers, &endpoints));
        let response = CrateResponse::decode(&mut bytes, version).unwrap();
        assert!(bytes.is_empty(), "version {version}");

        let top = (response.error_code, response.session_id);
        assert_eq!(top, if version >= 7 { (71, 99) } else { (0, 0) });
        let shape: Vec<Vec<i32>> =
            response.responses.iter().map(|t| t.partitions.iter().map(|p| p.partition_index).collect()).collect();
        assert_eq!(shape, [vec![0, 1], vec![0], vec![2]], "neighbours of one topic are grouped, the order stays");
        let [full, fenced, diverged, unknown] =
            [(0, 0), (0, 1), (1, 0), (2, 0)].map(|(t, p): (usize, usize)| &response.responses[t].partitions[p]);
        assert_eq!(full.records.as_deref(), Some(&b"abcde"[..]));
        assert_eq!((full.high_watermark, full.last_stable_offset), (10, 9));
        assert_eq!(full.log_start_offset, if version >= 5 { 1 } else { -1 });
        let aborted = &full.aborted_transactions.as_ref().unwrap()[..];
        assert_eq!(aborted.iter().map(|a| (a.producer_id.0, a.first_offset)).collect::<Vec<_>>(), [(7, 3)]);
        assert_eq!((unknown.error_code, unknown.aborted_transactions.is_none()), (3, true));
        assert_eq!(unknown.records.as_deref(), Some(&b""[..]), "empty, never null");
        assert_eq!(unknown.preferred_read_replica.0, -1);
        if version >= 12 {
            assert_eq!((fenced.current_leader.leader_id.0, fenced.current_leader.leader_epoch), (1, 5));
            assert_eq!((diverged.diverging_epoch.epoch, diverged.diverging_epoch.end_offset), (2, 50));
        }
        assert_eq!(response.node_endpoints.len(), usize::from(version >= 16));
    }
}

#[test]
fn a_frame_cut_anywhere_is_malformed() {
    for version in VERSIONS {
        let body = encoded(version);
        for len in 0..body.len() {
            assert!(FetchRequest::parse(&body[..len], version).is_err(), "version {version}, {len} bytes");
        }
    }
}

#[test]
fn no_more_than_a_million_elements_are_taken() {
    let mut out = Writer::new(0, false);
    for field in [-1, 0, 0, 0] {
        out.buf.put_i32(field); // replica_id, max_wait_ms, min_bytes, max_bytes
    }
    out.buf.put_i8(0);
    out.length(1);
    out.string("t");
    out.length(1_000_001);
    out.buf.resize(out.buf.len() + 16 * 1_000_001, 0);
    assert!(FetchRequest::parse(&out.buf, 4).is_err());
}

proptest! {
    #[test]
    fn mutated_frames_never_panic_nor_grow(
        version in VERSIONS,
        at in 0usize..200,
        bytes in prop::collection::vec(any::<u8>(), 1..6),
    ) {
        let mut body = encoded(version).to_vec();
        let at = at % body.len();
        let end = (at + bytes.len()).min(body.len());
        body[at..end].copy_from_slice(&bytes[..end - at]);
        if let Ok(request) = FetchRequest::parse(&body, version) {
            prop_assert!(request.partitions.len() + request.forgotten.len() <= body.len() / 4);
        }
    }

    #[test]
    fn random_frames_never_panic(version in VERSIONS, body in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = FetchRequest::parse(&body, version);
    }
}
