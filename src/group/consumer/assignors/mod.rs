//! The assignors of KIP-848, with the outcomes of Apache Kafka's up to the order of its hash maps: members and topics
//! are taken in the order of their ids here. Pure functions.

pub mod range;
#[cfg(test)]
mod tests;
pub mod uniform;
pub mod uniform_mixed;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use uuid::Uuid;

use crate::group::records::{Assignment, Name};

/// One member as an assignor sees it.
pub struct MemberSpec<'a> {
    pub id: &'a Name,
    pub instance: Option<&'a Name>,
    /// That exist; often the same for all.
    pub topics: Rc<BTreeSet<Uuid>>,
    /// Its part of the assignment before.
    pub assigned: &'a Assignment,
}

pub type Plan = BTreeMap<Name, Assignment>;

/// The number of partitions of a topic.
pub type Partitions<'a> = dyn Fn(Uuid) -> i32 + 'a;
