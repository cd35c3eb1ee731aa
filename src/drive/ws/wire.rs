//! The bytes of a WebSocket: from the socket to its actor, and from there back. It buffers nothing but what is on its way.

use std::cell::Cell;
use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

use actix_codec::Framed;
use actix_http::h1;
use actix_http::ws::Codec;
use actix_web::error::PayloadError;
use actix_web_actors::ws::WebsocketContext;
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf, ReadHalf};

use super::{Role, Ws};

/// Bytes read at once.
const READ: usize = 8 * 1024;
/// Bytes that a stranger may send in all: a greeting, and a few messages that are answered by errors.
const STRANGER_BYTES: usize = 64 * 1024;

/// Carries a WebSocket to its end; frames may have `limit` bytes.
pub(super) async fn carry<R: Role, T>(socket: Ws<R>, limit: usize, framed: Framed<T, h1::Codec>) -> io::Result<()>
where
    T: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let parts = framed.into_parts();
    let (read, mut write) = tokio::io::split(parts.io);
    let incoming = Incoming {
        // A copy, so that the buffer of HTTP can go.
        first: Some(Bytes::copy_from_slice(&parts.read_buf)).filter(|bytes| !bytes.is_empty()),
        read: Some(read),
        strange: 0,
        admitted: socket.admitted.clone(),
    };
    drop((parts.read_buf, parts.write_buf));
    let mut outgoing = pin!(WebsocketContext::with_codec(socket, incoming, Codec::new().max_size(limit)));
    // While a slow client takes nothing its actor is not asked for more, nor are its words read.
    while let Some(chunk) = outgoing.next().await {
        let chunk = chunk.map_err(|error| io::Error::other(error.to_string()))?;
        write.write_all(&chunk).await?;
    }
    write.shutdown().await
}

/// What the client sends.
struct Incoming<T> {
    /// What came behind the handshake.
    first: Option<Bytes>,
    /// None once it has ended.
    read: Option<ReadHalf<T>>,
    /// Bytes that came from a stranger.
    strange: usize,
    /// Set when the client is no stranger any more.
    admitted: Rc<Cell<bool>>,
}

impl<T: AsyncRead + Unpin> Stream for Incoming<T> {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = match self.first.take() {
            Some(first) => Poll::Ready(Ok(first)),
            None => self.poll_read(cx),
        };
        let Poll::Ready(next) = next else { return Poll::Pending };
        let next = next.and_then(|bytes| {
            self.strange += if self.admitted.get() { 0 } else { bytes.len() };
            if self.strange > STRANGER_BYTES { Err(PayloadError::Overflow) } else { Ok(bytes) }
        });
        Poll::Ready(match next {
            Ok(bytes) if bytes.is_empty() => {
                self.read = None;
                None
            }
            Ok(bytes) => Some(Ok(bytes)),
            // What came whole before is handed on yet: then it ends.
            Err(error) => self.read.take().map(|_| Err(error)),
        })
    }
}

impl<T: AsyncRead + Unpin> Incoming<T> {
    /// Nothing is read where nothing more comes.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, PayloadError>> {
        let Some(read) = &mut self.read else { return Poll::Ready(Ok(Bytes::new())) };
        let mut space = [MaybeUninit::uninit(); READ];
        let mut buffer = ReadBuf::uninit(&mut space);
        Pin::new(read)
            .poll_read(cx, &mut buffer)
            .map_ok(|()| Bytes::copy_from_slice(buffer.filled()))
            .map_err(PayloadError::Io)
    }
}
