//! Vectors with folds, held against plain maps that name every origin.

use proptest::prelude::*;

use super::*;
use crate::model::cbor;

const ORIGINS: u8 = 6;

fn origin(at: u8) -> Origin {
    Origin([at + 1; 8])
}

fn dot(at: u8, n: u64) -> Dot {
    Dot { origin: origin(at), n }
}

/// What a state includes, and up to which fold.
#[derive(Clone, Debug, Default, PartialEq)]
struct Plain {
    dots: BTreeMap<Origin, u64>,
    generation: u64,
}

impl Plain {
    fn get(&self, origin: Origin) -> u64 {
        self.dots.get(&origin).copied().unwrap_or(0)
    }

    fn covers(&self, other: &Plain) -> bool {
        self.generation >= other.generation && other.dots.iter().all(|(o, n)| self.get(*o) >= *n)
    }

    fn both(&self, other: &Plain, pick: fn(u64, u64) -> u64) -> Plain {
        let all = self.dots.keys().chain(other.dots.keys());
        let dots = all.map(|o| (*o, pick(self.get(*o), other.get(*o)))).filter(|(_, n)| *n > 0);
        Plain { dots: dots.collect(), generation: pick(self.generation, other.generation) }
    }
}

/// Folds, from none to all of them.
fn tables(steps: &[Vec<(u8, u64)>]) -> Vec<Arc<Folds>> {
    let mut tables = vec![Arc::new(Folds::default())];
    for step in steps {
        let last = tables.last().unwrap().clone();
        let rows: BTreeMap<Origin, u64> = step
            .iter()
            .map(|&(at, more)| (origin(at), last.at(origin(at), u64::MAX) + more))
            .collect();
        let row =
            |(&origin, &n): (&Origin, &u64)| FoldRow { dot: Dot { origin, n }, hash: [7; 32] };
        let fold = Fold::new(last.latest() + 1, rows.iter().map(row).collect()).unwrap();
        tables.push(Arc::new(last.with(&fold).unwrap()));
    }
    tables
}

/// A state that includes the folds up to `generation` and some changes, by each of the two.
fn state(table: &Arc<Folds>, generation: u64, more: &[(u8, u64)]) -> (Plain, Vector) {
    let mut plain = Plain { dots: BTreeMap::new(), generation };
    for at in 0..ORIGINS {
        let folded = table.at(origin(at), generation);
        let more: u64 = more.iter().filter(|(of, _)| *of == at).map(|(_, n)| n).sum();
        if folded + more > 0 {
            plain.dots.insert(origin(at), folded + more);
        }
    }
    let mut told: Told = plain.dots.iter().map(|(&origin, &n)| Dot { origin, n }).collect();
    told.advance(Dot { origin: Origin::FOLDS, n: generation });
    (plain, told.read(table))
}

fn plain(vector: &Vector) -> Plain {
    let dots = vector.all().map(|dot| (dot.origin, dot.n)).collect();
    Plain { dots, generation: vector.generation() }
}

fn is_short(vector: &Vector) -> bool {
    let folds = vector.folds();
    vector.iter().all(|dot| dot.n > folds.at(dot.origin, vector.generation()))
}

fn steps() -> impl Strategy<Value = Vec<Vec<(u8, u64)>>> {
    let step = proptest::collection::vec((0..ORIGINS, 1..4_u64), 1..4);
    proptest::collection::vec(step, 0..5)
}

fn more() -> impl Strategy<Value = Vec<(u8, u64)>> {
    proptest::collection::vec((0..ORIGINS, 1..4_u64), 0..5)
}

proptest! {
    #[test]
    fn vectors_with_folds_are_what_plain_maps_are(
        steps in steps(),
        a in (any::<prop::sample::Index>(), any::<prop::sample::Index>(), more()),
        b in (any::<prop::sample::Index>(), any::<prop::sample::Index>(), more()),
        one in (0..ORIGINS, 0..12_u64),
    ) {
        let tables = tables(&steps);
        // Each is read by folds that it includes, and maybe some that it does not.
        let make = |(known, generation, more): &(prop::sample::Index, prop::sample::Index, Vec<_>)| {
            let known = known.index(tables.len());
            state(&tables[known], generation.index(known + 1) as u64, more)
        };
        let ((plain_a, a), (plain_b, b)) = (make(&a), make(&b));
        prop_assert_eq!(plain(&a), plain_a.clone());
        prop_assert!(is_short(&a) && a.is_understood());
        let one = dot(one.0, one.1);
        prop_assert_eq!(a.get(one.origin), plain_a.get(one.origin));
        prop_assert_eq!(a.includes(one), one.n <= plain_a.get(one.origin));
        prop_assert_eq!(a.covers(&b), plain_a.covers(&plain_b));
        prop_assert_eq!(a.covers_told(&b.told()), plain_a.covers(&plain_b));
        let ahead = |(o, n): (&Origin, &u64)| n.saturating_sub(plain_b.get(*o));
        prop_assert_eq!(a.ahead_of(&b), plain_a.dots.iter().map(ahead).sum::<u64>());
        let beyond: Vec<(u64, Dot)> = plain_a
            .dots
            .iter()
            .filter(|(o, n)| **n > plain_b.get(**o))
            .map(|(&origin, &n)| (plain_b.get(origin), Dot { origin, n }))
            .collect();
        prop_assert_eq!(a.beyond(&b), beyond);
        let met = a.meet(&b);
        prop_assert_eq!(plain(&met), plain_a.both(&plain_b, u64::min));
        let mut merged = a.clone();
        merged.merge(&b);
        prop_assert_eq!(plain(&merged), plain_a.both(&plain_b, u64::max));
        prop_assert!(is_short(&met) && is_short(&merged));
        prop_assert!(merged.covers(&a) && merged.covers(&b) && a.covers(&met) && b.covers(&met));
        let mut advanced = a.clone();
        advanced.advance(one);
        prop_assert_eq!(advanced.get(one.origin), plain_a.get(one.origin).max(one.n));
        prop_assert!(is_short(&advanced));
    }

    #[test]
    fn what_is_told_is_understood_by_who_knows_the_folds_and_later_by_who_does_not_yet(
        steps in steps(),
        generation in any::<prop::sample::Index>(),
        known in any::<prop::sample::Index>(),
        more in more(),
        theirs in more(),
    ) {
        let tables = tables(&steps);
        let all = tables.last().unwrap();
        let generation = generation.index(tables.len()) as u64;
        let (plain_a, a) = state(all, generation, &more);
        let told: Told = cbor::decode(&cbor::encode(&a.told())).unwrap();
        prop_assert_eq!(&told, &a.told());
        prop_assert_eq!(&told.read(all), &a);
        // Who knows fewer takes it for less, knows that, and makes it up.
        let fewer = &tables[known.index(tables.len())];
        let read = told.read(fewer);
        prop_assert_eq!(read.is_understood(), generation <= fewer.latest());
        for at in 0..ORIGINS {
            prop_assert!(read.get(origin(at)) <= plain_a.get(origin(at)));
        }
        prop_assert_eq!(&read.read_by(all), &a);
        // What it names itself, it is told of exactly.
        let (plain_b, b) = state(fewer, fewer.latest(), &theirs);
        let told = a.told_to(&b).read(fewer);
        for last in b.iter() {
            prop_assert_eq!(told.get(last.origin), plain_a.get(last.origin));
        }
        let _ = plain_b;
    }

    #[test]
    fn folding_changes_nothing_that_a_vector_includes(steps in steps(), more in more()) {
        let tables = tables(&steps);
        // Somebody who has all that will be folded, before it is.
        let all = tables.last().unwrap();
        let mut vector = Vector::new();
        for at in 0..ORIGINS {
            vector.advance(dot(at, all.at(origin(at), u64::MAX)));
        }
        for (at, n) in more {
            vector.advance(dot(at, vector.get(origin(at)) + n));
        }
        let before = plain(&vector).dots;
        for table in &tables {
            vector.fold(table, table.latest());
            prop_assert_eq!(&plain(&vector).dots, &before);
            prop_assert!(is_short(&vector));
        }
    }

    #[test]
    fn no_bytes_panic_the_decoders(noise in proptest::collection::vec(any::<u8>(), 0..100)) {
        let _ = cbor::decode::<Told>(&noise);
        let _ = cbor::decode::<Fold>(&noise);
    }
}

fn fold(generation: u64, rows: &[(u8, u64)]) -> Fold {
    let row = |&(at, n): &(u8, u64)| FoldRow { dot: dot(at, n), hash: [at; 32] };
    Fold::new(generation, rows.iter().map(row).collect()).unwrap()
}

#[test]
fn a_fold_follows_the_one_before_and_takes_no_origin_back() {
    let folds = Folds::default().with(&fold(1, &[(1, 5), (2, 7)])).unwrap();
    assert_eq!(folds.with(&fold(3, &[(3, 1)])).err(), Some(FoldError::Generation(3, 1)));
    assert_eq!(folds.with(&fold(1, &[(1, 5)])).err(), Some(FoldError::Differs(1)));
    assert_eq!(folds.with(&fold(2, &[(1, 5)])).err(), Some(FoldError::Back(origin(1))));
    assert_eq!(folds.with(&fold(1, &[(1, 5), (2, 7)])).unwrap().latest(), 1, "the same again");
    let next = folds.with(&fold(2, &[(1, 9), (4, 1)])).unwrap();
    assert_eq!((next.len(), next.latest()), (4, 2));
    assert_eq!([0, 1, 2, 9].map(|g| next.at(origin(1), g)), [0, 5, 9, 9]);
    assert_eq!(next.last(origin(2), 2).unwrap().hash, [2; 32]);
    assert!(next.includes(dot(1, 9)) && !next.includes(dot(1, 10)) && !next.includes(dot(3, 1)));
}

#[test]
fn a_fold_without_rows_or_with_rows_out_of_order_is_none() {
    let row = |at| FoldRow { dot: dot(at, 1), hash: [0; 32] };
    assert_eq!(Fold::new(1, vec![]), Err(FoldError::Rows));
    assert_eq!(Fold::new(1, vec![row(2), row(1)]), Err(FoldError::Rows));
    assert_eq!(Fold::new(1, vec![row(1), row(1)]), Err(FoldError::Rows));
    let none = FoldRow { dot: dot(1, 0), hash: [0; 32] };
    assert_eq!(Fold::new(1, vec![none]), Err(FoldError::Rows));
    let folds = FoldRow { dot: Dot { origin: Origin::FOLDS, n: 1 }, hash: [0; 32] };
    assert_eq!(Fold::new(1, vec![folds]), Err(FoldError::Rows));
    assert_eq!(Fold::new(0, vec![row(1)]), Err(FoldError::Generation(0, 0)));
}

#[test]
fn the_formats_of_a_vector_and_of_a_fold_do_not_change() {
    let hex = |bytes: Vec<u8>| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let mut told: Told = [dot(0, 7), dot(1, 300)].into_iter().collect();
    assert_eq!(hex(cbor::encode(&told)), "a24801010101010101010748020202020202020219012c");
    told.advance(Dot { origin: Origin::FOLDS, n: 3 });
    assert_eq!(
        hex(cbor::encode(&told)),
        "a34801010101010101010748020202020202020219012c48ffffffffffffffff03"
    );
    let bytes = cbor::encode(&fold(3, &[(0, 7)]));
    assert_eq!(
        hex(bytes.clone()),
        format!("a200030181834801010101010101010758 20{}", "00".repeat(32)).replace(' ', "")
    );
    assert_eq!(cbor::decode::<Fold>(&bytes).unwrap(), fold(3, &[(0, 7)]));
}

#[test]
fn a_vector_of_too_many_origins_is_not_read() {
    let many = |count: u64| -> Told {
        (0..count).map(|at| Dot { origin: Origin(at.to_be_bytes()), n: 1 }).collect()
    };
    let read = |told: &Told| cbor::decode::<Told>(&cbor::encode(told)).is_ok();
    let mut most = many(VECTOR_ORIGINS_MAX as u64);
    assert!(read(&most));
    most.advance(Dot { origin: Origin::FOLDS, n: 9 });
    assert!(read(&most), "the generation is none");
    assert!(!read(&many(VECTOR_ORIGINS_MAX as u64 + 1)));
}

#[test]
fn a_list_of_folds_has_an_end_and_the_last_one_has_to_fit_into_it() {
    let folds = Folds::default().with(&fold(1, &[(1, 5), (2, 7)])).unwrap();
    let next = fold(2, &[(3, 1), (4, 1)]);
    assert_eq!(folds.with_at_most(&next, 3).err(), Some(FoldError::Full));
    assert_eq!(folds.with_at_most(&next, 4).unwrap().len(), 4);
    assert_eq!(folds.with_at_most(&fold(1, &[(1, 5), (2, 7)]), 1).unwrap().len(), 2, "it is known");
}

#[test]
fn a_row_that_has_not_its_three_parts_is_not_read() {
    let bytes = cbor::encode(&fold(3, &[(0, 7)]));
    let at = bytes.iter().position(|byte| *byte == 0x83).unwrap();
    for parts in [0x82, 0x84, 0x9f] {
        let mut bytes = bytes.clone();
        bytes[at] = parts;
        assert!(cbor::decode::<Fold>(&bytes).is_err(), "{parts:x}");
    }
}

#[test]
fn without_knowing_folds_only_what_a_later_one_may_stand_for_is_taken_for_covered() {
    let told = |dots: &[Dot], generation| -> Told {
        let folds = Dot { origin: Origin::FOLDS, n: generation };
        dots.iter().copied().chain([folds]).collect()
    };
    let floor = told(&[dot(1, 5)], 1);
    assert!(floor.may_cover(&told(&[dot(1, 5)], 1)) && floor.may_cover(&told(&[dot(1, 4)], 0)));
    assert!(floor.may_cover(&told(&[dot(1, 9), dot(2, 3)], 0)), "a fold may stand for these");
    assert!(!floor.may_cover(&told(&[dot(2, 3)], 1)), "of the same folds none does");
    assert!(!floor.may_cover(&told(&[], 2)) && !floor.may_cover(&told(&[dot(1, 1)], 2)));
}

#[test]
fn what_folds_stand_for_is_included_though_it_is_not_named() {
    let folds = Folds::default().with(&fold(1, &[(1, 5)])).unwrap();
    let folds = folds.with(&fold(2, &[(2, 7)])).unwrap();
    let mut told: Told = [dot(1, 5), dot(2, 9)].into_iter().collect();
    let other = told.clone();
    told.fold(&folds, 1);
    assert_eq!((told.len(), told.generation()), (1, 1));
    assert!(told.includes(dot(1, 5), &folds) && !told.names(dot(1, 5)));
    assert!(!told.includes(dot(1, 6), &folds));
    let mut none: Told = [dot(2, 9)].into_iter().collect();
    none.fold(&folds, 1);
    assert_eq!(none.generation(), 0, "nothing of it is folded: it needs no fold");
    assert!(other.includes(dot(2, 9), &folds) && !none.includes(dot(1, 5), &folds));
}
