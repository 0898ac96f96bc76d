//! Epochs of documents: that one begins in one way. What a base holds, and that the floor is what
//! every member has, is for whoever proposes to know: nothing here sees a configuration.

use std::sync::Arc;

use super::{Work, invalid, limit};
use crate::model::DocumentId;
use crate::registry::command::{EpochRoll, Outcome, Refusal};
use crate::registry::limits::{EPOCHS_MAX, FLOOR_ORIGINS_MAX};
use crate::registry::rows::Which;

impl Work {
    /// Any epoch above the one that was decided last: where this state was put back from an old
    /// copy, the documents are ahead of what it remembers.
    pub(super) fn roll_epoch(
        &mut self,
        document: &DocumentId,
        roll: &EpochRoll,
    ) -> Result<Outcome, Refusal> {
        let known = self.state.epochs.get(document);
        if known.is_some_and(|known| **known == *roll) {
            return Ok(Outcome::Done);
        }
        let current = known.map_or(0, |known| known.epoch);
        if roll.epoch <= current {
            return Err(Refusal::Mismatch(u64::from(current)));
        }
        limit(roll.floor.len(), FLOOR_ORIGINS_MAX, "origins in the floor of an epoch")?;
        if roll.floor.is_empty() {
            return Err(invalid("an epoch whose floor includes nothing would begin empty"));
        }
        if known.is_some_and(|known| !roll.floor.may_cover(&known.floor)) {
            return Err(invalid("the floor of an epoch does not include that of the one before"));
        }
        if let Some(fold) = &roll.fold {
            if fold.generation <= self.state.folded {
                return Err(Refusal::Mismatch(self.state.folded));
            }
            if roll.floor.generation() + 1 != fold.generation {
                return Err(invalid("a fold whose floor does not include the one before it"));
            }
            if !fold.rows().iter().all(|row| roll.floor.names(row.dot)) {
                return Err(invalid("a fold of changes that its floor does not include"));
            }
        }
        let epochs = self.state.epochs.len() + usize::from(known.is_none());
        limit(epochs, EPOCHS_MAX, "documents that are past their first epoch")?;
        self.state.epochs.insert(document.clone(), Arc::new(roll.clone()));
        self.changed.push(Which::Epoch(document.clone()));
        if let Some(fold) = &roll.fold {
            self.state.folded = fold.generation;
            self.changed.push(Which::Folded);
        }
        Ok(Outcome::Done)
    }
}
