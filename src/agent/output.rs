//! Files that templates become: replaced as a whole, on disk on return, with the mode and owner that are
//! asked for. Whoever reads one sees the old or the new, never a part. What is there already is not
//! written again.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// What writing came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// It was there as it should be.
    Unchanged,
    /// The content was; its mode or owner was another.
    Adjusted,
    /// The content is another one.
    Changed,
}

/// Whose a file is to be, and who may use it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owner {
    pub(super) mode: u32,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
}

/// Whether the file at `path` has other content than `bytes`, or is not there.
pub(super) fn differs(path: &Path, bytes: &[u8]) -> io::Result<bool> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(error),
    };
    let len = bytes.len() as u64;
    if file.metadata()?.len() != len {
        return Ok(true);
    }
    // Of its whole length from the start, because it can have secrets in it.
    let mut there = Zeroizing::new(Vec::with_capacity(bytes.len() + 1));
    file.take(len + 1).read_to_end(&mut there)?;
    Ok(**there != *bytes)
}

/// Puts `bytes` at `path`. A symbolic link there is replaced, and what it names is left alone.
pub(super) fn replace(path: &Path, bytes: &[u8], owner: Owner) -> io::Result<Written> {
    let is_link = fs::symlink_metadata(path).is_ok_and(|it| it.file_type().is_symlink());
    let written = match !is_link && !differs(path, bytes)? {
        true if is_owned(path, owner)? => return Ok(Written::Unchanged),
        true => Written::Adjusted,
        false => Written::Changed,
    };
    let new = new_path(path)?;
    let made = make(&new, bytes, owner).and_then(|()| fs::rename(&new, path));
    if let Err(error) = made {
        // The old file is still there; only the attempt goes.
        let _ = fs::remove_file(&new);
        return Err(error);
    }
    File::open(dir_of(path))?.sync_all()?;
    Ok(written)
}

/// Whether a file could be put at `path`: tried with one beside it.
pub(super) fn check(path: &Path) -> io::Result<()> {
    if fs::metadata(path).is_ok_and(|it| it.is_dir()) {
        return Err(io::Error::from(io::ErrorKind::IsADirectory));
    }
    let new = new_path(path)?;
    make(&new, b"", Owner { mode: 0o600, uid: None, gid: None })?;
    fs::remove_file(new)
}

fn is_owned(path: &Path, owner: Owner) -> io::Result<bool> {
    let there = fs::metadata(path)?;
    Ok(there.mode() & 0o7777 == owner.mode
        && owner.uid.is_none_or(|uid| uid == there.uid())
        && owner.gid.is_none_or(|gid| gid == there.gid()))
}

fn make(new: &Path, bytes: &[u8], owner: Owner) -> io::Result<()> {
    // A crash can have left one.
    match fs::remove_file(new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(new)?;
    file.write_all(bytes)?;
    if owner.uid.is_some() || owner.gid.is_some() {
        std::os::unix::fs::fchown(&file, owner.uid, owner.gid)?;
    }
    // After the owner: changing that can take bits away.
    file.set_permissions(Permissions::from_mode(owner.mode))?;
    file.sync_all()
}

fn new_path(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let mut new = std::ffi::OsString::from(".");
    new.push(name);
    new.push(".holm-new");
    Ok(dir_of(path).join(new))
}

fn dir_of(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNER: Owner = Owner { mode: 0o640, uid: None, gid: None };

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn a_file_is_written_once_and_adjusted_where_only_its_mode_is_another() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.conf");
        assert_eq!(replace(&path, b"one", OWNER).unwrap(), Written::Changed);
        assert_eq!(replace(&path, b"one", OWNER).unwrap(), Written::Unchanged);
        assert_eq!(mode(&path), 0o640);
        let public = Owner { mode: 0o644, ..OWNER };
        assert_eq!(replace(&path, b"one", public).unwrap(), Written::Adjusted);
        assert_eq!((mode(&path), fs::read(&path).unwrap()), (0o644, b"one".to_vec()));
        assert_eq!(replace(&path, b"two", public).unwrap(), Written::Changed);
        let names: Vec<_> = fs::read_dir(dir.path()).unwrap().collect();
        assert_eq!(names.len(), 1, "nothing is left beside it");
    }

    #[test]
    fn what_cannot_be_written_leaves_what_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.conf");
        replace(&path, b"one", OWNER).unwrap();
        // A directory where the new file would be made.
        fs::create_dir(dir.path().join(".out.conf.holm-new")).unwrap();
        replace(&path, b"two", OWNER).unwrap_err();
        assert_eq!(fs::read(&path).unwrap(), b"one");
        check(&path).unwrap_err();
        check(&dir.path().join("no/such/file")).unwrap_err();
        check(dir.path()).unwrap_err();
        check(&dir.path().join("other")).unwrap();
        assert!(!dir.path().join("other").exists());
    }

    #[test]
    fn a_left_over_is_taken_away_and_a_link_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let (path, named) = (dir.path().join("out.conf"), dir.path().join("named"));
        fs::write(dir.path().join(".out.conf.holm-new"), "half").unwrap();
        fs::write(&named, "one").unwrap();
        std::os::unix::fs::symlink(&named, &path).unwrap();
        assert_eq!(replace(&path, b"one", OWNER).unwrap(), Written::Changed);
        assert!(!fs::symlink_metadata(&path).unwrap().file_type().is_symlink());
        assert_eq!(fs::read(&named).unwrap(), b"one");
    }
}
