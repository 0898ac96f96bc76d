//! A tiny replicated store that keeps what Holm promises, or, with a [`Bug`], does not: three regions
//! with a node each, configurations that converge by gossip, one register for what a quorum decides,
//! partitions, crashes, lost disks, clocks that are off. It writes the history that clients of it see.
//!
//! What it is for: that no check complains of a right history, however odd; and that each of the bugs
//! is found by the check that is there for it.

mod clients;
mod register;
mod store;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::testing::{Build, S, down, isolate};
use super::{Judgement, Verdicts};
use crate::simulation::history::{AtUs, Event, Fault, Final, Probe, Sibling, Twin};

use clients::Clients;
use register::Register;
use store::Node;

/// What is wrong with the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    /// A write is acknowledged before it is on disk, and a crash takes it.
    AckBeforeFsync,
    /// A write is pushed before it is on disk; after a crash its number is given again.
    PushBeforeFsync,
    /// What one node missed while it was cut off is never asked for.
    SkipAntiEntropy,
    /// A node whose disk was put back goes on under its old origin.
    ReuseOrigin,
    /// A linearizable read is answered from the local copy.
    LocalRead,
    /// The winner is the write that came last.
    WinnerByArrival,
    /// Of two writes with one stamp, the lower origin wins where it came last.
    WinnerByAtLeast,
    /// A resumed watch begins one event late.
    ResumeLate,
    /// One route does not ask whether the account is disabled.
    PermitSkipped,
    /// A retry is applied again.
    Reapply,
    /// A session is not waited for.
    SessionIgnored,
    /// A minority decides.
    MinorityDecides,
    /// A document that goes on in a next epoch takes the winners along, and nothing else.
    RollSettlesConflicts,
}

/// A stream of numbers that the seed decides (splitmix64).
pub(crate) struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Less than `n`.
    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    /// True `percent` times of a hundred.
    fn is(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// How far apart steps are.
const STEP_US: AtUs = 200_000;

/// Steps with work and faults; then everything is healed.
const STEPS: u64 = 200;

/// The whole.
pub(crate) struct World {
    chance: Chance,
    bug: Option<Bug>,
    now: AtUs,
    nodes: Vec<Node>,
    register: Register,
    build: Build,
    fault: Option<(Fault, AtUs)>,
    fault_id: u32,
}

/// The history of one run.
pub(crate) fn history(seed: u64, bug: Option<Bug>) -> Build {
    let mut world = World::new(seed, bug);
    let mut clients = Clients::default();
    for step in 1..STEPS {
        world.now = step * STEP_US;
        world.faults();
        world.gossip();
        register::sync(&mut world);
        clients.act(&mut world);
        if step % 3 == 0 {
            world.probe();
        }
    }
    world.heal();
    for step in STEPS..STEPS + 60 {
        world.now = step * STEP_US;
        world.gossip();
        register::sync(&mut world);
        clients.settle(&mut world);
        world.probe();
    }
    world.finish()
}

impl World {
    fn new(seed: u64, bug: Option<Bug>) -> Self {
        let mut build = Build::default();
        let end = STEPS * STEP_US;
        build.run.seed = seed;
        build.run.faults_end_us = end;
        build.run.converge_within_us = 3 * S;
        build.run.end_us = end + 60 * STEP_US;
        build.run.revocation_within_on_island_us = 1000 * S;
        Self {
            chance: Chance(seed),
            bug,
            now: 0,
            nodes: ["a", "b", "c"].map(Node::new).into(),
            register: Register::default(),
            build,
            fault: None,
            fault_id: 0,
        }
    }

    /// Which nodes the node reaches, itself included; none where it is down.
    fn group(&self, node: usize) -> Vec<usize> {
        let island = self.fault.as_ref().filter(|(it, _)| !it.links_cut.is_empty());
        let island = island.and_then(|(it, _)| it.regions.first().cloned());
        let side = |it: &Node| Some(&it.region) == island.as_ref();
        let up = |index: &usize| self.nodes[*index].up;
        let here = side(&self.nodes[node]);
        let all = (0..self.nodes.len()).filter(up);
        if self.nodes[node].up {
            all.filter(|it| side(&self.nodes[*it]) == here).collect()
        } else {
            vec![]
        }
    }

    fn has_majority(&self, node: usize) -> bool {
        self.group(node).len() >= 2
    }

    fn faults(&mut self) {
        if self.fault.as_ref().is_some_and(|(_, until)| *until <= self.now) {
            self.end_fault();
        }
        if self.fault.is_some() || !self.chance.is(8) {
            return;
        }
        self.fault_id += 1;
        let node = self.chance.below(3) as usize;
        let (name, region) = (self.nodes[node].name.clone(), self.nodes[node].region.clone());
        let fault = match self.chance.below(4) {
            0 | 1 => isolate(self.fault_id, &region),
            2 => down(self.fault_id, "crash", &name),
            _ if self.chance.is(40) => down(self.fault_id, "wipe", &name),
            _ if self.chance.is(50) => down(self.fault_id, "old_copy", &name),
            _ => return self.step_clock(node),
        };
        if !fault.nodes_down.is_empty() {
            self.nodes[node].stop(&fault.kind, self.bug);
        }
        self.build.push(self.now, Event::Fault(fault.clone()));
        let lasts = (5 + self.chance.below(30)) * STEP_US;
        self.fault = Some((fault, self.now + lasts));
    }

    /// For good: what stamps say need not have to do with the time.
    fn step_clock(&mut self, node: usize) {
        self.nodes[node].clock_off = self.chance.below(40_000_000);
    }

    fn end_fault(&mut self) {
        let Some((fault, _)) = self.fault.take() else { return };
        for name in &fault.nodes_down {
            let node = self.nodes.iter_mut().find(|it| it.name == *name);
            node.into_iter().for_each(|it| it.start(&fault.kind, self.bug));
        }
        self.build.push(self.now, Event::Fault(Fault { begins: false, ..fault }));
    }

    fn heal(&mut self) {
        self.now = STEPS * STEP_US;
        self.end_fault();
    }

    /// Some nodes tell some others what they miss.
    fn gossip(&mut self) {
        let is_settling = self.now >= STEPS * STEP_US;
        for from in 0..self.nodes.len() {
            for to in self.group(from) {
                if from == to || (!is_settling && !self.chance.is(35)) {
                    continue;
                }
                let changes = self.nodes[from].told(self.bug);
                // What was not pushed at once is never asked for.
                let skip = self.bug == Some(Bug::SkipAntiEntropy) && to == 2;
                for change in changes {
                    let is_old = change.at_us + 8 * STEP_US < self.now;
                    if !(skip && is_old) {
                        self.nodes[to].take(&change, self.bug);
                    }
                }
            }
        }
    }

    fn probe(&mut self) {
        for (index, node) in self.nodes.iter().enumerate() {
            let (role, term) = self.register.stands(index);
            let probe = Probe {
                node: node.name.clone(),
                up: node.up,
                ready: true,
                vector: node.vector.clone(),
                origin: node.origin.clone(),
                view_hash: node.view_hash(),
                forks: node.forks,
                role: role.to_owned(),
                term,
                leader: Some("a-1".to_owned()),
                ..Probe::default()
            };
            let down = Probe { node: node.name.clone(), ..Probe::default() };
            self.build.probe(self.now, if node.up { probe } else { down });
        }
    }

    fn finish(mut self) -> Build {
        for node in &self.nodes {
            let mut history: BTreeMap<String, Vec<Sibling>> = BTreeMap::new();
            for (key, sibling) in node.log.iter().flat_map(|it| &it.writes).map(|it| (&it.0, &it.1))
            {
                history
                    .entry(format!("{}/{key}", super::testing::DOCUMENT))
                    .or_default()
                    .push(sibling.clone());
            }
            let rows = node.rows.keys().map(|key| {
                let name = format!("{}/{key}", super::testing::DOCUMENT);
                let mut siblings = node.siblings(key);
                if self.bug == Some(Bug::RollSettlesConflicts) {
                    siblings.truncate(1);
                }
                (name, siblings)
            });
            let last = Final {
                node: node.name.clone(),
                rows: rows.collect(),
                history,
                vector: node.vector.clone(),
                view_hash: node.view_hash(),
                quorum_hash: self.register.hash(node.applied),
                quorum_applied: node.applied as u64,
                ..Final::default()
            };
            self.build.push(self.now, Event::Final(last));
        }
        let twin = self.twin();
        self.build.push(self.now, Event::Twin(twin));
        self.build
    }

    /// What all changes come to, as if the document had gone on in a next epoch at the end.
    fn twin(&self) -> Twin {
        let changes = self.nodes.iter().flat_map(|node| &node.log);
        let changes: BTreeMap<Dot, &Arc<Change>> =
            changes.map(|it| ((it.origin.clone(), it.n), it)).collect();
        let writes =
            || changes.iter().flat_map(|(dot, it)| it.writes.iter().map(move |w| (dot, w)));
        let replaced: BTreeSet<(&str, &Dot)> =
            writes().flat_map(|(_, (key, _, by))| by.iter().map(move |it| (&**key, it))).collect();
        let mut twin = Twin {
            epochs: [(super::testing::DOCUMENT.to_owned(), 1)].into(),
            vector: self.nodes.first().map(|node| node.vector.clone()).unwrap_or_default(),
            ..Twin::default()
        };
        for (dot, (key, sibling, _)) in writes() {
            if !replaced.contains(&(&**key, dot)) {
                let name = format!("{}/{key}", super::testing::DOCUMENT);
                twin.rows.entry(name).or_default().push(sibling.clone());
            }
        }
        twin
    }
}

/// All verdicts of a run.
fn verdicts(seed: u64, bug: Option<Bug>) -> Verdicts {
    super::run(&history(seed, bug).records(), &BTreeSet::new())
}

/// Runs of the same seed are the same; so that a seed that fails can be looked at.
#[test]
fn a_seed_makes_the_same_history_again() {
    assert_eq!(history(7, None).records(), history(7, None).records());
    assert_ne!(history(7, None).records(), history(8, None).records());
}

#[test]
fn no_check_complains_of_a_right_history() {
    for seed in 0..150 {
        let verdicts = verdicts(seed, None);
        let wrong = verdicts.verdicts.iter().find(|it| {
            !matches!(it.result, Judgement::Pass { .. } | Judgement::NotExercised { .. })
        });
        assert!(wrong.is_none(), "seed {seed}: {wrong:#?}");
    }
}

/// The runs are worth something: in some of them each check has something to look at, and every odd
/// thing that the store can do does happen.
#[test]
fn right_histories_are_odd_enough() {
    use crate::simulation::history::Coverage as C;
    let wanted = [
        C::Conflict,
        C::Divergence,
        C::IslandWrite,
        C::QuorumRefused,
        C::LeaderChange,
        C::SessionMoved,
        C::SessionRefused,
        C::WatchResumed,
        C::Restart,
        C::NewOrigin,
        C::RevocationSeen,
        C::CasRefused,
        C::OutcomeUnknown,
        C::RetrySettled,
    ];
    for coverage in wanted {
        let covered = (0..40).any(|seed| {
            let mut build = history(seed, None);
            build.run.coverage = [coverage].into();
            matches!(build.judge(super::coverage::CHECK), Judgement::Pass { .. })
        });
        assert!(covered, "{coverage:?}");
    }
    let mut examined: BTreeMap<&str, u64> = BTreeMap::new();
    for verdict in (0..20).flat_map(|seed| verdicts(seed, None).verdicts) {
        if let Judgement::Pass { examined: count, .. } = verdict.result {
            *examined.entry(verdict.check).or_default() += count;
        }
    }
    for check in super::all() {
        let elsewhere =
            ["plaintext", "audit", "findings", "coverage", "members"].contains(&check.name);
        assert!(elsewhere || examined[check.name] > 50, "{}: {examined:?}", check.name);
    }
}

/// Each bug, and the checks of which one has to find it.
const BUGS: [(Bug, &[&str]); 13] = [
    (Bug::AckBeforeFsync, &["lost_writes"]),
    (Bug::PushBeforeFsync, &["identity"]),
    (Bug::SkipAntiEntropy, &["convergence"]),
    (Bug::ReuseOrigin, &["identity", "convergence"]),
    (Bug::LocalRead, &["linearizable"]),
    (Bug::WinnerByArrival, &["winner"]),
    (Bug::WinnerByAtLeast, &["winner"]),
    (Bug::ResumeLate, &["watch"]),
    (Bug::PermitSkipped, &["revocation"]),
    (Bug::Reapply, &["linearizable"]),
    (Bug::SessionIgnored, &["read_your_writes", "monotonic_reads"]),
    (Bug::MinorityDecides, &["minority"]),
    (Bug::RollSettlesConflicts, &["epochs"]),
];

#[test]
fn each_bug_is_found_by_the_check_that_is_there_for_it() {
    for (bug, checks) in BUGS {
        for check in checks {
            let found = (0..60).find(|seed| {
                let verdicts = verdicts(*seed, Some(bug)).verdicts;
                let mut found = verdicts.iter().filter(|it| it.check == *check);
                found.any(|it| matches!(it.result, Judgement::Violation { .. }))
            });
            assert!(found.is_some(), "{bug:?} is not found by {check}");
        }
    }
}

/// A change: one write request, as it goes from node to node.
#[derive(Debug)]
pub(crate) struct Change {
    at_us: AtUs,
    origin: String,
    n: u64,
    /// What its node had when it was made.
    needs: BTreeMap<String, u64>,
    /// Key, what was written, and what it replaced.
    writes: Vec<(String, Sibling, BTreeSet<Dot>)>,
}

/// Names one change.
pub(crate) type Dot = (String, u64);

type Log = Vec<Arc<Change>>;
