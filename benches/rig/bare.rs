//! What Holm's reads are measured against: an axum handler that returns bytes it has, with no
//! token, no view and no header of its own. It runs in a process of its own, on the runtime that
//! Holm has.

use std::io::Read as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use axum::serve::ListenerExt as _;
use bytes::Bytes;

use crate::rig::process::Process;

/// Starts this program again as the bare server, answering `body`.
pub(crate) fn start(dir: &Path, body: &[u8]) -> std::io::Result<(Process, SocketAddr)> {
    let file = dir.join("answer.json");
    std::fs::write(&file, body)?;
    let mut command = Command::new(std::env::current_exe()?);
    let mut process = Process::start(command.arg("--serve-bare").arg(file))?;
    let addr = process.await_line(|line| line.parse().ok());
    let addr = addr.ok_or_else(|| std::io::Error::other("the bare server did not start"))?;
    Ok((process, addr))
}

/// The server itself. Ends when its input does, so that it never outlives who started it.
pub(crate) fn serve(file: &Path) -> anyhow::Result<()> {
    let body = Bytes::from(std::fs::read(file)?);
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let answer = async move || ([(CONTENT_TYPE, "application/json")], body.clone());
        let router = Router::new().route("/config/{service}/{environment}/{key}", get(answer));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        println!("{}", listener.local_addr()?);
        let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
        Ok(axum::serve(listener, router).await?)
    })
}
