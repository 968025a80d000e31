//! Step 8: one record, one log line, the counters. Runs on every exit, because it owns what the request left behind and
//! settles when it is dropped: nobody has to remember it.

mod record;
mod settle;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use http::request::Parts;
use http::{Method, StatusCode, Uri};
use uuid::Uuid;
use uuid::fmt::Hyphenated;

use self::record::Trail;
pub use self::record::{Attempt, Outcome, Record};
use super::Plane;
use super::attempts::{Attempts, Ending};
use super::bill::{self, Bill};
use super::denial::Denial;
use super::estimate;
pub use super::start::{Entry, NotWritten, Start};
use super::trace::Trace;
use super::upload::Upload;
use crate::dialect::Dialect;
use crate::dialect::facts::Facts;
use crate::error::Refusal;
use crate::limit::reservation::{Exceeded, Reservation};
use crate::request_log::{Line, RequestLog, Value};
use crate::runtime::Runtime;
use crate::runtime::api_key::ApiKey;
use crate::runtime::endpoint::Endpoint;
use crate::runtime::provider::Provider;
use crate::runtime::request_id;
use crate::telemetry::meters::Ended;

type Take = dyn Fn(Record) + Send + Sync;
type Begin = dyn Fn(&Start<'_>) -> Result<Entry, NotWritten> + Send + Sync;

/// Where records go, and before them the starts of requests that are sent. Must not block.
#[derive(Clone)]
pub struct Sink {
    take: Arc<Take>,
    /// `None`: nobody keeps starts.
    begin: Option<Arc<Begin>>,
}

impl Sink {
    /// Hands every record to `take`.
    pub fn new(take: impl Fn(Record) + Send + Sync + 'static) -> Self {
        Self { take: Arc::new(take), begin: None }
    }

    /// Before anything of a request is sent, its start is written down by `begin`; where that fails it is not sent.
    #[must_use]
    pub fn beginning(self, begin: impl Fn(&Start<'_>) -> Result<Entry, NotWritten> + Send + Sync + 'static) -> Self {
        Self { begin: Some(Arc::new(begin)), ..self }
    }
}

impl fmt::Debug for Sink {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Sink")
    }
}

/// Bytes of a path that are kept.
const PATH: usize = 256;

/// What one request has left behind so far.
pub(super) struct Account {
    plane: Arc<Plane>,
    worker: usize,
    id: Uuid,
    started_at_us: u64,
    started: Instant,
    method: Method,
    uri: Uri,
    revision: u64,
    context: usize,
    endpoint: Option<Arc<Endpoint>>,
    key: Option<Arc<ApiKey>>,
    provider: Option<Arc<Provider>>,
    attempts: Attempts,
    trail: Trail,
    admitted: bool,
    /// `None`: nobody has said how it ended, so the client left.
    outcome: Option<Outcome>,
    refusal: Option<Refusal>,
    denial: Option<Box<Denial>>,
    cause: Option<Cow<'static, str>>,
    status: Option<StatusCode>,
    upstream_status: Option<StatusCode>,
    first_byte: Option<Duration>,
    first_token: Option<Duration>,
    streamed: bool,
    model: Option<Box<str>>,
    upload: Option<Arc<Upload>>,
    facts: Facts,
    /// The vendor was asked for usage, and the client had not.
    asked_usage: bool,
    /// Of what the model said: bytes, as they stand in JSON.
    said: u64,
    response_bytes: u64,
    start: Option<Entry>,
    /// What it took from the rules; `None`: none speaks of it.
    reservation: Option<Box<Reservation>>,
    /// What this attempt took from the rules of its provider; `None`: none speaks of it.
    attempt: Option<Box<Reservation>>,
    exceeded: Option<Box<Exceeded>>,
    trace: Option<Box<Trace>>,
}

impl Account {
    pub(super) fn open(
        plane: Arc<Plane>,
        worker: usize,
        id: Uuid,
        started_at_us: u64,
        started: Instant,
        head: &Parts,
    ) -> Self {
        plane.metrics.in_flight.increase();
        let trace = if plane.traced { Trace::of(&head.headers).map(Box::new) } else { None };
        Self {
            plane,
            worker,
            id,
            started_at_us,
            started,
            method: head.method.clone(),
            uri: head.uri.clone(),
            revision: 0,
            context: 0,
            endpoint: None,
            key: None,
            provider: None,
            attempts: Attempts::None,
            trail: Trail::default(),
            admitted: false,
            outcome: None,
            refusal: None,
            denial: None,
            cause: None,
            status: None,
            upstream_status: None,
            first_byte: None,
            first_token: None,
            streamed: false,
            model: None,
            upload: None,
            facts: Facts::default(),
            asked_usage: false,
            said: 0,
            response_bytes: 0,
            start: None,
            reservation: None,
            attempt: None,
            exceeded: None,
            trace,
        }
    }

    /// Writes down that it is about to be sent. Nothing goes out before.
    pub(super) fn begins(&mut self, provider: &Provider) -> Result<(), Refusal> {
        let Some(begin) = &self.plane.sink.begin else { return Ok(()) };
        let (Some(endpoint), Some(key)) = (&self.endpoint, &self.key) else { return Ok(()) };
        let start = Start {
            worker: self.worker,
            id: self.id,
            started_at_us: self.started_at_us,
            endpoint_id: endpoint.id,
            api_key_id: key.id,
            provider_id: provider.id,
            revision: self.revision,
            method: self.method.as_str(),
            model: self.requested_model(),
            path: self.uri.path().get(self.context..).unwrap_or_default(),
        };
        self.start = Some(begin(&start).map_err(|NotWritten| Refusal::NotRecordable)?);
        Ok(())
    }

    pub(super) fn decided_by(&mut self, runtime: &Runtime) {
        self.revision = runtime.revision();
    }

    pub(super) fn routed(&mut self, endpoint: &Arc<Endpoint>, context: usize) {
        self.endpoint = Some(Arc::clone(endpoint));
        self.context = context;
    }

    pub(super) fn authenticated(&mut self, key: &Arc<ApiKey>) {
        self.key = Some(Arc::clone(key));
    }

    pub(super) fn admitted(&mut self) {
        self.admitted = true;
    }

    /// It would be more than a limit allows.
    pub(super) fn exceeds(&mut self, exceeded: Box<Exceeded>) {
        self.exceeded = Some(exceeded);
    }

    /// Which limit, and what that held against it.
    pub(super) fn exceeded(&self) -> Option<&Exceeded> {
        self.exceeded.as_deref()
    }

    /// The model the path names, if it does. A path may be long; a record stays small, or a batch of them would outgrow
    /// the largest message.
    pub(super) fn asks_for(&mut self, model: Option<Box<str>>) {
        self.model = model.map(|model| if model.len() > PATH { cut(&model).into() } else { model });
    }

    pub(super) fn uploads(&mut self, upload: Arc<Upload>) {
        self.upload = Some(upload);
    }

    pub(super) fn upload(&self) -> Option<Arc<Upload>> {
        self.upload.clone()
    }

    pub(super) fn attempted(&mut self, provider: &Arc<Provider>) {
        self.provider = Some(Arc::clone(provider));
        // What an earlier one left behind is not this one's.
        self.upstream_status = None;
        self.first_byte = None;
        self.cause = None;
    }

    /// An attempt is over, and this is how.
    pub(super) fn ended_attempt(&mut self, provider: &Provider, ending: Ending) {
        self.attempts.ended(provider, ending);
        self.trail.ended(provider.id, ending);
    }

    /// Another attempt is made.
    pub(super) fn goes_on(&mut self) {
        self.trail.goes_on(self.started.elapsed());
    }

    pub(super) fn attempts(&self) -> &Attempts {
        &self.attempts
    }

    pub(super) fn started(&self) -> Instant {
        self.started
    }

    /// Another for every request.
    pub(super) fn random(&self) -> u64 {
        self.id.as_u64_pair().1
    }

    /// A rule refuses it, for this reason.
    pub(super) fn denied(&mut self, denial: Denial) {
        self.denial = Some(Box::new(denial));
    }

    pub(super) fn denial(&self) -> Option<&Denial> {
        self.denial.as_deref()
    }

    /// For the log line: may name addresses.
    pub(super) fn caused(&mut self, cause: impl Into<Cow<'static, str>>) {
        self.cause = Some(cause.into());
    }

    /// The head of the vendor's answer has come.
    pub(super) fn headed(&mut self, status: StatusCode) {
        self.first_byte = Some(self.started.elapsed());
        self.upstream_status = Some(status);
    }

    /// It is being passed on.
    pub(super) fn answers(&mut self, status: StatusCode, streamed: bool) {
        self.status = Some(status);
        self.streamed = streamed;
        if let (true, Some(endpoint)) = (streamed, &self.endpoint) {
            self.plane.metrics.endpoint(endpoint).stream_begins();
        }
    }

    pub(super) fn handed_on(&mut self, bytes: usize) {
        self.response_bytes += bytes as u64;
    }

    /// Whether the vendor of this attempt was asked for usage where the client did not ask.
    pub(super) fn asked_for_usage(&mut self, asked: bool) {
        self.asked_usage = asked;
    }

    pub(super) fn has_asked_for_usage(&self) -> bool {
        self.asked_usage
    }

    /// The model has begun to speak.
    pub(super) fn speaks(&mut self) {
        self.first_token = Some(self.started.elapsed());
    }

    /// `said`: so many bytes of text.
    pub(super) fn learned(&mut self, facts: Facts, said: u64) {
        let reads = !matches!(self.method, Method::POST | Method::PUT | Method::PATCH) && !self.is_conversation();
        // Reading a stored answer again takes no tokens again.
        self.facts = if reads { facts.without_usage() } else { facts };
        let failed = self.status.is_some_and(|status| status.is_client_error() || status.is_server_error());
        if self.facts.error_at_top && !failed {
            self.facts.error_type = None;
        }
        self.said = said;
    }

    /// Passed on to its end.
    pub(super) fn completed(&mut self) {
        let failed = self.status.is_some_and(|status| status.is_client_error() || status.is_server_error());
        self.outcome = Some(if failed { Outcome::VendorError } else { Outcome::Answered });
    }

    /// Ended after its head was on its way.
    pub(super) fn ended(&mut self, outcome: Outcome) {
        self.outcome = Some(outcome);
    }

    /// Answered by ourselves with a body of so many bytes.
    pub(super) fn refused(&mut self, refusal: Refusal, bytes: usize) {
        self.status = Some(refusal.status());
        self.response_bytes = bytes as u64;
        let outcome = match refusal {
            Refusal::Draining => Outcome::Drained,
            // The vendor did answer; what it said is ours to tell.
            Refusal::UpstreamAuth | Refusal::UnreadableModelList => Outcome::Refused,
            _ if refusal.is_upstream() => Outcome::UpstreamFailed,
            _ => Outcome::Refused,
        };
        self.outcome = Some(outcome);
        self.refusal = Some(refusal);
    }

    /// What the caller speaks, once the endpoint is known.
    pub(super) fn dialect(&self) -> Option<Dialect> {
        self.endpoint.as_ref().map(|endpoint| endpoint.template.dialect)
    }

    /// The ending if nobody has said one.
    fn outcome(&self) -> Outcome {
        self.outcome.unwrap_or_else(|| {
            if self.plane.ending.load(Ordering::Relaxed) { Outcome::Drained } else { Outcome::ClientGone }
        })
    }

    /// Whether a good answer was under way and did not come to its end.
    fn is_cut_short(&self, outcome: Outcome) -> bool {
        self.upstream_status.is_some_and(|status| status.is_success())
            && self.method == Method::POST
            && match outcome {
                Outcome::ClientGone | Outcome::UpstreamBroken | Outcome::Drained => true,
                Outcome::Answered | Outcome::Refused | Outcome::VendorError | Outcome::UpstreamFailed => false,
            }
    }

    fn is_conversation(&self) -> bool {
        self.status == Some(StatusCode::SWITCHING_PROTOCOLS)
    }

    /// Bytes of a question in JSON; `None`: it was something else.
    fn asked(&self) -> Option<u64> {
        let upload = self.upload.as_ref()?;
        upload.is_json().then(|| upload.bytes())
    }

    fn requested_model(&self) -> Option<&str> {
        self.model.as_deref().or_else(|| self.upload.as_ref()?.model())
    }

    fn log(&self, log: &RequestLog, outcome: Outcome, duration: Duration) {
        let milliseconds = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let id = request_id::text(self.id);
        let (mut key, mut status) = ([0; Hyphenated::LENGTH], *b"000");
        let key = self.key.as_ref().map(|id| &*id.id.hyphenated().encode_lower(&mut key));
        let code = self.status.map_or(0, |status| status.as_u16());
        let status = digits(code, &mut status);
        let fields = [
            ("request.id", Value::Text(id.as_str())),
            ("endpoint.name", Value::text(self.endpoint.as_ref().map(|endpoint| &*endpoint.name))),
            ("provider.name", Value::text(self.provider.as_ref().map(|provider| &*provider.name))),
            ("key.id", Value::word(key)),
            ("status", Value::Number(code.into())),
            ("upstream.status", Value::number(self.upstream_status.map(|status| status.as_u16().into()))),
            ("refusal", Value::text(self.refusal.map(Refusal::label))),
            ("cause", Value::text(self.cause.as_deref())),
            ("attempts", Value::text(self.attempts.text())),
            ("model", Value::text(self.requested_model())),
            ("input_tokens", Value::number(self.facts.input)),
            ("output_tokens", Value::number(self.facts.output)),
            ("duration_ms", Value::Number(milliseconds(duration))),
            ("first_byte_ms", Value::number(self.first_byte.map(milliseconds))),
            ("revision", Value::Number(self.revision)),
        ];
        let message = [self.method.as_str(), " ", cut(self.uri.path()), ": ", outcome.label(), " ", status];
        let at_us = self.started_at_us + u64::try_from(duration.as_micros()).unwrap_or_default();
        log.write(self.worker, &Line { at_us, target: module_path!(), message: &message, fields: &fields });
    }

    fn record(&mut self, outcome: Outcome, duration: Duration) -> Option<Record> {
        let (endpoint, key) = (self.endpoint.as_ref()?, self.key.as_ref()?);
        let microseconds = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let requested_model = self.requested_model().map(Into::into);
        let path = self.uri.path().get(self.context..).unwrap_or_default();
        let mut facts = std::mem::take(&mut self.facts);
        let estimated = self.is_cut_short(outcome) && estimate::complete(&mut facts, self.asked(), self.said);
        let refused = matches!(outcome, Outcome::VendorError) || !self.admitted || !self.may_have_run();
        let provider = self.provider.as_deref();
        let Bill { cost_nanos, price_version, unpriced } = bill::of(provider, self.requested_model(), &facts, refused);
        Some(Record {
            id: self.id,
            started_at_us: self.started_at_us,
            endpoint_id: endpoint.id,
            provider_id: self.provider.as_ref().map(|provider| provider.id),
            api_key_id: key.id,
            admitted: self.admitted,
            outcome,
            refusal: self.refusal.map(Refusal::label),
            status: self.status.map(|status| status.as_u16()),
            upstream_status: self.upstream_status.map(|status| status.as_u16()),
            requested_model,
            served_model: facts.model,
            input_tokens: facts.input,
            output_tokens: facts.output,
            cached_input_tokens: facts.cached_input,
            cache_write_tokens: facts.cache_write,
            reasoning_tokens: facts.reasoning,
            input_audio_tokens: facts.input_audio,
            output_audio_tokens: facts.output_audio,
            estimated,
            finish_reason: facts.finish_reason,
            tool_calls: facts.tool_calls,
            error_type: facts.error_type,
            duration_us: microseconds(duration),
            first_byte_us: self.first_byte.map(microseconds),
            first_token_us: self.first_token.map(microseconds),
            streamed: self.streamed,
            request_bytes: self.upload.as_ref().map_or(0, |upload| upload.bytes()),
            response_bytes: self.response_bytes,
            method: self.method.clone(),
            path: cut(path).into(),
            revision: self.revision,
            cost_nanos,
            price_version,
            unpriced,
            start: self.start.take(),
            denial: self.denial.take(),
            exceeded: self.exceeded.take(),
            trace: self.trace.take(),
            attempts: self.trail.told(self.first_byte.unwrap_or(duration)),
        })
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let (outcome, duration) = (self.outcome(), self.started.elapsed());
        if let Some(log) = &self.plane.log
            && tracing::enabled!(tracing::Level::INFO)
        {
            self.log(log, outcome, duration);
        }
        let received = self.upload.as_ref().map_or(0, |upload| upload.bytes());
        if let (true, Some(endpoint)) = (self.streamed, &self.endpoint) {
            self.plane.metrics.endpoint(endpoint).stream_ends();
        }
        let ended = Ended { outcome, duration, first_byte: self.first_byte, received, sent: self.response_bytes };
        self.plane.metrics.ended(self.endpoint.as_deref(), self.refusal, &ended);
        let tokens = (self.facts.input, self.facts.output);
        if let Some(record) = self.record(outcome, duration) {
            self.settle(&record, tokens, duration);
            (self.plane.sink.take)(record);
        }
    }
}

/// A status in decimal digits; 0: none was sent.
fn digits(status: u16, text: &mut [u8; 3]) -> &str {
    let digit = |number: u16| b'0' + u8::try_from(number % 10).unwrap_or_default();
    *text = [digit(status / 100), digit(status / 10), digit(status)];
    let text = std::str::from_utf8(text).unwrap_or_default();
    if status == 0 { "0" } else { text }
}

/// At most [`PATH`] bytes of it.
fn cut(path: &str) -> &str {
    let mut end = path.len().min(PATH);
    while !path.is_char_boundary(end) {
        end -= 1;
    }
    &path[..end]
}
