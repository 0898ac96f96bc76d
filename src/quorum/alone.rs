//! A consensus of one, in memory, for tests of what proposes and reads: it decides at once, records
//! into a list, and can be cut off.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::future::{BoxFuture, FutureExt as _};
use tokio::sync::watch;
use tokio::time::Instant;

use super::{
    ChangeError, Consensus, Decided, MemberChange, ProposeError, Quorum, QuorumStatus, ReadError,
};
use crate::audit::Event;
use crate::registry::{Proposal, State};

/// Decides alone.
pub(crate) struct Alone {
    state: Mutex<State>,
    published: Arc<ArcSwap<State>>,
    applied: watch::Sender<u64>,
    /// What was recorded and what was decided, in order.
    pub(crate) events: Mutex<Vec<Event>>,
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
            is_cut: AtomicBool::new(false),
        });
        let quorum = Quorum::new(this.clone(), published, receiver);
        (this, quorum)
    }

    fn is_cut(&self) -> bool {
        self.is_cut.load(Ordering::Relaxed)
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
        self.events.lock().unwrap_or_else(PoisonError::into_inner).extend(events);
        futures_util::future::ready(Ok(())).boxed()
    }

    fn contact_age(&self) -> Duration {
        Duration::ZERO
    }

    fn status(&self) -> QuorumStatus {
        QuorumStatus::default()
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
