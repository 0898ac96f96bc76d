//! A node's directory: databases for redb, and small files beside them. Names are plain file
//! names; nothing outside the directory can be reached. It keeps no format of its own.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::ops::Bound;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use redb::{BackendError, StorageBackend};

/// Largest small file, in bytes. Databases have no limit here.
pub const FILE_LEN_MAX: u64 = 16 * 1024 * 1024;

/// Files that survive the process, and what is known of where they stand.
pub trait Disk: Send + Sync + 'static {
    /// Opens the database file `name`, or makes an empty one, for this caller alone.
    fn database(&self, name: &str) -> io::Result<Box<dyn StorageBackend>>;

    /// The content of the small file `name`, if there is one.
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>>;

    /// Sets the content of the small file `name`. `durable`: replaced as a whole and on disk on
    /// return. Otherwise written in place and on disk at some time later: a crash of the machine
    /// can leave old, new or mixed content.
    fn write(&self, name: &str, bytes: &[u8], durable: bool) -> io::Result<()>;

    /// Removes `name`, on disk on return; nothing happens where there is none.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Gives the file `from` the name `to`, on disk on return. What was there under `to` is gone.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// What tells this file from a copy of it (device and inode), if there is one.
    fn identity(&self, name: &str) -> io::Result<Option<Vec<u8>>>;

    /// The length of the file `name` in bytes, if there is one.
    fn len(&self, name: &str) -> io::Result<Option<u64>>;

    /// Bytes that can still be written, and bytes in all, where the files are; none where there is
    /// no knowing.
    fn room(&self) -> io::Result<Option<(u64, u64)>> {
        Ok(None)
    }

    /// Another directory, made where it is missing; a relative path is one in this directory.
    fn directory(&self, path: &Path) -> io::Result<Arc<dyn Disk>> {
        let why = format!("there is no {} beside this disk", path.display());
        Err(io::Error::new(io::ErrorKind::Unsupported, why))
    }

    /// What tells this run of the machine from an earlier one, where that can be known.
    fn machine_boot(&self) -> Option<Vec<u8>>;
}

/// A backend behind a pointer, as `redb::Builder::create_with_backend` takes it.
#[derive(Debug)]
pub struct Backend(pub Box<dyn StorageBackend>);

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.0.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.try_lock_range(start, end)
    }

    fn try_lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> Result<bool, BackendError> {
        self.0.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.query_lock_range(start, end)
    }
}

/// A directory of the machine, readable by its owner alone.
pub struct FileDisk {
    dir: PathBuf,
    /// Files written in place, kept open because that happens on each commit; with their length,
    /// so that the file is cut only where it shrinks.
    open: Mutex<BTreeMap<String, (File, u64)>>,
}

impl FileDisk {
    /// Opens `dir` and makes it where it is missing.
    pub fn open(dir: &Path) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        Ok(Self { dir: dir.to_owned(), open: Mutex::default() })
    }

    fn path(&self, name: &str) -> io::Result<PathBuf> {
        check_file_name(name)?;
        Ok(self.dir.join(name))
    }

    fn sync_dir(&self) -> io::Result<()> {
        File::open(&self.dir)?.sync_all()
    }

    fn forget(&self, name: &str) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let path = self.path(name)?;
        let new = self.path(&format!("{name}.new"))?;
        self.forget(name);
        let written =
            private().create(true).truncate(true).write(true).open(&new).and_then(|mut file| {
                file.write_all(bytes)?;
                file.sync_all()
            });
        if let Err(error) = written.and_then(|()| fs::rename(&new, &path)) {
            // The old content is still there; only the attempt goes.
            let _ = fs::remove_file(&new);
            return Err(error);
        }
        self.sync_dir()
    }

    fn overwrite(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let path = self.path(name)?;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if !open.contains_key(name) {
            let file = private().create(true).truncate(false).write(true).open(path)?;
            let len = file.metadata()?.len();
            open.insert(name.to_owned(), (file, len));
        }
        let Some((file, len)) = open.get_mut(name) else { return Ok(()) };
        file.write_all_at(bytes, 0)?;
        let new_len = bytes.len() as u64;
        if new_len < *len {
            file.set_len(new_len)?;
        }
        *len = new_len;
        Ok(())
    }
}

impl Disk for FileDisk {
    fn database(&self, name: &str) -> io::Result<Box<dyn StorageBackend>> {
        let path = self.path(name)?;
        let is_new = !path.try_exists()?;
        let file = private().create(true).truncate(false).read(true).write(true).open(path)?;
        if is_new {
            file.sync_all()?;
            self.sync_dir()?;
        }
        let backend = redb::backends::FileBackend::new(file).map_err(io::Error::other)?;
        Ok(Box::new(backend))
    }

    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let path = self.path(name)?;
        match fs::metadata(&path) {
            Ok(metadata) if metadata.len() > FILE_LEN_MAX => Err(too_long(name)),
            Ok(_) => fs::read(path).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn write(&self, name: &str, bytes: &[u8], durable: bool) -> io::Result<()> {
        if bytes.len() as u64 > FILE_LEN_MAX {
            return Err(too_long(name));
        }
        if durable { self.replace(name, bytes) } else { self.overwrite(name, bytes) }
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.forget(name);
        match fs::remove_file(self.path(name)?) {
            Ok(()) => self.sync_dir(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.forget(from);
        self.forget(to);
        fs::rename(self.path(from)?, self.path(to)?)?;
        self.sync_dir()
    }

    fn identity(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        match fs::metadata(self.path(name)?) {
            Ok(metadata) => {
                let mut identity = metadata.dev().to_be_bytes().to_vec();
                identity.extend(metadata.ino().to_be_bytes());
                Ok(Some(identity))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn len(&self, name: &str) -> io::Result<Option<u64>> {
        match fs::metadata(self.path(name)?) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn room(&self) -> io::Result<Option<(u64, u64)>> {
        let file_system = rustix::fs::statvfs(&self.dir)?;
        let bytes = |blocks: u64| blocks.saturating_mul(file_system.f_frsize);
        Ok(Some((bytes(file_system.f_bavail), bytes(file_system.f_blocks))))
    }

    fn directory(&self, path: &Path) -> io::Result<Arc<dyn Disk>> {
        Ok(Arc::new(Self::open(&self.dir.join(path))?))
    }

    fn machine_boot(&self) -> Option<Vec<u8>> {
        let id = fs::read("/proc/sys/kernel/random/boot_id").ok()?;
        Some(id.trim_ascii().to_vec())
    }
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600);
    options
}

fn too_long(name: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::FileTooLarge,
        format!("{name} has more than {FILE_LEN_MAX} bytes"),
    )
}

/// Refuses what is not one plain file name.
pub(super) fn check_file_name(name: &str) -> io::Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if name.is_empty() || name.len() > 200 || name.starts_with('.') || !name.chars().all(plain) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{name:?} is not a plain file name"),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn small_files_are_written_replaced_renamed_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let disk = FileDisk::open(&dir.path().join("data")).unwrap();
        assert_eq!(disk.read("mark").unwrap(), None);
        for durable in [false, true, false] {
            disk.write("mark", b"a long content", durable).unwrap();
            disk.write("mark", b"short", durable).unwrap();
            assert_eq!(disk.read("mark").unwrap().unwrap(), b"short");
        }
        disk.rename("mark", "mark.old").unwrap();
        disk.write("mark", b"new", false).unwrap();
        assert_eq!(disk.read("mark").unwrap().unwrap(), b"new");
        assert_eq!(disk.read("mark.old").unwrap().unwrap(), b"short");
        disk.remove("mark").unwrap();
        disk.remove("mark").unwrap();
        assert_eq!(disk.read("mark").unwrap(), None);
        assert_eq!(disk.identity("mark").unwrap(), None);
    }

    #[test]
    fn there_is_room_on_a_real_disk() {
        let dir = tempfile::tempdir().unwrap();
        let (available, size) = FileDisk::open(dir.path()).unwrap().room().unwrap().unwrap();
        assert!(0 < available && available <= size, "{available} of {size}");
    }

    #[test]
    fn everything_is_the_owners_alone_and_inside_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        let disk = FileDisk::open(&dir.path().join("data")).unwrap();
        let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(disk.dir.clone()), 0o700);
        disk.write("plain", b"x", false).unwrap();
        disk.write("durable", b"x", true).unwrap();
        drop(disk.database("db.redb").unwrap());
        for name in ["plain", "durable", "db.redb"] {
            assert_eq!(mode(disk.dir.join(name)), 0o600, "{name}");
        }
        for name in ["../x", "a/b", "", ".", "..", "a\0b"] {
            assert!(disk.read(name).is_err(), "{name:?}");
            assert!(disk.write(name, b"", true).is_err(), "{name:?}");
        }
    }

    #[test]
    fn a_copy_has_another_identity_and_a_database_one_user() {
        let dir = tempfile::tempdir().unwrap();
        let disk = FileDisk::open(dir.path()).unwrap();
        let open = || {
            let backend = Backend(disk.database("db.redb").unwrap());
            redb::Builder::new().create_with_backend(backend)
        };
        let database = open().unwrap();
        assert!(matches!(open(), Err(redb::DatabaseError::DatabaseAlreadyOpen)));
        drop(database);
        open().unwrap();
        fs::copy(dir.path().join("db.redb"), dir.path().join("copy.redb")).unwrap();
        let identity = disk.identity("db.redb").unwrap().unwrap();
        assert_eq!(disk.identity("db.redb").unwrap().unwrap(), identity);
        assert_ne!(disk.identity("copy.redb").unwrap().unwrap(), identity);
    }
}
