//! Everything that can break, drawn from a seed: still one run a seed, and in the end agreement.

use rand::Rng as _;
use rand::seq::IndexedRandom as _;

use super::*;
use crate::simulation::events::record_panics;

const REGIONS: [&str; 3] = ["a", "b", "c"];

/// What was left behind by faults so far.
struct Chaos {
    world: World,
    rng: Stream,
    cuts: Vec<(RegionName, RegionName)>,
    holds: Vec<(RegionName, RegionName)>,
}

impl Chaos {
    fn node(&mut self) -> NodeName {
        node(&format!("{}-1", REGIONS.choose(&mut self.rng).unwrap()))
    }

    fn link(&mut self) -> (RegionName, RegionName) {
        let mut ends = REGIONS.choose_multiple(&mut self.rng, 2);
        (region(ends.next().unwrap()), region(ends.next().unwrap()))
    }

    fn quality(&mut self) -> LinkQuality {
        let ms = |ms| Some(Duration::from_millis(ms));
        LinkQuality {
            extra: ms(self.rng.random_range(0..200)),
            jitter: ms(self.rng.random_range(0..40)),
            loss: Some(self.rng.random_range(0.0..0.2)),
            duplicate: Some(self.rng.random_range(0.0..0.2)),
            reorder: Some(self.rng.random_range(0.0..0.2)),
            bandwidth: Some(self.rng.random_range(20_000..1_000_000)),
            mtu: Some(self.rng.random_range(1_200..1_500)),
        }
    }

    fn break_something(&mut self) {
        let (name, (from, to)) = (self.node(), self.link());
        match self.rng.random_range(0..12) {
            0..3 => {
                self.world.cut(&from, &to);
                self.cuts.push((from, to));
            }
            3 => {
                self.world.hold(&from, &to);
                self.holds.push((from, to));
            }
            4 => {
                let quality = self.quality();
                self.world.set_link(&from, &to, quality);
            }
            5 => {
                let seed = self.rng.random();
                let modes = [CrashMode::KeepUnsynced, CrashMode::TearUnsynced(seed)];
                self.world.crash(&name, modes[self.rng.random_range(0..2)]);
            }
            6 => self.world.stop(&name),
            7 => self.world.pause(&name),
            8 => {
                let factor = self.rng.random_range(2..100);
                self.world.slow(&name, factor);
            }
            9 => {
                let by_us = self.rng.random_range(-5_000_000..5_000_000);
                self.world.step_clock(&name, by_us);
            }
            10 => self.world.drift_clock(&name, 300),
            _ => self.world.disk(&name).unwrap().fill(10_000),
        }
    }

    fn mend_something(&mut self) {
        let (name, (from, to)) = (self.node(), self.link());
        if let Some((from, to)) = self.cuts.pop() {
            self.world.mend(&from, &to);
        }
        if let Some((from, to)) = self.holds.pop() {
            self.world.release(&from, &to);
        }
        self.world.set_link(&from, &to, LinkQuality::default());
        self.mend_node(&name);
    }

    fn mend_node(&mut self, name: &NodeName) {
        self.world.disk(name).unwrap().free();
        self.world.resume(name);
        self.world.slow(name, 1);
        self.world.start(name);
    }

    fn mend_all(&mut self) {
        while !self.cuts.is_empty() || !self.holds.is_empty() {
            self.mend_something();
        }
        for from in REGIONS {
            self.mend_node(&node(&format!("{from}-1")));
            for to in REGIONS {
                self.world.set_link(&region(from), &region(to), LinkQuality::default());
            }
        }
    }
}

/// A run with faults for `secs` seconds; what it came to.
fn chaos(seed: u64, secs: u64) -> (String, Vec<Told>, World) {
    let world = world(&REGIONS, seed);
    let answers = Answers::default();
    for (number, of) in ["a-1", "b-1", "c-1"].into_iter().enumerate() {
        write_rounds(&world, number as u32, of, &answers, secs as u32 * 9);
    }
    let rng = world.entropy("chaos");
    let mut chaos = Chaos { world, rng, cuts: Vec::new(), holds: Vec::new() };
    for at in (SECOND..secs * SECOND).step_by(SECOND as usize / 2) {
        chaos.world.run_until(at);
        if chaos.rng.random_bool(0.6) {
            chaos.break_something();
        } else {
            chaos.mend_something();
        }
    }
    chaos.mend_all();
    chaos.world.run_until((secs + 40) * SECOND);
    let told = answers.lock().unwrap().clone();
    (chaos.world.trace_hash(), told, chaos.world)
}

#[test]
fn whatever_breaks_a_seed_is_one_run_and_all_agree_in_the_end() {
    record_panics();
    for seed in 1..=2 {
        let (hash, told, mut world) = chaos(seed, 20);
        assert!(told.iter().filter(|it| matches!(it.1, Ok(200 | 201))).count() > 50);
        let vector = |of: &str| {
            world.look(&node(of), |server| server.node().snapshot().vector.clone()).unwrap()
        };
        assert_eq!(vector("a-1"), vector("b-1"), "seed {seed}");
        assert_eq!(vector("a-1"), vector("c-1"), "seed {seed}");
        let busy_ms = REGIONS.map(|it| world.busy_ms(&node(&format!("{it}-1"))));
        assert_eq!(busy_ms, [0; 3], "seed {seed}");
        let events = world.take_events();
        let panics: Vec<_> = events.iter().filter(|it| it.target == "panic").collect();
        assert!(panics.is_empty(), "seed {seed}: {panics:?}");
        assert_eq!(chaos(seed, 20).0, hash, "seed {seed}");
    }
}
