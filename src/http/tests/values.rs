//! One key: reading, writing, checking, its history.

use super::harness::{cut_pair, world};
use serde_json::{Value, json};
use std::time::Duration;

#[tokio::test]
async fn a_value_is_written_read_changed_and_removed() {
    let world = world().await;
    let made = world.put("/config/web/dev/a?message=first", r#" {"x" : 1.50} "#).await.expect(201);
    let item = made.json();
    assert_eq!(item["version"], 1);
    assert_eq!(item["message"], "first");
    assert_eq!(item["updated_by"], "ada");
    assert_eq!(item["region"], "eu-west");
    assert_eq!(item["conflicts"], json!([]));
    let got = world.get("/config/web/dev/a").await.expect(200);
    assert_eq!(got.json(), item);
    assert_eq!(got.header("etag"), made.header("etag"));
    assert_eq!(got.header("content-type"), "application/json");
    assert!(got.body.contains(r#""value":{"x":1.50}"#), "{got:?}");
    let patch = world.request("PATCH", "/config/web/dev/a").body(r#"{"y":[2],"x":null}"#);
    let patched = patch.send().await.expect(200).json();
    assert_eq!((&patched["value"], &patched["version"]), (&json!({"y": [2]}), &json!(2)));
    assert_eq!(patched["id"], item["id"]);
    let removed = world.request("DELETE", "/config/web/dev/a").send().await.expect(200).json();
    assert_eq!((&removed["removed"], &removed["version"]), (&json!(true), &json!(3)));
    assert_eq!(removed["value"], Value::Null);
    world.get("/config/web/dev/a").await.expect_error(404, "NotFound");
    world.request("DELETE", "/config/web/dev/a").send().await.expect_error(404, "NotFound");
    let patch = world.request("PATCH", "/config/web/dev/a").body("{}");
    patch.send().await.expect_error(404, "NotFound");
    let again = world.put("/config/web/dev/a", "null").await.expect(201).json();
    assert_eq!((&again["value"], &again["version"]), (&Value::Null, &json!(4)));
}

#[tokio::test]
async fn several_keys_are_written_together() {
    let world = world().await;
    let body = r#"{"entries":{"a":1,"b":2},"message":"both"}"#;
    let both = world.post("/config/web/dev", body).await.expect(201).json();
    assert_eq!(both["items"][0]["value"], 1);
    assert_eq!(both["items"][1]["message"], "both");
    let again = world.post("/config/web/dev", r#"{"entries":[{"key":"a","value":3}]}"#);
    assert_eq!(again.await.expect(200).json()["items"][0]["version"], 2);
    let one = world.post("/config/web/dev", r#"{"key":"c","value":"x"}"#).await.expect(201);
    assert_eq!(one.json()["key"], "c");
    let failed = r#"{"entries":[{"key":"d","value":1},{"key":"a","value":9,"expect_version":1}]}"#;
    let failed = world.post("/config/web/dev", failed).await;
    assert_eq!(failed.header("holm-check"), "local");
    failed.expect_error(412, "PreconditionFailed");
    world.get("/config/web/dev/d").await.expect(404);
    let held = r#"{"entries":[{"key":"d","value":1,"expect_version":0},
        {"key":"a","value":9,"expect_version":2}]}"#;
    let held = world.post("/config/web/dev", held).await.expect(201);
    assert_eq!(held.header("holm-check"), "local");
    let gone = world.request("DELETE", "/config/web/dev?message=bye").send().await.expect(200);
    assert_eq!(gone.json(), json!({"removed": 4}));
    let gone = world.request("DELETE", "/config/web/dev").send().await.expect(200);
    assert_eq!(gone.json(), json!({"removed": 0}));
}

#[tokio::test]
async fn tags_guard_writes_and_spare_reads() {
    let world = world().await;
    let tag = world.put("/config/web/dev/a", "1").await.expect(201).header("etag").to_owned();
    let read = |tag: &str| world.request("GET", "/config/web/dev/a").header("if-none-match", tag);
    let known = read(&tag).send().await.expect(304);
    assert_eq!((known.header("etag"), known.body.as_str()), (tag.as_str(), ""));
    known.header("holm-session");
    let write = |name: &str, tag: &str, value: &str| {
        world.request("PUT", "/config/web/dev/a").header(name, tag).body(value).send()
    };
    let new = write("if-match", &tag, "2").await.expect(200);
    assert_eq!(new.header("holm-check"), "local");
    write("if-match", &tag, "3").await.expect_error(412, "PreconditionFailed");
    write("if-match", "\"unknown\"", "3").await.expect_error(412, "PreconditionFailed");
    write("if-none-match", "*", "3").await.expect_error(412, "PreconditionFailed");
    write("if-match", "*", "3").await.expect(200);
    read(&tag).send().await.expect(200);
    let absent = world.request("PUT", "/config/web/dev/b").header("if-match", "*").body("1");
    absent.send().await.expect_error(412, "PreconditionFailed");
    let new = world.request("PUT", "/config/web/dev/b").header("if-none-match", "*").body("1");
    new.send().await.expect(201);
    world.put("/config/web/dev/b?expect_version=1", "2").await.expect(200);
    world.put("/config/web/dev/b?expect_version=1", "2").await.expect(412);
    world.put("/config/web/dev/c?expect_version=0", "2").await.expect(201);
    let both = world.request("PUT", "/config/web/dev/b?expect_version=2").header("if-match", "*");
    both.body("1").send().await.expect_error(400, "BadHeader");
}

#[tokio::test]
async fn a_history_is_listed_read_and_restored() {
    let world = world().await;
    for value in ["1", "2", "3"] {
        world.put(&format!("/config/web/dev/a?message=m{value}"), value).await;
    }
    world.request("DELETE", "/config/web/dev/a").send().await.expect(200);
    let first = world.get("/config/web/dev/a/versions?size=3").await.expect(200);
    let items = first.json()["items"].clone();
    let column = |name: &str| -> Vec<Value> {
        items.as_array().unwrap().iter().map(|item| item[name].clone()).collect()
    };
    assert_eq!(column("version"), [4, 3, 2]);
    assert_eq!(column("removed"), [json!(true), Value::Null, Value::Null]);
    assert_eq!(column("value"), [Value::Null, json!(3), json!(2)]);
    assert_eq!(column("message"), [Value::Null, json!("m3"), json!("m2")]);
    assert_eq!(column("current"), [true, false, false]);
    let link = first.header("link").to_owned();
    let next = link.strip_prefix('<').unwrap().split_once(">; rel=\"next\"").unwrap().0;
    let rest = world.get(next).await.expect(200).json();
    assert_eq!(rest["items"][0]["version"], 1);
    assert_eq!((&rest["items"][1], &rest["next_cursor"]), (&Value::Null, &Value::Null));
    let origin = column("origin")[0].as_str().unwrap().to_owned();
    let two = world.get("/config/web/dev/a/versions/2").await.expect(200).json();
    assert_eq!((&two["value"], &two["current"]), (&json!(2), &json!(false)));
    let named = world.get(&format!("/config/web/dev/a/versions/2@{origin}")).await.expect(200);
    assert_eq!(named.json(), two);
    for unknown in ["5", "2@ffffffffffffffff", "99999"] {
        let path = format!("/config/web/dev/a/versions/{unknown}");
        world.get(&path).await.expect_error(404, "NotFound");
    }
    let restore = |body: &str| world.request("POST", "/config/web/dev/a/restore").body(body).send();
    let back = restore(r#"{"version":2,"message":"undo"}"#).await.expect(201).json();
    assert_eq!((&back["value"], &back["version"]), (&json!(2), &json!(5)));
    let back = restore(&format!(r#"{{"version":"1@{origin}"}}"#)).await.expect(200).json();
    assert_eq!((&back["value"], &back["version"]), (&json!(1), &json!(6)));
    let gone = restore(r#"{"version":4}"#).await.expect(200).json();
    assert_eq!(gone["removed"], true);
    restore(r#"{"version":77}"#).await.expect_error(404, "NotFound");
    world.get("/config/web/dev/never/versions").await.expect_error(404, "NotFound");
}

#[tokio::test]
async fn a_retry_is_recognised_and_another_request_under_its_key_refused() {
    let world = world().await;
    let put = |key: &str, value: &str| {
        world.request("PUT", "/config/web/dev/a").header("idempotency-key", key).body(value).send()
    };
    let first = put("k-1", "1").await.expect(201);
    assert!(!first.headers.contains_key("idempotency-replayed"));
    let again = put("k-1", "1").await.expect(201);
    assert_eq!(again.header("idempotency-replayed"), "true");
    assert_eq!(again.json()["version"], 1);
    put("k-1", "2").await.expect_error(422, "IdempotencyKeyReused");
    put("k-2", "2").await.expect(200);
    for bad in ["", "a b", &"x".repeat(256)] {
        put(bad, "3").await.expect_error(400, "BadHeader");
    }
}

#[tokio::test]
async fn what_two_regions_wrote_at_once_is_shown_until_it_is_settled() {
    let (a, b, links) = cut_pair().await;
    for (world, other) in [(&a, "1"), (&b, "2")] {
        world.put("/config/web/dev/k", other).await.expect(201);
        world.put("/config/web/dev/gone", other).await.expect(201);
    }
    // The later write wins: in `b` the clock is ahead.
    b.clock.advance(Duration::from_millis(5));
    b.request("DELETE", "/config/web/dev/gone").send().await.expect(200);
    links.heal_all();
    let item = loop {
        let item = a.get("/config/web/dev/k").await.expect(200).json();
        if item["conflicts"] != json!([]) {
            break item;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    let values = [&item["value"], &item["conflicts"][0]["value"]];
    assert!(values.contains(&&json!(1)) && values.contains(&&json!(2)), "{item}");
    // Both are version 1.
    let both = a.get("/config/web/dev/k/versions/1").await.expect_error(409, "AmbiguousVersion");
    for candidate in both["candidates"].as_array().unwrap() {
        let path = format!("/config/web/dev/k/versions/{}", candidate.as_str().unwrap());
        a.get(&path).await.expect(200);
    }
    let restored = a.request("POST", "/config/web/dev/k/restore").body(r#"{"version":1}"#);
    restored.send().await.expect_error(409, "AmbiguousVersion");
    // Removed there, written here at the same time: gone, with the write shown.
    let gone = a.get("/config/web/dev/gone").await.expect_error(404, "NotFound");
    assert_eq!(gone["conflicts"][0]["value"], 1, "{gone}");
    assert_eq!(gone["removal"]["removed"], true, "{gone}");
    // A tag names all siblings; a write that fits it settles them.
    let tag = a.get("/config/web/dev/k").await.header("etag").to_owned();
    let settle = a.request("PUT", "/config/web/dev/k").header("if-match", &tag).body("3");
    let settled = settle.send().await.expect(200).json();
    assert_eq!((&settled["conflicts"], &settled["version"]), (&json!([]), &json!(2)));
}
