//! WebSocket: who may open one, what the vendor is asked, and the bytes of both sides as they come. Both ends are played
//! in raw bytes, so that it is known what has passed at which moment.

use std::time::Duration;

use data_plane::pipeline::account::Outcome;
use proto::config::{self, Kind};
use tokio::net::TcpStream;

use super::fixture::*;

const NONCE: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// What RFC 6455 section 1.3 has for this nonce.
pub const AGREED: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";
/// A close frame of each side: "normal".
pub const VENDOR_CLOSES: &[u8] = &[0x88, 2, 0x03, 0xe8];
pub const CLIENT_CLOSES: &[u8] = &[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8];
const GOING_AWAY: &[u8] = &[0x88, 2, 0x03, 0xe9];

fn realtime() -> config::Template {
    config::Template {
        realtime_paths: texts(["/v1/realtime"]),
        realtime_key_protocol: "openai-insecure-api-key.".to_owned(),
        ..template(config::Dialect::Openai)
    }
}

pub fn draft(vendor: &Vendor) -> Draft {
    Draft::new(&vendor.url()).put(Kind::Template, TEMPLATE, &realtime())
}

/// The handshake, with these headers on top; each ends in CR LF.
fn upgrade(path: &str, headers: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: gw\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {NONCE}\r\n{headers}\r\n"
    )
}

pub fn keyed(headers: &str) -> String {
    upgrade("/openai/v1/realtime?model=gpt-realtime", &format!("X-API-Key: {}\r\n{headers}", key(1)))
}

/// A tunnel: the client's end and the vendor's.
async fn tunnel(stand: &Stand, vendor: &Vendor) -> (Client<TcpStream>, Client<TcpStream>) {
    let mut client = stand.client().await;
    client.send(keyed("")).await;
    let mut upstream = vendor.accept().await;
    upstream.head().await;
    upstream.send(format!("{AGREED}\r\n")).await;
    assert!(client.head().await.starts_with("HTTP/1.1 101 "));
    (client, upstream)
}

#[tokio::test]
async fn a_websocket_is_carried_both_ways_and_accounted_for_once() {
    let vendor = Vendor::start().await;
    let mut stand = Stand::start(&draft(&vendor)).await;
    let mut client = stand.client().await;
    let offer = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\
        Sec-WebSocket-Protocol: realtime, openai-beta.realtime-v1\r\nOpenAI-Beta: realtime=v1\r\nCookie: a=b\r\n";
    client.send(keyed(offer)).await;
    let mut upstream = vendor.accept().await;
    let asked = upstream.head().await;
    assert!(asked.starts_with("GET /v1/realtime?model=gpt-realtime HTTP/1.1\r\n"), "{asked}");
    for (name, value) in [
        ("connection", Some("Upgrade")),
        ("upgrade", Some("websocket")),
        ("sec-websocket-key", Some(NONCE)),
        ("sec-websocket-version", Some("13")),
        ("sec-websocket-extensions", Some("permessage-deflate; client_max_window_bits")),
        ("sec-websocket-protocol", Some("realtime, openai-beta.realtime-v1")),
        ("openai-beta", Some("realtime=v1")),
        ("authorization", Some("Bearer sk-vendor-credential")),
        ("x-api-key", None),
        ("cookie", None),
    ] {
        assert_eq!(header(&asked, name), value, "{name}: {asked}");
    }
    let agreed = format!(
        "{AGREED}Sec-WebSocket-Protocol: realtime\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\
         X-Request-Id: req_vendor\r\nSet-Cookie: a=b\r\n\r\n"
    );
    // The vendor's first words come in one segment with its head.
    upstream.send(format!("{agreed}\u{1}\u{2}hi")).await;
    let answer = client.head().await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    for (name, value) in [
        ("connection", Some("Upgrade")),
        ("upgrade", Some("websocket")),
        ("sec-websocket-accept", Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")),
        ("sec-websocket-protocol", Some("realtime")),
        ("sec-websocket-extensions", Some("permessage-deflate")),
        ("x-request-id", Some("req_vendor")),
        ("set-cookie", None),
        ("content-length", None),
    ] {
        assert_eq!(header(&answer, name), value, "{name}: {answer}");
    }
    assert!(header(&answer, "x-lockgate-request-id").is_some_and(|id| id.starts_with("req_")));
    assert_eq!(client.exactly(4).await, b"\x01\x02hi");
    let every_byte: Vec<u8> = (0..=255).collect();
    client.send([&[0x82, 0xfe, 1, 0, 9, 9, 9, 9], every_byte.as_slice()].concat()).await;
    assert_eq!(upstream.exactly(264).await[8..], every_byte);
    upstream.send([&[0x82, 126, 1, 0], every_byte.as_slice()].concat()).await;
    assert_eq!(client.exactly(260).await[4..], every_byte);
    stand.no_more_records();
    client.send(CLIENT_CLOSES).await;
    assert_eq!(upstream.exactly(8).await, CLIENT_CLOSES);
    upstream.send(VENDOR_CLOSES).await;
    drop(upstream);
    assert_eq!(client.rest().await, VENDOR_CLOSES);
    drop(client);
    let record = stand.record().await;
    assert_eq!((record.outcome, record.status, record.upstream_status), (Outcome::Answered, Some(101), Some(101)));
    assert_eq!((record.request_bytes, record.response_bytes), (264 + 8, 4 + 260 + 4));
    assert_eq!((record.requested_model.as_deref(), &*record.path), (Some("gpt-realtime"), "/v1/realtime"));
    assert!(record.streamed && record.admitted && record.first_byte_us.is_some());
    stand.no_more_records();
}

#[tokio::test]
async fn nothing_passes_before_the_vendor_agrees_and_early_bytes_are_not_lost() {
    let vendor = Vendor::start().await;
    let stand = Stand::start(&draft(&vendor)).await;
    let mut client = stand.client().await;
    // Bytes that would be a request, if anyone read them as one.
    let early = get("/v1/models");
    client.send(format!("{}{early}", keyed(""))).await;
    let mut upstream = vendor.accept().await;
    upstream.head().await;
    client.send("and more").await;
    upstream.nothing_more().await;
    upstream.send(format!("{AGREED}\r\n")).await;
    client.head().await;
    assert_eq!(upstream.exactly(early.len() + 8).await, format!("{early}and more").into_bytes());
    assert!(vendor.is_alone().await, "nothing was read as a request");
}

#[tokio::test]
async fn early_bytes_are_never_a_request_when_the_vendor_does_not_agree() {
    let vendor = Vendor::start().await;
    let mut stand = Stand::start(&draft(&vendor)).await;
    for status in ["200 OK", "403 Forbidden", "426 Upgrade Required"] {
        let mut client = stand.client().await;
        client.send(format!("{}{}", keyed(""), get("/v1/models"))).await;
        let mut upstream = vendor.accept().await;
        upstream.head().await;
        upstream.send(answer(status, "X-Vendor: no\r\n", r#"{"error":{"message":"so said the vendor"}}"#)).await;
        let answer = client.answer().await;
        assert_eq!(answer.status.to_string(), status[..3]);
        assert_eq!(answer.header("x-vendor"), Some("no"));
        assert_eq!(answer.text(), r#"{"error":{"message":"so said the vendor"}}"#);
        assert_eq!(answer.header("connection"), Some("close"));
        assert_eq!(client.rest().await, b"", "no second answer");
        let record = stand.record().await;
        let ending = if status.starts_with('2') { Outcome::Answered } else { Outcome::VendorError };
        assert_eq!((record.outcome, record.upstream_status), (ending, status[..3].parse().ok()));
    }
    // Refused by the gateway itself: the same.
    let mut client = stand.client().await;
    client.send(format!("{}{}", upgrade("/openai/v1/realtime", ""), get("/v1/models"))).await;
    assert_eq!(client.answer().await.status, 401);
    assert_eq!(client.rest().await, b"");
    assert!(vendor.is_alone().await);
}

#[tokio::test]
async fn a_handshake_is_refused_by_name_and_the_vendor_hears_nothing() {
    let vendor = Vendor::start().await;
    let draft = draft(&vendor).put(
        Kind::Endpoint,
        PROVIDER,
        &config::Endpoint { realtime_disabled: false, ..provider("/openai", &vendor.url()) },
    );
    let stand = Stand::start(&draft).await;
    let whole = keyed("");
    let refusals = [
        (whole.replace("/v1/realtime", "/v1/models"), 405, "upgrade_not_supported"),
        (whole.replace("/v1/realtime", "/v1/realtime/x"), 405, "upgrade_not_supported"),
        (whole.replace("Upgrade: websocket", "Upgrade: h3"), 405, "upgrade_not_supported"),
        (whole.replace("GET ", "POST ").replace("\r\n\r\n", "\r\nContent-Length: 0\r\n\r\n"), 400, "bad_websocket"),
        (whole.replace("keep-alive, Upgrade", "keep-alive"), 400, "bad_websocket"),
        (whole.replace(NONCE, "short"), 400, "bad_websocket"),
        (whole.replace("Sec-WebSocket-Key", "X-Key"), 400, "bad_websocket"),
        (whole.replace("\r\n\r\n", "\r\nContent-Length: 5\r\n\r\nhello"), 400, "bad_websocket"),
        (whole.replace("Version: 13", "Version: 8"), 426, "websocket_version"),
        (whole.replace(&key(1), &key(9)), 401, "invalid_api_key"),
    ];
    for (request, status, label) in refusals {
        let mut client = stand.client().await;
        client.send(&request).await;
        let answer = client.answer().await;
        assert_eq!(answer.status, status, "{request}");
        assert!(answer.text().contains(label), "{label}: {}", answer.text());
        if status == 426 {
            assert_eq!(answer.header("sec-websocket-version"), Some("13"));
            assert_eq!(answer.header("upgrade"), Some("websocket"));
        }
        assert_eq!(client.rest().await, b"", "{label} closes");
    }
    assert!(vendor.is_alone().await);
}

#[tokio::test]
async fn an_endpoint_and_its_provider_must_both_allow_it() {
    let vendor = Vendor::start().await;
    let off = |endpoint| config::Endpoint { realtime_disabled: true, ..endpoint };
    let without = |endpoint, message| draft(&vendor).put(Kind::Endpoint, endpoint, &off(message));
    let through_proxy = keyed("").replace("/openai/", "/team/proxy/");
    for (draft, open, closed) in [
        (without(PROXY, proxy("/team/proxy")), Some(keyed("")), through_proxy.clone()),
        (without(PROVIDER, provider("/openai", &vendor.url())), None, keyed("")),
        (without(PROVIDER, provider("/openai", &vendor.url())), None, through_proxy),
    ] {
        let stand = Stand::start(&draft).await;
        let answer = stand.ask(&closed).await;
        assert_eq!(answer.status, 405);
        assert_eq!(answer.json()["error"]["code"], "realtime_disabled");
        if let Some(open) = open {
            let mut client = stand.client().await;
            client.send(open).await;
            vendor.once(format!("{AGREED}\r\n")).await;
            assert!(client.head().await.starts_with("HTTP/1.1 101 "));
        }
    }
    assert!(vendor.is_alone().await);
}

#[tokio::test]
async fn a_browsers_key_is_read_from_its_subprotocol_and_stays_here() {
    let vendor = Vendor::start().await;
    let stand = Stand::start(&draft(&vendor)).await;
    let path = "/openai/v1/realtime";
    let offer = |keys: &str| format!("Origin: https://app.example\r\nSec-WebSocket-Protocol: realtime{keys}\r\n");
    let protocol = |key: &str| format!(", openai-insecure-api-key.{key}");
    for (request, left) in [
        (upgrade(path, &offer(&protocol(&key(1)))), Some("realtime")),
        (upgrade(path, &offer(&format!("{}, openai-beta.v1", protocol(&key(1))))), Some("realtime, openai-beta.v1")),
        // Another place decides, and still none of them goes on.
        (keyed(&offer(&protocol(&key(9)))), Some("realtime")),
        (upgrade(path, &offer(&protocol(&key(1))).replace("realtime, ", "")), None),
    ] {
        let mut client = stand.client().await;
        client.send(&request).await;
        let mut upstream = vendor.accept().await;
        let asked = upstream.head().await;
        assert_eq!(header(&asked, "sec-websocket-protocol"), left, "{asked}");
        assert!(!asked.contains("lgk_") && !asked.contains("insecure"), "{asked}");
        assert_eq!(header(&asked, "authorization"), Some("Bearer sk-vendor-credential"));
        upstream.send(format!("{AGREED}\r\n")).await;
        assert!(client.head().await.starts_with("HTTP/1.1 101 "));
    }
    let wrong = stand.ask(upgrade(path, &offer(&protocol(&key(9))))).await;
    assert_eq!(wrong.status, 401);
    let twice = stand.ask(upgrade(path, &offer(&format!("{}{}", protocol(&key(1)), protocol(&key(1)))))).await;
    assert_eq!((twice.status, twice.json()["error"]["code"].as_str()), (400, Some("ambiguous_key")));
    // Where the vendor's own place is closed, so is this form of it.
    let strict = config::Endpoint {
        key_locations: vec![header_location("x-api-key", "")],
        ..provider("/openai", &vendor.url())
    };
    let stand = Stand::start(&draft(&vendor).put(Kind::Endpoint, PROVIDER, &strict)).await;
    assert_eq!(stand.ask(upgrade(path, &offer(&protocol(&key(1))))).await.status, 401);
    // It is a place of WebSockets alone.
    let plain = get("/v1/models").replace(&format!("X-API-Key: {}", key(1)), offer(&protocol(&key(1))).trim_end());
    assert_eq!(stand.ask(plain).await.status, 401);
    assert!(vendor.is_alone().await);
}

#[tokio::test]
async fn a_101_that_answers_nothing_is_a_502() {
    let vendor = Vendor::start().await;
    let mut stand = Stand::start(&draft(&vendor)).await;
    for wrong in [
        AGREED.replace("s3pPLM", "s3pPLm"),
        AGREED.replace("Upgrade: websocket", "Upgrade: h2c"),
        AGREED.replace("Connection: Upgrade", "Connection: keep-alive"),
        "HTTP/1.1 101 Switching Protocols\r\n".to_owned(),
    ] {
        let mut client = stand.client().await;
        client.send(keyed("")).await;
        let mut upstream = vendor.accept().await;
        upstream.head().await;
        upstream.send(format!("{wrong}\r\nsecret words")).await;
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (502, Some("upstream_broken")), "{wrong}");
        assert_eq!(client.rest().await, b"");
        assert_eq!(upstream.rest().await, b"", "the connection is not used again");
        assert_eq!(stand.record().await.outcome, Outcome::UpstreamFailed);
    }
}

#[tokio::test]
async fn a_side_that_does_not_read_pauses_the_other() {
    const PIECE: usize = 1 << 20;
    let vendor = Vendor::start().await;
    let stand = Stand::start(&draft(&vendor)).await;
    for from_client in [true, false] {
        let (client, upstream) = tunnel(&stand, &vendor).await;
        let (mut from, mut to) = if from_client { (client, upstream) } else { (upstream, client) };
        // What two kernels and 16 KiB hold is a few megabytes; the rest has to wait.
        let mut sent = 0;
        while from.try_send_within(&vec![7; PIECE], Duration::from_millis(500)).await {
            sent += PIECE;
            assert!(sent < 64 * PIECE, "nobody pauses the writer");
        }
        let held = to.take_while_there().await;
        assert!(held > 0 && held <= sent + PIECE, "{held} of {sent}");
        // It goes on where it stopped.
        from.send(b"on it goes").await;
        to.until("on it goes").await;
    }
}

#[tokio::test]
async fn each_side_may_end_its_half() {
    let vendor = Vendor::start().await;
    let mut stand = Stand::start(&draft(&vendor)).await;
    let (mut client, mut upstream) = tunnel(&stand, &vendor).await;
    client.send(b"last words").await;
    client.shut().await;
    assert_eq!(upstream.rest().await, b"last words");
    upstream.send(b"an answer to them").await;
    drop(upstream);
    assert_eq!(client.rest().await, b"an answer to them");
    assert_eq!(stand.record().await.outcome, Outcome::ClientGone, "nobody said farewell");
    let (mut client, mut upstream) = tunnel(&stand, &vendor).await;
    upstream.send(VENDOR_CLOSES).await;
    upstream.shut().await;
    assert_eq!(client.rest().await, VENDOR_CLOSES);
    client.send(CLIENT_CLOSES).await;
    drop(client);
    assert_eq!(upstream.rest().await, CLIENT_CLOSES);
    assert_eq!(stand.record().await.outcome, Outcome::Answered);
}

#[tokio::test]
async fn whoever_leaves_without_a_farewell_is_named_and_the_other_is_told_at_once() {
    let vendor = Vendor::start().await;
    let mut stand = Stand::start(&draft(&vendor)).await;
    let (client, mut upstream) = tunnel(&stand, &vendor).await;
    drop(client);
    assert_eq!(upstream.rest().await, b"");
    drop(upstream);
    assert_eq!(stand.record().await.outcome, Outcome::ClientGone);
    for reset in [false, true] {
        let (mut client, mut upstream) = tunnel(&stand, &vendor).await;
        upstream.send(b"\x01\x05half").await;
        client.until("half").await;
        if reset {
            upstream.reset();
        }
        drop(upstream);
        assert_eq!(client.rest().await, b"");
        drop(client);
        assert_eq!(stand.record().await.outcome, Outcome::UpstreamBroken);
    }
}

#[tokio::test]
async fn silence_on_both_sides_ends_it() {
    let vendor = Vendor::start().await;
    let mut stand = Stand::with(Some(&draft(&vendor)), |config| {
        config.deadlines.upstream_idle = Duration::from_millis(300);
    })
    .await;
    let (mut client, mut upstream) = tunnel(&stand, &vendor).await;
    // One side alone keeps it open, for longer than the deadline in all.
    for _ in 0..5 {
        client.send(b"\x82\x80\0\0\0\0").await;
        upstream.exactly(6).await;
        client.nothing_more().await;
    }
    upstream.send(b"\x82\x01x").await;
    assert_eq!(client.rest().await, [b"\x82\x01x", GOING_AWAY].concat());
    assert_eq!(upstream.rest().await, [0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe9]);
    let record = stand.record().await;
    assert_eq!((record.outcome, record.response_bytes), (Outcome::UpstreamBroken, 3));
}

#[tokio::test]
async fn a_stopping_node_ends_it_with_a_farewell_between_frames() {
    let vendor = Vendor::start().await;
    let mut stand =
        Stand::with(Some(&draft(&vendor)), |config| config.deadlines.drain = Duration::from_millis(200)).await;
    let (mut between, mut upstream) = tunnel(&stand, &vendor).await;
    let (mut within_frame, mut broken_off) = tunnel(&stand, &vendor).await;
    upstream.send(b"\x82\x02ab").await;
    between.exactly(4).await;
    broken_off.send(b"\x02\x7e\x10\x00and so on").await;
    within_frame.until("and so on").await;
    let stopping = tokio::spawn(async move {
        stand.stop().await;
        stand
    });
    // Still open while the node drains.
    between.send(b"\x81\x82\0\0\0\0ok").await;
    assert_eq!(upstream.exactly(8).await, b"\x81\x82\0\0\0\0ok");
    assert_eq!(between.rest().await, GOING_AWAY);
    assert_eq!(upstream.rest().await, [0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe9]);
    assert_eq!(within_frame.rest().await, b"");
    let mut stand = within("shutdown", stopping).await.unwrap();
    for _ in 0..2 {
        assert_eq!(stand.record().await.outcome, Outcome::Drained);
    }
    stand.no_more_records();
}

#[tokio::test]
async fn a_tunnels_connection_is_never_used_again() {
    let vendor = Vendor::start().await;
    let stand = Stand::start(&draft(&vendor)).await;
    // A pooled connection may become a tunnel ...
    let mut plain = stand.client().await;
    plain.send(get("/v1/models")).await;
    let mut upstream = vendor.accept().await;
    upstream.message().await;
    upstream.send(ok("{}")).await;
    plain.answer().await;
    let mut client = plain;
    client.send(keyed("")).await;
    upstream.head().await;
    upstream.send(format!("{AGREED}\r\n")).await;
    client.head().await;
    upstream.send(VENDOR_CLOSES).await;
    client.exactly(4).await;
    client.send(CLIENT_CLOSES).await;
    drop(client);
    assert_eq!(upstream.rest().await, CLIENT_CLOSES);
    // ... and ends as one.
    let mut plain = stand.client().await;
    plain.send(get("/v1/models")).await;
    vendor.once(ok("{}")).await;
    assert_eq!(plain.answer().await.status, 200);
}

#[tokio::test]
async fn a_client_that_stays_when_the_vendor_has_gone_does_not_keep_the_tunnel() {
    let vendor = Vendor::start().await;
    let mut stand = Stand::start(&draft(&vendor)).await;
    let (mut client, mut upstream) = tunnel(&stand, &vendor).await;
    upstream.send(VENDOR_CLOSES).await;
    drop(upstream);
    assert_eq!(client.rest().await, VENDOR_CLOSES);
    // It says nothing more, and does not leave either.
    assert_eq!(stand.record().await.outcome, Outcome::Answered);
    drop(client);
}

#[tokio::test]
async fn the_turns_of_a_conversation_are_counted_together() {
    let vendor = Vendor::start().await;
    let usage = config::template::Usage {
        input: texts(["/response/usage/input_tokens"]),
        output: texts(["/response/usage/output_tokens"]),
        ..config::template::Usage::default()
    };
    let metered = config::Template { usage: Some(usage), ..realtime() };
    let mut stand = Stand::start(&draft(&vendor).put(Kind::Template, TEMPLATE, &metered)).await;
    let (mut client, mut upstream) = tunnel(&stand, &vendor).await;
    let done = |input: u64, output: u64| {
        format!(
            r#"{{"type":"response.done","response":{{"usage":{{"input_tokens":{input},"output_tokens":{output}}}}}}}"#
        )
    };
    let (first, second) = (done(100, 20), done(30, 4));
    let frame = |head: u8, text: &[u8]| [&[head, u8::try_from(text.len()).unwrap()][..], text].concat();
    let (start, end) = second.as_bytes().split_at(60);
    let turns = [
        frame(0x81, first.as_bytes()),
        frame(0x01, start),
        frame(0x89, b"ping"),
        frame(0x80, end),
        // Compressed: it passes, and nobody here reads it.
        frame(0xc1, done(7, 7).as_bytes()),
        VENDOR_CLOSES.to_vec(),
    ]
    .concat();
    upstream.send(&turns).await;
    assert_eq!(client.exactly(turns.len()).await, turns);
    client.send(CLIENT_CLOSES).await;
    drop(upstream);
    drop(client);
    let record = stand.record().await;
    assert_eq!((record.input_tokens, record.output_tokens), (Some(130), Some(24)));
    assert!(!record.estimated);
}
