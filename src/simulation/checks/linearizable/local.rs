//! Reads with `consistency=local`: what a node has, with no promise of being the newest; but never
//! older than the answer says, and never older than what the client's session includes.

use std::collections::BTreeMap;

use super::super::{History, Judge};
use super::{Kind, Name, Operation};
use crate::simulation::history::{AtUs, Outcome, Request};

pub(super) fn check(
    history: &History<'_>,
    name: Name<'_>,
    all: &[Operation<'_>],
    judge: &mut Judge,
) {
    let mut told: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
    for it in &history.calls {
        let (Some(Outcome::Value { version, staleness_ms, .. }), Some(ended)) =
            (it.outcome(), it.ended_us())
        else {
            continue;
        };
        let (op, node) = (it.call.op, &*it.call.node);
        let is_local = match &it.call.request {
            Request::SecretRead { name: it, consistency } if *it == *name.1 => {
                consistency == "local" && name.0 == "secret"
            }
            request if super::name(request) == Some(name) => false,
            _ => continue,
        };
        let before = told.get(&it.call.client).copied();
        if is_local {
            judge.examine();
            if let Some((version_before, op_before)) =
                before.filter(|(before, _)| it.call.has_session && before > version)
            {
                let what = format!(
                    "client {} was told of version {version_before} of the secret {} (call \
                     {op_before}), and with its session {node} shows it version {version}",
                    it.call.client, name.1
                );
                judge.violation(ended, &[op_before, op], &[node], what);
            }
            if let Some(age) = staleness_ms {
                // It is said of a moment after the call began, so that nothing is to be added.
                let since = it.at_us.saturating_sub(age.saturating_mul(1000));
                if !history.is_hurt_within(node, 0, ended) {
                    stale(name, all, (since, *version, op, node, ended), judge);
                }
            }
        }
        if before.is_none_or(|(before, _)| before < *version) {
            told.insert(it.call.client, (*version, op));
        }
    }
}

/// Complains where a version was told of before `since` that is above the one that was shown.
fn stale(
    name: Name<'_>,
    all: &[Operation<'_>],
    (since, version, op, node, ended): (AtUs, u64, u64, &str, AtUs),
    judge: &mut Judge,
) {
    let newer = all.iter().filter(|it| it.to < since).find(|it| match it.kind {
        Kind::Read { version: it, .. } => it > version,
        Kind::Write { version: it, .. } => it.is_some_and(|it| it > version),
        Kind::Remove => false,
    });
    if let Some(newer) = newer {
        let what = format!("{node} shows version {version} of the secret {} (call {op})", name.1);
        let what = format!("{what}, which is older than it says: {} had ended", newer.show());
        judge.violation(ended, &[newer.op, op], &[node], what);
    }
}
