//! One group of commands, worked out on the writer's working copies and not yet committed.
//!
//! Writes that meet in a group share a change of their document; a key's second write starts the
//! next one. Before a peer's changes are applied, the open ones are closed, so that each builds on
//! exactly what its decision saw.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::audited::Audited;
use super::{Applied, Command, Committed, Outcome, Writer};
use crate::config::record::Record;
use crate::config::{Entry, Idempotency, Row, Snapshot, WriteError, Written, WrittenKey};
use crate::model::{DocumentId, Dot, Key, Origin, Stamp};
use crate::planted::{Bug, is_planted};
use crate::storage::epochs::RollError;
use crate::storage::error::StoreError;
use crate::storage::past::Checked;

mod merge;
mod write;

pub(super) use merge::refused;

/// Why a group cannot go on. The writer's working copies are to be given up.
pub(super) enum Abort {
    /// The store failed.
    Failed(StoreError),
    /// A peer's record is bad: to be tried again without it.
    Refused {
        /// Which record.
        record: Box<Record>,
        /// Why, in words.
        why: String,
    },
    /// A roll cannot be taken as things are: to be tried again without it, for now.
    HeldBack {
        /// Which record.
        record: Box<Record>,
        /// Whether it does not come to what it says here; else, what it needs of the log is gone.
        is_mismatch: bool,
    },
    /// One of several changes is bad: to be tried again one by one, to find out which.
    OneByOne,
    /// The node makes changes as a new origin from now on: to be tried again as that.
    Renewed,
}

impl<E: Into<StoreError>> From<E> for Abort {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// A change of this node that can still take entries.
struct Open {
    dot: Dot,
    entries: Vec<(Key, Entry)>,
    keys: BTreeSet<Key>,
    bytes: usize,
}

/// An outcome that has no snapshot yet.
enum Staged {
    Written { dot: Option<Dot>, keys: Vec<WrittenKey>, replayed: bool },
    WriteFailed(WriteError),
    Applied(Applied),
    Witnessed,
    Recorded,
    Rolled(Result<Dot, RollError>),
}

/// A record that can be applied, looked through.
pub(super) type Ready = (Record, Checked);

/// What a group comes to.
pub(super) struct Group {
    pub(super) records: Vec<Record>,
    pub(super) touched: BTreeMap<DocumentId, BTreeSet<Key>>,
    pub(super) entries: Vec<(DocumentId, Key, Entry)>,
    pub(super) idempotency: BTreeMap<[u8; 16], Dot>,
    pub(super) audited: Audited,
    /// Rows that rolls left out.
    pub(super) dropped: BTreeSet<(DocumentId, Key)>,
    /// Documents that began an epoch.
    pub(super) rolled: BTreeSet<DocumentId>,
    pub(super) remote: Vec<Stamp>,
    /// Open changes by document; their numbers are given out, so they are closed together.
    open: BTreeMap<DocumentId, Open>,
    /// Requests with an idempotency key that this group carried out already.
    carried_out: BTreeMap<[u8; 16], (Idempotency, usize)>,
    staged: Vec<Staged>,
}

impl Group {
    /// Works out `commands` at `now` on the writer's working copies.
    pub(super) fn stage(
        writer: &mut Writer,
        now: Stamp,
        commands: &[Command],
    ) -> Result<Self, Abort> {
        let mut group = Self {
            records: Vec::new(),
            touched: BTreeMap::new(),
            entries: Vec::new(),
            idempotency: BTreeMap::new(),
            audited: Audited::default(),
            dropped: BTreeSet::new(),
            rolled: BTreeSet::new(),
            remote: Vec::new(),
            open: BTreeMap::new(),
            carried_out: BTreeMap::new(),
            staged: Vec::with_capacity(commands.len()),
        };
        for command in commands {
            let staged = match command {
                Command::Write(request) => group.write(writer, now, request)?,
                Command::Apply(records) => {
                    group.close_open(writer)?;
                    Staged::Applied(group.apply(writer, records)?)
                }
                // Heard before the group was begun.
                Command::Witnessed { .. } => Staged::Witnessed,
                Command::Record(events) => {
                    group.audited.record(events);
                    Staged::Recorded
                }
                Command::Roll { document, roll } => {
                    group.close_open(writer)?;
                    Staged::Rolled(group.roll(writer, document, roll)?)
                }
            };
            group.staged.push(staged);
        }
        group.close_open(writer)?;
        group.audited.seal(&mut writer.state.chain, &group.records);
        Ok(group)
    }

    /// The outcomes, now that the group is committed and `snapshot` published.
    pub(super) fn into_committed(self, snapshot: &Arc<Snapshot>, own: Origin) -> Committed {
        let is_own = |record: &&Record| record.dot.origin == own;
        let outcome = |staged| match staged {
            Staged::Written { dot, keys, replayed } => {
                Outcome::Written(Ok(Written { dot, keys, replayed, snapshot: snapshot.clone() }))
            }
            Staged::WriteFailed(error) => Outcome::Written(Err(error)),
            Staged::Applied(applied) => Outcome::Applied(Ok(applied)),
            Staged::Witnessed => Outcome::Witnessed,
            Staged::Recorded => Outcome::Recorded(Ok(())),
            Staged::Rolled(rolled) => Outcome::Rolled(rolled),
        };
        Committed {
            own: self.records.iter().filter(is_own).map(|record| record.bytes.clone()).collect(),
            records: self.records.len(),
            outcomes: self.staged.into_iter().map(outcome).collect(),
            touched: self.touched,
            remote: self.remote,
            reopened: false,
        }
    }

    /// Shows these keys of a document as it has them now.
    pub(super) fn show(
        &mut self,
        writer: &mut Writer,
        id: &DocumentId,
        keys: BTreeSet<Key>,
    ) -> Result<(), Abort> {
        for key in keys {
            let mut siblings = writer.document(id)?.siblings(&key);
            if is_planted(Bug::WinnerByArrival) {
                let known = writer.state.view(id).and_then(|view| view.rows.get(&key));
                siblings.sort_by_key(|it| known.is_none_or(|row| !row.siblings().contains(it)));
            }
            self.touched.entry(id.clone()).or_default().insert(key.clone());
            if let Some(row) = Row::new(siblings) {
                writer.state.set_row(id, &key, Arc::new(row));
            } else {
                // Left out by a roll: who can still hold it is told by the whole state.
                writer.state.remove_row(id, &key);
                self.dropped.insert((id.clone(), key));
            }
        }
        let document = writer.document(id)?;
        let (changes, rolled) = (document.changes_in_epoch(), document.rolled().cloned());
        writer.state.set_epoch(id, changes, rolled);
        Ok(())
    }
}
