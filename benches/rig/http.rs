//! HTTP/1.1 as cheap as a client can make it, so that what is measured is the server: one
//! keep-alive connection, requests built before, answers read only as far as their length. Takes
//! answers with `content-length`, and chunked ones where [`Stream`] reads them.

use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Largest answer taken.
const ANSWER_LEN_MAX: usize = 64 << 20;
/// Longest a single exchange outside a load may take.
const EXCHANGE_TIME_MAX: Duration = Duration::from_secs(60);

/// A keep-alive connection.
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    head_len: usize,
}

impl Connection {
    pub(crate) async fn open(addr: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(16 << 10), head_len: 0 })
    }

    /// Sends a whole request, waits for the whole answer, returns its status. Head and body can be
    /// looked at until the next.
    pub(crate) async fn exchange(&mut self, request: &[u8]) -> Result<u16> {
        self.buffer.clear();
        self.stream.write_all(request).await?;
        let (status, body_len) = loop {
            self.fill().await?;
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                self.head_len = end + 4;
                break head(&self.buffer[..self.head_len])?;
            }
        };
        let whole = self.head_len + body_len.ok_or_else(|| bad("an answer without a length"))?;
        if whole > ANSWER_LEN_MAX {
            return Err(bad("an answer past the limit"));
        }
        while self.buffer.len() < whole {
            self.fill().await?;
        }
        Ok(status)
    }

    /// The last answer's head.
    pub(crate) fn head(&self) -> &[u8] {
        &self.buffer[..self.head_len]
    }

    /// The last answer's body.
    pub(crate) fn body(&self) -> &[u8] {
        &self.buffer[self.head_len..]
    }

    async fn fill(&mut self) -> Result<()> {
        if self.stream.read_buf(&mut self.buffer).await? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }
}

/// An answer that doesn't end: a watch.
pub(crate) struct Stream {
    connection: Connection,
    /// Bytes of the body, without the chunks' frames, that were not taken yet.
    pub(crate) body: Vec<u8>,
    /// Raw bytes taken so far.
    at: usize,
}

impl Stream {
    /// Sends the request; the answer has to be a chunked 200.
    pub(crate) async fn open(addr: SocketAddr, request: &[u8]) -> Result<Self> {
        let mut connection = Connection::open(addr).await?;
        connection.stream.write_all(request).await?;
        loop {
            connection.fill().await?;
            if let Some(end) = find(&connection.buffer, b"\r\n\r\n") {
                let (status, body_len) = head(&connection.buffer[..end + 4])?;
                if status != 200 || body_len.is_some() {
                    return Err(bad(&String::from_utf8_lossy(&connection.buffer)));
                }
                return Ok(Self { connection, body: Vec::new(), at: end + 4 });
            }
        }
    }

    /// Waits for more of the body.
    pub(crate) async fn more(&mut self) -> Result<()> {
        let before = self.body.len();
        loop {
            self.unframe()?;
            if self.body.len() > before {
                return Ok(());
            }
            self.connection.buffer.drain(..self.at);
            self.at = 0;
            self.connection.fill().await?;
        }
    }

    /// Moves whole chunks that have come from the raw bytes to the body.
    fn unframe(&mut self) -> Result<()> {
        loop {
            let raw = &self.connection.buffer[self.at..];
            let Some(line) = find(raw, b"\r\n") else { return Ok(()) };
            let size = std::str::from_utf8(&raw[..line]).ok();
            let size = size.and_then(|size| usize::from_str_radix(size, 16).ok());
            let size = size.ok_or_else(|| bad("a chunk without a size"))?;
            if size == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            let Some(chunk) = raw.get(line + 2..line + 4 + size) else { return Ok(()) };
            self.body.extend_from_slice(&chunk[..size]);
            self.at += line + 4 + size;
        }
    }
}

/// A single exchange on a connection of its own: status and body.
pub(crate) async fn once(addr: SocketAddr, request: &[u8]) -> Result<(u16, Vec<u8>)> {
    let exchange = async {
        let mut connection = Connection::open(addr).await?;
        let status = connection.exchange(request).await?;
        Ok((status, connection.body().to_vec()))
    };
    tokio::time::timeout(EXCHANGE_TIME_MAX, exchange).await?
}

/// A request with a token; `headers` are whole lines.
pub(crate) fn request(method: &str, path: &str, token: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = match body.len() {
        0 => String::new(),
        len => format!("content-type: application/json\r\ncontent-length: {len}\r\n"),
    };
    format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\
         {headers}{length}\r\n{body}"
    )
    .into_bytes()
}

/// Status, and the body's length where the head says it.
fn head(head: &[u8]) -> Result<(u16, Option<usize>)> {
    let number = |digits: &[u8]| std::str::from_utf8(digits).ok()?.trim().parse::<usize>().ok();
    let status = head.get(9..12).and_then(number).ok_or_else(|| bad("no status"))?;
    let mut lines = head.split(|byte| *byte == b'\n').skip(1);
    const NAME: &[u8] = b"content-length:";
    let length = lines.find_map(|line| {
        let is_length = line.len() > NAME.len() && line[..NAME.len()].eq_ignore_ascii_case(NAME);
        if is_length { number(&line[NAME.len()..]) } else { None }
    });
    Ok((status as u16, length))
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

fn bad(text: &str) -> Error {
    Error::new(ErrorKind::InvalidData, text.to_owned())
}
