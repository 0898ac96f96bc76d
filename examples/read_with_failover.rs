//! Reads a configuration from the nearest of several regions, once a second, and goes on reading
//! while regions go and come. Try it with a cluster on this machine, and kill what you like:
//!
//! ```sh
//! holm dev --data /tmp/holm-dev &
//! export HOLM_TOKEN=$(cat /tmp/holm-dev/token)
//! holm set web/prod limit=10
//! cargo run --example read_with_failover -- web/prod limit \
//!     http://127.0.0.1:8101 http://127.0.0.1:8102 http://127.0.0.1:8103
//! ```
//!
//! With one argument more than the key that is no URL, regions are found by DNS:
//! `cargo run --example read_with_failover -- web/prod limit holm.example.com`.

use std::error::Error;
use std::time::Duration;

use holm::client::{Client, ClientSettings};
use holm::model::{DocumentId, Key};
use tokio::time::{Instant, sleep};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [document, key, places @ ..] = arguments.as_slice() else {
        return Err("usage: read_with_failover SERVICE/ENVIRONMENT KEY URL… | NAME".into());
    };
    let (document, key) = (DocumentId::parse(document)?, Key::new(key)?);
    let token = std::env::vars().find(|(name, _)| name == "HOLM_TOKEN").map(|(_, token)| token);
    let mut settings = match places {
        [name] if !name.contains("://") => ClientSettings::discover(name, token.as_deref()),
        [] => return Err("where are the regions?".into()),
        urls => ClientSettings::regions(urls, token.as_deref()),
    };
    // All that one read may take, in whichever regions it is tried.
    settings.timeout = Duration::from_secs(2);
    let client = Client::with(settings)?;
    loop {
        let begun = Instant::now();
        match client.get(&document, &key).await {
            Ok(item) => println!("{key} = {} ({:?})", item.value, begun.elapsed()),
            Err(error) => println!("{error} ({:?})", begun.elapsed()),
        }
        for region in client.regions().iter().filter(|region| region.is_used) {
            println!("    from {}, {:.1?} away", region.url, region.rtt.unwrap_or_default());
        }
        sleep(Duration::from_secs(1)).await;
    }
}
