//! Pruning histories behind the writes: steps that only look, whose finds the next checkpoint removes
//! in its transaction. The log is not touched, and neither is what opening makes of it: rows that are
//! gone were behind the checkpoint's vector, which never goes back.

use std::sync::PoisonError;

use redb::ReadableDatabase as _;

use super::Writer;
use crate::config::Policies;
use crate::model::Stamp;
use crate::storage::error::StoreError;
use crate::storage::prune::{Pruned, STEP_ROWS_MAX};

impl Writer {
    /// Takes the next step of a pass over the histories, or the first of the next pass, by what
    /// `policies` keep at `now`; [`Writer::checkpoint`] then removes what it found.
    pub fn prune(&mut self, now: Stamp, policies: &Policies) -> Result<(), StoreError> {
        if !self.database.is_open() {
            return Ok(());
        }
        let written = self.tail.lock().unwrap_or_else(PoisonError::into_inner).len();
        // Twice as much as comes, at least: it keeps up, and costs a constant share of the writes.
        let rows_max = STEP_ROWS_MAX.max(2 * written);
        let database = self.database.get()?;
        let tx = database.begin_read()?;
        self.pruner.step(&tx, &self.state.documents, (policies, now), rows_max)
    }

    /// Whether a pass over the histories is under way.
    pub fn is_pruning(&self) -> bool {
        self.pruner.is_under_way() || self.pruner.has_due()
    }

    /// What passes over the histories have come to.
    pub(super) fn pruned(&self) -> Pruned {
        self.pruner.counts(self.state.rows)
    }
}
