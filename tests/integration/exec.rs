//! `holm exec` against real nodes: what the program sees, how it ends, which signals reach it, and when
//! it is started again.

use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use holm::client::Write;
use holm::model::SecretName;
use holm::secrets::Plaintext;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use crate::cluster::{document, eventually, json, key};
use crate::process::{HOLM, Process, Site, holm, said};

/// Nothing else says this.
const CANARY: &str = "canary-9d41-of-exec";

/// Three nodes, some keys and a secret.
struct World {
    site: Site,
    nodes: Vec<Option<Process>>,
}

impl World {
    async fn new() -> Self {
        let site = Site::with("", "config:* secrets:* cluster:read");
        let nodes = (0..3).map(|which| Some(site.serve_logged(which))).collect();
        let world = Self { site, nodes };
        let secret = Plaintext::new(CANARY.as_bytes().to_vec());
        let name = SecretName::new("db-password").unwrap();
        eventually("the cluster takes secrets", async || {
            world.site.client(0).put_secret(&name, &secret, None, None).await.is_ok()
        })
        .await;
        world
            .write(&[("color", "\"blue\""), ("db.pool-size", "8"), ("list", "[1, {\"a\": null}]")])
            .await;
        world
    }

    async fn write(&self, pairs: &[(&str, &str)]) {
        let writes: Vec<Write> = pairs.iter().map(|(k, v)| Write::new(key(k), json(v))).collect();
        self.site.client(0).write(&document("web/prod"), &writes, None).await.unwrap();
    }

    /// `holm exec` of web/prod with this token.
    fn command(&self, token: &str, line: &[&str]) -> Command {
        let mut command = Command::new(HOLM);
        command
            .args(["exec", "--service", "web", "--env", "prod"])
            .args(["--url", &format!("http://127.0.0.1:{}", self.site.http[0])])
            .args(line)
            .env("HOLM_TOKEN", token)
            .env("COLOR", "inherited")
            .env("OWN", "kept")
            .current_dir(self.site.dir.path())
            .stdin(Stdio::null());
        command
    }

    async fn run(&self, line: &[&str]) -> Output {
        self.run_as(&self.site.token, line).await
    }

    async fn run_as(&self, token: &str, line: &[&str]) -> Output {
        let mut command = self.command(token, line);
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
    }

    /// A supervised shell script that appends to the file `log`, with this stderr in `err`.
    fn supervise(&self, line: &[&str], script: &str) -> Supervised {
        let (log, err) = (self.site.dir.path().join("log"), self.site.dir.path().join("err"));
        let line =
            [&["--restart-on-change", "--settle", "300ms"], line, &["--", "sh", "-c", script]];
        let mut command = self.command(&self.site.token, &line.concat());
        command.stdout(std::fs::File::create(&log).unwrap());
        command.stderr(std::fs::File::create(&err).unwrap());
        Supervised { process: Process(command.spawn().unwrap()), log, err }
    }
}

struct Supervised {
    process: Process,
    log: PathBuf,
    err: PathBuf,
}

/// The program that is supervised would outlive a supervisor that is killed.
impl Drop for Supervised {
    fn drop(&mut self) {
        for i in 0..60 {
            if !matches!(self.process.0.try_wait(), Ok(None)) {
                return;
            }
            if i == 0 {
                self.signal(Signal::TERM);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Supervised {
    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.err).unwrap()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process.0), signal).unwrap();
    }

    async fn logs(&self, what: &str) {
        let within = async { eventually(what, async || self.log().contains(what)).await };
        if tokio::time::timeout(Duration::from_secs(20), within).await.is_err() {
            panic!("no `{what}` in\n{}\n{}", self.log(), self.said());
        }
    }

    async fn says(&self, what: &str) {
        let within = async { eventually(what, async || self.said().contains(what)).await };
        if tokio::time::timeout(Duration::from_secs(20), within).await.is_err() {
            panic!("no `{what}` in\n{}\n{}", self.said(), self.log());
        }
    }

    async fn ends(&mut self) -> Option<i32> {
        loop {
            if let Some(status) = self.process.0.try_wait().unwrap() {
                return status.code();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Whether a process with this `/proc/PID/status` ignores it.
fn ignores(status: &str, signal: Signal) -> bool {
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
    let ignored = u64::from_str_radix(ignored.trim(), 16).unwrap();
    ignored & (1 << (signal.as_raw() - 1)) != 0
}

/// Whether the tests were started to ignore it, as a shell does to what it runs aside: it stays so.
fn is_ignored(signal: Signal) -> bool {
    ignores(&std::fs::read_to_string("/proc/self/status").unwrap(), signal)
}

fn out(output: &Output) -> String {
    assert!(output.status.success(), "{}", said(output));
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_sees_what_holm_has_and_ends_as_it_ends() {
    let world = World::new().await;
    let seen = out(&world.run(&["--", "env"]).await);
    let has = |line: &str| seen.lines().any(|it| it == line);
    assert!(has("COLOR=blue") && has("DB_POOL_SIZE=8") && has("LIST=[1,{\"a\":null}]"), "{seen}");
    assert!(has("OWN=kept") && !seen.contains("HOLM_TOKEN"), "{seen}");
    let env = ["/usr/bin/env", "/bin/env"].into_iter().find(|path| PathBuf::from(path).exists());
    let line = ["--pristine", "--keys", "db.", "--prefix", "APP_", "--", env.unwrap()];
    assert_eq!(out(&world.run(&line).await), "APP_DB_POOL_SIZE=8\n");
    let line = ["--print", "--secret", "db-password=PGPASSWORD"];
    let printed = out(&world.run(&line).await);
    assert!(
        printed.contains("DB_POOL_SIZE") && printed.contains("web/prod/db.pool-size"),
        "{printed}"
    );
    assert!(
        printed.contains("PGPASSWORD") && printed.contains("the secret db-password"),
        "{printed}"
    );
    assert!(!printed.contains("blue") && !printed.contains(CANARY), "{printed}");

    // It is the program itself that runs: one process, with its own way to end.
    let mut child = world.command(&world.site.token, &["--", "sleep", "60"]).spawn().unwrap();
    let cmdline = format!("/proc/{}/cmdline", child.id());
    eventually("it is sleep", async || {
        std::fs::read(&cmdline).unwrap().starts_with(b"sleep\x0060\0")
    })
    .await;
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(15));
    for (line, code) in [
        (&["--", "sh", "-c", "exit 7"][..], 7),
        (&["--", "no-such-program"], 127),
        (&["--", "/etc/passwd"], 126),
        (&["--keys", "none.", "--", "true"], 125),
        (&["--restart-on-change", "--", "sh", "-c", "exit 7"], 7),
        (&["--restart-on-change", "--", "sh", "-c", "kill -USR1 $$"], 138),
        (&["--restart-on-change", "--", "/etc/passwd"], 126),
    ] {
        let output = world.run(line).await;
        assert_eq!(output.status.code(), Some(code), "{line:?}: {}", said(&output));
    }
    // What cannot be given whole starts nothing.
    world.write(&[("db.pool.size", "9"), ("ld.preload", "\"x.so\"")]).await;
    let output = world.run(&["--", "echo", "started"]).await;
    let told = said(&output);
    assert_eq!(output.status.code(), Some(125), "{told}");
    assert!(
        told.contains("web/prod/db.pool-size and web/prod/db.pool.size would both be"),
        "{told}"
    );
    assert!(
        told.contains("LD_PRELOAD steers other programs") && !told.contains("started"),
        "{told}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_in_its_page_do_what_they_say() {
    let world = World::new().await;
    let page = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/exec.md");
    let page = std::fs::read_to_string(page).unwrap();
    let block = page.split("```sh\n").nth(1).unwrap().split("```").next().unwrap();
    let script = format!("set -eu\nholm() {{ \"{HOLM}\" \"$@\"; }}\n{block}");
    let mut command = Command::new("sh");
    command.args(["-c", &script]).env("HOLM_TOKEN", &world.site.token);
    command.env("HOLM_URL", format!("http://127.0.0.1:{}", world.site.http[0]));
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let said = out(&output);
    for part in ["web/prod/db.pool-size", "\nGREETING=hello\n", "\nAPP_DB_POOL_SIZE=8\n"] {
        assert!(said.contains(part), "no {part} in {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_given_by_right_alone_and_stand_nowhere_else() {
    let world = World::new().await;
    world.write(&[("auth", "{\"user\": \"web\", \"pw\": {\"$secret\": \"db-password\"}}")]).await;
    let output = world.run(&["--", "true"]).await;
    let told = said(&output);
    assert_eq!(output.status.code(), Some(125), "{told}");
    assert!(
        told.contains("web/prod/auth refers to a secret") && told.contains("--secrets"),
        "{told}"
    );
    let line = ["--secrets", "--secret", "db-password=PW", "--", "env"];
    let seen = out(&world.run(&line).await);
    assert!(seen.contains(&format!("AUTH={{\"user\":\"web\",\"pw\":\"{CANARY}\"}}\n")), "{seen}");
    assert!(
        seen.contains(&format!("\nPW={CANARY}\n")) || seen.starts_with(&format!("PW={CANARY}\n"))
    );

    // Without the right there is no secret, and no program.
    let dir = world.site.dir.path();
    let scopes = ["--scope", "config:read", "--scope", "secrets:read"];
    let poor = holm(dir, &[&["token", "issue", "--subject", "poor"][..], &scopes].concat());
    for line in
        [&line[..], &["--secrets", "--", "env"], &["--secrets", "--restart-on-change", "--", "env"]]
    {
        let output = world.run_as(&poor, line).await;
        let told = said(&output);
        assert_eq!(output.status.code(), Some(125), "{told}");
        assert!(
            told.contains("HTTP 403") && !told.contains(CANARY) && !told.contains("COLOR"),
            "{told}"
        );
    }

    // Neither in the process list nor in what the parent says or was started with.
    let script = "echo up; exec sleep 60";
    let supervised = world.supervise(&["--secrets", "--secret", "db-password"], script);
    supervised.logs("up").await;
    let parent = supervised.process.0.id();
    for file in ["cmdline", "environ"] {
        let bytes = std::fs::read(format!("/proc/{parent}/{file}")).unwrap();
        assert!(!String::from_utf8_lossy(&bytes).contains(CANARY), "{file}");
    }
    let children = format!("/proc/{parent}/task/{parent}/children");
    let child = std::fs::read_to_string(children).unwrap_or_default();
    let child = child.split_whitespace().next().map(str::to_owned);
    if let Some(child) = child {
        let bytes = std::fs::read(format!("/proc/{child}/cmdline")).unwrap();
        assert!(!String::from_utf8_lossy(&bytes).contains(CANARY));
        let bytes = std::fs::read(format!("/proc/{child}/environ")).unwrap();
        assert!(String::from_utf8_lossy(&bytes).contains(CANARY), "the child has it");
    }
    assert!(!supervised.said().contains(CANARY));
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_and_the_exit_code_pass_through_the_supervisor() {
    let world = World::new().await;
    let script = "for it in HUP INT QUIT USR1 USR2; do trap \"echo got $it\" $it; done; \
                  trap 'echo got TERM; exit 9' TERM; echo up; while :; do sleep 0.05; done";
    let mut supervised = world.supervise(&[], script);
    supervised.logs("up").await;
    for (signal, name) in [
        (Signal::HUP, "HUP"),
        (Signal::INT, "INT"),
        (Signal::QUIT, "QUIT"),
        (Signal::USR1, "USR1"),
        (Signal::USR2, "USR2"),
    ] {
        if !is_ignored(signal) {
            supervised.signal(signal);
            supervised.logs(&format!("got {name}")).await;
        }
    }
    supervised.signal(Signal::TERM);
    assert_eq!(supervised.ends().await, Some(9));
    assert!(supervised.log().ends_with("got TERM\n"), "{}", supervised.log());
    // As `nohup` starts it: what was ignored before stays so, for the program, too.
    let line = ["--restart-on-change", "--", "cat", "/proc/self/status"];
    let inner = world.command(&world.site.token, &line);
    let mut nohup = Command::new("sh");
    nohup.args(["-c", "trap '' HUP; exec \"$0\" \"$@\""]).env("HOLM_TOKEN", &world.site.token);
    nohup.arg(inner.get_program()).args(inner.get_args());
    let seen = out(&tokio::task::spawn_blocking(move || nohup.output().unwrap()).await.unwrap());
    assert!(ignores(&seen, Signal::HUP) && !ignores(&seen, Signal::USR1), "{seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_is_started_again_when_what_it_sees_changes_and_only_then() {
    let mut world = World::new().await;
    let script =
        "trap 'echo bye; exit 0' TERM; echo \"up $COLOR $PW\"; while :; do sleep 0.05; done";
    let line = ["--keys", "color", "--secret", "db-password=PW", "--secrets-every", "300ms"];
    let supervised = world.supervise(&line, script);
    supervised.logs(&format!("up blue {CANARY}")).await;
    // What it does not see, and what is written as it was.
    world.write(&[("other", "1"), ("color", "\"blue\"")]).await;
    // A burst: one start.
    for i in 0..10 {
        world.write(&[("color", &format!("\"c{i}\""))]).await;
    }
    supervised.logs("up c9").await;
    let lines = |what: &str| supervised.log().lines().filter(|line| line.starts_with(what)).count();
    assert_eq!((lines("up"), lines("bye")), (2, 1), "{}", supervised.log());
    assert!(supervised.said().contains("COLOR changed: starting again"), "{}", supervised.said());
    // What cannot be given is said, and the program goes on.
    world.write(&[("color.", "1"), ("color-", "2")]).await;
    supervised.says("would both be COLOR_").await;
    assert_eq!(lines("up"), 2, "{}", supervised.log());
    let client = world.site.client(0);
    client.remove(&document("web/prod"), &key("color-")).await.unwrap();
    client.remove(&document("web/prod"), &key("color.")).await.unwrap();
    // The same as before all that: nothing to start for.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(lines("up"), 2, "{}\n{}", supervised.log(), supervised.said());
    // A secret's new version, without any value being said.
    let name = SecretName::new("db-password").unwrap();
    let value = Plaintext::new(b"second-value".to_vec());
    client.put_secret(&name, &value, None, None).await.unwrap();
    supervised.logs("up c9 second-value").await;
    assert!(!supervised.said().contains("second-value") && !supervised.said().contains(CANARY));
    // The node goes and the program stays; the node comes back and changes count again.
    drop(world.nodes[0].take());
    supervised.says("changes are not seen").await;
    assert_eq!(lines("up"), 3, "{}", supervised.log());
    world.nodes[0] = Some(world.site.serve_logged(0));
    eventually("answers again", async || world.site.vector(0).await.is_some()).await;
    world.write(&[("color", "\"back\"")]).await;
    supervised.logs("up back second-value").await;
    assert_eq!((lines("up"), lines("bye")), (4, 3), "{}", supervised.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_does_not_stop_is_killed_and_the_end_during_a_restart_is_the_end() {
    let world = World::new().await;
    let script = "trap 'echo no' TERM INT; echo \"up $COLOR\"; while :; do sleep 0.05; done";
    let mut supervised = world.supervise(&["--stop-timeout", "500ms"], script);
    supervised.logs("up blue").await;
    world.write(&[("color", "\"red\"")]).await;
    supervised.logs("up red").await;
    assert!(supervised.log().contains("no\n"), "{}", supervised.log());
    supervised.says("it is killed").await;
    // Asked to end while it is being stopped: it is not started once more.
    world.write(&[("color", "\"last\"")]).await;
    eventually("is being stopped", async || {
        supervised.said().matches("starting again").count() == 2
    })
    .await;
    supervised.signal(Signal::TERM);
    assert_eq!(supervised.ends().await, Some(137));
    assert!(!supervised.log().contains("up last"), "{}", supervised.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_is_gone_leaves_the_one_that_runs() {
    let world = World::new().await;
    let script = world.site.dir.path().join("server");
    std::fs::write(&script, "#!/bin/sh\necho \"up $COLOR\"\nwhile :; do sleep 0.05; done\n")
        .unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&script, mode).unwrap();
    let (log, err) = (world.site.dir.path().join("log"), world.site.dir.path().join("err"));
    let line = ["--restart-on-change", "--settle", "200ms", "--", "./server"];
    let mut command = world.command(&world.site.token, &line);
    command.stdout(std::fs::File::create(&log).unwrap());
    command.stderr(std::fs::File::create(&err).unwrap());
    let mut supervised = Supervised { process: Process(command.spawn().unwrap()), log, err };
    supervised.logs("up blue").await;
    std::fs::rename(&script, script.with_extension("old")).unwrap();
    world.write(&[("color", "\"red\"")]).await;
    supervised.says("the program goes on with what it had").await;
    assert!(supervised.process.0.try_wait().unwrap().is_none());
    std::fs::rename(script.with_extension("old"), &script).unwrap();
    world.write(&[("color", "\"green\"")]).await;
    supervised.logs("up green").await;
    supervised.signal(Signal::TERM);
    assert_eq!(supervised.ends().await, Some(143));
}

/// A process that another one started, and that ends with the test.
struct Left(Pid);

impl Drop for Left {
    fn drop(&mut self) {
        // Gone already, where all went well.
        let _ = kill_process(self.0, Signal::KILL);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_terminal_an_interrupt_reaches_the_program_once_whoever_sends_it() {
    // util-linux' `script` makes a terminal; without it there is nothing to see here.
    let is_there = |program: &str| Command::new(program).arg("--version").output().is_ok();
    if is_ignored(Signal::INT) || !is_there("script") || !is_there("perl") {
        return;
    }
    let world = World::new().await;
    // Not a shell, which would take two for one while it waits for a command.
    let counts = "$| = 1; for my $it (qw(INT QUIT)) { $SIG{$it} = sub { print \"got $it\\n\" } } \
                  $SIG{TERM} = sub { print \"got TERM\\n\"; exit 4 }; \
                  print \"up $$ \", getppid(), \"\\n\" if -t STDIN; sleep 1 while 1;";
    let file = world.site.dir.path().join("counts");
    std::fs::write(&file, counts).unwrap();
    let url = format!("http://127.0.0.1:{}", world.site.http[0]);
    // In the shell's place, which would end with its own code after the keyboard's interrupt.
    let line = format!(
        "exec {HOLM} exec --service web --env prod --url {url} --restart-on-change -- perl counts"
    );
    let log = world.site.dir.path().join("log");
    let mut child = Command::new("script")
        .args(["-qefc", &line, "/dev/null"])
        .env("HOLM_TOKEN", &world.site.token)
        .env("SHELL", "/bin/sh")
        .current_dir(world.site.dir.path())
        .stdin(Stdio::piped())
        .stdout(std::fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let mut keyboard = child.stdin.take().unwrap();
    let mut supervised = Supervised { process: Process(child), err: log.clone(), log };
    supervised.logs("up").await;
    // `script` would leave both behind.
    let ids = supervised.log();
    let ids = ids.lines().find_map(|line| line.strip_prefix("up ")).unwrap();
    let ids: Vec<Pid> =
        ids.split_whitespace().map(|id| Pid::from_raw(id.parse().unwrap()).unwrap()).collect();
    let [program, holm] = ids[..] else { panic!("{ids:?}") };
    let _left = (Left(holm), Left(program));

    let got = |name: &str| supervised.log().matches(&format!("got {name}")).count();
    // Several times: two signals that come at once can be one.
    for times in 1..=8 {
        std::io::Write::write_all(&mut keyboard, b"\x03").unwrap();
        eventually("the interrupt", async || got("INT") >= times).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(got("INT"), times, "of the keyboard: {}", supervised.log());
    }
    // To `holm` alone, as from another terminal.
    for (signal, name, times) in [(Signal::INT, "INT", 9), (Signal::QUIT, "QUIT", 1)] {
        if !is_ignored(signal) {
            kill_process(holm, signal).unwrap();
            eventually("it is passed on", async || got(name) == times).await;
        }
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(got("INT"), 9, "of a process: {}", supervised.log());
    kill_process(holm, Signal::TERM).unwrap();
    assert_eq!(supervised.ends().await, Some(4), "{}", supervised.log());
    for id in [program, holm] {
        eventually("nothing is left behind", async || test_kill_process(id).is_err()).await;
    }
}
