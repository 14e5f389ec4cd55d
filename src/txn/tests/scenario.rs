//! The scenario language. A line that begins in column 0 is a command; what it brings about follows, indented. A producer
//! is `ID/EPOCH`, a partition `TOPIC-INDEX`.
//!
//! ```text
//! at 5000                                  the time; timers fire
//! restart                                  all but the log is forgotten
//! set max_timeout=900000 | abort_interval= | expiration= | expiration_interval= | ids=no
//! version 1                                the cluster's transaction.version
//! given ID PRODUCER                        its epoch is as high as this already
//! init ID [timeout=60000] [as=PRODUCER]
//! add ID PRODUCER PARTITION... [v=2]       v: the client's transaction.version
//! verify ID PRODUCER PARTITION...
//! end ID PRODUCER commit|abort [v=2]
//! written ID [PRODUCER]                    all partitions have their marker (of an older transaction)
//! describe ID
//! list [states=A,B] [producers=1,2] [longer=1000] [like=REGEX]
//! ```

use std::fmt::Write as _;

use super::harness::Harness;
use crate::scenario_tests;
use crate::txn::records::{Partitions, Record, State, Transaction};
use crate::txn::{Effects, Filter, Producer, Result};

/// The text with the outcome of each command as it came.
pub fn run(text: &str) -> String {
    let mut harness = Harness::new();
    scenario_tests::outcome(text, |words| {
        let outcomes = command(&mut harness, &Words::new(words));
        harness.assert_replay_is_the_same();
        outcomes
    })
}

/// The words `key=value` of a command, and those without a key.
struct Words<'a> {
    keyed: Vec<(&'a str, &'a str)>,
    plain: Vec<&'a str>,
}

impl<'a> Words<'a> {
    fn new(words: &[&'a str]) -> Words<'a> {
        let keyed = words.iter().filter_map(|word| word.split_once('=')).collect();
        Words { keyed, plain: words.iter().filter(|word| !word.contains('=')).copied().collect() }
    }

    fn get(&self, key: &str) -> Option<&'a str> {
        self.keyed.iter().find(|(known, _)| *known == key).map(|(_, value)| *value)
    }

    fn number<T: std::str::FromStr>(&self, key: &str, default: T) -> T {
        self.get(key).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{key}={text}")))
    }

    fn producer(&self, at: usize) -> Producer {
        producer(self.plain[at])
    }

    fn partitions(&self, from: usize) -> Partitions {
        let mut partitions = Partitions::new();
        for word in &self.plain[from..] {
            let (topic, index) = word.rsplit_once('-').expect("topic-partition");
            partitions.entry(topic.into()).or_default().insert(index.parse().unwrap());
        }
        partitions
    }
}

fn producer(word: &str) -> Producer {
    let (id, epoch) = word.split_once('/').expect("id/epoch");
    Producer { id: id.parse().unwrap(), epoch: epoch.parse().unwrap() }
}

fn command(harness: &mut Harness, words: &Words<'_>) -> Vec<String> {
    let id = words.plain.get(1).copied().unwrap_or_default();
    match words.plain[0] {
        "at" => {
            harness.now_ms = id.parse().unwrap();
            show(harness.fire())
        }
        "restart" => show(harness.restart()),
        "set" => {
            set(harness, words.keyed[0]);
            Vec::new()
        }
        "version" => {
            harness.transaction_version = id.parse().unwrap();
            Vec::new()
        }
        "given" => {
            given(harness, id, words.producer(2));
            Vec::new()
        }
        "init" => {
            let expected = words.get("as").map(producer);
            let (result, effects) =
                harness.turn(|turn| turn.init_producer(id, words.number("timeout", 60_000), expected));
            outcome(result.map(show_producer), effects)
        }
        "add" => {
            let (producer, partitions, version) = (words.producer(2), words.partitions(3), words.number("v", 2));
            let (result, effects) = harness.turn(|turn| turn.add_partitions(id, producer, &partitions, version));
            outcome(result.map(|()| "ok".to_owned()), effects)
        }
        "verify" => {
            let (producer, partitions) = (words.producer(2), words.partitions(3));
            let (result, effects) = harness.turn(|turn| turn.verify_partitions(id, producer, &partitions));
            let missing = |missing: Partitions| match missing.is_empty() {
                true => "ok".to_owned(),
                false => format!("missing {}", show_partitions(&missing)),
            };
            outcome(result.map(missing), effects)
        }
        "end" => {
            let (producer, commit, version) = (words.producer(2), words.plain[3] == "commit", words.number("v", 2));
            let (result, effects) = harness.turn(|turn| turn.end(id, producer, commit, version));
            outcome(result.map(show_producer), effects)
        }
        "written" => {
            let producer = match words.plain.get(2) {
                Some(word) => producer(word),
                None => harness.markers.remove(id).expect("markers").producer,
            };
            show(harness.turn(|turn| turn.markers_written(id, producer)).1)
        }
        "describe" => {
            let (result, effects) = harness.turn(|turn| turn.describe(id).cloned());
            outcome(result.map(|transaction| show_transaction(&transaction)), effects)
        }
        "list" => list(harness, words),
        other => panic!("unknown command {other}"),
    }
}

fn set(harness: &mut Harness, (key, value): (&str, &str)) {
    let settings = &mut harness.settings;
    match key {
        "max_timeout" => settings.max_timeout_ms = value.parse().unwrap(),
        "abort_interval" => settings.abort_interval_ms = value.parse().unwrap(),
        "expiration" => settings.id_expiration_ms = value.parse().unwrap(),
        "expiration_interval" => settings.expiration_interval_ms = value.parse().unwrap(),
        "ids" => harness.out_of_ids = value == "no",
        _ => panic!("unknown setting {key}"),
    }
}

/// As if the id had a long life behind it.
pub fn given(harness: &mut Harness, id: &str, producer: Producer) {
    let transaction = Transaction {
        producer,
        previous_producer_id: producer.id,
        next_producer_id: -1,
        timeout_ms: 60_000,
        state: State::Empty,
        partitions: Partitions::new(),
        last_update_ms: harness.now_ms,
        start_ms: -1,
        client_version: 0,
    };
    harness.write(&Record { transactional_id: id.into(), value: Some(transaction) });
}

fn list(harness: &mut Harness, words: &Words<'_>) -> Vec<String> {
    let split = |key| words.get(key).unwrap_or_default().split(',').filter(|word| !word.is_empty());
    let states: Vec<&str> = split("states").collect();
    let producers: Vec<i64> = split("producers").map(|word| word.parse().unwrap()).collect();
    match Filter::new(&states, &producers, words.number("longer", -1), words.get("like")) {
        Err(error) => vec![format!("{:?}", error.code)],
        Ok((filter, unknown)) => {
            let (listed, effects) = harness.turn(|turn| turn.list(&filter));
            let unknown = unknown.iter().map(|state| format!("no state {state}"));
            let listed = listed.iter().map(|l| format!("{} {} {}", l.transactional_id, l.producer_id, l.state.name()));
            unknown.chain(listed).chain(show(effects)).collect()
        }
    }
}

fn outcome(result: Result<String>, effects: Effects) -> Vec<String> {
    let mut lines = vec![result.unwrap_or_else(|error| format!("{:?}", error.code))];
    lines.extend(show(effects));
    lines
}

fn show_producer(producer: Producer) -> String {
    format!("{}/{}", producer.id, producer.epoch)
}

fn show_partitions(partitions: &Partitions) -> String {
    let all =
        partitions.iter().flat_map(|(topic, indexes)| indexes.iter().map(move |index| format!("{topic}-{index}")));
    all.collect::<Vec<_>>().join(" ")
}

/// Times only where there are any; the previous producer id only if it is another one.
fn show_transaction(transaction: &Transaction) -> String {
    let mut out = format!("{} {}", show_producer(transaction.producer), transaction.state.name());
    if !transaction.partitions.is_empty() {
        write!(out, " [{}]", show_partitions(&transaction.partitions)).unwrap();
    }
    write!(out, " timeout={} updated={}", transaction.timeout_ms, transaction.last_update_ms).unwrap();
    if transaction.start_ms >= 0 {
        write!(out, " started={}", transaction.start_ms).unwrap();
    }
    if transaction.previous_producer_id != transaction.producer.id {
        write!(out, " previous={}", transaction.previous_producer_id).unwrap();
    }
    if transaction.next_producer_id >= 0 {
        write!(out, " next={}", transaction.next_producer_id).unwrap();
    }
    write!(out, " v={}", transaction.client_version).unwrap();
    out
}

fn show(effects: Effects) -> Vec<String> {
    let record = |record: &Record| match &record.value {
        Some(transaction) => format!("+ {} {}", record.transactional_id, show_transaction(transaction)),
        None => format!("- {}", record.transactional_id),
    };
    let mut lines: Vec<String> = effects.records.iter().map(record).collect();
    for markers in &effects.markers {
        let verb = if markers.commit { "commit" } else { "abort" };
        let (producer, partitions) = (show_producer(markers.producer), show_partitions(&markers.partitions));
        let (id, version) = (&markers.transactional_id, markers.transaction_version);
        lines.push(format!("> {verb} {id} {producer} v={version}: {partitions}"));
    }
    lines
}
