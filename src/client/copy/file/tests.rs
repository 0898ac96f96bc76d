//! Claims about the file: it reads back as it was written, and nothing else is taken for it.

use std::path::Path;
use std::sync::Arc;

use super::{CopyFile, CopyFileError};
use crate::client::Sibling;
use crate::client::WatchEvent;
use crate::client::copy::state::{CopyState, Pending};
use crate::client::copy::testing::{document, item, state};
use crate::env::{CrashMode, Disk, FileDisk, MemoryDisk};
use crate::model::{DocumentId, JsonText, Stamp};

const NAME: &str = "web.copy";

fn file(disk: &MemoryDisk) -> CopyFile {
    CopyFile::new(Arc::new(disk.clone()), (Path::new("/data"), NAME), document(), None)
}

/// A disk on which two states were saved, one after the other.
fn saved_twice() -> MemoryDisk {
    let disk = MemoryDisk::default();
    let mut file = file(&disk);
    file.save(&state(&[("a", "1")]), Stamp(5)).unwrap();
    file.save(&state(&[("a", "2"), ("b", "\"x\"")]), Stamp(6)).unwrap();
    disk
}

fn keys(disk: &MemoryDisk) -> (Option<usize>, Vec<CopyFileError>) {
    let (saved, refused) = file(disk).load();
    (saved.map(|saved| saved.items.len()), refused)
}

fn full_state() -> CopyState {
    let mut full = item("a", "1.00000000000000000001", 7);
    full.message = Some("why".into());
    full.conflicts = vec![Sibling {
        value: Some(JsonText::parse("null").unwrap()),
        removed: false,
        version: 7,
        updated_at: "2026-01-01T00:00:00Z".to_owned(),
        updated_by: "bob".to_owned(),
        region: "us".to_owned(),
        origin: "02".to_owned(),
        message: None,
    }];
    let mut pending = Pending::default();
    pending.take(&document(), WatchEvent::Put(full), None);
    pending.take(&document(), WatchEvent::Ready, Some("s9"));
    pending.state(1)
}

#[test]
fn a_file_reads_back_as_it_was_written() {
    let disk = MemoryDisk::default();
    let state = full_state();
    file(&disk).save(&state, Stamp(77)).unwrap();
    let (saved, refused) = file(&disk).load();
    let saved = saved.unwrap();
    assert!(refused.is_empty());
    assert_eq!(&saved.items, state.items());
    assert_eq!((saved.session.as_deref(), saved.confirmed_at), (Some("s9"), Stamp(77)));
}

#[test]
fn wherever_a_file_is_cut_it_is_refused_by_name_and_the_one_before_is_used() {
    let whole = saved_twice().read(NAME).unwrap().unwrap();
    for len in 0..whole.len() {
        let disk = saved_twice();
        disk.write(NAME, &whole[..len], true).unwrap();
        let (found, refused) = keys(&disk);
        assert_eq!(found, Some(1), "cut at {len}: the file before has one key");
        let [error] = &refused[..] else { panic!("cut at {len}: {refused:?}") };
        assert!(matches!(error, CopyFileError::Cut { .. }), "cut at {len}: {error}");
        assert!(error.to_string().starts_with("/data/web.copy: "), "{error}");
    }
    assert_eq!(keys(&saved_twice()), (Some(2), vec![]));
}

#[test]
fn whatever_byte_is_changed_the_file_is_refused() {
    let whole = saved_twice().read(NAME).unwrap().unwrap();
    for at in 0..whole.len() {
        let disk = saved_twice();
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        disk.write(NAME, &bytes, true).unwrap();
        let (found, refused) = keys(&disk);
        assert_eq!((found, refused.len()), (Some(1), 1), "changed at {at}");
    }
}

#[test]
fn what_is_of_another_format_or_document_is_refused() {
    let disk = MemoryDisk::default();
    for (text, kind) in [("holm local copy 2\n…", "format"), ("hello\n", "no local copy")] {
        disk.write(NAME, text.as_bytes(), true).unwrap();
        let (found, refused) = keys(&disk);
        assert_eq!(found, None);
        assert!(refused[0].to_string().contains(kind), "{}", refused[0]);
    }
    let disk = saved_twice();
    let other = DocumentId::parse("web/prod").unwrap();
    let at = (Path::new("/data"), NAME);
    let (found, refused) = CopyFile::new(Arc::new(disk.clone()), at, other, None).load();
    assert!(found.is_none());
    let said = refused[0].to_string();
    assert_eq!(said, "/data/web.copy: the file is a copy of web/dev, not of web/prod");
    let prefix = Some("server.".to_owned());
    let (found, _) = CopyFile::new(Arc::new(disk), at, document(), prefix).load();
    assert!(found.is_none(), "a part is not the whole");
}

#[test]
fn a_crash_at_any_moment_leaves_a_file_that_can_be_used() {
    let disk = MemoryDisk::default();
    let mut file = file(&disk);
    for n in 1..5u64 {
        file.save(&state(&[("a", &n.to_string())]), Stamp(n)).unwrap();
        let after = disk.crash(CrashMode::LoseUnsynced);
        assert_eq!(keys(&after), (Some(1), vec![]));
    }
    // Between the two renames there is only the one before.
    disk.rename(NAME, "web.copy.before").unwrap();
    assert_eq!(keys(&disk), (Some(1), vec![]));
}

#[test]
fn a_bad_file_does_not_take_the_place_of_the_good_one_before() {
    let disk = saved_twice();
    disk.write(NAME, b"holm local copy 1\n", true).unwrap();
    let mut file = file(&disk);
    assert_eq!(file.load().0.unwrap().confirmed_at, Stamp(5));
    file.save(&state(&[("c", "3")]), Stamp(9)).unwrap();
    disk.remove(NAME).unwrap();
    assert_eq!(file.load().0.unwrap().confirmed_at, Stamp(5), "still the one before");
}

#[test]
fn a_file_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(FileDisk::open(dir.path()).unwrap());
    let mut file = CopyFile::new(disk, (dir.path(), NAME), document(), None);
    file.save(&state(&[("a", "1")]), Stamp(1)).unwrap();
    file.save(&state(&[("a", "2")]), Stamp(2)).unwrap();
    for name in [NAME, "web.copy.before"] {
        let mode = std::fs::metadata(dir.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[test]
fn a_copy_that_is_too_long_for_a_file_leaves_the_one_before() {
    let disk = saved_twice();
    let mut file = file(&disk);
    file.load();
    let value = format!("\"{}\"", "x".repeat(255 * 1024));
    let names: Vec<String> = (0..70).map(|n| format!("k{n}")).collect();
    let many: Vec<(&str, &str)> = names.iter().map(|name| (&**name, &*value)).collect();
    let error = file.save(&state(&many), Stamp(9)).unwrap_err();
    assert!(matches!(error, CopyFileError::TooLong { .. }), "{error}");
    assert_eq!(keys(&disk), (Some(2), vec![]));
}
