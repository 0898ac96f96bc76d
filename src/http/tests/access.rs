//! Who may.

use super::harness::{NOW_S, World, claims, world, world_with};
use crate::access::MintKey;
use crate::settings::Settings;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims("config:*");
    claims[name] = value;
    claims
}

/// The key's `HS256` signature with its public half as the secret, as forgers have tried.
fn hs256(public_pem: &str) -> String {
    let parts = [json!({"alg": "HS256"}), claims("config:*")];
    let message = parts.map(|part| URL_SAFE_NO_PAD.encode(part.to_string())).join(".");
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, public_pem.as_bytes());
    let signature = ring::hmac::sign(&key, message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

async fn bad_tokens(world: &World) -> Vec<(&'static str, Option<String>)> {
    let sign = |claims: Value| Some(world.mint.sign(&claims).unwrap());
    let good = world.token("config:*");
    let (message, _) = good.rsplit_once('.').unwrap();
    let none = [json!({"alg": "none"}), claims("config:*")];
    let none = none.map(|part| URL_SAFE_NO_PAD.encode(part.to_string())).join(".");
    let stranger = MintKey::from_seed(&[9; 32]).unwrap();
    vec![
        ("no token", None),
        ("no JWT", Some("abc".to_owned())),
        ("expired", sign(with("exp", json!(NOW_S - 31)))),
        ("without an end", sign(with("exp", Value::Null))),
        ("of another audience", sign(with("aud", json!("other")))),
        ("not valid yet", sign(with("nbf", json!(NOW_S + 60)))),
        ("unsigned", Some(format!("{message}."))),
        ("with alg none", Some(format!("{none}."))),
        ("with HS256 and the public key", Some(hs256(&world.mint.public_pem()))),
        ("of a stranger", Some(stranger.sign(&claims("config:*")).unwrap())),
        ("too long", sign(with("x", json!("y".repeat(9000))))),
    ]
}

#[tokio::test]
async fn without_a_good_token_every_door_is_closed_and_says_no_more() {
    let world = world().await;
    for (what, token) in bad_tokens(&world).await {
        let answer = world.request("GET", "/config").token(token.as_deref()).send().await;
        assert_eq!(answer.status, 401, "{what}: {answer:?}");
        assert_eq!(answer.body, r#"{"error":"Unauthorized"}"#, "{what}");
        assert_eq!(answer.header("www-authenticate"), "Bearer realm=\"holm\"");
    }
    for (method, path) in [
        ("GET", "/config"),
        ("GET", "/config/web/dev"),
        ("WATCH", "/config/web/dev"),
        ("POST", "/config/web/dev"),
        ("DELETE", "/config/web/dev"),
        ("GET", "/config/web/dev/a"),
        ("HEAD", "/config/web/dev/a"),
        ("PUT", "/config/web/dev/a"),
        ("PATCH", "/config/web/dev/a"),
        ("DELETE", "/config/web/dev/a"),
        ("GET", "/config/web/dev/a/versions"),
        ("GET", "/config/web/dev/a/versions/1"),
        ("POST", "/config/web/dev/a/restore"),
        ("GET", "/cluster"),
        ("GET", "/cluster/receipts?session="),
        ("GET", "/cluster/certificates"),
    ] {
        world.request(method, path).token(None).send().await.expect(401);
    }
    let two = world.request("GET", "/config").header("authorization", "Bearer x");
    two.send().await.expect(401);
    for open in ["/healthz", "/readyz", "/metrics"] {
        world.request("GET", open).token(None).send().await.expect(200);
    }
}

#[tokio::test]
async fn metrics_can_be_kept_to_those_who_may_see_the_cluster() {
    let mut settings = Settings::default();
    settings.http.metrics_public = false;
    let world = world_with(settings).await;
    let get = |scope: &str| world.request("GET", "/metrics").scope(scope).send();
    world.request("GET", "/metrics").token(None).send().await.expect(401);
    get("config:*").await.expect_error(403, "Forbidden");
    get("cluster:read").await.expect(200);
}

#[tokio::test]
async fn each_operation_asks_for_its_own_grant() {
    let world = world().await;
    world.put("/config/web/dev/a", "1").await.expect(201);
    let all = "config:read:web/prod config:write:web/prod config:read:api/dev config:write:api/*";
    for (method, path, body, scope) in [
        ("GET", "/config/web/dev", "", "config:write:web/dev"),
        ("WATCH", "/config/web/dev", "", "config:write:web/dev"),
        ("GET", "/config/web/dev/a", "", "config:read:web/dev/b*"),
        ("GET", "/config/web/dev/a", "", "config:write:web/dev"),
        ("GET", "/config/web/dev/a/versions", "", "config:write"),
        ("GET", "/config/web/dev/a/versions/1", "", "config:write"),
        ("PUT", "/config/web/dev/a", "2", "config:read"),
        ("PATCH", "/config/web/dev/a", "{}", "config:read"),
        ("DELETE", "/config/web/dev/a", "", "config:read"),
        ("DELETE", "/config/web/dev", "", "config:write:web/dev/a"),
        ("POST", "/config/web/dev", r#"{"key":"a","value":2}"#, "config:read"),
        ("POST", "/config/web/dev/a/restore", r#"{"version":1}"#, "config:write"),
        ("POST", "/config/web/dev/a/restore", r#"{"version":1}"#, "config:read"),
        ("GET", "/cluster", "", "config:*"),
    ] {
        for scope in [scope, all] {
            let asked = world.request(method, path).scope(scope).body(body);
            asked.send().await.expect_error(403, "Forbidden");
        }
    }
    let item = world.get("/config/web/dev/a").await.expect(200).json();
    assert_eq!((&item["value"], &item["version"]), (&json!(1), &json!(1)));
}

#[tokio::test]
async fn one_key_that_may_not_be_written_changes_nothing() {
    let world = world().await;
    let scope = "config:*:web/dev/feature.*";
    let post = |body: &str| world.request("POST", "/config/web/dev").scope(scope).body(body).send();
    let denied = post(r#"{"entries":{"feature.a":1,"other":1}}"#).await;
    let denied = denied.expect_error(403, "Forbidden");
    assert_eq!(denied["detail"], "the caller may not write web/dev/other");
    world.get("/config/web/dev/feature.a").await.expect(404);
    post(r#"{"entries":{"feature.a":1,"feature.b":1}}"#).await.expect(201);
}

#[tokio::test]
async fn a_roles_claim_stands_for_its_scopes() {
    let world = world().await.found().await;
    let mut claims = claims("");
    claims["roles"] = json!(["developer"]);
    let token = world.mint.sign(&claims).unwrap();
    let put = |path: &str| world.request("PUT", path).token(Some(&token)).body("1").send();
    put("/config/web/dev/a").await.expect(201);
    put("/config/web/prod/a").await.expect(403);
    world.request("GET", "/config/web/prod").token(Some(&token)).send().await.expect(200);
}

#[tokio::test]
async fn a_token_ends_while_its_client_goes_on() {
    let world = world().await;
    let token = world.token("config:*");
    let get = || world.request("GET", "/config").token(Some(&token)).send();
    get().await.expect(200);
    world.clock.advance(std::time::Duration::from_secs(89));
    get().await.expect(200);
    world.clock.advance(std::time::Duration::from_secs(1));
    get().await.expect(401);
}
