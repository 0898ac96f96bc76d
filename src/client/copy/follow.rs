//! The task that follows a document: a watch, and another one where it ended for good. It shows what is
//! whole, and says how things stand.

use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::state::Pending;
use super::{CopySettings, Shared};
use crate::client::{Client, ClientError, WatchEvent, WatchSettings};

/// How long after a refusal it is tried again: somebody has to change something first.
const REFUSED_PAUSE: Duration = Duration::from_secs(20);

/// Follows the document until the task is dropped.
pub(super) async fn follow(
    client: Client,
    shared: Arc<Shared>,
    mut pending: Pending,
    settings: CopySettings,
) {
    let mut random = StdRng::seed_from_u64(settings.jitter_seed);
    loop {
        let error = watch(&client, &shared, &mut pending, &settings, random.random()).await;
        tracing::warn!(document = %shared.document, %error, "the copy's watch is refused");
        if error.refusal().is_some_and(|refusal| refusal.name == "BadSession") {
            // Nobody knows what it is, so that nothing can be missed by it.
            pending.start_over();
        }
        shared.disconnected(Some(error));
        tokio::time::sleep(REFUSED_PAUSE.mul_f64(random.random_range(0.5..1.0))).await;
    }
}

/// One watch, to its end.
async fn watch(
    client: &Client,
    shared: &Shared,
    pending: &mut Pending,
    settings: &CopySettings,
    jitter_seed: u64,
) -> ClientError {
    let since = pending.session().map(str::to_owned);
    let prefix = settings.prefix.clone();
    let mut watch = client.watch(&shared.document, WatchSettings { prefix, since, jitter_seed });
    loop {
        let event = match watch.next().await {
            Ok(event) => event,
            Err(error) => return error,
        };
        if let WatchEvent::Lost { error, .. } = &event {
            tracing::info!(document = %shared.document, %error, "the copy's watch is lost");
            shared.disconnected(Some(error.clone()));
        }
        let is_ready = event == WatchEvent::Ready;
        if pending.take(&shared.document, event, watch.session()) {
            shared.show(pending);
        }
        if is_ready {
            shared.connected(watch.contact());
        }
    }
}
