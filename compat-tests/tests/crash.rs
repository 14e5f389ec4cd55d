//! Idempotent producers go on while the broker is stopped and killed and started again: what was acknowledged is there
//! exactly once, in order, and no offset is missing.
//!
//! `COMPAT_CRASH_CYCLES` changes the number of restarts: Apache Kafka takes longer for each.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::Write;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use compat_tests::broker::Broker;
use compat_tests::clients::{self, JavaClient};
use compat_tests::dump::dump_all;
use compat_tests::librdkafka::{self, Ack};
use rdkafka::message::Message;
use rdkafka::producer::{BaseRecord, Producer};

const TOPIC: &str = "crash";
const PARTITIONS: i32 = 3;

/// Sends "rdkafka n" until told to stop; returns the acknowledgements.
fn rdkafka_producer(bootstrap: &str, stop: &AtomicBool) -> Vec<Ack> {
    let settings = [
        ("enable.idempotence", "true"),
        ("reconnect.backoff.ms", "20"),
        ("reconnect.backoff.max.ms", "200"),
        ("retry.backoff.ms", "20"),
        ("message.timeout.ms", "120000"),
    ];
    let producer = librdkafka::producer(bootstrap, &settings);
    let mut sent = 0;
    while !stop.load(Ordering::Relaxed) {
        let mut record = BaseRecord::with_opaque_to(TOPIC, Box::new(sent)).partition((sent % PARTITIONS as u64) as i32);
        let payload = format!("rdkafka {sent}").into_bytes();
        record.payload = Some(&payload);
        librdkafka::send(&producer, record);
        sent += 1;
        if sent % 4 == 0 {
            thread::sleep(Duration::from_millis(1));
        }
    }
    producer.flush(Duration::from_secs(120)).unwrap();
    let failed = producer.context().failed.lock().unwrap();
    assert!(failed.is_empty(), "{} records failed, the first: {:?}", failed.len(), failed.first());
    let acked = std::mem::take(&mut *producer.context().acked.lock().unwrap());
    assert_eq!(acked.len() as u64, sent, "every record is acknowledged in the end");
    acked
}

/// The acknowledgements that the Java program wrote down.
fn java_acks(file: &Path) -> Vec<Ack> {
    let parse = |line: &str| {
        let mut fields = line.split(' ').map(|field| field.parse::<i64>().unwrap());
        let mut next = || fields.next().expect("three fields");
        Ack { partition: next() as i32, offset: next(), number: next() as u64 }
    };
    fs::read_to_string(file).unwrap().lines().map(parse).collect()
}

/// Checks that partition and offset of each acknowledgement hold its record, that each record is there once, that each
/// producer's records are in order, and that every offset is taken.
fn check(bootstrap: &str, acks: &HashMap<&str, Vec<Ack>>) {
    let total: usize = acks.values().map(Vec::len).sum();
    let mut stored: HashMap<(i32, i64), String> = HashMap::new();
    let mut seen = HashSet::new();
    let mut last: HashMap<(i32, String), u64> = HashMap::new();
    let mut next = vec![0; PARTITIONS as usize];
    librdkafka::read_all(bootstrap, TOPIC, total as u64, |message| {
        let partition = message.partition();
        let value = String::from_utf8(message.payload().expect("a value").to_vec()).unwrap();
        assert_eq!(message.offset(), next[partition as usize], "offsets of partition {partition} are dense");
        next[partition as usize] += 1;
        let (producer, number) = value.split_once(' ').expect("a producer and a number");
        let number = number.parse().unwrap();
        let before = last.insert((partition, producer.to_string()), number);
        assert!(before < Some(number), "{value:?} at {} of {partition} follows {before:?}", message.offset());
        assert!(seen.insert(value.clone()), "{value:?} is there twice");
        stored.insert((partition, message.offset()), value);
    });
    for (producer, acks) in acks {
        for ack in acks {
            let value = format!("{producer} {}", ack.number);
            if ack.offset < 0 {
                // A broker that restarted may remember only that it has the batch, as Apache Kafka does.
                assert!(seen.contains(&value), "{ack:?} of {producer} is not there");
            } else {
                assert_eq!(stored.get(&(ack.partition, ack.offset)), Some(&value), "{ack:?} of {producer}");
            }
        }
        let unplaced = acks.iter().filter(|ack| ack.offset < 0).count();
        println!("{producer}: {} acknowledged, {unplaced} of them without an offset", acks.len());
    }
    assert_eq!(stored.len(), total, "everything was acknowledged, and there is nothing else");
}

#[test]
fn acknowledged_records_survive_stops_and_kills() {
    let cycles: u32 = std::env::var("COMPAT_CRASH_CYCLES").map_or(20, |cycles| cycles.parse().unwrap());
    let mut broker = Broker::start(&[("num.partitions", &PARTITIONS.to_string())]);
    let bootstrap = broker.bootstrap();
    let java_file = broker.scratch_dir().join("java.acks");
    let partitions = PARTITIONS.to_string();
    let arguments = [bootstrap.as_str(), TOPIC, &partitions, "java", java_file.to_str().expect("a path in UTF-8")];
    let stop = AtomicBool::new(false);

    let acks = thread::scope(|scope| {
        let rdkafka = scope.spawn(|| rdkafka_producer(&bootstrap, &stop));
        let mut java = clients::spawn_java(JavaClient::V4_3_1, "CrashProducer", &arguments);
        // Should a cycle panic, the producers must not hold up the end of the scope.
        let cycling = panic::catch_unwind(AssertUnwindSafe(|| cycle(&mut broker, cycles)));
        stop.store(true, Ordering::Relaxed);
        let told = java.stdin.take().expect("a pipe").write_all(b"stop\n");
        if cycling.is_err() {
            java.kill().unwrap();
        }
        let java_status = java.wait().unwrap();
        let rdkafka_acks = rdkafka.join().unwrap();
        cycling.unwrap_or_else(|panic| panic::resume_unwind(panic));
        told.unwrap();
        assert!(java_status.success(), "the Java producer ended with {java_status}");
        HashMap::from([("rdkafka", rdkafka_acks), ("java", java_acks(&java_file))])
    });
    for (producer, acks) in &acks {
        assert!(acks.len() > 100 * cycles as usize, "{producer} hardly produced: {} records", acks.len());
    }
    check(&bootstrap, &acks);
    broker.stop();
    dump_all(&broker.data_dir());
}

/// Stops and kills in turn, after 0.3 to 1.2 s of work.
fn cycle(broker: &mut Broker, cycles: u32) {
    for cycle in 0..cycles {
        thread::sleep(Duration::from_millis(300 + u64::from(cycle) * 7919 % 900));
        if cycle % 2 == 0 {
            broker.kill();
        } else {
            broker.stop();
        }
        broker.restart();
    }
    thread::sleep(Duration::from_millis(500));
}
