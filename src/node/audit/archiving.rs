//! Archives this node's audit chains: closes segments of them, puts each into a file, and then has the
//! store say so; and has the store let go of records that are in files and old enough.
//!
//! A file is on disk, and was read back, before the store hears of it; and the store has heard of it
//! before anything goes. So a crash between any two of these loses nothing: the file is written again,
//! under the same name. Nothing goes that does not follow from what was before it: a chain that is
//! broken is kept as it is, as the evidence.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use super::{Desk, STORES};
use crate::audit::archive::{Archived, Segment};
use crate::audit::{ChainReader, Head};
use crate::env::{Disk, WallClock};
use crate::model::Stamp;
use crate::node::store::Store;
use crate::settings::AuditSettings;

/// How long is rested between two looks, at least and at most.
const REST_MIN: Duration = Duration::from_secs(1);
const REST_MAX: Duration = Duration::from_secs(60);
/// And between two steps.
const STEP_REST: Duration = Duration::from_millis(100);
/// Most records that go in one step: the store does nothing else meanwhile.
const STEP_RECORDS_MAX: u64 = 1_024;

/// Archives one node's chains.
pub(in crate::node) struct Archiving {
    pub(in crate::node) desk: Desk,
    pub(in crate::node) store: Store,
    /// Where the files are.
    pub(in crate::node) disk: Arc<dyn Disk>,
    pub(in crate::node) clock: Arc<dyn WallClock>,
    pub(in crate::node) cluster: String,
    pub(in crate::node) settings: AuditSettings,
}

/// By what a segment is closed, and records go.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    /// A segment whose oldest record is older is closed.
    close_before: Stamp,
    /// And one that has so many bytes.
    bytes: u64,
    /// Records that are older go.
    keep_from: Stamp,
}

/// What a look at a chain found.
#[derive(Debug, Default)]
struct Found {
    /// What the store is to say then; none where there is nothing to do.
    archived: Option<Archived>,
    /// The records that are to be in a file before, behind which head.
    segment: Option<(Head, Vec<Vec<u8>>)>,
}

impl Archiving {
    /// Until `stop`.
    pub(in crate::node) async fn run(self, mut stop: watch::Receiver<bool>) {
        let work = async {
            loop {
                sleep((self.settings.archive_every / 8).clamp(REST_MIN, REST_MAX)).await;
                for (chain, store) in STORES.into_iter().enumerate() {
                    if let Err(why) = self.archive(chain).await {
                        self.desk.0.metrics.audit_not_archived();
                        tracing::error!(store, why, "the audit log cannot be archived: it stays");
                    }
                }
            }
        };
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => {}
            () = work => {}
        }
    }

    /// Step by step, until nothing is left to do.
    async fn archive(&self, chain: usize) -> Result<(), String> {
        let mut last = None;
        while let Some(archived) = self.step(chain).await? {
            // A store that keeps nothing of it would be asked for ever.
            if last.replace(archived) == Some(archived) {
                break;
            }
            let done = match chain {
                0 => self.store.archive(archived).await.map_err(|e| e.to_string()),
                _ => self.desk.0.quorum.archive(archived).await.map_err(|e| e.to_string()),
            };
            done?;
            let (store, upto, base) = (STORES[chain], archived.upto.seq, archived.base.seq);
            tracing::debug!(store, upto, base, "the audit log was archived");
            sleep(STEP_REST).await;
        }
        Ok(())
    }

    /// Takes one step; what the store is to say then.
    async fn step(&self, chain: usize) -> Result<Option<Archived>, String> {
        let bounds = self.bounds();
        let found = self.desk.read(move |config, quorum| match chain {
            0 => look(config, bounds),
            _ => quorum.map_or_else(|| Ok(Found::default()), |quorum| look(quorum, bounds)),
        });
        let Found { archived, segment } = found.await?;
        let (Some(archived), Some((before, records))) = (archived, segment) else {
            return Ok(archived);
        };
        let segment = Segment {
            cluster: self.cluster.clone(),
            node: self.desk.0.node.to_string(),
            store: STORES[chain].to_owned(),
            before,
            head: archived.upto,
            records,
        };
        let disk = self.disk.clone();
        self.desk.0.blocking.run(move || write(&*disk, &segment)).await?;
        Ok(Some(archived))
    }

    fn bounds(&self) -> Bounds {
        let now = self.clock.now().0;
        let ago = |time: Duration| {
            Stamp(now.saturating_sub(u64::try_from(time.as_micros()).unwrap_or(u64::MAX)))
        };
        Bounds {
            close_before: ago(self.settings.archive_every),
            bytes: self.settings.archive_bytes,
            keep_from: ago(self.settings.keep),
        }
    }
}

/// Puts a segment on disk, and reads it back: what goes from the store has to be there.
fn write(disk: &dyn Disk, segment: &Segment) -> Result<(), String> {
    let (name, bytes) = (segment.file_name(), segment.encode().map_err(|e| e.to_string())?);
    disk.write(&name, &bytes, true).map_err(|e| format!("{name}: {e}"))?;
    let there = disk.read(&name).map_err(|e| format!("{name}: {e}"))?;
    match there.map(|there| Segment::decode(&there)) {
        Some(Ok(there)) if there == *segment => {
            let (records, bytes) = (segment.records.len(), bytes.len());
            tracing::info!(file = name, records, bytes, "a segment of the audit log is archived");
            Ok(())
        }
        _ => Err(format!("{name} is not on disk as it was written")),
    }
}

/// The next segment that is due; where none is, the next records that can go.
fn look(chain: &dyn ChainReader, bounds: Bounds) -> Result<Found, String> {
    let archived = chain.archived().map_err(|e| e.to_string())?;
    let (head, records) = next_segment(chain, archived.upto, bounds)?;
    if !records.is_empty() {
        let segment = Some((archived.upto, records));
        return Ok(Found { archived: Some(Archived { upto: head, ..archived }), segment });
    }
    let (base, base_at) = next_base(chain, &archived, bounds)?;
    let is_new = base != archived.base;
    let base_at = base_at.or(archived.base_at);
    Ok(Found { archived: is_new.then_some(Archived { base, base_at, ..archived }), segment: None })
}

/// The records behind `upto` that make a segment, and where the chain stands behind them; no records
/// where they make none yet.
fn next_segment(
    chain: &dyn ChainReader,
    upto: Head,
    bounds: Bounds,
) -> Result<(Head, Vec<Vec<u8>>), String> {
    let (mut head, mut records, mut bytes) = (upto, Vec::new(), 0);
    let (mut is_old, mut broken) = (false, None);
    let walked = chain.walk(upto.seq + 1, &mut |record| match head.follow(record) {
        Ok(followed) => {
            is_old |= followed.event.at < bounds.close_before;
            bytes += record.len() as u64;
            records.push(record.to_vec());
            if bytes >= bounds.bytes { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        }
        Err(error) => {
            broken = Some(error.to_string());
            ControlFlow::Break(())
        }
    });
    walked.map_err(|e| e.to_string())?;
    if let Some(broken) = broken {
        return Err(broken);
    }
    let is_due = is_old || bytes >= bounds.bytes;
    Ok(if is_due { (head, records) } else { (upto, Vec::new()) })
}

/// Where the chain stands behind the next records that can go, and when the last of them was made.
fn next_base(
    chain: &dyn ChainReader,
    archived: &Archived,
    bounds: Bounds,
) -> Result<(Head, Option<Stamp>), String> {
    let (mut base, mut at, mut broken) = (archived.base, None, None);
    let last = archived.upto.seq.min(base.seq + STEP_RECORDS_MAX);
    if base.seq >= last {
        return Ok((base, None));
    }
    let walked = chain.walk(base.seq + 1, &mut |record| {
        let mut next = base;
        match next.follow(record) {
            Ok(followed) if followed.event.at < bounds.keep_from && next.seq <= last => {
                (base, at) = (next, Some(followed.event.at));
                ControlFlow::Continue(())
            }
            Ok(_) => ControlFlow::Break(()),
            Err(error) => {
                broken = Some(error.to_string());
                ControlFlow::Break(())
            }
        }
    });
    walked.map_err(|e| e.to_string())?;
    match broken {
        Some(broken) => Err(broken),
        None => Ok((base, at)),
    }
}

#[cfg(test)]
mod tests;
