//! Histories that are kept by policy: what is said of what went, and the policies themselves.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::harness::{World, cut_pair_with, world};
use crate::config::HistoryPolicy;
use crate::registry::{Command, fixture};
use crate::settings::Settings;

/// Has the node's own quorum, by which it prunes, decide something.
async fn decide(world: &World, command: Command) {
    let caller = (!matches!(command, Command::Found(_))).then(fixture::admin);
    let deadline = Instant::now() + Duration::from_secs(20);
    let proposal = fixture::proposal(caller, command);
    world.app.node().quorum().propose(proposal, deadline).await.unwrap().outcome.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_went_from_a_history_is_said_and_what_is_kept_can_be_had() {
    let world = world().await;
    for i in 1..=8 {
        world.put("/config/web/dev/k", &i.to_string()).await;
    }
    world.put("/config/web/dev/short", "1").await.expect(201);
    tokio::time::sleep(Duration::from_secs(70)).await;
    world.get("/config/web/dev/k/versions/1").await.expect(200);
    decide(&world, Command::Found(Box::new(fixture::founding()))).await;
    let keep = HistoryPolicy { versions: 3, age_s: 5 };
    decide(&world, Command::SetHistoryPolicy(None, Some(keep))).await;
    world.clock.advance(Duration::from_secs(10));
    tokio::time::sleep(Duration::from_secs(70)).await;
    let gone = world.get("/config/web/dev/k/versions/5").await.expect_error(410, "Gone");
    assert_eq!((&gone["oldest_version"], &gone["key"]), (&json!(6), &json!("k")));
    world.get("/config/web/dev/k/versions/5@0202020202020202").await.expect_error(410, "Gone");
    let never = "/config/web/dev/k/versions/7@0202020202020202";
    world.get(never).await.expect_error(404, "NotFound");
    let restore = |body: &'static str| world.post("/config/web/dev/k/restore", body);
    restore(r#"{"version":1}"#).await.expect_error(410, "Gone");
    let page = world.get("/config/web/dev/k/versions").await.expect(200).json();
    let versions: Vec<&Value> =
        page["items"].as_array().unwrap().iter().map(|item| &item["version"]).collect();
    assert_eq!(versions, [8, 7, 6]);
    assert_eq!((&page["gone_before"], &page["next_cursor"]), (&json!(6), &Value::Null));
    world.get("/config/web/dev/k/versions/6").await.expect(200);
    world.get("/config/web/dev/k/versions/9").await.expect_error(404, "NotFound");
    let short = world.get("/config/web/dev/short/versions").await.expect(200).json();
    assert_eq!(short.get("gone_before"), None);
    let back = restore(r#"{"version":6}"#).await.expect(200).json();
    assert_eq!((&back["value"], &back["version"]), (&json!(6), &json!(9)));
    let shown = world.app.node().metrics().render();
    assert!(shown.contains("holm_history_pruned_total 5"), "{shown}");
}

#[tokio::test]
async fn a_number_that_was_shared_never_comes_to_mean_what_is_left_of_it() {
    let mut settings = Settings::default();
    settings.storage.prune_every = Duration::from_millis(50);
    let (a, b, links) = cut_pair_with(settings).await;
    b.put("/config/web/dev/k", "\"other\"").await.expect(201);
    for i in 1..=7 {
        a.put("/config/web/dev/k", &i.to_string()).await;
    }
    links.heal_all();
    let until = async |is_there: &dyn Fn(&Value) -> bool| loop {
        let page = a.get("/config/web/dev/k/versions").await.expect(200).json();
        if is_there(&page["items"]) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    until(&|items| items.as_array().unwrap().len() == 8).await;
    let both = a.get("/config/web/dev/k/versions/1").await.expect_error(409, "AmbiguousVersion");
    assert_eq!(both["candidates"].as_array().unwrap().len(), 2);
    decide(&a, Command::Found(Box::new(fixture::founding()))).await;
    let keep = HistoryPolicy { versions: 3, age_s: 0 };
    decide(&a, Command::SetHistoryPolicy(None, Some(keep))).await;
    a.clock.advance(Duration::from_secs(10));
    until(&|items| items.as_array().unwrap().len() == 4).await;
    let left = a.get("/config/web/dev/k/versions/1").await.expect_error(409, "AmbiguousVersion");
    let candidates = left["candidates"].as_array().unwrap();
    assert_eq!(candidates.len(), 1);
    let path = |name: &Value| format!("/config/web/dev/k/versions/{}", name.as_str().unwrap());
    let other = a.get(&path(&candidates[0])).await.expect(200).json();
    assert_eq!((&other["value"], &other["others_gone"]), (&json!("other"), &json!(true)));
    let all = both["candidates"].as_array().unwrap();
    let went = all.iter().find(|it| **it != candidates[0]).unwrap();
    let went = a.get(&path(went)).await.expect_error(410, "Gone");
    assert_eq!(went["oldest_version"], 1);
    let text = "is not there any more: the oldest is 1, and not all behind it are";
    assert!(went["detail"].as_str().unwrap().ends_with(text), "{went}");
    let never = a.get("/config/web/dev/k/versions/1@0909090909090909").await;
    never.expect_error(404, "NotFound");
    let page = a.get("/config/web/dev/k/versions").await.expect(200).json();
    let items: Vec<(&Value, bool)> = page["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| (&item["version"], item["others_gone"] == true))
        .collect();
    assert_eq!(
        items,
        [(&json!(7), false), (&json!(6), false), (&json!(5), false), (&json!(1), true)]
    );
    a.get("/config/web/dev/k/versions/5").await.expect(200);
    a.get("/config/web/dev/k/versions/4").await.expect_error(410, "Gone");
}

#[tokio::test]
async fn policies_are_set_shown_and_taken_back() {
    let world = world().await.found().await;
    let run = |line: &'static str, body: &'static str| {
        world.ask("cluster:read cluster:manage", line, body)
    };
    let shown = run("GET /cluster/history", "").await.expect(200).json();
    let built_in = json!({"versions": 100, "age_s": 7_776_000});
    assert_eq!(shown, json!({"default": built_in, "items": []}));
    run("PUT /cluster/history/prod", r#"{"versions":500,"age_s":1}"#).await.expect(204);
    run("PUT /cluster/history", r#"{"versions":7,"age_s":0}"#).await.expect(204);
    let shown = run("GET /cluster/history", "").await.expect(200).json();
    let own = json!([{"environment": "prod", "versions": 500, "age_s": 1}]);
    assert_eq!(shown, json!({"default": {"versions": 7, "age_s": 0}, "items": own}));
    run("DELETE /cluster/history/prod", "").await.expect(204);
    run("DELETE /cluster/history/prod", "").await.expect_error(404, "NotFound");
    run("DELETE /cluster/history", "").await.expect(204);
    let bad = r#"{"versions":0,"age_s":0}"#;
    run("PUT /cluster/history/prod", bad).await.expect_error(400, "BadField");
    run("PUT /cluster/history/a%20b", bad).await.expect_error(400, "BadName");
    assert_eq!(
        world.audited("history_policy.set"),
        ["ada prod: done", "ada *: done"].map(str::to_owned)
    );
    assert_eq!(world.audited("history_policy.unset").len(), 3);
}
