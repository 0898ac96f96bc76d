//! HTTP/2 connections, under the same limits as HTTP/1.1's: one that has no requests is closed after
//! a while, and so is one whose client takes nothing of an answer for too long, or gives up most of
//! what it asks for. HTTP/2 has a window for each stream, so that the socket alone does not tell:
//! answers are handed over in small pieces, and each piece that is not asked to be followed in time
//! counts as one that is not read.

use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use bytes::Bytes;
use futures_util::TryFutureExt as _;
use http_body_util::BodyExt as _;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior};

use super::super::App;
use super::super::pieces::Pieces;
use super::Routes;
use crate::telemetry::Shed;

/// Most requests of one connection under way.
const STREAMS_MAX: u32 = 128;
/// Time between two pings to a client that says nothing, and how long it has to answer.
const PING_EVERY: Duration = Duration::from_secs(20);
/// Bytes of an answer that are handed over at once.
const PIECE_LEN: usize = 16 * 1024;
/// Bytes of one answer that wait to be sent.
const SEND_BUFFER: usize = 64 * 1024;
/// How many more requests of a connection may be given up (reset) before their answers than are
/// answered: each costs work that nobody wants.
const GIVEN_UP_MAX: u32 = 200;
/// Bytes of all bodies of one connection that wait to be read.
const WINDOW: u32 = 64 * 1024;
/// The least time between two looks at a connection.
const LOOK_MIN: Duration = Duration::from_millis(50);

/// What one connection's answers are doing.
#[derive(Default)]
struct Streams {
    state: Mutex<State>,
    /// Told once too many requests are given up.
    too_many_given_up: Notify,
}

#[derive(Default)]
struct State {
    /// How many more requests were given up than were answered.
    given_up: u32,
    /// Answers under way, by number: when their last piece was handed over that nobody has asked to
    /// be followed yet. The first is asked for at once, whatever the client's window.
    open: std::collections::BTreeMap<u64, Option<Instant>>,
    /// The next answer's number.
    next: u64,
    /// Since when there are none.
    idle_since: Option<Instant>,
}

/// How a connection stands.
#[derive(Debug, PartialEq, Eq)]
enum Standing {
    Busy,
    /// No requests for too long.
    Idle,
    /// An answer is not read.
    Stalled,
}

impl Streams {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(self: &Arc<Self>) -> Place {
        let mut state = self.state();
        let number = state.next;
        state.next += 1;
        state.open.insert(number, None);
        state.idle_since = None;
        Place { streams: self.clone(), number, is_answered: false }
    }

    fn look(&self, now: Instant, idle_max: Duration, stalled_max: Duration) -> Standing {
        let mut state = self.state();
        let is_late = |since: &Option<Instant>| since.is_some_and(|at| now - at >= stalled_max);
        if state.open.values().any(is_late) {
            return Standing::Stalled;
        }
        if !state.open.is_empty() {
            return Standing::Busy;
        }
        let since = *state.idle_since.get_or_insert(now);
        if now - since >= idle_max { Standing::Idle } else { Standing::Busy }
    }
}

/// One request under way, from its beginning to the end of its answer.
struct Place {
    streams: Arc<Streams>,
    number: u64,
    is_answered: bool,
}

impl Place {
    fn answered(&mut self) {
        self.is_answered = true;
        let mut state = self.streams.state();
        state.given_up = state.given_up.saturating_sub(1);
    }

    fn set(&self, handed_over: Option<Instant>) {
        if let Some(place) = self.streams.state().open.get_mut(&self.number) {
            *place = handed_over;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.streams.state();
        state.open.remove(&self.number);
        if !self.is_answered {
            state.given_up += 1;
            if state.given_up > GIVEN_UP_MAX {
                self.streams.too_many_given_up.notify_one();
            }
        }
    }
}

/// An answer's body, in small pieces.
struct Answer {
    pieces: Pieces,
    place: Place,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        // Asked for more: what was handed over before is on its way.
        self.place.set(None);
        let piece = ready!(self.pieces.poll_piece(cx));
        if matches!(&piece, Some(Ok(frame)) if frame.is_data()) {
            self.place.set(Some(Instant::now()));
        }
        Poll::Ready(piece)
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_end()
    }

    fn size_hint(&self) -> SizeHint {
        self.pieces.size_hint()
    }
}

/// Serves one connection until it ends, or the node drains.
pub(super) async fn connection(
    app: &App,
    io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    mut routes: Routes,
) {
    routes.remote.is_shared = true;
    let http = &app.settings().http;
    let (idle_max, stalled_max) = (http.header_read_timeout, http.write_timeout);
    let header_max = app.settings().limits.header_bytes_max;
    let streams = Arc::new(Streams::default());
    let of = streams.clone();
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let mut place = of.begin();
        routes.answer(request).map_ok(move |response| {
            place.answered();
            response.map(|body| {
                Body::new(Answer { pieces: Pieces::new(body, PIECE_LEN), place }.boxed_unsync())
            })
        })
    });
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .auto_date_header(false)
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_send_buf_size(SEND_BUFFER)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_header_list_size(u32::try_from(header_max).unwrap_or(u32::MAX))
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_EVERY);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(io), service));
    let mut stop = app.0.stop.clone();
    let mut looks = tokio::time::interval((idle_max.min(stalled_max) / 4).max(LOOK_MIN));
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_ending: Option<Instant> = None;
    loop {
        let stopped = async {
            let _ = stop.wait_for(|stop| *stop).await;
        };
        tokio::select! {
            biased;
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection ended early");
                }
                return;
            }
            () = streams.too_many_given_up.notified() => {
                tracing::debug!("a client gives up what it asks for: its connection is closed");
                app.node().metrics().shed(Shed::ResetStreams);
                return;
            }
            () = stopped, if is_ending.is_none() => {}
            _ = looks.tick() => match streams.look(Instant::now(), idle_max, stalled_max) {
                Standing::Busy => continue,
                Standing::Stalled => {
                    tracing::debug!("a client does not read: its connection is closed");
                    return;
                }
                // It was told to end, and does not take the end.
                Standing::Idle if is_ending.is_some_and(|since| since.elapsed() > stalled_max) => {
                    return;
                }
                Standing::Idle => {}
            },
        }
        if is_ending.is_none() {
            is_ending = Some(Instant::now());
            connection.as_mut().graceful_shutdown();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_idle_without_requests_and_stalled_where_an_answer_is_not_read() {
        let streams = Arc::new(Streams::default());
        let look = |streams: &Arc<Streams>| streams.look(Instant::now(), 10 * SECOND, 60 * SECOND);
        assert_eq!(look(&streams), Standing::Busy);
        tokio::time::advance(10 * SECOND).await;
        assert_eq!(look(&streams), Standing::Idle);
        let place = streams.begin();
        tokio::time::advance(100 * SECOND).await;
        assert_eq!(look(&streams), Standing::Busy, "a watch that has nothing to say");
        place.set(Some(Instant::now()));
        tokio::time::advance(59 * SECOND).await;
        assert_eq!(look(&streams), Standing::Busy);
        tokio::time::advance(SECOND).await;
        assert_eq!(look(&streams), Standing::Stalled);
        drop(place);
        assert_eq!(look(&streams), Standing::Busy);
        tokio::time::advance(10 * SECOND).await;
        assert_eq!(look(&streams), Standing::Idle);
    }

    #[tokio::test]
    async fn more_requests_given_up_than_answered_are_bounded() {
        let streams = Arc::new(Streams::default());
        let is_told = || {
            futures_util::FutureExt::now_or_never(streams.too_many_given_up.notified()).is_some()
        };
        for _ in 0..10 * GIVEN_UP_MAX {
            drop(streams.begin());
            streams.begin().answered();
        }
        assert!(!is_told(), "as many are answered");
        (0..GIVEN_UP_MAX).for_each(|_| drop(streams.begin()));
        assert!(!is_told());
        drop(streams.begin());
        assert!(is_told());
    }

    #[tokio::test]
    async fn an_answer_comes_whole_and_in_small_pieces() {
        let streams = Arc::new(Streams::default());
        let text = "holm".repeat(10_000);
        let body = Body::from(text.clone());
        let mut pieces = Answer { pieces: Pieces::new(body, PIECE_LEN), place: streams.begin() };
        assert_eq!(pieces.size_hint().exact(), Some(40_000));
        let first = pieces.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(first.len(), PIECE_LEN);
        assert_eq!(pieces.size_hint().exact(), Some(40_000 - PIECE_LEN as u64));
        let rest = pieces.collect().await.unwrap().to_bytes();
        assert!([first, rest].concat() == text.as_bytes());
        assert!(streams.state().open.is_empty());
    }
}
