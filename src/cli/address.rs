//! What a person writes to name a document: `web/dev`.

use super::failure::Failure;
use crate::model::{DocumentId, Key};

/// Reads `service/environment`.
pub(crate) fn document(text: &str) -> Result<DocumentId, String> {
    if text.matches('/').count() != 1 {
        return Err(format!("`{text}` is not SERVICE/ENVIRONMENT, for example web/dev"));
    }
    DocumentId::parse(text).map_err(|e| e.to_string())
}

/// Reads a key.
pub(crate) fn key(text: &str) -> Result<Key, String> {
    Key::new(text).map_err(|e| e.to_string())
}

/// Reads a version: `7`, or `7@origin` where two share the number, or shared it once.
pub(crate) fn version(text: &str) -> Result<String, String> {
    let (number, origin) = text.split_once('@').unwrap_or((text, "0"));
    let named = !origin.is_empty() && origin.bytes().all(|b| b.is_ascii_alphanumeric());
    if number.parse::<u64>().is_ok() && named {
        Ok(text.to_owned())
    } else {
        Err(format!("`{text}` is not a version: a number such as 7, or 7@ORIGIN"))
    }
}

/// Reads a key given among other words.
pub(crate) fn key_of(text: &str) -> Result<Key, Failure> {
    Key::new(text).map_err(|e| Failure::from(e).about(format!("`{text}`")))
}
