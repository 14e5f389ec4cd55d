//! The runtime over real logs: what is answered is written, survives a restart, and few batches carry many commits.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::pin;

use futures_util::future::join_all;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::messages::{JoinGroupRequest, OffsetCommitRequest, SyncGroupRequest, TxnOffsetCommitRequest};
use kafka_protocol::protocol::StrBytes;
use ottla_storage::batch::{BatchBuilder, Compression};
use ottla_storage::io::Io;
use ottla_storage::log::{LogManager, LogManagerOptions};
use ottla_storage::validate::ValidBatch;
use tokio::task::LocalSet;

use super::*;
use crate::group::{Client, Turn};
use crate::metadata::topics::CONSUMER_OFFSETS;
use crate::partition::Partition;
use crate::txn::Producer;
use crate::txn::records::State;

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn with_groups<F: Future<Output = ()>>(dir: &std::path::Path, test: impl FnOnce(GroupCoordinator) -> F) {
    with_coordinators(dir, |groups, _| test(groups));
}

/// Runs `test` with the coordinators on the logs in `dir`, and closes them.
fn with_coordinators<F: Future<Output = ()>>(
    dir: &std::path::Path,
    test: impl FnOnce(GroupCoordinator, TransactionCoordinator) -> F,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        let settings = [("offsets.topic.num.partitions", "3"), ("transaction.state.log.num.partitions", "3")];
        let config = Arc::new(Config::for_tests(dir, &settings));
        let options = LogManagerOptions { io: Some(Io::plain()), ..config.log_options(Clock.now_ms()) };
        let logs = LogManager::open(options).unwrap();
        let partitions = Arc::new(Partitions::new(logs.clone(), Clock));
        let endpoints = vec![("PLAINTEXT".to_owned(), "localhost".to_owned(), 9092)];
        let metadata = Metadata::open(config.clone(), logs.clone(), partitions.clone(), Clock, endpoints);
        let metadata = metadata.await.unwrap();
        let groups = GroupCoordinator::new(config.clone(), Clock, metadata.clone(), partitions.clone());
        let to_groups = groups.clone();
        let transactions = TransactionCoordinator::new(config, Clock, metadata.clone(), partitions, to_groups);
        let running = tokio::task::spawn_local(groups.clone().run());
        let running_too = tokio::task::spawn_local(transactions.clone().run());
        test(groups, transactions).await;
        running.abort();
        running_too.abort();
        metadata.close().await.unwrap();
        logs.close(metadata.broker_epoch()).await.unwrap();
    });
}

impl GroupCoordinator {
    /// Until it is loaded.
    async fn patiently<T>(&self, group: &str, handle: impl Fn(&mut Turn<'_>) -> T) -> T {
        loop {
            match self.call(group, &handle).await {
                Ok(answer) => return answer,
                Err(ErrorCode::CoordinatorLoadInProgress) => tokio::task::yield_now().await,
                Err(code) => panic!("{code:?}"),
            }
        }
    }

    async fn commit(&self, group: &str, topic: &str, offset: i64) {
        let partition = OffsetCommitRequestPartition::default().with_committed_offset(offset);
        let topic = OffsetCommitRequestTopic::default().with_name(text(topic).into()).with_partitions(vec![partition]);
        let request = OffsetCommitRequest::default()
            .with_group_id(text(group).into())
            .with_generation_id_or_member_epoch(-1)
            .with_retention_time_ms(-1)
            .with_topics(vec![topic]);
        let topics = self.patiently(group, |turn| turn.commit_offsets(9, &request)).await.unwrap();
        assert_eq!(topics[0].partitions[0].error_code, 0);
    }

    async fn committed(&self, group: &str) -> Vec<i64> {
        let request = OffsetFetchRequestGroup::default()
            .with_group_id(text(group).into())
            .with_member_id(None)
            .with_member_epoch(-1)
            .with_topics(None);
        let found = self.patiently(group, |turn| turn.fetch_offsets(&request, true)).await.unwrap();
        found.topics.iter().map(|topic| topic.partitions[0].committed_offset).collect()
    }

    fn log_ends(&self) -> i64 {
        self.shared.loaded().iter().map(|partition| partition.log().log_end_offset()).sum()
    }
}

#[test]
fn commits_that_overlap_are_taken_in_the_order_they_were_started() {
    let dir = tempfile::tempdir().unwrap();
    with_groups(dir.path(), async |groups| {
        groups.ensure_topic().await.unwrap();
        groups.commit("g", "a", 0).await;
        join_all((1..=20).map(|offset| groups.commit("g", "a", offset))).await;
        assert_eq!(groups.committed("g").await, [20]);
    });
    with_groups(dir.path(), async |groups| assert_eq!(groups.committed("g").await, [20], "as the log has it"));
}

#[test]
fn commits_are_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    with_groups(dir.path(), async |groups| {
        let early = groups.call("g", |_| ()).await;
        assert_eq!(early, Err(ErrorCode::NotCoordinator), "there is no offsets topic yet");
        groups.ensure_topic().await.unwrap();
        for (group, offset) in [("g", 1), ("h", 2), ("g", 3)] {
            groups.commit(group, "t", offset).await;
        }
        assert_eq!(groups.committed("g").await, [3]);
    });
    with_groups(dir.path(), async |groups| {
        assert_eq!((groups.committed("g").await, groups.committed("h").await), (vec![3], vec![2]));
        assert!(groups.committed("nobody").await.is_empty());
        assert_eq!(groups.log_ends(), 3, "nothing was written for looking");
    });
}

#[test]
fn many_commits_at_once_become_few_batches() {
    let dir = tempfile::tempdir().unwrap();
    with_groups(dir.path(), async |groups| {
        groups.ensure_topic().await.unwrap();
        groups.commit("g", "t", 0).await;
        let topics: Vec<String> = (0..200).map(|i| format!("t{i}")).collect();
        join_all(topics.iter().map(|topic| groups.commit("g", topic, 1))).await;
        assert_eq!(groups.committed("g").await.len(), 201);
        let partition = groups.shared.partition(groups.partition_of("g")).unwrap();
        assert_eq!(partition.log().log_end_offset(), 201);
        let mut batches = 0;
        let mut offset = 0;
        while offset < 201 {
            let read = partition.log().read(offset, 201, 1, true).await.unwrap().unwrap();
            let bytes = read.into_bytes().await.unwrap();
            offset = ottla_storage::batch::BatchHeader::read(&bytes).unwrap().next_offset();
            batches += 1;
        }
        assert!(batches <= 4, "{batches} batches");
    });
}

#[test]
fn a_join_is_answered_when_its_timer_fires() {
    let dir = tempfile::tempdir().unwrap();
    with_groups(dir.path(), async |groups| {
        groups.ensure_topic().await.unwrap();
        groups.patiently("g", |_| ()).await;
        let protocol = kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol::default();
        let join = |member: &str, session_timeout_ms| {
            JoinGroupRequest::default()
                .with_group_id(text("g").into())
                .with_member_id(text(member))
                .with_session_timeout_ms(session_timeout_ms)
                .with_rebalance_timeout_ms(300)
                .with_protocol_type(text("consumer"))
                .with_protocols(vec![protocol.clone().with_name(text("range"))])
        };
        let client = Client { id: "c", host: "/h", api_version: 3 };
        let first = groups.join(client, &join("", 10_000)).await.unwrap();
        assert_eq!((first.error_code, first.generation_id), (0, 1));
        let sync = SyncGroupRequest::default().with_group_id(text("g").into()).with_generation_id(1);
        let synced = groups.sync(&sync.with_member_id(first.member_id.clone())).await.unwrap();
        assert_eq!(synced.error_code, 0);
        // The first does not join again: the second waits for its rebalance timeout.
        let second = groups.join(client, &join("", 10_000)).await.unwrap();
        assert_eq!((second.error_code, second.generation_id, second.members.len()), (0, 2, 1));
    });
}

impl TransactionCoordinator {
    /// Until it is loaded, and the transaction before is complete.
    async fn patiently<T>(
        &self,
        id: &str,
        handle: impl Fn(&mut crate::txn::Turn<'_>) -> Result<T, ApiError>,
    ) -> Result<T, ErrorCode> {
        loop {
            match self.call(id, &handle).await.and_then(|result| result.map_err(|error| error.code)) {
                Err(ErrorCode::CoordinatorLoadInProgress | ErrorCode::ConcurrentTransactions) => {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                result => return result,
            }
        }
    }

    async fn init(&self, id: &str) -> Producer {
        self.patiently(id, |turn| turn.init_producer(id, 60_000, None)).await.unwrap()
    }

    async fn end(&self, id: &str, producer: Producer, commit: bool) -> Result<Producer, ErrorCode> {
        self.patiently(id, |turn| turn.end(id, producer, commit, 2)).await
    }

    async fn state(&self, id: &str) -> State {
        self.patiently(id, |turn| turn.describe(id).map(|transaction| transaction.state)).await.unwrap()
    }

    async fn await_state(&self, id: &str, state: State) {
        while self.state(id).await != state {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn create(&self, topic: &str) -> Arc<Partition> {
        let creatable =
            CreatableTopic::default().with_name(text(topic).into()).with_num_partitions(1).with_replication_factor(1);
        self.shared.metadata.create_topics(vec![creatable], false).await.unwrap();
        self.topic(topic)
    }

    fn topic(&self, topic: &str) -> Arc<Partition> {
        let id = self.shared.metadata.image().topic(topic).unwrap().id;
        self.shared.partitions.get(id, 0).unwrap()
    }
}

fn partitions(topic: &str, index: i32) -> crate::txn::records::Partitions {
    [(topic.into(), BTreeSet::from([index]))].into()
}

/// One record of the producer's transaction.
async fn send(partition: &Partition, producer: Producer) {
    let mut batch = BatchBuilder::new(Compression::None).producer(producer.id, producer.epoch, 0).transactional(true);
    batch.record(Clock.now_ms(), None, Some(b"v"), &[]);
    let bytes = batch.build(0, -1);
    let valid = ValidBatch { header: BatchHeader::read(&bytes).unwrap(), bytes, log_append_time: -1 };
    let appended = partition.log.append(&valid, 0, Clock.now_ms()).unwrap();
    partition.log.written(appended.last_offset + 1).await.unwrap();
}

#[test]
fn a_transaction_ends_with_markers_and_what_is_decided_is_carried_out_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    with_coordinators(dir.path(), async |_, transactions| {
        let partition = transactions.create("t").await;
        transactions.ensure_topic().await.unwrap();
        let first = transactions.init("pay").await;
        assert_eq!(transactions.admit("pay", first, &partitions("t", 0), true).await, Ok(Default::default()));
        send(&partition, first).await;
        assert_eq!(partition.log.last_stable_offset(), 0);
        let second = transactions.end("pay", first, true).await.unwrap();
        transactions.await_state("pay", State::CompleteCommit).await;
        let log = &partition.log;
        assert_eq!((log.last_stable_offset(), log.log_end_offset()), (2, 2), "a record and a marker");
        assert_eq!(log.producer(first.id).map(|known| known.epoch), Some(second.epoch));

        let stale = transactions.admit("pay", first, &partitions("t", 0), true).await;
        assert_eq!(stale, Err(ErrorCode::InvalidProducerEpoch));
        transactions.admit("pay", second, &partitions("t", 0), true).await.unwrap();
        send(&partition, second).await;
        // The broker stops when the client has its answer, and partitions have perhaps not been told.
        assert!(transactions.end("pay", second, false).await.is_ok());
    });
    with_coordinators(dir.path(), async |_, transactions| {
        transactions.await_state("pay", State::CompleteAbort).await;
        let partition = transactions.topic("t");
        assert_eq!(partition.log.last_stable_offset(), 4);
        assert_eq!(partition.log.aborted_transactions(0, 4).unwrap().len(), 1);
        let third = transactions.init("pay").await;
        assert_eq!(third.epoch, 3);
    });
}

#[test]
fn who_stops_can_wait_until_what_is_decided_is_carried_out() {
    let dir = tempfile::tempdir().unwrap();
    with_coordinators(dir.path(), async |_, transactions| {
        let partition = transactions.create("t").await;
        transactions.ensure_topic().await.unwrap();
        transactions.settled().await;
        let producer = transactions.init("pay").await;
        transactions.admit("pay", producer, &partitions("t", 0), true).await.unwrap();
        send(&partition, producer).await;
        let mut end = pin!(transactions.end("pay", producer, true));
        tokio::select! {
            biased;
            _ = &mut end => panic!("decided and told in one step"),
            () = std::future::ready(()) => {}
        }
        assert_eq!(partition.log.last_stable_offset(), 0);
        transactions.settled().await;
        assert_eq!(partition.log.last_stable_offset(), 2);
        end.await.unwrap();
    });
}

#[test]
fn offsets_in_a_transaction_count_when_it_commits() {
    let dir = tempfile::tempdir().unwrap();
    let commit = |offset| {
        let partition = TxnOffsetCommitRequestPartition::default().with_committed_offset(offset);
        let topic = TxnOffsetCommitRequestTopic::default().with_name(text("t").into()).with_partitions(vec![partition]);
        TxnOffsetCommitRequest::default()
            .with_group_id(text("g").into())
            .with_topics(vec![topic])
            .with_generation_id(-1)
    };
    let offsets = |groups: &GroupCoordinator| partitions(CONSUMER_OFFSETS, groups.partition_of("g"));
    with_coordinators(dir.path(), async |groups, transactions| {
        groups.ensure_topic().await.unwrap();
        transactions.ensure_topic().await.unwrap();
        groups.commit("g", "t", 1).await;
        let first = transactions.init("pay").await;
        let unknown = transactions.admit("pay", first, &offsets(&groups), false).await;
        assert_eq!(unknown, Ok(offsets(&groups)), "an older client has to add the group before");
        transactions.admit("pay", first, &offsets(&groups), true).await.unwrap();
        let request = commit(5);
        let write = |turn: &mut Turn<'_>| turn.commit_transactional_offsets(5, &request).map(drop);
        groups.call_in_transaction("g", first, write).await.unwrap().unwrap();
        assert_eq!(groups.committed("g").await, [-1], "not stable");
        let second = transactions.end("pay", first, true).await.unwrap();
        transactions.await_state("pay", State::CompleteCommit).await;
        assert_eq!(groups.committed("g").await, [5]);

        let late = groups.call_in_transaction("g", first, write).await;
        assert_eq!(late.map(|_| ()), Err(ErrorCode::InvalidProducerEpoch));
        transactions.admit("pay", second, &offsets(&groups), true).await.unwrap();
        let request = commit(9);
        let write = |turn: &mut Turn<'_>| turn.commit_transactional_offsets(5, &request).map(drop);
        groups.call_in_transaction("g", second, write).await.unwrap().unwrap();
    });
    with_coordinators(dir.path(), async |groups, transactions| {
        assert_eq!(groups.committed("g").await, [-1], "still open");
        transactions.init("pay").await;
        assert_eq!(groups.committed("g").await, [5], "who comes next has aborted it");
    });
}
