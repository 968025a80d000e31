//! HTTP/2 over any transport.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout};
use tokio_util::task::TaskTracker;

use super::close::Close;
use super::frames::Frames;
use super::http1::linger;
use super::watch::Watch;
use crate::pipeline::{self, Plane};
use crate::presence::{Presence, Taking};

/// Bytes of an answer that wait for the client.
const BUFFER: usize = 64 * 1024;
/// Streams that were reset before anyone looked at them, and streams that we had to reset, on one connection.
const RESETS: (usize, usize) = (20, 100);
/// What a client that was told to leave may still send.
const LINGER_BYTES: usize = 64 * 1024;
/// A client that was told to leave has this long for it.
const FAREWELL: Duration = Duration::from_secs(1);

/// Serves a connection of which `first` has been read already. `streams` owns the tasks of its streams.
pub(super) async fn serve<S>(stream: S, first: &[u8], presence: &Arc<Presence>, plane: Arc<Plane>, streams: TaskTracker)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (limits, deadlines) = (&plane.limits, &plane.deadlines);
    let (next, open) = (Arc::new(Mutex::new(None)), Open::default());
    let mut builder = http2::Builder::new(Streams {
        tasks: streams,
        plane: Arc::clone(&plane),
        open: open.clone(),
        next: Arc::clone(&next),
    });
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams)
        .initial_stream_window_size(limits.stream_window)
        .initial_connection_window_size(limits.connection_window)
        // Twice what passes, so that a head that is too large is refused by us.
        .max_header_list_size(u32::try_from(2 * limits.head_bytes).unwrap_or(u32::MAX))
        .max_send_buf_size(BUFFER)
        .max_pending_accept_reset_streams(RESETS.0)
        .max_local_error_reset_streams(RESETS.1)
        .keep_alive_interval(deadlines.ping_interval)
        .keep_alive_timeout(deadlines.ping);
    let service = {
        let (presence, plane) = (Arc::clone(presence), Arc::clone(&plane));
        service_fn(move |request: Request<Incoming>| {
            let taking = Arc::new(Taking::default());
            *next.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&taking));
            let mut request = request;
            request.extensions_mut().insert(Arc::clone(&taking));
            let (plane, presence) = (Arc::clone(&plane), Arc::clone(&presence));
            async move {
                let answer = pipeline::serve(plane, presence, request).await;
                taking.offered();
                Ok::<_, Infallible>(answer)
            }
        })
    };
    presence.opens();
    let (frames, end) = Frames::new(stream, first, Arc::clone(presence), limits.control_frames);
    let mut connection = Box::pin(builder.serve_connection(TokioIo::new(frames), service));
    let mut watch = Watch::new();
    let mut farewell: Option<Pin<Box<Sleep>>> = None;
    let close = poll_fn(|context| {
        if watch.drains(presence, context) {
            connection.as_mut().graceful_shutdown();
            farewell.get_or_insert_with(|| Box::pin(sleep(FAREWELL)));
        }
        if watch.is_ending() {
            // Streams have tasks of their own; each says farewell by itself.
            open.wake_all();
        }
        if let Poll::Ready(ended) = connection.as_mut().poll(context) {
            let close = |error: hyper::Error| if error.is_timeout() { Close::Ping } else { Close::Protocol };
            return Poll::Ready(ended.err().map(close));
        }
        if let Some(sleep) = &mut farewell {
            while sleep.as_mut().poll(context).is_ready() {
                // A request that came in the last moment is answered.
                if !presence.is_busy() {
                    return Poll::Ready(None);
                }
                sleep.as_mut().reset(Instant::now() + FAREWELL);
            }
        }
        match watch.poll_late(presence, &plane.deadlines, context) {
            Poll::Ready(Some(Close::KeepAlive)) => {
                if farewell.is_none() {
                    plane.metrics.closed(Close::KeepAlive);
                    connection.as_mut().graceful_shutdown();
                    farewell = Some(Box::pin(sleep(FAREWELL)));
                    context.waker().wake_by_ref();
                }
                Poll::Pending
            }
            other => other,
        }
    })
    .await;
    drop(connection);
    let Some(mut ended) = end.take() else { return };
    match close {
        _ if ended.flooded => plane.metrics.closed(Close::Flood),
        Some(close) => plane.metrics.closed(close),
        None => {}
    }
    if let Some(go_away) = ended.go_away {
        // Whoever left does not hear it.
        let _ = timeout(FAREWELL, ended.stream.write_all(&go_away)).await;
    }
    Box::pin(linger(ended.stream, LINGER_BYTES)).await;
}

/// Runs the tasks of streams where someone waits for them.
#[derive(Clone)]
struct Streams {
    tasks: TaskTracker,
    plane: Arc<Plane>,
    open: Open,
    /// Of the stream whose task comes next: hyper asks for an answer, then for a task that carries it.
    next: Arc<Mutex<Option<Arc<Taking>>>>,
}

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, future: F) {
        let taking = self.next.lock().unwrap_or_else(PoisonError::into_inner).take();
        match taking {
            Some(taking) => {
                self.open.add(&taking);
                let carrier = Carrier { future: Box::pin(future), taking, plane: Arc::clone(&self.plane), sleep: None };
                self.tasks.spawn(carrier)
            }
            None => self.tasks.spawn(future),
        };
    }
}

/// The streams that are open, or were a moment ago.
#[derive(Clone, Default)]
struct Open(Arc<Mutex<Vec<Weak<Taking>>>>);

impl Open {
    fn add(&self, taking: &Arc<Taking>) {
        let mut open = self.lock();
        if open.len() == open.capacity() {
            open.retain(|taking| taking.strong_count() > 0);
        }
        open.push(Arc::downgrade(taking));
    }

    /// Each once.
    fn wake_all(&self) {
        for taking in std::mem::take(&mut *self.lock()) {
            if let Some(taking) = taking.upgrade() {
                taking.wake();
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Weak<Taking>>> {
        // A list is whole after every statement: a panic elsewhere does not spoil it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The task of one stream. A client may keep a stream's window shut for ever: nobody asks for the next piece of the
/// answer then, so nobody else would notice. Dropping the task resets the stream.
struct Carrier<F> {
    future: Pin<Box<F>>,
    taking: Arc<Taking>,
    plane: Arc<Plane>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl<F: Future<Output = ()>> Future for Carrier<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        this.taking.driven_by(context.waker());
        if this.future.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        let Some(since) = this.taking.waits_since() else {
            this.sleep = None;
            return Poll::Pending;
        };
        let deadline = Instant::from_std(since) + this.plane.deadlines.client_idle;
        let sleep = this.sleep.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if sleep.deadline() != deadline {
            sleep.as_mut().reset(deadline);
        }
        sleep.as_mut().poll(context).map(|()| this.plane.metrics.stream_reset())
    }
}
