//! Changes to the levels of features, as Kafka's controller decides about them. Pure functions of the image.

use super::image::{Image, METADATA_VERSION};
use super::records::Record;
use super::registration::FEATURES;
use crate::error::{ApiError, ErrorCode};

/// To raise a level is another thing than to lower it: one must say which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Upgrade,
    Downgrade,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeatureUpdate {
    pub name: String,
    pub level: i16,
    pub direction: Direction,
}

/// All of them, or none.
pub fn update(image: &Image, updates: &[FeatureUpdate]) -> Result<Vec<Record>, ApiError> {
    let mut records = Vec::new();
    for FeatureUpdate { name, level, direction } in updates {
        let refuse = |reason: &str| {
            let message = format!("Invalid update version {level} for feature {name}. {reason}");
            Err(ApiError::new(ErrorCode::InvalidUpdateVersion, message))
        };
        let controller = image.controller_id();
        let Some((_, min, max, _)) = FEATURES.iter().find(|(known, ..)| known == name) else {
            return refuse(&format!("Local controller {controller} does not support this feature."));
        };
        let current = image.feature_level(name);
        match *level {
            ..0 => return refuse("A feature version cannot be less than 0."),
            // Zero takes the feature out of use.
            level if level != 0 && !(*min..=*max).contains(&level) => {
                return refuse(&format!("Local controller {controller} only supports versions {min}-{max}"));
            }
            level if level < current && *direction == Direction::Upgrade => {
                return refuse(
                    "Can't downgrade the version of this feature without setting the upgrade type to either safe or \
                     unsafe downgrade.",
                );
            }
            level if level > current && *direction == Direction::Downgrade => {
                return refuse("Can't downgrade to a newer version.");
            }
            // What newer records say would be lost.
            level if level < current && name == METADATA_VERSION => {
                return refuse(
                    "Refusing to perform the requested downgrade because it might delete metadata information.",
                );
            }
            level if level == current => {}
            level => records.push(Record::FeatureLevel { name: name.clone(), level }),
        }
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::super::tests::new_cluster;
    use super::*;

    #[test]
    fn levels_go_up_and_down_within_what_is_supported_and_only_as_said() {
        use Direction::{Downgrade, Upgrade};
        let image = new_cluster();
        let one = |name: &str, level, direction| {
            update(&image, &[FeatureUpdate { name: name.to_owned(), level, direction }]).map_err(|error| error.code)
        };
        let refused = Err(ErrorCode::InvalidUpdateVersion);
        let level = |level| Ok(vec![Record::FeatureLevel { name: "transaction.version".to_owned(), level }]);
        assert_eq!(one("transaction.version", 1, Downgrade), level(1));
        assert_eq!(one("transaction.version", 0, Downgrade), level(0));
        assert_eq!(one("transaction.version", 2, Upgrade), Ok(vec![]), "it is that already");
        for (name, level, direction) in [
            ("transaction.version", 1, Upgrade),
            ("transaction.version", 3, Upgrade),
            ("transaction.version", -1, Downgrade),
            ("metadata.version", 29, Downgrade),
            ("kraft.version", 1, Upgrade),
        ] {
            assert_eq!(one(name, level, direction), refused, "{name} {level}");
        }
        let both = [
            FeatureUpdate { name: "transaction.version".to_owned(), level: 1, direction: Downgrade },
            FeatureUpdate { name: "nothing".to_owned(), level: 1, direction: Upgrade },
        ];
        assert!(update(&image, &both).is_err());
    }
}
