//! One directory, one agent: what is in it is written by whoever holds the lock of its file `lock`, by
//! the same kind of lock as a node's stores have. The system lets go of it when the process ends, however
//! that comes about. The file stays, and says nothing.

use std::ops::Bound;
use std::path::Path;

use redb::{BackendError, StorageBackend};

use super::AgentError;
use crate::env::Disk;

/// The file's name in the agent's directory.
const NAME: &str = "lock";

/// That the directory is this agent's, for as long as this is kept.
pub(super) struct Claim {
    _lock: Box<dyn StorageBackend>,
}

/// Claims `disk`, which is the directory `dir`, or says that another one has it.
pub(super) fn claim(disk: &dyn Disk, dir: &Path) -> Result<Claim, AgentError> {
    let taken = || AgentError::Taken(dir.to_owned());
    let system = |reason: String| AgentError::Directory { path: dir.join(NAME), reason };
    let lock = disk.database(NAME).map_err(|e| match e.kind() {
        std::io::ErrorKind::WouldBlock => taken(),
        _ => system(e.to_string()),
    })?;
    match lock.try_lock_range(Bound::Unbounded, Bound::Unbounded) {
        Ok(true) => {}
        Ok(false) => return Err(taken()),
        // As a node's stores do where the system has no locks.
        Err(BackendError::Unsupported) => {
            tracing::warn!(directory = %dir.display(), "there are no locks here: nothing keeps another agent off");
        }
        Err(e) => return Err(system(e.to_string())),
    }
    Ok(Claim { _lock: lock })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::{FileDisk, MemoryDisk};
    use std::time::Duration;

    #[tokio::test]
    async fn a_directory_has_one_agent_until_that_one_is_gone() {
        let real = tempfile::tempdir().unwrap();
        let disks: [(Box<dyn Disk>, Box<dyn Disk>); 2] = [
            (
                Box::new(FileDisk::open(real.path()).unwrap()),
                Box::new(FileDisk::open(real.path()).unwrap()),
            ),
            {
                let disk = MemoryDisk::default();
                (Box::new(disk.clone()), Box::new(disk))
            },
        ];
        for (first, second) in disks {
            let dir = Path::new("/var/lib/agent");
            let held = claim(&*first, dir).unwrap();
            let refused = claim(&*second, dir).err().unwrap();
            assert_eq!(refused, AgentError::Taken(dir.to_owned()));
            assert!(refused.to_string().starts_with("/var/lib/agent: "), "{refused}");
            drop(held);
            // A process that another test has just forked has its copies until it is the program
            // that it is to be.
            let again = async {
                while claim(&*second, dir).is_err() {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            };
            tokio::time::timeout(Duration::from_secs(10), again).await.unwrap();
        }
    }
}
