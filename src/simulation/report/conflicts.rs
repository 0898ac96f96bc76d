//! Keys that showed concurrent writes, and what became of it. A conflict is put together from all
//! sightings that share a write; whether the right one won is a check's question, not this one's.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::operations::Operation;
use super::states::regions_of;
use crate::simulation::history::{AtUs, Event, Final, Outcome, Record, Request, Run, Sibling};

/// A write's name: its version, its stamp, its origin. Ordered as versions are.
type WriteId = (u64, String, String);

/// A key's conflict.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Conflict {
    /// `document/key`.
    pub key: String,
    /// When a client, a watcher or the end first saw it.
    pub first_us: AtUs,
    /// When it was last seen.
    pub last_us: AtUs,
    /// Where.
    pub regions: BTreeSet<String>,
    /// How often.
    pub sightings: u64,
    /// The writes that stood side by side, the highest version first.
    pub writes: Vec<Sibling>,
    /// What became of it.
    pub settled: Settled,
}

/// What became of a conflict.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "settled", rename_all = "snake_case")]
pub enum Settled {
    /// A later write replaced what stood side by side.
    Later {
        /// Its version.
        version: u64,
        /// Its value; none for a removal.
        value: Option<String>,
        /// When it was acknowledged; none where no client knows.
        at_us: Option<AtUs>,
        /// Where; empty where no client knows.
        region: String,
    },
    /// It still shows.
    #[default]
    Open,
    /// It does not show any more, and nothing tells why.
    Unclear,
}

/// A write, and when and where a client had it acknowledged.
type Known = (Sibling, Option<(AtUs, String)>);

#[derive(Default)]
struct Sightings {
    /// By key.
    conflicts: BTreeMap<String, Vec<(Conflict, BTreeSet<WriteId>)>>,
    /// Every write that is known of, by key.
    writes: BTreeMap<String, BTreeMap<WriteId, Known>>,
}

fn id(sibling: &Sibling) -> WriteId {
    (sibling.version, sibling.updated_at.clone(), sibling.origin.clone())
}

impl Sightings {
    fn saw(&mut self, at_us: AtUs, region: &str, key: &str, siblings: &[Sibling]) {
        let writes = self.writes.entry(key.to_owned()).or_default();
        for sibling in siblings {
            writes.entry(id(sibling)).or_insert_with(|| (sibling.clone(), None));
        }
        if siblings.len() < 2 {
            return;
        }
        let ids: BTreeSet<WriteId> = siblings.iter().map(id).collect();
        let known = self.conflicts.entry(key.to_owned()).or_default();
        let index = known.iter().position(|(_, writes)| !writes.is_disjoint(&ids));
        let index = index.unwrap_or_else(|| {
            let key = key.to_owned();
            let new = Conflict { key, first_us: at_us, ..Conflict::default() };
            known.push((new, BTreeSet::new()));
            known.len() - 1
        });
        if let Some((conflict, writes)) = known.get_mut(index) {
            conflict.last_us = at_us;
            conflict.sightings += 1;
            conflict.regions.insert(region.to_owned());
            writes.extend(ids);
        }
    }

    fn wrote(&mut self, at_us: AtUs, region: &str, key: &str, sibling: &Sibling) {
        let acknowledged = Some((at_us, region.to_owned()));
        let writes = self.writes.entry(key.to_owned()).or_default();
        writes.entry(id(sibling)).or_insert_with(|| (sibling.clone(), None)).1 = acknowledged;
    }

    fn settled(&self, key: &str, writes: &BTreeSet<WriteId>, finals: &[&Final]) -> Settled {
        let shows = |last: &Final| {
            last.rows.get(key).is_some_and(|row| {
                row.len() > 1 && row.iter().any(|sibling| writes.contains(&id(sibling)))
            })
        };
        if finals.iter().any(|last| shows(last)) {
            return Settled::Open;
        }
        let highest = writes.last().map_or(0, |(version, _, _)| *version);
        let later = self.writes.get(key).and_then(|known| {
            let later = known.iter().filter(|((version, _, _), _)| *version > highest);
            let least = later.clone().map(|((version, _, _), _)| *version).min()?;
            // Where two have the same version, the one that a client knows of tells more.
            later
                .filter(|((v, _, _), _)| *v == least)
                .map(|(_, write)| write)
                .max_by_key(|w| w.1.is_some())
        });
        match later {
            Some((sibling, acknowledged)) => Settled::Later {
                version: sibling.version,
                value: sibling.value.clone(),
                at_us: acknowledged.as_ref().map(|(at_us, _)| *at_us),
                region: acknowledged.as_ref().map(|(_, r)| r.clone()).unwrap_or_default(),
            },
            None if finals.is_empty() => Settled::Open,
            None => Settled::Unclear,
        }
    }
}

/// All conflicts that anybody saw, by when they were first seen.
pub(crate) fn conflicts(
    records: &[Record],
    operations: &[Operation<'_>],
    run: &Run,
) -> Vec<Conflict> {
    let by_op: BTreeMap<u64, &Operation<'_>> =
        operations.iter().map(|operation| (operation.call.op, operation)).collect();
    let regions = regions_of(run);
    let mut sightings = Sightings::default();
    let mut finals: Vec<&Final> = Vec::new();
    for record in records {
        match &record.event {
            Event::Answer(answer) => {
                let Some(call) = by_op.get(&answer.op).map(|o| o.call) else { continue };
                match (&answer.outcome, &call.request) {
                    (Outcome::Row { siblings, .. }, Request::ConfigRead { document, key }) => {
                        let key = format!("{document}/{key}");
                        sightings.saw(record.at_us, &call.region, &key, siblings);
                    }
                    (
                        Outcome::Wrote { entries, .. },
                        Request::ConfigWrite { document, .. }
                        | Request::ConfigRemove { document, .. },
                    ) => {
                        for (key, sibling) in entries {
                            let key = format!("{document}/{key}");
                            sightings.wrote(record.at_us, &call.region, &key, sibling);
                        }
                    }
                    _ => {}
                }
            }
            Event::Watched(watched) => {
                let Some(call) = by_op.get(&watched.op).map(|o| o.call) else { continue };
                let Request::ConfigWatch { document, .. } = &call.request else { continue };
                for (key, siblings) in &watched.rows {
                    let key = format!("{document}/{key}");
                    sightings.saw(record.at_us, &call.region, &key, siblings);
                }
            }
            Event::Final(last) => {
                let region = regions.get(last.node.as_str()).copied().unwrap_or_default();
                for (key, siblings) in &last.rows {
                    sightings.saw(record.at_us, region, key, siblings);
                }
                for (key, history) in &last.history {
                    for sibling in history {
                        sightings.saw(record.at_us, region, key, std::slice::from_ref(sibling));
                    }
                }
                finals.push(last);
            }
            _ => {}
        }
    }
    finish(sightings, &finals)
}

fn finish(mut sightings: Sightings, finals: &[&Final]) -> Vec<Conflict> {
    let mut out = Vec::new();
    for (key, conflicts) in std::mem::take(&mut sightings.conflicts) {
        for (mut conflict, ids) in conflicts {
            conflict.settled = sightings.settled(&key, &ids, finals);
            let known = sightings.writes.get(&key);
            let writes = ids.iter().rev().filter_map(|id| known?.get(id));
            conflict.writes = writes.map(|(sibling, _)| sibling.clone()).collect();
            out.push(conflict);
        }
    }
    out.sort_by(|a, b| (a.first_us, &a.key).cmp(&(b.first_us, &b.key)));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sibling(value: &str, version: u64, origin: &str) -> Sibling {
        Sibling { value: Some(value.into()), version, origin: origin.into(), ..Sibling::default() }
    }

    #[test]
    fn sightings_that_share_a_write_are_one_conflict() {
        let mut sightings = Sightings::default();
        let (a2, b2, b3) = (sibling("x", 2, "a"), sibling("y", 2, "b"), sibling("z", 3, "b"));
        sightings.saw(5, "eu", "k", &[a2.clone(), b2]);
        sightings.saw(7, "us", "k", &[b3.clone(), a2]);
        sightings.wrote(9, "us", "k", &sibling("end", 4, "b"));
        let found = finish(sightings, &[]);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].first_us, found[0].last_us, found[0].sightings), (5, 7, 2));
        assert_eq!(found[0].writes[0], b3);
        let wanted = Settled::Later {
            version: 4,
            value: Some("end".into()),
            at_us: Some(9),
            region: "us".into(),
        };
        assert_eq!(found[0].settled, wanted);
    }

    #[test]
    fn what_shows_at_the_end_is_open() {
        let mut sightings = Sightings::default();
        let row = vec![sibling("x", 2, "a"), sibling("y", 2, "b")];
        let last = Final { rows: BTreeMap::from([("k".into(), row.clone())]), ..Final::default() };
        sightings.saw(5, "eu", "k", &row);
        sightings.wrote(9, "us", "other", &sibling("later", 9, "b"));
        assert_eq!(finish(sightings, &[&last])[0].settled, Settled::Open);
    }
}
