//! The world that a simulation plays in: real nodes in virtual time. Each has a runtime of its own
//! whose time is paused; all are stepped in turn, a window at a time, and between them there is an
//! in-memory network. The same topology, settings and seed, with the same calls at the same times,
//! give the same run, to the byte. It breaks what it is told to break, and decides nothing.

mod clients;
mod evidence;
mod faults;
mod member;
mod runtime;

use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::clock::{EPOCH_US, NodeClock, Timeline};
use super::events::Events;
use super::fabric::{self, Fabric};
use super::network::{self, Doors, NodeNetwork};
use super::pipe::Exchange;
use super::trace::{Subject, Trace};
use crate::access::mint::{MintError, MintKey};
use crate::env::{Blocking, CrashMode, Entropy, Env, ManualClock, MemoryDisk, Release, Stream};
use crate::model::{NodeName, Stamp};
use crate::server::Server;
use crate::settings::{Algorithm, KeySettings, Scopes, SecretSettings, Settings};
use crate::topology::Topology;
use crate::transport::{Authority, PkiError};

pub(crate) use member::NodeState;

use clients::ClientRuntime;
use member::{Ended, Member, Running};

/// Whom the tokens of [`World::token`] are meant for.
const AUDIENCE: &str = "holm";
/// The shortest window: the resolution of tokio's timers.
const WINDOW_US_MIN: u64 = 1_000;
/// The longest window: how long bytes between a client and its node may take.
const WINDOW_US_MAX: u64 = 5_000;

/// Why there is no world.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WorldError {
    /// The certificates cannot be made.
    #[error("the certificates: {0}")]
    Certificates(#[from] PkiError),
    /// The key that signs the clients' tokens cannot be made.
    #[error("the clients' tokens: {0}")]
    Tokens(#[from] MintError),
    /// A runtime cannot be made.
    #[error("a runtime: {0}")]
    Runtime(#[from] std::io::Error),
}

/// Whether a node's certificate can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Certificate {
    /// It can.
    Valid,
    /// It ran out a day before the start of the run.
    Expired,
}

/// A step on the way to another certificate authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CaStep {
    /// The new one is believed, too.
    Begin,
    /// Certificates of it are given out.
    Issue,
    /// It is the only one that is believed.
    Finish,
}

/// Real nodes in virtual time.
///
/// Time: [`World::run_until`] steps everything, a window at a time; nothing moves otherwise.
/// [`World::now_us`], [`World::unix_secs`].
///
/// Nodes: [`World::start`], [`World::stop`] (in order; takes virtual time), [`World::crash`] (at
/// once), [`World::pause`] and [`World::resume`], [`World::slow`]; [`World::state`],
/// [`World::is_up`], [`World::failure`], [`World::look`], [`World::busy_ms`]; [`World::set_release`] (for
/// the next start).
///
/// Links, by pairs of regions in one direction: [`World::cut`] and [`World::mend`] (counted, so that
/// cuts of several faults may overlap), [`World::set_link`], [`World::hold`] and
/// [`World::release`]; [`World::counts`].
///
/// Disks: [`World::disk`] (on which `fill`, `free`, `fail` and `lie` act at once),
/// [`World::replace_disk`] while the node is down.
///
/// Clocks and certificates: [`World::step_clock`], [`World::drift_clock`],
/// [`World::set_certificate`] (for the next start), [`World::rotate_ca`] (at once).
///
/// Clients: [`World::clients`] is where client futures run; [`crate::simulation::http::HttpClient`] speaks to a node;
/// [`World::token`] makes tokens that every node takes; [`World::entropy`] seeds what clients draw.
///
/// Evidence: [`World::take_events`] gives what nodes logged; [`World::note`] adds to the trace,
/// [`World::trace_hash`] is the hash so far; [`World::look_for`] and [`World::take_seen`] for what may not be on the wire.
pub(crate) struct World {
    topology: Arc<Topology>,
    settings: Settings,
    seed: u64,
    window_us: u64,
    now_us: u64,
    windows: u64,
    members: Vec<Member>,
    fabric: Fabric,
    doors: Doors,
    exchange: Exchange,
    clients: ClientRuntime,
    authority: Authority,
    /// The one that takes its place.
    next_authority: Option<Authority>,
    entropy: Entropy,
    mint: MintKey,
    trace: Trace,
    events: Events,
}

impl World {
    /// A world at time 0, in which nothing runs. The nodes' addresses are the world's own. To
    /// `settings` an issuer is added whose tokens [`World::token`] makes, and two generations of
    /// master keys where there are none.
    pub(crate) fn new(
        topology: &Topology,
        seed: u64,
        mut settings: Settings,
    ) -> Result<Self, WorldError> {
        let mut placed = topology.clone();
        for (number, node) in topology.nodes().iter().enumerate() {
            let (peer, http) = (fabric::address(number), network::http_address(number));
            placed = placed.with_addresses(&node.name, peer.into(), http.into());
        }
        let topology = Arc::new(placed);
        let (trace, entropy) = (Trace::default(), Entropy::seeded(derive(seed, "world", 0, 0)));
        let mint = MintKey::from_seed(&bytes(&mut entropy.stream("tokens")))?;
        trust(&mut settings, &mint, &entropy);
        let authority = Authority::create(&entropy, &start_clock())?;
        let members = topology
            .nodes()
            .iter()
            .map(|node| member(node, &authority, &entropy))
            .collect::<Result<Vec<_>, PkiError>>()?;
        let delay_us = |from: usize, to: usize| {
            let nodes = topology.nodes();
            let rtt = topology.rtt(&nodes[from].region, &nodes[to].region);
            u64::try_from(rtt.as_micros() / 2).unwrap_or(u64::MAX)
        };
        let timelines: Vec<Timeline> = members.iter().map(|it| it.timeline.clone()).collect();
        let fabric = Fabric::new(&timelines, delay_us, &entropy, trace.clone());
        let events = Events::new(timelines, trace.clone());
        Ok(Self {
            window_us: window_us(members.len(), delay_us),
            settings,
            seed,
            now_us: 0,
            windows: 0,
            doors: Doors::new(members.len()),
            members,
            fabric,
            exchange: Exchange::new(trace.clone()),
            clients: ClientRuntime::new(derive(seed, "clients", 0, 0))?,
            authority,
            next_authority: None,
            entropy,
            mint,
            trace,
            events,
            topology,
        })
    }

    /// The topology, with the world's addresses.
    pub(crate) fn topology(&self) -> &Arc<Topology> {
        &self.topology
    }

    /// Microseconds since the start of the run.
    pub(crate) fn now_us(&self) -> u64 {
        self.now_us
    }

    /// What a right clock shows, in seconds since the Unix epoch.
    pub(crate) fn unix_secs(&self) -> u64 {
        (EPOCH_US + self.now_us) / 1_000_000
    }

    /// Steps everything until `at_us`, or up to a window further.
    pub(crate) fn run_until(&mut self, at_us: u64) {
        while self.now_us < at_us {
            self.step();
        }
    }

    fn step(&mut self) {
        let (now_us, end_us) = (self.now_us, self.now_us + self.window_us);
        self.exchange.open_window(now_us);
        self.fabric.open_window(now_us, end_us);
        for (number, member) in self.members.iter_mut().enumerate() {
            let runs = !member.is_paused && self.windows.is_multiple_of(member.slowness.into());
            match &mut member.running {
                Some(running) if runs => {
                    self.events.of(number, || running.step(now_us, end_us, &member.timeline))
                }
                _ => member.timeline.leave(end_us),
            }
        }
        self.clients.step(end_us);
        self.now_us = end_us;
        self.windows += 1;
        for number in 0..self.members.len() {
            self.look_after(number);
        }
    }

    /// Carries a node on in its life.
    fn look_after(&mut self, number: usize) {
        let member = &mut self.members[number];
        let Some(running) = &mut member.running else { return };
        let ended = running.look_after();
        if ended.is_none() && running.has_failed() {
            member.failure = Some("the store's driver ended".to_owned());
            self.begin_stop(number);
            return;
        }
        let Some(ended) = ended else { return };
        let is_start_wanted = std::mem::take(&mut member.is_start_wanted);
        if let Ended::Failed(why) = ended {
            member.failure = Some(why);
        }
        self.end(number, CrashMode::KeepUnsynced);
        if is_start_wanted {
            self.begin(number);
        }
    }
}

/// Nodes.
impl World {
    /// Starts the node, unless it runs. One that is still stopping is started once it has stopped.
    pub(crate) fn start(&mut self, node: &NodeName) {
        let Some(number) = self.number(node) else { return };
        match self.state(node) {
            NodeState::Down => self.begin(number),
            NodeState::Stopping => self.members[number].is_start_wanted = true,
            NodeState::Starting | NodeState::Up => {}
        }
    }

    /// Begins to stop the node in order. It is down when [`World::state`] says so; one that has not
    /// started yet is ended at once.
    pub(crate) fn stop(&mut self, node: &NodeName) {
        let Some(number) = self.number(node) else { return };
        self.note_on(number, "stop");
        self.begin_stop(number);
    }

    /// Ends the node without a word; its disk is left as `mode` says.
    pub(crate) fn crash(&mut self, node: &NodeName, mode: CrashMode) {
        let Some(number) = self.number(node) else { return };
        self.note_on(number, "crash");
        self.end(number, mode);
    }

    /// The node does nothing until it is resumed. For itself no time passes meanwhile; then it is
    /// late at once.
    pub(crate) fn pause(&mut self, node: &NodeName) {
        let Some(number) = self.number(node) else { return };
        self.note_on(number, "pause");
        self.members[number].is_paused = true;
    }

    /// See [`World::pause`].
    pub(crate) fn resume(&mut self, node: &NodeName) {
        let Some(number) = self.number(node) else { return };
        self.note_on(number, "resume");
        self.members[number].is_paused = false;
    }

    /// The node gets one of `factor` windows from now on, and is stopped in the others; 1 is all of
    /// them.
    pub(crate) fn slow(&mut self, node: &NodeName, factor: u32) {
        let Some(number) = self.number(node) else { return };
        self.note_on(number, &format!("slow {factor}"));
        self.members[number].slowness = factor.max(1);
    }

    /// The release that the node shows itself as from its next start on; says whether that is another.
    pub(crate) fn set_release(&mut self, node: &NodeName, release: Release) -> bool {
        let Some(number) = self.number(node) else { return false };
        self.note_on(number, &format!("release {release:?}"));
        std::mem::replace(&mut self.members[number].release, release) != release
    }

    /// How the node stands.
    pub(crate) fn state(&self, node: &NodeName) -> NodeState {
        let running = self.member(node).and_then(|member| member.running.as_ref());
        running.map_or(NodeState::Down, Running::state)
    }

    /// Whether the node serves: it is up, and not paused.
    pub(crate) fn is_up(&self, node: &NodeName) -> bool {
        let is_paused = self.member(node).is_some_and(|member| member.is_paused);
        self.state(node) == NodeState::Up && !is_paused
    }

    /// Why the node went down by itself, the last time it did.
    pub(crate) fn failure(&self, node: &NodeName) -> Option<&str> {
        self.member(node)?.failure.as_deref()
    }

    /// Looks at the running server from within its runtime, where `Instant::now` is the node's own
    /// time. For futures that need no time (reading a history, say) there is `now_or_never`.
    pub(crate) fn look<T>(&self, node: &NodeName, look: impl FnOnce(&Server) -> T) -> Option<T> {
        let member = self.member(node)?;
        member.running.as_ref()?.look(&member.timeline, look)
    }

    /// For how many milliseconds since its start the node did nothing but poll its tasks: work
    /// takes no time here, but for that of a processor that is fully busy. Many of them are a node
    /// that spins.
    pub(crate) fn busy_ms(&self, node: &NodeName) -> u64 {
        self.member(node).and_then(|it| it.running.as_ref()).map_or(0, Running::busy_ms)
    }

    fn begin(&mut self, number: usize) {
        self.note_on(number, "start");
        let member = &mut self.members[number];
        member.starts += 1;
        member.failure = None;
        let seed = |what| derive(self.seed, what, number as u64, member.starts);
        let network =
            NodeNetwork { node: number, fabric: self.fabric.clone(), doors: self.doors.clone() };
        let env = Env {
            net: Arc::new(network),
            clock: member.clock.clone(),
            entropy: Entropy::seeded(seed("node")),
            disk: Arc::new(member.disk.clone()),
            blocking: Blocking::Inline,
            release: member.release,
        };
        // A node that joins knows the file, and itself.
        let mut topology = self.topology.clone();
        if topology.nodes().iter().any(|node| node.joined) {
            let own = topology.node(&member.name).filter(|own| own.joined).cloned();
            let file = (*topology).clone().without_joined();
            topology = Arc::new(own.into_iter().fold(file, Topology::with_node));
        }
        let started = Running::start(
            seed("runtime"),
            self.now_us,
            env,
            self.settings.clone(),
            topology,
            member.name.clone(),
            member.identity.clone(),
        );
        match started {
            Ok(running) => member.running = Some(running),
            Err(error) => member.failure = Some(error.to_string()),
        }
    }

    fn begin_stop(&mut self, number: usize) {
        let Some(running) = &mut self.members[number].running else { return };
        if !running.stop() && running.state() == NodeState::Starting {
            self.end(number, CrashMode::KeepUnsynced);
        }
    }

    /// The process is gone.
    fn end(&mut self, number: usize, mode: CrashMode) {
        let member = &mut self.members[number];
        let Some(running) = member.running.take() else { return };
        (member.is_paused, member.is_start_wanted) = (false, false);
        // Before anything of the process is dropped: a database that is dropped writes.
        member.disk = member.disk.crash(mode);
        self.fabric.unbind(number);
        self.doors.shut(number);
        self.events.of(number, || drop(running));
        self.note_on(number, "ended");
    }
}

impl World {
    fn note_on(&self, number: usize, what: &str) {
        self.trace.add(Subject::World, &[self.now_us, number as u64], what.as_bytes());
    }

    fn number(&self, node: &NodeName) -> Option<usize> {
        self.members.iter().position(|member| member.name == *node)
    }

    fn member(&self, node: &NodeName) -> Option<&Member> {
        self.members.iter().find(|member| member.name == *node)
    }
}

fn member(
    node: &crate::topology::Node,
    authority: &Authority,
    entropy: &Entropy,
) -> Result<Member, PkiError> {
    let timeline = Timeline::default();
    Ok(Member {
        name: node.name.clone(),
        region: node.region.clone(),
        clock: Arc::new(NodeClock::new(timeline.clone())),
        timeline,
        disk: MemoryDisk::new(),
        identity: Arc::new(authority.issue(&node.name, entropy, &start_clock())?),
        release: Release::Current,
        starts: 0,
        slowness: 1,
        is_paused: false,
        running: None,
        failure: None,
        is_start_wanted: false,
    })
}

fn start_clock() -> ManualClock {
    ManualClock::new(Stamp(EPOCH_US))
}

/// Has every node take the tokens of `mint`, and gives it master keys where it has none.
fn trust(settings: &mut Settings, mint: &MintKey, entropy: &Entropy) {
    settings.access.keys.push(KeySettings {
        pem: Some(mint.public_pem()),
        algorithms: vec![Algorithm::EdDSA],
        audience: AUDIENCE.to_owned(),
        scopes: Scopes::Grant,
        ..KeySettings::default()
    });
    if settings.secrets.master_keys.is_empty() {
        let mut rng = entropy.stream("master keys");
        let keys = [1, 2].map(|generation| (generation, bytes(&mut rng)));
        settings.secrets = SecretSettings::given(keys);
    }
}

fn bytes(rng: &mut Stream) -> [u8; 32] {
    use rand::RngCore as _;
    let mut bytes = [0; 32];
    rng.fill_bytes(&mut bytes);
    bytes
}

/// As long as the shortest link, within bounds, in whole milliseconds.
fn window_us(count: usize, delay_us: impl Fn(usize, usize) -> u64) -> u64 {
    let pairs = (0..count).flat_map(|from| (0..from).map(move |to| (from, to)));
    let shortest = pairs.map(|(from, to)| delay_us(from, to)).min().unwrap_or(WINDOW_US_MAX);
    shortest.clamp(WINDOW_US_MIN, WINDOW_US_MAX) / 1_000 * 1_000
}

/// A seed of its own for each purpose.
fn derive(seed: u64, what: &str, number: u64, count: u64) -> u64 {
    let hash = Sha256::new()
        .chain_update(seed.to_be_bytes())
        .chain_update(number.to_be_bytes())
        .chain_update(count.to_be_bytes())
        .chain_update(what)
        .finalize();
    let mut first = [0; 8];
    first.copy_from_slice(&hash[..8]);
    u64::from_be_bytes(first)
}

#[cfg(test)]
mod tests;
