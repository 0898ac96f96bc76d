//! openraft's own tests of a log store and a state machine.

use super::*;

struct Builder(Blocking);

impl StoreBuilder<TypeConfig, LogStore, StateMachine> for Builder {
    async fn build(
        &self,
    ) -> Result<((), LogStore, StateMachine), openraft::StorageError<TypeConfig>> {
        let disk = Arc::new(MemoryDisk::new());
        let entropy = Entropy::system().stream("raft-id");
        let (log, machine, _) = open(disk, entropy, self.0, settings()).await.unwrap();
        Ok(((), log, machine))
    }
}

#[tokio::test]
async fn the_store_passes_openrafts_tests_on_threads() {
    Suite::test_all(Builder(Blocking::Threads)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_store_passes_openrafts_tests_in_a_simulation() {
    Suite::test_all(Builder(Blocking::Inline)).await.unwrap();
}
