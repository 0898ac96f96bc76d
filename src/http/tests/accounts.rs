//! Accounts, credentials, roles and bindings.

use std::sync::atomic::Ordering;

use super::harness::{World, world};
use crate::access::credential;
use serde_json::json;

const MANAGER: &str = "access:read access:manage config:*";

async fn founded() -> World {
    world().await.found().await
}

#[tokio::test]
async fn an_account_is_made_with_a_secret_that_is_shown_once() {
    let world = founded().await;
    let ask = |method, path: &str| world.request(method, path).scope(MANAGER);
    let made = ask("POST", "/accounts").body(r#"{"name":"ci","roles":["developer"]}"#);
    let made = made.send().await.expect(201);
    assert_eq!((made.header("etag"), made.header("cache-control")), ("\"1\"", "no-store"));
    let account = made.json();
    assert_eq!(made.header("location"), format!("/accounts/{}", account["id"].as_str().unwrap()));
    assert_eq!((&account["client_id"], &account["enabled"]), (&json!("ci"), &json!(true)));
    assert_eq!(account["roles"], json!(["developer"]));
    let secret = account["client_secret"].as_str().unwrap();
    let state = world.app.quorum().state();
    let name = crate::model::AccountName::new("ci").unwrap();
    let kept = state.rules.account(&name).unwrap().credentials.values().next().unwrap().clone();
    assert!(credential::verify(secret, &kept.hash), "it is the one whose hash is kept");
    let seen = ask("GET", "/accounts/ci").send().await.expect(200);
    assert!(!seen.body.contains(secret) && !seen.body.contains("argon2"), "{seen:?}");
    assert_eq!(seen.json()["credentials"][0]["id"], account["credentials"][0]["id"]);
    let again = ask("POST", "/accounts").body(r#"{"name":"ci"}"#).send().await;
    again.expect_error(409, "AlreadyExists");
    for (body, error) in [
        (r#"{}"#, "BadField"),
        (r#"{"name":"a b"}"#, "BadName"),
        (r#"{"name":"x","rolse":[]}"#, "UnknownField"),
        (r#"{"name":"x","roles":"admin"}"#, "BadField"),
        (r#"{"name":"x","expires_at":"soon"}"#, "BadField"),
        (r#"{"name":"x","expires_at":"2001-01-01T00:00:00Z"}"#, "BadField"),
        (r#"{"name":"x","credential":false,"expires_at":"2101-01-01T00:00:00Z"}"#, "BadField"),
    ] {
        ask("POST", "/accounts").body(body).send().await.expect_error(400, error);
    }
    let unknown = ask("POST", "/accounts").body(r#"{"name":"x","roles":["nobody"]}"#).send().await;
    unknown.expect_error(404, "NotFound");
}

#[tokio::test]
async fn accounts_are_listed_in_pages_by_name() {
    let world = founded().await;
    for name in ["c", "a", "b"] {
        let body = json!({"name": name, "credential": false}).to_string();
        world.request("POST", "/accounts").scope(MANAGER).body(&body).send().await.expect(201);
    }
    let (mut names, mut path) = (Vec::new(), "/accounts?size=2".to_owned());
    loop {
        let page = world.request("GET", &path).scope(MANAGER).send().await.expect(200).json();
        let items = page["items"].as_array().unwrap().clone();
        names.extend(items.iter().map(|item| item["name"].as_str().unwrap().to_owned()));
        match page["next_cursor"].as_str() {
            Some(cursor) => path = format!("/accounts?size=2&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(names, ["a", "b", "c", "root"]);
}

#[tokio::test]
async fn an_account_is_changed_where_it_is_as_it_was_seen() {
    let world = founded().await;
    let ask = |method, path: &str| world.request(method, path).scope(MANAGER);
    ask("POST", "/accounts").body(r#"{"name":"ci","credential":false}"#).send().await.expect(201);
    let patch = |tag: &str, body: &str| {
        ask("PATCH", "/accounts/ci").header("if-match", tag).body(body).send()
    };
    let done = patch("\"1\"", r#"{"enabled":false,"roles":["operator"]}"#).await.expect(200);
    assert_eq!((done.header("etag"), &done.json()["enabled"]), ("\"2\"", &json!(false)));
    patch("\"1\"", r#"{"enabled":true}"#).await.expect_error(412, "PreconditionFailed");
    patch("\"2\"", "{}").await.expect_error(400, "BadField");
    let last = ask("PATCH", "/accounts/root").body(r#"{"enabled":false}"#).send().await;
    let problem = last.expect_error(409, "Conflict");
    assert_eq!(problem["detail"], "the cluster would be without an administrator");
    ask("DELETE", "/accounts/ci").header("if-match", "\"7\"").send().await.expect(412);
    ask("DELETE", "/accounts/ci").send().await.expect(204);
    ask("GET", "/accounts/ci").send().await.expect(404);
    ask("DELETE", "/accounts/ci").send().await.expect(404);
}

#[tokio::test]
async fn credentials_come_and_go() {
    let world = founded().await;
    let ask = |method, path: &str| world.request(method, path).scope(MANAGER);
    let made = ask("POST", "/accounts/root/credentials")
        .body(r#"{"expires_at":"2101-01-01T00:00:00Z"}"#)
        .send()
        .await
        .expect(201)
        .json();
    assert_eq!(made["expires_at"], "2101-01-01T00:00:00.000000Z");
    assert!(made["client_secret"].as_str().unwrap().starts_with("holm_"));
    let path = format!("/accounts/root/credentials/{}", made["id"].as_str().unwrap());
    ask("DELETE", &path).send().await.expect(204);
    ask("DELETE", &path).send().await.expect(404);
    ask("POST", "/accounts/nobody/credentials").body("{}").send().await.expect(404);
    for _ in 0..7 {
        ask("POST", "/accounts/root/credentials").body("{}").send().await.expect(201);
    }
    let more = ask("POST", "/accounts/root/credentials").body("{}").send().await;
    more.expect_error(422, "LimitReached");
}

#[tokio::test]
async fn a_role_is_made_changed_and_removed() {
    let world = founded().await;
    let ask = |method, path: &str| world.request(method, path).scope(MANAGER);
    let body = r#"{"name":"team","grants":["config:*:web/dev","secrets:read:dev-*"]}"#;
    let made = ask("POST", "/roles").body(body).send().await.expect(201);
    assert_eq!(made.json()["grants"], json!(["config:*:web/dev", "secrets:read:dev-*"]));
    let id = made.json()["id"].as_str().unwrap().to_owned();
    let by_id = ask("GET", &format!("/roles/{id}")).send().await.expect(200);
    assert_eq!(by_id.json(), made.json());
    let put = ask("PUT", "/roles/team").header("if-match", made.header("etag"));
    let put = put.body(r#"{"grants":["config:read"]}"#).send().await.expect(200).json();
    assert_eq!((&put["version"], &put["built_in"]), (&json!(2), &json!(false)));
    for body in [r#"{"grants":["config:reed"]}"#, r#"{"grants":"x"}"#, r#"{}"#] {
        ask("PUT", "/roles/team").body(body).send().await.expect_error(400, "BadField");
    }
    let built_in = ask("DELETE", "/roles/admin").send().await;
    built_in.expect_error(409, "Conflict");
    ask("DELETE", "/roles/team").send().await.expect(204);
    ask("GET", "/roles/team").send().await.expect_error(404, "NotFound");
}

#[tokio::test]
async fn a_configuration_that_is_bound_is_changed_by_its_roles_alone() {
    let world = founded().await;
    let ask = |method, path: &str| world.request(method, path).scope(MANAGER);
    world.put("/config/web/dev/a", "1").await.expect(201);
    ask("PUT", "/config/web/dev/a/roles/developer").send().await.expect(204);
    let bound = ask("GET", "/config/web/dev/a/roles").send().await.expect(200).json();
    assert_eq!(bound["items"][0]["name"], "developer");
    let refused = world.put("/config/web/dev/a", "2").await.expect_error(403, "Forbidden");
    let why = "the caller may not write web/dev/a: it is bound to roles that the caller has not";
    assert_eq!(refused["detail"], why);
    world.put("/config/web/dev/b", "2").await.expect(201);
    world.request("DELETE", "/config/web/dev").send().await.expect(403);
    world.get("/config/web/dev/a").await.expect(200);
    let explained = "/access/explain?account=root&action=config:write&resource=web/dev/a";
    let explained = ask("GET", explained).send().await.expect(200).json();
    assert_eq!(
        (&explained["allowed"], &explained["bound_to"]),
        (&json!(false), &json!(["developer"]))
    );
    ask("DELETE", "/config/web/dev/a/roles/developer").send().await.expect(204);
    ask("DELETE", "/config/web/dev/a/roles/developer").send().await.expect(404);
    world.put("/config/web/dev/a", "2").await.expect(200);
}

#[tokio::test]
async fn without_a_quorum_nothing_is_decided_and_a_local_copy_says_how_old_it_is() {
    let world = founded().await;
    world.alone.is_cut.store(true, Ordering::Relaxed);
    world.alone.contact_age_ms.store(1_500, Ordering::Relaxed);
    let ask = |method, path: &str| world.request(method, path).scope(MANAGER);
    let make = ask("POST", "/roles").body(r#"{"name":"team","grants":[]}"#).send().await;
    assert_eq!(make.header("retry-after"), "1");
    make.expect_error(503, "QuorumUnavailable");
    ask("GET", "/accounts").send().await.expect_error(503, "QuorumUnavailable");
    let local = ask("GET", "/accounts?consistency=local").send().await.expect(200);
    assert_eq!(local.header("holm-staleness-ms"), "1500");
    let bounded = "/accounts/root?consistency=local&max_staleness_ms=1000";
    ask("GET", bounded).send().await.expect_error(503, "TooStale");
    world.put("/config/web/dev/a", "1").await.expect(201);
}
