//! What a single setting's bounds cannot say: combinations, and what this broker does not do yet and therefore refuses.

use std::collections::BTreeMap;

use super::ConfigError;
use super::setting::split_list;
use super::values::Values;

pub(super) fn check(values: &Values) -> Result<(), ConfigError> {
    check_roles(values)?;
    check_quorum(values)?;
    check_not_supported(values)?;
    check_logs(values)?;
    check_groups(values)?;
    check_network(values)
}

fn require(condition: bool, message: impl FnOnce() -> String) -> Result<(), ConfigError> {
    if condition { Ok(()) } else { Err(ConfigError(message())) }
}

fn check_roles(values: &Values) -> Result<(), ConfigError> {
    let roles = values.text("process.roles");
    let has = |role| split_list(roles).any(|entry| entry == role);
    require(has("broker") && has("controller"), || {
        format!("process.roles={roles} is not supported yet: this node must be both, broker,controller")
    })?;
    require(values.text("node.id") == values.text("broker.id"), || {
        format!(
            "node.id={} and broker.id={} must be the same, or only one of them set",
            values.text("node.id"),
            values.text("broker.id")
        )
    })
}

/// A single node is its own quorum; files written for Kafka may name it.
fn check_quorum(values: &Values) -> Result<(), ConfigError> {
    let node_id = values.text("node.id");
    let voters = values.text("controller.quorum.voters");
    for voter in split_list(voters) {
        let id = voter.split_once('@').filter(|(_, address)| is_address(address)).map(|(id, _)| id);
        require(id.is_some_and(|id| id.parse::<i32>().is_ok()), || {
            format!(
                "Invalid value {voters} for configuration controller.quorum.voters: entries are {{id}}@{{host}}:{{port}}"
            )
        })?;
        require(id == Some(node_id), || {
            format!("controller.quorum.voters={voters} names nodes other than this one ({node_id}): not supported yet")
        })?;
    }
    let servers = values.text("controller.quorum.bootstrap.servers");
    require(split_list(servers).all(is_address), || {
        format!(
            "Invalid value {servers} for configuration controller.quorum.bootstrap.servers: entries are {{host}}:{{port}}"
        )
    })?;
    require(split_list(servers).count() <= 1, || {
        format!("controller.quorum.bootstrap.servers={servers} names several controllers: not supported yet")
    })
}

fn is_address(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}

/// Accepting these and not doing them would be worse than not starting.
fn check_not_supported(values: &Values) -> Result<(), ConfigError> {
    let policies = ["create.topic.policy.class.name", "alter.config.policy.class.name", "client.quota.callback.class"];
    for name in ["authorizer.class.name"].into_iter().chain(policies) {
        let value = values.get(name).unwrap_or("");
        require(value.is_empty(), || format!("{name}={value} is not supported; leave it unset"))?;
    }
    require(values.text("remote.log.storage.system.enable") == "false", || {
        "remote.log.storage.system.enable=true is not supported; leave it false".to_owned()
    })?;
    require(values.text("config.providers").is_empty(), || {
        format!("config.providers={} is not supported; leave it unset", values.text("config.providers"))
    })
}

pub(super) fn check_logs(values: &Values) -> Result<(), ConfigError> {
    let ms = |name: &str| values.get(name).map_or(1, |text| text.parse::<i64>().expect("checked"));
    for (name, min) in [("log.roll.ms", 1), ("log.roll.jitter.ms", 0)] {
        let value = ms(name);
        require(value >= min, || {
            format!("Invalid value {value} for configuration {name}: Value must be at least {min}")
        })?;
    }
    for name in ["log.retention.ms", "log.retention.minutes", "log.retention.hours"] {
        let value = ms(name);
        require(value != 0, || {
            format!("Invalid value 0 for configuration {name}: Value must be -1 (unlimited) or at least 1")
        })?;
    }
    let (min_lag, max_lag) = (ms("log.cleaner.min.compaction.lag.ms"), ms("log.cleaner.max.compaction.lag.ms"));
    require(min_lag <= max_lag, || {
        format!(
            "log.cleaner.min.compaction.lag.ms={min_lag} must not be greater than \
             log.cleaner.max.compaction.lag.ms={max_lag}"
        )
    })
}

fn check_groups(values: &Values) -> Result<(), ConfigError> {
    let number = |name: &str| values.parse::<i64>(name);
    let in_order = |low: &str, high: &str| {
        let (lower, higher) = (number(low), number(high));
        require(lower <= higher, || format!("{low}={lower} must not be greater than {high}={higher}"))
    };
    in_order("group.min.session.timeout.ms", "group.max.session.timeout.ms")?;
    for name in ["session.timeout.ms", "heartbeat.interval.ms", "assignment.interval.ms"] {
        let [default, min, max] = ["", "min.", "max."].map(|bound| format!("group.consumer.{bound}{name}"));
        in_order(&min, &default)?;
        in_order(&default, &max)?;
    }
    let assignors = values.text("group.consumer.assignors");
    let known = |name| matches!(name, "uniform" | "range");
    require(!assignors.is_empty() && split_list(assignors).all(known), || {
        format!("group.consumer.assignors={assignors} is not supported: there are uniform and range")
    })
}

fn check_network(values: &Values) -> Result<(), ConfigError> {
    let queued: i64 = values.parse("queued.max.request.bytes");
    let largest: i64 = values.parse("socket.request.max.bytes");
    require(queued <= 0 || queued >= largest, || {
        format!("queued.max.request.bytes={queued} must be at least socket.request.max.bytes={largest}, or -1")
    })?;
    let per_ip: i64 = values.parse("max.connections.per.ip");
    require(per_ip != 0 || !values.text("max.connections.per.ip.overrides").is_empty(), || {
        "max.connections.per.ip=0 is allowed only where max.connections.per.ip.overrides is set".to_owned()
    })
}

/// `address:limit` pairs; the address may be an IPv6 one.
pub(super) fn per_ip_overrides(values: &Values) -> Result<BTreeMap<String, usize>, ConfigError> {
    let text = values.text("max.connections.per.ip.overrides");
    let pair = |entry: &str| {
        let parsed = entry.rsplit_once(':').and_then(|(host, limit)| Some((host.trim(), limit.trim().parse().ok()?)));
        match parsed {
            Some((host, limit)) if !host.is_empty() => Ok((host.to_owned(), limit)),
            _ => Err(ConfigError(format!(
                "Invalid value {text} for configuration max.connections.per.ip.overrides: entries are address:limit"
            ))),
        }
    };
    split_list(text).map(pair).collect()
}
