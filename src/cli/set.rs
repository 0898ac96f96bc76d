//! `holm set`: one atomic write of some keys of one environment.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::Args;

use super::formats::FILE_LEN_MAX;
use super::terminal::Items;
use super::{Failure, Global, Terminal, address};
use crate::client::{Write, Written};
use crate::model::{DocumentId, JsonText};

/// Arguments of `holm set`.
#[derive(Args, Debug)]
#[command(after_help = "\
A value that is valid JSON is taken as JSON, anything else as a string.

Examples:
  holm set web/dev server.port 8080
  holm set web/dev title 'Hello' --message 'a new name'
  holm set web/dev build 007 --string
  holm set web/dev a=1 b=2 c='[1,2]'          all or none
  holm set web/dev tls.chain --file chain.pem --string
  echo '{\"a\":1}' | holm set web/dev limits --file -
  holm set web/dev server.port 9090 --expect-version 3")]
pub struct Set {
    /// Which keys, for example web/dev.
    #[arg(value_parser = address::document, value_name = "SERVICE/ENVIRONMENT")]
    document: DocumentId,
    /// KEY VALUE, or any number of KEY=VALUE, or KEY alone with --file.
    #[arg(required = true, num_args = 1.., allow_negative_numbers = true, value_name = "KEY VALUE")]
    what: Vec<String>,
    /// Take values as strings, whatever they look like.
    #[arg(long)]
    string: bool,
    /// Read the value from a file; `-` is standard input.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Why: kept in the history.
    #[arg(long, value_name = "TEXT")]
    message: Option<String>,
    /// Refuse where the key has another version (exit code 4); 0 is a key that is not there yet.
    #[arg(long, value_name = "VERSION")]
    expect_version: Option<u64>,
}

impl Set {
    pub(crate) async fn run(
        self,
        global: &Global,
        terminal: &mut Terminal<'_>,
    ) -> Result<(), Failure> {
        let mut writes = self.writes(terminal)?;
        if let Some(version) = self.expect_version {
            let [write] = writes.as_mut_slice() else {
                return Err(Failure::usage("--expect-version goes with one key"));
            };
            write.expect_version = Some(version);
        }
        let client = global.client()?;
        let written = client.write(&self.document, &writes, self.message.as_deref()).await?;
        if global.json() {
            terminal.say_json(&Items { items: &written.items })?;
        } else {
            for item in &written.items {
                terminal.say(format!(
                    "{}/{} is at version {}",
                    self.document, item.key, item.version
                ))?;
            }
        }
        warn_of_missing_regions(&written, terminal)
    }

    fn writes(&self, terminal: &mut Terminal<'_>) -> Result<Vec<Write>, Failure> {
        let value = |text: &str| value_of(text, self.string);
        if let Some(file) = &self.file {
            let [key] = self.what.as_slice() else {
                return Err(Failure::usage("with --file, give one KEY and no value"));
            };
            let text = read_value(file, terminal)?;
            return Ok(vec![Write::new(address::key_of(key)?, value(&text)?)]);
        }
        if let [key, text] = self.what.as_slice()
            && !key.contains('=')
        {
            return Ok(vec![Write::new(address::key_of(key)?, value(text)?)]);
        }
        let pairs = self.what.iter().map(|pair| {
            let (key, text) = pair.split_once('=').ok_or_else(|| {
                Failure::usage(format!("`{pair}` is not KEY=VALUE"))
                    .hint("give KEY VALUE, or any number of KEY=VALUE")
            })?;
            Ok(Write::new(address::key_of(key)?, value(text)?))
        });
        pairs.collect()
    }
}

/// A 202 is a success with a remark: the write is taken, and on its way.
pub(crate) fn warn_of_missing_regions(
    written: &Written,
    terminal: &mut Terminal<'_>,
) -> Result<(), Failure> {
    if written.acknowledged {
        return Ok(());
    }
    let regions = |has: bool| {
        let of = written.receipts.iter().filter(|receipt| receipt.has == has);
        of.map(|receipt| receipt.region.as_str()).collect::<Vec<_>>().join(", ")
    };
    terminal.note(format!(
        "written, but not yet in as many regions as --ack asked for; in: {}; on its way to: {}",
        regions(true),
        regions(false)
    ))
}

/// JSON where the text is JSON, else a string.
fn value_of(text: &str, is_string: bool) -> Result<JsonText, Failure> {
    let refused = |e: &dyn std::fmt::Display| Failure::usage(format!("the value: {e}"));
    let is_json = serde_json::from_str::<&serde_json::value::RawValue>(text.trim_ascii()).is_ok();
    if is_json && !is_string {
        // JSON that Holm does not take (too deep, a name twice) is an error and no string.
        return JsonText::parse(text).map_err(|e| refused(&e));
    }
    JsonText::from_value(&text.into()).map_err(|e| refused(&e))
}

fn read_value(file: &Path, terminal: &mut Terminal<'_>) -> Result<String, Failure> {
    let name = file.display();
    let wrong = |e: std::io::Error| Failure::usage(format!("{name}: {e}"));
    let mut bytes = Vec::new();
    let limit = FILE_LEN_MAX as u64 + 1;
    if file == Path::new("-") {
        (&mut terminal.input).take(limit).read_to_end(&mut bytes).map_err(wrong)?;
    } else {
        let file = std::fs::File::open(file).map_err(wrong)?;
        file.take(limit).read_to_end(&mut bytes).map_err(wrong)?;
    }
    if bytes.len() > FILE_LEN_MAX {
        return Err(Failure::usage(format!("{name}: longer than {FILE_LEN_MAX} bytes")));
    }
    String::from_utf8(bytes).map_err(|_| Failure::usage(format!("{name}: not UTF-8 text")))
}
