//! Several media workers behind one port: whoever the kernel hands a datagram to, the right session gets it.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::json;
use voxcast::engine::caller::{Caller, CallerHost};

use super::client::{Listener, Socket};
use super::heard::pitch;
use super::http::metric;
use super::server::{Server, TOKEN, await_that, now};

/// Peers of each test. The kernel gives the datagrams of each to any worker: that those of all come straight to their own has a
/// probability of 2^-16 with two.
const PEERS: usize = 16;

/// A listener's whole story but its end: what it said last may come after that.
pub fn story(server: &Server, mut listener: Listener) -> Listener {
    listener.start("sine-440");
    listener.frames(5);
    listener.whole(50);
    let heard = pitch(listener.heard.last(50));
    assert!((heard - 440.0).abs() < 1.0, "{heard} Hz");
    // A second offer begins anew with ICE.
    listener.restart_ice();
    listener.frames(25);
    // A client that comes back finds its session wherever that lives.
    let fresh = Socket::open(server.http, "", &[]).expect("upgraded");
    drop(std::mem::replace(&mut listener.socket, fresh));
    listener.socket.say(&json!({"type": "hello", "token": TOKEN, "session": listener.session}));
    assert!(listener.until(|listener| !listener.said.is_empty()));
    assert_eq!((&listener.said[0]["type"], &listener.said[0]["resumed"]), (&json!("hello_ack"), &json!(true)));
    // Long enough for reports and checks of both sides.
    listener.listen_for(Duration::from_secs(3));
    listener
}

/// The stories of many at once.
pub fn stories(server: &Server, connect: impl Fn() -> Listener + Sync) -> Vec<Listener> {
    std::thread::scope(|scope| {
        let peers: Vec<_> = (0..PEERS).map(|_| scope.spawn(|| story(server, connect()))).collect();
        peers.into_iter().map(|peer| peer.join().expect("every peer is served")).collect()
    })
}

/// The first character of a session's ICE ufrag, which names the worker.
fn worker(listener: &Listener) -> char {
    let ufrag = listener.answer.split("a=ice-ufrag:").nth(1).expect("an answer has a ufrag");
    ufrag.chars().next().expect("it is not empty")
}

fn workers_serve_all(workers: usize) {
    let count = workers.to_string();
    let server = Server::start(&[("WORKERS", &count)]);
    let peers = stories(&server, || Listener::connect(server.http));
    let mut placed = BTreeMap::<char, usize>::new();
    for peer in &peers {
        *placed.entry(worker(peer)).or_default() += 1;
    }
    assert_eq!(placed.len(), workers, "{placed:?}");
    assert!(placed.values().all(|sessions| *sessions == PEERS / workers), "{placed:?}");
    assert_eq!(metric(server.http, "voxcast_forwarded_parcels_total") > 0, workers > 1);
    for reason in ["unknown_source", "mailbox_full"] {
        assert_eq!(
            metric(server.http, &format!("voxcast_dropped_packets_total{{reason=\"{reason}\"}}")),
            0,
            "{reason}"
        );
    }
    for peer in peers {
        peer.socket.close();
    }
    let mut listeners: Vec<Listener> = (0..workers).map(|_| Listener::connect(server.http)).collect();
    server.signal("TERM");
    for listener in &mut listeners {
        assert!(listener.until(|listener| listener.closed), "no goodbye");
    }
    let (status, log) = server.ended();
    assert!(status.success(), "{log}");
}

#[test]
fn a_herd_that_offers_at_once_is_answered_and_disturbs_nobody() {
    const HERD: usize = 100;
    let server = Server::start(&[("WORKERS", "1")]);
    let mut first = Listener::connect(server.http);
    first.start("sine-220");
    first.frames(25);
    let mut herd: Vec<Socket> = (0..HERD).map(|_| Socket::greeted(server.http).0).collect();
    let (_, offer) = Caller::listener(&CallerHost::default(), "127.0.0.1:9".parse().expect("an address"), now());
    for socket in &mut herd {
        socket.say(&json!({"type": "webrtc_offer", "sdp": offer}));
    }
    first.whole(25);
    for socket in &mut herd {
        assert_eq!(socket.hear()["type"], "webrtc_answer");
    }
    assert_eq!(metric(server.http, "voxcast_joins_waiting"), 0);
    first.whole(25);
    first.heard.assert_no_click(220.0);
}

#[test]
fn a_worker_with_a_crowd_serves_all_the_same() {
    /// As many sessions let a worker read by the beat.
    const CROWD: usize = 260;
    let server = Server::start(&[("WORKERS", "1")]);
    let crowd: Vec<Socket> = (0..CROWD).map(|_| Socket::greeted(server.http).0).collect();
    let peers = stories(&server, || Listener::connect(server.http));
    assert_eq!(metric(server.http, "voxcast_dropped_packets_total{reason=\"unknown_source\"}"), 0);
    drop((crowd, peers));
}

#[test]
fn one_worker_serves_all() {
    workers_serve_all(1);
}

#[test]
fn two_workers_serve_all() {
    workers_serve_all(2);
}

#[test]
fn eight_workers_serve_all() {
    workers_serve_all(8);
}

#[test]
fn those_who_are_heard_go_before_all_others_where_the_system_lets_them() {
    /// By `sched_setscheduler(2)`.
    const FIFO: i64 = 1;
    const ROUND_ROBIN: i64 = 2;
    let may = Command::new("chrt").args(["--rr", "1", "true"]).stderr(Stdio::null()).status();
    if !may.is_ok_and(|status| status.success()) {
        return eprintln!("not tested: no thread may have real-time priority here");
    }
    let server = Server::start(&[("WORKERS", "3")]);
    // After its name come, among others, a thread's niceness, real-time priority and policy (proc_pid_stat(5)).
    let threads = || -> Vec<[i64; 3]> {
        let threads = std::fs::read_dir(format!("/proc/{}/task", server.pid())).expect("it runs");
        let stats = threads.filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("stat")).ok());
        stats
            .map(|stat| {
                let fields: Vec<_> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
                [16, 37, 38].map(|field| fields[field].parse().expect("a number"))
            })
            .collect()
    };
    await_that("HTTP gives way", || threads().iter().any(|[nice, ..]| *nice == 10));
    let threads = threads();
    let ranks = |wanted: i64| threads.iter().filter(move |[.., policy]| *policy == wanted).map(|[_, rank, _]| *rank);
    let (audio, media): (Vec<_>, Vec<_>) = (ranks(FIFO).collect(), ranks(ROUND_ROBIN).collect());
    assert_eq!((audio.len(), media.len()), (2, 3), "{threads:?}");
    assert!(audio.iter().min() > media.iter().max(), "{threads:?}");
}
