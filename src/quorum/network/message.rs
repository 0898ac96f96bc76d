//! The messages of consensus. Fields and variants are only ever added.

use std::time::Duration;

use minicbor::{Decode, Encode};
use openraft::raft::{
    AppendEntriesRequest, StreamAppendError, StreamAppendResult, TransferLeaderError,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use tokio::time::Instant;

use crate::model::cbor;
use crate::quorum::types::{Codec, Coded, Entry, LogId, RaftId, SnapshotMeta, TypeConfig, Vote};
use crate::registry::Row;

/// Most rows in one frame of a snapshot, whatever their size.
const ROWS_MAX: usize = 65_536;
/// Most entries in one frame of the log.
const ENTRIES_MAX: usize = 16_384;

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
        cbor::write_list(e, self.0.iter(), |e, entry| e.encode(Codec::written(entry))?.ok())
    }
}

impl<'b, C> Decode<'b, C> for Entries {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        cbor::read_list(d, ENTRIES_MAX, |d| d.decode().map(|Coded(entry)| entry)).map(Self)
    }
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
        cbor::write_list(e, self.0.iter(), |e, row| e.encode_with(row, ctx)?.ok())
    }
}

impl<'b, C> Decode<'b, C> for Rows {
    fn decode(d: &mut minicbor::Decoder<'b>, ctx: &mut C) -> Result<Self, minicbor::decode::Error> {
        cbor::read_list(d, ROWS_MAX, |d| d.decode_with(ctx)).map(Self)
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
mod tests;
