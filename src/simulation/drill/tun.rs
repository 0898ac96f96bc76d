//! A TUN device: whatever is routed to it inside a namespace comes out here as IP packets, and what
//! is written here arrives in the namespace. Linux alone; elsewhere it says so.

use std::io;

/// An open device. It is gone when this is dropped, also by `kill -9`.
pub(crate) struct Device(#[cfg(target_os = "linux")] tun_rs::AsyncDevice);

#[cfg(target_os = "linux")]
impl Device {
    /// Makes a device of this name, down and without an address. Called inside a tokio runtime.
    pub(crate) fn create(name: &str) -> io::Result<Self> {
        tun_rs::DeviceBuilder::new().name(name).enable(false).build_async().map(Self)
    }

    /// The next packet.
    pub(crate) async fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.recv(buffer).await
    }

    /// Hands a packet over now, or not at all.
    pub(crate) fn send(&self, packet: &[u8]) -> io::Result<usize> {
        self.0.try_send(packet)
    }
}

#[cfg(not(target_os = "linux"))]
impl Device {
    pub(crate) fn create(_: &str) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) async fn recv(&self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn send(&self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
