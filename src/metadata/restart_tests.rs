//! Metadata on real files: what is committed is there after a clean stop, after a crash, and when Apache Kafka wrote it.

use std::path::Path;
use std::task::Poll;

use kafka_protocol::protocol::StrBytes;
use ottla_storage::io::Io;
use ottla_storage::log::LogManagerOptions;
use tokio::task::LocalSet;

use super::*;

const KAFKA_LOG: &[u8] = include_bytes!("../../tests/fixtures/metadata/kafka-4.3.1.log");

struct Node {
    metadata: Metadata,
    logs: Arc<LogManager>,
    partitions: Arc<Partitions>,
}

impl Node {
    async fn start(dir: &Path) -> anyhow::Result<Node> {
        Node::start_with(dir, &[]).await
    }

    async fn start_with(dir: &Path, settings: &[(&str, &str)]) -> anyhow::Result<Node> {
        let config = Arc::new(Config::for_tests(dir, &[&[("node.id", "1")], settings].concat()));
        let logs = LogManager::open(LogManagerOptions {
            producer_id_expiration_ms: 1000,
            retention_check_interval_ms: 1000,
            io: Some(Io::plain()),
            ..config.log_options(0)
        })?;
        let partitions = Arc::new(Partitions::new(logs.clone(), Clock));
        let endpoints = vec![("PLAINTEXT".to_owned(), "localhost".to_owned(), 9092)];
        let metadata = Metadata::open(config, logs.clone(), partitions.clone(), Clock, endpoints).await?;
        Ok(Node { metadata, logs, partitions })
    }

    async fn stop(self) {
        self.metadata.close().await.unwrap();
        self.logs.close(self.metadata.broker_epoch()).await.unwrap();
    }

    async fn create(&self, name: &str, partitions: i32) -> Uuid {
        let topic = CreatableTopic::default()
            .with_name(StrBytes::from_string(name.to_owned()).into())
            .with_num_partitions(partitions)
            .with_replication_factor(1);
        let results = self.metadata.create_topics(vec![topic], false).await.unwrap();
        results[0].1.clone().unwrap().id
    }

    async fn delete(&self, id: Uuid) {
        let results = self.metadata.delete_topics(vec![TopicRef { name: None, id }]).await.unwrap();
        assert_eq!(results[0].result, Ok(()));
    }

    fn leader_epoch(&self, topic: &str) -> i32 {
        self.metadata.image().topic(topic).unwrap().partitions[0].leader_epoch
    }
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, test);
}

#[test]
fn what_was_committed_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    run(async {
        let node = Node::start(dir.path()).await.unwrap();
        let first_epoch = node.metadata.broker_epoch();
        let (kept, gone) = (node.create("kept", 2).await, node.create("gone", 1).await);
        assert!(node.partitions.get(kept, 1).is_some());
        node.delete(gone).await;
        assert!(node.partitions.get(gone, 0).is_none() && node.logs.get("gone", 0).is_none());
        let change = ConfigChange {
            resource_type: TOPIC_RESOURCE,
            resource_name: "kept".to_owned(),
            name: "retention.ms".to_owned(),
            value: Some("12345".to_owned()),
        };
        node.metadata.alter_configs(|_| (vec![change], ())).await.unwrap();
        assert_eq!(node.logs.get("kept", 0).unwrap().config().retention_ms, 12345);
        assert_eq!(node.metadata.next_producer_id().await, Ok(0));
        assert_eq!(node.metadata.next_producer_id().await, Ok(1));
        let cluster_id = node.metadata.image().cluster_id().to_owned();
        node.stop().await;

        let node = Node::start(dir.path()).await.unwrap();
        let image = node.metadata.image();
        assert_eq!(image.cluster_id(), cluster_id);
        assert_eq!(image.topics().map(|topic| &*topic.name).collect::<Vec<_>>(), ["kept"]);
        assert_eq!(node.logs.get("kept", 1).unwrap().config().retention_ms, 12345);
        assert!(node.metadata.broker_epoch() > first_epoch, "every start registers again");
        assert_eq!(node.leader_epoch("kept"), 0, "a clean stop keeps the leaders' epochs");
        assert_eq!(node.metadata.next_producer_id().await, Ok(1000), "ids are not given out again");
        assert_eq!(image.offset() + 2, node.logs.get(log::TOPIC, 0).unwrap().log_end_offset());
        node.stop().await;
    });
}

#[test]
fn partitions_of_a_directory_that_cannot_be_used_are_storage_errors_until_it_is_back() {
    let base = tempfile::tempdir().unwrap();
    let [a, b, away] = ["a", "b", "away"].map(|name| base.path().join(name));
    let dirs = format!("{},{}", a.display(), b.display());
    let overrides = [("log.dirs", &*dirs)];
    let start = || Node::start_with(&a, &overrides);
    run(async {
        let node = start().await.unwrap();
        let id = node.create("t", 4).await;
        let is_in_b = |node: &Node, index| node.logs.get("t", index).is_some_and(|log| log.dir().starts_with(&b));
        let in_b = [0, 1, 2, 3].map(|index| is_in_b(&node, index));
        assert!(in_b.contains(&true) && in_b.contains(&false));
        node.stop().await;

        std::fs::rename(&b, &away).unwrap();
        std::fs::write(&b, "not a directory").unwrap();
        let node = start().await.unwrap();
        let image = node.metadata.image();
        for (index, in_b) in (0..).zip(in_b) {
            let found = node.partitions.resolve(&image, crate::protocol::wire::TopicRef::Id(id), index).map(drop);
            assert_eq!(found, if in_b { Err(ErrorCode::KafkaStorageError) } else { Ok(()) });
        }
        let new = node.create("new", 2).await;
        assert!(node.partitions.get(new, 0).is_some() && node.partitions.get(new, 1).is_some());
        node.stop().await;

        std::fs::remove_file(&b).unwrap();
        std::fs::rename(&away, &b).unwrap();
        let node = start().await.unwrap();
        assert_eq!([0, 1, 2, 3].map(|index| is_in_b(&node, index)), in_b);
        assert!((0..4).all(|index| node.partitions.get(id, index).is_some()));
        node.stop().await;

        std::fs::remove_dir_all(&a).unwrap();
        std::fs::write(&a, "not a directory").unwrap();
        let error = format!("{:#}", start().await.err().unwrap());
        assert!(error.contains("__cluster_metadata-0 is in none of the log directories"), "{error}");
    });
}

#[test]
fn a_new_metadata_log_is_where_the_setting_says() {
    let base = tempfile::tempdir().unwrap();
    let [a, b] = ["a", "b"].map(|name| base.path().join(name));
    let dirs = format!("{},{}", a.display(), b.display());
    run(async {
        let settings = [("log.dirs", &*dirs), ("metadata.log.dir", b.to_str().unwrap())];
        let node = Node::start_with(&a, &settings).await.unwrap();
        assert!(b.join("__cluster_metadata-0").is_dir() && !a.join("__cluster_metadata-0").exists());
        node.stop().await;
        // Once it is somewhere it stays there.
        Node::start_with(&a, &settings[..1]).await.unwrap().stop().await;
        assert!(b.join("__cluster_metadata-0").is_dir() && !a.join("__cluster_metadata-0").exists());
    });
}

/// Written by `kafka-storage format --release-version 3.9 --add-scram ...` of 4.3.1.
const FORMATTED: &[u8] = include_bytes!("../../tests/fixtures/metadata/bootstrap.checkpoint");

#[test]
fn a_formatted_directory_begins_with_what_the_tool_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("bootstrap.checkpoint"), FORMATTED).unwrap();
    run(async {
        for _ in 0..2 {
            let node = Node::start(dir.path()).await.unwrap();
            let image = node.metadata.image();
            assert_eq!((image.feature_level("metadata.version"), image.feature_level("group.version")), (21, 0));
            assert_eq!(image.carried.iter().count(), 1, "the SCRAM credential");
            node.stop().await;
        }
    });
}

#[test]
fn a_crash_loses_nothing_and_gives_leaders_a_new_epoch() {
    let dir = tempfile::tempdir().unwrap();
    run(async {
        let node = Node::start(dir.path()).await.unwrap();
        let id = node.create("kept", 1).await;
        drop(node);
        let node = Node::start(dir.path()).await.unwrap();
        assert_eq!(node.metadata.image().topic("kept").unwrap().id, id);
        assert_eq!((node.leader_epoch("kept"), node.partitions.get(id, 0).unwrap().leader_epoch()), (1, 1));
        let quorum = std::fs::read_to_string(dir.path().join("__cluster_metadata-0/quorum-state")).unwrap();
        assert!(quorum.contains(r#""leaderEpoch":2"#), "{quorum}");
        node.stop().await;
    });
}

#[test]
fn logs_whose_topic_is_gone_are_set_aside_at_start() {
    let dir = tempfile::tempdir().unwrap();
    run(async {
        let node = Node::start(dir.path()).await.unwrap();
        let log_config = node.logs.get(log::TOPIC, 0).unwrap().config();
        for topic in ["stray", "kept"] {
            let other_id = Some(Uuid::from_u128(77));
            node.logs.create(topic, 1, other_id, (*log_config).clone(), 0).unwrap();
        }
        node.stop().await;
        let node = Node::start(dir.path()).await.unwrap();
        assert!(node.logs.get("stray", 1).is_none() && node.logs.get("kept", 1).is_none());
        assert!(node.logs.get(log::TOPIC, 0).is_some());
        node.stop().await;
        let node = Node::start(dir.path()).await.unwrap();
        let names =
            std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let strays: Vec<String> = names.filter(|name| name.ends_with("-stray")).collect();
        assert!(strays.len() == 2 && strays.iter().any(|name| name.starts_with("stray-1.")), "{strays:?}");
        node.stop().await;
    });
}

#[test]
fn a_change_is_finished_when_the_one_who_asked_has_gone() {
    let dir = tempfile::tempdir().unwrap();
    run(async {
        let node = Node::start(dir.path()).await.unwrap();
        let mut asked = Box::pin(node.create("orphan", 1));
        let polled = std::future::poll_fn(|cx| Poll::Ready(asked.as_mut().poll(cx).is_pending())).await;
        assert!(polled, "the write takes a moment");
        drop(asked);
        node.create("next", 1).await;
        assert!(node.metadata.image().topic("orphan").is_some());
        assert!(node.logs.get("orphan", 0).is_some());
        node.stop().await;
    });
}

#[test]
fn each_of_many_changes_at_once_starts_from_the_outcome_of_the_one_before() {
    let dir = tempfile::tempdir().unwrap();
    run(async {
        let node = Node::start(dir.path()).await.unwrap();
        node.create("topic", 1).await;
        let flush_ms = |image: &Image| {
            image
                .config_overrides(TOPIC_RESOURCE, "topic")
                .map_or(0, |overrides| overrides["flush.ms"].parse().unwrap())
        };
        let one_more = || {
            node.metadata.alter_configs(move |image| {
                let change = ConfigChange {
                    resource_type: TOPIC_RESOURCE,
                    resource_name: "topic".to_owned(),
                    name: "flush.ms".to_owned(),
                    value: Some((flush_ms(image) + 1).to_string()),
                };
                (vec![change], ())
            })
        };
        let (first, second, third) = tokio::join!(one_more(), one_more(), one_more());
        assert_eq!((first, second, third), (Ok(()), Ok(()), Ok(())));
        assert_eq!(flush_ms(&node.metadata.image()), 3);
    });
}

/// End offsets of the snapshots.
fn snapshots(dir: &Path) -> Vec<i64> {
    let names = std::fs::read_dir(dir.join("__cluster_metadata-0")).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut end_offsets: Vec<i64> = names.filter_map(|name| Some(snapshot::parse_file_name(&name)?.0)).collect();
    end_offsets.sort_unstable();
    end_offsets
}

#[test]
fn a_snapshot_takes_the_place_of_what_is_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let settings = [("metadata.log.max.record.bytes.between.snapshots", "2000"), ("metadata.max.retention.bytes", "0")];
    run(async {
        let mut node = Node::start_with(dir.path(), &settings).await.unwrap();
        let mut kept = Vec::new();
        let mut begins = 0;
        for round in 0..4 {
            for n in 10..30 {
                let name = format!("topic-{round}-{n}");
                let id = node.create(&name, 1).await;
                if n % 3 == 0 { node.delete(id).await } else { kept.push(name) }
            }
            let log = node.logs.get(log::TOPIC, 0).unwrap();
            assert!(log.log_start_offset() > begins, "it goes on at every start");
            begins = log.log_start_offset();
            assert_eq!(snapshots(dir.path()), [begins]);
            if round % 2 == 0 {
                drop((node, log))
            } else {
                node.stop().await
            }
            node = Node::start_with(dir.path(), &settings).await.unwrap();
            assert!(node.metadata.image().topics().map(|topic| &*topic.name).eq(&kept));
        }
    });
}

#[test]
fn a_snapshot_is_made_in_time_if_there_is_something_new() {
    let dir = tempfile::tempdir().unwrap();
    run(async {
        let settings = [("metadata.log.max.snapshot.interval.ms", "100")];
        let node = Node::start_with(dir.path(), &settings).await.unwrap();
        node.create("topic", 1).await;
        for _ in 0..2 {
            tokio::time::sleep(std::time::Duration::from_millis(110)).await;
            node.metadata.tick().await;
            let all = node.logs.get(log::TOPIC, 0).unwrap().log_end_offset();
            assert_eq!(snapshots(dir.path()).last(), Some(&all));
        }
        assert_eq!(snapshots(dir.path()).len(), 1);
    });
}

/// A directory as Apache Kafka 4.3.1 left it, without the topics' own logs.
fn kafka_directory(dir: &Path) {
    let partition = dir.join("__cluster_metadata-0");
    std::fs::create_dir_all(&partition).unwrap();
    std::fs::write(partition.join("00000000000000000000.log"), KAFKA_LOG).unwrap();
    std::fs::write(partition.join("leader-epoch-checkpoint"), "0\n4\n1 0\n2 68\n3 117\n4 142\n").unwrap();
    std::fs::write(partition.join("partition.metadata"), "version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAAAQ").unwrap();
    let quorum =
        r#"{"leaderId":1,"leaderEpoch":4,"votedId":-1,"votedDirectoryId":"AAAAAAAAAAAAAAAAAAAAAA","data_version":1}"#;
    std::fs::write(partition.join("quorum-state"), quorum).unwrap();
}

#[test]
fn a_directory_of_apache_kafka_is_taken_over() {
    let dir = tempfile::tempdir().unwrap();
    kafka_directory(dir.path());
    run(async {
        let node = Node::start(dir.path()).await.unwrap();
        let image = node.metadata.image();
        let names: Vec<(&str, usize)> = image.topics().map(|topic| (&*topic.name, topic.partitions.len())).collect();
        assert_eq!(names, [("first", 3), ("second", 4)]);
        let second = image.topic("second").unwrap();
        assert_eq!(node.partitions.get(second.id, 3).unwrap().leader_epoch(), second.partitions[3].leader_epoch);
        assert_eq!(node.logs.get("second", 3).unwrap().config().segment_bytes, 1_048_576);
        let here = node.logs.dirs()[0].1;
        assert!(second.partitions.iter().all(|p| image.leader_of(p) == 1 && p.directories == [here]));
        assert_eq!(node.logs.get(log::TOPIC, 0).unwrap().latest_epoch().unwrap().epoch, 5);
        assert_eq!(node.metadata.next_producer_id().await, Ok(1000));
        node.stop().await;
    });
}

#[test]
fn a_node_that_is_not_the_only_voter_does_not_decide_alone() {
    let dir = tempfile::tempdir().unwrap();
    kafka_directory(dir.path());
    let meta = "version=1\nnode.id=7\ncluster.id=AAAAAAAAAAAAAAAAAAAABQ\ndirectory.id=xJpAtXhAS0O2caCOiPPdRg\n";
    std::fs::write(dir.path().join("meta.properties"), meta).unwrap();
    run(async {
        let error = Node::start_with(dir.path(), &[("node.id", "7")]).await.err().unwrap();
        assert!(error.to_string().contains("not the only voter"), "{error}");
    });
}
