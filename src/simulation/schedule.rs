//! What is to break and mend, and when; and its record once it is done. How it is done is whoever
//! breaks things to say: a world's [`super::injector`], or a drill's.

use std::time::Duration;

use super::history::{Event, Fault};
use super::recorder::Recorder;
use super::scenario::{FaultKind, TimedFault};
use crate::model::RegionName;
use crate::topology::Topology;

/// What is to be done at a moment of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    /// An old copy of the disk is taken, for the fault to come.
    Copy,
    /// It is over. Before others begin at the same moment.
    End,
    /// It begins.
    Begin,
    /// It goes on in another way: a flapping link is whole or cut again, certificates of the new
    /// authority are given out.
    Turn,
}

/// The faults of a run.
pub(crate) struct Schedule {
    faults: Vec<TimedFault>,
    recorder: Recorder,
}

impl Schedule {
    pub(crate) fn new(faults: Vec<TimedFault>, recorder: Recorder) -> Self {
        Self { faults, recorder }
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
            let turns_every = match &timed.fault {
                FaultKind::Flapping { every, .. } => Some(*every),
                FaultKind::RotateCa => Some((to - from) / 2),
                _ => None,
            };
            if let Some(every) = turns_every {
                let mut at = from + every;
                while at < to.min(end) {
                    steps.push((at, Step::Turn, number));
                    at += every;
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
    pub(crate) fn goes_on(&self, number: usize) -> bool {
        let (from, to) = self.faults[number].window();
        to > from
    }

    /// Records that a step was done. What is a moment ends as it begins.
    pub(crate) fn record(&self, step: Step, number: usize, topology: &Topology, now_us: u64) {
        match step {
            Step::Copy | Step::Turn => {}
            Step::End => self.add(false, number, topology, now_us),
            Step::Begin => {
                self.add(true, number, topology, now_us);
                if !self.goes_on(number) {
                    self.add(false, number, topology, now_us);
                }
            }
        }
    }

    fn add(&self, begins: bool, number: usize, topology: &Topology, now_us: u64) {
        let text = |name: &RegionName| name.to_string();
        let fault = self.fault(number);
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
        self.recorder.add(now_us, Event::Fault(record));
    }
}
