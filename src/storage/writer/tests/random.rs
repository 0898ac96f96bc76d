//! Lives that nobody thought of: what was acknowledged outlives any crash, and view and histories are
//! functions of the changes alone.

use super::*;

fn crash_modes() -> impl Strategy<Value = CrashMode> {
    prop_oneof![
        Just(CrashMode::LoseUnsynced),
        Just(CrashMode::KeepUnsynced),
        any::<u64>().prop_map(CrashMode::TearUnsynced),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn a_crash_loses_nothing_acknowledged(
        rounds in proptest::collection::vec((1usize..12, any::<bool>(), crash_modes()), 1..4)
    ) {
        let mut disk = MemoryDisk::new();
        let mut expected: BTreeMap<String, String> = BTreeMap::new();
        let mut dots = BTreeSet::new();
        let mut i = 0_u64;
        for (writes, checkpoint, mode) in rounds {
            let mut writer = open(&disk);
            for _ in 0..writes {
                i += 1;
                let key = format!("k{}", i % 7);
                let committed = writer.commit(Stamp(i), &[put("web/dev", &[(&key, &i.to_string())])]);
                prop_assert!(dots.insert(written(&committed, 0).dot.unwrap()), "a number used twice");
                expected.insert(key, i.to_string());
                if checkpoint && i.is_multiple_of(3) {
                    writer.checkpoint().unwrap();
                }
            }
            disk = disk.crash(mode);
            drop(writer);
            let writer = open(&disk);
            for (key, expected) in &expected {
                let found = value(&writer, "web/dev", key);
                prop_assert_eq!(found.as_ref(), Some(expected));
            }
        }
    }
}

/// One step of a random life of two stores that now and then hear of each other.
#[derive(Clone, Debug)]
enum Step {
    Put { who: usize, document: usize, key: usize },
    RemoveAll { who: usize, document: usize },
    Hear { who: usize },
    Checkpoint { who: usize },
    Reopen { who: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..2usize, 0..2usize, 0..4usize)
            .prop_map(|(who, document, key)| Step::Put { who, document, key }),
        1 => (0..2usize, 0..2usize).prop_map(|(who, document)| Step::RemoveAll { who, document }),
        2 => (0..2usize).prop_map(|who| Step::Hear { who }),
        1 => (0..2usize).prop_map(|who| Step::Checkpoint { who }),
        1 => (0..2usize).prop_map(|who| Step::Reopen { who }),
    ];
    proptest::collection::vec(step, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn view_and_history_are_functions_of_the_changes_alone(steps in steps()) {
        let disks = [MemoryDisk::new(), MemoryDisk::new()];
        let mut stores: Vec<Option<Writer>> = disks.iter().map(|disk| Some(open(disk))).collect();
        let hear = |stores: &mut Vec<Option<Writer>>, who: usize| {
            let (me, other) = (stores[who].as_ref().unwrap(), stores[1 - who].as_ref().unwrap());
            let vector = (*me.published.load().vector).clone();
            let have = other.published.load().vector.clone();
            let records = other.log().missing(vector, &have, 1 << 20).unwrap().records;
            stores[who].as_mut().unwrap().commit(Stamp(1), &[Command::Apply(records)]);
        };
        for (i, step) in steps.iter().enumerate() {
            let document = |document: &usize| format!("web/{document}");
            match step {
                Step::Put { who, document: d, key } => {
                    let command = put(&document(d), &[(&format!("k{key}"), &i.to_string())]);
                    stores[*who].as_mut().unwrap().commit(Stamp(i as u64 / 3), &[command]);
                }
                Step::RemoveAll { who, document: d } => {
                    let Command::Write(mut write) = put(&document(d), &[]) else { panic!() };
                    write.remove_all = true;
                    stores[*who].as_mut().unwrap().commit(Stamp(i as u64), &[Command::Write(write)]);
                }
                Step::Hear { who } => hear(&mut stores, *who),
                Step::Checkpoint { who } => stores[*who].as_mut().unwrap().checkpoint().unwrap(),
                Step::Reopen { who } => {
                    stores[*who] = None;
                    stores[*who] = Some(open(&disks[*who]));
                }
            }
        }
        hear(&mut stores, 0);
        hear(&mut stores, 1);
        let [a, b] = &stores[..] else { unreachable!() };
        let (a, b) = (a.as_ref().unwrap(), b.as_ref().unwrap());
        // A third store gets the bare changes, all at once.
        let mut c = open(&MemoryDisk::new());
        let have = a.published.load().vector.clone();
        let records = a.log().missing(Vector::new(), &have, 1 << 24).unwrap().records;
        c.commit(Stamp(1), &[Command::Apply(records)]);
        prop_assert_eq!(view(a), view(b));
        prop_assert_eq!(view(a), view(&c));
        prop_assert_eq!(histories(a), histories(b));
        prop_assert_eq!(histories(a), histories(&c));
        prop_assert_eq!(a.counts().rows, c.counts().rows);
        prop_assert_eq!(a.counts().conflicts, c.counts().conflicts);
    }
}
