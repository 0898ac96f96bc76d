//! What may break, and who then still reaches whom. It knows nothing of quorums.

use serde::Serialize;

use crate::model::RegionName;

/// How regions are broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// They are gone, with everything in them.
    Lost,
    /// They are alive, each alone: nothing reaches them and they reach nothing.
    Cut,
    /// They reach each other and nobody else.
    CutTogether,
    /// They don't reach each other; everybody else reaches both.
    LinkCut,
}

/// What breaks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Broken {
    /// How.
    pub kind: Kind,
    /// Which regions: one or two.
    pub regions: Vec<RegionName>,
}

/// A set of regions by their numbers: a topology has at most 64.
pub(super) type Set = u64;

pub(super) fn set_of(regions: &[usize]) -> Set {
    regions.iter().fold(0, |set, region| set | 1 << region)
}

/// Who is alive and reaches whom without a third one's help, both ways. Each region that is alive
/// reaches itself; a lost one reaches nobody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Situation {
    reaches: Vec<Set>,
}

impl Situation {
    /// Everybody reaches everybody.
    pub(super) fn whole(regions: usize) -> Self {
        Self { reaches: vec![set_of(&(0..regions).collect::<Vec<_>>()); regions] }
    }

    /// Breaks something more.
    pub(super) fn and(mut self, kind: Kind, regions: &[usize]) -> Self {
        let these = set_of(regions);
        for (i, reaches) in self.reaches.iter_mut().enumerate() {
            let (is_one, alone) = (these >> i & 1 == 1, *reaches & 1 << i);
            match (kind, is_one) {
                (Kind::Lost, true) => *reaches = 0,
                (Kind::Cut, true) => *reaches = alone,
                (Kind::CutTogether, true) => *reaches &= these,
                (Kind::LinkCut, true) => *reaches = *reaches & !these | alone,
                (Kind::LinkCut, false) => {}
                (_, false) => *reaches &= !these,
            }
        }
        self
    }

    pub(super) fn is_alive(&self, region: usize) -> bool {
        self.reaches(region, region)
    }

    pub(super) fn reaches(&self, from: usize, to: usize) -> bool {
        self.reaches[from] >> to & 1 == 1
    }

    pub(super) fn reached_from(&self, region: usize) -> Set {
        self.reaches[region]
    }

    pub(super) fn alive(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.reaches.len()).filter(|region| self.is_alive(*region))
    }

    /// Regions between which news travels, by way of others too; the first region's group first.
    pub(super) fn groups(&self) -> Vec<Set> {
        let mut groups: Vec<Set> = Vec::new();
        for region in self.alive() {
            if groups.iter().any(|group| group >> region & 1 == 1) {
                continue;
            }
            let mut group = 1 << region;
            loop {
                let members = self.alive().filter(|other| group >> other & 1 == 1);
                let wider = members.fold(group, |wider, other| wider | self.reaches[other]);
                if wider == group {
                    break;
                }
                group = wider;
            }
            groups.push(group);
        }
        groups
    }
}

/// Each region lost and cut off, then each pair lost, each alone, together on an island, and without
/// the link between them. What would be another case of the list under a second name is left out.
pub(super) fn all(names: &[RegionName]) -> Vec<(Broken, Situation)> {
    let whole = Situation::whole(names.len());
    let broken = |kind, regions: &[usize]| {
        let names = regions.iter().map(|region| names[*region].clone()).collect();
        (Broken { kind, regions: names }, whole.clone().and(kind, regions))
    };
    let mut cases = Vec::new();
    cases.extend((0..names.len()).map(|region| broken(Kind::Lost, &[region])));
    if names.len() > 1 {
        cases.extend((0..names.len()).map(|region| broken(Kind::Cut, &[region])));
    }
    let pairs = || (0..names.len()).flat_map(|a| (a + 1..names.len()).map(move |b| [a, b]));
    for kind in [Kind::Lost, Kind::Cut] {
        cases.extend(pairs().map(|pair| broken(kind, &pair)));
    }
    // Of three regions, two together are the third one cut off; of four, two and the other two.
    let is_new = |pair: &[usize; 2]| names.len() > 4 || (names.len() == 4 && pair[0] == 0);
    cases.extend(pairs().filter(is_new).map(|pair| broken(Kind::CutTogether, &pair)));
    if names.len() > 2 {
        cases.extend(pairs().map(|pair| broken(Kind::LinkCut, &pair)));
    }
    cases
}
