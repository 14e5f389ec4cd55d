//! DescribeTransactions and ListTransactions.

use std::collections::BTreeSet;

use regex::{Regex, RegexBuilder};

use super::machine::Turn;
use super::records::{Name, State, Transaction};
use super::{Result, fail};
use crate::error::{ApiError, ErrorCode};

/// What a compiled pattern may take: it comes from a client.
const PATTERN_LIMIT_BYTES: usize = 1 << 20;

/// What ListTransactions asks for. Empty sets let everything pass.
#[derive(Debug, Default)]
pub struct Filter {
    states: BTreeSet<&'static str>,
    /// States were asked for, known or not.
    by_state: bool,
    producer_ids: BTreeSet<i64>,
    /// Only transactions that began longer ago than this.
    longer_than_ms: Option<i64>,
    pattern: Option<Regex>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub transactional_id: Name,
    pub producer_id: i64,
    pub state: State,
}

impl Filter {
    /// With the filter come the names of states that there are none of. A negative duration asks for all.
    pub fn new<'a>(
        states: &[&'a str],
        producer_ids: &[i64],
        duration_ms: i64,
        pattern: Option<&str>,
    ) -> Result<(Filter, Vec<&'a str>)> {
        let named = |name: &str| State::ALL.into_iter().map(State::name).find(|known| *known == name);
        let filter = Filter {
            states: states.iter().filter_map(|name| named(name)).collect(),
            by_state: !states.is_empty(),
            producer_ids: producer_ids.iter().copied().collect(),
            longer_than_ms: (duration_ms >= 0).then_some(duration_ms),
            pattern: pattern.filter(|pattern| !pattern.is_empty()).map(compile).transpose()?,
        };
        Ok((filter, states.iter().filter(|name| named(name).is_none()).copied().collect()))
    }

    fn admits(&self, id: &str, transaction: &Transaction, now_ms: i64) -> bool {
        (self.producer_ids.is_empty() || self.producer_ids.contains(&transaction.producer.id))
            && (!self.by_state || self.states.contains(transaction.state.name()))
            && self.longer_than_ms.is_none_or(|duration_ms| now_ms - transaction.start_ms > duration_ms)
            && self.pattern.as_ref().is_none_or(|pattern| pattern.is_match(id))
    }
}

/// It must match the whole id.
fn compile(pattern: &str) -> Result<Regex> {
    let whole =
        |pattern: &str| RegexBuilder::new(&format!(r"\A(?:{pattern})\z")).size_limit(PATTERN_LIMIT_BYTES).build();
    // What is no pattern by itself must not become one within another.
    let compiled = RegexBuilder::new(pattern).size_limit(PATTERN_LIMIT_BYTES).build().and_then(|_| whole(pattern));
    compiled.map_err(|error| {
        let message = format!("Transaction ID pattern `{pattern}` is not a valid regular expression: {error}.");
        ApiError::new(ErrorCode::InvalidRegularExpression, message)
    })
}

impl<'a> Turn<'a> {
    pub fn describe(&self, id: &str) -> Result<&'a Transaction> {
        if id.is_empty() {
            return fail(ErrorCode::InvalidRequest);
        }
        self.hard.transaction(id).map_or_else(|| fail(ErrorCode::TransactionalIdNotFound), Ok)
    }

    /// Sorted, unlike Kafka's.
    pub fn list(&self, filter: &Filter) -> Vec<Listed> {
        let admitted = self.hard.transactions().filter(|(id, transaction)| filter.admits(id, transaction, self.now_ms));
        let mut listed: Vec<Listed> = admitted
            .map(|(id, transaction)| Listed {
                transactional_id: id.clone(),
                producer_id: transaction.producer.id,
                state: transaction.state,
            })
            .collect();
        listed.sort_by(|a, b| a.transactional_id.cmp(&b.transactional_id));
        listed
    }
}
