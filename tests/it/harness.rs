//! The harness itself: what every other story relies on must be able to fail.

use serde_json::json;
use tests::{
    Answer, Client, Gate, Upstream, Vendor,
    client::{Call, Ending},
    upstream::End,
};

fn call(upstream: &Upstream, streamed: bool) -> Call {
    let vendor = upstream.vendor();
    let (header, value) = vendor.credential_header(upstream.credential());
    Call::post(vendor.chat_path(streamed), &vendor.chat_body(streamed))
        .header(header, &value)
        .header("anthropic-version", "2023-06-01")
}

#[tokio::test]
async fn every_vendor_answers_whole_and_in_pieces() {
    for vendor in Vendor::ALL {
        let upstream = Upstream::start(vendor).await;
        let client = Client::new(&upstream.url());
        let whole = client.send(&call(&upstream, false)).await;
        assert_eq!(whole.status(), 200, "{vendor:?}: {}", whole.text());
        assert!(whole.text().contains(Vendor::TEXT), "{vendor:?}: {}", whole.text());
        let streamed = client.send(&call(&upstream, true)).await;
        assert_eq!(streamed.header("content-type"), Some("text/event-stream; charset=utf-8"), "{vendor:?}");
        assert_eq!(streamed.ending, Ending::Clean, "{vendor:?}");
        for piece in Vendor::PIECES {
            assert!(streamed.text().contains(&format!("\"{piece}\"")), "{vendor:?}: {}", streamed.text());
        }
        assert_eq!(upstream.seen().len(), 2);
    }
}

#[tokio::test]
async fn a_vendor_insists_on_what_the_real_one_insists_on() {
    let azure = Upstream::start(Vendor::Azure).await;
    let (header, value) = Vendor::Azure.credential_header(azure.credential());
    let mut body = Vendor::Azure.chat_body(true);
    body["stream_options"] = json!({"include_usage": true});
    let asked = Call::post(Vendor::Azure.chat_path(true), &body).header(header, &value);
    let refused = Client::new(&azure.url()).send(&asked).await;
    assert_eq!(refused.status(), 400, "{}", refused.text());

    let anthropic = Upstream::start(Vendor::Anthropic).await;
    let asked =
        Call::post("/v1/messages", &Vendor::Anthropic.chat_body(false)).header("x-api-key", anthropic.credential());
    let refused = Client::new(&anthropic.url()).send(&asked).await;
    assert_eq!(refused.status(), 400, "{}", refused.text());
}

#[tokio::test]
async fn a_gateway_key_at_a_vendor_is_noticed_wherever_it_hides() {
    let upstream = Upstream::start(Vendor::OpenAi).await;
    let client = Client::new(&upstream.url());
    let right = call(&upstream, false);
    let hiding_places = [
        right.clone().header("X-Trace", "LGK_abc"),
        right.clone().body("{\"messages\": \"lgk_abc\"}"),
        Call::get("/v1/models?key=lgk_abc").header("Authorization", &format!("Bearer {}", upstream.credential())),
    ];
    for hidden in &hiding_places {
        client.send(hidden).await;
        assert_eq!(upstream.take_breaches().len(), 1, "{hidden:?}");
    }
    client.send(&Call::get("/v1/models").header("Authorization", "Bearer another")).await;
    assert_eq!(upstream.take_breaches().len(), 1, "a wrong credential is one too");
    client.send(&right).await;
    assert!(upstream.breaches().is_empty(), "{:?}", upstream.breaches());
}

#[tokio::test]
#[should_panic(expected = "a vendor's credential came to the client")]
async fn a_credential_at_a_client_is_noticed() {
    let upstream = Upstream::start(Vendor::OpenAi).await;
    upstream.next(Answer::json(200, &json!({"leak": upstream.credential()})));
    Client::new(&upstream.url()).send(&call(&upstream, false)).await;
}

#[tokio::test]
async fn pieces_come_when_the_gate_opens_and_a_client_that_leaves_is_seen() {
    let upstream = Upstream::start(Vendor::OpenAi).await;
    let gate = Gate::new();
    upstream.next(Answer::stream().piece("first").wait(&gate).piece("second").hang());
    let client = Client::new(&upstream.url());
    let mut exchange = client.begin(&call(&upstream, true)).await.unwrap();
    assert_eq!(exchange.until("first").await, "first");
    gate.open();
    assert_eq!(exchange.until("second").await, "firstsecond");
    assert_eq!(upstream.the_one().end(), End::Open);
    drop(exchange);
    assert!(matches!(upstream.the_one().ended().await, End::Gone { .. }));
}

#[tokio::test]
async fn half_answers_are_told_from_whole_ones() {
    let upstream = Upstream::start(Vendor::OpenAi).await;
    let client = Client::new(&upstream.url());
    for broken in [Answer::stream().piece("half").cut(), Answer::stream().piece("half").reset()] {
        upstream.next(broken);
        let reply = client.send(&call(&upstream, true)).await;
        assert_eq!((reply.text().as_str(), reply.ending), ("half", Ending::Broken));
    }
}
