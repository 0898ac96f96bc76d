//! A consensus of one, in memory, for tests of what proposes and reads: it decides at once, records
//! into a list, and can be cut off.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::future::{BoxFuture, FutureExt as _};
use tokio::sync::watch;
use tokio::time::Instant;

use super::{
    ChangeError, Consensus, Decided, MemberChange, ProposeError, Quorum, QuorumStatus, ReadError,
};
use crate::audit::{ChainReader, Event, Head, Unreadable};
use crate::registry::{Proposal, State};

/// Decides alone.
pub(crate) struct Alone {
    state: Mutex<State>,
    published: Arc<ArcSwap<State>>,
    applied: watch::Sender<u64>,
    /// What was recorded and what was decided, in order.
    pub(crate) events: Mutex<Vec<Event>>,
    /// Whether it can record nothing, as with a full disk.
    pub(crate) is_full: AtomicBool,
    /// How long ago it says that it heard of a leader, in milliseconds.
    pub(crate) contact_age_ms: AtomicU64,
    /// Whether it answers nobody.
    pub(crate) is_cut: AtomicBool,
}

impl Alone {
    /// A new one, with nothing decided.
    pub(crate) fn start() -> (Arc<Self>, Quorum) {
        let published = Arc::new(ArcSwap::default());
        let applied = watch::Sender::new(0);
        let receiver = applied.subscribe();
        let this = Arc::new(Self {
            state: Mutex::default(),
            published: published.clone(),
            applied,
            events: Mutex::default(),
            is_full: AtomicBool::new(false),
            contact_age_ms: AtomicU64::new(0),
            is_cut: AtomicBool::new(false),
        });
        let quorum = Quorum::new(this.clone(), published, receiver);
        (this, quorum)
    }

    /// Changes the state behind everybody's back, as who has the disk can.
    #[cfg(test)]
    pub(crate) fn tamper(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut state);
        self.published.store(Arc::new(state.clone()));
        self.applied.send_replace(state.index);
    }

    fn is_cut(&self) -> bool {
        self.is_cut.load(Ordering::Relaxed)
    }
}

/// The chain as of one moment.
struct MemoryChain {
    head: Head,
    records: Vec<Vec<u8>>,
}

impl ChainReader for MemoryChain {
    fn head(&self) -> Result<Head, Unreadable> {
        Ok(self.head)
    }

    fn walk(
        &self,
        from: u64,
        visit: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<(), Unreadable> {
        let before = usize::try_from(from.saturating_sub(1)).unwrap_or(usize::MAX);
        let _ = self.records.iter().skip(before).try_for_each(|record| visit(record));
        Ok(())
    }
}

impl Consensus for Alone {
    fn propose(
        &self,
        proposal: Proposal,
        _deadline: Instant,
    ) -> BoxFuture<'_, Result<Decided, ProposeError>> {
        if self.is_cut() {
            let error = ProposeError::Unavailable("cut off".into());
            return futures_util::future::ready(Err(error)).boxed();
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let index = state.index + 1;
        let applied = state.apply(index, &proposal);
        self.published.store(Arc::new(state.clone()));
        self.applied.send_replace(index);
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        events.extend(applied.event);
        let (outcome, replayed) = (applied.outcome, applied.replayed);
        futures_util::future::ready(Ok(Decided { index, outcome, replayed })).boxed()
    }

    fn read_index(&self, _deadline: Instant) -> BoxFuture<'_, Result<u64, ReadError>> {
        let index = self.state.lock().unwrap_or_else(PoisonError::into_inner).index;
        let result = match self.is_cut() {
            true => Err(ReadError::Unavailable("cut off".into())),
            false => Ok(index),
        };
        futures_util::future::ready(result).boxed()
    }

    fn record(&self, events: Vec<Event>) -> BoxFuture<'_, Result<(), ReadError>> {
        if self.is_full.load(Ordering::Relaxed) {
            let error = ReadError::Failed("the disk is full".into());
            return futures_util::future::ready(Err(error)).boxed();
        }
        self.events.lock().unwrap_or_else(PoisonError::into_inner).extend(events);
        futures_util::future::ready(Ok(())).boxed()
    }

    fn chain(&self) -> Option<Arc<dyn ChainReader>> {
        let events = self.events.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut head = Head::default();
        let records = events.into_iter().map(|event| head.append(event)).collect();
        Some(Arc::new(MemoryChain { head, records }))
    }

    fn contact_age(&self) -> Duration {
        Duration::from_millis(self.contact_age_ms.load(Ordering::Relaxed))
    }

    fn status(&self) -> QuorumStatus {
        QuorumStatus { role: "leader".to_owned(), ..QuorumStatus::default() }
    }

    fn change(
        &self,
        _: MemberChange,
        _deadline: Instant,
    ) -> BoxFuture<'_, Result<(), ChangeError>> {
        let refusal = ChangeError::Refused("it decides alone".into());
        futures_util::future::ready(Err(refusal)).boxed()
    }

    fn shutdown(&self) -> BoxFuture<'_, ()> {
        futures_util::future::ready(()).boxed()
    }
}
