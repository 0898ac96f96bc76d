//! `quorum.journal`: records of the audit chain that are on disk and not in `quorum.redb` yet. One
//! write and one sync make a group of records durable, where a transaction of redb's takes eight
//! pages; the writer puts them into the table with its next commit, and what is in the table is
//! overwritten here. It is a way to the table, and no second chain: whatever does not fit here goes
//! there at once.
//!
//! The file has [`FILE_BYTES`], written once with zeros, so that a sync has nothing but the group's
//! own pages to write, and needs no more room. A group is a frame ([`frame`](crate::storage::frame)), at the
//! beginning of a page:
//!
//! | bytes | what |
//! |---|---|
//! | 0..4 | `HOLJ` |
//! | 4..8 | the format, 1 |
//! | 8..16 | the store's id in the consensus |
//! | 16..24 | the number of the first record |
//! | 24..28 | how many records |
//! | 28..32 | how many bytes they take |
//! | 32..64 | SHA-256 of what is before and behind |
//! | 64.. | for each record its length, in 4 bytes, and its bytes, as [`audit::chain`] writes them |
//!
//! Integers are big-endian. What follows from the table's head is to be put into it; what is at or
//! before that is there. A frame that is not whole ends the journal: it was being written when the
//! machine went down, and nobody was told that it is on disk. Where a whole one comes behind it that
//! does not follow, something was changed or lost, and that is said: nothing is written here until it
//! is on the chain, and on disk.
//!
//! [`audit::chain`]: crate::audit::chain

use std::io;
use std::sync::Arc;

use redb::StorageBackend;

use super::identity::io_error;
use crate::audit::{Decision, Event, Head, Source};
use crate::env::Disk;
use crate::model::{NodeName, Stamp};
use crate::quorum::types::RaftId;
use crate::storage::StoreError;
use crate::storage::frame::{PAGE, Shape};

/// The file's name in the node's directory.
pub(crate) const FILE: &str = "quorum.journal";
/// How long it is.
pub(crate) const FILE_BYTES: u64 = 1 << 20;

/// Where the disk has less room than this, no file is made: it is not what fills the disk.
const ROOM_MIN: u64 = 4 * FILE_BYTES;
/// Most copies of journals that were not good before the node refuses to start.
const ASIDE_MAX: u32 = 8;
const SHAPE: Shape = Shape { magic: *b"HOLJ", format: 1, fields: 20 };

/// A record with its number.
pub(super) type Numbered = (u64, Arc<[u8]>);

/// The journal of one store.
pub(super) struct Journal {
    disk: Arc<dyn Disk>,
    store: RaftId,
    /// Open from the first record on.
    file: Option<Box<dyn StorageBackend>>,
    /// Whether the file has its whole length.
    is_whole: bool,
    /// Where the next frame goes.
    at: usize,
    /// Whether what is behind that is damaged: until it is blanked, nothing has room.
    is_damaged: bool,
}

/// What a journal has that the table does not.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Replayed {
    pub(super) records: Vec<Numbered>,
    /// Where the chain stands with them.
    pub(super) head: Head,
    /// What does not hold together.
    pub(super) damage: Option<String>,
    /// Behind the last of them.
    end: usize,
    /// Whether there are frames of another store.
    has_others: bool,
}

impl Journal {
    /// Opens the journal of the store with this id, whose table's chain stands at `head`. One that
    /// is damaged, or another store's, is kept under another name, and goes on with what is good;
    /// where it is damaged, after [`Journal::blank`].
    pub(super) fn open(
        disk: &Arc<dyn Disk>,
        store: RaftId,
        head: Head,
    ) -> Result<(Self, Replayed), StoreError> {
        let disk = disk.clone();
        let mut this = Self { disk, store, file: None, is_whole: false, at: 0, is_damaged: false };
        let disk = &this.disk;
        if disk.identity(FILE).map_err(io_error)?.is_none() {
            return Ok((this, Replayed { head, ..Replayed::default() }));
        }
        let file = disk.database(FILE).map_err(io_error)?;
        let mut content = vec![0; length(&*file)?];
        file.read(0, &mut content).map_err(io_error)?;
        let mut replayed = replay(&content, store, head);
        let is_damaged = replayed.damage.is_some();
        if is_damaged || replayed.has_others {
            let why = if is_damaged { "damaged" } else { "other" };
            let name = keep_aside(&**disk, &content, why)?;
            match &mut replayed.damage {
                Some(damage) => {
                    damage.push_str(&format!("; as it was it is {name} now"));
                    tracing::error!(%damage, "audit records are lost");
                }
                None => tracing::warn!(set_aside = name, "the journal was another store's"),
            }
        }
        this.is_whole = content.len() as u64 == FILE_BYTES;
        (this.at, this.file, this.is_damaged) = (replayed.end, Some(file), is_damaged);
        if !is_damaged && replayed.has_others {
            this.blank()?;
        }
        Ok((this, replayed))
    }

    /// Takes away what is not good, and only that. Once it is told on the chain that it was there.
    pub(super) fn blank(&mut self) -> Result<(), StoreError> {
        if let Some(file) = &self.file {
            let rest = vec![0; length(&**file)?.saturating_sub(self.at)];
            let blanked = file.write(self.at as u64, &rest).and_then(|()| file.sync_data());
            blanked.map_err(io_error)?;
        }
        self.is_damaged = false;
        Ok(())
    }

    /// Puts the chain's next records on disk. Says whether there was room; after an error it is not
    /// known what is on disk.
    pub(super) fn append(&mut self, records: &[Numbered]) -> Result<bool, StoreError> {
        let Some((first, _)) = records.first() else { return Ok(true) };
        let frame = frame(self.store, *first, records);
        let is_too_long = self.at + frame.len() > FILE_BYTES as usize;
        if self.is_damaged || is_too_long || !self.is_made() {
            return Ok(false);
        }
        let Some(file) = &self.file else { return Ok(false) };
        let at = self.at as u64;
        if let Err(error) = file.write(at, &frame).map_err(io_error) {
            // A file system can need room for what is there already. What is not there in whole is
            // nowhere.
            let mut found = vec![0; frame.len()];
            let is_full = matches!(error, StoreError::Full) && file.read(at, &mut found).is_ok();
            return if is_full && Frame::read(&found).is_none() { Ok(false) } else { Err(error) };
        }
        file.sync_data().map_err(io_error)?;
        self.at += frame.len();
        Ok(true)
    }

    /// Whether the file is there in its whole length. Where it cannot be made, there is no room in
    /// it: nothing is lost by that.
    fn is_made(&mut self) -> bool {
        if !self.is_whole {
            let made = self.make();
            let made =
                made.inspect_err(|error| tracing::debug!(%error, "the audit journal is not made"));
            self.is_whole = made.unwrap_or(false);
        }
        self.is_whole
    }

    fn make(&mut self) -> io::Result<bool> {
        if self.disk.room()?.is_some_and(|(available, _)| available < ROOM_MIN) {
            return Ok(false);
        }
        let file = match self.file.take() {
            Some(file) => file,
            None => self.disk.database(FILE)?,
        };
        let file = self.file.insert(file);
        let len = file.len()?;
        if let Some(missing) = FILE_BYTES.checked_sub(len).filter(|missing| *missing > 0) {
            // Written and not just made longer, which would take no room, and promise it.
            let filled = file.write(len, &vec![0; missing as usize]);
            if let Err(error) = filled.and_then(|()| file.sync_data()) {
                // What there was room for is given back.
                file.set_len(len)?;
                return Err(error);
            }
        }
        Ok(true)
    }

    /// Everything in it is in the table, on disk.
    pub(super) fn restart(&mut self) {
        self.at = 0;
    }

    /// Lets go of the file.
    pub(super) fn close(&mut self) {
        (self.file, self.is_whole) = (None, false);
    }
}

fn length(file: &dyn StorageBackend) -> Result<usize, StoreError> {
    let len = file.len().map_err(io_error)?.min(FILE_BYTES);
    usize::try_from(len).map_err(|e| StoreError::Failed(e.to_string()))
}

/// What says on the chain of `node` that records of it were lost.
pub(super) fn damaged(damage: &str, node: &NodeName, at: Stamp) -> Event {
    Event {
        at,
        principal: "-".into(),
        action: "audit.damaged".into(),
        target: FILE.into(),
        decision: Decision::Allowed("whoever has the disk".into()),
        outcome: format!("failed: {damage}").as_str().into(),
        source: Source { node: node.as_str().into(), address: None, request: "-".into() },
        count: 1,
        index: None,
    }
}

/// Writes what the journal was into a file that says `why`, where there is none that has it; gives
/// its name.
fn keep_aside(disk: &dyn Disk, content: &[u8], why: &str) -> Result<String, StoreError> {
    for i in 1..=ASIDE_MAX {
        let name = format!("{FILE}.{why}-{i}");
        if disk.read(&name).map_err(io_error)?.is_some_and(|kept| kept == content) {
            // The machine went down before it was blanked.
            return Ok(name);
        }
        if disk.identity(&name).map_err(io_error)?.is_none() {
            disk.write(&name, content, true).map_err(io_error)?;
            return Ok(name);
        }
    }
    Err(StoreError::Failed(format!("{ASIDE_MAX} {why} journals were set aside already")))
}

/// What `content`, of the journal of the store with this id, has beyond `head`.
pub(super) fn replay(content: &[u8], store: RaftId, head: Head) -> Replayed {
    let mut replayed = Replayed { head, ..Replayed::default() };
    let mut at = 0;
    while at < content.len() {
        let Some(frame) = Frame::read(&content[at..]) else {
            at += PAGE;
            continue;
        };
        at += frame.pages * PAGE;
        if frame.store != store {
            replayed.has_others = true;
            continue;
        }
        let last = frame.first + frame.records.len() as u64 - 1;
        // Of an earlier round: the table has them.
        if last <= replayed.head.seq || replayed.damage.is_some() {
            continue;
        }
        let mut head = replayed.head;
        let mut records = Vec::new();
        for bytes in frame.records {
            match head.follow(bytes) {
                Ok(record) => records.push((record.seq, Arc::from(bytes))),
                Err(error) => {
                    replayed.damage = Some(format!("{FILE}: {error}"));
                    break;
                }
            }
        }
        if replayed.damage.is_none() {
            (replayed.head, replayed.end) = (head, at);
            replayed.records.extend(records);
        }
    }
    replayed
}

/// A frame that is whole.
struct Frame<'a> {
    store: RaftId,
    first: u64,
    records: Vec<&'a [u8]>,
    pages: usize,
}

impl<'a> Frame<'a> {
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let whole = SHAPE.read(b"", bytes)?;
        let (store, first, count) = (whole.u64_at(0)?, whole.u64_at(8)?, whole.u32_at(16)?);
        if count == 0 || first == 0 {
            return None;
        }
        let mut body = whole.body;
        let mut records = Vec::new();
        for _ in 0..count {
            let (len, rest) = body.split_at_checked(4)?;
            let len = u32::from_be_bytes(len.try_into().ok()?) as usize;
            let (record, rest) = rest.split_at_checked(len)?;
            records.push(record);
            body = rest;
        }
        first.checked_add(u64::from(count))?;
        Some(Self { store, first, records, pages: whole.len / PAGE })
    }
}

fn frame(store: RaftId, first: u64, records: &[Numbered]) -> Vec<u8> {
    let expected: usize = records.iter().map(|(_, bytes)| 4 + bytes.len()).sum();
    // Larger ones have no room in the file.
    let short = |len: usize| u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes();
    let fields = [&store.to_be_bytes()[..], &first.to_be_bytes(), &short(records.len())];
    SHAPE.write(b"", &fields, expected, |frame| {
        for (_, bytes) in records {
            frame.extend(short(bytes.len()));
            frame.extend(&bytes[..]);
        }
    })
}

#[cfg(test)]
mod tests;
