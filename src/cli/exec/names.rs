//! The rule by which keys and secrets become variables, and which names are refused: two sources of
//! one variable, what no shell could name, and what would steer the program loader, an interpreter or
//! `holm` itself. Pure; knows no values.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::cli::Failure;
use crate::model::{DocumentId, Key, SecretName};

/// Names with which a configuration could run code in the program, or take it apart. Whoever wants
/// one says so, with `--allow`.
const GUARDED: [&str; 53] = [
    "BASHOPTS",
    "BASH_ENV",
    "CDPATH",
    "CLASSPATH",
    "DOTNET_STARTUP_HOOKS",
    "EDITOR",
    "ENV",
    "GCONV_PATH",
    "GETCONF_DIR",
    "GLIBC_TUNABLES",
    "HOME",
    "HOSTALIASES",
    "IFS",
    "JAVA_TOOL_OPTIONS",
    "JDK_JAVA_OPTIONS",
    "LOCALDOMAIN",
    "LOCPATH",
    "LOGNAME",
    "NIS_PATH",
    "NLSPATH",
    "NODE_EXTRA_CA_CERTS",
    "NODE_OPTIONS",
    "NODE_PATH",
    "OLDPWD",
    "PAGER",
    "PATH",
    "PERL5DB",
    "PERL5LIB",
    "PERL5OPT",
    "PERLLIB",
    "PHPRC",
    "PHP_INI_SCAN_DIR",
    "PROMPT_COMMAND",
    "PS4",
    "PWD",
    "PYTHONHOME",
    "PYTHONINSPECT",
    "PYTHONPATH",
    "PYTHONSTARTUP",
    "PYTHONUSERBASE",
    "PYTHONWARNINGS",
    "RESOLV_HOST_CONF",
    "RES_OPTIONS",
    "RUBYLIB",
    "RUBYOPT",
    "RUSTC_WRAPPER",
    "SHELL",
    "SHELLOPTS",
    "TERMINFO",
    "TMPDIR",
    "TZDIR",
    "USER",
    "_JAVA_OPTIONS",
];

/// The same for all names that begin so.
const GUARDED_PREFIXES: [&str; 8] =
    ["BASH_FUNC_", "DYLD_", "GIT_", "HOLM_", "LD_", "MALLOC_", "NPM_CONFIG_", "_RLD"];

/// What a variable is made from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    Key(DocumentId, Key),
    Secret(SecretName),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(document, key) => write!(f, "{document}/{key}"),
            Self::Secret(name) => write!(f, "the secret {name}"),
        }
    }
}

/// A secret asked for by its name, as `NAME` or `NAME=VARIABLE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NamedSecret {
    pub(super) name: SecretName,
    variable: Option<String>,
}

impl std::str::FromStr for NamedSecret {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, variable) = match text.split_once('=') {
            Some((name, variable)) => (name, Some(self::variable(variable)?)),
            None => (text, None),
        };
        let name = SecretName::new(name).map_err(|e| e.to_string())?;
        Ok(Self { name, variable })
    }
}

/// The rule of one run.
#[derive(Clone, Debug, Default)]
pub(super) struct Rule {
    /// Stands before every name that is made from a key's or a secret's.
    pub(super) prefix: String,
    /// Guarded names that are wanted.
    pub(super) allowed: BTreeSet<String>,
}

impl Rule {
    /// What becomes which variable, or everything that is wrong about it.
    pub(super) fn names(
        &self,
        document: &DocumentId,
        keys: impl Iterator<Item = Key>,
        secrets: &[NamedSecret],
    ) -> Result<BTreeMap<String, Source>, Failure> {
        let keys = keys.map(|key| {
            let name = self.mapped(key.as_str());
            (name, Source::Key(document.clone(), key))
        });
        let secrets = secrets.iter().map(|secret| {
            let mapped = || self.mapped(secret.name.as_str());
            (secret.variable.clone().unwrap_or_else(mapped), Source::Secret(secret.name.clone()))
        });
        let mut sources: BTreeMap<String, Vec<Source>> = BTreeMap::new();
        for (name, source) in keys.chain(secrets) {
            let known = sources.entry(name).or_default();
            // The same secret asked for twice is one.
            if !known.contains(&source) {
                known.push(source);
            }
        }
        let mut wrong = Vec::new();
        let mut names = BTreeMap::new();
        for (name, mut sources) in sources {
            if let [first, second, ..] = sources.as_slice() {
                wrong.push(format!("{first} and {second} would both be {name}"));
            } else if let Err(why) = self.check(&name) {
                wrong.push(format!("{}: {why}", sources[0]));
            }
            names.extend(sources.pop().map(|source| (name, source)));
        }
        if wrong.is_empty() {
            return Ok(names);
        }
        let hint = "--keys takes some of the keys, --prefix puts something before all names, \
                    --allow VARIABLE takes a guarded name";
        Err(Failure::usage(wrong.join("\n")).hint(hint))
    }

    /// Upper case, and `_` for everything that is neither a letter nor a digit.
    fn mapped(&self, name: &str) -> String {
        let upper = name.chars().map(|c| match c {
            c if c.is_ascii_alphanumeric() => c.to_ascii_uppercase(),
            _ => '_',
        });
        self.prefix.chars().chain(upper).collect()
    }

    fn check(&self, name: &str) -> Result<(), String> {
        variable(name)?;
        let upper = name.to_ascii_uppercase();
        let is_guarded = GUARDED.contains(&upper.as_str())
            || GUARDED_PREFIXES.iter().any(|prefix| upper.starts_with(prefix));
        if is_guarded && !self.allowed.contains(name) {
            return Err(format!("{name} steers other programs, and is not set unasked"));
        }
        Ok(())
    }
}

/// Reads a variable's name, or the beginning of some.
pub(super) fn variable(text: &str) -> Result<String, String> {
    let is_first = |c: char| c.is_ascii_alphabetic() || c == '_';
    let is_next = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if text.starts_with(is_first) && text.chars().all(is_next) {
        return Ok(text.to_owned());
    }
    Err(format!("`{text}` is no variable's name: letters, digits and _, no digit first"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names(rule: &Rule, keys: &[&str], secrets: &[&str]) -> Result<Vec<String>, String> {
        let document = DocumentId::parse("web/prod").unwrap();
        let keys = keys.iter().map(|key| Key::new(key).unwrap());
        let secrets: Vec<NamedSecret> = secrets.iter().map(|it| it.parse().unwrap()).collect();
        let names = rule.names(&document, keys, &secrets).map_err(|e| e.to_string())?;
        Ok(names.into_keys().collect())
    }

    #[test]
    fn names_are_upper_case_with_underscores() {
        let rule = Rule::default();
        let found = names(&rule, &["db.pool-size", "maxConn", "_x"], &["prod-db"]).unwrap();
        assert_eq!(found, ["DB_POOL_SIZE", "MAXCONN", "PROD_DB", "_X"]);
        let rule = Rule { prefix: "APP_".into(), ..Rule::default() };
        let found = names(&rule, &["1st", "path"], &["pw=PGPASSWORD", "pw", "pw"]).unwrap();
        assert_eq!(found, ["APP_1ST", "APP_PATH", "APP_PW", "PGPASSWORD"]);
    }

    #[test]
    fn two_sources_of_one_variable_are_refused_and_both_named() {
        let why = names(&Rule::default(), &["db.url", "x", "db-url"], &[]).unwrap_err();
        assert!(why.contains("web/prod/db.url and web/prod/db-url would both be DB_URL"), "{why}");
        let why = names(&Rule::default(), &["pw"], &["other=PW"]).unwrap_err();
        assert!(why.contains("web/prod/pw and the secret other would both be PW"), "{why}");
    }

    #[test]
    fn what_no_shell_could_name_is_refused() {
        let why = names(&Rule::default(), &["1st"], &[]).unwrap_err();
        assert!(why.starts_with("web/prod/1st: `1ST` is no variable's name"), "{why}");
        for bad in ["x=", "x=1", "x=a b", "x=A=B", "=A", ""] {
            assert!(bad.parse::<NamedSecret>().is_err(), "{bad}");
        }
    }

    #[test]
    fn guarded_names_are_refused_unless_asked_for_by_name() {
        for key in ["path", "ld.preload", "bash.env", "holm.token", "node-options", "git.ssh"] {
            let why = names(&Rule::default(), &[key], &[]).unwrap_err();
            assert!(why.contains("steers other programs"), "{why}");
        }
        let allowed = BTreeSet::from(["PATH".to_owned()]);
        let rule = Rule { allowed, ..Rule::default() };
        assert_eq!(names(&rule, &["path"], &[]).unwrap(), ["PATH"]);
        assert!(names(&rule, &["path", "ld.preload"], &[]).is_err());
        assert!(names(&Rule::default(), &[], &["x=ld_preload"]).is_err(), "in no case of letters");
    }

    #[test]
    fn the_guarded_names_are_sorted_and_distinct() {
        assert!(GUARDED.is_sorted() && GUARDED_PREFIXES.is_sorted());
        assert_eq!(BTreeSet::from(GUARDED).len(), GUARDED.len());
    }

    proptest! {
        #[test]
        fn what_is_taken_is_a_good_name_and_each_key_has_its_own(
            keys in proptest::collection::btree_set("[a-zA-Z0-9._-]{1,12}", 1..12),
            prefix in "([A-Z_]{1,4})?",
        ) {
            let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
            let keys: Vec<&str> = keys.into_iter().filter(|key| Key::new(key).is_ok()).collect();
            let rule = Rule { prefix: prefix.clone(), ..Rule::default() };
            let mapped: BTreeSet<String> = keys.iter().map(|key| rule.mapped(key)).collect();
            match names(&rule, &keys, &[]) {
                Ok(found) => {
                    prop_assert_eq!(found.len(), keys.len());
                    for name in &found {
                        prop_assert!(variable(name).is_ok() && name.starts_with(&prefix));
                        prop_assert!(!name.contains(|c: char| c.is_ascii_lowercase()));
                    }
                }
                // Nothing is refused without one of the reasons.
                Err(_) => prop_assert!(
                    mapped.len() < keys.len() || mapped.iter().any(|name| rule.check(name).is_err())
                ),
            }
        }
    }
}
