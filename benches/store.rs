//! What the store's writer does by itself, without HTTP: durable writes in groups, remote changes
//! one by one, opening, loading a document of many changes. `cargo bench --bench store`.
#![allow(clippy::disallowed_methods, reason = "a benchmark measures real time")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use holm::audit::{Behalf, Source};
use holm::config::{Action, Check, Operation, WriteRequest};
use holm::env::{Disk, Entropy, FileDisk};
use holm::model::{DocumentId, JsonText, Key, NodeName, Stamp};
use holm::storage::{Command, Writer, WriterSettings};

const DOCUMENTS: u64 = 16;
/// How often writes with and without audit records take turns.
const ROUNDS: u64 = 10;
/// A long document's changes.
const CHANGES: u64 = 16_000;
/// The argument that has this program load one, as a process of its own.
const LOAD: &str = "--load";

fn open(disk: Arc<dyn Disk>, node: &str) -> Writer {
    let settings = WriterSettings {
        cluster: "bench".into(),
        node: NodeName::new(node).expect("a good name"),
        region: "here".into(),
        value_bytes_max: 262_144,
        documents_bytes_max: 256 << 20,
        waiting_bytes_max: 8 << 20,
        peers: 0,
    };
    Writer::open(settings, disk, Entropy::system().stream("store")).expect("the store opens")
}

fn put(i: u64, behalf: Option<Behalf>) -> Command {
    put_to(i % DOCUMENTS, i % 20_000, i, 100, behalf)
}

fn put_to(document: u64, key: u64, i: u64, filler_len: usize, behalf: Option<Behalf>) -> Command {
    let value = format!("\"value {i} {}\"", "x".repeat(filler_len));
    Command::Write(WriteRequest {
        document: DocumentId::parse(&format!("service/{document}")).expect("a good name"),
        operations: vec![Operation {
            key: Key::new(&format!("key.{key}")).expect("a good name"),
            action: Action::Put(JsonText::parse(&value).expect("JSON")),
            check: Check::None,
        }],
        remove_all: false,
        author: "bench".into(),
        message: None,
        idempotency: None,
        behalf,
    })
}

fn behalf() -> Behalf {
    let (node, request) = ("here-1".into(), "0123456789abcdef-1f".into());
    let source = Source { node, address: Some("192.0.2.17".into()), request };
    Behalf { grant: "config:write:service/*".into(), source }
}

fn main() {
    let mut args = std::env::args().skip_while(|arg| arg != LOAD);
    if let (Some(_), Some(dir)) = (args.next(), args.next()) {
        return load(std::path::Path::new(&dir));
    }
    let dir = tempfile::tempdir().expect("a directory");
    let disk: Arc<dyn Disk> = Arc::new(FileDisk::open(dir.path()).expect("a directory"));
    let mut writer = open(disk.clone(), "here-1");
    let mut records = Vec::new();
    let mut i = 0;
    for group in [1_u64, 16, 64, 256] {
        // In turns, without and with the audit record of each write: the machine is the same.
        let mut took = [Duration::ZERO; 2];
        let mut checkpoints = Duration::ZERO;
        let rounds = 2 * ROUNDS;
        let groups = 20_000 / group.max(16) / ROUNDS;
        for round in 0..rounds {
            let start = Instant::now();
            for _ in 0..groups {
                let commands: Vec<Command> =
                    (0..group).map(|k| put(i + k, (round % 2 == 1).then(behalf))).collect();
                i += group;
                records.extend(writer.commit(Stamp(i), &commands).own);
                if writer.unwritten_rows() >= 8_192 {
                    let start = Instant::now();
                    writer.checkpoint().expect("a checkpoint");
                    checkpoints += start.elapsed();
                }
            }
            took[usize::from(round % 2 == 1)] += start.elapsed();
        }
        let writes = (groups * ROUNDS * group) as f64;
        let [without, with] = took.map(|took| took.as_secs_f64());
        println!(
            "groups of {group:3}: {:8.0} writes/s, {:6.1} us a group, checkpoints {:4.1} %; \
             without audit records {:8.0} writes/s, a record costs {:.2} us a write",
            writes / with,
            with * 1e6 / (groups * ROUNDS) as f64,
            100.0 * checkpoints.as_secs_f64() / (without + with),
            writes / without,
            (with - without) * 1e6 / writes,
        );
    }
    let other: Arc<dyn Disk> =
        Arc::new(FileDisk::open(&dir.path().join("other")).expect("a directory"));
    let mut reader = open(other, "there-1");
    let count = records.len().min(5_000);
    let start = Instant::now();
    for record in &records[..count] {
        reader.commit(Stamp(1), &[Command::Apply(vec![record.clone()])]);
    }
    let each = start.elapsed().as_secs_f64() * 1e6 / count as f64;
    println!("remote changes one by one: {each:.1} us each, commits included");
    let start = Instant::now();
    reader.commit(Stamp(1), &[Command::Apply(records[count..].to_vec())]);
    let rest = records.len() - count;
    let each = start.elapsed().as_secs_f64() * 1e6 / rest as f64;
    println!("remote changes in one batch of {rest}: {each:.1} us each");
    drop(writer);
    let start = Instant::now();
    let writer = open(disk, "here-1");
    println!(
        "opening after kill: {:.0} ms, {} rows",
        start.elapsed().as_secs_f64() * 1e3,
        writer.counts().rows
    );
    drop(writer);
    loading(&dir.path().join("loading"));
}

/// A document of 16,000 changes of 1.5 KB over 250 keys: what its first write after a restart
/// takes, in time and memory.
fn loading(dir: &std::path::Path) {
    const GROUP: u64 = 64;
    let disk: Arc<dyn Disk> = Arc::new(FileDisk::open(dir).expect("a directory"));
    let mut writer = open(disk.clone(), "here-1");
    for group in 0..CHANGES / GROUP {
        // A key's second write in a group starts the next change.
        let write = |i| put_to(0, group % 250, group * GROUP + i, 1_500, None);
        let commands: Vec<Command> = (0..GROUP).map(write).collect();
        writer.commit(Stamp(group), &commands);
        if writer.unwritten_rows() > 0 && group % 8 == 0 {
            writer.checkpoint().expect("a checkpoint");
        }
    }
    writer.close().expect("the store closes");
    drop((writer, disk));
    let program = std::env::current_exe().expect("this program");
    let ended = std::process::Command::new(program).arg(LOAD).arg(dir).status();
    assert!(ended.expect("it runs").success(), "the document was loaded");
}

fn load(dir: &std::path::Path) {
    let disk: Arc<dyn Disk> = Arc::new(FileDisk::open(dir).expect("a directory"));
    let start = Instant::now();
    let mut writer = open(disk, "here-1");
    let (opened, before) = (start.elapsed(), memory_kib("VmRSS:"));
    let start = Instant::now();
    let committed = writer.commit(Stamp(CHANGES), &[put_to(0, 0, CHANGES, 1_500, None)]);
    assert_eq!(committed.records, 1, "a write was committed");
    println!(
        "a document of {CHANGES} changes of 1.5 KB: opening {:.0} ms, its first write {:.0} ms and at most {} KiB more",
        opened.as_secs_f64() * 1e3,
        start.elapsed().as_secs_f64() * 1e3,
        memory_kib("VmHWM:").saturating_sub(before)
    );
}

fn memory_kib(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
