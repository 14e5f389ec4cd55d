//! A compacted topic as clients see it and as Apache Kafka's own tool reads its files: the last record of each key, at its
//! offset.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use std::{fs, thread};

use compat_tests::broker::Broker;
use compat_tests::connection::Connection;
use compat_tests::{dump, librdkafka};
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::{CreateTopicsRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use rdkafka::message::Message;
use rdkafka::producer::{BaseRecord, Producer};

const TOPIC: &str = "latest";
const KEYS: u64 = 50;
const RECORDS: u64 = 20_000;
const PATIENCE: Duration = Duration::from_secs(60);

fn create(broker: &Broker) {
    let text = |text: &str| StrBytes::from_string(text.to_owned());
    let settings = [
        ("cleanup.policy", "compact"),
        ("segment.bytes", "1048576"),
        ("min.cleanable.dirty.ratio", "0.01"),
        ("delete.retention.ms", "0"),
        ("file.delete.delay.ms", "0"),
    ];
    let config = |(name, value): &(&str, &str)| {
        CreatableTopicConfig::default().with_name(text(name)).with_value(Some(text(value)))
    };
    let topic = CreatableTopic::default()
        .with_name(TopicName(text(TOPIC)))
        .with_num_partitions(1)
        .with_replication_factor(1)
        .with_configs(settings.iter().map(config).collect());
    let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(10_000);
    let response = Connection::open(&broker.bootstrap()).call(&request, 7);
    assert_eq!(response.topics[0].error_code, 0, "{:?}", response.topics[0].error_message);
}

/// Record i has key i % KEYS; every tenth key ends in a tombstone.
fn produce(bootstrap: &str, codec: &str, from: u64) {
    let settings = [("enable.idempotence", "true"), ("compression.type", codec), ("batch.size", "16000")];
    let producer = librdkafka::producer(bootstrap, &settings);
    for i in from..from + RECORDS {
        let (key, value) =
            (format!("key {}", i % KEYS).into_bytes(), format!("value {i} {}", "x".repeat(200)).into_bytes());
        let mut record = BaseRecord::with_opaque_to(TOPIC, Box::new(i)).partition(0);
        record.key = Some(&key);
        record.payload = (!(i % KEYS).is_multiple_of(10) || i + 10 * KEYS < from + RECORDS).then_some(&value);
        librdkafka::send(&producer, record);
    }
    producer.flush(PATIENCE).unwrap();
    assert_eq!(producer.context().failed.lock().unwrap().as_slice(), [] as [String; 0]);
}

/// Waits until all but the active segment is clean; returns the offset up to which it is.
fn await_compaction(broker: &Broker) -> i64 {
    let data = broker.data_dir();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let names = fs::read_dir(data.join(format!("{TOPIC}-0"))).unwrap().map(|entry| entry.unwrap().file_name());
        let bases = names.filter_map(|name| name.to_str()?.strip_suffix(".log")?.parse::<i64>().ok());
        let active = bases.max().expect("a segment");
        let checkpoint = fs::read_to_string(data.join("cleaner-offset-checkpoint")).unwrap_or_default();
        let cleaned = checkpoint.lines().find_map(|line| line.strip_prefix(&format!("{TOPIC} 0 "))?.parse().ok());
        if cleaned == Some(active) && active > 0 {
            return active;
        }
        assert!(Instant::now() < deadline, "the checkpoint is {checkpoint:?}, the active segment {active}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// Reads the topic to its end, and returns what it holds of each key as (offset, number in the value).
fn read(bootstrap: &str) -> BTreeMap<String, Vec<(i64, Option<u64>)>> {
    let mut of_key: BTreeMap<String, Vec<_>> = BTreeMap::new();
    librdkafka::read_to_end(bootstrap, TOPIC, |message| {
        let key = String::from_utf8(message.key().expect("a key").to_vec()).unwrap();
        let number = message.payload().map(|value| {
            let value = String::from_utf8(value.to_vec()).unwrap();
            value.split(' ').nth(1).expect("a number").parse().unwrap()
        });
        of_key.entry(key).or_default().push((message.offset(), number));
    });
    of_key
}

#[test]
fn the_last_record_of_each_key_is_left() {
    let mut broker = Broker::start(&[("log.cleaner.backoff.ms", "100")]);
    create(&broker);
    let mut sent = 0;
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        produce(&broker.bootstrap(), codec, sent);
        sent += RECORDS;
    }
    // Uncompressed, so that what was compressed is in closed segments.
    produce(&broker.bootstrap(), "none", sent);
    sent += RECORDS;
    let clean_below = await_compaction(&broker);
    assert!(clean_below > (sent - RECORDS) as i64);
    for round in 0..2 {
        let of_key = read(&broker.bootstrap());
        assert_eq!(of_key.len() as u64, KEYS);
        for (key, records) in &of_key {
            let last = records.last().expect("a record");
            let tombstone = key.ends_with('0');
            assert_eq!(last.1.is_none(), tombstone, "{key} ends with {last:?}");
            assert!(
                records.iter().all(|(offset, number)| number.is_none_or(|number| number as i64 == *offset)),
                "{key}"
            );
            let old = records.iter().filter(|(offset, _)| *offset < clean_below).count();
            assert!(old <= 1, "{key} has {old} records in segments that are clean");
        }
        if round == 0 {
            broker.stop();
            dump::dump_all(&broker.data_dir());
            broker.restart();
        }
    }
    broker.stop();
}
