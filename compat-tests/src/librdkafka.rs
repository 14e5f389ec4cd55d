//! librdkafka as a client: sends the known records, and checks that a topic holds exactly them.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rdkafka::client::{Client, ClientContext};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::{BorrowedMessage, DeliveryResult, Message};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::records::{self, HeaderValues};

const PATIENCE: Duration = Duration::from_secs(60);

/// What one record's acknowledgement said.
#[derive(Clone, Copy, Debug)]
pub struct Ack {
    pub partition: i32,
    pub offset: i64,
    pub number: u64,
}

/// Collects acknowledgements, in the order they come, and failures.
#[derive(Default)]
pub struct Acks {
    pub acked: Mutex<Vec<Ack>>,
    pub failed: Mutex<Vec<String>>,
}

impl ClientContext for Acks {}

impl ProducerContext for Acks {
    type DeliveryOpaque = Box<u64>;

    fn delivery(&self, result: &DeliveryResult<'_>, number: Box<u64>) {
        match result {
            Ok(message) => {
                let ack = Ack { partition: message.partition(), offset: message.offset(), number: *number };
                self.acked.lock().unwrap().push(ack);
            }
            Err((error, _)) => self.failed.lock().unwrap().push(format!("record {number}: {error}")),
        }
    }
}

pub fn producer(bootstrap: &str, settings: &[(&str, &str)]) -> ThreadedProducer<Acks> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("linger.ms", "5");
    for (key, value) in settings {
        config.set(*key, *value);
    }
    config.create_with_context(Acks::default()).unwrap()
}

/// Sends `record`, and again while the queue is full.
pub fn send(producer: &ThreadedProducer<Acks>, mut record: BaseRecord<'_, Vec<u8>, Vec<u8>, Box<u64>>) {
    while let Err((error, unsent)) = producer.send(record) {
        assert_eq!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::QueueFull), "{error}");
        record = unsent;
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Sends records 0..count to a topic that may not exist yet, record i to partition i % partitions.
pub fn produce(bootstrap: &str, topic: &str, settings: &[(&str, &str)], partitions: u64, base_ms: i64, count: u64) {
    let producer = producer(bootstrap, settings);
    await_partitions(producer.client(), topic, partitions);
    for i in 0..count {
        let (key, value) = (records::key(i), records::value(i));
        let mut record = BaseRecord::with_opaque_to(topic, Box::new(i))
            .partition((i % partitions) as i32)
            .timestamp(base_ms + i as i64)
            .headers(records::owned_headers(i));
        record.key = key.as_ref();
        record.payload = value.as_ref();
        send(&producer, record);
    }
    producer.flush(PATIENCE).unwrap();
    let failed = producer.context().failed.lock().unwrap();
    assert!(failed.is_empty(), "{failed:?}");
    let acked = producer.context().acked.lock().unwrap();
    assert_eq!(acked.len() as u64, count, "acknowledgements");
    if !settings.contains(&("acks", "0")) {
        for ack in acked.iter() {
            assert_eq!(ack.offset as u64, ack.number / partitions, "record {}'s offset", ack.number);
        }
    }
}

/// Makes the broker create the topic, and waits until the partitions are there: what acks=0 sends before is lost.
pub fn await_partitions(client: &Client<Acks>, topic: &str, partitions: u64) {
    let deadline = Instant::now() + PATIENCE;
    let there = |p| client.fetch_watermarks(topic, p as i32, PATIENCE).is_ok();
    while client.fetch_metadata(Some(topic), PATIENCE).is_err() || !(0..partitions).all(there) {
        assert!(Instant::now() < deadline, "{topic} was not created");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn consumer(bootstrap: &str) -> BaseConsumer {
    let mut config = ClientConfig::new();
    // It refuses to assign without a group, though nothing is ever asked of one.
    config.set("bootstrap.servers", bootstrap).set("group.id", "none").set("enable.auto.commit", "false");
    config.set("enable.auto.offset.store", "false").set("auto.offset.reset", "error").set("check.crcs", "true");
    config.set("fetch.wait.max.ms", "100").set("allow.auto.create.topics", "false");
    config.create().unwrap()
}

fn partition_count(consumer: &BaseConsumer, topic: &str) -> i32 {
    let metadata = consumer.fetch_metadata(Some(topic), PATIENCE).unwrap();
    metadata.topics()[0].partitions().len() as i32
}

/// The end offset of each partition, once they sum up to at least `count`: acks=0 may still be under way.
fn await_ends(consumer: &BaseConsumer, topic: &str, count: u64) -> Vec<i64> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let watermarks = |partition| consumer.fetch_watermarks(topic, partition, PATIENCE).unwrap();
        let (starts, ends): (Vec<_>, Vec<_>) = (0..partition_count(consumer, topic)).map(watermarks).unzip();
        assert!(starts.iter().all(|start| *start == 0), "{topic} begins at {starts:?}");
        if ends.iter().sum::<i64>() as u64 >= count {
            return ends;
        }
        assert!(Instant::now() < deadline, "only {ends:?} of {count} records of {topic} arrived");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Calls `each` with every record of a topic of at least `count` records, partition by partition in offset order but
/// interleaved. Returns the end offset of each partition.
pub fn read_all(bootstrap: &str, topic: &str, count: u64, mut each: impl FnMut(&BorrowedMessage<'_>)) -> Vec<i64> {
    let consumer = consumer(bootstrap);
    let ends = await_ends(&consumer, topic, count);
    let mut assignment = TopicPartitionList::new();
    for partition in 0..ends.len() {
        assignment.add_partition_offset(topic, partition as i32, Offset::Beginning).unwrap();
    }
    consumer.assign(&assignment).unwrap();
    let total: i64 = ends.iter().sum();
    let deadline = Instant::now() + PATIENCE;
    for seen in 0..total {
        each(&next(&consumer, deadline).unwrap_or_else(|| panic!("read only {seen} of {total} records of {topic}")));
    }
    ends
}

/// Calls `each` with every record of partition 0, whose offsets may have gaps, up to its end.
pub fn read_to_end(bootstrap: &str, topic: &str, mut each: impl FnMut(&BorrowedMessage<'_>)) {
    let consumer = consumer(bootstrap);
    let (_, end) = consumer.fetch_watermarks(topic, 0, PATIENCE).unwrap();
    let mut assignment = TopicPartitionList::new();
    assignment.add_partition_offset(topic, 0, Offset::Beginning).unwrap();
    consumer.assign(&assignment).unwrap();
    let deadline = Instant::now() + PATIENCE;
    let mut seen = 0;
    // The active segment is not compacted: the last record is there.
    while seen < end {
        let message = next(&consumer, deadline).unwrap_or_else(|| panic!("read {topic} to {seen}, it ends at {end}"));
        assert!(message.offset() >= seen, "offset {} came after {seen}", message.offset());
        seen = message.offset() + 1;
        each(&message);
    }
}

fn next(consumer: &BaseConsumer, deadline: Instant) -> Option<BorrowedMessage<'_>> {
    while Instant::now() < deadline {
        if let Some(message) = consumer.poll(Duration::from_millis(100)) {
            return Some(message.unwrap());
        }
    }
    None
}

/// Checks that the topic holds exactly records 0..count, from the beginning, from the middle and by time.
pub fn verify(bootstrap: &str, topic: &str, base_ms: i64, count: u64, values: HeaderValues) {
    let consumer = consumer(bootstrap);
    let partitions = partition_count(&consumer, topic) as u64;
    let mut next_offset = vec![0; partitions as usize];
    let ends = read_all(bootstrap, topic, count, |message| {
        let partition = message.partition() as u64;
        let offset = next_offset[partition as usize];
        records::check(message, partition + offset as u64 * partitions, base_ms, offset, values);
        next_offset[partition as usize] += 1;
    });
    assert_eq!(ends.iter().sum::<i64>() as u64, count, "{topic}: number of records");

    expect_at(&consumer, topic, base_ms, values, ends.iter().map(|end| end / 2 + 1).collect());
    expect_at(&consumer, topic, base_ms, values, ends.iter().map(|end| end - 1).collect());
    for i in [0, count / 4, count / 2 + 1, count - partitions] {
        // The first record of each partition whose number is at least i.
        let expected: Vec<_> = (0..partitions).map(|p| ((i + partitions - 1 - p) / partitions) as i64).collect();
        let found = offsets_at(&consumer, topic, partitions, base_ms + i as i64);
        assert!(found.iter().copied().eq(expected.iter().map(|e| Offset::Offset(*e))), "{topic} at {i}: {found:?}");
        if i == count / 4 {
            expect_at(&consumer, topic, base_ms, values, expected);
        }
    }
    let late = offsets_at(&consumer, topic, partitions, base_ms + count as i64);
    assert!(late.iter().all(|offset| *offset == Offset::End), "{topic} after the last record: {late:?}");
}

/// The offset that each partition has for a time.
fn offsets_at(consumer: &BaseConsumer, topic: &str, partitions: u64, timestamp_ms: i64) -> Vec<Offset> {
    let mut query = TopicPartitionList::new();
    for partition in 0..partitions {
        query.add_partition_offset(topic, partition as i32, Offset::Offset(timestamp_ms)).unwrap();
    }
    let found = consumer.offsets_for_times(query, PATIENCE).unwrap();
    let mut elements = found.elements();
    elements.sort_by_key(|element| element.partition());
    elements.iter().map(|element| element.offset()).collect()
}

/// Reads from the given offset of each partition and checks the first record of each.
fn expect_at(consumer: &BaseConsumer, topic: &str, base_ms: i64, values: HeaderValues, offsets: Vec<i64>) {
    let mut assignment = TopicPartitionList::new();
    for (partition, offset) in offsets.iter().enumerate() {
        assignment.add_partition_offset(topic, partition as i32, Offset::Offset(*offset)).unwrap();
    }
    consumer.assign(&assignment).unwrap();
    let mut waiting: Vec<_> = offsets.iter().copied().map(Some).collect();
    let deadline = Instant::now() + PATIENCE;
    while waiting.iter().any(Option::is_some) {
        let message = next(consumer, deadline).expect("a record");
        let partition = message.partition() as usize;
        if let Some(offset) = waiting[partition].take() {
            let i = partition as u64 + offset as u64 * offsets.len() as u64;
            records::check(&message, i, base_ms, offset, values);
        }
    }
}

/// The values that are read with read_committed: `count` of them, and for a little while what must not come.
pub fn committed_values(bootstrap: &str, topic: &str, partitions: i32, count: usize) -> BTreeSet<String> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("group.id", "readers");
    config.set("isolation.level", "read_committed").set("enable.auto.commit", "false");
    let consumer: BaseConsumer = config.create().unwrap();
    let mut assignment = TopicPartitionList::new();
    for partition in 0..partitions {
        assignment.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
    }
    consumer.assign(&assignment).unwrap();
    let (mut values, mut end) = (BTreeSet::new(), Instant::now() + PATIENCE / 2);
    while Instant::now() < end {
        let Some(message) = consumer.poll(Duration::from_millis(50)) else { continue };
        let value = String::from_utf8(message.unwrap().payload().unwrap().to_vec()).unwrap();
        assert!(values.insert(value.clone()), "{value} came twice");
        if values.len() == count {
            end = Instant::now() + Duration::from_millis(300);
        }
    }
    values
}

/// The settings that choose a protocol for a group. With KIP-848 the broker sets how often members are heard of.
pub const CLASSIC: [(&str, &str); 2] = [("group.protocol", "classic"), ("heartbeat.interval.ms", "500")];
pub const CONSUMER: [(&str, &str); 1] = [("group.protocol", "consumer")];

/// Two members share the topic, one leaves, the other takes over and reads to the end; all that was read is committed.
pub fn share_group(
    bootstrap: &str,
    topic: &str,
    group: &str,
    (partitions, count): (u64, u64),
    settings: &[(&str, &str)],
) {
    let join = || -> BaseConsumer {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", bootstrap).set("group.id", group).set("auto.offset.reset", "earliest");
        config.set("enable.auto.commit", "false");
        for (name, value) in settings {
            config.set(*name, *value);
        }
        let consumer: BaseConsumer = config.create().unwrap();
        consumer.subscribe(&[topic]).unwrap();
        consumer
    };
    let mut seen = std::collections::HashSet::new();
    let mut read = |members: &[&BaseConsumer], what: &str, done: &dyn Fn(&[usize], usize) -> bool| {
        let deadline = Instant::now() + PATIENCE;
        loop {
            for member in members {
                if let Some(message) = member.poll(Duration::from_millis(10)) {
                    let message = message.unwrap();
                    seen.insert((message.partition(), message.offset()));
                    // A rebalance may be under way; what is not committed then is read again.
                    let _ = member.commit_message(&message, rdkafka::consumer::CommitMode::Async);
                }
            }
            let assigned: Vec<usize> = members.iter().map(|member| member.assignment().unwrap().count()).collect();
            if done(&assigned, seen.len()) {
                return;
            }
            assert!(Instant::now() < deadline, "{what}: {assigned:?} partitions, {} records", seen.len());
        }
    };
    let all = partitions as usize;
    let first = join();
    read(&[&first], "all partitions", &|assigned, _| assigned == [all]);
    let second = join();
    read(&[&first, &second], "halves", &|assigned, _| assigned == [all / 2, all / 2]);
    second.unsubscribe();
    drop(second);
    read(&[&first], "all partitions again", &|assigned, _| assigned == [all]);
    read(&[&first], "all records", &|_, records| records == count as usize);
    first.commit_consumer_state(rdkafka::consumer::CommitMode::Sync).unwrap();
}

/// A group's committed offset of each partition; 0 where there is none.
pub fn committed_offsets(bootstrap: &str, topic: &str, group: &str, partitions: usize) -> Vec<i64> {
    let consumer: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", bootstrap).set("group.id", group).create().unwrap();
    let mut query = TopicPartitionList::new();
    for partition in 0..partitions {
        query.add_partition(topic, partition as i32);
    }
    let deadline = Instant::now() + PATIENCE;
    let committed = loop {
        match consumer.committed_offsets(query.clone(), PATIENCE) {
            // Just started: Apache Kafka does not know yet that it leads.
            Err(error) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::NotCoordinator) => {
                assert!(Instant::now() < deadline, "{error}");
                std::thread::sleep(Duration::from_millis(100));
            }
            committed => break committed.unwrap(),
        }
    };
    let mut offsets = vec![0; partitions];
    for element in committed.elements() {
        offsets[element.partition() as usize] = element.offset().to_raw().unwrap_or(-1).max(0);
    }
    offsets
}

/// Their sum.
pub fn committed(bootstrap: &str, topic: &str, group: &str, partitions: u64) -> i64 {
    committed_offsets(bootstrap, topic, group, partitions as usize).iter().sum()
}
