//! What the tasks of a copy and its readers share: the state that is shown, and how the copy stands with
//! the regions and its file. A state is shown when it is accepted, and not else.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio::time::Instant;

use super::state::Pending;
use super::{CopyAge, CopyFileError, CopyState};
use crate::client::{ClientError, Contact};
use crate::env::WallClock;
use crate::model::{DocumentId, Stamp};

/// Looks at a state before it is shown, and takes it over or says why not. Called by one task at a time.
pub(crate) type Accept = Box<dyn Fn(&CopyState) -> Result<(), String> + Send + Sync>;

/// What the tasks of a copy and its readers share.
pub(super) struct Shared {
    pub(super) document: DocumentId,
    pub(super) state: ArcSwap<CopyState>,
    /// States, by their generation.
    pub(super) changes: watch::Sender<u64>,
    /// How it stands, too.
    pub(super) stirs: watch::Sender<()>,
    pub(super) accept: Option<Accept>,
    pub(super) clock: Arc<dyn WallClock>,
    pub(super) standing: Mutex<Standing>,
    pub(super) is_closed: AtomicBool,
}

/// How a copy stands with the regions and its file.
#[derive(Default)]
pub(super) struct Standing {
    /// The contact of the watch that is open.
    pub(super) contact: Contact,
    pub(super) is_connected: bool,
    pub(super) is_held_back: bool,
    /// When a region confirmed it last, while no watch is open.
    pub(super) confirmed: Option<Instant>,
    /// The same of a file that was written before this process.
    pub(super) confirmed_at: Option<Stamp>,
    /// Why the newest state is not shown.
    pub(super) refused: Option<String>,
    pub(super) lost: Option<ClientError>,
    /// Whether what was lost is refused for good.
    pub(super) is_final: bool,
    pub(super) file: Option<CopyFileError>,
}

impl Shared {
    pub(super) fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows what is there, if it is accepted.
    pub(super) fn show(&self, pending: &Pending) {
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
    pub(super) fn connected(&self, contact: Contact) {
        let mut standing = self.standing();
        standing.contact = contact;
        standing.confirmed = Some(Instant::now());
        (standing.is_connected, standing.lost, standing.is_final) = (true, None, false);
        drop(standing);
        self.stirs.send_modify(|()| {});
    }

    /// No watch is open, for this reason if it is not meant.
    pub(super) fn disconnected(&self, error: Option<ClientError>) {
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

    pub(super) fn age(&self) -> CopyAge {
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
    pub(super) fn confirmed_at(&self) -> Stamp {
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
