//! Changing settings at run time: what a request's operations make of a resource's overrides, or why they are refused.
//! Pure; the caller knows what is there and commits the outcome.

use std::collections::{BTreeMap, BTreeSet};

use super::broker_table::BROKER;
use super::setting::{Dynamic, Kind, Setting, split_list};
use super::topic_table::{GROUP, TOPIC};
use super::values::Values;
use super::{Config, checks, find, validate_topic_config};
use crate::error::{ApiError, ErrorCode};

/// One operation of IncrementalAlterConfigs; AlterConfigs sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Set,
    Delete,
    Append,
    Subtract,
}

impl Op {
    pub fn from_wire(op: i8) -> Option<Op> {
        [Op::Set, Op::Delete, Op::Append, Op::Subtract].into_iter().nth(usize::try_from(op).ok()?)
    }

    fn name(self) -> &'static str {
        match self {
            Op::Set => "SET",
            Op::Delete => "DELETE",
            Op::Append => "APPEND",
            Op::Subtract => "SUBTRACT",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    pub name: String,
    /// As on the wire.
    pub op: i8,
    pub value: Option<String>,
}

type Overrides = BTreeMap<String, String>;

/// What has to hold for any kind of resource: each name once, and a value wherever one is needed.
pub fn check_operations(operations: &[Operation]) -> Result<(), ApiError> {
    let mut names = BTreeSet::new();
    if !operations.iter().all(|operation| names.insert(&operation.name)) {
        return Err(ApiError::new(ErrorCode::InvalidRequest, "Error due to duplicate config keys"));
    }
    let needs_value = |operation: &&Operation| operation.value.is_none() && operation.op != Op::Delete as i8;
    let nulls: Vec<&str> = operations.iter().filter(needs_value).map(|operation| operation.name.as_str()).collect();
    if !nulls.is_empty() {
        let message = format!("Null value not supported for : {}", nulls.join(", "));
        return Err(ApiError::new(ErrorCode::InvalidRequest, message));
    }
    Ok(())
}

/// A topic's overrides after `operations`, checked as a whole.
pub fn alter_topic(current: &Overrides, operations: &[Operation]) -> Result<Overrides, ApiError> {
    let altered = apply(TOPIC, current, operations)?;
    validate_topic_config(&altered).map_err(|message| ApiError::new(ErrorCode::InvalidConfig, message))?;
    Ok(altered)
}

/// The settings of one broker, or with `cluster_wide` of all, after `operations`. What takes effect while the broker runs
/// is what topics inherit; the messages tell what Kafka could not change either.
pub fn alter_broker(current: &Overrides, operations: &[Operation], cluster_wide: bool) -> Result<Overrides, ApiError> {
    let invalid_request = |message: String| ApiError::new(ErrorCode::InvalidRequest, message);
    let altered = apply(BROKER, current, operations)?;
    let chosen = |choose: &dyn Fn(&str, Option<&Setting>) -> bool| {
        let chosen: Vec<&str> =
            altered.keys().map(String::as_str).filter(|name| choose(name, find(BROKER, name))).collect();
        if chosen.is_empty() { None } else { Some(format!("[{}]", chosen.join(", "))) }
    };
    if let Some(names) = chosen(&|_, setting| setting.is_some_and(Setting::is_read_only)) {
        return Err(invalid_request(format!("Cannot update these configs dynamically: {names}")));
    }
    let per_broker = |setting: &Setting| cluster_wide && setting.dynamic == Dynamic::PerBroker;
    if let Some(names) = chosen(&|_, setting| setting.is_some_and(per_broker)) {
        let why = "Cannot update these configs at default cluster level, broker id must be specified";
        return Err(invalid_request(format!("{why}: {names}")));
    }
    let inherited = |name: &str| TOPIC.iter().any(|setting| setting.synonym == name);
    if let Some(names) = chosen(&|name, _| current.get(name) != altered.get(name) && !inherited(name)) {
        return Err(invalid_request(format!("This broker does not update these configs dynamically yet: {names}")));
    }
    let min_isr = operations.iter().find(|operation| operation.name == "min.insync.replicas");
    match min_isr {
        Some(_) if !cluster_wide => return Err(elr("Broker-level min.insync.replicas cannot be altered")),
        Some(_) if !altered.contains_key("min.insync.replicas") => {
            return Err(elr("Cluster-level min.insync.replicas cannot be removed"));
        }
        _ => {}
    }
    let values = Values::new(altered.clone()).and_then(|values| checks::check_logs(&values));
    values.map_err(|error| invalid_request(error.0))?;
    Ok(altered)
}

impl Config {
    /// A group's overrides after `operations`, within the bounds that the broker's settings draw.
    pub fn alter_group(&self, current: &Overrides, operations: &[Operation]) -> Result<Overrides, ApiError> {
        let altered = apply(GROUP, current, operations)?;
        self.check_group(&altered).map_err(|message| ApiError::new(ErrorCode::InvalidConfig, message))?;
        Ok(altered)
    }

    fn check_group(&self, overrides: &Overrides) -> Result<(), String> {
        let effective = |name: &str| {
            let setting = find(GROUP, name)?;
            let own = overrides.get(name).and_then(|text| setting.parse(text).ok());
            own.or_else(|| self.value(setting.synonym).map(str::to_owned))?.parse::<i64>().ok()
        };
        for (name, text) in overrides {
            let setting = find(GROUP, name).ok_or_else(|| format!("Unknown group config name: {name}"))?;
            setting.parse(text)?;
            let Some((kind, rest)) = name.split_once('.') else { continue };
            for (bound, words) in [("min", "greater"), ("max", "less")] {
                let broker_name = format!("group.{kind}.{bound}.{rest}");
                let limit = self.value(&broker_name).and_then(|limit| limit.parse::<i64>().ok());
                let (Some(limit), Some(value)) = (limit, effective(name)) else { continue };
                if (bound == "min" && value < limit) || (bound == "max" && value > limit) {
                    return Err(format!("{name} must be {words} than or equal to {broker_name}"));
                }
            }
        }
        for kind in ["consumer", "share", "streams"] {
            let (session, heartbeat) = (format!("{kind}.session.timeout.ms"), format!("{kind}.heartbeat.interval.ms"));
            if effective(&session) <= effective(&heartbeat) {
                return Err(format!("{session} must be greater than {heartbeat}"));
            }
        }
        Ok(())
    }
}

/// Eligible leader replicas, which new clusters have, build on one min.insync.replicas for all.
fn elr(what: &str) -> ApiError {
    ApiError::new(ErrorCode::InvalidConfig, format!("{what} while ELR is enabled."))
}

fn apply(table: &'static [Setting], current: &Overrides, operations: &[Operation]) -> Result<Overrides, ApiError> {
    let mut altered = current.clone();
    for Operation { name, op, value } in operations {
        let Some(op) = Op::from_wire(*op) else {
            return Err(ApiError::new(ErrorCode::InvalidRequest, format!("Unknown operation type {op}")));
        };
        let value = value.as_deref().unwrap_or("");
        match op {
            Op::Set => altered.insert(name.clone(), value.to_owned()),
            Op::Delete => altered.remove(name),
            Op::Append | Op::Subtract => {
                let setting = find(table, name).filter(|setting| setting.kind == Kind::List).ok_or_else(|| {
                    let message = format!("Can't {} to key {name} because its type is not LIST.", op.name());
                    ApiError::new(ErrorCode::InvalidConfig, message)
                })?;
                let present = current.get(name).map(String::as_str).or(setting.default).unwrap_or("");
                altered.insert(name.clone(), alter_list(present, op, value))
            }
        };
    }
    Ok(altered)
}

/// Appending what is there, or taking away what is not, changes nothing.
fn alter_list(present: &str, op: Op, value: &str) -> String {
    let mut entries: Vec<&str> = split_list(present).collect();
    for entry in value.split(',') {
        let place = entries.iter().position(|&present| present == entry);
        match (op, place) {
            (Op::Append, None) => entries.push(entry),
            (Op::Subtract, Some(place)) => {
                entries.remove(place);
            }
            _ => {}
        }
    }
    entries.join(",")
}

/// The difference: (name, new value), None where an override goes.
pub fn difference(current: &Overrides, altered: &Overrides) -> Vec<(String, Option<String>)> {
    let set = altered.iter().filter(|(name, value)| current.get(*name) != Some(value));
    let removed = current.keys().filter(|name| !altered.contains_key(*name));
    set.map(|(name, value)| (name.clone(), Some(value.clone())))
        .chain(removed.map(|name| (name.clone(), None)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(name: &str, op: Op, value: &str) -> Operation {
        Operation { name: name.to_owned(), op: op as i8, value: Some(value.to_owned()) }
    }
    fn overrides(pairs: &[(&str, &str)]) -> Overrides {
        pairs.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect()
    }
    fn refusal(operations: &[Operation]) -> (ErrorCode, String) {
        let error = check_operations(operations)
            .and_then(|()| alter_topic(&Overrides::new(), operations).map(|_| ()))
            .expect_err("refused");
        (error.code, error.message)
    }

    #[test]
    fn operations_set_delete_append_and_subtract() {
        let current = overrides(&[("cleanup.policy", "compact"), ("retention.ms", "5")]);
        let altered = alter_topic(
            &current,
            &[
                operation("cleanup.policy", Op::Append, "delete,compact"),
                operation("retention.ms", Op::Delete, ""),
                operation("segment.bytes", Op::Set, "2000000"),
            ],
        );
        let altered = altered.unwrap();
        assert_eq!(altered, overrides(&[("cleanup.policy", "compact,delete"), ("segment.bytes", "2000000")]));
        let difference = difference(&current, &altered);
        let expected =
            [("cleanup.policy", Some("compact,delete")), ("segment.bytes", Some("2000000")), ("retention.ms", None)];
        assert_eq!(difference, expected.map(|(name, value)| (name.to_owned(), value.map(str::to_owned))));
        let emptied = alter_topic(&current, &[operation("cleanup.policy", Op::Subtract, "compact,delete")]).unwrap();
        assert_eq!(emptied["cleanup.policy"], "");
    }

    #[test]
    fn appending_starts_from_the_default() {
        let altered = alter_topic(&Overrides::new(), &[operation("cleanup.policy", Op::Append, "compact")]).unwrap();
        assert_eq!(altered, overrides(&[("cleanup.policy", "delete,compact")]));
    }

    #[test]
    fn what_kafka_refuses_is_refused_in_its_words() {
        let (config, request) = (ErrorCode::InvalidConfig, ErrorCode::InvalidRequest);
        let set = |name, value| operation(name, Op::Set, value);
        let delete = |name: &str| Operation { name: name.to_owned(), op: 1, value: None };
        let cases = [
            (vec![set("no.such", "1")], config, "Unknown topic config name: no.such"),
            (
                vec![operation("retention.ms", Op::Append, "1")],
                config,
                "Can't APPEND to key retention.ms because its type is not LIST.",
            ),
            (
                vec![operation("nope", Op::Subtract, "1")],
                config,
                "Can't SUBTRACT to key nope because its type is not LIST.",
            ),
            (vec![set("retention.ms", "1"), delete("retention.ms")], request, "Error due to duplicate config keys"),
            (
                vec![Operation { name: "retention.ms".to_owned(), op: 0, value: None }],
                request,
                "Null value not supported for : retention.ms",
            ),
            (
                vec![set("min.compaction.lag.ms", "10"), set("max.compaction.lag.ms", "5")],
                config,
                "conflict topic config setting min.compaction.lag.ms (10) > max.compaction.lag.ms (5)",
            ),
            (
                vec![set("segment.bytes", "1")],
                config,
                "Invalid value 1 for configuration segment.bytes: Value must be at least 1048576",
            ),
        ];
        for (operations, code, message) in cases {
            assert_eq!(refusal(&operations), (code, message.to_owned()));
        }
        assert_eq!(alter_topic(&Overrides::new(), &[delete("nope")]), Ok(Overrides::new()), "nothing to delete");
    }

    #[test]
    fn broker_settings_that_topics_inherit_change_at_run_time() {
        let settings = [operation("log.retention.ms", Op::Set, "-5"), operation("message.max.bytes", Op::Set, "5555")];
        let altered = alter_broker(&Overrides::new(), &settings, true).unwrap();
        assert_eq!(altered, overrides(&[("log.retention.ms", "-5"), ("message.max.bytes", "5555")]));
        let appended =
            alter_broker(&altered, &[operation("log.cleanup.policy", Op::Append, "compact")], false).unwrap();
        assert_eq!(appended["log.cleanup.policy"], "delete,compact");
        let delete = |name: &str| Operation { name: name.to_owned(), op: 1, value: None };
        assert_eq!(
            alter_broker(&altered, &[delete("message.max.bytes"), delete("log.retention.ms")], true),
            Ok(overrides(&[]))
        );
    }

    #[test]
    fn group_settings_keep_within_the_brokers_bounds() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config::for_tests(dir.path(), &[("group.consumer.max.session.timeout.ms", "50000")]);
        let alter = |name, value| config.alter_group(&Overrides::new(), &[operation(name, Op::Set, value)]);
        let session = alter("consumer.session.timeout.ms", "46000").unwrap();
        assert_eq!(session, overrides(&[("consumer.session.timeout.ms", "46000")]));
        let refusal = |name, value| alter(name, value).map_err(|error| (error.code, error.message)).unwrap_err();
        let expected = [
            ("no.such", "1", "Unknown group config name: no.such"),
            (
                "consumer.session.timeout.ms",
                "50001",
                "consumer.session.timeout.ms must be less than or equal to group.consumer.max.session.timeout.ms",
            ),
            (
                "consumer.heartbeat.interval.ms",
                "4999",
                "consumer.heartbeat.interval.ms must be greater than or equal to \
                 group.consumer.min.heartbeat.interval.ms",
            ),
            (
                "consumer.session.timeout.ms",
                "x",
                "Invalid value x for configuration consumer.session.timeout.ms: Not a number of type INT",
            ),
        ];
        for (name, value, message) in expected {
            assert_eq!(refusal(name, value), (ErrorCode::InvalidConfig, message.to_owned()));
        }
    }

    #[test]
    fn other_broker_settings_are_refused_in_kafkas_words_where_it_has_some() {
        let refusal = |name, value, cluster_wide| {
            alter_broker(&Overrides::new(), &[operation(name, Op::Set, value)], cluster_wide).unwrap_err().message
        };
        assert_eq!(refusal("node.id", "7", false), "Cannot update these configs dynamically: [node.id]");
        assert_eq!(
            refusal("listeners", "PLAINTEXT://:1", true),
            "Cannot update these configs at default cluster level, broker id must be specified: [listeners]"
        );
        assert_eq!(
            refusal("message.max.bytes", "-1", true),
            "Invalid value -1 for configuration message.max.bytes: Value must be at least 0"
        );
        assert_eq!(
            refusal("min.insync.replicas", "2", false),
            "Broker-level min.insync.replicas cannot be altered while ELR is enabled."
        );
        assert!(refusal("log.roll.ms", "0", true).contains("at least 1"));
        assert!(refusal("num.io.threads", "9", true).contains("yet: [num.io.threads]"));
    }
}
