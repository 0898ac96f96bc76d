//! The node's directory: whose it is, what lies in it beside the stores, and how much room there is.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::report::Report;

/// Less room than this is too little for anything, in bytes.
const ROOM_MIN: u64 = 64 * 1024 * 1024;

pub(super) fn check(data: &Path, report: &mut Report) {
    let of = &data.display();
    let mode = match std::fs::metadata(data) {
        Ok(found) if found.is_dir() => found.mode() & 0o777,
        Ok(_) => return report.fail("files", of, "it is no directory", "name another with --data"),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let advice = "holm serve makes it, and an empty node is filled by its peers";
            return report.warn("files", of, "there is none yet", advice);
        }
        Err(error) => {
            return report.fail("files", of, error, "this user has to be able to read it");
        }
    };
    if mode & 0o077 == 0 {
        report.ok("files", of, "its owner's alone");
    } else {
        let found = format!("others may look into it (mode {mode:o})");
        report.warn("files", of, found, "chmod 700 it: hashes of client secrets lie there");
    }
    let mut stores = 0;
    let entries = match std::fs::read_dir(data) {
        Ok(entries) => entries,
        Err(error) => {
            return report.fail("files", of, error, "this user has to be able to read it");
        }
    };
    let mut names: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    for name in names {
        let found = std::fs::symlink_metadata(data.join(&name));
        let len = found.as_ref().map_or(0, std::fs::Metadata::len);
        if name.ends_with(".redb") {
            stores += len;
            if found.is_ok_and(|found| found.mode() & 0o077 != 0) {
                report.warn("files", &name, "others may read or change it", "chmod 600 it");
            }
        } else if name.contains(".redb.") {
            let found = format!("a store that was set aside, {len} bytes");
            let advice = "the log says why; remove it when nobody wants to look at it any more";
            report.warn("files", &name, found, advice);
        } else if name == "restoring" {
            let advice = "remove all that is in the directory, and restore again";
            report.fail("files", &name, "a restore was broken off", advice);
        } else if name == "admin-credential.json" {
            let advice = "keep it somewhere safe, and remove it here";
            report.warn("files", &name, "the administrator's secret", advice);
        }
    }
    check_room(data, stores, report);
}

fn check_room(data: &Path, stores: u64, report: &mut Report) {
    let of = &data.display();
    let advice = "make room: a node whose disk is full takes no writes";
    match rustix::fs::statvfs(data) {
        Err(error) => report.warn("disk", of, error, "how much room there is cannot be seen"),
        Ok(found) => {
            let free = found.f_bavail.saturating_mul(found.f_frsize);
            let says = format!("{} MiB free, the stores have {} MiB", free >> 20, stores >> 20);
            if free < ROOM_MIN {
                report.fail("disk", of, says, advice);
            } else if free < stores.saturating_mul(2) {
                report.warn("disk", of, says, advice);
            } else {
                report.ok("disk", of, says);
            }
            if found.f_files > 0 && found.f_favail < 16 {
                report.fail("disk", of, "there is no room for more files", advice);
            }
        }
    }
}
