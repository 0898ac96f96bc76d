//! Why the store could not do something: one type for all tables, because callers only ask whether
//! it is for want of room.

use std::io;

/// Why the store could not do it. Nothing was changed, unless the failed call was a commit: then
/// it is known only after reopening.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// No room on the disk.
    #[error("the disk is full")]
    Full,
    /// What is there is not what was written.
    #[error("the store is damaged: {0}")]
    Damaged(String),
    /// Anything else.
    #[error("{0}")]
    Failed(String),
}

impl StoreError {
    pub(crate) fn damaged(what: impl std::fmt::Display) -> Self {
        Self::Damaged(what.to_string())
    }
}

impl<E: Into<redb::Error>> From<E> for StoreError {
    fn from(error: E) -> Self {
        match error.into() {
            redb::Error::Io(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
                ) =>
            {
                Self::Full
            }
            redb::Error::Corrupted(why) => Self::Damaged(why),
            error => Self::Failed(error.to_string()),
        }
    }
}
