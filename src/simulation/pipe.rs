//! Byte streams between clients and nodes. What one side writes in a window, the other side reads in
//! the next one: clients and nodes run one after the other, and what they tell each other may not
//! depend on who runs first. Bounded; a writer waits where the reader is slow.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::trace::{Subject, Trace};

/// Most bytes that one direction holds.
const CAPACITY: usize = 64 * 1024;

/// Where all streams are carried on from window to window. Clones are one.
#[derive(Clone)]
pub(crate) struct Exchange(Arc<Mutex<Switchboard>>);

struct Switchboard {
    /// Directions in which something happened since the last window.
    touched: Vec<Arc<Mutex<Direction>>>,
    opened: u64,
    trace: Trace,
}

/// One direction of a stream.
#[derive(Default)]
struct Direction {
    /// For the trace.
    number: u64,
    is_touched: bool,
    /// Written in this window.
    written: Vec<u8>,
    is_write_closed: bool,
    /// To be read.
    ready: VecDeque<u8>,
    is_read_closed: bool,
    /// Nobody will read it.
    is_reader_gone: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// One end of a stream. Dropping it closes both directions.
pub(crate) struct Stream {
    exchange: Exchange,
    incoming: Arc<Mutex<Direction>>,
    outgoing: Arc<Mutex<Direction>>,
}

impl Exchange {
    pub(crate) fn new(trace: Trace) -> Self {
        Self(Arc::new(Mutex::new(Switchboard { touched: Vec::new(), opened: 0, trace })))
    }

    /// Both ends of a new stream.
    pub(crate) fn open(&self) -> (Stream, Stream) {
        let direction = || {
            let mut board = lock(&self.0);
            board.opened += 1;
            let direction = Direction { number: board.opened, ..Direction::default() };
            Arc::new(Mutex::new(direction))
        };
        let (there, back) = (direction(), direction());
        let end = |incoming: &Arc<Mutex<Direction>>, outgoing: &Arc<Mutex<Direction>>| Stream {
            exchange: self.clone(),
            incoming: incoming.clone(),
            outgoing: outgoing.clone(),
        };
        (end(&back, &there), end(&there, &back))
    }

    /// A window begins at `now_us`: what was written in the last one can be read.
    pub(crate) fn open_window(&self, now_us: u64) {
        let (mut touched, trace) = {
            let mut board = lock(&self.0);
            (std::mem::take(&mut board.touched), board.trace.clone())
        };
        // In the order in which they were opened: a runtime that is dropped drops its tasks in an
        // order that depends on how many the process had before.
        touched.sort_by_key(|direction| lock(direction).number);
        for direction in touched {
            let mut direction = lock(&direction);
            direction.is_touched = false;
            let numbers = [now_us, direction.number, u64::from(direction.is_write_closed)];
            trace.add(Subject::Stream, &numbers, &direction.written);
            let written = std::mem::take(&mut direction.written);
            if !direction.is_reader_gone {
                direction.ready.extend(written);
            }
            direction.is_read_closed = direction.is_write_closed;
            let wakers = [direction.reader.take(), direction.writer.take()];
            drop(direction);
            wakers.into_iter().flatten().for_each(Waker::wake);
        }
    }

    fn touch(&self, direction: &Arc<Mutex<Direction>>, locked: &mut Direction) {
        if !locked.is_touched {
            locked.is_touched = true;
            lock(&self.0).touched.push(direction.clone());
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Stream {
    fn close(&self) {
        let mut outgoing = lock(&self.outgoing);
        if !outgoing.is_write_closed {
            outgoing.is_write_closed = true;
            self.exchange.touch(&self.outgoing, &mut outgoing);
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut incoming = lock(&self.incoming);
        if incoming.ready.is_empty() && !incoming.is_read_closed && buf.remaining() > 0 {
            incoming.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        while buf.remaining() > 0 && !incoming.ready.is_empty() {
            let (bytes, _) = incoming.ready.as_slices();
            let len = bytes.len().min(buf.remaining());
            buf.put_slice(&bytes[..len]);
            incoming.ready.drain(..len);
        }
        if incoming.writer.is_some() {
            self.exchange.touch(&self.incoming, &mut incoming);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut outgoing = lock(&self.outgoing);
        if outgoing.is_write_closed || outgoing.is_reader_gone {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let room = CAPACITY.saturating_sub(outgoing.written.len() + outgoing.ready.len());
        if room == 0 {
            outgoing.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let len = room.min(bytes.len());
        outgoing.written.extend_from_slice(&bytes[..len]);
        self.exchange.touch(&self.outgoing, &mut outgoing);
        Poll::Ready(Ok(len))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.close();
        Poll::Ready(Ok(()))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.close();
        let mut incoming = lock(&self.incoming);
        incoming.is_reader_gone = true;
        incoming.ready.clear();
        self.exchange.touch(&self.incoming, &mut incoming);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[test]
    fn what_is_written_is_read_in_the_next_window() {
        let exchange = Exchange::new(Trace::default());
        let (mut client, mut node) = exchange.open();
        let mut buf = [0; 8];
        client.write_all(b"hello").now_or_never().unwrap().unwrap();
        assert!(node.read(&mut buf).now_or_never().is_none());
        exchange.open_window(1_000);
        assert_eq!(node.read(&mut buf).now_or_never().unwrap().unwrap(), 5);
        assert_eq!(&buf[..5], b"hello");
        drop(client);
        assert!(node.read(&mut buf).now_or_never().is_none());
        exchange.open_window(2_000);
        assert_eq!(node.read(&mut buf).now_or_never().unwrap().unwrap(), 0);
        assert!(node.write(b"x").now_or_never().unwrap().is_err());
    }

    #[test]
    fn a_writer_waits_for_a_slow_reader() {
        let exchange = Exchange::new(Trace::default());
        let (mut client, mut node) = exchange.open();
        assert_eq!(client.write(&[7; 100_000]).now_or_never().unwrap().unwrap(), CAPACITY);
        assert!(client.write(b"more").now_or_never().is_none());
        exchange.open_window(1_000);
        assert!(client.write(b"more").now_or_never().is_none());
        let mut all = vec![0; CAPACITY];
        node.read_exact(&mut all).now_or_never().unwrap().unwrap();
        assert_eq!(client.write(b"more").now_or_never().unwrap().unwrap(), 4);
    }
}
