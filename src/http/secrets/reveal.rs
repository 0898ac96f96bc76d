//! Opening values. Nothing is given out before it is on the audit chain, on disk: not a value, and
//! not that one does not open.

use std::sync::Arc;

use crate::access::{SecretAction, SecretPermit};
use crate::audit::{Decision, Event};
use crate::http::App;
use crate::http::edge::Incoming;
use crate::http::error::ApiError;
use crate::registry::State;
use crate::secrets::{OpenError, Place, Plaintext, SealedVersion, Secret, seal};

/// One version that is to be opened, and the leave to.
pub(crate) struct Wanted<'a> {
    pub(crate) permit: SecretPermit,
    pub(crate) secret: &'a Arc<Secret>,
    pub(crate) version: u32,
    pub(crate) sealed: &'a Arc<SealedVersion>,
}

/// Opens these versions, records it, and gives the values out: all of them or none.
pub(crate) async fn reveal(
    app: &App,
    incoming: &Incoming,
    state: &State,
    wanted: &[Wanted<'_>],
) -> Result<Vec<Plaintext>, ApiError> {
    let mut values = Vec::with_capacity(wanted.len());
    let mut events = Vec::with_capacity(wanted.len());
    let mut failed = None;
    for one in wanted {
        let (name, version) = (&one.secret.name, one.version);
        // A permit for something else is a fault of the caller's code, not of the request.
        if one.permit.action() != SecretAction::Reveal || one.permit.name() != name {
            tracing::error!(%name, "a secret was to be revealed with another one's permit");
            return Err(ApiError::StorageFailed);
        }
        let outcome = match open(app, state, one) {
            Ok(value) => {
                values.push(value);
                "done".to_owned()
            }
            Err(error) => {
                let damaged = ApiError::SecretDamaged { name: name.clone(), version };
                let error = match error {
                    OpenError::Key(error) => ApiError::KeyUnavailable(error),
                    OpenError::Damaged => damaged,
                };
                tracing::error!(%name, version, %error, "a secret does not open");
                let outcome = format!("failed: {error}");
                failed.get_or_insert(error);
                outcome
            }
        };
        events.push(Event {
            at: app.0.env.clock.now(),
            principal: one.permit.principal().clone(),
            action: "secret.reveal".into(),
            target: format!("{name}@{version}").as_str().into(),
            decision: Decision::Allowed(one.permit.grant().clone()),
            outcome: outcome.as_str().into(),
            source: incoming.source(app),
            count: 1,
            index: None,
        });
    }
    if failed.is_some() {
        for event in events.iter_mut().filter(|event| &*event.outcome == "done") {
            event.outcome = "failed: another one of the request does not open".into();
        }
    }
    app.quorum().record(events).await?;
    failed.map_or(Ok(values), Err)
}

fn open(app: &App, state: &State, one: &Wanted<'_>) -> Result<Plaintext, OpenError> {
    let kek = app.node().keyring().of(&state.generations, one.sealed.generation)?;
    let place = Place {
        cluster: app.node().cluster_id(),
        id: one.secret.id,
        name: &one.secret.name,
        version: one.version,
    };
    seal::open(kek, &place, one.sealed)
}
