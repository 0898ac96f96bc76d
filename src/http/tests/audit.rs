//! What is recorded, and who sees it.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::harness::{
    World, cut_pair, cut_pair_with, island, three, three_with, world, world_with,
};
use crate::audit::{ChainReader as _, Event, Head};
use crate::env::{Entropy, WallClock as _};
use crate::model::NodeName;
use crate::settings::Settings;
use crate::storage::{Writer, WriterSettings};

/// The items of the log, once there are this many; what is denied is recorded a moment later.
async fn log(world: &World, query: &str, count: usize) -> Vec<Value> {
    let mut last = Value::Null;
    for _ in 0..200 {
        let path = format!("/audit{query}");
        let page = world.request("GET", &path).scope("audit:read").send().await;
        last = page.expect(200).json();
        let items = last["items"].as_array().unwrap();
        if items.len() >= count {
            assert_eq!(items.len(), count, "{last}");
            return items.clone();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{count} items are expected: {last}");
}

/// What a stopped node's store has on its chain.
fn reopened_chain(world: &World) -> Vec<Event> {
    let node = world.app.node();
    let settings = WriterSettings {
        cluster: node.cluster_id().to_owned(),
        node: node.name().clone(),
        region: "eu-west".into(),
        value_bytes_max: 1_000,
        documents_bytes_max: 1 << 20,
        waiting_bytes_max: 100_000,
        peers: 0,
    };
    let stream = Entropy::seeded(1).stream("store");
    let writer = Writer::open(settings, Arc::new(world.disk.clone()), stream).unwrap();
    let mut events = Vec::new();
    let mut head = Head::default();
    let visit = &mut |record: &[u8]| {
        events.push(head.follow(record).unwrap().event);
        ControlFlow::Continue(())
    };
    writer.chain().walk(1, visit).unwrap();
    events
}

#[tokio::test]
async fn a_write_is_recorded_with_who_what_and_by_which_grant_and_never_with_its_value() {
    let world = world().await;
    let put = world.request("PUT", "/config/web/dev/a").scope("config:write:web/*");
    put.header("x-request-id", "r-1").body("\"canary-1\"").send().await.expect(201);
    world.post("/config/web/dev", r#"{"entries":{"b":"canary-2","c":1}}"#).await.expect(201);
    world.request("DELETE", "/config/web/dev/a").send().await.expect(200);
    world.request("DELETE", "/config/web/dev").send().await.expect(200);
    let items = log(&world, "", 4).await;
    let shown: Vec<_> = items
        .iter()
        .map(|it| (&it["action"], &it["target"]))
        .map(|(a, t)| format!("{a} {t}"))
        .collect();
    assert_eq!(
        shown,
        [
            r#""config.remove_all" "web/dev: 2 keys: b, c""#,
            r#""config.remove" "web/dev/a""#,
            r#""config.write" "web/dev: 2 keys: b, c""#,
            r#""config.write" "web/dev/a""#,
        ]
    );
    let first = &items[3];
    assert_eq!(first["principal"], "ada");
    assert_eq!(first["decision"]["allowed"], "config:write:web/*");
    assert_eq!((&first["outcome"], &first["store"]), (&"done".into(), &"config".into()));
    assert_eq!(first["source"]["request"], "r-1");
    assert_eq!((&first["seq"], &first["recorded_by"]), (&1.into(), &"eu-west-1".into()));
    let all = format!("{items:?}");
    assert!(!all.contains("canary") && !all.contains("eyJ"), "no value, no token: {all}");
}

#[tokio::test]
async fn a_failed_check_changes_nothing_and_is_not_recorded() {
    let world = world().await;
    world.put("/config/web/dev/a", "1").await.expect(201);
    let put = world.request("PUT", "/config/web/dev/a?expect_version=7").body("2");
    put.send().await.expect(412);
    world.request("DELETE", "/config/web/dev/none").send().await.expect(404);
    log(&world, "", 1).await;
}

#[tokio::test]
async fn denied_attempts_are_recorded_once_at_first_and_summed_after() {
    let world = world().await;
    let token = world.token("config:read:web/dev");
    for i in 0..50 {
        let path = format!("/config/web/prod/k{i}");
        world.request("GET", &path).token(Some(&token)).send().await.expect(403);
        world.request("PUT", &path).token(None).body("1").send().await.expect(401);
    }
    world.request("GET", "/cluster").token(Some(&token)).send().await.expect(403);
    let items = log(&world, "", 3).await;
    let of = |action: &str| items.iter().find(|it| it["action"] == action).unwrap();
    assert_eq!(of("config.read")["decision"]["denied"], "the caller may not read web/prod/k0");
    assert_eq!(of("config.read")["principal"], "ada");
    assert_eq!(of("config.read")["target"], "/config/web/prod/k0");
    assert_eq!(of("config.write")["principal"], "-");
    assert_eq!(of("config.write")["decision"]["denied"], "no bearer token");
    assert_eq!(of("GET /cluster")["store"], "quorum");
    // The sums come when the node stops, at the latest.
    world.app.node().shutdown().await;
    let chain = reopened_chain(&world);
    let sums: Vec<u64> = chain.iter().map(|event| event.count).filter(|count| *count > 1).collect();
    assert_eq!(sums, [49, 49], "{chain:?}");
}

#[tokio::test]
async fn the_log_is_for_those_who_may_read_it_and_is_paged_and_filtered() {
    let world = world().await;
    for i in 0..25 {
        world.put(&format!("/config/web/dev/k{i}"), "1").await.expect(201);
    }
    for path in ["/audit", "/audit/verify"] {
        let asked = world.request("GET", path).scope("config:* cluster:read");
        asked.send().await.expect_error(403, "Forbidden");
        world.request("GET", path).token(None).send().await.expect(401);
    }
    let get = async |path: &str| world.request("GET", path).scope("audit:read").send().await;
    let mut path = "/audit?size=10&action=config.write".to_owned();
    let mut targets = Vec::new();
    loop {
        let page = get(&path).await.expect(200).json();
        let items = page["items"].as_array().unwrap();
        assert!(items.len() <= 10);
        targets.extend(items.iter().map(|it| it["target"].as_str().unwrap().to_owned()));
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("/audit?size=10&action=config.write&cursor={cursor}");
    }
    let expected: Vec<String> = (0..25).rev().map(|i| format!("web/dev/k{i}")).collect();
    assert_eq!(targets, expected);
    assert_eq!(log(&world, "?target=web/dev/k7", 1).await[0]["seq"], 8);
    assert_eq!(log(&world, "?decision=denied&node=eu-west-1", 4).await.len(), 4);
    log(&world, "?from=2023-11-14T22:13:20Z&principal=ada&action=config.*", 25).await;
    log(&world, "?to=2023-11-14T22:13:20Z", 0).await;
    for bad in ["from=yesterday", "decision=maybe", "size=0", "cursor=x", "who=ada"] {
        assert_eq!(get(&format!("/audit?{bad}")).await.status, 400, "{bad}");
    }
    let first = get("/audit?size=1").await.expect(200).json();
    let cursor = first["next_cursor"].as_str().unwrap();
    let other = get(&format!("/audit?size=1&action=x&cursor={cursor}")).await;
    other.expect_error(400, "BadCursor");
    let follow = first["follow_cursor"].as_str().unwrap();
    world.put("/config/web/dev/new", "1").await.expect(201);
    let page = get(&format!("/audit?cursor={follow}")).await.expect(200).json();
    assert_eq!(page["items"].as_array().unwrap().len(), 1, "{page}");
    assert_eq!(page["items"][0]["target"], "web/dev/new");
    let report = get("/audit/verify").await.expect(200).json();
    assert_eq!(report["stores"][0]["findings"], serde_json::json!([]), "{report}");
    assert_eq!(report["stores"][0]["store"], "config");
}

#[tokio::test]
async fn single_reads_are_recorded_where_the_setting_asks_for_it() {
    let mut settings = Settings::default();
    settings.audit.config_reads = true;
    let (with, without) = (world_with(settings).await, world().await);
    for world in [&with, &without] {
        world.put("/config/web/dev/a", "1").await.expect(201);
        world.get("/config/web/dev/a").await.expect(200);
        world.get("/config/web/dev/a").await.expect(200);
    }
    let items = log(&with, "", 3).await;
    assert_eq!(items.iter().filter(|it| it["action"] == "config.read").count(), 2);
    log(&without, "", 1).await;
}

#[tokio::test]
async fn nodes_that_do_not_answer_are_named() {
    let world = island().await;
    world.put("/config/web/dev/a", "1").await.expect(201);
    let page = world.request("GET", "/audit").scope("audit:read").send().await.expect(200).json();
    assert_eq!(page["missing"], serde_json::json!(["ap-south-1", "us-east-1"]));
    assert_eq!(page["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn the_log_is_the_clusters_and_peers_remember_each_others_heads() {
    let (a, b, links) = cut_pair().await;
    a.put("/config/web/dev/a", "1").await.expect(201);
    b.put("/config/web/dev/b", "1").await.expect(201);
    assert_eq!(log(&a, "", 1).await[0]["target"], "web/dev/a");
    links.heal_all();
    let items = log(&a, "", 2).await;
    let recorded: Vec<_> = items.iter().map(|it| it["recorded_by"].as_str().unwrap()).collect();
    assert!(recorded.contains(&"eu-west-1") && recorded.contains(&"us-east-1"), "{items:?}");
    b.app.node().audit_ask_heads().await;
    a.put("/config/web/dev/a", "2").await.expect(200);
    b.app.node().audit_ask_heads().await;
    let verify = || a.request("GET", "/audit/verify").scope("audit:read").send();
    let report = verify().await.expect(200).json();
    assert_eq!(report["stores"][0]["witnesses"], 1, "{report}");
    assert_eq!(report["stores"][0]["findings"], serde_json::json!([]), "{report}");
}

/// Waits until each of them is answered by all others.
async fn all_answer(worlds: &[&World]) {
    for world in worlds {
        let missing = async || {
            let page = world.request("GET", "/audit").scope("audit:read").send().await;
            page.expect(200).json()["missing"].as_array().unwrap().len()
        };
        while missing().await > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// How many records of b's config chain `world` has a copy of, all of them good.
async fn copied_of_b(world: &World) -> u64 {
    let report = world.request("GET", "/audit/verify").scope("audit:read").send().await;
    let report = report.expect(200).json();
    let stores = report["stores"].as_array().unwrap();
    let copy = stores.iter().find(|store| store["store"] == "config of us-east-1");
    let Some(copy) = copy else { return 0 };
    assert_eq!(copy["findings"], serde_json::json!([]), "{report}");
    copy["records"].as_u64().unwrap()
}

#[tokio::test]
async fn a_node_that_is_lost_is_read_about_from_what_it_shipped() {
    let mut settings = Settings::default();
    settings.audit.ship_every = Duration::from_millis(20);
    let ([a, b, c], links) = three_with(settings).await;
    all_answer(&[&a, &b, &c]).await;
    let name = |region: &str| NodeName::new(&format!("{region}-1")).unwrap();
    for i in 0..20 {
        b.put(&format!("/config/web/dev/b{i}"), "1").await.expect(201);
    }
    let by_a = loop {
        match (copied_of_b(&a).await, copied_of_b(&c).await) {
            (20, 0) => break true,
            (0, 20) => break false,
            (of_a, of_c) => assert!(of_a == 0 || of_c == 0, "one peer is enough"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    // The keeper is out of reach: another one gets all of it.
    let (keeper, other) = if by_a { ("eu-west", &c) } else { ("ap-south", &a) };
    links.cut(&name("us-east"), &name(keeper));
    for i in 0..5 {
        b.put(&format!("/config/web/dev/b{i}"), "2").await.expect(200);
    }
    while copied_of_b(other).await < 25 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // And now nobody reaches it any more.
    for region in ["eu-west", "ap-south"] {
        links.cut(&name("us-east"), &name(region));
    }
    for world in [&a, &c] {
        let page = world.request("GET", "/audit?size=100").scope("audit:read").send().await;
        let page = page.expect(200).json();
        assert_eq!(page["copied"], serde_json::json!(["us-east-1"]), "{page}");
        let items = page["items"].as_array().unwrap();
        assert_eq!(items.len(), 25, "{page}");
        assert!(items.iter().all(|it| it["recorded_by"] == "us-east-1"), "{page}");
    }
}

#[tokio::test]
async fn a_node_that_drained_is_still_read_about_and_its_copy_is_whole() {
    let [a, b, c] = three().await;
    all_answer(&[&a, &b, &c]).await;
    for i in 0..20 {
        b.put(&format!("/config/web/dev/b{i}"), "1").await.expect(201);
    }
    b.request("GET", "/config/web/dev/a").token(None).send().await.expect(401);
    // What the sums of denied attempts come to is recorded first, and handed over, too.
    b.request("GET", "/config/web/dev/a").token(None).send().await.expect(401);
    let before = log(&a, "", 21).await.len() as u64;
    b.app.node().shutdown().await;
    for world in [&a, &c] {
        let page = world.request("GET", "/audit?size=100").scope("audit:read").send().await;
        let page = page.expect(200).json();
        assert_eq!(page["missing"], serde_json::json!([]), "{page}");
        assert_eq!(page["copied"], serde_json::json!(["us-east-1"]), "{page}");
        let items = page["items"].as_array().unwrap();
        assert_eq!(items.len() as u64, before + 1, "{page}");
        assert!(items.iter().all(|it| it["recorded_by"] == "us-east-1"), "{page}");
        // In pages it is the same.
        let first = world.request("GET", "/audit?size=7").scope("audit:read").send().await;
        let first = first.expect(200).json();
        assert_eq!(first["items"].as_array().unwrap()[..], items[..7]);
        let next = format!("/audit?size=7&cursor={}", first["next_cursor"].as_str().unwrap());
        let next = world.request("GET", &next).scope("audit:read").send().await.expect(200).json();
        assert_eq!(next["items"].as_array().unwrap()[..], items[7..14]);
    }
    let mut copies = 0;
    for world in [&a, &c] {
        let report = world.request("GET", "/audit/verify").scope("audit:read").send().await;
        let report = report.expect(200).json();
        for store in report["stores"].as_array().unwrap() {
            assert_eq!(store["findings"], serde_json::json!([]), "{report}");
            if store["store"] == "config of us-east-1" {
                assert_eq!(store["records"], before + 1, "{report}");
                copies += 1;
            }
        }
    }
    assert_eq!(copies, 1, "one peer keeps it");
}

#[tokio::test]
async fn what_is_archived_is_said_and_checked_and_never_lost_to_a_peer() {
    let mut settings = Settings::default();
    settings.audit.archive_dir = Some("audit".into());
    settings.audit.archive_every = Duration::from_secs(10);
    settings.audit.keep = Duration::from_secs(20);
    settings.audit.ship_every = Duration::from_millis(100);
    let ([a, b, c], _links) = three_with(settings).await;
    for i in 0..10 {
        a.put(&format!("/config/web/dev/k{i}"), "1").await.expect(201);
    }
    let audit = async |world: &World, query: &str| {
        world.request("GET", &format!("/audit{query}")).scope("audit:read").send().await
    };
    let then = audit(&a, "?action=config.write").await.expect(200).json();
    assert!(then["archived"].is_null(), "{then}");
    b.app.node().audit_ask_heads().await;
    // All clocks alike, and by less than tokens last.
    for world in [&a, &b, &c] {
        world.clock.advance(Duration::from_secs(40));
    }
    let to = crate::model::Stamp(a.clock.now().0 - 25_000_000);
    let past = format!("?action=config.write&to={to}");
    let mut gone = None;
    for _ in 0..600 {
        let answer = audit(&a, &past).await;
        if answer.status == 410 {
            gone = Some(answer.expect_error(410, "Gone"));
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let gone = gone.expect("nothing was archived").to_string();
    assert!(gone.contains("archived") && gone.contains("eu-west-1"), "{gone}");
    assert!(!a.disk.names("audit.eu-west-1.config.").is_empty(), "it is in a file");
    // A page that also asks for what is there says what it does not show.
    a.put("/config/web/dev/new", "1").await.expect(201);
    let now = audit(&a, "?action=config.write").await.expect(200).json();
    assert_eq!(now["items"].as_array().unwrap().len(), 1, "{now}");
    assert!(now["archived"].to_string().contains("eu-west-1"), "{now}");
    // Peers that remember what is gone go on, and what they keep is whole.
    for world in [&a, &b] {
        world.app.node().audit_ask_heads().await;
        let verified = world.request("GET", "/audit/verify").scope("audit:read").send().await;
        let stores = verified.expect(200).json()["stores"].clone();
        for store in stores.as_array().unwrap() {
            assert_eq!(store["findings"].as_array().unwrap().len(), 0, "{stores}");
        }
    }
    let broken = b.get("/metrics").await.body;
    let broken = broken.lines().find(|line| line.starts_with("holm_audit_broken_total"));
    assert_eq!(broken, Some("holm_audit_broken_total 0"));
}

#[tokio::test]
async fn an_archive_without_room_is_counted_and_made_once_there_is_some() {
    let mut settings = Settings::default();
    settings.audit.archive_dir = Some("audit".into());
    settings.audit.archive_every = Duration::from_secs(10);
    let a = world_with(settings).await;
    for i in 0..10 {
        a.put(&format!("/config/web/dev/k{i}"), "1").await.expect(201);
    }
    let failed = async || {
        let metrics = a.get("/metrics").await.body;
        let line = metrics.lines().find(|line| line.starts_with("holm_audit_archive_failed_total"));
        line.unwrap().rsplit(' ').next().unwrap().parse::<u64>().unwrap()
    };
    assert_eq!(failed().await, 0);
    a.disk.fill(0);
    a.clock.advance(Duration::from_secs(40));
    while failed().await == 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(a.disk.names("audit.eu-west-1.config.").is_empty(), "there is no room");
    a.disk.free();
    while a.disk.names("audit.eu-west-1.config.").is_empty() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What `/metrics` has under this name.
async fn metric(world: &World, name: &str) -> f64 {
    let metrics = world.get("/metrics").await.expect(200).body;
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name}")).parse().unwrap()
}

#[tokio::test]
async fn what_no_peer_has_is_counted_until_one_has_it_and_that_one_says_how_much_it_keeps() {
    let mut settings = Settings::default();
    settings.audit.ship_every = Duration::from_millis(20);
    let (a, b, links) = cut_pair_with(settings).await;
    for i in 0..5 {
        a.put(&format!("/config/web/dev/a{i}"), "1").await.expect(201);
    }
    let until = async |world: &World, name: &str, is_so: fn(f64) -> bool| {
        let waits = async {
            while !is_so(metric(world, name).await) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), waits)
            .await
            .unwrap_or_else(|_| panic!("{name}"));
    };
    until(&a, "holm_audit_unshipped_records", |it| it >= 5.0).await;
    assert!(metric(&b, "holm_audit_copies_bytes").await == 0.0);
    links.heal_all();
    until(&a, "holm_audit_unshipped_records", |it| it == 0.0).await;
    until(&b, "holm_audit_copies_bytes", |it| it > 0.0).await;
}

#[tokio::test]
async fn attempts_that_the_store_does_not_take_are_counted() {
    let world = world().await;
    assert!(metric(&world, "holm_audit_dropped_total").await == 0.0);
    world.disk.fail(true);
    world.request("GET", "/config/web/dev/a").token(None).send().await.expect(401);
    let waits = async {
        while metric(&world, "holm_audit_dropped_total").await < 1.0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waits).await.expect("it is counted");
    world.disk.fail(false);
}
