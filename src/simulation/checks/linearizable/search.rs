//! The slow way: look for an order, step by step (Wing and Gong 1993, with Lowe's memory of the
//! states that led nowhere, 2017).
//!
//! Two things keep it short. A read that fits is taken at once: it changes nothing, so that no order
//! is lost by it. And of writes whose outcome is unknown and whose value nobody ever read, any is as
//! good as any other, so that only the first of them is tried.

use std::collections::{BTreeMap, BTreeSet};

use super::{Kind, Operation};
use crate::simulation::history::AtUs;

/// What was found.
#[derive(Debug)]
pub(super) enum Found<'o, 'a> {
    /// There is an order.
    Order,
    /// There is none: after the longest beginning of one, whose last operation is `last`, there is no
    /// place for `stuck`.
    None { stuck: &'o Operation<'a>, last: Option<&'o Operation<'a>> },
    /// Too many steps.
    TooLong,
}

/// Which operations have their place already.
type Taken = Vec<u64>;

fn has(taken: &Taken, index: usize) -> bool {
    taken[index / 64] & (1 << (index % 64)) != 0
}

fn take(taken: &mut Taken, index: usize) {
    taken[index / 64] |= 1 << (index % 64);
}

/// What a name has: its version (0: nothing) and the operation that wrote its value, where a read ever
/// told of that value.
type State = (u64, Option<usize>);

#[derive(Clone)]
struct Node {
    taken: Taken,
    state: State,
    /// The last operation but reads, for words.
    last: Option<usize>,
}

struct Search<'o, 'a> {
    /// By the time they began.
    all: &'o [Operation<'a>],
    /// Which write's value each read shows; none where no write has it.
    shows: Vec<Option<usize>>,
    /// Which writes' values were read.
    is_read: Vec<bool>,
    unknown: Vec<usize>,
}

/// Looks for an order of `all`, which is by the time they began, in at most `steps_max` steps.
pub(super) fn order<'o, 'a>(all: &'o [Operation<'a>], steps_max: usize) -> Found<'o, 'a> {
    let search = Search::new(all);
    let taken = vec![0; all.len().div_ceil(64)];
    let mut open = vec![Node { taken, state: (0, None), last: None }];
    let mut met: BTreeSet<(Taken, State)> = BTreeSet::new();
    let mut furthest: Option<(u32, Node)> = None;
    let mut steps = 0;
    while let Some(mut node) = open.pop() {
        steps += 1;
        if steps > steps_max {
            return Found::TooLong;
        }
        if search.take_reads(&mut node) {
            return Found::Order;
        }
        if !met.insert((node.taken.clone(), node.state)) {
            continue;
        }
        let count = node.taken.iter().map(|word| word.count_ones()).sum();
        if furthest.as_ref().is_none_or(|(most, _)| *most < count) {
            furthest = Some((count, node.clone()));
        }
        // The last one is tried first.
        open.extend(search.next(&node).into_iter().rev());
    }
    let furthest = furthest.map(|(_, node)| node);
    let stuck = furthest.as_ref().and_then(|node| search.first_due(node));
    match stuck {
        Some(stuck) => {
            let last = furthest.and_then(|node| node.last).map(|index| &all[index]);
            Found::None { stuck: &all[stuck], last }
        }
        None => Found::Order,
    }
}

impl<'o, 'a> Search<'o, 'a> {
    fn new(all: &'o [Operation<'a>]) -> Self {
        let mut writers: BTreeMap<&str, usize> = BTreeMap::new();
        for (index, it) in all.iter().enumerate() {
            if let Kind::Write { value, .. } = it.kind {
                writers.insert(value, index);
            }
        }
        let shows: Vec<Option<usize>> = all
            .iter()
            .map(|it| match it.kind {
                Kind::Read { value: Some(value), .. } => writers.get(value).copied(),
                _ => None,
            })
            .collect();
        let mut is_read = vec![false; all.len()];
        shows.iter().flatten().for_each(|index| is_read[*index] = true);
        let unknown = (0..all.len()).filter(|index| !all[*index].is_done()).collect();
        Self { all, shows, is_read, unknown }
    }

    /// What is known to have been done and has no place yet, as far as it can come next; and until
    /// when the next has to begin.
    fn due(&self, node: &Node) -> (Vec<usize>, AtUs) {
        let first = node.taken.iter().position(|word| *word != u64::MAX).unwrap_or(0) * 64;
        let (mut due, mut until) = (Vec::new(), AtUs::MAX);
        for (index, it) in self.all.iter().enumerate().skip(first) {
            if it.from > until {
                break;
            }
            if it.is_done() && !has(&node.taken, index) {
                due.push(index);
                until = until.min(it.to);
            }
        }
        due.retain(|index| self.all[*index].from <= until);
        (due, until)
    }

    /// Takes all reads that fit. Whether nothing is due any more.
    fn take_reads(&self, node: &mut Node) -> bool {
        loop {
            let (due, _) = self.due(node);
            if due.is_empty() {
                return true;
            }
            let mut took = false;
            for index in due {
                let Kind::Read { value, version } = self.all[index].kind else { continue };
                let fits = version == node.state.0
                    && (version == 0 || value.is_none() || self.shows[index] == node.state.1);
                // A value that no write has is for another check to complain about.
                let is_foreign = value.is_some() && self.shows[index].is_none();
                if fits || is_foreign {
                    take(&mut node.taken, index);
                    took = true;
                }
            }
            if !took {
                return false;
            }
        }
    }

    /// What can come next, the likeliest first.
    fn next(&self, node: &Node) -> Vec<Node> {
        let (mut due, until) = self.due(node);
        due.sort_by_key(|index| self.all[*index].to);
        let mut next: Vec<Node> =
            due.into_iter().filter_map(|index| self.after(node, index)).collect();
        let mut alike: BTreeSet<Option<u64>> = BTreeSet::new();
        let mut has_removal = false;
        for index in self.unknown.iter().copied().filter(|index| !has(&node.taken, *index)) {
            if self.all[index].from > until {
                break;
            }
            let is_new = match self.all[index].kind {
                Kind::Write { expect, .. } => self.is_read[index] || alike.insert(expect),
                Kind::Remove => !std::mem::replace(&mut has_removal, true),
                Kind::Read { .. } => false,
            };
            if is_new {
                next.extend(self.after(node, index));
            }
        }
        next
    }

    /// The state after this operation, if it can be done now.
    fn after(&self, node: &Node, index: usize) -> Option<Node> {
        let (now, _) = node.state;
        let state = match self.all[index].kind {
            Kind::Read { .. } => return None,
            Kind::Remove => (now > 0).then_some((0, None))?,
            Kind::Write { expect, version, .. } => {
                let next = now.checked_add(1)?;
                let fits = version.is_none_or(|version| version == next)
                    && expect.is_none_or(|expect| expect == now);
                fits.then_some((next, self.is_read[index].then_some(index)))?
            }
        };
        let mut taken = node.taken.clone();
        take(&mut taken, index);
        Some(Node { taken, state, last: Some(index) })
    }

    /// What has to come next, by its end.
    fn first_due(&self, node: &Node) -> Option<usize> {
        self.due(node).0.into_iter().min_by_key(|index| self.all[*index].to)
    }
}
