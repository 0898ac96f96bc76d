//! Where clients run, what time it is for them, and how they reach nodes: in a world's virtual time
//! over byte streams, or on this machine over TCP. A client itself can't tell which.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::model::NodeName;

/// Bytes to and from a node's HTTP listener.
pub(crate) trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

/// A connection that is being made; none where it is refused.
pub(crate) type Connecting<'a> =
    Pin<Box<dyn Future<Output = Option<Box<dyn ByteStream>>> + Send + 'a>>;

/// What clients stand on.
pub(crate) trait Ground: Send + Sync {
    /// The runtime of all clients.
    fn handle(&self) -> &Handle;

    /// Microseconds since the start of the run.
    fn now_us(&self) -> u64;

    /// Connects to the HTTP listener of `node`. Clients of a world come from the address `from`.
    fn connect<'a>(&'a self, node: &'a NodeName, from: SocketAddr) -> Connecting<'a>;
}

/// Where client futures are spawned and connect from. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Clients(Arc<dyn Ground>);

impl Clients {
    pub(crate) fn new(ground: impl Ground + 'static) -> Self {
        Self(Arc::new(ground))
    }

    /// Runs `client` from now on; in a world, from the next window on. Use `tokio::time` in it, for
    /// waiting and for deadlines, and [`Clients::now_us`] for what time it is.
    pub(crate) fn spawn<F>(&self, client: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.0.handle().spawn(client)
    }

    /// Microseconds since the start of the run.
    pub(crate) fn now_us(&self) -> u64 {
        self.0.now_us()
    }

    /// A connection to the HTTP listener of `node`; none where it is refused.
    pub(crate) async fn connect(
        &self,
        node: &NodeName,
        from: SocketAddr,
    ) -> Option<Box<dyn ByteStream>> {
        self.0.connect(node, from).await
    }
}
