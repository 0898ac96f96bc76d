//! What one scope allows: an action on globs of service, environment and key.

use crate::model::{DocumentId, Key, Text};

/// Longest scope that is looked at, in bytes.
pub const SCOPE_LEN_MAX: usize = 512;
/// Most scopes of one token, its roles' included; further ones grant nothing.
pub const SCOPES_MAX: usize = 256;

/// One scope of one token, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// What it allows.
    allows: Allows,
    /// As it was written: for logs, answers and audit.
    text: Text,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Allows {
    Config {
        read: bool,
        write: bool,
        service: Glob,
        environment: Glob,
        key: Glob,
    },
    /// `None`: every action on secrets.
    Secret {
        action: Option<SecretAction>,
        name: Glob,
    },
    /// The cluster as a whole.
    Cluster(ClusterAction),
    /// What a later program knows.
    Unknown,
}

/// What a caller wants to do with a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretAction {
    /// See that it is there, its versions and who wrote them, never a value: `secrets:read`.
    Read,
    /// See its value: `secrets:reveal`.
    Reveal,
    /// Make it, or a new version of it: `secrets:write`.
    Write,
    /// Remove it: `secrets:delete`.
    Delete,
}

impl SecretAction {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Read, Self::Reveal, Self::Write, Self::Delete];

    /// As scopes write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Reveal => "reveal",
            Self::Write => "write",
            Self::Delete => "delete",
        }
    }
}

/// What a caller wants to do with the cluster as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterAction {
    /// See members, vectors, lag, leader: `cluster:read`.
    ReadCluster,
    /// Change voters, rotate keys: `cluster:manage`.
    ManageCluster,
    /// Take a copy of a node's stores, sealed values and all: `cluster:backup`.
    BackUp,
    /// See accounts, roles and bindings: `access:read`.
    ReadAccess,
    /// Change them: `access:manage`.
    ManageAccess,
    /// Read the audit log: `audit:read`.
    ReadAudit,
}

impl ClusterAction {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::ReadCluster,
        Self::ManageCluster,
        Self::BackUp,
        Self::ReadAccess,
        Self::ManageAccess,
        Self::ReadAudit,
    ];

    /// As scopes write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::ReadCluster => "cluster:read",
            Self::ManageCluster => "cluster:manage",
            Self::BackUp => "cluster:backup",
            Self::ReadAccess => "access:read",
            Self::ManageAccess => "access:manage",
            Self::ReadAudit => "audit:read",
        }
    }
}

/// What a caller wants to do with a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// See it.
    Read,
    /// Set or remove it.
    Write,
}

impl<C> minicbor::Encode<C> for Grant {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.str(&self.text)?.ok()
    }
}

impl<'b, C> minicbor::Decode<'b, C> for Grant {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        let text = d.str()?;
        // A later program's grant allows nothing here, and is kept as it is.
        Ok(Self::parse(text).unwrap_or_else(|| Self { allows: Allows::Unknown, text: text.into() }))
    }
}

impl Grant {
    /// Reads a scope; `None` where it is not one of ours, or damaged: it then grants nothing.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > SCOPE_LEN_MAX {
            return None;
        }
        if let Some(action) = ClusterAction::ALL.into_iter().find(|it| it.name() == text) {
            return Some(Self { allows: Allows::Cluster(action), text: text.into() });
        }
        let allows = match text.split_once(':')? {
            ("secrets", rest) => {
                let (action, name) = rest.split_once(':').unwrap_or((rest, "*"));
                let known = SecretAction::ALL.into_iter().find(|it| it.name() == action);
                if known.is_none() && action != "*" {
                    return None;
                }
                Allows::Secret { action: known, name: Glob::parse(name)? }
            }
            ("config", rest) => {
                let (action, target) = rest.split_once(':').unwrap_or((rest, "*"));
                let (read, write) = match action {
                    "read" => (true, false),
                    "write" => (false, true),
                    "*" => (true, true),
                    _ => return None,
                };
                let (service, environment, key) = target_globs(target)?;
                Allows::Config { read, write, service, environment, key }
            }
            _ => return None,
        };
        Some(Self { allows, text: text.into() })
    }

    /// Whether a scope is meant for this service, well-formed or not.
    pub fn is_ours(text: &str) -> bool {
        let kind = text.split_once(':').map(|(kind, _)| kind);
        matches!(kind, Some("config" | "secrets" | "access" | "audit" | "cluster"))
    }

    /// As it was written.
    pub fn text(&self) -> &Text {
        &self.text
    }

    /// Whether it allows `wish` on some keys of the document, and then on which.
    pub fn keys(&self, wish: Wish, document: &DocumentId) -> Option<&Glob> {
        let Allows::Config { read, write, service, environment, key } = &self.allows else {
            return None;
        };
        let allowed = match wish {
            Wish::Read => *read,
            Wish::Write => *write,
        };
        let here = service.matches(document.service.as_str())
            && environment.matches(document.environment.as_str());
        (allowed && here).then_some(key)
    }

    /// Whether it allows `wish` on this key.
    pub fn covers(&self, wish: Wish, document: &DocumentId, key: &Key) -> bool {
        self.keys(wish, document).is_some_and(|keys| keys.matches(key.as_str()))
    }

    /// Whether it allows `action` on the cluster.
    pub fn allows_cluster(&self, action: ClusterAction) -> bool {
        match &self.allows {
            Allows::Cluster(allowed) => *allowed == action,
            _ => false,
        }
    }

    /// On which secrets it allows `action`.
    pub fn secrets(&self, action: SecretAction) -> Option<&Glob> {
        match &self.allows {
            Allows::Secret { action: allowed, name }
                if allowed.is_none_or(|allowed| allowed == action) =>
            {
                Some(name)
            }
            _ => None,
        }
    }
}

fn target_globs(target: &str) -> Option<(Glob, Glob, Glob)> {
    if target == "*" {
        return Some((Glob::any(), Glob::any(), Glob::any()));
    }
    let mut parts = target.split('/');
    let service = Glob::parse(parts.next()?)?;
    let environment = Glob::parse(parts.next()?)?;
    let key = parts.next().map_or_else(|| Some(Glob::any()), Glob::parse)?;
    parts.next().is_none().then_some((service, environment, key))
}

/// A name in which `*` stands for any characters, none included.
#[derive(Clone, PartialEq, Eq)]
pub struct Glob(Text);

impl std::fmt::Debug for Glob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl Glob {
    /// The glob that matches every name.
    pub fn any() -> Self {
        Self("*".into())
    }

    /// Takes characters of names, and `*`; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let allowed = |c: u8| c.is_ascii_alphanumeric() || b"._-:*".contains(&c);
        (!text.is_empty() && text.bytes().all(allowed)).then(|| Self(text.into()))
    }

    /// As it was written.
    pub(super) fn text(&self) -> &Text {
        &self.0
    }

    /// Whether it matches every name.
    pub fn is_any(&self) -> bool {
        self.0.bytes().all(|c| c == b'*')
    }

    /// The one name that it matches, if it is one.
    pub fn exact(&self) -> Option<&Text> {
        (!self.0.contains('*')).then_some(&self.0)
    }

    /// Whether it matches this name. At most pattern × name steps, both of which are short.
    pub fn matches(&self, name: &str) -> bool {
        let (pattern, name) = (self.0.as_bytes(), name.as_bytes());
        let (mut p, mut n) = (0, 0);
        // Where the last star stands, and how much of the name it has taken so far.
        let mut star: Option<(usize, usize)> = None;
        while n < name.len() {
            if pattern.get(p) == Some(&b'*') {
                star = Some((p, n));
                p += 1;
            } else if pattern.get(p) == Some(&name[n]) {
                (p, n) = (p + 1, n + 1);
            } else if let Some((at, taken)) = star {
                star = Some((at, taken + 1));
                (p, n) = (at + 1, taken + 1);
            } else {
                return false;
            }
        }
        pattern[p..].iter().all(|c| *c == b'*')
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn document(text: &str) -> DocumentId {
        DocumentId::parse(text).unwrap()
    }

    fn key(text: &str) -> Key {
        Key::new(text).unwrap()
    }

    #[test]
    fn a_scope_allows_its_action_on_its_target_alone() {
        for (scope, read, write) in [
            ("config:read:web/dev", true, false),
            ("config:write:web/dev", false, true),
            ("config:*:web/dev", true, true),
            ("config:*", true, true),
            ("config:read", true, false),
            ("config:write:*", false, true),
            ("config:read:w*/d*v", true, false),
            ("config:read:web/dev/feature.*", true, false),
            ("config:read:web/dev/other.*", false, false),
            ("config:read:web/prod", false, false),
            ("config:read:webshop/dev", false, false),
            ("cluster:read", false, false),
        ] {
            let grant = Grant::parse(scope).unwrap();
            let covers = |wish| grant.covers(wish, &document("web/dev"), &key("feature.a"));
            assert_eq!((covers(Wish::Read), covers(Wish::Write)), (read, write), "{scope}");
            assert_eq!(&**grant.text(), scope);
        }
    }

    #[test]
    fn a_bad_scope_grants_nothing() {
        for bad in [
            "",
            "config",
            "config:",
            "config:delete:web/dev",
            "config:read:",
            "config:read:web",
            "config:read:/dev",
            "config:read:web/",
            "config:read:web/dev/",
            "config:read:web/dev/k/k",
            "config:read:we b/dev",
            "config:read:web/d%76v",
            "CONFIG:READ",
            "cluster:*",
            "cluster:write",
            "openid",
        ] {
            assert_eq!(Grant::parse(bad), None, "{bad:?}");
        }
        assert_eq!(Grant::parse(&format!("config:read:{}/x", "a".repeat(600))), None);
    }

    #[test]
    fn a_star_matches_any_characters() {
        for (glob, name, matches) in [
            ("*", "", true),
            ("a*", "a", true),
            ("*a", "ba", true),
            ("a*b*c", "aXbXbYc", true),
            ("a*b*c", "aXbXbY", false),
            ("a**b", "ab", true),
            ("a", "ab", false),
            ("ab", "a", false),
        ] {
            assert_eq!(Glob::parse(glob).unwrap().matches(name), matches, "{glob} {name}");
        }
    }

    /// The definition itself, slow and plain.
    fn matches_plainly(pattern: &[u8], name: &[u8]) -> bool {
        match pattern.split_first() {
            None => name.is_empty(),
            Some((b'*', rest)) => (0..=name.len()).any(|n| matches_plainly(rest, &name[n..])),
            Some((c, rest)) => name.first() == Some(c) && matches_plainly(rest, &name[1..]),
        }
    }

    proptest! {
        #[test]
        fn a_glob_matches_what_its_definition_says(glob in "[ab*]{1,8}", name in "[ab]{0,10}") {
            let expected = matches_plainly(glob.as_bytes(), name.as_bytes());
            prop_assert_eq!(Glob::parse(&glob).unwrap().matches(&name), expected);
        }

        #[test]
        fn no_text_panics_the_parser(text in ".{0,100}", tail in "[a-z:*/.]{0,30}") {
            let _ = Grant::parse(&text);
            let _ = Grant::parse(&format!("config:{tail}"));
        }
    }
}
