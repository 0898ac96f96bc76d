//! Which regions have a write on disk, and how many of them a caller asked for.

use std::collections::BTreeMap;

use schemars::JsonSchema;

use crate::model::{RegionName, Told, Vector};

/// How many regions must have a config write on disk before it is answered (`Holm-Ack`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ack {
    /// The region that took it.
    #[default]
    Local,
    /// This many regions, the one that took it among them.
    Regions(usize),
    /// More than half of the topology's regions.
    Majority,
    /// All of the topology's regions.
    All,
}

impl Ack {
    /// How many regions that is, of `regions` in the topology.
    pub fn count(self, regions: usize) -> usize {
        match self {
            Self::Local => 1,
            Self::Regions(count) => count,
            Self::Majority => regions / 2 + 1,
            Self::All => regions,
        }
    }
}

/// Whether one region has a write.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, JsonSchema)]
pub struct RegionReceipt {
    /// Which region.
    pub region: RegionName,
    /// Whether a node of it is known to have the write on disk.
    pub has: bool,
}

/// Who has a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipts {
    /// Whether as many regions as were asked for have it.
    pub reached: bool,
    /// Every region of the topology, in the order of names.
    pub regions: Vec<RegionReceipt>,
}

/// Which of `regions` are known to include `wanted`, given each node's region and vector.
pub(crate) fn receipts<'a>(
    regions: impl Iterator<Item = &'a RegionName>,
    nodes: &[(RegionName, std::sync::Arc<Vector>)],
    wanted: &Told,
) -> Vec<RegionReceipt> {
    let mut has: BTreeMap<&RegionName, bool> = regions.map(|region| (region, false)).collect();
    for (region, vector) in nodes {
        if let Some(has) = has.get_mut(region) {
            *has |= vector.covers_told(wanted);
        }
    }
    has.into_iter().map(|(region, has)| RegionReceipt { region: region.clone(), has }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Dot, Origin};
    use std::sync::Arc;

    #[test]
    fn a_region_has_a_write_when_one_of_its_nodes_does() {
        let region = |name| RegionName::new(name).unwrap();
        let told = |n| -> Told { [Dot { origin: Origin([1; 8]), n }].into_iter().collect() };
        let vector = |n| Arc::new(told(n).read(&Arc::default()));
        let regions = [region("a"), region("b"), region("c")];
        let nodes = [
            (region("a"), vector(5)),
            (region("b"), vector(4)),
            (region("b"), vector(5)),
            (region("c"), vector(4)),
            (region("elsewhere"), vector(9)),
        ];
        let found = receipts(regions.iter(), &nodes, &told(5));
        let has: Vec<bool> = found.iter().map(|receipt| receipt.has).collect();
        assert_eq!(has, [true, true, false]);
    }

    #[test]
    fn levels_count_regions() {
        let counts = |ack: Ack| [1, 2, 3, 5].map(|regions| ack.count(regions));
        assert_eq!(counts(Ack::Majority), [1, 2, 2, 3]);
        assert_eq!(counts(Ack::All), [1, 2, 3, 5]);
        assert_eq!(counts(Ack::Local), [1; 4]);
    }
}
