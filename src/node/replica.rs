//! The store as gossip sees it.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::Standing;
use super::store::Store;
use crate::gossip::{Applied, ApplyError, Replica};
use crate::model::{Dot, NodeName, Origin, Vector};

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

    fn missing(
        &self,
        vector: Vector,
        bytes_max: usize,
    ) -> BoxFuture<'static, io::Result<(Vec<Bytes>, bool)>> {
        let store = self.store.clone();
        async move { store.missing(vector, bytes_max).await.map_err(io::Error::other) }.boxed()
    }

    fn witnessed(&self, origin: Origin, n: u64) -> BoxFuture<'static, ()> {
        let store = self.store.clone();
        async move { store.witnessed(Dot { origin, n }).await }.boxed()
    }
}
