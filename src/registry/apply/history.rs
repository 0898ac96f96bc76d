//! How much of histories is kept.

use super::{Work, invalid, limit, not_found};
use crate::config::HistoryPolicy;
use crate::model::Environment;
use crate::registry::command::{Outcome, Refusal};
use crate::registry::limits::HISTORY_POLICIES_MAX;
use crate::registry::rows::Which;

impl Work {
    pub(super) fn set_history_policy(
        &mut self,
        environment: Option<&Environment>,
        policy: Option<HistoryPolicy>,
    ) -> Result<Outcome, Refusal> {
        let place = environment.cloned();
        let set = &mut self.state.history.set;
        match policy {
            Some(policy) if !policy.is_sound() => {
                return Err(invalid("a history policy is out of bounds"));
            }
            Some(policy) => {
                set.insert(place.clone(), policy);
                limit(set.len(), HISTORY_POLICIES_MAX, "history policies")?;
            }
            None if set.remove(&place).is_none() => {
                let of = environment.map_or("all environments".to_owned(), ToString::to_string);
                return Err(not_found(format!("a history policy of {of}")));
            }
            None => {}
        }
        self.changed.push(Which::HistoryPolicy(place));
        Ok(Outcome::Done)
    }
}
