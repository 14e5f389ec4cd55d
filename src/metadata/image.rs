//! The immutable picture of the cluster that requests are answered from. It is made by `delta.rs` only.

use std::collections::BTreeMap;
use std::sync::Arc;

use uuid::Uuid;

use super::carried;
use super::cow_map::CowMap;
use super::records::{NO_LEADER, RegisterBroker, WriteLevels};
use crate::config::DynamicBrokerConfigs;

pub const METADATA_VERSION: &str = "metadata.version";
pub const TRANSACTION_VERSION: &str = "transaction.version";
pub const ELIGIBLE_LEADER_REPLICAS_VERSION: &str = "eligible.leader.replicas.version";

/// Resource types of configurations.
pub const TOPIC_RESOURCE: i8 = 2;
pub const BROKER_RESOURCE: i8 = 4;

#[derive(Clone, Debug, PartialEq)]
pub struct PartitionImage {
    pub replicas: Vec<i32>,
    pub isr: Vec<i32>,
    /// As the log says; see [`Image::leader_of`]. -1: none, or this node.
    pub(super) recorded_leader: i32,
    pub leader_epoch: i32,
    pub partition_epoch: i32,
    /// 1: the leader was elected from outside the ISR and has not recovered from it.
    pub leader_recovery_state: i8,
    /// Log directory of each replica; the nil id where it is not known.
    pub directories: Vec<Uuid>,
    pub removing_replicas: Vec<i32>,
    pub adding_replicas: Vec<i32>,
    pub eligible_leader_replicas: Vec<i32>,
    pub last_known_elr: Vec<i32>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct TopicImage {
    pub name: Arc<str>,
    pub id: Uuid,
    /// Index = partition.
    pub partitions: Vec<PartitionImage>,
}

impl TopicImage {
    pub fn partition(&self, index: i32) -> Option<&PartitionImage> {
        self.partitions.get(usize::try_from(index).ok()?)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct BrokerImage {
    pub id: i32,
    pub rack: Option<String>,
    /// (listener name, host, port)
    pub endpoints: Vec<(String, String, u16)>,
    pub fenced: bool,
    /// Offset of the registration.
    pub epoch: i64,
    pub incarnation_id: Uuid,
    pub in_controlled_shutdown: bool,
    pub log_dirs: Vec<Uuid>,
    /// As it was recorded; the fields above say what has changed since.
    pub(super) registration: Arc<RegisterBroker>,
}

impl BrokerImage {
    /// Where clients of this listener reach the broker.
    pub fn endpoint(&self, listener_name: &str) -> Option<(&str, u16)> {
        let (_, host, port) = self.endpoints.iter().find(|(name, ..)| name == listener_name)?;
        Some((host, *port))
    }

    /// May hold new replicas.
    pub fn is_active(&self) -> bool {
        !self.fenced && !self.in_controlled_shutdown
    }
}

pub(super) type Overrides = Arc<BTreeMap<String, String>>;

#[derive(Clone, Debug, Default)]
pub struct Image {
    pub(super) cluster_id: Arc<str>,
    pub(super) controller_id: i32,
    /// Of the last record that is in the image, -1 for none.
    pub(super) offset: i64,
    pub(super) topics_by_name: CowMap<Arc<str>, Arc<TopicImage>>,
    pub(super) topics_by_id: CowMap<Uuid, Arc<TopicImage>>,
    /// Of topics with `.` or `_`: the name with `_` for both -> the name.
    pub(super) collisions: CowMap<String, Arc<str>>,
    pub(super) brokers: BTreeMap<i32, BrokerImage>,
    pub(super) features: BTreeMap<String, i16>,
    pub(super) configs: CowMap<(i8, String), Overrides>,
    pub(super) next_producer_id: i64,
    /// What other records said last, whole.
    pub(super) carried: CowMap<carried::Identity, Arc<[u8]>>,
}

impl Image {
    pub fn new(cluster_id: &str, controller_id: i32) -> Image {
        Image { cluster_id: cluster_id.into(), controller_id, offset: -1, ..Image::default() }
    }

    pub fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    /// Of the last record of the metadata log that is in the image, -1 for none.
    pub fn offset(&self) -> i64 {
        self.offset
    }

    pub fn controller_id(&self) -> i32 {
        self.controller_id
    }

    pub fn topic(&self, name: &str) -> Option<&Arc<TopicImage>> {
        self.topics_by_name.get(name)
    }

    pub fn topic_by_id(&self, id: Uuid) -> Option<&Arc<TopicImage>> {
        self.topics_by_id.get(&id)
    }

    /// Sorted by name.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<TopicImage>> {
        self.topics_by_name.iter().map(|(_, topic)| topic)
    }

    /// -1: none. See [`Image::record_leader`].
    pub fn leader_of(&self, partition: &PartitionImage) -> i32 {
        match partition.recorded_leader {
            NO_LEADER if partition.isr.contains(&self.controller_id) => self.controller_id,
            recorded => recorded,
        }
    }

    /// How it is recorded that a broker leads a partition: the leader, and the last known one. What this node leads has no
    /// leader in the log, which is what Apache Kafka finds after a stop of its own: it then elects itself when it can
    /// serve, and not while it starts (docs/decisions/0005-recorded-leaders.md). It remembers the last leader with eligible
    /// leader replicas only, and needs it then.
    pub(super) fn record_leader(&self, leader: i32) -> (i32, Vec<i32>) {
        if leader == self.controller_id && self.write_levels().eligible_leader_replicas {
            return (NO_LEADER, vec![leader]);
        }
        (leader, Vec::new())
    }

    /// The topic whose metrics would have the same name, since `.` and `_` are the same there.
    pub fn colliding_topic(&self, name: &str) -> Option<&str> {
        let key = collision_key(name)?;
        self.collisions.get(&key).map(|name| &**name)
    }

    /// Sorted by id.
    pub fn brokers(&self) -> impl Iterator<Item = &BrokerImage> {
        self.brokers.values()
    }

    pub fn broker(&self, id: i32) -> Option<&BrokerImage> {
        self.brokers.get(&id)
    }

    /// The finalized level of a feature, 0 if it is not enabled.
    pub fn feature_level(&self, name: &str) -> i16 {
        self.features.get(name).copied().unwrap_or(0)
    }

    /// (name, finalized level), sorted by name.
    pub fn features(&self) -> impl Iterator<Item = (&str, i16)> {
        self.features.iter().map(|(name, level)| (&**name, *level))
    }

    /// The first producer id that no block handed out contains.
    pub fn next_producer_id(&self) -> i64 {
        self.next_producer_id
    }

    /// The overrides set on a resource: type 2 topic, 4 broker ("" = the cluster default), 16 client metrics, 32 group.
    pub fn config_overrides(&self, resource_type: i8, name: &str) -> Option<&BTreeMap<String, String>> {
        self.configs.get_by(|(t, n)| (*t, &**n).cmp(&(resource_type, name))).map(|overrides| &**overrides)
    }

    /// The names of a type's resources that have overrides, sorted.
    pub fn config_resources(&self, resource_type: i8) -> impl Iterator<Item = &str> {
        self.configs.iter().filter(move |((of, _), _)| *of == resource_type).map(|((_, name), _)| &**name)
    }

    /// What was changed at run time of a broker's settings.
    pub fn dynamic_broker_configs(&self, broker_id: i32) -> DynamicBrokerConfigs<'_> {
        DynamicBrokerConfigs {
            broker: self.config_overrides(BROKER_RESOURCE, &broker_id.to_string()),
            cluster: self.config_overrides(BROKER_RESOURCE, ""),
        }
    }

    pub(super) fn write_levels(&self) -> WriteLevels {
        WriteLevels {
            metadata_version: self.feature_level(METADATA_VERSION),
            eligible_leader_replicas: self.feature_level(ELIGIBLE_LEADER_REPLICAS_VERSION) >= 1,
        }
    }
}

pub(super) fn collision_key(name: &str) -> Option<String> {
    name.contains(['.', '_']).then(|| name.replace('.', "_"))
}
