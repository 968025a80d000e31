//! One client connection from its first byte to its last: which protocol it speaks, how long it may be silent, how it
//! ends. A connection that says nothing costs a socket and a timer, nothing more.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use super::close::Close;
use super::watch::GRACE;
use super::{http1, http2};
use crate::pipeline::Plane;
use crate::presence::{Presence, Stage};
use crate::tls::{self, Tls};

/// How every HTTP/2 connection begins (RFC 9113 section 3.4). No HTTP/1.1 method begins with `PRI`.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Serves one connection. `streams` owns the tasks of HTTP/2 streams.
pub(super) async fn serve(stream: TcpStream, presence: Arc<Presence>, plane: Arc<Plane>, streams: TaskTracker) {
    let close = match plane.tls {
        Some(_) => serve_tls(stream, &presence, &plane, streams).await,
        None => serve_plain(stream, &presence, &plane, streams).await,
    };
    if let Err(close) = close {
        plane.metrics.closed(close);
    }
    presence.leave();
}

async fn serve_plain(
    stream: TcpStream,
    presence: &Arc<Presence>,
    plane: &Arc<Plane>,
    streams: TaskTracker,
) -> Result<(), Close> {
    // Boxed, so that nothing is left of the wait when it is over.
    let first = Box::pin(until_draining(presence, timeout(plane.deadlines.first_byte, First::read(&stream)))).await;
    let Some(first) = first else { return Ok(()) };
    // Whoever left has not been closed by us.
    let Ok(Some(first)) = first.map_err(|_| Close::FirstByte)? else { return Ok(()) };
    // Boxed, so that a silent connection does not pay for their size.
    if first.is_http2() {
        Box::pin(http2::serve(stream, first.bytes(), presence, Arc::clone(plane), streams)).await;
    } else {
        Box::pin(http1::serve(stream, first.bytes(), presence, Arc::clone(plane))).await;
    }
    Ok(())
}

async fn serve_tls(
    stream: TcpStream,
    presence: &Arc<Presence>,
    plane: &Arc<Plane>,
    streams: TaskTracker,
) -> Result<(), Close> {
    let Some(tls) = &plane.tls else { return Ok(()) };
    let readable = Box::pin(until_draining(presence, timeout(plane.deadlines.first_byte, stream.readable()))).await;
    match readable {
        Some(Ok(Ok(()))) => {}
        Some(Err(_)) => return Err(Close::FirstByte),
        Some(Ok(Err(_))) | None => return Ok(()),
    }
    // Boxed, so that a silent connection does not pay for its size.
    Box::pin(shake_hands(tls, stream, presence, plane, streams)).await
}

async fn shake_hands(
    tls: &Tls,
    stream: TcpStream,
    presence: &Arc<Presence>,
    plane: &Arc<Plane>,
    streams: TaskTracker,
) -> Result<(), Close> {
    let handshake = Box::pin(timeout(plane.deadlines.tls, tls.acceptor().accept(stream)));
    let Some(stream) = until_draining(presence, handshake).await else { return Ok(()) };
    let stream = match stream {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) if error.kind() == io::ErrorKind::InvalidData => return Err(Close::TlsFailed),
        // It left.
        Ok(Err(_)) => return Ok(()),
        Err(_) => return Err(Close::TlsSlow),
    };
    // What was agreed on is spoken; who agreed on nothing speaks HTTP/1.1.
    if stream.get_ref().1.alpn_protocol() == Some(tls::HTTP2) {
        Box::pin(http2::serve(stream, &[], presence, Arc::clone(plane), streams)).await;
    } else {
        Box::pin(http1::serve(stream, &[], presence, Arc::clone(plane))).await;
    }
    Ok(())
}

/// As much as decides which protocol is spoken.
struct First {
    bytes: [u8; PREFACE.len()],
    length: usize,
}

impl First {
    /// `None`: the client left before that.
    async fn read(stream: &TcpStream) -> io::Result<Option<Self>> {
        let mut first = Self { bytes: [0; PREFACE.len()], length: 0 };
        loop {
            stream.readable().await?;
            match stream.try_read(&mut first.bytes[first.length..]) {
                Ok(0) => return Ok(None),
                Ok(length) => first.length += length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error),
            }
            if first.is_http2() || !PREFACE.starts_with(first.bytes()) {
                return Ok(Some(first));
            }
        }
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    fn is_http2(&self) -> bool {
        self.bytes() == PREFACE
    }
}

/// `None`: the node stops, and nothing came in the time that is left then.
async fn until_draining<T>(presence: &Presence, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let draining = poll_fn(|context| {
        presence.driven_by(context.waker());
        if presence.stage() >= Stage::Draining { Poll::Ready(()) } else { Poll::Pending }
    });
    tokio::select! {
        output = &mut future => return Some(output),
        () = draining => {}
    }
    timeout(GRACE, future).await.ok()
}
