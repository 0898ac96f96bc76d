//! Who uses the world, and what is seen of it: clients, tokens, random streams, the trace, events.

use std::time::Duration;

use super::{AUDIENCE, World};
use crate::access::mint::{Claims, MintError};
#[cfg(test)]
use crate::env::Stream;
use crate::simulation::clients::Clients;
use crate::simulation::events::NodeEvent;
use crate::simulation::fabric::Seen;
use crate::simulation::trace::{Subject, Trace};

/// Clients and evidence.
impl World {
    /// Where clients run.
    pub(crate) fn clients(&self) -> Clients {
        let names = self.members.iter().map(|member| member.name.clone()).collect();
        self.clients.clients(self.doors.clone(), self.exchange.clone(), names)
    }

    /// A token for `subject` that every node takes and that grants `scope`, from now on for so long.
    pub(crate) fn token(
        &self,
        subject: &str,
        scope: &str,
        valid: Duration,
    ) -> Result<String, MintError> {
        let now = self.unix_secs();
        self.mint.sign(&Claims {
            sub: subject.to_owned(),
            aud: AUDIENCE.to_owned(),
            scope: scope.to_owned(),
            iat: now,
            exp: now + valid.as_secs(),
            ..Claims::default()
        })
    }

    /// A random stream of the run's seed.
    #[cfg(test)]
    pub(crate) fn entropy(&self, purpose: &str) -> Stream {
        self.entropy.stream(&format!("run: {purpose}"))
    }

    /// Adds something to the trace.
    pub(crate) fn note(&self, what: &str, bytes: &str) {
        self.trace.add(Subject::World, &[self.now_us], what.as_bytes());
        self.trace.add(Subject::World, &[], bytes.as_bytes());
    }

    /// The trace, for records of the history and whatever else makes the run what it is.
    pub(crate) fn trace(&self) -> &Trace {
        &self.trace
    }

    /// The hash of everything that happened so far.
    pub(crate) fn trace_hash(&self) -> String {
        self.trace.so_far()
    }

    /// What nodes logged since the last call, from `info` up; see also [`record_panics`].
    ///
    /// [`record_panics`]: super::events::record_panics
    pub(crate) fn take_events(&mut self) -> Vec<NodeEvent> {
        self.events.take()
    }

    /// From now on, datagrams between nodes are looked through for these bytes. False where they are
    /// too few (less than 8) to mean anything.
    pub(crate) fn look_for(&mut self, needle: &[u8]) -> bool {
        self.fabric.look_for(needle)
    }

    /// What was seen of that since the last call.
    pub(crate) fn take_seen(&mut self) -> Vec<Seen> {
        self.fabric.take_seen()
    }
}
