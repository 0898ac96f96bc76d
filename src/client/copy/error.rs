//! Why there is no copy, in words that say what was tried.

use std::time::Duration;

use super::CopyFileError;
use crate::client::ClientError;
use crate::model::DocumentId;

/// Why there is no copy. Nothing was started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CopyError {
    /// The file's place cannot be used.
    #[error(transparent)]
    File(#[from] CopyFileError),
    /// No region answered in time, and no file helps.
    #[error(
        "there is nothing to start {document} from: no region gave it within {within:?} \
         ({last}), and {file}"
    )]
    Nothing {
        /// Of what.
        document: DocumentId,
        /// How long a region was waited for.
        within: Duration,
        /// What went wrong last.
        last: String,
        /// Why no file helps.
        file: String,
    },
    /// A region refused, for a reason that waiting does not mend, and no file helps.
    #[error("{document} is refused ({error}), and {file}")]
    Refused {
        /// What.
        document: DocumentId,
        /// The region's words.
        error: Box<ClientError>,
        /// Why no file helps.
        file: String,
    },
}
