//! One node of a drill: a `holm serve` in its namespace, as a process that can be killed, stopped,
//! paused, slowed and started again. It judges nothing: a process that ended by itself is told of.

use std::fs::OpenOptions;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::DrillError;
use crate::model::NodeName;

/// How often it is looked whether a process has ended.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// How long a node may take to stop in order before that is an error: its requests' time, and some.
const STOP_TIME_MAX: Duration = Duration::from_secs(20);
/// How long a node may take to pause: a thread in the midst of a write to disk ends that first.
const PAUSE_TIME_MAX: Duration = Duration::from_secs(10);
/// How long a slowed process runs at a time.
const RUN_TIME: Duration = Duration::from_millis(4);

/// A node's process, if it has one. It does not outlive this.
#[derive(Default)]
pub(crate) struct Process {
    running: Option<Running>,
}

struct Running {
    child: Child,
    pid: Pid,
    paused: bool,
    /// Stops and continues the process in turn.
    throttle: Option<JoinHandle<()>>,
}

impl Process {
    /// Starts it; what it logs is put at the end of `log`.
    pub(crate) fn start(
        &mut self,
        node: &NodeName,
        mut command: Command,
        log: &Path,
    ) -> Result<(), DrillError> {
        if self.running.is_some() {
            return Err(failed(node, "it runs already"));
        }
        let opened = OpenOptions::new().create(true).append(true).open(log);
        let log = opened.map_err(|source| DrillError::File { path: log.to_owned(), source })?;
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            // What a terminal sends to this program is not for its nodes.
            .process_group(0)
            .spawn()
            .map_err(|e| failed(node, e.to_string()))?;
        let pid = Pid::from_child(&child);
        self.running = Some(Running { child, pid, paused: false, throttle: None });
        Ok(())
    }

    /// Whether it runs, paused or not.
    pub(crate) fn is_up(&mut self) -> bool {
        self.ended().is_none() && self.running.is_some()
    }

    /// How it ended, if it did so by itself. Until it is started again.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.running.as_mut()?.child.try_wait().ok().flatten()
    }

    /// Ends it without a word (SIGKILL). What it wrote stays written: that needs no fsync as long as
    /// the machine goes on.
    pub(crate) async fn kill(&mut self, node: &NodeName) -> Result<(), DrillError> {
        let Some(mut running) = self.running.take() else { return Ok(()) };
        running.full_speed().await;
        let ended = running.child.kill().and_then(|()| running.child.wait());
        ended.map(|_| ()).map_err(|e| failed(node, e.to_string()))
    }

    /// Stops it in order (SIGTERM), and waits for its end.
    pub(crate) async fn stop(&mut self, node: &NodeName) -> Result<(), DrillError> {
        let Some(mut running) = self.running.take() else { return Ok(()) };
        running.full_speed().await;
        // A paused process would not hear it.
        running.signal(Signal::CONT);
        running.signal(Signal::TERM);
        let deadline = Instant::now() + STOP_TIME_MAX;
        loop {
            match running.child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => return Err(failed(node, format!("stopping: {status}"))),
                Ok(None) if Instant::now() < deadline => sleep(LOOK_EVERY).await,
                Ok(None) => {
                    let _ = running.child.kill();
                    let _ = running.child.wait();
                    let why = format!("did not stop within {STOP_TIME_MAX:?}, and was killed");
                    return Err(failed(node, why));
                }
                Err(error) => return Err(failed(node, error.to_string())),
            }
        }
    }

    /// It does nothing until it is resumed (SIGSTOP), from when this returns on. Its sockets stay
    /// open.
    pub(crate) async fn pause(&mut self, node: &NodeName) -> Result<(), DrillError> {
        let Some(running) = &mut self.running else { return Ok(()) };
        running.full_speed().await;
        running.signal(Signal::STOP);
        running.paused = true;
        // The signal is sent, but each of its threads stops when it gets there.
        let deadline = Instant::now() + PAUSE_TIME_MAX;
        let look = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        while !matches!(waitid(WaitId::Pid(running.pid), look), Ok(Some(_))) {
            if running.child.try_wait().is_ok_and(|ended| ended.is_some()) {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(failed(node, format!("did not pause within {PAUSE_TIME_MAX:?}")));
            }
            sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }

    /// It goes on.
    pub(crate) fn resume(&mut self) {
        if let Some(running) = &mut self.running {
            running.signal(Signal::CONT);
            running.paused = false;
        }
    }

    /// Whether it is paused.
    pub(crate) fn is_paused(&self) -> bool {
        self.running.as_ref().is_some_and(|running| running.paused)
    }

    /// It runs one part in `factor` of the time, until [`Process::full_speed`].
    pub(crate) async fn slow(&mut self, factor: u32) {
        let Some(running) = &mut self.running else { return };
        running.full_speed().await;
        if factor > 1 {
            running.throttle = Some(tokio::spawn(throttle(running.pid, factor)));
        }
    }

    /// It runs all the time again.
    pub(crate) async fn full_speed(&mut self) {
        if let Some(running) = &mut self.running {
            running.full_speed().await;
        }
    }
}

impl Running {
    /// The process is not waited for before this is dropped: its id is nobody else's.
    fn signal(&self, signal: Signal) {
        // It may have ended.
        let _ = kill_process(self.pid, signal);
    }

    async fn full_speed(&mut self) {
        let Some(throttle) = self.throttle.take() else { return };
        throttle.abort();
        // Until it has really ended: it may be about to send a signal.
        let _ = throttle.await;
        self.signal(Signal::CONT);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(throttle) = self.throttle.take() {
            throttle.abort();
        }
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn throttle(pid: Pid, factor: u32) {
    loop {
        // An error means that it has ended.
        if kill_process(pid, Signal::STOP).is_err() {
            return;
        }
        sleep(RUN_TIME * (factor - 1)).await;
        if kill_process(pid, Signal::CONT).is_err() {
            return;
        }
        sleep(RUN_TIME).await;
    }
}

fn failed(node: &NodeName, why: impl Into<String>) -> DrillError {
    DrillError::Node { node: node.clone(), why: why.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(process: &Process) -> char {
        let pid = process.running.as_ref().unwrap().pid.as_raw_nonzero();
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.rsplit_once(") ").unwrap().1.chars().next().unwrap()
    }

    fn sleeper(seconds: &str) -> (Process, NodeName, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let node = NodeName::new("a-1").unwrap();
        let mut process = Process::default();
        let mut command = Command::new("sleep");
        command.arg(seconds);
        process.start(&node, command, &dir.path().join("log")).unwrap();
        (process, node, dir)
    }

    #[tokio::test]
    async fn a_process_is_paused_resumed_and_killed() {
        let (mut process, node, dir) = sleeper("60");
        assert!(process.is_up());
        let again = process.start(&node, Command::new("sleep"), &dir.path().join("log"));
        assert!(again.is_err(), "one at a time");
        process.pause(&node).await.unwrap();
        assert_eq!((state(&process), process.is_paused()), ('T', true));
        process.resume();
        assert_ne!(state(&process), 'T');
        process.pause(&node).await.unwrap();
        process.kill(&node).await.unwrap();
        assert!(!process.is_up());
    }

    #[tokio::test]
    async fn a_process_that_ended_by_itself_is_not_up_and_says_how() {
        let (mut process, node, _dir) = sleeper("no-time");
        while process.is_up() {
            sleep(LOOK_EVERY).await;
        }
        assert_eq!(process.ended().unwrap().code(), Some(1));
        process.kill(&node).await.unwrap();
        assert_eq!(process.ended(), None);
    }

    #[tokio::test]
    async fn a_slow_process_is_stopped_most_of_the_time_until_it_has_full_speed() {
        let (mut process, node, _dir) = sleeper("60");
        process.slow(10).await;
        let mut stopped = 0;
        for _ in 0..100 {
            sleep(Duration::from_millis(3)).await;
            stopped += u32::from(state(&process) == 'T');
        }
        assert!(stopped > 50, "{stopped} of 100");
        process.full_speed().await;
        for _ in 0..50 {
            assert_ne!(state(&process), 'T');
            sleep(Duration::from_millis(1)).await;
        }
        process.kill(&node).await.unwrap();
    }

    #[tokio::test]
    async fn a_process_that_is_paused_hears_that_it_has_to_stop() {
        let (mut process, node, _dir) = sleeper("60");
        process.pause(&node).await.unwrap();
        // `sleep` knows no order: it ends by the signal, which is told.
        let error = process.stop(&node).await.unwrap_err().to_string();
        assert!(error.contains("signal: 15"), "{error}");
    }
}
