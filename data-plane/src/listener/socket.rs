//! A client's socket, watched: when a head begins, whether it states its length in two ways (hyper decides that by
//! itself and does not tell), and whether the client takes what is written.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::presence::Presence;

pub(super) struct Socket<S> {
    stream: S,
    presence: Arc<Presence>,
    /// Requests that had begun when the head being scanned did.
    requests: u64,
    scan: HeadScan,
}

impl<S> Socket<S> {
    pub(super) fn new(stream: S, presence: Arc<Presence>) -> Self {
        Self { stream, presence, requests: 0, scan: HeadScan::default() }
    }

    fn saw(&mut self, bytes: &[u8]) {
        if self.presence.is_busy() {
            return;
        }
        let requests = self.presence.requests();
        if requests != self.requests {
            self.requests = requests;
            self.scan = HeadScan::default();
        }
        self.presence.head_begins();
        self.scan.feed(bytes);
        if self.scan.length && self.scan.coding {
            self.presence.saw_two_lengths();
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Socket<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            this.saw(&buffer.filled()[before..]);
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Socket<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write(context, bytes);
        this.presence.stalled(polled.is_pending());
        polled
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write_vectored(context, slices);
        this.presence.stalled(polled.is_pending());
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

const LENGTH: &[u8] = b"content-length:";
const CODING: &[u8] = b"transfer-encoding:";

/// Looks at the beginning of every line until the empty one, however the head is cut.
#[derive(Debug, Default)]
struct HeadScan {
    line: [u8; CODING.len()],
    filled: usize,
    /// Enough of the line is known.
    decided: bool,
    over: bool,
    length: bool,
    coding: bool,
}

impl HeadScan {
    fn feed(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !self.over && !rest.is_empty() {
            if self.decided {
                let Some(end) = memchr::memchr(b'\n', rest) else { return };
                rest = &rest[end + 1..];
                (self.filled, self.decided) = (0, false);
                continue;
            }
            let byte = rest[0];
            if byte == b'\n' {
                // Nothing but a carriage return before it: the head ends.
                self.over = self.line[..self.filled].iter().all(|byte| *byte == b'\r');
                self.decided = true;
                continue;
            }
            rest = &rest[1..];
            self.line[self.filled] = byte.to_ascii_lowercase();
            self.filled += 1;
            if byte == b':' || self.filled == self.line.len() {
                self.length |= &self.line[..self.filled] == LENGTH;
                self.coding |= &self.line[..self.filled] == CODING;
                self.decided = true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(head: &str, piece: usize) -> (bool, bool, bool) {
        let mut scan = HeadScan::default();
        for piece in head.as_bytes().chunks(piece) {
            scan.feed(piece);
        }
        (scan.length, scan.coding, scan.over)
    }

    #[test]
    fn both_lengths_are_seen_however_the_head_is_cut() {
        let both = "POST / HTTP/1.1\r\nHost: x\r\ncontent-LENGTH: 5\r\nTransfer-encoding: chunked\r\n\r\nhello";
        let one = "POST /transfer-encoding: HTTP/1.1\r\nX-Content-Length: 1\r\nContent-Length: 40\r\n\r\n\
            Transfer-Encoding: chunked\r\n\r\n";
        for piece in 1..40 {
            assert_eq!(scan(both, piece), (true, true, true), "pieces of {piece}");
            assert_eq!(scan(one, piece), (true, false, true), "pieces of {piece}");
            assert_eq!(scan("GET / HTTP/1.1\nTransfer-Encoding:\n", piece), (false, true, false));
        }
    }
}
