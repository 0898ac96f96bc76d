//! Sessions, acknowledgements, and the state of the cluster.

use super::harness::{cut_pair, island, world};
use crate::config::record::testing::write_of_k;
use crate::config::roll::Roll;
use crate::model::vector::Fold;
use crate::model::{DocumentId, Dot, Origin, Session, Stamp, Told};
use crate::topology::Address;
use serde_json::json;
use std::time::Duration;

fn foreign() -> String {
    let vector: Told = [Dot { origin: Origin([9; 8]), n: 7 }].into_iter().collect();
    Session::of(vector).encode()
}

#[tokio::test]
async fn an_answer_carries_the_session_that_it_was_made_from() {
    let world = world().await;
    let written = world.put("/config/web/dev/a", "1").await.expect(201);
    let session = written.header("holm-session").to_owned();
    for path in ["/config", "/config/web/dev", "/config/web/dev/a", "/config/web/dev/a/versions"] {
        let answer = world.request("GET", path).header("holm-session", &session).send().await;
        assert_eq!(answer.expect(200).header("holm-session"), session, "{path}");
    }
    let old = session;
    let later = world.put("/config/web/dev/a", "2").await;
    assert_ne!(later.header("holm-session"), old);
    let read = world.request("GET", "/config/web/dev/a").header("holm-session", &old).send().await;
    assert_eq!(read.expect(200).header("holm-session"), later.header("holm-session"));
}

#[tokio::test(start_paused = true)]
async fn a_session_from_elsewhere_is_waited_for_as_long_as_was_asked() {
    let world = world().await;
    world.put("/config/web/dev/a", "1").await.expect(201);
    let get = || world.request("GET", "/config/web/dev/a").header("holm-session", &foreign());
    for (wait, at_least) in [(None, 1_000), (Some("250ms"), 250), (Some("0s"), 0)] {
        let started = tokio::time::Instant::now();
        let asked = match wait {
            Some(wait) => get().header("holm-wait", wait),
            None => get(),
        };
        asked.send().await.expect_error(412, "SessionNotReached");
        let waited = u64::try_from(started.elapsed().as_millis()).unwrap();
        assert!((at_least..at_least + 200).contains(&waited), "{wait:?}: {waited} ms");
    }
    let put = world.request("PUT", "/config/web/dev/a").header("holm-session", &foreign());
    put.header("holm-wait", "0s").body("2").send().await.expect_error(412, "SessionNotReached");
    let anyway = get().header("holm-wait", "0s").header("holm-inconsistent", "serve").send().await;
    assert_eq!(anyway.header("holm-inconsistent"), "true");
    let session = Session::decode(anyway.header("holm-session")).unwrap().config;
    let session = session.read(&Default::default());
    assert!(session.covers_told(&Session::decode(&foreign()).unwrap().config), "never goes back");
    assert!(session.covers(&world.app.node().snapshot().vector));
    assert_eq!(anyway.expect(200).json()["value"], 1);
    let put = world.request("PUT", "/config/web/dev/a").header("holm-session", &foreign());
    let put = put.header("holm-wait", "0s").header("holm-inconsistent", "serve").body("3");
    assert_eq!(put.send().await.expect(200).header("holm-inconsistent"), "true");
    get().header("holm-inconsistent", "please").send().await.expect_error(400, "BadHeader");
}

#[tokio::test]
async fn malformed_sessions_are_refused() {
    let world = world().await;
    let long = "A".repeat(17_000);
    for bad in ["", "?", "AA", "AqEA", "AaEAoUgHBwcHBwcH", &long] {
        let asked = world.request("GET", "/config/web/dev/a").header("holm-session", bad);
        asked.send().await.expect_error(400, "BadSession");
        let path = format!("/cluster/receipts?session={bad}");
        assert_eq!(world.get(&path).await.status, 400, "{bad}");
    }
    let twice = world.request("GET", "/config").header("holm-session", "AaEA");
    twice.header("holm-session", "AaEA").send().await.expect_error(400, "BadHeader");
}

#[tokio::test]
async fn a_session_of_another_region_is_answered_once_its_writes_are_here() {
    let (a, b, links) = cut_pair().await;
    let written = a.put("/config/web/dev/k", "1").await.expect(201);
    let session = written.header("holm-session");
    let get = |wait: &'static str| {
        let asked = b.request("GET", "/config/web/dev/k").header("holm-session", session);
        asked.header("holm-wait", wait).send()
    };
    get("10ms").await.expect_error(412, "SessionNotReached");
    let (answer, ()) = tokio::join!(get("30s"), async {
        tokio::time::sleep(Duration::from_millis(10)).await;
        links.heal_all();
    });
    assert_eq!(answer.expect(200).json()["value"], 1);
}

#[tokio::test]
async fn a_write_that_others_lack_is_answered_202_with_who_has_it() {
    let world = island().await;
    let put = |ack: &str| world.request("PUT", "/config/web/dev/a").header("holm-ack", ack);
    put("local").body("1").send().await.expect(201);
    for ack in ["majority; timeout=5ms", "all; timeout=5ms", "2; timeout=5ms", "3;timeout=0s"] {
        let answer = put(ack).body("2").send().await.expect(202).json();
        let receipts = json!([
            {"region": "ap-south", "has": false},
            {"region": "eu-west", "has": true},
            {"region": "us-east", "has": false},
        ]);
        assert_eq!((&answer["receipts"], &answer["value"]), (&receipts, &json!(2)), "{ack}");
    }
    let one = put("1").body("3").send().await.expect(200);
    assert_eq!(one.json()["receipts"][1]["has"], true);
    put("4").body("4").send().await.expect_error(400, "BadHeader");
    let many = world.request("POST", "/config/web/dev").header("holm-ack", "all; timeout=5ms");
    let many = many.body(r#"{"entries":{"x":1,"y":2}}"#).send().await.expect(202).json();
    assert_eq!(
        (&many["receipts"][0]["has"], &many["items"][1]["key"]),
        (&json!(false), &json!("y"))
    );
    // It was written all the same, and who has it can be asked again.
    let session =
        world.get("/config/web/dev/x").await.expect(200).header("holm-session").to_owned();
    let receipts = world.get(&format!("/cluster/receipts?session={session}")).await.expect(200);
    assert_eq!(receipts.json()["regions"][1], json!({"region": "eu-west", "has": true}));
    world.get("/cluster/receipts").await.expect_error(400, "BadQuery");
}

#[tokio::test]
async fn an_island_is_alive_and_not_ready_and_says_how_it_stands() {
    let world = island().await;
    world.get("/healthz").await.expect(200);
    let error = world.get("/readyz").await.expect_error(503, "NotReady");
    assert!(error["detail"].as_str().unwrap().contains("peer"), "{error}");
    let cluster = world.get("/cluster").await.expect(200).json();
    assert_eq!(cluster["region"], "eu-west");
    // What a topology file is written from.
    let mut addresses = std::collections::BTreeSet::new();
    for region in cluster["regions"].as_array().unwrap() {
        let shown = &region["nodes"][0];
        for address in [&shown["peer"], &shown["http"]] {
            assert!(Address::new(address.as_str().unwrap()).is_some(), "{shown}");
            addresses.insert(address.to_string());
        }
        assert_eq!(region["voters"], true);
        assert_eq!(shown["rtt_measured"], false, "nobody was met");
    }
    assert!(addresses.len() >= 4, "each node has its own: {addresses:?}");
    let metrics = world.get("/metrics").await.expect(200);
    assert_eq!(metrics.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    for line in [
        "holm_ready 0",
        "holm_http_requests_total{method=\"GET\",route=\"/readyz\",status=\"503\"} 1",
        "holm_peer_connected{peer=\"us-east-1\",peer_region=\"us-east\"} 0",
    ] {
        assert!(metrics.body.lines().any(|it| it == line), "{line}\n{}", metrics.body);
    }
    world.stop.send_replace(true);
    world.get("/readyz").await.expect_error(503, "ShuttingDown");
}

#[tokio::test(start_paused = true)]
async fn a_session_of_what_is_lost_is_not_waited_for() {
    let world = world().await;
    world.put("/config/web/dev/a", "1").await.expect(201);
    let gone = Dot { origin: Origin([9; 8]), n: 1 };
    let (id, store) = (DocumentId::parse("web/dev").unwrap(), world.app.node().store());
    let change = write_of_k(gone, id.clone(), 0, (Some("1"), Stamp(1)), Some(&[]));
    store.apply(vec![change.bytes]).await.unwrap();
    let get = async |dot: Dot| {
        let session = Session::of([dot].into_iter().collect()).encode();
        let started = tokio::time::Instant::now();
        let asked = world.request("GET", "/config/web/dev/a").header("holm-session", &session);
        (asked.send().await, started.elapsed())
    };
    let beyond = Dot { n: 2, ..gone };
    let (answer, waited) = get(beyond).await;
    answer.expect_error(412, "SessionNotReached");
    assert!(waited >= Duration::from_secs(1), "it may come");
    let floor = world.app.node().snapshot().vector.told();
    let plan = store.plan_roll(id.clone(), floor.clone(), Stamp(0)).await.unwrap();
    let fold = Fold::new(1, store.fold_rows(vec![gone]).await.unwrap()).ok();
    let (epoch, base) = (plan.epoch, plan.base);
    let roll = Roll { epoch, floor, base, removals_before: Stamp(0), fold };
    store.roll(id, roll).await.unwrap();
    assert!(!world.app.node().snapshot().vector.names(gone.origin));
    get(gone).await.0.expect(200);
    let (answer, waited) = get(beyond).await;
    assert!(answer.body.contains("lost"), "{}", answer.body);
    answer.expect_error(412, "SessionNotReached");
    assert_eq!(waited, Duration::ZERO);
    let (_, waited) = get(Dot { origin: Origin([8; 8]), n: 1 }).await;
    assert!(waited >= Duration::from_secs(1), "of another one nothing is known");
}
