//! Pages.

use super::harness::{World, world, world_with};
use crate::settings::Settings;
use serde_json::{Value, json};

async fn fill(world: &World, count: usize) {
    let entries: serde_json::Map<String, Value> =
        (0..count).map(|i| (format!("k{i:03}"), json!(i))).collect();
    let body = json!({ "entries": entries }).to_string();
    world.post("/config/web/dev", &body).await.expect(201);
}

/// All pages from `path` on, by their links.
async fn walk(world: &World, path: &str) -> Vec<Value> {
    let mut all = Vec::new();
    let mut next = Some(path.to_owned());
    while let Some(path) = next {
        let page = world.get(&path).await.expect(200);
        all.extend(page.json()["items"].as_array().unwrap().iter().cloned());
        assert_eq!(page.headers.contains_key("link"), page.json()["next_cursor"] != Value::Null);
        next = page.headers.get("link").map(|link| {
            let link = link.to_str().unwrap().strip_prefix('<').unwrap();
            link.split_once('>').unwrap().0.to_owned()
        });
    }
    all
}

#[tokio::test]
async fn pages_hold_every_key_once_in_order() {
    let world = world().await;
    fill(&world, 25).await;
    world.request("DELETE", "/config/web/dev/k003").send().await.expect(200);
    let all = walk(&world, "/config/web/dev?size=7").await;
    let keys: Vec<&str> = all.iter().map(|item| item["key"].as_str().unwrap()).collect();
    assert_eq!(keys.len(), 24);
    assert!(keys.is_sorted());
    assert_eq!(world.get("/config/web/dev").await.json()["items"].as_array().unwrap().len(), 24);
    let some = walk(&world, "/config/web/dev?size=3&prefix=k01").await;
    assert_eq!(some.len(), 10);
    assert!(walk(&world, "/config/web/dev?prefix=nothing").await.is_empty());
    assert!(walk(&world, "/config/web/nowhere").await.is_empty());
}

#[tokio::test]
async fn pages_stay_stable_while_keys_come_and_go() {
    let world = world().await;
    fill(&world, 10).await;
    let first = world.get("/config/web/dev?size=5").await.json();
    let cursor = first["next_cursor"].as_str().unwrap();
    for gone in ["k000", "k004", "k007"] {
        world.request("DELETE", &format!("/config/web/dev/{gone}")).send().await.expect(200);
    }
    world.put("/config/web/dev/k0000", "1").await.expect(201);
    world.put("/config/web/dev/k0055", "1").await.expect(201);
    let second = world.get(&format!("/config/web/dev?size=5&cursor={cursor}")).await.json();
    let keys: Vec<&str> =
        second["items"].as_array().unwrap().iter().map(|it| it["key"].as_str().unwrap()).collect();
    assert_eq!(keys, ["k005", "k0055", "k006", "k008", "k009"]);
}

#[tokio::test]
async fn a_page_ends_at_its_limit_in_bytes_and_never_before_its_first_item() {
    let mut settings = Settings::default();
    settings.limits.page_bytes_max = 1;
    let world = world_with(settings).await;
    fill(&world, 3).await;
    let page = world.get("/config/web/dev").await.json();
    assert_eq!(page["items"].as_array().unwrap().len(), 1);
    assert_eq!(walk(&world, "/config/web/dev").await.len(), 3);
}

#[tokio::test]
async fn documents_are_listed_with_what_the_caller_may_read() {
    let world = world().await;
    for path in ["/config/web/dev/a", "/config/web/dev/b", "/config/web/prod/a", "/config/x/y/z"] {
        world.put(path, "1").await.expect(201);
    }
    world.request("DELETE", "/config/x/y").send().await.expect(200);
    let all = walk(&world, "/config?size=1").await;
    assert_eq!(
        all,
        [
            json!({"service": "web", "environment": "dev", "keys": 2}),
            json!({"service": "web", "environment": "prod", "keys": 1}),
        ]
    );
    let some = world.request("GET", "/config").scope("config:read:*/dev/b*").send().await;
    assert_eq!(some.json()["items"], json!([{"service": "web", "environment": "dev", "keys": 1}]));
    let none = world.request("GET", "/config").scope("cluster:read").send().await.expect(200);
    assert_eq!(none.json(), json!({"items": [], "next_cursor": null}));
}

#[tokio::test]
async fn a_list_shows_only_the_keys_that_may_be_read() {
    let world = world().await;
    fill(&world, 12).await;
    let some = world.request("GET", "/config/web/dev?size=2").scope("config:read:web/dev/k01*");
    let page = some.send().await.expect(200).json();
    assert_eq!(page["items"][0]["key"], "k010");
    assert_eq!(page["items"].as_array().unwrap().len(), 2);
    assert_eq!(page["next_cursor"], Value::Null);
}
