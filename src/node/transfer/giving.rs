//! How pieces go out: who waits for them is told that the sender is at work, and who takes next to
//! nothing is given up, as a cut holds on to a state of the store. What pieces are, is not known here.

use std::time::Duration;

use tokio::io::AsyncWrite;
use tokio::time::{Instant, timeout, timeout_at};

use super::{SILENCE_MAX, TransferError};
use crate::storage::StoreError;
use crate::storage::whole::{Said, alive};
use crate::transport::frame;

/// How often a peer hears that there is work on the next piece.
const ALIVE_EVERY: Duration = Duration::from_secs(2);
/// How often it is looked whether the store is still open.
const LOOK: Duration = Duration::from_secs(1);
/// Slowest that a peer may take what it is given, in bytes a second; and for how long it may be slower.
const BYTES_PER_SECOND_MIN: u64 = 64 * 1024;
const SLOW_MAX: Duration = Duration::from_secs(60);

/// Where pieces go.
pub(super) struct Giving<'a, W> {
    send: &'a mut W,
    is_open: Box<dyn Fn() -> bool + Send + Sync>,
    said: Said,
    said_at: Instant,
    pub(super) bytes: u64,
    /// How long the peer was waited for.
    waited: Duration,
}

impl<'a, W: AsyncWrite + Unpin> Giving<'a, W> {
    /// Begins, as long as the store `is_open`.
    pub(super) fn new(send: &'a mut W, is_open: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self {
            send,
            is_open: Box::new(is_open),
            said: Said::default(),
            said_at: Instant::now(),
            bytes: 0,
            waited: Duration::ZERO,
        }
    }

    /// What `work` comes to. Where it takes long, the peer is told so meanwhile; `done` documents are.
    pub(super) async fn wait_for<T>(
        &mut self,
        work: impl Future<Output = T>,
        done: u64,
    ) -> Result<T, TransferError> {
        let mut work = std::pin::pin!(work);
        loop {
            match timeout(ALIVE_EVERY, &mut work).await {
                Ok(result) => return Ok(result),
                Err(_) => self.say_alive(done).await?,
            }
        }
    }

    /// Says that there is work on the next piece, if nothing was said for some time.
    pub(super) async fn say_alive(&mut self, done: u64) -> Result<(), TransferError> {
        if self.said_at.elapsed() < ALIVE_EVERY {
            return Ok(());
        }
        self.say(&alive(done)).await
    }

    /// Says a piece.
    pub(super) async fn say(&mut self, piece: &[u8]) -> Result<(), TransferError> {
        self.said.note(piece);
        self.send(piece).await
    }

    /// Says the last one.
    pub(super) async fn say_end(&mut self) -> Result<(), TransferError> {
        let end = self.said.end();
        self.send(&end).await
    }

    /// Sends a piece. A store that was closed does not open again as long as a cut holds on to it.
    async fn send(&mut self, piece: &[u8]) -> Result<(), TransferError> {
        let began = Instant::now();
        let deadline = began + SILENCE_MAX;
        {
            let mut sent = std::pin::pin!(frame::write_bytes(self.send, piece));
            loop {
                if !(self.is_open)() {
                    return Err(StoreError::Failed("it was closed".into()).into());
                }
                match timeout_at(deadline.min(Instant::now() + LOOK), &mut sent).await {
                    Ok(sent) => break sent?,
                    Err(_) if Instant::now() >= deadline => return Err(TransferError::Stalled),
                    Err(_) => {}
                }
            }
        }
        self.said_at = Instant::now();
        self.waited += began.elapsed();
        self.bytes += piece.len() as u64;
        match self.waited > SLOW_MAX + Duration::from_secs(self.bytes / BYTES_PER_SECOND_MIN) {
            true => Err(TransferError::Slow),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::frame::{FRAME_LEN_MAX, FrameReader};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use tokio::time::sleep;

    const MIB: usize = 1024 * 1024;

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_a_piece_hears_that_there_is_work_on_it_and_the_sum_covers_that() {
        let (mut send, receive) = tokio::io::duplex(MIB);
        let mut giving = Giving::new(&mut send, || true);
        giving.say(b"first").await.unwrap();
        let work = async {
            sleep(Duration::from_secs(3 * 60)).await;
            7
        };
        assert_eq!(giving.wait_for(work, 5).await.unwrap(), 7);
        giving.say_end().await.unwrap();
        let expected_end = giving.said.end();
        drop(send);
        let mut frames = FrameReader::new(receive, FRAME_LEN_MAX);
        let mut heard = Vec::new();
        while let Some(frame) = frames.next().await.unwrap() {
            heard.push(frame.to_vec());
        }
        let mut said = Said::default();
        for piece in &heard[..heard.len() - 1] {
            said.note(piece);
        }
        assert_eq!(*heard.last().unwrap(), said.end());
        assert_eq!(said.end(), expected_end);
        let alive = heard.iter().filter(|piece| **piece == alive(5)).count();
        assert!((80..=90).contains(&alive), "{alive}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_next_to_nothing_is_given_up_and_who_is_slow_is_not() {
        for (pause_s, is_too_slow) in [(2, false), (8, true)] {
            let (mut send, receive) = tokio::io::duplex(1024);
            let reading = tokio::spawn(async move {
                let mut frames = FrameReader::new(receive, FRAME_LEN_MAX);
                while let Ok(Some(_)) = frames.next().await {
                    sleep(Duration::from_secs(pause_s)).await;
                }
            });
            let mut giving = Giving::new(&mut send, || true);
            let mut given = Ok(());
            for _ in 0..100 {
                given = giving.say(&vec![0; 256 * 1024]).await;
                if given.is_err() {
                    break;
                }
            }
            assert_eq!(matches!(given, Err(TransferError::Slow)), is_too_slow, "{given:?}");
            drop(send);
            reading.await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_is_given_up_and_so_is_all_when_the_store_closes() {
        let (mut send, _receive) = tokio::io::duplex(1024);
        let mut giving = Giving::new(&mut send, || true);
        let began = Instant::now();
        let given = giving.say(&vec![0; MIB]).await;
        assert!(matches!(given, Err(TransferError::Stalled)), "{given:?}");
        assert!(began.elapsed() <= SILENCE_MAX + LOOK);
        let is_open = Arc::new(AtomicBool::new(true));
        let looks = is_open.clone();
        let (mut send, _receive) = tokio::io::duplex(1024);
        let mut giving = Giving::new(&mut send, move || looks.load(Ordering::Relaxed));
        let closing = async {
            sleep(Duration::from_secs(5)).await;
            is_open.store(false, Ordering::Relaxed);
        };
        let piece = vec![0; MIB];
        let (given, ()) = tokio::join!(giving.say(&piece), closing);
        assert!(matches!(given, Err(TransferError::Store(_))), "{given:?}");
        assert!(began.elapsed() <= SILENCE_MAX + 8 * LOOK);
    }
}
