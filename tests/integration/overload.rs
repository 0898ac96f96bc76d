//! One node under ten times the load that it takes at once, from clients of every bad kind: it stays
//! within its memory, answers about its health all along, keeps what it has acknowledged, and serves
//! again as soon as they are gone. Nothing here is measured in time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::cluster::{PATIENCE, eventually};
use crate::process::{Process, Site};

/// What the node takes at once; the load is ten times as much of each.
const REQUESTS_MAX: usize = 64;
const WRITES_MAX: usize = 16;
const SETTINGS: &str = "
    [limits]
    requests_max = 64
    writes_max = 16
    body_bytes_max = 1048576
    bodies_bytes_max = 8388608
    page_bytes_max = 8388608
    answers_bytes_max = 16777216
    [rates]
    reads_per_second = 0
    writes_per_second = 0
    [http]
    header_read_timeout = \"2s\"
";
/// `answers_bytes_max` has room for two pages; unread, this many would be 800 MB. A page is more
/// than the system's own buffers take.
const PAGE_READERS: usize = 128;
const PAGE_KEYS: usize = 300;
/// What the node may grow by: bodies and answers 24 MiB, 500 connections with up to 128 KiB each, the
/// pages that are put together at one moment, what is written meanwhile (in memory, and in the store's
/// cache, which has a bound), and what the allocator keeps of all this. Half of the unread pages.
const GROWTH_MAX_KIB: u64 = 400 * 1024;
const LOAD_TIME: Duration = Duration::from_secs(6);

/// A client of one connection.
struct Client {
    stream: TcpStream,
    token: Arc<str>,
}

impl Client {
    async fn connect(port: u16, token: &Arc<str>) -> std::io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        // So that what is not read stays with the node, not in this machine's buffers.
        socket.set_recv_buffer_size(8 * 1024)?;
        let stream = socket.connect(([127, 0, 0, 1], port).into()).await?;
        Ok(Self { stream, token: token.clone() })
    }

    async fn send(&mut self, line: &str, more: &str, body: &str) -> std::io::Result<()> {
        let head = format!(
            "{line} HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {}\r\ncontent-length: {}\r\n{more}\r\n",
            self.token,
            body.len()
        );
        self.stream.write_all(head.as_bytes()).await?;
        self.stream.write_all(body.as_bytes()).await
    }

    /// Sends a request and reads its answer: its status and body.
    async fn ask(&mut self, line: &str, body: &str) -> std::io::Result<(u16, Vec<u8>)> {
        self.send(line, "", body).await?;
        let mut read = Vec::new();
        loop {
            if let Some(end) = read.windows(4).position(|it| it == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&read[..end]).to_ascii_lowercase();
                let len = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                let len: usize = len.unwrap_or("0").parse().unwrap();
                let mut body = read.split_off(end + 4);
                let there = body.len();
                body.resize(len, 0);
                self.stream.read_exact(&mut body[there..]).await?;
                return Ok((head[9..12].parse().unwrap(), body));
            }
            if self.stream.read_buf(&mut read).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

/// What all clients share.
struct Load {
    port: u16,
    token: Arc<str>,
    over: AtomicBool,
    served: AtomicU64,
    refused: AtomicU64,
}

impl Load {
    fn is_on(&self) -> bool {
        !self.over.load(Ordering::Relaxed)
    }

    fn count(&self, status: u16) {
        match status {
            200 | 201 => self.served.fetch_add(1, Ordering::Relaxed),
            408 | 429 | 503 => self.refused.fetch_add(1, Ordering::Relaxed),
            other => panic!("an answer {other}"),
        };
    }

    async fn client(&self) -> Option<Client> {
        let client = Client::connect(self.port, &self.token).await.ok();
        if client.is_none() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        client
    }
}

/// Writes a key again and again: the last number that was acknowledged, and the last one sent.
async fn write(load: Arc<Load>, which: usize) -> (u64, u64) {
    let (mut acknowledged, mut sent) = (0, 0);
    let filler = "x".repeat(1024);
    while load.is_on() {
        let Some(mut client) = load.client().await else { continue };
        while load.is_on() {
            sent += 1;
            let body = format!("{{\"n\":{sent},\"filler\":\"{filler}\"}}");
            let line = format!("PUT /config/load/prod/k{which}");
            let Ok((status, _)) = client.ask(&line, &body).await else { break };
            load.count(status);
            if status < 300 {
                acknowledged = sent;
            } else {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
    (acknowledged, sent)
}

/// Asks for pages and does not read them.
async fn leave_pages_unread(load: Arc<Load>) {
    while load.is_on() {
        let Some(mut client) = load.client().await else { continue };
        if client.send("GET /config/pages/prod?size=1000", "", "").await.is_err() {
            continue;
        }
        let mut status = [0; 12];
        if client.stream.read_exact(&mut status).await.is_ok() {
            load.count(String::from_utf8_lossy(&status[9..]).parse().unwrap());
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Sends a part of a request and no more, until it is cut or the load is over.
async fn stop_halfway(load: Arc<Load>, part: String) {
    while load.is_on() {
        let Some(mut client) = load.client().await else { continue };
        let _ = client.stream.write_all(part.as_bytes()).await;
        let mut all = Vec::new();
        let cut = client.stream.read_to_end(&mut all);
        let _ = tokio::time::timeout(LOAD_TIME, cut).await;
    }
}

/// Opens a watch and never reads.
async fn watch_without_reading(load: Arc<Load>) {
    let Some(mut client) = load.client().await else { return };
    let _ = client.send("GET /config/load/prod", "accept: text/event-stream\r\n", "").await;
    while load.is_on() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Asks how the node is until the load is over; each time it has to answer.
async fn look_after_health(load: Arc<Load>) -> u64 {
    let mut asked = 0;
    let mut client = Client::connect(load.port, &load.token).await.unwrap();
    while load.is_on() {
        for line in ["GET /healthz", "GET /cluster"] {
            let answer = async {
                if let Ok(answer) = client.ask(line, "").await {
                    return answer;
                }
                // It was idle for too long: this test had no processor.
                client = Client::connect(load.port, &load.token).await.unwrap();
                client.ask(line, "").await.expect("a new connection is served")
            };
            let (status, _) = tokio::time::timeout(PATIENCE, answer).await.expect("it answers");
            assert_eq!(status, 200, "{line}");
            asked += 1;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    asked
}

fn memory_kib(process: &Process, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.0.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse().unwrap()
}

/// Fills the pages that are read, and gives the node's memory then.
async fn prepare(load: &Load, process: &Process) -> u64 {
    let mut client = Client::connect(load.port, &load.token).await.unwrap();
    let value = "x".repeat(20 * 1024);
    for i in 0..PAGE_KEYS {
        let line = format!("PUT /config/pages/prod/k{i}");
        let (status, _) = client.ask(&line, &format!("\"{value}\"")).await.unwrap();
        assert_eq!(status, 201);
    }
    let (status, page) = client.ask("GET /config/pages/prod?size=1000", "").await.unwrap();
    assert!(status == 200 && page.len() > 6_000_000, "{status}: {} bytes", page.len());
    memory_kib(process, "VmRSS:")
}

fn shed(metrics: &str) -> BTreeMap<&str, u64> {
    let lines = metrics.lines().filter_map(|line| line.strip_prefix("holm_shed_total{reason=\""));
    lines
        .filter_map(|line| line.split_once("\"} "))
        .map(|(reason, count)| (reason, count.parse().unwrap()))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_times_the_load_is_shed_and_leaves_nothing_behind() {
    let site = Site::with(SETTINGS, "config:* cluster:read");
    let process = site.serve_logged(0);
    eventually("answers", async || site.vector(0).await.is_some()).await;
    let load = Arc::new(Load {
        port: site.http[0],
        token: site.token.as_str().into(),
        over: AtomicBool::new(false),
        served: AtomicU64::new(0),
        refused: AtomicU64::new(0),
    });
    let before = prepare(&load, &process).await;
    let health = tokio::spawn(look_after_health(load.clone()));
    let writers: Vec<_> =
        (0..WRITES_MAX * 10).map(|which| tokio::spawn(write(load.clone(), which))).collect();
    let mut others = tokio::task::JoinSet::new();
    for _ in 0..PAGE_READERS {
        others.spawn(leave_pages_unread(load.clone()));
    }
    let head = format!("host: h\r\nauthorization: Bearer {}\r\n", load.token);
    for i in 0..REQUESTS_MAX {
        let line = format!("PUT /config/load/prod/s{i} HTTP/1.1\r\n");
        let stopped =
            format!("{line}{head}content-length: 200000\r\n\r\n\"{}", "x".repeat(100_000));
        others.spawn(stop_halfway(load.clone(), stopped));
        others.spawn(stop_halfway(load.clone(), "GET /healthz HTTP/1.1\r\nx: y\r\n".to_owned()));
        others.spawn(watch_without_reading(load.clone()));
    }
    tokio::time::sleep(LOAD_TIME).await;
    load.over.store(true, Ordering::Relaxed);
    let asked = health.await.unwrap();
    let mut written = Vec::new();
    for writer in writers {
        written.push(writer.await.unwrap());
    }
    others.abort_all();
    while let Some(ended) = others.join_next().await {
        assert!(ended.is_ok() || ended.unwrap_err().is_cancelled(), "a client failed");
    }

    // At once: the first request after it is served.
    let mut client = Client::connect(load.port, &load.token).await.unwrap();
    let (status, _) = client.ask("PUT /config/load/prod/after", "1").await.unwrap();
    assert_eq!(status, 201, "a change is taken as soon as the load is over");
    let mut acknowledged_in_all = 0;
    for (which, (acknowledged, sent)) in written.into_iter().enumerate() {
        let (status, body) =
            client.ask(&format!("GET /config/load/prod/k{which}"), "").await.unwrap();
        acknowledged_in_all += acknowledged;
        if acknowledged == 0 && status == 404 {
            continue;
        }
        let item: Value = serde_json::from_slice(&body).unwrap();
        let n = item["value"]["n"].as_u64().unwrap();
        assert!((acknowledged..=sent).contains(&n), "k{which}: {acknowledged}..={sent}, not {n}");
    }
    let (served, refused) =
        (load.served.load(Ordering::Relaxed), load.refused.load(Ordering::Relaxed));
    let grown = memory_kib(&process, "VmHWM:").saturating_sub(before);
    let (_, metrics) = client.ask("GET /metrics", "").await.unwrap();
    let metrics = String::from_utf8(metrics).unwrap();
    let shed = shed(&metrics);
    println!("served {served}, refused {refused}, health {asked}, grown {grown} KiB, {shed:?}");
    assert!(acknowledged_in_all > 0 && asked > 0);
    for reason in ["load_writes", "answer_bytes", "slow_headers"] {
        assert!(shed[reason] > 0, "nothing was shed for {reason}: {shed:?}");
    }
    assert!(grown < GROWTH_MAX_KIB, "the node grew by {grown} KiB");
}
