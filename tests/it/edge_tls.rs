//! TLS at the edge of the data plane: who gets which certificate, which protocol is spoken, how certificates are renewed
//! under open connections, and how handshakes that come to nothing end.

use std::{fs, path::PathBuf};

use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use rustls_pki_types::CertificateDer;
use tempfile::TempDir;
use tests::{
    Answer, Endpoint, Gate, Key, Stack, Upstream, Vendor,
    client::Call,
    eventually,
    raw::{Raw, block, frame, frames, preface},
};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::processes::Deployment;

/// Files of a certificate, and who is trusted because of them.
struct Pair {
    certificate_file: PathBuf,
    key_file: PathBuf,
    certificate: CertificateDer<'static>,
}

impl Pair {
    fn new(folder: &TempDir, name: &str, names: &[&str]) -> Self {
        let file = |kind: &str| folder.path().join(format!("{name}.{kind}"));
        let mut pair =
            Self { certificate_file: file("pem"), key_file: file("key"), certificate: CertificateDer::from(vec![]) };
        pair.renew(names, |_| {});
        pair
    }

    fn renew(&mut self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(names).unwrap();
        change(&mut params);
        let certificate = params.self_signed(&key).unwrap();
        fs::write(&self.certificate_file, certificate.pem()).unwrap();
        fs::write(&self.key_file, key.serialize_pem()).unwrap();
        self.certificate = certificate.der().clone();
    }

    fn setting(pairs: &[&Pair]) -> String {
        let quoted = |path: &PathBuf| format!("{:?}", path.display().to_string());
        let pair = |pair: &&Pair| {
            let (certificate, key) = (quoted(&pair.certificate_file), quoted(&pair.key_file));
            format!("{{certificate_file={certificate},key_file={key}}}")
        };
        format!("[{}]", pairs.iter().map(pair).collect::<Vec<_>>().join(","))
    }
}

/// A stack whose first node speaks TLS.
async fn stack(pairs: &[&Pair], settings: &[(&str, &str)]) -> (Stack, Upstream, Endpoint, Key) {
    let mut stack = Stack::without_nodes(None, Vec::new()).await;
    let certificates = Pair::setting(pairs);
    let mut all = vec![("tls.certificates", certificates.as_str()), ("admin.listen", "127.0.0.1:0")];
    all.extend(settings);
    stack.add_node("node-1", &all).await;
    let upstream = Upstream::start(Vendor::OpenAi).await;
    let provider = stack.provider("openai", &upstream).await;
    let key = stack.key("openai", &[&provider]).await;
    (stack, upstream, provider, key)
}

async fn connect(stack: &Stack, name: &str, pair: &Pair, protocols: &[&str]) -> Raw<TlsStream<TcpStream>> {
    let trusted = [pair.certificate.clone()];
    Raw::connect_tls(stack.client().address(), name, &trusted, protocols).await.unwrap()
}

fn get(key: &Key) -> String {
    format!("GET /openai/v1/models HTTP/1.1\r\nHost: gw\r\nX-API-Key: {}\r\n\r\n", key.secret)
}

#[tokio::test]
async fn each_name_gets_its_certificate_and_each_protocol_its_parser() {
    let folder = TempDir::new().unwrap();
    let first = Pair::new(&folder, "first", &["gw.example", "127.0.0.1", "unknown.example"]);
    let wild = Pair::new(&folder, "wild", &["*.wild.example"]);
    let (stack, _upstream, _provider, key) = stack(&[&first, &wild], &[]).await;
    for (name, pair) in [
        ("gw.example", &first),
        ("a.wild.example", &wild),
        // Named by none: the first one, which happens to know it.
        ("unknown.example", &first),
        // An address is no name, and none is sent.
        ("127.0.0.1", &first),
    ] {
        let mut client = connect(&stack, name, pair, &["http/1.1"]).await;
        assert_eq!(client.certificate(), pair.certificate, "{name}");
        for _ in 0..2 {
            client.send(get(&key)).await;
            assert_eq!(client.answer().await.0.status, 200, "{name}");
        }
    }

    let mut client = connect(&stack, "gw.example", &first, &["http/1.1", "h2"]).await;
    assert_eq!(client.protocol().as_deref(), Some("h2"));
    let head = block(&[
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", "gw.example"),
        (":path", "/openai/v1/models"),
        ("x-api-key", &key.secret),
    ]);
    client.send(preface(&[])).await;
    client.send(frame(frames::HEADERS, frames::END_STREAM | frames::END_HEADERS, 1, &head)).await;
    let answer = client.frame_of(frames::HEADERS).await.unwrap();
    assert_eq!((answer.stream, answer.payload[0]), (1, 0x88), "status 200 is entry 8 of the static table");

    // What was agreed on is spoken, and nothing else looked for.
    for protocols in [&["http/1.1"][..], &[]] {
        let mut client = connect(&stack, "gw.example", &first, protocols).await;
        client.send(preface(&[])).await;
        assert_eq!(client.answer().await.0.status, 400, "{protocols:?}");
    }
    let trusted = [first.certificate.clone()];
    let other = Raw::connect_tls(stack.client().address(), "gw.example", &trusted, &["spdy/3"]).await;
    assert!(other.is_err(), "no protocol in common");
    stack.shutdown().await;
}

#[tokio::test]
async fn certificates_are_renewed_under_an_open_stream() {
    let folder = TempDir::new().unwrap();
    let mut pair = Pair::new(&folder, "gw", &["gw.example"]);
    let (stack, upstream, provider, key) = stack(&[&pair], &[("tls.reload", "100ms")]).await;
    let reloads = async |result: &str, count: u64| {
        let name = format!("lockgate_tls_reloads_total{{result=\"{result}\"}}");
        eventually(&name, async || match stack.metric(0, &name).await {
            found if found >= count => Ok(()),
            found => Err(found),
        })
        .await;
    };
    let gate = Gate::new();
    upstream.next(Answer::stream().piece("data: first\n\n").wait(&gate).piece("data: last\n\n"));
    let mut streaming = connect(&stack, "gw.example", &pair, &[]).await;
    let body = provider.vendor.chat_body(true).to_string();
    let path = provider.vendor.chat_path(true);
    streaming
        .send(format!(
            "POST /openai{path} HTTP/1.1\r\nHost: gw\r\nX-API-Key: {}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            key.secret,
            body.len()
        ))
        .await;
    streaming.until("first").await;
    let old = pair.certificate.clone();

    pair.renew(&["gw.example"], |_| {});
    reloads("served", 1).await;
    let mut client = connect(&stack, "gw.example", &pair, &[]).await;
    assert_ne!(client.certificate(), old);
    client.send(get(&key)).await;
    assert_eq!(client.answer().await.0.status, 200);

    // None of these is served, and each is reported once.
    let good = (fs::read(&pair.certificate_file).unwrap(), fs::read(&pair.key_file).unwrap());
    let certificate = pair.certificate.clone();
    fs::write(&pair.certificate_file, "garbage").unwrap();
    reloads("refused", 1).await;
    fs::remove_file(&pair.certificate_file).unwrap();
    reloads("refused", 2).await;
    pair.renew(&["gw.example"], |params| params.not_after = date_time_ymd(2020, 1, 1));
    reloads("refused", 3).await;
    pair.certificate = certificate;
    let mut client = connect(&stack, "gw.example", &pair, &[]).await;
    client.send(get(&key)).await;
    assert_eq!(client.answer().await.0.status, 200);

    fs::write(&pair.certificate_file, good.0).unwrap();
    fs::write(&pair.key_file, good.1).unwrap();
    reloads("served", 2).await;
    assert_eq!(stack.metric(0, "lockgate_tls_reloads_total{result=\"refused\"}").await, 3);
    gate.open();
    streaming.until("last").await;
    streaming.until("0\r\n\r\n").await;
    stack.shutdown().await;
}

#[tokio::test]
async fn a_node_that_is_hung_up_on_serves_new_certificates_at_once_and_goes_on() {
    let folder = TempDir::new().unwrap();
    let mut pair = Pair::new(&folder, "gw", &["gw.example"]);
    let deployment = Deployment::new(None);
    let _control_plane = deployment.control_plane().await;
    let certificates = Pair::setting(&[&pair]);
    // Nobody looks at the files by itself while this runs.
    let settings = [("LOCKGATE_TLS__CERTIFICATES", certificates.as_str()), ("LOCKGATE_TLS__RELOAD", "1h")];
    let mut node = deployment.node_with(&settings);
    node.ready(deployment.admin, "/readyz").await;
    let connect = async |pair: &Pair| {
        let trusted = [pair.certificate.clone()];
        Raw::connect_tls(deployment.gateway, "gw.example", &trusted, &["http/1.1"]).await
    };
    let asked = "GET /nothing/here HTTP/1.1\r\nHost: gw\r\n\r\n";
    let mut open = connect(&pair).await.unwrap();
    open.send(asked).await;
    assert_eq!(open.answer().await.0.status, 404);

    pair.renew(&["gw.example"], |_| {});
    assert!(connect(&pair).await.is_err(), "not before somebody says so");
    node.signal("HUP");
    eventually("the new certificate", async || connect(&pair).await.map(drop).map_err(|error| error.to_string())).await;
    // What was open stays open, and one that cannot be used changes nothing.
    open.send(asked).await;
    assert_eq!(open.answer().await.0.status, 404);
    let good = fs::read(&pair.certificate_file).unwrap();
    fs::write(&pair.certificate_file, "garbage").unwrap();
    node.signal("HUP");
    eventually("the node to say why", async || {
        let output = node.output();
        if output.contains("new certificates cannot be used") { Ok(()) } else { Err(output) }
    })
    .await;
    fs::write(&pair.certificate_file, good).unwrap();
    assert!(connect(&pair).await.is_ok());
    assert!(node.terminate().await.success());
}

#[tokio::test]
async fn what_comes_to_nothing_ends_by_its_deadline() {
    let folder = TempDir::new().unwrap();
    let pair = Pair::new(&folder, "gw", &["gw.example"]);
    let deadlines = [
        ("deadlines.tls", "200ms"),
        ("deadlines.first_byte", "150ms"),
        ("deadlines.head", "250ms"),
        ("deadlines.keep_alive", "300ms"),
    ];
    let (stack, _upstream, _provider, key) = stack(&[&pair], &deadlines).await;
    let address = stack.client().address();
    let closed = |reason: &str| format!("lockgate_connections_closed_total{{reason=\"{reason}\"}}");

    // Nothing; the beginning of a handshake, and no more; something else.
    let handshake = [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], &[7; 32]].concat();
    for (said, reason) in [
        (&b""[..], "first_byte_timeout"),
        (&handshake, "tls_timeout"),
        (b"GET / HTTP/1.1\r\nHost: gw\r\n\r\n", "tls_failed"),
    ] {
        let before = stack.metric(0, &closed(reason)).await;
        let mut client = Raw::connect(address).await;
        client.send(said).await;
        let rest = client.rest().await;
        assert!(!rest.starts_with(b"HTTP"), "{reason}: {rest:?}");
        stack.metric_becomes(0, &closed(reason), before + 1).await;
    }

    // Behind a handshake everything has its deadline too.
    for (protocol, said, reason) in [
        ("http/1.1", &b""[..], "first_byte_timeout"),
        ("http/1.1", b"G", "head_timeout"),
        ("http/1.1", b"GET / HTTP/1.1\r\nHost: gw\r\nX-Slow: ", "head_timeout"),
        ("h2", b"", "first_byte_timeout"),
        ("h2", b"PRI * HTTP/2.0\r\n\r\nSM", "head_timeout"),
        ("h2", &preface(&[]), "keep_alive_timeout"),
    ] {
        let before = stack.metric(0, &closed(reason)).await;
        let mut client = connect(&stack, "gw.example", &pair, &[protocol]).await;
        client.send(said).await;
        client.rest().await;
        stack.metric_becomes(0, &closed(reason), before + 1).await;
    }
    let mut client = connect(&stack, "gw.example", &pair, &[]).await;
    client.send(get(&key)).await;
    assert_eq!(client.answer().await.0.status, 200);
    client.rest().await;
    // The metrics listener speaks no TLS, and neither does anyone have to.
    assert!(tests::Client::new(&address.to_string()).begin(&Call::get("/")).await.is_ok());
    stack.shutdown().await;
}
