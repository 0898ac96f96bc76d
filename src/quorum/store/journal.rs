//! `quorum.journal`: records of the audit chain that are on disk and not in `quorum.redb` yet. One
//! write and one sync make a group of records durable, where a transaction of redb's takes eight
//! pages; the writer puts them into the table with its next commit, and what is in the table is
//! overwritten here. It is a way to the table, and no second chain: whatever does not fit here goes
//! there at once.
//!
//! The file has [`FILE_BYTES`], written once with zeros, so that a sync has nothing but the group's
//! own pages to write. A group is a frame, at the beginning of a page, so that writing one never
//! touches another:
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
//! does not follow, something was changed or lost, and that is said.
//!
//! [`audit::chain`]: crate::audit::chain

use std::sync::Arc;

use redb::StorageBackend;
use sha2::{Digest as _, Sha256};

use super::identity::io_error;
use crate::audit::Head;
use crate::env::Disk;
use crate::quorum::types::RaftId;
use crate::storage::StoreError;

/// The file's name in the node's directory.
pub(crate) const FILE: &str = "quorum.journal";
/// How long it is.
pub(crate) const FILE_BYTES: u64 = 1 << 20;

/// Most copies of journals that were not good before the node refuses to start.
const ASIDE_MAX: u32 = 8;
const PAGE: usize = 4_096;
const MAGIC: [u8; 4] = *b"HOLJ";
const FORMAT: u32 = 1;
const HEADER: usize = 64;

/// A record with its number.
pub(super) type Numbered = (u64, Arc<[u8]>);

/// The journal of one store.
pub(super) struct Journal {
    disk: Arc<dyn Disk>,
    store: RaftId,
    /// Open from the first record on.
    file: Option<Box<dyn StorageBackend>>,
    /// Where the next frame goes.
    at: usize,
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
    /// is damaged, or another store's, is kept under another name, and goes on with what is good.
    pub(super) fn open(
        disk: &Arc<dyn Disk>,
        store: RaftId,
        head: Head,
    ) -> Result<(Self, Replayed), StoreError> {
        let mut this = Self { disk: disk.clone(), store, file: None, at: 0 };
        if disk.identity(FILE).map_err(io_error)?.is_none() {
            return Ok((this, Replayed { head, ..Replayed::default() }));
        }
        let file = disk.database(FILE).map_err(io_error)?;
        let mut content = vec![0; this.len(&*file)?];
        file.read(0, &mut content).map_err(io_error)?;
        let mut replayed = replay(&content, store, head);
        this.at = replayed.end;
        this.file = Some(file);
        if replayed.damage.is_none() && !replayed.has_others {
            return Ok((this, replayed));
        }
        let why = if replayed.damage.is_some() { "damaged" } else { "other" };
        let name = keep_aside(&**disk, &content, why)?;
        match &mut replayed.damage {
            Some(damage) => {
                damage.push_str(&format!("; as it was it is {name} now"));
                tracing::error!(%damage, "audit records are lost");
            }
            None => tracing::warn!(set_aside = name, "the journal was another store's"),
        }
        // What is good in it stays where it is.
        if let Some(file) = &this.file {
            let rest = vec![0; content.len().saturating_sub(this.at)];
            let blanked = file.write(this.at as u64, &rest).and_then(|()| file.sync_data());
            blanked.map_err(io_error)?;
        }
        Ok((this, replayed))
    }

    fn len(&self, file: &dyn StorageBackend) -> Result<usize, StoreError> {
        let len = file.len().map_err(io_error)?.min(FILE_BYTES);
        usize::try_from(len).map_err(|e| StoreError::Failed(e.to_string()))
    }

    /// Puts the chain's next records on disk. Says whether there was room; after an error it is not
    /// known what is on disk.
    pub(super) fn append(&mut self, records: &[Numbered]) -> Result<bool, StoreError> {
        let Some((first, _)) = records.first() else { return Ok(true) };
        let frame = frame(self.store, *first, records);
        if self.at + frame.len() > FILE_BYTES as usize || !self.is_made() {
            return Ok(false);
        }
        let Some(file) = &self.file else { return Ok(false) };
        let written = file.write(self.at as u64, &frame).and_then(|()| file.sync_data());
        written.map_err(io_error)?;
        self.at += frame.len();
        Ok(true)
    }

    /// Whether the file is there in its whole length. Where it cannot be made, there is no room in
    /// it: nothing is lost by that.
    fn is_made(&mut self) -> bool {
        if self.file.is_none() {
            let made = self.disk.database(FILE).and_then(|file| {
                let len = file.len()?;
                if len < FILE_BYTES {
                    file.set_len(FILE_BYTES)?;
                    file.write(len, &vec![0; (FILE_BYTES - len) as usize])?;
                    file.sync_data()?;
                }
                Ok(file)
            });
            self.file = made
                .inspect_err(|error| tracing::debug!(%error, "the audit journal is not made"))
                .ok();
        }
        self.file.is_some()
    }

    /// Everything in it is in the table, on disk.
    pub(super) fn restart(&mut self) {
        self.at = 0;
    }

    /// Lets go of the file.
    pub(super) fn close(&mut self) {
        self.file = None;
    }
}

/// Writes what the journal was into a file that says `why`; gives its name.
fn keep_aside(disk: &dyn Disk, content: &[u8], why: &str) -> Result<String, StoreError> {
    for i in 1..=ASIDE_MAX {
        let name = format!("{FILE}.{why}-{i}");
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
        let (header, rest) = bytes.split_at_checked(HEADER)?;
        let u32_at = |at: usize| Some(u32::from_be_bytes(header.get(at..at + 4)?.try_into().ok()?));
        let u64_at = |at: usize| Some(u64::from_be_bytes(header.get(at..at + 8)?.try_into().ok()?));
        if header[..4] != MAGIC || u32_at(4)? != FORMAT {
            return None;
        }
        let (store, first) = (u64_at(8)?, u64_at(16)?);
        let (count, len) = (u32_at(24)?, u32_at(28)? as usize);
        let mut body = rest.get(..len)?;
        if header[32..] != sum(&header[..32], body) || count == 0 || first == 0 {
            return None;
        }
        let mut records = Vec::new();
        for _ in 0..count {
            let (len, rest) = body.split_at_checked(4)?;
            let len = u32::from_be_bytes(len.try_into().ok()?) as usize;
            let (record, rest) = rest.split_at_checked(len)?;
            records.push(record);
            body = rest;
        }
        first.checked_add(u64::from(count))?;
        Some(Self { store, first, records, pages: (HEADER + len).div_ceil(PAGE) })
    }
}

fn frame(store: RaftId, first: u64, records: &[Numbered]) -> Vec<u8> {
    let len: usize = records.iter().map(|(_, bytes)| 4 + bytes.len()).sum();
    let mut frame = Vec::with_capacity((HEADER + len).next_multiple_of(PAGE));
    frame.extend(MAGIC);
    frame.extend(FORMAT.to_be_bytes());
    frame.extend(store.to_be_bytes());
    frame.extend(first.to_be_bytes());
    // Larger ones have no room in the file.
    frame.extend(u32::try_from(records.len()).unwrap_or(u32::MAX).to_be_bytes());
    frame.extend(u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes());
    frame.extend([0; 32]);
    for (_, bytes) in records {
        frame.extend(u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
        frame.extend(&bytes[..]);
    }
    let sum = sum(&frame[..32], &frame[HEADER..]);
    frame[32..HEADER].copy_from_slice(&sum);
    frame.resize(frame.len().next_multiple_of(PAGE), 0);
    frame
}

fn sum(header: &[u8], body: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(header).chain_update(body).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{Decision, Event, Source};
    use crate::env::{CrashMode, MemoryDisk};
    use crate::model::Stamp;
    use proptest::prelude::*;

    const STORE: RaftId = 7;

    fn event(target: &str) -> Event {
        Event {
            at: Stamp(7),
            principal: "ada".into(),
            action: "secret.reveal".into(),
            target: target.into(),
            decision: Decision::Allowed("operator".into()),
            outcome: "done".into(),
            source: Source { node: "eu-1".into(), address: None, request: "r".into() },
            count: 1,
            index: None,
        }
    }

    fn records(head: &mut Head, count: usize) -> Vec<Numbered> {
        let one = |_| {
            let bytes = head.append(event("a"));
            (head.seq, Arc::from(bytes))
        };
        (0..count).map(one).collect()
    }

    fn disk() -> (MemoryDisk, Arc<dyn Disk>) {
        let disk = MemoryDisk::new();
        (disk.clone(), Arc::new(disk))
    }

    fn open(disk: &MemoryDisk, head: Head) -> (Journal, Replayed) {
        let disk: Arc<dyn Disk> = Arc::new(disk.clone());
        Journal::open(&disk, STORE, head).unwrap()
    }

    #[test]
    fn the_format_of_a_frame_does_not_change() {
        let records: Vec<Numbered> = vec![(9, Arc::from(&b"abc"[..])), (10, Arc::from(&b""[..]))];
        let frame = frame(5, 9, &records);
        assert_eq!(frame.len(), PAGE);
        let hex: String = frame[..75].iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            "484f4c4a000000010000000000000005000000000000000900000002\
             0000000b\
             a34c83911e55f4fdf1932a7598924484239df3ed73494299682a89b3841a1393\
             0000000361626300000000"
        );
        assert!(frame[75..].iter().all(|byte| *byte == 0));
        let read = Frame::read(&frame).unwrap();
        assert_eq!((read.store, read.first, read.pages), (5, 9, 1));
        assert_eq!(read.records, [&b"abc"[..], b""]);
    }

    #[test]
    fn what_was_appended_and_is_not_in_the_table_is_there_after_a_crash() {
        let (memory, disk) = disk();
        let (mut journal, replayed) = open(&memory, Head::default());
        assert_eq!(replayed, Replayed::default());
        assert!(disk.identity(FILE).unwrap().is_none(), "nothing makes no file");
        let mut head = Head::default();
        let (first, second) = (records(&mut head, 2), records(&mut head, 40));
        let whole = head;
        for records in [&first, &second] {
            assert!(journal.append(records).unwrap());
        }
        let (_, replayed) = open(&memory.crash(CrashMode::LoseUnsynced), Head::default());
        assert_eq!(replayed.records, [first, second.clone()].concat());
        assert_eq!((replayed.head, replayed.damage), (whole, None));
        // The table has them; the next round begins at the front, over what is there.
        journal.restart();
        let third = records(&mut head, 1);
        assert!(journal.append(&third).unwrap());
        let (mut journal, replayed) = open(&memory.crash(CrashMode::LoseUnsynced), whole);
        assert_eq!((replayed.records, replayed.head), (third, head));
        // And goes on behind what is there.
        let fourth = records(&mut head, 1);
        assert!(journal.append(&fourth).unwrap());
        assert_eq!(journal.at, 2 * PAGE);
    }

    #[test]
    fn a_torn_frame_is_cut_off_and_what_was_on_disk_before_it_stays() {
        for seed in 0..200 {
            let (memory, _) = disk();
            let (mut journal, _) = open(&memory, Head::default());
            let mut head = Head::default();
            let kept = records(&mut head, 3);
            let stood = head;
            assert!(journal.append(&kept).unwrap());
            let torn = records(&mut head, 60);
            let bytes = frame(STORE, stood.seq + 1, &torn);
            // Written, and the machine goes down before it is synced.
            journal.file.as_ref().unwrap().write(journal.at as u64, &bytes).unwrap();
            let (mut again, replayed) =
                open(&memory.crash(CrashMode::TearUnsynced(seed)), Head::default());
            assert_eq!(replayed.damage, None, "{seed}");
            assert_eq!(replayed.records[..3], kept, "{seed}");
            assert!([3, 63].contains(&replayed.records.len()), "{seed}: a part of a frame");
            let mut head = replayed.head;
            assert!(again.append(&records(&mut head, 1)).unwrap());
        }
    }

    #[test]
    fn a_damaged_frame_before_a_whole_one_is_named_and_kept_aside() {
        let (memory, disk) = disk();
        let (mut journal, _) = open(&memory, Head::default());
        let mut head = Head::default();
        let first = records(&mut head, 1);
        let stood = head;
        assert!(journal.append(&first).unwrap());
        for _ in 0..2 {
            assert!(journal.append(&records(&mut head, 1)).unwrap());
        }
        journal.file.as_ref().unwrap().write(PAGE as u64 + 70, b"x").unwrap();
        journal.close();
        let (_, replayed) = open(&memory, Head::default());
        let damage = replayed.damage.unwrap();
        assert!(damage.contains("audit record 2 is missing"), "{damage}");
        assert!(damage.contains("quorum.journal.damaged-1"), "{damage}");
        assert_eq!((&replayed.records, replayed.head), (&first, stood));
        assert!(disk.identity("quorum.journal.damaged-1").unwrap().is_some());
        // What was good is kept all the same.
        let (_, replayed) = open(&memory.crash(CrashMode::LoseUnsynced), Head::default());
        assert_eq!((replayed.records, replayed.damage), (first, None));
    }

    #[test]
    fn another_stores_journal_is_set_aside() {
        let (memory, disk) = disk();
        let (mut journal, _) = open(&memory, Head::default());
        assert!(journal.append(&records(&mut Head::default(), 1)).unwrap());
        journal.close();
        let (_, replayed) = Journal::open(&disk, STORE + 1, Head::default()).unwrap();
        assert_eq!((replayed.records.len(), replayed.damage), (0, None));
        assert!(disk.identity("quorum.journal.other-1").unwrap().is_some());
    }

    #[test]
    fn there_is_room_for_a_number_of_frames_and_none_for_a_larger_one() {
        let (memory, _) = disk();
        let (mut journal, _) = open(&memory, Head::default());
        let mut head = Head::default();
        for _ in 0..FILE_BYTES as usize / PAGE {
            assert!(journal.append(&records(&mut head, 1)).unwrap());
        }
        let more = records(&mut head, 1);
        assert!(!journal.append(&more).unwrap());
        journal.restart();
        assert!(journal.append(&more).unwrap());
        let large: Numbered = (1, vec![0; FILE_BYTES as usize].into());
        journal.restart();
        assert!(!journal.append(&[large]).unwrap());
        // A disk without room for the file is no error; one that fails is.
        let full = MemoryDisk::new();
        full.fill(1_000);
        assert!(!open(&full, Head::default()).0.append(&more).unwrap());
        memory.fail(true);
        assert!(journal.append(&more).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_panic_the_reader(noise in proptest::collection::vec(any::<u8>(), 0..300), at in any::<prop::sample::Index>(), with in any::<u8>()) {
            let _ = replay(&noise, STORE, Head::default());
            let mut head = Head::default();
            let records = records(&mut head, 3);
            let mut bytes = frame(STORE, 1, &records);
            let i = at.index(bytes.len());
            bytes[i] = with;
            let _ = replay(&bytes, STORE, Head::default());
        }
    }
}
