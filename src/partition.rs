//! One partition as clients see it: its log, its leader epoch, the fetches waiting on it; and the registry of all.

use std::sync::Arc;

use ottla_storage::log::{Log, LogConfig, LogManager};
use uuid::Uuid;

use crate::metadata::TopicImage;

pub struct Partition {
    pub topic: Arc<str>,
    pub topic_id: Uuid,
    pub index: i32,
    pub log: Arc<Log>,
    /* private: leader epoch (atomic), waiters */
}

/// (topic id, partition) -> Partition. Read on every request by any thread.
pub struct Partitions {/* private */}

impl Partitions {
    pub fn new(logs: Arc<LogManager>) -> Partitions {
        todo!()
    }
    pub fn get(&self, topic_id: Uuid, index: i32) -> Option<Arc<Partition>> {
        todo!()
    }
    /// Called by metadata when records are applied, before the image is published: makes (or finds) the logs of
    /// `topic`'s partitions from `first_new` on. Blocking file work.
    pub fn create(&self, topic: &TopicImage, first_new: i32, config: &LogConfig) -> ottla_storage::Result<()> {
        todo!()
    }
    /// Deletes the topic's logs; waiting fetches and produces are woken with UNKNOWN_TOPIC_OR_PARTITION.
    pub fn delete(&self, topic_id: Uuid) -> ottla_storage::Result<()> {
        todo!()
    }
    pub fn update_config(&self, topic_id: Uuid, config: &LogConfig) {
        todo!()
    }
}
