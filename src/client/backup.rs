//! A node's backup, as it streams it; and the time of day where it is.

use reqwest::{Method, Response};

use super::{Client, ClientError, error};

/// A backup under way. Whether it is whole, its bytes say.
#[derive(Debug)]
pub struct BackupStream {
    response: Response,
    client: Client,
}

impl Client {
    /// Asks for a backup; returns when the first bytes may come.
    pub async fn backup(&self) -> Result<BackupStream, ClientError> {
        let begun = self.begin(self.request(Method::GET, "/cluster/backup"));
        let response = self.in_time(begun).await?;
        Ok(BackupStream { response, client: self.clone() })
    }

    /// The time of day where the node is, as its answers tell it: RFC 9110's `Date`.
    pub async fn date(&self) -> Result<Option<String>, ClientError> {
        let call = self.request(Method::GET, "/healthz");
        let response = self.in_time(self.send_once(&call, None)).await?;
        let date = response.headers().get("date").and_then(|date| date.to_str().ok());
        Ok(date.map(str::to_owned))
    }

    async fn in_time<T>(
        &self,
        what: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, ClientError> {
        let within = self.settings.timeout;
        match tokio::time::timeout(within, what).await {
            Ok(done) => done,
            Err(_) => Err(ClientError::TimedOut { url: self.settings.url.clone(), within }),
        }
    }
}

impl BackupStream {
    /// The next bytes, of any length; none after the last. Each time they have the client's timeout
    /// to come.
    pub async fn next(&mut self) -> Result<Option<bytes::Bytes>, ClientError> {
        let chunk = async {
            self.response.chunk().await.map_err(|e| {
                let message = format!("the backup broke off: {}", error::innermost(&e));
                ClientError::Answer(message)
            })
        };
        self.client.in_time(chunk).await
    }
}
