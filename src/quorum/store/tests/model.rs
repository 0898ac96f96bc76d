//! Against a model: after a crash the log is what some beginning of the queue makes of it, and no
//! less than was acknowledged.

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::*;

/// What the store should hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Model {
    log: Vec<LogId>,
    purged: Option<LogId>,
    vote: Option<Vote>,
}

impl Model {
    fn last(&self) -> Option<LogId> {
        self.log.last().copied().or(self.purged)
    }

    fn term(&self) -> u64 {
        let voted = self.vote.map_or(0, |vote| vote.leader_id.term);
        voted.max(self.last().map_or(0, |id| id.leader_id.term))
    }
}

struct Run {
    store: Store,
    model: Model,
    rng: StdRng,
    term: u64,
}

impl Run {
    /// Queues one change, and makes it in the model.
    async fn change(&mut self) {
        let Self { store, model, rng, .. } = self;
        match rng.random_range(0..10) {
            0 if !model.log.is_empty() => {
                self.term += 1;
                let kept = rng.random_range(0..model.log.len());
                model.log.truncate(kept);
                store.log.truncate_after(model.last()).await.unwrap();
            }
            1 if !model.log.is_empty() => {
                let upto = model.log[rng.random_range(0..model.log.len())];
                model.purged = Some(upto);
                model.log.retain(|id| id.index > upto.index);
                store.log.purge(upto).await.unwrap();
            }
            _ => {
                let next = model.last().map_or(0, |id| id.index + 1);
                let count = rng.random_range(1..4);
                let ids: Vec<LogId> = (next..next + count).map(|i| log_id(self.term, i)).collect();
                model.log.extend(&ids);
                store.queue(ids.iter().map(|id| blank(self.term, id.index)).collect()).await;
            }
        }
    }

    /// Waits until everything so far is on disk.
    async fn acknowledge(&mut self) {
        self.term += 1;
        let vote = Vote::new(self.term, 1);
        self.model.vote = Some(vote);
        self.store.log.save_vote(&vote).await.unwrap();
    }
}

async fn found(store: &mut Store) -> Model {
    let log = store.entries().await.iter().map(|entry| entry.log_id).collect();
    let state = store.log.get_log_state().await.unwrap();
    let vote = store.log.get_log_reader().await.read_vote().await.unwrap();
    let found = Model { log, purged: state.last_purged_log_id, vote };
    assert_eq!(state.last_log_id, found.last());
    found
}

#[tokio::test(start_paused = true)]
async fn after_a_crash_the_log_is_what_a_beginning_of_the_queue_made_it() {
    for seed in 0..150 {
        let mut disk = MemoryDisk::new();
        let mut model = Model::default();
        let mut rng = StdRng::seed_from_u64(seed);
        for life in 0..4 {
            let mut run = Run {
                store: open_on(&disk).await,
                term: model.term() + 1,
                model,
                rng: StdRng::seed_from_u64(rng.random()),
            };
            for _ in 0..run.rng.random_range(0..12) {
                run.change().await;
                assert_eq!(found(&mut run.store).await, run.model, "{seed} {life}: in memory");
            }
            run.acknowledge().await;
            let mut possible = vec![run.model.clone()];
            for _ in 0..run.rng.random_range(0..6) {
                run.change().await;
                possible.push(run.model.clone());
                if run.rng.random() {
                    tokio::task::yield_now().await;
                }
            }
            disk = disk.crash(match run.rng.random_range(0..3) {
                0 => CrashMode::LoseUnsynced,
                1 => CrashMode::KeepUnsynced,
                _ => CrashMode::TearUnsynced(run.rng.random()),
            });
            let mut store = open_on(&disk).await;
            assert!(!store.handle.identity().is_new(), "{seed} {life}");
            model = found(&mut store).await;
            assert!(possible.contains(&model), "{seed} {life}: {model:?} of {possible:?}");
            // The next life starts from a crash of this one.
            disk = disk.crash(CrashMode::LoseUnsynced);
        }
    }
}
