//! One connection to a vendor and one exchange on it at a time, driven by whoever holds it.

use std::future::{Future as _, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connect::Stream;
use super::pool::Pool;
use crate::telemetry::meters::Connected;

/// Bytes read ahead of, or waiting for, the other side; bounds what a stalled exchange holds.
const BUFFER: usize = 64 * 1024;
/// So much is read until a head has come, interim ones included, and then until the next piece of the body has: who
/// only ever announces something is left.
const PRELUDE: usize = 4 * BUFFER;

/// Why a request's body ends early. What it was is known to who made the body.
#[derive(Debug, thiserror::Error)]
#[error("the request's body failed")]
pub(crate) struct BodyFailed;

/// The body of a request to a vendor.
pub(crate) enum Outbound {
    /// None at all; such a request can be sent again.
    Empty,
    /// Passed on as it comes.
    Streamed(Pin<Box<dyn Body<Data = Bytes, Error = BodyFailed> + Send>>),
}

impl Body for Outbound {
    type Data = Bytes;
    type Error = BodyFailed;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyFailed>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Streamed(body) => body.as_mut().poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Streamed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Streamed(body) => body.size_hint(),
        }
    }
}

/// A connection.
pub(crate) struct Line {
    sender: http1::SendRequest<Outbound>,
    driver: http1::Connection<TokioIo<Measured>, Outbound>,
    allowance: Arc<Allowance>,
    /// The driver has ended: nothing more will come.
    ended: bool,
    peer: Option<SocketAddr>,
    /// Among the connections that stand.
    _counted: Option<Connected>,
}

/// Why a request got no head.
pub(crate) enum SendError {
    /// Nothing of it was written; here it is again.
    Unsent(Box<Request<Outbound>>),
    /// It was on its way.
    Failed(hyper::Error),
}

impl Line {
    /// `counted`: among the connections that stand, as long as this one does. Boxed once, because it is handed around
    /// with every request.
    pub(crate) async fn open(stream: Stream, counted: Option<Connected>) -> hyper::Result<Box<Self>> {
        let mut builder = http1::Builder::new();
        builder.max_buf_size(BUFFER);
        let (peer, allowance) = (stream.peer(), Arc::<Allowance>::default());
        let measured = Measured { stream, allowance: Arc::clone(&allowance) };
        let (sender, driver) = builder.handshake(TokioIo::new(measured)).await?;
        Ok(Box::new(Self { sender, driver, allowance, ended: false, peer, _counted: counted }))
    }

    /// The address that was dialled; `None`: the connection was gone at once.
    pub(crate) fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    fn drive(&mut self, context: &mut Context<'_>) {
        // How it ended is told to the request and to the body as well.
        if !self.ended && Pin::new(&mut self.driver).poll(context).is_ready() {
            self.ended = true;
        }
    }

    /// Whether an idle connection still stands and takes a request.
    pub(crate) fn is_usable(&mut self, context: &mut Context<'_>) -> bool {
        self.drive(context);
        !self.ended && matches!(self.sender.poll_ready(context), Poll::Ready(Ok(())))
    }

    /// Sends a request and waits for the head of the answer.
    pub(crate) async fn send(&mut self, request: Request<Outbound>) -> Result<Response<Incoming>, SendError> {
        self.allowance.0.store(PRELUDE, Ordering::Relaxed);
        let mut sending = pin!(self.sender.try_send_request(request));
        let sent = poll_fn(|context| {
            self.drive(context);
            sending.as_mut().poll(context)
        });
        let sent = sent.await;
        self.allowance.0.store(PRELUDE, Ordering::Relaxed);
        sent.map_err(|mut error| match error.take_message() {
            Some(request) => SendError::Unsent(Box::new(request)),
            None => SendError::Failed(error.into_error()),
        })
    }
}

/// The body of an answer is not framed in a way that is understood.
#[derive(Debug)]
pub(crate) struct Framing;

/// How many more bytes may be read.
struct Allowance(AtomicUsize);

impl Default for Allowance {
    fn default() -> Self {
        Self(AtomicUsize::new(usize::MAX))
    }
}

/// A connection that is read no further than it may be.
struct Measured {
    stream: Stream,
    allowance: Arc<Allowance>,
}

impl AsyncRead for Measured {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let left = this.allowance.0.load(Ordering::Relaxed);
        if left == 0 {
            let error = io::Error::new(io::ErrorKind::InvalidData, "framing without end");
            return Poll::Ready(Err(error));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(context, buffer))?;
        if left != usize::MAX {
            let read = buffer.filled().len() - before;
            this.allowance.0.store(left.saturating_sub(read), Ordering::Relaxed);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Measured {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

/// The body of an answer, with the connection it comes on.
pub(crate) struct Answer {
    body: Incoming,
    /// `None`: given back, or given up.
    line: Option<Box<Line>>,
    pool: Arc<Pool>,
    worker: usize,
    reusable: bool,
    complete: bool,
}

impl Answer {
    pub(crate) fn around(
        response: Response<Incoming>,
        line: Box<Line>,
        pool: Arc<Pool>,
        worker: usize,
    ) -> Result<Response<Self>, Framing> {
        let codings = response.headers().get_all(TRANSFER_ENCODING);
        let mut codings = codings.iter().map(http::HeaderValue::as_bytes);
        // Any other coding would reach the client with nothing to tell it by: what is stated here ends here.
        if codings.next().is_some_and(|coding| !coding.eq_ignore_ascii_case(b"chunked")) || codings.next().is_some() {
            return Err(Framing);
        }
        // Two statements of one length: what follows on such a connection cannot be trusted.
        let twice =
            response.headers().contains_key(TRANSFER_ENCODING) && response.headers().contains_key(CONTENT_LENGTH);
        Ok(response.map(|body| Self { body, line: Some(line), pool, worker, reusable: !twice, complete: false }))
    }

    /// The next piece; `None` is the end that the vendor meant.
    pub(crate) fn poll_data(&mut self, context: &mut Context<'_>) -> Poll<Option<hyper::Result<Bytes>>> {
        loop {
            if self.complete {
                return Poll::Ready(None);
            }
            if let Some(line) = &mut self.line {
                line.drive(context);
            }
            match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(Ok(frame)) => {
                    if self.body.is_end_stream() {
                        self.finish(context);
                    }
                    // Trailers are dropped.
                    if let Ok(data) = frame.into_data() {
                        if let Some(line) = &self.line {
                            line.allowance.0.store(PRELUDE, Ordering::Relaxed);
                        }
                        return Poll::Ready(Some(Ok(data)));
                    }
                }
                Some(Err(error)) => {
                    self.line = None;
                    return Poll::Ready(Some(Err(error)));
                }
                None => {
                    self.finish(context);
                    return Poll::Ready(None);
                }
            }
        }
    }

    /// The connection itself, once the vendor has switched protocols on it, and what it has said in the new one. It
    /// never carries another request. `None`: it has not switched.
    pub(crate) async fn into_stream(mut self) -> Option<(Stream, Bytes)> {
        let mut line = self.line.take()?;
        poll_fn(|context| {
            line.drive(context);
            if line.ended { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        let parts = line.driver.into_parts();
        Some((parts.io.into_inner().stream, parts.read_buf))
    }

    /// Whether the vendor's end has come.
    pub(crate) fn is_complete(&self) -> bool {
        self.complete
    }

    /// Whether there is nothing to come, before anything was asked for.
    pub(crate) fn is_empty(&self) -> bool {
        self.body.is_end_stream()
    }

    /// Exact where the vendor stated a length.
    pub(crate) fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }

    /// The exchange is over: the connection goes back if it can carry another.
    pub(crate) fn finish(&mut self, context: &mut Context<'_>) {
        self.complete = true;
        let Some(mut line) = self.line.take() else { return };
        if self.reusable && line.is_usable(context) {
            self.pool.put(self.worker, line);
        }
    }
}
