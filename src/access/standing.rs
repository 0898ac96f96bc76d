//! What a caller stands for by the rules of a moment: worked out once, and kept with the caller as
//! long as the rules are the same. A caller with a thousand roles asks for the same few documents
//! over and over; what its grants come to there is looked up, not gone through again.
//!
//! It decides nothing: `decide` does.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use imbl::OrdMap;

use super::account::{Account, Role};
use super::caller::{Caller, Identity};
use super::patterns::Patterns;
use super::rules::Rules;
use super::scope::{Glob, Grant, Wish};
use crate::model::{AccountName, DocumentId, Id, RoleName, Text};

/// Most documents that are kept for one caller; past it all are forgotten.
const DOCUMENTS_MAX: usize = 64;

/// A caller's standing, as it was worked out last. No part of what the caller is: copies start
/// without, and all are equal.
#[derive(Default)]
pub(super) struct Memo(ArcSwapOption<Standing>);

impl Clone for Memo {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl PartialEq for Memo {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Memo {}

impl std::fmt::Debug for Memo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Memo")
    }
}

/// What a caller stands for by some rules.
#[derive(Clone)]
pub(super) struct Standing {
    /// The rules it was worked out by. Kept, so that no others can come to lie in their place.
    accounts: OrdMap<Id, Arc<Account>>,
    account_ids: OrdMap<AccountName, Id>,
    roles: OrdMap<Id, Arc<Role>>,
    role_ids: OrdMap<RoleName, Id>,
    is_known: bool,
    own: Vec<Arc<Role>>,
    reads: OrdMap<DocumentId, Arc<Here>>,
    writes: OrdMap<DocumentId, Arc<Here>>,
}

/// What a caller may do with one document's keys: what it is granted, and what its token's scopes
/// leave of that.
pub(super) struct Here {
    pub(super) granted: Globs,
    pub(super) narrowed: Option<Globs>,
}

/// Keys of one document, by the grants that allow them.
#[derive(Default)]
pub(super) struct Globs {
    /// A grant for every key.
    pub(super) every: Option<Text>,
    /// All others, in their order.
    all: Vec<(Glob, Text)>,
    /// Those of them that name one key, by it.
    exact: BTreeMap<Text, usize>,
    /// Those that do not.
    patterns: Patterns,
}

impl Standing {
    /// How the caller stands by these rules.
    pub(super) fn of(caller: &Caller, rules: &Rules) -> Arc<Self> {
        let known = caller.memo.0.load_full();
        if let Some(known) = known.filter(|known| known.is_by(rules)) {
            return known;
        }
        let is_known = is_known(caller, rules);
        let standing = Arc::new(Self {
            accounts: rules.accounts.clone(),
            account_ids: rules.account_ids.clone(),
            roles: rules.roles.clone(),
            role_ids: rules.role_ids.clone(),
            is_known,
            own: if is_known { roles(caller, rules) } else { Vec::new() },
            reads: OrdMap::new(),
            writes: OrdMap::new(),
        });
        caller.memo.0.store(Some(standing.clone()));
        standing
    }

    fn is_by(&self, rules: &Rules) -> bool {
        self.accounts.ptr_eq(&rules.accounts)
            && self.account_ids.ptr_eq(&rules.account_ids)
            && self.roles.ptr_eq(&rules.roles)
            && self.role_ids.ptr_eq(&rules.role_ids)
    }

    /// The roles that it has; none where it is not known.
    pub(super) fn own_roles(&self) -> &[Arc<Role>] {
        &self.own
    }

    /// What it is granted: by its issuer, then by its roles.
    pub(super) fn grants<'a>(&'a self, caller: &'a Caller) -> impl Iterator<Item = &'a Grant> {
        let by_issuer = if self.is_known { &caller.granted[..] } else { &[] };
        by_issuer.iter().chain(self.own.iter().flat_map(|role| &role.grants))
    }

    /// The first grant that `allows`, if the token's scopes leave it.
    pub(super) fn find(&self, caller: &Caller, allows: impl Fn(&Grant) -> bool) -> Option<Text> {
        let scopes = caller.narrowed.as_deref();
        if !scopes.is_none_or(|scopes| scopes.iter().any(&allows)) {
            return None;
        }
        self.grants(caller).find(|grant| allows(grant)).map(|grant| grant.text().clone())
    }
}

/// What the caller may do with this document's keys.
pub(super) fn here(caller: &Caller, rules: &Rules, wish: Wish, document: &DocumentId) -> Arc<Here> {
    let standing = Standing::of(caller, rules);
    let known = match wish {
        Wish::Read => &standing.reads,
        Wish::Write => &standing.writes,
    };
    if let Some(here) = known.get(document) {
        return here.clone();
    }
    let here = Arc::new(Here {
        granted: Globs::of(standing.grants(caller), wish, document),
        narrowed: caller.narrowed.as_deref().map(|it| Globs::of(it.iter(), wish, document)),
    });
    let mut next = Standing::clone(&standing);
    let known = match wish {
        Wish::Read => &mut next.reads,
        Wish::Write => &mut next.writes,
    };
    if known.len() >= DOCUMENTS_MAX {
        known.clear();
    }
    known.insert(document.clone(), here.clone());
    // Where two do this at once, one of them is done again.
    caller.memo.0.store(Some(Arc::new(next)));
    here
}

impl Here {
    /// The grant that allows this key.
    pub(super) fn key(&self, key: &str) -> Option<&Text> {
        let is_left = self.narrowed.as_ref().is_none_or(|scopes| scopes.key(key).is_some());
        if is_left { self.granted.key(key) } else { None }
    }
}

impl Globs {
    fn of<'a>(grants: impl Iterator<Item = &'a Grant>, wish: Wish, document: &DocumentId) -> Self {
        let mut globs = Self::default();
        let mut patterns = Vec::new();
        for grant in grants {
            match grant.keys(wish, document) {
                Some(keys) if keys.is_any() => {
                    // Whatever else there is adds nothing.
                    return Self { every: Some(grant.text().clone()), ..Self::default() };
                }
                Some(keys) => {
                    let at = globs.all.len();
                    globs.all.push((keys.clone(), grant.text().clone()));
                    match keys.exact() {
                        Some(key) => {
                            globs.exact.entry(key.clone()).or_insert(at);
                        }
                        None => patterns.push(at),
                    }
                }
                None => {}
            }
        }
        globs.patterns = Patterns::new(patterns.into_iter().map(|at| (at, &globs.all[at].0)));
        globs
    }

    fn key(&self, key: &str) -> Option<&Text> {
        if self.every.is_some() {
            return self.every.as_ref();
        }
        let exact = self.exact.get(key).copied();
        let pattern = || self.patterns.first(key, |at| self.all[at].0.matches(key));
        exact.or_else(pattern).map(|at| &self.all[at].1)
    }

    /// Those that are not for every key, with the grants behind them.
    pub(super) fn some(&self) -> &[(Glob, Text)] {
        &self.all
    }
}

/// The account that the caller is, if it is there.
pub(super) fn account<'a>(caller: &Caller, rules: &'a Rules) -> Option<&'a Account> {
    let account = match &caller.identity {
        Identity::Account(id, _) => rules.accounts.get(id),
        Identity::External(name, _) => rules.account(name.as_ref()?),
    };
    account.map(|account| &**account)
}

/// Whether the caller is known at all: see `decide::is_known`.
pub(super) fn is_known(caller: &Caller, rules: &Rules) -> bool {
    let account = account(caller, rules);
    match &caller.identity {
        Identity::Account(_, credential) => account.is_some_and(|account| {
            let is_good = credential.is_none_or(|it| account.credentials.contains_key(&it));
            account.enabled && is_good
        }),
        Identity::External(..) => account.is_none_or(|account| account.enabled),
    }
}

fn roles(caller: &Caller, rules: &Rules) -> Vec<Arc<Role>> {
    let of_account = account(caller, rules).into_iter().flat_map(|account| &account.roles);
    let of_account = of_account.filter_map(|id| rules.roles.get(id));
    let of_issuer = match &caller.identity {
        Identity::Account(..) => &[][..],
        Identity::External(_, names) => names,
    };
    let of_issuer = of_issuer.iter().filter_map(|name| rules.role(name));
    of_account.chain(of_issuer).cloned().collect()
}
