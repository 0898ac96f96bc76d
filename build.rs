//! Says from which sources the program is made, so that two programs of one version know whether they are
//! of one build (`cli::sidecar`).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// What the program is made from.
const SOURCES: [&str; 4] = ["Cargo.toml", "Cargo.lock", "build.rs", "src"];

fn files(path: &Path, found: &mut BTreeSet<PathBuf>) -> io::Result<()> {
    // What editors put beside the files they have open is hidden, and may be a link to nowhere.
    let is_hidden = path.file_name().is_some_and(|it| it.as_encoded_bytes().starts_with(b"."));
    if path.is_dir() && !is_hidden {
        return fs::read_dir(path)?.try_for_each(|entry| files(&entry?.path(), found));
    }
    if path.is_file() && !is_hidden {
        found.insert(path.to_owned());
    }
    Ok(())
}

fn main() -> io::Result<()> {
    let mut found = BTreeSet::new();
    for source in SOURCES.into_iter().filter(|source| Path::new(source).exists()) {
        println!("cargo:rerun-if-changed={source}");
        files(Path::new(source), &mut found)?;
    }
    // FNV-1a: it only has to be another one for other sources.
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut take = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    for path in found {
        take(path.as_os_str().as_encoded_bytes());
        take(&fs::read(path)?);
    }
    println!("cargo:rustc-env=HOLM_SOURCES={hash:016x}");
    Ok(())
}
