//! The messages of consensus. Fields and variants are only ever added.

use std::time::Duration;

use minicbor::{Decode, Encode};
use openraft::raft::{
    AppendEntriesRequest, StreamAppendError, StreamAppendResult, TransferLeaderError,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use tokio::time::Instant;

use crate::quorum::types::{Coded, Entry, LogId, RaftId, SnapshotMeta, TypeConfig, Vote};
use crate::registry::Row;

/// Most rows in one frame of a snapshot, whatever their size.
const ROWS_MAX: u64 = 65_536;
/// Most entries in one frame of the log.
const ENTRIES_MAX: u64 = 16_384;

/// A short question to one store.
#[derive(Debug, Encode, Decode)]
#[cbor(map)]
pub(super) struct To {
    #[n(0)]
    pub(super) to: RaftId,
    #[n(1)]
    pub(super) question: Question,
}

#[derive(Debug, Encode, Decode)]
pub(super) enum Question {
    #[n(0)]
    Vote(#[n(0)] AskVote),
    #[n(1)]
    PreVote(#[n(0)] AskVote),
    #[n(2)]
    Transfer(#[n(0)] AskTransfer),
    /// Which vote do you hold?
    #[n(3)]
    Held,
}

#[derive(Debug, Encode, Decode)]
pub(super) enum Answer {
    #[n(0)]
    Vote(#[n(0)] VoteAnswer),
    #[n(1)]
    Transfer(#[n(0)] TransferAnswer),
    #[n(2)]
    Held(#[n(0)] Coded<Vote>),
}

#[derive(Debug, Encode, Decode)]
#[cbor(map)]
pub(super) struct AskVote {
    #[n(0)]
    vote: Coded<Vote>,
    #[n(1)]
    last: Option<Coded<LogId>>,
    #[n(2)]
    is_transfer: bool,
}

impl From<VoteRequest<TypeConfig>> for AskVote {
    fn from(request: VoteRequest<TypeConfig>) -> Self {
        Self {
            vote: Coded(request.vote),
            last: request.last_log_id.map(Coded),
            is_transfer: request.leadership_transfer,
        }
    }
}

impl From<AskVote> for VoteRequest<TypeConfig> {
    fn from(ask: AskVote) -> Self {
        let mut request = Self::new(ask.vote.0, ask.last.map(|Coded(id)| id));
        request.leadership_transfer = ask.is_transfer;
        request
    }
}

#[derive(Debug, Encode, Decode)]
#[cbor(map)]
pub(super) struct VoteAnswer {
    #[n(0)]
    vote: Coded<Vote>,
    #[n(1)]
    is_granted: bool,
    #[n(2)]
    last: Option<Coded<LogId>>,
}

impl From<VoteResponse<TypeConfig>> for VoteAnswer {
    fn from(response: VoteResponse<TypeConfig>) -> Self {
        Self {
            vote: Coded(response.vote),
            is_granted: response.vote_granted,
            last: response.last_log_id.map(Coded),
        }
    }
}

impl From<VoteAnswer> for VoteResponse<TypeConfig> {
    fn from(answer: VoteAnswer) -> Self {
        Self::new(answer.vote.0, answer.last.map(|Coded(id)| id), answer.is_granted)
    }
}

#[derive(Debug, Encode, Decode)]
#[cbor(map)]
pub(super) struct AskTransfer {
    #[n(0)]
    from: Coded<Vote>,
    #[n(1)]
    to: RaftId,
    #[n(2)]
    last: Option<Coded<LogId>>,
}

impl From<TransferLeaderRequest<TypeConfig>> for AskTransfer {
    fn from(request: TransferLeaderRequest<TypeConfig>) -> Self {
        Self {
            from: Coded(*request.from_leader()),
            to: *request.to_node_id(),
            last: request.last_log_id().copied().map(Coded),
        }
    }
}

impl From<AskTransfer> for TransferLeaderRequest<TypeConfig> {
    fn from(ask: AskTransfer) -> Self {
        Self::new(ask.from.0, ask.to, ask.last.map(|Coded(id)| id))
    }
}

#[derive(Debug, Encode, Decode)]
pub(super) enum TransferAnswer {
    #[n(0)]
    Taken,
    #[n(1)]
    VoteChanged(#[n(0)] Coded<Vote>, #[n(1)] Coded<Vote>),
    #[n(2)]
    NotFlushed(#[n(0)] Option<Coded<LogId>>, #[n(1)] Option<Coded<LogId>>),
}

impl From<TransferLeaderResponse<TypeConfig>> for TransferAnswer {
    fn from(response: TransferLeaderResponse<TypeConfig>) -> Self {
        match response {
            Ok(()) => Self::Taken,
            Err(TransferLeaderError::VoteChanged { expected, actual }) => {
                Self::VoteChanged(Coded(expected), Coded(actual))
            }
            Err(TransferLeaderError::LogNotFlushed { expected, actual }) => {
                Self::NotFlushed(expected.map(Coded), actual.map(Coded))
            }
        }
    }
}

impl From<TransferAnswer> for TransferLeaderResponse<TypeConfig> {
    fn from(answer: TransferAnswer) -> Self {
        let plain = |id: Option<Coded<LogId>>| id.map(|Coded(id)| id);
        match answer {
            TransferAnswer::Taken => Ok(()),
            TransferAnswer::VoteChanged(Coded(expected), Coded(actual)) => {
                Err(TransferLeaderError::VoteChanged { expected, actual })
            }
            TransferAnswer::NotFlushed(expected, actual) => {
                Err(TransferLeaderError::LogNotFlushed {
                    expected: plain(expected),
                    actual: plain(actual),
                })
            }
        }
    }
}

/// The first frame of a stream of the log, or of a snapshot: which store it is for.
#[derive(Debug, Encode, Decode)]
#[cbor(map)]
pub(super) struct Opening {
    #[n(0)]
    pub(super) to: RaftId,
}

/// One step of the log; a heartbeat, where it has no entries.
#[derive(Debug, Encode, Decode)]
#[cbor(map)]
pub(super) struct Append {
    #[n(0)]
    vote: Coded<Vote>,
    #[n(1)]
    prev: Option<Coded<LogId>>,
    #[n(2)]
    entries: Entries,
    #[n(3)]
    commit: Option<Coded<LogId>>,
    /// How long ago a majority had answered the leader, in milliseconds.
    #[n(4)]
    pub(super) age_ms: u64,
    /// What the receiver can prove with it; absent from a leader of before there was such a thing.
    #[n(5)]
    pub(super) basis: Option<Basis>,
}

/// When a majority had answered the leader, said so that the receiver can bound it by its own
/// clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(super) struct Basis {
    /// The receiver's tick in an answer that the leader has; absent where it has none, or does not
    /// know when a majority answered.
    #[n(0)]
    pub(super) tick: Option<u64>,
    /// How much later than the arrival of that answer a majority had answered the leader, at
    /// least, in microseconds; below zero where it was before.
    #[n(1)]
    pub(super) later_us: i64,
    /// What was decided until then has this index at most.
    #[n(2)]
    pub(super) decided: u64,
}

impl Basis {
    /// Of an answer with this tick, which arrived at `arrived`.
    pub(super) fn new((tick, arrived): (u64, Instant), majority_at: Instant, decided: u64) -> Self {
        let later = majority_at.saturating_duration_since(arrived).as_micros();
        // Rounded away from the present, either way.
        let before = arrived.saturating_duration_since(majority_at).as_nanos().div_ceil(1000);
        let us = |time: u128| i64::try_from(time).unwrap_or(i64::MAX);
        Self { tick: Some(tick), later_us: us(later) - us(before), decided }
    }

    /// The moment, for whoever sent that answer at `sent`.
    pub(super) fn since(&self, sent: Instant) -> Option<Instant> {
        let apart = Duration::from_micros(self.later_us.unsigned_abs());
        if self.later_us < 0 { sent.checked_sub(apart) } else { sent.checked_add(apart) }
    }
}

#[derive(Debug)]
struct Entries(Vec<Entry>);

impl<C> Encode<C> for Entries {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.array(self.0.len() as u64)?;
        for entry in &self.0 {
            e.encode(crate::quorum::types::Codec::written(entry))?;
        }
        Ok(())
    }
}

impl<'b, C> Decode<'b, C> for Entries {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        let len = len(d, ENTRIES_MAX)?;
        let entries = (0..len).map(|_| d.decode().map(|Coded(entry)| entry));
        entries.collect::<Result<_, _>>().map(Self)
    }
}

/// The length of an array, refused beyond `max` before anything is allocated.
fn len(d: &mut minicbor::Decoder<'_>, max: u64) -> Result<u64, minicbor::decode::Error> {
    let len = d.array()?.filter(|len| *len <= max);
    len.ok_or_else(|| minicbor::decode::Error::message("too many"))
}

impl Append {
    pub(super) fn new(
        request: AppendEntriesRequest<TypeConfig>,
        age_ms: u64,
        basis: Basis,
    ) -> Self {
        Self {
            vote: Coded(request.vote),
            prev: request.prev_log_id.map(Coded),
            entries: Entries(request.entries),
            commit: request.leader_commit.map(Coded),
            age_ms,
            basis: Some(basis),
        }
    }

    /// Up to which index the leader had committed when it made this step.
    pub(super) fn committed(&self) -> u64 {
        self.commit.as_ref().map_or(0, |Coded(id)| id.index)
    }

    pub(super) fn request(self) -> Result<AppendEntriesRequest<TypeConfig>, &'static str> {
        let prev = self.prev.map(|Coded(id)| id);
        let mut next = prev.map_or(0, |id| id.index.saturating_add(1));
        for entry in &self.entries.0 {
            // openraft believes in what it does not check.
            if entry.log_id.index != next {
                return Err("the entries are not in order");
            }
            next = next.saturating_add(1);
        }
        Ok(AppendEntriesRequest {
            vote: self.vote.0,
            prev_log_id: prev,
            entries: self.entries.0,
            leader_commit: self.commit.map(|Coded(id)| id),
        })
    }
}

/// What a step came to: one for each, in order; with the answering node's tick, which the leader
/// gives back ([`Basis`]).
#[derive(Debug, PartialEq, Eq, Encode, Decode)]
pub(super) enum Appended {
    #[n(0)]
    Done(#[n(0)] Option<u64>),
    /// The entry before it is another one here.
    #[n(1)]
    Conflict(#[n(0)] Option<u64>),
    #[n(2)]
    HigherVote(#[n(0)] Coded<Vote>),
}

impl Appended {
    /// The answer, given at this tick.
    pub(super) fn new(result: &StreamAppendResult<TypeConfig>, tick: u64) -> Self {
        match result {
            Ok(_) => Self::Done(Some(tick)),
            Err(StreamAppendError::Conflict(_)) => Self::Conflict(Some(tick)),
            Err(StreamAppendError::HigherVote(vote)) => Self::HigherVote(Coded(*vote)),
        }
    }

    pub(super) fn tick(&self) -> Option<u64> {
        match self {
            Self::Done(tick) | Self::Conflict(tick) => *tick,
            Self::HigherVote(_) => None,
        }
    }

    /// In openraft's words, for the step from `prev` to `last`; none where it makes no sense.
    pub(super) fn result(
        self,
        prev: Option<LogId>,
        last: Option<LogId>,
    ) -> Option<StreamAppendResult<TypeConfig>> {
        match self {
            Self::Done(_) => Some(Ok(last)),
            Self::Conflict(_) => Some(Err(StreamAppendError::Conflict(prev?))),
            Self::HigherVote(Coded(vote)) => Some(Err(StreamAppendError::HigherVote(vote))),
        }
    }
}

/// A snapshot's second frame.
#[derive(Debug, Encode, Decode)]
#[cbor(map)]
pub(super) struct SnapshotHead {
    #[n(0)]
    pub(super) vote: Coded<Vote>,
    #[n(1)]
    pub(super) meta: Coded<SnapshotMeta>,
}

/// A snapshot's further frames.
#[derive(Debug, Encode, Decode)]
pub(super) enum Piece {
    #[n(0)]
    Rows(#[n(0)] Rows),
    /// That was it: so many rows.
    #[n(1)]
    Done(#[n(0)] u64),
}

#[derive(Debug, Default)]
pub(super) struct Rows(pub(super) Vec<Row>);

impl<C> Encode<C> for Rows {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        ctx: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.array(self.0.len() as u64)?;
        self.0.iter().try_for_each(|row| e.encode_with(row, ctx).map(|_| ()))
    }
}

impl<'b, C> Decode<'b, C> for Rows {
    fn decode(d: &mut minicbor::Decoder<'b>, ctx: &mut C) -> Result<Self, minicbor::decode::Error> {
        let len = len(d, ROWS_MAX)?;
        (0..len).map(|_| d.decode_with(ctx)).collect::<Result<_, _>>().map(Self)
    }
}

/// Whether a snapshot was installed.
#[derive(Debug, Encode, Decode)]
pub(super) enum Installed {
    /// The receiver's vote after it.
    #[n(0)]
    Vote(#[n(0)] Coded<Vote>),
    #[n(1)]
    Failed(#[n(0)] String),
}

#[cfg(test)]
mod tests {
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

    /// A step and an answer as programs knew them that knew no ticks.
    #[derive(Encode, Decode)]
    #[cbor(map)]
    struct OldAppend {
        #[n(0)]
        vote: Coded<Vote>,
        #[n(1)]
        prev: Option<Coded<LogId>>,
        #[n(2)]
        entries: Entries,
        #[n(3)]
        commit: Option<Coded<LogId>>,
        #[n(4)]
        age_ms: u64,
    }

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
        let new: Append = decode(&encode(&old)).unwrap();
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
}
