//! What a writer keeps in memory does not grow with how long it runs.

use super::*;

#[test]
fn documents_are_evicted_by_their_bytes_and_loaded_again_as_they_were() {
    let disk = MemoryDisk::new();
    let mut writer = open(&disk);
    let large = format!("\"{}\"", "x".repeat(900));
    for round in 0..3 {
        for i in 0..20 {
            let document = format!("service/{i}");
            let commands = [put(&document, &[("a", &large), ("b", &round.to_string())])];
            written(&writer.commit(Stamp(10 + round), &commands), 0);
            let counts = writer.counts();
            assert!(counts.documents_bytes <= 8 << 10, "{counts:?}");
        }
        writer.checkpoint().unwrap();
    }
    let counts = writer.counts();
    assert!(counts.documents_evicted > 40, "{counts:?}");
    assert!(counts.documents_loaded > counts.documents_evicted, "{counts:?}");
    for i in 0..20 {
        let document = format!("service/{i}");
        assert_eq!(value(&writer, &document, "b").as_deref(), Some("2"));
        assert_eq!(value(&writer, &document, "a"), Some(large.clone()));
    }
}

#[test]
fn a_group_keeps_all_documents_that_it_works_on_however_many() {
    let mut writer = open(&MemoryDisk::new());
    let large = format!("\"{}\"", "x".repeat(900));
    let commands: Vec<Command> =
        (0..40).map(|i| put(&format!("service/{i}"), &[("a", &large)])).collect();
    let committed = writer.commit(Stamp(10), &commands);
    assert!((0..40).all(|i| !written(&committed, i).keys.is_empty()));
    let counts = writer.counts();
    assert_eq!(counts.documents_loaded, 40, "each once: none went while the group ran");
    assert!(counts.documents_bytes <= 8 << 10 && counts.documents_evicted > 0, "{counts:?}");
}

#[test]
fn what_waits_for_a_checkpoint_is_bounded_though_nobody_asks_for_one() {
    let mut writer = open(&MemoryDisk::new());
    let value = format!("\"{}\"", "x".repeat(900));
    let group: Vec<Command> =
        (0..1_000).map(|i| put("service/a", &[(format!("key.{i}").as_str(), &value)])).collect();
    let mut highest = 0;
    for round in 0..40 {
        writer.commit(Stamp(10 + round), &group);
        highest = highest.max(writer.unwritten.bytes);
    }
    assert!(highest > UNWRITTEN_BYTES_MAX / 2, "{highest}");
    assert!(highest < UNWRITTEN_BYTES_MAX + (2 << 20), "{highest}");
}

#[test]
fn peers_that_confirmed_an_origin_are_not_remembered_for_ever() {
    let disk = MemoryDisk::new();
    written(&open(&disk).commit(Stamp(10), &[put("a/b", &[("k", "1")])]), 0);
    let stream = Entropy::system().stream("store");
    let settings = WriterSettings { peers: 3, ..settings() };
    let mut writer = Writer::open(settings, Arc::new(disk.clone()), stream).unwrap();
    let origin = writer.origin();
    for i in 0..100 {
        writer.commit(Stamp(20), &[witnessed(&format!("node-{i}"), origin, 0)]);
        assert!(writer.confirmed_by.len() < 3, "{:?}", writer.confirmed_by);
    }
    assert!(writer.is_confirmed());
}
