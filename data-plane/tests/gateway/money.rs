//! Rules about money and about models: what a request may cost is taken before it is sent, what it did cost is what it has
//! used, and what nobody can price or bound is refused where a rule says so.

use data_plane::pipeline::account::{Outcome, Record};
use proto::config::{self, Kind, limit, template};

use super::fixture::*;

/// Nano-dollars per token of input and of output of `gpt-4o`.
const INPUT: u64 = 2;
const OUTPUT: u64 = 10;

fn cost(most: u64) -> config::Limit {
    config::Limit {
        name: "budget".to_owned(),
        metric: limit::Metric::Cost.into(),
        limit: most,
        calendar: limit::Calendar::Month.into(),
        output_estimate: 100,
        ..config::Limit::default()
    }
}

fn strict(most: u64) -> config::Limit {
    config::Limit { output_bound_required: true, ..cost(most) }
}

fn price(model: &str, input: u64, output: u64) -> config::Price {
    let rates =
        config::Rates { input: Some(input * 1_000_000), output: Some(output * 1_000_000), ..Default::default() };
    config::Price { models: texts([model]), version: "1".to_owned(), rates: Some(rates), ..config::Price::default() }
}

fn prices() -> config::Prices {
    let shipped = vec![price("gpt-4o", INPUT, OUTPUT), price("free", 0, 0), price("embed", 1, 0)];
    config::Prices { own: vec![], shipped }
}

/// The draft with prices, a template that knows bounds, and these rules on its key.
fn keyed(url: &str, limits: Vec<config::Limit>) -> Draft {
    let request = template::Request {
        output_bound: texts(["/max_tokens", "/max_completion_tokens"]),
        output_times: texts(["/n"]),
        elsewhere: texts(["/previous_response_id"]),
        uncharged_paths: texts(["/v1/count"]),
        ..template::Request::default()
    };
    Draft::new(url)
        .put(
            Kind::Template,
            TEMPLATE,
            &config::Template { request: Some(request), ..template(config::Dialect::Openai) },
        )
        .put(Kind::Prices, TEMPLATE, &prices())
        .put(Kind::ApiKey, KEY, &config::ApiKey { limits, ..api_key(&key(1), &[PROVIDER, PROXY]) })
}

fn chat(model: &str, more: &str) -> String {
    format!(r#"{{"model":"{model}","messages":[]{more}}}"#)
}

fn usage(input: u64, output: u64) -> String {
    format!(r#"{{"model":"gpt-4o","usage":{{"prompt_tokens":{input},"completion_tokens":{output}}}}}"#)
}

async fn answered(stand: &mut Stand, vendor: &Vendor, body: &str, said: &str) -> Record {
    let mut client = stand.client().await;
    client.send(post("/v1/chat/completions", body)).await;
    let mut upstream = vendor.accept().await;
    let (_, sent) = upstream.message().await;
    assert_eq!(String::from_utf8_lossy(&sent), body, "every byte as it was");
    upstream.send(answer("200 OK", "Connection: close\r\n", said)).await;
    assert_eq!(client.answer().await.status, 200);
    loop {
        let record = stand.record().await;
        if record.outcome == Outcome::Answered {
            return record;
        }
    }
}

/// The message of the refusal of this body.
async fn refused(stand: &mut Stand, vendor: &Vendor, body: &str, status: u16, label: &str) -> String {
    let answer = stand.ask(post("/v1/chat/completions", body)).await;
    assert_eq!(answer.status, status, "{}", answer.text());
    let error = &answer.json()["error"];
    assert_eq!(error["code"], label, "{}", answer.text());
    assert!(vendor.is_alone().await, "nothing was sent");
    let record = stand.record().await;
    assert_eq!((record.refusal, record.admitted, record.cost_nanos), (Some(label), false, Some(0)));
    error["message"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn money_is_taken_before_and_the_bill_is_what_is_used() {
    let vendor = Vendor::start().await;
    // 2000 are 100 of output and some of input, twice not.
    let mut stand = Stand::start(&keyed(&vendor.url(), vec![cost(2000)])).await;
    let record = answered(&mut stand, &vendor, &chat("gpt-4o", ""), &usage(10, 3)).await;
    assert_eq!(record.cost_nanos, Some(50));
    // One is on its way, so another does not fit.
    let mut first = stand.client().await;
    first.send(post("/v1/chat/completions", &chat("gpt-4o", ""))).await;
    let mut upstream = vendor.accept().await;
    upstream.message().await;
    let message = refused(&mut stand, &vendor, &chat("gpt-4o", ""), 429, "limit_exceeded").await;
    assert!(message.contains("`budget` of this API key is reached: $0.000002 cost per month"), "{message}");
    // One that says how little it wants does.
    answered(&mut stand, &vendor, &chat("gpt-4o", r#","max_tokens":10"#), &usage(10, 3)).await;
    upstream.send(answer("200 OK", "Connection: close\r\n", &usage(10, 185))).await;
    assert_eq!(first.answer().await.status, 200);
    assert_eq!(stand.record().await.cost_nanos, Some(1870));
    // 1970 are used.
    refused(&mut stand, &vendor, &chat("gpt-4o", r#","max_tokens":10"#), 429, "limit_exceeded").await;
    answered(&mut stand, &vendor, &chat("free", ""), &usage(10, 3).replace("gpt-4o", "free")).await;
    // Neither what asks no model, nor what names one and runs none, costs anything.
    for request in [get("/v1/models"), post("/v1/count", &chat("gpt-4o", ""))] {
        let mut client = stand.client().await;
        client.send(request).await;
        let mut upstream = vendor.accept().await;
        upstream.message().await;
        upstream.send(answer("200 OK", "Connection: close\r\n", "{}")).await;
        assert_eq!(client.answer().await.status, 200);
    }
}

#[tokio::test]
async fn what_has_no_price_is_refused_by_name_or_let_pass() {
    let vendor = Vendor::start().await;
    let mut stand = Stand::start(&keyed(&vendor.url(), vec![cost(2000)])).await;
    let message = refused(&mut stand, &vendor, &chat("gpt-9", ""), 403, "unpriced_model").await;
    assert!(message.contains("gpt-9 of llm-provider openai"), "{message}");
    assert!(message.contains("limit budget of this api-key") && message.contains("/api/v1/prices"), "{message}");
    let message = refused(&mut stand, &vendor, r#"{"messages":[]}"#, 403, "unpriced_model").await;
    assert!(message.contains("names no model"), "{message}");
    // Two names are no name: the cheaper one is not believed.
    let two = r#"{"model":"free","model":"gpt-4o"}"#;
    let answer = stand.ask(post("/v1/chat/completions", two)).await;
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (400, &"ambiguous_model".into()));
    stand.record().await;
    for lax in [config::Limit { unpriced_allowed: true, ..cost(2000) }, config::Limit { shadow: true, ..cost(2000) }] {
        stand.runtime.store(Some(keyed(&vendor.url(), vec![lax]).compile()));
        let record = answered(&mut stand, &vendor, &chat("gpt-9", ""), &usage(1, 1).replace("gpt-4o", "gpt-9")).await;
        assert!(record.unpriced && record.admitted);
        answered(&mut stand, &vendor, r#"{"messages":[]}"#, "{}").await;
    }
}

#[tokio::test]
async fn a_rule_that_is_never_exceeded_wants_a_bound_and_says_which() {
    let vendor = Vendor::start().await;
    let mut stand = Stand::start(&keyed(&vendor.url(), vec![strict(100_000)])).await;
    let message = refused(&mut stand, &vendor, &chat("gpt-4o", ""), 400, "unbounded_request").await;
    assert!(message.contains("set max_tokens or max_completion_tokens"), "{message}");
    assert!(message.contains("limit budget of this api-key"), "{message}");
    for (more, says) in [
        (r#","max_tokens":5,"max_tokens":50000"#, "in two ways"),
        (r#","max_tokens":5,"MAX_TOKENS":50000"#, "in two ways"),
        (r#","max_tokens":"5""#, "in two ways"),
        (r#","max_tokens":5,"previous_response_id":"resp_1""#, "/previous_response_id"),
    ] {
        let message = refused(&mut stand, &vendor, &chat("gpt-4o", more), 400, "unbounded_request").await;
        assert!(message.contains(says), "{more}: {message}");
    }
    // Ten thousand of output do not fit, however they are asked for.
    for more in
        [r#","max_tokens":10000"#, r#","max_tokens":10,"max_completion_tokens":10000"#, r#","max_tokens":1000,"n":10"#]
    {
        let message = refused(&mut stand, &vendor, &chat("gpt-4o", more), 429, "limit_exceeded").await;
        assert!(message.contains("more than the limit `budget`"), "{message}");
    }
    // What puts out nothing that costs needs no bound.
    answered(&mut stand, &vendor, &chat("embed", ""), &usage(10, 0).replace("gpt-4o", "embed")).await;
    let record = answered(&mut stand, &vendor, &chat("gpt-4o", r#","max_tokens":1000"#), &usage(10, 3)).await;
    assert_eq!(record.cost_nanos, Some(50));
}

#[tokio::test]
async fn a_vendor_that_lies_about_usage_spoils_no_count_and_loses_no_record() {
    let vendor = Vendor::start().await;
    let lies = [
        r#"{"prompt_tokens":-5,"completion_tokens":-7}"#,
        r#"{"prompt_tokens":1e99,"completion_tokens":1e99}"#,
        r#"{"prompt_tokens":18446744073709551615,"completion_tokens":18446744073709551615}"#,
        r#"{"prompt_tokens":"12","completion_tokens":"many"}"#,
        "null",
        "[]",
    ];
    for lie in lies {
        // Just enough for what is reserved once.
        let body = chat("gpt-4o", r#","max_tokens":1000"#);
        let most = (body.len() as u64 + 2048) * INPUT + 1000 * OUTPUT;
        let mut stand = Stand::start(&keyed(&vendor.url(), vec![strict(most)])).await;
        let said = format!(r#"{{"model":"gpt-4o","usage":{lie}}}"#);
        let record = answered(&mut stand, &vendor, &body, &said).await;
        assert_eq!(record.cost_nanos, None, "{lie}: it is not believed");
        // What it may have come to stays spent.
        refused(&mut stand, &vendor, &body, 429, "limit_exceeded").await;
        // The meter still counts: half as much again is room for one, and then for none.
        stand.runtime.store(Some(keyed(&vendor.url(), vec![strict(most * 2)]).compile()));
        answered(&mut stand, &vendor, &body, &usage(10, 1000)).await;
        refused(&mut stand, &vendor, &body, 429, "limit_exceeded").await;
        stand.no_more_records();
    }
}

#[tokio::test]
async fn money_is_settled_in_every_ending() {
    let vendor = Vendor::start().await;
    let body = chat("gpt-4o", r#","max_tokens":1000"#);
    let most = (body.len() as u64 + 2048) * INPUT + 1000 * OUTPUT;
    // A vendor's error costs nothing, and what was never sent does not.
    let mut stand = Stand::start(&keyed(&vendor.url(), vec![strict(most)])).await;
    for _ in 0..3 {
        let mut client = stand.client().await;
        client.send(post("/v1/chat/completions", &body)).await;
        let mut upstream = vendor.accept().await;
        upstream.message().await;
        upstream.send(answer("500 Oops", "Connection: close\r\n", "{}")).await;
        assert_eq!(client.answer().await.status, 500);
        assert_eq!(stand.record().await.cost_nanos, Some(0));
    }
    stand.runtime.store(Some(keyed("http://127.0.0.1:1", vec![strict(most)]).compile()));
    for _ in 0..3 {
        assert_eq!(stand.ask(post("/v1/chat/completions", &body)).await.status, 502);
        assert_eq!(stand.record().await.cost_nanos, Some(0));
    }
    // A client that leaves: the vendor may go on, so all of it stays spent.
    stand.runtime.store(Some(keyed(&vendor.url(), vec![strict(most)]).compile()));
    let mut client = stand.client().await;
    client.send(post("/v1/chat/completions", &body)).await;
    let mut upstream = vendor.accept().await;
    upstream.message().await;
    upstream.send(STREAM).await;
    client.head().await;
    drop((client, upstream));
    while stand.record().await.outcome != Outcome::ClientGone {}
    refused(&mut stand, &vendor, &body, 429, "limit_exceeded").await;
    // So may one that did not answer in time.
    let timeouts = Some(config::Timeouts { first_byte_ms: 100, ..config::Timeouts::default() });
    let slow = config::Endpoint { timeouts, ..provider("/openai", &vendor.url()) };
    let draft = keyed(&vendor.url(), vec![strict(most)]).put(Kind::Endpoint, PROVIDER, &slow);
    let mut stand = Stand::start(&draft).await;
    let mut client = stand.client().await;
    client.send(post("/v1/chat/completions", &body)).await;
    let mut upstream = vendor.accept().await;
    upstream.message().await;
    assert_eq!(client.answer().await.status, 504);
    assert_eq!(stand.record().await.cost_nanos, None);
    refused(&mut stand, &vendor, &body, 429, "limit_exceeded").await;
    drop(upstream);
    // One that broke off before it answered may have worked as well.
    let mut stand = Stand::start(&keyed(&vendor.url(), vec![strict(most)])).await;
    let mut client = stand.client().await;
    client.send(post("/v1/chat/completions", &body)).await;
    let mut upstream = vendor.accept().await;
    upstream.message().await;
    drop(upstream);
    assert_eq!(client.answer().await.status, 502);
    stand.record().await;
    refused(&mut stand, &vendor, &body, 429, "limit_exceeded").await;
}

#[tokio::test]
async fn a_rule_about_models_counts_those_alone() {
    let vendor = Vendor::start().await;
    let rule = config::Limit {
        name: "dear".to_owned(),
        metric: limit::Metric::Requests.into(),
        limit: 1,
        window_ms: 3_600_000,
        models: texts(["gpt-4*"]),
        ..config::Limit::default()
    };
    let mut stand = Stand::start(&keyed(&vendor.url(), vec![rule])).await;
    for _ in 0..2 {
        answered(&mut stand, &vendor, &chat("o3", ""), "{}").await;
    }
    answered(&mut stand, &vendor, &chat("gpt-4o", ""), "{}").await;
    refused(&mut stand, &vendor, &chat("gpt-4o-mini", ""), 429, "limit_exceeded").await;
    answered(&mut stand, &vendor, &chat("o3", ""), "{}").await;
    // A body that hides its model is counted with them.
    let hidden = stand.ask(post("/v1/chat/completions", r#"{"messages":[]}"#)).await;
    assert_eq!(hidden.status, 429, "{}", hidden.text());
}

#[tokio::test]
async fn a_websocket_costs_what_it_came_to_and_nothing_bounds_it() {
    let vendor = Vendor::start().await;
    let draft = |rule, price| {
        let template = config::Template {
            realtime_paths: texts(["/v1/realtime"]),
            request: Some(template::Request { output_bound: texts(["/max_tokens"]), ..template::Request::default() }),
            ..template(config::Dialect::Openai)
        };
        keyed(&vendor.url(), vec![rule]).put(Kind::Template, TEMPLATE, &template).put(
            Kind::Prices,
            TEMPLATE,
            &config::Prices { own: vec![], shipped: vec![price] },
        )
    };
    let realtime = || price("gpt-realtime", INPUT, OUTPUT);
    let mut stand = Stand::start(&draft(strict(1_000_000), realtime())).await;
    let refused = stand.ask(super::tunnel::keyed("")).await;
    assert_eq!((refused.status, &refused.json()["error"]["code"]), (400, &"unbounded_request".into()));
    stand.record().await;
    stand.runtime.store(Some(draft(cost(1_000_000), price("gpt-4o", INPUT, OUTPUT)).compile()));
    let refused = stand.ask(super::tunnel::keyed("")).await;
    assert_eq!((refused.status, &refused.json()["error"]["code"]), (403, &"unpriced_model".into()));
    assert!(refused.text().contains("gpt-realtime of llm-provider openai"), "{}", refused.text());
    stand.record().await;
    assert!(vendor.is_alone().await, "nothing was sent");
    // A hundred of output are taken for it: a second one does not fit.
    stand.runtime.store(Some(draft(cost(1_500), realtime()).compile()));
    let mut client = stand.client().await;
    client.send(super::tunnel::keyed("")).await;
    let mut upstream = vendor.accept().await;
    assert!(upstream.head().await.starts_with("GET /v1/realtime?model=gpt-realtime HTTP/1.1\r\n"));
    assert_eq!(stand.ask(super::tunnel::keyed("")).await.status, 429);
}
