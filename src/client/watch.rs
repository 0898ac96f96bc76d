//! A watch that outlives its connections: it asks again from the last session it has, after a pause
//! that grows and varies. It gives no event twice, and says when the state starts over.

use std::collections::{BTreeSet, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use reqwest::{Method, Response};

use super::sse::{Frame, Parser};
use super::{Client, ClientError, Item, Removed, error, path_of};
use crate::model::DocumentId;

/// A connection that has been silent this long is given up; nodes send heartbeats far more often.
const SILENCE_MAX: Duration = Duration::from_secs(60);
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// Events without a session after them that are remembered, so as not to give them again.
const UNNAMED_MAX: usize = 100_000;

/// What to watch.
#[derive(Clone, Debug, Default)]
pub struct WatchSettings {
    /// Only keys that begin with this.
    pub prefix: Option<String>,
    /// Only what this session has not seen; everything where there is none.
    pub since: Option<String>,
    /// Seeds the pauses between connections, so that many watchers do not all return at once.
    pub jitter_seed: u64,
}

/// What a watch has to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchEvent {
    /// A key is written (or was there at the beginning).
    Put(Item),
    /// A key is removed.
    Remove(Removed),
    /// What follows is the whole state again: forget the one before.
    Reset,
    /// The state at the beginning is complete.
    Ready,
    /// The connection is lost; there will be another one.
    Lost {
        /// Why.
        error: ClientError,
        /// When it will be tried again.
        pause: Duration,
    },
}

/// A watch in progress.
#[derive(Debug)]
pub struct Watch {
    client: Client,
    document: DocumentId,
    settings: WatchSettings,
    random: StdRng,
    connection: Option<(Response, Parser)>,
    /// Pause before the next connection, after a failure.
    pause: Option<Duration>,
    failures: u32,
    /// The last session a change ended with, of all that was read: what a next connection starts
    /// from.
    session: Option<String>,
    /// The last session a change ended with, of what was given.
    given: Option<String>,
    /// Events given since that session, by hash: the next connection may repeat them.
    unnamed: BTreeSet<u64>,
    /// What was read and not given yet, each with the session after it, if it has one.
    queue: VecDeque<(Option<WatchEvent>, Option<String>)>,
}

impl Watch {
    pub(crate) fn new(client: Client, document: DocumentId, settings: WatchSettings) -> Self {
        Self {
            client,
            document,
            random: StdRng::seed_from_u64(settings.jitter_seed),
            connection: None,
            pause: None,
            failures: 0,
            session: settings.since.clone(),
            given: settings.since.clone(),
            settings,
            unnamed: BTreeSet::new(),
            queue: VecDeque::new(),
        }
    }

    /// The session to resume from after the last event given, also in another region.
    pub fn session(&self) -> Option<&str> {
        self.given.as_deref()
    }

    /// The next event, however long it takes. Fails only for what waiting cannot mend: a refused
    /// token, a bad session.
    pub async fn next(&mut self) -> Result<WatchEvent, ClientError> {
        loop {
            while let Some((event, session)) = self.queue.pop_front() {
                self.given = session.or(self.given.take());
                if let Some(event) = event {
                    return Ok(event);
                }
            }
            if let Some(pause) = self.pause {
                tokio::time::sleep(pause).await;
                self.pause = None;
            }
            let step = match &mut self.connection {
                None => self.connect().await,
                Some((response, parser)) => match read(response, parser).await {
                    Ok(frames) => frames.into_iter().try_for_each(|frame| self.take(frame)),
                    Err(error) => Err(error),
                },
            };
            if let Err(error) = step {
                self.connection = None;
                if !error.is_transient() {
                    return Err(error);
                }
                let pause = self.next_pause();
                self.pause = Some(pause);
                self.queue.push_back((Some(WatchEvent::Lost { error, pause }), None));
            }
        }
    }

    async fn connect(&mut self) -> Result<(), ClientError> {
        let mut request = self
            .client
            .request(Method::GET, &path_of(&self.document))
            .header("accept", "text/event-stream");
        if let Some(prefix) = &self.settings.prefix {
            request = request.query(&[("prefix", prefix)]);
        }
        if let Some(session) = &self.session {
            request = request.header("last-event-id", session);
        }
        let within = self.client.settings.timeout;
        let response = match tokio::time::timeout(within, self.client.begin(request)).await {
            Ok(response) => response?,
            Err(_) => {
                let url = self.client.settings.url.clone();
                return Err(ClientError::TimedOut { url, within });
            }
        };
        if self.session.is_none() && !self.unnamed.is_empty() {
            // The state had begun and was not complete: it comes again from its beginning.
            self.unnamed.clear();
            self.queue.push_back((Some(WatchEvent::Reset), None));
        }
        self.connection = Some((response, Parser::default()));
        Ok(())
    }

    fn next_pause(&mut self) -> Duration {
        let longest = PAUSE_MAX.min(PAUSE_MIN * 2u32.saturating_pow(self.failures));
        self.failures = (self.failures + 1).min(16);
        longest.mul_f64(self.random.random_range(0.5..1.0))
    }

    fn take(&mut self, frame: Frame) -> Result<(), ClientError> {
        self.failures = 0;
        let mut hasher = DefaultHasher::new();
        (&frame.event, &frame.data).hash(&mut hasher);
        let is_new = self.unnamed.insert(hasher.finish()) || self.unnamed.len() >= UNNAMED_MAX;
        let wrong = |e| ClientError::Answer(format!("an event is not what Holm says: {e}"));
        let event = match frame.event.as_str() {
            "put" => Some(WatchEvent::Put(serde_json::from_str(&frame.data).map_err(wrong)?)),
            "remove" => Some(WatchEvent::Remove(serde_json::from_str(&frame.data).map_err(wrong)?)),
            "reset" => {
                self.unnamed.clear();
                Some(WatchEvent::Reset)
            }
            "ready" => Some(WatchEvent::Ready),
            // A kind that a later server has.
            _ => None,
        };
        let id = frame.id.filter(|id| !id.is_empty());
        if let Some(id) = &id {
            self.session = Some(id.clone());
            self.unnamed.clear();
        }
        self.queue.push_back((event.filter(|_| is_new), id));
        Ok(())
    }
}

async fn read(response: &mut Response, parser: &mut Parser) -> Result<Vec<Frame>, ClientError> {
    let broken = |message: String| ClientError::Answer(format!("the watch broke off: {message}"));
    match tokio::time::timeout(SILENCE_MAX, response.chunk()).await {
        Err(_) => Err(broken("nothing came, not even a heartbeat".to_owned())),
        Ok(Err(e)) => Err(broken(error::innermost(&e))),
        Ok(Ok(None)) => Err(broken("the node closed it".to_owned())),
        Ok(Ok(Some(bytes))) => parser.push(&bytes).map_err(|e| broken(e.to_string())),
    }
}
