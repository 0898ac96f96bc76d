//! One write of one key: the scalar that a document's bucket holds, and the history's row.
//!
//! Lifetime: an entry never changes. It leaves the document when a later entry replaces it, and
//! stays in the history until the environment's policy lets it go.

use crate::model::{Dot, JsonText, Stamp, Text};
use std::cmp::Ordering;

/// One write, or removal, of one key.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub struct Entry {
    /// The JSON value; absent where the write removed the key.
    #[n(0)]
    pub value: Option<JsonText>,
    /// 1 + the highest version among the entries it replaced. Concurrent entries can share one.
    #[n(1)]
    pub version: u64,
    /// When it was written: above all it replaced.
    #[n(2)]
    pub stamp: Stamp,
    /// The change that carries it: what makes (id, version, origin) unique and a watch resumable.
    #[n(3)]
    pub dot: Dot,
    /// Who wrote it: the token's subject.
    #[n(4)]
    pub author: Text,
    /// Where it was written: the region's name.
    #[n(5)]
    pub region: Text,
    /// Why it was written, in the writer's words.
    #[n(6)]
    pub message: Option<Text>,
    /// What recognises a retry of the same request. Boxed: few entries have it, and every one in
    /// memory would have room for it.
    #[n(7)]
    pub idempotency: Option<Box<Idempotency>>,
}

/// What recognises a retry: keyed hashes, never the header itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub struct Idempotency {
    /// Hash of the caller and its `Idempotency-Key`.
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    pub key: [u8; 16],
    /// Hash of the request, so that one key with another request is told apart from a retry.
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    pub request: [u8; 16],
}

impl Entry {
    /// Whether this write removed the key.
    pub fn is_removal(&self) -> bool {
        self.value.is_none()
    }

    /// The order in which siblings are shown, the winner first: highest stamp, ties by origin. A
    /// pure function of the siblings, so that every region shows the same.
    pub fn precedence(&self, other: &Entry) -> Ordering {
        (other.stamp, other.dot).cmp(&(self.stamp, self.dot))
    }
}
