//! Where the receiver puts whole documents aside until all of them are there: `staged.redb`, a file of
//! its own, so that neither the store nor who writes to it notices.
//!
//! Table `pieces`: number u64 → the piece, as it came. Lifetime: one transfer. What is there at a start
//! was broken off, and goes.

use std::sync::Arc;

use redb::{ReadableDatabase as _, TableDefinition};
use sha2::{Digest as _, Sha256};

use super::message::{CutHead, End, Piece};
use crate::env::Disk;
use crate::model::vector::{FOLDED_MAX, Fold};
use crate::model::{Told, cbor};
use crate::storage::database::{Database, Layout};
use crate::storage::error::StoreError;

const PIECES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("pieces");

static LAYOUT: Layout = Layout { file: "staged.redb", tables: 1, make_tables };

/// How much room has to be left over, beside that for taking over what was put aside, in bytes.
const ROOM_BYTES_MIN: u64 = 64 * 1024 * 1024;

fn make_tables(tx: &redb::WriteTransaction) -> Result<(), redb::Error> {
    tx.open_table(PIECES)?;
    Ok(())
}

/// Why nothing more is put aside. What was is to be dropped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StagingError {
    /// The pieces are not those of a cut.
    #[error("not a cut: {0}")]
    Illegal(String),
    /// It is more than may be put aside.
    #[error("more than {0} bytes (storage.staged_bytes_max)")]
    TooMuch(u64),
    /// The disk has not the room to take it over.
    #[error("{available} bytes are left on the disk, and {needed} would be needed")]
    NoRoom {
        /// How much is left, in bytes.
        available: u64,
        /// How much the store may need for what has come, in bytes.
        needed: u64,
    },
    /// The file failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn illegal(why: &dyn std::fmt::Display) -> StagingError {
    StagingError::Illegal(why.to_string())
}

/// Pieces that have come so far. The file goes with it.
pub struct Staging {
    file: File,
    head: Option<CutHead>,
    folds: Vec<Fold>,
    folded: usize,
    sum: Sha256,
    pieces: u64,
    bytes: u64,
    bytes_max: u64,
    /// Bytes of pieces that have something in them.
    news_bytes: u64,
    done: u64,
    is_complete: bool,
}

/// The open file; removed when it is dropped.
struct File {
    disk: Arc<dyn Disk>,
    database: Option<Database>,
}

impl Drop for File {
    fn drop(&mut self) {
        self.database = None;
        // Where it cannot be removed now, the next start or transfer does.
        let _ = self.disk.remove(LAYOUT.file);
    }
}

impl File {
    fn database(&self) -> Result<Arc<redb::Database>, StoreError> {
        let database = self.database.as_ref();
        database.ok_or_else(|| StoreError::Failed("it is closed".into()))?.get()
    }
}

impl Staging {
    /// Removes what an earlier transfer left.
    pub fn clear(disk: &dyn Disk) -> Result<(), StoreError> {
        disk.remove(LAYOUT.file).map_err(|error| redb::Error::Io(error).into())
    }

    /// Begins, with nothing; at most `bytes_max` bytes are put aside. Blocks, as everything here does.
    pub fn begin(disk: Arc<dyn Disk>, bytes_max: u64) -> Result<Self, StoreError> {
        Self::clear(&*disk)?;
        let (database, _) = Database::open_as(disk.clone(), &LAYOUT)?;
        Ok(Self {
            file: File { disk, database: Some(database) },
            head: None,
            folds: Vec::new(),
            folded: 0,
            sum: Sha256::new(),
            pieces: 0,
            bytes: 0,
            bytes_max,
            news_bytes: 0,
            done: 0,
            is_complete: false,
        })
    }

    /// Puts the next pieces aside; whether that was all. After an error nothing comes of it.
    pub fn push<'a>(
        &mut self,
        pieces: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<bool, StagingError> {
        let pushed = self.put(pieces);
        if pushed.is_err() {
            self.is_complete = false;
        }
        pushed
    }

    fn put<'a>(
        &mut self,
        pieces: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<bool, StagingError> {
        self.check_room()?;
        let database = self.file.database()?;
        let tx = database.begin_write().map_err(StoreError::from)?;
        {
            let mut table = tx.open_table(PIECES).map_err(StoreError::from)?;
            for bytes in pieces {
                if self.is_complete {
                    return Err(illegal(&"pieces behind the end"));
                }
                self.note(bytes)?;
                table.insert(self.pieces, bytes).map_err(StoreError::from)?;
                self.pieces += 1;
            }
        }
        tx.commit().map_err(StoreError::from)?;
        Ok(self.is_complete)
    }

    /// Once all has come, the store needs about as much again.
    fn check_room(&self) -> Result<(), StagingError> {
        let room = self.file.disk.room().map_err(|e| StoreError::from(redb::Error::Io(e)))?;
        let needed = self.bytes.saturating_add(ROOM_BYTES_MIN);
        match room {
            Some((available, _)) if available < needed => {
                Err(StagingError::NoRoom { available, needed })
            }
            _ => Ok(()),
        }
    }

    fn note(&mut self, bytes: &[u8]) -> Result<(), StagingError> {
        self.bytes += bytes.len() as u64;
        if self.bytes > self.bytes_max {
            return Err(StagingError::TooMuch(self.bytes_max));
        }
        let piece: Piece<'_> = cbor::decode(bytes).map_err(|e| illegal(&e))?;
        self.news_bytes += match &piece {
            Piece::History(rows, _) if rows.is_empty() => 0,
            _ => bytes.len() as u64,
        };
        match (piece, &self.head) {
            (Piece::Cut(head), None) => {
                head.heads().ok_or_else(|| illegal(&"hashes are missing"))?;
                self.head = Some(head);
            }
            (Piece::Cut(_), Some(_)) => return Err(illegal(&"a second cut")),
            (_, None) => return Err(illegal(&"no cut before its pieces")),
            (Piece::Part(part), _) => self.done = part.done,
            (Piece::End(end), Some(_)) => {
                let found = End { pieces: self.pieces, sum: self.sum.clone().finalize().into() };
                if end != found {
                    return Err(illegal(&"the sum of its pieces is another one"));
                }
                self.is_complete = true;
            }
            (Piece::History(_, done), Some(_)) => self.done = done.unwrap_or(self.done),
            (Piece::Fold(fold), Some(_)) => {
                self.folded += fold.rows().len();
                if self.folded > FOLDED_MAX {
                    return Err(illegal(&"too many origins are folded"));
                }
                self.folds.push(fold);
            }
            (Piece::Records(_) | Piece::Retries(_), Some(_)) => {}
        }
        self.sum.update(bytes);
        Ok(())
    }

    /// How far the sender is: documents done, and in all, as far as that is known.
    pub fn documents(&self) -> (u64, u64) {
        (self.done, self.head.as_ref().map_or(0, |head| head.documents))
    }

    /// What grows as long as the transfer gets on: bytes of pieces that have something in them, and
    /// documents that the sender is done with.
    pub fn progress(&self) -> (u64, u64) {
        (self.news_bytes, self.done)
    }

    /// How many bytes have come.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// All of it, where it has come.
    pub fn complete(self) -> Option<Complete> {
        match self.head {
            Some(head) if self.is_complete => {
                let Self { file, folds, pieces, .. } = self;
                Some(Complete { file, head, folds, pieces })
            }
            _ => None,
        }
    }
}

/// A whole cut, put aside. The file goes with it.
pub struct Complete {
    file: File,
    pub(in crate::storage) head: CutHead,
    /// Those that the receiver may not know, in order.
    pub(in crate::storage) folds: Vec<Fold>,
    pieces: u64,
}

impl Complete {
    /// The changes that are in it.
    pub fn vector(&self) -> &Told {
        &self.head.vector
    }

    /// Visits all pieces in their order.
    pub(in crate::storage) fn each(
        &self,
        mut visit: impl FnMut(Piece<'_>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let tx = self.file.database()?.begin_read()?;
        let table = tx.open_table(PIECES)?;
        for n in 0..self.pieces {
            let piece = table.get(n)?;
            let piece = piece.ok_or_else(|| StoreError::damaged(format!("piece {n} is gone")))?;
            visit(cbor::decode(piece.value()).map_err(StoreError::damaged)?)?;
        }
        Ok(())
    }
}
