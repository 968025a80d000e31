//! A client's HTTP/1.1 connection as hyper sees it: whole heads that were judged, the bytes of their bodies, and nothing
//! of the next request before this one is answered. What is refused reaches hyper as a head of ours.
//!
//! So no byte is ever read as a request that was not judged as one, however requests are strung together; and each
//! refusal, whatever the head was like, is an answer of the pipeline with its id, its metric and its log line.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::body::{Body, Now};
use super::head::{self, Verdict};
use crate::config::Limits;
use crate::presence::Presence;

pub(super) struct Socket<S> {
    stream: S,
    presence: Arc<Presence>,
    limits: Limits,
    /// Read, and not handed on yet. Empty but for heads in pieces and requests that come before their turn.
    ahead: BytesMut,
    /// So many bytes of it may be handed on.
    passed: usize,
    /// So many have been judged to be no whole head.
    partial: usize,
    /// Heads handed on.
    heads: u64,
    /// The client did not take all that was written last.
    unwritten: bool,
    at: At,
}

enum At {
    Head,
    Body(Body),
    /// Nothing more is read.
    Refused,
    /// The body is not framed as announced.
    Broken,
}

impl<S> Socket<S> {
    /// `first` has been read from the stream already.
    pub(super) fn new(stream: S, first: &[u8], presence: Arc<Presence>, limits: Limits) -> Self {
        let ahead = BytesMut::from(first);
        Self { stream, presence, limits, ahead, passed: 0, partial: 0, heads: 0, unwritten: false, at: At::Head }
    }

    pub(super) fn into_stream(self) -> S {
        self.stream
    }

    /// A request has been handed on and is not answered yet.
    fn is_outstanding(&self) -> bool {
        self.presence.is_busy() || self.presence.requests() != self.heads
    }

    /// Looks at bytes where a head must begin. Gives how many of them may pass; `None`: more must come.
    fn judge(&mut self, bytes: &[u8]) -> Result<Option<usize>, Vec<u8>> {
        self.presence.head_begins();
        match head::judge(bytes, &self.limits) {
            Verdict::Partial => Ok(None),
            Verdict::Whole(length, body) => {
                self.heads += 1;
                self.presence.head_ends();
                self.at = At::Body(body);
                Ok(Some(length + self.take_body(&bytes[length..])))
            }
            Verdict::Refused(refusal, instead) => {
                self.heads += 1;
                self.presence.head_ends();
                self.presence.refuse(refusal);
                self.at = At::Refused;
                Err(instead)
            }
        }
    }

    /// How many of the bytes belong to the body.
    fn take_body(&mut self, bytes: &[u8]) -> usize {
        let At::Body(body) = &mut self.at else { return 0 };
        if body.is_over() {
            self.at = At::Head;
            return 0;
        }
        let fed = body.feed(bytes);
        match fed.now {
            Now::Inside => {}
            Now::Over => self.at = At::Head,
            Now::Broken => self.at = At::Broken,
        }
        fed.taken
    }

    fn judge_ahead(&mut self) {
        let ahead = std::mem::take(&mut self.ahead);
        let judged = self.judge(&ahead);
        self.ahead = ahead;
        match judged {
            Ok(Some(length)) => (self.passed, self.partial) = (length, 0),
            Ok(None) => self.partial = self.ahead.len(),
            Err(instead) => self.instead(&instead),
        }
    }

    fn instead(&mut self, head: &[u8]) {
        self.ahead = BytesMut::from(head);
        (self.passed, self.partial) = (head.len(), 0);
    }

    /// Whether what has come since it was last judged may end the head, or is too much.
    fn is_worth_judging(&self) -> bool {
        let fresh = &self.ahead[self.partial.saturating_sub(3)..];
        let passes = |limit: usize| self.partial <= limit && self.ahead.len() > limit;
        self.partial == 0
            || passes(self.limits.uri_bytes)
            || passes(self.limits.head_bytes)
            || memchr::memchr_iter(b'\n', fresh)
                .any(|end| matches!(&fresh[end + 1..], [b'\n', ..] | [b'\r', b'\n', ..]))
    }
}

impl<S: AsyncRead + Unpin> Socket<S> {
    /// Reads into hyper's buffer; `None`: the client has said its last.
    fn poll_more<'a>(
        &mut self,
        context: &mut Context<'_>,
        buffer: &'a mut ReadBuf<'_>,
    ) -> Poll<io::Result<Option<&'a [u8]>>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        let fresh = &buffer.filled()[before..];
        Poll::Ready(Ok((!fresh.is_empty()).then_some(fresh)))
    }

    /// Before the answer, only an end is of interest. What else comes waits for its turn, and the rest in the kernel.
    fn poll_before_turn(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.ahead.is_empty() {
            let before = buffer.filled().len();
            let Some(fresh) = ready!(self.poll_more(context, buffer))? else { return Poll::Ready(Ok(())) };
            self.ahead.extend_from_slice(fresh);
            buffer.set_filled(before);
        }
        self.presence.holds_back(context.waker());
        Poll::Pending
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Socket<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.passed > 0 {
                let length = this.passed.min(buffer.remaining());
                buffer.put_slice(&this.ahead[..length]);
                this.ahead.advance(length);
                this.passed -= length;
                if this.ahead.is_empty() {
                    // An idle connection keeps nothing.
                    this.ahead = BytesMut::new();
                }
                return Poll::Ready(Ok(()));
            }
            if this.presence.is_tunnel() {
                if this.ahead.is_empty() {
                    return Pin::new(&mut this.stream).poll_read(context, buffer);
                }
                this.passed = this.ahead.len();
                continue;
            }
            match this.at {
                At::Refused => return Poll::Pending,
                At::Broken => return Poll::Ready(Err(io::ErrorKind::InvalidData.into())),
                At::Head if this.is_outstanding() => return this.poll_before_turn(context, buffer),
                At::Head | At::Body(_) if this.ahead.is_empty() => {
                    let before = buffer.filled().len();
                    let Some(fresh) = ready!(this.poll_more(context, buffer))? else { return Poll::Ready(Ok(())) };
                    let passed = match this.at {
                        At::Head => this.judge(fresh),
                        At::Body(_) | At::Refused | At::Broken => Ok(Some(this.take_body(fresh))),
                    };
                    match passed {
                        Ok(Some(passed)) => {
                            this.ahead.extend_from_slice(&fresh[passed..]);
                            buffer.set_filled(before + passed);
                            if passed > 0 {
                                return Poll::Ready(Ok(()));
                            }
                        }
                        Ok(None) => {
                            this.ahead.extend_from_slice(fresh);
                            this.partial = fresh.len();
                            buffer.set_filled(before);
                        }
                        Err(instead) => {
                            buffer.set_filled(before);
                            this.instead(&instead);
                        }
                    }
                }
                At::Head if this.partial < this.ahead.len() && this.is_worth_judging() => this.judge_ahead(),
                At::Head => {
                    let before = buffer.filled().len();
                    let Some(fresh) = ready!(this.poll_more(context, buffer))? else { return Poll::Ready(Ok(())) };
                    this.ahead.extend_from_slice(fresh);
                    buffer.set_filled(before);
                    if !this.is_worth_judging() {
                        this.partial = this.ahead.len();
                    }
                }
                At::Body(_) => {
                    let ahead = std::mem::take(&mut this.ahead);
                    this.passed = this.take_body(&ahead);
                    this.ahead = ahead;
                }
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Socket<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write(context, bytes);
        this.presence.stalled(polled.is_pending());
        this.unwritten |= polled.is_pending();
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
        this.unwritten |= polled.is_pending();
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.stream).poll_flush(context);
        // A stream that encrypts takes more than the client does.
        this.presence.stalled(flushed.is_pending());
        if flushed.is_ready() && this.presence.flushed() {
            context.waker().wake_by_ref();
        }
        // hyper may have read the next request while the answer before it was being written. It begins that one when
        // it is polled again, and nothing else would poll it.
        if flushed.is_ready() && std::mem::take(&mut this.unwritten) {
            context.waker().wake_by_ref();
        }
        flushed
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod properties {
    use std::convert::Infallible;
    use std::sync::Mutex;

    use bytes::Bytes;
    use http::{Request, Response};
    use http_body_util::{BodyExt as _, Full};
    use hyper::body::Incoming;
    use hyper::server::conn::http1;
    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;
    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;
    use crate::config::Config;
    use crate::presence::Register;

    /// What comes of a request: its body, or nothing because its framing broke; or a refusal.
    #[derive(Clone, Debug, PartialEq, Eq)]
    enum Seen {
        Whole(String),
        Broken,
        Refused,
    }

    const EVIL: &str =
        "POST /evil HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";

    fn post(fields: &str, body: &str) -> String {
        format!("POST /x HTTP/1.1\r\nHost: a\r\n{fields}\r\n{body}")
    }

    fn message() -> impl Strategy<Value = (String, Seen)> {
        let chunked = |body: &str| post("Transfer-Encoding: chunked\r\n", body);
        let sized = |body: &str| post(&format!("Content-Length: {}\r\n", body.len()), body);
        let whole = |text: &str| Seen::Whole(text.to_owned());
        prop::sample::select(vec![
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), whole("")),
            ("\r\nGET / HTTP/1.1\nHost: a\n\n".to_owned(), whole("")),
            (sized("hello"), whole("hello")),
            (sized(EVIL), whole(EVIL)),
            (chunked("0\r\n\r\n"), whole("")),
            (chunked("5;a=b\r\nhello\r\n0\r\nContent-Length: 5\r\nX: y\r\n\r\n"), whole("hello")),
            (chunked(&format!("{:X}\r\n{EVIL}\r\n2\r\n\r\n\r\n0\r\n\r\n", EVIL.len())), whole(&format!("{EVIL}\r\n"))),
            (EVIL.to_owned(), Seen::Refused),
            (post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n"), Seen::Refused),
            (post("Content-Length: 0\r\nContent-Length: 70\r\n", EVIL), Seen::Refused),
            (post("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"), Seen::Refused),
            (post("Content-Length : 5\r\n", "hello"), Seen::Refused),
            ("no request at all\r\n\r\n".to_owned(), Seen::Refused),
            (chunked("5\nhello\r\n0\r\n\r\n"), Seen::Broken),
            (chunked("0\r\n\nGET /evil HTTP/1.1\r\n\r\n"), Seen::Broken),
            (chunked(" 5\r\nhello\r\n0\r\n\r\n"), Seen::Broken),
            (chunked("fffffffffffffffff\r\n"), Seen::Broken),
        ])
    }

    /// Serves what a client sends in these pieces, until it has so many answers and longer; gives what was seen of it.
    async fn serve(bytes: &[u8], first: usize, pieces: &[usize], answers: usize) -> Vec<Seen> {
        let register = Arc::new(Register::new(1));
        let presence = Register::arrive(&register, 0, None);
        let (near, mut client) = duplex(64 * 1024);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let service = {
            let (presence, seen) = (Arc::clone(&presence), Arc::clone(&seen));
            service_fn(move |request: Request<Incoming>| {
                let (presence, seen) = (Arc::clone(&presence), Arc::clone(&seen));
                async move {
                    let busy = Presence::enter(&presence, None);
                    let found = match busy.refused() {
                        Some(_) => Seen::Refused,
                        None => request.into_body().collect().await.map_or(Seen::Broken, |body| {
                            Seen::Whole(String::from_utf8(body.to_bytes().to_vec()).unwrap())
                        }),
                    };
                    // Whatever comes next must wait for this.
                    tokio::task::yield_now().await;
                    seen.lock().unwrap().push(found);
                    drop(busy);
                    Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"ok"))))
                }
            })
        };
        let first = first.min(bytes.len());
        let socket = Socket::new(near, &bytes[..first], presence, Config::default().limits);
        let connection = http1::Builder::new().serve_connection(TokioIo::new(socket), service);
        let sends = async {
            let mut rest = &bytes[first..];
            for piece in pieces.iter().cycle() {
                let (piece, left) = rest.split_at((*piece).min(rest.len()));
                if client.write_all(piece).await.is_err() || left.is_empty() {
                    break;
                }
                rest = left;
                tokio::task::yield_now().await;
            }
            let mut read = Vec::new();
            while memchr::memmem::find_iter(&read, b"\r\n\r\nok").count() < answers {
                if client.read_buf(&mut read).await.unwrap_or(0) == 0 {
                    break;
                }
            }
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            let _ = client.shutdown().await;
            let _ = client.read_to_end(&mut read).await;
        };
        let _ = tokio::join!(connection, sends);
        seen.lock().unwrap().clone()
    }

    proptest! {
        #[test]
        fn no_string_of_requests_slips_one_by(
            messages in prop::collection::vec(message(), 1..6),
            first in 0..24_usize,
            pieces in prop::collection::vec(1..200_usize, 1..8),
        ) {
            let bytes: String = messages.iter().map(|(bytes, _)| bytes.as_str()).collect();
            let mut expected = Vec::new();
            for (_, seen) in messages {
                expected.push(seen);
                if !matches!(expected.last(), Some(Seen::Whole(_))) {
                    break;
                }
            }
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let seen = runtime.block_on(serve(bytes.as_bytes(), first, &pieces, expected.len()));
            prop_assert_eq!(seen, expected);
        }
    }
}
