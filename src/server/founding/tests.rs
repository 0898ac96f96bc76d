use super::*;
use crate::env::{Disk as _, Entropy, ManualClock, MemoryDisk};
use crate::model::{NodeName, Stamp};
use crate::settings::SecretSettings;
use crate::topology::Topology;
use crate::transport::Authority;

fn settings() -> Settings {
    let mut key = [7; 32];
    key[0] = 1;
    Settings { secrets: SecretSettings::given([(1, key)]), ..Settings::default() }
}

async fn node(settings: &Settings, disk: &MemoryDisk) -> (Node, Env) {
    let text = "cluster = \"test\"\nrtt_ms_default = 2\n[[regions]]\nname = \"here\"\nplace = \
                \"here\"\nnodes = [{ name = \"here-1\", peer = \"127.0.0.1:1\", http = \
                \"127.0.0.1:0\" }]\n";
    let topology = Arc::new(Topology::parse("test.toml", text).unwrap());
    let clock = ManualClock::new(Stamp(1_700_000_000_000_000));
    let mut env = Env::in_memory(disk.clone(), None);
    env.clock = Arc::new(clock.clone());
    let name = NodeName::new("here-1").unwrap();
    let authority = Authority::create(&Entropy::system(), &clock).unwrap();
    let identity = authority.issue(&name, &env.entropy, &clock).unwrap();
    (Node::start(env.clone(), settings, topology, &name, &identity).await.unwrap(), env)
}

fn read(disk: &MemoryDisk) -> Option<Written> {
    let bytes = disk.read(CREDENTIAL_FILE).unwrap()?;
    Some(serde_json::from_slice(&bytes).unwrap())
}

#[tokio::test]
async fn a_new_cluster_gets_one_administrator_whose_secret_is_on_disk() {
    let (settings, disk) = (Arc::new(settings()), MemoryDisk::new());
    let (node, env) = node(&settings, &disk).await;
    let (_stop, stopped) = watch::channel(false);
    run(node.clone(), env.clone(), settings.clone(), stopped.clone()).await;
    let state = node.quorum().state();
    let account = state.rules.account(&AccountName::new("admin").unwrap()).unwrap();
    let written = read(&disk).unwrap();
    let credential = &account.credentials[&written.credential().unwrap()];
    assert!(credential::verify(&written.client_secret, &credential.hash));
    assert_eq!(state.signing.len(), 1);
    let key = signing::open(&state, node.keyring(), "test", env.clock.now()).unwrap();
    assert_eq!(Some(*key.public()), state.signing.values().next().map(|key| key.public));
    // Once more: nothing is changed, and the file stays.
    run(node.clone(), env, settings, stopped).await;
    assert_eq!(node.quorum().state().index, state.index);
    assert!(read(&disk).is_some());
    node.shutdown().await;
}

#[tokio::test]
async fn an_attempt_is_made_again_with_the_same_credential() {
    let (settings, disk) = (settings(), MemoryDisk::new());
    let (node, env) = node(&settings, &disk).await;
    let first = written(&node, &env, &settings).await.unwrap();
    let second = written(&node, &env, &settings).await.unwrap();
    assert_eq!(first.client_secret, second.client_secret);
    assert_eq!(first.account, second.account);
    disk.write(CREDENTIAL_FILE, b"{torn", true).unwrap();
    let third = written(&node, &env, &settings).await.unwrap();
    assert_ne!(first.client_secret, third.client_secret);
    node.shutdown().await;
}

#[tokio::test]
async fn who_was_not_first_removes_its_file() {
    let (settings, disk) = (Arc::new(settings()), MemoryDisk::new());
    let (node, env) = node(&settings, &disk).await;
    found(&node, &env, &settings).await.unwrap();
    disk.remove(CREDENTIAL_FILE).unwrap();
    // A second one, proposed too late.
    assert!(found(&node, &env, &settings).await.is_err());
    assert!(read(&disk).is_some());
    let (_stop, stopped) = watch::channel(false);
    run(node.clone(), env, settings, stopped).await;
    assert!(read(&disk).is_none());
    node.shutdown().await;
}

#[tokio::test]
async fn without_a_master_key_nothing_is_founded() {
    let (settings, disk) = (Arc::new(Settings::default()), MemoryDisk::new());
    let (node, env) = node(&settings, &disk).await;
    let (_stop, stopped) = watch::channel(false);
    run(node.clone(), env, settings, stopped).await;
    assert!(!node.quorum().state().is_founded() && read(&disk).is_none());
    node.shutdown().await;
}
