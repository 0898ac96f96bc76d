//! The decision, pure: a caller's grants and what it wants, in; a permit or the reason against,
//! out. A permit's fields are private and made here alone, so that whoever acts on one knows that
//! the decision was taken.

use std::collections::BTreeSet;

use super::account::{Account, Role};
use super::caller::{Caller, Identity};
use super::rules::Rules;
use super::scope::{ClusterAction, Glob, Grant, SecretAction, Wish};
use crate::model::{DocumentId, Key, SecretName, Stamp, Text};

/// Why a caller may not. For the answer and the log: it names what was wanted, and no one else's
/// grants.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Denied {
    /// In words.
    pub why: String,
}

/// Some keys of one document.
#[derive(Clone, Debug, PartialEq)]
enum Keys {
    Every,
    These(BTreeSet<Key>),
    /// Those that one glob of each list matches.
    Like(Vec<Vec<Glob>>),
}

impl Keys {
    fn include(&self, key: &Key) -> bool {
        match self {
            Self::Every => true,
            Self::These(keys) => keys.contains(key),
            Self::Like(lists) => {
                lists.iter().all(|any| any.iter().any(|glob| glob.matches(key.as_str())))
            }
        }
    }

    /// Those that are in both; never asked of single keys.
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Every, other) => other,
            (own, Self::Every) => own,
            (Self::Like(own), Self::Like(other)) => Self::Like([own, other].concat()),
            (own, _) => own,
        }
    }
}

/// Leave to read keys of one document.
#[derive(Clone, Debug)]
pub struct ReadPermit {
    principal: Text,
    document: DocumentId,
    grant: Text,
    keys: Keys,
}

/// Leave to write keys of one document.
#[derive(Clone, Debug)]
pub struct WritePermit {
    principal: Text,
    document: DocumentId,
    grant: Text,
    keys: Keys,
}

/// Leave to do one thing with the cluster as a whole.
#[derive(Clone, Debug)]
pub struct ClusterPermit {
    principal: Text,
    action: ClusterAction,
    grant: Text,
}

macro_rules! permit {
    ($type:ident) => {
        impl $type {
            /// Who it was given to.
            pub fn principal(&self) -> &Text {
                &self.principal
            }

            /// The document it is for.
            pub fn document(&self) -> &DocumentId {
                &self.document
            }

            /// The scopes that allowed it, as they were written.
            pub fn grant(&self) -> &Text {
                &self.grant
            }

            /// Whether it is for this key.
            pub fn includes(&self, key: &Key) -> bool {
                self.keys.include(key)
            }

            /// Whether it is for all keys of the document, also those that are still to come.
            pub fn includes_every_key(&self) -> bool {
                matches!(self.keys, Keys::Every)
            }
        }
    };
}

permit!(ReadPermit);

impl ReadPermit {
    /// Whether it is for the same keys, whichever grant allowed it.
    pub fn is_for_the_same_as(&self, other: &Self) -> bool {
        self.document == other.document && self.keys == other.keys
    }
}

permit!(WritePermit);

impl ClusterPermit {
    /// Who it was given to.
    pub fn principal(&self) -> &Text {
        &self.principal
    }

    /// What it allows.
    pub fn action(&self) -> ClusterAction {
        self.action
    }

    /// The grant that allowed it, as it was written.
    pub fn grant(&self) -> &Text {
        &self.grant
    }
}

/// Leave to do one thing with one secret.
#[derive(Clone, Debug)]
pub struct SecretPermit {
    principal: Text,
    action: SecretAction,
    name: SecretName,
    grant: Text,
}

impl SecretPermit {
    /// Who it was given to.
    pub fn principal(&self) -> &Text {
        &self.principal
    }

    /// What it allows.
    pub fn action(&self) -> SecretAction {
        self.action
    }

    /// On which secret.
    pub fn name(&self) -> &SecretName {
        &self.name
    }

    /// The grant that allowed it, as it was written.
    pub fn grant(&self) -> &Text {
        &self.grant
    }
}

/// Leave to see some secrets, without their values.
#[derive(Clone, Debug)]
pub struct SecretListPermit {
    grant: Text,
    globs: Vec<Vec<Glob>>,
}

impl SecretListPermit {
    /// The grants that allowed it, as they were written.
    pub fn grant(&self) -> &Text {
        &self.grant
    }

    /// Whether it is for this secret.
    pub fn includes(&self, name: &SecretName) -> bool {
        self.globs.iter().all(|any| any.iter().any(|glob| glob.matches(name.as_str())))
    }
}

/// What a caller's roles and its issuer grant, and what its token's scopes leave of that.
struct Standing<'a> {
    granted: Vec<&'a Grant>,
    narrowed: Option<&'a [Grant]>,
}

impl<'a> Standing<'a> {
    fn of(caller: &'a Caller, rules: &'a Rules) -> Self {
        if !is_known(caller, rules) {
            return Self { granted: Vec::new(), narrowed: None };
        }
        let roles = roles(caller, rules);
        let of_roles = roles.into_iter().flat_map(|role| &role.grants);
        let granted = caller.granted.iter().chain(of_roles).collect();
        Self { granted, narrowed: caller.narrowed.as_deref() }
    }

    /// The first grant that `allows`, if the token's scopes leave it.
    fn find(&self, allows: impl Fn(&Grant) -> bool) -> Option<&'a Grant> {
        if !self.narrowed.is_none_or(|scopes| scopes.iter().any(&allows)) {
            return None;
        }
        self.granted.iter().copied().find(|grant| allows(grant))
    }
}

/// The roles that the caller has by these rules; none where it is not known.
pub fn roles<'a>(caller: &'a Caller, rules: &'a Rules) -> Vec<&'a Role> {
    if !is_known(caller, rules) {
        return Vec::new();
    }
    let of_account = account(caller, rules).into_iter().flat_map(|account| &account.roles);
    let of_account = of_account.filter_map(|id| rules.roles.get(id));
    let of_issuer = match &caller.identity {
        Identity::Account(..) => &[][..],
        Identity::External(_, names) => names,
    };
    let of_issuer = of_issuer.iter().filter_map(|name| rules.role(name));
    of_account.chain(of_issuer).map(|role| &**role).collect()
}

/// The account that the caller is, if it is there.
fn account<'a>(caller: &Caller, rules: &'a Rules) -> Option<&'a Account> {
    let account = match &caller.identity {
        Identity::Account(id, _) => rules.accounts.get(id),
        Identity::External(name, _) => rules.account(name.as_ref()?),
    };
    account.map(|account| &**account)
}

/// Whether the caller is known at all: its account is there and enabled, and its credential was
/// not revoked. A token of one that is not is refused as if it were expired. Whom an external
/// issuer vouches for needs no account; one that is there and disabled shuts them out.
pub fn is_known(caller: &Caller, rules: &Rules) -> bool {
    let account = account(caller, rules);
    match &caller.identity {
        Identity::Account(_, credential) => account.is_some_and(|account| {
            let is_good = credential.is_none_or(|it| account.credentials.contains_key(&it));
            account.enabled && is_good
        }),
        Identity::External(..) => account.is_none_or(|account| account.enabled),
    }
}

/// Whether the caller is known, its token holds at `now`, and so does the credential that it was
/// issued for.
pub fn stands_at(caller: &Caller, rules: &Rules, now: Stamp) -> Result<(), Denied> {
    if !caller.holds_at(now) {
        return Err(Denied { why: "the caller's token is over".to_owned() });
    }
    if !is_known(caller, rules) {
        let why = "the caller's account is gone or disabled, or its credential was revoked";
        return Err(Denied { why: why.to_owned() });
    }
    let Identity::Account(_, Some(credential)) = &caller.identity else { return Ok(()) };
    let credential = account(caller, rules).and_then(|it| it.credentials.get(credential));
    match credential.and_then(|credential| credential.expires_at) {
        Some(expires_at) if expires_at <= now => {
            Err(Denied { why: "the caller's credential is expired".to_owned() })
        }
        _ => Ok(()),
    }
}

/// May the caller read this key?
pub fn read_key(
    caller: &Caller,
    rules: &Rules,
    document: &DocumentId,
    key: &Key,
) -> Result<ReadPermit, Denied> {
    let standing = Standing::of(caller, rules);
    let grant = find_key(&standing, Wish::Read, document, key)?;
    let keys = Keys::These(BTreeSet::from([key.clone()]));
    let (principal, document) = (caller.principal.clone(), document.clone());
    Ok(ReadPermit { principal, document, grant: grant.text().clone(), keys })
}

/// May the caller read in this document, and then which of its keys?
pub fn read_document(
    caller: &Caller,
    rules: &Rules,
    document: &DocumentId,
) -> Result<ReadPermit, Denied> {
    let (keys, grant) = some_keys(&Standing::of(caller, rules), Wish::Read, document)?;
    let (principal, document) = (caller.principal.clone(), document.clone());
    Ok(ReadPermit { principal, document, grant, keys })
}

/// May the caller write all of these keys? One that it may not is enough for a no.
pub fn write_keys<'a>(
    caller: &Caller,
    rules: &Rules,
    document: &DocumentId,
    keys: impl IntoIterator<Item = &'a Key>,
) -> Result<WritePermit, Denied> {
    let standing = Standing::of(caller, rules);
    let mut granted = BTreeSet::new();
    let mut texts: Vec<&Text> = Vec::new();
    for key in keys {
        let grant = find_key(&standing, Wish::Write, document, key)?;
        if !is_bound_to(caller, rules, document, key) {
            return Err(denied(&format!(
                "not write {document}/{key}: it is bound to roles that the caller has not"
            )));
        }
        if !texts.contains(&grant.text()) {
            texts.push(grant.text());
        }
        granted.insert(key.clone());
    }
    let (principal, document) = (caller.principal.clone(), document.clone());
    Ok(WritePermit { principal, document, grant: joined(&texts), keys: Keys::These(granted) })
}

/// May the caller write every key of this document, whatever it is called?
pub fn write_document(
    caller: &Caller,
    rules: &Rules,
    document: &DocumentId,
) -> Result<WritePermit, Denied> {
    let (keys, grant) = some_keys(&Standing::of(caller, rules), Wish::Write, document)?;
    if !matches!(keys, Keys::Every) {
        return Err(denied(&format!("write only some keys of {document}, not all")));
    }
    let mut bound = rules.bindings.iter().filter(|((bound, _), _)| bound == document);
    if let Some(((_, key), _)) =
        bound.find(|((_, key), _)| !is_bound_to(caller, rules, document, key))
    {
        return Err(denied(&format!(
            "not write all of {document}: {key} is bound to roles that the caller has not"
        )));
    }
    let (principal, document) = (caller.principal.clone(), document.clone());
    Ok(WritePermit { principal, document, grant, keys })
}

/// May the caller do this with the cluster as a whole?
pub fn cluster(
    caller: &Caller,
    rules: &Rules,
    action: ClusterAction,
) -> Result<ClusterPermit, Denied> {
    let grant = Standing::of(caller, rules).find(|grant| grant.allows_cluster(action));
    let grant = grant.ok_or_else(|| denied(&format!("not do this: it lacks {}", action.name())))?;
    Ok(ClusterPermit { principal: caller.principal.clone(), action, grant: grant.text().clone() })
}

/// May the caller do this with this secret?
pub fn secret(
    caller: &Caller,
    rules: &Rules,
    action: SecretAction,
    name: &SecretName,
) -> Result<SecretPermit, Denied> {
    let allows =
        |grant: &Grant| grant.secrets(action).is_some_and(|glob| glob.matches(name.as_str()));
    let grant = Standing::of(caller, rules).find(allows);
    let grant = grant.ok_or_else(|| denied(&format!("not {} the secret {name}", action.name())))?;
    let (principal, name) = (caller.principal.clone(), name.clone());
    Ok(SecretPermit { principal, action, name, grant: grant.text().clone() })
}

/// May the caller see any secrets, without values, and then which?
pub fn list_secrets(caller: &Caller, rules: &Rules) -> Result<SecretListPermit, Denied> {
    let standing = Standing::of(caller, rules);
    let (mut globs, mut texts) = (Vec::new(), Vec::new());
    for grant in &standing.granted {
        if let Some(glob) = grant.secrets(SecretAction::Read) {
            globs.push(glob.clone());
            texts.push(grant.text());
        }
    }
    let scopes = standing.narrowed.map(|scopes| {
        scopes.iter().filter_map(|grant| grant.secrets(SecretAction::Read)).cloned().collect()
    });
    if globs.is_empty() || scopes.as_ref().is_some_and(Vec::is_empty) {
        return Err(denied("not see secrets"));
    }
    let globs = [Some(globs), scopes].into_iter().flatten().collect();
    Ok(SecretListPermit { grant: joined(&texts), globs })
}

/// May the caller do this with any secret at all? The grant that says so: no permit, because it
/// names no secret.
pub fn some_secret(caller: &Caller, rules: &Rules, action: SecretAction) -> Result<Text, Denied> {
    let grant = Standing::of(caller, rules).find(|grant| grant.secrets(action).is_some());
    let grant = grant.ok_or_else(|| denied(&format!("not {} secrets", action.name())))?;
    Ok(grant.text().clone())
}

fn find_key<'a>(
    standing: &Standing<'a>,
    wish: Wish,
    document: &DocumentId,
    key: &Key,
) -> Result<&'a Grant, Denied> {
    let grant = standing.find(|grant| grant.covers(wish, document, key));
    grant.ok_or_else(|| denied(&format!("not {} {document}/{key}", verb(wish))))
}

/// Whether the configuration is bound to no role, or to one that the caller has.
fn is_bound_to(caller: &Caller, rules: &Rules, document: &DocumentId, key: &Key) -> bool {
    if rules.bindings.is_empty() {
        return true;
    }
    let Some(bound) = rules.bindings.get(&(document.clone(), key.clone())) else { return true };
    roles(caller, rules).iter().any(|role| bound.contains(&role.id))
}

/// The keys of the document that `grants` allow; none where they allow nothing there.
fn keys_of<'a>(
    grants: impl Iterator<Item = &'a Grant>,
    wish: Wish,
    document: &DocumentId,
) -> Option<(Keys, Text)> {
    let (mut globs, mut texts) = (Vec::new(), Vec::new());
    for grant in grants {
        match grant.keys(wish, document) {
            Some(keys) if keys.is_any() => return Some((Keys::Every, grant.text().clone())),
            Some(keys) => {
                globs.push(keys.clone());
                texts.push(grant.text());
            }
            None => {}
        }
    }
    (!globs.is_empty()).then(|| (Keys::Like(vec![globs]), joined(&texts)))
}

fn some_keys(
    standing: &Standing<'_>,
    wish: Wish,
    document: &DocumentId,
) -> Result<(Keys, Text), Denied> {
    let refused = || denied(&format!("not {} {document}", verb(wish)));
    let granted = keys_of(standing.granted.iter().copied(), wish, document);
    let (keys, text) = granted.ok_or_else(refused)?;
    let Some(scopes) = standing.narrowed else { return Ok((keys, text)) };
    let (scopes, _) = keys_of(scopes.iter(), wish, document).ok_or_else(refused)?;
    Ok((keys.and(scopes), text))
}

fn verb(wish: Wish) -> &'static str {
    match wish {
        Wish::Read => "read",
        Wish::Write => "write",
    }
}

fn denied(what: &str) -> Denied {
    Denied { why: format!("the caller may {what}") }
}

fn joined(texts: &[&Text]) -> Text {
    let texts: Vec<&str> = texts.iter().map(|text| &***text).collect();
    texts.join(" ").as_str().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(scopes: &[&str]) -> Caller {
        Caller {
            principal: "ada".into(),
            identity: Identity::External(None, Vec::new()),
            granted: scopes.iter().filter_map(|scope| Grant::parse(scope)).collect(),
            narrowed: None,
            issued_at: Stamp(0),
            from: Stamp(0),
            until: Stamp(1),
        }
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
        assert!(
            write_keys(&nobody, &Rules::default(), &document("web/dev"), &keys(&["a"])).is_err()
        );
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
            read_document(&all, &Rules::default(), &document("web/dev"))
                .unwrap()
                .includes_every_key()
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
}
