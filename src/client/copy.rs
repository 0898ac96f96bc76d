//! A local copy of a document: what a program reads its configuration from at no cost, and starts from
//! when every region is down. It follows the document by a watch, keeps the newest whole state in memory
//! and the last one that was good in a file, and says how old it is.
//!
//! It never goes back in time: what it has seen, a region has to have before it is believed. It decides
//! nothing and writes nothing to Holm. Where a region refuses the token, what is here goes on to be
//! shown: whoever may not read any more ends the copy and removes its file.

mod file;
mod follow;
mod save;
mod state;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::{Client, ClientError, Contact};
use crate::env::{Blocking, Disk, FileDisk, SystemClock, WallClock};
use crate::model::{DocumentId, Stamp};

pub use file::CopyFileError;
pub use state::{CopyState, ValueError};

use file::CopyFile;
use save::Saver;
use state::Pending;

/// How a copy is kept.
#[derive(Clone, Debug)]
pub struct CopySettings {
    /// Only keys that begin with this. Default: all.
    pub prefix: Option<String>,
    /// Where the last good state is kept, for a start without any region: a file in a directory that is
    /// made where it is missing. Default: nowhere.
    pub file: Option<PathBuf>,
    /// How long a start without a usable file waits for a region. Default: 10 s.
    pub start_within: Duration,
    /// How long a start with a file waits for something newer than the file. Default: 1 s.
    pub fresh_within: Duration,
    /// Changes within this time go to the file together. Default: 1 s.
    pub save_pause: Duration,
    /// Seeds the pauses between connections, so that many programs do not all return at once.
    pub jitter_seed: u64,
}

impl Default for CopySettings {
    fn default() -> Self {
        Self {
            prefix: None,
            file: None,
            start_within: Duration::from_secs(10),
            fresh_within: Duration::from_secs(1),
            save_pause: Duration::from_secs(1),
            jitter_seed: 0,
        }
    }
}

/// Why there is no copy. Nothing was started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CopyError {
    /// The file's place cannot be used.
    #[error(transparent)]
    File(#[from] CopyFileError),
    /// No region answered in time, and no file helps.
    #[error(
        "there is nothing to start {document} from: no region gave it within {within:?} \
         ({last}), and {file}"
    )]
    Nothing {
        /// Of what.
        document: DocumentId,
        /// How long a region was waited for.
        within: Duration,
        /// What went wrong last.
        last: String,
        /// Why no file helps.
        file: String,
    },
    /// A region refused, for a reason that waiting does not mend, and no file helps.
    #[error("{document} is refused ({error}), and {file}")]
    Refused {
        /// What.
        document: DocumentId,
        /// The region's words.
        error: Box<ClientError>,
        /// Why no file helps.
        file: String,
    },
}

/// How old a copy is, and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyAge {
    /// How long ago a region last said that this is how it is. Where it was before this process, by the
    /// machine's clock.
    pub confirmed_ago: Duration,
    /// Whether no region has confirmed it since the start: it is what the file had.
    pub is_from_file: bool,
    /// Whether a watch is open and up to date.
    pub is_connected: bool,
    /// Whether there is a newer state that was not accepted (see `Client::watch_map`).
    pub is_held_back: bool,
}

/// What a copy takes from outside.
pub(crate) struct CopyEnv {
    pub(crate) clock: Arc<dyn WallClock>,
    pub(crate) blocking: Blocking,
    /// Where the file lies, instead of the directory that the settings name.
    pub(crate) disk: Option<Arc<dyn Disk>>,
}

impl Default for CopyEnv {
    fn default() -> Self {
        Self { clock: Arc::new(SystemClock), blocking: Blocking::Threads, disk: None }
    }
}

/// Looks at a state before it is shown, and takes it over or says why not. Called by one task at a time.
pub(crate) type Accept = Box<dyn Fn(&CopyState) -> Result<(), String> + Send + Sync>;

/// A document in this process' memory. Clones are one copy; it is followed until the last one is dropped
/// or [`LocalCopy::close`] is called.
///
/// Methods come in families: reading (`state`, `age`), what went wrong (`problem`), following
/// (`changes`), and the end (`close`).
#[derive(Clone)]
pub struct LocalCopy(Arc<Running>);

struct Running {
    shared: Arc<Shared>,
    follower: JoinHandle<()>,
    saver: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.follower.abort();
        // The saver ends by itself, after it has put the last state on disk.
        self.shared.is_closed.store(true, Ordering::Release);
        self.shared.stirs.send_modify(|()| {});
    }
}

/// What the tasks of a copy and its readers share.
struct Shared {
    document: DocumentId,
    state: ArcSwap<CopyState>,
    /// States, by their generation.
    changes: watch::Sender<u64>,
    /// How it stands, too.
    stirs: watch::Sender<()>,
    accept: Option<Accept>,
    clock: Arc<dyn WallClock>,
    standing: Mutex<Standing>,
    is_closed: AtomicBool,
}

/// How a copy stands with the regions and its file.
#[derive(Default)]
struct Standing {
    /// The contact of the watch that is open.
    contact: Contact,
    is_connected: bool,
    is_held_back: bool,
    /// When a region confirmed it last, while no watch is open.
    confirmed: Option<Instant>,
    /// The same of a file that was written before this process.
    confirmed_at: Option<Stamp>,
    /// Why the newest state is not shown.
    refused: Option<String>,
    lost: Option<ClientError>,
    /// Whether what was lost is refused for good.
    is_final: bool,
    file: Option<CopyFileError>,
}

impl Client {
    /// A local copy of a document: whole, followed, and kept in a file where the settings name one.
    /// Returns when there is something to read: what a region has or, where none answers in time, what
    /// the file has.
    pub async fn local_copy(
        &self,
        document: &DocumentId,
        settings: CopySettings,
    ) -> Result<LocalCopy, CopyError> {
        LocalCopy::start(self.clone(), document, settings, None, CopyEnv::default()).await
    }
}

impl LocalCopy {
    /// The same, with what looks at each state before it is shown.
    pub(crate) async fn start(
        client: Client,
        document: &DocumentId,
        settings: CopySettings,
        accept: Option<Accept>,
        env: CopyEnv,
    ) -> Result<Self, CopyError> {
        let shared = Arc::new(Shared {
            document: document.clone(),
            state: ArcSwap::default(),
            changes: watch::Sender::new(0),
            stirs: watch::Sender::new(()),
            accept,
            clock: env.clock.clone(),
            standing: Mutex::default(),
            is_closed: AtomicBool::new(false),
        });
        let mut pending = Pending::default();
        let file = match open(document, &settings, &env)? {
            None => None,
            Some(mut file) => {
                let loaded = env.blocking.run(move || (file.load(), file)).await;
                let ((saved, refused), file) = loaded;
                shared.standing().file = refused.into_iter().next();
                if let Some(saved) = saved {
                    pending = Pending::from_saved(&saved);
                    shared.standing().confirmed_at = Some(saved.confirmed_at);
                    shared.show(&pending);
                }
                Some(file)
            }
        };
        let has_file = file.is_some();
        let saver = file.map(|file| {
            let saved = shared.state.load().generation;
            let saver = Saver { shared: shared.clone(), file, saved, blocking: env.blocking };
            tokio::spawn(saver.run(settings.save_pause))
        });
        let following = follow::follow(client, shared.clone(), pending, settings.clone());
        let follower = tokio::spawn(following);
        let copy = Self(Arc::new(Running { shared, follower, saver: Mutex::new(saver) }));
        copy.wait_for_a_state(&settings, has_file).await?;
        Ok(copy)
    }

    /// The newest state that is shown. What is returned does not change; ask again for a newer one.
    pub fn state(&self) -> Arc<CopyState> {
        self.0.shared.state.load_full()
    }

    /// Which document it is a copy of.
    pub fn document(&self) -> &DocumentId {
        &self.0.shared.document
    }

    /// How old it is.
    pub fn age(&self) -> CopyAge {
        self.0.shared.age()
    }

    /// What is wrong at the moment, for people: a state that was not accepted, regions that do not
    /// answer, a file that cannot be used. Nothing where all is well.
    pub fn problem(&self) -> Option<String> {
        let standing = self.0.shared.standing();
        let refused = standing.refused.clone();
        let lost = standing.lost.as_ref().map(ClientError::to_string);
        let file = standing.file.as_ref().map(CopyFileError::to_string);
        let all: Vec<String> = [refused, lost, file].into_iter().flatten().collect();
        (!all.is_empty()).then(|| all.join("; "))
    }

    /// What is wrong with the file: it was refused at the start, or could not be written since.
    pub fn file_problem(&self) -> Option<CopyFileError> {
        self.0.shared.standing().file.clone()
    }

    /// Says when there is another state, by its generation. States that come faster than they are looked
    /// at are passed over: the newest is what counts.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.shared.changes.subscribe()
    }

    /// Ends the watch, and puts the last state on disk. Readers go on with what is there.
    pub async fn close(&self) {
        self.0.follower.abort();
        let shared = &self.0.shared;
        shared.disconnected(None);
        shared.is_closed.store(true, Ordering::Release);
        shared.stirs.send_modify(|()| {});
        let saver = self.0.saver.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(saver) = saver {
            // It cannot fail but by a panic, which has said so already.
            let _ = saver.await;
        }
    }

    /// Waits until there is something to show, or nothing is to be waited for any more.
    async fn wait_for_a_state(
        &self,
        settings: &CopySettings,
        has_file: bool,
    ) -> Result<(), CopyError> {
        let shared = &self.0.shared;
        let has_state = shared.state.load().generation > 0;
        let within = if has_state { settings.fresh_within } else { settings.start_within };
        let mut stirs = shared.stirs.subscribe();
        let settled = async {
            loop {
                let is_final = shared.standing().is_final;
                if shared.age().is_connected || is_final || stirs.changed().await.is_err() {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(within, settled).await;
        if shared.state.load().generation > 0 {
            return Ok(());
        }
        let standing = shared.standing();
        let file = match (&standing.file, has_file) {
            (Some(error), _) => format!("the file cannot be used: {error}"),
            (None, true) => "there is no file yet from an earlier run".to_owned(),
            (None, false) => "there is no file to start from".to_owned(),
        };
        let document = shared.document.clone();
        Err(match (&standing.lost, &standing.refused) {
            (Some(error), _) if standing.is_final => {
                CopyError::Refused { document, error: Box::new(error.clone()), file }
            }
            (_, Some(refused)) => {
                CopyError::Nothing { document, within, last: refused.clone(), file }
            }
            (Some(error), _) => {
                CopyError::Nothing { document, within, last: error.to_string(), file }
            }
            (None, None) => {
                let last = "none has said all of it yet".to_owned();
                CopyError::Nothing { document, within, last, file }
            }
        })
    }
}

/// The file that the settings name.
fn open(
    document: &DocumentId,
    settings: &CopySettings,
    env: &CopyEnv,
) -> Result<Option<CopyFile>, CopyError> {
    let Some(path) = &settings.file else { return Ok(None) };
    let system = |reason: String| CopyFileError::System { path: path.clone(), reason };
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| system("this names no file".to_owned()))?;
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let disk: Arc<dyn Disk> = match &env.disk {
        Some(disk) => disk.clone(),
        None => Arc::new(FileDisk::open(dir).map_err(|e| system(e.to_string()))?),
    };
    // A name that no file may have is refused now and not when it is written.
    disk.len(name).map_err(|e| system(e.to_string()))?;
    let (document, prefix) = (document.clone(), settings.prefix.clone());
    Ok(Some(CopyFile::new(disk, (dir, name), document, prefix)))
}

impl Shared {
    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows what is there, if it is accepted.
    fn show(&self, pending: &Pending) {
        let shown = self.state.load();
        let is_same = shown.generation > 0 && pending.has_items_of(&shown);
        // The same again is no change, but has a session to go on from.
        let generation = if is_same { shown.generation } else { shown.generation + 1 };
        let state = pending.state(generation);
        let accepted = match &self.accept {
            Some(accept) if !is_same => accepted(accept, &state),
            _ => Ok(()),
        };
        {
            let mut standing = self.standing();
            standing.is_held_back = accepted.is_err();
            standing.refused = accepted.as_ref().err().cloned();
        }
        if accepted.is_ok() {
            self.state.store(Arc::new(state));
            if !is_same {
                self.changes.send_replace(generation);
            }
        }
        self.stirs.send_modify(|()| {});
    }

    /// A watch is up to date: from here on whatever it hears confirms what is there.
    fn connected(&self, contact: Contact) {
        let mut standing = self.standing();
        standing.contact = contact;
        standing.confirmed = Some(Instant::now());
        (standing.is_connected, standing.lost, standing.is_final) = (true, None, false);
        drop(standing);
        self.stirs.send_modify(|()| {});
    }

    /// No watch is open, for this reason if it is not meant.
    fn disconnected(&self, error: Option<ClientError>) {
        let mut standing = self.standing();
        if standing.is_connected {
            standing.confirmed = standing.contact.last().or(standing.confirmed);
        }
        standing.is_connected = false;
        standing.is_final = error.as_ref().is_some_and(|error| !error.is_transient());
        standing.lost = error;
        drop(standing);
        self.stirs.send_modify(|()| {});
    }

    fn age(&self) -> CopyAge {
        let standing = self.standing();
        let heard = standing.contact.last().filter(|_| standing.is_connected);
        let confirmed_ago = match (heard.max(standing.confirmed), standing.confirmed_at) {
            (Some(at), _) => at.elapsed(),
            (None, Some(at)) => Duration::from_micros(self.clock.now().0.saturating_sub(at.0)),
            (None, None) => Duration::MAX,
        };
        CopyAge {
            confirmed_ago,
            is_from_file: standing.confirmed.is_none(),
            is_connected: standing.is_connected,
            is_held_back: standing.is_held_back,
        }
    }

    /// The time of day at which it was last confirmed.
    fn confirmed_at(&self) -> Stamp {
        let ago = u64::try_from(self.age().confirmed_ago.as_micros()).unwrap_or(u64::MAX);
        Stamp(self.clock.now().0.saturating_sub(ago))
    }
}

/// What `accept` says; a panic in it is a no.
fn accepted(accept: &Accept, state: &CopyState) -> Result<(), String> {
    let call = std::panic::AssertUnwindSafe(|| accept(state));
    std::panic::catch_unwind(call).unwrap_or_else(|panic| {
        let words = panic.downcast_ref::<&str>().copied().map(str::to_owned);
        let words = words.or_else(|| panic.downcast_ref::<String>().cloned());
        Err(format!("what looks at it panicked: {}", words.unwrap_or_default()))
    })
}

impl std::fmt::Debug for LocalCopy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LocalCopy({})", self.0.shared.document)
    }
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
