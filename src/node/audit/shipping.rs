//! Ships this node's new audit records to a peer, bit by bit, while it runs: a disk that is lost takes
//! no more than the last seconds' records with it. Nobody waits for it: it reads what is on disk
//! again, now and then, and no faster than it may. A keeper that is gone is replaced by another one,
//! which is asked what it has already, so that nothing is sent twice.

use std::collections::BTreeMap;
use std::pin::pin;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::Desk;
use super::handover::Behind;
use crate::audit::Head;
use crate::audit::heads::CHAINS;
use crate::gossip::{Gossip, PeerStatus};
use crate::model::{NodeName, RegionName};
use crate::settings::AuditSettings;

/// From how many bytes on records go in a message of their own: less than when a node drains, since
/// nothing presses, and others wait behind it on the way.
const MESSAGE_BYTES: usize = 128 << 10;
/// How long a peer that could not keep the chains is left alone: what it kept may have been put aside.
const UNFIT_FOR: Duration = Duration::from_secs(600);

/// Ships one node's chains.
pub(super) struct Shipping {
    desk: Desk,
    gossip: Gossip,
    region: RegionName,
    every: Duration,
    /// Most bytes of records at a time.
    step_bytes: u64,
    keeper: Option<Keeper>,
    unfit: Unfit,
}

/// Who keeps the copy.
struct Keeper {
    node: NodeName,
    kept: [Head; CHAINS],
}

/// Who keeps another chain under this node's name, from before its store was made anew, and can take
/// nothing of this one; since when that is known.
#[derive(Default)]
struct Unfit(BTreeMap<NodeName, Instant>);

impl Unfit {
    fn add(&mut self, peer: NodeName, now: Instant) {
        self.0.insert(peer, now);
    }

    fn has(&self, peer: &NodeName, now: Instant) -> bool {
        self.0.get(peer).is_some_and(|since| now.duration_since(*since) < UNFIT_FOR)
    }
}

/// Why nothing more was shipped.
enum Trouble {
    /// The keeper does not answer. Another one may.
    Silent,
    /// It takes nothing of this chain.
    Unfit(String),
    /// This node's own chain cannot be read now.
    Own(String),
}

impl Shipping {
    /// None where the settings want none.
    pub(super) fn new(
        desk: Desk,
        gossip: Gossip,
        region: RegionName,
        settings: &AuditSettings,
    ) -> Option<Self> {
        let every = settings.ship_every;
        let step_bytes = (settings.ship_bytes_per_second as f64 * every.as_secs_f64()) as u64;
        let (keeper, unfit) = (None, Unfit::default());
        let this = Self { desk, gossip, region, every, step_bytes, keeper, unfit };
        (!every.is_zero()).then_some(this)
    }

    /// Until `stop`.
    pub(super) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut stopped = pin!(async move {
            // The sender is gone: that is a stop, too.
            let _ = stop.wait_for(|stop| *stop).await;
        });
        loop {
            tokio::select! {
                biased;
                () = &mut stopped => return,
                () = sleep(self.every) => {}
            }
            tokio::select! {
                biased;
                () = &mut stopped => return,
                () = self.step() => {}
            }
        }
    }

    /// Ships what there is, as far as one step may go.
    async fn step(&mut self) {
        let Ok(own) = self.desk.own_heads().await else { return };
        self.choose().await;
        let Some(keeper) = &mut self.keeper else { return self.tell(own, None) };
        match ship(&self.desk, &self.gossip, keeper, own, self.step_bytes).await {
            Ok(()) => {}
            Err(Trouble::Silent) => self.keeper = None,
            Err(Trouble::Own(why)) => {
                tracing::warn!(why, "the audit log was not shipped");
            }
            Err(Trouble::Unfit(why)) => {
                tracing::warn!(peer = %keeper.node, why, "a peer cannot keep the audit log");
                self.unfit.add(keeper.node.clone(), Instant::now());
                self.keeper = None;
            }
        }
        let kept = self.keeper.as_ref().map(|keeper| keeper.kept);
        self.tell(own, kept);
    }

    fn tell(&self, own: [Head; CHAINS], kept: Option<[Head; CHAINS]>) {
        let kept = kept.unwrap_or_default();
        let behind = own.iter().zip(kept).map(|(own, kept)| own.seq.saturating_sub(kept.seq)).sum();
        self.desk.0.metrics.set_audit_unshipped(behind);
    }

    /// Keeps to the keeper while it is connected; else looks for another one.
    async fn choose(&mut self) {
        let now = Instant::now();
        let can_keep = |peer: &PeerStatus| peer.connected_out && !self.unfit.has(&peer.node, now);
        let peers: Vec<PeerStatus> = self.gossip.peers().into_iter().filter(can_keep).collect();
        if let Some(keeper) = &self.keeper
            && peers.iter().any(|peer| peer.node == keeper.node)
        {
            return;
        }
        let (desk, gossip) = (&self.desk, &self.gossip);
        let asked = peers.into_iter().map(|peer| async move {
            let kept = desk.hand(gossip, &peer.node, 0, Vec::new(), None).await.ok()?;
            Some((peer, kept))
        });
        let mut keepers: Vec<(PeerStatus, [Head; CHAINS])> =
            join_all(asked).await.into_iter().flatten().collect();
        super::handover::sort_keepers(&mut keepers, &self.region);
        let best = keepers.into_iter().next();
        self.keeper = best.map(|(peer, kept)| Keeper { node: peer.node, kept });
    }
}

/// Ships what `keeper` does not have of chains that stand at `own`, at most so many bytes and a
/// message.
async fn ship(
    desk: &Desk,
    gossip: &Gossip,
    keeper: &mut Keeper,
    own: [Head; CHAINS],
    bytes_max: u64,
) -> Result<(), Trouble> {
    let mut sent = 0;
    for (chain, own) in own.into_iter().enumerate() {
        // Not behind the loop: meanwhile the chain may have grown beyond what it was.
        if keeper.kept[chain].seq > own.seq {
            let why = "it keeps more than this chain has";
            return Err(Trouble::Unfit(why.to_owned()));
        }
        while keeper.kept[chain].seq < own.seq && sent < bytes_max {
            let kept = keeper.kept[chain];
            let Behind { records, base } = match desk.behind(chain, kept, MESSAGE_BYTES).await {
                Ok(Some(behind)) => behind,
                Ok(None) => {
                    let why = "what it keeps is of another chain of this node's";
                    return Err(Trouble::Unfit(why.to_owned()));
                }
                Err(why) => return Err(Trouble::Own(why)),
            };
            if records.is_empty() {
                break;
            }
            sent += records.iter().map(|record| record.len() as u64).sum::<u64>();
            let count = records.len() as u64;
            let before = base.map_or(kept.seq, |base| base.seq);
            let handed = desk.hand(gossip, &keeper.node, chain, records, base).await;
            keeper.kept = handed.map_err(|_| Trouble::Silent)?;
            if keeper.kept[chain].seq != before + count {
                return Err(Trouble::Unfit("it did not take all of the records".to_owned()));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_cannot_keep_the_chains_is_asked_again_after_a_while() {
        let (a, b) = (NodeName::new("a").unwrap(), NodeName::new("b").unwrap());
        let (mut unfit, now) = (Unfit::default(), Instant::now());
        unfit.add(a.clone(), now);
        assert!(unfit.has(&a, now) && !unfit.has(&b, now));
        assert!(unfit.has(&a, now + UNFIT_FOR - Duration::from_millis(1)));
        assert!(!unfit.has(&a, now + UNFIT_FOR));
        unfit.add(a.clone(), now + UNFIT_FOR);
        assert!(unfit.has(&a, now + UNFIT_FOR), "it could not still");
    }
}
