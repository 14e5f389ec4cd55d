//! THE TABLE: every API with its key, versions and handler. ApiVersions answers from it.
//!
//! A handler decodes, authorises, calls one owner, maps errors. It never spawns, locks or touches files.

mod alter_configs;
mod api_versions;
mod create_partitions;
mod create_topics;
mod delete_records;
mod delete_topics;
mod describe_cluster;
mod describe_configs;
mod describe_topic_partitions;
mod fetch;
mod incremental_alter_configs;
mod init_producer_id;
mod list_offsets;
mod metadata;
mod offset_for_leader_epoch;
mod produce;

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use ottla_storage::io::FileSlice;

use crate::broker::Broker;
use crate::error::ApiError;

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
        let mut buf = BytesMut::new();
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
    /// The next request of the connection may start before this one has answered (Produce); others run one at a time,
    /// as in Kafka. Answers always leave in order.
    pub pipelined: bool,
    pub handler: Handler,
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
    Api {
        key: 0,
        name: "Produce",
        min_version: 3,
        max_version: 13,
        pipelined: true,
        handler: |c, b| Box::pin(produce::handle(c, b)),
    },
    Api {
        key: 1,
        name: "Fetch",
        min_version: 4,
        max_version: 18,
        pipelined: false,
        handler: |c, b| Box::pin(fetch::handle(c, b)),
    },
    Api {
        key: 2,
        name: "ListOffsets",
        min_version: 1,
        max_version: 11,
        pipelined: false,
        handler: |c, b| Box::pin(list_offsets::handle(c, b)),
    },
    Api {
        key: 3,
        name: "Metadata",
        min_version: 0,
        max_version: 13,
        pipelined: false,
        handler: |c, b| Box::pin(metadata::handle(c, b)),
    },
    Api {
        key: 18,
        name: "ApiVersions",
        min_version: 0,
        max_version: 4,
        pipelined: false,
        handler: |c, b| Box::pin(api_versions::handle(c, b)),
    },
    Api {
        key: 19,
        name: "CreateTopics",
        min_version: 2,
        max_version: 7,
        pipelined: false,
        handler: |c, b| Box::pin(create_topics::handle(c, b)),
    },
    Api {
        key: 20,
        name: "DeleteTopics",
        min_version: 1,
        max_version: 6,
        pipelined: false,
        handler: |c, b| Box::pin(delete_topics::handle(c, b)),
    },
    Api {
        key: 21,
        name: "DeleteRecords",
        min_version: 0,
        max_version: 2,
        pipelined: false,
        handler: |c, b| Box::pin(delete_records::handle(c, b)),
    },
    Api {
        key: 22,
        name: "InitProducerId",
        min_version: 0,
        max_version: 5,
        pipelined: false,
        handler: |c, b| Box::pin(init_producer_id::handle(c, b)),
    },
    Api {
        key: 23,
        name: "OffsetForLeaderEpoch",
        min_version: 2,
        max_version: 4,
        pipelined: false,
        handler: |c, b| Box::pin(offset_for_leader_epoch::handle(c, b)),
    },
    Api {
        key: 32,
        name: "DescribeConfigs",
        min_version: 1,
        max_version: 4,
        pipelined: false,
        handler: |c, b| Box::pin(describe_configs::handle(c, b)),
    },
    Api {
        key: 33,
        name: "AlterConfigs",
        min_version: 0,
        max_version: 2,
        pipelined: false,
        handler: |c, b| Box::pin(alter_configs::handle(c, b)),
    },
    Api {
        key: 37,
        name: "CreatePartitions",
        min_version: 0,
        max_version: 3,
        pipelined: false,
        handler: |c, b| Box::pin(create_partitions::handle(c, b)),
    },
    Api {
        key: 44,
        name: "IncrementalAlterConfigs",
        min_version: 0,
        max_version: 1,
        pipelined: false,
        handler: |c, b| Box::pin(incremental_alter_configs::handle(c, b)),
    },
    Api {
        key: 60,
        name: "DescribeCluster",
        min_version: 0,
        max_version: 2,
        pipelined: false,
        handler: |c, b| Box::pin(describe_cluster::handle(c, b)),
    },
    Api {
        key: 75,
        name: "DescribeTopicPartitions",
        min_version: 0,
        max_version: 0,
        pipelined: false,
        handler: |c, b| Box::pin(describe_topic_partitions::handle(c, b)),
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Encodes at `version` and decodes what comes out: a field that the version lacks would fail here.
    pub(super) fn encodes_at<R: Encodable + Decodable>(response: &R, version: i16) {
        let mut buf = BytesMut::new();
        response.encode(&mut buf, version).unwrap_or_else(|e| panic!("version {version}: {e}"));
        R::decode(&mut buf.freeze(), version).unwrap_or_else(|e| panic!("version {version}: {e}"));
    }
}
