//! Whether a proposal's caller may: the same decision that was taken where the request came in,
//! by the rules at this index.

use crate::access::{Caller, ClusterAction, Denied, SecretAction, decide};
use crate::model::Text;
use crate::registry::command::{Command, Proposal};
use crate::registry::state::State;

/// Why it may not.
pub(super) struct Refused {
    /// Whether it is somebody at all: known, with a token that holds.
    pub(super) stands: bool,
    pub(super) denied: Denied,
}

/// The grant that allows the proposal.
pub(super) fn leave(state: &State, proposal: &Proposal) -> Result<Text, Refused> {
    let Some(caller) = &proposal.caller else {
        return match &proposal.command {
            Command::Found(_)
            | Command::AddSigningKey(_)
            | Command::RetireSigningKey(_)
            | Command::RollEpoch { .. } => Ok("the cluster itself".into()),
            _ => {
                let why = "nobody may do this without a token".to_owned();
                Err(Refused { stands: false, denied: Denied { why } })
            }
        };
    };
    decide::stands_at(caller, &state.rules, proposal.at)
        .map_err(|denied| Refused { stands: false, denied })?;
    grant(state, caller, &proposal.command).map_err(|denied| Refused { stands: true, denied })
}

fn grant(state: &State, caller: &Caller, command: &Command) -> Result<Text, Denied> {
    let rules = &state.rules;
    let cluster = |action| Ok(decide::cluster(caller, rules, action)?.grant().clone());
    match command {
        Command::Found(_) => Err(Denied {
            why: "the caller may not found a cluster: its first node does".to_owned(),
        }),
        Command::CreateAccount { .. }
        | Command::UpdateAccount { .. }
        | Command::DeleteAccount { .. }
        | Command::AddCredential { .. }
        | Command::RevokeCredential { .. }
        | Command::CreateRole { .. }
        | Command::UpdateRole { .. }
        | Command::DeleteRole { .. }
        | Command::Bind { .. }
        | Command::Unbind { .. } => cluster(ClusterAction::ManageAccess),
        Command::PutSecret { name, .. } => {
            Ok(decide::secret(caller, rules, SecretAction::Write, name)?.grant().clone())
        }
        Command::DeleteSecret { id, .. } => match state.secrets.get(id) {
            Some(secret) => {
                let permit = decide::secret(caller, rules, SecretAction::Delete, &secret.name)?;
                Ok(permit.grant().clone())
            }
            // Whoever may delete nothing does not learn what there is not, either.
            None => decide::some_secret(caller, rules, SecretAction::Delete),
        },
        Command::AddGeneration(_)
        | Command::Rewrap(_)
        | Command::RetireGeneration(_)
        | Command::AddSigningKey(_)
        | Command::RetireSigningKey(_)
        | Command::SetHistoryPolicy(..)
        | Command::RollEpoch { .. } => cluster(ClusterAction::ManageCluster),
    }
}
