//! The closed relay against clients that are well-behaved, forgetful and hostile, on synthetic time.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use stun_types::AddressFamily;
use stun_types::attribute::{
    AttributeStaticType as _, AttributeWrite, ErrorCode, Nonce, Realm, UnknownAttributes, Username, XorMappedAddress,
};
use stun_types::message::{
    BINDING, IntegrityAlgorithm, IntegrityKey, LongTermKeyCredentials, Message, MessageClass, MessageType,
    MessageWrite as _, MessageWriteExt as _, MessageWriteVec, Method, TransactionId,
};
use turn_types::attribute::{
    ChannelNumber, Data, EvenPort, Lifetime, RequestedAddressFamily, RequestedTransport, XorPeerAddress,
    XorRelayedAddress,
};
use turn_types::message::{ALLOCATE, CHANNEL_BIND, CREATE_PERMISSION, DATA, REFRESH, SEND};

use super::net::{Dice, SERVER, ms, secs, zero};
use crate::engine::credentials::{Credentials, TurnSecret};
use crate::engine::host::Hmac;
use crate::engine::moment::Moment;
use crate::engine::relay::{
    Client, Leg, Nonces, PER_USER, Plan, REALM, Registry, Relay, RelayDrop, RelayEffect, RelayParts, is_virtual,
};
use crate::engine::turn::{Client as TurnClient, Protocol as _, ProtocolEvent, TurnServer, TurnTransport};
use crate::wire::framing::Framing;
use crate::wire::ids::WorkerId;

/// Seconds since 1970 at the beginning of time.
const UNIX: u64 = 1_800_000_000;
/// A second candidate of ours.
const OTHER: SocketAddr =
    SocketAddr::new(IpAddr::V6(std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10)), 3479);

/// The relay, its registry, and whoever wants to use it.
struct Scene {
    relay: Relay,
    registry: Arc<Registry>,
    secret: TurnSecret,
    now: Instant,
    transactions: u128,
    /// What went to peers: from, to and bytes.
    passed: Vec<(SocketAddr, SocketAddr, Vec<u8>)>,
}

/// A client's view of itself.
#[derive(Clone, Debug)]
struct Guest {
    client: Client,
    credentials: Credentials,
    nonce: String,
}

/// What came back to a client.
#[derive(Debug)]
struct Answer(Vec<u8>);

impl Answer {
    fn message(&self) -> Message<'_> {
        Message::from_bytes(&self.0).expect("the relay writes well")
    }

    /// 0 for a success.
    fn code(&self) -> u16 {
        match self.message().class() {
            MessageClass::Success => 0,
            MessageClass::Error => self.message().attribute::<ErrorCode>().expect("an error has a code").code(),
            class => panic!("{class:?}"),
        }
    }

    fn relayed(&self) -> SocketAddr {
        let message = self.message();
        let transaction = message.transaction_id();
        message.attribute::<XorRelayedAddress>().expect("a relayed address").addr(transaction)
    }

    fn lifetime(&self) -> u32 {
        self.message().attribute::<Lifetime>().expect("a lifetime").seconds()
    }

    fn nonce(&self) -> String {
        self.message().attribute::<Nonce>().expect("a nonce").nonce().to_owned()
    }

    fn is_signed_by(&self, key: &IntegrityKey) -> bool {
        self.message().validate_integrity_with_key(key).is_ok()
    }
}

fn entropy(bytes: &mut [u8]) {
    thread_local!(static DICE: std::cell::Cell<Dice> = const { std::cell::Cell::new(Dice::seeded(5)) });
    for byte in bytes {
        let mut dice = DICE.get();
        *byte = dice.roll().to_le_bytes()[0];
        DICE.set(dice);
    }
}

fn key_of(credentials: &Credentials) -> IntegrityKey {
    let Credentials { username, credential } = credentials.clone();
    LongTermKeyCredentials::new(username, credential, REALM.into()).make_key(IntegrityAlgorithm::Sha1)
}

impl Scene {
    fn new() -> Self {
        Self::with_room(1_000)
    }

    fn with_room(most: usize) -> Self {
        let hmac = Hmac::default();
        let registry = Arc::new(Registry::new(&[SERVER, OTHER], most));
        let secret = TurnSecret::new(b"a secret of this run", hmac);
        let parts = RelayParts {
            worker: WorkerId(0),
            plan: Plan::new(1),
            registry: registry.clone(),
            secret: secret.clone(),
            nonces: Nonces::new([3; 20], hmac, zero()),
            entropy,
            epoch: Moment { now: zero(), unix: UNIX },
        };
        Self { relay: Relay::new(parts), registry, secret, now: zero(), transactions: 1, passed: Vec::new() }
    }

    fn guest(&self, leg: Leg, port: u16, user: &str) -> Guest {
        let client = Client {
            leg,
            remote: SocketAddr::from(([203, 0, 113, 7], port)),
            local: SocketAddr::new(SERVER.ip(), 3478),
        };
        Guest { client, credentials: self.secret.mint(user, UNIX + 3_600), nonce: String::new() }
    }

    fn transaction(&mut self) -> TransactionId {
        self.transactions += 1;
        TransactionId::from(self.transactions)
    }

    /// Puts bytes in; gives what comes back to whom.
    fn put(&mut self, client: Client, bytes: &[u8]) -> Result<Vec<(Client, Vec<u8>)>, RelayDrop> {
        let Self { relay, passed, now, .. } = self;
        let mut back = Vec::new();
        relay.receive(client, bytes, *now, |effect| match effect {
            RelayEffect::ToClient { client, bytes } => back.push((client, bytes)),
            RelayEffect::ToPeer { from, to, bytes } => passed.push((from, to, bytes.to_vec())),
        })?;
        Ok(back)
    }

    fn unsigned(&mut self, method: Method, attributes: &[&dyn AttributeWrite]) -> Vec<u8> {
        let kind = MessageType::from_class_method(MessageClass::Request, method);
        let mut message = Message::builder(kind, self.transaction(), MessageWriteVec::new());
        for attribute in attributes {
            message.add_attribute(*attribute).expect("it fits");
        }
        message.finish()
    }

    fn sign(guest: &Guest, bytes: &[u8]) -> Vec<u8> {
        let unsigned = Message::from_bytes(bytes).expect("ours");
        let mut message = Message::builder(unsigned.get_type(), unsigned.transaction_id(), MessageWriteVec::new());
        for (_, raw) in unsigned.iter_attributes() {
            message.add_attribute(&raw).expect("it fits");
        }
        message.add_attribute(&Username::new(&guest.credentials.username).expect("short")).expect("it fits");
        message.add_attribute(&Realm::new(REALM).expect("short")).expect("it fits");
        message.add_attribute(&Nonce::new(&guest.nonce).expect("short")).expect("it fits");
        message.add_message_integrity_with_key(&key_of(&guest.credentials), IntegrityAlgorithm::Sha1).expect("it fits");
        message.finish()
    }

    /// The one answer to these bytes.
    fn answer(&mut self, client: Client, bytes: &[u8]) -> Answer {
        let mut back = self.put(client, bytes).expect("it is answered");
        assert_eq!((back.len(), back[0].0), (1, client));
        Answer(back.remove(0).1)
    }

    /// A signed request, with a nonce that is fetched first where there is none.
    fn ask(&mut self, guest: &mut Guest, method: Method, attributes: &[&dyn AttributeWrite]) -> Answer {
        if guest.nonce.is_empty() {
            let bytes = self.unsigned(ALLOCATE, &[&RequestedTransport::new(17)]);
            let challenge = self.answer(guest.client, &bytes);
            assert_eq!(challenge.code(), 401);
            guest.nonce = challenge.nonce();
        }
        let bytes = self.unsigned(method, attributes);
        let signed = Self::sign(guest, &bytes);
        self.answer(guest.client, &signed)
    }

    fn allocate(&mut self, guest: &mut Guest) -> Answer {
        self.ask(guest, ALLOCATE, &[&RequestedTransport::new(17)])
    }

    /// An allocation, and its relayed address.
    fn allocated(&mut self, leg: Leg, port: u16) -> (Guest, SocketAddr) {
        let mut guest = self.guest(leg, port, "ann");
        let answer = self.allocate(&mut guest);
        assert_eq!(answer.code(), 0);
        (guest, answer.relayed())
    }

    fn permit(&mut self, guest: &mut Guest, peer: SocketAddr) -> u16 {
        let bytes = self.transaction_with_peer(guest, CREATE_PERMISSION, peer, None);
        self.answer(guest.client, &bytes).code()
    }

    fn bind(&mut self, guest: &mut Guest, number: u16, peer: SocketAddr) -> u16 {
        let bytes = self.transaction_with_peer(guest, CHANNEL_BIND, peer, Some(number));
        self.answer(guest.client, &bytes).code()
    }

    fn transaction_with_peer(
        &mut self,
        guest: &Guest,
        method: Method,
        peer: SocketAddr,
        number: Option<u16>,
    ) -> Vec<u8> {
        let transaction = self.transaction();
        let kind = MessageType::from_class_method(MessageClass::Request, method);
        let mut message = Message::builder(kind, transaction, MessageWriteVec::new());
        message.add_attribute(&XorPeerAddress::new(peer, transaction)).expect("it fits");
        if let Some(number) = number {
            message.add_attribute(&ChannelNumber::new(number)).expect("it fits");
        }
        Self::sign(guest, &message.finish())
    }

    fn send(&mut self, guest: &Guest, peer: SocketAddr, data: &[u8]) -> Result<(), RelayDrop> {
        let transaction = self.transaction();
        let kind = MessageType::from_class_method(MessageClass::Indication, SEND);
        let mut message = Message::builder(kind, transaction, MessageWriteVec::new());
        message.add_attribute(&XorPeerAddress::new(peer, transaction)).expect("it fits");
        message.add_attribute(&Data::new(data)).expect("it fits");
        let back = self.put(guest.client, &message.finish())?;
        assert_eq!(back, []);
        Ok(())
    }

    /// A peer sends; gives what reaches the client.
    fn deliver(&mut self, relayed: SocketAddr, peer: SocketAddr, data: &[u8]) -> Result<Vec<u8>, RelayDrop> {
        let mut back = Vec::new();
        self.relay.deliver(relayed, peer, data, self.now, |effect| match effect {
            RelayEffect::ToClient { bytes, .. } => back = bytes,
            RelayEffect::ToPeer { .. } => panic!("it goes to the client"),
        })?;
        Ok(back)
    }
}

fn channel_data(number: u16, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len()).expect("short");
    [&number.to_be_bytes()[..], &length.to_be_bytes(), data].concat()
}

#[test]
fn a_binding_request_is_told_where_it_came_from() {
    let mut scene = Scene::new();
    let guest = scene.guest(Leg::Udp, 5_000, "ann");
    let bytes = scene.unsigned(BINDING, &[]);
    let answer = scene.answer(guest.client, &bytes);
    let message = answer.message();
    let mapped = message.attribute::<XorMappedAddress>().expect("it is there").addr(message.transaction_id());
    assert_eq!((answer.code(), mapped), (0, guest.client.remote));
}

#[test]
fn an_allocation_is_made_used_and_given_back() {
    for leg in [Leg::Udp, Leg::Tcp] {
        let mut scene = Scene::new();
        let (mut guest, relayed) = scene.allocated(leg, 5_000);
        assert!(is_virtual(relayed.ip()) && relayed.port() >= 1024);
        assert!(scene.registry.is_ours(relayed));
        // Our own sessions are heard at once, as indications.
        let heard = scene.deliver(relayed, SERVER, b"check").expect("it is let through");
        let message = Message::from_bytes(&heard).expect("an indication");
        assert_eq!((message.class(), message.method()), (MessageClass::Indication, DATA));
        let peer = message.attribute::<XorPeerAddress>().expect("a peer").addr(message.transaction_id());
        assert_eq!((peer, message.attribute::<Data>().expect("data").data()), (SERVER, &b"check"[..]));
        // To send, the client must have said so.
        assert_eq!(scene.send(&guest, SERVER, b"early"), Err(RelayDrop::Forbidden));
        assert_eq!(scene.permit(&mut guest, SERVER), 0);
        scene.send(&guest, SERVER, b"there").expect("it is permitted");
        assert_eq!(scene.bind(&mut guest, 0x4001, SERVER), 0);
        scene.put(guest.client, &channel_data(0x4001, b"by channel")).expect("it is bound");
        let sent: Vec<_> =
            scene.passed.drain(..).map(|(from, to, bytes)| (from == relayed && to == SERVER, bytes)).collect();
        assert_eq!(sent, [(true, b"there".to_vec()), (true, b"by channel".to_vec())]);
        let heard = scene.deliver(relayed, SERVER, b"abcde").expect("it is let through");
        let padding: &[u8] = if leg == Leg::Tcp { &[0; 3] } else { &[] };
        assert_eq!(heard, [&channel_data(0x4001, b"abcde")[..], padding].concat());
        // Given back.
        let answer = scene.ask(&mut guest, REFRESH, &[&Lifetime::new(0)]);
        assert_eq!((answer.code(), answer.lifetime()), (0, 0));
        assert_eq!((scene.relay.len(), scene.registry.len()), (0, 0));
        assert_eq!(scene.deliver(relayed, SERVER, b"late"), Err(RelayDrop::Unknown));
        assert_eq!(scene.put(guest.client, &channel_data(0x4001, b"late")), Err(RelayDrop::Unknown));
        assert_eq!(scene.passed, []);
    }
}

#[test]
fn answers_to_the_signed_are_signed() {
    let mut scene = Scene::new();
    let (mut guest, _) = scene.allocated(Leg::Udp, 5_000);
    let key = key_of(&guest.credentials);
    for (method, attribute) in [(REFRESH, Lifetime::new(600)), (CREATE_PERMISSION, Lifetime::new(600))] {
        let answer = scene.ask(&mut guest, method, &[&attribute]);
        assert!(answer.is_signed_by(&key), "{method:?} {}", answer.code());
    }
}

#[test]
fn who_does_not_sign_well_is_told_how() {
    let mut scene = Scene::new();
    let mut guest = scene.guest(Leg::Udp, 5_000, "ann");
    let bytes = scene.unsigned(ALLOCATE, &[&RequestedTransport::new(17)]);
    let challenge = scene.answer(guest.client, &bytes);
    assert_eq!((challenge.code(), challenge.message().attribute::<Realm>().expect("a realm").realm()), (401, REALM));
    guest.nonce = challenge.nonce();
    let fresh = guest.clone();
    let with = |change: &dyn Fn(&mut Guest)| {
        let mut changed = fresh.clone();
        change(&mut changed);
        changed
    };
    let expired = scene.secret.mint("ann", UNIX);
    let cases = [
        ("another password", with(&|guest| guest.credentials.credential = "x".into()), 401),
        (
            "another name with this password",
            with(&|guest| guest.credentials.username = format!("{}:bob", UNIX + 9)),
            401,
        ),
        ("credentials that have ended", with(&|guest| guest.credentials = expired.clone()), 401),
        ("a nonce that is none", with(&|guest| guest.nonce = "n".repeat(24)), 438),
        ("a nonce of another client", with(&|guest| guest.client.remote.set_port(5_001)), 438),
    ];
    for (story, mut guest, code) in cases {
        let answer = scene.allocate(&mut guest);
        assert_eq!(answer.code(), code, "{story}");
        assert_eq!(answer.nonce().len(), 24, "{story}");
    }
    // Without realm and nonce there is nothing to sign with.
    let kind = MessageType::from_class_method(MessageClass::Request, ALLOCATE);
    let mut message = Message::builder(kind, scene.transaction(), MessageWriteVec::new());
    message.add_message_integrity_with_key(&key_of(&guest.credentials), IntegrityAlgorithm::Sha1).expect("it fits");
    assert_eq!(scene.answer(guest.client, &message.finish()).code(), 400);
    assert_eq!(scene.allocate(&mut guest).code(), 0, "and after all that, well signed");
    scene.now += secs(3_600);
    let mut later = with(&|guest| guest.client.remote.set_port(5_002));
    later.nonce = String::new();
    assert_eq!(scene.allocate(&mut later).code(), 401, "credentials end");
}

#[test]
fn a_live_allocation_outlives_its_credentials_but_not_its_nonce() {
    let mut scene = Scene::new();
    let (mut guest, _) = scene.allocated(Leg::Udp, 5_000);
    for _ in 0..12 {
        scene.now += secs(500);
        let answer = scene.ask(&mut guest, REFRESH, &[&Lifetime::new(600)]);
        if answer.code() == 438 {
            guest.nonce = answer.nonce();
            assert_eq!(scene.ask(&mut guest, REFRESH, &[&Lifetime::new(600)]).code(), 0);
        } else {
            assert_eq!((answer.code(), answer.lifetime()), (0, 600));
        }
    }
    assert_eq!(scene.relay.len(), 1);
    scene.now += secs(600);
    assert_eq!(scene.ask(&mut guest, REFRESH, &[]).code(), 437, "it ended by itself");
    scene.relay.tick(scene.now);
    assert_eq!((scene.relay.len(), scene.registry.len()), (0, 0));
}

#[test]
fn errors_stand_where_they_belong() {
    let mut scene = Scene::new();
    let mut nobody = scene.guest(Leg::Udp, 4_000, "bob");
    assert_eq!(scene.ask(&mut nobody, REFRESH, &[]).code(), 437);
    assert_eq!(scene.ask(&mut nobody, ALLOCATE, &[]).code(), 400, "no transport");
    assert_eq!(scene.ask(&mut nobody, ALLOCATE, &[&RequestedTransport::new(6)]).code(), 442);
    let udp = RequestedTransport::new(17);
    assert_eq!(scene.ask(&mut nobody, ALLOCATE, &[&udp, &EvenPort::new(true)]).code(), 508);
    let answer = scene.ask(&mut nobody, ALLOCATE, &[&udp, &XorPeerAddress::new(SERVER, 7.into())]);
    assert_eq!(answer.code(), 420);
    let unknown = answer.message().attribute::<UnknownAttributes>().expect("they are named");
    assert!(unknown.has_attribute(XorPeerAddress::TYPE));
    let (mut guest, _) = scene.allocated(Leg::Udp, 5_000);
    assert_eq!(scene.allocate(&mut guest).code(), 437, "it has one");
    let mut stranger = scene.guest(Leg::Udp, 5_000, "eve");
    assert_eq!(scene.ask(&mut stranger, REFRESH, &[]).code(), 441, "it is another's");
    assert_eq!(scene.ask(&mut guest, CREATE_PERMISSION, &[]).code(), 400);
    assert_eq!(scene.ask(&mut guest, CHANNEL_BIND, &[&ChannelNumber::new(0x4001)]).code(), 400);
    for number in [0, 0x3fff, 0x8000, 0xffff] {
        assert_eq!(scene.bind(&mut guest, number, SERVER), 400, "{number:#x}");
    }
    assert_eq!(scene.bind(&mut guest, 0x4001, SERVER), 0);
    assert_eq!(scene.bind(&mut guest, 0x4001, SERVER), 0, "again");
    assert_eq!(scene.bind(&mut guest, 0x4002, SERVER), 400, "one peer, one channel");
    assert_eq!(scene.permit(&mut guest, OTHER), 443);
    assert_eq!(scene.bind(&mut guest, 0x4003, OTHER), 443);
    let ipv6 = RequestedAddressFamily::new(AddressFamily::IPV6);
    assert_eq!(scene.ask(&mut guest, REFRESH, &[&ipv6]).code(), 443);
    let mut six = scene.guest(Leg::Udp, 6_000, "ann");
    let answer = scene.ask(&mut six, ALLOCATE, &[&udp, &ipv6]);
    assert!(answer.relayed().is_ipv6() && is_virtual(answer.relayed().ip()));
    assert_eq!(scene.permit(&mut six, OTHER), 0);
    // Nobody knows this method.
    let odd = scene.unsigned(Method::new(0x00b), &[]);
    assert_eq!(scene.put(guest.client, &odd), Err(RelayDrop::Garbage));
}

#[test]
fn an_allocate_that_is_sent_again_is_answered_again() {
    let mut scene = Scene::new();
    let (guest, _) = scene.allocated(Leg::Udp, 5_000);
    let mut other = scene.guest(Leg::Udp, 5_001, "ann");
    let bytes = scene.unsigned(ALLOCATE, &[&RequestedTransport::new(17)]);
    other.nonce = scene.answer(other.client, &bytes).nonce();
    let signed = Scene::sign(&other, &bytes);
    let first = scene.answer(other.client, &signed);
    scene.now += ms(500);
    let second = scene.answer(other.client, &signed);
    assert_eq!((first.code(), first.0), (0, second.0));
    assert_eq!(scene.relay.len(), 2);
    let _ = guest;
}

#[test]
fn permissions_and_channels_end() {
    let mut scene = Scene::new();
    let (mut guest, relayed) = scene.allocated(Leg::Udp, 5_000);
    let (mut peer, peer_relayed) = scene.allocated(Leg::Udp, 5_001);
    assert_eq!(scene.deliver(relayed, peer_relayed, b"x"), Err(RelayDrop::Forbidden), "a client must permit another");
    assert_eq!(scene.permit(&mut guest, peer_relayed), 0);
    assert!(scene.deliver(relayed, peer_relayed, b"x").is_ok());
    scene.now += secs(299);
    assert!(scene.deliver(relayed, peer_relayed, b"x").is_ok());
    scene.now += secs(1);
    assert_eq!(scene.deliver(relayed, peer_relayed, b"x"), Err(RelayDrop::Forbidden));
    assert_eq!(scene.bind(&mut guest, 0x4001, peer_relayed), 0);
    assert_eq!(scene.bind(&mut peer, 0x4fff, relayed), 0);
    assert!(scene.deliver(relayed, peer_relayed, b"x").is_ok(), "a channel permits, too");
    let refreshed = scene.ask(&mut guest, REFRESH, &[&Lifetime::new(3_600)]);
    assert_eq!(refreshed.lifetime(), 3_600);
    scene.now += secs(599);
    scene.put(guest.client, &channel_data(0x4001, b"y")).expect("it is bound");
    scene.now += secs(1);
    assert_eq!(scene.put(guest.client, &channel_data(0x4001, b"y")), Err(RelayDrop::Unknown));
}

/// Every address that a relay must not reach, unless it is exactly one of ours.
fn forbidden() -> Vec<SocketAddr> {
    let ips = [
        "0.0.0.0",
        "::",
        "127.0.0.1",
        "127.8.9.1",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:0.0.0.0",
        "::127.0.0.1",
        "169.254.169.254",
        "::ffff:169.254.169.254",
        "fe80::1",
        "fec0::1",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "fc00::1",
        "fd12::1",
        "224.0.0.1",
        "239.1.2.3",
        "ff02::1",
        "255.255.255.255",
        "192.0.2.11",
        "198.51.100.1",
        "203.0.113.7",
        "8.8.8.8",
        "2001:4860:4860::8888",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
        "2001:db8::11",
        "::ffff:192.0.2.10",
        "198.18.0.9",
        "198.19.255.255",
        "2001:2::9",
    ];
    let mut all: Vec<SocketAddr> =
        ips.iter().map(|ip| SocketAddr::new(ip.parse().expect("an address"), 3_479)).collect();
    // Our address, another port: only exactly ours is ours.
    all.extend([80, 3_478, 3_480].map(|port| SocketAddr::new(SERVER.ip(), port)));
    all
}

#[test]
fn nothing_goes_to_a_peer_that_is_not_ours() {
    for family in [AddressFamily::IPV4, AddressFamily::IPV6] {
        let mut scene = Scene::new();
        let mut guest = scene.guest(Leg::Udp, 5_000, "eve");
        let answer =
            scene.ask(&mut guest, ALLOCATE, &[&RequestedTransport::new(17), &RequestedAddressFamily::new(family)]);
        assert_eq!(answer.code(), 0);
        // What it may have permitted already must not help.
        let ours = if family == AddressFamily::IPV4 { SERVER } else { OTHER };
        assert_eq!(scene.permit(&mut guest, ours), 0);
        for (number, peer) in (0x4000..).zip(forbidden()) {
            if peer.ip() != SERVER.ip() {
                assert_eq!(scene.permit(&mut guest, peer), 403, "{peer}");
            }
            assert_eq!(scene.bind(&mut guest, number, peer), 403, "{peer}");
            assert_eq!(scene.send(&guest, peer, b"x"), Err(RelayDrop::Forbidden), "{peer}");
            assert_eq!(scene.put(guest.client, &channel_data(number, b"x")), Err(RelayDrop::Unknown), "{peer}");
        }
        assert_eq!(scene.passed, []);
        // One that is forbidden among some that are not forbids all.
        let transaction = scene.transaction();
        let kind = MessageType::from_class_method(MessageClass::Request, CREATE_PERMISSION);
        let mut message = Message::builder(kind, transaction, MessageWriteVec::new());
        message.add_attribute(&XorPeerAddress::new(ours, transaction)).expect("it fits");
        let bytes = [&message.finish()[..], &raw_peer("10.0.0.1:1".parse().expect("an address"), transaction)].concat();
        let bytes = with_length(bytes);
        let signed = Scene::sign_raw(&guest, &bytes);
        assert_eq!(scene.answer(guest.client, &signed).code(), 403);
    }
}

/// A second XOR-PEER-ADDRESS, which the builder would refuse to add.
fn raw_peer(peer: SocketAddr, transaction: TransactionId) -> Vec<u8> {
    let mut message = Message::builder(
        MessageType::from_class_method(MessageClass::Request, CREATE_PERMISSION),
        transaction,
        MessageWriteVec::new(),
    );
    message.add_attribute(&XorPeerAddress::new(peer, transaction)).expect("it fits");
    message.finish()[20..].to_vec()
}

fn with_length(mut bytes: Vec<u8>) -> Vec<u8> {
    let length = u16::try_from(bytes.len() - 20).expect("short");
    bytes[2..4].copy_from_slice(&length.to_be_bytes());
    bytes
}

impl Scene {
    /// Signs bytes as they are.
    fn sign_raw(guest: &Guest, bytes: &[u8]) -> Vec<u8> {
        let mut message = MessageWriteVec::new();
        message.push_data(bytes);
        message.add_attribute(&Username::new(&guest.credentials.username).expect("short")).expect("it fits");
        message.add_attribute(&Realm::new(REALM).expect("short")).expect("it fits");
        message.add_attribute(&Nonce::new(&guest.nonce).expect("short")).expect("it fits");
        message.add_message_integrity_with_key(&key_of(&guest.credentials), IntegrityAlgorithm::Sha1).expect("it fits");
        message.finish()
    }
}

/// What an independent client of TURN has learnt, when all that it sends has been answered.
fn converse(scene: &mut Scene, client: Client, protocol: &mut TurnClient) -> Vec<ProtocolEvent> {
    let mut learnt = Vec::new();
    for _ in 0..20 {
        let mut events = Vec::new();
        let wake = protocol.run(scene.now, &mut |event| events.push(event));
        for event in events {
            let ProtocolEvent::Transmit(bytes) = event else {
                learnt.push(event);
                continue;
            };
            for (_, answer) in scene.put(client, &bytes).expect("it is answered") {
                protocol.receive(&answer, scene.now, &mut |_, _| panic!("nobody sends"));
            }
        }
        // It leaves time between two requests.
        scene.now = wake.map_or(scene.now, |wake| wake.min(scene.now + ms(60)));
    }
    learnt
}

#[test]
fn an_independent_client_library_is_served_by_datagrams_and_by_a_connection() {
    for (leg, transport) in [(Leg::Udp, TurnTransport::Udp), (Leg::Tcp, TurnTransport::Tcp)] {
        let mut scene = Scene::new();
        let guest = scene.guest(leg, 5_000, "ann");
        let Credentials { username, credential } = guest.credentials.clone();
        let server = TurnServer { transport, host: "a".into(), port: 3478, username, credential, until: None };
        let Client { remote, local, .. } = guest.client;
        let mut protocol = TurnClient::new(&server, (remote, local), scene.now);
        let learnt = converse(&mut scene, guest.client, &mut protocol);
        let [ProtocolEvent::Allocated(relayed)] = learnt[..] else { panic!("{learnt:?}") };
        assert!(is_virtual(relayed.ip()));
        let stranger = SocketAddr::from(([203, 0, 113, 99], 9));
        protocol.permit(SERVER.ip(), scene.now);
        protocol.permit(stranger.ip(), scene.now);
        let learnt = converse(&mut scene, guest.client, &mut protocol);
        assert_eq!(learnt, [ProtocolEvent::Permitted(SERVER.ip()), ProtocolEvent::Refused(stranger.ip())]);
        assert_eq!(protocol.send(stranger, b"hello", scene.now), None);
        for bound in [false, true] {
            if bound {
                protocol.bind(SERVER, scene.now);
                let learnt = converse(&mut scene, guest.client, &mut protocol);
                assert_eq!(learnt, [ProtocolEvent::Bound(SERVER)]);
            }
            for length in 0..9 {
                let data = vec![7; length];
                let sent = protocol.send(SERVER, &data, scene.now).expect("it is let through");
                assert_eq!(sent.len() == 4 + length, bound);
                assert_eq!(scene.put(guest.client, &sent), Ok(vec![]));
                assert_eq!(scene.passed.pop(), Some((relayed, SERVER, data.clone())));
                let mut back = scene.deliver(relayed, SERVER, &data).expect("it is let through");
                if leg == Leg::Tcp {
                    // The library knows nothing of what lies between two messages.
                    back = Framing::Turn
                        .next_frame(&mut BytesMut::from(&back[..]))
                        .expect("framed")
                        .expect("whole")
                        .to_vec();
                }
                let mut heard = Vec::new();
                protocol.receive(&back, scene.now, &mut |peer, data| heard.push((peer, data.to_vec())));
                assert_eq!(heard, [(SERVER, data)]);
            }
        }
        protocol.delete(scene.now);
        assert_eq!(converse(&mut scene, guest.client, &mut protocol).last(), Some(&ProtocolEvent::Ended));
        assert!(scene.relay.is_empty());
    }
}

#[test]
fn a_user_has_a_quota_and_so_have_all() {
    let mut scene = Scene::with_room(PER_USER as usize + 1);
    for port in 0..PER_USER {
        let mut guest = scene.guest(Leg::Udp, 5_000 + u16::try_from(port).expect("few"), "ann");
        assert_eq!(scene.allocate(&mut guest).code(), 0);
    }
    let mut more = scene.guest(Leg::Udp, 7_000, "ann");
    assert_eq!(scene.allocate(&mut more).code(), 486);
    let mut other = scene.guest(Leg::Tcp, 7_001, "bob");
    assert_eq!(scene.allocate(&mut other).code(), 0);
    let mut third = scene.guest(Leg::Tcp, 7_002, "cleo");
    assert_eq!(scene.allocate(&mut third).code(), 508);
    // The user leaves, a connection goes: there is room again.
    scene.relay.end_user("ann");
    assert_eq!((scene.relay.len(), scene.registry.len()), (1, 1));
    scene.relay.disconnected(other.client);
    assert_eq!((scene.relay.len(), scene.registry.len()), (0, 0));
    assert_eq!(scene.allocate(&mut more).code(), 0);
}

#[test]
fn strangers_are_answered_shortly_and_not_too_often() {
    let mut scene = Scene::new();
    let guest = scene.guest(Leg::Udp, 5_000, "eve");
    let transport = RequestedTransport::new(17);
    for (method, attributes) in [(BINDING, vec![]), (ALLOCATE, vec![&transport as &dyn AttributeWrite])] {
        let bytes = scene.unsigned(method, &attributes);
        let answer = scene.answer(guest.client, &bytes);
        assert!(answer.0.len() <= 3 * bytes.len(), "{} for {}", answer.0.len(), bytes.len());
    }
    // Twenty bytes are too few to be asked back.
    let bare = scene.unsigned(REFRESH, &[]);
    assert_eq!(scene.put(guest.client, &bare), Err(RelayDrop::Unanswered));
    let bytes = scene.unsigned(BINDING, &[]);
    let answered = (0..5_000).filter(|_| scene.put(guest.client, &bytes).is_ok()).count();
    assert!(answered < 1_000, "{answered}");
    let connected = Client { leg: Leg::Tcp, ..guest.client };
    assert!(scene.put(connected, &bytes).is_ok(), "who has a connection is where it says");
    let neighbour = Client { remote: SocketAddr::from(([203, 0, 113, 8], 5_000)), ..guest.client };
    assert!(scene.put(neighbour, &bytes).is_ok());
    scene.now += secs(10);
    assert!(scene.put(guest.client, &bytes).is_ok());
}

#[test]
fn hostile_bytes_come_to_nothing() {
    let mut scene = Scene::new();
    let (guest, _) = scene.allocated(Leg::Udp, 5_000);
    let mut dice = Dice::seeded(77);
    let well = scene.transaction_with_peer(&guest, CREATE_PERMISSION, SERVER, None);
    for _ in 0..20_000 {
        let mut bytes = well.clone();
        for _ in 0..=dice.below(4) {
            let place = dice.below(bytes.len());
            bytes[place] = dice.roll().to_le_bytes()[0];
        }
        bytes.truncate(dice.below(bytes.len() + 1));
        let _ = scene.put(guest.client, &bytes);
        scene.now += ms(5);
        if scene.now > zero() + secs(500) {
            scene.now = zero();
        }
    }
    assert_eq!(scene.passed, []);
    assert_eq!(scene.relay.len(), 1);
}

#[test]
fn it_asks_to_be_woken_only_while_somebody_is_there() {
    let mut scene = Scene::new();
    assert_eq!(scene.relay.tick(scene.now), None);
    let (guest, _) = scene.allocated(Leg::Udp, 5_000);
    let mut wakes = 0;
    while let Some(at) = scene.relay.tick(scene.now) {
        assert!(at > scene.now);
        scene.now = at;
        wakes += 1;
    }
    assert_eq!(scene.relay.len(), 0);
    assert!(wakes <= 61 && scene.now - zero() <= Duration::from_secs(610), "{wakes}");
    let _ = guest;
}
