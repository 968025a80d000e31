//! What a connection and its requests tell each other: who is busy, since when it is idle, what its next head was like.
//! And the register of all connections, through which a stopping node reaches them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::task::AtomicWaker;

use crate::error::Refusal;
use crate::runtime::request_id::RequestIds;

/// One client connection.
#[derive(Debug)]
pub(crate) struct Presence {
    number: u64,
    worker: usize,
    peer: Option<IpAddr>,
    ids: RequestIds,
    began: Instant,
    busy: AtomicUsize,
    requests: AtomicU64,
    /// Milliseconds after `began`, plus one; 0: not.
    idle_since: AtomicU64,
    head_since: AtomicU64,
    stalled_since: AtomicU64,
    /// The client has said something.
    greeted: AtomicBool,
    /// What became of the head that was read last, as a place in `Refusal::ALL`, plus one; 0: it passed.
    refused: AtomicU8,
    /// Bytes wait until the request before them is answered.
    holds_back: AtomicBool,
    /// From now on the connection carries another protocol.
    tunnel: AtomicBool,
    /// An answer is to be cut when the client has taken what was written.
    flush_awaited: AtomicBool,
    waker: AtomicWaker,
    register: Arc<Register>,
}

/// What the connection is waiting for, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// For the client to say anything.
    FirstByte(Instant),
    /// For a request to begin.
    Request(Instant),
    /// For a head to end.
    Head(Instant),
    /// For the client to take its answer.
    Client(Instant),
    /// For nothing of the client's.
    Nothing,
}

impl Presence {
    pub(crate) fn ids(&self) -> &RequestIds {
        &self.ids
    }

    /// The worker that serves it, counted from 0.
    pub(crate) fn worker(&self) -> usize {
        self.worker
    }

    /// Who is at the other end; `None`: not known.
    pub(crate) fn peer(&self) -> Option<IpAddr> {
        self.peer
    }

    /// A request begins. `taking`: whoever watches its stream.
    pub(crate) fn enter(presence: &Arc<Self>, taking: Option<Arc<Taking>>) -> Busy {
        presence.busy.fetch_add(1, Ordering::Relaxed);
        presence.requests.fetch_add(1, Ordering::Relaxed);
        Busy { presence: Arc::clone(presence), taking }
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Relaxed) > 0
    }

    /// How many have begun.
    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// The connection is ready to be spoken on.
    pub(crate) fn opens(&self) {
        self.idle_since.store(self.now(), Ordering::Relaxed);
    }

    /// Bytes of a head have come.
    pub(crate) fn head_begins(&self) {
        if self.head_since.load(Ordering::Relaxed) == 0 {
            self.greeted.store(true, Ordering::Relaxed);
            self.head_since.store(self.now(), Ordering::Relaxed);
        }
    }

    /// All of it has come.
    pub(crate) fn head_ends(&self) {
        self.head_since.store(0, Ordering::Relaxed);
    }

    /// The client takes, or does not take, what is written.
    pub(crate) fn stalled(&self, stalled: bool) {
        let since = self.stalled_since.load(Ordering::Relaxed);
        if stalled != (since != 0) {
            self.stalled_since.store(if stalled { self.now() } else { 0 }, Ordering::Relaxed);
        }
    }

    /// The head that was read last will not pass. The connection ends with it, so nobody takes it back.
    pub(crate) fn refuse(&self, refusal: Refusal) {
        self.refused.store(refusal as u8 + 1, Ordering::Relaxed);
    }

    /// Bytes have come before their turn: whoever drives the connection is woken when it is there.
    pub(crate) fn holds_back(&self, waker: &std::task::Waker) {
        self.waker.register(waker);
        self.holds_back.store(true, Ordering::Relaxed);
    }

    /// After an upgrade: what the client sends from now on is handed on unread.
    pub(crate) fn becomes_tunnel(&self) {
        self.tunnel.store(true, Ordering::Relaxed);
    }

    /// Whether what comes is no longer HTTP.
    pub(crate) fn is_tunnel(&self) -> bool {
        self.tunnel.load(Ordering::Relaxed)
    }

    /// The client has taken all that was written. Whether somebody waits for that, to be told once.
    pub(crate) fn flushed(&self) -> bool {
        self.flush_awaited.load(Ordering::Relaxed) && self.flush_awaited.swap(false, Ordering::Relaxed)
    }

    pub(crate) fn waiting(&self) -> Waiting {
        let at = |since: u64| self.began + Duration::from_millis(since.saturating_sub(1));
        let load = |time: &AtomicU64| time.load(Ordering::Relaxed);
        match (load(&self.stalled_since), load(&self.head_since), self.is_busy()) {
            (0, 0, true) => Waiting::Nothing,
            (0, 0, false) if self.greeted.load(Ordering::Relaxed) => Waiting::Request(at(load(&self.idle_since))),
            (0, 0, false) => Waiting::FirstByte(at(load(&self.idle_since))),
            (0, head, _) => Waiting::Head(at(head)),
            (stalled, ..) => Waiting::Client(at(stalled)),
        }
    }

    /// The task that drives the connection: woken when the node's stage changes.
    pub(crate) fn driven_by(&self, waker: &std::task::Waker) {
        self.waker.register(waker);
    }

    pub(crate) fn stage(&self) -> Stage {
        self.register.stage()
    }

    /// The connection is gone.
    pub(crate) fn leave(&self) {
        self.register.connections().remove(&self.number);
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1)
    }
}

/// Whether the client takes its answer, on a stream of its own: the answer tells when it was asked for more.
#[derive(Debug, Default)]
pub(crate) struct Taking {
    since: Mutex<Option<Instant>>,
    waker: AtomicWaker,
}

impl Taking {
    /// A piece, or the head, is there to be taken.
    pub(crate) fn offered(&self) {
        *self.since() = Some(Instant::now());
    }

    /// All that was there has been taken.
    fn taken(&self) {
        *self.since() = None;
    }

    /// Since when something waits for the client.
    pub(crate) fn waits_since(&self) -> Option<Instant> {
        *self.since()
    }

    fn since(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The task that carries the stream.
    pub(crate) fn driven_by(&self, waker: &std::task::Waker) {
        self.waker.register(waker);
    }

    /// Has it look around.
    pub(crate) fn wake(&self) {
        self.waker.wake();
    }
}

/// What is said last before an answer is cut, and whether the client has taken it, with all that was said before. The
/// cut must wait for that: it takes away what is still on its way.
#[derive(Debug)]
pub(crate) enum LastWords {
    /// All that is written on the connection.
    Written { presence: Arc<Presence>, asked: bool },
    /// A piece of a stream, behind all others.
    Sent(Arc<Sent>),
}

/// Whether a piece has left the queue of its stream.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    sent: AtomicBool,
    waker: AtomicWaker,
}

/// Dropped when nobody holds it any more to send it.
struct Piece {
    bytes: Vec<u8>,
    sent: Arc<Sent>,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.sent.sent.store(true, Ordering::Release);
        self.sent.waker.wake();
    }
}

impl LastWords {
    /// Ready when they have been taken. How long the client may take is its connection's business.
    pub(crate) fn poll_taken(&mut self, context: &Context<'_>) -> Poll<()> {
        match self {
            Self::Written { presence, asked: false } => {
                // Whoever drives the connection flushes it before it waits, and is the one who asks here.
                presence.flush_awaited.store(true, Ordering::Relaxed);
                *self = Self::Written { presence: Arc::clone(presence), asked: true };
                Poll::Pending
            }
            Self::Written { presence, asked: true } => {
                if presence.flush_awaited.load(Ordering::Relaxed) {
                    Poll::Pending
                } else {
                    Poll::Ready(())
                }
            }
            Self::Sent(sent) => {
                sent.waker.register(context.waker());
                if sent.sent.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
            }
        }
    }
}

/// A request in progress.
#[derive(Debug)]
pub(crate) struct Busy {
    presence: Arc<Presence>,
    taking: Option<Arc<Taking>>,
}

impl Busy {
    /// Why the request's head did not pass; what is seen of it is only a stand-in.
    pub(crate) fn refused(&self) -> Option<Refusal> {
        let place = usize::from(self.presence.refused.load(Ordering::Relaxed));
        Refusal::ALL.get(place.checked_sub(1)?).copied()
    }

    /// Makes the last piece of an answer that will be cut; it may be empty.
    pub(crate) fn last_words(&self, bytes: Vec<u8>) -> (Bytes, LastWords) {
        if self.taking.is_none() {
            return (bytes.into(), LastWords::Written { presence: Arc::clone(&self.presence), asked: false });
        }
        let sent = Arc::<Sent>::default();
        (Bytes::from_owner(Piece { bytes, sent: Arc::clone(&sent) }), LastWords::Sent(sent))
    }

    /// Who is at the other end; `None`: not known.
    pub(crate) fn peer(&self) -> Option<IpAddr> {
        self.presence.peer()
    }

    /// The answer was asked for more, and had it or not.
    pub(crate) fn asked(&self, had: bool) {
        if let Some(taking) = &self.taking {
            if had { taking.offered() } else { taking.taken() }
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let presence = &self.presence;
        presence.idle_since.store(presence.now(), Ordering::Relaxed);
        presence.busy.fetch_sub(1, Ordering::Relaxed);
        if presence.holds_back.swap(false, Ordering::Relaxed) {
            presence.waker.wake();
        }
    }
}

/// Of a node's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// Requests come in.
    Serving,
    /// What is there may go on; nothing new comes in.
    Draining,
    /// What is there ends.
    Ending,
}

/// All connections of a listener.
#[derive(Debug)]
pub(crate) struct Register {
    process: u64,
    next: AtomicU64,
    stage: AtomicU8,
    connections: Mutex<HashMap<u64, Arc<Presence>>>,
}

impl Register {
    /// `process` is random: it makes request ids differ between processes.
    pub(crate) fn new(process: u64) -> Self {
        Self {
            process,
            next: AtomicU64::new(0),
            stage: AtomicU8::new(Stage::Serving as u8),
            connections: Mutex::default(),
        }
    }

    /// A connection has come, and this worker serves it.
    pub(crate) fn arrive(register: &Arc<Self>, worker: usize, peer: Option<IpAddr>) -> Arc<Presence> {
        let number = register.next.fetch_add(1, Ordering::Relaxed);
        let presence = Arc::new(Presence {
            number,
            worker,
            peer,
            ids: RequestIds::new(register.process, number),
            began: Instant::now(),
            busy: AtomicUsize::new(0),
            requests: AtomicU64::new(0),
            idle_since: AtomicU64::new(0),
            head_since: AtomicU64::new(0),
            stalled_since: AtomicU64::new(0),
            greeted: AtomicBool::new(false),
            refused: AtomicU8::new(0),
            holds_back: AtomicBool::new(false),
            tunnel: AtomicBool::new(false),
            flush_awaited: AtomicBool::new(false),
            waker: AtomicWaker::new(),
            register: Arc::clone(register),
        });
        register.connections().insert(number, Arc::clone(&presence));
        presence
    }

    /// Moves on and tells every connection.
    pub(crate) fn enter(&self, stage: Stage) {
        self.stage.store(stage as u8, Ordering::Relaxed);
        for presence in self.connections().values() {
            presence.waker.wake();
        }
    }

    fn stage(&self) -> Stage {
        match self.stage.load(Ordering::Relaxed) {
            0 => Stage::Serving,
            1 => Stage::Draining,
            _ => Stage::Ending,
        }
    }

    fn connections(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Arc<Presence>>> {
        // The map is whole after every statement: a panic elsewhere does not spoil it.
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
