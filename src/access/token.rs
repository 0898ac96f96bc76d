//! Bearer tokens: JWTs (RFC 7519) signed with a key of the cluster's own, or with one that the
//! settings trust. What a key may sign with is the settings' word, never the token's; a key that a
//! token brings or points to is not looked at. Time is an argument, and so are the cluster's keys.
//!
//! A token that was verified once is remembered by its SHA-256 until it expires: the signature
//! check costs some 40 µs, the look-up less than one. Tokens themselves are not kept. What is
//! remembered holds only as long as the key that it was verified with is trusted.

mod keys;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use lru::LruCache;
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::sync::Notify;

pub use keys::{KeyError, KeySource};

use super::account::ACCOUNT_ROLES_MAX;
use super::caller::{Caller, Identity};
use super::roles::Roles;
use super::scope::{Grant, SCOPES_MAX};
use super::standing::Memo;
use crate::model::{AccountName, Id, JsonText, RoleName, Stamp, Text};
use crate::settings::{AccessSettings, KEYS_MAX, KeySettings, Scopes};
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
    /// Its account is gone or disabled, or the credential that it was issued for was revoked.
    #[error("the token's account is gone or disabled, or its credential was revoked")]
    Revoked,
}

/// The public keys of the cluster's own, as they are now.
pub trait OwnKeys {
    /// The Ed25519 key of this `kid`, if its tokens are taken.
    fn public(&self, kid: &Text) -> Option<[u8; 32]>;
}

impl OwnKeys for BTreeMap<Text, [u8; 32]> {
    fn public(&self, kid: &Text) -> Option<[u8; 32]> {
        self.get(kid).copied()
    }
}

/// Verifies tokens, and remembers those that it has verified.
pub struct Verifier {
    issuer: String,
    audience: String,
    sources: Vec<Source>,
    roles: Roles,
    leeway_micros: u64,
    cache: Vec<Mutex<LruCache<[u8; 32], Known>>>,
    unknown_kid: Notify,
}

/// The keys of one entry of the settings, which may be replaced.
struct Source {
    settings: KeySettings,
    keys: ArcSwap<KeySet>,
}

struct KeySet {
    /// Another one for each content: what was verified with an earlier one is verified again.
    generation: u64,
    text_hash: [u8; 32],
    keys: Vec<TrustedKey>,
}

/// A token that was verified.
#[derive(Clone)]
struct Known {
    caller: Arc<Caller>,
    signed_by: SignedBy,
}

/// What a remembered token's signature was checked with.
#[derive(Clone)]
enum SignedBy {
    /// A key of the cluster's own.
    Own { kid: Text, public: [u8; 32] },
    /// A key of a source in one of its generations.
    Source { at: usize, generation: u64 },
}

impl KeySet {
    fn load(settings: &KeySettings, text: &str, generation: u64) -> Result<Self, String> {
        let keys = keys::load(settings, text)?;
        Ok(Self { generation, text_hash: Sha256::digest(text).into(), keys })
    }
}

impl Verifier {
    /// A verifier of the tokens of `cluster`, and of those signed by the keys of `sources` (the
    /// settings' keys with their files' text; one with a URL may have none yet).
    pub fn new(
        settings: &AccessSettings,
        cluster: &str,
        sources: &[KeySource<'_>],
    ) -> Result<Self, KeyError> {
        let roles = Roles::new(&settings.roles).map_err(KeyError::Role)?;
        let (mut loaded, mut count) = (Vec::new(), 0);
        for (at, source) in sources.iter().enumerate() {
            let failed = |reason| KeyError::Key { at, reason };
            let is_to_come = source.settings.jwks_url.is_some() && source.text.is_empty();
            let set = match is_to_come {
                true => KeySet { generation: 0, text_hash: [0; 32], keys: Vec::new() },
                false => KeySet::load(source.settings, source.text, 1).map_err(failed)?,
            };
            count += set.keys.len();
            if count > KEYS_MAX {
                return Err(failed(format!("there are more than {KEYS_MAX} keys")));
            }
            let keys = ArcSwap::from_pointee(set);
            loaded.push(Source { settings: source.settings.clone(), keys });
        }
        let each = settings.token_cache_max.div_ceil(CACHE_SHARDS);
        let each = NonZeroUsize::new(each).unwrap_or(NonZeroUsize::MIN);
        let cache = (0..CACHE_SHARDS).map(|_| Mutex::new(LruCache::new(each))).collect();
        let leeway_micros = u64::try_from(settings.leeway.as_micros()).unwrap_or(u64::MAX);
        Ok(Self {
            issuer: issuer(settings, cluster),
            audience: settings.audience.clone(),
            sources: loaded,
            roles,
            leeway_micros,
            cache,
            unknown_kid: Notify::new(),
        })
    }

    /// Takes other keys for source number `at`, and says whether they are others; where they
    /// cannot be used, the old ones stay.
    pub fn replace_keys(&self, at: usize, text: &str) -> Result<bool, KeyError> {
        let Some(source) = self.sources.get(at) else { return Ok(false) };
        let hash: [u8; 32] = Sha256::digest(text).into();
        let before = source.keys.load();
        if before.text_hash == hash {
            return Ok(false);
        }
        let failed = |reason| KeyError::Key { at, reason };
        let set = KeySet::load(&source.settings, text, before.generation + 1).map_err(failed)?;
        source.keys.store(Arc::new(set));
        Ok(true)
    }

    /// Returns once a token came that names a key which nobody knows: its issuer may have a new
    /// one. Anybody can make it return.
    pub async fn unknown_kid(&self) {
        self.unknown_kid.notified().await;
    }

    /// Whose token it is, if it holds at `now`; and whether it was remembered. Whether its account
    /// may still be used is [`super::decide::is_known`]'s question.
    pub fn verify(
        &self,
        token: &str,
        now: Stamp,
        own: &impl OwnKeys,
    ) -> Result<(Arc<Caller>, bool), TokenError> {
        if token.len() > TOKEN_LEN_MAX {
            return Err(TokenError::TooLong);
        }
        let digest: [u8; 32] = Sha256::digest(token).into();
        let shard = &self.cache[usize::from(digest[0]) % CACHE_SHARDS];
        let known = shard.lock().unwrap_or_else(PoisonError::into_inner).get(&digest).cloned();
        if let Some(known) = known.filter(|known| self.is_trusted(&known.signed_by, own))
            && known.caller.holds_at(now)
        {
            return Ok((known.caller, true));
        }
        let verified = self.verify_anew(token, now, own);
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        match verified {
            Ok((caller, signed_by)) => {
                let caller = Arc::new(caller);
                shard.put(digest, Known { caller: caller.clone(), signed_by });
                Ok((caller, false))
            }
            Err(error) => {
                shard.pop(&digest);
                Err(error)
            }
        }
    }

    fn is_trusted(&self, signed_by: &SignedBy, own: &impl OwnKeys) -> bool {
        match signed_by {
            SignedBy::Own { kid, public } => own.public(kid).as_ref() == Some(public),
            SignedBy::Source { at, generation } => {
                self.sources[*at].keys.load().generation == *generation
            }
        }
    }

    fn verify_anew(
        &self,
        token: &str,
        now: Stamp,
        own: &impl OwnKeys,
    ) -> Result<(Caller, SignedBy), TokenError> {
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
        let kid = header.kid.as_deref().map(Text::from);
        if let Some(kid) = kid.filter(|_| header.alg == "EdDSA")
            && let Some(public) = own.public(&kid)
        {
            if keys::ed25519_signed(&public, message, &signature) {
                let caller = self.read_own(payload, now)?;
                return Ok((caller, SignedBy::Own { kid, public }));
            }
            error = TokenError::Signature;
        }
        for (at, source) in self.sources.iter().enumerate() {
            let set = source.keys.load();
            let fitting =
                set.keys.iter().filter(|key| key.fits(&header.alg, header.kid.as_deref()));
            for key in fitting {
                if !key.signed(message, &signature) {
                    if error == TokenError::NoKey {
                        error = TokenError::Signature;
                    }
                    continue;
                }
                match self.read_external(key, payload, now) {
                    Ok(caller) => {
                        let generation = set.generation;
                        return Ok((caller, SignedBy::Source { at, generation }));
                    }
                    Err(reason) => error = reason,
                }
            }
        }
        if error == TokenError::NoKey && header.kid.is_some() {
            self.unknown_kid.notify_one();
        }
        Err(error)
    }

    /// The claims of a token that the cluster signed itself.
    fn read_own(&self, payload: &str, now: Stamp) -> Result<Caller, TokenError> {
        let claims = Claims::read(payload)?;
        let (from, until) = self.times(&claims, Some(&self.issuer), &self.audience)?;
        let id = |name| claims.text(name).and_then(Id::parse).ok_or(TokenError::Subject);
        let principal = claims.text("account").and_then(|name| AccountName::new(name).ok());
        let principal = principal.ok_or(TokenError::Subject)?;
        let scopes: Vec<&str> =
            claims.texts("scope").flat_map(str::split_ascii_whitespace).collect();
        let narrowed = (!scopes.is_empty()).then(|| grants(scopes));
        in_time(
            Caller {
                principal: principal.as_str().into(),
                identity: Identity::Account(id("sub")?, Some(id("cid")?)),
                granted: Vec::new(),
                narrowed,
                issued_at: Stamp(claims.time("iat")?.unwrap_or(0)),
                from,
                until,
                memo: Memo::default(),
            },
            now,
        )
    }

    /// The claims of a token that somebody else signed, with a key that the settings trust.
    fn read_external(
        &self,
        key: &TrustedKey,
        payload: &str,
        now: Stamp,
    ) -> Result<Caller, TokenError> {
        let claims = Claims::read(payload)?;
        let (from, until) = self.times(&claims, key.issuer.as_deref(), &key.audience)?;
        let printable = |text: &&str| {
            !text.is_empty() && text.len() <= SUBJECT_LEN_MAX && !text.contains(char::is_control)
        };
        let subject = claims.text("sub").filter(printable).ok_or(TokenError::Subject)?;
        let account = key.account_claim.as_deref().and_then(|path| claims.value(path));
        let account = account.and_then(Value::as_str).and_then(|name| AccountName::new(name).ok());
        let (mut of_settings, mut of_cluster) = (Vec::new(), Vec::new());
        for role in claims.words(&key.roles_claim).take(ACCOUNT_ROLES_MAX) {
            match (self.roles.grants(role), RoleName::new(role)) {
                (Some(grants), _) => of_settings.extend(grants.iter().cloned()),
                (None, Ok(role)) => of_cluster.push(role),
                (None, Err(_)) => {}
            }
        }
        let scopes = claims.texts("scope").flat_map(str::split_ascii_whitespace);
        let scopes: Vec<&str> = scopes.filter(|scope| Grant::is_ours(scope)).collect();
        let (mut granted, mut narrowed) = (Vec::new(), None);
        match key.scopes {
            Scopes::Grant => granted = grants(scopes),
            // The scopes of others, openid for one, narrow nothing.
            Scopes::Narrow if scopes.is_empty() => {}
            Scopes::Narrow => narrowed = Some(grants(scopes)),
        }
        granted.extend(of_settings);
        granted.truncate(SCOPES_MAX);
        in_time(
            Caller {
                principal: subject.into(),
                identity: Identity::External(account, of_cluster),
                granted,
                narrowed,
                issued_at: Stamp(claims.time("iat")?.unwrap_or(0)),
                from,
                until,
                memo: Memo::default(),
            },
            now,
        )
    }

    /// From when until when a token holds that is from this issuer, for this audience.
    fn times(
        &self,
        claims: &Claims,
        issuer: Option<&str>,
        audience: &str,
    ) -> Result<(Stamp, Stamp), TokenError> {
        if issuer.is_some() && claims.text("iss") != issuer {
            return Err(TokenError::Issuer);
        }
        if !claims.texts("aud").any(|named| named == audience) {
            return Err(TokenError::Audience);
        }
        let until = claims.time("exp")?.ok_or(TokenError::NoExpiry)?;
        let until = until.saturating_add(self.leeway_micros);
        let from = claims.time("nbf")?.unwrap_or(0).saturating_sub(self.leeway_micros);
        Ok((Stamp(from), Stamp(until)))
    }
}

/// What the cluster's own tokens say as `iss`.
pub fn issuer(settings: &AccessSettings, cluster: &str) -> String {
    settings.issuer.clone().unwrap_or_else(|| format!("holm:{cluster}"))
}

fn in_time(caller: Caller, now: Stamp) -> Result<Caller, TokenError> {
    match caller.holds_at(now) {
        true => Ok(caller),
        false if now >= caller.until => Err(TokenError::Expired),
        false => Err(TokenError::NotYet),
    }
}

/// What these scopes say; a damaged one says nothing.
fn grants(scopes: Vec<&str>) -> Vec<Grant> {
    scopes.into_iter().filter_map(Grant::parse).take(SCOPES_MAX).collect()
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
    fn value(&self, path: &str) -> Option<&Value> {
        let mut within = path.split('.');
        let first = within.next().and_then(|name| self.0.get(name));
        let nested = || within.try_fold(first?, |value, name| value.get(name));
        self.0.get(path).or_else(nested)
    }

    /// The words of such a claim.
    fn words(&self, path: &str) -> impl Iterator<Item = &str> {
        texts(self.value(path)).flat_map(str::split_ascii_whitespace)
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
