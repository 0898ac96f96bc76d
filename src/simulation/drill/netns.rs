//! One network namespace for each node, each with two devices: `wan`, a TUN device whose other end
//! the emulator holds, for the other nodes; and `lan`, one end of a veth pair, for clients on this
//! machine. There is no other route: a node's packets to another node pass the emulator or nothing.
//!
//! A TUN device is made in this process's own namespace and then moved; the open end stays here. So
//! one process carries all packets, without helpers inside the namespaces, and with the calls of
//! `ip` and a crate for TUN alone, neither of which needs unsafe code here.
//!
//! Everything carries the number of a block, which a run holds by a file lock. The kernel lets go of
//! the lock however a run ends, so that whoever holds a block's lock knows that what is left of it
//! is nobody's: process ids, which are used again, say nothing.

use std::fs::{DirBuilder, File, TryLockError};
use std::io::{self, Write as _};
use std::net::Ipv4Addr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, geteuid, kill_process};

use super::DrillError;
use super::tun::Device;

/// Most drills at once on one machine.
const BLOCKS_MAX: usize = 64;
/// Most nodes in one drill.
pub(crate) const NODES_MAX: usize = crate::topology::NODES_MAX;
/// Where the locks lie: for root alone, and gone with the machine's next start.
const LOCK_DIR: &str = "/run/holm-drill";

/// Where node `i` speaks with the others. These addresses are inside the namespaces alone.
pub(crate) fn wan_ip(i: usize) -> Ipv4Addr {
    let [.., high, low] = (i + 1).to_be_bytes();
    Ipv4Addr::new(10, 73, high, low)
}

/// Which node has this address.
pub(crate) fn node_at(ip: Ipv4Addr) -> Option<usize> {
    let [10, 73, high, low] = ip.octets() else { return None };
    (usize::from(high) << 8 | usize::from(low)).checked_sub(1)
}

/// The ends of node `i`'s pair of addresses for clients: this machine's, and the node's. They are of
/// the network that RFC 2544 keeps for measuring, so that no other network has them.
fn lan_ips(block: usize, i: usize) -> (Ipv4Addr, Ipv4Addr) {
    let first = u32::from(Ipv4Addr::new(198, 18, 0, 0)) + (2 * (block * NODES_MAX + i)) as u32;
    (first.into(), (first + 1).into())
}

/// The namespaces of one drill. They are gone when this is dropped.
pub(crate) struct Namespaces {
    block: usize,
    /// Held as long as they are.
    _lock: File,
}

impl Namespaces {
    /// A number that no other run has, free of what an earlier one left behind. What other runs left
    /// that are no more is removed, too.
    pub(crate) fn claim() -> Result<Self, DrillError> {
        check_machine()?;
        let dir = Path::new(LOCK_DIR);
        let failed = |source| DrillError::File { path: dir.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
        let mut claimed = None;
        for block in 0..BLOCKS_MAX {
            let path = dir.join(format!("{block}.lock"));
            if claimed.is_some() && !path.exists() {
                continue;
            }
            let Some(lock) = lock(&path)? else { continue };
            clear(block)?;
            if claimed.is_none() {
                claimed = Some(Self { block, _lock: lock });
            }
        }
        let needs = || DrillError::Needs {
            what: format!("{BLOCKS_MAX} drills run on this machine already"),
            how: "wait for one of them to end".to_owned(),
        };
        claimed.ok_or_else(needs)
    }

    /// Makes node `i`'s namespace, and gives the emulator's end of its network.
    pub(crate) fn add(&self, i: usize) -> Result<Device, DrillError> {
        let (block, name) = (self.block, self.name(i));
        let (host_ip, node_ip) = lan_ips(block, i);
        let (tun, veth) = (format!("hd{block}t{i}"), veth(block, i));
        let made = Device::create(&tun);
        let device = made.map_err(|source| DrillError::Device { name: tun.clone(), source })?;
        // The peer's name is its own namespace's: it is made there.
        let outside = format!(
            "netns add {name}\n\
             link set {tun} netns {name} name wan\n\
             link add {veth} type veth peer name lan netns {name}\n\
             addr add {host_ip}/31 dev {veth}\n\
             link set {veth} up\n"
        );
        batch(&["-batch", "-"], &outside)?;
        let inside = format!(
            "link set lo up\n\
             addr add {}/16 dev wan\n\
             link set wan up\n\
             addr add {node_ip}/31 dev lan\n\
             link set lan up\n",
            wan_ip(i)
        );
        batch(&["-n", &name, "-batch", "-"], &inside)?;
        Ok(device)
    }

    /// Node `i`'s namespace, as `ip netns` knows it.
    pub(crate) fn name(&self, i: usize) -> String {
        format!("{}{i}", prefix(self.block))
    }

    /// Where clients on this machine reach node `i`.
    pub(crate) fn lan_ip(&self, i: usize) -> Ipv4Addr {
        lan_ips(self.block, i).1
    }

    /// A command that runs in node `i`'s namespace. Its process is the program's own.
    pub(crate) fn command(&self, i: usize, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name(i)]).arg(program);
        command
    }

    /// Where this run keeps its files. Nothing is there yet.
    pub(crate) fn dir(&self) -> PathBuf {
        dir(self.block)
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        // What is left over is removed by the next run that has the number.
        let _ = clear(self.block);
    }
}

fn prefix(block: usize) -> String {
    format!("holm-drill-{block}-")
}

fn veth(block: usize, i: usize) -> String {
    format!("hd{block}v{i}")
}

fn dir(block: usize) -> PathBuf {
    std::env::temp_dir().join(format!("holm-drill-{block}"))
}

/// None where another run has it.
fn lock(path: &Path) -> Result<Option<File>, DrillError> {
    let failed = |source| DrillError::File { path: path.to_owned(), source };
    let mut options = File::options();
    let file = options.create(true).truncate(false).write(true).open(path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// Removes all that carries the number of a block, whose lock the caller has: processes first, which
/// would go on in a namespace without a name.
fn clear(block: usize) -> Result<(), DrillError> {
    let list = ip(&["netns", "list"])?;
    let names = list.lines().filter_map(|line| line.split(' ').next());
    for name in names.filter(|name| name.starts_with(&prefix(block))) {
        for pid in ip(&["netns", "pids", name])?.lines() {
            if let Some(pid) = pid.trim().parse().ok().and_then(Pid::from_raw) {
                // It may have ended meanwhile.
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        if let Some(i) = name.strip_prefix(&prefix(block)) {
            // Goes with the namespace, but later. It may never have been made.
            let _ = ip(&["link", "del", &format!("hd{block}v{i}")]);
        }
        ip(&["netns", "del", name])?;
    }
    let dir = dir(block);
    unmount_below(&dir)?;
    match std::fs::remove_dir_all(&dir) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(DrillError::File { path: dir, source })
        }
        _ => Ok(()),
    }
}

/// Small disks have a file system of their own.
fn unmount_below(dir: &Path) -> Result<(), DrillError> {
    let mounts = Path::new("/proc/self/mounts");
    let failed = |source| DrillError::File { path: mounts.to_owned(), source };
    let mounts = std::fs::read_to_string(mounts).map_err(failed)?;
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    for point in points.filter(|point| Path::new(point).starts_with(dir)) {
        let output = Command::new("umount").arg(point).output();
        let said = match output {
            Ok(output) if output.status.success() => continue,
            Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            Err(error) => error.to_string(),
        };
        return Err(DrillError::Command { command: format!("umount {point}"), said });
    }
    Ok(())
}

fn check_machine() -> Result<(), DrillError> {
    let needs = |what: &str, how: &str| {
        Err(DrillError::Needs { what: what.to_owned(), how: how.to_owned() })
    };
    if !cfg!(target_os = "linux") {
        return needs("a drill needs network namespaces, which Linux alone has", "run it there");
    }
    if !geteuid().is_root() {
        return needs("a drill needs root, to make network namespaces", "run it with sudo");
    }
    if !Path::new("/dev/net/tun").exists() {
        let how = "load the module (`modprobe tun`), or give the container the device";
        return needs("a drill needs /dev/net/tun, and there is none", how);
    }
    match Command::new("ip").arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status() {
        Ok(status) if status.success() => Ok(()),
        _ => needs("a drill needs the program `ip`", "install iproute2"),
    }
}

fn ip(arguments: &[&str]) -> Result<String, DrillError> {
    run(arguments, "")
}

fn batch(arguments: &[&str], lines: &str) -> Result<(), DrillError> {
    run(arguments, lines).map(|_| ())
}

/// Runs `ip` to its end. Takes some milliseconds.
fn run(arguments: &[&str], input: &str) -> Result<String, DrillError> {
    let command = || format!("ip {}", arguments.join(" "));
    let started = Command::new("ip")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let output = started.and_then(|mut child| {
        if let Some(mut stdin) = child.stdin.take() {
            // A program that ended early says why itself.
            let _ = stdin.write_all(input.as_bytes());
        }
        child.wait_with_output()
    });
    match output {
        Ok(output) if output.status.success() => {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        }
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            Err(DrillError::Command { command: command(), said })
        }
        Err(error) => Err(DrillError::Command { command: command(), said: error.to_string() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_node_has_addresses_of_its_own() {
        for i in 0..NODES_MAX {
            assert_eq!(node_at(wan_ip(i)), Some(i));
        }
        assert_eq!(wan_ip(0), Ipv4Addr::new(10, 73, 0, 1));
        assert_eq!(wan_ip(NODES_MAX - 1), Ipv4Addr::new(10, 73, 1, 0));
        assert_eq!(node_at(Ipv4Addr::new(10, 73, 0, 0)), None);
        assert_eq!(node_at(Ipv4Addr::new(10, 74, 0, 1)), None);
    }

    #[test]
    fn no_two_drills_have_an_address_in_common_and_all_are_of_the_measuring_network() {
        assert_eq!(lan_ips(0, 0).1, Ipv4Addr::new(198, 18, 0, 1));
        assert_eq!(lan_ips(0, NODES_MAX - 1).1, Ipv4Addr::new(198, 18, 1, 255));
        assert_eq!(lan_ips(1, 0).0, Ipv4Addr::new(198, 18, 2, 0));
        let last = lan_ips(BLOCKS_MAX - 1, NODES_MAX - 1).1;
        assert_eq!(last, Ipv4Addr::new(198, 18, 127, 255));
    }

    #[test]
    fn names_of_devices_are_as_short_as_the_kernel_wants_them() {
        assert!(veth(BLOCKS_MAX - 1, NODES_MAX - 1).len() <= 15);
    }
}
