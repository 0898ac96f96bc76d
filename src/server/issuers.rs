//! The key sets that other issuers publish: fetched, kept on disk for a start without them, and
//! fetched again now and then, and when a token names a key that nobody knows. Where that fails, or
//! what comes is no key set, the keys that are known stay.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rand::Rng as _;
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::access::Verifier;
use crate::access::token::KeySource;
use crate::env::{Env, Fetch, Stream};
use crate::settings::{KeySettings, Settings};

/// Time between two fetches, half as much more at random, so that nodes don't ask together.
const EVERY: Duration = Duration::from_secs(600);
/// The same after one that failed.
const EVERY_FAILED: Duration = Duration::from_secs(30);
/// Least time between two fetches, whatever tokens say.
const PAUSE: Duration = Duration::from_secs(15);
/// Largest key set, in bytes.
const BYTES_MAX: usize = 256 * 1024;
/// How long one fetch may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The settings' keys with a URL, by their number.
pub(super) struct Issuers {
    sources: Vec<(usize, KeySettings)>,
    verifier: Arc<Verifier>,
    env: Env,
}

/// The name of the file that keeps what was fetched from a URL.
fn file_name(url: &str) -> String {
    let hash: String = Sha256::digest(url)[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("jwks-{hash}.json")
}

/// What was kept of each key's URL; empty where nothing was that can be used, and for other keys.
pub(super) async fn kept(env: &Env, settings: &Settings, cluster: &str) -> Vec<String> {
    let mut texts = Vec::new();
    for key in &settings.access.keys {
        let text = match &key.jwks_url {
            None => String::new(),
            Some(url) => {
                let (disk, name) = (env.disk.clone(), file_name(url));
                let read = env.blocking.run(move || disk.read(&name)).await;
                let text = read.ok().flatten().and_then(|bytes| String::from_utf8(bytes).ok());
                let is_good = |text: &String| {
                    let source = KeySource { settings: key, text };
                    Verifier::new(&settings.access, cluster, &[source]).is_ok()
                };
                text.filter(is_good).unwrap_or_default()
            }
        };
        texts.push(text);
    }
    texts
}

impl Issuers {
    pub(super) fn new(verifier: Arc<Verifier>, env: Env, settings: &Settings) -> Self {
        let keys = settings.access.keys.iter().cloned().enumerate();
        let sources = keys.filter(|(_, key)| key.jwks_url.is_some()).collect();
        Self { sources, verifier, env }
    }

    /// Fetches and fetches again until it is told to stop.
    pub(super) async fn run(self, mut stop: watch::Receiver<bool>) {
        if self.sources.is_empty() {
            return;
        }
        let mut rng = self.env.entropy.stream("issuers");
        loop {
            let begun = Instant::now();
            let wait = jittered(if self.refresh().await { EVERY } else { EVERY_FAILED }, &mut rng);
            let asked = async {
                tokio::time::sleep_until(begun + PAUSE).await;
                self.verifier.unknown_kid().await;
            };
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return,
                () = asked => {}
                () = tokio::time::sleep_until(begun + wait) => {}
            }
        }
    }

    /// Fetches every key set once, and says whether all could be had.
    async fn refresh(&self) -> bool {
        let all = self.sources.iter().map(|(at, key)| self.refresh_one(*at, key));
        let done = futures_util::future::join_all(all).await;
        done.into_iter().all(|done| done)
    }

    async fn refresh_one(&self, at: usize, key: &KeySettings) -> bool {
        let Some(url) = &key.jwks_url else { return true };
        let error = match self.fetch(key, url).await {
            Ok(text) => match self.verifier.replace_keys(at, &text) {
                Ok(false) => return true,
                Ok(true) => {
                    tracing::info!(url, "the issuer's keys have changed");
                    self.keep(url, text).await;
                    return true;
                }
                Err(error) => error.to_string(),
            },
            Err(error) => error.to_string(),
        };
        tracing::warn!(url, error, "the issuer's keys could not be fetched; the known ones stay");
        false
    }

    async fn fetch(&self, key: &KeySettings, url: &str) -> io::Result<String> {
        let ca_pem = key.jwks_ca.as_deref();
        let what = Fetch { url, post: None, ca_pem, bytes_max: BYTES_MAX, timeout: TIMEOUT };
        let bytes = self.env.net.fetch(what).await?;
        String::from_utf8(bytes).map_err(|_| io::Error::other("the answer is not UTF-8"))
    }

    async fn keep(&self, url: &str, text: String) {
        let (disk, name) = (self.env.disk.clone(), file_name(url));
        let written = self.env.blocking.run(move || disk.write(&name, text.as_bytes(), true)).await;
        if let Err(error) = written {
            tracing::warn!(url, %error, "the issuer's keys could not be kept on disk");
        }
    }
}

fn jittered(time: Duration, rng: &mut Stream) -> Duration {
    time.mul_f64(1.0 + rng.random_range(0.0..0.5))
}

#[cfg(test)]
mod tests;
