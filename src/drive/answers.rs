//! What all answers of HTTP share, those of pages and those to WebSockets that are not to be: headers, and problems.

use actix_web::http::{StatusCode, header};
use serde::Serialize;

/// What the page may load: its own files, and its own server's WebSocket.
const CONTENT_POLICY: &str = "default-src 'self'; connect-src 'self' ws: wss:; media-src 'self' blob:; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'self'";

/// Headers of every answer.
pub const HEADERS: [(header::HeaderName, &str); 3] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CONTENT_SECURITY_POLICY, CONTENT_POLICY),
];

/// The media type of problems (RFC 9457 section 3).
pub const PROBLEM: &str = "application/problem+json";

/// Why there is no answer but a problem: its status, and what a person reads.
pub type Refusal = (StatusCode, &'static str);

/// Of a path that there is not.
pub const NOT_FOUND: Refusal = (StatusCode::NOT_FOUND, "Nothing is served at this path.");
/// To newcomers, while the server ends.
pub const DRAINING: Refusal = (StatusCode::SERVICE_UNAVAILABLE, "The server takes no sessions now.");
/// Why it is not ready although it does.
pub const FAILED: Refusal = (StatusCode::SERVICE_UNAVAILABLE, "A part of the server has failed.");
/// To who opens the path of a WebSocket as a page.
pub const NO_HANDSHAKE: Refusal = (StatusCode::BAD_REQUEST, "This path wants the handshake of a WebSocket.");
/// To who left before they were looked at.
pub const NO_PEER: Refusal = (StatusCode::BAD_REQUEST, "The connection has no peer address.");

/// Problem JSON (RFC 9457 section 3).
#[derive(Serialize)]
struct Problem<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    title: &'a str,
    status: u16,
    detail: &'a str,
}

/// The body of a problem, JSON. `detail` is for a person.
pub(super) fn problem_text(status: StatusCode, detail: &str) -> String {
    let problem = Problem {
        kind: "about:blank",
        title: status.canonical_reason().unwrap_or("Error"),
        status: status.as_u16(),
        detail,
    };
    serde_json::to_string(&problem).expect("strings and numbers always serialize")
}
