//! One client connection from its first byte to its last: which protocol it speaks, how long it may be silent, how it
//! ends. A connection that says nothing costs a socket and a timer, nothing more.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout};
use tokio_util::task::TaskTracker;

use super::socket::Socket;
use crate::config::Deadlines;
use crate::pipeline::{self, Plane};
use crate::presence::{Presence, Stage, Waiting};

/// How every HTTP/2 connection begins (RFC 9113 section 3.4). No HTTP/1.1 method begins with `PRI`.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes read ahead of, or waiting for, the other side.
const BUFFER: usize = 64 * 1024;
/// What an ended connection may still send, and for how long, so that our last answer is not lost to a reset.
const LINGER: (usize, Duration) = (256 * 1024, Duration::from_secs(1));
/// What is left when the drain time is over has this long to be told so.
const FAREWELL: Duration = Duration::from_secs(1);

/// Serves one connection. `streams` owns the tasks of HTTP/2 streams.
pub(super) async fn serve(stream: TcpStream, presence: Arc<Presence>, plane: Arc<Plane>, streams: TaskTracker) {
    let first_byte = plane.deadlines.first_byte;
    let protocol = tokio::select! {
        protocol = timeout(first_byte, protocol(&stream)) => protocol.ok().flatten(),
        () = until(&presence, Stage::Draining) => None,
    };
    // Boxed, so that a silent connection does not pay for their size.
    match protocol {
        Some(Protocol::Http1) => Box::pin(serve_http1(stream, &presence, plane)).await,
        Some(Protocol::Http2) => Box::pin(serve_http2(stream, &presence, plane, streams)).await,
        None => {}
    }
    presence.leave();
}

enum Protocol {
    Http1,
    Http2,
}

/// Looks at the first bytes without taking them. `None`: the client left, or begins a preface and never ends it.
async fn protocol(stream: &TcpStream) -> Option<Protocol> {
    let mut bytes = [0; PREFACE.len()];
    let mut nap = Duration::from_millis(2);
    loop {
        let length = stream.peek(&mut bytes).await.ok()?;
        if length == 0 {
            return None;
        }
        if !PREFACE.starts_with(&bytes[..length]) {
            return Some(Protocol::Http1);
        }
        if length == PREFACE.len() {
            return Some(Protocol::Http2);
        }
        // Bytes that are there stay readable: waiting for more of them is polling. The deadline is around this.
        sleep(nap).await;
        nap = (2 * nap).min(Duration::from_millis(250));
    }
}

/// Until the node has come so far.
async fn until(presence: &Presence, stage: Stage) {
    poll_fn(|context| {
        presence.driven_by(context.waker());
        if presence.stage() >= stage { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// HTTP/1.1 over any transport.
pub(crate) async fn serve_http1<S>(stream: S, presence: &Arc<Presence>, plane: Arc<Plane>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let deadlines = plane.deadlines.clone();
    let mut builder = http1::Builder::new();
    builder.header_read_timeout(None);
    builder.max_header_size(plane.limits.head_bytes).max_buf_size(BUFFER.max(2 * plane.limits.head_bytes));
    let service = {
        let presence = Arc::clone(presence);
        service_fn(move |request: Request<Incoming>| {
            let answer = pipeline::serve(Arc::clone(&plane), Arc::clone(&presence), request);
            async move { Ok::<_, Infallible>(answer.await) }
        })
    };
    let socket = Socket::new(stream, Arc::clone(presence));
    let mut connection = builder.serve_connection(TokioIo::new(socket), service);
    let mut watch = Watch::new();
    poll_fn(|context| {
        if watch.turns(presence, Stage::Draining, context) {
            Pin::new(&mut connection).graceful_shutdown();
        }
        if Pin::new(&mut connection).poll(context).is_ready() {
            return Poll::Ready(());
        }
        watch.poll_late(presence, &deadlines, context)
    })
    .await;
    linger(connection.into_parts().io.into_inner()).await;
}

/// HTTP/2 over any transport.
pub(super) async fn serve_http2<S>(stream: S, presence: &Arc<Presence>, plane: Arc<Plane>, streams: TaskTracker)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let deadlines = plane.deadlines.clone();
    let mut builder = http2::Builder::new(Streams(streams));
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(plane.limits.streams)
        .initial_stream_window_size(64 * 1024)
        .initial_connection_window_size(1024 * 1024)
        .max_header_list_size(u32::try_from(plane.limits.head_bytes).unwrap_or(u32::MAX))
        .max_send_buf_size(BUFFER)
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10));
    let service = {
        let presence = Arc::clone(presence);
        service_fn(move |request: Request<Incoming>| {
            let answer = pipeline::serve(Arc::clone(&plane), Arc::clone(&presence), request);
            async move { Ok::<_, Infallible>(answer.await) }
        })
    };
    // Frames of one stream say nothing about the head of another: the socket is not watched.
    let mut connection = builder.serve_connection(TokioIo::new(stream), service);
    let mut watch = Watch::new();
    poll_fn(|context| {
        if watch.turns(presence, Stage::Draining, context) {
            Pin::new(&mut connection).graceful_shutdown();
        }
        if Pin::new(&mut connection).poll(context).is_ready() {
            return Poll::Ready(());
        }
        watch.poll_late(presence, &deadlines, context)
    })
    .await;
}

/// Runs the tasks of HTTP/2 streams where someone waits for them.
#[derive(Clone)]
struct Streams(TaskTracker);

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, future: F) {
        self.0.spawn(future);
    }
}

/// The deadlines of a connection, with one timer that is moved only when it fires or must fire earlier.
struct Watch {
    seen: Stage,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Watch {
    fn new() -> Self {
        Self { seen: Stage::Serving, sleep: None }
    }

    /// Whether the node has come to `stage` since it was last asked.
    fn turns(&mut self, presence: &Presence, stage: Stage, context: &Context<'_>) -> bool {
        if self.seen == Stage::Serving {
            presence.driven_by(context.waker());
        }
        let now = presence.stage();
        let turned = self.seen < stage && now >= stage;
        if self.seen < Stage::Ending && now == Stage::Ending {
            // Whatever it waited for, this comes first.
            self.sleep = Some(Box::pin(sleep(FAREWELL)));
        }
        self.seen = now;
        turned
    }

    fn poll_late(&mut self, presence: &Presence, deadlines: &Deadlines, context: &mut Context<'_>) -> Poll<()> {
        if self.seen == Stage::Ending {
            return self.sleep.as_mut().map_or(Poll::Ready(()), |sleep| sleep.as_mut().poll(context));
        }
        loop {
            let deadline = match presence.waiting() {
                Waiting::Request(since) => Some(since + deadlines.keep_alive),
                Waiting::Head(since) => Some(since + deadlines.head),
                Waiting::Client(since) => Some(since + deadlines.client_idle),
                Waiting::Nothing => None,
            };
            let Some(deadline) = deadline.map(Instant::from_std) else {
                // Nothing to wait for. An old timer may fire once and find out.
                if self.sleep.as_mut().is_some_and(|sleep| sleep.as_mut().poll(context).is_ready()) {
                    self.sleep = None;
                }
                return Poll::Pending;
            };
            let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
            if sleep.deadline() > deadline {
                sleep.as_mut().reset(deadline);
            }
            if sleep.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            if deadline <= Instant::now() {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
    }
}

/// Closes our side and lets the client finish its sentence: closing on unread bytes would make the kernel send a reset,
/// which may overtake our answer. What it still says is never parsed.
async fn linger<S: AsyncRead + AsyncWrite + Unpin>(mut socket: Socket<S>) {
    let (bytes, patience) = LINGER;
    let _ = timeout(patience, async {
        socket.shutdown().await?;
        let (mut left, mut buffer) = (bytes, [0; 4096]);
        while left > 0 {
            match socket.read(&mut buffer).await? {
                0 => break,
                length => left = left.saturating_sub(length),
            }
        }
        Ok::<_, std::io::Error>(())
    })
    .await;
}
