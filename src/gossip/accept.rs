//! The receiving side: connections that peers dialed, what they push, answers to their pulls, and
//! streams for other rooms.
//! Nothing a peer sends is believed: what doesn't decode closes its connection, is counted, and
//! harms nobody else.

use std::future::pending;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt as _};
use quinn::{Connection, ConnectionError, Incoming, RecvStream, SendStream, TransportErrorCode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::message::{Answer, Have, Message, Opening, PULL_LEN_MAX, Pull, Records};
use super::peer::Peer;
use super::{Applied, HANDSHAKES_MAX, Need, Shared, streams};
use crate::model::cbor;
use crate::transport::frame::{self, FRAME_LEN_MAX, FrameError, FrameReader};
use crate::transport::hello::{self, CLOSE_LEFT, CLOSE_MISBEHAVED, HELLO_TIMEOUT};

/// Frames are gathered up to this many bytes before they are applied.
const APPLY_BYTES: usize = 1024 * 1024;
/// What one pull is answered with, in bytes.
const ANSWER_BYTES: usize = 4 * 1024 * 1024;
/// How long a peer may take for one frame of an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Pulls that one connection may have open.
const PULLS_MAX: usize = 4;
/// The pause after the store took nothing.
const APPLY_PAUSE: Duration = Duration::from_millis(250);

/// Takes connections, for ever.
pub(super) async fn accept(shared: Arc<Shared>) {
    while let Some(incoming) = shared.endpoint.accept().await {
        let Ok(permit) = shared.handshakes.clone().try_acquire_owned() else {
            incoming.refuse();
            continue;
        };
        // Under pressure a stranger first has to show that its address is its own.
        let is_busy = shared.handshakes.available_permits() < HANDSHAKES_MAX / 2;
        if is_busy && !incoming.remote_address_validated() {
            let _ = incoming.retry();
            continue;
        }
        shared.spawn(welcome(shared.clone(), incoming, permit));
    }
}

async fn welcome(shared: Arc<Shared>, incoming: Incoming, permit: OwnedSemaphorePermit) {
    let from = incoming.remote_address();
    let connection = match timeout(HELLO_TIMEOUT, incoming).await {
        Ok(Ok(connection)) => connection,
        // A dialer whose attempts overlap gives up all but one.
        Ok(Err(ConnectionError::ConnectionClosed(close)))
            if close.error_code == TransportErrorCode::APPLICATION_ERROR =>
        {
            return;
        }
        Ok(Err(error)) => {
            shared.count(|stats| stats.handshakes_failed += 1);
            return shared.tell_failed_handshake(from, &error);
        }
        Err(_) => {
            shared.count(|stats| stats.handshakes_failed += 1);
            return;
        }
    };
    let topology = shared.members.topology_with_evicted();
    let admit = |peer: &hello::Peer| shared.admit(peer, from);
    let hello = match hello::accept(&connection, &topology, &shared.hello(), admit).await {
        Ok(peer) => {
            if peer.joins.is_some() || shared.peer(&peer.node).is_none() {
                shared.remesh();
            }
            peer.hello.known_to(shared.env.release)
        }
        Err(error) if error.is_transient() => return,
        Err(error) => {
            shared.count(|stats| stats.hellos_refused += 1);
            tracing::warn!(%from, %error, "refused a hello");
            return;
        }
    };
    drop(permit);
    let mesh = shared.mesh();
    let peer = mesh.peers.iter().find(|(name, _)| name.as_str() == hello.node);
    let Some((_, peer)) = peer else { return };
    shared.count(|stats| stats.connections_in += 1);
    peer.add_incoming(connection.clone(), hello.instance);
    shared.met(&peer.node, &hello, connection.rtt()).await;
    serve(&shared, peer, &connection, hello.instance).await;
    peer.remove_incoming(&connection);
}

impl Shared {
    /// Says it in the log, of each address once a minute: anybody can try.
    fn tell_failed_handshake(&self, from: SocketAddr, error: &ConnectionError) {
        let count = {
            let mut noise = self.noise.lock().unwrap_or_else(PoisonError::into_inner);
            noise.hear(&from.ip().to_string(), Instant::now())
        };
        match count {
            Some(count) => tracing::info!(%from, %error, count, "a handshake failed"),
            None => tracing::debug!(%from, %error, "a handshake failed"),
        }
    }
}

/// Takes what the peer sends on this connection, until it ends.
pub(super) async fn serve(
    shared: &Arc<Shared>,
    peer: &Arc<Peer>,
    connection: &Connection,
    instance: u64,
) {
    let mut reading: Option<BoxFuture<'_, Result<(), FrameError>>> = None;
    let mut answers = JoinSet::new();
    let pulls = Arc::new(Semaphore::new(PULLS_MAX));
    loop {
        let end = tokio::select! {
            biased;
            end = connection.closed() => {
                if is_goodbye(&end) {
                    shared.left(&peer.node, instance);
                }
                return;
            }
            end = finished(&mut reading) => {
                reading = None;
                end
            }
            Some(end) = answers.join_next() => end.unwrap_or(Ok(())),
            stream = connection.accept_uni() => match stream {
                Err(_) => return,
                Ok(_) if reading.is_some() => Err(too_many()),
                Ok(stream) => {
                    let stream = read(shared, peer, connection, instance, stream);
                    reading = Some(stream.boxed());
                    Ok(())
                }
            },
            streams = connection.accept_bi() => match streams {
                Err(_) => return,
                // As many as the endpoint lets a peer open.
                Ok((send, receive)) => {
                    let (shared, peer, pulls) = (shared.clone(), peer.clone(), pulls.clone());
                    answers.spawn(talk(shared, peer, pulls, send, receive));
                    Ok(())
                }
            },
        };
        if let Err(error) = end {
            end_with(shared, peer, connection, &error);
        }
    }
}

/// Whether the peer closed the connection because it leaves.
fn is_goodbye(end: &ConnectionError) -> bool {
    matches!(end, ConnectionError::ApplicationClosed(close) if close.error_code == CLOSE_LEFT)
}

/// Closes the connection where the peer broke the protocol.
pub(super) fn end_with(shared: &Shared, peer: &Peer, connection: &Connection, error: &FrameError) {
    if error.is_misbehaviour() {
        shared.count(|stats| stats.misbehaved += 1);
        tracing::warn!(peer = %peer.node, %error, "closed the connection of a peer that misbehaves");
        connection.close(CLOSE_MISBEHAVED, error.to_string().as_bytes());
    }
}

fn too_many() -> FrameError {
    FrameError::Malformed(minicbor::decode::Error::message("too many streams"))
}

async fn finished(
    reading: &mut Option<BoxFuture<'_, Result<(), FrameError>>>,
) -> Result<(), FrameError> {
    match reading {
        Some(reading) => reading.await,
        None => pending().await,
    }
}

/// What has arrived together is applied together.
#[derive(Default)]
struct Batch {
    records: Vec<Bytes>,
    bytes: usize,
    have: Option<Have>,
}

impl Batch {
    fn add(&mut self, frame: &Bytes) -> Result<(), FrameError> {
        self.bytes += frame.len();
        match cbor::decode(frame)? {
            Message::Push(records) => self.records.extend(records.0),
            Message::Have(have) => {
                let before = self.have.take().unwrap_or_default();
                self.have = Some(Have {
                    hears: have.hears.or(before.hears),
                    members: have.members.or(before.members),
                    members_hash: have.members_hash.or(before.members_hash),
                    ready: have.ready.or(before.ready),
                    ..have
                });
            }
        }
        Ok(())
    }
}

async fn read(
    shared: &Shared,
    peer: &Peer,
    connection: &Connection,
    instance: u64,
    stream: RecvStream,
) -> Result<(), FrameError> {
    let mut reader = FrameReader::new(stream, FRAME_LEN_MAX);
    while let Some(frame) = reader.next().await? {
        let mut batch = Batch::default();
        batch.add(&frame)?;
        while batch.bytes < APPLY_BYTES {
            let Some(frame) = reader.next_now()? else { break };
            batch.add(&frame)?;
        }
        shared.state().alive(&peer.node, Instant::now());
        if !batch.records.is_empty() {
            take_push(shared, peer, batch.records).await;
        }
        if let Some(have) = batch.have {
            let have = have.known_to(shared.env.release);
            shared.heard(&peer.node, instance, &have, connection.rtt()).await;
        }
    }
    Ok(())
}

/// Takes what was pushed. What comes from another region came to this node alone: it is passed on.
async fn take_push(shared: &Shared, peer: &Peer, records: Vec<Bytes>) {
    let is_far = shared.region.as_ref() != Some(&peer.region);
    let is_relay = is_far && !shared.mesh().tiers.near().is_empty();
    let passed_on = if is_relay { records.clone() } else { Vec::new() };
    let Some(applied) = apply(shared, peer, records).await else { return };
    // What is known already the others have had from somebody else; what is bad stays here.
    if applied.new + applied.waiting > 0 && applied.quarantined == 0 && !passed_on.is_empty() {
        shared.pass_on(&passed_on);
    }
    // Whoever pushed waits for the word, whether or not it would be told otherwise.
    peer.outbox.want_have();
}

/// Hands records to the store; none where it took nothing.
pub(super) async fn apply(shared: &Shared, peer: &Peer, records: Vec<Bytes>) -> Option<Applied> {
    let received = records.len() as u64;
    shared.count(|stats| stats.records_received += received);
    match shared.replica.apply(peer.node.clone(), records).await {
        Ok(applied) => {
            shared.count(|stats| {
                stats.records_new += applied.new as u64;
                stats.records_duplicate += applied.duplicate as u64;
                stats.records_waiting += applied.waiting as u64;
                stats.records_quarantined += applied.quarantined as u64;
            });
            if applied.quarantined > 0 {
                let count = applied.quarantined;
                tracing::warn!(peer = %peer.node, count, "quarantined changes");
            }
            if applied.new > 0 {
                shared.advanced();
            }
            Some(applied)
        }
        Err(error) => {
            shared.count(|stats| stats.applies_failed += 1);
            tracing::warn!(peer = %peer.node, %error, "changes were not applied");
            // They come again by anti-entropy; until then the peer is slowed down.
            sleep(APPLY_PAUSE).await;
            None
        }
    }
}

/// Serves a two-way stream. Its first frame says what it is for.
async fn talk(
    shared: Arc<Shared>,
    peer: Arc<Peer>,
    pulls: Arc<Semaphore>,
    send: SendStream,
    receive: RecvStream,
) -> Result<(), FrameError> {
    let mut reader = FrameReader::new(receive, PULL_LEN_MAX);
    let Ok(opening) = timeout(HELLO_TIMEOUT, reader.message()).await else { return Ok(()) };
    match opening? {
        Opening::Tag(tag) => streams::serve(&shared, &peer, &tag, send, reader).await,
        Opening::Pull(pull) => {
            let _place = pulls.try_acquire().map_err(|_| too_many())?;
            answer(&shared, &peer, send, pull).await?;
        }
    }
    Ok(())
}

/// Answers one pull.
async fn answer(
    shared: &Shared,
    peer: &Peer,
    mut send: SendStream,
    pull: Pull,
) -> Result<(), FrameError> {
    let Ok(_permit) = shared.answers.acquire().await else { return Ok(()) };
    let missing = match shared.replica.missing(pull.vector, ANSWER_BYTES).await {
        Ok(missing) => missing,
        Err(error) => {
            tracing::warn!(%error, "could not read what a peer lacks");
            return Ok(());
        }
    };
    let batches = Records::split(missing.records).into_iter().map(Answer::Batch);
    let mut frames: Vec<Answer> = batches.collect();
    frames.push(match missing.documents {
        Some(need) if pull.takes_documents == Some(true) => {
            Answer::Documents(need == Need::Trimmed)
        }
        Some(Need::Trimmed) => {
            tracing::warn!(peer = %peer.node, "a peer lacks what is gone from the log, and its program takes no whole documents");
            Answer::Done(missing.more)
        }
        _ => Answer::Done(missing.more),
    });
    for frame in frames {
        let written = timeout(ANSWER_TIMEOUT, frame::write(&mut send, &frame)).await;
        let Ok(written) = written else { return Ok(()) };
        written?;
    }
    let _ = send.finish();
    shared.count(|stats| stats.pulls_answered += 1);
    Ok(())
}
