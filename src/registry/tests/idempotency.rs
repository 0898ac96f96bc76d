//! Retries are answered and not done again.

use crate::model::Id;
use crate::registry::command::{Command, Expect, Outcome, Proposal, Refusal};
use crate::registry::fixture::{admin, founded, name, of_account, proposal, retryable, sealed};
use crate::registry::limits::REMEMBERED_MAX;
use crate::registry::state::State;

fn put(version: u32) -> Proposal {
    let command = Command::PutSecret {
        id: Id::from_u128(30),
        name: name("db"),
        expect: Expect::Any,
        version,
        sealed: sealed(1),
    };
    proposal(Some(admin()), command)
}

fn create(id: u128, text: &str) -> Proposal {
    let id = Id::from_u128(id);
    let command = Command::CreateRole { id, name: name(text), grants: vec![] };
    proposal(Some(admin()), command)
}

#[test]
fn a_retry_gets_what_the_first_attempt_came_to() {
    let mut state = founded();
    let first = state.next(&retryable(put(1), 1, 1));
    let before = state.clone();
    // Sealed again, as a retry is: what it says of the version does not matter any more.
    let again = state.next(&retryable(put(2), 1, 1));
    assert_eq!(again.outcome, first.outcome);
    assert!(again.replayed && again.rows.is_empty() && again.event.is_none());
    assert_eq!(state.secrets, before.secrets);
}

#[test]
fn a_key_is_for_one_request() {
    let mut state = founded();
    state.next(&retryable(put(1), 1, 1));
    let other = state.next(&retryable(put(2), 1, 2));
    assert_eq!(other.outcome, Err(Refusal::KeyReused));
    assert_eq!(state.secret_version(&name("db")), 1);
}

#[test]
fn a_no_that_was_told_stays_one_and_a_no_to_be_mended_does_not() {
    let mut state = founded();
    let taken = create(100, "admin");
    assert!(matches!(state.next(&retryable(taken.clone(), 1, 1)).outcome, Err(Refusal::Exists(_))));
    let again = state.next(&retryable(create(101, "new"), 1, 1));
    assert!(again.replayed && matches!(again.outcome, Err(Refusal::Exists(_))));

    let account = Id::from_u128(50);
    let roles = |roles: &[&str]| roles.iter().map(|it| name(it)).collect();
    let ada = Command::CreateAccount {
        id: account,
        name: name("ada"),
        roles: roles(&["developer"]),
        credential: None,
    };
    state.by_admin(ada).unwrap();
    let mut asked = retryable(create(102, "mine"), 2, 1);
    asked.caller = Some(of_account(account, None));
    assert!(matches!(state.next(&asked).outcome, Err(Refusal::Denied(_))));
    let promote = Command::UpdateAccount {
        id: account,
        expect: Expect::Any,
        enabled: None,
        roles: Some(roles(&["admin"])),
    };
    state.by_admin(promote).unwrap();
    assert!(state.next(&asked).outcome.is_ok());
    // A secret that moved is sealed again under the same key.
    assert!(state.next(&retryable(put(1), 3, 1)).outcome.is_ok());
    assert!(matches!(state.next(&retryable(put(1), 4, 1)).outcome, Err(Refusal::Moved(..))));
    assert!(state.next(&retryable(put(2), 4, 1)).outcome.is_ok());
}

#[test]
fn a_retry_is_answered_though_the_first_attempt_took_its_callers_leave_away() {
    let mut state = founded();
    let (one, other) = (Id::from_u128(50), Id::from_u128(51));
    for (id, text) in [(one, "one"), (other, "other")] {
        let command = Command::CreateAccount {
            id,
            name: name(text),
            roles: [name("admin")].into(),
            credential: None,
        };
        state.by_admin(command).unwrap();
    }
    let roles = Some([name("developer")].into());
    let demote = Command::UpdateAccount { id: one, expect: Expect::Any, enabled: None, roles };
    let asked = retryable(proposal(Some(of_account(one, None)), demote), 1, 1);
    assert!(state.next(&asked).outcome.is_ok());
    assert!(state.next(&asked).outcome.is_ok(), "it was done, and that is what is asked");
    let disable =
        Command::UpdateAccount { id: one, expect: Expect::Any, enabled: Some(false), roles: None };
    state.by_admin(disable).unwrap();
    assert!(matches!(state.next(&asked).outcome, Err(Refusal::Denied(_))), "who is shut out");
}

#[test]
fn the_oldest_requests_are_forgotten_first_by_the_log() {
    let mut state = founded();
    let unbind = |key: u64| {
        let command = Command::RetireGeneration(9);
        retryable(proposal(Some(admin()), command), key, 1)
    };
    for key in 0..REMEMBERED_MAX as u64 + 2 {
        let applied = state.next(&unbind(key));
        let removed = applied.rows.iter().filter(|row| row.value.is_none()).count();
        assert_eq!(removed, usize::from(key >= REMEMBERED_MAX as u64));
    }
    assert_eq!(state.remembered.len(), REMEMBERED_MAX);
    assert_eq!(state.remembered_at.len(), REMEMBERED_MAX);
    let is_known = |state: &mut State, key| state.next(&unbind(key)).replayed;
    assert!(is_known(&mut state, 2));
    assert!(!is_known(&mut state, 1));
    let done: Result<Outcome, Refusal> = Err(Refusal::NotFound("generation 9".into()));
    assert_eq!(state.next(&unbind(5)).outcome, done);
}
