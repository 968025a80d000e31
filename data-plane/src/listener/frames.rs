//! A client's HTTP/2 connection as hyper sees it, with a budget for frames that carry nothing: SETTINGS, PING, resets,
//! priorities, continuations, empty data, in any mixture. HTTP/2 itself sets no bound to them, and each costs the server
//! more than the client. Also when a header block ends, and whether the client takes what is written.
//!
//! Looks at frame headers, nine bytes each, and knows nothing of what is in a frame.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connection::PREFACE;
use crate::presence::Presence;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const GO_AWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// RFC 9113 section 7.
const ENHANCE_YOUR_CALM: u32 = 0xb;
/// A quiet second's allowance, so many times over, is what may come at once.
const BURST: u32 = 10;
/// For each frame of an answer, the client may say so much about it: two windows move, a stream closes.
const EARNED: u32 = 3;

pub(super) struct Frames<S> {
    /// `None` once the connection is over.
    stream: Option<S>,
    /// Read before, not handed on yet.
    first: Vec<u8>,
    presence: Arc<Presence>,
    received: Scan,
    sent: Scan,
    budget: Budget,
    last_stream: u32,
    flooded: bool,
    end: End<S>,
}

/// Where the transport is to be found when hyper has let go of it.
pub(super) struct End<S>(Arc<Mutex<Option<Ended<S>>>>);

/// What is left of a connection.
pub(super) struct Ended<S> {
    pub(super) stream: S,
    /// The client spent its budget, or hyper lost patience with it.
    pub(super) flooded: bool,
    /// Said to the client, if it has not been said and can be: not in the middle of a frame.
    pub(super) go_away: Option<[u8; 17]>,
}

impl<S> End<S> {
    pub(super) fn take(&self) -> Option<Ended<S>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl<S> Frames<S> {
    /// `first` has been read from the stream already; `per_second` frames that carry nothing are for free.
    pub(super) fn new(stream: S, first: &[u8], presence: Arc<Presence>, per_second: u32) -> (Self, End<S>) {
        let end = Arc::new(Mutex::new(None));
        let mut frames = Self {
            stream: Some(stream),
            first: first.to_vec(),
            presence,
            received: Scan { skip: PREFACE.len(), ..Scan::default() },
            sent: Scan::default(),
            budget: Budget::new(per_second),
            last_stream: 0,
            flooded: false,
            end: End(Arc::clone(&end)),
        };
        frames.saw(first);
        (frames, End(end))
    }

    /// Bytes of the client's have come.
    fn saw(&mut self, bytes: &[u8]) {
        let Self { received, budget, last_stream, flooded, presence, .. } = self;
        if !bytes.is_empty() && received.skip > 0 {
            // The preface is the head of the connection.
            presence.head_begins();
            if bytes.len() >= received.skip {
                presence.head_ends();
            }
        }
        received.feed(bytes, |frame| {
            if frame.kind == HEADERS || frame.kind == CONTINUATION {
                if frame.flags & END_HEADERS == 0 { presence.head_begins() } else { presence.head_ends() }
            }
            if frame.kind == HEADERS {
                *last_stream = (*last_stream).max(frame.stream);
            }
            let carries = frame.kind == DATA && (frame.length > 0 || frame.flags & END_STREAM != 0);
            if !carries && !budget.spend() {
                *flooded = true;
            }
        });
    }

    /// Bytes of ours have gone.
    fn told(&mut self, bytes: &[u8]) {
        let Self { sent, budget, .. } = self;
        sent.feed(bytes, |frame| {
            if frame.kind == DATA || frame.kind == HEADERS {
                budget.earn(EARNED);
            }
        });
    }

    fn go_away(&self) -> [u8; 17] {
        let mut frame = [0; 17];
        frame[2] = 8;
        frame[3] = GO_AWAY;
        frame[9..13].copy_from_slice(&self.last_stream.to_be_bytes());
        let reason = if self.flooded { ENHANCE_YOUR_CALM } else { 0 };
        frame[13..].copy_from_slice(&reason.to_be_bytes());
        frame
    }

    fn stream(&mut self) -> io::Result<&mut S> {
        self.stream.as_mut().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl<S> Drop for Frames<S> {
    fn drop(&mut self) {
        let Some(stream) = self.stream.take() else { return };
        let said = self.sent.farewell;
        let go_away = (said.is_none() && self.sent.is_between_frames()).then(|| self.go_away());
        let ended = Ended { stream, flooded: self.flooded || said == Some(ENHANCE_YOUR_CALM), go_away };
        *self.end.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(ended);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Frames<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.first.is_empty() {
            let length = this.first.len().min(buffer.remaining());
            buffer.put_slice(&this.first[..length]);
            this.first.drain(..length);
            return Poll::Ready(Ok(()));
        }
        if this.flooded {
            return Poll::Ready(Err(io::ErrorKind::QuotaExceeded.into()));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(this.stream()?).poll_read(context, buffer))?;
        this.saw(&buffer.filled()[before..]);
        if this.flooded {
            // None of it reaches hyper.
            buffer.set_filled(before);
            return Poll::Ready(Err(io::ErrorKind::QuotaExceeded.into()));
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Frames<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(this.stream()?).poll_write(context, bytes);
        this.presence.stalled(polled.is_pending());
        if let Poll::Ready(Ok(length)) = polled {
            this.told(&bytes[..length]);
        }
        polled
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(this.stream()?).poll_write_vectored(context, slices);
        this.presence.stalled(polled.is_pending());
        if let Poll::Ready(Ok(mut left)) = polled {
            for slice in slices {
                let length = slice.len().min(left);
                this.told(&slice[..length]);
                left -= length;
            }
        }
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.get_mut().stream()?).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.get_mut().stream()?).poll_shutdown(context)
    }
}

/// RFC 9113 section 4.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Frame {
    length: usize,
    kind: u8,
    flags: u8,
    stream: u32,
}

/// Finds the frame headers, however the bytes are cut.
#[derive(Debug, Default)]
struct Scan {
    /// Bytes until the next frame begins.
    skip: usize,
    header: [u8; 9],
    filled: usize,
    /// What has come of the latest GOAWAY: its last stream and its reason.
    last_words: Option<([u8; 8], usize)>,
    /// The reason in it, once it is whole.
    farewell: Option<u32>,
}

impl Scan {
    fn is_between_frames(&self) -> bool {
        self.skip == 0 && self.filled == 0
    }

    fn feed(&mut self, mut bytes: &[u8], mut found: impl FnMut(Frame)) {
        loop {
            let step = self.skip.min(bytes.len());
            self.skip -= step;
            self.listen(&bytes[..step]);
            bytes = &bytes[step..];
            if bytes.is_empty() {
                return;
            }
            let step = (self.header.len() - self.filled).min(bytes.len());
            self.header[self.filled..self.filled + step].copy_from_slice(&bytes[..step]);
            self.filled += step;
            bytes = &bytes[step..];
            if self.filled < self.header.len() {
                return;
            }
            self.filled = 0;
            let [a, b, c, kind, flags, stream @ ..] = self.header;
            let length = u32::from_be_bytes([0, a, b, c]) as usize;
            self.skip = length;
            self.last_words = (kind == GO_AWAY).then_some(([0; 8], 0));
            found(Frame { length, kind, flags, stream: u32::from_be_bytes(stream) & 0x7fff_ffff });
        }
    }
}

impl Scan {
    fn listen(&mut self, payload: &[u8]) {
        let Some((words, heard)) = &mut self.last_words else { return };
        let step = (words.len() - *heard).min(payload.len());
        words[*heard..*heard + step].copy_from_slice(&payload[..step]);
        *heard += step;
        if let ([_, _, _, _, reason @ ..], 8) = (*words, *heard) {
            self.farewell = Some(u32::from_be_bytes(reason));
        }
    }
}

/// A bucket that fills with time and with answers.
#[derive(Debug)]
struct Budget {
    left: u32,
    per_second: u32,
    filled: Instant,
}

impl Budget {
    fn new(per_second: u32) -> Self {
        Self { left: per_second.saturating_mul(BURST), per_second, filled: Instant::now() }
    }

    fn spend(&mut self) -> bool {
        if self.left == 0 {
            // The clock is asked when it matters, not for every frame.
            let seconds = self.filled.elapsed().as_secs_f64();
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
            let fresh = (seconds * f64::from(self.per_second)) as u32;
            if fresh == 0 {
                return false;
            }
            self.filled = Instant::now();
            self.earn(fresh);
        }
        self.left -= 1;
        true
    }

    fn earn(&mut self, frames: u32) {
        self.left = self.left.saturating_add(frames).min(self.per_second.saturating_mul(BURST));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_found_however_they_are_cut() {
        let mut bytes = vec![b'p'; PREFACE.len()];
        for (length, kind, flags, stream) in [(0_u8, 4_u8, 0_u8, 0_u8), (5, 0, 1, 3), (0, 9, 4, 3), (8, 6, 0, 0)] {
            bytes.extend([0, 0, length, kind, flags, 0x80, 0, 0, stream]);
            bytes.extend(vec![0xff; length.into()]);
        }
        for piece in 1..bytes.len() {
            let (mut scan, mut found) = (Scan { skip: PREFACE.len(), ..Scan::default() }, Vec::new());
            for piece in bytes.chunks(piece) {
                scan.feed(piece, |frame| found.push((frame.length, frame.kind, frame.flags, frame.stream)));
            }
            assert_eq!(found, [(0, 4, 0, 0), (5, 0, 1, 3), (0, 9, 4, 3), (8, 6, 0, 0)], "pieces of {piece}");
            assert!(scan.is_between_frames());
            assert_eq!(scan.farewell, None);
        }
    }

    #[test]
    fn the_reason_of_a_farewell_is_heard_however_it_is_cut() {
        let bytes = [&[0, 0, 9, GO_AWAY, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0xb, b'!'][..], &[0; 9]].concat();
        for piece in 1..bytes.len() {
            let mut scan = Scan::default();
            bytes.chunks(piece).for_each(|piece| scan.feed(piece, |_| {}));
            assert_eq!((scan.farewell, scan.is_between_frames()), (Some(ENHANCE_YOUR_CALM), true));
        }
    }

    #[test]
    fn a_budget_is_spent_and_earned_again() {
        let mut budget = Budget::new(1);
        let spent = (0..100).take_while(|_| budget.spend()).count();
        assert!((10..12).contains(&spent), "{spent}");
        budget.earn(1000);
        let spent = (0..100).take_while(|_| budget.spend()).count();
        assert!((10..12).contains(&spent), "{spent}");
    }
}
