//! librdkafka: every acks with every codec, read back by itself and by kafka-clients.

use compat_tests::broker::Broker;
use compat_tests::clients::{JavaClient, java};
use compat_tests::dump::dump_all;
use compat_tests::librdkafka;
use compat_tests::records::{self, HeaderValues};

const PARTITIONS: u64 = 3;
const COUNT: u64 = 5_000;

#[test]
fn every_codec_and_acks() {
    let mut broker = Broker::start(&[("num.partitions", "3")]);
    let (bootstrap, base_ms) = (broker.bootstrap(), records::base_ms());
    let mut topics = Vec::new();
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        for acks in ["0", "1", "all"] {
            let topic = format!("rdkafka-{codec}-{acks}");
            let idempotence = if acks == "all" { "true" } else { "false" };
            let settings = [("acks", acks), ("compression.codec", codec), ("enable.idempotence", idempotence)];
            librdkafka::produce(&bootstrap, &topic, &settings, PARTITIONS, base_ms, COUNT);
            librdkafka::verify(&bootstrap, &topic, base_ms, COUNT, HeaderValues::Any);
            topics.push(topic);
        }
    }
    let (base, count) = (base_ms.to_string(), COUNT.to_string());
    let mut arguments = vec![bootstrap.as_str(), &base, &count];
    arguments.extend(topics.iter().map(String::as_str));
    java(JavaClient::V4_3_1, "Verify", &arguments);
    broker.stop();
    dump_all(&broker.data_dir());
}
