//! A disk that fails after some more writes, and what the store makes of it.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use redb::StorageBackend;

use super::*;

/// A disk whose databases and small files take a number of writes, and then none.
#[derive(Clone)]
pub(super) struct FailingDisk {
    pub(super) inner: MemoryDisk,
    left: Arc<AtomicU64>,
}

impl FailingDisk {
    pub(super) fn new(inner: MemoryDisk) -> Self {
        Self { inner, left: Arc::new(AtomicU64::new(u64::MAX)) }
    }

    pub(super) fn fail_after(&self, writes: u64) {
        self.left.store(writes, Ordering::Relaxed);
    }
}

fn take(left: &AtomicU64) -> io::Result<()> {
    let taken = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
    taken.map(drop).map_err(|_| io::Error::other("the disk is broken"))
}

impl Disk for FailingDisk {
    fn database(&self, name: &str) -> io::Result<Box<dyn StorageBackend>> {
        let inner = self.inner.database(name)?;
        Ok(Box::new(FailingBackend { inner, left: self.left.clone() }))
    }

    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        self.inner.read(name)
    }

    fn write(&self, name: &str, bytes: &[u8], durable: bool) -> io::Result<()> {
        take(&self.left)?;
        self.inner.write(name, bytes, durable)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.inner.remove(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn identity(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        self.inner.identity(name)
    }

    fn len(&self, name: &str) -> io::Result<Option<u64>> {
        self.inner.len(name)
    }

    fn machine_boot(&self) -> Option<Vec<u8>> {
        self.inner.machine_boot()
    }
}

#[derive(Debug)]
struct FailingBackend {
    inner: Box<dyn StorageBackend>,
    left: Arc<AtomicU64>,
}

impl StorageBackend for FailingBackend {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.inner.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        take(&self.left)?;
        self.inner.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        take(&self.left)?;
        self.inner.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        take(&self.left)?;
        self.inner.write(offset, data)
    }
}

#[tokio::test(start_paused = true)]
async fn wherever_the_disk_fails_nothing_acknowledged_is_lost_and_nothing_half_is_there() {
    for writes in 0.. {
        let failing = FailingDisk::new(MemoryDisk::new());
        let mut store = open_on(&failing).await;
        store.append(vec![founding(1, 1)]).await;
        store.apply(vec![founding(1, 1)]).await;
        settle().await;
        failing.fail_after(writes);
        let mut acknowledged = 1;
        for i in 2..8 {
            let (sender, flushed) = <Runtime as openraft::AsyncRuntime>::Oneshot::channel();
            let entry = role(1, i, &format!("role-{i}"));
            let _ = store.log.append(vec![entry.clone()], IOFlushed::signal(sender)).await;
            if flushed.await.unwrap().is_ok() {
                assert_eq!(acknowledged, i - 1, "once it has failed, nothing succeeds");
                acknowledged = i;
                let apply = stream::iter([Ok((entry, None))]);
                let _ = store.machine.apply(apply).await;
            }
        }
        let recorded = store.handle.record(vec![event("ada")]).await;
        let mut store = open_on(&failing.inner.crash(CrashMode::TearUnsynced(writes))).await;
        assert!(!store.handle.identity().is_new(), "{writes}: {}", store.handle.identity());
        let found = store.entries().await.len() as u64;
        assert!(found >= acknowledged, "{writes}: {found} of {acknowledged}");
        let chain = store.chain().await;
        assert!(recorded.is_err() || chain.contains(&event("ada")), "{writes}");
        let decided = chain.iter().filter(|event| event.index.is_some()).count() as u64;
        assert_eq!(decided, store.state().index, "{writes}: state and chain are of one commit");
        if recorded.is_ok() {
            assert!(writes > 5, "it failed in the middle, too");
            break;
        }
    }
}
