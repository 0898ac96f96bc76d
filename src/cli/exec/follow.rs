//! Watches what a program is given, beside it: reads it again after a change, once changes have
//! settled, and tells when it is another. A node that does not answer, a token that is refused, a
//! state that cannot be given: it says so once, tries again, and tells of nothing new meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_util::task::AbortOnDropHandle;

use super::fetch::Wanted;
use super::given::{Given, Marks};
use crate::cli::{Failure, Global};
use crate::client::{Client, ClientError, WatchEvent, WatchSettings};
use crate::model::SecretName;

/// Changes that do not end are waited for no longer than this many times the settling time.
const SETTLE_MAX: u32 = 10;
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// Most different things that are said until it goes well again.
const SAID_MAX: usize = 100;
/// Events that wait to be taken in; the watch waits beyond them.
const EVENTS_MAX: usize = 256;

/// What is told.
pub(super) enum Told {
    /// Something that a person may want to know.
    Note(String),
    /// The program is to be given this from now on.
    Other(Given, Marks),
}

/// When it looks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// How long nothing may change until it is read again.
    pub(super) settle: Duration,
    /// How often it is asked whether secrets have new versions.
    pub(super) secrets_every: Duration,
}

/// What is followed, and from where.
pub(super) struct Follow {
    global: Global,
    client: Client,
    wanted: Wanted,
    pace: Pace,
    /// Hashes values.
    key: [u8; 32],
    /// What was told last.
    marks: Marks,
    /// Versions of the secrets that are in it; none for one whose columns may not be seen.
    versions: BTreeMap<SecretName, Option<u64>>,
    /// What was said since it last went well, so as not to say it again.
    said: BTreeSet<String>,
    told: mpsc::Sender<Told>,
}

impl Follow {
    /// Reads for the first time, and gives what there is to begin with.
    pub(super) async fn begin(
        global: &Global,
        client: Client,
        wanted: Wanted,
        pace: Pace,
        told: mpsc::Sender<Told>,
    ) -> Result<(Self, Given, Marks), Failure> {
        let (global, key) = (global.clone(), rand::random());
        let (marks, versions, said) = Default::default();
        let mut follow = Self { global, client, wanted, pace, key, marks, versions, said, told };
        let (given, marks) = follow.read().await?;
        follow.marks.clone_from(&marks);
        Ok((follow, given, marks))
    }

    /// Goes on until nobody listens.
    pub(super) async fn run(mut self) {
        let mut failures = 0;
        loop {
            let (sender, mut events) = mpsc::channel(EVENTS_MAX);
            let _watch = self.watch(sender);
            let gone = self.take(&mut events, &mut failures).await;
            let Some(error) = gone else { return };
            // A refused token may have been renewed in its file; nothing else helps but time.
            failures += 1;
            self.say(format!("changes are not seen: {error}")).await;
            tokio::time::sleep(pause(failures)).await;
            match self.global.client() {
                Ok(client) => {
                    if let Some(session) = self.client.session() {
                        client.include_session(&session);
                    }
                    self.client = client;
                }
                Err(failure) => self.say(failure.to_string()).await,
            }
        }
    }

    fn watch(
        &self,
        events: mpsc::Sender<Result<WatchEvent, ClientError>>,
    ) -> AbortOnDropHandle<()> {
        let settings = WatchSettings {
            prefix: self.wanted.keys.clone(),
            since: self.client.session(),
            jitter_seed: rand::random(),
        };
        let mut watch = self.client.watch(&self.wanted.document, settings);
        let client = self.client.clone();
        AbortOnDropHandle::new(tokio::spawn(async move {
            loop {
                let event = watch.next().await;
                if let Some(session) = watch.session() {
                    // What is read next has at least what was told here.
                    client.include_session(session);
                }
                let is_last = event.is_err();
                if events.send(event).await.is_err() || is_last {
                    return;
                }
            }
        }))
    }

    /// Takes the events of one watch, and gives why it ended; nothing where nobody listens.
    async fn take(
        &mut self,
        events: &mut mpsc::Receiver<Result<WatchEvent, ClientError>>,
        failures: &mut u32,
    ) -> Option<ClientError> {
        // What changed while nobody watched is looked for, too.
        let mut due = (*failures > 0).then(Instant::now);
        let (mut latest, mut is_lost) = (None, false);
        let mut look = Instant::now() + self.pace.secrets_every;
        loop {
            let until = due.unwrap_or(look).min(look);
            tokio::select! {
                biased;
                () = self.told.closed() => return None,
                () = sleep_until(until) => {
                    let is_due = due.is_some_and(|due| due <= until);
                    if !is_due {
                        look = Instant::now() + self.pace.secrets_every;
                    }
                    if is_due || self.have_secrets_changed().await {
                        (due, latest) = (None, None);
                        match self.read_and_tell().await {
                            Ok(()) => *failures = 0,
                            Err(failure) => {
                                *failures += 1;
                                self.say(format!("what is there now is not taken: {failure}")).await;
                                due = Some(Instant::now() + pause(*failures));
                            }
                        }
                    }
                }
                event = events.recv() => match event {
                    Some(Ok(WatchEvent::Lost { error, .. })) => {
                        is_lost = true;
                        self.say(format!("changes are not seen: {error}")).await;
                    }
                    Some(Ok(WatchEvent::Moved { .. } | WatchEvent::Ready)) if is_lost => {
                        // The next loss is another one, and is said again.
                        is_lost = false;
                        self.said.clear();
                        self.say("changes are seen again".to_owned()).await;
                    }
                    Some(Ok(WatchEvent::Moved { .. } | WatchEvent::Ready)) => {}
                    Some(Ok(_)) => {
                        let now = Instant::now();
                        let last = *latest.get_or_insert(now + self.pace.settle * SETTLE_MAX);
                        due = Some((now + self.pace.settle).min(last));
                    }
                    Some(Err(error)) => return Some(error),
                    None => return None,
                },
            }
        }
    }

    async fn read_and_tell(&mut self) -> Result<(), Failure> {
        let (given, marks) = self.read().await?;
        self.said.clear();
        if marks != self.marks {
            self.marks.clone_from(&marks);
            // Nobody listens any more: `take` sees it, too.
            let _ = self.told.send(Told::Other(given, marks)).await;
        }
        Ok(())
    }

    async fn read(&mut self) -> Result<(Given, Marks), Failure> {
        let found = self.wanted.find(&self.client).await?;
        // Versions first: a secret that changes in between is then read once more, not missed.
        self.versions = self.versions_of(&found.secrets).await;
        let given = self.wanted.read(&self.client, found).await?;
        let marks = given.marks(&self.key);
        Ok((given, marks))
    }

    /// Whether a secret has another version than was read. One that cannot be asked about has not.
    async fn have_secrets_changed(&mut self) -> bool {
        let names = self.versions.keys().cloned().collect();
        let now = self.versions_of(&names).await;
        now.iter()
            .any(|(name, version)| version.is_some() && self.versions.get(name) != Some(version))
    }

    async fn versions_of(
        &mut self,
        names: &BTreeSet<SecretName>,
    ) -> BTreeMap<SecretName, Option<u64>> {
        let mut versions = BTreeMap::new();
        for name in names {
            let version = match self.client.secret(name).await {
                Ok(info) => Some(info.version),
                Err(error) => {
                    let why = format!("whether the secret {name} changes is not seen: {error}");
                    self.say(why).await;
                    self.versions.get(name).copied().flatten()
                }
            };
            versions.insert(name.clone(), version);
        }
        versions
    }

    /// Says it, unless it was said already since all last went well.
    async fn say(&mut self, what: String) {
        if self.said.len() < SAID_MAX && self.said.insert(what.clone()) {
            let _ = self.told.send(Told::Note(what)).await;
        }
    }
}

fn pause(failures: u32) -> Duration {
    PAUSE_MAX.min(PAUSE_MIN * 2u32.saturating_pow(failures.saturating_sub(1).min(16)))
}
