//! Where a provider's requests go: one URL, parsed once, and the networks in which it may lie.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde::{Deserialize, Serialize};
use url::{Host, Url};
use utoipa::ToSchema;

use super::error::Violation;
use super::id::SecretId;
use super::resource::Warning;
use super::template::TemplateSpec;
use crate::sensitive::Sensitive;

/// Where requests go and what they carry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Upstream<C> {
    /// Scheme, host, port and path prefix. Empty or absent when written: the template's default.
    #[serde(default)]
    pub url: String,
    /// What the vendor is shown; null: nothing.
    #[serde(default = "Option::default")]
    pub credential: Option<C>,
    /// Certificates (PEM) that are trusted beside the public ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_pem: Option<String>,
}

impl<C> Default for Upstream<C> {
    fn default() -> Self {
        Self { url: String::new(), credential: None, ca_pem: None }
    }
}

/// A credential as it is kept and read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Credential {
    /// The secret that holds the value.
    pub secret: SecretId,
    /// The end of the value, so that people can tell credentials apart; null where the value is short.
    #[serde(default)]
    pub last4: Option<String>,
}

/// A credential as a client writes it: either a value or a secret.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CredentialInput {
    /// The vendor's key. Becomes a secret; never read back.
    #[serde(default)]
    #[schema(value_type = Option<String>, write_only)]
    pub value: Option<Sensitive>,
    /// Id or name of a secret.
    #[serde(default)]
    pub secret: Option<String>,
    /// As it was read; says nothing.
    #[serde(default)]
    pub last4: Option<String>,
}

/// What an upstream URL became.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// No trailing slash, no version segment.
    pub url: String,
    /// What the author should know.
    pub warnings: Vec<Warning>,
}

const POINTER: &str = "/upstream/url";

/// Understands an upstream URL. `networks` are those that the organization's gateways allow beside the public ones.
pub fn accept_url(written: &str, template: &TemplateSpec, networks: &[IpNet]) -> Result<Accepted, Violation> {
    let refuse = |message: &str| Err(Violation::invalid(POINTER, message));
    if written.is_empty() {
        return match &template.default_upstream_url {
            Some(url) => Ok(Accepted { url: url.clone(), warnings: Vec::new() }),
            None => Err(Violation::new(POINTER, "required", "this template has no default upstream")),
        };
    }
    if written.len() > 1024 {
        return refuse("must be at most 1024 characters");
    }
    let Ok(mut url) = Url::parse(written) else {
        return refuse("must be an absolute URL such as `https://api.example.com`");
    };
    if !matches!(url.scheme(), "http" | "https") {
        return refuse("must be an https URL");
    }
    if !url.username().is_empty() || url.password().is_some() || written.contains('@') {
        return refuse("must not hold a user or password; give the credential apart");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return refuse("must not hold a query or fragment");
    }
    // On the text as written: the parser repairs what we would rather refuse.
    let path = written.split_once("://").map_or("", |(_, rest)| rest);
    let dots = path.split('/').any(|segment| segment == "." || segment == "..");
    let odd = |letter: char| letter.is_ascii_whitespace() || letter.is_control() || matches!(letter, '%' | '\\');
    if path.contains("//") || dots || written.contains(odd) {
        return refuse("must have a plain path");
    }
    let Some(host) = url.host() else { return refuse("must name a host") };
    let address = match host {
        Host::Ipv4(address) => Some(IpAddr::V4(address)),
        Host::Ipv6(address) => Some(canonical(address)),
        Host::Domain("localhost") => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        Host::Domain(_) => None,
    };
    if address.is_some_and(|address| !reachable(address, networks)) {
        return refuse("lies in a network that no gateway's upstreamNetworks allow");
    }
    let mut warnings = Vec::new();
    if url.scheme() == "http" {
        let allowed = match address {
            Some(address) => networks.iter().any(|network| network.contains(&address)),
            // Resolved only on the gateway, which refuses what lies outside.
            None => !networks.is_empty(),
        };
        if !allowed {
            return refuse("must be https: plain http is only for networks that a gateway's upstreamNetworks allow");
        }
        warnings.push(Warning {
            pointer: POINTER.to_owned(),
            code: "plain_http".to_owned(),
            message: "the credential and all content travel unencrypted to this upstream".to_owned(),
        });
    }
    let path = url.path().trim_end_matches('/').to_owned();
    let kept = template.version_segments.iter().find_map(|segment| path.strip_suffix(&format!("/{segment}")));
    if let Some(kept) = kept {
        let kept = kept.to_owned();
        warnings.push(Warning {
            pointer: POINTER.to_owned(),
            code: "url_normalised".to_owned(),
            message: format!("`{}` was taken off: it is part of the paths that clients send", &path[kept.len()..]),
        });
        url.set_path(&kept);
    } else {
        url.set_path(&path);
    }
    Ok(Accepted { url: url.as_str().trim_end_matches('/').to_owned(), warnings })
}

/// Scheme, host and port: what a credential is shown to.
pub fn origin(url: &str) -> String {
    Url::parse(url).map_or_else(|_| String::new(), |url| url.origin().ascii_serialization())
}

/// Checks that a text holds certificates and nothing else.
pub fn check_ca(pem: &str, violations: &mut Vec<Violation>) {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let message = match certificates {
        _ if pem.len() > 64 * 1024 => "must be at most 64 KiB",
        _ if pem.contains('\0') => "must be text",
        _ if pem.contains("PRIVATE KEY") => "must hold certificates only, and it holds a private key",
        Ok(certificates) if !certificates.is_empty() => return,
        Ok(_) | Err(_) => "must hold at least one certificate in PEM",
    };
    violations.push(Violation::invalid("/upstream/caPem", message));
}

/// Public, or in a network that was allowed by name; some are never.
fn reachable(address: IpAddr, networks: &[IpNet]) -> bool {
    let (never, public) = match address {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            let shared = a == 100 && (64..128).contains(&b);
            let never = v4.is_link_local() || v4.is_multicast() || a == 0 || v4.is_broadcast() || a >= 240;
            (never, !(v4.is_private() || v4.is_loopback() || shared))
        }
        IpAddr::V6(v6) => {
            let never = v6.is_unicast_link_local() || v6.is_multicast() || v6.is_unspecified();
            (never, !(v6.is_loopback() || v6.is_unique_local()))
        }
    };
    !never && (public || networks.iter().any(|network| network.contains(&address)))
}

/// A v4 address that is written as v6 is the v4 address.
fn canonical(address: Ipv6Addr) -> IpAddr {
    IpAddr::V6(address).to_canonical()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::template::Templates;

    fn accept(written: &str, networks: &[&str]) -> Result<Accepted, Violation> {
        let templates = Templates::builtin().unwrap();
        let networks: Vec<IpNet> = networks.iter().map(|network| network.parse().unwrap()).collect();
        accept_url(written, &templates.find("openai").unwrap().spec, &networks)
    }

    #[test]
    fn a_trailing_version_segment_is_taken_off_and_told() {
        for written in ["https://api.openai.com/v1", "https://api.openai.com/v1/"] {
            let accepted = accept(written, &[]).unwrap();
            assert_eq!(accepted.url, "https://api.openai.com");
            assert_eq!(accepted.warnings[0].code, "url_normalised");
        }
        let prefix = accept("https://Proxy.Example.com:8443/openai/v1", &[]).unwrap();
        assert_eq!(prefix.url, "https://proxy.example.com:8443/openai");
        assert_eq!(accept("https://api.openai.com/", &[]).unwrap().warnings, []);
    }

    #[test]
    fn no_url_means_the_templates_default() {
        assert_eq!(accept("", &[]).unwrap().url, "https://api.openai.com");
    }

    #[test]
    fn what_could_hide_something_is_refused() {
        for written in [
            "ftp://a",
            "api.openai.com",
            "/v1",
            "https://",
            "https://user:pw@a.example",
            "https://@a.example",
            "https://a.example/?x=1",
            "https://a.example/#x",
            "https://a.example//b",
            "https://a.example/%2e%2e",
        ] {
            assert!(accept(written, &[]).is_err(), "{written}");
        }
    }

    #[test]
    fn private_addresses_and_plain_http_need_a_network_that_allows_them() {
        for written in [
            "http://api.openai.com",
            "https://127.0.0.1",
            "https://10.1.2.3",
            "https://localhost",
            "https://[::1]",
            "https://0x7f.1",
            "https://[::ffff:10.0.0.1]",
            "https://100.64.0.1",
        ] {
            assert!(accept(written, &[]).is_err(), "{written}");
        }
        for written in ["http://127.0.0.1:9000", "https://127.0.0.1", "http://localhost:9000", "http://model.internal"]
        {
            assert!(accept(written, &["127.0.0.0/8"]).is_ok(), "{written}");
        }
        assert!(accept("http://10.0.0.1", &["127.0.0.0/8"]).is_err());
        for written in ["https://169.254.169.254", "https://0.0.0.0", "https://[fe80::1]", "https://224.0.0.1"] {
            assert!(accept(written, &["0.0.0.0/0", "::/0"]).is_err(), "{written}");
        }
    }
}
