//! The bytes of a WebSocket: from the socket to its actor, and from there back. It keeps one frame of what comes, and of what goes no more
//! than is on its way.

use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_codec::Framed;
use actix_http::h1;
use actix_http::ws::Codec;
use actix_web::error::PayloadError;
use actix_web_actors::ws::WebsocketContext;
use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use futures_util::{Stream, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf, ReadHalf};
use tokio::time::timeout;

use crate::engine::door::CloseReason;
use crate::wire::frames::{FrameFault, Frames};

use super::{CLOSING, Link, Role, SILENCE, Ws};

/// Bytes read at once.
const READ: usize = 8 * 1024;
/// Bytes that a stranger may send in all: a greeting, and a few messages that are answered by errors.
const STRANGER_BYTES: usize = 64 * 1024;
/// A client that takes longer for what it is sent is slow.
const PROMPT: Duration = Duration::from_secs(1);

/// Carries a WebSocket to its end, beginning with what HTTP has not sent yet; frames may have `limit` bytes. Boxed once it is all that is
/// left of the connection: each idle one would pay for what the others are made of.
pub(super) fn carry<R: Role, T>(
    socket: Ws<R>,
    limit: usize,
    framed: Framed<T, h1::Codec>,
) -> LocalBoxFuture<'static, io::Result<()>>
where
    T: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let parts = framed.into_parts();
    let (read, mut write) = tokio::io::split(parts.io);
    let link = socket.link.clone();
    let incoming = Incoming {
        // A copy, so that the buffer of HTTP can go.
        held: Bytes::copy_from_slice(&parts.read_buf),
        read: Some(read),
        frames: Frames::new(limit),
        handed: false,
        deaf: false,
        strange: parts.read_buf.len(),
        link: link.clone(),
    };
    let answer = parts.write_buf;
    let mut outgoing = WebsocketContext::with_codec(socket, incoming, Codec::new().max_size(limit));
    Box::pin(async move {
        hand_over(&mut write, &answer, &link).await?;
        drop(answer);
        // While a slow client takes nothing its actor is not asked for more, nor are its words read.
        while let Some(chunk) = outgoing.next().await {
            let chunk = chunk.map_err(|error| io::Error::other(error.to_string()))?;
            hand_over(&mut write, &chunk, &link).await?;
        }
        timeout(CLOSING, write.shutdown()).await?
    })
}

/// Until the system has all of it: TLS may keep the end of it otherwise.
async fn hand_over(write: &mut (impl AsyncWrite + Unpin), chunk: &[u8], link: &Link) -> io::Result<()> {
    let mut writing = pin!(async {
        write.write_all(chunk).await?;
        write.flush().await
    });
    if let Ok(written) = timeout(PROMPT, &mut writing).await {
        return written;
    }
    link.slow.set(true);
    // Nobody who is there takes longer, and the actor keeps no time meanwhile.
    timeout(SILENCE, writing).await?
}

/// What the client sends, a frame at a time: whoever decodes it reads until nothing is there, and would keep all of it.
struct Incoming<T> {
    /// What came and was not handed on.
    held: Bytes,
    /// None once it has ended.
    read: Option<ReadHalf<T>>,
    frames: Frames,
    /// The end of a frame was handed on, which is to be decoded before more is.
    handed: bool,
    /// What comes is thrown away: closing a connection on unread bytes would lose our last words.
    deaf: bool,
    /// Bytes that came from a stranger.
    strange: usize,
    link: Rc<Link>,
}

impl<T: AsyncRead + Unpin> Stream for Incoming<T> {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        while this.held.is_empty() || this.deaf {
            match this.poll_read(cx) {
                Poll::Pending => {
                    this.handed = false;
                    return Poll::Pending;
                }
                Poll::Ready(Ok(bytes)) if bytes.is_empty() => {
                    this.read = None;
                    return Poll::Ready(None);
                }
                Poll::Ready(Ok(bytes)) => {
                    this.strange += if this.link.admitted.get() { 0 } else { bytes.len() };
                    this.held = bytes;
                }
                // What came whole before is decoded yet: then it ends.
                Poll::Ready(Err(error)) => return Poll::Ready(this.read.take().map(|_| Err(PayloadError::Io(error)))),
            }
        }
        if std::mem::take(&mut this.handed) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let passed =
            if this.strange > STRANGER_BYTES { Err(FrameFault::TooLong) } else { this.frames.pass(&this.held) };
        Poll::Ready(Some(match passed {
            Ok(bytes) => {
                this.handed = this.frames.between();
                Ok(this.held.split_to(bytes))
            }
            Err(fault) => {
                this.deaf = true;
                this.link.fault.set(Some(match fault {
                    FrameFault::TooLong => CloseReason::TooBig,
                    FrameFault::Malformed => CloseReason::Protocol,
                }));
                Err(PayloadError::Incomplete(None))
            }
        }))
    }
}

impl<T: AsyncRead + Unpin> Incoming<T> {
    /// Nothing is read where nothing more comes.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        let Some(read) = &mut self.read else { return Poll::Ready(Ok(Bytes::new())) };
        let mut space = [MaybeUninit::uninit(); READ];
        let mut buffer = ReadBuf::uninit(&mut space);
        Pin::new(read).poll_read(cx, &mut buffer).map_ok(|()| Bytes::copy_from_slice(buffer.filled()))
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use tokio::io::DuplexStream;

    use super::*;

    /// What `far` writes, and what is given to the decoder at a time: until nothing is there.
    async fn given(bytes: &[u8], limit: usize, admitted: bool) -> (Vec<Vec<u8>>, Option<CloseReason>) {
        let (near, mut far) = tokio::io::duplex(1024 * 1024);
        far.write_all(bytes).await.expect("there is room");
        let link = Rc::new(Link::default());
        link.admitted.set(admitted);
        let mut incoming = Incoming::<DuplexStream> {
            held: Bytes::new(),
            read: Some(tokio::io::split(near).0),
            frames: Frames::new(limit),
            handed: false,
            deaf: false,
            strange: 0,
            link: link.clone(),
        };
        let mut given = vec![Vec::new()];
        // Twice in a row nothing: it waits for the socket.
        let mut idle = 0;
        while idle < 2 {
            match Pin::new(&mut incoming).poll_next(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(Some(Ok(bytes))) => {
                    given.last_mut().expect("it is never empty").extend_from_slice(&bytes);
                    idle = 0;
                }
                Poll::Ready(Some(Err(_))) => {}
                Poll::Ready(None) => panic!("the far end is open"),
                Poll::Pending => {
                    given.push(Vec::new());
                    idle += 1;
                }
            }
        }
        given.retain(|bytes| !bytes.is_empty());
        (given, link.fault.get())
    }

    /// A Pong of a client.
    const PONG: [u8; 8] = [0x8a, 0x82, 0, 0, 0, 0, 7, 7];

    #[tokio::test]
    async fn the_decoder_is_given_a_frame_at_a_time_however_many_are_there() {
        let (given, fault) = given(&PONG.repeat(5000), 100, true).await;
        assert!(given.iter().all(|bytes| bytes == &PONG), "{:?}", given.iter().map(Vec::len).max());
        assert_eq!((given.len(), fault), (5000, None));
    }

    #[tokio::test]
    async fn what_announces_too_much_or_is_no_frame_is_not_kept() {
        for (bad, reason) in
            [(&[0x82, 0xff, 0, 0, 1, 0, 0, 0, 0, 0][..], CloseReason::TooBig), (&[0xc1, 0x80], CloseReason::Protocol)]
        {
            let bytes = [&PONG.repeat(3)[..], bad, &vec![0; 300_000]].concat();
            let (given, fault) = given(&bytes, 100_000, true).await;
            assert_eq!((given.len(), fault), (3, Some(reason)));
        }
    }

    #[tokio::test]
    async fn a_strangers_bytes_are_counted() {
        let bytes = PONG.repeat(10_000);
        let (strange, fault) = given(&bytes, 100, false).await;
        assert!(strange.len() * PONG.len() <= STRANGER_BYTES, "{}", strange.len());
        assert_eq!(fault, Some(CloseReason::TooBig));
    }
}
