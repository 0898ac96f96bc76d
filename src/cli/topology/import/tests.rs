use serde_json::{Value, json};

use super::seen::Seen;
use super::write::{Written, file};
use crate::model::{NodeName, RegionName};
use crate::topology::Topology;

/// What `node` says: nodes `a-1`, `b-1`, `b-2`, `c-1`, of which `voters` vote, and what it measured.
fn said(node: &str, voters: &[&str], rtts: &[(&str, f64)]) -> Value {
    let one = |name: &str, port: u16| {
        let measured = rtts.iter().find(|(other, _)| *other == name);
        // Where nothing is measured a node shows what its own topology says.
        let rtt_ms = measured.map_or(999.0, |(_, rtt)| *rtt);
        json!({
            "node": name, "state": "connected", "rtt_measured": measured.is_some(),
            "peer": format!("10.0.0.1:{port}"), "http": format!("10.0.0.1:{}", port + 100),
            "rtt_ms": if name == node { Value::Null } else { rtt_ms.into() },
        })
    };
    let members = ["a-1", "b-1", "b-2", "c-1"]
        .map(|name| json!({"id": 1, "node": name, "voter": voters.contains(&name)}));
    let members = if voters.is_empty() { json!([]) } else { json!(members) };
    let a = json!({"region": "a", "place": "a \"place\"\nof two lines", "voters": true,
        "nodes": [one("a-1", 1)]});
    let b = json!({"region": "b", "place": "", "voters": true,
        "nodes": [one("b-1", 2), one("b-2", 3)]});
    let c = json!({"region": "c", "place": "c", "voters": false, "nodes": [one("c-1", 4)]});
    json!({"cluster": "test", "node": node, "regions": [a, b, c], "quorum": {"members": members}})
}

fn seen(node: &str, voters: &[&str], rtts: &[(&str, f64)]) -> Seen {
    Seen::read(said(node, voters, rtts)).unwrap()
}

fn read(written: &Written) -> Topology {
    Topology::parse("t.toml", &written.text).unwrap_or_else(|e| panic!("{e}\n{}", written.text))
}

fn rtt(topology: &Topology, a: &str, b: &str) -> u128 {
    let region = |name| RegionName::new(name).unwrap();
    topology.rtt(&region(a), &region(b)).as_millis()
}

const ALL: [&str; 3] = ["a-1", "b-2", "c-1"];

#[test]
fn a_link_has_the_median_of_what_both_of_its_ends_measured() {
    let first = seen("a-1", &ALL, &[("b-1", 80.0), ("b-2", 81.0), ("c-1", 200.4)]);
    let others = [
        seen("b-1", &ALL, &[("a-1", 82.0), ("b-2", 1.2), ("c-1", 150.0)]),
        seen("b-2", &ALL, &[("a-1", 400.0), ("b-1", 1.4), ("c-1", 152.0)]),
    ];
    let written = file(&first, &others, None);
    let topology = read(&written);
    assert_eq!(rtt(&topology, "a", "b"), 82, "of 80, 81, 82 and 400");
    assert_eq!(rtt(&topology, "a", "c"), 200);
    assert_eq!(rtt(&topology, "b", "c"), 151);
    assert_eq!(rtt(&topology, "b", "b"), 1);
    assert!(written.not_measured.is_empty() && written.measured.len() == 3);
    assert!(written.text.contains("rtt_ms = 82 # measured 4 times: 80.0 to 400.0 ms"));
    assert!(!written.text.contains("rtt_ms_default"));
    assert_eq!(topology.regions()[0].place, "a \"place\"\nof two lines");
    let b2 = topology.node(&NodeName::new("b-2").unwrap()).unwrap();
    assert_eq!((b2.peer.as_str(), b2.http.as_str()), ("10.0.0.1:3", "10.0.0.1:103"));
}

#[test]
fn who_votes_today_votes_in_the_file() {
    let first = seen("a-1", &ALL, &[]);
    let written = file(&first, &[], None);
    let topology = read(&written);
    let voters = crate::quorum::first_voters(&topology);
    let names: Vec<&str> = voters.iter().map(|node| node.name.as_str()).collect();
    // b-2, not b-1, which its own file has first; and c, which its own file has not.
    assert_eq!(names, ALL);
    assert!(written.remarks(&topology).is_empty());

    let one = file(&seen("a-1", &["b-1"], &[]), &[], None);
    let topology = read(&one);
    assert!(topology.regions().iter().all(|it| it.voters == (it.name.as_str() == "b")));
    assert!(one.remarks(&topology).is_empty());

    let both = file(&seen("a-1", &["a-1", "b-1", "b-2"], &[]), &[], None);
    let remarks = both.remarks(&read(&both));
    assert!(remarks[0].starts_with("a-1, b-1, b-2 vote today;"), "{remarks:?}");
    assert!(remarks[0].ends_with("by this one a-1, b-1"), "{remarks:?}");

    let nobody = file(&seen("a-1", &[], &[]), &[], None);
    let topology = read(&nobody);
    let voters: Vec<bool> = topology.regions().iter().map(|region| region.voters).collect();
    assert_eq!(voters, [true, true, false]);
    assert_eq!(nobody.remarks(&topology).len(), 1);
}

#[test]
fn a_link_that_nobody_measured_is_named_and_has_the_default() {
    let first = seen("a-1", &ALL, &[("b-1", 80.0), ("c-1", 120.0)]);
    let written = file(&first, &[], None);
    let pair = |a, b| [RegionName::new(a).unwrap(), RegionName::new(b).unwrap()];
    assert_eq!(written.not_measured, [pair("b", "c")]);
    assert!(written.text.ends_with("\n# b – c\n"), "{}", written.text);
    assert_eq!(rtt(&read(&written), "b", "c"), 120, "the longest that is measured");
    let given = file(&first, &[], Some(7));
    assert_eq!((rtt(&read(&given), "b", "c"), rtt(&read(&given), "a", "b")), (7, 80));
    let none = file(&seen("a-1", &ALL, &[]), &[], None);
    assert_eq!((none.not_measured.len(), rtt(&read(&none), "a", "b")), (3, 100));
}

#[test]
fn what_makes_no_sense_is_passed_over_or_bounded() {
    let first = seen("a-1", &ALL, &[("b-1", 1e30), ("c-1", -1.0)]);
    // Of a node that the first one does not know.
    let mut other = said("b-1", &ALL, &[("a-1", 80.0)]);
    other["regions"][0]["nodes"][0]["node"] = "z-9".into();
    let written = file(&first, &[Seen::read(other).unwrap()], None);
    assert_eq!(rtt(&read(&written), "a", "b"), 60_000, "no more than a file may say");
    assert_eq!(written.measured.len(), 1);
    let mut old = said("a-1", &ALL, &[]);
    old["regions"][0]["nodes"][0].as_object_mut().unwrap().remove("peer");
    assert!(Seen::read(old).unwrap_err().contains("missing field `peer`"));
}
