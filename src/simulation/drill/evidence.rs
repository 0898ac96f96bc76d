//! What a drill shows of its nodes besides their answers: how they stand, how they ended, what they
//! logged, and whether a text that nobody may see is on a disk, in a log or in a packet.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::future::Future;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use tokio::time::timeout;

use super::{Drill, DrillError, PROBE_TIME_MAX, probe};
use crate::client::{Client, ClientSettings};
use crate::model::NodeName;
use crate::simulation::history::{Probe, Sent};
use crate::simulation::needles::Needles;

/// Most bytes of a log that are read at once.
const LOG_LEN_MAX: u64 = 256 * 1024 * 1024;

/// How far a node's log has been read.
#[derive(Default)]
pub(super) struct LogReader {
    at: u64,
}

impl LogReader {
    /// The whole lines that were written since the last time.
    fn new_lines(&mut self, path: &Path) -> Result<Vec<String>, DrillError> {
        let failed = |source| DrillError::File { path: path.to_owned(), source };
        let mut file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            opened => opened.map_err(failed)?,
        };
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(self.at)).map_err(failed)?;
        file.take(LOG_LEN_MAX).read_to_end(&mut bytes).map_err(failed)?;
        // What is being written just now is for the next time.
        let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        self.at += end as u64;
        Ok(String::from_utf8_lossy(&bytes[..end]).lines().map(str::to_owned).collect())
    }
}

impl Drill {
    /// How a node stands. A node that does not run, or does not answer within a second, is not up.
    /// The hash of its view is left out.
    pub async fn probe(&mut self, node: &NodeName) -> Result<Probe, DrillError> {
        self.probing(node)?.await
    }

    /// The same, apart from the drill, which may be used meanwhile.
    pub(crate) fn probing(
        &mut self,
        node: &NodeName,
    ) -> Result<impl Future<Output = Result<Probe, DrillError>> + Send + 'static, DrillError> {
        let i = self.index(node)?;
        let disk_bytes = self.site.disk_bytes(node);
        let sent_to = self.sent_to_others(i);
        let is_up = self.nodes[i].process.is_up();
        let down = Probe { node: node.to_string(), ..Probe::default() };
        let failed = {
            let node = node.clone();
            move |why: String| DrillError::Node { node, why }
        };
        let url = format!("http://{}", self.http_addr(node)?);
        let mut settings = ClientSettings::new(&url, Some(&self.client_token));
        settings.timeout = PROBE_TIME_MAX;
        let client = Client::with(settings).map_err(|e| failed.clone()(e.to_string()))?;
        Ok(async move {
            if !is_up {
                return Ok(down);
            }
            let answer = match timeout(PROBE_TIME_MAX, client.cluster()).await {
                Ok(Ok(answer)) => answer,
                Ok(Err(_)) | Err(_) => return Ok(down),
            };
            let probe = probe::read(answer).map_err(|e| failed(format!("GET /cluster: {e}")))?;
            let sent_bytes = sent_to.values().map(|sent| sent.bytes).sum();
            Ok(Probe { sent_bytes, sent_to, disk_bytes, ..probe })
        })
    }

    /// What a node has sent to each other region since the start of the drill.
    fn sent_to_others(&self, from: usize) -> BTreeMap<String, Sent> {
        let mut sent: BTreeMap<String, Sent> = BTreeMap::new();
        self.emulator.with(|board, _| {
            for ((_, to), way) in board.counts().filter(|((a, _), _)| *a == from) {
                let region = &self.nodes[to].region;
                if *region == self.nodes[from].region {
                    continue;
                }
                let sum = sent.entry(region.to_string()).or_default();
                sum.bytes += way.sent_bytes;
                sum.datagrams += way.sent;
                sum.lost += way.lost();
            }
        });
        sent
    }

    /// Nodes that ended by themselves, and how. Never part of a good run.
    pub fn ended(&mut self) -> Vec<(NodeName, String)> {
        let nodes = self.nodes.iter_mut();
        let ended = nodes.filter_map(|node| Some((node.name.clone(), node.process.ended()?)));
        ended.map(|(name, status)| (name, status.to_string())).collect()
    }

    /// What nodes have logged since the last call, line by line.
    pub fn new_log_lines(&mut self) -> Result<Vec<(NodeName, String)>, DrillError> {
        let mut found = Vec::new();
        for node in &mut self.nodes {
            let lines = node.log.new_lines(&self.site.log(&node.name))?;
            found.extend(lines.into_iter().map(|line| (node.name.clone(), line)));
        }
        Ok(found)
    }

    /// The last line that a node logged.
    pub(super) fn last_words(&self, node: &NodeName) -> String {
        let log = fs::read_to_string(self.site.log(node)).unwrap_or_default();
        log.lines().last().unwrap_or("it logged nothing").to_owned()
    }

    /// From now on it is noticed when `text`, of eight bytes at least, is in a packet.
    pub fn look_for(&self, text: &[u8]) {
        self.emulator.with(|board, _| board.look_for(text));
    }

    /// The nodes that have sent what is looked for.
    pub fn senders_of_it(&self) -> Vec<NodeName> {
        let senders = self.emulator.with(|board, _| board.senders_of_it().clone());
        senders.into_iter().map(|i| self.nodes[i].name.clone()).collect()
    }

    /// Files of a node that have `text` in them: its data, and its log.
    pub fn files_with(&self, node: &NodeName, text: &[u8]) -> Result<Vec<PathBuf>, DrillError> {
        self.index(node)?;
        let mut needles = Needles::default();
        needles.add(text);
        let mut found = Vec::new();
        let mut left = vec![self.site.data(node), self.site.log(node)];
        while let Some(path) = left.pop() {
            let failed = |source| DrillError::File { path: path.clone(), source };
            if path.is_dir() {
                for entry in fs::read_dir(&path).map_err(failed)? {
                    left.push(entry.map_err(failed)?.path());
                }
                continue;
            }
            match fs::read(&path) {
                Ok(bytes) if needles.find(&bytes).is_some() => found.push(path),
                Ok(_) => {}
                // A node that runs may remove a file.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(found)
    }
}
