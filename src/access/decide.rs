//! The decision, pure: a caller's grants and what it wants, in; a permit or the reason against,
//! out. A permit's fields are private and made here alone, so that whoever acts on one knows that
//! the decision was taken.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::account::Role;
use super::caller::{Caller, Identity};
use super::rules::Rules;
use super::scope::{ClusterAction, Glob, Grant, SecretAction, Wish};
use super::standing::{self, Globs, Here, Standing};
use crate::model::{DocumentId, Key, SecretName, Stamp, Text};
use crate::planted::{Bug, is_planted};

/// Most grants that a permit names.
const TEXTS_MAX: usize = 16;

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

/// The roles that the caller has by these rules; none where it is not known.
pub fn roles(caller: &Caller, rules: &Rules) -> Vec<Arc<Role>> {
    Standing::of(caller, rules).own_roles().to_vec()
}

/// Whether the caller is known at all: its account is there and enabled, and its credential was
/// not revoked. A token of one that is not is refused as if it were expired. Whom an external
/// issuer vouches for needs no account; one that is there and disabled shuts them out.
pub fn is_known(caller: &Caller, rules: &Rules) -> bool {
    standing::is_known(caller, rules)
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
    let credential = standing::account(caller, rules).and_then(|it| it.credentials.get(credential));
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
    let here = standing::here(caller, rules, Wish::Read, document);
    let grant = match find_key(&here, Wish::Read, document, key) {
        Err(_) if is_planted(Bug::PermitSkipped) => Text::from("none"),
        found => found?.clone(),
    };
    let keys = Keys::These(BTreeSet::from([key.clone()]));
    let (principal, document) = (caller.principal.clone(), document.clone());
    Ok(ReadPermit { principal, document, grant, keys })
}

/// May the caller read in this document, and then which of its keys?
pub fn read_document(
    caller: &Caller,
    rules: &Rules,
    document: &DocumentId,
) -> Result<ReadPermit, Denied> {
    let (keys, grant) = some_keys(caller, rules, Wish::Read, document)?;
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
    let here = standing::here(caller, rules, Wish::Write, document);
    let mut granted = BTreeSet::new();
    let mut texts: Vec<&Text> = Vec::new();
    for key in keys {
        let grant = find_key(&here, Wish::Write, document, key)?;
        if !is_bound_to(caller, rules, document, key) {
            return Err(denied(&format!(
                "not write {document}/{key}: it is bound to roles that the caller has not"
            )));
        }
        if !texts.contains(&grant) {
            texts.push(grant);
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
    let (keys, grant) = some_keys(caller, rules, Wish::Write, document)?;
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
    let grant = Standing::of(caller, rules).find(caller, |grant| grant.allows_cluster(action));
    let grant = grant.ok_or_else(|| denied(&format!("not do this: it lacks {}", action.name())))?;
    Ok(ClusterPermit { principal: caller.principal.clone(), action, grant })
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
    let grant = Standing::of(caller, rules).find(caller, allows);
    let grant = grant.ok_or_else(|| denied(&format!("not {} the secret {name}", action.name())))?;
    let (principal, name) = (caller.principal.clone(), name.clone());
    Ok(SecretPermit { principal, action, name, grant })
}

/// May the caller see any secrets, without values, and then which?
pub fn list_secrets(caller: &Caller, rules: &Rules) -> Result<SecretListPermit, Denied> {
    let standing = Standing::of(caller, rules);
    let (mut globs, mut texts) = (Vec::new(), Vec::new());
    for grant in standing.grants(caller) {
        if let Some(glob) = grant.secrets(SecretAction::Read) {
            globs.push(glob.clone());
            texts.push(grant.text());
        }
    }
    let scopes = caller.narrowed.as_ref().map(|scopes| {
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
    let allows = |grant: &Grant| grant.secrets(action).is_some();
    let grant = Standing::of(caller, rules).find(caller, allows);
    grant.ok_or_else(|| denied(&format!("not {} secrets", action.name())))
}

fn find_key<'a>(
    here: &'a Here,
    wish: Wish,
    document: &DocumentId,
    key: &Key,
) -> Result<&'a Text, Denied> {
    let grant = here.key(key.as_str());
    grant.ok_or_else(|| denied(&format!("not {} {document}/{key}", verb(wish))))
}

/// Whether the configuration is bound to no role, or to one that the caller has.
fn is_bound_to(caller: &Caller, rules: &Rules, document: &DocumentId, key: &Key) -> bool {
    if rules.bindings.is_empty() {
        return true;
    }
    let Some(bound) = rules.bindings.get(&(document.clone(), key.clone())) else { return true };
    Standing::of(caller, rules).own_roles().iter().any(|role| bound.contains(&role.id))
}

/// The keys that these are for, and the grants behind them; none where there are none.
fn keys_of(globs: &Globs) -> Option<(Keys, Text)> {
    if let Some(grant) = &globs.every {
        return Some((Keys::Every, grant.clone()));
    }
    let texts: Vec<&Text> = globs.some().iter().map(|(_, grant)| grant).collect();
    let globs: Vec<Glob> = globs.some().iter().map(|(glob, _)| glob.clone()).collect();
    (!globs.is_empty()).then(|| (Keys::Like(vec![globs]), joined(&texts)))
}

fn some_keys(
    caller: &Caller,
    rules: &Rules,
    wish: Wish,
    document: &DocumentId,
) -> Result<(Keys, Text), Denied> {
    let refused = || denied(&format!("not {} {document}", verb(wish)));
    let here = standing::here(caller, rules, wish, document);
    let (keys, text) = keys_of(&here.granted).ok_or_else(refused)?;
    let Some(scopes) = &here.narrowed else { return Ok((keys, text)) };
    let (scopes, _) = keys_of(scopes).ok_or_else(refused)?;
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

/// Grants as one text: it stands in logs and audit records, and a caller can have thousands.
fn joined(texts: &[&Text]) -> Text {
    let shown: Vec<&str> = texts.iter().take(TEXTS_MAX).map(|text| &***text).collect();
    let more = texts.len() - shown.len();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", shown.join(" ")).as_str().into()
}

#[cfg(test)]
mod tests;
