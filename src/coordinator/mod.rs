//! The runtime of the coordinators: a machine for each partition of an internal topic. It hands requests and timers to the
//! machine, appends what comes of them, and lets replies go when that is written. The rules of groups are in `group`, those
//! of transactions in `txn`.

mod groups;
mod load;
mod markers;
mod outbox;
mod partition;
#[cfg(test)]
mod tests;
mod transactions;
mod view;

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::StreamExt;
use ottla_storage::batch::{self, BatchHeader};
use tokio::sync::Notify;
use uuid::Uuid;

use crate::clock::Clock;
use crate::config::Config;
use crate::error::{ApiError, ErrorCode};
use crate::group::partition_of;
use crate::metadata::topics::internal_topic;
use crate::metadata::{Image, Metadata};
use crate::partition::Partitions;
use crate::protocol::wire::Malformed;

pub use groups::GroupCoordinator;
pub use transactions::TransactionCoordinator;

use outbox::Outbox;
use partition::{CoordinatorPartition, Written};

/// No timer is further away than this: the clock may be set.
const LONGEST_SLEEP: Duration = Duration::from_secs(10);

/// Each holds a piece of its log and what that comes to.
const LOADED_AT_ONCE: usize = 8;

/// A machine as the runtime drives it.
trait Driven: Default + Send + 'static {
    const TOPIC: &'static str;
    /// What its turns look at.
    type World: Send + Sync + 'static;
    /// What a turn gives out.
    type Effects: Default;

    fn next_deadline_ms(&self) -> Option<i64>;

    /// A record of the log, when it is loaded.
    fn replay(&mut self, header: &BatchHeader, record: &batch::Record<'_>) -> Result<(), Malformed>;

    /// The first turn after that.
    fn loaded(&mut self, world: &Self::World, now_ms: i64) -> Self::Effects;

    /// One timer whose time has come; None if there is none.
    fn fire_timer(&mut self, world: &Self::World, now_ms: i64) -> Option<Self::Effects>;

    /// Applies records at once, since those behind build on them (and if they cannot be written all is loaded again), and
    /// puts them into the outbox with what is to follow.
    fn take(&mut self, effects: Self::Effects, outbox: &mut Outbox, home: Home<'_, Self>);
}

/// Topic id and partition.
type ByPartition<M> = HashMap<(Uuid, i32), Arc<CoordinatorPartition<M>>>;

/// Where a machine lives.
type Home<'a, M> = (&'a Arc<Shared<M>>, &'a Arc<CoordinatorPartition<M>>);

struct Shared<M: Driven> {
    world: M::World,
    clock: Clock,
    metadata: Metadata,
    partitions: Arc<Partitions>,
    config: Arc<Config>,
    /// Of the topic as it is now, and of one that was deleted until that is noticed.
    by_partition: ArcSwap<ByPartition<M>>,
    /// The next deadline may have changed.
    rescheduled: Notify,
}

impl<M: Driven> Shared<M> {
    fn new(
        world: M::World,
        config: Arc<Config>,
        clock: Clock,
        metadata: Metadata,
        partitions: Arc<Partitions>,
    ) -> Arc<Shared<M>> {
        let (by_partition, rescheduled) = Default::default();
        Arc::new(Shared { world, clock, metadata, partitions, config, by_partition, rescheduled })
    }

    async fn load_all(self: &Arc<Self>) {
        let load = |index| async move {
            if let Ok(partition) = self.partition(index) {
                partition.load(self).await;
            }
        };
        // While one waits for the disk others are read.
        futures_util::stream::iter(0..self.partition_count()).for_each_concurrent(LOADED_AT_ONCE, load).await;
    }

    /// Until a timer may have to fire.
    async fn next_timer(self: &Arc<Self>) {
        let deadlines = self.loaded().into_iter().filter_map(|partition| partition.next_deadline_ms());
        let now_ms = self.clock.now_ms();
        let next = deadlines.min().map(|deadline_ms| Duration::from_millis((deadline_ms - now_ms).max(0) as u64));
        let sleep = next.unwrap_or(LONGEST_SLEEP).min(LONGEST_SLEEP);
        // Either way it is looked again.
        let _ = tokio::time::timeout(sleep, self.rescheduled.notified()).await;
    }

    fn fire_timers(self: &Arc<Self>) {
        self.loaded().iter().for_each(|partition| partition.fire_timers(self));
    }

    fn loaded(&self) -> Vec<Arc<CoordinatorPartition<M>>> {
        let partitions = self.by_partition.load();
        if partitions.values().any(|partition| partition.is_deleted()) {
            self.by_partition.rcu(|partitions| {
                let mut partitions = ByPartition::clone(partitions);
                partitions.retain(|_, partition| !partition.is_deleted());
                partitions
            });
        }
        self.by_partition.load().values().cloned().collect()
    }

    /// The partition that holds a name; `configured`: how many there will be before the first use.
    fn partition_of(&self, name: &str, configured: i32) -> i32 {
        match self.partition_count() {
            0 => partition_of(name, configured),
            count => partition_of(name, count),
        }
    }

    /// 0 before the first use.
    fn partition_count(&self) -> i32 {
        self.metadata.glance().topic(M::TOPIC).map_or(0, |topic| topic.partitions.len() as i32)
    }

    /// Creates the topic if it is not there.
    async fn ensure_topic(self: &Arc<Self>) -> Result<Arc<Image>, ApiError> {
        let Shared { metadata, config, .. } = &**self;
        let image = metadata.image();
        if image.topic(M::TOPIC).is_some() {
            return Ok(image);
        }
        let brokers = image.brokers().filter(|broker| broker.is_active()).count();
        let topic = internal_topic(M::TOPIC, config, brokers).expect("an internal topic");
        for (_, result) in metadata.create_topics(vec![topic], false).await? {
            match result {
                Err(error) if error.code != ErrorCode::TopicAlreadyExists => return Err(error),
                _ => {}
            }
        }
        // Empty logs are read at once, and the first client need not be told to come again.
        self.load_all().await;
        Ok(metadata.image())
    }

    /// Loaded, or loading: then the caller is told to come again.
    fn partition(&self, index: i32) -> Result<Arc<CoordinatorPartition<M>>, ErrorCode> {
        let key = (self.metadata.glance().topic(M::TOPIC).ok_or(ErrorCode::NotCoordinator)?.id, index);
        if let Some(partition) = self.by_partition.load().get(&key) {
            return Ok(partition.clone());
        }
        let partition = self.partitions.get(key.0, index).ok_or(ErrorCode::NotCoordinator)?;
        let partition = Arc::new(CoordinatorPartition::new(partition));
        self.by_partition.rcu(|known| {
            let mut known = ByPartition::clone(known);
            known.entry(key).or_insert_with(|| partition.clone());
            known
        });
        // Another thread may have been first.
        Ok(self.by_partition.load()[&key].clone())
    }

    fn turn<T>(
        self: &Arc<Self>,
        index: i32,
        step: impl FnOnce(&mut M, &M::World, i64) -> (T, M::Effects),
    ) -> Result<(T, Written), ErrorCode> {
        self.partition(index)?.turn(self, step)
    }

    /// The same, at once; the answer comes when all it rests on is written.
    fn call<T, S: FnOnce(&mut M, &M::World, i64) -> (T, M::Effects)>(
        self: &Arc<Self>,
        index: i32,
        step: S,
    ) -> impl Future<Output = Result<T, ErrorCode>> + use<M, T, S> {
        let turned = self.turn(index, step);
        async {
            let (answer, written) = turned?;
            written.done().await?;
            Ok(answer)
        }
    }
}
