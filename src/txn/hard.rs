//! What the records of a partition add up to.

use std::collections::{BTreeSet, HashMap};

use super::records::{Name, Record, State, Transaction};

#[derive(Debug, Default, PartialEq)]
pub struct Hard {
    transactions: HashMap<Name, Transaction>,
    /// Those that are open, so that nobody has to look at all.
    ongoing: BTreeSet<Name>,
}

impl Hard {
    pub(super) fn apply(&mut self, record: &Record) {
        let id = &record.transactional_id;
        match &record.value {
            Some(value) if value.state == State::Ongoing => self.ongoing.insert(id.clone()),
            _ => self.ongoing.remove(id),
        };
        match &record.value {
            Some(value) => self.transactions.insert(id.clone(), value.clone()),
            None => self.transactions.remove(id),
        };
    }

    pub fn transaction(&self, transactional_id: &str) -> Option<&Transaction> {
        self.transactions.get(transactional_id)
    }

    pub(super) fn entry(&self, transactional_id: &str) -> Option<(&Name, &Transaction)> {
        self.transactions.get_key_value(transactional_id)
    }

    /// In no order.
    pub fn transactions(&self) -> impl Iterator<Item = (&Name, &Transaction)> {
        self.transactions.iter()
    }

    pub fn len(&self) -> usize {
        self.transactions.len()
    }

    pub fn is_empty(&self) -> bool {
        self.transactions.is_empty()
    }

    pub(super) fn ongoing(&self) -> impl Iterator<Item = (&Name, &Transaction)> {
        self.ongoing.iter().filter_map(|id| self.transactions.get_key_value(id))
    }
}
