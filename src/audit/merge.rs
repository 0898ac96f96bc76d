//! One audit log out of many chains: slices of all nodes' streams become one page in the order of
//! time, with a place in each stream to go on from. Places are numbers within chains, so that
//! nothing is shown twice or left out, whatever the clocks said; what the quorum decided is shown
//! once, however many nodes recorded it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};

use minicbor::{Decode, Encode};
use schemars::JsonSchema;
use serde::Serialize;

use super::chain::Record;
use super::event::Event;
use super::page::{Slice, Stream, Way};
use crate::model::Text;

/// Where a reader of the whole log stands.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Place {
    /// Which way it goes.
    #[n(0)]
    pub way: Way,
    /// For each node, the place in each of its streams; 0 where it has not begun.
    #[n(1)]
    pub nodes: BTreeMap<String, [u64; 3]>,
    /// The last index of the quorum's that was shown.
    #[n(2)]
    pub index: Option<u64>,
}

impl Place {
    /// At the newest end, to go back.
    pub fn newest() -> Self {
        Self { way: Way::Back, nodes: BTreeMap::new(), index: None }
    }

    /// Behind all that the first slices, on the way back, knew: to go on to what comes.
    pub fn to_follow(slices: &[(String, [Slice; 3])]) -> Self {
        let nodes = slices.iter().map(|(node, it)| (node.clone(), it.each_ref().map(|it| it.head)));
        let records = slices.iter().flat_map(|(_, it)| it.iter().flat_map(|it| &it.records));
        let index = records.filter_map(|record| record.event.index).max();
        Self { way: Way::On, nodes: nodes.collect(), index }
    }

    /// The places in a node's streams.
    pub fn of(&self, node: &str) -> [u64; 3] {
        self.nodes.get(node).copied().unwrap_or_default()
    }
}

/// One record, as the log shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "AuditRecord")]
pub struct Item {
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
    /// Which store's chain has it: `config` or `quorum`.
    pub store: &'static str,
    /// Which node's.
    pub recorded_by: Text,
    /// Its number there.
    pub seq: u64,
}

/// A page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// In the order of the way.
    pub items: Vec<Item>,
    /// Where the next page begins.
    pub next: Place,
    /// Whether there is nothing behind it now.
    pub ended: bool,
}

/// A slice that is being used up.
struct Source<'a> {
    node: &'a str,
    stream: Stream,
    records: VecDeque<Record>,
    reached: u64,
    ended: bool,
    place: u64,
}

impl Source<'_> {
    /// Whether it cannot say what comes next, though something may.
    fn is_blocking(&self) -> bool {
        self.records.is_empty() && !self.ended
    }

    fn pop(&mut self) -> Option<Record> {
        let record = self.records.pop_front()?;
        self.place = record.seq;
        Some(record)
    }
}

/// Merges what nodes answered for `place` into a page of at most `size`.
pub fn merge(place: &Place, slices: Vec<(String, [Slice; 3])>, size: usize) -> Page {
    let mut next = place.clone();
    let nodes: Vec<(&String, &[Slice; 3])> = slices.iter().map(|(node, it)| (node, it)).collect();
    let mut sources: Vec<Source<'_>> = Vec::new();
    for (node, streams) in nodes {
        let places = place.of(node);
        for ((stream, slice), place) in Stream::ALL.into_iter().zip(streams).zip(places) {
            let (reached, ended) = (slice.reached, slice.ended);
            let records = slice.records.iter().cloned().collect();
            sources.push(Source { node, stream, records, reached, ended, place });
        }
    }
    let mut items = Vec::new();
    while items.len() < size {
        for source in &mut sources {
            // Another node's record of it was shown before.
            while source.records.front().is_some_and(|record| is_shown(&next, &record.event)) {
                source.pop();
            }
        }
        if sources.iter().any(Source::is_blocking) {
            break;
        }
        let Some(source) = first(&mut sources, place.way) else { break };
        let Some(record) = source.pop() else { break };
        next.index = record.event.index.or(next.index);
        items.push(Item {
            store: if source.stream == Stream::Config { "config" } else { "quorum" },
            recorded_by: source.node.into(),
            seq: record.seq,
            event: record.event,
        });
    }
    let mut ended = true;
    for source in sources {
        // What was looked through without a find is not looked through again.
        let place = match source.records.front() {
            None => source.reached,
            // What comes meanwhile belongs before this page, not behind it.
            Some(record) if source.place == 0 && place.way == Way::Back => record.seq + 1,
            Some(_) => source.place,
        };
        ended &= source.records.is_empty() && source.ended;
        let at = next.nodes.entry(source.node.to_owned()).or_default();
        at[source.stream as usize] = place;
    }
    Page { items, next, ended }
}

fn is_shown(place: &Place, event: &Event) -> bool {
    match (event.index, place.index, place.way) {
        (Some(index), Some(shown), Way::Back) => index >= shown,
        (Some(index), Some(shown), Way::On) => index <= shown,
        _ => false,
    }
}

/// Whose record comes next: by time; what the quorum decided, in the order of its log.
fn first<'s, 'a>(sources: &'s mut [Source<'a>], way: Way) -> Option<&'s mut Source<'a>> {
    let back = way == Way::Back;
    let decided = sources
        .iter()
        .enumerate()
        .filter(|(_, source)| source.stream == Stream::Decided)
        .filter_map(|(i, source)| Some((i, source.records.front()?.event.index?)));
    let decided = match back {
        true => decided.max_by_key(|(i, index)| (*index, Reverse(*i))),
        false => decided.min_by_key(|(i, index)| (*index, *i)),
    };
    let decided = decided.map(|(i, _)| i);
    let candidates = sources.iter().enumerate().filter_map(|(i, source)| {
        let may = source.stream != Stream::Decided || decided == Some(i);
        let record = source.records.front().filter(|_| may)?;
        Some((i, record.event.at))
    });
    let first = match back {
        true => candidates.max_by_key(|(i, at)| (*at, Reverse(*i))),
        false => candidates.min_by_key(|(i, at)| (*at, *i)),
    };
    sources.get_mut(first?.0)
}

#[cfg(test)]
mod tests;
