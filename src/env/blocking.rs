//! Where work that blocks is done: on tokio's blocking threads, or inline, where a second thread
//! would make a simulation differ from run to run. It limits nothing; callers bound their work.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;
use std::{io, panic};

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::time::Instant;

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

    /// The same for work that there may be so much of at once: it holds `permit` until it is done, also
    /// where nobody waits for it any more. A permit that is held by the one who waits comes back as
    /// soon as that one gives up, while the work goes on.
    pub async fn run_with<P, T, F>(self, permit: P, work: F) -> T
    where
        P: Send + 'static,
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let held = move || {
            let result = work();
            drop(permit);
            result
        };
        self.run(held).await
    }

    /// The result of `work`, which blocks this thread: for what takes about as long as waking another
    /// one. Where the runtime has several threads, another one takes on what this one would do next.
    pub fn here<T>(self, work: impl FnOnce() -> T) -> T {
        let has_others = self == Self::Threads
            && Handle::try_current()
                .is_ok_and(|it| it.runtime_flavor() == RuntimeFlavor::MultiThread);
        if has_others { tokio::task::block_in_place(work) } else { work() }
    }

    /// Runs `work` on a thread of its own, which ends with it. For [`Blocking::Threads`] alone:
    /// there is no thread in a simulation.
    pub fn own_thread(self, name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
        if self == Self::Inline {
            return Err(io::Error::other("there are no threads here"));
        }
        thread::Builder::new().name(name.to_owned()).spawn(work).map(drop)
    }
}

/// Waits for `future` on this thread, outside of any runtime, at most until then. It is dropped
/// where that comes first.
pub fn wait_here<T>(future: impl Future<Output = T>, until: Option<Instant>) -> Option<T> {
    struct Unpark(Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(result) = future.as_mut().poll(&mut context) {
            return Some(result);
        }
        match until.map(|until| until.saturating_duration_since(Instant::now())) {
            None => thread::park(),
            Some(Duration::ZERO) => return None,
            Some(left) => thread::park_timeout(left),
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
    async fn work_holds_its_permit_until_it_is_done_whoever_waits_for_it() {
        let room = Arc::new(tokio::sync::Semaphore::new(1));
        let permit = room.clone().try_acquire_owned().unwrap();
        let (begun, has_begun) = tokio::sync::oneshot::channel();
        let (end, ends) = std::sync::mpsc::channel::<()>();
        let work = Blocking::Threads.run_with(permit, move || {
            begun.send(()).unwrap();
            ends.recv().unwrap();
        });
        let task = tokio::spawn(work);
        has_begun.await.unwrap();
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
        assert_eq!(room.available_permits(), 0, "it goes on");
        end.send(()).unwrap();
        let _ = room.acquire().await.unwrap();
    }

    #[tokio::test]
    async fn work_is_done_here_where_there_is_one_thread() {
        for blocking in [Blocking::Threads, Blocking::Inline] {
            let here = thread::current().id();
            assert_eq!(blocking.here(|| thread::current().id()), here);
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn others_go_on_while_work_is_done_here() {
        let (sender, receiver) = std::sync::mpsc::channel();
        let waits = tokio::spawn(async move {
            Blocking::Threads.here(|| receiver.recv_timeout(Duration::from_secs(10)))
        });
        tokio::spawn(async move { sender.send(7) }).await.unwrap().unwrap();
        assert_eq!(waits.await.unwrap(), Ok(7), "the only worker was not held up");
    }

    #[test]
    fn a_thread_waits_for_what_others_send_and_no_longer_than_it_is_told() {
        let (sender, mut receiver) = tokio::sync::mpsc::channel::<u32>(1);
        let (told, heard) = std::sync::mpsc::channel();
        let work = move || {
            let soon = Instant::now() + Duration::from_millis(20);
            told.send(wait_here(receiver.recv(), Some(soon))).unwrap();
            told.send(wait_here(receiver.recv(), None)).unwrap();
            told.send(wait_here(receiver.recv(), None)).unwrap();
        };
        Blocking::Threads.own_thread("test", work).unwrap();
        assert_eq!(heard.recv().unwrap(), None, "nothing came in time");
        sender.blocking_send(7).unwrap();
        assert_eq!(heard.recv().unwrap(), Some(Some(7)));
        drop(sender);
        assert_eq!(heard.recv().unwrap(), Some(None));
        assert!(Blocking::Inline.own_thread("test", || {}).is_err());
    }

    #[tokio::test]
    async fn a_panic_inside_goes_on_in_the_caller() {
        let task = tokio::spawn(Blocking::Threads.run(|| -> () { panic!("inside") }));
        assert!(task.await.unwrap_err().is_panic());
    }
}
