//! Secrets and roles are linearizable: there is one order of all requests of a name in which each
//! takes effect between its call and its answer, and reads what was written last.
//!
//! Where nothing is removed, the version that an answer names is the witness of the order, and one
//! pass decides (`versions`). Where versions begin again, or an answer names none, an order is looked
//! for (`search`), within a bound of steps.

mod local;
mod search;
mod versions;

use std::collections::BTreeMap;

use super::index::Asked;
use super::{Check, History, Judge};
use crate::simulation::history::{AtUs, Outcome, Request};

pub(crate) const CHECK: Check = Check {
    name: "linearizable",
    claim: "All requests of a secret or a role have one order that agrees with time, in which each \
            reads what was written last.",
    run,
};

/// Most steps that the search for an order takes for one name.
const STEPS_MAX: usize = 200_000;

/// One request and what came of it; retries under one Idempotency-Key are one.
#[derive(Clone, Debug)]
pub(crate) struct Operation<'a> {
    pub(crate) op: u64,
    pub(crate) node: &'a str,
    pub(crate) kind: Kind<'a>,
    pub(crate) from: AtUs,
    /// [`AtUs::MAX`] where nobody knows whether it was done: it may be at any later time.
    pub(crate) to: AtUs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind<'a> {
    /// Version 0: there was nothing.
    Read {
        value: Option<&'a str>,
        version: u64,
    },
    /// The version is none where no answer names it.
    Write {
        value: &'a str,
        expect: Option<u64>,
        version: Option<u64>,
    },
    Remove,
}

impl Operation<'_> {
    /// Whether it is known to have been done.
    pub(crate) fn is_done(&self) -> bool {
        self.to != AtUs::MAX
    }

    /// In words.
    pub(crate) fn show(&self) -> String {
        let value = super::entries::short;
        let op = self.op;
        match self.kind {
            Kind::Read { version: 0, .. } => format!("the read of nothing (call {op})"),
            Kind::Read { value: Some(it), version } => {
                format!("the read of {} as version {version} (call {op})", value(it))
            }
            Kind::Read { version, .. } => format!("the read of version {version} (call {op})"),
            Kind::Write { value: it, version: Some(version), .. } => {
                format!("the write of {} as version {version} (call {op})", value(it))
            }
            Kind::Write { value: it, .. } => format!("the write of {} (call {op})", value(it)),
            Kind::Remove => format!("the removal (call {op})"),
        }
    }
}

/// What a request is of: a kind of thing and its name.
pub(crate) type Name<'a> = (&'static str, &'a str);

fn run(history: &History<'_>, judge: &mut Judge) {
    let mut names: BTreeMap<Name<'_>, Vec<Operation<'_>>> = BTreeMap::new();
    for calls in retries(history) {
        let Some(name) = name(&calls[0].call.request) else { continue };
        match merged(&calls) {
            Ok(Some(operation)) => names.entry(name).or_default().push(operation),
            Ok(None) => {}
            Err(versions) => {
                let ops: Vec<u64> = calls.iter().map(|it| it.call.op).collect();
                let at_us = calls.iter().filter_map(|it| it.ended_us()).max().unwrap_or(0);
                let what = format!("retries of one write of the {} {} became", name.0, name.1);
                let what = format!("{what} versions {} and {}", versions.0, versions.1);
                judge.violation(at_us, &ops, &[&calls[0].call.node], what);
            }
        }
    }
    for (name, mut operations) in names {
        operations.sort_by_key(|it| (it.from, it.op));
        operations.iter().for_each(|_| judge.examine());
        if !versions::one_version_each(name, &operations, judge) {
            continue;
        }
        let is_removed = operations.iter().any(|it| it.kind == Kind::Remove);
        let is_nameless = |it: &Operation<'_>| {
            it.is_done() && matches!(it.kind, Kind::Write { version: None, .. })
        };
        if is_removed || operations.iter().any(is_nameless) {
            search(name, &operations, judge);
        } else {
            versions::check(name, &operations, judge);
            local::check(history, name, &operations, judge);
        }
    }
}

fn search(name: Name<'_>, operations: &[Operation<'_>], judge: &mut Judge) {
    match search::order(operations, STEPS_MAX) {
        search::Found::Order => {}
        search::Found::TooLong => {
            let what = format!("whether the requests of the {} {} have an order", name.0, name.1);
            judge.undecided(format!("{what} was not found out in {STEPS_MAX} steps"));
        }
        search::Found::None { stuck, last } => {
            let after = last
                .map_or_else(|| "at the beginning".to_owned(), |it| format!("after {}", it.show()));
            let what = format!(
                "no order of the requests of the {} {} agrees with time: {} has no place {after}",
                name.0,
                name.1,
                stuck.show()
            );
            let ops: Vec<u64> = last.iter().map(|it| it.op).chain([stuck.op]).collect();
            judge.violation(stuck.to, &ops, &[stuck.node], what);
        }
    }
}

/// What the request is of, if it has to be linearizable.
fn name(request: &Request) -> Option<Name<'_>> {
    match request {
        Request::SecretRead { consistency, .. } if consistency == "local" => None,
        Request::SecretWrite { name, .. }
        | Request::SecretRead { name, .. }
        | Request::SecretRemove { name } => Some(("secret", name)),
        Request::RoleWrite { name, .. } | Request::RoleRead { name } => Some(("role", name)),
        _ => None,
    }
}

/// The calls, those with one Idempotency-Key together.
fn retries<'h, 'a>(history: &'h History<'a>) -> Vec<Vec<&'h Asked<'a>>> {
    let mut groups: Vec<Vec<&Asked<'_>>> = Vec::new();
    let mut by_key: BTreeMap<(Option<&str>, &str), usize> = BTreeMap::new();
    for it in &history.calls {
        let group = match &it.call.idempotency_key {
            Some(key) => {
                let known = by_key.entry((it.call.account.as_deref(), key));
                Some(*known.or_insert(groups.len()))
            }
            None => None,
        };
        match group.and_then(|index| groups.get_mut(index)) {
            Some(group) => group.push(it),
            None => groups.push(vec![it]),
        }
    }
    groups
}

/// One operation of all tries; none where nothing was done, or nothing learnt. The error: two answers
/// that name different versions.
fn merged<'a>(calls: &[&Asked<'a>]) -> Result<Option<Operation<'a>>, (u64, u64)> {
    let first = calls[0];
    let request: &'a Request = &first.call.request;
    let is_read = matches!(request, Request::SecretRead { .. } | Request::RoleRead { .. });
    let done: Vec<(&&Asked<'a>, AtUs, &Outcome)> = calls
        .iter()
        .filter_map(|it| Some((it, it.ended_us()?, it.outcome()?)))
        .filter(|(_, _, it)| matches!(it, Outcome::Value { .. } | Outcome::Done))
        .collect();
    let mut versions = done.iter().filter_map(|(_, _, it)| match it {
        Outcome::Value { version, .. } => Some(*version),
        _ => None,
    });
    let version = versions.next();
    if let (Some(a), Some(b)) = (version, versions.find(|it| Some(*it) != version)) {
        return Err((a, b));
    }
    if done.is_empty() && (is_read || calls.iter().all(|it| it.is_refused())) {
        return Ok(None);
    }
    let kind = match request {
        Request::SecretWrite { value, expect_version: expect, .. } => {
            Kind::Write { value, expect: *expect, version }
        }
        Request::RoleWrite { value, .. } => Kind::Write { value, expect: None, version },
        Request::SecretRemove { .. } => Kind::Remove,
        _ => match first.outcome() {
            Some(Outcome::Value { value, version, .. }) => {
                Kind::Read { value: value.as_deref(), version: *version }
            }
            _ => return Ok(None),
        },
    };
    let to = done.iter().map(|(_, at_us, _)| *at_us).min().unwrap_or(AtUs::MAX);
    let told = done.first().map_or(first, |(it, _, _)| it);
    Ok(Some(Operation { op: told.call.op, node: &told.call.node, kind, from: first.at_us, to }))
}

#[cfg(test)]
mod tests;
