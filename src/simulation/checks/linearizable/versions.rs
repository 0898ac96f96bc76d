//! The fast way: where nothing is removed, versions count the writes, so that they are the order. It
//! is exact: what passes has an order, what does not has none.

use std::collections::{BTreeMap, BTreeSet};

use super::super::Judge;
use super::super::entries::short;
use super::{Kind, Name, Operation};
use crate::simulation::history::AtUs;

/// What an operation says of versions: the value that one has.
fn names<'a>(it: &Operation<'a>) -> Option<(&'a str, u64)> {
    match it.kind {
        Kind::Read { value: Some(value), version } => Some((value, version)),
        Kind::Write { value, version: Some(version), .. } => Some((value, version)),
        _ => None,
    }
}

/// Each value is written once: it has one version, removals or not.
pub(super) fn one_version_each(name: Name<'_>, all: &[Operation<'_>], judge: &mut Judge) -> bool {
    let mut versions: BTreeMap<&str, (u64, &Operation<'_>)> = BTreeMap::new();
    let mut complained = BTreeSet::new();
    for it in all {
        let Some((value, version)) = names(it) else { continue };
        let (other, before) = *versions.entry(value).or_insert((version, it));
        if other != version && complained.insert(value) {
            let (kind, name) = name;
            let what = format!("{} of the {kind} {name} is version {other}", short(value));
            let what = format!("{what} for call {} and {version} for call {}", before.op, it.op);
            judge.violation(ended(before, it), &[before.op, it.op], &[before.node, it.node], what);
        }
    }
    complained.is_empty()
}

fn ended(a: &Operation<'_>, b: &Operation<'_>) -> AtUs {
    let ends = [a.to, b.to].into_iter().filter(|it| *it != AtUs::MAX);
    ends.max().unwrap_or(a.from.max(b.from))
}

/// An operation whose version is known.
struct Known<'o> {
    version: u64,
    is_write: bool,
    it: &'o Operation<'o>,
}

/// Looks whether the versions are an order that agrees with time.
pub(super) fn check(name: Name<'_>, all: &[Operation<'_>], judge: &mut Judge) {
    let read: BTreeMap<&str, u64> =
        all.iter().filter(|it| matches!(it.kind, Kind::Read { .. })).filter_map(names).collect();
    let (mut known, mut open) = (Vec::new(), Vec::new());
    for it in all {
        let (version, is_write) = match it.kind {
            Kind::Read { version, .. } => (version, false),
            Kind::Write { value, version, expect } => {
                let Some(version) = version.or_else(|| read.get(value).copied()) else {
                    open.push(it);
                    continue;
                };
                if version == 0 {
                    let what = format!("{} of the {} {}", it.show(), name.0, name.1);
                    let what = format!("{what} made version 0, which is that of nothing");
                    judge.violation(shows_at(it), &[it.op], &[it.node], what);
                }
                if expect.is_some_and(|expect| expect.checked_add(1) != Some(version)) {
                    let (show, expect) = (it.show(), expect.unwrap_or(0));
                    let what = format!("{show} of the {} {} was to replace", name.0, name.1);
                    let what = format!("{what} version {expect}, and did not");
                    judge.violation(shows_at(it), &[it.op], &[it.node], what);
                }
                (version, true)
            }
            Kind::Remove => continue,
        };
        known.push(Known { version, is_write, it });
    }
    if one_value_each(name, &known, judge) && in_time(name, &known, judge) {
        gaps(name, &known, open, judge);
    }
}

/// No version has two values.
fn one_value_each(name: Name<'_>, known: &[Known<'_>], judge: &mut Judge) -> bool {
    let mut values: BTreeMap<u64, (&str, &Operation<'_>)> = BTreeMap::new();
    let mut complained = BTreeSet::new();
    for Known { version, it, .. } in known {
        let value = match it.kind {
            Kind::Read { value: Some(value), .. } | Kind::Write { value, .. } => value,
            _ => continue,
        };
        let (other, before) = *values.entry(*version).or_insert((value, it));
        if other != value && complained.insert(*version) {
            let (kind, name) = name;
            let what = format!("version {version} of the {kind} {name} is {} for", short(other));
            let what = format!("{what} call {} and {} for call {}", before.op, short(value), it.op);
            judge.violation(ended(before, it), &[before.op, it.op], &[before.node, it.node], what);
        }
    }
    complained.is_empty()
}

/// No operation is told of less than what an earlier one was told of before it began.
fn in_time(name: Name<'_>, known: &[Known<'_>], judge: &mut Judge) -> bool {
    let mut ended: Vec<&Known<'_>> = known.iter().filter(|it| it.it.is_done()).collect();
    ended.sort_by_key(|it| (it.it.to, it.version));
    let mut ended = ended.into_iter().peekable();
    let mut highest: Option<&Known<'_>> = None;
    let mut holds = true;
    for Known { version, is_write, it } in known {
        while let Some(before) = ended.next_if(|before| before.it.to < it.from) {
            if highest.is_none_or(|highest| highest.version < before.version) {
                highest = Some(before);
            }
        }
        let Some(floor) = highest else { continue };
        let is_back = if *is_write { *version <= floor.version } else { *version < floor.version };
        if is_back {
            let (kind, name) = name;
            let what = format!("{} of the {kind} {name} by {} began", it.show(), it.node);
            let what = format!("{what} after {} had ended", floor.it.show());
            let ops = [floor.it.op, it.op];
            judge.violation(shows_at(it), &ops, &[floor.it.node, it.node], what);
            holds = false;
        }
    }
    holds
}

fn shows_at(it: &Operation<'_>) -> AtUs {
    if it.is_done() { it.to } else { it.from }
}

/// Every version up to the highest was made by some write: those that no answer names, by one whose
/// outcome is unknown, that began before anybody was told of that version or a later one.
fn gaps(name: Name<'_>, known: &[Known<'_>], mut open: Vec<&Operation<'_>>, judge: &mut Judge) {
    let made: BTreeSet<u64> = known.iter().filter(|it| it.is_write).map(|it| it.version).collect();
    // When somebody was told first of a version or a later one.
    let mut told: BTreeMap<u64, &Operation<'_>> = BTreeMap::new();
    for Known { version, it, .. } in known {
        let first = told.entry(*version).or_insert(it);
        if it.to < first.to {
            *first = it;
        }
    }
    let mut first: Option<&Operation<'_>> = None;
    for (_, it) in told.iter_mut().rev() {
        first = Some(first.filter(|first| first.to <= it.to).unwrap_or(it));
        *it = first.unwrap_or(it);
    }
    let highest = told.keys().next_back().copied().unwrap_or(0);
    for gap in (1..=highest).filter(|version| !made.contains(version)) {
        let Some(by) = told.range(gap..).next().map(|(_, it)| *it) else { return };
        let fits = |it: &&Operation<'_>, wanted: Option<u64>| {
            let Kind::Write { expect, .. } = it.kind else { return false };
            expect == wanted && it.from <= by.to
        };
        // One that can be nowhere else first; else the one that began first.
        let place = open.iter().position(|it| fits(it, Some(gap - 1)));
        let place = place.or_else(|| open.iter().position(|it| fits(it, None)));
        let Some(place) = place else {
            let (kind, name) = name;
            let what = format!("no write can have made version {gap} of the {kind} {name}");
            let what = format!("{what}, which {} comes after or shows", by.show());
            judge.violation(shows_at(by), &[by.op], &[by.node], what);
            return;
        };
        open.remove(place);
    }
}
