//! Where clients run: a runtime beside the nodes', in the same virtual time. A client is a future;
//! it reaches nodes over byte streams, as over TCP within a region.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::runtime::Stepped;
use crate::model::NodeName;
use crate::simulation::clock::Timeline;
use crate::simulation::network::Doors;
use crate::simulation::pipe::{Exchange, Stream};

/// Where client futures are spawned and connect from. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Clients {
    handle: Handle,
    timeline: Timeline,
    doors: Doors,
    exchange: Exchange,
    names: Arc<[NodeName]>,
}

/// The runtime of all clients.
pub(super) struct ClientRuntime {
    runtime: Stepped,
    timeline: Timeline,
}

impl ClientRuntime {
    pub(super) fn new(seed: u64) -> std::io::Result<Self> {
        Ok(Self { runtime: Stepped::new(seed)?, timeline: Timeline::default() })
    }

    pub(super) fn clients(
        &self,
        doors: Doors,
        exchange: Exchange,
        names: Arc<[NodeName]>,
    ) -> Clients {
        let (handle, timeline) = (self.runtime.handle().clone(), self.timeline.clone());
        Clients { handle, timeline, doors, exchange, names }
    }

    /// Runs until `end_us`.
    pub(super) fn step(&self, end_us: u64) {
        self.timeline.enter(self.runtime.began(), 0);
        self.runtime.step(Duration::ZERO, Duration::from_micros(end_us));
        self.timeline.leave(end_us);
    }
}

impl Clients {
    /// Runs `client` in virtual time from the next window on. Use `tokio::time` in it, for waiting
    /// and for deadlines, and [`Clients::now_us`] for what time it is.
    pub(crate) fn spawn<F>(&self, client: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.handle.spawn(client)
    }

    /// Microseconds since the start of the run.
    pub(crate) fn now_us(&self) -> u64 {
        self.timeline.now_us()
    }

    /// A connection to the HTTP listener of `node`; none where it is refused. Each way takes up to
    /// one window.
    pub(crate) fn connect(&self, node: &NodeName, from: SocketAddr) -> Option<Stream> {
        let number = self.names.iter().position(|name| name == node)?;
        self.doors.connect(&self.exchange, number, from)
    }
}
