//! Where settings come from, and which source wins: built-in values < server.properties < KAFKA_* < --override.

use std::collections::BTreeMap;

use super::ConfigError;
use super::properties;

/// What the process was started with.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The text of a server.properties file.
    pub file: Option<String>,
    /// The environment; only `KAFKA_*` and `CLUSTER_ID` matter.
    pub env: BTreeMap<String, String>,
    /// `key=value`, in their order.
    pub overrides: Vec<(String, String)>,
}

impl Sources {
    /// The process's own environment.
    pub fn with_process_env(mut self) -> Sources {
        let unicode = |(key, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((key.into_string().ok()?, value.into_string().ok()?))
        };
        self.env = std::env::vars_os().filter_map(unicode).collect();
        self
    }

    /// The cluster id that the environment asks a new directory to be formatted with.
    pub(super) fn cluster_id(&self) -> Option<String> {
        self.env.get("CLUSTER_ID").filter(|id| !id.is_empty()).cloned()
    }

    /// Every setting that was given, by name: the winner of each.
    pub(super) fn collect(&self) -> Result<BTreeMap<String, String>, ConfigError> {
        let mut values: BTreeMap<String, String> =
            BUILT_IN.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect();
        let mut put = |layer: Vec<(String, String)>| {
            // node.id and broker.id are one setting: the later source wins whatever name it uses.
            if layer.iter().any(|(key, _)| key == "broker.id") && !layer.iter().any(|(key, _)| key == "node.id") {
                values.remove("node.id");
            }
            values.extend(layer);
        };
        match &self.file {
            Some(text) => put(properties::parse(text).map_err(|why| ConfigError(format!("server.properties: {why}")))?),
            None => put(NO_FILE.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect()),
        }
        put(from_env(&self.env));
        put(self.overrides.clone());
        Ok(values)
    }
}

/// What Kafka has no default for, so that a file need not say it either.
const BUILT_IN: &[(&str, &str)] =
    &[("node.id", "1"), ("process.roles", "broker,controller"), ("controller.listener.names", "CONTROLLER")];

/// A broker to try things with: local, its data where it was started, no wait before a group's first rebalance.
const NO_FILE: &[(&str, &str)] =
    &[("listeners", "PLAINTEXT://localhost:9092"), ("log.dirs", "./data"), ("group.initial.rebalance.delay.ms", "0")];

/// Whether a setting is there even if nobody gives it.
pub(super) fn is_built_in(name: &str) -> bool {
    name == "broker.id" || BUILT_IN.iter().chain(NO_FILE).any(|&(built_in, _)| built_in == name)
}

/// Variables that belong to Kafka's start scripts and image.
const NOT_SETTINGS: &[&str] = &[
    "KAFKA_VERSION",
    "KAFKA_HEAP_OPTS",
    "KAFKA_LOG4J_OPTS",
    "KAFKA_OPTS",
    "KAFKA_JMX_OPTS",
    "KAFKA_JMX_HOSTNAME",
    "KAFKA_JMX_PORT",
    "KAFKA_JVM_PERFORMANCE_OPTS",
    "KAFKA_GC_LOG_OPTS",
    "KAFKA_LOG4J_ROOT_LOGLEVEL",
    "KAFKA_LOG4J_LOGGERS",
    "KAFKA_TOOLS_LOG4J_LOGLEVEL",
];

/// The settings in `KAFKA_*` variables, as the apache/kafka image writes them into server.properties: `_` becomes `.`,
/// `__` `_` and `___` `-`. Listeners follow the advertised ones, on all addresses, where only those are given.
fn from_env(env: &BTreeMap<String, String>) -> Vec<(String, String)> {
    let mut settings: Vec<(String, String)> = env
        .iter()
        .filter(|(key, _)| !NOT_SETTINGS.contains(&key.as_str()))
        .filter_map(|(key, value)| {
            let name = key.strip_prefix("KAFKA_")?.to_lowercase();
            let name = name.replace('_', ".").replace("...", "-").replace("..", "_");
            Some((name, value.clone()))
        })
        .collect();
    let given = |name: &str| env.get(name).filter(|value| !value.is_empty());
    if let (None, Some(advertised)) = (given("KAFKA_LISTENERS"), given("KAFKA_ADVERTISED_LISTENERS")) {
        settings.retain(|(name, _)| name != "listeners");
        settings.push(("listeners".to_owned(), on_all_addresses(advertised)));
    }
    settings
}

fn on_all_addresses(advertised: &str) -> String {
    let listen = |endpoint: &str| match (endpoint.find("://"), endpoint.rfind(':')) {
        (Some(name_end), Some(port)) if port > name_end + 2 => {
            format!("{}://0.0.0.0{}", &endpoint[..name_end], &endpoint[port..])
        }
        _ => endpoint.to_owned(),
    };
    advertised.split(',').map(listen).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect()
    }

    #[test]
    fn environment_names_map_as_in_the_apache_kafka_image() {
        let env: BTreeMap<String, String> = strings(&[
            ("KAFKA_LOG_DIRS", "/data"),
            ("KAFKA_A__B", "1"),
            ("KAFKA_A___B", "2"),
            ("KAFKA_HEAP_OPTS", "-Xmx1g"),
            ("KAFKA_LOG4J_ROOT_LOGLEVEL", "INFO"),
            ("PATH", "/bin"),
        ])
        .into_iter()
        .collect();
        assert_eq!(from_env(&env), strings(&[("a_b", "1"), ("a-b", "2"), ("log.dirs", "/data")]));
    }

    #[test]
    fn listeners_follow_the_advertised_ones_where_the_environment_names_only_those() {
        let advertised = "PLAINTEXT://broker:9092,OUTSIDE://[::1]:19092";
        let env = strings(&[("KAFKA_ADVERTISED_LISTENERS", advertised)]).into_iter().collect();
        let values = Sources { env, ..Sources::default() }.collect().unwrap();
        assert_eq!(values["listeners"], "PLAINTEXT://0.0.0.0:9092,OUTSIDE://0.0.0.0:19092");
    }

    #[test]
    fn overrides_win_over_the_environment_and_that_over_the_file() {
        let sources = Sources {
            file: Some("num.partitions=2\nlog.dirs=/file\nbroker.rack=file\n".to_owned()),
            env: strings(&[("KAFKA_LOG_DIRS", "/env"), ("KAFKA_BROKER_RACK", "env")]).into_iter().collect(),
            overrides: strings(&[("broker.rack", "first"), ("broker.rack", "last")]),
        };
        let values = sources.collect().unwrap();
        assert_eq!([&values["num.partitions"], &values["log.dirs"], &values["broker.rack"]], ["2", "/env", "last"]);
        assert!(!values.contains_key("listeners"), "a file without listeners means Kafka's default");
    }
}
