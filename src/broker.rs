//! The owners that request handlers call, in one place. No logic.

use std::sync::Arc;

use crate::clock::Clock;
use crate::config::Config;
use crate::coordinator::{GroupCoordinator, TransactionCoordinator};
use crate::fetch::SessionCache;
use crate::metadata::Metadata;
use crate::partition::Partitions;

pub struct Broker {
    pub config: Arc<Config>,
    pub clock: Clock,
    pub metadata: Metadata,
    pub partitions: Arc<Partitions>,
    pub fetch_sessions: SessionCache,
    pub groups: GroupCoordinator,
    pub transactions: TransactionCoordinator,
}
