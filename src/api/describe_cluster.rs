//! DescribeCluster (key 60), versions 0-2.

use bytes::Bytes;
use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::{DescribeClusterRequest, DescribeClusterResponse};
use kafka_protocol::protocol::StrBytes;

use super::metadata::{CLUSTER_OPERATIONS, OPERATIONS_NOT_ASKED};
use super::{Reply, RequestContext, decode};
use crate::error::ErrorCode;
use crate::metadata::Image;

const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

pub async fn handle(ctx: RequestContext, mut body: Bytes) -> Reply {
    let version = ctx.api_version;
    let request: DescribeClusterRequest = match decode(&mut body, version) {
        Ok(request) => request,
        Err(reply) => return reply,
    };
    Reply::encode(&answer(&ctx.broker.metadata.image(), &request, &ctx.listener_name, version), version)
}

fn answer(image: &Image, request: &DescribeClusterRequest, listener: &str, version: i16) -> DescribeClusterResponse {
    match request.endpoint_type {
        BROKERS => {}
        CONTROLLERS => {
            let message = "The request was sent to an endpoint of type BROKER, but we wanted an endpoint of type \
                           CONTROLLER";
            return refuse(ErrorCode::MismatchedEndpointType, message.to_owned());
        }
        other => return refuse(ErrorCode::UnsupportedEndpointType, format!("Unsupported endpoint type {other}")),
    }
    let shown = image.brokers().filter(|broker| !broker.fenced || request.include_fenced_brokers);
    let brokers = shown.filter_map(|broker| {
        let (host, port) = broker.endpoint(listener)?;
        Some(
            DescribeClusterBroker::default()
                .with_broker_id(broker.id.into())
                .with_host(StrBytes::from_string(host.to_owned()))
                .with_port(port.into())
                .with_rack(broker.rack.clone().map(StrBytes::from_string))
                .with_is_fenced(version >= 2 && broker.fenced),
        )
    });
    let operations =
        if request.include_cluster_authorized_operations { CLUSTER_OPERATIONS } else { OPERATIONS_NOT_ASKED };
    DescribeClusterResponse::default()
        .with_endpoint_type(BROKERS)
        .with_cluster_id(StrBytes::from_string(image.cluster_id().to_owned()))
        .with_controller_id(image.controller_id().into())
        .with_brokers(brokers.collect())
        .with_cluster_authorized_operations(operations)
}

fn refuse(code: ErrorCode, message: String) -> DescribeClusterResponse {
    DescribeClusterResponse::default()
        .with_error_code(code.code())
        .with_error_message(Some(StrBytes::from_string(message)))
}
