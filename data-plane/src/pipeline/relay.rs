//! Step 7: the answer as it comes. A piece is handed on before the next is asked for; the head is on its way before the
//! first piece; a vendor that dies in mid-answer is an error event and a cut, never a clean end.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, Response, Version};
use http_body::{Body, Frame, SizeHint};

use super::account::{Account, Outcome};
use super::admit::Permit;
use super::attempts::ATTEMPTS;
use super::clock::{Clock, Late};
use super::dispatch::Reply;
use super::receive::{self, Call};
use super::tunnel::Tunnel;
use super::{Plane, headers, links};
use crate::dialect::Dialect;
use crate::dialect::facts::{Facts, Framing, Observer, Plan, Shape};
use crate::error::{REQUEST_ID, Refusal};
use crate::presence::Busy;
use crate::runtime::provider::Provider;
use crate::runtime::request_id;
use crate::upstream::health::Flight;
use crate::upstream::line::Answer;

/// The answer ends early; its connection is cut.
#[derive(Debug, thiserror::Error)]
#[error("the answer ends early")]
pub(crate) struct Cut;

/// The body of an answer to a client.
pub(crate) struct AnswerBody {
    kind: Kind,
    busy: Busy,
}

enum Kind {
    Whole(Option<Bytes>),
    Relay(Box<Relay>),
    /// Until the connection takes it.
    Switching(Option<Box<Tunnel>>),
}

impl AnswerBody {
    /// Of a 101.
    pub(super) fn switching(tunnel: Tunnel, busy: Busy) -> Self {
        Self { kind: Kind::Switching(Some(Box::new(tunnel))), busy }
    }

    /// What follows on the connection when this answer's head has been written; `None`: the next request.
    pub(crate) fn take_tunnel(&mut self) -> Option<Box<Tunnel>> {
        match &mut self.kind {
            Kind::Switching(tunnel) => tunnel.take(),
            Kind::Whole(_) | Kind::Relay(_) => None,
        }
    }
}

struct Relay {
    answer: Answer,
    peeked: Option<Bytes>,
    observer: Observer,
    /// Nothing is looked for: the bytes are not read.
    unread: bool,
    events: bool,
    clock: Clock,
    ending: Ending,
    account: Account,
    plane: Arc<Plane>,
    provider: Arc<Provider>,
    request_id: request_id::Text,
    counted: Facts,
    /// Told how the answer ends.
    flight: Flight,
    /// Held to the end: gives back what was reserved.
    _permit: Permit,
}

/// How far a failure has been told.
enum Ending {
    NotYet,
    /// What was handed on must be written before the cut, or it would be lost.
    Flush,
    Cut,
}

/// Makes the answer of a vendor's reply.
pub(super) fn relay(call: Call, reply: Reply) -> Response<AnswerBody> {
    let Call { plane, head: request, mut account, busy, request_id, .. } = call;
    let Reply { head, answer, peeked, provider, permit, clock, flight } = reply;
    let mut headers = head.headers;
    headers::inbound(&mut headers);
    links::lead_back(
        &mut headers,
        permit.runtime.settings(),
        receive::authority(&request),
        &permit.endpoint,
        &provider,
    );
    headers.insert(REQUEST_ID, request_id.header());
    if let Some(attempts) = account.attempts().value() {
        headers.insert(ATTEMPTS, attempts);
    }
    let plan = &provider.template.answer;
    let shape = shape(&headers);
    account.answers(head.status, shape == Shape::Events);
    let counted = header_counts(&headers, plan);
    let observer = Observer::new(plan, shape);
    let relay = Relay {
        answer,
        peeked,
        observer,
        unread: shape == Shape::Opaque,
        events: shape == Shape::Events && plan.framing == Framing::ServerSentEvents,
        clock,
        ending: Ending::NotYet,
        account,
        plane,
        provider,
        request_id,
        counted,
        flight,
        _permit: permit,
    };
    let mut response = Response::new(AnswerBody { kind: Kind::Relay(Box::new(relay)), busy });
    *response.status_mut() = head.status;
    *response.headers_mut() = headers;
    response
}

/// Makes the answer of a refusal.
pub(super) fn refuse(call: Call, refusal: Refusal) -> Response<AnswerBody> {
    let Call { head, mut account, busy, request_id, .. } = call;
    let http1 = head.version != Version::HTTP_2;
    let dialect = account.dialect();
    let denial = account.denial();
    let (status, mut headers, body) = refusal.render(dialect, request_id.as_str(), &request_id.header(), http1, denial);
    if let Some(attempts) = account.attempts().value() {
        headers.insert(ATTEMPTS, attempts);
    }
    account.refused(refusal, body.len());
    let mut response = Response::new(AnswerBody { kind: Kind::Whole(Some(body)), busy });
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// A compressed answer cannot be read; it was not asked for, but some vendors send one.
fn shape(headers: &HeaderMap) -> Shape {
    let plain = headers.get(CONTENT_ENCODING).is_none_or(|coding| coding.as_bytes().eq_ignore_ascii_case(b"identity"));
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    content_type.filter(|_| plain).map_or(Shape::Opaque, Shape::of)
}

/// Counts that a vendor puts into its head.
fn header_counts(headers: &HeaderMap, plan: &Plan) -> Facts {
    let count = |name: &Option<Box<str>>| headers.get(name.as_deref()?)?.to_str().ok()?.parse().ok();
    Facts { input: count(&plan.input_header), output: count(&plan.output_header), ..Facts::default() }
}

impl Relay {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        match self.ending {
            Ending::NotYet => {}
            Ending::Flush => {
                // hyper writes what it holds when there is nothing more for now.
                self.ending = Ending::Cut;
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            Ending::Cut => return Poll::Ready(Some(Err(Cut))),
        }
        if let Some(piece) = self.peeked.take() {
            return self.hand_on(piece);
        }
        if self.plane.ending.load(Ordering::Relaxed) {
            // Also where the vendor never pauses.
            return self.fail(Outcome::Drained, Refusal::Draining, context);
        }
        match self.answer.poll_data(context) {
            Poll::Ready(Some(Ok(_))) if self.clock.is_over() => self.out_of_time(context),
            Poll::Ready(Some(Ok(piece))) => {
                self.clock.arrived();
                self.hand_on(piece)
            }
            Poll::Ready(Some(Err(error))) => {
                self.account.caused(error.to_string());
                // The vendor began to answer early, and then the client's upload failed: not the vendor's fault.
                if let Some(refusal) = self.account.upload().and_then(|upload| upload.refusal()) {
                    return self.fail(Outcome::ClientGone, refusal, context);
                }
                self.flight.died();
                self.fail(Outcome::UpstreamBroken, Refusal::UpstreamBroken, context)
            }
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => match self.clock.poll_late(context) {
                Poll::Ready(Late::Deadline) => self.out_of_time(context),
                Poll::Ready(Late::Patience) => {
                    self.flight.died();
                    self.account.caused("no further piece in time");
                    self.fail(Outcome::UpstreamBroken, Refusal::UpstreamSilent, context)
                }
                Poll::Pending => Poll::Pending,
            },
        }
    }

    /// The request was to be over by now, whoever made it late.
    fn out_of_time(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        self.account.caused("the request's total time is over");
        self.fail(Outcome::UpstreamBroken, Refusal::DeadlineExceeded, context)
    }

    fn hand_on(&mut self, piece: Bytes) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        if !self.unread {
            self.observer.feed(&self.provider.template.answer, &piece);
        }
        self.account.handed_on(piece.len());
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn fail(
        &mut self,
        outcome: Outcome,
        refusal: Refusal,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        self.account.ended(outcome);
        self.ending = Ending::Flush;
        let room = self.size_hint().exact().is_none();
        if !self.events || !room {
            return self.poll(context);
        }
        let dialect: Dialect = self.provider.template.dialect;
        let mut event = refusal.fault(self.request_id.as_str()).event(dialect);
        if !self.observer.at_boundary() {
            // The event that broke off ends here, or it would swallow this one.
            event.splice(0..0, *b"\n\n");
        }
        Poll::Ready(Some(Ok(Frame::data(event.into()))))
    }

    fn size_hint(&self) -> SizeHint {
        let peeked = self.peeked.as_ref().map_or(0, |peeked| peeked.len() as u64);
        match self.answer.size_hint().exact() {
            Some(rest) => SizeHint::with_exact(rest + peeked),
            None => SizeHint::default(),
        }
    }

    fn is_over(&self) -> bool {
        matches!(self.ending, Ending::NotYet) && self.peeked.is_none() && self.answer.is_complete()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let mut facts = self.observer.facts(&self.provider.template.answer);
        facts.input = facts.input.or(self.counted.input);
        facts.output = facts.output.or(self.counted.output);
        self.account.learned(facts);
        if self.is_over() {
            self.flight.completed();
            self.account.completed();
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let this = self.get_mut();
        let frame = match &mut this.kind {
            Kind::Whole(body) => Poll::Ready(body.take().map(|body| Ok(Frame::data(body)))),
            Kind::Relay(relay) => relay.poll(context),
            Kind::Switching(_) => Poll::Ready(None),
        };
        this.busy.asked(frame.is_ready());
        frame
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Whole(body) => body.is_none(),
            Kind::Relay(relay) => relay.is_over(),
            Kind::Switching(_) => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Whole(body) => SizeHint::with_exact(body.as_ref().map_or(0, |body| body.len() as u64)),
            Kind::Relay(relay) => relay.size_hint(),
            Kind::Switching(_) => SizeHint::with_exact(0),
        }
    }
}
