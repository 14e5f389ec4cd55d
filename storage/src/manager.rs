//! All the logs of one process: log directories, their locks and checkpoints, opening, creating, deleting, periodic
//! work and the clean stop.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};

use parking_lot::{Mutex, RwLock};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::checkpoint::{self, MetaProperties, Offsets};
use crate::dirs::{self, DirLock};
use crate::io::{ChunkPool, Io};
use crate::log::{DirHealth, Doomed, Log, LogConfig, Shared, Tails};
use crate::recovery::{self, Known};
use crate::{Error, Result};

/// Freed tail memory kept for the next chunk.
const POOL_KEEP_BYTES: usize = 8 << 20;
/// Kafka's replica.high.watermark.checkpoint.interval.ms; recovery points and log start offsets go along.
const CHECKPOINT_INTERVAL_MS: i64 = 5_000;
/// Logs that a clean stop works on at a time.
const CLOSED_AT_ONCE: usize = 64;
/// How often recovery says how far it is.
const PROGRESS_LINES: usize = 20;
/// Kafka keeps the ids below for what is no directory: not assigned, lost, moving.
const FIRST_DIRECTORY_ID: u128 = 100;

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
    /// num.recovery.threads.per.data.dir
    pub recovery_threads: usize,
    /// log.retention.check.interval.ms
    pub retention_check_interval_ms: i64,
    pub now_ms: i64,
    /// None: what the first directory allows.
    pub io: Option<Io>,
}

/// One log found in (or made in) a log directory.
#[derive(Clone, Debug)]
pub struct LogEntry {
    pub topic: Arc<str>,
    pub partition: i32,
    pub topic_id: Option<Uuid>,
    pub log: Arc<Log>,
}

#[derive(Debug)]
struct Dir {
    path: PathBuf,
    id: Uuid,
    health: Arc<DirHealth>,
    _lock: DirLock,
}

#[derive(Debug)]
pub struct LogManager {
    options: LogManagerOptions,
    cluster_id: String,
    dirs: Vec<Dir>,
    shared: Shared,
    /// Ordered, so that periodic work takes them in the same order every time.
    logs: RwLock<BTreeMap<(String, i32), LogEntry>>,
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
        let io = match &options.io {
            Some(io) => io.clone(),
            None => {
                let creatable = options.dirs.iter().find(|dir| Io::plain().create_dir_all(dir).is_ok());
                Io::probe(creatable.unwrap_or_else(|| options.dirs.first().expect("at least one log directory")))
            }
        };
        let usable = usable_dirs(&io, &options.dirs)?;
        let (cluster_id, ids) = identify(&io, &options, &usable)?;
        let shared = Shared {
            io,
            dir: Arc::default(),
            pool: ChunkPool::new(POOL_KEEP_BYTES),
            tail_bytes: options.tail_bytes,
            tails: Arc::new(Tails::default()),
        };
        let mut logs = BTreeMap::new();
        let mut opened_dirs = Vec::new();
        let mut written_checkpoints = BTreeMap::new();
        let mut offline = None;
        for ((path, lock), id) in usable.into_iter().zip(ids) {
            let health = Arc::<DirHealth>::default();
            let of_dir = Shared { dir: health.clone(), ..shared.clone() };
            match open_dir(&of_dir, &path, &options) {
                Ok((entries, checkpoints)) => {
                    logs.extend(entries.into_iter().map(|entry| ((entry.topic.to_string(), entry.partition), entry)));
                    written_checkpoints.extend(checkpoints);
                }
                Err(error @ Error::Io { .. }) => {
                    tracing::error!(dir = %path.display(), %error, "the log directory is offline");
                    health.fail();
                    offline = Some(error);
                }
                Err(error) => return Err(error),
            }
            opened_dirs.push(Dir { path, id, health, _lock: lock });
        }
        if let Some(error) = offline.filter(|_| opened_dirs.iter().all(|dir| dir.health.has_failed())) {
            return Err(error);
        }
        Ok(Arc::new(LogManager {
            cluster_id,
            dirs: opened_dirs,
            shared,
            logs: RwLock::new(logs),
            doomed: Mutex::default(),
            written_checkpoints: Mutex::new(written_checkpoints),
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

    /// (directory, its id), in the order of `dirs`, those that are offline left out.
    pub fn dirs(&self) -> Vec<(PathBuf, Uuid)> {
        self.online_dirs().map(|d| (d.path.clone(), d.id)).collect()
    }

    fn online_dirs(&self) -> impl Iterator<Item = &Dir> {
        self.dirs.iter().filter(|dir| !dir.health.has_failed())
    }

    /// Of the configured directories at least one cannot be used, now or since the start.
    pub fn has_offline_dirs(&self) -> bool {
        self.online_dirs().count() < self.options.dirs.len()
    }

    /// Whether the logs in the directory with that id are out of reach.
    pub fn is_dir_offline(&self, id: Uuid) -> bool {
        id.as_u128() >= FIRST_DIRECTORY_ID && self.has_offline_dirs() && !self.online_dirs().any(|dir| dir.id == id)
    }

    pub fn node_id(&self) -> i32 {
        self.options.node_id
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
        self.create_in(self.emptiest_dir(), (topic, partition), topic_id, config, now_ms)
    }

    /// The same in that one of `dirs`.
    pub fn create_at(
        &self,
        dir: &Path,
        topic: &str,
        partition: i32,
        topic_id: Option<Uuid>,
        config: LogConfig,
        now_ms: i64,
    ) -> Result<Arc<Log>> {
        let home = self.online_dirs().find(|home| home.path == dir);
        self.create_in(home, (topic, partition), topic_id, config, now_ms)
    }

    fn create_in(
        &self,
        home: Option<&Dir>,
        (topic, partition): (&str, i32),
        topic_id: Option<Uuid>,
        config: LogConfig,
        now_ms: i64,
    ) -> Result<Arc<Log>> {
        let key = (topic.to_string(), partition);
        if let Some(entry) = self.logs.read().get(&key) {
            return Ok(entry.log.clone());
        }
        // What the checkpoints say about a deleted log of that name must not be believed of this one after a crash.
        if self.written_checkpoints.lock().values().any(|offsets| offsets.contains_key(&key)) {
            self.write_checkpoints()?;
        }
        let Some(home) = home else {
            return Err(Error::Offline { path: self.dirs[0].path.clone() });
        };
        let parent = &home.path;
        let dir = dirs::partition_dir(parent, topic, partition);
        let io = &self.shared.io;
        io.create_dir_all(&dir)?;
        if let Some(id) = topic_id {
            checkpoint::write_partition_metadata(io, &dir, id)?;
        }
        io.sync_dir(parent)?;
        let known = Known { clean: true, recovery_point: 0, log_start_offset: 0, ..self.known(now_ms) };
        let found = recovery::recover(io, &dir, &config, known)?;
        if found.changed {
            io.sync_file_system(parent)?;
        }
        let shared = Shared { dir: home.health.clone(), ..self.shared.clone() };
        let log = Log::new(&dir, shared, config, found, now_ms);
        let entry = LogEntry { topic: topic.into(), partition, topic_id, log: log.clone() };
        self.logs.write().insert(key, entry);
        Ok(log)
    }

    fn known(&self, now_ms: i64) -> Known {
        let producer_id_expiration_ms = self.options.producer_id_expiration_ms;
        Known { clean: true, recovery_point: 0, log_start_offset: 0, producer_id_expiration_ms, now_ms }
    }

    fn emptiest_dir(&self) -> Option<&Dir> {
        let logs = self.logs.read();
        let load = |dir: &&Dir| logs.values().filter(|e| e.log.dir().parent() == Some(&dir.path)).count();
        let mut online = self.online_dirs();
        if self.dirs.len() == 1 { online.next() } else { online.min_by_key(load) }
    }

    /// Renames to `-delete`; the files go after file.delete.delay.ms. Those who wait get `Error::Offline`.
    pub fn delete(&self, topic: &str, partition: i32, now_ms: i64) -> Result<()> {
        let Some((log, renamed)) = self.rename_away(topic, partition, dirs::DELETE)? else { return Ok(()) };
        let due_ms = now_ms + log.config().file_delete_delay_ms;
        self.doomed.lock().push(Doomed { paths: vec![renamed], due_ms });
        Ok(())
    }

    /// Renames to `-stray`: nobody serves it, and nobody deletes it. Returns where it is.
    pub fn set_aside(&self, topic: &str, partition: i32) -> Result<Option<PathBuf>> {
        Ok(self.rename_away(topic, partition, dirs::STRAY)?.map(|(_, renamed)| renamed))
    }

    fn rename_away(&self, topic: &str, partition: i32, suffix: &str) -> Result<Option<(Arc<Log>, PathBuf)>> {
        let Some(LogEntry { log, .. }) = self.logs.write().remove(&(topic.to_string(), partition)) else {
            return Ok(None);
        };
        let renamed = log.move_away(|| dirs::rename_away(&self.shared.io, log.dir(), suffix))?;
        Ok(Some((log, renamed)))
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
        for entry in self.logs().into_iter().filter(|entry| !entry.log.is_dir_offline()) {
            if let Err(error) = self.tick_log(&entry.log, retention, now_ms).await {
                tracing::error!(topic = &*entry.topic, partition = entry.partition, %error, "periodic work on a log failed");
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
            let removed =
                if self.io().is_dir(path) { self.io().remove_dir_all(path) } else { self.io().remove_file(path) };
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
        for dir in self.online_dirs() {
            let here: Vec<&LogEntry> = entries.iter().filter(|entry| entry.log.is_in(&dir.health)).collect();
            for (name, value) in kinds {
                let path = dir.path.join(name);
                let noted = || here.iter().filter_map(|e| Some((&*e.topic, e.partition, value(&e.log)?)));
                // Compared before anything is collected: mostly nothing has changed, in any of many logs.
                let is_written = written.get(&path).is_some_and(|offsets| {
                    offsets.iter().map(|((topic, partition), offset)| (&**topic, *partition, *offset)).eq(noted())
                });
                if !is_written {
                    let owned = noted().map(|(topic, partition, offset)| ((topic.to_owned(), partition), offset));
                    let offsets: Offsets = owned.collect();
                    checkpoint::write_offsets(self.io(), &path, &offsets)?;
                    written.insert(path, offsets);
                }
            }
        }
        Ok(())
    }

    /// Several at a time, since each waits for the disk.
    async fn close_logs(&self) -> Result<()> {
        let (mut logs, mut closing, mut result) = (self.logs().into_iter(), JoinSet::new(), Ok(()));
        loop {
            for LogEntry { topic, partition, log, .. } in logs.by_ref().take(CLOSED_AT_ONCE - closing.len()) {
                closing.spawn_local(async move {
                    let closed = log.close().await;
                    closed.inspect_err(
                        |error| tracing::error!(topic = &*topic, partition, %error, "log not closed cleanly"),
                    )
                });
            }
            let Some(closed) = closing.join_next().await else { return result };
            let closed = closed.unwrap_or_else(|stopped| std::panic::resume_unwind(stopped.into_panic()));
            result = result.and(closed);
        }
    }

    /// Writes and cuts everything, checkpoints, then the clean-shutdown marker. No marker if anything failed.
    pub async fn close(self: &Arc<LogManager>, broker_epoch: i64) -> Result<()> {
        let closed = self.close_logs().await;
        // Apache Kafka would open what is left of them as logs, and find them cut short.
        self.remove_doomed(i64::MAX);
        self.write_checkpoints()?;
        closed?;
        for dir in self.online_dirs() {
            dirs::write_clean_shutdown(self.io(), &dir.path, broker_epoch)?;
        }
        Ok(())
    }
}

/// Locks the directories; those that the system refuses to create, list or lock are left out, unless all are.
fn usable_dirs(io: &Io, dirs: &[PathBuf]) -> Result<Vec<(PathBuf, DirLock)>> {
    let mut usable = Vec::new();
    let mut refused = None;
    for dir in dirs {
        match dirs::lock(io, dir).and_then(|lock| io.list(dir).map(|_| lock)) {
            Ok(lock) => usable.push((dir.clone(), lock)),
            Err(error @ Error::Io { .. }) => {
                tracing::error!(dir = %dir.display(), %error, "the log directory is offline");
                refused = Some(error);
            }
            Err(error) => return Err(error),
        }
    }
    match refused {
        Some(error) if usable.is_empty() => Err(error),
        _ => Ok(usable),
    }
}

/// The cluster id and the directories' ids; writes meta.properties where it is missing.
fn identify(io: &Io, options: &LogManagerOptions, usable: &[(PathBuf, DirLock)]) -> Result<(String, Vec<Uuid>)> {
    let found: Vec<Option<MetaProperties>> =
        usable.iter().map(|(dir, _)| checkpoint::read_meta_properties(io, dir)).collect::<Result<_>>()?;
    let mut cluster_id = options.cluster_id.clone();
    for ((dir, _), meta) in usable.iter().zip(&found) {
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
    for ((dir, _), meta) in usable.iter().zip(found) {
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

/// What a checkpoint file says, by its path.
type Checkpoints = BTreeMap<PathBuf, Offsets>;

fn open_dir(shared: &Shared, dir: &Path, options: &LogManagerOptions) -> Result<(Vec<LogEntry>, Checkpoints)> {
    let io = &shared.io;
    let clean = dirs::take_clean_shutdown(io, dir)?;
    let [recovery_point_file, log_start_file, cleaner_file] =
        [checkpoint::RECOVERY_POINT_FILE, checkpoint::LOG_START_OFFSET_FILE, checkpoint::CLEANER_OFFSET_FILE]
            .map(|name| dir.join(name));
    let recovery_points = checkpoint::read_offsets(io, &recovery_point_file)?;
    let log_starts = checkpoint::read_offsets(io, &log_start_file)?;
    let cleaned = checkpoint::read_offsets(io, &cleaner_file)?;
    let mut found = Vec::new();
    for name in io.list(dir)? {
        if name.ends_with(dirs::DELETE) {
            io.remove_dir_all(&dir.join(&name))?;
        } else if name.ends_with(dirs::STRAY) || name.ends_with(dirs::FUTURE) {
            tracing::warn!(dir = %dir.join(&name).display(), "belongs to no partition here, and is left alone");
        } else if let Some((topic, partition)) = dirs::parse_partition_dir(&name)
            && io.is_dir(&dir.join(&name))
        {
            found.push((topic.to_string(), partition));
        }
    }
    if !clean && !found.is_empty() {
        tracing::info!(dir = %dir.display(), logs = found.len(), "the last stop was not clean: recovering");
    }
    let (done, scanned_bytes) = (AtomicUsize::new(0), AtomicU64::new(0));
    let unsynced = AtomicBool::new(!clean);
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
        let so_far = done.fetch_add(1, Ordering::Relaxed) + 1;
        unsynced.fetch_or(recovered.changed, Ordering::Relaxed);
        let scanned_bytes =
            scanned_bytes.fetch_add(recovered.scanned_bytes, Ordering::Relaxed) + recovered.scanned_bytes;
        let step = |done| done * PROGRESS_LINES / found.len();
        if !clean && step(so_far) > step(so_far - 1) {
            tracing::info!(dir = %dir.display(), scanned_bytes, "recovered {so_far} of {} logs", found.len());
        }
        let log = Log::new(&path, shared.clone(), options.defaults.clone(), recovered, options.now_ms);
        log.set_cleaned_offset(cleaned.get(&key).copied());
        Ok(LogEntry { topic: key.0.into(), partition: key.1, topic_id, log })
    };
    let entries = open_all(&found, if io.is_simulated() { 1 } else { options.recovery_threads }, open_one)?;
    if unsynced.into_inner() {
        // What a killed process wrote or made may be in the page cache alone, and what recovery cut or removed must not
        // come back after another crash. One sync for all: each log by itself would wait for the disk several times.
        io.sync_file_system(dir)?;
    }
    let read = [(recovery_point_file, recovery_points), (log_start_file, log_starts), (cleaner_file, cleaned)];
    Ok((entries, Checkpoints::from(read)))
}

/// Opens logs on several threads, each of which takes the next one when it is done with its last.
fn open_all(
    found: &[(String, i32)],
    threads: usize,
    open_one: impl Fn(&(String, i32)) -> Result<LogEntry> + Sync,
) -> Result<Vec<LogEntry>> {
    if threads <= 1 || found.len() <= 1 {
        return found.iter().map(open_one).collect();
    }
    let next = AtomicUsize::new(0);
    let work = || {
        let mut opened = Vec::new();
        while let Some(name) = found.get(next.fetch_add(1, Ordering::Relaxed)) {
            opened.push(open_one(name)?);
        }
        Ok(opened)
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads.min(found.len())).map(|_| scope.spawn(work)).collect();
        let mut entries = Vec::new();
        for thread in threads {
            entries.extend(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
        }
        Ok(entries)
    })
}
