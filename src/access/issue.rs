//! What a token of the cluster's own says: who, for whom, for how long, and what is left of what
//! was asked for where the node has no contact with a quorum. It decides; signing is the caller's.

use std::time::Duration;

use serde::Serialize;

use super::account::{Account, Credential};
use super::scope::{Grant, SCOPES_MAX};
use crate::model::{Id, Stamp};

/// Longest list of scopes that is taken, in bytes: a token has to fit into a header.
pub const SCOPE_TEXT_LEN_MAX: usize = 4 * 1024;
/// After how long without contact a node counts as an island.
pub const ISLAND_AFTER: Duration = Duration::from_secs(30);
/// What an island issues tokens for where nothing was asked for.
const ISLAND_SCOPE: &str = "config:*";

/// The terms that tokens are issued on.
#[derive(Clone, Debug)]
pub struct Terms {
    /// `iss`.
    pub issuer: String,
    /// `aud`.
    pub audience: String,
    /// How long they hold.
    pub lifetime: Duration,
    /// How long after the last contact with a quorum there are any.
    pub island_max_age: Duration,
}

/// What a token of the cluster's own says (RFC 7519, RFC 9068). Times are in seconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OwnClaims {
    /// Who issued it.
    pub iss: String,
    /// Whom it is meant for.
    pub aud: String,
    /// The account's id.
    pub sub: String,
    /// The account's name.
    pub account: String,
    /// The same, as other readers expect it.
    pub client_id: String,
    /// The credential that it was issued for.
    pub cid: String,
    /// What everything is narrowed to.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub scope: String,
    /// When it was issued.
    pub iat: u64,
    /// From when on it holds.
    pub nbf: u64,
    /// Until when it holds.
    pub exp: u64,
    /// Which token it is.
    pub jti: String,
}

/// Why there is no token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A scope that is none.
    #[error("{0:?} is no scope of this service")]
    Scope(String),
    /// Too many scopes, or too long.
    #[error("there are more scopes than fit into a token")]
    TooManyScopes,
    /// The node has no contact, and nothing that was asked for is for configurations.
    #[error("without contact with a quorum there are tokens for configurations alone")]
    IslandScope,
    /// The node has had no contact for too long.
    #[error("this node has had no contact with a quorum for too long")]
    IslandTooOld,
    /// The account, or the credential.
    #[error("the client is not known, or its secret is wrong")]
    Client,
}

/// Reads the scopes that were asked for: words of ours, each well-formed.
pub fn read_scopes(text: &str) -> Result<Vec<&str>, Refused> {
    if text.len() > SCOPE_TEXT_LEN_MAX {
        return Err(Refused::TooManyScopes);
    }
    let scopes: Vec<&str> = text.split_ascii_whitespace().collect();
    if scopes.len() > SCOPES_MAX {
        return Err(Refused::TooManyScopes);
    }
    match scopes.iter().find(|scope| Grant::parse(scope).is_none()) {
        Some(bad) => Err(Refused::Scope(bad.chars().take(100).collect())),
        None => Ok(scopes),
    }
}

/// What the token of an account says that has proved itself with `credential`.
pub fn claims(
    terms: &Terms,
    (account, credential): (&Account, &Credential),
    scopes: &[&str],
    contact_age: Duration,
    now: Stamp,
    token: Id,
) -> Result<OwnClaims, Refused> {
    let scope = match contact_age {
        age if age > terms.island_max_age.max(ISLAND_AFTER) => return Err(Refused::IslandTooOld),
        age if age > ISLAND_AFTER => island_scopes(scopes)?,
        _ => scopes.join(" "),
    };
    let lifetime = terms.lifetime.as_secs();
    let now_s = now.0 / 1_000_000;
    // A token does not outlive what it was issued for.
    let last = credential.expires_at.map_or(u64::MAX, |at| at.0 / 1_000_000);
    let exp = now_s.saturating_add(lifetime).min(last);
    if !account.enabled || exp <= now_s {
        return Err(Refused::Client);
    }
    Ok(OwnClaims {
        iss: terms.issuer.clone(),
        aud: terms.audience.clone(),
        sub: account.id.to_string(),
        account: account.name.to_string(),
        client_id: account.name.to_string(),
        cid: credential.id.to_string(),
        scope,
        iat: now_s,
        nbf: now_s,
        exp,
        jti: token.to_string(),
    })
}

/// What is left of these scopes on an island.
fn island_scopes(scopes: &[&str]) -> Result<String, Refused> {
    if scopes.is_empty() {
        return Ok(ISLAND_SCOPE.to_owned());
    }
    let left: Vec<&str> =
        scopes.iter().copied().filter(|scope| scope.starts_with("config:")).collect();
    match left.is_empty() {
        true => Err(Refused::IslandScope),
        false => Ok(left.join(" ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::AccountName;
    use std::collections::{BTreeMap, BTreeSet};

    const NOW: Stamp = Stamp(1_700_000_000_000_000);
    const HOUR: Duration = Duration::from_secs(3600);

    fn account() -> (Account, Credential) {
        let id = Id::from_u128(2);
        let credential = Credential { id, hash: "".into(), created_at: NOW, expires_at: None };
        let account = Account {
            id: Id::from_u128(1),
            name: AccountName::new("ci").unwrap(),
            enabled: true,
            roles: BTreeSet::new(),
            credentials: BTreeMap::from([(id, credential.clone())]),
            version: 1,
            created_at: NOW,
            updated_at: NOW,
        };
        (account, credential)
    }

    fn asked(scopes: &[&str], age: Duration) -> Result<OwnClaims, Refused> {
        asked_by(&account(), scopes, age)
    }

    fn asked_by(
        (account, credential): &(Account, Credential),
        scopes: &[&str],
        age: Duration,
    ) -> Result<OwnClaims, Refused> {
        let terms = Terms {
            issuer: "holm:test".to_owned(),
            audience: "holm".to_owned(),
            lifetime: Duration::from_secs(900),
            island_max_age: 24 * HOUR,
        };
        claims(&terms, (account, credential), scopes, age, NOW, Id::from_u128(3))
    }

    #[test]
    fn an_island_issues_tokens_for_configurations_alone_and_not_for_ever() {
        let connected = ISLAND_AFTER;
        let both = ["secrets:reveal", "config:read:web/*"];
        let scope = |scopes: &[&str], age| asked(scopes, age).map(|claims| claims.scope);
        assert_eq!(scope(&[], connected), Ok(String::new()));
        assert_eq!(scope(&both, connected), Ok(both.join(" ")));
        assert_eq!(scope(&[], HOUR), Ok("config:*".to_owned()));
        assert_eq!(scope(&both, HOUR), Ok("config:read:web/*".to_owned()));
        assert_eq!(scope(&both[..1], HOUR), Err(Refused::IslandScope));
        assert!(scope(&[], 24 * HOUR).is_ok());
        assert_eq!(scope(&[], 24 * HOUR + Duration::from_secs(1)), Err(Refused::IslandTooOld));
    }

    #[test]
    fn a_token_does_not_outlive_its_credential() {
        let mut account = account();
        assert_eq!(asked_by(&account, &[], Duration::ZERO).unwrap().exp, 1_700_000_900);
        account.1.expires_at = Some(Stamp(NOW.0 + 60_000_000));
        assert_eq!(asked_by(&account, &[], Duration::ZERO).unwrap().exp, 1_700_000_060);
        account.1.expires_at = Some(NOW);
        assert_eq!(asked_by(&account, &[], Duration::ZERO), Err(Refused::Client));
        account.1.expires_at = None;
        account.0.enabled = false;
        assert_eq!(asked_by(&account, &[], Duration::ZERO), Err(Refused::Client));
    }

    #[test]
    fn scopes_that_are_none_are_refused_by_name() {
        assert_eq!(read_scopes(" config:read  secrets:read:a* ").unwrap().len(), 2);
        assert_eq!(read_scopes("config:reed"), Err(Refused::Scope("config:reed".to_owned())));
        assert_eq!(read_scopes("openid"), Err(Refused::Scope("openid".to_owned())));
        assert_eq!(read_scopes(&"a".repeat(5000)), Err(Refused::TooManyScopes));
        assert_eq!(read_scopes(&"config:* ".repeat(300)), Err(Refused::TooManyScopes));
    }
}
