//! The log, as openraft uses it. An append returns once the entries are queued, and can be read
//! from memory; openraft hears later, all at once for whatever shared a commit, that they are on
//! disk. Only a vote is waited for.

use std::fmt::Debug;
use std::io;
use std::ops::RangeBounds;
use std::sync::Arc;

use futures_util::Stream;
use futures_util::stream;
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};
use redb::ReadableDatabase as _;
use tokio::sync::{mpsc, oneshot};

use super::shared::Shared;
use super::tables;
use super::writer::{Answer, Job, Work, to_io};
use crate::env::Blocking;
use crate::quorum::types::{Entry, LogId, TypeConfig, Vote};
use crate::storage::StoreError;
use crate::storage::database::Database;

/// Most entries that are read at a time, where part of a range will do.
const READ_ENTRIES_MAX: u64 = 256;

/// How many bytes of entries make a part of a range large enough.
const READ_BYTES_MAX: usize = 1 << 20;

/// Reads the log. Cheap to clone.
#[derive(Clone)]
pub(crate) struct LogReader {
    shared: Arc<Shared>,
    database: Arc<Database>,
    blocking: Blocking,
}

impl LogReader {
    pub(super) fn new(shared: Arc<Shared>, database: Arc<Database>, blocking: Blocking) -> Self {
        Self { shared, database, blocking }
    }

    /// The entries of `range` that the log has: all of them, or, where `bytes_max` is given, the
    /// first ones of them.
    async fn read(
        &self,
        range: impl RangeBounds<u64>,
        bytes_max: Option<usize>,
    ) -> Result<Vec<Entry>, io::Error> {
        loop {
            let (start, end, recent, truncations) = {
                let log = self.shared.log();
                let (start, mut end) = log.clamp(&range);
                if bytes_max.is_some() {
                    end = end.min(start + READ_ENTRIES_MAX);
                }
                (start, end, log.recent(start, end), log.truncations)
            };
            let recent_start = recent.first().map_or(end, |(entry, _)| entry.log_id.index);
            let mut entries = Vec::new();
            if start < recent_start {
                let database = self.database.clone();
                let read = move || {
                    let tx = database.get()?.begin_read()?;
                    tables::read_entries(&tx, start, recent_start, bytes_max)
                };
                entries = match self.blocking.run(read).await {
                    Ok(entries) => entries,
                    // What was purged meanwhile may be missing.
                    Err(_) if self.shared.log().clamp(&range).0 > start => continue,
                    Err(error) => return Err(to_io(error)),
                };
                if self.shared.log().truncations != truncations {
                    continue;
                }
                if entries.len() as u64 != recent_start - start {
                    return Ok(entries);
                }
            }
            let mut bytes = 0;
            for (entry, entry_bytes) in recent {
                bytes += entry_bytes;
                if bytes_max.is_some_and(|max| bytes > max) && !entries.is_empty() {
                    break;
                }
                entries.push(Entry::clone(&entry));
            }
            return Ok(entries);
        }
    }
}

impl RaftLogReader<TypeConfig> for LogReader {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        self.read(range, None).await
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, io::Error> {
        self.read(start..end, Some(READ_BYTES_MAX)).await
    }

    /// Bit by bit: after a restart there may be much to apply.
    async fn entries_stream<RB>(
        &mut self,
        range: RB,
    ) -> impl Stream<Item = Result<Entry, io::Error>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (start, end) = self.shared.log().clamp(&range);
        let read_on = move |(reader, next): (Self, u64)| async move {
            if next >= end {
                return Ok(None);
            }
            let entries = reader.read(next..end, Some(READ_BYTES_MAX)).await?;
            let next = next + entries.len() as u64;
            if entries.is_empty() {
                return Err(io::Error::other(format!("entry {next} of the log is missing")));
            }
            Ok(Some((stream::iter(entries.into_iter().map(Ok)), (reader, next))))
        };
        let parts = stream::try_unfold((self.clone(), start), read_on);
        Box::pin(futures_util::TryStreamExt::try_flatten(parts))
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.shared.vote())
    }
}

/// The log, for openraft alone.
pub(crate) struct LogStore {
    reader: LogReader,
    jobs: mpsc::Sender<Job>,
}

impl LogStore {
    pub(super) fn new(reader: LogReader, jobs: mpsc::Sender<Job>) -> Self {
        Self { reader, jobs }
    }

    fn shared(&self) -> &Shared {
        &self.reader.shared
    }

    async fn queue(&self, work: Work, answer: Answer) -> Result<(), io::Error> {
        self.send(Job::new(work, answer)).await
    }

    async fn send(&self, job: Job) -> Result<(), io::Error> {
        if let Err(mpsc::error::SendError(job)) = self.jobs.send(job).await {
            let error = self.shared().failure_or_closed();
            job.answer.send(Err(error.clone()));
            return Err(to_io(error));
        }
        Ok(())
    }

    /// The store is of no more use once it has failed: openraft is to stop.
    fn check(&self) -> Result<(), io::Error> {
        self.shared().failure().map_or(Ok(()), |error| Err(to_io(error)))
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = LogReader;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let log = self.shared().log();
        Ok(LogState { last_purged_log_id: log.purged, last_log_id: log.last })
    }

    async fn get_log_reader(&mut self) -> LogReader {
        self.reader.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let (done, is_done) = oneshot::channel();
        self.queue(Work::Vote(*vote), Answer::Caller(done)).await?;
        let lost = |_| self.shared().failure_or_closed();
        is_done.await.map_err(lost).flatten().map_err(to_io)
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        self.check()?;
        self.shared().set_committed(committed);
        self.queue(Work::Committed(committed), Answer::Nobody).await
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.shared().committed())
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: IOFlushed<TypeConfig>,
    ) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut seen = Vec::new();
        let mut encoded = Vec::new();
        let mut bytes_all = 0;
        for entry in entries {
            let bytes = tables::write_entry(&entry);
            let len = bytes.len();
            bytes_all += len;
            encoded.push((entry.log_id.index, bytes));
            seen.push((entry, len));
        }
        if let Err(error) = self.check() {
            let failure = self.shared().failure_or_closed();
            Answer::Raft(callback).send(Err(failure));
            return Err(error);
        }
        let room = self.shared().room(bytes_all).await;
        // Readable from here on; nobody else changes the log.
        let append = self.shared().log().append(seen);
        let job = Job::new(Work::Append(encoded, append), Answer::Raft(callback));
        self.send(job.with_room(room)).await
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        self.check()?;
        self.shared().log().truncate(last);
        let from = last.map_or(0, |id| id.index + 1);
        self.queue(Work::Truncate(from), Answer::Nobody).await
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        self.check()?;
        self.shared().log().purge(upto);
        self.queue(Work::Purge(upto), Answer::Nobody).await
    }
}

impl Shared {
    /// Why a job could not be queued.
    pub(super) fn failure_or_closed(&self) -> StoreError {
        let closed = || StoreError::Failed("the quorum's store is closed".into());
        self.failure().unwrap_or_else(closed)
    }
}
