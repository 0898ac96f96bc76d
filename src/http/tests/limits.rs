//! What is refused, cut and given up, so that a node stays within its limits.

use std::time::Duration;

use axum::body::Body;
use axum::http::header;
use axum::response::Response;
use futures_util::StreamExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::connections::serve;
use super::harness::{World, world, world_with};
use crate::http::limits;
use crate::http::operation::Operation;
use crate::settings::Settings;

/// How long anything may take that has to happen in the end.
const PATIENCE: Duration = Duration::from_secs(20);

fn settings(change: impl FnOnce(&mut Settings)) -> Settings {
    let mut settings = Settings::default();
    change(&mut settings);
    settings
}

fn shed(world: &World, reason: &str) -> u64 {
    let text = world.app.node().metrics().render();
    let start = format!("holm_shed_total{{reason=\"{reason}\"}} ");
    let line = text.lines().find_map(|line| line.strip_prefix(&start));
    line.unwrap_or_else(|| panic!("no {reason}")).parse().unwrap()
}

/// What the server says until it closes, or until `end` has come.
async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut all = Vec::new();
    let reading = async {
        let mut piece = [0; 4096];
        while !String::from_utf8_lossy(&all).contains(end) {
            match stream.read(&mut piece).await {
                Ok(0) | Err(_) => break,
                Ok(len) => all.extend_from_slice(&piece[..len]),
            }
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("the server says it, or closes");
    String::from_utf8_lossy(&all).into_owned()
}

#[tokio::test]
async fn a_client_that_asks_too_often_is_told_when_to_come_back() {
    let world = world_with(settings(|it| {
        it.rates.writes_per_second = 1;
        it.rates.writes_burst = 3;
        it.rates.reads_per_second = 1;
        it.rates.reads_burst = 2;
    }))
    .await;
    for value in ["1", "2", "3"] {
        world.put("/config/web/dev/a", value).await;
    }
    let refused = world.put("/config/web/dev/a", "4").await.expect(429);
    assert_eq!(refused.header("ratelimit-policy"), "\"writes\";q=3;w=3");
    assert_eq!(refused.header("ratelimit"), "\"writes\";r=0;t=1");
    assert_eq!(refused.header("retry-after"), "1");
    refused.expect_error(429, "TooManyRequests");
    let read = world.get("/config/web/dev/a").await.expect(200);
    assert_eq!(read.json()["value"], 3, "what was refused was not done, and reads go on");
    let read = world.get("/config/web/dev/a").await.expect(200);
    assert_eq!(read.header("ratelimit"), "\"reads\";r=0;t=1");
    world.get("/config/web/dev/a").await.expect_error(429, "TooManyRequests");
    let mut claims = super::harness::claims("config:*");
    claims["sub"] = "grace".into();
    let other = world.mint.sign(&claims).unwrap();
    world.request("GET", "/config/web/dev/a").token(Some(&other)).send().await.expect(200);
    assert_eq!((shed(&world, "rate_writes"), shed(&world, "rate_reads")), (1, 1));
    for path in ["/healthz", "/metrics"] {
        world.request("GET", path).token(None).send().await.expect(200);
    }
}

#[tokio::test]
async fn who_guesses_tokens_is_slowed_down_and_nobody_else() {
    let world = world_with(settings(|it| {
        it.rates.strangers_per_second = 1;
        it.rates.strangers_burst = 3;
    }))
    .await;
    let guess = |token| world.request("GET", "/config").token(Some(token)).send();
    for token in ["a", "b", "c"] {
        guess(token).await.expect_error(401, "Unauthorized");
    }
    guess("d").await.expect_error(429, "TooManyRequests");
    let issue = world.request("POST", "/oauth/token").token(None).form("grant_type=x");
    issue.send().await.expect_error(429, "TooManyRequests");
    world.get("/config").await.expect(200);
    assert_eq!(shed(&world, "rate_strangers"), 2);
}

#[tokio::test]
async fn a_body_that_finds_no_room_is_refused_and_changes_nothing() {
    let world = world_with(settings(|it| {
        it.limits.body_bytes_max = 512 * 1024;
        it.limits.bodies_bytes_max = 1024 * 1024;
    }))
    .await;
    let (addr, _server) = serve(&world).await;
    let mut held = Vec::new();
    // Each sends most of what it says it will, and then waits.
    for i in 0..4 {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        let head = format!(
            "PUT /config/web/dev/k{i} HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {}\r\n\
             content-length: 260000\r\n\r\n",
            world.token("config:*")
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(format!("\"{}", "x".repeat(250_000)).as_bytes()).await.unwrap();
        held.push(stream);
    }
    let deadline = Instant::now() + PATIENCE;
    while world.app.0.gate.bodies_left() > 44 {
        assert!(Instant::now() < deadline, "what was sent is not held");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let body = format!("\"{}\"", "y".repeat(200_000));
    let refused = world.put("/config/web/dev/never", &body).await;
    refused.expect_error(503, "Overloaded");
    world.get("/config/web/dev/never").await.expect(404);
    assert_eq!(shed(&world, "body_bytes"), 1);
    // They end, and there is room again.
    for mut stream in held {
        stream.write_all(format!("{}\"", "x".repeat(9_998)).as_bytes()).await.unwrap();
        let answer = read_until(&mut stream, "\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    }
    world.put("/config/web/dev/never", &body).await.expect(201);
}

#[tokio::test]
async fn a_body_that_trickles_in_is_cut_with_a_word() {
    let mut given = settings(|it| it.http.request_timeout = Duration::from_millis(300));
    given.http.quorum_timeout = Duration::from_millis(100);
    let world = world_with(given).await;
    let (addr, _server) = serve(&world).await;
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let head = format!(
        "PUT /config/web/dev/a HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {}\r\n\
         content-length: 100\r\n\r\n\"",
        world.token("config:*")
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let (mut reader, mut writer) = stream.into_split();
    let trickle = tokio::spawn(async move {
        while writer.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, reader.read_to_end(&mut answer)).await;
    let _ = read.expect("the server closes");
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("RequestTooSlow"), "{answer}");
    trickle.abort();
    assert_eq!(shed(&world, "slow_body"), 1);
    world.get("/config/web/dev/a").await.expect(404);
}

#[tokio::test]
async fn a_slow_loris_holds_no_connection_for_long() {
    let world = world_with(settings(|it| {
        it.http.header_read_timeout = Duration::from_millis(300);
        it.limits.connections_max = 8;
    }))
    .await;
    let (addr, _server) = serve(&world).await;
    let mut lorises = Vec::new();
    for _ in 0..8 {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: h\r\n").await.unwrap();
        lorises.push(tokio::spawn(async move {
            let (mut reader, mut writer) = stream.into_split();
            // A header now and then, and never the end of them.
            let trickle = async {
                while writer.write_all(b"x: y\r\n").await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            let mut told = Vec::new();
            tokio::select! {
                _ = reader.read_to_end(&mut told) => {}
                () = trickle => {}
            }
            told
        }));
    }
    for loris in lorises {
        tokio::time::timeout(PATIENCE, loris).await.expect("it is cut").unwrap();
    }
    assert_eq!(shed(&world, "slow_headers"), 8);
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: h\r\n\r\n").await.unwrap();
    let answer = read_until(&mut stream, "\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "others find room again: {answer}");
}

#[tokio::test]
async fn an_address_has_its_share_of_the_connections() {
    let world = world_with(settings(|it| it.limits.connections_per_address_max = 2)).await;
    let (addr, _server) = serve(&world).await;
    const ASK: &[u8] = b"GET /healthz HTTP/1.1\r\nhost: h\r\n\r\n";
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.write_all(ASK).await.unwrap();
        assert!(read_until(&mut stream, "\r\n\r\n").await.starts_with("HTTP/1.1 200"));
        open.push(stream);
    }
    let mut third = TcpStream::connect(addr).await.unwrap();
    let _ = third.write_all(ASK).await;
    assert_eq!(read_until(&mut third, "\r\n\r\n").await, "");
    assert_eq!(shed(&world, "connections_of_address"), 1);
    let from = std::net::SocketAddr::from(([127, 0, 0, 2], 0));
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(from).unwrap();
    let mut other = socket.connect(addr).await.unwrap();
    other.write_all(ASK).await.unwrap();
    assert!(
        read_until(&mut other, "\r\n\r\n").await.starts_with("HTTP/1.1 200"),
        "another address"
    );
}

#[tokio::test]
async fn a_client_has_its_share_of_the_watches() {
    let world = world_with(settings(|it| {
        it.limits.watchers_per_client_max = 1;
        it.limits.watchers_max = 2;
    }))
    .await;
    let token = |subject: &str| {
        let mut claims = super::harness::claims("config:*");
        claims["sub"] = subject.into();
        world.mint.sign(&claims).unwrap()
    };
    let watch =
        |subject: &str| world.request("WATCH", "/config/web/dev").token(Some(&token(subject)));
    let first = watch("ada").open().await;
    assert_eq!(first.status(), 200);
    let refused = watch("ada").send().await;
    assert_eq!(refused.header(header::RETRY_AFTER.as_str()), "1");
    refused.expect_error(429, "TooManyWatches");
    let second = watch("grace").open().await;
    watch("alan").send().await.expect_error(503, "TooManyWatches");
    drop(first);
    let third = watch("ada").open().await;
    assert_eq!((second.status().as_u16(), third.status().as_u16()), (200, 200));
    assert_eq!((shed(&world, "watches_of_client"), shed(&world, "watches_of_node")), (1, 1));
}

#[tokio::test]
async fn a_watch_that_reads_one_state_for_too_long_ends() {
    let lag = Duration::from_millis(200);
    let world = world_with(settings(|it| it.http.watch_lag_max = lag)).await;
    let value = format!("\"{}\"", "x".repeat(100_000));
    for key in ["a", "b", "c"] {
        world.put(&format!("/config/web/dev/{key}"), &value).await.expect(201);
    }
    let open = async || {
        let response = world.request("WATCH", "/config/web/dev").open().await;
        response.into_body().into_data_stream()
    };
    let mut slow = open().await;
    let first = slow.next().await.unwrap().unwrap();
    assert!(first.starts_with(b"event: put"));
    tokio::time::sleep(lag * 2).await;
    assert_eq!(slow.next().await.unwrap().unwrap(), ": read too slowly\n\n");
    assert!(slow.next().await.is_none());
    assert_eq!(shed(&world, "slow_watch"), 1);
    // One that is idle for as long has nothing to read.
    let mut idle = open().await;
    let mut text = String::new();
    while !text.contains("event: ready") {
        text.push_str(std::str::from_utf8(&idle.next().await.unwrap().unwrap()).unwrap());
    }
    tokio::time::sleep(lag * 2).await;
    world.put("/config/web/dev/d", "1").await.expect(201);
    assert!(idle.next().await.unwrap().unwrap().starts_with(b"event: put"));
}

#[tokio::test]
async fn an_answer_that_finds_no_room_is_refused() {
    let world = world_with(settings(|it| {
        it.limits.page_bytes_max = 128 * 1024;
        it.limits.answers_bytes_max = 256 * 1024;
    }))
    .await;
    let value = format!("\"{}\"", "x".repeat(200_000));
    world.put("/config/web/dev/a", &value).await.expect(201);
    // Nobody reads it yet.
    let unread = world.request("GET", "/config/web/dev/a").open().await;
    assert_eq!(unread.status(), 200);
    world.get("/config/web/dev/a").await.expect_error(503, "Overloaded");
    world.get("/config").await.expect(200);
    assert_eq!(shed(&world, "answer_bytes"), 1);
    let large = Response::new(Body::from(vec![b'x'; 200_000]));
    let metrics = limits::send(&world.app, Operation::GetMetrics, false, large).await;
    assert_eq!((metrics.status().as_u16(), shed(&world, "answer_bytes")), (200, 1));
    drop((unread, metrics));
    let read = world.get("/config/web/dev/a").await.expect(200);
    assert_eq!(read.json()["value"].as_str().unwrap().len(), 200_000);
}

#[tokio::test]
async fn requests_past_the_limit_are_shed_while_health_is_answered() {
    let world = world_with(settings(|it| {
        it.limits.requests_max = 2;
        it.http.session_wait_default = Duration::from_secs(5);
    }))
    .await;
    // A session of another node, which is waited for.
    let seen = crate::model::Dot { origin: crate::model::Origin([9; 8]), n: 1 };
    let session = crate::model::Session::of([seen].into_iter().collect()).encode();
    let waiting =
        || world.request("GET", "/config/web/dev/a").header("holm-session", &session).open();
    let mut waiting = [Box::pin(waiting()), Box::pin(waiting())];
    for wait in &mut waiting {
        assert!(futures_util::FutureExt::now_or_never(wait.as_mut()).is_none());
    }
    let refused = world.get("/config").await;
    assert_eq!(refused.header("retry-after"), "1");
    refused.expect_error(503, "Overloaded");
    world.put("/config/web/dev/a", "1").await.expect_error(503, "Overloaded");
    for path in ["/healthz", "/readyz", "/cluster"] {
        world.get(path).await.expect(200);
    }
    assert_eq!((shed(&world, "load_reads"), shed(&world, "load_writes")), (1, 1));
    drop(waiting);
    world.put("/config/web/dev/a", "1").await.expect(201);
}

#[tokio::test]
async fn normal_use_meets_no_limit() {
    let world = world().await;
    for i in 0..200 {
        let answer = world.put("/config/web/dev/a", &i.to_string()).await;
        assert!(answer.status.is_success() && !answer.headers.contains_key("ratelimit"));
    }
}
