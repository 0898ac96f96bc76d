//! Bodies on their way in and out, held within a node's budget of memory: what is read counts until
//! its request is answered, what is sent until the connection has taken it. A body that comes in
//! too slowly is given up. What a body says is not its concern.

use std::pin::Pin;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use hyper::body::{Body as _, Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};

use crate::http::pieces::Pieces;
use crate::telemetry::{Metrics, Shed};

/// What is handed to a connection at a time: it takes the next one once this is on its way.
const PIECE_LEN: usize = 64 * 1024;
/// Slowest rate at which an answer that holds a place may be taken. Where nothing is taken at all, the
/// connection's own time is shorter.
const ANSWER_BYTES_PER_SECOND_MIN: u64 = 16 * 1024;
/// How long a client may take before the slowest rate is asked of it, and to go on.
const GRACE: Duration = Duration::from_secs(5);

/// Why a body was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GivenUp {
    NoRoom,
    NoPlace,
    TooSlow,
}

const NO_ROOM: u8 = 1;
const NO_PLACE: u8 = 2;
const TOO_SLOW: u8 = 3;

/// When the places are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    /// Nobody asks for the body.
    AtOnce,
    /// Once the body is there.
    AtEnd,
}

/// What a change has to have: room for its body, and, once that is there, a place among the
/// requests and one among the changes under way. Who sends slowly keeps others from no place.
#[derive(Clone)]
pub(super) struct Rooms {
    /// One permit a KiB.
    pub(super) bodies: Arc<Semaphore>,
    /// One permit in each for a request that has come in.
    pub(super) places: Vec<Arc<Semaphore>>,
}

/// What a request's body takes of the rooms, until this and the body are dropped.
pub(in crate::http) struct Held {
    rooms: Rooms,
    kib: AtomicUsize,
    places: OnceLock<Vec<OwnedSemaphorePermit>>,
    given_up: AtomicU8,
}

impl Held {
    /// Why the body ended in an error, if the error came from here.
    pub(super) fn given_up(&self) -> Option<GivenUp> {
        match self.given_up.load(Ordering::Relaxed) {
            NO_ROOM => Some(GivenUp::NoRoom),
            NO_PLACE => Some(GivenUp::NoPlace),
            TOO_SLOW => Some(GivenUp::TooSlow),
            _ => None,
        }
    }

    /// Holds as much as `len` bytes need in all.
    fn hold(&self, len: usize) -> bool {
        let more = (len / 1024 + 1).saturating_sub(self.kib.load(Ordering::Relaxed));
        let Ok(wanted) = u32::try_from(more) else { return false };
        let Ok(permit) = self.rooms.bodies.try_acquire_many(wanted) else { return false };
        permit.forget();
        self.kib.fetch_add(more, Ordering::Relaxed);
        true
    }

    /// Takes the places, now that all has come in.
    fn place(&self) -> bool {
        if self.places.get().is_some() {
            // A body that is asked again after its end.
            return true;
        }
        let places = self.rooms.places.iter().map(|it| it.clone().try_acquire_owned());
        let Ok(places) = places.collect() else { return false };
        self.places.set(places).is_ok()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.rooms.bodies.add_permits(*self.kib.get_mut());
    }
}

/// A request's body, which takes of `rooms` as it comes in, and fails where there is nothing left,
/// or where less than `bytes_per_second_min` comes in. One that is empty, or whose places are taken at
/// once, has them, or was given up.
pub(super) fn received(
    body: Body,
    rooms: Rooms,
    when: When,
    bytes_per_second_min: usize,
) -> (Body, Arc<Held>) {
    let held = Arc::new(Held {
        rooms,
        kib: AtomicUsize::new(0),
        places: OnceLock::new(),
        given_up: AtomicU8::new(0),
    });
    let is_end = body.is_end_stream();
    if (is_end || when == When::AtOnce) && !held.place() {
        held.given_up.store(NO_PLACE, Ordering::Relaxed);
    }
    if is_end {
        return (body, held);
    }
    let body = Received {
        body,
        held: held.clone(),
        len: 0,
        bytes_per_second_min: bytes_per_second_min as u64,
        begin: None,
        heard: Instant::now(),
        deadline: None,
    };
    (Body::new(body), held)
}

struct Received {
    body: Body,
    held: Arc<Held>,
    len: usize,
    bytes_per_second_min: u64,
    /// When it was asked for first: what a handler does before is not the client's time.
    begin: Option<Instant>,
    /// When something came in last, or was asked for first.
    heard: Instant,
    /// There while something is waited for.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl Received {
    /// When what has come in so far will have been too little.
    fn due(&self, begin: Instant) -> Instant {
        let ms = (self.len as u64).saturating_mul(1_000).checked_div(self.bytes_per_second_min);
        match ms {
            // What came in fast is no reason to wait for the rest for long.
            Some(ms) => (begin + Duration::from_millis(ms)).min(self.heard) + GRACE,
            // The request's own time is the limit.
            None => begin + Duration::from_secs(24 * 3_600),
        }
    }

    fn give_up(&self, why: u8, error: &'static str) -> Poll<Option<Result<Frame<Bytes>, Failed>>> {
        self.held.given_up.store(why, Ordering::Relaxed);
        Poll::Ready(Some(Err(error.into())))
    }
}

type Failed = Box<dyn std::error::Error + Send + Sync>;

impl hyper::body::Body for Received {
    type Data = Bytes;
    type Error = Failed;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Failed>>> {
        let begin = match self.begin {
            Some(begin) => begin,
            None => {
                let now = Instant::now();
                (self.begin, self.heard) = (Some(now), now);
                now
            }
        };
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                self.deadline = None;
                self.heard = Instant::now();
                self.len += frame.data_ref().map_or(0, Bytes::len);
                if !self.held.hold(self.len) {
                    return self.give_up(NO_ROOM, "there is no room for it");
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(error.into()))),
            Poll::Ready(None) if self.held.place() => Poll::Ready(None),
            Poll::Ready(None) => self.give_up(NO_PLACE, "there is no place for it"),
            Poll::Pending => {
                let due = self.due(begin);
                let deadline =
                    self.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
                if deadline.as_mut().as_mut().poll(cx).is_ready() {
                    return self.give_up(TOO_SLOW, "it comes in too slowly");
                }
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// How much of a budget an answer takes, in KiB; 0 for one that is made while it is sent, and where
/// a connection's own buffer holds it, unless it goes `beside_others`: there is one buffer for all.
pub(super) fn answer_kib(body: &Body, beside_others: bool, budget_kib: u32) -> u32 {
    let held = if beside_others { 0 } else { PIECE_LEN as u64 };
    match body.size_hint().exact() {
        Some(len) if len > held => {
            u32::try_from(len / 1024 + 1).unwrap_or(u32::MAX).min(budget_kib)
        }
        _ => 0,
    }
}

/// The same answer, which gives its `place`, if it has one, back once all of it was taken; it fails, and is counted, where
/// that takes longer than `grace` and what [`ANSWER_BYTES_PER_SECOND_MIN`] allows.
pub(super) fn sent(
    body: Body,
    place: Option<OwnedSemaphorePermit>,
    grace: Duration,
    metrics: Arc<Metrics>,
) -> Body {
    let len = body.size_hint().exact().unwrap_or_default();
    let due = due(Instant::now(), grace, len);
    Body::new(Sent { pieces: Pieces::new(body, PIECE_LEN), due, metrics, _place: place })
}

/// When `len` bytes that began to be sent at `begin` have to be taken.
fn due(begin: Instant, grace: Duration, len: u64) -> Instant {
    begin + grace + Duration::from_secs(len / ANSWER_BYTES_PER_SECOND_MIN)
}

/// The same stream, which fails, and is counted, where it is taken more slowly than at that rate: what
/// is made while it is sent holds what it is made of.
pub(super) fn paced<E: Into<Failed>>(
    stream: impl Stream<Item = Result<Bytes, E>> + Send + 'static,
    grace: Duration,
    metrics: Arc<Metrics>,
) -> impl Stream<Item = Result<Bytes, Failed>> + Send {
    let (begin, mut sent) = (Instant::now(), 0);
    stream.map(move |bytes| {
        if Instant::now() >= due(begin, grace, sent) {
            metrics.shed(Shed::SlowAnswer);
            return Err("it is read too slowly".into());
        }
        let bytes = bytes.map_err(Into::into)?;
        sent += bytes.len() as u64;
        Ok(bytes)
    })
}

struct Sent {
    pieces: Pieces,
    /// When it will have held its place for too long.
    due: Instant,
    metrics: Arc<Metrics>,
    _place: Option<OwnedSemaphorePermit>,
}

impl hyper::body::Body for Sent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if Instant::now() >= self.due {
            self.metrics.shed(Shed::SlowAnswer);
            return Poll::Ready(Some(Err(axum::Error::new("the answer is read too slowly"))));
        }
        self.pieces.poll_piece(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_end()
    }

    fn size_hint(&self) -> SizeHint {
        self.pieces.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;

    fn rooms(kib: usize, places: usize) -> Rooms {
        let bodies = Arc::new(Semaphore::new(kib));
        Rooms { bodies, places: vec![Arc::new(Semaphore::new(places))] }
    }

    fn chunks(count: usize, len: usize, every: Duration) -> Body {
        let stream = futures_util::stream::iter(0..count).then(move |_| async move {
            tokio::time::sleep(every).await;
            Ok::<_, std::io::Error>(Bytes::from(vec![b'x'; len]))
        });
        Body::from_stream(stream)
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_read_is_held_until_its_request_is_answered() {
        let rooms = rooms(100, 2);
        let left = || (rooms.bodies.available_permits(), rooms.places[0].available_permits());
        let body = || chunks(5, 10 * 1024, Duration::ZERO);
        let (body_read, held) = received(body(), rooms.clone(), When::AtEnd, 1_024);
        assert_eq!(left(), (100, 2), "what has not come in takes nothing");
        assert_eq!(body_read.collect().await.unwrap().to_bytes().len(), 50 * 1024);
        assert_eq!((left(), held.given_up()), ((49, 1), None));
        let (other, others) = received(body(), rooms.clone(), When::AtEnd, 1_024);
        assert!(other.collect().await.is_err());
        assert_eq!(others.given_up(), Some(GivenUp::NoRoom));
        drop(others);
        assert_eq!(left(), (49, 1));
        drop(held);
        assert_eq!(left(), (100, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_is_there_needs_a_place_and_one_that_is_empty_too() {
        let rooms = rooms(100, 1);
        let (_, first) = received(Body::empty(), rooms.clone(), When::AtEnd, 1_024);
        assert_eq!(first.given_up(), None);
        let (_, second) = received(Body::empty(), rooms.clone(), When::AtEnd, 1_024);
        assert_eq!(second.given_up(), Some(GivenUp::NoPlace));
        let (body, third) = received(Body::from("1"), rooms.clone(), When::AtEnd, 1_024);
        assert!(body.collect().await.is_err());
        assert_eq!(third.given_up(), Some(GivenUp::NoPlace));
        drop(first);
        let (body, fourth) = received(Body::from("1"), rooms.clone(), When::AtEnd, 1_024);
        assert!(body.collect().await.is_ok());
        assert_eq!(fourth.given_up(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_nobody_asks_for_is_no_way_round_the_places() {
        let rooms = rooms(100, 1);
        let unread = || Body::from_stream(futures_util::stream::pending::<Result<Bytes, Failed>>());
        let (_first_body, first) = received(unread(), rooms.clone(), When::AtOnce, 1_024);
        assert_eq!(first.given_up(), None);
        let (_, second) = received(unread(), rooms.clone(), When::AtOnce, 1_024);
        assert_eq!(second.given_up(), Some(GivenUp::NoPlace));
        let (_, third) = received(unread(), rooms.clone(), When::AtEnd, 1_024);
        assert_eq!(third.given_up(), None, "it is still to come");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_trickles_or_stops_is_given_up_and_a_slow_one_is_not() {
        let second = Duration::from_secs(1);
        let receive = |body, least| received(body, rooms(1_000, 1), When::AtEnd, least);
        let (body, held) = receive(chunks(20, 1_024, second), 1_024);
        assert_eq!(body.collect().await.unwrap().to_bytes().len(), 20 * 1024);
        assert_eq!(held.given_up(), None);
        let begin = Instant::now();
        let (body, held) = receive(chunks(100, 100, second), 1_024);
        assert!(body.collect().await.is_err());
        assert_eq!(held.given_up(), Some(GivenUp::TooSlow));
        assert!(begin.elapsed() < GRACE + second, "{:?}", begin.elapsed());
        let (body, held) = receive(chunks(2, 100 * 1024, GRACE * 3 / 4), 1_024);
        assert!(body.collect().await.is_ok());
        assert_eq!(held.given_up(), None);
        let begin = Instant::now();
        let first = futures_util::stream::iter([Ok::<_, std::io::Error>(vec![b'x'; 100 * 1024])]);
        let stopped = Body::from_stream(first.chain(futures_util::stream::pending()));
        let (body, held) = receive(stopped, 1_024);
        assert!(body.collect().await.is_err());
        assert_eq!(held.given_up(), Some(GivenUp::TooSlow), "it stopped");
        assert!(
            begin.elapsed() < GRACE * 2,
            "what came in fast is no credit: {:?}",
            begin.elapsed()
        );
        let (body, held) = receive(chunks(100, 1, second * 10), 0);
        assert_eq!(body.collect().await.unwrap().to_bytes().len(), 100);
        assert_eq!(held.given_up(), None, "no least rate is asked for");
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_handler_does_before_it_asks_for_the_body_is_not_the_clients_time() {
        let (body, held) = received(chunks(3, 100, GRACE / 4), rooms(100, 1), When::AtEnd, 1_024);
        tokio::time::sleep(GRACE * 6).await;
        assert_eq!(body.collect().await.unwrap().to_bytes().len(), 300);
        assert_eq!(held.given_up(), None);
        let (body, held) = received(chunks(1, 100, GRACE * 2), rooms(100, 1), When::AtEnd, 1_024);
        tokio::time::sleep(GRACE * 6).await;
        assert!(body.collect().await.is_err());
        assert_eq!(held.given_up(), Some(GivenUp::TooSlow), "from then on it is");
    }

    #[tokio::test]
    async fn an_answer_gives_its_room_back_piece_by_piece_at_its_end() {
        let room = Arc::new(Semaphore::new(1_000));
        let text = vec![b'x'; 3 * PIECE_LEN + 7];
        let body = Body::from(text.clone());
        let kib = answer_kib(&body, false, 1_000);
        assert_eq!(kib, 193);
        assert_eq!(
            answer_kib(&body, false, 100),
            100,
            "more than all there is cannot be asked for"
        );
        assert_eq!(answer_kib(&Body::from(vec![0; PIECE_LEN]), false, 1_000), 0);
        let small = |len: usize| answer_kib(&Body::from(vec![0; len]), true, 50);
        assert_eq!([0, 1, 1024, PIECE_LEN, PIECE_LEN + 1].map(small), [0, 1, 2, 50, 50]);
        let place = room.clone().try_acquire_many_owned(kib).unwrap();
        let mut body = sent(body, Some(place), GRACE, Arc::new(Metrics::new().unwrap()));
        let (mut all, mut pieces) = (Vec::new(), 0);
        assert_eq!(body.size_hint().exact(), Some(text.len() as u64));
        while let Some(frame) = body.frame().await {
            let data = frame.unwrap().into_data().unwrap();
            assert!(data.len() <= PIECE_LEN);
            all.extend_from_slice(&data);
            pieces += 1;
            assert_eq!(body.size_hint().exact(), Some((text.len() - all.len()) as u64));
            assert_eq!(room.available_permits(), 1_000 - 193);
        }
        assert_eq!((all, pieces), (text, 4));
        drop(body);
        assert_eq!(room.available_permits(), 1_000);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_taken_too_slowly_fails_and_one_at_the_least_rate_does_not() {
        let piece_time = Duration::from_secs(PIECE_LEN as u64 / ANSWER_BYTES_PER_SECOND_MIN);
        for (time, expected) in [(piece_time, 10), (piece_time * 2, 6)] {
            let metrics = Arc::new(Metrics::new().unwrap());
            let room = Arc::new(Semaphore::new(1_000));
            let place = room.clone().try_acquire_many_owned(600).unwrap();
            let body = Body::from(vec![b'x'; 10 * PIECE_LEN]);
            let mut body = sent(body, Some(place), GRACE, metrics.clone());
            let mut pieces = 0;
            while let Some(Ok(_)) = body.frame().await {
                pieces += 1;
                tokio::time::sleep(time).await;
            }
            assert_eq!(pieces, expected);
            let counted = metrics.render().contains("{reason=\"slow_answer\"} 1\n");
            assert_eq!(counted, expected < 10);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_made_while_it_is_sent_has_to_be_taken_as_fast() {
        let piece_time = Duration::from_secs(PIECE_LEN as u64 / ANSWER_BYTES_PER_SECOND_MIN);
        for (time, expected) in [(piece_time, 10), (piece_time * 2, 3)] {
            let metrics = Arc::new(Metrics::new().unwrap());
            let piece = || Ok::<_, std::io::Error>(Bytes::from(vec![b'x'; PIECE_LEN]));
            let pieces = futures_util::stream::iter((0..10).map(move |_| piece()));
            let mut paced = Box::pin(paced(pieces, GRACE * 2, metrics.clone()));
            let mut taken = 0;
            while let Some(Ok(_)) = paced.next().await {
                taken += 1;
                tokio::time::sleep(time).await;
            }
            assert_eq!(taken, expected);
            let counted = metrics.render().contains("{reason=\"slow_answer\"} 1\n");
            assert_eq!(counted, expected < 10);
        }
    }
}
