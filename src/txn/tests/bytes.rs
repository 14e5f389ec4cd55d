//! Records byte for byte as Apache Kafka 4.3.1 writes them (`kafka-records.txt`: a name, key and value in hexadecimal).

use std::collections::{BTreeSet, HashMap};

use crate::txn::Producer;
use crate::txn::records::{Partitions, Record, State, Transaction};

fn hex(text: &str) -> Vec<u8> {
    let digits = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(digits).collect()
}

/// Key and value of each record.
fn kafka_records() -> HashMap<&'static str, (Vec<u8>, Option<Vec<u8>>)> {
    // Kafka writes the partitions of a topic in the order of a hash table, here 2 and 0.
    let lines = include_str!("kafka-records.txt").lines().map(|line| {
        let [name, key, value] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let value = value.replace("0000000200000000", "0000000000000002");
        (name, (hex(key), (value != "-").then(|| hex(&value))))
    });
    lines.collect()
}

fn expected() -> Vec<(&'static str, i16, Option<Transaction>)> {
    let empty = Transaction {
        producer: Producer { id: 7, epoch: 0 },
        previous_producer_id: 7,
        next_producer_id: -1,
        timeout_ms: 60_000,
        state: State::Empty,
        partitions: Partitions::new(),
        last_update_ms: 2000,
        start_ms: -1,
        client_version: 0,
    };
    let old = Transaction { previous_producer_id: -1, ..empty.clone() };
    let partitions = Partitions::from([("a".into(), BTreeSet::from([0, 2]))]);
    let ongoing_before_flexible =
        Transaction { state: State::Ongoing, partitions: partitions.clone(), start_ms: 1000, ..old.clone() };
    let complete_before_flexible = Transaction { state: State::CompleteCommit, start_ms: 1000, ..old.clone() };
    let epoch = |epoch| Producer { id: 7, epoch };
    let ongoing = Transaction {
        producer: epoch(1),
        state: State::Ongoing,
        partitions,
        start_ms: 1000,
        client_version: 2,
        ..empty.clone()
    };
    let prepared = Transaction { producer: epoch(2), state: State::PrepareCommit, ..ongoing.clone() };
    let rotating =
        Transaction { producer: epoch(i16::MAX), state: State::PrepareAbort, next_producer_id: 8, ..ongoing.clone() };
    let aborted = Transaction {
        producer: Producer { id: 8, epoch: 0 },
        state: State::CompleteAbort,
        partitions: Partitions::new(),
        ..ongoing.clone()
    };
    vec![
        ("empty-v0", 0, Some(old.clone())),
        ("ongoing-v0", 0, Some(ongoing_before_flexible)),
        ("complete-commit-v0", 0, Some(complete_before_flexible)),
        ("empty-v1", 2, Some(empty)),
        ("first-v1", 2, Some(old)),
        ("ongoing-v1", 2, Some(ongoing)),
        ("prepare-commit-v1", 2, Some(prepared)),
        ("prepare-abort-rotating-v1", 2, Some(rotating)),
        ("complete-abort-v1", 2, Some(aborted)),
        ("gone", 2, None),
    ]
}

#[test]
fn records_are_written_and_read_as_kafka_does() {
    let kafka = kafka_records();
    let expected = expected();
    assert_eq!(kafka.len(), expected.len());
    for (name, transaction_version, value) in expected {
        let record = Record { transactional_id: "pay".into(), value };
        let (key_bytes, value_bytes) = &kafka[name];
        let (key, value) = record.encode(transaction_version);
        assert_eq!((&key[..], value.as_deref()), (&key_bytes[..], value_bytes.as_deref()), "{name}");
        assert_eq!(Record::decode(key_bytes, value_bytes.as_deref()), Ok(Some(record)), "{name}");
    }
}

#[test]
fn what_is_not_understood_is_an_error_or_passed_over() {
    let (key, value) = kafka_records()["ongoing-v1"].clone();
    let value = value.unwrap();
    for len in 0..value.len() {
        assert!(Record::decode(&key, Some(&value[..len])).is_err(), "{len}");
    }
    for len in 0..key.len() {
        assert!(Record::decode(&key[..len], Some(&value)).is_err(), "{len}");
    }
    let with = |at: usize, byte: u8| {
        let mut value = value.clone();
        value[at] = byte;
        Record::decode(&key, Some(&value))
    };
    const VERSION: usize = 1;
    const STATE: usize = 16;
    assert!(with(VERSION, 2).is_err(), "a later version");
    for state in [6, 7, 8, 255] {
        assert!(with(STATE, state).is_err(), "state {state} is never stored");
    }
    assert_eq!(Record::decode(&[0, 1, 0, 0], None), Ok(None), "a type of record that is not known");
}
