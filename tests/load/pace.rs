//! Requests at a fixed rate, whatever becomes of them: an open loop. A request's time counts from when it was due, so
//! that an answer that is late delays nobody's clock but its own, and is not left out either.

use std::{
    collections::VecDeque,
    fs,
    io::{ErrorKind, Write as _},
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use tokio::{io::AsyncReadExt as _, net::TcpStream, task::JoinSet};

use crate::answer::Answer;

/// Enough that a request finds an idle one unless the subject has come to a halt.
const CONNECTIONS: usize = 128;
/// Answers that come later than this after the last request end the measurement.
const PATIENCE: Duration = Duration::from_secs(20);

/// What is sent, and how often.
pub(crate) struct Plan<'a> {
    pub(crate) address: SocketAddr,
    /// By lane: a connection sends the same request again and again.
    pub(crate) request: &'a dyn Fn(usize) -> Vec<u8>,
    /// Of the answer's body.
    pub(crate) body: usize,
    pub(crate) per_second: f64,
    pub(crate) seconds: f64,
}

/// Microseconds since each request was due.
#[derive(Debug, Default)]
pub(crate) struct Times {
    pub(crate) first_byte: Vec<f64>,
    pub(crate) whole: Vec<f64>,
}

struct Lane {
    writer: std::net::TcpStream,
    request: Vec<u8>,
    /// Nanoseconds from the start to when the request under way was due.
    due: AtomicU64,
}

struct Shared {
    start: Instant,
    lanes: Vec<Lane>,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    idle: Vec<usize>,
    /// Due, and no connection idle.
    waiting: VecDeque<u64>,
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn send(&self, lane: usize, due: u64) -> std::io::Result<()> {
        let lane = &self.lanes[lane];
        lane.due.store(due, Ordering::Release);
        // An empty buffer takes a request of a few kilobytes whole.
        match (&lane.writer).write(&lane.request)? {
            all if all == lane.request.len() => Ok(()),
            _ => Err(ErrorKind::WriteZero.into()),
        }
    }
}

/// Opens the connections, warms them up, and sends until the time is over and everything is answered.
pub(crate) async fn run(plan: &Plan<'_>) -> anyhow::Result<Times> {
    let (mut lanes, mut readers) = (Vec::new(), Vec::new());
    for lane in 0..CONNECTIONS {
        let stream = std::net::TcpStream::connect(plan.address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        readers.push(TcpStream::from_std(stream.try_clone()?)?);
        lanes.push(Lane { writer: stream, request: (plan.request)(lane), due: AtomicU64::new(0) });
    }
    let total = (plan.per_second * plan.seconds) as u64;
    let shared = Arc::new(Shared { start: Instant::now(), lanes, queue: Mutex::default() });
    // One each, so that connections to the upstream stand as well.
    for (lane, reader) in readers.iter_mut().enumerate() {
        shared.send(lane, 0)?;
        answer(reader, &shared, plan.body).await.context("warming up")?;
    }
    shared.queue().idle.extend(0..CONNECTIONS);
    let begin = shared.now() + 20_000_000;
    let gap = 1e9 / plan.per_second;
    let sender = thread::spawn({
        let shared = Arc::clone(&shared);
        move || send(&shared, (0..total).map(|number| begin + (number as f64 * gap) as u64))
    });
    let mut tasks = JoinSet::new();
    let left = Arc::new(AtomicU64::new(total));
    let done = Arc::new(tokio::sync::Notify::new());
    for (lane, reader) in readers.into_iter().enumerate() {
        tasks.spawn_local(receive(lane, reader, Arc::clone(&shared), plan.body, Arc::clone(&left), Arc::clone(&done)));
    }
    let limit = Duration::from_secs_f64(plan.seconds) + PATIENCE;
    let mut times = Times::default();
    let all = async {
        while let Some(part) = tasks.join_next().await {
            let part = part??;
            times.first_byte.extend(part.first_byte);
            times.whole.extend(part.whole);
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(limit, all).await.context("answers are missing")??;
    sender.join().map_err(|_| anyhow::anyhow!("the sender panicked"))??;
    ensure!(times.whole.len() as u64 == total, "{} answers to {total} requests", times.whole.len());
    Ok(times)
}

/// A thread of its own: it sleeps to the microsecond, which a timer of the runtime does not.
fn send(shared: &Shared, dues: impl Iterator<Item = u64>) -> std::io::Result<()> {
    sleep_exactly();
    for due in dues {
        if let Some(pause) = due.checked_sub(shared.now()) {
            thread::sleep(Duration::from_nanos(pause));
        }
        let mut queue = shared.queue();
        match queue.idle.pop() {
            Some(lane) => {
                drop(queue);
                shared.send(lane, due)?;
            }
            None => queue.waiting.push_back(due),
        }
    }
    Ok(())
}

/// The kernel may add 50 us to a sleep unless told otherwise. Where it cannot be told, all subjects are late alike.
fn sleep_exactly() {
    let thread = fs::read_link("/proc/thread-self").unwrap_or_default();
    if let Some(id) = thread.file_name() {
        let _ = fs::write(std::path::Path::new("/proc").join(id).join("timerslack_ns"), "1");
    }
}

async fn receive(
    lane: usize,
    mut reader: TcpStream,
    shared: Arc<Shared>,
    body: usize,
    left: Arc<AtomicU64>,
    done: Arc<tokio::sync::Notify>,
) -> anyhow::Result<Times> {
    let mut times = Times::default();
    loop {
        let over = done.notified();
        tokio::pin!(over);
        // Registered before the count is looked at, so that the last answer's notice is not missed.
        over.as_mut().enable();
        if left.load(Ordering::Acquire) == 0 {
            return Ok(times);
        }
        let (first, whole) = tokio::select! {
            answered = answer(&mut reader, &shared, body) => answered?,
            () = over => return Ok(times),
        };
        let due = shared.lanes[lane].due.load(Ordering::Acquire);
        times.first_byte.push(first.saturating_sub(due) as f64 / 1e3);
        times.whole.push(whole.saturating_sub(due) as f64 / 1e3);
        if left.fetch_sub(1, Ordering::AcqRel) == 1 {
            done.notify_waiters();
            return Ok(times);
        }
        let mut queue = shared.queue();
        match queue.waiting.pop_front() {
            Some(due) => {
                drop(queue);
                shared.send(lane, due)?;
            }
            None => queue.idle.push(lane),
        }
    }
}

/// When the first byte of its body came, and the last.
async fn answer(reader: &mut TcpStream, shared: &Shared, body: usize) -> anyhow::Result<(u64, u64)> {
    let mut answer = Answer::default();
    let mut buffer = [0; 16 << 10];
    let mut first = None;
    while !answer.is_done() {
        let read = reader.read(&mut buffer).await?;
        ensure!(read > 0, "the connection was closed in mid-answer");
        answer.take(&buffer[..read])?;
        if answer.body > 0 {
            first.get_or_insert_with(|| shared.now());
        }
    }
    ensure!(answer.body == body, "{} bytes of {body}", answer.body);
    let now = shared.now();
    Ok((first.unwrap_or(now), now))
}
