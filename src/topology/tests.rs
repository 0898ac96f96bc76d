use super::*;

fn region(text: &str) -> RegionName {
    RegionName::new(text).unwrap()
}

const TWO: &str = r#"
cluster = "test"

[[regions]]
name = "a"
nodes = [{ name = "a-1", peer = "127.0.0.1:1", http = "127.0.0.1:2" }]

[[regions]]
name = "b"
place = "elsewhere"
voters = false
nodes = [
    { name = "b-1", peer = "b1.example.org:1", http = "[::1]:2" },
    { name = "b-2", peer = "b2.example.org:0", http = "b2.example.org:0" },
]

[[links]]
between = ["b", "a"]
rtt_ms = 76
"#;

#[test]
fn a_topology_says_who_is_where_and_how_far_apart() {
    let topology = Topology::parse("two.toml", TWO).unwrap();
    let b2 = NodeName::new("b-2").unwrap();
    assert_eq!(topology.region_of(&b2), Some(&region("b")));
    assert_eq!(topology.rtt(&region("a"), &region("b")), Duration::from_millis(76));
    assert_eq!(topology.rtt(&region("b"), &region("a")), Duration::from_millis(76));
    assert_eq!(topology.rtt(&region("b"), &region("b")), Duration::ZERO);
    let peers: Vec<&str> = topology.peers_of(&b2).map(|node| node.name.as_str()).collect();
    assert_eq!(peers, ["a-1", "b-1"]);
    let b = region("b");
    let there: Vec<&str> = topology.nodes_of(&b).map(|node| node.name.as_str()).collect();
    assert_eq!(there, ["b-1", "b-2"]);
    let a1 = NodeName::new("a-1").unwrap();
    assert_eq!(topology.links().link(&a1, &b2).delay, Duration::from_millis(38));
}

#[test]
fn every_file_that_comes_with_the_program_is_a_topology() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("regions");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let topology = Topology::load(&path).unwrap();
        assert!(!topology.nodes().is_empty());
        names.push(path.file_name().unwrap().to_str().unwrap().to_owned());
    }
    for name in ["three-continents.toml", "five-continents.toml", "single-region.toml"] {
        assert!(names.iter().any(|found| found == name), "{name}");
    }
}

#[test]
fn an_error_names_the_file_and_the_field() {
    for (from, to, error) in [
        (r#"cluster = "test""#, r#"cluster = "A B""#, "cluster: is 1 to 63"),
        (r#"cluster = "test""#, "", "missing field `cluster`"),
        (r#"voters = false"#, "votes = 1", "unknown field `votes`"),
        (r#""b-1""#, r#""a-1""#, "regions[1].nodes[0].name: a-1 is there twice"),
        (r#""b-1""#, r#""-""#, "regions[1].nodes[0].name: - can't stand in a certificate"),
        (r#""b-1""#, r#""B""#, "regions[1].nodes[0].name: node"),
        (r#"name = "b""#, r#"name = "a""#, "regions[1].name: a is there twice"),
        (r#""127.0.0.1:1""#, r#""127.0.0.1""#, "regions[0].nodes[0].peer: \"127.0.0.1\" is not"),
        (r#""127.0.0.1:1""#, r#""127.0.0.1:70000""#, "regions[0].nodes[0].peer"),
        (
            r#""b1.example.org:1""#,
            r#""127.0.0.1:1""#,
            "regions[1].nodes[0].peer: 127.0.0.1:1 is taken",
        ),
        (r#""[::1]:2""#, r#""::1:2""#, "regions[1].nodes[0].http"),
        ("voters = false", "discover = \"b1:0\"", "regions[1].discover: \"b1:0\" is not host:port"),
        ("voters = false", "discover = \"b1\"", "regions[1].discover: \"b1\" is not host:port"),
        ("voters = false", "discover = \"_holm.x\"", "discover: \"_holm.x\" is not _service._udp"),
        ("voters = false", "discover = \"_h._tcp.x\"", "regions[1].discover: \"_h._tcp.x\" has an"),
        ("voters = false", "discover = 7", "invalid type: integer"),
        ("rtt_ms = 76", "rtt_ms = 60001", "links[0].rtt_ms: 60001 ms is more"),
        ("rtt_ms = 76", "rtt_ms = -1", "invalid value"),
        (r#"["b", "a"]"#, r#"["b", "c"]"#, "links[0].between: c is not a region"),
        (r#"["b", "a"]"#, r#"["b", "b"]"#, "links[0].between: b twice"),
    ] {
        assert!(TWO.contains(from), "{from}");
        let text = TWO.replacen(from, to, 1);
        let found = Topology::parse("two.toml", &text).unwrap_err().to_string();
        assert!(found.starts_with("two.toml: ") && found.contains(error), "{found}\nnot {error}");
    }
}

#[test]
fn regions_nodes_distances_and_voters_must_be_there() {
    let error = |text: &str| Topology::parse("x", text).unwrap_err().to_string();
    assert_eq!(error(r#"cluster = "x""#), "x: regions: there is no region");
    let no_node = "cluster = \"x\"\n[[regions]]\nname = \"a\"";
    assert_eq!(error(no_node), "x: regions[0].nodes: a has no node, and no `discover`");
    let links = TWO.find("[[links]]").unwrap();
    let no_rtt = &TWO[..links];
    assert_eq!(error(no_rtt), "x: links: none between a and b, and no `rtt_ms_default`");
    let no_voters = TWO.replace(r#"name = "a""#, "name = \"a\"\nvoters = false");
    assert_eq!(error(&no_voters), "x: regions: no region has voters");
    let default = no_rtt.replacen("cluster", "rtt_ms_default = 9\ncluster", 1);
    let topology = Topology::parse("x", &default).unwrap();
    assert_eq!(topology.rtt(&region("a"), &region("b")), Duration::from_millis(9));
}

#[test]
fn a_region_may_leave_its_nodes_to_dns() {
    let text = r#"
        cluster = "x"
        rtt_ms_default = 9
        [[regions]]
        name = "a"
        discover = "_holm._udp.a.example.com"
        nodes = [{ name = "a-1", peer = "127.0.0.1:1", http = "127.0.0.1:2" }]
        [[regions]]
        name = "b"
        discover = "holm.b.internal:9100"
    "#;
    let topology = Topology::parse("x", text).unwrap();
    let found: Vec<String> =
        topology.regions().iter().map(|r| r.discover.as_ref().unwrap().to_string()).collect();
    assert_eq!(found, ["_holm._udp.a.example.com", "holm.b.internal:9100"]);
    assert!(topology.is_open());
    assert_eq!(topology.region_names(), [region("a")].into(), "nobody is in b yet");
    let (name, b) = (NodeName::new("b-9").unwrap(), region("b"));
    let address = |text| Address::new(text).unwrap();
    let (peer, http) = (address("10.0.0.9:1"), address("10.0.0.9:2"));
    let joiner = Node { name, region: b.clone(), peer, http, joined: true };
    let with = topology.clone().with_node(joiner.clone()).with_node(joiner);
    assert_eq!((with.nodes().len(), with.named().count()), (2, 1));
    assert_eq!(with.region_names(), [region("a"), b].into());
    let nobody = text.replace("name = \"a\"", "name = \"a\"\nvoters = false");
    let error = Topology::parse("x", &nobody).unwrap_err().to_string();
    assert!(error.contains("somebody has to found the cluster"), "{error}");
}

proptest::proptest! {
    #[test]
    fn no_text_panics_the_parser(text in ".{0,200}") {
        let _ = Topology::parse("x", &text);
        let _ = Address::new(&text);
        let _ = Discover::new(&text);
    }
}
