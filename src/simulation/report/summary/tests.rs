use super::*;
use crate::simulation::history::{Answer, Call, FORMAT, Fault, Outcome, Probe, Request, RunNode};

const S: u64 = 1_000_000;

fn run() -> Run {
    let node = |node: &str, region: &str| RunNode {
        node: node.into(),
        region: region.into(),
        voter: true,
        joined: false,
    };
    Run {
        format: FORMAT,
        nodes: vec![node("a-1", "a"), node("b-1", "b")],
        faults_end_us: 50 * S,
        ..Run::default()
    }
}

/// Requests to region `a`: number, second sent, second answered, outcome.
fn reads(of: &[(u64, u64, u64, Outcome)]) -> Vec<Record> {
    let mut records = vec![Record { at_us: 0, event: Event::Run(run()) }];
    for (op, at, over, outcome) in of {
        let call = Call {
            op: *op,
            client: 1,
            node: "a-1".into(),
            region: "a".into(),
            has_session: false,
            account: None,
            idempotency_key: None,
            request: Request::SecretRead { name: "s".into(), consistency: "linearizable".into() },
        };
        records.push(Record { at_us: at * S, event: Event::Call(call) });
        let answer = Answer { op: *op, outcome: outcome.clone() };
        records.push(Record { at_us: over * S, event: Event::Answer(answer) });
    }
    records.push(Record { at_us: 60 * S, event: Event::End(End::default()) });
    records.sort_by_key(|record| record.at_us);
    records
}

fn done() -> Outcome {
    Outcome::Value { value: None, version: 0, staleness_ms: None }
}

fn refused(status: u16, error: &str) -> Outcome {
    Outcome::Refused { status, error: error.into() }
}

fn fault(at_us: u64, begins: bool) -> Record {
    let regions = ["a".to_owned()].into();
    let links_cut = [("a".to_owned(), "b".to_owned())].into();
    let fault =
        Fault { id: 1, kind: "isolate".into(), begins, regions, links_cut, ..Fault::default() };
    Record { at_us, event: Event::Fault(fault) }
}

#[test]
fn a_region_is_without_service_from_the_first_failure_to_the_next_success() {
    let unknown = Outcome::Unknown { why: "timed out".into() };
    let records = reads(&[
        (1, 1, 2, done()),
        (2, 10, 11, refused(503, "QuorumUnavailable")),
        (3, 12, 17, unknown),
        (4, 15, 16, done()),
        (5, 20, 21, refused(412, "SessionNotReached")),
        (6, 22, 23, refused(403, "Forbidden")),
    ]);
    let summary = Summary::of(&records, &run());
    let kind = &summary.regions[0].kinds[0];
    let longest = kind.longest_without.unwrap();
    assert_eq!((longest.from_us, longest.to_us, longest.tries), (10 * S, 15 * S, 2));
    assert_eq!(kind.without_us, (5 + 2) * S);
    let all = kind.all();
    assert_eq!((all.tried, all.succeeded, all.declined, all.refused, all.unknown), (6, 2, 1, 2, 1));
    assert_eq!(kind.latency_us.unwrap().max, S);
    assert!(summary.regions[1].kinds.is_empty());
}

#[test]
fn a_request_is_under_a_fault_if_any_of_its_time_is() {
    let mut records =
        reads(&[(1, 1, 2, done()), (2, 4, 11, done()), (3, 12, 13, done()), (4, 30, 31, done())]);
    records.extend([fault(10 * S, true), fault(20 * S, false)]);
    records.sort_by_key(|record| record.at_us);
    let summary = Summary::of(&records, &run());
    let kind = &summary.regions[0].kinds[0];
    assert_eq!((kind.calm.tried, kind.faulty.tried), (2, 2));
    assert_eq!((summary.regions[0].hit_us, summary.regions[1].hit_us), (10 * S, 0));
}

#[test]
fn an_answer_that_never_came_is_unknown_until_the_end() {
    let mut records = reads(&[(1, 40, 41, done())]);
    records.retain(|record| !matches!(record.event, Event::Answer(_)));
    let kind = Summary::of(&records, &run()).regions[0].kinds[0].clone();
    assert_eq!(kind.all().unknown, 1);
    assert_eq!(kind.longest_without.unwrap().us(), 20 * S);
}

/// Probes of both nodes: second, vectors' only number, sent bytes; none: down.
fn probes(of: &[(u64, Option<u64>, Option<u64>)]) -> Vec<Record> {
    let mut records = reads(&[]);
    for (at, a, b) in of {
        for (node, n) in [("a-1", a), ("b-1", b)] {
            let mut probe = Probe { node: node.into(), up: n.is_some(), ..Probe::default() };
            if let Some(n) = n {
                probe.vector = [("o".to_owned(), *n)].into();
                probe.sent_bytes = n * 100;
            }
            records.push(Record { at_us: at * S, event: Event::Probe(probe) });
        }
    }
    records.sort_by_key(|record| record.at_us);
    records
}

#[test]
fn staleness_is_what_others_have_and_since_when() {
    let records = probes(&[
        (1, Some(1), Some(1)),
        (2, Some(3), Some(1)),
        (4, Some(7), Some(2)),
        (5, None, Some(2)),
        (52, Some(7), Some(7)),
    ]);
    let summary = Summary::of(&records, &run());
    let [a, b] = &summary.regions[..] else { panic!() };
    assert_eq!(a.behind_max, Lag::default());
    // What a node that is down has, others still lack: change 3 since second 2, at second 5.
    assert_eq!((b.behind_max.changes, b.behind_max.age_us), (5, 3 * S));
    assert_eq!((b.behind_us, a.down_us), (50 * S, 47 * S));
    assert_eq!(summary.missing_max, 5);
}

#[test]
fn agreement_counts_from_healing_and_only_if_it_lasts() {
    let records = probes(&[
        (40, Some(5), Some(5)),
        (51, Some(6), Some(6)),
        (52, Some(7), Some(6)),
        (54, Some(7), Some(7)),
        (55, Some(7), Some(7)),
    ]);
    let summary = Summary::of(&records, &run());
    assert_eq!(summary.agreement, Agreement::Reached { after_us: 4 * S });
    assert_eq!(summary.catch_up_bytes, 400);
    assert_eq!(summary.sent_bytes, 1400);

    let never = probes(&[(40, Some(5), Some(5)), (51, Some(6), Some(5))]);
    assert_eq!(Summary::of(&never, &run()).agreement, Agreement::NotReached);
    let unseen = probes(&[(40, Some(5), Some(5))]);
    assert_eq!(Summary::of(&unseen, &run()).agreement, Agreement::NotMeasured);
}

#[test]
fn a_fault_is_caught_up_with_when_all_have_what_any_had_at_its_end() {
    let mut records = probes(&[
        (9, Some(1), Some(1)),
        (19, Some(9), Some(2)),
        (21, Some(11), Some(8)),
        (23, Some(12), Some(9)),
    ]);
    records.extend([fault(10 * S, true), fault(20 * S, false)]);
    records.sort_by_key(|record| record.at_us);
    let summary = Summary::of(&records, &run());
    assert_eq!(summary.faults[0].caught_up_us, Some(3 * S));
}

#[test]
fn the_lane_of_leaders_shows_gaps_and_one_who_does_not_know() {
    let mut records = reads(&[]);
    for (at, a, b) in [(1, 1, 0), (2, 1, 0), (3, 0, 0), (5, 1, 2), (6, 0, 2)] {
        for (node, term) in [("a-1", a), ("b-1", b)] {
            let role = if term > 0 { "leader" } else { "follower" };
            let probe =
                Probe { node: node.into(), up: true, term, role: role.into(), ..Probe::default() };
            records.push(Record { at_us: at * S, event: Event::Probe(probe) });
        }
    }
    records.sort_by_key(|record| record.at_us);
    let summary = Summary::of(&records, &run());
    let spans: Vec<_> = summary
        .leaders
        .iter()
        .map(|span| (span.region.as_str(), span.term, span.from_us / S, span.to_us / S))
        .collect();
    assert_eq!(spans, [("a", 1, 1, 3), ("a", 1, 5, 6), ("b", 2, 5, 60)]);
    assert_eq!(summary.leader_changes, 1);
    assert_eq!(summary.leaderless, [(3 * S, 5 * S)]);
}

#[test]
fn percentiles_are_of_the_nearest_rank() {
    assert_eq!(Percentiles::of(Vec::new()), None);
    let one = Percentiles::of(vec![7]).unwrap();
    assert_eq!((one.p50, one.p99), (7, 7));
    let hundred = Percentiles::of((1..=100).rev().collect()).unwrap();
    assert_eq!((hundred.p50, hundred.p95, hundred.p99, hundred.max), (50, 95, 99, 100));
}

#[test]
fn the_example_shows_what_was_put_into_it() {
    let (records, _) = crate::simulation::report::example::example(7);
    let Event::Run(run) = &records[0].event else { panic!() };
    let summary = Summary::of(&records, run);
    let island = summary.regions.iter().find(|r| r.region == "ap-south").unwrap();
    let kind = |kind: Kind| island.kinds.iter().find(|k| k.kind == kind).unwrap();
    assert_eq!(kind(Kind::ConfigWrite).longest_without, None);
    assert!(kind(Kind::SecretRead).longest_without.unwrap().us() > 8 * S);
    assert!(island.behind_max.changes > 20 && island.behind_max.age_us > 11 * S);
    assert!(summary.leader_changes >= 1 && summary.leaderless_us() > S);
    assert!(summary.conflicts.iter().any(|c| matches!(c.settled, Settled::Later { .. })));
    assert!(matches!(summary.agreement, Agreement::Reached { .. }));
}
