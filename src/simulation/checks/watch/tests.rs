//! Watchers that move, and each way to be sent too much, too little or the wrong thing.

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
    let what = "b-1 has \"x6b\" (6@b) for web/prod/k at the end, and the watcher 7 was last sent";
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
