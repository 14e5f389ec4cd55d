//! What a group subscribes to: names, regular expressions resolved on the server, and the hash by which a change of the
//! topics is noticed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hasher;

use regex::{Regex, RegexBuilder};
use twox_hash::XxHash3_64;

use super::group::{ConsumerGroup, Member};
use super::with_updated;
use crate::error::{ApiError, ErrorCode};
use crate::group::machine::Turn;
use crate::group::records::{GroupEpoch, MemberMetadata, Name, Record, ResolvedRegex};
use crate::group::timers::Timer;
use crate::group::{Cluster, Result, Topic};

/// Bound of the memory that a compiled expression may take.
const REGEX_LIMIT_BYTES: usize = 1 << 20;
/// Expressions are resolved again no sooner than so long after the last time.
const RESOLVE_PAUSE_MS: i64 = 10_000;
/// And even if no topics have come, after so long.
const RESOLVE_INTERVAL_MS: i64 = 600_000;

/// How a heartbeat changes what its member subscribes to.
pub(super) struct SubscriptionChange {
    pub topics_changed: bool,
    /// The regular expression did, and its topics are known already (or there is none any more).
    pub is_resolved: bool,
    /// Either.
    pub changed: bool,
}

impl Turn<'_> {
    pub(super) fn note_subscription(
        &mut self,
        id: &Name,
        group: &ConsumerGroup,
        member: &Member,
        updated: &Member,
    ) -> Result<SubscriptionChange> {
        let (old, new) = (&member.metadata, &updated.metadata);
        if old.regex != new.regex && !new.regex.is_empty() && group.subscribers(&new.regex) == 0 {
            compile(&new.regex).map_err(|error| invalid_regex(&new.regex, &error))?;
        }
        // A member's first heartbeat is a change even where it says what is the default.
        if old != new || !group.members.contains_key(&updated.id) {
            let (group, member, value) = (id.clone(), updated.id.clone(), Some(new.clone()));
            self.out.records.push(Record::Member { group, member, value });
        }
        let topics_changed = old.topics != new.topics;
        let regex_changed = old.regex != new.regex;
        let mut is_resolved = false;
        if regex_changed {
            if group.regexes.contains_key(&old.regex) && group.subscribers(&old.regex) == 1 {
                self.out.records.push(Record::Regex { group: id.clone(), regex: old.regex.clone(), value: None });
            }
            is_resolved = new.regex.is_empty() || group.regexes.contains_key(&new.regex);
        }
        self.resolve_soon(id, group, old, new);
        Ok(SubscriptionChange { topics_changed, is_resolved, changed: topics_changed || regex_changed })
    }

    /// Resolving is a turn of its own, after this one.
    fn resolve_soon(&mut self, id: &Name, group: &ConsumerGroup, old: &MemberMetadata, new: &MemberMetadata) {
        let given_up = |regex: &Name| *regex == old.regex && old.regex != new.regex && group.subscribers(regex) == 1;
        let of_others = group.subscribed_regexes().filter(|regex| !given_up(regex));
        let mut regexes = of_others.chain(Some(&new.regex).filter(|regex| !regex.is_empty())).peekable();
        if regexes.peek().is_none() {
            return;
        }
        let missing = regexes.any(|regex| !group.regexes.contains_key(regex));
        let recorded = || group.regexes.values().map(|regex| (regex.timestamp_ms, regex.version)).max();
        let watch = self.soft.consumer.get(id).and_then(|watch| watch.resolved);
        let due = match watch.or_else(recorded) {
            None => true,
            Some((time, _)) if self.now_ms <= time + RESOLVE_PAUSE_MS => false,
            Some((time, version)) => {
                missing || self.cluster.version() > version || self.now_ms > time + RESOLVE_INTERVAL_MS
            }
        };
        if due {
            self.soft.timers.set_if_absent(Timer::Regexes { group: id.clone() }, self.now_ms);
        }
    }

    pub(in crate::group) fn resolve_regexes(&mut self, id: &Name) {
        let Some(group) = self.hard.consumer(id) else { return };
        let regexes = group.subscribed_regexes();
        let compiled = regexes.filter_map(|regex| Some((regex, compile(regex).ok()?)));
        let names: Vec<Name> = self.cluster.topic_names();
        let mut resolved = group.clone();
        let mut bump = false;
        for (regex, compiled) in compiled {
            let topics: BTreeSet<Name> = names.iter().filter(|name| compiled.is_match(name)).cloned().collect();
            let known = group.regexes.get(regex).map(|known| &known.topics);
            if known == Some(&topics) {
                continue;
            }
            bump |= known.map_or(!topics.is_empty(), |known| *known != topics);
            let value = ResolvedRegex { topics, version: self.cluster.version(), timestamp_ms: self.now_ms };
            let record = Record::Regex { group: id.clone(), regex: regex.clone(), value: Some(value) };
            resolved.apply(&record);
            self.out.records.push(record);
        }
        self.soft.consumer.entry(id.clone()).or_default().resolved = Some((self.now_ms, self.cluster.version()));
        let hash = metadata_hash(self.cluster, &mut self.soft.topic_hashes, &resolved, resolved.members.values());
        if bump || hash != group.metadata_hash {
            self.bump_epoch(id, group, hash);
        }
    }

    fn bump_epoch(&mut self, id: &Name, group: &ConsumerGroup, metadata_hash: i64) -> i32 {
        let epoch = group.epoch + 1;
        let value = Some(GroupEpoch { epoch, metadata_hash });
        self.out.records.push(Record::Epoch { group: id.clone(), value });
        self.soft.consumer.entry(id.clone()).or_default().checked = Some((self.cluster.version(), epoch));
        epoch
    }

    /// The group's epoch, which is another if its topics, or who subscribes to them, have changed.
    pub(super) fn note_topics(&mut self, id: &Name, group: &ConsumerGroup, updated: &Member, bump: bool) -> i32 {
        let version = self.cluster.version();
        let checked = self.soft.consumer.get(id).and_then(|watch| watch.checked);
        if !bump && checked.is_some_and(|(at, epoch)| at == version && epoch <= group.epoch) {
            return group.epoch;
        }
        let hash = metadata_hash(self.cluster, &mut self.soft.topic_hashes, group, with_updated(group, updated));
        let epoch = match bump || hash != group.metadata_hash {
            true => self.bump_epoch(id, group, hash),
            false => group.epoch,
        };
        self.soft.consumer.entry(id.clone()).or_default().checked = Some((version, epoch));
        if group.has_partitions_record {
            self.out.records.push(Record::Partitions { group: id.clone(), present: false });
        }
        epoch
    }

    /// Members are gone: the others are to be assigned what they had.
    pub(super) fn note_departure(&mut self, id: &Name, group: &ConsumerGroup, gone: &BTreeSet<Name>) {
        let left = || group.members.values().filter(|member| !gone.contains(&member.id));
        let unused = group.regexes.keys().filter(|regex| !left().any(|member| member.metadata.regex == **regex));
        let tombstone = |regex: &Name| Record::Regex { group: id.clone(), regex: regex.clone(), value: None };
        self.out.records.extend(unused.map(tombstone));
        let hash = metadata_hash(self.cluster, &mut self.soft.topic_hashes, group, left());
        self.bump_epoch(id, group, hash);
    }
}

/// The whole name must match.
fn compile(regex: &str) -> Result<Regex, regex::Error> {
    let build = |regex: &str| RegexBuilder::new(regex).size_limit(REGEX_LIMIT_BYTES).build();
    // By itself first: with parentheses around it something else might become valid.
    build(regex).and_then(|_| build(&format!("^(?:{regex})$")))
}

fn invalid_regex(regex: &str, error: &regex::Error) -> ApiError {
    let message = format!("SubscribedTopicRegex `{regex}` is not a valid regular expression: {error}.");
    ApiError::new(ErrorCode::InvalidRegularExpression, message)
}

/// The hashes of topics that groups subscribe to, as of one version of the metadata: each is that of all partitions and
/// their racks, and is asked for with every member that joins.
#[derive(Debug, Default)]
pub struct TopicHashes {
    version: i64,
    by_name: HashMap<Name, i64>,
}

impl TopicHashes {
    /// None: there is no such topic.
    fn of(&mut self, cluster: &dyn Cluster, name: &Name) -> Option<i64> {
        if self.version != cluster.version() {
            *self = TopicHashes { version: cluster.version(), ..TopicHashes::default() };
        }
        if let Some(hash) = self.by_name.get(name) {
            return Some(*hash);
        }
        let hash = topic_hash(cluster, &cluster.topic(name)?);
        self.by_name.insert(name.clone(), hash);
        Some(hash)
    }
}

/// Kafka's hash of the topics that the members subscribe to: ids, names, partitions and their racks.
pub(super) fn metadata_hash<'a>(
    cluster: &dyn Cluster,
    known: &mut TopicHashes,
    group: &'a ConsumerGroup,
    members: impl Iterator<Item = &'a Member>,
) -> i64 {
    let mut hashes = BTreeMap::new();
    for member in members {
        for name in group.topics_with_duplicates_of(&member.metadata) {
            if !hashes.contains_key(name)
                && let Some(hash) = known.of(cluster, name)
            {
                hashes.insert(name, hash);
            }
        }
    }
    if hashes.is_empty() {
        return 0;
    }
    let mut hasher = XxHash3_64::new();
    hashes.values().for_each(|hash: &i64| hasher.write(&hash.to_le_bytes()));
    hasher.finish() as i64
}

pub(in crate::group) fn topic_hash(cluster: &dyn Cluster, topic: &Topic) -> i64 {
    let mut hasher = XxHash3_64::new();
    let (high, low) = topic.id.as_u64_pair();
    // The version of this hash.
    hasher.write(&[0]);
    hasher.write(&high.to_le_bytes());
    hasher.write(&low.to_le_bytes());
    write_string(&mut hasher, &topic.name);
    hasher.write(&topic.partitions.to_le_bytes());
    for partition in 0..topic.partitions {
        hasher.write(&partition.to_le_bytes());
        for rack in cluster.racks(&topic.name, partition) {
            hasher.write(&(rack.encode_utf16().count() as i32).to_le_bytes());
            write_string(&mut hasher, &rack);
        }
    }
    hasher.finish() as i64
}

/// The characters as Java has them, and their number.
fn write_string(hasher: &mut XxHash3_64, text: &str) {
    let units: Vec<u16> = text.encode_utf16().collect();
    units.iter().for_each(|unit| hasher.write(&unit.to_le_bytes()));
    hasher.write(&(units.len() as i32).to_le_bytes());
}
