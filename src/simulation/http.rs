//! HTTP/1.1 to one node at a time, over whatever byte streams clients have there: whole answers, or lines as they
//! come. Connections are kept where the node keeps them. No retries, no redirects, no cookies.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{HeaderMap, Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, timeout_at};

use super::clients::Clients;
use super::network::client_address;
use crate::model::NodeName;

/// Largest answer that is taken, in bytes.
const ANSWER_LEN_MAX: usize = 64 * 1024 * 1024;
/// Longest line of a streamed answer, in bytes.
const LINE_LEN_MAX: usize = 16 * 1024 * 1024;

/// A client of nodes. To be used on the runtime of [`Clients`].
pub(crate) struct HttpClient {
    clients: Clients,
    from: SocketAddr,
    kept: Option<(NodeName, SendRequest<Full<Bytes>>)>,
}

/// A whole answer.
#[derive(Clone, Debug)]
pub(crate) struct HttpAnswer {
    /// Its status.
    pub(crate) status: StatusCode,
    /// Its headers.
    pub(crate) headers: HeaderMap,
    /// Its body.
    pub(crate) body: Bytes,
}

/// An answer whose lines come as the node sends them.
pub(crate) struct HttpStream {
    /// Its status.
    pub(crate) status: StatusCode,
    /// Its headers.
    pub(crate) headers: HeaderMap,
    body: Incoming,
    read: Vec<u8>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HttpError {
    /// Nobody listens: nothing was sent.
    #[error("the connection was refused")]
    Refused,
    /// No whole answer within the time given. What was asked for may have been done.
    #[error("no answer in time")]
    TimedOut,
    /// The connection broke. What was asked for may have been done.
    #[error("the connection broke: {0}")]
    Broken(String),
}

impl HttpClient {
    /// The client with that number, which its address is made of.
    pub(crate) fn new(clients: &Clients, number: u32) -> Self {
        Self { clients: clients.clone(), from: client_address(number), kept: None }
    }

    /// Asks `node`, and waits for the whole answer until `within` is over.
    pub(crate) async fn send(
        &mut self,
        node: &NodeName,
        request: Request<Full<Bytes>>,
        within: Duration,
    ) -> Result<HttpAnswer, HttpError> {
        let deadline = Instant::now() + within;
        let answer = async {
            let response = self.exchange(node, request).await?;
            let (head, body) = response.into_parts();
            let body = http_body_util::Limited::new(body, ANSWER_LEN_MAX).collect().await;
            let body = body.map_err(|e| HttpError::Broken(e.to_string()))?.to_bytes();
            Ok(HttpAnswer { status: head.status, headers: head.headers, body })
        };
        let answer = timeout_at(deadline, answer).await.unwrap_or(Err(HttpError::TimedOut));
        if answer.is_err() {
            // Another answer may still come on this connection.
            self.kept = None;
        }
        answer
    }

    /// Asks `node` for an answer that does not end; waits until it begins. The connection is the
    /// stream's alone.
    pub(crate) async fn stream(
        &mut self,
        node: &NodeName,
        request: Request<Full<Bytes>>,
        within: Duration,
    ) -> Result<HttpStream, HttpError> {
        let deadline = Instant::now() + within;
        let answer = timeout_at(deadline, self.exchange(node, request)).await;
        self.kept = None;
        let (head, body) = answer.unwrap_or(Err(HttpError::TimedOut))?.into_parts();
        Ok(HttpStream { status: head.status, headers: head.headers, body, read: Vec::new() })
    }

    async fn exchange(
        &mut self,
        node: &NodeName,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, HttpError> {
        let broken = |error: hyper::Error| HttpError::Broken(error.to_string());
        let host = node.as_str().parse().map_err(|_| HttpError::Broken("the name".into()))?;
        request.headers_mut().insert(header::HOST, host);
        let kept = match self.kept.take() {
            Some((of, mut kept)) if of == *node => kept.ready().await.is_ok().then_some(kept),
            _ => None,
        };
        let mut connection = match kept {
            Some(kept) => kept,
            None => self.connect(node).await?,
        };
        let response = connection.send_request(request).await.map_err(broken)?;
        self.kept = Some((node.clone(), connection));
        Ok(response)
    }

    async fn connect(&self, node: &NodeName) -> Result<SendRequest<Full<Bytes>>, HttpError> {
        let stream = self.clients.connect(node, self.from).await.ok_or(HttpError::Refused)?;
        let handshake = http1::handshake(TokioIo::new(stream)).await;
        let (sender, connection) = handshake.map_err(|e| HttpError::Broken(e.to_string()))?;
        self.clients.spawn(async move {
            // Whoever waits for an answer is told.
            let _ = connection.await;
        });
        Ok(sender)
    }
}

impl HttpStream {
    /// The next line without its end; none where the answer has ended. Waits as long as it takes:
    /// bound it with `tokio::time::timeout`, after which it may be called again.
    pub(crate) async fn line(&mut self) -> Result<Option<String>, HttpError> {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let mut line: Vec<u8> = self.read.drain(..=end).collect();
                line.pop();
                if line.last() == Some(&b'\r') {
                    line.pop();
                }
                return Ok(Some(String::from_utf8_lossy(&line).into_owned()));
            }
            if self.read.len() > LINE_LEN_MAX {
                return Err(HttpError::Broken("a line without end".to_owned()));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(error)) => return Err(HttpError::Broken(error.to_string())),
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        self.read.extend_from_slice(data);
                    }
                }
            }
        }
    }
}

/// A request with a body, or an empty one.
pub(crate) fn request(
    method: Method,
    path: &str,
    token: &str,
    body: Option<String>,
) -> Result<Request<Full<Bytes>>, HttpError> {
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::AUTHORIZATION, format!("Bearer {token}"));
    if body.is_some() {
        request = request.header(header::CONTENT_TYPE, "application/json");
    }
    let body = Full::new(Bytes::from(body.unwrap_or_default()));
    request.body(body).map_err(|error| HttpError::Broken(error.to_string()))
}
