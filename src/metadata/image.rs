//! The immutable picture of the cluster that requests are answered from.

use std::collections::BTreeMap;
use std::sync::Arc;

use uuid::Uuid;

#[derive(Clone, Debug)]
pub struct PartitionImage {
    pub replicas: Vec<i32>,
    pub isr: Vec<i32>,
    pub leader: i32,
    pub leader_epoch: i32,
    pub partition_epoch: i32,
}

#[derive(Clone, Debug)]
pub struct TopicImage {
    pub name: Arc<str>,
    pub id: Uuid,
    /// Index = partition.
    pub partitions: Vec<PartitionImage>,
}

#[derive(Clone, Debug)]
pub struct BrokerImage {
    pub id: i32,
    pub rack: Option<String>,
    /// (listener name, host, port)
    pub endpoints: Vec<(String, String, u16)>,
    pub fenced: bool,
}

#[derive(Clone, Debug, Default)]
pub struct Image {/* private */}

impl Image {
    pub fn cluster_id(&self) -> &str {
        todo!()
    }
    pub fn controller_id(&self) -> i32 {
        todo!()
    }
    pub fn topic(&self, name: &str) -> Option<&Arc<TopicImage>> {
        todo!()
    }
    pub fn topic_by_id(&self, id: Uuid) -> Option<&Arc<TopicImage>> {
        todo!()
    }
    /// Sorted by name.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<TopicImage>> {
        std::iter::empty()
    }
    pub fn brokers(&self) -> impl Iterator<Item = &BrokerImage> {
        std::iter::empty()
    }
    /// The overrides set on a resource: type 2 topic, 4 broker ("" = the cluster default), 16 client metrics, 32 group.
    pub fn config_overrides(&self, resource_type: i8, name: &str) -> Option<&BTreeMap<String, String>> {
        todo!()
    }
}
