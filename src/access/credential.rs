//! Client secrets: how one is made, which credential it belongs to, and whether it is the right
//! one. A secret names its credential, so that checking it costs one hash, whatever the account has
//! and whether it is there. Argon2id (RFC 9106) takes 19 MiB and some 20 ms: callers bound how much
//! of it runs at once.

use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Params, PasswordHasher as _, PasswordVerifier as _, Version};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use super::account::{Account, Credential};
use super::rules::Rules;
use crate::model::{AccountName, Id, Stamp, Text};

/// Longest client secret that is looked at, in bytes.
pub const SECRET_LEN_MAX: usize = 256;
/// What every client secret begins with, so that scanners of code find one that was left there.
const PREFIX: &str = "holm_";
/// Memory of one hash, in KiB (OWASP's password storage recommendation).
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;

/// What an unknown secret is compared with, for the same work: the hash of 32 random bytes that
/// nobody kept.
const NOBODYS: &str = "$argon2id$v=19$m=19456,t=2,p=1$vUn5o6rSjZPp1f1pJnTWWw$\
                       4d6xXhLu7kU8N0s1hZkB0bq2l6V3w1m5aQe8r9t0uYI";

/// The client secret of the credential `id`, of 32 random bytes. It is shown once.
pub fn secret(id: Id, random: &[u8; 32]) -> Zeroizing<String> {
    let bytes = Zeroizing::new([&id.as_bytes()[..], &random[..]].concat());
    let text = Zeroizing::new(URL_SAFE_NO_PAD.encode(&*bytes));
    Zeroizing::new([PREFIX, &**text].concat())
}

/// The credential that a secret says it belongs to.
pub fn credential_of(secret: &str) -> Option<Id> {
    let bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(secret.strip_prefix(PREFIX)?).ok()?);
    let (id, _) = bytes.split_first_chunk::<16>()?;
    Some(Id::from_u128(u128::from_be_bytes(*id)))
}

/// The hash of a secret, as a PHC string. Slow on purpose.
pub fn hash(secret: &str, salt: &[u8; 16]) -> Result<Text, HashError> {
    let hash = argon2()?.hash_password_with_salt(secret.as_bytes(), salt);
    let hash: PasswordHash = hash.map_err(|e| HashError(e.to_string()))?;
    Ok(hash.to_string().as_str().into())
}

/// Whether the secret is the one that was hashed. Slow on purpose, whatever comes of it.
pub fn verify(secret: &str, hash: &str) -> bool {
    let Ok(argon2) = argon2() else { return false };
    let parsed = PasswordHash::new(hash);
    parsed.is_ok_and(|hash| argon2.verify_password(secret.as_bytes(), &hash).is_ok())
}

/// The library refused to hash.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("argon2: {0}")]
pub struct HashError(String);

fn argon2() -> Result<Argon2<'static>, HashError> {
    let params = Params::new(MEMORY_KIB, PASSES, 1, None).map_err(|e| HashError(e.to_string()))?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

/// Who a secret is compared with: an account that is there, and its credential.
pub struct Candidate<'a> {
    /// The account.
    pub account: &'a Account,
    /// Which of its credentials.
    pub credential: &'a Credential,
}

/// The account of this name, if the secret can be one of its: the account is enabled and the
/// credential that the secret names is there and not expired.
pub fn candidate<'a>(
    rules: &'a Rules,
    name: &str,
    secret: &str,
    now: Stamp,
) -> Option<Candidate<'a>> {
    let account = rules.account(&AccountName::new(name).ok()?)?;
    let credential = account.credentials.get(&credential_of(secret)?)?;
    let holds = credential.expires_at.is_none_or(|expires_at| now < expires_at);
    (account.enabled && holds).then_some(Candidate { account, credential })
}

/// What a secret has to be compared with: the candidate's hash, or one that nothing matches.
pub fn hash_to_check(candidate: Option<&Candidate<'_>>) -> Text {
    candidate.map_or_else(|| NOBODYS.into(), |candidate| candidate.credential.hash.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_names_its_credential_and_matches_its_hash_alone() {
        let id = Id::from_u128(7);
        let (one, two) = (secret(id, &[1; 32]), secret(id, &[2; 32]));
        assert_eq!(credential_of(&one), Some(id));
        let hash = hash(&one, &[3; 16]).unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert!(!hash.contains(&one[5..20]));
        assert!(verify(&one, &hash) && !verify(&two, &hash));
        for bad in ["", "holm_", "holm_AAAA", "hunter2", "holm_ä"] {
            assert_eq!(credential_of(bad), None, "{bad}");
        }
    }

    #[test]
    fn nobodys_hash_costs_the_same_work() {
        let nobodys = PasswordHash::new(NOBODYS).unwrap();
        let real = hash("x", &[3; 16]).unwrap();
        let real = PasswordHash::new(&real).unwrap();
        assert_eq!(nobodys.params, real.params);
        assert_eq!(nobodys.algorithm, real.algorithm);
        assert_eq!(nobodys.hash.unwrap().len(), real.hash.unwrap().len());
        assert_eq!(nobodys.salt.unwrap().len(), real.salt.unwrap().len());
        assert!(!verify("x", NOBODYS));
    }
}
