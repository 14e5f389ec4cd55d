//! TxnOffsetCommit (key 28), versions 0-5. Owner: the group coordinator, after the transaction coordinator has let the
//! producer in.

use std::collections::BTreeSet;

use bytes::Bytes;
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use kafka_protocol::messages::{TxnOffsetCommitRequest, TxnOffsetCommitResponse};

use super::end_txn::producer;
use super::{Reply, RequestContext, decode};
use crate::error::ErrorCode;
use crate::group::Turn;
use crate::metadata::Image;
use crate::metadata::topics::CONSUMER_OFFSETS;
use crate::txn::records::Partitions;

/// From this version on clients need not have told the transaction coordinator before (KIP-890).
const FIRST_VERSION_THAT_ADDS: i16 = 5;
/// Older clients take COORDINATOR_LOAD_IN_PROGRESS for fatal.
const FIRST_VERSION_WITH_LOADING: i16 = 2;

type Outcome = Vec<TxnOffsetCommitResponseTopic>;

pub async fn handle(ctx: RequestContext, mut body: Bytes) -> Reply {
    let version = ctx.api_version;
    let mut request: TxnOffsetCommitRequest = match decode(&mut body, version) {
        Ok(request) => request,
        Err(reply) => return reply,
    };
    let (known, mut outcome) = split(&ctx.broker.metadata.image(), std::mem::take(&mut request.topics));
    request.topics = known;
    if !request.topics.is_empty() {
        let committed = commit(&ctx, &request).await.map_err(|code| match code {
            ErrorCode::CoordinatorLoadInProgress if version < FIRST_VERSION_WITH_LOADING => {
                ErrorCode::CoordinatorNotAvailable
            }
            code => code,
        });
        outcome.extend(committed.unwrap_or_else(|code| refuse(&request.topics, code)));
    }
    Reply::encode(&respond(outcome), version)
}

async fn commit(ctx: &RequestContext, request: &TxnOffsetCommitRequest) -> Result<Outcome, ErrorCode> {
    // The client looks for the coordinator again, and so the topic is made, before anything is added to its transaction.
    ctx.broker.metadata.image().topic(CONSUMER_OFFSETS).ok_or(ErrorCode::CoordinatorNotAvailable)?;
    let groups = &ctx.broker.groups;
    let producer = producer(request.producer_id, request.producer_epoch);
    let index = groups.partition_of(&request.group_id);
    let offsets = Partitions::from([(CONSUMER_OFFSETS.into(), BTreeSet::from([index]))]);
    let adds = ctx.api_version >= FIRST_VERSION_THAT_ADDS;
    let refused = ctx.broker.transactions.admit(&request.transactional_id, producer, &offsets, adds).await?;
    if !refused.is_empty() {
        return Err(if adds { ErrorCode::TransactionAbortable } else { ErrorCode::InvalidTxnState });
    }
    let commit = |turn: &mut Turn<'_>| turn.commit_transactional_offsets(ctx.api_version, request);
    groups.call_in_transaction(&request.group_id, producer, commit).await?.map_err(|error| error.code)
}

/// What exists, and the answer about what does not.
fn split(image: &Image, asked: Vec<TxnOffsetCommitRequestTopic>) -> (Vec<TxnOffsetCommitRequestTopic>, Outcome) {
    let (mut known, mut refused) = (Vec::new(), Vec::new());
    for topic in asked {
        let found = image.topic(&topic.name);
        let exists = |partition: &TxnOffsetCommitRequestPartition| {
            found.is_some_and(|topic| topic.partition(partition.partition_index).is_some())
        };
        let (here, missing): (Vec<_>, Vec<_>) = topic.partitions.into_iter().partition(exists);
        let named = |partitions| {
            TxnOffsetCommitRequestTopic::default().with_name(topic.name.clone()).with_partitions(partitions)
        };
        if !missing.is_empty() {
            refused.extend(refuse(&[named(missing)], ErrorCode::UnknownTopicOrPartition));
        }
        if !here.is_empty() {
            known.push(named(here));
        }
    }
    (known, refused)
}

fn refuse(topics: &[TxnOffsetCommitRequestTopic], code: ErrorCode) -> Outcome {
    let topic = |topic: &TxnOffsetCommitRequestTopic| {
        let partitions = topic.partitions.iter().map(|partition| {
            TxnOffsetCommitResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(code.code())
        });
        TxnOffsetCommitResponseTopic::default().with_name(topic.name.clone()).with_partitions(partitions.collect())
    };
    topics.iter().map(topic).collect()
}

/// One entry a topic.
fn respond(outcome: Outcome) -> TxnOffsetCommitResponse {
    let mut topics: Outcome = Vec::new();
    for topic in outcome {
        match topics.iter_mut().find(|known| known.name == topic.name) {
            Some(known) => known.partitions.extend(topic.partitions),
            None => topics.push(topic),
        }
    }
    TxnOffsetCommitResponse::default().with_topics(topics)
}

#[cfg(test)]
mod tests {
    use kafka_protocol::protocol::StrBytes;

    use super::super::tests::encodes_at;
    use super::*;
    use crate::metadata::tests::{add_topics, new_cluster};

    #[test]
    fn what_does_not_exist_is_answered_without_the_group() {
        let image = add_topics(&new_cluster(), &[("a", 2)]);
        let partition = |index| TxnOffsetCommitRequestPartition::default().with_partition_index(index);
        let topic = |name| TxnOffsetCommitRequestTopic::default().with_name(StrBytes::from_static_str(name).into());
        let asked = vec![
            topic("a").with_partitions(vec![partition(0), partition(7)]),
            topic("b").with_partitions(vec![partition(0)]),
        ];
        let (known, refused) = split(&image, asked);
        assert_eq!(known, [topic("a").with_partitions(vec![partition(0)])]);
        let response = respond([refused, refuse(&known, ErrorCode::IllegalGeneration)].concat());
        let answer = |topic: &TxnOffsetCommitResponseTopic| -> Vec<(i32, i16)> {
            topic.partitions.iter().map(|p| (p.partition_index, p.error_code)).collect()
        };
        assert_eq!(answer(&response.topics[0]), [(7, 3), (0, 22)]);
        assert_eq!(answer(&response.topics[1]), [(0, 3)]);
        (0..=5).for_each(|version| encodes_at(&response, version));
    }
}
