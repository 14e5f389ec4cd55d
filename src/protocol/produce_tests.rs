//! The Produce fast path against kafka-protocol: what it encodes we read, what we write it decodes, at every version.

use bytes::Bytes;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{ProduceRequest as CrateRequest, ProduceResponse as CrateResponse, TopicName};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use proptest::prelude::*;
use uuid::Uuid;

use super::*;

const VERSIONS: std::ops::RangeInclusive<i16> = 3..=13;
const ID: Uuid = Uuid::from_u128(7);

fn topic(version: i16, partitions: &[(i32, Option<&'static [u8]>)]) -> TopicProduceData {
    let partition = |&(index, records): &(i32, Option<&'static [u8]>)| {
        PartitionProduceData::default().with_index(index).with_records(records.map(Bytes::from_static))
    };
    let topic = TopicProduceData::default().with_partition_data(partitions.iter().map(partition).collect());
    match version {
        13.. => topic.with_topic_id(ID),
        _ => topic.with_name(TopicName(StrBytes::from_static_str("first"))),
    }
}

fn topic_ref(version: i16) -> TopicRef<'static> {
    if version >= 13 { TopicRef::Id(ID) } else { TopicRef::Name("first") }
}

fn encoded(version: i16) -> Bytes {
    let request = CrateRequest::default()
        .with_transactional_id(Some(StrBytes::from_static_str("tx").into()))
        .with_acks(-1)
        .with_timeout_ms(1500)
        .with_topic_data(vec![
            topic(version, &[(0, Some(b"abc")), (3, Some(b""))]),
            topic(version, &[]),
            topic(version, &[(1, None)]),
        ]);
    let mut buf = bytes::BytesMut::new();
    request.encode(&mut buf, version).unwrap();
    buf.freeze()
}

#[test]
fn requests_of_every_version_are_walked() {
    for version in VERSIONS {
        let body = encoded(version);
        let request = ProduceRequest::parse(&body, version).unwrap();
        assert_eq!((request.transactional_id, request.acks, request.timeout_ms), (Some("tx"), -1, 1500));
        assert_eq!((request.topic_count, request.partition_count), (3, 3));
        let topic = topic_ref(version);
        let items: Vec<_> = request.items().collect();
        let expected = [
            Item::Topic { topic, partitions: 2 },
            Item::Partition { index: 0, records: b"abc" },
            Item::Partition { index: 3, records: b"" },
            Item::Topic { topic, partitions: 0 },
            Item::Topic { topic, partitions: 1 },
            Item::Partition { index: 1, records: b"" },
        ];
        assert_eq!(items, expected, "version {version}");
    }
}

/// The answer to [`encoded`]: a success, a failure with all it can carry, a success whose write failed.
fn answered(version: i16) -> CrateResponse {
    let body = encoded(version);
    let request = ProduceRequest::parse(&body, version).unwrap();
    let endpoints = [NodeEndpoint { node_id: 4, host: "there".into(), port: 9092, rack: Some("r".into()) }];
    let errors = [(2, Some("no key".to_owned())), (5, None)];
    let success = PartitionResult { base_offset: 70, log_start_offset: 5, ..PartitionResult::failed(0, 0) };
    let failure = PartitionResult {
        record_errors: &errors,
        error_message: Some("bad"),
        current_leader: Some(LeaderHint { leader_id: 4, leader_epoch: 9 }),
        ..PartitionResult::failed(3, 87)
    };
    let mut response = ProduceResponse::new(version, &request);
    response.topic(topic_ref(version), 2);
    response.partition(&success);
    response.partition(&failure);
    response.topic(topic_ref(version), 0);
    response.topic(topic_ref(version), 1);
    let position = response.partition(&PartitionResult { index: 1, ..success });
    response.fail(position, 56);
    let mut bytes = response.finish(&endpoints);
    let decoded = CrateResponse::decode(&mut bytes, version).unwrap();
    assert!(bytes.is_empty(), "version {version}");
    decoded
}

#[test]
fn answers_of_every_version_are_what_the_crate_decodes() {
    for version in VERSIONS {
        let response = answered(version);
        let partitions: Vec<_> = response.responses.iter().flat_map(|t| &t.partition_responses).collect();
        let [success, failure, lost] = partitions[..] else { panic!("{response:?}") };
        let start = if version >= 5 { 5 } else { -1 };
        assert_eq!((success.index, success.error_code, success.base_offset), (0, 0, 70));
        assert_eq!((success.log_append_time_ms, success.log_start_offset), (-1, start));
        assert_eq!((failure.index, failure.error_code, failure.base_offset), (3, 87, -1));
        assert_eq!((lost.index, lost.error_code, lost.base_offset, lost.log_start_offset), (1, 56, -1, -1));
        if version >= 8 {
            let named: Vec<_> = failure.record_errors.iter().map(|e| e.batch_index).collect();
            assert_eq!(named, [2, 5]);
            assert_eq!(failure.record_errors[0].batch_index_error_message.as_deref(), Some("no key"));
            assert_eq!(failure.error_message.as_deref(), Some("bad"));
        }
        if version >= 10 {
            assert_eq!((failure.current_leader.leader_id.0, failure.current_leader.leader_epoch), (4, 9));
            assert_eq!((response.node_endpoints[0].port, &*response.node_endpoints[0].host), (9092, "there"));
        }
        let topic = &response.responses[0];
        assert!(if version >= 13 { topic.topic_id == ID } else { &*topic.name.0 == "first" });
    }
}

#[test]
fn a_frame_cut_anywhere_is_malformed() {
    for version in VERSIONS {
        let body = encoded(version);
        for len in 0..body.len() {
            assert!(ProduceRequest::parse(&body[..len], version).is_err(), "version {version}, {len} bytes");
        }
    }
}

proptest! {
    #[test]
    fn mutated_frames_never_panic(version in VERSIONS, at in 0usize..100, bytes in prop::collection::vec(any::<u8>(), 1..6)) {
        let mut body = encoded(version).to_vec();
        let at = at % body.len();
        let end = (at + bytes.len()).min(body.len());
        body[at..end].copy_from_slice(&bytes[..end - at]);
        if let Ok(request) = ProduceRequest::parse(&body, version) {
            prop_assert_eq!(request.items().count(), request.topic_count + request.partition_count);
        }
    }

    #[test]
    fn random_frames_never_panic(version in VERSIONS, body in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = ProduceRequest::parse(&body, version);
    }
}
