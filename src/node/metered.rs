//! A disk that tells the metrics how long syncing takes and what fails. What it hands on is the
//! other disk's, to the byte.

use std::io;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use redb::{BackendError, StorageBackend};
use tokio::time::Instant;

use super::StartError;
use crate::env::{Disk, Env};
use crate::telemetry::Metrics;

/// A node's metrics, and `env` with a disk that counts for them.
pub(super) fn metered(env: Env) -> Result<(Env, Arc<Metrics>), StartError> {
    let metrics = Arc::new(Metrics::new().map_err(|e| StartError::Metrics(e.to_string()))?);
    let disk = Arc::new(Metered { disk: env.disk.clone(), metrics: metrics.clone() });
    Ok((Env { disk, ..env }, metrics))
}

struct Metered {
    disk: Arc<dyn Disk>,
    metrics: Arc<Metrics>,
}

impl Metered {
    fn counted<T>(&self, operation: &str, done: io::Result<T>) -> io::Result<T> {
        done.inspect_err(|_| self.metrics.disk_failed(operation))
    }
}

impl Disk for Metered {
    fn database(&self, name: &str) -> io::Result<Box<dyn StorageBackend>> {
        let file = self.counted("read", self.disk.database(name))?;
        // `config.redb` is the store `config`; `quorum.journal` is of the store `quorum`.
        let store = name.split('.').next().unwrap_or(name).to_owned();
        Ok(Box::new(MeteredFile { file, store, metrics: self.metrics.clone() }))
    }

    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        self.counted("read", self.disk.read(name))
    }

    fn write(&self, name: &str, bytes: &[u8], durable: bool) -> io::Result<()> {
        self.counted("write", self.disk.write(name, bytes, durable))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.counted("write", self.disk.remove(name))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.counted("write", self.disk.rename(from, to))
    }

    fn identity(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        self.counted("read", self.disk.identity(name))
    }

    fn len(&self, name: &str) -> io::Result<Option<u64>> {
        self.counted("read", self.disk.len(name))
    }

    fn room(&self) -> io::Result<Option<(u64, u64)>> {
        self.counted("read", self.disk.room())
    }

    fn directory(&self, path: &Path) -> io::Result<Arc<dyn Disk>> {
        let disk = self.counted("read", self.disk.directory(path))?;
        Ok(Arc::new(Self { disk, metrics: self.metrics.clone() }))
    }

    fn machine_boot(&self) -> Option<Vec<u8>> {
        self.disk.machine_boot()
    }
}

struct MeteredFile {
    file: Box<dyn StorageBackend>,
    store: String,
    metrics: Arc<Metrics>,
}

impl std::fmt::Debug for MeteredFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("MeteredFile").field(&self.file).finish()
    }
}

impl MeteredFile {
    fn counted<T>(&self, operation: &str, done: io::Result<T>) -> io::Result<T> {
        done.inspect_err(|_| self.metrics.disk_failed(operation))
    }
}

impl StorageBackend for MeteredFile {
    fn len(&self) -> io::Result<u64> {
        self.counted("read", self.file.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.counted("read", self.file.read(offset, out))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.counted("write", self.file.set_len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        let from = Instant::now();
        let done = self.counted("sync", self.file.sync_data());
        self.metrics.disk_sync_done(&self.store, from.elapsed());
        done
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.counted("write", self.file.write(offset, data))
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn try_lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.query_lock_range(start, end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::MemoryDisk;

    #[tokio::test]
    async fn syncs_are_timed_by_store_and_failures_counted_by_kind() {
        let disk = MemoryDisk::new();
        let (env, metrics) = metered(Env::in_memory(disk.clone(), None)).unwrap();
        let file = env.disk.database("quorum.redb").unwrap();
        file.write(0, b"x").unwrap();
        file.sync_data().unwrap();
        disk.fail(true);
        assert!(file.write(0, b"x").is_err() && file.sync_data().is_err());
        assert!(env.disk.write("mark", b"x", true).is_err());
        let text = metrics.render();
        for line in [
            "holm_disk_sync_duration_seconds_count{store=\"quorum\"} 2",
            "holm_disk_sync_duration_seconds_count{store=\"config\"} 0",
            "holm_disk_errors_total{operation=\"write\"} 2",
            "holm_disk_errors_total{operation=\"sync\"} 1",
            "holm_disk_errors_total{operation=\"read\"} 0",
        ] {
            assert!(text.lines().any(|found| found == line), "no {line} in {text}");
        }
    }
}
