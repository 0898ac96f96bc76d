//! Tables `epochs` and `epoch_bases`, and planning a document's next epoch. Derived.
//!
//! - `epochs`: `service/environment` → `EpochRow`: which epoch the document is in, how it began,
//!   and how many changes it has. Lifetime: the document's.
//! - `epoch_bases`: `service/environment` → `SavedDocument`: the document as its epoch began. What
//!   the next one is made from where changes came that its floor does not include. Lifetime: until
//!   the next epoch.
//!
//! Planning reads alone, beside the writer.

use std::sync::Arc;

use super::database::Database;
use super::error::StoreError;
use crate::config::roll::BaseHash;
use crate::model::{DocumentId, Stamp, Vector};

/// What a document's next epoch would be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Which epoch.
    pub epoch: u32,
    /// What its base comes to.
    pub base: BaseHash,
    /// How many changes there are in the epoch that would end.
    pub changes: u64,
    /// How many of them the floor does not include: each is made anew in the next one.
    pub late: u64,
}

/// Why a document is not rolled. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RollError {
    /// The floor holds changes that are not here.
    #[error("the floor includes changes that this node does not have")]
    Ahead,
    /// The floor leaves out what the epoch began with, or the record that began it.
    #[error("the floor does not include the roll before")]
    Behind,
    /// It is in another epoch than the one before.
    #[error("the document is in epoch {0}")]
    Epoch(u32),
    /// The same epoch was rolled to with other content.
    #[error("epoch {0} of the document began otherwise")]
    Other(u32),
    /// What is here does not come to the base that was agreed.
    #[error("the base of epoch {epoch} does not come to what was agreed")]
    Mismatch {
        /// Which epoch.
        epoch: u32,
    },
    /// The store failed.
    #[error(transparent)]
    Failed(#[from] StoreError),
}

/// Plans rolls, from what is committed.
#[derive(Clone)]
pub struct EpochReader(Arc<Database>);

impl EpochReader {
    pub(super) fn new(database: Arc<Database>) -> Self {
        Self(database)
    }

    /// What the document's next epoch would be, with its base at `floor` and without removals
    /// before `removals_before`. Costs as much as loading the document; where some of its changes
    /// are not in the floor, as reading all of the epoch's.
    pub fn plan_roll(
        &self,
        document: &DocumentId,
        floor: &Vector,
        removals_before: Stamp,
    ) -> Result<Plan, RollError> {
        let _ = (&self.0, document, floor, removals_before);
        Err(RollError::Failed(StoreError::Failed("not there yet".into())))
    }
}
