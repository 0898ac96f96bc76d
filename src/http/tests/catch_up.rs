//! A region that was cut off for longer than logs reach back comes back by whole documents.

use std::time::Duration;

use super::harness::{World, cut_pair_with};
use crate::config::roll::Roll;
use crate::model::{DocumentId, Stamp, Vector};
use crate::settings::Settings;

async fn until(what: &str, check: impl AsyncFn() -> bool) {
    for _ in 0..3_000 {
        if check().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("waited too long until {what}");
}

fn vector(world: &World) -> Vector {
    (*world.app.node().snapshot().vector).clone()
}

async fn metric(world: &World, name: &str) -> u64 {
    let text = world.get("/metrics").await.expect(200).body;
    let line = text.lines().find(|line| line.starts_with(&format!("{name} ")));
    line.unwrap().rsplit_once(' ').unwrap().1.parse().unwrap()
}

#[tokio::test]
async fn who_was_away_for_longer_than_logs_are_kept_catches_up_by_whole_documents() {
    let mut settings = Settings::default();
    settings.epochs.log_keep = Duration::from_secs(1);
    settings.gossip.evict_named_after = Duration::from_secs(2);
    let (a, b, links) = cut_pair_with(settings).await;
    links.heal_all();
    a.put("/config/web/dev/shared", "1").await.expect(201);
    until("both have it", async || vector(&b).covers(&vector(&a))).await;
    until("they know of each other", async || {
        let acknowledged = a.app.node().acknowledged();
        a.app.node().all_take_epochs(&acknowledged)
            && acknowledged.floor.is_some_and(|floor| floor.covers(&vector(&a)))
    })
    .await;
    links.cut(&name("eu-west"), &name("us-east"));
    // What is on its way over a connection that outlives the cut would come all the same.
    until("they have lost each other", async || {
        let is_connected = async |world: &World| {
            let text = world.get("/metrics").await.expect(200).body;
            let mut lines = text.lines().filter(|line| line.starts_with("holm_peer_connected{"));
            lines.any(|line| line.ends_with(" 1"))
        };
        !is_connected(&a).await && !is_connected(&b).await
    })
    .await;
    for i in 0..40 {
        a.put(&format!("/config/web/dev/k{}", i % 5), &i.to_string()).await;
    }
    b.put("/config/web/dev/k1", "\"alone\"").await;
    b.put("/config/web/dev/own", "7").await;
    until("the other one is not waited for", async || {
        a.app.node().acknowledged().floor.is_some_and(|floor| floor.covers(&vector(&a)))
    })
    .await;
    let node = a.app.node();
    let (id, floor) = (DocumentId::parse("web/dev").unwrap(), vector(&a).told());
    let plan = node.plan_roll(&id, &floor, Stamp(0)).await.unwrap();
    let roll =
        Roll { epoch: plan.epoch, floor, base: plan.base, removals_before: Stamp(0), fold: None };
    node.roll(&id, roll).await.unwrap();
    a.clock.advance(Duration::from_secs(5));
    until("the log is trimmed", async || metric(&a, "holm_log_trimmed_records_total").await >= 41)
        .await;
    links.heal_all();
    until("both agree", async || vector(&a) == vector(&b)).await;
    for world in [&a, &b] {
        let own = world.get("/config/web/dev/own").await.expect(200).json();
        assert_eq!(own["value"], 7);
        let both = world.get("/config/web/dev/k1").await.expect(200).json();
        assert_eq!(both["conflicts"].as_array().unwrap().len(), 1, "{both}");
        assert_eq!(metric(world, "holm_epoch_changes_max").await, 2, "what came late");
    }
    let rows = |world: &World| {
        let snapshot = world.app.node().snapshot();
        let view = snapshot.document(&id).unwrap().clone();
        view.rows
            .iter()
            .map(|(key, row)| format!("{key}: {:?}", row.siblings()))
            .collect::<Vec<_>>()
    };
    assert_eq!(rows(&a), rows(&b));
    until("both count it", async || {
        let taken = metric(&b, "holm_documents_taken_total{result=\"done\"}").await;
        let given = metric(&a, "holm_documents_given_total{result=\"done\"}").await;
        // On a slow machine one may be given up, and made again.
        taken >= 1 && given >= taken
    })
    .await;
    let versions = b.get("/config/web/dev/k0/versions").await.expect(200).json();
    assert_eq!(versions["items"].as_array().unwrap().len(), 8, "{versions}");
    b.get("/readyz").await.expect(200);
}

fn name(region: &str) -> crate::model::NodeName {
    crate::model::NodeName::new(&format!("{region}-1")).unwrap()
}
