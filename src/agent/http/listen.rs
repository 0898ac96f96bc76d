//! The Unix socket: there under its name only with its mode, in the place of one that nobody answers at
//! any more, and never in the place of anything else.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::{fs, time::Duration};

use futures_util::future::{BoxFuture, FutureExt as _};
use tokio::net::{UnixListener, UnixStream};

use crate::env::{HttpListener, Io};

/// How long somebody may take who answers at a socket that is there.
const ANSWERS_WITHIN: Duration = Duration::from_secs(1);

/// Why there is no socket. What was at its path is still there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListenError {
    /// Something else has its name.
    #[error("{}: there is something that is no socket", .0.display())]
    NoSocket(PathBuf),
    /// Somebody answers there.
    #[error("{}: another process answers there", .0.display())]
    Taken(PathBuf),
    /// The system refuses.
    #[error("{place}: {reason}")]
    System {
        /// Where.
        place: String,
        /// What the system says.
        reason: String,
    },
}

/// A socket's file, which is removed in the end if it still is this one.
#[derive(Debug)]
pub(in crate::agent) struct Socket {
    path: PathBuf,
    identity: (u64, u64),
}

impl Drop for Socket {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|it| (it.dev(), it.ino()) == self.identity) {
            // It is of no use any more; the next start replaces it all the same.
            let _ = fs::remove_file(&self.path);
        }
    }
}

struct UnixHttpListener(UnixListener);

impl HttpListener for UnixHttpListener {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Box<dyn Io>, SocketAddr)>> {
        async move {
            let (stream, _) = self.0.accept().await?;
            Ok((Box::new(stream) as Box<dyn Io>, SocketAddr::from(([127, 0, 0, 1], 0))))
        }
        .boxed()
    }
}

/// Listens at `path`, for whom `mode` lets in.
pub(in crate::agent) async fn bind_socket(
    path: &Path,
    mode: u32,
) -> Result<(Box<dyn HttpListener>, Socket), ListenError> {
    let system = |e: io::Error| ListenError::System {
        place: path.display().to_string(),
        reason: e.to_string(),
    };
    match fs::symlink_metadata(path) {
        Ok(there) if !there.file_type().is_socket() => {
            return Err(ListenError::NoSocket(path.to_owned()));
        }
        Ok(_) => match tokio::time::timeout(ANSWERS_WITHIN, UnixStream::connect(path)).await {
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => {}
            Ok(Err(error)) => return Err(system(error)),
            // Also one that is too busy to answer is there.
            Ok(Ok(_)) | Err(_) => return Err(ListenError::Taken(path.to_owned())),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(system(error)),
    }
    // Made beside its place, so that nobody gets in before the mode is set.
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    let bind = || {
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&new)?;
        fs::set_permissions(&new, fs::Permissions::from_mode(mode))?;
        fs::rename(&new, path)?;
        let there = fs::symlink_metadata(path)?;
        Ok((listener, (there.dev(), there.ino())))
    };
    let (listener, identity) = bind().map_err(system)?;
    Ok((Box::new(UnixHttpListener(listener)), Socket { path: path.to_owned(), identity }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_has_its_mode_replaces_a_dead_one_and_goes_with_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.sock");
        // One whose process is gone.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let (listener, socket) = bind_socket(&path, 0o660).await.unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o660);
        let taken = bind_socket(&path, 0o660).await.err().unwrap();
        assert_eq!(taken, ListenError::Taken(path.clone()));
        drop((listener, socket));
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn what_is_no_socket_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("precious");
        fs::write(&path, "x").unwrap();
        let error = bind_socket(&path, 0o600).await.err().unwrap();
        assert!(error.to_string().contains("precious: there is something"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"x");
        let nowhere = dir.path().join("no/agent.sock");
        let error = bind_socket(&nowhere, 0o600).await.err().unwrap();
        assert!(error.to_string().contains("no/agent.sock"), "{error}");
    }

    #[tokio::test]
    async fn a_socket_that_another_replaced_is_not_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.sock");
        let (_listener, socket) = bind_socket(&path, 0o600).await.unwrap();
        fs::remove_file(&path).unwrap();
        let _other = std::os::unix::net::UnixListener::bind(&path).unwrap();
        drop(socket);
        assert!(path.exists());
    }
}
