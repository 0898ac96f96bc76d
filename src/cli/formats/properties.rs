//! Java `.properties` files, as `java.util.Properties` reads them, and with Spring's `#---` between
//! documents. Every value is a string.

use super::profiles::ON_PROFILE;
use super::tree::{self, Entry, Tree};
use super::{FormatError, Keys};
use crate::model::Environment;

/// Reads a file's documents.
pub(crate) fn parse(text: &str) -> Result<Vec<Tree>, FormatError> {
    let mut documents = vec![Vec::new()];
    let mut lines =
        text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line)).enumerate();
    while let Some((index, line)) = lines.next() {
        if matches!(line.trim_end(), "#---" | "!---") {
            documents.push(Vec::new());
            continue;
        }
        let start = line.trim_start_matches(BLANKS);
        if start.is_empty() || start.starts_with(['#', '!']) {
            continue;
        }
        let mut logical = start.to_owned();
        while (logical.len() - logical.trim_end_matches('\\').len()) % 2 == 1 {
            logical.pop();
            match lines.next() {
                Some((_, next)) => logical.push_str(next.trim_start_matches(BLANKS)),
                None => break,
            }
        }
        if let Some(document) = documents.last_mut() {
            document.push(entry(&logical, index + 1)?);
        }
    }
    Ok(documents.into_iter().map(Tree::Map).collect())
}

const BLANKS: [char; 3] = [' ', '\t', '\u{c}'];

fn entry(line: &str, number: usize) -> Result<Entry, FormatError> {
    let mut escaped = false;
    let end = line.char_indices().find(|(_, c)| {
        let ends = !escaped && (matches!(c, '=' | ':') || BLANKS.contains(c));
        escaped = !escaped && *c == '\\';
        ends
    });
    let (name, rest) = line.split_at(end.map_or(line.len(), |(at, _)| at));
    let rest = rest.trim_start_matches(BLANKS);
    let rest = rest.strip_prefix(['=', ':']).unwrap_or(rest).trim_start_matches(BLANKS);
    let line = Some(number);
    Ok(Entry { name: unescape(name, line)?, line, tree: Tree::Text(unescape(rest, line)?) })
}

fn unescape(text: &str, line: Option<usize>) -> Result<String, FormatError> {
    // Java's escapes are UTF-16: a character past the first 65,536 is two of them.
    let mut units: Vec<u16> = Vec::with_capacity(text.len());
    let mut chars = text.chars();
    let mut buffer = [0; 2];
    while let Some(c) = chars.next() {
        let c = match c {
            '\\' => match chars.next() {
                Some('t') => '\t',
                Some('n') => '\n',
                Some('r') => '\r',
                Some('f') => '\u{c}',
                Some('u') => {
                    let digits: String = chars.by_ref().take(4).collect();
                    let all = digits.len() == 4 && digits.bytes().all(|b| b.is_ascii_hexdigit());
                    let unit = all.then(|| u16::from_str_radix(&digits, 16).ok()).flatten();
                    units.push(unit.ok_or_else(|| FormatError::Syntax {
                        line,
                        message: format!("`\\u{digits}` is not `\\u` and four hexadecimal digits"),
                    })?);
                    continue;
                }
                Some(other) => other,
                None => continue,
            },
            c => c,
        };
        units.extend_from_slice(c.encode_utf16(&mut buffer));
    }
    String::from_utf16(&units).map_err(|_| FormatError::Syntax {
        line,
        message: "half of a surrogate pair stands alone".to_owned(),
    })
}

/// Writes keys as one document. All of it is ASCII, so that every version of Java reads it.
pub(crate) fn write(out: &mut String, first: bool, profile: Option<&Environment>, keys: &Keys) {
    if !first {
        out.push_str("#---\n");
    }
    if let Some(profile) = profile {
        out.push_str(&format!("{ON_PROFILE}={}\n", escape(profile.as_str(), false)));
    }
    for (key, tree) in tree::flat(keys) {
        let value = match tree {
            Tree::Text(text) => text,
            other => tree::to_json(&other),
        };
        out.push_str(&format!("{}={}\n", escape(key, true), escape(&value, false)));
    }
}

fn escape(text: &str, is_key: bool) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(text.len());
    for (i, c) in text.chars().enumerate() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            ' ' if i == 0 => out.push_str("\\ "),
            '=' | ':' if is_key => {
                out.push('\\');
                out.push(c);
            }
            ' '..='~' => out.push(c),
            c => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04X}");
                }
            }
        }
    }
    out
}
