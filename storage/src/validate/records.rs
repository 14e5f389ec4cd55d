//! What is checked of each record: its offset, a key where one is needed, its timestamp.

use super::{AppendRules, Invalid, InvalidKind};
use crate::batch::{BatchHeader, NO_TIMESTAMP, PlainRecords, TimestampType};

/// As many record errors are listed; more are counted.
const MAX_RECORD_ERRORS: usize = 10_000;

pub(super) struct RecordChecks<'r> {
    rules: &'r AppendRules,
    now_ms: i64,
    check_time: bool,
    /// The producer claims to be the broker: it set the batch's type to LogAppendTime.
    claims_append_time: bool,
    next_offset: i64,
    max_timestamp: i64,
    errors: Vec<(i32, Option<String>)>,
    error_count: usize,
    time_errors: bool,
}

impl<'r> RecordChecks<'r> {
    pub fn new(header: &BatchHeader, rules: &'r AppendRules, now_ms: i64) -> RecordChecks<'r> {
        RecordChecks {
            rules,
            now_ms,
            check_time: rules.timestamp_type == TimestampType::CreateTime,
            claims_append_time: header.timestamp_type() == TimestampType::LogAppendTime,
            next_offset: 0,
            max_timestamp: NO_TIMESTAMP,
            errors: Vec::new(),
            error_count: 0,
            time_errors: false,
        }
    }

    /// The next record. Err: the batch is beyond telling its records apart; other faults are collected.
    #[inline]
    pub fn record(&mut self, offset: i64, timestamp: i64, has_key: bool) -> Result<(), Invalid> {
        if offset != self.next_offset {
            let expected = self.next_offset;
            return Err(Invalid::record(format!("Record {expected} of the batch has the offset delta {offset}")));
        }
        if self.rules.compacted && !has_key {
            self.key_error();
        } else if self.check_time && timestamp != NO_TIMESTAMP {
            // Wraps as Kafka's arithmetic does.
            if !self.is_age_allowed(self.now_ms.wrapping_sub(timestamp)) {
                self.range_error(timestamp);
            }
        } else if self.claims_append_time {
            self.type_error();
        }
        self.max_timestamp = self.max_timestamp.max(timestamp);
        self.next_offset += 1;
        Ok(())
    }

    /// All records at once. False: nothing is said of them yet, they are to be checked one by one.
    pub fn all_records(&mut self, header: &BatchHeader, records: &PlainRecords) -> bool {
        let timestamp = |delta: &i64| header.base_timestamp.checked_add(*delta);
        let deltas = &records.timestamp_deltas;
        let Some((earliest, latest)) = timestamp(deltas.start()).zip(timestamp(deltas.end())) else { return false };
        // Between two ages that do not wrap, no other does.
        let in_time = |timestamp| self.now_ms.checked_sub(timestamp).is_some_and(|ms| self.is_age_allowed(ms));
        let good = !self.claims_append_time
            && (!self.rules.compacted || records.all_have_keys)
            && (!self.check_time || [earliest, latest].into_iter().all(in_time));
        if good {
            self.max_timestamp = self.max_timestamp.max(latest);
        }
        good
    }

    #[inline]
    fn is_age_allowed(&self, age_ms: i64) -> bool {
        age_ms <= self.rules.timestamp_before_max_ms && age_ms.wrapping_neg() <= self.rules.timestamp_after_max_ms
    }

    /// After the last record: the largest timestamp.
    pub fn finish(self) -> Result<i64, Invalid> {
        if self.error_count == 0 {
            return Ok(self.max_timestamp);
        }
        let (kind, message) = if self.time_errors {
            (
                InvalidKind::InvalidTimestamp,
                "One or more records have been rejected due to invalid timestamp".to_owned(),
            )
        } else {
            (InvalidKind::InvalidRecord, self.summary())
        };
        Err(Invalid { kind, message, record_errors: self.errors })
    }

    fn summary(&self) -> String {
        let first = self.errors.iter().take(3).map(|(index, message)| {
            format!("RecordError(batchIndex={index}, message='{}')", message.as_deref().unwrap_or_default())
        });
        format!(
            "One or more records have been rejected due to {} record errors in total, and only showing the first three \
             errors at most: [{}]",
            self.error_count,
            first.collect::<Vec<_>>().join(", ")
        )
    }

    #[cold]
    fn key_error(&mut self) {
        self.error("Compacted topic cannot accept message without key".to_owned());
    }

    #[cold]
    fn range_error(&mut self, timestamp: i64) {
        let earliest = self.now_ms.wrapping_sub(self.rules.timestamp_before_max_ms);
        let latest = self.now_ms.wrapping_add(self.rules.timestamp_after_max_ms);
        self.time_errors = true;
        self.error(format!(
            "Timestamp {timestamp} of message with offset {} is out of range. The timestamp should be within \
             [{earliest}, {latest}]",
            self.next_offset
        ));
    }

    #[cold]
    fn type_error(&mut self) {
        self.time_errors = true;
        self.error("Invalid timestamp type. Producer should not set timestamp type to LogAppendTime.".to_owned());
    }

    fn error(&mut self, message: String) {
        self.error_count += 1;
        if self.errors.len() < MAX_RECORD_ERRORS {
            // An offset within a batch fits: it came as an int32.
            self.errors.push((self.next_offset as i32, Some(message)));
        }
    }
}
