//! Whose word is taken for who asks: proxies say it in `X-Forwarded-For`, each appending the address that its
//! request came from. Anybody can write that header, so it is read from its end and no further than to the first address
//! that is not a proxy's: what stands before that, the client may have made up.

// Bytes from outside come through here.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use warp::http::{HeaderMap, HeaderName};

/// The proxies that are believed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TrustedProxies {
    /// None: who connects is who asks.
    #[default]
    None,
    /// Whoever connects is one, and the only one: nobody else reaches this port.
    WhoeverConnects,
    /// Those in these networks, one behind the other too.
    In(Vec<Network>),
}

impl TrustedProxies {
    /// Whether requests that come from this address are other people's.
    pub(super) fn contain(&self, address: IpAddr) -> bool {
        match self {
            TrustedProxies::None => false,
            TrustedProxies::WhoeverConnects => true,
            TrustedProxies::In(networks) => networks.iter().any(|n| n.contains(address)),
        }
    }

    /// Who asks: the peer, or whom the proxies say they speak for.
    pub(super) fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let said = headers.get_all(FORWARDED_FOR).iter().rev();
        let mut said = said.flat_map(|line| line.to_str().unwrap_or("").rsplit(','));
        let mut next = || address_in(said.next()?.trim());
        let mut client = peer;
        while self.contain(client)
            && let Some(before) = next()
        {
            client = before;
            if *self == TrustedProxies::WhoeverConnects {
                break;
            }
        }
        client
    }
}

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// An address as proxies write it: with or without a port, IPv6 in brackets or not.
fn address_in(text: &str) -> Option<IpAddr> {
    let bare = || text.strip_prefix('[')?.strip_suffix(']');
    let with_port = || Some(text.parse::<SocketAddr>().ok()?.ip());
    let address = bare().unwrap_or(text).parse().ok();
    address.or_else(with_port)
}

/// Addresses that begin alike, such as `10.0.1.0/24`; or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    first: IpAddr,
    /// Bits in which they are alike.
    prefix: u32,
}

impl Network {
    fn contains(&self, address: IpAddr) -> bool {
        // A socket that takes both kinds says IPv4 addresses in those of IPv6.
        masked(address.to_canonical(), self.prefix) == Some(self.first)
            && address.to_canonical().is_ipv4() == self.first.is_ipv4()
    }
}

/// The address with nothing after so many bits; none if it has fewer.
fn masked(address: IpAddr, prefix: u32) -> Option<IpAddr> {
    Some(match address {
        IpAddr::V4(v4) => {
            let rest = u32::BITS.checked_sub(prefix)?;
            IpAddr::V4((v4.to_bits() & u32::MAX.checked_shl(rest).unwrap_or(0)).into())
        }
        IpAddr::V6(v6) => {
            let rest = u128::BITS.checked_sub(prefix)?;
            IpAddr::V6((v6.to_bits() & u128::MAX.checked_shl(rest).unwrap_or(0)).into())
        }
    })
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Network, String> {
        let invalid =
            || format!("'{text}' is neither an address nor a network such as 10.0.1.0/24");
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| invalid())?;
        let bits = if address.is_ipv4() {
            u32::BITS
        } else {
            u128::BITS
        };
        let prefix = match prefix {
            Some(prefix) => prefix.parse().map_err(|_| invalid())?,
            None => bits,
        };
        if prefix == 0 {
            return Err(format!(
                "'{text}' is every address: then any client could say who it is; name the proxies"
            ));
        }
        let first = masked(address, prefix).ok_or_else(invalid)?;
        if first != address {
            return Err(format!(
                "'{text}' has bits behind its prefix; that network is {first}/{prefix}"
            ));
        }
        Ok(Network { first, prefix })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use warp::http::HeaderValue;

    fn address(text: &str) -> IpAddr {
        text.parse().expect(text)
    }

    fn within(networks: &[&str]) -> TrustedProxies {
        TrustedProxies::In(networks.iter().map(|n| n.parse().expect(n)).collect())
    }

    fn client(proxies: &TrustedProxies, peer: &str, lines: &[&str]) -> IpAddr {
        let mut headers = HeaderMap::new();
        for line in lines {
            let line = HeaderValue::from_bytes(line.as_bytes()).expect("a header");
            headers.append(FORWARDED_FOR, line);
        }
        proxies.client(address(peer), &headers)
    }

    #[test]
    fn addresses_as_proxies_write_them() {
        for (text, address) in [
            ("192.0.2.1", "192.0.2.1"),
            ("192.0.2.1:41234", "192.0.2.1"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:443", "2001:db8::1"),
            ("::ffff:192.0.2.1", "::ffff:192.0.2.1"),
        ] {
            assert_eq!(address_in(text), address.parse().ok(), "{text}");
        }
        for text in [
            "",
            "unknown",
            "_hidden",
            "192.0.2.1:x",
            "[192.0.2.1",
            "[]",
            "a:1",
        ] {
            assert_eq!(address_in(text), None, "{text}");
        }
    }

    #[test]
    fn who_asks() {
        let none = TrustedProxies::None;
        let one = TrustedProxies::WhoeverConnects;
        let ours = within(&["10.0.1.0/24", "fd00::/8", "192.0.2.7"]);
        for (proxies, peer, lines, expected) in [
            // Nobody is believed, and nobody else than the proxies.
            (&none, "10.0.1.1", &["6.6.6.6"][..], "10.0.1.1"),
            (&ours, "203.0.113.1", &["6.6.6.6"], "203.0.113.1"),
            (&ours, "10.0.2.1", &["6.6.6.6"], "10.0.2.1"),
            (&ours, "192.0.2.8", &["6.6.6.6"], "192.0.2.8"),
            // A proxy that says nothing asks for itself.
            (&ours, "10.0.1.1", &[], "10.0.1.1"),
            // The last that is no proxy's, over all lines of the header.
            (&one, "10.0.1.1", &["6.6.6.6, 10.0.1.2"], "10.0.1.2"),
            (&ours, "10.0.1.1", &["6.6.6.6, 203.0.113.1"], "203.0.113.1"),
            (
                &ours,
                "10.0.1.1",
                &["6.6.6.6", "203.0.113.1:80 ,fd00::1", "[fd12::1]:443"],
                "203.0.113.1",
            ),
            (
                &ours,
                "::ffff:10.0.1.1",
                &["203.0.113.1,::ffff:192.0.2.7"],
                "203.0.113.1",
            ),
            // Proxies only: the first of them.
            (&ours, "10.0.1.1", &["10.0.1.3,10.0.1.2"], "10.0.1.3"),
            // What is no address hides who asked: it is the proxy that wrote it down.
            (
                &ours,
                "10.0.1.1",
                &["203.0.113.1,unknown,10.0.1.2"],
                "10.0.1.2",
            ),
            (&ours, "10.0.1.1", &["203.0.113.1,\u{fc}"], "10.0.1.1"),
        ] {
            let found = client(proxies, peer, lines);
            assert_eq!(found, address(expected), "{peer} {lines:?}");
        }
    }

    #[test]
    fn what_is_a_network() {
        let network = |text: &str| text.parse::<Network>();
        for text in ["10.0.0.0/8", "10.1.2.3", "10.1.2.3/32", "::1", "fd00::/8"] {
            assert!(network(text).is_ok(), "{text}");
        }
        for (text, why) in [
            ("", "neither"),
            ("a", "neither"),
            ("10.0.0.0/33", "neither"),
            ("fd00::/129", "neither"),
            ("10.0.0.0/-1", "neither"),
            ("10.0.0.0/", "neither"),
            ("0.0.0.0/0", "every address"),
            ("::/0", "every address"),
            ("10.0.1.7/24", "is 10.0.1.0/24"),
        ] {
            let refused = network(text).expect_err(text);
            assert!(refused.contains(why), "{text}: {refused}");
        }
    }

    proptest! {
        /// Whatever a client has written: the proxy appends where it came from.
        #[test]
        fn nobody_can_say_who_they_are(made_up in "[ -~]{0,60}", from: std::net::Ipv4Addr) {
            let ours = within(&["10.0.0.0/8", "fd00::/8"]);
            prop_assume!(!ours.contain(from.into()));
            let line = format!("{made_up},{from}");
            let found = client(&ours, "10.0.1.1", &["10.0.1.9", &line]);
            prop_assert_eq!(found, IpAddr::V4(from));
            // And behind two.
            let found = client(&ours, "fd00::1", &[&line, "10.0.1.1"]);
            prop_assert_eq!(found, IpAddr::V4(from));
        }
    }
}
