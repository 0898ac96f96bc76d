//! The one writer of the store. It takes jobs in groups, in the order in which they were queued,
//! and commits a group in one transaction; then it answers. A group in which something must be on
//! disk waits for the disk; what is applied alone does not, since the log has it: it is on disk
//! with the next such group, or when it is told to flush.
//!
//! A commit that fails ends it: what is on disk is then known only after opening anew.
//!
//! Synchronous on purpose: whoever drives it chooses the thread.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use openraft::storage::IOFlushed;
use redb::{Durability, ReadableDatabase as _, ReadableTable as _, WriteTransaction};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::identity::{Identified, Identity, io_error};
use super::journal::{Journal, Numbered};
use super::machine::Working;
use super::shared::{LogView, Shared};
use super::tables::{self, Mark};
use crate::audit::{Archived, Event, Head};
use crate::env::Disk;
use crate::model::Stamp;
use crate::planted::{Bug, is_planted};
use crate::quorum::types::{Coded, LogId, RaftId, StoredMembership, TypeConfig, Vote};
use crate::registry::{Row, State};
use crate::storage::database::Database;
use crate::storage::rebuild::Rebuild;
use crate::storage::{StoreError, archived};

/// From which size of the file on commits also keep what makes repairing it quick, in bytes.
const QUICK_REPAIR_BYTES: u64 = 1 << 30;

/// Something to write.
#[derive(Clone)]
pub(super) enum Work {
    /// Entries for the log, encoded, in order; and the append's number.
    Append(Vec<(u64, Vec<u8>)>, u64),
    Vote(Vote),
    Committed(Option<LogId>),
    /// Takes back the entries from this index on.
    Truncate(u64),
    Purge(LogId),
    Apply(Applied),
    Record(Vec<Event>),
    /// How far the audit chain is archived.
    Archive(Archived),
    /// Replaces the state by another one.
    Install(Box<Working>),
    /// When the leader was heard last.
    Contact(Stamp),
    /// Rebuilds the file, in which so many bytes are live.
    Rebuild(u64),
    /// The journal has records that are to go into the table, by and by.
    Fold,
    /// Puts on disk what is not there yet.
    Flush,
    /// Ends the store; what comes behind it is refused.
    Close,
}

/// What a run of entries did.
#[derive(Clone)]
pub(super) struct Applied {
    /// The last of them.
    pub(super) upto: LogId,
    pub(super) membership: Option<StoredMembership>,
    pub(super) rows: Vec<Row>,
    pub(super) events: Vec<Event>,
}

/// Who wants to know.
pub(super) enum Answer {
    Nobody,
    Raft(IOFlushed<TypeConfig>),
    Caller(oneshot::Sender<Result<(), StoreError>>),
}

pub(super) struct Job {
    pub(super) work: Work,
    pub(super) answer: Answer,
    /// Given back when the job is done.
    room: Option<OwnedSemaphorePermit>,
}

impl Job {
    pub(super) fn new(work: Work, answer: Answer) -> Self {
        Self { work, answer, room: None }
    }

    /// Whether nobody waits for it, and the log has what is in it.
    pub(super) fn can_wait(&self) -> bool {
        matches!(self.answer, Answer::Nobody) && !self.work.is_durable()
    }

    /// With the room that it takes.
    pub(super) fn with_room(self, room: Option<OwnedSemaphorePermit>) -> Self {
        Self { room, ..self }
    }
}

impl Work {
    /// Whether it has to be on disk when it is answered.
    fn is_durable(&self) -> bool {
        match self {
            Self::Append(..)
            | Self::Vote(_)
            | Self::Truncate(_)
            | Self::Record(_)
            | Self::Archive(_)
            | Self::Install(_)
            | Self::Flush
            | Self::Close => !(matches!(self, Self::Append(..)) && is_planted(Bug::PushBeforeSync)),
            Self::Committed(_)
            | Self::Purge(_)
            | Self::Apply(_)
            | Self::Contact(_)
            | Self::Rebuild(_)
            | Self::Fold => false,
        }
    }
}

impl Answer {
    pub(super) fn send(self, result: Result<(), StoreError>) {
        match self {
            Self::Nobody => {}
            Self::Raft(flushed) => flushed.io_completed(result.map_err(to_io)),
            // Whoever does not wait any more needs no answer.
            Self::Caller(caller) => drop(caller.send(result)),
        }
    }
}

/// As openraft takes it.
pub(super) fn to_io(error: StoreError) -> std::io::Error {
    match error {
        StoreError::Full => std::io::ErrorKind::StorageFull.into(),
        StoreError::Damaged(_) | StoreError::Failed(_) => std::io::Error::other(error.to_string()),
    }
}

pub(super) struct Writer {
    disk: Arc<dyn Disk>,
    pub(super) database: Arc<Database>,
    pub(super) shared: Arc<Shared>,
    pub(super) mark: Mark,
    pub(super) rebuild: Option<Rebuild>,
    /// Whether something is committed and not on disk.
    is_dirty: bool,
    database_bytes: u64,
}

/// What a group changes outside of the database, once it is committed.
pub(super) struct Staged {
    head: Head,
    vote: Option<Vote>,
    append: Option<u64>,
    /// How many events of decisions are among what it puts on the chain.
    decided: usize,
}

impl Writer {
    /// Reads what the store holds.
    pub(super) fn open(
        disk: Arc<dyn Disk>,
        identified: Identified,
    ) -> Result<(Self, Working, (RaftId, Identity)), StoreError> {
        let Identified { database, identity, mark } = identified;
        let (shared, working) = {
            let tx = database.get()?.begin_read()?;
            let purged = tables::KEY_PURGED.get(&tx)?.map(|Coded(id)| id);
            let log = LogView::new(tables::read_bounds(&tx)?, purged);
            let vote = tables::KEY_VOTE.get(&tx)?.map(|Coded(vote)| vote);
            let committed = tables::KEY_COMMITTED.get(&tx)?.map(|Coded(id)| id);
            let head = tables::KEY_HEAD.get(&tx)?.unwrap_or_default();
            let journal = Journal::open(&disk, mark.origin, head)?;
            let shared = Shared::new(log, vote, committed, journal, head.seq);
            if let Some(contact) = tables::KEY_CONTACT.get(&tx)? {
                shared.set_contact(contact);
            }
            (shared, Working::read(&tx)?)
        };
        shared.publish(working.state.clone());
        let mut writer = Self {
            disk,
            database: Arc::new(database),
            shared: Arc::new(shared),
            mark,
            rebuild: None,
            is_dirty: false,
            database_bytes: 0,
        };
        writer.note_size()?;
        let who = (writer.mark.origin, identity);
        Ok((writer, working, who))
    }

    pub(super) fn shared(&self) -> Arc<Shared> {
        self.shared.clone()
    }

    pub(super) fn database(&self) -> Arc<Database> {
        self.database.clone()
    }

    /// Whether the journal has records that the table does not.
    pub(super) fn has_tail(&self) -> bool {
        !self.shared.tail().is_empty()
    }

    /// Whether there is something to flush. A store that failed takes nothing more, and is not to
    /// be tried again and again.
    pub(super) fn is_dirty(&self) -> bool {
        self.is_dirty && self.shared.failure().is_none()
    }

    /// Carries out a group of jobs, all of it or nothing, and answers them.
    pub(super) fn commit(&mut self, jobs: Vec<Job>) {
        let (works, answers): (Vec<Work>, Vec<_>) =
            jobs.into_iter().map(|job| (job.work, (job.answer, job.room))).unzip();
        let asked = works.iter().find_map(|work| match work {
            Work::Rebuild(live_bytes) => Some(*live_bytes),
            _ => None,
        });
        let result = match self.shared.failure() {
            Some(failure) => Err(failure),
            None => {
                let written = self.write_guarded(works);
                if let Err(error) = &written {
                    self.fail(error);
                }
                written
            }
        };
        for (answer, room) in answers {
            answer.send(result.clone());
            drop(room);
        }
        if let Some(live_bytes) = asked {
            self.begin_rebuild(live_bytes);
        }
        // Nobody has to wait for that.
        if !self.is_dirty
            && let Err(error) = self.note_size()
        {
            tracing::warn!(%error, "the size of the quorum's store is not known");
        }
    }

    /// Where fsync lied, redb can panic instead of failing.
    fn write_guarded(&mut self, works: Vec<Work>) -> Result<(), StoreError> {
        let written = catch_unwind(AssertUnwindSafe(|| self.write(works)));
        written.unwrap_or_else(|_| Err(StoreError::damaged("redb panicked")))
    }

    /// Closes the store where the first of the jobs asks for it; then all others are refused.
    pub(super) fn close_for(&mut self, jobs: Vec<Job>) {
        let mut jobs = jobs.into_iter();
        if let Some(job) = jobs.next() {
            let closed = self.close();
            job.answer.send(closed);
            jobs.for_each(|job| job.answer.send(Err(self.shared.failure_or_closed())));
        }
    }

    fn write(&mut self, works: Vec<Work>) -> Result<(), StoreError> {
        let shared = self.shared.clone();
        // Nobody adds to the chain until this is committed.
        let mut chain = shared.chain();
        let is_durable = works.iter().any(Work::is_durable);
        let database = self.database.get()?;
        let mut tx = database.begin_write()?;
        if is_durable {
            // Repairing walks the whole file; past some size a dearer commit is the better deal.
            tx.set_quick_repair(self.database_bytes >= QUICK_REPAIR_BYTES);
        } else {
            let set = tx.set_durability(Durability::None);
            set.map_err(|e| StoreError::Failed(e.to_string()))?;
        }
        let again = self.is_rebuilding().then(|| works.clone());
        let end = (chain.head, chain.stored);
        let staged = self.put(&tx, works, end, is_durable)?;
        tx.commit()?;
        if let Some(works) = again {
            self.mirror(works, end, is_durable);
        }
        self.is_dirty = !is_durable;
        chain.is_ahead = !is_durable && (chain.is_ahead || staged.head != chain.head);
        (chain.head, chain.stored) = (staged.head, staged.head.seq);
        shared.events_waiting.fetch_sub(staged.decided, Ordering::SeqCst);
        if is_durable {
            self.note_sync(&staged);
            // Whoever reads finds the records in the table from here on.
            shared.tail().clear();
            chain.journal.restart();
        }
        Ok(())
    }

    /// Puts in what the journal has and what a group wants; the chain goes on from `head`, and record
    /// `stored` is the last in the table. The same each time that it is done.
    pub(super) fn put(
        &self,
        tx: &WriteTransaction,
        works: Vec<Work>,
        (head, stored): (Head, u64),
        is_durable: bool,
    ) -> Result<Staged, StoreError> {
        put_records(tx, &self.shared.tail(), stored)?;
        let mut staged = Staged { head, vote: None, append: None, decided: 0 };
        for work in works {
            stage(tx, work, &mut staged)?;
        }
        if staged.head.seq > stored {
            tables::KEY_HEAD.put(tx, &staged.head)?;
        }
        if is_durable {
            tables::KEY_COMMITS.put(tx, &(self.mark.n + 1))?;
        }
        Ok(staged)
    }

    /// What was committed, now and before, is on disk.
    fn note_sync(&mut self, staged: &Staged) {
        self.mark.n += 1;
        if let Err(error) = self.disk.write(tables::MARK, &self.mark.encode(), false) {
            // The commit stands. The next start may take an old copy for this store.
            tracing::error!(%error, "the high-water mark of the quorum's store is not written");
        }
        if let Some(vote) = staged.vote {
            self.shared.set_vote(vote);
        }
        if let Some(append) = staged.append {
            self.shared.log().flushed(append);
        }
        self.shared
            .head
            .send_if_modified(|head| std::mem::replace(head, staged.head) != staged.head);
        self.shared.syncs.fetch_add(1, Ordering::Relaxed);
    }

    fn note_size(&mut self) -> Result<(), StoreError> {
        let len = self.disk.len(tables::FILE).map_err(io_error)?;
        self.database_bytes = len.unwrap_or_default();
        Ok(())
    }

    /// Takes nothing more: whether the commit is on disk can be read after opening anew.
    pub(super) fn fail(&mut self, error: &StoreError) {
        self.give_up_rebuild(error);
        self.shared.fail(&self.database, &mut self.shared.chain(), error);
    }

    /// Puts everything on disk, says that the node was stopped in order, and closes the file.
    pub(super) fn close(&mut self) -> Result<(), StoreError> {
        if let Some(failure) = self.shared.failure() {
            return Err(failure);
        }
        self.give_up_rebuild(&"the node stops");
        // What would go into the journal from here on is refused.
        self.shared.chain().is_closed = true;
        let closed = self.close_open();
        self.shared.chain().close();
        self.database.close();
        let why = closed.clone().err().unwrap_or_else(|| self.shared.failure_or_closed());
        self.shared.failure.send_replace(Some(why));
        closed
    }

    fn close_open(&mut self) -> Result<(), StoreError> {
        if self.is_dirty || self.has_tail() {
            self.write_guarded(vec![Work::Flush])?;
        }
        let mark = Mark { clean: true, ..self.mark.clone() };
        self.disk.write(tables::MARK, &mark.encode(), true).map_err(io_error)
    }
}

fn stage(tx: &WriteTransaction, work: Work, staged: &mut Staged) -> Result<(), StoreError> {
    match work {
        Work::Append(entries, append) => {
            let mut log = tx.open_table(tables::LOG)?;
            for (index, bytes) in entries {
                log.insert(index, bytes.as_slice())?;
            }
            staged.append = Some(append);
        }
        Work::Vote(vote) => {
            tables::KEY_VOTE.put(tx, &Coded(vote))?;
            staged.vote = Some(vote);
        }
        Work::Committed(Some(committed)) => tables::KEY_COMMITTED.put(tx, &Coded(committed))?,
        Work::Committed(None) => tables::KEY_COMMITTED.remove(tx)?,
        Work::Truncate(from) => tx.open_table(tables::LOG)?.retain_in(from.., |_, _| false)?,
        Work::Purge(upto) => {
            tx.open_table(tables::LOG)?.retain_in(..=upto.index, |_, _| false)?;
            tables::KEY_PURGED.put(tx, &Coded(upto))?;
        }
        Work::Apply(applied) => {
            put_rows(tx, applied.rows)?;
            staged.decided += applied.events.len();
            put_events(tx, applied.events, &mut staged.head)?;
            tables::KEY_APPLIED.put(tx, &Coded(applied.upto))?;
            if let Some(membership) = applied.membership {
                tables::KEY_MEMBERSHIP.put(tx, &Coded(membership))?;
            }
        }
        Work::Record(events) => put_events(tx, events, &mut staged.head)?,
        Work::Archive(archived) => archived::put(tx, tables::AUDIT, &archived)?,
        Work::Install(working) => install(tx, *working)?,
        Work::Contact(at) => tables::KEY_CONTACT.put(tx, &at)?,
        Work::Rebuild(_) | Work::Fold | Work::Flush | Work::Close => {}
    }
    Ok(())
}

/// Puts rows in, and takes those out that have no value.
pub(super) fn put_rows(tx: &WriteTransaction, rows: Vec<Row>) -> Result<(), StoreError> {
    let mut table = tx.open_table(tables::STATE)?;
    for row in rows {
        match row.value {
            Some(value) => table.insert(row.key.as_slice(), value.as_slice())?,
            None => table.remove(row.key.as_slice())?,
        };
    }
    Ok(())
}

/// Puts those of the journal's records into the table that come behind record `stored`.
pub(super) fn put_records(
    tx: &WriteTransaction,
    records: &[Numbered],
    stored: u64,
) -> Result<(), StoreError> {
    if records.iter().all(|(seq, _)| *seq <= stored) {
        return Ok(());
    }
    let mut audit = tx.open_table(tables::AUDIT)?;
    for (seq, bytes) in records.iter().filter(|(seq, _)| *seq > stored) {
        audit.insert(seq, &bytes[..])?;
    }
    Ok(())
}

/// Puts events on the chain.
pub(super) fn put_events(
    tx: &WriteTransaction,
    events: Vec<Event>,
    head: &mut Head,
) -> Result<(), StoreError> {
    let mut audit = tx.open_table(tables::AUDIT)?;
    for event in events {
        let bytes = head.append(event);
        audit.insert(head.seq, bytes.as_slice())?;
    }
    Ok(())
}

/// Makes the table what the state is, and touches only the rows that differ: who lags behind has
/// most of them.
fn install(tx: &WriteTransaction, working: Working) -> Result<(), StoreError> {
    put_rows(tx, differences(tx, &working.state)?)?;
    match working.applied {
        Some(applied) => tables::KEY_APPLIED.put(tx, &Coded(applied))?,
        None => tables::KEY_APPLIED.remove(tx)?,
    }
    tables::KEY_MEMBERSHIP.put(tx, &Coded(working.membership))
}

/// What makes the stored rows those of `state`.
fn differences(tx: &WriteTransaction, state: &State) -> Result<Vec<Row>, StoreError> {
    let table = tx.open_table(tables::STATE)?;
    let mut differences = Vec::new();
    let mut wanted = BTreeSet::new();
    for row in state.rows() {
        let stored = table.get(row.key.as_slice())?;
        if stored.as_ref().map(redb::AccessGuard::value) != row.value.as_deref() {
            differences.push(row.clone());
        }
        wanted.insert(row.key);
    }
    for row in table.iter()? {
        let (key, _) = row?;
        if !wanted.contains(key.value()) {
            differences.push(Row { key: key.value().to_vec(), value: None });
        }
    }
    Ok(differences)
}
