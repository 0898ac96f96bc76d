//! One document: the Automerge CRDT that holds every entry of one service in one environment.
//!
//! A deterministic genesis change makes [`BUCKETS`] maps; a key lives in one of them, so that a
//! remote change costs what its bucket holds and not what the document holds. A key's scalar is an
//! encoded [`Entry`]; a removal is an entry like any other, never an Automerge delete. It is never
//! on the read path, and it is never changed but by [`Document::write`] and [`Document::apply`].

mod bound;

use std::sync::LazyLock;

use automerge::legacy::{Key as OpKey, ObjectId, OpType};
use automerge::transaction::{CommitOptions, Transactable as _};
use automerge::{
    ActorId, Automerge, Change, ChangeHash, ObjId, ObjType, ROOT, ReadDoc as _, ScalarValue,
};

use super::entry::Entry;
use crate::model::{Dot, Key, Origin, cbor};

/// How many maps the keys of a document are spread over. Part of the format: the genesis change of
/// every document makes exactly these.
pub const BUCKETS: usize = 64;

/// The epoch of every document so far. A later one starts over from the entries that are live.
pub const EPOCH: u32 = 0;

/// Most changes that Automerge is given at once.
const BATCH_MAX: usize = 16;

/// Who makes changes: the origin, and a number drawn at each start of its node. Automerge refuses
/// for ever a document that has seen one actor's sequence number twice with different content;
/// with the second part that cannot come to pass even where an origin is used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Actor {
    /// Whose changes they are.
    pub origin: Origin,
    /// Which start of the node made them.
    pub incarnation: [u8; 4],
}

impl Actor {
    fn id(self) -> ActorId {
        let mut bytes = [0; 12];
        bytes[..8].copy_from_slice(&self.origin.0);
        bytes[8..].copy_from_slice(&self.incarnation);
        ActorId::from(bytes)
    }
}

/// Why a change was not taken. The document is as it was, unless it says otherwise.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// The bytes are not an Automerge change.
    #[error("not an Automerge change: {0}")]
    Undecodable(String),
    /// The change does something that no node does.
    #[error("not a change of a configuration document: {0}")]
    Illegal(&'static str),
    /// Automerge refused it; the document must be loaded again.
    #[error("Automerge refused it: {0}")]
    Refused(String),
    /// The change builds on one that is not there; the document must be loaded again.
    #[error("a change it builds on is missing")]
    Unapplied,
}

/// A change that was looked through: it only sets entries, each under its own key and dot.
#[derive(Clone, Debug)]
pub struct CheckedChange {
    change: Change,
    dot: Dot,
    /// What it writes, in the order of its operations.
    pub entries: Vec<(Key, Entry)>,
}

impl CheckedChange {
    /// Looks through the bytes of a change that claims to be `dot`.
    pub fn decode(bytes: &[u8], dot: Dot) -> Result<Self, DocumentError> {
        let guarded = std::panic::AssertUnwindSafe(|| Self::decode_unguarded(bytes, dot));
        // Automerge's decoder panics on some bytes instead of refusing them.
        std::panic::catch_unwind(guarded)
            .unwrap_or_else(|_| Err(DocumentError::Undecodable("its decoder panicked".into())))
    }

    fn decode_unguarded(bytes: &[u8], dot: Dot) -> Result<Self, DocumentError> {
        bound::operations(bytes).map_err(|reason| DocumentError::Undecodable(reason.into()))?;
        let change =
            Change::try_from(bytes).map_err(|e| DocumentError::Undecodable(e.to_string()))?;
        if !change.actor_id().to_bytes().starts_with(&dot.origin.0) {
            return Err(DocumentError::Illegal("its actor is not its origin's"));
        }
        let mut entries = Vec::new();
        for op in change.decode().operations {
            let OpKey::Map(name) = op.key else {
                return Err(DocumentError::Illegal("it writes into a list"));
            };
            let OpType::Put(ScalarValue::Bytes(scalar)) = op.action else {
                return Err(DocumentError::Illegal("it does something else than to set an entry"));
            };
            let key = Key::new(&name).map_err(|_| DocumentError::Illegal("bad key"))?;
            let bucket = bucket_of(&key);
            let in_bucket = matches!(&op.obj, ObjectId::Id(id)
                if id.0 == bucket as u64 + 1 && id.1 == genesis_actor());
            if !in_bucket {
                return Err(DocumentError::Illegal("a key stands in another bucket than its own"));
            }
            let entry: Entry =
                cbor::decode(&scalar).map_err(|_| DocumentError::Illegal("bad entry"))?;
            if entry.dot != dot || entry.version == 0 {
                return Err(DocumentError::Illegal("an entry names another change"));
            }
            entries.push((key, entry));
        }
        if entries.is_empty() {
            return Err(DocumentError::Illegal("it is empty"));
        }
        Ok(Self { change, dot, entries })
    }
}

/// A document in memory, for writes and merges.
pub struct Document {
    doc: Automerge,
    buckets: Vec<ObjId>,
    /// The changes that no other change builds on yet, with their dots.
    heads: Vec<(ChangeHash, Dot)>,
    /// How many changes its last saved base held.
    changes_in_base: usize,
    /// How many were written or applied since.
    changes_since_base: usize,
}

/// What a store keeps of a document: everything up to some changes, in Automerge's own format.
#[derive(Debug, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub struct SavedDocument {
    /// Which epoch it is of.
    #[n(0)]
    pub epoch: u32,
    /// `Automerge::save`, compressed or not.
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    pub bytes: Vec<u8>,
    /// The dots of its heads.
    #[n(2)]
    heads: Vec<SavedHead>,
    /// How many changes it holds.
    #[n(3)]
    changes: u64,
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

impl Document {
    /// A document without any entry.
    pub fn new() -> Self {
        Self::of(GENESIS.clone(), Vec::new(), 0)
    }

    /// The document as it was saved.
    pub fn load(saved: &SavedDocument) -> Result<Self, DocumentError> {
        let doc =
            Automerge::load(&saved.bytes).map_err(|e| DocumentError::Refused(e.to_string()))?;
        let heads = saved.heads.iter().map(|head| (ChangeHash(head.hash), head.dot)).collect();
        Ok(Self::of(doc, heads, usize::try_from(saved.changes).unwrap_or(usize::MAX)))
    }

    fn of(doc: Automerge, heads: Vec<(ChangeHash, Dot)>, changes_in_base: usize) -> Self {
        let bucket = |i| ObjId::Id(i as u64 + 1, genesis_actor(), 0);
        let buckets = (0..BUCKETS).map(bucket).collect();
        Self { doc, buckets, heads, changes_in_base, changes_since_base: 0 }
    }

    /// What to keep of it.
    pub fn save(&self) -> SavedDocument {
        let head = |(hash, dot): &(ChangeHash, Dot)| SavedHead { hash: hash.0, dot: *dot };
        SavedDocument {
            epoch: EPOCH,
            // Deflating would take longer than all the rest.
            bytes: self.doc.save_nocompress(),
            heads: self.heads.iter().map(head).collect(),
            changes: (self.changes_in_base + self.changes_since_base) as u64,
        }
    }

    /// Takes note that what [`Document::save`] gave is kept now.
    pub fn set_base(&mut self) {
        self.changes_in_base += std::mem::take(&mut self.changes_since_base);
    }

    /// How many changes its last saved base held.
    pub fn changes_in_base(&self) -> usize {
        self.changes_in_base
    }

    /// How many changes were written or applied since its last saved base.
    pub fn changes_since_base(&self) -> usize {
        self.changes_since_base
    }

    /// The changes a next one would build on.
    pub fn head_dots(&self) -> impl Iterator<Item = Dot> + '_ {
        self.heads.iter().map(|(_, dot)| *dot)
    }

    /// Writes the entries, each key once, as one change of `actor` and gives back its bytes.
    pub fn write(
        &mut self,
        actor: Actor,
        dot: Dot,
        entries: &[(Key, Entry)],
    ) -> Result<Vec<u8>, DocumentError> {
        let refused = |e: automerge::AutomergeError| DocumentError::Refused(e.to_string());
        self.doc.set_actor(actor.id());
        let mut transaction = self.doc.transaction();
        for (key, entry) in entries {
            let scalar = ScalarValue::Bytes(cbor::encode(entry));
            transaction
                .put(&self.buckets[bucket_of(key)], key.as_str(), scalar)
                .map_err(refused)?;
        }
        // No wall time in the change: an entry has its own stamp.
        let (hash, _) = transaction.commit_with(CommitOptions::default().with_time(0));
        let hash = hash.ok_or(DocumentError::Illegal("it is empty"))?;
        let change = self.doc.get_change_by_hash(&hash).ok_or(DocumentError::Unapplied)?;
        self.advance_heads(&change, dot);
        Ok(change.raw_bytes().to_vec())
    }

    /// Applies changes whose dependencies are all here or among them, in any order; those that
    /// are here already are passed over.
    pub fn apply(&mut self, changes: &[CheckedChange]) -> Result<(), DocumentError> {
        let fresh: Vec<&CheckedChange> = changes
            .iter()
            .filter(|checked| self.doc.get_change_meta_by_hash(&checked.change.hash()).is_none())
            .collect();
        // A batch costs memory and time that grow with the square of its length. What builds on a
        // later chunk waits within Automerge.
        for chunk in fresh.chunks(BATCH_MAX) {
            let batch: Vec<Change> = chunk.iter().map(|checked| checked.change.clone()).collect();
            let doc = &mut self.doc;
            let applied =
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| doc.apply_changes(batch)));
            match applied {
                Ok(result) => result.map_err(|e| DocumentError::Refused(e.to_string()))?,
                Err(_) => return Err(DocumentError::Refused("it panicked".into())),
            }
        }
        for checked in fresh {
            if self.doc.get_change_meta_by_hash(&checked.change.hash()).is_none() {
                return Err(DocumentError::Unapplied);
            }
            self.advance_heads(&checked.change, checked.dot);
        }
        Ok(())
    }

    fn advance_heads(&mut self, change: &Change, dot: Dot) {
        self.heads.retain(|(hash, _)| !change.deps().contains(hash));
        // In a batch, a change may come after one that builds on it.
        if self.doc.get_heads().contains(&change.hash()) {
            self.heads.push((change.hash(), dot));
        }
        self.changes_since_base += 1;
    }

    /// The concurrent entries of a key, in no order that matters.
    pub fn siblings(&self, key: &Key) -> Result<Vec<Entry>, DocumentError> {
        let values = self
            .doc
            .get_all(&self.buckets[bucket_of(key)], key.as_str())
            .map_err(|e| DocumentError::Refused(e.to_string()))?;
        let entry = |value: &automerge::Value<'_>| {
            let scalar = value.as_bytes().ok_or(DocumentError::Illegal("bad entry"))?;
            cbor::decode(scalar).map_err(|_| DocumentError::Illegal("bad entry"))
        };
        values.iter().map(|(value, _)| entry(value)).collect()
    }

    /// All keys that were ever written, removed ones among them.
    pub fn keys(&self) -> Vec<Key> {
        let mut keys: Vec<Key> = self
            .buckets
            .iter()
            .flat_map(|bucket| self.doc.keys(bucket))
            .filter_map(|name| Key::new(&name).ok())
            .collect();
        keys.sort();
        keys
    }
}

impl Default for Document {
    fn default() -> Self {
        Self::new()
    }
}

/// Which bucket a key lives in: FNV-1a, 64 bits. Part of the format.
fn bucket_of(key: &Key) -> usize {
    let hash = key.as_str().bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    (hash % BUCKETS as u64) as usize
}

fn genesis_actor() -> ActorId {
    ActorId::from([0_u8; 12])
}

/// The genesis change's document: the same bytes everywhere, so that it needs no agreement.
static GENESIS: LazyLock<Automerge> = LazyLock::new(|| {
    let mut doc = Automerge::new().with_actor(genesis_actor());
    let mut transaction = doc.transaction();
    for i in 0..BUCKETS {
        transaction
            .put_object(ROOT, format!("{i:02}"), ObjType::Map)
            .expect("an empty document takes maps");
    }
    transaction.commit_with(CommitOptions::default().with_time(0));
    doc
});

#[cfg(test)]
mod tests;
