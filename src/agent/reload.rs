//! The command that tells a program of a new file. It is started without a shell, in a process group of
//! its own that ends with its time, and says why it failed. What it prints is kept in part, and only to
//! be told.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};
use tokio::time::{Instant, timeout, timeout_at};

/// How long what a command printed is waited for after its end: its children can hold the pipes.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// A command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reload {
    pub(super) argv: Vec<String>,
    pub(super) within: Duration,
    /// How much of its output is kept, in bytes.
    pub(super) output_max: usize,
    /// Variables that it does not get: what is in them is the agent's.
    pub(super) hidden: Vec<String>,
}

/// Why a command did not do it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ReloadError {
    #[error("`{program}` does not start: {reason}")]
    Start { program: String, reason: String },
    #[error("`{program}` did not end within {within:?} and was killed{}", said(output))]
    TooSlow { program: String, within: Duration, output: String },
    #[error("`{program}` failed ({status}){}", said(output))]
    Failed { program: String, status: String, output: String },
}

fn said(output: &str) -> String {
    if output.is_empty() { String::new() } else { format!("; it said: {output}") }
}

impl Reload {
    /// Runs it to its end.
    pub(super) async fn run(&self) -> Result<(), ReloadError> {
        let [program, arguments @ ..] = &self.argv[..] else { return Ok(()) };
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.kill_on_drop(true).process_group(0);
        for name in &self.hidden {
            command.env_remove(name);
        }
        let program = program.clone();
        let mut child = start(&mut command)
            .map_err(|e| ReloadError::Start { program: program.clone(), reason: e.to_string() })?;
        let deadline = Instant::now() + self.within;
        let pipes = (child.stdout.take(), child.stderr.take());
        let kept = self.output_max / 2;
        let out = tokio::spawn(async move { keep(pipes.0, kept).await });
        let err = tokio::spawn(async move { keep(pipes.1, kept).await });
        let ended = timeout_at(deadline, child.wait()).await;
        if ended.is_err() {
            kill_group(&child);
            // It is killed: what is waited for is its entry among the processes.
            let _ = timeout(LAST_WORDS, child.wait()).await;
        }
        let words = async {
            let (out, err) = tokio::join!(out, err);
            [out.unwrap_or_default(), err.unwrap_or_default()].join("")
        };
        let output = timeout(LAST_WORDS, words).await.unwrap_or_default();
        let output = output.split_whitespace().collect::<Vec<_>>().join(" ");
        match ended {
            Err(_) => Err(ReloadError::TooSlow { program, within: self.within, output }),
            Ok(Err(e)) => Err(ReloadError::Start { program, reason: e.to_string() }),
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => {
                Err(ReloadError::Failed { program, status: status.to_string(), output })
            }
        }
    }
}

/// Starts it, without the agent's wish for small pages, which it would inherit.
fn start(command: &mut Command) -> std::io::Result<Child> {
    #[cfg(target_os = "linux")]
    {
        use rustix::thread::{
            disable_transparent_huge_pages as disable, transparent_huge_pages_are_disabled,
        };
        if transparent_huge_pages_are_disabled().unwrap_or(false) {
            disable(false)?;
            let child = command.spawn();
            disable(true)?;
            return child;
        }
    }
    command.spawn()
}

/// Reads to the end, and keeps the beginning.
async fn keep(pipe: Option<impl AsyncRead + Unpin>, max: usize) -> String {
    let Some(mut pipe) = pipe else { return String::new() };
    let (mut kept, mut chunk) = (Vec::new(), [0; 4096]);
    while let Ok(len @ 1..) = pipe.read(&mut chunk).await {
        let room = max.saturating_sub(kept.len()).min(len);
        kept.extend_from_slice(&chunk[..room]);
    }
    String::from_utf8_lossy(&kept).into_owned()
}

fn kill_group(child: &Child) {
    use rustix::process::{Pid, Signal, kill_process_group};
    let id = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    if let Some(id) = id {
        // It can have ended in this moment.
        let _ = kill_process_group(id, Signal::KILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reload(argv: &[&str]) -> Reload {
        Reload {
            argv: argv.iter().map(|&it| it.to_owned()).collect(),
            within: Duration::from_millis(300),
            output_max: 40,
            hidden: vec!["HOME".to_owned()],
        }
    }

    #[tokio::test]
    async fn a_command_that_fails_or_does_not_start_says_why() {
        assert_eq!(reload(&["true"]).run().await, Ok(()));
        let error = reload(&["/no/such/program"]).run().await.unwrap_err().to_string();
        assert!(error.contains("/no/such/program") && error.contains("does not start"), "{error}");
        let error =
            reload(&["sh", "-c", "echo why; echo not >&2; exit 3"]).run().await.unwrap_err();
        assert!(matches!(&error, ReloadError::Failed { output, .. } if output == "why not"));
        assert!(error.to_string().contains("exit status: 3"), "{error}");
        assert_eq!(reload(&["sh", "-c", "test -z \"$HOME\""]).run().await, Ok(()));
    }

    #[tokio::test]
    async fn a_command_that_does_not_end_is_killed_with_all_it_started() {
        let dir = tempfile::tempdir().unwrap();
        let mark = dir.path().join("mark");
        let script = format!("(sleep 1; touch {}) & sleep 60", mark.display());
        let begun = Instant::now();
        let error = reload(&["sh", "-c", &script]).run().await.unwrap_err();
        assert!(matches!(error, ReloadError::TooSlow { .. }), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(1500)).await;
        assert!(!mark.exists(), "what it started is gone, too");
    }

    #[tokio::test]
    async fn much_output_is_read_and_little_kept() {
        let script = "head -c 1000000 /dev/zero | tr '\\0' x; exit 1";
        let mut slow = reload(&["sh", "-c", script]);
        slow.within = Duration::from_secs(20);
        let ReloadError::Failed { output, .. } = slow.run().await.unwrap_err() else { panic!() };
        assert_eq!(output.len(), 20);
    }
}
