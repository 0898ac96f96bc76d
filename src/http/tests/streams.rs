//! Watches, over the router and over real connections.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest as _};

use super::connections::serve;
use super::harness::{Asking, World, cut_pair, world, world_with};
use crate::config::roll::Roll;
use crate::model::{DocumentId, Dot, Origin, Session, Stamp, Told};
use crate::settings::Settings;

mod events;

use events::{Event, Events};

/// How long anything may take that has to happen in the end.
const PATIENCE: Duration = Duration::from_secs(20);

fn watch<'a>(world: &'a World, query: &str) -> Asking<'a> {
    world.request("WATCH", &format!("/config/web/dev{query}"))
}

#[tokio::test]
async fn a_watch_shows_what_is_there_and_then_what_changes() {
    let world = world().await;
    world.post("/config/web/dev", r#"{"entries":{"a":1,"b":2}}"#).await.expect(201);
    world.put("/config/web/dev/gone", "1").await.expect(201);
    world.request("DELETE", "/config/web/dev/gone").send().await.expect(200);
    let get = world.request("GET", "/config/web/dev").header("accept", "text/event-stream");
    let mut events = Events::open(get).await;
    let first = events.next().await;
    let item = world.get("/config/web/dev/a").await.json();
    assert_eq!(first, Event { kind: "put".to_owned(), data: item, id: None });
    let (rest, session) = events.state().await;
    assert_eq!(rest, ["put b", "ready"]);
    assert_eq!(session, &**world.app.node().snapshot().session());
    let changed = world.post("/config/web/dev", r#"{"entries":{"c":1,"a":2}}"#).await.expect(201);
    let (change, session) = events.state().await;
    assert_eq!(change, ["put a", "put c"], "one session for both, on the last");
    assert_eq!(session, changed.header("holm-session"));
    // What changes elsewhere is not shown.
    world.put("/config/web/prod/x", "1").await.expect(201);
    let removed = world.request("DELETE", "/config/web/dev/b").send().await.expect(200);
    let event = events.next().await;
    assert_eq!((event.kind.as_str(), event.data), ("remove", removed.json()));
}

#[tokio::test]
async fn a_watch_that_has_not_seen_removals_which_are_gone_is_sent_the_whole_state() {
    let world = world().await;
    world.post("/config/web/dev", r#"{"entries":{"a":1,"b":1,"c":1}}"#).await.expect(201);
    let before = world.get("/config/web/dev").await.header("holm-session").to_owned();
    world.request("DELETE", "/config/web/dev/a").send().await.expect(200);
    let after = world.get("/config/web/dev").await.header("holm-session").to_owned();
    world.request("DELETE", "/config/web/dev/b").send().await.expect(200);
    // Both removals go; b is written again before they do.
    let (id, store) = (DocumentId::parse("web/dev").unwrap(), world.app.node().store());
    let floor = world.app.node().snapshot().vector.told();
    let removals_before = Stamp(u64::MAX);
    let plan = store.plan_roll(id.clone(), floor.clone(), removals_before).await.unwrap();
    world.put("/config/web/dev/b", "2").await.expect(201);
    let roll = Roll { epoch: plan.epoch, floor, base: plan.base, removals_before, fold: None };
    store.roll(id, roll).await.unwrap();
    let resumed = async |session: &str| {
        let query = format!("?since={session}");
        Events::open(watch(&world, &query)).await.state().await
    };
    let (state, now) = resumed(&before).await;
    assert_eq!(state, ["reset", "put b", "put c", "ready"]);
    assert_eq!(now, &**world.app.node().snapshot().session());
    assert_eq!(resumed(&after).await.0, ["reset", "put b", "put c", "ready"]);
    assert_eq!(resumed(&now).await.0, ["ready"]);
    // Who begins has nothing to forget.
    let (state, _) = Events::open(watch(&world, "")).await.state().await;
    assert_eq!(state, ["put b", "put c", "ready"]);
}

#[tokio::test]
async fn a_resumed_watch_shows_what_was_missed_and_nothing_twice() {
    let world = world().await;
    world.post("/config/web/dev", r#"{"entries":{"a":1,"b":1,"c":1}}"#).await.expect(201);
    let session = world.get("/config/web/dev").await.header("holm-session").to_owned();
    world.put("/config/web/dev/b", "2").await.expect(200);
    world.request("DELETE", "/config/web/dev/c").send().await.expect(200);
    world.put("/config/web/dev/d", "1").await.expect(201);
    let missed = ["put b", "remove c", "put d", "ready"];
    let query = format!("?since={session}");
    let (state, now) = Events::open(watch(&world, &query)).await.state().await;
    assert_eq!(state, missed);
    let header = watch(&world, "").header("last-event-id", &session);
    assert_eq!(Events::open(header).await.state().await.0, missed);
    // The header is later than the address.
    let both = watch(&world, &query).header("last-event-id", &now);
    assert_eq!(Events::open(both).await.state().await.0, ["ready"]);
}

#[tokio::test]
async fn a_watch_keeps_to_its_prefix_and_to_what_its_caller_may_read() {
    let mut settings = Settings::default();
    settings.http.heartbeat_every = Duration::from_millis(20);
    let world = world_with(settings).await;
    world.post("/config/web/dev", r#"{"entries":{"a1":1,"a2":1,"b1":1}}"#).await.expect(201);
    let mut prefix = Events::open(watch(&world, "?prefix=a")).await;
    let mut scoped = Events::open(watch(&world, "").scope("config:read:web/dev/*1")).await;
    assert_eq!(prefix.state().await.0, ["put a1", "put a2", "ready"]);
    assert_eq!(scoped.state().await.0, ["put a1", "put b1", "ready"]);
    let hidden = world.put("/config/web/dev/c3", "1").await.expect(201);
    // The session moves all the same, with a heartbeat.
    loop {
        let message = prefix.message().await.unwrap();
        let id = message.lines().find_map(|line| line.strip_prefix("id: "));
        assert!(message.starts_with(": heartbeat"), "{message}");
        if id == Some(hidden.header("holm-session")) {
            break;
        }
    }
    world.post("/config/web/dev", r#"{"entries":{"a2":2,"b1":2}}"#).await.expect(200);
    assert_eq!(prefix.state().await.0, ["put a2"]);
    assert_eq!(scoped.state().await.0, ["put b1"]);
}

#[tokio::test]
async fn a_watch_goes_on_in_another_region() {
    let (a, b, links) = cut_pair().await;
    a.post("/config/web/dev", r#"{"entries":{"a":1,"b":1}}"#).await.expect(201);
    let (_, session) = Events::open(watch(&a, "")).await.state().await;
    let since = format!("?since={session}");
    let early = watch(&b, &since).header("holm-wait", "10ms").send().await;
    early.expect_error(412, "SessionNotReached");
    // Served anyway, it shows what is here, and nothing that the session has seen.
    let anyway = watch(&b, &since).header("holm-wait", "0s").header("holm-inconsistent", "serve");
    let mut anyway = Events::open(anyway).await;
    let (state, moved) = anyway.state().await;
    assert_eq!(state, ["ready"]);
    let covers = |id: &str| {
        let seen = Session::decode(&session).unwrap().config;
        Session::decode(id).unwrap().config.may_cover(&seen)
    };
    assert!(covers(&moved), "a session never goes back");
    b.put("/config/web/dev/c", "1").await.expect(201);
    let (state, id) = anyway.state().await;
    assert_eq!(state, ["put c"]);
    assert!(covers(&id));
    links.heal_all();
    let resumed = watch(&b, &since).header("holm-wait", "20s");
    let (state, _) = Events::open(resumed).await.state().await;
    assert_eq!(state, ["put c", "ready"]);
    a.put("/config/web/dev/b", "2").await.expect(200);
    assert_eq!(anyway.state().await.0, ["put b"], "what was seen elsewhere is not sent again");
}

#[tokio::test]
async fn bad_watches_are_refused() {
    let world = world().await;
    watch(&world, "?since=xyz!").send().await.expect_error(400, "BadSession");
    watch(&world, "?from=1").send().await.expect_error(400, "BadQuery");
    watch(&world, "").header("last-event-id", "?").send().await.expect_error(400, "BadSession");
    let vector: Told = [Dot { origin: Origin([9; 8]), n: 7 }].into_iter().collect();
    let foreign = format!("?since={}", Session::of(vector).encode());
    let foreign = watch(&world, &foreign).header("holm-wait", "0s");
    foreign.send().await.expect_error(412, "SessionNotReached");
    let socket = world.request("GET", "/config/web/dev").header("upgrade", "websocket");
    socket.send().await.expect_error(426, "UpgradeRequired");
}

#[tokio::test]
async fn watches_have_a_limit_and_give_their_places_back() {
    let mut settings = Settings::default();
    settings.limits.watchers_max = 1;
    let world = world_with(settings).await;
    let mut one = Events::open(watch(&world, "")).await;
    one.state().await;
    let gauge = |world: &World| {
        let text = world.app.node().metrics().render();
        text.lines().find(|line| line.starts_with("holm_watchers ")).map(str::to_owned)
    };
    assert_eq!(gauge(&world).as_deref(), Some("holm_watchers 1"));
    watch(&world, "").send().await.expect_error(503, "TooManyWatches");
    drop(one);
    assert_eq!(gauge(&world).as_deref(), Some("holm_watchers 0"));
    Events::open(watch(&world, "")).await.state().await;
}

#[tokio::test]
async fn a_slow_reader_gets_the_newest_state_of_what_it_missed() {
    let world = world().await;
    let mut events = Events::open(watch(&world, "")).await;
    events.state().await;
    for value in 0..50 {
        world.put("/config/web/dev/hot", &value.to_string()).await;
        world.put(&format!("/config/web/dev/k{}", value % 3), &value.to_string()).await;
    }
    let (state, _) = events.state().await;
    assert_eq!(state, ["put hot", "put k0", "put k1", "put k2"]);
}

#[tokio::test]
async fn a_large_state_comes_in_parts_and_whole() {
    let world = world().await;
    let entries: serde_json::Map<String, Value> =
        (0..1000).map(|i| (format!("k{i:04}"), json!("x".repeat(300)))).collect();
    world.post("/config/web/dev", &json!({ "entries": entries }).to_string()).await.expect(201);
    let mut events = Events::open(watch(&world, "")).await;
    let first = events.next().await;
    assert_eq!(first.data["key"], "k0000");
    // In between, something else changes: what was read is of one state, and this comes after.
    world.put("/config/web/dev/k0999", "1").await.expect(200);
    let (state, _) = events.state().await;
    assert_eq!(state.len(), 1000);
    assert_eq!(state[998..], ["put k0999", "ready"]);
    let last = events.next().await;
    assert_eq!((&last.data["key"], &last.data["value"]), (&json!("k0999"), &json!(1)));
}

#[tokio::test]
async fn a_watch_ends_with_its_token_and_with_the_node() {
    let world = world().await;
    world.clock.advance(Duration::from_secs(89));
    // The token holds one more second.
    let mut expiring = Events::open(watch(&world, "")).await;
    expiring.state().await;
    assert_eq!(expiring.message().await.as_deref(), Some(": the token expired"));
    assert_eq!(expiring.message().await, None);
    let second = super::harness::world().await;
    let mut drained = Events::open(watch(&second, "")).await;
    drained.state().await;
    second.stop.send_replace(true);
    let moved = drained.next().await;
    let session = (**second.app.node().snapshot().session()).to_owned();
    let data = json!({"reason": "draining", "session": session, "nodes": []});
    assert_eq!(moved, Event { kind: "moved".into(), data, id: Some(session) });
    assert_eq!(drained.message().await, None);
}

#[tokio::test]
async fn a_slow_reader_does_not_stretch_a_state_over_its_tokens_end() {
    let world = world().await;
    let entries: serde_json::Map<String, Value> =
        (0..1000).map(|i| (format!("k{i:04}"), json!("x".repeat(300)))).collect();
    world.post("/config/web/dev", &json!({ "entries": entries }).to_string()).await.expect(201);
    world.clock.advance(Duration::from_millis(89_900));
    let mut events = Events::open(watch(&world, "")).await;
    let mut messages = vec![events.message().await.unwrap()];
    tokio::time::sleep(Duration::from_millis(110)).await;
    while let Some(message) = events.message().await {
        messages.push(message);
    }
    assert_eq!(messages.last().map(String::as_str), Some(": the token expired"));
    assert!(!messages.iter().any(|message| message.starts_with("event: ready")));
}

/// A client that keeps what a watch tells it, and is cut off again and again.
async fn mirror(
    world: &World,
    prefix: &str,
    mut patience: usize,
) -> BTreeMap<String, (u64, Value)> {
    let (mut mirror, mut since) = (BTreeMap::<String, (u64, Value)>::new(), String::new());
    loop {
        let query = format!("?prefix={prefix}{since}");
        let mut events = Events::open(watch(world, &query)).await;
        // Were it always cut off within the first state, it would never get further.
        patience += 1;
        for _ in 0..patience {
            let event = events.next().await;
            if let Some(id) = event.id {
                since = format!("&since={id}");
            }
            let Some(key) = event.data["key"].as_str() else { continue };
            let version = event.data["version"].as_u64().unwrap();
            let (before, value) = mirror.entry(key.to_owned()).or_default();
            // What came without a session comes again after a cut: the same, never older.
            assert!(version >= *before, "{key} goes back from {before} to {version}");
            *before = version;
            *value = event.data["value"].clone();
        }
        if mirror.contains_key(&format!("{prefix}end")) {
            return mirror;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn watchers_that_are_cut_off_again_and_again_miss_nothing() {
    let world = Arc::new(world().await);
    let writer = |n: usize| {
        let world = world.clone();
        tokio::spawn(async move {
            for i in 0..150 {
                let prefix = if i % 3 == 0 { "b" } else { "a" };
                let path = format!("/config/web/dev/{prefix}{}", (i * 7 + n) % 11);
                if i % 10 == 9 {
                    world.request("DELETE", &path).send().await;
                } else {
                    world.put(&path, &format!("[{n},{i}]")).await;
                }
            }
        })
    };
    let watcher = |prefix: &'static str, patience| {
        let world = world.clone();
        tokio::spawn(async move { mirror(&world, prefix, patience).await })
    };
    let watchers = [("a", 3), ("a", 40), ("b", 3), ("b", 11)];
    let watchers = watchers.map(|(prefix, patience)| (prefix, watcher(prefix, patience)));
    for writer in [0, 1, 2].map(writer) {
        writer.await.unwrap();
    }
    // One `end` would do, were nobody cut off while waiting for more.
    let ended = tokio::spawn({
        let world = world.clone();
        async move {
            loop {
                world.post("/config/web/dev", r#"{"entries":{"aend":1,"bend":1}}"#).await;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    });
    let mut mirrors = Vec::new();
    for (prefix, watcher) in watchers {
        mirrors.push((prefix, tokio::time::timeout(PATIENCE, watcher).await.unwrap().unwrap()));
    }
    ended.abort();
    for (prefix, mirror) in mirrors {
        let page = world.get(&format!("/config/web/dev?prefix={prefix}")).await.json();
        let there: BTreeMap<&str, &Value> = (page["items"].as_array().unwrap().iter())
            .map(|item| (item["key"].as_str().unwrap(), &item["value"]))
            .collect();
        let told: BTreeMap<&str, &Value> = (mirror.iter())
            .filter(|(_, (_, value))| *value != Value::Null)
            .map(|(key, (_, value))| (key.as_str(), value))
            .collect();
        assert_eq!(told, there, "{prefix}");
    }
}

#[tokio::test]
async fn a_watch_over_a_web_socket_says_the_same_and_closes_in_order() {
    let world = world().await;
    world.put("/config/web/dev/a", "1").await.expect(201);
    let (addr, server) = serve(&world).await;
    let mut request = format!("ws://{addr}/config/web/dev").into_client_request().unwrap();
    let token = format!("Bearer {}", world.token("config:read")).parse().unwrap();
    request.headers_mut().insert("authorization", token);
    let (mut socket, _) = tokio_tungstenite::connect_async(request).await.unwrap();
    async fn next(
        socket: &mut (
                 impl futures_util::Stream<Item = Result<Message, tokio_tungstenite::tungstenite::Error>>
                 + Unpin
             ),
    ) -> Value {
        let message = tokio::time::timeout(PATIENCE, socket.next()).await.unwrap();
        serde_json::from_str(message.unwrap().unwrap().to_text().unwrap()).unwrap()
    }
    let item = world.get("/config/web/dev/a").await.json();
    assert_eq!(next(&mut socket).await, json!({"event": "put", "data": item}));
    let session = (**world.app.node().snapshot().session()).to_owned();
    assert_eq!(next(&mut socket).await, json!({"event": "ready", "data": {}, "id": session}));
    socket.send(Message::text("whatever")).await.unwrap();
    let gone = world.request("DELETE", "/config/web/dev/a").send().await.expect(200);
    let event = next(&mut socket).await;
    assert_eq!((&event["event"], &event["data"]), (&json!("remove"), &gone.json()));
    assert_eq!(event["id"], gone.header("holm-session"));
    world.stop.send_replace(true);
    let moved = next(&mut socket).await;
    assert_eq!((&moved["event"], &moved["data"]["reason"]), (&json!("moved"), &json!("draining")));
    assert_eq!(moved["id"], moved["data"]["session"]);
    let closed = tokio::time::timeout(PATIENCE, socket.next()).await.unwrap();
    let Some(Ok(Message::Close(Some(frame)))) = closed else { panic!("{closed:?}") };
    assert_eq!(u16::from(frame.code), 1001);
    tokio::time::timeout(PATIENCE, server).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_watch_that_is_not_read_holds_on_to_its_own_document_alone() {
    let world = world().await;
    world.put("/config/web/dev/a", "1").await.expect(201);
    world.put("/config/web/prod/a", "1").await.expect(201);
    let view = |document: &str| {
        let id = crate::model::DocumentId::parse(document).unwrap();
        Arc::downgrade(world.app.node().snapshot().document(&id).unwrap())
    };
    let (own, other) = (view("web/dev"), view("web/prod"));
    let session = world.get("/config").await.header("holm-session").to_owned();
    let unread =
        [watch(&world, "").open().await, watch(&world, &format!("?since={session}")).open().await];
    world.put("/config/web/dev/a", "2").await.expect(200);
    world.put("/config/web/prod/a", "2").await.expect(200);
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while other.upgrade().is_some() {
        assert!(tokio::time::Instant::now() < deadline, "the other document's old state is held");
        tokio::task::yield_now().await;
    }
    assert!(own.upgrade().is_some(), "they have not been read");
    drop(unread);
}

#[tokio::test]
async fn a_watcher_that_does_not_read_gives_its_place_back() {
    let mut settings = Settings::default();
    settings.http.write_timeout = Duration::from_secs(1);
    settings.limits.watchers_max = 1;
    let world = world_with(settings).await;
    // More than the system's buffers take.
    let value = format!("\"{}\"", "x".repeat(250_000));
    for i in 0..60 {
        world.put(&format!("/config/web/dev/big{i}"), &value).await.expect(201);
    }
    let (addr, _server) = serve(&world).await;
    let token = world.token("config:*");
    for upgrade in [
        "accept: text/event-stream\r\n",
        "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
    ] {
        let mut unread = tokio::net::TcpStream::connect(addr).await.unwrap();
        let head = format!(
            "GET /config/web/dev HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {token}\r\n{upgrade}\r\n"
        );
        unread.write_all(head.as_bytes()).await.unwrap();
        unread.read_exact(&mut [0; 12]).await.unwrap();
        watch(&world, "").send().await.expect_error(503, "TooManyWatches");
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while watch(&world, "").open().await.status() != 200 {
            assert!(tokio::time::Instant::now() < deadline, "the place is held: {upgrade}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        drop(unread);
    }
}
