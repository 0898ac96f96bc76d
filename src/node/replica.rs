//! The store as gossip sees it.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::Standing;
use super::store::Store;
use crate::gossip::{Applied, ApplyError, Missing, Need, Replica};
use crate::model::{Dot, NodeName, Origin, Told, Vector};
use crate::storage;

/// From this many records on, whole documents may be the better way to catch up,
const LONG_LOG: u64 = 20_000;
/// where there are this many times more records than keys.
const CHEAPER: u64 = 4;

pub(super) struct ConfigReplica {
    pub(super) store: Store,
    pub(super) standing: Arc<Standing>,
}

impl Replica for ConfigReplica {
    fn vector(&self) -> Arc<Vector> {
        self.store.snapshot().vector.clone()
    }

    fn origin(&self) -> Origin {
        self.standing.origin()
    }

    fn apply(
        &self,
        from: NodeName,
        records: Vec<Bytes>,
    ) -> BoxFuture<'static, Result<Applied, ApplyError>> {
        let store = self.store.clone();
        async move {
            let applied = store.apply(records).await.map_err(|error| {
                tracing::warn!(%from, %error, "changes of a peer were not taken");
                ApplyError::Unavailable(error.to_string())
            })?;
            if applied.quarantined > 0 {
                tracing::warn!(%from, records = applied.quarantined, "a peer sent bad records");
            }
            Ok(Applied {
                new: applied.new,
                duplicate: applied.duplicate,
                waiting: applied.waiting,
                quarantined: applied.quarantined,
            })
        }
        .boxed()
    }

    fn missing(&self, vector: Told, bytes_max: usize) -> BoxFuture<'static, io::Result<Missing>> {
        let (store, rows) = (self.store.clone(), self.standing.counts().rows);
        async move {
            let mine = store.snapshot().vector.clone();
            let vector = vector.read(&mine.folds());
            let lacking = mine.ahead_of(&vector);
            let storage::Missing { records, more, is_trimmed } =
                store.missing(vector, bytes_max).await.map_err(io::Error::other)?;
            let is_long = lacking >= LONG_LOG && lacking / CHEAPER > rows as u64;
            let documents = match () {
                () if is_trimmed => Some(Need::Trimmed),
                () if is_long && more => Some(Need::Cheaper),
                () => None,
            };
            Ok(Missing { records, more, documents })
        }
        .boxed()
    }

    fn witnessed(&self, by: NodeName, origin: Origin, n: u64) -> BoxFuture<'static, ()> {
        let store = self.store.clone();
        async move { store.witnessed(by, Dot { origin, n }).await }.boxed()
    }
}
