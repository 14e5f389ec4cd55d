//! The runtime over real logs: what is answered is written, survives a restart, and few batches carry many commits.

use std::collections::BTreeMap;
use std::future::Future;

use futures_util::future::join_all;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use kafka_protocol::messages::{OffsetCommitRequest, SyncGroupRequest};
use kafka_protocol::protocol::StrBytes;
use ottla_storage::io::Io;
use ottla_storage::log::{LogManager, LogManagerOptions};
use tokio::task::LocalSet;

use super::*;

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// Runs `test` with a coordinator on the logs in `dir`, and closes them.
fn with_groups<F: Future<Output = ()>>(dir: &std::path::Path, test: impl FnOnce(GroupCoordinator) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        let config = Arc::new(Config::for_tests(dir, &[("offsets.topic.num.partitions", "3")]));
        let logs = LogManager::open(LogManagerOptions {
            dirs: config.log_dirs.clone(),
            node_id: config.node_id,
            cluster_id: None,
            defaults: config.log_config(&BTreeMap::new()),
            tail_bytes: 64 << 20,
            producer_id_expiration_ms: config.producer_id_expiration_ms,
            retention_check_interval_ms: 300_000,
            recovery_threads: 1,
            now_ms: Clock.now_ms(),
            io: Some(Io::plain()),
        })
        .unwrap();
        let partitions = Arc::new(Partitions::new(logs.clone(), Clock));
        let endpoints = vec![("PLAINTEXT".to_owned(), "localhost".to_owned(), 9092)];
        let metadata = Metadata::open(config.clone(), logs.clone(), partitions.clone(), Clock, endpoints);
        let metadata = metadata.await.unwrap();
        let groups = GroupCoordinator::new(config, Clock, metadata.clone(), partitions);
        let running = tokio::task::spawn_local(groups.clone().run());
        test(groups).await;
        running.abort();
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
        let client = Client { id: "c", host: "/h", api_version: 9 };
        let topics = self.patiently(group, |turn| turn.commit_offsets(client, &request)).await.unwrap();
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
        self.loaded().iter().map(|partition| partition.log().log_end_offset()).sum()
    }
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
        let partition = groups.partition(groups.partition_of("g")).unwrap();
        assert_eq!(partition.log().log_end_offset(), 201);
        let mut batches = 0;
        let mut offset = 0;
        while offset < 201 {
            let read = partition.log().read(offset, 201, 1, true).await.unwrap().unwrap();
            let ottla_storage::log::LogSlice::Memory(bytes) = &read.slices[0] else { panic!("just written") };
            offset = ottla_storage::batch::BatchHeader::read(bytes).unwrap().next_offset();
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
