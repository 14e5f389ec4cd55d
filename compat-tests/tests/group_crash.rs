//! The broker is killed in the middle of rebalances and commits: a committed offset is never lost and never goes back,
//! and groups resume by themselves.
//!
//! `COMPAT_CRASH_CYCLES` changes how often it is killed.

use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use compat_tests::broker::Broker;
use compat_tests::dump::dump_all;
use compat_tests::librdkafka;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::Message;
use rdkafka::producer::{BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

const TOPIC: &str = "crash";
const PARTITIONS: usize = 6;
const RECORDS_A_CYCLE: u64 = 600;
const PATIENCE: Duration = Duration::from_secs(60);

/// What members were told is committed, by partition.
type Acked = Mutex<[i64; PARTITIONS]>;

#[test]
fn a_classic_group_keeps_what_it_committed() {
    crash_while_committing("classic");
}

#[test]
fn a_consumer_group_keeps_what_it_committed() {
    crash_while_committing("consumer");
}

fn crash_while_committing(protocol: &str) {
    let cycles: u64 = std::env::var("COMPAT_CRASH_CYCLES").map_or(6, |cycles| cycles.parse().unwrap());
    let partitions = PARTITIONS.to_string();
    let mut broker = Broker::start(&[
        ("num.partitions", &partitions),
        ("offsets.topic.num.partitions", "3"),
        ("group.min.session.timeout.ms", "1000"),
        ("group.consumer.min.session.timeout.ms", "1000"),
        ("group.consumer.session.timeout.ms", "3000"),
        ("group.consumer.min.heartbeat.interval.ms", "100"),
        ("group.consumer.heartbeat.interval.ms", "300"),
    ]);
    let bootstrap = broker.bootstrap();
    librdkafka::produce(&bootstrap, TOPIC, &[], PARTITIONS as u64, 0, RECORDS_A_CYCLE);
    begin_with_an_offset(&bootstrap, protocol);
    let (acked, lost) = (Acked::default(), Mutex::default());
    let (calm, stop) = (AtomicBool::new(false), AtomicBool::new(false));
    let total = (cycles + 1) * RECORDS_A_CYCLE;
    let kept = thread::scope(|scope| {
        for stay in [Duration::MAX, Duration::MAX, Duration::from_millis(700)] {
            // On a slow machine a group whose members come and go all the time gets nothing done.
            let leave = if stay == Duration::MAX { &stop } else { &calm };
            let (bootstrap, acked, lost) = (&bootstrap, &acked, &lost);
            scope.spawn(move || be_member(bootstrap, protocol, stay, acked, lost, leave));
        }
        // Should a cycle panic, the members must not hold up the end of the scope.
        let kept = panic::catch_unwind(AssertUnwindSafe(|| {
            for cycle in 0..cycles {
                thread::sleep(Duration::from_millis(200 + cycle * 7919 % 600));
                let before = *lock(&acked);
                broker.kill();
                broker.restart();
                let now = committed(&bootstrap, protocol);
                let kept = now.iter().zip(before).all(|(now, before)| *now >= before);
                assert!(kept, "{before:?} was committed before kill {cycle}, and {now:?} after it");
                produce_more(&bootstrap);
            }
            calm.store(true, Ordering::Relaxed);
            await_all_committed(&bootstrap, protocol, total as i64);
        }));
        calm.store(true, Ordering::Relaxed);
        stop.store(true, Ordering::Relaxed);
        kept
    });
    let lost = lost.into_inner().unwrap_or_else(PoisonError::into_inner);
    assert_eq!(lost, Vec::<String>::new(), "a member did not find the offset where it was to go on");
    kept.unwrap_or_else(|panic| panic::resume_unwind(panic));
    let acked: i64 = lock(&acked).iter().sum();
    assert_eq!(acked, total as i64, "and members know it");
    broker.stop();
    dump_all(&broker.data_dir());
}

/// Reads and commits record by record; after `stay` it leaves, and another comes in its place.
fn be_member(
    bootstrap: &str,
    protocol: &str,
    stay: Duration,
    acked: &Acked,
    lost: &Mutex<Vec<String>>,
    stop: &AtomicBool,
) {
    while !stop.load(Ordering::Relaxed) {
        let consumer = consumer(bootstrap, protocol);
        consumer.subscribe(&[TOPIC]).unwrap();
        let joined = Instant::now();
        while !stop.load(Ordering::Relaxed) && joined.elapsed() < stay {
            let message = match consumer.poll(Duration::from_millis(50)) {
                Some(Ok(message)) => message,
                Some(Err(error)) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AutoOffsetReset) => {
                    lost.lock().unwrap_or_else(PoisonError::into_inner).push(error.to_string());
                    return;
                }
                // The broker is not there.
                _ => continue,
            };
            if consumer.commit_message(&message, CommitMode::Sync).is_ok() {
                let committed = &mut lock(acked)[message.partition() as usize];
                *committed = (*committed).max(message.offset() + 1);
            }
        }
    }
}

/// Members never look for one: whoever does not find what is committed says so.
fn begin_with_an_offset(bootstrap: &str, group: &str) {
    let mut beginning = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        beginning.add_partition_offset(TOPIC, partition as i32, Offset::Offset(0)).unwrap();
    }
    consumer(bootstrap, group).commit(&beginning, CommitMode::Sync).unwrap();
}

fn consumer(bootstrap: &str, protocol: &str) -> BaseConsumer {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("group.id", protocol).set("group.protocol", protocol);
    config.set("enable.auto.commit", "false").set("auto.offset.reset", "error");
    config.set("reconnect.backoff.ms", "20").set("reconnect.backoff.max.ms", "200");
    if protocol == "classic" {
        config.set("session.timeout.ms", "3000").set("heartbeat.interval.ms", "300");
    }
    config.create().unwrap()
}

fn produce_more(bootstrap: &str) {
    let producer = librdkafka::producer(bootstrap, &[]);
    for i in 0..RECORDS_A_CYCLE {
        let mut record = BaseRecord::with_opaque_to(TOPIC, Box::new(i)).partition((i % PARTITIONS as u64) as i32);
        let value = i.to_string().into_bytes();
        record.payload = Some(&value);
        librdkafka::send(&producer, record);
    }
    producer.flush(PATIENCE).unwrap();
}

/// As the broker knows it.
fn committed(bootstrap: &str, group: &str) -> Vec<i64> {
    librdkafka::committed_offsets(bootstrap, TOPIC, group, PARTITIONS)
}

fn await_all_committed(bootstrap: &str, group: &str, total: i64) {
    let deadline = Instant::now() + PATIENCE;
    while committed(bootstrap, group).iter().sum::<i64>() < total {
        let committed = committed(bootstrap, group);
        assert!(Instant::now() < deadline, "the group has not resumed: {committed:?} of {total} records");
        thread::sleep(Duration::from_millis(100));
    }
}

fn lock(acked: &Acked) -> MutexGuard<'_, [i64; PARTITIONS]> {
    acked.lock().unwrap_or_else(PoisonError::into_inner)
}
