//! The audit log of a node that drains: it hands its chains to a peer, which keeps them and shows
//! them where that node does not answer any more. What the peer has already is not sent again; most of
//! it was shipped before.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::join_all;
use minicbor::bytes::ByteVec;
use tokio::time::{Instant, timeout_at};

use super::{Answer, Desk, Question};
use crate::audit::heads::CHAINS;
use crate::audit::merge::Place;
use crate::audit::page::{Filter, SLICE_MAX, Slice, Way};
use crate::audit::verify::{Witness, hash_at};
use crate::audit::{ChainReader, Head, Unreadable};
use crate::gossip::{Gossip, PeerStatus};
use crate::model::{NodeName, RegionName};
use crate::node::Node;
use crate::storage::StoreError;

/// How long a node that drains hands over; what is left then is not.
const HAND_OVER_TIMEOUT: Duration = Duration::from_secs(5);
/// From how many bytes on records go in a message of their own.
const MESSAGE_BYTES: usize = 1 << 20;
/// Most records of one message.
const MESSAGE_RECORDS_MAX: usize = 8_192;

/// Most nodes that do not answer whose copies a page shows; a page of such a node alone (`node`) shows
/// any.
pub(crate) const COPIES_MAX: usize = 192;
/// Copies that are asked for at once.
const ASKED_MAX: usize = 32;
/// Fewest records that a copy is asked for, where there are many.
const COPIED_MIN: usize = 16;

/// Where copies of nodes' chains stand.
type Standings = BTreeMap<String, [Head; CHAINS]>;

/// A page that is wanted.
pub(super) struct Wanted<'a> {
    pub(super) place: &'a Place,
    pub(super) filter: &'a Filter,
    pub(super) size: usize,
}

/// What comes behind what a peer keeps of a chain.
pub(super) struct Behind {
    pub(super) records: Vec<ByteVec>,
    /// What the first of them follows from, where the peer keeps nothing and what is before is archived.
    pub(super) base: Option<Head>,
}

/// The best first: who has the most already, and else rather who is in another region than `region`.
pub(super) fn sort_keepers(keepers: &mut [(PeerStatus, [Head; CHAINS])], region: &RegionName) {
    keepers.sort_by_key(|(peer, kept)| {
        let has = kept.iter().map(|head| head.seq).sum::<u64>();
        (std::cmp::Reverse(has), peer.region == *region, peer.rtt, peer.node.clone())
    });
}

fn unreadable(error: StoreError) -> Unreadable {
    Unreadable(error.to_string())
}

impl Desk {
    /// Hands this node's chains to a peer, to the one that has the most of them already, and else
    /// rather to one of another region than `region`.
    pub(in crate::node) async fn hand_over(&self, gossip: &Gossip, region: &RegionName) {
        let deadline = Instant::now() + HAND_OVER_TIMEOUT;
        let peers = gossip.peers().into_iter().filter(|peer| peer.connected_out);
        let asked = peers.map(|peer| async move {
            let kept = self.hand(gossip, &peer.node, 0, Vec::new(), None).await.ok()?;
            Some((peer, kept))
        });
        let Ok(asked) = timeout_at(deadline, join_all(asked)).await else { return };
        let mut keepers: Vec<(PeerStatus, [Head; CHAINS])> = asked.into_iter().flatten().collect();
        sort_keepers(&mut keepers, region);
        for (peer, kept) in keepers {
            match timeout_at(deadline, self.hand_all(gossip, &peer.node, kept)).await {
                Ok(Ok(records)) => {
                    tracing::info!(peer = %peer.node, records, "handed the audit log over");
                    return;
                }
                Ok(Err(why)) => {
                    tracing::warn!(peer = %peer.node, why, "the audit log was not handed over");
                }
                Err(_) => {
                    tracing::warn!(peer = %peer.node, "there was no time to hand all of it over");
                    return;
                }
            }
        }
    }

    /// All that the peer does not have yet; how many records that was.
    async fn hand_all(
        &self,
        gossip: &Gossip,
        peer: &NodeName,
        mut kept: [Head; CHAINS],
    ) -> Result<u64, String> {
        let mut handed = 0;
        for chain in 0..CHAINS {
            loop {
                let behind = self.behind(chain, kept[chain], MESSAGE_BYTES).await?;
                let Some(Behind { records, base }) = behind else {
                    let why =
                        "what it keeps is of another chain, from before this store was made anew";
                    return Err(why.to_owned());
                };
                if records.is_empty() {
                    break;
                }
                let before = base.map_or(kept[chain].seq, |base| base.seq);
                let count = records.len() as u64;
                kept = self.hand(gossip, peer, chain, records, base).await?;
                if kept[chain].seq != before + count {
                    return Err("it did not take all of the records".to_owned());
                }
                handed += count;
            }
        }
        Ok(handed)
    }

    /// Where this node's own chains stand.
    pub(super) async fn own_heads(&self) -> Result<[Head; CHAINS], Unreadable> {
        self.read(|config, quorum| {
            let quorum = quorum.map(ChainReader::head).transpose()?;
            Ok([config.head()?, quorum.unwrap_or_default()])
        })
        .await
    }

    /// Hands these over; what the peer keeps then.
    pub(super) async fn hand(
        &self,
        gossip: &Gossip,
        peer: &NodeName,
        chain: usize,
        records: Vec<ByteVec>,
        base: Option<Head>,
    ) -> Result<[Head; CHAINS], String> {
        let chain = u32::try_from(chain).map_err(|error| error.to_string())?;
        match self.ask(gossip, peer, &Question::Keep(chain, records, base)).await {
            Some(Answer::Kept(kept)) => Ok(kept),
            _ => Err("it did not answer".to_owned()),
        }
    }

    /// The next records of this node's own chain behind `kept`, until they are so many bytes. None
    /// where `kept` is no head of this chain.
    pub(super) async fn behind(
        &self,
        chain: usize,
        kept: Head,
        bytes_max: usize,
    ) -> Result<Option<Behind>, String> {
        let read = self.read(move |config, quorum| {
            let mut records: Vec<ByteVec> = Vec::new();
            let chain = if chain == 0 { Some(config) } else { quorum };
            let Some(chain) = chain else { return Ok(Some(Behind { records, base: None })) };
            let base = Some(chain.base()?).filter(|base| kept.seq == 0 && base.seq > 0);
            if kept.seq > 0 && hash_at(chain, kept.seq)? != Some(kept.hash) {
                return Ok(None);
            }
            let mut bytes = 0;
            let from = base.map_or(kept.seq, |base| base.seq) + 1;
            chain.walk(from, &mut |record| {
                bytes += record.len();
                records.push(record.to_vec().into());
                match bytes >= bytes_max || records.len() >= MESSAGE_RECORDS_MAX {
                    true => ControlFlow::Break(()),
                    false => ControlFlow::Continue(()),
                }
            })?;
            Ok(Some(Behind { records, base }))
        });
        read.await.map_err(|error: Unreadable| error.to_string())
    }

    /// Keeps records of a peer's chain.
    pub(super) async fn keep(
        &self,
        peer: NodeName,
        chain: usize,
        records: Vec<ByteVec>,
        base: Option<Head>,
    ) -> Result<[Head; CHAINS], Unreadable> {
        let copies = self.0.copies.clone();
        let append = move || {
            if let Some(base) = base.filter(|base| base.seq > 0) {
                copies.begin(peer.as_str(), chain, base)?;
            }
            let records: Vec<&[u8]> = records.iter().map(|record| &record[..]).collect();
            copies.append(peer.as_str(), chain, &records)
        };
        let grown = self.0.blocking.run(append).await.map_err(unreadable)?;
        self.0.metrics.audit_copies(grown.bytes, grown.let_go);
        Ok(grown.heads)
    }

    /// Where the copies stand that are kept here.
    pub(super) async fn copied_heads(&self) -> Result<Standings, Unreadable> {
        let copies = self.0.copies.clone();
        self.0.blocking.run(move || copies.heads()).await.map_err(unreadable)
    }

    /// A node's part of a page, out of the copy that is kept here.
    pub(super) async fn copied_slices(
        &self,
        node: String,
        way: Way,
        places: [u64; 3],
        filter: Filter,
        size: usize,
    ) -> Result<[Slice; 3], Unreadable> {
        let (copies, size) = (self.0.copies.clone(), size.min(SLICE_MAX));
        let read = move || {
            let [config, quorum] = [0, 1].map(|chain| copies.chain(&node, chain));
            super::slices_of(&config, Some(&quorum), way, places, &filter, size)
        };
        self.0.blocking.run(read).await
    }
}

/// A copy of a node's chains.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Kept {
    heads: [Head; CHAINS],
    keeper: NodeName,
}

/// The longest copy of each node that is not among `known`.
fn longest(copies: Vec<(NodeName, Standings)>, known: &BTreeSet<&str>) -> BTreeMap<NodeName, Kept> {
    let length = |heads: &[Head; CHAINS]| heads.iter().map(|head| head.seq).sum::<u64>();
    let mut longest = BTreeMap::<NodeName, Kept>::new();
    for (keeper, standings) in copies {
        for (node, heads) in standings {
            let Ok(node) = NodeName::new(&node) else { continue };
            let is_longer = |it: &Kept| length(&it.heads) < length(&heads);
            if !known.contains(node.as_str()) && longest.get(&node).is_none_or(is_longer) {
                longest.insert(node, Kept { heads, keeper: keeper.clone() });
            }
        }
    }
    longest
}

/// Which of the copies a page shows, and of which nodes it does not though it should: those that it
/// has begun with stay in it.
fn choose(
    wanted: &Wanted<'_>,
    copies: BTreeMap<NodeName, Kept>,
) -> (Vec<(NodeName, Kept)>, Vec<NodeName>) {
    let is_asked_for = |node: &NodeName| {
        let asked = wanted.filter.node.as_deref();
        asked.is_none_or(|asked| asked == node.as_str())
    };
    let has_begun = |node: &NodeName| wanted.place.nodes.contains_key(node.as_str());
    let copies = copies.into_iter().filter(|(node, _)| is_asked_for(node));
    let (mut shown, more): (Vec<_>, Vec<_>) = copies.partition(|(node, _)| has_begun(node));
    shown.extend(more);
    let left_out = shown.split_off(COPIES_MAX.min(shown.len()));
    (shown, left_out.into_iter().map(|(node, _)| node).collect())
}

impl Node {
    /// Where copies of nodes' chains stand, at all nodes that say so.
    pub(super) async fn audit_copies(&self) -> Vec<(NodeName, Standings)> {
        let mut all = Vec::new();
        match self.0.desk.copied_heads().await {
            Ok(own) => all.push((self.name().clone(), own)),
            Err(error) => tracing::error!(%error, "copies of audit logs are kept here"),
        }
        for (peer, answer) in self.ask_all(|_| Question::Copies).await {
            if let Some(Answer::Copies(copies)) = answer {
                all.push((peer, copies));
            }
        }
        all
    }

    /// Adds the parts of nodes that did not answer out of the longest copies that there are; whose.
    /// One of which more is known than its copy has stays missing.
    pub(super) async fn add_copies(
        &self,
        wanted: &Wanted<'_>,
        copies: Vec<(NodeName, Standings)>,
        slices: &mut Vec<(String, [Slice; 3])>,
        missing: &mut Vec<NodeName>,
    ) -> Vec<NodeName> {
        let known: BTreeSet<&str> = slices.iter().map(|(node, _)| node.as_str()).collect();
        let (shown, left_out) = choose(wanted, longest(copies, &known));
        missing.retain(|node| !left_out.contains(node));
        missing.extend(left_out);
        // A page of many is put together of a few of each.
        let size = (4 * wanted.size / shown.len().max(1)).max(COPIED_MIN).min(wanted.size);
        let wanted = Wanted { size, ..*wanted };
        let (mut copied, mut silent) = (Vec::new(), BTreeSet::new());
        for some in shown.chunks(ASKED_MAX) {
            let asked = some.iter().filter(|(_, copy)| !silent.contains(&copy.keeper));
            let parts = asked.map(|(node, copy)| {
                let part = self.copied_part(&wanted, node, &copy.keeper);
                part.map(move |part| (node, copy, part))
            });
            for (node, copy, part) in join_all(parts).await {
                let Some(part) = part else {
                    if copy.keeper != *self.name() {
                        silent.insert(copy.keeper.clone());
                    }
                    continue;
                };
                let is_whole = part.iter().all(|slice| slice.let_go == 0);
                slices.push((node.to_string(), part));
                let remembered = self.0.desk.heads().of(node.as_str());
                let heads = remembered.iter().zip(&copy.heads);
                if is_whole && { heads }.all(|(known, copy)| known.seq <= copy.seq) {
                    missing.retain(|missing| missing != node);
                }
                copied.push(node.clone());
            }
        }
        // Of whom nothing came.
        for (node, _) in shown {
            if !copied.contains(&node) && !missing.contains(&node) {
                missing.push(node);
            }
        }
        copied
    }

    async fn copied_part(
        &self,
        Wanted { place, filter, size }: &Wanted<'_>,
        node: &NodeName,
        keeper: &NodeName,
    ) -> Option<[Slice; 3]> {
        let (whose, way, places) = (node.to_string(), place.way, place.of(node.as_str()));
        let filter = Filter::clone(filter);
        if keeper == self.name() {
            let part = self.0.desk.copied_slices(whose, way, places, filter, *size).await;
            return part.inspect_err(|error| tracing::error!(%error, %node, "a copy")).ok();
        }
        let size = u32::try_from(*size).unwrap_or(u32::MAX);
        let question = Question::CopiedPage(whose, way, places, filter, size);
        match self.0.desk.ask(self.0.gossip.get()?, keeper, &question).await {
            Some(Answer::Page(part)) => Some(part),
            _ => None,
        }
    }

    /// The copies that are kept here, with what this node and its peers remember of their chains.
    pub(super) async fn copies_to_verify(
        &self,
    ) -> Result<Vec<(String, usize, Vec<Witness>)>, Unreadable> {
        let mut all = Vec::new();
        let copies: Vec<(String, [Head; CHAINS])> =
            self.0.desk.copied_heads().await?.into_iter().collect();
        let mut told = Vec::new();
        for some in copies.chunks(ASKED_MAX) {
            let asked = some.iter().map(|(node, _)| self.remembered_of(node));
            told.extend(join_all(asked).await);
        }
        for ((node, heads), remembered) in copies.into_iter().zip(told) {
            for chain in (0..CHAINS).filter(|chain| heads[*chain].seq > 0) {
                // A node that came back went on: what is remembered beyond its copy says nothing.
                let upto = heads[chain].seq;
                let witnesses = remembered.iter();
                let witnesses = witnesses.filter(|(_, it)| (1..=upto).contains(&it[chain].seq));
                let witness = |(by, heads): &(NodeName, [Head; CHAINS])| Witness {
                    by: by.as_str().into(),
                    head: heads[chain],
                };
                all.push((node.clone(), chain, witnesses.map(witness).collect()));
            }
        }
        Ok(all)
    }

    /// What this node and its peers remember of a node's chains.
    async fn remembered_of(&self, node: &str) -> Vec<(NodeName, [Head; CHAINS])> {
        let mut remembered = vec![(self.name().clone(), self.0.desk.heads().of(node))];
        for (peer, answer) in self.ask_all(|_| Question::RememberedOf(node.to_owned())).await {
            if let Some(Answer::Remembered(heads)) = answer {
                remembered.push((peer, heads));
            }
        }
        remembered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(i: usize) -> NodeName {
        NodeName::new(&format!("gone-{i:04}")).unwrap()
    }

    fn copies(count: usize) -> BTreeMap<NodeName, Kept> {
        let copy = || Kept { heads: Default::default(), keeper: name(9_999) };
        (0..count).map(|i| (name(i), copy())).collect()
    }

    #[test]
    fn a_page_shows_so_many_copies_says_whose_it_does_not_and_goes_on_with_those_it_began_with() {
        let (mut filter, mut place) = (Filter::default(), Place::newest());
        let names = |chosen: &(Vec<(NodeName, Kept)>, Vec<NodeName>)| {
            let shown: Vec<NodeName> = chosen.0.iter().map(|(node, _)| node.clone()).collect();
            (shown, chosen.1.clone())
        };
        let wanted = Wanted { place: &place, filter: &filter, size: 100 };
        let all: Vec<NodeName> = (0..COPIES_MAX + 2).map(name).collect();
        let chosen = names(&choose(&wanted, copies(COPIES_MAX + 2)));
        assert_eq!((&chosen.0[..], &chosen.1[..]), all.split_at(COPIES_MAX));
        let last = name(COPIES_MAX + 1);
        place.nodes.insert(last.to_string(), [7; 3]);
        let wanted = Wanted { place: &place, filter: &filter, size: 100 };
        let (shown, left_out) = names(&choose(&wanted, copies(COPIES_MAX + 2)));
        assert!(shown.contains(&last) && shown.len() == COPIES_MAX);
        assert_eq!(left_out, [name(COPIES_MAX - 1), name(COPIES_MAX)]);
        let (one, place) = (name(COPIES_MAX), Place::newest());
        filter.node = Some(one.to_string());
        let wanted = Wanted { place: &place, filter: &filter, size: 100 };
        assert_eq!(names(&choose(&wanted, copies(COPIES_MAX + 2))), (vec![one], vec![]));
    }

    #[test]
    fn of_each_node_that_did_not_answer_the_longest_copy_is_taken() {
        let heads = |seq| [Head { seq, ..Head::default() }, Head::default()];
        let kept = |node: &str, seq| BTreeMap::from([(node.to_owned(), heads(seq))]);
        let copies = vec![
            (name(1), kept("gone", 3)),
            (name(2), kept("gone", 5)),
            (name(3), kept("gone", 5)),
            (name(4), kept("answered", 9)),
            (name(5), kept("not a name", 9)),
        ];
        let longest = longest(copies, &BTreeSet::from(["answered"]));
        let copy = Kept { heads: heads(5), keeper: name(2) };
        assert_eq!(longest, BTreeMap::from([(NodeName::new("gone").unwrap(), copy)]));
    }
}
