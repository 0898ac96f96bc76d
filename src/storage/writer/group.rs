//! One group of commands, worked out on the writer's working copies and not yet committed.
//!
//! Writes that meet in a group share a change of their document; a key's second write starts the
//! next one. Before a peer's changes are applied, the open ones are closed, so that each builds on
//! exactly what its decision saw.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use redb::ReadableDatabase as _;

use super::audited::Audited;
use super::{Applied, Command, Committed, Outcome, Writer};
use crate::config::decide::{Draft, decide};
use crate::config::document::{CheckedChange, DocumentError};
use crate::config::record::{NO_RECORD, RECORD_BYTES_MAX, Record};
use crate::config::waiting::is_applicable;
use crate::config::{
    Entry, Idempotency, Row, Snapshot, WriteError, WriteRequest, Written, WrittenKey,
};
use crate::model::vector::VECTOR_ORIGINS_MAX;
use crate::model::{DocumentId, Dot, Key, Origin, Stamp};
use crate::planted::{Bug, is_planted};
use crate::storage::epochs::RollError;
use crate::storage::error::StoreError;
use crate::storage::past::Checked;
use crate::storage::{idempotency, log};

/// Most entries in one change, and most bytes of them: past either, the next write starts the next
/// change.
const CHANGE_ENTRIES_MAX: usize = 1_024;
const CHANGE_BYTES_MAX: usize = 1024 * 1024;
/// Most bytes that one request may come to: its change has to fit into a record, with room for
/// what Automerge adds.
const WRITE_BYTES_MAX: usize = RECORD_BYTES_MAX - 1024 * 1024;
/// What an entry takes beside its texts, in bytes, at most; its region's name is a label.
const ENTRY_OVERHEAD: usize = 192;
/// Origins that are left for this node's own when peers have used up the rest.
const ORIGINS_RESERVED: usize = 16;

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

    fn write(
        &mut self,
        writer: &mut Writer,
        now: Stamp,
        request: &WriteRequest,
    ) -> Result<Staged, Abort> {
        if let Some(idempotency) = request.idempotency
            && let Some(staged) = self.retry(writer, now, request, idempotency)?
        {
            return Ok(staged);
        }
        let view = writer.state.view(&request.document);
        let drafts = match decide(request, view, now, writer.limits) {
            Ok(drafts) => drafts,
            Err(error) => return Ok(Staged::WriteFailed(error)),
        };
        if drafts.is_empty() {
            return Ok(Staged::Written { dot: None, keys: Vec::new(), replayed: false });
        }
        let bytes = drafts.iter().map(|draft| entry_bytes(request, draft)).sum();
        if bytes > WRITE_BYTES_MAX {
            let error = WriteError::TooLarge { bytes, bytes_max: WRITE_BYTES_MAX };
            return Ok(Staged::WriteFailed(error));
        }
        let (dot, keys) = self.add(writer, request, drafts, bytes)?;
        self.audited.wrote(now, request, dot, keys.iter().map(|written| &written.key));
        if let Some(idempotency) = request.idempotency {
            self.idempotency.insert(idempotency.key, dot);
            self.carried_out.insert(idempotency.key, (idempotency, self.staged.len()));
        }
        Ok(Staged::Written { dot: Some(dot), keys, replayed: false })
    }

    /// Adds the drafts to the document's open change, as their rows.
    fn add(
        &mut self,
        writer: &mut Writer,
        request: &WriteRequest,
        drafts: Vec<Draft>,
        bytes: usize,
    ) -> Result<(Dot, Vec<WrittenKey>), Abort> {
        let id = &request.document;
        let has_room = self.open.get(id).is_none_or(|open| {
            open.entries.len() + drafts.len() <= CHANGE_ENTRIES_MAX
                && open.bytes + bytes <= CHANGE_BYTES_MAX
                && drafts.iter().all(|draft| !open.keys.contains(&draft.key))
        });
        if !has_room {
            self.close_open(writer)?;
        }
        if !writer.is_confirmed() {
            // Put back as a whole, mark and all, a store looks as if nothing had happened.
            writer.renew_origin(&"a write came before every peer confirmed the old one");
        }
        let mut author = request.author.clone();
        writer.texts.share_text(&mut author);
        let own = writer.actor.origin;
        let next = writer.state.vector.get(own) + self.open.len() as u64 + 1;
        let open = self.open.entry(id.clone()).or_insert_with(|| Open {
            dot: Dot { origin: own, n: next },
            entries: Vec::new(),
            keys: BTreeSet::new(),
            bytes: 0,
        });
        open.bytes += bytes;
        let dot = open.dot;
        let touched = self.touched.entry(id.clone()).or_default();
        let mut keys = Vec::with_capacity(drafts.len());
        for draft in drafts {
            let entry = Entry {
                value: draft.value,
                version: draft.version,
                stamp: draft.stamp,
                dot,
                author: author.clone(),
                region: writer.settings.region.clone(),
                message: request.message.clone(),
                idempotency: request.idempotency.map(Box::new),
            };
            open.entries.push((draft.key.clone(), entry.clone()));
            open.keys.insert(draft.key.clone());
            touched.insert(draft.key.clone());
            let row = Row::new(vec![entry.clone()]);
            let row = Arc::new(row.ok_or_else(|| StoreError::Failed("an empty row".into()))?);
            writer.state.set_row(id, &draft.key, row.clone());
            self.entries.push((id.clone(), draft.key.clone(), entry));
            keys.push(WrittenKey { key: draft.key, row, created: draft.created });
        }
        Ok((dot, keys))
    }

    /// Makes changes and records of what is open, in the order of their numbers.
    fn close_open(&mut self, writer: &mut Writer) -> Result<(), Abort> {
        let mut open: Vec<(DocumentId, Open)> =
            std::mem::take(&mut self.open).into_iter().collect();
        open.sort_by_key(|(_, open)| open.dot.n);
        for (id, open) in open {
            let actor = writer.actor;
            let document = writer.document(&id)?;
            let (epoch, needs) = (document.epoch(), document.needs(actor.origin));
            let made = document
                .make(actor, open.dot, &open.entries)
                .map_err(|e| StoreError::Failed(format!("document {id}: {e}")))?;
            let (changes, rolled) = (document.changes_in_epoch(), document.rolled().cloned());
            writer.state.set_epoch(&id, changes, rolled);
            let previous = writer.state.hash_of(actor.origin).unwrap_or(NO_RECORD);
            let replaces = Some(made.replaces);
            let record = Record::with(open.dot, previous, id, epoch, needs, &made.bytes, replaces);
            if record.bytes.len() > RECORD_BYTES_MAX {
                let why = format!("a change of {} bytes cannot be sent", record.bytes.len());
                return Err(StoreError::Failed(why).into());
            }
            writer.state.vector.advance(record.dot);
            writer.state.hashes.insert(record.dot.origin, record.hash);
            self.records.push(record);
        }
        Ok(())
    }

    /// The answer to a request that was carried out before, if it was.
    fn retry(
        &self,
        writer: &Writer,
        now: Stamp,
        request: &WriteRequest,
        idempotency: Idempotency,
    ) -> Result<Option<Staged>, Abort> {
        if let Some((known, index)) = self.carried_out.get(&idempotency.key) {
            if *known != idempotency {
                return Ok(Some(Staged::WriteFailed(WriteError::IdempotencyKeyReused)));
            }
            let Some(Staged::Written { dot, keys, .. }) = self.staged.get(*index) else {
                return Ok(None);
            };
            let keys = keys.clone();
            return Ok(Some(Staged::Written { dot: *dot, keys, replayed: true }));
        }
        let tx = writer.database.get()?.begin_read().map_err(StoreError::from)?;
        let dot = match writer.unwritten.idempotency.get(&idempotency.key) {
            Some(dot) => Some(*dot),
            None => idempotency::get(&tx, &idempotency.key)?,
        };
        let Some(dot) = dot else { return Ok(None) };
        // What was trimmed is older than retries are recognised.
        let Some(record) = log::find(&tx, &writer.state.vector.folds(), dot)? else {
            return Ok(None);
        };
        let change = CheckedChange::decode(&record.change, dot)
            .map_err(|e| StoreError::damaged(format!("log {dot}: {e}")))?;
        let mut keys = Vec::new();
        for (key, entry) in change.entries {
            let known = entry.idempotency.as_deref().copied();
            let Some(known) = known.filter(|known| known.key == idempotency.key) else { continue };
            if entry.stamp.0.saturating_add(idempotency::RETENTION_US) < now.0 {
                return Ok(None);
            }
            if known != idempotency || record.document != request.document {
                return Ok(Some(Staged::WriteFailed(WriteError::IdempotencyKeyReused)));
            }
            // A first version made the key; that is all that is kept of whether it was new.
            let created = entry.version == 1;
            keys.extend(Row::new(vec![entry]).map(|row| WrittenKey {
                key,
                row: Arc::new(row),
                created,
            }));
        }
        Ok((!keys.is_empty()).then_some(Staged::Written { dot: Some(dot), keys, replayed: true }))
    }

    fn apply(&mut self, writer: &mut Writer, records: &[Bytes]) -> Result<Applied, Abort> {
        let mut applied = Applied::default();
        let mut ready: Vec<Ready> = Vec::new();
        for bytes in records {
            let record = match Record::decode(bytes.clone()) {
                Ok(record) => record,
                Err(error) => {
                    tracing::warn!(%error, "a peer sent what is no record");
                    writer.quarantined += 1;
                    applied.quarantined += 1;
                    continue;
                }
            };
            self.offer(writer, record, &mut ready, &mut applied)?;
        }
        while let Some(record) = writer.waiting.next_applicable(&writer.state.vector) {
            accept(writer, record, &mut ready, &mut applied)?;
        }
        applied.new = ready.len();
        self.merge(writer, ready)?;
        Ok(applied)
    }

    fn offer(
        &self,
        writer: &mut Writer,
        record: Record,
        ready: &mut Vec<Ready>,
        applied: &mut Applied,
    ) -> Result<(), Abort> {
        if writer.refused.contains(&record.hash) {
            applied.quarantined += 1;
        } else if writer.state.vector.includes(record.dot) {
            let mut staged = ready.iter().map(|(known, _)| known).chain(&self.records);
            let known = match staged.find(|known| known.dot == record.dot) {
                Some(known) => Some(known.hash),
                None => {
                    let tx = writer.database.get()?.begin_read().map_err(StoreError::from)?;
                    log::get(&tx, record.dot)?.map(|known| known.hash)
                }
            };
            if known.is_none_or(|known| known == record.hash) {
                applied.duplicate += 1;
            } else {
                fork(writer, &record)?;
                applied.quarantined += 1;
            }
        } else if record.dot.origin == writer.actor.origin {
            writer.renew_origin(&"a peer sent a change of it that it does not have");
            return Err(Abort::Renewed);
        } else if is_one_too_many(writer, record.dot.origin) {
            tracing::error!(origin = %record.dot.origin, "there are too many origins already");
            applied.dropped += 1;
        } else {
            if is_applicable(&record, &writer.state.vector) {
                accept(writer, record, ready, applied)?;
            } else if writer.waiting.hold(record) {
                applied.waiting += 1;
            } else {
                applied.dropped += 1;
            }
        }
        Ok(())
    }

    /// Merges changes that can be applied, a document at a time.
    fn merge(&mut self, writer: &mut Writer, ready: Vec<Ready>) -> Result<(), Abort> {
        let mut by_document: BTreeMap<DocumentId, Vec<usize>> = BTreeMap::new();
        for (i, (record, _)) in ready.iter().enumerate() {
            by_document.entry(record.document.clone()).or_default().push(i);
        }
        for (id, indexes) in by_document {
            let keys = self.merge_document(writer, &id, &ready, &indexes)?;
            self.show(writer, &id, keys)?;
        }
        for (record, checked) in ready {
            if let Checked::Change(change) = checked {
                self.remote.extend(change.entries.iter().map(|(_, entry)| entry.stamp).max());
                for (key, entry) in change.entries {
                    if let Some(idempotency) = &entry.idempotency {
                        self.idempotency.insert(idempotency.key, entry.dot);
                    }
                    self.entries.push((record.document.clone(), key, entry));
                }
            }
            self.records.push(record);
        }
        Ok(())
    }

    /// Merges one document's records, those with these indexes, in their order; gives the keys whose
    /// rows may be others now.
    fn merge_document(
        &mut self,
        writer: &mut Writer,
        id: &DocumentId,
        ready: &[Ready],
        indexes: &[usize],
    ) -> Result<BTreeSet<Key>, Abort> {
        let mut keys = BTreeSet::new();
        let mut rest = indexes;
        while let [first, behind @ ..] = rest {
            if let (record, Checked::Roll(roll)) = &ready[*first] {
                keys.extend(self.merge_roll(writer, record, roll, &ready[..*first])?);
                rest = behind;
                continue;
            }
            let change = |i: &usize| ready[*i].1.change();
            let run = rest.iter().take_while(|i| change(i).is_some()).count();
            let (changes, behind) = rest.split_at(run);
            let batch = if writer.one_by_one { 1 } else { changes.len() };
            for indexes in changes.chunks(batch.max(1)) {
                let merged = writer.document(id)?.apply(indexes.iter().filter_map(change));
                if let Err(error) = merged {
                    return Err(match indexes {
                        [only] => refused(&ready[*only].0, &error),
                        _ => Abort::OneByOne,
                    });
                }
            }
            let entries = changes.iter().filter_map(change).flat_map(|change| &change.entries);
            keys.extend(entries.map(|(key, _)| key.clone()));
            rest = behind;
        }
        Ok(keys)
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

/// Takes a record whose dependencies are all there, if it is good.
fn accept(
    writer: &mut Writer,
    record: Record,
    ready: &mut Vec<Ready>,
    applied: &mut Applied,
) -> Result<(), Abort> {
    let origin = record.dot.origin;
    let previous = writer.state.hash_of(origin).unwrap_or(NO_RECORD);
    if writer.refused.contains(&record.hash) {
        applied.quarantined += 1;
        return Ok(());
    }
    if record.previous != previous {
        applied.quarantined += 1;
        return fork(writer, &record);
    }
    if writer.mismatched.contains_key(&record.hash) {
        applied.dropped += 1;
        return Ok(());
    }
    match Checked::of(&record).and_then(|checked| writer.follow(&record, checked)) {
        Ok(mut change) => {
            if let Checked::Change(change) = &mut change {
                change.entries.iter_mut().for_each(|(_, entry)| writer.texts.share(entry));
            }
            ready.push((record, change));
        }
        Err(why) => {
            // By its hash alone: another record under this number may be the good one.
            writer.refuse(&record, &why);
            applied.quarantined += 1;
        }
    }
    Ok(())
}

/// Whether a change of an origin that is not named would make the vector longer than can be told.
fn is_one_too_many(writer: &Writer, origin: Origin) -> bool {
    let vector = &writer.state.vector;
    !vector.names(origin) && vector.len() >= VECTOR_ORIGINS_MAX - ORIGINS_RESERVED
}

/// What a draft comes to in a change, in bytes, at most.
fn entry_bytes(request: &WriteRequest, draft: &Draft) -> usize {
    let value = draft.value.as_ref().map_or(0, |value| value.as_str().len());
    let message = request.message.as_ref().map_or(0, |message| message.len());
    draft.key.as_str().len() + value + request.author.len() + message + ENTRY_OVERHEAD
}

pub(super) fn refused(record: &Record, error: &DocumentError) -> Abort {
    Abort::Refused { record: Box::new(record.clone()), why: error.to_string() }
}

/// An (origin, n) names two changes. This node keeps the one it has.
fn fork(writer: &mut Writer, record: &Record) -> Result<(), Abort> {
    writer.forks += 1;
    tracing::error!(
        dot = %record.dot,
        document = %record.document,
        "an origin has two changes under one number: the other one is refused"
    );
    writer.refuse(record, "an origin has two changes under one number");
    if record.dot.origin == writer.actor.origin {
        writer.renew_origin(&"a peer sent another change under a number of its own");
        return Err(Abort::Renewed);
    }
    Ok(())
}
