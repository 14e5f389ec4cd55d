//! What a producer or consumer does wrong, and the error code that Apache Kafka answers. The broker serves on.

use std::time::Duration;

use bytes::Bytes;
use compat_tests::batch::Batch;
use compat_tests::broker::Broker;
use compat_tests::connection::Connection;
use compat_tests::records::base_ms;
use kafka_protocol::error::ResponseError::{self, *};
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::{
    BrokerId, CreateTopicsRequest, FetchRequest, FetchResponse, InitProducerIdRequest, ListOffsetsRequest,
    MetadataRequest, ProduceRequest, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

const HOUR_MS: i64 = 3_600_000;
const GZIP: i16 = 1;
const ZSTD: i16 = 4;
const LOG_APPEND_TIME: i16 = 1 << 3;
const TRANSACTIONAL: i16 = 1 << 4;
const CONTROL: i16 = 1 << 5;

/// The last versions with topic names, and the first with topic ids.
const PRODUCE_BY_NAME: i16 = 12;
const PRODUCE_BY_ID: i16 = 13;
const FETCH_BY_NAME: i16 = 12;
const FETCH_BY_ID: i16 = 16;

/// Cases that were tried, and what each was answered; compared all at once, so that a failure shows all of them.
#[derive(Default)]
struct Answers {
    wrong: Vec<String>,
}

impl Answers {
    fn add(&mut self, case: &str, code: i16, expected: Option<ResponseError>) {
        let got = ResponseError::try_from_code(code);
        if got != expected {
            self.wrong.push(format!("{case}: {got:?}, expected {expected:?}"));
        }
    }

    fn check(self) {
        assert!(self.wrong.is_empty(), "\n{}\n", self.wrong.join("\n"));
    }
}

fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_string()))
}

/// Creates a topic of one partition and waits until it has a leader. Returns its id.
fn create(connection: &mut Connection, topic: &str, configs: &[(&str, &str)]) -> Uuid {
    let text = |text: &str| StrBytes::from_string(text.to_string());
    let configs = configs.iter();
    let configs =
        configs.map(|(k, v)| CreatableTopicConfig::default().with_name(text(k)).with_value(Some(text(v)))).collect();
    let creatable = CreatableTopic::default()
        .with_name(topic_name(topic))
        .with_num_partitions(1)
        .with_replication_factor(1)
        .with_configs(configs);
    let request = CreateTopicsRequest::default().with_topics(vec![creatable]).with_timeout_ms(10_000);
    let response = connection.call(&request, 7);
    assert_eq!(response.topics[0].error_code, 0, "{:?}", response.topics[0]);
    for _ in 0..500 {
        let topic = MetadataRequestTopic::default().with_name(Some(topic_name(topic)));
        let response = connection.call(&MetadataRequest::default().with_topics(Some(vec![topic])), 12);
        let topic = &response.topics[0];
        if topic.error_code == 0 && topic.partitions.iter().all(|p| p.error_code == 0) {
            return topic.topic_id;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("{topic} did not get a leader");
}

/// One partition's Produce request.
struct Produce {
    version: i16,
    topic: String,
    topic_id: Uuid,
    partition: i32,
    acks: i16,
}

impl Produce {
    fn to(topic: &str) -> Produce {
        Produce { version: PRODUCE_BY_NAME, topic: topic.to_string(), topic_id: Uuid::nil(), partition: 0, acks: -1 }
    }

    fn call(&self, connection: &mut Connection, records: Bytes) -> PartitionProduceResponse {
        let partition = PartitionProduceData::default().with_index(self.partition).with_records(Some(records));
        let mut topic = TopicProduceData::default().with_partition_data(vec![partition]);
        if self.version >= PRODUCE_BY_ID {
            topic = topic.with_topic_id(self.topic_id);
        } else {
            topic = topic.with_name(topic_name(&self.topic));
        }
        let request =
            ProduceRequest::default().with_acks(self.acks).with_timeout_ms(10_000).with_topic_data(vec![topic]);
        connection.call(&request, self.version).responses[0].partition_responses[0].clone()
    }

    fn code(&self, connection: &mut Connection, batch: &Batch) -> i16 {
        self.call(connection, batch.encode()).error_code
    }
}

fn end_offset(connection: &mut Connection, topic: &str) -> i64 {
    let partition = ListOffsetsPartition::default().with_timestamp(-1).with_current_leader_epoch(-1);
    let topic = ListOffsetsTopic::default().with_name(topic_name(topic)).with_partitions(vec![partition]);
    let request = ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic]);
    connection.call(&request, 7).topics[0].partitions[0].offset
}

#[test]
fn batches_that_are_not_what_they_claim() {
    let broker = Broker::start(&[]);
    let mut connection = Connection::open(&broker.bootstrap());
    create(&mut connection, "batches", &[]);
    let produce = Produce::to("batches");
    let three = Batch { values: vec![Some(b"v".to_vec()); 3], ..Batch::default() };
    let good = Batch::default;

    let cases = [
        ("a wrong CRC", Batch { crc_error: 1, ..good() }, CorruptMessage),
        ("magic 0", Batch { magic: 0, ..good() }, InvalidRecord),
        ("magic 1", Batch { magic: 1, ..good() }, InvalidRecord),
        ("magic 3", Batch { magic: 3, ..good() }, CorruptMessage),
        ("a length past the end", Batch { length_error: 10, ..good() }, InvalidRecord),
        ("a length before the end", Batch { length_error: -2, ..good() }, CorruptMessage),
        ("a length below the header", Batch { length_error: -60, ..good() }, CorruptMessage),
        ("a negative length", Batch { length_error: i32::MIN, ..good() }, CorruptMessage),
        ("more records than there are", Batch { record_count: Some(4), ..three.clone() }, InvalidRecord),
        ("fewer records than there are", Batch { record_count: Some(2), ..three.clone() }, InvalidRecord),
        ("no records", Batch { record_count: Some(0), ..three.clone() }, InvalidRecord),
        ("a negative count", Batch { record_count: Some(-1), ..three.clone() }, InvalidRecord),
        ("a huge count", Batch { record_count: Some(i32::MAX), ..three.clone() }, InvalidRecord),
        ("a last offset too high", Batch { last_offset_delta: Some(3), ..three.clone() }, InvalidRecord),
        ("a last offset too low", Batch { last_offset_delta: Some(1), ..three.clone() }, InvalidRecord),
        ("a negative last offset", Batch { last_offset_delta: Some(-1), ..three.clone() }, InvalidRecord),
        ("bytes after the last record", Batch { trailing: true, ..three.clone() }, InvalidRecord),
        ("a base offset", Batch { base_offset: 7, ..good() }, InvalidRecord),
        ("a control batch", Batch { attributes: CONTROL, ..good() }, InvalidRecord),
        (
            "a transactional batch without an id",
            Batch { attributes: TRANSACTIONAL, ..good() },
            TransactionalIdAuthorizationFailed,
        ),
    ];
    let mut answers = Answers::default();
    for (case, batch, expected) in cases {
        // Apache Kafka closes the connection over some batches: each gets its own.
        let mut connection = Connection::open(&broker.bootstrap());
        answers.add(case, produce.code(&mut connection, &batch), Some(expected));
    }
    let two = [good().encode(), good().encode()].concat().into();
    answers.add("two batches", produce.call(&mut connection, two).error_code, Some(InvalidRecord));
    answers.add("no batch", produce.call(&mut connection, Bytes::new()).error_code, Some(InvalidRecord));
    let cut = good().encode().slice(..40);
    answers.add("half a batch", produce.call(&mut connection, cut).error_code, Some(InvalidRecord));

    answers.add("a good batch", produce.code(&mut connection, &three), None);
    answers.check();
    assert_eq!(end_offset(&mut connection, "batches"), 3, "only the good batch is there");
}

/// Apache Kafka lets some of these through and calls others an UNKNOWN_SERVER_ERROR; a clear refusal is as good.
#[test]
fn batches_that_may_be_refused_more_clearly() {
    let broker = Broker::start(&[]);
    let mut connection = Connection::open(&broker.bootstrap());
    create(&mut connection, "batches", &[]);
    let produce = Produce::to("batches");
    let three = Batch { values: vec![Some(b"v".to_vec()); 3], ..Batch::default() };
    let good = Batch::default;
    let cases = [
        ("offsets inside that repeat", Batch { offset_delta: Some(0), ..three }, None, InvalidRecord),
        ("a sequence without a producer", Batch { base_sequence: 0, ..good() }, None, InvalidRecord),
        ("the broker's timestamp type", Batch { attributes: LOG_APPEND_TIME, ..good() }, None, InvalidTimestamp),
        ("an unknown codec", Batch { attributes: 5, ..good() }, Some(UnknownServerError), UnsupportedCompressionType),
        ("gzip that is not", Batch { attributes: GZIP, ..good() }, Some(UnknownServerError), CorruptMessage),
    ];
    for (case, batch, kafka, clearer) in cases {
        let answer = ResponseError::try_from_code(produce.code(&mut connection, &batch));
        let fits = answer == kafka || [clearer, InvalidRecord].map(Some).contains(&answer);
        assert!(fits, "{case}: {answer:?}, expected {kafka:?} or {clearer:?}");
    }
    assert_eq!(produce.code(&mut connection, &good()), 0, "it serves on");
}

#[test]
fn batches_that_the_topic_refuses() {
    let broker = Broker::start(&[]);
    let mut connection = Connection::open(&broker.bootstrap());
    create(&mut connection, "defaults", &[]);
    create(&mut connection, "small", &[("max.message.bytes", "200")]);
    create(&mut connection, "recent", &[("message.timestamp.before.max.ms", "1000")]);
    create(&mut connection, "compacted", &[("cleanup.policy", "compact")]);
    let mut answers = Answers::default();
    let mut send = |case: &str, topic: &str, batch: Batch, expected: Option<ResponseError>| {
        let response = Produce::to(topic).call(&mut connection, batch.encode());
        answers.add(case, response.error_code, expected);
        response
    };

    let large = |size| Batch { values: vec![Some(vec![b'x'; size])], ..Batch::default() };
    send("a batch below max.message.bytes", "small", large(100), None);
    send("a batch above max.message.bytes", "small", large(201), Some(MessageTooLarge));
    send("a batch above the default of 1 MiB", "defaults", large(1_048_589), Some(MessageTooLarge));

    let at = |timestamp| Batch { base_timestamp: timestamp, ..Batch::default() };
    let now = base_ms() + HOUR_MS;
    send("a record of an hour ago", "defaults", at(now - HOUR_MS), None);
    let response = send("a record of tomorrow", "defaults", at(now + 24 * HOUR_MS), Some(InvalidTimestamp));
    let named: Vec<_> = response.record_errors.iter().map(|error| error.batch_index).collect();
    assert_eq!(named, [0], "the answer names the record");
    send("a record without a time", "defaults", at(-1), None);
    send("an old record where that is refused", "recent", at(now - HOUR_MS), Some(InvalidTimestamp));

    send("a record with a key to a compacted topic", "compacted", Batch::default(), None);
    let keyless = Batch { key: None, values: vec![Some(b"v".to_vec()); 2], ..Batch::default() };
    let response = send("records without keys to a compacted topic", "compacted", keyless, Some(InvalidRecord));
    let named: Vec<_> = response.record_errors.iter().map(|error| error.batch_index).collect();
    assert_eq!(named, [0, 1], "the answer names the records");
    answers.check();
}

#[test]
fn produce_requests_to_nowhere() {
    let broker = Broker::start(&[("auto.create.topics.enable", "false")]);
    let mut connection = Connection::open(&broker.bootstrap());
    let topic_id = create(&mut connection, "there", &[]);
    let mut answers = Answers::default();
    let mut send = |case: &str, produce: Produce, batch: Batch, expected: Option<ResponseError>| {
        answers.add(case, produce.code(&mut connection, &batch), expected);
    };
    let there = || Produce::to("there");
    let by_id = |topic_id| Produce { version: PRODUCE_BY_ID, topic_id, ..Produce::to("") };

    send("an unknown topic", Produce::to("absent"), Batch::default(), Some(UnknownTopicOrPartition));
    send("a topic name that is not allowed", Produce::to("a/b"), Batch::default(), Some(UnknownTopicOrPartition));
    send("an empty topic name", Produce::to(""), Batch::default(), Some(UnknownTopicOrPartition));
    send("an unknown partition", Produce { partition: 1, ..there() }, Batch::default(), Some(UnknownTopicOrPartition));
    send("a negative partition", Produce { partition: -1, ..there() }, Batch::default(), Some(UnknownTopicOrPartition));
    send("a known topic id", by_id(topic_id), Batch::default(), None);
    send("an unknown topic id", by_id(Uuid::from_u128(7)), Batch::default(), Some(UnknownTopicId));
    send("the zero topic id", by_id(Uuid::nil()), Batch::default(), Some(UnknownTopicId));
    send("acks=2", Produce { acks: 2, ..there() }, Batch::default(), Some(InvalidRequiredAcks));
    let zstd = Batch { attributes: ZSTD, ..Batch::default() };
    send(
        "zstd from a version that lacks it",
        Produce { version: 6, ..there() },
        zstd,
        Some(UnsupportedCompressionType),
    );
}

#[test]
fn topic_names_that_are_not_allowed() {
    let broker = Broker::start(&[]);
    let mut connection = Connection::open(&broker.bootstrap());
    let mut answers = Answers::default();
    for name in ["", ".", "..", "a b", "a/b", "\u{e9}", &"x".repeat(250)] {
        let topic = MetadataRequestTopic::default().with_name(Some(topic_name(name)));
        let request = MetadataRequest::default().with_topics(Some(vec![topic])).with_allow_auto_topic_creation(true);
        let code = connection.call(&request, 9).topics[0].error_code;
        answers.add(&format!("Metadata of {name:?}"), code, Some(InvalidTopicException));

        let topic = CreatableTopic::default().with_name(topic_name(name)).with_num_partitions(1);
        let request = CreateTopicsRequest::default().with_topics(vec![topic.with_replication_factor(1)]);
        let code = connection.call(&request, 7).topics[0].error_code;
        answers.add(&format!("CreateTopics of {name:?}"), code, Some(InvalidTopicException));
    }
    answers.check();
}

fn fetch(connection: &mut Connection, topic: &str, partition: FetchPartition) -> PartitionData {
    let topic = FetchTopic::default().with_topic(topic_name(topic));
    fetch_topic(connection, FETCH_BY_NAME, topic, partition).responses[0].partitions[0].clone()
}

fn fetch_topic(c: &mut Connection, version: i16, topic: FetchTopic, partition: FetchPartition) -> FetchResponse {
    let request = FetchRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_max_bytes(1 << 20)
        .with_session_epoch(-1)
        .with_topics(vec![topic.with_partitions(vec![partition])]);
    c.call(&request, version)
}

fn from(offset: i64) -> FetchPartition {
    FetchPartition::default()
        .with_fetch_offset(offset)
        .with_current_leader_epoch(-1)
        .with_last_fetched_epoch(-1)
        .with_partition_max_bytes(1 << 20)
}

#[test]
fn fetches_of_what_is_not_there() {
    let broker = Broker::start(&[]);
    let mut connection = Connection::open(&broker.bootstrap());
    let topic_id = create(&mut connection, "there", &[]);
    assert_eq!(Produce::to("there").code(&mut connection, &Batch::default()), 0);
    let mut answers = Answers::default();

    let mut read = |case: &str, topic: &str, partition: FetchPartition, expected: Option<ResponseError>| {
        answers.add(case, fetch(&mut connection, topic, partition).error_code, expected);
    };
    read("the beginning", "there", from(0), None);
    read("the end", "there", from(1), None);
    read("past the end", "there", from(2), Some(OffsetOutOfRange));
    read("far past the end", "there", from(i64::MAX), Some(OffsetOutOfRange));
    read("a negative offset", "there", from(-1), Some(OffsetOutOfRange));
    read("an unknown topic", "absent", from(0), Some(UnknownTopicOrPartition));
    read("an unknown partition", "there", from(0).with_partition(1), Some(UnknownTopicOrPartition));
    read("a negative partition", "there", from(0).with_partition(-1), Some(UnknownTopicOrPartition));
    read("an epoch to come", "there", from(0).with_current_leader_epoch(9), Some(UnknownLeaderEpoch));

    let empty = fetch(&mut connection, "there", from(1));
    assert_eq!(empty.records.as_ref().map(Bytes::len), Some(0), "nothing new is empty, not null");
    assert_eq!((empty.high_watermark, empty.last_stable_offset, empty.log_start_offset), (1, 1, 0));

    for (case, id, expected) in [
        ("a known topic id", topic_id, None),
        ("an unknown topic id", Uuid::from_u128(7), Some(UnknownTopicId)),
        ("the zero topic id", Uuid::nil(), Some(UnknownTopicId)),
    ] {
        let topic = FetchTopic::default().with_topic_id(id);
        let response = fetch_topic(&mut connection, FETCH_BY_ID, topic, from(0));
        answers.add(case, response.responses[0].partitions[0].error_code, expected);
    }

    let session = |id, epoch| FetchRequest::default().with_session_id(id).with_session_epoch(epoch);
    let code = connection.call(&session(12345, 1), FETCH_BY_ID).error_code;
    answers.add("an unknown session", code, Some(FetchSessionIdNotFound));
    let topic = FetchTopic::default().with_topic_id(topic_id).with_partitions(vec![from(1)]);
    let opened = connection.call(&session(0, 0).with_topics(vec![topic]), FETCH_BY_ID);
    assert_ne!(opened.session_id, 0, "a session is opened");
    let code = connection.call(&session(opened.session_id, 5), FETCH_BY_ID).error_code;
    answers.add("a session's epoch out of turn", code, Some(InvalidFetchSessionEpoch));
    answers.check();
}

#[test]
fn idempotent_producers() {
    let broker = Broker::start(&[]);
    let mut connection = Connection::open(&broker.bootstrap());
    create(&mut connection, "sequences", &[]);
    let request = InitProducerIdRequest::default()
        .with_transactional_id(None)
        .with_transaction_timeout_ms(60_000)
        .with_producer_id((-1).into())
        .with_producer_epoch(-1);
    let init = |connection: &mut Connection| {
        let mut response = connection.call(&request, 4);
        // Apache Kafka fetches its first block of ids when the first producer asks.
        while ResponseError::try_from_code(response.error_code) == Some(CoordinatorLoadInProgress) {
            std::thread::sleep(Duration::from_millis(20));
            response = connection.call(&request, 4);
        }
        assert_eq!(response.error_code, 0);
        (response.producer_id.0, response.producer_epoch)
    };
    let (id, epoch) = init(&mut connection);
    let (other_id, _) = init(&mut connection);
    assert_ne!(id, other_id, "each gets its own id");

    let mut answers = Answers::default();
    let mut send = |case: &str, batch: Batch, expected: Result<i64, ResponseError>| {
        let response = Produce::to("sequences").call(&mut connection, batch.encode());
        answers.add(case, response.error_code, expected.err());
        if let Ok(offset) = expected
            && response.base_offset != offset
        {
            answers.wrong.push(format!("{case}: base offset {}, expected {offset}", response.base_offset));
        }
    };
    let batch = |sequence, count| Batch::idempotent(id, epoch, sequence, count);
    send("the first batch", batch(0, 2), Ok(0));
    send("the first batch again", batch(0, 2), Ok(0));
    send("a gap", batch(3, 1), Err(OutOfOrderSequenceNumber));
    send("an overlap", batch(1, 2), Err(OutOfOrderSequenceNumber));
    for sequence in 2..8 {
        send("the next batch", batch(sequence, 1), Ok(i64::from(sequence)));
    }
    send("one of the last five again", batch(3, 1), Ok(3));
    send("the next epoch in mid-sequence", Batch::idempotent(id, epoch + 1, 8, 1), Err(OutOfOrderSequenceNumber));
    send("the next epoch from zero", Batch::idempotent(id, epoch + 1, 0, 1), Ok(8));
    send("the old epoch", batch(8, 1), Err(InvalidProducerEpoch));
    send("an unknown producer in mid-sequence", Batch::idempotent(other_id, 0, 41, 1), Ok(9));
    send("its next batch", Batch::idempotent(other_id, 0, 42, 1), Ok(10));

    let wrapping = |sequence, count| Batch::idempotent(77_000_000, 0, sequence, count);
    send("a batch up to the last sequence", wrapping(i32::MAX - 1, 2), Ok(11));
    send("a batch from sequence 0 after the last", wrapping(0, 1), Ok(13));
    let across = |sequence, count| Batch::idempotent(78_000_000, 0, sequence, count);
    send("a batch across the last sequence", across(i32::MAX, 3), Ok(14));
    send("a batch after the wrap", across(2, 1), Ok(17));
    send("a negative epoch", Batch::idempotent(id, -1, 0, 1), Err(InvalidProducerEpoch));
    answers.check();

    // To Apache Kafka a batch before the last five is out of order; clients take the name it used to have for success.
    let late = Batch::idempotent(other_id, 0, 41, 1);
    for sequence in 43..49 {
        let next = Batch::idempotent(other_id, 0, sequence, 1);
        assert_eq!(Produce::to("sequences").code(&mut connection, &next), 0);
    }
    let answer = ResponseError::try_from_code(Produce::to("sequences").code(&mut connection, &late));
    let fits = [OutOfOrderSequenceNumber, DuplicateSequenceNumber].map(Some).contains(&answer);
    assert!(fits, "one before the last five again: {answer:?}");
    assert_eq!(end_offset(&mut connection, "sequences"), 24);
}
