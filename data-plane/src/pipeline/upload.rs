//! The body of a request on its way to the vendor: counted, limited, timed, and read for its model as it passes. Where
//! another attempt may follow, what has passed is kept up to a bound, as the pieces in which it came; else nothing is
//! held. Trailers end here.

use std::future::poll_fn;
use std::ops::Range;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::clock::{Clock, Timers};
use crate::dialect::naming::{Fault, Naming};
use crate::dialect::pointer::Slot;
use crate::dialect::scan::{Scalar, Scanner, Sink};
use crate::error::Refusal;
use crate::limit::Held;
use crate::runtime::endpoint::Endpoint;
use crate::upstream::line::BodyFailed;

/// What is known of an upload, for those who do not carry it.
#[derive(Debug, Default)]
pub(super) struct Upload {
    bytes: AtomicU64,
    fault: AtomicU8,
    model: OnceLock<Box<str>>,
    /// What has passed is not held, or no longer.
    gone: AtomicBool,
    /// The client has sent everything.
    received: AtomicBool,
    /// The next piece is awaited from the client.
    awaited: AtomicBool,
    /// It says that it is JSON.
    json: bool,
}

const TOO_LARGE: u8 = 1;
const STALLED: u8 = 2;
const BROKEN: u8 = 3;
const AMBIGUOUS: u8 = 4;
const UNREADABLE: u8 = 5;

impl Upload {
    pub(super) fn new(json: bool) -> Self {
        Self { json, ..Self::default() }
    }

    /// Whether the client says that it is JSON.
    pub(super) fn is_json(&self) -> bool {
        self.json
    }

    /// Received so far.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// So many more have gone on by another way than [`Inbound`].
    pub(super) fn passed(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// As the body names it.
    pub(super) fn model(&self) -> Option<&str> {
        self.model.get().map(|model| &**model)
    }

    /// Whether something has passed that cannot be sent again.
    pub(super) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }

    /// Whether the client has sent everything.
    pub(super) fn is_received(&self) -> bool {
        self.received.load(Ordering::Relaxed)
    }

    /// Whether it is the client that holds the request up.
    pub(super) fn is_awaited(&self) -> bool {
        self.awaited.load(Ordering::Relaxed)
    }

    /// There will be no other attempt: nothing needs to be kept.
    pub(super) fn let_go(&self) {
        self.gone.store(true, Ordering::Relaxed);
    }

    /// Why it ended early.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        match self.fault.load(Ordering::Relaxed) {
            TOO_LARGE => Some(Refusal::BodyTooLarge),
            STALLED => Some(Refusal::BodyStalled),
            BROKEN => Some(Refusal::BodyBroken),
            AMBIGUOUS => Some(Refusal::AmbiguousModel),
            UNREADABLE => Some(Refusal::UnreadableModel),
            _ => None,
        }
    }
}

/// Pieces that more than this many would be needed for are not kept: each costs more than its bytes.
const MOST_PIECES: usize = 4096;
/// So many are kept as they came; later ones are copied.
const WHOLE_PIECES: usize = 16;

/// What comes from the client, whichever attempt carries it.
pub(super) struct Source {
    body: Incoming,
    upload: Arc<Upload>,
    limit: u64,
    patience: Duration,
    timers: Arc<Timers>,
    clock: Option<Clock>,
    scan: Option<(Arc<Endpoint>, Scanner)>,
    /// Where something depends on the model: reads on to the end, so that no second one passes.
    naming: Option<Box<Naming>>,
    /// What cannot be followed is not named, and passes.
    lenient: bool,
    kept: Option<Kept>,
    /// Of what is kept, the piece that is the model's name and nothing else.
    name_at: Option<usize>,
    /// So much is kept for another attempt once the name is known.
    retained: usize,
}

/// What has passed.
struct Kept {
    pieces: Vec<Bytes>,
    bytes: usize,
    bound: usize,
    /// Of the process's budget.
    held: Held,
}

/// Where a source waits for the next attempt.
#[derive(Default)]
pub(super) struct Home(Mutex<Option<Source>>);

/// The carrier of one attempt.
pub(super) struct Inbound {
    /// `None` only while it is dropped.
    source: Option<Source>,
    /// Of what is kept, the piece that goes next.
    next: usize,
    /// `None`: there is no other attempt.
    home: Option<Arc<Home>>,
    /// In place of the model's name.
    name: Option<Bytes>,
}

impl Source {
    /// `reads_model`: the endpoint whose template says where the model stands in a JSON body.
    pub(super) fn new(
        body: Incoming,
        upload: Arc<Upload>,
        limit: u64,
        patience: Duration,
        timers: &Arc<Timers>,
        reads_model: Option<Arc<Endpoint>>,
    ) -> Self {
        let scan = reads_model.map(|endpoint| {
            let scanner = Scanner::new(&endpoint.template.model.body);
            (endpoint, scanner)
        });
        Self {
            body,
            upload,
            limit,
            patience,
            timers: Arc::clone(timers),
            clock: None,
            scan,
            naming: None,
            lenient: false,
            kept: None,
            name_at: None,
            retained: 0,
        }
    }

    /// Of the body; `None`: it is not known before it has come.
    pub(super) fn length(&self) -> Option<u64> {
        let kept = self.kept.as_ref().map_or(0, |kept| kept.pieces.iter().map(Bytes::len).sum());
        self.body.size_hint().exact()?.checked_add(kept as u64)
    }

    /// What has been kept so far, for one who takes it all in before anything is sent, and where the model's name stands
    /// in it. Nothing is kept from now on.
    pub(super) fn hand_over(&mut self) -> (Vec<Bytes>, Option<Range<usize>>) {
        let pieces = self.kept.take().map(|kept| kept.pieces).unwrap_or_default();
        let name = self.name_at.take().map(|at| {
            let start = pieces[..at].iter().map(Bytes::len).sum();
            start..start + pieces[at].len()
        });
        (pieces, name)
    }

    /// The next piece, for the same: nothing is gone.
    pub(super) async fn next(&mut self) -> Option<Result<Bytes, Refusal>> {
        let piece = poll_fn(|context| self.poll_piece(context)).await;
        self.upload.gone.store(false, Ordering::Relaxed);
        piece.map(|piece| piece.map_err(|BodyFailed| self.upload.refusal().unwrap_or(Refusal::BodyBroken)))
    }

    /// Keeps what passes, as long as it is no more than `bound` bytes and `held` can grow by them.
    pub(super) fn keep(&mut self, bound: usize, held: Held) {
        // What announces more would be kept in vain.
        if self.body.size_hint().lower() <= bound as u64 {
            self.kept = Some(Kept { pieces: Vec::new(), bytes: 0, bound, held });
        }
    }

    /// Reads and holds the body until it has named its model; at most `bound` bytes, as far as `held` can grow.
    /// `lenient`: what cannot be read is not refused.
    pub(super) fn read_name(&mut self, naming: Naming, bound: usize, held: Held, lenient: bool) {
        let retained = self.kept.as_ref().map_or(0, |kept| kept.bound);
        self.scan = None;
        self.lenient = lenient;
        self.naming = Some(Box::new(naming));
        self.kept = Some(Kept { pieces: Vec::new(), bytes: 0, bound: bound.max(retained), held });
        self.retained = retained;
    }

    /// Until the name has come, or the end.
    pub(super) fn poll_named(&mut self, context: &mut Context<'_>, bound: usize) -> Poll<Result<(), Refusal>> {
        while self.naming.as_ref().is_some_and(|naming| naming.named().is_none()) {
            match ready!(self.poll_piece(context)) {
                None => break,
                Some(Ok(_)) if self.kept.is_some() => {}
                Some(Ok(_)) if self.upload.bytes() > bound as u64 => return Poll::Ready(Err(Refusal::ModelTooLate)),
                // Not the bound, but the memory of all requests.
                Some(Ok(_)) => return Poll::Ready(Err(Refusal::Overloaded)),
                Some(Err(_)) => return Poll::Ready(Err(self.upload.refusal().unwrap_or(Refusal::BodyBroken))),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// The name, now a piece of its own; `None`: the body has none.
    pub(super) fn named(&mut self) -> Option<(String, &Naming)> {
        let kept = self.kept.as_mut()?;
        kept.bound = self.retained;
        let named = self.naming.as_ref()?.named()?.clone();
        self.name_at = kept.cut_out(named.start, named.end);
        let _ = self.upload.model.set(named.model.as_str().into());
        Some((named.model, self.naming.as_deref()?))
    }

    fn take(&mut self, data: &Bytes) -> Result<(), BodyFailed> {
        let length = data.len() as u64;
        let total = self.upload.bytes.fetch_add(length, Ordering::Relaxed) + length;
        if total > self.limit {
            return Err(self.fail(TOO_LARGE));
        }
        if let Some((endpoint, scanner)) = &mut self.scan {
            let mut model = Model { upload: &self.upload };
            scanner.feed(&endpoint.template.model.body, data, &mut model);
            if scanner.is_over() || self.upload.model.get().is_some() {
                self.scan = None;
            }
        }
        if let Some(naming) = &mut self.naming {
            // Before the piece goes on: a body with two names never arrives whole.
            let fault = naming.feed(data).map_err(|fault| match fault {
                Fault::Ambiguous => AMBIGUOUS,
                Fault::Unreadable => UNREADABLE,
            });
            match fault {
                Ok(()) => {}
                Err(_) if self.lenient => self.naming = None,
                Err(fault) => return Err(self.fail(fault)),
            }
        }
        if self.kept.as_mut().is_none_or(|kept| !kept.take(data)) || self.upload.is_gone() {
            self.kept = None;
            self.upload.let_go();
        }
        Ok(())
    }

    fn fail(&self, fault: u8) -> BodyFailed {
        self.upload.fault.store(fault, Ordering::Relaxed);
        BodyFailed
    }

    fn kept(&self) -> &[Bytes] {
        self.kept.as_ref().map_or(&[], |kept| &kept.pieces)
    }

    /// The next piece from the client.
    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyFailed>>> {
        loop {
            if self.upload.is_received() {
                return Poll::Ready(None);
            }
            let polled = Pin::new(&mut self.body).poll_frame(context);
            self.upload.awaited.store(polled.is_pending(), Ordering::Relaxed);
            match polled {
                Poll::Ready(Some(Ok(frame))) => {
                    if let Some(clock) = &mut self.clock {
                        clock.arrived();
                    }
                    if let Ok(data) = frame.into_data() {
                        return Poll::Ready(Some(self.take(&data).map(|()| data)));
                    }
                }
                Poll::Ready(Some(Err(_))) => return Poll::Ready(Some(Err(self.fail(BROKEN)))),
                Poll::Ready(None) => self.upload.received.store(true, Ordering::Relaxed),
                Poll::Pending => {
                    let clock = self.clock.get_or_insert_with(|| Clock::start(&self.timers, self.patience));
                    return clock.poll_late(context).map(|_| Some(Err(self.fail(STALLED))));
                }
            }
        }
    }
}

impl Kept {
    /// Makes these bytes a piece of their own, and says which.
    fn cut_out(&mut self, start: u64, end: u64) -> Option<usize> {
        let (start, end) = (usize::try_from(start).ok()?, usize::try_from(end).ok()?);
        let (mut pieces, mut name, mut at, mut passed) =
            (Vec::with_capacity(self.pieces.len() + 2), Vec::new(), None, 0);
        for piece in self.pieces.drain(..) {
            let (from, to) =
                (start.clamp(passed, passed + piece.len()) - passed, end.clamp(passed, passed + piece.len()) - passed);
            passed += piece.len();
            if from == to {
                pieces.push(piece);
                continue;
            }
            if from > 0 {
                pieces.push(piece.slice(..from));
            }
            name.extend_from_slice(&piece[from..to]);
            if passed >= end {
                at = Some(pieces.len());
                pieces.push(std::mem::take(&mut name).into());
            }
            if to < piece.len() {
                pieces.push(piece.slice(to..));
            }
        }
        self.pieces = pieces;
        at
    }

    /// Whether it has been kept.
    fn take(&mut self, data: &Bytes) -> bool {
        let bytes = self.bytes.saturating_add(data.len());
        let fits = bytes <= self.bound && self.pieces.len() < MOST_PIECES && self.held.grow(data.len() as u64);
        if fits {
            self.bytes = bytes;
            // A piece keeps the whole buffer that it was read into, and one that sends a few bytes at a time would have
            // us keep thousands of them.
            let whole = self.pieces.len() < WHOLE_PIECES;
            self.pieces.push(if whole { data.clone() } else { Bytes::copy_from_slice(data) });
        }
        fits
    }
}

impl Home {
    /// What waits here.
    pub(super) fn leave(&self) -> Option<Source> {
        self.lock().take()
    }

    /// Whether no attempt carries it.
    pub(super) fn is_occupied(&self) -> bool {
        self.lock().is_some()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Source>> {
        // It holds one or none after every statement: a panic elsewhere does not spoil it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inbound {
    /// From the first byte on; what has passed in an earlier attempt was kept.
    pub(super) fn new(mut source: Source, home: Option<Arc<Home>>, name: Option<Bytes>) -> Self {
        if let Some(clock) = &mut source.clock {
            // Nobody has been waiting between the two.
            clock.arrived();
        }
        source.upload.awaited.store(false, Ordering::Relaxed);
        Self { source: Some(source), next: 0, home, name }
    }

    fn name_at(&self) -> Option<usize> {
        self.source.as_ref()?.name_at
    }

    fn waiting(&self) -> &[Bytes] {
        let kept = self.source.as_ref().map_or(&[][..], Source::kept);
        kept.get(self.next..).unwrap_or_default()
    }
}

impl Drop for Inbound {
    fn drop(&mut self) {
        if let Some(home) = &self.home {
            *home.lock() = self.source.take();
        }
    }
}

struct Model<'a> {
    upload: &'a Upload,
}

impl Sink for Model<'_> {
    fn value(&mut self, _slot: Slot, scalar: Scalar<'_>) {
        if let Scalar::Text(text) = scalar {
            // The first one stays; a second is the client's own contradiction.
            let _ = self.upload.model.set(text.into());
        }
    }

    fn end(&mut self) {}
}

impl Body for Inbound {
    type Data = Bytes;
    type Error = BodyFailed;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyFailed>>> {
        let this = self.get_mut();
        if let Some(mut piece) = this.waiting().first().cloned() {
            if let (Some(name), true) = (&this.name, this.name_at() == Some(this.next)) {
                piece = name.clone();
            }
            this.next += 1;
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        let Some(source) = &mut this.source else { return Poll::Ready(None) };
        let piece = ready!(source.poll_piece(context));
        // What came last is kept as well and has gone: only what came before this attempt waits.
        this.next = source.kept().len();
        Poll::Ready(piece.map(|piece| piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.waiting().is_empty()
            && self.source.as_ref().is_none_or(|source| source.upload.is_received() || source.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let named = self.name.as_ref().and(self.name_at());
        let length = |(index, piece): (usize, &Bytes)| match (&self.name, named) {
            (Some(name), Some(at)) if at == self.next + index => name.len() as u64,
            _ => piece.len() as u64,
        };
        let waiting: u64 = self.waiting().iter().enumerate().map(length).sum();
        match self.source.as_ref().and_then(|source| source.body.size_hint().exact()) {
            Some(rest) => SizeHint::with_exact(waiting + rest),
            None => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;
    use crate::limit::Budget;

    #[test]
    fn many_small_pieces_do_not_keep_the_buffers_they_were_read_into() {
        let budget = Budget::new(1 << 30);
        let held = budget.reserve(0).expect("there is room");
        let mut kept = Kept { pieces: Vec::new(), bytes: 0, bound: 1 << 20, held };
        let mut pinned = 0;
        for _ in 0..1000 {
            let mut buffer = BytesMut::with_capacity(8192);
            buffer.extend_from_slice(b"x");
            let piece = buffer.split().freeze();
            assert!(kept.take(&piece));
            drop(buffer);
            pinned += usize::from(!piece.is_unique());
        }
        assert_eq!((kept.pieces.concat(), pinned), (vec![b'x'; 1000], WHOLE_PIECES));
    }
}
