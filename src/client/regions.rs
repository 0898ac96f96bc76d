//! The regions that a client knows: where they are, how each stands, and who is asked first. The
//! deciding is in [`choice`]. Places are looked up and measured in `measure`, at the first request and
//! then beside others, as often as the settings say: an idle client asks nobody.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use tokio::sync::watch;
use tokio::time::Instant;

use super::budget::{self, Budget};
use super::discover::{Discovery, Found};
use super::{ClientError, ClientSettings, Places};

pub(super) mod choice;
mod measure;
mod place;
mod told;

use choice::{Choice, Health};
pub(super) use choice::{PlaceId, Rank};
pub(super) use place::Place;
use place::{Connect, checked};
pub use told::RegionStatus;

/// What came of asking a place.
#[derive(Debug)]
pub(super) enum Outcome<'a> {
    /// It answered; a short request within so long.
    Answered(Option<Duration>),
    /// It did not in the time that it had.
    Silent,
    /// It does not serve requests.
    Failed(&'a ClientError),
    /// It wants no requests for so long.
    Busy(Duration),
}

/// All that a client knows. Shared by its clones.
#[derive(Debug)]
pub(super) struct Regions {
    connect: Connect,
    discovery: Option<Discovery>,
    /// Whether there is a choice at all: more than one URL, or DNS.
    has_choice: bool,
    state: Mutex<State>,
    /// One at a time begins.
    beginning: tokio::sync::Mutex<()>,
    /// Goes up with every measurement.
    measured: watch::Sender<u64>,
}

#[derive(Debug)]
struct State {
    choice: Choice,
    places: BTreeMap<PlaceId, Arc<Place>>,
    next_id: u32,
    budget: Budget,
    random: StdRng,
    has_begun: bool,
    look_at: Instant,
    /// Why the last look-up found nothing new.
    lookup_error: Option<ClientError>,
}

impl Regions {
    /// The places of the settings; those of DNS are looked up at the first request.
    pub(super) fn new(settings: &ClientSettings) -> Result<Self, ClientError> {
        let (urls, discovery) = match &settings.places {
            Places::Urls(urls) => (checked(urls)?, None),
            Places::Dns(discover) => (Vec::new(), Some(Discovery::new(discover)?)),
        };
        let has_https = urls.iter().any(|url| url.starts_with("https://"))
            || discovery.as_ref().is_some_and(Discovery::is_https);
        let connect = Connect::new(settings, has_https)?;
        let has_choice = discovery.is_some() || urls.len() > 1;
        let regions = Self::of(connect, discovery, has_choice, settings);
        let http = regions.connect.client(None)?;
        regions.state().list(&urls, &http);
        Ok(regions)
    }

    fn of(
        connect: Connect,
        discovery: Option<Discovery>,
        has_choice: bool,
        settings: &ClientSettings,
    ) -> Self {
        let now = Instant::now();
        Self {
            connect,
            discovery,
            has_choice,
            state: Mutex::new(State {
                choice: Choice::new(settings.return_after, settings.measure_every),
                places: BTreeMap::new(),
                next_id: 0,
                budget: Budget::new(now),
                random: settings.entropy.stream("client regions"),
                has_begun: false,
                look_at: now,
                lookup_error: None,
            }),
            beginning: tokio::sync::Mutex::default(),
            measured: watch::Sender::default(),
        }
    }

    /// The one place at `url`, reached as these are.
    pub(super) fn only(&self, url: &str, settings: &ClientSettings) -> Result<Self, ClientError> {
        let regions = Self::of(self.connect.clone(), None, false, settings);
        let known = self.state().places.values().find(|place| place.url == url).cloned();
        match known {
            Some(place) => regions.state().only(place),
            None => regions.state().list(&[url.to_owned()], &regions.connect.client(None)?),
        }
        Ok(regions)
    }

    /// One of the places and no other.
    pub(super) fn alone(&self, place: Arc<Place>, settings: &ClientSettings) -> Self {
        let regions = Self::of(self.connect.clone(), None, false, settings);
        regions.state().only(place);
        regions
    }

    /// The place that is told so.
    pub(super) fn told_as(&self, status: &RegionStatus) -> Option<Arc<Place>> {
        let label = |place: &Place| place.found.as_ref().map(|found| found.label.clone());
        let state = self.state();
        let mut places = state.places.values();
        places.find(|it| it.url == status.url && label(it) == status.label).cloned()
    }

    /// What is asked, in words, where no place was asked.
    pub(super) fn name(&self) -> String {
        match &self.discovery {
            Some(discovery) => discovery.host().to_owned(),
            None => {
                let state = self.state();
                let names = state.places.values().map(|place| place.name.as_str());
                names.collect::<Vec<_>>().join(", ")
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there may be more than one place.
    pub(super) fn has_choice(&self) -> bool {
        self.has_choice
    }

    /// Whether nothing that goes to any of them is encrypted.
    pub(super) fn are_plain(&self) -> bool {
        match &self.discovery {
            Some(discovery) => !discovery.is_https(),
            None => self.state().places.values().all(|place| place.url.starts_with("http://")),
        }
    }

    /// Whom to ask, and whom after that.
    pub(super) fn order(&self) -> Vec<Arc<Place>> {
        let mut state = self.state();
        state.settle();
        let order = state.choice.order(Instant::now());
        order.iter().filter_map(|id| state.places.get(id).cloned()).collect()
    }

    /// The place that is used.
    pub(super) fn used(&self) -> Option<Arc<Place>> {
        let mut state = self.state();
        state.settle();
        state.choice.used().and_then(|id| state.places.get(&id).cloned())
    }

    /// Notes what came of asking a place.
    pub(super) fn note(self: &Arc<Self>, place: &Place, outcome: Outcome<'_>) {
        if !self.has_choice {
            return;
        }
        let now = Instant::now();
        {
            let mut state = self.state();
            match outcome {
                Outcome::Answered(took) => state.choice.answered(place.id, took),
                Outcome::Silent => state.choice.suspect(place.id, now),
                Outcome::Failed(error) => state.choice.failed(place.id, error.to_string(), now),
                Outcome::Busy(wait) => state.choice.busy(place.id, now + wait),
            }
            state.settle();
        }
        self.measure_due();
    }

    /// A node says that it is going: it is no choice until it is back.
    pub(super) fn goes(&self, name: &str) {
        let mut state = self.state();
        let place = state.places.values().find(|place| place.name == name).map(|place| place.id);
        if let Some(id) = place {
            state.choice.failed(id, "it said that it is going".to_owned(), Instant::now());
            state.settle();
        }
    }

    /// Why DNS named nothing when it was asked last; what it named before is used then.
    pub(super) fn lookup_error(&self) -> Option<ClientError> {
        self.state().lookup_error.clone()
    }

    /// Whether a place is known not to answer.
    pub(super) fn has_failed(&self, name: &str) -> bool {
        let state = self.state();
        let place = state.places.values().find(|place| place.name == name);
        let standing = place.and_then(|place| state.choice.standing(place.id));
        standing.is_some_and(|it| matches!(it.health, Health::Failed { .. }))
    }

    /// How long an answer of a place usually takes at the most, where that is known.
    pub(super) fn patience(&self, place: &Place) -> Option<Duration> {
        self.state().choice.patience(place.id)
    }

    /// A request begins.
    pub(super) fn earn(&self) {
        self.state().budget.earn(Instant::now());
    }

    /// Whether one more attempt may be made.
    pub(super) fn may_try_again(&self) -> bool {
        self.state().budget.take(Instant::now())
    }

    /// How long to wait before it, after so many pauses.
    pub(super) fn pause(&self, pauses: u32) -> Duration {
        budget::pause(pauses, &mut self.state().random)
    }

    /// How long none of the places wants requests.
    pub(super) fn all_busy_for(&self) -> Duration {
        let now = Instant::now();
        self.state().choice.busy_until(now).map_or(Duration::ZERO, |until| until - now)
    }

    /// A token for a write, which recognises its retries.
    pub(super) fn idempotency_key(&self) -> String {
        use rand::RngCore as _;
        let random = &mut self.state().random;
        format!("{:016x}{:016x}", random.next_u64(), random.next_u64())
    }
}

impl State {
    fn settle(&mut self) {
        self.choice.settle(Instant::now(), &mut self.random);
    }

    fn new_id(&mut self) -> PlaceId {
        self.next_id += 1;
        PlaceId(self.next_id)
    }

    fn only(&mut self, place: Arc<Place>) {
        self.choice.set(&[(place.id, Rank { priority: 0, weight: None })], Instant::now());
        self.places.insert(place.id, place);
    }

    /// Takes a list of URLs.
    fn list(&mut self, urls: &[String], http: &reqwest::Client) {
        let mut ranks = Vec::new();
        for url in urls {
            let id = self.new_id();
            ranks.push((id, Rank { priority: 0, weight: None }));
            let (url, name) = (url.clone(), url.clone());
            let place = Place { id, url, name, found: None, http: http.clone() };
            self.places.insert(id, Arc::new(place));
        }
        self.choice.set(&ranks, Instant::now());
    }

    /// Takes what DNS named.
    fn found(&mut self, found: &[Found], host: &str, connect: &Connect) -> Result<(), ClientError> {
        let mut ranks: Vec<(PlaceId, Rank)> = Vec::new();
        for found in found {
            let is_same = |known: &Found| known.label == found.label && known.url == found.url;
            let known = self.places.values().find(|it| it.found.as_ref().is_some_and(is_same));
            let id = match known {
                Some(known) if known.found.as_ref() == Some(found) => known.id,
                // The same one, elsewhere.
                known => {
                    let id = known.map(|known| known.id);
                    let id = id.unwrap_or_else(|| self.new_id());
                    let http = connect.client(Some((host, found)))?;
                    let name = format!("{} ({})", found.url, found.label);
                    let (url, found) = (found.url.clone(), Some(found.clone()));
                    self.places.insert(id, Arc::new(Place { id, url, name, found, http }));
                    id
                }
            };
            if !ranks.iter().any(|(known, _)| *known == id) {
                ranks.push((id, found.rank));
            }
        }
        for id in self.choice.set(&ranks, Instant::now()) {
            self.places.remove(&id);
        }
        Ok(())
    }
}
