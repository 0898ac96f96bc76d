//! The help of every command is what the files in `tests/golden/cli` say: a change of it is seen in
//! review, and never by accident.

use std::collections::BTreeMap;
use std::path::Path;

use clap::CommandFactory as _;
use holm::cli::Cli;

/// Every command's long help, by the words that name it.
fn helps() -> BTreeMap<String, String> {
    fn collect(command: &mut clap::Command, name: &str, helps: &mut BTreeMap<String, String>) {
        // The layout must not follow the terminal that the test runs in.
        let text = command.clone().term_width(100).render_long_help().to_string();
        let lines = text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
        helps.insert(name.replace(' ', "-"), lines + "\n");
        for below in command.get_subcommands_mut().filter(|below| below.get_name() != "help") {
            let name = format!("{name} {}", below.get_name());
            collect(below, &name, helps);
        }
    }
    let mut command = Cli::command();
    command.build();
    let mut helps = BTreeMap::new();
    collect(&mut command, "holm", &mut helps);
    helps
}

#[test]
fn the_help_of_every_command_is_as_its_golden_file_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/cli");
    let fresh = Path::new(env!("CARGO_TARGET_TMPDIR")).join("golden/cli");
    // What an earlier run wrote is of an earlier program.
    let _ = std::fs::remove_dir_all(&fresh);
    std::fs::create_dir_all(&fresh).unwrap();
    let mut known: Vec<String> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    let mut wrong = Vec::new();
    for (name, text) in helps() {
        let file = format!("{name}.txt");
        known.retain(|known| *known != file);
        if std::fs::read_to_string(folder.join(&file)).unwrap_or_default() != text {
            std::fs::write(fresh.join(&file), text).unwrap();
            wrong.push(file);
        }
    }
    assert!(
        wrong.is_empty() && known.is_empty(),
        "other help than in the golden files: {wrong:?}; golden files of no command: {known:?}. \
         If it is meant: cp {}/*.txt {}/",
        fresh.display(),
        folder.display()
    );
}
