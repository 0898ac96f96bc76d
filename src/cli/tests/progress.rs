//! Claims about bars: who sees them, and who does not.

use axum::http::StatusCode;

use super::{Done, NOBODY, Person, holm_with};
use crate::client::stub::Stub;

const WATCHER: Person = Person { watches: true, ..NOBODY };

/// How a bar takes the one before away.
const AGAIN: &str = "\r\x1b[K";

async fn rotate_keys(stub: &Stub, line: &[&str], person: Person) -> Done {
    let step = r#"{"to":2,"rewrapped":40,"left":0,"damaged":[]}"#;
    stub.node().next_answer = Some((StatusCode::OK, step.to_owned()));
    holm_with(stub, &[&["keys", "rotate"], line].concat(), person).await
}

#[tokio::test]
async fn a_rotation_of_keys_shows_how_far_it_is_and_takes_the_bar_away() {
    let stub = Stub::start().await;
    let done = rotate_keys(&stub, &[], WATCHER).await;
    let full = "#".repeat(30);
    assert_eq!(done.err, format!("{AGAIN}[{full}] 40 of 40 keys{AGAIN}"));
    assert!(done.code == 0 && done.out.contains("40 keys were wrapped anew"), "{done:?}");

    let step = r#"{"to":2,"rewrapped":10,"left":30,"damaged":[]}"#;
    stub.node().next_answer = Some((StatusCode::OK, step.to_owned()));
    // The stub has no second step: that is a failure, after the first one was shown.
    let done = holm_with(&stub, &["keys", "rotate"], WATCHER).await;
    let part = format!("[{}{}] 10 of 40 keys{AGAIN}", "#".repeat(7), ".".repeat(23));
    assert!(done.code != 0 && done.err.contains(&part), "{done:?}");
}

#[tokio::test]
async fn programs_and_pipes_get_no_bar() {
    let stub = Stub::start().await;
    assert_eq!(rotate_keys(&stub, &[], NOBODY).await.err, "");
    let done = rotate_keys(&stub, &["--output", "json"], WATCHER).await;
    assert!(done.code == 0 && !done.err.contains('['), "{done:?}");
}

#[tokio::test]
async fn making_certificates_anew_shows_how_many_of_how_many() {
    let stub = Stub::start().await;
    let dir = tempfile::tempdir().unwrap();
    let pki = dir.path().to_str().unwrap();
    let pki_of = async |line: &[&str], person| {
        let done = holm_with(&stub, &[&["pki"], line, &["--dir", pki]].concat(), person).await;
        assert_eq!(done.code, 0, "{done:?}");
        done
    };
    pki_of(&["init"], NOBODY).await;
    for node in ["a-1", "b-1", "c-1"] {
        pki_of(&["issue", "--node", node], NOBODY).await;
    }
    pki_of(&["rotate-ca", "begin"], NOBODY).await;
    let done = pki_of(&["rotate-ca", "issue", "--stopped"], WATCHER).await;
    for part in ["1 of 3 certificates", "2 of 3 certificates", "3 of 3 certificates"] {
        assert!(done.err.contains(part), "{done:?}");
    }
    assert!(done.err.ends_with(AGAIN) && done.out.contains("made anew"), "{done:?}");
    // All are of the new authority: nothing is to be made, and nothing to be shown.
    let again = pki_of(&["rotate-ca", "issue", "--stopped"], WATCHER).await;
    assert!(!again.err.contains('#'), "{again:?}");
}

#[tokio::test]
async fn import_and_export_show_how_far_they_are_to_who_watches_alone() {
    let stub = Stub::start().await;
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in [("a.yml", "x: 1\ny: 2\n"), ("b.yml", "z: 3\n")] {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    let from = dir.path().to_str().unwrap();
    let done = holm_with(&stub, &["import", from, "--env", "dev"], WATCHER).await;
    let (none, half) = (".".repeat(30), "#".repeat(15) + &".".repeat(15));
    let most = "#".repeat(20) + &".".repeat(10);
    for part in [
        format!("[{none}] 0 of 2 read; reading a/dev{AGAIN}[{half}] 1 of 2 read; reading b/dev"),
        format!("[{none}] 0 of 3 keys; writing a/dev{AGAIN}[{most}] 2 of 3 keys; writing b/dev"),
    ] {
        assert!(done.err.contains(&part), "no `{part}` in {done:?}");
    }
    assert!(done.code == 0 && done.err.ends_with(AGAIN), "{done:?}");
    let done = holm_with(&stub, &["export"], WATCHER).await;
    assert!(done.err.contains(&format!("[{half}] 1 of 2 read; reading b/dev")), "{done:?}");
    // Nobody's terminal, or a program that reads: no bar.
    for line in [&["import", from, "--env", "prod"][..], &["export", "--dir", from]] {
        assert_eq!(holm_with(&stub, line, NOBODY).await.err, "", "{line:?}");
        let json = [line, &["--output", "json"]].concat();
        let done = holm_with(&stub, &json, WATCHER).await;
        assert!(!done.err.contains('['), "{done:?}");
    }
}
