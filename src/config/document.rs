//! One document: every entry of one service in one environment, as an Automerge CRDT.
//!
//! A deterministic genesis change makes [`BUCKETS`] maps; a key lives in one of them. A key's scalar
//! is an encoded [`Entry`]; a removal is an entry like any other, never an Automerge delete.
//!
//! Changes are Automerge's, byte for byte, and any Automerge shows the same entries for them. What
//! is in memory here is not an Automerge document, though, but what is visible of one, and what the
//! next change has to name: since all that ever happens is that a key is set, siblings are those
//! writes of a key that no other change has replaced, and that needs no history of values. Tests
//! hold both sides, the bytes and the siblings, to Automerge's own.
//!
//! Its history begins anew in each epoch: with a base that everyone makes alone and alike from what
//! the changes of a floor had left ([`Document::roll`]). Changes of an epoch before that the floor
//! does not hold are late, and made anew on top (`late`). So a document in epoch *e* is that
//! epoch's base and every known change that its floor does not include, in whichever order they
//! came.
//!
//! It is never on the read path, and it is never changed but by [`Document::write`],
//! [`Document::apply`] and [`Document::roll`].

mod bound;
mod change;
mod encode;
mod late;
mod roll;
mod saved;
mod size;
#[cfg(test)]
pub(crate) mod testing;
mod undo;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};

use automerge::transaction::{CommitOptions, Transactable as _};
use automerge::{ActorId, Automerge, ChangeHash, ObjType, ROOT};

pub use self::change::CheckedChange;
pub(crate) use self::late::is_reserved;
pub use self::roll::{Past, Rolling};
pub use self::saved::{ChangesHeld, Newest, SavedDocument};
use super::entry::Entry;
use super::view::Rolled;
use crate::model::{Dot, Folds, Key, Origin};

/// How many maps the keys of a document are spread over. Part of the format: the genesis change of
/// every document makes exactly these.
pub const BUCKETS: usize = 64;

/// Automerge numbers operations with 32 bits.
const OPERATIONS_MAX: u64 = u32::MAX as u64;

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
    fn bytes(self) -> ActorBytes {
        let mut bytes = [0; 12];
        bytes[..8].copy_from_slice(&self.origin.0);
        bytes[8..].copy_from_slice(&self.incarnation);
        bytes
    }
}

/// An Automerge actor's id.
type ActorBytes = [u8; 12];

/// Who makes the genesis change.
const GENESIS_ACTOR: ActorBytes = [0; 12];

/// Names an operation. Its order is Automerge's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct OpId {
    number: u64,
    actor: ActorBytes,
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
    /// The document has not come to the change's epoch.
    #[error("it is of epoch {0}, which the document has not come to")]
    Later(u32),
    /// The document cannot go to a next epoch in this way.
    #[error("the roll does not fit: {0}")]
    Roll(&'static str),
    /// The document came to this epoch by another roll.
    #[error("epoch {0} began otherwise here")]
    OtherRoll(u32),
    /// What the roll's base is made from is not there any more.
    #[error("change {0}, which its base is made from, is gone from the log")]
    Trimmed(Dot),
    /// What is here does not come to what the roll says.
    #[error("the base of epoch {0} does not come to what was agreed")]
    Mismatch(u32),
}

/// A change that was made.
#[derive(Clone, Debug)]
pub struct Made {
    /// As Automerge has it.
    pub bytes: Vec<u8>,
    /// For each entry, which changes' entries of its key it replaces, ascending.
    pub replaces: Vec<Vec<Dot>>,
}

/// A document in memory, for writes and merges.
pub struct Document {
    /// How its epoch began; nothing in epoch 0.
    rolled: Option<Arc<Rolled>>,
    /// What its floor is read by.
    folds: Arc<Folds>,
    /// Every change of its epoch that it holds, with its highest operation's number; the genesis
    /// change and the base's among them.
    changes: BTreeMap<ChangeHash, u64>,
    /// The same by dot, without genesis and base.
    by_dot: BTreeMap<Dot, ChangeHash>,
    /// Whether `by_dot` has all: not where it was loaded from what earlier programs saved.
    has_dots: bool,
    /// Which of them were made in an epoch before.
    late: BTreeSet<Dot>,
    /// The changes that no other change builds on yet, with their dots; the base's with the roll's.
    /// Empty: the genesis change.
    heads: BTreeMap<ChangeHash, Dot>,
    /// Each actor's last change.
    actors: BTreeMap<ActorBytes, LastChange>,
    /// The highest operation's number.
    max_op: u64,
    /// What nothing has replaced yet, removals among it.
    rows: BTreeMap<Key, Vec<Sibling>>,
    /// What was replaced in this epoch: a late change may replace it, too, and has to name it. Not
    /// kept in epoch 0, where nothing is late.
    gone: BTreeMap<Key, Vec<Gone>>,
    /// What `rows` and `gone` come to in memory, without their places in the trees.
    keys_bytes: usize,
    /// The document as its epoch began, encoded, until it is kept ([`Document::keep_epoch_base`]).
    epoch_base: Option<Arc<[u8]>>,
    /// How many changes its last saved base held.
    changes_in_base: usize,
    /// How many were written or applied since.
    changes_since_base: usize,
    /// The bytes of the base and of late changes, which nobody else sees.
    #[cfg(test)]
    trace: Vec<Vec<u8>>,
}

#[derive(Clone, Copy)]
struct LastChange {
    seq: u64,
    hash: ChangeHash,
    max_op: u64,
}

#[derive(Clone)]
struct Sibling {
    op: OpId,
    /// Its operation in epoch 0, where it was written there: changes of programs that knew no other
    /// name what they replace by that alone.
    was: Option<OpId>,
    entry: Entry,
}

/// A sibling that there was.
struct Gone {
    dot: Dot,
    op: OpId,
    was: Option<OpId>,
}

impl Document {
    /// A document without any entry.
    pub fn new() -> Self {
        Self {
            rolled: None,
            folds: Arc::default(),
            changes: BTreeMap::from([(*GENESIS, BUCKETS as u64)]),
            by_dot: BTreeMap::new(),
            has_dots: true,
            late: BTreeSet::new(),
            heads: BTreeMap::new(),
            actors: BTreeMap::new(),
            max_op: BUCKETS as u64,
            rows: BTreeMap::new(),
            gone: BTreeMap::new(),
            keys_bytes: 0,
            epoch_base: None,
            changes_in_base: 0,
            changes_since_base: 0,
            #[cfg(test)]
            trace: Vec::new(),
        }
    }

    /// Takes note that what [`Document::save`] gave is kept now.
    pub fn set_base(&mut self) {
        self.changes_in_base += std::mem::take(&mut self.changes_since_base);
    }

    /// The same, and that what [`Document::epoch_base`] gave is, too.
    pub fn set_bases(&mut self) {
        self.set_base();
        self.epoch_base = None;
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
        self.heads.values().copied()
    }

    /// Writes the entries as one change of `actor` and gives back its bytes.
    pub fn write(
        &mut self,
        actor: Actor,
        dot: Dot,
        entries: &[(Key, Entry)],
    ) -> Result<Vec<u8>, DocumentError> {
        self.make(actor, dot, entries).map(|made| made.bytes)
    }

    /// As [`Document::write`]; and says what each entry replaces.
    pub fn make(
        &mut self,
        actor: Actor,
        dot: Dot,
        entries: &[(Key, Entry)],
    ) -> Result<Made, DocumentError> {
        let actor = actor.bytes();
        if entries.is_empty() {
            return Err(DocumentError::Illegal("it is empty"));
        }
        let start_op = self.max_op + 1;
        let max_op = self.max_op + entries.len() as u64;
        if max_op > OPERATIONS_MAX {
            return Err(DocumentError::Refused("there are too many operations".into()));
        }
        let deps = self.next_deps(&actor);
        let seq = self.next_seq(&actor);
        let mut operations = Vec::with_capacity(entries.len());
        let mut replaces = Vec::with_capacity(entries.len());
        for ((key, entry), number) in entries.iter().zip(start_op..) {
            let siblings = self.rows.get(key).into_iter().flatten();
            let (mut replaced, mut dots): (Vec<OpId>, Vec<Dot>) =
                siblings.map(|sibling| (sibling.op, sibling.entry.dot)).unzip();
            replaced.sort_unstable();
            dots.sort_unstable();
            replaces.push(dots);
            self.set(
                key,
                Sibling { op: OpId { number, actor }, was: None, entry: entry.clone() },
                &replaced,
            );
            operations.push(encode::Operation { key, entry, replaced });
        }
        let draft = encode::Draft { actor, seq, start_op, deps: &deps, operations: &operations };
        let (hash, bytes) = encode::change(&draft);
        self.advance(actor, LastChange { seq, hash, max_op }, &deps, dot);
        Ok(Made { bytes, replaces })
    }

    /// Sets a key, in place of the siblings that have these operations.
    fn set(&mut self, key: &Key, sibling: Sibling, replaced: &[OpId]) {
        let (mut added, mut removed) = (size::sibling_bytes(&sibling), 0);
        let siblings = self.rows.entry(key.clone()).or_insert_with(|| {
            added += size::key_bytes(key);
            Vec::new()
        });
        // What is not there any more was replaced by a concurrent change, too.
        let old = siblings.extract_if(.., |sibling| replaced.contains(&sibling.op)).map(|it| {
            removed += size::sibling_bytes(&it);
            Gone { dot: it.entry.dot, op: it.op, was: it.was }
        });
        let old: Vec<Gone> = old.collect();
        // Nearly always it stays the only one.
        siblings.reserve_exact(1);
        siblings.push(sibling);
        if self.rolled.is_some() && !old.is_empty() {
            added += size::gone_bytes(old.len());
            let gone = self.gone.entry(key.clone()).or_insert_with(|| {
                added += size::key_bytes(key);
                Vec::new()
            });
            gone.extend(old);
        }
        self.keys_bytes = self.keys_bytes + added - removed;
    }

    /// What Automerge has a change of `actor` build on: all heads, and always the one before.
    fn next_deps(&self, actor: &ActorBytes) -> Vec<ChangeHash> {
        let mut deps: Vec<ChangeHash> = self.heads.keys().copied().collect();
        if deps.is_empty() {
            deps.push(*GENESIS);
        }
        if let Some(last) = self.actors.get(actor)
            && let Err(at) = deps.binary_search(&last.hash)
        {
            deps.insert(at, last.hash);
        }
        deps
    }

    fn next_seq(&self, actor: &ActorBytes) -> u64 {
        1 + self.actors.get(actor).map_or(0, |last| last.seq)
    }

    fn advance(&mut self, actor: ActorBytes, last: LastChange, deps: &[ChangeHash], dot: Dot) {
        for hash in deps {
            self.heads.remove(hash);
        }
        self.heads.insert(last.hash, dot);
        self.changes.insert(last.hash, last.max_op);
        self.by_dot.insert(dot, last.hash);
        self.actors.insert(actor, last);
        self.max_op = self.max_op.max(last.max_op);
        self.changes_since_base += 1;
    }

    /// Applies changes whose dependencies are all here or among them, in any order, but for late
    /// ones: these come after what they build on. Those that are here already are passed over. After
    /// an error, some may be applied: the document is to be loaded again.
    pub fn apply<'a>(
        &mut self,
        changes: impl IntoIterator<Item = &'a CheckedChange>,
    ) -> Result<(), DocumentError> {
        // What builds on a later one waits for it.
        let mut waiting: BTreeMap<ChangeHash, Vec<&CheckedChange>> = BTreeMap::new();
        for change in changes {
            let mut ready = vec![change];
            while let Some(change) = ready.pop() {
                if change.epoch < self.epoch() {
                    self.take_late(change)?;
                    continue;
                }
                if change.epoch > self.epoch() {
                    return Err(DocumentError::Later(change.epoch));
                }
                if self.changes.contains_key(&change.hash) {
                    continue;
                }
                let missing = change.deps.iter().find(|hash| !self.changes.contains_key(hash));
                if let Some(missing) = missing {
                    waiting.entry(*missing).or_default().push(change);
                    continue;
                }
                self.take(change)?;
                ready.extend(waiting.remove(&change.hash).unwrap_or_default());
            }
        }
        if waiting.is_empty() { Ok(()) } else { Err(DocumentError::Unapplied) }
    }

    /// Applies a change whose dependencies are here, if it follows from them.
    fn take(&mut self, change: &CheckedChange) -> Result<(), DocumentError> {
        let refused = |why: &str| Err(DocumentError::Refused(why.into()));
        let CheckedChange { hash, actor, seq, start_op, .. } = *change;
        let known = self.actors.get(&actor);
        if seq != self.next_seq(&actor)
            || known.is_some_and(|last| !change.deps.contains(&last.hash))
        {
            return refused("it does not come after its actor's change before");
        }
        let before = change.deps.iter().filter_map(|hash| self.changes.get(hash)).max();
        if before.is_none_or(|before| start_op != before + 1) {
            return refused("its operations do not come after those that it builds on");
        }
        let max_op = start_op - 1 + change.entries.len() as u64;
        if max_op > OPERATIONS_MAX {
            return refused("there are too many operations");
        }
        for (replaced, number) in change.replaced.iter().zip(start_op..) {
            let is_known = |op: &OpId| match self.actors.get(&op.actor) {
                _ if op.actor == actor => op.number < number,
                Some(last) => op.number < number && op.number <= last.max_op,
                None => false,
            };
            if !replaced.iter().all(is_known) {
                return refused("it replaces what is not there");
            }
        }
        self.check_replaces(change)?;
        let writes = change.entries.iter().zip(&change.replaced).zip(start_op..);
        for (((key, entry), replaced), number) in writes {
            let op = OpId { number, actor };
            self.set(key, Sibling { op, was: None, entry: entry.clone() }, replaced);
        }
        self.advance(actor, LastChange { seq, hash, max_op }, &change.deps, change.dot);
        Ok(())
    }

    /// The concurrent entries of a key, in no order that matters.
    pub fn siblings(&self, key: &Key) -> Vec<Entry> {
        self.rows.get(key).into_iter().flatten().map(|sibling| sibling.entry.clone()).collect()
    }

    /// All keys that were ever written, removed ones among them.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.rows.keys()
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

/// The genesis change's document: the same bytes everywhere, so that it needs no agreement.
fn genesis() -> Automerge {
    let mut doc = Automerge::new().with_actor(ActorId::from(GENESIS_ACTOR));
    let mut transaction = doc.transaction();
    for i in 0..BUCKETS {
        transaction
            .put_object(ROOT, format!("{i:02}"), ObjType::Map)
            .expect("an empty document takes maps");
    }
    transaction.commit_with(CommitOptions::default().with_time(0));
    doc
}

/// The genesis change, as others name it.
static GENESIS: LazyLock<ChangeHash> = LazyLock::new(|| {
    let heads = genesis().get_heads();
    *heads.first().expect("there is one change")
});

#[cfg(test)]
mod tests;
