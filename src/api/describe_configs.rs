//! DescribeConfigs (key 32), versions 1-4. Owner: config.

use std::collections::BTreeMap;

use bytes::Bytes;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};
use kafka_protocol::protocol::StrBytes;

use super::{Reply, RequestContext, decode};
use crate::config::describe::{self, Entry};
use crate::config::{Config, DynamicBrokerConfigs};
use crate::error::{ApiError, ErrorCode};
use crate::metadata::Image;
use crate::metadata::topics::check_name;

/// Resource types on the wire and in ConfigRecords.
pub(super) const TOPIC: i8 = 2;
pub(super) const BROKER: i8 = 4;
pub(super) const BROKER_LOGGER: i8 = 8;
pub(super) const CLIENT_METRICS: i8 = 16;
pub(super) const GROUP: i8 = 32;

pub async fn handle(ctx: RequestContext, mut body: Bytes) -> Reply {
    let request: DescribeConfigsRequest = match decode(&mut body, ctx.api_version) {
        Ok(request) => request,
        Err(reply) => return reply,
    };
    let image = ctx.broker.metadata.image();
    let results = request.resources.iter().map(|resource| {
        let result = DescribeConfigsResult::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone());
        match entries(&ctx.broker.config, &image, resource) {
            Ok(entries) => {
                let asked = entries.into_iter().filter(|entry| is_asked_for(resource, &entry.name));
                result.with_configs(asked.map(|entry| to_wire(entry, &request)).collect())
            }
            Err(error) => {
                result.with_error_code(error.code.code()).with_error_message(Some(StrBytes::from(error.message)))
            }
        }
    });
    let response = DescribeConfigsResponse::default().with_results(results.collect());
    Reply::encode(&response, ctx.api_version)
}

fn entries(config: &Config, image: &Image, resource: &DescribeConfigsResource) -> Result<Vec<Entry>, ApiError> {
    let none = BTreeMap::new();
    let name = resource.resource_name.as_str();
    let invalid = |message: &str| Err(ApiError::new(ErrorCode::InvalidRequest, message));
    let own_id = config.node_id.to_string();
    let dynamic = DynamicBrokerConfigs {
        broker: image.config_overrides(BROKER, &own_id),
        cluster: image.config_overrides(BROKER, ""),
    };
    let overrides = image.config_overrides(resource.resource_type, name).unwrap_or(&none);
    match resource.resource_type {
        TOPIC => {
            check_name(name)?;
            image.topic(name).ok_or_else(|| ApiError::new(ErrorCode::UnknownTopicOrPartition, ""))?;
            Ok(config.describe_topic(dynamic, overrides))
        }
        BROKER if name.is_empty() => Ok(describe::describe_cluster_defaults(overrides)),
        BROKER => {
            check_broker_id(config.node_id, name, " or empty string")?;
            Ok(config.describe_broker(dynamic))
        }
        BROKER_LOGGER if name.is_empty() => invalid("Broker id must not be empty"),
        BROKER_LOGGER => {
            check_broker_id(config.node_id, name, "")?;
            Ok(describe::describe_loggers())
        }
        CLIENT_METRICS if name.is_empty() => invalid("Client metrics subscription name must not be empty"),
        CLIENT_METRICS => Ok(describe::describe_client_metrics(overrides)),
        GROUP if name.is_empty() => invalid("Group name must not be empty"),
        GROUP => Ok(config.describe_group(dynamic, overrides)),
        unknown => invalid(&format!("Unexpected resource type {unknown} for resource {name}")),
    }
}

/// `or`: what else the message says would do.
fn check_broker_id(own: i32, name: &str, or: &str) -> Result<(), ApiError> {
    let message = match name.parse::<i32>() {
        Ok(id) if id == own => return Ok(()),
        Ok(_) => format!("Unexpected broker id, expected {own}{or}, but received {name}"),
        Err(_) => format!("Broker id must be an integer, but it is: {name}"),
    };
    Err(ApiError::new(ErrorCode::InvalidRequest, message))
}

/// No keys, or null, ask for all.
fn is_asked_for(resource: &DescribeConfigsResource, name: &str) -> bool {
    match &resource.configuration_keys {
        Some(keys) if !keys.is_empty() => keys.iter().any(|key| key.as_str() == name),
        _ => true,
    }
}

fn to_wire(entry: Entry, request: &DescribeConfigsRequest) -> DescribeConfigsResourceResult {
    let synonyms = if request.include_synonyms { entry.synonyms } else { Vec::new() };
    let synonyms = synonyms.into_iter().map(|synonym| {
        DescribeConfigsSynonym::default()
            .with_name(StrBytes::from(synonym.name))
            .with_value(synonym.value.map(StrBytes::from))
            .with_source(synonym.source as i8)
    });
    DescribeConfigsResourceResult::default()
        .with_name(StrBytes::from(entry.name))
        .with_value(entry.value.map(StrBytes::from))
        .with_read_only(entry.read_only)
        .with_config_source(entry.source as i8)
        .with_is_sensitive(entry.sensitive)
        .with_synonyms(synonyms.collect())
        .with_config_type(entry.kind.map_or(0, |kind| kind as i8))
        .with_documentation(request.include_documentation.then(|| StrBytes::from_static_str(entry.doc)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::tests::new_cluster;

    #[test]
    fn topics_that_cannot_be_are_told_from_those_that_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config::for_tests(dir.path(), &[]);
        let code = |name| {
            let resource = DescribeConfigsResource::default()
                .with_resource_type(TOPIC)
                .with_resource_name(StrBytes::from_static_str(name));
            entries(&config, &new_cluster(), &resource).err().map(|error| error.code)
        };
        assert_eq!(code("no/topic"), Some(ErrorCode::InvalidTopicException));
        assert_eq!(code(""), Some(ErrorCode::InvalidTopicException));
        assert_eq!(code("unknown"), Some(ErrorCode::UnknownTopicOrPartition));
    }

    #[test]
    fn another_brokers_settings_are_asked_of_that_broker() {
        let message = |name| check_broker_id(1, name, " or empty string").unwrap_err().message;
        assert_eq!(message("2"), "Unexpected broker id, expected 1 or empty string, but received 2");
        assert_eq!(message("x"), "Broker id must be an integer, but it is: x");
        assert_eq!(check_broker_id(1, "1", ""), Ok(()));
    }

    #[test]
    fn synonyms_and_documentation_come_when_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config::for_tests(dir.path(), &[("log.retention.ms", "5")]);
        let entry = || {
            let entries = config.describe_topic(DynamicBrokerConfigs::default(), &BTreeMap::new());
            entries.into_iter().find(|entry| entry.name == "retention.ms").unwrap()
        };
        let bare = to_wire(entry(), &DescribeConfigsRequest::default());
        assert_eq!((bare.synonyms.len(), bare.documentation), (0, None));
        let request = DescribeConfigsRequest::default().with_include_synonyms(true).with_include_documentation(true);
        let full = to_wire(entry(), &request);
        assert_eq!((full.config_type, full.config_source, full.value.as_deref()), (5, 4, Some("5")));
        assert_eq!(
            full.synonyms.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(),
            ["log.retention.ms", "log.retention.hours"]
        );
        assert!(full.documentation.is_some_and(|doc| !doc.is_empty()));
    }
}
