//! How the sample upstream's answers leave: whole or in frames, at a pace, or badly when the prompt asked for that.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::trigger::{Refusal, Refused, Trigger};
use super::{Answer, Content, Vendor, anthropic, random_id};

/// An error in the body makes hyper drop the connection, which is what `sample:cut` wants.
pub(super) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// What `sample:slow` waits.
const SLOW: Duration = Duration::from_secs(3);
/// What `sample:silent` waits before it gives up; every deadline of a client is shorter.
const SILENT: Duration = Duration::from_hours(1);
/// The first token takes as long as so many others.
const THINKING: u32 = 5;

/// A part of a streamed answer.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    bytes: Bytes,
    /// Comes after a pause: a piece of text, not an envelope.
    paced: bool,
}

impl Frame {
    /// An envelope event, which leaves together with its neighbours.
    pub(super) fn at_once(text: String) -> Self {
        Self { bytes: text.into(), paced: false }
    }

    /// A piece of the answer, which takes its time.
    pub(super) fn paced(text: String) -> Self {
        Self { bytes: text.into(), paced: true }
    }
}

/// The speed of the answers, and the signal that ends them.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    pause: Duration,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Pace {
    pub(super) fn new(pause: Duration, stop: CancellationToken, tasks: TaskTracker) -> Self {
        Self { pause, stop, tasks }
    }

    /// Sleeps; false if the upstream is shutting down.
    async fn wait(&self, time: Duration) -> bool {
        tokio::select! {
            () = self.stop.cancelled() => false,
            () = tokio::time::sleep(time) => true,
        }
    }

    /// Turns an answer into a response: the head of a stream leaves at once, a whole answer when it is thought out.
    pub(super) async fn respond(&self, vendor: Vendor, answer: Answer) -> Response<Body> {
        let first = self.pause * THINKING
            + match answer.trigger {
                Some(Trigger::Slow) => SLOW,
                Some(Trigger::Silent) => SILENT,
                _ => Duration::ZERO,
            };
        let (frames, content_type, trigger) = match answer.content {
            Content::Events(frames) => (frames, "text/event-stream; charset=utf-8", answer.trigger),
            // An array has no error event.
            Content::Array(frames) if answer.trigger == Some(Trigger::Break) => {
                (frames, "application/json; charset=UTF-8", Some(Trigger::Cut))
            }
            Content::Array(frames) => (frames, "application/json; charset=UTF-8", answer.trigger),
            Content::Json(value) => {
                self.wait(first).await;
                if answer.trigger == Some(Trigger::Cut) {
                    return half(vendor, &value);
                }
                return whole(vendor, StatusCode::OK, &value);
            }
        };
        if answer.trigger == Some(Trigger::Silent) {
            // Not even a head.
            self.wait(first).await;
        }
        let (sender, receiver) = mpsc::channel(1);
        self.tasks.spawn(self.clone().play(vendor, frames, trigger, first, sender));
        let frames = StreamBody::new(ReceiverStream::new(receiver));
        let mut response = Response::new(frames.boxed_unsync());
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        stamp(vendor, &mut response);
        response
    }

    async fn play(
        self,
        vendor: Vendor,
        frames: Vec<Frame>,
        trigger: Option<Trigger>,
        first: Duration,
        sender: mpsc::Sender<io::Result<hyper::body::Frame<Bytes>>>,
    ) {
        let paced = frames.iter().filter(|frame| frame.paced).count();
        let half = matches!(trigger, Some(Trigger::Cut | Trigger::Break)).then_some(paced / 2);
        let mut sent = 0;
        let mut gathered = BytesMut::new();
        for frame in frames {
            if frame.paced {
                if half == Some(sent) {
                    break;
                }
                if !gathered.is_empty()
                    && sender.send(Ok(hyper::body::Frame::data(gathered.split().freeze()))).await.is_err()
                {
                    return gone(vendor, sent, paced);
                }
                let pause = if sent == 0 { first } else { self.pause };
                tokio::select! {
                    () = sender.closed() => return gone(vendor, sent, paced),
                    running = self.wait(pause) => if !running { break },
                }
                sent += 1;
            }
            gathered.extend_from_slice(&frame.bytes);
        }
        if trigger == Some(Trigger::Break) {
            gathered.extend_from_slice(broken(vendor).as_bytes());
        }
        if !gathered.is_empty() && sender.send(Ok(hyper::body::Frame::data(gathered.freeze()))).await.is_err() {
            return gone(vendor, sent, paced);
        }
        if trigger == Some(Trigger::Cut) || self.stop.is_cancelled() {
            // Nobody listens any more if this fails, which is what it wants.
            let _ = sender.send(Err(io::Error::other("cut"))).await;
        }
    }
}

fn gone(vendor: Vendor, sent: usize, of: usize) {
    tracing::info!(vendor = vendor.name(), sent, of, "a client left the sample upstream in mid-answer");
}

/// The error event that vendors send when they fail after the head.
fn broken(vendor: Vendor) -> String {
    let refusal = Refusal::Provoked(Refused::Overloaded, String::new());
    match vendor {
        Vendor::Anthropic => named(&anthropic::refuse(&refusal).1),
        Vendor::OpenAi | Vendor::Azure | Vendor::Mistral => {
            let error = serde_json::json!({ "error": {
                "message": "The server had an error while processing your request. Sorry about that!",
                "type": "server_error", "param": null, "code": null,
            }});
            unnamed(&error)
        }
        Vendor::Gemini => format!("data: {}\r\n\r\n", super::gemini::refuse(&refusal).1),
    }
}

/// A server-sent event without a name.
pub(super) fn unnamed(data: &Value) -> String {
    format!("data: {data}\n\n")
}

/// A server-sent event, named by the `type` of its data.
pub(super) fn named(data: &Value) -> String {
    format!("event: {}\ndata: {data}\n\n", data.get("type").and_then(Value::as_str).unwrap_or_default())
}

/// A JSON answer.
pub(super) fn whole(vendor: Vendor, status: StatusCode, value: &Value) -> Response<Body> {
    let body = Full::new(Bytes::from(value.to_string())).map_err(|never| match never {});
    let mut response = Response::new(body.boxed_unsync());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    stamp(vendor, &mut response);
    response
}

/// The first half of a JSON answer under the whole length; then the connection dies.
fn half(vendor: Vendor, value: &Value) -> Response<Body> {
    let text = value.to_string();
    let length = text.len();
    let half = Bytes::from(text).slice(..length / 2);
    let parts = [Ok(hyper::body::Frame::data(half)), Err(io::Error::other("cut"))];
    let mut response = whole(vendor, StatusCode::OK, &Value::Null);
    *response.body_mut() = StreamBody::new(tokio_stream::iter(parts)).boxed_unsync();
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    response
}

/// The request id, under the name each vendor gives it.
fn stamp(vendor: Vendor, response: &mut Response<Body>) {
    let name = match vendor {
        Vendor::OpenAi => "x-request-id",
        Vendor::Anthropic => "request-id",
        Vendor::Gemini => return,
        Vendor::Mistral => "mistral-correlation-id",
        Vendor::Azure => "apim-request-id",
    };
    if let Ok(value) = HeaderValue::try_from(format!("req_{}", random_id(24))) {
        response.headers_mut().insert(name, value);
    }
}
