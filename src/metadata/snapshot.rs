//! The state of the cluster as one file (`<end offset>-<epoch>.checkpoint`), in Apache Kafka's format: batches as in the
//! log, framed by control records. When one is written, and what of the log it replaces, is in `log.rs`.

use ottla_storage::batch::{BatchBuilder, Compression};
use uuid::Uuid;

use super::control::{self, KeyValue};
use super::image::{ELIGIBLE_LEADER_REPLICAS_VERSION, Image, METADATA_VERSION, PartitionImage};
use super::records::{Partition, Record, RegisterBroker};

/// Batches are closed at this size; Kafka reads up to 8 MiB.
const BATCH_BYTES: usize = 256 << 10;
/// In the record of a producer id block that nobody has asked for.
const NOBODY: i32 = -1;

/// Of the snapshot of all below `end_offset`, which ends in `epoch`.
pub fn file_name(end_offset: i64, epoch: i32) -> String {
    format!("{end_offset:020}-{epoch:010}.checkpoint")
}

/// (end offset, epoch)
pub fn parse_file_name(name: &str) -> Option<(i64, i32)> {
    let (offset, epoch) = name.strip_suffix(".checkpoint")?.split_once('-')?;
    Some((offset.parse().ok()?, epoch.parse().ok()?))
}

/// The file's content. `quorum`: what control records say of the log's version and voters; `last_ms`: time of the last
/// record it stands for.
pub fn encode(image: &Image, quorum: &[KeyValue], epoch: i32, last_ms: i64, now_ms: i64) -> Vec<u8> {
    let mut file = File { bytes: Vec::new(), next_offset: 0, epoch };
    let header = [control::snapshot_header(last_ms)];
    file.control(header.iter().chain(quorum), now_ms);
    let mut batch = BatchBuilder::new(Compression::None);
    let mut batch_bytes = 0;
    for value in records(image) {
        batch_bytes += value.len();
        batch.record(now_ms, None, Some(&value), &[]);
        if batch_bytes >= BATCH_BYTES {
            file.batch(std::mem::replace(&mut batch, BatchBuilder::new(Compression::None)));
            batch_bytes = 0;
        }
    }
    if !batch.is_empty() {
        file.batch(batch);
    }
    file.control([control::snapshot_footer()].iter(), now_ms);
    file.bytes
}

struct File {
    bytes: Vec<u8>,
    next_offset: i64,
    epoch: i32,
}

impl File {
    fn control<'a>(&mut self, records: impl Iterator<Item = &'a KeyValue>, now_ms: i64) {
        let mut batch = BatchBuilder::new(Compression::None).control(true);
        for (key, value) in records {
            batch.record(now_ms, Some(key), Some(value), &[]);
        }
        self.batch(batch);
    }

    fn batch(&mut self, batch: BatchBuilder) {
        let records = batch.len() as i64;
        self.bytes.extend_from_slice(&batch.build(self.next_offset, self.epoch));
        self.next_offset += records;
    }
}

/// In the order in which Kafka writes them; only that metadata.version comes first matters.
fn records(image: &Image) -> impl Iterator<Item = Vec<u8>> {
    let levels = image.write_levels();
    let feature = |(name, level): (&str, i16)| Record::FeatureLevel { name: name.to_owned(), level };
    let first = image.features().filter(|(name, _)| *name == METADATA_VERSION).map(feature);
    let others = image.features().filter(|(name, _)| *name != METADATA_VERSION).map(feature);
    let brokers = image.brokers().map(|broker| {
        Record::RegisterBroker(RegisterBroker {
            fenced: broker.fenced,
            in_controlled_shutdown: broker.in_controlled_shutdown,
            log_dirs: broker.log_dirs.clone(),
            ..(*broker.registration).clone()
        })
    });
    let with_elr = image.feature_level(ELIGIBLE_LEADER_REPLICAS_VERSION) > 0;
    let topics = image.topics().flat_map(move |topic| {
        let partitions = (0..).zip(&topic.partitions);
        let partitions = partitions.map(move |(index, image)| partition(topic.id, index, image.clone(), with_elr));
        let name = Record::Topic { name: topic.name.to_string(), topic_id: topic.id };
        std::iter::once(name).chain(partitions)
    });
    let configs = image.configs.iter().flat_map(|((resource_type, resource_name), overrides)| {
        overrides.iter().map(|(name, value)| Record::Config {
            resource_type: *resource_type,
            resource_name: resource_name.clone(),
            name: name.clone(),
            value: Some(value.clone()),
        })
    });
    let ids = (image.next_producer_id() > 0).then(|| Record::ProducerIds {
        broker_id: NOBODY,
        broker_epoch: i64::from(NOBODY),
        next_producer_id: image.next_producer_id(),
    });
    let records = first.chain(others).chain(brokers).chain(topics).chain(configs).chain(ids);
    let carried = image.carried.iter().map(|(_, bytes)| bytes.to_vec());
    records.map(move |record| record.encode(record.version(levels))).chain(carried)
}

fn partition(topic_id: Uuid, partition_id: i32, partition: PartitionImage, with_elr: bool) -> Record {
    let elr = |ids: Vec<i32>| (with_elr && !ids.is_empty()).then_some(ids);
    Record::Partition(Partition {
        partition_id,
        topic_id,
        replicas: partition.replicas,
        isr: partition.isr,
        removing_replicas: partition.removing_replicas,
        adding_replicas: partition.adding_replicas,
        leader: partition.recorded_leader,
        leader_recovery_state: partition.leader_recovery_state,
        leader_epoch: partition.leader_epoch,
        partition_epoch: partition.partition_epoch,
        directories: partition.directories,
        eligible_leader_replicas: elr(partition.eligible_leader_replicas),
        last_known_elr: elr(partition.last_known_elr),
    })
}

#[cfg(test)]
mod tests {
    use ottla_storage::batch::batches;

    use super::super::tests::{apply, entries, new_cluster, raw_records, replayed, topic_records};
    use super::*;

    /// With ACLs, quotas, SCRAM credentials and settings of every kind of resource, some of them taken back.
    const KAFKA_LOG: &[u8] = include_bytes!("../../tests/fixtures/metadata/all-kinds.log");
    /// Of all below `END_OFFSET` in it.
    const KAFKA_SNAPSHOT: &[u8] = include_bytes!("../../tests/fixtures/metadata/all-kinds.checkpoint");
    const END_OFFSET: i64 = 113;

    /// The records' bytes in an order of their own, and a broker's features in theirs: Kafka has both from hash maps.
    fn said(content: &[u8]) -> Vec<Vec<u8>> {
        let said = raw_records(content, false).into_iter().map(|(_, value)| match Record::decode(&value).unwrap() {
            (Record::RegisterBroker(mut broker), version) => {
                broker.features.sort_by(|a, b| a.name.cmp(&b.name));
                Record::RegisterBroker(broker).encode(version)
            }
            _ => value,
        });
        let mut said: Vec<_> = said.collect();
        said.sort();
        said
    }

    fn kafkas_image() -> Image {
        replayed(entries(KAFKA_LOG).into_iter().filter(|(offset, _)| *offset < END_OFFSET))
    }

    #[test]
    fn it_holds_what_kafkas_snapshot_of_the_same_records_holds() {
        let control_records = raw_records(KAFKA_SNAPSHOT, true);
        let [header, quorum @ .., _] = &control_records[..] else { panic!("{control_records:?}") };
        let ours = encode(&kafkas_image(), quorum, 1, 0, 0);
        assert_eq!(said(&ours), said(KAFKA_SNAPSHOT));
        // Then the header has Kafka's time too.
        let last_ms = header.1.get(2..10).map(|ms| i64::from_be_bytes(ms.try_into().unwrap())).unwrap();
        assert_eq!(raw_records(&encode(&kafkas_image(), quorum, 1, last_ms, 0), true), control_records);
    }

    #[test]
    fn what_is_read_back_is_what_was_written() {
        let records = (1..=3000).flat_map(topic_records).collect();
        for image in [kafkas_image(), apply(&new_cluster(), records).0] {
            let content = encode(&image, &[], 1, 0, 0);
            let again = replayed(entries(&content));
            assert!(again.topics().eq(image.topics()));
            assert!(again.configs.iter().eq(image.configs.iter()));
            assert!(again.carried.iter().eq(image.carried.iter()));
            assert_eq!(again.features, image.features);
            assert_eq!(again.next_producer_id(), image.next_producer_id());
            let state =
                |image: &Image| image.brokers().map(|b| (b.fenced, b.in_controlled_shutdown)).collect::<Vec<_>>();
            assert_eq!(state(&again), state(&image));
            assert_eq!(encode(&again, &[], 1, 0, 0), content);
            let batches = batches(&content).map(|item| item.unwrap().2.len()).collect::<Vec<_>>();
            assert!(
                batches.len() > content.len() / BATCH_BYTES && batches.iter().all(|bytes| *bytes < 2 * BATCH_BYTES)
            );
        }
    }

    #[test]
    fn names() {
        assert_eq!(file_name(113, 1), "00000000000000000113-0000000001.checkpoint");
        assert_eq!(parse_file_name(&file_name(113, 1)), Some((113, 1)));
        for other in
            ["bootstrap.checkpoint", "00000000000000000113-0000000001.checkpoint.tmp", "leader-epoch-checkpoint"]
        {
            assert_eq!(parse_file_name(other), None);
        }
    }
}
