//! Who may do what: the keys whose tokens are trusted, and what each role stands for.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::{SettingsError, duration, refuse};

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
    /// What a role in a token stands for: a list of scopes. A role named here replaces the
    /// built-in of that name (`access::roles`). Default: none beside the built-ins.
    pub roles: BTreeMap<String, Vec<String>>,
}

impl Default for AccessSettings {
    fn default() -> Self {
        Self {
            leeway: Duration::from_secs(30),
            token_cache_max: 10_000,
            keys: Vec::new(),
            roles: BTreeMap::new(),
        }
    }
}

/// One issuer's key, or set of keys. Exactly one of `pem_file`, `jwks_file`, `pem` and `jwks` says
/// where it is.
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
        ];
        let places = places.into_iter().filter(|given| *given).count();
        refuse(places != 1, field, "needs one of pem_file, jwks_file, pem and jwks")?;
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
