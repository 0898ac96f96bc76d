//! Anti-entropy: asks a peer for exactly what is missing here. One pull at a time, so that two
//! peers don't send the same; who does not answer is passed over for another.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use quinn::Connection;
use tokio::time::{Instant, sleep_until, timeout};

use super::accept::{apply, end_with};
use super::message::{Answer, Pull};
use super::peer::Peer;
use super::state::{Plan, Pulled};
use super::{Advice, Need, Shared};
use crate::planted::{Bug, is_planted};
use crate::transport::frame::{self, FRAME_LEN_MAX, FrameError, FrameReader};

/// How long an answer may make no progress, beyond two round trips.
const PROGRESS_TIMEOUT: Duration = Duration::from_secs(1);

/// Pulls what is missing, for ever.
pub(super) async fn pull(shared: Arc<Shared>) {
    loop {
        let mine = shared.replica.vector();
        let is_reachable =
            |name: &_| shared.peer(name).is_some_and(|peer| peer.connection().is_some());
        let plan = shared.state().plan(&mine, Instant::now(), is_reachable);
        match plan {
            // What is asked for now comes with the documents, or builds on them.
            _ if shared.takes_documents.load(Ordering::Relaxed) => shared.behind.notified().await,
            _ if is_planted(Bug::SkipAntiEntropy) => std::future::pending().await,
            Plan::Idle => shared.behind.notified().await,
            Plan::Wait(until) => tokio::select! {
                biased;
                () = shared.behind.notified() => {}
                () = sleep_until(until) => {}
            },
            Plan::Pull(name) => {
                if let Some(peer) = shared.peer(&name) {
                    let pulled = pull_from(&shared, &peer).await;
                    shared.state().pulled(&name, pulled, Instant::now());
                }
            }
        }
    }
}

async fn pull_from(shared: &Shared, peer: &Peer) -> Pulled {
    let Some(connection) = peer.connection() else { return Pulled::Nothing };
    shared.count(|stats| stats.pulls += 1);
    let before = shared.replica.vector();
    let more = match ask(shared, peer, &connection).await {
        Ok(End::Refused) => None,
        Ok(End::More(more)) => Some(more),
        Ok(End::Documents(need)) => {
            shared.advice.send_replace(Some(Advice { peer: peer.node.clone(), need }));
            (need == Need::Cheaper).then_some(true)
        }
        Err(error) => {
            end_with(shared, peer, &connection, &error);
            tracing::debug!(peer = %peer.node, %error, "a pull failed");
            None
        }
    };
    // Whatever else came while it lasted also counts.
    let has_moved = *shared.replica.vector() != *before;
    match more {
        Some(more) if has_moved => Pulled::Something { more },
        _ => {
            shared.count(|stats| stats.pulls_fruitless += 1);
            Pulled::Nothing
        }
    }
}

/// How an answer ended.
enum End {
    /// The store took nothing of it.
    Refused,
    /// All of it is here; whether the peer has more.
    More(bool),
    /// All of it is here, and the rest comes with whole documents.
    Documents(Need),
}

async fn ask(shared: &Shared, peer: &Peer, connection: &Connection) -> Result<End, FrameError> {
    let lost = |error: quinn::ConnectionError| FrameError::Io(error.into());
    let stalled = |_| FrameError::Io(std::io::ErrorKind::TimedOut.into());
    let patience = PROGRESS_TIMEOUT + 2 * connection.rtt();
    let (mut send, receive) =
        timeout(patience, connection.open_bi()).await.map_err(stalled)?.map_err(lost)?;
    // What is folded here may be in the way there: it is told by name, where the peer names it.
    let theirs = shared.state().seen(&peer.node).map(|seen| seen.vector).unwrap_or_default();
    let vector = shared.replica.vector().told_to(&theirs);
    frame::write(&mut send, &Pull { vector, takes_documents: Some(true) }).await?;
    let _ = send.finish();
    let mut reader = FrameReader::new(receive, FRAME_LEN_MAX);
    loop {
        match timeout(patience, reader.message()).await.map_err(stalled)?? {
            Answer::Done(more) => return Ok(End::More(more)),
            Answer::Documents(true) => return Ok(End::Documents(Need::Trimmed)),
            Answer::Documents(false) => return Ok(End::Documents(Need::Cheaper)),
            Answer::Batch(records) => {
                shared.state().alive(&peer.node, Instant::now());
                if apply(shared, peer, records.0).await.is_none() {
                    return Ok(End::Refused);
                }
            }
        }
    }
}
