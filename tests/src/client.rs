//! A developer's side: plain HTTP/1.1 on a bare socket, so that a test can send what no library would, and see an answer
//! piece by piece as it arrives.
//!
//! Whatever arrives is searched for a vendor's credential: there must be none, ever.

use std::{fmt::Write as _, io, net::SocketAddr, time::Duration};

use bytes::{Bytes, BytesMut};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::CREDENTIAL_MARK;

/// How long a test waits for bytes that must come.
const PATIENCE: Duration = Duration::from_secs(15);

/// Sends to one address, on a new connection each time.
#[derive(Clone, Debug)]
pub struct Client {
    address: SocketAddr,
}

/// A request to send. What is set is sent, plus `Host` and `Content-Length`.
#[derive(Clone, Debug)]
pub struct Call {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Bytes,
    host: bool,
}

impl Call {
    /// Any method, any target, byte for byte.
    pub fn new(method: &str, target: &str) -> Self {
        Self {
            method: method.to_owned(),
            target: target.to_owned(),
            headers: Vec::new(),
            body: Bytes::new(),
            host: true,
        }
    }

    /// A GET.
    pub fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    /// A POST of JSON.
    pub fn post(target: &str, body: &Value) -> Self {
        Self::new("POST", target).json(body)
    }

    /// A header more; the same name twice is sent twice.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        if name.eq_ignore_ascii_case("host") {
            self.host = false;
        }
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The gateway key where the contract wants it.
    #[must_use]
    pub fn key(self, key: &str) -> Self {
        self.header("X-API-Key", key)
    }

    /// A JSON body.
    #[must_use]
    pub fn json(self, body: &Value) -> Self {
        self.header("content-type", "application/json").body(body.to_string())
    }

    /// Any body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    fn to_bytes(&self, address: SocketAddr) -> Vec<u8> {
        let mut text = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        if self.host {
            let _ = write!(text, "Host: {address}\r\n");
        }
        for (name, value) in &self.headers {
            let _ = write!(text, "{name}: {value}\r\n");
        }
        let counts = |name: &str| self.headers.iter().any(|(header, _)| header.eq_ignore_ascii_case(name));
        if !counts("content-length") && !counts("transfer-encoding") && (!self.body.is_empty() || self.method != "GET")
        {
            let _ = write!(text, "Content-Length: {}\r\n", self.body.len());
        }
        text.push_str("\r\n");
        let mut bytes = text.into_bytes();
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

impl Client {
    /// For `http://127.0.0.1:8080` or just `127.0.0.1:8080`; a path is ignored.
    pub fn new(url: &str) -> Self {
        let rest = url.strip_prefix("http://").unwrap_or(url);
        let authority = rest.split('/').next().unwrap_or_default();
        Self { address: authority.parse().unwrap_or_else(|_| panic!("{url} must name an address and a port")) }
    }

    /// Where it sends to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sends, and returns as soon as everything is sent; nothing is read yet.
    pub async fn begin(&self, call: &Call) -> io::Result<Exchange> {
        self.begin_raw(&call.to_bytes(self.address)).await
    }

    /// The same with bytes of one's own.
    pub async fn begin_raw(&self, bytes: &[u8]) -> io::Result<Exchange> {
        let mut stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        stream.write_all(bytes).await?;
        Ok(Exchange { stream, buffer: BytesMut::new(), head: None, body: BytesMut::new(), rest: Rest::Unknown })
    }

    /// Sends and reads the whole answer.
    pub async fn send(&self, call: &Call) -> Reply {
        let mut exchange = self.begin(call).await.expect("the gateway must accept a connection");
        exchange.whole().await
    }
}

/// What remains of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    Unknown,
    Length(usize),
    Chunked,
    UntilClose,
    Nothing,
}

/// How a body ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// As its framing says.
    Clean,
    /// The connection ended before the body did.
    Broken,
}

/// One request on its way. Dropping it closes the connection, as a client that goes away does.
pub struct Exchange {
    stream: TcpStream,
    buffer: BytesMut,
    head: Option<Head>,
    body: BytesMut,
    rest: Rest,
}

/// Status and headers.
#[derive(Clone, Debug)]
pub struct Head {
    /// The status.
    pub status: u16,
    /// In the order in which they came.
    pub headers: Vec<(String, String)>,
}

impl Head {
    /// The first value of the header; names are compared without case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Status and headers.
    pub head: Head,
    /// Without its framing.
    pub body: Bytes,
    /// How it ended.
    pub ending: Ending,
}

impl Reply {
    /// The status.
    pub fn status(&self) -> u16 {
        self.head.status
    }

    /// The first value of the header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.header(name)
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; fails the test if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("an answer of {} must be JSON: {error}: {}", self.status(), self.text()))
    }
}

impl Exchange {
    /// Sends more of the request.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Waits for status and headers.
    pub async fn head(&mut self) -> Head {
        while self.head.is_none() {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                let bytes = self.buffer.split_to(end + 4);
                let head = parse_head(&bytes);
                self.rest = framing(&head);
                // An interim answer is none.
                if !(100..200).contains(&head.status) || head.status == 101 {
                    self.head = Some(head);
                }
            } else {
                assert!(self.read().await, "the connection ended before an answer: {:?}", self.buffer);
            }
        }
        self.head.clone().expect("set above")
    }

    /// Waits until the body so far contains `text`. Fails if it ends before that.
    pub async fn until(&mut self, text: &str) -> String {
        self.head().await;
        loop {
            self.decode();
            if find(&self.body, text.as_bytes()).is_some() {
                return self.so_far();
            }
            let more = self.rest != Rest::Nothing && self.read().await;
            assert!(more, "the body ended without {text:?}: {}", self.so_far());
        }
    }

    /// The body so far, without waiting.
    pub fn so_far(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Reads to the end.
    pub async fn whole(&mut self) -> Reply {
        let head = self.head().await;
        loop {
            self.decode();
            if self.rest == Rest::Nothing {
                return self.reply(head, Ending::Clean);
            }
            if !self.read().await {
                let ending = if self.rest == Rest::UntilClose { Ending::Clean } else { Ending::Broken };
                return self.reply(head, ending);
            }
        }
    }

    /// Whether the other side has closed the connection; waits until it does, or says `false` after `patience`.
    pub async fn closed_within(&mut self, patience: Duration) -> bool {
        let closed = async { while matches!(self.stream.read_buf(&mut self.buffer).await, Ok(read) if read > 0) {} };
        tokio::time::timeout(patience, closed).await.is_ok()
    }

    fn reply(&mut self, head: Head, ending: Ending) -> Reply {
        Reply { head, body: self.body.clone().freeze(), ending }
    }

    /// Reads some more; `false` at the end of the connection.
    async fn read(&mut self) -> bool {
        let known = self.buffer.len();
        let read = tokio::time::timeout(PATIENCE, self.stream.read_buf(&mut self.buffer)).await;
        let read = read.unwrap_or_else(|_| panic!("no byte for {PATIENCE:?}; so far: {}", self.so_far())).unwrap_or(0);
        let from = known.saturating_sub(CREDENTIAL_MARK.len());
        assert!(
            find(&self.buffer[from..], CREDENTIAL_MARK.as_bytes()).is_none(),
            "a vendor's credential came to the client"
        );
        read > 0
    }

    /// Takes the framing off what is there.
    fn decode(&mut self) {
        match self.rest {
            Rest::Unknown | Rest::Nothing => {}
            Rest::UntilClose => self.body.unsplit(self.buffer.split()),
            Rest::Length(length) => {
                let bytes = self.buffer.split_to(length.min(self.buffer.len()));
                let left = length - bytes.len();
                self.body.extend_from_slice(&bytes);
                self.rest = if left == 0 { Rest::Nothing } else { Rest::Length(left) };
            }
            Rest::Chunked => {
                while let Some(line) = find(&self.buffer, b"\r\n") {
                    let size = String::from_utf8_lossy(&self.buffer[..line]).into_owned();
                    let size = usize::from_str_radix(size.split(';').next().unwrap_or_default().trim(), 16)
                        .unwrap_or_else(|_| panic!("{size:?} must be the size of a chunk"));
                    if size == 0 {
                        self.rest = Rest::Nothing;
                        break;
                    }
                    if self.buffer.len() < line + 2 + size + 2 {
                        break;
                    }
                    let _ = self.buffer.split_to(line + 2);
                    let bytes = self.buffer.split_to(size);
                    let _ = self.buffer.split_to(2);
                    self.body.extend_from_slice(&bytes);
                }
            }
        }
    }
}

fn parse_head(bytes: &[u8]) -> Head {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let mut lines = text.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|status| status.parse().ok());
    let headers = lines.filter_map(|line| line.split_once(':'));
    Head {
        status: status.unwrap_or_else(|| panic!("not an HTTP answer: {text:?}")),
        headers: headers.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect(),
    }
}

fn framing(head: &Head) -> Rest {
    if head.status == 204 || head.status == 304 {
        Rest::Nothing
    } else if head.header("transfer-encoding").is_some() {
        Rest::Chunked
    } else if let Some(length) = head.header("content-length") {
        match length.parse().expect("a length is a number") {
            0 => Rest::Nothing,
            length => Rest::Length(length),
        }
    } else {
        Rest::UntilClose
    }
}

fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes.windows(needle.len()).position(|window| window == needle)
}
