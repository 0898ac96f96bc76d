//! Limits and times of one node's gossip, which whoever starts it chooses.

use std::time::Duration;

/// Limits and times.
#[derive(Clone, Debug)]
pub struct GossipSettings {
    /// Most bytes that wait for one peer before its queue is dropped.
    pub push_queue_bytes_max: usize,
    /// How long a push may take beyond the link's round trip before what is missing is pulled.
    pub grace: Duration,
    /// How often a peer is told the vector where nothing changes.
    pub heartbeat: Duration,
    /// A connection that left something unanswered for this long, beyond two round trips, gets a
    /// second one dialed beside it.
    pub suspect_after: Duration,
    /// How long after a change of the identity connections are closed to peers that are not believed
    /// any more. Links that were dialed anew have taken over by then, and what was asked on the old
    /// ones is answered.
    pub distrust_after: Duration,
    /// Whether this node's clients have to speak HTTPS; peers are told.
    pub https: bool,
    /// How long nobody may have heard a peer that the file names before it is not waited for.
    pub evict_after: Duration,
}

impl Default for GossipSettings {
    fn default() -> Self {
        Self {
            push_queue_bytes_max: 8 * 1024 * 1024,
            grace: Duration::from_millis(100),
            heartbeat: Duration::from_secs(1),
            suspect_after: Duration::from_millis(500),
            distrust_after: Duration::from_secs(15),
            https: false,
            evict_after: Duration::from_secs(7 * 24 * 3600),
        }
    }
}
