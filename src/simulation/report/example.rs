//! A made-up history for tests: five regions, some cuts, a crash and a violation. It behaves as Holm
//! does in outline only; what matters is that a report finds in it what was put there.

use std::collections::{BTreeMap, BTreeSet};

use super::{Checked, Verdict, Violation};
use crate::simulation::history::{
    Answer, AtUs, Call, End, Event, FORMAT, Fault, Final, Outcome, Probe, Record, Request, Run,
    RunDelay, RunNode, Sent, Sibling,
};

const REGIONS: [&str; 5] = ["eu-west", "us-east", "sa-east", "ap-south", "af-south"];
const MS: u64 = 1000;
const S: u64 = 1000 * MS;

/// Rows of a node: key → siblings, and what it knows to be replaced.
#[derive(Default)]
struct Rows {
    rows: BTreeMap<String, Vec<Sibling>>,
    replaced: BTreeSet<(String, String)>,
}

/// One config write, and what it replaced.
#[derive(Clone)]
struct Write {
    key: String,
    sibling: Sibling,
    replaces: Vec<Sibling>,
}

struct World {
    records: Vec<Record>,
    faults: Vec<(AtUs, AtUs, Fault)>,
    /// By origin; its number is its place.
    writes: Vec<Vec<Write>>,
    /// By node, by origin: how many of them it has.
    vectors: [[usize; 5]; 5],
    rows: [Rows; 5],
    secret: (String, u64),
    leader: (usize, u64, AtUs),
    sent: [[Sent; 5]; 5],
    random: u64,
    op: u64,
}

fn names<'a>(names: impl IntoIterator<Item = &'a str>) -> BTreeSet<String> {
    names.into_iter().map(str::to_owned).collect()
}

/// A run of 60 seconds and 15 to settle, and what checks would say of it.
pub(crate) fn example(seed: u64) -> (Vec<Record>, Vec<Checked>) {
    let mut world = World {
        records: Vec::new(),
        faults: faults(),
        writes: vec![Vec::new(); 5],
        vectors: [[0; 5]; 5],
        rows: Default::default(),
        secret: ("none".into(), 0),
        leader: (1, 3, 0),
        sent: Default::default(),
        random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
        op: 0,
    };
    world.push(0, Event::Run(run(seed)));
    for step in 0..750 {
        world.step(step * 100 * MS);
    }
    let stale = world.plant();
    world.finish();
    world.records.sort_by_key(|record| record.at_us);
    (world.records, checks(stale))
}

fn run(seed: u64) -> Run {
    let node = |region: &&str| RunNode {
        node: format!("{region}-1"),
        region: (*region).into(),
        voter: true,
        joined: false,
    };
    Run {
        format: FORMAT,
        version: "0.1.0".into(),
        scenario: "island-and-crash".into(),
        claim: "A region that is cut off goes on with its configurations, and no secret is read \
                stale anywhere."
            .into(),
        scenario_hash: "6f1f0c4b7a1d9e5532c0aa81f7e2b4d9965e01c7d3a84f1b2c6d7e8f9a0b1c2d".into(),
        seed,
        again: format!("holm simulate simulations/island-and-crash.toml --seed {seed}"),
        nodes: REGIONS.iter().map(node).collect(),
        delays: vec![RunDelay { a: "eu-west".into(), b: "us-east".into(), one_way_us: 38_000 }],
        faults_end_us: 60 * S,
        end_us: 75 * S,
        converge_within_us: 10 * S,
        ..Run::default()
    }
}

fn cuts(groups: &[&[usize]]) -> BTreeSet<(String, String)> {
    let group = |r: usize| groups.iter().position(|group| group.contains(&r));
    let pairs = (0..5).flat_map(|a| (0..5).map(move |b| (a, b)));
    pairs
        .filter(|(a, b)| group(*a) != group(*b))
        .map(|(a, b)| (REGIONS[a].into(), REGIONS[b].into()))
        .collect()
}

fn faults() -> Vec<(AtUs, AtUs, Fault)> {
    let mut id = 0;
    let mut fault = |from: u64, to: u64, kind: &str, what: &str, regions: &[&str]| {
        id += 1;
        let (kind, what, regions) = (kind.into(), what.into(), names(regions.iter().copied()));
        (from * S, to * S, Fault { id, kind, what, begins: true, regions, ..Fault::default() })
    };
    let mut isolate =
        fault(10, 22, "isolate", "ap-south is cut off from all others", &["ap-south"]);
    isolate.2.links_cut = cuts(&[&[3]]);
    let mut one_way =
        fault(18, 30, "one_way", "nothing from sa-east reaches af-south", &["sa-east", "af-south"]);
    one_way.2.links_cut = BTreeSet::from([("sa-east".into(), "af-south".into())]);
    let mut crash = fault(33, 41, "crash", "us-east-1 loses power", &["us-east"]);
    crash.2.nodes_down = names(["us-east-1"]);
    let what = "eu-west and us-east are cut off from sa-east, ap-south and af-south";
    let mut partition = fault(45, 53, "partition", what, &REGIONS);
    partition.2.links_cut = cuts(&[&[0, 1]]);
    vec![
        isolate,
        one_way,
        fault(25, 25, "revoke", "an account is disabled", &["eu-west"]),
        crash,
        fault(38, 50, "clock_step", "af-south-1's clock jumps an hour ahead", &["af-south"]),
        partition,
        fault(54, 58, "disk_full", "the disk of sa-east-1 is <full> & refuses", &["sa-east"]),
    ]
}

fn checks(stale: [u64; 2]) -> Vec<Checked> {
    let passed = |check: &str, claim: &str, examined: u64, note: &str| Checked {
        check: check.into(),
        claim: claim.into(),
        examined,
        note: note.into(),
        ..Checked::default()
    };
    let mut linearizable =
        passed("linearizable", "Secrets, accounts and roles behave as one copy.", 301, "");
    linearizable.verdict = Verdict::Violation;
    linearizable.count = 1;
    linearizable.violations = vec![Violation {
        at_us: 24_120 * MS,
        ops: stale.to_vec(),
        nodes: vec!["ap-south-1".into(), "ap-south-1".into()],
        what: format!(
            "request {} read version 1 of secret db, after request {} had written a later one",
            stale[1], stale[0]
        ),
    }];
    let mut revocation = passed(
        "revocation",
        "A revoked account's token is refused within its bound.",
        0,
        "no token was used after its revocation",
    );
    revocation.verdict = Verdict::NotExercised;
    vec![
        passed("convergence", "All regions agree within 10 s after healing.", 5, ""),
        passed("acknowledged", "No acknowledged write is lost.", 498, ""),
        linearizable,
        revocation,
    ]
}

impl World {
    fn push(&mut self, at_us: AtUs, event: Event) {
        self.records.push(Record { at_us, event });
    }

    fn below(&mut self, n: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) % n
    }

    fn up(&self, r: usize, at: AtUs) -> bool {
        let node = format!("{}-1", REGIONS[r]);
        !self
            .faults
            .iter()
            .any(|(from, to, f)| (*from..*to).contains(&at) && f.nodes_down.contains(&node))
    }

    fn reaches(&self, a: usize, b: usize, at: AtUs) -> bool {
        let pair = (REGIONS[a].to_owned(), REGIONS[b].to_owned());
        let cut = |(from, to, f): &(AtUs, AtUs, Fault)| {
            (*from..*to).contains(&at) && f.links_cut.contains(&pair)
        };
        self.up(a, at) && self.up(b, at) && !self.faults.iter().any(cut)
    }

    fn has_quorum(&self, r: usize, at: AtUs) -> bool {
        let both = |b: &usize| self.reaches(r, *b, at) && self.reaches(*b, r, at);
        (0..5).filter(|b| *b == r || both(b)).count() >= 3
    }

    fn step(&mut self, at: AtUs) {
        for (from, to, fault) in self.faults.clone() {
            if from == at {
                self.push(at, Event::Fault(fault.clone()));
            }
            if to == at && from != to {
                self.push(at, Event::Fault(Fault { begins: false, ..fault }));
            }
        }
        self.replicate(at);
        let (leader, term, _) = self.leader;
        if self.up(leader, at) && self.has_quorum(leader, at) {
            self.leader.2 = at;
        } else if at > self.leader.2 + 1_600 * MS
            && let Some(next) = (0..5).find(|r| self.up(*r, at) && self.has_quorum(*r, at))
        {
            self.leader = (next, term + 1, at);
        }
        if at < 60 * S {
            for region in 0..5 {
                self.request(region, at);
            }
        }
        if at.is_multiple_of(200 * MS) {
            (0..5).for_each(|region| self.probe(region, at + 90 * MS));
        }
    }

    fn replicate(&mut self, at: AtUs) {
        for (a, b) in (0..5).flat_map(|a| (0..5).map(move |b| (a, b))) {
            if a == b || !self.up(a, at) {
                continue;
            }
            self.send(a, b, 60);
            if !self.reaches(a, b, at) {
                self.sent[a][b].lost += 1;
                continue;
            }
            for origin in 0..5 {
                // A resync goes in portions.
                for _ in 0..6 {
                    let next = self.vectors[b][origin];
                    if next >= self.vectors[a][origin] {
                        break;
                    }
                    let write = self.writes[origin][next].clone();
                    self.send(a, b, 300);
                    self.vectors[b][origin] += 1;
                    apply(&mut self.rows[b], &write);
                }
            }
        }
    }

    fn send(&mut self, a: usize, b: usize, bytes: u64) {
        self.sent[a][b].bytes += bytes;
        self.sent[a][b].datagrams += 1;
    }

    fn request(&mut self, r: usize, at: AtUs) {
        let at = at + self.below(80) * MS;
        self.op += 1;
        let (op, choice) = (self.op, self.below(100));
        let (document, key) = ("web/prod".to_owned(), format!("k{}", self.below(12)));
        let value = format!("v{op}");
        let row = format!("{document}/{key}");
        let fast = 1_000 + self.below(2_500);
        let disk_full = r == 2 && (54 * S..58 * S).contains(&at);
        let unknown = Outcome::Unknown { why: "timed out".into() };
        let (request, takes, outcome) = match choice {
            0..60 => {
                let siblings = self.rows[r].rows.get(&row).cloned().unwrap_or_default();
                let outcome = Outcome::Row { siblings, inconsistent: false };
                (Request::ConfigRead { document, key }, fast, outcome)
            }
            60..78 => {
                let refused = Outcome::Refused { status: 507, error: "StorageFull".into() };
                let outcome = match (disk_full, self.up(r, at)) {
                    (true, _) => refused,
                    (_, false) => unknown.clone(),
                    _ => self.write(r, at, &row, &key, &value),
                };
                let entries = vec![(key, value)];
                let (expect_version, ack) = (None, None);
                (Request::ConfigWrite { document, entries, expect_version, ack }, fast, outcome)
            }
            _ => self.secret(r, at, choice >= 92, value),
        };
        let (takes, outcome) = if self.up(r, at) { (takes, outcome) } else { (900 * MS, unknown) };
        let call = Call {
            op,
            client: r as u32 * 10 + (op % 3) as u32,
            node: format!("{}-1", REGIONS[r]),
            region: REGIONS[r].into(),
            has_session: op.is_multiple_of(4),
            account: None,
            idempotency_key: None,
            request,
        };
        self.push(at, Event::Call(call));
        self.push(at + takes, Event::Answer(Answer { op, outcome }));
    }

    fn write(&mut self, r: usize, at: AtUs, row: &str, key: &str, value: &str) -> Outcome {
        let replaces = self.rows[r].rows.get(row).cloned().unwrap_or_default();
        let version = replaces.iter().map(|s| s.version).max().unwrap_or_default() + 1;
        let sibling = Sibling {
            value: Some(value.into()),
            version,
            origin: format!("{:08x}", 0xa1b2_0000_u32 + r as u32),
            updated_at: format!("2026-01-01T00:00:{:09.6}Z", at as f64 / 1e6),
        };
        let write = Write { key: row.into(), sibling: sibling.clone(), replaces };
        apply(&mut self.rows[r], &write);
        self.writes[r].push(write);
        self.vectors[r][r] += 1;
        let (entries, regions) = (vec![(key.into(), sibling)], names([REGIONS[r]]));
        Outcome::Wrote { entries, acknowledged: true, regions }
    }

    fn secret(
        &mut self,
        r: usize,
        at: AtUs,
        writes: bool,
        value: String,
    ) -> (Request, u64, Outcome) {
        let name = "db".to_owned();
        let request = if writes {
            Request::SecretWrite { name, value: value.clone(), expect_version: None }
        } else {
            Request::SecretRead { name, consistency: "linearizable".into() }
        };
        let slow = (90 + self.below(220)) * MS;
        let leads = self.leader.2 + 300 * MS > at;
        if !(self.has_quorum(r, at) && leads) {
            if self.below(4) == 0 {
                return (request, 2 * S, Outcome::Unknown { why: "timed out".into() });
            }
            let error = "QuorumUnavailable".to_owned();
            return (request, slow * 4, Outcome::Refused { status: 503, error });
        }
        if writes {
            self.secret = (value, self.secret.1 + 1);
        }
        let (value, version) = (Some(self.secret.0.clone()), self.secret.1);
        (request, slow, Outcome::Value { value, version, staleness_ms: None })
    }

    fn probe(&mut self, r: usize, at: AtUs) {
        let up = self.up(r, at);
        let (leader, term, _) = self.leader;
        let vector = (0..5).map(|o| (format!("o{o}"), self.vectors[r][o] as u64));
        let mut probe = Probe { node: format!("{}-1", REGIONS[r]), up, ..Probe::default() };
        if up {
            probe.vector = vector.collect();
            probe.origin = format!("{:08x}", 0xa1b2_0000_u32 + r as u32);
            probe.view_hash = format!("{:016x}", hash(&self.rows[r].rows));
            let role = if leader == r { "leader" } else { "follower" };
            let role = if self.has_quorum(r, at) { role } else { "candidate" };
            (probe.role, probe.term) = (role.into(), term);
            probe.sent_bytes = self.sent[r].iter().map(|sent| sent.bytes).sum();
            let others = (0..5).filter(|other| *other != r);
            probe.sent_to = others.map(|to| (REGIONS[to].to_owned(), self.sent[r][to])).collect();
        }
        self.push(at, Event::Probe(probe));
    }

    /// Makes a read after a later write's answer show version 1. The two requests.
    fn plant(&mut self) -> [u64; 2] {
        let at_us = 23_400 * MS;
        for (op, client, at_us, region, takes) in
            [(9001, 11, at_us, "us-east", 180), (9002, 31, at_us + 420 * MS, "ap-south", 300)]
        {
            let request = if op == 9001 {
                let value = "rotated <script>alert(1)</script>".into();
                Request::SecretWrite { name: "db".into(), value, expect_version: None }
            } else {
                Request::SecretRead { name: "db".into(), consistency: "linearizable".into() }
            };
            let (value, version) =
                if op == 9001 { ("rotated <script>alert(1)</script>", 42) } else { ("v7", 1) };
            let (value, node) = (Some(value.to_owned()), format!("{region}-1"));
            let outcome = Outcome::Value { value, version, staleness_ms: None };
            let region = region.to_owned();
            let (has_session, account, idempotency_key) = (false, None, None);
            let call =
                Call { op, client, node, region, has_session, account, idempotency_key, request };
            self.push(at_us, Event::Call(call));
            self.push(at_us + takes * MS, Event::Answer(Answer { op, outcome }));
        }
        [9001, 9002]
    }

    fn finish(&mut self) {
        for (r, region) in REGIONS.iter().enumerate() {
            let node = format!("{region}-1");
            let rows = self.rows[r].rows.clone();
            self.push(75 * S, Event::Final(Final { node, rows, ..Final::default() }));
        }
        let trace_hash = "c0ffee".repeat(10);
        let end = End { trace_hash, datagrams: 48_211, datagrams_lost: 1_204, ..End::default() };
        self.push(75 * S, Event::End(end));
    }
}

fn apply(rows: &mut Rows, write: &Write) {
    let name = |sibling: &Sibling| (sibling.updated_at.clone(), sibling.origin.clone());
    rows.replaced.extend(write.replaces.iter().map(name));
    let row = rows.rows.entry(write.key.clone()).or_default();
    row.push(write.sibling.clone());
    row.retain(|sibling| !rows.replaced.contains(&name(sibling)));
    row.sort_by(|a, b| (&b.updated_at, &b.origin).cmp(&(&a.updated_at, &a.origin)));
}

fn hash(rows: &BTreeMap<String, Vec<Sibling>>) -> u64 {
    let text = format!("{rows:?}");
    text.bytes().fold(7, |hash: u64, byte| hash.wrapping_mul(31).wrapping_add(byte.into()))
}
