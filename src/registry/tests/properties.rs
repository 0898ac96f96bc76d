//! What holds after any proposals whatever.

use proptest::prelude::*;

use crate::access::decide;
use crate::access::{Caller, ClusterAction, Grant, Identity};
use crate::config::HistoryPolicy;
use crate::model::{DocumentId, Dot, Id, Origin, Stamp};
use crate::registry::command::{Command, EpochRoll, Expect, Proposal, Refusal, Rewrapped, Wrapped};
use crate::registry::fixture::{
    ADMIN, ADMIN_CREDENTIAL, NOW, admin, credential, founded, generation, name, of_account,
    proposal, retryable, sealed, sealed_key, signing_key,
};
use crate::registry::state::{Row, State};

fn an_id() -> impl Strategy<Value = Id> {
    (0..6_u128).prop_map(|id| if id == 0 { ADMIN } else { Id::from_u128(100 + id) })
}

fn a_name<T: std::str::FromStr<Err: std::fmt::Debug> + std::fmt::Debug>() -> impl Strategy<Value = T>
{
    "[abc]".prop_map(|text| name(&text))
}

fn a_role() -> impl Strategy<Value = crate::model::RoleName> {
    prop_oneof![Just(name("admin")), Just(name("developer")), "[abc]".prop_map(|text| name(&text))]
}

fn roles() -> impl Strategy<Value = std::collections::BTreeSet<crate::model::RoleName>> {
    proptest::collection::btree_set(a_role(), 0..3)
}

fn grants() -> impl Strategy<Value = Vec<Grant>> {
    let grant = prop_oneof![
        Just("access:manage"),
        Just("config:*:web/dev"),
        Just("secrets:*:a"),
        Just("cluster:manage")
    ];
    proptest::collection::vec(grant.prop_map(|text| Grant::parse(text).unwrap()), 0..3)
}

fn expect() -> impl Strategy<Value = Expect> {
    prop_oneof![
        4 => Just(Expect::Any),
        1 => Just(Expect::Absent),
        1 => Just(Expect::Present),
        1 => (0..4_u64).prop_map(Expect::Version),
    ]
}

fn of_accounts() -> impl Strategy<Value = Command> {
    let enabled = proptest::option::of(any::<bool>());
    prop_oneof![
        (an_id(), a_name(), roles(), any::<bool>()).prop_map(|(id, name, roles, has)| {
            let credential = has.then(|| credential(ADMIN_CREDENTIAL));
            Command::CreateAccount { id, name, roles, credential }
        }),
        (an_id(), expect(), enabled, proptest::option::of(roles())).prop_map(
            |(id, expect, enabled, roles)| Command::UpdateAccount { id, expect, enabled, roles }
        ),
        (an_id(), expect()).prop_map(|(id, expect)| Command::DeleteAccount { id, expect }),
        (an_id(), an_id(), 0..3_u64).prop_map(|(account, id, at)| {
            let mut credential = credential(id);
            credential.expires_at = (at > 0).then_some(Stamp(NOW.0 + at - 2));
            Command::AddCredential { account, credential }
        }),
        (an_id(), prop_oneof![an_id(), Just(ADMIN_CREDENTIAL)])
            .prop_map(|(account, credential)| Command::RevokeCredential { account, credential }),
    ]
}

fn of_roles() -> impl Strategy<Value = Command> {
    let document = prop_oneof![Just("web/dev"), Just("web/dev.1")];
    let place = (document.prop_map(|it| DocumentId::parse(it).unwrap()), a_name());
    prop_oneof![
        (an_id(), a_role(), grants()).prop_map(|(id, name, grants)| Command::CreateRole {
            id,
            name,
            grants
        }),
        (an_id(), expect(), grants()).prop_map(|(id, expect, grants)| Command::UpdateRole {
            id,
            expect,
            grants
        }),
        (an_id(), expect()).prop_map(|(id, expect)| Command::DeleteRole { id, expect }),
        (place, a_role(), any::<bool>()).prop_map(|((document, key), role, bind)| match bind {
            true => Command::Bind { document, key, role },
            false => Command::Unbind { document, key, role },
        }),
    ]
}

fn of_secrets() -> impl Strategy<Value = Command> {
    let what = prop_oneof![
        (an_id(), 1..4_u32).prop_map(|(id, version)| Wrapped::Version(id, version)),
        Just(Wrapped::Signing("first".into())),
        Just(Wrapped::HashKey),
    ];
    let kid = prop_oneof![Just("first"), Just("second"), Just("third")];
    prop_oneof![
        4 => (an_id(), a_name(), expect(), 1..4_u32, 1..3_u32).prop_map(
            |(id, name, expect, version, by)| {
                Command::PutSecret { id, name, expect, version, sealed: sealed(by) }
            }
        ),
        1 => (an_id(), expect()).prop_map(|(id, expect)| Command::DeleteSecret { id, expect }),
        1 => (1..4_u32).prop_map(|number| Command::AddGeneration(generation(number))),
        1 => (what, 1..3_u32, 1..3_u32).prop_map(|(what, from, to)| {
            Command::Rewrap(vec![Rewrapped { what, from, key: sealed_key(to) }])
        }),
        1 => (1..3_u32).prop_map(Command::RetireGeneration),
        1 => (kid, any::<bool>(), 0..3_u64).prop_map(|(kid, add, at)| match add {
            true => Command::AddSigningKey(signing_key(kid, Stamp(NOW.0 + at))),
            false => Command::RetireSigningKey(kid.into()),
        }),
    ]
}

fn of_histories() -> impl Strategy<Value = Command> {
    let policy =
        (0..3_u64, 0..3_u64).prop_map(|(versions, age_s)| HistoryPolicy { versions, age_s });
    (proptest::option::of(a_name()), proptest::option::of(policy))
        .prop_map(|(of, policy)| Command::SetHistoryPolicy(of, policy))
}

fn of_epochs() -> impl Strategy<Value = Command> {
    let document = prop_oneof![Just("web/dev"), Just("web/dev.1"), Just("web-2/dev")];
    let dot = (0..3_u8, 1..4_u64).prop_map(|(origin, n)| Dot { origin: Origin([origin; 8]), n });
    let floor = proptest::collection::vec(dot, 0..4);
    (document, 0..4_u32, floor, 0..2_u8).prop_map(|(document, epoch, floor, base)| {
        let floor = floor.into_iter().collect();
        let roll = EpochRoll { epoch, floor, base: [base; 32], removals_before: NOW, fold: None };
        Command::RollEpoch { document: DocumentId::parse(document).unwrap(), roll }
    })
}

fn a_caller() -> impl Strategy<Value = Option<Caller>> {
    prop_oneof![
        6 => Just(Some(admin())),
        1 => an_id().prop_map(|id| Some(of_account(id, None))),
        1 => Just(Some(Caller::fixture(
            Identity::External(Some(name("a")), vec![name("developer")]),
            &["access:manage", "secrets:*", "cluster:manage"],
            Stamp(u64::MAX),
        ))),
        1 => Just(None),
    ]
}

fn proposals() -> impl Strategy<Value = Vec<Proposal>> {
    let command = prop_oneof![of_accounts(), of_roles(), of_secrets(), of_histories(), of_epochs()];
    let one = (a_caller(), command, proptest::option::of((0..20_u64, 0..2_u8)));
    let one = one.prop_map(|(caller, command, retry)| {
        let proposal = proposal(caller, command);
        retry.map_or(proposal.clone(), |(key, request)| retryable(proposal, key, request))
    });
    proptest::collection::vec(one, 0..40)
}

fn from_rows(rows: impl Iterator<Item = Row>, index: u64) -> State {
    let mut state = State { index, ..State::default() };
    for row in rows {
        state.insert(&row).unwrap();
    }
    state
}

/// Rows as a table keeps them: the newest value of each key.
#[derive(Default)]
struct Table(std::collections::BTreeMap<Vec<u8>, Vec<u8>>);

impl Table {
    fn take(&mut self, rows: impl IntoIterator<Item = Row>) {
        for Row { key, value } in rows {
            match value {
                Some(value) => self.0.insert(key, value),
                None => self.0.remove(&key),
            };
        }
    }

    fn rows(&self) -> impl Iterator<Item = Row> {
        let row = |(key, value): (&Vec<u8>, &Vec<u8>)| Row {
            key: key.clone(),
            value: Some(value.clone()),
        };
        self.0.iter().map(row)
    }
}

/// Names and ids lead to each other, and so do remembered requests.
fn check_indices(state: &State) {
    let rules = &state.rules;
    assert_eq!(rules.accounts.len(), rules.account_ids.len());
    assert!(rules.accounts.iter().all(|(id, it)| rules.account_ids.get(&it.name) == Some(id)));
    assert_eq!(rules.roles.len(), rules.role_ids.len());
    assert!(rules.roles.iter().all(|(id, it)| rules.role_ids.get(&it.name) == Some(id)));
    assert_eq!(state.secrets.len(), state.secret_ids.len());
    assert!(state.secrets.iter().all(|(id, it)| state.secret_ids.get(&it.name) == Some(id)));
    assert!(state.secrets.values().all(|it| it.newest().is_some()));
    assert_eq!(state.remembered.len(), state.remembered_at.len());
    let of_roles = rules.accounts.values().flat_map(|it| &it.roles);
    let of_bindings = rules.bindings.values().flatten();
    assert!(of_roles.chain(of_bindings).all(|role| rules.roles.contains_key(role)));
    assert!(rules.bindings.values().all(|roles| !roles.is_empty()));
}

/// Nothing is wrapped by what is not there, and somebody can let others in.
fn check_safety(state: &State) {
    let versions = state.secrets.values().flat_map(|it| it.versions.values());
    let of_versions = versions.map(|it| it.generation);
    let of_keys = state.signing.values().map(|it| it.private.generation);
    let of_hash_key = state.hash_key.iter().map(|it| it.generation);
    let mut all = of_versions.chain(of_keys).chain(of_hash_key);
    assert!(all.all(|number| state.generations.contains_key(&number)));
    assert!(state.signing_key().is_some());
    let manages = |id: &Id| {
        let caller = of_account(*id, None);
        decide::cluster(&caller, &state.rules, ClusterAction::ManageAccess).is_ok()
    };
    assert!(state.rules.accounts.keys().any(manages));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn rows_are_the_state_and_what_changes_is_told(proposals in proposals()) {
        let mut state = founded();
        let mut table = Table::default();
        table.take(state.rows());
        let mut follower = from_rows(state.rows(), state.index);
        prop_assert_eq!(&follower, &state);
        for proposal in &proposals {
            let before = state.clone();
            let applied = state.next(proposal);
            check_indices(&state);
            check_safety(&state);
            if applied.outcome.is_err() {
                let mut unchanged = before;
                unchanged.index = state.index;
                unchanged.remembered = state.remembered.clone();
                unchanged.remembered_at = state.remembered_at.clone();
                prop_assert_eq!(&unchanged, &state, "a refusal changes nothing");
            }
            for row in &applied.rows {
                follower.insert(row).unwrap();
            }
            follower.index = state.index;
            prop_assert_eq!(&follower, &state, "rows that are put in one by one");
            table.take(applied.rows);
        }
        let all: Vec<Row> = state.rows().collect();
        prop_assert!(all.is_sorted_by(|a, b| a.key < b.key));
        prop_assert_eq!(table.rows().collect::<Vec<_>>(), all.clone());
        prop_assert_eq!(from_rows(all.into_iter(), state.index), state);
    }

    #[test]
    fn all_nodes_come_to_the_same(proposals in proposals()) {
        let (mut here, mut there) = (founded(), founded());
        for proposal in &proposals {
            let sent = crate::model::cbor::encode(proposal);
            let received: Proposal = crate::model::cbor::decode(&sent).unwrap();
            // One of them has just come back with what it has on disk.
            there = from_rows(there.rows(), there.index);
            let (a, b) = (here.next(proposal), there.next(&received));
            prop_assert_eq!(a.outcome, b.outcome);
            prop_assert_eq!((a.replayed, a.rows, a.event), (b.replayed, b.rows, b.event));
        }
        prop_assert_eq!(here, there);
    }

    #[test]
    fn a_key_of_a_retry_does_its_work_at_most_once(proposals in proposals()) {
        let mut state = founded();
        for (i, one) in proposals.iter().enumerate() {
            let asked = retryable(one.clone(), 1_000 + i as u64, 1);
            let first = state.next(&asked);
            let after = state.clone();
            let again = state.next(&asked);
            if first.outcome.is_ok() {
                // Unless it shut its own caller out.
                let is_shut_out = matches!(again.outcome, Err(Refusal::Denied(_)));
                prop_assert!(again.replayed && again.outcome == first.outcome || is_shut_out);
                prop_assert_eq!(State { index: after.index, ..state.clone() }, after);
            }
        }
    }

    #[test]
    fn no_row_panics_the_reader(
        key in proptest::collection::vec(any::<u8>(), 0..40),
        value in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..60)),
        kind in 0..24_u8,
        proposals in proposals(),
        cut in 0..200_usize,
    ) {
        let mut state = founded();
        let _ = state.insert(&Row { key: key.clone(), value: value.clone() });
        let _ = state.insert(&Row { key: [&[kind][..], &key].concat(), value });
        for proposal in &proposals {
            for row in state.next(proposal).rows {
                let value = row.value.map(|value| value[..value.len().min(cut)].to_vec());
                let _ = State::default().insert(&Row { key: row.key, value });
            }
        }
    }
}
