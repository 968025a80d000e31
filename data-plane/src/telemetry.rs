//! Counters of one node and their text form. Labels come from closed sets, never from clients.

pub(crate) mod process;

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crate::error::Refusal;
use crate::listener::close::Close;
use crate::pipeline::account::Outcome;

/// Upper bounds of the duration histogram, in milliseconds.
const BUCKETS: [u64; 12] = [5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 10_000, 60_000, 600_000];

/// The counters.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    outcomes: [AtomicU64; Outcome::ALL.len()],
    refusals: Refusals,
    closes: [AtomicU64; Close::ALL.len()],
    stream_resets: AtomicU64,
    /// Certificates read anew: refused, served.
    tls_reloads: [AtomicU64; 2],
    durations: [AtomicU64; BUCKETS.len() + 1],
    duration_us: AtomicU64,
    received_bytes: AtomicU64,
    sent_bytes: AtomicU64,
    /// Requests being answered.
    pub(crate) in_flight: AtomicUsize,
    /// Client connections open.
    pub(crate) connections: AtomicUsize,
}

/// One for each reason. There are more than the standard library makes defaults for.
#[derive(Debug)]
struct Refusals([AtomicU64; Refusal::ALL.len()]);

impl Default for Refusals {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

/// What only the gateway knows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gauges {
    /// `None`: nothing is served yet.
    pub(crate) revision: Option<u64>,
    pub(crate) idle_upstream_connections: usize,
    pub(crate) held_bytes: u64,
    pub(crate) held_bytes_limit: u64,
}

impl Metrics {
    /// A request has ended.
    pub(crate) fn ended(
        &self,
        outcome: Outcome,
        refusal: Option<Refusal>,
        duration: Duration,
        received: u64,
        sent: u64,
    ) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.outcomes[outcome as usize].fetch_add(1, Ordering::Relaxed);
        if let Some(refusal) = refusal {
            self.refusals.0[refusal as usize].fetch_add(1, Ordering::Relaxed);
        }
        let milliseconds = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let bucket = BUCKETS.iter().position(|bound| milliseconds < *bound).unwrap_or(BUCKETS.len());
        self.durations[bucket].fetch_add(1, Ordering::Relaxed);
        let microseconds = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.duration_us.fetch_add(microseconds, Ordering::Relaxed);
        self.received_bytes.fetch_add(received, Ordering::Relaxed);
        self.sent_bytes.fetch_add(sent, Ordering::Relaxed);
    }

    /// We end a client's connection.
    pub(crate) fn closed(&self, close: Close) {
        self.closes[close as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// We end a stream, because the client takes nothing of its answer.
    pub(crate) fn stream_reset(&self) {
        self.stream_resets.fetch_add(1, Ordering::Relaxed);
    }

    /// Certificates were read anew, and are served or not.
    pub(crate) fn tls_reloaded(&self, served: bool) {
        self.tls_reloads[usize::from(served)].fetch_add(1, Ordering::Relaxed);
    }

    /// Prometheus's text format.
    pub(crate) fn render(&self, gauges: Gauges) -> String {
        let mut text = Text::default();
        text.family("lockgate_requests_total", "counter", "Requests by how they ended.");
        for outcome in Outcome::ALL {
            let count = self.outcomes[outcome as usize].load(Ordering::Relaxed);
            text.line(format_args!("lockgate_requests_total{{outcome=\"{}\"}} {count}", outcome.label()));
        }
        text.family("lockgate_refusals_total", "counter", "Requests that Lockgate answered by itself, by reason.");
        for refusal in Refusal::ALL {
            let count = self.refusals.0[refusal as usize].load(Ordering::Relaxed);
            text.line(format_args!("lockgate_refusals_total{{refusal=\"{}\"}} {count}", refusal.label()));
        }
        text.family("lockgate_connections_closed_total", "counter", "Client connections that were ended by the node.");
        for close in Close::ALL {
            let count = load(&self.closes[close as usize]);
            text.line(format_args!("lockgate_connections_closed_total{{reason=\"{}\"}} {count}", close.label()));
        }
        let resets = load(&self.stream_resets);
        text.single("lockgate_streams_reset_total", "counter", "HTTP/2 streams whose client took nothing.", resets);
        text.family("lockgate_tls_reloads_total", "counter", "Certificates read anew, by what became of them.");
        for (result, count) in ["refused", "served"].iter().zip(&self.tls_reloads) {
            text.line(format_args!("lockgate_tls_reloads_total{{result=\"{result}\"}} {}", load(count)));
        }
        self.histogram(&mut text);
        let (received, sent) = (&self.received_bytes, &self.sent_bytes);
        text.single("lockgate_request_body_bytes_total", "counter", "Bytes of request bodies.", load(received));
        text.single("lockgate_response_body_bytes_total", "counter", "Bytes of answers' bodies.", load(sent));
        let in_flight = self.in_flight.load(Ordering::Relaxed) as u64;
        text.single("lockgate_requests_in_flight", "gauge", "Requests being answered.", in_flight);
        let connections = self.connections.load(Ordering::Relaxed) as u64;
        text.single("lockgate_connections", "gauge", "Client connections open.", connections);
        let idle = gauges.idle_upstream_connections as u64;
        text.single("lockgate_upstream_connections_idle", "gauge", "Upstream connections waiting for a request.", idle);
        text.single("lockgate_held_bytes", "gauge", "Bytes that requests in flight hold.", gauges.held_bytes);
        let limit = gauges.held_bytes_limit;
        text.single("lockgate_held_bytes_limit", "gauge", "More than this is not held: requests are refused.", limit);
        let process = process::Process::now();
        text.single("process_resident_memory_bytes", "gauge", "Memory of the process.", process.resident_bytes);
        text.single("process_open_fds", "gauge", "Open files and connections.", process.open_files);
        text.family("process_cpu_seconds_total", "counter", "User and system time of the process.");
        text.line(format_args!("process_cpu_seconds_total {:.2}", process.cpu_seconds));
        text.single("lockgate_ready", "gauge", "Whether a configuration is served.", gauges.revision.is_some().into());
        let revision = gauges.revision.unwrap_or_default();
        text.single("lockgate_configuration_revision", "gauge", "Revision that is served.", revision);
        text.0
    }

    fn histogram(&self, text: &mut Text) {
        text.family("lockgate_request_duration_seconds", "histogram", "From the head of a request to its end.");
        let mut total = 0;
        for (bound, count) in BUCKETS.iter().zip(&self.durations) {
            total += load(count);
            let (seconds, thousandths) = (bound / 1000, bound % 1000);
            text.line(format_args!(
                "lockgate_request_duration_seconds_bucket{{le=\"{seconds}.{thousandths:03}\"}} {total}"
            ));
        }
        total += load(&self.durations[BUCKETS.len()]);
        text.line(format_args!("lockgate_request_duration_seconds_bucket{{le=\"+Inf\"}} {total}"));
        let sum = load(&self.duration_us);
        let (seconds, rest) = (sum / 1_000_000, sum % 1_000_000);
        text.line(format_args!("lockgate_request_duration_seconds_sum {seconds}.{rest:06}"));
        text.line(format_args!("lockgate_request_duration_seconds_count {total}"));
    }
}

fn load(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

#[derive(Default)]
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}"));
    }

    fn single(&mut self, name: &str, kind: &str, help: &str, value: u64) {
        self.family(name, kind, help);
        self.line(format_args!("{name} {value}"));
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "{line}");
    }
}
