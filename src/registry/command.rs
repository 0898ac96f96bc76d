//! What can be proposed, and what can come of it. These are stored in the quorum's log and sent
//! between nodes: fields and variants are only ever added.

use std::collections::BTreeSet;

use minicbor::{Decode, Encode};

use crate::access::account::Credential;
use crate::access::caller::Caller;
use crate::access::scope::Grant;
use crate::audit::Source;
use crate::config::HistoryPolicy;
use crate::model::vector::Fold;
use crate::model::{
    AccountName, DocumentId, Environment, Id, Key, RoleName, SecretName, Stamp, Text, Told,
};
use crate::secrets::SealedVersion;

/// One proposal: who wants what, and from where.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Proposal {
    /// When, by the clock of the node that took the request.
    #[n(0)]
    pub at: Stamp,
    /// Who; absent for what the cluster does by itself (its first start, rotations by time).
    #[n(1)]
    pub caller: Option<Caller>,
    /// From where.
    #[n(2)]
    pub source: Source,
    /// What recognises a retry.
    #[n(3)]
    pub idempotency: Option<Idempotency>,
    /// What.
    #[n(4)]
    pub command: Command,
}

/// What recognises a retry: keyed hashes, so that neither the header nor the request can be
/// guessed from a log or a backup.
#[derive(Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Idempotency {
    /// Of the caller and its `Idempotency-Key`.
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    pub key: [u8; 32],
    /// Of the request.
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    pub request: [u8; 32],
}

impl std::fmt::Debug for Idempotency {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Idempotency(..)")
    }
}

/// What a thing has to be like for a command to be carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Expect {
    /// Nothing.
    #[n(0)]
    Any,
    /// It is not there (`If-None-Match: *`, `expect_version: 0`).
    #[n(1)]
    Absent,
    /// It is there (`If-Match: *`).
    #[n(2)]
    Present,
    /// It has this version (`If-Match` with an `ETag`, `expect_version`).
    #[n(3)]
    Version(#[n(0)] u64),
}

/// What is wanted. Ids of new things are drawn by who proposes.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Command {
    /// The cluster's first entry: once and never again.
    #[n(0)]
    Found(#[n(0)] Box<Founding>),
    /// A new account.
    #[n(1)]
    CreateAccount {
        /// Its id.
        #[n(0)]
        id: Id,
        /// Its name, which nobody has.
        #[n(1)]
        name: AccountName,
        /// Its roles, by name.
        #[n(2)]
        roles: BTreeSet<RoleName>,
        /// What it can ask for tokens with.
        #[n(3)]
        credential: Option<Credential>,
    },
    /// Changes what is given.
    #[n(2)]
    UpdateAccount {
        /// Which.
        #[n(0)]
        id: Id,
        /// What it has to be like.
        #[n(1)]
        expect: Expect,
        /// Whether its tokens are taken.
        #[n(2)]
        enabled: Option<bool>,
        /// All of its roles, by name.
        #[n(3)]
        roles: Option<BTreeSet<RoleName>>,
    },
    /// Removes an account, and with it all its tokens.
    #[n(3)]
    DeleteAccount {
        /// Which.
        #[n(0)]
        id: Id,
        /// What it has to be like.
        #[n(1)]
        expect: Expect,
    },
    /// One more client secret.
    #[n(4)]
    AddCredential {
        /// Whose.
        #[n(0)]
        account: Id,
        /// The credential.
        #[n(1)]
        credential: Credential,
    },
    /// Takes a client secret back, and with it all tokens that were issued for it.
    #[n(5)]
    RevokeCredential {
        /// Whose.
        #[n(0)]
        account: Id,
        /// Which.
        #[n(1)]
        credential: Id,
    },
    /// A new role.
    #[n(6)]
    CreateRole {
        /// Its id.
        #[n(0)]
        id: Id,
        /// Its name, which no role has.
        #[n(1)]
        name: RoleName,
        /// What it allows.
        #[n(2)]
        grants: Vec<Grant>,
    },
    /// Replaces a role's grants.
    #[n(7)]
    UpdateRole {
        /// Which.
        #[n(0)]
        id: Id,
        /// What it has to be like.
        #[n(1)]
        expect: Expect,
        /// What it allows from now on.
        #[n(2)]
        grants: Vec<Grant>,
    },
    /// Removes a role from everybody who has it; refused while configurations are bound to it.
    #[n(8)]
    DeleteRole {
        /// Which.
        #[n(0)]
        id: Id,
        /// What it has to be like.
        #[n(1)]
        expect: Expect,
    },
    /// Only roles that a configuration is bound to may change it.
    #[n(9)]
    Bind {
        /// Where.
        #[n(0)]
        document: DocumentId,
        /// Which configuration.
        #[n(1)]
        key: Key,
        /// To which role.
        #[n(2)]
        role: RoleName,
    },
    /// Takes a binding back.
    #[n(10)]
    Unbind {
        /// Where.
        #[n(0)]
        document: DocumentId,
        /// Which configuration.
        #[n(1)]
        key: Key,
        /// From which role.
        #[n(2)]
        role: RoleName,
    },
    /// A secret's next version; its first where nobody has the name.
    #[n(11)]
    PutSecret {
        /// The secret's id: a new one where the name is new.
        #[n(0)]
        id: Id,
        /// Its name.
        #[n(1)]
        name: SecretName,
        /// What it has to be like.
        #[n(2)]
        expect: Expect,
        /// Which version it was sealed as. Where the state says another, it is refused with
        /// [`Refusal::Moved`], to be sealed again.
        #[n(3)]
        version: u32,
        /// The value.
        #[n(4)]
        sealed: SealedVersion,
    },
    /// Removes a secret with all of its versions.
    #[n(12)]
    DeleteSecret {
        /// Which.
        #[n(0)]
        id: Id,
        /// What it has to be like.
        #[n(1)]
        expect: Expect,
    },
    /// A new generation of the master key is current from now on: new data keys are wrapped by it.
    #[n(13)]
    AddGeneration(#[n(0)] Generation),
    /// Data keys, wrapped by another generation; what has changed meanwhile is passed over.
    #[n(14)]
    Rewrap(#[n(0)] Vec<Rewrapped>),
    /// A generation that wraps nothing any more is forgotten: what it had wrapped is gone for good.
    #[n(15)]
    RetireGeneration(#[n(0)] u32),
    /// A new key signs tokens from now on; older ones verify until they are retired.
    #[n(16)]
    AddSigningKey(#[n(0)] SigningKey),
    /// Tokens of this key are not taken any more.
    #[n(17)]
    RetireSigningKey(#[n(0)] Text),
    /// How much of the histories of an environment is kept, or, where none is named, of all that
    /// have no policy of their own; without a policy, as before one was set.
    #[n(40)]
    SetHistoryPolicy(#[n(0)] Option<Environment>, #[n(1)] Option<HistoryPolicy>),
    /// A document of configurations goes on in its next epoch. What is decided is written into the
    /// config path by whoever leads; here it is only seen to that no epoch begins in two ways.
    #[n(18)]
    RollEpoch {
        /// Which document.
        #[n(0)]
        document: DocumentId,
        /// How its epoch begins.
        #[n(1)]
        roll: EpochRoll,
    },
}

/// How an epoch of a document begins.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct EpochRoll {
    /// Which epoch: the one after the document's current one.
    #[n(0)]
    pub epoch: u32,
    /// What its base includes: every member that counts had it on disk.
    #[n(1)]
    pub floor: Told,
    /// The hash of its base, which every node builds for itself.
    #[n(2)]
    #[cbor(with = "minicbor::bytes")]
    pub base: [u8; 32],
    /// Removals that are older than this are not carried over.
    #[n(3)]
    pub removals_before: Stamp,
    /// What the record that says so carries beside it: see [`crate::config::roll::Roll::fold`].
    #[n(4)]
    pub fold: Option<Fold>,
}

/// What a cluster starts with.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Founding {
    /// The first account, which has the role `admin`.
    #[n(0)]
    pub account: Id,
    /// Its name.
    #[n(1)]
    pub name: AccountName,
    /// What it can ask for tokens with.
    #[n(2)]
    pub credential: Credential,
    /// The first generation of the master key.
    #[n(3)]
    pub generation: Generation,
    /// The first key that signs tokens.
    #[n(4)]
    pub signing: SigningKey,
    /// The key of [`Idempotency`]'s hashes, wrapped as data keys are.
    #[n(5)]
    pub hash_key: SealedKey,
}

/// A generation of the master key, by what tells a wrong key from the right one; never the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Generation {
    /// 1, 2, 3, ….
    #[n(0)]
    pub number: u32,
    /// A one-way check value of the key.
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    pub check: [u8; 32],
}

/// A key of the cluster's, sealed by a generation of the master key.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct SealedKey {
    /// Which generation.
    #[n(0)]
    pub generation: u32,
    /// Nonce, then ciphertext with tag.
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    pub wrapped: Vec<u8>,
}

impl std::fmt::Debug for SealedKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SealedKey").field("generation", &self.generation).finish_non_exhaustive()
    }
}

/// A key that signs tokens.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct SigningKey {
    /// What tokens name it by.
    #[n(0)]
    pub kid: Text,
    /// Its Ed25519 public key.
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    pub public: [u8; 32],
    /// Its private key, sealed.
    #[n(2)]
    pub private: SealedKey,
    /// When it was made.
    #[n(3)]
    pub created_at: Stamp,
}

/// What a re-wrapped key belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Wrapped {
    /// A version of a secret.
    #[n(0)]
    Version(#[n(0)] Id, #[n(1)] u32),
    /// A signing key, by its `kid`.
    #[n(1)]
    Signing(#[n(0)] Text),
    /// The key of [`Idempotency`]'s hashes.
    #[n(2)]
    HashKey,
}

/// One key, wrapped by another generation.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Rewrapped {
    /// Whose key.
    #[n(0)]
    pub what: Wrapped,
    /// The generation it was wrapped by.
    #[n(1)]
    pub from: u32,
    /// The key, wrapped by the new one.
    #[n(2)]
    pub key: SealedKey,
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Outcome {
    /// The thing has this id and version now; the flag says that it is new.
    #[n(0)]
    Put(#[n(0)] Id, #[n(1)] u64, #[n(2)] bool),
    /// It is gone.
    #[n(1)]
    Deleted(#[n(0)] Id),
    /// Done, with nothing to tell.
    #[n(2)]
    Done,
    /// This many keys were re-wrapped; the others had changed.
    #[n(3)]
    Rewrapped(#[n(0)] u64),
}

/// Why nothing was done. The state is as it was.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, thiserror::Error)]
pub enum Refusal {
    /// The caller may not, by the rules at this index.
    #[n(0)]
    #[error("{0}")]
    Denied(#[n(0)] Text),
    /// There is no such thing.
    #[n(1)]
    #[error("{0} is not there")]
    NotFound(#[n(0)] Text),
    /// Something has that name already.
    #[n(2)]
    #[error("{0} is there already")]
    Exists(#[n(0)] Text),
    /// [`Expect`] is not met; it has this version (0: it is not there).
    #[n(3)]
    #[error("it has version {0}")]
    Mismatch(#[n(0)] u64),
    /// A secret was sealed as another version than it would become: this one of this id.
    #[n(4)]
    #[error("it would become version {1} of {0}")]
    Moved(#[n(0)] Id, #[n(1)] u32),
    /// The `Idempotency-Key` was used with another request.
    #[n(5)]
    #[error("the Idempotency-Key was used with another request")]
    KeyReused,
    /// A limit of the cluster would be passed.
    #[n(6)]
    #[error("{0}")]
    Limit(#[n(0)] Text),
    /// It would leave the cluster in a state that must not be: without an administrator, say.
    #[n(7)]
    #[error("{0}")]
    Invalid(#[n(0)] Text),
    /// There are no accounts, roles and keys yet: the cluster's first entry is still to come.
    #[n(8)]
    #[error("the cluster is not founded yet")]
    NotFounded,
}
