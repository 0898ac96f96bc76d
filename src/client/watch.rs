//! A watch that outlives its connections: it asks again from the last session it has, after a pause
//! that grows and varies. It gives no event twice, and says when the state starts over. Where a node
//! that goes sends it elsewhere, it goes on there at once. Of several regions it follows the one that
//! requests are sent to, and goes back to a nearer one when that has proved itself.

use std::collections::{BTreeSet, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use reqwest::{Method, Response};
use tokio::time::{Instant, timeout_at};

use super::attempt::{Span, Taken, Want};
use super::contact::Contact;
use super::sse::{Frame, Parser};
use super::{Client, ClientError, ClientSettings, Item, Removed, error, path_of};
use crate::model::DocumentId;

/// A connection that has been silent this long is given up; nodes send heartbeats far more often.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// Other regions are looked at no more often.
const LOOK_AFTER_MIN: Duration = Duration::from_millis(50);
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
    /// The watch goes on elsewhere, with nothing missed: a node that goes sent it there, or it is a
    /// region that requests are sent to now.
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
    connection: Option<Connection>,
    /// Where nodes that go have sent it, the nearest first; not tried yet.
    sent_to: VecDeque<(String, Client)>,
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

/// A connection that events come over.
#[derive(Debug)]
struct Connection {
    response: Response,
    parser: Parser,
    /// Where it goes.
    url: String,
    /// The same as it is shown.
    name: String,
    since: Instant,
    /// When something came last.
    heard: Instant,
    /// When it is looked whether another region would be better.
    look_at: Instant,
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
            let has_choice = self.client.regions.has_choice();
            let step = match &mut self.connection {
                None => self.connect().await,
                Some(connection) => match connection.read(has_choice).await {
                    Ok(Some(frames)) => {
                        self.contact.heard();
                        frames.into_iter().try_for_each(|frame| self.take(frame))
                    }
                    Ok(None) => {
                        self.look_round().await;
                        Ok(())
                    }
                    Err(error) => Err(error),
                },
            };
            if let Err(error) = step {
                self.connection = None;
                if has_choice {
                    self.elsewhere = None;
                }
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
        while let Some((url, client)) = self.sent_to.pop_front() {
            let within = FOLLOW_WITHIN.min(client.settings.timeout);
            if let Ok(taken) = self.open(&client, within).await {
                self.queue.push_back((Some(WatchEvent::Moved { url }), None));
                (self.elsewhere, self.is_home_next) = (Some(client), false);
                return self.begin(taken);
            }
        }
        let elsewhere = self.elsewhere.clone().filter(|_| !self.is_home_next);
        let is_home = elsewhere.is_none();
        let client = elsewhere.unwrap_or_else(|| self.client.clone());
        match self.open(&client, client.settings.timeout).await {
            Ok(taken) => {
                if is_home {
                    self.elsewhere = None;
                }
                self.begin(taken)
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

    /// Goes where requests go now, if that is elsewhere and has been for a while, or at once where the
    /// region of this connection answers nothing else either. The connection stays until there is
    /// another one.
    async fn look_round(&mut self) {
        let regions = &self.client.regions;
        regions.keep_up();
        let settings = &self.client.settings;
        let Some(connection) = &mut self.connection else { return };
        connection.look_at = Instant::now() + look_after(settings);
        let Some(place) = regions.used() else { return };
        let is_settled = connection.since.elapsed() >= settings.return_after;
        let is_better = place.url != connection.url || place.name != connection.name;
        let may = is_settled || regions.has_failed(&connection.name);
        if !is_better || !may || self.session.is_none() {
            return;
        }
        let client = self.client.at_place(place);
        let within = FOLLOW_WITHIN.min(client.settings.timeout);
        if let Ok(taken) = self.open(&client, within).await {
            let url = taken.place.url.clone();
            self.queue.push_back((Some(WatchEvent::Moved { url }), None));
            self.elsewhere = None;
            // It has a head: there is no other error.
            let _ = self.begin(taken);
        }
    }

    async fn open(&self, client: &Client, within: Duration) -> Result<Taken, ClientError> {
        let mut call = client.request(Method::GET, &path_of(&self.document)).watch();
        if let Some(prefix) = &self.settings.prefix {
            call = call.query(&[("prefix", prefix)]);
        }
        if let Some(session) = &self.session {
            call = call.header("last-event-id", session);
        }
        client.run(&call, Want::Head, Span::new(within)).await
    }

    fn begin(&mut self, taken: Taken) -> Result<(), ClientError> {
        let Taken { response: Some(response), place, .. } = taken else {
            return Err(ClientError::Answer("the watch has no answer".to_owned()));
        };
        if self.session.is_none() && !self.unnamed.is_empty() {
            // The state had begun and was not complete: it comes again from its beginning.
            self.unnamed.clear();
            self.queue.push_back((Some(WatchEvent::Reset), None));
        }
        let settings = &self.client.settings;
        let now = Instant::now();
        self.connection = Some(Connection {
            response,
            parser: Parser::default(),
            url: place.url.clone(),
            name: place.name.clone(),
            since: now,
            heard: now,
            look_at: now + look_after(settings),
        });
        Ok(())
    }

    /// The node goes: the connection is of no use any more, and others are.
    fn send_on(&mut self, moved: Moved) {
        if let Some(connection) = self.connection.take() {
            self.client.regions.goes(&connection.name);
        }
        let urls = moved.nodes.into_iter().filter_map(|node| node.url);
        let clients = urls.filter_map(|url| Some((url.clone(), self.client.at(&url)?)));
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

/// How long after the last look there is another one at other regions.
fn look_after(settings: &ClientSettings) -> Duration {
    settings.measure_every.min(settings.return_after).max(LOOK_AFTER_MIN)
}

impl Connection {
    /// The next events; none where it is time to look for a better region.
    async fn read(&mut self, may_look: bool) -> Result<Option<Vec<Frame>>, ClientError> {
        let broken =
            |message: String| ClientError::Answer(format!("the watch broke off: {message}"));
        let silent_at = self.heard + SILENCE_MAX;
        let until = if may_look { silent_at.min(self.look_at) } else { silent_at };
        // A chunk that has not come whole is not lost where this is given up.
        let chunk = timeout_at(until, self.response.chunk()).await;
        if chunk.is_ok() {
            self.heard = Instant::now();
        }
        match chunk {
            Err(_) if until < silent_at => Ok(None),
            Err(_) => Err(broken("nothing came, not even a heartbeat".to_owned())),
            Ok(Err(e)) => Err(broken(error::innermost(&e))),
            Ok(Ok(None)) => Err(broken("the node closed it".to_owned())),
            Ok(Ok(Some(bytes))) => match self.parser.push(&bytes) {
                Ok(frames) => Ok(Some(frames)),
                Err(e) => Err(broken(e.to_string())),
            },
        }
    }
}
