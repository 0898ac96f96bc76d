//! Whole documents, for who is behind what the logs of its peers still hold, or far behind: all
//! that came of the changes up to one vector, rather than the changes.
//!
//! The sender reads it from one transaction, so that it is one cut however long it takes and
//! whatever is written, rolled or trimmed meanwhile ([`CutReader`]). The receiver puts it aside piece by
//! piece in a file of its own ([`Staging`]), and takes it over in one transaction once all of it is
//! there (`writer::take`). What breaks off before leaves no trace: it begins anew.
//!
//! Streams are opened and timed elsewhere (`node::transfer`).

mod cut;
mod message;
mod staging;

pub use cut::{Cut, CutReader, Said, Step, alive};
pub use message::Ask;
pub(super) use message::{Piece, Table};
pub use staging::{Complete, Staging, StagingError};
