//! A collector for OTLP over gRPC that keeps what it was told, or refuses it, or never answers.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{ExportMetricsServiceRequest, ExportMetricsServiceResponse};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::{HistogramDataPoint, ResourceMetrics, metric};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, Span};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

/// What a collector does with what it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Keeps it.
    Keeps,
    /// Says that it cannot.
    Refuses,
    /// Says nothing.
    Silent,
}

/// A collector of the test's own.
#[derive(Debug)]
pub struct Collector {
    address: SocketAddr,
    told: Arc<Told>,
    serving: JoinHandle<()>,
}

#[derive(Debug)]
struct Told {
    manner: Manner,
    calls: Mutex<usize>,
    authorizations: Mutex<Vec<String>>,
    spans: Mutex<Vec<ResourceSpans>>,
    metrics: Mutex<Vec<ResourceMetrics>>,
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Collector {
    /// Listens on loopback.
    pub async fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port of loopback");
        let address = listener.local_addr().expect("it is bound");
        let told = Arc::new(Told {
            manner,
            calls: Mutex::default(),
            authorizations: Mutex::default(),
            spans: Mutex::default(),
            metrics: Mutex::default(),
        });
        let router = tonic::transport::Server::builder()
            .add_service(TraceServiceServer::new(Service(Arc::clone(&told))))
            .add_service(MetricsServiceServer::new(Service(Arc::clone(&told))));
        let serving = tokio::spawn(async move {
            router.serve_with_incoming(TcpListenerStream::new(listener)).await.expect("the collector serves");
        });
        Self { address, told, serving }
    }

    /// For a node's settings.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Times that it was told something.
    pub fn calls(&self) -> usize {
        *lock(&self.told.calls)
    }

    /// `authorization` of every call.
    pub fn authorizations(&self) -> Vec<String> {
        lock(&self.told.authorizations).clone()
    }

    /// With what they were told under.
    pub fn resources(&self) -> Vec<ResourceSpans> {
        lock(&self.told.spans).clone()
    }

    /// Every span so far.
    pub fn spans(&self) -> Vec<Span> {
        let resources = self.resources().into_iter();
        resources.flat_map(|resource| resource.scope_spans).flat_map(|scope| scope.spans).collect()
    }

    /// The newest points of a histogram.
    pub fn histogram(&self, name: &str) -> Vec<HistogramDataPoint> {
        let metrics = lock(&self.told.metrics);
        let newest = metrics.iter().rev().flat_map(|resource| &resource.scope_metrics).flat_map(|scope| &scope.metrics);
        let mut named = newest.filter(|metric| metric.name == name);
        match named.next().and_then(|metric| metric.data.clone()) {
            Some(metric::Data::Histogram(histogram)) => histogram.data_points,
            _ => Vec::new(),
        }
    }
}

/// One attribute as text; `None`: it is not there.
pub fn attribute(attributes: &[KeyValue], key: &str) -> Option<String> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    Some(text(found.value.as_ref()?))
}

fn text(value: &AnyValue) -> String {
    match value.value.as_ref() {
        Some(any_value::Value::StringValue(text)) => text.clone(),
        Some(any_value::Value::IntValue(number)) => number.to_string(),
        Some(any_value::Value::BoolValue(truth)) => truth.to_string(),
        Some(any_value::Value::DoubleValue(number)) => number.to_string(),
        Some(any_value::Value::ArrayValue(array)) => array.values.iter().map(text).collect::<Vec<_>>().join(","),
        other => panic!("not a value that is read here: {other:?}"),
    }
}

struct Service(Arc<Told>);

impl Service {
    async fn hear<T>(&self, request: &Request<T>) -> Result<(), Status> {
        *lock(&self.0.calls) += 1;
        let authorization = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
        lock(&self.0.authorizations).push(authorization.unwrap_or_default().to_owned());
        match self.0.manner {
            Manner::Keeps => Ok(()),
            Manner::Refuses => Err(Status::permission_denied("not from you")),
            Manner::Silent => std::future::pending().await,
        }
    }
}

#[tonic::async_trait]
impl TraceService for Service {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.hear(&request).await?;
        lock(&self.0.spans).extend(request.into_inner().resource_spans);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Service {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        self.hear(&request).await?;
        lock(&self.0.metrics).extend(request.into_inner().resource_metrics);
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
