//! All the logs of one process: log directories, their locks and checkpoints, opening, creating, deleting, periodic
//! work and the clean stop.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use parking_lot::{Mutex, RwLock};
use uuid::Uuid;

use crate::checkpoint::{self, MetaProperties, Offsets};
use crate::dirs::{self, DirLock};
use crate::io::{ChunkPool, Io};
use crate::log::{Doomed, Log, LogConfig, Shared, Tails};
use crate::recovery::{self, Known};
use crate::{Error, Result};

/// Freed tail memory kept for the next chunk.
const POOL_KEEP_BYTES: usize = 8 << 20;
/// Kafka's replica.high.watermark.checkpoint.interval.ms; recovery points and log start offsets go along.
const CHECKPOINT_INTERVAL_MS: i64 = 5_000;
const RECOVERY_THREADS: usize = 2;

#[derive(Clone, Debug)]
pub struct LogManagerOptions {
    pub dirs: Vec<PathBuf>,
    pub node_id: i32,
    /// None: whatever meta.properties says, or a new one.
    pub cluster_id: Option<String>,
    pub defaults: LogConfig,
    /// Bound of the memory of all tails together.
    pub tail_bytes: usize,
    pub producer_id_expiration_ms: i64,
    /// log.retention.check.interval.ms
    pub retention_check_interval_ms: i64,
    pub now_ms: i64,
    /// None: what the first directory allows.
    pub io: Option<Io>,
}

/// One log found in (or made in) a log directory.
#[derive(Clone, Debug)]
pub struct LogEntry {
    pub topic: String,
    pub partition: i32,
    pub topic_id: Option<Uuid>,
    pub log: Arc<Log>,
}

#[derive(Debug)]
struct Dir {
    path: PathBuf,
    id: Uuid,
    _lock: DirLock,
}

#[derive(Debug)]
pub struct LogManager {
    options: LogManagerOptions,
    cluster_id: String,
    dirs: Vec<Dir>,
    shared: Shared,
    logs: RwLock<HashMap<(String, i32), LogEntry>>,
    doomed: Mutex<Vec<Doomed>>,
    written_checkpoints: Mutex<BTreeMap<PathBuf, Offsets>>,
    next_checkpoint_ms: AtomicI64,
    next_retention_ms: AtomicI64,
}

impl LogManager {
    /// Locks the directories, formats those that are new (meta.properties; `cluster_id` or a random one), and opens
    /// every log in them: nothing is scanned after a clean stop. Logs are opened with `options.defaults`; the caller
    /// sends each its real config before the first append. Blocking; runs before the runtimes serve.
    pub fn open(options: LogManagerOptions) -> Result<Arc<LogManager>> {
        let first = options.dirs.first().expect("config gives at least one log directory");
        Io::plain().create_dir_all(first)?;
        let io = options.io.clone().unwrap_or_else(|| Io::probe(first));
        let locks: Vec<DirLock> = options.dirs.iter().map(|dir| dirs::lock(&io, dir)).collect::<Result<_>>()?;
        let (cluster_id, ids) = identify(&io, &options)?;
        let shared = Shared {
            io,
            pool: ChunkPool::new(POOL_KEEP_BYTES),
            tail_bytes: options.tail_bytes,
            tails: Arc::new(Tails::default()),
        };
        let mut logs = HashMap::new();
        let mut opened_dirs = Vec::new();
        for ((path, lock), id) in options.dirs.iter().zip(locks).zip(ids) {
            for entry in open_dir(&shared, path, &options)? {
                logs.insert((entry.topic.clone(), entry.partition), entry);
            }
            opened_dirs.push(Dir { path: path.clone(), id, _lock: lock });
        }
        Ok(Arc::new(LogManager {
            cluster_id,
            dirs: opened_dirs,
            shared,
            logs: RwLock::new(logs),
            doomed: Mutex::default(),
            written_checkpoints: Mutex::default(),
            next_checkpoint_ms: AtomicI64::new(options.now_ms + CHECKPOINT_INTERVAL_MS),
            next_retention_ms: AtomicI64::new(options.now_ms + options.retention_check_interval_ms),
            options,
        }))
    }

    pub fn io(&self) -> &Io {
        &self.shared.io
    }

    /// Of meta.properties, the same in every directory.
    pub fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    /// (directory, its id), in the order of `dirs`.
    pub fn dirs(&self) -> Vec<(PathBuf, Uuid)> {
        self.dirs.iter().map(|d| (d.path.clone(), d.id)).collect()
    }

    /// All logs, `__cluster_metadata-0` included.
    pub fn logs(&self) -> Vec<LogEntry> {
        self.logs.read().values().cloned().collect()
    }

    pub fn get(&self, topic: &str, partition: i32) -> Option<Arc<Log>> {
        self.logs.read().get(&(topic.to_string(), partition)).map(|entry| entry.log.clone())
    }

    /// Makes the directory (in the one of `dirs` with the fewest partitions) and `partition.metadata`; finds the log if
    /// it is there already. Blocking file work.
    pub fn create(
        &self,
        topic: &str,
        partition: i32,
        topic_id: Option<Uuid>,
        config: LogConfig,
        now_ms: i64,
    ) -> Result<Arc<Log>> {
        let key = (topic.to_string(), partition);
        if let Some(entry) = self.logs.read().get(&key) {
            return Ok(entry.log.clone());
        }
        let parent = &self.emptiest_dir().path;
        let dir = dirs::partition_dir(parent, topic, partition);
        let io = &self.shared.io;
        io.create_dir_all(&dir)?;
        if let Some(id) = topic_id {
            checkpoint::write_partition_metadata(io, &dir, id)?;
        }
        io.sync_dir(parent)?;
        let known = Known { clean: true, recovery_point: 0, log_start_offset: 0, ..self.known(now_ms) };
        let found = recovery::recover(io, &dir, &config, known)?;
        let log = Log::new(&dir, self.shared.clone(), config, found, now_ms);
        let entry = LogEntry { topic: key.0.clone(), partition, topic_id, log: log.clone() };
        self.logs.write().insert(key, entry);
        Ok(log)
    }

    fn known(&self, now_ms: i64) -> Known {
        let producer_id_expiration_ms = self.options.producer_id_expiration_ms;
        Known { clean: true, recovery_point: 0, log_start_offset: 0, producer_id_expiration_ms, now_ms }
    }

    fn emptiest_dir(&self) -> &Dir {
        let logs = self.logs.read();
        let load = |dir: &&Dir| logs.values().filter(|e| e.log.dir().parent() == Some(&dir.path)).count();
        if self.dirs.len() == 1 { &self.dirs[0] } else { self.dirs.iter().min_by_key(load).expect("at least one") }
    }

    /// Renames to `-delete`; the files go after file.delete.delay.ms. Those who wait get `Error::Offline`.
    pub fn delete(&self, topic: &str, partition: i32, now_ms: i64) -> Result<()> {
        let Some(entry) = self.logs.write().remove(&(topic.to_string(), partition)) else { return Ok(()) };
        entry.log.take_offline();
        let _names = entry.log.names();
        let renamed = dirs::rename_for_delete(&self.shared.io, entry.log.dir())?;
        let due_ms = now_ms + entry.log.config().file_delete_delay_ms;
        self.doomed.lock().push(Doomed { paths: vec![renamed], due_ms });
        Ok(())
    }

    /// The directory id (meta.properties) of the directory that holds the log.
    pub fn directory_id(&self, topic: &str, partition: i32) -> Option<Uuid> {
        let log = self.get(topic, partition)?;
        self.dirs.iter().find(|d| log.dir().parent() == Some(&d.path)).map(|d| d.id)
    }

    /// Periodic work, called every second on a runtime: retention, late deletion, flushes by time, checkpoints, idle
    /// memory and descriptors.
    pub async fn tick(self: &Arc<LogManager>, now_ms: i64) {
        let retention = now_ms >= self.next_retention_ms.load(Ordering::Relaxed);
        if retention {
            self.next_retention_ms.store(now_ms + self.options.retention_check_interval_ms, Ordering::Relaxed);
        }
        for entry in self.logs() {
            if let Err(error) = self.tick_log(&entry.log, retention, now_ms).await {
                tracing::error!(topic = entry.topic, partition = entry.partition, %error, "periodic work on a log failed");
            }
        }
        self.remove_doomed(now_ms);
        if now_ms >= self.next_checkpoint_ms.load(Ordering::Relaxed) {
            self.next_checkpoint_ms.store(now_ms + CHECKPOINT_INTERVAL_MS, Ordering::Relaxed);
            if let Err(error) = self.write_checkpoints() {
                tracing::error!(%error, "offset checkpoints could not be written");
            }
        }
    }

    async fn tick_log(&self, log: &Arc<Log>, retention: bool, now_ms: i64) -> Result<()> {
        log.retry_after_no_space();
        log.release_idle(now_ms);
        self.doomed.lock().append(&mut log.take_replaced());
        if log.flush_is_due(now_ms) {
            log.flush().await?;
        }
        if retention {
            log.expire_producers(now_ms);
            if let Some(doomed) = log.apply_retention(now_ms)? {
                self.doomed.lock().push(doomed);
            }
        }
        Ok(())
    }

    fn remove_doomed(&self, now_ms: i64) {
        let due: Vec<Doomed> = self.doomed.lock().extract_if(.., |d| d.due_ms <= now_ms).collect();
        for path in due.iter().flat_map(|d| &d.paths) {
            let removed = if path.is_dir() { self.io().remove_dir_all(path) } else { self.io().remove_file(path) };
            if let Err(error) = removed {
                tracing::warn!(%error, "a deleted log could not be removed");
            }
        }
    }

    /// Only files whose content changed are written.
    pub(crate) fn write_checkpoints(&self) -> Result<()> {
        type Value = fn(&Log) -> Option<i64>;
        // Kafka notes only logs that start later than their first segment.
        let late_start = |log: &Log| Some(log.log_start_offset()).filter(|start| *start > log.first_segment());
        let kinds: [(&str, Value); 4] = [
            (checkpoint::RECOVERY_POINT_FILE, |log| Some(log.recovery_point())),
            (checkpoint::REPLICATION_OFFSET_FILE, |log| Some(log.high_watermark())),
            (checkpoint::LOG_START_OFFSET_FILE, late_start),
            (checkpoint::CLEANER_OFFSET_FILE, Log::cleaned_offset),
        ];
        let entries = self.logs();
        let mut written = self.written_checkpoints.lock();
        for dir in &self.dirs {
            for (name, value) in kinds {
                let path = dir.path.join(name);
                let here = entries.iter().filter(|e| e.log.dir().parent() == Some(&dir.path));
                let noted = here.filter_map(|e| Some(((e.topic.clone(), e.partition), value(&e.log)?)));
                let offsets: Offsets = noted.collect();
                if written.get(&path) != Some(&offsets) {
                    checkpoint::write_offsets(self.io(), &path, &offsets)?;
                    written.insert(path, offsets);
                }
            }
        }
        Ok(())
    }

    /// Writes and cuts everything, checkpoints, then the clean-shutdown marker. No marker if anything failed.
    pub async fn close(self: &Arc<LogManager>, broker_epoch: i64) -> Result<()> {
        let mut failed = None;
        for entry in self.logs() {
            if let Err(error) = entry.log.close().await {
                tracing::error!(topic = entry.topic, partition = entry.partition, %error, "log not closed cleanly");
                failed = Some(error);
            }
        }
        // Apache Kafka would open what is left of them as logs, and find them cut short.
        self.remove_doomed(i64::MAX);
        self.write_checkpoints()?;
        if let Some(error) = failed {
            return Err(error);
        }
        for dir in &self.dirs {
            dirs::write_clean_shutdown(self.io(), &dir.path, broker_epoch)?;
        }
        Ok(())
    }
}

/// The cluster id and the directories' ids; writes meta.properties where it is missing.
fn identify(io: &Io, options: &LogManagerOptions) -> Result<(String, Vec<Uuid>)> {
    let found: Vec<Option<MetaProperties>> =
        options.dirs.iter().map(|dir| checkpoint::read_meta_properties(io, dir)).collect::<Result<_>>()?;
    let mut cluster_id = options.cluster_id.clone();
    for (dir, meta) in options.dirs.iter().zip(&found) {
        let Some(meta) = meta else { continue };
        let path = dir.join("meta.properties");
        let expected = cluster_id.get_or_insert_with(|| meta.cluster_id.clone());
        if *expected != meta.cluster_id {
            return Err(Error::corrupt(path, format!("cluster.id is {}, expected {expected}", meta.cluster_id)));
        }
        if meta.node_id != options.node_id {
            let what = format!("node.id is {}, but this broker's is {}", meta.node_id, options.node_id);
            return Err(Error::corrupt(path, what));
        }
    }
    let cluster_id = cluster_id.unwrap_or_else(|| checkpoint::uuid_to_base64(checkpoint::random_uuid()));
    let mut ids = Vec::new();
    for (dir, meta) in options.dirs.iter().zip(found) {
        let meta = match meta {
            Some(meta) => meta,
            None => {
                let directory_id = checkpoint::random_uuid();
                let meta = MetaProperties { cluster_id: cluster_id.clone(), node_id: options.node_id, directory_id };
                checkpoint::write_meta_properties(io, dir, &meta)?;
                meta
            }
        };
        ids.push(meta.directory_id);
    }
    Ok((cluster_id, ids))
}

fn open_dir(shared: &Shared, dir: &Path, options: &LogManagerOptions) -> Result<Vec<LogEntry>> {
    let io = &shared.io;
    let clean = dirs::take_clean_shutdown(io, dir)?;
    let recovery_points = checkpoint::read_offsets(io, &dir.join(checkpoint::RECOVERY_POINT_FILE))?;
    let log_starts = checkpoint::read_offsets(io, &dir.join(checkpoint::LOG_START_OFFSET_FILE))?;
    let cleaned = checkpoint::read_offsets(io, &dir.join(checkpoint::CLEANER_OFFSET_FILE))?;
    let mut found = Vec::new();
    for name in io.list(dir)? {
        if name.ends_with("-delete") {
            io.remove_dir_all(&dir.join(&name))?;
        } else if let Some((topic, partition)) = dirs::parse_partition_dir(&name)
            && dir.join(&name).is_dir()
        {
            found.push((topic.to_string(), partition));
        }
    }
    if !clean && !found.is_empty() {
        tracing::info!(dir = %dir.display(), logs = found.len(), "the last stop was not clean: recovering");
    }
    let open_one = |(topic, partition): &(String, i32)| -> Result<LogEntry> {
        let key = (topic.clone(), *partition);
        let path = dirs::partition_dir(dir, topic, *partition);
        let known = Known {
            clean,
            recovery_point: recovery_points.get(&key).copied().unwrap_or(0),
            log_start_offset: log_starts.get(&key).copied().unwrap_or(0),
            producer_id_expiration_ms: options.producer_id_expiration_ms,
            now_ms: options.now_ms,
        };
        let topic_id = checkpoint::read_partition_metadata(io, &path)?;
        let recovered = recovery::recover(io, &path, &options.defaults, known)?;
        let log = Log::new(&path, shared.clone(), options.defaults.clone(), recovered, options.now_ms);
        log.set_cleaned_offset(cleaned.get(&key).copied());
        Ok(LogEntry { topic: key.0, partition: key.1, topic_id, log })
    };
    let share = found.len().div_ceil(RECOVERY_THREADS).max(1);
    std::thread::scope(|scope| {
        let threads: Vec<_> = found
            .chunks(share)
            .map(|part| scope.spawn(|| part.iter().map(open_one).collect::<Result<Vec<_>>>()))
            .collect();
        let mut entries = Vec::new();
        for thread in threads {
            entries.extend(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
        }
        Ok(entries)
    })
}
