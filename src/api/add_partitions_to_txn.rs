//! AddPartitionsToTxn (key 24), versions 0-5. Owner: the transaction coordinator. Clients use versions 0-3, brokers the
//! later ones, and for many transactions at once.

use bytes::Bytes;
use kafka_protocol::messages::add_partitions_to_txn_request::{AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction};
use kafka_protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnResult, AddPartitionsToTxnTopicResult,
};
use kafka_protocol::messages::{AddPartitionsToTxnRequest, AddPartitionsToTxnResponse};

use super::end_txn::{known_to, producer};
use super::{Reply, RequestContext, decode};
use crate::error::ErrorCode;
use crate::metadata::Image;
use crate::txn::records::Partitions;
use crate::txn::{EPOCH_BUMP_VERSION, Turn};

const FIRST_BROKER_VERSION: i16 = 4;

pub async fn handle(ctx: RequestContext, mut body: Bytes) -> Reply {
    let version = ctx.api_version;
    let request: AddPartitionsToTxnRequest = match decode(&mut body, version) {
        Ok(request) => request,
        Err(reply) => return reply,
    };
    let mut results = Vec::new();
    for transaction in into_transactions(request, version) {
        results.push(add(&ctx, transaction).await);
    }
    Reply::encode(&respond(results, version), version)
}

fn into_transactions(request: AddPartitionsToTxnRequest, version: i16) -> Vec<AddPartitionsToTxnTransaction> {
    if version >= FIRST_BROKER_VERSION {
        return request.transactions;
    }
    let only = AddPartitionsToTxnTransaction::default()
        .with_transactional_id(request.v3_and_below_transactional_id)
        .with_producer_id(request.v3_and_below_producer_id)
        .with_producer_epoch(request.v3_and_below_producer_epoch)
        .with_topics(request.v3_and_below_topics);
    vec![only]
}

async fn add(ctx: &RequestContext, transaction: AddPartitionsToTxnTransaction) -> AddPartitionsToTxnResult {
    let AddPartitionsToTxnTransaction { transactional_id: id, topics, verify_only, .. } = transaction;
    let producer = producer(transaction.producer_id, transaction.producer_epoch);
    let result = AddPartitionsToTxnResult::default().with_transactional_id(id.clone());
    if let Some(refused) = missing(&ctx.broker.metadata.image(), &topics) {
        return result.with_topic_results(refused);
    }
    let partitions = partitions(&topics);
    let client_version = if ctx.api_version >= FIRST_BROKER_VERSION { EPOCH_BUMP_VERSION } else { 0 };
    let add = |turn: &mut Turn<'_>| match verify_only {
        true => turn.verify_partitions(&id, producer, &partitions),
        false => turn.add_partitions(&id, producer, &partitions, client_version).map(|()| Partitions::new()),
    };
    let outcome = ctx.broker.transactions.call(&id, add).await.and_then(|result| result.map_err(|error| error.code));
    let code = |topic: &str, index: i32| match &outcome {
        Err(code) => known_to(ctx.api_version, *code).code(),
        Ok(missing) if missing.get(topic).is_some_and(|indexes| indexes.contains(&index)) => {
            ErrorCode::TransactionAbortable.code()
        }
        Ok(_) => 0,
    };
    result.with_topic_results(answer(&topics, code))
}

fn partitions(topics: &[AddPartitionsToTxnTopic]) -> Partitions {
    let mut partitions = Partitions::new();
    for topic in topics {
        partitions.entry(topic.name.as_str().into()).or_default().extend(&topic.partitions);
    }
    partitions
}

/// If one does not exist, none is added.
fn missing(image: &Image, topics: &[AddPartitionsToTxnTopic]) -> Option<Vec<AddPartitionsToTxnTopicResult>> {
    let exists = |topic: &str, index| image.topic(topic).is_some_and(|topic| topic.partition(index).is_some());
    let all = topics.iter().all(|topic| topic.partitions.iter().all(|index| exists(&topic.name, *index)));
    let code = |topic: &str, index| match exists(topic, index) {
        true => ErrorCode::OperationNotAttempted.code(),
        false => ErrorCode::UnknownTopicOrPartition.code(),
    };
    (!all).then(|| answer(topics, code))
}

fn answer(topics: &[AddPartitionsToTxnTopic], code: impl Fn(&str, i32) -> i16) -> Vec<AddPartitionsToTxnTopicResult> {
    let topic = |topic: &AddPartitionsToTxnTopic| {
        let partition = |index: &i32| {
            AddPartitionsToTxnPartitionResult::default()
                .with_partition_index(*index)
                .with_partition_error_code(code(&topic.name, *index))
        };
        AddPartitionsToTxnTopicResult::default()
            .with_name(topic.name.clone())
            .with_results_by_partition(topic.partitions.iter().map(partition).collect())
    };
    topics.iter().map(topic).collect()
}

fn respond(mut results: Vec<AddPartitionsToTxnResult>, version: i16) -> AddPartitionsToTxnResponse {
    if version >= FIRST_BROKER_VERSION {
        return AddPartitionsToTxnResponse::default().with_results_by_transaction(results);
    }
    let only = results.pop().expect("one transaction, one answer");
    AddPartitionsToTxnResponse::default().with_results_by_topic_v3_and_below(only.topic_results)
}

#[cfg(test)]
mod tests {
    use kafka_protocol::protocol::StrBytes;

    use super::super::tests::encodes_at;
    use super::*;
    use crate::metadata::tests::{add_topics, new_cluster};

    fn asked(name: &'static str, partitions: &[i32]) -> AddPartitionsToTxnTopic {
        let topic = AddPartitionsToTxnTopic::default().with_name(StrBytes::from_static_str(name).into());
        topic.with_partitions(partitions.to_vec())
    }

    #[test]
    fn one_partition_that_does_not_exist_keeps_all_out() {
        let image = add_topics(&new_cluster(), &[("a", 2)]);
        assert_eq!(missing(&image, &[asked("a", &[0, 1])]), None);
        let refused = missing(&image, &[asked("a", &[0, 7]), asked("b", &[0])]).unwrap();
        let codes = refused.iter().flat_map(|topic| &topic.results_by_partition).map(|p| p.partition_error_code);
        assert_eq!(codes.collect::<Vec<_>>(), [55, 3, 3]);
    }

    #[test]
    fn every_version_can_carry_the_answer() {
        for version in 0..=5 {
            let result = AddPartitionsToTxnResult::default().with_topic_results(answer(&[asked("a", &[0])], |_, _| 48));
            encodes_at(&respond(vec![result], version), version);
        }
    }
}
