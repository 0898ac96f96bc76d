//! Histories for the checks' tests, built by hand.

use std::collections::BTreeMap;

use super::{Check, Judge, Judgement, Violation};
use crate::simulation::checks::History;
use crate::simulation::history::{
    Answer, AtUs, Call, Event, FORMAT, Fault, Final, Outcome, Probe, Record, Request, Run, RunNode,
    Sibling, Watched,
};

/// The document that tests write.
pub(crate) const DOCUMENT: &str = "web/prod";

/// One second.
pub(crate) const S: AtUs = 1_000_000;

/// A history in the making: three regions `a`, `b`, `c` with a voting node `a-1`, `b-1`, `c-1` each.
/// Faults end at 60 s, the run at 90 s.
#[derive(Clone)]
pub(crate) struct Build {
    pub(crate) run: Run,
    pub(crate) records: Vec<Record>,
    op: u64,
}

/// A sibling: its stamp is `at` microseconds in a year's first minute.
pub(crate) fn sibling(value: &str, version: u64, origin: &str, at: u64) -> Sibling {
    let value = (!value.is_empty()).then(|| value.to_owned());
    let (s, us) = (at / 1_000_000, at % 1_000_000);
    let updated_at = format!("2030-01-01T00:{:02}:{:02}.{us:06}Z", s / 60, s % 60);
    Sibling { value, version, origin: origin.to_owned(), updated_at }
}

/// A call with what is the same for most.
pub(crate) fn call(client: u32, node: &str, request: Request) -> Call {
    Call {
        op: 0,
        client,
        node: node.to_owned(),
        region: node.split('-').next().unwrap_or(node).to_owned(),
        has_session: false,
        account: None,
        idempotency_key: None,
        request,
    }
}

pub(crate) fn write(key: &str, value: &str) -> Request {
    Request::ConfigWrite {
        document: DOCUMENT.to_owned(),
        entries: vec![(key.to_owned(), value.to_owned())],
        expect_version: None,
        ack: None,
    }
}

pub(crate) fn remove(key: &str) -> Request {
    Request::ConfigRemove { document: DOCUMENT.to_owned(), key: key.to_owned() }
}

pub(crate) fn read(key: &str) -> Request {
    Request::ConfigRead { document: DOCUMENT.to_owned(), key: key.to_owned() }
}

pub(crate) fn watch(resumed: bool) -> Request {
    Request::ConfigWatch { document: DOCUMENT.to_owned(), resumed }
}

pub(crate) fn secret_write(name: &str, value: &str) -> Request {
    Request::SecretWrite { name: name.to_owned(), value: value.to_owned(), expect_version: None }
}

pub(crate) fn secret_read(name: &str) -> Request {
    Request::SecretRead { name: name.to_owned(), consistency: "linearizable".to_owned() }
}

pub(crate) fn secret_remove(name: &str) -> Request {
    Request::SecretRemove { name: name.to_owned() }
}

pub(crate) fn wrote(key: &str, sibling: Sibling) -> Outcome {
    let entries = vec![(key.to_owned(), sibling)];
    Outcome::Wrote { entries, acknowledged: true, regions: [].into() }
}

pub(crate) fn row(siblings: &[Sibling]) -> Outcome {
    Outcome::Row { siblings: siblings.to_vec(), inconsistent: false }
}

/// A secret's or role's value; an empty one is none.
pub(crate) fn value(value: &str, version: u64) -> Outcome {
    let value = (!value.is_empty()).then(|| value.to_owned());
    Outcome::Value { value, version, staleness_ms: None }
}

pub(crate) fn refused(status: u16, error: &str) -> Outcome {
    Outcome::Refused { status, error: error.to_owned() }
}

pub(crate) fn unknown() -> Outcome {
    Outcome::Unknown { why: "no answer".to_owned() }
}

/// A fault that is felt by `regions`.
pub(crate) fn fault(id: u32, kind: &str, regions: &[&str]) -> Fault {
    let regions = regions.iter().map(|it| (*it).to_owned()).collect();
    Fault {
        id,
        kind: kind.to_owned(),
        what: kind.to_owned(),
        begins: true,
        regions,
        ..Fault::default()
    }
}

/// `region` is cut off from all others.
pub(crate) fn isolate(id: u32, region: &str) -> Fault {
    let others = ["a", "b", "c"].into_iter().filter(|it| *it != region);
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    let links_cut = others.flat_map(|it| [pair(region, it), pair(it, region)]).collect();
    Fault { links_cut, ..fault(id, "isolate", &[region]) }
}

/// `node` is down.
pub(crate) fn down(id: u32, kind: &str, node: &str) -> Fault {
    let region = node.split('-').next().unwrap_or(node);
    Fault { nodes_down: [node.to_owned()].into(), ..fault(id, kind, &[region]) }
}

/// What a healthy node says of itself.
pub(crate) fn probe(node: &str, vector: &[(&str, u64)], view: &str) -> Probe {
    Probe {
        node: node.to_owned(),
        up: true,
        ready: true,
        vector: vector.iter().map(|(origin, n)| ((*origin).to_owned(), *n)).collect(),
        origin: format!("{node}-o"),
        view_hash: view.to_owned(),
        role: "follower".to_owned(),
        term: 1,
        leader: Some("a-1".to_owned()),
        ..Probe::default()
    }
}

impl Default for Build {
    fn default() -> Self {
        let node = |region: &str| RunNode {
            node: format!("{region}-1"),
            region: region.to_owned(),
            voter: true,
            joined: false,
        };
        let run = Run {
            format: FORMAT,
            nodes: ["a", "b", "c"].map(node).into(),
            faults_end_us: 60 * S,
            end_us: 90 * S,
            converge_within_us: 10 * S,
            revocation_within_us: 2 * S,
            revocation_within_on_island_us: 20 * S,
            ..Run::default()
        };
        Self { run, records: Vec::new(), op: 0 }
    }
}

impl Build {
    pub(crate) fn push(&mut self, at_us: AtUs, event: Event) -> &mut Self {
        self.records.push(Record { at_us, event });
        self
    }

    /// A call without an answer.
    pub(crate) fn call(&mut self, at_us: AtUs, call: Call) -> u64 {
        self.op += 1;
        let op = self.op;
        self.push(at_us, Event::Call(Call { op, ..call }));
        op
    }

    pub(crate) fn answer(&mut self, at_us: AtUs, op: u64, outcome: Outcome) -> &mut Self {
        self.push(at_us, Event::Answer(Answer { op, outcome }))
    }

    /// A call of client 1 and its answer.
    pub(crate) fn ask(
        &mut self,
        (from, to): (AtUs, AtUs),
        node: &str,
        request: Request,
        outcome: Outcome,
    ) -> u64 {
        let op = self.call(from, call(1, node, request));
        self.answer(to, op, outcome);
        op
    }

    /// The same with the client's session.
    pub(crate) fn session(
        &mut self,
        (from, to): (AtUs, AtUs),
        node: &str,
        request: Request,
        outcome: Outcome,
    ) -> u64 {
        let op = self.call(from, Call { has_session: true, ..call(1, node, request) });
        self.answer(to, op, outcome);
        op
    }

    pub(crate) fn fault(&mut self, from: AtUs, to: Option<AtUs>, fault: Fault) -> &mut Self {
        self.push(from, Event::Fault(fault.clone()));
        if let Some(to) = to {
            self.push(to, Event::Fault(Fault { begins: false, ..fault }));
        }
        self
    }

    pub(crate) fn probe(&mut self, at_us: AtUs, probe: Probe) -> &mut Self {
        self.push(at_us, Event::Probe(probe))
    }

    /// What a watcher was sent.
    pub(crate) fn watched(
        &mut self,
        at_us: AtUs,
        op: u64,
        rows: &[(&str, Vec<Sibling>)],
        change: impl FnOnce(&mut Watched),
    ) -> &mut Self {
        let rows = rows.iter().map(|(key, siblings)| ((*key).to_owned(), siblings.clone()));
        let mut watched = Watched {
            op,
            client: 1,
            rows: rows.collect(),
            has_session: true,
            ..Watched::default()
        };
        change(&mut watched);
        self.push(at_us, Event::Watched(watched))
    }

    /// All nodes show these rows at the end, and know of these writes.
    pub(crate) fn finals(
        &mut self,
        rows: &[(&str, Vec<Sibling>)],
        past: &[(&str, Sibling)],
    ) -> &mut Self {
        for node in ["a-1", "b-1", "c-1"] {
            self.last(node, rows, past);
        }
        self
    }

    /// One node shows these at the end.
    pub(crate) fn last(
        &mut self,
        node: &str,
        rows: &[(&str, Vec<Sibling>)],
        past: &[(&str, Sibling)],
    ) -> &mut Self {
        let named = |key: &str| format!("{DOCUMENT}/{key}");
        let rows = rows.iter().map(|(key, siblings)| (named(key), siblings.clone()));
        let rows: BTreeMap<String, Vec<Sibling>> = rows.collect();
        let mut history = rows.clone();
        for (key, sibling) in past {
            history.entry(named(key)).or_default().push(sibling.clone());
        }
        let last = Final { node: node.to_owned(), rows, history, ..Final::default() };
        self.push(89 * S, Event::Final(last))
    }

    /// The records, in order of time, the run first.
    pub(crate) fn records(&self) -> Vec<Record> {
        let mut records = self.records.clone();
        records.sort_by_key(|record| record.at_us);
        records.insert(0, Record { at_us: 0, event: Event::Run(self.run.clone()) });
        records
    }

    /// What the check says.
    pub(crate) fn judge(&self, check: Check) -> Judgement {
        let records = self.records();
        let mut judge = Judge::default();
        (check.run)(&History::new(&records), &mut judge);
        judge.finish()
    }

    /// Demands that the check passes, having looked at something.
    #[track_caller]
    pub(crate) fn passes(&self, check: Check) {
        let judgement = self.judge(check);
        assert!(matches!(judgement, Judgement::Pass { examined: 1.., .. }), "{judgement:#?}");
    }

    /// Demands exactly one violation, in whose words `wanted` is; gives it back.
    #[track_caller]
    pub(crate) fn violates(&self, check: Check, wanted: &str) -> Violation {
        let judgement = self.judge(check);
        let Judgement::Violation { violations, .. } = &judgement else {
            panic!("no violation: {judgement:#?}");
        };
        assert_eq!(violations.len(), 1, "{violations:#?}");
        assert!(violations[0].what.contains(wanted), "{violations:#?}");
        violations[0].clone()
    }
}
