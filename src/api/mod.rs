//! THE TABLE: every API with its key, versions and handler. ApiVersions answers from it.
//!
//! A handler decodes, authorises, calls one owner, maps errors. It never spawns, locks or touches files.

mod add_offsets_to_txn;
mod add_partitions_to_txn;
mod alter_configs;
mod api_versions;
mod consumer_group_describe;
mod consumer_group_heartbeat;
mod create_partitions;
mod create_topics;
mod delete_groups;
mod delete_records;
mod delete_topics;
mod describe_cluster;
mod describe_configs;
mod describe_groups;
mod describe_producers;
mod describe_topic_partitions;
mod describe_transactions;
mod end_txn;
mod fetch;
mod find_coordinator;
mod heartbeat;
mod incremental_alter_configs;
mod init_producer_id;
mod join_group;
mod leave_group;
mod list_config_resources;
mod list_groups;
mod list_offsets;
mod list_transactions;
mod metadata;
mod offset_commit;
mod offset_delete;
mod offset_fetch;
mod offset_for_leader_epoch;
mod produce;
mod sync_group;
mod txn_offset_commit;
mod update_features;
mod write_txn_markers;

use std::future::Future;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use ottla_storage::io::FileSlice;

use crate::broker::Broker;
use crate::error::ApiError;
use crate::protocol::schema::{self, Schema};
use crate::protocol::{guard, header};

/// Everything a handler may know about the request besides its body.
pub struct RequestContext {
    pub broker: Arc<Broker>,
    pub api_key: i16,
    pub api_version: i16,
    pub correlation_id: i32,
    pub client_id: Option<StrBytes>,
    /// Name of the listener it came in on: answers name the endpoint of that listener.
    pub listener_name: Arc<str>,
    pub peer: SocketAddr,
}

/// A piece of an answer. File pieces are read as the socket takes them.
#[derive(Debug)]
pub enum Part {
    Bytes(Bytes),
    File(FileSlice),
}

/// The answer's body (after the response header, which net adds).
#[derive(Debug, Default)]
pub struct Body {
    pub parts: Vec<Part>,
}

/// What a handler returns.
#[derive(Debug)]
pub enum Reply {
    Body(Body),
    /// acks=0: nothing is sent.
    None,
    /// The connection is closed (a malformed request, an error on acks=0), with the reason for the log.
    Close(String),
}

impl Reply {
    /// Encodes a kafka-protocol response at `version`. A failure to encode is our bug: it panics.
    pub fn encode<R: Encodable>(response: &R, version: i16) -> Reply {
        let mut buf = BytesMut::with_capacity(response.compute_size(version).unwrap_or_default());
        response.encode(&mut buf, version).expect("a response that its version can carry");
        Reply::Body(Body { parts: vec![Part::Bytes(buf.freeze())] })
    }
}

pub type ReplyFuture = Pin<Box<dyn Future<Output = Reply>>>;
pub type Handler = fn(RequestContext, Bytes) -> ReplyFuture;

/// One row of the table.
pub struct Api {
    pub key: i16,
    pub name: &'static str,
    pub min_version: i16,
    pub max_version: i16,
    /// The request's shape, which `protocol::guard` checks before the handler sees the body.
    pub request: &'static Schema,
    /// Given a request's version and body: may the next one of the connection start before it has answered (Produce,
    /// OffsetCommit)? Its handler does what must be in order by its first poll. Others run one at a time, as in Kafka.
    /// Answers always leave in order.
    pub pipelined: fn(i16, &[u8]) -> bool,
    /// It only waits for something to happen: a stopping broker may close the connection instead of answering.
    pub long_poll: bool,
    pub handler: Handler,
}

const fn api(key: i16, versions: RangeInclusive<i16>, request: &'static Schema, handler: Handler) -> Api {
    Api {
        key,
        name: request.name,
        min_version: *versions.start(),
        max_version: *versions.end(),
        request,
        pipelined: |_, _| false,
        long_poll: false,
        handler,
    }
}

impl Api {
    const fn pipelined(self, pipelined: fn(i16, &[u8]) -> bool) -> Api {
        Api { pipelined, ..self }
    }

    const fn long_poll(self) -> Api {
        Api { long_poll: true, ..self }
    }
}

/// Decodes the body (already guarded by `protocol::guard`) into `R`; a body that does not decode closes the connection.
pub fn decode<R: Decodable>(body: &mut Bytes, version: i16) -> Result<R, Reply> {
    R::decode(body, version).map_err(|e| Reply::Close(format!("malformed request: {e}")))
}

/// The text for an error_message field; None leaves the words to the client.
pub fn error_message(error: &ApiError) -> Option<StrBytes> {
    (!error.message.is_empty()).then(|| StrBytes::from_string(error.message.clone()))
}

/// Sorted by key.
pub static TABLE: &[Api] = &[
    api(0, 3..=13, &schema::PRODUCE, |c, b| Box::pin(produce::handle(c, b))).pipelined(|v, b| !produce::may_wait(v, b)),
    api(1, 4..=18, &schema::FETCH, |c, b| Box::pin(fetch::handle(c, b))).long_poll(),
    api(2, 1..=11, &schema::LIST_OFFSETS, |c, b| Box::pin(list_offsets::handle(c, b))),
    api(3, 0..=13, &schema::METADATA, |c, b| Box::pin(metadata::handle(c, b))),
    api(8, 2..=10, &schema::OFFSET_COMMIT, |c, b| Box::pin(offset_commit::handle(c, b))).pipelined(|_, _| true),
    api(9, 1..=10, &schema::OFFSET_FETCH, |c, b| Box::pin(offset_fetch::handle(c, b))),
    api(10, 0..=6, &schema::FIND_COORDINATOR, |c, b| Box::pin(find_coordinator::handle(c, b))),
    api(11, 0..=9, &schema::JOIN_GROUP, |c, b| Box::pin(join_group::handle(c, b))).long_poll(),
    api(12, 0..=4, &schema::HEARTBEAT, |c, b| Box::pin(heartbeat::handle(c, b))),
    api(13, 0..=5, &schema::LEAVE_GROUP, |c, b| Box::pin(leave_group::handle(c, b))),
    api(14, 0..=5, &schema::SYNC_GROUP, |c, b| Box::pin(sync_group::handle(c, b))).long_poll(),
    api(15, 0..=6, &schema::DESCRIBE_GROUPS, |c, b| Box::pin(describe_groups::handle(c, b))),
    api(16, 0..=5, &schema::LIST_GROUPS, |c, b| Box::pin(list_groups::handle(c, b))),
    api(18, 0..=4, &schema::API_VERSIONS, |c, b| Box::pin(api_versions::handle(c, b))),
    api(19, 2..=7, &schema::CREATE_TOPICS, |c, b| Box::pin(create_topics::handle(c, b))),
    api(20, 1..=6, &schema::DELETE_TOPICS, |c, b| Box::pin(delete_topics::handle(c, b))),
    api(21, 0..=2, &schema::DELETE_RECORDS, |c, b| Box::pin(delete_records::handle(c, b))),
    api(22, 0..=5, &schema::INIT_PRODUCER_ID, |c, b| Box::pin(init_producer_id::handle(c, b))),
    api(23, 2..=4, &schema::OFFSET_FOR_LEADER_EPOCH, |c, b| Box::pin(offset_for_leader_epoch::handle(c, b))),
    api(24, 0..=5, &schema::ADD_PARTITIONS_TO_TXN, |c, b| Box::pin(add_partitions_to_txn::handle(c, b))),
    api(25, 0..=4, &schema::ADD_OFFSETS_TO_TXN, |c, b| Box::pin(add_offsets_to_txn::handle(c, b))),
    api(26, 0..=5, &schema::END_TXN, |c, b| Box::pin(end_txn::handle(c, b))),
    api(27, 1..=2, &schema::WRITE_TXN_MARKERS, |c, b| Box::pin(write_txn_markers::handle(c, b))),
    api(28, 0..=5, &schema::TXN_OFFSET_COMMIT, |c, b| Box::pin(txn_offset_commit::handle(c, b))),
    api(32, 1..=4, &schema::DESCRIBE_CONFIGS, |c, b| Box::pin(describe_configs::handle(c, b))),
    api(33, 0..=2, &schema::ALTER_CONFIGS, |c, b| Box::pin(alter_configs::handle(c, b))),
    api(37, 0..=3, &schema::CREATE_PARTITIONS, |c, b| Box::pin(create_partitions::handle(c, b))),
    api(42, 0..=2, &schema::DELETE_GROUPS, |c, b| Box::pin(delete_groups::handle(c, b))),
    api(44, 0..=1, &schema::INCREMENTAL_ALTER_CONFIGS, |c, b| Box::pin(incremental_alter_configs::handle(c, b))),
    api(47, 0..=0, &schema::OFFSET_DELETE, |c, b| Box::pin(offset_delete::handle(c, b))),
    api(57, 0..=2, &schema::UPDATE_FEATURES, |c, b| Box::pin(update_features::handle(c, b))),
    api(60, 0..=2, &schema::DESCRIBE_CLUSTER, |c, b| Box::pin(describe_cluster::handle(c, b))),
    api(61, 0..=0, &schema::DESCRIBE_PRODUCERS, |c, b| Box::pin(describe_producers::handle(c, b))),
    api(65, 0..=0, &schema::DESCRIBE_TRANSACTIONS, |c, b| Box::pin(describe_transactions::handle(c, b))),
    api(66, 0..=2, &schema::LIST_TRANSACTIONS, |c, b| Box::pin(list_transactions::handle(c, b))),
    api(68, 0..=1, &schema::CONSUMER_GROUP_HEARTBEAT, |c, b| Box::pin(consumer_group_heartbeat::handle(c, b))),
    api(69, 0..=1, &schema::CONSUMER_GROUP_DESCRIBE, |c, b| Box::pin(consumer_group_describe::handle(c, b))),
    api(74, 0..=1, &schema::LIST_CONFIG_RESOURCES, |c, b| Box::pin(list_config_resources::handle(c, b))),
    api(75, 0..=0, &schema::DESCRIBE_TOPIC_PARTITIONS, |c, b| Box::pin(describe_topic_partitions::handle(c, b))),
];

/// Who sent a request, and where it came in.
#[derive(Clone, Debug)]
pub struct Peer {
    pub listener: Arc<str>,
    pub address: SocketAddr,
}

/// A request that has been recognised. Nothing runs before `reply` is polled.
pub struct Started {
    pub correlation_id: i32,
    /// The answer's header carries tagged fields (response header version 1).
    pub flexible_header: bool,
    pub pipelined: bool,
    pub long_poll: bool,
    pub reply: ReplyFuture,
}

/// Recognises the request in `frame` (what followed the size). An error closes the connection, as Kafka does with
/// unknown keys, versions that are not served, and what does not parse.
pub fn dispatch(broker: &Arc<Broker>, peer: &Peer, mut frame: Bytes) -> Result<Started, String> {
    let header::Peek { api_key, api_version } = header::peek(&frame).map_err(|e| e.to_string())?;
    let Some(api) = find(api_key) else { return Err(format!("unknown API key {api_key}")) };
    let served = (api.min_version..=api.max_version).contains(&api_version);
    // A client's first request may be of a version we never heard of; its handler answers what there is (KIP-35).
    if !served && api_key != api_versions::KEY {
        return Err(format!("{} version {api_version} is not supported", api.name));
    }
    let flexible = api.request.is_flexible(api_version);
    let header = header::take(&mut frame, flexible).map_err(|e| format!("{}: {e}", api.name))?;
    if served {
        guard::check(api.request, api_version, &frame).map_err(|e| format!("{} v{api_version}: {e}", api.name))?;
    }
    let context = RequestContext {
        broker: broker.clone(),
        api_key,
        api_version,
        correlation_id: header.correlation_id,
        client_id: header.client_id,
        listener_name: peer.listener.clone(),
        peer: peer.address,
    };
    Ok(Started {
        correlation_id: header.correlation_id,
        // A client cannot know the header of an answer whose version it is still asking for (KIP-511).
        flexible_header: flexible && api_key != api_versions::KEY,
        pipelined: (api.pipelined)(api_version, &frame),
        long_poll: api.long_poll,
        reply: (api.handler)(context, frame),
    })
}

fn find(key: i16) -> Option<&'static Api> {
    TABLE.binary_search_by_key(&key, |api| api.key).ok().map(|i| &TABLE[i])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Encodes at `version` and decodes what comes out: a field that the version lacks would fail here.
    pub(super) fn encodes_at<R: Encodable + Decodable>(response: &R, version: i16) {
        let mut buf = BytesMut::new();
        response.encode(&mut buf, version).unwrap_or_else(|e| panic!("version {version}: {e}"));
        R::decode(&mut buf.freeze(), version).unwrap_or_else(|e| panic!("version {version}: {e}"));
    }

    #[test]
    fn the_table_is_sorted_and_its_keys_are_unique() {
        assert!(TABLE.is_sorted_by(|a, b| a.key < b.key));
        assert!(TABLE.iter().all(|api| api.min_version <= api.max_version));
    }

    #[test]
    fn every_file_here_is_a_row_and_says_so_in_its_first_line() {
        let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/api");
        let mut heads: Vec<String> = std::fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .map(|path| if path.is_dir() { path.join("mod.rs") } else { path })
            .filter(|path| !path.ends_with("api/mod.rs"))
            .map(|path| std::fs::read_to_string(path).unwrap().lines().next().unwrap().to_owned())
            .collect();
        let mut rows: Vec<String> = TABLE
            .iter()
            .map(|Api { name, key, min_version, max_version, .. }| match (min_version, max_version) {
                (min, max) if min == max => format!("//! {name} (key {key}), version {min}"),
                (min, max) => format!("//! {name} (key {key}), versions {min}-{max}"),
            })
            .collect();
        heads.sort();
        rows.sort();
        for (head, row) in heads.iter().zip(&rows) {
            let rest = head.strip_prefix(row.as_str());
            assert!(rest.is_some_and(|rest| !rest.starts_with(char::is_numeric)), "{head} is not {row}");
        }
        assert_eq!(heads.len(), rows.len());
    }
}
