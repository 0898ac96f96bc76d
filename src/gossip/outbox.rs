//! What waits to be written to one peer: changes, bounded in bytes, and whether the peer should be
//! told the vector. It decides nothing about connections.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use super::RECORD_LEN_MAX;

/// The queue to one peer.
#[derive(Default)]
pub(super) struct Outbox {
    queue: Mutex<Queue>,
    wake: Notify,
}

#[derive(Default)]
struct Queue {
    /// Closed while there is no connection: anti-entropy starts at the next one anyway.
    is_open: bool,
    records: Vec<Bytes>,
    bytes: usize,
    have_wanted: bool,
}

impl Outbox {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// There is a connection.
    pub(super) fn open(&self) {
        let mut queue = self.queue();
        queue.is_open = true;
        queue.have_wanted = true;
    }

    /// Whether there is one.
    pub(super) fn is_open(&self) -> bool {
        self.queue().is_open
    }

    /// There is none any more.
    pub(super) fn close(&self) {
        *self.queue() = Queue::default();
    }

    /// Queues `records`. Where they don't fit, all that waits is dropped, these too; says how many.
    pub(super) fn push(&self, records: &[Bytes], bytes_max: usize) -> u64 {
        let mut queue = self.queue();
        if !queue.is_open {
            return 0;
        }
        let bytes: usize = records.iter().map(Bytes::len).sum();
        let is_sendable = records.iter().all(|record| record.len() <= RECORD_LEN_MAX);
        if queue.bytes + bytes > bytes_max || !is_sendable {
            let dropped = queue.records.len() + records.len();
            queue.records = Vec::new();
            queue.bytes = 0;
            // So that the peer notices what it lacks.
            queue.have_wanted = true;
            self.wake.notify_one();
            return dropped as u64;
        }
        queue.records.extend_from_slice(records);
        queue.bytes += bytes;
        self.wake.notify_one();
        0
    }

    /// The peer should be told the vector.
    pub(super) fn want_have(&self) {
        let mut queue = self.queue();
        if queue.is_open && !queue.have_wanted {
            queue.have_wanted = true;
            self.wake.notify_one();
        }
    }

    /// All records that wait.
    pub(super) fn take(&self) -> Vec<Bytes> {
        let mut queue = self.queue();
        queue.bytes = 0;
        std::mem::take(&mut queue.records)
    }

    /// Whether the vector should be told.
    pub(super) fn is_have_wanted(&self) -> bool {
        self.queue().have_wanted
    }

    /// The vector is about to be told: what changes from here on wants to be told again.
    pub(super) fn have_told(&self) {
        self.queue().have_wanted = false;
    }

    /// How many bytes wait.
    pub(super) fn bytes(&self) -> usize {
        self.queue().bytes
    }

    /// Waits for something to write; may also return for nothing.
    pub(super) async fn wait(&self) {
        self.wake.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    fn record(len: usize) -> Bytes {
        vec![0; len].into()
    }

    #[test]
    fn a_full_queue_is_dropped_whole_and_the_peer_is_told_the_vector() {
        let outbox = Outbox::default();
        assert_eq!(outbox.push(&[record(10)], 100), 0);
        assert_eq!(outbox.bytes(), 0, "nothing is kept without a connection");
        outbox.open();
        outbox.have_told();
        assert_eq!(outbox.push(&[record(60), record(40)], 100), 0);
        assert!(!outbox.is_have_wanted());
        assert_eq!(outbox.push(&[record(1)], 100), 3);
        assert!(outbox.is_have_wanted());
        assert_eq!((outbox.bytes(), outbox.take().len()), (0, 0));
        assert_eq!(outbox.push(&[record(1)], 100), 0);
        assert_eq!(outbox.take(), [record(1)]);
    }

    #[test]
    fn a_record_that_fits_no_frame_is_dropped() {
        let outbox = Outbox::default();
        outbox.open();
        assert_eq!(outbox.push(&[record(RECORD_LEN_MAX + 1)], usize::MAX), 1);
        assert_eq!(outbox.push(&[record(RECORD_LEN_MAX)], usize::MAX), 0);
    }

    #[test]
    fn whoever_waits_is_woken_by_records_and_by_a_moved_vector() {
        let outbox = Outbox::default();
        outbox.open();
        outbox.have_told();
        assert!(outbox.wait().now_or_never().is_none());
        outbox.want_have();
        assert!(outbox.wait().now_or_never().is_some());
        outbox.push(&[record(1)], 10);
        assert!(outbox.wait().now_or_never().is_some());
        outbox.close();
        outbox.want_have();
        assert!(!outbox.is_have_wanted());
    }
}
