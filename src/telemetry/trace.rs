//! Trace ids, by W3C's Trace Context (<https://www.w3.org/TR/trace-context/>): a request belongs to
//! the trace that its `traceparent` names, or begins one. The ids are for log lines, for the answer,
//! for the node that a request is forwarded to, and for spans (`otlp`).

use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};

/// The ids of one piece of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace: never 0.
    trace: u128,
    /// The work within it: never 0.
    span: u64,
    /// The span that caused it; 0 where none is known.
    parent: u64,
    /// Whether whoever began it keeps it.
    is_sampled: bool,
}

tokio::task_local! {
    static CURRENT: TraceContext;
}

/// How many of a trace id's lower bits decide whether it is a sample: those that are random by the
/// standard, so that all nodes choose the same traces.
const SAMPLE_BITS: u32 = 53;

impl TraceContext {
    /// The one that the current task works under.
    pub fn current() -> Option<Self> {
        CURRENT.try_with(|context| *context).ok()
    }

    /// Does `work` under these ids: log lines from within carry them. No `async fn`, which would
    /// hold the work's future twice.
    pub fn within<F: Future>(self, work: F) -> impl Future<Output = F::Output> {
        CURRENT.scope(self, work)
    }

    /// What a `traceparent` says; none where it is not one. A later version than 00 is read as far
    /// as it is known.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        let (head, rest) = bytes.split_at_checked(55)?;
        let version = hex(&head[..2])?;
        let is_framed = head[2] == b'-' && head[35] == b'-' && head[52] == b'-';
        let is_complete = match version {
            0 => rest.is_empty(),
            0xff => false,
            _ => rest.first().is_none_or(|next| *next == b'-'),
        };
        if !is_framed || !is_complete {
            return None;
        }
        let (trace, span) = (hex(&head[3..35])?, u64::try_from(hex(&head[36..52])?).ok()?);
        let flags = hex(&head[53..])?;
        (trace != 0 && span != 0).then_some(Self {
            trace,
            span,
            parent: 0,
            is_sampled: flags & 1 == 1,
        })
    }

    /// As a `traceparent`, in ASCII.
    pub fn text(&self) -> [u8; 55] {
        let mut text = *b"00-________________________________-________________-00";
        write_hex(self.trace, &mut text[3..35]);
        write_hex(self.span.into(), &mut text[36..52]);
        write_hex(self.is_sampled.into(), &mut text[53..]);
        text
    }

    /// The trace's id, as it is written.
    pub fn trace_id(&self) -> impl fmt::Display {
        let trace = self.trace;
        fmt::from_fn(move |f| write!(f, "{trace:032x}"))
    }

    /// The span's id, as it is written.
    pub fn span_id(&self) -> impl fmt::Display {
        let span = self.span;
        fmt::from_fn(move |f| write!(f, "{span:016x}"))
    }

    /// The id of the span that caused it, where it is known.
    pub fn parent_id(&self) -> Option<impl fmt::Display> {
        let parent = self.parent;
        (parent != 0).then(|| fmt::from_fn(move |f| write!(f, "{parent:016x}")))
    }

    /// Whether whoever began the trace keeps it.
    pub fn is_sampled(&self) -> bool {
        self.is_sampled
    }

    /// The same, kept where the trace is in a sample of this share, or was kept already.
    #[must_use]
    pub fn sampled(self, share: f64) -> Self {
        Self { is_sampled: self.is_sampled || self.is_within(share), ..self }
    }

    /// Whether the trace is in a sample of this share of all traces.
    pub fn is_within(&self, share: f64) -> bool {
        let all = 1_u64 << SAMPLE_BITS;
        let drawn = (self.trace as u64) & (all - 1);
        (drawn as f64) < share * all as f64
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.text()).map_err(|_| fmt::Error)?)
    }
}

/// Fills `digits` with the last hexadecimal digits of `number`. Every answer carries dozens, and
/// the standard formatting costs ten times as much.
pub fn write_hex(mut number: u128, digits: &mut [u8]) {
    for digit in digits.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(number & 0xf) as usize];
        number >>= 4;
    }
}

/// The number that lower-case hexadecimal digits write.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0_u128, |number, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(value))
    })
}

/// Makes ids: unlike any other node's, and evenly spread.
pub struct TraceIds {
    seeds: [u64; 3],
    next: AtomicU64,
}

impl TraceIds {
    /// Ids that begin where these random numbers say.
    pub fn new(seeds: [u64; 3]) -> Self {
        Self { seeds, next: AtomicU64::new(0) }
    }

    /// New work under the trace that a request's `traceparent` names, or under a new trace where
    /// there is none, or what there is is not one.
    pub fn enter(&self, parent: Option<&str>) -> TraceContext {
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        let draw = |which: usize| mix(self.seeds[which].wrapping_add(n.wrapping_mul(STEP))).max(1);
        let span = draw(0);
        match parent.and_then(TraceContext::parse) {
            Some(parent) => TraceContext { span, parent: parent.span, ..parent },
            None => {
                let trace = u128::from(draw(1)) << 64 | u128::from(draw(2));
                TraceContext { trace, span, parent: 0, is_sampled: false }
            }
        }
    }
}

/// SplitMix64's step and mixing function.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_traceparent_reads_back_as_written_and_nothing_else_is_one() {
        assert_eq!(TraceContext::parse(GOOD).unwrap().to_string(), GOOD);
        let later = GOOD.replacen("00", "cc", 1) + "-what-comes-later";
        assert_eq!(TraceContext::parse(&later).unwrap().to_string(), GOOD);
        for bad in [
            "",
            "00",
            &GOOD[..54],
            &format!("{GOOD}-x"),
            &format!("cc{}x", &GOOD[2..]),
            &GOOD.replacen("00", "ff", 1),
            &GOOD.replace('b', "B"),
            &GOOD.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            &GOOD.replace("00f067aa0ba902b7", &"0".repeat(16)),
            &GOOD.replace('-', "_"),
            &"é".repeat(40),
        ] {
            assert_eq!(TraceContext::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn work_goes_on_with_its_callers_trace_or_begins_one() {
        let ids = TraceIds::new([1, 2, 3]);
        let (one, two) = (ids.enter(None), ids.enter(None));
        assert!(one.trace != two.trace && one.span != two.span);
        let child = ids.enter(Some(GOOD));
        assert_eq!(child.trace_id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_ne!(child.span_id().to_string(), "00f067aa0ba902b7");
        assert!(ids.enter(Some("nonsense")).to_string().ends_with("-00"));
    }

    #[test]
    fn a_share_of_traces_is_a_sample_and_the_same_everywhere() {
        let ids = TraceIds::new([1, 2, 3]);
        let contexts: Vec<_> = (0..10_000).map(|_| ids.enter(None)).collect();
        let count = |share: f64| contexts.iter().filter(|it| it.is_within(share)).count();
        assert_eq!((count(0.0), count(1.0)), (0, 10_000));
        assert!((900..1_100).contains(&count(0.1)), "{}", count(0.1));
        for context in &contexts {
            let elsewhere = TraceIds::new([7, 8, 9]).enter(Some(&context.to_string()));
            assert_eq!(context.is_within(0.3), elsewhere.is_within(0.3));
        }
    }

    #[tokio::test]
    async fn work_knows_the_trace_it_is_done_under() {
        let context = TraceIds::new([1, 2, 3]).enter(Some(GOOD));
        assert_eq!(TraceContext::current(), None);
        let seen = context.within(async { TraceContext::current() }).await;
        assert_eq!(seen, Some(context));
    }
}
