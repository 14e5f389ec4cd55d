//! ListTransactions (key 66), versions 0-2. Owner: the transaction coordinator.

use bytes::Bytes;
use kafka_protocol::messages::list_transactions_response::TransactionState;
use kafka_protocol::messages::{ListTransactionsRequest, ListTransactionsResponse};
use kafka_protocol::protocol::StrBytes;

use super::{Reply, RequestContext, decode};
use crate::error::ErrorCode;
use crate::txn::{Filter, Listed};

pub async fn handle(ctx: RequestContext, mut body: Bytes) -> Reply {
    let version = ctx.api_version;
    let request: ListTransactionsRequest = match decode(&mut body, version) {
        Ok(request) => request,
        Err(reply) => return reply,
    };
    let response = list(&ctx, &request).await;
    let response = response.unwrap_or_else(|code| ListTransactionsResponse::default().with_error_code(code.code()));
    Reply::encode(&response, version)
}

async fn list(ctx: &RequestContext, request: &ListTransactionsRequest) -> Result<ListTransactionsResponse, ErrorCode> {
    let states: Vec<&str> = request.state_filters.iter().map(|state| &**state).collect();
    let producer_ids: Vec<i64> = request.producer_id_filters.iter().map(|id| id.0).collect();
    let pattern = request.transactional_id_pattern.as_deref();
    let (filter, unknown) =
        Filter::new(&states, &producer_ids, request.duration_filter, pattern).map_err(|error| error.code)?;
    let listed = ctx.broker.transactions.call_all(|turn| turn.list(&filter)).await?;
    let unknown = unknown.into_iter().map(|state| StrBytes::from_string(state.to_owned()));
    Ok(ListTransactionsResponse::default()
        .with_unknown_state_filters(unknown.collect())
        .with_transaction_states(listed.into_iter().flatten().map(state).collect()))
}

fn state(listed: Listed) -> TransactionState {
    TransactionState::default()
        .with_transactional_id(StrBytes::from_string(listed.transactional_id.to_string()).into())
        .with_producer_id(listed.producer_id.into())
        .with_transaction_state(StrBytes::from_static_str(listed.state.name()))
}
