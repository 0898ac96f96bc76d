use proptest::prelude::*;

use super::*;
use crate::audit::Source;
use crate::model::{Stamp, Text};

fn log_id(term: u64, node: RaftId, index: u64) -> LogId {
    LogId { leader_id: LeaderId::new(term, node), index }
}

fn member(node: &str) -> Member {
    Member { node: NodeName::new(node).unwrap(), region: RegionName::new("eu").unwrap() }
}

fn membership() -> Membership {
    let members = BTreeMap::from([(1, member("eu-1")), (2, member("eu-2"))]);
    Membership::new(vec![BTreeSet::from([1]), BTreeSet::from([1, 2])], members).unwrap()
}

fn proposal() -> Proposal {
    let text = |text: &str| Text::from(text);
    Proposal {
        at: Stamp(7),
        caller: None,
        source: Source { node: text("eu-1"), address: None, request: text("r") },
        idempotency: None,
        command: Command::RetireGeneration(3),
    }
}

/// The bytes of each type, as every later program must still read and write them.
fn golden() -> Vec<(&'static str, Vec<u8>)> {
    let entry = |payload| encode(&Entry { log_id: log_id(2, 1, 9), payload });
    let stored = StoredMembership::new(Some(log_id(2, 1, 9)), membership());
    let last_log_id = Some(log_id(2, 1, 10));
    vec![
        ("vote", encode(&Vote { leader_id: LeaderId::new(5, 1 << 40), committed: true })),
        ("log id", encode(&log_id(2, 1, 300))),
        ("membership", encode(&membership())),
        ("stored membership", encode(&stored)),
        ("snapshot meta", encode(&SnapshotMeta { last_log_id, last_membership: stored })),
        ("blank entry", entry(Payload::Blank)),
        ("membership entry", entry(Payload::Membership(membership()))),
        ("proposal entry", entry(Payload::Normal(proposal()))),
    ]
}

#[test]
fn every_type_keeps_the_bytes_it_was_first_given() {
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let found: String =
        golden().iter().map(|(name, bytes)| format!("{name}: {}\n", hex(bytes))).collect();
    assert_eq!(found, include_str!("golden.txt"), "found:\n{found}");
}

#[test]
fn every_type_reads_back_as_written() {
    fn check<T: Codec + PartialEq + fmt::Debug>(bytes: &[u8]) {
        let value = decode::<T>(bytes).unwrap();
        assert_eq!(encode(&value), bytes);
        let field = Coded(value);
        assert_eq!(cbor::encode(&field), bytes);
        assert_eq!(cbor::decode::<Coded<T>>(bytes).unwrap(), field);
    }
    for (name, bytes) in golden() {
        match name {
            "vote" => check::<Vote>(&bytes),
            "log id" => check::<LogId>(&bytes),
            "membership" => check::<Membership>(&bytes),
            "stored membership" => check::<StoredMembership>(&bytes),
            "snapshot meta" => check::<SnapshotMeta>(&bytes),
            _ => check::<Entry>(&bytes),
        }
    }
}

#[test]
fn a_membership_with_a_voter_that_is_nobody_is_refused() {
    let nobody = MembershipFields { voters: vec![BTreeSet::from([1])], members: BTreeMap::new() };
    assert!(decode::<Membership>(&cbor::encode(&nobody)).is_err());
}

#[test]
fn a_proposal_shows_what_it_is_and_nothing_of_its_contents() {
    assert_eq!(proposal().to_string(), "retire generation");
}

/// Reads bytes as each of the types: whatever comes, nothing panics.
fn read_all(bytes: &[u8]) {
    let _ = decode::<Vote>(bytes);
    let _ = decode::<LogId>(bytes);
    let _ = decode::<Membership>(bytes);
    let _ = decode::<StoredMembership>(bytes);
    let _ = decode::<SnapshotMeta>(bytes);
    let _ = decode::<Entry>(bytes);
}

proptest! {
    #[test]
    fn no_bytes_make_a_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        read_all(&bytes);
    }

    #[test]
    fn no_changed_byte_makes_a_decoder_panic(which in 0..8_usize, at: usize, to: u8, cut: usize) {
        let (_, mut bytes) = golden().swap_remove(which);
        let len = bytes.len();
        bytes[at % len] = to;
        read_all(&bytes);
        read_all(&bytes[..cut % len]);
    }
}
