//! A body that is handed over in small pieces, whatever it was made of: so that who sends it has
//! little of it at a time, and shows by asking for the next one that the last is on its way. What that
//! is good for its users say.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::{Body, HttpBody as _};
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};

/// The body, and what is left of the frame that came last.
pub(super) struct Pieces {
    body: Body,
    rest: Bytes,
    len_max: usize,
}

impl Pieces {
    /// The body, in pieces of at most `len_max` bytes.
    pub(super) fn new(body: Body, len_max: usize) -> Self {
        Self { body, rest: Bytes::new(), len_max }
    }

    /// The next piece, or what is not data as it is.
    pub(super) fn poll_piece(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.rest.is_empty() {
            let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                ended => return Poll::Ready(ended),
            };
            match frame.into_data() {
                Ok(data) => self.rest = data,
                Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
            }
        }
        let piece = self.rest.split_to(self.rest.len().min(self.len_max));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    /// Whether nothing follows.
    pub(super) fn is_end(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    /// How much follows.
    pub(super) fn size_hint(&self) -> SizeHint {
        let (rest, body) = (self.rest.len() as u64, self.body.size_hint());
        let mut hint = SizeHint::new();
        hint.set_lower(body.lower().saturating_add(rest));
        if let Some(upper) = body.upper() {
            hint.set_upper(upper.saturating_add(rest));
        }
        hint
    }
}
