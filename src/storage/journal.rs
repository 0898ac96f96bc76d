//! `config.journal`: groups of changes that are on disk and not in `config.redb` yet. One write and one
//! sync make a group durable, where a transaction of redb's takes some ten pages in as many places. It is
//! a way to the tables: [`Database`] puts into them what is here before anybody looks at them, in
//! transactions without a sync, and the next one that is synced makes all of this obsolete.
//!
//! The file grows by [`STEP_BYTES`], written with zeros, so that a sync has nothing but the group's own
//! pages to write. A group is a frame ([`super::frame`]), right behind the one before or at the beginning of
//! the file, and never over one that is needed:
//!
//! | bytes | what |
//! |---|---|
//! | 0..4 | `HOCJ` |
//! | 4..8 | the format, 1 |
//! | 8..16 | the group's number |
//! | 16..24 | the last group that was in the tables on disk when it was written |
//! | 24..28 | how many bytes the group takes |
//! | 28..60 | SHA-256 of the journal's id, what is before, and what is behind |
//! | 60.. | the group, a CBOR map ([`Group`]) |
//!
//! Integers are big-endian. Which journal is the store's, and up to which group the tables are, stands in
//! the tables (`meta`), in the very transaction that puts a group there: so a journal that is older than
//! they are, or another's, adds nothing. The id is known to the store alone, so that no value that somebody
//! writes can look like a frame. Groups are read by their numbers up to the first that is not there: that
//! was being written when the machine went down, and nobody was told that it is on disk. Where a later one
//! is there all the same, something was lost, and that is said. What does not follow from the tables is not
//! taken: they were put back to what they had been, or an older program went on with them.
//!
//! [`Database`]: super::database::Database

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use minicbor::bytes::ByteVec;
use redb::{ReadTransaction, StorageBackend, WriteTransaction};

use super::audit::Span;
use super::error::StoreError;
use super::frame::{PAGE, Shape};
use super::{audit, folds, log, meta, origins};
use crate::audit::Head;
use crate::config::record::{NO_RECORD, Record, RecordHash};
use crate::env::Disk;
use crate::model::vector::Fold;
use crate::model::{Dot, Folds, Origin, cbor};

/// The file's name in the node's directory.
pub(crate) const FILE: &str = "config.journal";
/// How long it gets.
const FILE_BYTES_MAX: usize = 8 << 20;
/// By how much it grows.
const STEP_BYTES: usize = 1 << 20;
/// Where the disk has less room than this, nothing is taken: what is here has to find room in the
/// tables, and a disk that is full is to be told of with the first write that it cannot keep.
const ROOM_MIN: u64 = 32 << 20;
const SHAPE: Shape = Shape { magic: *b"HOCJ", format: 1, fields: 16 };

/// What tells a store's journal from another's.
pub(super) type JournalId = [u8; 16];

/// Up to where the tables are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub(super) struct Reached {
    /// Whose journal it is.
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    pub(super) id: JournalId,
    /// The last group that is in them.
    #[n(1)]
    pub(super) seq: u64,
}

/// A change, as the log has it.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub(super) struct Logged {
    #[n(0)]
    pub(super) dot: Dot,
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    pub(super) hash: RecordHash,
    /// The row of the log.
    #[n(2)]
    pub(super) row: ByteVec,
}

/// What a group puts into the tables. By keys alone: it is put into a file that is being made, too.
#[derive(Clone, Debug, Default, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub(super) struct Group {
    #[n(0)]
    pub(super) changes: Vec<Logged>,
    /// Audit records that stand beside no change, with their numbers.
    #[n(1)]
    pub(super) audit: Vec<(u64, ByteVec)>,
    /// Where the audit chain stands with it, where it moved.
    #[n(2)]
    pub(super) chain: Option<Head>,
    /// Which origins' rows carry the chain, where that changed.
    #[n(3)]
    pub(super) spans: Option<Vec<Span>>,
    /// Whose changes the store makes, where some are its own.
    #[n(4)]
    pub(super) origin: Option<Origin>,
    /// The store's format, where it changed.
    #[n(5)]
    pub(super) format: Option<u32>,
    /// Where the audit chain stood before.
    #[n(6)]
    pub(super) chain_before: Option<Head>,
    /// Folds that came with its changes; left out where there are none.
    #[n(7)]
    #[cbor(default, skip_if = "Vec::is_empty")]
    pub(super) folds: Vec<Fold>,
    /// Origins in these that nothing goes beyond.
    #[n(8)]
    #[cbor(default, skip_if = "Vec::is_empty")]
    pub(super) unnamed: Vec<Origin>,
}

impl Group {
    /// Takes in a change and the audit records that stand beside it.
    pub(super) fn push(&mut self, record: &Record, audit: Option<&[u8]>) {
        let row = log::row(&record.bytes, audit).into();
        self.changes.push(Logged { dot: record.dot, hash: record.hash, row });
    }

    /// Puts it into the tables.
    pub(super) fn put(&self, tx: &WriteTransaction) -> Result<(), StoreError> {
        log::put_rows(tx, self.changes.iter().map(|it| (it.dot, it.row.as_slice())))?;
        let heads: BTreeMap<Origin, &Logged> =
            self.changes.iter().map(|it| (it.dot.origin, it)).collect();
        for head in heads.values() {
            origins::put(tx, head.dot, head.hash)?;
        }
        for fold in &self.folds {
            folds::put(tx, fold)?;
        }
        for origin in &self.unnamed {
            origins::remove(tx, *origin)?;
        }
        if !self.audit.is_empty() {
            audit::put_rows(tx, self.audit.iter().map(|(seq, record)| (*seq, record.as_slice())))?;
        }
        if let Some(spans) = &self.spans {
            meta::KEY_AUDIT_SPANS.put(tx, spans)?;
        }
        if let Some(head) = &self.chain {
            meta::KEY_AUDIT.put(tx, head)?;
        }
        if let Some(origin) = &self.origin {
            meta::KEY_ORIGIN.put(tx, origin)?;
        }
        if let Some(format) = &self.format {
            meta::KEY_FORMAT.put(tx, format)?;
        }
        Ok(())
    }

    /// Whether all of it follows from what the tables have; takes note of that it is there then.
    fn follow(&self, heads: &mut Heads) -> Result<(), String> {
        if self.chain_before.is_some_and(|before| before != heads.chain) {
            return Err("the audit chain stands elsewhere".into());
        }
        for Logged { dot, hash, row } in &self.changes {
            let (n, previous) = heads.last(dot.origin);
            let (record, _) = log::parts(row).map_err(|e| e.to_string())?;
            let record = Record::decode(Bytes::copy_from_slice(record))
                .map_err(|e| format!("change {dot}: {e}"))?;
            let follows = record.dot == *dot && dot.n == n + 1 && record.previous == previous;
            if !follows || record.hash != *hash {
                return Err(format!("change {dot} does not follow from what is there"));
            }
            heads.changes.insert(dot.origin, (dot.n, *hash));
        }
        heads.chain = self.chain.unwrap_or(heads.chain);
        Ok(())
    }

    /// About how many bytes it takes in memory.
    pub(super) fn size(&self) -> usize {
        let changes: usize = self.changes.iter().map(|it| it.row.len() + 64).sum();
        let audit: usize = self.audit.iter().map(|(_, record)| record.len() + 32).sum();
        let folds: usize = self.folds.iter().map(|fold| fold.rows().len() * 64).sum();
        changes + audit + folds + 256
    }
}

/// What the tables have, or will have: each origin's last change, and where the audit chain stands.
#[derive(Clone, Debug, Default)]
struct Heads {
    changes: BTreeMap<Origin, (u64, RecordHash)>,
    /// What the tables have of origins that they do not name.
    folds: Arc<Folds>,
    chain: Head,
}

impl Heads {
    fn read(tx: &ReadTransaction) -> Result<Self, StoreError> {
        let (folds, _) = folds::read(tx, &Arc::default())?;
        let (vector, hashes) = origins::read(tx, &folds)?;
        let change = |(origin, hash)| (origin, (vector.get(origin), hash));
        let chain = meta::KEY_AUDIT.get(tx)?.unwrap_or_default();
        Ok(Self { changes: hashes.into_iter().map(change).collect(), folds, chain })
    }

    /// An origin's last change.
    fn last(&self, origin: Origin) -> (u64, RecordHash) {
        let folded = || self.folds.last(origin, u64::MAX).map(|row| (row.dot.n, row.hash));
        let named = self.changes.get(&origin).copied();
        named.or_else(folded).unwrap_or((0, NO_RECORD))
    }
}

/// What a journal has that the tables do not.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Replayed {
    pub(super) groups: Vec<Group>,
    /// The last of them, or what the tables have.
    pub(super) seq: u64,
    /// What was on disk and is not there.
    pub(super) damage: Option<String>,
    /// What is there and does not follow.
    pub(super) unfit: Option<String>,
    /// Where the first of them begins, and the last one ends.
    at: (usize, usize),
}

/// A place in a journal: behind a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    seq: u64,
    at: usize,
}

/// The journal of one store.
pub(super) struct Journal {
    disk: Arc<dyn Disk>,
    id: JournalId,
    /// Open from the first group on.
    file: Option<Box<dyn StorageBackend>>,
    /// How much of it is made.
    len: usize,
    /// Up to where groups are in the tables on disk: what is behind is needed.
    done: Place,
    /// The last group.
    last: Place,
    /// Whether groups go on from the beginning of the file, up to those that are needed.
    is_round: bool,
}

impl Journal {
    /// Opens the journal of the store whose tables are up to `reached`, as `tx` shows them. One that is
    /// damaged or does not fit is kept under another name, and not gone on with.
    pub(super) fn open(
        disk: &Arc<dyn Disk>,
        reached: Reached,
        tx: &ReadTransaction,
    ) -> Result<(Self, Replayed), StoreError> {
        let Reached { id, seq } = reached;
        let done = Place { seq, at: 0 };
        let mut this =
            Self { disk: disk.clone(), id, file: None, len: 0, done, last: done, is_round: false };
        if disk.identity(FILE).map_err(io_error)?.is_none() {
            return Ok((this, Replayed { seq, ..Replayed::default() }));
        }
        let file = disk.database(FILE).map_err(io_error)?;
        let len = file.len().map_err(io_error)?.min(FILE_BYTES_MAX as u64);
        let mut content = vec![0; usize::try_from(len).unwrap_or_default()];
        file.read(0, &mut content).map_err(io_error)?;
        let mut replayed = replay(&content, reached, Heads::read(tx)?);
        let at = replayed.at;
        let Replayed { damage, unfit, .. } = &mut replayed;
        for (what, name) in [(damage, "damaged"), (unfit, "unfit")] {
            let Some(what) = what else { continue };
            let name = format!("{FILE}.{name}");
            disk.write(&name, &content, true).map_err(io_error)?;
            what.push_str(&format!("; as it was it is {name} now"));
        }
        (this.done.at, this.len) = (at.0, content.len());
        this.last = Place { seq: replayed.seq, at: at.1 };
        this.is_round = at.1 <= at.0 && replayed.seq > seq;
        this.file = Some(file);
        Ok((this, replayed))
    }

    /// Up to where the tables are once they have everything up to `place`.
    pub(super) fn reached(&self, place: Place) -> Reached {
        Reached { id: self.id, seq: place.seq }
    }

    /// Behind the last group.
    pub(super) fn last(&self) -> Place {
        self.last
    }

    /// Puts the next group on disk. Says whether there was room; after an error it is not known what is
    /// on disk. `sync` is whether it is on disk when this returns.
    pub(super) fn append(&mut self, group: &Group, sync: bool) -> Result<bool, StoreError> {
        let seq = self.last.seq + 1;
        let frame = frame(&self.id, seq, self.done.seq, group);
        let Some((at, is_round)) = self.place(frame.len()) else { return Ok(false) };
        let end = at + frame.len();
        if !self.has_room(end) {
            return Ok(false);
        }
        let Some(file) = &self.file else { return Ok(false) };
        file.write(at as u64, &frame).map_err(io_error)?;
        if sync {
            file.sync_data().map_err(io_error)?;
        }
        (self.last, self.is_round) = (Place { seq, at: end }, is_round);
        Ok(true)
    }

    /// Where so many bytes can go, and whether that is in front of what is needed.
    fn place(&self, len: usize) -> Option<(usize, bool)> {
        let (begin, at) = (self.done.at, self.last.at);
        match self.is_round {
            false if at + len <= FILE_BYTES_MAX => Some((at, false)),
            false => (len < begin).then_some((0, true)),
            true => (at + len < begin).then_some((at, true)),
        }
    }

    /// Whether the file reaches to `end`, and the disk is far from full. Where it cannot be made longer,
    /// nothing is lost by that.
    fn has_room(&mut self, end: usize) -> bool {
        let room = self.disk.room().ok().flatten();
        if room.is_some_and(|(available, _)| available < ROOM_MIN) {
            return false;
        }
        if self.len < end
            && let Err(error) = self.grow(end.next_multiple_of(STEP_BYTES).min(FILE_BYTES_MAX))
        {
            tracing::debug!(%error, "the journal is not made longer");
        }
        self.len >= end
    }

    fn grow(&mut self, to: usize) -> io::Result<()> {
        let file = match self.file.take() {
            Some(file) => file,
            None => self.disk.database(FILE)?,
        };
        let file = self.file.insert(file);
        // Written and not just made longer, which would take no room, and promise it.
        file.write(self.len as u64, &vec![0; to - self.len])?;
        file.sync_data()?;
        self.len = to;
        Ok(())
    }

    /// How many bytes of it are needed.
    pub(super) fn needed(&self) -> usize {
        match (self.last.seq > self.done.seq, self.is_round) {
            (false, _) => 0,
            (true, false) => self.last.at - self.done.at,
            (true, true) => FILE_BYTES_MAX - self.done.at + self.last.at,
        }
    }

    /// Everything up to `place` is in the tables, on disk.
    pub(super) fn release(&mut self, place: Place) {
        if place.seq <= self.done.seq {
            // Who was slower says it, too; the place may be another's by now.
            return;
        }
        if place.seq >= self.last.seq {
            // From the beginning, which is in no cache but the disk's longer than need be.
            (self.done.at, self.last.at, self.is_round) = (0, 0, false);
        } else {
            self.done.at = place.at;
            self.is_round = self.last.at <= place.at;
        }
        self.done.seq = place.seq;
    }
}

/// Whether the journal in this directory has groups that the tables, as `tx` shows them, do not.
pub(super) fn is_ahead(dir: &std::path::Path, tx: &ReadTransaction) -> Result<bool, StoreError> {
    let Some(reached) = meta::KEY_JOURNAL.get(tx)? else { return Ok(false) };
    let content = match std::fs::read(dir.join(FILE)) {
        Ok(content) => content,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(io_error(error)),
    };
    Ok(!frames(&content, reached).is_empty())
}

/// What `content` has beyond `reached`, which is where the tables are with these last changes.
fn replay(content: &[u8], reached: Reached, mut heads: Heads) -> Replayed {
    let mut replayed = Replayed { seq: reached.seq, ..Replayed::default() };
    for (seq, frame) in frames(content, reached) {
        let expected = replayed.seq + 1;
        if seq != expected && frame.done <= reached.seq {
            replayed.damage = Some(format!("{FILE}: group {expected} is not whole, and {seq} is"));
            break;
        }
        let followed = match cbor::decode::<Group>(frame.body) {
            _ if seq != expected => Err(format!("group {expected} is missing")),
            Ok(group) => group.follow(&mut heads).map(|()| group),
            Err(error) => Err(error.to_string()),
        };
        match followed {
            Ok(group) => {
                if replayed.groups.is_empty() {
                    replayed.at.0 = frame.at;
                }
                replayed.groups.push(group);
                (replayed.seq, replayed.at.1) = (seq, frame.end);
            }
            Err(why) => {
                replayed.unfit = Some(format!("{FILE}: group {seq}: {why}"));
                break;
            }
        }
    }
    replayed
}

/// A frame that is whole.
struct Frame<'a> {
    done: u64,
    body: &'a [u8],
    at: usize,
    end: usize,
}

/// All whole frames of groups that are not in the tables, by their numbers.
fn frames(content: &[u8], reached: Reached) -> BTreeMap<u64, Frame<'_>> {
    let mut frames = BTreeMap::new();
    let mut at = 0;
    while at < content.len() {
        match read_frame(content, at, &reached.id) {
            Some((seq, frame)) => {
                at = frame.end;
                if seq > reached.seq {
                    frames.insert(seq, frame);
                }
            }
            None => at += PAGE,
        }
    }
    frames
}

/// The frame that begins at `at`, if it is whole, and its number.
fn read_frame<'a>(content: &'a [u8], at: usize, id: &JournalId) -> Option<(u64, Frame<'a>)> {
    let whole = SHAPE.read(id, content.get(at..)?)?;
    let (seq, done) = (whole.u64_at(0)?, whole.u64_at(8)?);
    Some((seq, Frame { done, body: whole.body, at, end: at + whole.len }))
}

fn frame(id: &JournalId, seq: u64, done: u64, group: &Group) -> Vec<u8> {
    let fields = [&seq.to_be_bytes()[..], &done.to_be_bytes()];
    SHAPE.write(id, &fields, group.size(), |frame| cbor::encode_into(group, frame))
}

fn io_error(error: io::Error) -> StoreError {
    StoreError::from(redb::Error::Io(error))
}

#[cfg(test)]
mod tests;
