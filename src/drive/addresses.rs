//! Which of this host's addresses media uses, and what they are called outside. It binds nothing.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use crate::config::{Host, PublicIp};

/// More interfaces than a host has; a bound on sockets, and on the candidates of every answer.
const MOST: usize = 16;
/// Between two looks whether the host's addresses are still those of the start.
const LOOK: Duration = Duration::from_secs(30);

/// One address that media uses.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct MediaAddress {
    /// What the socket is bound to.
    pub bound: IpAddr,
    /// What candidates say.
    pub advertised: IpAddr,
}

/// The addresses of this host that `host` admits, named as `public` says.
///
/// # Errors
/// When the system does not list its interfaces.
pub fn media_addresses(host: Host, public: &PublicIp) -> io::Result<Vec<MediaAddress>> {
    let own = if_addrs::get_if_addrs()?.into_iter().map(|interface| interface.ip());
    Ok(choose(own, host, public, reaching))
}

/// The choice, without a system: `reaching` tells which own address leads to a public one.
fn choose(
    own: impl Iterator<Item = IpAddr>,
    host: Host,
    public: &PublicIp,
    reaching: impl Fn(IpAddr) -> Option<IpAddr>,
) -> Vec<MediaAddress> {
    let usable: BTreeSet<IpAddr> = own.filter(|ip| is_usable(*ip) && host.admits(*ip)).collect();
    let renamed = |public: Option<IpAddr>, family: fn(&IpAddr) -> bool| -> Vec<MediaAddress> {
        let of_family = usable.iter().copied().filter(|ip| family(ip) && !ip.is_loopback());
        match public {
            None => of_family.map(|ip| MediaAddress { bound: ip, advertised: ip }).collect(),
            // Behind a one-to-one NAT there is one way out, and its replies must leave by the same socket.
            Some(public) => {
                let bound = reaching(public).filter(|ip| usable.contains(ip)).or_else(|| of_family.clone().next());
                bound.map(|bound| MediaAddress { bound, advertised: public }).into_iter().collect()
            }
        }
    };
    let v4 = renamed(public.v4.map(IpAddr::V4), IpAddr::is_ipv4);
    let v6 = renamed(public.v6.map(IpAddr::V6), IpAddr::is_ipv6);
    let loopback = usable.iter().filter(|ip| ip.is_loopback()).map(|ip| MediaAddress { bound: *ip, advertised: *ip });
    v4.into_iter().chain(v6).take(MOST).chain(loopback).collect()
}

/// Tells the log when the host has lost an address of the start, or got its first one that others reach: sockets stay where they were bound.
pub async fn watch(host: Host, public: PublicIp, start: Vec<MediaAddress>) {
    let mut told = Change::default();
    loop {
        tokio::time::sleep(LOOK).await;
        let Ok(now) = media_addresses(host, &public) else { continue };
        let change = Change::between(&start, &now);
        if change == told {
            continue;
        }
        let Change { gone, new } = &change;
        if change.matters(&start) {
            tracing::warn!(?gone, ?new, "the host's addresses changed: media uses those of the start until a restart");
        } else if told.matters(&start) {
            tracing::info!("the host's addresses are those of the start again");
        }
        told = change;
    }
}

/// What became of a host's addresses.
#[derive(Debug, Default, Eq, PartialEq)]
struct Change {
    gone: Vec<IpAddr>,
    new: Vec<IpAddr>,
}

impl Change {
    fn between(start: &[MediaAddress], now: &[MediaAddress]) -> Self {
        let less = |all: &[MediaAddress], others: &[MediaAddress]| {
            all.iter().filter(|one| !others.contains(one)).map(|one| one.bound).collect()
        };
        Self { gone: less(start, now), new: less(now, start) }
    }

    /// One address more is nothing to those who have some that others reach.
    fn matters(&self, start: &[MediaAddress]) -> bool {
        !self.gone.is_empty() || !self.new.is_empty() && start.iter().all(|one| one.bound.is_loopback())
    }
}

/// Candidates of a session whose client came from `client`: loopback ones only for a client on this machine.
#[must_use]
pub fn candidates_for(client: IpAddr, all: &[SocketAddr]) -> Vec<SocketAddr> {
    let others: Vec<SocketAddr> = all.iter().copied().filter(|addr| !addr.ip().is_loopback()).collect();
    if client.is_loopback() || others.is_empty() { all.to_vec() } else { others }
}

/// The own address of a family that other hosts reach, for people: the first usable one.
#[must_use]
pub fn lan_address() -> Option<IpAddr> {
    let mut own: Vec<IpAddr> = if_addrs::get_if_addrs().ok()?.into_iter().map(|interface| interface.ip()).collect();
    own.retain(|ip| is_usable(*ip) && !ip.is_loopback());
    own.sort_by_key(|ip| (ip.is_ipv6(), *ip));
    // The way to a documentation address (RFC 5737) is the way out; nothing is sent.
    let out = reaching(IpAddr::from([192, 0, 2, 1])).filter(|ip| own.contains(ip));
    out.or_else(|| own.first().copied())
}

/// Which own address the system would send from; connecting a UDP socket sends nothing.
fn reaching(remote: IpAddr) -> Option<IpAddr> {
    let any: SocketAddr = if remote.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect((remote, 9)).ok()?;
    socket.local_addr().ok().map(|addr| addr.ip())
}

/// Not link-local (it needs a zone, which candidates have no word for), not multicast, not unspecified.
fn is_usable(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !(ip.is_link_local() || ip.is_multicast() || ip.is_unspecified() || ip.is_broadcast()),
        IpAddr::V6(ip) => {
            !(ip.is_unicast_link_local() || ip.is_multicast() || ip.is_unspecified() || ip.to_ipv4_mapped().is_some())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn chosen(own: &[&str], host: &str, public: &PublicIp) -> Vec<String> {
        let host = Host::new(ip(host));
        choose(own.iter().map(|text| ip(text)), host, public, |public| {
            Some(if public.is_ipv4() { ip("10.0.0.2") } else { ip("2001:db8::2") })
        })
        .into_iter()
        .map(|media| {
            if media.bound == media.advertised {
                media.bound.to_string()
            } else {
                format!("{}={}", media.bound, media.advertised)
            }
        })
        .collect()
    }

    const OWN: [&str; 7] = ["127.0.0.1", "10.0.0.2", "192.168.1.5", "169.254.3.3", "fe80::1", "2001:db8::2", "::1"];

    #[test]
    fn every_usable_address_is_used() {
        assert_eq!(
            chosen(&OWN, "::", &PublicIp::default()),
            ["10.0.0.2", "192.168.1.5", "2001:db8::2", "127.0.0.1", "::1"]
        );
        assert_eq!(chosen(&OWN, "0.0.0.0", &PublicIp::default()), ["10.0.0.2", "192.168.1.5", "127.0.0.1"]);
        assert_eq!(chosen(&OWN, "192.168.1.5", &PublicIp::default()), ["192.168.1.5"]);
        assert_eq!(chosen(&OWN, "127.0.0.1", &PublicIp::default()), ["127.0.0.1"]);
    }

    #[test]
    fn a_public_address_stands_for_its_family() {
        let public = PublicIp { v4: Some("203.0.113.9".parse().unwrap()), v6: None };
        assert_eq!(chosen(&OWN, "::", &public), ["10.0.0.2=203.0.113.9", "2001:db8::2", "127.0.0.1", "::1"]);
    }

    #[test]
    fn what_matters_of_a_change_is_what_media_loses_or_never_had() {
        let all = |own: &[&str]| -> Vec<_> {
            own.iter().map(|text| MediaAddress { bound: ip(text), advertised: ip(text) }).collect()
        };
        for (start, now, gone, new, matters) in [
            (&["10.0.0.2", "::1"][..], &["10.0.0.2", "::1"][..], &[][..], &[][..], false),
            (&["10.0.0.2", "::1"], &["10.0.0.2", "10.0.0.3", "::1"], &[], &["10.0.0.3"], false),
            (&["10.0.0.2", "::1"], &["10.0.0.3", "::1"], &["10.0.0.2"], &["10.0.0.3"], true),
            (&["10.0.0.2", "::1"], &["::1"], &["10.0.0.2"], &[], true),
            (&["::1"], &["10.0.0.2", "::1"], &[], &["10.0.0.2"], true),
        ] {
            let (start, now) = (all(start), all(now));
            let change = Change::between(&start, &now);
            let told = (change.gone.clone(), change.new.clone());
            let ips = |texts: &[&str]| texts.iter().map(|text| ip(text)).collect::<Vec<_>>();
            assert_eq!((told, change.matters(&start)), ((ips(gone), ips(new)), matters), "{start:?} {now:?}");
        }
    }

    #[test]
    fn loopback_is_for_those_who_came_by_it() {
        let all: Vec<SocketAddr> =
            ["10.0.0.2:3479", "127.0.0.1:3479"].iter().map(|text| text.parse().unwrap()).collect();
        assert_eq!(candidates_for(ip("127.0.0.1"), &all), all);
        assert_eq!(candidates_for(ip("10.0.0.9"), &all), all[..1]);
        assert_eq!(candidates_for(ip("10.0.0.9"), &all[1..]), all[1..], "better than none");
    }
}
