//! The state as a whole: its rows in frames of a bounded size. The receiver puts them together in
//! memory, where the state lives anyway, and hands it to consensus only when it is complete.

use std::time::Duration;

use openraft::errors::StreamingError;
use openraft::raft::SnapshotResponse;
use tokio::time::{Instant, timeout};

use super::message::{Installed, Opening, Piece, Rows, SnapshotHead};
use super::{Link, failed, rpc_error};
use crate::gossip::{PeerStream, StreamKind};
use crate::model::cbor;
use crate::quorum::types::{Coded, Snapshot, SnapshotMeta, TypeConfig, Vote};
use crate::registry::State;
use crate::transport::frame::{self, FrameError};

/// A frame is closed when its rows have this many bytes.
const PIECE_BYTES: usize = 256 * 1024;
/// Largest state that is taken, in bytes of its rows.
const STATE_BYTES_MAX: usize = 2 * 1024 * 1024 * 1024;
/// How long a piece may take on its way.
const PIECE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the receiver may take to have it on disk.
const INSTALL_TIMEOUT: Duration = Duration::from_secs(60);

/// A snapshot as it arrived.
pub(super) struct Received {
    pub(super) vote: Vote,
    pub(super) meta: SnapshotMeta,
    pub(super) state: State,
}

/// Why a snapshot was not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReceiveError {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Row(#[from] crate::registry::state::RowError),
    #[error("the snapshot stalled")]
    Stalled,
    #[error("the state is larger than {STATE_BYTES_MAX} bytes")]
    TooLarge,
    #[error("rows are missing")]
    Incomplete,
}

/// The frames of a state.
fn pieces(state: &State) -> Vec<Vec<u8>> {
    let mut pieces = Vec::new();
    let mut rows = Rows::default();
    let (mut bytes, mut count) = (0, 0);
    for row in state.rows() {
        bytes += row.key.len() + row.value.as_ref().map_or(0, Vec::len);
        rows.0.push(row);
        count += 1;
        if bytes >= PIECE_BYTES || rows.0.len() == 4_096 {
            pieces.push(cbor::encode(&Piece::Rows(std::mem::take(&mut rows))));
            bytes = 0;
        }
    }
    if !rows.0.is_empty() {
        pieces.push(cbor::encode(&Piece::Rows(rows)));
    }
    pieces.push(cbor::encode(&Piece::Done(count)));
    pieces
}

/// Sends a snapshot, and waits until it is on the receiver's disk.
pub(super) async fn send(
    link: &Link,
    vote: Vote,
    snapshot: &Snapshot<State>,
) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
    let gossip = link.gossip().map_err(StreamingError::from)?;
    let deadline = Instant::now() + PIECE_TIMEOUT;
    let opened = gossip.open(&link.node, StreamKind::QuorumSnapshot, deadline).await;
    let mut stream = opened.map_err(|error| rpc_error(&error))?;
    let head = SnapshotHead { vote: Coded(vote), meta: Coded(snapshot.meta.clone()) };
    let mut frames = vec![cbor::encode(&Opening { to: link.to }), cbor::encode(&head)];
    frames.extend(pieces(&snapshot.snapshot));
    tracing::info!(to = %link.node, frames = frames.len(), "sends the quorum's state");
    for bytes in frames {
        let sent = timeout(PIECE_TIMEOUT, frame::write_bytes(&mut stream.send, &bytes)).await;
        sent.map_err(|_| failed("the snapshot stalled"))?.map_err(failed)?;
    }
    let answer = timeout(INSTALL_TIMEOUT, stream.frames.message()).await;
    match answer.map_err(|_| failed("no answer in time"))?.map_err(failed)? {
        Installed::Vote(Coded(vote)) => Ok(SnapshotResponse::new(vote)),
        Installed::Failed(why) => Err(super::unreachable(why).into()),
    }
}

/// Receives a snapshot, behind the opening.
pub(super) async fn receive(stream: &mut PeerStream) -> Result<Received, ReceiveError> {
    let stalled = |_| ReceiveError::Stalled;
    let head = timeout(PIECE_TIMEOUT, stream.frames.message::<SnapshotHead>());
    let SnapshotHead { vote: Coded(vote), meta: Coded(meta) } = head.await.map_err(stalled)??;
    let mut state = State::default();
    let (mut bytes, mut count) = (0, 0);
    loop {
        match timeout(PIECE_TIMEOUT, stream.frames.message()).await.map_err(stalled)?? {
            Piece::Rows(rows) => {
                for row in &rows.0 {
                    bytes += row.key.len() + row.value.as_ref().map_or(0, Vec::len);
                    state.insert(row)?;
                }
                count += rows.0.len() as u64;
                if bytes > STATE_BYTES_MAX {
                    return Err(ReceiveError::TooLarge);
                }
            }
            Piece::Done(all) if all == count => break,
            Piece::Done(_) => return Err(ReceiveError::Incomplete),
        }
    }
    state.index = meta.last_log_id.map_or(0, |id| id.index);
    Ok(Received { vote, meta, state })
}
