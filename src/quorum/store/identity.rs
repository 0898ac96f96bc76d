//! Whose store it is, and whether it is the very one that voted before. The high-water mark beside
//! it tells; what it does not tell is a whole disk that was put back, mark and all: that only the
//! other members can see.

use std::fmt;
use std::sync::Arc;

use redb::ReadableDatabase as _;

use super::tables::{self, FILE, LAYOUT, Mark};
use super::{StoreSettings, draw_id};
use crate::env::{Disk, Stream};
use crate::quorum::types::RaftId;
use crate::storage::StoreError;
use crate::storage::database::{self, Database};
use crate::storage::mark::{NotTheSame, is_the_same};

/// Where the store's id comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Identity {
    /// It is the store that was closed last, or whose process ended: it has all it ever had.
    Kept,
    /// The machine went down in between. All that was synced should be there; the mark cannot
    /// prove it.
    KeptUnproven,
    /// New: there was nothing.
    Fresh,
    /// New: the store is gone, or could not be read, and was set aside. What it had voted for and
    /// acknowledged is not known any more.
    Lost(String),
    /// New: the store is an old copy, or may be one, and was set aside under this name.
    RolledBack {
        /// How that shows.
        why: NotTheSame,
        /// The old file's name now.
        set_aside: String,
    },
}

impl Identity {
    /// Whether the id was drawn just now: its node comes back as a learner.
    #[cfg(test)]
    pub(crate) fn is_new(&self) -> bool {
        !matches!(self, Self::Kept | Self::KeptUnproven)
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kept => f.write_str("the store is the one that ran last"),
            Self::KeptUnproven => f.write_str("the machine went down without stopping the node"),
            Self::Fresh => f.write_str("the store is new"),
            Self::Lost(why) => write!(f, "the store was lost: {why}"),
            Self::RolledBack { why, set_aside } => {
                write!(f, "the store is not the one that ran last ({why}); it is {set_aside} now")
            }
        }
    }
}

/// An open store that knows who it is.
pub(super) struct Identified {
    pub(super) database: Database,
    pub(super) identity: Identity,
    /// As it is on disk.
    pub(super) mark: Mark,
}

/// Opens the file, and keeps its id or draws another.
pub(super) fn identify(
    disk: &Arc<dyn Disk>,
    entropy: &mut Stream,
    settings: &StoreSettings,
) -> Result<Identified, StoreError> {
    let (database, was_damaged) = match settings.alone {
        true => (Database::open_intact(disk.clone(), &LAYOUT)?, false),
        false => Database::open_as(disk.clone(), &LAYOUT)?,
    };
    let mark = disk.read(tables::MARK).map_err(io_error)?;
    let mark = mark.as_deref().and_then(Mark::decode);
    let Some(found) = found(&database, &**disk, settings)? else {
        let identity = match &mark {
            _ if was_damaged => Identity::Lost("it could not be opened, and was set aside".into()),
            // Beside a store that was never used, a mark counts nothing.
            Some(mark) if mark.n > 0 && settings.alone => {
                return Err(StoreError::damaged("the high-water mark says that there was a store"));
            }
            Some(mark) if mark.n > 0 => Identity::Lost("there is a mark, and no store".into()),
            _ => Identity::Fresh,
        };
        return make(database, disk, entropy, settings, identity);
    };
    let identity = match is_the_same(mark.as_ref(), &found) {
        Ok(()) => Identity::Kept,
        Err(NotTheSame::MachineCrashed) => Identity::KeptUnproven,
        Err(why) if settings.alone => {
            return Err(StoreError::Failed(format!(
                "{FILE} is not the one that ran last ({why}), and this node has no peer to be \
                 filled from. If it is the newest there is, `holm quorum recover` lets it go on"
            )));
        }
        Err(why) => {
            database.close();
            drop(database);
            let set_aside = database::set_aside(&**disk, FILE, "rolled-back")?;
            let (database, _) = Database::open_as(disk.clone(), &LAYOUT)?;
            let identity = Identity::RolledBack { why, set_aside };
            return make(database, disk, entropy, settings, identity);
        }
    };
    if identity == Identity::KeptUnproven {
        tracing::warn!(raft_id = found.origin, "{identity}");
    }
    if mark.as_ref() != Some(&found) {
        disk.write(tables::MARK, &found.encode(), true).map_err(io_error)?;
    }
    Ok(Identified { database, identity, mark: found })
}

/// What a mark of the store would say, if the store was ever used. Refuses another's store.
pub(super) fn found(
    database: &Database,
    disk: &dyn Disk,
    settings: &StoreSettings,
) -> Result<Option<Mark>, StoreError> {
    let tx = database.get()?.begin_read()?;
    let Some(format) = tables::KEY_FORMAT.get(&tx)? else { return Ok(None) };
    if format > tables::FORMAT {
        return Err(StoreError::Failed(format!(
            "the quorum's store has format {format}; this program knows formats up to {}",
            tables::FORMAT
        )));
    }
    for (what, found, expected) in [
        ("cluster", tables::KEY_CLUSTER.get(&tx)?, settings.cluster.as_str()),
        ("node", tables::KEY_NODE.get(&tx)?, settings.node.as_str()),
    ] {
        if found.as_deref() != Some(expected) {
            let found = found.unwrap_or_default();
            return Err(StoreError::Failed(format!(
                "the quorum's store is of the {what} {found:?}, not of {expected:?}"
            )));
        }
    }
    let missing = |what: &str| StoreError::damaged(format!("meta {what} is missing"));
    let origin = tables::KEY_RAFT_ID.get(&tx)?.ok_or_else(|| missing("raft-id"))?;
    let n = tables::KEY_COMMITS.get(&tx)?.ok_or_else(|| missing("commits"))?;
    Ok(Some(new_mark(disk, origin, n)?))
}

/// A mark for the store as it is now.
pub(super) fn new_mark(disk: &dyn Disk, origin: RaftId, n: u64) -> Result<Mark, StoreError> {
    let store = disk.identity(FILE).map_err(io_error)?.unwrap_or_default();
    let boot = disk.machine_boot().unwrap_or_default();
    Ok(Mark { origin, n, store, boot, clean: false, next: None })
}

/// Says in an empty store whose it is. The mark is first: a store in use always has one.
fn make(
    database: Database,
    disk: &Arc<dyn Disk>,
    entropy: &mut Stream,
    settings: &StoreSettings,
    identity: Identity,
) -> Result<Identified, StoreError> {
    let raft_id = draw_id(entropy);
    if identity == Identity::Fresh {
        tracing::info!(raft_id, "{identity}");
    } else {
        tracing::error!(
            raft_id,
            "this node does not vote any more until it is promoted: {identity}"
        );
    }
    let mut mark = new_mark(&**disk, raft_id, 0)?;
    disk.write(tables::MARK, &mark.encode(), true).map_err(io_error)?;
    let tx = database.get()?.begin_write()?;
    tables::KEY_FORMAT.put(&tx, &tables::FORMAT)?;
    tables::KEY_CLUSTER.put(&tx, &settings.cluster)?;
    tables::KEY_NODE.put(&tx, &settings.node.to_string())?;
    tables::KEY_RAFT_ID.put(&tx, &raft_id)?;
    mark.n = 1;
    tables::KEY_COMMITS.put(&tx, &mark.n)?;
    tx.commit()?;
    disk.write(tables::MARK, &mark.encode(), false).map_err(io_error)?;
    Ok(Identified { database, identity, mark })
}

pub(super) fn io_error(error: std::io::Error) -> StoreError {
    StoreError::from(redb::Error::Io(error))
}
