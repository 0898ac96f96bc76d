//! A document as a value of the caller's own type, kept up to date: read in nanoseconds, validated before
//! it is shown, and there when every region is down. It is a [`LocalCopy`] whose states have to fit.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use holm::client::Client;
//!
//! #[derive(serde::Deserialize)]
//! struct Web {
//!     #[serde(rename = "server.port")]
//!     port: u16,
//!     color: String,
//! }
//!
//! let client = Client::new("http://127.0.0.1:8101", Some("a token"))?;
//! let web = client
//!     .watch_map::<Web>("web", "prod")
//!     .file("/var/lib/web/holm.copy")
//!     .validate(|web| if web.port < 1024 { Err("the port is below 1024") } else { Ok(()) })
//!     .on_change(|web| println!("the colour is {} now", web.color))
//!     .on_problem(|problem| eprintln!("the last good state stays: {problem}"))
//!     .start()
//!     .await?;
//! let port = web.load().port;
//! # drop(port); Ok(()) }
//! ```

use std::fmt::Display;
use std::future::IntoFuture;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::future::{BoxFuture, FutureExt as _};
use serde::de::DeserializeOwned;

use super::Client;
use super::copy::{Accept, CopyAge, CopyEnv, CopyError, CopySettings, CopyState, LocalCopy};
use crate::model::{DocumentId, Environment, NameError, Service};

mod shape;

use shape::Shape;

/// Why there is no map. Nothing was started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MapError {
    /// The service or the environment is no name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// There is nothing to show; the words say whether it did not come or did not fit.
    #[error(transparent)]
    Copy(#[from] CopyError),
}

type Check<T> = Box<dyn Fn(&T) -> Result<(), String> + Send + Sync>;
type OnChange<T> = Box<dyn Fn(&T) + Send + Sync>;
type OnProblem = Box<dyn Fn(&str) + Send + Sync>;

/// What a map is to be: see [`Client::watch_map`].
#[must_use = "nothing happens before it is started"]
pub struct MapBuilder<T> {
    client: Client,
    names: (String, String),
    settings: CopySettings,
    shape: Shape,
    check: Option<Check<T>>,
    on_change: Option<OnChange<T>>,
    on_problem: Option<OnProblem>,
}

impl Client {
    /// A document as a `T` that is kept up to date.
    ///
    /// Each key is a field of its whole name: `server.port` is `#[serde(rename = "server.port")]`, or a
    /// member of a `BTreeMap<String, …>`. With [`MapBuilder::nested`] dots are levels instead. A state
    /// that does not fit `T`, or that does not pass [`MapBuilder::validate`], is not shown: the one
    /// before stays, in memory and on disk, and [`WatchMap::problem`] says why.
    pub fn watch_map<T>(&self, service: &str, environment: &str) -> MapBuilder<T>
    where
        T: DeserializeOwned + Send + Sync + 'static,
    {
        MapBuilder {
            client: self.clone(),
            names: (service.to_owned(), environment.to_owned()),
            settings: CopySettings::default(),
            shape: Shape::default(),
            check: None,
            on_change: None,
            on_problem: None,
        }
    }
}

impl<T: DeserializeOwned + Send + Sync + 'static> MapBuilder<T> {
    /// Where the last good state is kept.
    pub fn file(mut self, path: impl Into<PathBuf>) -> Self {
        self.settings.file = Some(path.into());
        self
    }

    /// Only keys that begin with this. They keep their whole names.
    pub fn prefix(mut self, prefix: &str) -> Self {
        self.settings.prefix = Some(prefix.to_owned());
        self
    }

    /// How long a start without a usable file waits for a region.
    pub fn start_within(mut self, time: Duration) -> Self {
        self.settings.start_within = time;
        self
    }

    /// Everything else that can be said of a copy.
    pub fn settings(mut self, settings: CopySettings) -> Self {
        self.settings = settings;
        self
    }

    /// Dots in keys are levels: `server.port` is the field `port` of the field `server`. A key that has
    /// a value and others below it does not fit then.
    pub fn nested(mut self) -> Self {
        self.shape = Shape::Nested;
        self
    }

    /// Says whether a state may be shown. Called for each one that fits `T`, before anybody sees it.
    pub fn validate<E: Display>(
        mut self,
        check: impl Fn(&T) -> Result<(), E> + Send + Sync + 'static,
    ) -> Self {
        self.check = Some(Box::new(move |value| check(value).map_err(|e| e.to_string())));
        self
    }

    /// Called with each state after the first one, when readers see it already. It is called by the task
    /// that follows the document: what takes long belongs elsewhere.
    pub fn on_change(mut self, call: impl Fn(&T) + Send + Sync + 'static) -> Self {
        self.on_change = Some(Box::new(call));
        self
    }

    /// Called when a state is not shown, with the reason. It can repeat parts of values.
    pub fn on_problem(mut self, call: impl Fn(&str) + Send + Sync + 'static) -> Self {
        self.on_problem = Some(Box::new(call));
        self
    }

    /// Starts it. Returns when there is a state to show: a region's, or the file's.
    pub async fn start(self) -> Result<WatchMap<T>, MapError> {
        self.start_in(CopyEnv::default()).await
    }

    pub(crate) async fn start_in(self, env: CopyEnv) -> Result<WatchMap<T>, MapError> {
        let (service, environment) = &self.names;
        let document = DocumentId::new(Service::new(service)?, Environment::new(environment)?);
        let cell = Arc::new(OnceLock::new());
        let accept = accept(cell.clone(), self.shape, self.check, self.on_change, self.on_problem);
        let (client, settings) = (self.client, self.settings);
        let copy = LocalCopy::start(client, &document, settings, Some(accept), env).await?;
        let Some(value) = cell.get().cloned() else {
            // A copy that started has had a state accepted.
            let (last, file) = ("no state was accepted".to_owned(), "no file helps".to_owned());
            let within = Duration::ZERO;
            return Err(CopyError::Nothing { document, within, last, file }.into());
        };
        Ok(WatchMap { value, copy })
    }
}

impl<T: DeserializeOwned + Send + Sync + 'static> IntoFuture for MapBuilder<T> {
    type Output = Result<WatchMap<T>, MapError>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        self.start().boxed()
    }
}

/// Makes a state a `T`, has it checked, and swaps it in.
fn accept<T: DeserializeOwned + Send + Sync + 'static>(
    cell: Arc<OnceLock<Arc<ArcSwap<T>>>>,
    shape: Shape,
    check: Option<Check<T>>,
    on_change: Option<OnChange<T>>,
    on_problem: Option<OnProblem>,
) -> Accept {
    let fits = move |state: &CopyState| -> Result<Arc<T>, String> {
        let value: T = shape::fit(shape, state).map_err(|e| e.to_string())?;
        check.as_ref().map_or(Ok(()), |check| check(&value))?;
        Ok(Arc::new(value))
    };
    Box::new(move |state| {
        let value = match fits(state) {
            Ok(value) => value,
            Err(reason) => {
                if let Some(call) = &on_problem {
                    call(&reason);
                }
                return Err(reason);
            }
        };
        match cell.get() {
            Some(shown) => {
                shown.store(value.clone());
                if let Some(call) = &on_change {
                    call(&value);
                }
            }
            None => drop(cell.set(Arc::new(ArcSwap::new(value)))),
        }
        Ok(())
    })
}

/// A document as a `T`, kept up to date. Clones are one map; it is followed until the last is dropped.
#[derive(Clone)]
pub struct WatchMap<T> {
    value: Arc<ArcSwap<T>>,
    copy: LocalCopy,
}

/// What a map shows at one moment. Hold it briefly: it is the value as it was.
pub struct Reading<T>(arc_swap::Guard<Arc<T>>);

impl<T> Deref for Reading<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> WatchMap<T> {
    /// The value as it is now, in nanoseconds: no lock, no copy, no network.
    pub fn load(&self) -> Reading<T> {
        Reading(self.value.load())
    }

    /// The same to keep, for example beside a request that is to see one state throughout.
    pub fn load_full(&self) -> Arc<T> {
        self.value.load_full()
    }

    /// How old it is.
    pub fn age(&self) -> CopyAge {
        self.copy.age()
    }

    /// What is wrong at the moment: a newer state that does not fit, regions that do not answer, a file
    /// that cannot be used.
    pub fn problem(&self) -> Option<String> {
        self.copy.problem()
    }

    /// The copy behind it, with versions, authors and the session.
    pub fn copy(&self) -> &LocalCopy {
        &self.copy
    }

    /// Ends it, and puts the last good state on disk. Readers go on with what is there.
    pub async fn close(&self) {
        self.copy.close().await;
    }
}

impl<T> std::fmt::Debug for WatchMap<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "WatchMap({})", self.copy.document())
    }
}

#[cfg(test)]
mod tests;
