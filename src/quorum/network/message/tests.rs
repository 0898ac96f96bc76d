//! Messages read back as written; no bytes panic, and older programs understand and are understood.

use proptest::prelude::*;

use super::*;
use crate::model::cbor::{decode, encode};
use crate::quorum::types::{Membership, StoredMembership};
use openraft::EntryPayload;
use openraft::vote::RaftLeaderId as _;

fn vote(term: u64, node: RaftId) -> Vote {
    Vote::new(term, node)
}

fn log_id(term: u64, index: u64) -> LogId {
    LogId::new(openraft::alias::LeaderIdOf::<TypeConfig>::new(term, 7).to_committed(), index)
}

fn blank(index: u64) -> Entry {
    Entry { log_id: log_id(1, index), payload: EntryPayload::Blank }
}

proptest! {
    #[test]
    fn no_bytes_panic_the_decoders(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode::<To>(&bytes);
        let _ = decode::<Answer>(&bytes);
        let _ = decode::<Append>(&bytes).map(Append::request);
        let _ = decode::<Appended>(&bytes);
        let _ = decode::<SnapshotHead>(&bytes);
        let _ = decode::<Piece>(&bytes);
        let _ = decode::<Installed>(&bytes);
    }

    #[test]
    fn a_damaged_append_is_refused_or_read(at: usize, byte: u8) {
        let request = AppendEntriesRequest {
            vote: vote(3, 4),
            prev_log_id: Some(log_id(1, 4)),
            entries: vec![blank(5), blank(6)],
            leader_commit: None,
        };
        let mut bytes = encode(&Append::new(request, 5, Basis::default()));
        let at = at % bytes.len();
        bytes[at] = byte;
        let _ = decode::<Append>(&bytes).map(Append::request);
    }

    #[test]
    fn votes_read_back_as_written(term: u64, node: u64, transfer: bool, index: u64) {
        let mut request = VoteRequest::new(vote(term, node), Some(log_id(term, index)));
        request.leadership_transfer = transfer;
        let bytes = encode(&To { to: 9, question: Question::PreVote(request.clone().into()) });
        let To { to, question: Question::PreVote(read) } = decode(&bytes).unwrap() else {
            panic!("another question");
        };
        prop_assert_eq!(to, 9);
        prop_assert_eq!(VoteRequest::from(read), request);
    }
}

#[test]
fn an_append_reads_back_as_written_and_one_out_of_order_is_refused() {
    let request = |indexes: &[u64]| AppendEntriesRequest {
        vote: vote(3, 4),
        prev_log_id: Some(log_id(1, 4)),
        entries: indexes.iter().copied().map(blank).collect(),
        leader_commit: Some(log_id(1, 3)),
    };
    let basis = Basis { tick: Some(u64::MAX), later_us: -4, decided: 6 };
    let append: Append = decode(&encode(&Append::new(request(&[5, 6]), 17, basis))).unwrap();
    assert_eq!((append.age_ms, append.basis), (17, Some(basis)));
    let read = append.request().unwrap();
    assert_eq!(format!("{read:?}"), format!("{:?}", request(&[5, 6])));
    for wrong in [&[5, 7][..], &[4], &[6], &[5, 5]] {
        assert!(Append::new(request(wrong), 0, basis).request().is_err());
    }
}

/// What programs that knew no ticks looked at in a step: what else is in it, they passed over.
#[derive(Decode)]
#[cbor(map)]
struct OldAppend {
    #[n(2)]
    entries: Entries,
    #[n(4)]
    age_ms: u64,
}

/// An answer as they knew it.
#[derive(Debug, PartialEq, Eq, Encode, Decode)]
enum OldAppended {
    #[n(0)]
    Done,
    #[n(1)]
    Conflict,
    #[n(2)]
    HigherVote(#[n(0)] Coded<Vote>),
}

#[test]
fn programs_that_know_no_ticks_are_understood_and_understand() {
    let request = AppendEntriesRequest {
        vote: vote(3, 4),
        prev_log_id: Some(log_id(1, 4)),
        entries: vec![blank(5)],
        leader_commit: Some(log_id(1, 3)),
    };
    let basis = Basis { tick: Some(7), later_us: 8, decided: 9 };
    let bytes = encode(&Append::new(request.clone(), 17, basis));
    let old: OldAppend = decode(&bytes).unwrap();
    assert_eq!((old.age_ms, old.entries.0.len()), (17, 1));
    // They said all but the last member, of the map's six.
    let said = encode(&Append { basis: None, ..decode(&bytes).unwrap() });
    assert_eq!((bytes[0], said[0]), (0xa6, 0xa5));
    assert_eq!(said[1..], bytes[1..said.len()]);
    let new: Append = decode(&said).unwrap();
    assert_eq!((new.age_ms, new.basis), (17, None));
    assert_eq!(format!("{:?}", new.request().unwrap()), format!("{request:?}"));

    for (new, old) in [
        (Appended::Done(Some(u64::MAX)), OldAppended::Done),
        (Appended::Conflict(Some(3)), OldAppended::Conflict),
        (Appended::HigherVote(Coded(vote(3, 4))), OldAppended::HigherVote(Coded(vote(3, 4)))),
    ] {
        assert_eq!(decode::<OldAppended>(&encode(&new)).unwrap(), old);
        let read: Appended = decode(&encode(&old)).unwrap();
        assert_eq!(read.tick(), None);
        assert_eq!(read.result(Some(log_id(1, 4)), None), new.result(Some(log_id(1, 4)), None));
    }
}

proptest! {
    /// Whatever the two ways take and whatever the clocks show: never younger than it is.
    #[test]
    fn a_bound_is_never_too_young_and_too_old_by_the_answers_way_alone(
        sent_ns in 0..2_000_000_000_u64,
        way_ns in 0..2_000_000_000_u64,
        majority_ns in 0..9_000_000_000_u64,
        apart_ns in 0..9_000_000_000_u64,
    ) {
        // One true time; the leader's clock is ahead of the other by `apart`.
        let zero = Instant::now() + Duration::from_secs(60);
        let ns = |ns: u64| zero + Duration::from_nanos(ns);
        let leaders = |true_ns: u64| ns(true_ns + apart_ns);
        let basis = Basis::new((1, leaders(sent_ns + way_ns)), leaders(majority_ns), 0);
        let bound = basis.since(ns(sent_ns)).unwrap();
        prop_assert!(bound <= ns(majority_ns));
        prop_assert!(ns(majority_ns) - bound <= Duration::from_nanos(way_ns + 1_000));
    }
}

#[test]
fn a_snapshots_frames_read_back_as_written() {
    let meta = SnapshotMeta {
        last_log_id: Some(log_id(2, 9)),
        last_membership: StoredMembership::new(None, Membership::default()),
    };
    let head = SnapshotHead { vote: Coded(vote(2, 1)), meta: Coded(meta.clone()) };
    let read: SnapshotHead = decode(&encode(&head)).unwrap();
    assert_eq!(read.meta.0, meta);
    let row = Row { key: vec![1, 2], value: Some(vec![3]) };
    let piece = Piece::Rows(Rows(vec![row.clone()]));
    let Piece::Rows(Rows(read)) = decode(&encode(&piece)).unwrap() else { panic!("no rows") };
    assert_eq!(read, [row]);
}

#[test]
fn countless_entries_are_refused_before_they_are_read() {
    let mut bytes = vec![0x82, 0x00, 0x81, 0x9a];
    bytes.extend(u32::MAX.to_be_bytes());
    assert!(decode::<Piece>(&bytes).is_err());
}
