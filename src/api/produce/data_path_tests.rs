//! Produce, Fetch and the APIs around offsets, handler to log and back: what a client is answered.

#[path = "admission_tests.rs"]
mod admission;

use std::future::Future;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::{
    DeleteRecordsRequest, DeleteRecordsResponse, FetchRequest, FetchResponse, ListOffsetsRequest, ListOffsetsResponse,
    OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, ProduceRequest, ProduceResponse, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use ottla_storage::batch::{BatchBuilder, BatchHeader, Compression, TransactionMarker};
use ottla_storage::io::Io;
use ottla_storage::log::{LogManager, LogManagerOptions};
use ottla_storage::validate::ValidBatch;
use uuid::Uuid;

use super::*;
use crate::api::find;
use crate::broker::Broker;
use crate::clock::Clock;
use crate::config::Config;
use crate::coordinator::{GroupCoordinator, TransactionCoordinator};
use crate::fetch::SessionCache;
use crate::metadata::Metadata;
use crate::partition::Partitions;

const NONE: i16 = 0;

#[derive(Clone)]
struct Client {
    broker: Arc<Broker>,
    name: Option<StrBytes>,
}

/// Runs `test` against a broker of its own, without sockets.
fn with_broker<F: Future<Output = ()>>(test: impl FnOnce(Client) -> F) {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let config = Arc::new(Config::for_tests(dir.path(), &[]));
        let options = LogManagerOptions { io: Some(Io::plain()), ..config.log_options(Clock.now_ms()) };
        let logs = LogManager::open(options).unwrap();
        let partitions = Arc::new(Partitions::new(logs.clone(), Clock));
        let endpoints = vec![("PLAINTEXT".to_owned(), "localhost".to_owned(), 9092)];
        let metadata = Metadata::open(config.clone(), logs, partitions.clone(), Clock, endpoints).await.unwrap();
        let fetch_sessions = SessionCache::new(10);
        let groups = GroupCoordinator::new(config.clone(), Clock, metadata.clone(), partitions.clone());
        let (to_metadata, to_partitions, to_groups) = (metadata.clone(), partitions.clone(), groups.clone());
        let transactions = TransactionCoordinator::new(config.clone(), Clock, to_metadata, to_partitions, to_groups);
        let broker = Broker { config, clock: Clock, metadata, partitions, fetch_sessions, groups, transactions };
        let broker = Arc::new(broker);
        test(Client { broker, name: None }).await;
    });
}

fn records(values: &[&str]) -> Bytes {
    let mut batch = BatchBuilder::new(Compression::None);
    for value in values {
        batch.record(Clock.now_ms(), None, Some(value.as_bytes()), &[]);
    }
    batch.build(0, -1)
}

fn at(timestamps: &[i64]) -> Bytes {
    let mut batch = BatchBuilder::new(Compression::None);
    for timestamp in timestamps {
        batch.record(*timestamp, None, Some(b"v"), &[]);
    }
    batch.build(0, -1)
}

fn name(topic: &str) -> TopicName {
    TopicName(StrBytes::from_string(topic.to_owned()))
}

impl Client {
    async fn create(&self, topic: &str, configs: &[(&str, &str)]) -> Uuid {
        let configs = configs.iter().map(|(key, value)| {
            kafka_protocol::messages::create_topics_request::CreatableTopicConfig::default()
                .with_name(StrBytes::from_string((*key).to_owned()))
                .with_value(Some(StrBytes::from_string((*value).to_owned())))
        });
        let topic = CreatableTopic::default()
            .with_name(name(topic))
            .with_num_partitions(2)
            .with_replication_factor(1)
            .with_configs(configs.collect());
        let topic_name = topic.name.0.clone();
        let results = self.broker.metadata.create_topics(vec![topic], false).await.unwrap();
        results.into_iter().for_each(|(_, result)| drop(result.unwrap()));
        self.broker.metadata.image().topic(&topic_name).unwrap().id
    }

    async fn reply<R: Encodable>(&self, key: i16, version: i16, request: &R) -> Reply {
        let mut body = BytesMut::new();
        // Version 11 of ListOffsets has the fields of 10, which is the last that the crate knows.
        request.encode(&mut body, if key == 2 { version.min(10) } else { version }).unwrap();
        let ctx = RequestContext {
            broker: self.broker.clone(),
            api_key: key,
            api_version: version,
            correlation_id: 1,
            client_id: self.name.clone(),
            listener_name: "PLAINTEXT".into(),
            peer: ([127, 0, 0, 1], 1).into(),
        };
        (find(key).unwrap().handler)(ctx, body.freeze()).await
    }

    async fn call<R: Encodable, A: Decodable>(&self, key: i16, version: i16, request: &R) -> A {
        let Reply::Body(body) = self.reply(key, version, request).await else { panic!("no answer") };
        let mut all = BytesMut::new();
        for part in body.parts {
            match part {
                Part::Bytes(bytes) => all.extend_from_slice(&bytes),
                Part::File(slice) => all.extend_from_slice(&slice.file.read_at(slice.pos, slice.len).await.unwrap()),
            }
        }
        A::decode(&mut all.freeze(), if key == 2 { version.min(10) } else { version }).unwrap()
    }

    async fn send(&self, topic: &str, index: i32, records: Bytes) -> PartitionProduceResponse {
        let response: ProduceResponse = self.call(0, 11, &produce(-1, topic, index, records)).await;
        response.responses[0].partition_responses[0].clone()
    }

    async fn fetch_one(&self, version: i16, request: FetchRequest) -> PartitionData {
        let response: FetchResponse = self.call(1, version, &request).await;
        response.responses[0].partitions[0].clone()
    }

    async fn list(&self, version: i16, timestamp: i64) -> (i16, i64, i64, i32) {
        let partition = ListOffsetsPartition::default().with_timestamp(timestamp);
        let topic = ListOffsetsTopic::default().with_name(name("t")).with_partitions(vec![partition]);
        let request = ListOffsetsRequest::default().with_replica_id((-1).into()).with_topics(vec![topic]);
        let response: ListOffsetsResponse = self.call(2, version, &request).await;
        let found = &response.topics[0].partitions[0];
        (found.error_code, found.timestamp, found.offset, found.leader_epoch)
    }

    /// The offset that a read_committed client finds in topic t.
    async fn list_isolated(&self, timestamp: i64) -> i64 {
        let partition = ListOffsetsPartition::default().with_timestamp(timestamp);
        let topic = ListOffsetsTopic::default().with_name(name("t")).with_partitions(vec![partition]);
        let request = ListOffsetsRequest::default().with_topics(vec![topic]).with_replica_id((-1).into());
        let answer: ListOffsetsResponse = self.call(2, 7, &request.with_isolation_level(1)).await;
        answer.topics[0].partitions[0].offset
    }

    async fn delete_records(&self, topic: &str, offset: i64) -> (i16, i64) {
        let partition = DeleteRecordsPartition::default().with_offset(offset);
        let topic = DeleteRecordsTopic::default().with_name(name(topic)).with_partitions(vec![partition]);
        let request = DeleteRecordsRequest::default().with_topics(vec![topic]);
        let response: DeleteRecordsResponse = self.call(21, 2, &request).await;
        let result = &response.topics[0].partitions[0];
        (result.error_code, result.low_watermark)
    }
}

fn produce(acks: i16, topic: &str, index: i32, records: Bytes) -> ProduceRequest {
    let partition = PartitionProduceData::default().with_index(index).with_records(Some(records));
    let topic = TopicProduceData::default().with_name(name(topic)).with_partition_data(vec![partition]);
    ProduceRequest::default().with_acks(acks).with_timeout_ms(1000).with_topic_data(vec![topic])
}

fn wanted(index: i32, offset: i64) -> FetchPartition {
    FetchPartition::default().with_partition(index).with_fetch_offset(offset).with_partition_max_bytes(1 << 20)
}

fn fetch(topic: &str, partitions: Vec<FetchPartition>, max_wait_ms: i32) -> FetchRequest {
    let topic = FetchTopic::default().with_topic(name(topic)).with_partitions(partitions);
    FetchRequest::default().with_max_wait_ms(max_wait_ms).with_min_bytes(1).with_topics(vec![topic])
}

#[test]
fn what_is_produced_is_fetched_at_every_version() {
    with_broker(|client| async move {
        let id = client.create("t", &[]).await;
        for (sent, version) in (3..=13).enumerate() {
            let mut request = produce(-1, "t", 0, records(&["a", "b"]));
            if version >= 13 {
                request.topic_data[0] = request.topic_data[0].clone().with_name(TopicName::default()).with_topic_id(id);
            }
            let response: ProduceResponse = client.call(0, version, &request).await;
            let partition = &response.responses[0].partition_responses[0];
            assert_eq!((partition.error_code, partition.base_offset), (NONE, 2 * sent as i64), "version {version}");
        }
        for version in 4..=18 {
            let mut request = fetch("t", vec![wanted(0, 3), wanted(1, 0)], 0);
            if version >= 13 {
                request.topics[0] = request.topics[0].clone().with_topic(TopicName::default()).with_topic_id(id);
            }
            let response: FetchResponse = client.call(1, version, &request).await;
            let [full, empty] = &response.responses[0].partitions[..] else { panic!("{response:?}") };
            let records = full.records.as_ref().unwrap();
            let first = BatchHeader::read(records).unwrap();
            assert_eq!((first.base_offset, full.high_watermark), (2, 22), "the whole batch that contains offset 3");
            assert_eq!(records.len(), 10 * first.total_bytes());
            assert_eq!((empty.error_code, empty.records.as_deref()), (NONE, Some(&b""[..])));
        }
    });
}

#[test]
fn produce_errors_are_those_of_kafka() {
    with_broker(|mut client| async move {
        client.create("t", &[]).await;
        client.create("compacted", &[("cleanup.policy", "compact")]).await;
        client.create("small", &[("max.message.bytes", "100")]).await;
        let code = |response: PartitionProduceResponse| ErrorCode::try_from_code(response.error_code);
        let batch = || records(&["a"]);
        let broken = {
            let mut bytes = batch().to_vec();
            *bytes.last_mut().unwrap() ^= 1;
            Bytes::from(bytes)
        };
        let transactional = {
            let mut builder = BatchBuilder::new(Compression::None).producer(7, 0, 0).transactional(true);
            builder.record(Clock.now_ms(), None, Some(b"v"), &[]);
            builder.build(0, -1)
        };
        let cases = [
            ("nowhere", 0, batch(), ErrorCode::UnknownTopicOrPartition),
            ("t", 2, batch(), ErrorCode::UnknownTopicOrPartition),
            ("t", -1, batch(), ErrorCode::UnknownTopicOrPartition),
            ("t", 0, broken, ErrorCode::CorruptMessage),
            ("t", 0, Bytes::new(), ErrorCode::InvalidRecord),
            ("t", 0, transactional.clone(), ErrorCode::TransactionalIdAuthorizationFailed),
            ("t", 0, at(&[Clock.now_ms() + 7_200_000]), ErrorCode::InvalidTimestamp),
            ("small", 0, records(&[&"x".repeat(100)]), ErrorCode::MessageTooLarge),
        ];
        for (topic, index, bytes, expected) in cases {
            assert_eq!(code(client.send(topic, index, bytes).await), Some(expected), "{topic}-{index}");
        }
        let keyless = client.send("compacted", 0, batch()).await;
        assert_eq!(code(keyless.clone()), Some(ErrorCode::InvalidRecord));
        assert_eq!((keyless.record_errors[0].batch_index, keyless.log_start_offset), (0, 0));
        assert!(keyless.error_message.is_some());

        let with_id =
            produce(-1, "t", 0, transactional).with_transactional_id(Some(StrBytes::from_static_str("x").into()));
        let response: ProduceResponse = client.call(0, 11, &with_id).await;
        let unknown_producer = response.responses[0].partition_responses[0].clone();
        assert_eq!(
            code(unknown_producer),
            Some(ErrorCode::NotEnoughReplicas),
            "there is no transaction coordinator yet"
        );
        let response: ProduceResponse = client.call(0, 11, &produce(2, "t", 0, batch())).await;
        let wrong_acks = response.responses[0].partition_responses[0].clone();
        assert_eq!(code(wrong_acks), Some(ErrorCode::InvalidRequiredAcks));

        client.create("__consumer_offsets", &[]).await;
        assert_eq!(code(client.send("__consumer_offsets", 0, batch()).await), Some(ErrorCode::InvalidTopicException));
        client.name = Some(StrBytes::from_static_str("__admin_client"));
        assert_eq!(code(client.send("__consumer_offsets", 0, batch()).await), None);
    });
}

#[test]
fn acks_zero_gets_no_answer_and_an_error_closes_the_connection() {
    with_broker(|client| async move {
        client.create("t", &[]).await;
        let reply = client.reply(0, 11, &produce(0, "t", 0, records(&["a"]))).await;
        assert!(matches!(reply, Reply::None), "{reply:?}");
        assert_eq!(client.list(10, -1).await.2, 1, "it is written");
        let reply = client.reply(0, 11, &produce(0, "nowhere", 0, records(&["a"]))).await;
        assert!(matches!(reply, Reply::Close(_)), "{reply:?}");
    });
}

#[test]
fn pipelined_requests_append_in_the_order_they_are_started() {
    with_broker(|client| async move {
        client.create("t", &[]).await;
        let requests: Vec<_> = (0..8).map(|i| produce(-1, "t", 0, records(&[&i.to_string()]))).collect();
        let replies =
            futures_util::future::join_all(requests.iter().map(|r| client.call::<_, ProduceResponse>(0, 11, r)));
        let offsets =
            replies.await.iter().map(|r| r.responses[0].partition_responses[0].base_offset).collect::<Vec<_>>();
        assert_eq!(offsets, (0..8).collect::<Vec<i64>>());
    });
}

#[test]
fn idempotent_producers_are_held_to_their_sequence() {
    with_broker(|client| async move {
        client.create("t", &[]).await;
        let batch = |epoch, sequence| {
            let mut builder = BatchBuilder::new(Compression::None).producer(7, epoch, sequence);
            builder.record(Clock.now_ms(), None, Some(b"v"), &[]);
            builder.build(0, -1)
        };
        let send = |epoch, sequence| client.send("t", 0, batch(epoch, sequence));
        let first = batch(1, 0);
        assert_eq!(client.send("t", 0, first.clone()).await.base_offset, 0);
        assert_eq!(send(1, 1).await.base_offset, 1);
        let again = client.send("t", 0, first).await;
        assert_eq!((again.error_code, again.base_offset), (NONE, 0), "a duplicate answers the original's offset");
        let gap = send(1, 5).await;
        assert_eq!(ErrorCode::try_from_code(gap.error_code), Some(ErrorCode::OutOfOrderSequenceNumber));
        let stale = send(0, 2).await;
        assert_eq!(ErrorCode::try_from_code(stale.error_code), Some(ErrorCode::InvalidProducerEpoch));
        assert_eq!(client.list(10, -1).await.2, 2);
    });
}

#[test]
fn the_log_append_time_is_answered() {
    with_broker(|client| async move {
        client.create("t", &[("message.timestamp.type", "LogAppendTime")]).await;
        let before = Clock.now_ms();
        let answer = client.send("t", 0, at(&[5])).await;
        assert!((before..=Clock.now_ms()).contains(&answer.log_append_time_ms), "{answer:?}");
    });
}

#[test]
fn fetch_errors_are_those_of_kafka() {
    with_broker(|client| async move {
        client.create("t", &[]).await;
        client.send("t", 0, records(&["a"])).await;
        let epoch = client.list(10, -1).await.3;
        let wants = |partition| fetch("t", vec![partition], 10_000);
        let code = |data: &PartitionData| ErrorCode::try_from_code(data.error_code);
        let cases = [
            (wanted(0, 2), ErrorCode::OffsetOutOfRange),
            (wanted(0, -1), ErrorCode::OffsetOutOfRange),
            (wanted(9, 0), ErrorCode::UnknownTopicOrPartition),
            (wanted(0, 0).with_current_leader_epoch(epoch + 1), ErrorCode::UnknownLeaderEpoch),
            (wanted(0, 0).with_last_fetched_epoch(epoch + 1), ErrorCode::OffsetOutOfRange),
        ];
        for (partition, expected) in cases {
            let data = client.fetch_one(12, wants(partition)).await;
            assert_eq!((code(&data), data.high_watermark), (Some(expected), -1));
        }
        let same_history = fetch("t", vec![wanted(0, 1).with_last_fetched_epoch(epoch)], 0);
        let data = client.fetch_one(12, same_history).await;
        assert_eq!((code(&data), data.diverging_epoch.epoch), (None, -1));

        let unknown_id = FetchTopic::default().with_topic_id(Uuid::from_u128(9)).with_partitions(vec![wanted(0, 0)]);
        let request = FetchRequest::default().with_topics(vec![unknown_id]).with_max_wait_ms(10_000).with_min_bytes(1);
        assert_eq!(code(&client.fetch_one(16, request).await), Some(ErrorCode::UnknownTopicId));

        let from_follower = wants(wanted(0, 0)).with_replica_id(5.into());
        assert_eq!(code(&client.fetch_one(12, from_follower).await), Some(ErrorCode::NotLeaderOrFollower));
    });
}

#[test]
fn limits_cut_the_answer_but_never_the_first_batch() {
    with_broker(|client| async move {
        client.create("t", &[]).await;
        for index in [0, 1] {
            client.send("t", index, records(&[&"x".repeat(500)])).await;
        }
        let both = |max_bytes| fetch("t", vec![wanted(0, 0), wanted(1, 0)], 0).with_max_bytes(max_bytes);
        let sizes = |response: FetchResponse| -> Vec<usize> {
            response.responses[0].partitions.iter().map(|p| p.records.as_ref().map_or(0, Bytes::len)).collect()
        };
        let all = sizes(client.call(1, 12, &both(1 << 20)).await);
        assert!(all[0] > 500 && all[1] > 500);
        assert_eq!(sizes(client.call(1, 12, &both(10)).await), [all[0], 0]);
        let mut small_partition = both(1 << 20);
        small_partition.topics[0].partitions[0].partition_max_bytes = 1;
        small_partition.topics[0].partitions[1].partition_max_bytes = 1;
        assert_eq!(sizes(client.call(1, 12, &small_partition).await), [all[0], 0]);
    });
}

#[test]
fn a_fetch_waits_for_data_and_is_woken_by_it() {
    with_broker(|client| async move {
        client.create("t", &[]).await;
        let started = Instant::now();
        let empty = client.fetch_one(12, fetch("t", vec![wanted(0, 0)], 50)).await;
        assert!(started.elapsed() >= Duration::from_millis(50) && empty.records.as_deref() == Some(b""));

        let started = Instant::now();
        let write_later = async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            client.send("t", 1, records(&["a"])).await
        };
        let request = fetch("t", vec![wanted(0, 0), wanted(1, 0)], 20_000);
        let (response, _) = tokio::join!(client.call::<_, FetchResponse>(1, 12, &request), write_later);
        assert!(started.elapsed() < Duration::from_secs(10));
        assert!(!response.responses[0].partitions[1].records.as_ref().unwrap().is_empty());
    });
}

#[test]
fn min_bytes_are_waited_for_across_partitions() {
    with_broker(|client| async move {
        client.create("t", &[]).await;
        let one_batch = client.send("t", 0, records(&["a"])).await;
        assert_eq!(one_batch.base_offset, 0);
        let bytes = records(&["a"]).len() as i32;
        let request = fetch("t", vec![wanted(0, 0), wanted(1, 0)], 20_000).with_min_bytes(3 * bytes);
        let writes = async {
            for index in [1, 1] {
                tokio::time::sleep(Duration::from_millis(10)).await;
                client.send("t", index, records(&["a"])).await;
            }
        };
        let (response, ()) = tokio::join!(client.call::<_, FetchResponse>(1, 12, &request), writes);
        let sizes = response.responses[0].partitions.iter().map(|p| p.records.as_ref().map_or(0, Bytes::len) as i32);
        assert_eq!(sizes.collect::<Vec<_>>(), [bytes, 2 * bytes]);
    });
}

/// In a hundred years.
const LATER_MS: i64 = 5_000_000_000_000;

/// One record of producer 7's transaction, as the coordinator's broker would append it.
fn send_in_transaction(partition: &Partition, sequence: i32) {
    let mut batch = BatchBuilder::new(Compression::None).producer(7, 0, sequence).transactional(true);
    batch.record(LATER_MS, None, Some(b"v"), &[]);
    let batch = batch.build(0, -1);
    let header = BatchHeader::read(&batch).unwrap();
    let valid = ValidBatch { header, bytes: batch, log_append_time: -1 };
    partition.log.append(&valid, 0, 1).unwrap();
}

#[test]
fn read_committed_sees_a_transaction_when_its_marker_is_written_and_is_told_if_it_was_aborted() {
    with_broker(|client| async move {
        let id = client.create("t", &[]).await;
        let partition = client.broker.partitions.get(id, 0).unwrap();
        client.send("t", 0, records(&["stable"])).await;
        (0..3).for_each(|sequence| send_in_transaction(&partition, sequence));
        partition.log.written(4).await.unwrap();

        let committed = |offset, wait| fetch("t", vec![wanted(0, offset)], wait).with_isolation_level(1);
        let got = client.fetch_one(12, committed(0, 0)).await;
        assert_eq!((got.high_watermark, got.last_stable_offset), (4, 1));
        assert_eq!(got.aborted_transactions, Some(vec![]));
        assert_eq!(got.records.unwrap().len(), records(&["stable"]).len());
        assert_eq!(client.fetch_one(12, committed(1, 0)).await.records.unwrap().len(), 0);
        let uncommitted = client.fetch_one(12, fetch("t", vec![wanted(0, 1)], 0)).await;
        assert!(uncommitted.aborted_transactions.is_none() && !uncommitted.records.unwrap().is_empty());
        assert_eq!(client.list_isolated(-1).await, 1);
        assert_eq!(client.list_isolated(LATER_MS).await, -1, "found, but not stable");

        // 200 bytes are there already, and only the marker's 78 come.
        let waiting = tokio::task::spawn_local({
            let client = client.clone();
            let request = committed(1, 10_000).with_min_bytes(200);
            async move { client.fetch_one(12, request).await }
        });
        tokio::time::sleep(Duration::from_millis(20)).await;
        let started = Instant::now();
        partition.log.append_marker((7, 0), TransactionMarker { commit: false, coordinator_epoch: 0 }, 0, 1).unwrap();
        let got = waiting.await.unwrap();
        assert!(started.elapsed() < Duration::from_secs(5) && !got.records.unwrap().is_empty());
        let aborted = got.aborted_transactions.unwrap();
        assert_eq!(aborted.iter().map(|a| (a.producer_id.0, a.first_offset)).collect::<Vec<_>>(), [(7, 1)]);
        assert_eq!(client.list_isolated(-1).await, 5);
    });
}

#[test]
fn deleting_the_topic_ends_the_wait() {
    with_broker(|client| async move {
        let id = client.create("t", &[]).await;
        let started = Instant::now();
        let delete = async {
            tokio::time::sleep(Duration::from_millis(10)).await;
            let topic = crate::metadata::topics::TopicRef { name: None, id };
            client.broker.metadata.delete_topics(vec![topic]).await.unwrap();
        };
        let (data, ()) = tokio::join!(client.fetch_one(12, fetch("t", vec![wanted(0, 0)], 20_000)), delete);
        assert!(started.elapsed() < Duration::from_secs(10));
        assert_ne!(data.error_code, NONE);
    });
}

#[test]
fn sessions_answer_only_what_is_new() {
    with_broker(|client| async move {
        client.create("t", &[]).await;
        let first: FetchResponse =
            client.call(1, 12, &fetch("t", vec![wanted(0, 0), wanted(1, 0)], 0).with_session_epoch(0)).await;
        assert!(first.session_id != 0 && first.responses[0].partitions.len() == 2);
        let next = |epoch| {
            let request = FetchRequest::default().with_min_bytes(1).with_session_id(first.session_id);
            request.with_session_epoch(epoch)
        };
        let nothing: FetchResponse = client.call(1, 12, &next(1)).await;
        assert_eq!((nothing.error_code, nothing.session_id, nothing.responses.len()), (NONE, first.session_id, 0));
        client.send("t", 1, records(&["a"])).await;
        let one: FetchResponse = client.call(1, 12, &next(2)).await;
        assert_eq!((one.responses.len(), one.responses[0].partitions[0].partition_index), (1, 1));
        let stale: FetchResponse = client.call(1, 12, &next(2)).await;
        assert_eq!(ErrorCode::try_from_code(stale.error_code), Some(ErrorCode::InvalidFetchSessionEpoch));
        let forget = ForgottenTopic::default().with_topic(name("t")).with_partitions(vec![1]);
        let without: FetchResponse = client.call(1, 12, &next(3).with_forgotten_topics_data(vec![forget])).await;
        assert_eq!((without.error_code, without.responses.len()), (NONE, 0));
    });
}

#[test]
fn offsets_are_found_by_time_and_by_every_special_timestamp() {
    with_broker(|client| async move {
        client.create("t", &[]).await;
        let epoch = client.list(10, -1).await.3;
        assert!(epoch >= 0);
        assert_eq!(client.list(10, -2).await, (NONE, -1, 0, epoch), "of an empty log");
        assert_eq!(client.list(10, -3).await, (NONE, -1, -1, -1));
        let now = Clock.now_ms();
        client.send("t", 0, at(&[now - 100, now])).await;
        client.send("t", 0, at(&[now - 50])).await;
        for version in 1..=11 {
            let epoch = if version >= 4 { epoch } else { -1 };
            let unsupported = (ErrorCode::UnsupportedVersion.code(), -1, -1, -1);
            let from = |min, found| if version >= min { found } else { unsupported };
            assert_eq!(client.list(version, -1).await, (NONE, -1, 3, epoch), "version {version}");
            assert_eq!(client.list(version, -2).await, (NONE, -1, 0, epoch));
            assert_eq!(client.list(version, -3).await, from(7, (NONE, now, 1, epoch)));
            assert_eq!(client.list(version, -4).await, from(8, (NONE, -1, 0, epoch)));
            assert_eq!(client.list(version, -5).await, from(9, (NONE, -1, -1, -1)));
            assert_eq!(client.list(version, -6).await, from(11, (NONE, -1, -1, -1)));
            assert_eq!(client.list(version, -7).await, unsupported);
            assert_eq!(client.list(version, now - 99).await, (NONE, now, 1, epoch));
            assert_eq!(client.list(version, now + 1).await, (NONE, -1, -1, -1));
        }
    });
}

#[test]
fn a_partition_named_twice_is_an_invalid_request() {
    with_broker(|client| async move {
        client.create("t", &[]).await;
        let partition = ListOffsetsPartition::default().with_timestamp(-1);
        let partitions = vec![partition.clone(), partition.with_partition_index(0)];
        let topic = ListOffsetsTopic::default().with_name(name("t")).with_partitions(partitions);
        let request = ListOffsetsRequest::default().with_replica_id((-1).into()).with_topics(vec![topic]);
        let response: ListOffsetsResponse = client.call(2, 7, &request).await;
        let codes = response.topics[0].partitions.iter().map(|p| ErrorCode::try_from_code(p.error_code));
        assert_eq!(codes.collect::<Vec<_>>(), [Some(ErrorCode::InvalidRequest); 2]);
    });
}

#[test]
fn records_are_deleted_up_to_an_offset() {
    with_broker(|client| async move {
        client.create("t", &[]).await;
        client.create("kept", &[("cleanup.policy", "compact")]).await;
        for _ in 0..3 {
            client.send("t", 0, records(&["a"])).await;
        }
        assert_eq!(client.delete_records("t", 2).await, (NONE, 2));
        assert_eq!(client.delete_records("t", 1).await, (NONE, 2), "never back");
        let refused = |code: ErrorCode| (code.code(), -1);
        assert_eq!(client.delete_records("t", 4).await, refused(ErrorCode::OffsetOutOfRange));
        assert_eq!(client.delete_records("t", -2).await, refused(ErrorCode::OffsetOutOfRange));
        assert_eq!(client.delete_records("kept", 0).await, refused(ErrorCode::PolicyViolation));
        assert_eq!(client.delete_records("nowhere", 0).await, refused(ErrorCode::UnknownTopicOrPartition));
        let before_start = client.fetch_one(12, fetch("t", vec![wanted(0, 1)], 0)).await;
        assert_eq!(ErrorCode::try_from_code(before_start.error_code), Some(ErrorCode::OffsetOutOfRange));
        assert_eq!(client.list(7, -2).await.2, 2);
        assert_eq!(client.delete_records("t", -1).await, (NONE, 3), "to the high watermark");
    });
}

#[test]
fn the_end_of_an_epoch_is_answered() {
    with_broker(|client| async move {
        client.create("t", &[]).await;
        client.send("t", 0, records(&["a"])).await;
        let epoch = client.list(10, -1).await.3;
        let end = |known_epoch, wanted_epoch| {
            let partition = OffsetForLeaderPartition::default()
                .with_current_leader_epoch(known_epoch)
                .with_leader_epoch(wanted_epoch);
            let topic = OffsetForLeaderTopic::default().with_topic(name("t")).with_partitions(vec![partition]);
            let request = OffsetForLeaderEpochRequest::default().with_topics(vec![topic]);
            let client = &client;
            async move {
                let response: OffsetForLeaderEpochResponse = client.call(23, 4, &request).await;
                let end = &response.topics[0].partitions[0];
                (end.error_code, end.leader_epoch, end.end_offset)
            }
        };
        assert_eq!(end(epoch, epoch).await, (NONE, epoch, 1));
        assert_eq!(end(-1, epoch + 1).await, (NONE, -1, -1));
        assert_eq!(end(epoch + 1, epoch).await, (ErrorCode::UnknownLeaderEpoch.code(), -1, -1));
    });
}
