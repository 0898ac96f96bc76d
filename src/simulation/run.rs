//! A scenario, run from a seed: the world is made and founded, clients work, things break, all is
//! healed, and everything is asked once more. What comes of it is a history.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::events::{PANIC, record_panics};
use super::history::{End, Event, Record, Sent, Tally};
use super::http::HttpClient;
use super::injector::Injector;
use super::probe::probe;
use super::recorder::Recorder;
use super::scenario::{Scenario, TimedFault};
use super::schedule::Step;
use super::script::{MARGIN, PROBE_EVERY, SCOPE, Script, canary, lasts, make, micros};
use super::twin::twin;
use super::workload::{Account, Site, operate};
use super::world::{World, WorldError};
use crate::model::NodeName;
use crate::settings::{Settings, SettingsError};

/// How long founding and preparing may take, in virtual time.
const PREPARE_US_MAX: u64 = 60_000_000;
/// How long clients' tokens last: longer than any run, and than any clock is stepped.
const TOKEN_TTL: Duration = Duration::from_secs(365 * 24 * 3_600);
/// More milliseconds than this, of doing nothing but poll its tasks, and a node spins.
const SPIN_MS_MAX: u64 = 200;
/// How a scenario is run.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The seed of everything.
    pub seed: u64,
    /// End the workload and the faults here, if that is earlier than the scenario does.
    pub until: Option<Duration>,
    /// These faults instead of those of the scenario and its nemesis: for shrinking.
    pub faults: Option<Vec<TimedFault>>,
    /// How the run is asked for again, on the command line.
    pub again: String,
}

/// Why there was no run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The world cannot be made.
    #[error("{0}")]
    World(String),
    /// The scenario's settings are not good.
    #[error("the scenario's settings: {0}")]
    Settings(#[from] SettingsError),
    /// The cluster was not ready to begin with.
    #[error("the cluster could not be prepared: {0}")]
    Preparation(String),
}

/// Runs `scenario`; gives its history.
pub fn run(scenario: &Scenario, options: &Options) -> Result<Vec<Record>, RunError> {
    record_panics();
    let settings = Settings::from_toml(&scenario.settings)?;
    let mut world = World::new(&scenario.topology, options.seed, settings)?;
    let recorder = Recorder::new(Some(world.trace().clone()));
    world.look_for(canary(options.seed).as_bytes());
    let token = world.token("simulator", SCOPE, TOKEN_TTL).map_err(WorldError::from)?;
    let mut play = Play {
        script: Script::new(scenario, options, recorder, token),
        base_us: 0,
        failures: BTreeMap::new(),
        spinning: BTreeSet::new(),
        queue_bytes_max: 0,
        tally_at: Duration::ZERO,
    };
    let accounts = play.prepare(&mut world)?;
    play.perform(&mut world, accounts)?;
    Ok(play.script.recorder.close())
}

struct Play<'a> {
    script: Script<'a>,
    /// When the run's own time begins.
    base_us: u64,
    /// Why nodes went down by themselves, as far as it is recorded.
    failures: BTreeMap<NodeName, String>,
    /// Nodes that were found doing nothing but poll their tasks.
    spinning: BTreeSet<NodeName>,
    queue_bytes_max: u64,
    /// When nodes are counted through next.
    tally_at: Duration,
}

impl From<WorldError> for RunError {
    fn from(error: WorldError) -> Self {
        Self::World(error.to_string())
    }
}

impl Play<'_> {
    /// Starts everything, and waits until it is founded and what clients need is made.
    fn prepare(&mut self, world: &mut World) -> Result<Vec<Account>, RunError> {
        let first = self.script.first_nodes();
        for (node, release) in &first {
            world.set_release(node, *release);
            world.start(node);
        }
        let nodes: Vec<NodeName> = first.into_iter().map(|(node, _)| node).collect();
        let is_ready = |world: &World| {
            nodes.iter().all(|node| {
                world.is_up(node)
                    && world.look(node, |server| server.node().quorum().state().is_founded())
                        == Some(true)
            })
        };
        while !is_ready(world) {
            if world.now_us() > PREPARE_US_MAX {
                let down: Vec<String> = nodes
                    .iter()
                    .filter(|node| !world.is_up(node))
                    .map(|node| format!("{node}: {}", world.failure(node).unwrap_or("not up")))
                    .collect();
                let why = format!("the quorum is not founded everywhere {}", down.join("; "));
                return Err(RunError::Preparation(why));
            }
            world.run_until(world.now_us() + 100_000);
        }
        let made = Made::default();
        let (clients, token, told) = (world.clients(), self.script.token.clone(), made.clone());
        let count = self.script.accounts();
        let history = self.script.scenario.workload.history;
        let first = nodes[0].clone();
        world.clients().spawn(async move {
            let mut http = HttpClient::new(&clients, u32::MAX);
            let done = make(&mut http, &first, &token, count, history).await;
            *told.lock().unwrap_or_else(PoisonError::into_inner) = Some(done);
        });
        loop {
            if let Some(done) = made.lock().unwrap_or_else(PoisonError::into_inner).take() {
                return done.map_err(RunError::Preparation);
            }
            if world.now_us() > 2 * PREPARE_US_MAX {
                return Err(RunError::Preparation("accounts and roles were not made".into()));
            }
            world.run_until(world.now_us() + 100_000);
        }
    }

    fn perform(&mut self, world: &mut World, accounts: Vec<Account>) -> Result<(), RunError> {
        self.base_us = world.now_us();
        self.script.begin(self.base_us);
        let schedule = self.script.schedule();
        let (stop, stopped) = watch::channel(false);
        let site = self.script.site(world.clients(), accounts, stopped);
        site.start();
        let mut injector = Injector::new(&schedule, self.script.options.seed);
        let mut steps = schedule.timeline(self.script.duration).into_iter().peekable();
        let mut probe_at = Duration::ZERO;
        while probe_at <= self.script.duration {
            while let Some((at, step, number)) = steps.next_if(|(at, ..)| *at <= probe_at) {
                self.run_until(world, at);
                injector.act(step, number, world)?;
                if step == Step::Begin {
                    operate::start(&site, schedule.fault(number));
                }
            }
            self.run_until(world, probe_at);
            self.probe(world);
            self.tally_if_due(world, probe_at);
            probe_at += PROBE_EVERY;
        }
        self.run_until(world, self.script.duration);
        for (_, step, number) in
            steps.filter(|(at, step, _)| *at <= self.script.duration && *step == Step::End)
        {
            injector.act(step, number, world)?;
        }
        stop.send_replace(true);
        self.settle(world, &site)?;
        Ok(())
    }

    /// Lets the healed cluster go on, sees that everything works, and asks everybody for everything.
    fn settle(&mut self, world: &mut World, site: &Site) -> Result<(), RunError> {
        // A node that its disk ended is started again, as its supervisor would.
        for node in self
            .script
            .nodes()
            .iter()
            .filter(|node| !self.script.is_lost(node) && !self.script.has_left(node))
        {
            world.start(node);
        }
        let (stop, stopped) = watch::channel(false);
        operate::start_wave(&site.again(stopped), self.script.writes_for());
        let mut at = self.script.duration;
        while at + MARGIN < self.script.end() {
            at += PROBE_EVERY / 2;
            self.run_until(world, at);
            self.probe(world);
        }
        stop.send_replace(true);
        self.run_until(world, self.script.end());
        self.probe(world);
        self.tally(world);
        self.lasts(world);
        self.twin(world);
        self.findings(world);
        self.look_for_plaintext(world);
        let links = world.topology().clone();
        let (mut datagrams, mut datagrams_lost) = (0, 0);
        for from in links.regions() {
            for to in links.regions() {
                let counts = world.counts(&from.name, &to.name);
                datagrams += counts.sent;
                datagrams_lost += counts.lost;
            }
        }
        let end = End {
            trace_hash: world.trace_hash(),
            queue_bytes_max: self.queue_bytes_max,
            datagrams,
            datagrams_lost,
        };
        self.script.recorder.add(world.now_us(), Event::End(end));
        Ok(())
    }

    fn run_until(&self, world: &mut World, at: Duration) {
        world.run_until(self.base_us + micros(at));
    }

    /// Records how every node stands, and whether one went down by itself.
    fn probe(&mut self, world: &mut World) {
        let now_us = world.now_us();
        for node in self.script.nodes() {
            let mut found = world.look(&node, probe).unwrap_or_default();
            found.node = node.to_string();
            found.up = world.is_up(&node);
            found.sent_to = sent_to(world, &node);
            found.sent_bytes = found.sent_to.values().map(|sent| sent.bytes).sum();
            self.queue_bytes_max = self.queue_bytes_max.max(found.queue_bytes);
            self.script.recorder.add(now_us, Event::Probe(found));
            if world.busy_ms(&node) > SPIN_MS_MAX && self.spinning.insert(node.clone()) {
                let what = "it keeps a processor busy and comes to no rest".to_owned();
                self.script.find(now_us, "spin", &node, what, false);
            }
            if let Some(why) = world.failure(&node)
                && self.failures.get(&node).map(String::as_str) != Some(why)
            {
                self.failures.insert(node.clone(), why.to_owned());
                let expected = self.script.is_disk_broken(&node);
                self.script.find(now_us, "store", &node, why.to_owned(), expected);
            }
        }
        self.findings(world);
    }

    /// Counts through what nodes hold on to, where the scenario bounds that and it is time.
    fn tally_if_due(&mut self, world: &mut World, at: Duration) {
        if at >= self.tally_at {
            self.tally_at = at + self.script.scenario.expect.bounds.every;
            self.tally(world);
        }
    }

    fn tally(&self, world: &mut World) {
        if self.script.scenario.expect.bounds.most.is_empty() {
            return;
        }
        for node in self.script.nodes() {
            let tally = world.look(&node, |server| server.node().tally());
            let Some(Ok(counts)) = tally else { continue };
            let counts = counts.into_iter().map(|(name, count)| (name.to_owned(), count));
            let tally = Tally { node: node.to_string(), counts: counts.collect() };
            self.script.recorder.add(world.now_us(), Event::Tally(tally));
        }
    }

    /// What nodes logged that nobody may find, or that shows that they found a damage.
    fn findings(&self, world: &mut World) {
        let names = self.script.nodes();
        for event in world.take_events() {
            let Some(node) = names.get(event.node) else { continue };
            let is_panic = event.target == PANIC;
            self.script.find_in_log(event.at_us, node, is_panic, event.text);
        }
    }

    /// Asks every node for everything it shows.
    fn lasts(&self, world: &mut World) {
        let asked: Vec<NodeName> =
            self.script.nodes().into_iter().filter(|node| world.is_up(node)).collect();
        let (clients, token, recorder) =
            (world.clients(), self.script.token.clone(), self.script.recorder.clone());
        let (done, is_done) = watch::channel(false);
        world.clients().spawn(async move {
            lasts(clients, asked, token, recorder).await;
            done.send_replace(true);
        });
        let give_up_us = world.now_us() + PREPARE_US_MAX;
        while !*is_done.borrow() && world.now_us() < give_up_us {
            world.run_until(world.now_us() + 10_000);
        }
    }

    /// What all changes come to that nodes have.
    fn twin(&self, world: &mut World) {
        let nodes = self.script.nodes();
        let logs = nodes.iter().filter_map(|node| {
            world.look(node, |server| server.node().records()).and_then(Result::ok)
        });
        let twin = twin(logs);
        self.script.recorder.add(world.now_us(), Event::Twin(twin));
    }

    /// No secret's value may be in a datagram or a file.
    fn look_for_plaintext(&self, world: &mut World) {
        let nodes = self.script.nodes();
        let mut findings: Vec<(NodeName, String)> = world
            .take_seen()
            .into_iter()
            .map(|seen| (nodes[seen.from].clone(), "in a datagram".to_owned()))
            .collect();
        for node in &nodes {
            let canary = canary(self.script.options.seed);
            let files = world.disk(node).map(|disk| disk.files_with(canary.as_bytes()));
            for file in files.unwrap_or_default() {
                findings.push((node.clone(), format!("in {file}")));
            }
        }
        for (node, place) in findings {
            let what = format!("a secret's value stands {place}");
            self.script.find(world.now_us(), "plaintext", &node, what, false);
        }
    }
}

/// What came of making accounts, once it is known.
type Made = Arc<Mutex<Option<Result<Vec<Account>, String>>>>;

/// What the node has sent to each other region.
fn sent_to(world: &World, node: &NodeName) -> BTreeMap<String, Sent> {
    let topology = world.topology();
    let own = topology.region_of(node);
    let others = topology.regions().iter().filter(|region| Some(&region.name) != own);
    let sent = others.map(|to| {
        let counts = world.counts_of(node, &to.name);
        let sent = Sent { bytes: counts.bytes, datagrams: counts.sent, lost: counts.lost };
        (to.name.to_string(), sent)
    });
    sent.collect()
}
