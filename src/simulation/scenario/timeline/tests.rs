use super::*;
use crate::simulation::scenario::Unsynced;

fn topology() -> Topology {
    Topology::of_pairs(&[("a", "a-1"), ("b", "b-1")])
}

fn timed(at: u64, lasts: impl Into<Option<u64>>, fault: FaultKind) -> TimedFault {
    let lasts = lasts.into().map(Duration::from_secs);
    TimedFault { at: Duration::from_secs(at), lasts, fault }
}

fn crash() -> FaultKind {
    FaultKind::Crash { node: "a-1".parse().unwrap(), unsynced: Unsynced::Keep }
}

fn wipe() -> FaultKind {
    FaultKind::Wipe { node: "a-1".parse().unwrap() }
}

fn flaws(faults: &[TimedFault]) -> Vec<TimelineFlaw> {
    check(faults, &topology(), Duration::from_secs(30))
}

/// Which pairs contradict each other.
fn pairs(faults: &[TimedFault]) -> Vec<(usize, usize)> {
    let pair = |flaw| match flaw {
        TimelineFlaw::Contradiction { fault, other, .. } => (fault, other),
        _ => panic!("{flaw:?}"),
    };
    flaws(faults).into_iter().map(pair).collect()
}

#[test]
fn a_fault_may_begin_when_the_one_before_ends_and_not_sooner() {
    assert_eq!(flaws(&[timed(5, 5, crash()), timed(10, 5, crash())]), []);
    assert_eq!(pairs(&[timed(5, 6, crash()), timed(10, 5, crash())]), [(1, 0)]);
    assert_eq!(pairs(&[timed(10, 5, crash()), timed(5, 6, crash())]), [(0, 1)], "in any order");
    assert_eq!(
        pairs(&[timed(0, 20, crash()), timed(5, 1, crash()), timed(7, 1, crash())]),
        [(1, 0), (2, 0)]
    );
}

#[test]
fn what_is_for_good_leaves_nothing_to_decide() {
    assert_eq!(pairs(&[timed(5, None, crash()), timed(29, 1, crash())]), [(1, 0)]);
    assert_eq!(flaws(&[timed(28, 1, crash()), timed(29, None, crash())]), []);
}

#[test]
fn moments_contradict_what_is_under_way_and_each_other() {
    assert_eq!(flaws(&[timed(5, None, wipe()), timed(6, None, wipe())]), []);
    assert_eq!(pairs(&[timed(5, None, wipe()), timed(5, None, wipe())]), [(1, 0)]);
    assert_eq!(pairs(&[timed(5, 5, crash()), timed(7, None, wipe())]), [(1, 0)]);
    assert_eq!(flaws(&[timed(5, 5, crash()), timed(10, None, wipe())]), []);
    assert_eq!(flaws(&[timed(5, None, FaultKind::Revoke), timed(5, None, FaultKind::Revoke)]), []);
}

#[test]
fn no_certificate_expires_or_is_renewed_while_the_authority_changes() {
    let expiry = || FaultKind::CertificateExpiry { nodes: ["b-1".parse().unwrap()].into() };
    let rotation = || FaultKind::RotateCa;
    assert_eq!(pairs(&[timed(5, 10, rotation()), timed(7, 2, expiry())]), [(1, 0)]);
    assert_eq!(pairs(&[timed(5, 10, expiry()), timed(7, 2, rotation())]), [(1, 0)]);
    assert_eq!(pairs(&[timed(5, None, expiry()), timed(20, 2, rotation())]), [(1, 0)]);
    assert_eq!(pairs(&[timed(5, 10, rotation()), timed(7, 2, rotation())]), [(1, 0)]);
    assert_eq!(flaws(&[timed(5, 10, rotation()), timed(15, 2, expiry())]), []);
    assert_eq!(flaws(&[timed(5, 2, expiry()), timed(7, 2, rotation())]), []);
}

#[test]
fn faults_keep_to_the_run() {
    assert_eq!(flaws(&[timed(30, 1, crash())]), [TimelineFlaw::BeginsLate { fault: 0 }]);
    assert_eq!(flaws(&[timed(29, 2, crash())]), [TimelineFlaw::EndsLate { fault: 0 }]);
    assert_eq!(flaws(&[timed(29, 1, crash())]), []);
    let longest = TimedFault { lasts: Some(Duration::MAX), ..timed(1, 1, crash()) };
    assert_eq!(flaws(&[longest]), [TimelineFlaw::EndsLate { fault: 0 }]);
}
