//! One classic group between its records: who is in it, what they support, what they wait for.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::{JoinGroupResponse, SyncGroupResponse};

use super::{join_error, sync_error};
use crate::error::ErrorCode;
use crate::group::embedded::{PROTOCOL_TYPE, Subscription, text};
use crate::group::records::{GroupMember, GroupMetadata, Name, Record};
use crate::group::timers::{Timer, Timers};
use crate::group::{Effects, Result, Token, fail};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Empty,
    /// Members are to join.
    PreparingRebalance,
    /// They have; the leader is to assign.
    CompletingRebalance,
    Stable,
}

impl State {
    pub fn name(self) -> &'static str {
        match self {
            State::Empty => "Empty",
            State::PreparingRebalance => "PreparingRebalance",
            State::CompletingRebalance => "CompletingRebalance",
            State::Stable => "Stable",
        }
    }
}

/// Where the retention of a group's offsets is counted from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetentionFrom {
    /// Each offset's own commit.
    Commit,
    Time(i64),
}

#[derive(Clone, Debug)]
pub struct ClassicMemberState {
    pub id: Name,
    pub instance_id: Option<Name>,
    pub client_id: Name,
    pub client_host: Name,
    pub rebalance_timeout_ms: i32,
    pub session_timeout_ms: i32,
    /// (name, metadata), the preferred one first.
    pub protocols: Vec<(Name, Bytes)>,
    pub assignment: Bytes,
    pub awaiting_join: Option<Token>,
    pub awaiting_sync: Option<Token>,
    /// It has not been in a generation yet: while it waits for the first one it may go away unnoticed.
    pub is_new: bool,
    /// When it is out unless it is heard of. Its timer stands in the queue no later; None: it has no timer.
    pub session_ends_ms: Option<i64>,
}

impl ClassicMemberState {
    pub fn metadata(&self, protocol: &str) -> Option<&Bytes> {
        self.protocols.iter().find(|(name, _)| **name == *protocol).map(|(_, metadata)| metadata)
    }

    /// What it waits for shows that it is there.
    pub fn is_waiting(&self) -> bool {
        !self.is_new && (self.awaiting_join.is_some() || self.awaiting_sync.is_some())
    }

    /// It has its session timeout from now on.
    pub fn expect_heartbeat(&mut self, group: &Name, timers: &mut Timers, now_ms: i64) {
        self.expect_until(now_ms + i64::from(self.session_timeout_ms), group, timers);
    }

    /// Being put off, as by every heartbeat, is only noted here, where the timer looks when it fires.
    pub fn expect_until(&mut self, ends_ms: i64, group: &Name, timers: &mut Timers) {
        if self.session_ends_ms.replace(ends_ms).is_none_or(|before_ms| ends_ms < before_ms) {
            timers.set(Timer::Heartbeat { group: group.clone(), member: self.id.clone() }, ends_ms);
        }
    }
}

#[derive(Clone, Debug)]
pub struct ClassicGroup {
    pub id: Name,
    pub state: State,
    pub previous_state: State,
    pub state_timestamp_ms: Option<i64>,
    pub protocol_type: Option<Name>,
    pub protocol: Option<Name>,
    pub generation: i32,
    pub leader: Option<Name>,
    /// Boxed, as the map makes room for eleven at once and most groups have few.
    pub members: BTreeMap<Name, Box<ClassicMemberState>>,
    /// instance id -> member id
    pub static_members: BTreeMap<Name, Name>,
    /// Ids that were given out and have not come back (KIP-394).
    pub pending_members: BTreeSet<Name>,
    /// Members of this generation that have not synced.
    pub pending_sync: BTreeSet<Name>,
    /// Topics of all members; None where that cannot be told.
    subscribed: Option<BTreeSet<Name>>,
    /// Members by each protocol that they support.
    supporters: BTreeMap<Name, usize>,
    awaiting_joins: usize,
    /// Somebody joined since the first rebalance was last put off.
    pub new_member_added: bool,
    /// Of the first rebalance: how long the wait is, and how much may follow it.
    pub initial_delay: Option<(i32, i32)>,
}

impl ClassicGroup {
    pub fn new(id: Name, now_ms: i64) -> ClassicGroup {
        ClassicGroup {
            id,
            state: State::Empty,
            previous_state: State::Empty,
            state_timestamp_ms: Some(now_ms),
            protocol_type: None,
            protocol: None,
            generation: 0,
            leader: None,
            members: BTreeMap::new(),
            static_members: BTreeMap::new(),
            pending_members: BTreeSet::new(),
            pending_sync: BTreeSet::new(),
            subscribed: None,
            supporters: BTreeMap::new(),
            awaiting_joins: 0,
            new_member_added: false,
            initial_delay: None,
        }
    }

    pub fn from_record(id: &Name, record: &GroupMetadata) -> ClassicGroup {
        let mut group = ClassicGroup::new(id.clone(), 0);
        group.state = if record.members.is_empty() { State::Empty } else { State::Stable };
        group.state_timestamp_ms = record.state_timestamp_ms;
        group.protocol_type = Some(record.protocol_type.clone()).filter(|kind| !kind.is_empty());
        group.protocol = record.protocol.clone();
        group.generation = record.generation;
        group.leader = record.leader.clone();
        for member in &record.members {
            let protocol = record.protocol.clone().unwrap_or_default();
            group.insert(ClassicMemberState {
                id: member.member_id.clone(),
                instance_id: member.instance_id.clone(),
                client_id: member.client_id.clone(),
                client_host: member.client_host.clone(),
                rebalance_timeout_ms: member.rebalance_timeout_ms,
                session_timeout_ms: member.session_timeout_ms,
                protocols: vec![(protocol, member.subscription.clone())],
                assignment: member.assignment.clone(),
                awaiting_join: None,
                awaiting_sync: None,
                is_new: false,
                session_ends_ms: None,
            });
        }
        group.subscribed = group.subscriptions();
        group
    }

    /// What is stored of the group.
    pub fn to_record(&self) -> Record {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let members = self.members.values().map(|member| GroupMember {
            member_id: member.id.clone(),
            instance_id: member.instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            rebalance_timeout_ms: member.rebalance_timeout_ms,
            session_timeout_ms: member.session_timeout_ms,
            subscription: member.metadata(protocol).cloned().unwrap_or_default(),
            assignment: member.assignment.clone(),
        });
        let value = GroupMetadata {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            state_timestamp_ms: self.state_timestamp_ms,
            members: members.collect(),
        };
        Record::Group { group: self.id.clone(), value: Some(value) }
    }

    pub fn is_empty(&self) -> bool {
        self.state == State::Empty
    }

    pub fn has_pending_members(&self) -> bool {
        !self.pending_members.is_empty()
    }

    pub fn is_leader(&self, member: &str) -> bool {
        self.leader.as_deref() == Some(member)
    }

    pub fn uses_consumer_protocol(&self) -> bool {
        self.protocol_type.as_deref() == Some(PROTOCOL_TYPE)
    }

    pub fn transition_to(&mut self, state: State, now_ms: i64) {
        self.previous_state = std::mem::replace(&mut self.state, state);
        self.state_timestamp_ms = Some(now_ms);
    }

    /// The first member makes the group's type, and is its leader until others have a say.
    pub fn insert(&mut self, member: ClassicMemberState) {
        if let Some(instance) = &member.instance_id {
            self.static_members.insert(instance.clone(), member.id.clone());
        }
        self.leader.get_or_insert_with(|| member.id.clone());
        for (protocol, _) in &member.protocols {
            *self.supporters.entry(protocol.clone()).or_default() += 1;
        }
        self.awaiting_joins += usize::from(member.awaiting_join.is_some());
        self.pending_members.remove(&member.id);
        self.members.insert(member.id.clone(), Box::new(member));
    }

    /// Also forgets an id that was only given out.
    pub fn remove(&mut self, id: &str) -> Option<Box<ClassicMemberState>> {
        let removed = self.members.remove(id);
        if let Some(member) = &removed {
            self.drop_support(&member.protocols.clone());
            self.awaiting_joins -= usize::from(member.awaiting_join.is_some());
            if let Some(instance) = &member.instance_id {
                self.static_members.remove(instance);
            }
        }
        if self.is_leader(id) {
            self.leader = self.members.keys().next().cloned();
        }
        self.pending_members.remove(id);
        self.pending_sync.remove(id);
        removed
    }

    fn drop_support(&mut self, protocols: &[(Name, Bytes)]) {
        for (protocol, _) in protocols {
            if let Some(count) = self.supporters.get_mut(protocol) {
                *count -= 1;
                if *count == 0 {
                    self.supporters.remove(protocol);
                }
            }
        }
    }

    /// A member joins again: with other protocols perhaps, and with a reply to come.
    pub fn update(
        &mut self,
        id: &str,
        protocols: Vec<(Name, Bytes)>,
        timeouts: (i32, i32),
        token: Token,
        out: &mut Effects,
    ) {
        let Some(mut member) = self.members.remove(id) else { return };
        self.drop_support(&member.protocols);
        for (protocol, _) in &protocols {
            *self.supporters.entry(protocol.clone()).or_default() += 1;
        }
        member.protocols = protocols;
        (member.rebalance_timeout_ms, member.session_timeout_ms) = timeouts;
        match member.awaiting_join.replace(token) {
            // The client gave up on the one before; it must not wait forever all the same.
            Some(old) => out.joins.push((old, join_error(id, ErrorCode::RebalanceInProgress))),
            None => self.awaiting_joins += 1,
        }
        self.members.insert(member.id.clone(), member);
    }

    pub fn awaiting_joins(&self) -> usize {
        self.awaiting_joins
    }

    pub fn all_joined(&self) -> bool {
        self.awaiting_joins == self.members.len() && self.pending_members.is_empty()
    }

    pub fn answer_join(&mut self, id: &str, response: JoinGroupResponse, out: &mut Effects) {
        if let Some(member) = self.members.get_mut(id)
            && let Some(token) = member.awaiting_join.take()
        {
            self.awaiting_joins -= 1;
            out.joins.push((token, response));
        }
    }

    /// True if it waited.
    pub fn answer_sync(&mut self, id: &str, response: SyncGroupResponse, out: &mut Effects) -> bool {
        let token = self.members.get_mut(id).and_then(|member| member.awaiting_sync.take());
        out.syncs.extend(token.map(|token| (token, response)));
        token.is_some()
    }

    /// The group is to be another: all who wait come again.
    pub fn answer_all(&mut self, code: ErrorCode, out: &mut Effects) {
        for id in self.members.keys().cloned().collect::<Vec<_>>() {
            self.answer_join(&id, join_error(&id, code), out);
            self.answer_sync(&id, sync_error(code), out);
        }
    }

    /// A new process takes the place of the static member `old` (KIP-345). What the old one waits for tells it so.
    pub fn replace_static_member(&mut self, old: &str, new: Name, out: &mut Effects) {
        let fenced = join_error(old, ErrorCode::FencedInstanceId);
        self.answer_join(old, fenced, out);
        self.answer_sync(old, sync_error(ErrorCode::FencedInstanceId), out);
        let Some(mut member) = self.members.remove(old) else { return };
        member.id = new.clone();
        (member.is_new, member.session_ends_ms) = (false, None);
        if self.is_leader(old) {
            self.leader = Some(new.clone());
        }
        if let Some(instance) = &member.instance_id {
            self.static_members.insert(instance.clone(), new.clone());
        }
        if self.pending_sync.remove(old) {
            self.pending_sync.insert(new.clone());
        }
        self.members.insert(new, member);
    }

    pub fn rebalance_timeout_ms(&self) -> i32 {
        self.members.values().map(|member| member.rebalance_timeout_ms).max().unwrap_or(0)
    }

    /// Whether a member with these protocols can be in one generation with the others.
    pub fn supports(&self, protocol_type: &str, protocols: &[(Name, Bytes)]) -> bool {
        if self.state == State::Empty {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        let by_all = |(name, _): &(Name, Bytes)| self.supporters.get(name).copied().unwrap_or(0) == self.members.len();
        self.protocol_type.as_deref() == Some(protocol_type) && protocols.iter().any(by_all)
    }

    /// Each member votes for the first of its protocols that all support; the most votes win.
    pub fn select_protocol(&self) -> Option<Name> {
        let is_candidate = |name: &Name| self.supporters.get(name) == Some(&self.members.len());
        let mut votes: BTreeMap<&Name, usize> = BTreeMap::new();
        for member in self.members.values() {
            if let Some((name, _)) = member.protocols.iter().find(|(name, _)| is_candidate(name)) {
                *votes.entry(name).or_default() += 1;
            }
        }
        let most = votes.values().max().copied()?;
        votes.into_iter().find(|(_, count)| *count == most).map(|(name, _)| name.clone())
    }

    /// A leader that has not joined again is replaced by a member that has. False if there is none.
    pub fn elect_joined_leader(&mut self) -> bool {
        let Some(leader) = &self.leader else { return false };
        let joined = |member: &ClassicMemberState| member.awaiting_join.is_some();
        if self.members.get(leader).is_some_and(|leader| joined(leader)) {
            return true;
        }
        match self.members.values().find(|member| joined(member)) {
            Some(member) => self.leader = Some(member.id.clone()),
            None => return false,
        }
        true
    }

    pub fn begin_generation(&mut self, now_ms: i64) {
        self.generation = self.generation.wrapping_add(1).max(0);
        self.protocol = self.select_protocol();
        self.subscribed = self.subscriptions();
        let state = if self.members.is_empty() { State::Empty } else { State::CompletingRebalance };
        self.transition_to(state, now_ms);
        self.pending_sync.clear();
    }

    /// A group that was converted: the protocol is chosen as at the end of a rebalance. False if there is none.
    pub fn adopt_protocol(&mut self) -> bool {
        self.protocol = self.select_protocol();
        self.subscribed = self.subscriptions();
        self.protocol.is_some() && self.subscribed.is_some()
    }

    /// What the leader assigns by.
    pub fn member_list(&self) -> Vec<JoinGroupResponseMember> {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        let members = self.members.values().map(|member| {
            JoinGroupResponseMember::default()
                .with_member_id(text(&member.id))
                .with_group_instance_id(member.instance_id.as_deref().map(text))
                .with_metadata(member.metadata(protocol).cloned().unwrap_or_default())
        });
        members.collect()
    }

    /// What a member is told of this generation.
    pub fn join_response(&self, member: &str) -> JoinGroupResponse {
        let members = if self.is_leader(member) { self.member_list() } else { Vec::new() };
        JoinGroupResponse::default()
            .with_generation_id(self.generation)
            .with_protocol_type(self.protocol_type.as_deref().map(text))
            .with_protocol_name(self.protocol.as_deref().map(text))
            .with_leader(text(self.leader.as_deref().unwrap_or_default()))
            .with_member_id(text(member))
            .with_members(members)
    }

    pub fn sync_response(&self, assignment: Bytes) -> SyncGroupResponse {
        SyncGroupResponse::default()
            .with_protocol_type(self.protocol_type.as_deref().map(text))
            .with_protocol_name(self.protocol.as_deref().map(text))
            .with_assignment(assignment)
    }

    /// That the member is in the group, and is the one that its instance id stands for.
    pub fn check_member(&self, member: &str, instance: Option<&str>) -> Result<()> {
        self.check_instance(member, instance)?;
        if self.members.contains_key(member) { Ok(()) } else { fail(ErrorCode::UnknownMemberId) }
    }

    pub fn check_instance(&self, member: &str, instance: Option<&str>) -> Result<()> {
        let Some(instance) = instance else { return Ok(()) };
        match self.static_members.get(instance) {
            None => fail(ErrorCode::UnknownMemberId),
            Some(known) if **known != *member => fail(ErrorCode::FencedInstanceId),
            Some(_) => Ok(()),
        }
    }

    pub fn permit_commit(
        &self,
        member: &str,
        instance: Option<&str>,
        generation: i32,
        transactional: bool,
    ) -> Result<()> {
        if generation < 0 && self.is_empty() {
            return Ok(());
        }
        if generation >= 0 || !member.is_empty() || instance.is_some() {
            self.check_member(member, instance)?;
            if generation != self.generation {
                return fail(ErrorCode::IllegalGeneration);
            }
        } else if !transactional && !self.is_empty() {
            // The group has members, and this is none of them.
            return fail(ErrorCode::UnknownMemberId);
        }
        if !transactional && self.state == State::CompletingRebalance {
            return fail(ErrorCode::RebalanceInProgress);
        }
        Ok(())
    }

    /// None: as long as the group is in this state its offsets are kept.
    pub fn retention_from(&self) -> Option<RetentionFrom> {
        match self.state {
            _ if self.protocol_type.is_none() => Some(RetentionFrom::Commit),
            State::Empty => Some(self.state_timestamp_ms.map_or(RetentionFrom::Commit, RetentionFrom::Time)),
            State::Stable if self.uses_consumer_protocol() && self.subscribed.is_some() => Some(RetentionFrom::Commit),
            _ => None,
        }
    }

    /// Where it cannot be told, a consumer may be subscribed to anything.
    pub fn is_subscribed_to(&self, topic: &str) -> bool {
        match &self.subscribed {
            Some(topics) => topics.contains(topic),
            None => self.uses_consumer_protocol(),
        }
    }

    fn subscriptions(&self) -> Option<BTreeSet<Name>> {
        if !self.uses_consumer_protocol() {
            return None;
        }
        let mut topics = BTreeSet::new();
        for member in self.members.values() {
            let metadata = member.metadata(self.protocol.as_deref()?)?;
            topics.extend(Subscription::parse(metadata).ok()?.topics);
        }
        Some(topics)
    }
}
