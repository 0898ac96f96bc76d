//! A value that was put as a secret is nowhere but in the answer to who may see it: three real
//! processes at their most talkative log level, everything that touches the value, and then every
//! byte they left behind, in three encodings.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::cluster::{eventually, http};
use crate::process::{HOLM, Site};

/// Nothing else says this.
pub(crate) const CANARY: &str = "canary-5f0c2b7e-never-to-be-seen";

/// The value as it may have been written: as it is, in hexadecimal, in base64 at each alignment.
fn forms() -> Vec<Vec<u8>> {
    let hex: String = CANARY.bytes().map(|byte| format!("{byte:02x}")).collect();
    let mut forms = vec![CANARY.as_bytes().to_vec(), hex.into_bytes()];
    for skip in 0..3 {
        // Without the characters that also depend on what stands around it.
        let rest = &CANARY.as_bytes()[skip..];
        let encoded = STANDARD.encode(&rest[..rest.len() / 3 * 3]);
        forms.push(encoded.into_bytes());
    }
    forms
}

/// The files under `dir` that hold the value, and how many bytes were looked at.
pub(crate) fn found_in(dir: &Path) -> (Vec<String>, u64) {
    let forms = forms();
    let (mut found, mut bytes) = (Vec::new(), 0);
    let mut left = vec![dir.to_owned()];
    while let Some(dir) = left.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                left.push(entry.path());
                continue;
            }
            let content = std::fs::read(entry.path()).unwrap();
            bytes += content.len() as u64;
            if forms.iter().any(|form| content.windows(form.len()).any(|part| part == form)) {
                found.push(entry.path().display().to_string());
            }
        }
    }
    (found, bytes)
}

struct Asker<'a> {
    site: &'a Site,
    http: reqwest::Client,
}

impl Asker<'_> {
    async fn ask(
        &self,
        which: usize,
        method: &str,
        path: &str,
        body: Option<String>,
    ) -> (u16, String) {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let url = format!("http://127.0.0.1:{}{path}", self.site.http[which]);
        let mut request = self.http.request(method, url).bearer_auth(&self.site.token);
        request = request.timeout(Duration::from_secs(10));
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body);
        }
        let Ok(answer) = request.send().await else { return (0, String::new()) };
        let (status, headers) = (answer.status().as_u16(), format!("{:?}", answer.headers()));
        assert!(!headers.contains(CANARY), "{headers}");
        (status, answer.text().await.unwrap_or_default())
    }

    /// An answer that must not have the value.
    async fn refused(&self, method: &str, path: &str, body: &str) {
        let (status, text) = self.ask(0, method, path, Some(body.to_owned())).await;
        assert!(status >= 400, "{method} {path} {body}: {status}");
        assert!(!text.contains(CANARY), "{method} {path}: {text}");
    }
}

/// By the command line, from its standard input.
fn put_by_command_line(site: &Site) {
    let mut put = Command::new(HOLM)
        .args(["secret", "put", "db-password", "--url"])
        .arg(format!("http://127.0.0.1:{}", site.http[0]))
        .env("HOLM_TOKEN", &site.token)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let arguments = std::fs::read(format!("/proc/{}/cmdline", put.id())).unwrap();
    assert!(!String::from_utf8_lossy(&arguments).contains(CANARY));
    std::io::Write::write_all(&mut put.stdin.take().unwrap(), CANARY.as_bytes()).unwrap();
    let put = put.wait_with_output().unwrap();
    let said =
        format!("{}{}", String::from_utf8_lossy(&put.stdout), String::from_utf8_lossy(&put.stderr));
    assert!(put.status.success(), "{said}");
    assert!(!said.contains(CANARY), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_nowhere_but_in_the_answer_to_who_may_see_it() {
    let site =
        Site::with("[log]\nlevel = \"trace\"\n", "config:* secrets:* audit:read cluster:read");
    let mut processes: Vec<_> = (0..3).map(|which| Some(site.serve_logged(which))).collect();
    let asker = Asker { site: &site, http: http() };
    eventually("the cluster is founded", async || {
        let keys = asker.ask(0, "GET", "/.well-known/jwks.json", None).await.1;
        keys.contains("kid")
    })
    .await;

    put_by_command_line(&site);

    // Who may sees it, in every region.
    for which in 0..3 {
        let (status, text) = asker.ask(which, "GET", "/secrets/db-password", None).await;
        assert_eq!(status, 200, "{text}");
        let body: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(body["value"], CANARY, "{text}");
    }
    // Through a reference in a configuration, too; and then it is not what is stored.
    let reference = json!({ "$secret": "db-password" }).to_string();
    let (status, text) = asker.ask(1, "PUT", "/config/web/prod/db", Some(reference)).await;
    assert_eq!(status, 201, "{text}");
    let (status, text) = asker.ask(1, "GET", "/config/web/prod/db?resolve=secrets", None).await;
    assert!(status == 200 && text.contains(CANARY), "{status} {text}");
    let (status, text) = asker.ask(1, "GET", "/config/web/prod/db", None).await;
    assert!(status == 200 && !text.contains(CANARY), "{status} {text}");

    // What is refused says nothing of what it was about.
    asker
        .refused(
            "POST",
            "/secrets",
            &json!({"name": "x", "value": CANARY, "algorithm": "rot13"}).to_string(),
        )
        .await;
    asker
        .refused("POST", "/secrets", &json!({"name": "not / a name", "value": CANARY}).to_string())
        .await;
    asker
        .refused("POST", "/secrets", &json!({"name": "x", "value": {"nested": CANARY}}).to_string())
        .await;
    asker.refused("POST", "/secrets", &json!({"name": "x", "valeu": CANARY}).to_string()).await;
    asker.refused("POST", "/secrets", &format!("{{\"name\": \"x\", \"value\": \"{CANARY}\"")).await;
    asker
        .refused(
            "POST",
            "/secrets",
            &json!({"name": "db-password", "value": CANARY, "expect_version": 77}).to_string(),
        )
        .await;
    let long = CANARY.repeat(70_000 / CANARY.len() + 1);
    asker.refused("POST", "/secrets", &json!({"name": "x", "value": long}).to_string()).await;

    // What others may see of a node.
    for which in 0..3 {
        for path in
            ["/metrics", "/cluster", "/audit?size=1000", "/secrets", "/secrets?consistency=local"]
        {
            let (status, text) = asker.ask(which, "GET", path, None).await;
            assert_eq!(status, 200, "{path}: {text}");
            assert!(!text.contains(CANARY), "{path}: {text}");
        }
    }

    // A node that lost everything gets it all again, by snapshot or log.
    drop(processes[2].take());
    std::fs::remove_dir_all(site.data(2)).unwrap();
    processes[2] = Some(site.serve_logged(2));
    eventually("the newcomer has it", async || {
        let path = "/secrets/db-password?consistency=local";
        asker.ask(2, "GET", path, None).await.1.contains(CANARY)
    })
    .await;

    // Killed in the middle of everything, with what it left in its files.
    drop(processes);
    let (found, bytes) = found_in(site.dir.path());
    assert!(found.is_empty(), "the value stands in {found:?}");
    assert!(bytes > 100_000, "only {bytes} bytes were looked at");
    // The scan finds what is there.
    std::fs::write(site.dir.path().join("planted"), STANDARD.encode(format!("x{CANARY}"))).unwrap();
    assert_eq!(found_in(site.dir.path()).0.len(), 1);
}
