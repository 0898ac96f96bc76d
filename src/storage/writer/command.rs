//! What a store's writer is asked for, and what comes of it. Nothing is decided here.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::audit::Event;
use crate::config::roll::Roll;
use crate::config::{WriteError, WriteRequest, Written};
use crate::model::{DocumentId, Dot, Key, NodeName, Stamp};
use crate::storage::epochs::RollError;
use crate::storage::error::StoreError;

/// One thing to do.
#[derive(Debug)]
pub enum Command {
    /// A write of this node.
    Write(WriteRequest),
    /// Records that a peer sent.
    Apply(Vec<Bytes>),
    /// A peer has seen an origin up to this change, and no further.
    Witnessed {
        /// Who says so.
        by: NodeName,
        /// The change.
        dot: Dot,
    },
    /// Puts events on the audit chain.
    Record(Vec<Event>),
    /// Takes a document to its next epoch, as was agreed: writes the record that tells everyone.
    Roll {
        /// Which document.
        document: DocumentId,
        /// What was agreed.
        roll: Roll,
    },
}

/// What came of it, in the order of the commands.
#[derive(Debug)]
pub enum Outcome {
    /// Of [`Command::Write`].
    Written(Result<Written, WriteError>),
    /// Of [`Command::Apply`].
    Applied(Result<Applied, StoreError>),
    /// Of [`Command::Witnessed`].
    Witnessed,
    /// Of [`Command::Record`].
    Recorded(Result<(), StoreError>),
    /// Of [`Command::Roll`]: the record that began the epoch. It is another node's, and nothing was
    /// written, where the document was there already by the same agreement.
    Rolled(Result<Dot, RollError>),
}

/// What became of a peer's records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Applied, those that had been waiting among them.
    pub new: usize,
    /// Known already.
    pub duplicate: usize,
    /// Waiting for what they build on.
    pub waiting: usize,
    /// Let go, because the window is full; to be asked for again.
    pub dropped: usize,
    /// Refused for good.
    pub quarantined: usize,
}

/// What a group did.
#[derive(Debug, Default)]
pub struct Committed {
    /// One for each command.
    pub outcomes: Vec<Outcome>,
    /// Which rows changed; the published snapshot holds them.
    pub touched: BTreeMap<DocumentId, BTreeSet<Key>>,
    /// This node's own new records, to be pushed.
    pub own: Vec<Bytes>,
    /// How many records were committed.
    pub records: usize,
    /// When other nodes' changes among them were written.
    pub remote: Vec<Stamp>,
    /// Whether the store was opened anew before: then any row may have changed.
    pub reopened: bool,
}

/// The outcomes of a group of which nothing was carried out.
pub(super) fn failed(commands: &[Command], error: &StoreError, is_unknown: bool) -> Committed {
    let outcome = |command: &Command| match command {
        Command::Write(_) => Outcome::Written(Err(match error {
            _ if is_unknown => WriteError::Unknown,
            StoreError::Full => WriteError::StorageFull,
            StoreError::Damaged(_) | StoreError::Failed(_) => {
                WriteError::StorageFailed(error.to_string())
            }
        })),
        Command::Apply(_) => Outcome::Applied(Err(error.clone())),
        Command::Witnessed { .. } => Outcome::Witnessed,
        Command::Record(_) => Outcome::Recorded(Err(error.clone())),
        Command::Roll { .. } => Outcome::Rolled(Err(error.clone().into())),
    };
    Committed { outcomes: commands.iter().map(outcome).collect(), ..Committed::default() }
}
