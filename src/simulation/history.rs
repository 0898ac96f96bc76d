//! What happened in a run: one [`Record`] a line of `history.jsonl`, in the order of time. Clients'
//! calls and answers as the clients saw them, what watchers were sent, faults, and what each node
//! says of itself from time to time. Checks and reports read this and nothing else; whether it was
//! recorded in a simulation or with real processes makes no difference to them.
//!
//! It refuses to judge: an answer is recorded as it came.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead, Write};

use serde::{Deserialize, Serialize};

/// The version of the format. Readers refuse another one and pass over unknown members.
pub const FORMAT: u32 = 1;

/// Longest line that is read, in bytes.
pub const LINE_LEN_MAX: usize = 16 * 1024 * 1024;

/// Microseconds of the run's own time, from its start.
pub type AtUs = u64;

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// When. Never less than the line's before.
    pub at_us: AtUs,
    /// What.
    #[serde(flatten)]
    pub event: Event,
}

/// What happened. The first record of a run is its `Run`, the last its `End`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// What is run.
    Run(Run),
    /// A fault begins, or is over.
    Fault(Fault),
    /// A client sends a request.
    Call(Call),
    /// A client has an answer, or has given up.
    Answer(Answer),
    /// A watcher was sent something.
    Watched(Watched),
    /// How a node stands, asked for at regular times.
    Probe(Probe),
    /// What a node holds on to, where the scenario bounds it.
    Tally(Tally),
    /// Everything a node shows at the end, after the settle time.
    Final(Final),
    /// What all nodes' changes come to had no document ever gone on in a next epoch.
    Twin(Twin),
    /// Something was found out by whoever runs the nodes, not by a client: a plaintext on disk or
    /// wire, a broken audit chain, a panic. Never part of a good run.
    Finding(Finding),
    /// The run is over.
    End(End),
}

/// What is run, and how to run it again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Run {
    /// [`FORMAT`].
    pub format: u32,
    /// The program's version.
    pub version: String,
    /// The scenario's name, for people.
    pub scenario: String,
    /// What it claims, in one sentence.
    pub claim: String,
    /// SHA-256 of the scenario file and the topology it names, in hex.
    pub scenario_hash: String,
    /// The seed.
    pub seed: u64,
    /// The options that make the run another one than without them, as on the command line.
    pub options: Vec<String>,
    /// The command line that runs it again.
    pub again: String,
    /// The nodes.
    pub nodes: Vec<RunNode>,
    /// One-way delays between regions in microseconds, each pair once.
    pub delays: Vec<RunDelay>,
    /// When workload and faults end and everything is healed, and settling begins.
    pub faults_end_us: AtUs,
    /// When the run ends.
    pub end_us: AtUs,
    /// How long after the faults' end all regions may take to agree.
    pub converge_within_us: u64,
    /// Regions that are broken for good: what they do not reach does not count as progress lost.
    pub lost_regions: BTreeSet<String>,
    /// How long after a revocation's answer, at most, a token of it may still be taken where the
    /// cluster is connected; and on an island.
    pub revocation_within_us: u64,
    /// See `revocation_within_us`.
    pub revocation_within_on_island_us: u64,
    /// Nodes whose promises are void, because their disk lied (an fsync that was none): what they
    /// acknowledged may be lost; it has to be detected instead.
    pub void_nodes: BTreeSet<String>,
    /// What has to have happened at least once, or the run shows nothing.
    pub coverage: BTreeSet<Coverage>,
    /// Which checks are made.
    pub checks: BTreeSet<String>,
    /// How much of histories nodes keep, where they were told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub history: Option<Kept>,
    /// What nodes may hold on to at most, by what it is.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub bounds: BTreeMap<String, u64>,
    /// From when on those bounds hold.
    pub bounds_from_us: AtUs,
}

/// How much of a key's history is kept: what is beyond both may go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Kept {
    /// So many of the newest version numbers.
    pub versions: u64,
    /// What is younger.
    pub age_us: u64,
}

/// One node of the run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunNode {
    /// Its name.
    pub node: String,
    /// Its region.
    pub region: String,
    /// Whether it votes at the start.
    pub voter: bool,
    /// Whether it joins: the topology's file does not name it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub joined: bool,
}

/// How far apart two regions are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunDelay {
    /// One region.
    pub a: String,
    /// The other one.
    pub b: String,
    /// One way.
    pub one_way_us: u64,
}

/// What a scenario can demand to have happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Coverage {
    /// A key showed a conflict.
    Conflict,
    /// Two nodes had different vectors for at least a second.
    Divergence,
    /// A config write was acknowledged by a region that was cut off from all others.
    IslandWrite,
    /// A secret's write or read was refused for want of a quorum.
    QuorumRefused,
    /// The leader changed after the first one.
    LeaderChange,
    /// A client read in another region than it had written in, with its session.
    SessionMoved,
    /// A request waited for its session and was refused (412).
    SessionRefused,
    /// A watch was resumed with a session.
    WatchResumed,
    /// A node that stopped in order sent a watch elsewhere, and it was resumed there at once.
    WatchSent,
    /// A node joined that the topology's file does not name, and another one knew it.
    Joined,
    /// A node that had joined and was down was taken out by another one.
    Evicted,
    /// A node crashed and came back.
    Restart,
    /// A write was refused because a disk was full (507).
    DiskFull,
    /// An origin was given up for a new one after a restart.
    NewOrigin,
    /// A token was refused after its account was revoked.
    RevocationSeen,
    /// The same while regions were cut off from each other.
    RevocationDuringCut,
    /// A compare-and-set was refused.
    CasRefused,
    /// A write's outcome was unknown to its client.
    OutcomeUnknown,
    /// An unknown outcome was settled by a retry with the same Idempotency-Key.
    RetrySettled,
    /// A stored damage was detected.
    DamageDetected,
    /// The voters changed.
    VotersChanged,
    /// All keys were wrapped by a new generation of the master key.
    KeysRotated,
    /// A connection was refused for its certificate.
    CertificateRefused,
    /// A stamp was taken from the peers' time because the own clock was off.
    ClockOverruled,
    /// A database file was rebuilt while it was in use.
    FileRebuilt,
    /// A document went on in a next epoch.
    EpochRolled,
    /// The same while regions were cut off from each other.
    RollDuringCut,
    /// A change was written in an epoch whose end did not wait for it.
    LateChange,
    /// An epoch was decided by a leader that was lost before it began, and another one began it.
    RollFinished,
    /// Records that every member had went from a log.
    LogTrimmed,
    /// Versions went from a key's history.
    HistoryPruned,
    /// A node caught up by whole documents.
    DocumentsTaken,
}

/// A fault.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Fault {
    /// Names begin and end of the same fault.
    pub id: u32,
    /// The kind, as in the scenario file: `partition`, `crash`, ….
    pub kind: String,
    /// In words, for people: `eu-west is cut off from us-east`.
    pub what: String,
    /// Whether it begins (else it is over).
    pub begins: bool,
    /// The regions that feel it. A cut between two regions names both.
    pub regions: BTreeSet<String>,
    /// The nodes that are down because of it.
    pub nodes_down: BTreeSet<String>,
    /// Directed pairs of regions between which nothing passes while it lasts.
    pub links_cut: BTreeSet<(String, String)>,
}

/// A request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// The request's number: unique in the run. A retry is a call of its own.
    pub op: u64,
    /// Who asks. A client has one request at a time; watchers are clients of their own.
    pub client: u32,
    /// The node that is asked.
    pub node: String,
    /// Its region.
    pub region: String,
    /// Whether the request carries the client's session, which includes all of the client's answers
    /// before.
    pub has_session: bool,
    /// The token's account; none for the scenario's own administrator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// The `Idempotency-Key`, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    /// What is asked for.
    pub request: Request,
}

/// What is asked for. Every written value is another one in the whole run (retries under the same
/// Idempotency-Key excepted).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case")]
pub enum Request {
    /// Configuration keys set together.
    ConfigWrite {
        /// `service/environment`.
        document: String,
        /// Key and value.
        entries: Vec<(String, String)>,
        /// The version that each key (the only one) has to have.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expect_version: Option<u64>,
        /// How many regions have to have it: `local`, `2`, `majority`, `all`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ack: Option<String>,
    },
    /// A configuration key removed.
    ConfigRemove {
        /// `service/environment`.
        document: String,
        /// The key.
        key: String,
    },
    /// One key read.
    ConfigRead {
        /// `service/environment`.
        document: String,
        /// The key.
        key: String,
    },
    /// A watch opened. Answered when it is open; what it is sent are `Watched` records; a second
    /// answer under the same number says that it ended.
    ConfigWatch {
        /// `service/environment`.
        document: String,
        /// Whether it resumes from the client's session.
        resumed: bool,
    },
    /// A secret's next version.
    SecretWrite {
        /// The secret.
        name: String,
        /// The value.
        value: String,
        /// The version that it has to have.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expect_version: Option<u64>,
    },
    /// A secret's value.
    SecretRead {
        /// The secret.
        name: String,
        /// `linearizable`, or `local`.
        consistency: String,
    },
    /// A secret removed.
    SecretRemove {
        /// The secret.
        name: String,
    },
    /// A role's grants set; `value` is in a grant's text.
    RoleWrite {
        /// The role.
        name: String,
        /// What makes this write another than all others.
        value: String,
    },
    /// A role read.
    RoleRead {
        /// The role.
        name: String,
    },
    /// An account disabled: its tokens are to be refused from then on.
    AccountDisable {
        /// The account.
        name: String,
    },
    /// An account enabled.
    AccountEnable {
        /// The account.
        name: String,
    },
    /// A token asked for by an account.
    TokenIssue {
        /// The account.
        name: String,
    },
    /// A request that the simulator makes for a fault of its own: rotating keys, changing voters.
    Operate {
        /// In words.
        what: String,
    },
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// Whose answer.
    pub op: u64,
    /// What it was.
    pub outcome: Outcome,
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// Config keys were written or removed; as they are after it.
    Wrote {
        /// The key, and what this write made of it.
        entries: Vec<(String, Sibling)>,
        /// Whether as many regions have it as `ack` asked for.
        acknowledged: bool,
        /// The regions that are known to have it.
        regions: BTreeSet<String>,
    },
    /// A config key as it is. No siblings: there is no such key.
    Row {
        /// The winner first. A removal can be among them.
        siblings: Vec<Sibling>,
        /// Whether the node said that the state does not include the session (`Holm-Inconsistent`).
        inconsistent: bool,
    },
    /// A watch is open.
    Opened,
    /// A secret or a role as it is; no value: there is none.
    Value {
        /// The value; for writes the one that was written.
        value: Option<String>,
        /// Its version; 0 where there is none.
        version: u64,
        /// How old it may be, where the answer says so.
        staleness_ms: Option<u64>,
    },
    /// Done; there is nothing more to say.
    Done,
    /// Refused: it was not done, and will not be.
    Refused {
        /// The HTTP status.
        status: u16,
        /// The error's name.
        error: String,
    },
    /// No answer, or one that says so: it may have been done, may still be done, or never.
    Unknown {
        /// Why.
        why: String,
    },
}

/// One of the concurrent writes that a key has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sibling {
    /// The value; none for a removal.
    pub value: Option<String>,
    /// The version: one more than the highest that it replaced.
    pub version: u64,
    /// The store that made it, in hex.
    pub origin: String,
    /// RFC 3339, microseconds: what winners are decided by, before `origin`.
    pub updated_at: String,
}

/// What a watcher was sent at one go.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Watched {
    /// The call that opened the watch.
    pub op: u64,
    /// The watcher.
    pub client: u32,
    /// Whether it is a new beginning: everything, not only what the session misses.
    pub reset: bool,
    /// Whether everything up to the state of the watch's opening has been sent now.
    pub ready: bool,
    /// Keys and what they have now, the winner first.
    pub rows: Vec<(String, Vec<Sibling>)>,
    /// Whether it carried a session to resume from: all that was sent since the last one counts as
    /// seen only now.
    pub has_session: bool,
}

/// How a node stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Probe {
    /// The node.
    pub node: String,
    /// Whether it runs. Where not, the rest is empty.
    pub up: bool,
    /// Whether it would be sent requests by a balancer.
    pub ready: bool,
    /// The changes it includes: origin → number.
    pub vector: BTreeMap<String, u64>,
    /// The origin that it writes under.
    pub origin: String,
    /// A hash of all rows it shows, in hex; empty where it was not computed.
    pub view_hash: String,
    /// Keys that show conflicts.
    pub conflicts: u64,
    /// `leader`, `follower`, `candidate`, `learner`, or why it takes no part.
    pub role: String,
    /// The term.
    pub term: u64,
    /// Who it thinks leads.
    pub leader: Option<String>,
    /// Its applied index of the quorum path.
    pub applied: u64,
    /// How long ago it heard of the leader, in milliseconds.
    pub contact_age_ms: u64,
    /// Bytes that wait to be pushed to peers, in all.
    pub queue_bytes: u64,
    /// Records that wait for others they build on.
    pub waiting: u64,
    /// Peers' records refused since its start.
    pub quarantined: u64,
    /// Those of them because an origin has two changes under one number.
    pub forks: u64,
    /// How far its clock is off its peers', in microseconds; positive: behind.
    pub clock_offset_us: Option<i64>,
    /// Bytes that it has sent to other regions since its start.
    pub sent_bytes: u64,
    /// The same by region, with what did not arrive; empty where it was not counted.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub sent_to: BTreeMap<String, Sent>,
    /// Its databases' size in bytes.
    pub disk_bytes: u64,
    /// The members of the cluster as it knows them; empty where it was not asked.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub members: BTreeSet<String>,
    /// Documents that are past their first epoch, and which they are in.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub epochs: BTreeMap<String, u32>,
    /// Most changes that a document's epoch has.
    pub epoch_changes_max: u64,
    /// Epochs that did not begin here with what was agreed, since its start.
    pub epoch_mismatches: u64,
    /// Records that went from its log, since its start.
    pub log_trimmed: u64,
    /// Versions that went from its histories, since its start.
    pub history_pruned: u64,
}

/// What a node has sent to a region since the run's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sent {
    /// Bytes, those that were lost among them.
    pub bytes: u64,
    /// Datagrams, those that were lost among them.
    pub datagrams: u64,
    /// Datagrams that did not arrive.
    pub lost: u64,
}

/// What a node holds on to, counted by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tally {
    /// The node.
    pub node: String,
    /// How much there is of what.
    pub counts: BTreeMap<String, u64>,
}

/// Everything a node shows at the end.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Final {
    /// The node.
    pub node: String,
    /// `document/key` → what it has, the winner first, removals among it.
    pub rows: BTreeMap<String, Vec<Sibling>>,
    /// `document/key` → every write of it that the node knows of.
    pub history: BTreeMap<String, Vec<Sibling>>,
    /// The changes it includes: origin → number.
    pub vector: BTreeMap<String, u64>,
    /// A hash of all documents' heads, in hex.
    pub heads_hash: String,
    /// A hash of all rows.
    pub view_hash: String,
    /// A hash of the quorum path's state, and its index.
    pub quorum_hash: String,
    /// See `quorum_hash`.
    pub quorum_applied: u64,
    /// What `audit verify` says of each of its chains: its name, and what is wrong with it.
    pub audit: BTreeMap<String, Option<String>>,
}

/// What all nodes' changes come to, by a model that knows no epochs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Twin {
    /// `document/key` → what it has, the winner first, removals among it.
    pub rows: BTreeMap<String, Vec<Sibling>>,
    /// The changes that were found: origin → number.
    pub vector: BTreeMap<String, u64>,
    /// A hash of all rows, as in [`Probe`]; empty where not all are known.
    pub view_hash: String,
    /// Documents that are past their first epoch, and the newest of them.
    pub epochs: BTreeMap<String, u32>,
    /// Changes that were written in an epoch whose end did not wait for them.
    pub late: u64,
    /// Epochs that were told more than once, each time counted.
    pub repeated: u64,
    /// `document/key` of which not all is known: a change does not say what it replaced.
    pub unknown: BTreeSet<String>,
    /// Changes that no log has.
    pub missing: u64,
    /// Changes under the number of another one.
    pub forks: u64,
    /// Changes that cannot be read.
    pub unreadable: u64,
}

/// Something that nobody may ever find.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Finding {
    /// `plaintext`, `audit`, `panic`, `store`, ….
    pub kind: String,
    /// Where.
    pub node: String,
    /// In words.
    pub what: String,
    /// Whether it is what the scenario expects (a damage that had to be detected).
    pub expected: bool,
}

/// The end of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct End {
    /// A hash of every packet and every record of the run, in hex; empty where it was not simulated.
    pub trace_hash: String,
    /// Most memory that a node's bounded queues held, in bytes.
    pub queue_bytes_max: u64,
    /// Datagrams sent and lost on the way.
    pub datagrams: u64,
    /// See `datagrams`.
    pub datagrams_lost: u64,
}

/// Why a file is no history.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// It cannot be read.
    #[error("{0}")]
    Read(#[from] io::Error),
    /// A line is not a record.
    #[error("line {line}: {why}")]
    Line {
        /// Counted from 1.
        line: usize,
        /// Why not.
        why: String,
    },
}

/// Writes `records`, one a line.
pub fn write(records: &[Record], to: &mut impl Write) -> io::Result<()> {
    for record in records {
        serde_json::to_writer(&mut *to, record)?;
        to.write_all(b"\n")?;
    }
    to.flush()
}

/// Reads what [`write()`] wrote; refuses what does not begin with a `Run` of a format it knows.
pub fn read(from: impl BufRead) -> Result<Vec<Record>, HistoryError> {
    let mut records: Vec<Record> = Vec::new();
    for (number, line) in bounded_lines(from).enumerate() {
        let bad = |why: String| HistoryError::Line { line: number + 1, why };
        let record: Record = serde_json::from_str(&line?).map_err(|e| bad(e.to_string()))?;
        match (records.last(), &record.event) {
            (None, Event::Run(run)) if run.format == FORMAT => {}
            (None, Event::Run(run)) => {
                return Err(bad(format!("format {}; this program knows {FORMAT}", run.format)));
            }
            (None, _) => return Err(bad("a history begins with its `run`".into())),
            (Some(last), _) if last.at_us > record.at_us => {
                return Err(bad("is earlier than the line before".into()));
            }
            (Some(_), _) => {}
        }
        records.push(record);
    }
    if records.is_empty() {
        return Err(HistoryError::Line { line: 1, why: "the file is empty".into() });
    }
    Ok(records)
}

/// Lines, none of them longer than [`LINE_LEN_MAX`].
fn bounded_lines(mut from: impl BufRead) -> impl Iterator<Item = io::Result<String>> {
    std::iter::from_fn(move || {
        let mut line = Vec::new();
        let mut bounded = io::Read::take(&mut from, LINE_LEN_MAX as u64 + 1);
        match bounded.read_until(b'\n', &mut line) {
            Ok(0) => None,
            Ok(_) if line.len() > LINE_LEN_MAX => Some(Err(io::ErrorKind::FileTooLarge.into())),
            Ok(_) => Some(String::from_utf8(line).map_err(io::Error::other)),
            Err(error) => Some(Err(error)),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(at_us: AtUs, event: Event) -> Record {
        Record { at_us, event }
    }

    #[test]
    fn a_history_reads_back_as_written() {
        let run = Run { format: FORMAT, scenario: "x".into(), ..Run::default() };
        let row = vec![("k".to_owned(), vec![Sibling { version: 3, ..Sibling::default() }])];
        let request = Request::ConfigRead { document: "web/prod".into(), key: "k".into() };
        let call = Call {
            op: 1,
            client: 2,
            node: "a-1".into(),
            region: "a".into(),
            has_session: true,
            account: None,
            idempotency_key: None,
            request,
        };
        let refused = Outcome::Refused { status: 503, error: "QuorumUnavailable".into() };
        let records = vec![
            record(0, Event::Run(run)),
            record(1, Event::Call(call)),
            record(2, Event::Answer(Answer { op: 1, outcome: refused })),
            record(2, Event::Watched(Watched { op: 1, rows: row, ..Watched::default() })),
            record(3, Event::Probe(Probe { node: "a-1".into(), ..Probe::default() })),
            record(9, Event::End(End::default())),
        ];
        let mut bytes = Vec::new();
        write(&records, &mut bytes).unwrap();
        assert_eq!(read(&bytes[..]).unwrap(), records);
    }

    #[test]
    fn a_probe_from_before_links_were_counted_is_read() {
        let run = r#"{"at_us":0,"event":"run","format":1}"#;
        let probe = r#"{"at_us":5,"event":"probe","node":"a-1","up":true,"sent_bytes":7}"#;
        let records = read(format!("{run}\n{probe}\n").as_bytes()).unwrap();
        let Event::Probe(probe) = &records[1].event else { panic!("{records:?}") };
        assert_eq!((probe.sent_bytes, probe.sent_to.len()), (7, 0));
        assert!(!serde_json::to_string(&records[1]).unwrap().contains("sent_to"));
    }

    #[test]
    fn what_is_no_history_is_refused_with_its_line() {
        let run = r#"{"at_us":5,"event":"run","format":1}"#;
        for (text, wanted) in [
            ("", "line 1: the file is empty"),
            ("x\n", "line 1: "),
            (r#"{"at_us":0,"event":"end"}"#, "line 1: "),
            (&format!("{run}\n{run}x"), "line 2: "),
        ] {
            let error = read(text.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with(wanted), "{text:?}: {error}");
        }
    }
}
