//! Which keys of a document changed, for those who watch it. A watcher has no queue of its own: a
//! document keeps a short ring of what changed last, and who falls out of it compares the whole
//! document with what it was sent.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::config::Snapshot;
use crate::model::{DocumentId, Key};

/// Most keys in a document's ring.
const RING_KEYS_MAX: usize = 4_096;

/// What a watcher gets.
#[derive(Debug)]
pub enum FeedEvent {
    /// These keys may have changed; their rows are in the snapshot.
    Keys {
        /// Which keys.
        keys: BTreeSet<Key>,
        /// A state that includes these changes.
        snapshot: Arc<Snapshot>,
    },
    /// More changed than is remembered: compare every row with what was sent last.
    Lagged {
        /// The state now.
        snapshot: Arc<Snapshot>,
    },
    /// The node is shutting down.
    Closed,
}

/// All feeds of a node. Documents that nobody watches cost nothing.
#[derive(Default)]
pub(crate) struct Hub {
    documents: Mutex<BTreeMap<DocumentId, Arc<DocumentFeed>>>,
}

struct DocumentFeed {
    ring: Mutex<Ring>,
    tick: watch::Sender<()>,
    published: Arc<ArcSwap<Snapshot>>,
}

#[derive(Default)]
struct Ring {
    /// The number of the batch behind the last one in `batches`.
    next: u64,
    batches: VecDeque<Arc<BTreeSet<Key>>>,
    keys: usize,
    /// The state that the last batch made: exactly what the batches tell of, and no more. A newer
    /// published one may hold changes that are not in the ring yet; a watcher that took its session
    /// from there would never be sent them.
    latest: Arc<Snapshot>,
    closed: bool,
}

impl Ring {
    fn push(&mut self, keys: BTreeSet<Key>, snapshot: Arc<Snapshot>) {
        self.latest = snapshot;
        self.keys += keys.len();
        self.batches.push_back(Arc::new(keys));
        self.next += 1;
        while self.keys > RING_KEYS_MAX && self.batches.len() > 1 {
            self.keys -= self.batches.pop_front().map_or(0, |keys| keys.len());
        }
    }

    /// The batches from number `at` on; `None` where some of them are gone.
    fn since(&self, at: u64) -> Option<impl Iterator<Item = &Arc<BTreeSet<Key>>>> {
        let first = self.next - self.batches.len() as u64;
        let skip = usize::try_from(at.checked_sub(first)?).ok()?;
        Some(self.batches.iter().skip(skip))
    }
}

impl Hub {
    /// Tells the watchers of these documents, after the snapshot that holds the rows is published
    /// and before the next one is.
    pub(crate) fn publish(&self, touched: &BTreeMap<DocumentId, BTreeSet<Key>>) {
        let documents = lock(&self.documents);
        if documents.is_empty() {
            return;
        }
        for (id, keys) in touched {
            if let Some(feed) = documents.get(id) {
                let state = feed.published.load().only(id);
                lock(&feed.ring).push(keys.clone(), Arc::new(state));
                feed.tick.send_replace(());
            }
        }
    }

    /// Ends all feeds, now and later.
    pub(crate) fn close(&self) {
        for feed in lock(&self.documents).values() {
            lock(&feed.ring).closed = true;
            feed.tick.send_replace(());
        }
    }

    /// A feed of everything that changes in a document from now on.
    pub(crate) fn subscribe(
        self: &Arc<Self>,
        document: &DocumentId,
        published: Arc<ArcSwap<Snapshot>>,
    ) -> Feed {
        let mut documents = lock(&self.documents);
        let feed = documents.entry(document.clone()).or_insert_with(|| {
            let tick = watch::channel(()).0;
            Arc::new(DocumentFeed { ring: Mutex::default(), tick, published })
        });
        let at = lock(&feed.ring).next;
        Feed {
            ticks: feed.tick.subscribe(),
            feed: feed.clone(),
            document: document.clone(),
            at,
            hub: self.clone(),
        }
    }
}

/// One watcher's place in a document's changes.
pub struct Feed {
    hub: Arc<Hub>,
    feed: Arc<DocumentFeed>,
    ticks: watch::Receiver<()>,
    document: DocumentId,
    at: u64,
}

impl Feed {
    /// What changed since the last call; waits until something does. Loses nothing when it is
    /// dropped while it waits.
    pub async fn next(&mut self) -> FeedEvent {
        loop {
            self.ticks.mark_unchanged();
            if let Some(event) = self.take() {
                return event;
            }
            if self.ticks.changed().await.is_err() {
                return FeedEvent::Closed;
            }
        }
    }

    fn take(&mut self) -> Option<FeedEvent> {
        let ring = lock(&self.feed.ring);
        if ring.closed {
            return Some(FeedEvent::Closed);
        }
        if ring.next == self.at {
            return None;
        }
        let keys = ring.since(self.at).map(|batches| {
            let mut keys = BTreeSet::new();
            batches.for_each(|batch| keys.extend(batch.iter().cloned()));
            keys
        });
        self.at = ring.next;
        let snapshot = ring.latest.clone();
        drop(ring);
        Some(match keys {
            Some(keys) => FeedEvent::Keys { keys, snapshot },
            None => FeedEvent::Lagged { snapshot },
        })
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        let mut documents = lock(&self.hub.documents);
        // The hub's and this one: nobody else watches.
        if Arc::strong_count(&self.feed) == 2 {
            documents.remove(&self.document);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touched(
        id: &DocumentId,
        keys: std::ops::Range<usize>,
    ) -> BTreeMap<DocumentId, BTreeSet<Key>> {
        let keys = keys.map(|i| Key::new(&format!("k{i}")).unwrap()).collect();
        BTreeMap::from([(id.clone(), keys)])
    }

    #[tokio::test]
    async fn a_slow_watcher_gets_each_key_once_and_a_very_slow_one_is_told() {
        let hub = Arc::new(Hub::default());
        let id = DocumentId::parse("web/dev").unwrap();
        hub.publish(&touched(&id, 0..9));
        let mut feed = hub.subscribe(&id, Arc::default());
        hub.publish(&touched(&id, 0..2));
        hub.publish(&touched(&id, 1..3));
        let FeedEvent::Keys { keys, .. } = feed.next().await else { panic!() };
        assert_eq!(keys.len(), 3);
        for _ in 0..3 {
            hub.publish(&touched(&id, 0..RING_KEYS_MAX));
        }
        assert!(matches!(feed.next().await, FeedEvent::Lagged { .. }));
        hub.publish(&touched(&id, 0..1));
        assert!(matches!(feed.next().await, FeedEvent::Keys { keys, .. } if keys.len() == 1));
        hub.close();
        assert!(matches!(feed.next().await, FeedEvent::Closed));
        drop(feed);
        assert!(lock(&hub.documents).is_empty());
    }

    #[tokio::test]
    async fn an_event_comes_with_the_state_that_it_tells_of_and_no_newer_one() {
        let state = |n| {
            let dot = crate::model::Dot { origin: crate::model::Origin([1; 8]), n };
            let vector: crate::model::Vector = [dot].into_iter().collect();
            Arc::new(Snapshot::new(Arc::new(vector), Default::default()))
        };
        let hub = Arc::new(Hub::default());
        let id = DocumentId::parse("web/dev").unwrap();
        let published = Arc::new(ArcSwap::new(state(0)));
        let mut feed = hub.subscribe(&id, published.clone());
        published.store(state(1));
        hub.publish(&touched(&id, 0..1));
        // The next commit is published, and its keys are not told of yet.
        published.store(state(2));
        let FeedEvent::Keys { snapshot, .. } = feed.next().await else { panic!() };
        assert_eq!(snapshot.vector, state(1).vector);
        hub.publish(&touched(&id, 1..2));
        let FeedEvent::Keys { snapshot, .. } = feed.next().await else { panic!() };
        assert_eq!(snapshot.vector, state(2).vector);
    }

    #[tokio::test]
    async fn a_feed_waits_for_its_own_document_alone() {
        let hub = Arc::new(Hub::default());
        let (id, other) =
            (DocumentId::parse("web/dev").unwrap(), DocumentId::parse("web/prod").unwrap());
        let mut feed = hub.subscribe(&id, Arc::default());
        hub.publish(&touched(&other, 0..1));
        let mut next = std::pin::pin!(feed.next());
        assert!(futures_util::future::FutureExt::now_or_never(next.as_mut()).is_none());
        hub.publish(&touched(&id, 0..1));
        assert!(matches!(next.await, FeedEvent::Keys { .. }));
    }
}
