//! The state, and how a proposal changes it.

use std::sync::Arc;

use imbl::OrdMap;

use super::command::{Generation, Outcome, Proposal, Refusal, SealedKey, SigningKey};
use crate::access::rules::Rules;
use crate::audit::Event;
use crate::model::{Id, SecretName, Text};
use crate::secrets::Secret;

/// Everything the quorum has decided, up to an index of its log. Cheap to clone.
#[derive(Clone, Debug, Default)]
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
    /// What retries are recognised by, with the index they were decided at.
    pub(super) remembered: OrdMap<[u8; 32], Remembered>,
}

/// A request that was decided.
#[derive(Clone, Debug)]
pub(super) struct Remembered {
    pub(super) request: [u8; 32],
    pub(super) index: u64,
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
    /// CBOR; absent where the row is removed.
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

/// Why a row does not belong into a state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a row of the quorum's state is damaged: {0}")]
pub struct RowError(pub String);

impl State {
    /// Applies the entry at `index` of the log.
    pub fn apply(&mut self, index: u64, proposal: &Proposal) -> Applied {
        let _ = proposal;
        self.index = index;
        absent()
    }

    /// All rows, in the order of their keys: what a snapshot sends.
    pub fn rows(&self) -> Box<dyn Iterator<Item = Row> + '_> {
        absent()
    }

    /// Puts a stored or sent row in. Then [`State::index`] is the caller's to set.
    pub fn insert(&mut self, row: &Row) -> Result<(), RowError> {
        let _ = row;
        absent()
    }
}

fn absent() -> ! {
    panic!("applying proposals is absent")
}
