//! Who belongs to the cluster now: the nodes that the topology file names, and those that joined.
//! One thing that everybody reads: a topology that is replaced as a whole when somebody comes or
//! goes. It opens no connection; what is heard is told to it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::model::{Feature, Features, NodeName};
use crate::topology::{Node, Topology};

mod book;

use book::Book;
#[cfg(test)]
pub(crate) use book::Word;
pub(crate) use book::{JoinError, Words};

/// The members of one node's cluster, as this node knows them. Reading: [`Members::topology`],
/// [`Members::changed`], [`Members::is_gone`]. What their programs can do:
/// [`Members::every_member_has`], [`Members::lacking`], [`Members::features_of`]. Telling it: `met`,
/// `join`, `learn`, `left`, `tend`.
pub struct Members {
    cluster: String,
    current: ArcSwap<Topology>,
    book: Mutex<Book>,
    /// Counts up when somebody came, went or moved.
    changed: watch::Sender<u64>,
    /// What this node's program announces.
    features: Features,
    /// What those announced that said hello since this node started.
    announced: Mutex<BTreeMap<NodeName, Features>>,
    own: NodeName,
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
            features: Features::all(),
            announced: Mutex::default(),
            own: own.clone(),
            started_at: Instant::now(),
            evict_after,
        }
    }

    /// The same with other features of this node's than all that the program has.
    #[must_use]
    pub fn announcing(self, features: Features) -> Self {
        Self { features, ..self }
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

    /// What this node announces.
    pub fn features(&self) -> &Features {
        &self.features
    }

    /// What the program of a member can do, as it announced it with its last hello; none where it
    /// said no hello since this node started.
    pub fn features_of(&self, node: &NodeName) -> Option<Features> {
        if *node == self.own {
            return Some(self.features.clone());
        }
        self.announced().get(node).cloned()
    }

    /// Whether all who belong to the cluster now can do this, this node among them. One of whom
    /// nothing is known, because it was not met since this node started, holds it up, until it is met
    /// or is no member any more. That a member goes back to an older program is noticed when it says
    /// hello: what cannot be taken back should not be begun by who might do that.
    pub fn every_member_has(&self, feature: Feature) -> bool {
        self.lacking(feature).is_empty()
    }

    /// The members that are not known to be able to do this, in the order of their names.
    pub fn lacking(&self, feature: Feature) -> BTreeSet<NodeName> {
        let topology = self.topology();
        let has = |node: &NodeName| self.features_of(node).is_some_and(|them| them.has(feature));
        let names = topology.nodes().iter().map(|node| &node.name);
        names.filter(|node| !has(node)).cloned().collect()
    }

    /// A member said hello, and what its program can do.
    pub(crate) fn met(&self, node: &NodeName, features: Features) {
        self.announced().insert(node.clone(), features);
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
    pub(crate) fn words(&self) -> (Words, u64) {
        let book = self.book();
        (book.words(), book.hash())
    }

    /// See [`Members::words`].
    pub(crate) fn hash(&self) -> u64 {
        self.book().hash()
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn announced(&self) -> MutexGuard<'_, BTreeMap<NodeName, Features>> {
        self.announced.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, book: &Book, has_changed: bool) {
        if has_changed {
            let topology = book.topology();
            // Who comes back may do so with another program.
            self.announced().retain(|node, _| topology.node(node).is_some());
            self.current.store(Arc::new(topology));
            self.changed.send_modify(|count| *count += 1);
        }
    }
}
