//! Finds the program, sees to it that the system will take what it is given, and starts it: in place
//! of `holm`, or as a child. Exit codes are those of a shell: 127 where there is no such program, 126
//! where it cannot be run.

use std::ffi::{CStr, CString, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::errno::Errno;
use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, PosixSpawnFlags, posix_spawn};
use nix::sys::signal::{SigSet, Signal};
use rustix::fs::{Access, access};
use rustix::process::{Pid, Resource, getrlimit};
use zeroize::Zeroizing;

use super::given::Given;
use crate::cli::Failure;

/// There is no such program.
const NOT_FOUND: u8 = 127;
/// It is there, and cannot be run.
const NOT_EXECUTABLE: u8 = 126;
/// Where programs are looked for without `PATH`.
const PATH_DEFAULT: &str = "/usr/local/bin:/usr/bin:/bin";
/// Longest `NAME=value` that Linux takes, with its end.
const STRING_LEN_MAX: usize = 128 * 1024;
/// What is left for what the system puts beside it.
const ROOM_LEFT: usize = 4 * 1024;

/// A program and how it is started.
pub(super) struct Program {
    path: PathBuf,
    /// As it was called, and its arguments.
    words: Vec<OsString>,
    /// What of the own environment goes on to it, without what it is given.
    inherited: Vec<(OsString, OsString)>,
}

impl Program {
    /// Finds the program that `words` calls, with this search path.
    pub(super) fn find(
        words: Vec<OsString>,
        inherited: Vec<(OsString, OsString)>,
        search: Option<&OsStr>,
    ) -> Result<Self, Failure> {
        let name = words.first().ok_or_else(|| Failure::usage("there is no command"))?;
        let path = find(name, search.unwrap_or(OsStr::new(PATH_DEFAULT)))?;
        Ok(Self { path, words, inherited })
    }

    /// Refuses what the system would: a program that is gone, more than it takes.
    pub(super) fn check(&self, given: &Given) -> Result<(), Failure> {
        is_executable(&self.path).map_err(|e| self.refused(e))?;
        let environment = self.environment(given);
        let longest = environment.iter().max_by_key(|entry| entry.0.len());
        if let Some(longest) = longest.filter(|entry| entry.0.len() > STRING_LEN_MAX) {
            let (name, len) = (longest.name(), longest.0.len() - longest.name().len() - 2);
            let why = format!(
                "the value of {name} has {len} bytes; Linux takes no variable of more \
                               than {STRING_LEN_MAX} with its name"
            );
            return Err(Failure::usage(why).hint("let the program read this one itself"));
        }
        let words: usize = self.words.iter().map(|word| word.len() + 1).sum();
        let strings: usize = environment.iter().map(|entry| entry.0.len()).sum();
        let pointers = (self.words.len() + environment.len() + 2) * size_of::<usize>();
        let (whole, most) = (words + strings + pointers, bytes_max());
        if whole + ROOM_LEFT > most {
            let why =
                format!("environment and arguments have {whole} bytes; the system takes {most}");
            return Err(Failure::usage(why)
                .hint("--keys takes some of the keys, --pristine leaves the own environment out"));
        }
        Ok(())
    }

    /// Becomes the program. Comes back only where that fails.
    pub(super) fn replace(self, given: Given) -> Failure {
        let mut command = Command::new(&self.path);
        command.arg0(&self.words[0]).args(&self.words[1..]).env_clear();
        for entry in self.environment(&given) {
            let (name, value) = entry.split();
            command.env(name, value);
        }
        drop(given);
        self.refused(command.exec().raw_os_error().map_or(Errno::EINVAL, Errno::from_raw))
    }

    /// Starts the program beside this one, in a process group of its own if that is wanted. Values
    /// are copied nowhere on the way that is not overwritten.
    pub(super) fn start(&self, given: &Given, own_group: bool) -> Result<Pid, Failure> {
        let environment = self.environment(given);
        let mut words: Vec<CString> = Vec::with_capacity(self.words.len() + 2);
        for word in &self.words {
            let word = CString::new(word.as_bytes());
            words.push(word.map_err(|_| Failure::usage("an argument has a NUL byte"))?);
        }
        let mut started = spawn(&self.path, &words, &environment, own_group);
        if started == Err(Errno::ENOEXEC) {
            // A script that does not say of what: a shell's, as every shell has it.
            let path = self.path.as_os_str().as_bytes();
            words[0] = CString::new(path).unwrap_or_default();
            words.insert(0, c"sh".to_owned());
            started = spawn(Path::new("/bin/sh"), &words, &environment, own_group);
        }
        let pid = started.map_err(|e| self.refused(e))?;
        Pid::from_raw(pid.as_raw()).ok_or_else(|| self.refused(Errno::ESRCH))
    }

    /// What the program is given over what it inherits.
    fn environment(&self, given: &Given) -> Vec<Entry> {
        let is_given = |name: &OsStr| name.to_str().is_some_and(|name| given.has(name));
        let inherited = self.inherited.iter().filter(|(name, _)| !is_given(name));
        inherited
            .map(|(name, value)| Entry::new(name.as_bytes(), value.as_bytes()))
            .chain(given.iter().map(|(name, value)| Entry::new(name.as_bytes(), value)))
            .collect()
    }

    fn refused(&self, why: Errno) -> Failure {
        let code = if why == Errno::ENOENT { NOT_FOUND } else { NOT_EXECUTABLE };
        let why = why.desc();
        Failure::exit(code, format!("{} does not start: {why}", self.path.display()))
    }
}

/// `NAME=value` and a NUL, overwritten when it goes.
struct Entry(Zeroizing<Vec<u8>>);

impl Entry {
    fn new(name: &[u8], value: &[u8]) -> Self {
        // Of its whole length from the start: a vector that grows leaves what it had behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(name.len() + value.len() + 2));
        bytes.extend_from_slice(name);
        bytes.push(b'=');
        bytes.extend_from_slice(value);
        bytes.push(0);
        Self(bytes)
    }

    fn split(&self) -> (&OsStr, &OsStr) {
        // A name may begin with `=`, as some systems have it.
        let at = self.0.iter().skip(1).position(|byte| *byte == b'=').map_or(0, |at| at + 1);
        let (name, value) = self.0.split_at(at);
        (OsStr::from_bytes(name), OsStr::from_bytes(&value[1..value.len() - 1]))
    }

    fn name(&self) -> String {
        self.split().0.to_string_lossy().into_owned()
    }
}

impl AsRef<CStr> for Entry {
    fn as_ref(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.0).unwrap_or_default()
    }
}

fn spawn(
    path: &Path,
    words: &[CString],
    environment: &[Entry],
    own_group: bool,
) -> Result<nix::unistd::Pid, Errno> {
    let mut attributes = PosixSpawnAttr::init()?;
    let mut flags =
        PosixSpawnFlags::POSIX_SPAWN_SETSIGDEF | PosixSpawnFlags::POSIX_SPAWN_SETSIGMASK;
    // What a Rust program ignores, and other programs count on.
    let mut defaults = SigSet::empty();
    defaults.add(Signal::SIGPIPE);
    attributes.set_sigdefault(&defaults)?;
    attributes.set_sigmask(&SigSet::empty())?;
    if own_group {
        flags |= PosixSpawnFlags::POSIX_SPAWN_SETPGROUP;
        attributes.set_pgroup(nix::unistd::Pid::from_raw(0))?;
    }
    attributes.set_flags(flags)?;
    posix_spawn(path, &PosixSpawnFileActions::init()?, &attributes, words, environment)
}

/// As a shell finds a command.
fn find(name: &OsStr, search: &OsStr) -> Result<PathBuf, Failure> {
    let shown = name.to_string_lossy();
    if name.as_bytes().contains(&b'/') {
        let path = PathBuf::from(name);
        return match is_executable(&path) {
            Ok(()) => Ok(path),
            Err(Errno::ENOENT | Errno::ENOTDIR) => {
                Err(Failure::exit(NOT_FOUND, format!("{shown}: there is no such program")))
            }
            Err(why) => Err(Failure::exit(NOT_EXECUTABLE, format!("{shown}: {}", why.desc()))),
        };
    }
    let mut why = None;
    for dir in search.as_bytes().split(|byte| *byte == b':').filter(|_| !name.is_empty()) {
        // Nothing between two colons is the directory that one is in.
        let dir = if dir.is_empty() { b"." } else { dir };
        let path = Path::new(&OsString::from_vec(dir.to_vec())).join(name);
        match is_executable(&path) {
            Ok(()) => return Ok(path),
            Err(Errno::ENOENT | Errno::ENOTDIR) => {}
            Err(other) => why = why.or(Some((path, other))),
        }
    }
    Err(match why {
        None => Failure::exit(NOT_FOUND, format!("{shown}: there is no such program in PATH")),
        Some((path, why)) => {
            Failure::exit(NOT_EXECUTABLE, format!("{}: {}", path.display(), why.desc()))
        }
    })
}

fn is_executable(path: &Path) -> Result<(), Errno> {
    let errno = |e: std::io::Error| e.raw_os_error().map_or(Errno::EINVAL, Errno::from_raw);
    let about = std::fs::metadata(path).map_err(errno)?;
    if !about.is_file() {
        return Err(if about.is_dir() { Errno::EISDIR } else { Errno::EACCES });
    }
    access(path, Access::EXEC_OK).map_err(|e| Errno::from_raw(e.raw_os_error()))
}

/// How many bytes of arguments and environment the system takes: on Linux a quarter of the stack's
/// limit, at least 128 KiB and at most 6 MiB (execve(2)).
fn bytes_max() -> usize {
    const LEAST: u64 = 128 * 1024;
    const MOST: u64 = 6 * 1024 * 1024;
    let quarter = getrlimit(Resource::Stack).current.map_or(MOST, |stack| stack / 4);
    usize::try_from(quarter.clamp(LEAST, MOST)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
