use super::*;

fn topology() -> Topology {
    let region = |name: &str, nodes: &[&str]| {
        let nodes: Vec<String> = nodes
            .iter()
            .map(|node| format!("{{ name = \"{node}\", peer = \"h:0\", http = \"h:0\" }}"))
            .collect();
        format!("[[regions]]\nname = \"{name}\"\nnodes = [{}]\n", nodes.join(", "))
    };
    let text = ["cluster = \"x\"\nrtt_ms_default = 10\n".to_owned()]
        .into_iter()
        .chain([region("a", &["a-1", "a-2"]), region("b", &["b-1"])])
        .chain([region("c", &["c-1"]), region("d", &["d-1"])])
        .collect::<String>();
    Topology::parse("t", &text).unwrap()
}

fn regions(names: &str) -> BTreeSet<RegionName> {
    names.split_whitespace().map(|name| name.parse().unwrap()).collect()
}

fn region(name: &str) -> RegionName {
    name.parse().unwrap()
}

/// `ab` is the link from `a` to `b`.
fn links(names: &str) -> BTreeSet<(RegionName, RegionName)> {
    names.split_whitespace().map(|pair| (region(&pair[..1]), region(&pair[1..]))).collect()
}

#[test]
fn what_is_cut_is_exactly_what_does_not_pass() {
    let [a, b] = ["a", "b"].map(region);
    let quality = |loss| LinkQuality { loss: Some(loss), ..LinkQuality::default() };
    let link = |a: Option<&RegionName>, b: Option<&RegionName>, loss| FaultKind::Link {
        a: a.cloned(),
        b: b.cloned(),
        quality: quality(loss),
    };
    for (fault, cut, touched) in [
        (
            FaultKind::Partition { groups: vec![regions("a b")] },
            "ac ad bc bd ca da cb db",
            "ac ad bc bd ca da cb db",
        ),
        (
            FaultKind::Partition { groups: vec![regions("a"), regions("b c")] },
            "ab ba ac ca ad da bd db cd dc",
            "ab ba ac ca ad da bd db cd dc",
        ),
        (
            FaultKind::Isolate { regions: regions("a b") },
            "ab ba ac ca ad da bc cb bd db",
            "ab ba ac ca ad da bc cb bd db",
        ),
        (FaultKind::OneWay { from: a.clone(), to: b.clone() }, "ab", "ab"),
        (FaultKind::Hold { from: b.clone(), to: a.clone() }, "ba", "ba"),
        (FaultKind::Bridge { via: a.clone() }, "bc cb bd db cd dc", "bc cb bd db cd dc"),
        (
            FaultKind::Flapping { a: a.clone(), b: b.clone(), every: Duration::from_secs(1) },
            "",
            "ab ba",
        ),
        (link(Some(&a), Some(&b), 0.5), "", "ab ba"),
        (link(Some(&a), Some(&b), 1.0), "ab ba", "ab ba"),
        (link(Some(&a), None, 0.5), "", "ab ba ac ca ad da"),
        (link(None, None, 0.5), "", "ab ba ac ca ad da bc cb bd db cd dc"),
        (FaultKind::Crash { node: "a-1".parse().unwrap(), unsynced: Unsynced::Keep }, "", ""),
    ] {
        assert_eq!(fault.links_cut(&topology()), links(cut), "{fault:?}");
        assert_eq!(fault.links_touched(&topology()), links(touched), "{fault:?}");
    }
}

#[test]
fn a_fault_is_felt_at_both_ends_and_where_its_nodes_stand() {
    let node = || "b-1".parse().unwrap();
    for (fault, felt, down) in [
        (FaultKind::OneWay { from: region("a"), to: region("d") }, "a d", ""),
        (FaultKind::Isolate { regions: regions("a") }, "a b c d", ""),
        (FaultKind::Stop { node: node() }, "b", "b-1"),
        (FaultKind::Pause { node: node() }, "b", "b-1"),
        (FaultKind::Wipe { node: node() }, "b", "b-1"),
        (FaultKind::DiskFull { node: node() }, "b", ""),
        (FaultKind::RotateMasterKey, "a b c d", ""),
    ] {
        assert_eq!(fault.regions(&topology()), regions(felt), "{fault:?}");
        let down_now: Vec<String> = fault.nodes_down().iter().map(ToString::to_string).collect();
        assert_eq!(down_now.join(" "), down, "{fault:?}");
    }
}

#[test]
fn faults_are_told_in_words() {
    let node = || "b-1".parse().unwrap();
    let quality = LinkQuality {
        extra: Some(Duration::from_millis(200)),
        loss: Some(0.055),
        bandwidth: Some(9_000),
        ..LinkQuality::default()
    };
    for (fault, words) in [
        (
            FaultKind::Partition { groups: vec![regions("a b c")] },
            "a, b and c are cut off from all others",
        ),
        (
            FaultKind::Partition { groups: vec![regions("a b"), regions("c")] },
            "the regions are cut into a and b | c",
        ),
        (FaultKind::Isolate { regions: regions("a") }, "a is cut off from all others"),
        (FaultKind::Isolate { regions: regions("a b") }, "a and b are cut off, each alone"),
        (
            FaultKind::Link { a: Some(region("a")), b: None, quality },
            "each link of a takes 200ms longer, loses 5.5%, carries 9000 bytes a second",
        ),
        (
            FaultKind::Crash { node: node(), unsynced: Unsynced::Lose },
            "b-1 crashes, and what was not synced is gone",
        ),
        (
            FaultKind::ClockStep { node: node(), by_ms: -3_600_000 },
            "the clock of b-1 jumps 1h back",
        ),
        (
            FaultKind::Voters { add: Some(node()), remove: None, transfer: Some(node()) },
            "b-1 becomes a voter, b-1 is to lead",
        ),
    ] {
        assert_eq!(fault.describe(), words);
    }
}
