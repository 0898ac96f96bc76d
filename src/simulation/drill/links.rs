//! What a drill does to the links between regions, and what it sees of them.

use super::switchboard::{Pair, Switchboard};
use super::{Drill, DrillError, FaultId, WayCounts};
use crate::model::RegionName;
use crate::simulation::scenario::LinkQuality;

impl Drill {
    /// All pairs of nodes from one region to another. Within a region nothing can be broken.
    fn pairs(&self, from: &RegionName, to: &RegionName) -> Result<Vec<Pair>, DrillError> {
        let of = |region: &RegionName| {
            let nodes = self.nodes.iter().enumerate().filter(|(_, node)| node.region == *region);
            let nodes: Vec<usize> = nodes.map(|(i, _)| i).collect();
            let unknown = || DrillError::Unknown(format!("region {region}"));
            (!nodes.is_empty()).then_some(nodes).ok_or_else(unknown)
        };
        let (from_nodes, to_nodes) = (of(from)?, of(to)?);
        if from == to {
            return Ok(Vec::new());
        }
        let pairs = from_nodes.iter().flat_map(|a| to_nodes.iter().map(move |b| (*a, *b)));
        Ok(pairs.collect())
    }

    /// Nothing from one region reaches the other as long as `fault` lasts; what is under way is
    /// lost. The way back stays.
    pub fn cut(
        &self,
        fault: FaultId,
        from: &RegionName,
        to: &RegionName,
    ) -> Result<(), DrillError> {
        let pairs = self.pairs(from, to)?;
        self.emulator.with(|board, _| pairs.iter().for_each(|pair| board.cut(fault, *pair)));
        Ok(())
    }

    /// What one region sends to the other is held back as long as `fault` lasts, and arrives at once
    /// when it ends.
    pub fn hold(
        &self,
        fault: FaultId,
        from: &RegionName,
        to: &RegionName,
    ) -> Result<(), DrillError> {
        let pairs = self.pairs(from, to)?;
        self.emulator.with(|board, _| pairs.iter().for_each(|pair| board.hold(fault, *pair)));
        Ok(())
    }

    /// The way from one region to the other is as `quality` says as long as `fault` lasts.
    pub fn worsen(
        &self,
        fault: FaultId,
        from: &RegionName,
        to: &RegionName,
        quality: LinkQuality,
    ) -> Result<(), DrillError> {
        let pairs = self.pairs(from, to)?;
        let worsen = |board: &mut Switchboard, _| {
            pairs.iter().for_each(|pair| board.worsen(fault, *pair, quality));
        };
        self.emulator.with(worsen);
        Ok(())
    }

    /// What `fault` did to links is over. Other faults go on.
    pub fn end_fault(&self, fault: FaultId) {
        self.emulator.with(|board, now| board.end(fault, now));
    }

    /// All links are whole again.
    pub fn end_all_faults(&self) {
        self.emulator.with(|board, now| board.end_all(now));
    }

    /// What has passed from one region to the other so far, and what was lost.
    pub fn way(&self, from: &RegionName, to: &RegionName) -> Result<WayCounts, DrillError> {
        let pairs = self.pairs(from, to)?;
        Ok(self.emulator.with(|board, _| {
            let counts = board.counts().filter(|(pair, _)| pairs.contains(pair));
            counts.fold(WayCounts::default(), |sum, (_, way)| sum + way)
        }))
    }
}
