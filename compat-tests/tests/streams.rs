//! Kafka Streams with `exactly_once_v2`: a stateful word count through a repartition and a changelog topic, whose result
//! is what the words add up to, while broker and application are killed in turn.
//!
//! `COMPAT_STREAMS_RECORDS` changes how many lines there are, `COMPAT_STREAMS_KILLS` how often each of the two is killed.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use compat_tests::broker::Broker;
use compat_tests::clients::spawn_streams;
use compat_tests::dump::dump_all;
use compat_tests::librdkafka;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::{BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

const PARTITIONS: u64 = 4;
const WORDS: u64 = 1000;
const WORDS_A_LINE: u64 = 2;
/// Without any progress: an application that was killed reads its whole changelog again.
const PATIENCE: Duration = Duration::from_secs(300);

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

#[test]
fn words_are_counted_exactly_once_through_kills() {
    let lines = number("COMPAT_STREAMS_RECORDS", 50_000);
    let kills = 2 * number("COMPAT_STREAMS_KILLS", 2);
    let mut broker = Broker::start(&[
        ("num.partitions", &PARTITIONS.to_string()),
        ("offsets.topic.num.partitions", "3"),
        ("transaction.state.log.num.partitions", "3"),
        ("group.min.session.timeout.ms", "1000"),
        ("transaction.abort.timed.out.transaction.cleanup.interval.ms", "500"),
    ]);
    let model = write_lines(&broker.bootstrap(), lines);
    let state = broker.scratch_dir().join("state");
    let arguments = [&*broker.bootstrap(), state.to_str().expect("a path in UTF-8")].map(str::to_owned);
    let start = || spawn_streams("WordCount", &arguments.each_ref().map(|argument| &**argument));
    let mut app = start();

    let counts = read_counts(&broker.bootstrap());
    let total = lines * WORDS_A_LINE;
    let (mut seen, mut killed) = (HashMap::<String, u64>::new(), 0);
    let mut deadline = Instant::now() + PATIENCE;
    for read in 0..total {
        while read > total * (killed + 1) / (kills + 1) {
            if killed % 2 == 0 {
                broker.kill();
                broker.restart();
            } else {
                drop(app);
                app = start();
            }
            killed += 1;
        }
        let (word, count) = loop {
            if let Some(Ok(message)) = counts.poll(Duration::from_millis(100)) {
                let text = |bytes: Option<&[u8]>| String::from_utf8(bytes.expect("bytes").to_vec()).unwrap();
                break (text(message.key()), text(message.payload()).parse::<u64>().unwrap());
            }
            assert!(Instant::now() < deadline, "only {read} of {total} counts came, after {killed} kills");
        };
        deadline = Instant::now() + PATIENCE;
        let last = seen.entry(word.clone()).or_default();
        assert_eq!(count, *last + 1, "{word:?} was counted {last} times before");
        *last = count;
    }
    assert_eq!(seen, model);
    assert_eq!(killed, kills);
    let more = counts.poll(Duration::from_secs(1));
    assert!(more.is_none_or(|more| more.is_err()), "nothing comes after the last one");
    drop((app, counts));
    broker.stop();
    dump_all(&broker.data_dir());
}

/// Returns how often each word is in them.
fn write_lines(bootstrap: &str, lines: u64) -> HashMap<String, u64> {
    let producer = librdkafka::producer(bootstrap, &[]);
    for topic in ["lines", "counts"] {
        librdkafka::await_partitions(producer.client(), topic, PARTITIONS);
    }
    let mut model = HashMap::new();
    for line in 0..lines {
        // Some words are more frequent than others.
        let words = (0..WORDS_A_LINE).map(|i| format!("word{}", (line * (7 + 31 * i) + line / 13) % (WORDS - i * 300)));
        let words: Vec<String> = words.collect();
        let payload = words.join(" ").into_bytes();
        let mut record = BaseRecord::with_opaque_to("lines", Box::new(line)).partition((line % PARTITIONS) as i32);
        record.payload = Some(&payload);
        librdkafka::send(&producer, record);
        words.into_iter().for_each(|word| *model.entry(word).or_default() += 1);
    }
    producer.flush(PATIENCE).unwrap();
    model
}

/// What is committed of them.
fn read_counts(bootstrap: &str) -> BaseConsumer {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("group.id", "none").set("enable.auto.commit", "false");
    config.set("isolation.level", "read_committed").set("auto.offset.reset", "error");
    config.set("reconnect.backoff.ms", "20").set("reconnect.backoff.max.ms", "200");
    let consumer: BaseConsumer = config.create().unwrap();
    let mut assignment = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        assignment.add_partition_offset("counts", partition as i32, Offset::Offset(0)).unwrap();
    }
    consumer.assign(&assignment).unwrap();
    consumer
}
