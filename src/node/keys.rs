//! The master keys of this node, held against those that the cluster uses: when it starts, where a
//! wrong or a missing one is a refusal, and whenever the cluster's change, where it is an alarm.

use std::sync::Arc;

use tokio::sync::watch;

use crate::quorum::Quorum;
use crate::secrets::{KeyError, Keyring};
use crate::settings::SecretSettings;

/// The ring of the settings' keys, all of which were read.
pub(super) fn ring(settings: &SecretSettings) -> Result<Keyring, KeyError> {
    let keys = settings.master_keys.iter();
    Keyring::new(keys.map(|key| {
        let text = key.text.as_ref().map_or("", |text| text.expose());
        (key.generation, text)
    }))
}

/// Whether the ring has what the state on this node's disk was sealed with. A node that was given
/// no key at all serves configurations; whoever starts it decides whether that is meant.
pub(super) fn check(keyring: &Keyring, quorum: &Quorum) -> Result<(), KeyError> {
    if keyring.is_empty() { Ok(()) } else { keyring.check(&quorum.glance().generations) }
}

/// Says loudly where the cluster comes to use a key that this node does not hold. Requests that
/// need it are answered so by themselves.
pub(super) async fn watch(
    keyring: Arc<Keyring>,
    quorum: Quorum,
    mut stopped: watch::Receiver<bool>,
) {
    let mut applied = quorum.applied();
    let mut said = None;
    loop {
        let found = keyring.check(&quorum.state().generations).err();
        if found != said {
            match &found {
                Some(error) => {
                    tracing::error!(%error, "secrets cannot be opened here until it is put right");
                }
                None => tracing::info!("this node holds every master key that the cluster uses"),
            }
            said = found;
        }
        tokio::select! {
            biased;
            _ = stopped.wait_for(|stopped| *stopped) => return,
            changed = applied.changed() => if changed.is_err() { return },
        }
    }
}
