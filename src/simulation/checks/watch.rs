//! What a watcher is sent: over all its connections, in whichever region it resumes, nothing twice,
//! nothing back, and in the end everything. In between, states of a key may be passed over.
//!
//! What was sent after the last session that a watcher was given may be sent again when it resumes:
//! that is where it resumes from.

use std::collections::{BTreeMap, BTreeSet};

use super::entries::{Id, Removals, at, id, ids, includes, name, show, show_all, wrote};
use super::index::Asked;
use super::{Check, History, Judge};
use crate::simulation::history::{AtUs, Outcome, Request, Sibling, Watched};

pub(crate) const CHECK: Check = Check {
    name: "watch",
    claim: "A watcher is sent everything, nothing twice, and never goes back, also when it resumes in \
            another region.",
    run,
};

/// How long a watch may take to be told the state that it opened with.
const READY_WITHIN_US: u64 = 10_000_000;

/// What a watcher has been sent, as far as its session goes, and what came after.
#[derive(Default)]
struct Seen<'a> {
    /// Each key's last state, and the call of the watch that it came by.
    state: BTreeMap<&'a str, (u64, &'a [Sibling])>,
    /// Every write that it was sent.
    sent: BTreeMap<&'a str, BTreeSet<Id<'a>>>,
    /// How to undo what came after the last session: what a key had, and what it was sent.
    after: Vec<Undo<'a>>,
    /// What was known before a new beginning that no session has followed yet.
    before: Option<Box<Seen<'a>>>,
}

/// A key, its state before, and the writes that were new to it.
type Undo<'a> = (&'a str, Option<(u64, &'a [Sibling])>, Vec<Id<'a>>);

impl<'a> Seen<'a> {
    fn forget(&mut self) {
        *self = Self::default();
    }

    /// A new beginning; until a session follows, a resume goes back before it.
    fn reset(&mut self) {
        self.resume();
        let before = std::mem::take(self);
        self.before = Some(Box::new(before));
    }

    /// A session includes all that was sent.
    fn keep(&mut self) {
        self.after.clear();
        self.before = None;
    }

    /// Goes back to the last session.
    fn resume(&mut self) {
        if let Some(before) = self.before.take() {
            *self = *before;
        }
        while let Some((key, state, sent)) = self.after.pop() {
            match state {
                Some(state) => self.state.insert(key, state),
                None => self.state.remove(key),
            };
            if let Some(all) = self.sent.get_mut(key) {
                all.retain(|it| !sent.contains(it));
            }
        }
    }

    fn take(&mut self, op: u64, key: &'a str, siblings: &'a [Sibling]) {
        let sent = self.sent.entry(key).or_default();
        let new: Vec<Id<'_>> = siblings.iter().map(id).filter(|it| sent.insert(*it)).collect();
        let before = self.state.insert(key, (op, siblings));
        self.after.push((key, before, new));
    }
}

/// One watch: its call, its document, what it was sent.
struct Open<'h, 'a> {
    it: &'h Asked<'a>,
    document: &'a str,
    is_resumed: bool,
    records: &'h [(AtUs, &'a Watched)],
}

fn run(history: &History<'_>, judge: &mut Judge) {
    let mut watchers: BTreeMap<u32, Vec<Open<'_, '_>>> = BTreeMap::new();
    for it in &history.calls {
        let Request::ConfigWatch { document, resumed } = &it.call.request else { continue };
        let records = history.watched.get(&it.call.op).map(Vec::as_slice).unwrap_or_default();
        let open = Open { it, document, is_resumed: *resumed, records };
        watchers.entry(it.call.client).or_default().push(open);
    }
    let removals = Removals::of(history);
    for opens in watchers.values() {
        // What a void node showed may be gone, and the others cannot know of it.
        if opens.iter().any(|open| history.is_void(&open.it.call.node)) {
            continue;
        }
        let mut seen = Seen::default();
        let mut document = "";
        for open in opens {
            if !open.is_resumed || open.document != document {
                seen.forget();
            }
            document = open.document;
            seen.resume();
            follow(history, open, &mut seen, &removals, judge);
        }
        if let Some(last) = opens.last() {
            end(history, last, &seen, judge);
        }
    }
}

fn follow<'a>(
    history: &History<'a>,
    open: &Open<'_, 'a>,
    seen: &mut Seen<'a>,
    removals: &Removals<'_>,
    judge: &mut Judge,
) {
    let (op, node, client) = (open.it.call.op, &*open.it.call.node, open.it.call.client);
    let (mut is_ready, mut in_reset) = (false, false);
    for (at_us, watched) in open.records {
        if watched.reset && !in_reset {
            seen.reset();
        }
        in_reset = watched.reset;
        for (key, siblings) in &watched.rows {
            judge.examine();
            let full = name(open.document, key);
            let before = seen.state.get(&**key).copied();
            let lost = before.and_then(|(by, before)| {
                before.iter().find(|it| !includes(siblings, it)).map(|it| (by, it))
            });
            let sent = seen.sent.get(&**key);
            let is_old = sent.is_some_and(|sent| siblings.iter().all(|it| sent.contains(&id(it))));
            let (ops, what) = match lost {
                Some((by, lost)) => {
                    let (lost, now) = (show(lost), show_all(siblings));
                    let what = format!("goes back on {full}: after {lost} it is sent {now}");
                    (vec![by, op], what)
                }
                None if is_old => {
                    let by = before.map(|(by, _)| by).into_iter();
                    let what = format!("is sent {} of {full} again", show_all(siblings));
                    (by.chain([op]).collect(), what)
                }
                None => (Vec::new(), String::new()),
            };
            if !ops.is_empty() {
                let what = format!("the watcher {client}, on {node}, {what}");
                judge.violation(*at_us, &ops, &[node], what);
            }
            seen.take(op, key, siblings);
        }
        if watched.has_session {
            seen.keep();
        }
        if watched.ready && !is_ready {
            is_ready = true;
            ready(history, open, *at_us, seen, removals, judge);
        }
    }
}

/// Once a watch is ready, it has been sent, now or before, all that its node had acknowledged before
/// the watch was asked for.
fn ready<'a>(
    history: &History<'a>,
    open: &Open<'_, 'a>,
    at_us: AtUs,
    seen: &Seen<'a>,
    removals: &Removals<'_>,
    judge: &mut Judge,
) {
    let (op, node) = (open.it.call.op, &*open.it.call.node);
    let mut highest: BTreeMap<String, (u64, &Sibling)> = BTreeMap::new();
    for it in history.calls.iter().filter(|it| it.call.node == node) {
        if it.ended_us().is_none_or(|ended| ended > open.it.at_us) {
            continue;
        }
        // It may have gone with the disk.
        if history.disk_lost_after(node, it.at_us).is_some_and(|lost| lost <= at_us) {
            continue;
        }
        for (key, sibling) in wrote(it) {
            let (_, before) = highest.entry(key.clone()).or_insert((it.call.op, sibling));
            if before.version < sibling.version {
                highest.insert(key, (it.call.op, sibling));
            }
        }
    }
    for (key, (by, write)) in highest {
        let Some(short) = key.strip_prefix(open.document).and_then(|it| it.strip_prefix('/'))
        else {
            continue;
        };
        judge.examine();
        let state = seen.state.get(short).map(|(_, siblings)| *siblings);
        let is_there = match state {
            Some(siblings) => includes(siblings, write),
            // A first state does not tell of keys whose winner is a removal.
            None => write.value.is_none() || removals.may_win(&key, write, at_us),
        };
        if !is_there {
            let state = show_all(state.unwrap_or_default());
            let what = format!(
                "the watcher {} is told that it has everything of {node}, and was not sent {} of {key} \
                 (call {by}), only {state}",
                open.it.call.client,
                show(write)
            );
            judge.violation(at_us, &[by, op], &[node], what);
        }
    }
}

/// At the end, a watch that is still open has been sent what its node shows.
fn end(history: &History<'_>, open: &Open<'_, '_>, seen: &Seen<'_>, judge: &mut Judge) {
    let (op, node) = (open.it.call.op, &*open.it.call.node);
    let is_open = matches!(open.it.outcome(), Some(Outcome::Opened)) && open.it.answers.len() == 1;
    let Some((at_us, last)) = history.finals.get(node).copied().filter(|_| is_open) else { return };
    let opened = open.it.ended_us().unwrap_or(open.it.at_us);
    let is_hurt = history.is_hurt_within(node, at_us.saturating_sub(READY_WITHIN_US), at_us);
    if is_hurt || history.is_down_within(node, opened, at_us) {
        return;
    }
    let client = open.it.call.client;
    if !open.records.iter().any(|(_, it)| it.ready) {
        if opened.saturating_add(READY_WITHIN_US) < at_us {
            judge.examine();
            let what =
                format!("the watcher {client} is never told on {node} that it has everything");
            let what = format!("{what}, since {}", at(opened));
            judge.violation(at_us, &[op], &[node], what);
        }
        return;
    }
    let rows: BTreeMap<&str, &[Sibling]> = last
        .rows
        .iter()
        .filter_map(|(key, siblings)| {
            let key = key.strip_prefix(open.document)?.strip_prefix('/')?;
            Some((key, &**siblings))
        })
        .collect();
    let keys: BTreeSet<&str> = rows.keys().chain(seen.state.keys()).copied().collect();
    for key in keys {
        judge.examine();
        let row = rows.get(key).copied().unwrap_or_default();
        let state = seen.state.get(key).map(|(_, siblings)| *siblings);
        // A first state does not tell of what is gone.
        let is_gone = row.first().is_none_or(|winner| winner.value.is_none());
        if (state.is_none() && is_gone) || state.is_some_and(|state| ids(state) == ids(row)) {
            continue;
        }
        let (row, state) = (show_all(row), show_all(state.unwrap_or_default()));
        let key = name(open.document, key);
        let what = format!("{node} has {row} for {key} at the end, and the watcher {client}");
        judge.violation(at_us, &[op], &[node], format!("{what} was last sent {state}"));
    }
}

#[cfg(test)]
mod tests;
