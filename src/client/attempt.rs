//! One request, tried until it is answered: in the region that is used, and where that does not
//! answer in the others, all within one deadline.
//!
//! A read that waits longer than answers usually take is asked elsewhere as well, and the first answer
//! counts; a write is given up there and sent elsewhere, under the same `Idempotency-Key`. What could
//! be done twice is not sent twice: a write without such a key goes elsewhere only where it is certain
//! that nothing was done. What a node refuses for good (4xx) is refused.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use reqwest::{Response, StatusCode};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::call::{Call, Kind};
use super::regions::{Outcome, Place};
use super::{Client, ClientError, Token};

mod once;
mod tried;

use once::Failure;
pub(super) use once::connection_error;
use tried::Attempts;

/// A read is asked elsewhere as well after this long, or later where answers take longer.
const READ_PATIENCE_MIN: Duration = Duration::from_millis(75);
/// The same where nothing is known of how long they take.
const READ_PATIENCE: Duration = Duration::from_millis(300);
/// How long everything else is waited for at least.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long a write is waited for that a quorum, or other regions, have to have: a node gives a quorum
/// 5 s, and then says so.
const AGREED_WRITE_PATIENCE: Duration = Duration::from_secs(6);

/// What is wanted of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Want {
    /// All of it.
    Whole,
    /// Its head: the rest is read as it comes.
    Head,
}

/// An answer.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) status: StatusCode,
    /// The body, where all of it was wanted.
    pub(super) bytes: Vec<u8>,
    /// The rest of the answer, where its head was.
    pub(super) response: Option<Response>,
    /// Who answered.
    pub(super) place: Arc<Place>,
}

/// The time of one request, in all regions together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    deadline: Instant,
    within: Duration,
}

impl Span {
    /// From now on.
    pub(super) fn new(within: Duration) -> Self {
        Self { deadline: Instant::now() + within, within }
    }
}

impl Client {
    /// Sends a call, with the client's token, until it is answered or its time is over.
    pub(super) async fn run(
        &self,
        call: &Call,
        want: Want,
        span: Span,
    ) -> Result<Taken, ClientError> {
        if self.settings.token.is_some() || call.is_open() {
            let token = self.settings.token.as_ref().filter(|_| !call.is_open());
            return self.run_with(call, want, token, span).await;
        }
        let Some(credential) = &self.settings.credential else {
            return self.run_with(call, want, None, span).await;
        };
        // Another request may be asking for one, within another time.
        let asked = self.held.get(self.ask_for_token(credential, None, span));
        let token = match timeout_at(span.deadline, asked).await {
            Ok(token) => token?,
            Err(_) => {
                let url = self.regions.name();
                return Err(ClientError::TimedOut { url, within: span.within });
            }
        };
        let taken = self.run_with(call, want, Some(&token), span).await;
        if let Err(error) = &taken
            && error.refusal().is_some_and(|refusal| refusal.status == 401)
        {
            // The next request asks for another one.
            self.held.forget().await;
        }
        taken
    }

    /// The same with this token, or with none.
    pub(super) async fn run_with(
        &self,
        call: &Call,
        want: Want,
        token: Option<&Token>,
        span: Span,
    ) -> Result<Taken, ClientError> {
        let mut attempts = Attempts::default();
        self.regions.earn();
        let trying = async {
            self.regions.ready().await?;
            let trying = Trying {
                client: self,
                call,
                want,
                token,
                span,
                attempts: &mut attempts,
                flying: FuturesUnordered::new(),
                plan: self.regions.order().into(),
                round: 1,
                failures: 0,
                next_at: Some(Instant::now()),
            };
            trying.go().await
        };
        match timeout_at(span.deadline, trying).await {
            Ok(done) => done,
            Err(_) => Err(attempts.too_late(&self.regions, span.within)),
        }
    }
}

/// An attempt under way.
type Flying<'a> = BoxFuture<'a, (Arc<Place>, Result<Taken, Failure>)>;

/// One request on its way.
struct Trying<'a> {
    client: &'a Client,
    call: &'a Call,
    want: Want,
    token: Option<&'a Token>,
    span: Span,
    attempts: &'a mut Attempts,
    flying: FuturesUnordered<Flying<'a>>,
    /// Who is to be asked in this round, the first first.
    plan: VecDeque<Arc<Place>>,
    round: u32,
    /// How often a place failed.
    failures: u32,
    /// When the next one is asked; none while there is only waiting.
    next_at: Option<Instant>,
}

/// What is done when a place has not answered for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// Another one is asked as well.
    Hedge,
    /// It is given up, and another one is asked.
    Cut,
    /// Nothing.
    Wait,
}

impl Trying<'_> {
    /// Asks one place after the other, until one answers. Each turn waits for what comes first: an
    /// answer, a failure, or the time to ask the next place.
    async fn go(mut self) -> Result<Taken, ClientError> {
        loop {
            let next_at = self.next_at;
            let next = async {
                match next_at {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                Some((place, outcome)) = self.flying.next() => {
                    self.attempts.waiting.retain(|(it, _)| !Arc::ptr_eq(it, &place));
                    match outcome {
                        Ok(taken) => return Ok(taken),
                        Err(failure) => self.failed(&place, failure)?,
                    }
                }
                () = next => self.ask_next()?,
            }
        }
    }

    /// It is time to ask the next place.
    fn ask_next(&mut self) -> Result<(), ClientError> {
        let regions = &self.client.regions;
        for (place, _) in &self.attempts.waiting {
            regions.note(place, Outcome::Silent);
        }
        let is_first = self.round == 1 && self.failures == 0 && self.flying.is_empty();
        let is_allowed = is_first || regions.may_try_again();
        self.next_at = None;
        if !is_allowed {
            // What is under way may still be answered.
            return if self.flying.is_empty() { Err(self.attempts.error()) } else { Ok(()) };
        }
        if self.then() == Then::Cut && !self.flying.is_empty() {
            self.flying.clear();
            for (place, since) in std::mem::take(&mut self.attempts.waiting) {
                self.attempts.silent(&place, since.elapsed());
            }
        }
        if self.plan.is_empty() {
            self.round += 1;
            self.attempts.is_not_reached = false;
            self.plan = regions.order().into();
        }
        let Some(place) = self.plan.pop_front() else { return Err(self.attempts.error()) };
        self.attempts.waiting.push((Arc::clone(&place), Instant::now()));
        if self.then() != Then::Wait && !self.plan.is_empty() {
            self.next_at = Some(Instant::now() + self.patience(&place));
        }
        let (client, call, want, token) = (self.client, self.call, self.want, self.token);
        self.flying.push(Box::pin(client.attempt(place, call, want, token)));
        Ok(())
    }

    /// A place failed: says when the next one is asked, or that none is.
    fn failed(&mut self, place: &Arc<Place>, failure: Failure) -> Result<(), ClientError> {
        let regions = &self.client.regions;
        self.client.learn(place, &failure);
        if !self.call.may_repeat(&failure.error) {
            return Err(failure.error);
        }
        self.attempts.is_not_reached |= failure.error.is_not_reached();
        self.attempts.add(place, failure.error);
        // Another region is asked at once, the first time.
        let mut pause = match self.failures {
            0 if !self.plan.is_empty() => Duration::ZERO,
            failures => regions.pause(failures),
        };
        self.failures += 1;
        if self.plan.is_empty() {
            if !self.flying.is_empty() {
                // Somebody may still answer.
                return Ok(());
            }
            let goes_round = self.round < self.client.settings.rounds
                || (self.attempts.is_not_reached && regions.has_choice());
            // Of several, the first that wants requests again.
            let asked = match regions.has_choice() {
                true => regions.all_busy_for(),
                false => failure.retry_after.unwrap_or_default(),
            };
            pause = pause.max(asked);
            if !goes_round || Instant::now() + pause >= self.span.deadline {
                return Err(self.attempts.error());
            }
        }
        self.next_at = Some(Instant::now() + pause);
        Ok(())
    }

    /// What is done when a place has not answered for as long as it is waited for.
    fn then(&self) -> Then {
        match self.call.kind() {
            Kind::Read | Kind::Agreed => Then::Hedge,
            Kind::Watch => Then::Cut,
            Kind::Write | Kind::AgreedWrite if self.call.is_repeatable() => Then::Cut,
            Kind::Write | Kind::AgreedWrite | Kind::Slow => Then::Wait,
        }
    }

    /// How long a place is waited for, while there is another one: no more than half of the time
    /// that is left.
    fn patience(&self, place: &Place) -> Duration {
        let usual = self.client.regions.patience(place);
        let left = self.span.deadline.saturating_duration_since(Instant::now());
        let patience = match self.call.kind() {
            Kind::Read => usual.unwrap_or(READ_PATIENCE).max(READ_PATIENCE_MIN),
            Kind::AgreedWrite => AGREED_WRITE_PATIENCE,
            _ => usual.map_or(PATIENCE, |usual| PATIENCE.max(usual * 2)),
        };
        patience.min(left / 2)
    }
}

#[cfg(test)]
mod tests;
