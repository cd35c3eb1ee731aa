//! Asks providers for ICE servers, one request at a time, and tells everybody what serves. Whom to ask and what an answer means the
//! engine knows; no client ever waits for a request itself.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use awc::{Client, Connector};
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::watch;

use crate::engine::providers::{LONGEST_ANSWER, ProviderFault, Providers, Request, Serving};

use super::clock::Clock;

/// What a provider may take for an answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long nothing is looked at when nothing is due.
const IDLE: Duration = Duration::from_secs(3600);

/// What TLS to others trusts: the system's authorities, or those of `SSL_CERT_FILE`.
///
/// # Errors
/// When there are none.
pub fn tls_client() -> io::Result<ClientConfig> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        return Err(io::Error::other("the system has no certificate authorities; SSL_CERT_FILE may name some"));
    }
    Ok(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
}

/// Keeps what serves up to date for as long as anybody looks at it.
pub async fn keep(mut providers: Providers, clock: Clock, serving: watch::Sender<Serving>) {
    let mut client = None;
    loop {
        let now = clock.now();
        serving.send_replace(providers.serving(now));
        if serving.is_closed() {
            return;
        }
        let Some((source, request)) = providers.ask(now) else {
            let until = providers.wake(now).unwrap_or(now + IDLE);
            tokio::select! {
                () = tokio::time::sleep_until(until.into()) => {}
                () = serving.closed() => return,
            }
            continue;
        };
        let asked = match client.get_or_insert_with(|| client_of(tls_client())) {
            Ok(client) => tokio::time::timeout(PATIENCE, post(client, request)).await,
            Err(error) => {
                tracing::warn!(%error, "no provider can be asked");
                Ok(Err(ProviderFault::Unreachable))
            }
        };
        let answer = asked.unwrap_or(Err(ProviderFault::Unreachable));
        let answer = answer.as_ref().map(|(status, body)| (*status, &body[..])).map_err(|fault| *fault);
        let provider = providers.name(source);
        match providers.answered(source, answer, clock.now()) {
            Ok(()) => tracing::info!(provider, "ICE servers fetched"),
            Err(fault) => tracing::warn!(provider, %fault, "no ICE servers: the next source is tried"),
        }
    }
}

fn client_of(tls: io::Result<ClientConfig>) -> io::Result<Client> {
    let connector = Connector::new().timeout(PATIENCE).rustls_0_23(Arc::new(tls?));
    Ok(Client::builder().connector(connector).timeout(PATIENCE).disable_redirects().finish())
}

async fn post(client: &Client, request: Request) -> Result<(u16, Vec<u8>), ProviderFault> {
    let Request { url, authorization, content_type, body } = request;
    let sent = client
        .post(url)
        .insert_header(("authorization", authorization))
        .insert_header(("content-type", content_type))
        .insert_header(("accept", "application/json"))
        .send_body(body);
    // What an error says may hold the request; what it means is the same for us.
    let mut response = sent.await.map_err(|_| ProviderFault::Unreachable)?;
    let body = response.body().limit(LONGEST_ANSWER).await.map_err(|_| ProviderFault::Malformed)?;
    Ok((response.status().as_u16(), body.to_vec()))
}
