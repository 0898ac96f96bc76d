//! Claims about what `holm exec` refuses, and what it asks a node for until then.

use super::holm;
use crate::client::stub::Stub;

/// Where nothing is refused this program takes the place of the tests, and fails.
const NEVER: [&str; 2] = ["--", "/bin/false"];

async fn refused(stub: &Stub, line: &[&str]) -> (String, Vec<String>) {
    stub.asked();
    let start = ["exec", "--service", "web", "--env", "prod"];
    let done = holm(stub, &[&start[..], line, &NEVER].concat()).await;
    assert_eq!((done.code, done.out.as_str()), (125, ""), "{done:?}");
    (done.err, stub.asked())
}

#[tokio::test]
async fn what_cannot_be_given_is_refused_before_any_secret_is_asked_for() {
    let stub = Stub::start().await;
    holm(&stub, &["set", "web/prod", "db.url=1", "db-url=2", "path=3"]).await;
    let (why, asked) = refused(&stub, &["--secret", "pw", "--secret", "path"]).await;
    assert!(why.contains("web/prod/db-url and web/prod/db.url would both be DB_URL"), "{why}");
    assert!(why.contains("web/prod/path and the secret path would both be PATH"), "{why}");
    assert!(why.contains("--prefix"), "{why}");
    assert!(asked.iter().all(|line| !line.contains("secret")), "{asked:?}");
    let (why, _) = refused(&stub, &["--keys", "path"]).await;
    assert!(why.contains("PATH steers other programs"), "{why}");
    let (why, _) = refused(&stub, &["--keys", "none"]).await;
    assert!(why.contains("web/prod has no keys that begin with `none`"), "{why}");
}

#[tokio::test]
async fn a_reference_is_neither_filled_in_nor_passed_on_unasked() {
    let stub = Stub::start().await;
    holm(&stub, &["set", "web/prod", "a=1", r#"db={"pw": [{"$secret": "x"}]}"#]).await;
    let (why, asked) = refused(&stub, &[]).await;
    assert!(why.contains("web/prod/db refers to a secret") && why.contains("--secrets"), "{why}");
    assert!(asked.iter().all(|line| !line.contains("resolve")), "{asked:?}");
}

#[tokio::test]
async fn what_there_would_be_is_shown_without_a_value() {
    let stub = Stub::start().await;
    holm(&stub, &["set", "web/prod", "db.url=\"hidden\""]).await;
    let line = ["exec", "--service", "web", "--env", "prod", "--print", "--secret", "pw=PG"];
    let done = holm(&stub, &line).await;
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.out.contains("DB_URL") && done.out.contains("PG"), "{done:?}");
    assert!(!done.out.contains("hidden"), "{done:?}");
    let json = holm(&stub, &[&line[..], &["--output", "json"]].concat()).await;
    let expected = concat!(
        r#"{"items":[{"variable":"DB_URL","from":"web/prod/db.url"},"#,
        r#"{"variable":"PG","from":"the secret pw"}]}"#,
        "\n"
    );
    assert_eq!(json.out, expected);
    assert!(stub.asked().iter().all(|line| !line.contains("/secrets")));
}

#[tokio::test]
async fn a_command_line_that_makes_no_sense_is_a_matter_of_usage() {
    let stub = Stub::start().await;
    let start = ["exec", "--service", "web", "--env", "prod"];
    for line in [
        &[][..],
        &["true"],
        &["--stop-signal", "INT", "--", "true"],
        &["--restart-on-change", "--stop-signal", "STOP", "--", "true"],
        &["--prefix", "1X", "--", "true"],
        &["--secret", "x=a b", "--", "true"],
        &["--print", "--restart-on-change", "--", "true"],
    ] {
        assert_eq!(holm(&stub, &[&start[..], line].concat()).await.code, 2, "{line:?}");
    }
    assert!(stub.asked().is_empty());
}
