//! HTTP/2 at the edge of the data plane, in frames written by hand: what is announced, what is refused, and how those
//! end who send frames that carry nothing or take nothing of what they asked for.

use tests::{
    Answer, Endpoint, Key, Stack, Upstream, Vendor,
    raw::{Raw, block, frame, frames::*, preface},
};
use tokio::net::TcpStream;

async fn stack(settings: &[(&str, &str)]) -> (Stack, Upstream, Endpoint, Key) {
    let mut stack = Stack::without_nodes(None, Vec::new()).await;
    let mut all = vec![("admin.listen", "127.0.0.1:0")];
    all.extend(settings);
    stack.add_node("node-1", &all).await;
    let upstream = Upstream::start(Vendor::OpenAi).await;
    let provider = stack.provider("openai", &upstream).await;
    let key = stack.key("openai", &[&provider]).await;
    (stack, upstream, provider, key)
}

async fn connect(stack: &Stack, settings: &[(u16, u32)]) -> Raw<TcpStream> {
    let mut client = Raw::connect(stack.client().address()).await;
    client.send(preface(settings)).await;
    client
}

fn head(key: &Key, path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let mut fields = vec![
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", "gw"),
        (":path", path),
        ("x-api-key", key.secret.as_str()),
    ];
    fields.extend(more);
    block(&fields)
}

/// HEADERS, and CONTINUATION where one frame does not hold them.
fn headers(stream: u32, block: &[u8]) -> Vec<u8> {
    let mut pieces = block.chunks(16_000).peekable();
    let (mut bytes, mut kind) = (Vec::new(), HEADERS);
    while let Some(piece) = pieces.next() {
        let flags = if pieces.peek().is_none() { END_HEADERS } else { 0 };
        bytes.extend(frame(kind, if kind == HEADERS { flags | END_STREAM } else { flags }, stream, piece));
        kind = CONTINUATION;
    }
    bytes
}

/// The bodies of what comes on a stream, until its end.
async fn body(client: &mut Raw<TcpStream>, stream: u32) -> String {
    let mut body = Vec::new();
    loop {
        let frame = client.frame().await.expect("the stream must end first");
        if frame.stream == stream && frame.kind == DATA {
            body.extend(frame.payload);
        }
        if frame.stream == stream && [DATA, HEADERS].contains(&frame.kind) && frame.flags & END_STREAM != 0 {
            return String::from_utf8_lossy(&body).into_owned();
        }
    }
}

fn closed(reason: &str) -> String {
    format!("lockgate_connections_closed_total{{reason=\"{reason}\"}}")
}

/// Frame after frame, by its number.
type Flood<'a> = Box<dyn Fn(u32) -> Vec<u8> + 'a>;

/// The reason in a GOAWAY.
fn reason(payload: &[u8]) -> u32 {
    u32::from_be_bytes(payload[4..8].try_into().unwrap())
}

#[tokio::test]
async fn limits_are_announced_and_refusals_are_ours() {
    let (stack, _upstream, _provider, key) = stack(&[]).await;
    let mut client = connect(&stack, &[]).await;
    let settings = client.frame_of(SETTINGS).await.unwrap().payload;
    let told: Vec<(u16, u32)> = settings
        .chunks(6)
        .map(|entry| (u16::from_be_bytes([entry[0], entry[1]]), u32::from_be_bytes(entry[2..].try_into().unwrap())))
        .collect();
    // Streams, window of a stream, header list: twice what passes, so that the refusal can be ours.
    for setting in [(3, 100), (6, 65_536)] {
        assert!(told.contains(&setting), "{setting:?} in {told:?}");
    }
    assert!(told.iter().all(|(id, value)| *id != 4 || *value == 65_536), "{told:?}");
    let window = client.frame_of(WINDOW_UPDATE).await.unwrap();
    assert_eq!((window.stream, window.payload), (0, (1_048_576_u32 - 65_535).to_be_bytes().to_vec()));

    let (long, large) = ("x".repeat(9_000), "x".repeat(40_000));
    let many: Vec<String> = (0..100).map(|number| format!("x-{number}")).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|name| (name.as_str(), "1")).collect();
    for (stream, block, label) in [
        (1, head(&key, "/openai/v1/models", &[]), "v1/models"),
        (3, head(&key, &format!("/openai/{long}"), &[]), "uri_too_long"),
        (5, head(&key, "/openai/v1/models", &[("x-large", &large)]), "head_too_large"),
        (7, head(&key, "/openai/v1/models", &many), "head_too_large"),
        (9, head(&key, "/openai/v1/../x", &[]), "bad_path"),
        (11, head(&key, "/openai/v1/models", &[("x-api-key", "another")]), "ambiguous_key"),
        (13, head(&key, "/openai/v1/models", &[("expect", "wonders")]), "expectation_not_supported"),
    ] {
        client.send(headers(stream, &block)).await;
        let body = body(&mut client, stream).await;
        assert!(body.contains(label), "{label}: {body}");
        assert!(stream == 1 || body.contains("req_"), "{body}");
    }
    stack.shutdown().await;
}

#[tokio::test]
async fn a_head_beyond_what_was_announced_costs_its_stream_and_nothing_else() {
    let (stack, upstream, _provider, key) = stack(&[]).await;
    let mut client = connect(&stack, &[]).await;
    let large = "x".repeat(30_000);
    let more = [("x-a", large.as_str()), ("x-b", &large), ("x-c", &large)];
    client.send(headers(1, &head(&key, "/openai/v1/models", &more))).await;
    loop {
        let frame = client.frame().await.expect("the connection must stay");
        if frame.stream == 1 {
            let status = frame.kind == HEADERS && frame.flags & END_STREAM != 0;
            assert!(status || frame.kind == RST_STREAM, "no answer of a vendor: {frame:?}");
            break;
        }
    }
    assert_eq!(upstream.seen().len(), 0);
    // On the same connection, and what the refused head taught the decompressor is not lost.
    client.send(headers(3, &head(&key, "/openai/v1/models", &[]))).await;
    assert!(body(&mut client, 3).await.contains("v1/models"));
    stack.shutdown().await;
}

#[tokio::test]
async fn floods_of_frames_that_carry_nothing_are_calmed() {
    let (stack, _upstream, _provider, key) = stack(&[]).await;
    let request = |stream| headers(stream, &head(&key, "/openai/v1/models", &[]));
    let open = frame(HEADERS, 0, 1, b"");
    let reset = |stream: u32| {
        let mut bytes = request(stream);
        bytes.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
        bytes
    };
    let post = frame(HEADERS, END_HEADERS, 1, &head(&key, "/openai/v1/files", &[]));
    let floods: [(&str, Vec<u8>, Flood<'_>); 8] = [
        ("PING", vec![], Box::new(|_| frame(PING, 0, 0, &[7; 8]))),
        ("SETTINGS", vec![], Box::new(|_| frame(SETTINGS, 0, 0, &[]))),
        ("PRIORITY", vec![], Box::new(|number| frame(PRIORITY, 0, 2 * number + 1, &[0, 0, 0, 0, 1]))),
        ("WINDOW_UPDATE", vec![], Box::new(|_| frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]))),
        ("unknown frames", vec![], Box::new(|_| frame(0xee, 0, 0, &[]))),
        ("empty DATA", post, Box::new(|_| frame(DATA, 0, 1, &[]))),
        ("CONTINUATION", open, Box::new(|_| frame(CONTINUATION, 0, 1, &[]))),
        ("rapid reset", vec![], Box::new(|number| reset(2 * number + 1))),
    ];
    let mut counted = 0;
    for (what, first, flood) in floods {
        let mut client = connect(&stack, &[]).await;
        client.try_send(first).await;
        let mut sent = 0;
        while sent < 2_000_000 {
            let piece: Vec<u8> = (sent..sent + 100).flat_map(&flood).collect();
            if !client.try_send(piece).await {
                break;
            }
            sent += 100;
        }
        assert!(sent < 2_000_000, "{what}: nobody minds");
        // Its farewell may be lost to the reset that unread bytes bring about.
        while let Some(frame) = client.frame().await {
            if frame.kind == GO_AWAY {
                assert_eq!(reason(&frame.payload), 0xb, "{what}: be calm");
            }
        }
        counted += 1;
        stack.metric_becomes(0, &closed("flood"), counted).await;
    }
    // A client of normal habits is none the wiser.
    let mut client = connect(&stack, &[]).await;
    for number in 0..600 {
        client.send(request(2 * number + 1)).await;
        client.send(frame(PING, 0, 0, &[7; 8])).await;
        assert!(body(&mut client, 2 * number + 1).await.contains("v1/models"));
        client.send(frame(WINDOW_UPDATE, 0, 0, &[0, 0, 4, 0])).await;
    }
    stack.shutdown().await;
}

#[tokio::test]
async fn a_stream_that_takes_nothing_is_reset_and_its_neighbour_is_not() {
    let (stack, upstream, _provider, key) = stack(&[("deadlines.client_idle", "300ms")]).await;
    // No window for any stream.
    let mut client = connect(&stack, &[(4, 0)]).await;
    client.send(headers(1, &head(&key, "/openai/v1/models", &[]))).await;
    let answer = client.frame_of(HEADERS).await.unwrap();
    assert_eq!((answer.stream, answer.flags & END_STREAM), (1, 0));
    let reset = client.frame_of(RST_STREAM).await.unwrap();
    assert_eq!((reset.stream, reset.payload), (1, 8_u32.to_be_bytes().to_vec()), "cancelled");
    client.send(headers(3, &head(&key, "/openai/v1/models", &[]))).await;
    client.send(frame(WINDOW_UPDATE, 0, 3, &100_000_u32.to_be_bytes())).await;
    assert!(body(&mut client, 3).await.contains("v1/models"));
    stack.metric_becomes(0, "lockgate_streams_reset_total", 1).await;
    assert_eq!(upstream.seen().len(), 2);
    stack.shutdown().await;
}

#[tokio::test]
async fn every_silence_has_its_deadline_and_its_farewell() {
    let deadlines = [
        ("deadlines.head", "150ms"),
        ("deadlines.keep_alive", "900ms"),
        ("deadlines.ping_interval", "400ms"),
        ("deadlines.ping", "150ms"),
    ];
    let (stack, _upstream, _provider, key) = stack(&deadlines).await;
    let half = frame(HEADERS, END_STREAM, 1, &head(&key, "/openai/v1/models", &[]));
    let wrong = frame(SETTINGS, 0, 1, &[]);
    for (said, why, farewell) in
        [(half, "head_timeout", Some(0)), (wrong, "protocol_error", Some(1)), (vec![], "ping_timeout", None)]
    {
        let before = stack.metric(0, &closed(why)).await;
        let mut client = connect(&stack, &[]).await;
        client.send(said).await;
        let mut told = None;
        while let Some(frame) = client.frame().await {
            match frame.kind {
                GO_AWAY => told = Some(reason(&frame.payload)),
                PING if frame.flags == 0 && why != "ping_timeout" => {
                    client.try_send(self::frame(PING, 1, 0, &frame.payload)).await;
                }
                _ => {}
            }
        }
        stack.metric_becomes(0, &closed(why), before + 1).await;
        if farewell.is_some() {
            assert_eq!(told, farewell, "{why}");
        }
    }
    // Idle: told in time that nothing more will be taken, in order.
    let mut client = connect(&stack, &[]).await;
    client.send(headers(1, &head(&key, "/openai/v1/models", &[]))).await;
    assert!(body(&mut client, 1).await.contains("v1/models"));
    let mut last = None;
    while let Some(frame) = client.frame().await {
        match frame.kind {
            GO_AWAY => last = Some(frame.payload),
            PING if frame.flags == 0 => drop(client.try_send(self::frame(PING, 1, 0, &frame.payload)).await),
            _ => {}
        }
    }
    let last = last.expect("a GOAWAY, not a bare close");
    assert_eq!((reason(&last), &last[..4]), (0, &1_u32.to_be_bytes()[..]), "without reproach, after stream 1");
    stack.metric_becomes(0, &closed("keep_alive_timeout"), 1).await;
    stack.shutdown().await;
}

#[tokio::test]
async fn a_stream_whose_window_is_shut_hears_all_that_was_said_and_how_it_ended_before_the_reset() {
    let (stack, upstream, _provider, key) = stack(&[]).await;
    let events: Vec<String> = (0..100).map(|number| format!("data: {{\"number\": {number}}}\n\n")).collect();
    let dies = events.iter().fold(Answer::stream(), |answer, event| answer.piece(event.clone())).cut();
    upstream.next(dies);
    // SETTINGS_INITIAL_WINDOW_SIZE: room for less than two events.
    let mut client = connect(&stack, &[(4, 40)]).await;
    client.send(headers(1, &head(&key, "/openai/v1/models", &[]))).await;
    upstream.request(1).await.ended().await;
    client.send(frame(WINDOW_UPDATE, 0, 1, &1_000_000_u32.to_be_bytes())).await;
    let mut body = Vec::new();
    loop {
        let frame = client.frame().await.expect("a reset of the stream, not of the connection");
        match frame.kind {
            DATA => {
                assert_eq!(frame.flags & END_STREAM, 0, "a clean end");
                body.extend(frame.payload);
            }
            RST_STREAM => break,
            _ => {}
        }
    }
    let body = String::from_utf8(body).unwrap();
    let rest = body.strip_prefix(&events.concat()).unwrap_or_else(|| panic!("not all that was said: {body}"));
    assert!(
        rest.starts_with("data: {\"error\"") && rest.contains("upstream_broken") && rest.ends_with("\n\n"),
        "{rest}"
    );
    stack.shutdown().await;
}
