//! Regions of several nodes, counted in bytes: what a change costs on the links between them.

use rand::RngCore as _;

use super::*;

const REGIONS: [&str; 5] = ["a", "b", "c", "d", "e"];
const NODES: usize = 4;
const WRITES: usize = 100;
/// Before it is written in hex.
const VALUE_BYTES: usize = 1_000;
const WRITE_EVERY: Duration = Duration::from_millis(40);

fn names() -> Vec<String> {
    let names = REGIONS.iter().flat_map(|region| (1..=NODES).map(move |n| format!("{region}-{n}")));
    names.collect()
}

fn large() -> World {
    let mut text = "cluster = \"test\"\nrtt_ms_default = 60\nrtt_ms_within = 2\n".to_owned();
    for (number, region) in REGIONS.iter().enumerate() {
        text += &format!("[[regions]]\nname = \"{region}\"\nplace = \"here\"\nnodes = [\n");
        for n in 1..=NODES {
            let port = 10 * number + n;
            text += &format!(
                "{{ name = \"{region}-{n}\", peer = \"127.0.0.1:{}\", http = \"127.0.0.1:{}\" }},\n",
                9_000 + port,
                8_000 + port
            );
        }
        text += "]\n";
    }
    let topology = Topology::parse("test.toml", &text).unwrap();
    let mut world = World::new(&topology, 1, Settings::default()).unwrap();
    names().iter().for_each(|name| world.start(&node(name)));
    world
}

/// Bytes from the first region to each, the first among them.
fn sent(world: &World) -> Vec<u64> {
    REGIONS.iter().map(|to| world.counts(&region("a"), &region(to)).bytes).collect()
}

fn since(before: &[u64], after: &[u64]) -> Vec<u64> {
    after.iter().zip(before).map(|(after, before)| after - before).collect()
}

#[test]
fn a_change_crosses_the_link_to_each_other_region_once() {
    let mut world = large();
    world.run_until(6 * SECOND);
    let start = sent(&world);
    world.run_until(12 * SECOND);
    let idle = sent(&world);
    let token = world.token("writer", "config:*", Duration::from_secs(3600)).unwrap();
    let mut random = world.entropy("values");
    let (clients, taken) = (world.clients(), Arc::new(Mutex::new(0)));
    let counted = taken.clone();
    world.clients().spawn(async move {
        let mut http = HttpClient::new(&clients, 1);
        for number in 0..WRITES {
            let mut value = vec![0; VALUE_BYTES];
            random.fill_bytes(&mut value);
            let value: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
            let body = format!(r#"{{"key": "k{number}", "value": "{value}"}}"#);
            let asked = request(Method::POST, "/config/web/prod", &token, Some(body)).unwrap();
            let answer = http.send(&node("a-1"), asked, Duration::from_secs(2)).await.unwrap();
            assert_eq!(answer.status.as_u16(), 201);
            *counted.lock().unwrap() += 1;
            tokio::time::sleep(WRITE_EVERY).await;
        }
    });
    world.run_until(18 * SECOND);
    assert_eq!(*taken.lock().unwrap(), WRITES);
    let (idle, busy) = (since(&start, &idle), since(&idle, &sent(&world)));
    let cost: Vec<u64> = busy.iter().zip(&idle).map(|(busy, idle)| busy - idle).collect();
    // Inside its region the writer sends it to each of the three others.
    let once = cost[0] / (NODES as u64 - 1);
    assert!(once > (WRITES * VALUE_BYTES) as u64, "{cost:?}");
    for (to, cost) in REGIONS.iter().zip(&cost).skip(1) {
        assert!(
            (once * 4 / 5..once * 3 / 2).contains(cost),
            "to {to} {cost} bytes, once is {once}"
        );
    }
    let known = |name: &String| {
        world.look(&node(name), |server: &Server| server.node().snapshot().vector.clone()).unwrap()
    };
    let all: Vec<_> = names().iter().map(known).collect();
    assert!(!all[0].is_empty() && all.windows(2).all(|pair| pair[0] == pair[1]));
}
