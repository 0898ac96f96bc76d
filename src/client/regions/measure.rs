//! When places are looked up and measured: at the first request, which waits for the first that
//! answers, and then beside others. Nothing is decided here: what was seen is noted.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout, timeout_at};

use super::Regions;
use super::place::{Place, ready_at};
use crate::client::ClientError;
use crate::client::discover::LOOK_EVERY;

/// How long a measurement may take.
const MEASURE_WITHIN: Duration = Duration::from_secs(2);
/// How long a place with a better rank is waited for, after another one has answered.
const GRACE: Duration = Duration::from_millis(300);

impl Regions {
    /// Returns when there is somebody to ask: at once, but for the first request, which looks the
    /// places up and waits for the first of them that answers.
    pub(in crate::client) async fn ready(self: &Arc<Self>) -> Result<(), ClientError> {
        if !self.has_choice {
            return Ok(());
        }
        if self.state().has_begun {
            self.keep_up();
            return Ok(());
        }
        let _alone = self.beginning.lock().await;
        if self.state().has_begun {
            return Ok(());
        }
        if self.discovery.is_some() {
            self.look_up().await?;
        }
        let mut measured = self.measured.subscribe();
        self.measure_due();
        let mut until = None;
        loop {
            let (is_decided, has_any) = {
                let mut state = self.state();
                state.settle();
                (state.choice.is_decided(), state.choice.used().is_some())
            };
            if is_decided {
                break;
            }
            if has_any && until.is_none() {
                until = Some(Instant::now() + GRACE);
            }
            let changed = measured.changed();
            let waited = match until {
                Some(until) => timeout_at(until, changed).await.is_ok(),
                None => timeout(MEASURE_WITHIN * 2, changed).await.is_ok(),
            };
            if !waited {
                break;
            }
        }
        self.state().has_begun = true;
        Ok(())
    }

    /// Looks up and measures what is due, beside everything else.
    pub(in crate::client) fn keep_up(self: &Arc<Self>) {
        if !self.has_choice {
            return;
        }
        self.measure_due();
        if self.discovery.is_none() {
            return;
        }
        let now = Instant::now();
        let is_due = {
            let mut state = self.state();
            let is_due = state.look_at <= now;
            if is_due {
                state.look_at = now + LOOK_EVERY;
            }
            is_due
        };
        if is_due {
            let regions = Arc::clone(self);
            tokio::spawn(async move {
                if regions.look_up().await.is_ok() {
                    regions.measure_due();
                }
            });
        }
    }

    /// Asks DNS. An error changes nothing of what is known, and is one only where nothing is.
    async fn look_up(&self) -> Result<(), ClientError> {
        let Some(discovery) = &self.discovery else { return Ok(()) };
        let is_well = self.state().choice.used().is_some();
        let found = discovery.look(is_well).await;
        let mut state = self.state();
        state.look_at = Instant::now() + LOOK_EVERY;
        match found {
            Ok(found) => {
                state.lookup_error = None;
                state.found(&found, discovery.host(), &self.connect)
            }
            Err(error) => {
                tracing::debug!(%error, "uses the regions that DNS named before");
                state.lookup_error = Some(error.clone());
                if state.places.is_empty() { Err(error) } else { Ok(()) }
            }
        }
    }

    pub(super) fn measure_due(self: &Arc<Self>) {
        let due = {
            let mut state = self.state();
            let due = state.choice.take_due(Instant::now(), MEASURE_WITHIN * 2);
            due.iter().filter_map(|id| state.places.get(id).cloned()).collect::<Vec<_>>()
        };
        for place in due {
            self.measure(place);
        }
    }

    fn measure(self: &Arc<Self>, place: Arc<Place>) {
        let regions = Arc::clone(self);
        tokio::spawn(async move {
            let is_first =
                regions.state().choice.standing(place.id).is_some_and(|it| it.rtt.is_none());
            let is_ready = regions.measure_once(&place).await;
            // The first time there was a connection to be made.
            if is_ready && is_first {
                regions.measure_once(&place).await;
            }
        });
    }

    /// Asks a place whether it is ready, and notes the answer.
    async fn measure_once(&self, place: &Place) -> bool {
        let begun = Instant::now();
        let asked = timeout(MEASURE_WITHIN, ready_at(place)).await;
        let asked = asked.unwrap_or_else(|_| {
            Err(ClientError::TimedOut { url: place.name.clone(), within: MEASURE_WITHIN })
        });
        let now = Instant::now();
        let mut state = self.state();
        match &asked {
            Ok(()) => {
                state.choice.measured(place.id, now - begun, now);
                for id in state.choice.forget() {
                    state.places.remove(&id);
                }
            }
            Err(error) => state.choice.failed(place.id, error.to_string(), now),
        }
        state.settle();
        drop(state);
        self.measured.send_modify(|count| *count += 1);
        asked.is_ok()
    }

    /// Measures every place now and waits for all, whatever is due.
    pub(in crate::client) async fn measure_all(self: &Arc<Self>) -> Result<(), ClientError> {
        if self.discovery.is_some() {
            self.look_up().await?;
        }
        let places: Vec<Arc<Place>> = self.state().places.values().cloned().collect();
        let measured = places.iter().map(async |place| {
            if self.measure_once(place).await {
                self.measure_once(place).await;
            }
        });
        futures_util::future::join_all(measured).await;
        self.state().has_begun = true;
        Ok(())
    }
}
