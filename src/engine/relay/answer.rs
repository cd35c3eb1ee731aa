//! What the relay says, as bytes, and what it reads of a request beside its attributes' values.

use std::net::SocketAddr;
use std::time::Duration;

use stun_types::attribute::{
    Attribute as _, AttributeStaticType as _, AttributeType, AttributeWrite, ErrorCode, Nonce, Realm,
    UnknownAttributes, Username,
};
use stun_types::message::{
    IntegrityAlgorithm, IntegrityKey, Message, MessageClass, MessageType, MessageWrite as _, MessageWriteExt as _,
    MessageWriteVec, TransactionId,
};
use turn_types::attribute::{Data, Lifetime, XorPeerAddress};
use turn_types::message::DATA;

use super::{CHANNEL_HEADER, Leg, REALM};

/// An answer that is not yet one: its error code, and what else goes with it.
pub(super) enum Refusal {
    /// With this code.
    Code(u16),
    /// With a nonce, so that the client can try again: 401 or 438.
    Challenge(u16),
    /// 420, with the types that are not known.
    Unknown(Vec<AttributeType>),
}

pub(super) fn transaction_of(message: &Message<'_>) -> [u8; 12] {
    message.as_bytes().get(8..20).and_then(|bytes| bytes.first_chunk().copied()).unwrap_or_default()
}

pub(super) fn lifetime(message: &Message<'_>) -> Option<Duration> {
    message.attribute::<Lifetime>().ok().map(|lifetime| Duration::from_secs(lifetime.seconds().into()))
}

pub(super) fn seconds(lifetime: Duration) -> Lifetime {
    Lifetime::new(u32::try_from(lifetime.as_secs()).unwrap_or(u32::MAX))
}

/// What a message has that must be understood and is not (RFC 8489 section 6.3.1), beside what signs it.
pub(super) fn unknown_types(message: &Message<'_>, known: &[AttributeType]) -> Vec<AttributeType> {
    let signs = [
        Username::TYPE,
        Realm::TYPE,
        Nonce::TYPE,
        stun_types::attribute::MessageIntegrity::TYPE,
        stun_types::attribute::MessageIntegritySha256::TYPE,
    ];
    let types = message.iter_attributes().map(|(_, raw)| raw.get_type());
    types.filter(|kind| kind.comprehension_required() && !known.contains(kind) && !signs.contains(kind)).collect()
}

pub(super) fn check_types(message: &Message<'_>, known: &[AttributeType]) -> Result<(), Refusal> {
    let unknown = unknown_types(message, known);
    if unknown.is_empty() { Ok(()) } else { Err(Refusal::Unknown(unknown)) }
}

/// Adds attributes and a signature. What is added is ours, short and of each type once, so that there is nothing to go wrong.
fn write(mut answer: MessageWriteVec, attributes: &[&dyn AttributeWrite], key: Option<&IntegrityKey>) -> Vec<u8> {
    for attribute in attributes {
        let added = answer.add_attribute(*attribute);
        debug_assert!(added.is_ok(), "{added:?}");
    }
    if let Some(key) = key {
        let signed = answer.add_message_integrity_with_key(key, IntegrityAlgorithm::Sha1);
        debug_assert!(signed.is_ok(), "{signed:?}");
    }
    answer.finish()
}

pub(super) fn success(
    request: &Message<'_>,
    attributes: &[&dyn AttributeWrite],
    key: Option<&IntegrityKey>,
) -> Vec<u8> {
    write(Message::builder_success(request, MessageWriteVec::new()), attributes, key)
}

pub(super) fn failure(
    request: &Message<'_>,
    refusal: &Refusal,
    nonce: Option<&str>,
    key: Option<&IntegrityKey>,
) -> Vec<u8> {
    let answer = Message::builder_error(request, MessageWriteVec::new());
    // Phrases are for people, who do not read this; without them an answer to a stranger stays short.
    let code = match refusal {
        Refusal::Code(code) | Refusal::Challenge(code) => *code,
        Refusal::Unknown(_) => ErrorCode::UNKNOWN_ATTRIBUTE,
    };
    let (Ok(error), Ok(realm)) = (ErrorCode::new(code, ""), Realm::new(REALM)) else { return Vec::new() };
    let nonce = nonce.filter(|_| matches!(refusal, Refusal::Challenge(_))).and_then(|nonce| Nonce::new(nonce).ok());
    match (refusal, nonce) {
        (_, Some(nonce)) => write(answer, &[&error, &realm, &nonce], key),
        (Refusal::Unknown(types), None) => write(answer, &[&error, &UnknownAttributes::new(types)], key),
        _ => write(answer, &[&error], key),
    }
}

/// RFC 8656 section 12.4. Over a connection it is padded to four bytes (section 12.5).
pub(super) fn channel_data(number: u16, data: &[u8], leg: Leg) -> Option<Vec<u8>> {
    let length = u16::try_from(data.len()).ok()?;
    let mut bytes = Vec::with_capacity(CHANNEL_HEADER + data.len() + 3);
    bytes.extend(number.to_be_bytes());
    bytes.extend(length.to_be_bytes());
    bytes.extend(data);
    if leg == Leg::Tcp {
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    Some(bytes)
}

/// RFC 8656 section 11.
pub(super) fn data_indication(peer: SocketAddr, data: &[u8], entropy: fn(&mut [u8])) -> Vec<u8> {
    let mut drawn = [0; 16];
    entropy(&mut drawn[4..]);
    let transaction = TransactionId::from(u128::from_be_bytes(drawn));
    let kind = MessageType::from_class_method(MessageClass::Indication, DATA);
    let indication = Message::builder(kind, transaction, MessageWriteVec::new());
    write(indication, &[&XorPeerAddress::new(peer, transaction), &Data::new(data)], None)
}
