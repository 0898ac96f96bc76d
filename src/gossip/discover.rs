//! Finds nodes by DNS: asks what a region's name leads to, and says hello to whom it does not know
//! from there. Who answers is who its certificate says; DNS only said where to ask. While DNS is
//! down, those who are known stay known.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::FutureExt as _;
use futures_util::stream::{self, StreamExt as _};
use tokio::time::{Instant, sleep, timeout};

use super::Shared;
use super::noise::Noise;
use crate::model::{NodeName, RegionName};
use crate::topology::Discover;
use crate::transport::hello::{self, CLOSE_DONE, HelloError};
use crate::transport::tls::ANY_NODE;

/// How often a name is asked for. What DNS answered is asked for again when its time to live is over.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// The same while the name has led to nobody yet.
const LOOK_EVERY_FIRST: Duration = Duration::from_secs(1);
/// How long saying hello may take.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// An address that was this node's own, or turned it away, is tried again after this long.
const AGAIN_AFTER: Duration = Duration::from_secs(60);

/// Addresses that are asked at once: one where nobody is holds up no other.
const MEETINGS_MAX: usize = 16;

/// Who was met at an address: a member, or nobody whom it makes sense to ask again at once.
enum Met {
    Member(NodeName),
    Nobody(Instant),
}

/// Why an address led to nobody.
#[derive(Debug, thiserror::Error)]
enum MeetError {
    #[error(transparent)]
    Connect(#[from] quinn::ConnectError),
    #[error(transparent)]
    Connection(#[from] quinn::ConnectionError),
    #[error(transparent)]
    Hello(#[from] HelloError),
    #[error("no answer in time")]
    Timeout,
}

/// Looks after one region's name, for ever.
pub(super) async fn discover(shared: Arc<Shared>, region: RegionName, name: Discover) {
    let mut met: BTreeMap<SocketAddr, Met> = BTreeMap::new();
    let mut last_error = String::new();
    let mut noise = Noise::default();
    loop {
        match find(&shared, &name).await {
            Ok(found) => {
                last_error.clear();
                met.retain(|addr, _| found.contains(addr));
                let own = own_addresses(&shared).await;
                let is_there = |node: &NodeName| {
                    shared.peer(node).is_some_and(|peer| peer.connected() != (false, 0))
                };
                let wanted = found
                    .into_iter()
                    .filter(|addr| !own.contains(addr) && is_worth_asking(met.get(addr), is_there));
                let wanted: Vec<SocketAddr> = wanted.collect();
                let mut meeting = stream::iter(wanted)
                    .map(|addr| meet(&shared, addr).map(move |who| (addr, who)))
                    .buffer_unordered(MEETINGS_MAX);
                while let Some((addr, who)) = meeting.next().await {
                    met.insert(addr, told(&region, addr, who, &mut noise));
                }
            }
            Err(error) => {
                let error = error.to_string();
                if error != last_error {
                    tracing::warn!(%region, error, "could not look for nodes");
                    last_error = error;
                }
            }
        }
        let has_met = met.values().any(|met| matches!(met, Met::Member(_)));
        let pause = if has_met { LOOK_EVERY } else { LOOK_EVERY_FIRST };
        sleep(shared.jittered(pause)).await;
    }
}

async fn find(shared: &Shared, name: &Discover) -> io::Result<Vec<SocketAddr>> {
    match name {
        Discover::Host(address) => shared.env.net.lookup(address.as_str()).await,
        Discover::Service(name) => {
            let found = shared.env.net.lookup_service(name).await?;
            Ok(found.into_iter().flat_map(|service| service.addresses).collect())
        }
    }
}

/// Where this node is, by its own word: DNS names it, too.
async fn own_addresses(shared: &Shared) -> Vec<SocketAddr> {
    let topology = shared.members.topology();
    let Some(own) = topology.node(&shared.node) else { return Vec::new() };
    shared.env.net.lookup(own.peer.as_str()).await.unwrap_or_default()
}

fn is_worth_asking(met: Option<&Met>, is_there: impl FnOnce(&NodeName) -> bool) -> bool {
    match met {
        None => true,
        Some(Met::Nobody(at)) => at.elapsed() >= AGAIN_AFTER,
        // Somebody else may be there by now.
        Some(Met::Member(node)) => !is_there(node),
    }
}

/// Says hello to whoever is at `addr`, and takes it in.
async fn meet(shared: &Arc<Shared>, addr: SocketAddr) -> Result<NodeName, MeetError> {
    let meeting = async {
        let connection = shared.endpoint.connect(addr, ANY_NODE)?.await?;
        let (topology, mine) = (shared.members.topology_with_evicted(), shared.hello());
        let peer = hello::dial_any(&connection, &topology, &mine).await?;
        let admitted = shared.admit(&peer, addr);
        // The link to it is dialed by its name.
        connection.close(CLOSE_DONE, b"found");
        admitted?;
        Ok(peer.node)
    };
    timeout(HELLO_TIMEOUT, meeting).await.unwrap_or(Err(MeetError::Timeout))
}

/// Looks for a node that the file names and that is evicted. Were neither of two that evicted each
/// other to look, they would not find each other again.
pub(super) async fn look_for(shared: Arc<Shared>, node: NodeName) {
    let topology = shared.members.topology_with_evicted();
    let Some(place) = topology.node(&node) else { return };
    let found = shared.env.net.lookup(place.peer.as_str()).await.unwrap_or_default();
    for addr in found {
        if meet(&shared, addr).await.is_ok_and(|met| met == node) {
            return;
        }
    }
}

fn told(
    region: &RegionName,
    addr: SocketAddr,
    who: Result<NodeName, MeetError>,
    noise: &mut Noise,
) -> Met {
    match who {
        Ok(node) => {
            tracing::debug!(%region, %addr, %node, "found a node");
            Met::Member(node)
        }
        Err(MeetError::Hello(HelloError::OwnName)) => Met::Nobody(Instant::now()),
        Err(MeetError::Hello(error)) if !error.is_transient() => {
            tracing::warn!(%region, %addr, %error, "what DNS names is no node of this cluster");
            Met::Nobody(Instant::now())
        }
        Err(error) => {
            match noise.hear(&addr.to_string(), Instant::now()) {
                Some(count) => {
                    tracing::info!(%region, %addr, %error, count, "nobody answers where DNS says");
                }
                None => tracing::debug!(%region, %addr, %error, "nobody answers where DNS says"),
            }
            // Soon, but not before the others had their turn.
            let again = Instant::now().checked_sub(AGAIN_AFTER - LOOK_EVERY_FIRST);
            Met::Nobody(again.unwrap_or_else(Instant::now))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn where_nobody_was_is_asked_again_soon_and_where_this_node_is_not_so_soon() {
        let (region, addr) = (RegionName::new("ra").unwrap(), ([127, 0, 0, 1], 9).into());
        let mut noise = Noise::default();
        let is_asked = |met: &Met| is_worth_asking(Some(met), |_| true);
        assert!(is_worth_asking(None, |_| true));
        tokio::time::advance(2 * AGAIN_AFTER).await;
        let silent = told(&region, addr, Err(MeetError::Timeout), &mut noise);
        let own = told(&region, addr, Err(MeetError::Hello(HelloError::OwnName)), &mut noise);
        assert!(!is_asked(&silent) && !is_asked(&own));
        tokio::time::advance(LOOK_EVERY_FIRST).await;
        assert!(is_asked(&silent) && !is_asked(&own));
        tokio::time::advance(AGAIN_AFTER).await;
        assert!(is_asked(&own));
        let member = told(&region, addr, Ok(NodeName::new("a-1").unwrap()), &mut noise);
        assert!(!is_asked(&member) && is_worth_asking(Some(&member), |_| false));
    }
}
