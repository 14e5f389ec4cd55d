//! The text files of a log directory: offset checkpoints (`recovery-point-offset-checkpoint`,
//! `replication-offset-checkpoint`, `log-start-offset-checkpoint`), `partition.metadata`, `meta.properties`.

use std::collections::BTreeMap;
use std::path::Path;

use crate::Result;
use crate::io::Io;

/// (topic, partition) -> offset; file: "0\n<count>\n<topic> <partition> <offset>\n...".
pub type Offsets = BTreeMap<(String, i32), i64>;
pub const RECOVERY_POINT_FILE: &str = "recovery-point-offset-checkpoint";
pub const REPLICATION_OFFSET_FILE: &str = "replication-offset-checkpoint";
pub const LOG_START_OFFSET_FILE: &str = "log-start-offset-checkpoint";
/// Missing file: empty.
pub fn read_offsets(io: &Io, path: &Path) -> Result<Offsets> {
    todo!()
}
pub fn write_offsets(io: &Io, path: &Path, offsets: &Offsets) -> Result<()> {
    todo!()
}

/// `partition.metadata`: "version: 0\ntopic_id: <base64 url, no padding>\n" (fsync'd like Kafka).
pub fn read_partition_metadata(io: &Io, partition_dir: &Path) -> Result<Option<uuid::Uuid>> {
    todo!()
}
pub fn write_partition_metadata(io: &Io, partition_dir: &Path, topic_id: uuid::Uuid) -> Result<()> {
    todo!()
}

/// `meta.properties` version 1: cluster.id, node.id, directory.id (ids in Kafka's base64 form).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetaProperties {
    pub cluster_id: String,
    pub node_id: i32,
    pub directory_id: uuid::Uuid,
}
pub fn read_meta_properties(io: &Io, log_dir: &Path) -> Result<Option<MetaProperties>> {
    todo!()
}
pub fn write_meta_properties(io: &Io, log_dir: &Path, meta: &MetaProperties) -> Result<()> {
    todo!()
}

/// Kafka's form of a uuid: 22 characters of URL-safe base64.
pub fn uuid_to_base64(id: uuid::Uuid) -> String {
    todo!()
}
pub fn uuid_from_base64(text: &str) -> Option<uuid::Uuid> {
    todo!()
}
/// A random id as Kafka makes it: never one of its reserved ids, never beginning with '-'.
pub fn random_uuid() -> uuid::Uuid {
    todo!()
}
