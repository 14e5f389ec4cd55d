//! Every setting: Kafka's name, type, default, bounds, dynamic or not, in tables; where values come from; and the typed
//! view of what this broker follows.

mod broker_table;
pub mod change;
mod checks;
pub mod describe;
mod listeners;
mod properties;
mod setting;
mod sources;
#[cfg(test)]
mod tests;
mod topic;
mod topic_table;
mod values;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ottla_storage::log::{LogConfig, LogManagerOptions};

use setting::{Setting, split_list};
use values::Values;

pub use sources::Sources;
pub use topic::validate_topic_config;
pub use values::DynamicBrokerConfigs;

/// The memory of all tails together: what consumers that keep up read without touching a file, and small enough to stay
/// in the processor's cache, which makes the copy into it cheap.
const TAIL_BYTES: usize = 16 << 20;

/// What is wrong with the configuration, in one line: the key, the value, what is allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub String);

/// What an operator should hear about a configuration that is accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notices {
    /// Settings that Kafka does not know either.
    pub unknown: Vec<String>,
    /// Kafka's settings that are given here and that this broker does not follow (yet).
    pub without_effect: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Upper case, e.g. PLAINTEXT, INTERNAL, CONTROLLER.
    pub name: String,
    /// Of listener.security.protocol.map; only PLAINTEXT is served for now, others are refused at start.
    pub security_protocol: String,
    /// Empty: all addresses.
    pub host: String,
    /// 0: a free port.
    pub port: u16,
    /// None for listeners that clients are not told about (those of controllers). Port 0: the one that was bound.
    pub advertised: Option<(String, u16)>,
}

/// The compaction of logs.
#[derive(Clone, Debug, PartialEq)]
pub struct LogCleaner {
    pub enable: bool,
    pub threads: usize,
    pub backoff_ms: u64,
    /// Of all threads together.
    pub dedupe_buffer_bytes: usize,
    pub io_buffer_load_factor: f64,
    pub io_max_bytes_per_second: f64,
}

impl LogCleaner {
    fn new(values: &Values) -> LogCleaner {
        LogCleaner {
            enable: values.parse("log.cleaner.enable"),
            threads: values.parse("log.cleaner.threads"),
            backoff_ms: values.parse("log.cleaner.backoff.ms"),
            dedupe_buffer_bytes: values.parse::<i64>("log.cleaner.dedupe.buffer.size").max(0) as usize,
            io_buffer_load_factor: values.parse("log.cleaner.io.buffer.load.factor"),
            io_max_bytes_per_second: values.parse("log.cleaner.io.max.bytes.per.second"),
        }
    }
}

/// When there is a snapshot of the metadata, and what is kept behind it.
#[derive(Clone, Debug)]
pub struct MetadataLogRules {
    pub segment_bytes: u32,
    pub segment_ms: i64,
    pub snapshot_bytes: i64,
    /// 0: only by size.
    pub snapshot_interval_ms: i64,
    /// Of log and snapshots together; negative: all is kept. The same for the time.
    pub retention_bytes: i64,
    pub retention_ms: i64,
}

impl MetadataLogRules {
    fn new(values: &Values) -> MetadataLogRules {
        MetadataLogRules {
            segment_bytes: values.parse("metadata.log.segment.bytes"),
            segment_ms: values.parse("metadata.log.segment.ms"),
            snapshot_bytes: values.parse("metadata.log.max.record.bytes.between.snapshots"),
            snapshot_interval_ms: values.parse("metadata.log.max.snapshot.interval.ms"),
            retention_bytes: values.parse("metadata.max.retention.bytes"),
            retention_ms: values.parse("metadata.max.retention.ms"),
        }
    }
}

/// A socket buffer size that is left to the operating system.
const SYSTEM_DEFAULT: i32 = -1;

/// The broker's static configuration, validated.
#[derive(Clone, Debug)]
pub struct Config {
    pub node_id: i32,
    pub cluster_id: Option<String>,
    pub rack: Option<String>,
    pub listeners: Vec<Listener>,
    pub inter_broker_listener_name: String,
    pub controller_listener_names: Vec<String>,
    pub log_dirs: Vec<PathBuf>,
    pub metadata_log_dir: PathBuf,
    pub socket_request_max_bytes: usize,
    pub socket_send_buffer_bytes: i32,
    pub socket_receive_buffer_bytes: i32,
    pub socket_listen_backlog_size: i32,
    pub queued_max_request_bytes: Option<usize>,
    pub max_connections: usize,
    pub max_connections_per_ip: usize,
    pub max_connections_per_ip_overrides: BTreeMap<String, usize>,
    /// u64::MAX: never.
    pub connections_max_idle_ms: u64,
    pub num_partitions: i32,
    pub default_replication_factor: i16,
    pub min_insync_replicas: i32,
    pub auto_create_topics_enable: bool,
    pub delete_topic_enable: bool,
    pub fetch_max_bytes: usize,
    pub max_incremental_fetch_session_cache_slots: usize,
    pub max_request_partition_size_limit: usize,
    pub producer_id_expiration_ms: i64,
    pub num_recovery_threads_per_data_dir: i32,
    pub log_retention_check_interval_ms: u64,
    pub log_cleaner: LogCleaner,
    pub metadata_log: MetadataLogRules,
    pub offsets_topic_num_partitions: i32,
    pub transaction_state_log_num_partitions: i32,
    values: Values,
}

impl Config {
    /// Collects, checks and types the settings.
    pub fn from_sources(sources: &Sources) -> Result<(Config, Notices), ConfigError> {
        let values = Values::new(sources.collect()?)?;
        checks::check(&values)?;
        let notices = notices(&values);
        Ok((Config::new(values, sources.cluster_id())?, notices))
    }

    /// A broker on a free local port with its data in `dir`; `overrides` on top.
    pub fn for_tests(dir: &Path, overrides: &[(&str, &str)]) -> Config {
        let dir = dir.to_str().expect("a path in UTF-8");
        let base = [("listeners", "PLAINTEXT://127.0.0.1:0"), ("log.dirs", dir)];
        let given = base.iter().chain(overrides).map(|&(k, v)| (k.to_owned(), v.to_owned())).collect();
        let sources = Sources { overrides: given, ..Sources::default() };
        Config::from_sources(&sources).expect("a valid configuration").0
    }

    fn new(values: Values, cluster_id: Option<String>) -> Result<Config, ConfigError> {
        let listeners = listeners::resolve(&values)?;
        let log_dirs = log_dirs(&values);
        let metadata_log_dir = values.get("metadata.log.dir").map_or_else(|| log_dirs[0].clone(), PathBuf::from);
        let size = |name: &str| values.parse::<u32>(name) as usize;
        // Kafka's default of 100 KiB makes a fast connection wake up for every 100 KiB; the system's own tuning does not.
        let socket_buffer = |name: &str| if values.is_given(name) { values.parse(name) } else { SYSTEM_DEFAULT };
        let queued: i64 = values.parse("queued.max.request.bytes");
        Ok(Config {
            node_id: values.parse("node.id"),
            cluster_id,
            rack: values.get("broker.rack").map(str::to_owned),
            listeners: listeners.listeners,
            inter_broker_listener_name: listeners.inter_broker_listener_name,
            controller_listener_names: listeners.controller_listener_names,
            log_dirs,
            metadata_log_dir,
            socket_request_max_bytes: size("socket.request.max.bytes"),
            socket_send_buffer_bytes: socket_buffer("socket.send.buffer.bytes"),
            socket_receive_buffer_bytes: socket_buffer("socket.receive.buffer.bytes"),
            socket_listen_backlog_size: values.parse("socket.listen.backlog.size"),
            queued_max_request_bytes: if queued > 0 { usize::try_from(queued).ok() } else { None },
            max_connections: size("max.connections"),
            max_connections_per_ip: size("max.connections.per.ip"),
            max_connections_per_ip_overrides: checks::per_ip_overrides(&values)?,
            connections_max_idle_ms: u64::try_from(values.parse::<i64>("connections.max.idle.ms")).unwrap_or(u64::MAX),
            num_partitions: values.parse("num.partitions"),
            default_replication_factor: values.parse::<i32>("default.replication.factor").clamp(1, 1 << 14) as i16,
            min_insync_replicas: values.parse("min.insync.replicas"),
            auto_create_topics_enable: values.parse("auto.create.topics.enable"),
            delete_topic_enable: values.parse("delete.topic.enable"),
            fetch_max_bytes: size("fetch.max.bytes"),
            max_incremental_fetch_session_cache_slots: size("max.incremental.fetch.session.cache.slots"),
            max_request_partition_size_limit: size("max.request.partition.size.limit"),
            producer_id_expiration_ms: values.parse("producer.id.expiration.ms"),
            num_recovery_threads_per_data_dir: values.parse("num.recovery.threads.per.data.dir"),
            log_retention_check_interval_ms: values.parse("log.retention.check.interval.ms"),
            log_cleaner: LogCleaner::new(&values),
            metadata_log: MetadataLogRules::new(&values),
            offsets_topic_num_partitions: values.parse("offsets.topic.num.partitions"),
            transaction_state_log_num_partitions: values.parse("transaction.state.log.num.partitions"),
            values,
        })
    }

    /// A topic's log settings: the broker's `log.*` defaults with the topic's overrides (already validated) on top.
    pub fn log_config(&self, overrides: &BTreeMap<String, String>) -> LogConfig {
        self.log_config_with(DynamicBrokerConfigs::default(), overrides)
    }

    /// The same, where broker settings were changed at run time.
    pub fn log_config_with(&self, dynamic: DynamicBrokerConfigs, overrides: &BTreeMap<String, String>) -> LogConfig {
        topic::log_config(&self.values, dynamic, overrides)
    }

    /// What opens the log directories, on the best backend that there is.
    pub fn log_options(&self, now_ms: i64) -> LogManagerOptions {
        let mut dirs = self.log_dirs.clone();
        if !dirs.contains(&self.metadata_log_dir) {
            dirs.push(self.metadata_log_dir.clone());
        }
        LogManagerOptions {
            dirs,
            node_id: self.node_id,
            cluster_id: self.cluster_id.clone(),
            defaults: self.log_config(&BTreeMap::new()),
            tail_bytes: TAIL_BYTES,
            producer_id_expiration_ms: self.producer_id_expiration_ms,
            recovery_threads: self.num_recovery_threads_per_data_dir as usize,
            retention_check_interval_ms: self.log_retention_check_interval_ms as i64,
            now_ms,
            io: None,
        }
    }

    /// The effective text value of any setting of the table, e.g. for APIs without a typed field. None: null.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.values.get(name)
    }
}

/// The row of a setting. Tables are sorted by name.
fn find(table: &'static [Setting], name: &str) -> Option<&'static Setting> {
    table.binary_search_by(|setting| setting.name.cmp(name)).ok().map(|i| &table[i])
}

/// The row of a setting that our code names.
fn find_known(table: &'static [Setting], name: &str) -> &'static Setting {
    find(table, name).unwrap_or_else(|| panic!("{name} is in the table"))
}

/// log.dirs before log.dir.
fn log_dirs(values: &Values) -> Vec<PathBuf> {
    let dirs = values.get("log.dirs").unwrap_or_else(|| values.text("log.dir"));
    split_list(dirs).map(PathBuf::from).collect()
}

fn notices(values: &Values) -> Notices {
    let mut notices = Notices::default();
    for name in values.given().keys().filter(|name| !sources::is_built_in(name)) {
        // listener.name.<listener>.<setting> and config.providers.<name>.class are families of names.
        let family = name.starts_with("listener.name.") || name.starts_with("config.providers.");
        match find(broker_table::BROKER, name) {
            Some(setting) if !setting.doc.is_empty() => {}
            Some(_) => notices.without_effect.push(name.clone()),
            None if family => notices.without_effect.push(name.clone()),
            None => notices.unknown.push(name.clone()),
        }
    }
    notices
}
