//! Opening, closing and reopening a database file: `config.redb`, or another with a `Layout` of
//! its own. A file that redb refuses or panics on is set aside under another name, never
//! overwritten, and an empty one takes its place: its node fills it from its peers, under a new
//! origin. Where a node has no peers it stays where it is, and the node does not start.
//!
//! What `config.journal` has beyond `config.redb` is put there before anybody is given the database, so
//! that whoever reads it finds all that is on disk, and only this file knows that there are two.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use redb::{ReadableDatabase as _, WriteTransaction};

use super::error::StoreError;
use super::folds::KnownFolds;
use super::journal::{self, Group, Journal, JournalId, Place, Reached};
use super::{audit, documents, epochs, folds, history, idempotency, log, meta, origins, rows};
use crate::env::{Backend, Disk};
use crate::model::Folds;

/// The file's name in the node's directory.
pub const FILE: &str = "config.redb";

/// What a database file is called, and what is in it.
pub(crate) struct Layout {
    /// The file's name in the node's directory.
    pub(crate) file: &'static str,
    /// How many tables there are.
    pub(crate) tables: usize,
    /// Makes them all, so that a reader never finds one absent.
    pub(crate) make_tables: fn(&redb::WriteTransaction) -> Result<(), redb::Error>,
}

static CONFIG: Layout = Layout { file: FILE, tables: 12, make_tables };

/// Most files that are set aside before the node refuses to start.
const SET_ASIDE_MAX: u32 = 8;
/// Most memory that one database keeps of its file, in bytes; redb's own bound is sixteen times as
/// much. The view and the documents in memory answer what is asked often; what is read beside that
/// the system keeps, too, which can give it up.
const CACHE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// The same of a file that is being made.
const REBUILD_CACHE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The database file, which a failed commit closes until it can be opened again.
pub struct Database {
    disk: Arc<dyn Disk>,
    layout: &'static Layout,
    /// Whether a damaged file stays where it is.
    keeps_damaged: bool,
    open: RwLock<Option<Arc<redb::Database>>>,
    folds: KnownFolds,
    /// What is on disk before it is in the database.
    ahead: Mutex<Option<Box<Ahead>>>,
    /// Held by who puts what is ahead into the database.
    turn: Mutex<()>,
}

/// A journal, and what of it the database does not show yet.
struct Ahead {
    journal: Journal,
    pending: Vec<Group>,
    /// What these take in memory.
    pending_bytes: usize,
    /// Up to where the database shows it.
    shown: Place,
    /// Whether some of it is on its way into the database.
    is_putting: bool,
}

impl Ahead {
    fn new(journal: Journal) -> Self {
        let shown = journal.last();
        Self { journal, pending: Vec::new(), pending_bytes: 0, shown, is_putting: false }
    }
}

/// Puts groups into the tables, which have everything up to `reached` then.
fn put_groups(
    tx: &WriteTransaction,
    groups: &[Group],
    reached: &Reached,
) -> Result<(), StoreError> {
    for group in groups {
        group.put(tx)?;
    }
    meta::KEY_JOURNAL.put(tx, reached)
}

/// A transaction that is shown when it commits, and on disk with a later one.
fn begin_unsynced(database: &redb::Database) -> Result<WriteTransaction, StoreError> {
    let mut tx = database.begin_write()?;
    unsynced(&mut tx)?;
    Ok(tx)
}

/// Has a transaction commit without a sync.
pub(super) fn unsynced(tx: &mut WriteTransaction) -> Result<(), StoreError> {
    tx.set_durability(redb::Durability::None).map_err(|e| StoreError::Failed(e.to_string()))
}

impl Database {
    /// Opens `config.redb`, or makes it. The flag says that a damaged one was set aside.
    pub fn open(disk: Arc<dyn Disk>) -> Result<(Self, bool), StoreError> {
        Self::open_as(disk, &CONFIG)
    }

    /// Opens the file of `layout`, or makes it. The flag says that a damaged one was set aside.
    pub(crate) fn open_as(
        disk: Arc<dyn Disk>,
        layout: &'static Layout,
    ) -> Result<(Self, bool), StoreError> {
        let this = Self::closed(disk, layout, false);
        let set_aside = this.open_or_set_aside()?;
        this.remove_new();
        Ok((this, set_aside))
    }

    /// Opens the file of `layout`, or makes it; refuses a damaged one and leaves it where it is.
    pub(crate) fn open_intact(
        disk: Arc<dyn Disk>,
        layout: &'static Layout,
    ) -> Result<Self, StoreError> {
        let this = Self::closed(disk, layout, true);
        this.open_or_set_aside()?;
        this.remove_new();
        Ok(this)
    }

    fn closed(disk: Arc<dyn Disk>, layout: &'static Layout, keeps_damaged: bool) -> Self {
        let (open, folds, ahead, turn) = Default::default();
        Self { disk, layout, keeps_damaged, open, folds, ahead, turn }
    }

    /// Opens `config.redb` of a node that has no peers, or makes it.
    pub(super) fn open_alone(disk: Arc<dyn Disk>) -> Result<Self, StoreError> {
        Self::open_intact(disk, &CONFIG)
    }

    /// The folds that a transaction on it sees, and maybe later ones.
    pub(super) fn folds(&self, tx: &redb::ReadTransaction) -> Result<Arc<Folds>, StoreError> {
        self.folds.read(tx).map(|(folds, _)| folds)
    }

    /// The file's name.
    pub(super) fn file(&self) -> &'static str {
        self.layout.file
    }

    /// Where the file is.
    pub(super) fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    /// Makes an empty database of the same tables under another name.
    pub(super) fn create_beside(&self, name: &str) -> Result<redb::Database, StoreError> {
        let backend = self.disk.database(name).map_err(redb::Error::Io)?;
        let mut builder = redb::Database::builder();
        builder.set_cache_size(REBUILD_CACHE_BYTES_MAX);
        let database = builder.create_with_backend(Backend(backend))?;
        let tx = database.begin_write()?;
        (self.layout.make_tables)(&tx)?;
        tx.commit()?;
        Ok(database)
    }

    /// Opens the file that has the store's name now, beside the one that is open, and goes on in that.
    /// Whoever reads the other reads on. Where it does not open, the store is closed.
    pub(super) fn switch(&self) -> Result<(), StoreError> {
        self.try_open().map_err(|error| {
            self.close();
            match error {
                OpenError::Io(error) => StoreError::from(redb::Error::Io(error)),
                OpenError::Damaged(why) => StoreError::damaged(why),
                OpenError::Failed(error) => error,
            }
        })
    }

    /// Removes what a rebuild left that a crash ended.
    fn remove_new(&self) {
        let name = name_of_new(self.layout.file);
        let removed = self.disk.len(&name).and_then(|len| match len {
            Some(_) => self.disk.remove(&name),
            None => Ok(()),
        });
        if let Err(error) = removed {
            tracing::warn!(%error, name, "what is left of a rebuild stays for now");
        }
    }

    /// Gives the file, which is damaged in a way that opening it does not show, another name, and
    /// opens an empty one.
    pub(super) fn replace(&self, why: &StoreError) -> Result<(), StoreError> {
        self.close();
        let name = self.set_aside()?;
        tracing::error!(%why, set_aside = name, "the store cannot be read");
        self.open_or_set_aside().map(drop)
    }

    fn open_or_set_aside(&self) -> Result<bool, StoreError> {
        match self.try_open() {
            Ok(()) => Ok(false),
            Err(OpenError::Io(error)) => Err(StoreError::from(redb::Error::Io(error))),
            Err(OpenError::Failed(error)) => Err(error),
            Err(OpenError::Damaged(why)) if self.keeps_damaged => Err(StoreError::damaged(why)),
            Err(OpenError::Damaged(why)) => {
                let name = self.set_aside()?;
                tracing::error!(%why, set_aside = name, "the store cannot be opened");
                self.try_open().map_err(|e| StoreError::Failed(e.to_string()))?;
                Ok(true)
            }
        }
    }

    /// Gives the file another name, and its journal, too; gives the file's.
    fn set_aside(&self) -> Result<String, StoreError> {
        let name = set_aside(&*self.disk, self.layout.file, "failed")?;
        let has_journal = self.has_journal() && {
            let found = self.disk.identity(journal::FILE);
            found.map_err(|error| StoreError::from(redb::Error::Io(error)))?.is_some()
        };
        if has_journal {
            set_aside(&*self.disk, journal::FILE, "failed")?;
        }
        Ok(name)
    }

    /// The database, if it is open, with all that is on disk. Not for who holds a transaction that
    /// writes, but for the store's writer, beside whom nothing comes that would have to be put there.
    pub fn get(&self) -> Result<Arc<redb::Database>, StoreError> {
        let open = self.current()?;
        let is_behind = |ahead: &Ahead| !ahead.pending.is_empty() || ahead.is_putting;
        if self.ahead().as_deref().is_some_and(is_behind) {
            self.catch_up(&open)?;
        }
        Ok(open)
    }

    fn current(&self) -> Result<Arc<redb::Database>, StoreError> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner).clone();
        open.ok_or_else(|| StoreError::Failed("the store is closed".into()))
    }

    /// Puts what is pending into the database, one after another: whoever comes meanwhile waits, but for
    /// the writer, which goes on in the journal.
    fn catch_up(&self, database: &redb::Database) -> Result<(), StoreError> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut groups, place, reached) = {
            let mut ahead = self.ahead();
            let Some(ahead) = &mut *ahead else { return Ok(()) };
            if ahead.is_putting {
                return Err(StoreError::Failed("a transaction of the store's panicked".into()));
            }
            if ahead.pending.is_empty() {
                return Ok(());
            }
            ahead.is_putting = true;
            ahead.pending_bytes = 0;
            let last = ahead.journal.last();
            (std::mem::take(&mut ahead.pending), last, ahead.journal.reached(last))
        };
        let done = begin_unsynced(database).and_then(|tx| {
            put_groups(&tx, &groups, &reached)?;
            Ok(tx.commit()?)
        });
        if let Some(ahead) = &mut *self.ahead() {
            ahead.is_putting = false;
            if done.is_ok() {
                ahead.shown = place.max(ahead.shown);
            } else {
                groups.append(&mut ahead.pending);
                ahead.pending_bytes = groups.iter().map(Group::size).sum();
                ahead.pending = groups;
            }
        }
        done
    }

    /// Has everything on disk that was put into the database until now, and takes it out of the journal.
    /// Beside the writer, who goes on in the journal meanwhile. `quick_repair` is as redb has it.
    pub(super) fn sync(&self, quick_repair: bool) -> Result<(), StoreError> {
        let open = self.current()?;
        let mut tx = open.begin_write()?;
        tx.set_quick_repair(quick_repair);
        // No other transaction can be begun, so that no more is shown.
        let shown = self.ahead().as_ref().map(|ahead| ahead.shown);
        tx.commit()?;
        if let Some((ahead, shown)) = self.ahead().as_mut().zip(shown) {
            ahead.journal.release(shown);
        }
        Ok(())
    }

    fn ahead(&self) -> MutexGuard<'_, Option<Box<Ahead>>> {
        self.ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_journal(&self) -> bool {
        self.layout.file == FILE
    }

    /// Puts a group on disk, to be shown by [`Database::get`]. Says whether it did: where there is no
    /// journal, or no room in it, the group is to be put into the database at once. After an error it is
    /// not known what is on disk. `sync` is whether it is on disk when this returns.
    pub(super) fn journal(&self, group: &Group, sync: bool) -> Result<bool, StoreError> {
        let mut ahead = self.ahead();
        let Some(ahead) = ahead.as_mut().filter(|_| self.is_open()) else { return Ok(false) };
        if !ahead.journal.append(group, sync)? {
            return Ok(false);
        }
        ahead.pending_bytes += group.size();
        ahead.pending.push(group.clone());
        Ok(true)
    }

    /// Begins a journal where there is none, once `reached` is in the tables, on disk.
    pub(super) fn begin_journal(&self, id: JournalId) -> Result<(), StoreError> {
        let open = self.get()?;
        let (journal, _) = Journal::open(&self.disk, Reached { id, seq: 0 }, &open.begin_read()?)?;
        *self.ahead() = Some(Box::new(Ahead::new(journal)));
        Ok(())
    }

    /// What the tables say of the journal once they have all of it; none where there is no journal.
    pub(super) fn reached(&self) -> Option<Reached> {
        self.ahead().as_ref().map(|ahead| ahead.journal.reached(ahead.journal.last()))
    }

    /// How many bytes of what is on disk would have to be put into the database first.
    pub(super) fn pending_bytes(&self) -> usize {
        self.ahead().as_ref().map_or(0, |ahead| ahead.pending_bytes)
    }

    /// How many bytes of the journal are on disk there alone.
    pub(super) fn ahead_bytes(&self) -> usize {
        self.ahead().as_ref().map_or(0, |ahead| ahead.journal.needed())
    }

    /// The writer has committed a transaction that is on disk, begun after [`Database::get`]: with it is
    /// all that was put into the database before.
    pub(super) fn synced(&self) {
        if let Some(ahead) = &mut *self.ahead() {
            ahead.journal.release(ahead.shown);
        }
    }

    /// Whether it is open.
    pub fn is_open(&self) -> bool {
        self.open.read().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Closes it: after an I/O error redb takes no more calls until it is opened again.
    pub fn close(&self) {
        // Who is putting something there is waited for: it would not know of another opening.
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        *self.open.write().unwrap_or_else(PoisonError::into_inner) = None;
        *self.ahead() = None;
    }

    /// Opens it again after [`Database::close`]; fails while readers still hold the old one. All that
    /// it has then is on disk, whatever came of a sync before.
    pub fn reopen(&self) -> Result<(), StoreError> {
        self.open_or_set_aside()?;
        if self.ahead_bytes() > 0 { self.sync(false) } else { Ok(()) }
    }

    /// Opens the journal, and puts into `database` what it has beyond that: without a sync, for there
    /// may be no room, and it stays in the journal until one.
    fn open_journal(&self, database: &redb::Database) -> Result<Option<Ahead>, OpenError> {
        let tx = database.begin_read().map_err(StoreError::from)?;
        let Some(reached) = meta::KEY_JOURNAL.get(&tx)? else { return Ok(None) };
        let (journal, replayed) = Journal::open(&self.disk, reached, &tx)?;
        drop(tx);
        if !replayed.groups.is_empty() {
            tracing::info!(groups = replayed.groups.len(), "the journal has more than the store");
            let tx = begin_unsynced(database)?;
            put_groups(&tx, &replayed.groups, &journal.reached(journal.last()))?;
            tx.commit().map_err(StoreError::from)?;
        }
        if let Some(damage) = replayed.damage {
            if self.keeps_damaged {
                return Err(OpenError::Damaged(damage));
            }
            tracing::error!(%damage, "changes are lost that were on disk");
            return Ok(None);
        }
        if let Some(unfit) = replayed.unfit {
            tracing::error!(%unfit, "the journal does not follow from the store");
            return Ok(None);
        }
        Ok(Some(Ahead::new(journal)))
    }

    fn try_open(&self) -> Result<(), OpenError> {
        *self.ahead() = None;
        let backend = Backend(self.disk.database(self.layout.file).map_err(OpenError::Io)?);
        // Where fsync lied, redb can panic on a file instead of refusing it.
        let opened = catch_unwind(AssertUnwindSafe(|| {
            let mut builder = redb::Database::builder();
            builder.set_cache_size(CACHE_BYTES_MAX);
            let database = builder.create_with_backend(backend)?;
            self.make_tables(&database)?;
            Ok::<_, redb::Error>(database)
        }));
        let database = match opened {
            Ok(Ok(database)) => database,
            Ok(Err(redb::Error::Io(error))) if error.kind() != io::ErrorKind::InvalidData => {
                return Err(OpenError::Io(error));
            }
            Ok(Err(redb::Error::DatabaseAlreadyOpen)) => {
                return Err(OpenError::Io(io::Error::new(
                    io::ErrorKind::WouldBlock,
                    "the store is open in another process",
                )));
            }
            Ok(Err(error)) => return Err(OpenError::Damaged(error.to_string())),
            Err(_) => return Err(OpenError::Damaged("redb panicked".into())),
        };
        let ahead = match self.has_journal() {
            true => catch_unwind(AssertUnwindSafe(|| self.open_journal(&database)))
                .unwrap_or_else(|_| Err(OpenError::Damaged("redb panicked".into())))?,
            false => None,
        };
        *self.ahead() = ahead.map(Box::new);
        *self.open.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(database));
        Ok(())
    }

    fn make_tables(&self, database: &redb::Database) -> Result<(), redb::Error> {
        // Opening a store writes nothing: there may be no room.
        if database.begin_read()?.list_tables()?.count() == self.layout.tables {
            return Ok(());
        }
        let tx = database.begin_write()?;
        (self.layout.make_tables)(&tx)?;
        tx.commit()?;
        Ok(())
    }
}

/// What a file is called while it is being made, to take the place of `file`.
pub(super) fn name_of_new(file: &str) -> String {
    format!("{file}.new")
}

/// The error of a node that has no peers, with what to do about a damaged `file`.
pub(crate) fn without_peers(file: &str, error: StoreError) -> StoreError {
    match error {
        StoreError::Damaged(why) => StoreError::Damaged(format!(
            "{file}: {why}. It is left as it is, for this node has no peer to be filled from. Move \
             the data directory away and make it again from a backup: holm restore FILE --data DIR \
             --topology FILE --node NAME --new-cluster"
        )),
        other => other,
    }
}

/// Runs what reads a store. Where the file is damaged, redb can panic instead of saying so.
pub(crate) fn caught<T>(read: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    let done = catch_unwind(AssertUnwindSafe(read));
    done.unwrap_or_else(|_| Err(StoreError::damaged("redb panicked")))
}

/// Gives the closed database `file` another name, which says `why`, and returns that.
pub(crate) fn set_aside(disk: &dyn Disk, file: &str, why: &str) -> Result<String, StoreError> {
    let io = |error| StoreError::from(redb::Error::Io(error));
    for i in 1..=SET_ASIDE_MAX {
        let name = format!("{file}.{why}-{i}");
        if disk.identity(&name).map_err(io)?.is_none() {
            disk.rename(file, &name).map_err(io)?;
            return Ok(name);
        }
    }
    Err(StoreError::Failed(format!("{SET_ASIDE_MAX} {why} stores were set aside already")))
}

#[derive(Debug, thiserror::Error)]
enum OpenError {
    #[error("{0}")]
    Io(io::Error),
    #[error("{0}")]
    Damaged(String),
    #[error("{0}")]
    Failed(StoreError),
}

impl From<StoreError> for OpenError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Damaged(why) => Self::Damaged(why),
            other => Self::Failed(other),
        }
    }
}

fn make_tables(tx: &redb::WriteTransaction) -> Result<(), redb::Error> {
    tx.open_table(meta::META)?;
    tx.open_table(log::LOG)?;
    tx.open_table(origins::ORIGINS)?;
    tx.open_table(folds::FOLDS)?;
    tx.open_table(rows::ROWS)?;
    tx.open_table(history::HISTORY)?;
    tx.open_table(documents::BASES)?;
    tx.open_table(documents::CHANGES)?;
    tx.open_table(epochs::EPOCHS)?;
    tx.open_table(epochs::EPOCH_BASES)?;
    tx.open_table(idempotency::IDEMPOTENCY)?;
    tx.open_table(audit::AUDIT)?;
    Ok(())
}
