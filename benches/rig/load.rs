//! Load that is bounded in count and time: closed loops, where each client sends its next request
//! when it has the answer, and loads at a fixed rate. The clients run on as many threads as there
//! are cores, each with its own runtime, so that they cost as little as they can.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::time::error::Elapsed;

use crate::rig::http::Connection;
use crate::rig::measure::Round;

/// Most requests of one client in one round.
const REQUESTS_MAX: usize = 1_000_000;
/// How long after its end a round may wait for answers under way.
const GRACE: Duration = Duration::from_secs(30);
/// How often it is looked whether the machine stands still, and from what on that is told beside a
/// failure.
const PAUSE_LOOK: Duration = Duration::from_millis(50);
const PAUSE_TOLD: Duration = Duration::from_secs(1);

/// A request in which numbers of a fixed width are written in place before it is sent.
#[derive(Clone)]
pub(crate) struct Template {
    bytes: Vec<u8>,
    /// Where the numbers stand, and how many digits they have.
    slots: Vec<(usize, usize)>,
}

impl Template {
    /// Runs of `#` are the numbers, in their order.
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        let mut slots: Vec<(usize, usize)> = Vec::new();
        for (at, byte) in bytes.iter().enumerate() {
            match slots.last_mut() {
                _ if *byte != b'#' => {}
                Some((start, len)) if *start + *len == at => *len += 1,
                _ => slots.push((at, 1)),
            }
        }
        Self { bytes, slots }
    }

    /// The request with these numbers.
    pub(crate) fn fill(&mut self, numbers: &[u64]) -> &[u8] {
        for ((start, len), number) in self.slots.iter().zip(numbers) {
            let mut rest = *number;
            for digit in self.bytes[*start..start + len].iter_mut().rev() {
                *digit = b'0' + (rest % 10) as u8;
                rest /= 10;
            }
        }
        &self.bytes
    }
}

/// What one client sends: its template, and the numbers for its n-th request.
pub(crate) struct Client<F> {
    pub(crate) template: Template,
    pub(crate) numbers: F,
}

/// Runs `clients` loops of that kind at once and puts together what they measured.
pub(crate) fn run<M, F>(clients: usize, make: M) -> Round
where
    M: Fn(usize) -> F + Sync,
    F: Future<Output = Round>,
{
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(clients);
    let over = AtomicBool::new(false);
    let (parts, pause) = std::thread::scope(|scope| {
        let pauses = scope.spawn(|| longest_pause(&over));
        let make = &make;
        let spawn = |thread: usize| {
            scope.spawn(move || {
                let mut builder = tokio::runtime::Builder::new_current_thread();
                let runtime = builder.enable_all().build().expect("a runtime");
                let own = (thread..clients).step_by(threads).map(make);
                runtime.block_on(futures_util::future::join_all(own))
            })
        };
        let handles: Vec<_> = (0..threads).map(spawn).collect();
        let parts = handles.into_iter().flat_map(|it| it.join().expect("a client thread"));
        let parts = parts.collect::<Vec<_>>();
        over.store(true, Ordering::Relaxed);
        (parts, pauses.join().expect("it only sleeps"))
    });
    let mut round = Round::merge(parts);
    if let Some(why) = round.why.as_mut().filter(|_| pause > PAUSE_TOLD) {
        why.push_str(&format!(" (this machine stood still for {pause:?})"));
    }
    round
}

/// How long a thread that does nothing was kept from running at most, until it is `over`: what a
/// machine's pause looks like from inside.
fn longest_pause(over: &AtomicBool) -> Duration {
    let mut longest = Duration::ZERO;
    while !over.load(Ordering::Relaxed) {
        let before = Instant::now();
        std::thread::sleep(PAUSE_LOOK);
        longest = longest.max(before.elapsed().saturating_sub(PAUSE_LOOK));
    }
    longest
}

/// One client's closed loop for `time`, or until it has sent `count` requests. Answers below 300
/// are good.
pub(crate) async fn closed<F: FnMut(u64) -> [u64; 3]>(
    addr: SocketAddr,
    mut client: Client<F>,
    time: Duration,
    count: usize,
) -> Round {
    let mut round = Round::default();
    let work = async {
        let mut connection = Connection::open(addr).await?;
        let start = Instant::now();
        for n in 0..count.min(REQUESTS_MAX) as u64 {
            let sent = Instant::now();
            if sent - start >= time {
                break;
            }
            let request = client.template.fill(&(client.numbers)(n));
            let status = connection.exchange(request).await?;
            let now = Instant::now();
            if status < 300 {
                round.latencies.push((now - sent).as_nanos() as u64);
                round.count += 1;
            } else {
                round.fail(|| refused(status, &connection));
            }
            round.took = now - start;
        }
        std::io::Result::Ok(())
    };
    let ended = tokio::time::timeout(time + GRACE, work).await;
    ended_well(ended, &mut round);
    round
}

/// Closed loops of `clients` clients that send the same request all the time.
pub(crate) fn same(clients: usize, addr: SocketAddr, request: &[u8], time: Duration) -> Round {
    run(clients, |_| {
        let template = Template::new(request.to_vec());
        closed(addr, Client { template, numbers: |_| [0; 3] }, time, usize::MAX)
    })
}

/// One of `clients` clients that together send `rate` requests a second; see [`paced_by`].
pub(crate) async fn paced<F: FnMut(u64) -> [u64; 3]>(
    addr: SocketAddr,
    mut client: Client<F>,
    pace: Pace,
    seen: impl FnMut(u64, Instant, Instant),
) -> Round {
    let Ok(mut connection) = Connection::open(addr).await else {
        return Round { failed: 1, ..Round::default() };
    };
    let ask = async |n| {
        let request = client.template.fill(&(client.numbers)(n));
        Ok(connection.exchange(request).await? < 300)
    };
    paced_by(pace, ask, seen).await
}

/// One of `clients` clients that together send `rate` requests a second, evenly spaced, for `time`:
/// `ask` sends the n-th and says whether its answer was a good one; `seen` is told of each good
/// answer: which one, when it was asked for, and when it came. A client that is still waiting when
/// its next request is due sends it late: `clients` has to be large enough that none is.
pub(crate) async fn paced_by(
    pace: Pace,
    mut ask: impl AsyncFnMut(u64) -> std::io::Result<bool>,
    mut seen: impl FnMut(u64, Instant, Instant),
) -> Round {
    let mut round = Round::default();
    let work = async {
        let own = (pace.client..).step_by(pace.clients);
        let mut first = None;
        for n in own.take(REQUESTS_MAX) {
            let due = Duration::from_secs_f64(n as f64 / pace.rate);
            if due >= pace.time {
                break;
            }
            tokio::time::sleep_until((pace.start + due).into()).await;
            let sent = Instant::now();
            let is_good = ask(n as u64).await?;
            let now = Instant::now();
            if is_good {
                round.latencies.push((now - sent).as_nanos() as u64);
                round.count += 1;
                seen(n as u64, sent, now);
            } else {
                round.fail(|| "it was refused".to_owned());
            }
            round.took = now - *first.get_or_insert(pace.start);
        }
        std::io::Result::Ok(())
    };
    let ended = tokio::time::timeout(pace.time + GRACE, work).await;
    ended_well(ended, &mut round);
    round
}

/// Counts a failure where a client's loop did not come to its end.
fn ended_well(ended: Result<std::io::Result<()>, Elapsed>, round: &mut Round) {
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(error)) => round.fail(|| format!("the connection ended: {error}")),
        Err(_) => round.fail(|| format!("no answer within {GRACE:?} of the end")),
    }
}

fn refused(status: u16, connection: &Connection) -> String {
    let body = String::from_utf8_lossy(connection.body()).into_owned();
    format!("{status} {}", body.chars().take(200).collect::<String>())
}

/// When a client of a load at a fixed rate sends.
#[derive(Clone, Copy)]
pub(crate) struct Pace {
    /// When the load as a whole begins.
    pub(crate) start: Instant,
    /// Which of the clients this is.
    pub(crate) client: usize,
    /// How many there are.
    pub(crate) clients: usize,
    /// Requests a second of all together.
    pub(crate) rate: f64,
    /// How long the load lasts.
    pub(crate) time: Duration,
}
