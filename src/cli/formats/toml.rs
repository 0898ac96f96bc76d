//! TOML files. Dates become strings; integers are read with all their digits, but written only
//! where they fit the 64 bits that TOML promises. There is no null and no infinity.

use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

use super::tree::{self, Entry, Tree};
use super::{FormatError, Keys, quote};

/// Reads a file's only document.
pub(crate) fn parse(text: &str) -> Result<Tree, FormatError> {
    let table = DeTable::parse(text).map_err(|error| FormatError::Syntax {
        line: error.span().map(|span| line_of(text, span.start)),
        message: error.message().to_owned(),
    })?;
    of_table(text, table.get_ref())
}

fn line_of(text: &str, byte: usize) -> usize {
    let before = &text.as_bytes()[..byte.min(text.len())];
    1 + before.iter().filter(|b| **b == b'\n').count()
}

fn of_table(text: &str, table: &DeTable<'_>) -> Result<Tree, FormatError> {
    let entries = table.iter().map(|(name, value)| {
        let line = Some(line_of(text, name.span().start));
        Ok(Entry { name: name.get_ref().to_string(), line, tree: of_value(text, value)? })
    });
    let mut entries: Vec<Entry> = entries.collect::<Result<_, FormatError>>()?;
    entries.sort_by_key(|entry| entry.line);
    Ok(Tree::Map(entries))
}

fn of_value(text: &str, value: &Spanned<DeValue<'_>>) -> Result<Tree, FormatError> {
    let wrong = |message: &str| FormatError::Syntax {
        line: Some(line_of(text, value.span().start)),
        message: message.to_owned(),
    };
    Ok(match value.get_ref() {
        DeValue::String(text) => Tree::Text(text.to_string()),
        DeValue::Integer(integer) => {
            Tree::Raw(decimal(integer).ok_or_else(|| wrong("this integer has more than 128 bits"))?)
        }
        DeValue::Float(float) if float.as_str().contains(['n', 'N']) => {
            return Err(wrong("JSON values have no infinity and no `nan`"));
        }
        DeValue::Float(float) => Tree::Raw(float.as_str().trim_start_matches('+').to_owned()),
        DeValue::Boolean(value) => Tree::Raw(value.to_string()),
        DeValue::Datetime(value) => Tree::Text(value.to_string()),
        DeValue::Array(items) => {
            let items = items.iter().map(|item| of_value(text, item));
            Tree::List(items.collect::<Result<_, _>>()?)
        }
        DeValue::Table(table) => of_table(text, table)?,
    })
}

fn decimal(integer: &DeInteger<'_>) -> Option<String> {
    let digits = integer.as_str();
    if integer.radix() == 10 {
        return Some(digits.trim_start_matches('+').to_owned());
    }
    u128::from_str_radix(digits, integer.radix()).ok().map(|number| number.to_string())
}

/// What of a value TOML cannot hold.
pub(crate) fn loss_of(tree: &Tree) -> Option<(&'static str, bool)> {
    match tree {
        Tree::Raw(text) if text == "null" => Some(("TOML has no null", false)),
        Tree::Raw(text)
            if text.bytes().all(|b| b == b'-' || b.is_ascii_digit())
                && text.parse::<i64>().is_err() =>
        {
            Some(("a TOML integer has 64 bits", false))
        }
        Tree::Raw(_) | Tree::Text(_) => None,
        Tree::List(items) => items.iter().find_map(loss_of),
        Tree::Map(entries) => entries.iter().find_map(|entry| loss_of(&entry.tree)),
    }
}

/// Writes keys as nested tables, without what TOML cannot hold.
pub(crate) fn write(out: &mut String, keys: &Keys) {
    if let Tree::Map(entries) = tree::unfold(keys) {
        push_table(out, "", &entries);
    }
}

fn push_table(out: &mut String, path: &str, entries: &[Entry]) {
    let is_table = |tree: &Tree| matches!(tree, Tree::Map(below) if !below.is_empty());
    let (tables, leaves): (Vec<&Entry>, Vec<&Entry>) =
        entries.iter().partition(|entry| is_table(&entry.tree));
    if !leaves.is_empty() && !path.is_empty() {
        if !out.is_empty() {
            out.push('\n');
        }
        out.push_str(&format!("[{path}]\n"));
    }
    for entry in leaves {
        if let Some(value) = inline(&entry.tree) {
            out.push_str(&format!("{} = {value}\n", name(&entry.name)));
        }
    }
    for entry in tables {
        let Tree::Map(below) = &entry.tree else { continue };
        let dot = if path.is_empty() { "" } else { "." };
        push_table(out, &format!("{path}{dot}{}", name(&entry.name)), below);
    }
}

fn name(text: &str) -> String {
    let bare = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
    if !text.is_empty() && text.bytes().all(bare) { text.to_owned() } else { quote::double(text) }
}

/// A value on one line; nothing for a null.
fn inline(tree: &Tree) -> Option<String> {
    Some(match tree {
        Tree::Raw(text) if text == "null" => return None,
        Tree::Raw(text) => text.clone(),
        Tree::Text(text) => quote::double(text),
        Tree::List(items) => {
            let items: Vec<String> = items.iter().filter_map(inline).collect();
            format!("[{}]", items.join(", "))
        }
        Tree::Map(entries) => {
            let entries = entries.iter().filter_map(|entry| {
                Some(format!("{} = {}", name(&entry.name), inline(&entry.tree)?))
            });
            let entries: Vec<String> = entries.collect();
            if entries.is_empty() {
                "{}".to_owned()
            } else {
                format!("{{ {} }}", entries.join(", "))
            }
        }
    })
}
