//! The group coordinator's runtime: a machine for each partition of `__consumer_offsets`. It hands requests and timers to
//! the machine, appends what comes of them, and lets replies go when that is written. The rules of groups are in `group`.

mod load;
mod partition;
#[cfg(test)]
mod tests;
mod view;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::{JoinGroupRequest, JoinGroupResponse, SyncGroupRequest, SyncGroupResponse};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use uuid::Uuid;

use crate::clock::Clock;
use crate::config::Config;
use crate::error::{ApiError, ErrorCode};
use crate::group::{Client, Settings, Turn, partition_of};
use crate::metadata::topics::{CONSUMER_OFFSETS, internal_topic};
use crate::metadata::{Image, Metadata};
use crate::partition::Partitions;

use partition::{GroupPartition, Parked};

/// No timer is further away than this: the clock may be set.
const LONGEST_SLEEP: Duration = Duration::from_secs(10);

/// Shared handle.
#[derive(Clone)]
pub struct GroupCoordinator {
    shared: Arc<Shared>,
}

struct Shared {
    config: Arc<Config>,
    settings: Settings,
    clock: Clock,
    metadata: Metadata,
    partitions: Arc<Partitions>,
    /// Of the offsets topic as it is now, and of one that was deleted until that is noticed.
    by_partition: Mutex<HashMap<(Uuid, i32), Arc<GroupPartition>>>,
    /// The next deadline may have changed.
    rescheduled: Notify,
}

impl GroupCoordinator {
    pub fn new(config: Arc<Config>, clock: Clock, metadata: Metadata, partitions: Arc<Partitions>) -> GroupCoordinator {
        let settings = Settings::new(&config);
        let (by_partition, rescheduled) = Default::default();
        let shared = Shared { config, settings, clock, metadata, partitions, by_partition, rescheduled };
        GroupCoordinator { shared: Arc::new(shared) }
    }

    pub fn settings(&self) -> &Settings {
        &self.shared.settings
    }

    /// Loads all groups, and then fires timers and follows deleted topics as long as the broker lives. To be spawned on
    /// a runtime with a LocalSet.
    pub async fn run(self) {
        let mut deleted = self.shared.metadata.deleted_topics();
        self.load_all().await;
        loop {
            let sleep = self.until_next_deadline();
            tokio::select! {
                _ = tokio::time::sleep(sleep) => {}
                _ = self.shared.rescheduled.notified() => {}
                Some(topics) = deleted.recv() => self.for_each_loaded(|turn| turn.topics_deleted(&topics)),
            }
            self.loaded().iter().for_each(|partition| partition.fire_timers(&self.shared));
        }
    }

    fn until_next_deadline(&self) -> Duration {
        let deadlines = self.loaded().into_iter().filter_map(|partition| partition.next_deadline_ms());
        let now_ms = self.shared.clock.now_ms();
        let next = deadlines.min().map(|deadline_ms| Duration::from_millis((deadline_ms - now_ms).max(0) as u64));
        next.unwrap_or(LONGEST_SLEEP).min(LONGEST_SLEEP)
    }

    fn loaded(&self) -> Vec<Arc<GroupPartition>> {
        let mut partitions = self.shared.by_partition.lock();
        partitions.retain(|_, partition| !partition.is_deleted());
        partitions.values().cloned().collect()
    }

    fn for_each_loaded(&self, handle: impl Fn(&mut Turn<'_>)) {
        for partition in self.loaded() {
            // One that is being loaded looks by itself when it is.
            let _ = partition.turn(&self.shared, |turn, _| handle(turn));
        }
    }

    /// Hands a request about one group to its machine; the answer comes when all it rests on is written.
    pub async fn call<T>(&self, group: &str, handle: impl FnOnce(&mut Turn<'_>) -> T) -> Result<T, ErrorCode> {
        let partition = self.partition(self.partition_of(group))?;
        let (answer, written) = partition.turn(&self.shared, |turn, _| handle(turn))?;
        written.done().await?;
        Ok(answer)
    }

    /// The same for every machine.
    pub async fn call_all<T>(&self, handle: impl Fn(&mut Turn<'_>) -> T) -> Result<Vec<T>, ErrorCode> {
        let mut answers = Vec::new();
        for index in 0..self.partition_count() {
            let (answer, written) = self.partition(index)?.turn(&self.shared, |turn, _| handle(turn))?;
            written.done().await?;
            answers.push(answer);
        }
        Ok(answers)
    }

    /// The answer comes when the others have joined, too.
    pub async fn join(&self, client: Client<'_>, request: &JoinGroupRequest) -> Result<JoinGroupResponse, ErrorCode> {
        let (sender, receiver) = oneshot::channel();
        let partition = self.partition(self.partition_of(&request.group_id))?;
        let join = |turn: &mut Turn<'_>, parked: &mut Parked| turn.join_group(client, request, parked.join(sender));
        partition.turn(&self.shared, join)?;
        receiver.await.map_err(|_| ErrorCode::NotCoordinator)
    }

    /// The answer comes when the leader has synced, too.
    pub async fn sync(&self, request: &SyncGroupRequest) -> Result<SyncGroupResponse, ErrorCode> {
        let (sender, receiver) = oneshot::channel();
        let partition = self.partition(self.partition_of(&request.group_id))?;
        let sync = |turn: &mut Turn<'_>, parked: &mut Parked| turn.sync_group(request, parked.sync(sender));
        partition.turn(&self.shared, sync)?;
        receiver.await.map_err(|_| ErrorCode::NotCoordinator)
    }

    /// The partition of the offsets topic that holds the group.
    pub fn partition_of(&self, group: &str) -> i32 {
        match self.partition_count() {
            0 => partition_of(group, self.shared.config.offsets_topic_num_partitions),
            count => partition_of(group, count),
        }
    }

    /// 0 before the first use.
    fn partition_count(&self) -> i32 {
        self.shared.metadata.image().topic(CONSUMER_OFFSETS).map_or(0, |topic| topic.partitions.len() as i32)
    }

    /// Creates the offsets topic if it is not there.
    pub async fn ensure_topic(&self) -> Result<Arc<Image>, ApiError> {
        let Shared { metadata, config, .. } = &*self.shared;
        let image = metadata.image();
        if image.topic(CONSUMER_OFFSETS).is_some() {
            return Ok(image);
        }
        let brokers = image.brokers().filter(|broker| broker.is_active()).count();
        let topic = internal_topic(CONSUMER_OFFSETS, config, brokers).expect("an internal topic");
        for (_, result) in metadata.create_topics(vec![topic], false).await? {
            match result {
                Err(error) if error.code != ErrorCode::TopicAlreadyExists => return Err(error),
                _ => {}
            }
        }
        // Empty logs are read at once, and the first member need not be told to come again.
        self.load_all().await;
        Ok(metadata.image())
    }

    async fn load_all(&self) {
        for index in 0..self.partition_count() {
            if let Ok(partition) = self.partition(index) {
                partition.load(&self.shared).await;
            }
        }
    }

    /// Loaded, or loading: then the caller is told to come again.
    fn partition(&self, index: i32) -> Result<Arc<GroupPartition>, ErrorCode> {
        let image = self.shared.metadata.image();
        let topic = image.topic(CONSUMER_OFFSETS).ok_or(ErrorCode::NotCoordinator)?;
        let mut known = self.shared.by_partition.lock();
        if let Some(partition) = known.get(&(topic.id, index)) {
            return Ok(partition.clone());
        }
        let partition = self.shared.partitions.get(topic.id, index).ok_or(ErrorCode::NotCoordinator)?;
        let partition = Arc::new(GroupPartition::new(partition));
        known.insert((topic.id, index), partition.clone());
        Ok(partition)
    }
}
