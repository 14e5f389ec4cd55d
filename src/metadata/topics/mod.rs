//! What a request to create, grow or delete topics comes to: records, and an answer for each topic. Pure functions of the
//! image, with the rules and the messages of Kafka's ReplicationControlManager.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::{BrokerId, TopicName};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::image::{Image, TOPIC_RESOURCE, TopicImage};
use super::records::{Partition, Record};
use crate::config::Config;
use crate::error::{ApiError, ErrorCode};

/// No request may create more than this; it also bounds the batch that the records become.
pub const MAX_PARTITIONS_PER_REQUEST: usize = 10_000;
const MAX_CONFIGS_PER_REQUEST: usize = 10_000;
const MAX_NAME_BYTES: usize = 249;

pub const CONSUMER_OFFSETS: &str = "__consumer_offsets";
pub const TRANSACTION_STATE: &str = "__transaction_state";
const SHARE_GROUP_STATE: &str = "__share_group_state";
const CLUSTER_METADATA: &str = "__cluster_metadata";

/// Topics that brokers keep for themselves; clients see a flag.
pub fn is_internal(name: &str) -> bool {
    matches!(name, CONSUMER_OFFSETS | TRANSACTION_STATE | SHARE_GROUP_STATE)
}

/// How to create an internal topic on first use; None for other names. The minimum of in-sync replicas is bounded as the
/// replication factor is, by the brokers there are.
pub fn internal_topic(name: &str, config: &Config, brokers: usize) -> Option<CreatableTopic> {
    let (prefix, settings) = match name {
        CONSUMER_OFFSETS => ("offsets.topic", &[("cleanup.policy", "compact"), ("compression.type", "producer")][..]),
        TRANSACTION_STATE => (
            "transaction.state.log",
            &[
                ("cleanup.policy", "compact"),
                ("compression.type", "uncompressed"),
                ("unclean.leader.election.enable", "false"),
            ][..],
        ),
        _ => return None,
    };
    let setting = |suffix: &str| config.value(&format!("{prefix}.{suffix}"));
    let number = |suffix| setting(suffix).and_then(|text| text.parse::<i32>().ok());
    let min_isr = number("min.isr").map(|n| n.min(brokers as i32).max(1).to_string());
    let segment_bytes = setting("segment.bytes").map(str::to_owned);
    let settings = settings.iter().map(|(key, value)| (*key, value.to_string()));
    let settings = settings
        .chain(segment_bytes.map(|value| ("segment.bytes", value)))
        .chain(min_isr.map(|value| ("min.insync.replicas", value)));
    let configs = settings.map(|(key, value)| {
        CreatableTopicConfig::default()
            .with_name(StrBytes::from_static_str(key))
            .with_value(Some(StrBytes::from_string(value)))
    });
    let topic = CreatableTopic::default()
        .with_name(StrBytes::from_string(name.to_owned()).into())
        .with_num_partitions(number("num.partitions").unwrap_or(-1))
        .with_replication_factor(number("replication.factor").and_then(|n| n.try_into().ok()).unwrap_or(-1))
        .with_configs(configs.collect());
    Some(topic)
}

/// Kafka's rules for new names; the error is its text.
pub fn check_name(name: &str) -> Result<(), ApiError> {
    let fault = match name {
        "" => "the empty string is not allowed".to_owned(),
        "." | ".." => format!("'{name}' is not allowed"),
        _ if name.len() > MAX_NAME_BYTES => {
            format!("the length of '{name}' is longer than the max allowed length {MAX_NAME_BYTES}")
        }
        _ if !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')) => {
            format!("'{name}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'")
        }
        _ => return Ok(()),
    };
    Err(ApiError::new(ErrorCode::InvalidTopicException, format!("Topic name is invalid: {fault}")))
}

/// Says what is wrong with a topic's overrides.
type CheckConfig = dyn Fn(&BTreeMap<String, String>) -> Result<(), String>;

/// What the broker's settings say about new topics.
pub struct CreateRules<'a> {
    pub num_partitions: i32,
    pub replication_factor: i16,
    pub check_config: &'a CheckConfig,
    pub new_id: &'a dyn Fn() -> Uuid,
}

#[derive(Clone, Debug, PartialEq)]
pub struct CreatedTopic {
    pub id: Uuid,
    pub num_partitions: i32,
    pub replication_factor: i16,
    pub overrides: BTreeMap<String, String>,
}

/// The answer about one topic of a request.
pub type TopicResult<T> = (TopicName, Result<T, ApiError>);

/// Plans each topic, in the order of the request; a name that comes twice is refused, once.
fn once_each<T, R>(
    topics: &[T],
    name: impl Fn(&T) -> &TopicName,
    mut plan: impl FnMut(&T) -> Result<R, ApiError>,
) -> Vec<TopicResult<R>> {
    let mut times_named: HashMap<&TopicName, usize> = HashMap::new();
    topics.iter().for_each(|topic| *times_named.entry(name(topic)).or_default() += 1);
    let mut results = Vec::new();
    for topic in topics {
        let name = name(topic);
        let result = match times_named.remove(name) {
            // Answered already.
            None => continue,
            Some(1) => plan(topic),
            Some(_) => Err(ApiError::new(ErrorCode::InvalidRequest, "Duplicate topic name.")),
        };
        results.push((name.clone(), result));
    }
    results
}

/// Records for those that can be created, and an answer for each name.
pub fn create_topics(
    image: &Image,
    topics: &[CreatableTopic],
    rules: &CreateRules<'_>,
) -> (Vec<Record>, Vec<TopicResult<CreatedTopic>>) {
    if let Err(error) = check_size(topics, rules) {
        return (Vec::new(), topics.iter().map(|topic| (topic.name.clone(), Err(error.clone()))).collect());
    }
    let mut records = Vec::new();
    let results = once_each(topics, |topic| &topic.name, |topic| create_topic(image, topic, rules, &mut records));
    (records, results)
}

fn check_size(topics: &[CreatableTopic], rules: &CreateRules<'_>) -> Result<(), ApiError> {
    let partitions = topics.iter().map(|topic| match (topic.assignments.len(), topic.num_partitions) {
        (0, -1) => rules.num_partitions.max(0) as usize,
        (0, n) => n.max(0) as usize,
        (n, _) => n,
    });
    if partitions.fold(0, usize::saturating_add) > MAX_PARTITIONS_PER_REQUEST {
        return Err(too_many_partitions());
    }
    if topics.iter().map(|topic| topic.configs.len()).sum::<usize>() > MAX_CONFIGS_PER_REQUEST {
        let message = "Unable to perform excessively large batch operation.";
        return Err(ApiError::new(ErrorCode::PolicyViolation, message));
    }
    Ok(())
}

fn too_many_partitions() -> ApiError {
    ApiError::new(ErrorCode::PolicyViolation, "Excessively large number of partitions per request.")
}

fn create_topic(
    image: &Image,
    topic: &CreatableTopic,
    rules: &CreateRules<'_>,
    records: &mut Vec<Record>,
) -> Result<CreatedTopic, ApiError> {
    let name = topic.name.as_str();
    if name == CLUSTER_METADATA {
        let message = format!("Creation of internal topic {name} is prohibited.");
        return Err(ApiError::new(ErrorCode::InvalidRequest, message));
    }
    check_name(name)?;
    if image.topic(name).is_some() {
        return Err(ApiError::new(ErrorCode::TopicAlreadyExists, format!("Topic '{name}' already exists.")));
    }
    if let Some(other) = image.colliding_topic(name) {
        let message = format!("Topic '{name}' collides with existing topic: {other}");
        return Err(ApiError::new(ErrorCode::InvalidTopicException, message));
    }
    let overrides = overrides(topic)?;
    (rules.check_config)(&overrides).map_err(|message| ApiError::new(ErrorCode::InvalidConfig, message))?;
    let replicas = if topic.assignments.is_empty() {
        placed_replicas(image, topic, rules)?
    } else {
        assigned_replicas(image, topic)?
    };

    let id = (rules.new_id)();
    records.push(Record::Topic { name: name.to_owned(), topic_id: id });
    records.extend(overrides.iter().map(|(key, value)| Record::Config {
        resource_type: TOPIC_RESOURCE,
        resource_name: name.to_owned(),
        name: key.clone(),
        value: Some(value.clone()),
    }));
    let created = CreatedTopic {
        id,
        num_partitions: replicas.len() as i32,
        replication_factor: replicas[0].len() as i16,
        overrides,
    };
    let partitions = (0..).zip(replicas);
    records.extend(partitions.map(|(index, replicas)| partition_record(image, id, index, replicas)));
    Ok(created)
}

fn overrides(topic: &CreatableTopic) -> Result<BTreeMap<String, String>, ApiError> {
    let nulls: Vec<&str> = topic.configs.iter().filter(|c| c.value.is_none()).map(|c| c.name.as_str()).collect();
    if !nulls.is_empty() {
        let message = format!("Null value not supported for topic configs: {}", nulls.join(","));
        return Err(ApiError::new(ErrorCode::InvalidConfig, message));
    }
    let pairs = topic.configs.iter().filter_map(|c| Some((c.name.to_string(), c.value.as_ref()?.to_string())));
    Ok(pairs.collect())
}

/// Partitions where the request leaves the choice of brokers to the controller.
fn placed_replicas(image: &Image, topic: &CreatableTopic, rules: &CreateRules<'_>) -> Result<Vec<Vec<i32>>, ApiError> {
    if topic.replication_factor < -1 || topic.replication_factor == 0 {
        let message = "Replication factor must be larger than 0, or -1 to use the default value.";
        return Err(ApiError::new(ErrorCode::InvalidReplicationFactor, message));
    }
    if topic.num_partitions < -1 || topic.num_partitions == 0 {
        let message = "Number of partitions was set to an invalid non-positive value.";
        return Err(ApiError::new(ErrorCode::InvalidPartitions, message));
    }
    let or_default = |n, default| if n == -1 { default } else { n };
    let count = or_default(topic.num_partitions, rules.num_partitions);
    let mut factor = match topic.replication_factor {
        -1 => rules.replication_factor,
        factor => factor,
    };
    // The defaults of the internal topics are made for clusters; a single node must serve groups and producers too.
    if is_internal(&topic.name) {
        factor = factor.min(image.brokers().filter(|b| b.is_active()).count().try_into().unwrap_or(i16::MAX));
    }
    place(image, 0, count, factor)
}

/// Spreads `count` partitions from `first` on over the active brokers.
fn place(image: &Image, first: i32, count: i32, replication_factor: i16) -> Result<Vec<Vec<i32>>, ApiError> {
    let active: Vec<i32> = image.brokers().filter(|b| b.is_active()).map(|b| b.id).collect();
    let factor = replication_factor as usize;
    let fault = if active.is_empty() {
        "All brokers are currently fenced.".to_owned()
    } else if factor > active.len() {
        let have = active.len();
        format!(
            "The target replication factor of {factor} cannot be reached because only {have} broker(s) are registered."
        )
    } else {
        let replicas = |p: i32| (0..factor).map(|r| active[(p as usize + r) % active.len()]).collect();
        return Ok((first..first + count).map(replicas).collect());
    };
    let message = format!("Unable to replicate the partition {factor} time(s): {fault}");
    Err(ApiError::new(ErrorCode::InvalidReplicationFactor, message))
}

/// Partitions where the request names the brokers.
fn assigned_replicas(image: &Image, topic: &CreatableTopic) -> Result<Vec<Vec<i32>>, ApiError> {
    let invalid_request = |what| {
        let message = format!("A manual partition assignment was specified, but {what} was not set to -1.");
        Err(ApiError::new(ErrorCode::InvalidRequest, message))
    };
    if topic.replication_factor != -1 {
        return invalid_request("replication factor");
    }
    if topic.num_partitions != -1 {
        return invalid_request("numPartitions");
    }
    let mut assigned: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    let mut factor = None;
    for assignment in &topic.assignments {
        let index = assignment.partition_index;
        if assigned.contains_key(&index) {
            return invalid_assignment(format!("Found multiple manual partition assignments for partition {index}"));
        }
        let replicas = check_assignment(image, index, &assignment.broker_ids, factor)?;
        factor = Some(replicas.len());
        assigned.insert(index, replicas);
    }
    if !assigned.keys().copied().eq(0..assigned.len() as i32) {
        return invalid_assignment("partitions should be a consecutive 0-based integer sequence");
    }
    Ok(assigned.into_values().collect())
}

fn invalid_assignment<T>(message: impl Into<String>) -> Result<T, ApiError> {
    Err(ApiError::new(ErrorCode::InvalidReplicaAssignment, message))
}

fn check_assignment(
    image: &Image,
    index: i32,
    broker_ids: &[BrokerId],
    factor: Option<usize>,
) -> Result<Vec<i32>, ApiError> {
    let replicas: Vec<i32> = broker_ids.iter().map(|id| id.0).collect();
    if replicas.is_empty() {
        return invalid_assignment("The manual partition assignment includes an empty replica list.");
    }
    let mut seen = BTreeSet::new();
    for id in &replicas {
        if image.broker(*id).is_none() {
            return invalid_assignment(format!(
                "The manual partition assignment includes broker {id}, but no such broker is registered."
            ));
        }
        if !seen.insert(id) {
            return invalid_assignment(format!(
                "The manual partition assignment includes the broker {id} more than once."
            ));
        }
    }
    if let Some(factor) = factor.filter(|factor| *factor != replicas.len()) {
        return invalid_assignment(format!(
            "The manual partition assignment includes a partition with {} replica(s), but this is not consistent with \
             previous partitions, which have {factor} replica(s).",
            replicas.len()
        ));
    }
    if active_of(image, &replicas).is_empty() {
        return invalid_assignment(format!(
            "All brokers specified in the manual partition assignment for partition {index} are fenced or in \
             controlled shutdown."
        ));
    }
    Ok(replicas)
}

fn active_of(image: &Image, replicas: &[i32]) -> Vec<i32> {
    let active = |id: &&i32| image.broker(**id).is_some_and(|broker| broker.is_active());
    replicas.iter().filter(active).copied().collect()
}

/// A new partition, led by the first of its brokers that is active.
fn partition_record(image: &Image, topic_id: Uuid, partition_id: i32, replicas: Vec<i32>) -> Record {
    let isr = active_of(image, &replicas);
    let (leader, last_known_elr) = image.record_leader(isr[0]);
    Record::Partition(Partition {
        partition_id,
        topic_id,
        leader,
        isr,
        directories: replicas.iter().map(|id| only_log_dir(image, *id)).collect(),
        replicas,
        removing_replicas: Vec::new(),
        adding_replicas: Vec::new(),
        leader_recovery_state: 0,
        leader_epoch: 0,
        partition_epoch: 0,
        eligible_leader_replicas: None,
        last_known_elr: Some(last_known_elr).filter(|brokers| !brokers.is_empty()),
    })
}

/// A broker with one log directory has no choice; one with several says later which it took.
fn only_log_dir(image: &Image, broker_id: i32) -> Uuid {
    match image.broker(broker_id).map(|broker| &*broker.log_dirs) {
        Some([only]) => *only,
        _ => Uuid::nil(),
    }
}

/// Records for those that can grow, and an answer for each name.
pub fn create_partitions(image: &Image, topics: &[CreatePartitionsTopic]) -> (Vec<Record>, Vec<TopicResult<()>>) {
    let mut records = Vec::new();
    let results = once_each(topics, |topic| &topic.name, |topic| grow_topic(image, topic, &mut records));
    (records, results)
}

fn grow_topic(image: &Image, topic: &CreatePartitionsTopic, records: &mut Vec<Record>) -> Result<(), ApiError> {
    let unknown = || ApiError::new(ErrorCode::UnknownTopicOrPartition, UNKNOWN_TOPIC);
    let existing = image.topic(&topic.name).ok_or_else(unknown)?;
    let have = existing.partitions.len() as i32;
    if topic.count <= have {
        let message = match topic.count == have {
            true => format!("Topic already has {have} partition(s)."),
            false => format!(
                "The topic {} currently has {have} partition(s); {} would not be an increase.",
                existing.name, topic.count
            ),
        };
        return Err(ApiError::new(ErrorCode::InvalidPartitions, message));
    }
    let additional = topic.count - have;
    if records.len() + additional as usize > MAX_PARTITIONS_PER_REQUEST {
        return Err(too_many_partitions());
    }
    let replicas = new_replicas(image, existing, topic, additional)?;
    let partitions = (have..).zip(replicas);
    records.extend(partitions.map(|(index, replicas)| partition_record(image, existing.id, index, replicas)));
    Ok(())
}

fn new_replicas(
    image: &Image,
    existing: &TopicImage,
    topic: &CreatePartitionsTopic,
    additional: i32,
) -> Result<Vec<Vec<i32>>, ApiError> {
    let have = existing.partitions.len() as i32;
    let factor = existing.partitions.first().map_or(1, |partition| partition.replicas.len());
    let Some(assignments) = &topic.assignments else {
        return place(image, have, additional, factor as i16);
    };
    if assignments.len() != additional as usize {
        return invalid_assignment(format!(
            "Attempted to add {additional} additional partition(s), but only {} assignment(s) were specified.",
            assignments.len()
        ));
    }
    let assigned = (have..).zip(assignments);
    assigned.map(|(index, a)| check_assignment(image, index, &a.broker_ids, Some(factor))).collect()
}

pub const UNKNOWN_TOPIC: &str = "This server does not host this topic-partition.";
const NAMED_TWICE: &str = "The provided topic name maps to an ID that was already supplied.";
const UNKNOWN_TOPIC_ID: &str = "This server does not host this topic ID.";

/// A topic as a DeleteTopics request names it: by name, by id, or (wrongly) by both or neither.
#[derive(Clone, Debug, PartialEq)]
pub struct TopicRef {
    pub name: Option<TopicName>,
    pub id: Uuid,
}

/// The answer about one deletion: name and id as far as they are known.
#[derive(Clone, Debug, PartialEq)]
pub struct DeleteResult {
    pub name: Option<TopicName>,
    pub id: Uuid,
    pub result: Result<(), ApiError>,
}

/// Records for those that exist, and an answer for each reference (one for all that are the same).
pub fn delete_topics(image: &Image, topics: &[TopicRef]) -> (Vec<Record>, Vec<DeleteResult>) {
    let mut times_named: HashMap<(Option<&TopicName>, Uuid), usize> = HashMap::new();
    for topic in topics {
        *times_named.entry((topic.name.as_ref(), topic.id)).or_default() += 1;
    }
    let by_id: HashSet<Uuid> = topics.iter().filter(|topic| topic.name.is_none()).map(|topic| topic.id).collect();
    let named = topics.iter().filter_map(|topic| image.topic(topic.name.as_ref()?));
    let both_ways: HashSet<Uuid> = named.map(|topic| topic.id).filter(|id| by_id.contains(id)).collect();
    let mut answered = HashSet::new();
    let (mut records, mut results) = (Vec::new(), Vec::new());
    for topic in topics {
        let duplicate = times_named[&(topic.name.as_ref(), topic.id)] > 1;
        if !answered.insert((topic.name.as_ref(), topic.id)) {
            continue;
        }
        let result = resolve(image, topic, duplicate, &both_ways);
        if let DeleteResult { id, result: Ok(()), .. } = result {
            records.push(Record::RemoveTopic { topic_id: id });
        }
        results.push(result);
    }
    (records, results)
}

fn resolve(image: &Image, topic: &TopicRef, duplicate: bool, both_ways: &HashSet<Uuid>) -> DeleteResult {
    let refuse = |id, code, message: &str| DeleteResult {
        name: topic.name.clone(),
        id,
        result: Err(ApiError::new(code, message)),
    };
    let invalid = |id, message| refuse(id, ErrorCode::InvalidRequest, message);
    match &topic.name {
        None if topic.id.is_nil() => invalid(topic.id, "Neither topic name nor id were specified."),
        None if duplicate => invalid(topic.id, "Duplicate topic id."),
        None => match image.topic_by_id(topic.id) {
            None => refuse(topic.id, ErrorCode::UnknownTopicId, UNKNOWN_TOPIC_ID),
            Some(found) if both_ways.contains(&found.id) => invalid(found.id, NAMED_TWICE),
            Some(found) => {
                let name = StrBytes::from_string(found.name.to_string());
                DeleteResult { name: Some(name.into()), id: found.id, result: Ok(()) }
            }
        },
        Some(_) if !topic.id.is_nil() => invalid(topic.id, "You may not specify both topic name and topic id."),
        Some(_) if duplicate => invalid(Uuid::nil(), "Duplicate topic name."),
        Some(name) => match image.topic(name) {
            None => refuse(Uuid::nil(), ErrorCode::UnknownTopicOrPartition, UNKNOWN_TOPIC),
            Some(found) if both_ways.contains(&found.id) => invalid(found.id, NAMED_TWICE),
            Some(found) => DeleteResult { name: Some(name.clone()), id: found.id, result: Ok(()) },
        },
    }
}
