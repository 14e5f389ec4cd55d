//! The cluster as the group coordinator's machine sees it: the metadata image.

use std::collections::BTreeMap;
use std::sync::Arc;

use uuid::Uuid;

use crate::group::{Cluster, Topic};
use crate::metadata::{Image, TopicImage};

/// Resource type of groups' own settings.
const GROUP_RESOURCE: i8 = 32;

pub struct View<'a> {
    image: &'a Image,
}

impl View<'_> {
    pub fn new(image: &Image) -> View<'_> {
        View { image }
    }
}

fn topic(topic: &Arc<TopicImage>) -> Topic {
    Topic { name: topic.name.clone(), id: topic.id, partitions: topic.partitions.len() as i32 }
}

impl Cluster for View<'_> {
    fn version(&self) -> i64 {
        self.image.offset()
    }

    fn topic(&self, name: &str) -> Option<Topic> {
        self.image.topic(name).map(topic)
    }

    fn topic_by_id(&self, id: Uuid) -> Option<Topic> {
        self.image.topic_by_id(id).map(topic)
    }

    fn topic_names(&self) -> Vec<Arc<str>> {
        self.image.topics().map(|topic| topic.name.clone()).collect()
    }

    fn racks(&self, topic: &str, partition: i32) -> Vec<String> {
        let replicas = self.image.topic(topic).and_then(|topic| topic.partition(partition)).map(|p| &p.replicas);
        let brokers = replicas.into_iter().flatten().filter_map(|id| self.image.broker(*id));
        let mut racks: Vec<String> = brokers.filter_map(|broker| broker.rack.clone()).collect();
        racks.sort();
        racks
    }

    fn group_overrides(&self, group: &str) -> Option<&BTreeMap<String, String>> {
        self.image.config_overrides(GROUP_RESOURCE, group)
    }
}
