//! A node's backup, as it streams it; and the time of day where it is.

use std::time::Duration;

use reqwest::{Method, Response};

use super::attempt::{Span, Want};
use super::{Client, ClientError, error};

/// A backup under way. Whether it is whole, its bytes say.
#[derive(Debug)]
pub struct BackupStream {
    response: Response,
    /// Who gives it.
    place: String,
    within: Duration,
}

impl Client {
    /// Asks for a backup; returns when the first bytes may come.
    pub async fn backup(&self) -> Result<BackupStream, ClientError> {
        let within = self.settings.timeout;
        let call = self.request(Method::GET, "/cluster/backup");
        let taken = self.run(&call, Want::Head, Span::new(within)).await?;
        let place = taken.place.name.clone();
        let none = || ClientError::Answer("there is no answer".to_owned());
        Ok(BackupStream { response: taken.response.ok_or_else(none)?, place, within })
    }

    /// The time of day where the node is, as its answers tell it: RFC 9110's `Date`.
    pub async fn date(&self) -> Result<Option<String>, ClientError> {
        let call = self.request(Method::GET, "/healthz").open();
        let taken = self.run(&call, Want::Head, Span::new(self.settings.timeout)).await?;
        let headers = taken.response.as_ref().map(Response::headers);
        let date = headers.and_then(|it| it.get("date")?.to_str().ok());
        Ok(date.map(str::to_owned))
    }
}

impl BackupStream {
    /// The next bytes, of any length; none after the last. Each time they have the client's timeout
    /// to come.
    pub async fn next(&mut self) -> Result<Option<bytes::Bytes>, ClientError> {
        match tokio::time::timeout(self.within, self.response.chunk()).await {
            Ok(chunk) => chunk.map_err(|e| {
                let message = format!("the backup broke off: {}", error::innermost(&e));
                ClientError::Answer(message)
            }),
            Err(_) => Err(ClientError::TimedOut { url: self.place.clone(), within: self.within }),
        }
    }
}
