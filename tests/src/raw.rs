//! A client's connection in bytes, over TCP or TLS, and HTTP/2 frames written by hand.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::client::Head;

/// How long a test waits for bytes that must come.
const PATIENCE: Duration = Duration::from_secs(15);

/// One connection. Dropping it closes it.
pub struct Raw<S> {
    stream: S,
    buffer: Vec<u8>,
}

impl Raw<TcpStream> {
    /// Over TCP.
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("the gateway must accept a connection");
        stream.set_nodelay(true).expect("a socket takes the option");
        Self { stream, buffer: Vec::new() }
    }
}

impl Raw<TlsStream<TcpStream>> {
    /// Over TLS, for this name (an address: no name is sent), offering these protocols. `Err`: no handshake.
    pub async fn connect_tls(
        address: SocketAddr,
        name: &str,
        trusted: &[CertificateDer<'static>],
        protocols: &[&str],
    ) -> std::io::Result<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in trusted {
            roots.add(certificate.clone()).expect("a certificate of the test's own");
        }
        let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the default versions exist")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        let stream = TcpStream::connect(address).await?;
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
        Ok(Self { stream, buffer: Vec::new() })
    }

    /// The certificate that the other side showed.
    pub fn certificate(&self) -> CertificateDer<'static> {
        let certificates = self.stream.get_ref().1.peer_certificates().expect("a handshake shows certificates");
        certificates[0].clone().into_owned()
    }

    /// The protocol that was agreed on.
    pub fn protocol(&self) -> Option<String> {
        let protocol = self.stream.get_ref().1.alpn_protocol();
        protocol.map(|protocol| String::from_utf8_lossy(protocol).into_owned())
    }
}

/// Of an HTTP/2 connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its type.
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// Of which stream.
    pub stream: u32,
    /// What it carries.
    pub payload: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Raw<S> {
    /// Sends; fails the test if the other side does not take it.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        assert!(self.try_send(bytes).await, "the gateway has closed the connection");
    }

    /// Sends; `false`: the other side is gone.
    pub async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).await.is_ok() && self.stream.flush().await.is_ok()
    }

    /// Reads some more; 0 at the end.
    pub async fn more(&mut self) -> usize {
        let read = timeout(PATIENCE, self.stream.read_buf(&mut self.buffer)).await;
        read.unwrap_or_else(|_| panic!("no byte for {PATIENCE:?}; so far: {}", self.shown())).unwrap_or(0)
    }

    fn shown(&self) -> String {
        String::from_utf8_lossy(&self.buffer).into_owned()
    }

    /// Takes everything up to and including a text.
    pub async fn until(&mut self, text: &str) -> String {
        loop {
            let found = self.buffer.windows(text.len()).position(|window| window == text.as_bytes());
            if let Some(at) = found {
                return String::from_utf8_lossy(&self.take(at + text.len())).into_owned();
            }
            assert!(self.more().await > 0, "the end instead of {text:?}: {}", self.shown());
        }
    }

    fn take(&mut self, length: usize) -> Vec<u8> {
        self.buffer.drain(..length).collect()
    }

    /// Takes everything until the other side closes.
    pub async fn rest(&mut self) -> Vec<u8> {
        while self.more().await > 0 {}
        std::mem::take(&mut self.buffer)
    }

    /// An answer with its body by length; an interim answer is an answer.
    pub async fn answer(&mut self) -> (Head, String) {
        let text = self.until("\r\n\r\n").await;
        let mut lines = text.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|status| status.parse().ok());
        let headers = lines.filter_map(|line| line.split_once(": "));
        let head = Head {
            status: status.unwrap_or_else(|| panic!("not an HTTP answer: {text:?}")),
            headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        };
        let length = head.header("content-length").map_or(0, |length| length.parse().expect("a length"));
        while self.buffer.len() < length {
            assert!(self.more().await > 0, "the body breaks off: {}", self.shown());
        }
        let body = String::from_utf8_lossy(&self.take(length)).into_owned();
        (head, body)
    }

    /// The next HTTP/2 frame; `None`: the other side has closed.
    pub async fn frame(&mut self) -> Option<Frame> {
        loop {
            if let [a, b, c, kind, flags, stream @ ..] = self.buffer.as_slice()
                && let Some(stream) = stream.first_chunk()
            {
                let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
                let (kind, flags, stream) = (*kind, *flags, u32::from_be_bytes(*stream));
                if self.buffer.len() >= 9 + length {
                    let payload = self.take(9 + length).split_off(9);
                    return Some(Frame { kind, flags, stream, payload });
                }
            }
            if self.more().await == 0 {
                return None;
            }
        }
    }

    /// The next frame of a kind, whatever comes before it.
    pub async fn frame_of(&mut self, kind: u8) -> Option<Frame> {
        loop {
            let frame = self.frame().await?;
            if frame.kind == kind {
                return Some(frame);
            }
        }
    }
}

/// How an HTTP/2 connection begins, with SETTINGS of one's own.
pub fn preface(settings: &[(u16, u32)]) -> Vec<u8> {
    let payload = settings.iter().flat_map(|(id, value)| [id.to_be_bytes().to_vec(), value.to_be_bytes().to_vec()]);
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(frames::SETTINGS, 0, 0, &payload.flatten().collect::<Vec<u8>>()));
    bytes
}

/// Numbers of RFC 9113 section 6.
pub mod frames {
    /// A piece of a body.
    pub const DATA: u8 = 0;
    /// A head, or its beginning.
    pub const HEADERS: u8 = 1;
    /// A word about order, without meaning today.
    pub const PRIORITY: u8 = 2;
    /// The end of a stream before its time.
    pub const RST_STREAM: u8 = 3;
    /// How a side wants to be spoken to.
    pub const SETTINGS: u8 = 4;
    /// Asks whether someone is there.
    pub const PING: u8 = 6;
    /// The end of a connection.
    pub const GO_AWAY: u8 = 7;
    /// Room for more bytes.
    pub const WINDOW_UPDATE: u8 = 8;
    /// The head goes on.
    pub const CONTINUATION: u8 = 9;
    /// Flag: no more of this stream.
    pub const END_STREAM: u8 = 1;
    /// Flag: the head is whole.
    pub const END_HEADERS: u8 = 4;
}

/// A frame in bytes.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a frame is short").to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A header block without compression: each field as a literal that is not indexed (RFC 7541 section 6.2.2).
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        for text in [name, value] {
            integer(text.len(), &mut bytes);
            bytes.extend(text.as_bytes());
        }
    }
    bytes
}

/// RFC 7541 section 5.1, with a prefix of seven bits.
fn integer(mut number: usize, bytes: &mut Vec<u8>) {
    if number < 127 {
        bytes.extend(u8::try_from(number));
        return;
    }
    bytes.push(127);
    number -= 127;
    while number >= 128 {
        bytes.extend(u8::try_from(number % 128 + 128));
        number /= 128;
    }
    bytes.extend(u8::try_from(number));
}
