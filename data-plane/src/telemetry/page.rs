//! The page of a node's figures.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use super::Metrics;
use super::meters::{Attempted, EndpointFigures};
use super::otlp::Otlp;
use super::process::Process;
use super::spend::Spend;
use super::text::Text;
use crate::error::Refusal;
use crate::listener::close::Close;
use crate::pipeline::account::Outcome;
use crate::report::Books;
use crate::upstream::breaker::State;

/// One of an endpoint's.
type Figure = fn(&EndpointFigures) -> u64;

/// What others know, at the time of asking.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gauges {
    /// A request could be decided.
    pub(crate) ready: bool,
    /// `None`: nothing is served yet.
    pub(crate) revision: Option<u64>,
    /// Of each provider that has had a connection: its name, how many are idle, how its breaker stands.
    pub(crate) upstreams: Vec<(Box<str>, usize, State)>,
    /// Attempts that were not made because too many had been.
    pub(crate) retries_denied: u64,
    pub(crate) held_bytes: u64,
    pub(crate) held_bytes_limit: u64,
    /// Requests that a limit in shadow mode would have refused.
    pub(crate) limits_shadowed: u64,
    /// Of limits that hold over all nodes; `None`: this node counts for itself.
    pub(crate) limits: Option<SharedLimits>,
    pub(crate) log_lines_dropped: u64,
    /// `None`: nothing is followed.
    pub(crate) link: Option<LinkGauges>,
    /// `None`: nothing is reported.
    pub(crate) usage: Option<UsageGauges>,
}

/// Of limits that hold over all nodes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SharedLimits {
    /// Somebody can be asked for more than this node holds.
    pub(crate) reachable: bool,
    /// Of which this node holds something.
    pub(crate) shared: u64,
    /// Requests that waited for more.
    pub(crate) waited: u64,
    /// Those that nobody answered in time.
    pub(crate) unanswered: u64,
}

/// Of the link to the control plane.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LinkGauges {
    pub(crate) connected: bool,
    /// `None`: never.
    pub(crate) contact_age: Option<Duration>,
    /// Since what is served was applied; `None`: nothing was.
    pub(crate) configuration_age: Option<Duration>,
    /// Resources served in an older form or not at all.
    pub(crate) rejected: usize,
    /// A restart would serve the same.
    pub(crate) persisted: bool,
}

/// Of usage records.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UsageGauges {
    pub(crate) recorded: u64,
    pub(crate) committed: u64,
    pub(crate) lost: u64,
    pub(crate) books: Books,
}

impl Metrics {
    /// Prometheus's text format.
    pub(crate) fn render(&self, gauges: &Gauges, spend: Option<&Spend>, otlp: Option<&Otlp>) -> String {
        let mut text = Text::default();
        self.endpoints(&mut text);
        self.upstreams(&mut text, gauges);
        self.connections(&mut text);
        standing(&mut text, gauges);
        if let Some(link) = &gauges.link {
            following(&mut text, link);
        }
        if let Some(usage) = &gauges.usage {
            reporting(&mut text, usage);
        }
        if let Some(spend) = spend {
            spend.render(&mut text);
        }
        if let Some(otlp) = otlp {
            otlp.render(&mut text);
        }
        self.process(&mut text);
        text.0
    }

    fn endpoints(&self, text: &mut Text) {
        let named = self.endpoints.all();
        let figures: Vec<(&str, EndpointFigures)> = std::iter::once(("", self.nowhere.figures()))
            .chain(named.iter().map(|(name, meters)| (&**name, meters.figures())))
            .collect();
        text.family("lockgate_requests_total", "counter", "Requests by endpoint and how they ended.");
        for (endpoint, figures) in &figures {
            for outcome in Outcome::ALL {
                let labels = &[("endpoint", *endpoint), ("outcome", outcome.label())];
                text.sample("lockgate_requests_total", labels, figures.outcomes[outcome as usize]);
            }
        }
        text.family("lockgate_refusals_total", "counter", "Requests that Lockgate answered by itself, by reason.");
        for refusal in Refusal::ALL {
            let count = load(&self.refusals[refusal as usize]);
            text.sample("lockgate_refusals_total", &[("refusal", refusal.label())], count);
        }
        let name = "lockgate_request_duration_seconds";
        text.family(name, "histogram", "From the head of a request to its end.");
        for (endpoint, figures) in &figures {
            text.histogram(name, &[("endpoint", endpoint)], &figures.durations);
        }
        let name = "lockgate_first_byte_seconds";
        text.family(name, "histogram", "From the head of a request to the head of the vendor's answer.");
        for (endpoint, figures) in &figures {
            text.histogram(name, &[("endpoint", endpoint)], &figures.first_bytes);
        }
        let singles: [(&str, &str, &str, Figure); 3] = [
            ("lockgate_streams_open", "gauge", "Event streams being relayed.", |figures| figures.streams),
            ("lockgate_request_body_bytes_total", "counter", "Bytes of request bodies.", |figures| figures.received),
            ("lockgate_response_body_bytes_total", "counter", "Bytes of answers' bodies.", |figures| figures.sent),
        ];
        for (name, kind, help, figure) in singles {
            text.family(name, kind, help);
            for (endpoint, figures) in &figures {
                text.sample(name, &[("endpoint", endpoint)], figure(figures));
            }
        }
        text.single("lockgate_requests_in_flight", "gauge", "Requests being answered.", self.in_flight.value());
    }

    fn upstreams(&self, text: &mut Text, gauges: &Gauges) {
        let providers = self.providers.all();
        let name = "lockgate_upstream_attempts_total";
        text.family(name, "counter", "Requests sent to vendors, by provider and what came of them.");
        for (provider, meters) in &providers {
            for result in Attempted::ALL {
                let labels = &[("provider", &**provider), ("result", result.label())];
                text.sample(name, labels, meters.attempts(result));
            }
        }
        let help = "Further attempts that the node's share of retries had no room for.";
        text.single("lockgate_retries_denied_total", "counter", help, gauges.retries_denied);
        let name = "lockgate_upstream_connections_open";
        text.family(name, "gauge", "Connections to vendors, idle ones included.");
        for (provider, meters) in &providers {
            text.sample(name, &[("provider", provider)], meters.connections.value());
        }
        let name = "lockgate_upstream_connections_idle";
        text.family(name, "gauge", "Connections to vendors that wait for a request.");
        for (provider, idle, _) in &gauges.upstreams {
            text.sample(name, &[("provider", provider)], idle);
        }
        let name = "lockgate_breaker_state";
        text.family(name, "gauge", "Of a provider's breaker: 0 closed, 1 half-open, 2 open.");
        for (provider, _, breaker) in &gauges.upstreams {
            text.sample(name, &[("provider", provider)], *breaker as u8);
        }
    }

    fn connections(&self, text: &mut Text) {
        text.single("lockgate_connections", "gauge", "Client connections open.", self.connections.value());
        let name = "lockgate_connections_closed_total";
        text.family(name, "counter", "Client connections that were ended by the node, by reason.");
        for close in Close::ALL {
            text.sample(name, &[("reason", close.label())], load(&self.closes[close as usize]));
        }
        let resets = load(&self.stream_resets);
        text.single("lockgate_streams_reset_total", "counter", "HTTP/2 streams whose client took nothing.", resets);
        let name = "lockgate_tls_reloads_total";
        text.family(name, "counter", "Certificates read anew, by what became of them.");
        for (result, count) in ["refused", "served"].iter().zip(&self.tls_reloads) {
            text.sample(name, &[("result", result)], load(count));
        }
    }

    fn process(&self, text: &mut Text) {
        let process = Process::now();
        let resident = process.resident_bytes;
        text.single("process_resident_memory_bytes", "gauge", "Memory of the process.", resident);
        text.single("process_open_fds", "gauge", "Open files and connections.", process.open_files);
        let seconds = format!("{:.2}", process.cpu_seconds);
        text.single("process_cpu_seconds_total", "counter", "User and system time of the process.", seconds);
        let started = self.started.duration_since(UNIX_EPOCH).unwrap_or_default();
        let help = "Start of the process, in Unix seconds.";
        text.single("process_start_time_seconds", "gauge", help, seconds_of(started));
        text.family("lockgate_build_info", "gauge", "1, with the version of the node.");
        text.sample("lockgate_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
    }
}

fn standing(text: &mut Text, gauges: &Gauges) {
    let ready = u8::from(gauges.ready);
    text.single("lockgate_ready", "gauge", "Whether a configuration is loaded and requests are taken.", ready);
    let revision = gauges.revision.unwrap_or_default();
    text.single("lockgate_configuration_revision", "gauge", "Revision that is served; 0: none.", revision);
    text.single("lockgate_held_bytes", "gauge", "Bytes that requests in flight hold.", gauges.held_bytes);
    let limit = gauges.held_bytes_limit;
    text.single("lockgate_held_bytes_limit", "gauge", "Above this, requests are refused.", limit);
    let help = "Requests that limits in shadow mode would have refused.";
    text.single("lockgate_limits_shadowed_total", "counter", help, gauges.limits_shadowed);
    if let Some(SharedLimits { reachable, shared, waited, unanswered }) = gauges.limits {
        let help = "Whether more of a limit that all nodes share can be asked for.";
        text.single("lockgate_limits_reachable", "gauge", help, u8::from(reachable));
        text.single("lockgate_limits_shared", "gauge", "Limits that this node holds a part of.", shared);
        let help = "Requests that waited for more of a limit than this node held.";
        text.single("lockgate_limits_waited_total", "counter", help, waited);
        let help = "Requests that waited for more of a limit and were not answered in time.";
        text.single("lockgate_limits_unanswered_total", "counter", help, unanswered);
    }
    let dropped = gauges.log_lines_dropped;
    text.single("lockgate_log_lines_dropped_total", "counter", "Lines of the request log nobody took.", dropped);
}

fn following(text: &mut Text, link: &LinkGauges) {
    let connected = u8::from(link.connected);
    text.single("lockgate_link_connected", "gauge", "Whether the control plane is being followed.", connected);
    if let Some(age) = link.contact_age {
        let help = "Since the control plane was last heard; 0 while the link stands.";
        text.single("lockgate_link_contact_age_seconds", "gauge", help, seconds_of(age));
    }
    if let Some(age) = link.configuration_age {
        let help = "Since the configuration that is served was applied.";
        text.single("lockgate_configuration_age_seconds", "gauge", help, seconds_of(age));
    }
    let help = "Resources that are served in an older form, or not at all.";
    text.single("lockgate_configuration_rejected", "gauge", help, link.rejected);
    let help = "Whether a restart would serve the same.";
    text.single("lockgate_configuration_persisted", "gauge", help, u8::from(link.persisted));
}

fn reporting(text: &mut Text, usage: &UsageGauges) {
    let UsageGauges { recorded, committed, lost, books } = *usage;
    text.single("lockgate_usage_records_total", "counter", "Usage records made.", recorded);
    let help = "Usage records that the control plane has in its ledger.";
    text.single("lockgate_usage_records_committed_total", "counter", help, committed);
    let help = "Usage records that will never reach the ledger.";
    text.single("lockgate_usage_records_lost_total", "counter", help, lost);
    let waiting = recorded.saturating_sub(committed).saturating_sub(lost);
    text.single("lockgate_usage_records_waiting", "gauge", "Usage records on their way to the ledger.", waiting);
    let Books { started, settled, in_flight, unsettled, unwritten } = books;
    let help = "Requests about to be sent; those that an earlier process left open included.";
    text.single("lockgate_usage_started_total", "counter", help, started);
    let help = "Started requests whose records are on disk.";
    text.single("lockgate_usage_settled_total", "counter", help, settled);
    let help = "Started requests that an earlier process left open, or whose records were lost.";
    text.single("lockgate_usage_unsettled_total", "counter", help, unsettled);
    let help = "Started requests that are open, or whose records are on their way to the disk.";
    text.single("lockgate_usage_in_flight", "gauge", help, in_flight);
    let help = "Requests sent without being written down first, because the disk did not take it.";
    text.single("lockgate_usage_unwritten_total", "counter", help, unwritten);
    let help = "Started less settled, in flight and unsettled: 0, or Lockgate has miscounted.";
    let drift = i128::from(started) - i128::from(settled) - i128::from(in_flight) - i128::from(unsettled);
    text.single("lockgate_usage_drift", "gauge", help, drift);
}

fn seconds_of(duration: Duration) -> String {
    format!("{}.{:03}", duration.as_secs(), duration.subsec_millis())
}

fn load(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}
