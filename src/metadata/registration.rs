//! What a node that is its own controller writes when it starts and stops: the first records of a new cluster, its
//! registration, the election of leaders. Pure functions of the image.

use uuid::Uuid;

use super::image::{
    BROKER_RESOURCE, ELIGIBLE_LEADER_REPLICAS_VERSION, Image, METADATA_VERSION, PartitionImage, TRANSACTION_VERSION,
};
use super::records::{
    BrokerRegistrationChange, Endpoint, FeatureRange, NO_LEADER, PartitionChange, Record, RegisterBroker,
};

/// Every feature that Apache Kafka 4.3 finalizes when it formats a directory: name, range, level it starts with. Kafka
/// refuses a broker that supports less than what is finalized, and so the ranges are Kafka's.
pub(super) const FEATURES: [(&str, i16, i16, i16); 6] = [
    (METADATA_VERSION, 7, 30, 30),
    (ELIGIBLE_LEADER_REPLICAS_VERSION, 0, 1, 1),
    ("group.version", 0, 1, 1),
    ("share.version", 0, 1, 1),
    ("streams.version", 0, 1, 1),
    (TRANSACTION_VERSION, 0, 2, 2),
];
/// Known to brokers, but kept in control records.
const KRAFT_VERSION_RANGE: (&str, i16, i16) = ("kraft.version", 0, 1);

/// PartitionChange records know directories from here on (3.7-IV2).
const DIRECTORIES_SINCE: i16 = 17;

/// The first records of a cluster: `formatted`, what the tool that formatted the directory asks for, or else its features,
/// and what eligible leader replicas need.
pub fn bootstrap(image: &Image, formatted: Vec<Record>, min_insync_replicas: i32) -> Vec<Record> {
    if image.feature_level(METADATA_VERSION) != 0 {
        return Vec::new();
    }
    let mut records = formatted;
    if !records.iter().any(|record| enables(record, METADATA_VERSION)) {
        records.extend(FEATURES.map(|(name, _, _, level)| Record::FeatureLevel { name: name.to_owned(), level }));
    }
    if !records.iter().any(|record| enables(record, ELIGIBLE_LEADER_REPLICAS_VERSION)) {
        return records;
    }
    // With eligible leader replicas this setting belongs to the cluster, where brokers cannot disagree about it.
    let min_isr = Record::Config {
        resource_type: BROKER_RESOURCE,
        resource_name: String::new(),
        name: "min.insync.replicas".to_owned(),
        value: Some(min_insync_replicas.to_string()),
    };
    records.push(min_isr);
    records
}

fn enables(record: &Record, feature: &str) -> bool {
    matches!(record, Record::FeatureLevel { name, level: 1.. } if name == feature)
}

/// This broker, as it registers.
#[derive(Clone, Debug)]
pub struct Registration {
    pub broker_id: i32,
    pub incarnation_id: Uuid,
    pub rack: Option<String>,
    /// (listener name, host, port)
    pub endpoints: Vec<(String, String, u16)>,
    pub log_dirs: Vec<Uuid>,
}

/// Registers and unfences the broker. `offset`: that of the first of these records, which is the broker's epoch.
pub fn register(registration: &Registration, offset: i64) -> Vec<Record> {
    let broker_id = registration.broker_id;
    let endpoint = |(name, host, port): &(String, String, u16)| Endpoint {
        name: name.clone(),
        host: host.clone(),
        port: *port,
        security_protocol: 0,
    };
    let ranges = FEATURES.map(|(name, min, max, _)| (name, min, max)).into_iter().chain([KRAFT_VERSION_RANGE]);
    let register = Record::RegisterBroker(RegisterBroker {
        broker_id,
        incarnation_id: registration.incarnation_id,
        broker_epoch: offset,
        endpoints: registration.endpoints.iter().map(endpoint).collect(),
        features: ranges.map(|(name, min, max)| FeatureRange { name: name.to_owned(), min, max }).collect(),
        rack: registration.rack.clone(),
        fenced: true,
        in_controlled_shutdown: false,
        log_dirs: registration.log_dirs.clone(),
        cordoned_log_dirs: None,
    });
    let unfence = BrokerRegistrationChange { broker_id, broker_epoch: offset, fenced: -1, ..Default::default() };
    vec![register, Record::BrokerRegistrationChange(unfence)]
}

/// Fences the broker: at the next start this says that the stop was clean.
pub fn fence(image: &Image, broker_id: i32) -> Vec<Record> {
    let Some(broker) = image.broker(broker_id).filter(|broker| !broker.fenced) else { return Vec::new() };
    let broker_epoch = broker.epoch;
    let fence = BrokerRegistrationChange { broker_id, broker_epoch, fenced: 1, ..Default::default() };
    vec![Record::BrokerRegistrationChange(fence)]
}

/// Makes this broker leader of what it may lead and does not, or of what is recorded in another way than here. After an
/// unclean stop of everything: logs may have lost what was not flushed, and a new epoch tells consumers that read it.
pub fn elect(image: &Image, broker_id: i32, unclean: bool) -> Vec<Record> {
    let (leader, last_known) = image.record_leader(broker_id);
    let mut records = Vec::new();
    for topic in image.topics() {
        for (index, partition) in (0..).zip(&topic.partitions) {
            let leads = image.leader_of(partition) == broker_id;
            let again =
                leads && (unclean || partition.recorded_leader != leader || partition.last_known_elr != last_known);
            if again || (!leads && partition.recorded_leader == NO_LEADER && may_lead(partition, broker_id)) {
                let mut change = PartitionChange::new(topic.id, index);
                change.leader = leader;
                change.last_known_elr = Some(last_known.clone());
                if !leads {
                    change.isr = Some(vec![broker_id]);
                    change.eligible_leader_replicas = Some(Vec::new());
                }
                // Nobody else has what this one lacks, and so there is nothing to recover from.
                if partition.leader_recovery_state != 0 {
                    change.leader_recovery_state = 0;
                }
                records.push(Record::PartitionChange(change));
            }
        }
    }
    records
}

fn may_lead(partition: &PartitionImage, broker_id: i32) -> bool {
    partition.isr.contains(&broker_id)
        || partition.eligible_leader_replicas.contains(&broker_id)
        || partition.replicas == [broker_id]
}

/// Notes in which log directory this broker's replicas really are, where the image does not say so.
pub fn directories(
    image: &Image,
    broker_id: i32,
    directory_of: impl Fn(&str, i32) -> Option<Uuid>,
    topics: impl IntoIterator<Item = Uuid>,
) -> Vec<Record> {
    if image.feature_level(METADATA_VERSION) < DIRECTORIES_SINCE {
        return Vec::new();
    }
    let mut records = Vec::new();
    for topic in topics.into_iter().filter_map(|id| image.topic_by_id(id)) {
        for (index, partition) in (0..).zip(&topic.partitions) {
            let Some(replica) = partition.replicas.iter().position(|id| *id == broker_id) else { continue };
            let Some(directory) = directory_of(&topic.name, index) else { continue };
            let mut directories = partition.directories.clone();
            directories.resize(partition.replicas.len(), Uuid::nil());
            if directories[replica] != directory {
                directories[replica] = directory;
                let mut change = PartitionChange::new(topic.id, index);
                change.directories = Some(directories);
                records.push(Record::PartitionChange(change));
            }
        }
    }
    records
}
