//! Clients in other languages: every acks with every codec, written and read back; Apache Kafka's tools read the files.

use compat_tests::broker::Broker;
use compat_tests::dump::dump_all;
use compat_tests::{clients, librdkafka, records};

const COUNT: u64 = 5_000;

/// Runs the program, then `after` with the bootstrap address and the time of record 0.
fn matrix(prefix: &str, program: impl Fn(&[&str]), after: impl Fn(&str, i64)) {
    let mut broker = Broker::start(&[("num.partitions", "3")]);
    let (bootstrap, base_ms) = (broker.bootstrap(), records::base_ms());
    program(&[&bootstrap, &base_ms.to_string(), &COUNT.to_string(), prefix]);
    after(&bootstrap, base_ms);
    broker.stop();
    dump_all(&broker.data_dir());
}

#[test]
fn kafka_python() {
    matrix("python", |arguments| clients::python("matrix.py", arguments), |_, _| ());
}

#[test]
fn franz_go() {
    matrix("go", clients::go, |bootstrap, base_ms| {
        for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
            for acks in ["0", "1", "all"] {
                librdkafka::verify(bootstrap, &format!("go-{codec}-{acks}"), base_ms, COUNT);
            }
        }
    });
}

#[test]
fn kafkajs() {
    matrix(
        "node",
        |arguments| clients::node("matrix.js", arguments),
        |bootstrap, base_ms| {
            for codec in ["none", "gzip"] {
                for acks in ["-1", "1", "0"] {
                    librdkafka::verify(bootstrap, &format!("node-{codec}-{acks}"), base_ms, COUNT);
                }
            }
        },
    );
}
