//! A replica in memory, for tests.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use crate::gossip::{Applied, ApplyError, Missing, Need, Replica};
use crate::model::{Dot, Folds, NodeName, Origin, Told, Vector, cbor};

/// A replica in memory. A record is a dot and some bytes; records apply in the order of their
/// origin's numbers.
pub(super) struct Memory {
    pub(super) origin: Origin,
    /// Everything that is applied.
    pub(super) log: Mutex<BTreeMap<Dot, Bytes>>,
    vector: Mutex<Arc<Vector>>,
    waiting: Mutex<BTreeMap<Dot, Bytes>>,
    pub(super) witnessed: Mutex<Vec<(Origin, u64)>>,
    /// What came though it was there.
    pub(super) duplicates: Mutex<Vec<Dot>>,
    /// Why whoever lacks something is sent to whole documents.
    pub(super) trimmed: Mutex<Option<Need>>,
    /// Nothing more is taken.
    pub(super) is_full: AtomicBool,
}

pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap()
}

fn record(dot: Dot, len: usize) -> Bytes {
    let mut bytes = cbor::encode(&dot);
    bytes.resize(bytes.len() + len, 0);
    bytes.into()
}

fn dot_of(record: &[u8]) -> Option<Dot> {
    minicbor::decode(record).ok()
}

impl Memory {
    pub(super) fn new(origin: u8) -> Arc<Self> {
        Arc::new(Self {
            origin: Origin([origin; 8]),
            log: Mutex::default(),
            vector: Mutex::default(),
            waiting: Mutex::default(),
            witnessed: Mutex::default(),
            duplicates: Mutex::default(),
            trimmed: Mutex::default(),
            is_full: AtomicBool::new(false),
        })
    }

    fn commit(&self, dot: Dot, bytes: Bytes) {
        locked(&self.log).insert(dot, bytes);
        Arc::make_mut(&mut locked(&self.vector)).advance(dot);
    }

    /// What these say is folded here.
    pub(super) fn fold(&self, folds: &Arc<Folds>) {
        Arc::make_mut(&mut locked(&self.vector)).fold(folds, folds.latest());
    }

    /// A change made here.
    pub(super) fn write(&self, len: usize) -> Bytes {
        let dot = Dot { origin: self.origin, n: self.vector().get(self.origin) + 1 };
        let bytes = record(dot, len);
        self.commit(dot, bytes.clone());
        bytes
    }

    fn take(&self, records: Vec<Bytes>) -> Applied {
        let mut applied = Applied::default();
        for bytes in records {
            let Some(dot) = dot_of(&bytes) else {
                applied.quarantined += 1;
                continue;
            };
            if self.vector().includes(dot) {
                applied.duplicate += 1;
                locked(&self.duplicates).push(dot);
                continue;
            }
            locked(&self.waiting).insert(dot, bytes);
            loop {
                let next = Dot { n: self.vector().get(dot.origin) + 1, ..dot };
                let Some(bytes) = locked(&self.waiting).remove(&next) else { break };
                self.commit(next, bytes);
                applied.new += 1;
            }
        }
        applied.waiting = locked(&self.waiting).len();
        applied
    }
}

impl Replica for Memory {
    fn vector(&self) -> Arc<Vector> {
        locked(&self.vector).clone()
    }

    fn origin(&self) -> Origin {
        self.origin
    }

    fn apply(
        &self,
        _: NodeName,
        records: Vec<Bytes>,
    ) -> BoxFuture<'static, Result<Applied, ApplyError>> {
        let applied = match self.is_full.load(Ordering::SeqCst) {
            true => Err(ApplyError::Unavailable("the disk is full".into())),
            false => Ok(self.take(records)),
        };
        std::future::ready(applied).boxed()
    }

    fn missing(&self, vector: Told, bytes_max: usize) -> BoxFuture<'static, io::Result<Missing>> {
        let log = locked(&self.log);
        let mut bytes = 0;
        let missing: Vec<&Bytes> =
            log.iter().filter(|(dot, _)| !vector.names(**dot)).map(|(_, bytes)| bytes).collect();
        let fits = |record: &&&Bytes| {
            bytes += record.len();
            bytes <= bytes_max
        };
        let sent: Vec<Bytes> =
            missing.iter().take_while(fits).map(|&bytes| bytes.clone()).collect();
        let more = sent.len() < missing.len();
        std::future::ready(Ok(Missing { records: sent, more, documents: *locked(&self.trimmed) }))
            .boxed()
    }

    fn witnessed(&self, _by: NodeName, origin: Origin, n: u64) -> BoxFuture<'static, ()> {
        locked(&self.witnessed).push((origin, n));
        std::future::ready(()).boxed()
    }
}
