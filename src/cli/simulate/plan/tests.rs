use super::text::{clip, lines, wrap};
use crate::simulation::plan::Plan;
use crate::topology::Topology;

fn shipped(name: &str) -> Plan {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("regions");
    Plan::of(&Topology::load(&dir.join(name)).unwrap())
}

/// So many regions with long names, all voting.
fn many(regions: usize) -> Plan {
    let mut text = "cluster = \"many\"\nrtt_ms_default = 9999\n".to_owned();
    for i in 0..regions {
        let name = format!("a-region-with-a-very-long-name-that-does-not-end-{i}");
        text += &format!(
            "[[regions]]\nname = \"{name}\"\nnodes = [{{ name = \"{name}-node\", peer = \
             \"10.0.0.1:{}\", http = \"10.0.0.1:{}\" }}]\n",
            1000 + i,
            2000 + i
        );
    }
    Plan::of(&Topology::parse("many", &text).unwrap())
}

#[test]
fn three_continents_are_told_in_words() {
    let text = lines(&shipped("three-continents.toml")).join("\n");
    for part in [
        "holm-dev: 3 regions, 3 nodes. 2 of 3 voters have to agree: eu-west-1, us-east-1 and ap-south-1.",
        "Secrets, accounts, roles: go on in all other regions if any one region is lost or cut off.",
        "Secrets, accounts, roles: stop everywhere if any two regions are lost.",
        "REGION    VOTES       READ    WRITE   CONFIG  ACK 2   MAJORITY  ALL\n\
         eu-west   eu-west-1   76 ms   78 ms   2 ms    80 ms   80 ms     126 ms\n",
        "eu-west   76 ms       78 ms        144 ms      200 ms, in ap-south\n",
        "ONE REGION CUT OFF\n",
    ] {
        assert!(text.contains(part), "{part}\nis not in\n{text}");
    }
    let row = |start: &str, section: &str| {
        let from = text.find(section).unwrap();
        let row = text[from..].lines().find(|line| line.starts_with(start)).unwrap();
        row.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect::<Vec<_>>().join("|")
    };
    let lost = row("eu-west ", "ONE REGION LOST");
    assert_eq!(lost, "eu-west|2/3|in all that are left|398 ms|2/3|2/3|no");
    let cut = row("eu-west ", "ONE REGION CUT OFF");
    assert_eq!(cut, "eu-west|3/3|in us-east, ap-south|398 ms|2/3|2/3|no");
    let link = row("us-east – ap-south", "ONE LINK CUT");
    assert_eq!(link, "us-east – ap-south|3/3|everywhere, if eu-west leads|200 ms|3/3|3/3|3/3");
}

#[test]
fn a_lonely_region_and_a_pair_are_told_what_they_lack() {
    let text = lines(&shipped("single-region.toml")).join("\n");
    assert!(text.contains("There is one region.") && text.contains("nowhere"), "{text}");
    let text = lines(&many(2)).join(" ").replace("   ", " ");
    assert!(text.contains("Two have no majority without each other"), "{text}");
    assert!(text.contains("Add a voter in a third region; a small node is enough"), "{text}");
}

#[test]
fn no_line_is_wider_than_a_terminal_of_100_columns() {
    for plan in [many(1), many(2), many(4), many(8), many(40), shipped("five-continents.toml")] {
        for line in lines(&plan) {
            assert!(line.chars().count() <= 100, "{}: {line}", line.chars().count());
        }
    }
}

#[test]
fn long_tables_show_the_worst_and_say_how_many_more_there_are() {
    let text = lines(&many(12));
    let from = text.iter().position(|line| line == "TWO REGIONS LOST").unwrap();
    assert_eq!(text[from + 32], "… and 36 more: --output json has all of them.");
}

#[test]
fn texts_are_cut_and_wrapped_by_characters() {
    assert_eq!((clip("größer", 6), clip("größer!", 6)), ("größer".into(), "größe…".into()));
    let lines = wrap(&"fünf ".repeat(50));
    assert!(lines.len() == 3 && lines.iter().all(|line| line.chars().count() <= 100), "{lines:?}");
}
