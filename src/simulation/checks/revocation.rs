//! A disabled account is refused everywhere within the bound: where its node was connected, within the
//! short one, and on an island at the latest within the long one.

use super::entries::at;
use super::index::{Asked, Span};
use super::{Check, History, Judge};
use crate::simulation::history::{AtUs, Outcome, Request};

pub(crate) const CHECK: Check = Check {
    name: "revocation",
    claim: "Once an account is disabled, nothing is done for it any more after the bound.",
    run,
};

/// How long after a fault a node needs to be connected again as ever.
const GRACE_US: u64 = 10_000_000;

fn run(history: &History<'_>, judge: &mut Judge) {
    for disable in &history.calls {
        let Request::AccountDisable { name } = &disable.call.request else { continue };
        let Some(since) = disable.ended_us() else { continue };
        if !matches!(disable.outcome(), Some(Outcome::Done | Outcome::Value { .. })) {
            continue;
        }
        let enables = history.calls.iter().filter(|it| match &it.call.request {
            Request::AccountEnable { name: enabled } => enabled == name && !it.is_refused(),
            _ => false,
        });
        // One whose outcome is unknown may be done at any later time.
        let until = enables
            .filter(|it| it.is_unknown() || it.ended_us().is_none_or(|end| end >= disable.at_us))
            .map(|it| it.at_us)
            .min()
            .unwrap_or(AtUs::MAX);
        for it in history.calls.iter().filter(|it| is_of(it, name)) {
            let Some(ended) = it.ended_us().filter(|ended| *ended <= until) else { continue };
            if it.at_us <= since {
                continue;
            }
            let Some(bound) = bound(history, it, (disable, since), ended) else { continue };
            judge.examine();
            if is_taken(it) {
                let (node, op) = (&*it.call.node, it.call.op);
                let what = format!(
                    "{node} served {name} (call {op}) {} after it was disabled (call {}), which is \
                     over the bound of {}",
                    at(it.at_us - since),
                    disable.call.op,
                    at(bound)
                );
                judge.violation(ended, &[disable.call.op, op], &[node], what);
            }
        }
    }
    if judge.examined == 0 {
        judge.note("no token of a disabled account was used after the bound");
    }
}

fn is_of(it: &Asked<'_>, account: &str) -> bool {
    match (&it.call.account, &it.call.request) {
        (Some(name), _) => name == account,
        (None, Request::TokenIssue { name }) => name == account,
        _ => false,
    }
}

/// Whether anything was done or told.
fn is_taken(it: &Asked<'_>) -> bool {
    !matches!(it.outcome(), None | Some(Outcome::Refused { .. } | Outcome::Unknown { .. }))
}

/// The bound that the call is over, if it is over one.
fn bound(
    history: &History<'_>,
    it: &Asked<'_>,
    (disabled, since): (&Asked<'_>, AtUs),
    ended: AtUs,
) -> Option<u64> {
    let age = it.at_us - since;
    let (short, long) =
        (history.run.revocation_within_us, history.run.revocation_within_on_island_us);
    if connected_since(history, it, (disabled, since), ended)
        .is_some_and(|from| it.at_us - from > short)
    {
        return Some(short);
    }
    let clock = |kind: &str| kind.starts_with("clock");
    let clock_is_off = history.faults.iter().any(|span| {
        clock(&span.fault.kind) && span.overlaps(0, ended) && span.concerns(&it.call.region)
    });
    (age > long && !clock_is_off).then_some(long)
}

/// Since when, from `since` on, nothing is known to have come between the node and a majority of the
/// voters; none where something does.
fn connected_since(
    history: &History<'_>,
    it: &Asked<'_>,
    (disabled, since): (&Asked<'_>, AtUs),
    ended: AtUs,
) -> Option<AtUs> {
    if is_beside_a_cut(history, it, disabled, ended) {
        return Some(since);
    }
    let harms = |region: &str, from: AtUs| {
        let faults = history.faults.iter().filter(move |span| span.overlaps(from, ended));
        let region = region.to_owned();
        faults.filter(move |span| !is_harmless(span) && span.concerns(&region))
    };
    let mut from = since;
    for span in harms(&it.call.region, since) {
        let to = span.to_us.filter(|to| *to < it.at_us)?;
        from = from.max(to.saturating_add(GRACE_US));
    }
    if from >= it.at_us || history.is_down_within(&it.call.node, from, ended) {
        return None;
    }
    let voters = history.run.nodes.iter().filter(|node| node.voter);
    let healthy = voters.filter(|node| harms(&node.region, from).next().is_none()).count();
    (healthy * 2 > history.voters()).then_some(from)
}

/// Whether others are cut off, and have been since before the account was disabled, while the node and
/// a majority hear each other. A cut that begins later may take the leader away, and until there is
/// another one nobody tells the node of what was decided.
fn is_beside_a_cut(
    history: &History<'_>,
    it: &Asked<'_>,
    disabled: &Asked<'_>,
    ended: AtUs,
) -> bool {
    let begin = disabled.at_us.saturating_sub(GRACE_US);
    let mut faults = history.faults.iter().filter(|span| span.overlaps(begin, ended));
    faults.all(|span| is_harmless(span) || span.covers(disabled.at_us, ended))
        && history.is_with_majority(&it.call.region, disabled.at_us, ended)
        && !history.is_hurt_within(&it.call.node, begin, ended)
}

fn is_harmless(span: &Span<'_>) -> bool {
    matches!(&*span.fault.kind, "revoke" | "rotate_ca" | "rotate_master_key")
}

#[cfg(test)]
mod tests {
    use super::super::Judgement;
    use super::super::testing::{
        Build, S, call, isolate, read, refused, row, sibling, unknown, write, wrote,
    };
    use super::*;
    use crate::simulation::history::{Call, Fault};

    fn by_account(
        it: &mut Build,
        at_us: AtUs,
        node: &str,
        request: Request,
        outcome: Outcome,
    ) -> u64 {
        let op = it.call(at_us, Call { account: Some("eve".into()), ..call(5, node, request) });
        it.answer(at_us + 1000, op, outcome);
        op
    }

    fn good() -> Build {
        let mut it = Build::default();
        by_account(&mut it, S, "a-1", read("k"), row(&[]));
        it.ask(
            (5 * S, 6 * S),
            "a-1",
            Request::AccountDisable { name: "eve".into() },
            Outcome::Done,
        );
        by_account(&mut it, 7 * S, "b-1", read("k"), row(&[]));
        by_account(&mut it, 9 * S, "b-1", read("k"), refused(401, "Unauthorized"));
        by_account(&mut it, 9 * S, "b-1", read("k"), unknown());
        it
    }

    #[test]
    fn an_account_that_is_refused_passes() {
        let mut it = good();
        it.ask(
            (40 * S, 41 * S),
            "a-1",
            Request::AccountEnable { name: "eve".into() },
            Outcome::Done,
        );
        by_account(&mut it, 42 * S, "b-1", read("k"), row(&[]));
        it.passes(CHECK);
    }

    #[test]
    fn a_route_that_serves_a_disabled_account_is_found() {
        let mut it = good();
        let op =
            by_account(&mut it, 9 * S, "b-1", write("k", "v"), wrote("k", sibling("v", 1, "b", 1)));
        let found =
            it.violates(CHECK, "b-1 served eve (call 6) 3.000 s after it was disabled (call 2)");
        assert_eq!(found.ops, [2, op]);
        let mut it = good();
        let token = Request::TokenIssue { name: "eve".into() };
        it.ask((20 * S, 21 * S), "c-1", token, Outcome::Done);
        it.violates(CHECK, "c-1 served eve");
    }

    #[test]
    fn an_island_has_longer() {
        let mut it = good();
        it.fault(4 * S, Some(50 * S), isolate(1, "c"));
        by_account(&mut it, 20 * S, "c-1", read("k"), row(&[]));
        by_account(&mut it, 55 * S, "c-1", read("k"), refused(401, "Unauthorized"));
        it.passes(CHECK);
        by_account(&mut it, 27 * S, "c-1", read("k"), row(&[]));
        it.violates(CHECK, "over the bound of 20.000 s");
    }

    #[test]
    fn where_a_majority_is_together_a_cut_of_others_excuses_nothing() {
        // Who is cut off from one is named, too.
        let regions = ["a", "b", "c"].map(str::to_owned);
        let cut = || Fault { regions: regions.clone().into(), ..isolate(1, "c") };
        let mut it = good();
        it.fault(4 * S, Some(50 * S), cut());
        it.passes(CHECK);
        // What the leader was cut off after is excused.
        let mut late = good();
        late.fault(7 * S, Some(50 * S), cut());
        by_account(&mut late, 10 * S, "a-1", read("k"), row(&[]));
        assert!(!matches!(late.judge(CHECK), Judgement::Violation { .. }));
        by_account(&mut it, 10 * S, "a-1", read("k"), row(&[]));
        it.violates(CHECK, "a-1 served eve (call 6) 4.000 s after it was disabled (call 2)");
    }

    #[test]
    fn without_a_disabled_account_there_is_nothing_to_judge() {
        let mut it = Build::default();
        by_account(&mut it, S, "a-1", read("k"), row(&[]));
        assert!(matches!(it.judge(CHECK), Judgement::NotExercised { .. }));
    }

    #[test]
    fn a_node_that_is_connected_again_has_the_short_bound() {
        let mut it = good();
        it.run.revocation_within_on_island_us = 1000 * S;
        it.fault(4 * S, Some(20 * S), isolate(1, "c"));
        by_account(&mut it, 31 * S, "c-1", read("k"), row(&[]));
        it.passes(CHECK);
        by_account(&mut it, 33 * S, "c-1", read("k"), row(&[]));
        it.violates(CHECK, "over the bound of 2.000 s");
    }
}
