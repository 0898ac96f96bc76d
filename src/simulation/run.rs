//! A scenario, run from a seed: the world is made and founded, clients work, things break, all is
//! healed, and everything is asked once more. What comes of it is a history.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::Method;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::events::{PANIC, record_panics};
use super::history::{
    Answer, Call, End, Event, FORMAT, Finding, Outcome, Record, Request, Run, RunDelay, RunNode,
    Sent,
};
use super::injector::{Injector, Step};
use super::last;
use super::probe::probe;
use super::recorder::Recorder;
use super::scenario::{FaultKind, SETTLE_MORE, Scenario, TimedFault};
use super::wire;
use super::workload::{Account, Parts, Site, operate};
use super::world::{HttpClient, World, WorldError, request};
use crate::model::{NodeName, RegionName};
use crate::quorum::first_voters;
use crate::settings::{Settings, SettingsError};

/// How long founding and preparing may take, in virtual time.
const PREPARE_US_MAX: u64 = 60_000_000;
/// How often nodes are asked how they stand.
const PROBE_EVERY: Duration = Duration::from_millis(500);
/// Accounts that are made for a run that uses any.
const ACCOUNTS: usize = 3;
/// How long clients' tokens last: longer than any run, and than any clock is stepped.
const TOKEN_TTL: Duration = Duration::from_secs(365 * 24 * 3_600);
/// What an island goes on for after its last contact, besides a token's own time.
const REVOCATION_ON_ISLAND: Duration = Duration::from_secs(24 * 3_600 + 15 * 60 + 30);
/// What the role that clients write has at first.
const ROLE_VALUE: &str = "r0";
/// More milliseconds than this, of doing nothing but poll its tasks, and a node spins.
const SPIN_MS_MAX: u64 = 200;
/// Kept between the last write and the end of settling.
const MARGIN: Duration = Duration::from_secs(1);

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
    let canary = format!("canary-{:016x}-", options.seed ^ 0x5eed_cafe_f00d_d00d);
    world.look_for(canary.as_bytes());
    let token = world
        .token(
            "simulator",
            "config:* secrets:* access:read access:manage audit:read cluster:read cluster:manage",
            TOKEN_TTL,
        )
        .map_err(WorldError::from)?;
    let mut play = Play {
        duration: options.until.map_or(scenario.duration, |until| until.min(scenario.duration)),
        scenario,
        options,
        recorder,
        token,
        canary,
        base_us: 0,
        failures: BTreeMap::new(),
        spinning: BTreeSet::new(),
        queue_bytes_max: 0,
    };
    let accounts = play.prepare(&mut world)?;
    play.perform(&mut world, accounts)?;
    Ok(play.recorder.close())
}

struct Play<'a> {
    scenario: &'a Scenario,
    options: &'a Options,
    duration: Duration,
    recorder: Recorder,
    token: String,
    canary: String,
    /// When the run's own time begins.
    base_us: u64,
    /// Why nodes went down by themselves, as far as it is recorded.
    failures: BTreeMap<NodeName, String>,
    /// Nodes that were found doing nothing but poll their tasks.
    spinning: BTreeSet<NodeName>,
    queue_bytes_max: u64,
}

impl From<WorldError> for RunError {
    fn from(error: WorldError) -> Self {
        Self::World(error.to_string())
    }
}

impl Play<'_> {
    fn end(&self) -> Duration {
        self.duration + self.scenario.settle
    }

    fn nodes(&self) -> Vec<NodeName> {
        self.scenario.topology.nodes().iter().map(|node| node.name.clone()).collect()
    }

    fn is_lost(&self, node: &NodeName) -> bool {
        let region = self.scenario.topology.region_of(node);
        region.is_some_and(|region| self.scenario.expect.lost_regions.contains(region))
    }

    /// Starts everything, and waits until it is founded and what clients need is made.
    fn prepare(&mut self, world: &mut World) -> Result<Vec<Account>, RunError> {
        let nodes = self.nodes();
        nodes.iter().for_each(|node| world.start(node));
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
        let (clients, token, told) = (world.clients(), self.token.clone(), made.clone());
        let count = if self.uses_accounts() { ACCOUNTS } else { 0 };
        let first = nodes[0].clone();
        world.clients().spawn(async move {
            let mut http = HttpClient::new(&clients, u32::MAX);
            let done = make(&mut http, &first, &token, count).await;
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

    fn uses_accounts(&self) -> bool {
        let workload = &self.scenario.workload;
        let revokes = self.scenario.faults.iter().any(|it| it.fault == FaultKind::Revoke);
        workload.revocations > 0.0 || workload.account_requests > 0.0 || revokes
    }

    /// The regions whose clients work.
    fn regions(&self) -> BTreeMap<RegionName, Vec<NodeName>> {
        let topology = &self.scenario.topology;
        let only = &self.scenario.workload.regions;
        let wanted = |region: &RegionName| only.is_empty() || only.contains(region);
        let mut regions: BTreeMap<RegionName, Vec<NodeName>> = BTreeMap::new();
        for node in topology.nodes().iter().filter(|node| wanted(&node.region)) {
            regions.entry(node.region.clone()).or_default().push(node.name.clone());
        }
        regions
    }

    fn site(&self, world: &World, accounts: Vec<Account>, stop: watch::Receiver<bool>) -> Site {
        Site::new(Parts {
            clients: world.clients(),
            recorder: self.recorder.clone(),
            workload: self.scenario.workload.clone(),
            regions: self.regions(),
            token: self.token.clone(),
            canary: self.canary.clone(),
            seed: self.options.seed,
            accounts,
            stop,
        })
    }

    fn perform(&mut self, world: &mut World, accounts: Vec<Account>) -> Result<(), RunError> {
        self.base_us = world.now_us();
        self.recorder.begin(self.base_us);
        let faults = match &self.options.faults {
            Some(faults) => faults.clone(),
            None => self.scenario.faults_of_seed(self.options.seed),
        };
        self.recorder.add(self.base_us, Event::Run(self.description()));
        self.record_role();
        let (stop, stopped) = watch::channel(false);
        let site = self.site(world, accounts, stopped);
        site.start();
        let mut injector = Injector::new(faults, self.recorder.clone(), self.options.seed);
        let mut steps = injector.timeline(self.duration).into_iter().peekable();
        let mut probe_at = Duration::ZERO;
        while probe_at <= self.duration {
            while let Some((at, step, number)) = steps.next_if(|(at, ..)| *at <= probe_at) {
                self.run_until(world, at);
                injector.act(step, number, world)?;
                if step == Step::Begin {
                    operate::start(&site, injector.fault(number));
                }
            }
            self.run_until(world, probe_at);
            self.probe(world);
            probe_at += PROBE_EVERY;
        }
        self.run_until(world, self.duration);
        for (_, step, number) in
            steps.filter(|(at, step, _)| *at <= self.duration && *step == Step::End)
        {
            injector.act(step, number, world)?;
        }
        stop.send_replace(true);
        self.settle(world, &site)?;
        Ok(())
    }

    /// The role that was made before the run, for whoever reads it.
    fn record_role(&self) {
        let Some(node) = self.scenario.topology.nodes().first() else { return };
        let op = self.recorder.next_call();
        let call = Call {
            op,
            client: 0,
            node: node.name.to_string(),
            region: node.region.to_string(),
            has_session: false,
            account: None,
            idempotency_key: None,
            request: Request::RoleWrite { name: "team".to_owned(), value: ROLE_VALUE.to_owned() },
        };
        let value = Some(ROLE_VALUE.to_owned());
        let outcome = Outcome::Value { value, version: 1, staleness_ms: None };
        self.recorder.add(self.base_us, Event::Call(call));
        self.recorder.add(self.base_us, Event::Answer(Answer { op, outcome }));
    }

    /// Lets the healed cluster go on, sees that everything works, and asks everybody for everything.
    fn settle(&mut self, world: &mut World, site: &Site) -> Result<(), RunError> {
        // A node that its disk ended is started again, as its supervisor would.
        for node in self.nodes().iter().filter(|node| !self.is_lost(node)) {
            world.start(node);
        }
        let (stop, stopped) = watch::channel(false);
        // Readers of scenarios see to it that there is as much.
        let until_agreed = self.scenario.expect.converge_within + SETTLE_MORE;
        let writes_for = self.scenario.settle.saturating_sub(until_agreed);
        operate::start_wave(&site.again(stopped), writes_for.max(2 * MARGIN));
        let mut at = self.duration;
        while at + MARGIN < self.end() {
            at += PROBE_EVERY / 2;
            self.run_until(world, at);
            self.probe(world);
        }
        stop.send_replace(true);
        self.run_until(world, self.end());
        self.probe(world);
        self.lasts(world);
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
        self.recorder.add(world.now_us(), Event::End(end));
        Ok(())
    }

    fn run_until(&self, world: &mut World, at: Duration) {
        world.run_until(self.base_us + micros(at));
    }

    /// Records how every node stands, and whether one went down by itself.
    fn probe(&mut self, world: &mut World) {
        let now_us = world.now_us();
        for node in self.nodes() {
            let mut found = world.look(&node, probe).unwrap_or_default();
            found.node = node.to_string();
            found.up = world.is_up(&node);
            found.sent_to = sent_to(world, &node);
            found.sent_bytes = found.sent_to.values().map(|sent| sent.bytes).sum();
            self.queue_bytes_max = self.queue_bytes_max.max(found.queue_bytes);
            self.recorder.add(now_us, Event::Probe(found));
            if world.busy_ms(&node) > SPIN_MS_MAX && self.spinning.insert(node.clone()) {
                let finding = Finding {
                    kind: "spin".to_owned(),
                    node: node.to_string(),
                    what: "it keeps a processor busy and comes to no rest".to_owned(),
                    expected: false,
                };
                self.recorder.add(now_us, Event::Finding(finding));
            }
            if let Some(why) = world.failure(&node)
                && self.failures.get(&node).map(String::as_str) != Some(why)
            {
                self.failures.insert(node.clone(), why.to_owned());
                let expected = self.is_disk_broken(&node);
                let finding = Finding {
                    kind: "store".to_owned(),
                    node: node.to_string(),
                    what: why.to_owned(),
                    expected,
                };
                self.recorder.add(now_us, Event::Finding(finding));
            }
        }
        self.findings(world);
    }

    /// What nodes logged that nobody may find, or that shows that they found a damage.
    fn findings(&self, world: &mut World) {
        let names = self.nodes();
        for event in world.take_events() {
            let Some(node) = names.get(event.node) else { continue };
            let kind = if event.target == PANIC {
                "panic"
            } else if event.text.contains("set aside") || event.text.contains("a new origin") {
                "damage"
            } else if event.text.contains("ertificate") {
                "certificate"
            } else {
                continue;
            };
            let finding = Finding {
                kind: kind.to_owned(),
                node: node.to_string(),
                what: event.text,
                expected: kind != "panic",
            };
            self.recorder.add(event.at_us, Event::Finding(finding));
        }
    }

    /// Whether the scenario has a fault of this node's disk.
    fn is_disk_broken(&self, node: &NodeName) -> bool {
        self.scenario.faults.iter().any(|timed| {
            let kind = timed.fault.kind_name();
            timed.fault.nodes().contains(&node)
                && ["disk_full", "disk_error", "lying_fsync", "old_copy", "wipe"].contains(&kind)
        })
    }

    /// Asks every node for everything it shows.
    fn lasts(&self, world: &mut World) {
        let asked: Vec<NodeName> =
            self.nodes().into_iter().filter(|node| world.is_up(node)).collect();
        let (clients, token, recorder) =
            (world.clients(), self.token.clone(), self.recorder.clone());
        let (done, is_done) = watch::channel(false);
        world.clients().spawn(async move {
            let mut http = HttpClient::new(&clients, u32::MAX - 1);
            for node in asked {
                let event = match last::last(&mut http, &node, &token).await {
                    Ok(last) => Event::Final(last),
                    Err(error) => Event::Finding(Finding {
                        kind: "silent".to_owned(),
                        node: node.to_string(),
                        what: format!("at the end it does not say what it has: {error}"),
                        expected: false,
                    }),
                };
                recorder.add(clients.now_us(), event);
            }
            done.send_replace(true);
        });
        let give_up_us = world.now_us() + PREPARE_US_MAX;
        while !*is_done.borrow() && world.now_us() < give_up_us {
            world.run_until(world.now_us() + 10_000);
        }
    }

    /// No secret's value may be in a datagram or a file.
    fn look_for_plaintext(&self, world: &mut World) {
        let nodes = self.nodes();
        let mut findings: Vec<(String, String)> = world
            .take_seen()
            .into_iter()
            .map(|seen| (nodes[seen.from].to_string(), "in a datagram".to_owned()))
            .collect();
        for node in &nodes {
            let files = world.disk(node).map(|disk| disk.files_with(self.canary.as_bytes()));
            for file in files.unwrap_or_default() {
                findings.push((node.to_string(), format!("in {file}")));
            }
        }
        for (node, place) in findings {
            let what = format!("a secret's value stands {place}");
            let finding = Finding { kind: "plaintext".to_owned(), node, what, expected: false };
            self.recorder.add(world.now_us(), Event::Finding(finding));
        }
    }

    fn description(&self) -> Run {
        let (scenario, topology) = (self.scenario, &self.scenario.topology);
        let voters: BTreeSet<NodeName> =
            first_voters(topology).into_iter().map(|node| node.name.clone()).collect();
        let nodes = topology.nodes().iter().map(|node| RunNode {
            node: node.name.to_string(),
            region: node.region.to_string(),
            voter: voters.contains(&node.name),
        });
        let regions = topology.regions();
        let pairs = regions.iter().enumerate().flat_map(|(i, a)| {
            regions.iter().skip(i + 1).map(move |b| (a.name.clone(), b.name.clone()))
        });
        let delays = pairs.map(|(a, b)| RunDelay {
            one_way_us: micros(topology.rtt(&a, &b)) / 2,
            a: a.to_string(),
            b: b.to_string(),
        });
        let mut options = Vec::new();
        if let Some(until) = self.options.until {
            options.push(format!("--until {}ms", until.as_millis()));
        }
        if self.options.faults.is_some() {
            options.push("shrunk".to_owned());
        }
        Run {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            scenario: scenario.name.clone(),
            claim: scenario.claim.clone(),
            scenario_hash: scenario.hash.clone(),
            seed: self.options.seed,
            options,
            again: self.options.again.clone(),
            nodes: nodes.collect(),
            delays: delays.collect(),
            faults_end_us: micros(self.duration),
            end_us: micros(self.end()),
            converge_within_us: micros(scenario.expect.converge_within),
            lost_regions: scenario.expect.lost_regions.iter().map(ToString::to_string).collect(),
            revocation_within_us: micros(scenario.expect.revocation_within),
            revocation_within_on_island_us: micros(REVOCATION_ON_ISLAND),
            void_nodes: scenario.expect.void_nodes.iter().map(ToString::to_string).collect(),
            coverage: scenario.expect.coverage.clone(),
            checks: scenario.expect.checks.clone(),
        }
    }
}

/// What came of making accounts, once it is known.
type Made = Arc<Mutex<Option<Result<Vec<Account>, String>>>>;

/// Makes the role and the accounts that clients use.
async fn make(
    http: &mut HttpClient,
    node: &NodeName,
    token: &str,
    accounts: usize,
) -> Result<Vec<Account>, String> {
    let role = json!({ "name": "team", "grants": [wire::grant(ROLE_VALUE)] });
    ask(http, node, token, "/roles", &role).await?;
    let mut made = Vec::new();
    for number in 0..accounts {
        let name = format!("account-{number}");
        let asked = json!({ "name": name, "roles": ["developer"], "credential": true });
        let body = ask(http, node, token, "/accounts", &asked).await?;
        let client_secret = body["client_secret"].as_str().unwrap_or_default().to_owned();
        made.push(Account { name, client_secret });
    }
    Ok(made)
}

async fn ask(
    http: &mut HttpClient,
    node: &NodeName,
    token: &str,
    path: &str,
    body: &Value,
) -> Result<Value, String> {
    let failed = |error: &dyn std::fmt::Display| format!("{path} at {node}: {error}");
    let mut last = String::new();
    for _ in 0..5 {
        let asked = request(Method::POST, path, token, Some(body.to_string()));
        let asked = asked.map_err(|e| failed(&e))?;
        match http.send(node, asked, Duration::from_secs(10)).await {
            Ok(answer) if answer.status.is_success() => {
                return Ok(serde_json::from_slice(&answer.body).unwrap_or_default());
            }
            Ok(answer) => last = failed(&String::from_utf8_lossy(&answer.body)),
            Err(error) => last = failed(&error),
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    Err(last)
}

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

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
