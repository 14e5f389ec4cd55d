//! Consumer groups: members share a topic, one leaves, the other takes over, commits stay; with both protocols, and from
//! every client.

use compat_tests::broker::Broker;
use compat_tests::clients::{JavaClient, go, java, node, python};
use compat_tests::dump::dump_all;
use compat_tests::{librdkafka, records};

const COUNT: u64 = 1_200;
const PARTITIONS: u64 = 6;

/// A broker with a topic for each of `topics`.
fn broker(topics: &[&str]) -> Broker {
    let broker = Broker::start(&[
        ("num.partitions", "6"),
        ("offsets.topic.num.partitions", "5"),
        // A rebalance takes heartbeats.
        ("group.consumer.heartbeat.interval.ms", "500"),
        ("group.consumer.min.heartbeat.interval.ms", "500"),
    ]);
    for topic in topics {
        librdkafka::produce(&broker.bootstrap(), topic, &[], PARTITIONS, records::base_ms(), COUNT);
    }
    broker
}

fn share(broker: &Broker, client: JavaClient, name: &str, settings: &[&str]) {
    let (bootstrap, count, partitions) = (broker.bootstrap(), COUNT.to_string(), PARTITIONS.to_string());
    java(client, "Groups", &[&[&*bootstrap, name, &count, name, &partitions], settings].concat());
}

#[test]
fn java_with_the_classic_protocol() {
    let cooperative = "partition.assignment.strategy=org.apache.kafka.clients.consumer.CooperativeStickyAssignor";
    let mut broker = broker(&["eager", "cooperative", "static", "old", "pattern"]);
    let share = |client, name, settings: &[&str]| {
        share(&broker, client, name, &[&["heartbeat.interval.ms=500"], settings].concat());
    };
    share(JavaClient::V4_3_1, "eager", &[]);
    share(JavaClient::V4_3_1, "cooperative", &[cooperative]);
    share(JavaClient::V4_3_1, "static", &["static=true", "session.timeout.ms=6000"]);
    share(JavaClient::V4_3_1, "pattern", &["regex=client"]);
    share(JavaClient::V2_8_2, "old", &[]);
    broker.stop();
    dump_all(&broker.data_dir());
}

#[test]
fn java_with_the_consumer_protocol() {
    let consumer = "group.protocol=consumer";
    let mut broker = broker(&["uniform", "range", "pattern"]);
    share(&broker, JavaClient::V4_3_1, "uniform", &[consumer]);
    share(&broker, JavaClient::V4_3_1, "range", &[consumer, "group.remote.assignor=range"]);
    share(&broker, JavaClient::V4_3_1, "pattern", &[consumer, "regex=server"]);
    broker.stop();
    dump_all(&broker.data_dir());
}

#[test]
fn commits_survive_kill_9() {
    let mut broker = broker(&["t"]);
    librdkafka::share_group(&broker.bootstrap(), "t", "g", PARTITIONS, COUNT);
    broker.kill();
    broker.restart();
    assert_eq!(librdkafka::committed(&broker.bootstrap(), "t", "g", PARTITIONS), COUNT as i64);
}

fn arguments(broker: &Broker, topic: &str) -> [String; 5] {
    [broker.bootstrap(), topic.to_owned(), COUNT.to_string(), topic.to_owned(), PARTITIONS.to_string()]
}

#[test]
fn kafka_python() {
    let broker = broker(&["python"]);
    python("groups.py", &arguments(&broker, "python").each_ref().map(|text| &**text));
    assert_eq!(librdkafka::committed(&broker.bootstrap(), "python", "python", PARTITIONS), COUNT as i64);
}

#[test]
fn franz_go() {
    let broker = broker(&["go"]);
    let arguments = arguments(&broker, "go");
    go(&[&["groups"], &arguments.each_ref().map(|text| &**text)[..]].concat());
    assert_eq!(librdkafka::committed(&broker.bootstrap(), "go", "go", PARTITIONS), COUNT as i64);
}

#[test]
fn kafkajs() {
    let broker = broker(&["node"]);
    node("groups.js", &arguments(&broker, "node").each_ref().map(|text| &**text));
    assert_eq!(librdkafka::committed(&broker.bootstrap(), "node", "node", PARTITIONS), COUNT as i64);
}
