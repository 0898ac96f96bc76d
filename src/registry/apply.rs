//! How a proposal changes the state. Every node does this with every entry of the log and has to
//! come to the same: what it depends on is the state and the proposal, and nothing else.
//!
//! The caller's leave is asked for once more, by the rules at this index: whoever took the request
//! may have known older ones.

mod account;
mod epoch;
mod founding;
mod history;
mod keys;
mod leave;
mod role;
mod secret;

use super::command::{Command, Expect, Idempotency, Outcome, Proposal, Refusal};
use super::limits::REMEMBERED_MAX;
use super::rows::Which;
use super::state::{Applied, Remembered, State};
use crate::access::Rules;
use crate::audit::{Decision, Event};
use crate::model::{Id, Stamp, Text};
use crate::planted::{Bug, is_planted};

/// A proposal being carried out: the state as it will be if nothing is refused, and which things
/// are other than before.
struct Work {
    state: State,
    index: u64,
    at: Stamp,
    changed: Vec<Which>,
}

impl State {
    /// Applies the entry at `index` of the log.
    pub fn apply(&mut self, index: u64, proposal: &Proposal) -> Applied {
        self.index = index;
        let leave = leave::leave(self, proposal);
        let known = proposal.idempotency.and_then(|it| Some((it, self.recall(&it.key)?)));
        let outcome = match (&leave, known) {
            (Err(leave::Refused { stands: false, denied }), _) => Err(denied_as(denied)),
            // Before the grant is looked at: a retry asks what became of the first attempt, and
            // "you may not" (any more) would not be the answer to that.
            (_, Some((asked, remembered))) if remembered.request == asked.request => {
                let outcome = remembered.outcome.clone();
                return Applied { outcome, replayed: true, rows: Vec::new(), event: None };
            }
            (Err(leave::Refused { denied, .. }), _) => Err(denied_as(denied)),
            (_, Some(_)) => Err(Refusal::KeyReused),
            (Ok(_), None) => Ok(()),
        };
        let before = self.clone();
        let mut changed = Vec::new();
        let outcome = outcome.and_then(|()| {
            let mut work = Work { state: self.clone(), index, at: proposal.at, changed: vec![] };
            let outcome = work.carry_out(proposal, &before.rules)?;
            (*self, changed) = (work.state, work.changed);
            Ok(outcome)
        });
        if let Some(idempotency) = proposal.idempotency
            && is_worth_remembering(&outcome)
        {
            self.remember(index, idempotency, outcome.clone(), &mut changed);
        }
        let rows = changed.iter().map(|which| which.row(self)).collect();
        let event = event(&before, index, proposal, leave, &outcome);
        Applied { outcome, replayed: false, rows, event }
    }

    fn recall(&self, key: &[u8; 32]) -> Option<&Remembered> {
        if is_planted(Bug::ApplyWithoutIdempotencyKey) {
            return None;
        }
        let index = self.remembered_at.get(key)?;
        self.remembered.get(index).map(|remembered| &**remembered)
    }

    /// Forgets by the index of the log: every node forgets the same.
    fn remember(
        &mut self,
        index: u64,
        idempotency: Idempotency,
        outcome: Result<Outcome, Refusal>,
        changed: &mut Vec<Which>,
    ) {
        let Idempotency { key, request } = idempotency;
        self.remembered.insert(index, Remembered { key, request, outcome }.into());
        self.remembered_at.insert(key, index);
        changed.push(Which::Remembered(index));
        while self.remembered.len() > REMEMBERED_MAX
            && let Some((oldest, forgotten)) =
                self.remembered.get_min().map(|(index, it)| (*index, it.clone()))
        {
            self.remembered.remove(&oldest);
            self.remembered_at.remove(&forgotten.key);
            changed.push(Which::Remembered(oldest));
        }
    }
}

/// What is done must not be done twice; and where a client was told how things stood and that
/// nothing was done, a copy of its request that comes late must not do it after all. What says
/// nothing of the request itself is not kept: a leave or a limit may be changed and the request be
/// tried again, and whoever is denied must not push out what others need. Where a secret moved,
/// its proposer seals it again under the same key.
fn is_worth_remembering(outcome: &Result<Outcome, Refusal>) -> bool {
    match outcome {
        Ok(_)
        | Err(
            Refusal::NotFound(_) | Refusal::Exists(_) | Refusal::Mismatch(_) | Refusal::Invalid(_),
        ) => true,
        Err(
            Refusal::Denied(_)
            | Refusal::Limit(_)
            | Refusal::Moved(..)
            | Refusal::KeyReused
            | Refusal::NotFounded,
        ) => false,
    }
}

impl Work {
    fn carry_out(&mut self, proposal: &Proposal, before: &Rules) -> Result<Outcome, Refusal> {
        if let Command::Found(founding) = &proposal.command {
            return self.found(founding);
        }
        if !self.state.is_founded() {
            return Err(Refusal::NotFounded);
        }
        match &proposal.command {
            Command::Found(founding) => self.found(founding),
            Command::CreateAccount { id, name, roles, credential } => {
                self.create_account(*id, name, roles, credential.as_ref())
            }
            Command::UpdateAccount { id, expect, enabled, roles } => {
                self.update_account(before, *id, *expect, *enabled, roles.as_ref())
            }
            Command::DeleteAccount { id, expect } => self.delete_account(before, *id, *expect),
            Command::AddCredential { account, credential } => {
                self.add_credential(*account, credential)
            }
            Command::RevokeCredential { account, credential } => {
                self.revoke_credential(before, *account, *credential)
            }
            Command::CreateRole { id, name, grants } => self.create_role(*id, name, grants),
            Command::UpdateRole { id, expect, grants } => {
                self.update_role(before, *id, *expect, grants)
            }
            Command::DeleteRole { id, expect } => self.delete_role(before, *id, *expect),
            Command::Bind { document, key, role } => self.bind(document, key, role),
            Command::Unbind { document, key, role } => self.unbind(document, key, role),
            Command::PutSecret { id, name, expect, version, sealed } => {
                self.put_secret(*id, name, *expect, *version, sealed)
            }
            Command::DeleteSecret { id, expect } => self.delete_secret(*id, *expect),
            Command::AddGeneration(generation) => self.add_generation(*generation),
            Command::Rewrap(rewrapped) => self.rewrap(rewrapped),
            Command::RetireGeneration(number) => self.retire_generation(*number),
            Command::AddSigningKey(key) => self.add_signing_key(key),
            Command::RetireSigningKey(kid) => self.retire_signing_key(kid),
            Command::SetHistoryPolicy(environment, policy) => {
                self.set_history_policy(environment.as_ref(), *policy)
            }
            Command::RollEpoch { document, roll } => self.roll_epoch(document, roll),
        }
    }
}

/// Whether what is there at `version` (0: nothing) is as it has to be.
fn check(expect: Expect, version: u64) -> Result<(), Refusal> {
    let is_met = match expect {
        Expect::Any => true,
        Expect::Absent => version == 0,
        Expect::Present => version > 0,
        Expect::Version(expected) => version == expected,
    };
    if is_met { Ok(()) } else { Err(Refusal::Mismatch(version)) }
}

fn denied_as(denied: &crate::access::Denied) -> Refusal {
    Refusal::Denied(denied.why.as_str().into())
}

fn invalid(why: &str) -> Refusal {
    Refusal::Invalid(why.into())
}

fn not_found(what: String) -> Refusal {
    Refusal::NotFound(what.as_str().into())
}

fn exists(what: String) -> Refusal {
    Refusal::Exists(what.as_str().into())
}

/// Refuses one more than `max`.
fn limit(count: usize, max: usize, what: &str) -> Result<(), Refusal> {
    if count <= max {
        return Ok(());
    }
    Err(Refusal::Limit(format!("there may be at most {max} {what}").as_str().into()))
}

/// What goes on the audit chain. Where a secret has to be sealed again nothing was decided yet.
fn event(
    before: &State,
    index: u64,
    proposal: &Proposal,
    leave: Result<Text, leave::Refused>,
    outcome: &Result<Outcome, Refusal>,
) -> Option<Event> {
    let result = match outcome {
        Err(Refusal::Moved(..)) => return None,
        Err(Refusal::Denied(_)) => "refused".to_owned(),
        Err(refusal) => format!("refused: {refusal}"),
        Ok(_) => "done".to_owned(),
    };
    let (action, target) = describe(before, &proposal.command);
    Some(Event {
        at: proposal.at,
        principal: proposal.caller.as_ref().map_or("cluster".into(), |it| it.principal().clone()),
        action: action.into(),
        target: target.as_str().into(),
        decision: match leave {
            Ok(grant) => Decision::Allowed(grant),
            Err(refused) => Decision::Denied(refused.denied.why.as_str().into()),
        },
        outcome: result.as_str().into(),
        source: proposal.source.clone(),
        count: 1,
        index: Some(index),
    })
}

/// What a command does and to what, by the names that things had before it.
fn describe(before: &State, command: &Command) -> (&'static str, String) {
    let account = |id: &Id| {
        before.rules.accounts.get(id).map_or_else(|| id.to_string(), |it| it.name.to_string())
    };
    let role = |id: &Id| {
        before.rules.roles.get(id).map_or_else(|| id.to_string(), |it| it.name.to_string())
    };
    match command {
        Command::Found(founding) => ("cluster.found", founding.name.to_string()),
        Command::CreateAccount { name, .. } => ("account.create", name.to_string()),
        Command::UpdateAccount { id, .. } => ("account.update", account(id)),
        Command::DeleteAccount { id, .. } => ("account.delete", account(id)),
        Command::AddCredential { account: id, credential } => {
            ("credential.add", format!("{} {}", account(id), credential.id))
        }
        Command::RevokeCredential { account: id, credential } => {
            ("credential.revoke", format!("{} {credential}", account(id)))
        }
        Command::CreateRole { name, .. } => ("role.create", name.to_string()),
        Command::UpdateRole { id, .. } => ("role.update", role(id)),
        Command::DeleteRole { id, .. } => ("role.delete", role(id)),
        Command::Bind { document, key, role } => {
            ("config.bind", format!("{document}/{key} {role}"))
        }
        Command::Unbind { document, key, role } => {
            ("config.unbind", format!("{document}/{key} {role}"))
        }
        Command::PutSecret { name, version, .. } => ("secret.put", format!("{name}@{version}")),
        Command::DeleteSecret { id, .. } => {
            let secret = before.secrets.get(id);
            ("secret.delete", secret.map_or_else(|| id.to_string(), |it| it.name.to_string()))
        }
        Command::AddGeneration(generation) => {
            ("generation.add", format!("generation {}", generation.number))
        }
        Command::Rewrap(rewrapped) => ("keys.rewrap", format!("{} keys", rewrapped.len())),
        Command::RetireGeneration(number) => ("generation.retire", format!("generation {number}")),
        Command::AddSigningKey(key) => ("signing_key.add", key.kid.to_string()),
        Command::RetireSigningKey(kid) => ("signing_key.retire", kid.to_string()),
        Command::SetHistoryPolicy(environment, policy) => {
            let action =
                if policy.is_some() { "history_policy.set" } else { "history_policy.unset" };
            (action, environment.as_ref().map_or("*".to_owned(), ToString::to_string))
        }
        Command::RollEpoch { document, roll } => {
            ("epoch.roll", format!("{document} epoch {}", roll.epoch))
        }
    }
}
