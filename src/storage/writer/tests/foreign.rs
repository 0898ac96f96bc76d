//! Records of peers: in any order, twice, damaged, forged, or under a number that is taken.

use super::*;

#[test]
fn a_bad_record_under_a_good_ones_number_does_not_silence_its_origin() {
    let mut a = open(&MemoryDisk::new());
    let good = a.commit(Stamp(1), &[put("web/dev", &[("a", "1")])]).own;
    let known = Record::decode(good[0].clone()).unwrap();
    let forged = Record::new(known.dot, known.previous, known.document, 0, vec![], b"garbage");
    let mut c = open(&MemoryDisk::new());
    let refused = c.commit(Stamp(2), &[Command::Apply(vec![forged.bytes])]);
    assert_eq!(applied(&refused, 0).quarantined, 1);
    assert_eq!(applied(&c.commit(Stamp(3), &[Command::Apply(good)]), 0).new, 1);
}

#[test]
fn a_node_that_meets_another_change_of_its_own_goes_on_as_a_new_origin() {
    let disk = MemoryDisk::new();
    let mut a = open(&disk);
    a.commit(Stamp(1), &[put("web/dev", &[("a", "1")])]);
    let mut twin = open(&disk.snapshot());
    a.commit(Stamp(2), &[put("web/dev", &[("a", "2")])]);
    let other = twin.commit(Stamp(2), &[put("web/dev", &[("a", "3")])]).own;
    let origin = a.origin();
    let both = [put("web/dev", &[("b", "1")]), Command::Apply(other)];
    let committed = a.commit(Stamp(3), &both);
    assert_ne!(a.origin(), origin);
    assert_eq!(
        written(&committed, 0).dot.unwrap().origin,
        a.origin(),
        "nothing more as the old one"
    );
}

#[test]
fn records_in_any_order_give_the_same_view_and_duplicates_do_nothing() {
    let mut a = open(&MemoryDisk::new());
    let mut records = Vec::new();
    for i in 0..40_u64 {
        let key = format!("k{}", i % 5);
        records.extend(a.commit(Stamp(i), &[put("web/dev", &[(&key, "1")])]).own);
    }
    let mut b = open(&MemoryDisk::new());
    for record in records.iter().rev() {
        b.commit(Stamp(1), &[Command::Apply(vec![record.clone()])]);
    }
    assert_eq!(view(&a), view(&b));
    assert_eq!(a.state.vector, b.state.vector);
    let again = b.commit(Stamp(1), &[Command::Apply(records.clone())]);
    assert_eq!(applied(&again, 0), Applied { duplicate: 40, ..Applied::default() });
    let missing = b.log().missing(Vector::new(), &b.published.load().vector, 1 << 20).unwrap();
    assert_eq!(missing, Missing { records: records.clone(), ..Missing::default() });
    let Missing { records: some, more, .. } =
        b.log().missing(Vector::new(), &b.published.load().vector, 500).unwrap();
    assert!(more && !some.is_empty() && some.len() < 40);
}

#[test]
fn an_origin_with_two_changes_under_one_number_is_refused_and_harms_nobody() {
    let disk = MemoryDisk::new();
    let mut a = open(&disk);
    let first = a.commit(Stamp(1), &[put("web/dev", &[("a", "1")])]).own;
    let mut twin = open(&disk.snapshot());
    let branch_a = a.commit(Stamp(2), &[put("web/dev", &[("a", "2")])]).own;
    let branch_b = twin.commit(Stamp(2), &[put("web/dev", &[("a", "3")])]).own;
    let branch_b2 = twin.commit(Stamp(3), &[put("web/dev", &[("a", "4")])]).own;
    let mut c = open(&MemoryDisk::new());
    c.commit(Stamp(4), &[Command::Apply([first, branch_a.clone()].concat())]);
    let before = view(&c);
    let fork = c.commit(Stamp(5), &[Command::Apply(branch_b), Command::Apply(branch_b2)]);
    assert_eq!(applied(&fork, 0).quarantined, 1);
    assert_eq!(applied(&fork, 1).quarantined, 1);
    assert_eq!(c.counts().forks, 2);
    assert_eq!(view(&c), before);
    let mut b = open(&MemoryDisk::new());
    let other = b.commit(Stamp(6), &[put("web/dev", &[("b", "1")])]).own;
    assert_eq!(applied(&c.commit(Stamp(7), &[Command::Apply(other)]), 0).new, 1);
    // The node whose origin it is learns of the other branch and goes on as another.
    let origin = a.origin();
    a.commit(Stamp(8), &[witnessed("b-1", origin, 3)]);
    assert_ne!(a.origin(), origin);
}

#[test]
fn damaged_records_are_quarantined_and_the_rest_goes_on() {
    let mut a = open(&MemoryDisk::new());
    let good = a.commit(Stamp(1), &[put("web/dev", &[("a", "1")])]).own;
    let document = DocumentId::parse("web/dev").unwrap();
    let dot = Dot { origin: Origin([9; 8]), n: 1 };
    let bad = Record::new(dot, [0; 32], document, 0, vec![], b"no change");
    let mut b = open(&MemoryDisk::new());
    let noise = Bytes::from_static(b"noise");
    let records = vec![noise, bad.bytes.clone(), good[0].clone()];
    let outcome = applied(&b.commit(Stamp(2), &[Command::Apply(records)]), 0);
    assert_eq!(outcome, Applied { new: 1, quarantined: 2, ..Applied::default() });
    assert_eq!(view(&a), view(&b));
}

#[test]
fn a_change_that_its_document_refuses_takes_nothing_good_with_it() {
    // A change that builds on one that its record does not name as needed.
    let mut a = open(&MemoryDisk::new());
    let one = a.commit(Stamp(1), &[put("web/dev", &[("a", "1")])]).own;
    let mut b = open(&MemoryDisk::new());
    b.commit(Stamp(2), &[Command::Apply(one)]);
    let two = b.commit(Stamp(3), &[put("web/dev", &[("a", "2")])]).own;
    let honest = Record::decode(two[0].clone()).unwrap();
    let lying =
        Record::new(honest.dot, honest.previous, honest.document, 0, vec![], &honest.change);
    let mut d = open(&MemoryDisk::new());
    let good = d.commit(Stamp(4), &[put("web/dev", &[("z", "1")])]).own;
    let mut c = open(&MemoryDisk::new());
    let outcome = c.commit(Stamp(5), &[Command::Apply(vec![lying.bytes, good[0].clone()])]);
    assert_eq!(applied(&outcome, 0), Applied { new: 1, quarantined: 1, ..Applied::default() });
    assert_eq!(view(&c), view(&d));
}

#[test]
fn one_origin_that_cannot_be_applied_starves_no_other() {
    let (mut a, mut b) = (open(&MemoryDisk::new()), open(&MemoryDisk::new()));
    // Whichever origin comes first, its changes alone would fill the page.
    let (mut from_a, mut from_b) = (Vec::new(), Vec::new());
    for i in 0..50_u64 {
        let command = || [put("web/dev", &[("a", "\"some value\"")])];
        from_a.extend(a.commit(Stamp(i), &command()).own);
        from_b.extend(b.commit(Stamp(i), &command()).own);
    }
    let mut c = open(&MemoryDisk::new());
    c.commit(Stamp(2), &[Command::Apply([from_a, from_b].concat())]);
    let have = c.published.load().vector.clone();
    let page = c.log().missing(Vector::new(), &have, 2_000).unwrap();
    let more = page.more;
    let origins: BTreeSet<Origin> =
        page.records.into_iter().map(|bytes| Record::decode(bytes).unwrap().dot.origin).collect();
    assert!(more && origins.len() == 2, "both have their turn");
}
