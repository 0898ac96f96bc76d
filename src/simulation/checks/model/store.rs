//! One node's configurations.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::entries::precedence;
use super::super::testing::sibling;
use super::{AtUs, Bug, Change, Dot, Log, Sibling};

/// One node.
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) region: String,
    pub(crate) up: bool,
    pub(crate) origin: String,
    /// How many origins it had before.
    generation: u32,
    pub(crate) vector: BTreeMap<String, u64>,
    pub(crate) rows: BTreeMap<String, Vec<(Dot, Sibling)>>,
    pub(crate) log: Log,
    /// How many of `log` an old copy of the disk has.
    copy: usize,
    /// How many of `log` are on disk.
    synced: usize,
    pub(crate) clock_off: u64,
    /// How often it was told of another change under a name that it knows.
    pub(crate) forks: u64,
    /// How much of the register's log it has applied.
    pub(crate) applied: usize,
}

impl Node {
    pub(crate) fn new(region: &str) -> Self {
        Self {
            name: format!("{region}-1"),
            region: region.to_owned(),
            up: true,
            origin: format!("{region}0"),
            generation: 0,
            vector: BTreeMap::new(),
            rows: BTreeMap::new(),
            log: Vec::new(),
            copy: 0,
            synced: 0,
            clock_off: 0,
            forks: 0,
            applied: 0,
        }
    }

    pub(crate) fn stop(&mut self, kind: &str, bug: Option<Bug>) {
        self.up = false;
        let keep = match kind {
            "wipe" => 0,
            "old_copy" => self.copy,
            _ if matches!(bug, Some(Bug::AckBeforeFsync | Bug::PushBeforeFsync)) => self.synced,
            _ => self.log.len(),
        };
        let log: Log = self.log.drain(..keep).collect();
        (self.copy, self.synced) = (self.copy.min(keep), self.synced.min(keep));
        self.vector.clear();
        self.rows.clear();
        self.log.clear();
        log.iter().for_each(|change| self.take(change, bug));
    }

    pub(crate) fn start(&mut self, kind: &str, bug: Option<Bug>) {
        self.up = true;
        let is_lost = matches!(kind, "wipe" | "old_copy");
        if is_lost && bug != Some(Bug::ReuseOrigin) {
            self.generation += 1;
            self.origin = format!("{}{}", self.region, self.generation);
        }
    }

    /// What is on disk from now on.
    pub(crate) fn sync(&mut self, makes_copy: bool) {
        self.synced = self.log.len();
        if makes_copy {
            self.copy = self.log.len();
        }
    }

    /// Whether all that it has is on disk.
    pub(crate) fn is_synced(&self) -> bool {
        self.synced == self.log.len()
    }

    /// What it tells others.
    pub(crate) fn told(&self, bug: Option<Bug>) -> Log {
        let on_disk = bug == Some(Bug::AckBeforeFsync);
        self.log[..if on_disk { self.synced } else { self.log.len() }].to_vec()
    }

    /// Whether it includes all of `vector`.
    pub(crate) fn covers(&self, vector: &BTreeMap<String, u64>) -> bool {
        vector.iter().all(|(origin, n)| self.vector.get(origin).unwrap_or(&0) >= n)
    }

    /// Applies a change, if it is the next of its origin and all that it needs is there.
    pub(crate) fn take(&mut self, change: &Arc<Change>, bug: Option<Bug>) {
        let next = self.vector.get(&change.origin).unwrap_or(&0) + 1;
        if change.n < next {
            let other = |it: &&Arc<Change>| it.origin == change.origin && it.n == change.n;
            let known = self.log.iter().find(other);
            self.forks += u64::from(known.is_some_and(|it| !Arc::ptr_eq(it, change)));
            return;
        }
        if change.n != next || !self.covers(&change.needs) {
            return;
        }
        self.vector.insert(change.origin.clone(), change.n);
        self.log.push(change.clone());
        for (key, new, replaced) in &change.writes {
            let row = self.rows.entry(key.clone()).or_default();
            row.retain(|(dot, _)| !replaced.contains(dot));
            row.push(((change.origin.clone(), change.n), new.clone()));
            match bug {
                Some(Bug::WinnerByArrival) => row.rotate_right(1),
                Some(Bug::WinnerByAtLeast) => {
                    row.sort_by(|(_, a), (_, b)| precedence(a, b));
                    let last = row.iter().position(|(_, it)| it == new).unwrap_or(0);
                    if row[0].1.updated_at <= row[last].1.updated_at {
                        row.swap(0, last);
                    }
                }
                _ => row.sort_by(|(_, a), (_, b)| precedence(a, b)),
            }
        }
    }

    pub(crate) fn siblings(&self, key: &str) -> Vec<Sibling> {
        self.rows.get(key).into_iter().flatten().map(|(_, it)| it.clone()).collect()
    }

    /// Writes (or, with no value, removes) the keys together.
    pub(crate) fn write(&mut self, at_us: AtUs, entries: &[(String, String)], bug: Option<Bug>) {
        let n = self.vector.get(&self.origin).unwrap_or(&0) + 1;
        let wall = (at_us + self.clock_off) / 1_000_000 * 1_000_000;
        let mut writes = Vec::new();
        for (key, value) in entries {
            let row = self.rows.get(key).map(Vec::as_slice).unwrap_or_default();
            let version = row.iter().map(|(_, it)| it.version).max().unwrap_or(0) + 1;
            let mut stamp = wall;
            // Above all that it replaces, whatever the clock says.
            while row.iter().any(|(_, it)| it.updated_at >= sibling("", 0, "", stamp).updated_at) {
                stamp += 1 + stamp % 7 * 100_000;
            }
            let replaced: BTreeSet<Dot> = row.iter().map(|(dot, _)| dot.clone()).collect();
            writes.push((key.clone(), sibling(value, version, &self.origin, stamp), replaced));
        }
        let needs = self.vector.clone();
        let change = Change { at_us, origin: self.origin.clone(), n, needs, writes };
        self.take(&Arc::new(change), bug);
    }

    /// What the last write made of the key.
    pub(crate) fn last_write(&self, key: &str) -> Option<Sibling> {
        let writes = &self.log.last()?.writes;
        writes.iter().find(|it| it.0 == key).map(|it| it.1.clone())
    }

    pub(crate) fn view_hash(&self) -> String {
        format!("{:?}", self.rows)
    }
}
