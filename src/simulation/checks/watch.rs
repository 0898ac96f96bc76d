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
    let lost = history.disk_lost_after(node, 0);
    let mut highest: BTreeMap<String, (u64, &Sibling)> = BTreeMap::new();
    for it in history.calls.iter().filter(|it| it.call.node == node) {
        let Some(ended) = it.ended_us().filter(|ended| *ended <= open.it.at_us) else { continue };
        // It may have gone with the disk.
        if lost.is_some_and(|lost| lost >= ended && lost <= at_us) {
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
            None => write.value.is_none() || removals.may_hide(&key, write, &[], at_us),
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
mod tests {
    use super::super::testing::{
        Build, DOCUMENT, S, call, down, remove, row, sibling, unknown, watch, write, wrote,
    };
    use super::*;
    use crate::simulation::history::Call;

    fn x(version: u64, origin: &str) -> Sibling {
        sibling(&format!("x{version}{origin}"), version, origin, version)
    }

    fn open(it: &mut Build, at_us: AtUs, node: &str, resumed: bool) -> u64 {
        let op = it.call(at_us, Call { has_session: resumed, ..call(7, node, watch(resumed)) });
        it.answer(at_us + 1, op, Outcome::Opened);
        op
    }

    fn close(it: &mut Build, at_us: AtUs, op: u64) {
        it.answer(at_us, op, unknown());
    }

    /// A watcher that moves from a to b; what it was sent after its last session it is sent again.
    fn good() -> (Build, u64) {
        let mut it = Build::default();
        it.ask((S, 2 * S), "a-1", write("k", "x1a"), wrote("k", x(1, "a")));
        it.ask((S, 2 * S), "a-1", remove("gone"), wrote("gone", sibling("", 2, "a", 1)));
        let op = open(&mut it, 3 * S, "a-1", false);
        it.watched(4 * S, op, &[("j", vec![x(1, "b")])], |it| {
            (it.reset, it.has_session) = (true, false);
        });
        it.watched(4 * S, op, &[("k", vec![x(1, "a")])], |it| (it.reset, it.ready) = (true, true));
        it.watched(5 * S, op, &[("k", vec![x(2, "a"), x(2, "b")])], |_| {});
        it.watched(6 * S, op, &[("j", vec![x(4, "b")])], |it| it.has_session = false);
        close(&mut it, 7 * S, op);
        it.ask((S, 2 * S), "b-1", write("j", "x4b"), wrote("j", x(4, "b")));
        let op = open(&mut it, 8 * S, "b-1", true);
        it.watched(9 * S, op, &[("j", vec![x(4, "b")])], |it| it.ready = true);
        it.watched(10 * S, op, &[("k", vec![x(5, "c"), x(2, "b")])], |_| {});
        it.finals(
            &[
                ("k", vec![x(5, "c"), x(2, "b")]),
                ("j", vec![x(4, "b")]),
                ("gone", vec![sibling("", 2, "a", 1)]),
            ],
            &[],
        );
        (it, op)
    }

    #[test]
    fn a_watcher_that_moves_passes() {
        good().0.passes(CHECK);
    }

    #[test]
    fn the_same_again_is_found() {
        let (mut it, op) = good();
        it.watched(11 * S, op, &[("j", vec![x(4, "b")])], |_| {});
        let found =
            it.violates(CHECK, "the watcher 7, on b-1, is sent \"x4b\" (4@b) of web/prod/j again");
        assert_eq!((found.at_us, found.ops), (11 * S, vec![op, op]));
        // After a session, a resume is no excuse.
        let (mut it, op) = good();
        it.watched(8 * S, op, &[("k", vec![x(2, "a"), x(2, "b")])], |_| {});
        it.violates(CHECK, "of web/prod/k again");
    }

    #[test]
    fn going_back_is_found() {
        let (mut it, op) = good();
        it.watched(11 * S, op, &[("j", vec![x(3, "c")])], |_| {});
        it.watched(12 * S, op, &[("j", vec![x(6, "b")])], |_| {});
        it.last("b-1", &[("k", vec![x(5, "c"), x(2, "b")]), ("j", vec![x(6, "b")])], &[]);
        it.violates(CHECK, "goes back on web/prod/j: after \"x4b\" (4@b) it is sent \"x3c\" (3@c)");
    }

    #[test]
    fn a_sibling_that_vanishes_is_found() {
        let (mut it, op) = good();
        it.watched(11 * S, op, &[("k", vec![x(5, "c"), x(5, "d")])], |_| {});
        it.last("b-1", &[("k", vec![x(5, "c"), x(5, "d")]), ("j", vec![x(4, "b")])], &[]);
        it.passes(CHECK);
        it.watched(12 * S, op, &[("k", vec![x(5, "e"), x(5, "d")])], |_| {});
        it.last("b-1", &[("k", vec![x(5, "e"), x(5, "d")]), ("j", vec![x(4, "b")])], &[]);
        it.violates(CHECK, "after \"x5c\" (5@c) it is sent \"x5e\" (5@e) and \"x5d\" (5@d)");
    }

    #[test]
    fn a_new_beginning_forgets() {
        let (mut it, op) = good();
        close(&mut it, 11 * S, op);
        let op = open(&mut it, 12 * S, "c-1", false);
        let both = [("k", vec![x(1, "a")]), ("j", vec![x(4, "b")])];
        it.watched(13 * S, op, &both, |it| (it.reset, it.ready) = (true, true));
        it.watched(14 * S, op, &[("k", vec![x(5, "c"), x(2, "b")])], |_| {});
        it.passes(CHECK);
    }

    #[test]
    fn a_new_beginning_that_was_cut_off_is_undone() {
        let (mut it, op) = good();
        close(&mut it, 11 * S, op);
        let op = open(&mut it, 12 * S, "c-1", true);
        it.watched(13 * S, op, &[("j", vec![x(4, "b")])], |it| {
            (it.reset, it.has_session) = (true, false);
        });
        close(&mut it, 14 * S, op);
        let op = open(&mut it, 15 * S, "c-1", true);
        it.watched(16 * S, op, &[], |it| it.ready = true);
        it.passes(CHECK);
        it.watched(17 * S, op, &[("k", vec![x(2, "b")])], |_| {});
        it.last("c-1", &[("k", vec![x(2, "b")]), ("j", vec![x(4, "b")])], &[]);
        it.violates(CHECK, "goes back on web/prod/k");
    }

    #[test]
    fn what_is_missed_at_the_end_is_found() {
        let (mut it, _) = good();
        let rows = [("k", vec![x(6, "b")]), ("j", vec![x(4, "b")])];
        it.last("b-1", &rows, &[]);
        let what =
            "b-1 has \"x6b\" (6@b) for web/prod/k at the end, and the watcher 7 was last sent";
        it.violates(CHECK, what);
        it.fault(20 * S, Some(25 * S), down(1, "crash", "b-1"));
        it.passes(CHECK);
        let (mut it, _) = good();
        let rows =
            [("k", vec![x(5, "c"), x(2, "b")]), ("j", vec![x(4, "b")]), ("new", vec![x(1, "b")])];
        it.last("b-1", &rows, &[]);
        it.violates(CHECK, "for web/prod/new at the end, and the watcher 7 was last sent nothing");
        let (mut it, _) = good();
        it.last("b-1", &[("k", vec![x(5, "c"), x(2, "b")])], &[]);
        it.violates(CHECK, "b-1 has nothing for web/prod/j");
    }

    #[test]
    fn a_resume_that_begins_one_event_late_is_found() {
        let (mut it, op) = good();
        it.ask((5 * S, 6 * S), "b-1", write("m", "x1b"), wrote("m", x(1, "b")));
        // Later writes of the same key must not hide it.
        it.watched(20 * S, op, &[("m", vec![x(2, "b")])], |_| {});
        let m = ("m", vec![x(2, "b")]);
        it.last("b-1", &[("k", vec![x(5, "c"), x(2, "b")]), ("j", vec![x(4, "b")]), m], &[]);
        it.violates(CHECK, "is told that it has everything of b-1, and was not sent \"x1b\" (1@b)");
        it.fault(7 * S, Some(8 * S), down(1, "wipe", "b-1"));
        it.passes(CHECK);
    }

    #[test]
    fn a_watch_that_never_is_ready_is_found() {
        let (mut it, op) = good();
        close(&mut it, 11 * S, op);
        open(&mut it, 12 * S, "c-1", true);
        it.violates(CHECK, "the watcher 7 is never told on c-1");
    }

    #[test]
    fn other_documents_do_not_count() {
        let (mut it, _) = good();
        let other = Request::ConfigWrite {
            document: format!("{DOCUMENT}2"),
            entries: vec![("k".into(), "v".into())],
            expect_version: None,
            ack: None,
        };
        it.ask((S, 2 * S), "b-1", other, wrote("k", x(9, "b")));
        it.ask((S, 2 * S), "b-1", watch(true), row(&[]));
        it.passes(CHECK);
    }
}
