//! The relay is exact: what the client said reaches the vendor byte for byte, and what the vendor said comes back so.

use data_plane::pipeline::account::Outcome;
use proto::config::{self, Kind};

use super::fixture::*;

/// A whole request: line, headers (each ends in CR LF) and body.
fn request(line: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("{line} HTTP/1.1\r\nHost: gw\r\nX-API-Key: {}\r\n{headers}\r\n", key(1));
    [head.as_bytes(), body].concat()
}

/// Sends, lets the vendor answer with these bytes, and gives what came back and what went up.
async fn pass(stand: &Stand, vendor: &Vendor, request: &[u8], answer: &[u8]) -> (Answer, String, Vec<u8>) {
    let mut client = stand.client().await;
    let (answered, (head, body)) = tokio::join!(
        async {
            client.send(request).await;
            client.answer().await
        },
        async {
            let mut upstream = vendor.accept().await;
            let seen = upstream.message().await;
            upstream.send(answer).await;
            seen
        }
    );
    (answered, head, body)
}

fn closing(answer: &str) -> Vec<u8> {
    answer.replacen("\r\n", "\r\nConnection: close\r\n", 1).into_bytes()
}

#[tokio::test]
async fn a_target_passes_byte_for_byte() {
    let vendor = Vendor::start().await;
    let stand = Stand::start(&Draft::new(&vendor.url())).await;
    let answer = closing(&ok("{}"));
    for target in [
        "/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse",
        "/v1/models/ft%3Agpt-4o%2Fx%2fy",
        "/v1/a;b=c;d/e,f",
        "/v1/a+b%20c?q=a+b%20c",
        "/v1/x?",
        "/v1/x?&&a=&=b&",
        "/v1/x?a=1&a=2&A=3&a=1",
        "/v1/x?a[]=1&b={c}|d^e`f",
        "/v1/x?next=https://elsewhere.example/?a=b",
        "/v1/%E2%82%AC/%c3%a9?%e2%82%ac",
        "/v1/x?keys=1&Key=2&xapi_key=3",
        "/v1/trailing/",
        "/v1/~user/!$&'()*+,=:@",
    ] {
        let (answer, head, _) =
            pass(&stand, &vendor, &request(&format!("GET /openai{target}"), "", b""), &answer).await;
        assert_eq!(answer.status, 200, "{target}: {}", answer.text());
        assert!(head.starts_with(&format!("GET {target} HTTP/1.1\r\n")), "{target}: {head}");
    }
}

#[tokio::test]
async fn every_method_passes_with_and_without_a_body() {
    let vendor = Vendor::start().await;
    let stand = Stand::start(&Draft::new(&vendor.url())).await;
    for method in ["GET", "OPTIONS", "DELETE", "PUT", "PATCH", "POST"] {
        let line = format!("{method} /openai/v1/things");
        let answer = closing(&ok("{}"));
        let (bare, head, body) = pass(&stand, &vendor, &request(&line, "", b""), &answer).await;
        assert!(bare.status == 200 && body.is_empty() && head.starts_with(method), "{head}");
        assert_eq!(header(&head, "transfer-encoding"), None, "{method} without a body: {head}");
        for framing in ["Content-Length: 5\r\n\r\nhello", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"] {
            let (headers, body) = framing.split_once("\r\n\r\n").unwrap();
            let request = request(&line, &format!("{headers}\r\n"), body.as_bytes());
            let (answer, head, body) = pass(&stand, &vendor, &request, &answer).await;
            assert_eq!((answer.status, body.as_slice()), (200, &b"hello"[..]), "{head}");
        }
        let (empty, head, body) = pass(&stand, &vendor, &request(&line, "Content-Length: 0\r\n", b""), &answer).await;
        assert!(empty.status == 200 && body.is_empty() && head.starts_with(method), "{head}");
    }
}

#[tokio::test]
async fn a_form_passes_with_its_boundary_and_every_byte_of_its_files() {
    let vendor = Vendor::start().await;
    let mut stand = Stand::start(&Draft::new(&vendor.url())).await;
    let boundary = "----a'()+_,-./:=?Boundary";
    let file: Vec<u8> = (0..5_000_000_u32).map(|index| u8::try_from(index % 251).unwrap()).collect();
    let mut form = format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwhisper-1\r\n--{boundary}\r\n\
         Content-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\nContent-Type: audio/wav\r\n\r\n"
    )
    .into_bytes();
    form.extend_from_slice(&file);
    form.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    let content_type = format!("multipart/form-data; boundary=\"{boundary}\"");
    let headers = format!("Content-Type: {content_type}\r\nContent-Length: {}\r\n", form.len());
    let request = request("POST /openai/v1/audio/transcriptions", &headers, &form);
    let (answer, head, body) = pass(&stand, &vendor, &request, &closing(&ok("{\"text\":\"hi\"}"))).await;
    assert_eq!(answer.status, 200);
    assert_eq!(header(&head, "content-type"), Some(content_type.as_str()));
    assert_eq!(header(&head, "content-length"), Some(form.len().to_string().as_str()));
    assert!(body == form, "{} bytes of {}", body.len(), form.len());
    assert_eq!(stand.record().await.request_bytes, form.len() as u64);
}

#[tokio::test]
async fn chunks_may_have_extensions_and_any_size_and_trailers_end_here() {
    let vendor = Vendor::start().await;
    let stand = Stand::start(&Draft::new(&vendor.url())).await;
    let chunks = b"1;name=value\r\nh\r\n4;x=\"quoted\"\r\nello\r\n0;last\r\nX-Api-Key: other\r\nX-Sum: 1\r\n\r\n";
    let request = request("POST /openai/v1/files", "Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n", chunks);
    let answer =
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\nTrailer: X-Vendor-Sum\r\n\
        Connection: close\r\n\r\n2;ext\r\nok\r\n0\r\nX-Vendor-Sum: 2\r\nContent-Length: 99\r\n\r\n";
    let mut client = stand.client().await;
    client.send(&request).await;
    let mut upstream = vendor.accept().await;
    let head = upstream.head().await;
    assert_eq!(header(&head, "trailer"), None, "{head}");
    let mut body = String::new();
    while !body.ends_with("0\r\n\r\n") {
        body.push_str(&upstream.until("\r\n").await);
    }
    let data: String = body.split("\r\n").skip(1).step_by(2).collect();
    assert_eq!(data, "hello", "nothing but the data: {body:?}");
    upstream.send(answer).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.text()), (200, "ok"));
    assert_eq!(answer.header("trailer"), None);
    // The connection is whole: it carries the next request.
    client.send(get("/v1/models")).await;
    vendor.once(ok("{}")).await;
    assert_eq!(client.answer().await.status, 200);
}

#[tokio::test]
async fn go_on_is_asked_of_the_client_only_when_its_key_is_good() {
    let vendor = Vendor::start().await;
    let stand = Stand::start(&Draft::new(&vendor.url())).await;
    let polite = request("POST /openai/v1/files", "Expect: 100-continue\r\nContent-Length: 5\r\n", b"");
    let mut client = stand.client().await;
    client.send(&polite).await;
    assert_eq!(client.head().await, "HTTP/1.1 100 Continue\r\n\r\n");
    client.send("hello").await;
    let mut upstream = vendor.accept().await;
    let (head, body) = upstream.message().await;
    assert_eq!((header(&head, "expect"), body.as_slice()), (None, &b"hello"[..]));
    upstream.send(closing(&ok("{}"))).await;
    assert_eq!(client.answer().await.status, 200);
    let stranger = String::from_utf8(polite).unwrap().replace(&key(1), &key(9));
    let mut client = stand.client().await;
    client.send(stranger).await;
    assert!(client.head().await.starts_with("HTTP/1.1 401 "), "the first that is said is the refusal");
    assert!(vendor.is_alone().await);
}

#[tokio::test]
async fn what_a_vendor_says_in_between_is_not_its_answer() {
    let vendor = Vendor::start().await;
    let stand = Stand::start(&Draft::new(&vendor.url())).await;
    let between =
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n";
    let answer = [between.as_bytes(), &closing(&ok("{\"ok\":1}"))].concat();
    let body = b"{}";
    let request = request("POST /openai/v1/x", "Content-Length: 2\r\n", body);
    let (answer, _, _) = pass(&stand, &vendor, &request, &answer).await;
    assert_eq!((answer.status, answer.text()), (200, "{\"ok\":1}"));
    assert_eq!(answer.header("link"), None);
}

#[tokio::test]
async fn answers_without_a_body_end_at_once() {
    let vendor = Vendor::start().await;
    let mut stand = Stand::start(&Draft::new(&vendor.url())).await;
    let mut client = stand.client().await;
    let mut upstream = None;
    for (method, answer, length) in [
        ("DELETE", "HTTP/1.1 204 No Content\r\nX-N: 1\r\n\r\n", None),
        // A length that no bytes follow may be left out (RFC 9110 section 15.4.5), and hyper does.
        ("GET", "HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\nContent-Length: 7\r\n\r\n", None),
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Type: audio/mpeg\r\nContent-Length: 12345\r\n\r\n", Some("12345")),
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", Some("0")),
    ] {
        client.send(request(&format!("{method} /openai/v1/x"), "", b"")).await;
        if upstream.is_none() {
            upstream = Some(vendor.accept().await);
        }
        let connection = upstream.as_mut().unwrap();
        connection.head().await;
        connection.send(answer).await;
        let head = client.head().await;
        assert_eq!(head.split(' ').nth(1), answer.split(' ').nth(1), "{head}");
        assert_eq!(header(&head, "content-length"), length, "{method}: {head}");
        let record = stand.record().await;
        assert_eq!((record.outcome, record.response_bytes), (Outcome::Answered, 0), "{method}");
    }
}

#[tokio::test]
async fn every_byte_value_passes_however_the_answer_is_framed() {
    let vendor = Vendor::start().await;
    let stand = Stand::start(&Draft::new(&vendor.url())).await;
    let audio: Vec<u8> = (0..=255_u8).cycle().take(100_000).collect();
    let chunked = audio.chunks(777).fold(Vec::new(), |mut bytes, piece| {
        bytes.extend(format!("{:x}\r\n", piece.len()).into_bytes());
        bytes.extend_from_slice(piece);
        bytes.extend_from_slice(b"\r\n");
        bytes
    });
    let head = "HTTP/1.1 200 OK\r\nContent-Type: audio/mpeg\r\nConnection: close\r\n";
    for answer in [
        [format!("{head}Content-Length: {}\r\n\r\n", audio.len()).as_bytes(), &audio].concat(),
        [format!("{head}Transfer-Encoding: chunked\r\n\r\n").as_bytes(), &chunked, b"0\r\n\r\n"].concat(),
    ] {
        let (answer, _, _) = pass(&stand, &vendor, get("/v1/audio/speech").as_bytes(), &answer).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("audio/mpeg")));
        assert!(answer.body == audio);
    }
    // Its end is the connection's.
    let mut client = stand.client().await;
    client.send(get("/v1/audio/speech")).await;
    let mut upstream = vendor.accept().await;
    upstream.head().await;
    upstream.send([format!("{head}\r\n").as_bytes(), &audio].concat()).await;
    drop(upstream);
    assert!(client.answer().await.body == audio);
}

#[tokio::test]
async fn a_compressed_answer_passes_as_it_is_and_is_asked_for_only_by_choice() {
    let vendor = Vendor::start().await;
    // No gzip at all: who tried to read it would fail.
    let body = b"\x1f\x8b\x08\0nothing that inflates {\"usage\":{\"prompt_tokens\":3}}";
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\nVary: Accept-Encoding\r\n\
         Connection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let passing = |endpoint| config::Endpoint { compression: config::Compression::PassThrough as i32, ..endpoint };
    let by_choice = Draft::new(&vendor.url())
        .put(Kind::Endpoint, PROVIDER, &passing(provider("/openai", &vendor.url())))
        .put(Kind::Endpoint, PROXY, &proxy("/team/proxy"));
    for (draft, path, offered, asked) in [
        (Draft::new(&vendor.url()), "/openai", "Accept-Encoding: gzip, br;q=0.5\r\n", "identity"),
        (Draft::new(&vendor.url()), "/openai", "", "identity"),
        (by_choice, "/openai", "Accept-Encoding: gzip, br;q=0.5\r\n", "gzip, br;q=0.5"),
        (
            Draft::new(&vendor.url()).put(Kind::Endpoint, PROVIDER, &passing(provider("/openai", &vendor.url()))),
            "/openai",
            "",
            "identity",
        ),
        // A proxy has its own choice.
        (
            Draft::new(&vendor.url()).put(Kind::Endpoint, PROVIDER, &passing(provider("/openai", &vendor.url()))),
            "/team/proxy",
            "Accept-Encoding: gzip\r\n",
            "identity",
        ),
    ] {
        let mut stand = Stand::start(&draft).await;
        let request = request(&format!("GET {path}/v1/x"), offered, b"");
        let (answer, seen, _) = pass(&stand, &vendor, &request, &[head.as_bytes(), body].concat()).await;
        assert_eq!(header(&seen, "accept-encoding"), Some(asked), "{path} {offered}");
        assert_eq!((answer.header("content-encoding"), answer.header("vary")), (Some("gzip"), Some("Accept-Encoding")));
        assert_eq!(answer.body, body);
        let record = stand.record().await;
        assert_eq!((record.outcome, record.input_tokens), (Outcome::Answered, None));
    }
}

#[tokio::test]
async fn what_sdks_read_from_a_head_arrives_in_order() {
    let vendor = Vendor::start().await;
    let stand = Stand::start(&Draft::new(&vendor.url())).await;
    let headers = [
        ("x-request-id", "req_vendor"),
        ("request-id", "req_011"),
        ("openai-processing-ms", "12"),
        ("openai-organization", "org"),
        ("x-ratelimit-limit-requests", "100"),
        ("x-ratelimit-remaining-tokens", "9"),
        ("x-ratelimit-reset-tokens", "6m0s"),
        ("anthropic-ratelimit-requests-remaining", "4"),
        ("anthropic-organization-id", "org"),
        ("retry-after", "3"),
        ("retry-after-ms", "2500"),
        ("x-should-retry", "true"),
        ("etag", "\"a\""),
        ("cache-control", "no-cache"),
        ("content-disposition", "attachment; filename=\"a.bin\""),
    ];
    let lines = headers.map(|(name, value)| format!("{name}: {value}\r\n")).concat();
    let twice = "X-Twice: one\r\nX-Twice: two\r\nX-Between: 1\r\nX-Twice: three\r\nLink: </a>\r\nLink: </b>\r\n";
    for status in ["200 OK", "429 Too Many Requests", "400 Bad Request"] {
        let answer = closing(&answer(status, &format!("{lines}{twice}"), "{\"error\":{}}"));
        let (answer, _, _) = pass(&stand, &vendor, get("/v1/x").as_bytes(), &answer).await;
        assert_eq!(answer.status.to_string(), status[..3]);
        for (name, value) in headers {
            assert_eq!(answer.header(name), Some(value), "{name}");
        }
        let values = |wanted: &str| -> Vec<&str> {
            let lines = answer.head.lines().filter_map(|line| line.split_once(": "));
            lines.filter(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value).collect()
        };
        assert_eq!(values("x-twice"), ["one", "two", "three"]);
        assert_eq!(values("link"), ["</a>", "</b>"]);
    }
}

#[tokio::test]
async fn a_stream_passes_byte_for_byte_whatever_its_line_ends_and_wherever_it_is_cut() {
    let vendor = Vendor::start().await;
    let mut stand = Stand::start(&Draft::new(&vendor.url())).await;
    let stream = |end: &str| {
        [
            ": keep-alive",
            "",
            "event: ping",
            "id: 7",
            "retry: 3000",
            "data: {}",
            "",
            ":",
            "data: {\"choices\":[{\"delta\":{\"content\":\"h\u{e9}llo \u{1f30a}\"}}],\"model\":\"gpt-4o-2024\"}",
            "",
            "data",
            "",
            "data: first",
            "data: second",
            "",
            "data: {\"usage\":{\"prompt_tokens\":11,\"completion_tokens\":7}}",
            "",
            "data: [DONE]",
            "",
            "",
        ]
        .join(end)
    };
    for end in ["\n", "\r\n", "\r"] {
        let whole = stream(end);
        // Single bytes cut events, lines, line ends and letters; the last lets events share a chunk.
        for size in [1, 2, 3, 7, whole.len()] {
            let head = STREAM.replacen("\r\n", "\r\nConnection: close\r\n", 1);
            let answer = whole.as_bytes().chunks(size).fold(head.into_bytes(), |mut answer, piece| {
                answer.extend(format!("{:X}\r\n", piece.len()).into_bytes());
                answer.extend_from_slice(piece);
                answer.extend_from_slice(b"\r\n");
                answer
            });
            let answer = [answer.as_slice(), b"0\r\n\r\n"].concat();
            let mut client = stand.client().await;
            client.send(post("/v1/x", "{}").replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n")).await;
            let mut upstream = vendor.accept().await;
            upstream.head().await;
            upstream.exactly(2).await;
            upstream.send(&answer).await;
            let came = client.answer().await;
            assert_eq!(came.text(), whole, "{end:?} in pieces of {size}");
            assert_eq!(came.header("content-type"), Some("text/event-stream; charset=utf-8"));
            let record = stand.record().await;
            assert_eq!(
                (record.outcome, record.input_tokens, record.output_tokens, record.served_model.as_deref()),
                (Outcome::Answered, Some(11), Some(7), Some("gpt-4o-2024")),
                "{end:?} in pieces of {size}"
            );
            assert_eq!(record.response_bytes, whole.len() as u64);
        }
    }
}
