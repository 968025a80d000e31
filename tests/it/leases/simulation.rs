//! Both halves of sharing a limit, under random schedules: nodes that come, go, are killed and cut off, messages that
//! are late or lost, loads that move. Deterministic: a schedule that fails says its seed, and `LOCKGATE_SEED=n
//! LOCKGATE_SCHEDULES=1` runs it alone. `make simulate` runs many.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use control_plane::lease::escrow::Claim;
use control_plane::lease::shares::{Award, Shares, Told as Said};
use control_plane::store::quota::{Holding, Move};
use data_plane::limit::calendar::Period;
use data_plane::limit::lease::{Answers, Identity, Lease, PartGrant, Reach, ShareGrant, Terms, Told};
use data_plane::limit::meter::{Meter, Now, RENEWAL, Window};
use data_plane::limit::rule::Metric;
use uuid::Uuid;

/// Of the world, in milliseconds.
const STEP: u64 = 5;
const LIMIT: u64 = 600;
const MINUTE: Duration = Duration::from_mins(1);
const PATIENCE: u64 = 250;
/// 2026-11-10, noon: no day ends while a schedule runs.
const WALL: u64 = 1_794_312_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Rolling,
    InFlight,
    Day,
}

impl Kind {
    fn window(self) -> Window {
        match self {
            Self::Rolling => Window::Rolling(MINUTE),
            Self::InFlight => Window::InFlight,
            Self::Day => Window::Calendar(Period::Day),
        }
    }
}

/// What may go wrong in a schedule.
#[derive(Clone, Copy, Debug)]
struct Chaos {
    /// Of these many steps, one has something happen to some node.
    every: u64,
    kills: bool,
    cuts: bool,
}

const CALM: Chaos = Chaos { every: 0, kills: false, cuts: false };

#[derive(Clone, Copy)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, most: u64) -> u64 {
        self.next() % most.max(1)
    }
}

enum Grant {
    Share(ShareGrant),
    Part(PartGrant),
    Nothing,
}

/// One stream of a node.
struct Stream {
    seq: u64,
    heard: u64,
    sent: VecDeque<(u64, Duration)>,
    up: VecDeque<(u64, u64, Option<Told>)>,
    down: VecDeque<(u64, u64, Grant)>,
}

struct Node {
    name: String,
    boot: Uuid,
    meter: Arc<Meter>,
    /// Its clocks begin and are set differently from all others'.
    skew: u64,
    wall: u64,
    stream: Option<Stream>,
    /// Until then it reaches nobody.
    away: u64,
    /// When the control plane heard it last.
    spoke: u64,
    next_tick: u64,
    asked: Option<u64>,
    listed: bool,
    /// Requests that wait: until when, and for how much.
    waiting: Vec<(u64, u64)>,
    /// Requests that are sent: until when, how much was reserved, what they come to, and in which period.
    running: Vec<(u64, u64, u64, u64)>,
    /// One in so many steps brings a request.
    rarity: u64,
}

/// The control plane's side of a day.
#[derive(Default)]
struct Budget {
    granted: i64,
    holdings: HashMap<Uuid, Holding>,
}

struct World {
    kind: Kind,
    random: Random,
    now: u64,
    nodes: Vec<Node>,
    boots: u128,
    shares: Shares,
    budget: Budget,
    /// What one node would have counted, in units times milliseconds; of a day in units.
    level: u128,
    /// What was lost of the counts of nodes that were killed between two messages.
    allowance: u128,
    admitted: u64,
    refused: u64,
    spent_by_dead: u64,
}

impl World {
    fn new(kind: Kind, nodes: usize, seed: u64) -> Self {
        let window = if kind == Kind::Rolling { MINUTE } else { Duration::ZERO };
        let mut world = Self {
            kind,
            random: Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            now: 0,
            nodes: Vec::new(),
            boots: 0,
            shares: Shares::new(window, Duration::ZERO),
            budget: Budget::default(),
            level: 0,
            allowance: 0,
            admitted: 0,
            refused: 0,
            spent_by_dead: 0,
        };
        for number in 0..nodes {
            let node = world.node(format!("node-{number}"));
            world.nodes.push(node);
        }
        world
    }

    fn node(&mut self, name: String) -> Node {
        self.boots += 1;
        let meter = Arc::new(Meter::new(self.kind.window()));
        meter.share(Some(Identity {
            owner: Uuid::nil(),
            api_key: true,
            name: "pace".into(),
            metric: Metric::Requests,
            window: self.kind.window(),
        }));
        Node {
            name,
            boot: Uuid::from_u128(self.boots),
            meter,
            skew: self.random.below(1_000_000),
            // A wall clock that is off by up to an hour.
            wall: WALL - 3_600_000 + self.random.below(7_200_000),
            stream: None,
            away: self.now + self.random.below(300),
            spoke: self.now,
            next_tick: 0,
            asked: None,
            listed: false,
            waiting: Vec::new(),
            running: Vec::new(),
            rarity: 1 + self.random.below(40),
        }
    }

    fn run(&mut self, until: u64, chaos: Chaos) {
        while self.now < until {
            self.now += STEP;
            if chaos.every > 0 && self.random.below(chaos.every) == 0 {
                self.disturb(chaos);
            }
            for at in 0..self.nodes.len() {
                self.control(at);
                self.step(at);
            }
            self.check();
        }
    }

    fn disturb(&mut self, chaos: Chaos) {
        let at = usize::try_from(self.random.below(self.nodes.len() as u64)).unwrap();
        match self.random.below(3) {
            0 if chaos.kills => {
                let name = self.nodes[at].name.clone();
                let mut fresh = self.node(name);
                fresh.away = self.now + self.random.below(20_000);
                let dead = std::mem::replace(&mut self.nodes[at], fresh);
                // What it had sent was spent, and it never told what that came to.
                self.spent_by_dead += dead.running.iter().map(|(_, reserved, ..)| reserved).sum::<u64>();
                let told = dead.meter.tell(u64::MAX / 2, false, clock(&dead, self.now));
                if let Some((_, Told::Share { held, .. })) = told {
                    self.allowance += u128::from(held) * MINUTE.as_millis();
                }
                if dead.stream.is_some() {
                    self.shares.lost(dead.boot);
                    self.shares.reconnect(dead.boot);
                }
            }
            // What is kept for a silent node is kept for a minute.
            1 if chaos.cuts && self.now - self.nodes[at].spoke < 15_000 => {
                let away = self.now + self.random.below(40_000);
                self.cut(at, away);
            }
            _ => self.nodes[at].rarity = 1 + self.random.below(60),
        }
    }

    fn cut(&mut self, at: usize, away: u64) {
        let node = &mut self.nodes[at];
        (node.stream, node.asked, node.away) = (None, None, away);
        self.shares.lost(node.boot);
        self.shares.reconnect(node.boot);
    }

    /// The control plane hears what has arrived from this node.
    fn control(&mut self, at: usize) {
        loop {
            let now = Duration::from_millis(self.now);
            let Node { boot, name, spoke, stream: Some(stream), .. } = &mut self.nodes[at] else { return };
            if stream.up.front().is_none_or(|(due, ..)| *due > self.now) {
                return;
            }
            let Some((_, seq, told)) = stream.up.pop_front() else { return };
            (stream.heard, *spoke) = (seq, self.now);
            match told {
                None => self.answer(at, Grant::Nothing),
                Some(Told::Share { version, held, fallback, fill, in_flight, want, release }) => {
                    let told = Said { version, held, fallback, fill, in_flight, want };
                    let (boot, name) = (*boot, name.clone());
                    self.shares.hear(boot, &name, told, LIMIT, now);
                    if release {
                        self.shares.leave(boot, Some(fill), now);
                    }
                    let awards = self.shares.divide(false, now);
                    assert!(self.shares.reserved() <= LIMIT, "{:?}", self.shares);
                    let own = awards.iter().find(|(of, _)| *of == boot).map(|(_, award)| *award);
                    let own = own.or_else(|| self.shares.renewal(boot)).filter(|_| !release);
                    self.answer(at, own.map_or(Grant::Nothing, granted));
                    for (other, award) in awards {
                        let place = self.nodes.iter().position(|node| node.boot == other && other != boot);
                        if let Some(place) = place.filter(|place| self.nodes[*place].stream.is_some()) {
                            self.answer(place, granted(award));
                        }
                    }
                }
                Some(Told::Part { period, version, spent, need, ahead, release }) => {
                    let ends = WALL + 12 * 3_600_000;
                    let current = period == ends;
                    let spent = if current { i64::try_from(spent).unwrap() } else { 0 };
                    let claim = Claim { spent, need, ahead, release: release.then_some((current, version)) };
                    let grant = self.budget.draw(*boot, claim, ends, ends - WALL - self.now);
                    self.answer(at, Grant::Part(grant));
                }
            }
        }
    }

    fn answer(&mut self, at: usize, grant: Grant) {
        let due = self.now + 1 + self.random.below(40);
        if let Some(stream) = &mut self.nodes[at].stream {
            let due = stream.down.back().map_or(due, |(last, ..)| due.max(*last));
            stream.down.push_back((due, stream.heard, grant));
        }
    }

    /// What the node does in this moment.
    fn step(&mut self, at: usize) {
        let now = self.now;
        let node = &mut self.nodes[at];
        if node.stream.is_none() && now >= node.away {
            node.meter.with_lease(Lease::reconnect);
            node.stream =
                Some(Stream { seq: 0, heard: 0, sent: VecDeque::new(), up: VecDeque::new(), down: VecDeque::new() });
            (node.next_tick, node.asked) = (now, None);
            self.shares.reconnect(node.boot);
        }
        let mut heard = false;
        while let Some(stream) = &mut node.stream {
            if stream.down.front().is_none_or(|(due, ..)| *due > now) {
                break;
            }
            let Some((_, seq, grant)) = stream.down.pop_front() else { break };
            while stream.sent.front().is_some_and(|(sent, _)| *sent < seq) {
                stream.sent.pop_front();
            }
            let sent = stream.sent.front().map_or(Duration::ZERO, |(_, sent)| *sent);
            let (to, clock) = (Answers { seq, sent, listens: false }, clock(node, now));
            match grant {
                Grant::Share(grant) => node.listed |= node.meter.hear_share(grant, to, clock),
                Grant::Part(grant) => node.meter.hear_part(grant, to, clock),
                Grant::Nothing => {}
            }
            node.asked = None;
            heard = true;
        }
        if node.asked.is_some_and(|until| now >= until) {
            node.asked = None;
        }
        let mut ended = Vec::new();
        node.running.retain(|run| {
            if run.0 <= now {
                ended.push(*run);
            }
            run.0 > now
        });
        for (_, reserved, actual, period) in ended {
            node.meter.give_back(period, reserved - actual);
            match self.kind {
                Kind::Day => self.level -= u128::from(reserved - actual),
                Kind::InFlight => self.level -= 1,
                Kind::Rolling => {}
            }
        }
        if self.random.below(self.nodes[at].rarity) == 0 {
            let amount = if self.kind == Kind::Day { 1 + self.random.below(9) } else { 1 };
            self.request(at, amount, Reach::Ask, now + PATIENCE);
        }
        let waiting = std::mem::take(&mut self.nodes[at].waiting);
        for (until, amount) in waiting {
            if heard || now >= until {
                self.nodes[at].meter.with_lease(|lease| lease.waits(amount, false));
                let reach = if now >= until { Reach::Alone } else { Reach::Again };
                self.request(at, amount, reach, until);
            } else {
                self.nodes[at].waiting.push((until, amount));
            }
        }
        let node = &self.nodes[at];
        if node.stream.is_some() && ((node.listed && node.asked.is_none()) || now >= node.next_tick) {
            self.tell(at);
        }
    }

    fn request(&mut self, at: usize, amount: u64, reach: Reach, until: u64) {
        let (now, hold) = (self.now, 50 + self.random.below(3_000));
        let node = &mut self.nodes[at];
        let reach = if node.stream.is_none() { Reach::Alone } else { reach };
        let terms = Terms { limit: LIMIT, strict: true, reach };
        match node.meter.take(terms, amount, clock(node, now)) {
            Ok(taken) => {
                node.listed |= taken.low;
                self.admitted += amount;
                let units = u128::from(amount);
                match self.kind {
                    Kind::Rolling => self.level += units * MINUTE.as_millis(),
                    Kind::Day => {
                        self.level += units;
                        node.running.push((now + hold, amount, amount.min(1 + hold % 9), taken.period));
                    }
                    Kind::InFlight => {
                        self.level += 1;
                        node.running.push((now + hold, 1, 0, taken.period));
                    }
                }
            }
            Err(short) if short.dry => {
                node.meter.with_lease(|lease| lease.waits(amount, true));
                node.waiting.push((until, amount));
                node.listed = true;
            }
            Err(_) => self.refused += amount,
        }
    }

    fn tell(&mut self, at: usize) {
        let delay = 1 + self.random.below(40);
        let node = &mut self.nodes[at];
        let clock = clock(node, self.now);
        let asks = std::mem::take(&mut node.listed);
        let Some(stream) = &mut node.stream else { return };
        stream.seq += 1;
        let told = node.meter.tell(stream.seq, false, clock).map(|(_, told)| told);
        stream.sent.push_back((stream.seq, clock.since));
        let due = stream.up.back().map_or(self.now + delay, |(last, ..)| (self.now + delay).max(*last));
        stream.up.push_back((due, stream.seq, told));
        if asks {
            node.asked = Some(self.now + PATIENCE);
        }
        if self.now >= node.next_tick {
            node.next_tick = self.now + u64::try_from(RENEWAL.as_millis()).unwrap();
        }
    }

    /// Nobody was let through whom one node, counting for all, would have refused.
    fn check(&mut self) {
        let most = match self.kind {
            Kind::Rolling => {
                self.level = self.level.saturating_sub(u128::from(LIMIT * STEP));
                // What happens within a step is of one moment here and of several there.
                (u128::from(LIMIT) * MINUTE.as_millis()) + self.allowance + u128::from(LIMIT * STEP)
            }
            Kind::Day | Kind::InFlight => u128::from(LIMIT),
        };
        if self.kind == Kind::InFlight {
            let running: usize = self.nodes.iter().map(|node| node.running.len()).sum();
            self.level = running as u128;
        }
        assert!(self.level <= most, "{} of {most} at {} ms", self.level, self.now);
    }
}

impl Budget {
    /// As the store does it.
    fn draw(&mut self, boot: Uuid, claim: Claim, period: u64, ends_in: u64) -> PartGrant {
        let limit = i64::try_from(LIMIT).unwrap();
        let holding = self.holdings.entry(boot).or_default();
        let (Move { debt, more, back }, exhausted) = claim.decide(limit, self.granted, *holding);
        let mut change = debt - back;
        if more > 0 && self.granted + change + more <= limit {
            change += more;
        }
        if change != 0 || debt != 0 {
            self.granted += change;
            *holding = Holding { granted: holding.granted + change, version: holding.version + 1 };
        }
        assert!(self.granted <= limit, "more was set aside than there is");
        PartGrant {
            period,
            ends_in: Duration::from_millis(ends_in),
            version: u64::try_from(holding.version).unwrap(),
            held: u64::try_from(holding.granted).unwrap(),
            elsewhere: u64::try_from(self.granted - holding.granted).unwrap(),
            exhausted,
        }
    }
}

fn clock(node: &Node, now: u64) -> Now {
    Now { since: Duration::from_millis(node.skew + now), unix_ms: node.wall + now }
}

fn granted(award: Award) -> Grant {
    let Award { version, share, fallback, base, fill, pending } = award;
    let valid = control_plane::lease::shares::VALID;
    Grant::Share(ShareGrant { version, share, fallback, valid, base, fill, pending })
}

fn setting(name: &str, usual: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

fn schedules(usual: u64) -> impl Iterator<Item = u64> {
    let first = setting("LOCKGATE_SEED", 1);
    // The ledger's schedules are a hundred times shorter than these.
    first..first + std::env::var("LOCKGATE_SCHEDULES").map_or(usual, |_| setting("LOCKGATE_SCHEDULES", 1).div_ceil(100))
}

/// Runs it, and tells the seed of the schedule that fails.
fn told<T>(seed: u64, what: impl std::fmt::Debug, run: impl FnOnce() -> T) -> T {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(run))
        .unwrap_or_else(|_| panic!("LOCKGATE_SEED={seed}: {what:?} failed, see above"))
}

#[test]
fn no_schedule_lets_through_more_than_the_limit() {
    let chaos = [
        CALM,
        Chaos { every: 400, kills: false, cuts: true },
        Chaos { every: 400, kills: true, cuts: false },
        Chaos { every: 200, kills: true, cuts: true },
    ];
    for seed in schedules(12) {
        for kind in [Kind::Rolling, Kind::InFlight, Kind::Day] {
            let nodes = [1, 3, 10][usize::try_from(seed % 3).unwrap()];
            let chaos = chaos[usize::try_from(seed / 3 % 4).unwrap()];
            told(seed, (kind, nodes, chaos), || World::new(kind, nodes, seed).run(120_000, chaos));
        }
    }
}

#[test]
fn nearly_all_of_a_limit_can_be_used_whoever_asks_for_it() {
    for seed in schedules(9) {
        let nodes = [1, 3, 10][usize::try_from(seed % 3).unwrap()];
        let (admitted, refused) = told(seed, nodes, || {
            let mut world = World::new(Kind::Rolling, nodes, seed);
            // Skewed: some ask a hundred times as often as others, and together for more than there is.
            for (at, node) in world.nodes.iter_mut().enumerate() {
                node.rarity = [2, 20, 200][at % 3];
            }
            world.run(60_000, CALM);
            let (admitted, refused) = (world.admitted, world.refused);
            world.run(180_000, CALM);
            (world.admitted - admitted, world.refused - refused)
        });
        assert!(refused > 0, "LOCKGATE_SEED={seed}: {nodes} nodes do not ask for all of it");
        let percent = admitted * 100 / (2 * LIMIT);
        assert!(percent >= 95, "LOCKGATE_SEED={seed}: {percent} % of the limit with {nodes} nodes");
    }
}

#[test]
fn ten_nodes_that_join_within_a_second_share_one_burst() {
    let mut world = World::new(Kind::Rolling, 10, 7);
    for node in &mut world.nodes {
        (node.rarity, node.away) = (1, node.away % 1000);
    }
    world.run(2_500, CALM);
    // All of the burst, and what flows in this time, and no more.
    let flowed = LIMIT * 2_500 / 60_000;
    assert!((LIMIT * 9 / 10..=LIMIT + flowed).contains(&world.admitted), "{}", world.admitted);
}
