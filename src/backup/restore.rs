//! Making stores of a backup again. They are made beside where they belong, opened, and checked
//! along both audit chains; only then are they moved. A store that is there is never touched.
//!
//! To the rules for old copies a restored store is one: it makes its changes under a new origin,
//! and what it has of the quorum does not vote, unless it is made the only voter of a new cluster.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use super::file::{self, FileError};
use super::format::{Chunk, Manifest};
use super::{CONFIG, QUORUM, tables_of};
use crate::audit::verify::{Report, verify};
use crate::audit::{Decision, Event, Source};
use crate::env::{Disk, Entropy, FileDisk};
use crate::model::{NodeName, RegionName, Stamp};
use crate::quorum::STORE_FORMAT;
use crate::quorum::store::recover::{self, RecoverError, Recovered};
use crate::quorum::store::{QuorumChain, StoreSettings, copy as quorum};
use crate::settings::Settings;
use crate::storage::database::Database;
use crate::storage::{
    Command, ConfigChain, Outcome, StoreError, Writer, WriterSettings, copy as config, meta,
};

/// The directory in which stores are made, in the one that they belong in.
const WORKSHOP: &str = "restoring";
/// How many bytes of rows go into one transaction.
const COMMIT_BYTES: usize = 16 * 1024 * 1024;
/// What is moved, in this order: no store is there before what says whether it may go on.
const MOVED: [&str; 4] = ["quorum.mark", "quorum.redb", "origin.mark", "config.redb"];

/// What a backup is made into.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// The cluster; the backup has to be of it.
    pub(crate) cluster: String,
    /// The node that is to run on it.
    pub(crate) node: NodeName,
    /// Its region.
    pub(crate) region: RegionName,
    /// Whether it is the first node of a new cluster, and decides alone.
    pub(crate) new_cluster: bool,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Restored {
    pub(crate) manifest: Manifest,
    /// How the new cluster's quorum begins.
    pub(crate) recovered: Option<Recovered>,
    /// What the chains came to.
    pub(crate) reports: Vec<Report>,
}

/// Why nothing was restored. Nothing is left, unless the move itself failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RestoreError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{}: {why}", path.display())]
    Target { path: PathBuf, why: String },
    #[error("the backup is of the {what} {found}, not of {expected}")]
    Another { what: &'static str, found: String, expected: String },
    #[error("{0}")]
    Unknown(String),
    #[error("what the backup holds is not whole: {0}")]
    NotWhole(String),
    #[error("the stores that were made of it: {0}")]
    Store(#[from] StoreError),
    #[error("the quorum: {0}")]
    Recover(#[from] RecoverError),
}

/// Who is told how far it is: rows done, rows in all.
pub(crate) type Progress<'a> = &'a mut dyn FnMut(u64, u64);

/// Makes the backup `file` into the stores of `target` in `data`, at `at`.
pub(crate) fn restore(
    file: &Path,
    data: &Path,
    target: &Target,
    at: Stamp,
    progress: Progress<'_>,
) -> Result<Restored, RestoreError> {
    check_empty(data)?;
    let workshop = Workshop::open(&data.join(WORKSHOP))?;
    let disk = workshop.disk()?;
    let manifest = load(file, &disk, Some(target), progress)?;
    record(&disk, target, &manifest, at)?;
    let recovered = if target.new_cluster {
        let mut entropy = Entropy::system().stream("restore");
        let whose = StoreSettings {
            cluster: target.cluster.clone(),
            node: target.node.clone(),
            alone: true,
        };
        Some(recover::recover(&disk, &mut entropy, &whose, target.region.clone(), at)?)
    } else {
        None
    };
    drop(disk);
    let reports = check(&workshop.0)?;
    for name in MOVED {
        let (from, to) = (workshop.0.join(name), data.join(name));
        match fs::rename(from, to) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(bad(data, &error));
            }
            _ => {}
        }
    }
    fs::File::open(data).and_then(|dir| dir.sync_all()).map_err(|e| bad(data, &e))?;
    Ok(Restored { manifest, recovered, reports })
}

/// Checks everything in a backup: its sums, and, in `scratch`, that stores can be made of it whose
/// chains are whole and that say of themselves what its manifest says. Leaves nothing there.
pub(crate) fn rehearse(
    file: &Path,
    scratch: &Path,
    progress: Progress<'_>,
) -> Result<(Manifest, Vec<Report>), RestoreError> {
    let workshop = Workshop::open(scratch)?;
    let manifest = load(file, &workshop.disk()?, None, progress)?;
    let reports = check(&workshop.0)?;
    let differs = |what: &str| Err(RestoreError::NotWhole(format!("{what} is not the manifest's")));
    let chain = ConfigChain::open(&workshop.0).map_err(|e| StoreError::Failed(e.to_string()))?;
    let facts = config::facts(&chain.begin_read()?)?;
    let said = (&manifest.cluster, &manifest.node, &manifest.vector, manifest.audit[0]);
    if facts.as_ref().map(|it| (&it.cluster, &it.node, &it.vector, it.audit)) != Some(said) {
        return differs("what the config store says of itself");
    }
    let chain = QuorumChain::open(&workshop.0).map_err(|e| StoreError::Failed(e.to_string()))?;
    let facts = quorum::facts(&chain.begin_read()?)?;
    let said = (&manifest.cluster, &manifest.node, manifest.quorum_applied, manifest.audit[1]);
    if facts.as_ref().map(|it| (&it.cluster, &it.node, it.applied, it.audit)) != Some(said) {
        return differs("what the quorum's store says of itself");
    }
    Ok((manifest, reports))
}

/// A directory that goes when it is done with.
struct Workshop(PathBuf);

impl Workshop {
    fn open(path: &Path) -> Result<Self, RestoreError> {
        use std::os::unix::fs::DirBuilderExt as _;
        if let Some(parent) = path.parent() {
            let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(parent);
            made.map_err(|e| bad(parent, &e))?;
        }
        fs::DirBuilder::new().mode(0o700).create(path).map_err(|e| bad(path, &e))?;
        Ok(Self(path.to_owned()))
    }

    fn disk(&self) -> Result<Arc<dyn Disk>, RestoreError> {
        Ok(Arc::new(FileDisk::open(&self.0).map_err(|e| bad(&self.0, &e))?))
    }
}

impl Drop for Workshop {
    fn drop(&mut self) {
        // Where it cannot be removed, the next attempt names it.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn bad(path: &Path, error: &io::Error) -> RestoreError {
    RestoreError::Target { path: path.to_owned(), why: error.to_string() }
}

/// Whether a restore into `data` was broken off before all stores were where they belong. A node
/// that began on some of them would take the others for lost.
pub(crate) fn is_broken_off(data: &Path) -> io::Result<bool> {
    match fs::read_dir(data.join(WORKSHOP)) {
        Ok(mut left) => left.next().transpose().map(|it| it.is_some()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Refuses a directory in which there is anything. A new file system has its `lost+found`.
fn check_empty(data: &Path) -> Result<(), RestoreError> {
    if is_broken_off(data).map_err(|e| bad(data, &e))? {
        let why = "a restore was broken off here: remove all that is in it first".to_owned();
        return Err(RestoreError::Target { path: data.to_owned(), why });
    }
    let entries = match fs::read_dir(data) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(bad(data, &error)),
    };
    for entry in entries {
        let name = entry.map_err(|e| bad(data, &e))?.file_name();
        if name == "lost+found" {
            continue;
        }
        let why = format!(
            "the directory is not empty ({} is in it), and nothing is written over",
            name.display()
        );
        return Err(RestoreError::Target { path: data.to_owned(), why });
    }
    Ok(())
}

/// Refuses a backup of something else, and one that this program does not know all of.
fn check_manifest(manifest: &Manifest, target: Option<&Target>) -> Result<(), RestoreError> {
    for (what, found, known) in [
        ("config.redb", manifest.config_format, meta::FORMAT),
        ("quorum.redb", manifest.quorum_format, STORE_FORMAT),
    ] {
        if found > known {
            return Err(RestoreError::Unknown(format!(
                "the backup's {what} has format {found}; this program knows formats up to {known}"
            )));
        }
    }
    for info in &manifest.tables {
        let known = tables_of(&info.store).iter().find(|it| it.name() == info.table);
        let types = (info.key_type.clone(), info.value_type.clone());
        if known.is_none_or(|table| table.types() != types) {
            return Err(RestoreError::Unknown(format!(
                "the backup, by version {}, has a table {}/{} that this program does not know",
                manifest.program, info.store, info.table
            )));
        }
    }
    let Some(target) = target else { return Ok(()) };
    let another = |what, found: &str, expected: &str| {
        let (found, expected) = (found.to_owned(), expected.to_owned());
        Err(RestoreError::Another { what, found, expected })
    };
    if manifest.cluster != target.cluster {
        return another("cluster", &manifest.cluster, &target.cluster);
    }
    if !target.new_cluster && manifest.node != target.node.as_str() {
        return another("node", &manifest.node, target.node.as_str());
    }
    Ok(())
}

/// Puts all rows of the backup into new stores on `disk`, and closes them.
fn load(
    file: &Path,
    disk: &Arc<dyn Disk>,
    target: Option<&Target>,
    progress: Progress<'_>,
) -> Result<Manifest, RestoreError> {
    let mut refused = None;
    let (config_store, _) = Database::open(disk.clone())?;
    let (quorum_store, _) = Database::open_as(disk.clone(), &quorum::LAYOUT)?;
    let mut loader = Loader { config: config_store, quorum: quorum_store, open: None, bytes: 0 };
    let read = file::read(file, &mut |chunk, manifest, rows| {
        let Chunk { manifest: first, rows: some, .. } = chunk;
        if first.is_some()
            && let Err(error) = check_manifest(manifest, target)
        {
            refused = Some(error);
            return Err(StoreError::Failed("refused".into()).into());
        }
        if let Some(some) = some {
            loader.put(some)?;
        }
        progress(rows, manifest.rows());
        Ok(())
    });
    if let Some(refused) = refused {
        return Err(refused);
    }
    let manifest = read?;
    loader.commit()?;
    if let Some(target) = target {
        loader.name(&target.node)?;
    }
    Ok(manifest)
}

struct Loader {
    config: Database,
    quorum: Database,
    /// The store that is written to, and what is not committed yet.
    open: Option<(String, redb::WriteTransaction)>,
    bytes: usize,
}

impl Loader {
    fn store(&self, name: &str) -> Result<Arc<redb::Database>, StoreError> {
        match name {
            CONFIG => self.config.get(),
            QUORUM => self.quorum.get(),
            _ => Err(StoreError::damaged(format!("there is no store {name}"))),
        }
    }

    fn put(&mut self, rows: super::format::Rows) -> Result<(), StoreError> {
        let table = tables_of(&rows.store).iter().find(|it| it.name() == rows.table);
        let table = table.ok_or_else(|| StoreError::damaged(format!("no table {}", rows.table)))?;
        if self.open.as_ref().is_some_and(|(store, _)| *store != rows.store) {
            self.commit()?;
        }
        let raw: Vec<_> = rows.rows.into_iter().map(|row| (row.key, row.value)).collect();
        self.bytes += raw.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>();
        let tx = match self.open.take() {
            Some((_, tx)) => tx,
            None => self.store(&rows.store)?.begin_write()?,
        };
        table.write(&tx, &raw)?;
        self.open = Some((rows.store, tx));
        if self.bytes >= COMMIT_BYTES { self.commit() } else { Ok(()) }
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        self.bytes = 0;
        if let Some((_, tx)) = self.open.take() {
            tx.commit()?;
        }
        Ok(())
    }

    /// Says whose the stores are from now on.
    fn name(&self, node: &NodeName) -> Result<(), StoreError> {
        let tx = self.config.get()?.begin_write()?;
        config::set_node(&tx, node)?;
        tx.commit()?;
        let tx = self.quorum.get()?.begin_write()?;
        quorum::set_node(&tx, node)?;
        tx.commit()?;
        Ok(())
    }
}

/// Opens the config store as its node would, which gives it a new origin, and puts on its chain
/// that it was restored.
fn record(
    disk: &Arc<dyn Disk>,
    target: &Target,
    manifest: &Manifest,
    at: Stamp,
) -> Result<(), StoreError> {
    let settings = Settings::default();
    let settings = WriterSettings {
        cluster: target.cluster.clone(),
        node: target.node.clone(),
        region: target.region.as_str().into(),
        value_bytes_max: settings.limits.value_bytes_max,
        documents_bytes_max: 1,
        waiting_bytes_max: settings.gossip.waiting_bytes_max,
        peers: 0,
    };
    let mut writer = Writer::open(settings, disk.clone(), Entropy::system().stream("restore"))?;
    let into = if target.new_cluster { "a new cluster" } else { "one node" };
    let outcome = format!(
        "done: {into}, from the backup that was taken of {} at {}",
        manifest.node, manifest.at
    );
    let event = Event {
        at,
        principal: "-".into(),
        action: "cluster.restore".into(),
        target: target.node.as_str().into(),
        decision: Decision::Allowed("whoever has the disk".into()),
        outcome: outcome.as_str().into(),
        source: Source { node: target.node.as_str().into(), address: None, request: "-".into() },
        count: 1,
        index: None,
    };
    let committed = writer.commit(at, &[Command::Record(vec![event])]);
    for outcome in committed.outcomes {
        if let Outcome::Recorded(recorded) = outcome {
            recorded?;
        }
    }
    writer.close()
}

/// Goes along both chains of the closed stores in `dir`.
fn check(dir: &Path) -> Result<Vec<Report>, RestoreError> {
    let failed = |e: crate::audit::Unreadable| RestoreError::NotWhole(e.to_string());
    let config = ConfigChain::open(dir).map_err(failed)?;
    let quorum = QuorumChain::open(dir).map_err(failed)?;
    let reports = vec![
        verify(CONFIG, &config, &[]).map_err(failed)?,
        verify(QUORUM, &quorum, &[]).map_err(failed)?,
    ];
    for report in &reports {
        if let Some(finding) = report.findings.first() {
            return Err(RestoreError::NotWhole(format!("{}: {finding}", report.store)));
        }
    }
    Ok(reports)
}
