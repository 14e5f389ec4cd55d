//! Applying records to an image, record by record: the one place where cluster state changes. The result is a new image
//! and what the partitions' owner must do about it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use uuid::Uuid;

use super::carried::Carried;
use super::image::{BROKER_RESOURCE, BrokerImage, Image, PartitionImage, TOPIC_RESOURCE, TopicImage, collision_key};
use super::records::{BrokerRegistrationChange, NO_LEADER_CHANGE, Partition, PartitionChange, Record, RegisterBroker};

/// The log contradicts itself: it was not written by one controller after the other.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    #[error("topic {0} does not exist")]
    UnknownTopic(Uuid),
    #[error("topic {0} exists already")]
    DuplicateTopic(String),
    #[error("partition {1} of topic {0} does not exist")]
    UnknownPartition(Uuid, i32),
    #[error("the partitions of topic {0} are not numbered from 0 on")]
    PartitionGap(String),
    #[error("broker {0} is not registered")]
    UnknownBroker(i32),
    #[error("broker {id} is registered with epoch {registered}, not {epoch}")]
    BrokerEpoch { id: i32, registered: i64, epoch: i64 },
    #[error("a metadata transaction begins or ends in the wrong place")]
    Transaction,
}

type Result<T> = std::result::Result<T, ApplyError>;

/// What changed for the owner of partitions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Topics with new partitions, and the first of them.
    pub created: BTreeMap<Uuid, i32>,
    /// Topics of the image before that are gone.
    pub deleted: Vec<Uuid>,
    /// Topics with other overrides than before.
    pub reconfigured: BTreeSet<String>,
    /// The defaults that topics inherit changed.
    pub broker_reconfigured: bool,
}

/// An image in the making.
pub struct Delta {
    image: Image,
    /// Topics that were touched; they go into the image when all records are applied, so that a topic of ten thousand
    /// partitions is built once and not ten thousand times.
    open: BTreeMap<Uuid, OpenTopic>,
    changes: Changes,
    /// The records since BeginTransaction: they count only from EndTransaction on.
    transaction: Option<Vec<Record>>,
}

struct OpenTopic {
    name: Arc<str>,
    partitions: BTreeMap<i32, PartitionImage>,
}

impl Delta {
    pub fn new(base: &Image) -> Delta {
        Delta { image: base.clone(), open: BTreeMap::new(), changes: Changes::default(), transaction: None }
    }

    /// Notes how far in the log the image is.
    pub fn reach(&mut self, offset: i64) {
        self.image.offset = offset;
    }

    /// True between a BeginTransaction record and its end.
    pub fn in_transaction(&self) -> bool {
        self.transaction.is_some()
    }

    pub fn apply(&mut self, record: Record) -> Result<()> {
        match (record, &mut self.transaction) {
            (Record::BeginTransaction { .. }, transaction @ None) => {
                *transaction = Some(Vec::new());
                Ok(())
            }
            (Record::EndTransaction, Some(records)) => {
                let records = std::mem::take(records);
                self.transaction = None;
                records.into_iter().try_for_each(|record| self.apply_now(record))
            }
            (Record::AbortTransaction { .. }, transaction @ Some(_)) => {
                *transaction = None;
                Ok(())
            }
            (Record::BeginTransaction { .. } | Record::EndTransaction | Record::AbortTransaction { .. }, _) => {
                Err(ApplyError::Transaction)
            }
            (record, Some(records)) => {
                records.push(record);
                Ok(())
            }
            (record, None) => self.apply_now(record),
        }
    }

    fn apply_now(&mut self, record: Record) -> Result<()> {
        match record {
            Record::RegisterBroker(record) => self.register_broker(record),
            Record::UnregisterBroker { broker_id, .. } => {
                self.image.brokers.remove(&broker_id);
            }
            Record::BrokerRegistrationChange(change) => return self.change_broker(change),
            Record::FenceBroker { id, epoch } => self.broker(id, epoch)?.fenced = true,
            Record::UnfenceBroker { id, epoch } => self.broker(id, epoch)?.fenced = false,
            Record::Topic { name, topic_id } => return self.add_topic(name, topic_id),
            Record::RemoveTopic { topic_id } => return self.remove_topic(topic_id),
            Record::Partition(record) => return self.add_partition(record),
            Record::PartitionChange(change) => return self.change_partition(change),
            Record::Config { resource_type, resource_name, name, value } => {
                self.set_config(resource_type, resource_name, name, value);
            }
            Record::FeatureLevel { name, level: 0 } => {
                self.image.features.remove(&name);
            }
            Record::FeatureLevel { name, level } => {
                self.image.features.insert(name, level);
            }
            Record::ProducerIds { next_producer_id, .. } => self.image.next_producer_id = next_producer_id,
            Record::ClearElr { topic_name } => return self.clear_elr(&topic_name),
            Record::Carried(Carried { identity, removes: true, .. }) => {
                self.image.carried.remove(&identity);
            }
            Record::Carried(Carried { identity, bytes, .. }) => self.image.carried.insert(identity, bytes.into()),
            Record::NoOp => {}
            Record::BeginTransaction { .. } | Record::EndTransaction | Record::AbortTransaction { .. } => {
                return Err(ApplyError::Transaction);
            }
        }
        Ok(())
    }

    /// The new image. Records of a transaction that has not ended are not in it.
    pub fn finish(mut self) -> Result<(Image, Changes)> {
        for (id, topic) in std::mem::take(&mut self.open) {
            let contiguous = topic.partitions.keys().copied().eq(0..topic.partitions.len() as i32);
            if !contiguous {
                return Err(ApplyError::PartitionGap(topic.name.to_string()));
            }
            let partitions = topic.partitions.into_values().collect();
            self.insert_topic(TopicImage { name: topic.name, id, partitions });
        }
        Ok((self.image, self.changes))
    }

    fn register_broker(&mut self, record: RegisterBroker) {
        let registration = Arc::new(record.clone());
        let endpoints = record.endpoints.into_iter().map(|e| (e.name, e.host, e.port)).collect();
        let broker = BrokerImage {
            id: record.broker_id,
            rack: record.rack,
            endpoints,
            fenced: record.fenced,
            epoch: record.broker_epoch,
            incarnation_id: record.incarnation_id,
            in_controlled_shutdown: record.in_controlled_shutdown,
            log_dirs: record.log_dirs,
            registration,
        };
        self.image.brokers.insert(broker.id, broker);
    }

    fn broker(&mut self, id: i32, epoch: i64) -> Result<&mut BrokerImage> {
        let broker = self.image.brokers.get_mut(&id).ok_or(ApplyError::UnknownBroker(id))?;
        if broker.epoch != epoch {
            return Err(ApplyError::BrokerEpoch { id, registered: broker.epoch, epoch });
        }
        Ok(broker)
    }

    fn change_broker(&mut self, change: BrokerRegistrationChange) -> Result<()> {
        let broker = self.broker(change.broker_id, change.broker_epoch)?;
        match change.fenced {
            1 => broker.fenced = true,
            -1 => broker.fenced = false,
            _ => {}
        }
        if change.in_controlled_shutdown == 1 {
            broker.in_controlled_shutdown = true;
        }
        if !change.log_dirs.is_empty() {
            broker.log_dirs = change.log_dirs;
        }
        if change.cordoned_log_dirs.is_some() {
            Arc::make_mut(&mut broker.registration).cordoned_log_dirs = change.cordoned_log_dirs;
        }
        Ok(())
    }

    fn add_topic(&mut self, name: String, id: Uuid) -> Result<()> {
        if self.image.topic(&name).is_some() {
            return Err(ApplyError::DuplicateTopic(name));
        }
        let name: Arc<str> = name.into();
        if let Some(key) = collision_key(&name) {
            self.image.collisions.insert(key, name.clone());
        }
        self.insert_topic(TopicImage { name: name.clone(), id, partitions: Vec::new() });
        self.open.insert(id, OpenTopic { name, partitions: BTreeMap::new() });
        self.changes.created.insert(id, 0);
        Ok(())
    }

    fn insert_topic(&mut self, topic: TopicImage) {
        let topic = Arc::new(topic);
        self.image.topics_by_name.insert(topic.name.clone(), topic.clone());
        self.image.topics_by_id.insert(topic.id, topic);
    }

    fn remove_topic(&mut self, id: Uuid) -> Result<()> {
        let topic = self.image.topics_by_id.remove(&id).ok_or(ApplyError::UnknownTopic(id))?;
        let name = &*topic.name;
        self.image.topics_by_name.remove(name);
        if let Some(key) = collision_key(name) {
            self.image.collisions.remove(&key);
        }
        self.image.configs.remove(&(TOPIC_RESOURCE, name.to_string()));
        self.open.remove(&id);
        self.changes.reconfigured.remove(name);
        // A topic that came and went within this delta never had logs.
        if self.changes.created.remove(&id) != Some(0) {
            self.changes.deleted.push(id);
        }
        Ok(())
    }

    fn topic(&mut self, id: Uuid) -> Result<&mut OpenTopic> {
        use std::collections::btree_map::Entry;
        match self.open.entry(id) {
            Entry::Occupied(entry) => Ok(entry.into_mut()),
            Entry::Vacant(entry) => {
                let topic = self.image.topic_by_id(id).ok_or(ApplyError::UnknownTopic(id))?;
                let partitions = (0..).zip(topic.partitions.iter().cloned()).collect();
                Ok(entry.insert(OpenTopic { name: topic.name.clone(), partitions }))
            }
        }
    }

    fn add_partition(&mut self, record: Partition) -> Result<()> {
        let (id, index) = (record.topic_id, record.partition_id);
        let partition = PartitionImage {
            replicas: record.replicas,
            isr: record.isr,
            recorded_leader: record.leader,
            leader_epoch: record.leader_epoch,
            partition_epoch: record.partition_epoch,
            leader_recovery_state: record.leader_recovery_state,
            directories: record.directories,
            removing_replicas: record.removing_replicas,
            adding_replicas: record.adding_replicas,
            eligible_leader_replicas: record.eligible_leader_replicas.unwrap_or_default(),
            last_known_elr: record.last_known_elr.unwrap_or_default(),
        };
        self.topic(id)?.partitions.insert(index, partition);
        self.changes.created.entry(id).and_modify(|first| *first = index.min(*first)).or_insert(index);
        Ok(())
    }

    fn change_partition(&mut self, change: PartitionChange) -> Result<()> {
        let (id, index) = (change.topic_id, change.partition_id);
        let partition = self.topic(id)?.partitions.get_mut(&index).ok_or(ApplyError::UnknownPartition(id, index))?;
        // Every leader, even the same one elected again, has its own epoch.
        if change.leader != NO_LEADER_CHANGE {
            partition.recorded_leader = change.leader;
            partition.leader_epoch += 1;
        }
        partition.partition_epoch += 1;
        replace(&mut partition.isr, change.isr);
        replace(&mut partition.replicas, change.replicas);
        replace(&mut partition.removing_replicas, change.removing_replicas);
        replace(&mut partition.adding_replicas, change.adding_replicas);
        replace(&mut partition.eligible_leader_replicas, change.eligible_leader_replicas);
        replace(&mut partition.last_known_elr, change.last_known_elr);
        replace(&mut partition.directories, change.directories);
        if change.leader_recovery_state != -1 {
            partition.leader_recovery_state = change.leader_recovery_state;
        }
        Ok(())
    }

    fn set_config(&mut self, resource_type: i8, resource_name: String, name: String, value: Option<String>) {
        if resource_type == TOPIC_RESOURCE {
            self.changes.reconfigured.insert(resource_name.clone());
        }
        self.changes.broker_reconfigured |= resource_type == BROKER_RESOURCE;
        let key = (resource_type, resource_name);
        let mut overrides = self.image.configs.get(&key).cloned().unwrap_or_default();
        let map = Arc::make_mut(&mut overrides);
        match value {
            Some(value) => map.insert(name, value),
            None => map.remove(&name),
        };
        if map.is_empty() {
            self.image.configs.remove(&key);
        } else {
            self.image.configs.insert(key, overrides);
        }
    }

    /// `topic_name`: empty for all topics.
    fn clear_elr(&mut self, topic_name: &str) -> Result<()> {
        let named = |topic: &&Arc<TopicImage>| topic_name.is_empty() || *topic.name == *topic_name;
        let ids: Vec<Uuid> = self.image.topics().filter(named).map(|topic| topic.id).collect();
        for id in ids {
            for partition in self.topic(id)?.partitions.values_mut() {
                partition.eligible_leader_replicas.clear();
                partition.last_known_elr.clear();
            }
        }
        Ok(())
    }
}

fn replace<T>(field: &mut Vec<T>, change: Option<Vec<T>>) {
    if let Some(change) = change {
        *field = change;
    }
}
