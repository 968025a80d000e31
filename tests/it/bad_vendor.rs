//! A vendor that speaks bytes and keeps no rule of framing. Whatever it says, the developer is told by name that it was
//! the vendor, or sees the answer cut behind an error event; its connection never carries another request; what is read
//! of it is bounded; a metric counts it; and the next request, on a fresh connection, is served.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use serde_json::json;
use tests::{
    Endpoint, Key, Stack, Upstream, Vendor, assert_refusal,
    client::{Ending, Reply},
    upstream::Authority,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream},
    task::JoinHandle,
};

/// A vendor that never ends would say so much if anyone listened.
const ENDLESS: usize = 64 << 20;
/// What the gateway may have taken of it, with what lies in the kernel's buffers.
const TAKEN: usize = 4 << 20;

/// What follows the bytes of an answer.
#[derive(Clone)]
enum Then {
    /// Nothing: the connection stays.
    Stay,
    /// The connection ends in order.
    Close,
    /// The same again, over and over.
    Endless(&'static str),
}

#[derive(Clone)]
struct Script {
    bytes: Vec<u8>,
    then: Then,
    /// Said as soon as a head has come.
    early: bool,
}

struct Shared {
    script: Mutex<Script>,
    connections: AtomicUsize,
    /// Written by the last endless script.
    written: AtomicUsize,
    reused: AtomicUsize,
}

/// Answers `/fresh` well and everything else by its script.
struct BadVendor {
    shared: Arc<Shared>,
    url: String,
    accepting: JoinHandle<()>,
}

impl BadVendor {
    fn start() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_send_buffer_size(64 * 1024).unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(64).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let script = Script { bytes: Vec::new(), then: Then::Close, early: false };
        let shared = Arc::new(Shared {
            script: Mutex::new(script),
            connections: AtomicUsize::new(0),
            written: AtomicUsize::new(0),
            reused: AtomicUsize::new(0),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Self { shared, url, accepting }
    }

    fn will(&self, bytes: impl Into<Vec<u8>>, then: Then) {
        *self.shared.script.lock().unwrap() = Script { bytes: bytes.into(), then, early: false };
    }

    fn will_at_once(&self, bytes: impl Into<Vec<u8>>, then: Then) {
        *self.shared.script.lock().unwrap() = Script { bytes: bytes.into(), then, early: true };
    }
}

impl Drop for BadVendor {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        stream.set_nodelay(true).unwrap();
        shared.connections.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(converse(stream, Arc::clone(&shared)));
    }
}

/// The gateway may leave at any moment: what it did until then is counted.
async fn converse(mut stream: TcpStream, shared: Arc<Shared>) -> Option<()> {
    let mut spoilt = false;
    loop {
        let mut request = Vec::new();
        let end = loop {
            if let Some(at) = request.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            if stream.read_buf(&mut request).await.ok()? == 0 {
                return None;
            }
        };
        if spoilt {
            shared.reused.fetch_add(1, Ordering::Relaxed);
        }
        let head = String::from_utf8_lossy(&request[..end]).to_lowercase();
        let script = shared.script.lock().unwrap().clone();
        let fresh = head.contains("/fresh");
        if !script.early || fresh {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let length: usize = length.map_or(0, |length| length.parse().unwrap());
            while request.len() < end + length {
                if stream.read_buf(&mut request).await.ok()? == 0 {
                    return None;
                }
            }
        }
        if fresh {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfresh").await.ok()?;
            continue;
        }
        spoilt = true;
        stream.write_all(&script.bytes).await.ok()?;
        match script.then {
            Then::Stay => {}
            Then::Close => return stream.shutdown().await.ok(),
            Then::Endless(again) => {
                let again = again.repeat(4096 / again.len() + 1);
                let mut written = 0;
                while written < ENDLESS && stream.write_all(again.as_bytes()).await.is_ok() {
                    written += again.len();
                }
                shared.written.store(written, Ordering::Relaxed);
                return None;
            }
        }
    }
}

/// A gateway before the vendor.
struct Scene {
    stack: Stack,
    vendor: BadVendor,
    provider: Endpoint,
    key: Key,
    /// Cases that ended before a head, and after one.
    refused: u64,
    broken: u64,
}

impl Scene {
    async fn set() -> Self {
        let mut stack = Stack::without_nodes(None, Vec::new()).await;
        // One worker: which connection is used does not depend on the machine.
        stack.add_node("node-1", &[("admin.listen", "127.0.0.1:0"), ("gateway.workers", "1")]).await;
        let vendor = BadVendor::start();
        let lender = Upstream::start(Vendor::OpenAi).await;
        let upstream = json!({"upstream": {"url": vendor.url}, "timeouts": {"firstByte": "20s", "idle": "20s"}});
        let provider = stack.provider_with("bad", &lender, upstream).await;
        let key = stack.key("bad", &[&provider]).await;
        Self { stack, vendor, provider, key, refused: 0, broken: 0 }
    }

    async fn ask(&self) -> Reply {
        self.stack.send(&self.provider.chat(true).key(&self.key.secret)).await
    }

    /// The next request is served, and not on the connection before.
    async fn is_fresh(&self, case: &str) {
        let connections = self.vendor.shared.connections.load(Ordering::Relaxed);
        let reply = self.stack.send(&self.provider.call("GET", "/v1/fresh").key(&self.key.secret)).await;
        assert_eq!((reply.status(), reply.text().as_str()), (200, "fresh"), "after {case}");
        assert_eq!(self.vendor.shared.connections.load(Ordering::Relaxed), connections + 1, "after {case}");
        assert_eq!(self.vendor.shared.reused.load(Ordering::Relaxed), 0, "after {case}");
    }

    /// The connection of `is_fresh` is good, and would be used by the next case.
    async fn refuses(&mut self, case: &str, bytes: impl Into<Vec<u8>>, then: Then) {
        self.vendor.will(bytes, then);
        let reply = self.ask().await;
        let message = assert_refusal(Vendor::OpenAi, &reply, 502, "upstream_broken");
        assert!(!message.contains("chunked"), "{case}: the vendor's sins are for the log: {message}");
        self.refused += 1;
        self.is_fresh(case).await;
    }

    /// The answer begins, and is cut behind what could be read of it.
    async fn cuts(&mut self, case: &str, bytes: impl Into<Vec<u8>>, then: Then, body: &str, event: bool) {
        self.vendor.will(bytes, then);
        let reply = self.ask().await;
        let text = reply.text();
        assert_eq!((reply.status(), reply.ending), (200, Ending::Broken), "{case}: {text:?}");
        let rest = text.strip_prefix(body).unwrap_or_else(|| panic!("{case}: {text:?} does not begin with {body:?}"));
        if event {
            let rest = rest.trim_start_matches('\n');
            let told =
                rest.starts_with("data: {\"error\"") && rest.contains("upstream_broken") && rest.ends_with("\n\n");
            assert!(told, "{case}: {text:?}");
        } else {
            assert_eq!(rest, "", "{case}");
        }
        self.broken += 1;
        self.is_fresh(case).await;
    }

    /// The answer passes, and exactly so much of it.
    async fn passes(&mut self, case: &str, bytes: impl Into<Vec<u8>>, then: Then, status: u16, body: &str) {
        self.vendor.will(bytes, then);
        let reply = self.ask().await;
        assert_eq!((reply.status(), reply.text().as_str(), reply.ending), (status, body, Ending::Clean), "{case}");
        let lengths = reply.head.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        assert!(lengths.count() <= 1, "{case}: {:?}", reply.head.headers);
        self.is_fresh(case).await;
    }

    async fn is_counted(&self) {
        let attempts = "lockgate_upstream_attempts_total{provider=\"bad\",result=\"broken\"}";
        self.stack.metric_becomes(0, attempts, self.refused).await;
        let cut = "lockgate_requests_total{endpoint=\"bad\",outcome=\"upstream_broken\"}";
        self.stack.metric_becomes(0, cut, self.broken).await;
        let failed = "lockgate_requests_total{endpoint=\"bad\",outcome=\"upstream_failed\"}";
        self.stack.metric_becomes(0, failed, self.refused).await;
    }
}

fn ok(fields: &str, body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{fields}\r\n{body}")
}

#[tokio::test]
async fn a_head_that_breaks_the_rules_is_a_502_that_says_so() {
    let mut scene = Scene::set().await;
    let sized = |fields: &str| ok(&format!("{fields}Content-Length: 2\r\n"), "{}");
    let heads = [
        ("no length at all, in words", ok("Content-Length: two\r\n", "{}")),
        ("a negative length", ok("Content-Length: -2\r\n", "{}")),
        ("a signed length", ok("Content-Length: +2\r\n", "{}")),
        ("an empty length", ok("Content-Length: \r\n", "{}")),
        ("a length beyond all numbers", ok("Content-Length: 184467440737095516160\r\n", "{}")),
        ("the largest number as length", ok("Content-Length: 18446744073709551615\r\n", "{}")),
        ("a length in hex", ok("Content-Length: 0x2\r\n", "{}")),
        ("two lengths", ok("Content-Length: 2\r\nContent-Length: 3\r\n", "{}")),
        ("two lengths in one", ok("Content-Length: 2, 3\r\n", "{}")),
        ("gzip, chunked", ok("Transfer-Encoding: gzip, chunked\r\n", "2\r\n{}\r\n0\r\n\r\n")),
        ("gzip and chunked", ok("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", "2\r\n{}\r\n0\r\n\r\n")),
        ("chunked twice", ok("Transfer-Encoding: chunked, chunked\r\n", "2\r\n{}\r\n0\r\n\r\n")),
        ("chunked, then gzip", ok("Transfer-Encoding: chunked, gzip\r\n", "2\r\n{}\r\n0\r\n\r\n")),
        ("gzip alone", ok("Transfer-Encoding: gzip\r\n", "{}")),
        ("identity", ok("Transfer-Encoding: identity\r\nContent-Length: 2\r\n", "{}")),
        ("a vertical tab before chunked", ok("Transfer-Encoding: \x0bchunked\r\n", "2\r\n{}\r\n0\r\n\r\n")),
        ("chunked on HTTP/1.0", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n".to_owned()),
        ("a folded line", sized("X-Folded: a\r\n b\r\n")),
        ("a line that begins with a space", sized(" X-First: a\r\n")),
        ("a space before the colon", sized("X-Spaced : a\r\n")),
        ("no colon", sized("X-Nothing\r\n")),
        ("an empty name", sized(": a\r\n")),
        ("NUL in a value", sized("X-Null: a\0b\r\n")),
        ("NUL in a name", sized("X-\0: a\r\n")),
        ("a control byte in a name", sized("X-\x01: a\r\n")),
        ("a control byte in a value", sized("X-Bell: \x07\r\n")),
        ("a lone carriage return", sized("X-Return: a\rb\r\n")),
        ("DEL in a value", sized("X-Delete: \x7f\r\n")),
        ("a hundred thousand lines", sized(&"X-Line: 1\r\n".repeat(100_000))),
        ("HTTP/0.9", "<html>hello</html>\r\n\r\n".to_owned()),
        ("the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned()),
        ("frames of HTTP/2", "\0\0\x12\x04\0\0\0\0\0\0\x03\0\0\0\x64".to_owned()),
        ("HTTP/2 in letters", "HTTP/2 200\r\n\r\n".to_owned()),
        ("HTTP/1.2", "HTTP/1.2 200 OK\r\nContent-Length: 0\r\n\r\n".to_owned()),
        ("HTTP/3.0", "HTTP/3.0 200 OK\r\nContent-Length: 0\r\n\r\n".to_owned()),
        ("another protocol", "SSH-2.0-OpenSSH_9.2\r\n".to_owned()),
        ("TLS on a plain line", "\x16\x03\x03\0\x31\x02\0\0\x2d\x03\x03".to_owned()),
        ("no status", "HTTP/1.1 OK\r\n\r\n".to_owned()),
        ("a status of two digits", "HTTP/1.1 20 OK\r\n\r\n".to_owned()),
        ("a status of four digits", "HTTP/1.1 2000 OK\r\n\r\n".to_owned()),
        ("an unasked 101", "HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n".to_owned()),
        ("nothing", String::new()),
        ("half a status line", "HTTP/1.1 20".to_owned()),
        ("half a head", "HTTP/1.1 200 OK\r\nContent-Le".to_owned()),
        ("an interim answer and no other", "HTTP/1.1 100 Continue\r\n\r\n".to_owned()),
    ];
    for (case, head) in heads {
        scene.refuses(case, head, Then::Close).await;
    }
    // The attempt with the 101 was answered, in a way.
    scene.refused -= 1;
    let attempts = "lockgate_upstream_attempts_total{provider=\"bad\",result=\"broken\"}";
    scene.stack.metric_becomes(0, attempts, scene.refused).await;
    scene.stack.shutdown().await;
}

#[tokio::test]
async fn a_body_that_breaks_its_framing_is_cut_behind_an_error_event_and_never_ends_cleanly() {
    const GOOD: &str = "data: 1\n\n";
    let mut scene = Scene::set().await;
    let chunks = [
        ("a size that is no number", "xyz\r\ndata\r\n0\r\n\r\n"),
        ("a negative size", "-5\r\nhello\r\n0\r\n\r\n"),
        ("a size beyond all numbers", "fffffffffffffffff\r\nhello\r\n0\r\n\r\n"),
        ("no size", "\r\nhello\r\n0\r\n\r\n"),
        ("a prefix before the size", "0x5\r\nhello\r\n0\r\n\r\n"),
        ("a space before the size", " 5\r\nhello\r\n0\r\n\r\n"),
        ("a bare line feed behind the size", "5\nhello\r\n0\r\n\r\n"),
        ("a second answer where a size belongs", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        ("nothing more", ""),
        ("half a size", "5"),
        ("half the end", "0\r\n"),
        ("a trailer without an end", "0\r\nX-Trailer: 1\r\n"),
        ("a last chunk that ends in a bare line feed", "0\r\n\n"),
    ];
    for (case, tail) in chunks {
        for (kind, event) in [("text/event-stream", true), ("application/json", false)] {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n");
            let answer = format!("{head}{:x}\r\n{GOOD}\r\n{tail}", GOOD.len());
            scene.cuts(&format!("{case} in {kind}"), answer, Then::Close, GOOD, event).await;
        }
    }
    let stream = |tail: &str| {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
        format!("{head}{:x}\r\n{GOOD}{tail}", GOOD.len())
    };
    for (case, tail) in [
        ("a chunk longer than it says", "more\r\n0\r\n\r\n"),
        ("no line end behind a chunk", "0\r\n\r\n"),
        ("a bare line feed behind a chunk", "\n0\r\n\r\n"),
    ] {
        scene.cuts(case, stream(tail), Then::Close, GOOD, true).await;
    }
    scene.cuts("a close within a chunk", &stream("")[..stream("").len() - 2], Then::Close, "data: 1", true).await;
    scene.cuts("fewer bytes than its length", ok("Content-Length: 100\r\n", "{}"), Then::Close, "{}", false).await;
    let huge = ok("Content-Length: 9223372036854775807\r\n", "{}");
    scene.cuts("a length nobody could send", huge, Then::Close, "{}", false).await;
    let twice = ok("Content-Length: 2\r\nTransfer-Encoding: chunked\r\n", "5\r\nhello\r\nzz");
    scene.cuts("chunks that break, with a length beside them", twice, Then::Close, "hello", false).await;
    scene.is_counted().await;
    scene.stack.shutdown().await;
}

#[tokio::test]
async fn what_follows_an_answer_belongs_to_no_other_request() {
    let mut scene = Scene::set().await;
    let second = "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\npoisoned";
    let length = "Content-Length: 2\r\n";
    for (case, answer, status, body) in [
        ("more bytes than its length", ok(length, "{}more"), 200, "{}"),
        ("a second answer", ok(length, &format!("{{}}{second}")), 200, "{}"),
        (
            "a second answer behind chunks",
            ok("Transfer-Encoding: chunked\r\n", &format!("2\r\n{{}}\r\n0\r\n\r\n{second}")),
            200,
            "{}",
        ),
        ("a 204 with a body", format!("HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\n{{}}{second}"), 204, ""),
        ("a 304 with a body", "HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\n{}".to_owned(), 304, ""),
        (
            "chunks with a length",
            ok("Content-Length: 2\r\nTransfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"),
            200,
            "hello",
        ),
        (
            "trailers",
            ok(
                "Transfer-Encoding: chunked\r\nConnection: close\r\n",
                "2\r\n{}\r\n0\r\nContent-Length: 9\r\nX-Api-Key: k\r\n\r\n",
            ),
            200,
            "{}",
        ),
        (
            "a length until the close of HTTP/1.0",
            "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}".to_owned(),
            200,
            "{}",
        ),
    ] {
        scene.passes(case, answer, Then::Stay, status, body).await;
    }
    // Without any length the end of the connection is the end: RFC 9112 section 6.3 leaves no other reading.
    scene.passes("no length", ok("", "{}"), Then::Close, 200, "{}").await;
    // Equal lengths are one (RFC 9110 section 8.6), a bare line feed ends a line (RFC 9112 section 2.2), and interim
    // answers are skipped, even hundreds of them.
    scene
        .passes(
            "one length, twice",
            ok("Content-Length: 2\r\nContent-Length: 2\r\nConnection: close\r\n", "{}"),
            Then::Stay,
            200,
            "{}",
        )
        .await;
    scene
        .passes("bare line feeds", "HTTP/1.1 200 OK\nContent-Length: 2\nConnection: close\n\n{}", Then::Stay, 200, "{}")
        .await;
    for status in [100, 102, 103] {
        let interim = format!("HTTP/1.1 {status} Wait\r\nX-Hint: 1\r\n\r\n").repeat(300);
        let answer = interim + &ok("Content-Length: 2\r\nConnection: close\r\n", "{}");
        scene.passes(&format!("three hundred times {status}"), answer, Then::Stay, 200, "{}").await;
    }
    // An answer to HEAD has no body, whatever comes.
    scene.vendor.will(ok("Content-Length: 2\r\n", "{}"), Then::Stay);
    let head = scene.provider.call("HEAD", "/v1/models").key(&scene.key.secret);
    let mut exchange = scene.stack.client().begin(&head).await.unwrap();
    assert_eq!(exchange.head().await.status, 200);
    assert_eq!(exchange.so_far(), "");
    scene.is_fresh("a body on HEAD").await;
    scene.stack.shutdown().await;
}

#[tokio::test]
async fn an_answer_that_never_ends_costs_no_more_than_a_buffer() {
    let mut scene = Scene::set().await;
    let chunked =
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n";
    for (case, bytes, again) in [
        ("an endless status line", "HTTP/1.1 200 ", "and so on "),
        ("an endless header", "HTTP/1.1 200 OK\r\nX-Endless: ", "and so on "),
        ("endless headers", "HTTP/1.1 200 OK\r\n", "X-Line: 1\r\n"),
        ("endless line ends", "", "\r\n"),
        ("endless interim answers", "", "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"),
        ("endless continuing", "", "HTTP/1.1 100 Continue\r\n\r\n"),
        ("endless noise", "", "\0"),
    ] {
        scene.refuses(case, bytes, Then::Endless(again)).await;
        scene.took_little(case).await;
    }
    for (case, bytes, again) in [
        ("an endless chunk extension", format!("{chunked}9;a="), "and so on "),
        ("endless trailers", format!("{chunked}0\r\n"), "X-Line: 1\r\n"),
        ("an endless trailer", format!("{chunked}0\r\nX-Endless: "), "and so on "),
        ("an endless size", chunked.to_owned(), "0"),
    ] {
        scene.cuts(case, bytes, Then::Endless(again), "data: 1\n\n", true).await;
        scene.took_little(case).await;
    }
    scene.is_counted().await;
    scene.stack.shutdown().await;
}

impl Scene {
    async fn took_little(&self, case: &str) {
        let written = tests::eventually("the vendor to notice", async || {
            let written = self.vendor.shared.written.swap(0, Ordering::Relaxed);
            if written > 0 { Ok(written) } else { Err("it still writes") }
        })
        .await;
        assert!(written < TAKEN, "{case}: {written} bytes were taken");
    }
}

#[tokio::test]
async fn a_vendor_that_answers_before_it_has_read_is_heard_and_then_left() {
    let scene = Scene::set().await;
    scene.vendor.will_at_once(ok("Content-Length: 2\r\n", "{}"), Then::Stay);
    let size = 8 << 20;
    let call = scene.provider.call("POST", "/v1/files").key(&scene.key.secret);
    let mut exchange = scene.stack.client().begin(&call.header("content-length", &size.to_string())).await.unwrap();
    let head = exchange.head().await;
    assert_eq!(head.status, 200);
    drop(exchange);
    scene.is_fresh("an answer before its time").await;
    scene.stack.shutdown().await;
}

#[tokio::test]
async fn a_broken_tls_line_is_told_apart_from_a_broken_answer() {
    let stack = Stack::sqlite().await;
    let lender = Upstream::start(Vendor::OpenAi).await;
    let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}", plain.local_addr().unwrap().port());
    let provider = stack.provider_with("plain", &lender, json!({"upstream": {"url": url}})).await;
    let key = stack.key("plain", &[&provider]).await;
    let answers = async {
        let (mut stream, _) = plain.accept().await.unwrap();
        stream.read_buf(&mut Vec::new()).await.unwrap();
        stream.write_all(ok("Content-Length: 2\r\n", "{}").as_bytes()).await.unwrap();
        stream
    };
    let call = provider.chat(false).key(&key.secret);
    let (reply, _stream) = tokio::join!(stack.send(&call), answers);
    assert_refusal(Vendor::OpenAi, &reply, 502, "upstream_tls");

    // A length-less answer whose TLS ends without a farewell may have been cut by anyone.
    let authority = Authority::new();
    let vendor = Upstream::start_tls(Vendor::OpenAi, &authority).await;
    let more = json!({"upstream": {"caPem": authority.pem()}});
    let provider = stack.provider_with("tls", &vendor, more).await;
    let key = stack.key("tls", &[&provider]).await;
    let event = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n";
    vendor.next(tests::Answer::raw(event));
    let reply = stack.send(&provider.chat(true).key(&key.secret)).await;
    assert_eq!((reply.text().as_str(), reply.ending), ("data: 1\n\n", Ending::Clean), "a farewell is an end");
    vendor.next(tests::Answer::raw(event).without_farewell());
    let reply = stack.send(&provider.chat(true).key(&key.secret)).await;
    assert_eq!(reply.ending, Ending::Broken, "{}", reply.text());
    assert!(reply.text().starts_with("data: 1\n\ndata: {\"error\""), "{}", reply.text());
    stack.shutdown().await;
}
