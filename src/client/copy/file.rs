//! The last-known-good file of a copy: lines of text, so that a person can read what a program starts
//! from. What is cut in half, changed, of another format or of another document is refused by name.
//!
//! ```text
//! holm local copy 1
//! {"document":"web/prod","prefix":null,"session":"…","confirmed_at_us":1700000000000000,"keys":2}
//! {"key":"a","value":1,"version":3,…}
//! {"key":"b","value":2,"version":1,…}
//! sha256 <of everything before this line, in hexadecimal>
//! ```
//!
//! The file before it is kept beside it as `NAME.before`: where the newest cannot be used, or a crash
//! came between the two, that one is. Both are their owner's alone (0600).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use imbl::OrdMap;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::state::CopyState;
use crate::client::{Item, Sibling};
use crate::config::texts::Texts;
use crate::env::Disk;
use crate::env::disk::FILE_LEN_MAX;
use crate::http::item;
use crate::model::{DocumentId, JsonText, Key, Stamp, Text};

const FIRST_LINE: &str = "holm local copy 1";
const FIRST_WORDS: &str = "holm local copy ";
const SUM_WORD: &str = "sha256 ";

/// Why a file is not used, or not written. What was there before stays.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CopyFileError {
    /// The system refuses.
    #[error("{}: {reason}", path.display())]
    System {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// It is something else.
    #[error("{}: this is no local copy of Holm's", path.display())]
    Foreign {
        /// Which file.
        path: PathBuf,
    },
    /// A later program wrote it, or an earlier one.
    #[error("{}: the format {found:?} is not known to this program, which reads {FIRST_LINE:?}", path.display())]
    Format {
        /// Which file.
        path: PathBuf,
        /// Its first line.
        found: String,
    },
    /// Its end is missing.
    #[error("{}: the file is cut short: its last line has no checksum", path.display())]
    Cut {
        /// Which file.
        path: PathBuf,
    },
    /// Something in it is not what was written.
    #[error("{}: the file was changed or damaged: its checksum is another", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
    },
    /// It is whole, and of something else.
    #[error("{}: the file is a copy of {found}, not of {expected}", path.display())]
    Document {
        /// Which file.
        path: PathBuf,
        /// What it is of.
        found: String,
        /// What it should be of.
        expected: String,
    },
    /// It is whole, and a line is not what this program writes.
    #[error("{}:{line}: {reason}", path.display())]
    Line {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// The copy is larger than a file may be.
    #[error("{}: the copy comes to more than {FILE_LEN_MAX} bytes and is not put on disk", path.display())]
    TooLong {
        /// Which file.
        path: PathBuf,
    },
}

/// What is in a file.
#[derive(Clone, Debug)]
pub(super) struct Saved {
    pub(super) items: OrdMap<Key, Arc<Item>>,
    pub(super) session: Option<String>,
    /// When a region last said that this is how it is.
    pub(super) confirmed_at: Stamp,
}

/// Where a copy is kept.
pub(super) struct CopyFile {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    name: String,
    document: DocumentId,
    prefix: Option<String>,
    /// Whether what is there under the name can be used, and so is worth keeping.
    is_good: bool,
}

#[derive(Serialize, Deserialize)]
struct Header {
    document: String,
    prefix: Option<String>,
    session: Option<String>,
    confirmed_at_us: u64,
    keys: usize,
}

/// An item without what the document says already.
#[derive(Serialize, Deserialize)]
struct Line {
    key: Key,
    value: JsonText,
    version: u64,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    updated_at: String,
    #[serde(default, skip_serializing_if = "str::is_empty")]
    updated_by: Text,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    message: Option<Text>,
    #[serde(default, skip_serializing_if = "str::is_empty")]
    region: Text,
    #[serde(default, skip_serializing_if = "str::is_empty")]
    origin: Text,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    conflicts: Vec<Sibling>,
}

impl CopyFile {
    pub(super) fn new(
        disk: Arc<dyn Disk>,
        path: (&Path, &str),
        document: DocumentId,
        prefix: Option<String>,
    ) -> Self {
        let (dir, name) = path;
        Self { disk, dir: dir.to_owned(), name: name.to_owned(), document, prefix, is_good: false }
    }

    /// The newest file that can be used, and what is wrong with those that cannot.
    pub(super) fn load(&mut self) -> (Option<Saved>, Vec<CopyFileError>) {
        let mut refused = Vec::new();
        for name in [self.name.clone(), self.before()] {
            match self.read(&name) {
                Ok(Some(saved)) => {
                    self.is_good = name == self.name;
                    return (Some(saved), refused);
                }
                Ok(None) => {}
                Err(error) => refused.push(error),
            }
        }
        (None, refused)
    }

    /// Puts a state in the file's place, on disk on return. The one before is kept, if it was good.
    pub(super) fn save(
        &mut self,
        state: &CopyState,
        confirmed_at: Stamp,
    ) -> Result<(), CopyFileError> {
        let bytes = self.encode(state, confirmed_at)?;
        if self.is_good {
            let kept = self.disk.rename(&self.name, &self.before());
            kept.map_err(|e| self.system(&self.name, &e))?;
            self.is_good = false;
        }
        self.disk.write(&self.name, &bytes, true).map_err(|e| self.system(&self.name, &e))?;
        self.is_good = true;
        Ok(())
    }

    fn before(&self) -> String {
        format!("{}.before", self.name)
    }

    fn system(&self, name: &str, error: &std::io::Error) -> CopyFileError {
        CopyFileError::System { path: self.dir.join(name), reason: error.to_string() }
    }

    fn encode(&self, state: &CopyState, confirmed_at: Stamp) -> Result<Vec<u8>, CopyFileError> {
        let path = || self.dir.join(&self.name);
        let header = Header {
            document: self.document.to_string(),
            prefix: self.prefix.clone(),
            session: state.session().map(str::to_owned),
            confirmed_at_us: confirmed_at.0,
            keys: state.items().len(),
        };
        // About its whole length from the start: what grows takes three times as much for a moment.
        let lines = state.items().iter();
        let len: usize =
            lines.map(|(key, item)| key.as_str().len() + item.value.as_str().len() + 200).sum();
        let mut bytes = Vec::with_capacity(len.min(FILE_LEN_MAX as usize) + 1000);
        bytes.extend_from_slice(format!("{FIRST_LINE}\n").as_bytes());
        let mut put = |written: Result<Vec<u8>, serde_json::Error>| {
            let line = written
                .map_err(|e| CopyFileError::System { path: path(), reason: e.to_string() })?;
            bytes.extend_from_slice(&line);
            bytes.push(b'\n');
            // With room for the last line.
            match bytes.len() as u64 + 100 > FILE_LEN_MAX {
                true => Err(CopyFileError::TooLong { path: path() }),
                false => Ok(()),
            }
        };
        put(serde_json::to_vec(&header))?;
        for item in state.items().values() {
            put(serde_json::to_vec(&Line::of(item)))?;
        }
        let sum = hex(&Sha256::digest(&bytes));
        bytes.extend_from_slice(format!("{SUM_WORD}{sum}\n").as_bytes());
        Ok(bytes)
    }

    fn read(&self, name: &str) -> Result<Option<Saved>, CopyFileError> {
        let bytes = self.disk.read(name).map_err(|e| self.system(name, &e))?;
        bytes.map(|bytes| self.decode(&self.dir.join(name), &bytes)).transpose()
    }

    fn decode(&self, path: &Path, bytes: &[u8]) -> Result<Saved, CopyFileError> {
        let path = || path.to_owned();
        let first = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
        if first != FIRST_LINE.as_bytes() {
            let found = String::from_utf8_lossy(&first[..first.len().min(100)]).into_owned();
            let is_ours = found.starts_with(FIRST_WORDS);
            let is_cut = !found.is_empty() && FIRST_LINE.starts_with(&found);
            return Err(match (is_ours && !is_cut, is_cut || bytes.is_empty()) {
                (true, _) => CopyFileError::Format { path: path(), found },
                (_, true) => CopyFileError::Cut { path: path() },
                _ => CopyFileError::Foreign { path: path() },
            });
        }
        let body = checked(bytes).ok_or_else(|| CopyFileError::Cut { path: path() })?;
        let body = body.ok_or_else(|| CopyFileError::Damaged { path: path() })?;
        let wrong =
            |line: usize, reason: String| CopyFileError::Line { path: path(), line, reason };
        let text = std::str::from_utf8(body).map_err(|e| wrong(1, e.to_string()))?;
        let mut lines = text.lines().zip(1..).skip(1);
        let (header, _) = lines.next().ok_or_else(|| wrong(2, "it is missing".to_owned()))?;
        let header: Header = serde_json::from_str(header).map_err(|e| wrong(2, e.to_string()))?;
        let name = |document: &str, prefix: Option<&str>| match prefix {
            Some(prefix) => format!("{document} (keys with {prefix:?})"),
            None => document.to_owned(),
        };
        let found = name(&header.document, header.prefix.as_deref());
        let expected = name(&self.document.to_string(), self.prefix.as_deref());
        if found != expected {
            return Err(CopyFileError::Document { path: path(), found, expected });
        }
        let (mut items, mut texts) = (OrdMap::new(), Texts::default());
        for (text, number) in lines {
            let line: Line =
                serde_json::from_str(text).map_err(|e| wrong(number, e.to_string()))?;
            let mut item = line.item(&self.document);
            item.share(&mut texts);
            items.insert(item.key.clone(), Arc::new(item));
        }
        if items.len() != header.keys {
            let reason = format!("{} keys are announced, {} are there", header.keys, items.len());
            return Err(wrong(2, reason));
        }
        let confirmed_at = Stamp(header.confirmed_at_us);
        Ok(Saved { items, session: header.session, confirmed_at })
    }
}

/// What stands before the last line: nothing where that is no checksum, nothing inside where it is
/// another's.
fn checked(bytes: &[u8]) -> Option<Option<&[u8]>> {
    let whole = bytes.strip_suffix(b"\n")?;
    let start = whole.iter().rposition(|byte| *byte == b'\n')? + 1;
    let sum = whole[start..].strip_prefix(SUM_WORD.as_bytes())?;
    let body = &bytes[..start];
    Some((hex(&Sha256::digest(body)).as_bytes() == sum).then_some(body))
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // A string takes whatever is written.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

impl Line {
    fn of(item: &Item) -> Self {
        let item = item.clone();
        Self {
            key: item.key,
            value: item.value,
            version: item.version,
            updated_at: item.updated_at,
            updated_by: item.updated_by,
            message: item.message,
            region: item.region,
            origin: item.origin,
            conflicts: item.conflicts,
        }
    }

    fn item(self, document: &DocumentId) -> Item {
        Item {
            id: item::id(document, &self.key),
            key: self.key,
            value: self.value,
            version: self.version,
            service: document.service.clone(),
            environment: document.environment.clone(),
            updated_at: self.updated_at,
            updated_by: self.updated_by,
            message: self.message,
            region: self.region,
            origin: self.origin,
            conflicts: self.conflicts,
        }
    }
}

#[cfg(test)]
mod tests;
