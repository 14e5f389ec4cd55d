//! Requests to create, grow and delete topics, with Apache Kafka's answers.

use std::cell::Cell;

use kafka_protocol::messages::create_partitions_request::CreatePartitionsAssignment;
use kafka_protocol::messages::create_topics_request::CreatableReplicaAssignment;

use super::super::records::NO_LEADER;
use super::super::tests::{add_topics, new_cluster};
use super::*;

fn name(name: &str) -> TopicName {
    StrBytes::from_string(name.to_owned()).into()
}

fn topic(topic: &str, partitions: i32, factor: i16) -> CreatableTopic {
    CreatableTopic::default().with_name(name(topic)).with_num_partitions(partitions).with_replication_factor(factor)
}

fn create(image: &Image, topics: &[CreatableTopic]) -> (Vec<Record>, Vec<TopicResult<CreatedTopic>>) {
    let ids = Cell::new(100);
    let new_id = || Uuid::from_u128(ids.replace(ids.get() + 1));
    let check_config = |overrides: &BTreeMap<String, String>| match overrides.get("retention.ms") {
        Some(text) if text == "bad" => Err("bad value".to_owned()),
        _ => Ok(()),
    };
    let rules = CreateRules { num_partitions: 3, replication_factor: 1, check_config: &check_config, new_id: &new_id };
    create_topics(image, topics, &rules)
}

fn refusal(image: &Image, topic: CreatableTopic) -> (ErrorCode, String) {
    let (records, mut results) = create(image, &[topic]);
    assert_eq!(records, []);
    let error = results.remove(0).1.unwrap_err();
    (error.code, error.message)
}

fn with_config(topic: CreatableTopic, key: &'static str, value: Option<&'static str>) -> CreatableTopic {
    let config = CreatableTopicConfig::default()
        .with_name(StrBytes::from_static_str(key))
        .with_value(value.map(StrBytes::from_static_str));
    topic.with_configs(vec![config])
}

/// A partition and its brokers.
type Assigned<'a> = (i32, &'a [i32]);

fn with_assignments(topic: CreatableTopic, assignments: &[Assigned<'_>]) -> CreatableTopic {
    let assignment = |(index, brokers): &Assigned<'_>| {
        CreatableReplicaAssignment::default()
            .with_partition_index(*index)
            .with_broker_ids(brokers.iter().map(|id| BrokerId(*id)).collect())
    };
    topic.with_assignments(assignments.iter().map(assignment).collect())
}

#[test]
fn a_topic_becomes_its_records_in_kafkas_order() {
    let image = new_cluster();
    let (records, results) = create(&image, &[with_config(topic("a", 2, 1), "retention.ms", Some("5"))]);
    let created = results[0].1.clone().unwrap();
    assert_eq!((created.num_partitions, created.replication_factor), (2, 1));
    let keys: Vec<u32> = records.iter().map(Record::key).collect();
    assert_eq!(keys, [2, 4, 3, 3]);
    let Record::Partition(partition) = &records[3] else { panic!() };
    let leadership = (partition.leader, &*partition.isr, partition.last_known_elr.as_deref());
    assert_eq!((partition.partition_id, leadership), (1, (NO_LEADER, &[1][..], Some(&[1][..]))));
    assert_eq!((partition.leader_epoch, partition.partition_epoch), (0, 0));
    assert_eq!(partition.directories, image.broker(1).unwrap().log_dirs);
}

#[test]
fn minus_one_means_the_defaults() {
    let (_, results) = create(&new_cluster(), &[topic("a", -1, -1)]);
    let created = results[0].1.clone().unwrap();
    assert_eq!((created.num_partitions, created.replication_factor), (3, 1));
}

#[test]
fn bad_names_are_refused_with_kafkas_words() {
    let image = add_topics(&new_cluster(), &[("a.b", 1)]);
    let long = "x".repeat(250);
    let illegal = |name: &str| {
        format!("'{name}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'")
    };
    let cases = [
        ("", "the empty string is not allowed".to_owned()),
        (".", "'.' is not allowed".to_owned()),
        ("..", "'..' is not allowed".to_owned()),
        (&*long, format!("the length of '{long}' is longer than the max allowed length 249")),
        ("a b", illegal("a b")),
        ("é", illegal("é")),
    ];
    for (name, fault) in cases {
        let message = format!("Topic name is invalid: {fault}");
        assert_eq!(refusal(&image, topic(name, 1, 1)), (ErrorCode::InvalidTopicException, message));
    }
    let collides = "Topic 'a_b' collides with existing topic: a.b".to_owned();
    assert_eq!(refusal(&image, topic("a_b", 1, 1)), (ErrorCode::InvalidTopicException, collides));
    let exists = "Topic 'a.b' already exists.".to_owned();
    assert_eq!(refusal(&image, topic("a.b", 1, 1)), (ErrorCode::TopicAlreadyExists, exists));
    assert_eq!(refusal(&image, topic("__cluster_metadata", 1, 1)).0, ErrorCode::InvalidRequest);
    assert!(create(&image, &[topic(&"x".repeat(249), 1, 1)]).1[0].1.is_ok());
}

#[test]
fn counts_that_cannot_be_are_refused_with_kafkas_words() {
    let image = new_cluster();
    let three = "Unable to replicate the partition 3 time(s): The target replication factor of 3 cannot be reached \
                 because only 1 broker(s) are registered.";
    let zero = "Replication factor must be larger than 0, or -1 to use the default value.";
    let partitions = "Number of partitions was set to an invalid non-positive value.";
    let many = "Excessively large number of partitions per request.";
    let cases = [
        (topic("a", 1, 3), ErrorCode::InvalidReplicationFactor, three),
        (topic("a", 1, 0), ErrorCode::InvalidReplicationFactor, zero),
        (topic("a", 1, i16::MIN), ErrorCode::InvalidReplicationFactor, zero),
        (topic("a", 0, 1), ErrorCode::InvalidPartitions, partitions),
        (topic("a", i32::MIN, 1), ErrorCode::InvalidPartitions, partitions),
        (topic("a", i32::MAX, 1), ErrorCode::PolicyViolation, many),
    ];
    for (topic, code, message) in cases {
        assert_eq!(refusal(&image, topic), (code, message.to_owned()));
    }
}

#[test]
fn settings_are_checked() {
    let image = new_cluster();
    let null = "Null value not supported for topic configs: retention.ms".to_owned();
    let refused = refusal(&image, with_config(topic("a", 1, 1), "retention.ms", None));
    assert_eq!(refused, (ErrorCode::InvalidConfig, null));
    let refused = refusal(&image, with_config(topic("a", 1, 1), "retention.ms", Some("bad")));
    assert_eq!(refused, (ErrorCode::InvalidConfig, "bad value".to_owned()));
}

#[test]
fn a_manual_assignment_must_name_live_brokers_for_consecutive_partitions() {
    let image = new_cluster();
    let assigned = |assignments| with_assignments(topic("a", -1, -1), assignments);
    let (_, results) = create(&image, &[assigned(&[(1, &[1]), (0, &[1])])]);
    assert_eq!(results[0].1.clone().unwrap().num_partitions, 2);

    let broker_2 = "The manual partition assignment includes broker 2, but no such broker is registered.";
    let twice = "The manual partition assignment includes the broker 1 more than once.";
    let empty = "The manual partition assignment includes an empty replica list.";
    let gap = "partitions should be a consecutive 0-based integer sequence";
    let same = "Found multiple manual partition assignments for partition 0";
    let cases: [(&[Assigned<'_>], &str); 5] = [
        (&[(0, &[2])], broker_2),
        (&[(0, &[1, 1])], twice),
        (&[(0, &[])], empty),
        (&[(1, &[1])], gap),
        (&[(0, &[1]), (0, &[1])], same),
    ];
    for (assignments, message) in cases {
        let refused = refusal(&image, assigned(assignments));
        assert_eq!(refused, (ErrorCode::InvalidReplicaAssignment, message.to_owned()));
    }
    let refused = refusal(&image, with_assignments(topic("a", 1, -1), &[(0, &[1])]));
    let message = "A manual partition assignment was specified, but numPartitions was not set to -1.";
    assert_eq!(refused, (ErrorCode::InvalidRequest, message.to_owned()));
}

#[test]
fn a_name_that_comes_twice_in_one_request_is_refused_once() {
    let (records, results) = create(&new_cluster(), &[topic("a", 1, 1), topic("b", 1, 1), topic("a", 2, 1)]);
    assert_eq!(records.iter().filter(|record| matches!(record, Record::Topic { .. })).count(), 1);
    let twice = ApiError::new(ErrorCode::InvalidRequest, "Duplicate topic name.");
    assert_eq!(results[0], (name("a"), Err(twice)));
    assert!(results.len() == 2 && results[1].1.is_ok());
}

#[test]
fn internal_topics_take_the_brokers_there_are() {
    let (_, results) = create(&new_cluster(), &[topic(CONSUMER_OFFSETS, 50, 3)]);
    let created = results[0].1.clone().unwrap();
    assert_eq!((created.num_partitions, created.replication_factor), (50, 1));
}

fn grow(image: &Image, topic: &str, count: i32, assignments: Option<&[&[i32]]>) -> (Vec<Record>, Result<(), ApiError>) {
    let assignment = |brokers: &&[i32]| {
        let ids = brokers.iter().map(|id| BrokerId(*id)).collect();
        CreatePartitionsAssignment::default().with_broker_ids(ids)
    };
    let topic = CreatePartitionsTopic::default()
        .with_name(name(topic))
        .with_count(count)
        .with_assignments(assignments.map(|all| all.iter().map(assignment).collect()));
    let (records, mut results) = create_partitions(image, &[topic]);
    (records, results.remove(0).1)
}

#[test]
fn partitions_can_only_grow() {
    let image = add_topics(&new_cluster(), &[("a", 2)]);
    let (records, result) = grow(&image, "a", 4, None);
    assert_eq!(result, Ok(()));
    let indexes = records.iter().map(|record| match record {
        Record::Partition(partition) => partition.partition_id,
        other => panic!("{other:?}"),
    });
    assert_eq!(indexes.collect::<Vec<_>>(), [2, 3]);
    assert_eq!(grow(&image, "a", 3, Some(&[&[1]])).1, Ok(()));

    let refused = |topic: &str, count, assignments| {
        let error = grow(&image, topic, count, assignments).1.unwrap_err();
        (error.code, error.message)
    };
    let same = (ErrorCode::InvalidPartitions, "Topic already has 2 partition(s).".to_owned());
    assert_eq!(refused("a", 2, None), same);
    let fewer = "The topic a currently has 2 partition(s); 1 would not be an increase.".to_owned();
    assert_eq!(refused("a", 1, None), (ErrorCode::InvalidPartitions, fewer));
    assert_eq!(refused("a", i32::MIN, None).0, ErrorCode::InvalidPartitions);
    assert_eq!(refused("a", i32::MAX, None).0, ErrorCode::PolicyViolation);
    assert_eq!(refused("none", 3, None).0, ErrorCode::UnknownTopicOrPartition);
    let count = "Attempted to add 2 additional partition(s), but only 1 assignment(s) were specified.".to_owned();
    assert_eq!(refused("a", 4, Some(&[&[1]])), (ErrorCode::InvalidReplicaAssignment, count));
    assert_eq!(refused("a", 3, Some(&[&[9]])).0, ErrorCode::InvalidReplicaAssignment);
}

#[test]
fn topics_are_deleted_by_name_or_by_id_but_not_by_both() {
    let image = add_topics(&new_cluster(), &[("a", 1), ("b", 1)]);
    let (a, b) = (image.topic("a").unwrap().id, image.topic("b").unwrap().id);
    let by_name = |topic: &str| TopicRef { name: Some(name(topic)), id: Uuid::nil() };
    let by_id = |id| TopicRef { name: None, id };
    let (records, results) = delete_topics(&image, &[by_name("a"), by_id(b)]);
    assert_eq!(records, [Record::RemoveTopic { topic_id: a }, Record::RemoveTopic { topic_id: b }]);
    assert_eq!(results[1], DeleteResult { name: Some(name("b")), id: b, result: Ok(()) });

    let codes = |refs: &[TopicRef]| {
        let (records, results) = delete_topics(&image, refs);
        assert_eq!(records, []);
        results.into_iter().map(|result| result.result.unwrap_err().code).collect::<Vec<_>>()
    };
    let unknown = Uuid::from_u128(4242);
    assert_eq!(
        codes(&[by_name("none"), by_id(unknown)]),
        [ErrorCode::UnknownTopicOrPartition, ErrorCode::UnknownTopicId]
    );
    assert_eq!(codes(&[by_id(Uuid::nil())]), [ErrorCode::InvalidRequest]);
    assert_eq!(codes(&[TopicRef { name: Some(name("a")), id: a }]), [ErrorCode::InvalidRequest]);
    assert_eq!(codes(&[by_name("a"), by_name("a")]), [ErrorCode::InvalidRequest]);
    assert_eq!(codes(&[by_name("a"), by_id(a)]), [ErrorCode::InvalidRequest; 2]);
}
