//! The task that puts a copy's states on disk: what changes within a moment together, and now and then
//! what did not change, so that the file does not look older than it is. It ends with the copy, after a
//! last write.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Shared;
use super::file::CopyFile;
use crate::env::Blocking;
use crate::model::Stamp;

/// After this time a file is written again although nothing changed, with when that was confirmed.
const CONFIRM_EVERY: Duration = Duration::from_secs(300);
/// How long after a failed write it is tried again.
const FAILED_PAUSE: Duration = Duration::from_secs(10);

/// What saves.
pub(super) struct Saver {
    pub(super) shared: Arc<Shared>,
    pub(super) file: CopyFile,
    /// Which state stands in the file already.
    pub(super) saved: u64,
    pub(super) blocking: Blocking,
}

impl Saver {
    /// Saves until the copy is closed.
    pub(super) async fn run(self, pause: Duration) {
        let Self { shared, mut file, mut saved, blocking } = self;
        let mut stirs = shared.stirs.subscribe();
        // What it says of the file's age is to be written as soon as it is known to be more.
        let mut saved_at = Stamp(0);
        loop {
            stirs.mark_unchanged();
            let is_closed = shared.is_closed.load(Ordering::Acquire);
            let (state, confirmed_at) = (shared.state.load_full(), shared.confirmed_at());
            let is_old = confirmed_at.0.saturating_sub(saved_at.0) > micros(CONFIRM_EVERY);
            let is_confirmed = !shared.age().is_from_file;
            let is_due = state.generation != saved || (is_confirmed && (is_old || is_closed));
            let mut is_failing = false;
            if is_due && state.generation > 0 {
                let write = state.clone();
                let save = move || (file.save(&write, confirmed_at), file);
                let (written, same) = blocking.run(save).await;
                file = same;
                is_failing = written.is_err();
                match &written {
                    Ok(()) => (saved, saved_at) = (state.generation, confirmed_at),
                    Err(error) => tracing::warn!(
                        document = %shared.document, %error, "a copy is not put on disk"
                    ),
                }
                shared.standing().file = written.err();
            }
            if is_closed {
                return;
            }
            let wait = if is_failing { FAILED_PAUSE } else { CONFIRM_EVERY };
            if tokio::time::timeout(wait, stirs.changed()).await.is_ok() {
                closed_or(&shared, if is_failing { FAILED_PAUSE } else { pause }).await;
            }
        }
    }
}

/// Waits, but not longer than the copy is there.
async fn closed_or(shared: &Shared, pause: Duration) {
    let mut stirs = shared.stirs.subscribe();
    let closed = async {
        while !shared.is_closed.load(Ordering::Acquire) {
            if stirs.changed().await.is_err() {
                return;
            }
        }
    };
    let _ = tokio::time::timeout(pause, closed).await;
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
