//! Step 7: the answer as it comes. A piece is handed on before the next is asked for; the head is on its way before the
//! first piece; a vendor that dies in mid-answer is an error event and a cut, never a clean end.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, UPGRADE};
use http::{HeaderMap, Response, Version};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::account::{Account, Outcome};
use super::admit::Permit;
use super::attempts::ATTEMPTS;
use super::clock::{Clock, Late};
use super::denial::Denial;
use super::dispatch::Reply;
use super::receive::{self, Call};
use super::tunnel::Tunnel;
use super::{Plane, headers, links};
use crate::dialect::ask::Veil;
use crate::dialect::facts::{Facts, Framing, Observer, Plan, Shape};
use crate::error::{REQUEST_ID, Refusal};
use crate::presence::{Busy, LastWords};
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
    /// Of the request, not read; `None`: it need not be kept.
    unread: Option<Unread>,
}

/// The body of a request that asked for another protocol and was refused. hyper takes the connection for switched, and
/// leaves what it has not written yet, as soon as it sees that nobody will read the body any more.
pub(crate) struct Unread {
    _body: Incoming,
    answered: LastWords,
}

impl Unread {
    /// Ready when the client has taken the answer: the body may go. To be asked before the answer is handed on as well.
    pub(crate) fn poll_answered(&mut self, context: &Context<'_>) -> Poll<()> {
        self.answered.poll_taken(context)
    }
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
        Self { kind: Kind::Switching(Some(Box::new(tunnel))), busy, unread: None }
    }

    /// What must outlive the answer until the client has taken it.
    pub(crate) fn take_unread(&mut self) -> Option<Unread> {
        self.unread.take()
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
    /// `None`: it is no stream of events.
    events: Option<Framing>,
    clock: Clock,
    ending: Ending,
    account: Account,
    plane: Arc<Plane>,
    provider: Arc<Provider>,
    request_id: request_id::Text,
    counted: Facts,
    /// Keeps from the client what it did not ask for.
    veil: Option<Box<Veil>>,
    /// Not yet: the model has said nothing, and its answer is a stream.
    silent: bool,
    /// Told how the answer ends.
    flight: Flight,
    /// Held to the end: gives back what was reserved.
    _permit: Permit,
}

/// How far a failure has been told.
enum Ending {
    NotYet,
    /// What was handed on must be taken before the cut, or it would be lost.
    Flush(LastWords),
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
    let events = shape == Shape::Events && plan.framing == Framing::ServerSentEvents;
    let veil = (events && account.has_asked_for_usage()).then(Box::<Veil>::default);
    if veil.is_some() {
        // It will be shorter.
        headers.remove(CONTENT_LENGTH);
    }
    let relay = Relay {
        answer,
        peeked,
        observer,
        unread: shape == Shape::Opaque,
        events: (shape == Shape::Events).then_some(plan.framing),
        veil,
        clock,
        ending: Ending::NotYet,
        account,
        plane,
        provider,
        request_id,
        counted,
        silent: shape == Shape::Events,
        flight,
        _permit: permit,
    };
    let mut response = Response::new(AnswerBody { kind: Kind::Relay(Box::new(relay)), busy, unread: None });
    *response.status_mut() = head.status;
    *response.headers_mut() = headers;
    response
}

/// Makes the answer of a refusal.
pub(super) fn refuse(call: Call, refusal: Refusal) -> Response<AnswerBody> {
    let Call { head, body, mut account, busy, request_id, .. } = call;
    let http1 = head.version != Version::HTTP_2;
    let unread = body.filter(|body| http1 && head.headers.contains_key(UPGRADE) && !body.is_end_stream());
    let unread = unread.map(|body| Unread { _body: body, answered: busy.last_words(Vec::new()).1 });
    let dialect = account.dialect();
    let why = account.denial().map(Denial::text).unwrap_or_default();
    let (id, value) = (request_id.as_str(), request_id.header());
    let (status, mut headers, body) = refusal.explain(&why, dialect, id, &value, http1, account.exceeded());
    if let Some(attempts) = account.attempts().value() {
        headers.insert(ATTEMPTS, attempts);
    }
    account.refused(refusal, body.len());
    let mut response = Response::new(AnswerBody { kind: Kind::Whole(Some(body)), busy, unread });
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
    let error = plan.error_header.as_deref().and_then(|name| headers.get(name)?.to_str().ok()?.split(':').next());
    Facts {
        input: count(&plan.input_header),
        output: count(&plan.output_header),
        error_type: error.map(Into::into),
        ..Facts::default()
    }
}

impl Relay {
    fn poll(&mut self, busy: &Busy, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        loop {
            let frame = ready!(self.poll_frame(busy, context));
            // What is held back behind a veil is nothing yet.
            match &frame {
                Some(Ok(frame)) if !self.is_flushing() && frame.data_ref().is_some_and(Bytes::is_empty) => {}
                Some(_) | None => return Poll::Ready(frame),
            }
        }
    }

    fn poll_frame(&mut self, busy: &Busy, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        match &mut self.ending {
            Ending::NotYet => {}
            Ending::Flush(last_words) => {
                ready!(last_words.poll_taken(context));
                self.ending = Ending::Cut;
                return Poll::Ready(Some(Err(Cut)));
            }
            Ending::Cut => return Poll::Ready(Some(Err(Cut))),
        }
        if let Some(piece) = self.peeked.take() {
            return self.hand_on(piece);
        }
        if self.plane.ending.load(Ordering::Relaxed) {
            // Also where the vendor never pauses.
            return self.fail(Outcome::Drained, Refusal::Draining, busy);
        }
        match self.answer.poll_data(context) {
            Poll::Ready(Some(Ok(_))) if self.clock.is_over() => self.out_of_time(busy),
            Poll::Ready(Some(Ok(piece))) => {
                self.clock.arrived();
                self.hand_on(piece)
            }
            Poll::Ready(Some(Err(error))) => {
                self.account.caused(error.to_string());
                // The vendor began to answer early, and then the client's upload failed: not the vendor's fault.
                if let Some(refusal) = self.account.upload().and_then(|upload| upload.refusal()) {
                    return self.fail(Outcome::ClientGone, refusal, busy);
                }
                self.flight.died();
                self.fail(Outcome::UpstreamBroken, Refusal::UpstreamBroken, busy)
            }
            Poll::Ready(None) => match &mut self.veil {
                Some(veil) if !veil.is_empty() => Poll::Ready(Some(Ok(Frame::data(veil.rest())))),
                Some(_) | None => Poll::Ready(None),
            },
            Poll::Pending => match self.clock.poll_late(context) {
                Poll::Ready(Late::Deadline) => self.out_of_time(busy),
                Poll::Ready(Late::Patience) => {
                    self.flight.died();
                    self.account.caused("no further piece in time");
                    self.fail(Outcome::UpstreamBroken, Refusal::UpstreamSilent, busy)
                }
                Poll::Pending => Poll::Pending,
            },
        }
    }

    /// The request was to be over by now, whoever made it late.
    fn out_of_time(&mut self, busy: &Busy) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        self.account.caused("the request's total time is over");
        self.fail(Outcome::UpstreamBroken, Refusal::DeadlineExceeded, busy)
    }

    fn hand_on(&mut self, piece: Bytes) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        if !self.unread {
            self.observer.feed(&self.provider.template.answer, &piece);
            if self.silent && self.observer.text() > 0 {
                self.silent = false;
                self.account.speaks();
            }
        }
        let piece = match &mut self.veil {
            Some(veil) => veil.feed(piece),
            None => piece,
        };
        self.account.handed_on(piece.len());
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn fail(&mut self, outcome: Outcome, refusal: Refusal, busy: &Busy) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        self.account.ended(outcome);
        let room = self.size_hint().exact().is_none();
        let mut event = if room { self.error_event(refusal) } else { Vec::new() };
        if let Some(veil) = &mut self.veil {
            event.splice(0..0, veil.rest());
        }
        let (piece, last_words) = busy.last_words(event);
        self.ending = Ending::Flush(last_words);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    /// Empty where nothing can be said in the stream's own words.
    fn error_event(&self, refusal: Refusal) -> Vec<u8> {
        let fault = refusal.fault(self.request_id.as_str());
        match (self.events, self.observer.at_boundary()) {
            (Some(Framing::ServerSentEvents), true) => fault.event(self.provider.template.dialect),
            (Some(Framing::ServerSentEvents), false) => {
                // The event that broke off ends here, or it would swallow this one.
                let mut event = fault.event(self.provider.template.dialect);
                event.splice(0..0, *b"\n\n");
                event
            }
            (Some(Framing::AwsEventStream), true) => fault.exception(),
            // A message that broke off has a length that would swallow whatever is written behind it.
            (Some(Framing::AwsEventStream), false) | (None, _) => Vec::new(),
        }
    }

    /// The last piece has been handed on, and the client has not taken it yet.
    fn is_flushing(&self) -> bool {
        matches!(self.ending, Ending::Flush(_))
    }

    fn size_hint(&self) -> SizeHint {
        let peeked = self.peeked.as_ref().map_or(0, |peeked| peeked.len() as u64);
        match self.answer.size_hint().exact().filter(|_| self.veil.is_none()) {
            Some(rest) => SizeHint::with_exact(rest + peeked),
            None => SizeHint::default(),
        }
    }

    fn is_over(&self) -> bool {
        matches!(self.ending, Ending::NotYet)
            && self.peeked.is_none()
            && self.answer.is_complete()
            && self.veil.as_ref().is_none_or(|veil| veil.is_empty())
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let mut facts = self.observer.facts(&self.provider.template.answer);
        facts.input = facts.input.or(self.counted.input);
        facts.output = facts.output.or(self.counted.output);
        facts.error_type = facts.error_type.or_else(|| self.counted.error_type.take());
        self.account.learned(facts, self.observer.text());
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
            Kind::Relay(relay) => {
                let frame = relay.poll(&this.busy, context);
                if frame.is_pending() && relay.is_flushing() {
                    // The client still has something to take.
                    return Poll::Pending;
                }
                frame
            }
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
