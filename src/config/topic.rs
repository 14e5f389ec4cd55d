//! Topic settings: their defaults from the broker's, their checks, and the LogConfig that logs follow.

use std::collections::BTreeMap;
use std::str::FromStr;

use ottla_storage::batch::{Compression, TimestampType};
use ottla_storage::log::LogConfig;
use ottla_storage::validate::AppendRules;

use super::broker_table::BROKER;
use super::setting::{Setting, split_list};
use super::topic_table::TOPIC;
use super::values::{DynamicBrokerConfigs, Values};
use super::{find, find_known};

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;

/// Checks a topic's overrides as Kafka's LogConfig.validate does: unknown names, bad values, combinations.
/// The error is the message Kafka's client shows (INVALID_CONFIG).
pub fn validate_topic_config(overrides: &BTreeMap<String, String>) -> Result<(), String> {
    let mut values = BTreeMap::new();
    for name in overrides.keys() {
        find(TOPIC, name).ok_or_else(|| format!("Unknown topic config name: {name}"))?;
    }
    for (name, text) in overrides {
        values.insert(name.as_str(), find_known(TOPIC, name).parse(text)?);
    }
    let value =
        |name| values.get(name).map_or_else(|| find_known(TOPIC, name).default.expect("not null"), String::as_str);
    let number = |name| value(name).parse::<i64>().expect("checked");
    let (min_lag, max_lag) = (number("min.compaction.lag.ms"), number("max.compaction.lag.ms"));
    if min_lag > max_lag {
        return Err(format!(
            "conflict topic config setting min.compaction.lag.ms ({min_lag}) > max.compaction.lag.ms ({max_lag})"
        ));
    }
    if value("remote.storage.enable") == "true" {
        return Err("Tiered Storage functionality is disabled in the broker. \
                    Topic cannot be configured with remote log storage."
            .to_owned());
    }
    Ok(())
}

/// The value of a topic setting that the topic does not override.
pub(super) fn default_value(values: &Values, dynamic: DynamicBrokerConfigs, setting: &Setting) -> String {
    let broker = |name: &str| dynamic.get(find_known(BROKER, name)).or_else(|| values.get(name).map(str::to_owned));
    let number = |name: &str| broker(name).map(|text| text.parse::<i64>().expect("checked"));
    let ms = |name: &str, unit_ms: i64| number(name).map(|n| n.saturating_mul(unit_ms));
    let first_ms = match setting.name {
        "segment.ms" => ms("log.roll.ms", 1).or(ms("log.roll.hours", HOUR_MS)),
        "segment.jitter.ms" => ms("log.roll.jitter.ms", 1).or(ms("log.roll.jitter.hours", HOUR_MS)),
        "flush.ms" => ms("log.flush.interval.ms", 1).or(ms("log.flush.scheduler.interval.ms", 1)),
        "retention.ms" => ms("log.retention.ms", 1)
            .or(ms("log.retention.minutes", MINUTE_MS))
            .or(ms("log.retention.hours", HOUR_MS))
            .map(|n| n.max(-1)),
        _ => None,
    };
    let synonym = || if setting.synonym.is_empty() { None } else { broker(setting.synonym) };
    let default = || setting.default.expect("topic settings are not null").to_owned();
    first_ms.map(|n| n.to_string()).or_else(synonym).unwrap_or_else(default)
}

pub(super) fn log_config(
    values: &Values,
    dynamic: DynamicBrokerConfigs,
    overrides: &BTreeMap<String, String>,
) -> LogConfig {
    let text = |name: &str| {
        let setting = find_known(TOPIC, name);
        let own = overrides.get(name).and_then(|text| setting.parse(text).ok());
        own.unwrap_or_else(|| default_value(values, dynamic, setting))
    };
    fn checked<T: FromStr>(text: String) -> T {
        text.parse().unwrap_or_else(|_| panic!("{text} was checked"))
    }
    let long = |name: &str| checked::<i64>(text(name));
    let bytes = |name: &str| checked::<u32>(text(name));
    let policy = text("cleanup.policy");
    let compact = split_list(&policy).any(|entry| entry == "compact");
    let level = |name: &str| Some(checked::<i32>(text(name)));
    let compression = match text("compression.type").as_str() {
        "uncompressed" => Some((Compression::None, None)),
        "gzip" => Some((Compression::Gzip, level("compression.gzip.level"))),
        "snappy" => Some((Compression::Snappy, None)),
        "lz4" => Some((Compression::Lz4, level("compression.lz4.level"))),
        "zstd" => Some((Compression::Zstd, level("compression.zstd.level"))),
        _ => None,
    };
    let timestamp_type = match text("message.timestamp.type").as_str() {
        "LogAppendTime" => TimestampType::LogAppendTime,
        _ => TimestampType::CreateTime,
    };
    LogConfig {
        rules: AppendRules {
            timestamp_type,
            timestamp_before_max_ms: long("message.timestamp.before.max.ms"),
            timestamp_after_max_ms: long("message.timestamp.after.max.ms"),
            max_message_bytes: checked(text("max.message.bytes")),
            compression,
            compacted: compact,
        },
        segment_bytes: bytes("segment.bytes"),
        segment_ms: long("segment.ms"),
        segment_jitter_ms: long("segment.jitter.ms"),
        segment_index_bytes: bytes("segment.index.bytes"),
        index_interval_bytes: bytes("index.interval.bytes"),
        retention_ms: long("retention.ms"),
        retention_bytes: long("retention.bytes"),
        file_delete_delay_ms: long("file.delete.delay.ms"),
        flush_messages: long("flush.messages"),
        flush_ms: long("flush.ms"),
        delete: split_list(&policy).any(|entry| entry == "delete"),
        compact,
        preallocate: text("preallocate") == "true",
        min_cleanable_dirty_ratio: checked(text("min.cleanable.dirty.ratio")),
        min_compaction_lag_ms: long("min.compaction.lag.ms"),
        max_compaction_lag_ms: long("max.compaction.lag.ms"),
        delete_retention_ms: long("delete.retention.ms"),
    }
}
