//! The audit chain of `quorum.redb`, for whoever pages through it or checks it. What is not on disk
//! yet is not shown: after a crash another record could have its number.

use std::fs::File;
use std::io::{self, Read as _};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use redb::{ReadTransaction, ReadableDatabase as _};

use super::identity::io_error;
use super::journal::{self, Replayed};
use super::shared::Shared;
use super::tables;
use crate::audit::{Archived, ChainReader, Head, Unreadable};
use crate::storage::StoreError;
use crate::storage::archived::KEY_ARCHIVED;
use crate::storage::database::Database;

/// The chain of `quorum.redb`. Cheap to clone.
#[derive(Clone)]
pub(crate) struct QuorumChain(Source);

#[derive(Clone)]
enum Source {
    Running(Arc<Database>, Arc<Shared>),
    /// With what its journal has beyond it.
    Stopped(Arc<redb::ReadOnlyDatabase>, Arc<Replayed>),
}

impl QuorumChain {
    /// Of a running node's store.
    pub(super) fn new(database: Arc<Database>, shared: Arc<Shared>) -> Self {
        Self(Source::Running(database, shared))
    }

    /// Of the store in this directory, whose node does not run. Nothing is written.
    pub(crate) fn open(dir: &Path) -> Result<Self, Unreadable> {
        let path = dir.join(tables::FILE);
        let database = redb::ReadOnlyDatabase::open(&path)
            .map_err(|e| Unreadable(format!("{}: {e}", path.display())))?;
        let replayed = stopped_tail(dir, &database).map_err(|e| Unreadable(e.to_string()))?;
        Ok(Self(Source::Stopped(Arc::new(database), Arc::new(replayed))))
    }

    /// A view of the whole store as it is now, for whoever copies it. Records that are in the
    /// journal alone are not in it: a running store has none after a flush, and a stopped one that
    /// has some is refused.
    pub(crate) fn begin_read(&self) -> Result<ReadTransaction, StoreError> {
        if let Source::Stopped(_, replayed) = &self.0
            && !replayed.records.is_empty()
        {
            let why = format!("{} has records that are not in the store", journal::FILE);
            return Err(StoreError::Failed(why));
        }
        self.transaction()
    }

    /// The same, whatever is in the journal alone.
    pub(crate) fn peek(&self) -> Result<ReadTransaction, StoreError> {
        self.transaction()
    }

    fn transaction(&self) -> Result<ReadTransaction, StoreError> {
        match &self.0 {
            Source::Running(database, _) => database.get().and_then(|it| Ok(it.begin_read()?)),
            Source::Stopped(database, _) => database.begin_read().map_err(StoreError::from),
        }
    }

    fn read<T>(
        &self,
        read: impl FnOnce(&ReadTransaction) -> Result<T, StoreError>,
    ) -> Result<T, Unreadable> {
        self.transaction().and_then(|tx| read(&tx)).map_err(|e| Unreadable(e.to_string()))
    }
}

/// What the journal in `dir` has that the store does not.
fn stopped_tail(dir: &Path, database: &redb::ReadOnlyDatabase) -> Result<Replayed, StoreError> {
    let tx = database.begin_read()?;
    let head = tables::KEY_HEAD.get(&tx)?.unwrap_or_default();
    let store = tables::KEY_RAFT_ID.get(&tx)?.unwrap_or_default();
    let mut content = Vec::new();
    match File::open(dir.join(journal::FILE)) {
        Ok(file) => {
            file.take(journal::FILE_BYTES).read_to_end(&mut content).map_err(io_error)?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(io_error(error)),
    }
    Ok(journal::replay(&content, store, head))
}

impl ChainReader for QuorumChain {
    fn head(&self) -> Result<Head, Unreadable> {
        match &self.0 {
            Source::Running(_, shared) => Ok(*shared.head.borrow()),
            Source::Stopped(_, replayed) => Ok(replayed.head),
        }
    }

    fn walk(
        &self,
        from: u64,
        visit: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<(), Unreadable> {
        // What a stopped store has behind its head was put there by somebody else: it is shown.
        let (to, tail) = match &self.0 {
            Source::Running(_, shared) => {
                let to = shared.head.borrow().seq;
                (to, shared.tail().clone())
            }
            Source::Stopped(_, replayed) => (u64::MAX, replayed.records.clone()),
        };
        let from = from.max(self.base()?.seq + 1);
        if from > to {
            return Ok(());
        }
        // Begun after the tail was looked at: what is not in the one is in the other.
        self.read(|tx| {
            let mut next = from;
            for row in tx.open_table(tables::AUDIT)?.range(from..=to)? {
                let (seq, bytes) = row?;
                next = seq.value() + 1;
                if visit(bytes.value()).is_break() {
                    return Ok(());
                }
            }
            for (_, bytes) in tail.iter().filter(|(seq, _)| (next..=to).contains(seq)) {
                if visit(bytes).is_break() {
                    return Ok(());
                }
            }
            Ok(())
        })
    }

    fn archived(&self) -> Result<Archived, Unreadable> {
        self.read(|tx| Ok(KEY_ARCHIVED.get(tx)?.unwrap_or_default()))
    }

    fn inconsistency(&self) -> Result<Option<String>, Unreadable> {
        Ok(match &self.0 {
            Source::Running(_, shared) => shared.journal_damage.clone(),
            Source::Stopped(_, replayed) => replayed.damage.clone(),
        })
    }
}
