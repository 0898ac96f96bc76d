//! What a run is, whether in a simulated world or with real processes: who works where and with what,
//! what is recorded of it, how much time there is. It starts nothing and breaks nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::watch;

use super::clients::Clients;
use super::history::{Answer, Call, Event, Finding, Outcome, Request};
use super::recorder::Recorder;
use super::run::Options;
use super::scenario::{FaultKind, SETTLE_MORE, Scenario, TimedFault};
use super::schedule::Schedule;
use super::workload::{Account, Parts, Site};
use crate::env::Release;
use crate::model::{NodeName, RegionName};

mod description;
mod preparation;

pub(crate) use preparation::{lasts, make};

/// How often nodes are asked how they stand.
pub(crate) const PROBE_EVERY: Duration = Duration::from_millis(500);
/// Kept between the last write and the end of settling.
pub(crate) const MARGIN: Duration = Duration::from_secs(1);
/// What the token that clients use allows.
pub(crate) const SCOPE: &str =
    "config:* secrets:* access:read access:manage audit:read cluster:read cluster:manage";
/// Accounts that are made for a run that uses any.
const ACCOUNTS: usize = 3;
/// What the role that clients write has at first.
const ROLE_VALUE: &str = "r0";

/// What secret values begin with in runs of that seed, so that they can be looked for.
pub(crate) fn canary(seed: u64) -> String {
    format!("canary-{:016x}-", seed ^ 0x5eed_cafe_f00d_d00d)
}

/// One run of a scenario.
pub(crate) struct Script<'a> {
    pub(crate) scenario: &'a Scenario,
    pub(crate) options: &'a Options,
    /// When workload and faults end.
    pub(crate) duration: Duration,
    pub(crate) recorder: Recorder,
    /// Allows everything.
    pub(crate) token: String,
}

impl<'a> Script<'a> {
    pub(crate) fn new(
        scenario: &'a Scenario,
        options: &'a Options,
        recorder: Recorder,
        token: String,
    ) -> Self {
        let duration = options.until.map_or(scenario.duration, |it| it.min(scenario.duration));
        Self { scenario, options, duration, recorder, token }
    }

    /// The faults, on time.
    pub(crate) fn schedule(&self) -> Schedule {
        Schedule::new(self.faults(), self.recorder.clone())
    }

    fn faults(&self) -> Vec<TimedFault> {
        match &self.options.faults {
            Some(faults) => faults.clone(),
            None => self.scenario.faults_of_seed(self.options.seed),
        }
    }

    /// The nodes that found the cluster, or join it before the run begins, and the release of each.
    pub(crate) fn first_nodes(&self) -> Vec<(NodeName, Release)> {
        let at_first: Vec<FaultKind> = self
            .faults()
            .into_iter()
            .filter(|timed| timed.at.is_zero())
            .map(|timed| timed.fault)
            .collect();
        let is_absent = |node: &NodeName| {
            let mut absent = at_first.iter();
            absent.any(|it| matches!(it, FaultKind::Absent { node: it, .. } if it == node))
        };
        let is_previous = |node: &NodeName| {
            let mut previous = at_first.iter();
            previous.any(|it| matches!(it, FaultKind::Previous { nodes } if nodes.contains(node)))
        };
        let nodes = self.nodes().into_iter().filter(|node| !is_absent(node));
        let released = nodes.map(|node| {
            let release = if is_previous(&node) { Release::Previous } else { Release::Current };
            (node, release)
        });
        released.collect()
    }

    /// Whether the node leaves in the run, and does not come back.
    pub(crate) fn has_left(&self, node: &NodeName) -> bool {
        self.faults().iter().any(|timed| {
            let leaves = matches!(&timed.fault, FaultKind::Absent { node: it, .. } if it == node);
            leaves && timed.lasts.is_none()
        })
    }

    pub(crate) fn end(&self) -> Duration {
        self.duration + self.scenario.settle
    }

    pub(crate) fn nodes(&self) -> Vec<NodeName> {
        self.scenario.topology.nodes().iter().map(|node| node.name.clone()).collect()
    }

    pub(crate) fn is_lost(&self, node: &NodeName) -> bool {
        let region = self.scenario.topology.region_of(node);
        region.is_some_and(|region| self.scenario.expect.lost_regions.contains(region))
    }

    /// How many accounts clients use.
    pub(crate) fn accounts(&self) -> usize {
        if self.uses_accounts() { ACCOUNTS } else { 0 }
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

    /// Where clients find what they need.
    pub(crate) fn site(
        &self,
        clients: Clients,
        accounts: Vec<Account>,
        stop: watch::Receiver<bool>,
    ) -> Site {
        Site::new(Parts {
            clients,
            recorder: self.recorder.clone(),
            workload: self.scenario.workload.clone(),
            regions: self.regions(),
            token: self.token.clone(),
            canary: canary(self.options.seed),
            seed: self.options.seed,
            accounts,
            stop,
        })
    }

    /// For how long configurations are written while all settles: what comes after has to converge.
    /// Readers of scenarios see to it that there is as much.
    pub(crate) fn writes_for(&self) -> Duration {
        let until_agreed = self.scenario.expect.converge_within + SETTLE_MORE;
        self.scenario.settle.saturating_sub(until_agreed).max(2 * MARGIN)
    }

    /// The run begins, at `now_us`.
    pub(crate) fn begin(&self, now_us: u64) {
        self.recorder.begin(now_us);
        self.recorder.add(now_us, Event::Run(self.description()));
        self.record_role(now_us);
    }

    /// Records something that was noticed of a node.
    pub(crate) fn find(
        &self,
        now_us: u64,
        kind: &str,
        node: &NodeName,
        what: String,
        expected: bool,
    ) {
        let (kind, node) = (kind.to_owned(), node.to_string());
        self.recorder.add(now_us, Event::Finding(Finding { kind, node, what, expected }));
    }

    /// What a node logged, if it is something that nobody may find, or that shows that it found a
    /// damage, or did what scenarios demand.
    pub(crate) fn find_in_log(&self, now_us: u64, node: &NodeName, is_panic: bool, text: String) {
        let kind = if is_panic {
            "panic"
        } else if text.contains("set aside") || text.contains("a new origin") {
            "damage"
        } else if text.contains("ertificate") {
            "certificate"
        } else if text.contains("file was rebuilt") {
            "rebuild"
        } else if text.contains("was decided and not begun") {
            "roll"
        } else if text.contains("took whole documents") {
            "documents"
        } else {
            return;
        };
        self.find(now_us, kind, node, text, kind != "panic");
    }

    /// The role that was made before the run, for whoever reads it.
    fn record_role(&self, now_us: u64) {
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
        self.recorder.add(now_us, Event::Call(call));
        self.recorder.add(now_us, Event::Answer(Answer { op, outcome }));
    }

    /// Whether the scenario has a fault of this node's disk.
    pub(crate) fn is_disk_broken(&self, node: &NodeName) -> bool {
        self.scenario.faults.iter().any(|timed| {
            let kind = timed.fault.kind_name();
            timed.fault.nodes().contains(&node)
                && ["disk_full", "disk_error", "lying_fsync", "old_copy", "wipe"].contains(&kind)
        })
    }
}

pub(crate) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
