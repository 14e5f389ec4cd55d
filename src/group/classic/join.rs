//! JoinGroup to a classic group, and the join phase of a rebalance.

use bytes::Bytes;
use kafka_protocol::messages::JoinGroupRequest;

use super::group::{ClassicGroup, ClassicMemberState, State};
use super::{NEW_MEMBER_JOIN_TIMEOUT_MS, join_error, sync_error};
use crate::error::ErrorCode;
use crate::group::consumer::group::GroupState;
use crate::group::embedded::text;
use crate::group::machine::Turn;
use crate::group::records::Name;
use crate::group::timers::Timer;
use crate::group::{Client, MAX_NAME_BYTES, Token};

/// From this version on a member without an id must come back with the one it is given (KIP-394).
const FIRST_VERSION_WITH_KNOWN_IDS: i16 = 4;
/// From this version on a leader can be told that nothing is to be assigned (KIP-814).
const FIRST_VERSION_WITH_SKIP: i16 = 9;

/// A join on its way.
pub struct Joining<'a> {
    pub client: Client<'a>,
    pub request: &'a JoinGroupRequest,
    pub protocols: Vec<(Name, Bytes)>,
    pub token: Token,
}

impl Joining<'_> {
    fn timeouts(&self) -> (i32, i32) {
        (self.request.rebalance_timeout_ms, self.request.session_timeout_ms)
    }

    pub fn instance(&self) -> Option<&str> {
        self.request.group_instance_id.as_deref()
    }

    pub fn member(&self) -> &str {
        &self.request.member_id
    }

    pub fn must_come_back(&self) -> bool {
        let unknown = self.member().is_empty() && self.instance().is_none();
        unknown && self.client.api_version >= FIRST_VERSION_WITH_KNOWN_IDS
    }

    fn fits(&self) -> bool {
        let names = [Some(self.request.group_id.as_str()), self.instance(), Some(self.member())];
        let protocols = self.protocols.iter().map(|(name, _)| &**name);
        let fits = |name: &str| name.len() <= MAX_NAME_BYTES;
        names.into_iter().flatten().chain(protocols).all(fits) && fits(&self.request.protocol_type)
    }
}

impl Turn<'_> {
    /// The reply comes with this turn's or a later one's effects.
    pub fn join_group(&mut self, client: Client<'_>, request: &JoinGroupRequest, token: Token) {
        let protocols = request.protocols.iter();
        let protocols = protocols.map(|p| (Name::from(p.name.as_str()), Bytes::copy_from_slice(&p.metadata)));
        let joining = Joining { client, request, protocols: protocols.collect(), token };
        let group = request.group_id.as_str();
        let session = self.settings.min_session_timeout_ms..=self.settings.max_session_timeout_ms;
        if group.is_empty() {
            return self.refuse_join(&joining, ErrorCode::InvalidGroupId);
        }
        if !session.contains(&request.session_timeout_ms) {
            return self.refuse_join(&joining, ErrorCode::InvalidSessionTimeout);
        }
        if !joining.fits() {
            return self.refuse_join(&joining, ErrorCode::InvalidRequest);
        }
        match self.hard.consumer(group) {
            Some(consumer) if consumer.state() != GroupState::Empty => self.join_consumer_group(consumer, joining),
            // Nobody is in it: it can be of the other protocol from now on.
            Some(_) => {
                let group = Name::from(group);
                self.bury(&group);
                self.join_classic(None, joining);
            }
            None => {
                let group = self.take_classic(group);
                self.join_classic(group, joining);
            }
        }
    }

    pub(in crate::group) fn refuse_join(&mut self, joining: &Joining<'_>, code: ErrorCode) {
        self.out.joins.push((joining.token, join_error(joining.member(), code)));
    }

    fn join_classic(&mut self, group: Option<Box<ClassicGroup>>, joining: Joining<'_>) {
        let unknown = joining.member().is_empty();
        let mut group = match group {
            Some(group) => group,
            // A group that was deleted, or expired, has no members that could come back to it.
            None if !unknown => return self.refuse_join(&joining, ErrorCode::UnknownMemberId),
            None => Box::new(ClassicGroup::new(joining.request.group_id.as_str().into(), self.now_ms)),
        };
        if !self.has_room(&group, joining.member()) {
            self.remove_member(&mut group, joining.member());
            self.out.joins.push((joining.token, join_error("", ErrorCode::GroupMaxSizeReached)));
        } else if !group.supports(&joining.request.protocol_type, &joining.protocols) {
            self.refuse_join(&joining, ErrorCode::InconsistentGroupProtocol);
        } else if unknown {
            self.join_unknown(&mut group, joining);
        } else {
            self.join_known(&mut group, joining);
        }
        self.put_classic(group);
    }

    /// `group.max.size`. While members join, those who come first stay.
    fn has_room(&self, group: &ClassicGroup, member: &str) -> bool {
        let max_size = self.settings.max_size;
        let known = group.members.get(member);
        match group.state {
            State::Empty => true,
            State::PreparingRebalance => {
                known.is_some_and(|member| member.awaiting_join.is_some()) || group.awaiting_joins() < max_size
            }
            State::CompletingRebalance | State::Stable => known.is_some() || group.members.len() < max_size,
        }
    }

    fn join_unknown(&mut self, group: &mut ClassicGroup, joining: Joining<'_>) {
        let prefix = joining.instance().unwrap_or(joining.client.id);
        let id: Name = format!("{prefix}-{}", (self.new_id)()).into();
        let known = joining.instance().and_then(|instance| group.static_members.get(instance)).cloned();
        match known {
            Some(old) => self.join_in_place_of(group, &old, id, joining),
            None if joining.must_come_back() => {
                group.pending_members.insert(id.clone());
                let timer = Timer::Heartbeat { group: group.id.clone(), member: id.clone() };
                self.soft.timers.set(timer, self.now_ms + i64::from(joining.request.session_timeout_ms));
                self.out.joins.push((joining.token, join_error(&id, ErrorCode::MemberIdRequired)));
            }
            None => self.add_member(group, id, joining),
        }
    }

    fn join_known(&mut self, group: &mut ClassicGroup, joining: Joining<'_>) {
        let id = Name::from(joining.member());
        if group.pending_members.contains(&id) {
            return match joining.instance() {
                None => self.add_member(group, id, joining),
                Some(_) => self.refuse_join(&joining, ErrorCode::UnknownMemberId),
            };
        }
        if let Err(error) = group.check_member(&id, joining.instance()) {
            return self.refuse_join(&joining, error.code);
        }
        let changed = group.members[&id].protocols != joining.protocols;
        let rebalances = match group.state {
            State::PreparingRebalance => true,
            State::CompletingRebalance => changed,
            // A leader joins again because something has changed that only it can see.
            State::Stable => changed || group.is_leader(&id),
            State::Empty => return self.refuse_join(&joining, ErrorCode::UnknownMemberId),
        };
        if !rebalances {
            let mut response = group.join_response(&id);
            if group.state == State::Stable {
                response.members.clear();
            }
            self.out.joins.push((joining.token, response));
            return;
        }
        let timeouts = joining.timeouts();
        group.update(&id, joining.protocols, timeouts, joining.token, &mut self.out);
        self.rebalance_or_complete_join(group);
    }

    fn add_member(&mut self, group: &mut ClassicGroup, id: Name, joining: Joining<'_>) {
        if group.members.is_empty() {
            group.protocol_type = Some(joining.request.protocol_type.as_str().into());
        }
        if group.state == State::PreparingRebalance && group.previous_state == State::Empty {
            group.new_member_added = true;
        }
        let (rebalance_timeout_ms, session_timeout_ms) = joining.timeouts();
        let instance_id = joining.instance().map(Name::from);
        let mut member = ClassicMemberState {
            id,
            instance_id,
            client_id: joining.client.id.into(),
            client_host: joining.client.host.into(),
            rebalance_timeout_ms,
            session_timeout_ms,
            protocols: joining.protocols,
            assignment: Bytes::new(),
            awaiting_join: Some(joining.token),
            awaiting_sync: None,
            is_new: true,
            session_ends_ms: None,
        };
        member.expect_until(self.now_ms + NEW_MEMBER_JOIN_TIMEOUT_MS, &group.id, &mut self.soft.timers);
        group.insert(member);
        self.rebalance_or_complete_join(group);
    }

    /// A static member is back without its id (KIP-345): no rebalance if its protocols change nothing.
    fn join_in_place_of(&mut self, group: &mut ClassicGroup, old: &Name, id: Name, joining: Joining<'_>) {
        let former_leader = group.leader.clone();
        self.soft.timers.cancel(&Timer::Heartbeat { group: group.id.clone(), member: old.clone() });
        group.replace_static_member(old, id.clone(), &mut self.out);
        let (timeouts, version, token) = (joining.timeouts(), joining.client.api_version, joining.token);
        group.update(&id, joining.protocols, timeouts, token, &mut self.out);
        self.expect_heartbeat(group, &id);
        match group.state {
            State::Stable if group.select_protocol() == group.protocol => {
                self.out.records.push(group.to_record());
                let mut response = group.join_response(&id);
                if version >= FIRST_VERSION_WITH_SKIP {
                    response.skip_assignment = group.is_leader(&id);
                } else {
                    // Told that it is the leader it would assign; so it is told of the one it was.
                    response.leader = text(former_leader.as_deref().unwrap_or_default());
                    response.members.clear();
                }
                group.answer_join(&id, response, &mut self.out);
            }
            State::Stable => self.rebalance_or_complete_join(group),
            State::CompletingRebalance => self.prepare_rebalance(group),
            State::PreparingRebalance | State::Empty => self.complete_join_if_all_did(group),
        }
    }

    /// After members have come or gone.
    pub(super) fn rebalance_or_complete_join(&mut self, group: &mut ClassicGroup) {
        match group.state {
            State::PreparingRebalance => self.complete_join_if_all_did(group),
            _ => self.prepare_rebalance(group),
        }
    }

    pub(in crate::group) fn prepare_rebalance(&mut self, group: &mut ClassicGroup) {
        if group.state == State::CompletingRebalance {
            for id in group.members.keys().cloned().collect::<Vec<_>>() {
                if let Some(member) = group.members.get_mut(&id) {
                    member.assignment = Bytes::new();
                }
                if group.answer_sync(&id, sync_error(ErrorCode::RebalanceInProgress), &mut self.out) {
                    self.expect_heartbeat(group, &id);
                }
            }
        }
        group.pending_sync.clear();
        self.soft.timers.cancel(&Timer::Sync { group: group.id.clone() });
        let first = group.is_empty();
        group.transition_to(State::PreparingRebalance, self.now_ms);
        if first {
            let delay_ms = self.settings.initial_rebalance_delay_ms;
            let remaining_ms = group.rebalance_timeout_ms().saturating_sub(delay_ms).max(0);
            self.delay_first_rebalance(group, delay_ms, remaining_ms);
        } else if group.all_joined() {
            self.complete_join(group);
        } else {
            self.await_joins(group);
        }
    }

    fn delay_first_rebalance(&mut self, group: &mut ClassicGroup, delay_ms: i32, remaining_ms: i32) {
        group.initial_delay = Some((delay_ms, remaining_ms));
        self.soft.timers.set(Timer::Join { group: group.id.clone() }, self.now_ms + i64::from(delay_ms));
    }

    fn await_joins(&mut self, group: &mut ClassicGroup) {
        group.initial_delay = None;
        let deadline_ms = self.now_ms + i64::from(group.rebalance_timeout_ms());
        self.soft.timers.set(Timer::Join { group: group.id.clone() }, deadline_ms);
    }

    /// The first rebalance of a group always takes its delay.
    pub(super) fn complete_join_if_all_did(&mut self, group: &mut ClassicGroup) {
        if group.state == State::PreparingRebalance && group.previous_state != State::Empty && group.all_joined() {
            self.complete_join(group);
        }
    }

    /// As long as members keep coming the first rebalance is put off, up to their rebalance timeout.
    pub(in crate::group) fn join_expired(&mut self, id: &Name) {
        let Some(mut group) = self.take_classic(id) else { return };
        match group.initial_delay {
            Some((delay_ms, remaining_ms)) if group.new_member_added && remaining_ms != 0 => {
                group.new_member_added = false;
                let next_delay_ms = self.settings.initial_rebalance_delay_ms.min(remaining_ms);
                self.delay_first_rebalance(&mut group, next_delay_ms, (remaining_ms - delay_ms).max(0));
            }
            _ => self.complete_join(&mut group),
        }
        self.put_classic(group);
    }

    /// Everybody has joined, or had the time to: the next generation begins with those who did.
    pub(super) fn complete_join(&mut self, group: &mut ClassicGroup) {
        self.soft.timers.cancel(&Timer::Join { group: group.id.clone() });
        group.initial_delay = None;
        let left_out = group.members.values().filter(|left| left.awaiting_join.is_none() && left.instance_id.is_none());
        let gone: Vec<Name> = left_out.map(|member| member.id.clone()).collect();
        gone.iter().for_each(|id| self.remove_member(group, id));
        if !group.elect_joined_leader() && !group.members.is_empty() {
            // Only static members are left, none of whom has come back: they have their session timeout.
            return self.await_joins(group);
        }
        group.begin_generation(self.now_ms);
        if group.is_empty() {
            self.out.records.push(group.to_record());
            return;
        }
        for id in group.members.keys().cloned().collect::<Vec<_>>() {
            let response = group.join_response(&id);
            group.answer_join(&id, response, &mut self.out);
            self.expect_heartbeat(group, &id);
            if let Some(member) = group.members.get_mut(&id) {
                member.is_new = false;
            }
            group.pending_sync.insert(id);
        }
        let deadline_ms = self.now_ms + i64::from(group.rebalance_timeout_ms());
        self.soft.timers.set(Timer::Sync { group: group.id.clone() }, deadline_ms);
    }
}
