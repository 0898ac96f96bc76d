//! A watch that outlives its connections: it asks again from the last session it has, after a pause
//! that grows and varies. It gives no event twice, and says when the state starts over. Where a node
//! that goes sends it elsewhere, it goes on there at once.

use std::collections::{BTreeSet, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use reqwest::{Method, Response};

use super::contact::Contact;
use super::sse::{Frame, Parser};
use super::{Client, ClientError, Item, Removed, error, path_of};
use crate::model::DocumentId;

/// A connection that has been silent this long is given up; nodes send heartbeats far more often.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// How long a node that a watch is sent to may take to begin.
const FOLLOW_WITHIN: Duration = Duration::from_secs(2);
/// Most nodes that are tried of those that a watch is sent to.
const FOLLOW_MAX: usize = 4;
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
    /// The node goes, and sent the watch to another one, where it goes on with nothing missed.
    Moved {
        /// Where that one is.
        url: String,
    },
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
    /// Where nodes that go have sent it, the nearest first; not tried yet.
    sent_to: VecDeque<Client>,
    /// Where it was sent, and got to.
    elsewhere: Option<Client>,
    /// Whether it is tried next where the settings say, and not elsewhere.
    is_home_next: bool,
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
    /// When a node was last heard, heartbeats included.
    contact: Contact,
}

impl Watch {
    pub(crate) fn new(client: Client, document: DocumentId, settings: WatchSettings) -> Self {
        Self {
            client,
            document,
            random: StdRng::seed_from_u64(settings.jitter_seed),
            connection: None,
            sent_to: VecDeque::new(),
            elsewhere: None,
            is_home_next: false,
            pause: None,
            failures: 0,
            session: settings.since.clone(),
            given: settings.since.clone(),
            settings,
            unnamed: BTreeSet::new(),
            queue: VecDeque::new(),
            contact: Contact::default(),
        }
    }

    /// The session to resume from after the last event given, also in another region.
    pub fn session(&self) -> Option<&str> {
        self.given.as_deref()
    }

    /// When a node was last heard, for whoever looks on while [`Watch::next`] waits.
    pub fn contact(&self) -> Contact {
        self.contact.clone()
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
                    Ok(frames) => {
                        self.contact.heard();
                        frames.into_iter().try_for_each(|frame| self.take(frame))
                    }
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

    /// Connects where it was sent, without a pause, and else where it was.
    async fn connect(&mut self) -> Result<(), ClientError> {
        while let Some(client) = self.sent_to.pop_front() {
            let within = FOLLOW_WITHIN.min(client.settings.timeout);
            if let Ok(response) = self.open(&client, within).await {
                let url = client.settings.url.clone();
                self.queue.push_back((Some(WatchEvent::Moved { url }), None));
                (self.elsewhere, self.is_home_next) = (Some(client), false);
                self.begin(response);
                return Ok(());
            }
        }
        let elsewhere = self.elsewhere.clone().filter(|_| !self.is_home_next);
        let is_home = elsewhere.is_none();
        let client = elsewhere.unwrap_or_else(|| self.client.clone());
        match self.open(&client, client.settings.timeout).await {
            Ok(response) => {
                if is_home {
                    self.elsewhere = None;
                }
                self.begin(response);
                Ok(())
            }
            Err(error) => {
                // Either may be gone for good: the other one is tried next.
                self.is_home_next = !is_home;
                match error {
                    error if is_home || error.is_transient() => Err(error),
                    // What one node refuses, the one that the caller named may not.
                    error => Err(ClientError::Answer(error.to_string())),
                }
            }
        }
    }

    async fn open(&self, client: &Client, within: Duration) -> Result<Response, ClientError> {
        let mut request = client
            .request(Method::GET, &path_of(&self.document))
            .header("accept", "text/event-stream");
        if let Some(prefix) = &self.settings.prefix {
            request = request.query(&[("prefix", prefix)]);
        }
        if let Some(session) = &self.session {
            request = request.header("last-event-id", session);
        }
        match tokio::time::timeout(within, client.begin(request)).await {
            Ok(response) => response,
            Err(_) => Err(ClientError::TimedOut { url: client.settings.url.clone(), within }),
        }
    }

    fn begin(&mut self, response: Response) {
        if self.session.is_none() && !self.unnamed.is_empty() {
            // The state had begun and was not complete: it comes again from its beginning.
            self.unnamed.clear();
            self.queue.push_back((Some(WatchEvent::Reset), None));
        }
        self.connection = Some((response, Parser::default()));
    }

    /// The node goes: the connection is of no use any more, and others are.
    fn send_on(&mut self, moved: Moved) {
        self.connection = None;
        let urls = moved.nodes.into_iter().filter_map(|node| node.url);
        let clients = urls.filter_map(|url| self.client.at(&url));
        self.sent_to = clients.take(FOLLOW_MAX).collect();
        // It came from there; where the settings say there may be a balancer, which knows better.
        self.elsewhere = None;
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
            "moved" => {
                self.send_on(serde_json::from_str(&frame.data).map_err(wrong)?);
                None
            }
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

/// What a node says that goes.
#[derive(serde::Deserialize)]
struct Moved {
    nodes: Vec<Place>,
}

#[derive(serde::Deserialize)]
struct Place {
    url: Option<String>,
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
