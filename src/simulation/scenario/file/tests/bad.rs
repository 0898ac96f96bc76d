//! Each bad input and what is said of it, to the letter where the words matter.

use super::*;

/// What stands in a file, and how the complaints begin.
type Table = &'static [(&'static str, &'static str)];

/// A fault's names.
const NAMES: Table = &[
    (
        "[[faults]]\nat = \"5s\"\nisolate = \"ap-suth\"",
        "3:11: \"ap-suth\" is no region (did you mean \"ap-south\"?); known are eu-west, us-east, ap-south",
    ),
    ("[[faults]]\nat = \"5s\"\nisolate = \"mars\"", "3:11: \"mars\" is no region; known are"),
    (
        "[[faults]]\nat = \"5s\"\ncrash = \"eu-west\"",
        "3:9: \"eu-west\" is no node (it is the region of eu-west-1); known are",
    ),
    (
        "[[faults]]\nat = \"5s\"\nisolate = \"eu-west-1\"",
        "3:11: \"eu-west-1\" is no region (it is a node of the region \"eu-west\")",
    ),
    (
        "[[faults]]\nat = \"5s\"\nisloate = \"eu-west\"",
        "3:1: \"isloate\" is no kind of fault (did you mean \"isolate\"?); known are at, lasts, partition",
    ),
    ("[[faults]]\nat = \"5s\"", "1:1: `its kind` is missing: what breaks, one of partition"),
    (
        "[[faults]]\nat = \"5s\"\nrevoke = true\nwipe = \"eu-west-1\"",
        "1:1: a fault has one kind, and this one has wipe and revoke",
    ),
];

/// A fault's times.
const TIMES: Table = &[
    ("[[faults]]\nisolate = \"eu-west\"", "1:1: `at` is missing"),
    (
        "[[faults]]\nat = \"30s\"\nisolate = \"eu-west\"",
        "1:1: this fault begins at 30s, but the run's `duration` is 30s",
    ),
    (
        "[[faults]]\nat = \"20s\"\nlasts = \"15s\"\nisolate = \"eu-west\"",
        "1:1: this fault ends at 35s, but the run's `duration` is 30s; it may last 10s at most",
    ),
    (
        "[[faults]]\nat = \"5\"\nisolate = \"eu-west\"",
        "2:6: `faults[0].at` is \"5\"; allowed is a length of time with a unit",
    ),
    (
        "[[faults]]\nat = 5\nisolate = \"eu-west\"",
        "2:6: `faults[0].at` is 5; allowed is a length of time with a unit",
    ),
    ("[[faults]]\nat = \"-5s\"\nisolate = \"eu-west\"", "2:6: "),
    ("[[faults]]\nat = \"5s\"\nlasts = \"0s\"\nisolate = \"eu-west\"", "3:9: "),
    (
        "[[faults]]\nat = \"5s\"\nlasts = \"1s\"\nrevoke = true",
        "3:9: revoke is a moment: it has no `lasts`",
    ),
];

/// What a fault does.
const EFFECTS: Table = &[
    (
        "[[faults]]\nat = \"5s\"\nrevoke = false",
        "3:10: `faults[0].revoke` is false; allowed is true",
    ),
    ("[[faults]]\nat = \"5s\"\nisolate = []", "3:11: "),
    (
        "[[faults]]\nat = \"5s\"\nisolate = [\"eu-west\", \"eu-west\"]",
        "3:23: `faults[0].isolate[1]` is \"eu-west\"; allowed is each region once",
    ),
    (
        "[[faults]]\nat = \"5s\"\npartition = [[\"eu-west\"], [\"eu-west\"]]",
        "3:27: eu-west is in two groups",
    ),
    ("[[faults]]\nat = \"5s\"\npartition = [\"eu-west\"]", "3:14: "),
    (
        "[[faults]]\nat = \"5s\"\npartition = [[\"eu-west\", \"us-east\", \"ap-south\"]]",
        "1:1: this partition touches no link",
    ),
    ("[[faults]]\nat = \"5s\"\none_way = { from = \"eu-west\", to = \"eu-west\" }", "3:11: "),
    (
        "[[faults]]\nat = \"5s\"\nlink = { loss = 1.5 }",
        "3:17: `faults[0].link.loss` is 1.5; allowed is a probability from 0 to 1",
    ),
    ("[[faults]]\nat = \"5s\"\nlink = { loss = nan }", "3:17: "),
    ("[[faults]]\nat = \"5s\"\nlink = { of = \"eu-west\" }", "3:8: `quality` is missing"),
    (
        "[[faults]]\nat = \"5s\"\nlink = { los = 0.1 }",
        "3:10: \"los\" is no field of a link (did you mean \"loss\"?)",
    ),
    (
        "[[faults]]\nat = \"5s\"\nlink = { of = \"eu-west\", between = [\"eu-west\", \"us-east\"], loss = 0.1 }",
        "3:8: `between` names one link",
    ),
    ("[[faults]]\nat = \"5s\"\nslow = { node = \"eu-west-1\", factor = 1 }", "3:39: "),
    (
        "[[faults]]\nat = \"5s\"\nold_copy = { node = \"eu-west-1\", age = \"9s\" }",
        "1:1: a copy that is 9s old was made before the run began",
    ),
    ("[[faults]]\nat = \"5s\"\nclock_step = { node = \"eu-west-1\", by = \"0s\" }", "3:41: "),
    ("[[faults]]\nat = \"5s\"\nclock_step = { node = \"eu-west-1\", by = \"--1s\" }", "3:41: "),
    ("[[faults]]\nat = \"5s\"\nclock_drift = { node = \"eu-west-1\", ppm = 0 }", "3:43: "),
    (
        "[[faults]]\nat = \"5s\"\nvoters = { add = \"eu-west-1\", remove = \"eu-west-1\" }",
        "3:10: a node that is removed",
    ),
    ("[[faults]]\nat = \"5s\"\nvoters = {}", "3:10: "),
];

/// The workload.
const WORKLOAD: Table = &[
    (
        "[workload]\nconfig_writes = 0",
        "2:17: `workload.config_writes` is 0; allowed is a rate a second, more than 0 and at most 10000",
    ),
    ("[workload]\nconfig_writes = -1", "2:17: `workload.config_writes` is -1;"),
    ("[workload]\ncas = nan", "2:7: "),
    ("[workload]\ncas = inf", "2:7: "),
    ("[workload]\ncas = 10_001", "2:7: "),
    ("[workload]\ncas = \"many\"", "2:7: "),
    ("[workload]\ncas = 99999999999999999999", "2:7: "),
    (
        "[workload]\nconfig_wirtes = 1",
        "2:1: \"config_wirtes\" is no field of [workload] (did you mean \"config_writes\"?)",
    ),
    ("[workload]\nsession_moves = 1.01", "2:17: "),
    ("[workload]\nwatchers = 0", "2:12: "),
    ("[workload]\nkeys = 3\nkeys_per_write = 4", "1:1: a write sets 4 keys"),
    ("[workload]\nack = 4", "2:7: "),
    ("[workload]\nack = \"most\"", "2:7: "),
    ("[workload]\nregions = [\"eu\"]", "2:12: \"eu\" is no region"),
    ("[workload]\nsession_clients = 100\nsession_rate = 101", "1:1: `session_clients`"),
];

/// The nemesis.
const NEMESIS: Table = &[
    ("[nemesis]\nlasts = [\"1s\", \"2s\"]", "1:1: `per_minute` is missing"),
    ("[nemesis]\nper_minute = 0", "2:14: "),
    ("[nemesis]\nper_minute = 6\nlasts = [\"5s\", \"2s\"]", "3:9: "),
    ("[nemesis]\nper_minute = 6\nlasts = [\"5s\", \"31s\"]", "3:16: "),
    (
        "[nemesis]\nper_minute = 6\nkinds = { meteor = 1 }",
        "3:11: \"meteor\" is no kind that a nemesis draws",
    ),
    ("[nemesis]\nper_minute = 6\nkinds = { wipe = 1 }", "3:11: "),
    ("[nemesis]\nper_minute = 6\nkinds = { crash = 0 }", "3:19: "),
    ("[nemesis]\nper_minute = 6\nkinds = {}", "3:9: "),
    ("[nemesis]\nper_minute = 6\nfrom = \"30s\"", "3:8: "),
];

/// Expectations and settings.
const REST: Table = &[
    (
        "[expect]\nchecks = [\"convergance\"]",
        "2:11: \"convergance\" is no check (did you mean \"convergence\"?)",
    ),
    ("[expect]\nchecks = []", "2:10: "),
    ("[expect]\ncoverage = [\"luck\"]", "2:13: \"luck\" is no coverage"),
    (
        "[expect.bounds]\nlog_recods = 5",
        "2:1: \"log_recods\" is no number that nodes are counted by (did you mean \"log_records\"?)",
    ),
    ("[expect.bounds]\nlog_records = 0", "2:15: "),
    ("[expect.bounds]\nevery = \"10ms\"", "2:9: "),
    ("[workload]\nhistory = { versions = 0, age = \"5s\" }", "2:24: "),
    ("[workload]\nhistory = { versions = 3 }", "2:11: `age` is missing"),
    ("[expect]\nchecks = [\"winner\"]\ncoverage = [\"conflict\"]", "3:12: `coverage` is demanded"),
    (
        "[expect]\nconverge_within = \"11s\"",
        "2:19: `settle` is 10s, which is too short for a `converge_within` of 11s; allowed is 15s (4s more than that) and longer",
    ),
    ("[expect]\nlost_regions = [\"eu-west\"]", "2:16: eu-west is to be lost for good"),
    (
        "[settings.gossip]\nanti_entropy = \"1s\"",
        "2:1: `settings`: unknown field `anti_entropy`, expected one of",
    ),
    (
        "[settings.gossip]\nanti_entropy_every = \"0s\"",
        "2:22: `settings`: gossip.anti_entropy_every: may not be 0",
    ),
    ("[settings]\ndata_dir = \"/tmp\"", "2:1: `settings`: data_dir is the simulator's to set"),
    ("[worklod]", "1:2: \"worklod\" is no field of a scenario (did you mean \"workload\"?)"),
];

#[test]
fn each_bad_input_is_refused_with_its_line() {
    let mut wrong = Vec::new();
    for (rest, wanted) in [NAMES, TIMES, EFFECTS, WORKLOAD, NEMESIS, REST].concat() {
        let complaints = complaints(rest);
        if !complaints.starts_with(wanted) {
            wrong.push(format!("{rest}\nwanted: {wanted}\nsaid: {complaints}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn a_file_that_lacks_the_most_is_told_what_it_lacks() {
    for (text, wanted) in [
        (
            "",
            "simulations/island.toml:1:1: `claim` is missing: what this scenario shows, in one sentence\nsimulations/island.toml:1:1: `topology` is missing",
        ),
        (
            "claim = \" \"\n[topology]\nregions = [\"a\"]",
            "simulations/island.toml:1:9: `claim` is \" \"; allowed is one sentence",
        ),
        (
            "claim = \"x\"\nclaim = \"y\"",
            "simulations/island.toml:2:1: this is not TOML: duplicate key",
        ),
        (
            "claim = \"x\"\nduration = \"25h\"\n[topology]\nregions = [\"a\"]",
            "simulations/island.toml:2:12: `duration` is \"25h\"; allowed is a length of time with a unit (500ms, 30s, 2m), 1s to 24h",
        ),
        (
            "claim = \"x\"\nsettle = \"0s\"\n[topology]\nregions = [\"a\"]",
            "simulations/island.toml:2:10: ",
        ),
        (
            "claim = \"x\"\nsettle = \"8999ms\"\n[topology]\nregions = [\"a\"]",
            "simulations/island.toml:2:10: `settle` is 8999ms, which is too short for a `converge_within` of 5s; allowed is 9s (4s more than that) and longer",
        ),
        (
            "claim = \"x\"\n[topology]\nregions = [\"a\"]\n[expect]\nconverge_within = \"6001ms\"",
            "simulations/island.toml:5:19: `settle` is 10s, which is too short for a `converge_within` of 6001ms; allowed is 10001ms (4s more than that) and longer",
        ),
        ("claim = \"ä\" x", "simulations/island.toml:1:13: this is not TOML: "),
    ] {
        let error = parse(text).unwrap_err().to_string();
        assert!(error.starts_with(wanted), "{text}\nwanted: {wanted}\nsaid: {error}");
    }
}

#[test]
fn a_bad_inline_topology_is_refused_where_it_is_bad() {
    for (topology, wanted) in [
        ("regions = [\"a\", \"b\"]", "1:1: `topology`: links: none between a and b"),
        ("regions = []", "2:11: `topology`: regions: there is no region"),
        (
            "regions = [\"a\", \"B\"]",
            "2:17: `topology`: regions[1].name: region has the character 'B'",
        ),
        (
            "regions = [{ name = \"a\", nodes = 0 }]",
            "2:34: `topology`: regions[0].nodes: a has no node",
        ),
        (
            "regions = [{ name = \"a\", nodes = 65 }]",
            "1:1: `topology`: it has 65 nodes; 64 at most",
        ),
        (
            "regions = [{ name = \"a\", nodes = 9999999999 }]",
            "1:1: `topology`: it has 65 nodes; 64 at most",
        ),
        ("regions = [{ name = \"a\", node = 2 }]", "2:26: `topology`: unknown field `node`"),
        ("regions = [{ nodes = 2 }]", "2:22: `topology`: "),
        ("regions = [\"a\", \"b\"]\nrtt_ms_default = 99999", "3:18: `topology`: rtt_ms_default: "),
        ("regions = 3", "2:11: `topology`: "),
    ] {
        let error = parse(&format!("claim = \"x\"\n[topology]\n{topology}")).unwrap_err();
        let ScenarioError::Bad { problems, .. } = error else { panic!("{error}") };
        let problem = &problems[0];
        let said = format!("{}:{}: {}", problem.line - 1, problem.column, problem.flaw);
        assert!(said.starts_with(wanted), "{topology}\nwanted: {wanted}\nsaid: {said}");
    }
}

#[test]
fn faults_that_contradict_each_other_are_refused() {
    let fault = |at: u32, lasts: u32, kind: &str| {
        format!("[[faults]]\nat = \"{at}s\"\nlasts = \"{lasts}s\"\n{kind}\n")
    };
    let pair = |a: &str, b: &str| complaints(&(fault(5, 10, a) + &fault(8, 10, b)));
    let crash = "crash = \"eu-west-1\"";
    assert_eq!(
        pair("isolate = \"eu-west\"", "partition = [[\"us-east\"], [\"eu-west\", \"ap-south\"]]"),
        "5:1: this partition and the isolate of line 6 both decide whether eu-west reaches us-east at \
         8s; let one end before the other begins, or make one fault of them\n"
            .replace("line 6", &format!("line {}", HEAD.lines().count() + 1))
    );
    for (a, b) in [
        (crash, crash),
        (crash, "pause = \"eu-west-1\""),
        (crash, "wipe = \"eu-west-1\""),
        ("disk_full = \"eu-west-1\"", "disk_error = \"eu-west-1\""),
        ("lying_fsync = \"eu-west-1\"", "old_copy = { node = \"eu-west-1\", age = \"1s\" }"),
        (
            "clock_step = { node = \"eu-west-1\", by = \"1h\" }",
            "clock_drift = { node = \"eu-west-1\", ppm = 100 }",
        ),
        ("link = { loss = 0.1 }", "link = { of = \"eu-west\", loss = 0.2 }"),
        ("bridge = \"eu-west\"", "hold = { from = \"us-east\", to = \"ap-south\" }"),
    ] {
        assert!(pair(a, b).contains("both decide"), "{a} and {b}");
        let apart = format!("{HEAD}{}{}", fault(5, 3, a), fault(8, 3, b));
        parse(&apart).unwrap_or_else(|error| panic!("{error}"));
    }
    for (a, b) in [
        (crash, "crash = \"us-east-1\""),
        (crash, "lying_fsync = \"eu-west-1\""),
        (crash, "clock_step = { node = \"eu-west-1\", by = \"168h\" }"),
        ("link = { loss = 0.1 }", "isolate = \"eu-west\""),
        (
            "one_way = { from = \"eu-west\", to = \"us-east\" }",
            "hold = { from = \"us-east\", to = \"eu-west\" }",
        ),
    ] {
        parse(&format!("{HEAD}{}{}", fault(5, 10, a), fault(8, 10, b)))
            .unwrap_or_else(|error| panic!("{a} and {b}: {error}"));
    }
}

#[test]
fn everything_wrong_is_told_at_once_in_the_order_of_the_file() {
    let said = complaints(
        "[workload]\ncas = 0\nkeys = \"x\"\n[[faults]]\nat = \"31s\"\ncrash = \"eu-west-1\"\n\
         [[faults]]\nat = \"1s\"\nisolate = \"nowhere\"\n[expect]\nchecks = [\"all\"]\n",
    );
    let lines: Vec<&str> = said.lines().map(|line| line.split(": ").next().unwrap()).collect();
    assert_eq!(lines, ["2:7", "3:8", "4:1", "9:11", "11:11"], "{said}");
}

#[test]
fn a_terminal_shows_each_problem_on_a_line_of_its_own() {
    let text = "claim = \"Ä\"\nduration = \"1m\"\n[topology]\nregions = [\"eu-west\", \"us-east\"]\n\
        rtt_ms_default = 80\n[[faults]]\nat = \"50s\"\nlasts = \"20s\"\nisolate = \"eu-wets\"\n\
        [[faults]]\nat = \"50s\"\nlasts = \"20s\"\ncrash = \"us-east-1\"\n\
        [workload]\ncas = 0\n";
    assert_eq!(
        parse(text).unwrap_err().to_string(),
        "simulations/island.toml:9:11: \"eu-wets\" is no region (did you mean \"eu-west\"?); known \
         are eu-west, us-east\n\
         simulations/island.toml:10:1: this fault ends at 70s, but the run's `duration` is 1m; it \
         may last 10s at most\n\
         simulations/island.toml:15:7: `workload.cas` is 0; allowed is a rate a second, more than 0 \
         and at most 10000 (what is not done is left out)"
    );
}

#[test]
fn there_is_a_limit_on_faults() {
    let fault = "[[faults]]\nat = \"5s\"\nrevoke = true\n";
    parse(&format!("{HEAD}{}", fault.repeat(1_000))).unwrap();
    let said = complaints(&fault.repeat(1_001));
    assert!(said.contains("a list of faults: [[faults]], 1000 at most"), "{said}");
    let long = HEAD.replace("30s", "2m");
    let error = parse(&format!("{long}[nemesis]\nper_minute = 600")).unwrap_err().to_string();
    assert!(error.contains("would draw more than 1000 faults"), "{error}");
    parse(&format!("{HEAD}[nemesis]\nper_minute = 600")).unwrap();
}

#[test]
fn no_text_makes_the_reader_panic() {
    let good = format!(
        "{HEAD}[[faults]]\nat = \"5s\"\nlink = {{ between = [\"eu-west\", \"us-east\"], loss = 0.1 }}\n\
         [nemesis]\nper_minute = 6\nkinds = {{ crash = 1 }}\n[expect]\nlost_regions = \"ä\"\n"
    );
    for end in (0..good.len()).filter(|end| good.is_char_boundary(*end)) {
        let _ = parse(&good[..end]);
        let _ = parse(&format!("{}{}", &good[..end], good[end..].replacen('"', "", 1)));
        let _ = parse(&format!("{}0{}", &good[..end], &good[end..]));
    }
}
