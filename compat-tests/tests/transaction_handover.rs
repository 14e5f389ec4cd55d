//! A directory with open and prepared transactions goes from Ottla to Apache Kafka and back: what is open is ended by its
//! client or by another, whichever broker it began with, and what was decided is carried out by the one that finds it.
//!
//! That Kafka does so is due to how Ottla records its leadership (docs/decisions/0005-recorded-leaders.md).

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use compat_tests::broker::Broker;
use compat_tests::broker::Kind::{self, Kafka, Ottla};
use compat_tests::connection::Connection;
use compat_tests::dump::dump_all;
use compat_tests::librdkafka;
use compat_tests::transactional::{Generation, TransactionalProducer};
use kafka_protocol::messages::{DescribeTransactionsRequest, TransactionalId};
use kafka_protocol::protocol::StrBytes;
use rdkafka::producer::Producer;

const TOPIC: &str = "t";
const PARTITIONS: i32 = 2;
const PATIENCE: Duration = Duration::from_secs(30);
const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(1500);
const GROUP: &str = "g";

const SETTINGS: &[(&str, &str)] = &[
    ("num.partitions", "2"),
    ("transaction.state.log.num.partitions", "1"),
    ("transaction.abort.timed.out.transaction.cleanup.interval.ms", "500"),
];

#[test]
fn from_ottla_to_kafka_and_back() {
    hand_over(&[Ottla, Kafka, Ottla]);
}

#[test]
fn what_ottla_has_decided_is_carried_out_before_kafka_takes_over() {
    let mut broker = Broker::start_as(Ottla, SETTINGS);
    let bootstrap = broker.bootstrap();
    librdkafka::await_partitions(librdkafka::producer(&bootstrap, &[]).client(), TOPIC, PARTITIONS as u64);
    let (mut producers, mut expected) = (Vec::new(), BTreeSet::new());
    for generation in [Generation::First, Generation::Second] {
        for number in 0..10 {
            let name = format!("decided-{generation:?}-{number}");
            producers.push(open(&bootstrap, generation, &name, LONG));
            expected.extend(values(&name).into_values().flatten());
        }
    }
    producers.iter_mut().for_each(|producer| producer.end(true).unwrap());
    broker.stop();
    dump_all(&broker.data_dir());
    broker.restart_as(Kafka);
    let found = librdkafka::committed_values(&bootstrap, TOPIC, PARTITIONS, expected.len());
    assert_eq!(found, expected);
}

/// Each of `kinds` but the last begins transactions of both generations, and the next one ends them.
fn hand_over(kinds: &[Kind]) {
    let mut broker = Broker::start_as(kinds[0], SETTINGS);
    let bootstrap = broker.bootstrap();
    librdkafka::await_partitions(librdkafka::producer(&bootstrap, &[]).client(), TOPIC, PARTITIONS as u64);
    let mut expected = BTreeSet::new();
    for (round, next) in kinds[1..].iter().enumerate() {
        for generation in [Generation::First, Generation::Second] {
            let name = |what: &str| format!("{what}-{generation:?}-{round}");
            // The first of two ends keeps its place in front of the last one, whose end is taken back.
            let mut before = open(&bootstrap, generation, &name("before"), LONG);
            let mut after = open(&bootstrap, generation, &name("after"), LONG);
            before.send(TOPIC, &values(&name("more"))).unwrap();
            let timeout = if *next == Ottla { SHORT } else { LONG };
            drop(open(&bootstrap, generation, &name("left"), timeout));
            let mut decided = open(&bootstrap, generation, &name("decided"), LONG);
            let offset = 10 * (round as i64 + 1) + generation as i64;
            decided.send_offset(GROUP, TOPIC, 0, offset).unwrap();
            decided.end(true).unwrap();
            await_complete(&bootstrap, &name("decided"));

            broker.kill();
            take_back_the_end(&broker.data_dir());
            broker.restart_as(*next);
            assert_eq!(before.remote().stable_offset(GROUP, TOPIC, 0), offset, "what was decided is carried out");
            before.send(TOPIC, &values(&name("still more"))).unwrap();
            before.end(true).unwrap();
            after.end(false).unwrap();
            if *next == Kafka {
                TransactionalProducer::start(&bootstrap, generation, &name("left"), LONG).unwrap();
            }
            for what in ["before", "more", "still more", "decided"] {
                expected.extend(values(&name(what)).into_values().flatten());
            }
            let found = librdkafka::committed_values(&bootstrap, TOPIC, PARTITIONS, expected.len());
            assert_eq!(found, expected, "{generation:?} with {next:?}");
            // They go on with the broker that they find.
            before.send(TOPIC, &values(&name("next"))).unwrap();
            before.end(true).unwrap();
            expected.extend(values(&name("next")).into_values().flatten());
            if generation == Generation::First {
                broker.stop();
                dump_all(&broker.data_dir());
                broker.restart_as(kinds[round]);
            }
        }
    }
    broker.stop();
    dump_all(&broker.data_dir());
}

fn open(bootstrap: &str, generation: Generation, id: &str, timeout: Duration) -> TransactionalProducer {
    let mut producer = TransactionalProducer::start(bootstrap, generation, id, timeout).unwrap();
    producer.send(TOPIC, &values(id)).unwrap();
    producer
}

/// One for each partition.
fn values(name: &str) -> BTreeMap<i32, Vec<String>> {
    (0..PARTITIONS).map(|partition| (partition, vec![format!("{name} {partition}")])).collect()
}

fn await_complete(bootstrap: &str, id: &str) {
    let mut connection = Connection::open(bootstrap);
    let id = TransactionalId(StrBytes::from_string(id.to_owned()));
    let request = DescribeTransactionsRequest::default().with_transactional_ids(vec![id]);
    let deadline = Instant::now() + PATIENCE;
    while &*connection.call(&request, 0).transaction_states[0].transaction_state != "CompleteCommit" {
        assert!(Instant::now() < deadline, "its markers are not written");
        sleep(Duration::from_millis(5));
    }
}

/// Removes the last batch of every log that the last transaction was in, as if the broker had been killed as soon as it
/// had decided: the markers, and what says that they are written.
fn take_back_the_end(data: &Path) {
    for partition in ["t-0", "t-1", "__consumer_offsets-0", "__transaction_state-0"] {
        let path = data.join(partition).join("00000000000000000000.log");
        let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
        let last = last_batch(&file);
        let mut attributes = [0; 2];
        file.read_exact_at(&mut attributes, last + 21).unwrap();
        let is_control = attributes[1] & 0x20 != 0;
        assert_eq!(is_control, partition != "__transaction_state-0", "{partition} ends with what is taken back");
        file.set_len(last).unwrap();
    }
}

/// Its position. Reserved space may follow it.
fn last_batch(file: &File) -> u64 {
    let (mut position, mut last, mut head) = (0, 0, [0; 12]);
    while file.read_exact_at(&mut head, position).is_ok() {
        let length = u32::from_be_bytes([head[8], head[9], head[10], head[11]]);
        if length == 0 {
            break;
        }
        last = position;
        position += 12 + u64::from(length);
    }
    last
}
