//! Real connections: what one may send and for how long, how many there are, and how they end.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::harness::{World, world, world_with};
use crate::settings::Settings;

/// How long anything may take that has to happen in the end.
const PATIENCE: Duration = Duration::from_secs(20);

/// Serves `world` on a port of loopback.
pub(super) async fn serve(world: &World) -> (std::net::SocketAddr, tokio::task::JoinHandle<()>) {
    use crate::env::{Network as _, SystemNetwork};
    let listener = SystemNetwork::new(None).listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let addr = listener.local_addr().unwrap();
    let server = crate::http::serve(listener, world.app.clone(), world.router.clone());
    (addr, tokio::spawn(server))
}

/// Sends text and reads until the server closes.
async fn talk(addr: std::net::SocketAddr, text: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(addr).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut all = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut all)).await;
    let _ = read.expect("the server closes");
    String::from_utf8_lossy(&all).into_owned()
}

#[tokio::test]
async fn a_connection_is_limited_in_what_it_sends_and_how_long_it_takes() {
    let mut settings = Settings::default();
    settings.http.header_read_timeout = Duration::from_millis(50);
    settings.limits.header_bytes_max = 8 * 1024;
    let world = world_with(settings).await;
    let (addr, _server) = serve(&world).await;
    let ok = talk(addr, "GET /healthz HTTP/1.1\r\nhost: h\r\n\r\n").await;
    assert!(ok.starts_with("HTTP/1.1 200 OK\r\n"), "{ok}");
    // A slow sender, a client that says nothing, and headers past their limit.
    let told = talk(addr, "GET /healthz HT").await;
    assert!(told.starts_with("HTTP/1.1 408 ") && told.contains("connection: close"), "{told}");
    assert_eq!(talk(addr, "").await, "");
    let idle = talk(addr, "GET /healthz HTTP/1.1\r\nhost: h\r\n\r\n").await;
    assert_eq!(idle.matches("HTTP/1.1").count(), 1, "an idle client is told nothing: {idle}");
    let long = format!("GET /healthz HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(20_000));
    assert!(talk(addr, &long).await.starts_with("HTTP/1.1 431"));
    let many = format!("GET /healthz HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(101));
    assert!(talk(addr, &many).await.starts_with("HTTP/1.1 431"));
    assert!(talk(addr, "\0\0\0\r\n\r\n").await.starts_with("HTTP/1.1 400"));
}

#[tokio::test]
async fn connections_past_the_limit_are_closed_at_once() {
    let mut settings = Settings::default();
    settings.limits.connections_max = 1;
    let world = world_with(settings).await;
    let (addr, _server) = serve(&world).await;
    let mut first = tokio::net::TcpStream::connect(addr).await.unwrap();
    first.write_all(b"GET /healthz HTTP/1.1\r\nhost: h\r\n\r\n").await.unwrap();
    let mut byte = [0];
    first.read_exact(&mut byte).await.unwrap();
    assert_eq!(talk(addr, "GET /healthz HTTP/1.1\r\nhost: h\r\n\r\n").await, "");
    drop(first);
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let text = "GET /healthz HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n";
        if talk(addr, text).await.starts_with("HTTP/1.1 200") {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "the place is not given back");
    }
}

#[tokio::test]
async fn a_server_that_stops_answers_what_is_under_way() {
    let world = world().await;
    let (addr, server) = serve(&world).await;
    let token = world.token("config:*");
    let mut stream = tokio::net::TcpStream::connect(addr).await.unwrap();
    let head = format!(
        "PUT /config/web/dev/a HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {token}\r\n\
         content-length: 3\r\nexpect: 100-continue\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut go_on = [0; 25];
    stream.read_exact(&mut go_on).await.unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    world.stop.send_replace(true);
    // The listener is gone once nobody can connect any more.
    while tokio::net::TcpStream::connect(addr).await.is_ok() {
        tokio::task::yield_now().await;
    }
    stream.write_all(b"123").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    tokio::time::timeout(PATIENCE, server).await.unwrap().unwrap();
}
