//! The state, and what a proposal does to it.

use std::sync::Arc;

use imbl::OrdMap;

use super::command::{EpochRoll, Generation, Outcome, Refusal, SealedKey, SigningKey};
use crate::access::rules::Rules;
use crate::audit::Event;
use crate::config::Policies;
use crate::model::{DocumentId, Id, SecretName, Text};
use crate::secrets::Secret;

pub use super::rows::RowError;

/// Everything the quorum has decided, up to an index of its log. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// The index of the log up to which it is applied.
    pub index: u64,
    /// Accounts, roles, bindings.
    pub rules: Rules,
    /// By id.
    pub secrets: OrdMap<Id, Arc<Secret>>,
    /// Ids by name.
    pub secret_ids: OrdMap<SecretName, Id>,
    /// Generations of the master key that are in use, by number; the highest is current.
    pub generations: OrdMap<u32, Generation>,
    /// By `kid`.
    pub signing: OrdMap<Text, Arc<SigningKey>>,
    /// The key of idempotency hashes; absent until the cluster is founded.
    pub hash_key: Option<SealedKey>,
    /// How much of histories is kept.
    pub history: Policies,
    /// How the newest epoch of each document begins that is past its first.
    pub epochs: OrdMap<DocumentId, Arc<EpochRoll>>,
    /// The generation of the newest fold of origins; 0 where there is none.
    pub folded: u64,
    /// What retries are recognised by, by the index it was decided at.
    pub(super) remembered: OrdMap<u64, Arc<Remembered>>,
    /// Those indices, by the request's key.
    pub(super) remembered_at: OrdMap<[u8; 32], u64>,
}

/// A request that was decided.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub(super) struct Remembered {
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    pub(super) key: [u8; 32],
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    pub(super) request: [u8; 32],
    #[n(2)]
    pub(super) outcome: Result<Outcome, Refusal>,
}

/// One row of the state as it is stored and sent in snapshots.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub struct Row {
    /// What kind of thing, and which: the row's key in the table.
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    pub key: Vec<u8>,
    /// A version byte and CBOR; absent where the row is removed.
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    pub value: Option<Vec<u8>>,
}

/// What a proposal did.
#[derive(Clone, Debug)]
pub struct Applied {
    /// For who proposed it.
    pub outcome: Result<Outcome, Refusal>,
    /// Whether it is the answer to a retry of what had been decided before.
    pub replayed: bool,
    /// What to store.
    pub rows: Vec<Row>,
    /// What to put on the audit chain.
    pub event: Option<Event>,
}

/// The id of a built-in role: the same in every cluster.
pub fn built_in_role(name: &str) -> Id {
    const NAMESPACE: Id = Id::from_u128(0x4f3a_96a5_51a3_4a52_8f9c_7b0d_6b21_90c4);
    NAMESPACE.within(name.as_bytes())
}

impl State {
    /// The generation that new keys are wrapped by.
    pub fn current_generation(&self) -> Option<&Generation> {
        self.generations.get_max().map(|(_, generation)| generation)
    }

    /// The key that signs tokens: the one that was made last.
    pub fn signing_key(&self) -> Option<&Arc<SigningKey>> {
        self.signing.values().max_by_key(|key| (key.created_at, key.kid.clone()))
    }

    /// Whether its first entry was decided.
    pub fn is_founded(&self) -> bool {
        self.hash_key.is_some()
    }

    /// The version of the secret of this name; 0 where there is none.
    pub fn secret_version(&self, name: &SecretName) -> u32 {
        let secret = self.secret_ids.get(name).and_then(|id| self.secrets.get(id));
        secret.map_or(0, |secret| secret.version)
    }
}
