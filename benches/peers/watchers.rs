//! A thousand watchers of one document at 100 writes a second, from when a put is sent until each of
//! them has it: Holm's are server-sent events on a connection each; etcd's watch the same keys by
//! their prefix, first on a connection each, and then all on one. Writer and watchers are this
//! process, so that there is one clock. Every write has to come to every watcher.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use tokio_util::sync::CancellationToken;

use crate::rig::holm::Holm;
use crate::rig::http::{self, Stream};
use crate::rig::load::{self, Client, Pace, Template};
use crate::rig::measure::{Finding, Round, Spread, percentile};
use crate::rig::{Plan, etcd, grpc, label};

const WATCHERS: usize = 1_000;
const RATE: f64 = 100.0;
const CLIENTS: usize = 4;
const KEYS: u64 = 100;
/// Longest until all watch, and until all have the last write.
const PATIENCE: Duration = Duration::from_secs(30);
/// What the written number, of 20 digits, stands behind in a value.
const MARK: &[u8] = b"no-";
/// No round has more numbers.
const NUMBERS: u64 = 1_000_000_000;

/// What came out of a round.
struct Delays {
    p50_ms: f64,
    p99_ms: f64,
}

pub(crate) fn measure(plan: &Plan, program: Option<&Path>) -> anyhow::Result<Vec<Finding>> {
    println!("watchers: {WATCHERS} of one document, {RATE} writes/s, from put to delivery");
    let holm = Holm::serve(&plan.dir.join("watchers"))?;
    let etcd = match program {
        Some(program) => Some(etcd::start(program, &plan.dir.join("watchers"))?),
        None => None,
    };
    let mut found = [const { Vec::<Delays>::new() }; 3];
    for round in 0..=plan.rounds {
        let time = if round == 0 { plan.time } else { plan.time * 2 };
        let mut sides = vec![("holm                  ", Side::Holm(&holm))];
        if let Some((_, addr)) = &etcd {
            let etcd = |connections| Side::Etcd { addr: *addr, connections };
            sides.push(("etcd, 1000 connections", etcd(WATCHERS)));
            sides.push(("etcd,    1 connection ", etcd(1)));
        }
        for ((name, side), found) in sides.into_iter().zip(&mut found) {
            let delays = watch(side, round as u64 * NUMBERS, time).context(name)?;
            let Delays { p50_ms, p99_ms } = delays;
            println!("  {} {name}: p50 {p50_ms:6.2} ms   p99 {p99_ms:6.2} ms", label(round));
            if round > 0 {
                found.push(delays);
            }
        }
    }
    let [own, each, shared] = &found;
    let mut findings = Vec::new();
    type Share = fn(&Delays) -> f64;
    let shares: [(&str, Share); 2] = [("p50", |it| it.p50_ms), ("p99", |it| it.p99_ms)];
    for (name, share) in shares {
        let what = format!("{WATCHERS} watchers, from put to delivery, {name}");
        let ms = Spread::of(own.iter().map(share)).text(2);
        findings.push(Finding::note(&what, format!("{ms} ms")));
        for (theirs, on) in [(each, "on as many connections"), (shared, "on one connection")] {
            if etcd.is_some() {
                let ratios = own.iter().zip(theirs).map(|(own, it)| share(own) / share(it));
                let what = format!("{what}, of etcd's {on}");
                findings.push(Finding::at_most(&what, Spread::of(ratios), 1.0, ""));
            }
        }
    }
    Ok(findings)
}

/// One round: its numbers begin behind `base`.
fn watch(side: Side<'_>, base: u64, time: Duration) -> anyhow::Result<Delays> {
    let count = (RATE * time.as_secs_f64()).ceil() as usize;
    let sent = (0..count).map(|_| AtomicU64::new(0)).collect();
    let watched =
        Watched { base, start: Instant::now(), sent, ready: 0.into(), delivered: 0.into() };
    let over = CancellationToken::new();
    let connections = side.connections();
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(connections);
    let (put, deliveries) = std::thread::scope(|scope| {
        let spawn = |thread| {
            let (watched, over) = (&watched, over.clone());
            let own = (thread..connections).step_by(threads).count();
            scope.spawn(move || watch_some(side, own, watched, &over))
        };
        let handles: Vec<_> = (0..threads).map(spawn).collect();
        let put = until(|| watched.ready.load(Ordering::Relaxed) == WATCHERS)
            .then(|| side.put(&watched, time));
        if put.is_some() {
            until(|| watched.delivered.load(Ordering::Relaxed) >= WATCHERS * count);
        }
        over.cancel();
        let joined = handles.into_iter().map(|handle| handle.join().expect("no watcher panics"));
        (put, joined.collect::<anyhow::Result<Vec<_>>>())
    });
    let deliveries: Vec<Delivery> = deliveries?.into_iter().flatten().collect();
    let put = put.context("not all watch")?;
    ensure!(put.failed == 0 && put.count == count, "{} of {count} puts failed", put.failed);
    let due = WATCHERS * count;
    ensure!(deliveries.len() == due, "{} deliveries of {due}", deliveries.len());
    let mut delays: Vec<u64> = deliveries
        .iter()
        .map(|it| it.at_ns.saturating_sub(watched.sent[it.number].load(Ordering::Relaxed)))
        .collect();
    delays.sort_unstable();
    let ms = |share| percentile(&delays, share) as f64 / 1e6;
    Ok(Delays { p50_ms: ms(0.5), p99_ms: ms(0.99) })
}

/// Waits for it, but not for ever.
fn until(mut is_so: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while !is_so() {
        if start.elapsed() > PATIENCE {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    true
}

/// A write that came to a watcher.
struct Delivery {
    number: usize,
    /// When, in nanoseconds after the round's start.
    at_ns: u64,
}

/// What the writer and the watchers of a round share.
struct Watched {
    base: u64,
    start: Instant,
    /// When each put was sent, in nanoseconds after the start.
    sent: Vec<AtomicU64>,
    /// How many watchers there are.
    ready: AtomicUsize,
    /// How many writes came to one of them.
    delivered: AtomicUsize,
}

impl Watched {
    fn ns(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.start).as_nanos() as u64
    }

    fn is_ready(&self) {
        self.ready.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes note of this round's numbers in what came.
    fn note(&self, bytes: &[u8], deliveries: &mut Vec<Delivery>) {
        let at_ns = self.ns(Instant::now());
        let mut rest = bytes;
        while let Some(at) = rest.windows(MARK.len()).position(|part| part == MARK) {
            rest = &rest[at + MARK.len()..];
            let digits = rest.get(..20).and_then(|digits| std::str::from_utf8(digits).ok());
            let number = digits.and_then(|digits| digits.parse::<u64>().ok());
            let number = number.and_then(|number| number.checked_sub(self.base));
            let number = number.map(|number| number as usize).filter(|it| *it < self.sent.len());
            if let Some(number) = number {
                deliveries.push(Delivery { number, at_ns });
                self.delivered.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// One thread's connections, until it is over; none of them may end before.
fn watch_some(
    side: Side<'_>,
    connections: usize,
    watched: &Watched,
    over: &CancellationToken,
) -> anyhow::Result<Vec<Delivery>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut deliveries: Vec<Vec<Delivery>> = Vec::new();
    deliveries.resize_with(connections, Vec::new);
    runtime.block_on(async {
        let watching = deliveries.iter_mut().map(|own| side.watch(watched, own));
        tokio::select! {
            () = over.cancelled() => Ok(()),
            ended = futures_util::future::try_join_all(watching) => ended.map(drop),
        }
    })?;
    Ok(deliveries.into_iter().flatten().collect())
}

/// Who is watched.
#[derive(Clone, Copy)]
enum Side<'a> {
    Holm(&'a Holm),
    Etcd { addr: SocketAddr, connections: usize },
}

impl Side<'_> {
    fn connections(self) -> usize {
        match self {
            Self::Holm(_) => WATCHERS,
            Self::Etcd { connections, .. } => connections,
        }
    }

    /// Watches on one connection; ends only by failing.
    async fn watch(self, watched: &Watched, deliveries: &mut Vec<Delivery>) -> anyhow::Result<()> {
        match self {
            Self::Holm(holm) => watch_holm(holm, watched, deliveries).await,
            Self::Etcd { addr, connections } => {
                watch_etcd(addr, WATCHERS / connections, watched, deliveries).await
            }
        }
    }

    /// Puts at the rate, for so long.
    fn put(self, watched: &Watched, time: Duration) -> Round {
        let start = Instant::now();
        let value = format!("no-####################{}", "x".repeat(233));
        load::run(CLIENTS, |client| {
            let pace = Pace { start, client, clients: CLIENTS, rate: RATE, time };
            let numbers = move |n| [n % KEYS, watched.base + n, 0];
            let seen = move |n: u64, sent, _| {
                watched.sent[n as usize].store(watched.ns(sent), Ordering::Relaxed);
            };
            let value = value.clone();
            async move {
                match self {
                    Self::Holm(holm) => {
                        let (path, body) = ("/config/web/prod/key.####", format!("\"{value}\""));
                        let request = http::request("PUT", path, &holm.token, "", &body);
                        let client = Client { template: Template::new(request), numbers };
                        load::paced(holm.nodes[0], client, pace, seen).await
                    }
                    Self::Etcd { addr, .. } => {
                        let call = etcd::put("web/prod/key.####", &value);
                        let Ok(mut connection) = grpc::Connection::open(addr, call).await else {
                            return Round { failed: 1, ..Round::default() };
                        };
                        let ask = async |n| connection.exchange(&numbers(n)).await;
                        load::paced_by(pace, ask, seen).await
                    }
                }
            }
        })
    }
}

async fn watch_holm(
    holm: &Holm,
    watched: &Watched,
    deliveries: &mut Vec<Delivery>,
) -> anyhow::Result<()> {
    let accept = "accept: text/event-stream\r\n";
    let request = http::request("GET", "/config/web/prod", &holm.token, accept, "");
    let mut stream = Stream::open(holm.nodes[0], &request).await?;
    let mut is_ready = false;
    loop {
        stream.more().await?;
        let Some(end) = stream.body.iter().rposition(|byte| *byte == b'\n') else { continue };
        const READY: &[u8] = b"event: ready";
        if !is_ready && stream.body[..end].windows(READY.len()).any(|part| part == READY) {
            is_ready = true;
            watched.is_ready();
        }
        watched.note(&stream.body[..end], deliveries);
        stream.body.drain(..=end);
    }
}

async fn watch_etcd(
    addr: SocketAddr,
    watches: usize,
    watched: &Watched,
    deliveries: &mut Vec<Delivery>,
) -> anyhow::Result<()> {
    let mut streams = grpc::Streams::open(addr, etcd::watch("web/prod/"), watches).await?;
    let mut is_ready = vec![false; watches];
    loop {
        let each = |of: usize, message: &[u8]| {
            // The first says that the watch was made.
            if !std::mem::replace(&mut is_ready[of], true) {
                watched.is_ready();
            }
            watched.note(message, deliveries);
        };
        streams.more(each).await?;
    }
}
