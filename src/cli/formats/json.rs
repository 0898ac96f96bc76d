//! JSON files: one object, whose members may be dotted or nested. No comments, no trailing commas.

use super::tree::{self, Tree};
use super::{FormatError, Keys};

/// Reads a file's only document.
pub(crate) fn parse(text: &str) -> Result<Tree, FormatError> {
    let wrong = |error: serde_json::Error| FormatError::Syntax {
        line: (error.line() > 0).then(|| error.line()),
        message: error.to_string(),
    };
    // Over the whole text first: the tree is built part by part, and would lose the lines.
    serde_json::from_str::<&serde_json::value::RawValue>(text).map_err(wrong)?;
    tree::of_json_text(text, tree::DEPTH_MAX).map_err(wrong)
}

/// Writes keys as nested objects.
pub(crate) fn write(out: &mut String, keys: &Keys) {
    push(out, &tree::unfold(keys), 0);
    out.push('\n');
}

fn push(out: &mut String, tree: &Tree, indent: usize) {
    match tree {
        Tree::Map(entries) if !entries.is_empty() => {
            out.push('{');
            for (i, entry) in entries.iter().enumerate() {
                out.push_str(if i > 0 { ",\n" } else { "\n" });
                out.push_str(&" ".repeat(indent + 2));
                out.push_str(&tree::json_string(&entry.name));
                out.push_str(": ");
                push(out, &entry.tree, indent + 2);
            }
            out.push('\n');
            out.push_str(&" ".repeat(indent));
            out.push('}');
        }
        Tree::List(items) if !items.is_empty() => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                out.push_str(if i > 0 { ",\n" } else { "\n" });
                out.push_str(&" ".repeat(indent + 2));
                push(out, item, indent + 2);
            }
            out.push('\n');
            out.push_str(&" ".repeat(indent));
            out.push(']');
        }
        leaf => out.push_str(&tree::to_json(leaf)),
    }
}
