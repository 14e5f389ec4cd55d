//! Reading a partition's log from its beginning into a machine.

use std::sync::Arc;

use anyhow::{Context, bail};
use ottla_storage::batch;
use ottla_storage::log::Log;

use super::Driven;

const READ_BYTES: usize = 1 << 20;
/// What one compressed batch may become.
const BATCH_LIMIT_BYTES: usize = 256 << 20;

/// The machine, and the offset after the last record that it knows.
pub async fn replay<M: Driven>(log: &Arc<Log>) -> anyhow::Result<(M, i64)> {
    let mut machine = M::default();
    let end = log.log_end_offset();
    // After a failed write there may be records that are not on disk yet, and will be.
    log.written(end).await?;
    let mut next = log.log_start_offset();
    while next < end {
        let read = match log.read(next, end, READ_BYTES, true).await? {
            Ok(read) => read,
            // Deleted from the front in the meantime.
            Err(range) if range.log_start_offset > next => {
                next = range.log_start_offset;
                continue;
            }
            Err(range) => bail!("offset {next} is not in the log: {range:?}"),
        };
        let content = read.into_bytes().await?;
        match apply_batches(&mut machine, &content, next).with_context(|| format!("the batches from {next} on"))? {
            reached if reached > next => next = reached,
            // Compaction has removed the last records.
            _ => break,
        }
    }
    Ok((machine, end))
}

/// Applies the records of `content` from offset `from` on; returns the offset after them.
fn apply_batches<M: Driven>(machine: &mut M, content: &[u8], from: i64) -> anyhow::Result<i64> {
    batch::visit_records(content, from, BATCH_LIMIT_BYTES, |header, record| {
        // Better without one group or transaction than without all of them.
        if let Err(error) = machine.replay(header, record) {
            let (topic, offset) = (M::TOPIC, record.offset);
            tracing::error!(topic, offset, error = %error, "a coordinator's record is not understood");
        }
        Ok(())
    })
}
