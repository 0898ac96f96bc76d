//! Where work that blocks is done: on tokio's blocking threads, or inline, where a second thread
//! would make a simulation differ from run to run. It limits nothing; callers bound their work.

use std::panic;

/// How blocking work runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocking {
    /// On the runtime's blocking threads.
    Threads,
    /// On the calling task's thread, before the next task runs.
    Inline,
}

impl Blocking {
    /// The result of `work`. A panic inside goes on in the caller.
    #[expect(clippy::disallowed_methods, reason = "this is the seam that the ban points to")]
    pub async fn run<T, F>(self, work: F) -> T
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        match self {
            Self::Inline => work(),
            Self::Threads => match tokio::task::spawn_blocking(work).await {
                Ok(result) => result,
                Err(error) if error.is_panic() => panic::resume_unwind(error.into_panic()),
                // The runtime is shutting down and drops this task next.
                Err(_) => std::future::pending().await,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_gives_its_result_in_both_ways() {
        for blocking in [Blocking::Threads, Blocking::Inline] {
            assert_eq!(blocking.run(|| 6 * 7).await, 42);
        }
    }

    #[tokio::test]
    async fn a_panic_inside_goes_on_in_the_caller() {
        let task = tokio::spawn(Blocking::Threads.run(|| -> () { panic!("inside") }));
        assert!(task.await.unwrap_err().is_panic());
    }
}
