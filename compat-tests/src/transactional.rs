//! A transactional producer over a bare connection, of either generation: it says exactly what was asked and what was
//! answered, goes on with a broker that was killed, and can be dropped in the middle of anything.

use std::collections::{BTreeMap, BTreeSet};
use std::thread::sleep;
use std::time::{Duration, Instant};

use kafka_protocol::error::ResponseError::{self, *};
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, EndTxnRequest, FindCoordinatorRequest, InitProducerIdRequest,
    OffsetFetchRequest, ProduceRequest, TopicName, TransactionalId, TxnOffsetCommitRequest,
};
use kafka_protocol::protocol::{Request, StrBytes};

use crate::batch::Batch;
use crate::connection::Connection;

const PATIENCE: Duration = Duration::from_secs(60);
const RETRY_PAUSE: Duration = Duration::from_millis(5);
/// What FindCoordinator calls them.
const GROUP_KEY: i8 = 0;
const TRANSACTION_KEY: i8 = 1;
const IS_TRANSACTIONAL: i16 = 0x10;

/// What a client answers with another attempt.
const RETRIABLE: &[ResponseError] = &[
    ConcurrentTransactions,
    CoordinatorLoadInProgress,
    CoordinatorNotAvailable,
    NotCoordinator,
    NotEnoughReplicas,
    NotLeaderOrFollower,
    RequestTimedOut,
    UnknownTopicOrPartition,
    UnstableOffsetCommit,
];

/// An error that no further attempt would change.
#[derive(Clone, Copy, Debug)]
pub struct Refused {
    pub code: ResponseError,
    /// An attempt before had no answer: it may have done what was asked.
    pub perhaps_done: bool,
}

pub type Answer<T> = Result<T, Refused>;

/// The broker, which may be away for a while.
pub struct Remote {
    bootstrap: String,
    connection: Option<Connection>,
}

impl Remote {
    pub fn new(bootstrap: &str) -> Remote {
        Remote { bootstrap: bootstrap.to_owned(), connection: None }
    }

    /// The first answer that is none of `RETRIABLE`; `codes` finds the errors in it.
    fn call<R: Request>(
        &mut self,
        request: &R,
        version: i16,
        codes: impl Fn(&R::Response) -> Vec<i16>,
    ) -> Answer<R::Response> {
        let deadline = Instant::now() + PATIENCE;
        let (mut perhaps_done, mut errors) = (false, Vec::new());
        loop {
            assert!(Instant::now() < deadline, "no answer to API {} but {errors:?} within {PATIENCE:?}", R::KEY);
            let Ok(response) = self.attempt(request, version) else {
                (self.connection, perhaps_done) = (None, true);
                sleep(RETRY_PAUSE);
                continue;
            };
            errors = codes(&response).into_iter().filter_map(ResponseError::try_from_code).collect();
            match errors.iter().find(|code| !RETRIABLE.contains(code)) {
                Some(code) => return Err(Refused { code: *code, perhaps_done }),
                None if errors.is_empty() => return Ok(response),
                None => sleep(RETRY_PAUSE),
            }
            // The coordinator says so when it does not know what became of its write.
            perhaps_done |= errors.contains(&NotCoordinator);
        }
    }

    fn attempt<R: Request>(&mut self, request: &R, version: i16) -> std::io::Result<R::Response> {
        if self.connection.is_none() {
            self.connection = Some(Connection::try_open(&self.bootstrap)?);
        }
        self.connection.as_mut().expect("just opened").try_call(request, version)
    }

    /// The broker makes the coordinator's topic if it is not there.
    fn find_coordinator(&mut self, key: &str, key_type: i8) -> Answer<()> {
        let request = FindCoordinatorRequest::default().with_key(text(key)).with_key_type(key_type);
        self.call(&request, 3, |response| vec![response.error_code]).map(drop)
    }

    /// Where a group goes on, once no transaction is under way that may change it.
    pub fn stable_offset(&mut self, group: &str, topic: &str, partition: i32) -> i64 {
        let asked = OffsetFetchRequestTopic::default().with_name(name(topic)).with_partition_indexes(vec![partition]);
        let request = OffsetFetchRequest::default()
            .with_group_id(text(group).into())
            .with_topics(Some(vec![asked]))
            .with_require_stable(true);
        let found = self.find_coordinator(group, GROUP_KEY);
        let response = found.and_then(|()| {
            self.call(&request, 7, |response| {
                let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
                partitions.map(|partition| partition.error_code).chain([response.error_code]).collect()
            })
        });
        let response = response.unwrap_or_else(|refused| panic!("the offset of {group}: {refused:?}"));
        response.topics[0].partitions[0].committed_offset.max(0)
    }
}

/// The protocol that a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generation {
    /// Partitions are added before they are written to; the epoch stays.
    First,
    /// KIP-890: writing adds them, and the epoch rises with every transaction.
    Second,
}

pub struct TransactionalProducer {
    remote: Remote,
    generation: Generation,
    id: String,
    producer_id: i64,
    epoch: i16,
    /// By partition: the next one.
    sequences: BTreeMap<i32, i32>,
    /// Since the transaction began.
    added: BTreeSet<i32>,
    /// In this transaction.
    offsets_added: bool,
}

impl TransactionalProducer {
    /// Fences whoever has the id, and ends what that has open.
    pub fn start(bootstrap: &str, generation: Generation, id: &str, timeout: Duration) -> Answer<Self> {
        let mut remote = Remote::new(bootstrap);
        remote.find_coordinator(id, TRANSACTION_KEY)?;
        let request = InitProducerIdRequest::default()
            .with_transactional_id(Some(text(id).into()))
            .with_transaction_timeout_ms(timeout.as_millis() as i32)
            .with_producer_id((-1).into())
            .with_producer_epoch(-1);
        let response = remote.call(&request, 5, |response| vec![response.error_code])?;
        Ok(TransactionalProducer {
            remote,
            generation,
            id: id.to_owned(),
            producer_id: response.producer_id.0,
            epoch: response.producer_epoch,
            sequences: BTreeMap::new(),
            added: BTreeSet::new(),
            offsets_added: false,
        })
    }

    /// Its id and epoch.
    pub fn producer(&self) -> (i64, i16) {
        (self.producer_id, self.epoch)
    }

    pub fn remote(&mut self) -> &mut Remote {
        &mut self.remote
    }

    fn transactional_id(&self) -> TransactionalId {
        text(&self.id).into()
    }

    /// One batch for each partition, in one request.
    pub fn send(&mut self, topic: &str, batches: &BTreeMap<i32, Vec<String>>) -> Answer<()> {
        if self.generation == Generation::First {
            self.add_partitions(topic, batches.keys().copied().collect())?;
        }
        self.write(topic, batches)
    }

    /// The same without having asked, as a first generation should not: the coordinator never hears of it.
    pub fn write(&mut self, topic: &str, batches: &BTreeMap<i32, Vec<String>>) -> Answer<()> {
        let data = batches.iter().map(|(partition, values)| {
            let batch = Batch {
                attributes: IS_TRANSACTIONAL,
                producer_id: self.producer_id,
                producer_epoch: self.epoch,
                base_sequence: self.sequences.get(partition).copied().unwrap_or(0),
                values: values.iter().map(|value| Some(value.as_bytes().to_vec())).collect(),
                ..Batch::default()
            };
            PartitionProduceData::default().with_index(*partition).with_records(Some(batch.encode()))
        });
        let topic = TopicProduceData::default().with_name(name(topic)).with_partition_data(data.collect());
        let request = ProduceRequest::default()
            .with_transactional_id(Some(self.transactional_id()))
            .with_acks(-1)
            .with_timeout_ms(30_000)
            .with_topic_data(vec![topic]);
        let version = if self.generation == Generation::First { 11 } else { 12 };
        self.remote.call(&request, version, |response| {
            let partitions = response.responses.iter().flat_map(|topic| &topic.partition_responses);
            // What an attempt before has written.
            let is_new = |code: &i16| *code != DuplicateSequenceNumber.code();
            partitions.map(|partition| partition.error_code).filter(is_new).collect()
        })?;
        for (partition, values) in batches {
            *self.sequences.entry(*partition).or_default() += values.len() as i32;
        }
        Ok(())
    }

    fn add_partitions(&mut self, topic: &str, partitions: BTreeSet<i32>) -> Answer<()> {
        let missing: Vec<i32> = partitions.difference(&self.added).copied().collect();
        if missing.is_empty() {
            return Ok(());
        }
        let topic = AddPartitionsToTxnTopic::default().with_name(name(topic)).with_partitions(missing);
        let request = AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(self.transactional_id())
            .with_v3_and_below_producer_id(self.producer_id.into())
            .with_v3_and_below_producer_epoch(self.epoch)
            .with_v3_and_below_topics(vec![topic]);
        self.remote.call(&request, 3, |response| {
            let topics = response.results_by_topic_v3_and_below.iter();
            topics.flat_map(|topic| &topic.results_by_partition).map(|result| result.partition_error_code).collect()
        })?;
        self.added.extend(partitions);
        Ok(())
    }

    /// The group goes on at `offset` if the transaction is committed.
    pub fn send_offset(&mut self, group: &str, topic: &str, partition: i32, offset: i64) -> Answer<()> {
        if !self.offsets_added {
            self.remote.find_coordinator(group, GROUP_KEY)?;
            if self.generation == Generation::First {
                self.add_offsets(group)?;
            }
            self.offsets_added = true;
        }
        let partition = TxnOffsetCommitRequestPartition::default()
            .with_partition_index(partition)
            .with_committed_offset(offset)
            .with_committed_metadata(Some(text("")));
        let topic = TxnOffsetCommitRequestTopic::default().with_name(name(topic)).with_partitions(vec![partition]);
        let request = TxnOffsetCommitRequest::default()
            .with_transactional_id(self.transactional_id())
            .with_group_id(text(group).into())
            .with_producer_id(self.producer_id.into())
            .with_producer_epoch(self.epoch)
            .with_generation_id(-1)
            .with_topics(vec![topic]);
        let version = if self.generation == Generation::First { 3 } else { 5 };
        self.remote.call(&request, version, |response| {
            let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
            partitions.map(|partition| partition.error_code).collect()
        })?;
        Ok(())
    }

    fn add_offsets(&mut self, group: &str) -> Answer<()> {
        let request = AddOffsetsToTxnRequest::default()
            .with_transactional_id(self.transactional_id())
            .with_producer_id(self.producer_id.into())
            .with_producer_epoch(self.epoch)
            .with_group_id(text(group).into());
        self.remote.call(&request, 3, |response| vec![response.error_code]).map(drop)
    }

    pub fn end(&mut self, commit: bool) -> Answer<()> {
        let request = EndTxnRequest::default()
            .with_transactional_id(self.transactional_id())
            .with_producer_id(self.producer_id.into())
            .with_producer_epoch(self.epoch)
            .with_committed(commit);
        let version = if self.generation == Generation::First { 3 } else { 5 };
        let response = self.remote.call(&request, version, |response| vec![response.error_code])?;
        if self.generation == Generation::Second {
            (self.producer_id, self.epoch) = (response.producer_id.0, response.producer_epoch);
            self.sequences.clear();
        }
        self.added.clear();
        self.offsets_added = false;
        Ok(())
    }
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn name(topic: &str) -> TopicName {
    text(topic).into()
}
