//! UpdateFeatures (key 57), versions 0-2. Owner: the metadata.

use bytes::Bytes;
use kafka_protocol::messages::update_features_request::FeatureUpdateKey;
use kafka_protocol::messages::update_features_response::UpdatableFeatureResult;
use kafka_protocol::messages::{UpdateFeaturesRequest, UpdateFeaturesResponse};

use super::{Reply, RequestContext, decode, error_message};
use crate::error::{ApiError, ErrorCode};
use crate::metadata::features::{Direction, FeatureUpdate};

const UPGRADE: i8 = 1;
const SAFE_DOWNGRADE: i8 = 2;
const UNSAFE_DOWNGRADE: i8 = 3;
/// Before it, each feature has an answer, which is the same for all.
const FIRST_VERSION_WITHOUT_RESULTS: i16 = 2;

pub async fn handle(ctx: RequestContext, mut body: Bytes) -> Reply {
    let version = ctx.api_version;
    let request: UpdateFeaturesRequest = match decode(&mut body, version) {
        Ok(request) => request,
        Err(reply) => return reply,
    };
    let updates = request.feature_updates.iter().map(|key| update(key, version)).collect::<Result<Vec<_>, _>>();
    let result = match updates {
        Ok(updates) => ctx.broker.metadata.update_features(updates, request.validate_only).await,
        Err(error) => Err(error),
    };
    Reply::encode(&answer(&request.feature_updates, result.err().as_ref(), version), version)
}

fn update(key: &FeatureUpdateKey, version: i16) -> Result<FeatureUpdate, ApiError> {
    let kind = match (version, key.allow_downgrade) {
        (0, true) => SAFE_DOWNGRADE,
        (0, false) => UPGRADE,
        _ => key.upgrade_type,
    };
    let direction = match kind {
        UPGRADE => Direction::Upgrade,
        SAFE_DOWNGRADE | UNSAFE_DOWNGRADE => Direction::Downgrade,
        _ => {
            let text = "The controller does not support the given upgrade type.";
            return Err(ApiError::new(ErrorCode::InvalidUpdateVersion, text));
        }
    };
    Ok(FeatureUpdate { name: key.feature.to_string(), level: key.max_version_level, direction })
}

fn answer(updates: &[FeatureUpdateKey], error: Option<&ApiError>, version: i16) -> UpdateFeaturesResponse {
    let code = error.map_or(0, |error| error.code.code());
    let message = error.and_then(error_message);
    let response = UpdateFeaturesResponse::default().with_error_code(code).with_error_message(message.clone());
    if version >= FIRST_VERSION_WITHOUT_RESULTS {
        return response;
    }
    let results = updates.iter().map(|update| {
        UpdatableFeatureResult::default()
            .with_feature(update.feature.clone())
            .with_error_code(code)
            .with_error_message(message.clone())
    });
    response.with_results(results.collect())
}

#[cfg(test)]
mod tests {
    use kafka_protocol::protocol::StrBytes;

    use super::super::tests::encodes_at;
    use super::*;

    #[test]
    fn every_version_can_carry_the_answer() {
        let updates = [FeatureUpdateKey::default().with_feature(StrBytes::from_static_str("transaction.version"))];
        let error = ApiError::new(ErrorCode::InvalidUpdateVersion, "no");
        for version in 0..=2 {
            encodes_at(&answer(&updates, None, version), version);
            encodes_at(&answer(&updates, Some(&error), version), version);
            assert_eq!(answer(&updates, None, version).results.len(), usize::from(version < 2));
        }
    }

    #[test]
    fn the_first_version_may_only_allow_a_downgrade() {
        let key = FeatureUpdateKey::default().with_upgrade_type(0);
        assert_eq!(update(&key, 0).unwrap().direction, Direction::Upgrade);
        assert_eq!(update(&key.clone().with_allow_downgrade(true), 0).unwrap().direction, Direction::Downgrade);
        assert_eq!(update(&key, 1).map_err(|error| error.code), Err(ErrorCode::InvalidUpdateVersion));
        assert_eq!(update(&key.with_upgrade_type(3), 1).unwrap().direction, Direction::Downgrade);
    }
}
