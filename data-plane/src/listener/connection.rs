//! One client connection from its first byte to its last: which protocol it speaks, how long it may be silent, how it
//! ends. A connection that says nothing costs a socket and a timer, nothing more.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::Poll;

use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use super::close::Close;
use super::{http1, http2};
use crate::pipeline::Plane;
use crate::presence::{Presence, Stage};

/// How every HTTP/2 connection begins (RFC 9113 section 3.4). No HTTP/1.1 method begins with `PRI`.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Serves one connection. `streams` owns the tasks of HTTP/2 streams.
pub(super) async fn serve(stream: TcpStream, presence: Arc<Presence>, plane: Arc<Plane>, streams: TaskTracker) {
    let first = tokio::select! {
        first = timeout(plane.deadlines.first_byte, First::read(&stream)) => Some(first),
        () = until(&presence, Stage::Draining) => None,
    };
    match first {
        // Boxed, so that a silent connection does not pay for their size.
        Some(Ok(Ok(Some(first)))) if first.is_http2() => {
            Box::pin(http2::serve(stream, first.bytes(), &presence, plane, streams)).await;
        }
        Some(Ok(Ok(Some(first)))) => Box::pin(http1::serve(stream, first.bytes(), &presence, plane)).await,
        Some(Err(_)) => plane.metrics.closed(Close::FirstByte),
        // The client left, or the node stops.
        Some(Ok(Ok(None) | Err(_))) | None => {}
    }
    presence.leave();
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

/// Until the node has come so far.
async fn until(presence: &Presence, stage: Stage) {
    poll_fn(|context| {
        presence.driven_by(context.waker());
        if presence.stage() >= stage { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}
