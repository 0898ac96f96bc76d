//! A chain as its store keeps it, for whoever pages through it or checks it.

use std::ops::ControlFlow;

use super::archive::Archived;
use super::chain::Head;

/// Why a chain could not be read. This says nothing about whether it is whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the audit log cannot be read: {0}")]
pub struct Unreadable(pub String);

/// Reads one store's chain. Blocks.
pub trait ChainReader: Send + Sync + 'static {
    /// Where the store itself says that its chain stands.
    fn head(&self) -> Result<Head, Unreadable>;

    /// Hands the bytes of the records from number `from` on to `visit`, in their order, until it
    /// has had enough or there are no more. What is damaged is handed on as it is.
    fn walk(
        &self,
        from: u64,
        visit: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<(), Unreadable>;

    /// Where the chain stood before the first record that is kept: a copy may have let go of its
    /// oldest ones, and a store of what is archived. The beginning of the chain where it has all.
    fn base(&self) -> Result<Head, Unreadable> {
        self.archived().map(|archived| archived.base)
    }

    /// How far the chain is archived; nothing where it is not.
    fn archived(&self) -> Result<Archived, Unreadable> {
        Ok(Archived::default())
    }

    /// What else in the store does not hold together with its chain; none where all is well.
    fn inconsistency(&self) -> Result<Option<String>, Unreadable> {
        Ok(None)
    }
}
