//! Which log is cleaned next (Kafka's LogCleanerManager): the dirtiest of those that are due.

use std::sync::Arc;

use super::{CleanError, Cleaned, OffsetMap, Pace, clean};
use crate::Result;
use crate::log::{LogEntry, LogManager};

/// Cleans the dirtiest log that is due, if there is one, and says so in `cleaner-offset-checkpoint`. A log that cannot be
/// cleaned is named in the log output and left alone until the next start. False if nothing was cleaned: wait a while.
pub fn clean_dirtiest(
    logs: &Arc<LogManager>,
    map: &mut OffsetMap,
    now_ms: i64,
    pace: Pace<'_>,
) -> Result<bool, CleanError> {
    let Some(LogEntry { topic, partition, log, .. }) = dirtiest(logs, now_ms) else { return Ok(false) };
    let topic = &*topic;
    match clean(&log, map, now_ms, pace) {
        Ok(Some(cleaned)) => {
            let Cleaned { from_offset, to_offset, keys, bytes_read, bytes_written } = cleaned;
            tracing::info!(topic, partition, from_offset, to_offset, keys, bytes_read, bytes_written, "compacted");
            if let Err(error) = logs.write_checkpoints() {
                tracing::error!(%error, "offset checkpoints could not be written");
            }
            Ok(true)
        }
        Ok(None) => Ok(false),
        // Deleted meanwhile, or everything stops: the caller's pace knows.
        Err(CleanError::Stopped) if log.is_offline() => Ok(true),
        Err(CleanError::Stopped) => Err(CleanError::Stopped),
        Err(CleanError::Storage(error)) if error.is_no_space() => {
            tracing::warn!(topic, partition, %error, "no room to compact: tried again later");
            Ok(false)
        }
        Err(CleanError::Storage(_)) if log.is_offline() => Ok(true),
        Err(CleanError::Storage(error)) => {
            tracing::error!(topic, partition, %error, "cannot be compacted, and will not be until the next start");
            log.set_uncleanable();
            Ok(true)
        }
    }
}

fn dirtiest(logs: &LogManager, now_ms: i64) -> Option<LogEntry> {
    let mut dirtiest: Option<(f64, LogEntry)> = None;
    for entry in logs.logs().into_iter().filter(|entry| entry.log.may_be_cleaned()) {
        match entry.log.cleanable(now_ms) {
            Ok(Some(cleanable)) if cleanable.is_due(&entry.log.config()) => {
                if dirtiest.as_ref().is_none_or(|(ratio, _)| *ratio < cleanable.ratio()) {
                    dirtiest = Some((cleanable.ratio(), entry));
                }
            }
            Ok(_) => {}
            Err(error) => {
                let LogEntry { topic, partition, log, .. } = entry;
                let topic = &*topic;
                tracing::error!(topic, partition, %error, "cannot be compacted, and will not be until the next start");
                log.set_uncleanable();
            }
        }
    }
    dirtiest.map(|(_, entry)| entry)
}
