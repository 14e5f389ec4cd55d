//! A running broker: one tokio runtime with its own io_uring a core, the start and stop order, signals.

use crate::config::Config;

/// Serves until SIGTERM or SIGINT, prints the ready line; returns after a clean stop.
pub fn run(config: Config) -> anyhow::Result<()> {
    todo!()
}
