//! gRPC as cheap as a client can make it, so that what is measured is the server: just enough HTTP/2
//! for it (RFC 9113, RFC 7541). Each connection carries several clients, each with one call under
//! way, or several answers that don't end. Calls have one message of less than 16 KiB.

use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::rig::load::Template;
use crate::rig::measure::Round;

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
/// All the window there can be, so that answers never wait for more.
const WINDOW_MAX: u32 = 0x7fff_ffff;
const SETTINGS_INITIAL_WINDOW_SIZE: u16 = 4;
/// A message's frame: whether it is compressed, and its length.
const PREFIX_LEN: usize = 5;
/// How long after its end a round may wait for answers under way.
const GRACE: Duration = Duration::from_secs(30);

/// A call: what is asked, and what a good answer looks like.
#[derive(Clone)]
pub(crate) struct Call {
    method: &'static str,
    message: Template,
    /// A good answer's message is as long at least, in bytes.
    answer_len_min: usize,
}

impl Call {
    /// Runs of `#` in the message are numbers.
    pub(crate) fn new(method: &'static str, message: &[u8], answer_len_min: usize) -> Self {
        let mut body = vec![0];
        body.extend((message.len() as u32).to_be_bytes());
        body.extend(message);
        assert!(body.len() <= FRAME_LEN_MAX, "a call is one frame");
        Self { method, message: Template::new(body), answer_len_min }
    }
}

/// One connection's closed loops, `streams` at once, for `time`, or until it has sent `count` calls.
/// `numbers` gives what stands in the n-th call of the connection.
pub(crate) async fn closed<const N: usize, F: FnMut(u64) -> [u64; N]>(
    addr: SocketAddr,
    streams: usize,
    call: Call,
    numbers: F,
    time: Duration,
    count: u64,
) -> Round {
    let mut round = Round::default();
    let work = async {
        let mut connection = Connection::open(addr, call).await?;
        let (mut numbers, start) = (numbers, Instant::now());
        for _ in 0..streams {
            connection.begin(&numbers(connection.sent));
        }
        while !connection.under_way.is_empty() {
            for Answer { sent, is_good } in connection.answers().await? {
                let now = Instant::now();
                if is_good {
                    round.count += 1;
                    round.latencies.push((now - sent).as_nanos() as u64);
                } else {
                    round.failed += 1;
                }
                if now - start < time && connection.sent < count {
                    connection.begin(&numbers(connection.sent));
                }
            }
            round.took = start.elapsed();
        }
        Result::Ok(())
    };
    let done = tokio::time::timeout(time + GRACE, work).await;
    if !matches!(done, Ok(Ok(()))) {
        round.failed += 1;
    }
    round
}

/// A connection with calls on it.
pub(crate) struct Connection {
    wire: Wire,
    call: Call,
    sent: u64,
    under_way: Vec<UnderWay>,
}

struct UnderWay {
    stream: u32,
    sent: Instant,
    /// What has come of its message, in bytes, with its frame.
    answer_len: usize,
}

/// A call that is over.
struct Answer {
    sent: Instant,
    is_good: bool,
}

impl Connection {
    pub(crate) async fn open(addr: SocketAddr, call: Call) -> Result<Self> {
        Ok(Self { wire: Wire::open(addr).await?, call, sent: 0, under_way: Vec::new() })
    }

    /// Makes one call and waits for its answer: whether that is a good one.
    pub(crate) async fn exchange(&mut self, numbers: &[u64]) -> Result<bool> {
        self.begin(numbers);
        loop {
            if let Some(answer) = self.answers().await?.pop() {
                return Ok(answer.is_good);
            }
        }
    }

    /// Puts one more call into the output.
    fn begin(&mut self, numbers: &[u64]) {
        let stream = self.wire.begin(self.call.method, self.sent, 0);
        frame(&mut self.wire.output, DATA, END_STREAM, stream, self.call.message.fill(numbers));
        self.under_way.push(UnderWay { stream, sent: Instant::now(), answer_len: 0 });
        self.sent += 1;
    }

    /// Sends what there is to send, waits for something to come, and gives the calls that are over
    /// with it.
    async fn answers(&mut self) -> Result<Vec<Answer>> {
        self.wire.exchange().await?;
        let (under_way, least) = (&mut self.under_way, PREFIX_LEN + self.call.answer_len_min);
        let mut over = Vec::new();
        self.wire.take(|kind, flags, stream, body| {
            let Some(place) = under_way.iter().position(|it| it.stream == stream) else { return };
            // A failed call has no message: gRPC answers it with trailers alone.
            if kind == DATA {
                under_way[place].answer_len += body.len();
            }
            if kind == RST_STREAM || flags & END_STREAM != 0 {
                let UnderWay { sent, answer_len, .. } = under_way.swap_remove(place);
                over.push(Answer { sent, is_good: kind == HEADERS && answer_len >= least });
            }
        })?;
        Ok(over)
    }
}

/// Answers that don't end, one for each of the same calls on one connection.
pub(crate) struct Streams {
    wire: Wire,
    /// Bytes of each, in the order of their calls, that are not a whole message yet.
    pending: Vec<Vec<u8>>,
}

impl Streams {
    pub(crate) async fn open(addr: SocketAddr, mut call: Call, streams: usize) -> Result<Self> {
        let mut wire = Wire::open(addr).await?;
        for n in 0..streams as u64 {
            let stream = wire.begin(call.method, n, 0);
            frame(&mut wire.output, DATA, 0, stream, call.message.fill(&[]));
        }
        Ok(Self { wire, pending: vec![Vec::new(); streams] })
    }

    /// Waits for something to come; `message` is told of each message that is whole with it, and
    /// which of the answers it is of.
    pub(crate) async fn more(&mut self, mut message: impl FnMut(usize, &[u8])) -> Result<()> {
        self.wire.exchange().await?;
        let (pending, mut ended) = (&mut self.pending, false);
        self.wire.take(|kind, flags, stream, body| {
            ended |=
                kind == RST_STREAM || flags & END_STREAM != 0 && matches!(kind, DATA | HEADERS);
            let place = (stream / 2) as usize;
            if kind != DATA || stream == 0 {
                return;
            }
            let bytes = &mut pending[place];
            bytes.extend_from_slice(body);
            while let Some([_, len @ ..]) = bytes.first_chunk::<PREFIX_LEN>() {
                let whole = PREFIX_LEN + u32::from_be_bytes(*len) as usize;
                if bytes.len() < whole {
                    break;
                }
                message(place, &bytes[PREFIX_LEN..whole]);
                bytes.drain(..whole);
            }
        })?;
        if ended { Err(ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }
}

/// Frames to and from a server.
struct Wire {
    stream: TcpStream,
    addr: SocketAddr,
    input: Vec<u8>,
    output: Vec<u8>,
}

impl Wire {
    async fn open(addr: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        let mut output = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        let mut settings = SETTINGS_INITIAL_WINDOW_SIZE.to_be_bytes().to_vec();
        settings.extend(WINDOW_MAX.to_be_bytes());
        frame(&mut output, SETTINGS, 0, 0, &settings);
        frame(&mut output, WINDOW_UPDATE, 0, 0, &(WINDOW_MAX - 65_535).to_be_bytes());
        Ok(Self { stream, addr, input: Vec::with_capacity(64 << 10), output })
    }

    /// Puts the head of the connection's n-th call into the output; gives its stream's number.
    fn begin(&mut self, method: &str, n: u64, flags: u8) -> u32 {
        let stream = n as u32 * 2 + 1;
        let head = if n == 0 { first_head(self.addr, method) } else { LATER_HEAD.to_vec() };
        frame(&mut self.output, HEADERS, END_HEADERS | flags, stream, &head);
        stream
    }

    async fn exchange(&mut self) -> Result<()> {
        if !self.output.is_empty() {
            self.stream.write_all(&self.output).await?;
            self.output.clear();
        }
        if self.stream.read_buf(&mut self.input).await? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }

    /// Gives the frames that are whole to `each`, as kind, flags, stream and body, and answers those
    /// of the connection itself.
    fn take(&mut self, mut each: impl FnMut(u8, u8, u32, &[u8])) -> Result<()> {
        let mut at = 0;
        while let Some(len) = frame_len(&self.input[at..])? {
            let head = &self.input[at..at + 9];
            let (kind, flags) = (head[3], head[4]);
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            let body = &self.input[at + 9..at + 9 + len];
            match kind {
                SETTINGS if flags & ACK == 0 => frame(&mut self.output, SETTINGS, ACK, 0, &[]),
                PING if flags & ACK == 0 => frame(&mut self.output, PING, ACK, 0, body),
                GOAWAY => return Err(ErrorKind::ConnectionAborted.into()),
                _ => each(kind, flags, stream, body),
            }
            at += 9 + len;
        }
        self.input.drain(..at);
        Ok(())
    }
}

/// The length of the first frame's body, if the frame is whole.
fn frame_len(input: &[u8]) -> Result<Option<usize>> {
    let Some([a, b, c]) = input.first_chunk() else { return Ok(None) };
    let len = u32::from_be_bytes([0, *a, *b, *c]) as usize;
    if len > FRAME_LEN_MAX {
        return Err(Error::new(ErrorKind::InvalidData, "a frame past the size that was said"));
    }
    Ok((input.len() >= 9 + len).then_some(len))
}

fn frame(output: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, body: &[u8]) {
    output.extend_from_slice(&(body.len() as u32).to_be_bytes()[1..]);
    output.extend_from_slice(&[kind, flags]);
    output.extend_from_slice(&stream.to_be_bytes());
    output.extend_from_slice(body);
}

/// POST over http, with path, authority, content-type and te put into the peer's table.
fn first_head(addr: SocketAddr, method: &str) -> Vec<u8> {
    let mut head = vec![0x83, 0x86];
    let mut literal = |name: &[u8], value: &str| {
        head.extend_from_slice(name);
        head.push(value.len() as u8);
        head.extend_from_slice(value.as_bytes());
    };
    literal(&[0x44], method);
    literal(&[0x41], &addr.to_string());
    literal(&[0x5f], "application/grpc");
    literal(b"\x40\x02te", "trailers");
    head
}

/// The same from the peer's table, where the last entry is the first.
const LATER_HEAD: &[u8] = &[0x83, 0x86, 0x80 | 65, 0x80 | 64, 0x80 | 63, 0x80 | 62];
