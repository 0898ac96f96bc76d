//! What is refused, each with a precise 4xx.

use super::harness::{World, world, world_with};
use crate::settings::Settings;
use serde_json::json;

/// Asks, and takes the error's `field` or `key` and its detail.
async fn refused(world: &World, asked: [&str; 3], status: u16, name: &str) -> (String, String) {
    let [method, path, body] = asked;
    let answer = world.request(method, path).body(body).send().await;
    let error = answer.expect_error(status, name);
    assert_eq!(error["status"], status);
    assert_eq!(error["type"], format!("urn:holm:error:{name}"));
    let named = error.get("field").or(error.get("key")).unwrap_or(&json!("")).clone();
    (named.as_str().unwrap().to_owned(), error["detail"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn names_outside_their_limits() {
    let world = world().await;
    let (long, longer) = ("s".repeat(65), "k".repeat(256));
    for (path, field) in [
        (format!("/config/{long}/dev/k"), "service"),
        (format!("/config/web/{long}/k"), "environment"),
        (format!("/config/web/dev/{longer}"), "key"),
        ("/config/we%20b/dev/k".to_owned(), "service"),
        ("/config/web/dev/a%2Fb".to_owned(), "key"),
        ("/config/web/dev/%C3%A4".to_owned(), "key"),
        ("/config/web/dev/%2E".to_owned(), "key"),
        ("/config/web/dev/%00".to_owned(), "key"),
    ] {
        for method in ["GET", "PUT", "DELETE"] {
            let (named, _) = refused(&world, [method, &path, "1"], 400, "BadName").await;
            assert_eq!(named, field, "{method} {path}");
        }
    }
    for body in [r#"{"key":"a b","value":1}"#, r#"{"entries":{"":1}}"#] {
        let (named, _) = refused(&world, ["POST", "/config/web/dev", body], 400, "BadName").await;
        assert_eq!(named, "key");
    }
    refused(&world, ["GET", "/config/web/dev/%zz", ""], 400, "BadQuery").await;
    let fits = format!("/config/{}/{}/{}", "s".repeat(64), "e".repeat(64), "k".repeat(255));
    world.put(&fits, "1").await.expect(201);
    world.get("/config/web/dev/server%3Aport").await.expect(404);
}

#[tokio::test]
async fn bodies_past_their_limits_and_of_other_types() {
    let mut settings = Settings::default();
    settings.limits.value_bytes_max = 100;
    settings.limits.body_bytes_max = 1000;
    settings.limits.entries_per_write_max = 2;
    settings.limits.message_bytes_max = 4;
    let world = world_with(settings).await;
    let key = "/config/web/dev/a";
    let value = |len: usize| format!("\"{}\"", "x".repeat(len - 2));
    let (named, _) = refused(&world, ["PUT", key, &value(101)], 413, "ValueTooLarge").await;
    assert_eq!(named, "a");
    world.put(key, &value(100)).await.expect(201);
    refused(&world, ["PUT", key, &value(1001)], 413, "BodyTooLarge").await;
    let post = |body: &'static str| ["POST", "/config/web/dev", body];
    refused(&world, post(r#"{"entries":{"a":1,"b":1,"c":1}}"#), 413, "TooManyEntries").await;
    let long = r#"{"key":"a","value":1,"message":"12345"}"#;
    assert_eq!(refused(&world, post(long), 400, "BadField").await.0, "message");
    refused(&world, ["PUT", &format!("{key}?message=12345"), "1"], 400, "BadField").await;
    // What merging makes is checked, too.
    world.put("/config/web/dev/m", r#"{"a":"0123456789012345678901234567890123456789"}"#).await;
    let more = format!(r#"{{"b":{}}}"#, value(80));
    let (named, _) = refused(&world, ["PATCH", "/config/web/dev/m", &more], 422, "BadValue").await;
    assert_eq!(named, "m");
    for kind in ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=x"] {
        let mut asked = world.request("PUT", key).header("content-type", kind);
        asked = asked.header("content-length", "1");
        asked.send().await.expect_error(415, "UnsupportedMediaType");
    }
}

#[tokio::test]
async fn json_that_is_none_or_too_deep_or_doubled() {
    let world = world().await;
    let key = "/config/web/dev/a";
    let deep = format!("{}{}", "[".repeat(65), "]".repeat(65));
    for (body, part) in [
        ("", "line 1 column 0"),
        ("{", "line 1 column 1"),
        ("1 2", "line 1 column 3"),
        ("nul", "line 1"),
        ("'a'", "line 1 column 1"),
        (r#"{"a":1,"a":2}"#, "stands twice"),
        (&deep, "64 levels"),
    ] {
        for method in ["PUT", "PATCH"] {
            let (_, detail) = refused(&world, [method, key, body], 400, "BadJson").await;
            assert!(detail.contains(part), "{body}: {detail}");
        }
    }
    let deepest = "[".repeat(1_000_000);
    refused(&world, ["PUT", key, &deepest], 400, "BadJson").await;
    let document = "/config/web/dev";
    for (body, name, named) in [
        (r#"{"entries":{"a":1,"a":2}}"#, "DuplicateKey", "a"),
        (r#"{"entries":{"a":1,"\u0061":2}}"#, "DuplicateKey", "a"),
        (r#"{"key":"a","value":1,"valeu":2}"#, "UnknownField", "valeu"),
        (r#"{"key":"a"}"#, "BadField", "value"),
        (r#"{"entries":{}}"#, "BadField", "entries"),
        (r#"{"entries":[{"key":"a","value":1},7]}"#, "BadJson", ""),
        ("[]", "BadJson", ""),
    ] {
        let (found, _) = refused(&world, ["POST", document, body], 400, name).await;
        assert_eq!(found, named, "{body}");
    }
    world.get(key).await.expect(404);
}

#[tokio::test]
async fn cursors_sizes_and_parameters() {
    let world = world().await;
    world.post("/config/web/dev", r#"{"entries":{"a":1,"b":2,"c":3}}"#).await.expect(201);
    let page = world.get("/config/web/dev?size=1").await.json();
    let cursor = page["next_cursor"].as_str().unwrap();
    for path in [
        "/config/web/dev?cursor=xyz".to_owned(),
        "/config/web/dev?cursor=".to_owned(),
        format!("/config/web/prod?cursor={cursor}"),
        format!("/config/web/dev?prefix=b&cursor={cursor}"),
        format!("/config?cursor={cursor}"),
        format!("/config/web/dev/a/versions?cursor={cursor}"),
        format!("/config/web/dev?cursor={}", "A".repeat(2000)),
    ] {
        refused(&world, ["GET", &path, ""], 400, "BadCursor").await;
    }
    for (query, field) in [
        ("size=0", "size"),
        ("size=100000", "size"),
        ("size=-1", "size"),
        ("size=ten", "size"),
        ("size=1&size=2", "size"),
        ("limit=5", "limit"),
        ("prefix=%ff", "prefix"),
    ] {
        let path = format!("/config/web/dev?{query}");
        assert_eq!(refused(&world, ["GET", &path, ""], 400, "BadQuery").await.0, field);
    }
    refused(&world, ["GET", "/config/web/dev/a?size=1", ""], 400, "BadQuery").await;
    refused(&world, ["PUT", "/config/web/dev/a?msg=x", "1"], 400, "BadQuery").await;
    refused(&world, ["PUT", "/config/web/dev/a?expect_version=x", "1"], 400, "BadQuery").await;
}

#[tokio::test]
async fn versions_that_are_none() {
    let world = world().await;
    world.put("/config/web/dev/a", "1").await.expect(201);
    for bad in ["0", "x", "1@", "1@xyz", "-1", "1.0"] {
        let path = format!("/config/web/dev/a/versions/{bad}");
        assert_eq!(refused(&world, ["GET", &path, ""], 400, "BadField").await.0, "version");
        let body = json!({ "version": bad }).to_string();
        let restore = ["POST", "/config/web/dev/a/restore", &body];
        assert_eq!(refused(&world, restore, 400, "BadField").await.0, "version");
    }
    refused(&world, ["GET", "/config/web/dev/a/versions/2", ""], 404, "NotFound").await;
    refused(&world, ["POST", "/config/web/dev/a/restore", "{}"], 400, "BadField").await;
}

#[tokio::test]
async fn headers_that_say_nothing_meant() {
    let world = world().await;
    for (name, value) in [
        ("holm-wait", "soon"),
        ("holm-wait", "31s"),
        ("holm-wait", "5"),
        ("holm-ack", "everyone"),
        ("holm-ack", "2"),
        ("holm-ack", "local; timeout=1h"),
        ("if-match", "unquoted"),
        ("if-none-match", "\"a\""),
        ("idempotency-key", "a b"),
    ] {
        let asked = world.request("PUT", "/config/web/dev/a").header(name, value).body("1");
        let error = asked.send().await.expect_error(400, "BadHeader");
        assert_eq!(error["field"].as_str().unwrap().to_lowercase(), name, "{value}");
    }
    let both = world.request("POST", "/config/web/dev").header("if-match", "*");
    let both = both.body(r#"{"entries":{"a":1,"b":1}}"#).send().await;
    both.expect_error(400, "BadHeader");
    world.get("/config/web/dev/a").await.expect(404);
}

#[tokio::test]
async fn paths_and_methods_that_are_not_there() {
    let world = world().await;
    for path in ["/", "/config/", "/config/web", "/config/web/dev/", "/config/a/b/c/d", "/x"] {
        refused(&world, ["GET", path, ""], 404, "NotFound").await;
    }
    for (method, path, allow) in [
        ("PUT", "/config/web/dev", "GET, HEAD, POST, DELETE, WATCH, OPTIONS"),
        ("POST", "/config/web/dev/a", "GET, HEAD, PUT, PATCH, DELETE, OPTIONS"),
        ("WATCH", "/config/web/dev/a", "GET, HEAD, PUT, PATCH, DELETE, OPTIONS"),
        ("BREW", "/config", "GET, HEAD, OPTIONS"),
        ("GET", "/config/web/dev/a/restore", "POST, OPTIONS"),
    ] {
        let answer = world.request(method, path).send().await;
        assert_eq!(answer.header("allow"), allow);
        answer.expect_error(405, "MethodNotAllowed");
    }
    let options = world.request("OPTIONS", "/config/web/dev").token(None).send().await.expect(204);
    assert!(options.header("allow").contains("WATCH"));
    world.put("/config/web/dev/a", "1").await.expect(201);
    for path in ["/config", "/config/web/dev", "/config/web/dev/a", "/healthz"] {
        let head = world.request("HEAD", path).send().await.expect(200);
        assert_eq!(head.body, "");
        assert!(head.header("content-length").parse::<usize>().unwrap() > 0, "{path}");
    }
}

#[tokio::test]
async fn every_answer_names_its_request() {
    let world = world().await;
    let asked = world.request("GET", "/config/web/dev/none").header("x-request-id", "mine-1");
    assert_eq!(asked.send().await.header("x-request-id"), "mine-1");
    let first = world.get("/healthz").await.header("x-request-id").to_owned();
    let second = world.request("GET", "/nowhere").header("x-request-id", "<x>").send().await;
    assert!(second.header("x-request-id") != first && second.header("x-request-id") != "<x>");
}

#[tokio::test]
async fn a_full_disk_refuses_writes_and_goes_on_with_reads_until_there_is_room() {
    let world = world().await;
    world.put("/config/web/dev/a", "1").await.expect(201);
    world.disk.fill(0);
    let big = format!("\"{}\"", "x".repeat(200_000));
    let mut status = 200;
    // What is left in the file's free pages may take some.
    for i in 0..200 {
        let answer = world.put(&format!("/config/web/dev/b{i}"), &big).await;
        status = answer.status.as_u16();
        if status != 201 {
            answer.expect_error(507, "StorageFull");
            break;
        }
    }
    assert_eq!(status, 507);
    world.get("/config/web/dev/a").await.expect(200);
    world.disk.free();
    let patience = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    while world.put("/config/web/dev/c", "1").await.status != 201 {
        assert!(tokio::time::Instant::now() < patience, "it does not recover");
        // A store that failed is tried again after a while of its own clock.
        world.clock.advance(std::time::Duration::from_secs(1));
    }
    world.get("/config/web/dev/a").await.expect(200);
}
