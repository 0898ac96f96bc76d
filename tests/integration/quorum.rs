//! The quorum path across regions: who leads, what is decided where, and what happens to it when
//! links are cut, nodes go and stores are lost.

use std::time::Duration;

use holm::audit::Source;
use holm::env::MemoryDisk;
use holm::model::Stamp;
use holm::quorum::{ChangeError, Decided, MemberChange, ProposeError, QuorumStatus, ReadError};
use holm::registry::command::{Idempotency, SealedKey, SigningKey};
use holm::registry::{Command, Outcome, Proposal};
use tokio::time::Instant;

use crate::cluster::{Cluster, PATIENCE, eventually, node};

/// A round trip between regions, in milliseconds.
const RTT_MS: u64 = 10;
/// How long a request waits.
const REQUEST: Duration = Duration::from_secs(10);

fn soon() -> Instant {
    Instant::now() + REQUEST
}

fn sealed() -> SealedKey {
    SealedKey { generation: 1, wrapped: vec![7; 60] }
}

fn signing(kid: &str) -> SigningKey {
    SigningKey {
        kid: kid.into(),
        public: [3; 32],
        private: sealed(),
        created_at: Stamp(1_700_000_000_000_000),
    }
}

fn proposal(command: Command) -> Proposal {
    let source = Source { node: "here".into(), address: None, request: "r".into() };
    Proposal { at: Stamp(1_700_000_000_000_000), caller: None, source, idempotency: None, command }
}

fn add(kid: &str) -> Proposal {
    proposal(Command::AddSigningKey(signing(kid)))
}

/// What a node takes part in.
trait Part {
    fn status(&self, region: &str) -> QuorumStatus;
    fn has(&self, region: &str, kid: &str) -> bool;
    async fn propose(&self, region: &str, proposal: Proposal) -> Result<Decided, ProposeError>;
    async fn read(&self, region: &str) -> Result<u64, ReadError>;
    async fn change(&self, region: &str, change: MemberChange) -> Result<(), ChangeError>;
    /// The region of the node that leads, once all of `regions` say the same.
    async fn leader_of(&self, regions: &[&str]) -> String;
    async fn founded(regions: &[&str]) -> Cluster;
    async fn until_founded(&self, region: &str);
    fn isolate(&self, region: &str, others: &[&str]);
}

impl Part for Cluster {
    fn status(&self, region: &str) -> QuorumStatus {
        self.server(region).node().quorum().status()
    }

    fn has(&self, region: &str, kid: &str) -> bool {
        self.server(region)
            .node()
            .quorum()
            .state()
            .signing
            .keys()
            .any(|known| known.to_string() == kid)
    }

    async fn propose(&self, region: &str, proposal: Proposal) -> Result<Decided, ProposeError> {
        self.server(region).node().quorum().propose(proposal, soon()).await
    }

    async fn read(&self, region: &str) -> Result<u64, ReadError> {
        self.server(region).node().quorum().latest(soon()).await.map(|state| state.index)
    }

    async fn change(&self, region: &str, change: MemberChange) -> Result<(), ChangeError> {
        self.server(region).node().quorum().change(change, soon()).await
    }

    async fn leader_of(&self, regions: &[&str]) -> String {
        let agreed = || {
            let leaders: Vec<_> = regions.iter().map(|region| self.status(region).leader).collect();
            let leader = leaders[0].as_ref()?.trim_end_matches("-1").to_owned();
            let is_one = leaders.windows(2).all(|two| two[0] == two[1]);
            let leads =
                || regions.contains(&leader.as_str()) && self.status(&leader).role == "leader";
            (is_one && leads()).then_some(leader)
        };
        eventually("all know the same leader", async || agreed().is_some()).await;
        agreed().unwrap_or_else(|| regions[0].to_owned())
    }

    async fn founded(regions: &[&str]) -> Cluster {
        let cluster = Cluster::start(regions, RTT_MS).await;
        cluster.leader_of(regions).await;
        cluster.until_founded(regions[0]).await;
        cluster
    }

    /// The nodes do it by themselves.
    async fn until_founded(&self, region: &str) {
        eventually("the cluster is founded", async || {
            self.server(region).node().quorum().state().is_founded()
        })
        .await;
    }

    fn isolate(&self, region: &str, others: &[&str]) {
        for other in others.iter().filter(|other| **other != region) {
            self.cut(region, other);
        }
    }
}

const ABC: [&str; 3] = ["a", "b", "c"];

fn others(region: &str) -> Vec<&'static str> {
    ABC.into_iter().filter(|other| *other != region).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn three_regions_elect_a_leader_and_what_is_decided_at_any_of_them_is_everywhere() {
    let cluster = Cluster::founded(&ABC).await;
    for region in ABC {
        let kid = format!("by-{region}");
        let decided = cluster.propose(region, add(&kid)).await.unwrap();
        assert_eq!(decided.outcome, Ok(Outcome::Done));
        // Read at once, in every region: it includes the write.
        for reader in ABC {
            assert!(cluster.read(reader).await.unwrap() >= decided.index);
            assert!(cluster.has(reader, &kid), "{kid} in {reader}");
        }
    }
    let status = cluster.status(&cluster.leader_of(&ABC).await);
    assert_eq!(status.members.iter().filter(|member| member.voter).count(), 3);
    for region in ABC {
        assert!(cluster.server(region).node().quorum().contact_age() < Duration::from_secs(2));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fourth_region_learns_and_forwards() {
    let regions = ["a", "b", "c", "d"];
    let cluster = Cluster::start(&regions, RTT_MS).await;
    eventually("d is a learner", async || cluster.status("d").role == "learner").await;
    cluster.leader_of(&regions).await;
    cluster.until_founded("d").await;
    // Where the connection is replaced meanwhile, it is not known at once whether it was done.
    let decided = cluster.propose("d", add("first")).await;
    assert!(matches!(decided, Ok(_) | Err(ProposeError::Unknown(_))), "{decided:?}");
    eventually("d has it", async || cluster.read("d").await.is_ok() && cluster.has("d", "first"))
        .await;
    let voters = cluster.status("d").members.iter().filter(|member| member.voter).count();
    assert_eq!(voters, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_region_alone_decides_at_once_and_still_does_after_a_restart() {
    let mut cluster = Cluster::new(&["a"], RTT_MS);
    cluster.start_node("a").await;
    assert_eq!(cluster.status("a").role, "leader");
    cluster.until_founded("a").await;
    cluster.propose("a", add("first")).await.unwrap();
    cluster.stop("a").await;
    cluster.start_node("a").await;
    assert!(cluster.has("a", "first"));
    assert!(cluster.read("a").await.unwrap() > 0);
    cluster.propose("a", add("k")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_cut_off_is_replaced_and_refuses_what_it_cannot_decide() {
    let cluster = Cluster::founded(&ABC).await;
    let leader = cluster.leader_of(&ABC).await;
    let rest = others(&leader);
    cluster.isolate(&leader, &ABC);
    let cut_at = Instant::now();
    // The majority goes on.
    let next = cluster.leader_of(&rest).await;
    assert_ne!(next, leader);
    cluster.propose(rest[0], add("on")).await.unwrap();
    assert!(cut_at.elapsed() < Duration::from_secs(10), "{:?}", cut_at.elapsed());
    // The minority knows by then, and says so in time.
    eventually("the old leader knows", async || {
        let asked_at = Instant::now();
        let error = cluster.propose(&leader, add("lost")).await.unwrap_err();
        assert!(asked_at.elapsed() < REQUEST);
        matches!(error, ProposeError::Unavailable(_))
    })
    .await;
    let asked_at = Instant::now();
    assert!(matches!(cluster.read(&leader).await, Err(ReadError::Unavailable(_))));
    assert!(asked_at.elapsed() < REQUEST);
    let age = cluster.server(&leader).node().quorum().contact_age();
    assert!(age > Duration::from_millis(500), "{age:?}");
    // Healed, it follows and has what was decided without it.
    cluster.links.heal_all();
    assert!(ABC.contains(&cluster.leader_of(&ABC).await.as_str()));
    assert!(cluster.read(&leader).await.is_ok());
    assert!(cluster.has(&leader, "on"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_was_cut_off_comes_back_without_an_election() {
    let cluster = Cluster::founded(&ABC).await;
    let leader = cluster.leader_of(&ABC).await;
    let term = cluster.status(&leader).term;
    let follower = others(&leader)[0];
    cluster.isolate(follower, &ABC);
    // Long enough that it wants an election, and more than once.
    eventually("it hears nobody", async || {
        let age = cluster.server(follower).node().quorum().contact_age();
        age > Duration::from_secs(4)
    })
    .await;
    let asked_at = Instant::now();
    let refused = cluster.propose(follower, add("x")).await;
    assert!(matches!(refused, Err(ProposeError::Unavailable(_))), "{refused:?}");
    assert!(asked_at.elapsed() < REQUEST);
    cluster.propose(&leader, add("meanwhile")).await.unwrap();
    cluster.links.heal_all();
    eventually("it catches up", async || cluster.has(follower, "meanwhile")).await;
    assert_eq!(cluster.leader_of(&ABC).await, leader);
    assert_eq!(cluster.status(&leader).term, term);
}

/// What came of a proposal that is asked for again for as long as nobody knows.
async fn settled(cluster: &Cluster, at: &str, proposal: &Proposal) -> Decided {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match cluster.propose(at, proposal.clone()).await {
            Ok(applied) => return applied,
            // The way to the new leader may have broken in the same cut.
            Err(ProposeError::Unknown(_)) if Instant::now() < deadline => {}
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_under_way_when_the_leader_is_cut_off_is_unknown_and_a_retry_settles_it() {
    let cluster = Cluster::founded(&ABC).await;
    let leader = cluster.leader_of(&ABC).await;
    let rest = others(&leader);
    let retried = Proposal {
        idempotency: Some(Idempotency { key: [1; 32], request: [2; 32] }),
        ..add("once")
    };
    cluster.isolate(&leader, &ABC);
    let error = cluster.propose(&leader, retried.clone()).await.unwrap_err();
    assert!(matches!(error, ProposeError::Unknown(_)), "{error:?}");
    cluster.leader_of(&rest).await;
    let settled = self::settled(&cluster, rest[0], &retried).await;
    assert_eq!(settled.outcome, Ok(Outcome::Done));
    cluster.links.heal_all();
    cluster.leader_of(&ABC).await;
    let again = self::settled(&cluster, &leader, &retried).await;
    assert_eq!((again.outcome, again.replayed), (settled.outcome, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_voter_that_lost_its_store_comes_back_under_a_new_id_and_votes_again() {
    let mut cluster = Cluster::founded(&ABC).await;
    let leader = cluster.leader_of(&ABC).await;
    // The one that had founded the cluster, where it does not lead: it must not found another.
    let lost = others(&leader)[0];
    let id = |cluster: &Cluster| {
        let members = cluster.status(&leader).members;
        let of = |member: &&holm::quorum::MemberStatus| member.node == node(lost).to_string();
        let ids: Vec<_> = members.iter().filter(of).map(|m| (m.id, m.voter)).collect();
        ids
    };
    let before = id(&cluster);
    cluster.stop(lost).await;
    cluster.put_disk(lost, MemoryDisk::new());
    cluster.propose(&leader, add("meanwhile")).await.unwrap();
    cluster.start_node(lost).await;
    eventually("it votes again", async || {
        let now = id(&cluster);
        now.len() == 1 && now[0].1 && now[0].0 != before[0].0
    })
    .await;
    assert!(cluster.read(lost).await.is_ok());
    assert!(cluster.has(lost, "meanwhile"));
    // Its vote counts: the other follower may go.
    let third = others(&leader)[1];
    cluster.isolate(third, &ABC);
    cluster.propose(&leader, add("two of three")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newcomer_gets_the_state_as_a_whole_where_the_log_is_cut() {
    let regions = ["a", "b", "c", "d"];
    let mut cluster = Cluster::new(&regions, RTT_MS);
    cluster.change_settings(|settings| {
        settings.quorum.snapshot_every = 10;
        settings.quorum.log_keep = 0;
    });
    for region in ABC {
        cluster.start_node(region).await;
    }
    cluster.leader_of(&ABC).await;
    cluster.until_founded("a").await;
    for n in 0..40 {
        let decided = cluster.propose("a", add(&format!("k{}", n % 5))).await.unwrap();
        assert_eq!(decided.outcome, Ok(Outcome::Done));
    }
    cluster.start_node("d").await;
    eventually("d has it", async || cluster.has("d", "k4")).await;
    assert!(cluster.read("d").await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_stops_hands_over_first() {
    let mut cluster = Cluster::founded(&ABC).await;
    let leader = cluster.leader_of(&ABC).await;
    let rest = others(&leader);
    let term = cluster.status(rest[0]).term;
    cluster.stop(&leader).await;
    // Not after an election's timeout, but by now.
    assert!(cluster.status(rest[0]).term > term || cluster.status(rest[1]).term > term);
    let next = cluster.leader_of(&rest).await;
    cluster.propose(&next, add("on")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn members_change_while_it_runs_and_what_would_cost_the_majority_is_refused() {
    let regions = ["a", "b", "c", "d"];
    let cluster = Cluster::founded(&regions).await;
    let leader = cluster.leader_of(&regions).await;
    let follower = others(&leader)[0];
    let voters = |cluster: &Cluster| {
        let members = cluster.status(&leader).members;
        members.into_iter().filter(|member| member.voter).count()
    };
    let refused = |result: Result<(), ChangeError>, why: &str| match result {
        Err(ChangeError::Refused(reason)) => assert!(reason.contains(why), "{reason}"),
        other => panic!("{other:?}"),
    };
    // At any node.
    cluster.change("d", MemberChange::Add(node("d"))).await.unwrap();
    eventually("four vote", async || voters(&cluster) == 4).await;
    refused(cluster.change(follower, MemberChange::Add(node("d"))).await, "votes already");
    cluster.change(follower, MemberChange::Remove(node("d"))).await.unwrap();
    eventually("three vote", async || voters(&cluster) == 3).await;
    refused(cluster.change("d", MemberChange::Transfer(node("d"))).await, "does not vote");
    cluster.change("d", MemberChange::Transfer(node(follower))).await.unwrap();
    assert_eq!(cluster.leader_of(&regions).await, follower);
    // With one of three gone, neither of the other two may.
    let third = others(&leader)[1];
    cluster.isolate(third, &regions);
    eventually("its silence is noticed", async || {
        let result = cluster.change("d", MemberChange::Transfer(node(third))).await;
        matches!(result, Err(ChangeError::Refused(why)) if why.contains("does not answer"))
    })
    .await;
    refused(cluster.change("d", MemberChange::Remove(node(&leader))).await, "no majority");
}
