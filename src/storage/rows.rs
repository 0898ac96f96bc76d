//! Table `rows`: `service/environment/key` → the key's siblings. Derived: the materialised view as
//! of the last checkpoint, so that opening reads it instead of every document. Lifetime: the key's,
//! its removal included, until a roll leaves that out.

use std::collections::BTreeMap;
use std::sync::Arc;

use imbl::OrdMap;
use redb::{ReadTransaction, ReadableTable, TableDefinition, WriteTransaction};

use super::error::StoreError;
use crate::config::texts::Texts;
use crate::config::{DocumentView, Entry, Row};
use crate::model::{DocumentId, Dot, Key, cbor};

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

/// Which row that is.
pub(super) fn parse_row_key(text: &str) -> Option<(DocumentId, Key)> {
    let (document, key) = text.rsplit_once('/')?;
    Some((DocumentId::parse(document).ok()?, Key::new(key).ok()?))
}

/// An entry, with the name of its key's row.
pub(super) type Named = (String, Entry);

/// Sets rows; those that are not there any more are removed. Gives what stood in them and does not any
/// more: it belongs in the histories.
pub(super) fn put<'a>(
    tx: &WriteTransaction,
    rows: impl Iterator<Item = (&'a DocumentId, &'a Key, Option<&'a Row>)>,
) -> Result<Vec<Named>, StoreError> {
    let mut table = tx.open_table(ROWS)?;
    let (mut bytes, mut replaced) = (Vec::new(), Vec::new());
    for (document, key, row) in dense(rows) {
        let name = row_key(document, key);
        let old = match row {
            Some(row) => {
                bytes.clear();
                cbor::encode_into(&RowToStore { siblings: row.siblings() }, &mut bytes);
                table.insert(name.as_str(), bytes.as_slice())?
            }
            None => table.remove(name.as_str())?,
        };
        if let Some(old) = old {
            let old = decode(&name, old.value())?;
            let gone = old.into_iter().filter(|entry| !shows(row, entry.dot));
            replaced.extend(gone.map(|entry| (name.clone(), entry)));
        }
    }
    Ok(replaced)
}

/// A row to be set: of which document and key, and what it is to be.
type Change<'a> = (&'a DocumentId, &'a Key, Option<&'a Row>);

/// Most bytes of values in a row of which many fit into a page.
const SHORT_BYTES_MAX: usize = 384;

/// The same in an order in which redb's pages come to be full. A page that has no more room is split in
/// halves: new rows that are put in as they are sorted leave such halves behind them. So it is three of
/// five first, and then what comes between these. Of long rows so few fit into a page that it would do
/// more harm than good.
fn dense<'a>(sorted: impl Iterator<Item = Change<'a>>) -> impl Iterator<Item = Change<'a>> {
    let is_short = |row: &Row| {
        let values = row.siblings().iter().filter_map(|entry| entry.value.as_ref());
        values.map(|value| value.as_str().len()).sum::<usize>() <= SHORT_BYTES_MAX
    };
    let is_first = |(i, (_, _, row)): &(usize, Change<'a>)| {
        (i % 5).is_multiple_of(2) || !row.is_some_and(is_short)
    };
    let (first, then): (Vec<_>, Vec<_>) = sorted.enumerate().partition(is_first);
    first.into_iter().chain(then).map(|(_, change)| change)
}

/// Sets a document's rows to these. Gives what stood in them before, as [`put`] does.
pub(super) fn replace(
    tx: &WriteTransaction,
    document: &DocumentId,
    rows: &BTreeMap<Key, Row>,
) -> Result<Vec<Named>, StoreError> {
    let name = document.to_string();
    let mut gone: Vec<Key> = Vec::new();
    {
        let (from, to) = span(&name);
        for row in tx.open_table(ROWS)?.range(from.as_str()..to.as_str())? {
            let (name, _) = row?;
            let damaged = || StoreError::damaged(format!("row {}", name.value()));
            let (_, key) = parse_row_key(name.value()).ok_or_else(damaged)?;
            gone.extend((!rows.contains_key(&key)).then_some(key));
        }
    }
    let gone = gone.iter().map(|key| (document, key, None));
    put(tx, rows.iter().map(|(key, row)| (document, key, Some(row))).chain(gone))
}

/// Whether a row holds this entry.
pub(super) fn shows(row: Option<&Row>, dot: Dot) -> bool {
    row.is_some_and(|row| row.siblings().iter().any(|entry| entry.dot == dot))
}

/// What a key's row holds.
pub(super) fn siblings(
    table: &impl ReadableTable<&'static str, &'static [u8]>,
    name: &str,
) -> Result<Vec<Entry>, StoreError> {
    match table.get(name)? {
        Some(row) => decode(name, row.value()),
        None => Ok(Vec::new()),
    }
}

/// What stands in a row.
pub(super) fn decode(name: &str, row: &[u8]) -> Result<Vec<Entry>, StoreError> {
    let row: StoredRow =
        cbor::decode(row).map_err(|e| StoreError::damaged(format!("row {name}: {e}")))?;
    Ok(row.siblings)
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
        let mut siblings = decode(name.value(), stored.value())?;
        siblings.iter_mut().for_each(|entry| texts.share(entry));
        let row = Arc::new(Row::new(siblings).ok_or_else(damaged)?);
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
