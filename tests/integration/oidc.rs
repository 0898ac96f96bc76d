//! Tokens of a real issuer: npm's `oidc-provider` (tests/oidc), in a process of its own. Runs where
//! node and its packages are there, which `.ci/run` sees to; elsewhere it says that it is skipped.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use holm::client::{Client, ClientError};

use crate::cluster::{document, eventually, free_ports};
use crate::process::{HOLM, Process, holm};

/// What the issuer says when it is up.
#[derive(serde::Deserialize)]
struct Issuer {
    issuer: String,
    jwks_uri: String,
    /// For a client with the role `operator`.
    operator: String,
    /// The same, narrowed to `config:read:web/dev`.
    narrowed: String,
}

fn start_issuer() -> Option<(Child, Issuer)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oidc");
    if !dir.join("node_modules/oidc-provider").is_dir() {
        let missing = "skipped: `npm ci` in tests/oidc makes this test run";
        assert!(std::env::var_os("HOLM_TEST_OIDC").is_none(), "{missing}");
        eprintln!("{missing}");
        return None;
    }
    let mut child = Command::new("node")
        .arg("issuer.mjs")
        .current_dir(&dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    // Whatever the library has to say comes before.
    let said = lines.find_map(|line| serde_json::from_str(&line.unwrap()).ok());
    let said = said.expect("the issuer starts");
    Some((child, said))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_issuers_tokens_are_taken_also_after_a_restart_without_it() {
    let Some((issuer_process, issuer)) = start_issuer() else { return };
    let issuer_process = Process(issuer_process);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path();
    holm(path, &["pki", "init"]);
    holm(path, &["pki", "issue", "--node", "a-1"]);
    holm(path, &["keys", "generate"]);
    let (peer, http) = free_ports();
    let topology = format!(
        "cluster = \"test\"\nrtt_ms_default = 1\n[[regions]]\nname = \"a\"\nplace = \"here\"\nnodes \
         = [{{ name = \"a-1\", peer = \"127.0.0.1:{peer}\", http = \"127.0.0.1:{http}\" }}]\n"
    );
    std::fs::write(path.join("topology.toml"), topology).unwrap();
    let settings = format!(
        "[[access.keys]]\njwks_url = \"{}\"\nissuer = \"{}\"\nalgorithms = [\"RS256\"]\naudience = \
         \"holm\"\n[secrets]\nmaster_keys = [{{ generation = 1, file = \"master.key\" }}]\n",
        issuer.jwks_uri, issuer.issuer
    );
    std::fs::write(path.join("holm.toml"), settings).unwrap();
    let serve = || {
        let child = Command::new(HOLM)
            .args(["serve", "--topology", "topology.toml", "--settings", "holm.toml"])
            .args(["--node", "a-1", "--data", "data", "--alone"])
            .current_dir(path)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Process(child.unwrap())
    };
    let client =
        |token: &str| Client::new(&format!("http://127.0.0.1:{http}"), Some(token)).unwrap();
    let (operator, narrowed) = (client(&issuer.operator), client(&issuer.narrowed));
    let lists = async |client: &Client, of: &str| client.list(&document(of), None).await.is_ok();
    let node = serve();
    eventually("the keys are fetched", async || lists(&operator, "web/prod").await).await;
    assert!(lists(&narrowed, "web/dev").await && !lists(&narrowed, "web/prod").await);
    let Err(ClientError::Refused(refused)) = narrowed.list(&document("web/prod"), None).await
    else {
        panic!("it is refused")
    };
    assert_eq!(refused.status, 403);
    let (head, _) = issuer.operator.rsplit_once('.').unwrap();
    assert!(!lists(&client(&format!("{head}.AAAA")), "web/prod").await);
    drop(node);
    drop(issuer_process);
    let _node = serve();
    eventually("the kept keys do", async || lists(&operator, "web/prod").await).await;
}
