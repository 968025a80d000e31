//! Secrets stay where they belong: not on disk in the clear, not on the wire between the planes, not in the log.

use std::{
    fs,
    io::Write,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
};

use serde_json::json;
use tests::{Answer, CREDENTIAL_MARK, Stack, Upstream, Vendor};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// Every byte that was written to it, kept.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Kept {
    fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap().clone()
    }
}

/// A secret in the forms in which one leaks.
fn forms(secret: &str) -> Vec<Vec<u8>> {
    let hex = secret.bytes().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    let mut forms = vec![secret.as_bytes().to_vec(), hex.to_uppercase().into_bytes(), hex.into_bytes()];
    // Base64 has three alignments; what surrounds the secret only touches the first and the last letters.
    for padding in 0..3 {
        let mut bytes = vec![b'.'; padding];
        bytes.extend_from_slice(secret.as_bytes());
        let text = base64(&bytes);
        forms.push(text.as_bytes()[4..text.len() - 4].to_vec());
    }
    // As a debugger prints a slice of bytes.
    let list = secret.bytes().map(|byte| byte.to_string()).collect::<Vec<_>>().join(", ");
    forms.push(list.into_bytes());
    forms
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let letters = bytes.chunks_exact(3).flat_map(|three| {
        let value = u32::from_be_bytes([0, three[0], three[1], three[2]]);
        [18, 12, 6, 0].map(|shift| char::from(ALPHABET[(value >> shift) as usize & 63]))
    });
    letters.collect()
}

/// In which form, if in any.
fn found(bytes: &[u8], secret: &str) -> Option<String> {
    let form = forms(secret).into_iter().find(|form| bytes.windows(form.len()).any(|window| window == form));
    form.map(|form| String::from_utf8_lossy(&form).into_owned())
}

/// Every file below the folder in which a secret is found.
fn search(folder: &Path, secret: &str, hits: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            search(&path, secret, hits);
        } else if let Some(form) = found(&fs::read(&path).unwrap(), secret) {
            hits.push(format!("{} has {form}", path.display()));
        }
    }
}

/// Passes every connection on to `target` and keeps what passes, both ways.
async fn wiretap(target: SocketAddr, kept: Kept) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let Ok(far) = TcpStream::connect(target).await else { continue };
            let (near_in, near_out) = near.into_split();
            let (far_in, far_out) = far.into_split();
            for (mut from, mut to) in [(near_in, far_out), (far_in, near_out)] {
                let mut kept = kept.clone();
                tokio::spawn(async move {
                    let mut buffer = vec![0; 64 << 10];
                    while let Ok(read) = from.read(&mut buffer).await {
                        if read == 0 {
                            break;
                        }
                        kept.write_all(&buffer[..read]).unwrap();
                        if to.write_all(&buffer[..read]).await.is_err() {
                            break;
                        }
                    }
                });
            }
        }
    });
    address
}

#[tokio::test]
async fn no_secret_is_on_disk_on_the_wire_or_in_the_log() {
    let log = Kept::default();
    let writer = log.clone();
    // Our own crates at their most talkative.
    tracing_subscriber::fmt()
        .with_env_filter("debug,control_plane=trace,data_plane=trace,tests=trace")
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .init();
    tracing::info!("a planted secret: {CREDENTIAL_MARK}control");

    let mut stack = Stack::without_nodes(None, Vec::new()).await;
    let wire = Kept::default();
    let tap = wiretap(stack.link(), wire.clone()).await;
    stack.add_node("tapped", &[("link.address", &tap.to_string())]).await;

    let upstream = Upstream::start(Vendor::OpenAi).await;
    let provider = stack.provider("openai", &upstream).await;
    let proxy = stack.proxy("app", &provider).await;
    let key = stack.key("ci", &[&provider, &proxy]).await;
    let second = stack.key("second", &[&provider]).await;
    // Every way for a secret to slip into a message: success, refusals, failures, broken input, a vendor that repeats it.
    for endpoint in [&provider, &proxy] {
        stack.send(&endpoint.chat(true).key(&key.secret)).await;
    }
    stack.send(&provider.chat(false).key(&key.secret[..key.secret.len() - 1])).await;
    stack.send(&provider.call("GET", &format!("/v1/models?key={}", "x".repeat(300))).key(&key.secret)).await;
    upstream.next(Answer::slammed());
    stack.send(&provider.chat(false).key(&key.secret)).await;
    upstream.next(Vendor::OpenAi.bad_credential());
    stack.send(&provider.chat(false).key(&key.secret)).await;
    let wrong = json!({"name": "x", "template": "openai", "context": "nowhere", "upstream": {"url": "https://api.openai.com", "credential": {"value": upstream.credential(), "x": 1}}});
    stack.rest().post("/llm-providers", &wrong).await.check(422);
    stack.rest().post(&format!("/api-keys/{}/revoke", second.id), &json!({})).await.expect(200);
    stack.settle().await;
    stack.usage_rows(5).await;
    let owner = stack.rest().clone();
    let gateway_token = fs::read_to_string(stack.token_file()).unwrap().trim().to_owned();

    // The search must be able to find: the log has the planted secret, the wire what passed, a folder what was put there.
    let planted = format!("{CREDENTIAL_MARK}control");
    assert!(found(&log.bytes(), &planted).is_some(), "the log must have been kept");
    let mut probe = TcpStream::connect(tap).await.unwrap();
    probe.write_all(planted.as_bytes()).await.unwrap();
    tests::eventually("the wiretap to work", async || found(&wire.bytes(), &planted).ok_or("nothing yet")).await;
    assert!(wire.bytes().len() > 4000, "the planes must have talked through the tap");
    let elsewhere = tempfile::tempdir().unwrap();
    fs::write(elsewhere.path().join("leak"), format!("..{}..", base64(format!("xx{planted}xxx").as_bytes()))).unwrap();
    let mut hits = Vec::new();
    search(elsewhere.path(), &planted, &mut hits);
    assert_eq!(hits.len(), 1, "the planted file must be found");

    // At rest in the middle of things, and after everything was put away.
    let secrets = [
        ("the vendor's credential", upstream.credential().to_owned()),
        ("a gateway key", key.secret.clone()),
        ("a revoked gateway key", second.secret.clone()),
    ];
    let mut leaks = Vec::new();
    for round in ["while it runs", "after it stopped"] {
        for (what, secret) in &secrets {
            let mut hits = Vec::new();
            search(stack.folder(), secret, &mut hits);
            leaks.extend(hits.into_iter().map(|hit| format!("{what} on disk {round}: {hit}")));
        }
        if round == "while it runs" {
            stack.stop_node(0).await;
            stack.stop_control_plane().await;
        }
    }
    let everything_secret = secrets.into_iter().chain([
        ("the gateway token", gateway_token),
        ("the owner's token", owner.token().to_owned()),
        (
            "the master key",
            fs::read_to_string(stack.folder().join("control-plane/master.key")).unwrap().trim().to_owned(),
        ),
    ]);
    for (what, secret) in everything_secret {
        leaks.extend(found(&wire.bytes(), &secret).map(|form| format!("{what} on the wire: {form}")));
        leaks.extend(found(&log.bytes(), &secret).map(|form| format!("{what} in the log: {form}")));
    }
    assert!(leaks.is_empty(), "{leaks:#?}");
}
