//! Forks that whole documents bring: an origin's other branch is refused and counted, also where it has
//! gone on, and touches no document that this store has changes of.

use super::trim::{all, roll, trim};
use super::whole::{hear, pieces, staged, transfer};
use super::*;

/// Two processes of one origin, which have the same first change, and who has heard of that.
struct Forked {
    one: Writer,
    other: Writer,
    disk: MemoryDisk,
    hearer: Writer,
}

impl Forked {
    fn new() -> Self {
        let shared = MemoryDisk::new();
        let mut one = open(&shared);
        write(&mut one, "first/dev");
        one.checkpoint().unwrap();
        let other = open(&shared.snapshot());
        assert_eq!(one.origin(), other.origin());
        let disk = MemoryDisk::new();
        let mut hearer = open(&disk);
        hear(&one, &mut hearer);
        Self { one, other, disk, hearer }
    }

    /// The hearer refuses what comes, and has what it had, now and once it is opened again.
    fn assert_refuses(mut self, pieces: &[Vec<u8>]) {
        let what = |writer: &Writer| (writer.state.vector.clone(), view(writer));
        let before = what(&self.hearer);
        let taken = self.hearer.take(&staged(pieces, &self.disk));
        assert_eq!(taken, Err(TakeError::Fork(self.one.origin())));
        assert_eq!(self.hearer.counts().forks, 1);
        assert_eq!(what(&self.hearer), before);
        drop(self.hearer);
        assert_eq!(what(&open(&self.disk)), before);
    }
}

fn write(writer: &mut Writer, document: &str) {
    writer.commit(Stamp(10), &[put(document, &[("k", "1")])]);
}

#[test]
fn a_fork_is_seen_in_the_first_change_behind_it_though_the_documents_have_nothing_in_common() {
    let mut forked = Forked::new();
    write(&mut forked.one, "second/dev");
    hear(&forked.one, &mut forked.hearer);
    write(&mut forked.other, "third/dev");
    write(&mut forked.other, "fourth/dev");
    let pieces = pieces(&forked.other.cuts(), &forked.hearer.state.vector);
    forked.assert_refuses(&pieces);
}

#[test]
fn a_fork_is_seen_in_a_change_that_came_meanwhile_though_the_one_behind_it_was_trimmed() {
    let mut forked = Forked::new();
    write(&mut forked.other, "third/dev");
    write(&mut forked.other, "fourth/dev");
    roll(&mut forked.other, "fourth/dev");
    let bounds = all(&forked.other);
    assert_eq!(trim(&mut forked.other, &bounds), 1);
    let pieces = pieces(&forked.other.cuts(), &forked.hearer.state.vector);
    write(&mut forked.one, "second/dev");
    hear(&forked.one, &mut forked.hearer);
    forked.assert_refuses(&pieces);
}

#[test]
fn the_same_branch_gone_on_is_taken() {
    let mut forked = Forked::new();
    write(&mut forked.one, "second/dev");
    let pieces = pieces(&forked.one.cuts(), &forked.hearer.state.vector);
    hear(&forked.one, &mut forked.hearer);
    write(&mut forked.one, "third/dev");
    forked.hearer.take(&staged(&pieces, &forked.disk)).unwrap();
    transfer(&forked.one, &mut forked.hearer, &forked.disk).unwrap();
    assert_eq!(forked.hearer.counts().forks, 0);
    assert_eq!(forked.one.state.vector, forked.hearer.state.vector);
    assert_eq!(value(&forked.hearer, "third/dev", "k").unwrap(), "1");
}
