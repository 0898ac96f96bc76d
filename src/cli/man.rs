//! `holm man`: a manual page for every command, from the same description that reads the command line.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Command, CommandFactory as _};
use clap_mangen::Man as Page;

use super::terminal::count;
use super::{Cli, Failure, Global, Terminal};

/// Arguments of `holm man`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  holm man --dir /usr/local/share/man/man1    every page: then man holm, man holm-secret-put
  holm man | man -l -                         the page of holm itself
  holm man secret put | man -l -")]
pub struct Man {
    /// The command whose page is printed, for example: secret put. None: holm itself.
    #[arg(value_name = "COMMAND", conflicts_with = "dir")]
    command: Vec<String>,
    /// Write the pages of all commands into this folder, one file each.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl Man {
    pub(crate) fn run(self, global: &Global, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
        let mut root = Cli::command().disable_help_subcommand(true);
        root.build();
        if let Some(dir) = &self.dir {
            let wrong = |path: &Path, e| Failure::failed(format!("{}: {e}", path.display()));
            std::fs::create_dir_all(dir).map_err(|e| wrong(dir, e))?;
            let pages = pages(&root)?;
            for (name, page) in &pages {
                let path = dir.join(name);
                std::fs::write(&path, page).map_err(|e| wrong(&path, e))?;
            }
            if global.json() {
                let names: Vec<&str> = pages.iter().map(|(name, _)| name.as_str()).collect();
                return terminal.say_json(&super::terminal::Items { items: &names });
            }
            return terminal.say(format!("{} in {}", count(pages.len(), "page"), dir.display()));
        }
        let mut command = &root;
        for word in &self.command {
            command = command.find_subcommand(word).ok_or_else(|| {
                let known = command.get_subcommands().map(Command::get_name);
                let known: Vec<&str> = known.collect();
                Failure::usage(format!("there is no command `{word}` here"))
                    .hint(format!("there is {}", known.join(", ")))
            })?;
        }
        Ok(terminal.out.write_all(&page(command)?)?)
    }
}

/// What each part of a page begins with, and a page needs once.
const PREAMBLE: &str = ".ie \\n(.g .ds Aq \\(aq\n.el .ds Aq '\n";

/// Every command's page with its file's name, this one's first.
fn pages(command: &Command) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut all = vec![(format!("{}.1", name_of(command)), page(command)?)];
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        all.extend(pages(below)?);
    }
    Ok(all)
}

/// The words of a command, joined: holm-secret-put.
fn name_of(command: &Command) -> &str {
    command.get_display_name().unwrap_or(command.get_name())
}

fn page(command: &Command) -> io::Result<Vec<u8>> {
    let version = concat!("holm ", env!("CARGO_PKG_VERSION"));
    let about = Page::new(command.clone())
        .title(name_of(command))
        .source(version)
        .manual("Holm")
        .date(String::new());
    let mut page = Vec::new();
    about.render_title(&mut page)?;
    about.render_name_section(&mut page)?;
    about.render_synopsis_section(&mut page)?;
    about.render_description_section(&mut page)?;
    about.render_options_section(&mut page)?;
    if command.has_subcommands() {
        about.render_subcommands_section(&mut page)?;
    }
    if let Some(more) = command.get_after_long_help().or(command.get_after_help()) {
        write_more(&more.to_string(), &mut page)?;
    }
    let page = String::from_utf8_lossy(&page).replace(PREAMBLE, "");
    Ok(format!("{PREAMBLE}{page}").into_bytes())
}

/// What stands below a command's help. Indented lines are shown as they are: they are commands.
fn write_more(text: &str, page: &mut Vec<u8>) -> io::Result<()> {
    let mut is_literal = false;
    let mut has_section = false;
    for line in text.lines() {
        let is_indented = line.starts_with("  ");
        if is_literal && !is_indented {
            writeln!(page, ".fi\n.RE")?;
            is_literal = false;
        }
        if matches!(line, "Examples:" | "Example:") {
            writeln!(page, ".SH EXAMPLES")?;
            has_section = true;
            continue;
        }
        if !has_section {
            writeln!(page, ".SH NOTES")?;
            has_section = true;
        }
        if line.is_empty() {
            writeln!(page, ".PP")?;
            continue;
        }
        if is_indented && !is_literal {
            writeln!(page, ".RS 4\n.nf")?;
            is_literal = true;
        }
        writeln!(page, "{}", escaped(line.strip_prefix("  ").unwrap_or(line)))?;
    }
    if is_literal {
        writeln!(page, ".fi\n.RE")?;
    }
    Ok(())
}

/// Text that is nothing but text to troff.
fn escaped(line: &str) -> String {
    let text = line.replace('\\', "\\e").replace('-', "\\-").replace('`', "\\(ga");
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_with_its_name_its_options_and_its_examples() {
        let mut root = Cli::command().disable_help_subcommand(true);
        root.build();
        let pages = pages(&root).unwrap();
        let names: Vec<&str> = pages.iter().map(|(name, _)| name.as_str()).collect();
        for name in ["holm.1", "holm-exec.1", "holm-secret-put.1", "holm-pki-rotate-ca-begin.1"] {
            assert!(names.contains(&name), "{name} is not in {names:?}");
        }
        for (name, page) in &pages {
            let page = std::str::from_utf8(page).unwrap();
            let words = name.trim_end_matches(".1").replace('-', "\\-");
            for part in [".TH", ".SH NAME", ".SH SYNOPSIS", ".SH OPTIONS", "\\-\\-url", &words] {
                assert!(page.contains(part), "{name} has no {part}:\n{page}");
            }
            assert_eq!(page.matches(PREAMBLE).count(), page.matches(".ie ").count(), "{name}");
            let is_open = page.matches("\n.nf\n").count() != page.matches("\n.fi\n").count();
            assert!(!is_open, "{name}:\n{page}");
        }
    }

    #[test]
    fn examples_are_shown_as_they_are_and_text_is_text() {
        let mut page = Vec::new();
        write_more("A `b`.\n.c\n\nExamples:\n  holm x --y \\z\n\nMore.", &mut page).unwrap();
        let expected = ".SH NOTES\nA \\(gab\\(ga.\n\\&.c\n.PP\n.SH EXAMPLES\n.RS 4\n.nf\nholm x \
                        \\-\\-y \\ez\n.fi\n.RE\n.PP\nMore.\n";
        assert_eq!(String::from_utf8(page).unwrap(), expected);
    }
}
