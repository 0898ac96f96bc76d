//! What a copy holds, and how a watch's events become the next state. Pure: it asks nobody, reads no
//! clock, and shows a change only when all of it is there.

use std::sync::Arc;

use imbl::OrdMap;
use serde::de::DeserializeOwned;

use super::file::Saved;
use crate::client::{Item, WatchEvent};
use crate::config::texts::Texts;
use crate::model::{DocumentId, Key};

/// One state of a document: what it was after a whole change. It never changes.
#[derive(Clone, Debug, Default)]
pub struct CopyState {
    items: OrdMap<Key, Arc<Item>>,
    session: Option<String>,
    /// Grows with each state of one copy; 0 is that of nothing known.
    pub(super) generation: u64,
}

/// Why a value is not what the caller wants it to be.
#[derive(Debug, thiserror::Error)]
#[error("{key}: {reason}")]
pub struct ValueError {
    /// Whose value.
    pub key: Key,
    /// What does not fit; it can repeat a part of the value.
    pub reason: serde_json::Error,
}

impl CopyState {
    /// All keys, in their order.
    pub fn items(&self) -> &OrdMap<Key, Arc<Item>> {
        &self.items
    }

    /// One key, as the node tells it.
    pub fn get(&self, key: &str) -> Option<&Arc<Item>> {
        self.items.get(key)
    }

    /// One key's value as a `T`; nothing where there is no such key.
    pub fn value<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, ValueError> {
        let Some(item) = self.get(key) else { return Ok(None) };
        let value = serde_json::from_str(item.value.as_str());
        value.map(Some).map_err(|reason| ValueError { key: item.key.clone(), reason })
    }

    /// The session that includes what is here, for a request to any region; none where the copy has
    /// not been whole yet.
    pub fn session(&self) -> Option<&str> {
        self.session.as_deref()
    }

    /// Grows with each state that the copy shows.
    pub fn generation(&self) -> u64 {
        self.generation
    }
}

/// The state that is being put together.
#[derive(Debug, Default)]
pub(super) struct Pending {
    items: OrdMap<Key, Arc<Item>>,
    session: Option<String>,
    texts: Texts,
}

impl Pending {
    pub(super) fn from_saved(saved: &Saved) -> Self {
        let (items, session) = (saved.items.clone(), saved.session.clone());
        Self { items, session, texts: Texts::default() }
    }

    /// Where a watch goes on from.
    pub(super) fn session(&self) -> Option<&str> {
        self.session.as_deref()
    }

    /// What is there was a mistake of somebody's: the next watch begins with everything.
    pub(super) fn start_over(&mut self) {
        *self = Self::default();
    }

    /// Takes an event in; `session` is the watch's after it. Says whether that completes a state.
    pub(super) fn take(
        &mut self,
        document: &DocumentId,
        event: WatchEvent,
        session: Option<&str>,
    ) -> bool {
        let is_ready = event == WatchEvent::Ready;
        match event {
            WatchEvent::Put(mut item) => {
                // All items share these.
                item.service = document.service.clone();
                item.environment = document.environment.clone();
                item.share(&mut self.texts);
                self.items.insert(item.key.clone(), Arc::new(item));
            }
            WatchEvent::Remove(removed) => {
                self.items.remove(&removed.key);
            }
            WatchEvent::Reset => self.items.clear(),
            WatchEvent::Ready => {}
            WatchEvent::Moved { .. } | WatchEvent::Lost { .. } => {
                // Between two connections no change ends.
                self.session = session.map(str::to_owned);
                return false;
            }
        }
        // The last event of a change has the session after it.
        let is_complete = is_ready || session != self.session.as_deref();
        if is_complete {
            self.session = session.map(str::to_owned);
        }
        is_complete
    }

    /// Whether the keys are those of `state`, with the same values.
    pub(super) fn has_items_of(&self, state: &CopyState) -> bool {
        let mut both = self.items.values().zip(state.items.values());
        self.items.len() == state.items.len()
            && both.all(|(one, other)| Arc::ptr_eq(one, other) || one == other)
    }

    /// What is there now, as a state.
    pub(super) fn state(&self, generation: u64) -> CopyState {
        CopyState { items: self.items.clone(), session: self.session.clone(), generation }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::ClientError;
    use crate::client::copy::testing::{document, item, shown};
    use std::time::Duration;

    /// Takes an event; gives what is shown then, if that is to be shown.
    fn take(pending: &mut Pending, event: WatchEvent, session: &str) -> Option<Vec<String>> {
        let is_whole = pending.take(&document(), event, Some(session));
        is_whole.then(|| shown(&Arc::new(pending.state(1))))
    }

    fn put(key: &str, value: &str) -> WatchEvent {
        WatchEvent::Put(item(key, value, 1))
    }

    fn all(keys: &[&str]) -> Option<Vec<String>> {
        Some(keys.iter().map(|&key| key.to_owned()).collect())
    }

    #[test]
    fn only_whole_changes_are_shown_also_across_connections() {
        let mut pending = Pending::default();
        assert!(!pending.take(&document(), put("a", "1"), None));
        assert_eq!(take(&mut pending, WatchEvent::Ready, "s1"), all(&["a=1"]));
        // Half of a change, a loss, and all of it.
        assert_eq!(take(&mut pending, put("a", "2"), "s1"), None);
        let error = ClientError::Answer("lost".to_owned());
        let lost = WatchEvent::Lost { error, pause: Duration::ZERO };
        assert_eq!(take(&mut pending, lost, "s1"), None);
        assert_eq!(take(&mut pending, put("a", "2"), "s1"), None);
        assert_eq!(take(&mut pending, put("b", "2"), "s2"), all(&["a=2", "b=2"]));
        assert_eq!(take(&mut pending, WatchEvent::Ready, "s2"), all(&["a=2", "b=2"]));
        let moved = WatchEvent::Moved { url: "http://b".to_owned() };
        assert_eq!(take(&mut pending, moved, "s3"), None);
        assert_eq!(pending.session(), Some("s3"));
    }

    #[test]
    fn items_share_what_is_the_same_in_many() {
        let mut pending = Pending::default();
        take(&mut pending, put("a", "1"), "s1");
        take(&mut pending, put("b", "2"), "s1");
        let both: Vec<&Arc<Item>> = pending.items.values().collect();
        let texts =
            |item: &Arc<Item>| [&item.updated_by, &item.region, &item.origin].map(|it| it.as_ptr());
        assert_eq!(texts(both[0]), texts(both[1]));
    }

    #[test]
    fn a_reset_shows_nothing_until_all_is_there_again() {
        let mut pending = Pending::default();
        pending.take(&document(), put("a", "1"), Some("s1"));
        assert_eq!(take(&mut pending, WatchEvent::Reset, "s1"), None);
        assert_eq!(take(&mut pending, put("c", "1"), "s1"), None);
        assert_eq!(take(&mut pending, WatchEvent::Ready, "s2"), all(&["c=1"]));
        let shown = pending.state(1);
        assert!(pending.has_items_of(&shown));
        pending.take(&document(), put("c", "1"), Some("s3"));
        assert!(pending.has_items_of(&shown), "the same again is no change");
        pending.take(&document(), put("c", "2"), Some("s4"));
        assert!(!pending.has_items_of(&shown));
    }
}
