//! Control records of the metadata log: who leads, who votes, where a snapshot begins and ends. The key is int16 version,
//! int16 type; the messages themselves are kafka-protocol's.

use bytes::BytesMut;
use kafka_protocol::messages::leader_change_message::Voter as LeaderChangeVoter;
use kafka_protocol::messages::voters_record::{Endpoint, KRaftVersionFeature, Voter};
use kafka_protocol::messages::{
    KRaftVersionRecord, LeaderChangeMessage, SnapshotFooterRecord, SnapshotHeaderRecord, VotersRecord,
};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use uuid::Uuid;

use super::codec::DecodeError;

const LEADER_CHANGE: i16 = 2;
const SNAPSHOT_HEADER: i16 = 3;
const SNAPSHOT_FOOTER: i16 = 4;
const KRAFT_VERSION: i16 = 5;
const KRAFT_VOTERS: i16 = 6;

#[derive(Clone, Debug, PartialEq)]
pub enum ControlRecord {
    LeaderChange {
        leader_id: i32,
    },
    KRaftVersion(i16),
    /// Who may vote, if the log says so (kraft.version 1; else the configuration does), and the record's value.
    Voters(Vec<VoterId>, Vec<u8>),
    SnapshotHeader,
    SnapshotFooter,
    /// Transaction markers and types of later versions: nothing that matters here.
    Other(i16),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VoterId {
    pub id: i32,
    pub directory_id: Uuid,
}

/// Key and value of a record in a control batch.
pub type KeyValue = (Vec<u8>, Vec<u8>);

/// The only voter elected itself.
pub fn leader_change(leader_id: i32) -> KeyValue {
    let voter = LeaderChangeVoter::default().with_voter_id(leader_id);
    let message = LeaderChangeMessage::default()
        .with_leader_id(leader_id.into())
        .with_voters(vec![voter.clone()])
        .with_granting_voters(vec![voter]);
    key_value(LEADER_CHANGE, &message)
}

pub fn kraft_version(version: i16) -> KeyValue {
    key_value(KRAFT_VERSION, &KRaftVersionRecord::default().with_k_raft_version(version))
}

/// One voter, reached at `endpoint`: (listener name, host, port).
pub fn voters(voter: VoterId, endpoint: &(String, String, u16)) -> KeyValue {
    let (name, host, port) = endpoint.clone();
    let endpoint = Endpoint::default()
        .with_name(StrBytes::from_string(name))
        .with_host(StrBytes::from_string(host))
        .with_port(port);
    let voter = Voter::default()
        .with_voter_id(voter.id.into())
        .with_voter_directory_id(voter.directory_id)
        .with_endpoints(vec![endpoint])
        .with_k_raft_version_feature(KRaftVersionFeature::default().with_max_supported_version(1));
    key_value(KRAFT_VOTERS, &VotersRecord::default().with_voters(vec![voter]))
}

/// `last_ms`: time of the last record that the snapshot stands for.
pub fn snapshot_header(last_ms: i64) -> KeyValue {
    key_value(SNAPSHOT_HEADER, &SnapshotHeaderRecord::default().with_last_contained_log_timestamp(last_ms))
}

pub fn snapshot_footer() -> KeyValue {
    key_value(SNAPSHOT_FOOTER, &SnapshotFooterRecord::default())
}

/// The record with a value that was read.
pub fn voters_again(value: Vec<u8>) -> KeyValue {
    (key(KRAFT_VOTERS), value)
}

fn key(record_type: i16) -> Vec<u8> {
    [0i16.to_be_bytes(), record_type.to_be_bytes()].concat()
}

fn key_value<M: Encodable>(record_type: i16, message: &M) -> KeyValue {
    let mut value = BytesMut::new();
    message.encode(&mut value, 0).expect("version 0 carries every field set here");
    (key(record_type), value.to_vec())
}

pub fn decode(key: Option<&[u8]>, value: Option<&[u8]>) -> Result<ControlRecord, DecodeError> {
    let (Some([_, _, t0, t1, ..]), Some(mut value)) = (key, value) else {
        return Err(DecodeError::Invalid("a control record without key or value"));
    };
    let whole = value;
    let invalid = |_| DecodeError::Invalid("a control record whose value does not decode");
    // The value begins with the version it was written in, an int16.
    let version = value.first_chunk().map_or(0, |v| i16::from_be_bytes(*v));
    match i16::from_be_bytes([*t0, *t1]) {
        LEADER_CHANGE => {
            let message = LeaderChangeMessage::decode(&mut value, version).map_err(invalid)?;
            Ok(ControlRecord::LeaderChange { leader_id: message.leader_id.0 })
        }
        KRAFT_VERSION => {
            let message = KRaftVersionRecord::decode(&mut value, version).map_err(invalid)?;
            Ok(ControlRecord::KRaftVersion(message.k_raft_version))
        }
        KRAFT_VOTERS => {
            let message = VotersRecord::decode(&mut value, version).map_err(invalid)?;
            let voters = message.voters.iter();
            let voters = voters.map(|v| VoterId { id: v.voter_id.0, directory_id: v.voter_directory_id });
            Ok(ControlRecord::Voters(voters.collect(), whole.to_vec()))
        }
        SNAPSHOT_HEADER => Ok(ControlRecord::SnapshotHeader),
        SNAPSHOT_FOOTER => Ok(ControlRecord::SnapshotFooter),
        other => Ok(ControlRecord::Other(other)),
    }
}
