//! What was tried for one request, so that an error can name every place and what it said.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::client::regions::{Outcome, Place, Regions};
use crate::client::{ClientError, Tried};

/// What was tried, so that an error can name it.
#[derive(Default)]
pub(super) struct Attempts {
    failed: Vec<Tried>,
    /// Who has not answered yet, and since when.
    pub(super) waiting: Vec<(Arc<Place>, Instant)>,
    /// Whether a place that was asked in this round does not have what the session has seen.
    pub(super) is_not_reached: bool,
}

impl Attempts {
    /// Notes the last error of a place.
    pub(super) fn add(&mut self, place: &Place, error: ClientError) {
        let tried = Tried { place: place.name.clone(), error };
        match self.failed.iter_mut().find(|known| known.place == tried.place) {
            Some(known) => *known = tried,
            None => self.failed.push(tried),
        }
    }

    /// Notes that a place did not answer in the time that it had.
    pub(super) fn silent(&mut self, place: &Place, within: Duration) {
        self.add(place, ClientError::TimedOut { url: place.name.clone(), within });
    }

    /// The error of the one place that was tried, or those of all.
    pub(super) fn error(&mut self) -> ClientError {
        let mut failed = std::mem::take(&mut self.failed);
        match failed.len() {
            1 => failed.remove(0).error,
            _ => ClientError::Everywhere { tried: failed },
        }
    }

    /// What is told where the time of all of them is over.
    pub(super) fn too_late(&mut self, regions: &Arc<Regions>, within: Duration) -> ClientError {
        for (place, since) in std::mem::take(&mut self.waiting) {
            regions.note(&place, Outcome::Silent);
            // One that had all of the time is told with all of it.
            let had = if self.failed.is_empty() { within } else { since.elapsed() };
            self.silent(&place, had);
        }
        if self.failed.is_empty() {
            return ClientError::TimedOut { url: regions.name(), within };
        }
        self.error()
    }
}
