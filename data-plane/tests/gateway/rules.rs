//! Rules about how much may be used: who is beyond one is refused in the caller's own words before anything is sent, and
//! what a request came to is what it has used.

use data_plane::pipeline::account::Outcome;
use proto::config::{self, Kind, limit};

use super::fixture::*;

fn rule(name: &str, metric: limit::Metric, most: u64) -> config::Limit {
    let window_ms = if metric == limit::Metric::ConcurrentRequests { 0 } else { 3_600_000 };
    config::Limit {
        name: name.to_owned(),
        metric: metric.into(),
        limit: most,
        window_ms,
        output_estimate: 100,
        ..config::Limit::default()
    }
}

/// The draft with these rules on its first key.
fn keyed(url: &str, limits: Vec<config::Limit>) -> Draft {
    Draft::new(url).put(Kind::ApiKey, KEY, &config::ApiKey { limits, ..api_key(&key(1), &[PROVIDER, PROXY]) })
}

const CHAT: &str = r#"{"model":"gpt-4o","messages":[{"role":"user","content":"how much is it?"}]}"#;

/// One request that the vendor answers so; it is accounted for when this returns.
async fn answered(stand: &mut Stand, vendor: &Vendor, path: &str, body: &str) {
    let mut client = stand.client().await;
    client.send(post(path, CHAT)).await;
    let mut upstream = vendor.accept().await;
    upstream.message().await;
    upstream.send(answer("200 OK", "Connection: close\r\n", body)).await;
    assert_eq!(client.answer().await.status, 200);
    while stand.record().await.outcome != Outcome::Answered {}
}

#[tokio::test]
async fn beyond_a_keys_requests_the_caller_is_told_which_limit_and_when_it_frees() {
    let vendor = Vendor::start().await;
    let draft = |most| keyed(&vendor.url(), vec![rule("hourly", limit::Metric::Requests, most)]);
    let mut stand = Stand::with(Some(&draft(2)), |_| {}).await;
    answered(&mut stand, &vendor, "/v1/x", "{}").await;
    // A configuration that is swapped in does not forget what was counted.
    stand.runtime.store(Some(draft(2).compile()));
    answered(&mut stand, &vendor, "/v1/x", "{}").await;
    let refused = stand.ask(post("/v1/x", CHAT)).await;
    assert_eq!(refused.status, 429, "{}", refused.text());
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1700..=1800).contains(&wait), "half an hour each: {wait}");
    assert_eq!(refused.header("x-ratelimit-limit-requests"), Some("2"));
    assert_eq!(refused.header("x-ratelimit-remaining-requests"), Some("0"));
    assert_eq!(refused.header("x-should-retry"), Some("false"), "no SDK waits half an hour");
    let error = &refused.json()["error"];
    assert_eq!((&error["code"], &error["type"]), (&"limit_exceeded".into(), &"rate_limit_error".into()));
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("`hourly` of this API key") && message.contains("2 requests per 3600s"), "{message}");
    assert!(vendor.is_alone().await, "nothing was sent");
    // Raised: at once, and what was counted counts.
    stand.runtime.store(Some(draft(3).compile()));
    answered(&mut stand, &vendor, "/v1/x", "{}").await;
    // Lowered below what is spent.
    stand.runtime.store(Some(draft(1).compile()));
    assert_eq!(stand.ask(post("/v1/x", CHAT)).await.status, 429);
    let record = stand.record().await;
    assert_eq!((record.outcome, record.refusal), (Outcome::Refused, Some("limit_exceeded")));
    assert!(!record.admitted);
    stand.no_more_records();
}

#[tokio::test]
async fn tokens_are_estimated_before_and_counted_after() {
    let vendor = Vendor::start().await;
    let rules = vec![rule("tokens", limit::Metric::TotalTokens, 200)];
    let mut stand = Stand::with(Some(&keyed(&vendor.url(), rules)), |_| {}).await;
    // A hundred of output and some of input are reserved: two do not fit at once.
    let mut first = stand.client().await;
    first.send(post("/v1/chat/completions", CHAT)).await;
    let mut upstream = vendor.accept().await;
    upstream.message().await;
    let second = stand.ask(post("/v1/chat/completions", CHAT)).await;
    assert_eq!(second.status, 429, "{}", second.text());
    assert_eq!(second.header("x-ratelimit-limit-tokens"), Some("200"));
    let usage = r#"{"usage":{"prompt_tokens":9,"completion_tokens":1}}"#;
    upstream.send(answer("200 OK", "Connection: close\r\n", usage)).await;
    assert_eq!(first.answer().await.status, 200);
    while stand.record().await.outcome != Outcome::Answered {}
    // It came to ten. Another ten and one that came to more than it had reserved: then it is over.
    answered(&mut stand, &vendor, "/v1/chat/completions", usage).await;
    let large = r#"{"usage":{"prompt_tokens":9,"completion_tokens":900}}"#;
    answered(&mut stand, &vendor, "/v1/chat/completions", large).await;
    let third = stand.ask(post("/v1/chat/completions", CHAT)).await;
    assert_eq!(third.status, 429, "{}", third.text());
    // What asks no model is not about tokens.
    let mut client = stand.client().await;
    client.send(get("/v1/models")).await;
    let mut upstream = vendor.accept().await;
    upstream.message().await;
    upstream.send(answer("200 OK", "Connection: close\r\n", "{}")).await;
    assert_eq!(client.answer().await.status, 200);
}

#[tokio::test]
async fn whoever_leaves_or_fails_gives_back_what_was_not_used() {
    let vendor = Vendor::start().await;
    let rules =
        vec![rule("at-once", limit::Metric::ConcurrentRequests, 1), rule("tokens", limit::Metric::TotalTokens, 150)];
    let mut stand = Stand::with(Some(&keyed(&vendor.url(), rules)), |_| {}).await;
    // A vendor that fails has used nothing.
    for _ in 0..3 {
        let mut client = stand.client().await;
        client.send(post("/v1/chat/completions", CHAT)).await;
        let mut upstream = vendor.accept().await;
        upstream.message().await;
        upstream.send(answer("500 Oops", "Connection: close\r\n", "{}")).await;
        assert_eq!(client.answer().await.status, 500);
        stand.record().await;
    }
    // A client that leaves in mid-stream: nobody says any more what it came to, so what was reserved stays.
    let mut client = stand.client().await;
    client.send(post("/v1/chat/completions", CHAT)).await;
    let mut upstream = vendor.accept().await;
    upstream.message().await;
    upstream.send(STREAM).await;
    client.head().await;
    let busy = stand.ask(get("/v1/x")).await;
    assert_eq!(busy.status, 429);
    assert!(busy.text().contains("`at-once`"), "{}", busy.text());
    drop((client, upstream));
    while stand.record().await.outcome != Outcome::ClientGone {}
    let refused = stand.ask(post("/v1/chat/completions", CHAT)).await;
    assert_eq!(refused.status, 429);
    assert!(refused.text().contains("`tokens`"), "the place is free again, the tokens are not: {}", refused.text());
}

#[tokio::test]
async fn an_endpoints_rules_hold_for_its_paths_over_all_keys_and_a_shadow_refuses_nobody() {
    let vendor = Vendor::start().await;
    let files = config::Limit { resources: texts(["/v1/files/*"]), ..rule("files", limit::Metric::Requests, 1) };
    let shadow = config::Limit { shadow: true, ..rule("watch", limit::Metric::Requests, 1) };
    let endpoint = config::Endpoint { limits: vec![files, shadow], ..provider("/openai", &vendor.url()) };
    let draft = Draft::new(&vendor.url()).put(Kind::Endpoint, PROVIDER, &endpoint).put(
        Kind::ApiKey,
        44,
        &api_key(&key(2), &[PROVIDER]),
    );
    let mut stand = Stand::with(Some(&draft), |_| {}).await;
    answered(&mut stand, &vendor, "/v1/files/a", "{}").await;
    answered(&mut stand, &vendor, "/v1/x", "{}").await;
    answered(&mut stand, &vendor, "/v1/x", "{}").await;
    let refused = stand.ask(post("/v1/files/b", "{}").replace(&key(1), &key(2))).await;
    assert_eq!(refused.status, 429);
    assert!(refused.text().contains("`files` of this endpoint"), "{}", refused.text());
    assert!(vendor.is_alone().await, "nothing was sent");
}

#[tokio::test]
async fn fifty_callers_at_once_get_what_the_limit_allows_and_not_one_more() {
    let vendor = Vendor::start().await;
    let rules = vec![rule("hourly", limit::Metric::Requests, 7), rule("idle", limit::Metric::TotalTokens, 1_000_000)];
    let stand = Stand::with(Some(&keyed(&vendor.url(), rules)), |_| {}).await;
    let vendor = std::sync::Arc::new(vendor);
    let serving = {
        let vendor = std::sync::Arc::clone(&vendor);
        tokio::spawn(async move {
            for _ in 0..7 {
                let mut upstream = vendor.accept().await;
                upstream.message().await;
                upstream.send(answer("200 OK", "Connection: close\r\n", "{}")).await;
            }
        })
    };
    let asked = (0..50).map(|_| async { stand.ask(post("/v1/x", CHAT)).await.status });
    let statuses = futures_util::future::join_all(asked).await;
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 7);
    assert_eq!(statuses.iter().filter(|status| **status == 429).count(), 43);
    serving.await.unwrap();
    assert!(vendor.is_alone().await, "nothing else was sent");
}
