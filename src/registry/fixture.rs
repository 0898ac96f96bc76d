//! A founded cluster and proposals to it, for tests of whatever proposes, applies or stores.

use super::command::{
    Command, Founding, Generation, Idempotency, Outcome, Proposal, Refusal, SealedKey, SigningKey,
};
use super::state::{Applied, State};
use crate::access::account::Credential;
use crate::access::{Caller, Identity};
use crate::audit::Source;
use crate::model::{AccountName, Id, Stamp};
use crate::secrets::{Algorithm, SealedVersion};

/// The first account's id, and its credential's.
pub(crate) const ADMIN: Id = Id::from_u128(1);
pub(crate) const ADMIN_CREDENTIAL: Id = Id::from_u128(2);
/// When everything happens that does not say otherwise.
pub(crate) const NOW: Stamp = Stamp(1_700_000_000_000_000);

pub(crate) fn name<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().unwrap()
}

pub(crate) fn credential(id: Id) -> Credential {
    Credential { id, hash: "$argon2id$x".into(), created_at: NOW, expires_at: None }
}

pub(crate) fn sealed_key(generation: u32) -> SealedKey {
    SealedKey { generation, wrapped: vec![7; 60] }
}

pub(crate) fn signing_key(kid: &str, created_at: Stamp) -> SigningKey {
    SigningKey { kid: kid.into(), public: [3; 32], private: sealed_key(1), created_at }
}

pub(crate) fn generation(number: u32) -> Generation {
    Generation { number, check: [u8::try_from(number).unwrap_or(0); 32] }
}

pub(crate) fn founding() -> Founding {
    Founding {
        account: ADMIN,
        name: AccountName::new("root").unwrap(),
        credential: credential(ADMIN_CREDENTIAL),
        generation: generation(1),
        signing: signing_key("first", NOW),
        hash_key: sealed_key(1),
    }
}

pub(crate) fn sealed(generation: u32) -> SealedVersion {
    SealedVersion {
        algorithm: Algorithm::Aes256Gcm,
        nonce: vec![1; 12],
        ciphertext: vec![2; 24],
        generation,
        wrapped: vec![7; 60],
        created_at: NOW,
        created_by: "ada".into(),
    }
}

/// The first administrator.
pub(crate) fn admin() -> Caller {
    of_account(ADMIN, Some(ADMIN_CREDENTIAL))
}

pub(crate) fn of_account(id: Id, credential: Option<Id>) -> Caller {
    Caller::fixture(Identity::Account(id, credential), &[], Stamp(u64::MAX))
}

pub(crate) fn proposal(caller: Option<Caller>, command: Command) -> Proposal {
    let source = Source { node: "here-1".into(), address: None, request: "r".into() };
    Proposal { at: NOW, caller, source, idempotency: None, command }
}

pub(crate) fn retryable(proposal: Proposal, key: u64, request: u8) -> Proposal {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&key.to_be_bytes());
    Proposal { idempotency: Some(Idempotency { key: bytes, request: [request; 32] }), ..proposal }
}

/// A cluster in which nothing else was decided yet.
pub(crate) fn founded() -> State {
    let mut state = State::default();
    let command = Command::Found(Box::new(founding()));
    let applied = state.apply(1, &proposal(None, command));
    assert_eq!(applied.outcome, Ok(Outcome::Put(ADMIN, 1, true)));
    state
}

impl State {
    /// Applies as the next entry of the log.
    pub(crate) fn next(&mut self, proposal: &Proposal) -> Applied {
        self.apply(self.index + 1, proposal)
    }

    /// Applies what the first administrator proposes.
    pub(crate) fn by_admin(&mut self, command: Command) -> Result<Outcome, Refusal> {
        self.next(&proposal(Some(admin()), command)).outcome
    }
}
