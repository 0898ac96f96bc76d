//! `holm account`, `holm role`, `holm access`.

use axum::http::StatusCode;
use serde_json::json;

use super::{Done, holm};
use crate::client::stub::Stub;

async fn answered(stub: &Stub, status: u16, body: &serde_json::Value, line: &[&str]) -> Done {
    let status = StatusCode::from_u16(status).unwrap();
    stub.node().next_answer = Some((status, body.to_string()));
    holm(stub, line).await
}

fn last(stub: &Stub) -> (String, String) {
    let node = stub.node();
    let (line, _, body) = node.requests.last().unwrap();
    (line.clone(), body.clone())
}

#[tokio::test]
async fn a_new_accounts_secret_is_printed_once() {
    let stub = Stub::start().await;
    let account = json!({"id": "7d0f", "name": "ci", "enabled": true, "roles": ["developer"],
        "credentials": [{"id": "c1", "created_at": "now", "expires_at": null}],
        "client_id": "ci", "client_secret": "holm_x", "version": 1});
    let line = ["account", "create", "ci", "--role", "developer"];
    let done = answered(&stub, 201, &account, &line).await;
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.out.contains("client secret  holm_x\n"), "{done:?}");
    assert!(done.err.contains("not shown again"), "{done:?}");
    let (asked, body) = last(&stub);
    assert!(asked.starts_with("POST /accounts"), "{asked}");
    assert_eq!(body, r#"{"credential":true,"name":"ci","roles":["developer"]}"#);
    let line = ["account", "create", "ci", "--output", "json"];
    let done = answered(&stub, 201, &account, &line).await;
    let shown: serde_json::Value = serde_json::from_str(&done.out).unwrap();
    assert_eq!(shown, account, "a program is told all that the node says");
    let done = answered(&stub, 200, &account, &["account", "disable", "ci"]).await;
    assert_eq!((done.code, last(&stub).1.as_str()), (0, r#"{"enabled":false}"#));
}

#[tokio::test]
async fn a_binding_is_made_and_taken_back_by_its_names() {
    let stub = Stub::start().await;
    for (word, method) in [("bind", "PUT"), ("unbind", "DELETE")] {
        let line = ["role", word, "web/dev", "a", "team"];
        let done = answered(&stub, 200, &json!({}), &line).await;
        assert_eq!(done.code, 0, "{done:?}");
        let asked = last(&stub).0;
        assert!(asked.starts_with(&format!("{method} /config/web/dev/a/roles/team")), "{asked}");
    }
    let done = holm(&stub, &["role", "bind", "web", "a", "team"]).await;
    assert_eq!(done.code, 2, "{done:?}");
}

#[tokio::test]
async fn an_explanation_is_told_by_words_and_exit_code() {
    let stub = Stub::start().await;
    let line = ["access", "explain", "ci", "config:write", "web/dev/a"];
    let yes = json!({"allowed": true, "why": "the role team grants config:*"});
    let done = answered(&stub, 200, &yes, &line).await;
    assert_eq!((done.code, done.out.as_str()), (0, "yes: the role team grants config:*\n"));
    let no = json!({"allowed": false, "why": "the caller may not write web/dev/a"});
    let done = answered(&stub, 200, &no, &line).await;
    assert_eq!((done.code, done.out.as_str()), (1, "no: the caller may not write web/dev/a\n"));
}
