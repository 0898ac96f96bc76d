//! Breaks things in a drill, and mends them: the same faults as of a world
//! ([`crate::simulation::injector`]), as far as real processes can have them.

use std::collections::BTreeSet;

use super::{Drill, DrillError, FaultId};
use crate::model::{NodeName, RegionName};
use crate::simulation::scenario::FaultKind;
use crate::simulation::schedule::{Schedule, Step};

/// What is broken, and what it takes to mend it.
pub(super) struct Injector<'a> {
    schedule: &'a Schedule,
    /// Flapping links that are down just now.
    down: BTreeSet<usize>,
}

impl<'a> Injector<'a> {
    pub(super) fn new(schedule: &'a Schedule) -> Self {
        Self { schedule, down: BTreeSet::new() }
    }

    /// Does one step; `now_us` says when it is done.
    pub(super) async fn act(
        &mut self,
        step: Step,
        number: usize,
        drill: &mut Drill,
        now_us: impl Fn() -> u64,
    ) -> Result<(), DrillError> {
        let fault = self.schedule.fault(number).clone();
        match step {
            Step::Copy => {
                if let FaultKind::OldCopy { node, .. } = &fault {
                    drill.keep_copy(node).await?;
                }
            }
            Step::Turn => {
                if let FaultKind::Flapping { a, b, .. } = &fault {
                    self.flap(number, a, b, drill)?;
                }
            }
            Step::Begin => self.begin(number, &fault, drill).await?,
            Step::End => self.end(number, &fault, drill).await?,
        }
        self.schedule.record(step, number, drill.topology(), now_us());
        Ok(())
    }

    fn flap(
        &mut self,
        number: usize,
        a: &RegionName,
        b: &RegionName,
        drill: &Drill,
    ) -> Result<(), DrillError> {
        if self.down.remove(&number) {
            drill.end_fault(id(number));
            return Ok(());
        }
        self.down.insert(number);
        drill.cut(id(number), a, b)?;
        drill.cut(id(number), b, a)
    }

    async fn begin(
        &mut self,
        number: usize,
        fault: &FaultKind,
        drill: &mut Drill,
    ) -> Result<(), DrillError> {
        match fault {
            FaultKind::Partition { .. }
            | FaultKind::Isolate { .. }
            | FaultKind::OneWay { .. }
            | FaultKind::Bridge { .. } => {
                for (from, to) in fault.links_cut(drill.topology()) {
                    drill.cut(id(number), &from, &to)?;
                }
                Ok(())
            }
            FaultKind::Flapping { a, b, .. } => self.flap(number, a, b, drill),
            FaultKind::Link { quality, .. } => {
                for (from, to) in fault.links_touched(drill.topology()) {
                    drill.worsen(id(number), &from, &to, *quality)?;
                }
                Ok(())
            }
            FaultKind::Hold { from, to } => drill.hold(id(number), from, to),
            FaultKind::Crash { node, .. } => drill.crash(node).await,
            FaultKind::Stop { node } => drill.stop(node).await,
            FaultKind::Pause { node } => drill.pause(node).await,
            FaultKind::Slow { node, factor } => drill.slow(node, *factor).await,
            FaultKind::DiskFull { node } => drill.fill_disk(node),
            FaultKind::OldCopy { node, .. } => {
                drill.put_copy_back(node).await?;
                self.start_unless_later(number, node, drill).await
            }
            FaultKind::Wipe { node } => {
                drill.wipe(node).await?;
                self.start_unless_later(number, node, drill).await
            }
            FaultKind::CertificateExpiry { nodes } => {
                for node in nodes {
                    drill.expire_certificate(node)?;
                    restart(node, drill).await?;
                }
                Ok(())
            }
            // Done by a client that operates the cluster.
            FaultKind::RotateMasterKey | FaultKind::Revoke | FaultKind::Voters { .. } => Ok(()),
            FaultKind::DiskError { .. }
            | FaultKind::LyingFsync { .. }
            | FaultKind::ClockStep { .. }
            | FaultKind::ClockDrift { .. }
            | FaultKind::RotateCa
            | FaultKind::Absent { .. }
            | FaultKind::Previous { .. } => Err(DrillError::Unsupported(fault.describe())),
        }
    }

    async fn end(
        &mut self,
        number: usize,
        fault: &FaultKind,
        drill: &mut Drill,
    ) -> Result<(), DrillError> {
        match fault {
            FaultKind::Partition { .. }
            | FaultKind::Isolate { .. }
            | FaultKind::OneWay { .. }
            | FaultKind::Bridge { .. }
            | FaultKind::Flapping { .. }
            | FaultKind::Link { .. }
            | FaultKind::Hold { .. } => {
                self.down.remove(&number);
                drill.end_fault(id(number));
            }
            FaultKind::Crash { node, .. }
            | FaultKind::Stop { node }
            | FaultKind::OldCopy { node, .. }
            | FaultKind::Wipe { node } => start_if_down(node, drill).await?,
            FaultKind::Pause { node } => drill.resume(node)?,
            FaultKind::Slow { node, .. } => drill.full_speed(node).await?,
            FaultKind::DiskFull { node } => {
                drill.free_disk(node)?;
                start_if_down(node, drill).await?;
            }
            FaultKind::CertificateExpiry { nodes } => {
                for node in nodes {
                    drill.renew_certificate(node)?;
                    restart(node, drill).await?;
                }
            }
            FaultKind::RotateMasterKey | FaultKind::Revoke | FaultKind::Voters { .. } => {}
            FaultKind::DiskError { .. }
            | FaultKind::LyingFsync { .. }
            | FaultKind::ClockStep { .. }
            | FaultKind::ClockDrift { .. }
            | FaultKind::RotateCa
            | FaultKind::Absent { .. }
            | FaultKind::Previous { .. } => {
                return Err(DrillError::Unsupported(fault.describe()));
            }
        }
        Ok(())
    }

    /// A node that came back with another disk starts at once, unless its fault lasts.
    async fn start_unless_later(
        &self,
        number: usize,
        node: &NodeName,
        drill: &mut Drill,
    ) -> Result<(), DrillError> {
        if self.schedule.goes_on(number) {
            return Ok(());
        }
        start_if_down(node, drill).await
    }
}

/// Starts a node that does not run, as its supervisor would.
pub(super) async fn start_if_down(node: &NodeName, drill: &mut Drill) -> Result<(), DrillError> {
    if drill.is_running(node)? {
        return Ok(());
    }
    restart(node, drill).await
}

async fn restart(node: &NodeName, drill: &mut Drill) -> Result<(), DrillError> {
    drill.crash(node).await?;
    drill.start_node(node)
}

fn id(number: usize) -> FaultId {
    number as FaultId
}
