//! Questions that many ask at once, asked once: whoever comes before a round starts shares it.

use std::sync::{Mutex, PoisonError};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Rounds under way at once: more don't wait for the answer to those before.
const ROUNDS_MAX: usize = 16;

/// Shares rounds of one question.
pub(super) struct Rounds<T: Clone>(Arc<Inner<T>>);

struct Inner<T: Clone> {
    /// The round that has not started, with its number.
    next: Mutex<(u64, Option<Shared<BoxFuture<'static, T>>>)>,
    under_way: Semaphore,
}

impl<T: Clone + Send + Sync + 'static> Rounds<T> {
    pub(super) fn new() -> Self {
        let under_way = Semaphore::new(ROUNDS_MAX);
        Self(Arc::new(Inner { next: Mutex::default(), under_way }))
    }

    /// The answer of a round that starts after this call.
    pub(super) async fn join<F>(&self, ask: impl FnOnce() -> F) -> T
    where
        F: Future<Output = T> + Send + 'static,
    {
        let round = {
            let mut next = self.0.next.lock().unwrap_or_else(PoisonError::into_inner);
            match &next.1 {
                Some(round) => round.clone(),
                None => {
                    let (inner, asked) = (self.0.clone(), ask());
                    next.0 += 1;
                    let number = next.0;
                    let round = async move {
                        let _place = inner.under_way.acquire().await;
                        inner.started(number);
                        asked.await
                    };
                    let round = round.boxed().shared();
                    next.1 = Some(round.clone());
                    round
                }
            }
        };
        round.await
    }
}

impl<T: Clone> Inner<T> {
    fn started(&self, number: u64) {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        if next.0 == number {
            next.1 = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn many_share_few_rounds_and_each_gets_one_that_started_after_it_asked() {
        let rounds = Arc::new(Rounds::new());
        let asked = Arc::new(AtomicU64::new(0));
        let ask = |asked: Arc<AtomicU64>| async move {
            let number = asked.fetch_add(1, Ordering::SeqCst) + 1;
            tokio::time::sleep(Duration::from_millis(100)).await;
            number
        };
        let mut readers = Vec::new();
        for _ in 0..100 {
            let (rounds, asked) = (rounds.clone(), asked.clone());
            readers.push(tokio::spawn(async move {
                let before = asked.load(Ordering::SeqCst);
                let number = rounds.join(|| ask(asked.clone())).await;
                assert!(number > before);
            }));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        for reader in readers {
            reader.await.unwrap();
        }
        assert!(asked.load(Ordering::SeqCst) <= 3 * ROUNDS_MAX as u64);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_gives_up_leaves_nobody_waiting() {
        let rounds = Arc::new(Rounds::new());
        let slow = || async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            1
        };
        let soon = tokio::time::timeout(Duration::from_millis(10), rounds.join(slow)).await;
        assert!(soon.is_err());
        assert_eq!(rounds.join(slow).await, 1);
    }
}
