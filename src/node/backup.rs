//! Taking a backup of a node that runs. One at a time: while one is taken, the stores keep every
//! page that it may still read.

use tokio::sync::OwnedSemaphorePermit;

use super::Node;
use crate::access::{ClusterAction, ClusterPermit};
use crate::backup::Dump;
use crate::env::Blocking;
use crate::model::Stamp;
use crate::storage::StoreError;

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BackupError {
    /// Another one is under way.
    #[error("another backup is being taken")]
    Busy,
    /// A store cannot be read.
    #[error("{0}")]
    Store(#[from] StoreError),
}

/// A backup under way.
pub(crate) struct Taking {
    dump: Dump,
    blocking: Blocking,
    _place: OwnedSemaphorePermit,
}

impl Node {
    /// Begins a backup, at `at`, that `permit` allows.
    pub(crate) async fn back_up(
        &self,
        permit: &ClusterPermit,
        blocking: Blocking,
        at: Stamp,
    ) -> Result<Taking, BackupError> {
        if permit.action() != ClusterAction::BackUp {
            let why = "the permit is for something else".to_owned();
            return Err(StoreError::Failed(why).into());
        }
        let place = self.0.backups.clone().try_acquire_owned().map_err(|_| BackupError::Busy)?;
        let config = self.0.desk.config().clone();
        let none = || StoreError::Failed("this node keeps no store of the quorum".into());
        let quorum = self.0.quorum.begin_read().await?.ok_or_else(none)?;
        let begin = move || Dump::new(config.begin_read()?, quorum, at);
        Ok(Taking { dump: blocking.run(begin).await?, blocking, _place: place })
    }
}

impl Taking {
    /// The bytes that come next, and what is to be asked after them; none after the last.
    pub(crate) async fn next(mut self) -> Result<Option<(Vec<u8>, Self)>, StoreError> {
        let blocking = self.blocking;
        blocking.run(move || Ok(self.dump.next_bytes()?.map(|bytes| (bytes, self)))).await
    }
}
