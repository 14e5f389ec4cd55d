//! Cluster metadata: KRaft records in `__cluster_metadata-0`, replayed into an immutable image.

pub mod image;

use std::sync::Arc;

use ottla_storage::log::LogManager;

use crate::clock::Clock;
use crate::config::Config;
use crate::partition::Partitions;

pub use image::{BrokerImage, Image, PartitionImage, TopicImage};

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
    /// The current image; cheap (arc-swap).
    pub fn image(&self) -> Arc<Image> {
        todo!()
    }
}
