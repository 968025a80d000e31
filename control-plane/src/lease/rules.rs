//! All rules that nodes share, and to whom changes are told. In memory: what nodes say of themselves is the truth, and
//! a control plane that is new to it listens before it grants anything.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use uuid::Uuid;

use super::shares::{Award, Shares, Told, VALID};

/// Of the tenant, and the rule's digest.
pub(super) type Key = (Uuid, [u8; 16]);

/// How long a new leader listens: whoever holds what it has not heard of holds no more than a fallback then.
const LISTENS: Duration = VALID.saturating_add(Duration::from_secs(1));

/// Changes that a stream is told of by itself.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) rule: [u8; 16],
    pub(super) award: Award,
}

/// What one node says of one rule.
#[derive(Debug)]
pub(super) struct Spoken {
    pub(super) rule: [u8; 16],
    /// Zero: requests in flight.
    pub(super) window: Duration,
    pub(super) limit: u64,
    pub(super) told: Told,
    pub(super) release: bool,
}

/// What a node is told.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// Nobody gets more yet: what others hold is not known.
    pub(super) listens: bool,
    /// Of each rule; `None`: its release was heard.
    pub(super) answers: Vec<([u8; 16], Option<Award>)>,
}

/// Figures of this process.
#[derive(Debug, Default)]
pub(super) struct Counters {
    /// Shares that were told to nodes.
    pub(super) shares: AtomicU64,
    /// Times that a node was granted a part of a budget.
    pub(super) budgets: AtomicU64,
    /// Times that there was less left of a budget than requests waited for.
    pub(super) exhausted: AtomicU64,
}

/// Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Rules(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    state: Mutex<State>,
    counters: Counters,
}

#[derive(Debug)]
struct State {
    epoch: Instant,
    leads: Option<Leads>,
    rules: HashMap<Key, Shares>,
    streams: HashMap<Uuid, Stream>,
}

#[derive(Debug)]
struct Leads {
    until: Instant,
    /// Nobody gets more before this.
    listens_until: Instant,
}

#[derive(Debug)]
struct Stream {
    id: Uuid,
    changes: mpsc::Sender<Change>,
    rules: BTreeSet<Key>,
}

impl Default for State {
    fn default() -> Self {
        Self { epoch: Instant::now(), leads: None, rules: HashMap::new(), streams: HashMap::new() }
    }
}

impl Rules {
    /// This control plane grants shares until then. `first`: nobody ever did before it.
    pub(super) fn lead(&self, until: Instant, first: bool) {
        let mut state = self.lock();
        let now = Instant::now();
        match &mut state.leads {
            Some(leads) if leads.until > now => leads.until = until,
            _ => {
                // Whatever is known from another time is out of date.
                state.rules.clear();
                let listens_until = if first { now } else { now + LISTENS };
                state.leads = Some(Leads { until, listens_until });
                tracing::info!("this control plane grants shares of limits");
            }
        }
    }

    /// Another one does, or nobody.
    pub(super) fn follow(&self) {
        let mut state = self.lock();
        if state.leads.take().is_some() {
            tracing::info!("this control plane does not grant shares of limits any more");
        }
        state.rules.clear();
    }

    /// A process has a new stream, which is told of changes.
    pub(super) fn connect(&self, boot: Uuid, id: Uuid, changes: mpsc::Sender<Change>) {
        let mut state = self.lock();
        let state = &mut *state;
        let rules = state.streams.remove(&boot).map(|stream| stream.rules).unwrap_or_default();
        for key in &rules {
            if let Some(shares) = state.rules.get_mut(key) {
                shares.reconnect(boot);
            }
        }
        state.streams.insert(boot, Stream { id, changes, rules });
    }

    /// A stream has ended.
    pub(super) fn disconnect(&self, boot: Uuid, id: Uuid) {
        let mut state = self.lock();
        let state = &mut *state;
        if let Some(stream) = state.streams.get(&boot).filter(|stream| stream.id == id) {
            for key in &stream.rules {
                if let Some(shares) = state.rules.get_mut(key) {
                    shares.lost(boot);
                    // When it comes back, it is by a new stream.
                    shares.reconnect(boot);
                }
            }
            state.streams.remove(&boot);
        }
    }

    /// A node speaks. Returns what it is told about the same rules, or `None` where this control plane does not grant
    /// shares. Others are told of what changes for them.
    pub(super) fn hear(
        &self,
        (organization_id, node): (Uuid, &str),
        (boot, id): (Uuid, Uuid),
        spoken: &[Spoken],
    ) -> Option<Heard> {
        let mut state = self.lock();
        let state = &mut *state;
        let instant = Instant::now();
        let frozen = state.leads.as_ref().filter(|leads| leads.until > instant)?.listens_until > instant;
        let now = instant - state.epoch;
        if state.streams.get(&boot).is_none_or(|stream| stream.id != id) {
            return Some(Heard::default());
        }
        let mut answers = Vec::with_capacity(spoken.len());
        for Spoken { rule, window, limit, told, release } in spoken {
            let key = (organization_id, *rule);
            let shares = state.rules.entry(key).or_insert_with(|| Shares::new(*window, now));
            if *release {
                shares.hear(boot, node, *told, *limit, now);
                shares.leave(boot, Some(told.fill), now);
                answers.push((*rule, None));
            } else {
                shares.hear(boot, node, *told, *limit, now);
            }
            let awards = shares.divide(frozen, now);
            if !*release {
                let award = awards.iter().find(|(of, _)| *of == boot).map(|(_, award)| *award);
                answers.extend(award.or_else(|| shares.renewal(boot)).map(|award| (*rule, Some(award))));
            }
            for (other, award) in awards {
                if other == boot {
                    continue;
                }
                if let Some(stream) = state.streams.get(&other) {
                    // A stream that does not keep up is told with its next message.
                    let _ = stream.changes.try_send(Change { rule: *rule, award });
                }
            }
            if let Some(stream) = state.streams.get_mut(&boot) {
                if *release {
                    stream.rules.remove(&key);
                } else {
                    stream.rules.insert(key);
                }
            }
        }
        self.0.counters.shares.fetch_add(answers.len() as u64, Ordering::Relaxed);
        Some(Heard { listens: frozen, answers })
    }

    /// Forgets rules that nobody uses any more.
    pub(super) fn sweep(&self) {
        let mut state = self.lock();
        let now = state.epoch.elapsed();
        state.rules.retain(|_, shares| !shares.is_over(now));
    }

    pub(super) fn counters(&self) -> &Counters {
        &self.0.counters
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every rule is whole after every call: a panic elsewhere does not spoil it.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
