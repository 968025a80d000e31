//! Connections to vendors within a test: every dial is written down, and the other end is handed to the test.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use http_body::Body;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, duplex};
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinHandle;

use super::connect::Stream;
use super::{Failure, FailureKind};

/// Bytes on their way in one direction.
const BUFFER: usize = 16 * 1024;

/// A connection that the gateway has dialled, as the vendor has it.
pub(crate) struct Dialled {
    pub(crate) address: SocketAddr,
    pub(crate) stream: DuplexStream,
}

/// Where dials end up.
pub(crate) struct Network(pub(crate) UnboundedSender<Dialled>);

impl Network {
    /// The first address takes the connection, if anyone listens at all.
    pub(crate) fn dial(&self, addresses: &[SocketAddr]) -> Result<Stream, Failure> {
        let refused = || Failure::new(FailureKind::Refused, "nobody listens");
        let address = *addresses.first().ok_or_else(refused)?;
        let (near, far) = duplex(BUFFER);
        self.0.send(Dialled { address, stream: far }).map_err(|_| refused())?;
        Ok(Stream::Memory(End { address, stream: near }))
    }
}

/// The gateway's end of a connection.
pub(crate) struct End {
    pub(crate) address: SocketAddr,
    stream: DuplexStream,
}

impl AsyncRead for End {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for End {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

/// Speaks HTTP/2 as a client, with a library's client as users have one. The task ends with the connection.
pub(crate) async fn speak_http2<B>(stream: DuplexStream) -> (http2::SendRequest<B>, JoinHandle<hyper::Result<()>>)
where
    B: Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + Unpin + 'static,
{
    let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (sender, connection) = handshake.await.expect("a handshake");
    (sender, tokio::spawn(connection))
}
