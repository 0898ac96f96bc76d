//! A node that reaches no majority of the voters does not answer for the quorum: it refuses, in time.
//! Configurations go on there as ever.
//!
//! Only what is certain counts: a node whose whole connected group, over links that were open in both
//! directions at any time of the request, has no majority.

use std::collections::BTreeMap;

use super::entries::at;
use super::index::Asked;
use super::{Check, History, Judge};
use crate::simulation::history::{AtUs, Outcome, Request};

pub(crate) const CHECK: Check = Check {
    name: "minority",
    claim: "Without a majority of voters a node refuses in time what needs one, and goes on taking \
            config writes.",
    run,
};

/// How long before a request a cut has to have begun: what was on its way then may still come.
const GRACE_US: u64 = 2_000_000;

/// How long a node may take to say no: the time it waits for the quorum (5 s for each of the two
/// things that a request may wait for), its session, and something for the way.
const REFUSED_WITHIN_US: u64 = 15_000_000;

/// How far a node's own trouble reaches.
const AROUND_US: u64 = 1_000_000;

/// So many config writes of a node without a known outcome, and none that was taken, are more than
/// answers that were lost on the way to their clients.
const UNKNOWN_MIN: usize = 5;

/// The config writes of a node that is cut off: whether one was taken, and those whose outcome is
/// unknown.
#[derive(Default)]
struct Alone<'h, 'a> {
    is_taken: bool,
    unknown: Vec<&'h Asked<'a>>,
}

fn run(history: &History<'_>, judge: &mut Judge) {
    let until = history.voters_changed_us().unwrap_or(AtUs::MAX);
    let mut alone: BTreeMap<&str, Alone<'_, '_>> = BTreeMap::new();
    for it in &history.calls {
        let Some((ended, outcome)) = it.answers.first().copied() else { continue };
        let (op, node) = (it.call.op, &*it.call.node);
        if ended >= until || !is_cut_off(history, &it.call.region, it.at_us, ended) {
            continue;
        }
        let (from, to) = (it.at_us.saturating_sub(AROUND_US), ended.saturating_add(AROUND_US));
        let is_hurt = history.is_hurt_within(node, from, to);
        let what = if needs_quorum(&it.call.request) {
            quorum(it, outcome, ended - it.at_us, is_hurt)
        } else if is_write(&it.call.request) && !is_hurt {
            let alone = alone.entry(node).or_default();
            match outcome {
                Outcome::Unknown { .. } => alone.unknown.push(it),
                _ => alone.is_taken |= matches!(outcome, Outcome::Wrote { .. }),
            }
            config(outcome)
        } else {
            continue;
        };
        judge.examine();
        if let Some(what) = what {
            let asked = super::liveness::kind(&it.call.request);
            let what = format!("{node}, cut off from a majority of the voters, {what} ({asked})");
            judge.violation(ended, &[op], &[node], what);
        }
    }
    for (node, Alone { unknown, .. }) in alone.into_iter().filter(|(_, it)| !it.is_taken) {
        if let Some(last) = unknown.last().filter(|_| unknown.len() >= UNKNOWN_MIN) {
            let ops: Vec<u64> = unknown.iter().map(|it| it.call.op).take(5).collect();
            let what =
                format!("{node}, cut off from a majority of the voters, took no config write");
            let what = format!("{what}: of {} the outcome is unknown", unknown.len());
            judge.violation(last.ended_us().unwrap_or(last.at_us), &ops, &[node], what);
        }
    }
}

/// Whether the region's group had no majority of voters for the whole of a request.
fn is_cut_off(history: &History<'_>, region: &str, from: AtUs, to: AtUs) -> bool {
    let since = from.saturating_sub(GRACE_US + 2 * history.delay_us_max());
    let cut = history.cut_throughout(since, to);
    let group = history.component(region, &cut);
    let voters = history.run.nodes.iter().filter(|it| it.voter && group.contains(&*it.region));
    let up = voters.filter(|it| !history.is_down_throughout(&it.node, since, to)).count();
    up * 2 <= history.voters() && history.voters() > 0
}

fn needs_quorum(request: &Request) -> bool {
    match request {
        Request::SecretRead { consistency, .. } => consistency != "local",
        Request::SecretWrite { .. }
        | Request::SecretRemove { .. }
        | Request::RoleWrite { .. }
        | Request::RoleRead { .. }
        | Request::AccountDisable { .. }
        | Request::AccountEnable { .. } => true,
        _ => false,
    }
}

fn is_write(request: &Request) -> bool {
    matches!(request, Request::ConfigWrite { .. } | Request::ConfigRemove { .. })
}

/// What is wrong with this answer to a request that needs a quorum.
fn quorum(it: &Asked<'_>, outcome: &Outcome, took: u64, is_hurt: bool) -> Option<String> {
    let op = it.call.op;
    match outcome {
        Outcome::Value { .. } | Outcome::Done | Outcome::Row { .. } | Outcome::Wrote { .. } => {
            Some(format!("answered call {op} as if it had a quorum"))
        }
        _ if took > REFUSED_WITHIN_US && !is_hurt => {
            Some(format!("took {} to refuse call {op}", at(took)))
        }
        // A full disk and a wrong request are refused by the node alone.
        Outcome::Refused { status, error } if *status >= 500 && ![503, 507].contains(status) => {
            Some(format!("answered call {op} with {status} {error}"))
        }
        _ => None,
    }
}

/// What is wrong with this answer to a config write.
fn config(outcome: &Outcome) -> Option<String> {
    match outcome {
        Outcome::Refused { status, error } if *status >= 500 => {
            Some(format!("refused a write with {status} {error}"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{
        Build, S, down, fault, isolate, refused, secret_read, secret_write, sibling, unknown,
        value, write, wrote,
    };
    use super::*;
    use crate::simulation::history::Event;

    fn good() -> Build {
        let mut it = Build::default();
        it.fault(10 * S, Some(40 * S), isolate(1, "c"));
        it.ask((11 * S, 12 * S), "c-1", secret_write("s", "x"), value("x", 1));
        it.ask((20 * S, 26 * S), "c-1", secret_write("s", "y"), refused(503, "QuorumUnavailable"));
        it.ask((20 * S, 21 * S), "c-1", secret_read("s"), unknown());
        it.ask((20 * S, 21 * S), "c-1", write("k", "v"), wrote("k", sibling("v", 1, "c", 1)));
        it.ask((20 * S, 21 * S), "a-1", secret_write("s", "z"), value("z", 2));
        it.ask((38 * S, 41 * S), "c-1", secret_read("s"), value("z", 2));
        it
    }

    #[test]
    fn a_minority_that_refuses_passes() {
        good().passes(CHECK);
    }

    #[test]
    fn a_minority_that_answers_is_found() {
        let mut it = good();
        let op = it.ask((20 * S, 21 * S), "c-1", secret_read("s"), value("z", 2));
        let found = it.violates(CHECK, "as if it had a quorum");
        assert_eq!((found.at_us, found.ops), (21 * S, vec![op]));
        it.fault(15 * S, Some(17 * S), fault(2, "voters", &["c"]));
        assert!(!matches!(it.judge(CHECK), super::super::Judgement::Violation { .. }));
        let mut it = good();
        it.ask((20 * S, 21 * S), "c-1", secret_write("s", "z"), Outcome::Done);
        it.violates(CHECK, "as if it had a quorum");
    }

    #[test]
    fn a_majority_that_is_down_counts_as_well() {
        let mut it = good();
        it.fault(45 * S, Some(55 * S), down(2, "crash", "a-1"));
        it.ask((50 * S, 51 * S), "c-1", secret_read("s"), value("z", 2));
        it.passes(CHECK);
        it.fault(45 * S, Some(55 * S), down(3, "crash", "b-1"));
        it.violates(CHECK, "as if it had a quorum");
    }

    #[test]
    fn a_refusal_that_takes_for_ever_is_found() {
        let mut it = good();
        it.ask((20 * S, 36 * S), "c-1", secret_read("s"), refused(503, "QuorumUnavailable"));
        it.violates(CHECK, "took 16.000 s to refuse");
        let mut it = good();
        it.ask((20 * S, 21 * S), "c-1", secret_read("s"), refused(500, "Internal"));
        it.violates(CHECK, "with 500 Internal");
    }

    #[test]
    fn a_config_write_that_fails_alone_is_found() {
        let mut it = good();
        it.ask((20 * S, 21 * S), "c-1", write("k", "w"), refused(503, "QuorumUnavailable"));
        it.violates(CHECK, "refused a write with 503 QuorumUnavailable (config write)");
        it.fault(19 * S, Some(22 * S), fault(2, "disk_full", &["c"]));
        it.passes(CHECK);
        let mut it = good();
        for value in ["u", "v", "w", "x", "y"] {
            it.ask((20 * S, 21 * S), "c-1", write("k", value), unknown());
        }
        it.passes(CHECK);
        it.records.retain(|it| match &it.event {
            Event::Answer(answer) => !matches!(answer.outcome, Outcome::Wrote { .. }),
            _ => true,
        });
        it.violates(CHECK, "took no config write: of 5 the outcome is unknown");
    }

    #[test]
    fn a_bridge_leaves_a_majority() {
        let mut it = good();
        let cut = [("a".to_owned(), "b".to_owned()), ("b".to_owned(), "a".to_owned())];
        let bridge = fault(2, "bridge", &["a", "b"]);
        it.fault(
            42 * S,
            Some(58 * S),
            crate::simulation::history::Fault { links_cut: cut.into(), ..bridge },
        );
        it.ask((50 * S, 51 * S), "a-1", secret_read("s"), value("z", 2));
        it.passes(CHECK);
    }
}
