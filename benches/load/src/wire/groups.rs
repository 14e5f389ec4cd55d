//! What members of consumer groups say, of both protocols, and what they are told. No sockets.

use anyhow::{Result, bail};

use super::{Fields, Frame};

const OFFSET_COMMIT: i16 = 8;
const FIND_COORDINATOR: i16 = 10;
const JOIN_GROUP: i16 = 11;
const HEARTBEAT: i16 = 12;
const SYNC_GROUP: i16 = 14;
const CONSUMER_GROUP_HEARTBEAT: i16 = 68;

/// What a broker allows at most: a broker that is paused does not lose its members.
const SESSION_TIMEOUT_MS: i32 = 1_800_000;
const REBALANCE_TIMEOUT_MS: i32 = 60_000;
pub const REBALANCE_IN_PROGRESS: i16 = 27;

/// FindCoordinator v2 of a group.
pub fn find_coordinator(group: &str) -> Frame {
    let mut frame = Frame::new(FIND_COORDINATOR, 2);
    frame.string(group);
    frame.i8(0); // a group
    frame.finish()
}

pub fn coordinator_outcome(response: &[u8]) -> Result<()> {
    let mut fields = Fields::new(response);
    fields.take(8)?; // correlation id, throttle time
    fields.error()
}

/// JoinGroup v3: the last in which a new member is not sent away to come again with its id.
pub fn join(group: &str, member: &str, topic: &str) -> Frame {
    let mut frame = Frame::new(JOIN_GROUP, 3);
    frame.string(group);
    frame.i32(SESSION_TIMEOUT_MS);
    frame.i32(REBALANCE_TIMEOUT_MS);
    frame.string(member);
    frame.string("consumer");
    frame.i32(1);
    frame.string("range");
    frame.i32(2 + 4 + 2 + topic.len() as i32 + 4);
    frame.i16(0); // version of the subscription
    frame.i32(1);
    frame.string(topic);
    frame.i32(-1); // no user data
    frame.finish()
}

pub struct Joined {
    pub generation: i32,
    pub member: String,
    /// Of all members; empty for those that do not lead.
    pub members: Vec<String>,
}

/// Or the error code.
pub fn joined(response: &[u8]) -> Result<Result<Joined, i16>> {
    let mut fields = Fields::new(response);
    fields.take(8)?; // correlation id, throttle time
    let code = fields.i16()?;
    let generation = fields.i32()?;
    fields.string()?; // protocol
    fields.string()?; // leader
    let member = text(fields.string()?)?;
    let mut members = Vec::new();
    for _ in 0..fields.i32()? {
        members.push(text(fields.string()?)?);
        let length = fields.i32()?.max(0) as usize;
        fields.take(length)?;
    }
    Ok(if code == 0 { Ok(Joined { generation, member, members }) } else { Err(code) })
}

/// SyncGroup v2: of the leader with everybody's partitions.
pub fn sync(group: &str, generation: i32, member: &str, topic: &str, assigned: &[(String, Vec<i32>)]) -> Frame {
    let mut frame = Frame::new(SYNC_GROUP, 2);
    frame.string(group);
    frame.i32(generation);
    frame.string(member);
    frame.i32(assigned.len() as i32);
    for (member, partitions) in assigned {
        frame.string(member);
        frame.i32((2 + 4 + 2 + topic.len() + 4 + 4 * partitions.len() + 4) as i32);
        frame.i16(0); // version of the assignment
        frame.i32(1);
        frame.string(topic);
        frame.i32(partitions.len() as i32);
        partitions.iter().for_each(|partition| frame.i32(*partition));
        frame.i32(-1); // no user data
    }
    frame.finish()
}

/// Heartbeat v2.
pub fn heartbeat(group: &str, generation: i32, member: &str) -> Frame {
    let mut frame = Frame::new(HEARTBEAT, 2);
    frame.string(group);
    frame.i32(generation);
    frame.string(member);
    frame.finish()
}

/// The error code of a SyncGroup v2 or a Heartbeat v2.
pub fn code(response: &[u8]) -> Result<i16> {
    let mut fields = Fields::new(response);
    fields.take(8)?; // correlation id, throttle time
    fields.i16()
}

/// OffsetCommit v7 of the first partitions of a topic, whose offsets move from request to request.
pub struct Commit {
    pub frame: Frame,
    offset_at: Vec<usize>,
}

impl Commit {
    pub fn new(group: &str, generation: i32, member: &str, topic: &str, partitions: i32) -> Self {
        let mut frame = Frame::new(OFFSET_COMMIT, 7);
        frame.string(group);
        frame.i32(generation);
        frame.string(member);
        frame.i16(-1); // no instance id
        frame.i32(1);
        frame.string(topic);
        frame.i32(partitions);
        let mut offset_at = Vec::new();
        for partition in 0..partitions {
            frame.i32(partition);
            offset_at.push(frame.bytes.len());
            frame.i64(0);
            frame.i32(-1); // no leader epoch
            frame.string(""); // metadata
        }
        Self { frame: frame.finish(), offset_at }
    }

    pub fn set_offset(&mut self, offset: i64) {
        self.offset_at.iter().for_each(|at| self.frame.set_i64(*at, offset));
    }
}

/// Of all partitions of an OffsetCommit v7.
pub fn commit_outcome(response: &[u8]) -> Result<()> {
    let mut fields = Fields::new(response);
    fields.take(8)?; // correlation id, throttle time
    for _ in 0..fields.i32()? {
        fields.string()?;
        for _ in 0..fields.i32()? {
            fields.i32()?;
            fields.error()?;
        }
    }
    Ok(())
}

/// ConsumerGroupHeartbeat v1. With `topic` it says everything, as a member does that joins.
pub fn consumer_heartbeat(group: &str, member: &str, epoch: i32, topic: Option<&str>, owned: Option<&Owned>) -> Frame {
    let mut frame = Frame::new(CONSUMER_GROUP_HEARTBEAT, 1);
    frame.no_tagged_fields();
    frame.compact_string(group);
    frame.compact_string(member);
    frame.i32(epoch);
    frame.uvarint(0); // no instance id
    frame.uvarint(0); // no rack
    frame.i32(if topic.is_some() { REBALANCE_TIMEOUT_MS } else { -1 });
    match topic {
        Some(topic) => {
            frame.compact_length(1);
            frame.compact_string(topic);
        }
        None => frame.uvarint(0),
    }
    frame.uvarint(0); // no regular expression
    frame.uvarint(0); // any assignor
    match owned {
        None => frame.uvarint(0),
        Some(owned) => {
            frame.compact_length(owned.len());
            for (topic, partitions) in owned {
                frame.bytes.extend(topic);
                frame.compact_length(partitions.len());
                partitions.iter().for_each(|partition| frame.i32(*partition));
                frame.no_tagged_fields();
            }
        }
    }
    frame.no_tagged_fields();
    frame.finish()
}

/// Topic id and partitions.
pub type Owned = Vec<([u8; 16], Vec<i32>)>;

pub struct ConsumerHeartbeat {
    pub epoch: i32,
    /// None: as before.
    pub assignment: Option<Owned>,
}

pub fn consumer_heartbeat_answer(response: &[u8]) -> Result<ConsumerHeartbeat> {
    let mut fields = Fields::new(response);
    fields.i32()?; // correlation id
    fields.no_tagged_fields()?;
    fields.i32()?; // throttle time
    let outcome = fields.error();
    let message = fields.compact_string()?;
    if let Err(error) = outcome {
        bail!("{error}: {}", String::from_utf8_lossy(message));
    }
    fields.compact_string()?; // member id
    let epoch = fields.i32()?;
    fields.i32()?; // heartbeat interval
    let [present] = fields.array()?;
    let mut assignment = None;
    if present as i8 >= 0 {
        let mut owned = Owned::new();
        for _ in 1..fields.uvarint()? {
            let topic = fields.array()?;
            let mut partitions = Vec::new();
            for _ in 1..fields.uvarint()? {
                partitions.push(fields.i32()?);
            }
            fields.no_tagged_fields()?;
            owned.push((topic, partitions));
        }
        assignment = Some(owned);
    }
    Ok(ConsumerHeartbeat { epoch, assignment })
}

fn text(bytes: &[u8]) -> Result<String> {
    Ok(String::from_utf8(bytes.to_vec())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_moves_all_its_offsets() {
        let mut commit = Commit::new("g", 1, "m", "t", 2);
        let length = commit.frame.bytes().len();
        commit.set_offset(0x1122334455667788);
        let found = commit.frame.bytes().windows(8).filter(|bytes| **bytes == 0x1122334455667788i64.to_be_bytes());
        assert_eq!((found.count(), commit.frame.bytes().len()), (2, length));
    }

    #[test]
    fn an_assignment_is_read_or_not_there() {
        let mut response = vec![0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, b'm', 0, 0, 0, 7, 0, 0, 0, 5, 255, 0];
        let answer = consumer_heartbeat_answer(&response).unwrap();
        assert_eq!((answer.epoch, answer.assignment), (7, None));
        response.truncate(response.len() - 2);
        response.extend([1, 2]);
        response.extend([9; 16]);
        response.extend([2, 0, 0, 0, 4, 0, 0, 0]);
        let answer = consumer_heartbeat_answer(&response).unwrap();
        assert_eq!(answer.assignment, Some(vec![([9; 16], vec![4])]));
    }
}
