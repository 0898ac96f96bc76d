//! Breaks things in a world, and mends them. What it does follows from the fault alone; when is whoever
//! runs the scenario to say.

use std::collections::{BTreeMap, BTreeSet};

use super::scenario::{FaultKind, LinkQuality, Unsynced};
use super::schedule::{Schedule, Step};
use super::world::{CaStep, Certificate, NodeState, World, WorldError};
use crate::env::{CrashMode, MemoryDisk, Release};
use crate::model::{NodeName, RegionName};

/// What is broken, and what it takes to mend it.
pub(crate) struct Injector<'a> {
    schedule: &'a Schedule,
    copies: BTreeMap<usize, MemoryDisk>,
    /// Flapping links that are down just now.
    down: BTreeMap<usize, bool>,
    seed: u64,
}

impl<'a> Injector<'a> {
    pub(crate) fn new(schedule: &'a Schedule, seed: u64) -> Self {
        Self { schedule, copies: BTreeMap::new(), down: BTreeMap::new(), seed }
    }

    /// Does one step.
    pub(crate) fn act(
        &mut self,
        step: Step,
        number: usize,
        world: &mut World,
    ) -> Result<(), WorldError> {
        let fault = self.schedule.fault(number).clone();
        match step {
            Step::Copy => {
                if let FaultKind::OldCopy { node, .. } = &fault
                    && let Some(disk) = world.disk(node)
                {
                    self.copies.insert(number, disk.snapshot().copied().rebooted());
                }
            }
            Step::Turn => self.turn(number, &fault, world)?,
            Step::Begin => self.change(true, number, &fault, world)?,
            Step::End => self.change(false, number, &fault, world)?,
        }
        self.schedule.record(step, number, world.topology(), world.now_us());
        Ok(())
    }

    fn turn(
        &mut self,
        number: usize,
        fault: &FaultKind,
        world: &mut World,
    ) -> Result<(), WorldError> {
        match fault {
            FaultKind::Flapping { a, b, .. } => {
                let is_down = self.down.get(&number).copied().unwrap_or(false);
                set_cut(world, [(a.clone(), b.clone()), (b.clone(), a.clone())], !is_down);
                self.down.insert(number, !is_down);
                Ok(())
            }
            FaultKind::RotateCa => world.rotate_ca(CaStep::Issue),
            _ => Ok(()),
        }
    }

    /// A fault begins, or is over.
    fn change(
        &mut self,
        begins: bool,
        number: usize,
        fault: &FaultKind,
        world: &mut World,
    ) -> Result<(), WorldError> {
        match fault {
            FaultKind::Partition { .. }
            | FaultKind::Isolate { .. }
            | FaultKind::OneWay { .. }
            | FaultKind::Bridge { .. } => set_cut(world, fault.links_cut(world.topology()), begins),
            FaultKind::Flapping { a, b, .. } => {
                let was_down = self.down.insert(number, begins).unwrap_or(false);
                if was_down != begins {
                    set_cut(world, [(a.clone(), b.clone()), (b.clone(), a.clone())], begins);
                }
            }
            FaultKind::Link { quality, .. } => {
                set_quality(world, fault, if begins { *quality } else { LinkQuality::default() });
            }
            FaultKind::Hold { from, to } if begins => world.hold(from, to),
            FaultKind::Hold { from, to } => world.release(from, to),
            FaultKind::Crash { node, unsynced } if begins => {
                world.crash(node, mode(*unsynced, self.seed ^ number as u64));
            }
            FaultKind::Stop { node } | FaultKind::Absent { node, .. } if begins => world.stop(node),
            FaultKind::OldCopy { node, .. } if begins => {
                let copy = self.copies.remove(&number).unwrap_or_default();
                self.replace_disk(number, node, copy, world);
            }
            FaultKind::Wipe { node } if begins => {
                self.replace_disk(number, node, MemoryDisk::new(), world);
            }
            FaultKind::Crash { node, .. }
            | FaultKind::Stop { node }
            | FaultKind::Absent { node, .. }
            | FaultKind::OldCopy { node, .. }
            | FaultKind::Wipe { node } => world.start(node),
            FaultKind::Pause { node } if begins => world.pause(node),
            FaultKind::Pause { node } => world.resume(node),
            FaultKind::Slow { node, factor } => world.slow(node, if begins { *factor } else { 1 }),
            FaultKind::DiskFull { node } if begins => on_disk(world, node, |disk| disk.fill(0)),
            FaultKind::DiskFull { node } => on_disk(world, node, MemoryDisk::free),
            FaultKind::DiskError { node } => {
                on_disk(world, node, |disk| disk.fail(begins));
                if !begins {
                    // A disk that failed may have ended the node, as a supervisor would see it.
                    world.start(node);
                }
            }
            FaultKind::LyingFsync { node } => on_disk(world, node, |disk| disk.lie(begins)),
            FaultKind::ClockStep { node, by_ms } => {
                world.step_clock(node, if begins { *by_ms } else { -by_ms } * 1_000);
            }
            FaultKind::ClockDrift { node, ppm } => {
                world.drift_clock(node, if begins { *ppm } else { 0 });
            }
            FaultKind::CertificateExpiry { nodes } => {
                let now = if begins { Certificate::Expired } else { Certificate::Valid };
                nodes.iter().try_for_each(|node| restart_with(world, node, now))?;
            }
            FaultKind::RotateCa => {
                world.rotate_ca(if begins { CaStep::Begin } else { CaStep::Finish })?;
            }
            FaultKind::Previous { nodes } => {
                roll(world, nodes, if begins { Release::Previous } else { Release::Current });
            }
            // Done by a client that operates the cluster.
            FaultKind::RotateMasterKey | FaultKind::Revoke | FaultKind::Voters { .. } => {}
        }
        Ok(())
    }

    /// A node that comes back with another disk starts at once, unless its fault lasts.
    fn replace_disk(&self, number: usize, node: &NodeName, disk: MemoryDisk, world: &mut World) {
        world.crash(node, CrashMode::LoseUnsynced);
        world.replace_disk(node, disk);
        if !self.schedule.goes_on(number) {
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

/// Has the nodes run another release: those that run are stopped in order and started again.
fn roll(world: &mut World, nodes: &BTreeSet<NodeName>, release: Release) {
    for node in nodes {
        if world.set_release(node, release) && world.state(node) != NodeState::Down {
            world.stop(node);
            world.start(node);
        }
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
