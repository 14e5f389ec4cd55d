//! What came of a command, as the scenario texts have it.

use super::*;

impl Scene<'_> {
    pub(super) fn outcome(&self, result: Result<String>, effects: Effects) -> Vec<String> {
        let answer = result.unwrap_or_else(|error| match error.message.as_str() {
            "" => format!("{:?}", error.code),
            message => format!("{:?} {}", error.code, shorten(message.lines().next().unwrap_or_default())),
        });
        std::iter::once(answer).chain(self.show(&effects)).collect()
    }

    pub(super) fn show(&self, effects: &Effects) -> Vec<String> {
        let records = effects.records.iter().map(|record| self.record(record));
        let joins = effects.joins.iter().map(|(token, response)| {
            let member = shorten(&response.member_id);
            if response.error_code != 0 {
                return format!("join t{token}: {} member={member}", error(response.error_code));
            }
            let members: Vec<String> = response.members.iter().map(|member| shorten(&member.member_id)).collect();
            let skip = if response.skip_assignment { " skip" } else { "" };
            format!(
                "join t{token}: generation={} {} leader={} member={member} members=[{}]{skip}",
                response.generation_id,
                response.protocol_name.as_deref().unwrap_or("-"),
                shorten(&response.leader),
                members.join(" ")
            )
        });
        let syncs = effects.syncs.iter().map(|(token, response)| match response.error_code {
            0 => format!("sync t{token}: {}", show_blob(&response.assignment)),
            code => format!("sync t{token}: {}", error(code)),
        });
        let gathered = effects.gathered.iter().map(|group| format!("gathered {group}"));
        records.chain(joins).chain(syncs).chain(gathered).collect()
    }

    fn topic(&self, id: &Uuid) -> String {
        use crate::group::Cluster;
        self.harness.topics.topic_by_id(*id).map_or("?".to_owned(), |topic| topic.name.to_string())
    }

    pub(super) fn assignment(&self, assignment: &Assignment) -> String {
        let topics = assignment.iter().map(|(id, partitions)| {
            let partitions: Vec<String> = partitions.iter().map(i32::to_string).collect();
            format!("{}:{}", self.topic(id), partitions.join("+"))
        });
        format!("[{}]", topics.collect::<Vec<_>>().join(" "))
    }

    fn owned(&self, owned: &Owned) -> String {
        let topics = owned.iter().map(|(id, partitions)| {
            let partitions: Vec<String> = partitions.iter().map(|(p, epoch)| format!("{p}@{epoch}")).collect();
            format!("{}:{}", self.topic(id), partitions.join("+"))
        });
        format!("[{}]", topics.collect::<Vec<_>>().join(" "))
    }

    fn record(&self, record: &Record) -> String {
        let names = |names: &std::collections::BTreeSet<Name>| names.iter().map(|n| &**n).collect::<Vec<_>>().join(",");
        match record {
            Record::Offset { group, topic, partition, value: None } => format!("- offset {group} {topic}-{partition}"),
            Record::Offset { group, topic, partition, value: Some(value) } => {
                let expire = value.expire_timestamp_ms.map_or(String::new(), |time| format!(" until {time}"));
                format!("+ offset {group} {topic}-{partition} = {}{expire}", value.offset)
            }
            Record::Group { group, value: None } => format!("- group {group}"),
            Record::Group { group, value: Some(value) } => {
                let members = value.members.iter();
                let members: Vec<String> = members
                    .map(|member| format!("{}={}", shorten(&member.member_id), show_blob(&member.assignment)))
                    .collect();
                format!(
                    "+ group {group} generation={} {} leader={} [{}]",
                    value.generation,
                    value.protocol.as_deref().unwrap_or("-"),
                    shorten(value.leader.as_deref().unwrap_or("-")),
                    members.join(" ")
                )
            }
            Record::Epoch { group, value: None } => format!("- epoch {group}"),
            Record::Epoch { group, value: Some(value) } => format!("+ epoch {group} = {}", value.epoch),
            Record::Partitions { group, .. } => format!("- partitions {group}"),
            Record::Member { group, member, value: None } => format!("- member {group} {}", shorten(member)),
            Record::Member { group, member, value: Some(value) } => {
                let regex = if value.regex.is_empty() { String::new() } else { format!(" regex={}", value.regex) };
                let classic = if value.classic.is_some() { " classic" } else { "" };
                let instance = value.instance_id.as_deref().map_or(String::new(), |id| format!(" instance={id}"));
                format!("+ member {group} {} [{}]{regex}{instance}{classic}", shorten(member), names(&value.topics))
            }
            Record::TargetEpoch { group, value: None } => format!("- target epoch {group}"),
            Record::TargetEpoch { group, value: Some(value) } => format!("+ target epoch {group} = {}", value.epoch),
            Record::Target { group, member, value: None } => format!("- target {group} {}", shorten(member)),
            Record::Target { group, member, value: Some(value) } => {
                format!("+ target {group} {} = {}", shorten(member), self.assignment(value))
            }
            Record::Current { group, member, value: None } => format!("- current {group} {}", shorten(member)),
            Record::Current { group, member, value: Some(value) } => {
                let state = match value.state {
                    MemberState::Stable => "stable",
                    MemberState::UnrevokedPartitions => "revoking",
                    MemberState::UnreleasedPartitions => "waiting",
                    MemberState::Unknown => "unknown",
                };
                let (assigned, revoking) = (self.owned(&value.assigned), self.owned(&value.revoking));
                let revoking = if value.revoking.is_empty() { String::new() } else { format!(" gives up {revoking}") };
                let (previous, epoch) = (value.previous_epoch, value.epoch);
                format!("+ current {group} {} {previous}->{epoch} {state} has {assigned}{revoking}", shorten(member))
            }
            Record::Regex { group, regex, value: None } => format!("- regex {group} {regex}"),
            Record::Regex { group, regex, value: Some(value) } => {
                format!("+ regex {group} {regex} = [{}]", names(&value.topics))
            }
            Record::Other { kind } => format!("? {kind}"),
        }
    }
}

pub(super) fn show_blob(bytes: &[u8]) -> String {
    match EmbeddedAssignment::parse(bytes) {
        Ok(assignment) if bytes.len() >= 10 => {
            let topics = assignment.partitions.iter().map(|(topic, partitions)| {
                let partitions: Vec<String> = partitions.iter().map(i32::to_string).collect();
                format!("{topic}:{}", partitions.join("+"))
            });
            topics.collect::<Vec<_>>().join(",")
        }
        _ => format!("{:?}", String::from_utf8_lossy(bytes)),
    }
}
