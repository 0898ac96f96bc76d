//! What pruning promises of several stores: those that have seen the same writes come to have the same
//! histories, whatever came when and whenever each of them pruned.

use std::collections::{BTreeMap, BTreeSet};

use super::pruning::{S, pass, policies};
use super::whole::hear;
use super::*;
use crate::config::{Entry, HistoryPolicy, Policies};
use crate::storage::HistoryPage;

const STORES: usize = 3;
const DOCUMENT: &str = "web/dev";
const KEYS: [&str; 2] = ["k0", "k1"];

fn read(writer: &Writer, key: &str) -> Vec<Entry> {
    page(writer, key).entries
}

fn page(writer: &Writer, key: &str) -> HistoryPage {
    let id = DocumentId::parse(DOCUMENT).unwrap();
    let page = writer.history().read(&id, &Key::new(key).unwrap(), None, 100_000, usize::MAX);
    page.unwrap()
}

fn shown(writer: &Writer, key: &str) -> BTreeSet<Dot> {
    let view = writer.state.view(&DocumentId::parse(DOCUMENT).unwrap());
    let row = view.and_then(|view| view.rows.get(&Key::new(key).unwrap()));
    row.into_iter().flat_map(|row| row.siblings()).map(|entry| entry.dot).collect()
}

/// Stores that write on their own and hear of each other now and then, and all that was ever written.
struct World {
    disks: Vec<MemoryDisk>,
    stores: Vec<Writer>,
    ever: BTreeMap<&'static str, Vec<Entry>>,
    now: u64,
}

impl World {
    fn new() -> Self {
        let disks: Vec<MemoryDisk> = (0..STORES).map(|_| MemoryDisk::new()).collect();
        let stores = disks.iter().map(open).collect();
        Self { disks, stores, ever: BTreeMap::new(), now: 0 }
    }

    fn write(&mut self, who: usize, key: &'static str) {
        let written_now = put(DOCUMENT, &[(key, &self.now.to_string())]);
        let committed = self.stores[who].commit(Stamp(self.now * S), &[written_now]);
        let dot = written(&committed, 0).dot.unwrap();
        let row = &written(&committed, 0).keys[0].row;
        let entry = row.siblings().iter().find(|entry| entry.dot == dot).unwrap().clone();
        self.ever.entry(key).or_default().push(entry);
    }

    fn hear(&mut self, from: usize, to: usize) {
        if from != to {
            let [from, to] = self.stores.get_disjoint_mut([from, to]).unwrap();
            hear(from, to);
        }
    }

    /// What has to be there of a key, newest first, in a store that has heard of what `knows` says.
    fn kept(&self, who: usize, key: &str, keep: HistoryPolicy) -> Vec<Entry> {
        let vector = &self.stores[who].state.vector;
        let ever = self.ever.get(key).into_iter().flatten();
        let known: Vec<&Entry> = ever.filter(|entry| vector.includes(entry.dot)).collect();
        let newest = known.iter().map(|entry| entry.version).max().unwrap_or_default();
        let shown = shown(&self.stores[who], key);
        let young = (self.now * S).saturating_sub(keep.age_s * S);
        let stays = |entry: &&&Entry| {
            entry.version + keep.versions > newest
                || entry.stamp.0 >= young
                || shown.contains(&entry.dot)
        };
        let mut kept: Vec<Entry> = known.iter().filter(stays).map(|it| (*it).clone()).collect();
        kept.sort_by_key(|entry| std::cmp::Reverse((entry.version, entry.dot)));
        kept
    }
}

#[test]
fn a_late_write_of_a_number_that_was_pruned_leaves_no_two_histories() {
    let mut world = World::new();
    world.write(0, "k0");
    for who in [1, 2] {
        world.hear(0, who);
    }
    // Three of one number, one of them in a region that is cut off.
    for who in 0..3 {
        world.write(who, "k0");
    }
    world.hear(1, 0);
    for _ in 0..4 {
        world.now += 1;
        world.write(0, "k0");
    }
    // The one prunes before it hears of the third, and the other after.
    let keep = policies(3, 5);
    let prune = |world: &mut World, who: usize| {
        world.stores[who].checkpoint().unwrap();
        pass(&mut world.stores[who], world.now * S, &keep);
    };
    world.now += 10;
    prune(&mut world, 0);
    let versions = |world: &World, who: usize| -> Vec<u64> {
        read(&world.stores[who], "k0").iter().map(|entry| entry.version).collect()
    };
    assert_eq!(versions(&world, 0), [6, 5, 4]);
    world.hear(2, 0);
    world.hear(0, 2);
    world.hear(1, 2);
    assert_eq!(versions(&world, 2), [6, 5, 4, 3, 2, 2, 2, 1]);
    (0..3).for_each(|who| prune(&mut world, who));
    assert_eq!(versions(&world, 0), [6, 5, 4, 2], "a conflict that nobody settled");
    assert_eq!(read(&world.stores[0], "k0"), read(&world.stores[2], "k0"));
}

#[test]
fn a_young_write_of_an_old_number_holds_nothing_that_is_old() {
    let mut world = World::new();
    world.write(0, "k0");
    world.hear(0, 1);
    for _ in 0..8 {
        world.now += 1;
        world.write(0, "k0");
    }
    world.now += 10;
    let keep = policies(2, 5);
    world.write(1, "k0");
    world.hear(0, 1);
    world.write(1, "k0");
    world.stores[1].checkpoint().unwrap();
    pass(&mut world.stores[1], world.now * S, &keep);
    let versions: Vec<u64> = read(&world.stores[1], "k0").iter().map(|it| it.version).collect();
    assert_eq!(versions, [10, 9, 2]);
}

#[test]
fn behind_what_stays_a_pass_looks_some_times_in_the_age_that_is_kept() {
    let mut writer = open(&MemoryDisk::new());
    let mut other = open(&MemoryDisk::new());
    writer.commit(Stamp(0), &[put(DOCUMENT, &[("k0", "0")])]);
    hear(&writer, &mut other);
    for i in 0..8 {
        writer.commit(Stamp(i * S), &[put(DOCUMENT, &[("k0", "1")])]);
    }
    let day = 24 * 60 * 60;
    let keep = policies(2, 16 * day);
    let began = 100 * day * S;
    other.commit(Stamp(began), &[put(DOCUMENT, &[("k0", "2")])]);
    hear(&writer, &mut other);
    other.commit(Stamp(began), &[put(DOCUMENT, &[("k0", "3")])]);
    other.checkpoint().unwrap();
    let mut passes = 0;
    while read(&other, "k0").len() > 3 {
        passes += 1;
        pass(&mut other, began + passes * 3_600 * S, &keep);
        assert!(passes <= 24, "a sixteenth of the age is over");
    }
    assert!(passes > 1, "not in each pass");
}

#[test]
fn a_past_that_is_young_and_larger_than_a_step_is_looked_through_to_its_end() {
    let mut writer = open(&MemoryDisk::new());
    let long = format!("\"{}\"", "v".repeat(900));
    for i in 0..6_000_u64 {
        writer.commit(Stamp(i), &[put(DOCUMENT, &[("k0", &long)])]);
        if i % 1_000 == 0 {
            writer.checkpoint().unwrap();
        }
    }
    writer.checkpoint().unwrap();
    let keep = policies(2, 10);
    let mut steps = 0;
    while steps == 0 || writer.is_pruning() {
        steps += 1;
        writer.prune(Stamp(S), &keep).unwrap();
        assert!(steps < 10, "a pass without an end");
    }
    assert_eq!((steps, read(&writer, "k0").len()), (2, 6_000));
}

/// What a test does.
#[derive(Clone, Debug)]
enum Step {
    Put(usize, usize),
    Later(u64),
    Hear(usize, usize),
    Checkpoint(usize),
    Look(usize),
    Pass(usize),
    Crash(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let who = || 0..STORES;
    let step = prop_oneof![
        12 => (who(), 0..KEYS.len()).prop_map(|(who, key)| Step::Put(who, key)),
        6 => (0..5_u64).prop_map(Step::Later),
        4 => (who(), who()).prop_map(|(from, to)| Step::Hear(from, to)),
        2 => who().prop_map(Step::Checkpoint),
        2 => who().prop_map(Step::Look),
        3 => who().prop_map(Step::Pass),
        1 => who().prop_map(Step::Crash),
    ];
    proptest::collection::vec(step, 1..80)
}

fn run(world: &mut World, step: Step, keep: &Policies) {
    match step {
        Step::Put(who, key) => world.write(who, KEYS[key]),
        Step::Later(by) => world.now += by,
        Step::Hear(from, to) => world.hear(from, to),
        Step::Checkpoint(who) => world.stores[who].checkpoint().unwrap(),
        Step::Look(who) => world.stores[who].prune(Stamp(world.now * S), keep).unwrap(),
        Step::Pass(who) => {
            pass(&mut world.stores[who], world.now * S, keep);
        }
        Step::Crash(who) => {
            world.disks[who] = world.disks[who].crash(CrashMode::TearUnsynced(world.now));
            world.stores[who] = open(&world.disks[who]);
        }
    }
}

/// What one store's history of one key had when it was looked at last, and what went of it of which
/// others of the number have been there since.
#[derive(Debug, Default)]
struct Followed {
    had: BTreeSet<(u64, Dot)>,
    went: BTreeSet<(u64, Dot)>,
}

impl Followed {
    fn look(&mut self, writer: &Writer, key: &str) {
        let page = page(writer, key);
        let has: BTreeSet<(u64, Dot)> =
            page.entries.iter().map(|it| (it.version, it.dot)).collect();
        let is_left = |version: u64| has.iter().any(|it| it.0 == version);
        let had = std::mem::replace(&mut self.had, has.clone());
        self.went.extend(had);
        self.went.retain(|it| !has.contains(it) && is_left(it.0));
        let newest = has.iter().map(|it| it.0).max().unwrap_or_default();
        let is_next_gone = |version: &u64| *version < newest && !is_left(version + 1);
        let mut numbers: BTreeSet<u64> = has.iter().map(|it| it.0).filter(is_next_gone).collect();
        numbers.extend(self.went.iter().map(|it| it.0));
        assert_eq!(page.thinned, numbers, "{key}: {self:?}");
        let (id, key) = (DocumentId::parse(DOCUMENT).unwrap(), Key::new(key).unwrap());
        for (version, dot) in has.iter().chain(&self.went) {
            // One origin can have written a number again, after a crash.
            let went = self.went.iter().any(|it| it.0 == *version && it.1.origin == dot.origin);
            let told = writer.history().let_go(&id, &key, *version, dot.origin).unwrap();
            assert_eq!(told, went, "{key} {version} {dot}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn who_has_seen_the_same_writes_has_the_same_histories_whatever_came_and_went_when(
        steps in steps(),
        versions in 1..5_u64,
        age_s in 0..12_u64,
    ) {
        let keep = HistoryPolicy { versions, age_s };
        let all = policies(versions, age_s);
        let mut world = World::new();
        let mut followed: BTreeMap<(usize, &str), Followed> = BTreeMap::new();
        for step in steps {
            run(&mut world, step, &all);
            for (who, key) in (0..STORES).flat_map(|who| KEYS.map(|key| (who, key))) {
                followed.entry((who, key)).or_default().look(&world.stores[who], key);
                let there = read(&world.stores[who], key);
                for entry in world.kept(who, key, keep) {
                    prop_assert!(there.contains(&entry), "{} at {} lacks {:?}", key, who, entry);
                }
            }
        }
        for (from, to) in (0..STORES).flat_map(|from| (0..STORES).map(move |to| (from, to))) {
            world.hear(from, to);
        }
        // Longer than a sixteenth of any age: each key's turn to be looked at as a whole.
        world.now += 1;
        for who in 0..STORES {
            world.stores[who].checkpoint().unwrap();
            // The pass that is under way ends, and another one sees all.
            pass(&mut world.stores[who], world.now * S, &all);
            pass(&mut world.stores[who], world.now * S, &all);
        }
        for (who, key) in (0..STORES).flat_map(|who| KEYS.map(|key| (who, key))) {
            prop_assert_eq!(
                read(&world.stores[who], key), world.kept(who, key, keep), "{} at {}", key, who
            );
            prop_assert_eq!(read(&world.stores[who], key), read(&world.stores[0], key));
        }
    }
}
