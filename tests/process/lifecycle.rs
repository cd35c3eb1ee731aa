//! How the process starts, what it says of bad settings, and how it goes.

use std::net::{Ipv4Addr, UdpSocket};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::client::{Listener, Socket};
use super::relay::{told, uclient};
use super::server::{PATIENCE, Server, TOKEN, binary, now, run};

#[test]
fn signals_end_it_well() {
    for name in ["TERM", "INT"] {
        let server = Server::start(&[]);
        let mut listener = Listener::connect(server.http);
        listener.start("sine-440");
        listener.frames(10);
        let (mut idle, _) = Socket::greeted(server.http);
        let asked = now();
        server.signal(name);
        assert_eq!(idle.closed(), Some(1001), "{name}");
        assert!(listener.until(|listener| listener.closed), "{name}: the peer connection is not told");
        let (status, log) = server.ended();
        assert_eq!(status.code(), Some(0), "{name}: {log}");
        assert!(asked.elapsed() < Duration::from_secs(10), "{name}: {log}");
    }
}

#[test]
fn a_name_that_nobody_knows_does_not_keep_it() {
    if !Command::new("unshare").args(["--mount", "true"]).status().is_ok_and(|status| status.success()) {
        return eprintln!("not tested: it takes root to give a process another /etc/resolv.conf");
    }
    // A server of names that never answers. Other tests may run at the same time.
    let [.., a, b, c] = std::process::id().to_be_bytes();
    let silent = UdpSocket::bind((Ipv4Addr::new(127, a.max(1), b, c | 2), 53)).expect("the port of DNS");
    silent.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let resolver = std::env::temp_dir().join(format!("voxcast-resolver-{}", std::process::id()));
    let address = silent.local_addr().expect("bound").ip();
    std::fs::write(&resolver, format!("nameserver {address}\noptions timeout:30\n")).expect("written");
    let turn = [("TURN_URLS", "turn:turn.example.com"), ("TURN_SECRET", "a-secret-for-tests")];
    let server = Server::start_with_resolver(&resolver, &turn);
    std::fs::remove_file(&resolver).expect("it is ours");
    let _listener = Listener::connect(server.http);
    silent.recv(&mut [0; 512]).expect("the name is looked up");
    let asked = now();
    server.signal("TERM");
    let (status, log) = server.ended();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(asked.elapsed() < Duration::from_secs(10), "{log}");
}

#[test]
fn nothing_secret_is_logged() {
    for format in ["human", "json"] {
        let server = Server::start(&[("LOG_FORMAT", format), ("LOG", "trace")]);
        let mut listener = Listener::connect(server.http);
        listener.start("sine-440");
        listener.frames(5);
        drop(Socket::open(server.http, &format!("?api_key={TOKEN}"), &[]).expect("upgraded"));
        let (_socket, relayed) = told(&server);
        let (done, text) = uclient(&relayed, &["-y", "-c", "-n", "2", "-m", "1"]);
        assert!(done, "{text}");
        let session = listener.session.clone();
        let password = voxcast::wire::sdp::attribute(&listener.answer, "ice-pwd").expect("it has one").to_owned();
        listener.socket.close();
        server.signal("TERM");
        let (_, log) = server.ended();
        assert!(log.contains("a=ice-pwd:[redacted]"), "{format}: the answer is not in {log}");
        for secret in [TOKEN, &session, &password, &relayed.credential] {
            assert!(!log.contains(secret), "{format}: {secret} in {log}");
        }
        if format == "json" {
            assert!(
                log.lines().all(|line| serde_json::from_str::<Value>(line).is_ok_and(|line| line["level"].is_string())),
                "{log}"
            );
        }
    }
}

#[test]
fn wrong_settings_name_their_variable() {
    for (variable, value) in [
        ("PORT", "http"),
        ("MEDIA_PORT", "70000"),
        ("RELAY", "maybe"),
        ("RELAY_PORT", "3479"),
        ("TURNS_PORT", "x"),
        ("RTP_PORT_RANGE", "many"),
        ("STUN_SERVERS", "stun.example"),
        ("TURN_TTL", "1s"),
        ("ICE_SERVERS_JSON", "[{}]"),
        ("MAX_SESSIONS", "0"),
        ("ROOMS_OPEN", "x"),
        ("ROOM_SIZE", "0"),
        ("MAX_ROOMS", "0"),
        ("ROOMS_PER_ADDRESS", "0"),
        ("PUBLIC_IP", "my-host"),
        ("ALLOWED_ORIGINS", "example.com"),
        ("TRUSTED_PROXIES", "everyone"),
        ("AUTH_TOKEN", "short"),
        ("LOG_FORMAT", "xml"),
        ("HOST", "somewhere"),
        ("TLS_CERT", "/nowhere/cert.pem"),
    ] {
        let (code, _, err) = run(&[], &[(variable, value)]);
        assert_eq!(code, Some(2), "{variable}: {err}");
        assert!(err.contains(variable), "{variable}: {err}");
    }
    let missing = [
        ("TLS_CERT", "/nowhere/cert.pem"),
        ("TLS_KEY", "/nowhere/key.pem"),
        ("PORT", "0"),
        ("MEDIA_PORT", "0"),
        ("HOST", "127.0.0.1"),
    ];
    let (code, _, err) = run(&[], &missing);
    assert_eq!(code, Some(1));
    assert!(err.contains("TLS_CERT") && err.contains("/nowhere/cert.pem"), "{err}");
}

#[test]
fn an_empty_variable_or_flag_hides_a_line_of_the_file() {
    let folder = std::env::temp_dir().join(format!("voxcast-dotenv-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::write(folder.join(".env"), "PORT=http\nMEDIA_PORT=x\n").expect("a file");
    let fault = |flags: &[&str], variables: &[(&str, &str)]| {
        let mut command = binary();
        let output = command.args(flags).envs(variables.iter().copied()).current_dir(&folder).output();
        String::from_utf8(output.expect("the binary runs").stderr).expect("text")
    };
    for (flags, variables, name) in [
        (&[][..], &[][..], "PORT"),
        (&[], &[("PORT", "")], "MEDIA_PORT"),
        (&["--port="], &[], "MEDIA_PORT"),
        (&["--port="], &[("PORT", "odd")], "MEDIA_PORT"),
    ] {
        let told = fault(flags, variables);
        assert!(told.starts_with(&format!("error: {name}: ")), "{flags:?} {variables:?}: {told}");
    }
    std::fs::remove_dir_all(&folder).expect("it is there");
}

#[test]
fn ports_in_use_are_told_by_name() {
    let server = Server::start(&[]);
    let http = server.http.port().to_string();
    let (code, _, err) = run(&["--host", "127.0.0.1", "--port", &http, "--media-port", "0"], &[]);
    assert_eq!(code, Some(1));
    assert!(err.contains("PORT") && err.contains(&http), "{err}");
    let mut probe = Socket::open(server.http, &format!("?api_key={TOKEN}"), &[]).expect("upgraded");
    let media = probe.hear()["server_port"].as_u64().expect("a port").to_string();
    let (code, _, err) = run(&["--host", "127.0.0.1", "--port", "0", "--media-port", &media], &[]);
    assert_eq!(code, Some(1));
    assert!(err.contains("MEDIA_PORT") && err.contains(&media), "{err}");
    let mine = ["--host", "127.0.0.1", "--port", "0", "--media-port", "0", "--relay-port", &media];
    let (code, _, err) = run(&mine, &[]);
    assert_eq!(code, Some(1));
    assert!(err.contains("RELAY_PORT") && err.contains(&media) && err.contains("RELAY=off"), "{err}");
}

#[test]
fn help_documents_every_setting() {
    let (code, out, _) = run(&["--help"], &[]);
    assert_eq!(code, Some(0));
    for variable in [
        "HOST",
        "PORT",
        "TLS_CERT",
        "TLS_KEY",
        "ALLOWED_ORIGINS",
        "TRUSTED_PROXIES",
        "LOG_FORMAT",
        "MAX_SESSIONS",
        "ROOMS_OPEN",
        "ROOM_SIZE",
        "MAX_ROOMS",
        "ROOMS_PER_ADDRESS",
        "AUTH_TOKEN",
        "MEDIA_PORT",
        "RELAY",
        "RELAY_PORT",
        "TURNS_PORT",
        "RTP_PORT_RANGE",
        "STUN_SERVERS",
        "TURN_URLS",
        "TURN_SECRET",
        "TURN_TTL",
        "TWILIO_ACCOUNT_SID",
        "TWILIO_AUTH_TOKEN",
        "CLOUDFLARE_TURN_KEY_ID",
        "CLOUDFLARE_TURN_API_TOKEN",
        "ICE_SERVERS_JSON",
        "PUBLIC_IP",
    ] {
        assert!(out.contains(variable), "{variable}");
    }
    assert!(out.contains("load"));
}
