//! Transactions: commit, abort, fencing, timeouts, offsets in transactions, crashes; with clients of both protocols
//! (kafka-clients 4.3.1 raises its epoch with every transaction, 2.8.2 does not).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use compat_tests::broker::Broker;
use compat_tests::clients::{JavaClient, go, java, java_with_tools, python};
use compat_tests::connection::Connection;
use compat_tests::dump::dump_all;
use compat_tests::librdkafka::{self, Acks};
use compat_tests::printed::compare;
use compat_tests::transactional::{Generation, TransactionalProducer};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::TxnOffsetCommitRequest;
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::protocol::StrBytes;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseRecord, Producer, ThreadedProducer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

const PATIENCE: Duration = Duration::from_secs(30);
const PARTITIONS: i32 = 3;

const ALL: [&str; 5] = ["outcomes", "fencing", "timeout", "transform", "many"];

fn broker() -> Broker {
    Broker::start(&[
        ("num.partitions", "3"),
        ("offsets.topic.num.partitions", "5"),
        ("transaction.state.log.num.partitions", "5"),
        ("transaction.abort.timed.out.transaction.cleanup.interval.ms", "500"),
    ])
}

fn run(broker: &Broker, client: JavaClient, parts: &[&str]) {
    java(client, "Transactions", &[&[&*broker.bootstrap(), "t"], parts].concat());
}

fn all(client: JavaClient) {
    let mut broker = broker();
    run(&broker, client, &ALL);
    broker.stop();
    dump_all(&broker.data_dir());
}

#[test]
fn java_with_4_3_1() {
    all(JavaClient::V4_3_1);
}

#[test]
fn java_with_2_8_2() {
    all(JavaClient::V2_8_2);
}

fn survives(client: JavaClient, stop: impl Fn(&mut Broker)) {
    let mut broker = broker();
    run(&broker, client, &["leave"]);
    stop(&mut broker);
    broker.restart();
    run(&broker, client, &["comeback"]);
}

#[test]
fn what_is_open_when_the_broker_dies_is_aborted_when_its_producer_comes_back() {
    survives(JavaClient::V4_3_1, Broker::kill);
    survives(JavaClient::V2_8_2, Broker::kill);
}

#[test]
fn a_transaction_stays_open_across_a_clean_restart() {
    survives(JavaClient::V4_3_1, Broker::stop);
}

#[test]
fn administrators_see_transactions_and_end_those_that_hang() {
    let broker = broker();
    java(JavaClient::V4_3_1, "TransactionsAdmin", &[&broker.bootstrap()]);
}

/// One that has written to a partition that its coordinator does not know of hangs there.
#[test]
fn kafka_transactions_prints_what_it_prints_with_kafka() {
    let broker = Broker::start(&[
        ("num.partitions", "3"),
        ("transaction.state.log.num.partitions", "1"),
        ("transaction.partition.verification.enable", "false"),
    ]);
    let bootstrap = broker.bootstrap();
    librdkafka::await_partitions(librdkafka::producer(&bootstrap, &[]).client(), "t", PARTITIONS as u64);
    let begin = |id: &str, generation| TransactionalProducer::start(&bootstrap, generation, id, PATIENCE).unwrap();
    let value = |partition| (partition, vec!["v".to_owned()]);
    begin("hanging", Generation::First).write("t", &BTreeMap::from([value(1)])).unwrap();
    let mut done = begin("done", Generation::First);
    done.send("t", &BTreeMap::from([value(0), value(1)])).unwrap();
    done.end(true).unwrap();
    begin("open", Generation::Second).send("t", &BTreeMap::from([value(0), value(2)])).unwrap();
    compare(&java_with_tools("TransactionTool", &[&bootstrap]), "transaction_tool.txt");
}

#[test]
fn kafka_python() {
    let broker = broker();
    python("transactions.py", &["kafka-python", &broker.bootstrap(), "t"]);
}

#[test]
fn confluent_kafka_python() {
    let broker = broker();
    python("transactions.py", &["confluent", &broker.bootstrap(), "t"]);
}

#[test]
fn franz_go() {
    let broker = broker();
    go(&["transactions", &broker.bootstrap(), "t"]);
}

fn transactional(broker: &Broker, id: &str) -> ThreadedProducer<Acks> {
    let producer = librdkafka::producer(&broker.bootstrap(), &[("transactional.id", id)]);
    librdkafka::await_partitions(producer.client(), "t", PARTITIONS as u64);
    producer.init_transactions(PATIENCE).unwrap();
    producer
}

fn send(producer: &ThreadedProducer<Acks>, partition: i32, value: &str) {
    let value = value.as_bytes().to_vec();
    let mut record: BaseRecord<'_, Vec<u8>, Vec<u8>, Box<u64>> = BaseRecord::with_opaque_to("t", Box::new(0));
    record.payload = Some(&value);
    librdkafka::send(producer, record.partition(partition));
}

#[test]
fn librdkafka_commits_aborts_and_is_fenced() {
    let broker = broker();
    let producer = transactional(&broker, "r");
    let mut expected = BTreeSet::new();
    for round in 0..6 {
        producer.begin_transaction().unwrap();
        let values: Vec<String> = (0..30).map(|i| format!("{round}-{i}")).collect();
        values.iter().zip(0..).for_each(|(value, i)| send(&producer, i % PARTITIONS, value));
        if round % 3 == 1 {
            producer.abort_transaction(PATIENCE).unwrap();
        } else {
            producer.commit_transaction(PATIENCE).unwrap();
            expected.extend(values);
        }
    }
    producer.begin_transaction().unwrap();
    send(&producer, 0, "zombie");
    let next = transactional(&broker, "r");
    next.begin_transaction().unwrap();
    send(&next, 0, "next");
    next.commit_transaction(PATIENCE).unwrap();
    assert!(producer.commit_transaction(PATIENCE).is_err(), "the zombie was fenced");
    expected.insert("next".to_owned());
    assert_eq!(librdkafka::committed_values(&broker.bootstrap(), "t", PARTITIONS, expected.len()), expected);
}

#[test]
fn librdkafka_commits_offsets_in_transactions() {
    let broker = broker();
    let producer = transactional(&broker, "r");
    let consumer: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", broker.bootstrap()).set("group.id", "g").create().unwrap();
    for (offset, commit, expected) in [(5, true, 15), (9, false, 15), (7, true, 21)] {
        producer.begin_transaction().unwrap();
        send(&producer, 0, &offset.to_string());
        let mut offsets = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            offsets.add_partition_offset("t", partition, Offset::Offset(offset)).unwrap();
        }
        let group = consumer.group_metadata().unwrap();
        producer.send_offsets_to_transaction(&offsets, &group, PATIENCE).unwrap();
        match commit {
            true => producer.commit_transaction(PATIENCE).unwrap(),
            false => producer.abort_transaction(PATIENCE).unwrap(),
        }
        assert_eq!(librdkafka::committed(&broker.bootstrap(), "t", "g", PARTITIONS as u64), expected);
    }
}

#[test]
fn offsets_in_a_transaction_have_no_coordinator_before_a_client_has_looked_for_it() {
    let broker = broker();
    librdkafka::await_partitions(librdkafka::producer(&broker.bootstrap(), &[]).client(), "t", PARTITIONS as u64);
    let producer = TransactionalProducer::start(&broker.bootstrap(), Generation::Second, "early", PATIENCE).unwrap();
    let (producer_id, epoch) = producer.producer();
    let mut connection = Connection::open(&broker.bootstrap());
    let text = StrBytes::from_static_str;
    let partition = TxnOffsetCommitRequestPartition::default().with_committed_offset(1);
    let topic = TxnOffsetCommitRequestTopic::default().with_name(text("t").into()).with_partitions(vec![partition]);
    let request = TxnOffsetCommitRequest::default()
        .with_transactional_id(text("early").into())
        .with_group_id(text("early").into())
        .with_producer_id(producer_id.into())
        .with_producer_epoch(epoch)
        .with_generation_id(-1)
        .with_topics(vec![topic]);
    for version in [3, 5] {
        let code = connection.call(&request, version).topics[0].partitions[0].error_code;
        assert_eq!(code, ResponseError::CoordinatorNotAvailable.code(), "version {version}");
    }
}
