//! What a collector is told, in whose words, and that nobody waits for one.

use serde_json::json;
use tests::collector::{Collector, Manner, attribute};
use tests::{Endpoint, Key, Stack, Upstream, Vendor, eventually};

const CALLER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

async fn telling(url: &str) -> (Stack, Upstream, Endpoint, Key) {
    let settings = [
        ("admin.listen", "127.0.0.1:0"),
        ("telemetry.endpoint", url),
        ("telemetry.headers", "authorization=Bearer%20planted-hush"),
        ("telemetry.interval", "200ms"),
        ("telemetry.timeout", "300ms"),
    ];
    let mut stack = Stack::without_nodes(None, Vec::new()).await;
    stack.add_node("node-1", &settings).await;
    let upstream = Upstream::start(Vendor::OpenAi).await;
    let provider = stack.provider("openai", &upstream).await;
    let key = stack.key("one", &[&provider]).await;
    (stack, upstream, provider, key)
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

#[tokio::test]
async fn a_collector_is_told_of_requests_in_the_words_of_the_conventions() {
    let collector = Collector::start(Manner::Keeps).await;
    let (stack, upstream, provider, key) = telling(&collector.url()).await;
    let call = provider.chat(true).header("traceparent", CALLER).key(&key.secret);
    assert_eq!(stack.send(&call).await.status(), 200);
    assert_eq!(upstream.latest().request.header("traceparent"), Some(CALLER), "it goes on as it came");
    let reply = stack.send(&provider.chat(false).key(&key.secret)).await;
    assert_eq!(reply.status(), 200);
    assert_eq!(upstream.latest().request.header("traceparent"), None, "none is made up");
    // Who does not record its own part has none recorded here.
    let unsampled = CALLER.replace("-01", "-00");
    assert_eq!(
        stack.send(&provider.chat(false).header("traceparent", &unsampled).key(&key.secret)).await.status(),
        200
    );
    let refused = provider.call("POST", "/v1/nonsense/../files").key(&key.secret);
    stack.send(&refused).await;

    let spans = eventually("two spans", async || {
        let spans = collector.spans();
        if spans.len() >= 2 { Ok(spans) } else { Err(spans.len()) }
    })
    .await;
    stack.metric_becomes(0, "lockgate_otlp_spans_total{result=\"exported\"}", spans.len() as u64).await;
    assert_eq!(spans.len(), 2, "{spans:#?}");
    let continued = spans.iter().find(|span| hex(&span.trace_id) == CALLER[3..35]).expect("the caller's trace");
    assert_eq!(hex(&continued.parent_span_id), CALLER[36..52]);
    let own = spans.iter().find(|span| span.parent_span_id.is_empty()).expect("a trace of its own");
    let id = attribute(&own.attributes, "lockgate.request.id").unwrap();
    let id = proto::id::decode("req", &id).unwrap();
    assert_eq!(own.trace_id, id.as_bytes(), "the request's id is the trace's");
    for span in &spans {
        let said = |key| attribute(&span.attributes, key);
        let some = |text: &str| Some(text.to_owned());
        let model = Vendor::OpenAi.chat_body(false)["model"].as_str().unwrap().to_owned();
        assert_eq!(span.name, format!("chat {model}"));
        assert_eq!(span.kind, 3, "CLIENT");
        assert!(span.end_time_unix_nano >= span.start_time_unix_nano && span.start_time_unix_nano > 0);
        assert_eq!(said("gen_ai.operation.name"), some("chat"));
        assert_eq!(said("gen_ai.provider.name"), some("openai"));
        assert_eq!(said("gen_ai.request.model"), Some(model));
        assert!(said("gen_ai.response.model").is_some());
        assert_eq!(said("gen_ai.response.finish_reasons"), some("stop"));
        assert_eq!(said("gen_ai.usage.input_tokens"), Some(Vendor::INPUT_TOKENS.to_string()));
        assert_eq!(said("gen_ai.usage.output_tokens"), Some(Vendor::OUTPUT_TOKENS.to_string()));
        assert_eq!(said("server.port"), Some(upstream.address().port().to_string()));
        assert_eq!(said("lockgate.endpoint.name"), some("openai"));
        assert_eq!(said("lockgate.api_key.id"), Some(key.id.clone()));
        assert_eq!(said("error.type"), None);
    }
    for resource in collector.resources() {
        assert_eq!(resource.schema_url, "https://opentelemetry.io/schemas/1.37.0");
        let attributes = resource.resource.unwrap().attributes;
        assert_eq!(attribute(&attributes, "service.name").as_deref(), Some("lockgate"));
        assert_eq!(attribute(&attributes, "lockgate.node.name").as_deref(), Some("node-1"));
    }
    eventually("the metrics of three requests", async || {
        let points = collector.histogram("gen_ai.client.operation.duration");
        let count: u64 = points.iter().map(|point| point.count).sum();
        if count == 3 { Ok(()) } else { Err(points) }
    })
    .await;
    for (kind, tokens) in [("input", Vendor::INPUT_TOKENS), ("output", Vendor::OUTPUT_TOKENS)] {
        let points = collector.histogram("gen_ai.client.token.usage");
        let of_kind = |it: &&_| attribute(point_attributes(it), "gen_ai.token.type").as_deref() == Some(kind);
        let point = points.iter().find(of_kind).unwrap_or_else(|| panic!("no {kind}: {points:#?}"));
        assert_eq!(point.sum, Some(f64::from(u32::try_from(3 * tokens).unwrap())));
    }
    assert_eq!(collector.histogram("gen_ai.server.time_to_first_token").len(), 1, "of the stream");
    assert!(collector.authorizations().iter().all(|value| value == "Bearer planted-hush"));
    stack.shutdown().await;
}

fn point_attributes(
    point: &opentelemetry_proto::tonic::metrics::v1::HistogramDataPoint,
) -> &[opentelemetry_proto::tonic::common::v1::KeyValue] {
    &point.attributes
}

#[tokio::test]
async fn a_failure_is_told_as_one_without_the_text_of_anybody() {
    let collector = Collector::start(Manner::Keeps).await;
    let (stack, upstream, provider, key) = telling(&collector.url()).await;
    upstream.next(tests::Answer::json(429, &json!({"error": {"type": "rate_limited", "message": "planted-words"}})));
    assert_eq!(stack.send(&provider.chat(false).key(&key.secret)).await.status(), 429);
    let span = eventually("a span", async || collector.spans().pop().ok_or("none")).await;
    assert_eq!(attribute(&span.attributes, "error.type").as_deref(), Some("vendor_error"));
    assert_eq!(attribute(&span.attributes, "lockgate.vendor.status_code").as_deref(), Some("429"));
    assert_eq!(span.status.as_ref().map(|status| status.code), Some(2), "ERROR");
    assert!(!format!("{span:?}").contains("planted-words"));
    stack.shutdown().await;
}

#[tokio::test]
async fn a_collector_that_is_gone_or_silent_or_refuses_costs_spans_and_nothing_else() {
    for manner in [Some(Manner::Silent), Some(Manner::Refuses), None] {
        let collector = Collector::start(manner.unwrap_or(Manner::Keeps)).await;
        let url = collector.url();
        let collector = manner.is_some().then_some(collector);
        let (stack, _upstream, provider, key) = telling(&url).await;
        for _ in 0..5 {
            assert_eq!(stack.send(&provider.chat(true).key(&key.secret)).await.status(), 200, "{manner:?}");
        }
        stack.usage_rows(5).await;
        stack.metric_becomes(0, "lockgate_otlp_spans_total{result=\"failed\"}", 5).await;
        assert_eq!(stack.metric(0, "lockgate_otlp_spans_total{result=\"exported\"}").await, 0, "{manner:?}");
        eventually("metrics to fail", async || {
            let failed = stack.metric(0, "lockgate_otlp_metrics_failed_total").await;
            if failed > 0 { Ok(()) } else { Err(failed) }
        })
        .await;
        assert_eq!(collector.is_some_and(|collector| collector.calls() > 0), manner.is_some());
        stack.shutdown().await;
    }
}

#[tokio::test]
async fn without_a_collector_there_is_nothing_of_it() {
    let mut stack = Stack::without_nodes(None, Vec::new()).await;
    stack.add_node("node-1", &[("admin.listen", "127.0.0.1:0")]).await;
    assert!(!stack.metrics(0).await.contains("lockgate_otlp"));
    stack.shutdown().await;
}
