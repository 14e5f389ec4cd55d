//! ListConfigResources (key 74), versions 0-1: what has settings, or could have. Owner: metadata.

use bytes::Bytes;
use kafka_protocol::messages::list_config_resources_response::ConfigResource;
use kafka_protocol::messages::{ListConfigResourcesRequest, ListConfigResourcesResponse};
use kafka_protocol::protocol::StrBytes;

use super::describe_configs::{BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP, TOPIC};
use super::{Reply, RequestContext, decode};
use crate::error::ErrorCode;
use crate::metadata::Image;

/// From this version on a request says of which types; before, there was one.
const FIRST_VERSION_WITH_TYPES: i16 = 1;

const TYPES: [i8; 5] = [GROUP, CLIENT_METRICS, BROKER_LOGGER, BROKER, TOPIC];

pub async fn handle(ctx: RequestContext, mut body: Bytes) -> Reply {
    let version = ctx.api_version;
    let request: ListConfigResourcesRequest = match decode(&mut body, version) {
        Ok(request) => request,
        Err(reply) => return reply,
    };
    Reply::encode(&answer(&ctx.broker.metadata.image(), &request.resource_types, version), version)
}

/// `types`: none for all that the version knows.
fn answer(image: &Image, types: &[i8], version: i16) -> ListConfigResourcesResponse {
    let known = if version >= FIRST_VERSION_WITH_TYPES { &TYPES[..] } else { &[CLIENT_METRICS] };
    if types.iter().any(|asked| !known.contains(asked)) {
        return ListConfigResourcesResponse::default().with_error_code(ErrorCode::UnsupportedVersion.code());
    }
    let mut resources = Vec::new();
    for kind in known.iter().copied().filter(|kind| types.is_empty() || types.contains(kind)) {
        let resource = |name: &str| {
            let name = StrBytes::from_string(name.to_owned());
            ConfigResource::default().with_resource_name(name).with_resource_type(kind)
        };
        match kind {
            TOPIC => resources.extend(image.topics().map(|topic| resource(&topic.name))),
            BROKER | BROKER_LOGGER => {
                let active = image.brokers().filter(|broker| !broker.fenced);
                resources.extend(active.map(|broker| resource(&broker.id.to_string())));
            }
            // These are there because they have settings.
            _ => resources.extend(image.config_resources(kind).map(resource)),
        }
    }
    ListConfigResourcesResponse::default().with_config_resources(resources)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::tests::encodes_at;
    use super::*;
    use crate::metadata::tests::{add_topics, new_cluster, with_config};

    fn listed(image: &Image, types: &[i8], version: i16) -> BTreeMap<i8, Vec<String>> {
        let response = answer(image, types, version);
        assert_eq!(response.error_code, 0);
        encodes_at(&response, version);
        let mut listed = BTreeMap::<i8, Vec<String>>::new();
        for resource in response.config_resources {
            listed.entry(resource.resource_type).or_default().push(resource.resource_name.to_string());
        }
        listed
    }

    #[test]
    fn topics_and_brokers_are_there_and_groups_if_they_have_settings() {
        let image = add_topics(&new_cluster(), &[("a", 1), ("b", 1)]);
        let image = with_config(&image, GROUP, "g", "consumer.session.timeout.ms", "50000");
        let image = with_config(&image, CLIENT_METRICS, "m", "interval.ms", "1000");
        let all = listed(&image, &[], 1);
        assert_eq!(all[&TOPIC], ["a", "b"]);
        assert_eq!((&all[&GROUP][..], &all[&CLIENT_METRICS][..]), (&["g".to_owned()][..], &["m".to_owned()][..]));
        assert_eq!((all[&BROKER].len(), &all[&BROKER]), (1, &all[&BROKER_LOGGER]));
        assert_eq!(listed(&image, &[TOPIC, GROUP], 1).into_keys().collect::<Vec<_>>(), [TOPIC, GROUP]);
        assert_eq!(listed(&image, &[], 0).into_keys().collect::<Vec<_>>(), [CLIENT_METRICS], "the first version");
    }

    #[test]
    fn other_types_are_refused() {
        let refused = answer(&new_cluster(), &[TOPIC, 3], 1);
        assert_eq!((refused.error_code, refused.config_resources.len()), (ErrorCode::UnsupportedVersion.code(), 0));
    }
}
