//! The text files of a log directory: offset checkpoints (`recovery-point-offset-checkpoint`,
//! `replication-offset-checkpoint`, `log-start-offset-checkpoint`, `cleaner-offset-checkpoint`), `partition.metadata`, `meta.properties`.

use std::collections::BTreeMap;
use std::path::Path;

use crate::io::Io;
use crate::{Error, Result};

mod ids;
mod properties;
#[cfg(test)]
mod tests;

pub use ids::{random_uuid, uuid_from_base64, uuid_to_base64};

/// (topic, partition) -> offset; file: "0\n<count>\n<topic> <partition> <offset>\n...".
pub type Offsets = BTreeMap<(String, i32), i64>;
pub const RECOVERY_POINT_FILE: &str = "recovery-point-offset-checkpoint";
pub const REPLICATION_OFFSET_FILE: &str = "replication-offset-checkpoint";
pub const LOG_START_OFFSET_FILE: &str = "log-start-offset-checkpoint";
/// Up to where logs are compacted.
pub const CLEANER_OFFSET_FILE: &str = "cleaner-offset-checkpoint";
const PARTITION_METADATA_FILE: &str = "partition.metadata";
const META_PROPERTIES_FILE: &str = "meta.properties";

/// Missing file: empty.
pub fn read_offsets(io: &Io, path: &Path) -> Result<Offsets> {
    match read_text(io, path)? {
        None => Ok(Offsets::new()),
        Some(text) => offsets_from_text(&text).map_err(|what| Error::corrupt(path, what)),
    }
}

pub fn write_offsets(io: &Io, path: &Path, offsets: &Offsets) -> Result<()> {
    io.write_atomic(path, offsets_to_text(offsets).as_bytes())
}

/// `partition.metadata`: "version: 0\ntopic_id: <base64 url, no padding>\n" (fsync'd like Kafka).
pub fn read_partition_metadata(io: &Io, partition_dir: &Path) -> Result<Option<uuid::Uuid>> {
    let path = partition_dir.join(PARTITION_METADATA_FILE);
    let Some(text) = read_text(io, &path)? else { return Ok(None) };
    partition_metadata_from_text(&text).map(Some).map_err(|what| Error::corrupt(path, what))
}

pub fn write_partition_metadata(io: &Io, partition_dir: &Path, topic_id: uuid::Uuid) -> Result<()> {
    io.write_atomic(&partition_dir.join(PARTITION_METADATA_FILE), partition_metadata_to_text(topic_id).as_bytes())
}

/// `meta.properties` version 1: cluster.id, node.id, directory.id (ids in Kafka's base64 form).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetaProperties {
    pub cluster_id: String,
    pub node_id: i32,
    pub directory_id: uuid::Uuid,
}

/// A directory formatted before Kafka gave directories ids gets one here, as Kafka does at start.
pub fn read_meta_properties(io: &Io, log_dir: &Path) -> Result<Option<MetaProperties>> {
    let path = log_dir.join(META_PROPERTIES_FILE);
    let Some(text) = read_text(io, &path)? else { return Ok(None) };
    let (meta, directory_id_is_new) = meta_from_text(&text).map_err(|what| Error::corrupt(path, what))?;
    if directory_id_is_new {
        write_meta_properties(io, log_dir, &meta)?;
    }
    Ok(Some(meta))
}

pub fn write_meta_properties(io: &Io, log_dir: &Path, meta: &MetaProperties) -> Result<()> {
    io.write_atomic(&log_dir.join(META_PROPERTIES_FILE), meta_to_text(meta).as_bytes())
}

fn read_text(io: &Io, path: &Path) -> Result<Option<String>> {
    let Some(bytes) = io.read_small(path)? else { return Ok(None) };
    String::from_utf8(bytes).map(Some).map_err(|_| Error::corrupt(path, "not UTF-8"))
}

fn offsets_to_text(offsets: &Offsets) -> String {
    let lines = offsets.iter().map(|((topic, partition), offset)| format!("{topic} {partition} {offset}\n"));
    format!("0\n{}\n{}", offsets.len(), lines.collect::<String>())
}

fn offsets_from_text(text: &str) -> Result<Offsets, String> {
    let mut lines = text.lines();
    // Kafka creates the file some time before it first has content.
    let (Some(version), Some(count)) = (lines.next(), lines.next()) else {
        return Ok(Offsets::new());
    };
    if version != "0" {
        return Err(format!("unknown version {version}"));
    }
    let count: usize = count.parse().map_err(|_| format!("malformed count {count:?}"))?;
    let mut offsets = Offsets::new();
    let mut found = 0;
    for line in lines {
        let (partition, offset) = offset_from_line(line).ok_or_else(|| format!("malformed line {line:?}"))?;
        offsets.insert(partition, offset);
        found += 1;
    }
    if found == count { Ok(offsets) } else { Err(format!("{found} entries, where {count} were announced")) }
}

fn offset_from_line(line: &str) -> Option<((String, i32), i64)> {
    let mut fields = line.split_whitespace();
    let topic = fields.next()?.to_owned();
    let partition = fields.next()?.parse().ok()?;
    let offset = fields.next()?.parse().ok()?;
    fields.next().is_none().then_some(((topic, partition), offset))
}

fn partition_metadata_to_text(topic_id: uuid::Uuid) -> String {
    format!("version: 0\ntopic_id: {}\n", uuid_to_base64(topic_id))
}

fn partition_metadata_from_text(text: &str) -> Result<uuid::Uuid, String> {
    let mut lines = text.lines();
    if lines.next().and_then(|line| line.strip_prefix("version: ")) != Some("0") {
        return Err("unknown version".to_owned());
    }
    let id = lines.next().and_then(|line| line.strip_prefix("topic_id: ")).and_then(uuid_from_base64);
    match id {
        None => Err("no topic id".to_owned()),
        Some(id) if id.is_nil() => Err("the topic id is zero".to_owned()),
        Some(id) => Ok(id),
    }
}

fn meta_to_text(meta: &MetaProperties) -> String {
    properties::to_text(&[
        ("version", "1"),
        ("cluster.id", &meta.cluster_id),
        ("node.id", &meta.node_id.to_string()),
        ("directory.id", &uuid_to_base64(meta.directory_id)),
    ])
}

/// The properties, and whether the directory id was missing and is new.
fn meta_from_text(text: &str) -> Result<(MetaProperties, bool), String> {
    let properties = properties::from_text(text);
    let get = |name: &str| properties.get(name).map(String::as_str);
    match get("version") {
        Some("1") => {}
        version => return Err(format!("version {} is unsupported", version.unwrap_or("0"))),
    }
    let cluster_id = get("cluster.id").ok_or("cluster.id is missing")?.to_owned();
    let node_id = get("node.id").ok_or("node.id is missing")?.parse().map_err(|_| "node.id is not a number")?;
    let directory_id = match get("directory.id") {
        None => None,
        Some(id) => Some(uuid_from_base64(id).ok_or("directory.id is not an id")?),
    };
    let is_new = directory_id.is_none();
    Ok((MetaProperties { cluster_id, node_id, directory_id: directory_id.unwrap_or_else(random_uuid) }, is_new))
}
