//! docs/clients.md's blocks, as they stand there, against three regions: all of a language from the
//! first to the last. Only the service is the language's own, so that each finds its own conflict.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::dev::Dev;
use crate::process::{HOLM, said};

const PAGE: &str = include_str!("../../docs/clients.md");
const LANGUAGES: [&str; 3] = ["sh", "python", "ts"];

/// All blocks of this kind, in order; those that are marked otherwise are none.
fn blocks(kind: &str) -> String {
    let start = format!("```{kind}\n");
    let parts = PAGE.split(&start).skip(1);
    parts.map(|part| part.split("```").next().unwrap()).collect()
}

/// The same for a service of the language's own.
fn program(language: &str) -> String {
    let blocks = blocks(language);
    assert!(blocks.contains("/config/web/prod"), "{language} has no blocks: {blocks}");
    let service = format!("{language}-web");
    blocks
        .replace("/config/web/", &format!("/config/{service}/"))
        .replace("\"web\"", &format!("\"{service}\""))
}

/// What Python and TypeScript print, section after section.
fn output() -> String {
    blocks("text")
}

/// Three regions, and what it takes to ask them.
struct Regions {
    dir: tempfile::TempDir,
    environment: Vec<(&'static str, String)>,
    _dev: Dev,
}

impl Regions {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let dev = Dev::start(dir.path());
        let environment = vec![
            ("HOLM_TOKEN", dev.token().to_owned()),
            ("HOLM_URL", dev.urls[0].clone()),
            ("HOLM_URL_2", dev.urls[1].clone()),
        ];
        let mut regions = Self { dir, environment, _dev: dev };
        regions.prepare();
        regions
    }

    /// What the page's `setup` blocks do: an account, and a conflict for each language.
    fn prepare(&mut self) {
        let setup = blocks("sh setup");
        let lines = |what: &str| -> Vec<&str> {
            let lines = setup.lines().map(|line| line.split(" #").next().unwrap().trim());
            lines.filter(|line| line.starts_with(what)).collect()
        };
        let made = self.sh(&[lines("holm role"), lines("holm account")].concat().join("\n"));
        let secret = made.lines().find_map(|line| line.trim().strip_prefix("client secret"));
        self.environment.push(("CLIENT_ID", "docs".to_owned()));
        self.environment.push(("CLIENT_SECRET", secret.unwrap().trim().to_owned()));
        let sets = lines("holm set").join("\n");
        assert_eq!(lines("holm set").len(), 2, "{sets}");
        let mut script = format!("{}\n", lines("holm chaos cut")[0]);
        for language in LANGUAGES {
            let sets = sets.replace("web/prod", &format!("{language}-web/prod"));
            script += &sets.replace("http://127.0.0.1:8102", "\"$HOLM_URL_2\"");
            script += "\n";
        }
        script += lines("holm chaos heal")[0];
        self.sh(&script);
        // Until both regions show both values.
        for language in LANGUAGES {
            for url in ["$HOLM_URL", "$HOLM_URL_2"] {
                self.sh(&format!(
                    "for i in $(seq 60); do holm get {language}-web/prod limit --url \"{url}\" 2>&1 \
                     | grep -q 'same time' && exit; sleep 0.5; done; exit 1"
                ));
            }
        }
    }

    fn sh(&self, script: &str) -> String {
        let script = format!("set -eu\nholm() {{ \"{HOLM}\" \"$@\"; }}\n{script}");
        self.run(Command::new("sh").args(["-c", &script]))
    }

    /// Runs it to its end, which has to be a good one; gives what it printed.
    fn run(&self, command: &mut Command) -> String {
        let environment = self.environment.iter().map(|(name, value)| (name, value));
        let output = command.current_dir(self.dir.path()).envs(environment).output().unwrap();
        assert!(output.status.success(), "{command:?}: {}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    }
}

fn is_there(program: &str) -> bool {
    let there = Command::new(program).arg("--version").output();
    there.is_ok_and(|output| output.status.success())
}

/// The program as JavaScript that node runs: by TypeScript's own compiler, which checks its types,
/// where `tests/contract/run` has installed that; else by node, where that strips types.
fn compiled(dir: &Path, program: &str) -> Option<PathBuf> {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/typescript/node_modules");
    std::fs::write(dir.join("clients.mts"), program).unwrap();
    let compiler = tools.join("typescript/bin/tsc");
    if compiler.exists() {
        // Where it finds node's types.
        let types = tools.join("@types");
        let output = Command::new("node")
            .arg(compiler)
            .args(["--target", "es2022", "--module", "nodenext", "--strict", "--skipLibCheck"])
            .args(["--lib", "es2022,dom,dom.iterable,dom.asynciterable", "--types", "node"])
            .args(["--noEmitOnError", "--typeRoots"])
            .arg(types)
            .arg("clients.mts")
            .current_dir(dir)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", said(&output));
        return Some(dir.join("clients.mjs"));
    }
    let strips = Command::new("node").args(["-p", "process.features.typescript"]).output().ok()?;
    let strips = String::from_utf8_lossy(&strips.stdout).contains("strip");
    strips.then(|| dir.join("clients.mts"))
}

#[test]
fn the_page_does_in_each_language_what_it_shows() {
    let regions = Regions::start();
    let dir = regions.dir.path().to_owned();
    let shown = regions.sh(&program("sh"));
    for part in [
        "\"value\":\"blue\"",
        " 304",
        "event: ready",
        "\"value\":\"green\"",
        "\"conflicts\":[{\"value\":10",
        "\"error\":\"PreconditionFailed\"",
        "\"value\":\"s3cret\"",
        "\"value\":\"red\"",
        "dempotency-replayed: true",
    ] {
        assert!(shown.to_lowercase().contains(&part.to_lowercase()), "{part}: {shown}");
    }
    if is_there("python3") {
        std::fs::write(dir.join("clients.py"), program("python")).unwrap();
        assert_eq!(regions.run(Command::new("python3").arg("clients.py")), output(), "Python");
    } else {
        eprintln!("skipped: there is no python3 here");
    }
    let compiled = is_there("node").then(|| compiled(&dir, &program("ts"))).flatten();
    match compiled {
        Some(file) => {
            assert_eq!(regions.run(Command::new("node").arg(file)), output(), "TypeScript")
        }
        None => eprintln!("skipped: no node here that takes TypeScript, and no compiler for it"),
    }
}

#[test]
fn every_section_shows_all_three_languages() {
    let sections = PAGE.split("\n## ").skip(1).filter(|section| section.contains("```python"));
    let mut count = 0;
    for section in sections {
        let title = section.lines().next().unwrap();
        for language in LANGUAGES {
            assert!(section.contains(&format!("```{language}\n")), "{title} has no {language}");
        }
        assert!(section.contains("```text\n"), "{title} shows no output");
        count += 1;
    }
    assert_eq!(count, 9);
}
