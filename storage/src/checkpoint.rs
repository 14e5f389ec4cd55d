//! The text files of a log directory: offset checkpoints (`recovery-point-offset-checkpoint`,
//! `replication-offset-checkpoint`, `log-start-offset-checkpoint`), `partition.metadata`, `meta.properties`.

use std::collections::BTreeMap;
use std::path::Path;

use uuid::Uuid;

use crate::io::Io;
use crate::{Error, Result};

/// (topic, partition) -> offset; the file: version 0, the count, then topic, partition and offset a line.
pub type Offsets = BTreeMap<(String, i32), i64>;
pub const RECOVERY_POINT_FILE: &str = "recovery-point-offset-checkpoint";
pub const REPLICATION_OFFSET_FILE: &str = "replication-offset-checkpoint";
pub const LOG_START_OFFSET_FILE: &str = "log-start-offset-checkpoint";
const PARTITION_METADATA_FILE: &str = "partition.metadata";
const META_PROPERTIES_FILE: &str = "meta.properties";

fn read_text(io: &Io, path: &Path) -> Result<Option<String>> {
    let bytes = io.read_small(path)?;
    bytes.map(|b| String::from_utf8(b).map_err(|_| Error::corrupt(path, "not UTF-8"))).transpose()
}

/// Missing file: empty.
pub fn read_offsets(io: &Io, path: &Path) -> Result<Offsets> {
    match read_text(io, path)? {
        Some(text) => parse_offsets(&text).map_err(|what| Error::corrupt(path, what)),
        None => Ok(Offsets::new()),
    }
}

fn parse_offsets(text: &str) -> Result<Offsets, String> {
    let mut lines = text.lines();
    if lines.next() != Some("0") {
        return Err("unknown version".to_string());
    }
    let count: usize = lines.next().and_then(|l| l.parse().ok()).ok_or("no count of entries")?;
    let entry = |line: &str| {
        let mut fields = line.split(' ');
        let (topic, partition, offset) = (fields.next()?, fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        fields.next().is_none().then(|| ((topic.to_string(), partition), offset))
    };
    let offsets: Offsets =
        lines.map(|l| entry(l).ok_or_else(|| format!("malformed line: {l}"))).collect::<Result<_, _>>()?;
    if offsets.len() == count { Ok(offsets) } else { Err(format!("{count} entries expected, {} found", offsets.len())) }
}

pub fn write_offsets(io: &Io, path: &Path, offsets: &Offsets) -> Result<()> {
    io.write_atomic(path, format_offsets(offsets).as_bytes())
}

fn format_offsets(offsets: &Offsets) -> String {
    let lines = offsets.iter().map(|((topic, partition), offset)| format!("{topic} {partition} {offset}\n"));
    format!("0\n{}\n{}", offsets.len(), lines.collect::<String>())
}

/// `partition.metadata`: which topic the directory belongs to.
pub fn read_partition_metadata(io: &Io, partition_dir: &Path) -> Result<Option<Uuid>> {
    let path = partition_dir.join(PARTITION_METADATA_FILE);
    let Some(text) = read_text(io, &path)? else { return Ok(None) };
    let topic_id = text.lines().find_map(|l| l.strip_prefix("topic_id: ")).and_then(uuid_from_base64);
    match topic_id {
        Some(id) if text.lines().next() == Some("version: 0") => Ok(Some(id)),
        _ => Err(Error::corrupt(path, "expected the lines version: 0 and topic_id: <id>")),
    }
}

pub fn write_partition_metadata(io: &Io, partition_dir: &Path, topic_id: Uuid) -> Result<()> {
    let text = format!("version: 0\ntopic_id: {}\n", uuid_to_base64(topic_id));
    io.write_atomic(&partition_dir.join(PARTITION_METADATA_FILE), text.as_bytes())
}

/// `meta.properties` version 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetaProperties {
    pub cluster_id: String,
    pub node_id: i32,
    pub directory_id: Uuid,
}

pub fn read_meta_properties(io: &Io, log_dir: &Path) -> Result<Option<MetaProperties>> {
    let path = log_dir.join(META_PROPERTIES_FILE);
    match read_text(io, &path)? {
        Some(text) => parse_meta_properties(&text).map(Some).map_err(|what| Error::corrupt(path, what)),
        None => Ok(None),
    }
}

fn parse_meta_properties(text: &str) -> Result<MetaProperties, String> {
    let properties: BTreeMap<&str, &str> =
        text.lines().filter(|l| !l.starts_with('#')).filter_map(|l| l.split_once('=')).collect();
    let get = |key: &str| properties.get(key).copied().ok_or_else(|| format!("{key} is missing"));
    if get("version")? != "1" {
        return Err(format!("version {} is not supported, only 1", get("version")?));
    }
    let node_id = get("node.id")?.parse().map_err(|_| "node.id is not a number".to_string())?;
    let directory_id = uuid_from_base64(get("directory.id")?).ok_or("directory.id is not an id")?;
    Ok(MetaProperties { cluster_id: get("cluster.id")?.to_string(), node_id, directory_id })
}

pub fn write_meta_properties(io: &Io, log_dir: &Path, meta: &MetaProperties) -> Result<()> {
    let text = format!(
        "#\ncluster.id={}\ndirectory.id={}\nnode.id={}\nversion=1\n",
        meta.cluster_id,
        uuid_to_base64(meta.directory_id),
        meta.node_id
    );
    io.write_atomic(&log_dir.join(META_PROPERTIES_FILE), text.as_bytes())
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const BASE64_CHARS: u32 = 22;

/// Kafka's form of a uuid: 22 characters of URL-safe base64, without padding.
pub fn uuid_to_base64(id: Uuid) -> String {
    let bits = id.as_u128();
    // 22 characters carry 132 bits: the last has only two of the uuid's.
    let char_at = |i: u32| match i {
        21 => (bits << 4) & 63,
        _ => (bits >> (122 - 6 * i)) & 63,
    };
    (0..BASE64_CHARS).map(|i| char::from(BASE64[char_at(i) as usize])).collect()
}

pub fn uuid_from_base64(text: &str) -> Option<Uuid> {
    if text.len() != BASE64_CHARS as usize {
        return None;
    }
    let mut bits: u128 = 0;
    for (i, c) in text.bytes().enumerate() {
        let value = BASE64.iter().position(|b| *b == c)? as u128;
        bits = if i == 21 { bits << 2 | value >> 4 } else { bits << 6 | value };
    }
    Some(Uuid::from_u128(bits))
}

/// A random id as Kafka makes it: never one of its reserved ids (the first hundred), never beginning with '-'.
pub fn random_uuid() -> Uuid {
    loop {
        let id = Uuid::new_v4();
        if id.as_u128() >= 100 && !uuid_to_base64(id).starts_with('-') {
            return id;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_reads_as_kafka_writes_it() {
        assert_eq!(uuid_to_base64(Uuid::from_u128(0)), "AAAAAAAAAAAAAAAAAAAAAA");
        assert_eq!(uuid_to_base64(Uuid::from_u128(1)), "AAAAAAAAAAAAAAAAAAAAAQ");
        assert_eq!(uuid_to_base64(Uuid::from_u128(u128::MAX)), "_____________________w");
        for _ in 0..100 {
            let id = random_uuid();
            assert_eq!(uuid_from_base64(&uuid_to_base64(id)), Some(id));
        }
        assert_eq!(uuid_from_base64("short"), None);
        assert_eq!(uuid_from_base64("AAAAAAAAAAAAAAAAAAAA+A"), None);
    }

    #[test]
    fn offset_checkpoints_read_back_and_bad_ones_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(RECOVERY_POINT_FILE);
        let io = Io::plain();
        assert_eq!(read_offsets(&io, &path).unwrap(), Offsets::new());
        let offsets = Offsets::from([(("a".to_string(), 0), 5), (("a-b.c".to_string(), 12), i64::MAX)]);
        write_offsets(&io, &path, &offsets).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("0\n2\na 0 5\na-b.c 12 {}\n", i64::MAX));
        assert_eq!(read_offsets(&io, &path).unwrap(), offsets);
        for bad in ["", "1\n0\n", "0\n2\na 0 5\n", "0\n1\na 0\n", "0\n1\na 0 5 6\n", "0\n1\na x 5\n"] {
            std::fs::write(&path, bad).unwrap();
            assert!(read_offsets(&io, &path).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn partition_metadata_and_meta_properties_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let io = Io::plain();
        let id = random_uuid();
        assert_eq!(read_partition_metadata(&io, dir.path()).unwrap(), None);
        write_partition_metadata(&io, dir.path(), id).unwrap();
        assert_eq!(read_partition_metadata(&io, dir.path()).unwrap(), Some(id));
        let meta = MetaProperties { cluster_id: "Some-Cluster_Id".to_string(), node_id: 3, directory_id: id };
        assert_eq!(read_meta_properties(&io, dir.path()).unwrap(), None);
        write_meta_properties(&io, dir.path(), &meta).unwrap();
        assert_eq!(read_meta_properties(&io, dir.path()).unwrap(), Some(meta));
        std::fs::write(dir.path().join(META_PROPERTIES_FILE), "version=0\nbroker.id=1\n").unwrap();
        assert!(read_meta_properties(&io, dir.path()).is_err());
    }
}
