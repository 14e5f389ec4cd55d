//! The broker's effective settings as text, and what was given for them; the layer of settings changed at run time on
//! top, where the caller has one.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use super::broker_table::BROKER;
use super::setting::Setting;
use super::{ConfigError, find};

/// Static values. Sensitive ones never show in Debug output.
#[derive(Clone, Default)]
pub(super) struct Values {
    /// As written, also of names nobody knows.
    given: BTreeMap<String, String>,
    /// Of those that are in the table: checked, and as Kafka shows them.
    parsed: BTreeMap<&'static str, String>,
}

impl fmt::Debug for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.given.keys()).finish()
    }
}

impl Values {
    pub fn new(mut given: BTreeMap<String, String>) -> Result<Values, ConfigError> {
        let mut parsed = BTreeMap::new();
        for (name, text) in &given {
            if let Some(setting) = find(BROKER, name) {
                parsed.insert(setting.name, setting.parse(text).map_err(ConfigError)?);
            }
        }
        // One setting with two names: each stands for the other where only one is given.
        for (name, other) in [("node.id", "broker.id"), ("broker.id", "node.id")] {
            if let (None, Some(value)) = (given.get(name), given.get(other).cloned()) {
                parsed.insert(name, parsed[other].clone());
                given.insert(name.to_owned(), value);
            }
        }
        Ok(Values { given, parsed })
    }

    pub fn given(&self) -> &BTreeMap<String, String> {
        &self.given
    }

    pub fn is_given(&self, name: &str) -> bool {
        self.given.contains_key(name)
    }

    /// The given value, else the default; None for null.
    pub fn get(&self, name: &str) -> Option<&str> {
        match self.parsed.get(name) {
            Some(value) => Some(value),
            None => find(BROKER, name).and_then(|setting| setting.default),
        }
    }

    /// For settings that are never null.
    pub fn text(&self, name: &str) -> &str {
        self.get(name).unwrap_or_else(|| panic!("{name} has a default"))
    }

    /// For settings whose table row makes it a number (or a boolean) of this type.
    pub fn parse<T: FromStr>(&self, name: &str) -> T {
        self.text(name).parse().unwrap_or_else(|_| panic!("{name} was checked"))
    }
}

/// Broker settings that were changed at run time (ConfigRecords of brokers), this broker's before the cluster's.
#[derive(Clone, Copy, Debug, Default)]
pub struct DynamicBrokerConfigs<'a> {
    pub broker: Option<&'a BTreeMap<String, String>>,
    pub cluster: Option<&'a BTreeMap<String, String>>,
}

impl DynamicBrokerConfigs<'_> {
    /// A value that the table does not allow (of an older release, say) counts as not set.
    pub(super) fn get(&self, setting: &Setting) -> Option<String> {
        let layers = [self.broker, self.cluster].into_iter().flatten();
        layers.filter_map(|layer| setting.parse(layer.get(setting.name)?).ok()).next()
    }
}
