//! Clients in other languages: every acks with every codec, written and read back; librdkafka then reads it too.

use compat_tests::broker::Broker;
use compat_tests::dump::dump_all;
use compat_tests::records::{self, HeaderValues};
use compat_tests::{clients, librdkafka};

const COUNT: u64 = 5_000;

/// Runs the program, which fills the topics `prefix`-codec-acks.
fn matrix(program: impl Fn(&[&str]), prefix: &str, codecs: &[&str], acks: &[&str], values: HeaderValues) {
    let mut broker = Broker::start(&[("num.partitions", "3")]);
    let (bootstrap, base_ms) = (broker.bootstrap(), records::base_ms());
    program(&[&bootstrap, &base_ms.to_string(), &COUNT.to_string(), prefix]);
    for codec in codecs {
        for acks in acks {
            librdkafka::verify(&bootstrap, &format!("{prefix}-{codec}-{acks}"), base_ms, COUNT, values);
        }
    }
    broker.stop();
    dump_all(&broker.data_dir());
}

#[test]
fn kafka_python() {
    let program = |arguments: &[&str]| clients::python("matrix.py", arguments);
    let codecs = ["none", "gzip", "snappy", "lz4", "zstd"];
    matrix(program, "python", &codecs, &["0", "1", "all"], HeaderValues::NeverNull);
}

#[test]
fn franz_go() {
    let codecs = ["none", "gzip", "snappy", "lz4", "zstd"];
    matrix(clients::go, "go", &codecs, &["0", "1", "all"], HeaderValues::Any);
}

#[test]
fn kafkajs() {
    let program = |arguments: &[&str]| clients::node("matrix.js", arguments);
    matrix(program, "node", &["none", "gzip"], &["-1", "1", "0"], HeaderValues::NeverNull);
}
