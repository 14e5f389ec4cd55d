//! Records of `__transaction_state` to bytes and back, byte for byte Apache Kafka's. A key is its type and the
//! transactional id, a value its version and fields.

use bytes::{BufMut, Bytes};

use super::Producer;
use super::records::{Name, Partitions, Record, State, Transaction};
use crate::protocol::wire::{Malformed, Reader, Result, Writer};

/// The only type of record that there is.
const TRANSACTION: i16 = 0;
/// From this `transaction.version` on, values have tagged fields: brokers before it cannot read those.
const FIRST_FLEXIBLE_FEATURE_LEVEL: i16 = 1;

/// The tags of fields that are only written where they differ from these defaults.
const PREVIOUS_PRODUCER_ID: (u32, i64) = (0, -1);
const NEXT_PRODUCER_ID: (u32, i64) = (1, -1);
const CLIENT_VERSION: (u32, i16) = (2, 0);

impl Record {
    /// Key and value, in the version that a cluster of this `transaction.version` writes.
    pub fn encode(&self, transaction_version: i16) -> (Bytes, Option<Bytes>) {
        let mut key = Writer::new(4 + self.transactional_id.len(), false);
        key.buf.put_i16(TRANSACTION);
        key.string(&self.transactional_id);
        let flexible = transaction_version >= FIRST_FLEXIBLE_FEATURE_LEVEL;
        (key.buf.freeze(), self.value.as_ref().map(|value| encode_value(value, flexible)))
    }

    /// None for types of records that are not known.
    pub fn decode(key: &[u8], value: Option<&[u8]>) -> Result<Option<Record>> {
        let mut key = Reader::new(key, false);
        if key.i16()? != TRANSACTION {
            return Ok(None);
        }
        let transactional_id = Name::from(key.string()?);
        Ok(Some(Record { transactional_id, value: value.map(decode_value).transpose()? }))
    }
}

fn encode_value(value: &Transaction, flexible: bool) -> Bytes {
    let mut out = Writer::new(64, flexible);
    out.buf.put_i16(i16::from(flexible));
    out.buf.put_i64(value.producer.id);
    out.buf.put_i16(value.producer.epoch);
    out.buf.put_i32(value.timeout_ms);
    out.buf.put_i8(value.state as i8);
    match value.state {
        State::Empty => out.null_array(),
        _ => put_partitions(&mut out, &value.partitions),
    }
    out.buf.put_i64(value.last_update_ms);
    out.buf.put_i64(value.start_ms);
    let (previous, next) = (value.previous_producer_id.to_be_bytes(), value.next_producer_id.to_be_bytes());
    let client_version = value.client_version.to_be_bytes();
    let mut tagged: Vec<(u32, &[u8])> = Vec::new();
    if value.previous_producer_id != PREVIOUS_PRODUCER_ID.1 {
        tagged.push((PREVIOUS_PRODUCER_ID.0, &previous));
    }
    if value.next_producer_id != NEXT_PRODUCER_ID.1 {
        tagged.push((NEXT_PRODUCER_ID.0, &next));
    }
    if value.client_version != CLIENT_VERSION.1 {
        tagged.push((CLIENT_VERSION.0, &client_version));
    }
    out.tagged_fields(&tagged);
    out.buf.freeze()
}

fn put_partitions(out: &mut Writer, partitions: &Partitions) {
    out.length(partitions.len());
    for (topic, indexes) in partitions {
        out.string(topic);
        out.length(indexes.len());
        indexes.iter().for_each(|index| out.buf.put_i32(*index));
        out.no_tagged_fields();
    }
}

fn decode_value(value: &[u8]) -> Result<Transaction> {
    let version = Reader::new(value, false).i16()?;
    // A later format would be misread.
    if !(0..=1).contains(&version) {
        return Err(Malformed("a record's version is not known"));
    }
    let mut from = Reader::new(&value[2..], version == 1);
    let mut transaction = Transaction {
        producer: Producer { id: from.i64()?, epoch: from.i16()? },
        previous_producer_id: PREVIOUS_PRODUCER_ID.1,
        next_producer_id: NEXT_PRODUCER_ID.1,
        timeout_ms: from.i32()?,
        state: state(from.i8()?)?,
        partitions: partitions(&mut from)?,
        last_update_ms: from.i64()?,
        start_ms: from.i64()?,
        client_version: CLIENT_VERSION.1,
    };
    from.tagged_fields(|tag, mut field| {
        match tag {
            tag if tag == PREVIOUS_PRODUCER_ID.0 => transaction.previous_producer_id = field.i64()?,
            tag if tag == NEXT_PRODUCER_ID.0 => transaction.next_producer_id = field.i64()?,
            tag if tag == CLIENT_VERSION.0 => transaction.client_version = field.i16()?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(transaction)
}

fn state(number: i8) -> Result<State> {
    let state = State::ALL.into_iter().find(|state| *state as i8 == number);
    state
        .filter(|state| !matches!(state, State::Dead | State::PrepareEpochFence))
        .ok_or(Malformed("a transaction's state is not known"))
}

fn partitions(from: &mut Reader<'_>) -> Result<Partitions> {
    let mut partitions = Partitions::new();
    for _ in 0..from.nullable_array_len()?.unwrap_or(0) {
        let topic = Name::from(from.string()?);
        let indexes = (0..from.array_len()?).map(|_| from.i32()).collect::<Result<_>>()?;
        from.skip_tagged_fields()?;
        partitions.insert(topic, indexes);
    }
    Ok(partitions)
}
