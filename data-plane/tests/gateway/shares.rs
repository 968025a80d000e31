//! A provider's rules hold for every attempt there, whoever calls it: what has no room is left out of a proxy's choice,
//! and who is refused burns nothing.

use data_plane::pipeline::account::Outcome;
use proto::config::{self, Endpoint, Kind, RouteTarget, endpoint, limit};

use super::fixture::*;

const SECOND: u128 = 9;

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

fn requests(name: &str, most: u64) -> Vec<config::Limit> {
    vec![rule(name, limit::Metric::Requests, most)]
}

/// A proxy that goes to the first provider and then to the second; their rules, and the key's.
fn proxied(vendors: [&Vendor; 2], rules: [Vec<config::Limit>; 2], of_key: Vec<config::Limit>) -> Draft {
    let target = |id, priority| RouteTarget { provider_id: bytes(id), weight: 1, priority, aliases: vec![] };
    let route = config::Route { targets: vec![target(PROVIDER, 0), target(SECOND, 1)], ..config::Route::default() };
    let proxy = Endpoint { target: Some(endpoint::Target::Route(route)), ..proxy("/team/proxy") };
    let [first, second] = rules;
    let limited = |context, vendor: &Vendor, limits| Endpoint { limits, ..provider(context, &vendor.url()) };
    let price = config::Price {
        models: texts(["gpt-4o"]),
        version: "1".to_owned(),
        rates: Some(config::Rates { input: Some(1_000_000), output: Some(1_000_000), ..config::Rates::default() }),
        ..config::Price::default()
    };
    Draft::new(&vendors[0].url())
        .put(Kind::Prices, TEMPLATE, &config::Prices { own: vec![], shipped: vec![price] })
        .put(Kind::Endpoint, PROVIDER, &limited("/openai", vendors[0], first))
        .put(Kind::Endpoint, SECOND, &limited("/second", vendors[1], second))
        .put(Kind::Endpoint, PROXY, &proxy)
        .put(Kind::ApiKey, KEY, &config::ApiKey { limits: of_key, ..api_key(&key(1), &[PROVIDER, PROXY, SECOND]) })
}

const CHAT: &str = r#"{"model":"gpt-4o","messages":[]}"#;

fn through_proxy() -> String {
    post("/v1/chat/completions", CHAT).replace("POST /openai", "POST /team/proxy")
}

/// One that this vendor gets and answers so.
async fn answered_by(stand: &mut Stand, vendor: &Vendor, request: &str, status: &str, body: &str) {
    let mut client = stand.client().await;
    client.send(request).await;
    let mut upstream = within("a request", vendor.accept()).await;
    upstream.message().await;
    upstream.send(answer(status, "Connection: close\r\n", body)).await;
    assert_eq!(client.answer().await.status.to_string(), status[..3]);
    while !matches!(stand.record().await.outcome, Outcome::Answered | Outcome::VendorError) {}
}

async fn refused(stand: &mut Stand, request: &str) -> String {
    let answer = stand.ask(request).await;
    assert_eq!(answer.status, 429, "{}", answer.text());
    let record = stand.record().await;
    assert_eq!((record.refusal, record.admitted, record.provider_id), (Some("limit_exceeded"), false, None));
    answer.text().to_owned()
}

#[tokio::test]
async fn a_provider_without_room_is_left_out_until_none_has_any() {
    let (first, second) = (Vendor::start().await, Vendor::start().await);
    let draft = |of_first, of_second| {
        proxied([&first, &second], [requests("mine", of_first), requests("theirs", of_second)], requests("key", 4))
    };
    let mut stand = Stand::start(&draft(1, 1)).await;
    answered_by(&mut stand, &first, &through_proxy(), "200 OK", "{}").await;
    // The first has none left; its own Invoke URL knows it too.
    answered_by(&mut stand, &second, &through_proxy(), "200 OK", "{}").await;
    let told = refused(&mut stand, &post("/v1/chat/completions", CHAT)).await;
    assert!(told.contains("`mine` of this endpoint"), "{told}");
    for _ in 0..5 {
        let told = refused(&mut stand, &through_proxy()).await;
        assert!(told.contains("`mine` of the provider `openai`"), "the one that frees first: {told}");
    }
    assert!(first.is_alone().await && second.is_alone().await, "nothing was sent");
    // Of the key's four, two are used: the refused ones burned none.
    stand.runtime.store(Some(draft(1, 9).compile()));
    answered_by(&mut stand, &second, &through_proxy(), "200 OK", "{}").await;
    answered_by(&mut stand, &second, &through_proxy(), "200 OK", "{}").await;
    let told = refused(&mut stand, &through_proxy()).await;
    assert!(told.contains("`key` of this API key"), "{told}");
    // And the key's refusal burned none of the provider's, of which six are left.
    stand
        .runtime
        .store(Some(proxied([&first, &second], [requests("mine", 1), requests("theirs", 9)], Vec::new()).compile()));
    for _ in 0..6 {
        answered_by(&mut stand, &second, &through_proxy(), "200 OK", "{}").await;
    }
    refused(&mut stand, &through_proxy()).await;
}

#[tokio::test]
async fn an_attempt_that_fails_counts_where_it_was_made_and_gives_its_place_back() {
    let (first, second) = (Vendor::start().await, Vendor::start().await);
    let rules = |requests| {
        vec![
            rule("at-once", limit::Metric::ConcurrentRequests, 1),
            rule("hourly", limit::Metric::Requests, requests),
            rule("tokens", limit::Metric::TotalTokens, 150),
            rule("money", limit::Metric::Cost, 150),
        ]
    };
    let mut stand = Stand::start(&proxied([&first, &second], [rules(2), rules(2)], Vec::new())).await;
    for _ in 0..2 {
        let mut client = stand.client().await;
        client.send(through_proxy()).await;
        let mut failing = first.accept().await;
        failing.message().await;
        failing.send(answer("503 Busy", "Connection: close\r\n", "{}")).await;
        let mut upstream = second.accept().await;
        upstream.message().await;
        let usage = r#"{"model":"gpt-4o","usage":{"prompt_tokens":9,"completion_tokens":1}}"#;
        upstream.send(answer("200 OK", "Connection: close\r\n", usage)).await;
        assert_eq!(client.answer().await.status, 200);
        stand.record().await;
    }
    // Both have had their two requests, and neither holds a place, a token or a cent of what failed.
    let told = refused(&mut stand, &through_proxy()).await;
    assert!(told.contains("`hourly` of the provider"), "{told}");
    stand.runtime.store(Some(proxied([&first, &second], [rules(3), rules(3)], Vec::new()).compile()));
    answered_by(&mut stand, &first, &through_proxy(), "200 OK", "{}").await;
}

#[tokio::test]
async fn failing_over_skips_who_has_no_room_and_the_failure_stays_the_answer() {
    let (first, second) = (Vendor::start().await, Vendor::start().await);
    let mut stand =
        Stand::start(&proxied([&first, &second], [Vec::new(), requests("theirs", 1)], requests("key", 3))).await;
    answered_by(&mut stand, &second, &post("/v1/x", CHAT).replace("/openai", "/second"), "200 OK", "{}").await;
    answered_by(&mut stand, &first, &through_proxy(), "503 Busy", "{}").await;
    assert!(second.is_alone().await, "it has no room");
    answered_by(&mut stand, &first, &through_proxy(), "200 OK", "{}").await;
    refused(&mut stand, &through_proxy()).await;
}

#[tokio::test]
async fn a_dear_attempt_in_doubt_is_not_followed_by_one_that_there_is_no_money_for() {
    let (first, second) = (Vendor::start().await, Vendor::start().await);
    // A hundred of output and eight of input are reserved: there is room for one, and for another only without doubt.
    let budget = |most| vec![rule("budget", limit::Metric::Cost, most)];
    let mut stand = Stand::start(&proxied([&first, &second], [Vec::new(), Vec::new()], budget(150))).await;
    let mut client = stand.client().await;
    client.send(through_proxy()).await;
    let mut failing = first.accept().await;
    failing.message().await;
    drop(failing);
    assert_eq!(client.answer().await.status, 502);
    assert!(second.is_alone().await, "the first may have run");
    stand.record().await;
    let told = refused(&mut stand, &through_proxy()).await;
    assert!(told.contains("`budget`"), "{told}");
    // With room for two there is another attempt, and both are spent.
    let mut stand = Stand::start(&proxied([&first, &second], [Vec::new(), Vec::new()], budget(300))).await;
    let mut client = stand.client().await;
    client.send(through_proxy()).await;
    let mut failing = first.accept().await;
    failing.message().await;
    drop(failing);
    let mut upstream = second.accept().await;
    upstream.message().await;
    let usage = r#"{"model":"gpt-4o","usage":{"prompt_tokens":100,"completion_tokens":92}}"#;
    upstream.send(answer("200 OK", "Connection: close\r\n", usage)).await;
    assert_eq!(client.answer().await.status, 200);
    assert_eq!(stand.record().await.cost_nanos, Some(192), "the record tells of the answer");
    refused(&mut stand, &through_proxy()).await;
}
