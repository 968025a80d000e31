//! The ledger under random schedules: requests that end in every way, nodes that are killed at every point, control
//! planes that are killed, streams that break with batches and acknowledgements on them, batches that arrive again and
//! late, disks without room. Queue, spool, starts and recovery are the real ones, on a real directory; the network and
//! the control plane's rule for counting a batch are played, and one seed is one schedule.
//!
//! In the end everything that reached the vendor is in the ledger exactly once: with what the vendor counted where its
//! record was on disk when its node died, and as unsettled otherwise.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use http::Method;
use prost::Message as _;
use proto::usage::{UsageBatch, UsageRecord};
use uuid::Uuid;

use super::queue::Queue;
use super::spool::{Bounds, Number, Spool};
use super::starts::Starts;
use super::{WINDOW, open, wire};
use crate::pipeline::account::{Entry, Outcome, Record, Start};

const WORKERS: usize = 2;
const STEPS: u64 = 60;

/// `SplitMix64`: a schedule is its seed.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let value = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn place(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap()
    }
}

/// The vendor: it knows what it was sent and what it charged for.
#[derive(Default)]
struct Vendor {
    received: BTreeSet<Uuid>,
    charged: BTreeMap<Uuid, u64>,
}

/// The control plane: a batch is counted whole, once, in order; a record is counted once.
#[derive(Default)]
struct Ledger {
    cursors: HashMap<Vec<u8>, u64>,
    received: HashMap<Vec<u8>, u64>,
    records: HashMap<Uuid, UsageRecord>,
    /// The node's disk is small: batches may have to wait in memory.
    memory: bool,
}

impl Ledger {
    fn ingest(&mut self, batch: &UsageBatch) {
        let cursor = self.cursors.entry(batch.boot.to_vec()).or_default();
        if batch.seq <= *cursor {
            return;
        }
        // A batch that was in memory alone died with its process; its requests are told as unsettled.
        let missing = batch.seq - *cursor - 1;
        assert!(missing == 0 || self.memory, "{missing} batches are missing before {}", batch.seq);
        *cursor = batch.seq;
        let received = self.received.entry(batch.boot.to_vec()).or_default();
        *received += batch.records.len() as u64;
        let books = batch.books.as_ref().expect("a node keeps books");
        if missing > 0 {
            *received = books.records;
        }
        assert_eq!(books.records, *received, "what the node numbered is what came");
        assert_eq!(books.started, books.settled + books.in_flight + books.unsettled, "{books:?}");
        for record in &batch.records {
            let id = Uuid::from_slice(&record.id).unwrap();
            self.records.entry(id).or_insert_with(|| record.clone());
        }
    }
}

/// A process of the node.
struct Node {
    queue: Queue,
    spool: Spool,
    starts: Arc<Starts>,
    /// Begun and not ended.
    open: Vec<(Uuid, Entry)>,
    /// Batches on the stream that stands, and acknowledgements that come back on it.
    sent: VecDeque<UsageBatch>,
    acks: VecDeque<Number>,
    in_flight: usize,
}

struct World {
    dice: Dice,
    directory: PathBuf,
    bounds: Bounds,
    boots: u128,
    ids: u128,
    vendor: Vendor,
    ledger: Ledger,
    /// Batches on streams that broke: the control plane may have read them, and counts them when it gets to it.
    late: Vec<UsageBatch>,
    /// Records on disk: a kill changes nothing about them.
    safe: BTreeSet<Uuid>,
}

impl World {
    fn start(&mut self) -> Node {
        self.boots += 1;
        let boot = Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0000 + self.boots);
        let (spool, starts) = open(self.directory.clone(), "node".to_owned(), boot, self.bounds, WORKERS, false);
        assert_eq!(spool.damaged(), 0);
        Node {
            queue: Queue::default(),
            spool,
            starts,
            open: Vec::new(),
            sent: VecDeque::new(),
            acks: VecDeque::new(),
            in_flight: 0,
        }
    }

    fn step(&mut self, node: &mut Node) {
        match self.dice.below(20) {
            0..=5 => self.begin(node),
            6..=10 => self.end(node),
            11 => refuse(node, self.id()),
            12..=13 => self.gather(node),
            14..=15 => send(node),
            16 => self.arrive(node),
            17 => acknowledge(node),
            18 => self.break_off(node),
            _ => self.late_batch(),
        }
        let books = node.starts.books();
        assert_eq!(books.started, books.settled + books.in_flight + books.unsettled, "drift: {books:?}");
        assert_eq!(books.unwritten, 0);
    }

    fn id(&mut self) -> Uuid {
        self.ids += 1;
        Uuid::from_u128(self.ids)
    }

    fn begin(&mut self, node: &mut Node) {
        let id = self.id();
        let start = Start {
            worker: self.dice.place(WORKERS),
            id,
            started_at_us: 1,
            endpoint_id: Uuid::from_u128(1),
            api_key_id: Uuid::from_u128(2),
            provider_id: Uuid::from_u128(3),
            revision: 1,
            method: "POST",
            model: None,
            path: "/v1/chat/completions",
        };
        let entry = node.starts.begin(&start).unwrap();
        // Killed in between: told as unsettled though nothing was sent, which nobody can know.
        self.vendor.received.insert(id);
        node.open.push((id, entry));
    }

    fn end(&mut self, node: &mut Node) {
        if node.open.is_empty() {
            return;
        }
        let (id, entry) = node.open.swap_remove(self.dice.place(node.open.len()));
        let outcome = [Outcome::Answered, Outcome::ClientGone, Outcome::UpstreamBroken, Outcome::UpstreamFailed]
            [self.dice.place(4)];
        let tokens = matches!(outcome, Outcome::Answered | Outcome::ClientGone).then(|| self.dice.below(1_000));
        if let Some(tokens) = tokens {
            self.vendor.charged.insert(id, tokens);
        }
        assert!(node.queue.put(record(id, outcome, tokens, Some(entry))));
    }

    fn gather(&mut self, node: &mut Node) {
        for records in node.queue.take() {
            let ids: Vec<Uuid> = records.iter().map(|record| record.id).collect();
            let settles = records.iter().filter_map(|record| record.start).collect();
            let records = records.into_iter().map(wire::usage_record).collect();
            if node.spool.append(records, settles).is_ok_and(|kept| kept.on_disk) {
                self.safe.extend(ids);
            }
        }
    }

    /// The control plane counts the next batch of the stream, and says so.
    fn arrive(&mut self, node: &mut Node) {
        if let Some(batch) = node.sent.pop_front() {
            self.ledger.ingest(&batch);
            node.acks.push_back(Number { boot: Uuid::from_slice(&batch.boot).unwrap(), seq: batch.seq });
        }
    }

    /// The stream breaks, or the control plane is killed: what is on the wire is lost, or was read and is counted late.
    fn break_off(&mut self, node: &mut Node) {
        for batch in node.sent.drain(..) {
            if self.dice.below(2) == 0 {
                self.late.push(batch);
            }
        }
        node.acks.clear();
        node.in_flight = 0;
    }

    fn late_batch(&mut self) {
        if !self.late.is_empty() {
            // In the order in which they were read; once more, if the dice say so.
            let batch = if self.dice.below(4) == 0 { self.late[0].clone() } else { self.late.remove(0) };
            // A node that has moved on would say a gap: those before it were counted or come again on another stream.
            let cursor = self.ledger.cursors.get(&batch.boot.to_vec()).copied().unwrap_or_default();
            if batch.seq <= cursor + 1 {
                self.ledger.ingest(&batch);
            }
        }
    }

    /// SIGKILL. What is in memory is gone; what was being written may have got to any point.
    fn kill(&mut self, mut node: Node) {
        self.break_off(&mut node);
        match self.dice.below(3) {
            // While a batch was being appended: it is on disk, its starts are not marked.
            0 => {
                let marks = files(&self.directory, "settled");
                let marks: Vec<_> = marks.into_iter().map(|path| (fs::read(&path).unwrap(), path)).collect();
                self.gather(&mut node);
                drop(node);
                for (bytes, path) in marks {
                    fs::write(path, bytes).unwrap();
                }
            }
            // While a frame was being written: the end of the newest segment is torn.
            1 => {
                let before = sizes(&self.directory);
                let safe = self.safe.clone();
                self.gather(&mut node);
                drop(node);
                // The torn frame's starts were not marked yet.
                let grown: Vec<_> = sizes(&self.directory)
                    .into_iter()
                    .filter(|(path, size)| *size > before.get(path).copied().unwrap_or_default())
                    .collect();
                if !grown.is_empty() {
                    self.safe = safe;
                    for (path, size) in grown {
                        let from = before.get(&path).copied().unwrap_or_default();
                        let torn = from + self.dice.below(size - from);
                        fs::OpenOptions::new().write(true).open(path).unwrap().set_len(torn).unwrap();
                    }
                    for path in files(&self.directory, "settled") {
                        // Marks of the torn batch were never written; older ones are older than any that is open.
                        self.unmark(&path);
                    }
                }
            }
            _ => drop(node),
        }
    }

    /// Takes back the marks of starts whose records are not on disk.
    fn unmark(&self, path: &Path) {
        let (mut marks, starts) = (fs::read(path).unwrap(), fs::read(path.with_extension("starts")).unwrap());
        for (slot, entry) in starts.chunks(256).enumerate() {
            let id = entry.get(28..44).and_then(|id| Uuid::from_slice(id).ok());
            if let (Some(id), Some(mark)) = (id, marks.get_mut(slot * 8..slot * 8 + 8))
                && !self.safe.contains(&id)
            {
                mark.fill(0);
            }
        }
        fs::write(path, marks).unwrap();
    }

    /// Without further misfortune everything gets through.
    fn drain(&mut self, node: &mut Node) {
        self.break_off(node);
        while !self.late.is_empty() {
            self.late_batch();
        }
        self.gather(node);
        while node.spool.len() > 0 {
            send(node);
            self.arrive(node);
            acknowledge(node);
        }
    }

    fn stop(&mut self, mut node: Node) {
        while !node.open.is_empty() {
            self.end(&mut node);
        }
        self.drain(&mut node);
        let books = node.starts.books();
        assert_eq!((books.in_flight, books.started), (0, books.settled + books.unsettled));
        node.starts.close();
    }
}

fn send(node: &mut Node) {
    if node.in_flight < WINDOW
        && let Some(Ok(batch)) = node.spool.get(node.in_flight)
    {
        node.sent.push_back(UsageBatch::decode(batch).expect("what was spooled is a batch"));
        node.in_flight += 1;
    }
}

fn acknowledge(node: &mut Node) {
    if let Some(number) = node.acks.pop_front() {
        node.in_flight -= node.spool.acknowledge(number).batches;
    }
}

/// Refused before anything was sent: no start.
fn refuse(node: &Node, id: Uuid) {
    assert!(node.queue.put(record(id, Outcome::Refused, None, None)));
}

fn record(id: Uuid, outcome: Outcome, tokens: Option<u64>, start: Option<Entry>) -> Record {
    Record {
        admitted: start.is_some(),
        outcome,
        input_tokens: tokens,
        output_tokens: tokens,
        method: Method::POST,
        start,
        ..super::queue::tests::record(id.as_u128())
    }
}

fn files(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let paths = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|found| found == extension)).collect()
}

fn sizes(directory: &Path) -> BTreeMap<PathBuf, u64> {
    let sizes = files(directory, "usage").into_iter();
    sizes.map(|path| (path.clone(), fs::metadata(path).unwrap().len())).collect()
}

/// Plays one schedule; how many requests there were, and how many of them are told as unsettled.
fn play(seed: u64, directory: &Path) -> (usize, usize) {
    let mut dice = Dice(seed);
    let bounds = match dice.below(4) {
        // Disks that are full sooner or later, with little memory to fall back on.
        0 => Bounds { disk: 200 + dice.below(2_000), segment: 300, memory: dice.below(800) },
        1 => Bounds { disk: 1 << 20, segment: 100, memory: 1 << 20 },
        _ => Bounds::default(),
    };
    let mut world = World {
        dice,
        directory: directory.to_owned(),
        bounds,
        boots: 0,
        ids: 0,
        vendor: Vendor::default(),
        ledger: Ledger { memory: bounds.disk < 1 << 20, ..Ledger::default() },
        late: Vec::new(),
        safe: BTreeSet::new(),
    };
    for _ in 0..=world.dice.below(4) {
        let mut node = world.start();
        for _ in 0..world.dice.below(STEPS) {
            world.step(&mut node);
        }
        match world.dice.below(3) {
            0 => world.stop(node),
            _ => world.kill(node),
        }
    }
    // What a full disk kept from being told is told by and by, once there is room.
    world.bounds = Bounds::default();
    for _ in 0..2 {
        let node = world.start();
        world.stop(node);
    }
    assert_eq!(fs::read_dir(directory).unwrap().count(), 0, "nothing is left to be told");
    let World { vendor, ledger, safe, .. } = world;
    let told: BTreeSet<Uuid> = ledger.records.iter().filter(|(_, it)| it.admitted).map(|(id, _)| *id).collect();
    assert_eq!(told, vendor.received, "everything that was sent is in the ledger, and nothing else");
    let mut unsettled = 0;
    for (id, record) in ledger.records.iter().filter(|(_, record)| record.admitted) {
        if record.unsettled {
            assert!(!safe.contains(id), "{id} was on disk");
            assert_eq!((record.input_tokens, record.output_tokens), (None, None), "nothing is invented");
            unsettled += 1;
        } else {
            assert_eq!(record.input_tokens, vendor.charged.get(id).copied(), "{id} costs what the vendor counted");
        }
    }
    for id in &safe {
        assert!(ledger.records.get(id).is_some_and(|record| !record.unsettled), "{id} was on disk and is lost");
    }
    (told.len(), unsettled)
}

#[test]
fn the_ledger_equals_what_the_vendor_counted_under_every_schedule() {
    let schedules = std::env::var("LOCKGATE_SCHEDULES").ok().and_then(|count| count.parse().ok()).unwrap_or(2_000_u64);
    let first = std::env::var("LOCKGATE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0_u64);
    // In memory, where that is to be had: the device is not what is tried here.
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
    let (mut requests, mut unsettled) = (0, 0);
    for seed in first..first + schedules {
        let directory = folder.path().join(seed.to_string());
        fs::create_dir(&directory).unwrap();
        let played = std::panic::catch_unwind(|| play(seed, &directory));
        let (told, open) = played.unwrap_or_else(|_| panic!("schedule {seed}: run it with LOCKGATE_SEED={seed}"));
        requests += told;
        unsettled += open;
        fs::remove_dir(&directory).unwrap();
    }
    assert!(unsettled > 0 && unsettled < requests, "{unsettled} of {requests} requests are unsettled");
    tracing::info!(schedules, requests, unsettled, "the ledger balances");
}
