//! The seams: everything a node takes from outside, so that the real program can also run in a
//! simulation. A node gets its clock, randomness, sockets, files and threads from an [`Env`] and
//! from nowhere else (clippy's `disallowed-methods` holds that line).
//!
//! Two things have no field here. Monotonic time is `tokio::time`, which a simulation pauses.
//! Events go through `tracing`: they carry fields and no time of day; whoever subscribes (`main`'s
//! log writer, a simulation's recorder) adds the time it believes in.

use std::io;
use std::path::Path;
use std::sync::Arc;

pub mod blocking;
pub mod clock;
pub mod disk;
pub mod entropy;
pub mod fetch;
pub mod links;
pub mod memory_disk;
pub(crate) mod names;
pub mod net;
pub mod release;
pub(crate) mod roots;

pub use blocking::{Blocking, wait_here};
pub use clock::{ManualClock, SystemClock, WallClock};
pub use disk::{Backend, Disk, FileDisk};
pub use entropy::{Entropy, Stream};
pub use fetch::Fetch;
pub use links::{Link, Links};
pub use memory_disk::{CrashMode, MemoryDisk};
pub use names::LookupError;
pub use net::{HttpListener, Io, Network, Service, SystemNetwork};
pub use release::Release;

/// One node's surroundings. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct Env {
    /// UDP sockets for QUIC, listeners for HTTP, host names.
    pub net: Arc<dyn Network>,
    /// The time of day: for stamps, certificates and expiry, never for waiting.
    pub clock: Arc<dyn WallClock>,
    /// Randomness, one stream a purpose.
    pub entropy: Entropy,
    /// The node's own directory: databases and small files.
    pub disk: Arc<dyn Disk>,
    /// Where work that blocks is done.
    pub blocking: Blocking,
    /// Which release it shows itself as to others.
    pub release: Release,
}

impl Env {
    /// The real surroundings of a process, with its files in `data_dir`. Where `links` are given,
    /// outgoing datagrams are held for the link's delay (a cluster on one machine).
    pub fn system(data_dir: &Path, links: Option<Links>) -> io::Result<Self> {
        Ok(Self {
            net: Arc::new(SystemNetwork::new(links)),
            clock: Arc::new(SystemClock),
            entropy: Entropy::system(),
            disk: Arc::new(FileDisk::open(data_dir)?),
            blocking: Blocking::Threads,
            release: Release::Current,
        })
    }

    /// Real sockets and clock, with files in memory: for tests that look at a store from outside.
    pub fn in_memory(disk: MemoryDisk, links: Option<Links>) -> Self {
        Self {
            net: Arc::new(SystemNetwork::new(links)),
            clock: Arc::new(SystemClock),
            entropy: Entropy::system(),
            disk: Arc::new(disk),
            blocking: Blocking::Threads,
            release: Release::Current,
        }
    }
}
