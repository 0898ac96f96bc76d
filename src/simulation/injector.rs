//! Breaks things in a world, and mends them. What it does follows from the fault alone; when is whoever
//! runs the scenario to say.

use std::collections::BTreeMap;
use std::time::Duration;

use super::history::{Event, Fault};
use super::recorder::Recorder;
use super::scenario::{FaultKind, LinkQuality, TimedFault, Unsynced};
use super::world::{Certificate, World, WorldError};
use crate::env::{CrashMode, MemoryDisk};
use crate::model::{NodeName, RegionName};

/// What is to be done at a moment of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    /// An old copy of the disk is taken, for the fault to come.
    Copy,
    /// It is over. Before others begin at the same moment.
    End,
    /// It begins.
    Begin,
    /// A flapping link goes the other way.
    Flap,
}

/// The faults of a run.
pub(crate) struct Injector {
    faults: Vec<TimedFault>,
    copies: BTreeMap<usize, MemoryDisk>,
    /// Flapping links that are down just now.
    down: BTreeMap<usize, bool>,
    recorder: Recorder,
    seed: u64,
}

impl Injector {
    pub(crate) fn new(faults: Vec<TimedFault>, recorder: Recorder, seed: u64) -> Self {
        Self { faults, copies: BTreeMap::new(), down: BTreeMap::new(), recorder, seed }
    }

    /// Everything there is to do before `end`, in order: when, what, and which fault.
    pub(crate) fn timeline(&self, end: Duration) -> Vec<(Duration, Step, usize)> {
        let mut steps = Vec::new();
        for (number, timed) in self.faults.iter().enumerate() {
            let (from, to) = timed.window();
            if let FaultKind::OldCopy { age, .. } = &timed.fault {
                steps.push((from.saturating_sub(*age), Step::Copy, number));
            }
            steps.push((from, Step::Begin, number));
            if let FaultKind::Flapping { every, .. } = &timed.fault {
                let mut at = from + *every;
                while at < to.min(end) {
                    steps.push((at, Step::Flap, number));
                    at += *every;
                }
            }
            // What is never healed has no end.
            if to <= end && to > from {
                steps.push((to, Step::End, number));
            }
        }
        steps.sort();
        steps
    }

    /// The fault itself.
    pub(crate) fn fault(&self, number: usize) -> &FaultKind {
        &self.faults[number].fault
    }

    /// Whether a fault is not a moment.
    fn goes_on(&self, number: usize) -> bool {
        let (from, to) = self.faults[number].window();
        to > from
    }

    /// Does one step.
    pub(crate) fn act(
        &mut self,
        step: Step,
        number: usize,
        world: &mut World,
    ) -> Result<(), WorldError> {
        let fault = self.faults[number].fault.clone();
        match step {
            Step::Copy => {
                if let FaultKind::OldCopy { node, .. } = &fault
                    && let Some(disk) = world.disk(node)
                {
                    self.copies.insert(number, disk.snapshot().copied().rebooted());
                }
                return Ok(());
            }
            Step::Flap => {
                if let FaultKind::Flapping { a, b, .. } = &fault {
                    let is_down = self.down.get(&number).copied().unwrap_or(false);
                    set_cut(world, [(a.clone(), b.clone()), (b.clone(), a.clone())], !is_down);
                    self.down.insert(number, !is_down);
                }
                return Ok(());
            }
            Step::Begin => self.begin(number, &fault, world)?,
            Step::End => self.end(number, &fault, world)?,
        }
        self.record(step == Step::Begin, number, &fault, world);
        if step == Step::Begin && !self.goes_on(number) {
            self.record(false, number, &fault, world);
        }
        Ok(())
    }

    fn record(&self, begins: bool, number: usize, fault: &FaultKind, world: &World) {
        let topology = world.topology();
        let text = |name: &RegionName| name.to_string();
        let links = fault.links_cut(topology);
        let record = Fault {
            id: number as u32,
            kind: fault.kind_name().to_owned(),
            what: fault.describe(),
            begins,
            regions: fault.regions(topology).iter().map(text).collect(),
            nodes_down: fault.nodes_down().iter().map(ToString::to_string).collect(),
            links_cut: links.iter().map(|(from, to)| (text(from), text(to))).collect(),
        };
        self.recorder.add(world.now_us(), Event::Fault(record));
    }

    fn begin(
        &mut self,
        number: usize,
        fault: &FaultKind,
        world: &mut World,
    ) -> Result<(), WorldError> {
        match fault {
            FaultKind::Partition { .. }
            | FaultKind::Isolate { .. }
            | FaultKind::OneWay { .. }
            | FaultKind::Bridge { .. } => set_cut(world, fault.links_cut(world.topology()), true),
            FaultKind::Flapping { a, b, .. } => {
                set_cut(world, [(a.clone(), b.clone()), (b.clone(), a.clone())], true);
                self.down.insert(number, true);
            }
            FaultKind::Link { quality, .. } => set_quality(world, fault, *quality),
            FaultKind::Hold { from, to } => world.hold(from, to),
            FaultKind::Crash { node, unsynced } => {
                world.crash(node, mode(*unsynced, self.seed ^ number as u64));
            }
            FaultKind::Stop { node } => world.stop(node),
            FaultKind::Pause { node } => world.pause(node),
            FaultKind::Slow { node, factor } => world.slow(node, *factor),
            FaultKind::DiskFull { node } => on_disk(world, node, |disk| disk.fill(0)),
            FaultKind::DiskError { node } => on_disk(world, node, |disk| disk.fail(true)),
            FaultKind::LyingFsync { node } => on_disk(world, node, |disk| disk.lie(true)),
            FaultKind::OldCopy { node, .. } => {
                world.crash(node, CrashMode::LoseUnsynced);
                let copy = self.copies.remove(&number).unwrap_or_default();
                world.replace_disk(node, copy);
                self.start_unless_later(number, node, world);
            }
            FaultKind::Wipe { node } => {
                world.crash(node, CrashMode::LoseUnsynced);
                world.replace_disk(node, MemoryDisk::new());
                self.start_unless_later(number, node, world);
            }
            FaultKind::ClockStep { node, by_ms } => world.step_clock(node, by_ms * 1_000),
            FaultKind::ClockDrift { node, ppm } => world.drift_clock(node, *ppm),
            FaultKind::CertificateExpiry { nodes } => {
                for node in nodes {
                    restart_with(world, node, Certificate::Expired)?;
                }
            }
            // Done by a client that operates the cluster.
            FaultKind::RotateMasterKey | FaultKind::Revoke | FaultKind::Voters { .. } => {}
        }
        Ok(())
    }

    fn end(
        &mut self,
        number: usize,
        fault: &FaultKind,
        world: &mut World,
    ) -> Result<(), WorldError> {
        match fault {
            FaultKind::Partition { .. }
            | FaultKind::Isolate { .. }
            | FaultKind::OneWay { .. }
            | FaultKind::Bridge { .. } => set_cut(world, fault.links_cut(world.topology()), false),
            FaultKind::Flapping { a, b, .. } => {
                if self.down.remove(&number) == Some(true) {
                    set_cut(world, [(a.clone(), b.clone()), (b.clone(), a.clone())], false);
                }
            }
            FaultKind::Link { .. } => set_quality(world, fault, LinkQuality::default()),
            FaultKind::Hold { from, to } => world.release(from, to),
            FaultKind::Crash { node, .. }
            | FaultKind::Stop { node }
            | FaultKind::OldCopy { node, .. }
            | FaultKind::Wipe { node } => world.start(node),
            FaultKind::Pause { node } => world.resume(node),
            FaultKind::Slow { node, .. } => world.slow(node, 1),
            FaultKind::DiskFull { node } => on_disk(world, node, MemoryDisk::free),
            FaultKind::DiskError { node } => {
                on_disk(world, node, |disk| disk.fail(false));
                // A disk that failed may have ended the node, as a supervisor would see it.
                world.start(node);
            }
            FaultKind::LyingFsync { node } => on_disk(world, node, |disk| disk.lie(false)),
            FaultKind::ClockStep { node, by_ms } => world.step_clock(node, -by_ms * 1_000),
            FaultKind::ClockDrift { node, .. } => world.drift_clock(node, 0),
            FaultKind::CertificateExpiry { nodes } => {
                for node in nodes {
                    restart_with(world, node, Certificate::Valid)?;
                }
            }
            FaultKind::RotateMasterKey | FaultKind::Revoke | FaultKind::Voters { .. } => {}
        }
        Ok(())
    }

    /// A node that came back with another disk starts at once, unless its fault lasts.
    fn start_unless_later(&self, number: usize, node: &NodeName, world: &mut World) {
        if !self.goes_on(number) {
            world.start(node);
        }
    }
}

fn mode(unsynced: Unsynced, seed: u64) -> CrashMode {
    match unsynced {
        Unsynced::Keep => CrashMode::KeepUnsynced,
        Unsynced::Lose => CrashMode::LoseUnsynced,
        Unsynced::Tear => CrashMode::TearUnsynced(seed),
    }
}

fn set_cut(
    world: &mut World,
    links: impl IntoIterator<Item = (RegionName, RegionName)>,
    is_cut: bool,
) {
    for (from, to) in links {
        if is_cut { world.cut(&from, &to) } else { world.mend(&from, &to) }
    }
}

fn set_quality(world: &mut World, fault: &FaultKind, quality: LinkQuality) {
    for (from, to) in fault.links_touched(world.topology()) {
        world.set_link(&from, &to, quality);
    }
}

fn on_disk(world: &World, node: &NodeName, act: impl FnOnce(&MemoryDisk)) {
    if let Some(disk) = world.disk(node) {
        act(disk);
    }
}

fn restart_with(
    world: &mut World,
    node: &NodeName,
    certificate: Certificate,
) -> Result<(), WorldError> {
    world.set_certificate(node, certificate)?;
    world.crash(node, CrashMode::KeepUnsynced);
    world.start(node);
    Ok(())
}
