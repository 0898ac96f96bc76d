//! Features: what a program can do beyond what every program of its protocol can. A node announces
//! its own with its hello, so that something new can be begun once all members know it. What two
//! nodes say to each other needs no feature where the older one passes over it; a feature is for what
//! an older one would do wrong.
//!
//! Nothing here decides when something begins: see [`crate::members::Members::every_member_has`].

use std::collections::BTreeSet;
use std::fmt;

use super::cbor;

/// Most features that a hello may name; what is beyond them is passed over.
const FEATURES_MAX: usize = 256;

/// Something that a program can do. To add one: a variant, its name, its place in [`Feature::ALL`].
/// Names are never used again for something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Feature {
    /// It says with its heartbeats whether a balancer may send requests to it. Of who does not, all
    /// that can be known is whether it is heard.
    Readiness,
    /// It takes documents that are past their first epoch.
    Epochs,
    /// It can read a policy of histories that the quorum decided.
    HistoryPolicy,
    /// It takes rolls that fold origins, and vectors that do not name these.
    Folds,
}

impl Feature {
    /// All that this program can do.
    pub const ALL: [Self; 4] = [Self::Readiness, Self::Epochs, Self::HistoryPolicy, Self::Folds];

    /// Its name between nodes.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Readiness => "readiness",
            Self::Epochs => "epochs",
            Self::HistoryPolicy => "history-policy",
            Self::Folds => "folds",
        }
    }

    /// The feature of that name, where this program knows it.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|feature| feature.name() == name)
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What one node can do. Between nodes an array of names, of which those are passed over that this
/// program does not know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Features(BTreeSet<Feature>);

impl Features {
    /// Those of this program.
    pub fn all() -> Self {
        Feature::ALL.into_iter().collect()
    }

    /// Those of a program that announces none.
    pub fn none() -> Self {
        Self::default()
    }

    /// Whether this is among them.
    pub fn has(&self, feature: Feature) -> bool {
        self.0.contains(&feature)
    }

    /// Each of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = Feature> + '_ {
        self.0.iter().copied()
    }
}

impl FromIterator<Feature> for Features {
    fn from_iter<T: IntoIterator<Item = Feature>>(features: T) -> Self {
        Self(features.into_iter().collect())
    }
}

impl<C> minicbor::Encode<C> for Features {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        cbor::write_list(e, self.0.iter(), |e, feature| e.str(feature.name())?.ok())
    }
}

impl<'b, C> minicbor::Decode<'b, C> for Features {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        let said = cbor::read_list(d, usize::MAX, |d| d.str().map(Feature::of_name))?;
        Ok(said.into_iter().take(FEATURES_MAX).flatten().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::cbor::{decode, encode};

    #[test]
    fn features_read_back_as_written_and_each_has_a_name_of_its_own() {
        for features in [Features::none(), Features::all()] {
            assert_eq!(decode::<Features>(&encode(&features)).unwrap(), features);
        }
        let names: BTreeSet<&str> = Feature::ALL.iter().map(|feature| feature.name()).collect();
        assert_eq!(names.len(), Feature::ALL.len());
    }

    #[test]
    fn features_that_this_program_does_not_know_are_passed_over() {
        let said = ["time-travel", Feature::Readiness.name(), ""].map(str::to_owned);
        let features: Features = decode(&encode(&said)).unwrap();
        assert_eq!(features, [Feature::Readiness].into_iter().collect());
        let many: Vec<String> = (0..1_000).map(|n| n.to_string()).collect();
        assert_eq!(decode::<Features>(&encode(&many)).unwrap(), Features::none());
        assert!(decode::<Features>(&encode(&1u8)).is_err());
    }
}
