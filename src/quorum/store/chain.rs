//! The audit chain of `quorum.redb`, for whoever pages through it or checks it. What is not on disk
//! yet is not shown: after a crash another record could have its number.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use redb::{ReadTransaction, ReadableDatabase as _};

use super::shared::Shared;
use super::tables;
use crate::audit::{ChainReader, Head, Unreadable};
use crate::storage::StoreError;
use crate::storage::database::Database;

/// The chain of `quorum.redb`. Cheap to clone.
#[derive(Clone)]
pub(crate) struct QuorumChain(Source);

#[derive(Clone)]
enum Source {
    Running(Arc<Database>, Arc<Shared>),
    Stopped(Arc<redb::ReadOnlyDatabase>),
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
        Ok(Self(Source::Stopped(Arc::new(database))))
    }

    /// A view of the whole store as it is now, for whoever copies it.
    pub(crate) fn begin_read(&self) -> Result<ReadTransaction, StoreError> {
        match &self.0 {
            Source::Running(database, _) => database.get().and_then(|it| Ok(it.begin_read()?)),
            Source::Stopped(database) => database.begin_read().map_err(StoreError::from),
        }
    }

    fn read<T>(
        &self,
        read: impl FnOnce(&ReadTransaction) -> Result<T, StoreError>,
    ) -> Result<T, Unreadable> {
        self.begin_read().and_then(|tx| read(&tx)).map_err(|e| Unreadable(e.to_string()))
    }
}

impl ChainReader for QuorumChain {
    fn head(&self) -> Result<Head, Unreadable> {
        match &self.0 {
            Source::Running(_, shared) => Ok(*shared.head.borrow()),
            Source::Stopped(_) => self.read(|tx| Ok(tables::KEY_HEAD.get(tx)?.unwrap_or_default())),
        }
    }

    fn walk(
        &self,
        from: u64,
        visit: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<(), Unreadable> {
        // What a stopped store has behind its head was put there by somebody else: it is shown.
        let to = match &self.0 {
            Source::Running(_, shared) => shared.head.borrow().seq,
            Source::Stopped(_) => u64::MAX,
        };
        if from > to {
            return Ok(());
        }
        self.read(|tx| {
            for row in tx.open_table(tables::AUDIT)?.range(from..=to)? {
                if visit(row?.1.value()).is_break() {
                    break;
                }
            }
            Ok(())
        })
    }
}
