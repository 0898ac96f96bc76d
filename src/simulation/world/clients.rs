//! Where clients run: a runtime beside the nodes', in the same virtual time. A client is a future;
//! it reaches nodes over byte streams, as over TCP within a region.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use super::runtime::Stepped;
use crate::model::NodeName;
use crate::simulation::clients::{ByteStream, Clients, Connecting, Ground};
use crate::simulation::clock::Timeline;
use crate::simulation::network::Doors;
use crate::simulation::pipe::Exchange;

/// What clients of a world stand on.
struct Shore {
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
        Clients::new(Shore { handle, timeline, doors, exchange, names })
    }

    /// Runs until `end_us`.
    pub(super) fn step(&self, end_us: u64) {
        self.timeline.enter(self.runtime.began(), 0);
        self.runtime.step(Duration::ZERO, Duration::from_micros(end_us));
        self.timeline.leave(end_us);
    }
}

impl Ground for Shore {
    fn handle(&self) -> &Handle {
        &self.handle
    }

    fn now_us(&self) -> u64 {
        self.timeline.now_us()
    }

    /// Each way takes up to one window.
    fn connect<'a>(&'a self, node: &'a NodeName, from: SocketAddr) -> Connecting<'a> {
        Box::pin(async move {
            let number = self.names.iter().position(|name| name == node)?;
            let stream = self.doors.connect(&self.exchange, number, from)?;
            Some(Box::new(stream) as Box<dyn ByteStream>)
        })
    }
}
