//! HTTP/1.1 over any transport.

use std::convert::Infallible;
use std::future::{Future as _, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

use super::socket::Socket;
use super::watch::Watch;
use crate::pipeline::{self, Plane, Tunnel, Unread};
use crate::presence::Presence;

/// Bytes read ahead of, or waiting for, the other side.
const BUFFER: usize = 64 * 1024;
/// What an ended connection may still send, and for how long, so that our last answer is not lost to a reset.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 1024 * 1024;

/// Serves a connection of which `first` has been read already.
pub(super) async fn serve<S>(stream: S, first: &[u8], presence: &Arc<Presence>, plane: Arc<Plane>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut builder = http1::Builder::new();
    builder.header_read_timeout(None);
    // The socket hands on no head that is larger.
    builder.max_header_size(plane.limits.head_bytes).max_buf_size(BUFFER.max(2 * plane.limits.head_bytes));
    let aside = Arc::new(Aside::default());
    let service = {
        let (presence, plane, aside) = (Arc::clone(presence), Arc::clone(&plane), Arc::clone(&aside));
        service_fn(move |request: Request<Incoming>| {
            let (plane, presence, aside) = (Arc::clone(&plane), Arc::clone(&presence), Arc::clone(&aside));
            // Boxed, so that a connection that waits for its next request does not pay for the size of one.
            Box::pin(async move {
                let mut answer = pipeline::serve(plane, presence, request).await;
                if let Some(tunnel) = answer.body_mut().take_tunnel() {
                    *lock(&aside.tunnel) = Some(tunnel);
                }
                if let Some(mut body) = answer.body_mut().take_unread() {
                    // Asked now, the answer is what it waits for.
                    let _ = poll_fn(|context| Poll::Ready(body.poll_answered(context))).await;
                    *lock(&aside.unread) = Some(body);
                    aside.keeps.store(true, Ordering::Relaxed);
                }
                Ok::<_, Infallible>(answer)
            })
        })
    };
    presence.opens();
    let socket = Socket::new(stream, first, Arc::clone(presence), plane.limits.clone());
    let mut connection = builder.serve_connection(TokioIo::new(socket), service);
    let mut watch = Watch::new();
    let late = poll_fn(|context| {
        // Where nothing is under way, hyper would close at once; an answer says by itself that it is the last.
        if watch.drains(presence, context) && presence.is_busy() {
            Pin::new(&mut connection).graceful_shutdown();
        }
        if Pin::new(&mut connection).poll(context).is_ready() {
            return Poll::Ready(None);
        }
        if aside.keeps.load(Ordering::Relaxed) {
            aside.poll_answered(context);
        }
        watch.poll_late(presence, &plane.deadlines, context)
    });
    if let Some(late) = late.await {
        plane.metrics.closed(late);
    }
    let parts = connection.into_parts();
    let mut socket = parts.io.into_inner();
    let tunnel = lock(&aside.tunnel).take();
    if let Some(tunnel) = tunnel {
        presence.becomes_tunnel();
        Box::pin(tunnel.run(&mut socket, parts.read_buf, presence)).await;
    }
    // Boxed, so that a connection does not carry the room for its end from the beginning.
    Box::pin(linger(socket.into_stream(), LINGER_BYTES)).await;
}

/// What requests leave with their connection.
#[derive(Default)]
struct Aside {
    /// What it carries when HTTP is over on it.
    tunnel: Mutex<Option<Box<Tunnel>>>,
    /// What must not go before its answer has been taken.
    unread: Mutex<Option<Unread>>,
    /// There is something in `unread`.
    keeps: AtomicBool,
}

impl Aside {
    fn poll_answered(&self, context: &Context<'_>) {
        let mut unread = lock(&self.unread);
        if unread.as_mut().is_some_and(|unread| unread.poll_answered(context).is_ready()) {
            *unread = None;
            self.keeps.store(false, Ordering::Relaxed);
            context.waker().wake_by_ref();
        }
    }
}

fn lock<T>(place: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // A place is whole after every statement: a panic elsewhere does not spoil it.
    place.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Closes our side and lets the client finish its sentence: closing on unread bytes would make the kernel send a reset,
/// which may overtake our answer. What it still says is never parsed.
pub(super) async fn linger<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, bytes: usize) {
    let _ = timeout(LINGER, async {
        stream.shutdown().await?;
        let (mut left, mut buffer) = (bytes, [0; 4096]);
        while left > 0 {
            match stream.read(&mut buffer).await? {
                0 => break,
                length => left = left.saturating_sub(length),
            }
        }
        Ok::<_, std::io::Error>(())
    })
    .await;
}
