//! A backup's file on the way in and out. It gets its name when all of it was found good and is on
//! disk; until then it is `NAME.part`, and goes with whoever was writing it: one at a time.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::format::{Chunk, Decoder, FormatError, Manifest};
use crate::storage::StoreError;

/// How many bytes are read at a time.
const PIECE: usize = 256 * 1024;

/// Why a backup could not be written or read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    #[error("{}: {error}", path.display())]
    Io { path: PathBuf, error: io::Error },
    #[error("{}: the disk is full; nothing was kept", path.display())]
    Full { path: PathBuf },
    #[error("{}: is there already, and is not written over", path.display())]
    Exists { path: PathBuf },
    #[error("{}: another backup is being written there", path.display())]
    Busy { path: PathBuf },
    #[error("{}: {error}", path.display())]
    Format { path: PathBuf, error: FormatError },
    /// Of whoever took the chunks.
    #[error("{0}")]
    Store(#[from] StoreError),
}

impl FileError {
    fn io(path: &Path, error: io::Error) -> Self {
        let path = path.to_owned();
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { path },
            _ => Self::Io { path, error },
        }
    }

    fn format(path: &Path, error: FormatError) -> Self {
        Self::Format { path: path.to_owned(), error }
    }
}

/// A backup's file that is being written.
pub(crate) struct Landing {
    path: PathBuf,
    part: PathBuf,
    file: File,
    decoder: Decoder,
    bytes: u64,
    landed: bool,
}

impl Landing {
    /// Begins to write what is to be `path`, readable by its owner alone.
    pub(crate) fn create(path: &Path) -> Result<Self, FileError> {
        if path.symlink_metadata().is_ok() {
            return Err(FileError::Exists { path: path.to_owned() });
        }
        let mut part = OsString::from(path);
        part.push(".part");
        let part = PathBuf::from(part);
        let file = claim(&part)?;
        let (path, decoder) = (path.to_owned(), Decoder::default());
        Ok(Self { path, part, file, decoder, bytes: 0, landed: false })
    }

    /// Checks and writes the next bytes.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), FileError> {
        self.decoder.feed(bytes);
        while self.decoder.next_chunk().map_err(|e| FileError::format(&self.path, e))?.is_some() {}
        self.file.write_all(bytes).map_err(|e| FileError::io(&self.path, e))?;
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// How many rows are written, and how many there are.
    pub(crate) fn progress(&self) -> (u64, u64) {
        let total = self.decoder.manifest().map_or(0, Manifest::rows);
        (self.decoder.rows_read(), total)
    }

    /// Gives the file its name, if all of it is there. Says what it is of, and how long.
    pub(crate) fn finish(mut self) -> Result<(Manifest, u64), FileError> {
        let decoder = std::mem::take(&mut self.decoder);
        let manifest = decoder.finish().map_err(|e| FileError::format(&self.path, e))?;
        let place = |e| FileError::io(&self.path, e);
        self.file.sync_all().map_err(place)?;
        if self.path.symlink_metadata().is_ok() {
            return Err(FileError::Exists { path: self.path.clone() });
        }
        fs::rename(&self.part, &self.path).map_err(place)?;
        let dir = self.path.parent().filter(|dir| !dir.as_os_str().is_empty());
        let dir = File::open(dir.unwrap_or(Path::new("."))).and_then(|dir| dir.sync_all());
        dir.map_err(place)?;
        self.landed = true;
        Ok((manifest, self.bytes))
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        if !self.landed {
            // Where it cannot be removed it still has not the name.
            let _ = fs::remove_file(&self.part);
        }
    }
}

/// An empty file of that name, which nobody else writes. What an attempt left there that was broken
/// off is used; the lock of one that goes on says so.
fn claim(part: &Path) -> Result<File, FileError> {
    let place = |e| FileError::io(part, e);
    let busy = || FileError::Busy { path: part.to_owned() };
    let mut options = OpenOptions::new();
    let file = options.create(true).truncate(false).write(true).mode(0o600).open(part);
    let file = file.map_err(place)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(busy()),
        // Some network file systems know no locks.
        Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {}
        Err(TryLockError::Error(error)) => return Err(place(error)),
    }
    // Whoever had the lock may have given the file its name, or removed it.
    let (own, there) = (file.metadata().map_err(place)?, part.symlink_metadata());
    if !there.is_ok_and(|there| (there.dev(), there.ino()) == (own.dev(), own.ino())) {
        return Err(busy());
    }
    file.set_permissions(Permissions::from_mode(0o600)).map_err(place)?;
    file.set_len(0).map_err(place)?;
    Ok(file)
}

/// Reads a whole file, and hands its chunks on with the manifest and how many rows were read before
/// each; the manifest's own comes first.
pub(crate) fn read(
    path: &Path,
    visit: &mut dyn FnMut(Chunk, &Manifest, u64) -> Result<(), FileError>,
) -> Result<Manifest, FileError> {
    let place = |e| FileError::io(path, e);
    let mut file = File::open(path).map_err(place)?;
    let mut decoder = Decoder::default();
    let mut piece = vec![0; PIECE];
    loop {
        let len = file.read(&mut piece).map_err(place)?;
        if len == 0 {
            return decoder.finish().map_err(|e| FileError::format(path, e));
        }
        decoder.feed(&piece[..len]);
        while let Some(chunk) = decoder.next_chunk().map_err(|e| FileError::format(path, e))? {
            let rows = decoder.rows_read();
            if let Some(manifest) = decoder.manifest() {
                visit(chunk, manifest, rows)?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::format::{Encoder, End};
    use super::*;

    #[test]
    fn what_is_not_whole_never_gets_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.bak");
        let mut landing = Landing::create(&path).unwrap();
        // Good as far as it goes: the magic alone.
        landing.write(b"holm-bak").unwrap();
        assert!(dir.path().join("a.bak.part").exists());
        assert!(matches!(landing.finish(), Err(FileError::Format { .. })));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);

        let mut landing = Landing::create(&path).unwrap();
        let end = Chunk { end: Some(End { rows: 0 }), ..Chunk::default() };
        let error = landing.write(&Encoder::default().chunk(&end)).unwrap_err();
        assert!(error.to_string().contains("no manifest"), "{error}");
        drop(landing);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn nothing_is_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.bak");
        fs::write(&path, "mine").unwrap();
        assert!(matches!(Landing::create(&path), Err(FileError::Exists { .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    }

    #[test]
    fn one_that_is_being_written_is_not_touched_by_another() {
        let dir = tempfile::tempdir().unwrap();
        let (path, part) = (dir.path().join("a.bak"), dir.path().join("a.bak.part"));
        // What was broken off is used again, for its owner alone.
        fs::write(&part, "what a killed one left").unwrap();
        fs::set_permissions(&part, Permissions::from_mode(0o644)).unwrap();
        let mut landing = Landing::create(&path).unwrap();
        assert_eq!(fs::metadata(&part).unwrap().permissions().mode() & 0o777, 0o600);
        landing.write(b"holm-bak").unwrap();
        assert!(matches!(Landing::create(&path), Err(FileError::Busy { .. })));
        assert_eq!(fs::read(&part).unwrap(), b"holm-bak");
        drop(landing);
        assert!(Landing::create(&path).is_ok(), "it has gone");
    }

    #[test]
    fn a_full_disk_is_called_by_its_name() {
        let full = io::Error::from(io::ErrorKind::StorageFull);
        let said = FileError::io(Path::new("a.bak"), full).to_string();
        assert_eq!(said, "a.bak: the disk is full; nothing was kept");
    }
}
