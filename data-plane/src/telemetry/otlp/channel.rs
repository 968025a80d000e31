//! The way to a collector: one channel, dialled when there is something to tell and again when it broke.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};
use url::Url;

use crate::config::telemetry::TelemetryError;

/// Until a connection stands.
const CONNECT: Duration = Duration::from_secs(5);

/// Dials nothing yet. `https` is verified against Mozilla's roots.
pub(super) fn open(endpoint: &str, timeout: Duration) -> Result<Channel, TelemetryError> {
    let url = Url::parse(endpoint).map_err(|_| TelemetryError::Endpoint)?;
    let tls = match url.scheme() {
        "http" => None,
        "https" => Some(tls()),
        _ => return Err(TelemetryError::Endpoint),
    };
    let host = url.host_str().ok_or(TelemetryError::Endpoint)?.to_owned();
    let default = if tls.is_some() { 443 } else { 80 };
    let port = url.port().unwrap_or(default);
    // A path in front of the service's, for collectors behind a proxy, is left to the protocol that has paths.
    let authority = format!("{}://{host}:{port}", url.scheme());
    let endpoint = Endpoint::try_from(authority).map_err(|_| TelemetryError::Endpoint)?;
    let endpoint = endpoint.timeout(timeout).connect_timeout(CONNECT);
    let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned()).map_err(|_| TelemetryError::Endpoint)?;
    let address: Arc<str> = format!("{host}:{port}").into();
    let connector = tower::service_fn(move |_: Uri| {
        let (address, name, tls) = (Arc::clone(&address), name.clone(), tls.clone());
        async move { dial(&address, name, tls).await.map(TokioIo::new) }
    });
    Ok(endpoint.connect_with_connector_lazy(connector))
}

fn tls() -> Arc<ClientConfig> {
    let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has the default protocol versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}

async fn dial(address: &str, name: ServerName<'static>, tls: Option<Arc<ClientConfig>>) -> io::Result<Stream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    match tls {
        None => Ok(Stream::Plain(stream)),
        Some(tls) => Ok(Stream::Tls(Box::new(TlsConnector::from(tls).connect(name, stream).await?))),
    }
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_endpoint_is_a_url_with_a_host() {
        for bad in ["collector:4317", "ftp://collector", "http://", "127.0.0.1:4317", "unix:///run/collector"] {
            assert!(matches!(open(bad, CONNECT), Err(TelemetryError::Endpoint)), "{bad}");
        }
        for good in ["http://collector:4317", "https://collector", "http://[::1]:4317/"] {
            assert!(open(good, CONNECT).is_ok(), "{good}");
        }
    }
}
