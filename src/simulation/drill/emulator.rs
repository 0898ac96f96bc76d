//! The wide-area network in userspace: reads each node's packets from its TUN device, and writes
//! them to another one's when the link between them says so ([`super::switchboard`]).
//!
//! Timers of a millisecond are as exact as it gets: 40 ms each way are measured as 81 to 84 ms.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::switchboard::Switchboard;
use super::tun::Device;

/// Longest packet that a device gives.
const PACKET_LEN_MAX: usize = 65_536;

struct Shared {
    board: Mutex<Switchboard>,
    /// A packet may be due before those that were waited for.
    wake: Notify,
    epoch: Instant,
    devices: Vec<Device>,
    /// What ended the emulation, if anything did.
    failure: Mutex<Option<String>>,
    /// Packets that a device did not take: its queue was full, or its node's namespace is gone.
    refused: std::sync::atomic::AtomicU64,
}

impl Shared {
    fn board(&self) -> MutexGuard<'_, Switchboard> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    fn fail(&self, why: String) {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
    }
}

/// Runs until it is dropped.
pub(crate) struct Emulator {
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
}

impl Emulator {
    /// Carries packets between `devices`, which stand in the order of the nodes. Called inside a
    /// tokio runtime.
    pub(crate) fn start(
        devices: Vec<Device>,
        board: Switchboard,
        node_of: impl Fn(Ipv4Addr) -> Option<usize> + Copy + Send + 'static,
    ) -> Self {
        let shared = Arc::new(Shared {
            board: Mutex::new(board),
            wake: Notify::new(),
            epoch: Instant::now(),
            devices,
            failure: Mutex::default(),
            refused: 0.into(),
        });
        let mut tasks = vec![tokio::spawn(deliver(shared.clone()))];
        for from in 0..shared.devices.len() {
            tasks.push(tokio::spawn(take_in(shared.clone(), from, node_of)));
        }
        Self { shared, tasks }
    }

    /// Looks at the links, or changes them; what a change sets free arrives.
    pub(crate) fn with<T>(&self, act: impl FnOnce(&mut Switchboard, Duration) -> T) -> T {
        let now = self.shared.now();
        let done = act(&mut self.shared.board(), now);
        self.shared.wake.notify_one();
        done
    }

    /// What ended the emulation, if anything did: then nothing passes any more.
    pub(crate) fn failure(&self) -> Option<String> {
        self.shared.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Packets that a device did not take.
    pub(crate) fn refused(&self) -> u64 {
        self.shared.refused.load(std::sync::atomic::Ordering::Relaxed)
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

async fn take_in(
    shared: Arc<Shared>,
    from: usize,
    node_of: impl Fn(Ipv4Addr) -> Option<usize> + Copy,
) {
    let mut buffer = vec![0; PACKET_LEN_MAX];
    loop {
        let len = match shared.devices[from].recv(&mut buffer).await {
            Ok(len) => len,
            Err(error) => return shared.fail(format!("the device of node {from}: {error}")),
        };
        let is_first = {
            let mut board = shared.board();
            let before = board.next();
            board.goes_in(shared.now(), from, &buffer[..len], node_of);
            board.next() != before
        };
        if is_first {
            shared.wake.notify_one();
        }
    }
}

async fn deliver(shared: Arc<Shared>) {
    loop {
        let now = shared.now();
        // The lock is not held while a packet is written: readers go on.
        loop {
            let next = shared.board().comes_out(now);
            let Some((to, packet)) = next else { break };
            if shared.devices[to].send(&packet).is_err() {
                shared.refused.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
        }
        let next = shared.board().next();
        let due = async {
            match next {
                Some(at) => sleep_until(shared.epoch + at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = shared.wake.notified() => {}
            () = due => {}
        }
    }
}
