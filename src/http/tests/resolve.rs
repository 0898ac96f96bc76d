//! Configurations that refer to secrets.

use std::sync::atomic::Ordering;

use serde_json::json;

use super::harness::{World, world};

const READ: &str = "config:read";
const RESOLVE: &str = "config:read secrets:reveal:db-*";

async fn referring() -> World {
    let world = world().await.found().await;
    for (name, value) in [("db-a", "pw\"a"), ("db-b", "pwb"), ("other", "hidden")] {
        let body = json!({"name": name, "value": value}).to_string();
        world.ask("secrets:*", "POST /secrets", &body).await.expect(201);
    }
    let url = r#"{"url":"x","auth":[{"$secret":"db-a"},{"$secret":"db-b"}],"n":1.00}"#;
    world.put("/config/web/dev/db", url).await.expect(201);
    world.put("/config/web/dev/again", r#"{"$secret":"db-a"}"#).await.expect(201);
    world.put("/config/web/dev/plain", "7").await.expect(201);
    world
}

#[tokio::test]
async fn references_are_stored_as_such_and_filled_in_for_who_may_reveal_them() {
    let world = referring().await;
    let plain = world.ask(RESOLVE, "GET /config/web/dev/again", "").await.expect(200);
    assert_eq!(plain.json()["value"], json!({"$secret": "db-a"}));
    let line = "GET /config/web/dev/db?resolve=secrets";
    let resolved = world.ask(RESOLVE, line, "").await.expect(200);
    assert!(resolved.body.contains(r#""value":{"url":"x","auth":["pw\"a","pwb"],"n":1.00}"#));
    assert_eq!(resolved.header("cache-control"), "no-store");
    assert!(resolved.headers.get("etag").is_none());
    assert!(!resolved.header("holm-session").is_empty());
    assert_eq!(world.audited("secret.reveal"), ["ada db-a@1: done", "ada db-b@1: done"]);

    let line = "GET /config/web/dev?resolve=secrets&size=2";
    let page = world.ask(RESOLVE, line, "").await.expect(200);
    assert!(page.header("link").contains("resolve=secrets"));
    let page = page.json();
    assert_eq!(page["items"][0]["value"], "pw\"a");
    assert_eq!(page["items"][1]["value"]["auth"], json!(["pw\"a", "pwb"]));
    assert!(page["next_cursor"].is_string());
    assert_eq!(world.audited("secret.reveal").len(), 4, "each secret once an answer");
}

#[tokio::test]
async fn without_the_right_the_secret_or_a_quorum_nothing_is_filled_in() {
    let world = referring().await;
    let line = "GET /config/web/dev/again?resolve=secrets";
    world.ask(READ, line, "").await.expect_error(403, "Forbidden");
    world.put("/config/web/dev/not-mine", r#"[{"$secret":"other"}]"#).await.expect(201);
    let denied = world.ask(RESOLVE, "GET /config/web/dev/not-mine?resolve=secrets", "").await;
    denied.expect_error(403, "Forbidden");
    world.put("/config/web/dev/none", r#"{"$secret":"db-none"}"#).await.expect(201);
    let unknown = world.ask(RESOLVE, "GET /config/web/dev/none?resolve=secrets", "").await;
    assert_eq!(unknown.expect_error(422, "UnknownSecret")["secret"], "db-none");
    let list = world.ask(RESOLVE, "GET /config/web/dev?resolve=secrets", "").await;
    assert!(!list.body.contains("pwb"), "all or nothing: {list:?}");
    for bad in ["resolve=all", "consistency=local", "resolve=secrets&consistency=x"] {
        let line = format!("GET /config/web/dev/plain?{bad}");
        world.ask(RESOLVE, &line, "").await.expect_error(400, "BadQuery");
    }

    world.alone.is_cut.store(true, Ordering::Relaxed);
    world.ask(RESOLVE, line, "").await.expect_error(503, "QuorumUnavailable");
    let local = world.ask(RESOLVE, &format!("{line}&consistency=local"), "").await.expect(200);
    assert_eq!(
        (local.json()["value"].as_str(), local.header("holm-staleness-ms")),
        (Some("pw\"a"), "0")
    );
    world.ask(RESOLVE, "GET /config/web/dev/again", "").await.expect(200);
}
