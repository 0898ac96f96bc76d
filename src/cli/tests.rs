//! Claims about the commands, against a stub of a node and with memory for a terminal.

mod access;
mod exec;
mod progress;
mod topology;

use std::io::{Cursor, Write};
use std::path::Path;

use axum::http::StatusCode;
use clap::Parser as _;

use super::{Cli, Terminal, run_to_code};
use crate::client::stub::Stub;

/// What a command left: exit code, results, errors.
#[derive(Debug)]
struct Done {
    code: u8,
    out: String,
    err: String,
}

struct Person {
    input: &'static str,
    present: bool,
    /// Whether this person sees the errors.
    watches: bool,
    colour: bool,
}

const NOBODY: Person = Person { input: "", present: false, watches: false, colour: false };

async fn holm(stub: &Stub, line: &[&str]) -> Done {
    holm_with(stub, line, NOBODY).await
}

async fn holm_with(stub: &Stub, line: &[&str], person: Person) -> Done {
    let line = ["holm", "--url", &stub.url].into_iter().chain(line.iter().copied());
    let cli = match Cli::try_parse_from(line) {
        Ok(cli) => cli,
        Err(e) => return Done { code: 2, out: String::new(), err: e.to_string() },
    };
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut terminal = Terminal {
        out: &mut out,
        err: &mut err,
        input: &mut Cursor::new(person.input),
        out_is_terminal: person.present,
        err_is_terminal: person.watches,
        input_is_terminal: person.present,
        colour: person.colour,
    };
    let code = run_to_code(cli, &mut terminal).await;
    Done { code, out: String::from_utf8(out).unwrap(), err: String::from_utf8(err).unwrap() }
}

fn petclinic() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/petclinic-config").display().to_string()
}

/// The files of a folder, by name.
fn files(dir: &Path) -> Vec<(String, String)> {
    let mut files: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|file| {
            let path = file.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, std::fs::read_to_string(path).unwrap())
        })
        .collect();
    files.sort();
    files
}

#[tokio::test]
async fn the_petclinic_comes_in_and_out_and_in_again_the_same() {
    let stub = Stub::start().await;
    let shown = holm(&stub, &["import", &petclinic(), "--dry-run"]).await;
    assert_eq!(shown.code, 0, "{shown:?}");
    assert!(shown.out.contains("+ eureka.client.serviceUrl.defaultZone = \"http://"));
    assert!(stub.asked().iter().all(|line| line.starts_with("GET")), "--dry-run writes nothing");

    let done = holm(&stub, &["import", &petclinic(), "--message", "first"]).await;
    assert_eq!(done.code, 0, "{done:?}");
    let documents = holm(&stub, &["list"]).await.out.lines().count() - 1;
    let posts = stub.asked().iter().filter(|line| line.starts_with("POST")).count();
    assert_eq!(posts, documents, "one write for each environment");
    assert_eq!(done.out.lines().last(), Some("63 keys written in 19 environments"));
    let zone = ["get", "api-gateway/docker", "eureka.client.serviceUrl.defaultZone"];
    assert_eq!(holm(&stub, &zone).await.out, "http://discovery-server:8761/eureka/\n");
    let id = ["get", "vets-service/default", "eureka.instance.instance-id"];
    assert_eq!(holm(&stub, &id).await.out, "${spring.application.name}:${random.uuid}\n");
    assert_eq!(holm(&stub, &["get", "vets-service/default", "vets.cache.ttl"]).await.out, "60\n");

    stub.asked();
    let again = holm(&stub, &["import", &petclinic()]).await;
    assert_eq!(again.out, "nothing to change in 19 of 19 environments\n");
    assert!(stub.asked().iter().all(|line| line.starts_with("GET")), "the same is not sent");

    for format in ["yaml", "json", "toml"] {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let fresh = Stub::start().await;
        let (first, second) = (one.path().to_str().unwrap(), two.path().to_str().unwrap());
        let export = ["export", "--format", format, "--dir"];
        assert_eq!(holm(&stub, &[&export[..], &[first]].concat()).await.code, 0);
        assert_eq!(holm(&fresh, &["import", first]).await.code, 0);
        assert_eq!(holm(&fresh, &[&export[..], &[second]].concat()).await.code, 0);
        assert_eq!(files(one.path()), files(two.path()));
        assert_eq!(stub.node().entries, fresh.node().entries, "{format}");
    }
}

#[tokio::test]
async fn a_value_is_json_where_it_is_json_and_else_a_string() {
    let stub = Stub::start().await;
    for (line, value) in [
        (&["set", "web/dev", "a", "8080"][..], "8080"),
        (&["set", "web/dev", "a", "-1.50"], "-1.50"),
        (&["set", "web/dev", "a", "8080", "--string"], "\"8080\""),
        (&["set", "web/dev", "a", "hello world"], "\"hello world\""),
        (&["set", "web/dev", "a={\"x\": [1]}"], "{\"x\":[1]}"),
        (&["set", "web/dev", "a=b=c"], "\"b=c\""),
        (&["set", "web/dev", "a", ""], "\"\""),
    ] {
        let done = holm(&stub, line).await;
        assert_eq!(done.code, 0, "{done:?}");
        let got = holm(&stub, &["get", "web/dev", "a", "--json-value"]).await.out;
        assert_eq!(got, format!("{value}\n"), "{line:?}");
    }
    let person = Person {
        input: "{\"n\": 123456789012345678901234567890}",
        present: false,
        watches: false,
        colour: false,
    };
    assert_eq!(holm_with(&stub, &["set", "web/dev", "a", "--file", "-"], person).await.code, 0);
    let json = holm(&stub, &["get", "web/dev", "a", "--output", "json"]).await.out;
    assert!(json.contains("123456789012345678901234567890"), "{json}");
    for bad in [
        &["set", "web/dev", "a", "{\"x\":1,\"x\":2}"][..],
        &["set", "web/dev", "a b", "1"],
        &["set", "web/dev", "a=1", "b"],
        &["set", "web/dev", "a"],
        &["set", "web", "a", "1"],
        &["set", "web/dev", "a=1", "b=2", "--expect-version", "1"],
        &["set", "web/dev", "a", "1", "--ack", "many"],
        &["set", "web/dev", "a", "1", "--timeout", "1"],
        &["set", "web/dev", "a", "--file", "/nonexistent"],
    ] {
        assert_eq!(holm(&stub, bad).await.code, 2, "{bad:?}");
    }
}

#[tokio::test]
async fn several_keys_are_one_request() {
    let stub = Stub::start().await;
    let done = holm(&stub, &["set", "web/dev", "a=1", "b=2", "c=x"]).await;
    assert_eq!(done.out.lines().count(), 3);
    assert_eq!(stub.asked(), ["POST /config/web/dev"]);
    assert_eq!(holm(&stub, &["get", "web/dev"]).await.out, "a=1\nb=2\nc=\"x\"\n");
}

#[tokio::test]
async fn exit_codes_tell_what_kind_of_failure_it_was() {
    let stub = Stub::start().await;
    holm(&stub, &["set", "web/dev", "a", "1"]).await;
    let missing = holm(&stub, &["get", "web/dev", "none"]).await;
    assert_eq!(
        (missing.code, missing.err.as_str()),
        (3, "holm: NotFound: no such key (HTTP 404)\n")
    );
    assert_eq!(holm(&stub, &["rm", "web/dev", "none"]).await.code, 3);
    let stale = holm(&stub, &["set", "web/dev", "a", "2", "--expect-version", "7"]).await;
    assert_eq!(stale.code, 4, "{stale:?}");
    for (status, name, code, hint) in [
        (StatusCode::UNAUTHORIZED, "Unauthorized", 1, "--token-file"),
        (StatusCode::FORBIDDEN, "Forbidden", 1, "scope"),
        (StatusCode::BAD_REQUEST, "BadName", 2, "BadName"),
        (StatusCode::CONFLICT, "AmbiguousVersion", 4, "VERSION@ORIGIN"),
        (StatusCode::PRECONDITION_FAILED, "SessionNotReached", 4, "not yet seen"),
        (StatusCode::SERVICE_UNAVAILABLE, "Unavailable", 1, "in a moment"),
        (StatusCode::INSUFFICIENT_STORAGE, "DiskFull", 1, "disk is full"),
    ] {
        stub.node().next_answer = Some((status, format!("{{\"error\":\"{name}\"}}")));
        let done = holm(&stub, &["get", "web/dev", "a"]).await;
        assert_eq!(done.code, code, "{done:?}");
        assert!(done.err.contains(name) && done.err.contains(hint), "{done:?}");
    }
    let nowhere = holm(&stub, &["list", "--url", "http://127.0.0.1:1"]).await;
    assert_eq!(nowhere.code, 1);
    assert!(nowhere.err.contains("holm dev"), "{nowhere:?}");
}

#[tokio::test]
async fn what_was_written_at_the_same_time_is_told() {
    let stub = Stub::start().await;
    holm(&stub, &["set", "web/dev", "a", "1"]).await;
    let conflicts = r#""conflicts":[{"value":null,"version":2,"region":"us"},{"removed":true,"version":2,"region":"ap"}]"#;
    let told = "holm: us wrote null at the same time; the next write settles it\n\
                holm: ap removed it at the same time; the next write settles it\n";
    let item = format!(
        r#"{{"key":"a","value":1,"version":2,"service":"web","environment":"dev",{conflicts}}}"#
    );
    stub.node().next_answer = Some((StatusCode::OK, item));
    let done = holm(&stub, &["get", "web/dev", "a"]).await;
    assert_eq!((done.out.as_str(), done.err.as_str()), ("1\n", told));
    let gone = format!(r#"{{"error":"NotFound","detail":"gone",{conflicts}}}"#);
    stub.node().next_answer = Some((StatusCode::NOT_FOUND, gone));
    let done = holm(&stub, &["get", "web/dev", "a"]).await;
    assert_eq!((done.code, done.err), (3, format!("{told}holm: NotFound: gone (HTTP 404)\n")));
    let ambiguous = r#"{"error":"AmbiguousVersion","candidates":["2@0a","2@0b"]}"#;
    stub.node().next_answer = Some((StatusCode::CONFLICT, ambiguous.into()));
    let done = holm(&stub, &["restore", "web/dev", "a", "2"]).await;
    assert!(done.err.ends_with("name one as VERSION@ORIGIN: 2@0a, 2@0b\n"), "{done:?}");
    stub.node().next_answer = Some((
        StatusCode::ACCEPTED,
        r#"{"receipts":[{"region":"eu","has":true},{"region":"us","has":false}],"items":[]}"#
            .into(),
    ));
    let done = holm(&stub, &["set", "web/dev", "a", "1", "--ack", "all"]).await;
    assert_eq!(done.code, 0);
    assert!(done.err.ends_with("in: eu; on its way to: us\n"), "{done:?}");
}

#[tokio::test]
async fn an_import_replaces_only_what_it_showed() {
    let stub = Stub::start().await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("web.yml");
    std::fs::write(&file, "a: 1\nb: 2\n").unwrap();
    holm(&stub, &["set", "web/default", "a", "0"]).await;
    holm(&stub, &["import", file.to_str().unwrap()]).await;
    let body = stub.node().requests.last().map(|(.., body)| body.clone());
    assert_eq!(
        body.as_deref(),
        Some(
            r#"{"entries":[{"key":"a","value":1,"expect_version":1},{"key":"b","value":2,"expect_version":0}]}"#
        )
    );
}

#[tokio::test]
async fn removing_everything_asks_first() {
    let stub = Stub::start().await;
    holm(&stub, &["set", "web/dev", "a=1", "b=2"]).await;
    assert_eq!(holm(&stub, &["rm", "web/dev", "--all"]).await.code, 2);
    let no = Person { input: "n\n", present: true, watches: false, colour: false };
    assert_eq!(holm_with(&stub, &["rm", "web/dev", "--all"], no).await.code, 1);
    assert_eq!(holm(&stub, &["get", "web/dev"]).await.out.lines().count(), 2);
    let yes = Person { input: "y\n", present: true, watches: false, colour: false };
    let done = holm_with(&stub, &["rm", "web/dev", "--all"], yes).await;
    assert_eq!(done.out, "2 keys of web/dev removed\n");
    assert_eq!(holm(&stub, &["rm", "web/dev"]).await.code, 2);
}

#[tokio::test]
async fn history_diff_and_restore_tell_one_story() {
    let stub = Stub::start().await;
    for value in ["1", "null", "3"] {
        holm(&stub, &["set", "web/dev", "a", value]).await;
    }
    let history = holm(&stub, &["history", "web/dev", "a"]).await.out;
    let first: Vec<&str> = history.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(first, ["VERSION", "3*", "2", "1"]);
    assert_eq!(holm(&stub, &["diff", "web/dev", "a", "1", "2"]).await.out, "~ a = null (was 1)\n");
    assert_eq!(holm(&stub, &["diff", "web/dev", "a", "3"]).await.err, "holm: no differences\n");
    assert_eq!(holm(&stub, &["diff", "web/dev", "a", "9"]).await.code, 3);
    assert_eq!(holm(&stub, &["diff", "web/dev", "a"]).await.code, 2);
    let done = holm(&stub, &["restore", "web/dev", "a", "1"]).await;
    assert_eq!(done.out, "web/dev/a is as it was in version 1, now version 4\n");
    holm(&stub, &["set", "web/prod", "a=2", "b=2"]).await;
    let diff = holm(&stub, &["diff", "web/dev", "web/prod"]).await;
    assert_eq!(diff.out, "~ a = 2 (was 1)\n+ b = 2\n");
    let json = holm(&stub, &["diff", "web/prod", "web/dev", "--output", "json"]).await.out;
    assert!(json.contains(r#"{"change":"removed","key":"b","old":2}"#), "{json}");
}

#[tokio::test]
async fn a_history_with_holes_names_what_is_left_so_that_it_can_be_asked_for() {
    let stub = Stub::start().await;
    let shown = async |items: &str| {
        let answer = format!(r#"{{"items":[{items}],"next_cursor":null}}"#);
        stub.node().next_answer = Some((StatusCode::OK, answer));
        let done = holm(&stub, &["history", "web/dev", "a"]).await;
        let names = done.out.lines().skip(1).map(|line| line.split(' ').next().unwrap().to_owned());
        (names.collect::<Vec<_>>(), done.err)
    };
    let item = |version: u64, more: &str| format!(r#"{{"version":{version},"value":1{more}}}"#);
    let newest = item(9, r#","origin":"0a","current":true"#);
    let lone = item(2, r#","origin":"0b","others_gone":true"#);
    let whole = "holm: versions before 8 are not kept: `holm history policy show`\n";
    let holes = "holm: of versions before 8, not all are kept: `holm history policy show`\n";
    for (older, names, note) in [
        (vec![item(8, "")], vec!["9*", "8"], whole),
        (vec![item(8, ""), lone.clone()], vec!["9*", "8", "2@0b"], holes),
        (
            vec![item(8, ""), item(1, r#","origin":"0b","others_gone":true"#)],
            vec!["9*", "8", "1@0b"],
            holes,
        ),
    ] {
        let items = [vec![newest.clone()], older].concat().join(",");
        assert_eq!(
            shown(&items).await,
            (names.into_iter().map(str::to_owned).collect(), note.into())
        );
    }
    let two = [item(2, ""), item(1, r#","origin":"0a""#), item(1, r#","origin":"0b""#)].join(",");
    let names = ["2", "1@0a", "1@0b"].map(str::to_owned).to_vec();
    assert_eq!(shown(&two).await, (names, String::new()));
    let thinned = [item(2, ""), item(1, r#","origin":"0a","others_gone":true"#)].join(",");
    assert!(shown(&thinned).await.1.contains("of versions before 2, not all are kept"));
}

#[tokio::test]
async fn pruning_removes_only_what_the_files_environments_have() {
    let stub = Stub::start().await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("web.yml");
    std::fs::write(&file, "a: 1\nb: 2\n").unwrap();
    let file = file.to_str().unwrap();
    holm(&stub, &["set", "web/default", "a=0", "old=1"]).await;
    holm(&stub, &["set", "web/prod", "other=1"]).await;
    let kept = holm(&stub, &["import", file, "--dry-run"]).await;
    assert!(kept.out.starts_with("web/default: 1 added, 1 changed, 0 removed, 0 unchanged\n"));
    let unasked = holm(&stub, &["import", file, "--prune"]).await;
    assert_eq!(unasked.code, 2, "{unasked:?}");
    let no = Person { input: "\n", present: true, watches: false, colour: false };
    holm_with(&stub, &["import", file, "--prune"], no).await;
    assert_eq!(holm(&stub, &["get", "web/default"]).await.out, "a=0\nold=1\n");
    let done = holm(&stub, &["import", file, "--prune", "--yes"]).await;
    assert!(done.out.ends_with("2 keys written in 1 environment, 1 removed\n"), "{done:?}");
    assert_eq!(holm(&stub, &["get", "web/default"]).await.out, "a=1\nb=2\n");
    assert_eq!(holm(&stub, &["get", "web/prod"]).await.out, "other=1\n");
}

#[tokio::test]
async fn a_mistake_in_one_file_changes_nothing() {
    let stub = Stub::start().await;
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.yml"), "a: 1\n").unwrap();
    std::fs::write(dir.path().join("z.yml"), "a: 1\nb: [\n").unwrap();
    std::fs::write(dir.path().join("LICENSE"), "no configuration").unwrap();
    let done = holm(&stub, &["import", dir.path().to_str().unwrap()]).await;
    assert_eq!(done.code, 2, "{done:?}");
    assert!(done.err.contains("z.yml: line "), "{done:?}");
    assert!(stub.asked().is_empty());
    std::fs::write(dir.path().join("z.yml"), "").unwrap();
    std::fs::write(dir.path().join("a.json"), "{\"a\": 2}").unwrap();
    let done = holm(&stub, &["import", dir.path().to_str().unwrap()]).await;
    assert!(done.err.contains("a/default/a has another value in an earlier file"), "{done:?}");
}

#[tokio::test]
async fn export_names_what_a_format_cannot_hold() {
    let stub = Stub::start().await;
    holm(&stub, &["set", "web/default", "nil=null", "o={\"x\":1}", "p=1"]).await;
    holm(&stub, &["set", "web/prod", "p=2"]).await;
    let refused = holm(&stub, &["export", "web"]).await;
    assert_eq!((refused.code, refused.out.as_str()), (1, ""), "{refused:?}");
    assert!(refused.err.contains("web/default/o: an object"), "{refused:?}");
    let yaml = holm(&stub, &["export", "web", "--lossy"]).await;
    let expected =
        "nil: null\no:\n  x: 1\np: 1\n---\nspring.config.activate.on-profile: prod\np: 2\n";
    assert_eq!(yaml.out, expected);
    assert_eq!(holm(&stub, &["export", "web", "--format", "json", "--lossy"]).await.code, 2);
    let env = holm(&stub, &["export", "web/prod", "--format", "env", "--dir", "-"]).await;
    assert_eq!(env.out, "p=2\n", "{env:?}");
    assert_eq!(holm(&stub, &["export", "nobody"]).await.code, 3);
}

#[tokio::test]
async fn a_watch_prints_what_happens_a_line_each() {
    let stub = Stub::start().await;
    let put = "event: put\nid: s1\ndata: {\"key\":\"a\",\"value\":1,\"version\":2,\"service\":\"web\",\"environment\":\"dev\",\"updated_by\":\"ann\",\"region\":\"eu\"}\n\n";
    let ready = "event: ready\ndata: {}\n\n";
    stub.node().watches = [format!("{put}{ready}")].into();
    let done = holm(&stub, &["watch", "web/dev", "--once"]).await;
    assert_eq!(done.out, "a = 1  (version 2, ann in eu)\n");
    stub.node().watches = [format!("{put}{ready}")].into();
    let done = holm(&stub, &["watch", "web/dev", "--once", "--output", "json"]).await;
    let events: Vec<serde_json::Value> =
        done.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events[0]["item"]["value"], 1);
    assert_eq!(events[1]["event"], "ready");
}

#[tokio::test]
async fn chaos_and_status_speak_to_the_node() {
    let stub = Stub::start().await;
    let done = holm(&stub, &["chaos", "cut", "eu", "us", "--one-way"]).await;
    assert_eq!(done.out, "cut: eu → us\n");
    holm(&stub, &["chaos", "slow", "eu", "us", "--delay", "300ms"]).await;
    holm(&stub, &["chaos", "heal"]).await;
    let bodies: Vec<String> = stub.node().requests.iter().map(|(.., body)| body.clone()).collect();
    assert_eq!(
        bodies,
        [
            r#"{"action":"cut","from":"eu","to":"us","one_way":true}"#,
            r#"{"action":"slow","from":"eu","to":"us","delay_ms":300}"#,
            r#"{"action":"heal"}"#
        ]
    );
    assert_eq!(holm(&stub, &["chaos", "cut", "eu", "--one-way"]).await.code, 2);
    stub.node().next_answer = Some((StatusCode::NOT_FOUND, "{\"error\":\"NotFound\"}".into()));
    assert!(holm(&stub, &["chaos", "heal"]).await.err.contains("only a `holm dev` cluster"));
    let status = holm(&stub, &["status"]).await.out;
    assert_eq!(
        status,
        "cluster c1, as eu-1 in eu sees it (ready)\n\
         2 documents, 9 keys, 1 with conflicts; 0 changes wait, 0 records refused; 1.5 MB on disk\n\n\
         REGION  NODE  STATE      RTT      LAG               HEARD      HEARD BY\n\
         eu      eu-1  self       -        -                 -          us-1\n\
         us      us-1  connected  80.5 ms  7 changes, 1.5 s  12 ms ago\n"
    );
}

#[tokio::test]
async fn a_value_cannot_steer_the_terminal_of_who_reads_it() {
    let stub = Stub::start().await;
    holm(&stub, &["set", "web/dev", "a", "x\u{1b}[2Jy\u{1b}[31m\u{9b}1m"]).await;
    let person = Person { input: "", present: true, watches: false, colour: false };
    let seen = holm_with(&stub, &["get", "web/dev", "a"], person).await.out;
    assert!(!seen.contains(['\u{1b}', '\u{9b}']), "{seen:?}");
    let piped = holm(&stub, &["get", "web/dev", "a"]).await.out;
    assert!(piped.contains("\u{1b}[2J"), "a script gets the bytes as they are");
    for line in [&["list", "web/dev"][..], &["history", "web/dev", "a"], &["get", "web/dev"]] {
        let person = Person { input: "", present: true, watches: false, colour: false };
        let seen = holm_with(&stub, line, person).await.out;
        assert!(!seen.contains(['\u{1b}', '\u{9b}']), "{line:?} {seen:?}");
    }
}

#[tokio::test]
async fn a_person_sees_colours_and_a_pipe_does_not() {
    let stub = Stub::start().await;
    holm(&stub, &["set", "web/dev", "a", "\u{1b}[31m"]).await;
    let line = ["diff", "web/prod", "web/dev"];
    for (present, colour, seen) in [
        (true, true, "\u{1b}[32m+ a = \"\\u001b[31m\"\u{1b}[0m\n"),
        (true, false, "+ a = \"\\u001b[31m\"\n"),
        (false, true, "+ a = \"\\u001b[31m\"\n"),
    ] {
        let person = Person { input: "", present, watches: false, colour };
        assert_eq!(holm_with(&stub, &line, person).await.out, seen);
    }
}

struct Closed;

impl Write for Closed {
    fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
        Err(std::io::ErrorKind::BrokenPipe.into())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_reader_who_goes_away_ends_the_program_quietly() {
    let stub = Stub::start().await;
    holm(&stub, &["set", "web/dev", "a", "1"]).await;
    let cli = Cli::try_parse_from(["holm", "--url", &stub.url, "get", "web/dev", "a"]).unwrap();
    let mut err = Vec::new();
    let mut terminal = Terminal {
        out: &mut Closed,
        err: &mut err,
        input: &mut Cursor::new(""),
        out_is_terminal: false,
        err_is_terminal: false,
        input_is_terminal: false,
        colour: true,
    };
    assert_eq!(run_to_code(cli, &mut terminal).await, 0);
    assert!(err.is_empty());
}

#[test]
fn the_command_line_is_well_formed() {
    use clap::CommandFactory as _;
    Cli::command().debug_assert();
}

fn secret_info(version: u64) -> String {
    format!("{{\"id\":\"i\",\"name\":\"db\",\"version\":{version},\"algorithm\":\"aes-256-gcm\"}}")
}

#[tokio::test]
async fn a_secret_comes_from_a_pipe_or_a_file_and_is_never_said_again() {
    let stub = Stub::start().await;
    let piped = |input| Person { input, present: false, watches: false, colour: false };
    stub.node().next_answer = Some((StatusCode::CREATED, secret_info(1)));
    let line = ["secret", "put", "db", "--algorithm", "aes-256-gcm", "--expect-version", "0"];
    let done = holm_with(&stub, &line, piped("hunter2\n")).await;
    assert_eq!((done.code, done.out.as_str()), (0, "db is at version 1\n"), "{done:?}");
    let sent = stub.node().requests.pop().unwrap();
    assert_eq!(sent.0, "POST /secrets");
    let expected = concat!(
        r#"{"name":"db","value":"hunter2","#,
        r#""algorithm":"aes-256-gcm","expect_version":0}"#
    );
    assert_eq!(sent.2, expected);

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("value");
    std::fs::write(&file, "hunter2\n").unwrap();
    stub.node().next_answer = Some((StatusCode::OK, secret_info(2)));
    let line = ["secret", "put", "db", "--file", file.to_str().unwrap()];
    let done = holm(&stub, &line).await;
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(stub.node().requests.pop().unwrap().2, r#"{"name":"db","value":"hunter2\n"}"#);

    let long = "x".repeat(64 * 1024 + 1);
    std::fs::write(&file, &long).unwrap();
    assert_eq!(holm(&stub, &line).await.code, 2);
    std::fs::write(&file, b"\xff").unwrap();
    let done = holm(&stub, &line).await;
    assert!(done.code == 2 && done.err.contains("base64"), "{done:?}");
    let on_the_line = holm(&stub, &["secret", "put", "db", "hunter2"]).await;
    assert_eq!(on_the_line.code, 2, "a value is no argument");
    assert!(stub.asked().is_empty());
}

#[tokio::test]
async fn a_value_is_shown_alone_and_only_where_it_is_asked_for() {
    let stub = Stub::start().await;
    stub.node().next_answer =
        Some((StatusCode::OK, r#"{"name":"db","version":2,"value":"a\nb"}"#.to_owned()));
    let line = ["secret", "get", "db", "--reveal", "--version", "2"];
    assert_eq!(holm(&stub, &line).await.out, "a\nb");
    assert_eq!(stub.asked(), ["GET /secrets/db?reveal=true&version=2"]);
    stub.node().next_answer = Some((StatusCode::OK, secret_info(2)));
    let done = holm(&stub, &["secret", "get", "db", "--output", "json"]).await;
    assert!(done.code == 0 && done.out.contains("\"version\":2"), "{done:?}");
    assert_eq!(stub.asked(), ["GET /secrets/db?reveal=false"]);
    let done = holm(&stub, &["secret", "rm", "db"]).await;
    assert!(done.code == 2 && stub.asked().is_empty(), "{done:?}");
    stub.node().next_answer = Some((StatusCode::NO_CONTENT, String::new()));
    assert_eq!(holm(&stub, &["secret", "rm", "db", "--yes"]).await.out, "db is removed\n");
}

#[tokio::test]
async fn a_generated_key_is_the_owners_alone_and_nothing_is_overwritten() {
    use std::os::unix::fs::PermissionsExt as _;
    let stub = Stub::start().await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("master.key");
    let line = ["keys", "generate", "--out", path.to_str().unwrap()];
    let done = holm(&stub, &line).await;
    let key = std::fs::read_to_string(&path).unwrap();
    assert!(done.code == 0 && !done.out.contains(key.trim()), "{done:?}");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    crate::secrets::Keyring::new([(1, key.as_str())]).unwrap();
    assert_eq!(holm(&stub, &line).await.code, 1);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), key);
}

#[tokio::test]
async fn a_rotation_that_leaves_something_behind_is_a_failure_that_names_it() {
    let stub = Stub::start().await;
    let step = r#"{"to":2,"rewrapped":0,"left":0,"damaged":[]}"#;
    stub.node().next_answer = Some((StatusCode::OK, step.to_owned()));
    let done = holm(&stub, &["keys", "rotate"]).await;
    assert!(done.code == 0 && done.out.starts_with("generation 2 wraps everything"), "{done:?}");
    let step = r#"{"to":2,"rewrapped":0,"left":1,"damaged":[{"what":"db@1","why":"changed"}]}"#;
    stub.node().next_answer = Some((StatusCode::OK, step.to_owned()));
    let done = holm(&stub, &["keys", "rotate", "--to", "2"]).await;
    assert!(done.code == 1 && done.err.contains("db@1: changed"), "{done:?}");
}
