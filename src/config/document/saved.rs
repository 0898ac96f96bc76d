//! What a store keeps of a document, so that loading it need not begin at its first change.

use automerge::{Automerge, ChangeHash};

use super::{ActorBytes, CheckedChange, Document, DocumentError, EPOCH, LastChange, OpId, Sibling};
use crate::config::entry::Entry;
use crate::model::{Dot, Key};

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
}

impl SavedDocument {
    /// The changes that a next one would build on.
    pub fn head_dots(&self) -> impl Iterator<Item = Dot> + '_ {
        self.heads.iter().map(|head| head.dot)
    }
}

const HASH_LEN: usize = 32;
const KNOWN_LEN: usize = HASH_LEN + 8;

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
        SavedDocument {
            epoch: EPOCH,
            automerge: None,
            heads: self.heads.iter().map(head).collect(),
            changes: (self.changes_in_base + self.changes_since_base) as u64,
            known: Some(known),
            actors: Some(self.actors.iter().map(actor).collect()),
            rows: Some(self.rows.iter().map(row).collect()),
        }
    }

    /// The document as it was saved.
    pub fn load(saved: SavedDocument) -> Result<Self, DocumentError> {
        let mut document = match saved.automerge {
            Some(bytes) => Self::replay(&bytes)?,
            None => Self::restore(saved)?,
        };
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
        document.heads = saved.heads.iter().map(|head| (ChangeHash(head.hash), head.dot)).collect();
        for saved in saved.actors.unwrap_or_default() {
            let SavedActor { actor, seq, hash, max_op } = saved;
            document.actors.insert(actor, LastChange { seq, hash: ChangeHash(hash), max_op });
        }
        for row in saved.rows.unwrap_or_default() {
            let key = Key::new(&row.key).map_err(|_| damaged())?;
            let sibling = |saved: SavedSibling| Sibling {
                op: OpId { number: saved.number, actor: saved.actor },
                entry: saved.entry,
            };
            document.rows.insert(key, row.siblings.into_iter().map(sibling).collect());
        }
        document.changes_since_base = usize::try_from(saved.changes).map_err(|_| damaged())?;
        Ok(document)
    }
}

#[cfg(test)]
impl SavedDocument {
    /// What stores held at first.
    pub(super) fn of_automerge(bytes: Vec<u8>) -> Self {
        Self {
            epoch: EPOCH,
            automerge: Some(bytes),
            heads: Vec::new(),
            changes: 0,
            known: None,
            actors: None,
            rows: None,
        }
    }
}
