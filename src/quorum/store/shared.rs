//! What is known of the store without asking the disk: kept by the writer and by those who queue
//! jobs, read by everybody.

use std::collections::BTreeMap;
use std::ops::{Bound, RangeBounds};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use arc_swap::ArcSwap;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::journal::{Journal, Numbered, Replayed};
use super::recorder::Pending;
use crate::audit::Head;
use crate::model::Stamp;
use crate::quorum::types::{Entry, LogId, Vote};
use crate::registry::State;
use crate::storage::StoreError;
use crate::storage::database::Database;

/// Most bytes of entries that are kept in memory though they are on disk.
const RECENT_BYTES_MAX: usize = 8 << 20;

/// Most bytes that wait to be written; whoever has more waits. What is larger than that waits
/// until it is alone.
const WAITING_BYTES_MAX: u32 = 64 << 20;

pub(super) struct Shared {
    /// Room for what waits to be written.
    room: Arc<Semaphore>,
    /// The log, as whoever appends to it sees it.
    log: Mutex<LogView>,
    /// As it is on disk.
    vote: Mutex<Option<Vote>>,
    pub(super) committed: Mutex<Option<LogId>>,
    /// What is applied.
    pub(super) published: Arc<ArcSwap<State>>,
    /// Its index.
    pub(super) applied: watch::Sender<u64>,
    /// Where the audit chain stands on disk.
    pub(super) head: watch::Sender<Head>,
    /// The end of the chain, held by whoever adds to it until that is on disk.
    chain: Mutex<Chain>,
    /// The chain's last records: those that are in the journal, on disk, and not in the table.
    tail: Mutex<Vec<Numbered>>,
    /// Who waits for records to be in the journal.
    pending: Mutex<Pending>,
    /// How many events of decisions are applied and not on the chain yet.
    pub(super) events_waiting: AtomicUsize,
    /// What did not hold together in the journal when it was opened.
    pub(super) journal_damage: Option<String>,
    /// Why the store takes nothing more.
    pub(super) failure: watch::Sender<Option<StoreError>>,
    /// When the leader was heard last, in microseconds; 0 where it never was.
    contact: AtomicU64,
    /// Which of them was written down last.
    contact_written: AtomicU64,
    /// How many commits there were that waited for the disk.
    pub(super) syncs: AtomicU64,
    /// How often the file was rebuilt.
    rebuilt: AtomicU64,
}

/// The end of the audit chain.
pub(super) struct Chain {
    /// Where it stands, what is not on disk included.
    pub(super) head: Head,
    /// The last record in the table.
    pub(super) stored: u64,
    /// Whether a record is in the table that is not on disk: until it is, none may follow it in the
    /// journal.
    pub(super) is_ahead: bool,
    /// Whether nothing is taken any more.
    pub(super) is_closed: bool,
    pub(super) journal: Journal,
}

/// What the log holds, and its newest entries: all that may not be on disk yet, and some more.
#[derive(Default)]
pub(super) struct LogView {
    /// The first entry's index; absent where there is no entry.
    first: Option<u64>,
    /// The last entry, or the last that was purged.
    pub(super) last: Option<LogId>,
    pub(super) purged: Option<LogId>,
    /// How often entries were taken back: what is read from disk before and after does not fit.
    pub(super) truncations: u64,
    recent: BTreeMap<u64, Recent>,
    recent_bytes: usize,
    appends: u64,
    appends_on_disk: u64,
}

struct Recent {
    entry: Arc<Entry>,
    bytes: usize,
    /// Which append brought it.
    append: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// With the chain as the journal has it, whose table ends with record `stored`.
    pub(super) fn new(
        log: LogView,
        vote: Option<Vote>,
        committed: Option<LogId>,
        (journal, replayed): (Journal, Replayed),
        stored: u64,
    ) -> Self {
        let head = replayed.head;
        let chain = Chain { head, stored, is_ahead: false, is_closed: false, journal };
        Self {
            room: Arc::new(Semaphore::new(WAITING_BYTES_MAX as usize)),
            log: Mutex::new(log),
            vote: Mutex::new(vote),
            committed: Mutex::new(committed),
            published: Arc::default(),
            applied: watch::Sender::new(0),
            head: watch::Sender::new(head),
            chain: Mutex::new(chain),
            tail: Mutex::new(replayed.records),
            pending: Mutex::default(),
            events_waiting: AtomicUsize::new(0),
            journal_damage: replayed.damage,
            failure: watch::Sender::new(None),
            contact: AtomicU64::new(0),
            contact_written: AtomicU64::new(0),
            syncs: AtomicU64::new(0),
            rebuilt: AtomicU64::new(0),
        }
    }

    /// How often the file was rebuilt since the store was opened.
    pub(super) fn rebuilt(&self) -> u64 {
        self.rebuilt.load(Ordering::Relaxed)
    }

    pub(super) fn note_rebuilt(&self) {
        self.rebuilt.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn log(&self) -> MutexGuard<'_, LogView> {
        lock(&self.log)
    }

    /// Waits until so many bytes may wait to be written; they do until this is dropped.
    pub(super) async fn room(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min(WAITING_BYTES_MAX);
        // It is never closed.
        self.room.clone().acquire_many_owned(bytes).await.ok()
    }

    pub(super) fn vote(&self) -> Option<Vote> {
        *lock(&self.vote)
    }

    pub(super) fn set_vote(&self, vote: Vote) {
        *lock(&self.vote) = Some(vote);
    }

    pub(super) fn committed(&self) -> Option<LogId> {
        *lock(&self.committed)
    }

    pub(super) fn set_committed(&self, committed: Option<LogId>) {
        *lock(&self.committed) = committed;
    }

    pub(super) fn contact(&self) -> Option<Stamp> {
        let contact = self.contact.load(Ordering::Relaxed);
        (contact > 0).then_some(Stamp(contact))
    }

    pub(super) fn set_contact(&self, at: Stamp) {
        self.contact.store(at.0, Ordering::Relaxed);
        self.contact_written.store(at.0, Ordering::Relaxed);
    }

    /// Says whether it is to be written down: `step` microseconds away from what was.
    pub(super) fn note_contact(&self, at: Stamp, step: u64) -> bool {
        self.contact.store(at.0, Ordering::Relaxed);
        let is_due = at.0.abs_diff(self.contact_written.load(Ordering::Relaxed)) >= step;
        if is_due {
            self.contact_written.store(at.0, Ordering::Relaxed);
        }
        is_due
    }

    /// Shows what is applied: first the state, then its index.
    pub(super) fn publish(&self, state: State) {
        let index = state.index;
        self.published.store(Arc::new(state));
        self.applied.send_replace(index);
    }

    /// The end of the chain, once nobody else adds to it.
    pub(super) fn chain(&self) -> MutexGuard<'_, Chain> {
        lock(&self.chain)
    }

    /// The end of the chain, if nobody adds to it now.
    pub(super) fn try_chain(&self) -> Option<MutexGuard<'_, Chain>> {
        match self.chain.try_lock() {
            Ok(chain) => Some(chain),
            Err(TryLockError::Poisoned(chain)) => Some(chain.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    pub(super) fn pending(&self) -> MutexGuard<'_, Pending> {
        lock(&self.pending)
    }

    /// The records that are in the journal alone. Changed by whoever holds the chain's end.
    pub(super) fn tail(&self) -> MutexGuard<'_, Vec<Numbered>> {
        lock(&self.tail)
    }

    /// The store takes nothing more: what is on disk can be read after opening anew.
    pub(super) fn fail(&self, database: &Database, chain: &mut Chain, error: &StoreError) {
        tracing::error!(%error, "the quorum's store failed, and is closed");
        chain.close();
        database.close();
        self.failure.send_replace(Some(error.clone()));
    }

    pub(super) fn failure(&self) -> Option<StoreError> {
        self.failure.borrow().clone()
    }
}

impl Chain {
    /// Takes nothing more, and lets go of the journal's file.
    pub(super) fn close(&mut self) {
        self.is_closed = true;
        self.journal.close();
    }
}

impl LogView {
    /// A log as it is on disk.
    pub(super) fn new(bounds: Option<(u64, LogId)>, purged: Option<LogId>) -> Self {
        let (first, last) = bounds.unzip();
        Self { first, last: last.or(purged), purged, ..Self::default() }
    }

    /// Takes note of entries that are about to be written; gives the append's number.
    pub(super) fn append(&mut self, entries: Vec<(Entry, usize)>) -> u64 {
        self.appends += 1;
        for (entry, bytes) in entries {
            let index = entry.log_id.index;
            self.first.get_or_insert(index);
            self.last = Some(entry.log_id);
            let recent = Recent { entry: Arc::new(entry), bytes, append: self.appends };
            self.recent_bytes += bytes;
            if let Some(before) = self.recent.insert(index, recent) {
                self.recent_bytes -= before.bytes;
            }
        }
        self.appends
    }

    /// All appends up to this one are on disk.
    pub(super) fn flushed(&mut self, append: u64) {
        self.appends_on_disk = self.appends_on_disk.max(append);
        while self.recent_bytes > RECENT_BYTES_MAX
            && let Some(oldest) = self.recent.first_entry()
            && oldest.get().append <= self.appends_on_disk
        {
            self.recent_bytes -= oldest.remove().bytes;
        }
    }

    /// Takes back what is behind `after`, if there is anything.
    pub(super) fn truncate(&mut self, after: Option<LogId>) {
        let end = after.map_or(0, |id| id.index + 1);
        if self.last.is_none_or(|last| last.index < end) {
            return;
        }
        for (_, recent) in self.recent.split_off(&end) {
            self.recent_bytes -= recent.bytes;
        }
        self.truncations += 1;
        self.last = after;
        if self.first.is_some_and(|first| first >= end) {
            self.first = None;
            self.last = self.purged;
        }
    }

    /// Forgets what is not behind `upto`.
    pub(super) fn purge(&mut self, upto: LogId) {
        let kept = self.recent.split_off(&(upto.index + 1));
        let gone = std::mem::replace(&mut self.recent, kept);
        self.recent_bytes -= gone.values().map(|recent| recent.bytes).sum::<usize>();
        self.purged = self.purged.max(Some(upto));
        if self.last.is_none_or(|last| last.index <= upto.index) {
            (self.first, self.last) = (None, self.purged);
        } else {
            self.first = self.first.map(|first| first.max(upto.index + 1));
        }
    }

    /// The part of `range` that the log has: from, and before which index.
    pub(super) fn clamp(&self, range: &impl RangeBounds<u64>) -> (u64, u64) {
        let (Some(first), Some(last)) = (self.first, self.last) else { return (0, 0) };
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(start) => start.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(end) => end.saturating_add(1),
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        let (start, end) = (start.max(first), end.min(last.index + 1));
        (start, end.max(start))
    }

    /// The entries from `start` on, before `end`, that are in memory: the last ones of them.
    pub(super) fn recent(&self, start: u64, end: u64) -> Vec<(Arc<Entry>, usize)> {
        let recent = self.recent.range(start..end);
        recent.map(|(_, recent)| (recent.entry.clone(), recent.bytes)).collect()
    }
}
