//! Who belongs to the cluster now: the nodes that the topology file names, and those that joined.
//! One thing that everybody reads: a topology that is replaced as a whole when somebody comes or
//! goes. It opens no connection; what is heard is told to it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::model::NodeName;
use crate::topology::{Node, Topology};

mod book;

use book::Book;
#[cfg(test)]
pub(crate) use book::Word;
pub(crate) use book::{JoinError, Words};

/// The members of one node's cluster, as this node knows them. Reading: [`Members::topology`],
/// [`Members::changed`], [`Members::is_gone`]. Telling it: `join`, `learn`, `left`, `tend`.
pub struct Members {
    cluster: String,
    current: ArcSwap<Topology>,
    book: Mutex<Book>,
    /// Counts up when somebody came, went or moved.
    changed: watch::Sender<u64>,
    started_at: Instant,
    evict_after: Duration,
}

impl Members {
    /// Those of the file, and `own`, which may have joined. `incarnation` is greater than at any
    /// earlier start of this node, as far as its clock can tell.
    pub fn new(
        topology: Arc<Topology>,
        own: &NodeName,
        incarnation: u64,
        evict_after: Duration,
    ) -> Self {
        Self {
            cluster: topology.cluster.clone(),
            current: ArcSwap::new(topology.clone()),
            book: Mutex::new(Book::new(topology, own, incarnation, evict_after)),
            changed: watch::Sender::new(0),
            started_at: Instant::now(),
            evict_after,
        }
    }

    /// The file's nodes and those that joined, with everything else that the file says.
    pub fn topology(&self) -> Arc<Topology> {
        self.current.load_full()
    }

    /// Which cluster they are of.
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// Turns when somebody came, went or moved.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Whether the node is no member any more: it left or was evicted, or this node has not heard of
    /// it for as long as that takes.
    pub fn is_gone(&self, node: &NodeName) -> bool {
        let is_unknown =
            || self.topology().node(node).is_none() && self.started_at.elapsed() > self.evict_after;
        self.book().is_gone(node) || is_unknown()
    }

    /// Which start of this node it is: what others said of an earlier one does not count.
    pub(crate) fn incarnation(&self) -> u64 {
        self.book().incarnation()
    }

    /// A node said in person that it is there. `is_heard` says whether another start of it is.
    pub(crate) fn join(
        &self,
        node: Node,
        incarnation: u64,
        is_heard: bool,
        now: Instant,
    ) -> Result<(), JoinError> {
        let mut book = self.book();
        let has_changed = book.join(node, incarnation, is_heard, now)?;
        self.publish(&book, has_changed);
        Ok(())
    }

    /// What a peer knows of others.
    pub(crate) fn learn(&self, words: &Words, now: Instant) {
        let mut book = self.book();
        let has_changed = book.learn(words, now);
        self.publish(&book, has_changed);
    }

    /// A node said in person that it goes.
    pub(crate) fn left(&self, node: &NodeName, now: Instant) {
        let mut book = self.book();
        let has_changed = book.left(node, now);
        self.publish(&book, has_changed);
    }

    /// Evicts those that nobody has heard for long. `heard` are those that somebody hears.
    pub(crate) fn tend(&self, heard: &BTreeSet<NodeName>, now: Instant) {
        let mut book = self.book();
        let evicted = book.tend(heard, now);
        for node in &evicted {
            tracing::warn!(%node, "nobody has heard this node for long: it is evicted");
        }
        self.publish(&book, !evicted.is_empty());
    }

    /// What others are told, and a number that is another one where that is something else; 0 where
    /// there is nothing to tell.
    pub(crate) fn words(&self, now: Instant) -> (Words, u64) {
        let book = self.book();
        (book.words(now), book.hash(now))
    }

    /// See [`Members::words`].
    pub(crate) fn hash(&self, now: Instant) -> u64 {
        self.book().hash(now)
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, book: &Book, has_changed: bool) {
        if has_changed {
            self.current.store(Arc::new(book.topology()));
            self.changed.send_modify(|count| *count += 1);
        }
    }
}
