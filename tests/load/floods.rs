//! Clients that mean no good, one kind after the other, and how long a client that comes afresh waits meanwhile: a new
//! connection, one request, its answer. Whoever floods does so on a thread of its own, but on the core of the load: what
//! is told includes what that costs the one who asks, so the figures are an upper bound.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use ::tests::raw::{
    block, frame,
    frames::{CONTINUATION, END_HEADERS, END_STREAM, HEADERS, PING, RST_STREAM, SETTINGS},
    preface,
};
use anyhow::{Context as _, anyhow, ensure};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    connection::Connection,
    feeder::configuration::{context, key},
    figures::quantile,
    results::{Metric, Results, Target},
    subject::{FEW, Ground, Kind, Subject, chat},
};

/// Between two clients that come afresh.
const PAUSE: Duration = Duration::from_millis(5);
/// Clients of a kind that floods without end.
const FLOODERS: usize = 8;
/// How long such a kind goes on.
const FLOOD: Duration = Duration::from_secs(5);
const SLOW: usize = 5_000;
const UPLOADS: usize = 500;
const UNKNOWN: u64 = 100_000;
/// What the node gives silence, a head and a body's next piece; it has a second more to close.
const FIRST_BYTE: Duration = Duration::from_secs(5);
const HEAD: Duration = Duration::from_secs(10);
const BODY: Duration = Duration::from_secs(30);
/// A flooder is never waited for longer.
const PATIENCE: Duration = Duration::from_mins(2);

const fn waits(name: &'static str) -> Metric {
    Metric::new("floods", name, "ms", Target::AtMost(200.0))
}

const LATE: Metric =
    Metric::new("floods", "5,000 slow sockets: last close behind its deadline", "ms", Target::AtMost(1_000.0));
const STALLED: Metric =
    Metric::new("floods", "500 bodies never sent: last answer behind its deadline", "ms", Target::AtMost(1_000.0));

/// What they do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flood {
    Nothing,
    Slow,
    Bodies,
    Heads,
    Resets,
    Continuations,
    Settings,
    Pings,
    UnknownKeys,
}

const ALL: [(Flood, Metric); 9] = [
    (Flood::Nothing, waits("fresh request, p99: quiet")),
    (Flood::Slow, waits("fresh request, p99: 5,000 slow sockets")),
    (Flood::Bodies, waits("fresh request, p99: 500 bodies never sent")),
    (Flood::Heads, waits("fresh request, p99: endless heads")),
    (Flood::Resets, waits("fresh request, p99: HTTP/2 rapid reset")),
    (Flood::Continuations, waits("fresh request, p99: HTTP/2 CONTINUATION")),
    (Flood::Settings, waits("fresh request, p99: HTTP/2 SETTINGS")),
    (Flood::Pings, waits("fresh request, p99: HTTP/2 PING")),
    (Flood::UnknownKeys, waits("fresh request, p99: 100,000 unknown keys")),
];

pub(crate) async fn measure(ground: &Ground, kind: Kind, results: &mut Results) -> anyhow::Result<()> {
    if kind != Kind::Lockgate {
        return Ok(());
    }
    let subject = Subject::start_as_usual(ground, FEW).await?;
    let request = subject.request(0, "/v1/chat/completions", &chat(false));
    for (flood, metric) in ALL {
        let over = Arc::new(AtomicBool::new(false));
        let (address, done) = (subject.address, Arc::clone(&over));
        let flooding = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let late = runtime.block_on(attack(flood, address));
            done.store(true, Ordering::Relaxed);
            late
        });
        let mut times = Vec::new();
        while !over.load(Ordering::Relaxed) {
            let start = Instant::now();
            let answered = timeout(PATIENCE, async { Connection::open(address).await?.exchange(&request).await });
            answered.await.context("a fresh request")?.with_context(|| format!("{flood:?}"))?;
            times.push(start.elapsed().as_secs_f64() * 1e3);
            sleep(PAUSE).await;
        }
        let late = flooding.join().map_err(|_| anyhow!("{flood:?} panicked"))?.with_context(|| format!("{flood:?}"))?;
        times.sort_unstable_by(f64::total_cmp);
        let slowest = times.last().copied().unwrap_or_default();
        eprintln!(
            "{flood:?}: {} fresh requests, p50 {:.1} ms, slowest {slowest:.1} ms",
            times.len(),
            quantile(&times, 0.5)
        );
        results.add(&metric, kind, quantile(&times, 0.99));
        match flood {
            Flood::Slow => results.add(&LATE, kind, late.as_secs_f64() * 1e3),
            Flood::Bodies => results.add(&STALLED, kind, late.as_secs_f64() * 1e3),
            _ => {}
        }
    }
    Ok(())
}

/// How far behind its deadline the last of them was ended, where there is one.
async fn attack(flood: Flood, address: SocketAddr) -> anyhow::Result<Duration> {
    match flood {
        Flood::Nothing => sleep(FLOOD).await,
        Flood::Slow => return slow(address).await,
        Flood::Bodies => return bodies(address).await,
        Flood::UnknownKeys => unknown_keys(address).await?,
        Flood::Heads | Flood::Resets | Flood::Continuations | Flood::Settings | Flood::Pings => {
            let end = Instant::now() + FLOOD;
            let ended = Arc::new(AtomicU64::new(0));
            let mut tasks = JoinSet::new();
            for _ in 0..FLOODERS {
                let ended = Arc::clone(&ended);
                tasks.spawn(async move {
                    while Instant::now() < end {
                        // Ended, it comes again.
                        let _ = timeout(end.saturating_duration_since(Instant::now()), once(flood, address)).await;
                        ended.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            tasks.join_all().await;
            let ended = ended.load(Ordering::Relaxed);
            ensure!(ended > FLOODERS as u64, "nobody minds {flood:?}");
            eprintln!("{flood:?}: {ended} connections were ended");
        }
    }
    Ok(Duration::ZERO)
}

/// Silent, one byte, a part of a preface, a head that drips.
async fn slow(address: SocketAddr) -> anyhow::Result<Duration> {
    let mut tasks = JoinSet::new();
    for number in 0..SLOW {
        let (said, deadline) = [
            ("", FIRST_BYTE),
            ("G", HEAD),
            ("PRI * HTTP/2.0", FIRST_BYTE),
            ("GET /load-0/v1 HTTP/1.1\r\nHost: gw\r\nX: ", HEAD),
        ][number % 4];
        tasks.spawn(async move {
            let mut stream = TcpStream::connect(address).await?;
            let start = Instant::now();
            stream.write_all(said.as_bytes()).await?;
            timeout(PATIENCE, stream.read_to_end(&mut Vec::new())).await.context("it is never closed")?.ok();
            anyhow::Ok(start.elapsed().saturating_sub(deadline))
        });
    }
    last(tasks).await
}

/// Announced and never sent.
async fn bodies(address: SocketAddr) -> anyhow::Result<Duration> {
    let mut tasks = JoinSet::new();
    for _ in 0..UPLOADS {
        let head = format!(
            "POST {}/v1/chat/completions HTTP/1.1\r\nHost: gw\r\nX-API-Key: {}\r\nContent-Length: 9\r\n\r\n",
            context(0, FEW),
            key(0)
        );
        tasks.spawn(async move {
            let mut stream = TcpStream::connect(address).await?;
            let start = Instant::now();
            stream.write_all(head.as_bytes()).await?;
            let mut answer = Vec::new();
            timeout(PATIENCE, stream.read_to_end(&mut answer)).await.context("it is never answered")?.ok();
            let text = String::from_utf8_lossy(&answer);
            ensure!(text.contains("body_stalled"), "not the answer to a body that never comes: {text}");
            anyhow::Ok(start.elapsed().saturating_sub(BODY))
        });
    }
    last(tasks).await
}

async fn last(mut tasks: JoinSet<anyhow::Result<Duration>>) -> anyhow::Result<Duration> {
    let mut last = Duration::ZERO;
    while let Some(late) = tasks.join_next().await {
        last = last.max(late??);
    }
    Ok(last)
}

async fn unknown_keys(address: SocketAddr) -> anyhow::Result<()> {
    let mut tasks = JoinSet::new();
    for connection in 0..FLOODERS as u64 {
        tasks.spawn(async move {
            let mut open = Connection::open(address).await?;
            for number in 0..UNKNOWN / FLOODERS as u64 {
                // Well-formed, so that each is looked for.
                let unknown = key(1_000_000 + usize::try_from(connection * UNKNOWN + number)?);
                let request =
                    format!("GET {}/v1/models HTTP/1.1\r\nHost: gw\r\nX-API-Key: {unknown}\r\n\r\n", context(0, FEW));
                open.send(request.as_bytes(), |_| {}).await?;
                open.refused().await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(())
}

/// One connection that floods until it is ended.
async fn once(flood: Flood, address: SocketAddr) -> anyhow::Result<()> {
    let stream = TcpStream::connect(address).await?;
    let (mut reading, mut writing) = stream.into_split();
    let (path, secret) = (format!("{}/v1/models", context(0, FEW)), key(0));
    let head = block(&[
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", "gw"),
        (":path", &path),
        ("x-api-key", &secret),
    ]);
    let one = |number: u32| match flood {
        Flood::Heads => b"X-Flood: yes\r\n".to_vec(),
        Flood::Resets => {
            let stream = 2 * number + 1;
            let request = frame(HEADERS, END_HEADERS | END_STREAM, stream, &head);
            [request, frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())].concat()
        }
        Flood::Continuations if number == 0 => frame(HEADERS, 0, 1, b""),
        Flood::Continuations => frame(CONTINUATION, 0, 1, b""),
        Flood::Settings => frame(SETTINGS, 0, 0, &[]),
        Flood::Pings => frame(PING, 0, 0, &[1; 8]),
        Flood::Nothing | Flood::Slow | Flood::Bodies | Flood::UnknownKeys => Vec::new(),
    };
    let begin = match flood {
        Flood::Heads => format!("GET {path} HTTP/1.1\r\nHost: gw\r\n").into_bytes(),
        _ => preface(&[]),
    };
    let write = async {
        writing.write_all(&begin).await?;
        let mut number = 0;
        loop {
            let bytes: Vec<u8> = (number..number + 50).flat_map(one).collect();
            writing.write_all(&bytes).await?;
            number += 50;
        }
        #[expect(unreachable_code, reason = "says what the block gives")]
        Ok::<(), std::io::Error>(())
    };
    let read = async {
        let mut buffer = vec![0; 64 << 10];
        while matches!(reading.read(&mut buffer).await, Ok(1..)) {}
    };
    tokio::select! {
        ended = write => ended.map_err(Into::into),
        () = read => Ok(()),
    }
}
