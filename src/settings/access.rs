//! Who may do what: the keys whose tokens are trusted, and what each role stands for.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::{SettingsError, duration, refuse};
use crate::model::AccountName;

/// Most keys that can be trusted at once, those of one JWKS file counted singly.
pub(crate) const KEYS_MAX: usize = 64;

/// Who may do what.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AccessSettings {
    /// How far a token's `exp` and `nbf` may be off this node's clock. Default: 30s.
    #[serde(with = "duration")]
    pub leeway: Duration,
    /// How many verified tokens are remembered, so that a client's next request costs no
    /// signature check. Default: 10,000.
    pub token_cache_max: usize,
    /// The keys whose tokens are trusted. Default: none, and every request is answered 401.
    pub keys: Vec<KeySettings>,
    /// What a role in a token of [`AccessSettings::keys`] stands for on this node: a list of
    /// scopes. A role that is not named here is the cluster's role of that name. Default: none.
    pub roles: BTreeMap<String, Vec<String>>,
    /// What the cluster's own tokens say as `iss`; the same on all nodes. A URL lets others find
    /// the keys by discovery. Default: `holm:` and the cluster's name.
    pub issuer: Option<String>,
    /// What the cluster's own tokens say as `aud`; the same on all nodes. Default: `holm`.
    pub audience: String,
    /// Where clients reach this cluster, for discovery: `https://holm.example.com`. Default: the
    /// issuer where that is a URL, else what the request's `Host` says.
    pub public_url: Option<String>,
    /// How long the cluster's own tokens hold. Default: 15m.
    #[serde(with = "duration")]
    pub token_lifetime: Duration,
    /// How long after its last contact with a quorum a node goes on to issue tokens, for
    /// configurations alone. Default: 24h.
    #[serde(with = "duration")]
    pub island_token_max_age: Duration,
    /// How long a key signs tokens before a new one takes over. Default: 30d.
    #[serde(with = "duration")]
    pub signing_key_lifetime: Duration,
    /// The first account of a new cluster. Default: `admin`.
    pub administrator: AccountName,
    /// How old the rules may be by which a write of configurations is allowed: a node that has
    /// heard nothing of the quorum for longer refuses it. Default: none, because a region that is
    /// alone has to go on.
    #[serde(deserialize_with = "duration::optional")]
    pub max_policy_age: Option<Duration>,
}

impl Default for AccessSettings {
    fn default() -> Self {
        Self {
            leeway: Duration::from_secs(30),
            token_cache_max: 10_000,
            keys: Vec::new(),
            roles: BTreeMap::new(),
            issuer: None,
            audience: "holm".to_owned(),
            public_url: None,
            token_lifetime: Duration::from_secs(15 * 60),
            island_token_max_age: Duration::from_secs(24 * 3600),
            signing_key_lifetime: Duration::from_secs(30 * 24 * 3600),
            administrator: administrator(),
            max_policy_age: None,
        }
    }
}

fn administrator() -> AccountName {
    let Ok(name) = AccountName::new("admin") else { unreachable!("five letters are a name") };
    name
}

/// One issuer's key, or set of keys. Exactly one of `pem_file`, `jwks_file`, `pem`, `jwks` and
/// `jwks_url` says where it is.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KeySettings {
    /// A file with one public key in PEM.
    pub pem_file: Option<PathBuf>,
    /// A file with a JSON Web Key Set (RFC 7517).
    pub jwks_file: Option<PathBuf>,
    /// One public key in PEM.
    pub pem: Option<String>,
    /// A JSON Web Key Set.
    pub jwks: Option<String>,
    /// Where the issuer publishes its key set: https, or http to this machine. It is fetched again
    /// now and then, and kept on disk for a start without the issuer.
    pub jwks_url: Option<String>,
    /// The certificates that `jwks_url` trusts, in PEM; https needs them.
    pub jwks_ca_file: Option<PathBuf>,
    /// The same, as text.
    pub jwks_ca: Option<String>,
    /// What its tokens may be signed with; a token's own header never decides. Required; a key in
    /// PEM takes exactly one.
    pub algorithms: Vec<Algorithm>,
    /// Who a token must be meant for (`aud`). Required.
    pub audience: String,
    /// Who must have issued a token (`iss`). Default: not looked at.
    pub issuer: Option<String>,
    /// The `kid` of a key in PEM: tokens that name another are not its. Default: any.
    pub kid: Option<String>,
    /// The claim that lists roles; for a claim within a claim, `realm_access.roles`.
    /// Default: `roles`.
    pub roles_claim: Option<String>,
    /// The claim that names an account of the cluster, whose roles the token then has, too; for a
    /// claim within a claim as above. Default: none.
    pub account_claim: Option<String>,
    /// What its tokens' scopes do. Default: `narrow`.
    pub scopes: Scopes,
}

/// What the scopes of an issuer's tokens do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scopes {
    /// They narrow what the roles grant, and grant nothing.
    #[default]
    Narrow,
    /// They grant: the issuer is trusted to say what its clients may.
    Grant,
}

/// What a token may be signed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Algorithm {
    /// Ed25519 (RFC 8037).
    EdDSA,
    /// ECDSA on P-256 with SHA-256 (RFC 7518).
    ES256,
    /// RSASSA-PKCS1-v1_5 with SHA-256 (RFC 7518); keys of 2,048 bits or more.
    RS256,
}

impl AccessSettings {
    pub(super) fn check(&self) -> Result<(), SettingsError> {
        refuse(self.token_cache_max == 0, "access.token_cache_max", "may not be 0")?;
        refuse(self.keys.len() > KEYS_MAX, "access.keys", "are more than 64")?;
        refuse(self.audience.is_empty(), "access.audience", "may not be empty")?;
        let lifetime = self.token_lifetime;
        let fits =
            lifetime >= Duration::from_secs(30) && lifetime <= Duration::from_secs(24 * 3600);
        refuse(!fits, "access.token_lifetime", "has to be between 30s and 24h")?;
        refuse(
            self.signing_key_lifetime < Duration::from_secs(3600),
            "access.signing_key_lifetime",
            "may not be below 1h",
        )?;
        for (i, key) in self.keys.iter().enumerate() {
            key.check(&format!("access.keys[{i}]"))?;
        }
        Ok(())
    }
}

impl KeySettings {
    fn check(&self, field: &str) -> Result<(), SettingsError> {
        let pem = self.pem.is_some() || self.pem_file.is_some();
        let places = [
            self.pem.is_some(),
            self.pem_file.is_some(),
            self.jwks.is_some(),
            self.jwks_file.is_some(),
            self.jwks_url.is_some(),
        ];
        let places = places.into_iter().filter(|given| *given).count();
        refuse(places != 1, field, "needs one of pem_file, jwks_file, pem, jwks and jwks_url")?;
        if let Some(url) = &self.jwks_url {
            check_url(url).map_err(|reason| SettingsError::Value {
                field: format!("{field}.jwks_url"),
                reason: reason.to_owned(),
            })?;
            let has_ca = self.jwks_ca.is_some() || self.jwks_ca_file.is_some();
            let needs_ca = url.starts_with("https:") && !has_ca;
            refuse(needs_ca, field, "needs jwks_ca_file: the certificates that https trusts")?;
        }
        refuse(self.audience.is_empty(), field, "needs an audience")?;
        refuse(self.algorithms.is_empty(), field, "needs algorithms: EdDSA, ES256 or RS256")?;
        refuse(
            pem && self.algorithms.len() != 1,
            field,
            "is one key in PEM, which has exactly one algorithm",
        )?;
        refuse(!pem && self.kid.is_some(), field, "takes its kids from the key set")
    }
}

/// Keys that come over a plain connection are whoever's: http is for this machine alone.
fn check_url(text: &str) -> Result<(), &'static str> {
    let Some((scheme, rest)) = text.split_once("://") else { return Err("is no URL") };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    let is_own = host == "localhost"
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    match scheme {
        _ if authority.contains('@') => Err("may not have a user in it"),
        "https" if !host.is_empty() => Ok(()),
        "http" if is_own => Ok(()),
        "http" => Err("has to be https: over http anybody could put keys in"),
        _ => Err("has to begin with https://"),
    }
}
