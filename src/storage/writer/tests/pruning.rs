//! What pruning promises: what the policy keeps is there, what it does not keep goes, nothing comes
//! back, and nothing else is touched; whenever the store is checkpointed, opened again or crashes.

use super::*;
use crate::config::{Entry, HistoryPolicy, Policies};
use crate::model::Environment;
use std::collections::BTreeMap;

pub(super) const S: u64 = 1_000_000;

pub(super) fn policies(versions: u64, age_s: u64) -> Policies {
    let mut policies = Policies::default();
    policies.set.insert(None, HistoryPolicy { versions, age_s });
    policies
}

fn versions(writer: &Writer, document: &str, key: &str) -> Vec<u64> {
    let id = DocumentId::parse(document).unwrap();
    let read = writer.history().read(&id, &Key::new(key).unwrap(), None, 100_000, usize::MAX);
    let versions: Vec<u64> = read.unwrap().entries.iter().map(|entry| entry.version).collect();
    let oldest = writer.history().oldest(&id, &Key::new(key).unwrap()).unwrap();
    assert_eq!(versions.last().copied(), oldest.map(|(version, _)| version));
    versions
}

/// A whole pass, with a checkpoint after each step.
pub(super) fn pass(writer: &mut Writer, now: u64, policies: &Policies) -> usize {
    for steps in 1..10_000 {
        writer.prune(Stamp(now), policies).unwrap();
        writer.checkpoint().unwrap();
        if !writer.is_pruning() {
            return steps;
        }
    }
    panic!("a pass without an end");
}

fn remove(document: &str, key: &str) -> Command {
    let Command::Write(mut request) = put(document, &[(key, "1")]) else { panic!("no write") };
    request.operations[0].action = Action::Remove;
    Command::Write(request)
}

#[test]
fn a_long_history_is_cut_in_bounded_steps_while_writes_go_on() {
    let mut writer = open(&MemoryDisk::new());
    for i in 1..=2_500_u64 {
        writer.commit(Stamp(i * S), &[put("web/dev", &[("k", &i.to_string()), ("few", "1")])]);
        if i % 500 == 0 {
            writer.checkpoint().unwrap();
        }
    }
    let keep = policies(10, 20);
    writer.prune(Stamp(2_500 * S), &keep).unwrap();
    writer.checkpoint().unwrap();
    assert_eq!(writer.counts().pruned.rows, 1_024, "one step");
    assert!(writer.is_pruning() && writer.counts().pruned.keys_left > 0);
    writer.commit(Stamp(2_501 * S), &[put("web/dev", &[("k", "2501")])]);
    pass(&mut writer, 2_501 * S, &keep);
    // Twenty seconds are more than ten versions.
    assert_eq!(versions(&writer, "web/dev", "k"), (2_481..=2_501).rev().collect::<Vec<_>>());
    assert_eq!(writer.counts().pruned, crate::storage::prune::Pruned { rows: 4_960, keys_left: 0 });
    assert_eq!(value(&writer, "web/dev", "k").unwrap(), "2501");
}

#[test]
fn a_removed_key_keeps_its_removal_and_its_numbers_go_on() {
    let mut writer = open(&MemoryDisk::new());
    for i in 1..=5_u64 {
        writer.commit(Stamp(i * S), &[put("web/dev", &[("k", &i.to_string())])]);
    }
    writer.commit(Stamp(6 * S), &[remove("web/dev", "k")]);
    writer.checkpoint().unwrap();
    pass(&mut writer, 1_000 * S, &policies(1, 0));
    assert_eq!(versions(&writer, "web/dev", "k"), [6]);
    let committed = writer.commit(Stamp(2_000 * S), &[put("web/dev", &[("k", "7")])]);
    assert_eq!(written(&committed, 0).keys[0].row.winner().version, 7);
}

#[test]
fn each_environment_has_its_own_policy() {
    let mut writer = open(&MemoryDisk::new());
    for i in 1..=9_u64 {
        for document in ["web/dev", "web/prod", "api/prod"] {
            writer.commit(Stamp(i * S), &[put(document, &[("k", &i.to_string())])]);
        }
    }
    writer.checkpoint().unwrap();
    let mut keep = policies(2, 0);
    let prod = Some(Environment::new("prod").unwrap());
    keep.set.insert(prod, HistoryPolicy { versions: 4, age_s: 0 });
    pass(&mut writer, 100 * S, &keep);
    let lens = ["web/dev", "web/prod", "api/prod"].map(|it| versions(&writer, it, "k").len());
    assert_eq!(lens, [2, 4, 4]);
}

#[test]
fn what_was_pruned_does_not_come_back_whatever_ends_the_process() {
    for mode in [CrashMode::LoseUnsynced, CrashMode::KeepUnsynced, CrashMode::TearUnsynced(3)] {
        let disk = MemoryDisk::new();
        let mut writer = open(&disk);
        for i in 1..=50_u64 {
            writer.commit(Stamp(i * S), &[put("web/dev", &[("k", &i.to_string())])]);
        }
        writer.checkpoint().unwrap();
        // Found and not removed: a crash here forgets it.
        writer.prune(Stamp(100 * S), &policies(5, 0)).unwrap();
        assert_eq!(versions(&open(&disk.crash(mode)), "web/dev", "k").len(), 50);
        writer.checkpoint().unwrap();
        let kept = vec![50, 49, 48, 47, 46];
        assert_eq!(versions(&open(&disk.crash(mode)), "web/dev", "k"), kept);
        // Written behind the checkpoint, in the log alone.
        writer.commit(Stamp(60 * S), &[put("web/dev", &[("k", "51")])]);
        let mut again = open(&disk.crash(mode));
        assert_eq!(versions(&again, "web/dev", "k"), [51, 50, 49, 48, 47, 46]);
        again.checkpoint().unwrap();
        pass(&mut again, 100 * S, &policies(5, 0));
        assert_eq!(versions(&again, "web/dev", "k"), [51, 50, 49, 48, 47]);
    }
}

#[test]
fn a_step_that_finds_no_room_on_the_disk_is_done_later() {
    let disk = MemoryDisk::new();
    let mut writer = open(&disk);
    for i in 1..=20_u64 {
        writer.commit(Stamp(i * S), &[put("web/dev", &[("k", &i.to_string())])]);
    }
    writer.checkpoint().unwrap();
    writer.prune(Stamp(100 * S), &policies(5, 0)).unwrap();
    disk.fail(true);
    writer.checkpoint().unwrap_err();
    disk.fail(false);
    writer.resting = None;
    writer.ensure_open().unwrap();
    pass(&mut writer, 100 * S, &policies(5, 0));
    assert_eq!(versions(&writer, "web/dev", "k"), [20, 19, 18, 17, 16]);
}

/// Two stores' concurrent writes, made known to each other.
fn of_two() -> (Writer, Writer) {
    (open(&MemoryDisk::new()), open(&MemoryDisk::new()))
}

fn tell(to: &mut Writer, committed: &Committed, now: u64) {
    to.commit(Stamp(now), &[Command::Apply(committed.own.clone())]);
}

#[test]
fn a_conflict_that_nobody_settled_holds_its_version_and_a_late_write_goes_with_the_next_pass() {
    let (mut here, mut there) = of_two();
    let first = here.commit(Stamp(S), &[put("web/dev", &[("k", "1")])]);
    tell(&mut there, &first, S);
    let late = there.commit(Stamp(2 * S), &[put("web/dev", &[("k", "0")])]);
    for i in 2..=30_u64 {
        here.commit(Stamp(i * S), &[put("web/dev", &[("k", &i.to_string())])]);
    }
    here.checkpoint().unwrap();
    pass(&mut here, 100 * S, &policies(3, 0));
    assert_eq!(versions(&here, "web/dev", "k"), [30, 29, 28]);
    tell(&mut here, &late, 100 * S);
    assert_eq!(versions(&here, "web/dev", "k"), [30, 29, 28, 2]);
    here.checkpoint().unwrap();
    pass(&mut here, 100 * S, &policies(3, 0));
    assert_eq!(versions(&here, "web/dev", "k"), [30, 29, 28, 2], "a conflict");
    here.commit(Stamp(101 * S), &[put("web/dev", &[("k", "31")])]);
    here.checkpoint().unwrap();
    pass(&mut here, 200 * S, &policies(3, 0));
    assert_eq!(versions(&here, "web/dev", "k"), [31, 30, 29]);
}

#[test]
fn a_newcomer_gets_all_and_keeps_what_the_policy_keeps() {
    let (mut here, mut there) = of_two();
    for i in 1..=30_u64 {
        here.commit(Stamp(i * S), &[put("web/dev", &[("k", &i.to_string())])]);
    }
    here.checkpoint().unwrap();
    pass(&mut here, 100 * S, &policies(3, 0));
    let have = here.published().load().vector.clone();
    let missing = here.log().missing(Vector::default(), &have, usize::MAX).unwrap();
    assert!(!missing.more);
    there.commit(Stamp(100 * S), &[Command::Apply(missing.records)]);
    there.checkpoint().unwrap();
    assert_eq!(versions(&there, "web/dev", "k").len(), 30);
    pass(&mut there, 100 * S, &policies(3, 0));
    assert_eq!(versions(&there, "web/dev", "k"), versions(&here, "web/dev", "k"));
}

/// What a test does to a store.
#[derive(Clone, Debug)]
enum Step {
    Put(u8, u64),
    Remove(u8),
    Checkpoint,
    Look,
    Reopen,
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..3_u8, 0..4_u64).prop_map(|(key, after)| Step::Put(key, after)),
        1 => (0..3_u8).prop_map(Step::Remove),
        2 => Just(Step::Checkpoint),
        3 => Just(Step::Look),
        1 => Just(Step::Reopen),
        1 => Just(Step::Crash),
    ]
}

/// What has to be there of a key, given all that ever was: nothing less, at any time.
fn model(entries: &[Entry], keep: HistoryPolicy, now: u64) -> Vec<u64> {
    let newest = entries.len() as u64;
    let goes = |entry: &Entry| {
        entry.version + keep.versions <= newest
            && entry.stamp.0 < now.saturating_sub(keep.age_s * S)
    };
    let gone = entries.iter().take_while(|entry| goes(entry)).count();
    entries[gone..].iter().rev().map(|entry| entry.version).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn a_store_has_what_the_policy_keeps_and_after_a_pass_no_more(
        steps in proptest::collection::vec(step(), 1..80),
        count in 1..6_u64,
        age_s in 0..12_u64,
    ) {
        let keep = HistoryPolicy { versions: count, age_s };
        let all = policies(count, age_s);
        let mut disk = MemoryDisk::new();
        let mut writer = open(&disk);
        let mut ever: BTreeMap<String, Vec<Entry>> = BTreeMap::new();
        let mut now = 0;
        for step in steps {
            match step {
                Step::Put(key, after) => {
                    now += after * S;
                    let key = format!("k{key}");
                    let committed = writer.commit(Stamp(now), &[put("web/dev", &[(&key, "1")])]);
                    let entry = written(&committed, 0).keys[0].row.winner().clone();
                    ever.entry(key).or_default().push(entry);
                }
                Step::Remove(key) => {
                    let key = format!("k{key}");
                    if value(&writer, "web/dev", &key).is_none() {
                        continue;
                    }
                    let committed = writer.commit(Stamp(now), &[remove("web/dev", &key)]);
                    let entry = written(&committed, 0).keys[0].row.winner().clone();
                    ever.entry(key).or_default().push(entry);
                }
                Step::Checkpoint => writer.checkpoint().unwrap(),
                Step::Look => writer.prune(Stamp(now), &all).unwrap(),
                Step::Reopen => {
                    drop(writer);
                    writer = open(&disk);
                }
                Step::Crash => {
                    disk = disk.crash(CrashMode::TearUnsynced(now));
                    writer = open(&disk);
                }
            }
            for (key, entries) in &ever {
                let there = versions(&writer, "web/dev", key);
                let kept = model(entries, keep, now);
                prop_assert!(there.starts_with(&kept), "{key}: {there:?} lacks {kept:?}");
                prop_assert!(there.is_sorted_by(|a, b| *a == b + 1), "{key} has holes: {there:?}");
            }
        }
        writer.checkpoint().unwrap();
        pass(&mut writer, now, &all);
        pass(&mut writer, now, &all);
        for (key, entries) in &ever {
            prop_assert_eq!(versions(&writer, "web/dev", key), model(entries, keep, now));
        }
    }
}
