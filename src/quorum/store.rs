//! This node's part of the consensus on disk, `quorum.redb`: log, vote, state and audit chain, whose
//! last records may be in `quorum.journal`. What
//! is told to openraft, or to whoever asked for a record, as done is on disk. A store that is not
//! provably the one that voted before never votes under its id again: it goes on empty, under a new
//! id, with the old file set aside.
//!
//! [`open`] gives three things: the [`LogStore`] and the [`StateMachine`] for openraft, and the
//! [`StoreHandle`] for the rest of the program. All of them queue what they write for one writer,
//! which commits whatever waits in one transaction.

use std::sync::Arc;

use rand::Rng as _;
use tokio::sync::mpsc;

use crate::env::{Blocking, Disk, Stream};
use crate::model::NodeName;
use crate::storage::{StoreError, database};

mod chain;
pub(crate) mod copy;
mod driver;
mod handle;
mod identity;
mod journal;
mod log;
mod machine;
mod rebuilding;
mod recorder;
pub(crate) mod recover;
mod shared;
pub(crate) mod tables;

pub(crate) use tables::FORMAT as STORE_FORMAT;
mod writer;

pub(crate) use chain::QuorumChain;
pub(crate) use handle::StoreHandle;
pub(crate) use identity::Identity;
pub(crate) use log::{LogReader, LogStore};
pub(crate) use machine::StateMachine;

use super::types::RaftId;
use writer::Writer;

/// Most jobs that wait for the writer; whoever has one more waits.
const JOBS_MAX: usize = 4_096;

/// Whose store it is.
#[derive(Clone, Debug)]
pub(crate) struct StoreSettings {
    /// Which cluster the store belongs to.
    pub(crate) cluster: String,
    /// Which node the store belongs to.
    pub(crate) node: NodeName,
    /// Whether it is the only node there is: then there is nobody to have a lost store's content
    /// back from, and nothing is set aside.
    pub(crate) alone: bool,
}

/// Opens the store on `disk`, or makes it, and starts its writer on the current runtime.
///
/// Refused where the store is another cluster's or node's, or of a later format. After a failure
/// (see [`StoreHandle::failure`]) all three are of no more use, and the store is to be opened anew.
pub(crate) async fn open(
    disk: Arc<dyn Disk>,
    mut entropy: Stream,
    blocking: Blocking,
    settings: StoreSettings,
) -> Result<(LogStore, StateMachine, StoreHandle), StoreError> {
    let opening = move || {
        let mut read = || {
            database::caught(|| {
                let identified = identity::identify(&disk, &mut entropy, &settings)?;
                Writer::open(disk.clone(), identified)
            })
        };
        match read() {
            Err(error) if settings.alone => Err(database::without_peers(tables::FILE, error)),
            Err(error @ StoreError::Damaged(_)) => {
                let name = database::set_aside(&*disk, tables::FILE, "failed")?;
                tracing::error!(%error, set_aside = name, "the quorum's store cannot be read");
                read()
            }
            read => read,
        }
    };
    let (writer, working, identity) = blocking.run(opening).await?;
    let (shared, database) = (writer.shared(), writer.database());
    let (jobs, queue) = mpsc::channel(JOBS_MAX);
    driver::start(writer, queue, blocking)
        .map_err(|error| StoreError::Failed(error.to_string()))?;
    let reader = LogReader::new(shared.clone(), database.clone(), blocking);
    let handle = StoreHandle::new(identity, shared.clone(), database, jobs.clone(), blocking);
    if !shared.tail().is_empty() {
        handle.fold_later();
    }
    Ok((LogStore::new(reader, jobs.clone()), StateMachine::new(working, shared, jobs), handle))
}

/// A new id: never 0, and small enough for a JSON number.
fn draw_id(entropy: &mut Stream) -> RaftId {
    entropy.random_range(1..1 << 53)
}

#[cfg(test)]
mod tests;
