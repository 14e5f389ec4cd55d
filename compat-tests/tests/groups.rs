//! Consumer groups: members share a topic, one leaves, the other takes over, commits stay; with both protocols, and from
//! every client.

use compat_tests::broker::Broker;
use compat_tests::clients::{JavaClient, go, java, node, python};
use compat_tests::connection::Connection;
use compat_tests::dump::dump_all;
use compat_tests::{librdkafka, records};
use kafka_protocol::messages::ListGroupsRequest;

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

/// Of the protocol that the group's last members spoke: what a client falls back to without a word.
fn group_type(broker: &Broker, group: &str) -> String {
    let listed = Connection::open(&broker.bootstrap()).call(&ListGroupsRequest::default(), 5);
    let group = listed.groups.into_iter().find(|listed| &*listed.group_id.0 == group);
    group.map_or("none".to_owned(), |group| group.group_type.to_lowercase())
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
    librdkafka::share_group(&broker.bootstrap(), "t", "g", (PARTITIONS, COUNT), &librdkafka::CLASSIC);
    broker.kill();
    broker.restart();
    assert_eq!(librdkafka::committed(&broker.bootstrap(), "t", "g", PARTITIONS), COUNT as i64);
}

#[test]
fn librdkafka_with_the_consumer_protocol() {
    let mut broker = broker(&["uniform", "range"]);
    for assignor in ["uniform", "range"] {
        let settings = [&librdkafka::CONSUMER[..], &[("group.remote.assignor", assignor)]].concat();
        librdkafka::share_group(&broker.bootstrap(), assignor, assignor, (PARTITIONS, COUNT), &settings);
        assert_eq!(librdkafka::committed(&broker.bootstrap(), assignor, assignor, PARTITIONS), COUNT as i64);
        assert_eq!(group_type(&broker, assignor), "consumer");
    }
    broker.stop();
    dump_all(&broker.data_dir());
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
    let broker = broker(&["classic", "consumer"]);
    for (name, balancer) in [("classic", "client"), ("consumer", "server")] {
        let arguments = arguments(&broker, name);
        go(&[&["groups"], &arguments.each_ref().map(|text| &**text)[..], &[balancer]].concat());
        assert_eq!(librdkafka::committed(&broker.bootstrap(), name, name, PARTITIONS), COUNT as i64);
        assert_eq!(group_type(&broker, name), name);
    }
}

#[test]
fn kafkajs() {
    let broker = broker(&["node"]);
    node("groups.js", &arguments(&broker, "node").each_ref().map(|text| &**text));
    assert_eq!(librdkafka::committed(&broker.bootstrap(), "node", "node", PARTITIONS), COUNT as i64);
}
