//! What a roll takes back instead of applying the whole epoch: it is what was there, and it can be told
//! whatever replicas wrote past each other.

use super::*;

/// What the document showed with a part of its epoch's changes.
fn at(replica: &Replica, floor: &Vector) -> Document {
    let mut disk = Disk { log: &replica.log, base: replica.kept.base.as_ref() };
    let mut document = replica.document.as_epoch_began(&mut disk).unwrap();
    for record in in_causal_order(changes(replica, |dot| floor.includes(dot)), &Folds::default()) {
        document.apply([&CheckedChange::of_record(&record).unwrap()]).unwrap();
    }
    document
}

/// The epoch's changes.
fn changes(replica: &Replica, is_asked_for: impl Fn(Dot) -> bool) -> Vec<Record> {
    let dots = replica.document.dots_held().unwrap().filter(|dot| is_asked_for(*dot));
    let records = dots.map(|dot| replica.log[&dot].clone());
    records.filter(|record| !Roll::is_roll(&record.change)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn what_was_there_at_a_floor_follows_from_what_is_there_and_from_what_came_since(
        steps in steps(),
        who in 0..REPLICAS,
        with in proptest::collection::vec(0..REPLICAS, 1..3),
    ) {
        let mut replicas: Vec<Replica> = (0..REPLICAS).map(Replica::new).collect();
        let mut told = Told::default();
        for (at, it) in steps.into_iter().enumerate() {
            let it = match it {
                // What programs of before wrote is replayed.
                Step::Write { who, keys, .. } => Step::Write { who, keys, is_old: false },
                Step::Forget { .. } => continue,
                it => it,
            };
            step(&mut replicas, &it, at as u64, &mut told)?;
        }
        let replica = &replicas[who];
        let mut floor = replica.vector.clone();
        for other in with {
            let least = |dot: Dot| Dot { n: dot.n.min(replicas[other].vector.get(dot.origin)), ..dot };
            floor = floor.iter().map(least).collect();
        }
        if let Some(rolled) = replica.document.rolled()
            && (!floor.covers_told(&rolled.roll.floor) || !floor.includes(rolled.record))
        {
            return Ok(());
        }
        let late = in_causal_order(changes(replica, |dot| !floor.includes(dot)), &Folds::default());
        let late: Vec<CheckedChange> =
            late.iter().map(|it| CheckedChange::of_record(it).unwrap()).collect();
        let mut disk = Disk { log: &replica.log, base: replica.kept.base.as_ref() };
        let undone = replica.document.undone(&floor, &late, usize::MAX, &mut disk).unwrap();
        let expected = at(replica, &floor);
        let undone = undone.expect("it follows");
        for key in (0..KEYS).map(key) {
            let siblings = match undone.get(&key) {
                Some(siblings) => siblings.iter().map(|it| it.entry.clone()).collect(),
                None => replica.document.siblings(&key),
            };
            prop_assert_eq!(sorted(siblings), sorted(expected.siblings(&key)), "{}", key);
        }
    }
}
