//! A change of the authority, as files: `ca-next.key` and `ca-next.pem` from its beginning on, both
//! certificates in `ca.pem`, the old key as `ca-old.key` once certificates are made under the new
//! one. Each step can be cut off anywhere and is then done again, to the same end. Whether the
//! cluster is ready for a step is not known here; see `holm pki rotate-ca`.

use std::fs;
use std::io;
use std::path::Path;

use rustls::pki_types::CertificateDer;

use super::{
    Authority, Identity, PkiError, certificate_pem, content, create, file_error, read_certificates,
    replace,
};
use crate::env::{Entropy, WallClock};
use crate::transport::certificate::{Facts, fingerprint};
use crate::transport::tls;

const BUNDLE: &str = "ca.pem";
const KEY: &str = "ca.key";
const NEXT: &str = "ca-next.pem";
const NEXT_KEY: &str = "ca-next.key";
const OLD_KEY: &str = "ca-old.key";

/// How far a change of the authority is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// There is none.
    None,
    /// The new authority is made and to be trusted; the old one still signs.
    Begun,
    /// The new one signs; certificates of the old one are still trusted.
    Issuing,
}

/// A change of the authority in one directory.
pub struct Rotation<'a> {
    dir: &'a Path,
}

impl<'a> Rotation<'a> {
    /// The one in `dir`, if there is one.
    pub fn of(dir: &'a Path) -> Self {
        Self { dir }
    }

    /// How far it is.
    pub fn phase(&self) -> Phase {
        let is_there = |name: &str| self.dir.join(name).exists();
        match (is_there(OLD_KEY), is_there(NEXT)) {
            (true, _) => Phase::Issuing,
            (false, true) => Phase::Begun,
            (false, false) => Phase::None,
        }
    }

    /// The certificate of the new authority, while there is one.
    pub fn next(&self) -> Result<CertificateDer<'static>, PkiError> {
        Ok(read_certificates(&self.dir.join(NEXT))?.swap_remove(0))
    }

    /// The certificates that nodes are to trust now.
    pub fn trusted(&self) -> Result<Vec<Facts>, PkiError> {
        let bundle = self.dir.join(BUNDLE);
        let facts = |certificate| Facts::of(certificate).map_err(|why| content(&bundle, why));
        read_certificates(&bundle)?.iter().map(facts).collect()
    }

    /// Makes the new authority where there is none, and has `ca.pem` name both.
    pub fn begin(&self, entropy: &Entropy, clock: &dyn WallClock) -> Result<(), PkiError> {
        if self.phase() == Phase::None {
            // A key without a certificate is of an attempt that was cut off: nothing knows it.
            remove(&self.dir.join(NEXT_KEY))?;
            let next = Authority::create(entropy, clock)?;
            create(&self.dir.join(NEXT_KEY), &next.key.serialize_pem(), 0o600)?;
            replace(&self.dir.join(NEXT), &certificate_pem(&next.certificate), 0o644)?;
        }
        let mut trusted = read_certificates(&self.dir.join(BUNDLE))?;
        let next = self.next()?;
        if !trusted.contains(&next) {
            trusted.push(next);
            self.write_bundle(&trusted)?;
        }
        Ok(())
    }

    /// Takes a beginning back: nothing was signed by the new authority yet.
    pub fn cancel(&self) -> Result<(), PkiError> {
        let next = self.next()?;
        let mut trusted = read_certificates(&self.dir.join(BUNDLE))?;
        trusted.retain(|certificate| *certificate != next);
        if !trusted.is_empty() {
            self.write_bundle(&trusted)?;
        }
        remove(&self.dir.join(NEXT))?;
        remove(&self.dir.join(NEXT_KEY))
    }

    /// From here on the new authority signs, `holm pki issue` and `renew` included.
    pub fn start_issuing(&self) -> Result<Authority, PkiError> {
        let (key, next, old) =
            (self.dir.join(KEY), self.dir.join(NEXT_KEY), self.dir.join(OLD_KEY));
        if !old.exists() {
            if !next.exists() {
                return Err(content(&next, "no change of the authority has begun"));
            }
            rename(&key, &old)?;
        }
        if next.exists() {
            rename(&next, &key)?;
        }
        Authority::load(self.dir)
    }

    /// Who has a certificate of a trusted authority in the directory, with its key, and whether it
    /// is one of `authority`'s. What somebody else signed is left alone.
    pub fn nodes(&self, authority: &Authority) -> Result<Vec<(String, bool)>, PkiError> {
        let trusted = read_certificates(&self.dir.join(BUNDLE))?;
        let mut nodes = Vec::new();
        let failed = |source| file_error(self.dir, source);
        for entry in fs::read_dir(self.dir).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let Some(name) = path.file_stem().and_then(|name| name.to_str()) else { continue };
            let has_key = path.extension().is_some_and(|extension| extension == "pem")
                && path.with_extension("key").exists();
            if !has_key || matches!(name, "ca" | "ca-next") {
                continue;
            }
            if let Some(signer) = tls::authority_of(&read_certificates(&path)?, &trusted) {
                nodes.push((name.to_owned(), signer == authority.fingerprint()));
            }
        }
        nodes.sort();
        Ok(nodes)
    }

    /// Drops the old authority: its certificate from `ca.pem`, and its key.
    pub fn finish(&self) -> Result<(), PkiError> {
        let authority = self.start_issuing()?;
        self.write_bundle(&[authority.certificate])?;
        remove(&self.dir.join(NEXT))?;
        remove(&self.dir.join(OLD_KEY))
    }

    fn write_bundle(&self, certificates: &[CertificateDer<'_>]) -> Result<(), PkiError> {
        let text: String = certificates.iter().map(certificate_pem).collect();
        replace(&self.dir.join(BUNDLE), &text, 0o644)
    }
}

impl Authority {
    /// The name of its certificate for machines.
    pub fn fingerprint(&self) -> String {
        fingerprint(&self.certificate)
    }

    /// Makes a new certificate and key for whom `old` is for, with all its names and `more`.
    pub fn renew(
        &self,
        old: &Path,
        more: &[String],
        entropy: &Entropy,
        clock: &dyn WallClock,
    ) -> Result<Identity, PkiError> {
        let certificate = read_certificates(old)?.swap_remove(0);
        let facts = Facts::of(&certificate).map_err(|why| content(old, why))?;
        if facts.names.is_empty() {
            return self.issue_client(&facts.subject, entropy, clock);
        }
        let node = crate::model::NodeName::new(&facts.subject).map_err(|why| content(old, why))?;
        let names = [&facts.names, more].concat();
        self.issue_for(&node, &names, entropy, clock)
    }
}

fn rename(from: &Path, to: &Path) -> Result<(), PkiError> {
    fs::rename(from, to).map_err(|source| file_error(from, source))
}

fn remove(path: &Path) -> Result<(), PkiError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(file_error(path, error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::SystemClock;
    use crate::model::NodeName;

    fn old(dir: &Path) -> Authority {
        let entropy = Entropy::system();
        let authority = Authority::create(&entropy, &SystemClock).unwrap();
        authority.save(dir).unwrap();
        let node = NodeName::new("a-1").unwrap();
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        authority
            .issue_for(&node, &names, &entropy, &SystemClock)
            .unwrap()
            .save(dir, "a-1")
            .unwrap();
        authority.issue_client("ada", &entropy, &SystemClock).unwrap().save(dir, "ada").unwrap();
        authority
    }

    #[test]
    fn a_rotation_goes_from_one_authority_over_both_to_the_other() {
        let dir = tempfile::tempdir().unwrap();
        let (dir, entropy) = (dir.path(), Entropy::system());
        let old = old(dir);
        let rotation = Rotation::of(dir);
        assert_eq!(rotation.phase(), Phase::None);
        // Twice is once.
        rotation.begin(&entropy, &SystemClock).unwrap();
        rotation.begin(&entropy, &SystemClock).unwrap();
        assert_eq!(rotation.phase(), Phase::Begun);
        assert_eq!(rotation.trusted().unwrap().len(), 2);
        assert_eq!(Authority::load(dir).unwrap().fingerprint(), old.fingerprint());
        let new = rotation.start_issuing().unwrap();
        assert_eq!(rotation.phase(), Phase::Issuing);
        assert_ne!(new.fingerprint(), old.fingerprint());
        // A public CA's, beside them.
        let other = Authority::create(&entropy, &SystemClock).unwrap();
        let public = NodeName::new("public").unwrap();
        other.issue(&public, &entropy, &SystemClock).unwrap().save(dir, "public").unwrap();
        let nodes = |is: bool| vec![("a-1".to_owned(), is), ("ada".to_owned(), is)];
        assert_eq!(rotation.nodes(&new).unwrap(), nodes(false));
        for name in ["a-1", "ada"] {
            let old = dir.join(format!("{name}.pem"));
            let renewed = new.renew(&old, &[], &entropy, &SystemClock);
            renewed.unwrap().replace(dir, name).unwrap();
        }
        assert_eq!(rotation.nodes(&new).unwrap(), nodes(true));
        let chain = read_certificates(&dir.join("a-1.pem")).unwrap();
        assert_eq!(Facts::of(&chain[0]).unwrap().names, ["a-1", "localhost", "127.0.0.1"]);
        rotation.finish().unwrap();
        assert_eq!(rotation.phase(), Phase::None);
        let trusted = rotation.trusted().unwrap();
        assert_eq!(trusted.len(), 1);
        assert_eq!(trusted[0].fingerprint, new.fingerprint());
        assert!(!dir.join("ca-old.key").exists() && !dir.join("ca-next.key").exists());
    }

    #[test]
    fn a_step_that_was_cut_off_is_taken_up_again() {
        let entropy = Entropy::system();
        // What each kind of cut leaves, by the files that are missing or stale after it.
        let cuts: [fn(&Path); 4] = [
            |dir| {
                // begin: the key alone.
                fs::write(dir.join(NEXT_KEY), "half a key").unwrap();
            },
            |dir| {
                // begin: the authority, not yet in ca.pem.
                let bundle = fs::read(dir.join(BUNDLE)).unwrap();
                Rotation::of(dir).begin(&Entropy::system(), &SystemClock).unwrap();
                fs::write(dir.join(BUNDLE), bundle).unwrap();
            },
            |dir| {
                // start_issuing: between its two renames.
                Rotation::of(dir).begin(&Entropy::system(), &SystemClock).unwrap();
                fs::rename(dir.join(KEY), dir.join(OLD_KEY)).unwrap();
            },
            |dir| {
                // finish: before the old key is gone.
                let rotation = Rotation::of(dir);
                rotation.begin(&Entropy::system(), &SystemClock).unwrap();
                let new = rotation.start_issuing().unwrap();
                rotation.write_bundle(&[new.certificate]).unwrap();
                remove(&dir.join(NEXT)).unwrap();
            },
        ];
        for (number, cut) in cuts.into_iter().enumerate() {
            let dir = tempfile::tempdir().unwrap();
            let dir = dir.path();
            let old = old(dir);
            cut(dir);
            let rotation = Rotation::of(dir);
            if rotation.phase() != Phase::Issuing {
                rotation.begin(&entropy, &SystemClock).unwrap();
            }
            let new = rotation.start_issuing().unwrap();
            assert_ne!(new.fingerprint(), old.fingerprint(), "cut {number}");
            rotation.finish().unwrap();
            assert_eq!(rotation.phase(), Phase::None, "cut {number}");
            let trusted = rotation.trusted().unwrap();
            assert_eq!((trusted.len(), &trusted[0].fingerprint), (1, &new.fingerprint()));
        }
    }

    #[test]
    fn a_beginning_can_be_taken_back() {
        let dir = tempfile::tempdir().unwrap();
        let old = old(dir.path());
        let rotation = Rotation::of(dir.path());
        rotation.begin(&Entropy::system(), &SystemClock).unwrap();
        rotation.cancel().unwrap();
        assert_eq!(rotation.phase(), Phase::None);
        assert_eq!(rotation.trusted().unwrap()[0].fingerprint, old.fingerprint());
        assert_eq!(Authority::load(dir.path()).unwrap().fingerprint(), old.fingerprint());
    }
}
