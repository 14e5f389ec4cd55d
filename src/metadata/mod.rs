//! Cluster metadata: KRaft records in `__cluster_metadata-0`, replayed into an immutable image.

pub mod image;

use std::sync::Arc;

use ottla_storage::log::LogManager;

use crate::clock::Clock;
use crate::config::Config;
use crate::error::ApiError;
use crate::partition::Partitions;

pub use image::{BrokerImage, Image, PartitionImage, TopicImage};

/// One override to set or to remove. Resource types as in [`Image::config_overrides`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigChange {
    pub resource_type: i8,
    pub resource_name: String,
    pub name: String,
    /// None removes the override.
    pub value: Option<String>,
}

/// Shared handle: read the image, or commit records that change it.
pub struct Metadata {/* private: ArcSwap<Image>, async writer lock, the metadata log */}

impl Metadata {
    /// Replays the log in `logs` (writing the first records where it is new, registering this broker), makes the
    /// partitions, deletes logs whose topic is gone. `endpoints`: the advertised (listener, host, port) with real ports.
    /// Call on a runtime with a LocalSet.
    pub async fn open(
        config: Arc<Config>,
        logs: Arc<LogManager>,
        partitions: Arc<Partitions>,
        clock: Clock,
        endpoints: Vec<(String, String, u16)>,
    ) -> anyhow::Result<Metadata> {
        todo!()
    }
    /// Sets (or with no value removes) overrides: commits ConfigRecords and hands the partitions their new settings. The
    /// changes must be validated already.
    pub async fn alter_configs(&self, changes: Vec<ConfigChange>) -> Result<(), ApiError> {
        todo!()
    }
    /// A producer id that was never given out before, not even before a crash.
    pub async fn next_producer_id(&self) -> Result<i64, ApiError> {
        todo!()
    }
    /// The current image; cheap (arc-swap).
    pub fn image(&self) -> Arc<Image> {
        todo!()
    }
}
