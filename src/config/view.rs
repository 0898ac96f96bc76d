//! The materialised view: what reads are answered from. One immutable [`Snapshot`] holds every
//! row and the vector that says which changes they come from; a commit swaps in the next one, so
//! that a reader sees all of a change or nothing of it, and its session is exact.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use imbl::OrdMap;

use super::entry::Entry;
use super::roll::Roll;
use crate::model::{DocumentId, Dot, Key, Session, Told, Vector};
use crate::planted::{Bug, is_planted};

/// Everything one key has at one moment.
#[derive(Debug)]
pub struct Row {
    /// The concurrent writes that nothing has replaced yet, the winner first. Never empty.
    siblings: Siblings,
    /// What the HTTP layer made of it, kept so that a hot key is rendered once a change.
    rendered: OnceLock<Box<Rendered>>,
}

/// One entry stands in the row itself, which is all that nearly every row has: a view of a million
/// keys makes a million allocations less.
#[derive(Debug)]
enum Siblings {
    One(Entry),
    Several(Box<[Entry]>),
}

impl Row {
    /// A row of these siblings, in any order; `None` where there are none.
    pub fn new(mut siblings: Vec<Entry>) -> Option<Self> {
        if is_planted(Bug::WinnerByGreaterOrEqual) {
            siblings.reverse();
            siblings.sort_by_key(|entry| std::cmp::Reverse(entry.stamp));
        } else if !is_planted(Bug::WinnerByArrival) {
            siblings.sort_by(Entry::precedence);
        }
        let one = if siblings.len() == 1 { siblings.pop() } else { None };
        let siblings = match one {
            Some(entry) => Siblings::One(entry),
            None if siblings.is_empty() => return None,
            None => Siblings::Several(siblings.into_boxed_slice()),
        };
        Some(Self { siblings, rendered: OnceLock::new() })
    }

    /// The entry that is shown: its value is the key's, and where it is a removal the key is gone.
    pub fn winner(&self) -> &Entry {
        &self.siblings()[0]
    }

    /// The concurrent entries that lost, by precedence: shown until a later write settles them.
    pub fn conflicts(&self) -> &[Entry] {
        &self.siblings()[1..]
    }

    /// Winner and conflicts.
    pub fn siblings(&self) -> &[Entry] {
        match &self.siblings {
            Siblings::One(entry) => std::slice::from_ref(entry),
            Siblings::Several(entries) => entries,
        }
    }

    /// Whether a state with this vector includes all of this row: where not, a watch that resumes
    /// from there has to be sent it.
    pub fn is_included_in(&self, vector: &Vector) -> bool {
        self.siblings().iter().all(|entry| vector.includes(entry.dot))
    }

    /// The rendering of this row: made by `render` the first time, and kept while all that are kept
    /// fit into `RENDERED_BYTES_MAX`; else made each time.
    pub fn rendered(&self, render: impl FnOnce(&Row) -> Bytes) -> Bytes {
        if let Some(known) = self.rendered.get() {
            return known.0.clone();
        }
        let bytes = render(self);
        if let Some(kept) = Rendered::new(bytes.clone(), &RENDERED_BYTES) {
            // Another reader may have been first.
            let _ = self.rendered.set(Box::new(kept));
        }
        bytes
    }
}

/// Most bytes of renderings that a process keeps: without it, reading every key once would have the
/// view take twice its memory for as long as nothing is written.
const RENDERED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What the renderings that are kept come to. It decides what is kept, and nothing that is shown.
static RENDERED_BYTES: AtomicUsize = AtomicUsize::new(0);

/// A rendering that is kept, and counted as long as it is.
#[derive(Debug)]
struct Rendered(Bytes, &'static AtomicUsize);

impl Rendered {
    /// Nothing where there is no room.
    fn new(bytes: Bytes, all: &'static AtomicUsize) -> Option<Self> {
        let len = bytes.len();
        if all.fetch_add(len, Ordering::Relaxed) + len > RENDERED_BYTES_MAX {
            all.fetch_sub(len, Ordering::Relaxed);
            return None;
        }
        Some(Self(bytes, all))
    }
}

impl Drop for Rendered {
    fn drop(&mut self) {
        self.1.fetch_sub(self.0.len(), Ordering::Relaxed);
    }
}

/// One document's rows, removals among them, by key.
#[derive(Clone, Debug, Default)]
pub struct DocumentView {
    /// All rows; `Arc`, because snapshots share them.
    pub rows: OrdMap<Key, Arc<Row>>,
    /// How many changes there are in its epoch.
    pub changes: u64,
    /// How its epoch began; nothing in epoch 0.
    pub rolled: Option<Arc<Rolled>>,
}

/// How a document's epoch began.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub struct Rolled {
    /// What was decided.
    #[n(0)]
    pub roll: Roll,
    /// The record that said so to this node first. Another one of the same content may follow.
    #[n(1)]
    pub record: Dot,
    /// The highest version that went with a row that was dropped, in this roll or one before: a key
    /// that is not there goes on above it.
    #[n(2)]
    pub version_floor: u64,
    /// For each origin its last removal that was dropped, in this roll or one before. Who has not
    /// seen all of these cannot be told of single rows: it needs the whole state.
    #[n(3)]
    pub pruned: Told,
}

impl DocumentView {
    /// Which epoch it is in.
    pub fn epoch(&self) -> u32 {
        self.rolled.as_ref().map_or(0, |rolled| rolled.roll.epoch)
    }

    /// What the versions of keys that are not there are above.
    pub fn version_floor(&self) -> u64 {
        self.rolled.as_ref().map_or(0, |rolled| rolled.version_floor)
    }

    /// Whether who has seen `seen` may hold keys whose removals are gone from here, or it is not known
    /// what it has seen: then nothing but the whole state tells it so.
    pub fn is_reset_for(&self, seen: &Vector) -> bool {
        let is_pruned = |rolled: &Arc<Rolled>| !seen.covers_told(&rolled.pruned);
        !seen.is_understood() || self.rolled.as_ref().is_some_and(is_pruned)
    }

    /// The row of a key that is there: neither unknown nor removed.
    pub fn live(&self, key: &Key) -> Option<&Arc<Row>> {
        self.rows.get(key).filter(|row| !row.winner().is_removal())
    }

    /// The rows of all keys that are there, from `after` (exclusive) on, in the order of keys.
    pub fn live_after<'a>(
        &'a self,
        after: Option<&Key>,
    ) -> impl Iterator<Item = (&'a Key, &'a Arc<Row>)> + 'a {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = after.map_or(Unbounded, |key| Excluded(key.clone()));
        self.rows.range((from, Unbounded)).filter(|(_, row)| !row.winner().is_removal())
    }
}

/// All documents at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Which changes are in it: exactly these.
    pub vector: Arc<Vector>,
    /// The rows, by document.
    pub documents: OrdMap<DocumentId, Arc<DocumentView>>,
    /// `vector` as a session token, made when first asked for.
    session: OnceLock<Arc<str>>,
}

impl Snapshot {
    /// A snapshot of these documents, which include exactly the changes in `vector`.
    pub fn new(vector: Arc<Vector>, documents: OrdMap<DocumentId, Arc<DocumentView>>) -> Self {
        Self { vector, documents, session: OnceLock::new() }
    }

    /// This snapshot with one document alone: what a watcher of it holds on to, without keeping the
    /// rest alive.
    pub fn only(&self, id: &DocumentId) -> Self {
        let document = self.document(id).map(|view| (id.clone(), view.clone()));
        Self::new(self.vector.clone(), document.into_iter().collect())
    }

    /// The documents that have more than `cap` changes in their epoch, and how many.
    pub fn documents_over(&self, cap: u64) -> impl Iterator<Item = (&DocumentId, u64)> {
        let over = self.documents.iter().filter(move |(_, view)| view.changes > cap);
        over.map(|(id, view)| (id, view.changes))
    }

    /// One document; `None` where it never had a key.
    pub fn document(&self, id: &DocumentId) -> Option<&Arc<DocumentView>> {
        self.documents.get(id)
    }

    /// The row of a key that is there.
    pub fn live(&self, id: &DocumentId, key: &Key) -> Option<&Arc<Row>> {
        self.document(id)?.live(key)
    }

    /// The session of a client that has seen this snapshot.
    pub fn session(&self) -> &Arc<str> {
        self.session.get_or_init(|| Session::of(self.vector.told()).encode().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(n: u64) -> Entry {
        let dot = Dot { origin: crate::model::Origin([1; 8]), n };
        let stamp = crate::model::Stamp(n);
        let (author, region) = ("ci".into(), "eu".into());
        let (value, version) = (crate::model::JsonText::parse("1").ok(), n);
        Entry { value, version, stamp, dot, author, region, message: None, idempotency: None }
    }

    #[test]
    fn a_row_of_one_entry_is_one_allocation_of_144_bytes_at_most() {
        let row = Row::new(vec![entry(1)]).unwrap();
        let (at, winner) = (&raw const row as usize, std::ptr::from_ref(row.winner()) as usize);
        assert!((at..at + size_of::<Row>()).contains(&winner), "it stands in the row");
        // With the two counts that sharing it takes.
        assert!(16 + size_of::<Row>() <= 144, "{}", size_of::<Row>());
        assert_eq!((row.siblings().len(), row.conflicts().len()), (1, 0));
    }

    #[test]
    fn a_row_shows_the_latest_of_several_entries_and_the_others_as_conflicts() {
        assert!(Row::new(vec![]).is_none());
        let row = Row::new(vec![entry(1), entry(3), entry(2)]).unwrap();
        assert_eq!(row.winner(), &entry(3));
        assert_eq!(row.conflicts(), [entry(2), entry(1)]);
        assert_eq!(row.siblings().len(), 3);
    }

    #[test]
    fn of_who_has_seen_folds_that_are_not_known_here_nothing_is_known_but_that_it_needs_all() {
        let mut told: Told = [entry(7).dot].into_iter().collect();
        let view = DocumentView::default();
        assert!(!view.is_reset_for(&told.read(&Arc::default())));
        told.advance(Dot { origin: crate::model::Origin::FOLDS, n: 1 });
        assert!(view.is_reset_for(&told.read(&Arc::default())));
    }

    #[test]
    fn renderings_are_kept_while_there_is_room_and_make_room_when_they_go() {
        static ALL: AtomicUsize = AtomicUsize::new(0);
        let large = || Bytes::from(vec![0; RENDERED_BYTES_MAX / 2]);
        let (one, two) = (Rendered::new(large(), &ALL), Rendered::new(large(), &ALL));
        assert!(one.is_some() && two.is_some());
        assert!(Rendered::new(Bytes::from_static(b"x"), &ALL).is_none());
        drop(one);
        assert_eq!(ALL.load(Ordering::Relaxed), RENDERED_BYTES_MAX / 2);
        assert!(Rendered::new(large(), &ALL).is_some());
    }
}
