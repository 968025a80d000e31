//! What a scripted vendor sends: a list of steps.

use std::{fmt::Write as _, sync::Arc};

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::watch;

use super::{Request, Vendor, websocket};

/// Holds an answer back until the test opens it.
#[derive(Clone)]
pub struct Gate(Arc<watch::Sender<bool>>);

impl Gate {
    /// A closed one.
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }

    /// Lets every answer that waits here go on, now and later.
    pub fn open(&self) {
        self.0.send_replace(true);
    }

    pub(super) async fn opened(&self) {
        let mut state = self.0.subscribe();
        state.wait_for(|open| *open).await.expect("the gate holds its own sender");
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

#[derive(Clone)]
pub(super) enum Step {
    Bytes(Bytes),
    Wait(Gate),
    Hang,
    Close,
    Cut,
    Abandon,
    Reset,
    WebSocket(Vendor),
}

#[derive(Clone)]
enum Body {
    /// Sent with its length.
    Whole(Bytes),
    /// Sent in chunks, one per piece.
    Pieces(Vec<Step>),
}

/// What to send. Begin with [`Answer::json`], [`Answer::text`], [`Answer::stream`], [`Answer::raw`] or
/// [`Answer::silence`].
#[derive(Clone)]
pub struct Answer {
    before: Vec<Step>,
    status: u16,
    headers: Vec<(String, String)>,
    body: Body,
    raw: Option<Vec<Step>>,
}

impl Answer {
    fn new(status: u16, content_type: &str, body: Body) -> Self {
        let headers = vec![("content-type".to_owned(), content_type.to_owned())];
        Self { before: Vec::new(), status, headers, body, raw: None }
    }

    /// A JSON body with its length.
    pub fn json(status: u16, body: &Value) -> Self {
        Self::new(status, "application/json", Body::Whole(body.to_string().into()))
    }

    /// A plain body with its length.
    pub fn text(status: u16, content_type: &str, body: impl Into<Bytes>) -> Self {
        Self::new(status, content_type, Body::Whole(body.into()))
    }

    /// An event stream without a single event yet: add [`Answer::piece`]s. Ends properly after the last step.
    pub fn stream() -> Self {
        Self::new(200, "text/event-stream; charset=utf-8", Body::Pieces(Vec::new()))
    }

    /// A body in chunks, without its length: add [`Answer::piece`]s.
    pub fn chunked(content_type: &str) -> Self {
        Self::new(200, content_type, Body::Pieces(Vec::new()))
    }

    /// These bytes and nothing around them; the connection is closed behind them.
    pub fn raw(bytes: impl Into<Bytes>) -> Self {
        let mut answer = Self::silence();
        answer.raw = Some(vec![Step::Bytes(bytes.into()), Step::Close]);
        answer
    }

    /// Of [`Answer::raw`]: the connection is gone without TLS saying so.
    #[must_use]
    pub fn without_farewell(mut self) -> Self {
        if let Some(last) = self.raw.iter_mut().flatten().last() {
            *last = Step::Abandon;
        }
        self
    }

    /// Agrees to the request's WebSocket handshake and talks there as this vendor does.
    pub fn websocket(request: &Request, vendor: Vendor) -> Self {
        let mut answer = Self::silence();
        answer.raw = Some(vec![Step::Bytes(websocket::agreement(request).into()), Step::WebSocket(vendor)]);
        answer
    }

    /// Reads the request and says nothing.
    pub fn silence() -> Self {
        let mut answer = Self::new(0, "", Body::Whole(Bytes::new()));
        answer.raw = Some(vec![Step::Hang]);
        answer
    }

    /// Reads the request and resets the connection.
    pub fn slammed() -> Self {
        let mut answer = Self::silence();
        answer.raw = Some(vec![Step::Reset]);
        answer
    }

    /// A header more.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The body, if it is JSON in one piece.
    pub fn body_json(&self) -> Value {
        match &self.body {
            Body::Whole(body) => serde_json::from_slice(body).unwrap_or_default(),
            Body::Pieces(_) => Value::Null,
        }
    }

    /// Another status.
    #[must_use]
    pub fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// Waits before the first byte of the head.
    #[must_use]
    pub fn after(mut self, gate: &Gate) -> Self {
        self.before.push(Step::Wait(gate.clone()));
        self
    }

    /// Sends these bytes in a segment and a chunk of their own.
    #[must_use]
    pub fn piece(self, bytes: impl Into<Bytes>) -> Self {
        self.step(Step::Bytes(bytes.into()))
    }

    /// Waits between two pieces.
    #[must_use]
    pub fn wait(self, gate: &Gate) -> Self {
        self.step(Step::Wait(gate.clone()))
    }

    /// Sends nothing more and keeps the connection.
    #[must_use]
    pub fn hang(self) -> Self {
        self.step(Step::Hang)
    }

    /// Resets the connection instead of ending the body.
    #[must_use]
    pub fn reset(self) -> Self {
        self.step(Step::Reset)
    }

    /// Closes the connection in order, but in the middle of the body.
    #[must_use]
    pub fn cut(self) -> Self {
        self.step(Step::Cut)
    }

    fn step(mut self, step: Step) -> Self {
        match &mut self.body {
            Body::Pieces(pieces) => pieces.push(step),
            Body::Whole(_) => {
                let Body::Whole(first) = std::mem::replace(&mut self.body, Body::Pieces(Vec::new())) else {
                    unreachable!("matched above")
                };
                self.body = Body::Pieces(vec![Step::Bytes(first), step]);
            }
        }
        self
    }

    pub(super) fn into_steps(self) -> Vec<Step> {
        let mut steps = self.before;
        if let Some(raw) = self.raw {
            steps.extend(raw);
            return steps;
        }
        let mut head = format!("HTTP/1.1 {} Scripted\r\n", self.status);
        for (name, value) in &self.headers {
            write!(head, "{name}: {value}\r\n").expect("a string takes text");
        }
        match self.body {
            Body::Whole(body) => {
                write!(head, "content-length: {}\r\n\r\n", body.len()).expect("a string takes text");
                let mut bytes = head.into_bytes();
                bytes.extend_from_slice(&body);
                steps.push(Step::Bytes(bytes.into()));
            }
            Body::Pieces(pieces) => {
                head.push_str("transfer-encoding: chunked\r\n\r\n");
                steps.push(Step::Bytes(head.into()));
                let mut ends = true;
                for piece in pieces {
                    ends = !matches!(
                        piece,
                        Step::Hang | Step::Reset | Step::Cut | Step::Abandon | Step::Close | Step::WebSocket(_)
                    );
                    steps.push(match piece {
                        Step::Bytes(bytes) => Step::Bytes(chunk(&bytes)),
                        Step::Wait(_)
                        | Step::Hang
                        | Step::Close
                        | Step::Cut
                        | Step::Abandon
                        | Step::Reset
                        | Step::WebSocket(_) => piece,
                    });
                }
                if ends {
                    steps.push(Step::Bytes(Bytes::from_static(b"0\r\n\r\n")));
                }
            }
        }
        steps
    }
}

fn chunk(bytes: &[u8]) -> Bytes {
    let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
    chunk.extend_from_slice(bytes);
    chunk.extend_from_slice(b"\r\n");
    chunk.into()
}
