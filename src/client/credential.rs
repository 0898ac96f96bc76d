//! A client's own credential: an account's name and client secret, for which it gets tokens, and
//! new ones before they expire.

use std::time::Duration;

use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::Token;

/// How long before its end a token is replaced.
const RENEW_BEFORE: Duration = Duration::from_secs(30);

/// Who asks for tokens. `Debug` shows the name alone.
#[derive(Clone, Debug)]
pub struct ClientCredential {
    /// The account's name.
    pub client_id: String,
    /// Its client secret.
    pub secret: Token,
}

/// A token, and when it is to be replaced.
#[derive(Debug, Default)]
pub(super) struct Held(Mutex<Option<(Token, Instant)>>);

/// What `/oauth/token` answers.
#[derive(Deserialize)]
pub(super) struct Issued {
    access_token: String,
    expires_in: u64,
}

impl Held {
    /// The token, or the one that `fetch` gets; one caller at a time fetches.
    pub(super) async fn get<E>(
        &self,
        fetch: impl Future<Output = Result<Issued, E>>,
    ) -> Result<Token, E> {
        let mut held = self.0.lock().await;
        if let Some((token, until)) = &*held
            && Instant::now() < *until
        {
            return Ok(token.clone());
        }
        let asked = Instant::now();
        let issued = fetch.await?;
        let good = Duration::from_secs(issued.expires_in.min(24 * 3600));
        // A token that is over sooner than that is used for half of its time.
        let good = good.saturating_sub(RENEW_BEFORE).max(good / 2);
        let token = Token::from(issued.access_token.as_str());
        *held = Some((token.clone(), asked + good));
        Ok(token)
    }

    /// Forgets the token: it was refused.
    pub(super) async fn forget(&self) {
        *self.0.lock().await = None;
    }
}

impl ClientCredential {
    /// The form that asks for a token.
    pub(super) fn form(&self, scope: Option<&str>) -> String {
        let mut form = format!(
            "grant_type=client_credentials&client_id={}&client_secret={}",
            encode(&self.client_id),
            encode(self.secret.expose())
        );
        if let Some(scope) = scope {
            form += &format!("&scope={}", encode(scope));
        }
        form
    }
}

/// A form's encoding (WHATWG URL, `application/x-www-form-urlencoded`).
fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._*".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded += &format!("%{byte:02X}");
        }
    }
    encoded
}
