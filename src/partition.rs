//! One partition as clients see it: its log, its leader epoch, the fetches waiting on it; and the registry of all.

mod waiters;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use ottla_storage::log::{Log, LogConfig, LogManager};
use parking_lot::RwLock;
use uuid::Uuid;

use crate::clock::Clock;
use crate::error::ErrorCode;
use crate::metadata::{Image, PartitionImage, TopicImage};
use crate::protocol::wire::TopicRef;

pub use waiters::{ParkedFetch, Waiter, Waiters};

/// A client's "I don't know the leader epoch".
const UNKNOWN_EPOCH: i32 = -1;

pub struct Partition {
    pub topic: Arc<str>,
    pub topic_id: Uuid,
    pub index: i32,
    pub log: Arc<Log>,
    leader_epoch: AtomicI32,
    deleted: AtomicBool,
    // Shared with the log, which must not keep the partition alive.
    waiters: Arc<Waiters>,
}

impl Partition {
    fn new(topic: &TopicImage, index: i32, log: Arc<Log>) -> Partition {
        let waiters = Arc::new(Waiters::default());
        log.set_observer(waiters.clone());
        let leader_epoch = AtomicI32::new(topic.partitions[index as usize].leader_epoch);
        let deleted = AtomicBool::new(false);
        Partition { topic: topic.name.clone(), topic_id: topic.id, index, log, leader_epoch, deleted, waiters }
    }

    pub fn leader_epoch(&self) -> i32 {
        self.leader_epoch.load(Ordering::Acquire)
    }

    fn set_leader_epoch(&self, epoch: i32) {
        if self.leader_epoch.swap(epoch, Ordering::AcqRel) != epoch {
            self.waiters.tell_news();
        }
    }

    /// KIP-320: a client that knows an older epoch is fenced, one that knows a newer one is ahead of this broker.
    pub fn check_leader_epoch(&self, known_to_client: i32) -> Result<(), ErrorCode> {
        match (known_to_client, self.leader_epoch()) {
            (UNKNOWN_EPOCH, _) => Ok(()),
            (client, current) if client < current => Err(ErrorCode::FencedLeaderEpoch),
            (client, current) if client > current => Err(ErrorCode::UnknownLeaderEpoch),
            _ => Ok(()),
        }
    }

    /// The largest epoch up to `epoch` and the offset where it ends; (-1, -1) if that is not known.
    pub fn end_offset_for_epoch(&self, epoch: i32) -> (i32, i64) {
        let current = self.leader_epoch();
        // The log notes an epoch with its first batch; to clients the current one begins where the log ends now.
        match self.log.latest_epoch() {
            _ if epoch == current => (epoch, self.log.log_end_offset()),
            Some(latest) if (latest.epoch..current).contains(&epoch) => (latest.epoch, self.log.log_end_offset()),
            _ => self.log.end_offset_for_epoch(epoch),
        }
    }

    /// The epoch in which the record at `offset` was written, or will be if there is none yet.
    pub fn epoch_for_offset(&self, offset: i64) -> i32 {
        if offset >= self.log.log_end_offset() {
            return self.leader_epoch();
        }
        self.log.epoch_for_offset(offset).unwrap_or(UNKNOWN_EPOCH)
    }

    /// Its topic was deleted while somebody still holds it.
    pub fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Acquire)
    }

    /// Parks a fetch here until the guard is dropped.
    pub fn park(&self, waiter: &Arc<Waiter>) -> ParkedFetch {
        let parked = self.waiters.park(waiter);
        if self.is_deleted() {
            waiter.tell_news();
        }
        parked
    }
}

/// (topic id, partition) -> Partition. Read on every request by any thread.
pub struct Partitions {
    logs: Arc<LogManager>,
    clock: Clock,
    // Index = partition, as in the image. None: its log is in a directory that could not be used at start.
    by_topic: RwLock<HashMap<Uuid, Vec<Option<Arc<Partition>>>>>,
}

impl Partitions {
    pub fn new(logs: Arc<LogManager>, clock: Clock) -> Partitions {
        Partitions { logs, clock, by_topic: RwLock::default() }
    }

    pub fn get(&self, topic_id: Uuid, index: i32) -> Option<Arc<Partition>> {
        self.slot(topic_id, index).flatten()
    }

    fn slot(&self, topic_id: Uuid, index: i32) -> Option<Option<Arc<Partition>>> {
        let index = usize::try_from(index).ok()?;
        self.by_topic.read().get(&topic_id)?.get(index).cloned()
    }

    /// The partition a client means, or the code it is answered.
    pub fn resolve(&self, image: &Image, topic: TopicRef<'_>, index: i32) -> Result<Arc<Partition>, ErrorCode> {
        let topic = match topic {
            TopicRef::Name(name) => image.topic(name).ok_or(ErrorCode::UnknownTopicOrPartition)?,
            TopicRef::Id(id) => image.topic_by_id(id).ok_or(ErrorCode::UnknownTopicId)?,
        };
        if !usize::try_from(index).is_ok_and(|index| index < topic.partitions.len()) {
            return Err(ErrorCode::UnknownTopicOrPartition);
        }
        let slot = self.slot(topic.id, index).ok_or(ErrorCode::NotLeaderOrFollower)?;
        slot.ok_or(ErrorCode::KafkaStorageError)
    }

    /// Called by metadata when records are applied, before the image is published: makes (or finds) the logs of
    /// `topic`'s partitions from `first_new` on; those that are known already take over their leader epoch.
    /// Blocking file work.
    pub fn create(&self, topic: &TopicImage, first_new: i32, config: &LogConfig) -> ottla_storage::Result<()> {
        let known = self.by_topic.read().get(&topic.id).cloned().unwrap_or_default();
        for (partition, image) in known.iter().zip(&topic.partitions) {
            partition.iter().for_each(|partition| partition.set_leader_epoch(image.leader_epoch));
        }
        let mut partitions = known;
        debug_assert!(partitions.len() >= first_new as usize, "partitions are added in order");
        for index in partitions.len()..topic.partitions.len() {
            if self.is_offline(&topic.partitions[index]) {
                tracing::error!(topic = &*topic.name, partition = index, "its log directory is offline");
                partitions.push(None);
                continue;
            }
            let index = index as i32;
            let log = match self.logs.get(&topic.name, index) {
                Some(log) => {
                    log.update_config(config.clone());
                    log
                }
                None => self.logs.create(&topic.name, index, Some(topic.id), config.clone(), self.clock.now_ms())?,
            };
            partitions.push(Some(Arc::new(Partition::new(topic, index, log))));
        }
        self.by_topic.write().insert(topic.id, partitions);
        Ok(())
    }

    /// Its log is in a directory that cannot be used: made anew elsewhere it would be empty.
    fn is_offline(&self, partition: &PartitionImage) -> bool {
        let replicas = partition.replicas.iter().zip(&partition.directories);
        let mut here = replicas.filter(|(id, _)| **id == self.logs.node_id());
        here.any(|(_, directory)| self.logs.is_dir_offline(*directory))
    }

    /// Deletes the topic's logs; waiting fetches and produces are woken with UNKNOWN_TOPIC_OR_PARTITION.
    pub fn delete(&self, topic_id: Uuid) -> ottla_storage::Result<()> {
        let removed = self.by_topic.write().remove(&topic_id).unwrap_or_default();
        let mut result = Ok(());
        for partition in removed.into_iter().flatten() {
            partition.deleted.store(true, Ordering::Release);
            // One directory that cannot be renamed must not keep the others.
            result = result.and(self.logs.delete(&partition.topic, partition.index, self.clock.now_ms()));
            partition.waiters.tell_news();
        }
        result
    }

    pub fn update_config(&self, topic_id: Uuid, config: &LogConfig) {
        let partitions = self.by_topic.read().get(&topic_id).cloned().unwrap_or_default();
        for partition in partitions.into_iter().flatten() {
            partition.log.update_config(config.clone());
        }
    }
}
