//! One node of the world: what survives its crashes (disk, clock, certificate), and while it runs,
//! the runtime that it has for itself.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::task::{JoinError, JoinHandle};

use super::runtime::Stepped;
use crate::env::{Env, MemoryDisk, Release};
use crate::model::{NodeName, RegionName};
use crate::server::{Server, ServerError};
use crate::settings::Settings;
use crate::simulation::clock::{NodeClock, Timeline};
use crate::topology::Topology;
use crate::transport::Identity;

/// One node.
pub(super) struct Member {
    pub(super) name: NodeName,
    pub(super) region: RegionName,
    pub(super) timeline: Timeline,
    pub(super) clock: Arc<NodeClock>,
    pub(super) disk: MemoryDisk,
    pub(super) identity: Arc<Identity>,
    /// Which release its next start is of.
    pub(super) release: Release,
    /// How often it was started.
    pub(super) starts: u64,
    /// Its runtime gets one of so many windows.
    pub(super) slowness: u32,
    pub(super) is_paused: bool,
    pub(super) running: Option<Running>,
    /// Why it went down by itself, the last time it did.
    pub(super) failure: Option<String>,
    /// Whether it is to be started once it has stopped.
    pub(super) is_start_wanted: bool,
}

/// A node's process.
pub(super) struct Running {
    runtime: Stepped,
    /// When it began.
    began_us: u64,
    /// Up to when it has run.
    at_us: u64,
    life: Life,
}

/// Where a process is in its life.
enum Life {
    Starting(JoinHandle<Result<Server, ServerError>>),
    Up(Box<Server>),
    Stopping(JoinHandle<()>),
    /// While it is changed: nobody sees it.
    Between,
}

/// How a node stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NodeState {
    /// No process.
    Down,
    /// It opens its store.
    Starting,
    /// It serves.
    Up,
    /// It stops in order.
    Stopping,
}

/// What a process came to.
pub(super) enum Ended {
    /// It stopped, as it was asked to.
    InOrder,
    /// By itself.
    Failed(String),
}

impl Running {
    /// A process that begins at `now_us`.
    pub(super) fn start(
        seed: u64,
        now_us: u64,
        env: Env,
        settings: Settings,
        topology: Arc<Topology>,
        name: NodeName,
        identity: Arc<Identity>,
    ) -> std::io::Result<Self> {
        let runtime = Stepped::new(seed)?;
        let starting =
            async move { Box::pin(Server::start(env, settings, topology, &name, &identity)).await };
        let starting = runtime.handle().spawn(starting);
        let life = Life::Starting(starting);
        Ok(Self { runtime, began_us: now_us, at_us: now_us, life })
    }

    /// Runs until `end_us`. Time in which it could not run has passed at once, as for a process
    /// that the system did not let run.
    pub(super) fn step(&mut self, now_us: u64, end_us: u64, timeline: &Timeline) {
        timeline.enter(self.runtime.began(), self.began_us);
        let missed = Duration::from_micros(now_us - self.at_us);
        self.runtime.step(missed, Duration::from_micros(end_us - self.began_us));
        timeline.leave(end_us);
        self.at_us = end_us;
    }

    pub(super) fn state(&self) -> NodeState {
        match self.life {
            Life::Starting(_) => NodeState::Starting,
            Life::Up(_) => NodeState::Up,
            Life::Stopping(_) | Life::Between => NodeState::Stopping,
        }
    }

    /// Looks on from within its runtime, so that time is the node's.
    pub(super) fn look<T>(
        &self,
        timeline: &Timeline,
        look: impl FnOnce(&Server) -> T,
    ) -> Option<T> {
        let Life::Up(server) = &self.life else { return None };
        let _entered = self.runtime.enter();
        timeline.enter(self.runtime.began(), self.began_us);
        let seen = std::panic::catch_unwind(AssertUnwindSafe(|| look(server)));
        timeline.leave(self.at_us);
        match seen {
            Ok(seen) => Some(seen),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// Begins to stop in order, where it is up; whether it was.
    pub(super) fn stop(&mut self) -> bool {
        match std::mem::replace(&mut self.life, Life::Between) {
            Life::Up(server) => {
                let stopping = async move { server.shutdown().await };
                self.life = Life::Stopping(self.runtime.handle().spawn(stopping));
                true
            }
            life => {
                self.life = life;
                false
            }
        }
    }

    /// Goes on in its life after a step, if it is time; what it came to, where it has ended.
    pub(super) fn look_after(&mut self) -> Option<Ended> {
        match &mut self.life {
            Life::Starting(starting) if starting.is_finished() => match starting.now_or_never()? {
                Ok(Ok(server)) => {
                    self.life = Life::Up(Box::new(server));
                    None
                }
                Ok(Err(error)) => Some(Ended::Failed(error.to_string())),
                Err(error) => Some(Ended::Failed(what_happened(error))),
            },
            Life::Stopping(stopping) if stopping.is_finished() => {
                Some(match stopping.now_or_never()? {
                    Ok(()) => Ended::InOrder,
                    Err(error) => Ended::Failed(what_happened(error)),
                })
            }
            _ => None,
        }
    }

    /// See [`Stepped::busy_ms`].
    pub(super) fn busy_ms(&self) -> u64 {
        self.runtime.busy_ms()
    }

    /// Whether it cannot go on and would end its process.
    pub(super) fn has_failed(&self) -> bool {
        matches!(&self.life, Life::Up(server) if server.node().has_failed())
    }
}

fn what_happened(error: JoinError) -> String {
    match error.try_into_panic() {
        Err(error) => error.to_string(),
        Ok(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            format!("panicked: {}", text.unwrap_or("without a word"))
        }
    }
}
