//! What nodes log, by node and virtual time: part of the trace, and for whoever looks for what a node
//! noticed of its own damage. Only this program's events, from `info` up: others' may show times of
//! the machine.

use std::cell::{Cell, RefCell};
use std::fmt::{self, Write as _};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Dispatch, Event, Level, Metadata, Subscriber};

use super::clock::Timeline;
use super::trace::{Subject, Trace};

/// Most events that are kept until somebody takes them; the trace has all.
const KEPT_MAX: usize = 20_000;
/// Most panics that are kept for one step.
const PANICS_MAX: usize = 100;
/// What is recorded of events.
const TARGET: &str = "holm";
/// The target of panics. They are kept however much else was logged.
pub(crate) const PANIC: &str = "panic";
/// Where a line for each request comes from, which nobody wants to keep beside the history.
const REQUESTS: &str = "holm::http::edge";

/// Something that a node logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NodeEvent {
    /// When.
    pub(crate) at_us: u64,
    /// The node's number in the topology.
    pub(crate) node: usize,
    /// How bad it is.
    pub(crate) level: Level,
    /// The module, or `panic`.
    pub(crate) target: String,
    /// The message and the fields.
    pub(crate) text: String,
}

/// The events of all nodes of a world. Clones are one.
#[derive(Clone)]
pub(crate) struct Events {
    shared: Arc<Shared>,
    dispatch: Dispatch,
}

struct Shared {
    /// Whose turn it is.
    current: AtomicUsize,
    timelines: Vec<Timeline>,
    kept: Mutex<Vec<NodeEvent>>,
    trace: Trace,
}

struct Recorder(Arc<Shared>);

thread_local! {
    /// Whether a node runs on this thread, so that its panics are recorded instead of printed.
    static IS_NODE: Cell<bool> = const { Cell::new(false) };
    static PANICS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// From now on, panics of simulated nodes are events of theirs; all others are told as before. Nothing
/// else would tell of one in a task that nobody waits for: tokio keeps it for whoever asks. For the
/// process; every run of a scenario calls it, and the first call counts.
pub(crate) fn record_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !IS_NODE.get() {
                return before(info);
            }
            let text = info.payload_as_str().unwrap_or("without a word");
            let at = info.location();
            let at = at.map(|at| format!(" ({}:{})", without_home(at.file()), at.line()));
            PANICS.with_borrow_mut(|panics| {
                if panics.len() < PANICS_MAX {
                    panics.push(format!("{text}{}", at.unwrap_or_default()));
                }
            });
        }));
    });
}

/// The path of a source file, of a dependency's without where this machine keeps it: it is part of the
/// trace.
fn without_home(file: &str) -> &str {
    let kept = file.split_once("/registry/src/").and_then(|(_, kept)| kept.split_once('/'));
    kept.map_or(file, |(_, file)| file)
}

impl Events {
    pub(crate) fn new(timelines: Vec<Timeline>, trace: Trace) -> Self {
        let current = AtomicUsize::new(0);
        let shared = Arc::new(Shared { current, timelines, kept: Mutex::default(), trace });
        let dispatch = Dispatch::new(Recorder(shared.clone()));
        Self { shared, dispatch }
    }

    /// Does `work` as the node with that number.
    pub(crate) fn of<T>(&self, node: usize, work: impl FnOnce() -> T) -> T {
        self.shared.current.store(node, Ordering::Relaxed);
        let _turn = Turn::begin(&self.shared);
        tracing::dispatcher::with_default(&self.dispatch, work)
    }

    /// What was logged since the last call.
    pub(crate) fn take(&self) -> Vec<NodeEvent> {
        std::mem::take(&mut self.shared.kept())
    }
}

/// A node's turn on this thread. At its end, however it ends, its panics are recorded.
struct Turn<'a>(&'a Shared);

impl<'a> Turn<'a> {
    fn begin(shared: &'a Shared) -> Self {
        IS_NODE.set(true);
        Self(shared)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        IS_NODE.set(false);
        for text in PANICS.take() {
            self.0.record(Level::ERROR, PANIC, text);
        }
    }
}

impl Shared {
    fn record(&self, level: Level, target: &str, text: String) {
        let node = self.current.load(Ordering::Relaxed);
        let at_us = self.timelines.get(node).map_or(0, Timeline::now_us);
        self.trace.add(Subject::Event, &[at_us, node as u64], target.as_bytes());
        self.trace.add(Subject::Event, &[], text.as_bytes());
        let is_request = level == Level::INFO && target == REQUESTS;
        let mut kept = self.kept();
        if (kept.len() < KEPT_MAX || target == PANIC) && !is_request {
            kept.push(NodeEvent { at_us, node, level, target: target.to_owned(), text });
        }
    }

    fn kept(&self) -> MutexGuard<'_, Vec<NodeEvent>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Subscriber for Recorder {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.enabled(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let is_ours = metadata.target().split("::").next() == Some(TARGET);
        metadata.is_event() && is_ours && *metadata.level() <= Level::INFO
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::INFO)
    }

    fn event(&self, event: &Event<'_>) {
        let mut text = Text::default();
        event.record(&mut text);
        let metadata = event.metadata();
        self.0.record(*metadata.level(), metadata.target(), text.message + &text.fields);
    }

    // Spans are never enabled.
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// An event as text: its message, then its fields.
#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing into a String has no way to fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nodes_events_and_panics_are_kept_with_its_time() {
        record_panics();
        let timelines = vec![Timeline::default(), Timeline::default()];
        timelines[1].leave(5_000);
        let events = Events::new(timelines, Trace::default());
        events.of(1, || {
            tracing::info!(peer = "b", "hello");
            tracing::debug!("not this");
            tracing::error!(target: "quinn", "nor that");
            let panicked = std::panic::catch_unwind(|| panic!("by {}", "accident"));
            assert!(panicked.is_err());
        });
        let taken = events.take();
        assert_eq!(taken.len(), 2, "{taken:?}");
        assert_eq!((taken[0].at_us, taken[0].node, taken[0].level), (5_000, 1, Level::INFO));
        assert_eq!(taken[0].text, "hello peer=\"b\"");
        assert!(taken[1].text.starts_with("by accident (src/"), "{:?}", taken[1]);
        assert_eq!(events.take(), []);
    }

    #[test]
    fn a_panic_in_a_task_that_nobody_waits_for_is_kept_among_many_events() {
        record_panics();
        let events = Events::new(vec![Timeline::default()], Trace::default());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        events.of(0, || {
            for _ in 0..=KEPT_MAX {
                tracing::info!("noise");
            }
            runtime.block_on(async {
                drop(tokio::spawn(async { panic!("in a task") }));
                tokio::task::yield_now().await;
            });
        });
        let taken = events.take();
        assert_eq!(taken.len(), KEPT_MAX + 1);
        let last = taken.last().unwrap();
        assert!(last.target == PANIC && last.text.starts_with("in a task (src/"), "{last:?}");
    }

    #[test]
    fn a_panics_place_is_the_same_on_every_machine() {
        let kept = "/home/x/.cargo/registry/src/some-host-1949/openraft-0.10.0/src/core.rs";
        assert_eq!(without_home(kept), "openraft-0.10.0/src/core.rs");
        assert_eq!(without_home("src/node.rs"), "src/node.rs");
    }

    #[test]
    fn a_panic_that_ends_the_turn_is_kept() {
        record_panics();
        let events = Events::new(vec![Timeline::default()], Trace::default());
        let turn = std::panic::AssertUnwindSafe(|| events.of(0, || panic!("through")));
        assert!(std::panic::catch_unwind(turn).is_err());
        assert!(!IS_NODE.get());
        assert!(events.take()[0].text.starts_with("through (src/"));
    }
}
