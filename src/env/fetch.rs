//! One question over HTTP: what other services publish for nodes to read, or take from them. One
//! GET or POST, no redirects, no proxy, no more than so many bytes within so much time.

use std::io;
use std::time::Duration;

use super::roots;

/// What is to be fetched.
#[derive(Clone, Copy, Debug)]
pub struct Fetch<'a> {
    /// Where it is.
    pub url: &'a str,
    /// JSON to be sent there by POST; none for a GET.
    pub post: Option<&'a str>,
    /// The certificates that https trusts, in PEM. There are no others.
    pub ca_pem: Option<&'a str>,
    /// Most bytes that are taken.
    pub bytes_max: usize,
    /// How long it may take in all.
    pub timeout: Duration,
}

/// Fetches it; an answer other than 200 is an error.
pub(super) async fn fetch(what: Fetch<'_>) -> io::Result<Vec<u8>> {
    let trust = roots::Trust::of(what.ca_pem.map(str::as_bytes));
    let tls = roots::config(trust, None).map_err(io::Error::other)?;
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .user_agent(concat!("holm/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(io::Error::other)?;
    let got = tokio::time::timeout(what.timeout, get(&client, what)).await;
    got.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

async fn get(client: &reqwest::Client, what: Fetch<'_>) -> io::Result<Vec<u8>> {
    let request = match what.post {
        None => client.get(what.url),
        Some(json) => {
            let post = client.post(what.url).header("content-type", "application/json");
            post.body(json.to_owned())
        }
    };
    let request = request.header("accept", "application/json");
    let mut response = request.send().await.map_err(io::Error::other)?;
    if response.status() != reqwest::StatusCode::OK {
        return Err(io::Error::other(format!("the answer is {}", response.status())));
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(io::Error::other)? {
        if bytes.len() + chunk.len() > what.bytes_max {
            let why = format!("the answer has more than {} bytes", what.bytes_max);
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}
