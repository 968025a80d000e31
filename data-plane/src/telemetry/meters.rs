//! What is counted on the way of a request: a few additions, each to a number that threads on other cores leave alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::pipeline::account::Outcome;
use crate::stripe::{self, Apart, STRIPES};

/// Upper bounds of histograms, in milliseconds, below the last, which has none.
pub(crate) const BOUNDS: [u64; 13] = [5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 10_000, 30_000, 120_000, 600_000];

/// A sum that may go down. The parts may be negative; read as a whole it is not.
#[derive(Debug, Default)]
pub(crate) struct Gauge([Apart<AtomicU64>; STRIPES]);

impl Gauge {
    pub(crate) fn increase(&self) {
        self.0[stripe::mine()].0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn decrease(&self) {
        self.0[stripe::mine()].0.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn value(&self) -> u64 {
        let sum = self.0.iter().fold(0u64, |sum, part| sum.wrapping_add(part.0.load(Ordering::Relaxed)));
        // A decrease may be seen before its increase.
        if sum > u64::MAX / 2 { 0 } else { sum }
    }
}

/// Durations by size.
#[derive(Debug, Default)]
struct Histogram {
    counts: [AtomicU64; BOUNDS.len() + 1],
    sum_us: AtomicU64,
}

impl Histogram {
    fn add(&self, duration: Duration) {
        let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let place = BOUNDS.iter().position(|bound| us <= bound * 1000).unwrap_or(BOUNDS.len());
        self.counts[place].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(us, Ordering::Relaxed);
    }
}

/// A histogram as it is read.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Durations {
    pub(crate) counts: [u64; BOUNDS.len() + 1],
    pub(crate) sum_us: u64,
}

impl Durations {
    fn add(&mut self, histogram: &Histogram) {
        for (sum, count) in self.counts.iter_mut().zip(&histogram.counts) {
            *sum += count.load(Ordering::Relaxed);
        }
        self.sum_us += histogram.sum_us.load(Ordering::Relaxed);
    }
}

/// How a request ended, for those who count.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    pub(crate) outcome: Outcome,
    pub(crate) duration: Duration,
    /// `None`: no answer came from a vendor.
    pub(crate) first_byte: Option<Duration>,
    pub(crate) received: u64,
    pub(crate) sent: u64,
}

/// The figures of one endpoint.
#[derive(Debug, Default)]
pub(crate) struct EndpointMeters {
    parts: [Apart<EndpointPart>; STRIPES],
}

#[derive(Debug, Default)]
struct EndpointPart {
    outcomes: [AtomicU64; Outcome::ALL.len()],
    durations: Histogram,
    first_bytes: Histogram,
    received: AtomicU64,
    sent: AtomicU64,
    streams_began: AtomicU64,
    streams_ended: AtomicU64,
}

/// The same, added up.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct EndpointFigures {
    pub(crate) outcomes: [u64; Outcome::ALL.len()],
    pub(crate) durations: Durations,
    pub(crate) first_bytes: Durations,
    pub(crate) received: u64,
    pub(crate) sent: u64,
    pub(crate) streams: u64,
}

impl EndpointMeters {
    /// A request has ended.
    pub(crate) fn ended(&self, ended: &Ended) {
        let Ended { outcome, duration, first_byte, received, sent } = *ended;
        let part = &self.parts[stripe::mine()].0;
        part.outcomes[outcome as usize].fetch_add(1, Ordering::Relaxed);
        part.durations.add(duration);
        if let Some(first_byte) = first_byte {
            part.first_bytes.add(first_byte);
        }
        if received > 0 {
            part.received.fetch_add(received, Ordering::Relaxed);
        }
        if sent > 0 {
            part.sent.fetch_add(sent, Ordering::Relaxed);
        }
    }

    /// An answer that is a stream begins.
    pub(crate) fn stream_begins(&self) {
        self.parts[stripe::mine()].0.streams_began.fetch_add(1, Ordering::Relaxed);
    }

    /// It ends.
    pub(crate) fn stream_ends(&self) {
        self.parts[stripe::mine()].0.streams_ended.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn figures(&self) -> EndpointFigures {
        let mut figures = EndpointFigures::default();
        let (mut began, mut ended) = (0, 0);
        for Apart(part) in &self.parts {
            for (sum, count) in figures.outcomes.iter_mut().zip(&part.outcomes) {
                *sum += count.load(Ordering::Relaxed);
            }
            figures.durations.add(&part.durations);
            figures.first_bytes.add(&part.first_bytes);
            figures.received += part.received.load(Ordering::Relaxed);
            figures.sent += part.sent.load(Ordering::Relaxed);
            ended += part.streams_ended.load(Ordering::Relaxed);
            began += part.streams_began.load(Ordering::Relaxed);
        }
        figures.streams = began.saturating_sub(ended);
        figures
    }
}

/// What came of one attempt at a vendor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attempted {
    /// The head of an answer came, whatever its status.
    Answered,
    /// The name has no address.
    Unresolvable,
    /// No address that may be dialled.
    Forbidden,
    /// Nobody takes the connection.
    Refused,
    /// TLS failed.
    Tls,
    /// The connection did not stand in time.
    ConnectTimeout,
    /// No head in time.
    Silent,
    /// The connection broke before a head came.
    Broken,
    /// Nobody waits for the answer any more: the client left, its request failed, or the node stopped.
    Abandoned,
}

impl Attempted {
    /// All of them.
    pub(crate) const ALL: [Self; 9] = [
        Self::Answered,
        Self::Unresolvable,
        Self::Forbidden,
        Self::Refused,
        Self::Tls,
        Self::ConnectTimeout,
        Self::Silent,
        Self::Broken,
        Self::Abandoned,
    ];

    /// Closed label.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Unresolvable => "unresolvable",
            Self::Forbidden => "forbidden",
            Self::Refused => "refused",
            Self::Tls => "tls",
            Self::ConnectTimeout => "connect_timeout",
            Self::Silent => "silent",
            Self::Broken => "broken",
            Self::Abandoned => "abandoned",
        }
    }
}

/// The figures of one provider.
#[derive(Debug, Default)]
pub(crate) struct ProviderMeters {
    attempts: [Apart<[AtomicU64; Attempted::ALL.len()]>; STRIPES],
    /// Connections that stand, idle ones included.
    pub(crate) connections: Gauge,
}

impl ProviderMeters {
    /// An attempt begins; what comes of it is counted when the value goes.
    pub(crate) fn attempt(meters: &Arc<Self>) -> Attempting {
        Attempting { meters: Arc::clone(meters), result: Attempted::Abandoned }
    }

    pub(crate) fn attempts(&self, result: Attempted) -> u64 {
        self.attempts.iter().map(|Apart(part)| part[result as usize].load(Ordering::Relaxed)).sum()
    }
}

/// An attempt on its way.
#[derive(Debug)]
pub(crate) struct Attempting {
    meters: Arc<ProviderMeters>,
    result: Attempted,
}

impl Attempting {
    /// This came of it.
    pub(crate) fn ends(mut self, result: Attempted) {
        self.result = result;
    }
}

impl Drop for Attempting {
    fn drop(&mut self) {
        self.meters.attempts[stripe::mine()].0[self.result as usize].fetch_add(1, Ordering::Relaxed);
    }
}

/// A connection to a provider, counted as long as this lives.
#[derive(Debug)]
pub(crate) struct Connected(Arc<ProviderMeters>);

impl Connected {
    pub(crate) fn new(meters: Arc<ProviderMeters>) -> Self {
        meters.connections.increase();
        Self(meters)
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.connections.decrease();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_threads_count_apart_adds_up() {
        let meters = Arc::new(EndpointMeters::default());
        let gauge = Arc::new(Gauge::default());
        meters.stream_begins();
        gauge.increase();
        let threads: Vec<_> = (0..2 * STRIPES as u64)
            .map(|thread| {
                let (meters, gauge) = (Arc::clone(&meters), Arc::clone(&gauge));
                std::thread::spawn(move || {
                    let ended = Ended {
                        outcome: Outcome::Answered,
                        duration: Duration::from_millis(5),
                        first_byte: (thread % 2 == 0).then_some(Duration::from_micros(5_001)),
                        received: 3,
                        sent: thread,
                    };
                    meters.ended(&ended);
                    gauge.increase();
                    gauge.decrease();
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        std::thread::spawn({
            let (meters, gauge) = (Arc::clone(&meters), Arc::clone(&gauge));
            move || {
                assert_eq!((meters.figures().streams, gauge.value()), (1, 1));
                meters.stream_ends();
                gauge.decrease();
            }
        })
        .join()
        .unwrap();
        let (figures, count) = (meters.figures(), 2 * STRIPES as u64);
        assert_eq!((figures.streams, gauge.value()), (0, 0));
        assert_eq!(figures.outcomes[Outcome::Answered as usize], count);
        assert_eq!((figures.received, figures.sent), (3 * count, count * (count - 1) / 2));
        assert_eq!(
            (figures.durations.counts[0], figures.durations.sum_us),
            (count, 5_000 * count),
            "bounds are within"
        );
        assert_eq!((figures.first_bytes.counts[0], figures.first_bytes.counts[1]), (0, count / 2));
    }

    #[test]
    fn an_attempt_that_nobody_ends_was_abandoned() {
        let meters = Arc::new(ProviderMeters::default());
        ProviderMeters::attempt(&meters).ends(Attempted::Silent);
        drop(ProviderMeters::attempt(&meters));
        let counted = Attempted::ALL.map(|result| meters.attempts(result));
        assert_eq!(counted, [0, 0, 0, 0, 0, 0, 1, 0, 1]);
    }
}
