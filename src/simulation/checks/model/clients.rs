//! Who asks: clients with a session that move, watchers that move, clients of the quorum, and one
//! whose account is disabled in turn.

use std::collections::BTreeMap;

use super::super::testing::{
    call, read, refused, remove, row, secret_read, secret_remove, secret_write, unknown, value,
    watch,
};
use super::{AtUs, Bug, STEP_US, STEPS, Sibling, World};
use crate::simulation::checks::testing::DOCUMENT;
use crate::simulation::history::{Call, Event, Outcome, Request, Watched};

type Vector = BTreeMap<String, u64>;

/// The clients' side of the run.
#[derive(Default)]
pub(crate) struct Clients {
    sessions: BTreeMap<u32, Vector>,
    /// When each client had its last answer.
    free: BTreeMap<u32, AtUs>,
    watches: BTreeMap<u32, Watch>,
    values: u64,
    /// Config and secret writes that may still be done: when, where, what.
    late: Vec<(AtUs, Late)>,
    /// A secret's write that is tried again: its key and value.
    retry: Option<(String, String)>,
}

enum Late {
    Config(usize, Vec<(String, String)>),
    Secret(String, Option<String>),
}

/// A watcher.
#[derive(Default)]
struct Watch {
    /// The call that is open, and the node.
    open: Option<(u64, usize)>,
    is_ready: bool,
    has_removals: bool,
    seen: Vector,
    /// The session that it was given last, if any.
    told: Option<Vector>,
}

fn merge(into: &mut Vector, other: &Vector) {
    for (origin, n) in other {
        let known = into.entry(origin.clone()).or_default();
        *known = (*known).max(*n);
    }
}

impl Clients {
    pub(crate) fn act(&mut self, world: &mut World) {
        self.late(world);
        for client in 0..4 {
            if world.chance.is(70) {
                self.config(world, client);
            }
        }
        for client in 10..13 {
            if world.chance.is(50) {
                self.secret(world, client);
            }
        }
        if world.chance.is(40) {
            self.account(world);
        }
        for client in 20..23 {
            self.watcher(world, client);
        }
        for node in &mut world.nodes {
            let skips = matches!(world.bug, Some(Bug::AckBeforeFsync | Bug::PushBeforeFsync));
            if !skips || world.chance.is(30) {
                node.sync(world.chance.is(10));
            }
        }
    }

    /// After healing there are no more config writes.
    pub(crate) fn settle(&mut self, world: &mut World) {
        self.late(world);
        if world.now.is_multiple_of(5 * STEP_US) {
            let node = world.chance.below(3) as usize;
            let (op, to) = self.ask(world, 50, node, read("k0"), |_| {});
            let siblings = world.nodes[node].siblings("k0");
            world.build.answer(to, op, row(&siblings));
            self.secret(world, 10);
        }
        for client in 20..23 {
            self.watcher(world, client);
        }
    }

    /// Sends a request around now: when its answer comes, too.
    fn ask(
        &mut self,
        world: &mut World,
        client: u32,
        node: usize,
        request: Request,
        change: impl FnOnce(&mut Call),
    ) -> (u64, AtUs) {
        let free = self.free.get(&client).copied().unwrap_or(0);
        let from = (world.now - world.chance.below(STEP_US)).max(free + 1).min(world.now);
        let to = world.now + world.chance.below(3 * STEP_US);
        self.free.insert(client, to);
        let mut call = call(client, &world.nodes[node].name, request);
        change(&mut call);
        (world.build.call(from, call), to)
    }

    fn is_free(&self, world: &World, client: u32) -> bool {
        self.free.get(&client).is_none_or(|free| *free < world.now)
    }

    fn late(&mut self, world: &mut World) {
        let is_settling = world.now >= STEPS * STEP_US;
        let (due, later) = std::mem::take(&mut self.late)
            .into_iter()
            .partition(|(at_us, _)| *at_us <= world.now || is_settling);
        self.late = later;
        let due: Vec<(AtUs, Late)> = due;
        for (_, late) in due {
            match late {
                Late::Config(node, entries) if world.nodes[node].up && !is_settling => {
                    let (at_us, bug) = (world.now, world.bug);
                    world.nodes[node].write(at_us, &entries, bug);
                }
                Late::Secret(value, key) => {
                    world.register.put(&value, key.as_deref(), world.bug);
                }
                Late::Config(..) => {}
            }
        }
    }

    fn value(&mut self) -> String {
        self.values += 1;
        format!("v{}", self.values)
    }

    fn config(&mut self, world: &mut World, client: u32) {
        if !self.is_free(world, client) {
            return;
        }
        let node = world.chance.below(3) as usize;
        let key = format!("k{}", world.chance.below(4));
        let has_session = client < 3;
        let what = world.chance.below(10);
        let entries = match what {
            0..=4 => vec![],
            5 => vec![(key.clone(), self.value()), ("k9".to_owned(), self.value())],
            6 => vec![(key.clone(), String::new())],
            _ => vec![(key.clone(), self.value())],
        };
        let expect_version = (what == 9).then(|| 1 + world.chance.below(5));
        let request = match what {
            0..=4 => read(&key),
            6 => remove(&key),
            _ => Request::ConfigWrite {
                document: DOCUMENT.to_owned(),
                entries: entries.clone(),
                expect_version,
                ack: None,
            },
        };
        let (op, to) =
            self.ask(world, client, node, request, |call| call.has_session = has_session);
        let outcome = self.serve(world, client, node, &key, &entries, expect_version);
        // Without the bug of acknowledging it as well, what is not on disk yet has no answer.
        let waits = world.bug == Some(Bug::PushBeforeFsync) && !world.nodes[node].is_synced();
        let is_lost = !entries.is_empty() && (waits || world.chance.is(6));
        let is_lost = is_lost && !matches!(outcome, Outcome::Refused { .. });
        if !is_lost && !matches!(outcome, Outcome::Refused { .. } | Outcome::Unknown { .. }) {
            let vector = world.nodes[node].vector.clone();
            merge(self.sessions.entry(client).or_default(), &vector);
        }
        world.build.answer(to, op, if is_lost { unknown() } else { outcome });
    }

    fn serve(
        &mut self,
        world: &mut World,
        client: u32,
        node: usize,
        key: &str,
        entries: &[(String, String)],
        expect_version: Option<u64>,
    ) -> Outcome {
        let (at_us, bug) = (world.now, world.bug);
        if !world.nodes[node].up {
            return unknown();
        }
        let has_session = client < 3 && bug != Some(Bug::SessionIgnored);
        let session = self.sessions.get(&client).filter(|_| has_session);
        if session.is_some_and(|session| !world.nodes[node].covers(session)) {
            return refused(412, "SessionNotReached");
        }
        let siblings = world.nodes[node].siblings(key);
        let is_gone = siblings.first().is_none_or(|winner| winner.value.is_none());
        if entries.is_empty() {
            // A key that is gone shows what it had besides, but not the removal.
            let shown = if is_gone { siblings.get(1..).unwrap_or_default() } else { &siblings[..] };
            return row(shown);
        }
        let is_there = siblings.iter().any(|it| it.value.is_some());
        if entries[0].1.is_empty() && !is_there {
            return refused(404, "NotFound");
        }
        if expect_version.is_some_and(|it| is_gone || siblings[0].version != it) {
            return refused(412, "PreconditionFailed");
        }
        if world.chance.is(4) {
            let later = at_us + (1 + world.chance.below(20)) * STEP_US;
            self.late.push((later, Late::Config(node, entries.to_vec())));
            return unknown();
        }
        world.nodes[node].write(at_us, entries, bug);
        let wrote = |key: &String| Some((key.clone(), world.nodes[node].last_write(key)?));
        let entries: Vec<(String, Sibling)> =
            entries.iter().filter_map(|(key, _)| wrote(key)).collect();
        Outcome::Wrote { entries, acknowledged: true, regions: [].into() }
    }

    fn secret(&mut self, world: &mut World, client: u32) {
        if !self.is_free(world, client) {
            return;
        }
        let node = world.chance.below(3) as usize;
        let what = world.chance.below(12);
        let is_settling = world.now >= STEPS * STEP_US;
        // Half of the runs remove nothing, and are decided by versions.
        let removes = what == 11 && world.build.run.seed % 2 == 1;
        let retry = self.retry.take().filter(|_| what < 8);
        let (request, new) = match (&retry, what) {
            (Some((_, text)), _) => (secret_write("s", text), Some(text.clone())),
            (None, 0..5) if !is_settling => {
                let text = self.value();
                (secret_write("s", &text), Some(text))
            }
            _ if removes => (secret_remove("s"), None),
            _ => (secret_read("s"), None),
        };
        let key = match &retry {
            Some((key, _)) => Some(key.clone()),
            None => new.as_ref().filter(|_| world.chance.is(50)).map(|text| format!("i{text}")),
        };
        let (op, to) =
            self.ask(world, client, node, request, |call| call.idempotency_key = key.clone());
        let minority = world.bug == Some(Bug::MinorityDecides);
        let local = world.bug == Some(Bug::LocalRead);
        let reads_local = local && new.is_none() && !removes;
        let is_lost = !is_settling && world.chance.is(if new.is_some() || removes { 8 } else { 2 });
        let outcome = if !world.nodes[node].up {
            unknown()
        } else if !(world.has_majority(node) || minority || reads_local) {
            refused(503, "QuorumUnavailable")
        } else if let Some(text) = &new {
            if is_lost && world.chance.is(30) {
                let later = world.now + (1 + world.chance.below(20)) * STEP_US;
                self.late.push((later, Late::Secret(text.clone(), key.clone())));
                unknown()
            } else {
                value(text, world.register.put(text, key.as_deref(), world.bug))
            }
        } else if removes {
            let is_there = world.register.last().version > 0;
            if is_there {
                world.register.remove()
            }
            if is_there { Outcome::Done } else { refused(404, "NotFound") }
        } else {
            let state = if local {
                world.register.at(world.nodes[node].applied)
            } else {
                world.register.last()
            };
            value(&state.value, state.version)
        };
        let is_lost = is_lost && !matches!(outcome, Outcome::Refused { .. });
        let outcome = if is_lost { unknown() } else { outcome };
        if let (Outcome::Unknown { .. }, Some(key), Some(text)) = (&outcome, key, new) {
            self.retry = Some((key, text));
        }
        world.build.answer(to, op, outcome);
    }

    fn account(&mut self, world: &mut World) {
        if !self.is_free(world, 30) {
            return;
        }
        let name = || "eve".to_owned();
        let node = world.chance.below(3) as usize;
        if world.chance.is(10) && world.has_majority(node) && world.nodes[node].up {
            let is_disabled = !world.register.last().is_disabled;
            let request = if is_disabled {
                Request::AccountDisable { name: name() }
            } else {
                Request::AccountEnable { name: name() }
            };
            let (op, to) = self.ask(world, 30, node, request, |_| {});
            world.register.set_disabled(is_disabled);
            world.build.answer(to, op, Outcome::Done);
            return;
        }
        let (op, to) = self.ask(world, 30, node, read("k1"), |call| call.account = Some(name()));
        let it = &world.nodes[node];
        let skips = world.bug == Some(Bug::PermitSkipped);
        let outcome = if !it.up {
            unknown()
        } else if world.register.at(it.applied).is_disabled && !skips {
            refused(401, "Unauthorized")
        } else {
            let siblings = it.siblings("k1");
            let is_gone = siblings.first().is_none_or(|winner| winner.value.is_none());
            row(if is_gone { siblings.get(1..).unwrap_or_default() } else { &siblings[..] })
        };
        world.build.answer(to, op, outcome);
    }

    fn watcher(&mut self, world: &mut World, client: u32) {
        let mut it = self.watches.remove(&client).unwrap_or_default();
        let is_settling = world.now >= STEPS * STEP_US;
        match it.open {
            Some((op, node)) if !world.nodes[node].up || (!is_settling && world.chance.is(5)) => {
                it.open = None;
                world.build.answer(world.now, op, unknown());
            }
            Some((op, node)) => it.send(world, client, op, node),
            None if world.chance.is(60) => it.connect(world, client),
            None => {}
        }
        self.watches.insert(client, it);
    }
}

impl Watch {
    fn connect(&mut self, world: &mut World, client: u32) {
        let node = world.chance.below(3) as usize;
        if world.chance.is(10) {
            self.told = None;
        }
        let resumed = self.told.is_some();
        let request =
            Call { has_session: resumed, ..call(client, &world.nodes[node].name, watch(resumed)) };
        let op = world.build.call(world.now, request);
        let is_reached = self.told.as_ref().is_none_or(|told| world.nodes[node].covers(told));
        if !world.nodes[node].up || !is_reached {
            let outcome = if is_reached { unknown() } else { refused(412, "SessionNotReached") };
            // A session that was lost with a disk is never reached again.
            if !is_reached && world.chance.is(20) {
                self.told = None;
            }
            world.build.answer(world.now, op, outcome);
            return;
        }
        world.build.answer(world.now, op, Outcome::Opened);
        self.open = Some((op, node));
        (self.is_ready, self.has_removals) = (false, resumed);
        self.seen = self.told.clone().unwrap_or_default();
        if resumed && world.bug == Some(Bug::ResumeLate) {
            for (origin, n) in &mut self.seen {
                *n = (*n + 1).min(world.nodes[node].vector[origin]);
            }
        }
        self.send(world, client, op, node);
    }

    fn send(&mut self, world: &mut World, client: u32, op: u64, node: usize) {
        let it = &world.nodes[node];
        let is_seen = |(origin, n): &super::Dot| self.seen.get(origin).is_some_and(|it| it >= n);
        let is_sent = |row: &[(super::Dot, Sibling)]| {
            let is_gone = row[0].1.value.is_none();
            !row.iter().all(|(dot, _)| is_seen(dot)) && (self.has_removals || !is_gone)
        };
        let rows = it.rows.iter().filter(|(_, row)| is_sent(row));
        let mut rows: Vec<(String, Vec<Sibling>)> =
            rows.map(|(key, _)| (key.clone(), it.siblings(key))).collect();
        let reset = !self.is_ready && self.told.is_none();
        let watched = |rows, ready, has_session| {
            Event::Watched(Watched { op, client, reset, ready, rows, has_session })
        };
        let now = world.now + 1;
        if rows.len() > 1 {
            let rest = rows.split_off(1);
            world.build.push(now, watched(rows, false, false));
            if world.chance.is(10) {
                // Cut off in between.
                self.open = None;
                world.build.answer(now, op, unknown());
                return;
            }
            rows = rest;
        }
        if !rows.is_empty() || !self.is_ready {
            world.build.push(now, watched(rows, !self.is_ready, true));
            self.is_ready = true;
            self.has_removals = true;
            merge(&mut self.seen, &world.nodes[node].vector);
            self.told = Some(self.seen.clone());
        } else {
            merge(&mut self.seen, &world.nodes[node].vector);
        }
    }
}
