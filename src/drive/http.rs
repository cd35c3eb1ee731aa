//! The HTTP side: pages, API, health, metrics and the upgrade to WebSocket. What a token is worth is access control's word, not its own.

use std::borrow::Cow;

use actix_web::dev::ServiceResponse;
use actix_web::http::header::{self, ContentType, HeaderMap, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::{Compress, DefaultHeaders, ErrorHandlerResponse, ErrorHandlers};
use actix_web::{HttpRequest, HttpResponse, Route, guard, web};
use rust_embed::RustEmbed;
use serde::Serialize;

use crate::engine::door::Admission;
use crate::engine::ice_servers::drawn_user;
use crate::wire::signal::{SignalFault, TurnConfig};

use super::answers::{DRAINING, FAILED, HEADERS, NO_HANDSHAKE, NO_PEER, NOT_FOUND, PROBLEM, problem_text};
use super::clock::entropy;
use super::gate::{Gate, form_pairs};
use super::metrics;
use super::upgrade::{SIGNAL, WS};

/// A user's name in credentials for a relay, in bytes.
const LONGEST_USER: usize = 64;

/// The files of the pages, in the binary.
#[derive(RustEmbed)]
#[folder = "web/"]
#[include = "index.html"]
#[include = "style.css"]
#[include = "favicon.svg"]
#[include = "room.html"]
#[include = "room.css"]
#[include = "src/*.js"]
#[include = "src/room/*.js"]
#[include = "sdk/*.js"]
#[include = "sdk/*.d.ts"]
struct Files;

/// All routes.
pub fn routes(config: &mut web::ServiceConfig) {
    config
        .route("/", read().to(|request: HttpRequest| async move { file(&request, "index.html") }))
        .route("/favicon.ico", read().to(|request: HttpRequest| async move { file(&request, "favicon.svg") }))
        .route(
            "/assets/{path:.*}",
            read().to(|request: HttpRequest, path: web::Path<String>| async move { file(&request, &path) }),
        )
        .route(
            "/sdk/{path:.*}",
            read().to(|request: HttpRequest, path: web::Path<String>| async move { module(&request, &path) }),
        )
        .route("/room", read().to(|request: HttpRequest| async move { file(&request, "room.html") }))
        .route(WS, web::get().to(no_handshake))
        .route(SIGNAL, web::get().to(no_handshake))
        .route("/api/voices", read().to(voices))
        .route("/api/turn-credentials", read().to(turn_credentials))
        .route(
            "/healthz",
            read().to(|| async { HttpResponse::Ok().content_type(ContentType::plaintext()).body("ok\n") }),
        )
        .route("/readyz", read().to(ready))
        .route("/metrics", read().to(show_metrics))
        .default_service(web::to(|request: HttpRequest| async move {
            let known = matches!(
                request.path(),
                "/" | "/room"
                    | "/ws"
                    | "/signal"
                    | "/api/voices"
                    | "/api/turn-credentials"
                    | "/healthz"
                    | "/readyz"
                    | "/metrics"
            );
            if known && *request.method() != Method::GET {
                let mut answer = problem(StatusCode::METHOD_NOT_ALLOWED, "Only GET and HEAD are served here.");
                answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
                answer
            } else {
                problem(NOT_FOUND.0, NOT_FOUND.1)
            }
        }));
}

/// GET, and HEAD as every probe may use it (RFC 9110 section 9.1).
fn read() -> Route {
    web::route().guard(guard::Any(guard::Get()).or(guard::Head()))
}

/// Headers of every answer.
#[must_use]
pub fn headers() -> DefaultHeaders {
    HEADERS.into_iter().fold(DefaultHeaders::new(), DefaultHeaders::add)
}

/// Compression for those who ask for it.
#[must_use]
pub fn compression() -> Compress {
    Compress::default()
}

/// Answers that the framework makes of itself become problems too.
#[must_use]
pub fn error_pages<B: 'static>() -> ErrorHandlers<B> {
    ErrorHandlers::new().default_handler(|response: ServiceResponse<B>| {
        let told = response
            .headers()
            .get(header::CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().starts_with(b"application/problem"));
        if told || response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(ErrorHandlerResponse::Response(response.map_into_left_body()));
        }
        let (request, response) = response.into_parts();
        let answer = problem(response.status(), "The request could not be served.").map_into_right_body();
        Ok(ErrorHandlerResponse::Response(ServiceResponse::new(request, answer)))
    })
}

/// Problem JSON (RFC 9457 section 3).
fn problem(status: StatusCode, detail: &str) -> HttpResponse {
    HttpResponse::build(status).content_type(PROBLEM).body(problem_text(status, detail))
}

fn file(request: &HttpRequest, path: &str) -> HttpResponse {
    let Some(file) = Files::get(path) else {
        return problem(NOT_FOUND.0, NOT_FOUND.1);
    };
    let hash =
        file.metadata.sha256_hash().iter().take(16).fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    let tag = format!("\"{hash}\"");
    let known = request.headers().get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    let fresh = known.is_some_and(|tags| tags.split(',').any(|known| known.trim().trim_start_matches("W/") == tag));
    let mut response = if fresh { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    // A page must never meet another version's modules: asked for each time, sent when changed.
    response.insert_header((header::ETAG, tag)).insert_header((header::CACHE_CONTROL, "no-cache"));
    if fresh {
        return response.finish();
    }
    // By its ending a declaration of TypeScript would be a video.
    let kind = if path.ends_with(".d.ts") { "text/typescript" } else { file.metadata.mimetype() };
    let charset = if kind.starts_with("text/") { "; charset=utf-8" } else { "" };
    response.content_type(format!("{kind}{charset}")).body(match file.data {
        Cow::Borrowed(bytes) => web::Bytes::from_static(bytes),
        Cow::Owned(bytes) => web::Bytes::from(bytes),
    })
}

/// The client module, for pages of any origin: a module script is fetched by CORS, and a page that isolates itself wants to be told that it may
/// (Fetch standard, sections 3.3 and 3.7). It holds nothing that is anybody's own.
fn module(request: &HttpRequest, path: &str) -> HttpResponse {
    let mut response = file(request, &format!("sdk/{path}"));
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(header::CROSS_ORIGIN_RESOURCE_POLICY, HeaderValue::from_static("cross-origin"));
    response
}

async fn voices(gate: web::Data<Gate>) -> HttpResponse {
    HttpResponse::Ok().json(&gate.voices)
}

/// Credentials for a relay, as those who use the relay without a session want them.
#[derive(Serialize)]
struct Credentials {
    #[serde(flatten)]
    config: TurnConfig,
    /// Seconds.
    ttl: u64,
}

async fn turn_credentials(gate: web::Data<Gate>, request: HttpRequest) -> HttpResponse {
    let Some(knock) = gate.knock(request.head(), request.peer_addr()) else {
        return problem(NO_PEER.0, NO_PEER.1);
    };
    let bearer = text(request.headers(), &header::AUTHORIZATION).and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    match gate.admit(bearer.unwrap_or_default(), &knock, SignalFault::BadToken) {
        Admission::Good => {}
        Admission::Bad(fault @ SignalFault::TooManyAttempts(seconds)) => {
            let mut answer = problem(StatusCode::TOO_MANY_REQUESTS, &fault.to_string());
            answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
            return answer;
        }
        Admission::Bad(fault) => {
            let mut answer = problem(StatusCode::UNAUTHORIZED, &fault.to_string());
            answer.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            return answer;
        }
    }
    let user = form_pairs(request.query_string()).into_iter().find(|(name, _)| name == "user").map(|(_, user)| user);
    let user = user.filter(|user| !user.is_empty()).unwrap_or_else(|| {
        let mut random = [0; 16];
        entropy(&mut random);
        drawn_user(random)
    });
    if user.len() > LONGEST_USER || !user.bytes().all(|byte| byte.is_ascii_graphic()) {
        return problem(StatusCode::BAD_REQUEST, "A user is 1 to 64 printable ASCII characters without blanks.");
    }
    let Some((config, ttl)) = gate.turn_credentials(&knock, &user) else {
        return problem(StatusCode::NOT_FOUND, "This server knows of no relay that you could reach.");
    };
    HttpResponse::Ok()
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .json(Credentials { config, ttl: ttl.as_secs() })
}

async fn ready(gate: web::Data<Gate>) -> HttpResponse {
    let works = gate.health.is_good() && gate.lobby.works() && gate.workers.iter().all(actix::Addr::connected);
    let refusal = if *gate.draining.borrow() { Some(DRAINING) } else { (!works).then_some(FAILED) };
    match refusal {
        Some((status, detail)) => problem(status, detail),
        None => HttpResponse::Ok().content_type(ContentType::plaintext()).body("ready\n"),
    }
}

async fn show_metrics(gate: web::Data<Gate>) -> HttpResponse {
    HttpResponse::Ok()
        .content_type("application/openmetrics-text; version=1.0.0; charset=utf-8")
        .body(metrics::render(&gate.registry))
}

/// A WebSocket that nobody asked for properly; others do not come here.
async fn no_handshake(gate: web::Data<Gate>) -> HttpResponse {
    let (status, detail) = if *gate.draining.borrow() { DRAINING } else { NO_HANDSHAKE };
    problem(status, detail)
}

fn text<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}
