//! A history in which everything happened, and for each thing one in which it did not.

use super::super::Judgement;
use super::super::testing::{
    Build, S, call, down, isolate, probe, read, refused, remove, row, secret_write, sibling,
    unknown, value, watch, write, wrote,
};
use super::*;
use crate::simulation::history::{Call, Event, Finding};

const ALL: [Coverage; 32] = [
    Coverage::Conflict,
    Coverage::Divergence,
    Coverage::IslandWrite,
    Coverage::QuorumRefused,
    Coverage::LeaderChange,
    Coverage::SessionMoved,
    Coverage::SessionRefused,
    Coverage::WatchResumed,
    Coverage::WatchSent,
    Coverage::Joined,
    Coverage::Evicted,
    Coverage::Restart,
    Coverage::DiskFull,
    Coverage::NewOrigin,
    Coverage::RevocationSeen,
    Coverage::RevocationDuringCut,
    Coverage::CasRefused,
    Coverage::OutcomeUnknown,
    Coverage::RetrySettled,
    Coverage::DamageDetected,
    Coverage::VotersChanged,
    Coverage::KeysRotated,
    Coverage::CertificateRefused,
    Coverage::ClockOverruled,
    Coverage::FileRebuilt,
    Coverage::EpochRolled,
    Coverage::RollDuringCut,
    Coverage::LateChange,
    Coverage::RollFinished,
    Coverage::LogTrimmed,
    Coverage::HistoryPruned,
    Coverage::DocumentsTaken,
];

fn wanting(coverage: Coverage) -> Build {
    let mut it = Build::default();
    it.run.coverage = [coverage].into();
    it
}

fn operate(it: &mut Build, what: &str, outcome: Outcome) {
    it.ask((S, 2 * S), "a-1", Request::Operate { what: what.into() }, outcome);
}

fn found(it: &mut Build, kind: &str, expected: bool) {
    let finding = Finding { kind: kind.into(), expected, ..Finding::default() };
    it.push(5 * S, Event::Finding(finding));
}

/// Makes it happen, or (`!really`) something that only looks like it.
#[allow(clippy::too_many_lines)]
fn play(it: &mut Build, coverage: Coverage, really: bool) {
    let x = sibling("x", 1, "o", 1);
    let at = |origin: &str, n| probe("a-1", &[(origin, n)], "");
    match coverage {
        Coverage::Conflict => {
            let mut siblings = vec![sibling("y", 1, "p", 2)];
            siblings.extend(really.then_some(x));
            it.ask((S, 2 * S), "a-1", read("k"), row(&siblings));
        }
        Coverage::Divergence => {
            for t in [1000, 1500, 2000] {
                let n = u64::from(really || t != 1500);
                it.probe(t * 1000, at("o", 1));
                it.probe(t * 1000, probe("b-1", &[("o", 1 - n)], ""));
            }
        }
        Coverage::IslandWrite => {
            let region = if really { "a" } else { "c" };
            it.fault(0, Some(9 * S), isolate(1, region));
            it.ask((S, 2 * S), "a-1", write("k", "x"), wrote("k", x));
        }
        Coverage::QuorumRefused => {
            let error = if really { "QuorumUnavailable" } else { "Busy" };
            it.ask((S, 2 * S), "a-1", secret_write("s", "v"), refused(503, error));
        }
        Coverage::LeaderChange => {
            let leads = |node, term| Probe { role: "leader".into(), term, ..probe(node, &[], "") };
            it.probe(S, leads("a-1", 1));
            it.probe(2 * S, if really { leads("b-1", 2) } else { leads("a-1", 1) });
        }
        Coverage::SessionMoved => {
            it.session((S, 2 * S), "a-1", write("k", "x"), wrote("k", x.clone()));
            it.session((3 * S, 4 * S), if really { "b-1" } else { "a-1" }, read("k"), row(&[x]));
        }
        Coverage::SessionRefused => {
            let error = if really { "SessionNotReached" } else { "PreconditionFailed" };
            it.session((S, 2 * S), "a-1", read("k"), refused(412, error));
        }
        Coverage::WatchResumed => {
            it.ask((S, 2 * S), "a-1", watch(really), Outcome::Opened);
        }
        Coverage::WatchSent => {
            let op = it.ask((S, 2 * S), "a-1", watch(true), Outcome::Opened);
            it.answer(3 * S, op, Outcome::Unknown { why: MOVED.into() });
            let again = if really { 3 * S } else { 3 * S + 300_000 };
            it.ask((again, 4 * S), "b-1", watch(true), Outcome::Opened);
        }
        Coverage::Joined | Coverage::Evicted => {
            let node = crate::simulation::history::RunNode {
                node: "d-1".into(),
                region: "a".into(),
                joined: coverage == Coverage::Evicted || really,
                ..Default::default()
            };
            it.run.nodes.push(node);
            let knows = |members: &[&str]| Probe {
                members: members.iter().map(|name| (*name).to_owned()).collect(),
                ..probe("a-1", &[], "")
            };
            it.probe(S, knows(&["a-1", "d-1"]));
            let kind = if really { "crash" } else { "absent" };
            it.fault(2 * S, Some(9 * S), down(1, kind, "d-1"));
            it.probe(4 * S, knows(&["a-1"]));
        }
        Coverage::Restart => {
            it.fault(2 * S, really.then_some(3 * S), down(1, "crash", "a-1"));
            it.probe(S, probe("a-1", &[], ""));
            it.probe(if really { 4 * S } else { S }, probe("a-1", &[], ""));
        }
        Coverage::DiskFull => {
            let status = if really { 507 } else { 503 };
            it.ask((S, 2 * S), "a-1", write("k", "v"), refused(status, "StorageFull"));
        }
        Coverage::NewOrigin => {
            it.probe(S, at("o", 1));
            let origin = if really { "p" } else { "a-1-o" };
            it.probe(2 * S, Probe { origin: origin.into(), ..at("o", 1) });
        }
        Coverage::RevocationSeen => {
            let name = || "eve".to_owned();
            it.ask((S, 2 * S), "a-1", Request::AccountDisable { name: name() }, Outcome::Done);
            if !really {
                it.ask(
                    (3 * S, 4 * S),
                    "a-1",
                    Request::AccountEnable { name: name() },
                    Outcome::Done,
                );
            }
            let op = it.call(5 * S, Call { account: Some(name()), ..call(2, "b-1", read("k")) });
            it.answer(6 * S, op, refused(401, "Unauthorized"));
        }
        Coverage::RevocationDuringCut => {
            let name = || "eve".to_owned();
            it.fault(4 * S, Some(if really { 8 * S } else { 5 * S }), isolate(1, "c"));
            it.ask((S, 2 * S), "a-1", Request::AccountDisable { name: name() }, Outcome::Done);
            let op = it.call(6 * S, Call { account: Some(name()), ..call(2, "b-1", read("k")) });
            it.answer(7 * S, op, refused(401, "Unauthorized"));
        }
        Coverage::CasRefused => {
            let expect_version = really.then_some(3);
            let request =
                Request::SecretWrite { name: "s".into(), value: "v".into(), expect_version };
            it.ask((S, 2 * S), "a-1", request, refused(412, "PreconditionFailed"));
        }
        Coverage::OutcomeUnknown => {
            let request = if really { remove("k") } else { read("k") };
            it.ask((S, 2 * S), "a-1", request, unknown());
        }
        Coverage::RetrySettled => {
            let first = if really { unknown() } else { refused(503, "Busy") };
            for (t, outcome) in [(1, first), (3, value("v", 1))] {
                let key = Some("i".to_owned());
                let request = secret_write("s", "v");
                let op = it.call(t * S, Call { idempotency_key: key, ..call(2, "a-1", request) });
                it.answer((t + 1) * S, op, outcome);
            }
        }
        Coverage::DamageDetected => found(it, "store", really),
        Coverage::VotersChanged => {
            let outcome = if really { Outcome::Done } else { unknown() };
            operate(it, "b-1 becomes a voter", outcome);
        }
        Coverage::KeysRotated => {
            let what = if really { "rotates the master key" } else { "does nothing" };
            operate(it, what, Outcome::Done);
        }
        Coverage::CertificateRefused => {
            found(it, if really { "certificate" } else { "store" }, true);
        }
        Coverage::FileRebuilt => found(it, if really { "rebuild" } else { "store" }, true),
        Coverage::ClockOverruled => {
            let clock_offset_us = Some(if really { -3_600_000_000 } else { -1000 });
            it.probe(S, Probe { clock_offset_us, ..probe("a-1", &[], "") });
            it.ask((2 * S, 3 * S), "a-1", write("k", "x"), wrote("k", x));
        }
        Coverage::EpochRolled => {
            it.probe(2 * S, in_epoch(u32::from(really)));
        }
        Coverage::RollDuringCut => {
            it.probe(4 * S, in_epoch(1)).probe(6 * S, in_epoch(if really { 2 } else { 1 }));
            it.probe(9 * S, in_epoch(3)).fault(3 * S, Some(7 * S), isolate(1, "c"));
        }
        Coverage::LateChange => {
            let late = u64::from(really);
            it.push(80 * S, Event::Twin(Twin { late, ..Twin::default() }));
        }
        Coverage::RollFinished => found(it, if really { "roll" } else { "certificate" }, true),
        Coverage::LogTrimmed | Coverage::HistoryPruned => {
            let is_log = (coverage == Coverage::LogTrimmed) == really;
            let (log_trimmed, history_pruned) = (u64::from(is_log), u64::from(!is_log));
            it.probe(S, Probe { log_trimmed, history_pruned, ..probe("a-1", &[], "") });
        }
        Coverage::DocumentsTaken => found(it, if really { "documents" } else { "roll" }, true),
    }
}

/// A node whose only document is in that epoch.
fn in_epoch(epoch: u32) -> Probe {
    let epochs = (epoch > 0).then(|| ("web/prod".to_owned(), epoch)).into_iter().collect();
    Probe { epochs, ..probe("a-1", &[], "") }
}

#[test]
fn what_happened_is_covered() {
    for coverage in ALL {
        let mut it = wanting(coverage);
        play(&mut it, coverage, true);
        let judgement = it.judge(CHECK);
        assert!(matches!(judgement, Judgement::Pass { .. }), "{coverage:?}: {judgement:?}");
    }
}

#[test]
fn what_did_not_happen_makes_the_run_vacuous() {
    for coverage in ALL {
        let mut it = wanting(coverage);
        play(&mut it, coverage, false);
        let judgement = it.judge(CHECK);
        assert!(matches!(judgement, Judgement::Vacuous { .. }), "{coverage:?}: {judgement:?}");
    }
}

#[test]
fn a_node_that_comes_to_vote_changes_the_voters() {
    let mut it = wanting(Coverage::VotersChanged);
    it.probe(S, Probe { role: "learner".into(), ..probe("a-1", &[], "") });
    assert!(matches!(it.judge(CHECK), Judgement::Vacuous { .. }));
    it.probe(2 * S, Probe { role: "follower".into(), ..probe("a-1", &[], "") });
    it.passes(CHECK);
}
