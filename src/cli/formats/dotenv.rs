//! `.env` files: `NAME=value` lines. Every value is a string, and `$` means nothing here: who reads
//! the value at the end fills placeholders in.

use super::tree::{self, Entry, Tree};
use super::{FormatError, Keys};

/// Reads a file's only document.
pub(crate) fn parse(text: &str) -> Result<Tree, FormatError> {
    let text = text.replace("\r\n", "\n");
    let mut entries = Vec::new();
    let (mut rest, mut line) = (text.as_str(), 1);
    while !rest.is_empty() {
        let (entry, after) = one(rest, line)?;
        line += rest[..rest.len() - after.len()].matches('\n').count();
        rest = after;
        entries.extend(entry);
    }
    Ok(Tree::Map(entries))
}

fn wrong(line: usize, message: &str) -> FormatError {
    FormatError::Syntax { line: Some(line), message: message.to_owned() }
}

/// The first assignment of `text`, if its line has one, and what stands after that.
fn one(text: &str, line: usize) -> Result<(Option<Entry>, &str), FormatError> {
    let (first, after) = text.split_once('\n').unwrap_or((text, ""));
    let start = first.trim();
    if start.is_empty() || start.starts_with('#') {
        return Ok((None, after));
    }
    let Some((name, value)) = text.split_once('=').filter(|(name, _)| !name.contains('\n')) else {
        return Err(wrong(line, "`NAME=value` is expected"));
    };
    let name = name.trim();
    let name = name.strip_prefix("export ").unwrap_or(name).trim().to_owned();
    let value = value.trim_start_matches([' ', '\t']);
    let (value, after) = match value.strip_prefix(['\'', '"']) {
        Some(quoted) => {
            let mark = value.as_bytes()[0];
            let (value, rest) =
                unquote(quoted, mark).ok_or_else(|| wrong(line, "this quote is never closed"))?;
            let (rest, after) = rest.split_once('\n').unwrap_or((rest, ""));
            let rest = rest.trim_start();
            if !rest.is_empty() && !rest.starts_with('#') {
                return Err(wrong(line, "only a comment may stand after a closing quote"));
            }
            (value, after)
        }
        None => {
            let (value, after) = value.split_once('\n').unwrap_or((value, ""));
            (without_comment(value).trim_end().to_owned(), after)
        }
    };
    Ok((Some(Entry { name, line: Some(line), tree: Tree::Text(value) }), after))
}

fn without_comment(value: &str) -> &str {
    let mark =
        value.match_indices('#').find(|(at, _)| *at == 0 || value[..*at].ends_with([' ', '\t']));
    mark.map_or(value, |(at, _)| &value[..at])
}

/// The text up to the closing quote, and what stands after it.
fn unquote(text: &str, mark: u8) -> Option<(String, &str)> {
    if mark == b'\'' {
        return text.split_once('\'').map(|(value, rest)| (value.to_owned(), rest));
    }
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                'r' => value.push('\r'),
                't' => value.push('\t'),
                c @ ('"' | '\\' | '$' | '`') => value.push(c),
                other => {
                    value.push('\\');
                    value.push(other);
                }
            },
            c => value.push(c),
        }
    }
    None
}

/// Writes keys, one a line. Quoted such that neither a shell nor another reader fills `$` in.
pub(crate) fn write(out: &mut String, keys: &Keys) {
    for (key, tree) in tree::flat(keys) {
        let value = match tree {
            Tree::Text(text) => text,
            other => tree::to_json(&other),
        };
        out.push_str(&format!("{key}={}\n", quote(&value)));
    }
}

fn quote(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_-./:,@%+=?".contains(&b);
    if text.bytes().all(plain) {
        return text.to_owned();
    }
    if !text.contains(['\'', '\n', '\r']) {
        return format!("'{text}'");
    }
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '"' | '\\' | '$' | '`' => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
