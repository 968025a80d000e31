//! From a provider's upstream to a connection that stands: resolve, check every address, dial, TLS.

use std::error::Error;
use std::fmt::Write as _;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use url::Host;

use super::address::Policy;
use super::{Failure, FailureKind};
use crate::runtime::provider::Upstream;

/// A connection to a vendor.
pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    /// No socket at all.
    #[cfg(test)]
    Memory(super::memory::End),
}

/// How an address that may be dialled becomes a connection.
#[derive(Default)]
pub(crate) enum Network {
    /// By the kernel.
    #[default]
    Kernel,
    /// Within a test.
    #[cfg(test)]
    Memory(super::memory::Network),
}

impl Stream {
    /// The other end; `None`: it is gone.
    pub(crate) fn peer(&self) -> Option<SocketAddr> {
        match self {
            Self::Plain(stream) => stream.peer_addr().ok(),
            Self::Tls(stream) => stream.get_ref().0.peer_addr().ok(),
            #[cfg(test)]
            Self::Memory(end) => Some(end.address),
        }
    }
}

/// Verification against Mozilla's roots and these, with HTTP/1.1 as the only protocol offered.
pub(crate) fn tls_config(extra_roots: &[CertificateDer<'static>]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    // Each was found to be a certificate when the provider was compiled.
    roots.add_parsable_certificates(extra_roots.iter().cloned());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has the default protocol versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

/// Connects within `patience`, name resolution and TLS included.
pub(crate) async fn connect(
    network: &Network,
    upstream: &Upstream,
    tls: Option<&Arc<ClientConfig>>,
    policy: Policy<'_>,
    patience: Duration,
) -> Result<Stream, Failure> {
    let deadline = Instant::now() + patience;
    let late = || Failure::new(FailureKind::ConnectTimeout, "no connection in time");
    let addresses = timeout_at(deadline, resolve(upstream)).await.map_err(|_| late())??;
    let allowed: Vec<_> =
        addresses.iter().copied().filter(|address| policy.allows(upstream.scheme, *address)).collect();
    if allowed.is_empty() {
        return Err(Failure::new(FailureKind::Forbidden, format!("none of {addresses:?} may be dialled")));
    }
    match network {
        Network::Kernel => {}
        #[cfg(test)]
        Network::Memory(network) => return network.dial(&allowed),
    }
    let stream = dial(&allowed, policy, deadline).await?;
    let Some(config) = tls else { return Ok(Stream::Plain(stream)) };
    let name = match &upstream.host {
        Host::Domain(name) => ServerName::try_from(name.to_string())
            .map_err(|_| Failure::new(FailureKind::Tls, "the host is no name a certificate could carry"))?,
        Host::Ipv4(address) => ServerName::from(IpAddr::V4(*address)),
        Host::Ipv6(address) => ServerName::from(IpAddr::V6(*address)),
    };
    let handshake = TlsConnector::from(Arc::clone(config)).connect(name, stream);
    match timeout_at(deadline, handshake).await {
        Ok(Ok(stream)) => Ok(Stream::Tls(Box::new(stream))),
        Ok(Err(error)) => Err(Failure::new(FailureKind::Tls, chain(&error))),
        Err(_) => Err(late()),
    }
}

async fn resolve(upstream: &Upstream) -> Result<Vec<SocketAddr>, Failure> {
    match &upstream.host {
        Host::Ipv4(address) => Ok(vec![SocketAddr::new(IpAddr::V4(*address), upstream.port)]),
        Host::Ipv6(address) => Ok(vec![SocketAddr::new(IpAddr::V6(*address), upstream.port)]),
        Host::Domain(name) => match tokio::net::lookup_host((&**name, upstream.port)).await {
            Ok(addresses) => Ok(addresses.collect()),
            Err(error) => Err(Failure::new(FailureKind::Unresolvable, chain(&error))),
        },
    }
}

/// One address after the other, each with its share of the time that is left.
async fn dial(addresses: &[SocketAddr], policy: Policy<'_>, deadline: Instant) -> Result<TcpStream, Failure> {
    let mut failure = Failure::new(FailureKind::Unresolvable, "the name has no address");
    for (index, address) in addresses.iter().enumerate() {
        let left = deadline.saturating_duration_since(Instant::now());
        let others = u32::try_from(addresses.len() - index).unwrap_or(u32::MAX);
        match timeout_at(Instant::now() + left / others, TcpStream::connect(address)).await {
            Ok(Ok(stream)) if policy.listens_everywhere_on(address.port()) && is_to_itself(&stream) => {
                failure = Failure::new(FailureKind::Forbidden, format!("{address} is a listener of our own"));
            }
            Ok(Ok(stream)) => {
                // Only a wish: a connection without it still works.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Ok(Err(error)) => failure = Failure::new(FailureKind::Refused, format!("{address}: {error}")),
            Err(_) => failure = Failure::new(FailureKind::ConnectTimeout, format!("{address}: no answer in time")),
        }
    }
    Err(failure)
}

/// Whether both ends are on this machine: then they have one address.
fn is_to_itself(stream: &TcpStream) -> bool {
    matches!((stream.local_addr(), stream.peer_addr()), (Ok(local), Ok(peer))
        if local.ip().to_canonical() == peer.ip().to_canonical())
}

/// An error with all its sources, for the log.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let _ = write!(text, ": {error}");
        source = error.source();
    }
    text
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
            #[cfg(test)]
            Self::Memory(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
            #[cfg(test)]
            Self::Memory(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            #[cfg(test)]
            Self::Memory(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
            #[cfg(test)]
            Self::Memory(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
            #[cfg(test)]
            Self::Memory(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
            #[cfg(test)]
            Self::Memory(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
