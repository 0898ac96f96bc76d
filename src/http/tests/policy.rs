//! The rules that configurations are decided by: how old they may be, and a grant that was just
//! made.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::harness::{claims, world, world_with};
use crate::model::{Id, Session};
use crate::registry::Command;
use crate::registry::fixture::{admin, name};
use crate::settings::Settings;
use serde_json::json;

#[tokio::test]
async fn an_answer_says_how_old_the_rules_may_be() {
    let world = world().await;
    world.alone.contact_age_ms.store(70, Ordering::Relaxed);
    let put = world.put("/config/web/dev/a", "1").await.expect(201);
    assert_eq!(put.header("holm-policy-age-ms"), "70");
    let denied = world.request("GET", "/config/web/dev/a").scope("config:write").send().await;
    assert_eq!(denied.expect(403).header("holm-policy-age-ms"), "70");
    let cluster = world.get("/cluster").await.expect(200);
    assert!(!cluster.headers.contains_key("holm-policy-age-ms"));
}

#[tokio::test]
async fn writes_stop_past_the_age_that_is_set_and_reads_go_on() {
    let mut settings = Settings::default();
    settings.access.max_policy_age = Some(Duration::from_secs(60));
    let world = world_with(settings).await;
    world.put("/config/web/dev/a", "1").await.expect(201);
    world.alone.contact_age_ms.store(60_001, Ordering::Relaxed);
    for (method, body) in [("PUT", "2"), ("PATCH", "{}"), ("DELETE", "")] {
        let asked = world.request(method, "/config/web/dev/a").body(body).send().await;
        asked.expect_error(503, "PolicyTooOld");
    }
    world.request("PUT", "/config/web/dev/a").token(None).body("2").send().await.expect(401);
    world.get("/config/web/dev/a").await.expect(200);
    world.alone.contact_age_ms.store(60_000, Ordering::Relaxed);
    world.put("/config/web/dev/a", "2").await.expect(200);
}

#[tokio::test]
async fn a_grant_that_was_just_made_is_in_force_wherever_its_session_is_shown() {
    let world = world().await.found().await;
    let mut claims = claims("");
    claims["roles"] = json!(["team"]);
    let token = world.mint.sign(&claims).unwrap();
    let applied = world.app.state().index;
    let session = Session { quorum: Some(applied + 1), ..Session::default() }.encode();
    let put = || {
        let asked = world.request("PUT", "/config/web/dev/a").token(Some(&token)).body("1");
        asked.header("holm-session", &session)
    };
    // Where it does not come, it is not known what the answer would be.
    let early = put().header("holm-wait", "1ms").send().await;
    early.expect_error(412, "SessionNotReached");
    let create = Command::CreateRole {
        id: Id::from_u128(70),
        name: name("team"),
        grants: vec![crate::access::Grant::parse("config:write:web/dev").unwrap()],
    };
    let later = async {
        tokio::task::yield_now().await;
        world.decide(Some(admin()), create).await.unwrap();
    };
    let (answer, ()) = tokio::join!(put().header("holm-wait", "20s").send(), later);
    answer.expect(201);
    // Whoever is denied by what the session has seen is denied at once.
    let other = world.request("PUT", "/config/web/prod/a").token(Some(&token)).body("1");
    other.header("holm-session", &session).header("holm-wait", "20s").send().await.expect(403);
}

#[tokio::test]
async fn a_caller_that_is_allowed_waits_for_no_rules() {
    let world = world().await;
    let session = Session { quorum: Some(999), ..Session::default() }.encode();
    let put = world.request("PUT", "/config/web/dev/a").body("1");
    let put = put.header("holm-session", &session).header("holm-wait", "20s");
    put.send().await.expect(201);
}
