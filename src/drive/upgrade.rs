//! From HTTP to a WebSocket: who may have one, and the answer to that (RFC 6455 section 4.2). A WebSocket leaves HTTP behind with its first
//! request: the buffers of HTTP would cost more than all the rest of an idle one.

use std::io;
use std::pin::Pin;
use std::sync::Arc;

use actix_codec::Framed;
use actix_http::body::BodySize;
use actix_http::h1::{self, Message};
use actix_http::{HttpMessage as _, Request, Response};
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderMap};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use futures_util::future::ready;
use futures_util::{FutureExt as _, SinkExt as _};
use tokio::io::{AsyncRead, AsyncWrite};

use super::answers::{DRAINING, HEADERS, NO_HANDSHAKE, NO_PEER, NOT_FOUND, PROBLEM, Refusal, problem_text};
use super::gate::{Gate, Knock};
use super::ws;

/// Where listeners come.
pub const WS: &str = "/ws";
/// Where those come who want to meet in rooms.
pub const SIGNAL: &str = "/signal";

/// The subprotocol of the rooms; the one that a token travels as is never selected.
const PROTOCOL: &str = "voxcast";
/// Before a token that travels as a subprotocol.
const BEARER: &str = "bearer.";

const FOREIGN: Refusal = (StatusCode::FORBIDDEN, "Pages of this origin may not use the server: see ALLOWED_ORIGINS.");

/// Serves a WebSocket until it ends. What ends it early is nobody's fault but the network's. Nothing of the request is kept for as long as
/// the socket lives.
pub fn upgrade<T>(
    gate: Arc<Gate>,
    (request, mut framed): (Request, Framed<T, h1::Codec>),
) -> impl Future<Output = Result<(), actix_http::Error>> + 'static
where
    T: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let served = match handshake(&gate, &request) {
        Err(refusal) => refuse(framed, refusal).boxed_local(),
        Ok((response, knock)) => match Pin::new(&mut framed).write(Message::Item((response, BodySize::None))) {
            Ok(()) if request.path() == SIGNAL => ws::meet(gate, knock, bearer(request.headers()).as_deref(), framed),
            Ok(()) => ws::listen(gate, knock, framed),
            Err(error) => ready(Err(error)).boxed_local(),
        },
    };
    served.map(|served| {
        if let Err(error) = served {
            tracing::debug!(%error, "a WebSocket broke");
        }
        // An answer of HTTP would come too late.
        Ok(())
    })
}

/// Who wants a WebSocket, and the answer to that; or why there is none.
fn handshake(gate: &Gate, request: &Request) -> Result<(Response<()>, Knock), Refusal> {
    let (path, headers) = (request.path(), request.headers());
    if path != WS && path != SIGNAL {
        return Err(NOT_FOUND);
    }
    if *gate.draining.borrow() {
        return Err(DRAINING);
    }
    let mut response = actix_http::ws::handshake(request.head()).map_err(|_| NO_HANDSHAKE)?;
    let knock = gate.knock(request.head(), request.peer_addr()).ok_or(NO_PEER)?;
    // A page of another origin must have brought a token; what that is worth is seen later.
    let proves = if path == SIGNAL { bearer(headers).is_some() } else { knock.wishes.api_key.is_some() };
    if !knock.origin_allowed && !proves {
        return Err(FOREIGN);
    }
    if path == SIGNAL && protocols(headers).any(|name| name == PROTOCOL) {
        response.insert_header((header::SEC_WEBSOCKET_PROTOCOL, PROTOCOL));
    }
    Ok((response.finish().drop_body(), knock))
}

async fn refuse<T>(mut framed: Framed<T, h1::Codec>, (status, detail): Refusal) -> io::Result<()>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let body = Bytes::from(problem_text(status, detail));
    let mut response = Response::build(status);
    response.force_close().content_type(PROBLEM);
    for header in HEADERS {
        response.insert_header(header);
    }
    let response = response.finish().drop_body();
    framed.feed(Message::Item((response, BodySize::Sized(body.len() as u64)))).await?;
    framed.feed(Message::Chunk(Some(body))).await?;
    framed.send(Message::Chunk(None)).await?;
    framed.close().await
}

/// The token that a client offers as a subprotocol, because browsers can set no other header: `bearer.` and the token in base64url. One
/// that cannot be read opens nothing.
fn bearer(headers: &HeaderMap) -> Option<String> {
    let token = protocols(headers).find_map(|name| name.strip_prefix(BEARER))?;
    let token = URL_SAFE_NO_PAD.decode(token.trim_end_matches('=')).ok();
    Some(token.and_then(|token| String::from_utf8(token).ok()).unwrap_or_default())
}

/// What a client would speak, in its order.
fn protocols(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let lists = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).filter_map(|value| value.to_str().ok());
    lists.flat_map(|list| list.split(',')).map(str::trim)
}
