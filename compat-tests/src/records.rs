//! The records that every client sends and expects: record number i of a topic is the same in every language.
//!
//! They cover what clients and brokers get wrong: null and empty keys and values, no headers, a repeated header, null and
//! empty header values, sizes that vary, and timestamps of the past that rise with i.

use std::time::{SystemTime, UNIX_EPOCH};

use rdkafka::message::{Header, Headers, Message, OwnedHeaders};

/// The time of record 0: an hour ago, which every client gets as an argument.
pub fn base_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
    now.as_millis() as i64 - 3_600_000
}

pub fn key(i: u64) -> Option<Vec<u8>> {
    (i % 10 != 3).then(|| format!("key-{i}").into_bytes())
}

pub fn value(i: u64) -> Option<Vec<u8>> {
    match i % 10 {
        7 => None,
        8 => Some(Vec::new()),
        _ => Some(format!("value-{i}-{}", "x".repeat((i % 100) as usize)).into_bytes()),
    }
}

/// What a client's headers may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderValues {
    Any,
    /// It refuses to send a header without a value, and sends another in its place.
    NeverNull,
}

pub fn headers(i: u64) -> Vec<(&'static str, Option<Vec<u8>>)> {
    match i % 4 {
        1 => vec![("h", Some(format!("{i}").into_bytes()))],
        2 => vec![("h", Some(format!("a{i}").into_bytes())), ("h", Some(format!("b{i}").into_bytes()))],
        3 => vec![("null", None), ("empty", Some(Vec::new()))],
        _ => vec![],
    }
}

/// The headers as librdkafka sends them.
pub fn owned_headers(i: u64) -> OwnedHeaders {
    let headers = headers(i);
    headers.iter().fold(OwnedHeaders::new(), |owned, (key, value)| owned.insert(Header { key, value: value.as_ref() }))
}

/// Checks that `message` is record `i` at `offset`.
pub fn check(message: &impl Message, i: u64, base_ms: i64, offset: i64, values: HeaderValues) {
    let at = format!("{}-{} record {i}", message.topic(), message.partition());
    assert_eq!(message.offset(), offset, "{at}: offset");
    assert_eq!(message.key(), key(i).as_deref(), "{at}: key");
    assert_eq!(message.payload(), value(i).as_deref(), "{at}: value");
    assert_eq!(message.timestamp().to_millis(), Some(base_ms + i as i64), "{at}: timestamp");
    let got: Vec<_> = message.headers().iter().flat_map(|headers| headers.iter()).map(|h| (h.key, h.value)).collect();
    let expected = headers(i);
    let mut expected: Vec<_> = expected.iter().map(|(key, value)| (*key, value.as_deref())).collect();
    if values == HeaderValues::NeverNull {
        expected.iter_mut().filter(|header| header.1.is_none()).for_each(|header| *header = ("a", Some(b"a")));
    }
    assert_eq!(got, expected, "{at}: headers");
}
