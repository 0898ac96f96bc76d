//! A majority lost for good, with real processes: `holm quorum recover` makes a quorum of the one store
//! that is left, nothing that it knew to be decided is lost, and the others join again.

use holm::client::QuorumMembers;
use holm::model::SecretName;
use holm::secrets::Plaintext;

use crate::cluster::eventually;
use crate::process::{Process, Site, said};

const SCOPES: &str = "secrets:* access:* audit:read cluster:read cluster:manage";

async fn voters(site: &Site) -> Option<usize> {
    let members: QuorumMembers = site.client(0).quorum().await.ok()?;
    Some(members.members.iter().filter(|member| member.voter).count())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_store_that_is_left_makes_a_quorum_again() {
    let site = Site::with("", SCOPES);
    let mut processes: Vec<Option<Process>> =
        (0..3).map(|which| Some(site.serve_logged(which))).collect();
    eventually("three vote", async || voters(&site).await == Some(3)).await;
    let name = SecretName::new("db").unwrap();
    let value = Plaintext::new(b"kept".to_vec());
    eventually("the secret is written", async || {
        site.client(0).put_secret(&name, &value, None, None).await.is_ok()
    })
    .await;

    // The leadership is handed on, and a voter taken out and in again, by the command line.
    let done = site.run(&["quorum", "transfer", "b-1"]);
    assert!(done.status.success(), "{}", said(&done));
    eventually("b-1 leads", async || {
        site.client(0).quorum().await.is_ok_and(|it| it.leader.as_deref() == Some("b-1"))
    })
    .await;
    let done = site.run(&["quorum", "remove", "nobody-1"]);
    assert_eq!(done.status.code(), Some(4), "{}", said(&done));
    assert!(said(&done).contains("nobody-1 is no member of the quorum"), "{}", said(&done));
    let done = site.run(&["quorum", "status"]);
    assert!(said(&done).contains("b-1 leads"), "{}", said(&done));

    // All end; b and c are lost.
    processes.iter_mut().for_each(|process| drop(process.take()));
    let line =
        ["quorum", "recover", "--topology", "topology.toml", "--node", "a-1", "--data", "a-1"];
    let done = site.run(&line);
    assert_eq!(done.status.code(), Some(2), "nothing is done unasked: {}", said(&done));
    let done = site.run(&[&line[..], &["--yes"]].concat());
    assert!(done.status.success(), "{}", said(&done));
    assert!(said(&done).contains("b-1, c-1"), "{}", said(&done));
    for which in [1, 2] {
        std::fs::remove_dir_all(site.data(which)).unwrap();
    }

    processes[0] = Some(site.serve_logged(0));
    eventually("the secret is read, linearizably", async || {
        let read = site.client(0).reveal_secret(&name, None).await;
        read.is_ok_and(|value| value.expose_text() == Some("kept"))
    })
    .await;
    processes[1] = Some(site.serve_logged(1));
    processes[2] = Some(site.serve_logged(2));
    for node in ["b-1", "c-1"] {
        eventually("a learner is caught up, and votes", async || {
            let done = site.run(&["quorum", "add", node]);
            done.status.success() || said(&done).contains("votes already")
        })
        .await;
    }
    assert_eq!(voters(&site).await, Some(3));
    let done = site.run(&["audit", "export", "--action", "quorum.*"]);
    assert!(said(&done).contains("quorum.recover"), "{}", said(&done));
    assert!(said(&done).contains("quorum.transfer"), "{}", said(&done));

    // Stopped nodes' chains are checked where they lie.
    let done = site.run(&["audit", "verify"]);
    assert!(done.status.success(), "{}", said(&done));
    processes[1].take().unwrap().stop();
    let done = site.run(&["audit", "verify", "--data", "b-1"]);
    assert!(done.status.success(), "{}", said(&done));
    assert!(said(&done).contains("b-1 quorum: "), "{}", said(&done));
}
