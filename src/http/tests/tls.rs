//! Claims about TLS in front of the routes: its limits, and those of HTTP/2.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::harness::{World, world_with};
use crate::env::{Entropy, Network as _, SystemClock, SystemNetwork, WallClock};
use crate::http::{Door, serve_behind};
use crate::model::NodeName;
use crate::settings::Settings;
use crate::transport::https::{ALPN_H2, HttpsFiles};
use crate::transport::{Authority, IdentityFiles};

/// How long anything may take that has to happen in the end.
const PATIENCE: Duration = Duration::from_secs(20);

/// A world behind TLS, and the authority's certificate.
struct Site {
    world: World,
    addr: std::net::SocketAddr,
    ca: Vec<u8>,
    _server: tokio::task::JoinHandle<()>,
}

async fn site(change: impl FnOnce(&mut Settings)) -> Site {
    let mut settings = Settings::default();
    change(&mut settings);
    let tls = settings.tls.clone();
    let world = world_with(settings).await;
    let (dir, entropy) = (tempfile::tempdir().unwrap(), Entropy::system());
    let authority = Authority::create(&entropy, &SystemClock).unwrap();
    authority.save(dir.path()).unwrap();
    let node = NodeName::new("localhost").unwrap();
    let identity = authority.issue(&node, &entropy, &SystemClock).unwrap();
    identity.save(dir.path(), "localhost").unwrap();
    let files = IdentityFiles::of(dir.path(), &node);
    let files = HttpsFiles {
        certificate: files.certificate,
        key: files.key,
        client_authorities: None,
        is_client_certificate_required: false,
        is_tls12_spoken: false,
    };
    let clock: Arc<dyn WallClock> = Arc::new(SystemClock);
    let door = Arc::new(Door::new(files.load(&clock).unwrap().config, &tls));
    let listener = SystemNetwork::new(None).listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let addr = listener.local_addr().unwrap();
    let serving = serve_behind(listener, Some(door), world.app.clone(), world.router.clone());
    let ca = std::fs::read(dir.path().join("ca.pem")).unwrap();
    Site { world, addr, ca, _server: tokio::spawn(serving) }
}

impl Site {
    async fn connect(&self, window: u32) -> http2::SendRequest<Empty<bytes::Bytes>> {
        let trust = crate::env::roots::Trust::Pem(&self.ca);
        let mut config = crate::env::roots::config(trust, None).unwrap();
        config.alpn_protocols = vec![ALPN_H2.to_vec()];
        let stream = TcpStream::connect(self.addr).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let stream = connector.connect(name, stream).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(ALPN_H2));
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.initial_stream_window_size(window).initial_connection_window_size(1 << 24);
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        sender
    }

    fn get(&self, path: &str) -> hyper::Request<Empty<bytes::Bytes>> {
        let token = format!("Bearer {}", self.world.token("config:*"));
        let request = hyper::Request::get(format!("https://localhost{path}"));
        request.header("authorization", token).body(Empty::new()).unwrap()
    }
}

#[tokio::test]
async fn over_http_2_an_answer_that_nobody_reads_ends_its_connection_and_one_that_is_read_does_not()
{
    let site = site(|settings| {
        settings.http.write_timeout = Duration::from_millis(400);
        settings.http.header_read_timeout = PATIENCE;
    })
    .await;
    let value = format!("\"{}\"", "x".repeat(200_000));
    site.world.put("/config/web/dev/big", &value).await.expect(201);
    // The window takes a part of the answer, or nothing; the socket would take all of it.
    for window in [10_000, 0] {
        let mut sender = site.connect(window).await;
        let unread = sender.send_request(site.get("/config/web/dev/big")).await.unwrap();
        assert_eq!(unread.status(), 200);
        timeout(PATIENCE, async {
            while !sender.is_closed() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await
        .unwrap_or_else(|_| panic!("with a window of {window}, the connection is not closed"));
    }
    // Slowly, but read: longer than the limit in all.
    let mut sender = site.connect(65_535).await;
    let mut read = sender.send_request(site.get("/config/web/dev/big")).await.unwrap().into_body();
    let (mut len, started) = (0, Instant::now());
    while let Some(frame) = read.frame().await {
        len += frame.unwrap().into_data().unwrap().len();
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
    assert!(len > 200_000 && started.elapsed() > Duration::from_millis(600), "{len}");
}

#[tokio::test]
async fn over_http_2_small_answers_count_until_they_are_read() {
    let site = site(|settings| {
        settings.limits.answers_bytes_max = 40 * 1024;
        settings.http.write_timeout = PATIENCE;
    })
    .await;
    let value = format!("\"{}\"", "x".repeat(30_000));
    site.world.put("/config/web/dev/small", &value).await.expect(201);
    let status = async |sender: &mut http2::SendRequest<Empty<bytes::Bytes>>| {
        let answer = sender.send_request(site.get("/config/web/dev/small")).await.unwrap();
        (answer.status().as_u16(), answer)
    };
    let mut closed = site.connect(0).await;
    let (first, unread) = status(&mut closed).await;
    let mut open = site.connect(65_535).await;
    let (second, _) = status(&mut open).await;
    assert_eq!((first, second), (200, 503), "there is room for one");
    let counted = site.world.app.node().metrics().render();
    let is_refusal =
        |line: &str| line.starts_with("holm_http_requests_total{") && line.contains("\"503\"} 1");
    assert!(counted.lines().any(is_refusal), "what was sent is what is counted: {counted}");
    let health = open.send_request(site.get("/healthz")).await.unwrap();
    assert_eq!(health.status(), 200, "it takes no room");
    drop((unread, closed));
    timeout(PATIENCE, async {
        while status(&mut open).await.0 != 200 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("the room comes back");
}

#[tokio::test]
async fn over_http_2_a_connection_without_requests_is_ended_and_one_with_a_watch_is_not() {
    let site = site(|settings| {
        settings.http.header_read_timeout = Duration::from_millis(300);
        settings.http.heartbeat_every = PATIENCE;
    })
    .await;
    let mut busy = site.connect(65_535).await;
    let mut watch = site.get("/config/web/dev");
    watch.headers_mut().insert("accept", "text/event-stream".parse().unwrap());
    let mut events = busy.send_request(watch).await.unwrap().into_body();
    let mut idle = site.connect(65_535).await;
    let health = idle.send_request(site.get("/healthz")).await.unwrap();
    assert_eq!(health.status(), 200);
    health.collect().await.unwrap();
    timeout(PATIENCE, async {
        while !idle.is_closed() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("the idle connection is closed");
    assert!(!busy.is_closed());
    site.world.put("/config/web/dev/a", "1").await.expect(201);
    let mut seen = String::new();
    while !seen.contains("event: put") {
        let frame = timeout(PATIENCE, events.frame()).await.unwrap().unwrap().unwrap();
        seen += &String::from_utf8_lossy(&frame.into_data().unwrap());
    }
}

#[tokio::test]
async fn a_handshake_that_takes_too_long_is_ended_and_too_many_at_once_are_not_begun() {
    let site = site(|settings| {
        settings.tls.handshake_timeout = Duration::from_millis(500);
        settings.tls.handshakes_max = 2;
    })
    .await;
    let started = Instant::now();
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(site.addr).await.unwrap();
        // A handshake record that does not end.
        stream.write_all(b"\x16\x03\x01\x02\x00").await.unwrap();
        held.push(stream);
    }
    let count = |reason: &str| {
        let text = site.world.app.node().metrics().render();
        let start = format!("holm_tls_handshakes_failed_total{{reason=\"{reason}\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&start)?.parse::<u64>().ok()).unwrap_or(0)
    };
    let ended = async |stream: &mut TcpStream| {
        timeout(PATIENCE, stream.read(&mut [0; 64])).await.expect("it ends")
    };
    // Once both are under way, a third is closed at once.
    timeout(PATIENCE, async {
        while count("busy") == 0 && started.elapsed() < Duration::from_millis(400) {
            let mut third = TcpStream::connect(site.addr).await.unwrap();
            let _ = timeout(Duration::from_millis(20), third.read(&mut [0; 1])).await;
        }
    })
    .await
    .unwrap();
    assert!(count("busy") > 0);
    for stream in &mut held {
        let _ = ended(stream).await;
    }
    assert!(started.elapsed() >= Duration::from_millis(500));
    assert_eq!(count("timeout"), 2);
    // There is room again.
    let mut sender = site.connect(65_535).await;
    let answer = sender.send_request(site.get("/config/web/dev")).await.unwrap();
    assert_eq!(answer.status(), 200);
}
