//! Who may call what.

use std::time::{SystemTime, UNIX_EPOCH};

use data_plane::pipeline::account::Outcome;
use proto::config::{ApiKey, Dialect, Endpoint, Kind};

use super::fixture::*;

/// Everything of an answer but what names the request.
fn nameless(answer: &Answer) -> (u16, String, String) {
    let id = answer.header("x-request-id").unwrap();
    assert!(id.starts_with("req_") && answer.header("x-lockgate-request-id") == Some(id));
    let head: Vec<_> = answer.head.lines().filter(|line| !line.starts_with("date:")).collect();
    (answer.status, head.join("\n").replace(id, "ID"), answer.text().replace(id, "ID"))
}

#[tokio::test]
async fn what_is_wrong_with_a_key_is_not_told() {
    let vendor = Vendor::start().await;
    let now = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap();
    let expired = ApiKey { expires_at_ms: now - 1, ..api_key(&key(2), &[PROVIDER]) };
    let disabled = ApiKey { disabled: true, ..api_key(&key(3), &[PROVIDER]) };
    let mut rotated = api_key(&key(4), &[PROVIDER]);
    rotated.credentials[0].expires_at_ms = now - 1;
    let draft = Draft::new(&vendor.url()).put(Kind::ApiKey, 22, &expired).put(Kind::ApiKey, 23, &disabled).put(
        Kind::ApiKey,
        24,
        &rotated,
    );
    let mut stand = Stand::start(&draft).await;
    let with = |header: &str| format!("GET /openai/v1/models HTTP/1.1\r\nHost: gw\r\n{header}\r\n");
    let missing = nameless(&stand.ask(with("")).await);
    assert_eq!(missing.0, 401);
    assert!(missing.2.contains("X-API-Key"), "{}", missing.2);
    let mut mistyped = key(1);
    mistyped.pop();
    mistyped.push(if key(1).ends_with('0') { '1' } else { '0' });
    for wrong in ["x".to_owned(), "sk-1".to_owned(), mistyped, key(9), key(2), key(3), key(4), "é".to_owned()] {
        let answer = stand.ask(with(&format!("X-API-Key: {wrong}\r\n"))).await;
        assert_eq!(nameless(&answer), missing, "{wrong}");
    }
    assert!(vendor.is_alone().await);
    stand.no_more_records();
}

#[tokio::test]
async fn a_key_in_the_query_opens_and_goes_no_further() {
    let vendor = Vendor::start().await;
    let stand = Stand::start(&Draft::new(&vendor.url())).await;
    let request = format!("GET /openai/v1/x?a=%2f&api%5fkey={}&b HTTP/1.1\r\nHost: gw\r\n\r\n", key(1));
    let (answer, (head, _)) = tokio::join!(stand.ask(request), vendor.once(ok("{}")));
    assert_eq!(answer.status, 200);
    assert!(head.starts_with("GET /v1/x?a=%2f&b HTTP/1.1\r\n"), "{head}");
}

#[tokio::test]
async fn the_first_place_with_a_value_decides_and_two_values_in_one_are_refused() {
    let vendor = Vendor::start().await;
    let stand = Stand::start(&Draft::new(&vendor.url())).await;
    let key = key(1);
    let with = |headers: &str| format!("GET /openai/v1/x HTTP/1.1\r\nHost: gw\r\n{headers}\r\n\r\n");
    let wrong_first = stand.ask(with(&format!("X-API-Key: no\r\nAuthorization: Bearer {key}"))).await;
    assert_eq!(wrong_first.status, 401);
    for twice in [
        format!("X-API-Key: {key}\r\nX-API-Key: {key}"),
        format!("X-API-Key: {key}\r\nAuthorization: Bearer a\r\nAuthorization: Bearer b"),
    ] {
        let answer = stand.ask(with(&twice)).await;
        assert_eq!((answer.status, &answer.json()["error"]["code"]), (400, &"ambiguous_key".into()));
    }
    let both = format!("X-API-Key: {key}\r\nAuthorization: Bearer placeholder");
    let (answer, _) = tokio::join!(stand.ask(with(&both)), vendor.once(ok("{}")));
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn a_valid_key_that_does_not_open_the_endpoint_is_told_so() {
    let vendor = Vendor::start().await;
    let draft = Draft::new(&vendor.url()).put(Kind::ApiKey, KEY, &api_key(&key(1), &[PROXY]));
    let mut stand = Stand::start(&draft).await;
    let answer = stand.ask(get("/v1/models")).await;
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (403, &"key_out_of_scope".into()));
    let record = stand.record().await;
    assert_eq!((record.outcome, record.admitted), (Outcome::Refused, false));
    assert_eq!((record.refusal, record.provider_id), (Some("key_out_of_scope"), None));
    assert!(vendor.is_alone().await);
}

#[tokio::test]
async fn a_disabled_endpoint_is_closed_to_everyone_and_closes_its_proxies() {
    let vendor = Vendor::start().await;
    let disabled = Endpoint { disabled: true, ..provider("/openai", &vendor.url()) };
    let stand = Stand::start(&Draft::new(&vendor.url()).put(Kind::Endpoint, PROVIDER, &disabled)).await;
    let keyless = "GET /openai/v1/x HTTP/1.1\r\nHost: gw\r\n\r\n".to_owned();
    let proxied = get("/v1/x").replace("/openai", "/team/proxy");
    for request in [get("/v1/x"), keyless, proxied] {
        let answer = stand.ask(&request).await;
        assert_eq!((answer.status, &answer.json()["error"]["code"]), (403, &"endpoint_disabled".into()), "{request}");
    }
    assert!(vendor.is_alone().await);
}

#[tokio::test]
async fn unknown_contexts_have_one_answer_that_every_sdk_reads() {
    let stand = Stand::start(&Draft::new("http://127.0.0.1:1")).await;
    for path in ["/", "/openaix/v1", "/team", "/team/other", "/v1/chat/completions"] {
        let answer = stand.ask(format!("GET {path} HTTP/1.1\r\nHost: gw\r\n\r\n")).await;
        let body = answer.json();
        assert_eq!(answer.status, 404, "{path}");
        assert_eq!((&body["error"]["code"], &body["error"]["status"]), (&404.into(), &"NOT_FOUND".into()));
        assert_eq!((&body["type"], &body["error"]["type"]), (&"error".into(), &"not_found_error".into()));
        assert_eq!(body["message"], body["error"]["message"]);
    }
}

#[tokio::test]
async fn refusals_speak_the_callers_dialect() {
    for (dialect, pointer, value) in [
        (Dialect::Openai, "/error/code", "invalid_api_key"),
        (Dialect::Anthropic, "/error/type", "authentication_error"),
        (Dialect::Gemini, "/error/status", "UNAUTHENTICATED"),
        (Dialect::Mistral, "/code", "invalid_api_key"),
        (Dialect::Bedrock, "/__type", "AccessDeniedException"),
    ] {
        let draft = Draft::new("http://127.0.0.1:1").put(Kind::Template, TEMPLATE, &template(dialect));
        let stand = Stand::start(&draft).await;
        let answer = stand.ask("POST /openai/v1 HTTP/1.1\r\nHost: gw\r\nContent-Length: 0\r\n\r\n").await;
        assert_eq!(
            (answer.status, &answer.json().pointer(pointer).unwrap().as_str()),
            (401, &Some(value)),
            "{dialect:?}"
        );
        assert_eq!(answer.header("content-type"), Some("application/json"));
    }
}

#[tokio::test]
async fn without_a_configuration_nothing_is_allowed_and_nothing_is_a_401() {
    let stand = Stand::with(None, |_| {}).await;
    let answer = stand.ask(get("/v1/models")).await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    let admin = stand.admin;
    let probe = |path: &'static str| async move {
        let mut client = Client::connect(admin).await;
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        client.answer().await
    };
    assert_eq!((probe("/healthz").await.status, probe("/readyz").await.status), (200, 503));
    let vendor = Vendor::start().await;
    stand.runtime.store(Some(Draft::new(&vendor.url()).compile()));
    let (answer, _) = tokio::join!(stand.ask(get("/v1/models")), vendor.once(ok("{}")));
    assert_eq!((answer.status, probe("/readyz").await.status), (200, 200));
    let metrics = probe("/metrics").await;
    for line in [
        "lockgate_requests_total{endpoint=\"openai\",outcome=\"answered\"} 1",
        "lockgate_refusals_total{refusal=\"not_ready\"} 1",
        "lockgate_configuration_revision 7",
    ] {
        assert!(metrics.text().lines().any(|found| found == line), "{line} in {}", metrics.text());
    }
}

#[tokio::test]
async fn a_request_finishes_on_the_configuration_it_began_with() {
    let vendor = Vendor::start().await;
    let mut stand = Stand::start(&Draft::new(&vendor.url())).await;
    let mut client = stand.client().await;
    client.send(get("/v1/models")).await;
    let mut upstream = vendor.accept().await;
    upstream.head().await;
    stand.runtime.store(Some(Draft::default().settings(&[]).compile()));
    upstream.send(ok("{}")).await;
    assert_eq!(client.answer().await.status, 200);
    assert_eq!(stand.record().await.outcome, Outcome::Answered);
    client.send(get("/v1/models")).await;
    assert_eq!(client.answer().await.status, 404);
}
