//! Follows a document across regions: the watch goes on in another region, from the same session, when
//! its own one dies, and comes back to the nearest when that has been well for a while.
//!
//! ```sh
//! cargo run --example watch_across_regions -- web/prod http://127.0.0.1:8101 http://127.0.0.1:8102
//! ```

use std::error::Error;

use holm::client::{Client, ClientSettings, WatchEvent, WatchSettings};
use holm::model::DocumentId;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [document, urls @ ..] = arguments.as_slice() else {
        return Err("usage: watch_across_regions SERVICE/ENVIRONMENT URL…".into());
    };
    let token = std::env::vars().find(|(name, _)| name == "HOLM_TOKEN").map(|(_, token)| token);
    let client = Client::with(ClientSettings::regions(urls, token.as_deref()))?;
    let mut watch = client.watch(&DocumentId::parse(document)?, WatchSettings::default());
    loop {
        match watch.next().await? {
            WatchEvent::Put(item) => println!("{} = {}", item.key, item.value),
            WatchEvent::Remove(removed) => println!("{} is removed", removed.key),
            WatchEvent::Reset => println!("the whole state again:"),
            WatchEvent::Ready => println!("up to date"),
            WatchEvent::Moved { url } => println!("goes on at {url}"),
            WatchEvent::Lost { error, pause } => println!("{error}; again in {pause:?}"),
        }
    }
}
