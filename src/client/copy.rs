//! A local copy of a document: what a program reads its configuration from at no cost, and starts from
//! when every region is down. It follows the document by a watch, keeps the newest whole state in memory
//! and the last one that was good in a file, and says how old it is.
//!
//! It never goes back in time: what it has seen, a region has to have before it is believed. It decides
//! nothing and writes nothing to Holm. Where a region refuses the token, what is here goes on to be
//! shown: whoever may not read any more ends the copy and removes its file.

mod error;
mod file;
mod follow;
mod save;
mod shared;
mod state;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{Client, ClientError};
use crate::env::{Blocking, Disk, FileDisk, SystemClock, WallClock};
use crate::model::DocumentId;

pub use error::CopyError;
pub use file::CopyFileError;
pub(crate) use shared::Accept;
pub use state::{CopyState, ValueError};

use file::CopyFile;
use save::Saver;
use shared::Shared;
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

impl std::fmt::Debug for LocalCopy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LocalCopy({})", self.0.shared.document)
    }
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
