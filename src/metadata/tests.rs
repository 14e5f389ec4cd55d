//! The log that Apache Kafka 4.3.1 wrote: three starts, two clean stops and a `kill -9`, topics made, grown, configured
//! and deleted (the fixture), and what this module makes of it.

use ottla_storage::batch;
use proptest::prelude::*;

use super::codec::DecodeError;
use super::image::{BROKER_RESOURCE, ELIGIBLE_LEADER_REPLICAS_VERSION, METADATA_VERSION};
use super::log::visit_batches;
use super::records::{NO_LEADER, PartitionChange};
use super::*;

const KAFKA_LOG: &[u8] = include_bytes!("../../tests/fixtures/metadata/kafka-4.3.1.log");
const KAFKA_SNAPSHOT: &[u8] = include_bytes!("../../tests/fixtures/metadata/kafka-4.3.1.checkpoint");
const NODE: i32 = 1;

pub(super) fn entries(content: &[u8]) -> Vec<(i64, Entry)> {
    let mut entries = Vec::new();
    let end = visit_batches(content, 0, &mut |offset, entry| {
        entries.push((offset, entry));
        Ok(())
    });
    assert_eq!(end.unwrap(), entries.last().unwrap().0 + 1);
    entries
}

pub(super) fn replayed(entries: impl IntoIterator<Item = (i64, Entry)>) -> Image {
    let mut delta = Delta::new(&Image::new("cluster", NODE));
    for (_, entry) in entries {
        if let Entry::Data(record) = entry {
            delta.apply(record).unwrap();
        }
    }
    delta.finish().unwrap().0
}

pub(super) fn apply(image: &Image, records: Vec<Record>) -> (Image, Changes) {
    let mut delta = Delta::new(image);
    records.into_iter().for_each(|record| delta.apply(record).unwrap());
    delta.finish().unwrap()
}

/// Keys and values of all records, control records or not.
pub(super) fn raw_records(content: &[u8], control: bool) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut raw = Vec::new();
    for item in batch::batches(content) {
        let (_, header, bytes) = item.unwrap();
        let records = batch::records_bytes(bytes, 1 << 20).unwrap();
        for record in batch::records(&header, &records).filter(|_| header.is_control() == control) {
            let record = record.unwrap();
            raw.push((record.key.unwrap_or_default().to_vec(), record.value.unwrap().to_vec()));
        }
    }
    raw
}

#[test]
fn records_are_encoded_as_kafka_does() {
    let levels = replayed(entries(KAFKA_LOG)).write_levels();
    let mut keys = HashSet::new();
    for (_, value) in raw_records(KAFKA_LOG, false) {
        let (record, version) = Record::decode(&value).unwrap();
        assert_eq!(record.encode(version), value, "{record:?}");
        assert_eq!(record.version(levels), version, "{record:?}");
        keys.insert(record.key());
    }
    assert_eq!(keys, HashSet::from([0, 2, 3, 4, 5, 9, 12, 15, 17, 20, 23, 24, 27]));
}

#[test]
fn control_records_are_encoded_as_kafka_does() {
    let raw = raw_records(KAFKA_LOG, true);
    let [leader_change, kraft_version, voters, ..] = &raw[..] else { panic!("{raw:?}") };
    assert_eq!(control::leader_change(NODE), *leader_change);
    assert_eq!(control::kraft_version(1), *kraft_version);
    let Ok(ControlRecord::Voters(ids, _)) = control::decode(Some(&voters.0), Some(&voters.1)) else { panic!() };
    let endpoint = ("CONTROLLER".to_owned(), "127.0.0.1".to_owned(), 19392);
    assert_eq!(control::voters(ids[0], &endpoint), *voters);
    assert_eq!(ids[0].id, NODE);
}

#[test]
fn other_records_survive_a_round_trip() {
    let id = Uuid::from_u128(7);
    let mut change = PartitionChange::new(id, 3);
    change.directories = Some(vec![id]);
    change.removing_replicas = Some(vec![1]);
    let records = [
        Record::UnregisterBroker { broker_id: 3, broker_epoch: 9 },
        Record::FenceBroker { id: 3, epoch: 9 },
        Record::UnfenceBroker { id: 3, epoch: 9 },
        Record::AbortTransaction { reason: Some("why".into()) },
        Record::AbortTransaction { reason: None },
        Record::ClearElr { topic_name: "t".into() },
        Record::PartitionChange(change),
    ];
    for record in records {
        let version = if record.key() == 5 { 2 } else { 0 };
        assert_eq!(Record::decode(&record.encode(version)).unwrap(), (record, version));
    }
}

#[test]
fn what_is_not_a_record_is_an_error() {
    assert_eq!(Record::decode(&[1, 29, 0]), Err(DecodeError::UnknownKey(29)));
    assert_eq!(Record::decode(&[1, 2, 1]), Err(DecodeError::UnknownVersion { key: 2, version: 1 }));
    assert_eq!(Record::decode(&[2, 2, 0]), Err(DecodeError::Frame(2)));
    for (_, value) in raw_records(KAFKA_LOG, false) {
        let (record, _) = Record::decode(&value).unwrap();
        let cut = &value[..value.len() - 1];
        assert!(Record::decode(cut).is_err() || matches!(record, Record::Carried(_)), "{record:?}");
    }
}

proptest! {
    #[test]
    fn decoding_never_panics(key in 0u8..30, version in 0u8..5, rest in prop::collection::vec(any::<u8>(), 0..80)) {
        let _ = Record::decode(&[&[1, key, version], &rest[..]].concat());
    }
}

#[test]
fn kafkas_log_replays() {
    let image = replayed(entries(KAFKA_LOG));
    assert_eq!(
        image.topics().map(|t| (&*t.name, t.partitions.len())).collect::<Vec<_>>(),
        [("first", 3), ("second", 4)]
    );
    assert_eq!(image.feature_level(METADATA_VERSION), 30);
    assert_eq!(image.feature_level("transaction.version"), 2);
    assert_eq!(image.next_producer_id(), 1000);
    let overrides = |kind, name| image.config_overrides(kind, name).unwrap().clone().into_iter().collect::<Vec<_>>();
    assert_eq!(overrides(TOPIC_RESOURCE, "first"), [("cleanup.policy".to_owned(), "compact,delete".to_owned())]);
    assert_eq!(overrides(TOPIC_RESOURCE, "second"), [("segment.bytes".to_owned(), "1048576".to_owned())]);
    assert_eq!(overrides(BROKER_RESOURCE, ""), [("min.insync.replicas".to_owned(), "1".to_owned())]);
    assert_eq!(image.config_overrides(TOPIC_RESOURCE, "auto"), None);

    let broker = image.broker(NODE).unwrap();
    assert_eq!(broker.endpoint("PLAINTEXT"), Some(("127.0.0.1", 19391)));
    assert!(broker.fenced && broker.in_controlled_shutdown, "Kafka was stopped cleanly");
    let partition = image.topic("first").unwrap().partition(2).unwrap();
    assert_eq!((image.leader_of(partition), partition.isr.len()), (NO_LEADER, 0));
    assert_eq!((&*partition.eligible_leader_replicas, &*partition.replicas), (&[NODE][..], &[NODE][..]));
    assert_eq!(partition.directories, broker.log_dirs);
    assert_eq!(image.topic_by_id(image.topic("second").unwrap().id).unwrap().name, image.topic("second").unwrap().name);
}

#[test]
fn kafkas_snapshot_replays() {
    let entries = entries(KAFKA_SNAPSHOT);
    assert_eq!(entries.first().unwrap().1, Entry::Control(ControlRecord::SnapshotHeader));
    assert_eq!(entries.last().unwrap().1, Entry::Control(ControlRecord::SnapshotFooter));
    assert!(entries.iter().any(|(_, e)| matches!(e, Entry::Control(ControlRecord::Voters(v, _)) if v[0].id == NODE)));
}

#[test]
fn a_log_cut_anywhere_replays_to_the_last_whole_batch() {
    let all = entries(KAFKA_LOG);
    for cut in (0..KAFKA_LOG.len()).step_by(509) {
        let mut count = 0;
        let end = visit_batches(&KAFKA_LOG[..cut], 0, &mut |_, _| {
            count += 1;
            Ok(())
        });
        assert_eq!(end.unwrap(), count);
    }
    let mut from_middle = Vec::new();
    visit_batches(KAFKA_LOG, 83, &mut |offset, _| {
        from_middle.push(offset);
        Ok(())
    })
    .unwrap();
    assert!(from_middle.into_iter().eq(83..all.len() as i64), "a start in the middle of a batch skips what is before");
}

#[test]
fn starting_after_kafka_elects_a_leader_for_every_partition() {
    let stopped = replayed(entries(KAFKA_LOG));
    let before = stopped.topic("first").unwrap().partition(0).unwrap().clone();
    let (registered, _) = apply(&stopped, registration::register(&this_broker(), 204));
    let broker = registered.broker(NODE).unwrap();
    assert!(broker.is_active());
    assert_eq!((broker.epoch, broker.endpoint("PLAINTEXT")), (204, Some(("localhost", 9092))));

    let (elected, _) = apply(&registered, registration::elect(&registered, NODE, false));
    for partition in elected.topics().flat_map(|topic| &topic.partitions) {
        assert_eq!((elected.leader_of(partition), &*partition.isr), (NODE, &[NODE][..]));
        assert_eq!(partition.recorded_leader, NO_LEADER, "as Kafka finds it after a stop of its own");
        assert!(partition.eligible_leader_replicas.is_empty() && partition.last_known_elr == [NODE]);
        assert_eq!(partition.leader_recovery_state, 0);
    }
    let after = elected.topic("first").unwrap().partition(0).unwrap();
    assert_eq!((after.leader_epoch, after.partition_epoch), (before.leader_epoch + 1, before.partition_epoch + 1));

    assert_eq!(registration::elect(&elected, NODE, false), [], "a clean stop keeps leaders and epochs");
    let (again, _) = apply(&elected, registration::elect(&elected, NODE, true));
    let epoch = again.topic("first").unwrap().partition(0).unwrap().leader_epoch;
    assert_eq!(epoch, after.leader_epoch + 1, "after an unclean stop each leader has a new epoch");
}

#[test]
fn what_kafka_left_without_any_replica_in_sync_is_led_by_the_only_replica() {
    // After kill -9 Kafka's log ends with an empty ISR and an empty ELR for a while: offsets 172 to 178.
    let image = replayed(entries(KAFKA_LOG).into_iter().filter(|(offset, _)| *offset <= 178));
    let partition = image.topic("first").unwrap().partition(0).unwrap();
    assert_eq!((partition.isr.len(), partition.eligible_leader_replicas.len()), (0, 0));
    let (elected, _) = apply(&image, registration::elect(&image, NODE, true));
    assert!(elected.topics().flat_map(|t| &t.partitions).all(|p| elected.leader_of(p) == NODE && p.isr == [NODE]));
}

#[test]
fn what_this_node_leads_has_a_recorded_leader_only_where_kafka_would_not_remember_the_last_one() {
    let killed = replayed(entries(KAFKA_LOG).into_iter().filter(|(offset, _)| *offset <= 160));
    let recorded = |image: &Image| {
        let partition = image.topic("first").unwrap().partition(0).unwrap();
        (partition.recorded_leader, partition.last_known_elr.clone())
    };
    assert_eq!(recorded(&killed), (NODE, vec![]), "Kafka records itself");
    let (elected, _) = apply(&killed, registration::elect(&killed, NODE, false));
    assert_eq!(recorded(&elected), (NO_LEADER, vec![NODE]));

    let level = Record::FeatureLevel { name: ELIGIBLE_LEADER_REPLICAS_VERSION.to_owned(), level: 0 };
    let (without, _) = apply(&elected, vec![level]);
    let (elected, _) = apply(&without, registration::elect(&without, NODE, false));
    assert_eq!(recorded(&elected), (NODE, vec![]));
    assert_eq!(registration::elect(&elected, NODE, false), []);
}

fn this_broker() -> Registration {
    Registration {
        broker_id: NODE,
        incarnation_id: Uuid::from_u128(5),
        rack: Some("r1".to_owned()),
        endpoints: vec![("PLAINTEXT".to_owned(), "localhost".to_owned(), 9092)],
        log_dirs: vec![Uuid::from_u128(6)],
    }
}

/// A new cluster of this one broker.
pub(crate) fn new_cluster() -> Image {
    let empty = Image::new("cluster", NODE);
    let (image, _) = apply(&empty, registration::bootstrap(&empty, Vec::new(), 1));
    apply(&image, registration::register(&this_broker(), 10)).0
}

#[test]
fn a_new_cluster_has_the_features_of_kafka_4_3_and_a_stop_fences_the_broker() {
    let image = new_cluster();
    let kafka = replayed(entries(KAFKA_LOG));
    assert!(image.features().eq(kafka.features()));
    assert_eq!(image.write_levels(), kafka.write_levels());
    assert_eq!(registration::bootstrap(&image, Vec::new(), 1), []);
    let (stopped, _) = apply(&image, registration::fence(&image, NODE));
    assert!(stopped.broker(NODE).unwrap().fenced);
    assert_eq!(registration::fence(&stopped, NODE), []);
}

/// The image with topics (name, partitions); their ids count from 1000.
pub(crate) fn add_topics(image: &Image, topics: &[(&str, i32)]) -> Image {
    let mut image = image.clone();
    for (n, (name, partitions)) in topics.iter().enumerate() {
        let topic = CreatableTopic::default()
            .with_name(kafka_protocol::protocol::StrBytes::from_string(name.to_string()).into())
            .with_num_partitions(*partitions)
            .with_replication_factor(1);
        let new_id = || Uuid::from_u128(1000 + n as u128);
        let rules =
            CreateRules { num_partitions: 1, replication_factor: 1, check_config: &|_| Ok(()), new_id: &new_id };
        image = apply(&image, topics::create_topics(&image, &[topic], &rules).0).0;
    }
    image
}

pub(crate) fn with_config(image: &Image, resource_type: i8, resource: &str, name: &str, value: &str) -> Image {
    let (resource_name, name, value) = (resource.to_owned(), name.to_owned(), Some(value.to_owned()));
    apply(image, vec![Record::Config { resource_type, resource_name, name, value }]).0
}

pub(super) fn topic_records(n: u128) -> Vec<Record> {
    let image = new_cluster();
    let topic = CreatableTopic::default()
        .with_name(kafka_protocol::protocol::StrBytes::from_string(format!("topic-{n}")).into())
        .with_num_partitions(1)
        .with_replication_factor(1);
    let new_id = || Uuid::from_u128(n * 0x9e37_79b9_7f4a_7c15 + 1);
    let rules = CreateRules { num_partitions: 1, replication_factor: 1, check_config: &|_| Ok(()), new_id: &new_id };
    topics::create_topics(&image, &[topic], &rules).0
}

#[test]
fn changes_tell_what_to_make_and_what_to_delete() {
    let (image, changes) = apply(&new_cluster(), topic_records(1));
    let id = image.topic("topic-1").unwrap().id;
    assert_eq!(changes.created, BTreeMap::from([(id, 0)]));
    let set = |resource_type, name: &str, value: Option<&str>| Record::Config {
        resource_type,
        resource_name: name.to_owned(),
        name: "retention.ms".to_owned(),
        value: value.map(str::to_owned),
    };
    let (image, changes) = apply(&image, vec![set(TOPIC_RESOURCE, "topic-1", Some("5"))]);
    assert!(changes.reconfigured.contains("topic-1") && !changes.broker_reconfigured);
    let (_, changes) = apply(&image, vec![set(BROKER_RESOURCE, "", Some("5"))]);
    assert!(changes.broker_reconfigured);
    let (unset, _) = apply(&image, vec![set(TOPIC_RESOURCE, "topic-1", None)]);
    assert_eq!(unset.config_overrides(TOPIC_RESOURCE, "topic-1"), None);
    let (gone, changes) = apply(&image, vec![Record::RemoveTopic { topic_id: id }]);
    assert_eq!((changes.deleted, changes.created.len()), (vec![id], 0));
    assert!(gone.topic("topic-1").is_none() && gone.topic_by_id(id).is_none());
    assert_eq!(gone.config_overrides(TOPIC_RESOURCE, "topic-1"), None);
    let created = apply(&image, topic_records(2)).0.topic("topic-2").unwrap().id;
    let brief = [topic_records(2), vec![Record::RemoveTopic { topic_id: created }]].concat();
    assert_eq!(apply(&image, brief).1.deleted, Vec::<Uuid>::new(), "what came and went at once never had logs");
}

#[test]
fn a_metadata_transaction_counts_from_its_end_on() {
    let level = || Record::FeatureLevel { name: "f".to_owned(), level: 3 };
    let begin = || Record::BeginTransaction { name: None };
    let empty = Image::default();
    assert_eq!(apply(&empty, vec![begin(), level()]).0.feature_level("f"), 0);
    assert_eq!(apply(&empty, vec![begin(), level(), Record::EndTransaction]).0.feature_level("f"), 3);
    assert_eq!(
        apply(&empty, vec![begin(), level(), Record::AbortTransaction { reason: None }]).0.feature_level("f"),
        0
    );
    for wrong in [vec![Record::EndTransaction], vec![begin(), begin()]] {
        let mut delta = Delta::new(&empty);
        assert!(wrong.into_iter().try_for_each(|record| delta.apply(record)).is_err());
    }
}

#[test]
fn a_log_that_contradicts_itself_is_refused() {
    let image = apply(&new_cluster(), topic_records(1)).0;
    let unknown = Uuid::from_u128(99);
    let change = Record::PartitionChange(PartitionChange::new(unknown, 0));
    let wrong_partition = Record::PartitionChange(PartitionChange::new(image.topic("topic-1").unwrap().id, 1));
    let stale = Record::FenceBroker { id: NODE, epoch: 3 };
    let again = topic_records(1).remove(0);
    for record in [change, wrong_partition, stale, again, Record::RemoveTopic { topic_id: unknown }] {
        assert!(Delta::new(&image).apply(record.clone()).is_err(), "{record:?}");
    }
}

#[test]
fn producer_ids_come_in_blocks_that_never_overlap() {
    let image = new_cluster();
    let (records, block) = producer_id_block(&image, NODE);
    assert_eq!(block, 0..1000);
    let (image, _) = apply(&image, records);
    assert_eq!(producer_id_block(&image, NODE).1, 1000..2000);
}

#[test]
fn directories_are_noted_where_the_image_is_wrong() {
    let image = apply(&new_cluster(), topic_records(1)).0;
    let id = image.topic("topic-1").unwrap().id;
    let here = Uuid::from_u128(6);
    assert_eq!(registration::directories(&image, NODE, |_, _| Some(here), [id]), []);
    let moved = Uuid::from_u128(8);
    let (image, _) = apply(&image, registration::directories(&image, NODE, |_, _| Some(moved), [id]));
    assert_eq!(image.topic("topic-1").unwrap().partition(0).unwrap().directories, [moved]);
    assert_eq!(registration::directories(&image, NODE, |_, _| Some(moved), [id]), []);
}
