//! What clients ask the relay for once their signature is good: allocations, their refreshes, permissions and channels.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use stun_types::AddressFamily;
use stun_types::attribute::{Attribute as _, AttributeStaticType as _, ErrorCode, XorMappedAddress};
use stun_types::message::{IntegrityKey, Message, Method};
use turn_types::attribute::{
    AdditionalAddressFamily, ChannelNumber, DontFragment, EvenPort, Lifetime, RequestedAddressFamily,
    RequestedTransport, ReservationToken, XorPeerAddress, XorRelayedAddress,
};
use turn_types::message::{ALLOCATE, CREATE_PERMISSION, REFRESH};

use super::allocation::{Allocation, NoRoom, Unbound};
use super::answer::{Refusal, check_types, lifetime, seconds, success, transaction_of};
use super::registry::Full;
use super::virtuals::Family;
use super::{CHANNEL_NUMBERS, Client, LIFETIME, LONGEST_LIFETIME, Relay, UDP};
use crate::engine::credentials;

/// Who signed a request, and with what.
type Signer<'a> = (&'a str, &'a IntegrityKey);
type Done = Result<Vec<u8>, Refusal>;

impl Relay {
    /// Does what is asked for, and answers it.
    pub(super) fn signed(
        &mut self,
        client: Client,
        message: &Message<'_>,
        method: Method,
        signer: Signer<'_>,
        now: Instant,
    ) -> Done {
        match method {
            ALLOCATE => self.allocate(client, message, signer, now),
            REFRESH => self.refresh(client, message, signer, now),
            CREATE_PERMISSION => self.create_permission(client, message, signer, now),
            _ => self.channel_bind(client, message, signer, now),
        }
    }

    /// RFC 8656 section 7.2.
    fn allocate(&mut self, client: Client, message: &Message<'_>, (username, key): Signer<'_>, now: Instant) -> Done {
        let known = [
            RequestedTransport::TYPE,
            Lifetime::TYPE,
            DontFragment::TYPE,
            EvenPort::TYPE,
            ReservationToken::TYPE,
            RequestedAddressFamily::TYPE,
        ];
        check_types(message, &known)?;
        if let Some((_, allocation)) = self.live(client, now) {
            let (transaction, answer) = &allocation.made;
            // Its answer was lost on the way.
            return if *transaction == transaction_of(message) && *allocation.username == *username {
                Ok(answer.clone())
            } else {
                Err(Refusal::Code(ErrorCode::ALLOCATION_MISMATCH))
            };
        }
        let bad = Refusal::Code(ErrorCode::BAD_REQUEST);
        let Ok(transport) = message.attribute::<RequestedTransport>() else { return Err(bad) };
        if transport.protocol() != UDP {
            return Err(Refusal::Code(ErrorCode::UNSUPPORTED_TRANSPORT_PROTOCOL));
        }
        let family = Self::family(message)?;
        // Reserving a second port means nothing here: no two allocations share an address.
        let even = message.has_attribute(EvenPort::TYPE);
        let reserved = message.has_attribute(ReservationToken::TYPE)
            || message.attribute::<EvenPort>().is_ok_and(|even| even.requested());
        if reserved {
            return Err(Refusal::Code(ErrorCode::INSUFFICIENT_CAPACITY));
        }
        let (expiry, user) = credentials::parts(username).ok_or(Refusal::Challenge(ErrorCode::UNAUTHORIZED))?;
        if expiry <= self.unix(now) {
            return Err(Refusal::Challenge(ErrorCode::UNAUTHORIZED));
        }
        // One that has ended and was not swept yet.
        if let Some(place) = self.by_client.get(&client) {
            self.free(*place);
        }
        let place = self.allocations.vacant_key();
        let number = u32::try_from(place).ok().filter(|number| *number < self.parts.plan.places());
        let number = number.ok_or(Refusal::Code(ErrorCode::INSUFFICIENT_CAPACITY))?;
        let mut drawn = [0; 2];
        (self.parts.entropy)(&mut drawn);
        let mut relayed = self.parts.plan.address(family, self.parts.worker, number, u16::from_be_bytes(drawn));
        if even {
            relayed.set_port(relayed.port() & !1);
        }
        self.parts.registry.enter(user, relayed).map_err(|full| {
            Refusal::Code(match full {
                Full::User => ErrorCode::ALLOCATION_QUOTA_REACHED,
                Full::All => ErrorCode::INSUFFICIENT_CAPACITY,
            })
        })?;
        let lifetime =
            lifetime(message).filter(|asked| !asked.is_zero()).unwrap_or(LIFETIME).clamp(LIFETIME, LONGEST_LIFETIME);
        let transaction = message.transaction_id();
        let answer = success(
            message,
            &[
                &XorRelayedAddress::new(relayed, transaction),
                &seconds(lifetime),
                &XorMappedAddress::new(client.remote, transaction),
            ],
            Some(key),
        );
        let mut allocation = Allocation::new(client, relayed, username, key.clone(), now + lifetime);
        allocation.made = (transaction_of(message), answer.clone());
        self.allocations.insert(allocation);
        self.by_client.insert(client, place);
        self.by_user.entry(user.into()).or_default().push(place);
        Ok(answer)
    }

    /// The family that is asked for (RFC 8656 section 7.2, points 6 and 7). A second one is not given, which is no error.
    fn family(message: &Message<'_>) -> Result<Family, Refusal> {
        let unsupported = Refusal::Code(ErrorCode::ADDRESS_FAMILY_NOT_SUPPORTED);
        if !message.has_attribute(RequestedAddressFamily::TYPE) {
            return Ok(Family::V4);
        }
        if message.has_attribute(AdditionalAddressFamily::TYPE) {
            return Err(Refusal::Code(ErrorCode::BAD_REQUEST));
        }
        match message.attribute::<RequestedAddressFamily>().map(|asked| asked.family()) {
            Ok(AddressFamily::IPV4) => Ok(Family::V4),
            Ok(AddressFamily::IPV6) => Ok(Family::V6),
            Err(_) => Err(unsupported),
        }
    }

    /// RFC 8656 section 8.2.
    fn refresh(&mut self, client: Client, message: &Message<'_>, signer: Signer<'_>, now: Instant) -> Done {
        check_types(message, &[Lifetime::TYPE, RequestedAddressFamily::TYPE])?;
        let (place, allocation) = self.of_signer(client, signer.0, now)?;
        let asked = message.attribute::<RequestedAddressFamily>().ok().map(|asked| match asked.family() {
            AddressFamily::IPV4 => Family::V4,
            AddressFamily::IPV6 => Family::V6,
        });
        if asked.is_some_and(|family| family != Family::of(allocation.relayed.ip())) {
            return Err(Refusal::Code(ErrorCode::PEER_ADDRESS_FAMILY_MISMATCH));
        }
        let lifetime = match lifetime(message) {
            Some(Duration::ZERO) => {
                self.free(place);
                Duration::ZERO
            }
            asked => {
                let lifetime = asked.unwrap_or(LIFETIME).clamp(LIFETIME, LONGEST_LIFETIME);
                allocation.until = now + lifetime;
                lifetime
            }
        };
        Ok(success(message, &[&seconds(lifetime)], Some(signer.1)))
    }

    /// RFC 8656 section 10.2. All or none.
    fn create_permission(&mut self, client: Client, message: &Message<'_>, signer: Signer<'_>, now: Instant) -> Done {
        check_types(message, &[XorPeerAddress::TYPE])?;
        let registry = self.parts.registry.clone();
        let (_, allocation) = self.of_signer(client, signer.0, now)?;
        let mut ips = Vec::new();
        for (_, raw) in message.iter_attributes().filter(|(_, raw)| raw.get_type() == XorPeerAddress::TYPE) {
            let peer = XorPeerAddress::try_from(&raw).map_err(|_| Refusal::Code(ErrorCode::BAD_REQUEST))?;
            let ip = peer.addr(message.transaction_id()).ip();
            if !registry.is_our_ip(ip) {
                return Err(Refusal::Code(ErrorCode::FORBIDDEN));
            }
            check_family(allocation, ip)?;
            ips.push(ip);
        }
        if ips.is_empty() {
            return Err(Refusal::Code(ErrorCode::BAD_REQUEST));
        }
        for ip in ips {
            allocation.permit(ip, now).map_err(|NoRoom| Refusal::Code(ErrorCode::INSUFFICIENT_CAPACITY))?;
        }
        Ok(success(message, &[], Some(signer.1)))
    }

    /// RFC 8656 section 12.2.
    fn channel_bind(&mut self, client: Client, message: &Message<'_>, signer: Signer<'_>, now: Instant) -> Done {
        check_types(message, &[XorPeerAddress::TYPE, ChannelNumber::TYPE])?;
        let registry = self.parts.registry.clone();
        let (_, allocation) = self.of_signer(client, signer.0, now)?;
        let (Ok(number), Ok(peer)) = (message.attribute::<ChannelNumber>(), message.attribute::<XorPeerAddress>())
        else {
            return Err(Refusal::Code(ErrorCode::BAD_REQUEST));
        };
        let (number, peer) = (number.channel(), peer.addr(message.transaction_id()));
        if !CHANNEL_NUMBERS.contains(&number) {
            return Err(Refusal::Code(ErrorCode::BAD_REQUEST));
        }
        if !registry.is_ours(peer) {
            return Err(Refusal::Code(ErrorCode::FORBIDDEN));
        }
        check_family(allocation, peer.ip())?;
        allocation.bind(number, peer, now).map_err(|unbound| {
            Refusal::Code(match unbound {
                Unbound::Taken => ErrorCode::BAD_REQUEST,
                Unbound::NoRoom => ErrorCode::INSUFFICIENT_CAPACITY,
            })
        })?;
        Ok(success(message, &[], Some(signer.1)))
    }

    /// A client's allocation, if that is whose credentials made it.
    fn of_signer(&mut self, client: Client, username: &str, now: Instant) -> Result<(usize, &mut Allocation), Refusal> {
        let (place, allocation) = self.live(client, now).ok_or(Refusal::Code(ErrorCode::ALLOCATION_MISMATCH))?;
        if *allocation.username == *username {
            Ok((place, allocation))
        } else {
            Err(Refusal::Code(ErrorCode::WRONG_CREDENTIALS))
        }
    }

    fn unix(&self, now: Instant) -> u64 {
        let epoch = self.parts.epoch;
        epoch.unix + now.saturating_duration_since(epoch.now).as_secs()
    }
}

fn check_family(allocation: &Allocation, ip: IpAddr) -> Result<(), Refusal> {
    if Family::of(allocation.relayed.ip()) == Family::of(ip) {
        Ok(())
    } else {
        Err(Refusal::Code(ErrorCode::PEER_ADDRESS_FAMILY_MISMATCH))
    }
}
