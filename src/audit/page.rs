//! Pages of chains: what a reader of the audit log asks for, and what one node answers for its own
//! chains. A chain has three streams: the config store's records; the quorum store's own (accesses,
//! denied attempts); and what the quorum decided, which every node records under the same index.

use std::ops::ControlFlow;

use minicbor::{Decode, Encode};

use super::chain::Record;
use super::event::{Decision, Event};
use super::reader::{ChainReader, Unreadable};
use crate::model::Stamp;

/// Most records that one look through a stream goes past, so that it ends in time.
pub const SCAN_MAX: u64 = 20_000;
/// Most records of one slice.
pub const SLICE_MAX: usize = 1_000;
/// Most bytes of records of one slice.
const SLICE_BYTES: usize = 1024 * 1024;
/// How many records are read at once on the way back.
const CHUNK: u64 = 512;

/// Which records of a node's chains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stream {
    /// The config store's.
    Config,
    /// The quorum store's own.
    Quorum,
    /// What the quorum decided.
    Decided,
}

impl Stream {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Config, Self::Quorum, Self::Decided];

    fn has(self, event: &Event) -> bool {
        match self {
            Self::Config => true,
            Self::Quorum => event.index.is_none(),
            Self::Decided => event.index.is_some(),
        }
    }
}

/// Which records are wanted. What is absent does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Filter {
    /// Not before.
    #[n(0)]
    pub from: Option<Stamp>,
    /// Before.
    #[n(1)]
    pub to: Option<Stamp>,
    /// By whom.
    #[n(2)]
    pub principal: Option<String>,
    /// What: `config.write`, or `config.*`.
    #[n(3)]
    pub action: Option<String>,
    /// On what: `web/dev/a`, or `web/dev/*`.
    #[n(4)]
    pub target: Option<String>,
    /// Whether it was allowed.
    #[n(5)]
    pub allowed: Option<bool>,
    /// Which node took the request.
    #[n(6)]
    pub node: Option<String>,
}

impl Filter {
    /// Whether the event is wanted.
    pub fn matches(&self, event: &Event) -> bool {
        let is = |wanted: &Option<String>, found: &str| {
            wanted.as_deref().is_none_or(|wanted| match wanted.strip_suffix('*') {
                Some(start) => found.starts_with(start),
                None => found == wanted,
            })
        };
        self.from.is_none_or(|from| event.at >= from)
            && self.to.is_none_or(|to| event.at < to)
            && is(&self.principal, &event.principal)
            && is(&self.action, &event.action)
            && is(&self.target, &event.target)
            && is(&self.node, &event.source.node)
            && self
                .allowed
                .is_none_or(|allowed| allowed == matches!(event.decision, Decision::Allowed(_)))
    }
}

/// Which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Way {
    /// From the newest back.
    #[n(0)]
    Back,
    /// On to what comes.
    #[n(1)]
    On,
}

/// A part of one stream: what is wanted of the records from a place on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Slice {
    /// In the order of the way.
    #[n(0)]
    pub records: Vec<Record>,
    /// The last number that was looked at; where none was, the place that was asked for.
    #[n(1)]
    pub reached: u64,
    /// Whether there is nothing behind it now.
    #[n(2)]
    pub ended: bool,
    /// The number of the chain's last record.
    #[n(3)]
    pub head: u64,
    /// How many of the chain's first records are not kept any more.
    #[n(4)]
    #[cbor(default)]
    pub let_go: u64,
    /// When the last of them was made, where they are archived.
    #[n(5)]
    pub archived_at: Option<Stamp>,
}

/// What `filter` wants of a stream, on the `way` from number `place` (itself left out), at most
/// `size` of it. On the way back, place 0 is the newest end. A record that cannot be read is passed
/// over: checking a chain is another matter.
pub fn slice(
    chain: &dyn ChainReader,
    stream: Stream,
    filter: &Filter,
    way: Way,
    place: u64,
    size: usize,
) -> Result<Slice, Unreadable> {
    let size = size.min(SLICE_MAX);
    // Before the head: a copy lets go of its oldest records as it grows.
    let let_go = chain.base()?.seq;
    let archived_at = chain.archived()?.base_at;
    let head = chain.head()?.seq;
    let place = if way == Way::On { place.max(let_go) } else { place };
    let mut slice = Slice { reached: place, head, let_go, archived_at, ..Slice::default() };
    let mut bytes = 0;
    let mut take = |slice: &mut Slice, record: Record, len: usize| {
        slice.reached = record.seq;
        if stream.has(&record.event) && filter.matches(&record.event) {
            bytes += len;
            slice.records.push(record);
        }
        slice.records.len() >= size || bytes >= SLICE_BYTES
    };
    match way {
        Way::On => {
            let end = head.min(place.saturating_add(SCAN_MAX));
            slice.ended = end == head;
            chain.walk(place.saturating_add(1), &mut |bytes| {
                let Ok(record) = Record::decode(bytes) else { return ControlFlow::Continue(()) };
                if record.seq > end {
                    return ControlFlow::Break(());
                }
                let is_last = record.seq == end;
                if take(&mut slice, record, bytes.len()) {
                    slice.ended &= is_last;
                    return ControlFlow::Break(());
                }
                ControlFlow::Continue(())
            })?;
        }
        Way::Back => {
            let newest = if place == 0 { head } else { head.min(place - 1) };
            let oldest = newest.saturating_sub(SCAN_MAX).max(let_go);
            let mut high = newest;
            'scan: while high > oldest {
                let low = high.saturating_sub(CHUNK).max(oldest);
                for (record, len) in chunk(chain, low + 1, high)?.into_iter().rev() {
                    let is_before = filter.from.is_some_and(|from| is_long_before(&record, from));
                    if is_before {
                        slice.reached = 1;
                        high = 0;
                        break 'scan;
                    }
                    if take(&mut slice, record, len) {
                        high = slice.reached - 1;
                        break 'scan;
                    }
                }
                high = low;
                slice.reached = low + 1;
            }
            slice.ended = high <= let_go;
        }
    }
    Ok(slice)
}

/// Records `from..=to`, with their lengths.
fn chunk(chain: &dyn ChainReader, from: u64, to: u64) -> Result<Vec<(Record, usize)>, Unreadable> {
    let mut records = Vec::new();
    chain.walk(from, &mut |bytes| {
        if let Ok(record) = Record::decode(bytes) {
            if record.seq > to {
                return ControlFlow::Break(());
            }
            records.push((record, bytes.len()));
        }
        ControlFlow::Continue(())
    })?;
    Ok(records)
}

/// Clocks are set back at times, but not by an hour: behind such a record nothing is looked for.
fn is_long_before(record: &Record, from: Stamp) -> bool {
    const HOUR_US: u64 = 3_600_000_000;
    record.event.at.0.saturating_add(HOUR_US) < from.0
}
