//! Where a run's history is gathered: by clients, by whoever breaks things, by probes. It numbers
//! requests and values, and keeps the order of time. It reads no clock: who records says when.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::history::{AtUs, Event, Record};
use super::trace::{Subject, Trace};

/// A history that grows. Clones are one.
#[derive(Clone)]
pub(crate) struct Recorder(Arc<Mutex<State>>);

struct State {
    records: Vec<Record>,
    /// What counts as time 0 of the history.
    base_us: u64,
    calls: u64,
    values: u64,
    clients: u32,
    trace: Option<Trace>,
    is_closed: bool,
}

impl Recorder {
    /// An empty history, whose records also go into `trace`.
    pub(crate) fn new(trace: Option<Trace>) -> Self {
        let state = State {
            records: Vec::new(),
            base_us: 0,
            calls: 0,
            values: 0,
            clients: 0,
            trace,
            is_closed: false,
        };
        Self(Arc::new(Mutex::new(state)))
    }

    /// From now on `now_us` is the history's time 0; what was recorded before is forgotten: it was
    /// preparation.
    pub(crate) fn begin(&self, now_us: u64) {
        let mut state = self.state();
        state.base_us = now_us;
        state.records.clear();
    }

    /// Adds what happened at `now_us`.
    pub(crate) fn add(&self, now_us: u64, event: Event) {
        let mut state = self.state();
        if state.is_closed {
            return;
        }
        let last_us = state.records.last().map_or(0, |last| last.at_us);
        let at_us: AtUs = now_us.saturating_sub(state.base_us).max(last_us);
        let record = Record { at_us, event };
        if let Some(trace) = &state.trace
            && let Ok(bytes) = serde_json::to_vec(&record)
        {
            trace.add(Subject::Record, &[], &bytes);
        }
        state.records.push(record);
    }

    /// The next request's number.
    pub(crate) fn next_call(&self) -> u64 {
        let mut state = self.state();
        state.calls += 1;
        state.calls
    }

    /// The next client's number.
    pub(crate) fn next_client(&self) -> u32 {
        let mut state = self.state();
        state.clients += 1;
        state.clients
    }

    /// A number that no other value has.
    pub(crate) fn next_value(&self) -> u64 {
        let mut state = self.state();
        state.values += 1;
        state.values
    }

    /// Takes the history; what comes after is not recorded.
    pub(crate) fn close(&self) -> Vec<Record> {
        let mut state = self.state();
        state.is_closed = true;
        std::mem::take(&mut state.records)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
