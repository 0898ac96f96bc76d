//! Accounts, roles, bindings: who may change them, and what must never come of it.

use std::collections::BTreeSet;

use crate::access::account::CREDENTIALS_MAX;
use crate::access::{Caller, Grant, Identity, decide};
use crate::audit::Decision;
use crate::model::{DocumentId, Id, Stamp};
use crate::registry::command::{Command, Expect, Outcome, Refusal};
use crate::registry::fixture::{
    ADMIN, ADMIN_CREDENTIAL, NOW, admin, credential, founded, founding, name, of_account, proposal,
    sealed, signing_key,
};
use crate::registry::{State, built_in_role};

const ADA: Id = Id::from_u128(10);
const ROLE: Id = Id::from_u128(20);

fn create_account(id: Id, text: &str, roles: &[&str]) -> Command {
    Command::CreateAccount {
        id,
        name: name(text),
        roles: roles.iter().map(|it| name(it)).collect(),
        credential: Some(credential(Id::from_u128(99))),
    }
}

fn set_roles(id: Id, roles: &[&str]) -> Command {
    let roles: BTreeSet<_> = roles.iter().map(|it| name(it)).collect();
    Command::UpdateAccount { id, expect: Expect::Any, enabled: None, roles: Some(roles) }
}

fn enable(id: Id, enabled: bool) -> Command {
    Command::UpdateAccount { id, expect: Expect::Any, enabled: Some(enabled), roles: None }
}

fn grants(texts: &[&str]) -> Vec<Grant> {
    texts.iter().map(|text| Grant::parse(text).unwrap()).collect()
}

fn create_role(id: Id, text: &str, texts: &[&str]) -> Command {
    Command::CreateRole { id, name: name(text), grants: grants(texts) }
}

fn bind(text: &str) -> Command {
    Command::Bind { document: name_of("web/dev"), key: name("a"), role: name(text) }
}

fn name_of(document: &str) -> DocumentId {
    DocumentId::parse(document).unwrap()
}

#[track_caller]
fn invalid(outcome: Result<Outcome, Refusal>) -> String {
    match outcome {
        Err(Refusal::Invalid(why)) => why.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_cluster_is_founded_once_with_its_roles_and_an_administrator() {
    let mut state = State::default();
    let early = state.by_admin(create_role(ROLE, "team", &[]));
    assert!(matches!(early, Err(Refusal::Denied(_))), "{early:?}");
    let mut state = founded();
    for role in ["admin", "developer", "operator"] {
        assert!(state.rules.role(&name(role)).is_some_and(|it| it.id == built_in_role(role)));
    }
    assert_eq!(built_in_role("admin").to_string(), "cf70a8cc-edaf-5d5f-9931-b15dfde1be30");
    let again = proposal(None, Command::Found(Box::new(founding())));
    assert_eq!(state.next(&again).outcome, Err(Refusal::Exists("the cluster".into())));
    let by_someone = proposal(Some(admin()), Command::Found(Box::new(founding())));
    assert!(matches!(state.next(&by_someone).outcome, Err(Refusal::Denied(_))));
}

#[test]
fn before_it_is_founded_nothing_else_is_done() {
    let outside = Caller::fixture(
        Identity::External(None, vec![]),
        &["access:manage", "secrets:*"],
        Stamp(u64::MAX),
    );
    let mut state = State::default();
    let outcome = state.next(&proposal(Some(outside), create_role(ROLE, "admin", &[]))).outcome;
    assert_eq!(outcome, Err(Refusal::NotFounded));
}

#[test]
fn without_a_caller_only_the_clusters_own_doings_are_done() {
    let mut state = founded();
    let own = Command::AddSigningKey(signing_key("second", Stamp(NOW.0 + 1)));
    assert_eq!(state.next(&proposal(None, own)).outcome, Ok(Outcome::Done));
    let own = Command::RetireSigningKey("first".into());
    assert_eq!(state.next(&proposal(None, own)).outcome, Ok(Outcome::Done));
    let put = Command::PutSecret {
        id: ADA,
        name: name("db"),
        expect: Expect::Any,
        version: 1,
        sealed: sealed(1),
    };
    for command in [create_account(ADA, "ada", &["admin"]), put, Command::RetireGeneration(1)] {
        let applied = state.next(&proposal(None, command));
        assert!(matches!(applied.outcome, Err(Refusal::Denied(_))), "{applied:?}");
        assert!(applied.rows.is_empty());
        assert!(matches!(applied.event.unwrap().decision, Decision::Denied(_)));
    }
}

#[test]
fn a_caller_is_judged_by_the_rules_at_the_index_at_which_it_is_applied() {
    let mut state = founded();
    state.by_admin(create_account(ADA, "ada", &["admin"])).unwrap();
    let ada = of_account(ADA, None);
    let act = |state: &mut State, caller: &Caller, id: u128| {
        let command = create_role(Id::from_u128(id), &format!("r{id}"), &[]);
        state.next(&proposal(Some(caller.clone()), command)).outcome
    };
    assert!(act(&mut state, &ada, 100).is_ok());
    // Its token is as good as before; the rules are not.
    state.by_admin(set_roles(ADA, &["developer"])).unwrap();
    let denied = act(&mut state, &ada, 101);
    assert_eq!(
        denied,
        Err(Refusal::Denied("the caller may not do this: it lacks access:manage".into()))
    );
    state.by_admin(set_roles(ADA, &["admin"])).unwrap();
    state.by_admin(enable(ADA, false)).unwrap();
    assert!(matches!(act(&mut state, &ada, 102), Err(Refusal::Denied(_))));
    state.by_admin(enable(ADA, true)).unwrap();
    assert!(act(&mut state, &ada, 103).is_ok());
    state.by_admin(Command::DeleteAccount { id: ADA, expect: Expect::Any }).unwrap();
    assert!(matches!(act(&mut state, &ada, 104), Err(Refusal::Denied(_))));
}

#[test]
fn a_credential_that_was_revoked_or_ran_out_gives_no_leave() {
    let mut state = founded();
    state.by_admin(create_account(ADA, "ada", &["admin"])).unwrap();
    let (short, id) = (Stamp(NOW.0 + 10), Id::from_u128(50));
    let mut ends = credential(id);
    ends.expires_at = Some(short);
    state.by_admin(Command::AddCredential { account: ADA, credential: ends }).unwrap();
    let act = |state: &mut State, credential, at, n: u128| {
        let command = create_role(Id::from_u128(n), &format!("r{n}"), &[]);
        let mut proposal = proposal(Some(of_account(ADA, Some(credential))), command);
        proposal.at = at;
        state.next(&proposal).outcome
    };
    assert!(act(&mut state, id, NOW, 100).is_ok());
    let late = act(&mut state, id, short, 101);
    assert_eq!(late, Err(Refusal::Denied("the caller's credential is expired".into())));
    assert!(act(&mut state, Id::from_u128(99), NOW, 102).is_ok());
    let revoke = Command::RevokeCredential { account: ADA, credential: Id::from_u128(99) };
    state.by_admin(revoke.clone()).unwrap();
    assert!(matches!(act(&mut state, Id::from_u128(99), NOW, 103), Err(Refusal::Denied(_))));
    assert!(matches!(state.by_admin(revoke), Err(Refusal::NotFound(_))));
}

#[test]
fn a_token_that_ran_out_before_it_was_proposed_gives_no_leave() {
    let mut state = founded();
    let over = Caller::fixture(Identity::Account(ADMIN, None), &[], NOW);
    let denied = state.next(&proposal(Some(over), create_role(ROLE, "team", &[]))).outcome;
    assert_eq!(denied, Err(Refusal::Denied("the caller's token is over".into())));
}

#[test]
fn a_tokens_scopes_narrow_what_its_roles_grant() {
    let mut state = founded();
    let narrowed = admin().narrowed_to(&["config:*"]);
    let denied = state.next(&proposal(Some(narrowed), create_role(ROLE, "team", &[]))).outcome;
    assert!(matches!(denied, Err(Refusal::Denied(_))));
}

#[test]
fn the_cluster_never_loses_its_last_administrator() {
    let mut state = founded();
    const NONE: &str = "the cluster would be without an administrator";
    state.by_admin(create_role(ROLE, "team", &["config:read"])).unwrap();
    let last = [
        Command::DeleteAccount { id: ADMIN, expect: Expect::Any },
        enable(ADMIN, false),
        set_roles(ADMIN, &["developer"]),
    ];
    for command in &last {
        let before = state.clone();
        assert_eq!(invalid(state.by_admin(command.clone())), NONE);
        assert_eq!(before.rules, state.rules);
    }
    let revoke = Command::RevokeCredential { account: ADMIN, credential: ADMIN_CREDENTIAL };
    assert_eq!(
        invalid(state.by_admin(revoke)),
        format!("{NONE} who can ask for a token"),
        "locked out is as bad"
    );
    // By another role that manages access, which then is as needed.
    state.by_admin(create_role(Id::from_u128(21), "chief", &["access:manage"])).unwrap();
    state.by_admin(create_account(ADA, "ada", &["chief"])).unwrap();
    let ada = of_account(ADA, None);
    let delete = Command::DeleteAccount { id: ADMIN, expect: Expect::Any };
    assert_eq!(
        state.next(&proposal(Some(ada.clone()), delete)).outcome,
        Ok(Outcome::Deleted(ADMIN))
    );
    let (id, expect) = (Id::from_u128(21), Expect::Any);
    for command in [
        Command::DeleteRole { id, expect },
        Command::UpdateRole { id, expect, grants: grants(&["config:read"]) },
    ] {
        assert_eq!(invalid(state.next(&proposal(Some(ada.clone()), command)).outcome), NONE);
    }
}

#[test]
fn built_in_roles_stay_as_they_are() {
    let mut state = founded();
    let (id, expect) = (built_in_role("developer"), Expect::Any);
    for command in
        [Command::DeleteRole { id, expect }, Command::UpdateRole { id, expect, grants: vec![] }]
    {
        assert_eq!(
            invalid(state.by_admin(command)),
            "the role developer is built in: make another one"
        );
    }
}

#[test]
fn names_are_unique_and_free_again_after_a_deletion() {
    let mut state = founded();
    state.by_admin(create_account(ADA, "ada", &[])).unwrap();
    let again = create_account(Id::from_u128(11), "ada", &[]);
    assert_eq!(state.by_admin(again.clone()), Err(Refusal::Exists("the account ada".into())));
    state.by_admin(Command::DeleteAccount { id: ADA, expect: Expect::Any }).unwrap();
    assert_eq!(state.by_admin(again), Ok(Outcome::Put(Id::from_u128(11), 1, true)));
    let role = create_role(ROLE, "admin", &[]);
    assert_eq!(state.by_admin(role), Err(Refusal::Exists("the role admin".into())));
    let unknown = create_account(ADA, "bob", &["nobody"]);
    assert_eq!(state.by_admin(unknown), Err(Refusal::NotFound("the role nobody".into())));
}

#[test]
fn what_is_expected_is_checked_where_it_is_applied() {
    let mut state = founded();
    state.by_admin(create_role(ROLE, "team", &["config:read"])).unwrap();
    let update = |expect, text| Command::UpdateRole { id: ROLE, expect, grants: grants(&[text]) };
    let done = state.by_admin(update(Expect::Version(1), "config:*"));
    assert_eq!(done, Ok(Outcome::Put(ROLE, 2, false)));
    let late = state.by_admin(update(Expect::Version(1), "config:read"));
    assert_eq!(late, Err(Refusal::Mismatch(2)));
    let same = state.by_admin(update(Expect::Any, "config:*"));
    assert_eq!(same, Ok(Outcome::Put(ROLE, 2, false)), "nothing changes, nothing is counted");
    let absent = Command::DeleteRole { id: Id::from_u128(9), expect: Expect::Present };
    assert!(matches!(state.by_admin(absent), Err(Refusal::NotFound(_))));
}

#[test]
fn a_role_that_is_deleted_is_taken_from_everybody_and_never_while_something_is_bound_to_it() {
    let mut state = founded();
    state.by_admin(create_role(ROLE, "team", &["config:*:web/dev"])).unwrap();
    state.by_admin(create_account(ADA, "ada", &["team"])).unwrap();
    state.by_admin(bind("team")).unwrap();
    let delete = Command::DeleteRole { id: ROLE, expect: Expect::Any };
    let refused = invalid(state.by_admin(delete.clone()));
    assert_eq!(refused, "configurations are bound to the role team: web/dev/a");
    let unbind =
        Command::Unbind { document: name_of("web/dev"), key: name("a"), role: name("team") };
    assert_eq!(state.by_admin(unbind.clone()), Ok(Outcome::Done));
    assert!(state.rules.bindings.is_empty());
    assert!(matches!(state.by_admin(unbind), Err(Refusal::NotFound(_))));
    assert_eq!(state.by_admin(delete), Ok(Outcome::Deleted(ROLE)));
    let ada = state.rules.account(&name("ada")).unwrap();
    assert!(ada.roles.is_empty() && ada.version == 2);
}

#[test]
fn only_who_has_a_role_that_a_configuration_is_bound_to_may_change_it() {
    let mut state = founded();
    state.by_admin(create_role(ROLE, "team", &["config:*:web/dev"])).unwrap();
    state.by_admin(create_account(ADA, "ada", &["team"])).unwrap();
    assert_eq!(state.by_admin(bind("team")), Ok(Outcome::Done));
    assert_eq!(state.by_admin(bind("team")), Ok(Outcome::Done), "twice is once");
    let may = |caller: &Caller, key: &str| {
        decide::write_keys(caller, &state.rules, &name_of("web/dev"), [&name(key)]).is_ok()
    };
    let (root, ada) = (admin(), of_account(ADA, None));
    assert!(may(&root, "b") && may(&ada, "b"));
    assert!(!may(&root, "a") && may(&ada, "a"));
    assert!(decide::write_document(&root, &state.rules, &name_of("web/dev")).is_err());
    assert!(decide::write_document(&ada, &state.rules, &name_of("web/dev")).is_ok());
}

#[test]
fn an_account_takes_so_many_credentials_and_says_so() {
    let mut state = founded();
    let add = |id: u128| Command::AddCredential {
        account: ADMIN,
        credential: credential(Id::from_u128(id)),
    };
    for id in 1..CREDENTIALS_MAX as u128 {
        state.by_admin(add(100 + id)).unwrap();
    }
    let text = "there may be at most 8 credentials of one account: revoke one of root first";
    assert_eq!(state.by_admin(add(200)), Err(Refusal::Limit(text.into())));
    assert!(matches!(state.by_admin(add(101)), Err(Refusal::Exists(_))));
}

#[test]
fn every_decision_is_told_to_the_audit_without_what_is_secret() {
    let mut state = founded();
    let applied = state.next(&proposal(Some(admin()), create_account(ADA, "ada", &["developer"])));
    let event = applied.event.unwrap();
    assert_eq!((&*event.action, &*event.target), ("account.create", "ada"));
    assert_eq!(event.decision, Decision::Allowed("access:manage".into()));
    assert_eq!((&*event.outcome, event.index), ("done", Some(2)));
    assert!(!format!("{event:?}").contains("argon2"));
    let ada = proposal(Some(of_account(ADA, None)), create_role(ROLE, "team", &[]));
    let event = state.next(&ada).event.unwrap();
    assert!(matches!(event.decision, Decision::Denied(_)) && &*event.outcome == "refused");
    let refused = state.next(&proposal(Some(admin()), create_role(ROLE, "admin", &[])));
    let outcome = refused.event.unwrap().outcome;
    assert_eq!(&*outcome, "refused: the role admin is there already");
}
