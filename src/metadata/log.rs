//! `__cluster_metadata-0` as a log: reading all that it (and its newest snapshot) says, appending what one leader writes,
//! snapshots and what is deleted behind them, and the `quorum-state` file beside it. What records mean is in `delta.rs`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use ottla_storage::batch::{self, BatchBuilder, BatchHeader, Compression, HEADER_BYTES};
use ottla_storage::io::{File, Io, OpenOptions};
use ottla_storage::log::{AppendError, Log, LogConfig, LogManager};
use ottla_storage::validate::ValidBatch;
use uuid::Uuid;

use super::control::{self, ControlRecord, KeyValue};
use super::image::Image;
use super::records::{Record, WriteLevels};
use super::snapshot;
use crate::config::{Config, MetadataLogRules};

pub const TOPIC: &str = "__cluster_metadata";
/// Kafka's Uuid.METADATA_TOPIC_ID.
pub const TOPIC_ID: Uuid = Uuid::from_u128(1);
const BOOTSTRAP_FILE: &str = "bootstrap.checkpoint";
const QUORUM_STATE_FILE: &str = "quorum-state";
/// What is read from the log in one go.
const READ_BYTES: usize = 1 << 20;
/// What one compressed batch may become.
const BATCH_LIMIT_BYTES: usize = 64 << 20;

/// One record of the log.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    Data(Record),
    Control(ControlRecord),
}

/// The log, and the epoch in which this process writes it.
pub struct MetadataLog {
    log: Arc<Log>,
    io: Io,
    rules: MetadataLogRules,
    epoch: i32,
    /// What control records said last.
    kraft_version: i16,
    voters: Option<Vec<u8>>,
    /// Since the newest snapshot.
    bytes: i64,
    snapshot_ms: i64,
    /// Time of the last record.
    last_ms: i64,
}

impl MetadataLog {
    /// Finds the log or makes it. Blocking.
    pub fn open(logs: &LogManager, config: &Config, now_ms: i64) -> anyhow::Result<MetadataLog> {
        let rules = config.metadata_log.clone();
        // What goes goes behind a snapshot, and records are on disk before anybody hears of them.
        let log_config = LogConfig {
            delete: false,
            compact: false,
            retention_ms: -1,
            flush_messages: 1,
            segment_bytes: rules.segment_bytes,
            segment_ms: rules.segment_ms,
            ..LogConfig::default()
        };
        let log = match logs.get(TOPIC, 0) {
            Some(log) => {
                log.update_config(log_config);
                log
            }
            None if logs.has_offline_dirs() => bail!("{TOPIC}-0 is in none of the log directories that can be used"),
            None => logs.create_at(&config.metadata_log_dir, TOPIC, 0, Some(TOPIC_ID), log_config, now_ms)?,
        };
        Ok(MetadataLog {
            io: logs.io().clone(),
            rules,
            epoch: log.latest_epoch().map_or(0, |entry| entry.epoch),
            log,
            kraft_version: 0,
            voters: None,
            bytes: 0,
            snapshot_ms: now_ms,
            last_ms: now_ms,
        })
    }

    /// Notes what later snapshots have to say as well.
    fn note(&mut self, record: &ControlRecord) {
        match record {
            ControlRecord::KRaftVersion(version) => self.kraft_version = *version,
            ControlRecord::Voters(_, value) => self.voters = Some(value.clone()),
            _ => {}
        }
    }

    pub fn end_offset(&self) -> i64 {
        self.log.log_end_offset()
    }

    /// Visits every record in order, beginning with the newest snapshot if there is one: its records have the offset of
    /// the last that it stands for.
    pub async fn replay(&mut self, mut visit: impl FnMut(i64, Entry) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let mut controls = Vec::new();
        let replayed = self
            .replay_all(&mut |offset, entry| {
                if let Entry::Control(record) = &entry {
                    controls.push(record.clone());
                }
                visit(offset, entry)
            })
            .await;
        controls.iter().for_each(|record| self.note(record));
        self.bytes = replayed?;
        Ok(())
    }

    /// Returns how many bytes of the log are not in the snapshot.
    async fn replay_all(&self, mut visit: &mut dyn FnMut(i64, Entry) -> anyhow::Result<()>) -> anyhow::Result<i64> {
        let mut log_bytes = 0;
        let mut next = self.log.log_start_offset();
        if let Some((end_offset, path)) = snapshots(&self.io, self.log.dir())?.pop() {
            let content = self.io.read_small(&path)?.context("the snapshot vanished")?;
            let mut complete = false;
            let mut visit = |_, entry| {
                complete |= entry == Entry::Control(ControlRecord::SnapshotFooter);
                visit(end_offset - 1, entry)
            };
            visit_batches(&content, 0, &mut visit).with_context(|| format!("snapshot {}", path.display()))?;
            if !complete {
                bail!("snapshot {} has no footer", path.display());
            }
            next = end_offset;
        }
        if next > self.log.log_end_offset() {
            bail!("the log ends at {}, before the snapshot of all below {next}", self.log.log_end_offset());
        }
        if next < self.log.log_start_offset() {
            bail!("records {next} to {} are neither in the log nor in a snapshot", self.log.log_start_offset());
        }
        while next < self.log.log_end_offset() {
            let read = match self.log.read(next, self.log.log_end_offset(), READ_BYTES, true).await? {
                Ok(read) => read,
                Err(range) => bail!("offset {next} is not in the log: {range:?}"),
            };
            let content = read.into_bytes().await?;
            let reached = visit_batches(&content, next, &mut visit)
                .with_context(|| format!("the metadata log in {}", self.log.dir().display()))?;
            if reached <= next {
                bail!("the metadata log ends at {next} and not at {}", self.log.log_end_offset());
            }
            next = reached;
            log_bytes += content.len() as i64;
        }
        Ok(log_bytes)
    }

    /// Becomes leader of the next epoch, and says so in `quorum-state` and then in the log. `first`: what else belongs
    /// into the first batch of a new log.
    pub async fn lead(
        &mut self,
        node_id: i32,
        kraft_version: i16,
        first: Vec<KeyValue>,
        now_ms: i64,
    ) -> anyhow::Result<()> {
        let path = self.log.dir().join(QUORUM_STATE_FILE);
        let voted = match self.io.read_small(&path)? {
            Some(content) => quorum_epoch(&content).with_context(|| format!("{} is not valid", path.display()))?,
            None => 0,
        };
        self.epoch = self.epoch.max(voted) + 1;
        self.io.write_atomic(&path, quorum_state(node_id, self.epoch, kraft_version).as_bytes())?;
        let mut batch = BatchBuilder::new(Compression::None).control(true);
        for (key, value) in [vec![control::leader_change(node_id)], first].concat() {
            self.note(&control::decode(Some(&key), Some(&value))?);
            batch.record(now_ms, Some(&key), Some(&value), &[]);
        }
        Ok(self.append_batch(batch, now_ms).await?)
    }

    /// Waits until all that was appended is safe.
    pub async fn written(&self) -> ottla_storage::Result<()> {
        self.log.written(self.log.log_end_offset()).await
    }

    /// Appends the records as one batch: all of them survive from when this returns, or none.
    pub async fn append(&mut self, records: &[Record], levels: WriteLevels, now_ms: i64) -> Result<(), AppendError> {
        let mut batch = BatchBuilder::new(Compression::None);
        for record in records {
            batch.record(now_ms, None, Some(&record.encode(record.version(levels))), &[]);
        }
        self.append_batch(batch, now_ms).await
    }

    async fn append_batch(&mut self, batch: BatchBuilder, now_ms: i64) -> Result<(), AppendError> {
        let bytes = batch.build(self.log.log_end_offset(), self.epoch);
        let header = BatchHeader::read(&bytes).expect("a batch that was just built");
        let valid = ValidBatch { header, bytes, log_append_time: -1 };
        let appended = self.log.append(&valid, self.epoch, now_ms)?;
        self.bytes += valid.bytes.len() as i64;
        self.last_ms = now_ms;
        Ok(self.log.written(appended.last_offset + 1).await?)
    }
}

impl MetadataLog {
    /// Writes a snapshot if one is due, and deletes what it makes superfluous. `image`: all that is in the log. Nobody
    /// waits for a snapshot, and so a failure is only told; the next one comes as if it had been made.
    pub async fn snapshot_if_due(&mut self, image: &Arc<Image>, now_ms: i64) {
        let interval_ms = self.rules.snapshot_interval_ms;
        let by_time = interval_ms > 0 && now_ms - self.snapshot_ms >= interval_ms && self.bytes > 0;
        if self.bytes < self.rules.snapshot_bytes && !by_time {
            return;
        }
        self.bytes = 0;
        self.snapshot_ms = now_ms;
        if let Err(error) = self.snapshot(image.clone(), now_ms).await {
            tracing::error!(error = %format!("{error:#}"), "no snapshot of the metadata");
        }
    }

    async fn snapshot(&self, image: Arc<Image>, now_ms: i64) -> anyhow::Result<()> {
        let epoch = self.log.epoch_for_offset(image.offset()).context("an image of records without an epoch")?;
        let name = snapshot::file_name(image.offset() + 1, epoch);
        let mut quorum = Vec::new();
        if let (1.., Some(voters)) = (self.kraft_version, &self.voters) {
            quorum = vec![control::kraft_version(self.kraft_version), control::voters_again(voters.clone())];
        }
        let (io, dir, last_ms) = (self.io.clone(), self.log.dir().to_path_buf(), self.last_ms);
        let work = move || {
            let content = snapshot::encode(&image, &quorum, epoch, last_ms, now_ms);
            io.write_atomic(&dir.join(&name), &content)?;
            tracing::info!(name, bytes = content.len(), "snapshot of the metadata");
            snapshots(&io, &dir)
        };
        let snapshots = tokio::task::spawn_blocking(work).await??;
        self.delete_oldest(&snapshots, now_ms)
    }

    /// One snapshot at a time: as many go as come. The log then begins at the next one; its segments go with the next
    /// retention run.
    fn delete_oldest(&self, snapshots: &[(i64, PathBuf)], now_ms: i64) -> anyhow::Result<()> {
        let [(_, oldest), (next_end, _), ..] = snapshots else { return Ok(()) };
        let mut total_bytes = self.log.size_bytes() as i64;
        for (_, path) in snapshots {
            total_bytes += open(&self.io, path)?.len()? as i64;
        }
        let mut first = [0; HEADER_BYTES];
        open(&self.io, oldest)?.pread(&mut first, 0)?;
        let age_ms = BatchHeader::read(&first).map_or(0, |header| now_ms - header.max_timestamp);
        let exceeds = |value: i64, bound: i64| bound >= 0 && value > bound;
        if exceeds(total_bytes, self.rules.retention_bytes) || exceeds(age_ms, self.rules.retention_ms) {
            self.log.delete_records(*next_end);
            self.io.remove_file(oldest)?;
        }
        Ok(())
    }
}

/// What `kafka-storage format` asks of the first start: records to begin the log with.
pub fn bootstrap_records(io: &Io, dir: &Path) -> anyhow::Result<Vec<Record>> {
    let path = dir.join(BOOTSTRAP_FILE);
    let mut records = Vec::new();
    let mut visit = |_, entry| {
        if let Entry::Data(record) = entry {
            records.push(record);
        }
        Ok(())
    };
    let content = io.read_small(&path)?.unwrap_or_default();
    visit_batches(&content, 0, &mut visit).with_context(|| path.display().to_string())?;
    Ok(records)
}

fn open(io: &Io, path: &Path) -> ottla_storage::Result<File> {
    io.open(path, OpenOptions { read_only: true, ..Default::default() })
}

/// Visits the records of `content` (batches, the last of which may be cut short) from offset `from` on; returns the
/// offset after the last.
pub fn visit_batches(
    content: &[u8],
    from: i64,
    visit: &mut dyn FnMut(i64, Entry) -> anyhow::Result<()>,
) -> anyhow::Result<i64> {
    batch::visit_records(content, from, BATCH_LIMIT_BYTES, |header, record| {
        let decoded = if header.is_control() {
            control::decode(record.key, record.value).map(Entry::Control)
        } else {
            Record::decode(record.value.unwrap_or_default()).map(|(record, _)| Entry::Data(record))
        };
        let at_offset = || format!("the record at offset {}", record.offset);
        visit(record.offset, decoded.with_context(at_offset)?).with_context(at_offset)
    })
}

/// End offsets and paths of the snapshots, the oldest first.
fn snapshots(io: &Io, dir: &Path) -> ottla_storage::Result<Vec<(i64, PathBuf)>> {
    let names = io.list(dir)?;
    let mut found: Vec<_> = names.iter().filter_map(|name| Some((snapshot::parse_file_name(name)?, name))).collect();
    found.sort();
    Ok(found.into_iter().map(|((end_offset, _), name)| (end_offset, dir.join(name))).collect())
}

/// Kafka's file, in the layout that goes with the log's kraft.version.
fn quorum_state(leader_id: i32, epoch: i32, kraft_version: i16) -> String {
    if kraft_version == 0 {
        return format!(
            r#"{{"clusterId":"","leaderId":{leader_id},"leaderEpoch":{epoch},"votedId":-1,"appliedOffset":0,"currentVoters":[{{"voterId":{leader_id}}}],"data_version":0}}"#
        );
    }
    format!(
        r#"{{"leaderId":{leader_id},"leaderEpoch":{epoch},"votedId":-1,"votedDirectoryId":"AAAAAAAAAAAAAAAAAAAAAA","data_version":1}}"#
    )
}

fn quorum_epoch(content: &[u8]) -> anyhow::Result<i32> {
    let state: serde_json::Value = serde_json::from_slice(content)?;
    let epoch = state["leaderEpoch"].as_i64().context("no leaderEpoch")?;
    Ok(epoch.try_into()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quorum_state_is_what_kafka_writes() {
        let kafka = r#"{"leaderId":1,"leaderEpoch":4,"votedId":-1,"votedDirectoryId":"AAAAAAAAAAAAAAAAAAAAAA","data_version":1}"#;
        assert_eq!(quorum_state(1, 4, 1), kafka);
        assert_eq!(quorum_epoch(kafka.as_bytes()).unwrap(), 4);
        assert_eq!(quorum_epoch(quorum_state(1, 7, 0).as_bytes()).unwrap(), 7);
        assert!(quorum_epoch(b"{}").is_err());
        assert!(quorum_epoch(b"").is_err());
    }
}
