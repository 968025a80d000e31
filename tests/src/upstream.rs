//! A scripted vendor on a real socket.
//!
//! Left alone it answers like the vendor it plays, and is as strict ([`Vendor`]). [`Upstream::next`] and
//! [`Upstream::always`] put an [`Answer`] of the test's own in place of that, piece by piece if need be. It keeps each
//! request as it arrived, and how the exchange ended.
//!
//! It is written on bare sockets rather than on an HTTP library: a test must be able to send half a head, two pieces in
//! two segments or a reset, and to see the request before anything has tidied it.

mod answer;
mod realtime;
mod vendor;
mod websocket;
mod wire;

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use bytes::BytesMut;
use tokio::{net::TcpListener, sync::watch, task::JoinSet};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::{CancellationToken, DropGuard};

use self::{answer::Step, wire::Socket};
pub use self::{
    answer::{Answer, Gate},
    vendor::Vendor,
    wire::Request,
};
use crate::{CREDENTIAL_MARK, KEY_MARK, within};

/// How an exchange ended, seen from the vendor's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Not yet.
    Open,
    /// The answer was sent to its last byte.
    Answered,
    /// The gateway closed the connection first.
    Gone {
        /// When this side saw it.
        at: Instant,
        /// The same on the wall clock.
        at_time: SystemTime,
    },
    /// This side broke off on purpose.
    Broken,
}

/// One request as it arrived, and what became of it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The request itself.
    pub request: Request,
    /// Which connection it came on, counted from 0.
    pub connection: usize,
    end: watch::Receiver<End>,
}

impl Seen {
    /// How it stands now.
    pub fn end(&self) -> End {
        *self.end.borrow()
    }

    /// Waits until the exchange is over, ten seconds at most.
    pub async fn ended(&self) -> End {
        let mut end = self.end.clone();
        let end = tokio::time::timeout(Duration::from_secs(10), end.wait_for(|end| *end != End::Open)).await;
        *end.expect("an exchange must end within ten seconds").expect("the upstream must outlive its exchanges")
    }
}

struct Shared {
    vendor: Vendor,
    credential: String,
    next: Mutex<VecDeque<Answer>>,
    always: Mutex<Option<Answer>>,
    seen: Mutex<Vec<Seen>>,
    breaches: Mutex<Vec<String>>,
    lenient: std::sync::atomic::AtomicBool,
    connections: AtomicUsize,
}

/// A scripted vendor. Ends with its value; fails the test then if a gateway key ever reached it.
pub struct Upstream {
    shared: Arc<Shared>,
    address: SocketAddr,
    scheme: &'static str,
    stop: Option<DropGuard>,
}

impl Upstream {
    /// A vendor on plain HTTP.
    pub async fn start(vendor: Vendor) -> Self {
        Self::serve(vendor, None).await
    }

    /// A vendor on HTTPS, for `localhost` and `127.0.0.1`, whose certificate is signed by `authority`.
    pub async fn start_tls(vendor: Vendor, authority: &Authority) -> Self {
        Self::serve(vendor, Some(authority.acceptor())).await
    }

    async fn serve(vendor: Vendor, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback must have a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let scheme = if tls.is_some() { "https" } else { "http" };
        let shared = Arc::new(Shared {
            vendor,
            credential: format!("{CREDENTIAL_MARK}{}-{}", vendor.name(), uuid::Uuid::new_v4().simple()),
            next: Mutex::default(),
            always: Mutex::default(),
            seen: Mutex::default(),
            breaches: Mutex::default(),
            lenient: std::sync::atomic::AtomicBool::new(false),
            connections: AtomicUsize::new(0),
        });
        let stop = CancellationToken::new();
        tokio::spawn(accept(listener, tls, Arc::clone(&shared), stop.clone()));
        Self { shared, address, scheme, stop: Some(stop.drop_guard()) }
    }

    /// Which vendor it plays.
    pub fn vendor(&self) -> Vendor {
        self.shared.vendor
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What an admin enters as the provider's upstream URL.
    pub fn url(&self) -> String {
        let host = if self.scheme == "https" { "localhost" } else { "127.0.0.1" };
        format!("{}://{host}:{}", self.scheme, self.address.port())
    }

    /// What an admin enters as the provider's credential; the only one that it accepts.
    pub fn credential(&self) -> &str {
        &self.shared.credential
    }

    /// Answers the next request with `answer`, whatever it is. Several calls queue up.
    pub fn next(&self, answer: Answer) -> &Self {
        self.shared.next.lock().unwrap().push_back(answer);
        self
    }

    /// Answers every request with `answer`, until [`Upstream::as_usual`].
    pub fn always(&self, answer: Answer) -> &Self {
        *self.shared.always.lock().unwrap() = Some(answer);
        self
    }

    /// Answers like the vendor again.
    pub fn as_usual(&self) {
        self.shared.next.lock().unwrap().clear();
        *self.shared.always.lock().unwrap() = None;
    }

    /// Accepts requests with another credential than its own: for tests that send one on purpose.
    pub fn accept_any_credential(&self) -> &Self {
        self.shared.lenient.store(true, Ordering::Relaxed);
        self
    }

    /// Every request so far, in order of arrival.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// The one request there was.
    pub fn the_one(&self) -> Seen {
        let mut seen = self.seen();
        assert_eq!(seen.len(), 1, "exactly one request must have arrived, not {seen:#?}");
        seen.remove(0)
    }

    /// The latest request.
    pub fn latest(&self) -> Seen {
        self.seen().pop().expect("no request has arrived")
    }

    /// Waits for request number `count`, counted from 1, to arrive.
    pub async fn request(&self, count: usize) -> Seen {
        within(Duration::from_secs(10), "a request at the upstream", async || {
            self.seen().get(count - 1).cloned().ok_or_else(|| format!("{} of {count}", self.seen().len()))
        })
        .await
    }

    /// How many connections there were.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// What a gateway must never do and did: a gateway key in a request, or a wrong credential.
    pub fn breaches(&self) -> Vec<String> {
        self.shared.breaches.lock().unwrap().clone()
    }

    /// Takes the breaches away: for the test that proves that they are noticed.
    pub fn take_breaches(&self) -> Vec<String> {
        std::mem::take(&mut self.shared.breaches.lock().unwrap())
    }

    /// Stops listening and cuts every connection; the address refuses from then on.
    pub async fn stop(&mut self) {
        drop(self.stop.take());
        let address = self.address;
        within(Duration::from_secs(5), "the upstream to stop", async || {
            match tokio::net::TcpStream::connect(address).await {
                Ok(_) => Err("still listening"),
                Err(_) => Ok(()),
            }
        })
        .await;
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        let breaches = self.breaches();
        assert!(
            breaches.is_empty() || std::thread::panicking(),
            "at the {} upstream: {breaches:#?}",
            self.vendor().name()
        );
    }
}

/// A private certificate authority, for upstreams whose certificates no public root signs.
pub struct Authority {
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
    pem: String,
}

impl Authority {
    /// A new one.
    pub fn new() -> Self {
        let key = rcgen::KeyPair::generate().expect("ring makes keys");
        let mut params = rcgen::CertificateParams::new(Vec::new()).expect("no names, no bad names");
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "A private authority");
        let certificate = params.self_signed(&key).expect("an authority signs itself");
        Self { pem: certificate.pem(), issuer: rcgen::Issuer::new(params, key) }
    }

    /// What an admin enters as the provider's extra CA.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    fn acceptor(&self) -> TlsAcceptor {
        let key = rcgen::KeyPair::generate().expect("ring makes keys");
        let params = rcgen::CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()])
            .expect("both are good names");
        let leaf = params.signed_by(&key, &self.issuer).expect("the authority signs");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring speaks TLS 1.2 and 1.3")
            .with_no_client_auth()
            .with_single_cert(
                vec![leaf.der().clone()],
                rustls_pki_types::PrivateKeyDer::Pkcs8(key.serialize_der().into()),
            )
            .expect("a fresh key fits its certificate");
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        TlsAcceptor::from(Arc::new(config))
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, shared: Arc<Shared>, stop: CancellationToken) {
    let mut exchanges = JoinSet::new();
    loop {
        let stream = tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = exchanges.join_next() => continue,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(_) => continue,
            },
        };
        stream.set_nodelay(true).ok();
        let connection = shared.connections.fetch_add(1, Ordering::Relaxed);
        let (shared, tls) = (Arc::clone(&shared), tls.clone());
        exchanges.spawn(async move {
            // A connection that fails is a fact of life; what it should have carried is missing from `seen`.
            let _ = match tls {
                None => converse(stream, connection, &shared).await,
                Some(tls) => match tls.accept(stream).await {
                    Ok(stream) => converse(stream, connection, &shared).await,
                    Err(error) => Err(error),
                },
            };
        });
    }
    exchanges.shutdown().await;
}

async fn converse(mut stream: impl Socket, connection: usize, shared: &Shared) -> io::Result<()> {
    let mut buffer = BytesMut::new();
    while let Some(request) = wire::read_request(&mut stream, &mut buffer).await? {
        shared.inspect(&request);
        let (end, ended) = watch::channel(End::Open);
        let answer = shared.answer(&request);
        shared.seen.lock().unwrap().push(Seen { request, connection, end: ended });
        let outcome = play(&mut stream, &mut buffer, answer).await;
        let _ = end.send(match outcome {
            Ok(Played::ToTheEnd | Played::Closed) => End::Answered,
            Ok(Played::Broke) => End::Broken,
            Ok(Played::Gone) | Err(_) => End::Gone { at: Instant::now(), at_time: SystemTime::now() },
        });
        if !matches!(outcome, Ok(Played::ToTheEnd)) {
            break;
        }
    }
    Ok(())
}

enum Played {
    ToTheEnd,
    Closed,
    Broke,
    Gone,
}

async fn play(stream: &mut impl Socket, buffer: &mut BytesMut, answer: Answer) -> io::Result<Played> {
    for step in answer.into_steps() {
        match step {
            Step::Bytes(bytes) => wire::write(stream, &bytes).await?,
            Step::Wait(gate) => {
                tokio::select! {
                    () = gate.opened() => {}
                    () = wire::gone(stream, buffer) => return Ok(Played::Gone),
                }
            }
            Step::Hang => {
                wire::gone(stream, buffer).await;
                return Ok(Played::Gone);
            }
            Step::Close => {
                wire::close(stream).await;
                return Ok(Played::Closed);
            }
            Step::WebSocket(vendor) => {
                let farewell = websocket::talk(stream, buffer, vendor).await?;
                wire::close(stream).await;
                return Ok(if farewell { Played::Closed } else { Played::Gone });
            }
            Step::Cut => {
                wire::close(stream).await;
                return Ok(Played::Broke);
            }
            Step::Abandon => return Ok(Played::Broke),
            Step::Reset => {
                stream.reset_on_close();
                return Ok(Played::Broke);
            }
        }
    }
    Ok(Played::ToTheEnd)
}

impl Shared {
    fn answer(&self, request: &Request) -> Answer {
        if let Some(answer) = self.next.lock().unwrap().pop_front() {
            return answer;
        }
        if let Some(answer) = self.always.lock().unwrap().clone() {
            return answer;
        }
        let credential = if self.lenient.load(Ordering::Relaxed) { None } else { Some(self.credential.as_str()) };
        self.vendor.answer(request, credential)
    }

    /// What every test wants to know of every request, whatever it is about.
    fn inspect(&self, request: &Request) {
        let mut breaches = Vec::new();
        if contains(request.raw_head.as_bytes(), KEY_MARK) || contains(&request.body, KEY_MARK) {
            breaches.push(format!("a gateway key arrived: {} {}", request.method, request.target));
        }
        if !self.lenient.load(Ordering::Relaxed) {
            let expected = self.vendor.credential_header(&self.credential);
            if request.header(expected.0) != Some(expected.1.as_str()) {
                breaches.push(format!(
                    "the stored credential did not arrive: {} {} with headers {:?}",
                    request.method,
                    request.target,
                    request.headers.iter().map(|(name, _)| name).collect::<Vec<_>>()
                ));
            }
            let copies = request.raw_head.matches(CREDENTIAL_MARK).count();
            if copies > 1 {
                breaches.push(format!("the credential arrived {copies} times: {} {}", request.method, request.target));
            }
        }
        self.breaches.lock().unwrap().extend(breaches);
    }
}

fn contains(bytes: &[u8], mark: &str) -> bool {
    bytes.windows(mark.len()).any(|window| window.eq_ignore_ascii_case(mark.as_bytes()))
}
