//! Gateways: a deployment target with public base URLs; its processes are nodes.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use url::Url;
use utoipa::ToSchema;

use super::duration::Duration;
use super::error::{Error, Violation};
use super::id::GatewayTokenId;
use super::resource::Noun;
use super::security::check_texts;

/// What an author says about a gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GatewaySpec {
    /// For people.
    #[serde(default)]
    pub display_name: String,
    /// For people.
    #[serde(default)]
    pub description: String,
    /// Where callers reach it: Invoke URLs are made from these.
    #[serde(default)]
    pub base_urls: Vec<String>,
    /// Private and loopback networks (CIDR) that upstreams may lie in; only the owner may change them.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub upstream_networks: Vec<IpNet>,
}

impl Noun for GatewaySpec {
    const INPUT: &'static str = "GatewayInput";
}

impl GatewaySpec {
    /// Checks everything that needs no other row.
    pub fn accept(mut self) -> Result<Self, Error> {
        let mut violations = Vec::new();
        check_texts(&self.display_name, &self.description, &mut violations);
        if self.base_urls.len() > 8 {
            violations.push(Violation::invalid("/baseUrls", "must be at most 8"));
        }
        for (index, text) in self.base_urls.iter_mut().enumerate() {
            match base_url(text) {
                Some(url) => *text = url,
                None => violations.push(Violation::invalid(
                    format!("/baseUrls/{index}"),
                    "must be an http or https URL without user, query and fragment, such as `https://ai.example.com`",
                )),
            }
        }
        if self.upstream_networks.len() > 64 {
            violations.push(Violation::invalid("/upstreamNetworks", "must be at most 64"));
        }
        for network in &mut self.upstream_networks {
            *network = network.trunc();
        }
        if violations.is_empty() { Ok(self) } else { Err(Error::Invalid(violations)) }
    }
}

/// Without its trailing slash.
fn base_url(text: &str) -> Option<String> {
    let url = Url::parse(text).ok()?;
    let plain = matches!(url.scheme(), "http" | "https")
        && url.host().is_some()
        && url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none()
        && text.len() <= 512;
    plain.then(|| url.as_str().trim_end_matches('/').to_owned())
}

/// A gateway token as it is listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct GatewayToken {
    /// Its id.
    pub id: GatewayTokenId,
    /// `lge_<id>_...`.
    pub display: String,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// When it ends; null: never.
    #[serde(with = "time::serde::rfc3339::option")]
    pub expires_at: Option<OffsetDateTime>,
    /// When a node last connected with it; null: never.
    #[serde(with = "time::serde::rfc3339::option")]
    pub last_used_at: Option<OffsetDateTime>,
}

/// A gateway token, this once.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct MintedGatewayToken {
    /// Its id.
    pub id: GatewayTokenId,
    /// `lge_...`; never shown again.
    pub token: String,
    /// When it ends; null: never.
    #[serde(with = "time::serde::rfc3339::option")]
    pub expires_at: Option<OffsetDateTime>,
}

/// A gateway token as it is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GatewayTokenInput {
    /// From now; null or absent: it never ends.
    #[serde(default)]
    pub expires_in: Option<Duration>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_urls_are_plain_and_lose_their_slash() {
        assert_eq!(base_url("http://127.0.0.1:8080/").as_deref(), Some("http://127.0.0.1:8080"));
        assert_eq!(base_url("https://ai.example.com/gw/").as_deref(), Some("https://ai.example.com/gw"));
        for text in ["", "ai.example.com", "ftp://a", "https://u@a", "https://a?x", "https://a#x"] {
            assert_eq!(base_url(text), None, "{text}");
        }
    }
}
