//! The cluster's audit log as one: a page of all nodes' records, those of nodes that do not answer out
//! of the copies that others keep, and the check of this node's chains against what others remember.

use std::collections::BTreeMap;

use futures_util::future::join_all;

use super::{Answer, Question, STORES, handover};
use crate::access::{ClusterAction, ClusterPermit};
use crate::audit::heads::CHAINS;
use crate::audit::merge::{self, Item, Place};
use crate::audit::page::{self, Filter, Slice};
use crate::audit::verify::{Report, Witness, verify};
use crate::audit::{ChainReader as _, Unreadable};
use crate::model::NodeName;
use crate::node::Node;

/// A page of the cluster's audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditPage {
    /// The records.
    pub items: Vec<Item>,
    /// Where the next page begins.
    pub next: Place,
    /// Whether there is nothing behind it now.
    pub ended: bool,
    /// Where what comes later begins, on the first page.
    pub follow: Option<Place>,
    /// Nodes that did not answer, whose records are shown from the copy that another one keeps.
    pub copied: Vec<NodeName>,
    /// Nodes that did not answer, and whose records are not shown, or not all.
    pub missing: Vec<NodeName>,
    /// Nodes of whose records the oldest that were asked for are archived, and in no store any more.
    pub archived: Vec<NodeName>,
}

impl Node {
    /// A page of the cluster's audit log from `place` on: this node's records and those of all
    /// peers that answer.
    pub async fn audit_page(
        &self,
        permit: &ClusterPermit,
        place: &Place,
        filter: &Filter,
        size: usize,
    ) -> Result<AuditPage, Unreadable> {
        check(permit)?;
        let desk = &self.0.desk;
        let size = size.min(page::SLICE_MAX);
        let own = self.name().as_str();
        let local = desk.slices(place.way, place.of(own), filter.clone(), size).await?;
        let mut slices = vec![(own.to_owned(), local)];
        let mut missing = Vec::new();
        let page = |peer: &NodeName| {
            let size = u32::try_from(size).unwrap_or(u32::MAX);
            Question::Page(place.way, place.of(peer.as_str()), filter.clone(), size)
        };
        let (pages, copies) = tokio::join!(self.ask_all(page), self.audit_copies());
        for (peer, answer) in pages {
            match answer {
                Some(Answer::Page(answer)) => slices.push((peer.to_string(), answer)),
                _ => missing.push(peer),
            }
        }
        let wanted = handover::Wanted { place, filter, size };
        let archived = archived(&slices, filter);
        let copied = self.add_copies(&wanted, copies, &mut slices, &mut missing).await;
        let is_first = *place == Place::newest();
        let follow = is_first.then(|| Place::to_follow(&slices));
        let merge::Page { items, next, ended } = merge::merge(place, slices, size);
        Ok(AuditPage { items, next, ended, follow, copied, missing, archived })
    }

    /// Checks this node's chains, also against what peers remember of them.
    pub async fn audit_verify(&self, permit: &ClusterPermit) -> Result<Vec<Report>, Unreadable> {
        check(permit)?;
        let mut witnesses: [Vec<Witness>; CHAINS] = Default::default();
        for (peer, answer) in self.ask_all(|_| Question::Remembered).await {
            let Some(Answer::Remembered(heads)) = answer else { continue };
            for (witnesses, head) in witnesses.iter_mut().zip(heads) {
                if head.seq > 0 {
                    witnesses.push(Witness { by: peer.as_str().into(), head });
                }
            }
        }
        let desk = &self.0.desk;
        let of_copies = self.copies_to_verify().await?;
        let Ok(walk) = desk.0.walks.clone().acquire_owned().await else { return Ok(Vec::new()) };
        let copies = desk.0.copies.clone();
        desk.read_with(walk, move |config, quorum| {
            let [of_config, of_quorum] = &witnesses;
            let mut reports = vec![verify(STORES[0], config, of_config)?];
            if let Some(quorum) = quorum {
                reports.push(verify(STORES[1], quorum, of_quorum)?);
            }
            for (node, chain, mut witnesses) in of_copies {
                let store = format!("{} of {node}", STORES[chain]);
                let copy = copies.chain(&node, chain);
                let base = copy.base()?.seq;
                witnesses.retain(|it| it.head.seq > base);
                reports.push(verify(&store, &copy, &witnesses)?);
            }
            Ok(reports)
        })
        .await
    }

    /// Asks all peers at once.
    pub(super) async fn ask_all(
        &self,
        question: impl Fn(&NodeName) -> Question,
    ) -> BTreeMap<NodeName, Option<Answer>> {
        let Some(gossip) = self.0.gossip.get() else { return BTreeMap::new() };
        let topology = self.0.members.topology();
        let asked = topology.peers_of(self.name()).map(|peer| {
            let (peer, question) = (peer.name.clone(), question(&peer.name));
            async move {
                let answer = self.0.desk.ask(gossip, &peer, &question).await;
                (peer, answer)
            }
        });
        join_all(asked).await.into_iter().collect()
    }
}

/// The nodes that do not have all any more of what `filter` wants.
fn archived(slices: &[(String, [Slice; 3])], filter: &Filter) -> Vec<NodeName> {
    let is_archived = |slice: &Slice| {
        slice.archived_at.is_some_and(|at| filter.from.is_none_or(|from| at >= from))
    };
    let some = slices.iter().filter(|(_, slices)| slices.iter().any(is_archived));
    some.filter_map(|(node, _)| NodeName::new(node).ok()).collect()
}

/// A permit for something else is a fault of the caller's code.
fn check(permit: &ClusterPermit) -> Result<(), Unreadable> {
    match permit.action() {
        ClusterAction::ReadAudit => Ok(()),
        _ => Err(Unreadable("the permit is for something else".into())),
    }
}
