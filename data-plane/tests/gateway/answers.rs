//! Answers as they come: streams, their facts, and every way they can end.

use std::time::{Duration, Instant};

use data_plane::pipeline::account::Outcome;
use proto::config::{Dialect, Kind};

use super::fixture::*;

const CHAT: &str = "/v1/chat/completions";
const BODY: &str = "{\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}],\"stream\":true,\"model\":\"gpt-4o\"}";

#[tokio::test]
async fn every_piece_is_written_before_the_next_is_awaited() {
    let vendor = Vendor::start().await;
    let mut stand = Stand::start(&Draft::new(&vendor.url())).await;
    let mut client = stand.client().await;
    client.send(post(CHAT, BODY)).await;
    let mut upstream = vendor.accept().await;
    upstream.message().await;
    upstream.send(STREAM).await;
    // Nothing of the body has been sent, and the head is there.
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert_eq!(header(&head, "content-type"), Some("text/event-stream; charset=utf-8"));
    for piece in
        ["data: {\"model\":\"gpt-4o-2024\",\"usage\":null}\n\n", ": keep-alive\n\n", "data: {\"cho", "ices\":[]}\n"]
    {
        upstream.send(chunk(piece)).await;
        assert_eq!(client.until(piece).await.split_once("\r\n").unwrap().1, piece);
        client.until("\r\n").await;
    }
    let usage = "\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":12}}\n\ndata: [DONE]\n\n";
    upstream.send(chunk(usage)).await;
    upstream.send("0\r\n\r\n").await;
    client.until("data: [DONE]\n\n\r\n").await;
    client.until("0\r\n\r\n").await;
    let record = stand.record().await;
    assert_eq!((record.outcome, record.streamed), (Outcome::Answered, true));
    assert_eq!((record.input_tokens, record.output_tokens), (Some(9), Some(12)));
    assert_eq!(record.requested_model.as_deref(), Some("gpt-4o"));
    assert_eq!(record.served_model.as_deref(), Some("gpt-4o-2024"));
    // Both connections are fit for another request.
    client.send(post(CHAT, BODY)).await;
    upstream.message().await;
    upstream.send(ok("{}")).await;
    assert_eq!(client.answer().await.status, 200);
}

#[tokio::test]
async fn a_client_that_leaves_while_the_vendor_is_silent_cancels_it_at_once() {
    let vendor = Vendor::start().await;
    let mut stand = Stand::start(&Draft::new(&vendor.url())).await;
    for streaming in [false, true] {
        let mut client = stand.client().await;
        client.send(post(CHAT, BODY)).await;
        let mut upstream = vendor.accept().await;
        upstream.message().await;
        if streaming {
            upstream.send(STREAM).await;
            upstream.send(chunk("data: {}\n\n")).await;
            client.until("data: {}\n\n").await;
        }
        let left = Instant::now();
        drop(client);
        assert_eq!(upstream.rest().await, b"");
        let cancelled = left.elapsed();
        assert!(cancelled < Duration::from_millis(100), "streaming: {streaming}, after {cancelled:?}");
        let record = stand.record().await;
        assert_eq!(record.outcome, Outcome::ClientGone);
        assert_eq!(record.status, streaming.then_some(200));
    }
    stand.no_more_records();
}

#[tokio::test]
async fn a_vendor_that_dies_in_mid_stream_is_an_error_event_and_a_cut() {
    let vendor = Vendor::start().await;
    let mut stand = Stand::start(&Draft::new(&vendor.url())).await;
    for cut_in_event in [false, true] {
        let mut client = stand.client().await;
        client.send(post(CHAT, BODY)).await;
        let mut upstream = vendor.accept().await;
        upstream.message().await;
        upstream.send(STREAM).await;
        let piece = if cut_in_event { "data: {\"a\":" } else { "data: {\"a\":1}\n\n" };
        upstream.send(chunk(piece)).await;
        client.until(piece).await;
        drop(upstream);
        let rest = String::from_utf8(client.rest().await).unwrap();
        let event = rest.split_once("data: ").unwrap_or_else(|| panic!("no event: {rest:?}")).1;
        assert_eq!(rest.contains("\n\ndata: "), cut_in_event, "{rest:?}");
        let event: serde_json::Value = serde_json::from_str(event.split("\n\n").next().unwrap()).unwrap();
        assert_eq!(event["error"]["code"], "upstream_broken");
        assert!(!rest.contains("\r\n0\r\n"), "a clean end: {rest:?}");
        let record = stand.record().await;
        assert_eq!((record.outcome, record.refusal), (Outcome::UpstreamBroken, None));
    }
}

#[tokio::test]
async fn an_anthropic_stream_breaks_in_anthropics_words() {
    let vendor = Vendor::start().await;
    let draft = Draft::new(&vendor.url()).put(Kind::Template, TEMPLATE, &template(Dialect::Anthropic));
    let stand = Stand::start(&draft).await;
    let mut client = stand.client().await;
    client.send(post("/v1/messages", BODY)).await;
    let mut upstream = vendor.accept().await;
    upstream.message().await;
    upstream.send(STREAM).await;
    upstream.send(chunk("event: ping\ndata: {\"type\":\"ping\"}\n\n")).await;
    client.until("ping\"}\n\n").await;
    drop(upstream);
    let rest = String::from_utf8(client.rest().await).unwrap();
    assert!(rest.contains("event: error\ndata: {"), "{rest:?}");
    assert!(rest.contains("\"type\":\"error\""), "{rest:?}");
}

#[tokio::test]
async fn an_answer_that_is_no_stream_is_cut_short_of_its_length() {
    let vendor = Vendor::start().await;
    let mut stand = Stand::start(&Draft::new(&vendor.url())).await;
    let mut client = stand.client().await;
    client.send(post(CHAT, BODY)).await;
    let mut upstream = vendor.accept().await;
    upstream.message().await;
    upstream.send("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n{\"a\":").await;
    let head = client.head().await;
    assert_eq!(header(&head, "content-length"), Some("10"));
    assert_eq!(client.exactly(5).await, b"{\"a\":");
    drop(upstream);
    assert_eq!(client.rest().await, b"");
    assert_eq!(stand.record().await.outcome, Outcome::UpstreamBroken);
}

#[tokio::test]
async fn a_stream_that_falls_silent_ends_by_its_deadline() {
    let vendor = Vendor::start().await;
    let draft = Draft::new(&vendor.url());
    let mut stand =
        Stand::with(Some(&draft), |config| config.deadlines.upstream_idle = Duration::from_millis(200)).await;
    let mut client = stand.client().await;
    client.send(post(CHAT, BODY)).await;
    let mut upstream = vendor.accept().await;
    upstream.message().await;
    upstream.send(STREAM).await;
    upstream.send(chunk("data: {}\n\n")).await;
    let rest = String::from_utf8(client.rest().await).unwrap();
    assert!(rest.contains("upstream_silent"), "{rest:?}");
    assert_eq!(stand.record().await.outcome, Outcome::UpstreamBroken);
    assert_eq!(upstream.rest().await, b"");
}

#[tokio::test]
async fn a_vendors_error_passes_byte_for_byte() {
    let vendor = Vendor::start().await;
    let mut stand = Stand::start(&Draft::new(&vendor.url())).await;
    let body = "{\"error\": {\"message\":\"slow  down\", \"type\":\"tokens\",\"code\":\"rate_limit_exceeded\"}}\n";
    let reply = answer("429 Too Many Requests", "Retry-After: 20\r\nx-should-retry: true\r\n", body);
    let (answer, _) = tokio::join!(stand.ask(post(CHAT, BODY)), vendor.once(&reply));
    assert_eq!((answer.status, answer.text()), (429, body));
    assert_eq!((answer.header("retry-after"), answer.header("x-should-retry")), (Some("20"), Some("true")));
    let record = stand.record().await;
    assert_eq!((record.outcome, record.status, record.refusal), (Outcome::VendorError, Some(429), None));
}

#[tokio::test]
async fn a_rejected_credential_is_not_the_callers_fault() {
    let vendor = Vendor::start().await;
    let mut stand = Stand::start(&Draft::new(&vendor.url())).await;
    let reply = answer("401 Unauthorized", "", "{\"error\":{\"message\":\"Incorrect API key provided: sk-ven***\"}}");
    let (answer, _) = tokio::join!(stand.ask(post(CHAT, BODY)), vendor.once(&reply));
    assert_eq!(answer.status, 502);
    assert_eq!(answer.json()["error"]["code"], "upstream_auth");
    assert_eq!(answer.header("x-should-retry"), Some("false"));
    assert!(!answer.text().contains("sk-ven"));
    let record = stand.record().await;
    assert_eq!((record.refusal, record.status), (Some("upstream_auth"), Some(502)));
    assert_eq!(record.outcome, Outcome::Refused);
    assert_eq!(record.upstream_status, Some(401));
}

#[tokio::test]
async fn gemini_says_it_with_a_400_that_can_mean_other_things() {
    let vendor = Vendor::start().await;
    let draft = Draft::new(&vendor.url()).put(Kind::Template, TEMPLATE, &template(Dialect::Gemini));
    let mut stand = Stand::start(&draft).await;
    let path = "/v1beta/models/gemini-2.5-flash:generateContent?key=unused&alt=sse";
    let bad = answer("400 Bad Request", "", "{\"error\":{\"details\":[{\"reason\":\"API_KEY_INVALID\"}]}}");
    let (refused, _) = tokio::join!(stand.ask(post(path, "{}")), vendor.once(&bad));
    assert_eq!((refused.status, &refused.json()["error"]["status"]), (502, &"UNAVAILABLE".into()));
    assert_eq!(refused.json()["error"]["code"], 502);
    let record = stand.record().await;
    assert_eq!((record.refusal, record.requested_model.as_deref()), (Some("upstream_auth"), Some("gemini-2.5-flash")));

    let other = "{\"error\":{\"code\":400,\"message\":\"no contents\"}}";
    let reply = answer("400 Bad Request", "", other);
    let (passed, (head, _)) = tokio::join!(stand.ask(post(path, "{}")), vendor.once(&reply));
    assert_eq!((passed.status, passed.text()), (400, other));
    assert!(head.starts_with("POST /v1beta/models/gemini-2.5-flash:generateContent?alt=sse HTTP/1.1\r\n"), "{head}");
    assert_eq!(header(&head, "x-goog-api-key"), Some(SECRET));
    assert_eq!(stand.record().await.outcome, Outcome::VendorError);
}

#[tokio::test]
async fn a_reader_that_stops_pauses_the_vendor() {
    let vendor = Vendor::start().await;
    let mut stand = Stand::start(&Draft::new(&vendor.url())).await;
    let mut client = stand.client().await;
    client.send(get("/v1/files/large/content")).await;
    let mut upstream = vendor.accept().await;
    upstream.message().await;
    let total = 256_usize << 20;
    upstream
        .send(format!("HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: {total}\r\n\r\n"))
        .await;
    client.head().await;
    // The client reads no more: what the vendor can get rid of is what the kernel and we hold, not the file.
    let block = vec![7_u8; 1 << 20];
    let mut sent = 0;
    while sent < total {
        let piece = tokio::time::timeout(Duration::from_millis(500), upstream.try_send(&block)).await;
        if piece.is_err() {
            break;
        }
        sent += block.len();
    }
    // Four socket buffers of at most 6 MiB lie on the way.
    assert!(sent < 40 << 20, "{sent} bytes went somewhere");
    drop(client);
    assert_eq!(stand.record().await.outcome, Outcome::ClientGone);
}

type Message = (Vec<(String, String)>, Vec<u8>);

/// Headers and payload of each message, as Amazon's own client reads them: lengths and both checksums must be right.
fn messages(mut bytes: &[u8]) -> Vec<Message> {
    let number = |bytes: &[u8], at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let mut messages = Vec::new();
    while !bytes.is_empty() {
        let (total, head) = (number(bytes, 0) as usize, number(bytes, 4) as usize);
        let (message, rest) = bytes.split_at(total);
        assert_eq!(number(message, 8), crc32fast::hash(&message[..8]), "the checksum of the prelude");
        assert_eq!(number(message, total - 4), crc32fast::hash(&message[..total - 4]), "the checksum of the message");
        let (mut left, mut headers) = (&message[12..12 + head], Vec::new());
        while let [name, more @ ..] = left {
            let (name, more) = more.split_at(usize::from(*name));
            assert_eq!(more[0], 7, "a string");
            let (value, more) = more[3..].split_at(usize::from(u16::from_be_bytes([more[1], more[2]])));
            headers.push((text(name), text(value)));
            left = more;
        }
        messages.push((headers, message[12 + head..total - 4].to_vec()));
        bytes = rest;
    }
    messages
}

#[tokio::test]
async fn an_amazon_stream_that_dies_between_two_messages_ends_in_an_exception_and_within_one_in_nothing() {
    let template = proto::config::Template {
        usage: Some(proto::config::template::Usage {
            framing: proto::config::StreamFraming::AwsEventStream as i32,
            ..proto::config::template::Usage::default()
        }),
        ..template(Dialect::Bedrock)
    };
    let vendor = Vendor::start().await;
    let draft = Draft::new(&vendor.url()).put(Kind::Template, TEMPLATE, &template);
    let mut stand = Stand::start(&draft).await;
    let payload = b"{\"bytes\":\"e30=\"}";
    let mut said = Vec::new();
    for part in [&u32::to_be_bytes(16 + 16)[..], &u32::to_be_bytes(0)] {
        said.extend_from_slice(part);
    }
    said.extend(crc32fast::hash(&said).to_be_bytes());
    said.extend_from_slice(payload);
    said.extend(crc32fast::hash(&said).to_be_bytes());
    for whole in [true, false] {
        let said = if whole { &said[..] } else { &said[..said.len() - 1] };
        let dies = async {
            let mut connection = vendor.accept().await;
            connection.message().await;
            let kind = "application/vnd.amazon.eventstream";
            let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n");
            connection.send(format!("{head}{:x}\r\n", said.len())).await;
            connection.send([said, b"\r\n"].concat()).await;
        };
        let mut client = stand.client().await;
        client.send(post("/model/m/converse-stream", "{}")).await;
        let (head, ()) = tokio::join!(client.head(), dies);
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        // Chunks until the connection ends, and no last one.
        let mut rest = &client.rest().await[..];
        let mut body = Vec::new();
        while let Some(end) = rest.windows(2).position(|pair| pair == b"\r\n") {
            let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
            assert_ne!(size, 0, "a clean end");
            body.extend_from_slice(&rest[end + 2..end + 2 + size]);
            rest = &rest[end + 2 + size + 2..];
        }
        assert_eq!(stand.record().await.outcome, Outcome::UpstreamBroken);
        if !whole {
            assert_eq!(body, said, "behind half a message nothing can be said");
            continue;
        }
        let read = messages(&body);
        assert_eq!(read.len(), 2);
        assert_eq!(read[0], (vec![], payload.to_vec()));
        let (headers, payload) = &read[1];
        let header = |name: &str| headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str());
        assert_eq!(header(":message-type"), Some("exception"));
        assert_eq!(header(":exception-type"), Some("modelStreamErrorException"));
        assert_eq!(header(":content-type"), Some("application/json"));
        let payload: serde_json::Value = serde_json::from_slice(payload).unwrap();
        assert!(payload["message"].as_str().is_some_and(|message| message.len() > 10), "{payload}");
        assert!(payload["requestId"].as_str().is_some_and(|id| id.starts_with("req_")), "{payload}");
    }
}
