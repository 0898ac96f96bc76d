//! Progress: after healing, every kind of request works again within the bound, in every region that
//! is not lost; a region that stays connected to a majority works all the time; and every request is
//! answered.

use std::collections::BTreeMap;

use super::entries::at;
use super::index::Asked;
use super::{Check, History, Judge};
use crate::simulation::history::{AtUs, Outcome, Request};

pub(crate) const CHECK: Check = Check {
    name: "liveness",
    claim: "Whatever is asked for works again soon after healing, works all the time where a majority \
            is, and is answered.",
    run,
};

/// How much longer than agreement it may take until everything works again.
const LONGER_US: u64 = 5_000_000;

/// Requests that began so close to the end need no answer.
const ANSWERED_WITHIN_US: u64 = 10_000_000;

/// So many requests have to fail in a row, without any that works between, before that is an outage.
const FAILURES_MIN: usize = 5;

/// What a request is, in words.
pub(crate) fn kind(request: &Request) -> &'static str {
    match request {
        Request::ConfigWrite { .. } => "config write",
        Request::ConfigRemove { .. } => "config removal",
        Request::ConfigRead { .. } => "config read",
        Request::ConfigWatch { .. } => "watch",
        Request::SecretWrite { .. } => "secret write",
        Request::SecretRead { consistency, .. } if consistency == "local" => "local secret read",
        Request::SecretRead { .. } => "secret read",
        Request::SecretRemove { .. } => "secret removal",
        Request::RoleWrite { .. } => "role write",
        Request::RoleRead { .. } => "role read",
        Request::AccountDisable { .. } | Request::AccountEnable { .. } => "change of an account",
        Request::TokenIssue { .. } => "token",
        Request::Operate { .. } => "operation",
    }
}

fn bound(history: &History<'_>) -> u64 {
    history.run.converge_within_us.saturating_add(LONGER_US)
}

/// Whether the service did its work, if only to say that the request is wrong.
fn works(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Unknown { .. } => false,
        Outcome::Refused { status, .. } => *status < 500 && ![408, 429].contains(status),
        _ => true,
    }
}

/// By region and kind, the requests that promise something everywhere: without a session, which may
/// include what only a region that is gone has.
type Requests<'h, 'a> = BTreeMap<(&'h str, &'static str), Vec<&'h Asked<'a>>>;

fn run(history: &History<'_>, judge: &mut Judge) {
    let mut requests: Requests<'_, '_> = BTreeMap::new();
    for it in history.calls.iter().filter(|it| !it.call.has_session) {
        let kind = kind(&it.call.request);
        if kind != "operation" && !history.is_void(&it.call.node) {
            requests.entry((&it.call.region, kind)).or_default().push(it);
        }
    }
    for ((region, kind), calls) in &requests {
        if !history.run.lost_regions.contains(*region) {
            healed(history, (region, kind), calls, judge);
        }
        outage(history, (region, kind), calls, judge);
    }
    answered(history, judge);
    let healed_us = history.run.faults_end_us;
    if !history.calls.iter().any(|it| it.at_us >= healed_us && !it.call.has_session) {
        ready(history, judge);
    }
}

/// Requests that began after the bound after healing work, at least one of them.
fn healed(
    history: &History<'_>,
    (region, kind): (&str, &str),
    calls: &[&Asked<'_>],
    judge: &mut Judge,
) {
    let healed_us = history.run.faults_end_us;
    let due_us = healed_us.saturating_add(bound(history));
    let after: Vec<&&Asked<'_>> = calls.iter().filter(|it| it.at_us >= healed_us).collect();
    let late = after.iter().filter(|it| it.at_us >= due_us && it.outcome().is_some());
    let late: Vec<&&&Asked<'_>> = late.collect();
    let worked = after.iter().find(|it| it.outcome().is_some_and(works));
    let Some(first) = worked.or_else(|| late.first().copied()) else { return };
    judge.examine();
    if worked.is_none() {
        let ended = late.iter().filter_map(|it| it.ended_us()).max().unwrap_or(first.at_us);
        let ops: Vec<u64> = late.iter().map(|it| it.call.op).take(5).collect();
        let what = format!("no {kind} works in {region} after everything was healed");
        let what = format!("{what} at {}: {} failed", at(healed_us), after.len());
        judge.violation(ended, &ops, &[&first.call.node], what);
    }
}

/// While a region is connected to a majority, no kind of request fails for longer than the bound.
fn outage(
    history: &History<'_>,
    (region, kind): (&str, &str),
    calls: &[&Asked<'_>],
    judge: &mut Judge,
) {
    let mut failed: Vec<(&Asked<'_>, AtUs)> = Vec::new();
    for it in calls {
        let Some((ended, outcome)) = it.answers.first().copied() else { continue };
        if history.is_hurt_within(&it.call.node, it.at_us, ended) {
            continue;
        }
        if works(outcome) {
            failed.clear();
            continue;
        }
        failed.push((it, ended));
        // The latest beginning of a long enough row of failures.
        let is_long = |from: &Asked<'_>| ended.saturating_sub(from.at_us) > bound(history);
        let Some(first) = failed.iter().rposition(|(from, _)| is_long(from)) else { continue };
        let row = &failed[first..];
        let from = row[0].0.at_us;
        if row.len() >= FAILURES_MIN && history.is_with_majority(region, from, ended) {
            judge.examine();
            let ops: Vec<u64> = row.iter().map(|(it, _)| it.call.op).collect();
            let what =
                format!("every {kind} in {region} failed from {} to {}", at(from), at(ended));
            let what = format!("{what} ({} of them), though a majority was there", row.len());
            judge.violation(ended, &ops[..ops.len().min(5)], &[&it.call.node], what);
            failed.clear();
        }
    }
}

/// Every request has an answer, unless its node was in trouble or the run ended too soon.
fn answered(history: &History<'_>, judge: &mut Judge) {
    for it in &history.calls {
        let (node, region) = (&*it.call.node, Some(&*it.call.region));
        if !it.answers.is_empty() {
            judge.examine();
            continue;
        }
        let end = history.end_us;
        if it.at_us.saturating_add(ANSWERED_WITHIN_US) > end
            || history.is_down_within(node, it.at_us, end)
        {
            continue;
        }
        let mut faults = history.faults.iter().filter(|it| !it.fault.kind.starts_with("clock"));
        if faults.any(|span| span.overlaps(it.at_us, end) && span.hurts_node(node, region)) {
            continue;
        }
        judge.examine();
        let (kind, op) = (kind(&it.call.request), it.call.op);
        let what = format!("the {kind} of call {op} to {node} at {} has no answer", at(it.at_us));
        judge.violation(end, &[op], &[node], what);
    }
}

/// Where nobody asks for anything after healing, nodes say at least that they would answer.
fn ready(history: &History<'_>, judge: &mut Judge) {
    let due_us = history.run.faults_end_us.saturating_add(bound(history));
    let counts = |node: &str| !history.is_lost(node) && !history.is_void(node);
    let voters = history.run.nodes.iter().filter(|it| it.voter && !history.is_lost(&it.node));
    let has_quorum = voters.count() * 2 > history.voters();
    let mut is_seen = false;
    for (node, probes) in history.probes.iter().filter(|(node, _)| counts(node)) {
        let Some((at_us, last)) = probes.last().filter(|(at_us, it)| *at_us >= due_us && it.up)
        else {
            continue;
        };
        is_seen = true;
        judge.examine();
        let what = if !last.ready {
            format!("{node} is not ready at the end")
        } else if has_quorum && last.leader.is_none() {
            format!("{node} knows of no leader at the end")
        } else {
            continue;
        };
        judge.violation(*at_us, &[], &[node], what);
    }
    if is_seen {
        judge.note(
            "nobody asked for anything after healing; judged by what nodes say of themselves",
        );
    } else {
        judge.undecided("nobody asked for anything after healing, and no node says how it stands");
    }
}

#[cfg(test)]
mod tests {
    use super::super::Judgement;
    use super::super::testing::{
        Build, S, call, down, fault, isolate, probe, read, refused, row, secret_read, unknown,
        value,
    };
    use super::*;
    use crate::simulation::history::Probe;

    fn no_quorum() -> Outcome {
        refused(503, "QuorumUnavailable")
    }

    fn good() -> Build {
        let mut it = Build::default();
        it.fault(10 * S, Some(40 * S), isolate(1, "c"));
        for t in [12, 20, 28, 36] {
            it.ask((t * S, (t + 1) * S), "c-1", secret_read("s"), no_quorum());
            it.ask((t * S, (t + 1) * S), "a-1", secret_read("s"), value("", 0));
        }
        it.ask((61 * S, 62 * S), "c-1", secret_read("s"), no_quorum());
        it.ask((70 * S, 71 * S), "c-1", secret_read("s"), value("", 0));
        it.ask((70 * S, 71 * S), "a-1", secret_read("s"), refused(404, "NotFound"));
        it.call(85 * S, call(1, "a-1", read("k")));
        it
    }

    #[test]
    fn a_region_that_works_again_passes() {
        good().passes(CHECK);
    }

    #[test]
    fn a_region_that_never_works_again_is_found() {
        let mut it = good();
        it.ask((61 * S, 62 * S), "b-1", read("k"), unknown());
        it.passes(CHECK);
        let op = it.ask((76 * S, 77 * S), "b-1", read("k"), unknown());
        let found = it.violates(CHECK, "no config read works in b after everything was healed");
        assert_eq!((found.at_us, found.ops), (77 * S, vec![op]));
        it.run.lost_regions = ["b".to_owned()].into();
        it.passes(CHECK);
    }

    #[test]
    fn an_outage_of_the_majority_is_found() {
        let outage = |it: &mut Build| {
            for t in [14, 18, 22, 26, 30] {
                it.ask((t * S, (t + 1) * S), "b-1", secret_read("s"), no_quorum());
            }
        };
        let mut it = good();
        outage(&mut it);
        it.violates(CHECK, "every secret read in b failed from 14.000 s to 31.000 s (5 of them)");
        // A bad link may be why, or that a second voter is down.
        it.fault(5 * S, Some(50 * S), fault(2, "link", &["b"]));
        it.passes(CHECK);
        let mut it = good();
        outage(&mut it);
        it.fault(13 * S, Some(50 * S), down(2, "crash", "a-1"));
        it.passes(CHECK);
    }

    #[test]
    fn a_request_without_an_answer_is_found() {
        let mut it = good();
        let op = it.call(50 * S, call(1, "a-1", read("k")));
        let found =
            it.violates(CHECK, "the config read of call 13 to a-1 at 50.000 s has no answer");
        assert_eq!(found.ops, [op]);
        it.fault(51 * S, Some(52 * S), fault(3, "pause", &["a"]));
        it.passes(CHECK);
    }

    #[test]
    fn where_nobody_asks_nodes_have_to_be_ready() {
        let mut it = good();
        it.records.retain(|it| it.at_us < 60 * S);
        assert!(matches!(it.judge(CHECK), Judgement::Undecided { .. }));
        it.probe(80 * S, probe("a-1", &[], ""));
        it.passes(CHECK);
        let mut lone = it.clone();
        lone.probe(80 * S, Probe { leader: None, ..probe("b-1", &[], "") });
        lone.violates(CHECK, "b-1 knows of no leader at the end");
        it.probe(80 * S, Probe { ready: false, ..probe("b-1", &[], "") });
        it.violates(CHECK, "b-1 is not ready at the end");
        it.ask((75 * S, 76 * S), "a-1", read("k"), row(&[]));
        it.passes(CHECK);
    }
}
