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

/// Goes on to serve a connection that another one has replaced, for a while: longer than any
/// question waits, and ended before connections are looked at.
pub(super) async fn linger(
    serving: BoxFuture<'static, ()>,
    connection: Connection,
    distrust_after: Duration,
) {
    let _ = timeout(distrust_after * 4 / 5, serving).await;
    connection.close(CLOSE_DONE, b"replaced");
}

/// Closes connections to peers that are not believed any more, after every change of the identity:
/// once what was dialed anew stands, and once more when a handshake that was under way has ended.
pub(super) async fn watch(shared: Arc<Shared>) {
    let mut identities = shared.identities.subscribe();
    while identities.changed().await.is_ok() {
        for _ in 0..2 {
            // Another change starts the waiting anew, for what comes of it.
            let more = timeout(shared.settings.distrust_after, identities.changed()).await;
            if let Ok(Ok(())) = more {
                identities.mark_changed();
                break;
            }
            look(&shared);
        }
    }
}

fn look(shared: &Shared) {
    for peer in shared.mesh().peers.values() {
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
