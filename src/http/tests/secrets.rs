//! Secrets over HTTP: who sees what, what is on the audit chain before it is answered, and where a
//! value never is.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::json;
use tracing::Level;

use super::harness::{World, world, world_with};
use super::logs::{record, recorded};
use crate::model::SecretName;
use crate::registry::State;
use crate::secrets::{SealedVersion, Secret};
use crate::settings::{SecretSettings, Settings};

const ADMIN: &str = "secrets:read secrets:write secrets:delete";
const DEVELOPER: &str = "secrets:read";
const OPERATOR: &str = "secrets:read secrets:reveal";

async fn post(world: &World, name: &str, value: &str) -> super::harness::Answer {
    world.ask(ADMIN, "POST /secrets", &json!({"name": name, "value": value}).to_string()).await
}

fn change(state: &mut State, name: &str, change: impl FnOnce(&mut Secret)) {
    let id = state.secret_ids[&SecretName::new(name).unwrap()];
    let mut secret = Secret::clone(&state.secrets[&id]);
    change(&mut secret);
    state.secrets.insert(id, Arc::new(secret));
}

fn change_version(state: &mut State, name: &str, of: u32, with: impl FnOnce(&mut SealedVersion)) {
    change(state, name, |secret| {
        let mut sealed = SealedVersion::clone(&secret.versions[&of]);
        with(&mut sealed);
        secret.versions.insert(of, Arc::new(sealed));
    });
}

#[tokio::test]
async fn an_admin_writes_a_developer_sees_columns_and_an_operator_the_value() {
    let world = world().await.found().await;
    let made = post(&world, "db", "hunter2").await.expect(201);
    assert_eq!(made.header("etag"), "\"1\"");
    let made = made.json();
    post(&world, "db", "hunter3").await.expect(200);
    let body = r#"{"name":"db","value":"hunter4","algorithm":"chacha20-poly1305"}"#;
    let third = world.ask(ADMIN, "POST /secrets", body).await.expect(200).json();
    let id = made["id"].as_str().unwrap();
    assert_eq!(third["id"], id);
    assert_eq!((&third["version"], &third["algorithm"]), (&json!(3), &json!("chacha20-poly1305")));
    assert_eq!(
        (&third["updated_by"], third["versions"].as_array().unwrap().len()),
        (&json!("ada"), 3)
    );
    assert!(third.get("value").is_none());

    for path in [format!("/secrets/{id}"), "/secrets/db".to_owned()] {
        for scope in [ADMIN, DEVELOPER] {
            let seen = world.ask(scope, &format!("GET {path}"), "").await.expect(200).json();
            assert!(seen.get("value").is_none() && seen["version"] == 3, "{seen}");
            let asked = world.ask(scope, &format!("GET {path}?reveal=true"), "").await;
            asked.expect_error(403, "Forbidden");
        }
        let seen = world.ask(OPERATOR, &format!("GET {path}"), "").await.expect(200);
        assert_eq!(seen.json()["value"], "hunter4");
        assert_eq!(seen.header("cache-control"), "no-store");
        let line = format!("GET {path}?version=1");
        let seen = world.ask(OPERATOR, &line, "").await.expect(200).json();
        assert_eq!((&seen["value"], &seen["version"]), (&json!("hunter2"), &json!(1)));
        let hidden = world.ask(OPERATOR, &format!("GET {path}?reveal=false"), "").await.expect(200);
        assert!(hidden.json().get("value").is_none());
        world.ask("config:*", &format!("GET {path}"), "").await.expect_error(403, "Forbidden");
        world.ask("secrets:read:other-*", &format!("GET {path}"), "").await.expect(403);
    }
    let seen = ["ada db@3: done", "ada db@1: done", "ada db@3: done", "ada db@1: done"];
    assert_eq!(world.audited("secret.reveal"), seen);
    let head = world.request("HEAD", "/secrets/db").scope(OPERATOR).send().await;
    head.expect(200);
    assert_eq!(world.audited("secret.reveal").len(), 4, "a head shows no value");

    world.ask(OPERATOR, "GET /secrets/db?version=9", "").await.expect_error(404, "NotFound");
    world.ask(DEVELOPER, "DELETE /secrets/db", "").await.expect(403);
    world.ask(ADMIN, "DELETE /secrets/db", "").await.expect(204);
    for line in ["GET /secrets/db", "DELETE /secrets/db"] {
        world.ask(ADMIN, line, "").await.expect_error(404, "NotFound");
    }
    world.ask("secrets:read:other", &format!("GET /secrets/{id}"), "").await.expect(404);
    world.ask("config:*", &format!("GET /secrets/{id}"), "").await.expect(403);
    let again = post(&world, "db", "hunter5").await.expect(201).json();
    assert!(again["id"] != id && again["version"] == 1, "{again}");
}

#[tokio::test]
async fn a_list_has_pages_of_what_the_caller_may_see_and_no_values() {
    let world = world().await.found().await;
    for name in ["a-1", "a-2", "a-3", "b-1"] {
        post(&world, name, "hunter2").await.expect(201);
    }
    let (mut names, mut path) = (Vec::new(), "/secrets?size=2".to_owned());
    loop {
        let page = world.ask("secrets:read:a-*", &format!("GET {path}"), "").await.expect(200);
        assert!(!page.body.contains("hunter2"));
        let page = page.json();
        let items = page["items"].as_array().unwrap();
        names.extend(items.iter().map(|item| item["name"].as_str().unwrap().to_owned()));
        match page["next_cursor"].as_str() {
            Some(cursor) => path = format!("/secrets?size=2&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(names, ["a-1", "a-2", "a-3"]);
    world.ask("config:*", "GET /secrets", "").await.expect_error(403, "Forbidden");
}

#[tokio::test]
async fn what_cannot_be_meant_is_refused_by_name() {
    let world = world().await.found().await;
    for (body, status, error) in [
        (r#"{"name":"a","value":"x","algorithm":"des"}"#, 422, "UnknownAlgorithm"),
        (r#"{"name":"a/b","value":"x"}"#, 400, "BadName"),
        (r#"{"name":"a"}"#, 400, "BadField"),
        (r#"{"name":"a","value":7}"#, 400, "BadField"),
        (r#"{"name":"a","value":"x","valeu":1}"#, 400, "UnknownField"),
        ("[]", 400, "BadJson"),
    ] {
        world.ask(ADMIN, "POST /secrets", body).await.expect_error(status, error);
    }
    let long = json!({"name": "a", "value": "x".repeat(64 * 1024 + 1)}).to_string();
    world.ask(ADMIN, "POST /secrets", &long).await.expect_error(413, "ValueTooLarge");
    let body = r#"{"name":"a","value":"x"}"#;
    world.ask("secrets:write:b", "POST /secrets", body).await.expect_error(403, "Forbidden");
    for line in ["GET /secrets/a?reveal=yes", "GET /secrets/a?version=0", "GET /secrets?size=0"] {
        world.ask(OPERATOR, line, "").await.expect_error(400, "BadQuery");
    }
}

#[tokio::test]
async fn preconditions_and_retries_hold() {
    let world = world().await.found().await;
    let put = |value: &str, more: &str| {
        let body = format!("{{\"name\":\"db\",\"value\":\"{value}\"{more}}}");
        world.request("POST", "/secrets").scope(ADMIN).body(&body)
    };
    put("1", ",\"expect_version\":1").send().await.expect_error(412, "PreconditionFailed");
    put("1", ",\"expect_version\":0").send().await.expect(201);
    put("1", ",\"expect_version\":0").send().await.expect(412);
    put("1", "").header("if-none-match", "*").send().await.expect(412);
    put("2", "").header("if-match", "\"1\"").send().await.expect(200);
    put("3", "").header("if-match", "\"1\"").send().await.expect(412);

    let first = put("4", "").header("idempotency-key", "k").send().await.expect(200).json();
    put("5", "").send().await.expect(200);
    let retried = put("4", "").header("idempotency-key", "k").send().await.expect(200);
    assert_eq!(retried.header("idempotency-replayed"), "true");
    assert_eq!((&first["version"], retried.header("etag")), (&json!(3), "\"3\""));
    let other = put("6", "").header("idempotency-key", "k").send().await;
    other.expect_error(422, "IdempotencyKeyReused");
    let seen = world.ask(OPERATOR, "GET /secrets/db", "").await.expect(200);
    assert_eq!(seen.json()["value"], "5");
    let get = world.request("GET", "/secrets/db").scope(OPERATOR).header("if-none-match", "\"4\"");
    let revealed = world.audited("secret.reveal").len();
    assert_eq!(get.send().await.expect(304).body, "");
    assert_eq!(world.audited("secret.reveal").len(), revealed);

    let remove = |key: &str| {
        let asking = world.request("DELETE", "/secrets/db").scope(ADMIN);
        asking.header("idempotency-key", key).header("if-match", "\"4\"")
    };
    let wrong = world.request("DELETE", "/secrets/db").scope(ADMIN).header("if-match", "\"1\"");
    wrong.send().await.expect(412);
    remove("r").send().await.expect(204);
    let retried = remove("r").send().await.expect(204);
    assert_eq!(retried.header("idempotency-replayed"), "true");
    remove("s").send().await.expect_error(404, "NotFound");
}

#[tokio::test]
async fn no_value_without_its_record_on_disk() {
    let world = world().await.found().await;
    post(&world, "db", "hunter2").await.expect(201);
    world.alone.is_full.store(true, Ordering::Relaxed);
    let refused = world.ask(OPERATOR, "GET /secrets/db", "").await;
    assert!(!refused.body.contains("hunter2"));
    refused.expect_error(503, "StorageFailed");
    world.ask(DEVELOPER, "GET /secrets/db", "").await.expect(200);
    world.alone.is_full.store(false, Ordering::Relaxed);
    world.ask(OPERATOR, "GET /secrets/db", "").await.expect(200);
}

#[tokio::test]
async fn without_a_quorum_writes_and_reads_are_refused_and_a_local_copy_is_read() {
    let world = world().await.found().await;
    post(&world, "db", "hunter2").await.expect(201);
    world.alone.is_cut.store(true, Ordering::Relaxed);
    post(&world, "db", "hunter3").await.expect_error(503, "QuorumUnavailable");
    for line in ["GET /secrets/db", "GET /secrets", "DELETE /secrets/db"] {
        let answer = world.ask("secrets:*", line, "").await;
        assert_eq!(answer.header("retry-after"), "1");
        answer.expect_error(503, "QuorumUnavailable");
    }
    let local = world.ask(OPERATOR, "GET /secrets/db?consistency=local", "").await.expect(200);
    assert_eq!(
        (local.header("holm-staleness-ms"), &local.json()["value"]),
        ("0", &json!("hunter2"))
    );
    world.ask(DEVELOPER, "GET /secrets?consistency=local", "").await.expect(200);
}

#[tokio::test]
async fn what_was_changed_or_moved_in_the_store_does_not_open_and_is_recorded() {
    let world = world().await.found().await;
    post(&world, "a", "hunter-a1").await.expect(201);
    post(&world, "a", "hunter-a2").await.expect(200);
    post(&world, "b", "hunter-b1").await.expect(201);
    let good = world.app.quorum().state();
    let of = |name: &str, version: u32| {
        let id = good.secret_ids[&SecretName::new(name).unwrap()];
        good.secrets[&id].versions[&version].clone()
    };
    let (a1, a2, b1) = (of("a", 1), of("a", 2), of("b", 1));
    type Change = Box<dyn FnOnce(&mut State)>;
    let changes: Vec<(&str, Change)> = vec![
        ("another version", {
            let a1 = a1.clone();
            Box::new(move |state| change_version(state, "a", 2, |it| *it = (*a1).clone()))
        }),
        ("another secret", {
            let b1 = b1.clone();
            Box::new(move |state| change_version(state, "a", 2, |it| *it = (*b1).clone()))
        }),
        ("another value under its key", {
            let b1 = b1.clone();
            Box::new(move |state| {
                change_version(state, "a", 2, |it| {
                    (it.ciphertext, it.nonce) = (b1.ciphertext.clone(), b1.nonce.clone());
                })
            })
        }),
        (
            "a flipped bit",
            Box::new(|state| {
                change_version(state, "a", 2, |it| it.ciphertext[3] ^= 1);
            }),
        ),
        (
            "another name",
            Box::new(|state| {
                change(state, "b", |secret| secret.name = SecretName::new("a").unwrap());
                let b = state.secret_ids[&SecretName::new("b").unwrap()];
                state.secret_ids.insert(SecretName::new("a").unwrap(), b);
            }),
        ),
    ];
    let count = changes.len();
    for (what, change) in changes {
        world.alone.tamper(change);
        let answer = world.ask(OPERATOR, "GET /secrets/a", "").await;
        assert!(!answer.body.contains("hunter"), "{what}: {answer:?}");
        answer.expect_error(500, "SecretDamaged");
        world.alone.tamper(|state| *state = (*good).clone());
    }
    let audited = world.audited("secret.reveal");
    assert_eq!(audited.len(), count);
    assert!(audited.iter().all(|line| line.contains("failed: ")), "{audited:?}");
    assert_ne!(a2, a1);
    let seen = world.ask(OPERATOR, "GET /secrets/a", "").await.expect(200);
    assert_eq!(seen.json()["value"], "hunter-a2");
}

#[tokio::test]
async fn with_a_wrong_or_missing_master_key_nothing_is_opened_or_overwritten() {
    let right = world().await.found().await;
    post(&right, "db", "hunter2").await.expect(201);
    let state = right.app.quorum().state();
    for keys in [vec![(1, [9; 32])], vec![(2, [2; 32])]] {
        let settings = Settings { secrets: SecretSettings::given(keys), ..Settings::default() };
        let wrong = world_with(settings).await;
        wrong.alone.tamper(|copy| *copy = (*state).clone());
        wrong.ask(OPERATOR, "GET /secrets/db", "").await.expect_error(503, "KeyUnavailable");
        post(&wrong, "db", "hunter3").await.expect_error(503, "KeyUnavailable");
        wrong.ask(DEVELOPER, "GET /secrets/db", "").await.expect(200);
        assert_eq!(wrong.app.quorum().state().index, state.index);
    }
}

/// The canary and the shapes it could hide in.
fn shapes(canary: &str) -> Vec<String> {
    use base64::Engine as _;
    let hex = canary.bytes().map(|byte| format!("{byte:02x}")).collect();
    let list: Vec<String> = canary.bytes().map(|byte| byte.to_string()).collect();
    let base64 = base64::engine::general_purpose::STANDARD.encode(canary);
    vec![canary.to_owned(), hex, list.join(", "), base64]
}

#[tokio::test]
async fn a_canary_is_nowhere_but_in_the_answer_to_who_may_see_it() {
    const CANARY: &str = "canary-7Kq2Zp9X-never-to-be-seen";
    record(Level::TRACE);
    let world = world().await.found().await;
    let mut seen: Vec<String> = Vec::new();
    let body = json!({"name": "db", "value": CANARY}).to_string();
    for line in ["POST /secrets", "POST /secrets"] {
        seen.push(format!("{:?}", world.ask(ADMIN, line, &body).await));
    }
    let bad = [
        format!("{{\"name\":\"db\",\"value\":\"{CANARY}\",\"algorithm\":\"{CANARY}\"}}"),
        format!("{{\"name\":\"db\",\"value\":[\"{CANARY}\"]}}"),
        format!("{{\"name\":\"db\",\"value\":\"{CANARY}"),
        format!("\"{CANARY}\""),
    ];
    for body in &bad {
        seen.push(format!("{:?}", world.ask(ADMIN, "POST /secrets", body).await));
    }
    let key = world.request("POST", "/secrets").scope(ADMIN).body(&body);
    seen.push(format!("{:?}", key.header("idempotency-key", "k").send().await));
    world.put("/config/web/dev/a", r#"{"$secret":"db"}"#).await.expect(201);
    for line in ["GET /secrets/db", "GET /secrets", "GET /config/web/dev/a", "GET /metrics"] {
        let scope = format!("{DEVELOPER} config:* cluster:read");
        seen.push(format!("{:?}", world.ask(&scope, line, "").await));
    }
    let permitted = world.ask(OPERATOR, "GET /secrets/db", "").await.expect(200);
    assert_eq!(permitted.json()["value"], CANARY);
    let scope = format!("{OPERATOR} config:*");
    let resolved = world.ask(&scope, "GET /config/web/dev/a?resolve=secrets", "").await;
    assert_eq!(resolved.expect(200).json()["value"], CANARY);
    world.alone.tamper(|state| change_version(state, "db", 3, |it| it.ciphertext[0] ^= 1));
    seen.push(format!("{:?}", world.ask(OPERATOR, "GET /secrets/db", "").await));

    seen.push(recorded());
    seen.push(format!("{:?}", world.app.quorum().state()));
    seen.push(format!("{:?}", world.alone.events.lock().unwrap()));
    seen.push(format!("{:?}", world.app.settings()));
    let rows: Vec<_> = world.app.quorum().state().rows().collect();
    seen.push(format!("{rows:?}"));
    assert!(seen.iter().all(|text| !text.is_empty()));
    for shape in shapes(CANARY) {
        for text in &seen {
            assert!(!text.contains(&shape), "{shape} in {text}");
        }
        assert_eq!(world.disk.files_with(shape.as_bytes()), Vec::<String>::new());
    }
    assert!(!world.disk.files_with(b"$secret").is_empty(), "the scanner finds what is there");
}
