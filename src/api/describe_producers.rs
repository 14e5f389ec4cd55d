//! DescribeProducers (key 61), version 0. Owner: the partitions.

use bytes::Bytes;
use kafka_protocol::messages::describe_producers_response::{PartitionResponse, ProducerState, TopicResponse};
use kafka_protocol::messages::{DescribeProducersRequest, DescribeProducersResponse};
use ottla_storage::producers::ActiveProducer;

use super::{Reply, RequestContext, decode};
use crate::protocol::wire::TopicRef;

pub async fn handle(ctx: RequestContext, mut body: Bytes) -> Reply {
    let version = ctx.api_version;
    let request: DescribeProducersRequest = match decode(&mut body, version) {
        Ok(request) => request,
        Err(reply) => return reply,
    };
    let image = ctx.broker.metadata.image();
    let topics = request.topics.into_iter().map(|topic| {
        let partition = |index: &i32| {
            let response = PartitionResponse::default().with_partition_index(*index);
            match ctx.broker.partitions.resolve(&image, TopicRef::Name(&topic.name), *index) {
                Ok(partition) => {
                    let producers = partition.log.active_producers();
                    response.with_active_producers(producers.into_iter().map(state).collect())
                }
                Err(code) => response.with_error_code(code.code()),
            }
        };
        let partitions = topic.partition_indexes.iter().map(partition).collect();
        TopicResponse::default().with_name(topic.name.clone()).with_partitions(partitions)
    });
    Reply::encode(&DescribeProducersResponse::default().with_topics(topics.collect()), version)
}

fn state(producer: ActiveProducer) -> ProducerState {
    ProducerState::default()
        .with_producer_id(producer.id.into())
        .with_producer_epoch(producer.epoch.into())
        .with_last_sequence(producer.last_sequence)
        .with_last_timestamp(producer.last_timestamp)
        .with_coordinator_epoch(producer.coordinator_epoch)
        .with_current_txn_start_offset(producer.transaction_first_offset.unwrap_or(-1))
}
