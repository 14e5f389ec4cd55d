//! OffsetDelete (key 47), version 0. Owner: the group coordinator.

use bytes::Bytes;
use kafka_protocol::messages::offset_delete_request::OffsetDeleteRequestTopic;
use kafka_protocol::messages::offset_delete_response::OffsetDeleteResponsePartition;
use kafka_protocol::messages::{OffsetDeleteRequest, OffsetDeleteResponse};

use super::{Reply, RequestContext, decode};
use crate::error::ErrorCode;
use crate::metadata::Image;

pub async fn handle(ctx: RequestContext, mut body: Bytes) -> Reply {
    let mut request: OffsetDeleteRequest = match decode(&mut body, ctx.api_version) {
        Ok(request) => request,
        Err(reply) => return reply,
    };
    let image = ctx.broker.metadata.image();
    let refused: Vec<_> = request.topics.iter_mut().map(|topic| take_unknown(&image, topic)).collect();
    let result = match request.group_id.is_empty() {
        true => Err(ErrorCode::InvalidGroupId),
        false => ctx
            .broker
            .groups
            .call(&request.group_id, |turn| turn.delete_offsets(&request))
            .await
            .and_then(|result| result.map_err(|error| error.code)),
    };
    let response = match result {
        Err(code) => OffsetDeleteResponse::default().with_error_code(code.code()),
        Ok(mut topics) => {
            topics.iter_mut().zip(refused).for_each(|(topic, unknown)| topic.partitions.extend(unknown));
            OffsetDeleteResponse::default().with_topics(topics)
        }
    };
    Reply::encode(&response, ctx.api_version)
}

/// Leaves what exists; returns the answers about the rest.
fn take_unknown(image: &Image, asked: &mut OffsetDeleteRequestTopic) -> Vec<OffsetDeleteResponsePartition> {
    let topic = image.topic(&asked.name);
    let unknown = asked
        .partitions
        .extract_if(.., |partition| topic.is_none_or(|topic| topic.partition(partition.partition_index).is_none()));
    let refuse = |index| {
        let answer = OffsetDeleteResponsePartition::default().with_partition_index(index);
        answer.with_error_code(ErrorCode::UnknownTopicOrPartition.code())
    };
    unknown.map(|partition| refuse(partition.partition_index)).collect()
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::offset_delete_request::OffsetDeleteRequestPartition;
    use kafka_protocol::messages::offset_delete_response::OffsetDeleteResponseTopic;
    use kafka_protocol::protocol::StrBytes;

    use super::super::tests::encodes_at;
    use super::*;
    use crate::metadata::tests::{add_topics, new_cluster};

    #[test]
    fn what_does_not_exist_is_answered_without_the_group() {
        let image = add_topics(&new_cluster(), &[("a", 2)]);
        let partitions = [0, 7].map(|index| OffsetDeleteRequestPartition::default().with_partition_index(index));
        let mut asked = OffsetDeleteRequestTopic::default()
            .with_name(StrBytes::from_static_str("a").into())
            .with_partitions(partitions.to_vec());
        let refused = take_unknown(&image, &mut asked);
        assert_eq!((refused[0].partition_index, refused[0].error_code, asked.partitions.len()), (7, 3, 1));
        let topic = OffsetDeleteResponseTopic::default().with_partitions(refused);
        encodes_at(&OffsetDeleteResponse::default().with_topics(vec![topic]), 0);
    }
}
