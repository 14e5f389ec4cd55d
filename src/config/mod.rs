//! Every setting: Kafka's name, type, default, bounds, dynamic or not; one table, and the typed view of it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use ottla_storage::log::LogConfig;

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
    /// None for controller listeners, which are not advertised to clients.
    pub advertised: Option<(String, u16)>,
}

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
    pub log_retention_check_interval_ms: u64,
    pub offsets_topic_num_partitions: i32,
    pub transaction_state_log_num_partitions: i32,
    // private: every setting's effective value and where it came from
}

impl Config {
    /// A topic's log settings: the broker's `log.*` defaults with the topic's overrides (already validated) on top.
    pub fn log_config(&self, overrides: &BTreeMap<String, String>) -> LogConfig {
        todo!()
    }
    /// The effective text value of any setting of the table, e.g. for APIs without a typed field.
    pub fn value(&self, name: &str) -> Option<&str> {
        todo!()
    }
}

/// Checks a topic's overrides as Kafka's LogConfig.validate does: unknown names, bad values, combinations.
/// The error is the message Kafka's client shows (INVALID_CONFIG).
pub fn validate_topic_config(overrides: &BTreeMap<String, String>) -> Result<(), String> {
    todo!()
}
