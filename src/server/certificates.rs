//! Certificate files while the node runs: they are looked at again and again, and what replaces them
//! is taken without a restart and without ending a connection that may stand. What cannot be used is
//! refused and logged, with its file and why, and the one before goes on.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, watch};

use crate::env::Env;
use crate::http::Door;
use crate::model::NodeName;
use crate::node::Node;
use crate::settings::{ClientCertificates, MinVersion, TlsSettings};
use crate::transport::certificate::Date;
use crate::transport::https::{Https, HttpsFiles};
use crate::transport::{Facts, Identity, IdentityFiles, PkiError};

/// The files of a node.
pub(super) struct Files {
    pub(super) identity: Option<IdentityFiles>,
    pub(super) https: Option<HttpsFiles>,
}

/// Takes changed files.
pub(super) struct Reloader {
    node: Node,
    env: Env,
    files: Files,
    door: Option<Arc<Door>>,
    /// What is known of the two kinds, so that only what changes is read.
    known: Mutex<(Known, Known)>,
}

/// What is known of some files.
#[derive(Default)]
struct Known {
    /// What told them apart when they were read.
    stamps: Stamps,
    /// Why they could not be used, the last time.
    refused: Option<Refused>,
}

struct Refused {
    why: String,
    is_logged: bool,
}

/// What tells a file from what replaces it.
#[derive(PartialEq, Eq)]
pub(super) struct Stamp {
    inode: u64,
    len: u64,
    modified: (i64, i64),
    mode: u32,
}

/// Those of some files, in order; none for one that is not there.
pub(super) type Stamps = Vec<Option<Stamp>>;

fn stamp(path: &Path) -> Option<Stamp> {
    let it = std::fs::metadata(path).ok()?;
    let modified = (it.mtime(), it.mtime_nsec());
    Some(Stamp { inode: it.ino(), len: it.len(), modified, mode: it.mode() })
}

/// Reads a node's own at its start. One that is out of its time does not keep a region from reading
/// and writing alone: that is logged, and no peer talks with the node until it is replaced.
pub(super) async fn load_identity(
    env: &Env,
    node: &NodeName,
    files: &IdentityFiles,
) -> Result<Identity, PkiError> {
    let (files, node, now) = (files.clone(), node.clone(), env.clock.unix_time());
    let load = move || {
        let identity = files.load_for(&node)?;
        if let Err(error) = files.check_time(&identity, now) {
            tracing::error!("no peer will talk with this node until it is replaced: {error}");
        }
        Ok(identity)
    };
    env.blocking.run(load).await
}

/// The files that the settings name for HTTPS.
pub(super) fn https_files(settings: &TlsSettings) -> Option<HttpsFiles> {
    Some(HttpsFiles {
        certificate: settings.certificate_file.clone()?,
        key: settings.key_file.clone()?,
        client_authorities: settings.client_ca_file.clone(),
        is_client_certificate_required: settings.client_certificates
            == ClientCertificates::Required,
        is_tls12_spoken: settings.min_version == MinVersion::Tls12,
    })
}

/// Reads them, where there are any, with what told them apart before.
pub(super) async fn load_https(
    env: &Env,
    files: Option<&HttpsFiles>,
) -> Result<(Stamps, Option<Https>), PkiError> {
    let Some(files) = files.cloned() else { return Ok((Vec::new(), None)) };
    let clock = env.clock.clone();
    let load = move || {
        let stamps = files.paths().map(stamp).collect();
        Ok((stamps, Some(files.load(&clock)?)))
    };
    env.blocking.run(load).await
}

/// Looks at the files until it is told to stop.
pub(super) async fn run(reloader: Arc<Reloader>, every: Duration, mut stop: watch::Receiver<bool>) {
    if reloader.files.identity.is_none() && reloader.files.https.is_none() {
        return;
    }
    loop {
        let stopped = async { stop.wait_for(|stop| *stop).await.map(drop) };
        if tokio::time::timeout(every, stopped).await.is_ok() {
            return;
        }
        reloader.look().await;
    }
}

impl Reloader {
    /// Of a node whose HTTPS files had these stamps before they were read. The node's own are read
    /// once more at the first look.
    pub(super) fn new(
        node: Node,
        env: Env,
        files: Files,
        (stamps, door): (Stamps, Option<Arc<Door>>),
    ) -> Self {
        let known = (Known::default(), Known { stamps, refused: None });
        Self { node, env, files, door, known: Mutex::new(known) }
    }

    pub(super) fn is_https(&self) -> bool {
        self.door.is_some()
    }

    /// Takes what has changed. Whoever it concerns is told by the log.
    async fn look(&self) {
        let (identity, https) = &mut *self.known.lock().await;
        if self.is_due(identity, self.files.identity_paths()).await {
            let done = self.reload_identity().await;
            let _ = self.tell(identity, "node", done, false);
        }
        if self.is_due(https, self.files.https_paths()).await {
            let done = self.reload_https().await;
            let _ = self.tell(https, "http", done, false);
        }
    }

    /// Reads everything again, changed or not; the first error where there are more.
    pub(super) async fn reload_all(&self) -> Result<(), PkiError> {
        let (identity, https) = &mut *self.known.lock().await;
        self.is_due(identity, self.files.identity_paths()).await;
        let first = self.tell(identity, "node", self.reload_identity().await, true);
        self.is_due(https, self.files.https_paths()).await;
        let second = self.tell(https, "http", self.reload_https().await, true);
        first.and(second)
    }

    /// Whether the files are others than when they were read, or could not be used then: a
    /// certificate of tomorrow may do tomorrow.
    async fn is_due(&self, known: &mut Known, paths: Vec<PathBuf>) -> bool {
        let look = move || paths.iter().map(|path| stamp(path)).collect::<Stamps>();
        let stamps = self.env.blocking.run(look).await;
        let has_changed = stamps != known.stamps;
        known.stamps = stamps;
        has_changed || known.refused.is_some()
    }

    /// Logs what came of it. Two files cannot be replaced in one moment: what does not do is logged
    /// once it still does not at the next look, or at once where somebody asked.
    fn tell(
        &self,
        known: &mut Known,
        kind: &'static str,
        done: Result<Option<String>, PkiError>,
        is_asked: bool,
    ) -> Result<(), PkiError> {
        let metrics = self.node.metrics();
        let error = match done {
            Ok(None) => {
                known.refused = None;
                return Ok(());
            }
            Ok(Some(what)) => {
                known.refused = None;
                metrics.certificates_reloaded("taken");
                tracing::info!(kind, "took new certificate files: {what}");
                return Ok(());
            }
            Err(error) => error,
        };
        let why = error.to_string();
        let again = known.refused.as_ref().filter(|refused| refused.why == why);
        let was_logged = again.is_some_and(|refused| refused.is_logged);
        let is_logged = was_logged || again.is_some() || is_asked;
        if is_logged && (!was_logged || is_asked) {
            metrics.certificates_reloaded("refused");
            tracing::error!(kind, "refused new certificate files, the ones before go on: {why}");
        }
        known.refused = Some(Refused { why, is_logged });
        Err(error)
    }

    /// What was taken; none where there is nothing else than before.
    async fn reload_identity(&self) -> Result<Option<String>, PkiError> {
        let Some(files) = self.files.identity.clone() else { return Ok(None) };
        let (name, now) = (self.node.name().clone(), self.env.clock.unix_time());
        let (from, file) = (files.clone(), files.certificate.display().to_string());
        let load = move || {
            let identity = from.load_for(&name)?;
            from.check_time(&identity, now)?;
            Ok::<_, PkiError>(identity)
        };
        let identity = self.env.blocking.run(load).await?;
        let before = self.node.certificate();
        let is_new = |identity: &Identity| {
            let fingerprint = |it| Facts::of(it).ok().map(|facts| facts.fingerprint);
            let certificate = before.certificate.as_ref().map(|it| it.facts.fingerprint.clone());
            let authorities = before.authorities.iter().map(|it| Some(it.fingerprint.clone()));
            identity.chain.first().and_then(fingerprint) != certificate
                || !identity.authorities.iter().map(fingerprint).eq(authorities)
        };
        if !is_new(&identity) {
            return Ok(None);
        }
        self.node
            .replace_identity(&identity)
            .map_err(|error| PkiError::Content { file, problem: error.to_string() })?;
        let shown = self.node.certificate();
        let authorities: Vec<&str> = shown.authorities.iter().map(Facts::short).collect();
        let facts = shown.certificate.map(|it| it.facts);
        let facts = facts.map(|facts| said(&facts)).unwrap_or_default();
        Ok(Some(format!("{facts}; authorities {}", authorities.join(", "))))
    }

    async fn reload_https(&self) -> Result<Option<String>, PkiError> {
        let (_, https) = load_https(&self.env, self.files.https.as_ref()).await?;
        let (Some(https), Some(door)) = (https, &self.door) else {
            return Ok(None);
        };
        door.replace(https.config);
        self.node.set_http_certificate(&https.chain);
        let facts = https.chain.first().and_then(|it| Facts::of(it).ok());
        Ok(Some(facts.map(|facts| said(&facts)).unwrap_or_default()))
    }
}

fn said(facts: &Facts) -> String {
    format!("{} for {}, until {}", facts.short(), facts.subject, Date(facts.not_after))
}

impl Files {
    fn identity_paths(&self) -> Vec<PathBuf> {
        let Some(files) = &self.identity else { return Vec::new() };
        vec![files.authorities.clone(), files.certificate.clone(), files.key.clone()]
    }

    fn https_paths(&self) -> Vec<PathBuf> {
        self.https.iter().flat_map(|files| files.paths().map(Path::to_owned)).collect()
    }
}
