//! What a person sees at the start: the address, the token, and a QR code that a phone opens. It goes to standard output, never to a log.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;

use crate::engine::access::AuthMode;

/// The text to print: where HTTP, media and the relay listen.
#[must_use]
pub fn banner(
    http: SocketAddr,
    (media, relay): (u16, Option<u16>),
    tls: bool,
    auth: &AuthMode,
    lan: Option<IpAddr>,
) -> String {
    let scheme = if tls { "https" } else { "http" };
    let host = |ip: IpAddr| if http.ip().is_unspecified() { ip } else { http.ip() };
    let url = |ip: IpAddr| format!("{scheme}://{}/", SocketAddr::new(ip, http.port()));
    let here = url(host(IpAddr::from([127, 0, 0, 1])));
    let token = auth.token().expose();
    let mut text = String::from("\n  voxcast is listening\n\n");
    let mut line = |name: &str, value: &str| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "  {name:<14}{value}");
    };
    line("on this host", &here);
    let there = lan.map(host).filter(|ip| !ip.is_loopback()).map(url);
    if let Some(there) = &there {
        line("on the LAN", there);
    }
    line("token", token);
    if matches!(auth, AuthMode::Dev { .. }) {
        // It wants a peer on loopback, and whoever on this host connects to another address of ours comes from that one.
        let local = http.ip().is_unspecified() || http.ip().to_canonical().is_loopback();
        line(
            "",
            if local { "drawn for this run; on this host \"devtoken\" works as well" } else { "drawn for this run" },
        );
    }
    line("media", &format!("UDP and TCP port {media}"));
    if let Some(relay) = relay {
        line("relay", &format!("UDP and TCP port {relay}"));
    }
    if let Some(there) = there {
        let target = format!("{there}#token={}", encoded(token));
        if let Ok(code) = QrCode::new(&target) {
            let picture = code.render::<Dense1x2>().dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build();
            let _ = write!(text, "\n{picture}\n  {target}\n");
        }
    }
    text
}

/// As the page reads it back: `+`, `%`, `&` and others mean something there. What RFC 3986 section 2.3 leaves unreserved never does.
fn encoded(token: &str) -> String {
    token.bytes().fold(String::new(), |mut text, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(byte.into());
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::access::Secret;

    fn secret() -> Secret {
        Secret::try_from("correct-horse").expect("long enough")
    }

    #[test]
    fn a_person_finds_the_address_the_token_and_the_code() {
        let auth = AuthMode::Dev { random: secret() };
        let text = banner(
            "[::]:8080".parse().unwrap(),
            (3479, Some(3478)),
            false,
            &auth,
            Some("192.168.1.5".parse().unwrap()),
        );
        for part in [
            "http://127.0.0.1:8080/",
            "http://192.168.1.5:8080/",
            "correct-horse",
            "devtoken",
            "UDP and TCP port 3479",
            "UDP and TCP port 3478",
            "http://192.168.1.5:8080/#token=correct-horse",
            "█",
        ] {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
    }

    #[test]
    fn the_well_known_token_is_named_where_it_works() {
        let auth = AuthMode::Dev { random: secret() };
        for (http, works) in [
            ("[::]:80", true),
            ("0.0.0.0:80", true),
            ("127.0.0.2:80", true),
            ("[::1]:80", true),
            ("192.168.1.5:80", false),
        ] {
            let text = banner(http.parse().unwrap(), (3479, None), false, &auth, None);
            assert_eq!(text.contains("devtoken"), works, "{text}");
            assert!(text.contains("drawn for this run"), "{text}");
        }
    }

    #[test]
    fn a_token_reaches_the_page_whatever_is_in_it() {
        let token = "a+b&c%41d#\u{e9}-._~9";
        let auth = AuthMode::Token(Secret::try_from(token).expect("long enough"));
        let lan = Some("192.168.1.5".parse().unwrap());
        let text = banner("0.0.0.0:8080".parse().unwrap(), (3479, None), false, &auth, lan);
        let target = "http://192.168.1.5:8080/#token=a%2Bb%26c%2541d%23%C3%A9-._~9";
        let code = QrCode::new(target).unwrap();
        let picture = code.render::<Dense1x2>().dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build();
        for part in [&format!(" {token}\n"), target, &picture] {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
    }

    #[test]
    fn a_server_for_this_host_alone_shows_no_code() {
        let text = banner(
            "127.0.0.1:80".parse().unwrap(),
            (3479, None),
            true,
            &AuthMode::Token(secret()),
            Some("192.168.1.5".parse().unwrap()),
        );
        assert!(
            text.contains("https://127.0.0.1:80/") && !text.contains("192.168") && !text.contains("devtoken"),
            "{text}"
        );
    }
}
