//! Which paths a session offers and checks: what its policy leaves of the client's candidates, and our own as seen from outside.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use serde_json::json;

use super::client::{Client, chromium_listener, offer};
use super::net::{SERVER, ms, secs};
use crate::engine::reflexive::{Locals, Reflexive};
use crate::engine::session::{Model, Policy, Profile};
use crate::wire::sdp;
use crate::wire::signal::ServerMsg;

const HOST: &str = "203.0.113.5:50000";
const REFLEXIVE: &str = "203.0.113.6:50001";
const RELAYED: &str = "203.0.113.7:50002";

fn candidate(kind: &str, addr: &str) -> String {
    let addr: SocketAddr = addr.parse().expect("an address");
    format!("candidate:1 1 udp 2130706175 {} {} typ {kind} raddr 0.0.0.0 rport 0", addr.ip(), addr.port())
}

/// Where a session sends its checks for a client that has a candidate of each kind, in its offer or after it.
fn checked(policy: Option<Policy>, trickles: bool) -> BTreeSet<String> {
    let mut client = Client::with(Profile { policy, ..Profile::new(Model::Speaker, true) }, vec![SERVER]);
    let candidates =
        [("host", HOST), ("srflx", REFLEXIVE), ("relay", RELAYED)].map(|(kind, addr)| candidate(kind, addr));
    if trickles {
        assert!(matches!(client.say(&offer("offer", &chromium_listener()))[0], ServerMsg::Answer { .. }));
        for candidate in candidates {
            let init = json!({ "candidate": candidate, "sdpMid": "0", "sdpMLineIndex": 0 });
            assert_eq!(client.say(&json!({ "type": "ice-candidate", "candidate": init }).to_string()), []);
        }
    } else {
        let sdp = candidates.iter().fold(chromium_listener(), |sdp, candidate| format!("{sdp}a={candidate}\r\n"));
        let said = client.say(&offer("webrtc_offer", &sdp));
        assert!(matches!(said[..], [ServerMsg::WebrtcAnswer { .. }]), "{said:?}");
    }
    client.run_for(secs(2));
    // The offer has one of its own, of the host it was made on.
    client.sent.iter().map(ToString::to_string).filter(|addr| addr.starts_with("203.0.113.")).collect()
}

#[test]
fn a_client_that_wants_a_relay_is_checked_at_the_relay_alone() {
    let all: BTreeSet<_> = [HOST, REFLEXIVE, RELAYED].map(str::to_owned).into();
    let relayed: BTreeSet<_> = [RELAYED.to_owned()].into();
    for trickles in [false, true] {
        assert_eq!(checked(None, trickles), all);
        assert_eq!(checked(Some(Policy::All), trickles), all);
        assert_eq!(checked(Some(Policy::Udp), trickles), relayed);
        assert_eq!(checked(Some(Policy::Tcp), trickles), relayed);
    }
}

#[test]
fn our_addresses_outside_are_offered_beside_our_own() {
    let mapped: SocketAddr = "198.51.100.9:40000".parse().expect("an address");
    let locals = Locals { reflexive: vec![Reflexive { base: SERVER, mapped }], ..vec![SERVER].into() };
    let kind = |text: &str| {
        let mut words = text.split(' ').skip(2);
        let mut next = || words.next().unwrap_or_default();
        let (transport, _priority, ip, port, _typ, kind) = (next(), next(), next(), next(), next(), next());
        format!("{kind} {transport} {ip}:{port}")
    };
    let ours: BTreeSet<_> =
        [format!("host udp {SERVER}"), format!("host tcp {SERVER}"), format!("srflx udp {mapped}")].into();
    let mut client = Client::with(Profile::new(Model::Speaker, false), locals.clone());
    let said = client.say(&offer("webrtc_offer", &chromium_listener()));
    let [ServerMsg::WebrtcAnswer { sdp }] = &said[..] else { panic!("{said:?}") };
    let complete: BTreeSet<_> = sdp::attributes(sdp, "candidate").map(kind).collect();
    assert_eq!(complete, ours);
    let mut client = Client::with(Profile::new(Model::Speaker, false), locals);
    let said = client.say(&offer("offer", &chromium_listener()));
    let trickled = said.iter().filter_map(|message| match message {
        ServerMsg::IceCandidate { candidate: Some(init) } => Some(kind(&init.candidate)),
        _ => None,
    });
    assert_eq!(trickled.collect::<BTreeSet<_>>(), ours);
    client.run_for(ms(100));
}
