//! The tables against Apache Kafka's own answers, and what operators may and may not write.

use std::collections::BTreeMap;

use ottla_storage::batch::{Compression, TimestampType};

use super::broker_table::BROKER;
use super::describe::{Entry, Source};
use super::topic_table::{CLIENT_METRICS, GROUP, TOPIC};
use super::*;

fn strings(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect()
}

fn from_file(text: &str) -> Result<(Config, Notices), ConfigError> {
    Config::from_sources(&Sources { file: Some(text.to_owned()), ..Sources::default() })
}

fn with(overrides: &[(&str, &str)]) -> Result<Config, String> {
    let overrides = overrides.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect();
    let sources = Sources { overrides, ..Sources::default() };
    Config::from_sources(&sources).map(|(config, _)| config).map_err(|e| e.0)
}

fn refusal(overrides: &[(&str, &str)]) -> String {
    let message = with(overrides).map(|_| ()).expect_err("refused");
    assert!(!message.contains('\n'), "one line: {message}");
    message
}

/// The configuration of the node that answered the fixture.
const FIXTURE_NODE: &str = "
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:19556
listeners=PLAINTEXT://127.0.0.1:19555,CONTROLLER://127.0.0.1:19556
advertised.listeners=PLAINTEXT://127.0.0.1:19555
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs=/data
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
";

/// An entry as a line of the fixture.
fn line(resource: &str, entry: &Entry) -> String {
    let source = |source| match source {
        Source::Topic => "DYNAMIC_TOPIC_CONFIG",
        Source::DynamicBroker => "DYNAMIC_BROKER_CONFIG",
        Source::DynamicDefaultBroker => "DYNAMIC_DEFAULT_BROKER_CONFIG",
        Source::StaticBroker => "STATIC_BROKER_CONFIG",
        Source::Default => "DEFAULT_CONFIG",
        other => panic!("{other:?} is not in the fixture"),
    };
    let text = |value: &Option<String>| value.clone().unwrap_or("null".to_owned());
    let synonyms = entry.synonyms.iter().map(|s| format!("{}={}@{}", s.name, text(&s.value), source(s.source)));
    [
        resource,
        &entry.name,
        entry.kind.map_or("UNKNOWN", |kind| kind.name()),
        &text(&entry.value),
        source(entry.source),
        &entry.read_only.to_string(),
        &entry.sensitive.to_string(),
        &synonyms.collect::<Vec<_>>().join("; "),
    ]
    .join("\t")
}

#[test]
fn every_setting_is_described_as_apache_kafka_does() {
    let (config, _) = from_file(FIXTURE_NODE).unwrap();
    let cluster = strings(&[("min.insync.replicas", "1")]);
    let dynamic = DynamicBrokerConfigs { broker: None, cluster: Some(&cluster) };
    let none = BTreeMap::new();
    let overrides = strings(&[
        ("retention.ms", "1000"),
        ("cleanup.policy", "compact,delete"),
        ("max.message.bytes", "2000"),
        ("compression.type", "zstd"),
    ]);
    let resources = [
        ("TOPIC plain", config.describe_topic(dynamic, &none)),
        ("TOPIC over", config.describe_topic(dynamic, &overrides)),
        ("BROKER 1", config.describe_broker(dynamic)),
        ("GROUP g", config.describe_group(dynamic, &none)),
    ];
    let ours: Vec<String> =
        resources.iter().flat_map(|(name, entries)| entries.iter().map(|entry| line(name, entry))).collect();
    let kafkas = include_str!("../../tests/fixtures/describe-configs-4.3.1.tsv");
    let kafkas: Vec<&str> = kafkas.lines().filter(|line| !line.starts_with('#')).collect();
    for (ours, kafkas) in ours.iter().zip(&kafkas) {
        assert_eq!(ours, kafkas);
    }
    assert_eq!(ours.len(), kafkas.len());
}

#[test]
fn tables_are_sorted_and_their_defaults_are_allowed_and_in_kafkas_form() {
    for table in [BROKER, TOPIC, GROUP, CLIENT_METRICS] {
        assert!(table.is_sorted_by_key(|setting| setting.name));
        for setting in table {
            if let Some(default) = setting.default {
                assert_eq!(setting.parse(default).as_deref(), Ok(default), "{}", setting.name);
            }
            assert!(setting.synonym.is_empty() || find(BROKER, setting.synonym).is_some(), "{}", setting.name);
        }
    }
}

#[test]
fn topic_values_are_refused_in_kafkas_words() {
    let message = |name: &str, value: &str| validate_topic_config(&strings(&[(name, value)])).unwrap_err();
    for (name, value, why) in [
        ("segment.bytes", "100000", "Value must be at least 1048576"),
        ("segment.bytes", "", "Not a number of type INT"),
        ("retention.ms", "99999999999999999999", "Not a number of type LONG"),
        ("cleanup.policy", "foo", "String must be one of: compact, delete"),
        ("compression.type", "ZSTD", "String must be one of: uncompressed, zstd, lz4, snappy, gzip, producer"),
        ("compression.gzip.level", "0", "Value must be between 1 and 9 or equal to -1"),
        ("compression.zstd.level", "23", "Value must be no more than 22"),
        ("preallocate", "yes", "Expected value to be either true or false"),
        ("min.cleanable.dirty.ratio", "1.5", "Value must be no more than 1"),
        ("max.message.bytes", "2147483648", "Not a number of type INT"),
    ] {
        assert_eq!(message(name, value), format!("Invalid value {value} for configuration {name}: {why}"));
    }
    assert_eq!(message("cleanup.policy", "delete,"), "Configuration 'cleanup.policy' values must not be empty.");
    assert_eq!(message("message.format.version", "3.0"), "Unknown topic config name: message.format.version");
    assert!(message("leader.replication.throttled.replicas", "1:1,2:x").starts_with("Invalid value [1:1, 2:x] for"));
    assert!(message("remote.storage.enable", "true").starts_with("Tiered Storage functionality is disabled"));
}

#[test]
fn topic_values_that_kafka_takes_are_taken() {
    for (name, value) in [
        ("segment.bytes", " 1048576 "),
        ("retention.bytes", "-7"),
        ("cleanup.policy", ""),
        ("cleanup.policy", " compact , delete "),
        ("preallocate", "TRUE"),
        ("min.cleanable.dirty.ratio", "1e-1"),
        ("min.cleanable.dirty.ratio", "0.5d"),
        ("max.message.bytes", "+5000"),
        ("leader.replication.throttled.replicas", "*"),
        ("leader.replication.throttled.replicas", "0:1,0:1"),
        ("local.retention.ms", "999999999999"),
        ("min.insync.replicas", "5"),
    ] {
        assert_eq!(validate_topic_config(&strings(&[(name, value)])), Ok(()), "{name}={value}");
    }
}

#[test]
fn values_are_shown_as_java_shows_them() {
    let shown = |name: &str, text: &str| find_known(BROKER, name).parse(text).unwrap();
    assert_eq!(shown("num.partitions", " +5 "), "5");
    assert_eq!(shown("log.cleanup.policy", "delete, compact,delete"), "delete,compact");
    let double = |text| shown("log.cleaner.io.max.bytes.per.second", text);
    let doubles = ["0.001", "0.000999", "1e7", "9999999.5", "100", "1e22", "123456789.125", "1e400"].map(double);
    let java = ["0.001", "9.99E-4", "1.0E7", "9999999.5", "100.0", "1.0E22", "1.23456789125E8", "Infinity"];
    assert_eq!(doubles, java);
}

#[test]
fn durations_of_share_groups_are_iso_8601() {
    let setting = find_known(GROUP, "share.auto.offset.reset");
    for good in ["latest", "earliest", "by_duration:P2D", "by_duration:PT1H30M", "by_duration:P1DT0.5S"] {
        assert!(setting.parse(good).is_ok(), "{good}");
    }
    for bad in ["", "by_duration:", "by_duration:P", "by_duration:PT", "by_duration:1D", "by_duration:PT5"] {
        assert!(setting.parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn without_configuration_it_is_a_local_broker() {
    let (config, notices) = Config::from_sources(&Sources::default()).unwrap();
    let endpoint = ("localhost".to_owned(), 9092);
    assert_eq!(
        config.listeners,
        [Listener {
            name: "PLAINTEXT".to_owned(),
            security_protocol: "PLAINTEXT".to_owned(),
            host: endpoint.0.clone(),
            port: endpoint.1,
            advertised: Some(endpoint),
        }]
    );
    assert_eq!((config.node_id, config.log_dirs), (1, vec![PathBuf::from("./data")]));
    assert_eq!(config.values.get("group.initial.rebalance.delay.ms"), Some("0"));
    assert_eq!(notices, Notices::default());
}

#[test]
fn the_file_of_kafkas_quickstart_works_unchanged() {
    let quickstart = "
        process.roles=broker,controller
        node.id=1
        controller.quorum.bootstrap.servers=localhost:9093
        listeners=PLAINTEXT://:9092,CONTROLLER://:9093
        inter.broker.listener.name=PLAINTEXT
        advertised.listeners=PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093
        controller.listener.names=CONTROLLER
        listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL
        num.network.threads=3
        num.io.threads=8
        log.dirs=/tmp/kraft-combined-logs
        num.recovery.threads.per.data.dir=1
        offsets.topic.replication.factor=1
        log.retention.hours=168
        log.segment.bytes=1073741824
        log.retention.check.interval.ms=300000";
    let (config, notices) = from_file(quickstart).unwrap();
    let advertised: Vec<_> = config.listeners.iter().map(|l| (l.name.as_str(), l.advertised.is_some())).collect();
    assert_eq!(advertised, [("PLAINTEXT", true), ("CONTROLLER", false)]);
    assert!(notices.unknown.is_empty());
    assert!(notices.without_effect.contains(&"num.io.threads".to_owned()));
    let old = quickstart.replace("bootstrap.servers=localhost:9093", "voters=1@localhost:9093");
    assert!(from_file(&old).is_ok());
}

#[test]
fn unknown_settings_are_named_not_refused() {
    let (config, notices) = from_file("zookeeper.connect=x\nlistener.name.inside.ssl.keystore.location=y").unwrap();
    assert_eq!(notices.unknown, ["zookeeper.connect"]);
    assert_eq!(notices.without_effect, ["listener.name.inside.ssl.keystore.location"]);
    let entries = config.describe_broker(DynamicBrokerConfigs::default());
    let unknown = entries.iter().find(|entry| entry.name == "zookeeper.connect").unwrap();
    assert!(unknown.sensitive && unknown.value.is_none(), "it may be a secret");
}

#[test]
fn settings_that_stand_in_for_each_other_have_kafkas_priority() {
    let ms = |pairs: &[(&str, &str)]| {
        let config = with(pairs).unwrap().log_config(&BTreeMap::new());
        (config.retention_ms, config.segment_ms, config.segment_jitter_ms, config.flush_ms)
    };
    assert_eq!(ms(&[]), (604_800_000, 604_800_000, 0, i64::MAX));
    let hours = [("log.retention.hours", "2"), ("log.roll.hours", "3"), ("log.roll.jitter.hours", "1")];
    assert_eq!(ms(&hours), (7_200_000, 10_800_000, 3_600_000, i64::MAX));
    let more = [("log.retention.minutes", "5"), ("log.roll.ms", "7"), ("log.flush.scheduler.interval.ms", "11")];
    assert_eq!(ms(&[&hours[..], &more].concat()), (300_000, 7, 3_600_000, 11));
    let most = [("log.retention.ms", "-1"), ("log.flush.interval.ms", "9"), ("log.roll.jitter.ms", "4")];
    assert_eq!(ms(&[&hours[..], &more, &most].concat()), (-1, 7, 4, 9));
    let dirs = with(&[("log.dir", "/a"), ("log.dirs", "/b, /c")]).unwrap();
    assert_eq!(dirs.log_dirs, [PathBuf::from("/b"), PathBuf::from("/c")]);
    assert_eq!(dirs.metadata_log_dir, PathBuf::from("/b"));
}

#[test]
fn a_topics_log_follows_its_overrides_then_the_brokers_defaults() {
    let config = with(&[("log.segment.bytes", "2000000"), ("compression.type", "gzip"), ("log.preallocate", "true")]);
    let config = config.unwrap();
    let log = config.log_config(&strings(&[
        ("cleanup.policy", "compact"),
        ("message.timestamp.type", "LogAppendTime"),
        ("compression.type", "lz4"),
        ("compression.lz4.level", "3"),
    ]));
    assert_eq!((log.segment_bytes, log.preallocate, log.compact, log.delete), (2_000_000, true, true, false));
    assert_eq!(log.rules.compression, Some((Compression::Lz4, Some(3))));
    assert_eq!((log.rules.timestamp_type, log.rules.compacted), (TimestampType::LogAppendTime, true));
    assert_eq!(config.log_config(&BTreeMap::new()).rules.compression, Some((Compression::Gzip, Some(-1))));
    assert_eq!(with(&[]).unwrap().log_config(&BTreeMap::new()), LogConfig::default());
}

#[test]
fn settings_changed_at_run_time_win_this_brokers_first() {
    let config = with(&[("log.retention.ms", "1"), ("message.max.bytes", "100")]).unwrap();
    let cluster = strings(&[("log.retention.ms", "2"), ("message.max.bytes", "200")]);
    let broker = strings(&[("log.retention.ms", "3")]);
    let dynamic = DynamicBrokerConfigs { broker: Some(&broker), cluster: Some(&cluster) };
    let log = config.log_config_with(dynamic, &BTreeMap::new());
    assert_eq!((log.retention_ms, log.rules.max_message_bytes), (3, 200));
    let topic = config.describe_topic(dynamic, &BTreeMap::new());
    let retention = topic.iter().find(|entry| entry.name == "retention.ms").unwrap();
    assert_eq!((retention.value.as_deref(), retention.source), (Some("3"), Source::DynamicBroker));
    let values: Vec<_> = retention.synonyms.iter().map(|s| s.value.as_deref().unwrap()).collect();
    assert_eq!(values, ["3", "2", "1", "168"]);
}

#[test]
fn several_listeners_with_their_own_advertised_addresses() {
    let config = with(&[
        ("listeners", "inside://0.0.0.0:9092,OUTSIDE://[::1]:0,HIDDEN://:9094"),
        ("advertised.listeners", "INSIDE://broker:9092,OUTSIDE://example.org:0"),
        ("listener.security.protocol.map", "INSIDE:PLAINTEXT,OUTSIDE:PLAINTEXT,HIDDEN:PLAINTEXT"),
        ("inter.broker.listener.name", "inside"),
    ])
    .unwrap();
    let seen: Vec<_> =
        config.listeners.iter().map(|l| (l.name.as_str(), l.host.as_str(), l.port, l.advertised.clone())).collect();
    assert_eq!(
        seen,
        [
            ("INSIDE", "0.0.0.0", 9092, Some(("broker".to_owned(), 9092))),
            ("OUTSIDE", "::1", 0, Some(("example.org".to_owned(), 0))),
            ("HIDDEN", "", 9094, None),
        ]
    );
    assert_eq!(config.inter_broker_listener_name, "INSIDE");
    let own_name = with(&[("listeners", "PLAINTEXT://:9092")]).unwrap().listeners.remove(0).advertised.unwrap();
    assert!(!own_name.0.is_empty(), "an empty host is advertised as this machine's name");
    let dual_stack = [
        ("listeners", "PLAINTEXT://127.0.0.1:9092,SIX://[::1]:9092"),
        ("listener.security.protocol.map", "PLAINTEXT:PLAINTEXT,SIX:PLAINTEXT"),
    ];
    assert!(with(&dual_stack).is_ok(), "an IPv4 and an IPv6 address may share a port");
}

#[test]
fn listeners_that_cannot_work_are_refused() {
    let listeners = |text: &str| refusal(&[("listeners", text)]);
    assert!(listeners("PLAINTEXT://:9092,PLAINTEXT://:9093").contains("different name"));
    assert!(listeners("PLAINTEXT://a:9092,INSIDE://b:9092").contains("different port"));
    assert!(listeners("PLAINTEXT:9092").contains("NAME://host:port"));
    assert!(listeners("PLAINTEXT://:70000").contains("NAME://host:port"));
    assert!(listeners("").contains("must not be empty"));
    assert!(listeners("PLAINTEXT://0.0.0.0:9092").contains("0.0.0.0"));
    assert!(listeners("PLAINTEXT://:9092,INSIDE://:9093").contains("no security protocol defined for listener INSIDE"));
    assert!(listeners("PLAINTEXT://:9092,SASL_SSL://:9093").contains("SASL_SSL, which is not supported yet"));
    assert!(listeners("CONTROLLER://:9093").contains("at least one"));
    assert!(refusal(&[("advertised.listeners", "OTHER://:1")]).contains("OTHER is not one of the listeners"));
    let inside = [("listeners", "INSIDE://:9092"), ("listener.security.protocol.map", "INSIDE:PLAINTEXT")];
    assert!(refusal(&inside).contains("inter.broker.listener.name"));
    assert!(refusal(&[("listener.security.protocol.map", "PLAINTEXT:TLS")]).contains("SASL_PLAINTEXT"));
}

#[test]
fn what_this_broker_does_not_do_is_refused() {
    for setting in [
        ("process.roles", "broker"),
        ("process.roles", "controller"),
        ("controller.quorum.voters", "1@a:9093,2@b:9093"),
        ("controller.quorum.bootstrap.servers", "a:9093,b:9093"),
        ("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer"),
        ("remote.log.storage.system.enable", "true"),
        ("config.providers", "file"),
    ] {
        let message = refusal(&[setting]);
        assert!(message.contains(setting.0) && message.contains("not supported"), "{message}");
    }
}

#[test]
fn invalid_values_are_refused_with_key_value_and_what_is_allowed() {
    assert_eq!(
        refusal(&[("num.partitions", "0")]),
        "Invalid value 0 for configuration num.partitions: Value must be at least 1"
    );
    assert_eq!(
        refusal(&[("ssl.key.password", "a"), ("node.id", "x")]),
        "Invalid value x for configuration node.id: Not a number of type INT"
    );
    assert!(refusal(&[("node.id", "1"), ("broker.id", "2")]).contains("must be the same"));
    assert!(refusal(&[("log.retention.ms", "0")]).contains("log.retention.ms"));
    assert!(refusal(&[("queued.max.request.bytes", "1000")]).contains("socket.request.max.bytes"));
    assert!(refusal(&[("max.connections.per.ip", "0")]).contains("max.connections.per.ip.overrides"));
    assert!(refusal(&[("max.connections.per.ip.overrides", "a:b")]).contains("address:limit"));
    assert!(refusal(&[("controller.quorum.voters", "x")]).contains("{id}@{host}:{port}"));
}

#[test]
fn broker_id_and_node_id_are_one_setting() {
    for name in ["node.id", "broker.id"] {
        let config = with(&[(name, "7")]).unwrap();
        assert_eq!((config.node_id, config.value("node.id"), config.value("broker.id")), (7, Some("7"), Some("7")));
    }
}

#[test]
fn limits_are_typed() {
    let config = with(&[
        ("max.connections.per.ip.overrides", "10.0.0.1:5, ::1:7"),
        ("connections.max.idle.ms", "-1"),
        ("queued.max.request.bytes", "200000000"),
    ])
    .unwrap();
    let overrides = BTreeMap::from([("10.0.0.1".to_owned(), 5), ("::1".to_owned(), 7)]);
    assert_eq!(config.max_connections_per_ip_overrides, overrides);
    assert_eq!((config.connections_max_idle_ms, config.queued_max_request_bytes), (u64::MAX, Some(200_000_000)));
    assert_eq!(with(&[]).unwrap().queued_max_request_bytes, None);
}

#[test]
fn secrets_do_not_show() {
    let config = with(&[("ssl.key.password", "hunter2")]).unwrap();
    assert!(!format!("{config:?}").contains("hunter2"));
    let entries = config.describe_broker(DynamicBrokerConfigs::default());
    let entry = entries.iter().find(|entry| entry.name == "ssl.key.password").unwrap();
    assert!(entry.sensitive && entry.value.is_none() && entry.synonyms.iter().all(|s| s.value.is_none()));
}

/// docs/configuration.md is this text; `UPDATE_DOCS=1 cargo test` writes it.
#[test]
fn the_documentation_is_up_to_date() {
    let mut text = include_str!("configuration_head.md").to_owned();
    let rows = |settings: &mut dyn Iterator<Item = &'static Setting>| {
        let row = |setting: &Setting| {
            let shown = setting.default.filter(|default| !default.is_empty());
            let default = shown.map_or(String::new(), |default| format!("`{default}`"));
            format!("| `{}` | {default} | {} |\n", setting.name, setting.doc)
        };
        let rows: String = settings.map(row).collect();
        format!("| setting | Kafka's default | |\n|---|---|---|\n{rows}")
    };
    text += &rows(&mut BROKER.iter().filter(|setting| !setting.doc.is_empty()));
    text += "\n## Topic settings\nAll are accepted and kept. Replication and remote storage do not exist yet, so their settings \
             wait for them.\n\n";
    text += &rows(&mut TOPIC.iter());
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    assert!(std::fs::read_to_string(path).unwrap() == text, "run UPDATE_DOCS=1 cargo test -p ottla documentation");
}
