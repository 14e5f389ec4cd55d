//! The records of `__cluster_metadata`, byte for byte as Apache Kafka's controllers write them. A value is a frame
//! version (1), the record's key, its version (all unsigned varints), then a flexible message. What the records mean
//! is in `delta.rs`; control records are in `control.rs`.

use uuid::Uuid;

use super::carried::Carried;
use super::codec::{DecodeError, Reader, Writer};

const FRAME_VERSION: u32 = 1;

/// A partition or broker id field that says "nobody" or "no change".
pub const NO_LEADER: i32 = -1;
/// PartitionChange: the leader stays, and so does its epoch.
pub const NO_LEADER_CHANGE: i32 = -2;

#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    RegisterBroker(RegisterBroker),
    UnregisterBroker { broker_id: i32, broker_epoch: i64 },
    Topic { name: String, topic_id: Uuid },
    Partition(Partition),
    Config { resource_type: i8, resource_name: String, name: String, value: Option<String> },
    PartitionChange(PartitionChange),
    FenceBroker { id: i32, epoch: i64 },
    UnfenceBroker { id: i32, epoch: i64 },
    RemoveTopic { topic_id: Uuid },
    FeatureLevel { name: String, level: i16 },
    ProducerIds { broker_id: i32, broker_epoch: i64, next_producer_id: i64 },
    BrokerRegistrationChange(BrokerRegistrationChange),
    NoOp,
    BeginTransaction { name: Option<String> },
    EndTransaction,
    AbortTransaction { reason: Option<String> },
    ClearElr { topic_name: String },
    Carried(Carried),
}

#[derive(Clone, Debug, PartialEq)]
pub struct RegisterBroker {
    pub broker_id: i32,
    pub incarnation_id: Uuid,
    /// The offset of this very record.
    pub broker_epoch: i64,
    pub endpoints: Vec<Endpoint>,
    pub features: Vec<FeatureRange>,
    pub rack: Option<String>,
    pub fenced: bool,
    pub in_controlled_shutdown: bool,
    pub log_dirs: Vec<Uuid>,
    pub cordoned_log_dirs: Option<Vec<Uuid>>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Endpoint {
    pub name: String,
    pub host: String,
    pub port: u16,
    /// 0 PLAINTEXT, 1 SSL, 2 SASL_PLAINTEXT, 3 SASL_SSL.
    pub security_protocol: i16,
}

#[derive(Clone, Debug, PartialEq)]
pub struct FeatureRange {
    pub name: String,
    pub min: i16,
    pub max: i16,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Partition {
    pub partition_id: i32,
    pub topic_id: Uuid,
    pub replicas: Vec<i32>,
    pub isr: Vec<i32>,
    pub removing_replicas: Vec<i32>,
    pub adding_replicas: Vec<i32>,
    pub leader: i32,
    pub leader_recovery_state: i8,
    pub leader_epoch: i32,
    pub partition_epoch: i32,
    pub directories: Vec<Uuid>,
    pub eligible_leader_replicas: Option<Vec<i32>>,
    pub last_known_elr: Option<Vec<i32>>,
}

/// Only what is Some (or not its "no change" value) changes.
#[derive(Clone, Debug, PartialEq)]
pub struct PartitionChange {
    pub partition_id: i32,
    pub topic_id: Uuid,
    pub isr: Option<Vec<i32>>,
    pub leader: i32,
    pub replicas: Option<Vec<i32>>,
    pub removing_replicas: Option<Vec<i32>>,
    pub adding_replicas: Option<Vec<i32>>,
    /// -1: no change.
    pub leader_recovery_state: i8,
    pub eligible_leader_replicas: Option<Vec<i32>>,
    pub last_known_elr: Option<Vec<i32>>,
    pub directories: Option<Vec<Uuid>>,
}

impl PartitionChange {
    /// A change of nothing, to be filled in.
    pub fn new(topic_id: Uuid, partition_id: i32) -> PartitionChange {
        PartitionChange {
            partition_id,
            topic_id,
            isr: None,
            leader: NO_LEADER_CHANGE,
            replicas: None,
            removing_replicas: None,
            adding_replicas: None,
            leader_recovery_state: -1,
            eligible_leader_replicas: None,
            last_known_elr: None,
            directories: None,
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct BrokerRegistrationChange {
    pub broker_id: i32,
    pub broker_epoch: i64,
    /// 1: fence, -1: unfence, 0: no change.
    pub fenced: i8,
    /// 1: the broker has begun a controlled shutdown, 0: no change.
    pub in_controlled_shutdown: i8,
    /// Empty: no change.
    pub log_dirs: Vec<Uuid>,
    pub cordoned_log_dirs: Option<Vec<Uuid>>,
}

/// The levels that decide which version of a record other members of the cluster can read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteLevels {
    pub metadata_version: i16,
    /// `eligible.leader.replicas.version` is at least 1.
    pub eligible_leader_replicas: bool,
}

impl Record {
    pub fn key(&self) -> u32 {
        match self {
            Record::RegisterBroker(_) => 0,
            Record::UnregisterBroker { .. } => 1,
            Record::Topic { .. } => 2,
            Record::Partition(_) => 3,
            Record::Config { .. } => 4,
            Record::PartitionChange(_) => 5,
            Record::FenceBroker { .. } => 7,
            Record::UnfenceBroker { .. } => 8,
            Record::RemoveTopic { .. } => 9,
            Record::FeatureLevel { .. } => 12,
            Record::ProducerIds { .. } => 15,
            Record::BrokerRegistrationChange(_) => 17,
            Record::NoOp => 20,
            Record::BeginTransaction { .. } => 23,
            Record::EndTransaction => 24,
            Record::AbortTransaction { .. } => 25,
            Record::ClearElr { .. } => 28,
            Record::Carried(carried) => carried.key,
        }
    }

    /// The version that Kafka writes at these levels.
    pub fn version(&self, levels: WriteLevels) -> u32 {
        match self {
            Record::RegisterBroker(_) => match levels.metadata_version {
                30.. => 4,
                17.. => 3,
                8.. => 2,
                _ => 1,
            },
            Record::Partition(_) | Record::PartitionChange(_) => match levels.metadata_version {
                _ if levels.eligible_leader_replicas => 2,
                17.. => 1,
                _ => 0,
            },
            Record::BrokerRegistrationChange(change) => match change {
                BrokerRegistrationChange { cordoned_log_dirs: Some(_), .. } => 3,
                BrokerRegistrationChange { log_dirs, .. } if !log_dirs.is_empty() => 2,
                BrokerRegistrationChange { in_controlled_shutdown: 1.., .. } => 1,
                _ => 0,
            },
            _ => 0,
        }
    }

    pub fn encode(&self, version: u32) -> Vec<u8> {
        if let Record::Carried(carried) = self {
            return carried.bytes.clone();
        }
        let mut w = Writer::new();
        w.unsigned_varint(FRAME_VERSION);
        w.unsigned_varint(self.key());
        w.unsigned_varint(version);
        match self {
            Record::RegisterBroker(r) => r.write(&mut w, version),
            Record::Partition(r) => r.write(&mut w, version),
            Record::PartitionChange(r) => r.write(&mut w, version),
            Record::BrokerRegistrationChange(r) => r.write(&mut w, version),
            Record::Topic { name, topic_id } => {
                w.string(name);
                w.uuid(*topic_id);
            }
            Record::Config { resource_type, resource_name, name, value } => {
                w.i8(*resource_type);
                w.string(resource_name);
                w.string(name);
                w.nullable_string(value.as_deref());
            }
            Record::UnregisterBroker { broker_id: id, broker_epoch: epoch }
            | Record::FenceBroker { id, epoch }
            | Record::UnfenceBroker { id, epoch } => {
                w.i32(*id);
                w.i64(*epoch);
            }
            Record::RemoveTopic { topic_id } => w.uuid(*topic_id),
            Record::FeatureLevel { name, level } => {
                w.string(name);
                w.i16(*level);
            }
            Record::ProducerIds { broker_id, broker_epoch, next_producer_id } => {
                w.i32(*broker_id);
                w.i64(*broker_epoch);
                w.i64(*next_producer_id);
            }
            Record::BeginTransaction { name: text } | Record::AbortTransaction { reason: text } => {
                if let Some(text) = text {
                    w.tag(0, |w| w.string(text));
                }
            }
            Record::ClearElr { topic_name } => w.string(topic_name),
            Record::NoOp | Record::EndTransaction | Record::Carried(_) => {}
        }
        w.end_struct();
        w.finish()
    }

    /// The record and the version it was written in.
    pub fn decode(value: &[u8]) -> Result<(Record, u32), DecodeError> {
        let mut r = Reader::new(value);
        let frame = r.unsigned_varint()?;
        if frame != FRAME_VERSION {
            return Err(DecodeError::Frame(frame));
        }
        let key = r.unsigned_varint()?;
        let version = r.unsigned_varint()?;
        if version > latest_version(key)? {
            return Err(DecodeError::UnknownVersion { key, version });
        }
        Ok((Record::read(key, version, value, &mut r)?, version))
    }

    fn read(key: u32, version: u32, value: &[u8], r: &mut Reader<'_>) -> Result<Record, DecodeError> {
        let record = match key {
            0 => return RegisterBroker::read(r, version).map(Record::RegisterBroker),
            3 => return Partition::read(r, version).map(Record::Partition),
            5 => return PartitionChange::read(r).map(Record::PartitionChange),
            17 => return BrokerRegistrationChange::read(r).map(Record::BrokerRegistrationChange),
            23 => return Ok(Record::BeginTransaction { name: read_text_tag(r)? }),
            25 => return Ok(Record::AbortTransaction { reason: read_text_tag(r)? }),
            1 => Record::UnregisterBroker { broker_id: r.i32()?, broker_epoch: r.i64()? },
            2 => Record::Topic { name: r.string()?, topic_id: r.uuid()? },
            4 => Record::Config {
                resource_type: r.i8()?,
                resource_name: r.string()?,
                name: r.string()?,
                value: r.nullable_string()?,
            },
            7 => Record::FenceBroker { id: r.i32()?, epoch: r.i64()? },
            8 => Record::UnfenceBroker { id: r.i32()?, epoch: r.i64()? },
            9 => Record::RemoveTopic { topic_id: r.uuid()? },
            12 => Record::FeatureLevel { name: r.string()?, level: r.i16()? },
            15 => Record::ProducerIds { broker_id: r.i32()?, broker_epoch: r.i64()?, next_producer_id: r.i64()? },
            20 => Record::NoOp,
            24 => Record::EndTransaction,
            28 => Record::ClearElr { topic_name: r.string()? },
            key => return Carried::read(key, value, r).map(Record::Carried),
        };
        r.end_plain_struct()?;
        Ok(record)
    }
}

/// The newest version of each record of Apache Kafka 4.3.
fn latest_version(key: u32) -> Result<u32, DecodeError> {
    match key {
        0 => Ok(4),
        17 => Ok(3),
        3 | 5 => Ok(2),
        1 | 2 | 4 | 7..=12 | 14 | 15 | 18..=28 => Ok(0),
        _ => Err(DecodeError::UnknownKey(key)),
    }
}

fn read_text_tag(r: &mut Reader<'_>) -> Result<Option<String>, DecodeError> {
    let mut text = None;
    r.end_struct(|tag, r| {
        if tag == 0 {
            text = r.nullable_string()?;
        }
        Ok(())
    })?;
    Ok(text)
}

impl RegisterBroker {
    fn write(&self, w: &mut Writer, version: u32) {
        w.i32(self.broker_id);
        if version >= 2 {
            w.bool(false); // isMigratingZkBroker
        }
        w.uuid(self.incarnation_id);
        w.i64(self.broker_epoch);
        w.array(&self.endpoints, |w, e| {
            w.string(&e.name);
            w.string(&e.host);
            w.u16(e.port);
            w.i16(e.security_protocol);
            w.end_struct();
        });
        w.array(&self.features, |w, f| {
            w.string(&f.name);
            w.i16(f.min);
            w.i16(f.max);
            w.end_struct();
        });
        w.nullable_string(self.rack.as_deref());
        w.bool(self.fenced);
        if version >= 1 {
            w.bool(self.in_controlled_shutdown);
        }
        if version >= 3 && !self.log_dirs.is_empty() {
            w.tag(0, |w| w.uuids(&self.log_dirs));
        }
        if let (4.., Some(dirs)) = (version, &self.cordoned_log_dirs) {
            w.tag(1, |w| w.uuids(dirs));
        }
    }

    fn read(r: &mut Reader<'_>, version: u32) -> Result<RegisterBroker, DecodeError> {
        let broker_id = r.i32()?;
        if version >= 2 {
            r.bool()?; // isMigratingZkBroker
        }
        let mut record = RegisterBroker {
            broker_id,
            incarnation_id: r.uuid()?,
            broker_epoch: r.i64()?,
            endpoints: r.array(|r| {
                let (name, host) = (r.string()?, r.string()?);
                let endpoint = Endpoint { name, host, port: r.u16()?, security_protocol: r.i16()? };
                r.end_plain_struct()?;
                Ok(endpoint)
            })?,
            features: r.array(|r| {
                let feature = FeatureRange { name: r.string()?, min: r.i16()?, max: r.i16()? };
                r.end_plain_struct()?;
                Ok(feature)
            })?,
            rack: r.nullable_string()?,
            fenced: r.bool()?,
            in_controlled_shutdown: version >= 1 && r.bool()?,
            log_dirs: Vec::new(),
            cordoned_log_dirs: None,
        };
        r.end_struct(|tag, r| {
            match tag {
                0 => record.log_dirs = r.uuids()?,
                1 => record.cordoned_log_dirs = r.nullable_array(|r| r.uuid())?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(record)
    }
}

impl Partition {
    fn write(&self, w: &mut Writer, version: u32) {
        w.i32(self.partition_id);
        w.uuid(self.topic_id);
        w.i32s(&self.replicas);
        w.i32s(&self.isr);
        w.i32s(&self.removing_replicas);
        w.i32s(&self.adding_replicas);
        w.i32(self.leader);
        w.i32(self.leader_epoch);
        w.i32(self.partition_epoch);
        if version >= 1 {
            w.uuids(&self.directories);
        }
        if self.leader_recovery_state != 0 {
            w.tag(0, |w| w.i8(self.leader_recovery_state));
        }
        if version >= 2 {
            tag_i32s(w, 1, &self.eligible_leader_replicas);
            tag_i32s(w, 2, &self.last_known_elr);
        }
    }

    fn read(r: &mut Reader<'_>, version: u32) -> Result<Partition, DecodeError> {
        let mut record = Partition {
            partition_id: r.i32()?,
            topic_id: r.uuid()?,
            replicas: r.i32s()?,
            isr: r.i32s()?,
            removing_replicas: r.i32s()?,
            adding_replicas: r.i32s()?,
            leader: r.i32()?,
            leader_epoch: r.i32()?,
            partition_epoch: r.i32()?,
            directories: if version >= 1 { r.uuids()? } else { Vec::new() },
            leader_recovery_state: 0,
            eligible_leader_replicas: None,
            last_known_elr: None,
        };
        r.end_struct(|tag, r| {
            match tag {
                0 => record.leader_recovery_state = r.i8()?,
                1 => record.eligible_leader_replicas = r.nullable_array(|r| r.i32())?,
                2 => record.last_known_elr = r.nullable_array(|r| r.i32())?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(record)
    }
}

impl PartitionChange {
    fn write(&self, w: &mut Writer, version: u32) {
        w.i32(self.partition_id);
        w.uuid(self.topic_id);
        tag_i32s(w, 0, &self.isr);
        if self.leader != NO_LEADER_CHANGE {
            w.tag(1, |w| w.i32(self.leader));
        }
        tag_i32s(w, 2, &self.replicas);
        tag_i32s(w, 3, &self.removing_replicas);
        tag_i32s(w, 4, &self.adding_replicas);
        if self.leader_recovery_state != -1 {
            w.tag(5, |w| w.i8(self.leader_recovery_state));
        }
        if version >= 2 {
            tag_i32s(w, 6, &self.eligible_leader_replicas);
            tag_i32s(w, 7, &self.last_known_elr);
        }
        if let (1.., Some(directories)) = (version, &self.directories) {
            w.tag(8, |w| w.uuids(directories));
        }
    }

    fn read(r: &mut Reader<'_>) -> Result<PartitionChange, DecodeError> {
        let partition_id = r.i32()?;
        let mut record = PartitionChange::new(r.uuid()?, partition_id);
        r.end_struct(|tag, r| {
            match tag {
                0 => record.isr = r.nullable_array(|r| r.i32())?,
                1 => record.leader = r.i32()?,
                2 => record.replicas = r.nullable_array(|r| r.i32())?,
                3 => record.removing_replicas = r.nullable_array(|r| r.i32())?,
                4 => record.adding_replicas = r.nullable_array(|r| r.i32())?,
                5 => record.leader_recovery_state = r.i8()?,
                6 => record.eligible_leader_replicas = r.nullable_array(|r| r.i32())?,
                7 => record.last_known_elr = r.nullable_array(|r| r.i32())?,
                8 => record.directories = r.nullable_array(|r| r.uuid())?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(record)
    }
}

impl BrokerRegistrationChange {
    fn write(&self, w: &mut Writer, version: u32) {
        w.i32(self.broker_id);
        w.i64(self.broker_epoch);
        if self.fenced != 0 {
            w.tag(0, |w| w.i8(self.fenced));
        }
        if version >= 1 && self.in_controlled_shutdown != 0 {
            w.tag(1, |w| w.i8(self.in_controlled_shutdown));
        }
        if version >= 2 && !self.log_dirs.is_empty() {
            w.tag(2, |w| w.uuids(&self.log_dirs));
        }
        if let (3.., Some(dirs)) = (version, &self.cordoned_log_dirs) {
            w.tag(3, |w| w.uuids(dirs));
        }
    }

    fn read(r: &mut Reader<'_>) -> Result<BrokerRegistrationChange, DecodeError> {
        let mut record = BrokerRegistrationChange { broker_id: r.i32()?, broker_epoch: r.i64()?, ..Default::default() };
        r.end_struct(|tag, r| {
            match tag {
                0 => record.fenced = r.i8()?,
                1 => record.in_controlled_shutdown = r.i8()?,
                2 => record.log_dirs = r.uuids()?,
                3 => record.cordoned_log_dirs = r.nullable_array(|r| r.uuid())?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(record)
    }
}

fn tag_i32s(w: &mut Writer, tag: u32, items: &Option<Vec<i32>>) {
    if let Some(items) = items {
        w.tag(tag, |w| w.i32s(items));
    }
}
