//! What a store keeps of a document, so that loading it need not begin at its first change.

use std::collections::BTreeMap;
use std::sync::Arc;

use automerge::{Automerge, ChangeHash};

use super::{ActorBytes, CheckedChange, Document, DocumentError, Gone, LastChange, OpId, Sibling};
use crate::config::entry::Entry;
use crate::config::view::Rolled;
use crate::model::{Dot, Folds, Key, Origin};

/// A document as of some changes.
#[derive(Debug, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub struct SavedDocument {
    /// Which epoch it is of.
    #[n(0)]
    pub epoch: u32,
    /// All its changes, as `Automerge::save` writes them: what stores held at first, instead of all
    /// below.
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    automerge: Option<Vec<u8>>,
    #[n(2)]
    heads: Vec<SavedHead>,
    /// How many changes it holds.
    #[n(3)]
    changes: u64,
    /// Each change's hash and its highest operation's number, one behind the other.
    #[n(4)]
    #[cbor(with = "minicbor::bytes")]
    known: Option<Vec<u8>>,
    #[n(5)]
    actors: Option<Vec<SavedActor>>,
    #[n(6)]
    rows: Option<Vec<SavedRow>>,
    /// The dot of each change in `known`, one behind the other, zeros where it has none. Absent in
    /// what earlier programs saved.
    #[n(7)]
    #[cbor(with = "minicbor::bytes")]
    dots: Option<Vec<u8>>,
    /// Which changes are late. Absent in epoch 0, as is all below.
    #[n(8)]
    late: Option<Vec<Dot>>,
    #[n(9)]
    rolled: Option<Rolled>,
    #[n(10)]
    gone: Option<Vec<SavedGone>>,
}

/// How many changes a saved document holds; all else is passed over.
#[derive(Clone, Copy, Debug, minicbor::Decode)]
#[cbor(map)]
pub struct ChangesHeld {
    /// Of all epochs that were not rolled from.
    #[n(3)]
    pub changes: u64,
}

#[derive(Debug, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
struct SavedHead {
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    hash: [u8; 32],
    #[n(1)]
    dot: Dot,
}

#[derive(Debug, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
struct SavedActor {
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    actor: ActorBytes,
    #[n(1)]
    seq: u64,
    #[n(2)]
    #[cbor(with = "minicbor::bytes")]
    hash: [u8; 32],
    #[n(3)]
    max_op: u64,
}

#[derive(Debug, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
struct SavedRow {
    #[n(0)]
    key: String,
    #[n(1)]
    siblings: Vec<SavedSibling>,
}

#[derive(Debug, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
struct SavedSibling {
    #[n(0)]
    number: u64,
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    actor: ActorBytes,
    #[n(2)]
    entry: Entry,
    /// Its operation in epoch 0, where this is another one and it was written there.
    #[n(3)]
    was: Option<SavedOp>,
}

#[derive(Debug, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
struct SavedOp {
    #[n(0)]
    number: u64,
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    actor: ActorBytes,
}

/// Siblings of a key that were replaced in this epoch.
#[derive(Debug, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
struct SavedGone {
    #[n(0)]
    key: String,
    #[n(1)]
    siblings: Vec<SavedGoneSibling>,
}

#[derive(Debug, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
struct SavedGoneSibling {
    #[n(0)]
    dot: Dot,
    #[n(1)]
    op: SavedOp,
    #[n(2)]
    was: Option<SavedOp>,
}

impl From<OpId> for SavedOp {
    fn from(op: OpId) -> Self {
        Self { number: op.number, actor: op.actor }
    }
}

impl From<SavedOp> for OpId {
    fn from(saved: SavedOp) -> Self {
        Self { number: saved.number, actor: saved.actor }
    }
}

/// What a saved document's last changes are; all else is passed over.
#[derive(Debug, minicbor::Decode)]
#[cbor(map)]
pub struct Newest {
    #[n(2)]
    heads: Vec<SavedHead>,
    #[n(9)]
    rolled: Option<Rolled>,
}

impl Newest {
    /// The changes that a next one would build on, and the record that began its epoch: late changes
    /// do not build on that. Whoever has all of them has every change of it, and is in its epoch.
    pub fn dots(&self) -> impl Iterator<Item = Dot> + '_ {
        let heads = self.heads.iter().map(|head| head.dot);
        heads.chain(self.rolled.as_ref().map(|rolled| rolled.record))
    }
}

const HASH_LEN: usize = 32;
const KNOWN_LEN: usize = HASH_LEN + 8;
const DOT_LEN: usize = 8 + 8;

impl Document {
    /// What to keep of it.
    pub fn save(&self) -> SavedDocument {
        let head = |(hash, dot): (&ChangeHash, &Dot)| SavedHead { hash: hash.0, dot: *dot };
        let actor = |(actor, last): (&ActorBytes, &LastChange)| SavedActor {
            actor: *actor,
            seq: last.seq,
            hash: last.hash.0,
            max_op: last.max_op,
        };
        let sibling = |sibling: &Sibling| SavedSibling {
            number: sibling.op.number,
            actor: sibling.op.actor,
            entry: sibling.entry.clone(),
            was: sibling.was.map(SavedOp::from),
        };
        let gone = |(key, gone): (&Key, &Vec<Gone>)| SavedGone {
            key: key.as_str().into(),
            siblings: gone.iter().map(SavedGoneSibling::from).collect(),
        };
        let row = |(key, siblings): (&Key, &Vec<Sibling>)| SavedRow {
            key: key.as_str().into(),
            siblings: siblings.iter().map(sibling).collect(),
        };
        let mut known = Vec::with_capacity(self.changes.len() * KNOWN_LEN);
        for (hash, max_op) in &self.changes {
            known.extend_from_slice(&hash.0);
            known.extend_from_slice(&max_op.to_be_bytes());
        }
        let is_rolled = self.rolled.is_some();
        SavedDocument {
            epoch: self.epoch(),
            automerge: None,
            heads: self.heads.iter().map(head).collect(),
            changes: (self.changes_in_base + self.changes_since_base) as u64,
            known: Some(known),
            actors: Some(self.actors.iter().map(actor).collect()),
            rows: Some(self.rows.iter().map(row).collect()),
            dots: self.has_dots.then(|| self.dots_of_changes()),
            late: is_rolled.then(|| self.late.iter().copied().collect()),
            rolled: self.rolled.as_deref().cloned(),
            gone: is_rolled.then(|| self.gone.iter().map(gone).collect()),
        }
    }

    fn dots_of_changes(&self) -> Vec<u8> {
        let dots: BTreeMap<ChangeHash, Dot> =
            self.by_dot.iter().map(|(dot, hash)| (*hash, *dot)).collect();
        let none = Dot { origin: Origin([0; 8]), n: 0 };
        let mut bytes = Vec::with_capacity(self.changes.len() * DOT_LEN);
        for hash in self.changes.keys() {
            let dot = dots.get(hash).unwrap_or(&none);
            bytes.extend_from_slice(&dot.origin.0);
            bytes.extend_from_slice(&dot.n.to_be_bytes());
        }
        bytes
    }

    /// The document as it was saved.
    pub fn load(saved: SavedDocument, folds: &Arc<Folds>) -> Result<Self, DocumentError> {
        let mut document = match saved.automerge {
            Some(bytes) => Self::replay(&bytes)?,
            None => Self::restore(saved)?,
        };
        document.folds = folds.clone();
        document.set_base();
        Ok(document)
    }

    /// A document from all its changes, in Automerge's own format.
    fn replay(bytes: &[u8]) -> Result<Self, DocumentError> {
        let doc = Automerge::load(bytes).map_err(|e| DocumentError::Refused(e.to_string()))?;
        let mut document = Self::new();
        for change in doc.get_changes(&[]) {
            if !document.changes.contains_key(&change.hash()) {
                document.apply([&CheckedChange::of_stored(&change)?])?;
            }
        }
        Ok(document)
    }

    fn restore(saved: SavedDocument) -> Result<Self, DocumentError> {
        let damaged = || DocumentError::Refused("what was saved of it is damaged".into());
        let (chunks, rest) = saved.known.as_deref().unwrap_or_default().as_chunks::<KNOWN_LEN>();
        if !rest.is_empty() {
            return Err(damaged());
        }
        let known = |chunk: &[u8; KNOWN_LEN]| {
            let (hash, max_op) = chunk.split_at(HASH_LEN);
            let hash = ChangeHash(hash.try_into().ok()?);
            Some((hash, u64::from_be_bytes(max_op.try_into().ok()?)))
        };
        let mut document = Self::new();
        for chunk in chunks {
            let (hash, max_op) = known(chunk).ok_or_else(damaged)?;
            document.changes.insert(hash, max_op);
            document.max_op = document.max_op.max(max_op);
        }
        document.has_dots = saved.dots.is_some();
        if let Some(dots) = &saved.dots {
            document.set_dots(dots).ok_or_else(damaged)?;
        }
        if saved.epoch != saved.rolled.as_ref().map_or(0, |rolled| rolled.roll.epoch) {
            return Err(damaged());
        }
        document.rolled = saved.rolled.map(Arc::new);
        document.late = saved.late.unwrap_or_default().into_iter().collect();
        for gone in saved.gone.unwrap_or_default() {
            let key = Key::new(&gone.key).map_err(|_| damaged())?;
            let siblings = gone.siblings.into_iter().map(Gone::from).collect();
            document.gone.insert(key, siblings);
        }
        document.heads = saved.heads.iter().map(|head| (ChangeHash(head.hash), head.dot)).collect();
        for saved in saved.actors.unwrap_or_default() {
            let SavedActor { actor, seq, hash, max_op } = saved;
            document.actors.insert(actor, LastChange { seq, hash: ChangeHash(hash), max_op });
        }
        for row in saved.rows.unwrap_or_default() {
            let key = Key::new(&row.key).map_err(|_| damaged())?;
            let sibling = |saved: SavedSibling| Sibling {
                op: OpId { number: saved.number, actor: saved.actor },
                was: saved.was.map(OpId::from),
                entry: saved.entry,
            };
            document.rows.insert(key, row.siblings.into_iter().map(sibling).collect());
        }
        document.changes_since_base = usize::try_from(saved.changes).map_err(|_| damaged())?;
        document.keys_bytes = document.measure_keys();
        Ok(document)
    }
}

impl Document {
    /// Sets the dots of the changes that are known; `None` where the bytes are none.
    fn set_dots(&mut self, bytes: &[u8]) -> Option<()> {
        let (chunks, rest) = bytes.as_chunks::<DOT_LEN>();
        if !rest.is_empty() || chunks.len() > self.changes.len() {
            return None;
        }
        for (chunk, hash) in chunks.iter().zip(self.changes.keys()) {
            let (origin, n) = chunk.split_at(8);
            let n = u64::from_be_bytes(n.try_into().ok()?);
            if n > 0 {
                self.by_dot.insert(Dot { origin: Origin(origin.try_into().ok()?), n }, *hash);
            }
        }
        Some(())
    }
}

impl From<&Gone> for SavedGoneSibling {
    fn from(gone: &Gone) -> Self {
        Self { dot: gone.dot, op: gone.op.into(), was: gone.was.map(SavedOp::from) }
    }
}

impl From<SavedGoneSibling> for Gone {
    fn from(saved: SavedGoneSibling) -> Self {
        Self { dot: saved.dot, op: saved.op.into(), was: saved.was.map(OpId::from) }
    }
}

#[cfg(test)]
impl SavedDocument {
    /// What stores held at first.
    pub(super) fn of_automerge(bytes: Vec<u8>) -> Self {
        Self {
            epoch: 0,
            automerge: Some(bytes),
            heads: Vec::new(),
            changes: 0,
            known: None,
            actors: None,
            rows: None,
            dots: None,
            late: None,
            rolled: None,
            gone: None,
        }
    }
}
