//! One place, asked once: what it says is taken in (its answer, its session, how it stands), and what
//! came of it is told. Whether anybody is asked again is decided elsewhere.

use std::sync::Arc;
use std::time::Duration;

use reqwest::{Response, header};
use tokio::time::Instant;

use super::{PATIENCE, Taken, Want};
use crate::client::call::{Call, Kind};
use crate::client::regions::{Outcome, Place};
use crate::client::{Client, ClientError, Refusal, Token, body, error};

/// Longest `Retry-After` that is believed.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

/// Why one attempt came to nothing.
pub(super) struct Failure {
    pub(super) error: ClientError,
    pub(super) retry_after: Option<Duration>,
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Self { error, retry_after: None }
    }
}

impl Client {
    /// Asks one place once.
    pub(super) async fn attempt(
        &self,
        place: Arc<Place>,
        call: &Call,
        want: Want,
        token: Option<&Token>,
    ) -> (Arc<Place>, Result<Taken, Failure>) {
        let begun = Instant::now();
        let asked = async {
            let response = self.send_once(&place, call, token).await?;
            let took = begun.elapsed();
            let status = response.status();
            let mut taken =
                Taken { status, bytes: Vec::new(), response: None, place: Arc::clone(&place) };
            match want {
                Want::Head => taken.response = Some(response),
                Want::Whole => taken.bytes = body(response).await?,
            }
            let took = (call.kind() == Kind::Read).then_some(took);
            self.regions.note(&place, Outcome::Answered(took));
            Ok(taken)
        };
        let taken = asked.await;
        (place, taken)
    }

    /// Sends it, and takes in what the answer says of the session; a refusal is a failure.
    async fn send_once(
        &self,
        place: &Place,
        call: &Call,
        token: Option<&Token>,
    ) -> Result<Response, Failure> {
        let mut request = call.to(&place.http, &place.url)?;
        if let Some(token) = token {
            request = request.bearer_auth(token.expose());
        }
        if let Some(session) = self.session() {
            request = request.header("holm-session", session);
        }
        let response = request.send().await.map_err(|e| connection_error(&place.name, &e))?;
        if let Some(session) = response.headers().get("holm-session")
            && let Ok(session) = session.to_str()
        {
            self.include_session(session);
        }
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        // A date would take a clock to understand; Holm says seconds.
        let seconds = response.headers().get(header::RETRY_AFTER);
        let seconds = seconds.and_then(|it| it.to_str().ok()?.trim().parse().ok());
        let retry_after = seconds.map(Duration::from_secs).map(|it| it.min(RETRY_AFTER_MAX));
        let bytes = body(response).await?;
        let error = ClientError::Refused(Refusal::of(status.as_u16(), &bytes));
        Err(Failure { error, retry_after })
    }

    /// What a failure says of the place.
    pub(super) fn learn(&self, place: &Place, failure: &Failure) {
        let outcome = match &failure.error {
            error @ (ClientError::Connection { connected: false, .. }
            | ClientError::Connection { tls: true, .. }) => Outcome::Failed(error),
            ClientError::Refused(refusal) => match (refusal.status, refusal.name.as_str()) {
                (_, "NotReady" | "ShuttingDown" | "StorageFailed") => {
                    Outcome::Failed(&failure.error)
                }
                (_, "Overloaded" | "TooManyRequests") => {
                    Outcome::Busy(failure.retry_after.unwrap_or(PATIENCE))
                }
                (502 | 504, _) => Outcome::Silent,
                _ => Outcome::Answered(None),
            },
            _ => Outcome::Silent,
        };
        self.regions.note(place, outcome);
    }
}

/// Why a request was not answered over HTTP.
pub(in crate::client) fn connection_error(name: &str, e: &reqwest::Error) -> ClientError {
    ClientError::Connection {
        url: name.to_owned(),
        connected: !e.is_connect(),
        tls: error::is_of_tls(e),
        message: error::tls_words(e).map_or_else(|| error::innermost(e), str::to_owned),
    }
}
