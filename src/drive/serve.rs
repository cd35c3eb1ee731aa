//! The front of HTTP: its thread, its connections, pages and API on one side and WebSockets on the other. It knows neither.

use std::io;
use std::net::TcpListener;
use std::time::Duration;

use actix_codec::Framed;
use actix_http::body::BoxBody;
use actix_http::h1::{Codec, ExpectHandler};
use actix_http::{HttpService, Request};
use actix_server::{GracefulShutdownSignal, Server, ServerHandle};
use actix_service::boxed::{self, BoxServiceFactory};
use actix_service::{
    IntoServiceFactory as _, Service as _, ServiceFactoryExt as _, apply_fn_factory, fn_service, map_config,
};
use actix_web::dev::{AppConfig, ServiceResponse};
use actix_web::{App, HttpResponse, web};
use tokio::io::{AsyncRead, AsyncWrite};

use super::gate::Gate;
use super::http;
use super::priority;
use super::upgrade::upgrade;
use super::visits::{self, Visits};

/// How long HTTP answers that are under way may take after that.
const HTTP_SECONDS: u64 = 3;
/// How long a client may take to close a connection that we have closed.
const DISCONNECTED: Duration = Duration::from_secs(1);

/// Serves pages, API and WebSockets from now on, on so many connections at most. Of each that is no WebSocket yet, a request is awaited with
/// this `patience`.
///
/// # Errors
/// When the system has no thread for it.
pub fn serve(
    gate: web::Data<Gate>,
    listener: TcpListener,
    tls: Option<rustls::ServerConfig>,
    connections: usize,
    patience: Duration,
) -> io::Result<ServerHandle> {
    let builder = Server::build().workers(1).max_concurrent_connections(connections);
    let builder = builder.shutdown_timeout(HTTP_SECONDS).disable_signals();
    let leaving = builder.graceful_shutdown_signal();
    let visits = Visits::new(gate.clone(), connections, patience);
    let builder = match tls {
        Some(tls) => builder.listen("https", listener, move || {
            visits.clone().bound(http_service(&gate, &leaving).rustls_0_23(tls.clone()))
        })?,
        None => builder.listen("http", listener, move || visits.clone().bound(http_service(&gate, &leaving).tcp()))?,
    };
    let server = builder.run();
    let handle = server.handle();
    actix::spawn(async move {
        if let Err(error) = server.await {
            tracing::error!(%error, "HTTP server");
        }
    });
    Ok(handle)
}

/// Pages and the API, and beside them the WebSockets, which take over their connection.
type WebService<T> = HttpService<
    T,
    BoxServiceFactory<(), Request, ServiceResponse, HttpResponse, ()>,
    BoxBody,
    ExpectHandler,
    BoxServiceFactory<(), (Request, Framed<T, Codec>), (), actix_http::Error, ()>,
>;

/// What an HTTP worker does with its connections; called on its thread.
fn http_service<T>(gate: &web::Data<Gate>, leaving: &GracefulShutdownSignal) -> WebService<T>
where
    T: AsyncRead + AsyncWrite + Unpin + 'static,
{
    priority::give_way();
    let pages = App::new()
        .app_data(gate.clone())
        .wrap(http::error_pages())
        .wrap(http::headers())
        .wrap(http::compression())
        .configure(http::routes)
        .into_factory()
        .map(ServiceResponse::map_into_boxed_body)
        .map_err(|error| error.error_response());
    let pages = apply_fn_factory(map_config(pages, |()| AppConfig::default()), |request: Request, pages: &_| {
        visits::asked();
        pages.call(request)
    });
    let gate = gate.clone().into_inner();
    let sockets = fn_service(move |handshake| {
        visits::upgraded();
        upgrade(gate.clone(), handshake)
    });
    let leaving = leaving.clone();
    HttpService::build()
        .graceful_shutdown_signal(move || {
            let leaving = leaving.clone();
            async move { leaving.notified().await }
        })
        // Words are small and many; each is awaited by somebody.
        .tcp_nodelay(true)
        .client_disconnect_timeout(DISCONNECTED)
        .upgrade(boxed::factory(sockets))
        .finish(boxed::factory(pages))
}
