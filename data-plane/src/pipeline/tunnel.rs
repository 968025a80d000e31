//! What follows a 101: the bytes of a WebSocket, both ways, as they come. One buffer in each direction and nothing is read
//! into it before it is empty, so a side that does not read pauses the other. No byte passes before the vendor agreed.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{Response, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::time::timeout;

use super::account::{Account, Outcome};
use super::admit::Permit;
use super::attempts::ATTEMPTS;
use super::clock::Clock;
use super::dispatch::Reply;
use super::frames::{Frames, Part};
use super::handshake::{self, Handshake};
use super::receive::Call;
use super::relay::{self, AnswerBody};
use super::upload::Upload;
use super::{Plane, headers, query};
use crate::dialect::facts::Observer;
use crate::error::{REQUEST_ID, Refusal};
use crate::presence::Presence;
use crate::runtime::provider::Provider;
use crate::upstream::connect::Stream;
use crate::upstream::health::Flight;

/// Held in each direction.
const BUFFER: usize = 16 * 1024;
/// When the vendor has ended, the client may still finish its sentence.
const AFTERWARDS: Duration = Duration::from_secs(5);
/// For telling both sides that it is over.
const FAREWELL: Duration = Duration::from_secs(1);
/// A close frame, "going away" (RFC 6455 section 7.4.1); a client's is masked, with zeros if need be.
const TO_CLIENT: &[u8] = &[0x88, 2, 0x03, 0xe9];
const TO_VENDOR: &[u8] = &[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe9];

/// Whether the endpoint carries what the request asks for; comes after the key, so that strangers learn nothing.
pub(super) fn allow(call: &mut Call, permit: &Permit) -> Result<(), Refusal> {
    let Some(handshake) = &call.websocket else { return Ok(()) };
    let endpoint = &permit.endpoint;
    if !endpoint.template.realtime.covers(&call.head.uri.path()[permit.context..]) {
        return Err(Refusal::UpgradeNotSupported);
    }
    if !endpoint.realtime {
        return Err(Refusal::RealtimeDisabled);
    }
    match handshake {
        Ok(_) => Ok(()),
        Err(refusal) => Err(*refusal),
    }
}

/// Two connections that will be one.
pub(crate) struct Tunnel {
    vendor: Stream,
    /// What the vendor has said already.
    ahead: Bytes,
    account: Account,
    upload: Arc<Upload>,
    clock: Clock,
    plane: Arc<Plane>,
    /// Reads what the vendor says.
    ear: Ear,
    /// Counts as under way.
    _flight: Flight,
    /// Held to the end: gives back what was reserved.
    _permit: Permit,
}

/// Makes the client's 101 of the vendor's.
pub(super) async fn open(mut call: Call, reply: Reply) -> Response<AnswerBody> {
    let Reply { head, answer, peeked: _, provider, permit, mut clock, flight } = reply;
    // A conversation is no answer: it ends when it ends.
    clock.has_no_deadline();
    let agreed = call.websocket.as_ref().and_then(|handshake| handshake.as_ref().ok());
    let agreed = agreed.is_some_and(|handshake: &Handshake| handshake.is_answered_by(&head.headers));
    let vendor = if agreed { answer.into_stream().await } else { None };
    let Some((vendor, ahead)) = vendor else {
        call.account.caused("the vendor's 101 does not answer the handshake");
        return relay::refuse(call, Refusal::UpstreamBroken);
    };
    let Call { plane, head: request, mut account, request_id, busy, .. } = call;
    let model = request.uri.query().and_then(|query| {
        let mut named = ["model", "deployment"].into_iter().filter_map(|name| query::values(query, name).next());
        named.next().map(|model| model.into_owned().into_boxed_str())
    });
    account.asks_for(model);
    account.answers(StatusCode::SWITCHING_PROTOCOLS, true);
    let upload = Arc::new(Upload::default());
    account.uploads(Arc::clone(&upload));
    let mut headers = head.headers;
    headers::inbound(&mut headers);
    headers.remove(CONTENT_LENGTH);
    headers.remove(TRANSFER_ENCODING);
    handshake::switch(&mut headers);
    headers.insert(REQUEST_ID, request_id.header());
    if let Some(attempts) = account.attempts().value() {
        headers.insert(ATTEMPTS, attempts);
    }
    let ear = Ear::new(provider);
    let tunnel = Tunnel { vendor, ahead, account, upload, clock, plane, ear, _flight: flight, _permit: permit };
    let mut response = Response::new(AnswerBody::switching(tunnel, busy));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *response.headers_mut() = headers;
    response
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Client,
    Vendor,
}

/// Why it is over.
enum End {
    /// Both sides have ended, or one of them broke; which was first.
    Ended(Side),
    /// Neither has said anything for too long.
    Silent,
    /// The node ends what is open.
    Draining,
}

impl Tunnel {
    /// Carries bytes until either side has had enough. `early`: what the client has sent behind its request.
    pub(crate) async fn run<S>(mut self, client: &mut S, early: Bytes, presence: &Presence)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut deaf = |_: Part<'_>| {};
        let mut up = Flow::new(early);
        let mut down = Flow::new(std::mem::take(&mut self.ahead));
        let (mut first, mut afterwards) = (None, false);
        let end = poll_fn(|context| {
            presence.driven_by(context.waker());
            if self.plane.ending.load(Ordering::Relaxed) {
                return Poll::Ready(End::Draining);
            }
            let (sent, received) = (up.passed, down.passed);
            let uploaded = up.poll(client, &mut self.vendor, (Side::Client, Side::Vendor), &mut deaf, context);
            let mut hear = |part: Part<'_>| self.ear.hear(part);
            let downloaded = down.poll(&mut self.vendor, client, (Side::Vendor, Side::Client), &mut hear, context);
            self.upload.passed(up.passed - sent);
            self.account.handed_on(down.passed - received);
            for (flow, side) in [(&up, Side::Client), (&down, Side::Vendor)] {
                if flow.ended && first.is_none() {
                    first = Some(side);
                }
            }
            match (uploaded, downloaded) {
                (Poll::Ready(Err(side)), _) | (_, Poll::Ready(Err(side))) => {
                    return Poll::Ready(End::Ended(first.unwrap_or(side)));
                }
                (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => {
                    return Poll::Ready(End::Ended(first.unwrap_or(Side::Client)));
                }
                (Poll::Ready(Ok(())) | Poll::Pending, Poll::Ready(Ok(())) | Poll::Pending) => {}
            }
            if down.ended {
                if !std::mem::replace(&mut afterwards, true) {
                    self.clock.arrived_then(AFTERWARDS);
                }
            } else if up.passed > sent || down.passed > received {
                self.clock.arrived();
            }
            self.clock
                .poll_late(context)
                .map(|_| if afterwards { End::Ended(first.unwrap_or(Side::Vendor)) } else { End::Silent })
        });
        let end = end.await;
        let farewell = up.frames.closed() || down.frames.closed();
        let outcome = match end {
            End::Draining => Outcome::Drained,
            End::Ended(_) | End::Silent if farewell => Outcome::Answered,
            End::Ended(Side::Client) => Outcome::ClientGone,
            End::Ended(Side::Vendor) => {
                self.account.caused("the vendor closed without a farewell");
                Outcome::UpstreamBroken
            }
            End::Silent => {
                self.account.caused("neither side said anything in time");
                Outcome::UpstreamBroken
            }
        };
        self.account.ended(outcome);
        let farewell = async {
            if matches!(end, End::Draining | End::Silent) {
                tokio::join!(down.part(client, TO_CLIENT), up.part(&mut self.vendor, TO_VENDOR));
            } else {
                tokio::join!(async { drop(client.shutdown().await) }, async { drop(self.vendor.shutdown().await) });
            }
        };
        let _ = timeout(FAREWELL, farewell).await;
    }
}

/// Reads what the vendor says as it passes.
struct Ear {
    provider: Arc<Provider>,
    observer: Observer,
}

impl Ear {
    fn new(provider: Arc<Provider>) -> Self {
        let observer = Observer::of_messages(&provider.template.answer);
        Self { provider, observer }
    }

    fn hear(&mut self, part: Part<'_>) {
        let plan = &self.provider.template.answer;
        match part {
            Part::Message(bytes) => self.observer.feed(plan, bytes),
            Part::End => self.observer.next_message(plan),
        }
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        let Ear { provider, observer } = &self.ear;
        self.account.learned(observer.facts(&provider.template.answer), 0);
    }
}

/// One direction.
struct Flow {
    /// Read before there was a tunnel; goes first.
    ahead: Bytes,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    /// Of all that was written.
    passed: usize,
    frames: Frames,
    /// Written and not yet flushed.
    unflushed: bool,
    /// The source has ended.
    ended: bool,
    /// ... and the other side has been told.
    told: bool,
}

impl Flow {
    fn new(ahead: Bytes) -> Self {
        Self {
            ahead,
            buffer: vec![0; BUFFER].into(),
            start: 0,
            end: 0,
            passed: 0,
            frames: Frames::default(),
            unflushed: false,
            ended: false,
            told: false,
        }
    }

    fn waiting(&self) -> &[u8] {
        if self.ahead.is_empty() { &self.buffer[self.start..self.end] } else { &self.ahead }
    }

    fn went(&mut self, count: usize, ear: &mut impl FnMut(Part<'_>)) {
        let Self { ahead, buffer, start, frames, .. } = self;
        if ahead.is_empty() {
            frames.hear(&buffer[*start..*start + count], ear);
            *start += count;
        } else {
            frames.hear(&ahead[..count], ear);
            ahead.advance(count);
        }
        self.passed += count;
        self.unflushed = true;
    }

    /// Moves what there is. Ready: the source has ended and the other side knows, or one of them broke.
    fn poll<R, W>(
        &mut self,
        from: &mut R,
        to: &mut W,
        (source, sink): (Side, Side),
        ear: &mut impl FnMut(Part<'_>),
        context: &mut Context<'_>,
    ) -> Poll<Result<(), Side>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        loop {
            while !self.waiting().is_empty() {
                match ready!(Pin::new(&mut *to).poll_write(context, self.waiting())) {
                    Ok(0) | Err(_) => return Poll::Ready(Err(sink)),
                    Ok(count) => self.went(count, ear),
                }
            }
            if self.ended {
                if !self.told {
                    // It may have gone meanwhile: then it knows.
                    let _ = ready!(Pin::new(&mut *to).poll_shutdown(context));
                    self.told = true;
                }
                return Poll::Ready(Ok(()));
            }
            match self.poll_fill(from, context) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => {
                    self.ended = true;
                    return Poll::Ready(Err(source));
                }
                Poll::Pending => {
                    if self.unflushed {
                        match ready!(Pin::new(&mut *to).poll_flush(context)) {
                            Ok(()) => self.unflushed = false,
                            Err(_) => return Poll::Ready(Err(sink)),
                        }
                    }
                    return Poll::Pending;
                }
            }
        }
    }

    fn poll_fill<R: AsyncRead + Unpin>(&mut self, from: &mut R, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut buffer = ReadBuf::new(&mut self.buffer);
        ready!(Pin::new(from).poll_read(context, &mut buffer))?;
        (self.start, self.end) = (0, buffer.filled().len());
        self.ended = self.end == 0;
        Poll::Ready(Ok(()))
    }

    /// Says farewell where a frame may begin, and ends.
    async fn part<W: AsyncWrite + Unpin>(&mut self, to: &mut W, frame: &[u8]) {
        if self.frames.at_boundary() && self.waiting().is_empty() && !self.frames.closed() {
            let _ = to.write_all(frame).await;
        }
        let _ = to.shutdown().await;
    }
}
