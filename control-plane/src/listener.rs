//! The API's accept loop: how many connections, how long each may take over a request's head and body, and how all of
//! them end. Ours rather than the framework's, which sets no timer: a connection that sends nothing would stay for ever.
//!
//! Knows HTTP/1.1 and nothing of what is served.

use std::convert::Infallible;
use std::future::Future as _;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

/// How much of everything.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at one time.
    pub connections: usize,
    /// From the first byte of a request to the end of its head; also how long an idle connection is kept.
    pub head: Duration,
    /// Between two pieces of a request's body.
    pub body_idle: Duration,
    /// For requests in flight after the end was asked for.
    pub grace: Duration,
}

impl Limits {
    /// The API's: generous to people, closed to sockets that say nothing.
    pub const fn of(connections: usize) -> Self {
        Self {
            connections,
            head: Duration::from_secs(30),
            body_idle: Duration::from_secs(30),
            grace: Duration::from_secs(20),
        }
    }
}

/// Of a request's head, in bytes.
const HEAD_SIZE: usize = 32 * 1024;
/// In one head.
const HEADERS: usize = 100;
/// Between attempts after the system refused a connection (out of file descriptors).
const REFUSED: Duration = Duration::from_millis(100);

/// Who is at the other end; in every request's extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

/// What a request's body is when it reaches the service.
pub type RequestBody = UnsyncBoxBody<Bytes, BodyError>;

/// Why a request's body ended early.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// Nothing came for too long.
    #[error("nothing of the request's body came for too long")]
    Idle,
    /// The connection broke, or the framing was wrong.
    #[error("the request's body broke off")]
    Broken(#[source] hyper::Error),
}

/// Serves until `stop`; then takes no more, lets requests in flight finish within the grace period, and ends the rest.
pub async fn serve<S, B>(listener: TcpListener, service: S, limits: Limits, stop: CancellationToken)
where
    S: tower::Service<Request<RequestBody>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let permits = Arc::new(Semaphore::new(limits.connections));
    let mut tasks = JoinSet::new();
    loop {
        // A permit first: beyond the limit, connections wait in the system's queue.
        let permit = tokio::select! {
            () = stop.cancelled() => break,
            permit = Arc::clone(&permits).acquire_owned() => permit.expect("the semaphore is never closed"),
        };
        let (stream, peer) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a connection to the API could not be accepted");
                    tokio::time::sleep(REFUSED).await;
                    continue;
                }
            },
        };
        while tasks.try_join_next().is_some() {}
        let (service, stop) = (service.clone(), stop.clone());
        tasks.spawn(async move {
            connection(stream, peer, service, limits, &stop).await;
            drop(permit);
        });
    }
    drop(listener);
    let drained = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(limits.grace, drained).await.is_err() {
        tracing::warn!(connections = tasks.len(), "connections to the API were cut at the end of the grace period");
        tasks.shutdown().await;
    }
}

async fn connection<S, B>(stream: TcpStream, peer: SocketAddr, service: S, limits: Limits, stop: &CancellationToken)
where
    S: tower::Service<Request<RequestBody>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    // Small answers must not wait for an acknowledgement; failing to say so only costs time.
    let _ = stream.set_nodelay(true);
    let service = service.map_request(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        request.map(|body| UnsyncBoxBody::new(Timed::new(body, limits.body_idle)))
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_headers(HEADERS)
        .max_buf_size(HEAD_SIZE)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    let mut served = pin!(served);
    let result = tokio::select! {
        result = served.as_mut() => result,
        () = stop.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = result {
        // A client's doing: gone, too slow, or no HTTP.
        tracing::debug!(%error, %peer, "a connection to the API ended early");
    }
}

/// A request's body that ends with an error when nothing comes for too long.
struct Timed {
    body: Incoming,
    patience: Duration,
    idle: Pin<Box<Sleep>>,
}

impl Timed {
    fn new(body: Incoming, patience: Duration) -> Self {
        Self { body, patience, idle: Box::pin(tokio::time::sleep(patience)) }
    }
}

impl Body for Timed {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            this.idle.as_mut().reset(Instant::now() + this.patience);
            return Poll::Ready(frame.map(|frame| frame.map_err(BodyError::Broken)));
        }
        match this.idle.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Some(Err(BodyError::Idle))),
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests;
