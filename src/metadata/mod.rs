//! Cluster metadata: KRaft records in `__cluster_metadata-0`, replayed into an immutable image. This node is its own
//! controller: a request becomes records, the records are appended, applied and carried out, and then answered.

mod carried;
mod codec;
mod control;
mod cow_map;
mod delta;
pub mod features;
pub mod image;
mod log;
mod records;
mod registration;
#[cfg(test)]
mod restart_tests;
mod snapshot;
#[cfg(test)]
pub(crate) mod tests;
pub mod topics;

use std::collections::{BTreeMap, HashSet};
use std::future::Future;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use anyhow::{Context, bail};
use arc_swap::{ArcSwap, Guard};
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use ottla_storage::checkpoint::random_uuid;
use ottla_storage::log::LogManager;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{Mutex, MutexGuard};
use uuid::Uuid;

use crate::clock::Clock;
use crate::config::{self, Config};
use crate::error::{ApiError, ErrorCode};
use crate::partition::Partitions;

use control::{ControlRecord, KeyValue, VoterId};
use delta::{Changes, Delta};
use features::FeatureUpdate;
use image::TOPIC_RESOURCE;
pub use image::{BrokerImage, Image, PartitionImage, TopicImage};
use log::{Entry, MetadataLog};
use records::Record;
use registration::Registration;
use topics::{CreateRules, CreatedTopic, DeleteResult, TopicRef, TopicResult};

/// Producer ids are taken from the log in blocks of so many, as Kafka does.
const PRODUCER_ID_BLOCK: i64 = 1000;
/// At start, elections and the like go into batches of so many records.
const START_BATCH_RECORDS: usize = 5000;

/// One override to set or to remove. Resource types as in [`Image::config_overrides`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigChange {
    pub resource_type: i8,
    pub resource_name: String,
    pub name: String,
    /// None removes the override.
    pub value: Option<String>,
}

/// Ids and names.
pub type DeletedTopics = Vec<(Uuid, Arc<str>)>;

/// Shared handle: read the image, or commit records that change it.
#[derive(Clone)]
pub struct Metadata {
    shared: Arc<Shared>,
}

struct Shared {
    image: ArcSwap<Image>,
    /// Held while a change is made, so that each is planned on the outcome of the one before.
    writer: Mutex<Writer>,
    /// What is left of the current block.
    producer_ids: Mutex<Range<i64>>,
    /// Who wants to know of deleted topics.
    deletions: OnceLock<UnboundedSender<DeletedTopics>>,
    config: Arc<Config>,
    logs: Arc<LogManager>,
    partitions: Arc<Partitions>,
    clock: Clock,
}

struct Writer {
    log: MetadataLog,
    /// Records that are in the log but were not known to be safe when the disk refused a write. They may be yet.
    in_doubt: Vec<Record>,
}

impl Metadata {
    /// Replays the log in `logs` (writing the first records where it is new, registering this broker), makes the
    /// partitions, sets logs aside whose topic is gone. `endpoints`: the advertised (listener, host, port) with real ports.
    /// Call on a runtime with a LocalSet.
    pub async fn open(
        config: Arc<Config>,
        logs: Arc<LogManager>,
        partitions: Arc<Partitions>,
        clock: Clock,
        endpoints: Vec<(String, String, u16)>,
    ) -> anyhow::Result<Metadata> {
        let mut log = MetadataLog::open(&logs, &config, clock.now_ms()).context("cannot open the metadata log")?;
        let image = take_lead(&mut log, &config, &logs, clock).await?;
        let shared = Arc::new(Shared {
            image: ArcSwap::from_pointee(image),
            writer: Mutex::new(Writer { log, in_doubt: Vec::new() }),
            producer_ids: Mutex::new(0..0),
            deletions: OnceLock::new(),
            config,
            logs,
            partitions,
            clock,
        });
        shared.start(endpoints).await?;
        Ok(Metadata { shared })
    }

    /// Sets (or with no value removes) overrides: commits ConfigRecords and hands the partitions their new settings.
    /// `plan` validates, on an image that no other change comes after.
    pub async fn alter_configs<T: 'static>(
        &self,
        plan: impl FnOnce(&Image) -> (Vec<ConfigChange>, T) + 'static,
    ) -> Result<T, ApiError> {
        self.commit(move |image| {
            let (changes, outcome) = plan(image);
            (changes.into_iter().map(Record::from).collect(), outcome)
        })
        .await
    }

    /// Sets the levels of features: all, or none; with `validate_only` says whether it could.
    pub async fn update_features(&self, updates: Vec<FeatureUpdate>, validate_only: bool) -> Result<(), ApiError> {
        self.commit(move |image| match features::update(image, &updates) {
            Ok(records) => (unless(validate_only, records), Ok(())),
            Err(error) => (Vec::new(), Err(error)),
        })
        .await?
    }

    /// A producer id that was never given out before, not even before a crash.
    pub async fn next_producer_id(&self) -> Result<i64, ApiError> {
        let no_more = || ApiError::new(ErrorCode::UnknownServerError, "There are no producer ids left.");
        self.producer_ids().await?.next().ok_or_else(no_more)
    }

    /// Sees to it that there are ids to take.
    pub async fn reserve_producer_ids(&self) -> Result<(), ApiError> {
        self.producer_ids().await.map(drop)
    }

    /// The same as `next_producer_id`, for who cannot wait: None if there is none at hand.
    pub fn take_producer_id(&self) -> Option<i64> {
        self.shared.producer_ids.try_lock().ok()?.next()
    }

    /// What is left of the current block, or a new one.
    async fn producer_ids(&self) -> Result<MutexGuard<'_, Range<i64>>, ApiError> {
        let mut ids = self.shared.producer_ids.lock().await;
        if ids.is_empty() {
            let broker_id = self.shared.config.node_id;
            *ids = self.commit(move |image| producer_id_block(image, broker_id)).await?;
        }
        Ok(ids)
    }

    /// Creates what can be created, or with `validate_only` says what would be; one answer a name.
    pub async fn create_topics(
        &self,
        topics: Vec<CreatableTopic>,
        validate_only: bool,
    ) -> Result<Vec<TopicResult<CreatedTopic>>, ApiError> {
        let config = self.shared.config.clone();
        self.commit(move |image| {
            let rules = CreateRules {
                num_partitions: config.num_partitions,
                replication_factor: config.default_replication_factor,
                check_config: &config::validate_topic_config,
                new_id: &random_uuid,
            };
            let (records, results) = topics::create_topics(image, &topics, &rules);
            (unless(validate_only, records), results)
        })
        .await
    }

    pub async fn create_partitions(
        &self,
        topics: Vec<CreatePartitionsTopic>,
        validate_only: bool,
    ) -> Result<Vec<TopicResult<()>>, ApiError> {
        self.commit(move |image| {
            let (records, results) = topics::create_partitions(image, &topics);
            (unless(validate_only, records), results)
        })
        .await
    }

    pub async fn delete_topics(&self, topics: Vec<TopicRef>) -> Result<Vec<DeleteResult>, ApiError> {
        self.commit(move |image| topics::delete_topics(image, &topics)).await
    }

    /// The current image; cheap (arc-swap).
    pub fn image(&self) -> Arc<Image> {
        self.shared.image.load_full()
    }

    /// The same for a moment, without a count that all threads share.
    pub fn glance(&self) -> Guard<Arc<Image>> {
        self.shared.image.load()
    }

    /// Offset of this broker's registration, which `.kafka_cleanshutdown` names.
    pub fn broker_epoch(&self) -> i64 {
        self.image().broker(self.shared.config.node_id).map_or(-1, |broker| broker.epoch)
    }

    /// Topics that are deleted from now on, when they are gone from the image. For one receiver.
    pub fn deleted_topics(&self) -> UnboundedReceiver<DeletedTopics> {
        let (sender, receiver) = unbounded_channel();
        self.shared.deletions.set(sender).expect("one receiver");
        receiver
    }

    /// Fences the broker, the last record of a clean stop: without it the next start gives every partition a new leader
    /// epoch. To be called when no more requests come, before the logs are closed.
    pub async fn close(&self) -> Result<(), ApiError> {
        let broker_id = self.shared.config.node_id;
        self.commit(move |image| (registration::fence(image, broker_id), ())).await
    }

    /// Periodic work, called every second: a snapshot by time.
    pub async fn tick(&self) {
        // Whoever is changing something looks at the snapshot as well.
        if let Ok(mut writer) = self.shared.writer.try_lock() {
            writer.log.snapshot_if_due(&self.image(), self.shared.clock.now_ms()).await;
        }
    }

    /// Plans a change on the current image and makes it. The work goes on if the caller goes away: a change that is in
    /// the log must also be in the image.
    async fn commit<T: 'static>(&self, plan: impl FnOnce(&Image) -> (Vec<Record>, T) + 'static) -> Result<T, ApiError> {
        let shared = self.shared.clone();
        finish(tokio::task::spawn_local(async move { shared.commit(plan).await })).await
    }
}

/// Awaits work that was handed to the runtime; a panic there goes on here.
async fn finish<T>(
    work: impl Future<Output = Result<Result<T, ApiError>, tokio::task::JoinError>>,
) -> Result<T, ApiError> {
    match work.await {
        Ok(result) => result,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(ApiError::new(ErrorCode::BrokerNotAvailable, "The broker is stopping.")),
    }
}

fn unless(validate_only: bool, records: Vec<Record>) -> Vec<Record> {
    if validate_only { Vec::new() } else { records }
}

impl From<ConfigChange> for Record {
    fn from(change: ConfigChange) -> Record {
        let ConfigChange { resource_type, resource_name, name, value } = change;
        Record::Config { resource_type, resource_name, name, value }
    }
}

fn producer_id_block(image: &Image, broker_id: i32) -> (Vec<Record>, Range<i64>) {
    let first = image.next_producer_id();
    let Some(next_producer_id) = first.checked_add(PRODUCER_ID_BLOCK) else { return (Vec::new(), first..first) };
    let broker_epoch = image.broker(broker_id).map_or(-1, |broker| broker.epoch);
    (vec![Record::ProducerIds { broker_id, broker_epoch, next_producer_id }], first..next_producer_id)
}

fn storage_error(error: impl std::error::Error) -> ApiError {
    tracing::error!(error = %error, "cannot change metadata");
    ApiError::new(ErrorCode::KafkaStorageError, error.to_string())
}

impl Shared {
    async fn commit<T>(&self, plan: impl FnOnce(&Image) -> (Vec<Record>, T)) -> Result<T, ApiError> {
        let mut writer = self.writer.lock().await;
        if !writer.in_doubt.is_empty() {
            writer.log.written().await.map_err(storage_error)?;
            let records = std::mem::take(&mut writer.in_doubt);
            self.apply(records, writer.log.end_offset() - 1).await?;
        }
        let (records, outcome) = plan(&self.image.load());
        let created = self.append(&mut writer, records).await?;
        if self.logs.dirs().len() > 1 {
            let image = self.image.load_full();
            self.append(&mut writer, self.directory_changes(&image, created)).await?;
        }
        Ok(outcome)
    }

    /// Appends the records, and when they are safe applies them. Returns the topics with new partitions.
    async fn append(&self, writer: &mut Writer, records: Vec<Record>) -> Result<Vec<Uuid>, ApiError> {
        if records.is_empty() {
            return Ok(Vec::new());
        }
        let levels = self.image.load().write_levels();
        let end_offset = writer.log.end_offset();
        if let Err(error) = writer.log.append(&records, levels, self.clock.now_ms()).await {
            if writer.log.end_offset() != end_offset {
                writer.in_doubt = records;
            }
            return Err(storage_error(error));
        }
        let applied = self.apply(records, writer.log.end_offset() - 1).await;
        writer.log.snapshot_if_due(&self.image.load_full(), self.clock.now_ms()).await;
        applied
    }

    /// Applies what is in the log, up to `offset`: makes, changes and deletes what the records say, and publishes the
    /// image.
    async fn apply(&self, records: Vec<Record>, offset: i64) -> Result<Vec<Uuid>, ApiError> {
        let before = self.image.load_full();
        let mut delta = Delta::new(&before);
        delta.reach(offset);
        let applied = records.into_iter().try_for_each(|record| delta.apply(record));
        let (image, changes) = applied.and_then(|()| delta.finish()).expect("records planned on this very image");
        let image = Arc::new(image);
        let created = changes.created.keys().copied().collect();
        let deleted = changes.deleted.clone();
        let names = deleted.iter().filter_map(|id| Some((*id, before.topic_by_id(*id)?.name.clone()))).collect();
        let made = self.prepare(image.clone(), changes).await;
        // What is in the log holds, even if a directory could not be made: the next start tries again.
        self.image.store(image);
        if let Some(deletions) = self.deletions.get().filter(|_| !deleted.is_empty()) {
            // Nobody listens any more when the broker stops.
            let _ = deletions.send(names);
        }
        let removed = self.remove(deleted).await;
        made.and(removed).map(|()| created)
    }

    /// Makes new partitions and tells the others of new settings, before requests can see them in the image.
    async fn prepare(&self, image: Arc<Image>, changes: Changes) -> Result<(), ApiError> {
        if changes.created.is_empty() && changes.reconfigured.is_empty() && !changes.broker_reconfigured {
            return Ok(());
        }
        let (config, partitions) = (self.config.clone(), self.partitions.clone());
        let work = move || {
            let dynamic = image.dynamic_broker_configs(config.node_id);
            let none = BTreeMap::new();
            let log_config = |name: &str| {
                config.log_config_with(dynamic, image.config_overrides(TOPIC_RESOURCE, name).unwrap_or(&none))
            };
            let changed: Vec<&Arc<TopicImage>> = match changes.broker_reconfigured {
                true => image.topics().collect(),
                false => changes.reconfigured.iter().filter_map(|name| image.topic(name)).collect(),
            };
            for topic in changed {
                partitions.update_config(topic.id, &log_config(&topic.name));
            }
            for (id, first_new) in changes.created {
                if let Some(topic) = image.topic_by_id(id) {
                    partitions.create(topic, first_new, &log_config(&topic.name)).map_err(storage_error)?;
                }
            }
            Ok(())
        };
        finish(tokio::task::spawn_blocking(work)).await
    }

    async fn remove(&self, topics: Vec<Uuid>) -> Result<(), ApiError> {
        if topics.is_empty() {
            return Ok(());
        }
        let partitions = self.partitions.clone();
        let work = move || topics.into_iter().try_for_each(|id| partitions.delete(id)).map_err(storage_error);
        finish(tokio::task::spawn_blocking(work)).await
    }

    fn directory_changes(&self, image: &Image, topics: impl IntoIterator<Item = Uuid>) -> Vec<Record> {
        let directory_of = |topic: &str, partition| self.logs.directory_id(topic, partition);
        registration::directories(image, self.config.node_id, directory_of, topics)
    }

    /// Once at start: registers the broker, elects it, makes the partitions and sets aside what belongs to none.
    async fn start(&self, endpoints: Vec<(String, String, u16)>) -> anyhow::Result<()> {
        let writer = &mut *self.writer.lock().await;
        let broker_id = self.config.node_id;
        let formatted = log::bootstrap_records(self.logs.io(), &self.config.metadata_log_dir)?;
        let first = registration::bootstrap(&self.image.load(), formatted, self.config.min_insync_replicas);
        self.append(writer, first).await?;
        let unclean = self.image.load().broker(broker_id).is_some_and(|broker| !broker.fenced);
        let registration = Registration {
            broker_id,
            incarnation_id: random_uuid(),
            rack: self.config.rack.clone(),
            endpoints,
            log_dirs: self.logs.dirs().into_iter().map(|(_, id)| id).collect(),
        };
        let records = registration::register(&registration, writer.log.end_offset());
        self.append(writer, records).await?;
        let elections = registration::elect(&self.image.load(), broker_id, unclean);
        self.append_in_batches(writer, elections).await?;

        let image = self.image.load_full();
        self.set_strays_aside(&image).await?;
        let created = image.topics().map(|topic| (topic.id, 0)).collect();
        self.prepare(image.clone(), Changes { created, ..Changes::default() }).await?;
        let topics: Vec<Uuid> = image.topics().map(|topic| topic.id).collect();
        self.append_in_batches(writer, self.directory_changes(&image, topics)).await?;
        Ok(())
    }

    async fn append_in_batches(&self, writer: &mut Writer, records: Vec<Record>) -> Result<(), ApiError> {
        for batch in records.chunks(START_BATCH_RECORDS) {
            self.append(writer, batch.to_vec()).await?;
        }
        Ok(())
    }

    /// Logs of topics that were deleted while their files could not be, since the process died in between; or the
    /// metadata log is not the one that belongs to them. So they are kept, as Kafka does, under another name.
    async fn set_strays_aside(&self, image: &Arc<Image>) -> Result<(), ApiError> {
        let (logs, image) = (self.logs.clone(), image.clone());
        let work = move || {
            for entry in logs.logs() {
                let known = image.topic(&entry.topic).is_some_and(|topic| {
                    entry.topic_id.is_none_or(|id| id == topic.id) && topic.partition(entry.partition).is_some()
                });
                if !known && *entry.topic != *log::TOPIC {
                    let renamed = logs.set_aside(&entry.topic, entry.partition).map_err(storage_error)?;
                    tracing::warn!(log = %entry.log.dir().display(), ?renamed, "belongs to no topic, and was set aside");
                }
            }
            Ok(())
        };
        finish(tokio::task::spawn_blocking(work)).await
    }
}

/// Replays the log and becomes its leader, if no other node has a say in it.
async fn take_lead(log: &mut MetadataLog, config: &Config, logs: &LogManager, clock: Clock) -> anyhow::Result<Image> {
    let node_id = config.node_id;
    let mut delta = Delta::new(&Image::new(logs.cluster_id(), node_id));
    let mut kraft_version = 0;
    let mut voters: HashSet<i32> = configured_voters(config).collect();
    log.replay(|offset, entry| {
        delta.reach(offset);
        match entry {
            Entry::Data(record) => delta.apply(record)?,
            Entry::Control(ControlRecord::KRaftVersion(version)) => kraft_version = version,
            Entry::Control(ControlRecord::Voters(recorded, _)) => voters = recorded.iter().map(|v| v.id).collect(),
            Entry::Control(_) => {}
        }
        Ok(())
    })
    .await?;
    if voters.iter().any(|id| *id != node_id) {
        bail!("this node ({node_id}) is not the only voter of its cluster ({voters:?}), and must not decide alone");
    }
    let mut first = Vec::new();
    if let (0, Some(voters)) = (log.end_offset(), first_voters(config, logs)) {
        kraft_version = 1;
        first = vec![control::kraft_version(kraft_version), voters];
    }
    let now_ms = clock.now_ms();
    log.lead(node_id, kraft_version, first, now_ms).await.context("cannot lead the metadata log")?;
    if delta.in_transaction() {
        let abort = Record::AbortTransaction { reason: Some("The controller stopped in the middle of it.".to_owned()) };
        delta.apply(abort.clone())?;
        let (image, _) = delta.finish()?;
        log.append(&[abort], image.write_levels(), now_ms).await?;
        return Ok(image);
    }
    Ok(delta.finish()?.0)
}

/// Ids of `controller.quorum.voters` (`id@host:port,...`): who votes if the log does not say.
fn configured_voters(config: &Config) -> impl Iterator<Item = i32> {
    let voters = config.value("controller.quorum.voters").unwrap_or_default();
    voters.split(',').filter_map(|voter| voter.trim().split_once('@')?.0.parse().ok())
}

/// A new log names its voter, where the configuration has a listener for controllers: Apache Kafka then takes the
/// directory over without being told.
fn first_voters(config: &Config, logs: &LogManager) -> Option<KeyValue> {
    let name = config.controller_listener_names.first()?;
    let listener = config.listeners.iter().find(|listener| listener.name == *name && listener.port != 0)?;
    let host = if listener.host.is_empty() { "localhost" } else { &listener.host };
    let voter = VoterId { id: config.node_id, directory_id: logs.directory_id(log::TOPIC, 0)? };
    Some(control::voters(voter, &(name.clone(), host.to_owned(), listener.port)))
}
