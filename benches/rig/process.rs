//! The servers that are measured, each a process of its own. A process that was started here ends
//! with its handle.

use std::io::{BufRead as _, BufReader, Result};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Longest a server may take to answer after its start.
const START_TIME_MAX: Duration = Duration::from_secs(30);

/// A child process, killed when it is dropped.
pub(crate) struct Process(Child);

impl Process {
    /// Starts it, with a pipe to its input and from its output.
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map(Self)
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    /// Asks it to end (SIGTERM), and waits until it has.
    pub(crate) fn stop(&mut self) -> anyhow::Result<()> {
        kill_process(Pid::from_child(&self.0), Signal::TERM)?;
        let status = self.0.wait()?;
        anyhow::ensure!(status.success(), "it ended with {status}");
        Ok(())
    }

    /// The same, whatever it says when it has.
    pub(crate) fn end(&mut self) {
        // It may have ended already.
        let _ = kill_process(Pid::from_child(&self.0), Signal::TERM);
        let _ = self.0.wait();
    }

    /// Ends it at once.
    pub(crate) fn kill(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }

    /// Reads its output until `find` finds something in a line, and throws away the rest. None
    /// where it ends before.
    pub(crate) fn await_line<T>(&mut self, mut find: impl FnMut(&str) -> Option<T>) -> Option<T> {
        let mut lines = BufReader::new(self.0.stdout.take()?).lines();
        let found = lines.by_ref().map_while(Result::ok).find_map(|line| find(&line));
        std::thread::spawn(move || lines.for_each(drop));
        found
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// An address on loopback that was free a moment ago.
pub(crate) fn free_address() -> Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}

/// The same for UDP.
pub(crate) fn free_udp_address() -> Result<SocketAddr> {
    UdpSocket::bind("127.0.0.1:0")?.local_addr()
}

/// Waits until something accepts connections there.
pub(crate) fn await_listening(addr: SocketAddr) -> bool {
    let start = Instant::now();
    while start.elapsed() < START_TIME_MAX {
        if std::net::TcpStream::connect_timeout(&addr, Duration::from_secs(1)).is_ok() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}
