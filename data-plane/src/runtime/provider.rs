//! A connection to one vendor account, compiled: where to dial, what to say there, and with which credential.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use rustls_pki_types::CertificateDer;
use url::Host;
use uuid::Uuid;

use super::access::Access;
use super::carried::Carried;
use super::models::ModelRules;
use super::price::Prices;
use super::template::Template;
use crate::limit::rule::Rule;
use crate::telemetry::meters::ProviderMeters;

/// A provider.
pub struct Provider {
    /// Id of the endpoint that it is.
    pub id: Uuid,
    /// Its name.
    pub name: Box<str>,
    /// How the vendor is spoken to.
    pub template: Arc<Template>,
    /// Switched off by an administrator: no proxy may use it either.
    pub disabled: bool,
    /// WebSocket may be spoken over it.
    pub realtime: bool,
    /// Its streams are asked for usage on a client's behalf where the template says so.
    pub asks_usage: bool,
    /// Where the vendor is.
    pub upstream: Upstream,
    /// The credential header, marked sensitive; `None`: none is sent.
    pub credential: Option<(HeaderName, HeaderValue)>,
    /// Connections are shared only by requests that agree in this.
    pub destination: Destination,
    /// What the administrator set.
    pub timeouts: Timeouts,
    /// What the administrator set.
    pub max_body_bytes: Option<u64>,
    /// Which requests pass at all; `None`: every one.
    pub access: Option<Box<Access>>,
    /// Which models it may be asked for; `None`: all, as they are named.
    pub models: Option<Box<ModelRules>>,
    /// How much it may be used, whoever calls it.
    pub limits: Box<[Rule]>,
    /// How an attempt here that was answered 200 is told: by far the most frequent one is made once.
    pub answered: HeaderValue,
    /// What its tokens cost.
    pub prices: Prices,
    /// What is counted of it.
    pub(crate) meters: Carried<ProviderMeters>,
}

impl fmt::Debug for Provider {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Provider").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Where a vendor is, parsed once.
#[derive(Debug)]
pub struct Upstream {
    /// Whether the connection is encrypted.
    pub scheme: Scheme,
    /// Name or address.
    pub host: Host<Box<str>>,
    /// Always there.
    pub port: u16,
    /// What goes into the `Host` header.
    pub authority: HeaderValue,
    /// Precedes the vendor path; begins with a slash or is empty, never ends with one.
    pub prefix: Box<str>,
    /// Trusted beside the public roots, each already found to be a certificate.
    pub extra_roots: Box<[CertificateDer<'static>]>,
}

/// Of an upstream URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Plain, only inside the gateway's upstream networks.
    Http,
    /// TLS.
    Https,
}

/// Identity of a connection pool: a connection is never used for another provider, place, trust or credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Destination {
    /// The provider.
    pub provider: Uuid,
    /// Digest of everything else that a connection depends on.
    pub generation: u64,
}

/// `None`: the next wider setting decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// Until the connection stands, TLS included.
    pub connect: Option<Duration>,
    /// Until the head of the answer.
    pub first_byte: Option<Duration>,
    /// Between two pieces of the answer.
    pub idle: Option<Duration>,
    /// Of the whole request, over all attempts, to the end of the answer.
    pub total: Option<Duration>,
}

impl Timeouts {
    /// These, and where they are unset the others.
    #[must_use]
    pub fn or(self, wider: Self) -> Self {
        Self {
            connect: self.connect.or(wider.connect),
            first_byte: self.first_byte.or(wider.first_byte),
            idle: self.idle.or(wider.idle),
            total: self.total.or(wider.total),
        }
    }
}

pub(super) mod wire {
    use rustls::RootCertStore;
    use rustls_pki_types::pem::PemObject as _;
    use sha2::{Digest as _, Sha256};
    use url::Url;

    use super::{
        Arc, CertificateDer, Destination, Duration, HeaderName, HeaderValue, Host, Scheme, Template, Timeouts,
        Upstream, Uuid,
    };
    use crate::runtime::invalid::{Code, Invalid};
    use crate::runtime::secret::Secret;

    /// A provider's name as a header can carry it, with this ending.
    pub(in crate::runtime) fn told(name: &str, ending: &str) -> HeaderValue {
        let plain = |letter: char| if letter.is_ascii_graphic() && !";,".contains(letter) { letter } else { '_' };
        let text: String = name.chars().map(plain).chain([';']).chain(ending.chars()).collect();
        HeaderValue::from_str(&text).expect("graphic ASCII is fit for a header")
    }

    impl From<Option<proto::config::Timeouts>> for Timeouts {
        fn from(timeouts: Option<proto::config::Timeouts>) -> Self {
            let proto::config::Timeouts { connect_ms, first_byte_ms, idle_ms, total_ms } = timeouts.unwrap_or_default();
            let set = |ms: u32| (ms != 0).then(|| Duration::from_millis(ms.into()));
            Self { connect: set(connect_ms), first_byte: set(first_byte_ms), idle: set(idle_ms), total: set(total_ms) }
        }
    }

    /// An upstream whose secret is still a reference.
    pub(in crate::runtime) struct Parsed {
        pub(in crate::runtime) upstream: Upstream,
        pub(in crate::runtime) secret: Option<Uuid>,
        digest: Sha256,
    }

    impl TryFrom<proto::config::Upstream> for Parsed {
        type Error = Invalid;

        fn try_from(upstream: proto::config::Upstream) -> Result<Self, Invalid> {
            let proto::config::Upstream { url, secret_id, extra_ca_pem } = upstream;
            let mut digest = Sha256::new();
            for part in [url.as_bytes(), extra_ca_pem.as_bytes()] {
                digest.update((part.len() as u64).to_le_bytes());
                digest.update(part);
            }
            let bad_url = |message: &'static str| Invalid::new("/upstream/url", Code::Malformed, message);
            let parsed = Url::parse(&url).map_err(|_| bad_url("not a URL"))?;
            let scheme = match parsed.scheme() {
                "http" => Scheme::Http,
                "https" => Scheme::Https,
                _ => return Err(bad_url("neither http nor https")),
            };
            if !parsed.username().is_empty() || parsed.password().is_some() {
                return Err(bad_url("a URL with a user in it"));
            }
            if parsed.query().is_some() || parsed.fragment().is_some() {
                return Err(bad_url("a URL with a query or fragment"));
            }
            let host: Host<Box<str>> = match parsed.host() {
                Some(Host::Domain(name)) => Host::Domain(name.into()),
                Some(Host::Ipv4(address)) => Host::Ipv4(address),
                Some(Host::Ipv6(address)) => Host::Ipv6(address),
                None => return Err(bad_url("a URL without a host")),
            };
            let port = parsed.port_or_known_default().ok_or_else(|| bad_url("a URL without a port"))?;
            let authority = HeaderValue::from_str(&parsed[url::Position::BeforeHost..url::Position::AfterPort])
                .map_err(|_| bad_url("a host that no header can carry"))?;
            let secret = match secret_id.as_ref() {
                [] => None,
                id => Some(Uuid::from_slice(id).map_err(|_| {
                    Invalid::new("/upstream/credential", Code::Malformed, "a secret's id has 16 bytes")
                })?),
            };
            let upstream = Upstream {
                scheme,
                host,
                port,
                authority,
                prefix: parsed.path().trim_end_matches('/').into(),
                extra_roots: roots(&extra_ca_pem)?,
            };
            Ok(Self { upstream, secret, digest })
        }
    }

    /// An upstream with its credential.
    pub(in crate::runtime) struct Resolved {
        pub(in crate::runtime) upstream: Upstream,
        pub(in crate::runtime) credential: Option<(HeaderName, HeaderValue)>,
        pub(in crate::runtime) destination: Destination,
    }

    impl Parsed {
        /// The header that carries the credential, and the pool's identity.
        pub(in crate::runtime) fn resolve(
            self,
            id: Uuid,
            template: &Arc<Template>,
            secret: Option<&Secret>,
        ) -> Result<Resolved, Invalid> {
            let Self { upstream, secret: _, mut digest } = self;
            let credential = match (&template.credential_header, secret) {
                (Some(name), Some(secret)) => {
                    digest.update(secret.version.to_le_bytes());
                    digest.update(secret.expose());
                    let mut value = template.credential_prefix.as_bytes().to_vec();
                    value.extend_from_slice(secret.expose());
                    let value = HeaderValue::from_maybe_shared(bytes::Bytes::from(value)).map(|mut value| {
                        value.set_sensitive(true);
                        value
                    });
                    let value = value.map_err(|_| {
                        Invalid::new("/upstream/credential", Code::Malformed, "no header can carry the credential")
                    })?;
                    Some((name.clone(), value))
                }
                (None, _) | (_, None) => None,
            };
            let digest = digest.finalize();
            let generation = digest.iter().take(8).fold(0, |sum, byte| (sum << 8) | u64::from(*byte));
            Ok(Resolved { upstream, credential, destination: Destination { provider: id, generation } })
        }
    }

    fn roots(pem: &str) -> Result<Box<[CertificateDer<'static>]>, Invalid> {
        let malformed = |message: &'static str| Invalid::new("/upstream/caPem", Code::Malformed, message);
        let mut store = RootCertStore::empty();
        let mut roots = Vec::new();
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            let certificate = certificate.map_err(|_| malformed("not certificates in PEM"))?.into_owned();
            store.add(certificate.clone()).map_err(|_| malformed("not a certificate authority's certificate"))?;
            roots.push(certificate);
        }
        if roots.is_empty() && !pem.trim().is_empty() {
            return Err(malformed("no certificate in it"));
        }
        Ok(roots.into())
    }
}
