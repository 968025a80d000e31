//! One line for each request, on its way out: written into memory by the worker that served it, and from there to the
//! log in large pieces by a thread of its own. A reader that stands still holds up no request: what does not fit in
//! the meantime is dropped, counted and said.

mod line;

use std::fmt;
use std::io::{self, Write as _};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use self::line::Stamp;
pub(crate) use self::line::{Format, Line, Value};

/// How long a line waits for company at most.
const GATHER: Duration = Duration::from_millis(100);
/// So many bytes of one worker are written at once.
const PIECE: usize = 64 * 1024;
/// So many of one worker wait; beyond it lines are dropped.
const BOUND: usize = 4 * 1024 * 1024;
/// How long a stopping node waits for a reader that stands still.
const FAREWELL: Duration = Duration::from_secs(2);

/// Where lines go.
#[derive(Clone)]
pub struct Output(Arc<Write>);

type Write = dyn Fn(&[u8]) -> io::Result<()> + Send + Sync;

impl Output {
    /// Hands whole lines to `write`, on a thread of its own.
    pub fn new(write: impl Fn(&[u8]) -> io::Result<()> + Send + Sync + 'static) -> Self {
        Self(Arc::new(write))
    }
}

impl Default for Output {
    /// The standard error, where the rest of the log goes: whole lines, never one inside another.
    fn default() -> Self {
        Self::new(|lines| {
            let mut stderr = io::stderr().lock();
            stderr.write_all(lines).and_then(|()| stderr.flush())
        })
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Output")
    }
}

/// Takes the lines of all workers. Cheap to clone; never waits for a reader.
#[derive(Clone)]
pub(crate) struct RequestLog(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    format: Format,
    /// By worker: no two of them meet at a lock.
    parts: Box<[Mutex<Part>]>,
    wake: Mutex<Wake>,
    woken: Condvar,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct Part {
    lines: Vec<u8>,
    stamp: Stamp,
}

/// What the thread is waiting for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Wake {
    /// There is nothing.
    #[default]
    Idle,
    /// There is something; more may come.
    Lines,
    /// There is enough to write it now.
    Piece,
    Stop,
}

/// The thread behind a [`RequestLog`]; ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Writing {
    shared: Arc<Shared>,
    ended: oneshot::Receiver<()>,
}

/// Starts the thread.
pub(crate) fn start(format: Format, output: Output, workers: NonZeroUsize) -> io::Result<(RequestLog, Writing)> {
    let shared = Arc::new(Shared {
        format,
        parts: (0..workers.get()).map(|_| Mutex::default()).collect(),
        wake: Mutex::default(),
        woken: Condvar::new(),
        dropped: AtomicU64::new(0),
    });
    let (end, ended) = oneshot::channel();
    let writer = Arc::clone(&shared);
    thread::Builder::new().name("request-log".to_owned()).spawn(move || {
        writer.write(&output);
        // Nobody may be waiting.
        let _ = end.send(());
    })?;
    Ok((RequestLog(Arc::clone(&shared)), Writing { shared, ended }))
}

impl RequestLog {
    /// Writes a line of this worker.
    pub(crate) fn write(&self, worker: usize, line: &Line<'_>) {
        let shared = &*self.0;
        let mut part = lock(&shared.parts[worker]);
        let Part { lines, stamp } = &mut *part;
        let before = lines.len();
        if before >= BOUND {
            shared.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        line.write(shared.format, stamp, lines);
        let after = lines.len();
        drop(part);
        if before == 0 {
            shared.wake(Wake::Lines);
        }
        if before < PIECE && after >= PIECE {
            shared.wake(Wake::Piece);
        }
    }

    /// Lines that were not written, because their reader stood still or is gone.
    pub(crate) fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }
}

impl Writing {
    /// Writes what is there, if its reader takes it, and ends the thread.
    pub(crate) async fn shutdown(mut self) {
        self.shared.wake(Wake::Stop);
        if timeout(FAREWELL, &mut self.ended).await.is_err() {
            tracing::error!("the request log was not taken to its end");
        }
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.shared.wake(Wake::Stop);
    }
}

impl Shared {
    fn wake(&self, reason: Wake) {
        let mut wake = lock(&self.wake);
        if *wake < reason {
            *wake = reason;
            self.woken.notify_one();
        }
    }

    /// Until there is something to write and it is time to; whether it is the last time.
    fn wait(&self) -> bool {
        let idle = |wake: &mut Wake| *wake == Wake::Idle;
        let wake = self.woken.wait_while(lock(&self.wake), idle).unwrap_or_else(PoisonError::into_inner);
        let gathering = |wake: &mut Wake| *wake == Wake::Lines;
        let gathered = self.woken.wait_timeout_while(wake, GATHER, gathering);
        let (mut wake, _) = gathered.unwrap_or_else(PoisonError::into_inner);
        let stop = *wake == Wake::Stop;
        if !stop {
            *wake = Wake::Idle;
        }
        stop
    }

    fn write(&self, output: &Output) {
        let (mut piece, mut told) = (Vec::new(), 0);
        loop {
            let last = self.wait();
            for part in &self.parts {
                std::mem::swap(&mut piece, &mut lock(part).lines);
                if !piece.is_empty() && (output.0)(&piece).is_err() {
                    let lines = memchr::memchr_iter(b'\n', &piece).count();
                    self.dropped.fetch_add(lines as u64, Ordering::Relaxed);
                }
                piece.clear();
                piece.shrink_to(2 * PIECE);
            }
            let dropped = self.dropped.load(Ordering::Relaxed);
            // Once per doubling: a flood of losses must not become a flood of lines.
            if dropped.next_power_of_two() > told {
                told = dropped.next_power_of_two() * u64::from(dropped > 0);
                if dropped > 0 {
                    tracing::warn!(dropped, "lines of the request log are dropped: nobody takes them fast enough");
                }
            }
            if last {
                return;
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whole after every statement: a panic elsewhere does not spoil it.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn one() -> NonZeroUsize {
        NonZeroUsize::MIN
    }

    fn line(message: &str, write: impl Fn(&Line<'_>)) {
        write(&Line { at_us: 0, target: "t", message: &[message], fields: &[] });
    }

    #[tokio::test]
    async fn lines_come_out_in_order_and_the_last_ones_at_the_end() {
        let kept = Arc::new(Mutex::new(Vec::new()));
        let keep = Arc::clone(&kept);
        let output = Output::new(move |lines| {
            lock(&keep).extend_from_slice(lines);
            Ok(())
        });
        let (log, writing) = start(Format::Text, output, one()).unwrap();
        for number in 0..10_000 {
            line(&format!("number {number}"), |line| log.write(0, line));
        }
        writing.shutdown().await;
        let text = String::from_utf8(lock(&kept).clone()).unwrap();
        let numbers: Vec<u32> = text.lines().map(|line| line.rsplit_once(' ').unwrap().1.parse().unwrap()).collect();
        assert_eq!(numbers, (0..10_000).collect::<Vec<_>>());
        assert_eq!(log.dropped(), 0);
    }

    #[tokio::test]
    async fn a_reader_that_stands_still_costs_lines_and_not_memory() {
        let (release, held) = mpsc::channel::<()>();
        let held = Mutex::new(held);
        let output = Output::new(move |_| {
            // Until the sender is gone.
            let _ = lock(&held).recv();
            Ok(())
        });
        let (log, writing) = start(Format::Text, output, one()).unwrap();
        let long = "x".repeat(64 * 1024);
        let mut sent = 0_u64;
        // What was taken already, and as much again as may wait.
        while log.dropped() == 0 {
            line(&long, |line| log.write(0, line));
            sent += 1;
            assert!(sent < 1_000, "there must be a bound");
        }
        assert!(sent * 64 * 1024 > BOUND as u64);
        line(&long, |line| log.write(0, line));
        assert_eq!(log.dropped(), 2);
        drop(release);
        writing.shutdown().await;
    }

    #[tokio::test]
    async fn lines_that_cannot_be_written_are_counted() {
        let output = Output::new(|_| Err(io::ErrorKind::BrokenPipe.into()));
        let (log, writing) = start(Format::Json, output, one()).unwrap();
        for _ in 0..3 {
            line("x", |line| log.write(0, line));
        }
        writing.shutdown().await;
        assert_eq!(log.dropped(), 3);
    }
}
