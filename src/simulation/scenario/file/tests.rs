use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::*;
use crate::model::{NodeName, RegionName};
use crate::simulation::history::Coverage;
use crate::simulation::scenario::{CHECKS, FaultKind, LinkQuality, TimedFault, Unsynced, Workload};

const HEAD: &str = r#"claim = "An island goes on."
duration = "30s"
[topology]
regions = ["eu-west", "us-east", "ap-south"]
rtt_ms_default = 80
"#;

fn parse(text: &str) -> Result<Scenario, ScenarioError> {
    Scenario::parse("simulations/island.toml", text, Path::new("simulations"))
}

/// What is said of a scenario with `HEAD` and this, line numbers counted from the line after it.
fn complaints(rest: &str) -> String {
    let error = parse(&format!("{HEAD}{rest}")).unwrap_err();
    let ScenarioError::Bad { problems, .. } = error else { panic!("{error}") };
    let mut text = String::new();
    for problem in problems {
        let line = problem.line.saturating_sub(HEAD.lines().count());
        writeln!(text, "{line}:{}: {}", problem.column, problem.flaw).unwrap();
    }
    text
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn a_short_file_has_sensible_defaults() {
    let scenario = parse(HEAD).unwrap();
    assert_eq!(scenario.name, "island");
    assert_eq!((scenario.duration, scenario.settle), (ms(30_000), ms(10_000)));
    assert_eq!(scenario.workload, Workload::default());
    assert!(scenario.workload.config_writes > 0.0 && scenario.workload.secret_writes > 0.0);
    assert_eq!(scenario.faults, []);
    assert_eq!(scenario.nemesis, None);
    assert_eq!(scenario.expect.converge_within, ms(5_000));
    assert_eq!(scenario.expect.checks.len(), CHECKS.len());
    assert_eq!(scenario.hash.len(), 64);
    let nodes: Vec<_> = scenario.topology.nodes().iter().map(|node| node.name.as_str()).collect();
    assert_eq!(nodes, ["eu-west-1", "us-east-1", "ap-south-1"]);
    assert_eq!(scenario.topology.nodes()[2].peer.as_str(), "10.3.0.1:9000");
}

#[test]
fn an_inline_topology_is_a_regions_file_or_shorter() {
    let text = r#"
claim = "x"
[topology]
cluster = "mine"
rtt_ms_within = 1
[[topology.regions]]
name = "a"
place = "Here"
nodes = 2
[[topology.regions]]
name = "b"
voters = false
nodes = ["b-left", { name = "b-right" }]
[[topology.regions]]
name = "c"
[[topology.links]]
between = ["a", "b"]
rtt_ms = 10
[[topology.links]]
between = ["a", "c"]
rtt_ms = 20
[[topology.links]]
between = ["b", "c"]
rtt_ms = 30
"#;
    let topology = parse(text).unwrap().topology;
    assert_eq!(topology.cluster, "mine");
    let nodes: Vec<_> = topology.nodes().iter().map(|node| node.name.as_str()).collect();
    assert_eq!(nodes, ["a-1", "a-2", "b-left", "b-right", "c-1"]);
    let addresses: BTreeSet<_> = topology.nodes().iter().map(|node| &node.peer).collect();
    assert_eq!(addresses.len(), 5, "each node has an address of its own");
    assert!(!topology.regions()[1].voters);
    let [a, b] = ["a", "b"].map(|name| name.parse().unwrap());
    assert_eq!(topology.rtt(&a, &b), ms(10));
}

#[test]
fn a_topology_file_is_found_beside_the_scenario_and_is_part_of_its_hash() {
    let dir = tempfile::tempdir().unwrap();
    let regions = |rtt: u32| {
        format!(
            "cluster = \"x\"\nrtt_ms_default = {rtt}\n\
             [[regions]]\nname = \"a\"\nnodes = [{{ name = \"a-1\", peer = \"a:1\", http = \"a:2\" }}]\n\
             [[regions]]\nname = \"b\"\nnodes = [{{ name = \"b-1\", peer = \"b:1\", http = \"b:2\" }}]\n"
        )
    };
    std::fs::create_dir(dir.path().join("simulations")).unwrap();
    std::fs::write(dir.path().join("t.toml"), regions(7)).unwrap();
    let file = dir.path().join("simulations/s.toml");
    std::fs::write(&file, "claim = \"x\"\ntopology = \"../t.toml\"\n").unwrap();
    let scenario = Scenario::load(&file).unwrap();
    assert_eq!(scenario.name, "s");
    assert_eq!(scenario.topology.nodes()[0].peer.as_str(), "10.1.0.1:9000");
    std::fs::write(dir.path().join("t.toml"), regions(8)).unwrap();
    assert_ne!(Scenario::load(&file).unwrap().hash, scenario.hash);

    std::fs::remove_file(dir.path().join("t.toml")).unwrap();
    let error = Scenario::load(&file).unwrap_err().to_string();
    assert!(error.contains("s.toml:2:12: `topology`: "), "{error}");
    let error = Scenario::load(&dir.path().join("none.toml")).unwrap_err();
    assert!(matches!(error, ScenarioError::Read { .. }), "{error}");
    std::fs::write(&file, " ".repeat(1024 * 1024 + 1)).unwrap();
    let error = Scenario::load(&file).unwrap_err();
    assert!(matches!(error, ScenarioError::Read { .. }), "{error}");
}

/// One line of a fault and what it is.
type Kind = (&'static str, FaultKind);

fn node() -> crate::model::NodeName {
    "eu-west-1".parse().unwrap()
}

fn link_kinds() -> Vec<Kind> {
    let region = |name: &str| -> crate::model::RegionName { name.parse().unwrap() };
    let (eu, us, ap) = (region("eu-west"), region("us-east"), region("ap-south"));
    let (a, b) = (Some(us.clone()), Some(eu.clone()));
    let lossy = LinkQuality { loss: Some(0.1), jitter: Some(ms(5)), ..LinkQuality::default() };
    let thin = LinkQuality { bandwidth: Some(9_000), mtu: Some(1_300), ..LinkQuality::default() };
    vec![
        (
            r#"partition = [["eu-west", "us-east"], ["ap-south"]]"#,
            FaultKind::Partition {
                groups: vec![[eu.clone(), us.clone()].into(), [ap.clone()].into()],
            },
        ),
        (r#"isolate = "ap-south""#, FaultKind::Isolate { regions: [ap.clone()].into() }),
        (
            r#"isolate = ["ap-south", "eu-west"]"#,
            FaultKind::Isolate { regions: [ap.clone(), eu.clone()].into() },
        ),
        (
            r#"one_way = { from = "eu-west", to = "us-east" }"#,
            FaultKind::OneWay { from: eu.clone(), to: us.clone() },
        ),
        (r#"bridge = "eu-west""#, FaultKind::Bridge { via: eu.clone() }),
        (
            r#"flapping = { between = ["eu-west", "us-east"], every = "250ms" }"#,
            FaultKind::Flapping { a: eu.clone(), b: us.clone(), every: ms(250) },
        ),
        (
            r#"link = { between = ["us-east", "eu-west"], loss = 0.1, jitter = "5ms" }"#,
            FaultKind::Link { a: b, b: a.clone(), quality: lossy },
        ),
        (
            r#"link = { of = "us-east", bandwidth = 9000, mtu = 1300 }"#,
            FaultKind::Link { a, b: None, quality: thin },
        ),
        (
            "link = { loss = 1 }",
            FaultKind::Link {
                a: None,
                b: None,
                quality: LinkQuality { loss: Some(1.0), ..LinkQuality::default() },
            },
        ),
        (r#"hold = { from = "us-east", to = "eu-west" }"#, FaultKind::Hold { from: us, to: eu }),
    ]
}

fn node_kinds() -> Vec<Kind> {
    vec![
        (r#"crash = "eu-west-1""#, FaultKind::Crash { node: node(), unsynced: Unsynced::Lose }),
        (
            r#"crash = { node = "eu-west-1", unsynced = "tear" }"#,
            FaultKind::Crash { node: node(), unsynced: Unsynced::Tear },
        ),
        (r#"stop = "eu-west-1""#, FaultKind::Stop { node: node() }),
        (r#"pause = "eu-west-1""#, FaultKind::Pause { node: node() }),
        (
            r#"slow = { node = "eu-west-1", factor = 20 }"#,
            FaultKind::Slow { node: node(), factor: 20 },
        ),
        (r#"disk_full = "eu-west-1""#, FaultKind::DiskFull { node: node() }),
        (r#"disk_error = "eu-west-1""#, FaultKind::DiskError { node: node() }),
        (r#"lying_fsync = "eu-west-1""#, FaultKind::LyingFsync { node: node() }),
        (
            r#"old_copy = { node = "eu-west-1", age = "4s" }"#,
            FaultKind::OldCopy { node: node(), age: ms(4_000) },
        ),
        (r#"wipe = "eu-west-1""#, FaultKind::Wipe { node: node() }),
        (
            r#"clock_step = { node = "eu-west-1", by = "-1h" }"#,
            FaultKind::ClockStep { node: node(), by_ms: -3_600_000 },
        ),
        (
            r#"clock_drift = { node = "eu-west-1", ppm = -200 }"#,
            FaultKind::ClockDrift { node: node(), ppm: -200 },
        ),
        (
            r#"absent = { node = "eu-west-9", region = "eu-west" }"#,
            FaultKind::Absent {
                node: NodeName::new("eu-west-9").unwrap(),
                region: RegionName::new("eu-west").unwrap(),
            },
        ),
        (r#"previous = ["eu-west-1"]"#, FaultKind::Previous { nodes: [node()].into() }),
        (
            r#"certificate_expiry = ["eu-west-1"]"#,
            FaultKind::CertificateExpiry { nodes: [node()].into() },
        ),
        ("rotate_ca = true", FaultKind::RotateCa),
        ("rotate_master_key = true", FaultKind::RotateMasterKey),
        ("revoke = true", FaultKind::Revoke),
        (
            r#"voters = { remove = "eu-west-1" }"#,
            FaultKind::Voters { add: None, remove: Some(node()), transfer: None },
        ),
    ]
}

fn kinds() -> Vec<Kind> {
    [link_kinds(), node_kinds()].concat()
}

#[test]
fn every_kind_of_fault_reads_as_it_is_written() {
    for (line, kind) in kinds() {
        let scenario = parse(&format!("{HEAD}[[faults]]\nat = \"5s\"\n{line}\n"));
        let faults = scenario.unwrap_or_else(|error| panic!("{line}: {error}")).faults;
        let goes_on = kind.lasting() == super::super::Lasting::GoesOn;
        // Who leaves and has no time to come back has left.
        let has_left = matches!(kind, FaultKind::Absent { .. });
        let lasts = (goes_on && !has_left).then_some(ms(25_000));
        let written = faults[0].to_toml();
        assert_eq!(faults, [TimedFault { at: ms(5_000), lasts, fault: kind }], "{line}");
        assert_eq!(parse(&format!("{HEAD}{written}")).unwrap().faults, faults, "{written}");
    }
    let named: BTreeSet<_> = kinds().iter().map(|(_, kind)| kind.kind_name()).collect();
    assert_eq!(named, FAULT_KINDS.into(), "each kind is tried");
}

#[test]
fn a_full_file_is_read_whole() {
    let scenario = parse(&format!(
        "settle = \"12s\"\n{HEAD}{}",
        r#"
[workload]
config_writes = 20
keys = 3
ack = 2
regions = ["eu-west", "ap-south"]
[[faults]]
at = "12s"
lasts = "3s"
crash = "us-east-1"
[[faults]]
at = "5s"
isolate = "ap-south"
[nemesis]
per_minute = 12
lasts = ["1s", "2500ms"]
kinds = { link = 3, pause = 0.5 }
from = "2s"
[settings.gossip]
anti_entropy_every = "500ms"
[expect]
converge_within = "8s"
coverage = ["island_write", "conflict"]
lost_regions = ["ap-south"]
"#
    ))
    .unwrap();
    assert_eq!(scenario.workload.config_writes, 20.0);
    assert_eq!(scenario.workload.config_reads, 0.0, "what is not named is not done");
    assert_eq!(scenario.workload.ack.as_deref(), Some("2"));
    assert_eq!(scenario.workload.regions.len(), 2);
    let faults: Vec<_> = scenario.faults.iter().map(|it| (it.at, it.lasts)).collect();
    let wanted = [(ms(5_000), None), (ms(12_000), Some(ms(3_000)))];
    assert_eq!(faults, wanted, "in the order of time; what takes a lost region is for good");
    let nemesis = scenario.nemesis.unwrap();
    assert_eq!((nemesis.per_minute, nemesis.from), (12.0, ms(2_000)));
    assert_eq!(nemesis.lasts, (ms(1_000), ms(2_500)));
    assert_eq!(nemesis.kinds["link"], 3.0);
    assert_eq!(scenario.settings, "[gossip]\nanti_entropy_every = \"500ms\"\n");
    let coverage = [Coverage::Conflict, Coverage::IslandWrite];
    assert_eq!(scenario.expect.coverage, coverage.into());
}

#[test]
fn who_lies_or_loses_is_void_without_saying_so() {
    let rest =
        "[[faults]]\nat = \"5s\"\nwipe = \"us-east-1\"\n[expect]\nvoid_nodes = [\"eu-west-1\"]\n";
    let void = parse(&format!("{HEAD}{rest}")).unwrap().expect.void_nodes;
    assert_eq!(void, ["eu-west-1", "us-east-1"].map(|name| name.parse().unwrap()).into());
}

/// The scenarios of this repository: a new file is a new test.
#[test]
fn every_scenario_file_is_valid() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("simulations");
    let entries = std::fs::read_dir(&folder).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "toml"));
    paths.sort();
    let mut claims = BTreeSet::new();
    let mut kinds = BTreeSet::new();
    for path in &paths {
        let scenario = Scenario::load(path).unwrap_or_else(|error| panic!("{error}"));
        assert!(claims.insert(scenario.claim.clone()), "{} is claimed twice", scenario.claim);
        assert!(!scenario.faults.is_empty() || scenario.nemesis.is_some(), "{}", scenario.name);
        let run = scenario.duration + scenario.settle;
        assert!(run <= Duration::from_secs(60), "{} takes {run:?}", scenario.name);
        let seeds = 0..10;
        for fault in seeds.flat_map(|seed| scenario.faults_of_seed(seed)) {
            kinds.insert(fault.fault.kind_name());
        }
    }
    assert!(paths.len() >= 20, "{} files", paths.len());
    // Those that take minutes are run once, and have to say what they bound.
    for entry in std::fs::read_dir(folder.join("long")).unwrap() {
        let path = entry.unwrap().path();
        let scenario = Scenario::load(&path).unwrap_or_else(|error| panic!("{error}"));
        assert!(scenario.expect.bounds.most.len() > 10, "{}", scenario.name);
        assert!(scenario.expect.bounds.from < scenario.duration);
    }
    assert_eq!(kinds, FAULT_KINDS.into(), "each kind of fault is in one of them");
}

/// The page beside the scenarios shows what works, and names every field and kind.
#[test]
fn the_format_is_described_as_it_is() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("simulations");
    let page = std::fs::read_to_string(folder.join("README.md")).unwrap();
    let blocks: Vec<&str> = page.split("```toml\n").skip(1).collect();
    let blocks: Vec<&str> = blocks.iter().map(|block| block.split("```").next().unwrap()).collect();
    Scenario::parse("README.md", blocks[0], &folder).unwrap_or_else(|error| panic!("{error}"));
    let topology = format!("claim = \"x\"\n{}", blocks[1]);
    let topology = Scenario::parse("README.md", &topology, &folder).unwrap().topology;
    assert_eq!(topology.nodes().len(), 5);
    let Err(error) = parse(&format!("{HEAD}[workload]\nx = 1\n[expect]\nx = 1\n")) else {
        panic!()
    };
    let ScenarioError::Bad { problems, .. } = error else { panic!("{error}") };
    let fields = problems.into_iter().flat_map(|problem| match problem.flaw {
        Flaw::Unknown { known, .. } => known,
        flaw => panic!("{flaw}"),
    });
    for name in fields.chain(FAULT_KINDS.map(str::to_owned)) {
        assert!(page.contains(&format!("`{name}`")), "{name} is not described");
    }
}

mod bad;

#[test]
fn a_file_can_name_every_check_that_there_is() {
    let names: Vec<&str> = crate::simulation::checks::all().iter().map(|it| it.name).collect();
    assert_eq!(names, CHECKS);
}
