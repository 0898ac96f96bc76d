//! What is shown is what is taken: every example in a command's help, and every `holm` line in the
//! shell blocks of the documentation, is one that the command line reads. Completions and manual pages
//! have every command in them.

use std::path::Path;
use std::process::{Command, Stdio};

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser as _};
use holm::cli::Cli;

/// Every command, with the words that call it.
fn commands() -> Vec<(Vec<String>, clap::Command)> {
    fn collect(
        command: &clap::Command,
        words: &[String],
        all: &mut Vec<(Vec<String>, clap::Command)>,
    ) {
        let words = [words, &[command.get_name().to_owned()]].concat();
        all.push((words.clone(), command.clone()));
        for below in command.get_subcommands().filter(|below| below.get_name() != "help") {
            collect(below, &words, all);
        }
    }
    let mut root = Cli::command();
    root.build();
    let mut all = Vec::new();
    collect(&root, &[], &mut all);
    all
}

/// The words of the `holm` commands in a piece of shell, as a shell would take them apart.
fn calls(text: &str) -> Vec<Vec<String>> {
    let text = text.split("\\\n").map(str::trim).collect::<Vec<_>>().join(" ");
    let mut calls = Vec::new();
    for line in text.lines() {
        let line = line.trim_start();
        let step = line.split_once(". ").filter(|(n, _)| n.parse::<u8>().is_ok());
        let line = step.map_or(line, |(_, rest)| rest);
        let starts = ["| holm ", "$(holm ", "& holm "]
            .iter()
            .filter_map(|it| line.find(it).map(|at| at + 2));
        let mut starts: Vec<usize> = starts.chain(line.starts_with("holm ").then_some(0)).collect();
        starts.sort_unstable();
        calls.extend(starts.into_iter().map(|at| words(&line[at..])));
    }
    calls
}

/// One command's words: up to a pipe, a redirection, a bracket, a comment or a column of remarks.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut spaces = 0;
    for c in line.chars() {
        if let Some(end) = quote {
            if c == end {
                quote = None
            } else {
                word.get_or_insert_default().push(c)
            }
            continue;
        }
        match c {
            ' ' => {
                words.extend(word.take());
                spaces += 1;
                // Two spaces are for columns.
                if spaces == 2 {
                    return words;
                }
                continue;
            }
            '|' | '>' | ')' | '#' | ';' | '&' if word.is_none() || c == ')' => break,
            '\'' | '"' => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            c => word.get_or_insert_default().push(c),
        }
        spaces = 0;
    }
    words.extend(word);
    words
}

fn is_read(words: &[String]) -> Result<(), String> {
    match Cli::try_parse_from(words) {
        Ok(_) => Ok(()),
        Err(e) if e.kind() == ErrorKind::DisplayHelp => Ok(()),
        Err(e) => Err(format!("{words:?}: {e}")),
    }
}

#[test]
fn every_command_has_an_example_and_every_example_is_read() {
    let (mut wrong, mut examples) = (Vec::new(), 0);
    for (name, command) in commands() {
        let more = command.get_after_long_help().or(command.get_after_help());
        let more = more.map(ToString::to_string).unwrap_or_default();
        // Only what is set apart: text may speak of commands, too.
        let apart: Vec<&str> = more.lines().filter(|line| line.starts_with("  ")).collect();
        let calls = calls(&apart.join("\n"));
        if !calls.iter().any(|words| words.starts_with(&name)) || !more.contains("Examples:\n") {
            wrong.push(format!("`{}` shows no example of itself", name.join(" ")));
        }
        examples += calls.len();
        wrong.extend(calls.iter().filter_map(|words| is_read(words).err()));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(examples > 150, "only {examples} examples were found");
}

#[test]
fn every_command_in_the_documentation_is_read() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = vec![root.join("README.md")];
    for file in std::fs::read_dir(root.join("docs")).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|it| it == "md") {
            files.push(path);
        }
    }
    let (mut wrong, mut found) = (Vec::new(), 0);
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        for block in text.split("```sh\n").skip(1) {
            let calls = calls(block.split("```").next().unwrap());
            found += calls.len();
            let bad = calls.iter().filter_map(|words| is_read(words).err());
            wrong.extend(bad.map(|why| format!("{}: {why}", file.display())));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(found > 30, "only {found} commands were found");
}

#[test]
fn lines_are_taken_apart_as_a_shell_does() {
    let words = |line: &str| calls(line).concat().join("|");
    assert_eq!(words("holm a 'b c' --d \"e\"   remark"), "holm|a|b c|--d|e");
    assert_eq!(words("x | holm a > f"), "holm|a");
    assert_eq!(words("holm a b && holm c"), "holm|a|b|holm|c");
    assert_eq!(words("export T=$(holm login --out x)"), "holm|login|--out|x");
    assert_eq!(words("  2. holm a b"), "holm|a|b");
    assert_eq!(words("holm a \\\n     --b c"), "holm|a|--b|c");
    assert_eq!(words("the holm way"), "");
    assert!(is_read(&["holm", "get", "--no-such-flag"].map(str::to_owned)).is_err());
}

#[test]
fn completions_have_every_command_and_shells_read_them() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let output = Command::new(env!("CARGO_BIN_EXE_holm")).args(["completions", shell]).output();
        let output = output.unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{shell}");
        let text = String::from_utf8(output.stdout).unwrap();
        for (words, _) in commands() {
            assert!(text.contains(words.last().unwrap()), "{shell}: {words:?}");
        }
        assert!(text.contains("restart-on-change"), "{shell}");
        let Ok(mut reader) = Command::new(shell).arg("-n").stdin(Stdio::piped()).spawn() else {
            continue;
        };
        std::io::Write::write_all(&mut reader.stdin.take().unwrap(), text.as_bytes()).unwrap();
        assert!(reader.wait().unwrap().success(), "{shell} does not read it");
    }
}

#[test]
fn there_is_a_manual_page_for_every_command() {
    let dir = tempfile::tempdir().unwrap();
    let man = |line: &[&str]| {
        let output =
            Command::new(env!("CARGO_BIN_EXE_holm")).arg("man").args(line).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, said) = man(&["--dir", dir.path().to_str().unwrap()]);
    let all = commands();
    assert_eq!(
        (code, said),
        (Some(0), format!("{} pages in {}\n", all.len(), dir.path().display()))
    );
    for (words, command) in all {
        let page = dir.path().join(format!("{}.1", words.join("-")));
        let page =
            std::fs::read_to_string(&page).unwrap_or_else(|e| panic!("{}: {e}", page.display()));
        let about = command.get_about().unwrap().to_string();
        let first = about.split([',', ':', '(', ';', '\'']).next().unwrap().replace('-', "\\-");
        assert!(page.contains(&first), "{words:?} does not say what it is for: {page}");
        assert!(page.contains(".SH EXAMPLES"), "{words:?}");
        let words: Vec<&str> = words[1..].iter().map(String::as_str).collect();
        assert_eq!(man(&words), (Some(0), page), "{words:?}");
    }
    assert_eq!(man(&["no-such-command"]).0, Some(2));
}
