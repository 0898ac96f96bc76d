//! The core: what is known of nodes that joined, and whose word counts. It is told the time, and
//! decides without doing.
//!
//! Each start of a node has an incarnation, and the higher one is believed. What a node says in
//! person, with its certificate, counts more than what others say of it: where they say that it is
//! gone and it is not, it takes a higher incarnation. Who is gone is remembered for a while, so that
//! old news does not bring it back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use crate::model::{NodeName, RegionName, cbor};
use crate::topology::{Address, NODES_MAX, Node, Topology};

/// What is said of one node that joined.
#[derive(Clone, Debug, PartialEq, Eq, minicbor::Encode, minicbor::Decode)]
#[cbor(map)]
pub(crate) struct Word {
    /// Its name.
    #[n(0)]
    pub(crate) node: String,
    /// Where it stands.
    #[n(1)]
    pub(crate) region: String,
    /// Where it speaks QUIC.
    #[n(2)]
    pub(crate) peer: String,
    /// Where it answers HTTP.
    #[n(3)]
    pub(crate) http: String,
    /// Which start of it is meant.
    #[n(4)]
    pub(crate) incarnation: u64,
    /// Whether that one has gone.
    #[n(5)]
    pub(crate) left: bool,
    /// How long ago it went, in milliseconds, where it did: so that all forget it together.
    #[n(6)]
    pub(crate) gone_ms: Option<u64>,
}

/// All that a node has to say of those that joined: nothing is believed of it yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Words(pub(crate) Vec<Word>);

/// Why a node that came was not taken in. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum JoinError {
    /// Another process with this name is heard.
    #[error("there is a node {node} already, at {known}, which is heard; this one is at {other}")]
    Taken {
        /// The name of both.
        node: NodeName,
        /// Where the first one is.
        known: Address,
        /// Where the second one is.
        other: Address,
    },
    /// There are as many nodes as there may be.
    #[error("the cluster has {NODES_MAX} nodes, and takes no more")]
    Full,
}

/// Everybody who joined, and those of them that went.
pub(super) struct Book {
    /// The file's, and this node where it joined.
    base: Arc<Topology>,
    own: Option<Node>,
    name: NodeName,
    incarnation: u64,
    others: BTreeMap<NodeName, Entry>,
    /// The file's nodes but for this one. Nothing is told of them: each node sees for itself.
    named: BTreeMap<NodeName, Named>,
    bounds: Bounds,
}

/// How long nobody may have heard a node before it is evicted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// One that joined.
    pub(crate) joined: Duration,
    /// One that the file names.
    pub(crate) named: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Named {
    /// When somebody heard it, or this node started.
    heard_at: Instant,
    is_evicted: bool,
}

#[derive(Clone, Debug)]
struct Entry {
    node: Node,
    incarnation: u64,
    standing: Standing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// A member, which somebody heard at this time.
    Here { heard_at: Instant },
    /// It said that it goes; remembered since.
    Left { since: Instant },
    /// Nobody heard it for long; remembered since. Others see that for themselves.
    Evicted { since: Instant },
}

impl Entry {
    fn is_here(&self) -> bool {
        matches!(self.standing, Standing::Here { .. })
    }
}

impl Book {
    pub(super) fn new(
        base: Arc<Topology>,
        name: &NodeName,
        incarnation: u64,
        bounds: Bounds,
        now: Instant,
    ) -> Self {
        let own = base.node(name).filter(|node| node.joined).cloned();
        let named = base.named().filter(|node| node.name != *name);
        let silence = Named { heard_at: now, is_evicted: false };
        let named = named.map(|node| (node.name.clone(), silence)).collect();
        let (name, others) = (name.clone(), BTreeMap::new());
        Self { base, own, name, incarnation, others, named, bounds }
    }

    pub(super) fn incarnation(&self) -> u64 {
        self.incarnation
    }

    pub(super) fn is_gone(&self, node: &NodeName) -> bool {
        let has_left = self.others.get(node).is_some_and(|entry| !entry.is_here());
        has_left || self.named.get(node).is_some_and(|named| named.is_evicted)
    }

    /// The members.
    pub(super) fn topology(&self) -> Topology {
        self.topology_with_evicted().without(&self.evicted())
    }

    /// The members, and those that the file names and that are evicted.
    pub(super) fn topology_with_evicted(&self) -> Topology {
        let here = self.others.values().filter(|entry| entry.is_here());
        here.fold((*self.base).clone(), |topology, entry| topology.with_node(entry.node.clone()))
    }

    /// Those that the file names and that nobody has heard for long.
    pub(super) fn evicted(&self) -> BTreeSet<NodeName> {
        let evicted = self.named.iter().filter(|(_, named)| named.is_evicted);
        evicted.map(|(name, _)| name.clone()).collect()
    }

    /// A node that the file names said in person that it is there; says whether that was news.
    pub(super) fn is_back(&mut self, node: &NodeName, now: Instant) -> bool {
        let Some(named) = self.named.get_mut(node) else { return false };
        named.heard_at = now;
        std::mem::take(&mut named.is_evicted)
    }

    fn is_named(&self, name: &NodeName) -> bool {
        self.base.node(name).is_some_and(|node| !node.joined)
    }

    fn has_room(&self) -> bool {
        let here = self.others.values().filter(|entry| entry.is_here()).count();
        self.base.nodes().len() + here < NODES_MAX
    }

    /// A node that the file does not name is there; says whether that was news.
    pub(super) fn join(
        &mut self,
        node: Node,
        incarnation: u64,
        is_heard: bool,
        now: Instant,
    ) -> Result<bool, JoinError> {
        if self.is_named(&node.name) || node.name == self.name {
            return Ok(false);
        }
        let has_room = self.has_room();
        let here = Standing::Here { heard_at: now };
        let Some(entry) = self.others.get_mut(&node.name) else {
            return self.add(Entry { node, incarnation, standing: here });
        };
        if entry.is_here() && entry.node.peer != node.peer && is_heard {
            let (known, other) = (entry.node.peer.clone(), node.peer);
            return Err(JoinError::Taken { node: node.name, known, other });
        }
        if !entry.is_here() && !has_room {
            return Err(JoinError::Full);
        }
        let was_here = entry.is_here();
        let is_same = was_here && entry.node == node;
        // Others may have heard that it went, or is elsewhere: this has to count for more.
        let next = entry.incarnation.saturating_add(1);
        let above = if is_same { entry.incarnation } else { next };
        *entry = Entry { node, incarnation: incarnation.max(above), standing: here };
        if !was_here {
            tracing::info!(node = %entry.node.name, address = %entry.node.peer, "a node joined again");
        }
        Ok(!is_same)
    }

    fn add(&mut self, entry: Entry) -> Result<bool, JoinError> {
        if !self.has_room() || self.others.len() >= 2 * NODES_MAX {
            return Err(JoinError::Full);
        }
        if entry.is_here() {
            tracing::info!(node = %entry.node.name, address = %entry.node.peer, "a node joined");
        }
        self.others.insert(entry.node.name.clone(), entry);
        Ok(true)
    }

    /// What a peer says of others; says whether any of it was news.
    pub(super) fn learn(&mut self, words: &Words, now: Instant) -> bool {
        let mut is_news = false;
        for word in &words.0 {
            let Some(node) = checked(word) else { continue };
            let is_place = self.base.regions().iter().any(|region| region.name == node.region);
            if self.is_named(&node.name) || !is_place {
                continue;
            }
            is_news |= if node.name == self.name {
                self.hear_of_self(word)
            } else {
                self.hear_of(node, word, now)
            };
        }
        is_news
    }

    /// Others speak of this node. Where it is not as they say, they have to be told.
    fn hear_of_self(&mut self, word: &Word) -> bool {
        let Some(own) = &self.own else { return false };
        let is_right = !word.left && word.peer == own.peer.as_str();
        let needed = if is_right { word.incarnation } else { word.incarnation.saturating_add(1) };
        let is_news = needed > self.incarnation;
        self.incarnation = self.incarnation.max(needed);
        is_news
    }

    fn hear_of(&mut self, node: Node, word: &Word, now: Instant) -> bool {
        let incarnation = word.incarnation;
        let gone = Duration::from_millis(word.gone_ms.unwrap_or(0)).min(2 * self.bounds.joined);
        let standing = if word.left {
            Standing::Left { since: now.checked_sub(gone).unwrap_or(now) }
        } else {
            Standing::Here { heard_at: now }
        };
        let fresh = Entry { node, incarnation, standing };
        let has_room = self.has_room();
        let Some(entry) = self.others.get_mut(&fresh.node.name) else {
            // That somebody went whom nobody here knew is remembered, too: it may be old news to
            // others that it came. Not once it is about to be forgotten: nodes that forget a moment
            // apart would remind each other for ever.
            let is_old = word.left && gone >= self.bounds.joined;
            return !is_old && self.add(fresh).unwrap_or(false);
        };
        let is_newer = incarnation > entry.incarnation;
        let went = incarnation == entry.incarnation && word.left && entry.is_here();
        let fits = has_room || entry.is_here() || word.left;
        if !(is_newer || went) || !fits {
            return false;
        }
        if entry.is_here() && word.left {
            tracing::info!(node = %fresh.node.name, "a node left, as others say");
        }
        *entry = fresh;
        true
    }

    /// The node goes; says whether that was news.
    pub(super) fn left(&mut self, node: &NodeName, now: Instant) -> bool {
        let Some(entry) = self.others.get_mut(node).filter(|entry| entry.is_here()) else {
            return false;
        };
        tracing::info!(%node, "a node left");
        entry.standing = Standing::Left { since: now };
        true
    }

    /// Evicts whom nobody has heard for long, and forgets who went long ago.
    pub(super) fn tend(&mut self, heard: &BTreeSet<NodeName>, now: Instant) -> Vec<NodeName> {
        let mut evicted = self.tend_named(heard, now);
        let evict_after = self.bounds.joined;
        for (name, entry) in &mut self.others {
            let Standing::Here { heard_at } = &mut entry.standing else { continue };
            if heard.contains(name) {
                *heard_at = now;
            } else if now - *heard_at >= evict_after {
                entry.standing = Standing::Evicted { since: now };
                evicted.push(name.clone());
            }
        }
        // Whoever has not heard that it went does not hear it either, and has evicted it by then.
        self.others.retain(|_, entry| match entry.standing {
            Standing::Here { .. } => true,
            Standing::Left { since } | Standing::Evicted { since } => now - since < 2 * evict_after,
        });
        evicted
    }

    /// Evicts those that the file names. One that somebody hears is back only once it has said hello
    /// to this node.
    fn tend_named(&mut self, heard: &BTreeSet<NodeName>, now: Instant) -> Vec<NodeName> {
        let mut evicted = Vec::new();
        for (name, named) in &mut self.named {
            if heard.contains(name) {
                named.heard_at = now;
            } else if !named.is_evicted && now - named.heard_at >= self.bounds.named {
                named.is_evicted = true;
                evicted.push(name.clone());
            }
        }
        evicted
    }

    pub(super) fn words(&self, now: Instant) -> Words {
        let word = |node: &Node, incarnation: u64, left: Option<Instant>| Word {
            node: node.name.to_string(),
            region: node.region.to_string(),
            peer: node.peer.to_string(),
            http: node.http.to_string(),
            incarnation,
            left: left.is_some(),
            gone_ms: left.map(|since| u64::try_from((now - since).as_millis()).unwrap_or(u64::MAX)),
        };
        let own = self.own.iter().map(|own| word(own, self.incarnation, None));
        let others = self.others.values().filter_map(|entry| match entry.standing {
            Standing::Here { .. } => Some(word(&entry.node, entry.incarnation, None)),
            Standing::Left { since } => Some(word(&entry.node, entry.incarnation, Some(since))),
            Standing::Evicted { .. } => None,
        });
        let mut words: Vec<Word> = own.chain(others).collect();
        words.sort_by(|a, b| (a.left, &a.node).cmp(&(b.left, &b.node)));
        words.truncate(WORDS_MAX);
        Words(words)
    }

    /// Which state of what others are told it is; how long ago somebody went is no part of it.
    pub(super) fn hash(&self, now: Instant) -> u64 {
        if self.own.is_none() && self.others.is_empty() {
            return 0;
        }
        let mut hash = Sha256::new();
        for word in self.words(now).0 {
            for text in [&word.node, &word.region, &word.peer, &word.http] {
                hash.update([0]);
                hash.update(text);
            }
            hash.update(word.incarnation.to_be_bytes());
            hash.update([u8::from(word.left)]);
        }
        let bytes: [u8; 32] = hash.finalize().into();
        let mut first = [0; 8];
        first.copy_from_slice(&bytes[..8]);
        u64::from_be_bytes(first).max(1)
    }
}

/// Most nodes that one message speaks of; of those that went, what is beyond it is left out.
const WORDS_MAX: usize = 2 * NODES_MAX;

/// The node that is meant, where it is one.
fn checked(word: &Word) -> Option<Node> {
    Some(Node {
        name: NodeName::new(&word.node).ok()?,
        region: RegionName::new(&word.region).ok()?,
        peer: Address::new(&word.peer)?,
        http: Address::new(&word.http)?,
        joined: true,
    })
}

impl<C> minicbor::Encode<C> for Words {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        ctx: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        cbor::write_list(e, self.0.iter(), |e, word| e.encode_with(word, ctx)?.ok())
    }
}

impl<'b, C> minicbor::Decode<'b, C> for Words {
    fn decode(d: &mut minicbor::Decoder<'b>, ctx: &mut C) -> Result<Self, minicbor::decode::Error> {
        cbor::read_list(d, WORDS_MAX, |d| d.decode_with(ctx)).map(Self)
    }
}

#[cfg(test)]
mod tests;
