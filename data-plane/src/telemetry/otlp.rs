//! Traces and metrics for a collector, over OTLP: made from finished records on the reporting thread, queued within a
//! bound, sent by a task of their own. A collector that is slow or gone costs spans, each of them counted, and nothing
//! else: no request ever waits for it.

mod channel;
mod directory;
mod instruments;
mod semantics;
mod span;

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use opentelemetry::KeyValue;
use opentelemetry_otlp::{MetricExporter, SpanExporter, WithTonicConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider, Temporality};
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::metadata::MetadataMap;
use uuid::Uuid;

use self::directory::Directory;
use self::instruments::Instruments;
use super::text::Text;
use crate::config::telemetry::{Protocol, Telemetry, TelemetryError};
use crate::pipeline::account::Record;
use crate::runtime::Runtime;

/// Spans that wait at most; what comes beyond is dropped and counted.
const QUEUE: usize = 8_192;
/// Spans sent at once.
const BATCH: usize = 512;
/// How long a stopping node tries to tell what it has.
const FAREWELL: Duration = Duration::from_secs(2);

/// What became of it. Never reset within a process.
#[derive(Debug, Default)]
struct Counters {
    exported: AtomicU64,
    /// Beyond a full queue.
    overflowed: AtomicU64,
    /// The collector did not take them.
    failed: AtomicU64,
    metrics_failed: AtomicU64,
}

/// Takes records, and never waits.
#[derive(Debug)]
pub(crate) struct Otlp {
    directory: Mutex<Directory>,
    instruments: Instruments,
    queue: Sender<SpanData>,
    counters: Arc<Counters>,
}

impl Otlp {
    /// Tells of a batch.
    pub(crate) fn see(&self, records: &[Record]) {
        let mut directory = self.directory.lock().unwrap_or_else(PoisonError::into_inner);
        directory.refresh();
        for record in records {
            let place = directory.place(record);
            self.instruments.count(record, &place);
            let Some(span) = span::of(record, &place) else { continue };
            if self.queue.try_send(span).is_err() {
                self.counters.overflowed.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    pub(super) fn render(&self, text: &mut Text) {
        let Counters { exported, overflowed, failed, metrics_failed } = &*self.counters;
        let name = "lockgate_otlp_spans_total";
        text.family(name, "counter", "Spans for the collector, by what became of them.");
        for (result, count) in [("exported", exported), ("overflowed", overflowed), ("failed", failed)] {
            text.sample(name, &[("result", result)], count.load(Ordering::Relaxed));
        }
        let help = "Times that the collector did not take metrics.";
        let count = metrics_failed.load(Ordering::Relaxed);
        text.single("lockgate_otlp_metrics_failed_total", "counter", help, count);
    }
}

/// What runs behind an [`Otlp`].
#[derive(Debug)]
pub(crate) struct Exporting {
    stop: CancellationToken,
    task: JoinHandle<()>,
    meters: SdkMeterProvider,
}

impl Exporting {
    /// Tells what there is, within a short while. Call it when nothing is recorded any more.
    pub(crate) async fn shutdown(self) {
        let Self { stop, task, meters } = self;
        stop.cancel();
        // Joins a thread: not on one of ours.
        let metrics = tokio::task::spawn_blocking(move || meters.shutdown_with_timeout(FAREWELL));
        if task.await.is_err() {
            tracing::error!("exporting spans ended in a panic");
        }
        // It has counted its failure already, and may take the exporter's own deadline beyond ours.
        let _ = tokio::time::timeout(FAREWELL, metrics).await;
    }
}

/// Begins to tell; `None`: nobody is configured. Dials nothing before there is something to tell.
pub(crate) fn start(
    config: &Telemetry,
    node: (&str, Uuid),
    runtime: Arc<ArcSwapOption<Runtime>>,
) -> Result<Option<(Arc<Otlp>, Exporting)>, TelemetryError> {
    if config.endpoint.is_empty() {
        return Ok(None);
    }
    let Protocol::Grpc = config.protocol;
    let channel = channel::open(&config.endpoint, config.timeout)?;
    let metadata = MetadataMap::from_headers(config.headers()?.into_iter().collect());
    let spans = SpanExporter::builder().with_tonic().with_channel(channel.clone()).with_metadata(metadata.clone());
    let metrics = MetricExporter::builder().with_tonic().with_channel(channel).with_metadata(metadata);
    let mut spans = spans.build().map_err(TelemetryError::Exporter)?;
    let metrics = metrics.build().map_err(TelemetryError::Exporter)?;
    let resource = resource(node);
    spans.set_resource(&resource);
    let counters = Arc::new(Counters::default());
    let reader = PeriodicReader::builder(Metrics { exporter: metrics, counters: Arc::clone(&counters) })
        .with_interval(config.interval)
        .build();
    let meters = SdkMeterProvider::builder().with_reader(reader).with_resource(resource).build();
    let (queue, waiting) = mpsc::channel(QUEUE);
    let stop = CancellationToken::new();
    let export = Spans { exporter: spans, counters: Arc::clone(&counters) };
    let task = tokio::spawn(export.run(waiting, stop.clone()));
    let otlp = Otlp {
        directory: Mutex::new(Directory::new(runtime)),
        instruments: Instruments::new(&meters),
        queue,
        counters,
    };
    Ok(Some((Arc::new(otlp), Exporting { stop, task, meters })))
}

/// Who tells.
fn resource((name, boot): (&str, Uuid)) -> Resource {
    let attributes = [
        KeyValue::new("service.name", "lockgate"),
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        KeyValue::new("service.instance.id", boot.to_string()),
        KeyValue::new("lockgate.node.name", name.to_owned()),
    ];
    Resource::builder_empty().with_schema_url(attributes, semantics::SCHEMA).build()
}

struct Spans {
    exporter: SpanExporter,
    counters: Arc<Counters>,
}

impl Spans {
    async fn run(self, mut waiting: Receiver<SpanData>, stop: CancellationToken) {
        let export = self.export(&mut waiting, &stop);
        let farewell = async {
            stop.cancelled().await;
            tokio::time::sleep(FAREWELL).await;
        };
        tokio::select! {
            () = export => {}
            () = farewell => {}
        }
        waiting.close();
        let mut left = 0;
        while waiting.try_recv().is_ok() {
            left += 1;
        }
        self.counters.failed.fetch_add(left, Ordering::Relaxed);
    }

    async fn export(&self, waiting: &mut Receiver<SpanData>, stop: &CancellationToken) {
        let mut works = true;
        let mut stopped = false;
        loop {
            let mut batch = Vec::with_capacity(BATCH);
            if stopped {
                while let (true, Ok(span)) = (batch.len() < BATCH, waiting.try_recv()) {
                    batch.push(span);
                }
                if batch.is_empty() {
                    return;
                }
            } else {
                tokio::select! {
                    _ = waiting.recv_many(&mut batch, BATCH) => {}
                    () = stop.cancelled() => stopped = true,
                }
                if batch.is_empty() {
                    continue;
                }
            }
            let count = batch.len() as u64;
            let pending = Pending { counters: &self.counters, count };
            let exported = self.exporter.export(batch).await;
            if exported.is_ok() {
                pending.exported();
            } else {
                drop(pending);
            }
            match (exported, works) {
                (Err(error), true) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "the collector does not take spans; they are dropped and counted until it does"
                    );
                    works = false;
                }
                (Ok(()), false) => {
                    tracing::info!("the collector takes spans again");
                    works = true;
                }
                _ => {}
            }
        }
    }
}

/// Spans on the wire: lost, unless somebody says otherwise.
struct Pending<'a> {
    counters: &'a Counters,
    count: u64,
}

impl Pending<'_> {
    fn exported(mut self) {
        self.counters.exported.fetch_add(self.count, Ordering::Relaxed);
        self.count = 0;
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.counters.failed.fetch_add(self.count, Ordering::Relaxed);
    }
}

/// The exporter of metrics, with its failures counted.
struct Metrics {
    exporter: MetricExporter,
    counters: Arc<Counters>,
}

impl PushMetricExporter for Metrics {
    fn export(&self, metrics: &ResourceMetrics) -> impl Future<Output = OTelSdkResult> + Send {
        let exporting = self.exporter.export(metrics);
        async {
            let exported = exporting.await;
            if exported.is_err() {
                self.counters.metrics_failed.fetch_add(1, Ordering::Relaxed);
            }
            exported
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn temporality(&self) -> Temporality {
        self.exporter.temporality()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tokio::net::TcpListener;

    use super::*;
    use crate::config::Config;
    use crate::report::a_record;

    #[tokio::test(flavor = "multi_thread")]
    async fn what_a_silent_collector_leaves_is_bounded_and_every_span_of_it_is_counted() {
        // Its kernel takes the connection, and that is all.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let config = Telemetry { endpoint, ..Config::default().telemetry };
        let (otlp, exporting) = start(&config, ("node", Uuid::nil()), Arc::default()).unwrap().unwrap();
        let count = QUEUE + 3 * BATCH;
        let records: Vec<Record> = (1..=count as u128).map(a_record).collect();
        otlp.see(&records);
        let Counters { exported, overflowed, failed, .. } = &*otlp.counters;
        let over = overflowed.load(Ordering::Relaxed);
        assert!((1..=3 * BATCH as u64).contains(&over), "{over}");
        let stopping = Instant::now();
        exporting.shutdown().await;
        assert!(stopping.elapsed() < 5 * FAREWELL, "a node that stops does not wait for it");
        let lost = failed.load(Ordering::Relaxed) + overflowed.load(Ordering::Relaxed);
        assert_eq!((exported.load(Ordering::Relaxed), lost), (0, count as u64));
        drop(listener);
    }
}
