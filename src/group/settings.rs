//! The broker's settings for groups, out of its configuration, and the checks of those that groups may have of their own.

use std::collections::BTreeMap;

use super::records::Name;
use crate::config::Config;

/// The broker's settings for groups.
#[derive(Clone, Debug)]
pub struct Settings {
    pub initial_rebalance_delay_ms: i32,
    pub max_size: usize,
    pub min_session_timeout_ms: i32,
    pub max_session_timeout_ms: i32,
    pub offset_metadata_max_bytes: usize,
    pub offsets_retention_ms: i64,
    pub offsets_retention_check_interval_ms: i64,
    pub consumer: ConsumerSettings,
}

/// Those of KIP-848, of which some can be set for a single group.
#[derive(Clone, Debug)]
pub struct ConsumerSettings {
    pub enabled: bool,
    pub session_timeout_ms: Bounded,
    pub heartbeat_interval_ms: Bounded,
    pub assignment_interval_ms: Bounded,
    pub max_size: usize,
    /// Names; the first is the default.
    pub assignors: Vec<Name>,
    pub migration: MigrationPolicy,
}

/// A setting that groups may override within bounds.
#[derive(Clone, Copy, Debug)]
pub struct Bounded {
    pub default: i32,
    pub min: i32,
    pub max: i32,
}

/// Which way a group with members may change its protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MigrationPolicy {
    pub upgrade: bool,
    pub downgrade: bool,
}

impl Settings {
    pub fn new(config: &Config) -> Settings {
        let number =
            |name: &str| config.value(name).and_then(|text| text.parse::<i64>().ok()).expect("a checked number");
        let int = |name: &str| number(name) as i32;
        let list = |name: &str| config.value(name).unwrap_or_default().split(',').map(str::trim).collect::<Vec<_>>();
        let bounded = |name: &str| {
            let [default, min, max] = ["", "min.", "max."].map(|bound| int(&format!("group.consumer.{bound}{name}")));
            Bounded { default, min, max }
        };
        let policy = config.value("group.consumer.migration.policy").unwrap_or_default().to_ascii_lowercase();
        Settings {
            initial_rebalance_delay_ms: int("group.initial.rebalance.delay.ms"),
            max_size: number("group.max.size") as usize,
            min_session_timeout_ms: int("group.min.session.timeout.ms"),
            max_session_timeout_ms: int("group.max.session.timeout.ms"),
            offset_metadata_max_bytes: number("offset.metadata.max.bytes") as usize,
            offsets_retention_ms: number("offsets.retention.minutes") * 60_000,
            offsets_retention_check_interval_ms: number("offsets.retention.check.interval.ms"),
            consumer: ConsumerSettings {
                enabled: list("group.coordinator.rebalance.protocols").contains(&"consumer"),
                session_timeout_ms: bounded("session.timeout.ms"),
                heartbeat_interval_ms: bounded("heartbeat.interval.ms"),
                assignment_interval_ms: bounded("assignment.interval.ms"),
                max_size: number("group.consumer.max.size") as usize,
                assignors: list("group.consumer.assignors").into_iter().map(Name::from).collect(),
                migration: MigrationPolicy {
                    upgrade: matches!(&*policy, "upgrade" | "bidirectional"),
                    downgrade: matches!(&*policy, "downgrade" | "bidirectional"),
                },
            },
        }
    }
}

impl Bounded {
    /// A value that was set when the bounds were wider is brought within them.
    pub(super) fn of(self, overrides: Option<&BTreeMap<String, String>>, name: &str) -> i32 {
        let own = overrides.and_then(|overrides| overrides.get(name)?.parse::<i32>().ok());
        own.map_or(self.default, |value| value.max(self.min).min(self.max))
    }
}
