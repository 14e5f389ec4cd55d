//! ApiVersions (key 18), versions 0-4.

use bytes::Bytes;
use kafka_protocol::messages::api_versions_response::{ApiVersion, FinalizedFeatureKey, SupportedFeatureKey};
use kafka_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};
use kafka_protocol::protocol::StrBytes;

use super::{Api, Reply, RequestContext, TABLE, decode, find};
use crate::error::ErrorCode;

pub const KEY: i16 = 18;
const PRODUCE: i16 = 0;

/// The features whose levels this broker honours: name, lowest, highest. Only these are advertised, so that clients
/// keep to the classic ways for what is not served yet.
const SUPPORTED_FEATURES: &[(&str, i16, i16)] = &[("metadata.version", 7, 30), ("transaction.version", 0, 2)];

pub async fn handle(ctx: RequestContext, mut body: Bytes) -> Reply {
    let version = ctx.api_version;
    if !is_served(version) {
        return Reply::encode(&unsupported_version(), 0);
    }
    let request: ApiVersionsRequest = match decode(&mut body, version) {
        Ok(request) => request,
        Err(close) => return close,
    };
    let software = [&request.client_software_name, &request.client_software_version];
    if version >= 3 && !software.into_iter().all(|text| is_software_name(text)) {
        let refusal = ApiVersionsResponse::default().with_error_code(ErrorCode::InvalidRequest.code());
        return Reply::encode(&refusal, version);
    }
    let image = ctx.broker.metadata.image();
    // Features change only where this broker's registration came after: its offset tells clients which answer is newer.
    Reply::encode(&supported(version, image.features(), ctx.broker.metadata.broker_epoch()), version)
}

fn is_served(version: i16) -> bool {
    find(KEY).is_some_and(|api| (api.min_version..=api.max_version).contains(&version))
}

/// In the layout of version 0, with the versions of this very API, from which the client picks its next try (KIP-511).
fn unsupported_version() -> ApiVersionsResponse {
    ApiVersionsResponse::default()
        .with_error_code(ErrorCode::UnsupportedVersion.code())
        .with_api_keys(find(KEY).map(advertised).into_iter().collect())
}

/// What the table serves. `finalized`: the features that the cluster has switched on, as of `epoch`.
fn supported<'a>(version: i16, finalized: impl Iterator<Item = (&'a str, i16)>, epoch: i64) -> ApiVersionsResponse {
    let response = ApiVersionsResponse::default().with_api_keys(TABLE.iter().map(advertised).collect());
    if version < 3 {
        return response;
    }
    // Version 3 cannot carry a feature whose lowest level is 0: some clients refuse it.
    let features = SUPPORTED_FEATURES.iter().filter(|(_, min, _)| version >= 4 || *min > 0);
    let features = features.map(|&(name, min, max)| {
        SupportedFeatureKey::default()
            .with_name(StrBytes::from_static_str(name))
            .with_min_version(min)
            .with_max_version(max)
    });
    let finalized = finalized.filter(|(name, _)| SUPPORTED_FEATURES.iter().any(|(known, ..)| known == name));
    let finalized = finalized.map(|(name, level)| {
        FinalizedFeatureKey::default()
            .with_name(StrBytes::from_string(name.to_owned()))
            .with_min_version_level(level)
            .with_max_version_level(level)
    });
    response
        .with_supported_features(features.collect())
        .with_finalized_features(finalized.collect())
        .with_finalized_features_epoch(epoch)
}

/// Produce is advertised from 0, though 0-2 are refused: librdkafka otherwise takes the broker for one that cannot
/// decompress (KIP-896).
fn advertised(api: &Api) -> ApiVersion {
    let min_version = if api.key == PRODUCE { 0 } else { api.min_version };
    ApiVersion::default().with_api_key(api.key).with_min_version(min_version).with_max_version(api.max_version)
}

/// Kafka's pattern: letters, digits, and inside also '-' and '.'.
fn is_software_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    let ends_well = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    ends_well(bytes.first())
        && ends_well(bytes.last())
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FINALIZED: [(&str, i16); 2] = [("group.version", 1), ("metadata.version", 30)];

    #[test]
    fn lists_exactly_the_table() {
        let response = supported(4, FINALIZED.into_iter(), 71);
        assert_eq!(response.error_code, 0);
        let keys: Vec<i16> = response.api_keys.iter().map(|k| k.api_key).collect();
        assert_eq!(keys, TABLE.iter().map(|api| api.key).collect::<Vec<_>>());
        assert_eq!((response.api_keys[0].min_version, response.api_keys[0].max_version), (0, 13));
    }

    #[test]
    fn features_begin_with_version_3_and_name_only_what_is_served() {
        assert_eq!(supported(2, FINALIZED.into_iter(), 71).finalized_features_epoch, -1);
        let response = supported(3, FINALIZED.into_iter(), 71);
        let names: Vec<&str> = response.finalized_features.iter().map(|f| &*f.name).collect();
        assert_eq!(names, ["metadata.version"]);
        assert_eq!(response.finalized_features_epoch, 71);
        assert!(response.supported_features.iter().all(|f| f.min_version > 0));
        assert!(!response.zk_migration_ready);
    }

    #[test]
    fn an_unknown_version_is_told_the_known_ones_in_the_first_layout() {
        assert!(!is_served(5) && !is_served(-1) && is_served(0) && is_served(4));
        let Reply::Body(body) = Reply::encode(&unsupported_version(), 0) else { panic!("no body") };
        let [super::super::Part::Bytes(bytes)] = &body.parts[..] else { panic!("one part") };
        // What Apache Kafka 4.3.1 answers, byte for byte.
        assert_eq!(&bytes[..], [0, 35, 0, 0, 0, 1, 0, 18, 0, 0, 0, 4]);
    }

    #[test]
    fn software_names_follow_kip_511() {
        for good in ["apache-kafka-java", "4.3.1", "a", "x.y-z9"] {
            assert!(is_software_name(good), "{good}");
        }
        for bad in ["", "-a", "a-", "a b", "a_b", ".", "naïve"] {
            assert!(!is_software_name(bad), "{bad}");
        }
    }
}
