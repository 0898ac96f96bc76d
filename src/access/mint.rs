//! Making tokens: an Ed25519 key and JWTs signed with it, for the cluster's own tokens, for a
//! development cluster, for `holm token` and for tests. It keeps no key: it is handed one each time.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::crypto::rust_crypto::DEFAULT_PROVIDER;
use jsonwebtoken::jwk::EllipticCurve;
use jsonwebtoken::{Algorithm, EncodingKey};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

/// PKCS #8 (RFC 8410) before the 32 bytes of an Ed25519 private key.
const PRIVATE_PREFIX: [u8; 16] =
    [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
/// SubjectPublicKeyInfo (RFC 8410) before the 32 bytes of an Ed25519 public key.
const PUBLIC_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0];

/// An Ed25519 key that signs tokens. It is a secret: it cannot be printed or copied.
pub struct MintKey {
    key: EncodingKey,
    public: [u8; 32],
    kid: String,
}

/// The text is not an Ed25519 private key, or signing failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct MintError(String);

/// What a token says. Times are seconds since the Unix epoch.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Claims {
    /// Who it is.
    pub sub: String,
    /// Who it is meant for.
    pub aud: String,
    /// Who issued it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iss: Option<String>,
    /// What it allows, separated by spaces.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub scope: String,
    /// The roles of who it is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    /// When it was issued.
    pub iat: u64,
    /// Until when it holds.
    pub exp: u64,
}

impl MintKey {
    /// The key of these 32 bytes, which have to be random and stay secret.
    pub fn from_seed(seed: &[u8; 32]) -> Result<Self, MintError> {
        let der = [&PRIVATE_PREFIX[..], &seed[..]].concat();
        let public = (DEFAULT_PROVIDER.key_utils.ed_pub_components_from_private_key)(
            &der,
            &EllipticCurve::Ed25519,
        );
        let public = public.map_err(|e| MintError(e.to_string()))?;
        let public: [u8; 32] =
            public.try_into().map_err(|_| MintError("no Ed25519 public key".to_owned()))?;
        let kid = URL_SAFE_NO_PAD.encode(&Sha256::digest(public)[..9]);
        Ok(Self { key: EncodingKey::from_ed_der(&der), public, kid })
    }

    /// Reads [`MintKey::private_pem`], or what `openssl genpkey -algorithm ed25519` writes.
    pub fn from_pem(text: &str) -> Result<Self, MintError> {
        let wrong = || MintError("this is no Ed25519 private key in PEM (PKCS #8)".to_owned());
        let body = text.trim().strip_prefix("-----BEGIN PRIVATE KEY-----");
        let body = body.and_then(|body| body.strip_suffix("-----END PRIVATE KEY-----"));
        let body: String = body.ok_or_else(wrong)?.split_ascii_whitespace().collect();
        let der = STANDARD.decode(body).map_err(|_| wrong())?;
        let seed = der.strip_prefix(&PRIVATE_PREFIX).ok_or_else(wrong)?;
        Self::from_seed(seed.try_into().map_err(|_| wrong())?)
    }

    /// The private key in PEM, for a file that only its owner reads.
    pub fn private_pem(&self) -> String {
        pem("PRIVATE KEY", self.key.as_bytes())
    }

    /// The public key in PEM, for a node's settings.
    pub fn public_pem(&self) -> String {
        pem("PUBLIC KEY", &[&PUBLIC_PREFIX[..], &self.public].concat())
    }

    /// The public key as a JSON Web Key Set, for a node's settings.
    pub fn jwks(&self) -> String {
        let x = URL_SAFE_NO_PAD.encode(self.public);
        let key = serde_json::json!({"kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA",
            "kid": self.kid, "x": x});
        serde_json::json!({ "keys": [key] }).to_string()
    }

    /// The public key's 32 bytes.
    pub fn public(&self) -> &[u8; 32] {
        &self.public
    }

    /// What names this key in a token's header.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// A token that says this, usually [`Claims`].
    pub fn sign<T: Serialize>(&self, claims: &T) -> Result<String, MintError> {
        let header = serde_json::json!({"alg": "EdDSA", "kid": self.kid, "typ": "JWT"});
        self.sign_with_header(&header, claims)
    }

    /// A token with this header, whatever it says: for tests of those who read tokens.
    pub(crate) fn sign_with_header<T: Serialize>(
        &self,
        header: &serde_json::Value,
        claims: &T,
    ) -> Result<String, MintError> {
        let claims = serde_json::to_string(claims).map_err(|e| MintError(e.to_string()))?;
        let message =
            [header.to_string(), claims].map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
        let signer = (DEFAULT_PROVIDER.signer_factory)(&Algorithm::EdDSA, &self.key);
        let signer = signer.map_err(|e| MintError(e.to_string()))?;
        let signature = signer.try_sign(message.as_bytes());
        let signature = signature.map_err(|e| MintError(e.to_string()))?;
        Ok(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    // Ed25519 keys fit into one line of PEM's 64 characters.
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_back_as_written() {
        let key = MintKey::from_seed(&[7; 32]).unwrap();
        let again = MintKey::from_pem(&key.private_pem()).unwrap();
        assert_eq!(again.public_pem(), key.public_pem());
        assert_eq!(again.kid(), key.kid());
        assert!(MintKey::from_pem(&key.public_pem()).is_err());
        assert!(MintKey::from_pem("-----BEGIN PRIVATE KEY----------END PRIVATE KEY-----").is_err());
    }

    #[test]
    fn a_signature_is_the_one_of_rfc_8037() {
        // RFC 8037, appendix A.1 and A.4; its header has only `alg`, its payload is a text.
        let d = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A";
        let seed = URL_SAFE_NO_PAD.decode(d).unwrap();
        let key = MintKey::from_seed(seed.as_slice().try_into().unwrap()).unwrap();
        assert!(key.jwks().contains("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"));
        let signer = (DEFAULT_PROVIDER.signer_factory)(&Algorithm::EdDSA, &key.key).unwrap();
        let message = b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
        assert_eq!(
            URL_SAFE_NO_PAD.encode(signer.try_sign(message).unwrap()),
            "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
        );
    }
}
