//! Lengths of time as people write them: `250ms`, `30s`, `1m 30s`. Years and months are no lengths
//! of time, and a bare number has no unit: both are refused.

use std::time::Duration;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

/// Reads a length of time; never negative.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let expected = "a length of time such as 250ms, 30s or 1m 30s";
    let length: jiff::SignedDuration =
        text.trim().parse().map_err(|_| format!("{text:?} is not {expected}"))?;
    Duration::try_from(length).map_err(|_| format!("{text:?} is below 0"))
}

/// For `#[serde(deserialize_with = …)]`.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Duration, D::Error> {
    let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
    parse(&text).map_err(D::Error::custom)
}

/// The same for a length of time that need not be there.
pub(crate) fn optional<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Duration>, D::Error> {
    deserialize(d).map(Some)
}
