//! kafka-clients, the newest and one of 2021: the tutorials' producer and consumer, the Admin client, and spring-kafka.

use compat_tests::broker::Broker;
use compat_tests::clients::{JavaClient, java, spring};
use compat_tests::dump::dump_all;
use compat_tests::librdkafka;
use compat_tests::records::{self, HeaderValues};

const COUNT: u64 = 50_000;

fn tutorial(client: JavaClient) {
    let mut broker = Broker::start(&[]);
    let base_ms = records::base_ms();
    let arguments = [&broker.bootstrap(), &base_ms.to_string(), &COUNT.to_string(), "first"];
    java(client, "Tutorial", &arguments);
    librdkafka::verify(&broker.bootstrap(), "first", base_ms, COUNT, HeaderValues::Any);

    broker.stop();
    dump_all(&broker.data_dir());
    broker.restart();
    java(client, "Verify", &arguments);
}

#[test]
fn tutorial_with_4_3_1() {
    tutorial(JavaClient::V4_3_1);
}

#[test]
fn tutorial_with_2_8_2() {
    tutorial(JavaClient::V2_8_2);
}

#[test]
fn admin() {
    let mut broker = Broker::start(&[("num.partitions", "3")]);
    java(JavaClient::V4_3_1, "AdminTour", &[&broker.bootstrap(), &records::base_ms().to_string()]);
    broker.stop();
    dump_all(&broker.data_dir());
}

#[test]
fn spring_kafka() {
    let mut broker =
        Broker::start(&[("offsets.topic.num.partitions", "3"), ("transaction.state.log.num.partitions", "3")]);
    spring("SpringTour", &[&broker.bootstrap()]);
    broker.stop();
    dump_all(&broker.data_dir());
}
