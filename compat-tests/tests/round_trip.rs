//! One directory that goes back and forth between Apache Kafka and Ottla: each serves what the other wrote and writes
//! more, and Apache Kafka's tools find nothing wrong with the files in between.

use std::process::Command;

use compat_tests::broker::Kind::{self, Kafka, Ottla};
use compat_tests::broker::{Broker, ottla_binary};
use compat_tests::clients::{JavaClient, java};
use compat_tests::dump::dump_all;

/// Small, so that there are snapshots, cut logs and indexes.
const SETTINGS: &[(&str, &str)] = &[
    ("auto.create.topics.enable", "false"),
    ("log.cleaner.enable", "true"),
    ("metadata.log.max.record.bytes.between.snapshots", "1000"),
    ("metadata.log.segment.ms", "2000"),
    ("metadata.max.retention.bytes", "2000"),
    ("log.retention.check.interval.ms", "1000"),
    ("transaction.state.log.num.partitions", "2"),
    ("log.index.interval.bytes", "1000"),
];

fn check_and_write(broker: &Broker, round: usize) {
    let ledger = broker.scratch_dir().join("ledger");
    let kind = if broker.kind() == Kafka { "kafka" } else { "ottla" };
    let ledger = ledger.to_str().expect("a path in UTF-8");
    java(JavaClient::V4_3_1, "RoundTrip", &[&broker.bootstrap(), ledger, &round.to_string(), kind]);
}

/// The brokers in turn; `end` ends all but the last.
fn rounds(kinds: &[Kind], end: impl Fn(&mut Broker)) {
    let mut broker = Broker::start_as(kinds[0], SETTINGS);
    for (round, kind) in kinds.iter().enumerate() {
        if round > 0 {
            end(&mut broker);
            broker.restart_as(*kind);
        }
        check_and_write(&broker, round);
    }
    stop(&mut broker);
    let metadata = std::fs::read_dir(broker.data_dir().join("__cluster_metadata-0")).unwrap();
    let first =
        metadata.map(|entry| entry.unwrap().file_name()).filter(|name| name.to_string_lossy().ends_with(".log"));
    assert!(first.min().expect("a segment") > *"00000000000000000000.log", "the log has been cut behind a snapshot");
}

fn stop(broker: &mut Broker) {
    broker.stop();
    dump_all(&broker.data_dir());
    verify(broker);
}

fn kill(broker: &mut Broker) {
    broker.kill();
    verify(broker);
}

/// Ottla's own tool has nothing to say, whoever wrote the files.
fn verify(broker: &Broker) {
    let output = Command::new(ottla_binary()).arg("verify").arg(broker.data_dir()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn stopped_and_started_as_the_other() {
    rounds(&[Kafka, Ottla, Kafka, Ottla, Kafka, Ottla, Kafka], stop);
}

#[test]
fn a_directory_that_ottla_made() {
    rounds(&[Ottla, Kafka, Ottla], stop);
}

#[test]
fn killed_and_started_as_the_other() {
    rounds(&[Kafka, Ottla, Kafka, Ottla], kill);
}
