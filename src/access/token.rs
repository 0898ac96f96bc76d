//! Bearer tokens: JWTs (RFC 7519) signed with a key that the settings trust. What a key may sign
//! with is the settings' word, never the token's; a key that a token brings or points to is not
//! looked at. Time is an argument.
//!
//! A token that was verified once is remembered by its SHA-256 until it expires: the signature
//! check costs some 40 µs, the look-up less than one. Tokens themselves are not kept.

mod keys;

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use lru::LruCache;
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

pub use keys::{KeyError, KeySource};

use super::caller::{Caller, Identity};
use super::roles::Roles;
use super::scope::{Grant, SCOPES_MAX};
use super::standing::Memo;
use crate::model::{JsonText, Stamp};
use crate::settings::AccessSettings;
use keys::TrustedKey;

/// Longest token that is looked at, in bytes.
pub const TOKEN_LEN_MAX: usize = 8 * 1024;
/// Longest subject that is taken, in bytes: it is written into every entry.
pub const SUBJECT_LEN_MAX: usize = 255;

const CACHE_SHARDS: usize = 16;
const MICROS_PER_SECOND: u64 = 1_000_000;

/// Why a token is not taken. For the log alone: a client is told `Unauthorized` and no more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// There was none.
    #[error("no bearer token")]
    Missing,
    /// Longer than [`TOKEN_LEN_MAX`].
    #[error("the token is longer than 8 KiB")]
    TooLong,
    /// Not three parts of base64url, or their JSON is not that of a JWT.
    #[error("the token is malformed: {0}")]
    Malformed(&'static str),
    /// The header has a member that is refused, whatever it says.
    #[error("the token's header has {0}, which is refused")]
    Header(&'static str),
    /// No trusted key has this `kid`, or none takes the algorithm that the header names.
    #[error("no trusted key fits the token's algorithm and kid")]
    NoKey,
    /// The signature is not that of the key.
    #[error("the signature is wrong")]
    Signature,
    /// The issuer is not the key's.
    #[error("the token is from another issuer")]
    Issuer,
    /// The audience is not the key's, or there is none.
    #[error("the token is meant for another audience")]
    Audience,
    /// It has no `exp`.
    #[error("the token never expires")]
    NoExpiry,
    /// Its time is over.
    #[error("the token is expired")]
    Expired,
    /// Its time is still to come.
    #[error("the token is not valid yet")]
    NotYet,
    /// It has no `sub`, or one that is no name.
    #[error("the token has no usable subject")]
    Subject,
}

/// Verifies tokens, and remembers those that it has verified.
pub struct Verifier {
    keys: Vec<TrustedKey>,
    roles: Roles,
    leeway_micros: u64,
    cache: Vec<Mutex<LruCache<[u8; 32], Arc<Caller>>>>,
}

impl Verifier {
    /// A verifier that trusts the keys of `sources` (the settings' keys with their files' text).
    pub fn new(settings: &AccessSettings, sources: &[KeySource<'_>]) -> Result<Self, KeyError> {
        let roles = Roles::new(&settings.roles).map_err(KeyError::Role)?;
        let keys = keys::load(sources)?;
        let each = settings.token_cache_max.div_ceil(CACHE_SHARDS);
        let each = NonZeroUsize::new(each).unwrap_or(NonZeroUsize::MIN);
        let cache = (0..CACHE_SHARDS).map(|_| Mutex::new(LruCache::new(each))).collect();
        let leeway_micros = u64::try_from(settings.leeway.as_micros()).unwrap_or(u64::MAX);
        Ok(Self { keys, roles, leeway_micros, cache })
    }

    /// Whose token it is, if it holds at `now`; and whether it was remembered.
    pub fn verify(&self, token: &str, now: Stamp) -> Result<(Arc<Caller>, bool), TokenError> {
        if token.len() > TOKEN_LEN_MAX {
            return Err(TokenError::TooLong);
        }
        let digest: [u8; 32] = Sha256::digest(token).into();
        let shard = &self.cache[usize::from(digest[0]) % CACHE_SHARDS];
        let known = shard.lock().unwrap_or_else(PoisonError::into_inner).get(&digest).cloned();
        if let Some(caller) = known.filter(|caller| caller.holds_at(now)) {
            return Ok((caller, true));
        }
        let caller = Arc::new(self.verify_anew(token, now)?);
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        shard.put(digest, caller.clone());
        Ok((caller, false))
    }

    fn verify_anew(&self, token: &str, now: Stamp) -> Result<Caller, TokenError> {
        let (message, signature) =
            token.rsplit_once('.').ok_or(TokenError::Malformed("it has no signature"))?;
        let (header, payload) =
            message.split_once('.').ok_or(TokenError::Malformed("it has not three parts"))?;
        let header = Header::read(header)?;
        let signature = URL_SAFE_NO_PAD
            .decode(signature)
            .map_err(|_| TokenError::Malformed("the signature is not base64url"))?;
        // The reason given is that of the key that came furthest.
        let mut error = TokenError::NoKey;
        for key in self.keys.iter().filter(|key| key.fits(&header.alg, header.kid.as_deref())) {
            if !key.signed(message, &signature) {
                if error == TokenError::NoKey {
                    error = TokenError::Signature;
                }
                continue;
            }
            match self.read_claims(key, payload, now) {
                Ok(caller) => return Ok(caller),
                Err(reason) => error = reason,
            }
        }
        Err(error)
    }

    fn read_claims(
        &self,
        key: &TrustedKey,
        payload: &str,
        now: Stamp,
    ) -> Result<Caller, TokenError> {
        let claims = Claims::read(payload)?;
        if key.issuer.is_some() && claims.text("iss") != key.issuer.as_deref() {
            return Err(TokenError::Issuer);
        }
        if !claims.texts("aud").any(|audience| audience == key.audience) {
            return Err(TokenError::Audience);
        }
        let until = claims.time("exp")?.ok_or(TokenError::NoExpiry)?;
        let until = until.saturating_add(self.leeway_micros);
        let from = claims.time("nbf")?.unwrap_or(0).saturating_sub(self.leeway_micros);
        let printable = |text: &&str| {
            !text.is_empty() && text.len() <= SUBJECT_LEN_MAX && !text.contains(char::is_control)
        };
        let subject = claims.text("sub").filter(printable).ok_or(TokenError::Subject)?;
        let issued_at = claims.time("iat")?.unwrap_or(0);
        let scopes = claims.texts("scope").flat_map(str::split_ascii_whitespace);
        let scopes: Vec<Grant> = scopes.filter_map(Grant::parse).take(SCOPES_MAX).collect();
        let roles = claims.roles(&key.roles_claim);
        let roles = roles.flat_map(|role| self.roles.grants(role)).cloned();
        let caller = Caller {
            principal: subject.into(),
            identity: Identity::External(None, Vec::new()),
            granted: scopes.into_iter().chain(roles).take(SCOPES_MAX).collect(),
            narrowed: None,
            issued_at: Stamp(issued_at),
            from: Stamp(from),
            until: Stamp(until),
            memo: Memo::default(),
        };
        match caller.holds_at(now) {
            true => Ok(caller),
            false if now >= caller.until => Err(TokenError::Expired),
            false => Err(TokenError::NotYet),
        }
    }
}

/// The members of a JOSE header (RFC 7515) that matter here.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    typ: Option<String>,
    crit: Option<Value>,
    jku: Option<Value>,
    jwk: Option<Value>,
    x5u: Option<Value>,
    x5c: Option<Value>,
}

impl Header {
    fn read(part: &str) -> Result<Self, TokenError> {
        let json = decode_json(part)?;
        let header: Self = serde_json::from_str(json.as_str())
            .map_err(|_| TokenError::Malformed("the header is not that of a JWT"))?;
        for (name, member) in [
            ("crit", &header.crit),
            ("jku", &header.jku),
            ("jwk", &header.jwk),
            ("x5u", &header.x5u),
            ("x5c", &header.x5c),
        ] {
            if member.is_some() {
                return Err(TokenError::Header(name));
            }
        }
        let typ = header.typ.as_deref().unwrap_or("JWT").to_ascii_lowercase();
        match typ.strip_prefix("application/").unwrap_or(&typ) {
            "jwt" | "at+jwt" => Ok(header),
            _ => Err(TokenError::Header("a typ other than JWT")),
        }
    }
}

/// A JWT's payload: an object in which no name stands twice.
struct Claims(serde_json::Map<String, Value>);

impl Claims {
    fn read(part: &str) -> Result<Self, TokenError> {
        match decode_json(part)?.to_value() {
            Value::Object(claims) => Ok(Self(claims)),
            _ => Err(TokenError::Malformed("the claims are not an object")),
        }
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).and_then(Value::as_str)
    }

    /// A text, or a list of texts.
    fn texts(&self, name: &str) -> impl Iterator<Item = &str> {
        texts(self.0.get(name))
    }

    /// A claim by its name or, where none has it, by a path of names with dots.
    fn roles(&self, path: &str) -> impl Iterator<Item = &str> {
        let mut within = path.split('.');
        let first = within.next().and_then(|name| self.0.get(name));
        let nested = || within.try_fold(first?, |value, name| value.get(name));
        texts(self.0.get(path).or_else(nested)).flat_map(str::split_ascii_whitespace)
    }

    /// A NumericDate (RFC 7519, section 2) in microseconds, fractions of a second left out.
    fn time(&self, name: &str) -> Result<Option<u64>, TokenError> {
        let Some(value) = self.0.get(name) else { return Ok(None) };
        let wrong = TokenError::Malformed("a time is not a number of seconds");
        let seconds = match (value.as_u64(), value.as_f64()) {
            (Some(seconds), _) => seconds,
            // `as` saturates, and what is negative or no number was sorted out.
            (None, Some(seconds)) if seconds >= 0.0 => seconds as u64,
            _ => return Err(wrong),
        };
        Ok(Some(seconds.saturating_mul(MICROS_PER_SECOND)))
    }
}

fn texts(value: Option<&Value>) -> impl Iterator<Item = &str> {
    let list = value.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    value.and_then(Value::as_str).into_iter().chain(list.iter().filter_map(Value::as_str))
}

fn decode_json(part: &str) -> Result<JsonText, TokenError> {
    let bytes = URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|_| TokenError::Malformed("a part is not base64url"))?;
    let text = std::str::from_utf8(&bytes).ok().and_then(|text| JsonText::parse(text).ok());
    text.ok_or(TokenError::Malformed("a part is not JSON, or names a member twice"))
}

#[cfg(test)]
mod tests;
