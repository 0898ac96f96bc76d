//! A distance between servers that know of none: everything that passes here arrives so much later,
//! each way, in its order and unchanged. For TCP on loopback. What is under way is bounded: past that
//! a sender waits, as it would for a window.

use std::io::Result;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// Most pieces that are under way in one direction, and most bytes of one.
const PIECES_MAX: usize = 4_096;
const PIECE_LEN_MAX: usize = 64 << 10;

/// The way to one server. It is gone with this.
pub(crate) struct Distance {
    /// Where to connect for it.
    pub(crate) addr: SocketAddr,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Distance {
    /// To the server at `to`, in so much time.
    pub(crate) fn open(to: SocketAddr, one_way: Duration) -> Result<Self> {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).enable_all().build()?;
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
        let addr = listener.local_addr()?;
        runtime.spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(pass(near, to, one_way));
            }
        });
        Ok(Self { addr, runtime: Some(runtime) })
    }
}

impl Drop for Distance {
    fn drop(&mut self) {
        self.runtime.take().into_iter().for_each(tokio::runtime::Runtime::shutdown_background);
    }
}

/// One connection, until either side ends it.
async fn pass(near: TcpStream, to: SocketAddr, one_way: Duration) -> Result<()> {
    let far = TcpStream::connect(to).await?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let (near_in, near_out) = near.into_split();
    let (far_in, far_out) = far.into_split();
    tokio::try_join!(carry(near_in, far_out, one_way), carry(far_in, near_out, one_way))?;
    Ok(())
}

async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    one_way: Duration,
) -> Result<()> {
    let (sender, mut under_way) = mpsc::channel::<(Instant, Vec<u8>)>(PIECES_MAX);
    let sending = async move {
        loop {
            let mut piece = Vec::new();
            let len = (&mut from).take(PIECE_LEN_MAX as u64).read_buf(&mut piece).await?;
            if len == 0 || sender.send((Instant::now() + one_way, piece)).await.is_err() {
                return Result::Ok(());
            }
        }
    };
    let arriving = async move {
        while let Some((due, piece)) = under_way.recv().await {
            tokio::time::sleep_until(due.into()).await;
            to.write_all(&piece).await?;
        }
        to.shutdown().await
    };
    tokio::try_join!(sending, arriving)?;
    Ok(())
}
