//! The files that a drill's nodes start with: topology, settings, certificates, the key that tokens
//! are signed with, two generations of the master key, and a directory for each node's data. What is
//! used is what `holm pki`, `holm token` and `holm keys` use. All of it is thrown away at the end.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::net::Ipv4Addr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rand::Rng as _;
use serde_json::json;

use super::DrillError;
use crate::access::mint::{Claims, MintKey};
use crate::env::{Entropy, SystemClock, WallClock};
use crate::model::{NodeName, Stamp};
use crate::secrets::keyring;
use crate::server::founding::CREDENTIAL_FILE;
use crate::settings::Settings;
use crate::topology::Topology;
use crate::transport::{Authority, NODE_VALID};

/// Where every node speaks QUIC, each on an address of its own.
pub(crate) const PEER_PORT: u16 = 9_100;
/// Where every node answers HTTP.
pub(crate) const HTTP_PORT: u16 = 8_100;
/// Whom tokens are meant for.
const AUDIENCE: &str = "holm";
/// How long the drill's tokens hold.
const TOKEN_TTL: Duration = Duration::from_secs(24 * 3600);
/// How large a small disk is, in bytes. It is made of memory.
pub(crate) const SMALL_DISK_LEN: u64 = 64 * 1024 * 1024;
/// What takes all room on a small disk.
const FILLER: &str = "filler";
/// Generations of the master key that every node has; a new cluster uses the first.
const GENERATIONS: u32 = 2;

/// The files of one drill.
pub(crate) struct Site {
    dir: PathBuf,
    authority: Authority,
    key: MintKey,
}

impl Site {
    /// Makes `dir`, which may not exist yet, and all that is in it. `ips` has an address for the
    /// other nodes and one for clients, for each node in the topology's order.
    pub(crate) fn create(
        dir: PathBuf,
        topology: &Topology,
        settings: &str,
        ips: impl Fn(usize) -> (Ipv4Addr, Ipv4Addr),
    ) -> Result<Self, DrillError> {
        let entropy = Entropy::system();
        make_dir(&dir)?;
        for name in ["pki", "data", "copies", "logs"] {
            make_dir(&dir.join(name))?;
        }
        let authority = Authority::create(&entropy, &SystemClock)?;
        authority.save(&dir.join("pki"))?;
        let seed: [u8; 32] = entropy.stream("token-key").random();
        let key = MintKey::from_seed(&seed)?;
        for generation in 1..=GENERATIONS {
            let text = keyring::generate(&mut entropy.stream("master-key"));
            write(&dir.join(format!("master-{generation}.key")), text.as_bytes(), 0o600)?;
        }
        let settings = settings_text(settings, &key, &dir).map_err(DrillError::Settings)?;
        write(&dir.join("holm.toml"), settings.as_bytes(), 0o644)?;
        let topology_text = topology_text(topology, ips).map_err(DrillError::Settings)?;
        write(&dir.join("topology.toml"), topology_text.as_bytes(), 0o644)?;
        let site = Self { dir, authority, key };
        for node in topology.nodes() {
            site.certify(&node.name, true)?;
        }
        Ok(site)
    }

    /// The arguments of `holm` that start a node.
    pub(crate) fn arguments(&self, node: &NodeName) -> Vec<std::ffi::OsString> {
        let mut arguments = vec!["serve".into(), "--node".into(), node.as_str().into()];
        for (option, path) in [
            ("--topology", self.dir.join("topology.toml")),
            ("--settings", self.dir.join("holm.toml")),
            ("--pki", self.dir.join("pki")),
            ("--data", self.data(node)),
        ] {
            arguments.extend([option.into(), path.into_os_string()]);
        }
        arguments
    }

    /// Where a node's stores lie.
    pub(crate) fn data(&self, node: &NodeName) -> PathBuf {
        self.dir.join("data").join(node.as_str())
    }

    /// What a node wrote to stderr, over all its starts.
    pub(crate) fn log(&self, node: &NodeName) -> PathBuf {
        self.dir.join("logs").join(format!("{node}.log"))
    }

    /// Where the first administrator's credential lies, on whichever node founded the cluster.
    pub(crate) fn credential(&self, node: &NodeName) -> PathBuf {
        self.data(node).join(CREDENTIAL_FILE)
    }

    /// Gives a node a new certificate, which is valid or has expired.
    pub(crate) fn certify(&self, node: &NodeName, valid: bool) -> Result<(), DrillError> {
        let pki = self.dir.join("pki");
        for kind in ["pem", "key"] {
            remove(&pki.join(format!("{node}.{kind}")))?;
        }
        let entropy = Entropy::system();
        let identity = if valid {
            self.authority.issue(node, &entropy, &SystemClock)?
        } else {
            self.authority.issue(node, &entropy, &LongAgo)?
        };
        Ok(identity.save(&pki, node.as_str())?)
    }

    /// Signs a token for someone with these roles and scopes.
    pub(crate) fn token(
        &self,
        subject: &str,
        roles: &[&str],
        scope: &str,
    ) -> Result<String, DrillError> {
        let now = SystemClock.now().0 / 1_000_000;
        let claims = Claims {
            sub: subject.to_owned(),
            aud: AUDIENCE.to_owned(),
            scope: scope.to_owned(),
            roles: roles.iter().map(|&role| role.to_owned()).collect(),
            iat: now,
            exp: now + TOKEN_TTL.as_secs(),
            ..Claims::default()
        };
        Ok(self.key.sign(&claims)?)
    }

    /// Gives a node that has no data yet a file system of its own for it, a small one.
    pub(crate) fn make_disk_small(&self, node: &NodeName) -> Result<(), DrillError> {
        let data = self.data(node);
        make_dir(&data)?;
        let options = format!("size={SMALL_DISK_LEN},mode=0700");
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &options, "holm-drill"]).arg(&data);
        let output = command.output();
        let said = match output {
            Ok(output) if output.status.success() => return Ok(()),
            Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            Err(error) => error.to_string(),
        };
        Err(DrillError::Command { command: format!("{command:?}"), said })
    }

    /// Takes all room that is left on a node's small disk.
    pub(crate) fn fill_disk(&self, node: &NodeName) -> Result<(), DrillError> {
        let path = self.data(node).join(FILLER);
        let failed = |source| DrillError::File { path: path.clone(), source };
        let mut options = OpenOptions::new();
        let mut file = options.create(true).append(true).open(&path).map_err(failed)?;
        // In large pieces, and then what is left in small ones. Never more than the disk has: on
        // another one this would fill the machine's.
        for (piece, times) in [(vec![0; 65_536], SMALL_DISK_LEN / 65_536), (vec![0; 512], 256)] {
            for _ in 0..times {
                match file.write_all(&piece) {
                    Ok(()) => {}
                    Err(error) if error.kind() == io::ErrorKind::StorageFull => break,
                    Err(error) => return Err(failed(error)),
                }
            }
        }
        match file.write_all(&[0; 4_096]) {
            Err(error) if error.kind() == io::ErrorKind::StorageFull => Ok(()),
            Err(error) => Err(failed(error)),
            Ok(()) => {
                remove(&path)?;
                Err(failed(io::Error::other("this node's disk is no small one")))
            }
        }
    }

    /// Gives that room back.
    pub(crate) fn free_disk(&self, node: &NodeName) -> Result<(), DrillError> {
        remove(&self.data(node).join(FILLER))
    }

    /// Keeps a copy of a node's data, in place of an earlier one. The node may not write meanwhile.
    pub(crate) fn keep_copy(&self, node: &NodeName) -> Result<(), DrillError> {
        let copy = self.dir.join("copies").join(node.as_str());
        remove(&copy)?;
        copy_dir(&self.data(node), &copy)
    }

    /// Puts the copy that was kept back in place of the node's data. The copy is kept.
    pub(crate) fn put_copy_back(&self, node: &NodeName) -> Result<(), DrillError> {
        let copy = self.dir.join("copies").join(node.as_str());
        if !copy.exists() {
            let source = io::ErrorKind::NotFound.into();
            return Err(DrillError::File { path: copy, source });
        }
        self.wipe(node)?;
        copy_dir(&copy, &self.data(node))
    }

    /// Removes a node's data. The directory stays: it may be a file system.
    pub(crate) fn wipe(&self, node: &NodeName) -> Result<(), DrillError> {
        let data = self.data(node);
        let failed = |source| DrillError::File { path: data.clone(), source };
        match fs::read_dir(&data) {
            Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(failed(source)),
            Ok(entries) => {
                entries.into_iter().try_for_each(|entry| remove(&entry.map_err(failed)?.path()))
            }
        }
    }

    /// The size of a node's databases, in bytes.
    pub(crate) fn disk_bytes(&self, node: &NodeName) -> u64 {
        let Ok(entries) = fs::read_dir(self.data(node)) else { return 0 };
        let databases = entries.flatten().filter(|entry| {
            Path::new(&entry.file_name()).extension().is_some_and(|kind| kind == "redb")
        });
        databases.filter_map(|entry| entry.metadata().ok()).map(|it| it.len()).sum()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // What is left over is removed by the next run that has the number.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// A clock so far back that a certificate issued by it has expired.
struct LongAgo;

impl WallClock for LongAgo {
    fn now(&self) -> Stamp {
        let back = NODE_VALID + Duration::from_secs(3600);
        Stamp(SystemClock.now().0.saturating_sub(back.as_micros() as u64))
    }
}

/// The scenario's settings, and the keys that all nodes of the drill have in common.
fn settings_text(settings: &str, key: &MintKey, dir: &Path) -> Result<String, String> {
    let mut table: toml::Table = toml::from_str(settings).map_err(|e| e.to_string())?;
    let access = json!({
        "pem": key.public_pem(),
        "algorithms": ["EdDSA"],
        "audience": AUDIENCE,
        "scopes": "grant",
    });
    let master_keys: Vec<_> = (1..=GENERATIONS)
        .map(|generation| {
            let file = dir.join(format!("master-{generation}.key"));
            json!({"generation": generation, "file": file.to_string_lossy()})
        })
        .collect();
    for (section, field, value) in
        [("access", "keys", json!([access])), ("secrets", "master_keys", json!(master_keys))]
    {
        let section_table = table.entry(section).or_insert_with(|| toml::Table::new().into());
        let section_table = section_table.as_table_mut();
        let value = toml::Value::try_from(value).map_err(|e| e.to_string())?;
        section_table.ok_or_else(|| format!("{section} is no table"))?.insert(field.into(), value);
    }
    let text = toml::to_string(&table).map_err(|e| e.to_string())?;
    Settings::from_toml(&text).map_err(|e| e.to_string())?;
    Ok(text)
}

/// The same topology, at the addresses of the namespaces.
fn topology_text(
    topology: &Topology,
    ips: impl Fn(usize) -> (Ipv4Addr, Ipv4Addr),
) -> Result<String, String> {
    let nodes: Vec<_> = topology
        .nodes()
        .iter()
        .enumerate()
        .map(|(i, node)| {
            let (peer, http) = ips(i);
            let text = json!({
                "name": node.name,
                "peer": format!("{peer}:{PEER_PORT}"),
                "http": format!("{http}:{HTTP_PORT}"),
            });
            (&node.region, text)
        })
        .collect();
    let regions = topology.regions().iter().map(|region| {
        let nodes = nodes.iter().filter(|(of, _)| **of == region.name).map(|(_, node)| node);
        json!({
            "name": region.name,
            "place": region.place,
            "voters": region.voters,
            "nodes": nodes.collect::<Vec<_>>(),
        })
    });
    let regions: Vec<_> = regions.collect();
    let names: Vec<_> = topology.region_names().into_iter().collect();
    let mut links = Vec::new();
    for (i, a) in names.iter().enumerate() {
        for b in &names[i + 1..] {
            links.push(json!({"between": [a, b], "rtt_ms": topology.rtt(a, b).as_millis()}));
        }
    }
    let within = names.first().map(|name| topology.rtt(name, name).as_millis());
    let file = json!({
        "cluster": topology.cluster,
        "rtt_ms_within": within.unwrap_or_default(),
        "regions": regions,
        "links": links,
    });
    toml::to_string(&file).map_err(|e| e.to_string())
}

fn make_dir(dir: &Path) -> Result<(), DrillError> {
    let made = DirBuilder::new().mode(0o700).create(dir);
    made.map_err(|source| DrillError::File { path: dir.to_owned(), source })
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), DrillError> {
    let mut options = OpenOptions::new();
    let opened = options.create_new(true).write(true).mode(mode).open(path);
    opened
        .and_then(|mut file| file.write_all(bytes))
        .map_err(|source| DrillError::File { path: path.to_owned(), source })
}

/// Removes a file or a directory; nothing where there is none.
fn remove(path: &Path) -> Result<(), DrillError> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(DrillError::File { path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

fn copy_dir(from: &Path, to: &Path) -> Result<(), DrillError> {
    if !to.exists() {
        make_dir(to)?;
    }
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| DrillError::File { path, source }
    };
    for entry in fs::read_dir(from).map_err(failed(from))? {
        let entry = entry.map_err(failed(from))?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_name() == FILLER {
            continue;
        }
        if source.is_dir() {
            copy_dir(&source, &target)?;
        } else {
            fs::copy(&source, &target).map_err(failed(&source))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
