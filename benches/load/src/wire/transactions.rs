//! What transactional producers of the second generation (KIP-890) say, and what they are told. No sockets.

use anyhow::{Result, ensure};

use super::{Fields, Frame, produce_all};

const FIND_COORDINATOR: i16 = 10;
const INIT_PRODUCER_ID: i16 = 22;
const END_TXN: i16 = 26;

/// What a broker allows at most: one that is paused aborts nothing.
const TRANSACTION_TIMEOUT_MS: i32 = 900_000;
const COORDINATOR_LOAD_IN_PROGRESS: i16 = 14;
const COORDINATOR_NOT_AVAILABLE: i16 = 15;
const NOT_COORDINATOR: i16 = 16;
const NOT_ENOUGH_REPLICAS: i16 = 19;
const CONCURRENT_TRANSACTIONS: i16 = 51;

/// The client is to ask again.
pub fn is_retriable(code: i16) -> bool {
    [
        COORDINATOR_LOAD_IN_PROGRESS,
        COORDINATOR_NOT_AVAILABLE,
        NOT_COORDINATOR,
        NOT_ENOUGH_REPLICAS,
        CONCURRENT_TRANSACTIONS,
    ]
    .contains(&code)
}

#[derive(Clone, Copy)]
pub struct Producer {
    pub id: i64,
    pub epoch: i16,
}

/// FindCoordinator v2 of a transactional id.
pub fn find_coordinator(id: &str) -> Frame {
    let mut frame = Frame::new(FIND_COORDINATOR, 2);
    frame.string(id);
    frame.i8(1);
    frame.finish()
}

/// InitProducerId v1.
pub fn init(id: &str) -> Frame {
    let mut frame = Frame::new(INIT_PRODUCER_ID, 1);
    frame.string(id);
    frame.i32(TRANSACTION_TIMEOUT_MS);
    frame.finish()
}

/// Or an error's code.
pub fn initialized(response: &[u8]) -> Result<Result<Producer, i16>> {
    let mut fields = Fields::new(response);
    fields.take(8)?; // correlation id, throttle time
    producer(&mut fields)
}

/// Produce v12 of the batch to each of `partitions`, which so become part of the transaction.
pub fn produce(id: &str, topic: &str, partitions: impl ExactSizeIterator<Item = i32>, batch: &[u8]) -> Frame {
    produce_all(12, Some(id), topic, partitions, batch)
}

/// The first error's code, or 0.
pub fn produced(response: &[u8]) -> Result<i16> {
    let mut fields = Fields::new(response);
    fields.i32()?; // correlation id
    fields.no_tagged_fields()?;
    ensure!(fields.uvarint()? == 2, "expected one topic in the Produce response");
    fields.compact_string()?; // topic
    let mut first = 0;
    for _ in 1..fields.uvarint()? {
        fields.i32()?;
        let code = fields.i16()?;
        first = if first == 0 { code } else { first };
        fields.take(24)?; // base offset, append time, log start offset
        ensure!(fields.uvarint()? == 1, "expected no record errors");
        fields.compact_string()?; // error message
        fields.no_tagged_fields()?;
    }
    Ok(first)
}

/// EndTxn v5: commits.
pub fn commit(id: &str, producer: Producer) -> Frame {
    let mut frame = Frame::new(END_TXN, 5);
    frame.no_tagged_fields();
    frame.compact_string(id);
    frame.i64(producer.id);
    frame.i16(producer.epoch);
    frame.i8(1);
    frame.no_tagged_fields();
    frame.finish()
}

/// The producer that goes on, or an error's code.
pub fn committed(response: &[u8]) -> Result<Result<Producer, i16>> {
    let mut fields = Fields::new(response);
    fields.i32()?; // correlation id
    fields.no_tagged_fields()?;
    fields.i32()?; // throttle time
    producer(&mut fields)
}

fn producer(fields: &mut Fields<'_>) -> Result<Result<Producer, i16>> {
    let code = fields.i16()?;
    let producer = Producer { id: fields.i64()?, epoch: fields.i16()? };
    Ok(if code == 0 { Ok(producer) } else { Err(code) })
}
