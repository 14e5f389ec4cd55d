//! Looking at groups: ListGroups, DescribeGroups, ConsumerGroupDescribe.

use std::collections::BTreeMap;

use kafka_protocol::messages::consumer_group_describe_response::{
    Assignment as DescribedAssignment, DescribedGroup as DescribedConsumerGroup, Member as DescribedMember,
    TopicPartitions,
};
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::list_groups_response::ListedGroup;
use uuid::Uuid;

use super::classic::State;
use super::consumer::group::{ConsumerGroup, Member};
use super::embedded::{PROTOCOL_TYPE, text};
use super::machine::{Turn, View, group_not_found};
use super::records::Name;
use super::{Result, consumer};
use crate::error::{ApiError, ErrorCode};

const CLASSIC: &str = "classic";
const CONSUMER: &str = "consumer";

impl Turn<'_> {
    /// Empty filters let all pass; names of states and types are compared without regard to case.
    pub fn list_groups(&self, states: &[String], types: &[String]) -> Vec<ListedGroup> {
        let mut ids: Vec<&Name> = self.hard.groups.keys().chain(self.soft.classic.keys()).collect();
        ids.sort();
        ids.dedup();
        let passes = |filter: &[String], value: &str| {
            filter.is_empty() || filter.iter().any(|wanted| wanted.trim().eq_ignore_ascii_case(value))
        };
        let listed = ids.into_iter().filter_map(|id| {
            let (kind, state, protocol_type) = match self.view(id)? {
                View::Classic(group) => (CLASSIC, group.state.name(), group.protocol_type.clone().unwrap_or_default()),
                View::Consumer(group) => (CONSUMER, group.state().name(), PROTOCOL_TYPE.into()),
            };
            let group = ListedGroup::default()
                .with_group_id(text(id).into())
                .with_protocol_type(text(&protocol_type))
                .with_group_state(text(state))
                .with_group_type(text(kind));
            (passes(states, state) && passes(types, kind)).then_some(group)
        });
        listed.collect()
    }

    /// Groups of other protocols, and unknown ones, are Dead; from version 6 on they are an error.
    pub fn describe_group(&self, id: &str) -> Result<DescribedGroup> {
        let Some(View::Classic(group)) = self.view(id) else {
            return match self.hard.consumer(id) {
                Some(_) => not_a(id, "classic"),
                None => group_not_found(id),
            };
        };
        let protocol = group.protocol.as_ref().filter(|_| group.state == State::Stable);
        let members = group.members.values().map(|member| {
            let described = DescribedGroupMember::default()
                .with_member_id(text(&member.id))
                .with_group_instance_id(member.instance_id.as_deref().map(text))
                .with_client_id(text(&member.client_id))
                .with_client_host(text(&member.client_host))
                .with_member_assignment(member.assignment.clone());
            match protocol.and_then(|protocol| member.metadata(protocol)) {
                Some(metadata) => described.with_member_metadata(metadata.clone()),
                None => described,
            }
        });
        Ok(DescribedGroup::default()
            .with_group_id(text(id).into())
            .with_group_state(text(group.state.name()))
            .with_protocol_type(text(group.protocol_type.as_deref().unwrap_or_default()))
            .with_protocol_data(text(protocol.map_or("", |protocol| protocol)))
            .with_members(members.collect()))
    }

    pub fn describe_consumer_group(&self, id: &str) -> Result<DescribedConsumerGroup> {
        let Some(group) = self.hard.consumer(id) else {
            return match self.view(id) {
                Some(_) => not_a(id, "consumer"),
                None => group_not_found(id),
            };
        };
        let assignor = consumer::preferred_assignor(group.members.values());
        let assignor = assignor.unwrap_or(&self.settings.consumer.assignors[0]);
        let members = group.members.values().map(|member| self.describe_member(group, member));
        Ok(DescribedConsumerGroup::default()
            .with_group_id(text(id).into())
            .with_group_state(text(group.state().name()))
            .with_group_epoch(group.epoch)
            .with_assignment_epoch(group.target_epoch.epoch)
            .with_assignor_name(text(assignor))
            .with_members(members.collect()))
    }

    fn describe_member(&self, group: &ConsumerGroup, member: &Member) -> DescribedMember {
        let mut held: BTreeMap<Uuid, Vec<i32>> = BTreeMap::new();
        for (topic, partitions) in member.current.assigned.iter().chain(&member.current.revoking) {
            held.entry(*topic).or_default().extend(partitions.keys());
        }
        let target = group.target_of(&member.id).into_iter();
        let metadata = &member.metadata;
        DescribedMember::default()
            .with_member_id(text(&member.id))
            .with_instance_id(metadata.instance_id.as_deref().map(text))
            .with_rack_id(metadata.rack_id.as_deref().map(text))
            .with_member_epoch(member.current.epoch)
            .with_client_id(text(&metadata.client_id))
            .with_client_host(text(&metadata.client_host))
            .with_subscribed_topic_names(metadata.topics.iter().map(|topic| text(topic).into()).collect())
            .with_subscribed_topic_regex(Some(text(&metadata.regex)))
            .with_assignment(self.describe_assignment(held.into_iter()))
            .with_target_assignment(self.describe_assignment(target.map(|(t, p)| (t, p.into_iter().collect()))))
            .with_member_type(if member.is_classic() { 0 } else { 1 })
    }

    /// Topics that are gone are left out.
    fn describe_assignment(&self, topics: impl Iterator<Item = (Uuid, Vec<i32>)>) -> DescribedAssignment {
        let topics = topics.filter_map(|(id, partitions)| {
            let topic = self.cluster.topic_by_id(id)?;
            let described = TopicPartitions::default().with_topic_id(id).with_topic_name(text(&topic.name).into());
            Some(described.with_partitions(partitions))
        });
        DescribedAssignment::default().with_topic_partitions(topics.collect())
    }
}

fn not_a<T>(group: &str, kind: &str) -> Result<T> {
    Err(ApiError::new(ErrorCode::GroupIdNotFound, format!("Group {group} is not a {kind} group.")))
}
