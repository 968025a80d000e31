//! Which addresses may be dialled. Pure; asked for every address a name resolves to, at every connection.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;

use crate::runtime::provider::Scheme;

/// What an address is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    /// On the public internet.
    Public,
    /// Loopback or private: only where the gateway's networks name its range.
    Private,
    /// Link-local, metadata services, multicast, unspecified, reserved: never.
    Never,
}

/// What one connection may reach.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Policy<'a> {
    /// The gateway's own choice of private ranges.
    pub(crate) networks: &'a [IpNet],
    /// Never dialled, whatever the networks say.
    pub(crate) protected: &'a [SocketAddr],
}

impl Policy<'_> {
    /// Whether this address may be dialled in this way.
    pub(crate) fn allows(self, scheme: Scheme, address: SocketAddr) -> bool {
        let ip = address.ip().to_canonical();
        if self.is_protected(ip, address.port()) {
            return false;
        }
        let named = self.networks.iter().any(|network| network.contains(&ip));
        match (classify(ip), scheme) {
            (Class::Never, _) => false,
            (Class::Private, _) | (Class::Public, Scheme::Http) => named,
            (Class::Public, Scheme::Https) => true,
        }
    }

    /// Whether we listen on this port on every address of this machine, which nobody can list beforehand.
    pub(crate) fn listens_everywhere_on(self, port: u16) -> bool {
        self.protected.iter().any(|own| own.port() == port && own.ip().is_unspecified())
    }

    fn is_protected(self, ip: IpAddr, port: u16) -> bool {
        let ip = embedded(ip).map_or(ip, IpAddr::V4);
        self.protected.iter().any(|own| {
            let own_ip = own.ip().to_canonical();
            // Listening on every address, it is reached on every local one.
            own.port() == port && (own_ip == ip || (own_ip.is_unspecified() && ip.is_loopback()))
        })
    }
}

fn classify(ip: IpAddr) -> Class {
    match ip {
        IpAddr::V4(ip) => classify_v4(ip),
        IpAddr::V6(ip) => classify_v6(ip),
    }
}

#[expect(clippy::match_same_arms, reason = "one arm for each reason")]
fn classify_v4(ip: Ipv4Addr) -> Class {
    let [a, b, c, d] = ip.octets();
    match (a, b, c, d) {
        // "This network", link-local with the metadata services of most clouds, protocol assignments with Oracle's,
        // Alibaba's inside the shared range, multicast, reserved, broadcast.
        (0 | 224..=255, ..) | (169, 254, ..) | (192, 0, 0, _) | (100, 100, 100, 200) => Class::Never,
        // Azure's virtual public address of the host.
        (168, 63, 129, 16) => Class::Never,
        // Documentation.
        (192, 0, 2, _) | (198, 51, 100, _) | (203, 0, 113, _) => Class::Never,
        (10 | 127, ..) | (172, 16..=31, ..) | (192, 168, ..) => Class::Private,
        // Shared address space and benchmarking.
        (100, 64..=127, ..) | (198, 18..=19, ..) => Class::Private,
        _ => Class::Public,
    }
}

#[expect(clippy::match_same_arms, reason = "one arm for each reason")]
fn classify_v6(ip: Ipv6Addr) -> Class {
    if let Some(inner) = embedded(IpAddr::V6(ip)) {
        return classify_v4(inner);
    }
    let segments = ip.segments();
    match segments {
        [0, 0, 0, 0, 0, 0, 0, 1] => Class::Private,
        // The metadata services of AWS and Google over IPv6, pod credentials included.
        [0xfd00, 0x0ec2, ..] | [0xfd20, 0x00ce, ..] => Class::Never,
        // Local NAT64: where in it the IPv4 address stands is its operator's choice, so it cannot be judged.
        [0x0064, 0xff9b, 1, ..] => Class::Never,
        [0xfc00..=0xfdff | 0xfec0..=0xfeff, ..] => Class::Private,
        // Link-local and multicast.
        [0xfe80..=0xfebf | 0xff00..=0xffff, ..] => Class::Never,
        // Discard only, documentation.
        [0x0100, 0, 0, 0, ..] | [0x2001, 0x0db8, ..] | [0x3fff, 0..=0x0fff, ..] => Class::Never,
        // Global unicast is 2000::/3; the rest is unassigned, `::` included.
        [0x2000..=0x3fff, ..] => Class::Public,
        _ => Class::Never,
    }
}

/// The IPv4 address that an IPv6 address leads to: mapped, compatible, NAT64, 6to4, Teredo, ISATAP.
fn embedded(ip: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(ip) = ip else { return None };
    let segments = ip.segments();
    let pair = |high: u16, low: u16| Ipv4Addr::from(u32::from(high) << 16 | u32::from(low));
    match segments {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x0064, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..]
        | [_, _, _, _, 0 | 0x0200, 0x5efe, high, low] => Some(pair(high, low)),
        // The client's address is stored inverted.
        [0x2001, 0, _, _, _, _, high, low] => Some(pair(!high, !low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(networks: &[&str], scheme: Scheme, address: &str) -> bool {
        let networks: Vec<IpNet> = networks.iter().map(|network| network.parse().unwrap()).collect();
        let protected: Vec<SocketAddr> = vec!["127.0.0.1:9000".parse().unwrap(), "0.0.0.0:9001".parse().unwrap()];
        let address = SocketAddr::new(address.parse().unwrap(), 443);
        Policy { networks: &networks, protected: &protected }.allows(scheme, address)
    }

    #[test]
    fn public_addresses_take_tls_alone() {
        for address in ["1.1.1.1", "104.18.6.192", "2606:4700::1111", "64:ff9b::808:808", "2002:808:808::1"] {
            assert!(allows(&[], Scheme::Https, address), "{address}");
            assert!(!allows(&[], Scheme::Http, address), "{address}");
        }
        assert!(allows(&["1.1.1.0/24"], Scheme::Http, "1.1.1.1"));
    }

    #[test]
    fn private_addresses_need_their_range() {
        for (address, network) in [
            ("127.0.0.1", "127.0.0.0/8"),
            ("10.1.2.3", "10.0.0.0/8"),
            ("172.31.0.1", "172.16.0.0/12"),
            ("192.168.1.1", "192.168.0.0/16"),
            ("100.64.0.1", "100.64.0.0/10"),
            ("::1", "::1/128"),
            ("fd12::1", "fd00::/8"),
            ("::ffff:127.0.0.1", "127.0.0.0/8"),
        ] {
            for scheme in [Scheme::Http, Scheme::Https] {
                assert!(!allows(&[], scheme, address), "{address}");
                assert!(!allows(&["203.0.113.0/24"], scheme, address), "{address}");
                assert!(allows(&[network], scheme, address), "{address}");
            }
        }
    }

    #[test]
    fn what_must_never_be_dialled_is_not_even_where_the_networks_name_it() {
        let addresses = [
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "169.254.170.2",
            "224.0.0.1",
            "239.1.1.1",
            "240.0.0.1",
            "255.255.255.255",
            "100.100.100.200",
            "168.63.129.16",
            "192.0.0.192",
            "::",
            "fe80::1",
            "ff02::1",
            "fd00:ec2::254",
            "fd00:ec2::23",
            "fd20:ce::254",
            "64:ff9b:1:a9fe:a9:fe00:808:808",
            "::ffff:169.254.169.254",
            "::169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::a9fe:a9fe",
            "2002:a9fe:a9fe::1",
            "2001:0:1:2:3:4:5601:5601",
            "2001:470::5efe:a9fe:a9fe",
            "::ffff:0:a9fe:a9fe",
            "::ffff:0.0.0.0",
            "2002:7f00:1::",
        ];
        for address in addresses {
            for networks in [&[][..], &["0.0.0.0/0", "::/0"]] {
                let never = address != "2002:7f00:1::" || networks.is_empty();
                assert!(!allows(networks, Scheme::Https, address) || !never, "{address}");
            }
        }
    }

    #[test]
    fn our_own_listeners_are_never_dialled() {
        let networks = ["127.0.0.0/8".parse().unwrap(), "::/0".parse().unwrap()];
        let protected = ["127.0.0.1:9000".parse().unwrap(), "0.0.0.0:9001".parse().unwrap()];
        let policy = Policy { networks: &networks, protected: &protected };
        for address in ["127.0.0.1:9000", "[::ffff:127.0.0.1]:9000", "127.0.0.1:9001", "127.8.8.8:9001", "[::1]:9001"] {
            assert!(!policy.allows(Scheme::Http, address.parse().unwrap()), "{address}");
        }
        assert!(policy.allows(Scheme::Http, "127.0.0.1:9002".parse().unwrap()));
    }
}
