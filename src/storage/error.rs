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
    /// Anything else.
    #[error("{0}")]
    Failed(String),
}

impl StoreError {
    pub(crate) fn damaged(what: impl std::fmt::Display) -> Self {
        Self::Failed(format!("the store is damaged: {what}"))
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
            error => Self::Failed(error.to_string()),
        }
    }
}
