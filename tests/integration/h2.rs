//! Clients of HTTP/2 that behave badly, against a real process behind TLS: frames are made here byte by
//! byte (RFC 9113), so that nothing keeps a client from sending what it should not. Each has its
//! bounds, and the limits on requests hold for each request of a connection.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use holm::model::{Dot, Origin, Session};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::cluster::PATIENCE;
use crate::process::Process;
use crate::tls::Site;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// Error codes (RFC 9113, section 7).
const REFUSED_STREAM: u32 = 7;
const CANCEL: u32 = 8;

struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A number as HPACK writes it behind a prefix of 7 bits (RFC 7541, section 5.1).
fn number(bytes: &mut Vec<u8>, mut value: usize) {
    if value < 127 {
        bytes.push(u8::try_from(value).unwrap());
        return;
    }
    bytes.push(127);
    value -= 127;
    while value >= 128 {
        bytes.push(u8::try_from(value % 128 + 128).unwrap());
        value /= 128;
    }
    bytes.push(u8::try_from(value).unwrap());
}

/// Headers as HPACK has them, each a literal that nobody remembers.
fn block(headers: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in headers {
        bytes.push(0);
        for text in [name, value] {
            number(&mut bytes, text.len());
            bytes.extend(text.as_bytes());
        }
    }
    bytes
}

/// The status that an answer's headers begin with. The client has said that it remembers no headers,
/// so that it is an entry of the static table, or a literal with three digits, maybe by Huffman's code.
fn status(block: &[u8]) -> u16 {
    // Updates of the table's size.
    let start = block.iter().position(|byte| byte & 0xe0 != 0x20).unwrap();
    let block = &block[start..];
    if block[0] & 0x80 != 0 {
        return [200, 204, 206, 304, 400, 404, 500][usize::from(block[0] & 0x7f) - 8];
    }
    assert!(matches!(block[0], 0x08 | 0x18 | 0x48), "a literal of :status: {block:x?}");
    let (is_huffman, len) = (block[1] & 0x80 != 0, usize::from(block[1] & 0x7f));
    let text = &block[2..2 + len];
    if !is_huffman {
        return std::str::from_utf8(text).unwrap().parse().unwrap();
    }
    let mut bits = text.iter().flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1));
    let mut take =
        |count: usize| bits.by_ref().take(count).fold(0, |sum, bit| sum * 2 + u16::from(bit));
    (0..3).fold(0, |status, _| {
        // 0 to 2 have 5 bits, 3 to 9 have 6.
        let first = take(5);
        let digit = if first <= 2 { first } else { first * 2 + take(1) - 0x19 + 3 };
        status * 10 + digit
    })
}

/// One connection.
struct Raw {
    stream: TlsStream<TcpStream>,
    read: Vec<u8>,
    next_stream: u32,
    token: String,
}

impl Raw {
    async fn connect(site: &Site) -> Self {
        let mut roots = rustls::RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(site.path("pki/ca.pem")).unwrap() {
            roots.add(certificate.unwrap()).unwrap();
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let stream = TcpStream::connect(("127.0.0.1", site.nodes[0].1)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let stream = connector.connect(name, stream).await.unwrap();
        let mut raw = Self { stream, read: Vec::new(), next_stream: 1, token: site.token.clone() };
        let no_table = [0, 1, 0, 0, 0, 0];
        let hello = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(SETTINGS, 0, 0, &no_table)];
        assert!(raw.send(&hello.concat()).await);
        raw
    }

    /// False where the other side has closed.
    async fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).await.is_ok() && self.stream.flush().await.is_ok()
    }

    /// The next frame, or none where the other side has closed.
    async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(head) = self.read.first_chunk::<9>() {
                let len = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
                let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
                let (kind, flags) = (head[3], head[4]);
                if self.read.len() >= 9 + len {
                    let payload = self.read[9..9 + len].to_vec();
                    self.read.drain(..9 + len);
                    if kind == SETTINGS && flags & ACK == 0 {
                        self.send(&frame(SETTINGS, ACK, 0, &[])).await;
                    }
                    return Some(Frame { kind, flags, stream, payload });
                }
            }
            let reading = self.stream.read_buf(&mut self.read);
            let read = tokio::time::timeout(PATIENCE, reading).await.expect("it says something");
            if !matches!(read, Ok(len) if len > 0) {
                return None;
            }
        }
    }

    /// The headers of a request.
    fn request(&self, method: &str, path: &str, more: &[(&str, &str)]) -> Vec<u8> {
        let token = format!("Bearer {}", self.token);
        let mut headers = vec![
            (":method", method),
            (":scheme", "https"),
            (":path", path),
            (":authority", "localhost"),
            ("authorization", &token),
        ];
        headers.extend(more);
        block(&headers)
    }

    /// Begins a stream with these headers, in one frame; its number.
    fn open(&mut self, headers: &[u8], flags: u8) -> (u32, Vec<u8>) {
        let stream = self.next_stream;
        self.next_stream += 2;
        (stream, frame(HEADERS, END_HEADERS | flags, stream, headers))
    }

    /// Asks, and waits for the answer's status.
    async fn ask(&mut self, path: &str) -> u16 {
        let headers = self.request("GET", path, &[]);
        let (stream, bytes) = self.open(&headers, END_STREAM);
        assert!(self.send(&bytes).await, "{path}: it has closed");
        self.answer(stream).await
    }

    async fn answer(&mut self, stream: u32) -> u16 {
        loop {
            let frame = self.next().await.expect("an answer comes");
            if frame.kind == HEADERS && frame.stream == stream {
                return status(&frame.payload);
            }
            assert!(frame.kind != RST_STREAM || frame.stream != stream, "it was reset");
        }
    }

    /// Waits until all that was sent is seen: a ping is answered in its turn.
    async fn is_seen(&mut self) {
        assert!(self.send(&frame(PING, 0, 0, b"are you?")).await);
        loop {
            let frame = self.next().await.expect("a ping is answered");
            if frame.kind == PING && frame.flags & ACK != 0 {
                return;
            }
        }
    }

    /// Waits until the other side has closed.
    async fn is_closed(&mut self) {
        while self.next().await.is_some() {}
    }
}

/// A session that this node never reaches: a read with it waits.
fn unknown_session() -> String {
    let dot = Dot { origin: Origin([9; 8]), n: 1 };
    Session::of([dot].into_iter().collect()).encode()
}

fn memory_kib(process: &Process) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.0.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse().unwrap()
}

/// Of `holm_shed_total`, on a connection of its own.
async fn shed(site: &Site, reason: &str) -> u64 {
    let mut raw = Raw::connect(site).await;
    let headers = raw.request("GET", "/metrics", &[]);
    let (stream, bytes) = raw.open(&headers, END_STREAM);
    assert!(raw.send(&bytes).await);
    let mut text = Vec::new();
    loop {
        let frame = raw.next().await.expect("an answer comes");
        if frame.kind == DATA && frame.stream == stream {
            text.extend(&frame.payload);
        }
        if frame.stream == stream && frame.flags & END_STREAM != 0 {
            break;
        }
    }
    let text = String::from_utf8(text).unwrap();
    let start = format!("holm_shed_total{{reason=\"{reason}\"}} ");
    text.lines().find_map(|line| line.strip_prefix(&start)).unwrap().parse().unwrap()
}

#[test]
fn a_status_is_read_in_each_of_its_forms() {
    assert_eq!(status(&[0x88]), 200);
    assert_eq!(status(&[0x20, 0x8d]), 404);
    assert_eq!(status(&[0x08, 0x03, b'4', b'2', b'9']), 429);
    // RFC 7541, C.6.1 and C.6.2: "302" and "307".
    assert_eq!(status(&[0x48, 0x82, 0x64, 0x02]), 302);
    assert_eq!(status(&[0x48, 0x83, 0x64, 0x0e, 0xff]), 307);
    let mut bytes = Vec::new();
    number(&mut bytes, 127 + 1337 - 31);
    assert_eq!(bytes, [127, 0x9a, 0x0a], "RFC 7541, C.1.2, with another prefix");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_reset_at_once_end_their_connection_and_nothing_else() {
    let site = Site::new(&["a"], "[rates]\nreads_per_second = 1\nreads_burst = 50\n");
    let process = site.serve("a-1");
    assert_eq!(Raw::connect(&site).await.ask("/config").await, 200);
    let before = memory_kib(&process);
    for _ in 0..5 {
        let mut raw = Raw::connect(&site).await;
        let headers = raw.request("GET", "/config", &[]);
        let (mut sent, mut is_open) = (0, true);
        while is_open {
            assert!(sent < 1_000_000, "a million resets are taken");
            let mut bytes = Vec::new();
            for _ in 0..100 {
                let (stream, open) = raw.open(&headers, END_STREAM);
                bytes.extend(open);
                bytes.extend(frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes()));
                sent += 1;
            }
            is_open = raw.send(&bytes).await;
        }
    }
    let grown = memory_kib(&process).saturating_sub(before);
    assert!(grown < 64 * 1024, "the node grew by {grown} KiB");
    let mut raw = Raw::connect(&site).await;
    assert_eq!(raw.ask("/healthz").await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_begun_and_given_up_again_and_again_end_their_connection() {
    let site =
        Site::new(&["a"], "[http]\nsession_wait_default = \"60s\"\nsession_wait_max = \"60s\"\n");
    let _process = site.serve("a-1");
    let session = unknown_session();
    let mut raw = Raw::connect(&site).await;
    let headers = raw.request("GET", "/config", &[("holm-session", &session)]);
    // Some are given up: that is a client's right.
    for round in 0..2 {
        let mut streams = Vec::new();
        for _ in 0..100 {
            let (stream, bytes) = raw.open(&headers, END_STREAM);
            assert!(raw.send(&bytes).await);
            streams.push(stream);
        }
        assert_eq!(raw.ask("/healthz").await, 200, "in its turn: they are under way");
        for stream in streams {
            assert!(raw.send(&frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes())).await);
        }
        assert_eq!(raw.ask("/healthz").await, 200, "round {round}");
    }
    assert_eq!(shed(&site, "reset_streams").await, 0);
    // More than that is not.
    let mut streams = Vec::new();
    for _ in 0..10 {
        let (stream, bytes) = raw.open(&headers, END_STREAM);
        raw.send(&bytes).await;
        streams.push(stream);
    }
    assert_eq!(raw.ask("/healthz").await, 200);
    for stream in streams {
        raw.send(&frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes())).await;
    }
    raw.is_closed().await;
    assert_eq!(shed(&site, "reset_streams").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_requests_than_a_connection_may_have_are_refused_one_by_one() {
    let site = Site::new(&["a"], "[http]\nsession_wait_default = \"3s\"\n");
    let _process = site.serve("a-1");
    let session = unknown_session();
    let mut raw = Raw::connect(&site).await;
    let headers = raw.request("GET", "/config", &[("holm-session", &session)]);
    let mut bytes = Vec::new();
    for _ in 0..200 {
        bytes.extend(raw.open(&headers, END_STREAM).1);
    }
    assert!(raw.send(&bytes).await);
    let mut ended: BTreeMap<u32, u32> = BTreeMap::new();
    while ended.values().sum::<u32>() < 200 {
        let frame = raw.next().await.expect("the connection goes on");
        let what = match frame.kind {
            HEADERS => u32::from(status(&frame.payload)),
            RST_STREAM => u32::from_be_bytes(frame.payload[..4].try_into().unwrap()),
            GOAWAY => panic!("it goes away: {:?}", frame.payload),
            _ => continue,
        };
        *ended.entry(what).or_default() += 1;
    }
    assert_eq!(ended, BTreeMap::from([(REFUSED_STREAM, 72), (412, 128)]));
    assert_eq!(raw.ask("/config").await, 200, "there is room again");
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_are_bounded_in_size_and_in_time() {
    let site = Site::new(
        &["a"],
        "[http]\nheader_read_timeout = \"1s\"\nwrite_timeout = \"2s\"\n[limits]\nheader_bytes_max = 16384\n",
    );
    let process = site.serve("a-1");
    // Too large as a whole: that request is refused, and the connection goes on.
    let mut raw = Raw::connect(&site).await;
    let large = "x".repeat(15_000);
    let headers = raw.request("GET", "/healthz", &[("x-large", &large), ("x-more", &large)]);
    let (first, rest) = headers.split_at(16_000);
    let stream = raw.next_stream;
    raw.next_stream += 2;
    let sent =
        [frame(HEADERS, END_STREAM, stream, first), frame(CONTINUATION, END_HEADERS, stream, rest)];
    assert!(raw.send(&sent.concat()).await);
    assert_eq!(raw.answer(stream).await, 431);
    assert_eq!(raw.ask("/healthz").await, 200);

    // Without end: it is closed, and nothing of it is kept.
    let before = memory_kib(&process);
    for part in [&block(&[("x-part", &"x".repeat(8_000))])[..], &[]] {
        let mut raw = Raw::connect(&site).await;
        let headers = raw.request("GET", "/healthz", &[]);
        let stream = raw.next_stream;
        let mut is_open = raw.send(&frame(HEADERS, END_STREAM, stream, &headers)).await;
        let mut sent = 0;
        while is_open {
            sent += 1;
            assert!(sent < 200_000, "two hundred thousand frames of {} bytes", part.len());
            is_open = raw.send(&frame(CONTINUATION, 0, stream, part)).await;
        }
    }
    let grown = memory_kib(&process).saturating_sub(before);
    assert!(grown < 32 * 1024, "the node grew by {grown} KiB");

    // Begun, and not gone on with: as a connection without requests.
    let mut raw = Raw::connect(&site).await;
    let headers = raw.request("GET", "/healthz", &[]);
    assert!(raw.send(&frame(HEADERS, END_STREAM, 1, &headers)).await);
    raw.is_closed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_comes_too_slowly_is_given_up_and_its_connection_goes_on() {
    let site = Site::new(&["a"], "");
    let _process = site.serve("a-1");
    let mut raw = Raw::connect(&site).await;
    let more = [("content-type", "application/json"), ("content-length", "1000")];
    let headers = raw.request("PUT", "/config/web/prod/slow", &more);
    let (stream, bytes) = raw.open(&headers, 0);
    assert!(raw.send(&bytes).await);
    assert!(raw.send(&frame(DATA, 0, stream, b"\"some")).await);
    assert_eq!(raw.ask("/config").await, 200, "others go on beside it");
    assert_eq!(raw.answer(stream).await, 408);
    assert_eq!(raw.ask("/config").await, 200);
    assert_eq!(raw.ask("/config/web/prod/slow").await, 404);
    assert_eq!(shed(&site, "slow_body").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn rates_and_places_are_counted_for_each_request_of_a_connection() {
    let site = Site::new(
        &["a"],
        "[rates]\nreads_per_second = 1\nreads_burst = 40\n\
         [limits]\nrequests_max = 8\n[http]\nsession_wait_default = \"60s\"\nsession_wait_max = \"60s\"\n",
    );
    let _process = site.serve("a-1");
    let session = unknown_session();
    let mut raw = Raw::connect(&site).await;
    let waiting = raw.request("GET", "/config", &[("holm-session", &session)]);
    for _ in 0..8 {
        let (_, bytes) = raw.open(&waiting, END_STREAM);
        assert!(raw.send(&bytes).await);
    }
    raw.is_seen().await;
    // What is seen is begun a moment later, each on a task of its own.
    for tried in 0.. {
        if raw.ask("/config").await == 503 {
            break;
        }
        assert!(tried < 20, "the ninth, on the same connection, finds no place");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(Raw::connect(&site).await.ask("/config").await, 503, "or on another");
    assert_eq!(raw.ask("/healthz").await, 200);
    assert_eq!(shed(&site, "load_reads").await, 2);
    // With the connection, its requests are gone.
    drop(raw);
    let mut raw = Raw::connect(&site).await;
    crate::cluster::eventually("there is room", async || {
        Raw::connect(&site).await.ask("/config").await == 200
    })
    .await;
    let mut answers: BTreeMap<u16, u32> = BTreeMap::new();
    for _ in 0..100 {
        *answers.entry(raw.ask("/config").await).or_default() += 1;
    }
    assert_eq!(answers.keys().copied().collect::<Vec<_>>(), [200, 429], "{answers:?}");
    // 8 waited, some were asked in between, and one comes back in a second.
    assert!((10..=40).contains(&answers[&200]), "{answers:?}");
    assert_eq!(shed(&site, "rate_reads").await, u64::from(answers[&429]));
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    assert_eq!(raw.ask("/config").await, 200, "who waits is served");
}
