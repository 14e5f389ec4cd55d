//! What DescribeConfigs tells about a resource: each setting's effective value, where it comes from, and the values that
//! it hides (synonyms), most specific first.

use std::collections::BTreeMap;

use super::broker_table::BROKER;
use super::setting::{Kind, Setting};
use super::topic_table::{CLIENT_METRICS, GROUP, TOPIC};
use super::values::DynamicBrokerConfigs;
use super::{Config, find, topic};

/// Where a value comes from; the number is what DescribeConfigs carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum Source {
    Topic = 1,
    DynamicBroker = 2,
    DynamicDefaultBroker = 3,
    StaticBroker = 4,
    Default = 5,
    DynamicBrokerLogger = 6,
    ClientMetrics = 7,
    Group = 8,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synonym {
    pub name: String,
    pub value: Option<String>,
    pub source: Source,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub name: String,
    /// None: null, or a secret.
    pub value: Option<String>,
    pub source: Source,
    pub read_only: bool,
    pub sensitive: bool,
    /// None for names nobody knows.
    pub kind: Option<Kind>,
    pub doc: &'static str,
    pub synonyms: Vec<Synonym>,
}

type Overrides = BTreeMap<String, String>;

impl Config {
    /// Every setting of a topic.
    pub fn describe_topic(&self, dynamic: DynamicBrokerConfigs, overrides: &Overrides) -> Vec<Entry> {
        let entry = |setting: &'static Setting| {
            let own = overrides.get(setting.name).and_then(|text| setting.parse(text).ok());
            let mut synonyms = match setting.synonym {
                "" => Vec::new(),
                broker_name => self.broker_synonyms(dynamic, broker_name),
            };
            if own.is_some() {
                synonyms.insert(0, synonym(setting.name, own.clone(), Source::Topic));
            }
            let value = own.unwrap_or_else(|| topic::default_value(&self.values, dynamic, setting));
            entry(setting, Some(value), synonyms)
        };
        TOPIC.iter().map(entry).collect()
    }

    /// Every setting of a group.
    pub fn describe_group(&self, dynamic: DynamicBrokerConfigs, overrides: &Overrides) -> Vec<Entry> {
        let entry = |setting: &'static Setting| {
            let own = overrides.get(setting.name).and_then(|text| setting.parse(text).ok());
            let source = if own.is_some() { Source::Group } else { Source::Default };
            let broker_default = || topic::default_value(&self.values, dynamic, setting);
            let value = own.unwrap_or_else(broker_default);
            let first = match (source, setting.synonym) {
                (Source::Default, broker_name) if !broker_name.is_empty() => None,
                _ => Some(synonym(setting.name, Some(value.clone()), source)),
            };
            let hidden =
                if setting.synonym.is_empty() { Vec::new() } else { self.broker_synonyms(dynamic, setting.synonym) };
            entry(setting, Some(value), first.into_iter().chain(hidden).collect())
        };
        GROUP.iter().map(entry).collect()
    }

    /// Every setting of this broker, and what else its configuration names.
    pub fn describe_broker(&self, dynamic: DynamicBrokerConfigs) -> Vec<Entry> {
        let known = BROKER.iter().map(|setting| {
            let value = dynamic.get(setting).or_else(|| self.values.get(setting.name).map(str::to_owned));
            let mut described = entry(setting, value, self.broker_synonyms(dynamic, setting.name));
            described.read_only = setting.is_read_only();
            described
        });
        // Kafka lists settings it does not know too, as secrets: they may be a plug-in's password.
        let unknown = self.values.given().keys().filter(|name| find(BROKER, name).is_none()).map(|name| Entry {
            name: name.clone(),
            value: None,
            source: Source::StaticBroker,
            read_only: true,
            sensitive: true,
            kind: None,
            doc: "",
            synonyms: vec![synonym(name, None, Source::StaticBroker)],
        });
        known.chain(unknown).collect()
    }

    /// What a broker setting would be without each of its sources: the setting itself first, then those that stand in
    /// for it. Kafka leaves out stand-ins that come before the setting itself is given anywhere.
    fn broker_synonyms(&self, dynamic: DynamicBrokerConfigs, name: &str) -> Vec<Synonym> {
        let names: Vec<&'static Setting> = stand_ins(name).iter().filter_map(|name| find(BROKER, name)).collect();
        let given = |layer: Option<&Overrides>, setting: &Setting| layer?.get(setting.name).cloned();
        let statics = Some(self.values.given());
        let mut found = Vec::new();
        for source in [Source::DynamicBroker, Source::DynamicDefaultBroker, Source::StaticBroker, Source::Default] {
            for setting in &names {
                let value = match source {
                    Source::DynamicBroker => given(dynamic.broker, setting),
                    Source::DynamicDefaultBroker => given(dynamic.cluster, setting),
                    Source::StaticBroker => given(statics, setting),
                    _ => setting.default.map(str::to_owned),
                };
                if let Some(value) = value {
                    found.push(synonym(setting.name, (!setting.is_sensitive()).then_some(value), source));
                }
            }
        }
        found.into_iter().skip_while(|synonym| synonym.name != name).collect()
    }
}

/// The broker settings that were changed for the whole cluster.
pub fn describe_cluster_defaults(changed: &Overrides) -> Vec<Entry> {
    let entry = |(name, text): (&String, &String)| {
        let setting = find(BROKER, name)?;
        let value = setting.parse(text).ok();
        let synonyms = vec![synonym(name, value.clone(), Source::DynamicDefaultBroker)];
        let mut described = entry(setting, value, synonyms);
        described.read_only = setting.is_read_only();
        Some(described)
    };
    changed.iter().filter_map(entry).collect()
}

/// Every setting of a client metrics subscription.
pub fn describe_client_metrics(overrides: &Overrides) -> Vec<Entry> {
    let entry = |setting: &'static Setting| {
        let own = overrides.get(setting.name).and_then(|text| setting.parse(text).ok());
        let source = if own.is_some() { Source::ClientMetrics } else { Source::Default };
        let value = own.or(setting.default.map(str::to_owned));
        Entry { source, ..entry(setting, value, Vec::new()) }
    };
    CLIENT_METRICS.iter().map(entry).collect()
}

/// There is one logger, and its level is the most that any part of the broker logs.
pub fn describe_loggers() -> Vec<Entry> {
    let level = match tracing::level_filters::LevelFilter::current().into_level() {
        Some(level) => level.to_string(),
        None => "OFF".to_owned(),
    };
    let source = Source::DynamicBrokerLogger;
    let (read_only, sensitive, kind, doc, synonyms) = (true, false, None, "", Vec::new());
    vec![Entry { name: "root".to_owned(), value: Some(level), source, read_only, sensitive, kind, doc, synonyms }]
}

fn synonym(name: &str, value: Option<String>, source: Source) -> Synonym {
    Synonym { name: name.to_owned(), value, source }
}

fn entry(setting: &'static Setting, value: Option<String>, synonyms: Vec<Synonym>) -> Entry {
    Entry {
        name: setting.name.to_owned(),
        value: value.filter(|_| !setting.is_sensitive()),
        source: synonyms.first().map_or(Source::Default, |first| first.source),
        read_only: false,
        sensitive: setting.is_sensitive(),
        kind: Some(setting.kind),
        doc: setting.doc,
        synonyms,
    }
}

/// Broker settings that stand in for each other, the strongest first.
fn stand_ins(name: &str) -> Vec<&str> {
    match name {
        "log.roll.ms" | "log.roll.hours" => vec!["log.roll.ms", "log.roll.hours"],
        "log.roll.jitter.ms" | "log.roll.jitter.hours" => vec!["log.roll.jitter.ms", "log.roll.jitter.hours"],
        "log.flush.interval.ms" => vec!["log.flush.interval.ms", "log.flush.scheduler.interval.ms"],
        "log.retention.ms" | "log.retention.minutes" | "log.retention.hours" => {
            vec!["log.retention.ms", "log.retention.minutes", "log.retention.hours"]
        }
        _ => vec![name],
    }
}
