//! Table `rows`: `service/environment/key` → the key's siblings. Derived: the materialised view as
//! of the last checkpoint, so that opening reads it instead of every document. Lifetime: the key's,
//! its removal included, until a roll leaves that out.

use std::sync::Arc;

use imbl::OrdMap;
use redb::{ReadTransaction, ReadableTable as _, TableDefinition, WriteTransaction};

use super::error::StoreError;
use crate::config::texts::Texts;
use crate::config::{DocumentView, Entry, Row};
use crate::model::{DocumentId, Key, cbor};

pub(super) const ROWS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("rows");

/// A row's value, as it is written.
#[derive(minicbor::Encode)]
#[cbor(map)]
struct RowToStore<'a> {
    #[n(0)]
    siblings: &'a [Entry],
}

/// The same, as it is read.
#[derive(minicbor::Decode)]
#[cbor(map)]
struct StoredRow {
    #[n(0)]
    siblings: Vec<Entry>,
}

/// The name of a key's row.
pub(super) fn row_key(document: &DocumentId, key: &Key) -> String {
    format!("{document}/{key}")
}

/// Between which names those of a document's rows are: the first may be one, the second is behind all.
pub(super) fn span(document: &str) -> (String, String) {
    // `0` comes behind `/`.
    (format!("{document}/"), format!("{document}0"))
}

fn parse_row_key(text: &str) -> Option<(DocumentId, Key)> {
    let (document, key) = text.rsplit_once('/')?;
    Some((DocumentId::parse(document).ok()?, Key::new(key).ok()?))
}

/// Sets rows; those that are not there any more are removed.
pub(super) fn put<'a>(
    tx: &WriteTransaction,
    rows: impl Iterator<Item = (&'a DocumentId, &'a Key, Option<&'a Row>)>,
) -> Result<(), StoreError> {
    let mut table = tx.open_table(ROWS)?;
    let mut bytes = Vec::new();
    for (document, key, row) in rows {
        let Some(row) = row else {
            table.remove(row_key(document, key).as_str())?;
            continue;
        };
        bytes.clear();
        cbor::encode_into(&RowToStore { siblings: row.siblings() }, &mut bytes);
        table.insert(row_key(document, key).as_str(), bytes.as_slice())?;
    }
    Ok(())
}

/// Sets a document's rows to these.
pub(super) fn replace<'a>(
    tx: &WriteTransaction,
    document: &DocumentId,
    rows: impl Iterator<Item = (&'a Key, &'a Row)>,
) -> Result<(), StoreError> {
    {
        let (from, to) = span(&document.to_string());
        tx.open_table(ROWS)?.retain_in(from.as_str()..to.as_str(), |_, _| false)?;
    }
    put(tx, rows.map(|(key, row)| (document, key, Some(row))))
}

pub(super) fn read(
    tx: &ReadTransaction,
) -> Result<OrdMap<DocumentId, Arc<DocumentView>>, StoreError> {
    let mut documents: OrdMap<DocumentId, Arc<DocumentView>> = OrdMap::new();
    let mut open: Option<(DocumentId, DocumentView)> = None;
    let mut texts = Texts::default();
    for row in tx.open_table(ROWS)?.iter()? {
        let (name, stored) = row?;
        let damaged = || StoreError::damaged(format!("row {}", name.value()));
        let (document, key) = parse_row_key(name.value()).ok_or_else(damaged)?;
        let mut stored: StoredRow = cbor::decode(stored.value()).map_err(|_| damaged())?;
        stored.siblings.iter_mut().for_each(|entry| texts.share(entry));
        let row = Arc::new(Row::new(stored.siblings).ok_or_else(damaged)?);
        match &mut open {
            Some((id, view)) if *id == document => {
                view.rows.insert(key, row);
            }
            _ => {
                if let Some((id, view)) = open.take() {
                    documents.insert(id, Arc::new(view));
                }
                open = Some((
                    document,
                    DocumentView { rows: OrdMap::unit(key, row), ..DocumentView::default() },
                ));
            }
        }
    }
    if let Some((id, view)) = open {
        documents.insert(id, Arc::new(view));
    }
    Ok(documents)
}
