//! WriteTxnMarkers (key 27), versions 1-2. Owner: the transaction coordinator. Between brokers, and for who ends a
//! transaction by hand that hangs.

use bytes::Bytes;
use kafka_protocol::messages::WriteTxnMarkersResponse;
use kafka_protocol::messages::write_txn_markers_request::{WritableTxnMarker, WritableTxnMarkerTopic};
use kafka_protocol::messages::write_txn_markers_response::{
    WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult,
};
use kafka_protocol::protocol::StrBytes;
use ottla_storage::batch::TransactionMarker;

use super::end_txn::producer;
use super::{Reply, RequestContext};
use crate::protocol::wire::{Reader, Result};

/// The last that kafka-protocol knows is the one before. The answer is the same.
const FIRST_VERSION_WITH_TRANSACTION_VERSION: i16 = 2;
const RESPONSE_VERSION: i16 = 1;

pub async fn handle(ctx: RequestContext, body: Bytes) -> Reply {
    let markers = match parse(&body, ctx.api_version) {
        Ok(markers) => markers,
        Err(error) => return Reply::Close(error.to_string()),
    };
    let mut results: Vec<WritableTxnMarkerResult> = Vec::with_capacity(markers.len());
    for marker in markers {
        let topics = write(&ctx, &marker).await;
        match results.iter_mut().find(|result| result.producer_id == marker.producer_id) {
            Some(result) => result.topics.extend(topics),
            None => results
                .push(WritableTxnMarkerResult::default().with_producer_id(marker.producer_id).with_topics(topics)),
        }
    }
    Reply::encode(&WriteTxnMarkersResponse::default().with_markers(results), RESPONSE_VERSION)
}

async fn write(ctx: &RequestContext, asked: &WritableTxnMarker) -> Vec<WritableTxnMarkerTopicResult> {
    let producer = producer(asked.producer_id, asked.producer_epoch);
    let marker = TransactionMarker { commit: asked.transaction_result, coordinator_epoch: asked.coordinator_epoch };
    let mut topics = Vec::with_capacity(asked.topics.len());
    for topic in &asked.topics {
        let mut partitions = Vec::with_capacity(topic.partition_indexes.len());
        for index in &topic.partition_indexes {
            let written = ctx.broker.transactions.write_marker(&topic.name, *index, producer, marker).await;
            let code = written.map_or_else(|code| code.code(), |()| 0);
            let result = WritableTxnMarkerPartitionResult::default().with_partition_index(*index);
            partitions.push(result.with_error_code(code));
        }
        let result = WritableTxnMarkerTopicResult::default().with_name(topic.name.clone());
        topics.push(result.with_partitions(partitions));
    }
    topics
}

fn parse(body: &[u8], version: i16) -> Result<Vec<WritableTxnMarker>> {
    let mut from = Reader::new(body, true);
    let mut markers = Vec::new();
    for _ in 0..from.array_len()? {
        let mut marker = WritableTxnMarker::default()
            .with_producer_id(from.i64()?.into())
            .with_producer_epoch(from.i16()?)
            .with_transaction_result(from.i8()? != 0);
        for _ in 0..from.array_len()? {
            let name = StrBytes::from_string(from.string()?.to_owned());
            let indexes = (0..from.array_len()?).map(|_| from.i32()).collect::<Result<_>>()?;
            from.skip_tagged_fields()?;
            marker
                .topics
                .push(WritableTxnMarkerTopic::default().with_name(name.into()).with_partition_indexes(indexes));
        }
        marker.coordinator_epoch = from.i32()?;
        if version >= FIRST_VERSION_WITH_TRANSACTION_VERSION {
            from.i8()?;
        }
        from.skip_tagged_fields()?;
        markers.push(marker);
    }
    Ok(markers)
}

#[cfg(test)]
mod tests {
    use bytes::{BufMut, BytesMut};
    use kafka_protocol::messages::WriteTxnMarkersRequest;
    use kafka_protocol::protocol::Encodable;

    use super::*;

    #[test]
    fn both_versions_are_read() {
        let topic = WritableTxnMarkerTopic::default().with_name(StrBytes::from_static_str("t").into());
        let marker = WritableTxnMarker::default()
            .with_producer_id(7.into())
            .with_producer_epoch(3)
            .with_transaction_result(true)
            .with_topics(vec![topic.with_partition_indexes(vec![0, 2])])
            .with_coordinator_epoch(5);
        let mut body = BytesMut::new();
        let request = WriteTxnMarkersRequest::default().with_markers(vec![marker.clone()]);
        request.encode(&mut body, 1).unwrap();
        assert_eq!(parse(&body, 1), Ok(vec![marker.clone()]));
        // The version stands before the tagged fields of marker and request.
        let mut later = BytesMut::from(&body[..body.len() - 2]);
        later.put_slice(&[2, 0, 0]);
        assert_eq!(parse(&later, 2), Ok(vec![marker]));
        for end in 0..later.len() - 1 {
            assert!(parse(&later[..end], 2).is_err(), "{end}");
        }
    }
}
