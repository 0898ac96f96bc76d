//! A way to a server that can be long, shut or silent, for tests and benchmarks of clients. It copies
//! bytes, each after the way's delay, and knows nothing of them.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, sleep_until};

/// One way. Ends with the runtime that it was opened in, or when it is dropped.
pub(crate) struct Gate {
    /// Where it is entered.
    pub(crate) addr: SocketAddr,
    to: SocketAddr,
    /// Added each way.
    delay: Duration,
    silent: watch::Sender<bool>,
    task: Option<JoinHandle<()>>,
}

impl Gate {
    /// A way to `to`, this long in each direction.
    pub(crate) async fn open(to: SocketAddr, delay: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let silent = watch::Sender::new(false);
        let mut gate = Self { addr, to, delay, silent, task: None };
        gate.accept(listener);
        gate
    }

    /// Where it is entered, by HTTP.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Ends all connections, and takes no more.
    pub(crate) fn shut(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }

    /// Takes connections again, at the same address.
    pub(crate) async fn open_again(&mut self) {
        self.silence(false);
        self.shut();
        for _ in 0..100 {
            if let Ok(listener) = TcpListener::bind(self.addr).await {
                return self.accept(listener);
            }
            sleep(Duration::from_millis(20)).await;
        }
        panic!("{} is not to be had again", self.addr);
    }

    /// From now on takes connections and bytes, and passes none on.
    pub(crate) fn silence(&self, is_silent: bool) {
        self.silent.send_replace(is_silent);
    }

    fn accept(&mut self, listener: TcpListener) {
        let (to, delay) = (self.to, self.delay);
        let silent = self.silent.subscribe();
        self.task = Some(tokio::spawn(async move {
            // Dropped with the task, and all connections with it.
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(carry(stream, to, delay, silent.clone()));
            }
        }));
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.shut();
    }
}

async fn carry(
    client: TcpStream,
    to: SocketAddr,
    delay: Duration,
    silent: watch::Receiver<bool>,
) -> std::io::Result<()> {
    client.set_nodelay(true)?;
    // As long as a handshake would take.
    sleep(delay * 2).await;
    let server = TcpStream::connect(to).await?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        () = copy(from_client, to_server, delay, silent.clone()) => {}
        () = copy(from_server, to_client, delay, silent) => {}
    }
    Ok(())
}

/// Ends with either side.
async fn copy(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    delay: Duration,
    mut silent: watch::Receiver<bool>,
) {
    let (send, mut receive) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    let reading = async move {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(len @ 1..) = from.read(&mut buffer).await {
            let _ = send.send((Instant::now() + delay, buffer[..len].to_vec()));
        }
    };
    let writing = async move {
        while let Some((at, bytes)) = receive.recv().await {
            sleep_until(at).await;
            if silent.wait_for(|is_silent| !is_silent).await.is_err() {
                return;
            }
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(reading, writing);
}
