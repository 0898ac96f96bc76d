//! `holm watch`: changes, one a line, until it is interrupted. Reconnects by itself and says so.

use clap::Args;

use super::formats::shorten;
use super::terminal::Colour;
use super::{Failure, Global, Terminal, address};
use crate::client::{Item, Removed, WatchEvent, WatchSettings};
use crate::model::DocumentId;

/// Arguments of `holm watch`.
#[derive(Args, Debug)]
#[command(after_help = "\
The state comes first, then changes as they happen. With --output json, one object a line:
{\"event\":\"put\",\"item\":{…}}, {\"event\":\"remove\",…}, {\"event\":\"ready\"}, {\"event\":\"reset\"}.
It ends with Ctrl-C and prints the session to go on from.

Examples:
  holm watch web/dev
  holm watch web/dev --prefix server. --output json
  holm watch web/dev --since SESSION   only what came after, in any region")]
pub struct Watch {
    /// Which keys, for example web/dev.
    #[arg(value_parser = address::document, value_name = "SERVICE/ENVIRONMENT")]
    document: DocumentId,
    /// Only keys that begin with this.
    #[arg(long, value_name = "TEXT")]
    prefix: Option<String>,
    /// Only what this session has not seen.
    #[arg(long, value_name = "SESSION")]
    since: Option<String>,
    /// End when the state at the beginning is complete.
    #[arg(long)]
    once: bool,
}

#[derive(serde::Serialize)]
struct Line<'a> {
    event: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    item: Option<&'a Item>,
    #[serde(skip_serializing_if = "Option::is_none")]
    removed: Option<&'a Removed>,
}

impl Watch {
    pub(crate) async fn run(
        self,
        global: &Global,
        terminal: &mut Terminal<'_>,
    ) -> Result<(), Failure> {
        let client = global.client()?;
        let settings =
            WatchSettings { prefix: self.prefix, since: self.since, jitter_seed: rand::random() };
        let mut watch = client.watch(&self.document, settings);
        // Where the signal cannot be had, Ctrl-C ends the process as it always does.
        let mut interrupted = std::pin::pin!(async {
            if tokio::signal::ctrl_c().await.is_err() {
                std::future::pending::<()>().await;
            }
        });
        loop {
            let event = tokio::select! {
                biased;
                () = &mut interrupted => break,
                event = watch.next() => event?,
            };
            let is_ready = event == WatchEvent::Ready;
            if global.json() {
                say_json(&event, terminal)?
            } else {
                say(&event, terminal)?
            }
            terminal.flush()?;
            if is_ready && self.once {
                return Ok(());
            }
        }
        if let Some(session) = watch.session() {
            terminal.note(format!("go on from here with --since {session}"))?;
        }
        Ok(())
    }
}

fn say_json(event: &WatchEvent, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let line = |event, item, removed| Line { event, item, removed };
    match event {
        WatchEvent::Put(item) => terminal.say_json(&line("put", Some(item), None)),
        WatchEvent::Remove(removed) => terminal.say_json(&line("remove", None, Some(removed))),
        WatchEvent::Ready => terminal.say_json(&line("ready", None, None)),
        WatchEvent::Reset => terminal.say_json(&line("reset", None, None)),
        WatchEvent::Moved { .. } | WatchEvent::Lost { .. } => say(event, terminal),
    }
}

fn say(event: &WatchEvent, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    match event {
        WatchEvent::Put(item) => {
            let text = format!("{} = {}", item.key, shorten(item.value.as_str(), 100));
            let by =
                format!("  (version {}, {} in {})", item.version, item.updated_by, item.region);
            terminal.say_painted("", Colour::Added, &text, &by)?;
            if item.conflicts.is_empty() {
                return Ok(());
            }
            let others = item.conflicts.len();
            terminal.say(format!("  {others} other value(s) were written at the same time"))
        }
        WatchEvent::Remove(removed) => {
            let text = format!("{} is removed", removed.key);
            let (version, by, region) = (removed.version, &removed.updated_by, &removed.region);
            let by = format!("  (version {version}, {by} in {region})");
            terminal.say_painted("", Colour::Removed, &text, &by)
        }
        WatchEvent::Ready => terminal.note("up to date; waiting for changes"),
        WatchEvent::Reset => terminal.note("the whole state again:"),
        WatchEvent::Moved { url } => terminal.note(format!("the watch goes on at {url}")),
        WatchEvent::Lost { error, pause } => {
            terminal.note(format!("{error}; trying again in {} ms", pause.as_millis()))
        }
    }
}
