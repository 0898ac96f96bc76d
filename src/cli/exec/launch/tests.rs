//! Claims about finding programs and about what a system takes.

use std::os::unix::fs::PermissionsExt as _;

use rustix::process::{WaitOptions, waitpid};

use super::*;
use crate::secrets::Plaintext;

fn given(pairs: &[(&str, &str)]) -> Given {
    let pairs = pairs.iter();
    let pairs = pairs.map(|(n, v)| ((*n).to_owned(), Plaintext::new(v.as_bytes().to_vec())));
    Given::new(pairs.collect()).unwrap()
}

fn program(
    words: &[&str],
    inherited: &[(&str, &str)],
    search: Option<&str>,
) -> Result<Program, u8> {
    let words = words.iter().map(OsString::from).collect();
    let inherited = inherited.iter().map(|(n, v)| (n.into(), v.into())).collect();
    Program::find(words, inherited, search.map(OsStr::new)).map_err(|e| e.code())
}

fn file(dir: &Path, name: &str, mode: u32, text: &str) -> String {
    let path = dir.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    path.display().to_string()
}

#[test]
fn programs_are_found_as_a_shell_finds_them() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().display().to_string();
    file(dir.path(), "runs", 0o755, "");
    let not = file(dir.path(), "not", 0o644, "");
    assert!(program(&["sh"], &[], None).is_ok(), "without PATH, where programs are");
    let search = format!("/nowhere::{at}");
    assert_eq!(program(&["runs"], &[], Some(&search)).unwrap().path, dir.path().join("runs"));
    assert_eq!(program(&["gone"], &[], Some(&search)).err(), Some(127));
    assert_eq!(program(&["not"], &[], Some(&search)).err(), Some(126));
    assert_eq!(program(&["not"], &[], Some(&format!("{at}:/bin"))).err(), Some(126));
    assert_eq!(program(&[&not], &[], None).err(), Some(126));
    assert_eq!(program(&[&at], &[], None).err(), Some(126), "a directory");
    assert_eq!(program(&["/nowhere/x"], &[], None).err(), Some(127));
    assert_eq!(program(&[""], &[], None).err(), Some(127));
}

#[test]
fn what_is_given_goes_before_what_is_inherited_and_each_name_is_there_once() {
    let program = program(&["sh"], &[("A", "own"), ("B", "own=x")], None).unwrap();
    let entries = program.environment(&given(&[("A", "given"), ("C", "")]));
    let texts: Vec<_> = entries.iter().map(|it| it.as_ref().to_str().unwrap().to_owned()).collect();
    assert_eq!(texts, ["B=own=x", "A=given", "C="]);
    assert_eq!(entries[0].split(), (OsStr::new("B"), OsStr::new("own=x")));
}

#[test]
fn more_than_the_system_takes_is_refused_and_says_what_is_too_long() {
    let one = program(&["sh"], &[], None).unwrap();
    let long = "x".repeat(STRING_LEN_MAX - 4);
    assert!(one.check(&given(&[("AB", &long)])).is_ok(), "as long as it may be");
    let why = one.check(&given(&[("ABC", &long)])).unwrap_err().to_string();
    assert!(why.contains("the value of ABC has 131068 bytes"), "{why}");
    assert!(!why.contains("xxx"), "{why}");
    let many: Vec<String> = (0..bytes_max() / 100_000 + 1).map(|i| format!("V{i}")).collect();
    let value = "y".repeat(100_000);
    let many: Vec<(&str, &str)> = many.iter().map(|name| (name.as_str(), &*value)).collect();
    let why = one.check(&given(&many)).unwrap_err().to_string();
    assert!(why.contains("environment and arguments have"), "{why}");
}

#[test]
fn the_longest_that_is_taken_is_taken_by_the_system() {
    let program = program(&["sh", "-c", "test ${#A} -gt 100000"], &[], None).unwrap();
    let long = "x".repeat(STRING_LEN_MAX - 3);
    let given = given(&[("A", &long)]);
    program.check(&given).unwrap();
    let child = program.start(&given, false).unwrap();
    let (_, status) = waitpid(Some(child), WaitOptions::empty()).unwrap().unwrap();
    assert_eq!(status.exit_status(), Some(0));
}

#[test]
fn a_script_that_says_no_interpreter_is_a_shells() {
    let dir = tempfile::tempdir().unwrap();
    let script =
        file(dir.path(), "script", 0o755, "test \"$1\" = one && test \"$A\" = two && exit 7\n");
    let program = program(&[&script, "one"], &[], None).unwrap();
    let child = program.start(&given(&[("A", "two")]), true).unwrap();
    let (_, status) = waitpid(Some(child), WaitOptions::empty()).unwrap().unwrap();
    assert_eq!(status.exit_status(), Some(7));
}

#[test]
fn a_program_that_is_gone_since_is_refused_before_anything_is_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(dir.path(), "runs", 0o755, "");
    let program = program(&[&path], &[], None).unwrap();
    std::fs::remove_file(&path).unwrap();
    let why = program.check(&given(&[])).unwrap_err();
    assert_eq!(why.code(), 127);
    assert!(why.to_string().contains("runs does not start"), "{why}");
}
