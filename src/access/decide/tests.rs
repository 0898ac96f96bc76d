//! Decisions, claim by claim.

use super::*;

fn caller(scopes: &[&str]) -> Caller {
    Caller::fixture(Identity::External(None, Vec::new()), scopes, Stamp(1))
}

fn document(text: &str) -> DocumentId {
    DocumentId::parse(text).unwrap()
}

fn keys(names: &[&str]) -> Vec<Key> {
    names.iter().map(|name| Key::new(name).unwrap()).collect()
}

#[test]
fn without_a_grant_nothing_is_allowed() {
    let nobody = caller(&[]);
    assert!(read_document(&nobody, &Rules::default(), &document("web/dev")).is_err());
    assert!(write_document(&nobody, &Rules::default(), &document("web/dev")).is_err());
    assert!(write_keys(&nobody, &Rules::default(), &document("web/dev"), &keys(&["a"])).is_err());
    assert!(cluster(&nobody, &Rules::default(), ClusterAction::ReadCluster).is_err());
    assert!(
        cluster(&caller(&["config:*"]), &Rules::default(), ClusterAction::ReadCluster).is_err()
    );
}

#[test]
fn one_key_that_may_not_be_written_refuses_them_all() {
    let ada = caller(&["config:write:web/dev/feature.*", "config:write:web/dev/x"]);
    let permit =
        write_keys(&ada, &Rules::default(), &document("web/dev"), &keys(&["feature.a", "x"]))
            .unwrap();
    assert_eq!(&**permit.grant(), "config:write:web/dev/feature.* config:write:web/dev/x");
    assert_eq!(&**permit.principal(), "ada");
    assert!(permit.includes(&keys(&["x"])[0]) && !permit.includes(&keys(&["feature.b"])[0]));
    let denied =
        write_keys(&ada, &Rules::default(), &document("web/dev"), &keys(&["feature.a", "y"]));
    assert_eq!(denied.unwrap_err().why, "the caller may not write web/dev/y");
    assert!(write_document(&ada, &Rules::default(), &document("web/dev")).is_err());
    assert!(read_document(&ada, &Rules::default(), &document("web/dev")).is_err());
}

#[test]
fn a_listing_shows_the_keys_of_all_grants() {
    let ada = caller(&["config:read:web/dev/a*", "config:read:web/dev/b*"]);
    let permit = read_document(&ada, &Rules::default(), &document("web/dev")).unwrap();
    assert!(!permit.includes_every_key());
    for (key, shown) in [("a1", true), ("b1", true), ("c1", false)] {
        assert_eq!(permit.includes(&keys(&[key])[0]), shown);
    }
    let all = caller(&["config:read:web/dev/a*", "config:read:web/*"]);
    assert!(
        read_document(&all, &Rules::default(), &document("web/dev")).unwrap().includes_every_key()
    );
    assert!(
        write_document(&caller(&["config:*"]), &Rules::default(), &document("web/dev")).is_ok()
    );
}

#[test]
fn a_permit_for_one_key_is_for_no_other() {
    let ada = caller(&["config:read:web/dev/a*"]);
    let permit =
        read_key(&ada, &Rules::default(), &document("web/dev"), &keys(&["a1"])[0]).unwrap();
    assert!(permit.includes(&keys(&["a1"])[0]) && !permit.includes(&keys(&["a2"])[0]));
}

/// The definition itself, slow and plain: one grant of the caller's and, where there are scopes,
/// one of those.
fn may_plainly(
    caller: &Caller,
    rules: &Rules,
    wish: Wish,
    document: &DocumentId,
    key: &Key,
) -> bool {
    let covers = |grant: &Grant| grant.covers(wish, document, key);
    let Identity::External(None, names) = &caller.identity else { panic!() };
    let of_roles = names.iter().filter_map(|name| rules.role(name)).flat_map(|it| &it.grants);
    let granted = caller.granted.iter().chain(of_roles).any(covers);
    granted && caller.narrowed.as_ref().is_none_or(|scopes| scopes.iter().any(covers))
}

/// The grant that is named, found the plain way: one for every key, one for this key, or the first
/// whose pattern it has.
fn grant_plainly(
    caller: &Caller,
    rules: &Rules,
    wish: Wish,
    document: &DocumentId,
    key: &Key,
) -> Option<String> {
    let Identity::External(None, names) = &caller.identity else { panic!() };
    let of_roles = names.iter().filter_map(|name| rules.role(name)).flat_map(|it| &it.grants);
    let here: Vec<(&Glob, &Text)> = caller
        .granted
        .iter()
        .chain(of_roles)
        .filter_map(|grant| Some((grant.keys(wish, document)?, grant.text())))
        .collect();
    let every = here.iter().find(|(glob, _)| glob.is_any());
    let exact =
        || here.iter().find(|(glob, _)| glob.exact().is_some_and(|it| **it == *key.as_str()));
    let pattern = || here.iter().find(|(glob, _)| glob.matches(key.as_str()));
    every.or_else(exact).or_else(pattern).map(|(_, text)| text.to_string())
}

fn a_grant() -> impl proptest::strategy::Strategy<Value = String> {
    proptest::string::string_regex("config:(read|write|\\*):(\\*|[wx*]/(dev|\\*)(/[ab*]{1,3})?)")
        .unwrap()
}

fn role(n: u128, grants: &[String]) -> Arc<Role> {
    Arc::new(Role {
        id: crate::model::Id::from_u128(n),
        name: crate::model::RoleName::new(&format!("r{n}")).unwrap(),
        grants: grants.iter().map(|text| Grant::parse(text).unwrap()).collect(),
        version: 1,
        created_at: Stamp(1),
        updated_at: Stamp(1),
    })
}

proptest::proptest! {
    #[test]
    fn what_is_looked_up_is_what_would_be_found_one_by_one(
        own in proptest::collection::vec(a_grant(), 0..4),
        of_role in proptest::collection::vec(a_grant(), 0..12),
        later in proptest::collection::vec(a_grant(), 0..12),
        narrowed in proptest::option::of(proptest::collection::vec(a_grant(), 0..4)),
        asked in proptest::collection::vec(("[wx]/dev", "[ab]{1,3}", proptest::bool::ANY), 1..12),
    ) {
        let own: Vec<&str> = own.iter().map(String::as_str).collect();
        let name = crate::model::RoleName::new("r1").unwrap();
        let mut ada = Caller::fixture(Identity::External(None, vec![name.clone()]), &own, Stamp(1));
        if let Some(narrowed) = &narrowed {
            let narrowed: Vec<&str> = narrowed.iter().map(String::as_str).collect();
            ada = ada.narrowed_to(&narrowed);
        }
        let mut rules = Rules::default();
        rules.role_ids.insert(name, crate::model::Id::from_u128(1));
        // The rules change under a caller that remembers.
        for grants in [&of_role, &later] {
            rules.roles.insert(crate::model::Id::from_u128(1), role(1, grants));
            for (at, key, write) in &asked {
                let (at, key) = (document(at), Key::new(key).unwrap());
                let wish = if *write { Wish::Write } else { Wish::Read };
                let expected = may_plainly(&ada, &rules, wish, &at, &key);
                let found = match wish {
                    Wish::Read => read_key(&ada, &rules, &at, &key).map(|it| it.grant().clone()),
                    Wish::Write => {
                        write_keys(&ada, &rules, &at, [&key]).map(|it| it.grant().clone())
                    }
                };
                proptest::prop_assert_eq!(found.is_ok(), expected);
                if let Ok(grant) = found {
                    let plain = grant_plainly(&ada, &rules, wish, &at, &key);
                    proptest::prop_assert_eq!(Some(grant.to_string()), plain, "the same grant");
                }
                let of_all = match wish {
                    Wish::Read => read_document(&ada, &rules, &at).is_ok_and(|it| it.includes(&key)),
                    Wish::Write => write_document(&ada, &rules, &at).is_ok(),
                };
                if wish == Wish::Read {
                    proptest::prop_assert_eq!(of_all, expected, "a listing shows the same");
                }
                if of_all {
                    proptest::prop_assert!(expected);
                }
            }
        }
    }
}

#[test]
fn a_disabled_account_shuts_out_whom_an_issuer_vouches_for() {
    let mut state = crate::registry::fixture::founded();
    let name = crate::model::AccountName::new("root").unwrap();
    let identity = Identity::External(Some(name), vec![]);
    let ada = Caller::fixture(identity, &["config:*"], Stamp(1));
    let at = document("web/dev");
    let permit = read_key(&ada, &state.rules, &at, &keys(&["a"])[0]).unwrap();
    assert_eq!(&**permit.grant(), "config:*");
    let id = crate::registry::fixture::ADMIN;
    let mut account = crate::access::Account::clone(&state.rules.accounts[&id]);
    account.enabled = false;
    state.rules.accounts.insert(id, Arc::new(account));
    assert!(!is_known(&ada, &state.rules));
    assert!(
        read_key(&ada, &state.rules, &at, &keys(&["a"])[0]).is_err(),
        "though it is remembered"
    );
}

#[test]
fn an_explanation_says_what_is_decided_and_by_which_role() {
    use crate::access::explain::{Wanted, explain};
    let mut state = crate::registry::fixture::founded();
    let root = state.rules.accounts[&crate::registry::fixture::ADMIN].clone();
    let of = |state: &crate::registry::State, action: &str, resource: &str| {
        explain(&root, &state.rules, &Wanted::parse(action, resource).unwrap())
    };
    let allowed = of(&state, "config:write", "web/dev/a");
    assert!(allowed.allowed && allowed.role.as_deref() == Some("admin"));
    assert_eq!(allowed.why, "the role admin grants config:*");
    let denied = of(&state, "secrets:reveal", "db");
    assert!(!denied.allowed && denied.grant.is_none());
    assert_eq!(denied.why, "the caller may not reveal the secret db (1 roles were looked at)");
    let bind = crate::registry::Command::Bind {
        document: document("web/dev"),
        key: keys(&["a"]).remove(0),
        role: crate::model::RoleName::new("operator").unwrap(),
    };
    state.by_admin(bind).unwrap();
    let bound = of(&state, "config:write", "web/dev/a");
    assert!(!bound.allowed && bound.bound_to == ["operator"], "{bound:?}");
    assert!(of(&state, "config:read", "web/dev/a").allowed);
    for (action, resource, wrong) in [
        ("config:delete", "web/dev", "action"),
        ("config:read", "web", "resource"),
        ("secrets:read", "", "resource"),
        ("access:manage", "web/dev", "resource"),
    ] {
        assert_eq!(Wanted::parse(action, resource).unwrap_err().0, wrong);
    }
}
