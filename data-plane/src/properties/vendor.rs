//! A vendor that is strict and dumb: it reads HTTP/1.1 byte by byte, without the library that wrote it, keeps what it
//! read, and plays the answer that the case has for the request.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use super::answer::Answer;

/// Of each request, by its number: for the first time it comes, the second, and so on; the last one counts on.
pub(super) type Answers = BTreeMap<usize, Vec<Answer>>;

/// A request as it arrived.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub(super) address: Option<SocketAddr>,
    pub(super) method: String,
    pub(super) target: String,
    /// Lower case, in the order they came.
    pub(super) fields: Vec<(String, Vec<u8>)>,
    pub(super) raw_head: Vec<u8>,
    pub(super) body: Vec<u8>,
    /// All of the body came.
    pub(super) complete: bool,
}

impl Seen {
    pub(super) fn values(&self, name: &str) -> Vec<&[u8]> {
        self.fields.iter().filter(|(field, _)| field == name).map(|(_, value)| value.as_slice()).collect()
    }

    /// Number of the vendor that was dialled.
    pub(super) fn vendor(&self) -> u8 {
        match self.address {
            Some(SocketAddr::V4(address)) if address.port() == 80 && address.ip().octets()[..3] == [10, 0, 0] => {
                address.ip().octets()[3]
            }
            other => panic!("no vendor's address: {other:?}"),
        }
    }

    /// The number in the path, `/t17/` say; `None`: nobody of ours asked for it.
    pub(super) fn tag(&self) -> Option<usize> {
        let (_, rest) = self.target.split_once("/t")?;
        let end = rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len());
        rest[..end].parse().ok()
    }
}

/// Everything that vendors have seen, and everything that is wrong with it.
#[derive(Clone, Default)]
pub(super) struct Journal(Arc<Mutex<(Vec<Seen>, Vec<String>)>>);

impl Journal {
    fn add(&self, seen: Seen) -> usize {
        let mut journal = self.0.lock().unwrap();
        journal.0.push(seen);
        journal.0.len() - 1
    }

    /// How often what is at `index` had come before.
    fn times(&self, index: usize) -> usize {
        let journal = self.0.lock().unwrap();
        let tag = journal.0[index].tag();
        journal.0[..index].iter().filter(|seen| seen.tag() == tag).count()
    }

    fn change(&self, index: usize, change: impl FnOnce(&mut Seen)) {
        change(&mut self.0.lock().unwrap().0[index]);
    }

    fn wrong(&self, what: impl Into<String>) {
        self.0.lock().unwrap().1.push(what.into());
    }

    /// Requests in order of arrival, and violations of the protocol.
    pub(super) fn read(&self) -> (Vec<Seen>, Vec<String>) {
        self.0.lock().unwrap().clone()
    }
}

/// The gateway has left; what was there is in the journal.
struct Gone;

struct Reader {
    stream: DuplexStream,
    buffer: Vec<u8>,
}

impl Reader {
    async fn more(&mut self) -> Result<(), Gone> {
        match self.stream.read_buf(&mut self.buffer).await {
            Ok(1..) => Ok(()),
            Ok(0) | Err(_) => Err(Gone),
        }
    }

    /// Up to the line end, without it.
    async fn line(&mut self) -> Result<Vec<u8>, Gone> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\r\n") {
                let line = self.buffer.drain(..end + 2).take(end).collect();
                return Ok(line);
            }
            self.more().await?;
        }
    }

    async fn exactly(&mut self, length: usize, mut take: impl FnMut(&[u8])) -> Result<(), Gone> {
        let mut left = length;
        while left > 0 {
            if self.buffer.is_empty() {
                self.more().await?;
            }
            let taken: Vec<u8> = self.buffer.drain(..left.min(self.buffer.len())).collect();
            left -= taken.len();
            take(&taken);
        }
        Ok(())
    }
}

/// Serves one connection until somebody ends it.
pub(super) async fn serve(stream: DuplexStream, address: SocketAddr, answers: Arc<Answers>, journal: Journal) {
    let mut reader = Reader { stream, buffer: Vec::new() };
    // A gateway that leaves between or within requests is a fact of life: the journal shows how far it came.
    while let Ok(index) = head(&mut reader, address, &journal).await {
        let seen = journal.read().0[index].clone();
        let of_it = seen.tag().and_then(|tag| answers.get(&tag));
        let Some(answer) = of_it.and_then(|of_it| of_it.get(journal.times(index)).or(of_it.last())) else {
            journal.wrong(format!("nobody asked for {}", seen.target));
            return;
        };
        if answer.early && !answer.play(&mut reader.stream, &seen.method).await {
            return;
        }
        if body(&mut reader, index, &seen, &journal).await.is_err() {
            return;
        }
        journal.change(index, |seen| seen.complete = true);
        if !answer.early && !answer.play(&mut reader.stream, &seen.method).await {
            return;
        }
    }
    let _ = reader.stream.shutdown().await;
}

async fn head(reader: &mut Reader, address: SocketAddr, journal: &Journal) -> Result<usize, Gone> {
    let mut raw_head = reader.line().await?;
    let start = String::from_utf8_lossy(&raw_head).into_owned();
    let parts: Vec<&str> = start.split(' ').collect();
    let [method, target, "HTTP/1.1"] = parts[..] else {
        journal.wrong(format!("no request line: {start:?}"));
        return Err(Gone);
    };
    let mut seen =
        Seen { address: Some(address), method: method.to_owned(), target: target.to_owned(), ..Seen::default() };
    loop {
        let line = reader.line().await?;
        raw_head.extend_from_slice(b"\r\n");
        raw_head.extend_from_slice(&line);
        if line.is_empty() {
            break;
        }
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            journal.wrong(format!("no header: {line:?}"));
            return Err(Gone);
        };
        let (name, value) = (line[..colon].to_ascii_lowercase(), line[colon + 1..].trim_ascii().to_vec());
        let token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
        let plain = |byte: &u8| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f);
        if name.is_empty() || !name.iter().all(token) || !value.iter().all(plain) {
            journal.wrong(format!("a header that is none: {line:?}"));
        }
        seen.fields.push((String::from_utf8_lossy(&name).into_owned(), value));
    }
    seen.raw_head = raw_head;
    Ok(journal.add(seen))
}

async fn body(reader: &mut Reader, index: usize, seen: &Seen, journal: &Journal) -> Result<(), Gone> {
    let take = |piece: &[u8]| journal.change(index, |seen| seen.body.extend_from_slice(piece));
    match (&seen.values("content-length")[..], &seen.values("transfer-encoding")[..]) {
        ([], []) => Ok(()),
        ([length], []) => {
            let Some(length) = std::str::from_utf8(length).ok().and_then(|length| length.parse().ok()) else {
                journal.wrong(format!("a length that is none: {length:?}"));
                return Err(Gone);
            };
            reader.exactly(length, take).await
        }
        ([], [b"chunked"]) => loop {
            let size = reader.line().await?;
            let digits = !size.is_empty() && size.len() <= 8 && size.iter().all(u8::is_ascii_hexdigit);
            let Some(size) = std::str::from_utf8(&size)
                .ok()
                .filter(|_| digits)
                .and_then(|size| usize::from_str_radix(size, 16).ok())
            else {
                journal.wrong(format!("a chunk without a size: {size:?}"));
                return Err(Gone);
            };
            reader.exactly(size, take).await?;
            if size == 0 {
                // Trailers, if any, up to an empty line.
                loop {
                    let line = reader.line().await?;
                    if line.is_empty() {
                        return Ok(());
                    }
                    let name = line.split(|byte| *byte == b':').next().unwrap_or_default().to_ascii_lowercase();
                    let forbidden: [&[u8]; 5] =
                        [b"x-api-key", b"authorization", b"content-length", b"transfer-encoding", b"host"];
                    if forbidden.contains(&&*name) {
                        journal.wrong(format!("a trailer that decides: {line:?}"));
                    }
                }
            }
            if !reader.line().await?.is_empty() {
                journal.wrong("a chunk longer than it says");
                return Err(Gone);
            }
        },
        lengths => {
            journal.wrong(format!("several lengths: {lengths:?}"));
            Err(Gone)
        }
    }
}
