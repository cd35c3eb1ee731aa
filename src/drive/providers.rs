//! Asks providers for ICE servers, one request at a time, and tells everybody what serves. Whom to ask and what an answer means the
//! engine knows; no client ever waits for a request itself.

use std::sync::Arc;
use std::time::Duration;

use awc::{Client, Connector};
use rustls::ClientConfig;
use tokio::sync::watch;

use crate::engine::providers::{LONGEST_ANSWER, ProviderFault, Providers, Request, Serving};

use super::clock::Clock;
use super::tls::client_config;

/// What a provider may take for an answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long nothing is looked at when nothing is due.
const IDLE: Duration = Duration::from_secs(3600);

/// Keeps what serves up to date for as long as anybody looks at it.
pub async fn keep(mut providers: Providers, clock: Clock, serving: watch::Sender<Serving>) {
    let mut client = None;
    loop {
        let at = clock.moment();
        let asked = providers.ask(at);
        serving.send_replace(providers.serving(at.now));
        if serving.is_closed() {
            return;
        }
        let Some((source, request)) = asked else {
            let until = providers.wake(at.now).unwrap_or(at.now + IDLE);
            tokio::select! {
                () = clock.wait(at, until) => {}
                () = serving.closed() => return,
            }
            continue;
        };
        let known = match client.take() {
            Some(known) => Ok(known),
            None => client_config().await.map(client_of),
        };
        let answer = match known {
            Ok(known) => {
                let asked = tokio::time::timeout(PATIENCE, post(&known, request)).await;
                client = Some(known);
                asked.unwrap_or(Err(ProviderFault::Unreachable))
            }
            Err(error) => {
                tracing::warn!(%error, "no provider can be asked");
                Err(ProviderFault::Unreachable)
            }
        };
        let answer = answer.as_ref().map(|(status, body)| (*status, &body[..])).map_err(|fault| *fault);
        let provider = providers.name(source);
        match providers.answered(source, answer, clock.moment()) {
            Ok(()) => tracing::info!(provider, "ICE servers fetched"),
            Err(fault) => tracing::warn!(provider, %fault, "no ICE servers: the next source is tried"),
        }
    }
}

fn client_of(tls: Arc<ClientConfig>) -> Client {
    let connector = Connector::new().timeout(PATIENCE).rustls_0_23(tls);
    Client::builder().connector(connector).timeout(PATIENCE).disable_redirects().finish()
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

#[cfg(test)]
mod tests {
    use actix_web::{App, HttpRequest, HttpServer, web};
    use rcgen::CertifiedKey;
    use rustls::pki_types::PrivateKeyDer;
    use rustls::{RootCertStore, ServerConfig};

    use super::*;

    fn request(url: String) -> Request {
        let authorization = "Bearer the token".to_owned();
        Request { url, authorization, content_type: "application/json", body: r#"{"ttl":60}"#.to_owned() }
    }

    fn trusting(roots: RootCertStore) -> Client {
        client_of(Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth()))
    }

    async fn echo(request: HttpRequest, body: String) -> (String, actix_web::http::StatusCode) {
        let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let told = format!("{} {} {} {body}", request.path(), header("authorization"), header("content-type"));
        (told, actix_web::http::StatusCode::CREATED)
    }

    #[actix::test]
    async fn a_provider_is_asked_by_tls_if_its_certificate_is_good() {
        let CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let key = PrivateKeyDer::try_from(signing_key.serialize_der()).expect("a key");
        let tls = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .expect("they go together");
        let server = HttpServer::new(|| App::new().route("/ask", web::post().to(echo))).workers(1).disable_signals();
        let server = server.bind_rustls_0_23("localhost:0", tls).expect("a port is free");
        let url = format!("https://localhost:{}/ask", server.addrs()[0].port());
        let running = server.run();
        let handle = running.handle();
        actix::spawn(running);

        let mut roots = RootCertStore::empty();
        roots.add(cert.der().clone()).expect("it is one");
        let client = trusting(roots);
        let told = post(&client, request(url.clone())).await.map(|(status, body)| (status, String::from_utf8(body)));
        let expected = r#"/ask Bearer the token application/json {"ttl":60}"#.to_owned();
        assert_eq!(told, Ok((201, Ok(expected))));
        assert_eq!(post(&trusting(RootCertStore::empty()), request(url)).await, Err(ProviderFault::Unreachable));
        handle.stop(false).await;
    }

    #[actix::test]
    async fn an_answer_has_a_limit() {
        let server =
            HttpServer::new(|| App::new().default_service(web::to(|| async { "x".repeat(LONGEST_ANSWER + 1) })));
        let server = server.workers(1).disable_signals().bind("127.0.0.1:0").expect("a port is free");
        let url = format!("http://{}/", server.addrs()[0]);
        let running = server.run();
        let handle = running.handle();
        actix::spawn(running);
        let client = trusting(RootCertStore::empty());
        assert_eq!(post(&client, request(url)).await, Err(ProviderFault::Malformed));
        handle.stop(false).await;
    }
}
