//! The sample upstream: five vendors' APIs on one loopback port, so that a first request needs no vendor account.
//!
//! Decides which vendor a path belongs to, whether the credential is right, and at which pace an answer leaves. What a
//! vendor's messages look like is in the file of its dialect; what is said is in `answer`. It knows nothing of
//! Lockgate.

mod answer;
mod anthropic;
mod azure;
mod chat;
mod gemini;
mod mistral;
mod openai;
mod responses;
mod schema;
mod stream;
mod trigger;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::stream::{Body, Frame, Pace};
use self::trigger::{Refusal, Trigger};

pub(crate) use self::trigger::table as trigger_table;

/// Requests of vision models carry images; more than this is refused.
const BODY_LIMIT: usize = 32 * 1024 * 1024;
/// How long a client may take to send its body.
const BODY_TIME: Duration = Duration::from_mins(1);

/// The vendors, under the names of their templates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Vendor {
    OpenAi,
    Anthropic,
    Gemini,
    Mistral,
    Azure,
}

impl Vendor {
    /// In the order in which they are listed to people.
    pub(crate) const ALL: [Self; 5] = [Self::OpenAi, Self::Anthropic, Self::Gemini, Self::Mistral, Self::Azure];

    /// The template's name, and the first segment of the vendor's paths here.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
            Self::Gemini => "gemini",
            Self::Mistral => "mistral",
            Self::Azure => "azure-openai",
        }
    }

    /// A model name that its users would write.
    pub(crate) const fn model(self) -> &'static str {
        match self {
            Self::OpenAi => "gpt-4o",
            Self::Anthropic => "claude-sonnet-4-5",
            Self::Gemini => "gemini-2.5-flash",
            Self::Mistral => "mistral-small-latest",
            Self::Azure => "my-gpt4o-deployment",
        }
    }

    /// The credential that the sample upstream insists on. No secret: it opens nothing but this.
    pub(crate) const fn credential(self) -> &'static str {
        match self {
            Self::OpenAi => "sk-sample-openai-4dQmVwYt",
            Self::Anthropic => "sk-ant-sample-7RkPnXcB",
            Self::Gemini => "AIza-sample-gemini-2HsLgFzJ",
            Self::Mistral => "sample-mistral-9TbWqDvK",
            Self::Azure => "sample-azure-5McZyNxG",
        }
    }

    const fn credential_header(self) -> (&'static str, &'static str) {
        match self {
            Self::OpenAi | Self::Mistral => ("authorization", "Bearer "),
            Self::Anthropic => ("x-api-key", ""),
            Self::Gemini => ("x-goog-api-key", ""),
            Self::Azure => ("api-key", ""),
        }
    }

    /// The path that a chat request takes, for messages to people.
    pub(crate) const fn chat_path(self) -> &'static str {
        match self {
            Self::OpenAi | Self::Mistral => "/v1/chat/completions",
            Self::Anthropic => "/v1/messages",
            Self::Gemini => "/v1beta/models/gemini-2.5-flash:generateContent",
            Self::Azure => "/openai/deployments/my-gpt4o-deployment/chat/completions?api-version=2024-06-01",
        }
    }
}

/// What a dialect makes of a request.
struct Answer {
    content: Content,
    /// What the prompt asked for beside an answer.
    trigger: Option<Trigger>,
}

enum Content {
    Json(Value),
    /// An event stream.
    Events(Vec<Frame>),
    /// One JSON array, written element by element (Gemini without `alt=sse`).
    Array(Vec<Frame>),
}

impl Answer {
    fn json(value: Value) -> Self {
        Self { content: Content::Json(value), trigger: None }
    }
}

/// A request as the dialects see it: the path after the vendor's segment.
struct Query<'a> {
    method: &'a Method,
    path: &'a str,
    /// What followed the question mark.
    parameters: &'a str,
    headers: &'a http::HeaderMap,
    body: &'a Bytes,
}

impl Query<'_> {
    /// The body as a JSON object.
    fn object(&self) -> Result<Value, Refusal> {
        serde_json::from_slice(self.body).ok().filter(Value::is_object).ok_or(Refusal::Malformed)
    }

    fn unknown_route(&self) -> Refusal {
        Refusal::Route(self.method.to_string(), self.path.to_owned())
    }

    /// The value of a query parameter that needs no decoding.
    fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value)
    }
}

/// The running sample upstream.
pub(crate) struct Sample {
    address: SocketAddr,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Sample {
    /// Binds and serves. `pace` is the pause before each piece of a streamed answer.
    pub(crate) async fn start(listen: SocketAddr, pace: Duration) -> io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        tasks.spawn(accept(listener, Pace::new(pace, stop.clone(), tasks.clone()), stop.clone(), tasks.clone()));
        Ok(Self { address, stop, tasks })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The upstream URL of a vendor.
    pub(crate) fn url(&self, vendor: Vendor) -> String {
        format!("http://{}/{}", self.address, vendor.name())
    }

    /// Ends every connection after the answer it is writing.
    pub(crate) async fn shutdown(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

async fn accept(listener: TcpListener, pace: Pace, stop: CancellationToken, tasks: TaskTracker) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => match accepted {
                Ok((socket, _)) => {
                    tasks.spawn(serve(socket, pace.clone(), stop.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "the sample upstream cannot accept a connection");
                    // Out of file descriptors, most likely: waiting is all that helps.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
        }
    }
}

async fn serve(socket: TcpStream, pace: Pace, stop: CancellationToken) {
    // Small events leave at once.
    let _ = socket.set_nodelay(true);
    let service = service_fn(move |request| {
        let pace = pace.clone();
        async move { Ok::<_, Infallible>(respond(request, &pace).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_mins(5))
        .serve_connection(TokioIo::new(socket), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection of the sample upstream ended early");
    }
}

async fn respond(request: Request<Incoming>, pace: &Pace) -> Response<Body> {
    let (head, body) = request.into_parts();
    let path = head.uri.path();
    let found = Vendor::ALL.into_iter().find_map(|vendor| {
        let rest = path.strip_prefix('/')?.strip_prefix(vendor.name())?;
        (rest.is_empty() || rest.starts_with('/')).then_some((vendor, rest))
    });
    let Some((vendor, path)) = found else { return about() };
    let refuse = |refusal: Refusal| refusal_of(vendor, &refusal);
    if let Err(refusal) = check_credential(vendor, &head.headers) {
        return refuse(refusal);
    }
    let body = match tokio::time::timeout(BODY_TIME, Limited::new(body, BODY_LIMIT).collect()).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(_)) | Err(_) => return refuse(Refusal::Body),
    };
    let query = Query {
        method: &head.method,
        path,
        parameters: head.uri.query().unwrap_or_default(),
        headers: &head.headers,
        body: &body,
    };
    let answered = match vendor {
        Vendor::OpenAi => openai::handle(&query),
        Vendor::Anthropic => anthropic::handle(&query),
        Vendor::Gemini => gemini::handle(&query),
        Vendor::Mistral => mistral::handle(&query),
        Vendor::Azure => azure::handle(&query),
    };
    let response = match answered {
        Ok(answer) => pace.respond(vendor, answer).await,
        Err(refusal) => refuse(refusal),
    };
    tracing::debug!(vendor = vendor.name(), path, status = response.status().as_u16(), "the sample upstream answered");
    response
}

fn check_credential(vendor: Vendor, headers: &http::HeaderMap) -> Result<(), Refusal> {
    let (name, prefix) = vendor.credential_header();
    let Some(sent) = headers.get(name) else { return Err(Refusal::NoCredential) };
    let presented = sent.to_str().ok().and_then(|value| value.strip_prefix(prefix));
    if presented == Some(vendor.credential()) { Ok(()) } else { Err(Refusal::Credential) }
}

fn refusal_of(vendor: Vendor, refusal: &Refusal) -> Response<Body> {
    let (status, body) = match vendor {
        Vendor::OpenAi => openai::refuse(refusal),
        Vendor::Anthropic => anthropic::refuse(refusal),
        Vendor::Gemini => gemini::refuse(refusal),
        Vendor::Mistral => mistral::refuse(refusal),
        Vendor::Azure => azure::refuse(refusal),
    };
    let mut response = stream::whole(vendor, status, &body);
    if status == StatusCode::TOO_MANY_REQUESTS {
        response.headers_mut().insert(header::RETRY_AFTER, http::HeaderValue::from_static("1"));
    }
    response
}

/// What someone sees who opens the port in a browser.
fn about() -> Response<Body> {
    let mut text = String::from("This is the sample upstream of Lockgate. It speaks five dialects:\n\n");
    for vendor in Vendor::ALL {
        let name = vendor.name();
        text.extend(["  POST /", name, vendor.chat_path(), "\n"]);
    }
    text.push_str("\nWords in a prompt that make it misbehave:\n\n");
    text.push_str(&trigger::table());
    let mut response = Response::new(Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = StatusCode::NOT_FOUND;
    response.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// A fresh id of at most 32 hexadecimal digits.
fn random_id(length: usize) -> String {
    let mut text = uuid::Uuid::new_v4().simple().to_string();
    text.truncate(length);
    text
}

/// Seconds since 1970, as vendors stamp their answers.
fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |time| time.as_secs())
}
