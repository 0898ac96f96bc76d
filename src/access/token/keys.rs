//! The keys that are trusted, each with what it may sign with and what its tokens must say. A key
//! that cannot be used is an error at the start, not at the first request.

use jsonwebtoken::crypto::rust_crypto::DEFAULT_PROVIDER;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse};
use jsonwebtoken::{AlgorithmFamily, DecodingKey};
use serde_json::Value;

use crate::settings::{Algorithm, KEYS_MAX, KeySettings, Scopes};

/// Shortest RSA modulus that is taken, in bytes (2,048 bits).
const RSA_MODULUS_LEN_MIN: usize = 256;

/// One entry of the settings' keys, with the text of the file that it names.
pub struct KeySource<'a> {
    /// What the settings say about it.
    pub settings: &'a KeySettings,
    /// The PEM or JWKS text, wherever it came from.
    pub text: &'a str,
}

/// Why the keys of the settings cannot be used. Nothing was started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Key number `at` of the settings, counted from 0.
    #[error("access.keys[{at}]: {reason}")]
    Key {
        /// Which.
        at: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// A role's scopes.
    #[error("access.roles: {0}")]
    Role(String),
}

/// A key that is trusted.
pub(super) struct TrustedKey {
    key: DecodingKey,
    algorithm: Algorithm,
    kid: Option<String>,
    pub(super) issuer: Option<String>,
    pub(super) audience: String,
    pub(super) roles_claim: String,
    pub(super) account_claim: Option<String>,
    pub(super) scopes: Scopes,
}

impl TrustedKey {
    /// Whether a token with this header can be this key's.
    pub(super) fn fits(&self, alg: &str, kid: Option<&str>) -> bool {
        let kid_fits = match (self.kid.as_deref(), kid) {
            (Some(own), Some(named)) => own == named,
            _ => true,
        };
        alg == name(self.algorithm) && kid_fits
    }

    /// Whether the signature of `message` is this key's, with this key's algorithm.
    pub(super) fn signed(&self, message: &str, signature: &[u8]) -> bool {
        let verifier = (DEFAULT_PROVIDER.verifier_factory)(&library(self.algorithm), &self.key);
        verifier.is_ok_and(|it| it.verify(message.as_bytes(), &signature.to_vec()).is_ok())
    }
}

fn name(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::EdDSA => "EdDSA",
        Algorithm::ES256 => "ES256",
        Algorithm::RS256 => "RS256",
    }
}

fn library(algorithm: Algorithm) -> jsonwebtoken::Algorithm {
    match algorithm {
        Algorithm::EdDSA => jsonwebtoken::Algorithm::EdDSA,
        Algorithm::ES256 => jsonwebtoken::Algorithm::ES256,
        Algorithm::RS256 => jsonwebtoken::Algorithm::RS256,
    }
}

/// Reads the keys of one source, and tries each.
pub(super) fn load(settings: &KeySettings, text: &str) -> Result<Vec<TrustedKey>, String> {
    let is_set =
        settings.jwks.is_some() || settings.jwks_file.is_some() || settings.jwks_url.is_some();
    let found = if is_set {
        read_jwks(text, &settings.algorithms)?
    } else {
        let one = settings.algorithms.first().copied();
        let algorithm = one.ok_or_else(|| "has no algorithm".to_owned())?;
        vec![(settings.kid.clone(), algorithm, read_pem(text, algorithm)?)]
    };
    if found.len() > KEYS_MAX {
        return Err(format!("has more than {KEYS_MAX} keys"));
    }
    let trusted = |(kid, algorithm, key)| TrustedKey {
        key,
        algorithm,
        kid,
        issuer: settings.issuer.clone(),
        audience: settings.audience.clone(),
        roles_claim: settings.roles_claim.clone().unwrap_or_else(|| "roles".to_owned()),
        account_claim: settings.account_claim.clone(),
        scopes: settings.scopes,
    };
    Ok(found.into_iter().map(trusted).collect())
}

/// Whether the signature of `message` is that of an Ed25519 key.
pub(super) fn ed25519_signed(public: &[u8; 32], message: &str, signature: &[u8]) -> bool {
    let key = DecodingKey::from_ed_der(public);
    let verifier = (DEFAULT_PROVIDER.verifier_factory)(&jsonwebtoken::Algorithm::EdDSA, &key);
    verifier.is_ok_and(|it| it.verify(message.as_bytes(), &signature.to_vec()).is_ok())
}

fn read_pem(text: &str, algorithm: Algorithm) -> Result<DecodingKey, String> {
    // The library would take a private key's file, too; a node has no business with one.
    if text.contains("PRIVATE KEY") {
        return Err("is a private key; the node needs the public one".to_owned());
    }
    let key = match algorithm {
        Algorithm::EdDSA => DecodingKey::from_ed_pem(text.as_bytes()),
        Algorithm::ES256 => DecodingKey::from_ec_pem(text.as_bytes()),
        Algorithm::RS256 => DecodingKey::from_rsa_pem(text.as_bytes()),
    };
    let key = key.map_err(|e| format!("is no {} public key in PEM: {e}", name(algorithm)))?;
    try_out(&key, algorithm)?;
    Ok(key)
}

type Found = (Option<String>, Algorithm, DecodingKey);

fn read_jwks(text: &str, allowed: &[Algorithm]) -> Result<Vec<Found>, String> {
    let set: Value = serde_json::from_str(text).map_err(|e| format!("is no key set: {e}"))?;
    let list = set.get("keys").and_then(Value::as_array);
    let list = list.ok_or_else(|| "is no key set: it has no list `keys`".to_owned())?;
    let mut found = Vec::new();
    for (i, jwk) in list.iter().enumerate() {
        // RFC 7517, section 5: keys of a kind that is not understood are passed over.
        let Ok(jwk) = serde_json::from_value::<Jwk>(jwk.clone()) else { continue };
        let Some(algorithm) = algorithm_of(&jwk).filter(|it| allowed.contains(it)) else {
            continue;
        };
        let key = DecodingKey::from_jwk(&jwk).map_err(|e| format!("key {i}: {e}"))?;
        try_out(&key, algorithm).map_err(|e| format!("key {i} {e}"))?;
        found.push((jwk.common.key_id, algorithm, key));
    }
    match found.is_empty() {
        true => Err("has no key for the allowed algorithms".to_owned()),
        false => Ok(found),
    }
}

/// What the key signs with, by its own kind; `None` where that is nothing we take, or where the
/// key says that it is for something else.
fn algorithm_of(jwk: &Jwk) -> Option<Algorithm> {
    let algorithm = match &jwk.algorithm {
        AlgorithmParameters::OctetKeyPair(it) if it.curve == EllipticCurve::Ed25519 => {
            Algorithm::EdDSA
        }
        AlgorithmParameters::EllipticCurve(it) if it.curve == EllipticCurve::P256 => {
            Algorithm::ES256
        }
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        _ => return None,
    };
    let signs = matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature));
    let stated = jwk.common.key_algorithm.map(|stated| stated.to_string());
    let agrees = stated.is_none_or(|stated| stated == name(algorithm));
    (signs && agrees).then_some(algorithm)
}

/// Whether the key can be used: the library looks at some of it only when it verifies, and would
/// panic at an Ed25519 key that is too short.
fn try_out(key: &DecodingKey, algorithm: Algorithm) -> Result<(), String> {
    let bytes = key.try_get_as_bytes().ok();
    if key.family() == AlgorithmFamily::Ed && bytes.is_none_or(|bytes| bytes.len() != 32) {
        return Err("is no Ed25519 key: it has not 32 bytes".to_owned());
    }
    if key.family() == AlgorithmFamily::Rsa {
        let modulus = match key.kind() {
            jsonwebtoken::DecodingKeyKind::RsaModulusExponent { n, .. } => n.clone(),
            jsonwebtoken::DecodingKeyKind::SecretOrDer(der) => {
                let parts = (DEFAULT_PROVIDER.key_utils.rsa_pub_components_from_public_key)(der);
                parts.map_err(|e| format!("is no RSA public key: {e}"))?.0
            }
        };
        let len = modulus.iter().skip_while(|byte| **byte == 0).count();
        if len < RSA_MODULUS_LEN_MIN {
            return Err(format!("is an RSA key of {} bits; at least 2048 are needed", len * 8));
        }
    }
    (DEFAULT_PROVIDER.verifier_factory)(&library(algorithm), key)
        .map(|_| ())
        .map_err(|e| format!("is no {} key: {e}", name(algorithm)))
}
