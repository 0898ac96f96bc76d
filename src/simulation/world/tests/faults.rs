//! Each fault does what it says, and the cluster gets over it.

use super::*;
use crate::model::Origin;

const ALL: [&str; 3] = ["a", "b", "c"];

/// A cluster whose three nodes take writes all along, five seconds old.
fn busy(seed: u64) -> (World, Answers) {
    let mut world = world(&ALL, seed);
    let answers = Answers::default();
    for (number, of) in ["a-1", "b-1", "c-1"].into_iter().enumerate() {
        write_all_along(&world, number as u32, of, &answers);
    }
    world.run_until(5 * SECOND);
    (world, answers)
}

/// The writes that a client's node has taken so far.
fn taken(answers: &Answers, of: u32) -> usize {
    let answers = answers.lock().unwrap();
    answers.iter().filter(|it| it.0 == of && matches!(it.1, Ok(200 | 201))).count()
}

fn last(answers: &Answers, of: u32) -> Result<u16, HttpError> {
    let answers = answers.lock().unwrap();
    answers.iter().rfind(|it| it.0 == of).unwrap().1.clone()
}

fn run_for(world: &mut World, time_us: u64) {
    world.run_until(world.now_us() + time_us);
}

/// Whether, with a little patience, `of` has what `others` had.
fn catches_up(world: &mut World, of: &str, others: &str) -> bool {
    let vector = |world: &World, name: &str| {
        world.look(&node(name), |server| server.node().snapshot().vector.clone()).unwrap()
    };
    let wanted = vector(world, others);
    (0..100).any(|_| {
        run_for(world, SECOND / 10);
        vector(world, of).covers(&wanted)
    })
}

fn origin(world: &World, of: &str) -> Origin {
    world.look(&node(of), |server| server.node().origin()).unwrap()
}

fn role(world: &World, of: &str) -> String {
    world.look(&node(of), |server| server.node().quorum().status().role).unwrap()
}

/// Nobody does the same over and over: a leader that asks for a peer it does not reach, a store
/// that failed.
fn nobody_spins(world: &World) -> bool {
    ALL.iter().all(|region| world.busy_ms(&node(&format!("{region}-1"))) == 0)
}

#[test]
fn a_paused_node_does_nothing_and_is_late_at_once_when_it_goes_on() {
    let (mut world, answers) = busy(1);
    world.pause(&node("c-1"));
    assert!(!world.is_up(&node("c-1")));
    run_for(&mut world, SECOND / 10);
    let before = (taken(&answers, 2), taken(&answers, 0));
    run_for(&mut world, 20 * SECOND);
    assert_eq!(taken(&answers, 2), before.0);
    assert!(taken(&answers, 0) > before.1 + 100);
    assert_eq!(last(&answers, 2), Err(HttpError::TimedOut));
    world.resume(&node("c-1"));
    assert!(catches_up(&mut world, "c-1", "a-1"));
    run_for(&mut world, SECOND);
    assert!(matches!(last(&answers, 2), Ok(200 | 201)));
    assert!(nobody_spins(&world));
}

#[test]
fn a_slow_node_answers_late() {
    let (mut world, answers) = busy(1);
    run_for(&mut world, SECOND);
    let before = taken(&answers, 2);
    world.slow(&node("c-1"), 100);
    run_for(&mut world, 10 * SECOND);
    let slowly = taken(&answers, 2) - before;
    assert!((5..30).contains(&slowly), "{slowly}");
    world.slow(&node("c-1"), 1);
    assert!(catches_up(&mut world, "c-1", "a-1"));
}

#[test]
fn a_node_that_stops_in_order_is_down_after_a_while_and_comes_back_as_itself() {
    let (mut world, answers) = (world(&ALL, 1), Answers::default());
    write_all_along(&world, 0, "a-1", &answers);
    write_rounds(&world, 1, "b-1", &answers, 20);
    run_for(&mut world, 5 * SECOND);
    assert_eq!(taken(&answers, 1), 20);
    let before = origin(&world, "b-1");
    world.stop(&node("b-1"));
    assert_eq!(world.state(&node("b-1")), NodeState::Stopping);
    run_for(&mut world, 10 * SECOND);
    assert_eq!(world.state(&node("b-1")), NodeState::Down);
    assert_eq!(world.failure(&node("b-1")), None);
    world.start(&node("b-1"));
    run_for(&mut world, SECOND);
    assert_eq!(origin(&world, "b-1"), before);
    assert!(catches_up(&mut world, "b-1", "a-1"));
    // Asked to start while it stops, it does so once it has stopped.
    world.stop(&node("b-1"));
    world.start(&node("b-1"));
    run_for(&mut world, 10 * SECOND);
    assert!(world.is_up(&node("b-1")));
}

#[test]
fn a_wiped_disk_and_an_old_copy_come_back_under_another_origin() {
    let (mut world, _) = busy(1);
    let old = world.disk(&node("c-1")).unwrap().snapshot();
    let before = origin(&world, "c-1");
    assert!(!world.replace_disk(&node("c-1"), old.snapshot()));
    run_for(&mut world, 3 * SECOND);
    world.crash(&node("c-1"), CrashMode::LoseUnsynced);
    assert!(world.replace_disk(&node("c-1"), old.copied().rebooted()));
    world.start(&node("c-1"));
    assert!(catches_up(&mut world, "c-1", "a-1") && catches_up(&mut world, "a-1", "c-1"));
    let second = origin(&world, "c-1");
    assert_ne!(second, before);
    world.crash(&node("c-1"), CrashMode::LoseUnsynced);
    assert!(world.replace_disk(&node("c-1"), MemoryDisk::new()));
    world.start(&node("c-1"));
    assert!(catches_up(&mut world, "c-1", "a-1"));
    assert_ne!(origin(&world, "c-1"), second);
}

#[test]
fn an_expired_certificate_shuts_a_node_out_until_it_has_another() {
    let (mut world, _) = busy(1);
    world.crash(&node("c-1"), CrashMode::KeepUnsynced);
    world.set_certificate(&node("c-1"), Certificate::Expired).unwrap();
    world.take_events();
    run_for(&mut world, SECOND);
    world.start(&node("c-1"));
    assert!(!catches_up(&mut world, "c-1", "a-1"));
    let events = world.take_events();
    let refused = |event: &&NodeEvent| event.text.contains("certificate");
    assert!(events.iter().any(|event| refused(&event)), "{events:?}");
    world.crash(&node("c-1"), CrashMode::KeepUnsynced);
    world.set_certificate(&node("c-1"), Certificate::Valid).unwrap();
    world.start(&node("c-1"));
    assert!(catches_up(&mut world, "c-1", "a-1"));
}

#[test]
fn what_is_held_arrives_when_it_is_released() {
    let (mut world, _) = busy(1);
    let (a, b) = (region("a"), region("b"));
    world.hold(&a, &b);
    world.cut(&region("c"), &b);
    run_for(&mut world, 2 * SECOND);
    assert!(world.in_flight_bytes() > 1_000);
    let lost = world.counts(&a, &b).lost;
    world.release(&a, &b);
    assert!(catches_up(&mut world, "b-1", "a-1"));
    assert_eq!(world.counts(&a, &b).lost, lost);
    assert!(world.is_cut(&region("c"), &b) && !world.is_cut(&b, &region("c")));
    assert!(world.counts(&region("c"), &b).lost > 0);
    world.mend(&region("c"), &b);
    assert!(!world.is_cut(&region("c"), &b));
}

#[test]
fn a_full_disk_and_a_failing_one_refuse_until_they_are_good_again() {
    let (mut world, answers) = busy(1);
    let disk = |world: &World| world.disk(&node("c-1")).unwrap().clone();
    disk(&world).fill(0);
    // What the files have room for is still taken.
    write_large(&world, "c-1", &answers);
    run_for(&mut world, 5 * SECOND);
    assert_eq!(last(&answers, LARGE), Ok(507));
    disk(&world).free();
    run_for(&mut world, 5 * SECOND);
    assert!(matches!(last(&answers, LARGE), Ok(200 | 201)));
    disk(&world).fail(true);
    run_for(&mut world, 5 * SECOND);
    assert!(matches!(last(&answers, LARGE), Ok(500..)), "{:?}", last(&answers, LARGE));
    disk(&world).fail(false);
    run_for(&mut world, 10 * SECOND);
    assert!(matches!(last(&answers, LARGE), Ok(200 | 201)), "{:?}", last(&answers, LARGE));
    assert!(nobody_spins(&world));
}

/// The number of the client below.
const LARGE: u32 = 99;

/// A client that writes 100 KB each time.
fn write_large(world: &World, of: &str, answers: &Answers) {
    let token = world.token("writer", "config:*", Duration::from_secs(3600)).unwrap();
    let (clients, of, answers) = (world.clients(), node(of), answers.clone());
    world.clients().spawn(async move {
        let mut http = HttpClient::new(&clients, LARGE);
        for round in 0.. {
            tokio::time::sleep(Duration::from_millis(250)).await;
            let body = format!(r#"{{"key": "large", "value": "{round}{}"}}"#, "x".repeat(100_000));
            let asked = request(Method::POST, "/config/web/large", &token, Some(body)).unwrap();
            let (status, body) = answer_of(http.send(&of, asked, Duration::from_secs(2)).await);
            answers.lock().unwrap().push((LARGE, status, body));
        }
    });
}

#[test]
fn a_disk_that_lied_is_found_out_when_power_is_lost() {
    let (mut world, _) = busy(1);
    world.disk(&node("c-1")).unwrap().lie(true);
    run_for(&mut world, 3 * SECOND);
    let before = origin(&world, "c-1");
    world.take_events();
    world.crash(&node("c-1"), CrashMode::LoseUnsynced);
    world.disk(&node("c-1")).unwrap().lie(false);
    world.start(&node("c-1"));
    assert!(catches_up(&mut world, "c-1", "a-1") && catches_up(&mut world, "a-1", "c-1"));
    assert_ne!(origin(&world, "c-1"), before);
    let events = world.take_events();
    let noticed = |event: &NodeEvent| event.node == 2 && event.text.contains("new origin");
    assert!(events.iter().any(noticed), "{events:?}");
}

#[test]
fn a_clock_that_is_off_is_seen_by_its_node() {
    let (mut world, _) = busy(1);
    world.step_clock(&node("c-1"), 3_600_000_000);
    run_for(&mut world, 5 * SECOND);
    let offset = |world: &World| {
        world.look(&node("c-1"), |server| server.node().cluster().clock_offset_us).unwrap().unwrap()
    };
    assert!((3_599_000_000..3_601_000_000).contains(&offset(&world).abs()), "{}", offset(&world));
    world.step_clock(&node("c-1"), -3_600_000_000);
    world.drift_clock(&node("c-1"), 100_000);
    run_for(&mut world, 10 * SECOND);
    assert!((900_000..1_100_000).contains(&offset(&world).abs()), "{}", offset(&world));
}

#[test]
fn a_leader_that_is_cut_off_is_replaced_and_its_island_refuses_secrets() {
    let (mut world, answers) = busy(1);
    let leader = ALL.into_iter().find(|it| role(&world, &format!("{it}-1")) == "leader").unwrap();
    let others: Vec<&str> = ALL.into_iter().filter(|it| *it != leader).collect();
    for other in &others {
        world.cut(&region(leader), &region(other));
        world.cut(&region(other), &region(leader));
    }
    answers.lock().unwrap().clear();
    run_for(&mut world, 10 * SECOND);
    assert!(others.iter().any(|it| role(&world, &format!("{it}-1")) == "leader"));
    let island = ALL.iter().position(|it| *it == leader).unwrap() as u32;
    let of_island: Vec<_> =
        answers.lock().unwrap().iter().filter(|it| it.0 == island).cloned().collect();
    let done = of_island.iter().filter(|it| matches!(it.1, Ok(200 | 201)));
    let (secrets, configs): (Vec<_>, Vec<_>) = done.partition(|it| it.2.contains("aes"));
    assert!(secrets.len() < 2, "{secrets:?}");
    assert!(nobody_spins(&world));
    assert!(configs.len() > 30, "{}", configs.len());
}

#[test]
fn a_watch_is_streamed_line_by_line() {
    let (mut world, _) = busy(1);
    let token = world.token("watcher", "config:*", Duration::from_secs(60)).unwrap();
    let (clients, lines) = (world.clients(), Arc::new(Mutex::new(Vec::new())));
    let seen = lines.clone();
    world.clients().spawn(async move {
        let mut http = HttpClient::new(&clients, 77);
        let mut asked = request(Method::GET, "/config/web/prod", &token, None).unwrap();
        asked.headers_mut().insert("accept", "text/event-stream".parse().unwrap());
        let asked = http.stream(&node("b-1"), asked, Duration::from_secs(1)).await;
        let mut stream = asked.unwrap();
        assert_eq!(stream.status, 200);
        assert_eq!(stream.headers["content-type"], "text/event-stream");
        while let Some(line) = stream.line().await.unwrap() {
            seen.lock().unwrap().push((clients.now_us(), line));
        }
        seen.lock().unwrap().push((clients.now_us(), "the end".to_owned()));
    });
    run_for(&mut world, 3 * SECOND);
    let count = lines.lock().unwrap().len();
    assert!(count > 60, "{count}");
    assert!(lines.lock().unwrap().iter().any(|(_, line)| line.starts_with("data:")));
    world.stop(&node("b-1"));
    run_for(&mut world, 5 * SECOND);
    let lines = lines.lock().unwrap();
    assert_eq!(lines.last().unwrap().1, "the end");
    assert!(lines.is_sorted_by_key(|(at_us, _)| *at_us));
}

#[test]
fn nothing_written_is_readable_on_the_wire() {
    let (mut world, _) = busy(1);
    assert!(!world.look_for(b"short"));
    assert!(world.look_for(b"hidden-0-") && world.look_for(b"updated_at"));
    run_for(&mut world, 3 * SECOND);
    assert_eq!(world.take_seen(), []);
}
