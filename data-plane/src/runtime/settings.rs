//! What holds for the whole gateway.

use ipnet::IpNet;
use url::Url;

/// Unset: the strictest, public upstreams only.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Name of the gateway.
    pub gateway: Box<str>,
    /// Private or loopback ranges that upstreams may lie in; plain http is allowed only inside these.
    pub upstream_networks: Box<[IpNet]>,
    /// Public base URLs of the gateway, without a trailing slash; the first is used for links that must lead back.
    pub base_urls: Box<[Box<str>]>,
}

mod wire {
    use prost::Message as _;

    use super::{IpNet, Settings, Url};
    use crate::runtime::invalid::{Code, Invalid};

    impl TryFrom<&[u8]> for Settings {
        type Error = Invalid;

        fn try_from(body: &[u8]) -> Result<Self, Invalid> {
            let proto::config::Settings { gateway, upstream_networks, base_urls } =
                proto::config::Settings::decode(body)
                    .map_err(|_| Invalid::new("", Code::Undecodable, "the settings cannot be decoded"))?;
            let mut networks = Vec::with_capacity(upstream_networks.len());
            for (index, network) in upstream_networks.iter().enumerate() {
                let network: IpNet = network.parse().map_err(|_| {
                    Invalid::new(format!("/upstreamNetworks/{index}"), Code::Malformed, "not a range in CIDR notation")
                })?;
                networks.push(network.trunc());
            }
            let mut urls = Vec::with_capacity(base_urls.len());
            for (index, url) in base_urls.iter().enumerate() {
                let valid = Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
                if !valid {
                    return Err(Invalid::new(
                        format!("/baseUrls/{index}"),
                        Code::Malformed,
                        "not an http or https URL",
                    ));
                }
                urls.push(url.trim_end_matches('/').into());
            }
            Ok(Self { gateway: gateway.into(), upstream_networks: networks.into(), base_urls: urls.into() })
        }
    }
}
