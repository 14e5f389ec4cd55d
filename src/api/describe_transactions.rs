//! DescribeTransactions (key 65), version 0. Owner: the transaction coordinator.

use bytes::Bytes;
use kafka_protocol::messages::describe_transactions_response::{TopicData, TransactionState};
use kafka_protocol::messages::{DescribeTransactionsRequest, DescribeTransactionsResponse};
use kafka_protocol::protocol::StrBytes;

use super::{Reply, RequestContext, decode};
use crate::txn::records::Transaction;

pub async fn handle(ctx: RequestContext, mut body: Bytes) -> Reply {
    let version = ctx.api_version;
    let request: DescribeTransactionsRequest = match decode(&mut body, version) {
        Ok(request) => request,
        Err(reply) => return reply,
    };
    let mut states = Vec::with_capacity(request.transactional_ids.len());
    for id in request.transactional_ids {
        let described = ctx.broker.transactions.call(&id, |turn| turn.describe(&id).cloned()).await;
        let state = match described.and_then(|result| result.map_err(|error| error.code)) {
            Ok(transaction) => state(&transaction),
            Err(code) => TransactionState::default().with_error_code(code.code()),
        };
        states.push(state.with_transactional_id(id));
    }
    Reply::encode(&DescribeTransactionsResponse::default().with_transaction_states(states), version)
}

fn state(transaction: &Transaction) -> TransactionState {
    let topics = transaction.partitions.iter().map(|(topic, indexes)| {
        TopicData::default()
            .with_topic(StrBytes::from_string(topic.to_string()).into())
            .with_partitions(indexes.iter().copied().collect())
    });
    TransactionState::default()
        .with_transaction_state(StrBytes::from_static_str(transaction.state.name()))
        .with_transaction_timeout_ms(transaction.timeout_ms)
        .with_transaction_start_time_ms(transaction.start_ms)
        .with_producer_id(transaction.producer.id.into())
        .with_producer_epoch(transaction.producer.epoch)
        .with_topics(topics.collect())
}
