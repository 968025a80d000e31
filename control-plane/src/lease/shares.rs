//! One rule's limit, divided among the nodes that use it. Pure: time is an argument, and the same words give the same
//! division.
//!
//! What every node may use adds up to the limit at most, at every moment: a share that is lowered counts in full until
//! its node has said that it holds less, or can no longer hold more; a silent node keeps its fallback. What no node
//! holds is a bucket of its own, so that a burst that was used in one place is not given out again in another.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use uuid::Uuid;

/// How long a grant is valid on the node, from when it asked.
pub const VALID: Duration = Duration::from_secs(10);
/// Clocks do not run alike: the control plane counts this much longer.
const MARGIN: Duration = Duration::from_secs(1);
/// How long the fallback of a silent node stays reserved.
pub const RESERVED: Duration = Duration::from_mins(1);
/// A bucket that is full.
pub const FULL: u32 = 1 << 24;

/// What a node says of its share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Of the newest grant that it has applied on its stream; 0: none.
    pub version: u64,
    /// What it may use now.
    pub held: u64,
    /// What it may use when the grant is over.
    pub fallback: u64,
    /// How full its bucket is, see [`FULL`]; debts are beyond.
    pub fill: u32,
    /// Requests in flight, of a limit on those.
    pub in_flight: u64,
    /// Asked for of late, in units per window.
    pub want: u64,
}

/// What a node is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Award {
    /// Raised whenever something changes.
    pub version: u64,
    /// What it may use.
    pub share: u64,
    /// What it may use when the grant is over.
    pub fallback: u64,
    /// What it was taken to hold before; the rest is new ...
    pub base: u64,
    /// ... and comes this full.
    pub fill: u32,
    /// More is on its way.
    pub pending: bool,
}

/// What all nodes hold of one limit.
#[derive(Debug)]
pub struct Shares {
    limit: u64,
    /// Nanoseconds; 0: requests in flight, which fill no bucket.
    window: u128,
    /// Of what nobody holds: units times nanoseconds that have not flowed off yet.
    level: u128,
    at: Duration,
    seats: BTreeMap<Uuid, Seat>,
}

/// One process of a node.
#[derive(Debug)]
struct Seat {
    node: String,
    /// It may use so much at most, whatever it has heard.
    share: u64,
    /// It was told to use no more than this, and has not answered yet.
    lowered: Option<u64>,
    /// The most that it may believe to be its fallback.
    fallback: u64,
    version: u64,
    /// How full came what it has not answered yet.
    raised: u32,
    /// What it was told and has not answered yet: versions and shares.
    sent: VecDeque<(u64, u64)>,
    told: Told,
    heard: Duration,
    /// It has a stream.
    open: bool,
    /// It holds its fallback and no more.
    silent: bool,
    pending: bool,
}

impl Seat {
    /// What it was told to use.
    fn meant(&self) -> u64 {
        self.lowered.unwrap_or(self.share)
    }

    fn award(&self, base: u64, fill: u32) -> Award {
        let Self { version, pending, .. } = *self;
        // What is reserved for it may be of an older grant; what it is told is never more than its share.
        let fallback = self.fallback.min(self.meant());
        Award { version, share: self.meant(), fallback, base, fill, pending }
    }
}

impl Shares {
    /// Nobody holds anything, and nothing has been used.
    pub fn new(window: Duration, now: Duration) -> Self {
        Self { limit: 0, window: window.as_nanos(), level: 0, at: now, seats: BTreeMap::new() }
    }

    /// A node speaks of the rule, whose limit is now this.
    pub fn hear(&mut self, boot: Uuid, node: &str, told: Told, limit: u64, now: Duration) {
        self.expire(now);
        self.limit = limit;
        self.level = self.level.min(u128::from(self.free()) * self.window);
        // A node that is back as another process: what the old one held is given back as full as it last was.
        let before = self.seats.iter().find(|(other, seat)| **other < boot && seat.node == node && !seat.open);
        if let Some(before) = before.map(|(boot, _)| *boot) {
            self.leave(before, None, now);
        }
        let seat = self.seats.entry(boot).or_insert_with(|| Seat {
            node: node.to_owned(),
            share: 0,
            lowered: None,
            fallback: 0,
            version: told.version,
            raised: 0,
            sent: VecDeque::new(),
            told,
            heard: now,
            open: true,
            silent: false,
            pending: false,
        });
        (seat.told, seat.heard, seat.open, seat.silent) = (told, now, true, false);
        let (held, before) = (told.held.max(told.in_flight), seat.share);
        let fill = told.fill.max(seat.raised);
        if told.version != seat.version {
            // An answer to something older: what was sent since may be true already.
            seat.sent.retain(|(version, _)| *version > told.version);
            let most = seat.sent.iter().map(|(_, share)| *share).fold(held, u64::max);
            seat.share = most.min(before);
            seat.lowered = seat.lowered.filter(|lowered| *lowered < most);
            self.refill(before.saturating_sub(most), fill);
            return;
        }
        seat.raised = 0;
        seat.sent.clear();
        seat.fallback = told.fallback.min(held);
        seat.lowered = seat.lowered.filter(|lowered| *lowered < held);
        if held > before {
            // Another control plane had granted it.
            self.draw(held - before);
        }
        if let Some(seat) = self.seats.get_mut(&boot) {
            seat.share = held;
        }
        self.refill(before.saturating_sub(held), fill);
    }

    /// A node has a new stream: whatever was on its way on the old one never comes.
    pub fn reconnect(&mut self, boot: Uuid) {
        if let Some(seat) = self.seats.get_mut(&boot) {
            (seat.version, seat.lowered) = (0, None);
            seat.sent.clear();
        }
    }

    /// A node's stream has ended. It may come back, or another process of the same name may.
    pub fn lost(&mut self, boot: Uuid) {
        if let Some(seat) = self.seats.get_mut(&boot) {
            seat.open = false;
        }
    }

    /// A node gives its share back; its bucket is this full, or as full as it last said.
    pub fn leave(&mut self, boot: Uuid, fill: Option<u32>, now: Duration) {
        self.advance(now);
        if let Some(seat) = self.seats.remove(&boot) {
            self.refill(seat.share, fill.unwrap_or(seat.told.fill));
        }
    }

    /// Whether nobody holds anything and forgetting it changes nothing.
    pub fn is_over(&mut self, now: Duration) -> bool {
        self.expire(now);
        self.seats.is_empty() && self.level == 0
    }

    /// What a node may use, told again.
    pub fn renewal(&self, boot: Uuid) -> Option<Award> {
        let seat = self.seats.get(&boot)?;
        Some(seat.award(seat.share, FULL))
    }

    /// What all nodes may use at most.
    pub fn reserved(&self) -> u64 {
        self.seats.values().map(|seat| seat.share).fold(0, u64::saturating_add)
    }

    /// Divides anew. Returns whom to tell what: everybody whose award has changed. Where `frozen`, nobody gets more.
    pub fn divide(&mut self, frozen: bool, now: Duration) -> Vec<(Uuid, Award)> {
        self.expire(now);
        let alone = self.seats.len() == 1;
        let targets = self.targets();
        let mut changed = Vec::new();
        // Those who are to have less are told first: what they answer is free.
        for (boot, target) in &targets {
            let Some(seat) = self.seats.get_mut(boot) else { continue };
            let lowered = (*target < seat.share).then_some(*target);
            if seat.lowered != lowered {
                seat.lowered = lowered;
                changed.push(*boot);
            }
        }
        let mut awards = Vec::new();
        for (boot, target) in targets {
            let free = if frozen { 0 } else { self.free() };
            let Some(base) = self.seats.get(&boot).map(|seat| seat.share) else { continue };
            let more = target.saturating_sub(base).min(free);
            let fill = self.draw(more);
            let Some(seat) = self.seats.get_mut(&boot) else { continue };
            seat.share += more;
            let pending = !frozen && target > seat.share;
            let fallback = if alone { seat.meant() } else { seat.meant().div_ceil(2) };
            let answered = seat.told.version == seat.version;
            let changes = more > 0 || changed.contains(&boot) || (answered && fallback != seat.told.fallback);
            if changes || pending != seat.pending {
                seat.version += u64::from(changes);
                if changes {
                    let answer = (seat.version, seat.meant());
                    seat.sent.push_back(answer);
                }
                seat.pending = pending;
                if more > 0 {
                    seat.raised = seat.raised.max(fill);
                }
                let kept = seat.fallback;
                seat.fallback = fallback;
                awards.push((boot, seat.award(base, fill)));
                seat.fallback = fallback.max(kept);
            }
        }
        awards
    }

    /// In proportion to what was asked for of late; who asks for nothing keeps a little. Stays as it is while the
    /// difference is small.
    fn targets(&self) -> Vec<(Uuid, u64)> {
        let live: Vec<(&Uuid, &Seat)> = self.seats.iter().filter(|(_, seat)| !seat.silent).collect();
        let silent = self.seats.values().filter(|seat| seat.silent).map(|seat| seat.share).sum::<u64>();
        let room = u128::from(self.limit.saturating_sub(silent));
        let asked: u128 = live.iter().map(|(_, seat)| u128::from(seat.told.want.min(WANT))).sum();
        let little = asked / live.len().max(1) as u128 + 1;
        let weight = |seat: &Seat| u128::from(seat.told.want.min(WANT)) * WEIGHT + little;
        let all: u128 = live.iter().map(|(_, seat)| weight(seat)).sum::<u128>().max(1);
        let share = |seat: &Seat| {
            let exact = room * weight(seat);
            (u64::try_from(exact / all).unwrap_or(u64::MAX), exact % all)
        };
        let mut targets: Vec<(Uuid, u64)> = live.iter().map(|(boot, seat)| (**boot, share(seat).0)).collect();
        // What is left over by rounding: first to those who have it already, so that it does not go back and forth.
        let mut order: Vec<usize> = (0..live.len()).collect();
        order.sort_by_key(|at| {
            let (whole, part) = share(live[*at].1);
            let has = live[*at].1.meant() > whole && live[*at].1.told.want > 0;
            std::cmp::Reverse((has, part))
        });
        let given: u128 = targets.iter().map(|(_, target)| u128::from(*target)).sum();
        let left = usize::try_from(room.saturating_sub(given)).unwrap_or(0);
        for at in order.into_iter().take(left) {
            targets[at].1 += 1;
        }
        let near = |(seat, target): (u64, u64)| seat.abs_diff(target) <= seat.max(target) / 8;
        let meant = || live.iter().map(|(_, seat)| seat.meant());
        let whole = meant().map(u128::from).sum::<u128>() == room;
        if whole && meant().zip(targets.iter().map(|(_, target)| *target)).all(near) {
            return live.iter().map(|(boot, seat)| (**boot, seat.meant())).collect();
        }
        targets
    }

    /// Silent nodes fall to their fallback, and after a while nothing is kept for them. What they had may all have been
    /// used since they were heard.
    fn expire(&mut self, now: Duration) {
        self.advance(now);
        let mut given = Vec::new();
        self.seats.retain(|_, seat| {
            let silence = now.saturating_sub(seat.heard);
            if silence > RESERVED {
                given.push((seat.share, seat.told.fill.max(FULL)));
                return false;
            }
            if silence > VALID + MARGIN && !seat.silent {
                // Requests that run are not ended by silence.
                let kept = seat.fallback.max(seat.told.in_flight).min(seat.share);
                given.push((seat.share - kept, seat.told.fill.max(FULL)));
                (seat.share, seat.silent, seat.lowered) = (kept, true, None);
            }
            true
        });
        for (units, fill) in given {
            self.refill(units, fill);
        }
    }

    /// What nobody holds.
    fn free(&self) -> u64 {
        self.limit.saturating_sub(self.reserved())
    }

    /// Lets what nobody holds flow off.
    fn advance(&mut self, now: Duration) {
        let elapsed = now.saturating_sub(self.at);
        self.level = self.level.saturating_sub(elapsed.as_nanos() * u128::from(self.free()));
        self.at = self.at.max(now);
    }

    /// Takes so much of what nobody holds; how full it is. Before the seat has it.
    fn draw(&mut self, units: u64) -> u32 {
        let room = u128::from(self.free()) * self.window;
        if units == 0 || room == 0 {
            return 0;
        }
        let fill = (self.level * u128::from(FULL)).div_ceil(room).min(u128::from(FULL));
        let (units, free) = (u128::from(units), u128::from(self.free()));
        let taken = self.level.checked_mul(units).map_or_else(|| self.level / free * units, |level| level / free);
        self.level = self.level.saturating_sub(taken);
        u32::try_from(fill).unwrap_or(FULL)
    }

    /// Takes so much back, this full. After the seat has it no more.
    fn refill(&mut self, units: u64, fill: u32) {
        let debt = u128::from(units) * self.window;
        self.level += debt.saturating_mul(u128::from(fill)) / u128::from(FULL);
    }
}

/// Who asks for nothing has one part in this many, divided among all.
const WEIGHT: u128 = 40;
/// More is never asked for: keeps the arithmetic far from its ends.
const WANT: u64 = 1 << 60;
