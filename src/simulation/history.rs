//! What happened in a run: one [`Record`] a line of `history.jsonl`, in the order of time. Clients'
//! calls and answers as the clients saw them, what watchers were sent, faults, and what each node
//! says of itself from time to time. Checks and reports read this and nothing else; whether it was
//! recorded in a simulation or with real processes makes no difference to them.
//!
//! It refuses to judge: an answer is recorded as it came.

use std::io::{self, BufRead, Write};

use serde::{Deserialize, Serialize};

mod clients;
mod nodes;
mod run;

pub use clients::{Answer, Call, Outcome, Request, Sibling, Watched};
pub use nodes::{Final, Probe, Sent, Tally, Twin};
pub use run::{Coverage, Fault, Kept, Run, RunDelay, RunNode};

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
