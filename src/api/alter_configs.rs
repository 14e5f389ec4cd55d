//! AlterConfigs (key 33), versions 0-2. Owner: metadata, by the rules of config. Also what IncrementalAlterConfigs shares.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages::alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{AlterConfigsRequest, AlterConfigsResponse};
use kafka_protocol::protocol::StrBytes;

use super::describe_configs::{BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP, TOPIC};
use super::{Reply, RequestContext, decode};
use crate::broker::Broker;
use crate::config::Config;
use crate::config::change::{self, Op, Operation};
use crate::error::{ApiError, ErrorCode};
use crate::metadata::topics::check_name;
use crate::metadata::{ConfigChange, Image};

pub async fn handle(ctx: RequestContext, mut body: Bytes) -> Reply {
    let request: AlterConfigsRequest = match decode(&mut body, ctx.api_version) {
        Ok(request) => request,
        Err(reply) => return reply,
    };
    let resources = request.resources.iter().map(|resource| Resource {
        resource_type: resource.resource_type,
        name: resource.resource_name.clone(),
        operations: resource
            .configs
            .iter()
            .map(|config| operation(&config.name, Op::Set as i8, &config.value))
            .collect(),
        replaces: true,
    });
    let resources: Arc<[Resource]> = resources.collect();
    let outcomes = alter(&ctx.broker, &resources, request.validate_only).await;
    let responses = resources.iter().zip(outcomes).map(|(resource, (code, message))| {
        AlterConfigsResourceResponse::default()
            .with_error_code(code)
            .with_error_message(message)
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.name.clone())
    });
    Reply::encode(&AlterConfigsResponse::default().with_responses(responses.collect()), ctx.api_version)
}

/// One resource of either request.
pub(super) struct Resource {
    pub resource_type: i8,
    pub name: StrBytes,
    pub operations: Vec<Operation>,
    /// AlterConfigs: overrides that are not named go away.
    pub replaces: bool,
}

pub(super) fn operation(name: &StrBytes, op: i8, value: &Option<StrBytes>) -> Operation {
    Operation { name: name.to_string(), op, value: value.as_ref().map(StrBytes::to_string) }
}

/// The error code and message of each resource. Those that are in order are committed together, planned where no other
/// change comes in between: two that append to one list both count.
pub(super) async fn alter(
    broker: &Broker,
    resources: &Arc<[Resource]>,
    validate_only: bool,
) -> Vec<(i16, Option<StrBytes>)> {
    let (config, planned) = (broker.config.clone(), resources.clone());
    let plan = move |image: &Image| {
        let (changes, outcomes) = plan_all(&config, image, &planned);
        (if validate_only { Vec::new() } else { changes }, outcomes)
    };
    let outcomes = match broker.metadata.alter_configs(plan).await {
        Ok(outcomes) => outcomes,
        Err(error) => vec![Err(error); resources.len()],
    };
    let to_wire = |outcome: Result<(), ApiError>| match outcome {
        Ok(()) => (0, None),
        Err(error) => (error.code.code(), Some(StrBytes::from(error.message))),
    };
    outcomes.into_iter().map(to_wire).collect()
}

fn plan_all(config: &Config, image: &Image, resources: &[Resource]) -> (Vec<ConfigChange>, Vec<Result<(), ApiError>>) {
    let repeated = repeated(resources);
    let mut changes = Vec::new();
    let outcomes = resources.iter().map(|resource| {
        if repeated.contains(&(resource.resource_type, resource.name.as_str())) {
            return Err(ApiError::new(ErrorCode::InvalidRequest, "Each resource must appear at most once."));
        }
        changes.extend(plan(config, image, resource)?);
        Ok(())
    });
    let outcomes = outcomes.collect();
    (changes, outcomes)
}

fn repeated(resources: &[Resource]) -> BTreeSet<(i8, &str)> {
    let mut seen = BTreeSet::new();
    let keys = resources.iter().map(|resource| (resource.resource_type, resource.name.as_str()));
    keys.filter(|&key| !seen.insert(key)).collect()
}

/// The records that a resource's operations come to.
fn plan(config: &Config, image: &Image, resource: &Resource) -> Result<Vec<ConfigChange>, ApiError> {
    let invalid = |message: String| Err(ApiError::new(ErrorCode::InvalidRequest, message));
    change::check_operations(&resource.operations)?;
    let name = resource.name.as_str();
    let none = BTreeMap::new();
    match resource.resource_type {
        TOPIC => plan_topic(image, resource),
        BROKER if !name.is_empty() && name.parse::<i32>().is_err() => {
            invalid(format!("Node id must be an integer, but it is: {name}"))
        }
        BROKER if !name.is_empty() && name != config.node_id.to_string() => {
            let node_id = config.node_id;
            invalid(format!("Unexpected broker id, expected {node_id}, but received {name}"))
        }
        BROKER => {
            let altered = change::alter_broker(base(image, resource, &none), &resource.operations, name.is_empty())?;
            Ok(difference(image, resource, &altered))
        }
        BROKER_LOGGER => invalid("Log levels cannot be changed while the broker runs.".to_owned()),
        CLIENT_METRICS => invalid("Client metrics subscriptions are not supported yet.".to_owned()),
        GROUP if name.is_empty() => invalid("Default group resources are not allowed.".to_owned()),
        GROUP => {
            let altered = config.alter_group(base(image, resource, &none), &resource.operations)?;
            Ok(difference(image, resource, &altered))
        }
        unknown => invalid(format!("Unknown resource type {unknown}")),
    }
}

fn plan_topic(image: &Image, resource: &Resource) -> Result<Vec<ConfigChange>, ApiError> {
    let name = resource.name.as_str();
    if name.is_empty() {
        return Err(ApiError::new(ErrorCode::InvalidRequest, "Default topic resources are not allowed."));
    }
    check_name(name)?;
    let none = BTreeMap::new();
    let altered = change::alter_topic(base(image, resource, &none), &resource.operations)?;
    if image.topic(name).is_none() {
        let message = format!("The topic '{name}' does not exist.");
        return Err(ApiError::new(ErrorCode::UnknownTopicOrPartition, message));
    }
    Ok(difference(image, resource, &altered))
}

/// What the operations start from.
fn base<'a>(image: &'a Image, resource: &Resource, none: &'a BTreeMap<String, String>) -> &'a BTreeMap<String, String> {
    let current = image.config_overrides(resource.resource_type, resource.name.as_str());
    current.filter(|_| !resource.replaces).unwrap_or(none)
}

fn difference(image: &Image, resource: &Resource, altered: &BTreeMap<String, String>) -> Vec<ConfigChange> {
    let none = BTreeMap::new();
    let current = image.config_overrides(resource.resource_type, resource.name.as_str()).unwrap_or(&none);
    let change = |(name, value)| ConfigChange {
        resource_type: resource.resource_type,
        resource_name: resource.name.to_string(),
        name,
        value,
    };
    change::difference(current, altered).into_iter().map(change).collect()
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
            let resource = Resource {
                resource_type: TOPIC,
                name: StrBytes::from_static_str(name),
                operations: Vec::new(),
                replaces: false,
            };
            plan(&config, &new_cluster(), &resource).unwrap_err().code
        };
        assert_eq!(code("no/topic"), ErrorCode::InvalidTopicException);
        assert_eq!(code("unknown"), ErrorCode::UnknownTopicOrPartition);
        assert_eq!(code(""), ErrorCode::InvalidRequest);
    }

    #[test]
    fn a_resource_that_comes_twice_is_found() {
        let resource = |resource_type, name| Resource {
            resource_type,
            name: StrBytes::from_static_str(name),
            operations: Vec::new(),
            replaces: false,
        };
        let resources = [resource(TOPIC, "a"), resource(TOPIC, "b"), resource(GROUP, "a"), resource(TOPIC, "a")];
        assert_eq!(repeated(&resources), BTreeSet::from([(TOPIC, "a")]));
    }
}
