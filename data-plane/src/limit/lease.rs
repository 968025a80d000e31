//! What this node may use of a limit that all nodes share: how much, until when, and what it says of itself. Pure: time
//! is an argument, and who is asked is another's.
//!
//! Of a rolling window and of requests in flight a node holds a share, which is lent for some seconds and falls to its
//! fallback when nobody renews it. Of a day or a month it holds a part that was set aside for it and stays its own.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use uuid::Uuid;

use super::meter::{MOST, Now, Window};
use super::rule::Metric;

/// Which rule, as both planes call it.
#[derive(Debug)]
pub struct Identity {
    /// Whose rule it is.
    pub owner: Uuid,
    /// That is an API key; `false`: a provider or proxy.
    pub api_key: bool,
    /// As the configuration calls it.
    pub name: Box<str>,
    /// What is counted.
    pub metric: Metric,
    /// In which time.
    pub window: Window,
}

/// Whether anybody can be asked for more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reach {
    /// Nobody: the node goes by what it was told last.
    #[default]
    Alone,
    /// The control plane.
    Ask,
    /// The control plane, which has answered meanwhile: the same request tries again.
    Again,
}

/// On which terms something is taken.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// Of all nodes.
    pub limit: u64,
    /// What cannot be had for certain is refused, even where nobody can be asked.
    pub strict: bool,
    /// Whether more may be asked for.
    pub reach: Reach,
}

impl From<u64> for Terms {
    fn from(limit: u64) -> Self {
        Self { limit, strict: false, reach: Reach::Alone }
    }
}

/// A bucket that is full, on the wire.
pub const FULL: u32 = 1 << 24;
/// Demand is told of the last one or two of these.
const HALF: Duration = Duration::from_secs(5);
/// Who was told that there is no more does not ask again for so long.
const PATIENT: Duration = Duration::from_secs(1);
/// Between two times that more is asked for ahead of need.
const CALM: Duration = Duration::from_millis(100);
/// A share that nobody asked for in this time is given back.
const IDLE: Duration = Duration::from_mins(1);

/// What the node has of a limit.
#[derive(Debug)]
pub struct Lease {
    /// Of which rule.
    pub identity: Arc<Identity>,
    /// Requests that wait for an answer.
    pub answered: Arc<Notify>,
    held: Held,
    /// Of the newest grant that counts.
    version: u64,
    /// Of the newest message, if it told that requests wait.
    asked: Option<u64>,
    /// What answers an older message does not count.
    deaf: u64,
    /// A part was given back, and nobody has answered yet.
    returning: bool,
    demand: Demand,
    /// Requests wait for so much.
    need: u64,
    /// There was no more when this was asked; before then it is not asked again.
    denied: Duration,
    /// Nobody answered: before then nobody waits for it again.
    silent: Duration,
    /// Nor is more asked for ahead of need before then.
    calm: Duration,
    /// The control plane does not know yet what others hold.
    unheard: bool,
    /// Of a part: what was told last.
    last: Option<(u64, u64, u64)>,
    /// It is to be told of at once.
    pub listed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    Nothing,
    Share(Share),
    Part(Part),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Share {
    units: u64,
    fallback: u64,
    /// Since the node's start.
    until: Duration,
    /// That has passed, and the units are the fallback.
    fallen: bool,
    /// How full were the units that it gave up last.
    gone: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    units: u64,
    elsewhere: u64,
    /// When the period is over, since the node's start.
    over: Duration,
    exhausted: bool,
}

/// What was asked for of late, granted or not.
#[derive(Debug, Default)]
struct Demand {
    since: Duration,
    last: Duration,
    now: u64,
    before: u64,
}

impl Demand {
    fn roll(&mut self, now: Duration) {
        let elapsed = now.saturating_sub(self.since);
        if elapsed >= HALF {
            self.before = if elapsed < 2 * HALF { self.now } else { 0 };
            (self.now, self.since) = (0, now);
        }
    }

    fn add(&mut self, amount: u64, now: Duration) {
        self.roll(now);
        (self.now, self.last) = (self.now.saturating_add(amount), now);
    }

    fn peak(&mut self, level: u64, now: Duration) {
        self.roll(now);
        (self.now, self.last) = (self.now.max(level), now);
    }

    fn recent(&mut self, now: Duration) -> u64 {
        self.roll(now);
        self.before.saturating_add(self.now)
    }
}

/// What the node says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// Of a rolling window, or of requests in flight.
    Share {
        /// Of the newest grant that was applied on this stream.
        version: u64,
        /// May be used now.
        held: u64,
        /// May be used when the grant is over.
        fallback: u64,
        /// How full that is, see [`FULL`].
        fill: u32,
        /// So many requests are in flight.
        in_flight: u64,
        /// Asked for of late, in units per window.
        want: u64,
        /// It is given back.
        release: bool,
    },
    /// Of a day or a month.
    Part {
        /// Unix milliseconds of its end; 0: none is known.
        period: u64,
        /// Of the newest grant.
        version: u64,
        /// By this process, in this period.
        spent: u64,
        /// Requests wait for so much.
        need: u64,
        /// To have in hand.
        ahead: u64,
        /// What is in hand is given back.
        release: bool,
    },
}

/// What the control plane says of a share.
#[derive(Clone, Copy, Debug, Default)]
pub struct ShareGrant {
    /// Raised whenever something changes.
    pub version: u64,
    /// May be used.
    pub share: u64,
    /// May be used when the grant is over.
    pub fallback: u64,
    /// Since what it answers was sent.
    pub valid: Duration,
    /// The node was taken to hold this before; what is beyond is new ...
    pub base: u64,
    /// ... and comes this full.
    pub fill: u32,
    /// More is on its way.
    pub pending: bool,
}

/// What the control plane says of a part.
#[derive(Clone, Copy, Debug, Default)]
pub struct PartGrant {
    /// Unix milliseconds of its end, by the control plane's clock.
    pub period: u64,
    /// The same as a duration.
    pub ends_in: Duration,
    /// Raised whenever something changes.
    pub version: u64,
    /// All in all, spent or not.
    pub held: u64,
    /// What others hold or have spent.
    pub elsewhere: u64,
    /// There is no more than this.
    pub exhausted: bool,
}

/// Which message is answered, and whether by somebody who knows.
#[derive(Clone, Copy, Debug)]
pub struct Answers {
    /// Its number in the stream.
    pub seq: u64,
    /// When that was sent, since the node's start.
    pub sent: Duration,
    /// The control plane does not know yet what others hold.
    pub listens: bool,
}

/// The count that belongs to it, in the meter's own units.
pub(super) struct Count<'a> {
    pub(super) level: &'a mut u128,
    pub(super) scale: u128,
    pub(super) ends_ms: &'a mut u64,
}

impl Count<'_> {
    fn units(&self) -> u64 {
        u64::try_from(self.level.div_ceil(self.scale)).unwrap_or(u64::MAX)
    }
}

impl Lease {
    /// Nothing is held yet.
    pub fn new(identity: Identity) -> Self {
        Self {
            identity: Arc::new(identity),
            answered: Arc::default(),
            held: Held::Nothing,
            version: 0,
            asked: None,
            deaf: 0,
            returning: false,
            demand: Demand::default(),
            need: 0,
            denied: Duration::ZERO,
            silent: Duration::ZERO,
            calm: Duration::ZERO,
            unheard: false,
            last: None,
            listed: false,
        }
    }

    /// When a share is not renewed by then it falls.
    pub(super) fn falls_at(&self) -> Option<Duration> {
        match self.held {
            Held::Share(Share { until, fallen: false, .. }) => Some(until),
            _ => None,
        }
    }

    /// At which rate a rolling window flows off, where that is known.
    pub(super) fn rate(&self) -> Option<u64> {
        match self.held {
            Held::Share(Share { units, .. }) => Some(units),
            _ => None,
        }
    }

    /// It does. What is counted stays counted: nobody may be there who keeps the rest in mind.
    pub(super) fn fall(&mut self) {
        if let Held::Share(share) = &mut self.held {
            (share.units, share.fallen, share.gone) = (share.fallback.min(share.units), true, 0);
        }
    }

    /// Whether the part that is held says which period it is: else the wall clock does.
    pub(super) fn knows_period(&mut self, now: Duration) -> bool {
        let Held::Part(part) = self.held else { return false };
        if now >= part.over {
            self.held = Held::Nothing;
            (self.version, self.returning, self.last, self.denied) = (0, false, None, Duration::ZERO);
        }
        now < part.over
    }

    /// What may be used now.
    pub(super) fn cap(&self, terms: Terms) -> u64 {
        let Terms { limit, strict, reach } = terms;
        let alone = reach == Reach::Alone && !strict;
        match self.held {
            Held::Nothing => {
                if alone || (self.unheard && !strict) {
                    limit
                } else {
                    0
                }
            }
            Held::Share(Share { fallen: true, .. }) if strict => 0,
            Held::Share(Share { units, .. }) => units.min(limit),
            Held::Part(Part { units, elsewhere, .. }) => {
                let rest = limit.saturating_sub(elsewhere);
                if alone { rest } else { units.min(rest) }
            }
        }
    }

    /// So much is asked for, beside what is counted.
    pub(super) fn wanted(&mut self, level: u64, amount: u64, now: Duration) {
        if self.identity.window == Window::InFlight {
            self.demand.peak(level.saturating_add(amount), now);
        } else {
            self.demand.add(amount, now);
        }
    }

    /// Whether asking could help a request that was short.
    pub(super) fn may_ask(&self, terms: Terms, level: u64, amount: u64, now: Duration) -> bool {
        let fits = level.saturating_add(amount) <= terms.limit;
        terms.reach != Reach::Alone && fits && now >= self.denied
    }

    /// Whether more should be asked for before somebody has to wait for it.
    pub(super) fn runs_low(&mut self, level: u64, now: Duration) -> bool {
        let Held::Part(Part { units, exhausted: false, .. }) = self.held else { return false };
        if self.listed || now < self.calm {
            return false;
        }
        units.saturating_sub(level) < self.demand.recent(now) / 2
    }

    /// What counts as used of the limit: what others hold is not known to be free.
    pub(super) fn measured(&self, level: u64, cap: u64, limit: u64) -> u64 {
        match self.held {
            Held::Nothing => level,
            Held::Share(_) => level.saturating_add(limit.saturating_sub(cap)),
            Held::Part(Part { elsewhere, .. }) => level.saturating_add(elsewhere),
        }
    }

    /// Until the period is over.
    pub(super) fn period_left(&self, now: Duration) -> Option<Duration> {
        match self.held {
            Held::Part(Part { over, .. }) => Some(over.saturating_sub(now)),
            _ => None,
        }
    }

    /// A request waited in vain.
    pub fn unanswered(&mut self, now: Duration) {
        self.silent = now + PATIENT;
    }

    /// On which terms something is taken at this moment.
    pub(super) fn terms(&self, terms: Terms, now: Duration) -> Terms {
        let alone = terms.reach == Reach::Ask && now < self.silent;
        if alone { Terms { reach: Reach::Alone, ..terms } } else { terms }
    }

    /// A request waits for so much, or does no longer.
    pub fn waits(&mut self, amount: u64, begins: bool) {
        let amount = amount.min(MOST);
        self.need = if begins { self.need.saturating_add(amount) } else { self.need.saturating_sub(amount) };
    }

    /// The link has a new stream: what was said on the old one is over.
    pub fn reconnect(&mut self) {
        (self.asked, self.deaf, self.denied, self.unheard) = (None, 0, Duration::ZERO, false);
        if !matches!(self.held, Held::Part(_)) {
            self.version = 0;
        }
        self.last = None;
    }

    /// What is to be said in a message. `None`: nothing new. `leaving`: the process ends.
    pub(super) fn tell(&mut self, count: &Count<'_>, seq: u64, leaving: bool, now: Now) -> Option<Told> {
        self.listed = false;
        let recent = self.demand.recent(now.since);
        if matches!(self.identity.window, Window::Calendar(_)) {
            return self.tell_part(count, (seq, recent), leaving);
        }
        let level = count.units();
        let idle = recent == 0 && self.need == 0 && *count.level == 0;
        let release = leaving || (idle && now.since.saturating_sub(self.demand.last) >= IDLE);
        let (held, fallback) = match self.held {
            Held::Share(Share { units, fallback, .. }) => (units, fallback),
            _ => (0, 0),
        };
        let (fill, in_flight, want) = match self.identity.window {
            Window::Rolling(window) => {
                let (fill, window) = (filled(*count.level, held, window), window.as_nanos());
                let want = u128::from(recent) * window / (2 * HALF).as_nanos();
                let want = u64::try_from(want).unwrap_or(u64::MAX).max(u64::from(recent > 0)).max(self.need);
                (fill, 0, want)
            }
            _ => (0, level, recent.max(level).max(self.need)),
        };
        let version = self.version;
        self.asked = (self.need > 0).then_some(seq);
        if release {
            (self.held, self.version, self.deaf) = (Held::Nothing, 0, seq + 1);
        }
        Some(Told::Share { version, held, fallback, fill, in_flight, want, release })
    }

    fn tell_part(&mut self, count: &Count<'_>, (seq, recent): (u64, u64), leaving: bool) -> Option<Told> {
        let level = count.units();
        let Held::Part(part) = &mut self.held else {
            if self.need == 0 {
                return None;
            }
            self.asked = Some(seq);
            return Some(Told::Part {
                period: 0,
                version: 0,
                spent: 0,
                need: self.need,
                ahead: recent,
                release: false,
            });
        };
        let in_hand = part.units > level;
        let release = self.returning || (in_hand && (leaving || (recent == 0 && self.need == 0)));
        let news = (level, self.need, recent);
        if !release && !leaving && self.need == 0 && self.last == Some(news) {
            return None;
        }
        (self.last, self.asked) = (Some(news), (self.need > 0).then_some(seq));
        if release {
            // It cannot be spent any more, whether or not this arrives.
            part.units = part.units.min(level);
            (self.returning, self.deaf) = (true, seq);
        }
        let (period, version) = (*count.ends_ms, self.version);
        Some(Told::Part { period, version, spent: level, need: self.need, ahead: recent, release })
    }

    /// A share was granted. Whether it must be answered.
    pub(super) fn hear_share(&mut self, count: &mut Count<'_>, grant: ShareGrant, to: Answers, now: Duration) -> bool {
        if to.seq < self.deaf || matches!(self.identity.window, Window::Calendar(_)) {
            return false;
        }
        let ShareGrant { version, share, fallback, valid, base, fill, pending } = grant;
        let until = to.sent + valid;
        self.unheard = to.listens && share == 0 && matches!(self.held, Held::Nothing);
        let held = match self.held {
            Held::Share(held) => Some(held),
            _ => None,
        };
        let mut news = false;
        match held {
            _ if self.unheard => {}
            // What was on its way when the share had fallen does not raise it again.
            Some(held) if version == self.version && share <= held.units => {
                let until = held.until.max(until);
                self.held = Held::Share(Share { units: share, until, fallen: until <= now, ..held });
            }
            Some(_) if version <= self.version => {}
            _ => {
                let (units, mut gone) = held.map_or((0, 0), |held| (held.units, held.gone));
                if version > self.version + 1 {
                    // Some words were lost: what they brought may have come full.
                    gone = gone.max(FULL);
                }
                if let Window::Rolling(window) = self.identity.window {
                    let bucket = |units: u64, fill: u32| {
                        (u128::from(units) * window.as_nanos()).saturating_mul(u128::from(fill)) / u128::from(FULL)
                    };
                    if share < units {
                        gone = filled(*count.level, units, window);
                        *count.level = scaled(*count.level, share, units);
                    }
                    // What is new, and what was given up and comes back before anybody heard of it.
                    *count.level += bucket(share.saturating_sub(base.max(units)), fill);
                    *count.level += bucket(share.min(base).saturating_sub(units), gone);
                }
                self.held = Held::Share(Share { units: share, fallback, until, fallen: false, gone });
                (self.version, news) = (version, true);
            }
        }
        if news {
            self.denied = Duration::ZERO;
        }
        if !pending && !self.unheard && self.asked.is_some_and(|asked| to.seq >= asked) {
            self.denied = now + PATIENT;
        }
        self.silent = Duration::ZERO;
        self.answered.notify_waiters();
        news
    }

    /// A part of the period was granted.
    pub(super) fn hear_part(&mut self, count: &mut Count<'_>, grant: PartGrant, to: Answers, now: Duration) {
        if to.seq < self.deaf || !matches!(self.identity.window, Window::Calendar(_)) {
            return;
        }
        let PartGrant { period, ends_in, version, held, elsewhere, exhausted } = grant;
        let known = matches!(self.held, Held::Part(_));
        // Of a control plane whose clock is behind, or overtaken.
        if known && (period < *count.ends_ms || (period == *count.ends_ms && version < self.version)) {
            return;
        }
        if period != *count.ends_ms {
            (*count.level, *count.ends_ms) = (0, period);
        }
        self.held = Held::Part(Part { units: held, elsewhere, over: now + ends_in, exhausted });
        (self.version, self.returning) = (version, false);
        let denied = exhausted && self.asked.is_some_and(|asked| to.seq >= asked);
        self.denied = if denied { now + PATIENT } else { Duration::ZERO };
        (self.silent, self.calm) = (Duration::ZERO, now + CALM);
        self.answered.notify_waiters();
    }

    /// Whether it is shared out anew all the time, rather than set aside in parts.
    pub fn is_share(&self) -> bool {
        !matches!(self.identity.window, Window::Calendar(_))
    }

    /// Nothing is held, nobody waits: it need not be told of any more.
    pub fn is_over(&self) -> bool {
        matches!(self.held, Held::Nothing) && self.need == 0
    }
}

/// How full so many units are.
fn filled(level: u128, units: u64, window: Duration) -> u32 {
    let full = u128::from(units) * window.as_nanos();
    let fill = level.saturating_mul(u128::from(FULL)).checked_div(full);
    u32::try_from(fill.unwrap_or_default().saturating_add(1)).unwrap_or(u32::MAX)
}

/// `level` of so many units, brought to another number of them.
fn scaled(level: u128, to: u64, from: u64) -> u128 {
    if from == 0 {
        return level;
    }
    let (to, from) = (u128::from(to), u128::from(from));
    level.checked_mul(to).map_or_else(|| level / from * to, |level| level.div_ceil(from))
}
