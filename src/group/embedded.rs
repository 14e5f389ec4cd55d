//! The consumer protocol that classic members carry inside JoinGroup and SyncGroup: subscriptions and assignments.
//! The coordinator reads them to know which topics a group uses, and to let classic members into groups of KIP-848.

use bytes::{BufMut, Bytes};
use kafka_protocol::protocol::StrBytes;

use super::records::Name;
use crate::protocol::wire::{Malformed, Reader, Writer};

pub const PROTOCOL_TYPE: &str = "consumer";

/// The newest version of both; newer ones are read as this one.
const LAST_VERSION: i16 = 3;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Subscription {
    pub topics: Vec<Name>,
    /// (topic, partitions)
    pub owned: Vec<(Name, Vec<i32>)>,
    pub rack_id: Option<Name>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct EmbeddedAssignment {
    /// (topic, partitions)
    pub partitions: Vec<(Name, Vec<i32>)>,
    /// What an assignor of the user's own keeps there.
    pub has_user_data: bool,
}

impl Subscription {
    pub fn parse(bytes: &[u8]) -> Result<Subscription, Malformed> {
        let (version, mut from) = version_of(bytes)?;
        let mut subscription = Subscription {
            topics: (0..from.array_len()?).map(|_| from.string().map(Name::from)).collect::<Result<_, _>>()?,
            ..Subscription::default()
        };
        from.nullable_bytes()?;
        if version >= 1 {
            subscription.owned = topics(&mut from)?;
        }
        if version >= 2 {
            // The generation in which they were owned.
            from.i32()?;
        }
        if version >= 3 {
            subscription.rack_id = from.nullable_string()?.filter(|rack| !rack.is_empty()).map(Name::from);
        }
        Ok(subscription)
    }
}

impl EmbeddedAssignment {
    pub fn parse(bytes: &[u8]) -> Result<EmbeddedAssignment, Malformed> {
        let (_, mut from) = version_of(bytes)?;
        let partitions = topics(&mut from)?;
        let has_user_data = from.nullable_bytes()?.is_some_and(|data| !data.is_empty());
        Ok(EmbeddedAssignment { partitions, has_user_data })
    }

    /// In the version that the member's `subscription` has.
    pub fn encode(partitions: &[(Name, Vec<i32>)], subscription: &[u8]) -> Bytes {
        let version = version_of(subscription).map_or(0, |(version, _)| version);
        let mut out = Writer::new(64, false);
        out.buf.put_i16(version);
        out.length(partitions.len());
        for (topic, partitions) in partitions {
            out.string(topic);
            out.length(partitions.len());
            partitions.iter().for_each(|partition| out.buf.put_i32(*partition));
        }
        out.null_array();
        out.buf.freeze()
    }
}

/// The first field of either.
fn version_of(bytes: &[u8]) -> Result<(i16, Reader<'_>), Malformed> {
    let mut from = Reader::new(bytes, false);
    match from.i16()? {
        version if version < 0 => Err(Malformed("a negative version")),
        version => Ok((version.min(LAST_VERSION), from)),
    }
}

fn topics(from: &mut Reader<'_>) -> Result<Vec<(Name, Vec<i32>)>, Malformed> {
    let topic = |from: &mut Reader<'_>| {
        let name = Name::from(from.string()?);
        Ok((name, (0..from.array_len()?).map(|_| from.i32()).collect::<Result<_, _>>()?))
    };
    (0..from.array_len()?).map(|_| topic(from)).collect()
}

/// For answers.
pub fn text(name: &str) -> StrBytes {
    StrBytes::from_string(name.to_owned())
}
