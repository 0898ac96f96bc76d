//! The store, as gossip sees it: what it has, takes and gives, by records that are opaque here.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use crate::model::{NodeName, Origin, Told, Vector};

/// Longest record, in bytes: it has to fit into a frame. Longer ones could never leave this node,
/// so that a store must not take them.
pub const RECORD_LEN_MAX: usize = crate::transport::FRAME_LEN_MAX - 1024;

/// The store, as gossip sees it.
pub trait Replica: Send + Sync + 'static {
    /// What is applied, visible and on disk.
    fn vector(&self) -> Arc<Vector>;

    /// The origin of the changes made here.
    fn origin(&self) -> Origin;

    /// Stores and applies; answers after the commit. Records that can't be applied yet wait
    /// inside, in bounded memory; those beyond it may be dropped and are asked for again. The
    /// future may be dropped before it ends: then nobody waits for the answer any more.
    fn apply(
        &self,
        from: NodeName,
        records: Vec<Bytes>,
    ) -> BoxFuture<'static, Result<Applied, ApplyError>>;

    /// Records that `vector` does not include, in an order that can be applied: about `bytes_max`
    /// bytes of them, one at least where there is one that is still there.
    fn missing(&self, vector: Told, bytes_max: usize) -> BoxFuture<'static, io::Result<Missing>>;

    /// The peer `by` has seen `n` changes of `origin`, which is or was this node's, and no more. Told at
    /// every hello, and whenever a peer has more of them than this node: then its store was rolled
    /// back, and it must not use the origin again.
    fn witnessed(&self, by: NodeName, origin: Origin, n: u64) -> BoxFuture<'static, ()>;
}

/// What a peer lacks of what is here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Missing {
    /// Records, in an order that can be applied.
    pub records: Vec<Bytes>,
    /// Whether there are more.
    pub more: bool,
    /// Where whole documents are the way to go on.
    pub documents: Option<Need>,
}

/// Why whole documents are sent rather than records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Records that are lacking are gone from the log.
    Trimmed,
    /// The records are many more than what came of them.
    Cheaper,
}

/// A peer said that whole documents are the way to get what it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advice {
    /// Who said so.
    pub peer: NodeName,
    /// Why.
    pub need: Need,
}

/// What became of records, by number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Applied and new.
    pub new: usize,
    /// Known already.
    pub duplicate: usize,
    /// Kept until what they depend on is there.
    pub waiting: usize,
    /// Not believed: they don't decode, or say something else than a record that is known.
    pub quarantined: usize,
}

/// Why records were not applied. None of them was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// Not now: the disk is full, for example. They are asked for again later.
    #[error("the store takes nothing now: {0}")]
    Unavailable(String),
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}
