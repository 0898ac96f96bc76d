//! The twin of logs that are made by hand.

use super::*;
use crate::config::record::testing::write_of_k;
use crate::model::{Origin, Stamp};

fn dot(origin: u8, n: u64) -> Dot {
    Dot { origin: Origin([origin; 8]), n }
}

fn document() -> DocumentId {
    DocumentId::parse("web/prod").unwrap()
}

/// The record of one write of `k`; no value is a removal.
fn write(at: Dot, epoch: u32, value: Option<&str>, replaces: Option<&[Dot]>) -> Record {
    let stamp = Stamp(at.n * 1_000_000 + u64::from(at.origin.0[0]));
    write_of_k(at, document(), epoch, (value, stamp), replaces)
}

fn roll(at: Dot, epoch: u32, floor: &[Dot], removals_before: u64) -> Record {
    let floor = floor.iter().copied().collect();
    let roll =
        Roll { epoch, floor, base: [7; 32], removals_before: Stamp(removals_before), fold: None };
    Record::with(at, [0; 32], document(), epoch, vec![], &roll.encode(), None)
}

fn twin_of(logs: &[&[Record]]) -> Twin {
    twin(logs.iter().map(|log| log.iter().map(|record| record.bytes.clone()).collect()))
}

fn values(twin: &Twin) -> Vec<Option<&str>> {
    twin.rows.get("web/prod/k").into_iter().flatten().map(|it| it.value.as_deref()).collect()
}

#[test]
fn a_write_leaves_when_another_replaces_it_whatever_epoch_either_is_of() {
    let first = write(dot(1, 1), 0, Some("\"a\""), Some(&[]));
    let beside = write(dot(2, 1), 0, Some("2"), Some(&[]));
    let begin = roll(dot(1, 2), 1, &[dot(1, 1)], 0);
    let next = write(dot(1, 3), 1, Some("3"), Some(&[dot(1, 1)]));
    let here = [first.clone(), begin.clone()];
    let there = [first, beside, begin, next];
    let twin = twin_of(&[&here, &there]);
    assert_eq!(values(&twin), [Some("3"), Some("2")]);
    assert_eq!((twin.missing, twin.forks, twin.unreadable, twin.late), (0, 0, 0, 1));
    assert_eq!(twin.epochs.get("web/prod"), Some(&1));
    assert!(twin.unknown.is_empty() && !twin.view_hash.is_empty());
    let without = twin_of(&[&there[..2]]);
    assert_eq!(values(&without), [Some("2"), Some("a")]);
    assert!(without.epochs.is_empty());
    assert_ne!(without.view_hash, twin.view_hash);
}

#[test]
fn an_old_removal_is_left_out_where_a_roll_left_it_out() {
    let first = write(dot(1, 1), 0, Some("1"), Some(&[]));
    let removal = write(dot(1, 2), 0, None, Some(&[dot(1, 1)]));
    let all = |before| {
        let begin = roll(dot(1, 3), 1, &[dot(1, 2)], before);
        twin_of(&[&[first.clone(), removal.clone(), begin]])
    };
    assert_eq!(values(&all(2_000_000)), [None], "it is not older than that");
    assert!(all(3_000_000).rows.is_empty());
}

#[test]
fn what_is_not_known_is_said() {
    let unsaid = write(dot(1, 1), 0, Some("1"), None);
    let twin = twin_of(&[&[unsaid]]);
    assert!(twin.unknown.contains("web/prod/k") && twin.view_hash.is_empty());
    let gap = twin_of(&[&[write(dot(1, 4), 0, Some("1"), Some(&[]))]]);
    assert_eq!(gap.missing, 3);
    let one = [write(dot(1, 1), 0, Some("1"), Some(&[]))];
    let other = [write(dot(1, 1), 0, Some("2"), Some(&[]))];
    assert_eq!(twin_of(&[&one, &other]).forks, 1);
    let bad = Record::with(dot(1, 1), [0; 32], document(), 0, vec![], b"no change", None);
    assert_eq!(twin_of(&[&[bad]]).unreadable, 1);
}

#[test]
fn an_epoch_that_is_told_twice_is_counted() {
    let first = write(dot(1, 1), 0, Some("1"), Some(&[]));
    let begin = roll(dot(1, 2), 1, &[dot(1, 1)], 0);
    let again = roll(dot(2, 1), 1, &[dot(1, 1)], 0);
    assert_eq!(twin_of(&[&[first, begin, again]]).repeated, 1);
}
