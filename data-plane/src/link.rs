//! The way to the control plane: TCP, then TLS pinned to the certificate authority that the gateway token names, then
//! HTTP/2. It decides whom to trust and knows nothing of what is said.

pub mod backoff;
mod pinned;

use std::{fmt, sync::Arc, time::Duration};

use hyper_util::rt::TokioIo;
use proto::token::{self, TokenKind};
use rustls_pki_types::ServerName;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;
use tonic::{
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint, Uri},
};
use zeroize::Zeroizing;

/// The name in the control plane's certificate, whatever address it is dialled at.
pub const SERVER_NAME: &str = "control-plane.lockgate.internal";
/// Largest message taken from the control plane: a part of a reset is at most 512 KiB.
pub const MAX_MESSAGE: usize = 4 << 20;
const CONNECT: Duration = Duration::from_secs(5);
const HANDSHAKE: Duration = Duration::from_secs(5);
const PING_EVERY: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// The text of a gateway token. Never printed, wiped when dropped.
#[derive(Clone)]
pub struct GatewayToken(Zeroizing<String>);

impl GatewayToken {
    /// Checks the form; whether the control plane takes it is only known once it has been asked.
    pub fn parse(text: &str) -> Result<Self, LinkError> {
        let text = text.trim();
        token::parse(TokenKind::Gateway, text).map_err(|_| LinkError::Token)?;
        Ok(Self(Zeroizing::new(text.to_owned())))
    }

    /// The public part, which may be shown: twelve characters.
    pub fn public_id(&self) -> &str {
        token::parse(TokenKind::Gateway, &self.0).expect("checked when it was made")
    }

    pub(crate) fn secret(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for GatewayToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[secret]")
    }
}

/// Where the control plane is and what opens it.
#[derive(Clone, Debug)]
pub struct Link {
    address: Arc<str>,
    bearer: MetadataValue<Ascii>,
    tls: Arc<rustls::ClientConfig>,
}

/// Why there is no link to the control plane.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// Not a gateway token, or one with a typing error.
    #[error("the gateway token is not well formed")]
    Token,
    /// The address is not `host:port`.
    #[error("the address of the control plane is not host:port: {address}")]
    Address {
        /// As configured.
        address: String,
    },
    /// TLS could not be set up: a defect of the build, not of the network.
    #[error("tls could not be set up")]
    Tls(#[source] rustls::Error),
    /// TCP, TLS or HTTP/2 did not come about.
    #[error("the control plane at {address} could not be reached")]
    Connect {
        /// As configured.
        address: Arc<str>,
        /// The layer that failed says which it was.
        #[source]
        source: tonic::transport::Error,
    },
}

impl Link {
    /// Prepares the link; dials nothing. `address` is `host:port`.
    pub fn new(address: &str, token: &GatewayToken) -> Result<Self, LinkError> {
        let well_formed = address
            .rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port != 0));
        if !well_formed {
            return Err(LinkError::Address { address: address.to_owned() });
        }
        let text = std::str::from_utf8(token.secret()).map_err(|_| LinkError::Token)?;
        let fingerprint = token::ca_fingerprint(text).ok_or(LinkError::Token)?;
        let header = Zeroizing::new(format!("Bearer {text}"));
        let mut bearer = MetadataValue::<Ascii>::try_from(header.as_str()).map_err(|_| LinkError::Token)?;
        bearer.set_sensitive(true);

        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = pinned::Pinned::new(fingerprint.to_owned(), provider.clone());
        let mut tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(LinkError::Tls)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self { address: address.into(), bearer, tls: Arc::new(tls) })
    }

    /// As configured: `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Dials. The channel never dials again by itself: a broken one is thrown away with its streams.
    pub async fn connect(&self) -> Result<Channel, LinkError> {
        let endpoint = Endpoint::from_static("http://control-plane.lockgate.internal")
            .http2_keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_TIMEOUT)
            .keep_alive_while_idle(true);
        let link = self.clone();
        let connector = tower::service_fn(move |_: Uri| {
            let link = link.clone();
            async move { link.dial().await.map(TokioIo::new) }
        });
        endpoint
            .connect_with_connector(connector)
            .await
            .map_err(|source| LinkError::Connect { address: self.address.clone(), source })
    }

    /// A request that carries the token.
    pub fn request<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        request.metadata_mut().insert("authorization", self.bearer.clone());
        request
    }

    async fn dial(&self) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let expired = |what: &str| std::io::Error::new(std::io::ErrorKind::TimedOut, format!("{what} took too long"));
        let tcp = timeout(CONNECT, TcpStream::connect(&*self.address)).await.map_err(|_| expired("connect"))??;
        tcp.set_nodelay(true)?;
        let name = ServerName::try_from(SERVER_NAME).expect("a valid name");
        let handshake = TlsConnector::from(self.tls.clone()).connect(name, tcp);
        timeout(HANDSHAKE, handshake).await.map_err(|_| expired("the tls handshake"))?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> String {
        let entropy = std::array::from_fn(|index| u8::try_from(index).expect("below 128"));
        token::mint(TokenKind::Gateway, Some(&token::fingerprint(b"ca")), &entropy).expect("enough entropy")
    }

    #[test]
    fn a_token_is_never_printed() {
        let text = token();
        let token = GatewayToken::parse(&format!(" {text}\n")).unwrap();
        let link = Link::new("localhost:9443", &token).unwrap();
        let printed = format!("{token:?} {link:?}");
        assert!(!printed.contains(&text[20..40]), "{printed}");
        assert_eq!(token.public_id(), &text[4..16]);
    }

    #[test]
    fn an_address_needs_a_host_and_a_port() {
        let token = GatewayToken::parse(&token()).unwrap();
        for address in ["", "localhost", "localhost:", ":9443", "localhost:0", "localhost:70000"] {
            assert!(matches!(Link::new(address, &token), Err(LinkError::Address { .. })), "{address}");
        }
        assert!(Link::new("[::1]:9443", &token).is_ok());
    }
}
