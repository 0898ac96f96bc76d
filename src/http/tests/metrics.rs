//! However odd the requests are, `/metrics` has as many series as there are routes and peers.

use super::harness::{World, world_with};
use crate::settings::Settings;

/// Lines of `/metrics` that are series.
async fn series(world: &World) -> usize {
    let text = world.get("/metrics").await.expect(200).body;
    text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).count()
}

async fn hammer(world: &World, round: usize) {
    for n in 0..40 {
        let odd = round * 1_000 + n;
        for path in [
            format!("/{odd}"),
            format!("/config/web/{odd}"),
            format!("/config/s{odd}/dev/key"),
            format!("/config/web/dev/k{odd}/versions/{odd}"),
            format!("/config/web/dev/%F0%9F%92%A9{odd}"),
            format!("/accounts/a{odd}?x={odd}"),
            format!("/cluster/quorum/c{odd}/n{odd}"),
            format!("/metrics/{odd}"),
        ] {
            for method in ["GET", "HEAD", "PUT", &format!("ODD{odd}"), "WATCH", "OPTIONS"] {
                let token = format!("t{odd}");
                let token = if n % 2 == 0 { None } else { Some(&*token) };
                world.request(method, &path).token(token).send().await;
            }
            world.get(&path).await;
        }
    }
}

#[tokio::test]
async fn odd_paths_and_methods_make_no_series_of_their_own() {
    let mut settings = Settings::default();
    // Else it depends on the time how many of them are refused, and on which routes.
    settings.rates.strangers_per_second = 0;
    let world = world_with(settings).await;
    hammer(&world, 0).await;
    // Asking for them is a request, too.
    series(&world).await;
    let before = series(&world).await;
    hammer(&world, 1).await;
    let after = series(&world).await;
    assert_eq!(before, after, "a second round of other names made series");
    assert!(after < 1_000, "{after} series");
}
