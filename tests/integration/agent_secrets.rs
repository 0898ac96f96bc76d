//! Secrets of an agent: given out where the settings say, sealed on its disk, gone when they are gone,
//! and never in a file or a log in the clear.

use std::time::Duration;

use holm::model::SecretName;
use holm::secrets::Plaintext;

use crate::agent::{Beside, put};
use crate::canary::{CANARY, found_in};
use crate::cluster::eventually;
use crate::process::Site;

const SETTINGS: &str = "
[secrets]
names = [\"db-password\"]
refresh = \"1s\"
key_file = \"agent.key\"
[log]
level = \"trace\"
[[templates]]
source = \"app.j2\"
target = \"OUT/app.conf\"
reload = [\"sh\", \"-c\", \"cat OUT/app.conf; echo it failed; exit 1\"]
";

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_sealed_on_disk_and_goes_when_it_is_gone() {
    let site = Site::with("", "config:* secrets:* audit:read cluster:read");
    let nodes: Vec<_> = (0..3).map(|which| site.serve(which)).collect();
    let client = site.client(0);
    let name = SecretName::new("db-password").unwrap();
    eventually("the secret is put", async || {
        let value = Plaintext::new(CANARY.as_bytes().to_vec());
        client.put_secret(&name, &value, None, None).await.is_ok()
    })
    .await;
    put(&client, "n", "1").await;
    crate::process::holm(site.dir.path(), &["keys", "generate", "--out", "agent.key"]);
    let beside = Beside::new(&site, SETTINGS);
    std::fs::write(beside.path("app.j2"), "password={{ secret('db-password') }}\n").unwrap();
    let agent = beside.start();
    beside.is_ready().await;
    let (status, head, body) = beside.ask("/secrets/db-password");
    assert!(status == 200 && body.contains(CANARY), "{status} {body}");
    assert!(head.contains("cache-control: no-store"), "{head}");
    assert_eq!(beside.ask("/secrets/other").0, 404);
    let out = std::fs::read_to_string(beside.out.path().join("app.conf")).unwrap();
    assert_eq!(out, format!("password={CANARY}\n"));
    // The command that failed printed it; what is told of that does not repeat it.
    eventually("the failure is told", async || {
        let told = beside.ask("/readyz").2;
        assert!(!told.contains(CANARY), "{told}");
        told.contains("it failed") && told.contains("[secret]")
    })
    .await;
    assert!(beside.path("agent/secrets.sealed").exists());
    let metrics = beside.ask("/metrics").2;
    assert!(metrics.contains("holm_agent_secret_age_seconds") && !metrics.contains(CANARY));

    // No region: what was sealed is there after a restart.
    drop(nodes);
    agent.stop();
    let agent = beside.start();
    beside.is_ready().await;
    assert!(beside.ask("/secrets/db-password").2.contains(CANARY));
    agent.stop();
    let (found, bytes) = found_in(site.dir.path());
    assert!(found.is_empty(), "the value stands in {found:?}");
    assert!(bytes > 10_000, "only {bytes} bytes were looked at");

    // Regions again, and the secret is removed: gone from memory and disk.
    let _nodes: Vec<_> = (0..3).map(|which| site.serve(which)).collect();
    let agent = beside.start();
    beside.is_ready().await;
    let sealed = || std::fs::metadata(beside.path("agent/secrets.sealed")).unwrap().len();
    let before = sealed();
    eventually("the secret is removed", async || client.remove_secret(&name).await.is_ok()).await;
    eventually("it is let go", async || beside.ask("/secrets/db-password").0 == 503).await;
    eventually("also on disk", async || sealed() < before).await;
    let told = beside.ask("/secrets/db-password").2;
    assert!(told.contains("NotFound"), "{told}");
    assert_eq!(beside.ask("/readyz").0, 503);
    agent.stop();

    // Without a key nothing is on disk, also not what was.
    let settings = std::fs::read_to_string(beside.path("agent.toml")).unwrap();
    let settings = settings.replace("key_file = \"agent.key\"\n", "");
    std::fs::write(beside.path("agent.toml"), settings).unwrap();
    let agent = beside.start();
    eventually("it answers", async || beside.ask("/healthz").0 == 200).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    eventually("nothing is on disk", async || !beside.path("agent/secrets.sealed").exists()).await;
    agent.stop();
}
