//! Frames: a length of four bytes, big end first, then as many bytes of CBOR. A length beyond
//! [`FRAME_LEN_MAX`] is refused before anything is allocated, and memory grows only with what has
//! really arrived.

use std::io;

use bytes::{Buf as _, Bytes, BytesMut};
use futures_util::FutureExt as _;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::model::cbor;

/// Longest frame, in bytes, without its length.
pub const FRAME_LEN_MAX: usize = 8 * 1024 * 1024;

/// Read at once, in bytes.
const CHUNK_LEN: usize = 64 * 1024;

/// Why there is no next frame. The stream is of no use afterwards.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The frame says it is longer than allowed.
    #[error("a frame of {len} bytes; at most {max} are allowed")]
    TooLong {
        /// What it says.
        len: usize,
        /// What is allowed.
        max: usize,
    },
    /// The stream ended inside a frame.
    #[error("the stream ended inside a frame")]
    Truncated,
    /// The bytes are not the message that belongs here.
    #[error("a frame does not decode: {0}")]
    Malformed(#[from] minicbor::decode::Error),
    /// The connection failed.
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
}

impl FrameError {
    /// Whether the peer broke the protocol, rather than the network the connection.
    pub fn is_misbehaviour(&self) -> bool {
        match self {
            Self::TooLong { .. } | Self::Malformed(_) => true,
            // A connection that is lost also ends inside frames.
            Self::Truncated | Self::Io(_) => false,
        }
    }
}

/// The frame of `message`.
pub fn encode<T: minicbor::Encode<()>>(message: &T) -> Result<Bytes, FrameError> {
    let body = cbor::encode(message);
    let too_long = FrameError::TooLong { len: body.len(), max: FRAME_LEN_MAX };
    if body.len() > FRAME_LEN_MAX {
        return Err(too_long);
    }
    let len = u32::try_from(body.len()).map_err(|_| too_long)?;
    let mut frame = Vec::with_capacity(4 + body.len());
    frame.extend(len.to_be_bytes());
    frame.extend(body);
    Ok(frame.into())
}

/// Sends `message` as one frame.
pub async fn write<T: minicbor::Encode<()>>(
    stream: &mut (impl AsyncWrite + Unpin),
    message: &T,
) -> Result<(), FrameError> {
    stream.write_all(&encode(message)?).await?;
    Ok(())
}

/// Sends `body`, which is encoded already, as one frame.
pub async fn write_bytes(
    stream: &mut (impl AsyncWrite + Unpin),
    body: &[u8],
) -> Result<(), FrameError> {
    let too_long = FrameError::TooLong { len: body.len(), max: FRAME_LEN_MAX };
    let len = match u32::try_from(body.len()) {
        Ok(len) if body.len() <= FRAME_LEN_MAX => len,
        _ => return Err(too_long),
    };
    stream.write_all(&len.to_be_bytes()).await?;
    stream.write_all(body).await?;
    Ok(())
}

/// The frames of a stream, in order.
pub struct FrameReader<R> {
    stream: R,
    buffer: BytesMut,
    len_max: usize,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// Reads frames of up to `len_max` bytes, [`FRAME_LEN_MAX`] at most.
    pub fn new(stream: R, len_max: usize) -> Self {
        Self { stream, buffer: BytesMut::new(), len_max: len_max.min(FRAME_LEN_MAX) }
    }

    /// The same stream with another limit for the frames that are still to come.
    pub fn with_len_max(self, len_max: usize) -> Self {
        Self { len_max: len_max.min(FRAME_LEN_MAX), ..self }
    }

    /// The next frame's bytes; `None` where the stream ended between two frames. Dropping the
    /// future loses nothing.
    pub async fn next(&mut self) -> Result<Option<Bytes>, FrameError> {
        loop {
            if let Some(frame) = self.buffered()? {
                return Ok(Some(frame));
            }
            if self.fill().await? == 0 {
                return if self.buffer.is_empty() { Ok(None) } else { Err(FrameError::Truncated) };
            }
        }
    }

    /// The next frame, if all of it has arrived.
    pub fn next_now(&mut self) -> Result<Option<Bytes>, FrameError> {
        if let Some(frame) = self.buffered()? {
            return Ok(Some(frame));
        }
        // The end of the stream is left for `next` to find again.
        while let Some(read) = self.fill().now_or_never() {
            if read? == 0 {
                break;
            }
            if let Some(frame) = self.buffered()? {
                return Ok(Some(frame));
            }
        }
        Ok(None)
    }

    /// The next frame, read as a `T`; [`FrameError::Truncated`] where the stream ended.
    pub async fn message<T: for<'b> minicbor::Decode<'b, ()>>(&mut self) -> Result<T, FrameError> {
        let frame = self.next().await?.ok_or(FrameError::Truncated)?;
        Ok(cbor::decode(&frame)?)
    }

    async fn fill(&mut self) -> io::Result<usize> {
        self.buffer.reserve(CHUNK_LEN);
        self.stream.read_buf(&mut self.buffer).await
    }

    fn buffered(&mut self) -> Result<Option<Bytes>, FrameError> {
        let Some(len) = self.buffer.first_chunk::<4>() else { return Ok(None) };
        let len = usize::try_from(u32::from_be_bytes(*len)).unwrap_or(usize::MAX);
        if len > self.len_max {
            return Err(FrameError::TooLong { len, max: self.len_max });
        }
        if self.buffer.len() - 4 < len {
            return Ok(None);
        }
        self.buffer.advance(4);
        Ok(Some(self.buffer.split_to(len).freeze()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read_all(bytes: &[u8], len_max: usize) -> Result<Vec<Bytes>, FrameError> {
        let mut reader = FrameReader::new(bytes, len_max);
        let mut frames = Vec::new();
        while let Some(frame) = reader.next().now_or_never().unwrap()? {
            frames.push(frame);
        }
        Ok(frames)
    }

    #[test]
    fn a_frame_of_four_gigabytes_is_refused_before_it_is_read() {
        let error = read_all(&u32::MAX.to_be_bytes(), FRAME_LEN_MAX).unwrap_err();
        assert!(matches!(error, FrameError::TooLong { len: 4_294_967_295, .. }));
        assert!(error.is_misbehaviour());
    }

    #[test]
    fn a_length_alone_takes_no_memory() {
        let mut reader = FrameReader::new(&[0, 0x7f, 0, 0][..], FRAME_LEN_MAX);
        assert!(matches!(reader.next().now_or_never(), Some(Err(FrameError::Truncated))));
        assert!(reader.buffer.capacity() < 4 * CHUNK_LEN);
    }

    #[test]
    fn a_message_that_is_too_long_is_not_sent() {
        let long = minicbor::bytes::ByteVec::from(vec![0; FRAME_LEN_MAX]);
        assert!(matches!(encode(&long), Err(FrameError::TooLong { .. })));
    }

    #[tokio::test]
    async fn what_has_arrived_is_read_without_waiting() {
        let (mut near, far) = tokio::io::duplex(1024);
        let mut reader = FrameReader::new(far, 1024);
        assert!(matches!(reader.next_now(), Ok(None)));
        write(&mut near, &1).await.unwrap();
        write(&mut near, &2).await.unwrap();
        near.write_all(&[0, 0]).await.unwrap();
        assert_eq!(reader.message::<u8>().await.unwrap(), 1);
        assert_eq!(&reader.next_now().unwrap().unwrap()[..], [2]);
        assert!(matches!(reader.next_now(), Ok(None)));
        near.write_all(&[0, 1, 3]).await.unwrap();
        assert_eq!(reader.message::<u8>().await.unwrap(), 3);
        drop(near);
        assert!(matches!(reader.next_now(), Ok(None)));
        assert!(matches!(reader.next().await, Ok(None)));
    }

    proptest! {
        #[test]
        fn frames_read_back_as_written(bodies in proptest::collection::vec(any::<String>(), 0..20)) {
            let mut stream = Vec::new();
            for body in &bodies {
                stream.extend(encode(body).unwrap());
            }
            let frames = read_all(&stream, FRAME_LEN_MAX).unwrap();
            let read: Vec<String> = frames.iter().map(|frame| cbor::decode(frame).unwrap()).collect();
            prop_assert_eq!(&read, &bodies);
            // Cut anywhere, it is an end between frames or an error, never a panic.
            for end in 0..stream.len() {
                if let Ok(frames) = read_all(&stream[..end], FRAME_LEN_MAX) {
                    prop_assert!(frames.len() < bodies.len());
                }
            }
        }

        #[test]
        fn no_bytes_panic_the_reader(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = read_all(&bytes, 100);
        }
    }
}
