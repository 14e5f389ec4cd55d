//! The broker's settings for transactions, out of its configuration.

use crate::config::Config;

#[derive(Clone, Debug)]
pub struct Settings {
    pub max_timeout_ms: i32,
    pub abort_interval_ms: i64,
    pub id_expiration_ms: i64,
    pub expiration_interval_ms: i64,
}

impl Settings {
    pub fn new(config: &Config) -> Settings {
        let int = |name: &str| config.value(name).and_then(|text| text.parse::<i32>().ok()).expect("a checked number");
        Settings {
            max_timeout_ms: int("transaction.max.timeout.ms"),
            abort_interval_ms: int("transaction.abort.timed.out.transaction.cleanup.interval.ms").into(),
            id_expiration_ms: int("transactional.id.expiration.ms").into(),
            expiration_interval_ms: int("transaction.remove.expired.transaction.cleanup.interval.ms").into(),
        }
    }
}
