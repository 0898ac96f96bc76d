//! Whether who watches still may: a watch outlives the decision that it began with, so the decision
//! is taken again whenever the rules change. One that comes out otherwise ends the watch; a client
//! that may still see something resumes by itself, and is shown what it may see now.

use std::sync::Arc;

use crate::access::{Caller, ReadPermit, Rules, decide};
use crate::quorum::Quorum;

/// The leave to watch one document.
pub(super) struct Leave {
    permit: ReadPermit,
    caller: Arc<Caller>,
    quorum: Quorum,
    applied: tokio::sync::watch::Receiver<u64>,
    /// The rules by which it was given.
    rules: Rules,
}

impl Leave {
    /// What `permit` gave by `rules`, for as long as the quorum's rules give the same.
    pub(super) fn new(
        permit: ReadPermit,
        caller: Arc<Caller>,
        quorum: Quorum,
        rules: Rules,
    ) -> Self {
        let applied = quorum.applied();
        Self { permit, caller, quorum, applied, rules }
    }

    /// What may be seen.
    pub(super) fn permit(&self) -> &ReadPermit {
        &self.permit
    }

    /// Returns when it does not hold any more. Loses nothing when it is dropped.
    pub(super) async fn lost(&mut self) {
        while self.holds() {
            if self.applied.changed().await.is_err() {
                return;
            }
        }
    }

    /// Whether it holds by the rules that are applied now.
    pub(super) fn holds(&mut self) -> bool {
        let state = self.quorum.glance();
        let (now, then) = (&state.rules, &self.rules);
        if now.accounts.ptr_eq(&then.accounts) && now.roles.ptr_eq(&then.roles) {
            return true;
        }
        let permit = decide::read_document(&self.caller, now, self.permit.document());
        let is_same = decide::is_known(&self.caller, now)
            && permit.is_ok_and(|permit| permit.is_for_the_same_as(&self.permit));
        if is_same {
            self.rules = now.clone();
        }
        is_same
    }
}
