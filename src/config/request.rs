//! What a caller asks of one document, and what comes of it.

use std::sync::Arc;

use super::entry::Idempotency;
use super::view::{Row, Snapshot};
use crate::audit::Behalf;
use crate::model::{DocumentId, Dot, JsonText, Key, Text};

/// Some writes to one document that happen together or not at all.
#[derive(Clone, Debug)]
pub struct WriteRequest {
    /// Where.
    pub document: DocumentId,
    /// What, each key once. For all keys of the document see [`WriteRequest::remove_all`].
    pub operations: Vec<Operation>,
    /// Instead of `operations`: remove every key that this node sees.
    pub remove_all: bool,
    /// Who: the token's subject.
    pub author: Text,
    /// Why, in the writer's words.
    pub message: Option<Text>,
    /// What recognises a retry.
    pub idempotency: Option<Idempotency>,
    /// What its audit record says beside what was done; without it there is no record. A node
    /// always sets it.
    pub behalf: Option<Behalf>,
}

/// One key's part of a request.
#[derive(Clone, Debug)]
pub struct Operation {
    /// Which key.
    pub key: Key,
    /// What to do with it.
    pub action: Action,
    /// What must be true of it before.
    pub check: Check,
}

/// What to do with a key.
#[derive(Clone, Debug)]
pub enum Action {
    /// Set its value.
    Put(JsonText),
    /// Merge into its value (RFC 7396); the key must be there.
    MergePatch(JsonText),
    /// Remove it; the key must be there.
    Remove,
}

/// What must be true of a key, as this node sees it, for the request to be carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// Nothing.
    None,
    /// The key is not there (`If-None-Match: *`, `expect_version: 0`).
    Absent,
    /// The key is there (`If-Match: *`).
    Present,
    /// The winner has this version (`expect_version`).
    Version(u64),
    /// The siblings are exactly these (`If-Match` with an `ETag`), in any order.
    Siblings(Vec<Dot>),
}

/// What a write did.
#[derive(Clone, Debug)]
pub struct Written {
    /// The change that carries it, and with it everything the request wrote. `None` where nothing
    /// had to be written (all keys of an empty document removed).
    pub dot: Option<Dot>,
    /// What became of each key, in the order of the request.
    pub keys: Vec<WrittenKey>,
    /// A state that includes the write: its session is the answer's.
    pub snapshot: Arc<Snapshot>,
    /// Whether this answers a retry of a request that had been carried out already.
    pub replayed: bool,
}

/// What a write did to one key.
#[derive(Clone, Debug)]
pub struct WrittenKey {
    /// Which key.
    pub key: Key,
    /// Its row right after.
    pub row: Arc<Row>,
    /// Whether it was not there before.
    pub created: bool,
}

/// Why a write was not carried out. Nothing was changed, whatever the reason, except for
/// `Unknown`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// A check did not hold.
    #[error("{key}: {found}")]
    PreconditionFailed {
        /// Which key.
        key: Key,
        /// What was there instead, in words.
        found: String,
    },
    /// The key of a patch or a removal is not there.
    #[error("there is no key {0}")]
    NotFound(Key),
    /// The merged value is past the limit or too deep.
    #[error("{key}: {reason}")]
    BadValue {
        /// Which key.
        key: Key,
        /// Why, in words.
        reason: String,
    },
    /// What the request comes to does not fit into one change.
    #[error(
        "the write comes to {bytes} bytes in all; at most {bytes_max} fit into one change: write or \
         remove fewer keys at a time"
    )]
    TooLarge {
        /// How much, in bytes, with keys, author and message.
        bytes: usize,
        /// How much may be.
        bytes_max: usize,
    },
    /// The `Idempotency-Key` was used before, with another request.
    #[error("this Idempotency-Key was used with another request")]
    IdempotencyKeyReused,
    /// The disk has no room. Reads go on.
    #[error("the disk is full")]
    StorageFull,
    /// The store failed. Reads go on.
    #[error("the store failed: {0}")]
    StorageFailed(String),
    /// The store failed while it committed: the write may be on disk or not.
    #[error("the store failed while it committed: the write may have happened or not")]
    Unknown,
    /// More writes wait than the node takes.
    #[error("too many writes wait already")]
    Overloaded,
    /// The node is shutting down.
    #[error("the node is shutting down")]
    Closed,
}
