//! The admin listener: what it says of health and readiness, and the page of figures, read as a scraper reads it.

#![expect(clippy::float_cmp, reason = "counts are whole numbers, exact in a float")]

use std::collections::{BTreeMap, BTreeSet};

use proto::config::Kind;

use super::fixture::*;

/// The page, sample by sample. Fails on whatever a scraper would not take.
struct Page {
    text: String,
    samples: BTreeMap<String, f64>,
}

impl Page {
    async fn of(stand: &Stand) -> Self {
        let answer = probe(stand, "GET /metrics").await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
        Self::read(answer.text())
    }

    fn read(text: &str) -> Self {
        assert!(text.ends_with('\n'));
        let (mut samples, mut families) = (BTreeMap::new(), BTreeMap::new());
        let mut family = ("", "");
        let mut help = None;
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, words) = rest.split_once(' ').unwrap();
                assert!(words.ends_with('.'), "{line}");
                help = Some(name);
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                family = rest.split_once(' ').unwrap();
                assert_eq!(help.take(), Some(family.0), "help comes before the type");
                assert!(["counter", "gauge", "histogram"].contains(&family.1), "{line}");
                assert!(families.insert(family.0, family.1).is_none(), "{} comes twice", family.0);
            } else {
                let (name, labels, value) = sample(line);
                let suffix = name.strip_prefix(family.0).unwrap_or_else(|| panic!("{line} in {family:?}"));
                let suffixes: &[&str] = if family.1 == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
                assert!(suffixes.contains(&suffix), "{line} in {family:?}");
                assert_eq!(family.1 == "counter", name.ends_with("_total"), "{line}");
                assert!(value >= 0.0, "{line}");
                let series = format!("{name}{labels:?}");
                assert!(samples.insert(series, value).is_none(), "twice: {line}");
            }
        }
        let page = Self { text: text.to_owned(), samples };
        page.check_histograms(&families);
        page
    }

    /// Buckets grow, and the last holds all.
    fn check_histograms(&self, families: &BTreeMap<&str, &str>) {
        let histograms = families.iter().filter(|(_, kind)| **kind == "histogram");
        for (name, _) in histograms {
            let mut last: BTreeMap<Labels, (f64, f64)> = BTreeMap::new();
            for line in self.text.lines().filter(|line| line.starts_with(&format!("{name}_bucket"))) {
                let (_, mut labels, count) = sample(line);
                let bound = labels.remove("le").unwrap();
                let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().unwrap() };
                let (before, least) = last.insert(labels, (bound, count)).unwrap_or((0.0, 0.0));
                assert!(bound > before && count >= least, "{line}");
            }
            for (labels, (bound, count)) in last {
                assert_eq!((bound, self.samples[&format!("{name}_count{labels:?}")]), (f64::INFINITY, count));
                assert!(self.samples.contains_key(&format!("{name}_sum{labels:?}")));
            }
        }
    }

    /// `None`: there is no such sample.
    fn find(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let labels: Labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        self.samples.get(&format!("{name}{labels:?}")).copied()
    }

    fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.find(name, labels).unwrap_or_else(|| panic!("no {name}{labels:?}:\n{}", self.text))
    }

    fn requests(&self, endpoint: &str, outcome: &str) -> f64 {
        self.value("lockgate_requests_total", &[("endpoint", endpoint), ("outcome", outcome)])
    }

    fn attempts(&self, provider: &str, result: &str) -> f64 {
        self.value("lockgate_upstream_attempts_total", &[("provider", provider), ("result", result)])
    }
}

type Labels = BTreeMap<String, String>;

fn sample(line: &str) -> (&str, Labels, f64) {
    let end = line.find(['{', ' ']).unwrap_or_else(|| panic!("{line}"));
    let (name, mut rest) = line.split_at(end);
    assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{line}");
    let mut labels = Labels::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (label, quoted) = rest.split_once("=\"").unwrap_or_else(|| panic!("{line}"));
            let mut value = String::new();
            let mut letters = quoted.char_indices();
            let end = loop {
                match letters.next().unwrap_or_else(|| panic!("{line}")) {
                    (at, '"') => break at,
                    (_, '\\') => match letters.next() {
                        Some((_, 'n')) => value.push('\n'),
                        Some((_, letter @ ('\\' | '"'))) => value.push(letter),
                        other => panic!("{other:?} in {line}"),
                    },
                    (_, letter) => value.push(letter),
                }
            };
            assert!(labels.insert(label.to_owned(), value).is_none(), "{line}");
            rest = &quoted[end + 1..];
            match rest.split_at(1) {
                (",", more) => rest = more,
                ("}", more) => {
                    rest = more;
                    break;
                }
                _ => panic!("{line}"),
            }
        }
    }
    (name, labels, rest.strip_prefix(' ').unwrap().parse().unwrap())
}

async fn probe(stand: &Stand, request: &str) -> Answer {
    let mut client = Client::connect(stand.admin).await;
    client.send(format!("{request} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
    client.answer().await
}

#[tokio::test]
async fn requests_are_counted_by_endpoint_and_outcome_through_a_change_of_configuration() {
    let vendor = Vendor::start().await;
    let draft = || {
        let odd = proto::config::Endpoint { name: "a \"b\"\\\n".to_owned(), ..proxy("/team/proxy") };
        Draft::new(&vendor.url()).put(Kind::Endpoint, PROXY, &odd)
    };
    let mut stand = Stand::start(&draft()).await;
    for round in 1..=2u8 {
        let mut client = stand.client().await;
        client.send(post("/v1/x", "{\"model\":\"m\"}")).await;
        let mut upstream = vendor.accept().await;
        upstream.message().await;
        upstream.send(answer("200 OK", "Connection: close\r\n", "12345")).await;
        assert_eq!(client.answer().await.status, 200);
        client.send(post("/v1/x", "{}").replace("/openai", "/team/proxy")).await;
        let mut upstream = vendor.accept().await;
        upstream.message().await;
        upstream.send(answer("500 Oh", "Connection: close\r\n", "{}")).await;
        assert_eq!(client.answer().await.status, 500);
        assert_eq!(stand.ask(get("/v1/x").replace("/openai", "/nowhere")).await.status, 404);
        assert_eq!(stand.ask(get("/v1/x").replace(&key(1), "lgk_wrong")).await.status, 401);
        for _ in 0..2 {
            stand.record().await;
        }
        let (page, round) = (Page::of(&stand).await, f64::from(round));
        assert_eq!(page.requests("openai", "answered"), round);
        assert_eq!(page.requests("a \"b\"\\\n", "vendor_error"), round);
        assert_eq!((page.requests("openai", "refused"), page.requests("", "refused")), (round, round));
        for (refusal, count) in [("unknown_context", round), ("invalid_api_key", round), ("body_too_large", 0.0)] {
            assert_eq!(page.value("lockgate_refusals_total", &[("refusal", refusal)]), count);
        }
        let openai: &[_] = &[("endpoint", "openai")];
        assert_eq!(page.value("lockgate_request_duration_seconds_count", openai), 2.0 * round);
        assert_eq!(page.value("lockgate_first_byte_seconds_count", openai), round, "where a vendor answered");
        assert_eq!(page.value("lockgate_request_body_bytes_total", openai), 13.0 * round);
        assert!(page.value("lockgate_response_body_bytes_total", openai) >= 5.0 * round);
        assert_eq!(page.attempts("openai", "answered"), 2.0 * round, "the proxy's attempts are its provider's");
        assert_eq!(page.value("lockgate_requests_in_flight", &[]), 0.0);
        assert_eq!(page.value("lockgate_configuration_revision", &[]), 7.0);
        assert_eq!(page.value("lockgate_breaker_state", &[("provider", "openai")]), 0.0);
        for secret in [SECRET, &key(1), "Bearer"] {
            assert!(!page.text.contains(secret), "{}", page.text);
        }
        stand.runtime.store(Some(draft().compile()));
    }
}

#[tokio::test]
async fn streams_and_connections_are_counted_while_they_are_open() {
    let vendor = Vendor::start().await;
    let stand = Stand::start(&Draft::new(&vendor.url())).await;
    let mut client = stand.client().await;
    client.send(post("/v1/x", "{}")).await;
    let mut upstream = vendor.accept().await;
    upstream.message().await;
    upstream.send(STREAM).await;
    client.head().await;
    let open: &[_] = &[("endpoint", "openai")];
    let page = Page::of(&stand).await;
    assert_eq!((page.value("lockgate_streams_open", open), page.value("lockgate_requests_in_flight", &[])), (1.0, 1.0));
    assert_eq!((page.value("lockgate_connections", &[]), page.requests("openai", "answered")), (1.0, 0.0));
    upstream.send(format!("{}0\r\n\r\n", chunk("data: [DONE]\n\n"))).await;
    client.until("\r\n0\r\n\r\n").await;
    within("the stream to be over", async {
        while Page::of(&stand).await.value("lockgate_streams_open", open) > 0.0 {}
    })
    .await;
    let page = Page::of(&stand).await;
    assert_eq!(page.requests("openai", "answered"), 1.0);
    for state in ["idle", "open"] {
        let name = format!("lockgate_upstream_connections_{state}");
        assert_eq!(page.value(&name, &[("provider", "openai")]), 1.0);
    }
    drop(upstream);
    drop(client);
    within("the connection to be over", async {
        while Page::of(&stand).await.value("lockgate_connections", &[]) > 0.0 {}
    })
    .await;
}

#[tokio::test]
async fn what_came_of_each_attempt_is_told() {
    let vendor = Vendor::start().await;
    let url = vendor.url();
    let mut stand = Stand::with(Some(&Draft::new(&url)), |config| {
        config.deadlines.upstream_first_byte = std::time::Duration::from_millis(100);
    })
    .await;
    let mut client = stand.client().await;
    client.send(post("/v1/x", "{}")).await;
    let mut silent = vendor.accept().await;
    silent.message().await;
    assert_eq!(client.answer().await.status, 504);
    client.send(post("/v1/x", "{}")).await;
    let mut rude = vendor.accept().await;
    rude.message().await;
    drop(rude);
    assert_eq!(client.answer().await.status, 502);
    drop(vendor);
    assert_eq!(stand.ask(post("/v1/x", "{}")).await.status, 502);
    for _ in 0..3 {
        stand.record().await;
    }
    let page = Page::of(&stand).await;
    for (result, count) in [("silent", 1.0), ("broken", 1.0), ("refused", 1.0), ("answered", 0.0), ("abandoned", 0.0)] {
        assert_eq!(page.attempts("openai", result), count, "{result}");
    }
    assert_eq!(page.requests("openai", "upstream_failed"), 3.0);
}

#[tokio::test]
async fn every_refusal_and_close_has_a_sample_from_the_start() {
    let stand = Stand::with(None, |_| {}).await;
    let page = Page::of(&stand).await;
    let told: BTreeSet<_> =
        page.text.lines().filter_map(|line| line.strip_prefix("lockgate_refusals_total{")).collect();
    assert_eq!(told.len(), data_plane::error::Refusal::ALL.len());
    assert!(page.text.contains("lockgate_connections_closed_total{reason="));
    assert_eq!((page.value("lockgate_ready", &[]), page.value("lockgate_configuration_revision", &[])), (0.0, 0.0));
    assert!(
        page.value("process_resident_memory_bytes", &[]) > 1e6 && page.value("process_start_time_seconds", &[]) > 1e9
    );
    assert_eq!(page.find("lockgate_link_connected", &[]), None, "a gateway without a link has no figures of one");
}

#[tokio::test]
async fn the_admin_listener_answers_these_paths_and_methods_and_no_others() {
    let vendor = Vendor::start().await;
    let stand = Stand::with(None, |_| {}).await;
    for (request, status, said) in [
        ("GET /healthz", 200, "ok\n"),
        ("GET /readyz", 503, "no configuration yet\n"),
        ("GET /", 404, "/healthz, /readyz or /metrics\n"),
        ("GET /metrics/", 404, "/healthz, /readyz or /metrics\n"),
        ("POST /healthz", 405, "only GET and HEAD\n"),
        ("DELETE /metrics", 405, "only GET and HEAD\n"),
    ] {
        let answer = probe(&stand, request).await;
        assert_eq!((answer.status, answer.text()), (status, said), "{request}");
        assert_eq!(answer.header("allow"), (status == 405).then_some("GET, HEAD"));
    }
    stand.runtime.store(Some(Draft::new(&vendor.url()).compile()));
    let answer = probe(&stand, "GET /readyz?verbose").await;
    assert_eq!((answer.status, answer.text()), (200, "ready, revision 7\n"));
    for path in ["/healthz", "/readyz", "/metrics"] {
        let mut client = Client::connect(stand.admin).await;
        client.send(format!("HEAD {path} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        let head = client.head().await;
        assert!(head.starts_with("HTTP/1.1 200") && header(&head, "content-length") != Some("0"), "{head}");
        assert_eq!(client.rest().await, b"", "no body, and the end");
    }
}
