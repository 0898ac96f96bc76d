//! The program as a process: its exit codes, its streams, and a reader that goes away.

use std::process::{Command, Stdio};

fn holm(line: &[&str]) -> (Option<i32>, String, String) {
    let done = Command::new(env!("CARGO_BIN_EXE_holm"))
        .args(line)
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .expect("the program starts");
    let text = |bytes| String::from_utf8(bytes).expect("the program writes UTF-8");
    (done.status.code(), text(done.stdout), text(done.stderr))
}

#[test]
fn help_goes_to_stdout_and_usage_errors_to_stderr() {
    let (code, out, err) = holm(&["--help"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.contains("Exit codes:"));
    let (code, out, err) = holm(&["get"]);
    assert_eq!((code, out.as_str()), (Some(2), ""));
    assert!(err.contains("Usage: holm get"));
}

#[test]
fn a_node_that_is_not_there_is_exit_code_1_and_a_hint() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", free.local_addr().unwrap());
    drop(free);
    let (code, out, err) = holm(&["--url", &url, "list"]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(err.starts_with("holm: ") && err.contains("`holm dev`"), "{err}");
    assert!(!err.contains('\u{1b}'), "no colours and no progress where nobody sees them");
}

#[test]
fn a_closed_pipe_is_no_panic() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_holm"))
        .args(["import", "--help"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let done = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(done.stderr).unwrap(), "");
}
