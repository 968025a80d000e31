//! A small client of the REST API, for what the binary asks of running planes.
//!
//! One connection per request, JSON both ways, plain http: it speaks to planes on the same machine or in the same
//! network.

use std::fmt;
use std::pin::pin;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;

/// Nothing that is asked here takes longer.
const DEADLINE: Duration = Duration::from_secs(30);
/// Nothing that is answered here is longer.
const ANSWER_LIMIT: usize = 8 * 1024 * 1024;

/// Where a plane listens, and the token that opens it, if it takes one.
pub(crate) struct Client {
    /// `host:port`
    address: String,
    token: Option<String>,
}

impl fmt::Debug for Client {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Client").field("address", &self.address).finish_non_exhaustive()
    }
}

/// The API understood, and does not let this through: asking again does not help.
#[derive(Debug)]
pub(crate) struct Refused(String);

impl fmt::Display for Refused {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

/// One server-sent event.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) name: String,
    pub(crate) data: String,
}

/// A stream of events.
pub(crate) struct Watching {
    body: Incoming,
    /// What has come and is no whole line yet.
    rest: Vec<u8>,
    /// The event that the lines belong to.
    event: Event,
    _connection: AbortOnDropHandle<()>,
}

impl Watching {
    /// The next event; `None`: the stream has ended, or nothing came for longer than it ever is silent.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        loop {
            while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                if let Some(event) = self.take(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n'])) {
                    return Some(event);
                }
            }
            let frame = tokio::time::timeout(DEADLINE, self.body.frame()).await.ok()??.ok()?;
            if let Some(data) = frame.data_ref() {
                self.rest.extend_from_slice(data);
            }
            if self.rest.len() > ANSWER_LIMIT {
                return None;
            }
        }
    }

    fn take(&mut self, line: &str) -> Option<Event> {
        let Some((field, value)) = line.split_once(':') else {
            return line.is_empty().then(|| std::mem::take(&mut self.event)).filter(|event| *event != Event::default());
        };
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.event.name),
            "data" => self.event.data.push_str(value),
            _ => {}
        }
        None
    }
}

/// An answer that the API gave, good or bad.
pub(crate) struct Answer {
    status: StatusCode,
    /// `Null` where there was no body.
    body: Value,
    etag: Option<String>,
}

impl Answer {
    /// The body, or the problem as an error.
    pub(crate) fn ok(self) -> anyhow::Result<Value> {
        if self.status.is_success() {
            return Ok(self.body);
        }
        let text = |name: &str| self.body.get(name).and_then(Value::as_str).unwrap_or_default();
        let errors = self.body.get("errors").filter(|errors| !errors.is_null());
        let errors = errors.map(|errors| format!(" {errors}")).unwrap_or_default();
        bail!("{} {}: {}{errors}", self.status.as_u16(), text("code"), text("detail"))
    }

    /// Like [`Answer::ok`], but `None` for 404.
    pub(crate) fn found(self) -> anyhow::Result<Option<Self>> {
        if self.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let (etag, status) = (self.etag.clone(), self.status);
        Ok(Some(Self { body: self.ok()?, status, etag }))
    }

    /// Its status.
    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    /// What it says.
    pub(crate) fn body(&self) -> &Value {
        &self.body
    }

    /// The version to name in `If-Match`.
    pub(crate) fn etag(&self) -> &str {
        self.etag.as_deref().unwrap_or("*")
    }
}

impl Client {
    /// Speaks to what listens at `host:port`.
    pub(crate) fn new(address: String, token: Option<String>) -> Self {
        Self { address, token }
    }

    /// `GET`, any status.
    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<Answer> {
        self.send(Method::GET, path, None, None).await
    }

    /// `POST`; a problem is an error.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let answer = self.send(Method::POST, path, Some(body), None).await?;
        answer.ok().with_context(|| format!("POST {path}"))
    }

    /// `PUT` over the version that was read; a problem is an error.
    pub(crate) async fn put(&self, path: &str, etag: &str, body: &Value) -> anyhow::Result<Value> {
        let answer = self.send(Method::PUT, path, Some(body), Some(etag)).await?;
        answer.ok().with_context(|| format!("PUT {path}"))
    }

    /// `DELETE` of the version that was read; a problem is an error.
    pub(crate) async fn delete(&self, path: &str, etag: &str) -> anyhow::Result<()> {
        let answer = self.send(Method::DELETE, path, None, Some(etag)).await?;
        answer.ok().with_context(|| format!("DELETE {path}")).map(drop)
    }

    /// Watches a stream of events.
    pub(crate) async fn watch(&self, path: &str) -> anyhow::Result<Watching> {
        let opened = tokio::time::timeout(DEADLINE, self.open(path)).await;
        opened.context("no answer in 30 s").flatten().with_context(|| format!("GET http://{}{path}", self.address))
    }

    async fn open(&self, path: &str) -> anyhow::Result<Watching> {
        let socket = TcpStream::connect(&self.address).await.context("cannot connect")?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket)).await?;
        // If it fails, the body says so.
        let connection = AbortOnDropHandle::new(tokio::spawn(async { drop(connection.await) }));
        let mut request = Request::builder().uri(path).header(header::HOST, &self.address);
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let response = sender.send_request(request.body(Full::new(Bytes::new()))?).await?;
        let (status, body) = (response.status(), response.into_body());
        if status.is_client_error() {
            let body = Limited::new(body, ANSWER_LIMIT).collect().await.map_err(anyhow::Error::from_boxed)?.to_bytes();
            let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
            let told = Answer { status, body, etag: None }.ok().err().map(|error| error.to_string());
            return Err(Refused(told.unwrap_or_default()).into());
        }
        anyhow::ensure!(status.is_success(), "{status}");
        Ok(Watching { body, rest: Vec::new(), event: Event::default(), _connection: connection })
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        etag: Option<&str>,
    ) -> anyhow::Result<Answer> {
        let exchange = self.exchange(method.clone(), path, body, etag);
        let answer = tokio::time::timeout(DEADLINE, exchange).await;
        answer.context("no answer in 30 s").flatten().with_context(|| format!("{method} http://{}{path}", self.address))
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        etag: Option<&str>,
    ) -> anyhow::Result<Answer> {
        let socket = TcpStream::connect(&self.address).await.context("cannot connect")?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket)).await?;
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, &self.address);
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        if let Some(etag) = etag {
            request = request.header(header::IF_MATCH, etag);
        }
        let body = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        let exchange = async {
            let response = sender.send_request(request.body(Full::new(body))?).await?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, ANSWER_LIMIT).collect().await.map_err(anyhow::Error::from_boxed)?.to_bytes();
            anyhow::Ok((head, body))
        };
        // The connection lives exactly as long as its exchange: no task is left behind. It may be done before the
        // answer is read to its end, and if it failed, the exchange says so.
        let (mut exchange, mut connection) = (pin!(exchange), pin!(connection));
        let mut connected = true;
        let (head, body) = loop {
            tokio::select! {
                exchanged = exchange.as_mut() => break exchanged?,
                _ = connection.as_mut(), if connected => connected = false,
            }
        };
        let etag = head.headers.get(header::ETAG).and_then(|etag| etag.to_str().ok()).map(str::to_owned);
        // A health check may answer a word instead.
        let text = || Value::String(String::from_utf8_lossy(&body).into_owned());
        let body = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).unwrap_or_else(|_| text()) };
        Ok(Answer { status: head.status, body, etag })
    }
}
