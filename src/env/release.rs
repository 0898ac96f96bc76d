//! Which release of the program a node shows itself as. The program is always this one: another
//! release is for simulations, where a cluster of two versions has to be one process. It covers what
//! nodes say to each other, not what is on a disk; the latter takes a real build of that release.

use crate::model::Features;

/// A release.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Release {
    /// This one.
    #[default]
    Current,
    /// The one before. It speaks the same protocol, knows of no features, does not say whether it is
    /// ready nor how its clients reach it, and passes over all that.
    Previous,
}

impl Release {
    /// What its program announces.
    pub fn features(self) -> Features {
        match self {
            Self::Current => Features::all(),
            Self::Previous => Features::none(),
        }
    }

    /// What it knows of something that came with this release: nothing, where it is an earlier one.
    pub(crate) fn knows<T>(self, value: Option<T>) -> Option<T> {
        value.filter(|_| self == Self::Current)
    }
}
