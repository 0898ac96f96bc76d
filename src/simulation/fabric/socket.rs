//! A node's UDP socket on the fabric, as quinn wants it. Sending never blocks.

use std::fmt;
use std::future::Future as _;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use quinn::udp::{EcnCodepoint, RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};
use tokio::time::{Instant, Sleep, sleep_until};

use super::{Fabric, address};

pub(super) struct FabricSocket {
    fabric: Fabric,
    node: usize,
    /// Which of the node's sockets this is.
    bind: u64,
    /// Until the next datagram is due, where that is within the window.
    timer: Mutex<Option<Pin<Box<Sleep>>>>,
}

impl FabricSocket {
    pub(super) fn new(fabric: Fabric, node: usize, bind: u64) -> Self {
        Self { fabric, node, bind, timer: Mutex::default() }
    }

    fn poll_timer(&self, cx: &mut Context<'_>, at: Instant) -> Poll<()> {
        let mut timer = self.timer.lock().unwrap_or_else(PoisonError::into_inner);
        let sleep = timer.get_or_insert_with(|| Box::pin(sleep_until(at)));
        if sleep.deadline() != at {
            sleep.as_mut().reset(at);
        }
        let elapsed = sleep.as_mut().poll(cx);
        if elapsed.is_ready() {
            *timer = None;
        }
        elapsed
    }
}

impl fmt::Debug for FabricSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FabricSocket({})", self.node)
    }
}

#[derive(Debug)]
struct AlwaysWritable;

impl UdpPoller for AlwaysWritable {
    fn poll_writable(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl AsyncUdpSocket for FabricSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(AlwaysWritable)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let mut state = self.fabric.state();
        let port = &state.ports[self.node];
        if port.bound != Some(self.bind) {
            return Ok(());
        }
        let now_us = port.timeline.now_us();
        let (to, ecn) = (transmit.destination, transmit.ecn);
        let woken = state.send(now_us, self.node, to, ecn, transmit.contents);
        drop(state);
        if let Some(waker) = woken {
            waker.wake();
        }
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut state = self.fabric.state();
            if state.ports[self.node].bound != Some(self.bind) {
                return Poll::Pending;
            }
            let now_us = state.ports[self.node].timeline.now_us();
            let mut count = 0;
            for (buf, meta) in bufs.iter_mut().zip(meta.iter_mut()) {
                let Some(datagram) = state.take(self.node, now_us) else { break };
                // As UDP does, what does not fit is cut off.
                let len = datagram.bytes.len().min(buf.len());
                buf[..len].copy_from_slice(&datagram.bytes[..len]);
                *meta = RecvMeta {
                    addr: address(datagram.from),
                    len,
                    stride: len,
                    ecn: EcnCodepoint::from_bits(datagram.ecn),
                    dst_ip: Some(address(self.node).ip()),
                };
                count += 1;
            }
            if count > 0 {
                return Poll::Ready(Ok(count));
            }
            state.ports[self.node].waker = Some(cx.waker().clone());
            let Some(due_us) = state.next_due_us(self.node) else { return Poll::Pending };
            drop(state);
            let at = Instant::now() + Duration::from_micros(due_us - now_us);
            if self.poll_timer(cx, at).is_pending() {
                return Poll::Pending;
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(address(self.node))
    }

    fn may_fragment(&self) -> bool {
        false
    }
}
