//! `listeners`, `advertised.listeners` and the settings that name them: parsed, matched and checked as Kafka does.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};

use super::setting::split_list;
use super::values::Values;
use super::{ConfigError, Listener};

/// The listeners and which of them brokers use, all checked.
pub(super) struct Listeners {
    pub listeners: Vec<Listener>,
    pub inter_broker_listener_name: String,
    pub controller_listener_names: Vec<String>,
}

/// NAME://host:port
struct Endpoint {
    name: String,
    host: String,
    port: u16,
}

pub(super) fn resolve(values: &Values) -> Result<Listeners, ConfigError> {
    let controllers: Vec<String> =
        split_list(values.text("controller.listener.names")).map(str::to_uppercase).collect();
    let endpoints = parse_all("listeners", values.text("listeners"))?;
    check_distinct(&endpoints)?;
    let advertised = match values.get("advertised.listeners") {
        Some(text) => parse_all("advertised.listeners", text)?,
        None => parse_all("listeners", values.text("listeners"))?,
    };
    let advertised = advertised_to_clients(advertised, &endpoints, &controllers)?;
    let protocols = security_protocols(values, &controllers)?;
    let mut listeners = Vec::with_capacity(endpoints.len());
    for Endpoint { name, host, port } in endpoints {
        let Some(security_protocol) = protocols.get(&name) else {
            return fail(format!(
                "listeners: no security protocol defined for listener {name}; name it in listener.security.protocol.map"
            ));
        };
        if security_protocol != "PLAINTEXT" {
            return fail(format!(
                "listeners: {name} uses {security_protocol}, which is not supported yet; use PLAINTEXT"
            ));
        }
        let advertised = advertised.get(&name).cloned();
        listeners.push(Listener { name, security_protocol: security_protocol.clone(), host, port, advertised });
    }
    let inter_broker_listener_name = inter_broker_listener(values, &advertised)?;
    Ok(Listeners { listeners, inter_broker_listener_name, controller_listener_names: controllers })
}

fn fail<T>(message: String) -> Result<T, ConfigError> {
    Err(ConfigError(message))
}

fn parse_all(key: &str, text: &str) -> Result<Vec<Endpoint>, ConfigError> {
    let parse = |entry: &str| {
        parse_endpoint(entry).ok_or_else(|| {
            ConfigError(format!("Invalid value {text} for configuration {key}: {entry} is not NAME://host:port"))
        })
    };
    split_list(text).map(parse).collect()
}

fn parse_endpoint(text: &str) -> Option<Endpoint> {
    let (name, address) = text.split_once("://")?;
    let (host, port) = address.rsplit_once(':')?;
    let host = match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').filter(|ip| ip.parse::<Ipv6Addr>().is_ok())?,
        None => host,
    };
    let host_char = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '%' | '.' | '_' | ':');
    if name.is_empty() || !host.chars().all(host_char) {
        return None;
    }
    Some(Endpoint { name: name.to_uppercase(), host: host.to_owned(), port: port.parse().ok()? })
}

/// Names differ, and ports too, but for port 0 and for an IPv4 and an IPv6 address that share one.
fn check_distinct(endpoints: &[Endpoint]) -> Result<(), ConfigError> {
    for (i, one) in endpoints.iter().enumerate() {
        for other in &endpoints[..i] {
            if one.name == other.name {
                return fail(format!("listeners: each listener must have a different name, {} comes twice", one.name));
            }
            if one.port == other.port && one.port != 0 && !is_dual_stack(&one.host, &other.host) {
                return fail(format!("listeners: each listener must have a different port, {} comes twice", one.port));
            }
        }
    }
    Ok(())
}

fn is_dual_stack(one: &str, other: &str) -> bool {
    let v4 = |host: &str| host.parse::<Ipv4Addr>().is_ok();
    let v6 = |host: &str| host.parse::<Ipv6Addr>().is_ok();
    (v4(one) && v6(other)) || (v6(one) && v4(other))
}

/// What clients are told, by listener. An empty host stands for this machine's name; port 0 for the bound port.
fn advertised_to_clients(
    advertised: Vec<Endpoint>,
    endpoints: &[Endpoint],
    controllers: &[String],
) -> Result<BTreeMap<String, (String, u16)>, ConfigError> {
    let known: BTreeSet<&str> = endpoints.iter().map(|e| e.name.as_str()).collect();
    let mut by_name = BTreeMap::new();
    for Endpoint { name, host, port } in advertised.into_iter().filter(|e| !controllers.contains(&e.name)) {
        if !known.contains(name.as_str()) {
            let known: Vec<&str> = known.into_iter().collect();
            return fail(format!("advertised.listeners: {name} is not one of the listeners {}", known.join(",")));
        }
        if host == "0.0.0.0" {
            return fail(format!(
                "advertised.listeners: clients cannot connect to the meta-address 0.0.0.0 of {name}; use a routable address"
            ));
        }
        let host = if host.is_empty() { host_name() } else { host };
        if by_name.insert(name.clone(), (host, port)).is_some() {
            return fail(format!("advertised.listeners: each listener must have a different name, {name} comes twice"));
        }
    }
    if by_name.is_empty() {
        return fail("listeners: there must be at least one that is not in controller.listener.names".to_owned());
    }
    Ok(by_name)
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

const PROTOCOLS: &[&str] = &["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"];

/// Listener name -> security protocol. Controller listeners need no entry where the map is left at its default.
fn security_protocols(values: &Values, controllers: &[String]) -> Result<BTreeMap<String, String>, ConfigError> {
    let text = values.text("listener.security.protocol.map");
    let invalid = |why: &str| {
        ConfigError(format!("Invalid value {text} for configuration listener.security.protocol.map: {why}"))
    };
    let mut map = BTreeMap::new();
    for entry in split_list(text) {
        let (name, protocol) = entry.split_once(':').ok_or_else(|| invalid("entries are NAME:PROTOCOL"))?;
        let protocol = protocol.trim().to_uppercase();
        if !PROTOCOLS.contains(&protocol.as_str()) {
            return Err(invalid(&format!("protocols are {}", PROTOCOLS.join(", "))));
        }
        map.insert(name.trim().to_uppercase(), protocol);
    }
    if !values.is_given("listener.security.protocol.map") {
        for name in controllers {
            map.entry(name.clone()).or_insert_with(|| "PLAINTEXT".to_owned());
        }
    }
    Ok(map)
}

fn inter_broker_listener(values: &Values, advertised: &BTreeMap<String, (String, u16)>) -> Result<String, ConfigError> {
    let named = values.get("inter.broker.listener.name");
    if named.is_some() && values.is_given("security.inter.broker.protocol") {
        return fail("only one of inter.broker.listener.name and security.inter.broker.protocol may be set".to_owned());
    }
    let name = named.unwrap_or_else(|| values.text("security.inter.broker.protocol")).to_uppercase();
    if !advertised.contains_key(&name) {
        let valid: Vec<&str> = advertised.keys().map(String::as_str).collect();
        return fail(format!(
            "inter.broker.listener.name must be a listener name defined in advertised.listeners: {name} is not one of {}",
            valid.join(",")
        ));
    }
    Ok(name)
}
