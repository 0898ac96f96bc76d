//! This node's own connection to a peer: dialed until it stands, written to, and replaced when
//! nothing is heard on it any more.
//!
//! After a cut QUIC's own recovery is slow: it doubles its pauses, so that the next probe of a
//! connection that was cut for 5 s comes up to 5 s after the cut has healed, and then it starts
//! from the smallest window. So a connection that leaves something unanswered gets a second one
//! dialed beside it, with a new attempt every 700 ms, and that one takes over.

use std::collections::BTreeSet;
use std::future::pending;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::{BoxFuture, FutureExt as _};
use futures_util::stream::FuturesUnordered;
use quinn::Connection;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::Shared;
use super::accept::serve;
use super::message::{Have, Message, Nodes, Records};
use super::peer::Peer;
use super::trust;
use crate::model::NodeName;
use crate::transport::frame::{self, FrameError};
use crate::transport::hello::{self, CLOSE_DONE, Hello, HelloError};

/// The first pause between two attempts, beyond what an attempt needs.
const PAUSE: Duration = Duration::from_millis(250);
/// The longest pause where nothing answers.
const PAUSE_SILENT_MAX: Duration = Duration::from_millis(700);
/// The pause where the peer refuses: that will not change by itself.
const PAUSE_REFUSED: Duration = Duration::from_secs(2);
/// How long one attempt may take. Attempts overlap: a new one may get through at once where an
/// older one waits for its next probe.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a connection is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// The vector is told at most this often.
const HAVE_PAUSE: Duration = Duration::from_millis(2);

/// A connection that stands: the peer said hello.
struct Link {
    connection: Connection,
    hello: Hello,
    /// Which of this node's identities it was dialed under.
    identity: u64,
}

/// Why an attempt came to nothing.
#[derive(Debug, thiserror::Error)]
enum DialError {
    #[error("no address: {0}")]
    Lookup(std::io::Error),
    #[error(transparent)]
    Connect(#[from] quinn::ConnectError),
    #[error(transparent)]
    Connection(#[from] quinn::ConnectionError),
    #[error(transparent)]
    Hello(#[from] HelloError),
    #[error("no answer in time")]
    Timeout,
}

/// Keeps a connection to `peer`, for ever.
pub(super) async fn keep_link(shared: Arc<Shared>, peer: Arc<Peer>) {
    let mut link = dial(&shared, &peer).await;
    loop {
        tracing::info!(peer = %peer.node, "connected");
        shared.count(|stats| stats.connections_out += 1);
        peer.set_outgoing(&link.connection, link.hello.instance);
        // It may have been started again, and know nothing.
        peer.forget_members();
        peer.outbox.open();
        let rtt = link.connection.rtt();
        shared.met(&peer.node, &link.hello, rtt).await;
        let next = use_link(&shared, &peer, &link).await;
        if !matches!(next, Next::Renewed(_)) {
            link.connection.close(CLOSE_DONE, b"replaced");
        }
        link = match next {
            Next::Fresh(fresh) | Next::Renewed(fresh) => fresh,
            Next::Lost => {
                tracing::info!(peer = %peer.node, "disconnected");
                peer.remove_outgoing();
                peer.outbox.close();
                dial(&shared, &peer).await
            }
        };
    }
}

/// What became of a link.
enum Next {
    /// It is lost, or of no use.
    Lost,
    /// Another one has taken over, because this one gave no answer.
    Fresh(Link),
    /// Another one has taken over, under a new identity; what is asked on this one is still
    /// answered for a while, and then it is closed.
    Renewed(Link),
}

/// Writes to the link until it is lost or another one has taken over.
async fn use_link(shared: &Arc<Shared>, peer: &Arc<Peer>, link: &Link) -> Next {
    let connection = &link.connection;
    let mut writing = pin!(write(shared, peer, connection));
    let mut serving = serve_owned(shared, peer, link).boxed();
    let mut beside: Option<BoxFuture<'_, Link>> = None;
    let mut silence = Silence::default();
    let mut identities = shared.identities.subscribe();
    let mut is_renewal = link.identity != *identities.borrow_and_update();
    if is_renewal {
        beside = Some(dial(shared, peer).boxed());
    }
    loop {
        tokio::select! {
            biased;
            () = &mut serving => return Next::Lost,
            error = &mut writing => {
                tracing::debug!(peer = %peer.node, %error, "the connection broke");
                return Next::Lost;
            }
            () = peer.dialed.notified() => {
                if peer.is_outgoing_stale() {
                    return Next::Lost;
                }
            }
            fresh = finished(&mut beside) => {
                if !is_renewal {
                    return Next::Fresh(fresh);
                }
                let after = shared.settings.distrust_after;
                shared.spawn(trust::linger(serving, connection.clone(), after));
                return Next::Renewed(fresh);
            }
            Ok(()) = identities.changed() => {
                // An attempt that is under way may be under the old one.
                is_renewal = true;
                beside = Some(dial(shared, peer).boxed());
                continue;
            }
            () = sleep(LOOK) => {}
        }
        let patience = shared.settings.suspect_after + 2 * connection.rtt();
        let silence = silence.look(connection, Instant::now());
        if silence > patience && beside.is_none() {
            tracing::info!(peer = %peer.node, "no answer: dialing beside");
            peer.suspect_outgoing(true);
            peer.outbox.close();
            // What it had for its region may be lost with it: whoever takes its place hears of it.
            for other in shared.mesh().tiers.all_of(&peer.region) {
                other.outbox.want_have();
            }
            beside = Some(dial(shared, peer).boxed());
        } else if silence.is_zero() && peer.suspect_outgoing(false) {
            // Of use again, until the second one takes over all the same: this one's window has
            // collapsed, and much of what it still carries will have been pulled by then.
            peer.outbox.open();
        }
    }
}

/// Serves the link, however long the caller lives.
fn serve_owned(
    shared: &Arc<Shared>,
    peer: &Arc<Peer>,
    link: &Link,
) -> impl Future<Output = ()> + Send + 'static {
    let (shared, peer, connection) = (shared.clone(), peer.clone(), link.connection.clone());
    let instance = link.hello.instance;
    async move { serve(&shared, &peer, &connection, instance).await }
}

/// How long a connection has left unanswered what has to be acknowledged.
#[derive(Default)]
struct Silence {
    heard: u64,
    sent: u64,
    since: Option<Instant>,
}

impl Silence {
    fn look(&mut self, connection: &Connection, now: Instant) -> Duration {
        let stats = connection.stats();
        // Acknowledgements themselves are not answered.
        let sent = stats.frame_tx.stream + stats.frame_tx.ping;
        if stats.udp_rx.datagrams > self.heard {
            *self = Self { heard: stats.udp_rx.datagrams, sent, since: None };
        } else if sent > self.sent {
            self.since.get_or_insert(now);
        }
        self.since.map_or(Duration::ZERO, |since| now - since)
    }
}

async fn finished(dialing: &mut Option<BoxFuture<'_, Link>>) -> Link {
    match dialing {
        Some(dialing) => dialing.await,
        None => pending().await,
    }
}

/// Dials until the peer has said hello. Attempts overlap.
async fn dial(shared: &Shared, peer: &Peer) -> Link {
    let mut attempts = FuturesUnordered::new();
    // An attempt takes two round trips.
    let pause_min = PAUSE + 3 * peer.rtt_expected;
    let mut pause = pause_min;
    let mut next = Instant::now();
    let mut last_error = String::new();
    let mut count = 0;
    loop {
        tokio::select! {
            biased;
            Some(attempt) = attempts.next() => match attempt {
                Ok(link) => return link,
                Err(error) => {
                    if let DialError::Hello(error) = &error
                        && !error.is_transient()
                    {
                        shared.count(|stats| stats.hellos_refused += 1);
                        next = next.max(Instant::now() + shared.jittered(PAUSE_REFUSED));
                    }
                    let error = error.to_string();
                    if error != last_error {
                        tracing::warn!(peer = %peer.node, error, "could not connect");
                        last_error = error;
                    }
                }
            },
            () = sleep_until(next) => {
                attempts.push(attempt(shared, peer, count));
                count += 1;
                next = Instant::now() + shared.jittered(pause);
                pause = (pause * 2).min(PAUSE_SILENT_MAX.max(pause_min));
            }
        }
    }
}

/// The `count`th attempt: a name's addresses are tried in turn.
async fn attempt(shared: &Shared, peer: &Peer, count: usize) -> Result<Link, DialError> {
    let attempt = async {
        let found = shared.env.net.lookup(peer.address.as_str()).await;
        let found = found.map_err(DialError::Lookup)?;
        let none = || DialError::Lookup(std::io::ErrorKind::NotFound.into());
        let addr = *found.get(count % found.len().max(1)).ok_or_else(none)?;
        let identity = *shared.identities.borrow();
        let connection = shared.endpoint.connect(addr, peer.node.as_str())?.await?;
        let mine = shared.hello();
        let topology = shared.members.topology();
        let met = hello::dial(&connection, &topology, &mine, &peer.node).await?;
        shared.admit(&met, connection.remote_address())?;
        Ok(Link { connection, hello: met.hello.known_to(shared.env.release), identity })
    };
    timeout(ATTEMPT_TIMEOUT, attempt).await.unwrap_or(Err(DialError::Timeout))
}

/// Writes what waits for the peer, and the vector behind it, until the connection fails.
async fn write(shared: &Shared, peer: &Peer, connection: &Connection) -> FrameError {
    match write_until_lost(shared, peer, connection).await {
        Err(error) => error,
        Ok(never) => match never {},
    }
}

async fn write_until_lost(
    shared: &Shared,
    peer: &Peer,
    connection: &Connection,
) -> Result<std::convert::Infallible, FrameError> {
    let lost = |error: quinn::ConnectionError| FrameError::Io(error.into());
    let mut stream = connection.open_uni().await.map_err(lost)?;
    let mut heartbeat_at = Instant::now();
    let mut have_at = Instant::now();
    loop {
        for records in Records::split(peer.outbox.take()) {
            let count = records.0.len() as u64;
            frame::write(&mut stream, &Message::Push(records)).await?;
            shared.count(|stats| stats.records_pushed += count);
        }
        let now = Instant::now();
        let is_heartbeat = now >= heartbeat_at;
        if is_heartbeat || (now >= have_at && peer.outbox.is_have_wanted()) {
            peer.outbox.have_told();
            let have = have(shared, peer, now, is_heartbeat);
            frame::write(&mut stream, &Message::Have(have)).await?;
            have_at = now + HAVE_PAUSE;
            if is_heartbeat {
                heartbeat_at = now + shared.jittered(shared.settings.heartbeat);
            }
        }
        let until = if peer.outbox.is_have_wanted() { have_at } else { heartbeat_at };
        tokio::select! {
            biased;
            () = peer.outbox.wait() => {}
            () = sleep_until(until.min(heartbeat_at)) => {}
        }
    }
}

fn have(shared: &Shared, peer: &Peer, now: Instant, with_hears: bool) -> Have {
    // Where the peer is not known to know who joined and left, it is told: once, and then with each
    // heartbeat, until it says that it does.
    let hash = shared.members.hash(now);
    let members = peer.is_to_be_told(hash, with_hears).then(|| shared.members.words(now).0);
    let ready = shared.readiness(with_hears);
    let state = shared.state();
    let names = |heard: BTreeSet<NodeName>| {
        Nodes(heard.iter().map(|name| name.as_str().to_owned()).collect())
    };
    let theirs = state.seen(&peer.node).map(|seen| seen.vector).unwrap_or_default();
    let have = Have {
        vector: shared.replica.vector().told_to(&theirs),
        now: shared.env.clock.now(),
        hears: with_hears.then(|| names(state.heard_nodes(now))),
        others: state.others_for(&peer.node, now),
        members_hash: (members.is_some() || (with_hears && hash != 0)).then_some(hash),
        members,
        ready,
    };
    have.known_to(shared.env.release)
}
