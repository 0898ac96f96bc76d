//! The decision, pure: a caller's grants and what it wants, in; a permit or the reason against,
//! out. A permit's fields are private and made here alone, so that whoever acts on one knows that
//! the decision was taken.

use std::collections::BTreeSet;

use super::scope::{Glob, Grant, Wish};
use crate::model::{DocumentId, Key, Stamp, Text};

/// Who calls: a verified token, read.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The token's subject.
    pub(super) principal: Text,
    /// What its scopes and roles allow.
    pub(super) grants: Vec<Grant>,
    /// From when on the token holds, leeway included.
    pub(super) from: Stamp,
    /// Until when it holds, leeway included.
    pub(super) until: Stamp,
}

impl Caller {
    /// The token's subject: the author of what it writes.
    pub fn principal(&self) -> &Text {
        &self.principal
    }

    /// Until when the token holds, leeway included: a watch ends then.
    pub fn until(&self) -> Stamp {
        self.until
    }

    /// Whether the token holds at this time.
    pub(super) fn holds_at(&self, now: Stamp) -> bool {
        self.from <= now && now < self.until
    }
}

/// Why a caller may not. For the answer and the log: it names what was wanted, and no one else's
/// grants.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Denied {
    /// In words.
    pub why: String,
}

/// Some keys of one document.
#[derive(Clone, Debug)]
enum Keys {
    Every,
    These(BTreeSet<Key>),
    Like(Vec<Glob>),
}

impl Keys {
    fn include(&self, key: &Key) -> bool {
        match self {
            Self::Every => true,
            Self::These(keys) => keys.contains(key),
            Self::Like(globs) => globs.iter().any(|glob| glob.matches(key.as_str())),
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

/// Leave to see the cluster's state.
#[derive(Clone, Debug)]
pub struct ClusterPermit {
    principal: Text,
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
permit!(WritePermit);

impl ClusterPermit {
    /// Who it was given to.
    pub fn principal(&self) -> &Text {
        &self.principal
    }

    /// The scope that allowed it, as it was written.
    pub fn grant(&self) -> &Text {
        &self.grant
    }
}

/// May the caller read this key?
pub fn read_key(caller: &Caller, document: &DocumentId, key: &Key) -> Result<ReadPermit, Denied> {
    let grant = find(caller, Wish::Read, document, key)?;
    let keys = match grant.keys(Wish::Read, document) {
        Some(glob) if glob.is_any() => Keys::Every,
        _ => Keys::These(BTreeSet::from([key.clone()])),
    };
    let (principal, document) = (caller.principal.clone(), document.clone());
    Ok(ReadPermit { principal, document, grant: grant.text().clone(), keys })
}

/// May the caller read in this document, and then which of its keys?
pub fn read_document(caller: &Caller, document: &DocumentId) -> Result<ReadPermit, Denied> {
    let (keys, grant) = some_keys(caller, Wish::Read, document)?;
    let (principal, document) = (caller.principal.clone(), document.clone());
    Ok(ReadPermit { principal, document, grant, keys })
}

/// May the caller write all of these keys? One that it may not is enough for a no.
pub fn write_keys<'a>(
    caller: &Caller,
    document: &DocumentId,
    keys: impl IntoIterator<Item = &'a Key>,
) -> Result<WritePermit, Denied> {
    let mut granted = BTreeSet::new();
    let mut texts: Vec<&Text> = Vec::new();
    for key in keys {
        let grant = find(caller, Wish::Write, document, key)?;
        if !texts.contains(&grant.text()) {
            texts.push(grant.text());
        }
        granted.insert(key.clone());
    }
    let (principal, document) = (caller.principal.clone(), document.clone());
    Ok(WritePermit { principal, document, grant: joined(&texts), keys: Keys::These(granted) })
}

/// May the caller write every key of this document, whatever it is called?
pub fn write_document(caller: &Caller, document: &DocumentId) -> Result<WritePermit, Denied> {
    match some_keys(caller, Wish::Write, document)? {
        (keys @ Keys::Every, grant) => {
            let (principal, document) = (caller.principal.clone(), document.clone());
            Ok(WritePermit { principal, document, grant, keys })
        }
        _ => Err(denied(&format!("write only some keys of {document}, not all"))),
    }
}

/// May the caller see the cluster's state?
pub fn read_cluster(caller: &Caller) -> Result<ClusterPermit, Denied> {
    let grant = caller.grants.iter().find(|grant| grant.reads_cluster());
    let grant = grant.ok_or_else(|| denied("not read the cluster: it lacks cluster:read"))?;
    Ok(ClusterPermit { principal: caller.principal.clone(), grant: grant.text().clone() })
}

fn find<'a>(
    caller: &'a Caller,
    wish: Wish,
    document: &DocumentId,
    key: &Key,
) -> Result<&'a Grant, Denied> {
    let grant = caller.grants.iter().find(|grant| grant.covers(wish, document, key));
    grant.ok_or_else(|| denied(&format!("not {} {document}/{key}", verb(wish))))
}

fn some_keys(caller: &Caller, wish: Wish, document: &DocumentId) -> Result<(Keys, Text), Denied> {
    let mut globs = Vec::new();
    let mut texts = Vec::new();
    for grant in &caller.grants {
        match grant.keys(wish, document) {
            Some(keys) if keys.is_any() => return Ok((Keys::Every, grant.text().clone())),
            Some(keys) => {
                globs.push(keys.clone());
                texts.push(grant.text());
            }
            None => {}
        }
    }
    if globs.is_empty() {
        return Err(denied(&format!("not {} {document}", verb(wish))));
    }
    Ok((Keys::Like(globs), joined(&texts)))
}

fn verb(wish: Wish) -> &'static str {
    match wish {
        Wish::Read => "read",
        Wish::Write => "write",
    }
}

fn denied(what: &str) -> Denied {
    Denied { why: format!("this token may {what}") }
}

fn joined(texts: &[&Text]) -> Text {
    let texts: Vec<&str> = texts.iter().map(|text| &***text).collect();
    texts.join(" ").as_str().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(scopes: &[&str]) -> Caller {
        let grants = scopes.iter().filter_map(|scope| Grant::parse(scope)).collect();
        Caller { principal: "ada".into(), grants, from: Stamp(0), until: Stamp(1) }
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
        assert!(read_document(&nobody, &document("web/dev")).is_err());
        assert!(write_document(&nobody, &document("web/dev")).is_err());
        assert!(write_keys(&nobody, &document("web/dev"), &keys(&["a"])).is_err());
        assert!(read_cluster(&nobody).is_err());
        assert!(read_cluster(&caller(&["config:*"])).is_err());
    }

    #[test]
    fn one_key_that_may_not_be_written_refuses_them_all() {
        let ada = caller(&["config:write:web/dev/feature.*", "config:write:web/dev/x"]);
        let permit = write_keys(&ada, &document("web/dev"), &keys(&["feature.a", "x"])).unwrap();
        assert_eq!(&**permit.grant(), "config:write:web/dev/feature.* config:write:web/dev/x");
        assert_eq!(&**permit.principal(), "ada");
        assert!(permit.includes(&keys(&["x"])[0]) && !permit.includes(&keys(&["feature.b"])[0]));
        let denied = write_keys(&ada, &document("web/dev"), &keys(&["feature.a", "y"]));
        assert_eq!(denied.unwrap_err().why, "this token may not write web/dev/y");
        assert!(write_document(&ada, &document("web/dev")).is_err());
        assert!(read_document(&ada, &document("web/dev")).is_err());
    }

    #[test]
    fn a_listing_shows_the_keys_of_all_grants() {
        let ada = caller(&["config:read:web/dev/a*", "config:read:web/dev/b*"]);
        let permit = read_document(&ada, &document("web/dev")).unwrap();
        assert!(!permit.includes_every_key());
        for (key, shown) in [("a1", true), ("b1", true), ("c1", false)] {
            assert_eq!(permit.includes(&keys(&[key])[0]), shown);
        }
        let all = caller(&["config:read:web/dev/a*", "config:read:web/*"]);
        assert!(read_document(&all, &document("web/dev")).unwrap().includes_every_key());
        assert!(write_document(&caller(&["config:*"]), &document("web/dev")).is_ok());
    }

    #[test]
    fn a_permit_for_one_key_is_for_no_other() {
        let ada = caller(&["config:read:web/dev/a*"]);
        let permit = read_key(&ada, &document("web/dev"), &keys(&["a1"])[0]).unwrap();
        assert!(permit.includes(&keys(&["a1"])[0]) && !permit.includes(&keys(&["a2"])[0]));
    }
}
