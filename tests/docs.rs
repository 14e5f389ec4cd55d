//! docs/compat.md is what the code and its tests say: versions from the API table, clients from where they are pinned.

use std::fs;
use std::path::Path;

use ottla::api::TABLE;

/// What a broker of Apache Kafka 4.3.1 answers to ApiVersions: key, name, oldest and newest version.
const KAFKA: &[(i16, &str, i16, i16)] = &[
    (0, "Produce", 0, 13),
    (1, "Fetch", 4, 18),
    (2, "ListOffsets", 1, 11),
    (3, "Metadata", 0, 13),
    (8, "OffsetCommit", 2, 10),
    (9, "OffsetFetch", 1, 10),
    (10, "FindCoordinator", 0, 6),
    (11, "JoinGroup", 0, 9),
    (12, "Heartbeat", 0, 4),
    (13, "LeaveGroup", 0, 5),
    (14, "SyncGroup", 0, 5),
    (15, "DescribeGroups", 0, 6),
    (16, "ListGroups", 0, 5),
    (17, "SaslHandshake", 0, 1),
    (18, "ApiVersions", 0, 4),
    (19, "CreateTopics", 2, 7),
    (20, "DeleteTopics", 1, 6),
    (21, "DeleteRecords", 0, 2),
    (22, "InitProducerId", 0, 5),
    (23, "OffsetForLeaderEpoch", 2, 4),
    (24, "AddPartitionsToTxn", 0, 5),
    (25, "AddOffsetsToTxn", 0, 4),
    (26, "EndTxn", 0, 5),
    (27, "WriteTxnMarkers", 1, 2),
    (28, "TxnOffsetCommit", 0, 5),
    (29, "DescribeAcls", 1, 3),
    (30, "CreateAcls", 1, 3),
    (31, "DeleteAcls", 1, 3),
    (32, "DescribeConfigs", 1, 4),
    (33, "AlterConfigs", 0, 2),
    (34, "AlterReplicaLogDirs", 1, 2),
    (35, "DescribeLogDirs", 1, 5),
    (36, "SaslAuthenticate", 0, 2),
    (37, "CreatePartitions", 0, 3),
    (38, "CreateDelegationToken", 1, 3),
    (39, "RenewDelegationToken", 1, 2),
    (40, "ExpireDelegationToken", 1, 2),
    (41, "DescribeDelegationToken", 1, 3),
    (42, "DeleteGroups", 0, 2),
    (43, "ElectLeaders", 0, 2),
    (44, "IncrementalAlterConfigs", 0, 1),
    (45, "AlterPartitionReassignments", 0, 1),
    (46, "ListPartitionReassignments", 0, 0),
    (47, "OffsetDelete", 0, 0),
    (48, "DescribeClientQuotas", 0, 1),
    (49, "AlterClientQuotas", 0, 1),
    (50, "DescribeUserScramCredentials", 0, 0),
    (51, "AlterUserScramCredentials", 0, 0),
    (55, "DescribeQuorum", 0, 2),
    (57, "UpdateFeatures", 0, 2),
    (60, "DescribeCluster", 0, 2),
    (61, "DescribeProducers", 0, 0),
    (64, "UnregisterBroker", 0, 0),
    (65, "DescribeTransactions", 0, 0),
    (66, "ListTransactions", 0, 2),
    (68, "ConsumerGroupHeartbeat", 0, 1),
    (69, "ConsumerGroupDescribe", 0, 1),
    (74, "ListConfigResources", 0, 1),
    (75, "DescribeTopicPartitions", 0, 0),
    (76, "ShareGroupHeartbeat", 1, 1),
    (77, "ShareGroupDescribe", 1, 1),
    (78, "ShareFetch", 1, 2),
    (79, "ShareAcknowledge", 1, 2),
    (80, "AddRaftVoter", 0, 1),
    (81, "RemoveRaftVoter", 0, 0),
    (83, "InitializeShareGroupState", 0, 0),
    (84, "ReadShareGroupState", 0, 0),
    (85, "WriteShareGroupState", 0, 1),
    (86, "DeleteShareGroupState", 0, 0),
    (87, "ReadShareGroupStateSummary", 0, 1),
    (88, "StreamsGroupHeartbeat", 0, 0),
    (89, "StreamsGroupDescribe", 0, 0),
    (90, "DescribeShareGroupOffsets", 0, 1),
    (91, "AlterShareGroupOffsets", 0, 0),
    (92, "DeleteShareGroupOffsets", 0, 0),
];

/// Where each version in the text is pinned: its name there, a file, and what stands before and behind it.
const PINS: &[(&str, &str, &str, &str)] = &[
    ("kafka", "compat-tests/java/pom.xml", "<kafka.version>", "<"),
    ("old-kafka-clients", "compat-tests/java/client-2.8.2/pom.xml", "kafka-clients</artifactId><version>", "<"),
    ("librdkafka", "Cargo.lock", "name = \"rdkafka-sys\"\nversion = \"", "\""),
    ("kafka-python", "compat-tests/python/requirements.txt", "kafka-python==", "\n"),
    ("confluent-kafka", "compat-tests/python/requirements.txt", "confluent-kafka==", "\n"),
    ("franz-go", "compat-tests/go/go.mod", "github.com/twmb/franz-go v", "\n"),
    ("spring-kafka", "compat-tests/java/spring/pom.xml", "spring-kafka</artifactId><version>", "<"),
    ("kafkajs", "compat-tests/node/package.json", "\"kafkajs\": \"", "\""),
];

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn pinned(path: &str, before: &str, behind: &str) -> String {
    let text = read(path);
    let (_, rest) = text.split_once(before).unwrap_or_else(|| panic!("{path} does not pin {before}"));
    let version = rest.split(behind).next().expect("a first piece");
    // rdkafka-sys is 4.9.0+2.10.0: its own, and librdkafka's.
    version.rsplit('+').next().expect("a last piece").to_owned()
}

fn versions(min: i16, max: i16) -> String {
    if min == max { min.to_string() } else { format!("{min}-{max}") }
}

fn api_rows() -> String {
    let served = |key| TABLE.iter().find(|api| api.key == key);
    let row = |&(key, name, min, max): &(i16, &str, i16, i16)| {
        let ours = served(key).map_or("not yet".to_owned(), |api| versions(api.min_version, api.max_version));
        format!("| {name} | {key} | {} | {ours} |\n", versions(min, max))
    };
    format!("| API | key | Apache Kafka | Ottla |\n|---|---|---|---|\n{}", KAFKA.iter().map(row).collect::<String>())
}

#[test]
fn nothing_is_served_that_kafka_does_not_serve() {
    for api in TABLE {
        let kafka = KAFKA.iter().find(|(key, ..)| *key == api.key).unwrap_or_else(|| panic!("{} is unknown", api.name));
        let (_, name, min, max) = *kafka;
        assert_eq!(name, api.name);
        assert!(min <= api.min_version && api.max_version <= max, "{name} {min}-{max}");
    }
}

/// `UPDATE_DOCS=1 cargo test` writes it.
#[test]
fn compat_md_is_up_to_date() {
    let mut text = include_str!("compat_head.md").to_owned();
    for (name, path, before, behind) in PINS {
        let placeholder = format!("{{{name}}}");
        assert!(text.contains(&placeholder), "nothing says {name}");
        text = text.replace(&placeholder, &pinned(path, before, behind));
    }
    for test in text.split('`').filter(|word| word.ends_with(".rs")) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("compat-tests/tests").join(test);
        assert!(path.exists(), "there is no {test}");
    }
    text += &api_rows();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/compat.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &text).unwrap();
    }
    assert!(fs::read_to_string(&path).unwrap_or_default() == text, "run UPDATE_DOCS=1 cargo test -p ottla --test docs");
}
