//! When somebody was last heard: set by one task, looked at by others. It says nothing of what was heard.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;

/// When a node was last heard. Clones are one.
#[derive(Clone, Debug, Default)]
pub struct Contact(Arc<Mutex<Option<Instant>>>);

impl Contact {
    /// Something came just now.
    pub(super) fn heard(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// When something last came, if anything did.
    pub fn last(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
