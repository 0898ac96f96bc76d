//! Where a drill's clients run: on this machine, over TCP to the nodes, in real time. No fault of a
//! link touches them, as a region's own network goes on.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::{Drill, DrillError};
use crate::model::NodeName;
use crate::simulation::clients::{ByteStream, Clients, Connecting, Ground};

struct Land {
    handle: Handle,
    began: Instant,
    addrs: BTreeMap<NodeName, SocketAddr>,
}

impl Ground for Land {
    fn handle(&self) -> &Handle {
        &self.handle
    }

    fn now_us(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn connect<'a>(&'a self, node: &'a NodeName, _from: SocketAddr) -> Connecting<'a> {
        Box::pin(async move {
            let stream = TcpStream::connect(self.addrs.get(node)?).await.ok()?;
            stream.set_nodelay(true).ok()?;
            Some(Box::new(stream) as Box<dyn ByteStream>)
        })
    }
}

impl Drill {
    /// Where clients run, and whose time begins now. Called inside a tokio runtime, which is theirs.
    pub(crate) fn clients(&self) -> Result<Clients, DrillError> {
        let nodes = self.nodes.iter().map(|node| &node.name);
        let addrs = nodes.map(|node| Ok((node.clone(), self.http_addr(node)?)));
        let addrs = addrs.collect::<Result<_, DrillError>>()?;
        Ok(Clients::new(Land { handle: Handle::current(), began: Instant::now(), addrs }))
    }
}
