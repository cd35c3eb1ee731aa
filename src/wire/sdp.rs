//! SDP as text (RFC 8866): the few lines that str0m does not give or take. It refuses to understand the rest.

/// ICE credentials as they stand in SDP (RFC 8839 section 5.4). `Debug` hides the password.
#[derive(Clone, Eq, PartialEq)]
pub struct IceCredentials {
    /// The username fragment.
    pub ufrag: String,
    /// The password.
    pub pwd: String,
}

impl std::fmt::Debug for IceCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IceCredentials").field("ufrag", &self.ufrag).finish_non_exhaustive()
    }
}

/// The value of the first attribute `name` (`a=name:value`) anywhere in `sdp`.
#[must_use]
pub fn attribute<'a>(sdp: &'a str, name: &str) -> Option<&'a str> {
    attributes(sdp, name).next()
}

/// The values of all attributes `name`, in order.
pub fn attributes<'a>(sdp: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    sdp.lines()
        .filter_map(move |line| line.strip_prefix("a=")?.strip_prefix(name)?.strip_prefix(':'))
        .map(str::trim_end)
}

/// The first ICE credentials in `sdp`; with BUNDLE all are the same.
#[must_use]
pub fn ice_credentials(sdp: &str) -> Option<IceCredentials> {
    Some(IceCredentials { ufrag: attribute(sdp, "ice-ufrag")?.to_owned(), pwd: attribute(sdp, "ice-pwd")?.to_owned() })
}

/// The part of the `o=` line that stays the same through a peer connection's life: its user and session id (RFC 8866 section 5.2).
#[must_use]
pub fn origin(sdp: &str) -> &str {
    let value = sdp.lines().find_map(|line| line.strip_prefix("o=")).unwrap_or_default();
    let version = value.match_indices(' ').nth(1).map_or(value.len(), |(at, _)| at);
    &value[..version]
}

/// Whether every ufrag and password in `sdp` has a length that the standard allows (RFC 8839 section 5.4). ICE puts them into
/// STUN messages as they are, and a longer one breaks those.
#[must_use]
pub fn are_ice_credentials_sound(sdp: &str) -> bool {
    let sound = |name: &str, shortest: usize| {
        attributes(sdp, name)
            .all(|word| (shortest..=256).contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_graphic()))
    };
    sound("ice-ufrag", 4) && sound("ice-pwd", 22)
}

/// `sdp` with every ufrag and password replaced, in candidate lines too.
#[must_use]
pub fn with_ice_credentials(sdp: &str, credentials: &IceCredentials) -> String {
    let old = attribute(sdp, "ice-ufrag").unwrap_or_default().to_owned();
    map_lines(sdp, |line| {
        if line.starts_with("a=ice-ufrag:") {
            Some(format!("a=ice-ufrag:{}", credentials.ufrag))
        } else if line.starts_with("a=ice-pwd:") {
            Some(format!("a=ice-pwd:{}", credentials.pwd))
        } else if line.starts_with("a=candidate:") {
            Some(line.replace(&format!(" ufrag {old}"), &format!(" ufrag {}", credentials.ufrag)))
        } else {
            Some(line.to_owned())
        }
    })
}

/// `sdp` without the candidates that `keep` refuses; it is given each one's text from `candidate:` on.
#[must_use]
pub fn retain_candidates(sdp: &str, mut keep: impl FnMut(&str) -> bool) -> String {
    map_lines(sdp, |line| match line.strip_prefix("a=") {
        Some(attribute) if attribute.starts_with("candidate:") => keep(attribute).then(|| line.to_owned()),
        Some("end-of-candidates") => None,
        _ => Some(line.to_owned()),
    })
}

/// `sdp` with `a=end-of-candidates` (RFC 8840 section 8.2) at the end of each media section that is in use.
#[must_use]
pub fn with_end_of_candidates(sdp: &str) -> String {
    let mut text = String::with_capacity(sdp.len() + 64);
    let mut open = false;
    for line in sdp.lines() {
        if line.starts_with("m=") {
            if open {
                text.push_str("a=end-of-candidates\r\n");
            }
            open = line.split(' ').nth(1).is_none_or(|port| port != "0");
        }
        text.push_str(line);
        text.push_str("\r\n");
    }
    if open {
        text.push_str("a=end-of-candidates\r\n");
    }
    text
}

/// The first media section of `sdp` that is in use, or the first of all: its index and its mid.
#[must_use]
pub fn first_in_use(sdp: &str) -> Option<(u16, &str)> {
    let mut all =
        (0..).zip(sections(sdp)).filter_map(|(index, section)| Some((index, section, attribute(section, "mid")?)));
    let first = all.next()?;
    // A rejected one has port 0 (RFC 9143 section 7.3.2).
    let in_use = |(_, section, _): &(u16, &str, &str)| section.split(' ').nth(1).is_none_or(|port| port != "0");
    let (index, _, mid) = if in_use(&first) { first } else { all.find(in_use).unwrap_or(first) };
    Some((index, mid))
}

/// `sdp` with all its candidates in the media section of this mid.
#[must_use]
pub fn with_candidates_at(sdp: &str, mid: &str) -> String {
    let candidates = attributes(sdp, "candidate").collect::<Vec<_>>().join("\r\na=candidate:");
    map_lines(&retain_candidates(sdp, |_| false), |line| {
        let ours = line.strip_prefix("a=mid:") == Some(mid) && !candidates.is_empty();
        Some(if ours { format!("{line}\r\na=candidate:{candidates}") } else { line.to_owned() })
    })
}

/// How long packets are to be and may be, in milliseconds, by the media section that has this mid (RFC 8866 section 6.4).
#[must_use]
pub fn packet_times(sdp: &str, mid: &str) -> (Option<f64>, Option<f64>) {
    let section = sections(sdp).find(|section| attribute(section, "mid") == Some(mid)).unwrap_or_default();
    let time = |name| attribute(section, name)?.trim().parse::<f64>().ok().filter(|ms| *ms > 0.0);
    (time("ptime"), time("maxptime"))
}

/// `sdp` in which the media section of this mid says how long its packets are, in milliseconds.
#[must_use]
pub fn with_packet_time(sdp: &str, mid: &str, ms: u8) -> String {
    map_lines(sdp, |line| {
        let ours = line.strip_prefix("a=mid:") == Some(mid);
        Some(if ours { format!("{line}\r\na=ptime:{ms}") } else { line.to_owned() })
    })
}

/// The media sections of `sdp`, each from its `m=` line on.
fn sections(sdp: &str) -> impl Iterator<Item = &str> {
    let starts = sdp.match_indices("m=").map(|(at, _)| at).filter(|at| *at == 0 || sdp[..*at].ends_with('\n'));
    let starts: Vec<_> = starts.collect();
    let ends: Vec<_> = starts.iter().skip(1).copied().chain([sdp.len()]).collect();
    starts.into_iter().zip(ends).map(|(start, end)| &sdp[start..end])
}

/// Rewrites `sdp` line by line; a line that `rewrite` gives no text for goes. Lines end as the standard wants them.
fn map_lines(sdp: &str, mut rewrite: impl FnMut(&str) -> Option<String>) -> String {
    let mut text = String::with_capacity(sdp.len());
    for line in sdp.lines() {
        if let Some(line) = rewrite(line) {
            text.push_str(&line);
            text.push_str("\r\n");
        }
    }
    text
}

/// Why a remote candidate is of no use to this server, or that it may be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CandidateUse {
    /// Worth handing to ICE.
    Usable,
    /// A name of multicast DNS, an active TCP end or another component: true candidates, which we cannot check.
    NotForUs,
    /// No candidate at all.
    Malformed,
}

/// Sorts one candidate's text, from `candidate:` on (RFC 8839 section 5.1).
#[must_use]
pub fn candidate_use(text: &str) -> CandidateUse {
    let Some(rest) = text.strip_prefix("candidate:") else { return CandidateUse::Malformed };
    let mut words = rest.split_ascii_whitespace();
    let (
        Some(_foundation),
        Some(component),
        Some(transport),
        Some(priority),
        Some(address),
        Some(port),
        Some("typ"),
        Some(_kind),
    ) = (
        words.next(),
        words.next(),
        words.next(),
        words.next(),
        words.next(),
        words.next(),
        words.next(),
        words.next(),
    )
    else {
        return CandidateUse::Malformed;
    };
    if priority.parse::<u32>().is_err() || port.parse::<u16>().is_err() || component.parse::<u16>().is_err() {
        return CandidateUse::Malformed;
    }
    // Our TCP candidates are passive: a peer that connects to them needs no word of it, and we connect to nobody.
    let usable =
        component == "1" && transport.eq_ignore_ascii_case("udp") && address.parse::<std::net::IpAddr>().is_ok();
    if usable { CandidateUse::Usable } else { CandidateUse::NotForUs }
}

/// Whether a candidate's text says that it is one of a relay.
#[must_use]
pub fn is_relayed(candidate: &str) -> bool {
    candidate.split_ascii_whitespace().skip_while(|word| *word != "typ").nth(1) == Some("relay")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relayed_candidate_says_so() {
        let of = |kind: &str| format!("candidate:1 1 udp 2130706175 192.0.2.1 3479 typ {kind} raddr 0.0.0.0 rport 0");
        assert!(is_relayed(&of("relay")));
        for kind in ["host", "srflx", "prflx", "", "relayed", "host relay"] {
            assert!(!is_relayed(&of(kind)), "{kind}");
        }
        assert!(!is_relayed("candidate:relay 1 udp 1 192.0.2.1 1"));
    }

    const SDP: &str = "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=candidate:1 1 udp 2130706175 192.0.2.1 3479 typ host ufrag old0\r\na=ice-ufrag:old0\r\na=ice-pwd:oldoldoldoldoldoldoldo\r\na=mid:0\r\nm=video 0 UDP/TLS/RTP/SAVPF 96\r\na=ice-ufrag:old0\r\na=ice-pwd:oldoldoldoldoldoldoldo\r\n";

    #[test]
    fn packet_times_are_those_of_their_section() {
        let sdp = "v=0\r\na=ptime:1\r\nm=video 9 X 1\r\na=mid:v\r\na=ptime:50\r\nm=audio 9 X 1\r\na=mid:a\r\na=ptime:40\r\na=maxptime: 60\r\n";
        assert_eq!(packet_times(sdp, "a"), (Some(40.0), Some(60.0)));
        assert_eq!(packet_times(sdp, "v"), (Some(50.0), None));
        assert_eq!(packet_times(sdp, "x"), (None, None));
        for nonsense in ["", "x", "-20", "0", "NaN"] {
            let sdp = format!("m=audio 9 X 1\r\na=mid:a\r\na=ptime:{nonsense}\r\n");
            assert_eq!(packet_times(&sdp, "a"), (None, None), "{nonsense}");
        }
        let answer = with_packet_time("v=0\r\nm=audio 9 X 1\r\na=mid:a\r\na=sendonly\r\n", "a", 40);
        assert_eq!(answer, "v=0\r\nm=audio 9 X 1\r\na=mid:a\r\na=ptime:40\r\na=sendonly\r\n");
    }

    #[test]
    fn credentials_are_read_and_replaced_everywhere() {
        let fresh = IceCredentials { ufrag: "new1".into(), pwd: "newnewnewnewnewnewnewn".into() };
        let text = with_ice_credentials(SDP, &fresh);
        assert_eq!(ice_credentials(&text), Some(fresh));
        assert!(!text.contains("old"), "{text}");
        assert!(text.contains("typ host ufrag new1\r\n"));
    }

    #[test]
    fn the_origin_is_the_same_through_every_version() {
        let sdp = |line: &str| format!("v=0\r\n{line}s=-\r\n");
        let origin_of = |line: &str| origin(&sdp(line)).to_owned();
        assert_eq!(origin_of("o=- 4611731400430051336 2 IN IP4 127.0.0.1\r\n"), "- 4611731400430051336");
        assert_eq!(
            origin_of("o=- 4611731400430051336 3 IN IP4 127.0.0.1\r\n"),
            origin_of("o=- 4611731400430051336 2 IN IP4 127.0.0.1\r\n")
        );
        assert_eq!(
            (origin_of("o=-\r\n"), origin_of("o=- 7\r\n"), origin_of("")),
            ("-".into(), "- 7".into(), String::new())
        );
    }

    #[test]
    fn credentials_of_a_wrong_length_are_found_wherever_they_stand() {
        assert!(are_ice_credentials_sound(SDP));
        let (head, tail) = SDP.split_at(SDP.find("m=video").unwrap());
        for bad in ["ufrag:old".to_owned(), format!("ufrag:{}", "o".repeat(257)), "ufrag:oldé".into()] {
            assert!(!are_ice_credentials_sound(&SDP.replacen("ufrag:old0", &bad, 1)), "{bad}");
            let second = format!("{head}{}", tail.replace("ufrag:old0", &bad));
            assert!(!are_ice_credentials_sound(&second), "{bad} in the second line");
        }
        assert!(!are_ice_credentials_sound(&SDP.replace("pwd:old", "pwd:")));
    }

    #[test]
    fn candidates_are_kept_or_dropped_and_the_end_is_marked_where_media_flows() {
        assert!(!retain_candidates(SDP, |_| false).contains("candidate"));
        assert_eq!(retain_candidates(SDP, |_| true), SDP);
        let ended = with_end_of_candidates(SDP);
        assert_eq!(ended.matches("a=end-of-candidates").count(), 1);
        assert!(ended.contains("a=mid:0\r\na=end-of-candidates\r\nm=video 0"));
        assert_eq!(retain_candidates(&ended, |_| true), SDP);
    }

    #[test]
    fn a_password_is_not_in_debug() {
        let text = format!("{:?}", ice_credentials(SDP));
        assert!(text.contains("old0") && !text.contains("oldoldold"), "{text}");
    }

    #[test]
    fn candidates_are_sorted() {
        use CandidateUse::{Malformed, NotForUs, Usable};
        for (text, expected) in [
            ("candidate:1 1 udp 2130706175 192.0.2.1 3479 typ host", Usable),
            ("candidate:1 1 UDP 2130706175 2001:db8::1 3479 typ srflx raddr :: rport 0 generation 0", Usable),
            ("candidate:1 1 udp 2113937151 4f6c-11.local 50000 typ host generation 0", NotForUs),
            ("candidate:1 1 tcp 1518280447 192.0.2.1 9 typ host tcptype active", NotForUs),
            ("candidate:1 2 udp 2130706175 192.0.2.1 3479 typ host", NotForUs),
            ("candidate:1 1 udp", Malformed),
            ("candidate:1 1 udp x 192.0.2.1 3479 typ host", Malformed),
            ("candidate:1 1 udp 1 192.0.2.1 99999 typ host", Malformed),
            ("hello", Malformed),
            ("", Malformed),
        ] {
            assert_eq!(candidate_use(text), expected, "{text}");
        }
    }
}
