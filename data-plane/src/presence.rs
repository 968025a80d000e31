//! What a connection and its requests tell each other: who is busy, since when it is idle, what its next head was like.
//! And the register of all connections, through which a stopping node reaches them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::task::AtomicWaker;

use crate::runtime::request_id::RequestIds;

/// One client connection.
#[derive(Debug)]
pub(crate) struct Presence {
    number: u64,
    ids: RequestIds,
    began: Instant,
    busy: AtomicUsize,
    requests: AtomicU64,
    /// Milliseconds after `began`, plus one; 0: not.
    idle_since: AtomicU64,
    head_since: AtomicU64,
    stalled_since: AtomicU64,
    /// The head that was read last stated its length in two ways.
    two_lengths: AtomicBool,
    waker: AtomicWaker,
    register: Arc<Register>,
}

/// What the connection is waiting for, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waiting {
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

    /// Connections spread evenly over any number of parts.
    pub(crate) fn shard(&self) -> usize {
        usize::try_from(self.number).unwrap_or_default()
    }

    /// A request begins.
    pub(crate) fn enter(presence: &Arc<Self>) -> Busy {
        presence.busy.fetch_add(1, Ordering::Relaxed);
        presence.requests.fetch_add(1, Ordering::Relaxed);
        presence.head_since.store(0, Ordering::Relaxed);
        Busy(Arc::clone(presence))
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Relaxed) > 0
    }

    /// How many have begun.
    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Bytes of a head have come.
    pub(crate) fn head_begins(&self) {
        if self.head_since.load(Ordering::Relaxed) == 0 {
            self.head_since.store(self.now(), Ordering::Relaxed);
        }
    }

    /// The client takes, or does not take, what is written.
    pub(crate) fn stalled(&self, stalled: bool) {
        let since = self.stalled_since.load(Ordering::Relaxed);
        if stalled != (since != 0) {
            self.stalled_since.store(if stalled { self.now() } else { 0 }, Ordering::Relaxed);
        }
    }

    pub(crate) fn saw_two_lengths(&self) {
        self.two_lengths.store(true, Ordering::Relaxed);
    }

    pub(crate) fn waiting(&self) -> Waiting {
        let at = |since: u64| self.began + Duration::from_millis(since.saturating_sub(1));
        let load = |time: &AtomicU64| time.load(Ordering::Relaxed);
        match (load(&self.stalled_since), self.is_busy(), load(&self.head_since)) {
            (0, true, _) => Waiting::Nothing,
            (0, false, 0) => Waiting::Request(at(load(&self.idle_since))),
            (0, false, head) => Waiting::Head(at(head)),
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

/// A request in progress.
#[derive(Debug)]
pub(crate) struct Busy(Arc<Presence>);

impl Busy {
    /// Whether the request's head stated its length in two ways. The connection ends with it, so nobody takes it back.
    pub(crate) fn has_two_lengths(&self) -> bool {
        self.0.two_lengths.load(Ordering::Relaxed)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.idle_since.store(self.0.now(), Ordering::Relaxed);
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
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

    /// A connection has come.
    pub(crate) fn arrive(register: &Arc<Self>) -> Arc<Presence> {
        let number = register.next.fetch_add(1, Ordering::Relaxed);
        let presence = Arc::new(Presence {
            number,
            ids: RequestIds::new(register.process, number),
            began: Instant::now(),
            busy: AtomicUsize::new(0),
            requests: AtomicU64::new(0),
            idle_since: AtomicU64::new(0),
            head_since: AtomicU64::new(0),
            stalled_since: AtomicU64::new(0),
            two_lengths: AtomicBool::new(false),
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
