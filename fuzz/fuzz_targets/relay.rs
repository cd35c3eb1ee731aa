//! Trust boundary: the relay's port. Whatever a client signs, sends and forges, nothing leaves for a peer that is not ours, strangers
//! are answered shortly, and allocations keep to their quotas.
#![no_main]

use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use stun_types::attribute::{AttributeType, Nonce, RawAttribute, Realm, Username};
use stun_types::message::{
    IntegrityAlgorithm, IntegrityKey, LongTermKeyCredentials, Message, MessageClass, MessageType, MessageWrite as _,
    MessageWriteExt as _, MessageWriteVec, Method,
};
use voxcast::engine::credentials::{Credentials, TurnSecret};
use voxcast::engine::host::Hmac;
use voxcast::engine::moment::Moment;
use voxcast::engine::relay::{Client, Leg, Nonces, PER_USER, Plan, REALM, Registry, Relay, RelayEffect, RelayParts};
use voxcast::wire::ids::WorkerId;

#[expect(clippy::disallowed_methods, reason = "an Instant can only be read; time in here is counted from this one")]
static ZERO: LazyLock<Instant> = LazyLock::new(Instant::now);
static SECRET: LazyLock<TurnSecret> = LazyLock::new(|| TurnSecret::new(b"secret", Hmac::default()));
static SIGNERS: LazyLock<[(Credentials, IntegrityKey); 2]> = LazyLock::new(|| {
    ["ann", "bob"].map(|user| {
        let minted = SECRET.mint(user, 10_000);
        let Credentials { username, credential } = minted.clone();
        let key = LongTermKeyCredentials::new(username, credential, REALM.into()).make_key(IntegrityAlgorithm::Sha1);
        (minted, key)
    })
});
const CANDIDATE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 10)), 3479);

#[derive(Arbitrary, Debug)]
enum Op {
    Raw(u8, Vec<u8>),
    /// A message with these attributes, signed by one of the users or by nobody.
    Message {
        client: u8,
        method: u8,
        class: u8,
        signer: u8,
        attributes: Vec<Attribute>,
    },
    FromPeer {
        allocation: u8,
        ours: bool,
        bytes: Vec<u8>,
    },
    Wait(u16),
    Gone(u8),
    EndUser(bool),
}

#[derive(Arbitrary, Debug)]
enum Attribute {
    Any(u16, Vec<u8>),
    Transport(u8),
    Lifetime(u32),
    Channel(u16),
    Family(u8),
    /// Of a candidate, of an allocation that was seen, or of anybody; xored as the standard has it.
    Peer(Peer),
    Data(Vec<u8>),
}

#[derive(Arbitrary, Debug)]
enum Peer {
    Candidate,
    Allocation(u8),
    V4([u8; 4], u16),
    V6([u8; 16], u16),
}

fn entropy(bytes: &mut [u8]) {
    bytes.fill(7);
}

fn client(number: u8) -> Client {
    let leg = if number & 1 == 0 { Leg::Udp } else { Leg::Tcp };
    Client {
        leg,
        remote: SocketAddr::from(([203, 0, 113, number >> 4], 5_000 + u16::from(number & 0x0f))),
        local: SocketAddr::from(([192, 0, 2, 10], 3478)),
    }
}

fuzz_target!(|ops: Vec<Op>| {
    let registry = Arc::new(Registry::new(&[CANDIDATE], 40));
    let nonces = Nonces::new([1; 20], Hmac::default(), *ZERO);
    let mut relay = Relay::new(RelayParts {
        worker: WorkerId(0),
        plan: Plan::new(1),
        registry: registry.clone(),
        secret: SECRET.clone(),
        nonces: nonces.clone(),
        entropy,
        epoch: Moment { now: *ZERO, unix: 1_000 },
    });
    let mut now = *ZERO;
    let mut relayed: Vec<SocketAddr> = Vec::new();
    for (step, op) in ops.into_iter().enumerate() {
        let put = |relay: &mut Relay, relayed: &mut Vec<SocketAddr>, from: Client, bytes: &[u8], signed: bool| {
            let mut answers = Vec::new();
            let registry = &registry;
            let _ = relay.receive(from, bytes, now, |effect| match effect {
                RelayEffect::ToClient { client, bytes: answer } => {
                    assert_eq!(client, from, "an answer goes to who asked");
                    assert!(signed || from.leg == Leg::Tcp || answer.len() <= 3 * bytes.len());
                    answers.push(answer);
                }
                RelayEffect::ToPeer { to, bytes: data, .. } => {
                    // A channel may have been bound to an allocation that is gone by now; nobody gets that.
                    assert!(registry.is_ours(to) || voxcast::engine::relay::is_virtual(to.ip()), "{to}");
                    assert!(data.len() <= bytes.len());
                }
            });
            assert!(answers.len() <= 1);
            for answer in answers {
                let message = Message::from_bytes(&answer).expect("the relay writes well");
                if let Ok(address) = message.attribute::<turn_types::attribute::XorRelayedAddress>() {
                    relayed.push(address.addr(message.transaction_id()));
                }
            }
        };
        match op {
            Op::Raw(from, bytes) => put(&mut relay, &mut relayed, client(from), &bytes, false),
            Op::Message { client: from, method, class, signer, attributes } => {
                let from = client(from);
                let class = if class & 1 == 0 { MessageClass::Request } else { MessageClass::Indication };
                let kind = MessageType::from_class_method(class, Method::new(u16::from(method & 0x0f)));
                let transaction = (step as u128 + 1).into();
                let mut message = Message::builder(kind, transaction, MessageWriteVec::new());
                for attribute in attributes {
                    let (kind, value) = raw(attribute, &relayed);
                    // What signs and what sums up has writers of its own.
                    if value.len() < 1_000 && !matches!(kind, 0x0008 | 0x001c | 0x8028) {
                        let _ = message.add_attribute(&RawAttribute::new(AttributeType::new(kind), &value));
                    }
                }
                let signed = signer & 3 != 3;
                if signed {
                    let (Credentials { username, .. }, key) = &SIGNERS[usize::from(signer & 1)];
                    let _ = message.add_attribute(&Username::new(username).expect("short"));
                    let _ = message.add_attribute(&Realm::new(REALM).expect("short"));
                    let _ = message.add_attribute(&Nonce::new(&nonces.make(from.remote, now)).expect("short"));
                    let _ = message.add_message_integrity_with_key(key, IntegrityAlgorithm::Sha1);
                }
                put(&mut relay, &mut relayed, from, &message.finish(), signed);
            }
            Op::FromPeer { allocation, ours, bytes } => {
                let Some(to) = relayed.get(usize::from(allocation) % relayed.len().max(1)).copied() else { continue };
                let peer = if ours { CANDIDATE } else { relayed[0] };
                let bytes = &bytes[..bytes.len().min(2_048)];
                let _ = relay.deliver(to, peer, bytes, now, |effect| match effect {
                    RelayEffect::ToClient { bytes: framed, .. } => assert!(framed.len() <= bytes.len() + 80),
                    RelayEffect::ToPeer { .. } => panic!("it goes to the client"),
                });
            }
            Op::Wait(ms) => {
                now += Duration::from_millis(u64::from(ms) * 20);
                relay.tick(now);
            }
            Op::Gone(from) => relay.disconnected(client(from)),
            Op::EndUser(ann) => relay.end_user(if ann { "ann" } else { "bob" }),
        }
        assert_eq!(relay.len(), registry.len());
        assert!(relay.len() <= 40 && relay.len() <= 2 * PER_USER as usize);
    }
    relay.end_user("ann");
    relay.end_user("bob");
    assert!(relay.is_empty() && registry.is_empty());
});

/// The type and the bytes of an attribute. Addresses of IPv4 are xored with the cookie; those of IPv6 are left to chance.
fn raw(attribute: Attribute, relayed: &[SocketAddr]) -> (u16, Vec<u8>) {
    match attribute {
        Attribute::Any(kind, value) => (kind, value),
        Attribute::Transport(protocol) => (0x0019, vec![protocol, 0, 0, 0]),
        Attribute::Lifetime(seconds) => (0x000d, seconds.to_be_bytes().to_vec()),
        Attribute::Channel(number) => (0x000c, [&number.to_be_bytes()[..], &[0; 2]].concat()),
        Attribute::Family(family) => (0x0017, vec![family, 0, 0, 0]),
        Attribute::Data(data) => (0x0013, data),
        Attribute::Peer(peer) => {
            let address = match peer {
                Peer::Candidate => CANDIDATE,
                Peer::Allocation(number) => {
                    relayed.get(usize::from(number) % relayed.len().max(1)).copied().unwrap_or(CANDIDATE)
                }
                Peer::V4(octets, port) => SocketAddr::from((octets, port)),
                Peer::V6(octets, port) => SocketAddr::from((octets, port)),
            };
            let port = address.port() ^ 0x2112;
            let mut value = match address {
                SocketAddr::V4(_) => vec![0, 1],
                SocketAddr::V6(_) => vec![0, 2],
            };
            value.extend(port.to_be_bytes());
            match address {
                SocketAddr::V4(address) => {
                    let octets = address.ip().octets();
                    value.extend(octets.iter().zip([0x21, 0x12, 0xa4, 0x42]).map(|(octet, cookie)| octet ^ cookie));
                }
                SocketAddr::V6(address) => value.extend(address.ip().octets()),
            }
            (0x0012, value)
        }
    }
}
