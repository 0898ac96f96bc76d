//! Secrets and keys.

use crate::model::{Id, Stamp};
use crate::registry::State;
use crate::registry::command::{Command, Expect, Outcome, Refusal, Rewrapped, Wrapped};
use crate::registry::fixture::{
    NOW, admin, credential, founded, generation, name, of_account, proposal, sealed, sealed_key,
    signing_key,
};
use crate::secrets::sealed::VERSIONS_MAX;

const DB: Id = Id::from_u128(30);
const OTHER: Id = Id::from_u128(31);

fn put_expecting(id: Id, version: u32, expect: Expect) -> Command {
    Command::PutSecret { id, name: name("db"), expect, version, sealed: sealed(1) }
}

fn put(id: Id, version: u32) -> Command {
    put_expecting(id, version, Expect::Any)
}

fn rewrap(what: Wrapped, from: u32, to: u32) -> Command {
    Command::Rewrap(vec![Rewrapped { what, from, key: sealed_key(to) }])
}

fn two_generations() -> State {
    let mut state = founded();
    state.by_admin(put(DB, 1)).unwrap();
    state.by_admin(Command::AddGeneration(generation(2))).unwrap();
    state
}

#[test]
fn a_name_that_is_known_gets_its_next_version() {
    let mut state = founded();
    assert_eq!(state.by_admin(put(DB, 1)), Ok(Outcome::Put(DB, 1, true)));
    assert_eq!(state.by_admin(put(DB, 2)), Ok(Outcome::Put(DB, 2, false)));
    assert_eq!(state.secret_version(&name("db")), 2);
    assert_eq!(state.secrets[&DB].versions.len(), 2);
}

#[test]
fn what_was_sealed_as_another_version_has_to_be_sealed_again() {
    let mut state = founded();
    state.by_admin(put(DB, 1)).unwrap();
    let applied = state.next(&proposal(Some(admin()), put(OTHER, 1)));
    assert_eq!(applied.outcome, Err(Refusal::Moved(DB, 2)));
    assert!(applied.event.is_none() && applied.rows.is_empty());
    assert_eq!(state.by_admin(put(DB, 1)), Err(Refusal::Moved(DB, 2)));
    assert_eq!(state.by_admin(put(DB, 3)), Err(Refusal::Moved(DB, 2)));
    let mut elsewhere = sealed(1);
    elsewhere.generation = 9;
    let lost = Command::PutSecret {
        id: DB,
        name: name("db"),
        expect: Expect::Any,
        version: 2,
        sealed: elsewhere,
    };
    assert_eq!(state.by_admin(lost), Err(Refusal::Moved(DB, 2)), "by a generation that is gone");
}

#[test]
fn a_name_that_was_deleted_comes_back_under_an_id_that_nothing_had() {
    let mut state = founded();
    state.by_admin(put(DB, 1)).unwrap();
    let delete = Command::DeleteSecret { id: DB, expect: Expect::Version(1) };
    assert_eq!(state.by_admin(delete.clone()), Ok(Outcome::Deleted(DB)));
    assert!(matches!(state.by_admin(delete), Err(Refusal::NotFound(_))));
    // Somebody sealed the second version while the first was deleted.
    let Err(Refusal::Moved(id, 1)) = state.by_admin(put(DB, 2)) else { panic!() };
    assert_ne!(id, DB);
    assert_eq!(state.by_admin(put(id, 1)), Ok(Outcome::Put(id, 1, true)));
}

#[test]
fn what_is_expected_of_a_secret_is_checked_before_the_version() {
    let mut state = founded();
    for (expect, refused) in [(Expect::Present, 0), (Expect::Version(3), 0)] {
        assert_eq!(
            state.by_admin(put_expecting(DB, 1, expect)),
            Err(Refusal::Mismatch(refused)),
            "{expect:?}"
        );
    }
    state.by_admin(put_expecting(DB, 1, Expect::Absent)).unwrap();
    for expect in [Expect::Absent, Expect::Version(0), Expect::Version(2)] {
        assert_eq!(state.by_admin(put_expecting(DB, 1, expect)), Err(Refusal::Mismatch(1)));
    }
    assert!(state.by_admin(put_expecting(DB, 2, Expect::Version(1))).is_ok());
}

#[test]
fn the_oldest_versions_go_first() {
    let mut state = founded();
    let last = u32::try_from(VERSIONS_MAX).unwrap() + 3;
    for version in 1..=last {
        state.by_admin(put(DB, version)).unwrap();
    }
    let versions = &state.secrets[&DB].versions;
    assert_eq!(versions.len(), VERSIONS_MAX);
    assert_eq!(versions.first_key_value().map(|(version, _)| *version), Some(4));
}

#[test]
fn each_act_on_a_secret_asks_for_its_own_grant_on_its_name() {
    let mut state = founded();
    state.by_admin(put(DB, 1)).unwrap();
    let grants = ["secrets:write:db", "secrets:delete:cache"];
    let grants = grants.iter().filter_map(|text| crate::access::Grant::parse(text)).collect();
    let (id, role) = (Id::from_u128(60), name("writer"));
    state.by_admin(Command::CreateRole { id, name: role, grants }).unwrap();
    let account = Command::CreateAccount {
        id: OTHER,
        name: name("ci"),
        roles: [name("writer")].into(),
        credential: Some(credential(Id::from_u128(61))),
    };
    state.by_admin(account).unwrap();
    let mut by_ci = |command| state.next(&proposal(Some(of_account(OTHER, None)), command)).outcome;
    assert!(by_ci(put(DB, 2)).is_ok());
    let delete = |id| Command::DeleteSecret { id, expect: Expect::Any };
    let denied = by_ci(delete(DB));
    assert_eq!(denied, Err(Refusal::Denied("the caller may not delete the secret db".into())));
    assert!(matches!(by_ci(delete(OTHER)), Err(Refusal::NotFound(_))));
    let other = Command::PutSecret {
        id: OTHER,
        name: name("cache"),
        expect: Expect::Any,
        version: 1,
        sealed: sealed(1),
    };
    assert!(matches!(by_ci(other), Err(Refusal::Denied(_))));
    assert!(matches!(by_ci(Command::AddGeneration(generation(2))), Err(Refusal::Denied(_))));
}

#[test]
fn generations_follow_each_other() {
    let mut state = founded();
    let mut add = |generation| state.by_admin(Command::AddGeneration(generation));
    assert_eq!(add(generation(2)), Ok(Outcome::Done));
    assert_eq!(add(generation(2)), Ok(Outcome::Done), "the same one again");
    let mut other = generation(2);
    other.check = [9; 32];
    assert!(matches!(add(other), Err(Refusal::Exists(_))));
    assert!(matches!(add(generation(4)), Err(Refusal::Invalid(_))));
    assert_eq!(state.current_generation().map(|it| it.number), Some(2));
}

#[test]
fn a_key_is_wrapped_anew_where_it_still_is_as_it_was() {
    let mut state = two_generations();
    let version = Wrapped::Version(DB, 1);
    let done = state.by_admin(rewrap(version.clone(), 1, 2));
    assert_eq!(done, Ok(Outcome::Rewrapped(1)));
    let sealed = &state.secrets[&DB].versions[&1];
    assert_eq!((sealed.generation, sealed.ciphertext.len()), (2, 24), "the value stays as it was");
    assert_eq!(state.by_admin(rewrap(version, 1, 2)), Ok(Outcome::Rewrapped(0)));
    let gone = rewrap(Wrapped::Version(OTHER, 1), 1, 2);
    assert_eq!(state.by_admin(gone), Ok(Outcome::Rewrapped(0)));
    let lost = rewrap(Wrapped::HashKey, 1, 7);
    assert!(matches!(state.by_admin(lost), Err(Refusal::Invalid(_))));
}

#[test]
fn a_generation_goes_once_it_wraps_nothing() {
    let mut state = two_generations();
    let retire = |state: &mut State, number| state.by_admin(Command::RetireGeneration(number));
    assert!(matches!(retire(&mut state, 2), Err(Refusal::Invalid(_))), "it is current");
    for what in [Wrapped::Version(DB, 1), Wrapped::Signing("first".into()), Wrapped::HashKey] {
        let refused = retire(&mut state, 1);
        assert!(matches!(refused, Err(Refusal::Invalid(_))), "{what:?}: {refused:?}");
        assert_eq!(state.by_admin(rewrap(what, 1, 2)), Ok(Outcome::Rewrapped(1)));
    }
    assert_eq!(retire(&mut state, 1), Ok(Outcome::Done));
    assert!(matches!(retire(&mut state, 1), Err(Refusal::NotFound(_))));
}

#[test]
fn the_key_that_signs_is_not_retired() {
    let mut state = founded();
    let retire = |kid: &str| Command::RetireSigningKey(kid.into());
    assert!(matches!(state.by_admin(retire("first")), Err(Refusal::Invalid(_))));
    let second = signing_key("second", Stamp(NOW.0 + 1));
    assert_eq!(state.by_admin(Command::AddSigningKey(second.clone())), Ok(Outcome::Done));
    assert_eq!(state.by_admin(Command::AddSigningKey(second)), Ok(Outcome::Done));
    assert_eq!(state.by_admin(retire("first")), Ok(Outcome::Done));
    assert!(matches!(state.by_admin(retire("second")), Err(Refusal::Invalid(_))));
    assert!(matches!(state.by_admin(retire("third")), Err(Refusal::NotFound(_))));
}
