//! One round: so many connections, each sending its next request when its last is answered.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use bytes::BytesMut;
use serde_json::{Value, json};
use tests::Vendor;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};

/// Where to send to, and what.
pub(crate) struct Target<'a> {
    pub(crate) address: SocketAddr,
    pub(crate) context: &'a str,
    pub(crate) key: Option<&'a str>,
    pub(crate) streamed: bool,
}

/// How much of it.
pub(crate) struct Round {
    pub(crate) connections: usize,
    pub(crate) seconds: Duration,
    pub(crate) requests: usize,
}

/// What rounds have shown.
#[derive(Default)]
pub(crate) struct Sample {
    totals: Vec<u64>,
    first_bytes: Vec<u64>,
    elapsed: Duration,
    cpu: Duration,
}

impl Target<'_> {
    fn request(&self) -> Vec<u8> {
        let body = Vendor::OpenAi.chat_body(self.streamed).to_string();
        let key = self.key.map_or(String::new(), |key| format!("X-API-Key: {key}\r\n"));
        format!(
            "POST {}/v1/chat/completions HTTP/1.1\r\nHost: {}\r\n{key}Content-Type: application/json\r\n\
             User-Agent: load/1\r\nContent-Length: {}\r\n\r\n{body}",
            self.context,
            self.address,
            body.len()
        )
        .into_bytes()
    }
}

impl Round {
    /// Runs it; `cpu` is read before and after.
    pub(crate) async fn run(
        &self,
        target: &Target<'_>,
        cpu: impl Fn() -> anyhow::Result<Duration>,
    ) -> anyhow::Result<Sample> {
        let request: Arc<[u8]> = target.request().into();
        let left = Arc::new(AtomicUsize::new(self.requests));
        let before = cpu()?;
        let start = Instant::now();
        let deadline = start + self.seconds;
        let mut connections = JoinSet::new();
        for _ in 0..self.connections {
            connections.spawn(converse(target.address, Arc::clone(&request), Arc::clone(&left), deadline));
        }
        let mut sample = Sample::default();
        while let Some(part) = connections.join_next().await {
            sample.add(part.context("a connection's task")??);
        }
        sample.elapsed = start.elapsed();
        sample.cpu = cpu()?.saturating_sub(before);
        Ok(sample)
    }
}

async fn converse(
    address: SocketAddr,
    request: Arc<[u8]>,
    left: Arc<AtomicUsize>,
    deadline: Instant,
) -> anyhow::Result<Sample> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut buffer = BytesMut::with_capacity(64 << 10);
    let mut sample = Sample::default();
    let take = |left: usize| left.checked_sub(1);
    while Instant::now() < deadline && left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
        let start = Instant::now();
        stream.write_all(&request).await?;
        let first = read_answer(&mut stream, &mut buffer, start).await?;
        sample.totals.push(start.elapsed().as_nanos() as u64);
        sample.first_bytes.push(first.as_nanos() as u64);
    }
    Ok(sample)
}

/// Reads one answer to its end and gives the time to its first byte.
async fn read_answer(stream: &mut TcpStream, buffer: &mut BytesMut, start: Instant) -> anyhow::Result<Duration> {
    buffer.clear();
    let mut first = None;
    let mut end: Option<usize> = None;
    loop {
        if stream.read_buf(buffer).await? == 0 {
            bail!("the connection was closed in mid-answer");
        }
        first.get_or_insert_with(|| start.elapsed());
        if end.is_none()
            && let Some(head) = buffer.windows(4).position(|window| window == b"\r\n\r\n")
        {
            if !buffer.starts_with(b"HTTP/1.1 200") {
                bail!("not an answer: {}", String::from_utf8_lossy(&buffer[..head]));
            }
            let text = String::from_utf8_lossy(&buffer[..head]).to_ascii_lowercase();
            let length =
                text.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next()?.parse::<usize>().ok());
            // Without a length it is chunked, and ends with the empty chunk.
            end = Some(length.map_or(0, |length| head + 4 + length));
        }
        let done = match end {
            None => false,
            Some(0) => buffer.ends_with(b"\r\n0\r\n\r\n"),
            Some(end) => buffer.len() >= end,
        };
        if done {
            return Ok(first.unwrap_or_default());
        }
    }
}

impl Sample {
    /// Lays another round on top.
    pub(crate) fn add(&mut self, other: Self) {
        self.totals.extend(other.totals);
        self.first_bytes.extend(other.first_bytes);
        self.elapsed += other.elapsed;
        self.cpu += other.cpu;
    }

    /// In microseconds.
    pub(crate) fn figures(mut self) -> Value {
        self.totals.sort_unstable();
        self.first_bytes.sort_unstable();
        let requests = self.totals.len().max(1) as f64;
        json!({
            "requests": self.totals.len(),
            "p50Us": percentile(&self.totals, 50), "p99Us": percentile(&self.totals, 99),
            "firstByteP50Us": percentile(&self.first_bytes, 50),
            "perSecond": requests / self.elapsed.as_secs_f64().max(f64::EPSILON),
            "cpuPerRequestUs": self.cpu.as_secs_f64() * 1e6 / requests,
        })
    }
}

fn percentile(sorted: &[u64], percent: usize) -> f64 {
    let index = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    sorted.get(index).map_or(0.0, |nanoseconds| *nanoseconds as f64 / 1000.0)
}
