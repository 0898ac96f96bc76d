//! Which secret a path names: by its id, or by its name.

use std::sync::Arc;

use axum::http::HeaderValue;

use crate::access::{Caller, SecretAction, decide};
use crate::http::error::ApiError;
use crate::http::paths;
use crate::model::{Id, SecretName};
use crate::registry::State;
use crate::secrets::Secret;

/// Answers that show a value, or could, are kept by nobody on the way.
pub(crate) const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// What a path says.
pub(super) struct Which {
    id: Option<Id>,
    name: SecretName,
}

impl Which {
    pub(super) fn of(path: &str) -> Result<Self, ApiError> {
        // Every id is a name, too, as far as its characters go.
        let text = paths::secret(path)?;
        Ok(Self { id: Id::parse(&text), name: SecretName::new(&text)? })
    }

    /// The secret. Whoever may not do this with any secret does not learn what there is not.
    pub(super) fn find<'a>(
        &self,
        state: &'a State,
        caller: &Caller,
        action: SecretAction,
    ) -> Result<&'a Arc<Secret>, ApiError> {
        let by_id = self.id.and_then(|id| state.secrets.get(&id));
        let by_name = || state.secrets.get(state.secret_ids.get(&self.name)?);
        if let Some(secret) = by_id.or_else(by_name) {
            return Ok(secret);
        }
        let by_name = decide::secret(caller, &state.rules, action, &self.name);
        if self.id.is_some() && by_name.is_err() {
            decide::some_secret(caller, &state.rules, action)?;
        } else {
            by_name?;
        }
        Err(self.not_there())
    }

    /// The id that it names; where it names none, one that nothing has.
    pub(super) fn id_or_none(&self) -> Id {
        self.id.unwrap_or(Id::from_u128(0))
    }

    pub(super) fn not_there(&self) -> ApiError {
        ApiError::NotFound { what: format!("the secret {}", self.name), gone: None }
    }
}
