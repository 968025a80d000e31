//! Streams: what comes is passed on before the next piece is awaited, and who leaves is noticed.

use std::time::{Duration, Instant};

use serde_json::json;
use tests::{
    Answer, Endpoint, Gate, Key, Stack, Upstream, Vendor, assert_refusal,
    client::{Call, Ending},
    upstream::End,
};

async fn a_provider(stack: &Stack, vendor: Vendor) -> (Upstream, Endpoint, Key) {
    let upstream = Upstream::start(vendor).await;
    let provider = stack.provider(vendor.name(), &upstream).await;
    let key = stack.key(vendor.name(), &[&provider]).await;
    (upstream, provider, key)
}

#[tokio::test]
async fn the_head_goes_out_before_the_first_piece_and_each_piece_before_the_next() {
    let stack = Stack::sqlite().await;
    for vendor in Vendor::ALL {
        let (upstream, provider, key) = a_provider(&stack, vendor).await;
        let gates: Vec<Gate> = (0..3).map(|_| Gate::new()).collect();
        let events = vendor.chat_events(false);
        let answer = events[..3]
            .iter()
            .zip(&gates)
            .fold(Answer::stream(), |answer, (event, gate)| answer.wait(gate).piece(event.clone()));
        upstream.next(answer);
        let mut exchange = stack.client().begin(&provider.chat(true).key(&key.secret)).await.unwrap();
        // No gate is open: the head alone has been sent.
        let head = exchange.head().await;
        assert_eq!(head.status, 200, "{vendor:?}");
        assert_eq!(exchange.so_far(), "");
        let mut expected = String::new();
        for (event, gate) in events.iter().zip(&gates) {
            gate.open();
            expected.push_str(event);
            // The next gate is closed: whatever waits for a second piece never gets past this.
            assert_eq!(exchange.until(&expected).await, expected, "{vendor:?}");
        }
        assert_eq!(exchange.whole().await.ending, Ending::Clean, "{vendor:?}");
    }
    stack.shutdown().await;
}

#[tokio::test]
async fn an_event_cut_into_single_bytes_arrives_whole() {
    let stack = Stack::sqlite().await;
    for vendor in Vendor::ALL {
        let (upstream, provider, key) = a_provider(&stack, vendor).await;
        let whole = vendor.chat_events(false).concat();
        upstream.next(whole.bytes().fold(Answer::stream(), |answer, byte| answer.piece(vec![byte])));
        let reply = stack.send(&provider.chat(true).key(&key.secret)).await;
        assert_eq!(reply.text(), whole, "{vendor:?}");
    }
    stack.shutdown().await;
}

#[tokio::test]
async fn a_client_that_leaves_cancels_at_the_vendor_within_a_tenth_of_a_second() {
    let stack = Stack::sqlite().await;
    let (upstream, provider, key) = a_provider(&stack, Vendor::OpenAi).await;
    let first = &Vendor::OpenAi.chat_events(false)[0];
    let moments = [
        // In mid-stream, while the vendor says nothing.
        (Answer::stream().piece(first.clone()).hang(), true),
        // Before the vendor has said anything.
        (Answer::silence(), false),
    ];
    for (number, (answer, begun)) in moments.into_iter().enumerate() {
        upstream.next(answer);
        let mut exchange = stack.client().begin(&provider.chat(true).key(&key.secret)).await.unwrap();
        if begun {
            exchange.until(first).await;
        }
        let seen = upstream.request(number + 1).await;
        assert_eq!(seen.end(), End::Open);
        let left = Instant::now();
        drop(exchange);
        let End::Gone { at, .. } = seen.ended().await else { panic!("the vendor must be told: {:?}", seen.end()) };
        let after = at.saturating_duration_since(left);
        assert!(after < Duration::from_millis(100), "told after {after:?}");
    }
    let rows = stack.usage_rows(2).await;
    assert!(rows.iter().all(|row| row["outcome"] == "client_gone"), "{rows:#?}");
    stack.shutdown().await;
}

#[tokio::test]
async fn a_vendor_that_dies_in_mid_stream_is_an_error_event_and_never_a_clean_end() {
    let stack = Stack::sqlite().await;
    for vendor in Vendor::ALL {
        let (upstream, provider, key) = a_provider(&stack, vendor).await;
        let events = vendor.chat_events(false);
        for broken in
            [Answer::stream().piece(events[0].clone()).cut(), Answer::stream().piece(events[0].clone()).reset()]
        {
            upstream.next(broken);
            let reply = stack.send(&provider.chat(true).key(&key.secret)).await;
            let text = reply.text();
            assert!(text.starts_with(&events[0]), "{vendor:?}: {text}");
            let rest = &text[events[0].len()..];
            assert!(rest.contains("error") && rest.contains("req_"), "{vendor:?}: the end must be told: {rest:?}");
            assert!(!rest.contains("[DONE]"), "{vendor:?}: {rest}");
            if vendor == Vendor::Anthropic {
                assert!(rest.starts_with("event: error\n"), "{rest}");
            }
        }
    }
    let rows = stack.usage_rows(10).await;
    assert!(rows.iter().all(|row| row["outcome"] == "upstream_broken"), "{rows:#?}");
    stack.shutdown().await;
}

#[tokio::test]
async fn half_an_answer_that_is_no_stream_never_ends_cleanly() {
    let stack = Stack::sqlite().await;
    let (upstream, provider, key) = a_provider(&stack, Vendor::OpenAi).await;
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{\"half\":";
    upstream.next(Answer::raw(head));
    let mut exchange = stack.client().begin(&provider.chat(false).key(&key.secret)).await.unwrap();
    let reply = exchange.whole().await;
    assert_eq!(reply.ending, Ending::Broken, "{}", reply.text());
    stack.shutdown().await;
}

#[tokio::test]
async fn a_change_in_mid_stream_does_not_touch_the_stream() {
    let stack = Stack::sqlite().await;
    let (upstream, provider, key) = a_provider(&stack, Vendor::OpenAi).await;
    let gate = Gate::new();
    upstream.next(Answer::stream().piece("data: 1\n\n").wait(&gate).piece("data: 2\n\n"));
    let mut exchange = stack.client().begin(&provider.chat(true).key(&key.secret)).await.unwrap();
    exchange.until("data: 1\n\n").await;
    stack.rest().post(&format!("/api-keys/{}/revoke", key.id), &json!({})).await.expect(200);
    stack.settle().await;
    let refused = stack.send(&provider.chat(false).key(&key.secret)).await;
    assert_refusal(Vendor::OpenAi, &refused, 401, "invalid_api_key");
    gate.open();
    let reply = exchange.whole().await;
    assert_eq!((reply.text().as_str(), reply.ending), ("data: 1\n\ndata: 2\n\n", Ending::Clean));
    stack.shutdown().await;
}

#[tokio::test]
async fn a_request_is_passed_on_while_it_is_still_being_sent() {
    let stack = Stack::sqlite().await;
    let (upstream, provider, key) = a_provider(&stack, Vendor::OpenAi).await;
    // Larger than any buffer on the way: it only fits if it is passed on.
    let size = 8 << 20;
    let call = provider.call("POST", "/v1/files").key(&key.secret).header("content-length", &size.to_string());
    let mut exchange = stack.client().begin(&call).await.unwrap();
    for _ in 0..8 {
        exchange.write(&vec![b'x'; 1 << 20]).await.unwrap();
    }
    let reply = exchange.whole().await;
    assert_eq!(reply.json()["bytes"], size, "{}", reply.text());
    assert_eq!(upstream.the_one().request.body.len(), size);
    stack.shutdown().await;
}

#[tokio::test]
async fn a_chunked_request_arrives_whole() {
    let stack = Stack::sqlite().await;
    let (upstream, provider, key) = a_provider(&stack, Vendor::OpenAi).await;
    let call = provider.call("POST", "/v1/files").key(&key.secret).header("Transfer-Encoding", "chunked");
    let call = call.body("5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n");
    let reply = stack.send(&call).await;
    assert_eq!(reply.status(), 200, "{}", reply.text());
    assert_eq!(upstream.the_one().request.body, "hello world");
    // The check of a key comes before the first byte of a body is asked for.
    let polite =
        Call::new("POST", &format!("{}/v1/files", provider.context)).key("wrong").header("Expect", "100-continue");
    let reply = stack.send(&polite.header("content-length", "5")).await;
    assert_eq!(reply.status(), 401);
    stack.shutdown().await;
}
