//! What a new identity of this node, or another set of authorities, does to connections that stand:
//! its own links are dialed anew (`dial`) and the old ones end once what was asked on them has had
//! time to be answered; connections to whom is not believed any more are closed.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use quinn::Connection;
use tokio::time::timeout;

use super::Shared;
use crate::transport::hello::{CLOSE_DONE, CLOSE_REFUSED};

/// How long a connection that was replaced may take to answer what was asked on it: longer than
/// any question waits.
const LINGER: Duration = Duration::from_secs(12);
/// When connections are looked at after a change: first once those that were dialed anew stand and
/// the old ones have ended, then once a handshake that was under way has ended, too.
const LOOKS: [Duration; 2] = [Duration::from_secs(15), Duration::from_secs(15)];

/// Goes on to serve a connection that another one has replaced, for a while.
pub(super) async fn linger(serving: BoxFuture<'static, ()>, connection: Connection) {
    let _ = timeout(LINGER, serving).await;
    connection.close(CLOSE_DONE, b"replaced");
}

/// Closes connections to peers that are not believed any more, after every change of the identity.
pub(super) async fn watch(shared: Arc<Shared>) {
    let mut identities = shared.identities.subscribe();
    while identities.changed().await.is_ok() {
        for pause in LOOKS {
            // Another change starts the waiting anew, for those that came of it.
            if let Ok(Ok(())) = timeout(pause, identities.changed()).await {
                identities.mark_changed();
                break;
            }
            look(&shared);
        }
    }
}

fn look(shared: &Shared) {
    for peer in shared.peers.values() {
        for connection in peer.connections_all() {
            if connection.close_reason().is_none() && !shared.endpoint.trusts(&connection) {
                tracing::warn!(
                    peer = %peer.node,
                    "closed a connection: the peer's certificate is of no authority in ca.pem"
                );
                let why = b"your certificate is of no authority that this node believes";
                connection.close(CLOSE_REFUSED, why);
            }
        }
    }
}
